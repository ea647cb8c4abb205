"""The file of a sweep: what is trained, which keys are tried within which limits, and how."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.comparison.comparable import explain_key
from tracker.core.settings import get_setting
from tracker.jobs.job import Training, read_training
from tracker.jobs.queue import hash_table
from tracker.training.config import SECTIONS, Config, config_to_dict, list_options, parse_monitor
from tracker.training.config_reading import find_problem, render_assignment
from tracker.training.errors import ConfigError
from tracker.training.reading import (
    REQUIRED,
    Key,
    key,
    list_keys,
    parse_tables,
    read_keys,
    refuse,
    suggest_key,
)
from tracker.training.tables import flatten, read_given_toml

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

    from tracker.workspace.tracker_toml import Workspace


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """A config key and what it may be; `values` has what each choice stands for, None where it is a
    number."""

    name: str
    distribution: BaseDistribution
    values: Mapping[str | int | float | bool, Any] | None = None

    def suggest(self, trial: Trial) -> Any:
        """The trial's value, the same when asked again."""
        from optuna.distributions import CategoricalDistribution, IntDistribution

        limits: Any = self.distribution
        if isinstance(limits, CategoricalDistribution):
            return trial.suggest_categorical(self.name, limits.choices)
        if isinstance(limits, IntDistribution):
            return trial.suggest_int(
                self.name, limits.low, limits.high, step=limits.step, log=limits.log
            )
        return trial.suggest_float(
            self.name, limits.low, limits.high, step=limits.step, log=limits.log
        )

    def contains(self, value: Any) -> bool:
        """Whether a value as in the config may be suggested."""
        if self.values is not None:
            return label(value) in self.values
        low, high = self.distribution.low, self.distribution.high  # type: ignore[attr-defined]
        return type(value) in (int, float) and bool(low <= value <= high)

    def render(self, suggested: Any) -> str:
        """The `--set` word of a suggested value."""
        return render_assignment(self.name, self.values[suggested] if self.values else suggested)


def parse_trial_monitor(raw: Any) -> str:
    """The metric that a sweep watches, empty for train.monitor; raises ValueError."""
    return "" if raw == "" else parse_monitor(raw)


def parse_space(raw: Any) -> dict[str, Any]:
    """What each key may be, by dotted name; raises ValueError."""
    if not isinstance(raw, Mapping) or not raw:
        raise ValueError("space")
    return _to_dotted(raw)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep file (docs/training.md); `study` is named by all of it but the number of trials, the
    storage and the heartbeat."""

    study: str
    base: Training
    space: tuple[Dimension, ...]
    first: tuple[Mapping[str, Any], ...]
    trials: int = key(20, "Trials in all.", low=1)
    monitor: str = key(
        "",
        "Metric of a trial; empty: train.monitor.",
        parse=parse_trial_monitor,
        expected="val/ and the name of a metric",
    )
    seed: int = key(0, "Seed of what is tried.", low=0)
    sampler: str = key("tpe", "How values are proposed.", choices=("tpe", "random"))
    startup_trials: int = key(5, "Trials sampled at random and not pruned.", low=0)
    pruner: str = key(
        "median", "How bad trials end early.", choices=("median", "hyperband", "none")
    )
    warmup_epochs: int = key(1, "Epochs of each trial before it may be pruned.", low=0)
    storage: str = key(
        "", 'PostgreSQL URL of the study, or "team"; empty: a file in the workspace.'
    )
    heartbeat_s: int = key(
        30, "With storage: a worker silent for twice these seconds loses its trial.", low=1
    )


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Two ends of a key in the space; the config says what each may be."""

    low: int | float = key(REQUIRED, "Smallest value.", expected="a number")
    high: int | float = key(REQUIRED, "Greatest value.", expected="a number")
    step: int | float | None = key(None, "Distance of two values.", expected="a number")
    log: bool = key(False, "true: small values are tried as often as great ones.")


# The tables of the file, beside the settings of Sweep.
TABLES = (
    Key("base", dict, "The training of each trial, as in a queue."),
    Key(
        "space",
        dict,
        "The keys that are tried.",
        REQUIRED,
        parse=parse_space,
        expected="config keys, as in [space] and optim.lr = { low = 1e-5, high = 1e-2 }",
    ),
    Key("first", list, "Tried first.", parse=parse_tables, expected="[[first]] tables"),
)


def read_sweep(file: Path) -> Sweep:
    """Read a sweep file; raises StorageError, or ConfigError with every problem found."""
    tables = read_given_toml(file)
    problems: list[str] = []
    keys = {**list_keys(Sweep), **{known.name: known for known in TABLES}}
    values = read_keys(keys, tables, problems)
    # The training of each trial.
    wrong: list[str] = []
    base = read_training(values.pop("base", {}), file.resolve().parent, wrong)
    problems += [f"base.{problem}" for problem in wrong]
    # What is tried, and what is tried first.
    space = _read_space(values.pop("space", {}), problems)
    first = _read_first(values.pop("first", []), space, problems)
    if problems:  # else told when the metric is known by which trials are compared
        monitor = values.get("monitor") or "train.monitor"
        problems += filter(None, (explain_key(name, monitor) for name in space))
    refuse(problems, file, hint="see Sweeps in docs/training.md")
    elsewhere = ("trials", "storage", "heartbeat_s")
    content = {key: value for key, value in tables.items() if key not in elsewhere}
    values["storage"] = get_setting("TRACKER_SWEEP_URL") or values.get("storage", "")
    return Sweep(
        study=f"{file.stem}-{hash_table(content, base.config_file)}",
        base=base,
        space=tuple(dimension for dimension in space.values() if dimension),
        first=first,
        **values,
    )


def find_team_storage(sweep: Sweep, workspace: Workspace) -> Sweep:
    """The sweep with the address that `storage = "team"` stands for; raises ConfigError."""
    if sweep.storage != "team":
        return sweep
    if not workspace.sweep_url:
        raise ConfigError(
            'storage = "team": this workspace has joined no team',
            hint="tracker join HOST makes one that has; or write the URL of a PostgreSQL",
        )
    return replace(sweep, storage=workspace.sweep_url)


def _read_space(tables: Mapping[str, Any], problems: list[str]) -> dict[str, Dimension | None]:
    """The dimension of each dotted key, a list of choices or limits; None where it is wrong."""
    space: dict[str, Dimension | None] = {}
    for name, value in tables.items():
        wrong: list[str] = []
        if name not in list_options():
            wrong.append(find_problem(name, value))
            space[name] = None
        elif isinstance(value, list):
            space[name] = _read_choices(name, value, wrong)
        else:
            space[name] = _read_limits(name, value, wrong)
        problems += [f"space.{problem}" for problem in dict.fromkeys(wrong)]
    return space


def _read_first(
    tables: list[Mapping[str, Any]],
    space: Mapping[str, Dimension | None],
    problems: list[str],
) -> tuple[Mapping[str, Any], ...]:
    """The values that the first trials have; what a table leaves out is sampled."""
    found = []
    for number, table in enumerate(tables, start=1):
        values = {}
        for name, value in _to_dotted(table).items():
            dotted = f"first[{number}].{name}"
            dimension = space.get(name)
            if name not in space:
                problems.append(f"{dotted}: is not in the space{suggest_key(name, space)}")
            elif dimension and not dimension.contains(value):
                problems.append(f"{dotted}: {value!r} is outside of the space")
            else:
                values[name] = label(value)
        found.append(values)
    return tuple(found)


def _to_dotted(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Keys written as optim.lr, which TOML nests, or as "optim.lr"."""
    dotted: dict[str, Any] = {}
    for name, value in tables.items():
        nested = name in SECTIONS and isinstance(value, Mapping)
        dotted |= flatten({name: value}) if nested else {name: value}
    return dotted


def label(value: Any) -> Any:
    """A value as Optuna keeps it: it knows no lists."""
    return str(value) if isinstance(value, list) else value


def _read_choices(name: str, values: list[Any], problems: list[str]) -> Dimension | None:
    from optuna.distributions import CategoricalDistribution

    wrong = [problem for value in values if (problem := find_problem(name, value))]
    if len(values) < 2 and not wrong:
        wrong = [f"{name}: expected two or more choices"]
    problems += wrong
    if wrong:
        return None
    labels = {label(value): value for value in values}
    return Dimension(name=name, distribution=CategoricalDistribution(list(labels)), values=labels)


def _read_limits(name: str, table: Any, problems: list[str]) -> Dimension | None:
    """A whole number or a number between two limits, as the key's own kind is."""
    from optuna.distributions import FloatDistribution, IntDistribution

    kind = type(flatten(config_to_dict(Config()))[name])
    if kind not in (int, float):
        problems.append(f"{name}: is no number, give a list of choices")
        return None
    if not isinstance(table, Mapping):
        problems.append(
            f"{name}: expected {{ low = 1, high = 2 }}, with step or log = true, or a list of"
            " choices"
        )
        return None
    # The keys of the table, then both ends as the config takes them.
    before = len(problems)
    limits = read_keys(list_keys(Limits), table, problems, name=name)
    ends = [limits[end] for end in ("low", "high") if end in limits]
    problems += [problem for value in ends if (problem := find_problem(name, value))]
    if len(problems) > before:
        return None
    make = IntDistribution if kind is int else FloatDistribution
    try:
        with warnings.catch_warnings():
            # Optuna lowers `high` to the last value that steps reach
            warnings.simplefilter("ignore", UserWarning)
            return Dimension(name=name, distribution=make(**limits))
    except (ValueError, TypeError, ArithmeticError) as error:
        problems.append(f"{name}: {error}")
        return None
