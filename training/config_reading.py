"""Reads a config: from nested tables, or from assignments `section.key=value`, as in TOML.

Every problem is reported at once, with the nearest key.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from tracker.training.config import (
    MEASURED,
    OF_MODEL,
    SECTIONS,
    Config,
    list_options,
)
from tracker.training.errors import ConfigError
from tracker.training.formats import list_with_people, list_with_table
from tracker.training.key_names import COMMON_NAMES
from tracker.training.reading import list_keys, read_keys, refuse, suggest_key
from tracker.training.tables import parse_toml_value


def config_from_dict(values: Mapping[str, Any], *, source: str = "config") -> Config:
    """Build a Config from nested tables; raises ConfigError with every problem found."""
    problems: list[str] = []
    tables = read_sections(values, problems)
    refuse(problems, source, reason="wrong config")
    config = Config(**{section: SECTIONS[section](**table) for section, table in tables.items()})
    _check_together(config, source)
    return config


def read_sections(values: Mapping[str, Any], problems: list[str]) -> dict[str, dict[str, Any]]:
    """The right values of nested tables; each wrong one is a line in `problems`."""
    tables: dict[str, dict[str, Any]] = {}
    for section, table in values.items():
        if section in SECTIONS:
            tables[section] = _read_section(section, table, problems)
        else:
            problems.append(f"{section}: {_explain_section(section)}")
    return tables


def _read_section(section: str, table: Any, problems: list[str]) -> dict[str, Any]:
    keys = list_keys(SECTIONS[section])
    return read_keys(
        keys, table, problems, name=section, elsewhere=list_options(), aliases=COMMON_NAMES
    )


def _check_together(config: Config, source: str) -> None:
    """Problems that need two fields."""
    data, train = config.data, config.train
    with_people, tables = list_with_people(), list_with_table()
    end = data.folds or (math.inf if data.fold_file else 1)
    people, needed = data.format in with_people, f"needs data.format {' or '.join(with_people)}"
    world = train.devices * train.num_nodes
    warmup = config.sched.warmup_epochs
    wrong = {
        f"data.split: by_profile {needed}, try stratified": (
            data.split == "by_profile" and not people
        ),
        "data.age_bands: the first band must end before the second": (
            data.age_bands[0] >= data.age_bands[1]
        ),
        "data.split: by_group and stratified_group need data.group": (
            data.split in ("by_group", "stratified_group") and not data.group and not people
        ),
        f"data.group: needs data.format {' or '.join(tables)}": (
            bool(data.group) and data.format not in tables
        ),
        "data.fold: must be below data.folds, and data.folds at least 2": (
            data.folds == 1 or data.fold >= end
        ),
        f"data.undersample: {needed}": bool(data.undersample) and not people,
        'data.mean: expected three numbers, "model" or "measured"': (
            isinstance(data.mean, str) and data.mean not in (OF_MODEL, MEASURED)
        ),
        'data.std: expected three numbers, "model" or "measured"': (
            isinstance(data.std, str) and data.std not in (OF_MODEL, MEASURED)
        ),
        'augment.crop_pct: expected a number or "model"': (
            isinstance(config.augment.crop_pct, str) and config.augment.crop_pct != OF_MODEL
        ),
        f"model.heads: attributes {needed}": config.model.heads == "attributes" and not people,
        "loss.class_weights: f1 weighs the classes alike already": (
            config.loss.name == "f1" and config.loss.class_weights != "none"
        ),
        "train.ema: needs the whole weights in each process: train.strategy ddp": (
            train.ema > 0 and train.strategy == "fsdp"
        ),
        "sched.warmup_epochs: must be less than train.epochs": 0 < train.epochs <= warmup,
        f"train.batch_size: must divide among the {world} processes": train.batch_size % world > 0,
    }
    refuse([words for words, holds in wrong.items() if holds], source)


def find_keys(word: str) -> list[str]:
    """The dotted keys that a bare name means: `lr` and `learning_rate` are `optim.lr`.

    Empty when no section has this key and it is no common name of one.
    """
    name = word.lower().replace("-", "_")
    if name in COMMON_NAMES:
        return [COMMON_NAMES[name]]
    return [key for key in list_options() if key.partition(".")[2] == name]


def _explain_section(word: str) -> str:
    """What is wrong with an unknown section: a key without its section, or a wrong name."""
    if word in list_options():
        return "in quotes it is one word, write it without them"
    if keys := find_keys(word):
        return f"this key needs its section: {' or '.join(keys)}"
    return f"unknown section{suggest_key(word, SECTIONS)}"


def parse_assignment(text: str) -> tuple[str, str, Any]:
    """Split `section.key=value` into section, key and a TOML value (bare words are texts).

    Raises ConfigError when the form is wrong.
    """
    name, equals, raw = text.partition("=")
    section, dot, key = name.strip().partition(".")
    if not (equals and dot and key):
        wrong = f"{text}: expected section.key=value, as in optim.lr=2e-5"
        keys = [] if dot else find_keys(section)
        complete = " or ".join(f"{known}={raw.strip() or '...'}" for known in keys)
        raise ConfigError(wrong, hint=f"the key needs its section: {complete}" if keys else "")
    return section, key, parse_toml_value(raw.strip())


def render_assignment(name: str, value: Any) -> str:
    """The inverse of `parse_assignment`, for a value as in TOML."""
    return f"{name}={json.dumps(value, ensure_ascii=False)}"


def find_problem(name: str, value: Any) -> str:
    """What is wrong with one dotted key and its value, in one line; empty when nothing is wrong."""
    section, _, key = name.partition(".")
    problems: list[str] = []
    if section in SECTIONS:
        _read_section(section, {key: value} if key else value, problems)
    elif not key:
        problems.append(f"{name}: {_explain_section(name)}")
    else:
        near = suggest_key(key, (), elsewhere=list_options(), aliases=COMMON_NAMES)
        problems.append(f"{name}: unknown key{near}")
    return "".join(problems)
