"""Runs are put away and taken back, and tagged: out of every list, still there by name, and nothing
deleted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import ViewType

from tests.support.forks import Forks
from tests.support.mlflow_runs import find_runs
from tests.support.servers import forked_mlflow
from tests.support.workspaces import begin_run, make_run
from tracker.commands.table import app
from tracker.comparison.compare import compare_runs
from tracker.comparison.tree import build_family
from tracker.core.errors import UnknownRunError
from tracker.ledger.read import find_sota, list_submissions
from tracker.mirror.copy import Connections, sync_run
from tracker.mirror.targets.mlflow_server import connect
from tracker.report.data import build_report
from tracker.report.markdown import render_markdown as render_report
from tracker.report.page import render_page
from tracker.run_folder.marks import archive_runs, change_marks, check_tags, tag_run, unarchive_runs
from tracker.run_folder.read import find_latest, list_runs, load_run
from tracker.run_folder.recorder import Recorder
from tracker.submission.submit import submit
from tracker.training.errors import ConfigError, StorageError
from tracker.workflows.resolve import find_resumable
from tracker.workspace.tracker_toml import Workspace


def call(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: Any, *words: str) -> str:
    """What a command prints in the workspace, without MLflow."""
    monkeypatch.chdir(workspace.root)
    monkeypatch.setenv("TRACKER_MLFLOW_URI", "http://127.0.0.1:9")
    app(list(words), standalone_mode=False)
    return str(capsys.readouterr().out)


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def list_names(records: Sequence[Any]) -> list[str]:
    return [record.name for record in records]


def make_child(workspace: Workspace, parent: str, status: str = "finished") -> None:
    recorder = begin_run(workspace, parent=parent, fingerprints={"data": "d"})
    recorder.finish(status)


def test_an_archived_run_is_out_of_every_list_and_there_by_name(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for answers in ("0000011110", "0000011100", "0000011000"):
        make_run(workspace, answers)
    before = read_files(workspace.runs_dir / "exp3")
    said = call(workspace, monkeypatch, capsys, "archive", "exp2..exp3")
    assert "archived: exp2, exp3 (tracker unarchive exp2 exp3" in said
    out = call(workspace, monkeypatch, capsys, "runs")
    assert "2 archived runs left out" in out
    monkeypatch.setenv("COLUMNS", "40")
    assert max(map(len, call(workspace, monkeypatch, capsys, "runs").splitlines())) <= 40
    monkeypatch.delenv("COLUMNS")
    assert "exp3" not in out
    listed = json.loads(call(workspace, monkeypatch, capsys, "runs", "--json", "--limit", "1"))
    assert [run["name"] for run in listed] == ["exp1"]
    assert "finished, archived" in call(workspace, monkeypatch, capsys, "runs", "--archived")
    assert [node.name for node in build_family(workspace).nodes] == ["exp1"]
    left_out = "2 archived runs left out: tracker tree --archived shows all"
    assert left_out in call(workspace, monkeypatch, capsys, "tree")
    assert left_out not in call(workspace, monkeypatch, capsys, "tree", "--archived")
    left_out = "2 archived runs left out: tracker compare --archived includes them"
    assert left_out in call(workspace, monkeypatch, capsys, "compare")
    assert left_out not in call(workspace, monkeypatch, capsys, "compare", "exp1", "exp3")
    left_out = "2 archived runs left out: tracker tree --archived shows all"
    report = build_report(workspace)
    assert left_out in render_page(report)
    assert left_out in render_report(report).replace("\\", "")
    assert compare_runs(workspace, []).runs == compare_runs(workspace, ["exp1..exp3"]).runs == 1
    assert compare_runs(workspace, ["exp1", "exp3"]).runs == 2
    assert compare_runs(workspace, [], archived=True).runs == 3
    assert find_latest(workspace.runs_dir) == "exp1"
    assert "finished, archived" in call(workspace, monkeypatch, capsys, "show", "exp3")
    after = read_files(workspace.runs_dir / "exp3")
    assert after.pop("marks.json")
    assert after == before
    call(workspace, monkeypatch, capsys, "unarchive", "exp3")
    assert find_latest(workspace.runs_dir) == "exp3"
    assert list_names(list_runs(workspace.runs_dir, archived=False)) == ["exp3", "exp1"]


def test_what_is_so_already_is_said_and_changes_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for answers in ("0000011110", "0000011100"):
        make_run(workspace, answers)
    said = call(workspace, monkeypatch, capsys, "unarchive", "exp1", "exp2")
    assert said == "exp1, exp2 are not archived: nothing to do\n"
    call(workspace, monkeypatch, capsys, "archive", "exp2")
    before = load_run(workspace.runs_dir, "exp2")
    said = call(workspace, monkeypatch, capsys, "archive", "exp1", "exp2").splitlines()
    assert said[0] == "exp2 is archived already: nothing to do"
    assert said[1].startswith("archived: exp1 (tracker unarchive exp1 takes it back)")
    assert load_run(workspace.runs_dir, "exp2") == before
    said = call(workspace, monkeypatch, capsys, "tag", "exp1", "kept", "new")
    assert said == "exp1: kept, new\n"
    said = call(workspace, monkeypatch, capsys, "tag", "exp1", "kept", "last")
    assert said == "exp1: kept, new, last (had kept already)\n"


def test_an_archived_run_can_be_submitted_and_stays_in_the_leaderboard_as_sota(
    workspace: Workspace,
) -> None:
    record = make_run(workspace, "0000011111")
    archive_runs(workspace, ["exp1"])
    submit(workspace, "exp1", memo="from the archive")
    assert [row.run for row in list_submissions(workspace)] == ["exp1"]
    best = find_sota(workspace)
    assert best is not None
    assert best.run_uid == record.uid
    assert (
        build_family(workspace).nodes == []
    )  # neither as a run nor as the row of one that is elsewhere


def test_what_was_made_from_an_archived_run_follows_its_nearest_ancestor(
    workspace: Workspace,
) -> None:
    make_run(workspace, "0000011110")
    for parent in ("exp1", "exp2", "exp3"):
        make_child(workspace, parent)
    archive_runs(workspace, ["exp2", "exp3"])
    family = build_family(workspace)
    assert [(node.name, node.parent, node.depth) for node in family.nodes] == [
        ("exp1", None, 0),
        ("exp4", "exp1", 1),
    ]
    assert family.problems == []
    everything = build_family(workspace, archived=True)
    assert [node.parent for node in everything.nodes] == [None, "exp1", "exp2", "exp3"]
    archive_runs(workspace, ["exp1"])
    assert [(node.name, node.parent) for node in build_family(workspace).nodes] == [("exp4", None)]


def test_a_running_run_is_not_archived_nor_what_was_named_with_it(workspace: Workspace) -> None:
    make_run(workspace)
    recorder = begin_run(workspace)
    with pytest.raises(ConfigError, match="exp2 is running: nothing was archived"):
        archive_runs(workspace, ["exp1", "exp2"])
    assert load_run(workspace.runs_dir, "exp1").archived_at is None
    recorder.finish("interrupted")
    archive_runs(workspace, ["exp1", "exp2"])


def test_an_archived_run_is_resumed_by_name_alone_and_is_in_the_lists_again(
    workspace: Workspace,
) -> None:
    make_child(workspace, "", "interrupted")
    make_child(workspace, "", "interrupted")
    archive_runs(workspace, ["exp2"])
    assert find_resumable(workspace) == "exp1"
    Recorder.reopen(workspace.runs_dir, "exp2").finish("finished")
    assert load_run(workspace.runs_dir, "exp2").archived_at is None


def test_tags_of_a_running_run_outlast_what_the_run_writes(workspace: Workspace) -> None:
    recorder = begin_run(workspace, tags=["first"])
    tag_run(workspace, "exp1", ["최종", "first", "lr=0.1"])
    recorder.finish("finished")
    assert load_run(workspace.runs_dir, "exp1").tags == ("first", "최종", "lr=0.1")
    assert tag_run(workspace, "exp1", ["first"], remove=True).tags == ("최종", "lr=0.1")
    with pytest.raises(ConfigError) as caught:
        tag_run(workspace, "exp1", ["first"], remove=True)
    assert "its tags: 최종, lr=0.1" in caught.value.hint
    assert "tags" not in json.loads((workspace.runs_dir / "exp1" / "run.json").read_text())


@pytest.mark.parametrize(
    "tags", [["two words"], ["a,b"], [""], ["x" * 51], ["\udcff"], [3], [["a"]], "one"]
)
def test_what_cannot_be_a_tag_is_refused(tags: Any) -> None:
    with pytest.raises(ConfigError, match="tag"):
        check_tags(tags)


def test_tags_are_shown_and_asked_for(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    make_run(workspace)
    make_run(workspace)
    assert "exp1: a, baseline" in call(
        workspace, monkeypatch, capsys, "tag", "exp1", "a", "baseline"
    )
    assert "a, baseline" in call(workspace, monkeypatch, capsys, "runs")
    assert json.loads(call(workspace, monkeypatch, capsys, "show", "exp1", "--json"))["tags"] == [
        "a",
        "baseline",
    ]
    assert [
        row.runs for row in compare_runs(workspace, [], where="tags ~ base", each=True).rows
    ] == [["exp1"]]
    assert [
        row.runs for row in compare_runs(workspace, [], where="tags = null", each=True).rows
    ] == [["exp2"]]
    assert "exp1: no tags" in call(
        workspace, monkeypatch, capsys, "tag", "exp1", "--remove", "a", "baseline"
    )


def test_marks_travel_with_the_folder_and_damaged_ones_are_named(
    workspace: Workspace, tmp_path: Path
) -> None:
    make_run(workspace)
    tag_run(workspace, "exp1", ["kept"])
    archive_runs(workspace, ["exp1"])
    shutil.copytree(workspace.runs_dir, tmp_path / "runs")
    record = load_run(tmp_path / "runs", "exp1")
    assert (record.tags, record.archived_at is not None) == (("kept",), True)
    path = workspace.runs_dir / "exp1" / "marks.json"
    for text in (
        "",
        "[]",
        "{}",
        '{"tags": "a", "archived_at": null, "freed": {}}',
        '{"tags": [], "archived_at": 3}',
    ):
        path.write_text(text)
        with pytest.raises(StorageError, match=r"marks\.json"):
            load_run(workspace.runs_dir, "exp1")
        assert list_runs(workspace.runs_dir, archived=False)[0].status == "broken"


def test_what_is_not_there_is_not_archived(workspace: Workspace) -> None:
    with pytest.raises(UnknownRunError):
        archive_runs(workspace, ["exp9"])
    assert not (workspace.runs_dir / "exp9").exists()


# --- MLflow ---


@pytest.fixture
def copied(workspace: Workspace, mlflow_db: Path) -> Workspace:
    """A workspace with a run in MLflow."""
    shutil.copy(mlflow_db, workspace.root / "mlflow.db")
    make_run(workspace, "0000011110")
    sync_run(workspace, "exp1")
    return workspace


def test_mlflow_lists_an_archived_run_no_more_and_has_it_again(copied: Workspace) -> None:
    tag_run(copied, "exp1", ["kept"])
    archive_runs(copied, ["exp1"])
    sync_run(copied, "exp1")
    sync_run(copied, "exp1")
    assert find_runs(copied) == []
    (hidden,) = find_runs(copied, ViewType.ALL)
    assert hidden.data.tags["tracker.tags"] == "kept"
    unarchive_runs(copied, ["exp1"])
    sync_run(copied, "exp1")
    (shown,) = find_runs(copied, ViewType.ALL)
    assert (shown.info.run_id, shown.info.lifecycle_stage) == (hidden.info.run_id, "active")
    tag_run(copied, "exp1", ["kept"], remove=True)
    sync_run(copied, "exp1")
    assert "tracker.tags" not in find_runs(copied)[0].data.tags


def test_an_archived_run_that_mlflow_has_removed_for_good_is_copied_anew(copied: Workspace) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    archive_runs(copied, ["exp1"])
    sync_run(copied, "exp1")
    (hidden,) = find_runs(copied, ViewType.DELETED_ONLY)
    store = SqlAlchemyStore(copied.mlflow_uri, (copied.root / "mlartifacts").as_uri())
    store._hard_delete_run(hidden.info.run_id)  # what mlflow gc calls
    shutil.rmtree(copied.root / "mlartifacts")
    unarchive_runs(copied, ["exp1"])
    sync_run(copied, "exp1")
    (shown,) = find_runs(copied)
    assert shown.data.metrics["val/f1"] == 0.5
    assert "best.pth" in {file.path for file in connect(copied).list_artifacts(shown.info.run_id)}


def test_a_deletion_whose_answer_was_lost_is_undone_all_the_same(
    copied: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    delete = MlflowClient.delete_run

    def lose_answer(client: Any, run_id: str) -> None:
        delete(client, run_id)
        raise MlflowException("the answer was lost")

    archive_runs(copied, ["exp1"])
    client = connect(copied)
    monkeypatch.setattr(MlflowClient, "delete_run", lose_answer)
    monkeypatch.setattr("tracker.mirror.copy.RETRY_AFTER_S", ())
    with pytest.raises(Exception, match="the answer was lost"):
        sync_run(copied, "exp1", Connections({"MLflow": client}))
    monkeypatch.undo()
    sync_run(copied, "exp1")
    assert find_runs(copied) == []
    unarchive_runs(copied, ["exp1"])
    sync_run(copied, "exp1")
    assert len(find_runs(copied)) == 1


@pytest.mark.slow
def test_a_server_hides_an_archived_run_and_shows_it_again(
    workspace: Workspace, tmp_path: Path, forks: Forks
) -> None:
    with forked_mlflow(tmp_path / "server", forks) as address:
        remote = replace(workspace, mlflow_uri=address)
        make_run(remote, "0000011110")
        for change, count in ((None, 1), (archive_runs, 0), (unarchive_runs, 1)):
            if change is not None:
                change(remote, ["exp1"])
            sync_run(remote, "exp1")
            assert len(find_runs(remote)) == count
        assert len(find_runs(remote, ViewType.ALL)) == 1


def test_an_archived_run_that_one_may_not_delete_in_mlflow_stays_in_its_lists(
    copied: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

    def refuse(_client: Any, _run_id: str) -> None:
        raise MlflowException("not yours", error_code=PERMISSION_DENIED)

    archive_runs(copied, ["exp1"])
    monkeypatch.setattr(MlflowClient, "delete_run", refuse)
    sync_run(copied, "exp1")
    assert "does not allow this user to delete runs" in capsys.readouterr().err
    unarchive_runs(copied, ["exp1"])
    sync_run(copied, "exp1")
    assert len(find_runs(copied)) == 1


def test_a_run_deleted_in_mlflow_by_a_person_stays_deleted_after_the_archive(
    copied: Workspace,
) -> None:
    connect(copied).delete_run(find_runs(copied)[0].info.run_id)
    archive_runs(copied, ["exp1"])
    sync_run(copied, "exp1")
    unarchive_runs(copied, ["exp1"])
    sync_run(copied, "exp1")
    assert find_runs(copied) == []


def test_an_archived_run_that_mlflow_never_had_is_not_brought_there(
    workspace: Workspace, mlflow_db: Path
) -> None:
    shutil.copy(mlflow_db, workspace.root / "mlflow.db")
    make_run(workspace)
    change_marks(workspace, "exp1", archived_at="2026-11-26T12:00:00.000000Z")
    sync_run(workspace, "exp1")
    assert connect(workspace).get_experiment_by_name(workspace.competition.name) is None
