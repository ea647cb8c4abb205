"""Every list of the ledger's columns follows from ledger.db.sql."""

from __future__ import annotations

import re
import typing
from pathlib import Path

import pytest

from tracker.ledger.append import METADATA
from tracker.ledger.columns import SCHEMA_FILE, load_steps, load_tables
from tracker.ledger.connection import SCHEMA_VERSION
from tracker.ledger.historical import INTEGER_COLUMNS, NUMBER_COLUMNS, TEXT_COLUMNS
from tracker.ledger.migrations import STEPS
from tracker.ledger.records import Note, Submission

TYPES = {"INTEGER": int, "TEXT": str, "DOUBLE PRECISION": float}
PARSED = ("config", "config_diff")  # JSON in the ledger
ELSEWHERE = {"seq", "answers"}  # the chain's number; long, and read by those who need it


def test_a_submission_has_the_columns_of_the_schema_with_their_types() -> None:
    hints = typing.get_type_hints(Submission)
    columns = [column for column in load_tables()["submissions"] if column.name not in ELSEWHERE]
    assert [column.name for column in columns] == [
        name
        for name in hints
        if name not in ("scores", "notes", "not_known", "imported", "run_name")
    ]
    for column in columns:
        if column.name not in PARSED:
            kind = TYPES[column.kind]
            assert hints[column.name] == (kind if column.required else kind | None), column.name


def test_a_note_has_the_columns_of_the_schema() -> None:
    columns = [column.name for column in load_tables()["notes"] if column.name != "seq"]
    assert list(Note.__dataclass_fields__) == [name.replace("noted_at", "time") for name in columns]


def test_a_table_kept_by_hand_is_read_by_every_column_of_a_submission() -> None:
    taken = {
        *NUMBER_COLUMNS,
        *TEXT_COLUMNS,
        *INTEGER_COLUMNS,
        "number",
        "memo",
        "config",
        "config_diff",
    }
    assert taken == {column.name for column in load_tables()["submissions"]} - {"seq"}


def test_a_column_added_to_the_text_of_the_schema_is_read_with_its_type_key_and_reference(
    tmp_path: Path,
) -> None:
    line = "    answers                  TEXT\n"
    text = SCHEMA_FILE.read_text()
    assert text.count(line) == 1
    more = "    answers TEXT,\n    rival INTEGER NOT NULL UNIQUE REFERENCES runs (seq)\n"
    changed = tmp_path / "ledger.db.sql"
    changed.write_text(text.replace(line, more))
    column = load_tables(changed)["submissions"][-1]
    assert (column.name, column.kind, column.references) == ("rival", "INTEGER", "runs.seq")
    assert (column.required, column.unique, column.primary) == (True, True, False)
    assert "rival" not in METADATA.tables["submissions"].columns


def test_the_schema_says_its_version_and_the_last_migration_leads_to_it() -> None:
    match = re.search(r"version (\d+)\.", SCHEMA_FILE.read_text().splitlines()[0])
    assert match is not None
    assert int(match[1]) == SCHEMA_VERSION == max([*STEPS, *load_steps()])


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE runs ADD COLUMN speed TEXT NOT NULL;",
        "ALTER TABLE runs ADD COLUMN speed TEXT DEFAULT 'fast';",
        "ALTER TABLE runs DROP COLUMN path;",
        "UPDATE runs SET path = '';",
        "DROP TRIGGER runs_no_update;",
    ],
)
def test_a_section_that_could_change_rows_is_refused(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "ledger.db.sql"
    text = SCHEMA_FILE.read_text()
    added = "ALTER TABLE runs ADD COLUMN speed TEXT;\n"
    path.write_text(f"{text}\n-- section: schema 3\n{added}{statement}\n")
    with pytest.raises(ValueError, match=r"schema 3: .*expected ALTER TABLE"):
        load_steps(path)
    path.write_text(f"{text}\n-- section: schema 3\n{added}")
    assert list(load_steps(path)) == [3]
    assert load_tables(path)["runs"][-1].name == "speed"
