"""The catalog of a PostgreSQL ledger compared with ledger.db.sql.

PostgreSQL stores definitions rewritten: they are compared by their parts, and views by their rows.
"""

from __future__ import annotations

import re
from typing import Any

from tracker.ledger.columns import load_schema, load_tables
from tracker.ledger.connection import Query

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
_INDEX = re.compile(r"CREATE INDEX (\w+) ON (\w+) \(([^)]*)\)")
_POLICY = re.compile(
    r"CREATE POLICY (\w+) ON (\w+) FOR (SELECT|INSERT) (USING|WITH CHECK) \((\w+)\);"
)
_FUNCTION = re.compile(r"CREATE FUNCTION (\w+)\(\).*?\$\$(.*?)\$\$", re.DOTALL)
Guards = dict[str, Any]  # by name: a text, or a tuple of what a trigger does


def check_catalog(query: Query, *, version: int) -> str:
    """The problem of the first trigger, function, constraint, index, rule or policy; or "".

    `version` is the schema that the ledger says it has.
    """
    script = "\n".join(load_schema("postgresql", version=version))
    return (
        _compare(*_find_guards(query, script))
        or _compare_indexes(query, script)
        or _find_foreign_rules(query)
        or _check_row_security(query, script)
    )


def _compare(expected: Guards, actual: Guards) -> str:
    for name in sorted(expected.keys() | actual.keys()):
        if name not in actual:
            return f"the guard {name} is missing: rows can be changed"
        if name not in expected:
            return f"the trigger {name} is not one of the ledger's: it may change or drop rows"
        if expected[name] != actual[name]:
            return f"the guard {name} is not as in ledger.db.sql: rows can be changed"
    return ""


def check_views(query: Query) -> str:
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


def _squeeze(sql: str) -> str:
    return " ".join(sql.split()).rstrip("; ")


def _find_guards(query: Query, script: str) -> tuple[Guards, Guards]:
    """(expected, actual) triggers, their functions, constraints and columns, by name."""
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
    expected_columns, actual_columns = _find_columns(query, script)
    expected |= _list_constraints(script) | expected_columns
    return expected, actual | _find_constraints(query) | actual_columns


def _list_keys(script: str) -> dict[str, str]:
    """{table: its primary key} of the tables that only PostgreSQL has."""
    keys = {}
    for table, body in _TABLE.findall(script):
        for line in body.splitlines():
            if table not in load_tables() and "PRIMARY KEY" in line:
                keys[table] = line.split()[0]
    return keys


def _list_constraints(script: str) -> Guards:
    """{name: definition} of the keys and conditions, under the names that PostgreSQL gives them."""
    constraints: Guards = {
        f"{table}_pkey": f"PRIMARY KEY ({name})" for table, name in _list_keys(script).items()
    }
    for table, columns in load_tables().items():
        for column in columns:
            if column.primary:
                constraints[f"{table}_pkey"] = f"PRIMARY KEY ({column.name})"
            if column.unique:
                constraints[f"{table}_{column.name}_key"] = f"UNIQUE ({column.name})"
            if column.references:
                other, _, key = column.references.partition(".")
                text = f"FOREIGN KEY ({column.name}) REFERENCES {other}({key})"
                constraints[f"{table}_{column.name}_fkey"] = text
    for table, body in _TABLE.findall(script):
        for line in body.splitlines():
            if "CHECK" in line:
                text = line[line.index("CHECK") :].rstrip(",")
                constraints[f"{table}_{line.split()[0]}_check"] = _simplify_check(text)
    return constraints


def _simplify_check(text: str) -> str:
    """A condition in the words that PostgreSQL's own rewriting of it does not change."""
    text = re.sub(
        r"::\w+|\bTRIM\b|\bbtrim\b|\bBOTH\b|\bFROM\b|\bARRAY\b|= ANY\b|\bIN\b",
        " ",
        text,
        flags=re.I,
    )
    return " ".join(re.findall(r"'[^']*'|\w+|[<>=!+*/|-]+", text))


def _find_constraints(query: Query) -> Guards:
    """{name: definition} of the constraints that are there; one that is not enforced has a mark."""
    rows = query(
        "SELECT conname AS name, pg_get_constraintdef(oid) AS text, convalidated AS holds FROM"
        " pg_constraint WHERE connamespace = current_schema()::regnamespace AND contype <> 'n'",
        {},
    )
    constraints: Guards = {}
    for row in rows:
        is_check = row["text"].startswith("CHECK")
        text = _simplify_check(row["text"]) if is_check else row["text"]
        constraints[row["name"]] = text if row["holds"] else f"{text} (not valid)"
    return constraints


def _compare_indexes(query: Query, script: str) -> str:
    """The problem of the first index: missing, another one, or not kept up to date."""
    expected = _list_indexes(script)
    rows = query(
        "SELECT c.relname AS name, t.relname AS of, i.indisunique AS is_unique, i.indisvalid AND"
        " i.indisready AND i.indislive AS is_used, pg_get_indexdef(c.oid) AS text FROM pg_index i"
        " JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid WHERE"
        " t.relnamespace = current_schema()::regnamespace AND t.relkind = 'r'",
        {},
    )
    actual = {}
    for row in rows:
        columns = row["text"].partition(" USING btree (")[2].removesuffix(")")
        actual[row["name"]] = (row["of"], row["is_unique"], row["is_used"], columns)
        # another index is the owner's own, unless it refuses rows
        if row["name"] not in expected and row["is_unique"]:
            return f"the index {row['name']} is not one of the ledger's: it may refuse rows"
    for name in sorted(expected):
        if name not in actual:
            return f"the index {name} is missing"
        if actual[name] != expected[name]:
            return f"the index {name} is not as in ledger.db.sql"
    return ""


def _list_indexes(script: str) -> Guards:
    """{name: (table, whether it is unique, whether it is in use, columns)}."""
    indexes: Guards = {
        f"{table}_pkey": (table, True, True, name) for table, name in _list_keys(script).items()
    }
    for table, columns in load_tables().items():
        for column in columns:
            if column.primary:
                indexes[f"{table}_pkey"] = (table, True, True, column.name)
            if column.unique:
                indexes[f"{table}_{column.name}_key"] = (table, True, True, column.name)
    for name, table, names in _INDEX.findall(script):
        indexes[name] = (table, False, True, names)
    return indexes


def _check_row_security(query: Query, script: str) -> str:
    """The problem of row-level security, which says who may add rows, or of keys switched off.

    A policy of another name or text may hide rows from some, or let them be changed.
    """
    secured = set(re.findall(r"ALTER TABLE (\w+) ENABLE ROW LEVEL SECURITY", script))
    tables = query(
        "SELECT c.relname AS name, c.relrowsecurity AS secured, EXISTS (SELECT 1 FROM pg_trigger t"
        " WHERE t.tgrelid = c.oid AND t.tgisinternal AND t.tgenabled NOT IN ('O', 'A')) AS loose"
        " FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace ="
        " current_schema()::regnamespace ORDER BY c.relname",
        {},
    )
    for row in tables:
        if row["loose"]:
            return f"the foreign keys of {row['name']} are switched off: rows can be changed"
        if row["secured"] != (row["name"] in secured):
            return f"the row-level security of {row['name']} is not as in ledger.db.sql"
    return _compare_policies(query, script)


def _compare_policies(query: Query, script: str) -> str:
    expected = {
        name: (table, "PERMISSIVE", ["public"], command, {word: condition})
        for name, table, command, word, condition in _POLICY.findall(script)
    }
    rows = query(
        "SELECT policyname AS name, tablename AS of, permissive AS kind, roles::text[] AS roles,"
        " cmd AS command, qual, with_check FROM pg_policies WHERE schemaname = current_schema()"
        " ORDER BY 1",
        {},
    )
    actual = {}
    for row in rows:
        texts = {"USING": row["qual"], "WITH CHECK": row["with_check"]}
        conditions = {word: text for word, text in texts.items() if text is not None}
        actual[row["name"]] = (row["of"], row["kind"], row["roles"], row["command"], conditions)
        if row["name"] not in expected:
            return (
                f"the policy {row['name']} on {row['of']} is not one of the ledger's: it may hide"
                " rows"
            )
    for name, policy in expected.items():
        if name not in actual:
            return f"the policy {name} on {policy[0]} is missing"
        if actual[name] != policy:
            return f"the policy {name} on {policy[0]} is not as in ledger.db.sql"
    return ""


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
