"""Read the curves in other programs' logs: TensorBoard events, tables, trainer_state.json."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracker.run_folder.points import read_points
from tracker.training.tables import parse_json
from tracker.workflows.own_loop.common_names import common_name, whole_epoch

LOGS = ("metrics.jsonl", "trainer_state.json")
TABLES = (".csv", ".log", ".tsv")
EVENTS = "events.out.tfevents"  # how the names of TensorBoard's files begin
TIMES = ("time", "timestamp", "wall_time")
EARLIEST, LATEST = 1e9, 1 << 37  # seconds since 1970: 2001 and 6325
STEP_COLUMNS = ("step", "global_step", "iteration", "iter")
HEAD_LIMIT = 100_000  # characters of a table's first line: a file without lines is no table
EXACT = 1 << 53  # larger floats are not exact whole numbers, so no epochs or steps


@dataclass
class Series:
    """One metric as it was logged: {step: value}, and {step: epoch} where the log has it."""

    name: str
    values: dict[int, float]
    epochs: dict[int, int] = field(default_factory=dict)

    def divided_by_100(self) -> Series:
        """Percentages as fractions."""
        fractions = {step: value / 100 for step, value in self.values.items()}
        return Series(self.name, fractions, self.epochs)


def read_series(files: Sequence[Path], root: Path) -> list[Series]:
    """Every curve in these files below `root`.

    When several kinds of logs have a metric, the first kind counts.
    """
    series: list[Series] = []
    for read in (_read_run_folders, _read_trainer_states, _read_events, _read_tables):
        known = {one.name for one in series} | {common_name(one.name) for one in series}
        for one in read(files, root):
            if one.name not in known and common_name(one.name) not in known:
                series.append(one)
    return series


def has_curves(path: Path) -> bool:
    """Whether it is a file that `read_series` reads."""
    is_table = path.suffix.lower() in TABLES
    return path.name.startswith(EVENTS) or path.name in LOGS or is_table


def _read_run_folders(files: Sequence[Path], root: Path) -> list[Series]:
    """The points of a run folder of this program, from another workspace."""
    path = next((path for path in files if path.name == "metrics.jsonl"), None)
    if path is None:
        return []
    return _collect((point["step"], point["epoch"], point["values"]) for point in read_points(path))


def _read_trainer_states(files: Sequence[Path], root: Path) -> list[Series]:
    """The log of Hugging Face's Trainer: the longest trainer_state.json has all of it."""
    longest: list[Any] = []
    for path in files:
        if path.name == "trainer_state.json":
            try:
                history = parse_json(path.read_text(encoding="utf-8"))["log_history"]
            except (OSError, ValueError, TypeError, KeyError):
                continue
            longest = max(longest, history if isinstance(history, list) else [], key=len)
    rows = []
    for row in longest:
        if isinstance(row, dict) and _are_numbers(row.get("step"), row.get("epoch")):
            values = _read_numbers(row, ignored=("step", "epoch"))
            rows.append((int(row["step"]), whole_epoch(row["epoch"]), values))
    series = _collect(rows)
    for one in series:
        # loss, learning_rate and grad_norm are of training and have no split there.
        one.name = common_name(one.name, split="train")
    return series


def _read_events(files: Sequence[Path], root: Path) -> list[Series]:
    """Scalars of TensorBoard; a tag that several folders have gets the folder as a prefix."""
    folders = _find_event_folders(files)
    if not folders:
        return []
    scalars_of = {folder: _read_event_folder(folder) for folder in folders}
    tag_counts = Counter(tag for scalars in scalars_of.values() for tag in scalars)
    folder_counts = Counter(folder.name for folder in folders)
    series = []
    for folder, scalars in scalars_of.items():
        is_unique = folder_counts[folder.name] == 1
        prefix = folder.name if is_unique else folder.relative_to(root).as_posix()
        for tag, values in scalars.items():
            full = f"{prefix}/{tag}"
            # The folder may be the split: `accuracy` in val/ is val/accuracy.
            has_split_in_folder = common_name(tag) == tag != common_name(full) != full
            name = full if tag_counts[tag] > 1 or has_split_in_folder else tag
            series.append(Series(name, values))
    return series


def _find_event_folders(files: Sequence[Path]) -> list[Path]:
    return sorted({path.parent for path in files if path.name.startswith(EVENTS)})


def _read_event_folder(folder: Path) -> dict[str, dict[int, float]]:
    """{tag: {step: value}}; tensors of one number are scalars, too."""
    from tensorboard.util.tensor_util import make_ndarray

    scalars: dict[str, dict[int, float]] = {}
    board = _open_board(folder)
    for tag in board.Tags()["scalars"]:
        scalars[tag] = {event.step: event.value for event in board.Scalars(tag)}
    for tag in board.Tags()["tensors"]:
        for event in board.Tensors(tag):
            array = make_ndarray(event.tensor_proto)
            if array.size == 1 and array.dtype.kind in "fiu":
                scalars.setdefault(tag, {})[event.step] = float(array.item())
    return scalars


def _open_board(folder: Path) -> Any:
    """The events of a folder, all of them: without 0 TensorBoard takes a sample."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def read_times(files: Sequence[Path]) -> list[float]:
    """Seconds since 1970 of the points in metrics.jsonl and TensorBoard events.

    In a table, a column called time, timestamp or wall_time counts where its values can be such
    seconds.
    """
    times: list[float] = []
    for path in files:
        if path.name == "metrics.jsonl":
            times += [point["time"] for point in read_points(path)]
        elif path.suffix.lower() in TABLES:
            for row in _read_rows(path):
                numbers = _read_numbers(row)
                times += [numbers[name] for name in TIMES if name in numbers]
    for folder in _find_event_folders(files):
        times += _read_event_times(folder)
    return [time for time in times if EARLIEST < time < LATEST]


def _read_event_times(folder: Path) -> list[float]:
    board = _open_board(folder)
    times: list[float] = []
    for tag in board.Tags()["scalars"]:
        times += [event.wall_time for event in board.Scalars(tag)]
    for tag in board.Tags()["tensors"]:
        times += [event.wall_time for event in board.Tensors(tag)]
    return times


def _read_tables(files: Sequence[Path], root: Path) -> list[Series]:
    """Tables with a row for each epoch or step.

    timm's summary.csv and the CSV loggers of Lightning, Keras and fastai are such tables.
    """
    series: list[Series] = []
    for path in files:
        if path.suffix.lower() not in TABLES:
            continue
        rows = _read_rows(path)
        step = next((name for name in STEP_COLUMNS if rows and name in rows[0]), "")
        if not step and not (rows and "epoch" in rows[0]):
            continue
        of_table = _collect(_number_rows(rows, step))
        # timm's train.py writes percentages.
        if path.name == "summary.csv" and path.with_name("args.yaml") in files:
            of_table = [_timm_fraction(one) for one in of_table]
        known = {one.name for one in series}
        series += [one for one in of_table if one.name not in known]
    return series


def _timm_fraction(one: Series) -> Series:
    return one.divided_by_100() if one.name.endswith(("_top1", "_top5")) else one


def has_points(path: Path) -> bool:
    """Whether a table has rows of epochs or steps."""
    return bool(_read_rows(path))


def _read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table by column; columns of epochs and steps in lower case.

    Empty when it has neither epochs nor steps, or is not a table.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline(HEAD_LIMIT)
            separator = max(",;\t", key=head.count)
            columns = [name.strip() for name in next(csv.reader([head], delimiter=separator), [])]
            counters = {name.lower() for name in columns} & {"epoch", *STEP_COLUMNS}
            if not counters or len(set(columns)) < len(columns):
                return []
            names = [name.lower() if name.lower() in counters else name for name in columns]
            rows = csv.reader(file, delimiter=separator)
            return [dict(zip(names, row, strict=True)) for row in rows if len(row) == len(names)]
    except (OSError, ValueError, csv.Error):
        return []


def _number_rows(
    rows: Sequence[Mapping[str, str]], step_column: str
) -> list[tuple[int, int, dict[str, float]]]:
    """(step, epoch, values) of table rows: epochs from 1, and 0 where there is no such column."""
    numbers = [_read_numbers(row) for row in rows]
    epoch_of = count_from_one([row["epoch"] for row in numbers if "epoch" in row])
    numbered = []
    for row in numbers:
        epoch = epoch_of.get(row.pop("epoch", math.nan), 0)
        step = row.pop(step_column, math.nan) if step_column else math.nan
        if epoch or not math.isnan(step):
            numbered.append((epoch if math.isnan(step) else int(step), epoch, row))
    return numbered


def count_from_one(epochs: Iterable[float]) -> dict[float, int]:
    """{epoch as logged: epoch counted from 1}; fractions are rounded up, 0.5 to epoch 1."""
    values = set(epochs)
    if any(value != int(value) for value in values):
        return {value: whole_epoch(value) for value in values}
    offset = 1 if min(values, default=1) == 0 else 0
    return {value: int(value) + offset for value in values}


def _read_numbers(row: Mapping[str, Any], *, ignored: Sequence[str] = ()) -> dict[str, float]:
    """The cells that are numbers; others may be empty, texts or dates."""
    numbers: dict[str, float] = {}
    for name, value in row.items():
        if not name or name in ignored or value is None or isinstance(value, bool):
            continue
        try:
            number = float(value)
        except (ValueError, TypeError, OverflowError):
            continue
        if name not in ("epoch", *STEP_COLUMNS) or abs(number) < EXACT:
            numbers[name] = number
    return numbers


def _are_numbers(*values: Any) -> bool:
    return all(
        isinstance(value, int | float) and -EXACT < value < EXACT  # false for nan
        for value in values
    )


def _collect(rows: Iterable[tuple[int, int, Mapping[str, float]]]) -> list[Series]:
    """The series of (step, epoch, values); epoch 0 means unknown."""
    by_name: dict[str, Series] = {}
    for step, epoch, values in rows:
        for name, value in values.items():
            one = by_name.setdefault(name, Series(name, {}))
            one.values[step] = value
            if epoch:
                one.epochs[step] = epoch
    return list(by_name.values())
