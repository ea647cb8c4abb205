"""Tables as judges and spreadsheets write them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tracker.training.errors import ConfigError
from tracker.training.tables import LINE, read_header, read_table, read_toml

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


SAID_ALIKE = [
    '[optim]\nlr = 0.001\nname = "adamw"\nmean = [\n    0.5,\n    0.4,\n]\n\n[train]\nseed = 1\n',
    "[optim]\nlr = 1e999\nwhen = 2026-11-27\n",
    "[optim]\ntext = \"a = [b]\"\nother = '[c]'\n",
    "[a]\nx = 1 # why\n# y = 2\nz = [[1], [2]]\n",
    "[a]\n  x = 1\ny = 2\n",
    '[a]\ntext = """\n[b]\nx = 1\n"""\n',
    "[a.b]\nx = 1\n[a]\ny = 2\n",
    "[[a]]\nx = 1\n[[a]]\nx = 2\n",
    'x = 1\n"q" = 2\n[a]\nb.c = 3\n',
    "",
]
WRONG = ["[a]\nx = 1\nx = 1\n", "[a]\nx = 1\n[a]\ny = 1\n", "[a]\nx = [\ny = 1\n]\n", "[a]\nx = \n"]


def test_texts_that_share_statements_are_read_as_each_would_be_alone(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    for text in [*SAID_ALIKE, *SAID_ALIKE, *SAID_ALIKE]:
        path.write_text(text)
        assert read_toml(path) == tomllib.loads(text)
    for text in [*WRONG, *WRONG]:
        path.write_text(text)
        with pytest.raises(ConfigError, match="cannot be read as TOML"):
            read_toml(path)


def test_a_list_that_was_changed_is_not_in_the_next_config(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(SAID_ALIKE[0])
    for _ in range(20):
        read_toml(path)["optim"]["mean"].append(9)
    assert read_toml(path)["optim"]["mean"] == [0.5, 0.4]


def test_a_statement_that_many_configs_share_is_parsed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, parsed = tmp_path / "config.toml", []
    loads = tomllib.loads
    for number in range(100):
        path.write_text(f"[optim]\nname = 'adamw'\nlr = 0.{number}\n[train]\nseed = 5\n")
        if number == 50:
            monkeypatch.setattr(tomllib, "loads", lambda text: parsed.append(text) or loads(text))
        assert read_toml(path)["train"] == {"seed": 5}
    assert len(parsed) == 50
    assert not any("seed" in text for text in parsed)
