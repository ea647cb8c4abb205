"""tracker clean frees what nothing needs, after it was shown, and audit tells a freed file from a
lost one."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import run_tracker, tracker_command
from tests.support.workspaces import begin_run, make_run
from tracker.commands.archive import _describe_plan
from tracker.comparison.audit import audit
from tracker.core.errors import TrackerError
from tracker.mirror.copy import sync_run
from tracker.mirror.targets.mlflow_server import connect
from tracker.run_folder.marks import archive_runs, tag_run
from tracker.run_folder.read import list_runs, load_run
from tracker.submission.submit import submit
from tracker.training.errors import ConfigError
from tracker.training.input.cache import hold_caches, open_cache
from tracker.training.predict.probabilities import Predictions, save_probabilities
from tracker.workflows.clean import BEST, CACHE, COPY, LAST, free_files, list_protected, plan_clean
from tracker.workflows.ensemble import ensemble
from tracker.workflows.infer import load_recorded_weights
from tracker.workspace.tracker_toml import Workspace


def make_trained(workspace: Workspace, answers: str, status: str = "finished") -> Path:
    """The folder of a run with best.pth, last.pth and predictions."""
    folder = workspace.runs_dir / make_run(workspace, answers, status=status).name
    (folder / LAST).write_bytes(b"l" * 1000)
    return folder


def make_follower(
    workspace: Workspace, kind: str, parent: str, members: tuple[str, ...] = ()
) -> str:
    """A finished run that has the weights of others."""
    config = {"ensemble": {"members": list(members), "method": "soft"}} if members else {}
    recorder = begin_run(workspace, kind=kind, config=config, parent=parent)
    return recorder.finish("finished").name


def list_planned(workspace: Workspace, *, checkpoints: bool = False) -> list[tuple[str, str]]:
    return [(item.what, item.run) for item in plan_clean(workspace, checkpoints=checkpoints).files]


def make_cache(workspace: Workspace, name: str, *, age: int) -> Path:
    path = workspace.state_dir / f"pixels-{name}.u8"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x" * 8192)
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_the_end_of_finished_runs_is_freed_and_nothing_of_others(workspace: Workspace) -> None:
    done, stopped = (
        make_trained(workspace, "0000011110"),
        make_trained(workspace, "0000011100", "interrupted"),
    )
    recorder = begin_run(workspace)
    (recorder.folder / LAST).write_bytes(b"l")
    (recorder.folder / BEST).write_bytes(b"b")
    plan = plan_clean(workspace)
    assert list_planned(workspace) == [(LAST, "exp1")]
    assert plan.size == 1000
    assert len(free_files(workspace, plan)) == 1
    assert not (done / LAST).exists()
    assert {path.name for path in done.iterdir()} >= {
        BEST,
        "predictions.csv",
        "metrics.jsonl",
        "run.json",
    }
    assert (stopped / LAST).exists()
    assert (recorder.folder / LAST).exists()
    assert list(load_run(workspace.runs_dir, "exp1").freed) == [LAST]
    assert list_planned(workspace, checkpoints=True) == [(BEST, "exp1")]
    recorder.finish("finished")


def test_caches_that_are_in_use_and_the_one_used_last_stay(workspace: Workspace) -> None:
    old, busy, last = (
        make_cache(workspace, name, age=age) for name, age in (("a", 3), ("b", 2), ("c", 1))
    )
    with busy.open("rb") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        plan = plan_clean(workspace)
        assert [(item.what, item.path) for item in plan.files] == [(CACHE, old)]
        assert plan.size >= 8192
        assert "2 x pixel cache stay: in use by a run, or used last" in [*_describe_plan(plan)]
        free_files(workspace, plan)
    assert [path.exists() for path in (old, busy, last)] == [False, True, True]


def test_all_caches_stay_while_a_run_is_still_reading_its_images(workspace: Workspace) -> None:
    files = [make_cache(workspace, name, age=age) for name, age in (("a", 2), ("b", 1))]
    shown = plan_clean(workspace)
    assert [item.path for item in shown.files] == files[:1]
    with hold_caches(workspace.state_dir) as release:
        assert [*plan_clean(workspace).files] == free_files(workspace, shown) == []
        release()
        assert [item.path for item in plan_clean(workspace).files] == files[:1]
    assert [item.path for item in free_files(workspace, shown)] == files[:1]


def test_a_cache_that_was_removed_while_it_was_being_opened_is_made_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, lock = {"a.png": "0" * 64}, fcntl.flock

    def remove_before(file: int, how: int) -> None:
        monkeypatch.setattr("fcntl.flock", lock)
        (removed,) = workspace.state_dir.glob("pixels-*.u8")
        removed.unlink()
        lock(file, how)

    workspace.state_dir.mkdir(exist_ok=True)
    monkeypatch.setattr("fcntl.flock", remove_before)
    cache, note = open_cache(workspace.state_dir, "key", (8, 8, 3), images)
    assert (cache is not None, note) == (True, "")
    assert len([*workspace.state_dir.glob("pixels-*.u8")]) == 1


def test_a_cache_that_a_training_opens_after_it_was_shown_stays(
    workspace: Workspace, tmp_path: Path
) -> None:
    cache, _ = open_cache(workspace.state_dir, "key", (8, 8, 3), {tmp_path / "a.png": "0" * 64})
    (path,) = workspace.state_dir.glob("pixels-*.u8")
    os.utime(path, (1, 1))
    make_cache(workspace, "newer", age=0)
    assert plan_clean(workspace).files == []
    del cache
    plan = plan_clean(workspace)
    assert len(plan.files) == 1
    cache, _ = open_cache(workspace.state_dir, "key", (8, 8, 3), {tmp_path / "a.png": "0" * 64})
    assert free_files(workspace, plan) == []
    assert path.exists()
    del cache


def test_a_checkpoint_stays_where_a_submission_a_tag_or_an_ensemble_keeps_it(
    workspace: Workspace,
) -> None:
    for place in range(8):
        make_trained(workspace, "1" * place + "0" * (10 - place))
    submit(workspace, "exp1", memo="sent")
    tag_run(workspace, "exp2", ["keep"])
    make_follower(workspace, "ensemble", "exp3", ("exp3", "exp4"))
    archive_runs(workspace, ["exp9", "exp8"])
    tag_run(workspace, make_follower(workspace, "infer", "exp5"), ["final"])
    make_follower(workspace, "infer", "exp6")
    kept = list_protected(workspace, list_runs(workspace.runs_dir))
    assert kept["exp1"] == "submission 1"
    assert kept["exp2"] == "tag keep"
    assert (kept["exp3"], kept["exp4"]) == ("needed by exp9", "needed by exp9")
    assert kept["exp5"] == "needed by exp10"
    free_files(workspace, plan_clean(workspace, checkpoints=True), checkpoints=True)
    stay = [
        number for number in range(1, 9) if (workspace.runs_dir / f"exp{number}" / BEST).exists()
    ]
    assert stay == [1, 2, 3, 4, 5]
    assert all(
        (workspace.runs_dir / f"exp{number}" / "predictions.csv").exists() for number in range(1, 9)
    )


def test_a_tag_given_while_clean_asks_keeps_the_checkpoint(workspace: Workspace) -> None:
    folder = make_trained(workspace, "0000011110")
    plan = plan_clean(workspace, checkpoints=True)
    tag_run(workspace, "exp1", ["keep"])
    assert [item.what for item in free_files(workspace, plan, checkpoints=True)] == [LAST]
    assert (folder / BEST).exists()
    assert list(load_run(workspace.runs_dir, "exp1").freed) == [LAST]


def test_no_checkpoint_is_freed_while_a_run_cannot_be_read(workspace: Workspace) -> None:
    make_trained(workspace, "0000011110")
    (make_trained(workspace, "0000011100") / "run.json").write_text("{")
    with pytest.raises(TrackerError, match="cannot read exp2"):
        plan_clean(workspace, checkpoints=True)
    assert list_planned(workspace) == [(LAST, "exp1")]


def test_nothing_is_freed_without_a_ledger(workspace: Workspace) -> None:
    make_trained(workspace, "0000011110")
    (workspace.root / "ledger.db").unlink()
    with pytest.raises(TrackerError):
        plan_clean(workspace, checkpoints=True)


def test_mlflows_copy_goes_with_the_checkpoint_where_it_is_one(
    workspace: Workspace, mlflow_db: Path
) -> None:
    shutil.copy(mlflow_db, workspace.root / "mlflow.db")
    for answers in ("0000011110", "0000011100"):
        make_trained(workspace, answers)
    sync_run(workspace, "exp1")
    sync_run(workspace, "exp2")
    copies = sorted((workspace.root / "mlartifacts").rglob(BEST))
    assert len(copies) == 2
    (workspace.runs_dir / "exp2" / BEST).write_bytes(b"other")
    assert list_planned(workspace, checkpoints=True).count((COPY, "exp1")) == 1
    assert (COPY, "exp2") not in list_planned(workspace, checkpoints=True)
    free_files(workspace, plan_clean(workspace, checkpoints=True), checkpoints=True)
    assert len(list((workspace.root / "mlartifacts").rglob(BEST))) == 1
    sync_run(workspace, "exp1")
    run_id = json.loads((workspace.runs_dir / "exp1" / "mlflow.json").read_text())["run_id"]
    assert "predictions.csv" in {file.path for file in connect(workspace).list_artifacts(run_id)}


def test_audit_tells_what_was_freed_from_what_has_gone_and_what_never_was(
    workspace: Workspace,
) -> None:
    make_trained(workspace, "0000011110")
    lost = make_trained(workspace, "0000011100")
    own = begin_run(workspace)
    own.finish("finished")  # neither weights nor predictions
    free_files(workspace, plan_clean(workspace, checkpoints=True), checkpoints=True)
    (lost / BEST).write_bytes(b"back from a backup")
    (lost / "predictions.csv").unlink()
    found = audit(workspace)
    assert [item["file"] for item in found.missing] == ["runs/exp2/predictions.csv"]
    assert [(item["file"], item["freed_at"][:2]) for item in found.freed] == [
        ("runs/exp1/best.pth", "20")
    ]
    day = load_run(workspace.runs_dir, "exp1").freed[BEST][:10]
    said = run_tracker("audit", cwd=workspace.root).stdout
    assert f"freed by tracker clean on {day}: runs/exp1/best.pth (exp1)" in said
    run_tracker(
        "report", "--md", "r.md", cwd=workspace.root, TRACKER_MLFLOW_URI="http://127.0.0.1:9"
    )
    report = (workspace.root / "r.md").read_text()
    assert "Files freed by tracker clean" in report
    with pytest.raises(ConfigError, match=f"freed by tracker clean on {day}") as caught:
        load_recorded_weights(workspace, load_run(workspace.runs_dir, "exp1"))
    assert "tracker run reproduce exp1" in caught.value.hint


def test_clean_shows_and_frees_nothing_without_a_yes(workspace: Workspace) -> None:
    folder = make_trained(workspace, "0000011110")
    own = begin_run(workspace, config={"hf": {"layers": 2}}, fingerprints={"data": None})
    (own.folder / LAST).write_bytes(b"l" * 1000)
    own.finish("finished")
    done = run_tracker("clean", "--checkpoints", cwd=workspace.root, ok=False)
    assert "1 x last.pth of exp2 (saved by a script of your own; tracker needs it" in done.stdout
    (own.folder / LAST).unlink()
    assert (done.returncode, "no terminal to ask on" in done.stderr) == (2, True)
    assert (
        "1 x last.pth of exp1 (delete it unless you will train the same run for longer: "
        in done.stdout
    )
    assert (folder / LAST).exists()
    said, code = answer(workspace, "n\n")
    assert ("nothing was freed" in said, code, (folder / LAST).exists()) == (True, 1, True)
    said, code = answer(workspace, "y\n")
    assert ("freed 0.0 MB (1 file)" in said, code, (folder / LAST).exists()) == (True, 0, False)
    assert "nothing to free" in run_tracker("clean", "--yes", cwd=workspace.root).stdout
    assert "(1 file)" in run_tracker("clean", "--yes", "--checkpoints", cwd=workspace.root).stdout


def answer(workspace: Workspace, text: str) -> tuple[str, int]:
    """What `tracker clean` prints, and its exit code, when `text` is typed on a terminal."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, text.encode())
        done = subprocess.run(
            tracker_command("clean"),
            cwd=workspace.root,
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    return done.stdout, done.returncode


def test_an_ensemble_made_by_the_command_keeps_its_members(workspace: Workspace) -> None:
    for answers in ("0000011110", "0000011100"):
        folder = make_trained(workspace, answers)
        ids = tuple(f"i{number}.png" for number in range(10))
        scores = np.full((10, 2), 0.5, dtype=np.float32)
        save_probabilities(
            folder / "probabilities.npz", Predictions(ids, scores, classes=("cat", "dog"))
        )
    ensemble(workspace, ["exp1", "exp2"], method="soft")
    kept: Any = plan_clean(workspace, checkpoints=True).protected
    assert kept == {"exp1": "needed by exp3", "exp2": "needed by exp3"}


def test_the_best_run_by_validation_is_marked_among_the_checkpoints_to_free(
    workspace: Workspace,
) -> None:
    for f1 in (0.5, 0.8, 0.6):
        make_run(workspace, f1=f1)
    make_run(workspace, f1=0.9, status="failed")
    plan = plan_clean(workspace, checkpoints=True)
    assert (plan.best, plan.best_score) == ("exp2", "val/f1 0.8000")
    done = run_tracker("clean", "--checkpoints", cwd=workspace.root, ok=False)
    text = " ".join(done.stdout.split())
    assert "best.pth of exp3, exp2 (best of all: val/f1 0.8000), exp1" in text
    assert plan_clean(workspace).best == ""
