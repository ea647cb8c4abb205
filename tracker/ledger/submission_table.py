"""Imports and exports tables of submissions: CSV and JSON both ways, Markdown out.

A row is flat: `number`, `memo`, `<split>_<metric>`, `train_` and `val_` metrics, and `section.key`
columns for the config. Other columns are stored with the row. An empty cell means unknown.

Cells that people typed are interpreted (81.65 is a percentage, `1,2` a list). Rows that export
wrote have the column `MARK`, and their cells are read exactly. In JSON they also have what the
ledger knows beside the row: exported_rows.py.
"""

from __future__ import annotations

import csv
import io
import json
import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from tracker.core.errors import TrackerError
from tracker.core.markdown import escape, render_table
from tracker.core.text import join_numbers
from tracker.ledger.columns import list_added_columns
from tracker.ledger.connection import one_moment, open_reader, parse_column, read_rows
from tracker.ledger.exported_rows import (
    KEYS,
    OTHERS,
    ROWS_PER_PART,
    SEQ,
    RowsBeside,
    find_contradiction,
    parse_rows_beside,
)
from tracker.ledger.historical import (
    COLUMN_PARSERS,
    FINGERPRINT_COLUMNS,
    METRIC_COLUMNS,
    HistoricalSubmission,
    check_value,
    parse_diff,
    parse_integer,
    parse_packed_answers,
)
from tracker.ledger.read import (
    iterate_configs,
    iterate_submissions,
    list_imported_columns,
    list_packed_answers,
    list_submissions,
)
from tracker.ledger.records import Submission
from tracker.training.errors import ConfigError, DataError
from tracker.training.files import atomic_path, check_regular
from tracker.training.metrics import METRICS, has_spelling, list_spellings
from tracker.training.numbers import render_count
from tracker.training.scorers import Parameters
from tracker.training.tables import flatten, parse_json, parse_toml_value
from tracker.workspace.metrics import find_declared
from tracker.workspace.predictions import load_answers
from tracker.workspace.tracker_toml import Competition, Metric, Workspace, build_metric, parse_score

MARK, FORMAT = "tracker_export", "1"
CONFIGS = 1000  # different ones that are kept as cells
MOST_PLACES = 4  # rows with the same problem that are named; of more there is the count
MOST_NAMED = 12  # config keys in a summary; a table that is kept by hand has fewer
SPLITS = ("public", "private", "overall")
FIGURE_SPLITS = ("train", "val")
FIGURE_METRICS = {
    name: build_metric(METRICS[name]) if name in METRICS else Metric(name=name)
    for name in dict.fromkeys(column.partition("_")[2] for column in METRIC_COLUMNS)
}
REFUSALS = (TrackerError, ValueError, TypeError, ArithmeticError, RecursionError, OSError)


@dataclass(frozen=True)
class SubmissionTable:
    """A whole table that can be imported."""

    path: Path
    rows: Sequence[HistoricalSubmission]
    config_keys: Sequence[str]
    extra_keys: Sequence[str]
    figures: Sequence[str] = ()  # those of extra_keys that are metrics of the competition
    nameless: Sequence[int] = ()  # columns of a CSV that are not read, as they have no name


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export wrote: how many submissions, and what it `left_out` ("2 notes"), or "".

    `hidden_columns` is how many columns a table for people does without.
    """

    count: int
    left_out: str
    hidden_columns: int = 0


# --- Import ---


def read_submission_table(path: Path, competition: Competition) -> SubmissionTable:
    """Read a table.

    Raises ConfigError with every wrong cell, DataError when the file cannot be read.
    """
    problems: list[str] = []
    repeated: dict[str, list[int]] = {}  # a problem of cells, and where it is
    cells = _read_cells(path)
    if not cells:
        raise ConfigError(
            f"{path}: the table has no rows",
            hint="the first line has the names of the columns, each other line is a submission",
        )
    rows = []
    # the line number in a CSV, whose first line has the names; JSON has submissions without lines
    is_json = path.suffix.lower() == ".json"
    for line, row_cells in enumerate(cells, start=2):
        row, wrong = _read_row(line - 1, row_cells, competition, path.parent)
        for problem in wrong:
            repeated.setdefault(problem, []).append(row.number if is_json else line)
        rows.append(row)
    noun = "submission" if is_json else "row"
    problems += [f"{_name_places(places, noun)}, {text}" for text, places in repeated.items()]
    numbers = [row.number for row in rows]
    seqs = [row.seq for row in rows if row.seq is not None]
    for name, increasing in (("number", numbers), (SEQ, seqs)):
        if increasing != sorted(set(increasing)):
            problems.append(f"{name}: must increase from row to row")
    for line, row in enumerate(rows, start=2):
        place = _name_places([row.number if is_json else line], noun)
        sota = row.columns.get("sota")
        if sota is None:
            continue
        is_missing = sota >= numbers[0] and sota not in numbers
        if sota >= row.number or is_missing:
            problems.append(f"{place}, sota: {sota}, expected the number of an earlier submission")
    if problems:
        raise ConfigError(
            f"{render_count(len(problems), 'problem')} in {path}:",
            problems=problems,
            hint=_suggest_metrics(cells, competition),
        )
    return _build_table(path, rows, competition)


def _name_places(places: Sequence[int], noun: str) -> str:
    """`row 2`, `rows 2 and 3`, `11 rows`."""
    if len(places) > MOST_PLACES:
        return render_count(len(places), noun)
    return join_numbers(places, noun)


def _suggest_metrics(cells: Iterable[Mapping[str, Any]], competition: Competition) -> str:
    """How to go on where the table has scores of metrics that the competition does not have."""
    unknown: dict[str, None] = {}
    for row in cells:
        for column in row:
            split, _, text = column.partition("_")
            name = text if row.get(MARK) else _find_name(text, split, competition)
            if split in SPLITS and text and all(name != one.name for one in competition.metrics):
                unknown[name] = None
    if not unknown:
        return ""
    options = " ".join(f"--metric {shlex.quote(name)}" for name in unknown)
    return (
        f"add {', '.join(unknown)} to tracker.toml as [[competition.metrics]], or import into a"
        f" workspace that has them: tracker init DIR {options}"
    )


def _build_table(
    path: Path, rows: Sequence[HistoricalSubmission], competition: Competition
) -> SubmissionTable:
    config_keys = list(dict.fromkeys(key for row in rows for key in flatten(row.config)))
    extra_keys = list(dict.fromkeys(key for row in rows for key in row.extra))
    names = [f"{split}_{m.name}" for split in FIGURE_SPLITS for m in competition.metrics]
    figures = [name for name in extra_keys if name in names]
    return SubmissionTable(path, rows, config_keys, extra_keys, figures, _list_nameless(path))


def _list_nameless(path: Path) -> list[int]:
    """The columns of a CSV, 1 the first, that have cells and no name."""
    if path.suffix.lower() == ".json":
        return []
    text = path.read_bytes().decode("utf-8-sig")
    names, *rows = csv.reader(io.StringIO(text, newline=""))
    filled = {place for row in rows for place, cell in enumerate(row) if cell.strip()}
    return [place + 1 for place in sorted(filled) if not "".join(names[place : place + 1]).strip()]


def _read_cells(path: Path) -> list[dict[str, Any]]:
    try:
        check_regular(path)
        text = path.read_bytes().decode("utf-8-sig")
        if path.suffix.lower() == ".json":
            rows = parse_json(text)
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise DataError(f"{path}: expected a list of objects")
            return list(map(_read_json_row, rows))
        return _read_csv_rows(text)
    except FileNotFoundError:
        raise DataError(f"no such file: {path}") from None
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _read_json_row(row: dict[str, Any]) -> dict[str, Any]:
    if row.get(MARK):
        return row
    return {name.strip(): cell for name, cell in row.items()}


def _read_csv_rows(text: str) -> list[dict[str, Any]]:
    """The rows of a CSV; raises ValueError where a cell has no column of its own to be kept in."""
    return [_read_csv_row(cells) for cells in _iterate_csv(io.StringIO(text, newline=""))]


def _iterate_csv(lines: Iterable[str]) -> Iterator[dict[Any, Any]]:
    reader = csv.DictReader(lines, restval="")
    names = [*(reader.fieldnames or ())]
    if MARK not in names:  # what people typed; export's names are exact
        names = [name.strip() for name in names]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise ValueError(f"two columns are called {twice[0]!r}: rename one of them")
    for line, row in enumerate(reader, start=2):
        cells: dict[Any, Any] = dict(row)
        if beyond := [cell for cell in cells.pop(None, ()) if cell.strip()]:
            raise ValueError(
                f"row {line} has more cells than columns ({beyond[0].strip()!r}): write a text with"
                " commas in it in double quotes"
            )
        yield cells


def _read_csv_row(row: dict[str, Any]) -> dict[str, Any]:
    """The row in the form of a row from JSON."""
    named = {name: cell for name, cell in row.items() if name and name.strip()}
    if not named.get(MARK):
        return {name.strip(): cell.strip() or None for name, cell in named.items()}
    cells: dict[str, Any] = {}
    for name, cell in named.items():
        if "." not in name:
            cells[name] = cell or None
        elif cell:  # an empty cell: this row's config does not have the key
            cells[name] = parse_rendered(cell)
    return cells


def _read_row(
    number: int, cells: Mapping[str, Any], competition: Competition, folder: Path
) -> tuple[HistoricalSubmission, list[str]]:
    """(row, its problems); each problem begins with the name of its column.

    `number` is used if the row has no number of its own.
    """
    row = HistoricalSubmission(number=number, memo="", derived="sota" not in cells)
    exact = bool(cells.get(MARK))
    problems = []
    if exact and str(cells[MARK]) != FORMAT:
        problems.append(f"{MARK}: {cells[MARK]!r}, this program knows only {FORMAT}")
    for name, cell in cells.items():
        if name == MARK or _is_unknown(name, cell, exact=exact):
            continue
        if exact and name in KEYS:
            continue
        try:
            _take(row, name, cell, competition, exact=exact)
        except REFUSALS as error:
            problems.append(f"{ascii(name)[1:-1]}: {error or type(error).__name__}")
    try:
        _settle_predictions(row, competition, None if exact else folder)
    except REFUSALS as error:
        column = "answers" if "answers" in row.columns else "file"
        problems.append(f"{column}: {error}")
    if exact:
        try:
            row.seq, row.beside = parse_rows_beside(cells, row.number)
            problems += filter(None, [find_contradiction(row.beside, cells)])
        except REFUSALS as error:
            problems.append(str(error))
    if not row.memo.strip():
        problems.append("memo: missing, expected what was new")
    return row, problems


def _is_unknown(name: str, cell: Any, *, exact: bool) -> bool:
    """Whether a cell is empty; an exported config value may be None or an empty text."""
    is_config = "." in name
    if cell is None:
        return not (exact and is_config)
    return bool(cell == "") and not is_config


def _take(
    row: HistoricalSubmission, name: str, cell: Any, competition: Competition, *, exact: bool
) -> None:
    """Store one cell in the part of the row where it belongs; raises one of REFUSALS."""
    check_value(name)
    split, _, rest = name.partition("_")
    metric = rest if exact else _find_name(rest, split, competition)
    if f"{split}_{metric}" in METRIC_COLUMNS:
        row.columns[f"{split}_{metric}"] = _read_figure(FIGURE_METRICS[metric], cell, exact=exact)
        return
    is_config = "." in name or name == "config_diff"
    check_value(cell, finite=not (exact and is_config))
    if name == "number":
        row.number = parse_integer(cell, 1)
    elif name == "memo":
        row.memo = str(cell) if exact else str(cell).strip()
    elif name == "config_diff":
        row.columns[name] = parse_diff(cell, finite=not exact)
    elif name in COLUMN_PARSERS:
        row.columns[name] = COLUMN_PARSERS[name](cell)
    elif "." in name:
        value = parse_cell(cell) if isinstance(cell, str) and not exact else cell
        _take_config(row.config, name, value, finite=not exact)
    elif split in FIGURE_SPLITS and not exact and (own := find_declared(competition, rest)):
        _keep_figure(row, f"{split}_{own.name}", parse_score(own, str(cell)))
    elif split in SPLITS and rest:
        known = competition.metric(metric)
        if (split, metric) in row.scores:
            raise ConfigError(f"a second column with the {split} {metric}, expected one")
        row.scores[split, metric] = _read_score(cell) if exact else parse_score(known, str(cell))
    else:
        row.extra[name] = str(cell)


def _find_name(text: str, split: str, competition: Competition) -> str:
    """The name here of a metric in a column's name: of a ledger column, or a declared one."""
    if f"{split}_{text}" in METRIC_COLUMNS:
        return text
    declared = find_declared(competition, text)
    if declared is not None:
        return declared.name
    usual = [
        metric.name
        for metric in METRICS.values()
        if has_spelling(text, list_spellings(metric.name, metric.kind, Parameters()))
    ]
    return usual[0] if usual and split in FIGURE_SPLITS else text


def _keep_figure(row: HistoricalSubmission, name: str, value: float) -> None:
    """A figure that the ledger has no column for, under the name of the competition's metric."""
    if name in row.extra:
        raise ConfigError(f"a second column with {name}, expected one")
    row.extra[name] = repr(value)


def _take_config(config: dict[str, dict[str, Any]], name: str, value: Any, *, finite: bool) -> None:
    section, _, key = name.partition(".")
    check_value(value, finite=finite)
    table = config.setdefault(section, {})
    if key:
        table[key] = value


def _read_figure(metric: Metric, cell: Any, *, exact: bool) -> float | None:
    if not exact:
        return parse_score(metric, str(cell))
    value = float(str(cell))
    # SQLite stores NaN as NULL: the row would not have its hash any more
    return None if math.isnan(value) else value


def _read_score(cell: Any) -> float:
    value = float(str(cell))
    if not math.isfinite(value):
        raise ConfigError(f"{cell}: expected a finite number")
    return value


def _settle_predictions(
    row: HistoricalSubmission, competition: Competition, folder: Path | None
) -> None:
    """Compute the fingerprint of the answers, from the row or its file; raises one of REFUSALS."""
    packed, file = row.columns.get("answers"), row.columns.get("file")
    if packed:
        fingerprint = parse_packed_answers(packed).fingerprint
    elif file and folder and (folder / file).is_file():
        answers = load_answers(folder / file, competition)
        row.columns["answers"], fingerprint = answers.pack(), answers.fingerprint
    else:
        return
    stated = row.columns.setdefault("predictions_fingerprint", fingerprint)
    if stated != fingerprint:
        raise ConfigError(
            f"the fingerprint is {fingerprint}, but predictions_fingerprint is {stated}"
        )


def parse_cell(text: str) -> Any:
    """A config value from a typed cell: a TOML value, numbers with commas, or a plain text."""
    if "," in text and not text.startswith(("[", '"', "'")):
        parts = [parse_cell(part.strip()) for part in text.split(",")]
        if all(isinstance(part, int | float) and not isinstance(part, bool) for part in parts):
            return parts
        return text
    return parse_toml_value(text)


def import_table(workspace: Workspace, table: SubmissionTable) -> int:
    """Add all rows in one transaction; returns how many.

    Raises DuplicateError or RefusedError; then nothing was added.
    """
    from tracker.ledger.append import open_ledger

    with open_ledger(workspace) as ledger:
        ledger.append_historical(table.rows, workspace.competition)
    return len(table.rows)


def describe_interrupted_import(workspace: Workspace, table: SubmissionTable) -> tuple[str, str]:
    """Whether the ledger has the rows of a table after Ctrl-C, all or none, and what to do next.

    Raises LedgerError.
    """
    known = {(row.number, row.memo) for row in list_submissions(workspace)}
    if {(row.number, row.memo) for row in table.rows} <= known:
        count = render_count(len(table.rows), "submission")
        are = "is" if len(table.rows) == 1 else "are"
        return f", but {count} {are} added", "tracker leaderboard"
    return ": nothing was added", ""


def try_import(workspace: Workspace, table: SubmissionTable) -> None:
    """Raise what `import_table` would raise; add nothing."""
    from tracker.ledger.append import open_ledger

    with open_ledger(workspace) as ledger:
        ledger.append_historical(table.rows, workspace.competition, keep=False)


def render_summary(table: SubmissionTable) -> str:
    """How the table was understood, in lines for the user to check."""
    rows = table.rows
    scores: set[str] = set()
    columns: dict[str, None] = {}
    for row in rows:
        scores.update(f"{split}_{metric}" for split, metric in row.scores)
        columns |= dict.fromkeys(row.columns)
    extra = [name for name in table.extra_keys if name not in table.figures]
    metrics = [name for name in columns if name in METRIC_COLUMNS] + list(table.figures)
    known = sum("predictions_fingerprint" in row.columns for row in rows)
    count = render_count(len(rows), "submission")
    lines = [
        f"{table.path}: {count}, {rows[0].number} to {rows[-1].number}",
        f"scores: {', '.join(sorted(scores)) or 'none'}",
        f"training and validation: {', '.join(metrics) or 'none'}",
        f"config keys: {_name_some(table.config_keys) or 'none'}",
        f"stored with the rows: {', '.join(extra) or 'nothing'}",
        f"predictions known: {known} of {len(rows)}",
    ]
    if table.nameless:
        lines.append(f"not read, without a name: column {', '.join(map(str, table.nameless))}")
    return "\n".join(lines)


def _name_some(names: Sequence[str]) -> str:
    """Names with commas; of the eighty keys of an export only the first and their number."""
    if len(names) <= MOST_NAMED:
        return ", ".join(names)
    return f"{', '.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED} more"


# --- Export ---


def export_table(
    workspace: Workspace,
    path: Path,
    *,
    validation: Mapping[int, Mapping[str, str]] | None = None,
    every_column: bool = False,
    force: bool = False,
) -> Exported:
    """Write all submissions to a .csv, .json or .md file; JSON has the rest of the ledger as well.

    `validation` has further columns by number: how the submissions validated, which the run folders
    know and the ledger does not. A .md file has the columns that people read, or `every_column`.
    Raises ConfigError for another kind of file, and without `force` for one that is there and is no
    earlier export of this ledger; StorageError when it cannot be written.
    """
    kind = path.suffix.lower()
    with one_moment(workspace.ledger_url), open_reader(workspace.ledger_url) as query:
        if kind not in (".csv", ".json", ".md"):
            raise ConfigError(
                f"{path}: unknown kind of file", hint="end its name with .csv, .json or .md"
            )
        known = query("SELECT number, memo FROM submissions ORDER BY number", {})
        if not force and path.is_file() and not _is_earlier_export(path, known):
            raise ConfigError(
                f"{path} already exists, and is no export of this ledger",
                hint="--force replaces it, or give another name",
            )
        beside, hidden = RowsBeside(query), 0
        rows = _FlatRows(workspace, validation)
        with (
            atomic_path(path) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            if kind == ".csv":
                _write_csv(file, rows)
            elif kind == ".json":
                _write_json(file, rows, beside)
            else:
                hidden = _write_markdown(file, [flat for _, flat in rows], every=every_column)
        is_whole = kind == ".json" and bool(known)
        return Exported(
            count=len(known),
            left_out="" if is_whole else beside.render_left_out(),
            hidden_columns=hidden,
        )


def _is_earlier_export(path: Path, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether export wrote a file, of submissions that this ledger has: replacing it loses nothing.

    A submission keeps its number and its memo for good.
    """
    try:
        if path.stat().st_size <= len("[]\n"):  # of a ledger without submissions
            return path.read_bytes().strip() in (b"", b"[]")
        if path.suffix.lower() == ".md":
            return _is_earlier_markdown(path.read_text(encoding="utf-8"), rows)
        written = _read_written(path)
    except (TrackerError, OSError, ValueError, RecursionError, csv.Error):
        return False
    # a table without a row is somebody's beginning
    return bool(written) and written <= {
        (FORMAT, str(row["number"]), str(row["memo"] or "")) for row in rows
    }


def _read_written(path: Path) -> set[tuple[str, ...]]:
    """The mark, the number and the memo of each row; of a CSV one row is in memory at a time."""
    with ExitStack() as stack:
        rows: Iterable[dict[str, Any]]
        if path.suffix.lower() == ".json":
            rows = _read_cells(path)
        else:
            rows = _iterate_csv(stack.enter_context(path.open(encoding="utf-8-sig", newline="")))
        names = (MARK, "number", "memo")
        return {tuple(str(row.get(name) or "") for name in names) for row in rows}


def _is_earlier_markdown(text: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether each line of a table begins with the number of a submission and has its memo."""
    header, *lines = text.splitlines()
    memos = {str(row["number"]): f"| {escape(row['memo'])} |" for row in rows}
    numbers = [line.split(" | ")[0].removeprefix("| ") for line in lines[1:]]
    return header.startswith("| number |") and all(
        number in memos and memos[number] in line
        for number, line in zip(numbers, lines[1:], strict=True)
    )


def list_flat(
    workspace: Workspace, *, validation: Mapping[int, Mapping[str, str]] | None = None
) -> list[dict[str, Any]]:
    """Every submission as one flat object, with the columns of `validation` by number.

    Unknown values are None; config keys that a submission does not have are left out.
    """
    with one_moment(workspace.ledger_url):
        return [flat for _, flat in _FlatRows(workspace, validation)]


class _FlatRows:
    """(config, flat object) of each submission, some in memory at a time; read anew by each loop.

    `names` are the keys of all objects without those of the configs.
    """

    def __init__(
        self, workspace: Workspace, validation: Mapping[int, Mapping[str, str]] | None
    ) -> None:
        self.workspace = workspace
        self._extra = {number: {**columns} for number, columns in (validation or {}).items()}
        for number, columns in list_imported_columns(workspace).items():
            self._extra[number] = {**self._extra.get(number, {}), **columns}
        scored = read_rows(workspace.ledger_url, "SELECT DISTINCT split, metric FROM scores")
        self._scores = _ordered(f"{row['split']}_{row['metric']}" for row in scored)
        extra_keys = dict.fromkeys(key for columns in self._extra.values() for key in columns)
        self._extra_keys = [*extra_keys]
        before, after = ("number", "run", "memo"), ("best_epoch", "sota", "config_diff", "run_uid")
        last = ("author", "host", "submitted_at", "file", *list_added_columns("submissions"))
        self._before, self._after = before, (*after, *FINGERPRINT_COLUMNS, *last)
        names = [*before, *self._scores, *METRIC_COLUMNS, *self._after, "answers", *extra_keys]
        self.names = [*dict.fromkeys(names)]

    def __iter__(self) -> Iterator[tuple[Mapping[str, Any], dict[str, Any]]]:
        submissions = iterate_submissions(self.workspace)
        while part := [*islice(submissions, ROWS_PER_PART)]:
            packed = list_packed_answers(self.workspace, [row.number for row in part])
            answers = {number: text for number, _, text in packed}
            for row in part:
                yield row.config, self._flatten(row, answers.get(row.number))

    def _flatten(self, row: Submission, answers: str | None) -> dict[str, Any]:
        own_extra = self._extra.get(row.number, {})
        flat = {name: getattr(row, name) for name in self._before}
        flat |= {name: row.scores.get(name) for name in self._scores}
        flat |= {name: getattr(row, name) for name in METRIC_COLUMNS}
        flat |= _flatten_config(row.config)
        flat |= {name: getattr(row, name) for name in self._after}
        flat["answers"] = answers
        flat |= {name: own_extra.get(name) for name in self._extra_keys}
        return flat


def _flatten_config(config: Mapping[str, Any]) -> dict[str, Any]:
    return flatten(config) | {f"{name}.": {} for name, table in config.items() if not table}


@lru_cache(maxsize=CONFIGS)
def _list_config_names(text: str) -> Sequence[str]:
    return [*_flatten_config(parse_column(text))]


def _ordered(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (SPLITS.index(name.partition("_")[0]), name))


def render_cell(value: Any) -> str:
    """A config value as a cell for `parse_rendered`; a text is plain unless it could be JSON."""
    if isinstance(value, str) and value and parse_rendered(value) == value:
        return value
    return json.dumps(value, ensure_ascii=False)


def parse_rendered(cell: str) -> Any:
    """The value of a config cell that export wrote."""
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell


def _list_columns(rows: Iterable[Iterable[str]]) -> list[str]:
    """The names of all columns; the config keys are together before `best_epoch`."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    config = [name for name in names if "." in name]
    others = [name for name in names if "." not in name]
    index = others.index("best_epoch") if others else 0
    return [*others[:index], *config, *others[index:]]


def _write_csv(file: TextIO, rows: _FlatRows) -> None:
    # csv quotes only characters of the line terminator, and a memo may have \r and \n
    writer = csv.writer(file, lineterminator="\r\n")
    configs: dict[int, tuple[Any, dict[str, str]]] = {}  # by the id, which is its own while kept
    columns: list[str] = []
    for config, flat in rows:
        if not columns:
            every = map(_list_config_names, iterate_configs(rows.workspace))
            columns = _list_columns([flat, *every])
            writer.writerow([MARK, *columns])
        known = configs.get(id(config))
        if known is None:
            if len(configs) >= CONFIGS:
                configs.clear()
            cells = {name: render_cell(value) for name, value in _flatten_config(config).items()}
            known = configs[id(config)] = (config, cells)
        cells = known[1] | {name: _render_csv_cell(flat, name) for name in rows.names}
        writer.writerow([FORMAT, *(cells.get(name, "") for name in columns)])


def _render_csv_cell(row: Mapping[str, Any], name: str) -> str:
    if name not in row:
        return ""
    return render_cell(row[name]) if "." in name else _plain(row[name])


def _write_json(file: TextIO, rows: _FlatRows, beside: RowsBeside) -> None:
    """A list of objects, as `json.dumps` would write it whole."""
    flats, start = (flat for _, flat in rows), "["
    while part := [*islice(flats, ROWS_PER_PART)]:
        for flat, own in zip(part, beside.describe([row["number"] for row in part]), strict=True):
            text = _indent({MARK: FORMAT, **flat, **own}, 1)
            if start == "[":
                file.write(f"{start}\n {text.removesuffix(_END)}")
                _write_others(file, beside)
                file.write(_END)
            else:
                file.write(f"{start}\n {text}")
            start = ","
    file.write("[]\n" if start == "[" else "\n]\n")


def _write_others(file: TextIO, beside: RowsBeside) -> None:
    """The last key of the first object."""
    start = f',\n  "{OTHERS}": ['
    for other in beside.iterate_others():
        file.write(f"{start}\n   {_indent(other, 3)}")
        start = ","
    if start == ",":
        file.write("\n  ]")


_END = "\n }"  # of an object in the list


def _indent(value: Any, depth: int) -> str:
    """A value as JSON at a depth of lists and objects."""
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return text.replace("\n", "\n" + " " * depth)


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _list_for_people(rows: Sequence[Mapping[str, Any]], *, every: bool) -> list[str]:
    """The columns of a table for people: without packed answers, fingerprints, how a row validated,
    and empty columns.

    Without `every` also without figures of training, files, and config keys that do not differ.
    """
    hidden = {*FINGERPRINT_COLUMNS, "answers", "run_uid", "host", "config_diff"}
    hidden |= {"validation_images", "validation_scheme"}
    if not every:
        hidden |= {name for name in METRIC_COLUMNS if name.startswith("train_")}
        hidden |= {"file", *list_added_columns("submissions")}
    values: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row.items():
            if value is not None:
                values.setdefault(name, set()).add(_plain(value))
    names = []
    for name in _list_columns(rows):
        is_equal = "." in name and len(values.get(name, ())) < 2
        if name in values and name not in hidden and (every or not is_equal):
            names.append(name)
    return names


def _write_markdown(file: TextIO, rows: Sequence[dict[str, Any]], *, every: bool) -> int:
    """Write a table for people; returns how many columns they do without."""
    names, cells = _list_for_people(rows, every=every), []
    for row in rows:
        cells.append([escape(_for_people(row.get(name))) for name in names])
    file.write(render_table([escape(name) for name in names], cells))
    return 0 if every else len(_list_for_people(rows, every=True)) - len(names)


def _for_people(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else _plain(value)
