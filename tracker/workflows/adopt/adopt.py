"""Import a run that somebody else's script made, from a folder or from MLflow.

Config, curves, weights and predictions that can be read become an ordinary run folder. Remarks say
what could not be used.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import shlex
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracker.core.clock import to_utc_text, utc_now
from tracker.core.errors import RefusedError, TrackerError
from tracker.core.hints import find_hint
from tracker.core.locks import FileLock
from tracker.core.metric_names import SYSTEM_PREFIX
from tracker.mirror.sync import copy_run
from tracker.mirror.targets.mlflow_server import fetch_run
from tracker.run_folder.members import list_member_names
from tracker.run_folder.read import list_runs
from tracker.run_folder.record import RunRecord
from tracker.training.errors import ConfigError, DataError, first_line
from tracker.training.files import translate_os_errors
from tracker.training.key_names import common_key
from tracker.training.libraries import require
from tracker.training.metrics import METRICS
from tracker.training.numbers import render_count
from tracker.training.tables import parse_json, parse_toml_value, parse_yaml, read_toml
from tracker.workflows.adopt.curves import Point, find_best, name_series, summarize, to_points
from tracker.workflows.adopt.epochs import set_epochs
from tracker.workflows.adopt.logs import (
    TABLES,
    Series,
    has_curves,
    has_points,
    read_series,
    read_times,
)
from tracker.workflows.adopt.original import (
    PREDICTIONS,
    Original,
    find_end,
    find_original,
    find_same,
    is_adopted,
    link_adopted,
    take_over,
)
from tracker.workflows.adopt.original import WEIGHTS as BEST
from tracker.workflows.adopt.predictions import REFUSED, choose_predictions
from tracker.workflows.adopt.recorded import find_recorded
from tracker.workflows.adopt.several import list_runs_below
from tracker.workflows.own_loop.active_run import ActiveRun
from tracker.workflows.own_loop.begin import begin
from tracker.workflows.own_loop.common_names import common_name
from tracker.workflows.own_loop.config_tables import NO_SECTION, to_tables
from tracker.workflows.own_loop.given_predictions import read_given
from tracker.workspace.metrics import higher_is_better
from tracker.workspace.predictions import check_answers
from tracker.workspace.tracker_toml import Competition, Workspace

# In this order; the first one found is read.
CONFIGS = (
    "config.json",
    "config.yaml",
    "config.yml",
    "config.toml",
    "args.yaml",
    "args.json",
    "hparams.yaml",
    "params.json",
)
WEIGHTS = (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".pth.tar")
# Files in a checkpoint folder that are not the model.
NO_WEIGHTS = ("optimizer", "scheduler", "scaler", "rng_state", "training_args")
PREFERRED = ("best", "last")  # words in the name of the checkpoint to take
# Files of a run folder of this program that are told to be taken.
TOLD = ("best.pth", "predictions.csv", "validation.npz", "probabilities.npz", "decision.json")
SHOWN_NAMES = 20  # in a hint
# How a run of MLflow ended, by its status there; any other goes on.
ENDS = {"FINISHED": ("finished", ""), "FAILED": ("failed", ""), "KILLED": ("killed", "")}
MAX_NAMED_RUNS = 6  # of a folder with several


@dataclass
class ForeignRun:
    """A run made elsewhere, as read from a folder or from MLflow.

    `files` are all files of the folder, `used` those that the run is made from.
    """

    source: str
    config: dict[str, Any] = field(default_factory=dict)
    series: list[Series] = field(default_factory=list)
    weights: Path | None = None
    predictions: Path | None = None
    used: list[Path] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    monitor: str = ""  # the metric that chose the best checkpoint, if the config has it
    remarks: list[str] = field(default_factory=list)
    # A run folder of this program, whose record says the rest.
    original: Original | None = None
    # Status and reason, where something says how it ended: folders of other programs do not.
    end: tuple[str, str] = ("finished", "")
    # Seconds since 1970 at which points were logged.
    times: list[float] = field(default_factory=list)


def adopt_folder(
    workspace: Workspace,
    folder: Path,
    *,
    note: str = "",
    names: Mapping[str, str] | None = None,
    force: bool = False,
) -> tuple[RunRecord, list[str]]:
    """Adopt a folder; returns the run, and a remark for everything missing or not usable.

    `names` maps metrics and config keys of the folder to names of this program. Raises DataError
    when the folder has no curves, weights or predictions, ConfigError for a name that is not there,
    RefusedError when it holds several runs, or when the folder, a file of it or its content was
    adopted before, unless `force`.
    """
    if folder.resolve().is_relative_to(workspace.runs_dir):
        raise RefusedError(
            f"{folder} is a run of this workspace", hint=f"tracker show {folder.resolve().name}"
        )
    if folder.is_dir():
        _refuse_several(workspace, folder)
    foreign = read_folder(folder, workspace)
    return _adopt(
        workspace,
        foreign,
        note,
        names or {},
        content=_hash_files(foreign.used, folder),
        force=force,
    )


def adopt_mlflow(
    workspace: Workspace,
    run_id: str,
    *,
    note: str = "",
    names: Mapping[str, str] | None = None,
    force: bool = False,
) -> tuple[RunRecord, list[str]]:
    """Adopt a run of the workspace's MLflow, like `adopt_folder`; raises MlflowError, too."""
    # Before anything is downloaded.
    _refuse_again(workspace, f"mlflow:{run_id}", None, [], force=force)
    with tempfile.TemporaryDirectory() as folder:
        params, points, times, status = fetch_run(workspace, run_id, Path(folder))
        foreign = read_folder(Path(folder), workspace, empty=True)
        foreign.source = f"mlflow:{run_id}"
        if foreign.original:
            return _adopt(workspace, foreign, note, names or {}, content=None, force=force)
        foreign.times = times or foreign.times
        foreign.end = ENDS.get(status, ("interrupted", f"adopted while it was {status} in MLflow"))
        if foreign.end[0] != "finished":
            foreign.remarks.append(f"its status in MLflow was {status}")
        foreign.config = _to_sections(params) or foreign.config
        foreign.series = _to_series(points) or foreign.series
        return _adopt(workspace, foreign, note, names or {}, content=None, force=force)


def read_folder(folder: Path, workspace: Workspace, *, empty: bool = False) -> ForeignRun:
    """Read config, curves, checkpoint and predictions; raises DataError if none, unless `empty`."""
    if folder.is_file():
        hint = f"name the folder that it is in: {folder.parent}"
        raise DataError(f"{folder} is a file, not the folder of a run", hint=hint)
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}")
    folder = folder.resolve()
    if original := find_original(folder):
        return _read_original(original)
    # Read what is there ...
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    foreign = ForeignRun(source=str(folder), files=files)
    config = _find_config(files)
    foreign.config = _load_config(config) if config else {}
    if not config:
        foreign.remarks.append("no config found: the run has an empty one")
    foreign.monitor = common_name(
        f"eval_{foreign.config.get('eval_metric', '')}"
    )  # of timm's train.py
    foreign.series = read_series(files, folder)
    foreign.times = read_times(files)
    foreign.weights = _choose_weights(files)
    foreign.predictions, remarks = choose_predictions(files, workspace)
    # ... then note which files it is from, and what is missing.
    single_files = (config, foreign.weights, foreign.predictions)
    foreign.used = [path for path in files if path in single_files or has_curves(path)]
    for name, missing in (("curves", not foreign.series), ("checkpoint", not foreign.weights)):
        if missing:
            foreign.remarks.append(f"no {name} found")
    foreign.remarks += remarks
    if not empty and not (foreign.series or foreign.weights or foreign.predictions):
        refused = [remark for remark in remarks if REFUSED in remark]
        nothing = "no curves (TensorBoard, CSV, JSON), no checkpoint and no prediction CSV"
        raise DataError(
            "; ".join([f"{folder}: {nothing}", *refused]),
            hint="check that it is the right folder",
        )
    return foreign


def _read_original(original: Original) -> ForeignRun:
    """A run folder of this program."""
    points, predictions = original.file("metrics.jsonl"), original.file(PREDICTIONS)
    foreign = ForeignRun(source=str(original.folder), config=original.config, original=original)
    foreign.end = find_end(original.record)
    foreign.files = foreign.used = original.used
    foreign.series = read_series([points] if points else [], original.folder)
    foreign.weights = original.file(BEST)
    foreign.predictions = predictions
    if predictions is None:
        foreign.remarks.append("no predictions.csv: the run cannot be submitted")
    return foreign


def _adopt(
    workspace: Workspace,
    foreign: ForeignRun,
    note: str,
    names: Mapping[str, str],
    *,
    content: str | None,
    force: bool,
) -> tuple[RunRecord, list[str]]:
    """Make the run; `content` is the hash of its files, None for a run of MLflow."""
    if foreign.weights:
        require("torch")
    config = foreign.config
    if foreign.original is None or names:
        config = _rename_keys(to_tables(_restore_numbers(config)), foreign, names)
    config, member_facts = link_adopted(workspace, config, foreign.original)
    points = _make_points(foreign, config, names)
    _check_predictions(workspace, foreign.predictions)
    # Of two calls at the same time only one adopts.
    with FileLock(workspace.state_dir / "adopt.lock"):
        used = [] if content is None else foreign.used
        _refuse_again(workspace, foreign.source, content, used, force=force)
        if not force:
            _refuse_recorded(workspace, foreign, points)
        original = foreign.original.record if foreign.original else None
        if not note:
            source = f"adopted from {foreign.source}"
            note = f"{original.note} ({source})" if original and original.note else source
        # An ordinary run of a training loop, without copies until it is complete.
        kind = original.kind if original else _find_kind(config)
        tags = original.tags if original else ()
        with _begin_or_leave_none(config, note, workspace, kind=kind, tags=tags) as run:
            if foreign.original:
                foreign.remarks += take_over(run, foreign.original)
            run.add_facts(
                {
                    **member_facts,
                    "adopted_from": foreign.source,
                    "adopted_content": content,
                    "adopted_files": [_name_file(path, Path(foreign.source)) for path in used],
                }
            )
            for values, step, epoch in points:
                run.log(values, step=step, epoch=epoch)
            if foreign.original is None:
                _save_weights(run, foreign, points, workspace.competition)
            if foreign.predictions:
                run.save_predictions(foreign.predictions)
            times, (status, reason) = _find_times(foreign), foreign.end
            run.add_facts({"adopted_at": utc_now(), "times_from": _name_times(foreign)})
            record = run.finish(status, error=reason, times=times)
    foreign.remarks.insert(0, f"took {_describe_taken(foreign, record)}")
    if problem := copy_run(workspace, record.name):
        foreign.remarks.append(problem)
    return record, foreign.remarks


def _check_predictions(workspace: Workspace, path: Path | None) -> None:
    """Raise DataError for answers that no run takes; the rest can be had without them."""
    if path is None:
        return
    try:
        check_answers(read_given(path, workspace.competition), workspace.competition, None)
    except (RefusedError, DataError) as error:
        raise DataError(
            f"{path.name} cannot be taken as predictions: {error}",
            hint="mend it, or move it elsewhere: the run is then adopted without predictions",
        ) from error


def _find_kind(config: Mapping[str, Any]) -> str:
    """A run of MLflow may be an ensemble of this program."""
    return "ensemble" if list_member_names(config) else "train"


def _refuse_recorded(workspace: Workspace, foreign: ForeignRun, points: Sequence[Point]) -> None:
    """Raise RefusedError for a training that a run here recorded, or that is a run here."""
    if foreign.original:
        name = find_same(workspace, foreign.original.record.uid)
    else:
        recorded = find_recorded(workspace, foreign.files, points)
        name = recorded.name if recorded else ""
    if name:
        raise RefusedError(
            f"already recorded as {name}",
            hint=f"tracker show {name}, or --force to adopt it as a new run",
        )


@contextmanager
def _begin_or_leave_none(
    config: Mapping[str, Any], note: str, workspace: Workspace, **options: Any
) -> Iterator[ActiveRun]:
    """The new run; what cannot be adopted leaves none, for its source is whole where it lies."""
    run = begin(config, note=note, root=workspace.root, follow=False, quiet=True, **options)
    try:
        yield run
    except BaseException:
        run.discard()
        raise


def _refuse_several(workspace: Workspace, folder: Path) -> None:
    """Raise RefusedError where several runs lie below a folder; its hint adopts the new ones."""
    root = folder.resolve()
    kinds = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        if path.name in CONFIGS:
            kinds[path] = "config"
        elif _is_checkpoint(path):
            kinds[path] = "checkpoint"
        elif has_curves(path) and (path.suffix.lower() not in TABLES or has_points(path)):
            kinds[path] = "curves"
    runs = [folder / run.relative_to(root) for run in list_runs_below(root, kinds)]
    if not runs:
        return
    before = {record.facts["adopted_from"]: record.name for record in _list_adopted(workspace)}
    names = {run: before.get(str(run.resolve()), "") for run in runs}
    # Those that are left to adopt come first: of many runs only some are named.
    runs = sorted(runs, key=lambda run: names[run] != "")
    named = [
        run.relative_to(folder).as_posix() + (f" (is {names[run]})" if names[run] else "")
        for run in runs[:MAX_NAMED_RUNS]
    ]
    more = len(runs) - MAX_NAMED_RUNS
    told = ", ".join([*named, *([f"{more} more"] if more > 0 else ())])
    left = [run for run in runs if not names[run]]
    commands = [f"tracker adopt {shlex.quote(str(run))}" for run in left[:MAX_NAMED_RUNS]]
    commands += ["..."] if len(left) > MAX_NAMED_RUNS else []
    raise RefusedError(
        f"{folder} holds {len(runs)} runs: {told}; nothing was adopted",
        hint="; ".join(commands) or "all of them were adopted before: tracker runs",
    )


def _describe_taken(foreign: ForeignRun, record: RunRecord) -> str:
    """What became part of the run, and from which files."""
    taken = []
    if count := sum(len(table) for table in to_tables(foreign.config).values()):
        taken.append(f"{render_count(count, 'config key')}")
    if count := sum(not one.name.startswith(SYSTEM_PREFIX) for one in foreign.series):
        curves = render_count(count, "curve")
        epochs = f" of {render_count(record.epoch, 'epoch')}" if record.epoch else ""
        taken.append(f"{curves}{epochs}")
    if foreign.original:
        taken += [path.name for path in foreign.used if path.name in TOLD]
    elif foreign.weights:
        if record.fingerprints.get("weights"):
            epoch = f" (epoch {record.best_epoch})" if record.best_epoch else ""
            taken.append(f"best.pth{epoch}, from {foreign.weights.name}")
        else:  # only copied: its weights could not be read
            taken.append(foreign.weights.name)
    if foreign.predictions and not foreign.original:
        taken.append(f"predictions, from {foreign.predictions.name}")
    return "; ".join(taken)


def _name_times(foreign: ForeignRun) -> str:
    """What `_find_times` reads."""
    if foreign.original:
        return "record"
    return "curves" if foreign.times else "files"


def _find_times(foreign: ForeignRun) -> tuple[str, str]:
    """The beginning and end of the training: from its record, its curves, else from the times of
    its files."""
    if foreign.original:
        record = foreign.original.record
        return record.created_at, record.finished_at or record.heartbeat or record.created_at
    times = foreign.times or [path.stat().st_mtime for path in foreign.used] or [time.time()]
    first, last = (dt.datetime.fromtimestamp(time_s, dt.UTC) for time_s in (min(times), max(times)))
    return to_utc_text(first), to_utc_text(last)


def _refuse_again(
    workspace: Workspace, source: str, content: str | None, used: Sequence[Path], *, force: bool
) -> None:
    """Raise RefusedError when an adopted run is from the same folder, files or run of MLflow.

    `used` are the files of this one: a run is the same one, too, from a folder above or below.
    """
    if force:
        return
    for record in _list_adopted(workspace):
        hint = f"tracker show {record.name}, or --force to adopt it as a new run"
        same = content is not None and record.facts.get("adopted_content") == content
        if same or record.facts["adopted_from"] == source:
            changed = ", and has changed since" if content is not None and not same else ""
            raise RefusedError(f"already adopted as {record.name}{changed}", hint=hint)
        if shared := _find_shared(record, used):
            folder = record.facts["adopted_from"]
            raise RefusedError(
                f"already adopted as {record.name}, from {folder}: {shared.name} was a part of it",
                hint=hint,
            )


def _list_adopted(workspace: Workspace) -> list[RunRecord]:
    """The runs that were adopted."""
    return [record for record in list_runs(workspace.runs_dir) if is_adopted(record)]


def _find_shared(record: RunRecord, used: Sequence[Path]) -> Path | None:
    """The first of the files that an adopted run is made from, too; None where none is.

    Of a run that was adopted before its files were recorded, all files of its folder count.
    """
    folder, taken = Path(record.facts["adopted_from"]), record.facts.get("adopted_files")
    for path in used:
        if path.is_relative_to(folder) and (taken is None or _name_file(path, folder) in taken):
            return path
    return None


def _name_file(path: Path, root: Path) -> str:
    """A file's name below its folder, as text that JSON can hold whatever its bytes are."""
    name = path.relative_to(root).as_posix()
    return name.encode(errors="surrogateescape").decode(errors="replace")


def _hash_files(files: Sequence[Path], root: Path) -> str:
    """SHA-256 over the names and contents of the files."""
    whole = hashlib.sha256()
    for path in files:
        with translate_os_errors(path, "read"), path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        line = f"{path.relative_to(root.resolve()).as_posix()} {content}\n"
        whole.update(line.encode(errors="surrogateescape"))
    return f"sha256:{whole.hexdigest()}"


def _rename_keys(
    tables: Mapping[str, Mapping[str, Any]], foreign: ForeignRun, names: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """The config by the keys of this program; a key keeps its name if the new one is taken.

    Raises ConfigError for a name in `names` that is neither a metric nor a config key.
    """
    logged = {one.name for one in foreign.series}
    keys = {_dotted(section, key) for section, table in tables.items() for key in table}
    if missing := sorted(set(names) - logged - keys):
        known = ", ".join(sorted(logged | keys)[:SHOWN_NAMES])
        raise ConfigError(
            f"--map {missing[0]}: no such metric or config key", hint=f"known: {known}"
        )
    # Rename key by key, unless the new name is taken.
    renamed: dict[str, dict[str, Any]] = {}
    changes = []
    for section, table in tables.items():
        for key, value in table.items():
            old = _dotted(section, key)
            if old in names:
                target, _, name = names[old].rpartition(".")
                target = target or NO_SECTION
            else:
                target, name = common_key(section, key)
            is_new = (target, name) != (section, key)
            is_taken = is_new and name in tables.get(target, {})
            if is_taken or name in renamed.get(target, {}):
                target, name = section, key
            renamed.setdefault(target, {})[name] = _fit_value(f"{target}.{name}", value)
            if (target, name) != (section, key):
                changes.append(f"{old} is {target}.{name}")
    if changes:
        foreign.remarks.append(f"config: {', '.join(changes)}")
    return renamed


def _dotted(section: str, key: str) -> str:
    """A config key as in the other program, where it may have no section."""
    return key if section == NO_SECTION else f"{section}.{key}"


def _fit_value(name: str, value: Any) -> Any:
    """An image size as [height, width]; other programs write 224 or [3, 224, 224]."""
    if name != "data.image_size":
        return value
    if isinstance(value, int):
        return [value, value]
    return value[1:] if isinstance(value, list) and len(value) == 3 else value


def _make_points(
    foreign: ForeignRun, config: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]
) -> list[Point]:
    """The points of the curves, with epochs and the names of this program."""
    if not foreign.series:
        return []
    if foreign.original and not names:
        return to_points(foreign.series)
    planned = config.get("train", {}).get("epochs")
    remark = set_epochs(foreign.series, planned if isinstance(planned, int) else None)
    if remark:
        foreign.remarks.append(remark)
    metrics = {one.name for one in foreign.series}
    given = {old: new for old, new in names.items() if old in metrics}
    foreign.remarks += name_series(foreign.series, given)
    return to_points(foreign.series)


def _save_weights(
    run: ActiveRun, foreign: ForeignRun, points: Sequence[Point], competition: Competition
) -> None:
    """Save the checkpoint as best.pth with the metrics of its epoch.

    That is the best epoch when the file is called best, else the last. One whose weights cannot be
    read is copied as it is, with a remark.
    """
    if not foreign.weights:
        return
    epoch = max((epoch for _, _, epoch in points), default=0)
    if "best" in foreign.weights.stem.lower():
        epoch = _find_best_epoch(foreign, points, competition) or epoch
    try:
        run.save_best(foreign.weights, epoch=epoch, metrics=summarize(points, epoch))
    except TrackerError as error:
        hint = find_hint(error)
        foreign.remarks.append(f"{error}; {hint}" if hint else str(error))
        run.add_file(foreign.weights)


def _find_best_epoch(
    foreign: ForeignRun, points: Sequence[Point], competition: Competition
) -> int | None:
    """The best epoch by the metric that chose the checkpoint.

    If that is unknown, by the competition's metric, accuracy, F1 or the loss.
    """
    monitors = (
        foreign.monitor,
        *(f"val/{name}" for name in (competition.primary_metric, *reversed(METRICS), "loss")),
    )
    for monitor in monitors:
        best = find_best(points, monitor, higher=higher_is_better(competition.metrics, monitor))
        if best is not None:
            return best
    return None


def _restore_numbers(value: Any) -> Any:
    """Numbers instead of texts of numbers: YAML reads 2e-5 as a text, MLflow has texts only."""
    if isinstance(value, Mapping):
        return {key: _restore_numbers(item) for key, item in value.items()}
    if isinstance(value, str):
        as_toml = {"True": "true", "False": "false"}.get(value, value)
        parsed = parse_toml_value(as_toml)
        return parsed if isinstance(parsed, bool | int | float) else value
    return value


def _find_config(files: Sequence[Path]) -> Path | None:
    by_name = {path.name: path for path in reversed(files)}
    return next((by_name[name] for name in CONFIGS if name in by_name), None)


def _load_config(path: Path) -> dict[str, Any]:
    if path.suffix == ".toml":
        return read_toml(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        loaded = parse_json(text) if path.suffix == ".json" else parse_yaml(text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {first_line(error)}") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: expected keys and values at the top")
    return loaded


def _to_sections(params: Mapping[str, Any]) -> dict[str, Any]:
    """MLflow's flat parameters as sections: `optim.lr` is key lr of section optim."""
    tables: dict[str, Any] = {}
    for name, value in params.items():
        section, dot, key = name.partition(".")
        if dot:
            tables.setdefault(section, {})[key] = value
        else:
            tables[name] = value
    return tables


def _to_series(points: Iterable[tuple[Mapping[str, float], int]]) -> list[Series]:
    """(values, step) points of MLflow as series."""
    by_name: dict[str, Series] = {}
    for values, step in points:
        for name, value in values.items():
            by_name.setdefault(name, Series(name, {})).values[step] = value
    return list(by_name.values())


def _choose_weights(files: Sequence[Path]) -> Path | None:
    """The checkpoint called best, else the one called last, else the newest."""
    checkpoints = [path for path in files if _is_checkpoint(path)]
    for word in PREFERRED:
        for path in checkpoints:
            if word in path.stem.lower():
                return path
    return max(checkpoints, key=lambda path: path.stat().st_mtime, default=None)


def _is_checkpoint(path: Path) -> bool:
    return path.name.endswith(WEIGHTS) and not path.stem.startswith(NO_WEIGHTS)
