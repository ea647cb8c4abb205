"""The canonical fingerprint and the checks of a prediction table."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.core.errors import RefusedError
from tracker.training.errors import DataError
from tracker.workspace.answer_kinds import normalize_answer
from tracker.workspace.predictions import (
    Answers,
    check_answers,
    diff_answers,
    load_answers,
    unpack_answers,
)
from tracker.workspace.tracker_toml import Competition

COMPETITION = Competition(name="c", classes=("a", "b", "c"))
PLAIN = "ImageID,ans\nx.jpg,0\ny.jpg,1\nz.jpg,2\n"


def fingerprint(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "p.csv"
    path.write_bytes(content)
    return load_answers(path, COMPETITION).fingerprint


@pytest.mark.parametrize(
    "text",
    [
        "ImageID,ans\nz.jpg,2\nx.jpg,0\ny.jpg,1\n",
        "ans,ImageID\n0,x.jpg\n1,y.jpg\n2,z.jpg\n",
        PLAIN.replace("\n", "\r\n"),
        "\ufeff" + PLAIN,
        '"ImageID","ans"\n"x.jpg","0"\n"y.jpg","1"\n"z.jpg","2"\n',
        "ImageID,ans,extra\nx.jpg,0,9\ny.jpg,1,9\nz.jpg,2,9\n",
        "ImageID, ans \nx.jpg, 0\ny.jpg,01\nz.jpg,2.0\n",
        PLAIN.rstrip("\n"),
    ],
    ids=["rows", "columns", "crlf", "bom", "quotes", "extra", "blanks", "no-last-newline"],
)
def test_the_form_of_the_file_does_not_change_the_fingerprint(tmp_path: Path, text: str) -> None:
    assert fingerprint(tmp_path, text.encode()) == fingerprint(tmp_path, PLAIN.encode())


def test_one_changed_label_changes_the_fingerprint(tmp_path: Path) -> None:
    assert fingerprint(tmp_path, PLAIN.replace("y.jpg,1", "y.jpg,2").encode()) != fingerprint(
        tmp_path, PLAIN.encode()
    )


def test_the_fingerprint_can_be_derived_by_anyone() -> None:
    expected = hashlib.sha256(b"x.jpg,0\ny.jpg,1\nz.jpg,2\n").hexdigest()
    assert (
        Answers.of({"z.jpg": "2", "x.jpg": "0", "y.jpg": "1"}).fingerprint == f"sha256:{expected}"
    )


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=5), max_size=12))
def test_packed_answers_come_back_whole(by_id: dict[str, str]) -> None:
    answers = Answers.of(
        {
            k: v
            for k, v in by_id.items()
            if "\x00" not in k + v and k.isprintable() and v.isprintable()
        }
    )
    assert dict(unpack_answers(answers.pack()).by_id) == dict(answers.by_id)


@given(st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=6))
def test_different_tables_never_share_canonical_bytes(by_id: dict[str, str]) -> None:
    answers = Answers.of(by_id)
    moved = Answers.of({k + ",": v for k, v in by_id.items()})
    assert not by_id or answers.canonical != moved.canonical


def test_an_id_listed_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"1 id \(x\.jpg in lines 2 and 5\) listed twice"):
        fingerprint(tmp_path, (PLAIN + "x.jpg,1\n").encode())


@pytest.mark.parametrize(
    ("by_id", "words"),
    [
        ({"x": "0"}, "1 image (y) without a prediction"),
        ({"x": "0", "y": "1", "q": "1"}, "1 id (q) not in the competition"),
        ({"x": "0", "y": ""}, "1 answer (y='') unknown"),
        ({"x": "0", "y": "3"}, "1 answer (y='3') unknown: expected one of 0, 1"),
        ({}, "no rows"),
    ],
)
def test_a_table_that_is_not_exactly_the_competitions_is_refused(
    by_id: dict[str, str], words: str
) -> None:
    with pytest.raises(RefusedError) as caught:
        check_answers(Answers.of(by_id), COMPETITION, ["x", "y"])
    assert words in str(caught.value)
    assert caught.value.exit_code == 3


def test_names_of_classes_where_numbers_are_wanted_are_told_their_numbers() -> None:
    competition = replace(COMPETITION, classes=("with_mask", "without_mask"), answers="index")
    with pytest.raises(RefusedError, match="expected one of 0, 1") as caught:
        check_answers(Answers.of({"x": "with_mask"}), competition, ["x"])
    assert caught.value.hint == "write the number of the class: 0 is with_mask, 1 is without_mask"


def test_an_answer_of_thousands_of_digits_is_an_unknown_one(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("ImageID,ans\nx,0\ny," + "1" * 5000 + "\n")
    with pytest.raises(RefusedError, match=r"1 answer \(y='1{50}' in line 3\) unknown"):
        check_answers(load_answers(tmp_path / "p.csv", COMPETITION), COMPETITION, ["x", "y"])


def test_many_offenders_are_counted_and_a_few_named() -> None:
    with pytest.raises(RefusedError, match="and 95 more"):
        check_answers(Answers.of({"x": "0"}), COMPETITION, [f"i{n}" for n in range(100)])


def test_a_missing_file_or_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_answers(tmp_path / "none.csv", COMPETITION)
    with pytest.raises(DataError, match="has no column ans"):
        fingerprint(tmp_path, b"ImageID,label\nx,1\n")
    with pytest.raises(DataError, match="has two columns ans"):
        fingerprint(tmp_path, b"ImageID,ans,ans\nx,1,0\n")


@pytest.mark.parametrize(
    ("text", "normal"),
    [(" 07 ", "7"), ("7.0", "7"), ("-1", "-1"), ("7.5", "7.5"), ("a ", "a"), ("\u0661", "\u0661")],
)
def test_answers_are_kept_in_their_shortest_form(text: str, normal: str) -> None:
    assert normalize_answer(text) == normal


def test_diff_counts_the_moves() -> None:
    diff = diff_answers(
        Answers.of({"x": "0", "y": "1", "z": "1"}),
        Answers.of({"x": "0", "y": "2", "z": "2", "q": "1"}),
        COMPETITION,
    )
    assert (diff.total, diff.changed, diff.moves) == (3, 2, {("1", "2"): 2})
    assert diff.equal_share == pytest.approx(1 / 3)
