"""Brings a run made by somebody else's script into the workspace, from a folder or from MLflow.

What can be read becomes an ordinary run folder: config, curves, weights, predictions. What cannot
is named.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracker.core.clock import to_utc_text, utc_now
from tracker.core.errors import RefusedError
from tracker.core.locks import FileLock
from tracker.mirror.sync import copy_run
from tracker.mirror.targets.mlflow_server import fetch_run
from tracker.runs.read import list_runs
from tracker.runs.record import RunRecord
from tracker.training.errors import ConfigError, DataError, TrackerError, first_line
from tracker.training.files import translate_os_errors
from tracker.training.libraries import require
from tracker.training.metrics import METRICS
from tracker.training.numbers import render_count
from tracker.training.tables import parse_json, parse_toml_value, parse_yaml, read_toml
from tracker.workflows.adopt.curves import (
    LOGS,
    TABLES,
    Point,
    Series,
    find_best,
    has_points,
    name_series,
    read_series,
    read_times,
    set_epochs,
    summarize,
    to_points,
)
from tracker.workflows.adopt.predictions import choose_predictions
from tracker.workflows.adopt.several import list_runs_below
from tracker.workflows.own_loop.active_run import ActiveRun
from tracker.workflows.own_loop.begin import begin
from tracker.workflows.own_loop.common_names import common_key, common_name
from tracker.workflows.own_loop.config_tables import NO_SECTION, to_tables
from tracker.workspace.competition import Competition, Workspace
from tracker.workspace.metrics import higher_is_better

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
NO_WEIGHTS = (
    "optimizer",
    "scheduler",
    "scaler",
    "rng_state",
    "training_args",
)  # beside a model in a checkpoint folder
PREFERRED = ("best", "last")
RUNS_NAMED = 6  # of a folder with several


@dataclass
class Found:
    """What a folder or an MLflow run had to tell; `used` are the files it was read from."""

    source: str
    config: dict[str, Any] = field(default_factory=dict)
    series: list[Series] = field(default_factory=list)
    weights: Path | None = None
    predictions: Path | None = None
    used: list[Path] = field(default_factory=list)
    monitor: str = ""  # the metric that chose the best checkpoint, where a config names it
    remarks: list[str] = field(default_factory=list)
    times: list[float] = field(
        default_factory=list
    )  # seconds since 1970 at which points were logged


def adopt_folder(
    workspace: Workspace,
    folder: Path,
    *,
    note: str = "",
    names: Mapping[str, str] | None = None,
    force: bool = False,
) -> tuple[RunRecord, list[str]]:
    """Adopt a folder; returns the run and a remark for everything that was not there or could not
    be used.

    `names` are this program's names for metrics and config keys of the folder. Raises DataError
    when it has neither
    curves, weights nor predictions, ConfigError for a name that is not there, RefusedError when it
    holds several runs, or when the folder or its content was adopted before, unless `force`.
    """
    if folder.resolve().is_relative_to(workspace.runs_dir):
        raise RefusedError(
            f"{folder} is a run of this workspace", hint=f"tracker show {folder.resolve().name}"
        )
    if folder.is_dir():
        _refuse_several(folder)
    found = look_at_folder(folder, workspace)
    return _adopt(
        workspace, found, note, names or {}, content=_hash_files(found.used, folder), force=force
    )


def adopt_mlflow(
    workspace: Workspace,
    run_id: str,
    *,
    note: str = "",
    names: Mapping[str, str] | None = None,
    force: bool = False,
) -> tuple[RunRecord, list[str]]:
    """Adopt a run of the workspace's MLflow, as `adopt_folder`; raises MlflowError too."""
    _refuse_again(workspace, f"mlflow:{run_id}", None, force=force)  # before anything is downloaded
    with tempfile.TemporaryDirectory() as folder:
        params, points, times = fetch_run(workspace, run_id, Path(folder))
        found = look_at_folder(Path(folder), workspace, empty=True)
        found.source = f"mlflow:{run_id}"
        found.times = times or found.times
        found.config = _sections(params) or found.config
        found.series = _by_name(points) or found.series
        return _adopt(workspace, found, note, names or {}, content=None, force=force)


def look_at_folder(folder: Path, workspace: Workspace, *, empty: bool = False) -> Found:
    """Find config, curves, a checkpoint and a prediction CSV; raises DataError when there is none."""
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}")
    folder = folder.resolve()
    found = Found(source=str(folder))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    config = _find_config(files)
    found.config = _load_config(config) if config else {}
    if not config:
        found.remarks.append("no config found: the run has an empty one")
    found.monitor = common_name(f"eval_{found.config.get('eval_metric', '')}")  # of timm's train.py
    found.series = read_series(files, folder)
    found.times = read_times(files)
    found.weights = _choose_weights(files)
    found.predictions, remarks = choose_predictions(files, workspace)
    found.used = [
        path
        for path in files
        if path in (config, found.weights, found.predictions) or _has_curves(path)
    ]
    for name, missing in (("curves", not found.series), ("checkpoint", not found.weights)):
        if missing:
            found.remarks.append(f"no {name} found")
    found.remarks += remarks
    if not empty and not (found.series or found.weights or found.predictions):
        raise DataError(
            f"{folder}: no TensorBoard events, checkpoint or prediction CSV"
            + "".join(f"; {line}" for line in remarks[:1]),
            hint="is it the right folder?",
        )
    return found


def _adopt(
    workspace: Workspace,
    found: Found,
    note: str,
    names: Mapping[str, str],
    *,
    content: str | None,
    force: bool,
) -> tuple[RunRecord, list[str]]:
    if found.weights:
        require("torch")
    config = _rename_keys(to_tables(_restore_numbers(found.config)), found, names)
    points = _make_points(found, config, names)
    with FileLock(workspace.lock_dir / "adopt.lock"):  # of two calls at once, one adopts
        _refuse_again(workspace, found.source, content, force=force)
        note = note or f"adopted from {found.source}"
        with _begin_or_leave_none(config, note, workspace) as run:
            run.keep_facts({"adopted_from": found.source, "adopted_content": content})
            for values, step, epoch in points:
                run.log(values, step=step, epoch=epoch)
            _keep_weights(run, found, points, workspace.competition)
            if found.predictions:
                run.save_predictions(found.predictions)
            begun, ended = _find_times(found)
            run.keep_facts(
                {"adopted_at": utc_now(), "times_from": "curves" if found.times else "files"}
            )
            record = run.finish(times=(begun, ended))
    found.remarks.insert(0, f"took {_describe_taken(found, record)}")
    if problem := copy_run(workspace, record.name):
        found.remarks.append(problem)
    return record, found.remarks


@contextmanager
def _begin_or_leave_none(
    config: Mapping[str, Any], note: str, workspace: Workspace
) -> Iterator[ActiveRun]:
    """The new run; what cannot be adopted leaves none, for its source is whole where it lies."""
    run = begin(config, note=note, root=workspace.root, follow=False, quiet=True)
    try:
        with run:
            yield run
    except BaseException:
        shutil.rmtree(run.folder, ignore_errors=True)
        raise


def _refuse_several(folder: Path) -> None:
    """Raise RefusedError where several runs lie below a folder."""
    root = folder.resolve()
    kinds = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        if path.name in CONFIGS:
            kinds[path] = "config"
        elif _is_checkpoint(path):
            kinds[path] = "checkpoint"
        elif _has_curves(path) and (path.suffix.lower() not in TABLES or has_points(path)):
            kinds[path] = "curves"
    runs = [folder / run.relative_to(root) for run in list_runs_below(root, kinds)]
    if not runs:
        return
    more = len(runs) - RUNS_NAMED
    named = [run.relative_to(folder).as_posix() for run in runs[:RUNS_NAMED]]
    told = ", ".join([*named, *([f"{more} more"] if more > 0 else ())])
    commands = [f"tracker adopt {shlex.quote(str(run))}" for run in runs[:RUNS_NAMED]]
    raise RefusedError(
        f"{folder} holds {len(runs)} runs: {told}; nothing was adopted",
        hint="; ".join([*commands, *(["..."] if more > 0 else ())]),
    )


def _describe_taken(found: Found, record: RunRecord) -> str:
    """What became part of the run, and of which files."""
    taken = []
    if count := sum(len(table) for table in to_tables(found.config).values()):
        taken.append(f"{render_count(count, 'config key')}")
    if found.series:
        taken.append(
            f"{render_count(len(found.series), 'curve')} of {render_count(record.epoch, 'epoch')}"
        )
    if found.weights:
        kept = "best.pth" if record.fingerprints.get("weights") else found.weights.name
        epoch = f" (epoch {record.best_epoch})" if kept == "best.pth" and record.best_epoch else ""
        taken.append(f"{kept}{epoch}, from {found.weights.name}" if kept == "best.pth" else kept)
    if found.predictions:
        taken.append(f"predictions, from {found.predictions.name}")
    return "; ".join(taken)


def _find_times(found: Found) -> tuple[str, str]:
    """When the training began and ended: by its curves, else by the files that were read."""
    times = found.times or [path.stat().st_mtime for path in found.used] or [time.time()]
    begun, ended = (dt.datetime.fromtimestamp(at, dt.UTC) for at in (min(times), max(times)))
    return to_utc_text(begun), to_utc_text(ended)


def _refuse_again(workspace: Workspace, source: str, content: str | None, *, force: bool) -> None:
    """Raise RefusedError when a finished run came from the same folder, the same files or the same
    run of MLflow."""
    if force:
        return
    for record in list_runs(workspace.runs_dir):
        if record.status != "finished" or "adopted_from" not in record.facts:
            continue
        same = content is not None and record.facts.get("adopted_content") == content
        if same or record.facts["adopted_from"] == source:
            changed = content is not None and not same
            told = ", and has changed since" if changed else ""
            raise RefusedError(
                f"already adopted as {record.name}{told}",
                hint=f"tracker show {record.name}, or --force to adopt it as a new run",
            )


def _hash_files(files: Sequence[Path], root: Path) -> str:
    """SHA-256 over the names and contents of what was read."""
    whole = hashlib.sha256()
    for path in files:
        with translate_os_errors(path, "read"), path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(
            f"{path.relative_to(root.resolve()).as_posix()} {content}\n".encode(
                errors="surrogateescape"
            )
        )
    return f"sha256:{whole.hexdigest()}"


def _rename_keys(
    tables: Mapping[str, Mapping[str, Any]], found: Found, names: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """The config under this program's keys; one that is taken already keeps its own. Raises
    ConfigError."""
    logged = {one.name for one in found.series}
    keys = {_dotted(section, key) for section, table in tables.items() for key in table}
    if missing := sorted(set(names) - logged - keys):
        known = ", ".join(sorted(logged | keys)[:20])
        raise ConfigError(
            f"--map {missing[0]}: no such metric or config key", hint=f"there are: {known}"
        )
    renamed: dict[str, dict[str, Any]] = {}
    told = []
    for section, table in tables.items():
        for key, value in table.items():
            old = _dotted(section, key)
            if old in names:
                target, _, name = names[old].rpartition(".")
                target = target or NO_SECTION
            else:
                target, name = common_key(section, key)
            if name in renamed.get(target, {}) or (
                name in tables.get(target, {}) and (target, name) != (section, key)
            ):
                target, name = section, key
            renamed.setdefault(target, {})[name] = _fit_value(f"{target}.{name}", value)
            if (target, name) != (section, key):
                told.append(f"{old} is {target}.{name}")
    if told:
        found.remarks.append(f"config: {', '.join(told)}")
    return renamed


def _dotted(section: str, key: str) -> str:
    """A config key as the other program has it: those without a section have none there."""
    return key if section == NO_SECTION else f"{section}.{key}"


def _fit_value(name: str, value: Any) -> Any:
    """An image size as height and width; others call it 224, or 3, 224, 224."""
    if name != "data.image_size":
        return value
    if isinstance(value, int):
        return [value, value]
    return value[1:] if isinstance(value, list) and len(value) == 3 else value


def _make_points(
    found: Found, config: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]
) -> list[Point]:
    if not found.series:
        return []
    planned = config.get("train", {}).get("epochs")
    told = set_epochs(found.series, planned if isinstance(planned, int) else None)
    found.remarks += [told] if told else []
    found.remarks += name_series(
        found.series, {old: new for old, new in names.items() if old in _names(found.series)}
    )
    return to_points(found.series)


def _names(series: Iterable[Series]) -> set[str]:
    return {one.name for one in series}


def _keep_weights(
    run: ActiveRun, found: Found, points: Sequence[Point], competition: Competition
) -> None:
    """Keep the checkpoint with the metrics of its epoch: the best one where it is called best, else
    the last."""
    if not found.weights:
        return
    epoch = max((during for _, _, during in points), default=0)
    if "best" in found.weights.stem.lower():
        epoch = _find_best_epoch(found, points, competition) or epoch
    try:
        run.save_best(found.weights, epoch=epoch, metrics=summarize(points, epoch))
    except TrackerError as error:
        found.remarks.append(f"{error}; {error.hint}" if error.hint else str(error))
        run.keep_file(found.weights)


def _find_best_epoch(found: Found, points: Sequence[Point], competition: Competition) -> int | None:
    """The best epoch by the metric that chose the checkpoint, else by the competition's, accuracy,
    F1 or the loss."""
    monitors = (
        found.monitor,
        *(f"val/{name}" for name in (competition.primary_metric, *reversed(METRICS), "loss")),
    )
    for monitor in monitors:
        best = find_best(points, monitor, higher=higher_is_better(competition.metrics, monitor))
        if best is not None:
            return best
    return None


def _restore_numbers(value: Any) -> Any:
    """Texts that are numbers as numbers: YAML reads 2e-5 as a text, and MLflow keeps every
    parameter as one."""
    if isinstance(value, Mapping):
        return {key: _restore_numbers(item) for key, item in value.items()}
    if isinstance(value, str):
        parsed = parse_toml_value({"True": "true", "False": "false"}.get(value, value))
        return parsed if isinstance(parsed, bool | int | float) else value
    return value


def _find_config(files: Sequence[Path]) -> Path | None:
    by_name = {path.name: path for path in reversed(files)}
    return next((by_name[name] for name in CONFIGS if name in by_name), None)


def _has_curves(path: Path) -> bool:
    return (
        path.name.startswith("events.out.tfevents")
        or path.name in LOGS
        or path.suffix.lower() in TABLES
    )


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


def _sections(params: Mapping[str, Any]) -> dict[str, Any]:
    """MLflow's flat parameters as sections: `optim.lr` is key lr of section optim."""
    tables: dict[str, Any] = {}
    for name, value in params.items():
        section, dot, key = name.partition(".")
        if dot:
            tables.setdefault(section, {})[key] = value
        else:
            tables[name] = value
    return tables


def _by_name(points: Iterable[tuple[Mapping[str, float], int]]) -> list[Series]:
    """Points of MLflow as series."""
    found: dict[str, Series] = {}
    for values, step in points:
        for name, value in values.items():
            found.setdefault(name, Series(name, {})).values[step] = value
    return list(found.values())


def _choose_weights(files: Sequence[Path]) -> Path | None:
    """The checkpoint called best, else last, else the newest."""
    found = [path for path in files if _is_checkpoint(path)]
    for word in PREFERRED:
        for path in found:
            if word in path.stem.lower():
                return path
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _is_checkpoint(path: Path) -> bool:
    return path.name.endswith(WEIGHTS) and not path.stem.startswith(NO_WEIGHTS)
