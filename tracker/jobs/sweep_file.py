"""The file of a sweep: what is trained, which keys are tried within which limits, and how."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.core.settings import get_setting
from tracker.jobs.job import Training, read_training
from tracker.jobs.queue import hash_table
from tracker.training.config import (
    Config,
    config_to_dict,
    find_problem,
    list_options,
    render_assignment,
)
from tracker.training.errors import ConfigError
from tracker.training.numbers import render_count
from tracker.training.tables import flatten, read_toml

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

PRUNERS = ("median", "hyperband", "none")
LIMITS = ("low", "high", "step", "log")
DEFAULTS: Mapping[str, Any] = {
    "trials": 20,
    "monitor": "",
    "seed": 0,
    "sampler": "tpe",
    "startup_trials": 5,
    "pruner": "median",
    "warmup_epochs": 1,
    "storage": "",
}
CHOICES: Mapping[str, tuple[str, ...]] = {
    "monitor": ("", *list_options()["train.monitor"].metadata["choices"]),
    "sampler": ("tpe", "random"),
    "pruner": PRUNERS,
}


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


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep file (docs/training.md); `study` is named by all of it but the number of trials and
    the storage."""

    study: str
    base: Training
    space: tuple[Dimension, ...]
    first: tuple[Mapping[str, Any], ...]
    trials: int
    monitor: str
    seed: int
    sampler: str
    startup_trials: int
    pruner: str
    warmup_epochs: int
    storage: str


def read_sweep(file: Path) -> Sweep:
    """Read a sweep file; raises StorageError, or ConfigError with every problem found."""
    tables = read_toml(file)
    known = (*DEFAULTS, "base", "space", "first")
    problems = [
        f"{key}: unknown key (known: {', '.join(known)})" for key in tables if key not in known
    ]
    settings = {
        key: _read_setting(key, tables.get(key, default), problems)
        for key, default in DEFAULTS.items()
    }
    base, wrong = Training(), ["base: is a table, write [base]"]
    if isinstance(tables.get("base", {}), Mapping):
        base, wrong = read_training(tables.get("base", {}), file.resolve().parent)
        wrong = [f"base.{problem}" for problem in wrong]
    space = _read_space(tables.get("space", {}), problems)
    problems += wrong
    first = _read_first(tables.get("first", []), space, problems)
    if problems:
        raise ConfigError(
            f"{render_count(len(problems), 'wrong value')} in {file}:",
            problems=problems,
            hint="see Sweeps in docs/training.md",
        )
    content = {key: value for key, value in tables.items() if key not in ("trials", "storage")}
    settings["storage"] = get_setting("TRACKER_SWEEP_URL") or settings["storage"]
    study = f"{file.stem}-{hash_table(content, base.config_file)}"
    return Sweep(study=study, base=base, space=space, first=first, **settings)


def _read_setting(key: str, value: Any, problems: list[str]) -> Any:
    kind = type(DEFAULTS[key])
    if type(value) is not kind or (kind is int and value < (key == "trials")):
        words = {str: "a text", int: f"a whole number of at least {int(key == 'trials')}"}
        problems.append(f"{key}: expected {words[kind]}, not {value!r}")
    elif value not in CHOICES.get(key, (value,)):
        problems.append(
            f"{key}: expected one of {', '.join(filter(None, CHOICES[key]))}, not {value!r}"
        )
    return value


def _read_space(tables: Any, problems: list[str]) -> tuple[Dimension, ...]:
    """`optim.lr = {...}` or `"optim.lr" = {...}`, a list of choices or limits."""
    if not isinstance(tables, Mapping) or not tables:
        problems.append(
            "space: is a table of config keys, as in [space] and optim.lr = { low = 1e-5, high ="
            " 1e-2 }"
        )
        return ()
    found = []
    for name, value in _to_dotted(tables).items():
        try:
            found.append(
                _read_choices(name, value) if isinstance(value, list) else _read_limits(name, value)
            )
        except ConfigError as error:
            problems += [f"space.{problem}" for problem in error.problems]
    return tuple(found)


def _read_first(
    tables: Any, space: tuple[Dimension, ...], problems: list[str]
) -> tuple[Mapping[str, Any], ...]:
    """The values that the first trials have; what a table leaves out is sampled."""
    if not isinstance(tables, list) or not all(isinstance(table, Mapping) for table in tables):
        problems.append("first: expected [[first]] tables of values in the space")
        return ()
    known, found = {dimension.name: dimension for dimension in space}, []
    for table in tables:
        values = {}
        for name, value in _to_dotted(table).items():
            if name not in known:
                problems.append(f"first.{name}: is not in the space")
            elif not known[name].contains(value):
                problems.append(f"first.{name}: {value!r} is outside of the space")
            else:
                values[name] = label(value)
        found.append(values)
    return tuple(found)


def _to_dotted(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Keys written as optim.lr, which TOML nests, or as "optim.lr"."""
    dotted: dict[str, Any] = {}
    for name, value in tables.items():
        dotted |= (
            {name: value}
            if "." in name or not isinstance(value, Mapping)
            else flatten({name: value})
        )
    return dotted


def label(value: Any) -> Any:
    """A value as Optuna keeps it: it knows no lists."""
    return str(value) if isinstance(value, list) else value


def _read_choices(name: str, values: list[Any]) -> Dimension:
    from optuna.distributions import CategoricalDistribution

    problems = [problem for value in values if (problem := find_problem(name, value))]
    if len(values) < 2 and not problems:
        problems = [f"{name}: expected two or more choices"]
    if problems:
        raise ConfigError("choices", problems=list(dict.fromkeys(problems)))
    labels = {label(value): value for value in values}
    return Dimension(name=name, distribution=CategoricalDistribution(list(labels)), values=labels)


def _read_limits(name: str, limits: Any) -> Dimension:
    """A whole number or a number between two limits, as the key's own kind is."""
    from optuna.distributions import FloatDistribution, IntDistribution

    kind = type(flatten(config_to_dict(Config())).get(name))
    if name in list_options() and kind not in (int, float):
        raise ConfigError("limits", problems=[f"{name}: is no number, give a list of choices"])
    if not isinstance(limits, Mapping) or not {"low", "high"} <= set(limits) <= set(LIMITS):
        words = (
            f"{name}: expected {{ low = 1, high = 2 }}, with step or log = true, or a list of"
            " choices"
        )
        raise ConfigError("limits", problems=[words])
    problems = [problem for end in ("low", "high") if (problem := find_problem(name, limits[end]))]
    if problems:
        raise ConfigError("limits", problems=list(dict.fromkeys(problems)))
    make = IntDistribution if kind is int else FloatDistribution
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # Optuna lowers `high` to the last value that steps reach
            return Dimension(name=name, distribution=make(**limits))
    except (ValueError, TypeError, ArithmeticError) as error:
        raise ConfigError("limits", problems=[f"{name}: {error}"]) from error
