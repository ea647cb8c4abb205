"""A training that waits for its copies compares what `diff` and `check` would compute."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from threadpoolctl import threadpool_limits

from tests.support.validation import guess, keep
from tests.support.workspaces import make_run, set_parent
from tracker.comparison import evidence, likely_pairs
from tracker.comparison.compared_pairs import FOLDER
from tracker.comparison.diff import diff_runs
from tracker.comparison.likely_pairs import compare_likely_pairs
from tracker.mirror.mirror import Mirror
from tracker.run_folder.read import load_run
from tracker.submission.submit import submit
from tracker.workspace.tracker_toml import Workspace


@pytest.fixture
def runs(workspace: Workspace) -> Workspace:
    """exp1 to exp4 with validation predictions; exp4 was made from exp2."""
    for number, errors in enumerate((60, 40, 50, 20), start=1):
        make_run(workspace, "0000011110"[number:] + "01010"[:number])
        keep(workspace, f"exp{number}", guess(errors))
    set_parent(workspace, "exp4", "exp2")
    return workspace


def compare_newest(workspace: Workspace) -> list[str]:
    return list(compare_likely_pairs(workspace, load_run(workspace.runs_dir, "exp4")))


def diff(workspace: Workspace, a: str, b: str) -> dict[str, Any]:
    """What `diff --json` prints."""
    document: dict[str, Any] = json.loads(json.dumps(diff_runs(workspace, a, b).to_dict()))
    return document


def refuse(*_: object) -> None:
    raise AssertionError("computed again")


def test_diff_reads_the_figures_that_it_would_have_computed(
    runs: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with threadpool_limits(1, user_api="blas"):  # as `diff`: its last digits depend on it
        computed = [diff(runs, name, "exp4") for name in ("exp2", "exp3")]
    for path in (runs.state_dir / FOLDER).iterdir():
        path.unlink()
    assert compare_newest(runs) == ["exp2", "exp3"]
    monkeypatch.setattr(evidence, "_compare_predictions", refuse)
    assert [diff(runs, name, "exp4") for name in ("exp2", "exp3")] == computed


def test_sota_is_compared_first(runs: Workspace) -> None:
    submit(runs, "exp1", memo="one")
    assert compare_newest(runs) == ["exp1", "exp2", "exp3"]
    assert (runs.state_dir / FOLDER / "exp1_exp4.json").is_file()


def test_what_cannot_be_compared_quickly_is_left_to_the_command(
    runs: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    (runs.runs_dir / "exp2" / "validation.npz").write_bytes(b"torn")
    (runs.runs_dir / "exp3" / "validation.npz").unlink()
    compare_newest(runs)
    monkeypatch.setattr(likely_pairs, "LARGEST_MB", 0)
    assert compare_newest(runs) == []
    assert not (runs.state_dir / FOLDER).exists()


def test_the_wait_for_a_copy_does_other_work_until_the_copy_has_ended(
    workspace: Workspace,
) -> None:
    make_run(workspace)
    mirror = Mirror(workspace, "exp1")
    (workspace.runs_dir / "exp1" / "mirror.json").write_text('{"connected": true}')
    copying = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mirror._process = copying
    done = []

    def work() -> Iterator[str]:
        for step in ("one", "two", "three"):
            if step == "two":
                copying.communicate(b"end\n")
            done.append(step)
            yield step

    assert mirror.wait(work()) == ""
    assert done == ["one", "two"]
