"""The workspace's images in the form that `training` needs: the task, and a config's data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.training.config import Config, DataConfig
from tracker.training.errors import ConfigError
from tracker.training.metrics import FUNCTION, find_kind
from tracker.workspace.holdout import read_held_out
from tracker.workspace.tracker_toml import Competition, Metric, Workspace

if TYPE_CHECKING:
    from tracker.training.formats.samples import LoadedData, Task, TaskMetric


def list_competition_ids(workspace: Workspace, config: Mapping[str, Any]) -> list[str] | None:
    """The ids to predict, as the sample, or else the evaluation folder of tracker.toml or of the
    run has them, or None."""
    if held_out := read_held_out(workspace):
        return list(held_out)
    paths: dict[str, Any] = {}
    for key in ("eval_dir", "sample", "eval_table"):
        text = workspace.data.get(key) or config.get("data", {}).get(key, "")
        paths[key] = str(workspace.resolve(str(text))) if text else ""
    if not any(paths.values()):
        return None
    from tracker.training.data.data import list_eval_ids

    data = replace(DataConfig(label_id=str(workspace.data.get("label_id", ""))), **paths)
    return list_eval_ids(data, _make_task(workspace), root=workspace.root)


def build_task(workspace: Workspace) -> Task:
    """The competition as a `Task` of training.

    Raises ConfigError when it has no classes, DataError where the list of held-out images is
    damaged.
    """
    competition = workspace.competition
    if not competition.classes and competition.target != "number":
        raise ConfigError(
            "competition.classes is empty in tracker.toml",
            hint='write the class names: classes = ["cat", "dog"]',
        )
    return _make_task(workspace)


def _make_task(workspace: Workspace) -> Task:
    from tracker.training.formats.samples import Task

    competition = workspace.competition
    return Task(
        target=competition.target,
        classes=competition.classes,
        id_column=competition.id_column,
        label_column=competition.label_column,
        answer_words=competition.answer_words,
        answer=competition.answer,
        answer_columns=competition.value_columns if competition.answer == "columns" else (),
        top_k=competition.top_k,
        metrics=_list_task_metrics(competition, workspace.root),
        held_out=read_held_out(workspace),
    )


def _list_task_metrics(competition: Competition, root: Path) -> tuple[TaskMetric, ...]:
    """The metrics that training computes, the deciding one first."""
    from tracker.training.formats.samples import TaskMetric
    from tracker.workspace.judge_function import OutcomeJudge

    metrics = sorted(competition.metrics, key=lambda metric: metric is not competition.primary)
    return tuple(
        TaskMetric(
            name=metric.name,
            kind=metric.kind,
            higher_is_better=metric.higher_is_better,
            parameters=metric.parameters,
            function=OutcomeJudge(metric, competition, root) if metric.kind == FUNCTION else None,
        )
        for metric in metrics
        if _fits(metric, competition)
    )


def _fits(metric: Metric, competition: Competition) -> bool:
    """Whether a metric is computed here, from what a model of this target gives."""
    if metric.kind == FUNCTION:
        is_number = competition.target == "number"
        return len(competition.value_columns) == 1 if is_number else bool(competition.classes)
    computed = find_kind(metric.kind)
    if computed is None or computed.from_outcome is None:
        return False
    provided = {"decided"} if competition.target == "number" else {"decided", "scores"}
    return bool(provided & set(computed.needs))


def prepare_data(workspace: Workspace, config: Config) -> tuple[Task, LoadedData]:
    """Load the list of images, and check it; raises DataError with every problem."""
    from tracker.training.data.data import load_data

    task = build_task(workspace)
    cache = workspace.state_dir / "images.npz"
    data = load_data(locate_data(workspace, config.data), task, root=workspace.root, cache=cache)
    return task, data


def locate_data(workspace: Workspace, data: DataConfig) -> DataConfig:
    """The same data config, with paths into an earlier location of the workspace corrected.

    The run's own config is not changed.
    """
    from tracker.workspace.moved_paths import find_moved_paths

    return replace(data, **find_moved_paths(workspace.root, asdict(data)))
