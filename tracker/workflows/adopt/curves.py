"""Curves that other programs left: TensorBoard events, tables, logs; with this program's names, and
epochs from 1.

What a log does not say is inferred in a fixed order, and told: where an epoch ends, whether an
accuracy is in percent.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracker.core.metric_names import check_name, fit_name
from tracker.runs.points import read_points
from tracker.training import metrics as computed
from tracker.training.errors import ConfigError
from tracker.training.tables import parse_json
from tracker.workflows.own_loop.common_names import METRICS, common_name, whole_epoch

LOGS = ("metrics.jsonl", "trainer_state.json")
TABLES = (".csv", ".log", ".tsv")
TIMES = ("time", "timestamp", "wall_time")
EARLIEST, LATEST = 1e9, 1 << 37  # seconds since 1970: 2001 and 6325
STEP_COLUMNS = ("step", "global_step", "iteration", "iter")
# Metrics between 0 and 1.
SHARES = (
    "auc",
    "precision",
    "recall",
    "top5",
    *(m.name for m in computed.METRICS.values() if (m.low, m.high) == (0, 1)),
)
LARGEST_SHARE = 1.5  # more is a percentage
Point = tuple[dict[str, float], int, int]  # values, step, epoch
EPOCHS_UNKNOWN = (
    "nothing says where an epoch ends: the points have none (log a metric called epoch beside the"
    " others)"
)


@dataclass
class Series:
    """One metric as it was logged: {step: value}, and {step: epoch} where the log says it."""

    name: str
    values: dict[int, float]
    epochs: dict[int, int] = field(default_factory=dict)


# --- Reading
# ----------------------------------------------------------------------------------------------------------


def read_series(files: Sequence[Path], root: Path) -> list[Series]:
    """Every curve in these files below `root`; of a name that several kinds of logs have, the first
    kind's."""
    found: list[Series] = []
    for read in (_read_run_folders, _read_trainer_states, _read_events, _read_tables):
        known = {one.name for one in found} | {common_name(one.name) for one in found}
        series = read(files, root)
        found += [
            one for one in series if one.name not in known and common_name(one.name) not in known
        ]
    return found


def _read_run_folders(files: Sequence[Path], root: Path) -> list[Series]:
    """The points of a run folder of this program, from another workspace."""
    path = next((path for path in files if path.name == "metrics.jsonl"), None)
    rows = (
        [(point["step"], point["epoch"], point["values"]) for point in read_points(path)]
        if path
        else []
    )
    return _collect(rows)


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
    entries = [
        row
        for row in longest
        if isinstance(row, dict) and _is_number(row.get("step"), row.get("epoch"))
    ]
    rows = [
        (int(row["step"]), whole_epoch(row["epoch"]), _numbers(row, ("step", "epoch")))
        for row in entries
    ]
    series = _collect(rows)
    for one in series:
        one.name = common_name(
            one.name, split="train"
        )  # loss, learning_rate and grad_norm have no split there
    return series


def _read_events(files: Sequence[Path], root: Path) -> list[Series]:
    """Scalars of TensorBoard event files; a tag that several folders have gets the folder before
    it."""
    folders = sorted({path.parent for path in files if path.name.startswith("events.out.tfevents")})
    if not folders:
        return []
    read = [(folder, _read_event_folder(folder)) for folder in folders]
    owners = Counter(tag for _, scalars in read for tag in scalars)
    found = []
    for folder, scalars in read:
        place = folder.relative_to(root).as_posix()
        prefix = folder.name if sum(one.name == folder.name for one in folders) == 1 else place
        for tag, values in scalars.items():
            named = f"{prefix}/{tag}"
            foreign = owners[tag] > 1 or common_name(tag) == tag != common_name(named) != named
            found.append(Series(named if foreign else tag, values))
    return found


def read_times(files: Sequence[Path]) -> list[float]:
    """Seconds since 1970 of the points in metrics.jsonl and TensorBoard events; tables rarely have
    any.

    A column called time, timestamp or wall_time counts where its values can be such seconds.
    """
    times: list[float] = []
    for path in files:
        if path.name == "metrics.jsonl":
            times += [point["time"] for point in read_points(path)]
        elif path.suffix.lower() in TABLES:
            rows = [_numbers(row, ()) for row in _read_rows(path)]
            times += [row[name] for row in rows for name in TIMES if name in row]
    for folder in sorted(
        {path.parent for path in files if path.name.startswith("events.out.tfevents")}
    ):
        times += _read_event_times(folder)
    return [at for at in times if EARLIEST < at < LATEST]


def _read_event_times(folder: Path) -> list[float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    scalars = [event.wall_time for tag in board.Tags()["scalars"] for event in board.Scalars(tag)]
    return scalars + [
        event.wall_time for tag in board.Tags()["tensors"] for event in board.Tensors(tag)
    ]


def _read_event_folder(folder: Path) -> dict[str, dict[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    scalars: dict[str, dict[int, float]] = {}
    board = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    for tag in board.Tags()["scalars"]:
        scalars[tag] = {event.step: event.value for event in board.Scalars(tag)}
    for tag in board.Tags()["tensors"]:
        for event in board.Tensors(tag):
            array = make_ndarray(event.tensor_proto)
            if array.size == 1 and array.dtype.kind in "fiu":
                scalars.setdefault(tag, {})[event.step] = float(array.item())
    return scalars


def _read_tables(files: Sequence[Path], root: Path) -> list[Series]:
    """Tables with a row an epoch or step: timm's summary.csv, the CSV loggers of Lightning, Keras
    and fastai."""
    found: list[Series] = []
    for path in files:
        if path.suffix.lower() not in TABLES:
            continue
        rows = _read_rows(path)
        step = next((name for name in STEP_COLUMNS if rows and name in rows[0]), "")
        if not step and not (rows and "epoch" in rows[0]):
            continue
        series = _collect(_number_rows(rows, step))
        if path.name == "summary.csv" and path.with_name("args.yaml") in files:
            series = [
                _as_share(one) if one.name.endswith(("_top1", "_top5")) else one for one in series
            ]  # timm
        known = {one.name for one in found}
        found += [one for one in series if one.name not in known]
    return found


def has_points(path: Path) -> bool:
    """Whether a table has rows of epochs or steps."""
    return bool(_read_rows(path))


def _read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table by lower-case column; none where it has neither epochs nor steps, or is
    no table."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline(100_000)
            separator = max(",;\t", key=head.count)
            columns = [name.strip() for name in next(csv.reader([head], delimiter=separator), [])]
            marks = {name.lower() for name in columns} & {"epoch", *STEP_COLUMNS}
            if not marks or len(set(columns)) < len(columns):
                return []
            names = [name.lower() if name.lower() in marks else name for name in columns]
            return [
                dict(zip(names, row, strict=False))
                for row in csv.reader(file, delimiter=separator)
                if len(row) == len(names)
            ]
    except (OSError, ValueError, csv.Error):
        return []


def _number_rows(
    rows: Sequence[Mapping[str, str]], step: str
) -> list[tuple[int, int, dict[str, float]]]:
    """(step, epoch, values) of table rows: epochs from 1, and 0 where there is no such column."""
    numbers = [_numbers(row, ()) for row in rows]
    epochs = count_from_one([row["epoch"] for row in numbers if "epoch" in row])
    found = []
    for row in numbers:
        epoch = epochs.get(row.pop("epoch", math.nan), 0)
        at = row.pop(step, math.nan) if step else math.nan
        if epoch or not math.isnan(at):
            found.append((epoch if math.isnan(at) else int(at), epoch, row))
    return found


def count_from_one(epochs: Iterable[float]) -> dict[float, int]:
    """{epoch as logged: epoch counted from 1}; shares of epochs are rounded up, as in 0.5 and 1.0
    of the first."""
    values = set(epochs)
    if any(value != int(value) for value in values):
        return {value: whole_epoch(value) for value in values}
    first = 1 if min(values, default=1) == 0 else 0
    return {value: int(value) + first for value in values}


def _numbers(row: Mapping[str, Any], left_out: Sequence[str]) -> dict[str, float]:
    """The cells that are numbers; a cell may be empty, or a text or a time."""
    found = {}
    for name, value in row.items():
        try:
            if name not in left_out and name and not isinstance(value, bool) and value is not None:
                found[name] = float(value)
        except (ValueError, TypeError, OverflowError):
            continue
    return {
        name: value
        for name, value in found.items()
        if name not in ("epoch", *STEP_COLUMNS) or abs(value) < 1 << 53
    }


def _is_number(*values: Any) -> bool:
    return all(isinstance(value, int | float) and math.isfinite(value) for value in values)


def _collect(rows: Iterable[tuple[int, int, Mapping[str, float]]]) -> list[Series]:
    found: dict[str, Series] = {}
    for step, epoch, values in rows:
        for name, value in values.items():
            one = found.setdefault(name, Series(name, {}))
            one.values[step] = value
            if epoch:
                one.epochs[step] = epoch
    return list(found.values())


# --- Epochs
# -----------------------------------------------------------------------------------------------------------


def set_epochs(series: list[Series], planned: int | None) -> str:
    """Give every series without epochs its own, and take those called `epoch` out; returns how they
    were found.

    The order: a metric called epoch, `planned` epochs that are as many as steps, a metric that is
    measured once an epoch, other logs that have epochs. Steps stay as they are.
    """
    without = [one for one in series if not one.epochs and not _is_epoch(one)]
    tag = next((one for one in series if _is_epoch(one)), None)
    known = max((epoch for one in series for epoch in one.epochs.values()), default=0)
    series[:] = [one for one in series if not _is_epoch(one)]
    steps = sorted({step for one in without for step in one.values})
    if not without:
        return ""
    if tag:
        names = count_from_one(tag.values.values())
        marks = {step: names[value] for step, value in tag.values.items()}
        return _mark(without, steps, marks, f"epochs are those of {tag.name}")
    if planned and steps[-1] - steps[0] + 1 == planned and steps[0] in (0, 1):
        return _mark(without, steps, {step: step - steps[0] + 1 for step in steps}, "")
    once = max((one for one in without if _once_an_epoch(one)), key=_clearness, default=None)
    if once:
        return _mark_by(once, without, steps)
    if known:
        return _divide(
            without, known, f"{known} epochs, as the other log has them, of equally many steps"
        )
    return EPOCHS_UNKNOWN


def _is_epoch(one: Series) -> bool:
    return one.name.rpartition("/")[2].lower() == "epoch" and not any(
        math.isnan(v) for v in one.values.values()
    )


def _once_an_epoch(one: Series) -> bool:
    return common_name(one.name).startswith("val/") or "epoch" in one.name.lower()


def _clearness(one: Series) -> tuple[bool, bool, int]:
    """How surely a metric has one point an epoch: its name says so; it is no loss, which some log
    by batch."""
    return "epoch" in one.name.lower(), not common_name(one.name).endswith("loss"), len(one.values)


def _mark_by(once: Series, without: Sequence[Series], steps: Sequence[int]) -> str:
    """Epochs from a metric with one point an epoch, whose steps are epochs or the ends of epochs."""
    own = sorted(once.values)
    marks = {step: number for number, step in enumerate(own, start=1)}
    if (
        own[0] not in (0, 1)
        or own[-1] - own[0] != len(own) - 1
        or (len(own) == 1 and steps[-1] > own[0])
    ):
        return _mark(
            without, steps, marks, f"an epoch is from one {once.name} to the next: {len(own)}"
        )
    if steps[-1] <= own[-1]:
        return _mark(without, steps, marks, "")
    short = [one for one in without if max(one.values) <= own[-1]]
    _mark(short, own, marks, "")
    long = [one for one in without if max(one.values) > own[-1]]
    told = f"{len(own)} epochs, as {once.name} has them, of equally many steps"
    return _divide(long, len(own), told)


def _mark(
    series: Iterable[Series], steps: Sequence[int], marks: Mapping[int, int], told: str
) -> str:
    """Epochs by steps at which they are known: where these begin an epoch, until the next; else
    since the last."""
    order = sorted(marks)
    begins = order[0] <= steps[0]
    epochs: dict[int, int] = {}
    place = 0
    for step in steps:
        while place < len(order) - 1 and (
            order[place + 1] <= step if begins else order[place] < step
        ):
            place += 1
        epochs[step] = marks[order[place]]
    for one in series:
        one.epochs = epochs
    return told


def _divide(series: Sequence[Series], count: int, told: str) -> str:
    """So many epochs of equally many steps; those of validation batches are counted by themselves."""
    measured = [one for one in series if common_name(one.name).startswith("val/")]
    for group in (measured, [one for one in series if one not in measured]):
        steps = sorted({step for one in group for step in one.values})
        epochs = {step: 1 + place * count // len(steps) for place, step in enumerate(steps)}
        for one in group:
            one.epochs = epochs
    return told


# --- Names
# ------------------------------------------------------------------------------------------------------------


def name_series(series: list[Series], given: Mapping[str, str]) -> list[str]:
    """Give the series this program's names, and those of `given`; returns a remark on what was done
    and what was not.

    Raises ConfigError for a given name that cannot be one, or that two metrics would have.
    """
    names = _choose_names(series, given)
    remarks, renamed, unknown = [], [], []
    for one in series:
        old, one.name = one.name, names[one.name]
        if old != one.name and fit_name(old) == one.name:
            remarks.append(f"the metric {old!a} is called {one.name} here")
        elif old != one.name:
            renamed.append(f"{old} is {one.name}")
        elif not _is_ours(old):
            unknown.append(old)
        part, _, metric = one.name.partition("/")
        if (
            part in ("train", "val")
            and metric in SHARES
            and max(_finite(one.values), default=0) > LARGEST_SHARE
        ):
            one.values = _as_share(one).values
            remarks.append(f"{one.name} was in percent, and is a fraction here")
    if renamed:
        remarks.append(f"names: {', '.join(renamed)}")
    if unknown:
        remarks.append(
            f"kept under their own names: {', '.join(unknown)} (--map {unknown[0]}=NAME gives"
            " another)"
        )
    return remarks


def _choose_names(series: Sequence[Series], given: Mapping[str, str]) -> dict[str, str]:
    """{name as logged: name here}; a name that another metric has already stays what it is."""
    for name in given.values():
        check_name(name)
    names: dict[str, str] = {}
    ours = {common_name(one.name) for one in series}
    for one in sorted(
        series, key=lambda one: (one.name not in given, one.name != common_name(one.name))
    ):
        new = given.get(one.name) or _split_by_others(common_name(one.name), ours)
        if new in names.values():
            if one.name in given:
                raise ConfigError(
                    f"--map: two metrics would be called {new}", hint="give each a name of its own"
                )
            new = one.name
        names[one.name] = new if one.name in given else fit_name(new)
    return names


def _split_by_others(name: str, ours: set[str]) -> str:
    """The split of a metric without one: training beside the same of validation (Keras), else
    validation (fastai)."""
    full = common_name(name, split="val")
    if full == name:
        return name
    metric = full.removeprefix("val/")
    if f"val/{metric}" in ours and f"train/{metric}" not in ours:
        return f"train/{metric}"
    losses = {"train/loss", "val/loss"} <= ours
    return f"val/{metric}" if losses and not ours & {f"val/{metric}", f"train/{metric}"} else name


def _is_ours(name: str) -> bool:
    part, _, metric = name.partition("/")
    return name == "lr" or (part in ("train", "val") and metric.partition("/")[0] in METRICS)


def _as_share(one: Series) -> Series:
    return Series(one.name, {step: value / 100 for step, value in one.values.items()}, one.epochs)


def _finite(values: Mapping[int, float]) -> list[float]:
    return [value for value in values.values() if math.isfinite(value)]


# --- Points
# -----------------------------------------------------------------------------------------------------------


def to_points(series: Iterable[Series]) -> list[Point]:
    """The series as points in the order of their steps; what was logged together stays together."""
    points: dict[tuple[int, int], dict[str, float]] = {}
    for one in series:
        for step, value in one.values.items():
            points.setdefault((step, one.epochs.get(step, 0)), {})[one.name] = value
    return [(points[key], *key) for key in sorted(points)]


def find_best(points: Sequence[Point], monitor: str, *, higher: bool) -> int | None:
    """The epoch of the best value of `monitor`, the first of several; None where it was never
    finite."""
    found = [
        (values[monitor], epoch)
        for values, _, epoch in points
        if math.isfinite(values.get(monitor, math.nan))
    ]
    if not found:
        return None
    best = (max if higher else min)(value for value, _ in found)
    return next(epoch for value, epoch in found if value == best)


def summarize(points: Sequence[Point], epoch: int) -> dict[str, float]:
    """The last value of every metric up to an epoch."""
    summary: dict[str, float] = {}
    for values, _, during in points:
        if during <= epoch:
            summary |= values
    return summary
