"""Checks that a ledger's database still has the guards of ledger.db.sql against changed rows."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import Any

from tracker.ledger.columns import load_schema
from tracker.ledger.connection import Query, open_reader

_TRIGGER = re.compile(
    r"CREATE TRIGGER (?P<name>\w+) BEFORE (?P<events>[A-Z ]+) ON (?:\w+\.)?(?P<table>\w+) "
    r"(?:FOR EACH (?P<level>ROW|STATEMENT) )?EXECUTE FUNCTION (?:\w+\.)?(?P<function>\w+)"
)
_TABLE = re.compile(r"CREATE TABLE (\w+) \(\n(.*?)\n\);", re.DOTALL)
_VIEW = re.compile(r"CREATE VIEW (\w+) AS\s(.*?);", re.DOTALL)
_VIEW_COLUMNS = {
    "latest_scores": "submission, split, metric, value, seq",
    "score_records": "submission, split, metric, value, is_highest, is_lowest",
}
_UNIQUE_KEYS = {
    **{
        f"{table}_pkey": "PRIMARY KEY (seq)"
        for table in ("chain", "runs", "submissions", "scores", "notes")
    },
    "migrations_pkey": "PRIMARY KEY (version)",
    "chain_hash_key": "UNIQUE (hash)",
    "submissions_number_key": "UNIQUE (number)",
    "submissions_predictions_fingerprint_key": "UNIQUE (predictions_fingerprint)",
}
_FUNCTION = re.compile(r"CREATE FUNCTION (\w+)\(\).*?\$\$(.*?)\$\$", re.DOTALL)
Guards = dict[str, Any]  # by name: a text, or a tuple of what a trigger does


def check_guards(url: str) -> str:
    """The problem of the first guard that is missing or not as in ledger.db.sql; empty without one.

    Guards are the triggers, and the indexes behind unique keys; the views must show what the tables
    have. A foreign trigger, rule or child table is a problem too, because it may drop or add rows.
    """
    find = _find_sqlite if url.startswith("sqlite") else _find_postgres
    with open_reader(url) as query:
        problem = _compare(*find(query))
        if find is _find_postgres:  # SQLite stores the texts of views: they were compared above
            problem = problem or _find_foreign_rules(query) or _check_views(query)
        return problem


def _compare(expected: Guards, actual: Guards) -> str:
    for name in sorted(expected.keys() | actual.keys()):
        if name not in actual:
            return f"the guard {name} is missing: rows can be changed"
        if name not in expected:
            return f"the trigger {name} is not one of the ledger's: it may change or drop rows"
        if expected[name] != actual[name]:
            return f"the guard {name} is not as in ledger.db.sql: rows can be changed"
    return ""


def _check_views(query: Query) -> str:
    """The problem of the first view whose rows are not those of its definition in ledger.db.sql.

    The rows are compared because PostgreSQL stores a view's text rewritten.
    """
    for name, definition in _VIEW.findall("\n".join(load_schema("postgresql"))):
        columns = _VIEW_COLUMNS[name]
        shown, right = f"SELECT {columns} FROM {name}", f"SELECT {columns} FROM ({definition}) d"
        parts = [
            f"({shown} EXCEPT {right})",
            f"({right} EXCEPT {shown})",
            f"({shown})",
            f"({right})",
        ]
        counts = [query(f"SELECT count(*) AS n FROM {part} p", {})[0]["n"] for part in parts]
        if counts[0] or counts[1] or counts[2] != counts[3]:
            return f"the view {name} does not show the rows of the tables"
    return ""


def _find_sqlite(query: Query) -> tuple[Guards, Guards]:
    """(expected, actual) texts of triggers, views and tables, which include their unique keys."""
    rows = query(
        "SELECT type, name, sql FROM sqlite_master WHERE type <> 'index' AND sql IS NOT NULL", {}
    )
    with closing(sqlite3.connect(":memory:")) as fresh:
        for statement in load_schema("sqlite"):
            fresh.execute(statement)
        made = fresh.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    expected = {name: _squeeze(sql) for name, sql in made if not sql.startswith("CREATE INDEX")}
    actual = {}
    for row in rows:
        is_internal = row["name"].startswith("sqlite_")
        is_own_view = row["type"] == "view" and row["name"] not in expected  # users may add views
        if not is_internal and not is_own_view:
            actual[row["name"]] = _squeeze(row["sql"])
    return expected, actual


def _squeeze(sql: str) -> str:
    return " ".join(sql.split()).rstrip("; ")


def _find_postgres(query: Query) -> tuple[Guards, Guards]:
    """(expected, actual) triggers, their functions, unique keys and columns, by name."""
    script = "\n".join(load_schema("postgresql"))
    expected: Guards = {}
    for match in _TRIGGER.finditer(" ".join(script.split())):
        expected[match["name"]] = (*_parse_trigger(match), "O")  # "O": it is enabled
    expected |= {name: _squeeze(body) for name, body in _FUNCTION.findall(script)}
    actual: Guards = {}
    triggers = (
        "SELECT t.tgname AS name, pg_get_triggerdef(t.oid) AS text, t.tgenabled AS enabled FROM"
        " pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal AND"
        " c.relnamespace = current_schema()::regnamespace"
    )
    for row in query(triggers, {}):
        definition = _TRIGGER.fullmatch(row["text"].removesuffix("()"))
        enabled = row["enabled"] if isinstance(row["enabled"], str) else row["enabled"].decode()
        actual[row["name"]] = row["text"]
        if definition:
            actual[row["name"]] = (*_parse_trigger(definition), enabled)
    functions = (
        "SELECT proname AS name, prosrc AS text FROM pg_proc WHERE pronamespace ="
        " current_schema()::regnamespace"
    )
    for row in query(functions, {}):
        if row["name"] in expected:
            actual[row["name"]] = _squeeze(row["text"])
    keys = (
        "SELECT conname AS name, pg_get_constraintdef(oid) AS text FROM pg_constraint "
        "WHERE connamespace = current_schema()::regnamespace"
    )
    expected |= _UNIQUE_KEYS
    actual |= {row["name"]: row["text"] for row in query(keys, {}) if row["name"] in _UNIQUE_KEYS}
    expected_columns, actual_columns = _find_columns(query, script)
    return expected | expected_columns, actual | actual_columns


def _find_columns(query: Query, script: str) -> tuple[Guards, Guards]:
    """(expected, actual) NOT NULL columns, and views with the names of their columns."""
    expected: Guards = dict(_VIEW_COLUMNS)
    for table, body in _TABLE.findall(script):
        for line in body.splitlines():
            if "NOT NULL" in line:
                expected[f"{table}.{line.split()[0]} NOT NULL"] = True
    columns = (
        "SELECT c.relname AS name, c.relkind = 'v' AS is_view, a.attname AS column, a.attnotnull AS"
        " filled FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT"
        " a.attisdropped WHERE c.relkind IN ('v', 'r') AND c.relnamespace ="
        " current_schema()::regnamespace ORDER BY a.attnum"
    )
    actual: Guards = {}
    for row in query(columns, {}):
        not_null = f"{row['name']}.{row['column']} NOT NULL"
        if row["is_view"] and row["name"] in _VIEW_COLUMNS:
            before = actual.get(row["name"])
            actual[row["name"]] = f"{before}, {row['column']}" if before else row["column"]
        elif row["filled"] and not_null in expected:
            actual[not_null] = True
    return expected, actual


def _find_foreign_rules(query: Query) -> str:
    """The problem of a rule or of an inherited table, whose rows appear in its parent; or ""."""
    rules = (
        "SELECT 'rule' AS what, rulename AS name, tablename AS of FROM pg_rules WHERE schemaname ="
        " current_schema()"
    )
    children = (
        "SELECT 'table', c.relname, p.relname FROM pg_inherits i JOIN pg_class c ON c.oid ="
        " i.inhrelid JOIN pg_class p ON p.oid = i.inhparent WHERE p.relnamespace ="
        " current_schema()::regnamespace"
    )
    for row in query(f"{rules} UNION ALL {children} ORDER BY name LIMIT 1", {}):
        return (
            f"the {row['what']} {row['name']} on {row['of']} is not one of the ledger's: it may add"
            " or drop rows"
        )
    return ""


def _parse_trigger(match: re.Match[str]) -> tuple[str, ...]:
    """(events, table, level, function) of a trigger."""
    events = " ".join(sorted(match["events"].split(" OR ")))
    return events, match["table"], match["level"] or "STATEMENT", match["function"]
