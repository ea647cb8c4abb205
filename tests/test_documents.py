"""Every JSON document and exit code, on a workspace that is made the same way each time, as in
tests/assets/documents.

A change to them is a change for the scripts of users: `WRITE_DOCUMENTS=1 pytest
tests/test_documents.py` writes the documents anew, and what differs belongs into CHANGELOG.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.testing

from tests.conftest import NO_MLFLOW
from tests.support.workspaces import IMAGES, make_run, make_workspace
from tracker.commands.table import app
from tracker.core.errors import TrackerError
from tracker.submission.scores import score
from tracker.submission.submit import submit
from tracker.workflows.ensemble import ensemble
from tracker.workflows.own_loop.begin import begin
from tracker.workspace.tracker_toml import Workspace, load_workspace

DOCUMENTS = Path(__file__).parent / "assets" / "documents"
COMMANDS = (
    "runs",
    "runs --archived --sort val/f1 --limit 2",
    "show exp1",
    "show exp3",
    "show exp5",
    "show exp9",
    "diff exp1 exp2",
    "diff exp3 exp4",
    "diff exp1 exp4",
    "tree",
    "compare",
    "compare exp1..exp3",
    "check exp2",
    "check exp1",
    "check exp4",
    "leaderboard",
    "leaderboard cv-lb",
    "sota",
    "select",
    "audit",
    "ledger verify",
    "ledger history",
    "events",
)
# What differs from day to day and from machine to machine.
VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?([+-]\d\d:\d\d|Z)?"), "TIME"),
    (re.compile(r"\d{4}-\d\d-\d\d"), "DAY"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "UID"),
)
VARYING_KEYS = ("code", "hash", "head", "pid", "host", "duration_s", "start_ticks", "boot")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Two runs of the program, two loops of one's own with probabilities, an ensemble, an archived
    run; four scores."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**NO_MLFLOW, "TRACKER_AUTHOR": "jiwon"}.items():
            patch.setenv(name, value)
        made = make_workspace(
            tmp_path_factory.mktemp("documents") / "ws",
            solution=None,
            competition={"daily_limit": 9},
        )
        patch.chdir(made.root)
        workspace = load_workspace(made.root)
        make_run(workspace, "0000011110", f1=0.8, note="첫 제출")
        make_run(workspace, "0000001111", config={"optim.lr": 0.002}, f1=0.85, weights="sha256:v")
        for number in (3, 4):
            _log_own_loop(workspace, number)
        ensemble(workspace, ["exp3", "exp4"], method="soft", note="both loops")
        make_run(
            workspace,
            "1100011110",
            config={"data.val_ratio": 0.5, "loss.name": "f1"},
            status="interrupted",
        )
        for name, memo, value in (
            ("exp1", "기준", 0.75),
            ("exp2", "lr 0.002", 0.8),
            ("exp3", "own loop", 0.7),
        ):
            row, _ = submit(workspace, name, memo)
            score(workspace, row.number, {("public", "f1"): value, ("public", "accuracy"): value})
        yield workspace


def _log_own_loop(workspace: Workspace, number: int) -> None:
    """A loop of one's own; its probabilities follow from its number, half of the answers differ."""
    with begin(
        {"optim": {"lr": number / 100}}, note=f"loop {number}", root=workspace.root, follow=False
    ) as run:
        for epoch in (1, 2):
            run.log(
                {"train/loss": 1 / epoch, "val/loss": number / 4 / epoch}, step=epoch, epoch=epoch
            )
        right = np.array([(place * number) % 7 / 7 for place in range(IMAGES)])
        known = np.stack([right, 1 - right], axis=1)
        run.save_validation(
            [f"v{place}.png" for place in range(IMAGES)], [0, 1] * (IMAGES // 2), known
        )
        run.save_probabilities([f"i{place}.png" for place in range(IMAGES)], known[::-1])


def normalize(value: Any, root: str) -> Any:
    """A document without what differs from day to day; numbers to nine digits."""
    if isinstance(value, dict):
        return {
            normalize(key, root): "..." if key in VARYING_KEYS and item else normalize(item, root)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [normalize(item, root) for item in value]
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, str):
        value = value.replace(root, "ROOT")
        for pattern, word in VARYING:
            value = pattern.sub(word, value)
    return value


@pytest.mark.parametrize("words", COMMANDS)
def test_the_document_and_exit_code_of_a_command_are_as_before(
    words: str, workspace: Workspace
) -> None:
    done = typer.testing.CliRunner().invoke(app, [*words.split(), "--json"])
    error = done.exception  # main, which is not called here, makes the exit code of it
    code = error.exit_code if isinstance(error, TrackerError) else done.exit_code
    found = {
        "exit": code,
        "document": normalize(json.loads(done.stdout or "null"), str(workspace.root)),
    }
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    path = DOCUMENTS / f"{re.sub(r'[^a-z0-9]+', '-', words)}.json"
    if os.environ.get("WRITE_DOCUMENTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_the_earlier_name_of_cv_lb_gives_the_same_document_and_says_so(
    workspace: Workspace,
) -> None:
    runner = typer.testing.CliRunner()
    now = runner.invoke(app, ["leaderboard", "cv-lb", "--json"])
    before = runner.invoke(app, ["leaderboard", "truth", "--json"])
    assert (before.stdout, before.exit_code) == (now.stdout, now.exit_code)
    assert "leaderboard truth is now called leaderboard cv-lb" in before.stderr
    assert not now.stderr
    page = runner.invoke(app, ["leaderboard", "--help"]).stdout
    assert "cv-lb" in page and "truth" not in page
