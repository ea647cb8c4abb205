"""Brings a run made by somebody else's script into the workspace, from a folder or from MLflow.

What can be read becomes an ordinary run folder: config, curves, weights, predictions. What cannot is named.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracker.api import begin, copy_to_mlflow
from tracker.errors import ConfigError, DataError, TrackerError
from tracker.mlflow_log import fetch_run
from tracker.runs import RunRecord
from tracker.training.tables import parse_json, parse_toml_value, parse_yaml, read_columns, read_toml
from tracker.workspace import Competition, Workspace

CONFIGS = ("config.json", "config.yaml", "config.yml", "config.toml", "args.yaml", "hparams.yaml", "params.json")
WEIGHTS = (".pth", ".pt", ".ckpt")
PREFERRED = ("best", "last")


@dataclass
class Found:
    """What a folder or an MLflow run had to tell; `points` are (values, step)."""

    source: str
    config: dict[str, Any] = field(default_factory=dict)
    points: list[tuple[dict[str, float], int]] = field(default_factory=list)
    weights: Path | None = None
    predictions: Path | None = None
    remarks: list[str] = field(default_factory=list)


def adopt_folder(workspace: Workspace, folder: Path, *, note: str = "") -> tuple[RunRecord, list[str]]:
    """Adopt a folder; returns the run and a remark for everything that was not there or could not be used.

    Raises DataError when the folder has neither curves, weights nor predictions.
    """
    return _adopt(workspace, look_at_folder(folder, workspace.competition), note)


def adopt_mlflow(workspace: Workspace, run_id: str, *, note: str = "") -> tuple[RunRecord, list[str]]:
    """Adopt a run of the workspace's MLflow; raises MlflowError, or DataError when it has nothing to adopt."""
    with tempfile.TemporaryDirectory() as folder:
        params, points = fetch_run(workspace, run_id, Path(folder))
        found = look_at_folder(Path(folder), workspace.competition, empty=True)
        found.source = f"mlflow:{run_id}"
        found.config = _sections(params) or found.config
        found.points = points or found.points
        return _adopt(workspace, found, note)


def look_at_folder(folder: Path, competition: Competition, *, empty: bool = False) -> Found:
    """Find config, TensorBoard events, a checkpoint and a prediction CSV; raises DataError when there is none."""
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}")
    found = Found(source=str(folder.resolve()))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found.config = _read_config(files, found.remarks)
    found.points = _read_events(files)
    found.weights = _choose_weights(files)
    found.predictions = _choose_predictions(files, competition, found.remarks)
    for name, missing in (("curves", not found.points), ("checkpoint", not found.weights)):
        if missing:
            found.remarks.append(f"no {name} found")
    if not empty and not (found.points or found.weights or found.predictions):
        raise DataError(
            f"{folder}: no TensorBoard events, checkpoint or prediction CSV", hint="is it the right folder?"
        )
    return found


def _adopt(workspace: Workspace, found: Found, note: str) -> tuple[RunRecord, list[str]]:
    note = note or f"adopted from {found.source}"
    with begin(_restore_numbers(found.config), note=note, root=workspace.root, follow=False) as run:
        run.keep_facts({"adopted_from": found.source})
        for values, step in found.points:
            run.log(values, step=step, epoch=step)
        summary: dict[str, float] = {}
        for values, _ in found.points:
            summary |= values
        if found.weights:
            try:
                run.save_best(found.weights, epoch=_last_step(found.points), metrics=summary)
            except TrackerError as error:
                found.remarks.append(str(error))
                run.keep_file(found.weights)
        if found.predictions:
            run.save_predictions(found.predictions)
        record = run.finish()
    if problem := copy_to_mlflow(workspace, record.name):
        found.remarks.append(problem)
    return record, found.remarks


def _restore_numbers(value: Any) -> Any:
    """Texts that are numbers as numbers: YAML reads 2e-5 as a text, and MLflow keeps every parameter as one."""
    if isinstance(value, Mapping):
        return {key: _restore_numbers(item) for key, item in value.items()}
    if isinstance(value, str):
        parsed = parse_toml_value({"True": "true", "False": "false"}.get(value, value))
        return parsed if isinstance(parsed, bool | int | float) else value
    return value


def _last_step(points: Iterable[tuple[Mapping[str, float], int]]) -> int:
    return max((step for _, step in points), default=0)


def _read_config(files: list[Path], remarks: list[str]) -> dict[str, Any]:
    by_name = {path.name: path for path in reversed(files)}
    for name in CONFIGS:
        if name in by_name:
            return _load_config(by_name[name])
    remarks.append("no config found: the run has an empty one")
    return {}


def _load_config(path: Path) -> dict[str, Any]:
    if path.suffix == ".toml":
        return read_toml(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        loaded = parse_json(text) if path.suffix == ".json" else parse_yaml(text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
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


def _read_events(files: list[Path]) -> list[tuple[dict[str, float], int]]:
    """Scalars of all TensorBoard event files as points, by step."""
    folders = sorted({path.parent for path in files if path.name.startswith("events.out.tfevents")})
    if not folders:
        return []
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    by_step: dict[int, dict[str, float]] = {}
    for folder in folders:
        board = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()
        for tag in board.Tags()["scalars"]:
            for event in board.Scalars(tag):
                by_step.setdefault(event.step, {})[tag] = event.value
        for tag in board.Tags()["tensors"]:
            for event in board.Tensors(tag):
                array = make_ndarray(event.tensor_proto)
                if array.size == 1 and array.dtype.kind in "fiu":
                    by_step.setdefault(event.step, {})[tag] = float(array.item())
    return [(by_step[step], step) for step in sorted(by_step)]


def _choose_weights(files: list[Path]) -> Path | None:
    """The checkpoint called best, else last, else the newest."""
    found = [path for path in files if path.suffix in WEIGHTS]
    for word in PREFERRED:
        for path in found:
            if word in path.stem.lower():
                return path
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _choose_predictions(files: list[Path], competition: Competition, remarks: list[str]) -> Path | None:
    """The CSV that has the competition's two columns; with several, the newest."""
    columns = (competition.id_column, competition.label_column)
    found = []
    for path in files:
        if path.suffix.lower() == ".csv":
            try:
                next(read_columns(path, columns), None)
                found.append(path)
            except TrackerError:
                continue  # another table
    if not found:
        remarks.append(f"no CSV with columns {', '.join(columns)}: it cannot be submitted")
    elif len(found) > 1:
        remarks.append(f"{len(found)} prediction tables, the newest was taken")
    return max(found, key=lambda path: path.stat().st_mtime, default=None)
