"""The differences between two configs."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from tracker.core.text import render_value, render_values
from tracker.training.config import CROP_KEYS, FITTED, TABLE_KEYS, list_options
from tracker.training.config_fingerprint import later_defaults, outcome_values
from tracker.training.key_names import to_common_keys, to_common_loss
from tracker.training.numbers import render_count
from tracker.training.tables import flatten

# The key in a diff when images or labels changed but no config key shows it.
DATA_KEY = "data"

LABEL_KEYS = ("data.format", "data.age_bands")  # they change labels, so the data fingerprint too

PIPELINE, PIPELINE_HASH = "augment.name", "augment.file_sha256"

# {section: its keys of which one decides how the other counts}
_READ_TOGETHER = {"augment": ("name", "file_sha256")}

ENSEMBLE = "ensemble."
# ensemble.searched is this where not its own weights were searched, but those of a member.
INHERITED = "members"
# Ends the name of a member that is a run of another workspace: no run here has such a name.
ELSEWHERE = " (elsewhere)"
SEARCHED = {False: "no", True: "yes", INHERITED: "by a member"}

CHANNEL_KEYS = ("data.mean", "data.std")

CROP_OPTIONS = tuple(f"augment.{key}" for key in CROP_KEYS)

FingerprintPair = tuple[str | None, str | None]


def diff_configs(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    *,
    data: FingerprintPair = (None, None),
    recorded: bool = False,
) -> dict[str, list[Any]]:
    """{key: [old, new]} of the keys that differ and can change a result; None: a side has no value.

    A key that configs of older runs do not have is left out at its default, and has it here.

    `data` has the two data fingerprints, None where one is unknown. If they are equal, then other
    names of folders, label fixes and exclusions are not a difference; otherwise they are. If the
    data differ and no key shows it, the diff has the key `data`.

    Between an ensemble and a trained run only the ensemble's keys count: an ensemble has no
    learning rate, and that is not a change. A key that one of two programs never logged is not a
    change either; `list_unknown` lists such keys. `recorded`: at least one side was recorded by a
    run. If False, both are rows of an imported table, where an empty cell means the default.

    The names of other programs are those of this one: `lr` is `optim.lr`.
    """
    if is_own(old) and is_own(new):  # as nearly all are: few of their keys differ
        old, new = _keep_different(old, new)
        left, right = outcome_values(old), outcome_values(new)
        mixed, unknown = False, list[str]()
    else:
        old, new = translate(old), translate(new)
        left, right = outcome_values(old), outcome_values(new)
        mixed = _are_mixed(old, new)
        unknown = _find_unknown(left, right, recorded=recorded)
    # the old config's order first, so that a diff reads like the config file
    keys = [key for key in dict.fromkeys([*left, *right]) if key not in unknown]
    if mixed:
        keys = [key for key in keys if key.startswith(ENSEMBLE)]
    changed = {}
    for key in keys:
        a, b = left.get(key), right.get(key)
        if are_different(a, b):
            changed[key] = fill_default(key, [a, b])
    if PIPELINE in changed:
        changed.pop(PIPELINE_HASH, None)  # another file is one change, not two
    if mixed:
        return changed
    return {**_diff_data(old, new, data, changed), **changed}


def _keep_different(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two nested configs without the keys that have the same value in both.

    Keys by which `outcome_values` reads another one stay.
    """
    parts = []
    for own, other in ((old, new), (new, old)):
        part: dict[str, Any] = {}
        for section, table in own.items():
            names, known = _READ_TOGETHER.get(section, ()), other.get(section, {})
            part[section] = {
                key: value
                for key, value in table.items()
                if key in names or key not in known or _may_differ(value, known[key])
            }
        parts.append(part)
    return parts[0], parts[1]


def _may_differ(one: Any, other: Any) -> bool:
    """`are_different`, also for some lists that are the same; asked for each key of long lists."""
    if type(one) is not type(other) or one != other:
        return True
    return isinstance(one, list | dict) and repr(one) != repr(other)


def fill_default(key: str, pair: Sequence[Any]) -> list[Any]:
    """[old, new] of a key; a side that was left out because it is the default has that value.

    An empty default, such as that of a file, stays None: there is none.
    """
    if None not in pair:
        return list(pair)
    default = later_defaults().get(key) or None
    return [default if value is None else value for value in pair]


def are_different(one: Any, other: Any) -> bool:
    """Whether two values of a config key differ as JSON, because true == 1 in Python."""
    if type(one) is type(other) and not isinstance(one, list | dict) and one == other:
        return False  # as nearly all are: what follows takes ten times as long
    return json.dumps(one) != json.dumps(other)


def list_unknown(
    old: Mapping[str, Any], new: Mapping[str, Any], *, recorded: bool = False
) -> list[str]:
    """The keys that only one of the two configs has, because another program never logged them.

    `recorded` is as in `diff_configs`.
    """
    if _are_mixed(old, new) or (is_own(old) and is_own(new)):
        return []
    old, new = translate(old), translate(new)
    return _find_unknown(outcome_values(old), outcome_values(new), recorded=recorded)


def translate(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A config with this program's names of the keys, and of the loss, that another one logged."""
    options = list_options()
    if is_own(config):
        return config
    common = to_common_keys(config, options)
    loss = common.get("loss")
    if not isinstance(loss, Mapping) or is_complete(flatten(common).keys()):
        return common  # in a config of ours, the smoothing counts only with its own loss
    named = to_common_loss(loss)
    return common if named == loss else {**common, "loss": named}


def is_own(config: Mapping[str, Any]) -> bool:
    """Whether a nested config is complete and has options of this program only, as most have.

    `translate` changes nothing then, and no key of it is unknown. It is asked for each of very many
    configs, which have few forms.
    """
    tables = [tuple(table) if isinstance(table, dict) else None for table in config.values()]
    return _is_own_form(tuple(config), tuple(tables))


@functools.lru_cache(maxsize=1024)
def _is_own_form(sections: tuple[str, ...], tables: tuple[tuple[str, ...] | None, ...]) -> bool:
    """`is_own` for the keys of each section, None where it is no table."""
    options = list_options()
    count = 0
    for section, keys in zip(sections, tables, strict=True):
        if keys is None:
            return False
        for key in keys:
            option = options.get(f"{section}.{key}")
            if option is None:
                return False
            # a key that `outcome_values` leaves out for some of its values does not count
            count += bool(option.metadata["outcome"] and not option.metadata["later"])
    return 3 * count >= len(options)


def is_complete(keys: Collection[str]) -> bool:
    """Whether this program wrote the config: it has at least a third of the options.

    Not all of them, because an earlier version had fewer; a config of another program has few.
    """
    options = list_options()
    num_known = sum(key in options for key in keys)
    return 3 * num_known >= len(options)


def has_only_known_options(keys: Collection[str]) -> bool:
    """Whether every key is an option of this program, as in an imported table of submissions."""
    return list_options().keys() >= set(keys)


def knows(keys: Collection[str], key: str, *, of_complete: bool, by_hand: bool) -> bool:
    """Whether the value of `key` is known in a config with these keys, also when the key is absent.

    An absent key has its default in a config of this program, if `of_complete`: another config of
    this program has the key. It also has its default if `by_hand`: all configs are rows of imported
    tables. What another program never logged is unknown.
    """
    if key in keys or key.startswith(ENSEMBLE):
        return True
    if is_complete(keys):
        return of_complete
    return by_hand and not of_complete


def list_implied_keys(diff: Mapping[str, Sequence[Any]]) -> list[str]:
    """The keys of a diff that changed only because another key of it changed.

    Mean, std and crop come from the model's pretrained weights, and a pipeline that is not fitted
    to the model does not read the crop.
    """
    implied: list[str] = []
    if "model.name" in diff:
        implied += [*CHANNEL_KEYS, *CROP_OPTIONS]
    if any(value not in FITTED for value in diff.get(PIPELINE, ())):
        implied += CROP_OPTIONS
    return [key for key in diff if key in implied]


def list_changed_keys(diff: Mapping[str, Sequence[Any]]) -> list[str]:
    """The keys of a diff that changed by themselves: all without `list_implied_keys`."""
    implied = list_implied_keys(diff)
    return [key for key in diff if key not in implied]


def _are_mixed(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether one is an ensemble and the other a trained run."""
    return ("ensemble" in old) != ("ensemble" in new)


def _find_unknown(
    left: Mapping[str, Any], right: Mapping[str, Any], *, recorded: bool
) -> list[str]:
    unknown = []
    by_hand = not recorded and has_only_known_options(left) and has_only_known_options(right)
    for one, other in ((left, right), (right, left)):
        complete = is_complete(one)
        for key in one:
            if not knows(other, key, of_complete=complete, by_hand=by_hand):
                unknown.append(key)
    return unknown


def _diff_data(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    data: FingerprintPair,
    changed: dict[str, list[Any]],
) -> dict[str, list[Any]]:
    """The part of the diff that is about the data.

    If both data fingerprints are equal, the table keys are removed from `changed`: they had no
    effect.
    """
    before, after = data
    if before and before == after:
        for key in TABLE_KEYS:
            changed.pop(key, None)
        return {}
    paths = _diff_path_names(old, new)
    explained = paths or any(key in changed for key in (*TABLE_KEYS, *LABEL_KEYS))
    if before and after and not explained:
        return {DATA_KEY: [shorten_fingerprint(before), shorten_fingerprint(after)]}
    return paths


def _diff_path_names(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[Any]]:
    """{key: [old, new]} of data folders and files whose last name differs; both must be known."""
    path_keys = [name for name, option in list_options().items() if option.metadata["place"]]
    a, b = flatten(old), flatten(new)
    changed = {}
    for key in path_keys:
        before, after = _name(a.get(key)), _name(b.get(key))
        if before and after and before != after:
            changed[key] = [before, after]
    return changed


def _name(path: Any) -> str:
    return PurePath(path).name if isinstance(path, str) else ""


def shorten_fingerprint(fingerprint: str) -> str:
    """The first 8 hex digits of a fingerprint: enough to distinguish it from others."""
    return fingerprint.removeprefix("sha256:")[:8]


def drop_path_changes(
    diff: Mapping[str, list[Any]], *, data: FingerprintPair = (None, None)
) -> dict[str, list[Any]]:
    """A diff that an earlier version stored, without keys that no longer count as changes.

    These are paths of the same data, and options that cannot change a result, such as the number of
    devices. Of the rest, a key that was left out at its default has that value.
    """
    options = list_options()
    same = bool(data[0]) and data[0] == data[1]
    remaining = {}
    for key, (a, b) in diff.items():
        option = options.get(key)
        is_path = option is not None and bool(option.metadata["place"])
        # neither a path nor able to change a result
        irrelevant = option is not None and not is_path and not option.metadata["outcome"]
        same_path = same or (bool(_name(a)) and _name(a) == _name(b))
        about_data = is_path or key in TABLE_KEYS
        if not irrelevant and not (about_data and same_path):
            remaining[key] = fill_default(key, [a, b])
    return remaining


MAX_NAMED_KEYS = 3  # so many unknown keys are listed by name; more would fill the line


def render_change(diff: Mapping[str, Sequence[Any]] | None, not_known: Sequence[str] = ()) -> str:
    """A config diff on one line, as in `optim.lr 0.001 -> 0.002`; `-` when there is no diff.

    `not_known` are the keys that only one of the two has, see `list_unknown`.
    """
    if diff is None:
        return "-"
    changes = ", ".join(list_changes(diff))
    implied = list_implied_changes(diff)
    if implied:
        changes += f" (and with it {', '.join(implied)})"
    unknown = render_unknown_keys(not_known) if not_known else ""
    return "; ".join(filter(None, (changes, unknown))) or "no config key"


def list_changes(diff: Mapping[str, Sequence[Any]]) -> list[str]:
    """A text for each change of a config diff; all keys of an ensemble together are one change.

    Keys that changed because of another key are not listed: `list_implied_changes` has them.
    """
    implied = list_implied_keys(diff)
    ensemble_change = render_ensemble_change(diff)
    changes = [ensemble_change] if ensemble_change else []
    for key, pair in diff.items():
        if not key.startswith(ENSEMBLE) and key not in implied:
            changes.append(f"{key} {' -> '.join(render_values(pair))}")
    return changes


def render_unknown_keys(keys: Sequence[str]) -> str:
    """How many keys only one of the two configs has, by name where they are few."""
    count = "1 key is" if len(keys) == 1 else f"{len(keys)} keys are"
    names = f": {', '.join(keys)}" if len(keys) <= MAX_NAMED_KEYS else ""
    return f"{count} known for only one of the two{names}"


def list_implied_changes(diff: Mapping[str, Sequence[Any]]) -> list[str]:
    """A text for each key that changed because of another key, as the crop does with the model."""
    return [f"{key} {' -> '.join(render_values(diff[key]))}" for key in list_implied_keys(diff)]


def render_ensemble_change(diff: Mapping[str, Sequence[Any]]) -> str:
    """The change of the section `ensemble` in one text; empty when nothing in it differs."""
    old: dict[str, Any] = {}
    new: dict[str, Any] = {}
    for key, pair in diff.items():
        if key.startswith(ENSEMBLE):
            old[key.removeprefix(ENSEMBLE)], new[key.removeprefix(ENSEMBLE)] = pair
    if not new:
        return ""
    if new.get("members") and not old.get("members"):
        return describe_ensemble(new)
    if old.get("members") and not new.get("members"):
        return f"no longer an ensemble (was {describe_ensemble(old)})"
    changes = [f"{key} {_list_values(old[key])} -> {_list_values(new[key])}" for key in new]
    if "searched" in new:
        before, now = (SEARCHED.get(side["searched"], "no") for side in (old, new))
        changes[list(new).index("searched")] = f"weights searched on val: {before} -> {now}"
    return f"ensemble: {', '.join(changes)}"


def describe_ensemble_step(diff: Mapping[str, Sequence[Any]]) -> str:
    """In words, that only one of the two is an ensemble; empty where both are or none is."""
    tables = [
        {
            key.removeprefix(ENSEMBLE): pair[side]
            for key, pair in diff.items()
            if key.startswith(ENSEMBLE)
        }
        for side in (0, 1)
    ]
    old, new = tables
    if new.get("members") and not old.get("members"):
        return f"{_name_ensemble(new)} against a single model, so no single change can be named"
    if old.get("members") and not new.get("members"):
        return f"a single model against {_name_ensemble(old)}, so no single change can be named"
    return ""


def describe_other_ensemble(diff: Mapping[str, Sequence[Any]]) -> str:
    """In words, how two ensembles differ: `another ensemble: members and method differ`.

    Empty where none is an ensemble, or where they differ in one key alone, such as the method.
    The weights are named only where members and method are the same: they follow from them.
    """
    keys = [key.removeprefix(ENSEMBLE) for key in diff if key.startswith(ENSEMBLE)]
    if not keys or (len(diff) == 1 and keys != ["members"]):
        return ""
    parts: list[str] = [key for key in ("members", "method") if key in keys]
    parts = parts or [key for key in keys if key != "searched"] or ["search of weights"]
    others = sum(not key.startswith(ENSEMBLE) for key in diff)
    if others:
        parts.append("1 other key" if others == 1 else f"{others} other keys")
    verb = "differs" if parts in (["method"], ["search of weights"]) else "differ"
    listed = ", ".join([*parts[:-2], " and ".join(parts[-2:])])
    return f"another ensemble: {listed} {verb}"


def describe_ensemble(table: Mapping[str, Any]) -> str:
    """The section `ensemble` of a config in one text: `weighted ensemble of exp5, exp7 (2, 6)`.

    Members of weight 0 are no part of it. Weights that were searched on the validation images, its
    own or a member's, are said to be that.
    """
    searched = ""
    if table.get("searched") == INHERITED:
        searched = ", val flattered: weights of a member searched on it"
    elif table.get("searched"):
        searched = ", val flattered: weights searched on it"
    return f"{_name_ensemble(table)}{searched}"


def _name_ensemble(table: Mapping[str, Any]) -> str:
    """Method, members and weights."""
    method = table.get("method") or ""
    names, given = list_used_members(table)
    members = describe_members(names)
    weights = f" ({_list_values(given)})" if given else ""
    return f"{method} ensemble of {members}{weights}".strip()


def describe_ensemble_briefly(table: Mapping[str, Any]) -> str:
    """`weighted ensemble of 5 runs`, where there is no room for their names."""
    names, _ = list_used_members(table)
    return f"{table.get('method') or ''} ensemble of {render_count(len(names), 'run')}".strip()


def name_elsewhere(name: str, uid: str | None) -> str:
    """The name of a member that is not known here: `exp1~3fa2c1 (elsewhere)`."""
    return f"{name}~{uid[:6]}{ELSEWHERE}" if uid else f"{name}{ELSEWHERE}"


def is_elsewhere(name: str) -> bool:
    """Whether a member is a run of another workspace that is not known here."""
    return name.endswith(ELSEWHERE)


def strip_elsewhere(name: str) -> str:
    """The name that a member has in its own workspace: `exp1` of `exp1~3fa2c1 (elsewhere)`."""
    return name.removesuffix(ELSEWHERE).partition("~")[0] if is_elsewhere(name) else name


def describe_members(names: Sequence[str]) -> str:
    """The members of an ensemble in the order of their weights.

    `exp1, exp2 of another workspace, not known here` where none is known.
    """
    if names and all(map(is_elsewhere, names)):
        return f"{', '.join(map(strip_elsewhere, names))} of another workspace, not known here"
    shown = [
        f"{strip_elsewhere(name)}{ELSEWHERE}" if is_elsewhere(name) else name for name in names
    ]
    return ", ".join(shown) or "none"


def list_used_members(table: Mapping[str, Any]) -> tuple[list[str], list[Any]]:
    """The members of a section `ensemble`, and their weights if it has any.

    Members of weight 0 are no part of it, and left out.
    """
    names, given = list(table.get("members") or []), list(table.get("weights") or [])
    if any(given) and len(given) == len(names):
        used = [place for place, weight in enumerate(given) if weight]
        names, given = [names[place] for place in used], [given[place] for place in used]
    return list(map(str, names)), given


def find_shown_parent(parent: str | None, config: Mapping[str, Any]) -> str | None:
    """The parent of a run for people: of an ensemble a member that is part of it.

    Ensembles of earlier versions name their first member even where its weight is 0.
    """
    table = config.get("ensemble") or {}
    used, _ = list_used_members(table)
    is_left_out = parent in (table.get("members") or ()) and parent not in used
    return used[0] if used and is_left_out else parent


def _list_values(values: Any) -> str:
    if not isinstance(values, list | tuple):
        return render_value(values)
    return ", ".join(map(_render_item, values)) or "none"


def _render_item(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def is_searched(config: Mapping[str, Any]) -> bool:
    """Whether the weights of an ensemble, or of a member, were searched on the validation images.

    That flatters its validation scores. Of an ensemble of an earlier version only its own weights
    are told: `is_flattered` also looks at its members.
    """
    return bool(config.get("ensemble", {}).get("searched"))
