"""Submission tables that people keep by hand, in and out: CSV and JSON both ways, Markdown out.

A row is flat: `number`, `memo`, `<split>_<metric>`, `train_` and `val_` figures, and `section.key`
columns that are the config. Columns of other names are kept with the row. An empty cell is unknown
and stays unknown.

What people type is interpreted (81.65 is a percentage, `1,2` a list). Rows that export wrote are
marked by `MARK`, and are read as they stand.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracker.core.errors import TrackerError
from tracker.ledger.historical import (
    COLUMN_PARSERS,
    FIGURES,
    PRINTS,
    Historical,
    check_value,
    open_packed,
    parse_integer,
)
from tracker.ledger.read import list_imported_columns, list_packed_answers, list_submissions
from tracker.training.errors import ConfigError, DataError
from tracker.training.files import check_regular, write_text
from tracker.training.metrics import METRICS
from tracker.training.numbers import render_count
from tracker.training.tables import flatten, parse_json, parse_toml_value
from tracker.workspace.competition import Competition, Metric, Workspace, build_metric, parse_score
from tracker.workspace.metrics import COLUMNS
from tracker.workspace.predictions import load_answers

MARK, FORMAT = "tracker_export", "1"
SPLITS = ("public", "private", "overall")
ALIASES = {"acc": "accuracy"}
FIGURE_METRICS = {
    "loss": Metric(name="loss"),
    **{name: build_metric(METRICS[name]) for name in COLUMNS if name in METRICS},
}
REFUSALS = (TrackerError, ValueError, TypeError, ArithmeticError, RecursionError, OSError)


@dataclass(frozen=True)
class HandKept:
    """A whole table, found fit to be imported."""

    path: Path
    rows: Sequence[Historical]
    config_keys: Sequence[str]
    extra_keys: Sequence[str]


# --- In
# ---------------------------------------------------------------------------------------------------------------


def read_handkept(path: Path, competition: Competition) -> HandKept:
    """Read a table; raises ConfigError with every wrong cell, DataError when the file cannot be
    read."""
    problems: list[str] = []
    cells = _read_cells(path)
    if not cells:
        raise ConfigError(
            f"{path}: the table has no rows",
            hint="its first line has the names, each other a submission",
        )
    rows = []
    for place, row_cells in enumerate(cells, start=2):
        row, wrong = _read_row(place - 1, row_cells, competition, path.parent)
        problems += [f"row {place}, {problem}" for problem in wrong]
        rows.append(row)
    numbers = [row.number for row in rows]
    if numbers != sorted(set(numbers)):
        problems.append("number: must grow from row to row")
    for place, row in enumerate(rows, start=2):
        sota = row.columns.get("sota")
        if sota is not None and (
            sota >= row.number or (sota >= numbers[0] and sota not in numbers)
        ):
            problems.append(
                f"row {place}, sota: {sota}, expected the number of an earlier submission"
            )
    if problems:
        raise ConfigError(f"{render_count(len(problems), 'problem')} in {path}:", problems=problems)
    config_keys = list(dict.fromkeys(key for row in rows for key in flatten(row.config)))
    extra_keys = list(dict.fromkeys(key for row in rows for key in row.extra))
    return HandKept(path, rows, config_keys, extra_keys)


def _read_cells(path: Path) -> list[dict[str, Any]]:
    try:
        check_regular(path)
        text = path.read_bytes().decode("utf-8-sig")
        if path.suffix.lower() == ".json":
            rows = parse_json(text)
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise DataError(f"{path}: expected a list of objects")
            return [
                row if row.get(MARK) else {name.strip(): cell for name, cell in row.items()}
                for row in rows
            ]
        csv.field_size_limit(1 << 30)  # packed answers are long
        return list(map(_read_csv_row, csv.DictReader(io.StringIO(text, newline=""), restval="")))
    except FileNotFoundError:
        raise DataError(f"no such file: {path}") from None
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _read_csv_row(row: dict[str, Any]) -> dict[str, Any]:
    """The row as JSON would have it."""
    named = {name: cell for name, cell in row.items() if name}
    if not named.get(MARK):
        return {name.strip(): cell.strip() or None for name, cell in named.items()}
    return {
        name: parse_rendered(cell) if "." in name else cell or None
        for name, cell in named.items()
        if cell or "." not in name
    }


def _read_row(
    number: int, cells: Mapping[str, Any], competition: Competition, folder: Path
) -> tuple[Historical, list[str]]:
    """A row, numbered by its place unless it says another number, and its problems, each beginning
    with its column."""
    row = Historical(number=number, memo="", derived="sota" not in cells)
    exact = bool(cells.get(MARK))
    problems = []
    if exact and str(cells[MARK]) != FORMAT:
        problems.append(f"{MARK}: {cells[MARK]!r}, this program knows {FORMAT}")
    for name, cell in cells.items():
        unknown = (cell is None and not (exact and "." in name)) or (cell == "" and "." not in name)
        if unknown or name == MARK:
            continue
        try:
            _take(row, name, cell, competition, exact=exact)
        except REFUSALS as error:
            problems.append(f"{ascii(name)[1:-1]}: {error or type(error).__name__}")
    try:
        _settle_predictions(row, competition, None if exact else folder)
    except REFUSALS as error:
        problems.append(f"{'answers' if 'answers' in row.columns else 'file'}: {error}")
    if not row.memo.strip():
        problems.append("memo: missing, expected what was new")
    return row, problems


def _take(row: Historical, name: str, cell: Any, competition: Competition, *, exact: bool) -> None:
    """Put one known cell where it belongs; raises one of REFUSALS."""
    check_value(name)
    split, _, rest = name.partition("_")
    metric = rest if exact else ALIASES.get(rest, rest)
    if f"{split}_{metric}" in FIGURES:
        row.columns[f"{split}_{metric}"] = _read_figure(FIGURE_METRICS[metric], cell, exact=exact)
        return
    check_value(cell)
    if name == "number":
        row.number = parse_integer(cell, 1)
    elif name == "memo":
        row.memo = str(cell) if exact else str(cell).strip()
    elif name in COLUMN_PARSERS:
        row.columns[name] = COLUMN_PARSERS[name](cell)
    elif "." in name:
        _take_config(
            row.config, name, cell if exact or not isinstance(cell, str) else parse_cell(cell)
        )
    elif split in SPLITS and rest:
        known = competition.metric(metric)
        row.scores[split, metric] = _read_score(cell) if exact else parse_score(known, str(cell))
    else:
        row.extra[name] = str(cell)


def _take_config(config: dict[str, dict[str, Any]], name: str, value: Any) -> None:
    section, _, key = name.partition(".")
    check_value(value)
    table = config.setdefault(section, {})
    if key:
        table[key] = value


def _read_figure(metric: Metric, cell: Any, *, exact: bool) -> float | None:
    if not exact:
        return parse_score(metric, str(cell))
    value = float(str(cell))
    return (
        None if math.isnan(value) else value
    )  # SQLite has no NaN: the row would not agree with its hash


def _read_score(cell: Any) -> float:
    value = float(str(cell))
    if not math.isfinite(value):
        raise ConfigError(f"{cell}: expected a finite number")
    return value


def _settle_predictions(row: Historical, competition: Competition, folder: Path | None) -> None:
    """Find the fingerprint of the answers, in the row or in its file; raises one of REFUSALS."""
    packed, file = row.columns.get("answers"), row.columns.get("file")
    if packed:
        answers = open_packed(packed)
    elif file and folder and (folder / file).is_file():
        answers = load_answers(folder / file, competition)
        row.columns["answers"] = answers.pack()
    else:
        return
    said = row.columns.setdefault("predictions_fingerprint", answers.fingerprint)
    if said != answers.fingerprint:
        raise ConfigError(
            f"their fingerprint is {answers.fingerprint}, predictions_fingerprint says {said}"
        )


def parse_cell(text: str) -> Any:
    """A config value from a table cell: a TOML value, numbers with commas between, or a plain text."""
    if "," in text and not text.startswith(("[", '"', "'")):
        parts = [parse_cell(part.strip()) for part in text.split(",")]
        if all(isinstance(part, int | float) and not isinstance(part, bool) for part in parts):
            return parts
        return text
    return parse_toml_value(text)


def import_table(workspace: Workspace, table: HandKept) -> int:
    """Add all rows in one transaction; returns how many. Raises DuplicateError or RefusedError with
    nothing added."""
    from tracker.ledger.append import open_ledger

    with open_ledger(workspace) as ledger:
        ledger.append_historical(table.rows, workspace.competition)
    return len(table.rows)


def render_summary(table: HandKept) -> str:
    """What a table was understood to say."""
    rows = table.rows
    scores = sorted({f"{split}_{metric}" for row in rows for split, metric in row.scores})
    figures = dict.fromkeys(name for row in rows for name in row.columns if name in FIGURES)
    known = sum("predictions_fingerprint" in row.columns for row in rows)
    lines = [
        (
            f"{table.path}: {render_count(len(rows), 'submission')}, {rows[0].number} to"
            f" {rows[-1].number}"
        ),
        f"scores: {', '.join(scores) or 'none'}",
        f"training and validation: {', '.join(figures) or 'none'}",
        f"config keys: {', '.join(table.config_keys) or 'none'}",
        f"kept with the rows: {', '.join(table.extra_keys) or 'nothing'}",
        f"predictions known: {known} of {len(rows)}",
    ]
    return "\n".join(lines)


# --- Out
# --------------------------------------------------------------------------------------------------------------


def export_table(workspace: Workspace, path: Path) -> int:
    """Write all submissions to a .csv, .json or .md file; raises ConfigError for another kind,
    StorageError."""
    writers: dict[str, Callable[[list[dict[str, Any]]], str]] = {
        ".csv": _to_csv,
        ".json": _to_json,
        ".md": _to_markdown,
    }
    if path.suffix.lower() not in writers:
        raise ConfigError(
            f"{path}: unknown kind of file", hint="end its name with .csv, .json or .md"
        )
    rows = list_flat(workspace)
    write_text(path, writers[path.suffix.lower()](rows))
    return len(rows)


def list_flat(workspace: Workspace) -> list[dict[str, Any]]:
    """Every submission as one flat object; unknown values are null, config keys that a row lacks
    are left out."""
    packed = {number: text for number, _, text in list_packed_answers(workspace)}
    extra = list_imported_columns(workspace)
    submissions = list_submissions(workspace)
    score_names = _ordered({name for row in submissions for name in row.scores})
    extra_keys = list(dict.fromkeys(key for columns in extra.values() for key in columns))
    rows = []
    for row in submissions:
        plain = row.to_dict()
        rows.append(
            {
                **{name: plain[name] for name in ("number", "run", "memo")},
                **{name: row.scores.get(name) for name in score_names},
                **{name: plain[name] for name in FIGURES},
                **flatten(row.config),
                **{f"{section}.": {} for section, table in row.config.items() if not table},
                **{
                    name: plain[name]
                    for name in ("best_epoch", "sota", "config_diff", "run_uid", *PRINTS)
                },
                **{name: plain[name] for name in ("author", "host", "submitted_at", "file")},
                "answers": packed.get(row.number),
                **{name: extra.get(row.number, {}).get(name) for name in extra_keys},
            }
        )
    return rows


def _ordered(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (SPLITS.index(name.partition("_")[0]), name))


def render_cell(value: Any) -> str:
    """A config value as the cell that `parse_rendered` reads back: texts as they are unless they
    are JSON."""
    if isinstance(value, str) and value and parse_rendered(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def parse_rendered(cell: str) -> Any:
    """The value of a config cell that export wrote."""
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell


def _list_columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names in all rows, the config keys together before `best_epoch`."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    config, others = (
        [name for name in names if "." in name],
        [name for name in names if "." not in name],
    )
    place = others.index("best_epoch") if others else 0
    return [*others[:place], *config, *others[place:]]


def _to_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(
        text, lineterminator="\r\n"
    )  # only what is in the line's end is quoted, and a memo may have both
    columns = _list_columns(rows)
    if rows:
        writer.writerow([MARK, *columns])
    for row in rows:
        cells = [
            (render_cell if "." in name else _plain)(row[name]) if name in row else ""
            for name in columns
        ]
        writer.writerow([FORMAT, *cells])
    return text.getvalue()


def _to_json(rows: list[dict[str, Any]]) -> str:
    return json.dumps([{MARK: FORMAT, **row} for row in rows], indent=1, ensure_ascii=False) + "\n"


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _to_markdown(rows: list[dict[str, Any]]) -> str:
    """For people: what is unknown everywhere, the packed answers and the fingerprints are left out."""
    from tracker.core.markdown import escape, render_table

    hidden = {*PRINTS, "answers", "run_uid", "host", "config_diff"}
    names = [
        n
        for n in _list_columns(rows)
        if n not in hidden and any(row.get(n) is not None for row in rows)
    ]
    cells = [[escape(_for_people(row.get(name))) for name in names] for row in rows]
    return render_table([escape(name) for name in names], cells)


def _for_people(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else _plain(value)
