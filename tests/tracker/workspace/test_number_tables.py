"""Tables of numbers: the fast reader, the ranks, and what a large table leaves in the ledger."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from tracker.core.errors import RefusedError
from tracker.training.errors import DataError
from tracker.workspace import number_tables
from tracker.workspace.number_tables import Numbers, correlate_ranks, parse_large
from tracker.workspace.predictions import Answers, load_answers
from tracker.workspace.tracker_toml import Competition

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
