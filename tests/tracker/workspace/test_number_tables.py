"""Tables of numbers: the fast reader, the ranks, and what a large table leaves in the ledger."""

from __future__ import annotations

import hashlib
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import spearmanr

from tracker.core.errors import DuplicateError, RefusedError
from tracker.ledger.chain import verify_ledger
from tracker.ledger.read import list_packed_answers, load_sent_answers
from tracker.ledger.submission_table import export_table, import_table, read_submission_table
from tracker.setup.init import init_workspace
from tracker.submission.examine import check
from tracker.submission.scores import reveal
from tracker.submission.submit import submit
from tracker.training.errors import DataError
from tracker.workflows.own_loop.begin import begin
from tracker.workspace import number_tables, predictions
from tracker.workspace.number_tables import Numbers, correlate_ranks, parse_large
from tracker.workspace.predictions import Answers, Sketch, load_answers, unpack
from tracker.workspace.tracker_toml import Competition, Workspace

COLUMNS = ("b", "a")
COMPETITION = Competition(answer="columns", answer_columns=COLUMNS, id_column="id")


def read_slowly(path: Path, content: bytes) -> Answers:
    """By Python's csv and float, as a small file is read."""
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(number_tables, "LARGE_FILE", 1 << 40)
        return load_answers(path, COMPETITION)


def assert_same(path: Path, content: bytes) -> bool:
    """The fast reader finds what the slow one does, or leaves the file to it."""
    fast = parse_large(content, "id", sorted(COLUMNS))
    if fast is None:
        return False
    try:
        slow = read_slowly(path, content)
    except RefusedError as error:
        assert "listed twice" in str(error)
        return True
    assert list(slow.ids) == fast.ids
    assert isinstance(slow.answers, Numbers)
    assert slow.answers.table.tobytes() == fast.table.tobytes()  # the sign of 0 and every bit
    assert slow.fingerprint == Answers(fast.ids, Numbers(fast.table)).fingerprint
    return True


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
FORMS = st.sampled_from(["{!r}", " {:.17e}", "{:.6f}", "{:g} ", "{:.25g}", "{:.400f}"])
NUMBERS = st.builds(lambda value, form: form.format(value), FLOATS, FORMS)
# long decimals near the middle between two floats are where readers round in different ways
MIDDLES = st.builds(
    lambda bits, more: f"{(1 << 53) + 2 * bits + 1}{'0' * more}.{'0' * more}1",
    st.integers(0, 1 << 40),
    st.integers(0, 30),
)
ODD_TEXTS = """
+1|nan|NA|inf|1e999|1e-999|-0|-0.0
|.5|5.|1_0|0x1p3|1,5|\u0663|\u00a01|true|1e|1E+05|1d5|1 2|--1||"0.5"|"1|1\r
"""
ODD = st.sampled_from(ODD_TEXTS.replace("\n", "").split("|"))
CELLS = st.one_of(NUMBERS, MIDDLES, ODD)
IDS = st.text(st.sampled_from('ab\u00e9\u3042 ",\r\n\t07\ufeff\x1c'), max_size=4)


@settings(max_examples=300, deadline=None)
@given(
    rows=st.lists(st.tuples(IDS, CELLS, CELLS, IDS), min_size=1, max_size=4),
    header=st.sampled_from(["id,b,a,x", " id ,b,a,x", '"id","b","a","x"', "a,id,b,b", "id,a,b,b"]),
    end=st.sampled_from(["\n", "\r\n", "\n\n", "\r", " \n"]),
    start=st.sampled_from(["", "\ufeff", "\n"]),
)
@example(rows=[("\ufeff", "1", "1", "")], header="id,b,a,x", end="\n", start="")
@example(rows=[("\u00e9", "0.1", "1e-5", "")], header="id,b,a,x", end="\n", start="")
def test_the_fast_reader_finds_what_the_slow_one_does(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, ...]],
    header: str,
    end: str,
    start: str,
) -> None:
    content = (start + end.join([header, *map(",".join, rows)]) + end).encode()
    assert_same(tmp_path_factory.getbasetemp() / "one.csv", content)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(NUMBERS | MIDDLES, NUMBERS | MIDDLES), min_size=1, max_size=5))
def test_a_file_of_plain_numbers_is_read_fast(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    lines = [f"i{index},{','.join(cells)}" for index, cells in enumerate(rows)]
    content = "\n".join(["id,a,b", *lines]).encode()
    assert assert_same(tmp_path_factory.getbasetemp() / "plain.csv", content)


@pytest.mark.parametrize(
    "form",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("id,a,b", '"id","a","b"'),
        lambda text: text.rstrip("\n"),
        lambda text: "\n".join(
            f"{line},{'xyz'[n % 3]}" for n, line in enumerate(text.splitlines())
        ),
    ],
    ids=["crlf", "bom", "quoted header", "no last newline", "another column"],
)
def test_the_usual_forms_of_a_file_are_read_fast(tmp_path: Path, form: object) -> None:
    text = "id,a,b\n" + "".join(f"\u00e9{n},{n / 7!r},{n}\n" for n in range(50))
    assert callable(form)
    assert assert_same(tmp_path / "p.csv", form(text).encode())


def test_without_pyarrow_the_slow_reader_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"id,a,b\ni1,1,2\n"
    assert parse_large(content, "id", ["a", "b"]) is not None
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert parse_large(content, "id", ["a", "b"]) is None


def test_bytes_that_are_no_utf8_are_left_to_the_reader_that_says_so(tmp_path: Path) -> None:
    content = b"id,a,b,x\ni1,1,2,\xff\n"
    assert parse_large(content, "id", ["a", "b"]) is None
    with pytest.raises(DataError, match="cannot read"):
        read_slowly(tmp_path / "p.csv", content)


def test_the_fingerprint_of_numbers_can_be_derived_by_anyone(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("b,id,a\n-0.0,i2,1e0\n+0.250,i1,-3\n")
    # columns by name, rows by id
    expected = b"numbers 2 x 2\ni1\ni2\n" + struct.pack("<4d", -3, 1, 0.25, 0)
    found = load_answers(tmp_path / "p.csv", COMPETITION).fingerprint
    assert found == "sha256:" + hashlib.sha256(expected).hexdigest()


def test_a_large_file_has_the_fingerprint_of_its_rows_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"i{n:03},{n / 7!r},{n / 11:.6f}" for n in range(300)]
    (tmp_path / "a.csv").write_text("\n".join(["id,a,b", *rows]))
    small = load_answers(tmp_path / "a.csv", COMPETITION)
    monkeypatch.setattr(number_tables, "LARGE_FILE", 1)
    rows = rows[150:] + rows[:150][::-1]
    swapped = [",".join([row.split(",")[i] for i in (2, 0, 1)]) for row in rows]
    (tmp_path / "b.csv").write_text("\n".join(["b,id,a", *swapped]))
    large = load_answers(tmp_path / "b.csv", COMPETITION)
    assert large.file_hash  # it was read fast
    assert not small.file_hash
    assert large.fingerprint == small.fingerprint


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 9), st.floats(0, 1), st.floats(0, 1)),
        min_size=3,
        max_size=40,
    )
)
def test_rank_correlation_is_scipys_of_the_worst_column(rows: list[tuple[float, ...]]) -> None:
    table = np.array(rows, dtype=float)
    old, new = table[:, :2], table[:, 2:]
    expected = []
    for index in range(2):
        if len(set(old[:, index])) > 1 and len(set(new[:, index])) > 1:
            expected.append(spearmanr(old[:, index], new[:, index]).statistic)
    found = correlate_ranks(old, new)
    assert found == (pytest.approx(min(expected), abs=1e-12) if expected else None)


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace in which 400 rows of two columns are a large table."""
    monkeypatch.setattr(predictions, "EXACT_NUMBERS", 100)
    monkeypatch.setattr(predictions, "SKETCH_ROWS", 50)
    rows = "".join(f"{name},{n % 2},{n % 3}\n" for n, name in enumerate(NAMES))
    (tmp_path / "solution.csv").write_text("id,b,a\n" + rows)
    return init_workspace(
        tmp_path / "ws",
        data={},
        competition={"id_column": "id", "answer": "columns", "target": "number"}
        | {"answer_columns": COLUMNS},
        metrics=["rmse"],
        leaderboard_options={"solution": tmp_path / "solution.csv"},
    )


NAMES = [f"i{n:03}" for n in range(400)]
TABLE = np.random.default_rng(0).random((400, 2))


def predict(workspace: Workspace, table: NDArray[np.float64]) -> str:
    with begin({"model": "mine"}, root=workspace.root, follow=False) as run:
        run.save_predictions(dict(zip(NAMES, table.tolist(), strict=True)))
    return run.name


def test_a_large_table_leaves_a_sketch_and_is_refused_again(large: Workspace) -> None:
    row = submit(large, predict(large, TABLE), "first")[0]
    known = unpack(list_packed_answers(large)[0][2])
    assert isinstance(known, Sketch)
    assert (len(known.sample.ids), known.images) == (50, 400)
    assert known.fingerprint == row.predictions_fingerprint
    again = predict(large, TABLE)
    with pytest.raises(DuplicateError):
        submit(large, again, "again")
    close = predict(large, TABLE * 0.9999999)
    with pytest.raises(RefusedError, match="no number differs from submission 1") as caught:
        submit(large, close, "close")
    assert "sample" not in str(caught.value)  # its file is here
    other = predict(large, TABLE[::-1])
    assert submit(large, other, "other")[0].number == 2
    assert verify_ledger(large.ledger_url).problem == ""


def test_without_the_file_the_sketch_decides_and_says_so(large: Workspace) -> None:
    row = submit(large, predict(large, TABLE), "first")[0]
    close, other = predict(large, TABLE * 0.9999999), predict(large, TABLE[::-1])
    assert check(large, other).nearest[0]["sampled"] == 0  # by the file
    assert row.file is not None
    (large.root / row.file).unlink()
    (large.runs_dir / str(row.run) / "predictions.csv").unlink()
    assert check(large, other).nearest[0]["sampled"] == 50
    with pytest.raises(RefusedError, match="in a sample of 50 rows: its file is not here"):
        submit(large, close, "close")
    with pytest.raises(DataError, match=r"a sketch of its 400 rows, and .* is not here"):
        load_sent_answers(large, 1)


def test_what_a_sample_cannot_see_the_file_does(large: Workspace) -> None:
    submit(large, predict(large, TABLE), "first")
    known = unpack(list_packed_answers(large)[0][2])
    assert isinstance(known, Sketch)
    moved = TABLE.copy()
    unseen = [row for row, name in enumerate(NAMES) if name not in known.sample.ids]
    moved[unseen[:40]] = TABLE[unseen[:40]][::-1]  # mean, least and greatest stay
    assert submit(large, predict(large, moved), "forty rows changed")[0].number == 2


def test_a_sketch_goes_through_export_and_import_and_is_revealed(
    large: Workspace, tmp_path: Path
) -> None:
    submit(large, predict(large, TABLE), "first")
    assert export_table(large, tmp_path / "all.csv").count == 1
    other = init_workspace(tmp_path / "other", data={}, competition={}, metrics=["rmse"])
    table = read_submission_table(tmp_path / "all.csv", other.competition)
    assert import_table(other, table) == 1
    assert list_packed_answers(other)[0][2] == list_packed_answers(large)[0][2]
    assert reveal(large)[0].number == 1
