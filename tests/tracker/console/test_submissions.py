"""What is printed cannot steer the terminal, and what is JSON can be read by any program."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from tests.conftest import NO_MLFLOW, ROOT, run_tracker
from tests.support.workspaces import make_run
from tracker.core.terminal import print_json
from tracker.core.text import clean_text
from tracker.ledger.read import get_submission
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
