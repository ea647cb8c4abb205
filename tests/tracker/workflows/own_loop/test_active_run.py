"""Training loops of one's own, and runs made elsewhere: recorded, compared and submitted like any
other."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

import tracker
from tests.conftest import COMMAND_LIMIT_S, NO_MLFLOW, run_tracker
from tests.support.forks import PROGRAM, TORCHRUN, Forks
from tests.support.workspaces import make_run
from tracker.comparison.diff import diff_runs
from tracker.core.errors import DuplicateError, RefusedError, UnknownRunError
from tracker.core.settings import find_rank
from tracker.jobs.stop import stop_run
from tracker.lightning import TrackerLogger
from tracker.mirror.targets.mlflow_server import connect
from tracker.mirror.targets.mlflow_view import ensure_experiment
from tracker.run_folder.event_log import read_event_log
from tracker.run_folder.points import read_curves
from tracker.run_folder.read import list_runs, load_config, load_run
from tracker.run_folder.record import RunRecord
from tracker.submission.examine import check
from tracker.submission.submit import submit
from tracker.training.errors import ConfigError, DataError, WeightsError
from tracker.training.run.checkpoint import weights_fingerprint
from tracker.workflows.adopt.adopt import adopt_folder, adopt_mlflow
from tracker.workflows.own_loop.active_run import ActiveRun
from tracker.workflows.own_loop.begin import begin
from tracker.workflows.own_loop.config_tables import to_tables
from tracker.workflows.own_loop.null_run import NullRun
from tracker.workspace.tracker_toml import Workspace, load_workspace

STATE = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(3)}
ANSWERS = {f"i{number}.png": int(number > 4) for number in range(10)}


@pytest.fixture(autouse=True)
def _without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens there: the copy in MLflow has tests of its own."""
    monkeypatch.setenv(*next(iter(NO_MLFLOW.items())))


def test_a_loop_of_ones_own_gets_record_fingerprints_and_ledger(workspace: Workspace) -> None:
    with tracker.start_run(
        {"optim": {"lr": 0.1}, "depth": 3}, note="mine", root=workspace.root, follow=False
    ) as run:
        for epoch in (1, 2):
            run.log({"val/f1": torch.tensor(0.25 * epoch)}, step=epoch, epoch=epoch)
        run.save_best(STATE, epoch=2, metrics={"val/f1": 0.5})
        run.save_predictions(ANSWERS)
    record = load_run(workspace.runs_dir, "exp1")
    assert (record.status, record.note, record.best_epoch, record.summary) == (
        "finished",
        "mine",
        2,
        {"val/f1": 0.5},
    )
    assert record.fingerprints["weights"] == weights_fingerprint(STATE)
    assert load_config(workspace.runs_dir, "exp1") == {"optim": {"lr": 0.1}, "config": {"depth": 3}}
    assert read_curves(run.folder / "metrics.jsonl")["val/f1"] == {1: (1, 0.25), 2: (2, 0.5)}
    row, _ = submit(workspace, "exp1", "from my own loop")
    assert row.scores["public_f1"] == 1.0
    make_run(workspace, "0000011111")
    with pytest.raises(DuplicateError):
        submit(workspace, "exp2", "the same")
    assert diff_runs(workspace, "exp1", "exp2").config["optim.lr"] == [0.1, 0.001]


def test_names_that_may_not_be_logged_are_adopted_under_others(
    workspace: Workspace, tmp_path: Path
) -> None:
    names = ["val/정확도", "a\nb", "가" * 90, ""]
    with SummaryWriter(str(tmp_path / "old")) as writer:
        for number, name in enumerate(names):
            writer.add_scalar(name, number, 1)
    record, remarks = adopt_folder(workspace, tmp_path / "old")
    curves = read_curves(workspace.runs_dir / record.name / "metrics.jsonl")
    assert sorted(value for curve in curves.values() for _, value in curve.values()) == [0, 1, 2, 3]
    assert {"val/정확도", "a_x000A_b", "_empty_"} <= set(curves)
    assert sum("is called" in remark for remark in remarks) == 3


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("no"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_an_error_ends_the_run_and_goes_on(
    workspace: Workspace, error: BaseException, status: str
) -> None:
    with (
        pytest.raises(type(error)),
        tracker.start_run({}, root=workspace.root, follow=False) as run,
    ):
        run.log({"loss": 1.0})
        raise error
    assert load_run(workspace.runs_dir, "exp1").status == status


SCRIPT = """
import os, sys, tracker
from pathlib import Path
from tracker.run_folder.read import load_run
run = tracker.start_run({}, note=sys.argv[1], follow=sys.argv[1] == "pass")
run.log({"loss": 1.0})
def hook(kind, error, trace):
    print("theirs:", kind.__name__)
"""
ENDS = {
    "pass": ("finished", ""),
    "sys.exit(0)": ("finished", ""),
    "exit()": ("finished", ""),
    "sys.exit(3)": ("failed", "SystemExit: 3"),
    "sys.exit('no data')": ("failed", "SystemExit: no data"),
    "sys.excepthook = hook; raise ValueError('no')": ("failed", "ValueError: no"),
    "raise KeyboardInterrupt": ("interrupted", "Ctrl-C"),
    "raise RuntimeError('DataLoader worker (pid 7) is killed by signal: Terminated.')": (
        "interrupted",
        "SIGTERM",
    ),
    "raise RuntimeError('DataLoader worker (pid 7) is killed by signal: Killed.')": (
        "failed",
        "RuntimeError: DataLoader worker (pid 7) is killed by signal: Killed.",
    ),
    (
        "os.fork() or sys.exit(1); os.wait();"
        " assert load_run(run.folder.parent, run.name).status == 'running'"
    ): (
        "finished",
        "",
    ),
}


def test_a_run_that_is_open_when_its_script_ends_ends_like_it(
    workspace: Workspace, tmp_path: Path
) -> None:
    scripts = {}
    for number, ending in enumerate(ENDS):
        path = tmp_path / f"{number}.py"
        path.write_text(SCRIPT + ending)
        words = [sys.executable, str(path), ending]
        pipe = subprocess.PIPE
        scripts[ending] = subprocess.Popen(
            words, cwd=workspace.root, stdout=pipe, stderr=pipe, text=True
        )
    outputs = {
        ending: script.communicate(timeout=COMMAND_LIMIT_S) for ending, script in scripts.items()
    }
    records = {
        record.note: (record.status, record.error) for record in list_runs(workspace.runs_dir)
    }
    assert records == ENDS, outputs
    codes = [script.returncode for script in scripts.values()]
    assert codes == [0, 0, 0, 3, 1, 1, -signal.SIGINT, 130, 1, 0], outputs
    _check_last_lines({ending: stderr for ending, (_, stderr) in outputs.items()}, workspace)
    assert [stdout for stdout, _ in outputs.values() if stdout] == ["theirs: ValueError\n"]
    with pytest.raises(SystemExit), tracker.start_run({}, root=workspace.root, follow=False):
        raise SystemExit(0)
    assert list_runs(workspace.runs_dir)[0].status == "finished"


def _check_last_lines(errors: dict[str, str], workspace: Workspace) -> None:
    """A stopped script has no traceback and says how it goes on; one with an error has one."""
    for record in list_runs(workspace.runs_dir):
        stderr = errors[record.note]
        own_error = record.error.startswith(("ValueError", "RuntimeError"))
        assert ("Traceback" in stderr) == (own_error and "hook" not in record.note), stderr
        if record.status == "interrupted":
            last = (
                f"{record.name} was interrupted{{}} ({record.error}). Resume: start_run(...,"
                f' resume="{record.name}")'
            )
            after = f" after epoch {record.epoch}" if record.epoch else ""
            assert last.format(after) in stderr.splitlines(), stderr


STOPPED_SCRIPT = """
import signal, sys, time, tracker
run = tracker.start_run({}, note=sys.argv[1], follow=False)
stopped = []
def train():
    for epoch in range(1, 10**6):
        run.log({"loss": 1.0}, epoch=epoch)
        print(run.name, flush=True)
        time.sleep(0.05)
        if stopped:
            break
"""
STOPS = {  # exit code, error text, whether `tracker stop` sends it
    "with run: train()": (-signal.SIGINT, "SIGTERM", False),
    "train()": (-signal.SIGINT, "not learning", True),
    "try: train()\nexcept KeyboardInterrupt: pass\nrun.finish()": (0, "not learning", True),
    "try: train()\nexcept BaseException: raise ValueError('theirs')": (1, "SIGTERM", False),
    "signal.signal(signal.SIGTERM, lambda *_: stopped.append(1)); train()": (
        0,
        "not learning",
        True,
    ),
}


def test_sigterm_and_stop_leave_a_loop_interrupted_whatever_it_makes_of_them(
    workspace: Workspace, tmp_path: Path
) -> None:
    children = {}
    for number, ending in enumerate(STOPS):
        path = tmp_path / f"{number}.py"
        path.write_text(STOPPED_SCRIPT + ending)
        pipe = subprocess.PIPE
        words = [sys.executable, str(path), ending]
        children[ending] = subprocess.Popen(
            words, cwd=workspace.root, stdout=pipe, stderr=pipe, text=True
        )
    found = {}
    for ending, child in children.items():
        assert child.stdout is not None
        name = child.stdout.readline().strip()
        by_stop = STOPS[ending][2]
        if by_stop:
            stop_run(workspace, name, reason="not learning")
        else:
            child.terminate()
        _, stderr = child.communicate(timeout=COMMAND_LIMIT_S)
        record = load_run(workspace.runs_dir, name)
        assert ("Traceback" in stderr) == ("theirs" in ending), stderr
        assert (
            f'after epoch {record.epoch} ({record.error}). Resume: start_run(..., resume="{name}")'
            in stderr
        )
        assert (record.status, record.note) == ("interrupted", ending)
        assert not (workspace.runs_dir / name / "stop.json").exists()
        found[ending] = (child.returncode, record.error, by_stop)
    assert found == STOPS


def test_a_line_says_where_a_run_begins_and_another_how_it_ended(
    workspace: Workspace, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.root)
    with tracker.start_run({}, follow=False) as run:
        assert repr(run) == "<run exp1, running, in runs/exp1>"
        for epoch, score in enumerate((0.25, 0.71844, 0.5), start=1):
            run.log({"val/f1": score}, epoch=epoch)
    with pytest.raises(ValueError, match="no"), tracker.start_run({}, follow=False):
        raise ValueError("no")
    with tracker.start_run({}, follow=False, resume="exp2"):
        pass
    with tracker.start_run({}, follow=False, quiet=True), tracker.start_run({}, rank=1) as other:
        assert repr(other) == "<run of another process>"
    assert capfd.readouterr().err.splitlines() == [
        "exp1 started in runs/exp1",
        "exp1 finished: best epoch 2, val/f1 0.7184",
        "exp2 started in runs/exp2",
        "exp2 failed (ValueError: no)",
        "exp2 resumed in runs/exp2",
        "exp2 finished",
    ]


def test_sigterm_is_as_before_when_the_run_has_ended(workspace: Workspace) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with tracker.start_run({}, root=workspace.root, follow=False):
        with tracker.start_run({}, root=workspace.root, follow=False):
            assert signal.getsignal(signal.SIGTERM) != before
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("variables", "rank"),
    [
        ({}, 0),
        ({"RANK": "0", "LOCAL_RANK": "0"}, 0),
        ({"RANK": "3", "LOCAL_RANK": "1"}, 3),
        ({"RANK": "0", "SLURM_PROCID": "2"}, 0),  # torchrun of one process, started by srun
        ({"SLURM_PROCID": "0"}, 0),  # a shell of Slurm, or srun of one task
        ({"SLURM_PROCID": "2", "SLURM_LOCALID": "0"}, 2),
        ({"SLURM_PROCID": "0", "LOCAL_RANK": "1"}, 1),  # started by Lightning in a shell of Slurm
        ({"LOCAL_RANK": "0"}, 0),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, 1),
        ({"LOCAL_RANK": "-1"}, 0),
        ({"NODE_RANK": "1"}, 0),
        ({"RANK": "", "LOCAL_RANK": "one"}, 0),
    ],
)
def test_the_first_process_of_a_group_makes_the_run_and_the_others_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], rank: int
) -> None:
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert find_rank()[0] == rank
    with tracker.start_run({"a": 1}, root=workspace.root, follow=False) as run:
        run.log({"loss": 1.0})
    assert len(list_runs(workspace.runs_dir)) == (rank == 0)
    tracker.start_run({"a": 1}, root=workspace.root, follow=False, rank=0).finish()
    assert len(list_runs(workspace.runs_dir)) == 1 + (rank == 0)


def test_a_run_of_another_process_takes_everything_and_writes_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        pytest.raises(ValueError, match="theirs"),
        tracker.start_run({"a": 1}, root=tmp_path, rank=1) as run,
    ):
        run.log({"loss": 1.0}, step=3, epoch=1)
        run.save_best(STATE, epoch=1, metrics={"loss": 1.0})
        run.save_predictions(ANSWERS)
        run.fingerprint_predictions()
        run.set_summary({"loss": 1.0})
        run.add_facts({"b": 2})
        run.add_file(tmp_path / "none.txt")
        (run.folder / "notes.txt").write_text("kept until the process ends")
        assert isinstance(run.finish("failed", error="no"), RunRecord)
        assert run.name == ""
        raise ValueError("theirs")
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    ours = {name for name in vars(ActiveRun) if not name.startswith("_")}
    assert ours <= vars(NullRun).keys()  # a new method needs its nothing


GROUP = """
import sys, torch, tracker
from tracker.lightning import TrackerLogger
if sys.argv[1:]:  # started by hand, without variables
    rank, store = int(sys.argv[1]), torch.distributed.FileStore(sys.argv[2], 2)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2, store=store)
with tracker.start_run({"lr": 0.1}, follow=False) as run:
    run.log({"loss": 1.0})
logger = TrackerLogger(follow=False)
logger.log_hyperparams({"lr": 0.1})
logger.log_metrics({"loss": 1.0})
logger.run.set_summary({"loss": 1.0})
logger.finalize("success")
"""


@pytest.mark.slow
def test_torchrun_and_processes_without_variables_make_one_run(
    workspace: Workspace, tmp_path: Path, forks: Forks
) -> None:
    script, root = tmp_path / "group.py", workspace.root
    script.write_text(GROUP)
    words = ("--standalone", "--nproc-per-node", "2", script)
    under_torchrun = forks.start(*words, cwd=root, module=TORCHRUN, ranks=2)
    told = under_torchrun.communicate(timeout=COMMAND_LIMIT_S)
    assert under_torchrun.wait() == 0, told
    assert [record.status for record in list_runs(workspace.runs_dir)] == ["finished"] * 2
    by_hand = [
        forks.start(script, str(rank), tmp_path / "store", cwd=root, module=PROGRAM)
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=COMMAND_LIMIT_S) for process in by_hand]
    assert [process.wait() for process in by_hand] == [0, 0], outputs
    assert [record.status for record in list_runs(workspace.runs_dir)] == ["finished"] * 4


def test_predictions_that_could_never_be_sent_are_refused_at_once(workspace: Workspace) -> None:
    with tracker.start_run({}, root=workspace.root, follow=False) as run:
        with pytest.raises(RefusedError, match="unknown"):
            run.save_predictions({"i0.png": 7})
        with pytest.raises(WeightsError, match="no tensors"):
            run.save_best({"a": 1}, epoch=1, metrics={})
    assert not (run.folder / "predictions.csv").exists()
    assert not (run.folder / "best.pth").exists()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"i0.png": 7, "i1.png": 1}, "ImageID,ans\ni0.png,7\ni1.png,1\n"),
        ({"i0.png": [0.25, 0.75]}, "ImageID,ans\ni0.png,0.25,0.75\n"),
        (pd.DataFrame({"ImageID": ["i0.png"], "label": [1]}), ",ImageID,label\n0,i0.png,1\n"),
    ],
)
def test_refused_predictions_are_kept_until_they_are_right(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], given: Any, kept: str
) -> None:
    run = tracker.start_run({}, root=workspace.root, follow=False)
    with pytest.raises((RefusedError, DataError)), run:
        run.save_predictions(given)
    refused = run.folder / "predictions.refused.csv"
    assert refused.read_text() == kept
    told = capsys.readouterr().err
    assert str(refused) in told and 'resume="exp1"' in told
    with tracker.start_run({}, root=workspace.root, follow=False, resume="exp1") as again:
        again.save_predictions(ANSWERS)
    assert not refused.exists()


def test_predictions_of_other_images_are_kept_with_a_warning(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    some = {name: answer for name, answer in ANSWERS.items() if name != "i3.png"}
    with tracker.start_run({}, root=workspace.root, follow=False) as run:
        run.save_predictions({**some, "x9.png": 1})
        told = capsys.readouterr().err
        assert "1 image (i3.png) without a prediction" in told
        assert "1 id (x9.png) not in the competition" in told
        assert "submit will refuse" in told
        assert "x9.png,1" in (run.folder / "predictions.csv").read_text()
        run.save_predictions({"x1.png": 1, "x2.png": 1})
        told = capsys.readouterr().err
        assert "none of the 2 ids (x1.png, x2.png) is in the competition" in told
        assert "without a prediction" not in told
        run.save_predictions(ANSWERS)
        assert "refuse" not in capsys.readouterr().err
        # images that cannot be listed now do not cost the predictions either
        (workspace.root / "eval").rename(workspace.root / "unmounted")
        run.save_predictions(some)
    assert "the ids to predict cannot be read" in capsys.readouterr().err
    assert "i3.png" not in (run.folder / "predictions.csv").read_text()
    with pytest.raises(ConfigError):
        check(workspace, "exp1")


def test_outside_a_workspace_nothing_begins(tmp_path: Path) -> None:
    with pytest.raises(UnknownRunError):
        tracker.start_run({}, root=tmp_path)


def test_configs_of_any_nesting_become_sections() -> None:
    config = {"a": {"b": {"c": 1}, "d": None}, "e": [1, 2.5], "f": Path("x"), "g": torch.tensor(2)}
    assert to_tables(config) == {"a": {"b.c": 1}, "config": {"e": [1, 2.5], "f": "x", "g": 2}}
    with pytest.raises(ConfigError, match=r"have the name a\.b\.c"):
        to_tables({"a": {"b": {"c": 1}, "b.c": 2}})


def test_a_config_that_json_cannot_hold_becomes_texts_and_a_run_with_it_is_resumed(
    workspace: Workspace,
) -> None:
    config = {"a": math.inf, "b": [-math.inf, math.nan], "c": np.float32("inf"), "d": math.nan}
    texts = {"config": {"a": "inf", "b": ["-inf", "nan"], "c": "inf", "d": "nan"}}
    assert to_tables(config) == texts
    run = tracker.start_run(config, root=workspace.root, follow=False)
    run.finish("interrupted")
    file = workspace.runs_dir / run.name / "config.toml"
    file.write_text(file.read_text().replace('"', ""))  # numbers, as an earlier version wrote them
    again = tracker.start_run(config, root=workspace.root, follow=False, resume=run.name)
    again.finish("finished")
    assert again.name == run.name


def test_fabric_logs_through_the_logger(workspace: Workspace) -> None:
    from lightning_fabric import Fabric

    logger = TrackerLogger(note="by Fabric", root=workspace.root, follow=False)
    fabric = Fabric(accelerator="cpu", devices=1, loggers=[logger])
    logger.log_hyperparams({"optim": {"lr": 0.5}})
    for step in (1, 2, 3):
        fabric.log_dict({"train/loss": 1 / step, "epoch": 1}, step=step)
    logger.run.save_predictions(ANSWERS)
    assert logger.version == "exp1"
    logger.finalize("success")
    record = load_run(workspace.runs_dir, "exp1")
    assert (record.status, record.note) == ("finished", "by Fabric")
    curves = read_curves(workspace.runs_dir / "exp1" / "metrics.jsonl")
    assert curves == {"train/loss": {1: (1, 1.0), 2: (1, 0.5), 3: (1, 1 / 3)}}
    assert load_config(workspace.runs_dir, "exp1") == {"optim": {"lr": 0.5}}
    assert submit(workspace, "exp1", "m")[0].number == 1


# --- adopt ---


def make_foreign(folder: Path, config: Any, name: str = "config.yaml") -> Path:
    """What a script of 2022 left: a config, events, two checkpoints and the answer file among
    others."""
    folder.mkdir(parents=True)
    (folder / name).write_text(json.dumps(config))  # JSON is YAML too
    with SummaryWriter(str(folder / "logs")) as board:
        for epoch in (1, 2, 3):
            board.add_scalar("val/f1", 0.25 * epoch, epoch)
    torch.save({"state_dict": STATE, "epoch": 3}, folder / "best.pth")
    torch.save({"state_dict": {"w": torch.ones(1)}}, folder / "last.pth")
    (folder / "classes.csv").write_text("name,number\na,1\n")
    answers = {**ANSWERS, "i9.png": 0}  # all right would be the solution
    rows = "".join(f"{name},{answer}\n" for name, answer in answers.items())
    (folder / "output.csv").write_text("ImageID,ans\n" + rows)
    return folder


@pytest.mark.parametrize("name", ["config.yaml", "config.json", "hparams.yaml"])
def test_an_adopted_folder_can_be_submitted_and_compared(
    workspace: Workspace, tmp_path: Path, name: str
) -> None:
    folder = make_foreign(tmp_path / "exp", {"optim": {"lr": 2e-5}, "epochs": 5}, name)
    record, remarks = adopt_folder(workspace, folder)
    assert (record.name, record.status) == ("exp1", "finished")
    assert [remark.partition(" ")[0] for remark in remarks] == ["took", "config:", "MLflow"]
    assert record.note == f"adopted from {folder}"
    assert record.fingerprints["weights"] == weights_fingerprint(STATE)
    assert record.summary == {"val/f1": 0.75}
    assert load_config(workspace.runs_dir, "exp1") == {
        "optim": {"lr": 2e-5},
        "train": {"epochs": 5},
    }
    assert read_curves(workspace.runs_dir / "exp1" / "metrics.jsonl")["val/f1"][2] == (2, 0.5)
    assert submit(workspace, "exp1", "adopted")[0].scores["public_f1"] == 1.0
    make_run(workspace, "0000011111")
    assert diff_runs(workspace, "exp1", "exp2").predictions == {
        "equal_share": 0.9,
        "changed": 1,
        "total": 10,
    }


def test_what_an_adopted_folder_lacks_is_named(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    torch.save({"state_dict": STATE}, tmp_path / "old" / "model.pt")
    _, remarks = adopt_folder(workspace, tmp_path / "old")
    assert "no config found: the run has an empty one" in remarks
    assert "no curves found" in remarks


def test_an_adopted_module_is_kept_as_a_file_and_the_way_to_its_weights_is_told(
    workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "old").mkdir()
    torch.save(torch.nn.Linear(1, 1), tmp_path / "old" / "model.pt")
    record, remarks = adopt_folder(workspace, tmp_path / "old")
    told = next(
        remark for remark in remarks if "model.pt" in remark and not remark.startswith("took")
    )
    assert 'torch.save(model.state_dict(), "weights.pth")' in told
    assert "weights_only" not in told
    assert record.fingerprints.get("weights") is None
    assert (workspace.runs_dir / record.name / "model.pt").is_file()


def test_an_empty_folder_is_refused_before_a_run_exists(
    workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "e").mkdir()
    with pytest.raises(DataError, match=r"no curves .*, no checkpoint"):
        adopt_folder(workspace, tmp_path / "e")
    with pytest.raises(DataError, match="no such folder"):
        adopt_folder(workspace, tmp_path / "nothing")
    assert not (workspace.runs_dir / "exp1").exists()


def test_an_mlflow_run_is_adopted_by_its_id(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRACKER_MLFLOW_URI")
    workspace = load_workspace(workspace.root)
    client = connect(workspace)
    run_id = client.create_run(ensure_experiment(client, workspace)).info.run_id
    client.log_param(run_id, "optim.lr", 0.5)
    for step in (1, 2):
        client.log_metric(run_id, "val/f1", step / 4, step=step)
    folder = make_foreign(tmp_path / "files", {})
    client.log_artifact(run_id, str(folder / "best.pth"))
    client.log_artifact(run_id, str(folder / "output.csv"))
    client.set_terminated(run_id, "FAILED")
    record, _ = adopt_mlflow(workspace, run_id)
    assert record.status == "failed"
    with pytest.raises(RefusedError, match="already adopted as exp1"):
        adopt_mlflow(workspace, run_id)
    assert record.note == f"adopted from mlflow:{run_id}"
    assert load_config(workspace.runs_dir, "exp1") == {"optim": {"lr": 0.5}}
    assert read_curves(workspace.runs_dir / "exp1" / "metrics.jsonl")["val/f1"] == {
        1: (1, 0.25),
        2: (2, 0.5),
    }
    assert submit(workspace, "exp1", "m")[0].number == 1


def test_a_killed_run_of_a_script_says_how_the_script_goes_on(workspace: Workspace) -> None:
    run = tracker.start_run({"optim": {"lr": 0.1}}, root=workspace.root, follow=False)
    run.log({"val/f1": 0.5}, step=1, epoch=1)
    run.finish("killed")  # what a look at the folder makes of it after kill -9
    words = 'resume="exp1" in its script'
    assert words in run_tracker("show", "exp1", cwd=workspace.root).stdout
    done = run_tracker("run", "train", "--resume", cwd=workspace.root, ok=False)
    assert (done.returncode, words in done.stderr) == (2, True)


PRESSED_SCRIPT = """
import os, sys, tracker
class Press:  # a signal comes while this module is imported
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), int(sys.argv[2]))
sys.meta_path.insert(0, Press())
tracker.start_run({}, note=sys.argv[1], follow=False)
"""
PRESSED = {  # where, the signal, the last line
    "tracker.workflows.own_loop.begin": (
        signal.SIGINT,
        "interrupted before the run started: nothing was recorded",
    ),
    "tracker.ledger.append": (signal.SIGINT, " interrupted while it started (Ctrl-C). Resume:"),
    "tomli_w": (signal.SIGTERM, "interrupted before the run started: nothing was recorded"),
    "sqlalchemy": (signal.SIGTERM, " interrupted while it started (SIGTERM). Resume:"),
}


def test_a_start_that_is_stopped_has_no_traceback_and_leaves_no_killed_run(
    workspace: Workspace, tmp_path: Path
) -> None:
    path, pipe = tmp_path / "script.py", subprocess.PIPE
    path.write_text(PRESSED_SCRIPT)
    children = {}
    for place, (number, _) in PRESSED.items():
        words = [sys.executable, str(path), place, str(int(number))]
        children[place] = subprocess.Popen(
            words, cwd=workspace.root, stdout=pipe, stderr=pipe, text=True
        )
    for place, child in children.items():
        _, stderr = child.communicate(timeout=COMMAND_LIMIT_S)
        assert child.returncode == -signal.SIGINT, (place, stderr)  # 130 in a shell
        assert "Traceback" not in stderr
        assert PRESSED[place][1] in stderr
    ends = {record.note: (record.status, record.error) for record in list_runs(workspace.runs_dir)}
    assert ends == {
        "tracker.ledger.append": ("interrupted", "Ctrl-C"),
        "sqlalchemy": ("interrupted", "SIGTERM"),
    }
    for record in list_runs(workspace.runs_dir):
        tracker.start_run({}, resume=record.name, root=workspace.root, follow=False).finish()


@pytest.mark.parametrize("writes", ["write_text", "append_event"])  # the config, the start
def test_a_run_that_is_stopped_while_its_first_files_are_written_leaves_no_folder(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, writes: str
) -> None:
    def press_ctrl_c(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"tracker.run_folder.recorder.{writes}", press_ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            tracker.start_run({}, root=workspace.root, follow=False)
    assert list_runs(workspace.runs_dir) == []
    assert list(workspace.runs_dir.glob("exp*")) == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert "heartbeat exp1" not in [thread.name for thread in threading.enumerate()]


def test_a_resume_that_is_stopped_as_it_is_told_leaves_the_run_as_it_was(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press_ctrl_c(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    tracker.start_run({}, root=workspace.root, follow=False).finish("interrupted")
    with monkeypatch.context() as patch:
        patch.setattr("tracker.run_folder.recorder.append_event", press_ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            tracker.start_run({}, resume="exp1", root=workspace.root, follow=False)
    assert load_run(workspace.runs_dir, "exp1").status == "interrupted"
    tracker.start_run({}, resume="exp1", root=workspace.root, follow=False).finish()
    assert load_run(workspace.runs_dir, "exp1").status == "finished"


def test_the_best_epoch_is_told_with_its_own_values(workspace: Workspace) -> None:
    """The summary of a loop without save_best has the best of each metric, of whatever epoch."""
    with begin({}, root=workspace.root, follow=False, quiet=True) as run:
        run.log({"val/f1": 0.9, "val/loss": 0.3}, epoch=1)
        run.log({"val/f1": 0.8, "val/loss": 0.2}, epoch=2)
        run.add_facts({"a": 1})  # as a heartbeat does: the record is written
    assert load_run(workspace.runs_dir, run.name).summary["val/loss"] == 0.2
    told = {event.kind: event for event in read_event_log(run.folder)}
    for kind in ("best", "finished"):
        assert told[kind].values["val/loss"] == 0.3
        assert "val/loss 0.3000" in told[kind].text and "0.2000" not in told[kind].text
