"""The copy of a run in MLflow and TensorBoard: everything once, however often and by whomever it is copied."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run_tracker, save_image
from tests.servers import free_port, mlflow_server
from tests.workspaces import make_run, make_workspace
from tracker.mlflow_log import BATCH, MlflowError, connect, describe_run, follow, sync_run
from tracker.notes import add_note
from tracker.recorder import Recorder
from tracker.submit import submit, sync_all
from tracker.training.config import Config, config_to_dict
from tracker.workspace import Workspace

LIMIT_S = 180


@pytest.fixture
def workspace(workspace: Workspace, mlflow_db: Path) -> Workspace:
    """A workspace whose MLflow has a database; what makes one is tested where processes start at once."""
    shutil.copy(mlflow_db, workspace.root / "mlflow.db")
    return workspace


def find_runs(workspace: Workspace) -> list[Any]:
    client = connect(workspace)
    experiment = client.get_experiment_by_name(workspace.competition.name)
    return list(client.search_runs([experiment.experiment_id]))


def history(workspace: Workspace, run_id: str, key: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in connect(workspace).get_metric_history(run_id, key)]


def start_run(workspace: Workspace) -> Recorder:
    return Recorder.create(
        workspace.runs_dir, kind="train", config=config_to_dict(Config()), parent=None, note="n", fingerprints={}
    )


def test_a_copied_run_has_params_curve_files_note_and_scores(workspace: Workspace) -> None:
    make_run(workspace, "0000011110", config={"optim.lr": 0.5}, note="try a high rate")
    submit(workspace, "exp1", "first *memo*")
    sync_run(workspace, "exp1")
    (run,) = find_runs(workspace)
    assert run.info.run_name == "exp1"
    assert run.info.status == "FINISHED"
    assert run.data.params["optim.lr"] == "0.5"
    assert run.data.metrics["val/f1"] == run.data.metrics["best/val/f1"] == 0.5
    assert run.data.metrics["submission"] == 1.0
    assert run.data.metrics["public_f1"] == 1.0
    assert run.data.tags["public_accuracy"] == "100.0000 %"
    assert run.data.tags["mlflow.note.content"] == "try a high rate\n\n**Submission 1**: first *memo*"
    names = {file.path for file in connect(workspace).list_artifacts(run.info.run_id)}
    assert {"best.pth", "config.toml", "metrics.jsonl", "predictions.csv", "env.json"} <= names


def test_a_note_is_in_the_description_when_the_command_returns(workspace: Workspace) -> None:
    record = make_run(workspace, "0000011110", note="try a high rate")
    submit(workspace, "exp1", "first")
    add_note(workspace, "1", "public was lucky")
    sync_run(workspace, "exp1")
    (run,) = find_runs(workspace)
    start = "try a high rate\n\n**Submission 1**: first\n\n"
    day = f"**{record.created_at[:10]}, {record.author}**"
    assert run.data.tags["mlflow.note.content"] == f"{start}{day}: public was lucky"
    done = run_tracker("note", "exp1", "seed 7 <b>next</b>", cwd=workspace.root)
    assert (done.stdout, done.stderr) == ("exp1: noted\n", "")
    (run,) = find_runs(workspace)
    assert run.data.tags["mlflow.note.content"].endswith(f"public was lucky\n\n{day}: seed 7 <b>next</b>")


def test_copying_again_changes_nothing(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    sync_run(workspace, "exp1")
    (first,) = find_runs(workspace)
    (workspace.runs_dir / "exp1" / "mlflow.json").unlink()  # as if the copier had died before it could note anything
    sync_run(workspace, "exp1")
    (second,) = find_runs(workspace)
    assert second.to_dictionary() == {**first.to_dictionary(), "info": second.to_dictionary()["info"]}
    assert history(workspace, first.info.run_id, "val/f1") == [(1, 0.5)]


def test_points_are_copied_once_across_batches_and_copiers(workspace: Workspace) -> None:
    recorder = start_run(workspace)
    for step in range(1, BATCH + 2):
        recorder.metrics({"train/loss": 1 / step}, step=step, epoch=1)
    sync_run(workspace, "exp1")
    (run,) = find_runs(workspace)
    assert run.info.status == "RUNNING"
    recorder.metrics({"train/loss": 7.0}, step=BATCH + 1, epoch=1)  # a step logged again after a resume
    recorder.metrics({"train/loss": 0.5}, step=BATCH + 2, epoch=1)
    recorder.finish("finished")
    sync_run(workspace, "exp1")
    points = history(workspace, run.info.run_id, "train/loss")
    assert [step for step, _ in points] == list(range(1, BATCH + 3))
    assert points[-2:] == [(BATCH + 1, 1 / (BATCH + 1)), (BATCH + 2, 0.5)]


def test_tensorboard_events_hold_the_curve(workspace: Workspace) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    make_run(workspace, "0000011110")
    sync_run(workspace, "exp1")
    board = EventAccumulator(str(workspace.runs_dir / "exp1" / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in board.Scalars("val/f1")] == [(1, 0.5)]


def test_figures_of_a_run_are_in_mlflow_and_tensorboard(workspace: Workspace) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    make_run(workspace, "0000011110")
    names = ("confusion", "curves", "images")
    for number, name in enumerate(names):
        save_image(workspace.runs_dir / "exp1" / f"{name}.png", seed=number, mode="RGBA", size=(30 + number, 20))
    sync_run(workspace, "exp1")
    sync_run(workspace, "exp1")
    (run,) = find_runs(workspace)
    client = connect(workspace)
    assert {f"{name}.png" for name in names} <= {file.path for file in client.list_artifacts(run.info.run_id)}
    board = EventAccumulator(str(workspace.runs_dir / "exp1" / "tensorboard")).Reload()
    for number, name in enumerate(names):
        (shown,) = board.Images(name)
        assert (shown.width, shown.height) == (30 + number, 20)
        assert shown.encoded_image_string == (workspace.runs_dir / "exp1" / f"{name}.png").read_bytes()


@pytest.mark.parametrize(("status", "shown"), [("killed", "KILLED"), ("interrupted", "KILLED"), ("failed", "FAILED")])
def test_mlflow_shows_how_a_run_ended(workspace: Workspace, status: str, shown: str) -> None:
    make_run(workspace, status=status)
    sync_run(workspace, "exp1")
    (run,) = find_runs(workspace)
    assert run.info.status == shown
    assert run.data.tags["tracker.status"] == status


def test_the_mirror_follows_a_run_whose_process_was_killed_to_its_end(workspace: Workspace) -> None:
    code = (
        "import sys, os, signal\nfrom pathlib import Path\nfrom tracker.recorder import Recorder\n"
        "from tracker.training.config import Config, config_to_dict\n"
        "r = Recorder.create(Path(sys.argv[1]), kind='train', config=config_to_dict(Config()), parent=None,"
        " note='', fingerprints={})\n"
        "for step in range(1, 51):\n    r.metrics({'train/loss': 1 / step}, step=step, epoch=1)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, workspace.runs_dir], timeout=LIMIT_S, check=False)
    assert done.returncode < 0
    follow(workspace, "exp1")
    (run,) = find_runs(workspace)
    assert run.info.status == "KILLED"
    assert len(history(workspace, run.info.run_id, "train/loss")) == 50


@pytest.mark.slow
def test_copiers_that_start_at_once_on_an_empty_database_all_work(workspace: Workspace) -> None:
    (workspace.root / "mlflow.db").unlink()
    names = [make_run(workspace, "000001111" + str(n % 2)).name for n in range(3)]
    command = [sys.executable, "-P", "-m", "tracker.mlflow_log", str(workspace.root)]
    children = [subprocess.Popen([*command, name], stderr=subprocess.PIPE, text=True) for name in [*names, names[0]]]
    for child in children:
        _, stderr = child.communicate(timeout=LIMIT_S)
        assert child.returncode == 0, stderr
    assert sorted(run.info.run_name for run in find_runs(workspace)) == ["exp1", "exp2", "exp3"]


def test_a_server_out_of_reach_fails_at_once_and_sync_makes_up_for_it(tmp_path: Path) -> None:
    port = free_port()
    workspace = make_workspace(tmp_path / "ws", mlflow_uri=f"http://user:secret@127.0.0.1:{port}")
    make_run(workspace, "0000011110")
    with pytest.raises(MlflowError, match=f"127.0.0.1:{port} does not answer") as caught:
        sync_run(workspace, "exp1")
    assert "secret" not in str(caught.value)
    submit(workspace, "exp1", "sent while MLflow was down")
    folder = tmp_path / "server"
    folder.mkdir()
    store = ["--backend-store-uri", f"sqlite:///{folder}/m.db", "--artifacts-destination", str(folder / "artifacts")]
    with mlflow_server(folder, *store, "--workers", "1", port=port, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"):
        assert sync_all(workspace, ["exp1"]) == (["exp1"], [])
        (run,) = find_runs(workspace)
        assert run.data.metrics["public_f1"] == 1.0
        client = connect(workspace)
        assert "best.pth" in {file.path for file in client.list_artifacts(run.info.run_id)}
    state = (workspace.runs_dir / "exp1" / "mlflow.json").read_text()
    assert "secret" not in state


def test_facts_have_tags_of_their_own(workspace: Workspace) -> None:
    record = replace(make_run(workspace), facts={"status": "fine", "uid": "1", "idea": 7})
    tags, _ = describe_run(workspace, record, [])
    assert tags["tracker.status"] == "finished"
    assert "tracker.uid" not in tags
    assert [tags[f"tracker.fact.{name}"] for name in record.facts] == ["fine", "1", "7"]


def test_a_damaged_state_file_is_no_obstacle(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    sync_run(workspace, "exp1")
    (workspace.runs_dir / "exp1" / "mlflow.json").write_text('{"run_id": ')
    sync_run(workspace, "exp1")
    assert len(find_runs(workspace)) == 1


def test_a_run_folder_that_moved_to_another_server_is_copied_there_whole(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tracker.workspace import load_workspace

    make_run(workspace, "0000011110")
    sync_run(workspace, "exp1")
    monkeypatch.setenv("TRACKER_MLFLOW_URI", f"sqlite:///{workspace.root}/other.db")
    other = load_workspace(workspace.root)
    sync_run(other, "exp1")
    (run,) = find_runs(other)
    assert history(other, run.info.run_id, "val/f1") == [(1, 0.5)]


def test_metric_names_that_mlflow_refuses_are_cleaned(workspace: Workspace) -> None:
    recorder = start_run(workspace)
    recorder.metrics({"val/f1/안경": 0.5, "val/f1/a+b": 0.25}, step=1, epoch=1)
    recorder.finish("finished")
    sync_run(workspace, "exp1")
    (run,) = find_runs(workspace)
    assert {"val/f1/__", "val/f1/a_b"} <= set(run.data.metrics)


def test_the_state_file_names_the_run_in_mlflow(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    sync_run(workspace, "exp1")
    state = json.loads((workspace.runs_dir / "exp1" / "mlflow.json").read_text())
    assert state["run_id"] == find_runs(workspace)[0].info.run_id
    assert (workspace.runs_dir / "exp1" / "metrics.jsonl").stat().st_size == state["offset"]
