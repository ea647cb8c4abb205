"""The competition's experiments in MLflow: the runs with their saved view, and the report."""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from tracker.core.clock import utc_now
from tracker.core.locks import FileLock
from tracker.core.metric_names import to_chart_name, to_mlflow_name
from tracker.mirror.targets.mlflow_server import (
    CHANGED_TAG,
    COPIED_TAG,
    HEARTBEAT_TAG,
    HOST_TAG,
    connect,
    find_one,
    library_errors,
    translate,
)
from tracker.training.metrics import find_kind, first_metric
from tracker.training.targets import TARGETS
from tracker.workspace.tracker_toml import Workspace

# The last value of each: after the end of a run that is its last epoch's, or its last sample.
MACHINE_METRICS = (
    "train/images_per_s",
    "system/cpu_percent",
    "system/memory_mb",
    "system/gpu_0_percent",
    "system/gpu_0_memory_mb",
)
# MLflow lists its saved views of the runs table by these tags of the experiment; the id of a view
# is in addresses that people keep, so it stays. `tracker ui` opens the first view.
VIEW_PREFIX = "mlflow.sharedViewState."
VIEW_KEY = "tracker"
VIEW_KEYS = {"Leaderboard": VIEW_KEY, "Curves": "tracker-curves", "Machines": "tracker-machines"}
PACKED = "deflate;"  # before a state that is zlib's, in base64
MACHINE_COLUMNS = (
    f"tags.`{HOST_TAG}`",
    "attributes.`User`",
    "tags.`tracker.status`",
    f"tags.`{HEARTBEAT_TAG}`",
    "attributes.`Created`",
    "attributes.`Duration`",
    *(f"metrics.`{to_chart_name(to_mlflow_name(name))}`" for name in MACHINE_METRICS),
)
REPORT_TAGS = {"tracker.kind": "report"}


def ensure_experiment(client: Any, workspace: Workspace) -> str:
    """The id of the competition's experiment, created if needed; raises MLflow's own errors."""
    primary = workspace.competition.primary
    tags = {
        "mlflow.experiment.primaryMetric.name": f"public_{primary.name}",
        "mlflow.experiment.primaryMetric.greaterIsBetter": str(primary.higher_is_better),
    }
    return _ensure_experiment(
        client, workspace, workspace.competition.name, tags, describe_views(workspace)
    )


def describe_views(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """{name: state} of the saved views of the runs table, as MLflow's page writes them.

    A validation column is a tag with the value of the best epoch, because MLflow's column of a
    metric has the last value.
    """
    primary = workspace.competition.primary
    scores = [f"public_{metric.name}" for metric in workspace.competition.metrics]
    scores = [f"metrics.`{to_mlflow_name(name)}`" for name in [f"public_{primary.name}", *scores]]
    best_first = {"orderByKey": scores[0], "orderByAsc": not primary.higher_is_better}
    newest_first = {"orderByKey": "attributes.start_time", "orderByAsc": False}
    validated = _list_validated(workspace)
    best = [f"tags.`{to_mlflow_name(f'best/val/{name}')}`" for name in validated]
    changed = f"tags.`{CHANGED_TAG}`"
    # Figures first: texts are wide, and a screen ends.
    figures = ["tags.`submission`", *dict.fromkeys(scores), *best]
    leaderboard = [*figures, changed, "attributes.`Description`"]
    ended = ["tags.`tracker.status`", "tags.`tracker.best_epoch`"]
    curves = _describe_charts([[f"val/{name}"] for name in validated])
    return {
        "Leaderboard": {**best_first, **_select(leaderboard), "columnWidths": {changed: 240}},
        "Curves": {**newest_first, **_select([*ended, *best]), **curves},
        "Machines": {**newest_first, **_select(MACHINE_COLUMNS)},
    }


def _list_validated(workspace: Workspace) -> list[str]:
    """The competition's metrics, the deciding one first."""
    primary = workspace.competition.primary
    names = [primary.name, *(metric.name for metric in workspace.competition.metrics)]
    # What training cannot compute may be nowhere: then its own first metric is shown, too.
    is_class = TARGETS[workspace.competition.target].is_class
    if is_class and find_kind(primary.kind) is None:
        names.append(first_metric())
    return list(dict.fromkeys(names))


def _select(columns: Sequence[str]) -> dict[str, Any]:
    return {
        "searchFilter": "",
        "selectedColumns": list(columns),
        "columnOrder": ["attributes.`Run Name`", *columns],
    }


def _describe_charts(metrics: Sequence[Sequence[str]]) -> dict[str, Any]:
    """A section of line charts before those that MLflow draws by itself: the metrics, then loss."""
    charts = []
    for names in [*metrics, ["train/loss", "val/loss"], ["train/lr"]]:
        keys = [to_chart_name(to_mlflow_name(name)) for name in names]
        charts.append(
            {
                "uuid": f"tracker-{'-'.join(keys)}",
                "type": "LINE",
                "metricSectionId": "tracker",
                "metricKey": keys[0],
                "selectedMetricKeys": keys,
                "displayName": ", ".join(names),
                "isGenerated": False,
                "deleted": False,
                "runsCountToCompare": 10,
                "useGlobalXaxisKey": True,
                "useGlobalLineSmoothing": True,
                "xAxisKey": "step",
                "xAxisScaleType": "linear",
                "scaleType": "linear",
                "yAxisKey": "metric",
                "yAxisExpressions": [],
                "range": {},
            }
        )
    section = {"uuid": "tracker", "name": "Curves", "display": True, "isReordered": False}
    return {"compareRunCharts": charts, "compareRunSections": [section]}


def pack_view(name: str, state: Mapping[str, Any], *, created_ms: int) -> str:
    """A saved view as the text of its tag."""
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    return json.dumps({"name": name, "createdAt": created_ms, "state": f"{PACKED}{packed}"})


def unpack_view(text: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """(name, state, all of the tag's object); ValueError for a text of another form."""
    try:
        view = json.loads(text)
        state = view["state"]
        if state.startswith(PACKED):
            state = zlib.decompress(base64.b64decode(state.removeprefix(PACKED)))
        return str(view["name"]), json.loads(state), view
    except (KeyError, TypeError, AttributeError, zlib.error) as error:
        raise ValueError(f"not a saved view: {text[:40]!r}") from error


def _ensure_experiment(
    client: Any,
    workspace: Workspace,
    name: str,
    tags: Mapping[str, str],
    views: Mapping[str, dict[str, Any]],
) -> str:
    # Two processes must not create the same experiment.
    with FileLock(workspace.state_dir / "mlflow.lock"):
        experiment = client.get_experiment_by_name(name)
        there = {} if experiment is None else experiment.tags
        new = {}
        for title, state in views.items():
            tag = VIEW_PREFIX + VIEW_KEYS[title]
            if view := _renew_view(title, state, there.get(tag, "")):
                new[tag] = view
        if experiment is not None:
            for key, value in new.items():
                client.set_experiment_tag(experiment.experiment_id, key, value)
            return str(experiment.experiment_id)
        local = not workspace.mlflow_uri.startswith("http")
        location = (workspace.root / "mlartifacts").as_uri() if local else None
        # Without this tag the page opens as one for language models.
        all_tags = {"mlflow.experimentKind": "custom_model_development", **tags, **new}
        return str(client.create_experiment(name, artifact_location=location, tags=all_tags))


def _renew_view(name: str, state: dict[str, Any], there: str) -> str:
    """The tag of a view that is missing or outdated; empty where MLflow's view is to stay.

    States are compared, not texts: zlib of another machine may pack in other bytes.
    """
    created = round(time.time() * 1000)
    with suppress(ValueError):
        known_name, known_state, view = unpack_view(there)
        created = view.get("createdAt", created)
        # MLflow's page writes updatedAt: somebody saved this view anew, and it is theirs.
        if "updatedAt" in view or (known_name, known_state) == (name, state):
            return ""
    return pack_view(name, state, created_ms=created)


def save_report(workspace: Workspace, files: Mapping[str, str], *, about: str) -> None:
    """Write the texts of `files` to the run `report`, replacing earlier ones; raises MlflowError.

    The run is in an experiment of its own, "<competition> report", and a team on one server shares
    it. Older versions put it among the runs: that one is deleted.
    """
    client = connect(workspace)
    try:
        experiment = _ensure_experiment(
            client, workspace, f"{workspace.competition.name} report", {}, {}
        )
        with FileLock(workspace.state_dir / "report.copy.lock"):
            run = find_one(client, experiment, "tracker.kind", "report")
            run = run or client.create_run(
                experiment, run_name="report", tags={**REPORT_TAGS, COPIED_TAG: utc_now()}
            )
            # Replace its files and its description.
            for name, text in files.items():
                client.log_text(run.info.run_id, text, name)
            client.set_tag(
                run.info.run_id,
                "mlflow.note.content",
                f"{about}\n\nThe files are among the artifacts.",
            )
            client.set_terminated(run.info.run_id)
            # The report of an older version is among the runs.
            runs = ensure_experiment(client, workspace)
            if older := find_one(client, runs, "tracker.kind", "report"):
                client.delete_run(older.info.run_id)
    except library_errors() as error:
        raise translate(workspace, error) from error
