"""Tables as judges and spreadsheets write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracker.training.tables import LINE, read_header, read_table

ROWS = [("007", "1e5"), ("a b", "x,y")]


@pytest.mark.parametrize(
    "text",
    [
        'id,label\n007,1e5\na b,"x,y"\n',
        '\ufeffid,label\r\n007,1e5\r\na b,"x,y"\r\n',
        "id;label\n007;1e5\na b;x,y\n",
        "id\tlabel\n007\t1e5\na b\tx,y\n",
        '"id";"label"\n"007";"1e5"\n"a b";"x,y"\n',
        '"id, as text";id;label\n1;007;1e5\n2;a b;x,y\n',
    ],
)
def test_commas_semicolons_tabs_and_marks_of_windows_read_alike(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode())
    assert read_table(path, ("id", "label")) == ROWS
    assert read_header(path)[-2:] == ["id", "label"]


def test_a_semicolon_beside_commas_is_a_part_of_its_cell(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("id,why;when\n1,a;b\n")
    assert read_table(path, (LINE, "id", "why;when")) == [("2", "1", "a;b")]
