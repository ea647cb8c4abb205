"""Submission tables that people keep by hand, in and out: CSV and JSON both ways, Markdown out.

A row is flat: `number`, `memo`, `<split>_<metric>`, `train_` and `val_` figures, and `section.key` columns that are the
config. Columns of other names are kept with the row. An empty cell is unknown and stays unknown.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracker.errors import ConfigError, DataError, TrackerError
from tracker.ledger.historical import FIGURES, PRINTS, TEXTS, Historical
from tracker.ledger.read import list_imported_columns, list_packed_answers, list_submissions
from tracker.predictions import load_answers
from tracker.workspace import Competition, Metric, Workspace, parse_score
from training.atomic import write_text
from training.tables import flatten, parse_toml_value

SPLITS = ("public", "private", "overall")
ALIASES = {"acc": "accuracy"}
FIGURE_METRICS = {
    "loss": Metric(name="loss"),
    "f1": Metric(name="f1", kind="macro_f1"),
    "accuracy": Metric(name="accuracy", kind="accuracy", percent=True),
}


@dataclass(frozen=True)
class HandKept:
    """A whole table, found fit to be imported."""

    path: Path
    rows: Sequence[Historical]
    config_keys: Sequence[str]
    extra_keys: Sequence[str]


# --- In ---------------------------------------------------------------------------------------------------------------


def read_handkept(path: Path, competition: Competition) -> HandKept:
    """Read a table; raises ConfigError with every wrong cell, DataError when the file cannot be read."""
    problems: list[str] = []
    rows = []
    for place, cells in enumerate(_read_cells(path), start=2):
        row = Historical(number=place - 1, memo="", derived="sota" not in cells)
        for name, cell in cells.items():
            if cell is not None and (cell != "" or "." in name):
                try:
                    _take(row, name, cell, competition, path.parent)
                except (TrackerError, ValueError, TypeError) as error:
                    problems.append(f"row {place}, {name}: {error}")
        if not row.memo:
            problems.append(f"row {place}: no memo")
        rows.append(row)
    numbers = [row.number for row in rows]
    if numbers != sorted(set(numbers)):
        problems.append("number: must grow from row to row")
    if problems or not rows:
        raise ConfigError(f"{len(problems)} problem(s) in {path}:", problems=problems or ["the table has no rows"])
    config_keys = list(dict.fromkeys(key for row in rows for key in flatten(row.config)))
    extra_keys = list(dict.fromkeys(key for row in rows for key in row.extra))
    return HandKept(path, rows, config_keys, extra_keys)


def _read_cells(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            rows = json.loads(text)
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise DataError(f"{path}: expected a list of objects")
            return rows
        csv.field_size_limit(1 << 30)  # packed answers are long
        return [
            {name.strip(): cell.strip() or None for name, cell in row.items() if name}
            for row in csv.DictReader(io.StringIO(text, newline=""), restval="")
        ]
    except FileNotFoundError:
        raise DataError(f"no such file: {path}") from None
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _take(row: Historical, name: str, cell: Any, competition: Competition, folder: Path) -> None:
    """Put one known cell where it belongs; raises TrackerError or ValueError."""
    split, _, rest = name.partition("_")
    metric = ALIASES.get(rest, rest)
    if name == "number":
        row.number = int(cell)
    elif name == "memo":
        row.memo = str(cell).strip()
    elif name in ("sota", "best_epoch"):
        row.columns[name] = int(cell)
    elif name == "config_diff":
        row.columns[name] = cell if isinstance(cell, dict) else json.loads(cell)
    elif name in TEXTS:
        row.columns[name] = str(cell)
        if name == "file" and (folder / str(cell)).is_file():
            answers = load_answers(folder / str(cell), competition)
            row.columns |= {"answers": answers.pack(), "predictions_fingerprint": answers.fingerprint}
    elif "." in name:
        section, _, key = name.partition(".")
        row.config.setdefault(section, {})[key] = parse_cell(cell) if isinstance(cell, str) else cell
    elif f"{split}_{metric}" in FIGURES:
        row.columns[f"{split}_{metric}"] = parse_score(FIGURE_METRICS[metric], str(cell))
    elif split in SPLITS and rest:
        row.scores[split, metric] = parse_score(competition.metric(metric), str(cell))
    else:
        row.extra[name] = str(cell)


def parse_cell(text: str) -> Any:
    """A config value from a table cell: a TOML value, numbers with commas between, or a plain text."""
    if "," in text and not text.startswith(("[", '"', "'")):
        parts = [parse_cell(part.strip()) for part in text.split(",")]
        if all(isinstance(part, int | float) and not isinstance(part, bool) for part in parts):
            return parts
        return text
    return parse_toml_value(text)


def import_table(workspace: Workspace, table: HandKept) -> int:
    """Add all rows in one transaction; returns how many. Raises DuplicateError or RefusedError with nothing added."""
    from tracker.ledger.append import open_ledger

    with open_ledger(workspace) as ledger:
        ledger.append_historical(table.rows, workspace.competition)
    return len(table.rows)


def render_summary(table: HandKept) -> str:
    """What a table was understood to say."""
    rows = table.rows
    scores = sorted({f"{split}_{metric}" for row in rows for split, metric in row.scores})
    known = sum("predictions_fingerprint" in row.columns for row in rows)
    lines = [
        f"{table.path}: {len(rows)} submissions, {rows[0].number} to {rows[-1].number}",
        f"scores: {', '.join(scores) or 'none'}",
        f"config keys: {', '.join(table.config_keys) or 'none'}",
        f"kept with the rows: {', '.join(table.extra_keys) or 'nothing'}",
        f"predictions known: {known} of {len(rows)}",
    ]
    return "\n".join(lines)


# --- Out --------------------------------------------------------------------------------------------------------------


def export_table(workspace: Workspace, path: Path) -> int:
    """Write all submissions to a .csv, .json or .md file; raises ConfigError for another kind, StorageError."""
    writers: dict[str, Callable[[list[dict[str, Any]]], str]] = {
        ".csv": _to_csv,
        ".json": lambda rows: json.dumps(rows, indent=1, ensure_ascii=False) + "\n",
        ".md": _to_markdown,
    }
    if path.suffix.lower() not in writers:
        raise ConfigError(f"{path}: unknown kind of file", hint="end its name with .csv, .json or .md")
    rows = list_flat(workspace)
    write_text(path, writers[path.suffix.lower()](rows))
    return len(rows)


def list_flat(workspace: Workspace) -> list[dict[str, Any]]:
    """Every submission as one flat object, unknown values left out of none: they are null."""
    packed = {number: text for number, _, text in list_packed_answers(workspace)}
    extra = list_imported_columns(workspace)
    submissions = list_submissions(workspace)
    score_names = _ordered({name for row in submissions for name in row.scores})
    config_keys = list(dict.fromkeys(key for row in submissions for key in flatten(row.config)))
    extra_keys = list(dict.fromkeys(key for columns in extra.values() for key in columns))
    rows = []
    for row in submissions:
        plain, config = row.to_dict(), flatten(row.config)
        rows.append(
            {
                **{name: plain[name] for name in ("number", "run", "memo")},
                **{name: row.scores.get(name) for name in score_names},
                **{name: plain[name] for name in FIGURES},
                **{name: config.get(name) for name in config_keys},
                **{name: plain[name] for name in ("best_epoch", "sota", "config_diff", "run_uid", *PRINTS)},
                **{name: plain[name] for name in ("author", "host", "submitted_at", "file")},
                "answers": packed.get(row.number),
                **{name: extra.get(row.number, {}).get(name) for name in extra_keys},
            }
        )
    return rows


def _ordered(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (SPLITS.index(name.partition("_")[0]), name))


def render_cell(value: Any) -> str:
    """A value as the cell that `parse_cell` reads back."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value if value and parse_cell(value) == value else json.dumps(value, ensure_ascii=False)
    if isinstance(value, list) and len(value) > 1 and all(type(item) in (int, float) for item in value):
        return ",".join(map(repr, value))
    return json.dumps(value, ensure_ascii=False)


def _to_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    if rows:
        writer.writerow(rows[0])
    for row in rows:
        writer.writerow(
            render_cell(value) if "." in name else "" if value is None else _plain(value) for name, value in row.items()
        )
    return text.getvalue()


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _to_markdown(rows: list[dict[str, Any]]) -> str:
    """For people: what is unknown everywhere, the packed answers and the fingerprints are left out."""
    hidden = {*PRINTS, "answers", "run_uid", "host", "config_diff"}
    names = [
        name for name in (rows[0] if rows else ()) if name not in hidden and any(r[name] is not None for r in rows)
    ]
    lines = [names, ["---"] * len(names), *[[_for_people(row[name]) for name in names] for row in rows]]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _for_people(value: Any) -> str:
    text = value if isinstance(value, str) else f"{value:.6g}" if isinstance(value, float) else render_cell(value)
    return " ".join(text.replace("|", "\\|").split())
