"""What differs between two configs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from tracker.training.config import TABLE_KEYS, list_options, outcome_values
from tracker.training.tables import flatten

DATA = "data"  # the key that says that the images or labels are others where no key of the config tells it
LABELLING = ("data.format", "data.age_bands")  # these change labels, so the data fingerprint, too
PIPELINE, PIPELINE_HASH = "augment.name", "augment.file_sha256"
Prints = tuple[str | None, str | None]


def diff_configs(
    old: Mapping[str, Any], new: Mapping[str, Any], *, data: Prints = (None, None)
) -> dict[str, list[Any]]:
    """{key: [old, new]} of the keys that can change a result and differ; None where a side lacks the key.

    `data` has both data fingerprints as far as they are known. Where they are equal, folders, label fixes and
    exclusions are no difference, whatever they are called; else they are one if their names differ. Data that differ
    in nothing that a key tells are the key `data`. Of an ensemble and a trained run only the ensemble's keys: that the
    one has no learning rate is no change to it.
    """
    left, right = outcome_values(old), outcome_values(new)
    keys = [*left, *(key for key in right if key not in left)]
    mixed = ("ensemble" in old) != ("ensemble" in new)
    if mixed:
        keys = [key for key in keys if key.startswith("ensemble.")]
    pairs = {key: [left.get(key), right.get(key)] for key in keys}
    found = {key: [a, b] for key, (a, b) in pairs.items() if json.dumps(a) != json.dumps(b)}  # true is not 1
    if PIPELINE in found:
        found.pop(PIPELINE_HASH, None)  # another file is one change
    if mixed:
        return found
    return {**_diff_data(old, new, data, found), **found}


def _diff_data(
    old: Mapping[str, Any], new: Mapping[str, Any], data: Prints, found: dict[str, list[Any]]
) -> dict[str, list[Any]]:
    """What says that the data are others; drops from `found` what does not matter because they are the same."""
    before, after = data
    if before and before == after:
        for key in TABLE_KEYS:
            found.pop(key, None)
        return {}
    places = _diff_places(old, new)
    explained = places or any(key in found for key in (*TABLE_KEYS, *LABELLING))
    if before and after and not explained:
        return {DATA: [shorten_print(before), shorten_print(after)]}
    return places


def _diff_places(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Folders and files of the data with other names; where they lie is no difference, nor that one is not known."""
    places = [name for name, option in list_options().items() if option.metadata["place"]]
    a, b = flatten(old), flatten(new)
    named = {key: [_name(a.get(key)), _name(b.get(key))] for key in places}
    return {key: [x, y] for key, (x, y) in named.items() if x and y and x != y}


def _name(path: Any) -> str:
    return PurePath(path).name if isinstance(path, str) else ""


def shorten_print(fingerprint: str) -> str:
    """Enough of a fingerprint to tell it from others."""
    return fingerprint.removeprefix("sha256:")[:8]


def drop_same_places(diff: Mapping[str, list[Any]], *, data: Prints = (None, None)) -> dict[str, list[Any]]:
    """A difference as an earlier version kept it, without what is none: places of the same data, numbers of devices."""
    options = list_options()
    same = bool(data[0]) and data[0] == data[1]
    kept = {}
    for key, (a, b) in diff.items():
        known = options.get(key)
        place = key in TABLE_KEYS or (known is not None and known.metadata["place"])
        equal = same or (bool(_name(a)) and _name(a) == _name(b))
        silent = known is not None and not known.metadata["outcome"] and not known.metadata["place"]
        if not (silent or (place and equal)):
            kept[key] = [a, b]
    return kept
