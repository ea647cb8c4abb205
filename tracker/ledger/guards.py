"""Whether a ledger's database still has what keeps its rows from being changed, as ledger.db.sql made it."""

from __future__ import annotations

import re
from typing import Any

from tracker.ledger.read import Query, open_reader
from tracker.ledger.schema import load_schema

_TRIGGER = re.compile(
    r"CREATE TRIGGER (?P<name>\w+) BEFORE (?P<events>[A-Z ]+) ON (?:\w+\.)?(?P<table>\w+) "
    r"(?:FOR EACH (?P<level>ROW|STATEMENT) )?EXECUTE FUNCTION (?:\w+\.)?(?P<function>\w+)"
)
_FUNCTION = re.compile(r"CREATE FUNCTION (\w+)\(\).*?\$\$(.*?)\$\$", re.DOTALL)
Parts = dict[str, Any]


def check_guards(url: str) -> str:
    """What is wrong with the first guard that is missing or is not as ledger.db.sql made it; empty when all are right.

    Guards are triggers, and the indexes behind unique keys. A trigger that is not ours is told too: it may drop rows.
    """
    find = _find_sqlite if url.startswith("sqlite") else _find_postgres
    with open_reader(url) as query:
        wanted, found = find(query)
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            return f"the guard {name} is missing, rows can be changed"
        if name not in wanted:
            return f"the trigger {name} is not one of the ledger's: it may change or drop rows"
        if wanted[name] != found[name]:
            return f"the guard {name} is not as ledger.db.sql has it, rows can be changed"
    return ""


def _find_sqlite(query: Query) -> tuple[Parts, Parts]:
    """Triggers and tables by name, as they should be and as they are; a table's text has its unique keys."""
    rows = query("SELECT name, sql FROM sqlite_master WHERE type IN ('trigger', 'table') AND sql IS NOT NULL", {})
    wanted = {}
    for statement in load_schema("sqlite"):
        if match := re.search(r"CREATE (?:TRIGGER|TABLE) (\w+).*", statement, re.DOTALL):
            wanted[match[1]] = _squeeze(match[0])
    found = {row["name"]: _squeeze(row["sql"]) for row in rows if not row["name"].startswith("sqlite_")}
    return wanted, found


def _squeeze(sql: str) -> str:
    return " ".join(sql.split()).rstrip("; ")


def _find_postgres(query: Query) -> tuple[Parts, Parts]:
    """Triggers, the functions that they call, and unique keys by name, as they should be and as they are."""
    script = "\n".join(load_schema("postgresql"))
    wanted: Parts = {match["name"]: (*_describe(match), "O") for match in _TRIGGER.finditer(" ".join(script.split()))}
    wanted |= {name: _squeeze(body) for name, body in _FUNCTION.findall(script)}
    found: Parts = {}
    triggers = (
        "SELECT t.tgname AS name, pg_get_triggerdef(t.oid) AS text, t.tgenabled AS enabled FROM pg_trigger t "
        "JOIN pg_class c ON c.oid = t.tgrelid "
        "WHERE NOT t.tgisinternal AND c.relnamespace = current_schema()::regnamespace"
    )
    for row in query(triggers, {}):
        match = _TRIGGER.fullmatch(row["text"].removesuffix("()"))
        enabled = row["enabled"] if isinstance(row["enabled"], str) else row["enabled"].decode()
        found[row["name"]] = (*_describe(match), enabled) if match else row["text"]
    functions = (
        "SELECT proname AS name, prosrc AS text FROM pg_proc WHERE pronamespace = current_schema()::regnamespace"
    )
    found |= {row["name"]: _squeeze(row["text"]) for row in query(functions, {}) if row["name"] in wanted}
    keys = (
        "SELECT conname AS name FROM pg_constraint WHERE contype IN ('p', 'u') "
        "AND connamespace = current_schema()::regnamespace"
    )
    present = {row["name"] for row in query(keys, {})}
    unique = {"submissions_number_key", "submissions_predictions_fingerprint_key", "chain_hash_key", "chain_pkey"}
    return wanted | dict.fromkeys(unique), found | dict.fromkeys(unique & present)


def _describe(match: re.Match[str]) -> tuple[str, ...]:
    events = " ".join(sorted(match["events"].split(" OR ")))
    return events, match["table"], match["level"] or "STATEMENT", match["function"]
