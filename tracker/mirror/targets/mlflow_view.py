"""The competition's experiments in MLflow: the runs with their saved view, and the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tracker.core.clock import utc_now
from tracker.core.locks import FileLock
from tracker.mirror.targets.mlflow_server import (
    COPIED_TAG,
    connect,
    find_one,
    library_errors,
    translate,
)
from tracker.training.metrics import find_kind, first_metric
from tracker.training.targets import TARGETS
from tracker.workspace.tracker_toml import Workspace

# MLflow saves shared views of the runs table in such tags. `tracker ui` opens this one.
VIEW_KEY = "tracker"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"
REPORT_TAGS = {"tracker.kind": "report"}


def ensure_experiment(client: Any, workspace: Workspace) -> str:
    """The id of the competition's experiment, created if needed; raises MLflow's own errors."""
    primary = workspace.competition.primary
    tags = {
        "mlflow.experiment.primaryMetric.name": f"public_{primary.name}",
        "mlflow.experiment.primaryMetric.greaterIsBetter": str(primary.higher_is_better),
    }
    tags[VIEW_TAG] = describe_view(workspace)
    return _ensure_experiment(client, workspace, workspace.competition.name, tags)


def describe_view(workspace: Workspace) -> str:
    """The view of the runs table as MLflow's JSON: columns, and the best public score first.

    The validation column is a tag with the value of the best epoch, because MLflow's column of a
    metric has the last value.
    """
    primary = workspace.competition.primary
    score = f"metrics.`public_{primary.name}`"
    # the competition's metrics, the deciding one first
    validated = [primary.name, *(metric.name for metric in workspace.competition.metrics)]
    # What training cannot compute may be nowhere: then its own first metric is shown, too.
    is_class = TARGETS[workspace.competition.target].is_class
    if is_class and find_kind(primary.kind) is None:
        validated.append(first_metric())
    validated = list(dict.fromkeys(validated))
    columns = [f"tags.`best/val/{name}`" for name in validated]
    columns += [score, "tags.`submission`", "attributes.`Description`"]
    order = {"orderByKey": score, "orderByAsc": not primary.higher_is_better}
    return json.dumps(
        {**order, "selectedColumns": columns, "columnOrder": ["attributes.`Run Name`", *columns]}
    )


def _ensure_experiment(
    client: Any, workspace: Workspace, name: str, tags: Mapping[str, str]
) -> str:
    # Two processes must not create the same experiment.
    with FileLock(workspace.state_dir / "mlflow.lock"):
        experiment = client.get_experiment_by_name(name)
        if experiment is not None:
            view = tags.get(VIEW_TAG)
            # It may be older than the view, or the primary metric has changed.
            if view is not None and experiment.tags.get(VIEW_TAG) != view:
                client.set_experiment_tag(experiment.experiment_id, VIEW_TAG, view)
            return str(experiment.experiment_id)
        local = not workspace.mlflow_uri.startswith("http")
        location = (workspace.root / "mlartifacts").as_uri() if local else None
        # Without this tag the page opens as one for language models.
        all_tags = {"mlflow.experimentKind": "custom_model_development", **tags}
        return str(client.create_experiment(name, artifact_location=location, tags=all_tags))


def save_report(workspace: Workspace, files: Mapping[str, str], *, about: str) -> None:
    """Write the texts of `files` to the run `report`, replacing earlier ones; raises MlflowError.

    The run is in an experiment of its own, "<competition> report", and a team on one server shares
    it. Older versions put it among the runs: that one is deleted.
    """
    client = connect(workspace)
    try:
        experiment = _ensure_experiment(
            client, workspace, f"{workspace.competition.name} report", {}
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
