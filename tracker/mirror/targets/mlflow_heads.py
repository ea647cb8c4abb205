"""The heads of the ledger in MLflow: a tag of each submitted run, which is only added to."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from tracker.core.clock import utc_now
from tracker.ledger.heads import SeenHead, parse_head
from tracker.mirror.targets.mlflow_server import connect, library_errors, translate
from tracker.workspace.tracker_toml import Workspace

HEADS_TAG = "tracker.ledger_heads"
MOST_HEADS = 30  # in a tag: MLflow takes 5000 characters
_PAGE = 1000  # runs a request


class RunHead(NamedTuple):
    """A head, and the uid of the run that has it in its tag."""

    uid: str
    head: SeenHead


def merge_heads(there: str, new: str) -> str:
    """The tag with the heads of `new` that it has not; what is there stays, whatever it says.

    A ledger that was rewritten gives other heads: the earlier ones must not go. Where the tag is
    full, its second oldest head goes: a later one proves the same rows.
    """
    heads = there.split()
    keys = {text.rpartition("@")[0] for text in heads}
    for key in new.split():
        if key not in keys:
            heads.append(f"{key}@{utc_now()}")
    while len(heads) > MOST_HEADS:
        del heads[1]
    return " ".join(heads)


def fetch_heads(workspace: Workspace) -> list[RunHead]:
    """The heads in the tags of the competition's runs, archived ones too.

    A store of the workspace that is not there has none, and is not made. Raises MlflowError, and
    MissingLibraryError without mlflow.
    """
    uri = workspace.mlflow_uri
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        return []
    client = connect(workspace)
    try:
        experiment = client.get_experiment_by_name(workspace.competition.name)
        runs = _search(client, experiment.experiment_id) if experiment is not None else []
    except library_errors() as error:
        raise translate(workspace, error) from error
    heads = []
    for run in runs:
        where = f"MLflow (run {run.info.run_name})"
        for text in run.data.tags.get(HEADS_TAG, "").split():
            if head := parse_head(text, where):
                heads.append(RunHead(run.data.tags.get("tracker.uid", ""), head))
    return heads


def _search(client: Any, experiment: str) -> list[Any]:
    """Every run of the experiment that has the tag."""
    from mlflow.entities import ViewType

    runs: list[Any] = []
    token = None
    while True:
        page = client.search_runs(
            [experiment],
            filter_string=f"tags.`{HEADS_TAG}` LIKE '%:%'",
            run_view_type=ViewType.ALL,
            max_results=_PAGE,
            page_token=token,
        )
        runs += page
        token = page.token
        if not token:
            return runs
