"""The competition's experiments in MLflow: that of the runs, with the saved view of `ui`, and that
of the report."""

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
from tracker.training.metrics import METRICS, first_metric
from tracker.workspace.competition import Workspace

# of the view of the runs table that `tracker ui` opens: MLflow keeps shared views in such tags
VIEW_KEY = "tracker"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"
REPORT_TAGS = {"tracker.kind": "report"}


def ensure_experiment(client: Any, workspace: Workspace) -> str:
    """The id of the competition's experiment; raises MLflow's own errors."""
    primary = workspace.competition.primary
    tags = {
        "mlflow.experiment.primaryMetric.name": f"public_{primary.name}",
        "mlflow.experiment.primaryMetric.greaterIsBetter": str(primary.higher_is_better),
    }
    return _ensure_experiment(
        client, workspace, workspace.competition.name, {**tags, VIEW_TAG: describe_view(workspace)}
    )


def describe_view(workspace: Workspace) -> str:
    """The runs table as `tracker ui` opens it, in MLflow's words: the best public score first, and
    the columns.

    The validation column is a tag, the value of the best epoch: MLflow's column of a metric has its
    last value.
    """
    primary = workspace.competition.primary
    score = f"metrics.`public_{primary.name}`"
    validated = (
        [primary.name] if primary.name in METRICS else [primary.name, first_metric()]
    )  # its own, and training's
    columns = [f"tags.`best/val/{name}`" for name in validated]
    columns += [score, "tags.`submission`", "attributes.`Description`"]
    order = {"orderByKey": score, "orderByAsc": not primary.higher_is_better}
    return json.dumps(
        {**order, "selectedColumns": columns, "columnOrder": ["attributes.`Run Name`", *columns]}
    )


def _ensure_experiment(
    client: Any, workspace: Workspace, name: str, tags: Mapping[str, str]
) -> str:
    with FileLock(workspace.lock_dir / "mlflow.lock"):
        found = client.get_experiment_by_name(name)
        if found is not None:
            view = tags.get(VIEW_TAG)
            if (
                view is not None and found.tags.get(VIEW_TAG) != view
            ):  # made before there was one, or another metric
                client.set_experiment_tag(found.experiment_id, VIEW_TAG, view)
            return str(found.experiment_id)
        local = not workspace.mlflow_uri.startswith("http")
        location = (workspace.root / "mlartifacts").as_uri() if local else None
        kind = {
            "mlflow.experimentKind": "custom_model_development"
        }  # else the page opens as one for language models
        return str(
            client.create_experiment(name, artifact_location=location, tags={**kind, **tags})
        )


def save_report(workspace: Workspace, files: Mapping[str, str], *, about: str) -> None:
    """Put the texts of `files` into the run `report`, over what was there; raises MlflowError.

    It lies in an experiment of its own, "<competition> report", and not among the runs, as older
    versions had it: that one is deleted. A team on one server shares it, so that there is one
    however often and by whomever it is made.
    """
    client = connect(workspace)
    try:
        experiment = _ensure_experiment(
            client, workspace, f"{workspace.competition.name} report", {}
        )
        with FileLock(workspace.lock_dir / "report.copy.lock"):
            run = find_one(client, experiment, "tracker.kind", "report")
            run = run or client.create_run(
                experiment, run_name="report", tags={**REPORT_TAGS, COPIED_TAG: utc_now()}
            )
            for name, text in files.items():
                client.log_text(run.info.run_id, text, name)
            client.set_tag(
                run.info.run_id,
                "mlflow.note.content",
                f"{about}\n\nThe files are among the artifacts.",
            )
            client.set_terminated(run.info.run_id)
            if older := find_one(
                client, ensure_experiment(client, workspace), "tracker.kind", "report"
            ):
                client.delete_run(older.info.run_id)
    except library_errors() as error:
        raise translate(workspace, error) from error
