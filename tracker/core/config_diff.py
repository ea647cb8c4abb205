"""What differs between two configs."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from tracker.core.text import render_value, render_values
from tracker.training.config import CROP_KEYS, FITTED, TABLE_KEYS, list_options
from tracker.training.config_fingerprint import outcome_values
from tracker.training.tables import flatten

# the key that says that the images or labels are others where no key of the config tells it
DATA = "data"

LABELLING = ("data.format", "data.age_bands")  # these change labels, so the data fingerprint, too

PIPELINE, PIPELINE_HASH = "augment.name", "augment.file_sha256"

ENSEMBLE = "ensemble."

CHANNEL_KEYS = ("data.mean", "data.std")

CROPS = tuple(f"augment.{key}" for key in CROP_KEYS)

Prints = tuple[str | None, str | None]


def diff_configs(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    *,
    data: Prints = (None, None),
    recorded: bool = False,
) -> dict[str, list[Any]]:
    """{key: [old, new]} of the keys that can change a result and differ; None where a side lacks
    the key.

    `data` has both data fingerprints as far as they are known. Where they are equal, folders, label
    fixes and
    exclusions are no difference, whatever they are called; else they are one if their names differ.
    Data that differ in nothing that a key tells are the key `data`. Of an ensemble and a trained
    run only the ensemble's keys: that the one has no learning rate is no change to it. A key that
    one of two programs never logged is not known to have changed, and no change (`list_unknown`
    names such keys). `recorded`: one of the two is what a run recorded, not a row of a table kept
    by hand, where an empty cell means what is usual.
    """
    left, right = outcome_values(old), outcome_values(new)
    mixed = _are_mixed(old, new)
    unknown = _find_unknown(left, right, recorded=recorded)
    keys = [
        key for key in [*left, *(key for key in right if key not in left)] if key not in unknown
    ]
    if mixed:
        keys = [key for key in keys if key.startswith("ensemble.")]
    pairs = {key: [left.get(key), right.get(key)] for key in keys}
    found = {
        key: [a, b] for key, (a, b) in pairs.items() if json.dumps(a) != json.dumps(b)
    }  # true is not 1
    if PIPELINE in found:
        found.pop(PIPELINE_HASH, None)  # another file is one change
    if mixed:
        return found
    return {**_diff_data(old, new, data, found), **found}


def list_unknown(
    old: Mapping[str, Any], new: Mapping[str, Any], *, recorded: bool = False
) -> list[str]:
    """The keys of one config of which the other, of another program or written by hand, tells
    nothing.

    `recorded` as in `diff_configs`.
    """
    if _are_mixed(old, new):
        return []
    return _find_unknown(outcome_values(old), outcome_values(new), recorded=recorded)


def is_complete(keys: Collection[str]) -> bool:
    """Whether a config is this program's own, of any version: another program's has few of its
    options."""
    options = list_options()
    return 3 * sum(key in options for key in keys) >= len(options)


def is_by_hand(keys: Collection[str]) -> bool:
    """Whether a config has options of this program alone, as the columns of a table kept by hand."""
    return list_options().keys() >= set(keys)


def knows(keys: Collection[str], key: str, *, of_complete: bool, by_hand: bool) -> bool:
    """Whether a config with these keys tells something by lacking `key`, or has it.

    `of_complete`: a config of this program has the key. Without that, an empty cell of a table kept
    by hand means what
    is usual (`by_hand`: all are of such); what another program never logged, it does not know.
    """
    if key in keys or key.startswith(ENSEMBLE):
        return True
    if is_complete(keys):
        return of_complete
    return by_hand and not of_complete


def list_following(diff: Mapping[str, Sequence[Any]]) -> list[str]:
    """The keys of a difference that follow from another of its keys, and are no change of their
    own.

    Channels and crop are those that the model was trained with, and what the augmentation does not
    read is not kept.
    """
    follows = {"model.name": (*CHANNEL_KEYS, *CROPS)}
    if any(value not in FITTED for value in diff.get(PIPELINE, ())):
        follows[PIPELINE] = CROPS
    following = {key for leader, keys in follows.items() if leader in diff for key in keys}
    return [key for key in diff if key in following]


def _are_mixed(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """An ensemble and a trained run."""
    return ("ensemble" in old) != ("ensemble" in new)


def _find_unknown(
    left: Mapping[str, Any], right: Mapping[str, Any], *, recorded: bool
) -> list[str]:
    found = []
    by_hand = not recorded and is_by_hand(left) and is_by_hand(right)
    for one, other in ((left, right), (right, left)):
        complete = is_complete(one)
        found += [
            key for key in one if not knows(other, key, of_complete=complete, by_hand=by_hand)
        ]
    return found


def _diff_data(
    old: Mapping[str, Any], new: Mapping[str, Any], data: Prints, found: dict[str, list[Any]]
) -> dict[str, list[Any]]:
    """What says that the data are others; drops from `found` what does not matter because they are
    the same."""
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
    """Folders and files of the data with other names; where they lie is no difference, nor that one
    is not known."""
    places = [name for name, option in list_options().items() if option.metadata["place"]]
    a, b = flatten(old), flatten(new)
    named = {key: [_name(a.get(key)), _name(b.get(key))] for key in places}
    return {key: [x, y] for key, (x, y) in named.items() if x and y and x != y}


def _name(path: Any) -> str:
    return PurePath(path).name if isinstance(path, str) else ""


def shorten_print(fingerprint: str) -> str:
    """Enough of a fingerprint to tell it from others."""
    return fingerprint.removeprefix("sha256:")[:8]


def drop_same_places(
    diff: Mapping[str, list[Any]], *, data: Prints = (None, None)
) -> dict[str, list[Any]]:
    """A difference as an earlier version kept it, without what is none: places of the same data,
    numbers of devices."""
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


FEW_KEYS = 3  # that one of two configs does not know, named


def render_change(diff: Mapping[str, Sequence[Any]] | None, not_known: Sequence[str] = ()) -> str:
    """A config diff on one line: `optim.lr 0.001 -> 0.002`, and how many keys one of two programs
    never logged."""
    if diff is None:
        return "-"
    unknown = [tell_unknown(not_known)] if not_known else []
    following = list_followers(diff)
    made = ", ".join(list_changes(diff)) + (
        f" (and with it {', '.join(following)})" if following else ""
    )
    return "; ".join([*([made] if made else ()), *unknown]) or "no config key"


def list_changes(diff: Mapping[str, Sequence[Any]]) -> list[str]:
    """A config diff in words, a text for each change; what an ensemble is made of is one of them.

    Keys that follow from another one are none: `list_followers` has them.
    """
    following = list_following(diff)
    others = [
        (key, pair)
        for key, pair in diff.items()
        if not key.startswith(ENSEMBLE) and key not in following
    ]
    made = render_ensemble_change(diff)
    return [
        *([made] if made else ()),
        *(f"{key} {' -> '.join(render_values(pair))}" for key, pair in others),
    ]


def tell_unknown(keys: Sequence[str]) -> str:
    """How many keys one of two programs never logged, by name where they are few; none of them is
    called a change."""
    named = f": {', '.join(keys)}" if len(keys) <= FEW_KEYS else ""
    return (
        f"{len(keys)} {'key is' if len(keys) == 1 else 'keys are'} known of one of the two"
        f" alone{named}"
    )


def list_followers(diff: Mapping[str, Sequence[Any]]) -> list[str]:
    """The keys that follow from another one, as the crop follows from the model, in the words of
    `list_changes`."""
    return [f"{key} {' -> '.join(render_values(diff[key]))}" for key in list_following(diff)]


def render_ensemble_change(diff: Mapping[str, Sequence[Any]]) -> str:
    """What became of the keys that say what an ensemble is made of; empty where none of them
    differs."""
    pairs = {
        key.removeprefix(ENSEMBLE): pair for key, pair in diff.items() if key.startswith(ENSEMBLE)
    }
    if not pairs:
        return ""
    old, new = ({key: pair[side] for key, pair in pairs.items()} for side in (0, 1))
    if new.get("members") and not old.get("members"):
        return describe_ensemble(new)
    if old.get("members") and not new.get("members"):
        return f"no ensemble any more (was {describe_ensemble(old)})"
    return "ensemble: " + ", ".join(
        f"{key} {_list_values(old[key])} -> {_list_values(new[key])}" for key in pairs
    )


def describe_ensemble(table: Mapping[str, Any]) -> str:
    """The section `ensemble` of a config: `weighted ensemble of exp5, exp7 (2, 6)`."""
    weights = f" ({_list_values(table['weights'])})" if table.get("weights") else ""
    return (
        f"{table.get('method') or ''} ensemble of"
        f" {_list_values(table.get('members') or [])}{weights}".strip()
    )


def _list_values(values: Any) -> str:
    if not isinstance(values, list | tuple):
        return render_value(values)
    return (
        ", ".join(
            f"{value:g}" if isinstance(value, int | float) else str(value) for value in values
        )
        or "none"
    )
