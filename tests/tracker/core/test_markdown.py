"""One text, every Markdown view: what people wrote is shown as it was typed. markdown-it, which
rich brings, is the judge.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.conftest import NO_MLFLOW, run_tracker
from tests.support.workspaces import make_run
from tracker.core.markdown import escape
from tracker.submission.notes import add_note
from tracker.submission.submit import submit
from tracker.workspace.tracker_toml import Workspace

MARKS = r"*bold* __too__ [l](http://evil.example) ![i](x.png) `c` <b>h</b> ~~gone~~ a|b &lt; \* end"
VIEWS = {
    "compare": ("compare", "exp1", "exp2", "--md"),
    "diff": ("diff", "exp1", "exp2", "--md"),
    "report": ("report", "--md", "out.md"),
    "export": ("ledger", "export", "out.md"),
}


def parse(text: str) -> Iterator[Token]:
    """The pieces of inline Markdown in a document."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    return (token for token in parser.parse(text) if token.type == "inline")


def read_text(token: Token) -> str:
    """What a reader sees of it."""
    return "".join(child.content for child in token.children or ())


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_shows_a_memo_as_it_was_typed(workspace: Workspace, view: str) -> None:
    make_run(workspace, "0000011110", note=MARKS)
    make_run(workspace, "1000011110")
    submit(workspace, "exp1", MARKS)
    add_note(workspace, "exp1", MARKS)
    printed = run_tracker(*VIEWS[view], cwd=workspace.root, **NO_MLFLOW).stdout
    path = workspace.root / "out.md"
    text = path.read_text(encoding="utf-8") if path.exists() else printed
    shown = [token for token in parse(text) if MARKS in read_text(token)]
    assert shown
    kinds = {child.type for token in shown for child in token.children or ()}
    assert kinds <= {"text", "text_special", "strong_open", "strong_close"}  # **SOTA** is ours


@given(st.text(alphabet="ab1_ *`[]()<>|\\~#+-=.!&;\t", max_size=12))
def test_what_is_escaped_reads_as_it_was_typed(text: str) -> None:
    line = " ".join(text.split()) or "-"
    cell = escape(text)
    assert [read_text(token) for token in parse(f"| {cell} | x |\n| --- | --- |\n")] == [line, "x"]
    if line != "-":  # what stands for nothing is alone in a cell only
        assert [read_text(token) for token in parse(f"- {cell}\n")] == [line]


def test_words_that_are_no_markdown_stay_readable() -> None:
    for text in ("train.batch_size 32 -> 64", "0.7650 (95 %)", "-0.5", "1.5 of 3", "-", "a > b"):
        assert escape(text) == text


def test_the_escape_of_every_view_is_one() -> None:
    root = Path(__file__).resolve().parents[3] / "tracker"
    owners = [
        path.name
        for path in root.rglob("*.py")
        if "def escape" in path.read_text() or "def _escape" in path.read_text()
    ]
    assert owners == ["markdown.py"]
