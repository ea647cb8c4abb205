"""What makes two configs the same: the keys that can change a result, and hashes over them."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Set
from typing import Any, NamedTuple

from tracker.training.config import TABLE_KEYS, list_options
from tracker.training.tables import flatten

EXACT = 2**53  # whole numbers below have a float of their own


def outcome_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The dotted keys of a nested config that can change the result.

    Keys that this version does not know are included. A number has one form however it was written:
    that of the option's default, or the shorter one for unknown keys. A key of `later` at its
    default is left out: runs made before had no such key, and are the same. Files have their names
    only, for it does not matter in which folder they lie.
    """
    silent = _kinds_of_keys().silent
    return name_files(
        {name: value for name, value in _unify_all(values).items() if name not in silent}
    )


def exact_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """`outcome_values` and the keys that change the last bits of a result."""
    options = list_options()
    rounding = {name for name, f in options.items() if f.metadata["rounding"]}
    found = {name: value for name, value in _unify_all(values).items() if name in rounding}
    return {**outcome_values(values), **found}


class _Keys(NamedTuple):
    """What is to be known of all options, made once: configs of very many runs are compared."""

    silent: Set[str]
    later: Mapping[str, Any]
    kinds: Mapping[str, type]


@functools.cache
def _kinds_of_keys() -> _Keys:
    options = list_options()
    return _Keys(
        silent={name for name, f in options.items() if not f.metadata["outcome"]},
        later=later_defaults(),
        kinds={name: _find_kind(f.default) for name, f in options.items()},
    )


def _unify_all(values: Mapping[str, Any]) -> dict[str, Any]:
    """Every dotted key with its number in one form, without those of `later` at their default."""
    sections = {
        f'"{name}"' if "." in name else name: table for name, table in values.items()
    }  # as in TOML
    keys = _kinds_of_keys()
    later, kinds = keys.later, keys.kinds
    unified = {}
    for name, value in flatten(sections).items():
        if name in later and value == later[name]:
            continue
        # most values are texts and truth values, which stay as they are
        plain = type(value) is str or type(value) is bool
        unified[name] = value if plain else _unify(value, kinds.get(name, int))
    return unified


def name_files(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same dotted keys; tables and the pipeline file have their names without folders."""
    named = dict(values)
    for key in TABLE_KEYS:
        if isinstance(text := named.get(key), str):
            words = [word.strip() for word in text.split(",")]
            named[key] = ",".join(
                _last_part(word) if word.lower().endswith(".csv") else word for word in words
            )
    if named.get("augment.file_sha256"):
        named["augment.name"] = _last_part(str(named.get("augment.name", "")))
    return named


def _last_part(path: str) -> str:
    return path.rpartition("/")[2]


def is_same_training(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two nested configs ask for the same training of the same data.

    What label fixes and exclusions do is in the data fingerprint, whatever their files are called.
    """
    left, right = (
        {key: value for key, value in outcome_values(values).items() if key not in TABLE_KEYS}
        for values in (one, other)
    )
    return _hash(left) == _hash(right)


def later_defaults() -> dict[str, Any]:
    """The meaning of each key that configs of older runs do not have, by dotted key."""
    return {name: f.default for name, f in list_options().items() if f.metadata["later"]}


def _find_kind(default: Any) -> type:
    """The type of an option's numbers."""
    return type(default[0]) if isinstance(default, tuple) and default else type(default)


def _unify(value: Any, kind: type) -> Any:
    """1 and 1.0 as one number of this kind, 0.0 and -0.0 too; other kinds of values as they are."""
    if isinstance(value, list | tuple):
        return [_unify(item, kind) for item in value]
    if kind is float and type(value) in (int, float) and abs(value) < EXACT:
        return float(value) + 0.0
    if kind is int and type(value) is float and value.is_integer():
        return int(value)
    return value


def trajectory_fingerprint(values: Mapping[str, Any]) -> str:
    """SHA-256 over everything that decides the weights after each epoch.

    A run can continue another one only where both fingerprints are equal. How many epochs there are
    counts only where the schedule depends on it.
    """
    return _hash_trajectory(exact_values(values))


def old_trajectory_fingerprint(values: Mapping[str, Any]) -> str:
    """The fingerprint in old checkpoints, which covered the paths of the files."""
    silent = ("data.workers", "data.cache", "train.log_every")
    return _hash_trajectory({key: v for key, v in _unify_all(values).items() if key not in silent})


def _hash_trajectory(values: Mapping[str, Any]) -> str:
    decisive = {name: value for name, value in values.items() if not name.startswith("eval.")}
    decisive.pop("train.patience", None)
    if decisive.get("sched.name") != "cosine":
        decisive.pop("train.epochs", None)
    return _hash(decisive)


def config_fingerprint(values: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON of `outcome_values`."""
    return _hash(outcome_values(values))


def _hash(values: Mapping[str, Any]) -> str:
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    import hashlib  # loads OpenSSL, 2 ms that lists can do without

    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
