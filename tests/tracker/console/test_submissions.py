"""What is printed cannot steer the terminal, and what is JSON can be read by any program."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from tests.conftest import NO_MLFLOW, ROOT, run_tracker
from tests.support.workspaces import make_run, make_workspace
from tracker.console.submissions import print_leaderboard
from tracker.core.list_marks import Marks
from tracker.core.terminal import print_json
from tracker.core.text import clean_text
from tracker.ledger.read import get_submission, list_submissions
from tracker.submission.notes import add_note
from tracker.submission.scores import score
from tracker.submission.submit import submit
from tracker.training.numbers import render_count
from tracker.workspace.tracker_toml import Workspace

EVIL = "\x1b]0;owned\x07 \x9b31m red \u202egpj.exe\u202c \rover"
ARABIC = "\u0645\u0631\u062d\u0628\u0627 memo"
VIEWS = (
    ("leaderboard",),
    ("sota",),
    ("audit",),
    ("ledger", "history"),
    ("tree",),
    ("runs",),
    ("show", "exp1"),
    ("check", "exp1"),
    ("diff", "exp1", "exp2", "--full"),
    ("diff", "exp1", "exp2", "--md"),
    ("compare",),
    ("compare", "--md"),
    ("compare", "--csv"),
)


def test_steering_characters_are_shown_and_ordinary_text_stays() -> None:
    assert clean_text(EVIL) == r"\x1b]0;owned\x07 \x9b31m red \u202egpj.exe\u202c \rover"
    assert clean_text(f"two\nlines, {ARABIC}") == f"two\nlines, {ARABIC}"
    assert clean_text("not UTF-8: \udcff") == r"not UTF-8: \udcff"


def test_no_view_passes_on_what_steers_a_terminal(workspace: Workspace, tmp_path: Path) -> None:
    make_run(workspace, "0000011110", note=EVIL)
    submit(workspace, "exp1", f"{EVIL} {ARABIC}")
    make_run(workspace, "0001111100", note=EVIL, f1=0.6, config={"optim.lr": 0.5})
    run_tracker("note", "1", EVIL, cwd=workspace.root, **NO_MLFLOW)
    texts = {
        " ".join(words): run_tracker(*words, cwd=workspace.root, ok=False).stdout for words in VIEWS
    }
    html, markdown = tmp_path / "r.html", tmp_path / "r.md"
    run_tracker("report", "--html", html, "--md", markdown, cwd=workspace.root, **NO_MLFLOW)
    texts |= {
        "html": html.read_text(encoding="utf-8"),
        "markdown": markdown.read_text(encoding="utf-8"),
    }
    for name, text in texts.items():
        assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & set(text), name
        assert name == "check exp1" or "1b]0;owned" in text.replace("\\", ""), (
            name
        )  # its answer is a number
    assert ARABIC in texts["leaderboard"]
    assert get_submission(workspace, 1).memo == f"{EVIL} {ARABIC}"
    assert (
        json.loads(run_tracker("sota", "--json", cwd=workspace.root).stdout)["memo"]
        == f"{EVIL} {ARABIC}"
    )


def test_numbers_that_json_does_not_know_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [math.nan, 1.5, (-math.inf, True)], "b": None})
    assert json.loads(capsys.readouterr().out) == {"a": [None, 1.5, [None, True]], "b": None}


def test_one_thing_is_singular() -> None:
    assert [render_count(count, "run") for count in (0, 1, 2, 1200)] == [
        "0 runs",
        "1 run",
        "2 runs",
        "1,200 runs",
    ]
    assert render_count(2, "class", "classes") == "2 classes"


def test_no_sentence_leaves_the_plural_to_its_reader() -> None:
    paths = [path for folder in ("tracker", "training") for path in (ROOT / folder).rglob("*.py")]
    words = re.compile(r"[} ](\w+)\(s\)")
    calls = {"len", "str", "set", "list", "dict", "print", "in"}
    found = [
        (path.name, word)
        for path in paths
        for word in words.findall(path.read_text())
        if word not in calls
    ]
    assert found == []


def test_a_change_stays_in_80_columns_where_what_was_noted_last_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = make_workspace(tmp_path / "ws", solution=None)
    make_run(workspace, "0000011110", weights="sha256:1")
    make_run(workspace, "0000011111", config={"model.name": "resnet34"}, weights="sha256:2")
    submit(workspace, "exp1", "a memo that is a good deal longer than its column")
    score(workspace, 1, {("public", "f1"): 0.5})
    submit(workspace, "exp2", "another memo that is a good deal longer than its column")
    add_note(workspace, "exp2", "noted at midnight")
    add_note(workspace, "exp1", "noted at midnight")
    monkeypatch.setenv("COLUMNS", "80")
    rows = list_submissions(workspace)
    print_leaderboard(rows, workspace.competition, {1: {"f1": 0.5}}, marks=Marks(), ranks={1: 1})
    out = capsys.readouterr().out
    assert "to 1: model.name" in out and "noted at" not in out
    # nobody has a private score: there is nothing to hide
    assert "private" not in out and "noted last" in out.partition("hidden at this width")[2]
    # where marks take its room, the change leaves and not the memo
    marks = Marks(then=[2], ancestors=["2"], duplicates={2: 10})
    print_leaderboard(rows, workspace.competition, {1: {"f1": 0.5}}, marks=marks, ranks={1: 1})
    assert "another memo that is" in capsys.readouterr().out


def test_after_score_the_scores_that_were_typed_stay_in_80_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = make_workspace(tmp_path / "ws", solution=None)
    make_run(workspace, "0000011110", weights="sha256:1")
    submit(workspace, "exp1", "a memo that is a good deal longer than its column")
    score(workspace, 1, {("public", "f1"): 0.5, ("public", "accuracy"): 0.625})
    score(workspace, 1, {("private", "f1"): 0.75, ("private", "accuracy"): 0.875})
    monkeypatch.setenv("COLUMNS", "80")
    rows = list_submissions(workspace)
    validation = {1: {"f1": 0.5, "accuracy": 0.5}}
    print_leaderboard(rows, workspace.competition, validation, marks=Marks())
    table = capsys.readouterr().out.partition("hidden")[0]
    assert all(figure in table for figure in ("0.5000", "0.6250", "0.7500"))
    assert "a memo" in table


def test_private_scores_have_columns_once_there_are_some(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    submit(workspace, make_run(workspace, "0000011110").name, "m")
    for private, said in ((None, False), (0.5, True)):
        rows = list_submissions(workspace)
        if private is not None:
            rows = [row._replace(scores={**row.scores, "private_f1": private}) for row in rows]
        print_leaderboard(rows, workspace.competition, {}, marks=Marks())
        out = capsys.readouterr().out
        assert ("private" in out) is said, out
