"""Tables in terminals of 80 to 200 columns: identifiers and numbers whole, a line a row, no
character ever lost."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.conftest import run_in_terminal, run_tracker
from tests.support.workspaces import make_run, make_workspace
from tracker.comparison.compare import Comparison, Row, Spread
from tracker.console.compare import print_comparison
from tracker.console.runs import print_runs
from tracker.console.submissions import print_leaderboard
from tracker.core.list_marks import MEANINGS, Marks
from tracker.core.table import CUT, Column, Styled, cut, draw_table, measure, split_clusters, wrap
from tracker.core.terminal import print_table, print_text
from tracker.core.text import render_number, render_value, render_values
from tracker.ledger.records import Note, Submission
from tracker.run_folder.record import RunRecord
from tracker.submission.notes import add_note
from tracker.submission.submit import submit
from tracker.workspace.tracker_toml import DEFAULT_METRICS, Competition, Workspace

WIDTHS = (80, 100, 120, 200)
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
PIECES = [
    *("작은", "모델로", "학습률을", "각", "한글", "값이"),  # the last: letters of blocks
    *("日本語", "の", "メモ", "ｶﾅ"),
    *(
        FAMILY,
        "\U0001f44d\U0001f3fd",
        "\u2764\ufe0f",
        "\U0001f1f0\U0001f1f7",
        "1\ufe0f\u20e3",
        "\U0001f600",
    ),
    *(
        "e\u0301",
        "n\u0303\u0324",
        "lr",
        "0.5",
        "baseline",
        " ",
        "  ",
        "x" * 30,
        "[red]",
        "\u0645\u0631",
    ),
]
MEMOS = st.lists(st.sampled_from(PIECES), min_size=1, max_size=80).map("".join).filter(str.strip)
MEMOS = MEMOS.map(lambda text: text.strip()[:200]).map(
    lambda text: text if len(text) >= 5 else text + "memo!"
)
NAMES = st.sampled_from(["exp1", "exp12", "exp1234", "exp98765"])
SCORES = st.floats(0.0001, 1.0)
COMPETITION = Competition(name="c", classes=("a", "b"), metrics=DEFAULT_METRICS)


def capture(show: Callable[[], None], width: int | None) -> str:
    """What a view prints where COLUMNS asks for `width`, or into a pipe."""
    text = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(text):
        if width is None:
            patch.delenv("COLUMNS", raising=False)
        else:
            patch.setenv("COLUMNS", str(width))
        show()
    return text.getvalue()


def split_table(out: str) -> tuple[str, list[str], list[str]]:
    """The line of titles, the rows, and the titles that were left out."""
    lines = out.splitlines()
    rule = next(place for place, line in enumerate(lines) if set(line) == {"-", " "})
    rows = []
    for line in lines[rule + 1 :]:
        if not line or line.startswith(
            ("hidden at", f"{CUT} cut", *(f"{mark} " for mark in MEANINGS))
        ):
            break
        rows.append(line)
    hidden = re.search(r"hidden at this width: (.*); --wide shows all", " ".join(out.split()))
    return lines[rule - 1], rows, hidden[1].split(", ") if hidden else []


def check_view(
    show: Callable[[bool], None],
    width: int,
    cells: dict[str, Sequence[str]],
    memos: dict[str, Sequence[str]],
) -> None:
    """A view in a terminal, with --wide and in a pipe; `cells` are identifiers and numbers, `memos`
    texts, by title."""
    out = capture(lambda: show(False), width)
    titles, rows, hidden = split_table(out)
    assert all(max(cell_len(line), measure(line)) <= width for line in out.splitlines())
    assert len(rows) == len(next(iter(cells.values())))
    for title, column in {**cells, **memos}.items():
        assert (title in titles) != (title in hidden), title
        for row, cell in zip(rows, column, strict=True):
            if title in cells and title not in hidden:
                assert re.search(rf"(^|\s){re.escape(cell)}(\s|$)", row), (title, cell)
            if title in memos and title not in hidden:
                check_memo(row, cell)
    assert next(iter(cells)) in titles
    piped = capture(lambda: show(False), None)
    for whole in (capture(lambda: show(True), width), piped):
        titles, rows, hidden = split_table(whole)
        assert not hidden
        for column in (*cells.values(), *memos.values()):
            assert all(cell in row for row, cell in zip(rows, column, strict=True))


def check_memo(row: str, memo: str) -> None:
    """A memo stands in the row whole, or up to the end of one of its characters."""
    if memo in row:
        return
    clusters = list(split_clusters(memo))
    beginnings = ("".join(clusters[:count]).rstrip() + CUT for count in range(1, len(clusters)))
    assert any(beginning in row for beginning in beginnings), (row, memo)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(WIDTHS), st.integers(1, 5))
def test_runs_show_every_identifier_and_number_in_a_line_each(
    data: st.DataObject, width: int, count: int
) -> None:
    names = [f"exp{data.draw(st.integers(1, 99999))}" for _ in range(count)]
    scores, losses = data.draw(st.lists(SCORES, min_size=count, max_size=count)), [1 / 3] * count
    memos = data.draw(st.lists(MEMOS, min_size=count, max_size=count))
    records = [
        RunRecord(
            name=name,
            uid=f"u{place}",
            status="finished",
            note=memo,
            parent="exp1",
            created_at="2026-01-02T03:04",
        )
        for place, (name, memo) in enumerate(zip(names, memos, strict=True))
    ]
    figures = zip(scores, losses, strict=True)
    records = [
        replace(record, summary={"val/f1": f1, "val/accuracy": f1, "val/loss": loss})
        for record, (f1, loss) in zip(records, figures, strict=True)
    ]
    submitted = {record.uid: place + 1 for place, record in enumerate(records)}
    noted = {
        "u0": [Note(submission=1, run_uid="u0", kind="note", text=memos[0], author="a", time="t")]
    }
    marks = Marks(now=1, then=[2], ancestors=names[2:3], duplicates={4: 3})

    def show(wide: bool) -> None:
        print_runs(records, submitted, noted, COMPETITION, marks=marks, wide=wide)

    cells = {
        "run": names,
        "status": ["finished"] * count,
        "val/f1": [render_number(score) for score in scores],
        "val/accuracy": [render_number(score) for score in scores],
        "val/loss": ["0.3333"] * count,
        "submission": [str(place + 1) for place in range(count)],
        "parent": ["exp1"] * count,
    }
    check_view(show, width, cells, {"note": memos, "noted last": [memos[0], *["-"] * (count - 1)]})


def make_submission(number: int, run: str, memo: str, score: float) -> Submission:
    """A submission as the ledger has it."""
    empty = dict.fromkeys(
        name for name in Submission._fields if name not in ("scores", "notes", "not_known")
    )
    scores = {
        f"{split}_{name}": score for split in ("public", "private") for name in ("f1", "accuracy")
    }
    known = {
        **empty,
        "number": number,
        "run": run,
        "run_name": run,
        "memo": memo,
        "config": {},
        "scores": scores,
        "sota": 1,
    }
    return Submission(**{**known, "config_diff": {"optim.lr": [0.1, 0.0012520653814999472]}})  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(WIDTHS), st.integers(1, 5))
def test_the_leaderboard_shows_every_identifier_and_number(
    data: st.DataObject, width: int, count: int
) -> None:
    runs = data.draw(st.lists(NAMES, min_size=count, max_size=count))
    scores = data.draw(st.lists(SCORES, min_size=count, max_size=count))
    memos = data.draw(st.lists(MEMOS, min_size=count, max_size=count))
    rows = [
        make_submission(100 + place, *row)
        for place, row in enumerate(zip(runs, memos, scores, strict=True))
    ]
    validation = {row.number: {"f1": 0.5, "accuracy": 0.25} for row in rows}
    ranks = {row.number: place + 7 for place, row in enumerate(rows)}

    def show(wide: bool) -> None:
        print_leaderboard(
            rows,
            COMPETITION,
            validation,
            marks=Marks(now=100, then=[101], duplicates={102: 101}),
            ranks=ranks,
            wide=wide,
        )

    cells = {
        "number": [str(row.number) for row in rows],
        "rank": [str(ranks[row.number]) for row in rows],
        "run": runs,
        "public f1": [render_number(score) for score in scores],
        "private accuracy": [render_number(score) for score in scores],
        "val f1": ["0.5000"] * count,
        "val accuracy": ["0.2500"] * count,
    }
    check_view(show, width, cells, {"memo": memos})


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(WIDTHS), st.integers(9, 11))
def test_compare_keeps_the_deciding_figures_then_config_keys(
    data: st.DataObject, width: int, count: int
) -> None:
    memos = data.draw(st.lists(MEMOS, min_size=count, max_size=count))
    keys = {
        "model.name": "swin_base_patch4_window7_224",
        "optim.lr": 0.0012520653814999472,
        "train.epochs": 12,
    }
    keys |= {f"augment.key{number}": number for number in range(4)}
    names = ("public_f1", "val/f1", "val/accuracy", "val/loss")
    rows = [
        Row(
            runs=[f"exp{place}"],
            config=keys,
            metrics={name: Spread(mean=0.5 + place / 100, sd=0.0123, n=3) for name in names},
            submissions=[],
            note=memo,
            notes=[],
        )
        for place, memo in enumerate(memos)
    ]
    found = Comparison(
        rows=rows,
        keys=list(keys),
        metrics=names,
        best={"val/f1": count - 1},
        equal_keys=0,
        runs=count,
        considered=count,
        skipped=[],
        incomparable=(),
        not_known=(),
    )

    def show(wide: bool) -> None:
        print_comparison(found, COMPETITION, wide=wide)

    figures = [f"{0.5 + place / 100:.4f} \u00b1 0.012 (3)" for place in range(count)]
    cells = {
        "run": [f"exp{place}" for place in range(count)],
        "val/f1": figures,
        "val/accuracy": figures,
    }
    cells["model"] = ["swin_base_patch4_window7_224"] * count
    check_view(show, width, cells, {"note": memos})
    _, _, hidden = split_table(capture(lambda: show(False), width))
    if "public_f1" in hidden:
        assert "val/f1" in hidden
    if set(hidden) & {"model", "lr", "epochs", "key0"}:
        assert {"val/accuracy", "val/loss"} <= set(hidden)


# --- The parts ---


@settings(max_examples=200, deadline=None)
@given(MEMOS, st.integers(1, 60))
def test_cutting_keeps_whole_characters_within_the_width(memo: str, width: int) -> None:
    shown = cut(memo, width)
    assert measure(shown) <= width
    if shown != memo:
        clusters = list(split_clusters(memo))
        assert shown.removesuffix(CUT) in {
            "".join(clusters[:count]).rstrip() for count in range(len(clusters))
        }


@settings(max_examples=200, deadline=None)
@given(MEMOS, st.integers(10, 120))
def test_wrapping_breaks_between_words_and_loses_none(memo: str, width: int) -> None:
    lines = wrap(memo, width)
    assert [word for line in lines for word in line.split()] == memo.split()
    assert all(measure(line) <= width or len(line.split()) == 1 for line in lines)


def test_characters_of_several_letters_are_one() -> None:
    whole = [
        "\uac12",
        "e\u0301",
        FAMILY,
        "\U0001f1f0\U0001f1f7",
        "\U0001f1ef\U0001f1f5",
        "\U0001f44d\U0001f3fd",
    ]
    whole += ["\u1100\u1161\u11a8", "1\ufe0f\u20e3"]
    assert list(split_clusters("".join(whole))) == whole
    assert cut(f"ab{FAMILY}cd", 8) == f"ab{CUT}"


def test_names_and_numbers_of_a_table_without_columns_are_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    print_table(
        ("key", "value"), [("name", "swin_base_patch4_w7"), ("note", "a note " * 9), ("lr", "0.5")]
    )
    out = capsys.readouterr().out
    assert "swin_base_patch4_w7" in out
    assert max(map(len, out.splitlines())) <= 40
    assert "a pipe shows all" in out


def test_columns_leave_in_their_order_and_empty_ones_before() -> None:
    columns = [
        Column("run"),
        Column("kind", leaves=3),
        Column("note", leaves=1, text=True),
        Column("old", leaves=2),
    ]
    rows = [["exp1", "train", "n" * 50, "-"], ["exp2", "train", "short", "-"]]
    assert draw_table(columns, rows, width=70)[0].split() == ["run", "kind", "note", "old"]
    assert draw_table(columns, rows, width=37)[0].split() == ["run", "kind", "note"]
    assert draw_table(columns, rows, width=30)[0].split() == ["run", "note"]
    # what no row has a value in is not hidden from anybody
    below = draw_table(columns, rows, width=30)[4:]
    assert " ".join(below).split()[4:6] == ["kind;", "--wide"]
    assert draw_table(columns, rows, width=12)[2:4] == ["exp1", "exp2"]


def test_a_column_returns_where_hiding_a_wider_one_left_room() -> None:
    columns = [Column("run"), Column("model", leaves=2)]
    columns += [Column(name, leaves=3 + place) for place, name in enumerate(("lr", "epochs"))]
    rows = [["exp1", "m" * 30, "0.1", "12"]]
    assert draw_table(columns, rows, width=20)[0].split() == ["run"]
    columns[2:] = [column._replace(returns=True) for column in columns[2:]]
    assert draw_table(columns, rows, width=20)[0].split() == ["run", "lr", "epochs"]
    assert draw_table(columns, rows, width=15)[0].split() == ["run", "lr"]
    # never at the cost of a text that was kept
    columns.append(Column("note", leaves=1, text=True))
    rows[0].append("n" * 40)
    assert draw_table(columns, rows, width=30)[0].split() == ["run", "note"]


def test_numbers_among_texts_are_never_cut() -> None:
    columns = [Column("key"), Column("a", text=True), Column("b", text=True)]
    rows = [
        ["lr", Styled("0.001252 of long", whole=True), "x" * 60],
        ["note", "y" * 60, Styled("12345678901", whole=True)],
    ]
    lines = draw_table(columns, rows, width=40)
    assert "0.001252 of long" in lines[2]
    assert "12345678901" in lines[3]
    assert all(measure(line) <= 40 for line in lines)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0012520653814999472, "0.001252"),
        (0.78125, "0.7813"),
        (1.0, "1.0000"),
        (0.0, "0.0000"),
        (1.23456, "1.235"),
        (123.456, "123.5"),
        (1234567.0, "1.235e+06"),
        (0.0000123456, "1.235e-05"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (7, "7"),
        (None, "-"),
    ],
)
def test_numbers_have_four_significant_digits(value: float | None, text: str) -> None:
    assert render_number(value) == text


def test_config_values_have_four_digits_but_where_they_would_look_the_same() -> None:
    assert render_value(0.0012520653814999472) == "0.001252"
    assert render_value([0.48512345, 1e-5, 224.0]) == "[0.4851, 1e-05, 224.0]"
    assert render_value(123456.7) == "123457.0"
    assert render_value(True) == "true"
    assert render_values([0.00125206, 0.00125211]) == ["0.00125206", "0.00125211"]
    assert render_values([0.00125206, 0.5, None]) == ["0.001252", "0.5", "-"]


# --- The command in a terminal ---

MEMO = (
    "작은 모델로 시작한다, 그리고 더 큰 모델로 확인한다 " + FAMILY + " 日本語のメモ 끝까지 남는다"
)


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = make_workspace(tmp_path_factory.mktemp("team") / "ws")
    make_run(workspace, "1000011110", note=MEMO)
    for place, answers in enumerate(
        ("0000011111", "0000111110", "0000011110", "1111100000", "0000011110")
    ):
        make_run(
            workspace,
            answers,
            note=f"{MEMO} {place}",
            config={"optim.lr": 0.0012520653814999472 + place},
        )
    make_run(workspace, "", status="failed")
    for number in range(1, 5):
        submit(workspace, f"exp{number}", MEMO, even_if_similar=True)
    add_note(workspace, "1", MEMO)
    return workspace


VIEWS = {
    "runs": ["exp1 *", "exp2 **", "failed", "0.5000"],
    "runs --sort optim.lr --limit 2": ["exp1 *", "exp7"],
    "leaderboard": ["1 *", "2 **", "1.0000", "SOTA when"],
    "compare": ["exp2 **", "1.0000 +"],
    "compare exp1 exp4": ["exp1 *", "exp4", "2.001"],
    "tree": ["exp1 *", "exp2 **"],
    "show exp1": ["0.5000"],
    "diff exp1 exp4": ["0.001 ", "2.001"],
    "ledger history": ["exp1"],
    "run options": ["model.name = ", "\n  Share of the training data held out for validation.\n"],
    "sota": ["2 **"],
    "audit": ["4 submissions"],
}


@pytest.mark.parametrize("words", VIEWS)
def test_a_terminal_of_80_columns_shows_a_view_without_a_folded_row(
    team: Workspace, words: str
) -> None:
    shown = run_in_terminal(*words.split(), cwd=team.root, width=80)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert all(measure(line) <= 80 for line in plain.splitlines())
    assert all(text in plain for text in VIEWS[words]), plain
    assert "\x1b[1m" in shown or words == "audit"


def test_wide_shows_every_column_and_character_in_a_terminal(team: Workspace) -> None:
    for words in ("runs", "leaderboard", "compare", "tree"):
        shown = run_in_terminal(*words.split(), "--wide", cwd=team.root, width=80)
        assert MEMO in shown
        assert "hidden at" not in shown
    shown = run_in_terminal("diff", "exp1", "exp4", "--full", "--wide", cwd=team.root, width=80)
    assert "0.001" in shown


@pytest.mark.parametrize("width", [40, 50, 60, 70, 80])
def test_diff_shows_both_sides_of_a_table_or_neither(team: Workspace, width: int) -> None:
    done = run_tracker("diff", "exp1", "exp4", "--full", cwd=team.root, COLUMNS=str(width))
    assert max(map(measure, done.stdout.splitlines())) <= width
    lines = done.stdout.splitlines()
    titles = [
        lines[place - 1] for place, line in enumerate(lines) if line and set(line) == {"-", " "}
    ]
    assert len(titles) >= 2
    assert all(("exp1" in title) == ("exp4" in title) for title in titles), titles


def test_columns_of_a_group_leave_together() -> None:
    sides = [Column(name, leaves=1, right=True, group="sides") for name in ("a", "b")]
    columns = [Column("name"), *sides, Column("delta", right=True)]
    rows = [["x" * 10, "1" * 6, "2" * 6, "3" * 6]]
    for width in range(18, 40):
        title = draw_table(columns, rows, width=width)[0].split()
        assert title == (["name", "a", "b", "delta"] if width >= 34 else ["name", "delta"]), width


def test_a_pipe_gets_everything_without_color(team: Workspace) -> None:
    shown = run_tracker("runs", cwd=team.root).stdout
    assert shown.count(MEMO) == 7  # six notes, and what was noted last
    assert "\x1b" not in shown
    assert "hidden" not in shown
    narrow = run_tracker("runs", cwd=team.root, COLUMNS="80").stdout
    assert max(map(measure, narrow.splitlines())) <= 80
    assert "hidden at this width: kind, val/accuracy" in narrow


def test_an_error_is_red_and_wrapped_in_a_terminal_and_one_line_in_a_pipe(team: Workspace) -> None:
    words = (
        "runs",
        "--where",
        "val/f1 > 0.5 and nothing_of_this_name = 5 and model.name ~ a_long_regular_expression",
    )
    shown = run_in_terminal(*words, cwd=team.root, width=40)
    assert shown.startswith("\x1b[31merror: \x1b[0m--where, character 18:")
    done = run_tracker(*words, cwd=team.root, ok=False, COLUMNS="40")
    assert (
        done.stderr.splitlines()[0]
        == "error: --where, character 18: no run has 'nothing_of_this_name'"
    )


def test_no_color_is_obeyed_in_a_terminal(team: Workspace) -> None:
    assert "\x1b[" in run_in_terminal("runs", cwd=team.root, width=80)
    assert "\x1b" not in run_in_terminal("runs", cwd=team.root, width=80, NO_COLOR="1")
    assert "\x1b" not in run_in_terminal("runs", cwd=team.root, width=80, TERM="dumb")


def test_an_output_without_unicode_gets_plain_signs(workspace: Workspace) -> None:
    make_run(workspace)
    make_run(workspace, note="x " * 60, config={"optim.lr": 0.5})
    path = workspace.runs_dir / "exp2" / "run.json"
    path.write_text(path.read_text().replace('"parent": null', '"parent": "exp1"'))
    shown = run_tracker("tree", cwd=workspace.root, PYTHONIOENCODING="ascii", COLUMNS="80").stdout
    assert "` exp2" in shown
    assert "x x~" in shown


def test_long_lines_break_between_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    print_text("  no statistics: exp1 and exp2 kept no validation predictions (validation.npz)")
    assert capsys.readouterr().out.splitlines() == [
        "  no statistics: exp1 and exp2 kept no",
        "    validation predictions",
        "    (validation.npz)",
    ]
    command = "next: tracker run train --set data.exclude=broken.csv"
    print_text(command)
    assert capsys.readouterr().out == f"{command}\n"


def test_an_empty_column_is_hidden_before_a_text_is_cut() -> None:
    columns = [Column("number"), Column("private f1", leaves=6), Column("memo", text=True)]
    memo = "a memo of thirty-one characters"
    rows = [("1", "-", memo), ("2", "-", "short")]
    lines = draw_table(columns, rows, width=45)
    assert any(memo in line for line in lines)
    assert "private f1" not in lines[0]
    scored = draw_table(columns, [("1", "0.7", memo)], width=45)
    assert "private f1" in scored[0]


def test_a_column_that_is_empty_in_nearly_all_rows_leaves_before_fuller_ones() -> None:
    columns = [Column("run"), Column("created", leaves=7), Column("tags", leaves=5, text=True)]
    rows = [[f"exp{number}", "2026-11-26", "-"] for number in range(9)]
    rows[3][2] = "best-idea"
    assert draw_table(columns, rows, width=18)[0] == "run   created"
    for number in range(5):
        rows[number][2] = "best-idea"
    assert "tags" in draw_table(columns, rows, width=18)[0]


def test_what_a_shorter_text_leaves_free_is_for_the_next_text() -> None:
    columns = [Column("run"), Column("change", text=True), Column("note", text=True)]
    row = ["exp1", Styled("c" * 60, shorter=("c" * 12,)), "n" * 70]
    line = draw_table(columns, [row], width=60)[2]
    assert line == f"exp1  {'c' * 12}  {'n' * 38}\u2026"  # two columns are kept for the ellipsis
    both = [*row[:2], "n" * 20]  # what the note does not need goes back to the change
    assert draw_table(columns, [both], width=200)[2].count("c") == 60


def test_minor_columns_leave_before_texts_with_a_least_width_are_cut_short() -> None:
    columns = [
        Column("run"),
        Column("minor", leaves=12),
        Column("memo", leaves=1, text=True, least=13),
    ]
    rows = [["exp1", "0.5000", "m" * 40]]
    assert draw_table(columns, rows, width=44)[0].split() == ["run", "memo"]
    assert draw_table(columns, rows, width=60)[0].split() == ["run", "minor", "memo"]
