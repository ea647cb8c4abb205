"""Which figures of runs may be compared, and why not.

This is the only place that decides it. Validation scores compare on the same images with the same
labels, losses of the same kind. A scheme is how a run validates: scores of one scheme measure the
same thing, so a line through them makes sense. For two runs the images must be the same, too.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from tracker.comparison.members import find_row_config, list_indexed_members, list_trained
from tracker.core.config_diff import are_different, shorten_fingerprint, translate
from tracker.core.errors import TrackerError
from tracker.ledger.read import find_run, list_validation_scores
from tracker.ledger.records import Submission
from tracker.run_folder.look import remember
from tracker.run_folder.members import list_member_names
from tracker.run_folder.read import load_config, load_run
from tracker.run_folder.record import RunRecord, run_folder
from tracker.training.config import CROP_KEYS, Config, config_to_dict
from tracker.training.config_fingerprint import name_files
from tracker.training.numbers import render_count
from tracker.training.tables import flatten, parse_json
from tracker.workspace.metrics import COLUMNS, strip_split
from tracker.workspace.tracker_toml import Workspace

VALIDATION = "validation.npz"
IMAGES_COLUMN, SCHEME_COLUMN = "validation_images", "validation_scheme"  # of an exported table
DATA = "data"  # the data fingerprint, among the keys of a scheme
SPLIT = {
    "data.format": "format",
    "data.split": "split",
    "data.val_ratio": "ratio",
    "data.folds": "folds",
    "data.group": "group",
    "data.fold_file": "fold file",
}
LABELS = {"data.age_bands": "age bands"}
# the keys that say how images are split, the decisive one first
WAYS = ("data.fold_file", "data.folds", "data.val_ratio")
SOURCES = {
    "data.label_fixes": "label fixes",
    "data.exclude": "excluded images",
    "data.train_dir": "folder",
}
IMAGES = {"data.split_seed": "split seed", "data.fold": "fold"}
KEY_TITLES = {**SPLIT, **LABELS, **SOURCES, **IMAGES, DATA: "data"}
SCHEME_KEYS = (*SPLIT, *LABELS, *SOURCES, DATA)
CROPS = ("augment.crop", *(f"augment.{key}" for key in CROP_KEYS))
TRAINING = ("augment.", "data.undersample", "data.sampler")  # what train/ figures are measured on
LOSS = {
    "loss.name": "loss",
    "loss.gamma": "gamma",
    "loss.smoothing": "smoothing",
    "loss.class_weights": "class weights",
}
USUAL = {
    "loss.smoothing": (0, None),
    "loss.class_weights": ("none", None),
    "loss.reduction": ("mean", None),
}
_CHECKSUM = re.compile(r"[0-9a-f]{8}")
# Words in the config keys of the user's own loop that say how it validates and what its loss is.
_OWN_SPLIT = r"(?i)(?:.*_)?(?:val|valid|validation|split|folds?|bands?|fixes)(?:_.*)?"
_OWN_PACE = r"(?i).*(?:batch|workers|every|interval|freq|check|metric|monitor|patience).*"
_OWN_LOSS = (
    r"(?i)(?:.*_)?(?:loss|criterion|reduction|smoothing|gamma|(?:class|loss|pos|sample)_weights?)"
    r"(?:_.*)?"
)
_OWN_MIXING = r"(?i)(?:.*_)?(?:mixup|cutmix)(?:_.*)?"
# The gamma of a scheduler is not that of the loss.
_OPTIMIZER = r"(?i)(?:.*\.)?(?:optim|optimizer|sched|scheduler|lr_scheduler)\..*"
HOW_TO_NAME_LOSS = 'name it in the config: {"loss": "cross_entropy"}'
HOW_TO_SAVE_VALIDATION = "run.save_validation(...) records it"
HOW_TO_NAME_ADOPTED_LOSS = (
    "name it in the config file of its folder, as loss: cross_entropy, then: tracker adopt DIR"
    " --force"
)
ADOPTED_VALIDATION = (
    "an adopted run has no validation predictions; train with start_run or a callback to record"
    " them"
)
Scheme = Mapping[str, Any]


class Basis(NamedTuple):
    """What a run's figures are measured on.

    `own` is a training loop of the user's own: only what its config names is known. `scheme` is
    empty where it is unknown. `images` says which images of the scheme validate, `training` what
    train/ figures are measured on. `file` is validation.npz, `checksums` are those of its images,
    labels and classes.
    """

    name: str
    own: bool
    scheme: Scheme
    recorded: bool = True  # by a run, not a row of a table kept by hand
    adopted: bool = False  # its loop has ended elsewhere, and can record nothing more
    images: Mapping[str, Any] = {}
    training: Mapping[str, Any] = {}
    loss: Mapping[str, Any] = {}
    file: Path | None = None
    checksums: tuple[int, ...] = ()


# --- What a run's figures rest on


def find_basis(
    workspace: Workspace,
    name: str,
    config: Mapping[str, Any],
    *,
    data: str | None,
    folder: Path | None = None,
    recorded: bool = True,
    adopted: bool = False,
) -> Basis:
    """What the figures of a run are measured on.

    `folder` is its run folder if it is here, `data` its data fingerprint. A row that is not
    `recorded` comes from a table kept by hand.
    """
    path = os.path.join(folder, VALIDATION) if folder else ""  # noqa: PTH118 of very many runs
    file = Path(path) if path and os.path.isfile(path) else None  # noqa: PTH113
    checksums = read_checksums(file) if file else ()
    if _is_own_loop(config, data, recorded=recorded):
        values = flatten(config)
        return Basis(
            name=name,
            own=True,
            adopted=adopted,
            scheme={
                key: value
                for key, value in _select_named(values, _OWN_SPLIT).items()
                if not re.fullmatch(_OWN_PACE, key)
            },
            training=_select_named(values, _OWN_MIXING),
            loss=_find_own_loss(flatten(translate(config))),
            file=file,
            checksums=checksums,
        )
    # many submissions share one config; the memory keeps it, so that its id stays its own
    key = ("measures", id(config), data)
    measures, _ = remember(
        workspace.runs_dir, key, lambda: (_find_measures(workspace, config, data), config)
    )
    return measures._replace(name=name, recorded=recorded, file=file, checksums=checksums)


def _is_own_loop(config: Mapping[str, Any], data: str | None, *, recorded: bool) -> bool:
    """Whether a config is that of a training loop of the user's own."""
    return recorded and not data and "ensemble" not in config


def _find_measures(workspace: Workspace, config: Mapping[str, Any], data: str | None) -> Basis:
    """What a config of this program measures on, whatever run has it."""
    known = {**_defaults(), **flatten(config)}
    named = name_files(known)
    members = bool(list_member_names(config))
    return Basis(
        name="",
        own=False,
        scheme=find_scheme(workspace, config, data=data, named=named),
        images=_find_images(workspace, config) if members else _find_images_of(known),
        training={key: value for key, value in named.items() if key.startswith(TRAINING)},
        loss={} if "ensemble" in config else _find_loss(known),
    )


def _select_named(values: Mapping[str, Any], pattern: str) -> dict[str, Any]:
    """The values whose last part of the key matches the pattern."""
    return {key: value for key, value in values.items() if _ends_with(pattern, key)}


@lru_cache(maxsize=4096)
def _ends_with(pattern: str, key: str) -> bool:
    """Asked for each key of very many configs, which have few different keys."""
    return bool(re.fullmatch(pattern, key.rpartition(".")[2]))


def basis_of_run(workspace: Workspace, record: RunRecord, config: Mapping[str, Any]) -> Basis:
    """The basis of a run of this workspace."""
    folder = run_folder(workspace.runs_dir, record.name)
    return find_basis(
        workspace,
        record.name,
        config,
        data=record.fingerprints.get("data"),
        folder=folder,
        adopted="adopted_from" in record.facts,
    )


def basis_of_submission(workspace: Workspace, row: Submission) -> Basis:
    """The basis of a submission; its run folder may be here or not."""
    key = ("basis of submission", row.number)
    return remember(workspace.runs_dir, key, lambda: _find_basis_of(workspace, row))


def _find_basis_of(workspace: Workspace, row: Submission) -> Basis:
    run = find_run(workspace, row)
    folder = run_folder(workspace.runs_dir, run) if run else None
    recorded, name = row.run_uid is not None, f"submission {row.number}"
    data, config = row.data_fingerprint, find_row_config(workspace, row)
    adopted = False
    if run is not None and _is_own_loop(config, data, recorded=recorded):
        adopted = "adopted_from" in load_run(workspace.runs_dir, run).facts
    basis = find_basis(
        workspace,
        name,
        config,
        data=data,
        folder=folder,
        recorded=recorded,
        adopted=adopted,
    )
    if run is None:
        basis = _add_imported(basis, row)
    if not basis.scheme and list_member_names(row.config):
        return _add_indexed_members(workspace, basis, row)
    return basis


def _add_indexed_members(workspace: Workspace, basis: Basis, row: Submission) -> Basis:
    """The basis of an ensemble whose members are not here, as on the board's machine: how they
    validated is in the ledger's index, where that has all of them."""
    members = list_indexed_members(workspace, row.run_uid, row.config)
    schemes = [
        find_scheme(workspace, config, data=data) if data else {} for config, data in members
    ]
    if not schemes or any(one != schemes[0] for one in schemes):
        return basis
    images = [_find_images_of({**_defaults(), **flatten(config)}) for config, _ in members]
    return basis._replace(scheme=schemes[0], images=_join_images(images))


def _add_imported(basis: Basis, row: Submission) -> Basis:
    """The basis with what the export of another workspace says; see `describe_validation`."""
    scheme: Any = None
    with suppress(ValueError, RecursionError):
        scheme = parse_json(row.imported.get(SCHEME_COLUMN, ""))
    if isinstance(scheme, dict):
        basis = basis._replace(scheme=scheme)
    parts = row.imported.get(IMAGES_COLUMN, "").split("-")
    if len(parts) == 3 and all(_CHECKSUM.fullmatch(part) for part in parts):
        basis = basis._replace(checksums=tuple(int(part, 16) for part in parts))
    return basis


def describe_validation(
    workspace: Workspace, rows: Iterable[Submission]
) -> dict[int, dict[str, str]]:
    """{number: {column: text}}: how submissions validated, as far as the run folders alone say it.

    For an export: checksums of validation.npz, the scheme that an ensemble has from its members,
    and validation scores that the ledger has no column for.
    """
    columns: dict[int, dict[str, str]] = {}
    for row in rows:  # of very many, few are in memory
        own = {}
        for name, value in list_validation_scores(workspace, [row])[row.number].items():
            if name not in COLUMNS:
                own[f"val_{name}"] = repr(value)
        basis = _find_basis_of(workspace, row)
        if basis.checksums:
            own[IMAGES_COLUMN] = "-".join(f"{checksum:08x}" for checksum in basis.checksums)
        if basis.scheme and "ensemble" in row.config:
            own[SCHEME_COLUMN] = json.dumps(basis.scheme, ensure_ascii=False)
        columns[row.number] = own
    return columns


def find_scheme(
    workspace: Workspace,
    config: Mapping[str, Any],
    *,
    data: str | None = None,
    named: Mapping[str, Any] | None = None,
) -> Scheme:
    """How a config validates: the keys that decide on images and labels; empty if unknown.

    The data fingerprint stands for images and labels. Where it is unknown, the names of folder,
    label fixes and exclusions do. An ensemble has the scheme of its members if it is the same for
    all. `named` are the values with the defaults, where `name_files` was asked before.
    """
    if list_member_names(config):
        schemes = [_scheme_of_run(workspace, name) for name in list_trained(workspace, config)]
        return schemes[0] if schemes and all(one == schemes[0] for one in schemes) else {}
    if not config.get("data"):
        return {}
    known = dict(named or name_files({**_defaults(), **flatten(config)}))
    scheme = {key: known[key] for key in (*SPLIT, *LABELS)}
    if scheme["data.folds"] or scheme["data.fold_file"]:
        scheme["data.val_ratio"] = None  # folds need none
    if data:
        return {**scheme, DATA: shorten_fingerprint(data)}
    known["data.train_dir"] = str(known["data.train_dir"]).rstrip("/").rpartition("/")[2]
    return {**scheme, **{key: known[key] for key in SOURCES}}


def _scheme_of_run(workspace: Workspace, name: str) -> Scheme:
    try:
        record = load_run(workspace.runs_dir, name)
        config = load_config(workspace.runs_dir, name)
        data = record.fingerprints.get("data")
        if not data:
            return {}  # of a loop of the user's own: its keys do not mean what ours do
        return find_scheme(workspace, config, data=data)
    except TrackerError:
        return {}


def _find_images(workspace: Workspace, config: Mapping[str, Any]) -> dict[str, Any]:
    """Which images of its scheme a config validates on; for an ensemble, all its folds."""
    if list_member_names(config):
        names = list_trained(workspace, config)
        try:
            by_member = [
                _find_images(workspace, load_config(workspace.runs_dir, name)) for name in names
            ]
        except TrackerError:
            return {}
        return _join_images(by_member)
    return _find_images_of({**_defaults(), **flatten(config)})


def _join_images(by_member: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The images that an ensemble validates on: those of its members, whose folds may differ."""
    if not by_member:
        return {}
    folds = sorted({str(images.get("data.fold")) for images in by_member})
    joined = {"data.fold": ", ".join(folds)} if len(folds) > 1 else {}
    return {**by_member[0], **joined}


def _find_images_of(known: Mapping[str, Any]) -> dict[str, Any]:
    """`_find_images` of a run that was trained, for its values and the defaults."""
    return {
        "data.split_seed": known["data.split_seed"],
        "data.fold": known["data.fold"] if known["data.folds"] or known["data.fold_file"] else 0,
    }


def _find_own_loss(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the config of the user's own loop says about its loss: `criterion`, `reduction`."""
    loss = {}
    for key, value in values.items():
        if _is_about_loss(key):
            loss[key] = value
    # Written out or not, what is usual is the same loss.
    return {key: value for key, value in loss.items() if value not in USUAL.get(key, ())}


@lru_cache(maxsize=4096)
def _is_about_loss(key: str) -> bool:
    """Whether a key of the user's own loop is one of its loss."""
    named = any(re.fullmatch(_OWN_LOSS, part) for part in key.split("."))
    return named and not re.fullmatch(_OPTIMIZER, key)


def _find_loss(known: Mapping[str, Any]) -> dict[str, Any]:
    """What the number of a loss means."""
    loss = {key: known[key] for key in LOSS}
    if loss["loss.name"] != "focal":
        del loss["loss.gamma"]
    if loss["loss.name"] != "label_smoothing":
        del loss["loss.smoothing"]
    return {key: value for key, value in loss.items() if value not in USUAL.get(key, ())}


@cache
def _defaults() -> dict[str, Any]:
    return flatten(config_to_dict(Config()))


def read_checksums(path: Path) -> tuple[int, ...]:
    """Checksums of images, labels and classes in a validation.npz; empty if it is damaged.

    They are in the table of contents of the archive, so nothing is unpacked.
    """
    import zipfile  # 1 ms, and a list reads no predictions

    try:
        with zipfile.ZipFile(path) as archive:
            checksums = {info.filename: info.CRC for info in archive.infolist()}
    except (OSError, ValueError, zipfile.BadZipFile):
        return ()
    names = ("ids.npy", "labels.npy", "classes.npy")
    return (
        tuple(checksums[name] for name in names) if all(name in checksums for name in names) else ()
    )


# --- Whether figures can be compared


def explain_incomparable(a: Basis, b: Basis, name: str) -> str:
    """Why figure `name` (val/f1, val_loss, train/loss) of two runs cannot be compared, or "".

    Leaderboard scores use the same images for all.
    """
    is_training = name.startswith(("train/", "train_"))
    if not is_training and not name.startswith(("val/", "val_")):
        return ""
    reason = ""
    if strip_split(name) == "loss":
        reason = explain_loss(a, b)
    if not reason and is_training:
        reason = _explain_unknown_training(a, b) or _explain_training(a, b)
    return reason or explain_validation(a, b)


def explain_validation(a: Basis, b: Basis, *, same_images: bool = True) -> str:
    """Why validation scores of two runs cannot be compared; empty if they can.

    Everything that asks whether a validation is known and comparable asks here. Without
    `same_images`, runs of one scheme may validate on other images of it, such as other folds.
    """
    if a.checksums and a.checksums == b.checksums:
        return ""
    if _only_files_tell(a, b):
        return _compare_files(a, b)
    reason = explain_scheme(a, b)
    if reason or not same_images:
        return reason
    images = _differ(a.images, b.images)
    return _describe_difference("different validation images", images) or _compare_files(a, b)


def _only_files_tell(a: Basis, b: Basis) -> bool:
    """Of the user's own loops, and of ensembles of them (no scheme), where both saved theirs."""
    needs_files = a.own or b.own or not a.scheme or not b.scheme
    return bool(a.checksums and b.checksums) and needs_files


def is_same_scheme(a: Basis, b: Basis) -> bool:
    """Whether the validation scores of two runs belong in one line.

    They do on the same images with the same labels, whoever trained. Runs of `run train` may
    validate on other images of one scheme, such as other folds.
    """
    return not explain_validation(a, b, same_images=False)


def is_known(basis: Basis) -> bool:
    """Whether it is known how a run validated: then it can be compared with one like it."""
    # what either is known of is the same as itself: asked of each of very many submissions
    return bool(basis.checksums or basis.scheme) or is_same_scheme(basis, basis)


def explain_scheme(a: Basis, b: Basis) -> str:
    """How the validation of two runs differs, or that it is unknown; empty if it is the same.

    Two rows of one table kept by hand that say nothing about validation are compared: their figures
    are in one column.
    """
    if a.own and b.own and a.scheme and b.scheme:
        return _compare_own(a, b)
    unknown = [basis for basis in (a, b) if basis.own or not basis.scheme]
    if a.own and b.own and (a.scheme or b.scheme):
        unknown = [basis for basis in unknown if not basis.scheme]
    if len(unknown) == 1 or any(basis.own or basis.recorded for basis in unknown):
        return _explain_unknown(unknown, next((one for one in (a, b) if one not in unknown), None))
    # A version that did not know a key has not written that it is none.
    differing = _keep_shared(_differ(a.scheme, b.scheme), a, b)
    for headline, keys in (("different split", SPLIT), ("different labels", LABELS)):
        if reason := _describe_difference(
            headline, {key: pair for key, pair in differing.items() if key in keys}
        ):
            return reason
    return _describe_difference(
        "different images or labels",
        {key: pair for key, pair in differing.items() if _both_known(pair)},
    )


def _compare_own(a: Basis, b: Basis) -> str:
    """How the validation of two loops differs by what both logged of it, else what one did not."""
    differing = _differ(a.scheme, b.scheme)
    if shared := _keep_shared(differing, a, b):
        return _describe_difference("different validation", shared)
    if not differing:
        return ""
    silent = [basis for basis in (a, b) if differing.keys() - basis.scheme.keys()]
    keys = ", ".join(KEY_TITLES.get(key, key) for key in differing)
    names = " and ".join(dict.fromkeys(basis.name for basis in silent))
    return f"how {names} validated is not known in full (not logged: {keys})"


def _keep_shared(
    differing: Mapping[str, tuple[Any, Any]], a: Basis, b: Basis
) -> dict[str, tuple[Any, Any]]:
    """Those keys that both have."""
    return {key: pair for key, pair in differing.items() if key in a.scheme and key in b.scheme}


def _explain_unknown(unknown: Sequence[Basis], other: Basis | None) -> str:
    """Whose validation is unknown, and how to record it."""
    if len(unknown) == 1 and unknown[0].checksums and other is not None:
        return f"{other.name} has no {VALIDATION} to compare the images of {unknown[0].name} with"
    # Of one that kept its images it is known: only the others are to blame.
    blamed = [basis for basis in unknown if not basis.checksums] or unknown
    names = " and ".join(dict.fromkeys(basis.name for basis in blamed))
    if len(blamed) == 1 and blamed[0].own and blamed[0].scheme and other is not None:
        return f"whether {names} validated as {other.name} did is not known ({_hint(blamed[0])})"
    hints: dict[str, list[str]] = {}
    for basis in blamed:
        if basis.own and not basis.checksums:
            hints.setdefault(_hint(basis), []).append(basis.name)
    parts = [*hints]
    if len(hints) > 1:
        parts = [f"{' and '.join(whose)}: {hint}" for hint, whose in hints.items()]
    return f"how {names} validated is not known" + (f" ({'; '.join(parts)})" if parts else "")


def _hint(basis: Basis) -> str:
    """How the validation of a loop could have been recorded."""
    return ADOPTED_VALIDATION if basis.adopted else HOW_TO_SAVE_VALIDATION


def _explain_unknown_training(a: Basis, b: Basis) -> str:
    """Other programs measure training figures on images and in ways that are not known here."""
    own = dict.fromkeys(basis.name for basis in (a, b) if basis.own)
    return f"how {' and '.join(own)} measured training is not known" if own else ""


def _explain_training(a: Basis, b: Basis) -> str:
    """Why figures of the training images cannot be compared: other images, or another crop."""
    differing = _differ(a.training, b.training)
    if differing.keys() <= set(CROPS):
        return _describe_difference(
            "measured on a different crop of the training images", differing
        )
    return _describe_difference("measured on different training images", differing)


def _both_known(pair: tuple[Any, Any]) -> bool:
    """Whether both sides have the value.

    One may know its data by fingerprint, the other by file names.
    """
    return None not in pair


def explain_key(key: str, monitor: str) -> str:
    """Why runs that differ in a config key cannot be compared by `monitor`; empty if they can."""
    if key in (*SPLIT, *LABELS, *SOURCES, *IMAGES):
        return (
            f"{key} changes the validation images or labels, so {monitor} cannot compare the trials"
        )
    if key in LOSS and strip_split(monitor) == "loss":
        return (
            f"{key} changes what {monitor} means, so it cannot compare the trials: monitor val/f1"
            " instead"
        )
    return ""


def explain_loss(a: Basis, b: Basis) -> str:
    """Why the losses of two runs cannot be compared; empty if they can."""
    unnamed = [basis for basis in (a, b) if basis.own and not _names_loss(basis)]
    if unnamed:
        names = " and ".join(dict.fromkeys(basis.name for basis in unnamed))
        adopted = any(basis.adopted for basis in unnamed)
        how = HOW_TO_NAME_ADOPTED_LOSS if adopted else HOW_TO_NAME_LOSS
        return f"the loss of {names} is not known ({how})"
    return _describe_difference("different loss", _differ(a.loss, b.loss))


def _names_loss(basis: Basis) -> bool:
    return any(isinstance(value, str) for value in basis.loss.values())


def _differ(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    if a is b:
        return {}
    keys = [*a, *(key for key in b if key not in a)]
    pairs = {key: (a.get(key), b.get(key)) for key in keys}
    return {key: pair for key, pair in pairs.items() if are_different(*pair)}


def _describe_difference(headline: str, differing: Mapping[str, tuple[Any, Any]]) -> str:
    """`different split (ratio 0.2 against 0.1)`, or nothing."""
    titles = {**KEY_TITLES, **LOSS}
    ways = _describe_ways(differing)
    parts = [ways] if ways else []
    for key, (x, y) in differing.items():
        if not (ways and key in WAYS):
            parts.append(f"{titles.get(key, key)} {_render(x)} against {_render(y)}")
    return f"{headline} ({', '.join(parts)})" if parts else ""


def _describe_ways(differing: Mapping[str, tuple[Any, Any]]) -> str:
    """`one split of 0.2 against 3 folds`; empty where both split in the same way, or it is unknown.

    Of a run with folds the ratio is no fact, and of one without, `folds 0` would read as its fold.
    """
    kinds, words = [], []
    for side in (0, 1):
        known = {key: pair[side] for key, pair in differing.items() if key in WAYS}
        kind = next((key for key in WAYS if known.get(key)), None)
        if kind is None:
            return ""
        kinds.append(kind)
        value = known[kind]
        folds = render_count(value, "fold") if isinstance(value, int) else f"folds {value}"
        words.append(
            {
                "data.fold_file": f"the folds of {value}",
                "data.folds": folds,
                "data.val_ratio": f"one split of {_render(value)}",
            }[kind]
        )
    return " against ".join(words) if kinds[0] != kinds[1] else ""


def name_folds(folds: Iterable[Any]) -> str:
    """`fold 0`, `folds 0 and 1`."""
    *rest, last = sorted(str(fold) for fold in folds)
    if rest:
        return f"folds {', '.join(rest)} and {last}"
    return f"{'folds' if ',' in last else 'fold'} {last}"  # an ensemble joins several


def _render(value: Any) -> str:
    if value in (None, "", []):
        return "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _compare_files(a: Basis, b: Basis) -> str:
    """Compare the saved images and labels, where both runs have them."""
    if not (a.checksums and b.checksums):
        return ""
    if not (a.file and b.file):  # of an imported row the checksums alone are known
        same = a.checksums == b.checksums
        return "" if same else "different validation images or labels, or in another order"
    from tracker.training.predict.probabilities import load_probabilities

    try:
        predictions = [load_probabilities(file) for file in (a.file, b.file)]
    except TrackerError:
        return ""
    labels = [
        dict(zip(one.ids, [] if one.labels is None else one.labels.tolist(), strict=False))
        for one in predictions
    ]
    if labels[0] == labels[1] and predictions[0].classes == predictions[1].classes:
        return ""
    shared = len(labels[0].keys() & labels[1].keys())
    if shared == len(labels[0]) == len(labels[1]):
        return "different labels or classes of the same validation images"
    return f"different validation images ({shared} shared of {len(labels[0])} and {len(labels[1])})"
