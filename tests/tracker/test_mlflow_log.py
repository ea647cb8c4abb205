"""The copy of a run in MLflow and TensorBoard: everything once, however often and by whomever it is
copied."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import tracker
from tests.conftest import run_tracker, save_image
from tests.support.forks import MIRROR, Forks
from tests.support.mlflow_runs import find_runs
from tests.support.proxy import MODES, compare, copy_through, proxy_before
from tests.support.servers import forked_mlflow, free_port
from tests.support.workspaces import begin_run, make_run, make_workspace
from tracker.ledger.read import list_run_paths, list_submissions
from tracker.mirror.copy import Connections, RunCopy, sync_run
from tracker.mirror.mirror import Mirror, describe_lag, read_progress, write_progress
from tracker.mirror.process import copy_until_end
from tracker.mirror.targets.mlflow import BATCH, describe_run
from tracker.mirror.targets.mlflow_server import (
    OUTAGE_NAME,
    MlflowError,
    connect,
    fetch_run,
    find_outage,
    note_outage,
)
from tracker.mirror.targets.mlflow_view import (
    VIEW_KEY,
    VIEW_KEYS,
    VIEW_PREFIX,
    ensure_experiment,
    unpack_view,
)
from tracker.run_folder.read import load_run
from tracker.run_folder.recorder import Recorder
from tracker.submission.notes import add_note
from tracker.submission.scores import score
from tracker.submission.submit import submit, sync_all
from tracker.training.config import Config, config_to_dict
from tracker.workflows.ending import describe_error
from tracker.workspace.tracker_toml import Workspace, load_workspace

LIMIT_S = 180


@pytest.fixture
def workspace(workspace: Workspace, mlflow_db: Path) -> Workspace:
    """A workspace whose MLflow has a database; what makes one is tested where processes start at
    once."""
    shutil.copy(mlflow_db, workspace.root / "mlflow.db")
    return workspace


def history(workspace: Workspace, run_id: str, key: str) -> list[tuple[int, float]]:
    return [
        (metric.step, metric.value) for metric in connect(workspace).get_metric_history(run_id, key)
    ]


def start_run(workspace: Workspace) -> Recorder:
    return begin_run(workspace, config=config_to_dict(Config()), note="n")


def test_a_copied_run_has_params_curve_files_note_and_scores(workspace: Workspace) -> None:
    make_run(workspace, "0000011110", config={"optim.lr": 0.5}, note="try a high rate")
    submit(workspace, "exp1", "first *memo*")
    sync_run(workspace, "exp1")
    (run,) = find_runs(workspace)
    assert run.info.run_name == "exp1"
    assert run.info.status == "FINISHED"
    assert run.data.params["optim.lr"] == "0.5"
    assert run.data.metrics == {
        "train/loss": 0.5,
        "val/f1": 0.5,
        "public_f1": 1.0,
        "public_accuracy": 1.0,
    }
    assert (run.data.tags["best/val/f1"], run.data.tags["tracker.best_epoch"]) == ("0.5", "1")
    assert run.data.tags["submission"] == "1"
    assert run.data.tags["public_accuracy"] == "1.0000"
    assert run.data.tags["mlflow.note.content"] == "try a high rate\n\nSubmission 1: first *memo*"
    names = {file.path for file in connect(workspace).list_artifacts(run.info.run_id)}
    assert {"best.pth", "config.toml", "metrics.jsonl", "predictions.csv", "env.json"} <= names


def test_a_database_that_mlflow_could_not_finish_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace(tmp_path / "other", solution=None)

    def fail(_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("mlflow.store.db.utils._upgrade_db", fail)
        with pytest.raises(MlflowError, match="disk is full"):
            connect(workspace)
    assert not list(workspace.root.glob("*mlflow.db*"))
    make_run(workspace, "0000011110")
    sync_run(workspace, "exp1")
    assert [run.info.status for run in find_runs(workspace)] == ["FINISHED"]


def test_an_outage_that_cannot_be_noted_ends_nothing(workspace: Workspace) -> None:
    note = workspace.state_dir / OUTAGE_NAME
    (note / "in the way").mkdir(parents=True)
    note_outage(workspace, "does not answer")
    note_outage(workspace, "")
    assert find_outage(workspace) == ""


def test_the_runs_table_has_a_view_with_the_deciding_metric_also_where_the_experiment_is_older(
    tmp_path: Path, mlflow_db: Path
) -> None:
    workspace = make_workspace(tmp_path / "other", metrics=["rmse:lower"], solution=None)
    shutil.copy(mlflow_db, workspace.root / "mlflow.db")
    client = connect(workspace)
    old = client.create_experiment(workspace.competition.name)
    assert ensure_experiment(client, workspace) == old
    tags = client.get_experiment(old).tags
    views = {tag: text for tag, text in tags.items() if tag.startswith(VIEW_PREFIX)}
    assert {tag: unpack_view(text)[0] for tag, text in views.items()} == {
        VIEW_PREFIX + key: name for name, key in VIEW_KEYS.items()
    }
    view = unpack_view(views[VIEW_PREFIX + VIEW_KEY])[1]
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`public_rmse`", True)
    columns = ["tags.`submission`", "metrics.`public_rmse`", "tags.`best/val/rmse`"]
    texts = ["tags.`changed against SOTA`", "attributes.`Description`"]
    assert view["selectedColumns"] == [*columns, *texts]


def test_a_saved_view_is_written_again_only_when_its_columns_change_and_nobody_made_it_theirs(
    workspace: Workspace,
) -> None:
    client = connect(workspace)
    experiment = ensure_experiment(client, workspace)
    written: list[str] = []
    set_tag = client.set_experiment_tag

    def note_tag(where: str, tag: str, text: str) -> None:
        written.append(tag)
        set_tag(where, tag, text)

    client.set_experiment_tag = note_tag
    board, curves, machines = (VIEW_PREFIX + key for key in VIEW_KEYS.values())
    state = unpack_view(client.get_experiment(experiment).tags[curves])[1]
    # another machine's zlib packs in other bytes; an old tracker wrote no name; one is a person's
    plain = {"name": "Curves", "createdAt": 5, "state": json.dumps(state)}
    theirs = {"name": "Mine", "createdAt": 5, "updatedAt": 6, "state": "{}"}
    set_tag(experiment, board, json.dumps({"selectedColumns": []}))
    set_tag(experiment, curves, json.dumps(plain))
    set_tag(experiment, machines, json.dumps(theirs))
    assert ensure_experiment(client, workspace) == experiment
    assert written == [board]
    set_tag(experiment, curves, json.dumps({**plain, "state": "{}"}))
    ensure_experiment(client, workspace)
    assert written == [board, curves]
    tags = client.get_experiment(experiment).tags
    name, renewed, view = unpack_view(tags[curves])
    assert (name, renewed, view["createdAt"]) == ("Curves", state, 5)
    assert json.loads(tags[machines]) == theirs


def test_a_tag_that_has_become_empty_is_removed_and_a_tag_of_others_stays(
    workspace: Workspace,
) -> None:
    recorder = start_run(workspace)
    recorder.params({"pruned": True})
    recorder.finish("interrupted", error="SIGTERM")
    sync_run(workspace, "exp1")
    (run,) = find_runs(workspace)
    assert (run.data.tags["tracker.error"], run.data.tags["tracker.fact.pruned"]) == (
        "SIGTERM",
        "True",
    )
    client = connect(workspace)
    client.set_tag(run.info.run_id, "team", "blue")
    client.set_tag(run.info.run_id, "tracker.retired", "a tag of an older tracker")
    recorder = Recorder.reopen(workspace.runs_dir, "exp1")
    sync_run(workspace, "exp1")
    assert "tracker.error" not in find_runs(workspace)[0].data.tags
    recorder.finish("finished")
    sync_run(workspace, "exp1")
    tags = find_runs(workspace)[0].data.tags
    assert {"tracker.error", "tracker.retired"}.isdisjoint(tags)
    kept = [
        tags.get(key) for key in ("team", "tracker.status", "tracker.uid", "tracker.fact.pruned")
    ]
    assert kept == ["blue", "finished", recorder.record.uid, "True"]
    assert "tracker.copied_at" in tags


def test_a_note_is_in_the_description_when_the_command_returns(workspace: Workspace) -> None:
    record = make_run(workspace, "0000011110", note="try a high rate")
    submit(workspace, "exp1", "first")
    add_note(workspace, "1", "public was lucky")
    sync_run(workspace, "exp1")
    (run,) = find_runs(workspace)
    start = "try a high rate\n\nSubmission 1: first\n\n"
    day = f"{record.created_at[:10]}, {record.author}"
    assert run.data.tags["mlflow.note.content"] == f"{start}{day}: public was lucky"
    done = run_tracker("note", "exp1", "seed 7 <b>next</b>", cwd=workspace.root)
    assert re.fullmatch(r"exp1: noted, [0-9]{4}-[0-9-]{5} [0-9:]{5} \(UTC\)\n", done.stdout)
    assert done.stderr == ""
    (run,) = find_runs(workspace)
    assert run.data.tags["mlflow.note.content"].endswith(
        f"public was lucky\n\n{day}: seed 7 <b>next</b>"
    )


def test_copying_again_changes_nothing(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    sync_run(workspace, "exp1")
    (first,) = find_runs(workspace)
    (
        workspace.runs_dir / "exp1" / "mlflow.json"
    ).unlink()  # as if the copier had died before it could note anything
    sync_run(workspace, "exp1")
    (second,) = find_runs(workspace)
    assert second.to_dictionary() == {
        **first.to_dictionary(),
        "info": second.to_dictionary()["info"],
    }
    assert history(workspace, first.info.run_id, "val/f1") == [(1, 0.5)]


def test_points_are_copied_once_across_batches_and_copiers(workspace: Workspace) -> None:
    recorder = start_run(workspace)
    for step in range(1, BATCH + 2):
        recorder.metrics({"train/loss": 1 / step}, step=step, epoch=1)
    sync_run(workspace, "exp1")
    (run,) = find_runs(workspace)
    assert run.info.status == "RUNNING"
    recorder.metrics(
        {"train/loss": 7.0}, step=BATCH + 1, epoch=1
    )  # a step logged again after a resume
    recorder.metrics({"train/loss": 0.5}, step=BATCH + 2, epoch=1)
    recorder.finish("finished")
    sync_run(workspace, "exp1")
    points = history(workspace, run.info.run_id, "train/loss")
    assert [step for step, _ in points] == list(range(1, BATCH + 3))
    assert points[-2:] == [(BATCH + 1, 1 / (BATCH + 1)), (BATCH + 2, 0.5)]


CURVES = {
    "train/accuracy": 0.25,
    "train/images_per_s": 90.0,
    "val/accuracy": 0.75,
    "val/f1": 0.5,
    "val accuracy": 0.1,
}


def log_curves(workspace: Workspace) -> Recorder:
    recorder = start_run(workspace)
    recorder.metrics(CURVES, step=1, epoch=1)
    recorder.finish("finished")
    return recorder


def test_charts_of_a_run_begin_with_f1_loss_and_learning_rate_and_adopting_gives_names_back(
    workspace: Workspace,
) -> None:
    log_curves(workspace)
    sync_run(workspace, "exp1")
    (run,) = find_runs(workspace)
    sections = {name.rpartition("/")[0] for name in run.data.metrics}
    assert {name for name in run.data.metrics if "/" in name} == {
        "val/f1"
    }  # MLflow draws the others after it
    assert sections == {"val", ""}
    assert run.data.metrics["val accuracy"] == CURVES["val/accuracy"]
    _, ((values, step),), *_ = fetch_run(workspace, run.info.run_id, workspace.root / "files")
    assert (values, step) == (CURVES, 1)


def test_an_older_copy_of_a_run_keeps_the_names_of_its_curves(workspace: Workspace) -> None:
    recorder = log_curves(workspace)
    client = connect(workspace)
    client.create_run(
        ensure_experiment(client, workspace), tags={"tracker.uid": recorder.record.uid}
    )
    sync_run(workspace, "exp1")
    (run,) = find_runs(workspace)
    assert run.data.metrics == CURVES
    assert fetch_run(workspace, run.info.run_id, workspace.root / "files")[1] == [(CURVES, 1)]


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
        save_image(
            workspace.runs_dir / "exp1" / f"{name}.png",
            seed=number,
            mode="RGBA",
            size=(30 + number, 20),
        )
    sync_run(workspace, "exp1")
    sync_run(workspace, "exp1")
    (run,) = find_runs(workspace)
    client = connect(workspace)
    assert {f"{name}.png" for name in names} <= {
        file.path for file in client.list_artifacts(run.info.run_id)
    }
    board = EventAccumulator(str(workspace.runs_dir / "exp1" / "tensorboard")).Reload()
    for number, name in enumerate(names):
        (shown,) = board.Images(name)
        assert (shown.width, shown.height) == (30 + number, 20)
        assert (
            shown.encoded_image_string == (workspace.runs_dir / "exp1" / f"{name}.png").read_bytes()
        )


def test_figures_files_and_later_config_of_an_own_loop_are_in_mlflow(
    workspace: Workspace, tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    save_image(tmp_path / "a.png", seed=1)
    run = tracker.start_run({"optim": {"lr": 0.5}}, root=workspace.root, follow=False)
    run.log_figure("val/confusion", tmp_path / "a.png")
    run.log_file(tmp_path / "a.png", "raw/a.png")
    sync_run(workspace, "exp1")
    assert find_runs(workspace)[0].data.params == {"optim.lr": "0.5"}
    run.add_config({"depth": 3})
    run.finish()
    sync_run(workspace, "exp1")
    (copy,) = find_runs(workspace)
    assert copy.data.params == {"optim.lr": "0.5", "config.depth": "3"}
    whole = (tmp_path / "a.png").read_bytes()
    there = workspace.root / "mlartifacts" / copy.info.run_id / "artifacts"
    names = ("figures/val/confusion.png", "files/raw/a.png")
    assert [(there / name).read_bytes() for name in names] == [whole, whole]
    board = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    assert [image.encoded_image_string for image in board.Images("figures/val/confusion")] == [
        whole
    ]
    (there / names[0]).write_bytes(b"to")
    state = run.folder / "mlflow.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "whole": False}))
    sync_run(workspace, "exp1")
    assert (there / names[0]).read_bytes() == whole


@pytest.mark.parametrize(
    ("status", "shown"), [("killed", "KILLED"), ("interrupted", "KILLED"), ("failed", "FAILED")]
)
def test_mlflow_shows_how_a_run_ended(workspace: Workspace, status: str, shown: str) -> None:
    make_run(workspace, status=status)
    sync_run(workspace, "exp1")
    (run,) = find_runs(workspace)
    assert run.info.status == shown
    assert run.data.tags["tracker.status"] == status


def test_the_mirror_follows_a_run_whose_process_was_killed_to_its_end(workspace: Workspace) -> None:
    code = (
        "import sys, os, signal\nfrom pathlib import Path\nfrom tracker.run_folder.recorder import"
        " Recorder\nfrom tracker.training.config import Config, config_to_dict\nr ="
        " Recorder.create(Path(sys.argv[1]), kind='train', config=config_to_dict(Config()),"
        " parent=None, note='', fingerprints={})\nfor step in range(1, 51):\n   "
        " r.metrics({'train/loss': 1 / step}, step=step, epoch=1)\nos.kill(os.getpid(),"
        " signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, workspace.runs_dir], timeout=LIMIT_S, check=False
    )
    assert done.returncode < 0
    copy_until_end(workspace, "exp1")
    (run,) = find_runs(workspace)
    assert run.info.status == "KILLED"
    assert len(history(workspace, run.info.run_id, "train/loss")) == 50


@pytest.mark.slow
def test_copiers_that_start_at_once_on_an_empty_database_all_work(
    workspace: Workspace, forks: Forks
) -> None:
    (workspace.root / "mlflow.db").unlink()
    names = [make_run(workspace, "000001111" + str(n % 2)).name for n in range(3)]
    gate = workspace.root / "gate"
    children = [
        forks.start(workspace.root, name, cwd=workspace.root, module=MIRROR, gate=gate)
        for name in [*names, names[0]]
    ]
    gate.touch()
    for child in children:
        _, stderr = child.communicate(timeout=LIMIT_S)
        assert child.returncode == 0, stderr
    assert sorted(run.info.run_name for run in find_runs(workspace)) == ["exp1", "exp2", "exp3"]


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
    make_run(workspace, "0000011110")
    sync_run(workspace, "exp1")
    monkeypatch.setenv("TRACKER_MLFLOW_URI", f"sqlite:///{workspace.root}/other.db")
    other = load_workspace(workspace.root)
    sync_run(other, "exp1")
    (run,) = find_runs(other)
    assert history(other, run.info.run_id, "val/f1") == [(1, 0.5)]


def write_points(folder: Path, *points: dict[str, Any]) -> None:
    """Lines as an older tracker or somebody else wrote them."""
    lines = [json.dumps({"time": 1.8e9, "step": 1, "epoch": 1, **point}) + "\n" for point in points]
    (folder / "metrics.jsonl").write_text("".join(lines))


def test_names_in_other_scripts_stay_apart(workspace: Workspace) -> None:
    recorder = start_run(workspace)
    values = {
        "정확도": 0.1,
        "재현율": 0.2,
        "F1↑": 0.3,
        "F1↓": 0.4,
        "a?b": 0.5,
        "a*b": 0.6,
        "a_x003F_b": 0.7,
        "/a/..": 0.8,
    }
    recorder.metrics(values, step=1, epoch=1)
    recorder.finish("finished")
    sync_run(workspace, "exp1")
    (run,) = find_runs(workspace)
    assert sorted(run.data.metrics.values()) == sorted(values.values())
    assert {"정확도", "재현율", "F1_x2191_", "a_x003F_b"} <= set(run.data.metrics)


def test_what_an_older_run_has_is_renamed_said_once_and_the_rest_copied(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(workspace, "0000011110", config={"optim.lr": 0.5})
    folder = workspace.runs_dir / "exp1"
    odd = {"": 1.0, "3": 2.0, "a\nb": 3.0, "\ud800": 4.0, "n" * 300: 5.0}
    write_points(
        folder,
        {"values": odd},
        {"values": odd, "step": 2},
        {"values": {"step": 1.0}, "step": 2**63},
    )
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(
            '{"time": 1.8e9, "values": {"a": 1}}\n{"time": null, "step": 3, "values": {"b": 1}}\n'
        )
        file.write('{"time": 1.8e9, "step": 4, "epoch": 1, "values": {"loss": 0.5}}\n')
    (folder / "config.toml").write_text('[a]\n"b?" = "\\u0000"\n"b*" = 2\n"" = 3\n')
    sync_run(workspace, "exp1")
    told = capsys.readouterr().err
    sync_run(workspace, "exp1")
    assert capsys.readouterr().err == ""
    (run,) = find_runs(workspace)
    names = ["_empty_", "3", "a_x000A_b", "_xD800_"]
    assert [run.data.metrics[name] for name in [*names, "loss"]] == [1.0, 2.0, 3.0, 4.0, 0.5]
    assert len(history(workspace, run.info.run_id, "_empty_")) == 2
    assert 5.0 in run.data.metrics.values()
    assert "step" not in run.data.metrics
    assert run.data.params == {"a.b_x003F_": "\ufffd", "a.b_x002A_": "2", "a.": "3"}
    assert told.count("MLflow does not accept the name ''") == 1
    assert told.count("not copied") == 1


def test_what_a_server_refuses_is_left_out_and_told(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(workspace, "0000011110")
    sync_run(workspace, "exp1")
    (run,) = find_runs(workspace)
    client = connect(workspace)
    changed = workspace.runs_dir / "exp1" / "config.toml"
    changed.write_text(changed.read_text() + "\n[new]\nkey = 1\n")
    changed.write_text(
        changed.read_text().replace("lr = 0.001", "lr = 0.25")
    )  # a parameter of MLflow never changes
    (workspace.runs_dir / "exp1" / "mlflow.json").unlink()
    sync_run(workspace, "exp1")
    params = client.get_run(run.info.run_id).data.params
    assert (params["new.key"], params["optim.lr"]) == ("1", "0.001")
    assert "MLflow refuses param optim.lr" in capsys.readouterr().err


def test_many_points_are_copied_as_few_are(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(workspace, "0000011110")
    odd = [float("nan"), float("inf"), -float("inf"), 0.1]
    points = [
        {"step": step, "values": {"a": odd[step % 4], "b": step / 7}} for step in range(1, 600)
    ]
    write_points(workspace.runs_dir / "exp1", *points, {"step": 7, "values": {"late": 1.0}})
    sync_run(workspace, "exp1")
    (run,) = find_runs(workspace)
    monkeypatch.setattr("tracker.mirror.targets.mlflow.find_metrics_table", lambda _: None)
    monkeypatch.setenv("TRACKER_MLFLOW_URI", f"sqlite:///{workspace.root}/other.db")
    other = load_workspace(workspace.root)
    sync_run(other, "exp1")
    (slow,) = find_runs(other)
    assert repr(sorted(run.data.metrics.items())) == repr(sorted(slow.data.metrics.items()))
    for key in ("a", "b", "late"):
        found = repr(history(workspace, run.info.run_id, key))
        assert found == repr(history(other, slow.info.run_id, key))
    assert len(history(workspace, run.info.run_id, "a")) == 599


# --- a run exists there once ---


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Iterator[str]:
    """One MLflow server for the tests of lost answers."""
    with forked_mlflow(tmp_path_factory.mktemp("mlflow"), forks) as address:
        yield address


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_run_arrives_once_and_whole_whatever_answers_are_lost(
    server: str, tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.mirror.copy.RETRY_AFTER_S", (0.05, 0.1))
    if mode == "hangs":
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        monkeypatch.setattr("tracker.mirror.targets.ANSWER_S", 1.0)
    for seed in range(1 if mode in ("hangs", "is slow") else 2):
        outcome = copy_through(server, tmp_path / f"{mode}-{seed}", mode, seed=seed, delay_s=0.05)
        assert outcome.faults > 0
        assert outcome.perfect, outcome


def test_a_server_out_of_reach_fails_at_once_and_sync_makes_up_for_it(
    server: str, tmp_path: Path
) -> None:
    with proxy_before(server, rate=1.0) as proxy:
        proxy.set_mode("refuses")  # nothing listens there
        workspace = make_workspace(
            tmp_path / "ws",
            mlflow_uri=f"http://user:secret@127.0.0.1:{proxy.port}",
            competition={"name": str(tmp_path)},
        )
        make_run(workspace, "0000011110")
        with pytest.raises(MlflowError, match=f"127.0.0.1:{proxy.port} does not answer") as caught:
            sync_run(workspace, "exp1")
        assert "secret" not in str(caught.value)
        submit(workspace, "exp1", "sent while MLflow was down")
        proxy.set_mode("")
        assert sync_all(workspace, ["exp1"]) == (["exp1"], [])
        (run,) = find_runs(workspace)
        assert run.data.metrics["public_f1"] == 1.0
        client = connect(workspace)
        assert "best.pth" in {file.path for file in client.list_artifacts(run.info.run_id)}
    state = (workspace.runs_dir / "exp1" / "mlflow.json").read_text()
    assert "secret" not in state


def test_a_server_stopped_after_the_first_answer_does_not_give_the_password_away(
    server: str, tmp_path: Path
) -> None:
    planted = "pla%40nted%2Fp@ssword"
    with proxy_before(server, rate=1.0) as proxy:
        login = f"http://admin:{planted}@127.0.0.1:{proxy.port}"
        workspace = make_workspace(
            tmp_path / "ws", mlflow_uri=login, competition={"name": str(tmp_path)}
        )
        recorder = begin_run(workspace)
        folder = workspace.runs_dir / "exp1"
        copy = RunCopy(workspace, "exp1")
        copy.push()  # MLflow's client is connected: from now on its own errors come
        recorder.metrics({"train/loss": 1.0}, step=1, epoch=1)
        proxy.set_mode("refuses")
        with pytest.raises(MlflowError, match=r"API request to http://admin:\*\*\*@") as caught:
            copy.push()
        foreign = str(caught.value.__cause__)
        assert planted in foreign  # otherwise this test would prove nothing
        write_progress(folder, connected=True, problem=foreign)
        said = describe_lag(foreign)
        recorder.finish("failed", error=describe_error(OSError(foreign)))
        texts = [path.read_text() for path in (folder / "mirror.json", folder / "run.json")]
        for text in (str(caught.value), said, *texts):
            assert "p@ssword" not in text
            assert "pla%40" not in text
        # what an earlier version has left is rewritten by a sync, also by one that fails
        (folder / "mirror.json").write_text(json.dumps({"connected": True, "problem": foreign}))
        (folder / "mirror.log").write_text(f"a line\n{foreign}\n")
        done, problems = sync_all(workspace, ["exp1"])
        assert (done, len(problems)) == ([], 1)
        assert "admin:***@" in read_progress(folder)["problem"]
        assert (folder / "mirror.log").read_text().startswith("a line\n")
        for path in [path for path in folder.rglob("*") if path.is_file()]:
            assert b"p@ssword" not in path.read_bytes(), path


@pytest.mark.parametrize("retries", ["0", "3"])
def test_a_run_whose_creation_was_not_answered_is_created_once(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retries: str
) -> None:
    monkeypatch.setenv(
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES", retries
    )  # of MLflow's own client, which only repeats
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    with proxy_before(server, rate=1.0) as proxy:
        workspace = make_workspace(
            tmp_path / "ws", mlflow_uri=proxy.address, competition={"name": str(tmp_path)}
        )
        make_run(workspace, "0000011110")
        client = connect(workspace)
        ensure_experiment(client, workspace)
        create = client.create_run

        def create_unanswered(*args: Any, **options: Any) -> Any:
            proxy.set_mode("closes after")
            try:
                return create(*args, **options)
            finally:
                proxy.set_mode("")

        monkeypatch.setattr(client, "create_run", create_unanswered)
        assert sync_run(workspace, "exp1", Connections({"MLflow": client})).status == "finished"
        assert compare(workspace).perfect


@pytest.mark.parametrize("known", ["younger", "neither"])
def test_of_two_runs_of_one_uid_the_older_stays_and_has_everything(
    workspace: Workspace, known: str
) -> None:
    record = make_run(workspace, "0000011110")
    client = connect(workspace)
    experiment = ensure_experiment(client, workspace)
    path = workspace.runs_dir / "exp1" / "mlflow.json"
    first = datetime.fromisoformat(record.created_at).timestamp() * 1000
    younger = client.create_run(
        experiment, start_time=round(first) + 5, tags={"tracker.uid": record.uid}
    )
    if known == "younger":
        sync_run(workspace, "exp1")
        assert json.loads(path.read_text())["run_id"] == younger.info.run_id
    older = client.create_run(experiment, start_time=round(first), tags={"tracker.uid": record.uid})
    sync_run(workspace, "exp1")
    (run,) = find_runs(workspace)
    assert run.info.run_id == older.info.run_id == json.loads(path.read_text())["run_id"]
    assert client.get_run(younger.info.run_id).info.lifecycle_stage == "deleted"
    assert history(workspace, run.info.run_id, "val/f1") == [(1, 0.5)]
    assert run.data.params["optim.lr"] == "0.001"
    assert "best.pth" in {file.path for file in client.list_artifacts(run.info.run_id)}


def test_a_mirror_sends_everything_to_the_older_run_that_another_copier_found(
    workspace: Workspace,
) -> None:
    recorder = start_run(workspace)
    recorder.metrics({"train/loss": 0.5}, step=1, epoch=1)
    copy = RunCopy(workspace, "exp1")
    copy.push()
    client = connect(workspace)
    (younger,) = find_runs(workspace)
    client.delete_run(younger.info.run_id)
    older = client.create_run(younger.info.experiment_id, tags={"tracker.uid": recorder.record.uid})
    path = workspace.runs_dir / "exp1" / "mlflow.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "run_id": older.info.run_id, "offset": 0})
    )
    recorder.metrics({"train/loss": 0.25}, step=2, epoch=1)
    copy.push()
    recorder.finish("finished")
    assert history(workspace, older.info.run_id, "train/loss") == [(1, 0.5), (2, 0.25)]


def test_a_run_deleted_in_mlflow_stays_deleted_until_its_state_is(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(workspace, "0000011110")
    sync_run(workspace, "exp1")
    client = connect(workspace)
    client.delete_run(find_runs(workspace)[0].info.run_id)
    submit(workspace, "exp1", "memo")
    assert sync_all(workspace, ["exp1"]) == (["exp1"], [])
    assert find_runs(workspace) == []
    assert "it was deleted in MLflow" in capsys.readouterr().err
    (workspace.runs_dir / "exp1" / "mlflow.json").unlink()
    sync_run(workspace, "exp1")
    assert history(workspace, find_runs(workspace)[0].info.run_id, "val/f1") == [(1, 0.5)]


def test_a_store_that_was_emptied_is_filled_again(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    sync_run(workspace, "exp1")
    (workspace.root / "mlflow.db").unlink()
    sync_run(load_workspace(workspace.root), "exp1")
    assert history(workspace, find_runs(workspace)[0].info.run_id, "val/f1") == [(1, 0.5)]


def test_a_file_that_did_not_arrive_whole_is_copied_again(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    sync_run(workspace, "exp1")
    (run,) = find_runs(workspace)
    (torn,) = workspace.root.glob(f"mlartifacts/{run.info.run_id}/artifacts/best.pth")
    torn.write_bytes(b"we")
    state = workspace.runs_dir / "exp1" / "mlflow.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "whole": False}))
    sync_run(workspace, "exp1")
    assert torn.read_bytes() == b"weights"


def test_a_score_whose_metric_has_left_tracker_toml_is_copied_as_it_is(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", solution=None, leaderboard="manual")
    make_run(workspace, "0000011110")
    submit(workspace, "exp1", "first")
    score(workspace, 1, {("public", "f1"): 0.5, ("public", "accuracy"): 0.25})
    left = tuple(metric for metric in workspace.competition.metrics if metric.name == "f1")
    later = replace(workspace, competition=replace(workspace.competition, metrics=left))
    tags, metrics = describe_run(later, load_run(later.runs_dir, "exp1"), list_submissions(later))
    assert (tags["public_f1"], tags["public_accuracy"]) == ("0.5000", "0.25")
    assert metrics["public_accuracy"] == 0.25


def test_a_score_corrected_downwards_is_the_one_that_mlflow_sorts_by(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", leaderboard="manual", solution=None)
    make_run(workspace, "0000011110")
    submit(workspace, "exp1", "first")
    for value in (0.8, 0.7):
        score(workspace, 1, {("public", "f1"): value})
        sync_run(workspace, "exp1")
        (run,) = find_runs(workspace)
        assert run.data.metrics["public_f1"] == value
    (workspace.runs_dir / "exp1" / "mlflow.json").unlink()
    sync_run(workspace, "exp1")
    assert [value for _, value in history(workspace, run.info.run_id, "public_f1")] == [0.8, 0.7]


# --- the end of a run does not wait for a dead server ---


@pytest.mark.usefixtures("forked_mirrors")
@pytest.mark.parametrize("mode", ["refuses", "hangs", "answers 500"])
def test_the_end_of_a_run_does_not_wait_for_a_dead_server(
    server: str, tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKER_MLFLOW_WAIT_S", "1e6")
    with proxy_before(server, rate=1.0) as proxy:
        proxy.set_mode(mode)
        workspace = make_workspace(tmp_path / "ws", mlflow_uri=proxy.address)
        make_run(workspace, "0000011110")
        mirror = Mirror(workspace, "exp1")
        mirror.start()
        process = mirror._process
        assert process is not None
        try:
            said = mirror.wait()
        finally:
            process.kill()
            process.wait()
    assert re.fullmatch(
        r"MLflow is behind \(.*\): copying continues in the background; tracker sync completes it"
        r" if that fails",
        said,
    )


def test_a_server_that_is_away_is_known_to_the_next_run(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", mlflow_uri=f"http://127.0.0.1:{free_port()}")
    make_run(workspace)
    with pytest.raises(MlflowError):
        connect(workspace)
    assert "does not answer" in find_outage(workspace)
    note_outage(workspace, "")
    assert find_outage(workspace) == ""


@pytest.mark.usefixtures("forked_mirrors")
def test_the_end_of_a_run_waits_for_a_slow_server(server: str, tmp_path: Path) -> None:
    with proxy_before(server, delay_s=0.2) as proxy:
        proxy.set_mode("is slow")
        workspace = make_workspace(
            tmp_path / "ws", mlflow_uri=proxy.address, competition={"name": str(tmp_path)}
        )
        make_run(workspace, "0000011110")
        mirror = Mirror(workspace, "exp1")
        mirror.start()
        assert mirror.wait() == ""
        assert compare(workspace).perfect


def test_a_sync_of_many_runs_asks_a_server_that_is_away_once(server: str, tmp_path: Path) -> None:
    with proxy_before(server, rate=1.0) as proxy:
        proxy.set_mode("answers 500")
        workspace = make_workspace(tmp_path / "ws", mlflow_uri=proxy.address)
        names = [make_run(workspace).name for _ in range(3)]
        done, problems = sync_all(workspace, names)
        assert (done, len(problems), proxy.faults) == ([], 3, 1)
    assert len(list_run_paths(workspace)) == 3  # the ledger is up to date all the same


def test_the_state_file_names_the_run_in_mlflow(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    sync_run(workspace, "exp1")
    state = json.loads((workspace.runs_dir / "exp1" / "mlflow.json").read_text())
    assert state["run_id"] == find_runs(workspace)[0].info.run_id
    assert (workspace.runs_dir / "exp1" / "metrics.jsonl").stat().st_size == state["offset"]
