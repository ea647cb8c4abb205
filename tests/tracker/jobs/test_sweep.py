"""Sweep files, and workers that claim trials; trainings are in tests/test_jobs.py."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from tests.conftest import COMMAND_LIMIT_S, ROOT
from tests.support.servers import PostgresServer
from tracker.core.errors import RefusedError, TrackerError
from tracker.jobs.claims import Claims, Heartbeat
from tracker.jobs.job import Job, JobEnd
from tracker.jobs.sweep import (
    Worker,
    _check_same,
    make_pruner,
    make_sampler,
    open_study,
    run_sweep,
)
from tracker.jobs.sweep_file import Sweep, read_sweep
from tracker.jobs.sweep_storage import open_storage
from tracker.training.config import AugmentConfig, Config, OptimConfig, config_to_dict
from tracker.training.config_fingerprint import outcome_values
from tracker.training.errors import ConfigError, DataError
from tracker.workspace.tracker_toml import Metric, Workspace

WRONG = """
trials = 0
trails = 4
monitor = "f2"
[base]
lrr = 4
set.optim.lrr = 4
[space]
lr = [0.1, 0.2]
optim.weight_decay = { low = 0.1, hihg = 0.2 }
sched.warmup_epochs = { low = 0, high = 1, log = "yes" }
optim.lr = { low = 1e-5, high = 1e-2, log = true }
optim.lrr = { low = 1, high = 2 }
"loss.name" = ["f1", "hinge"]
train.batch_size = { low = 16, high = 8 }
train.epochs = { low = 0, high = 4 }
model.name = { low = 0, high = 4 }
[[first]]
optim.lr = 1e-3
train.epochs = 3
[[first]]
optim.lr = 1.0
optim.momentum = 0.5
"""

WORKER = """
import sys
import time
from pathlib import Path
import tracker.jobs.sweep as sweep
from tracker.jobs.job import JobEnd
from tracker.jobs.sweep_file import read_sweep
from tracker.jobs.sweep_storage import open_storage
from tracker.workspace.tracker_toml import load_workspace
from tracker.training.config import AugmentConfig, Config, OptimConfig, config_to_dict
from tracker.training.config_fingerprint import outcome_values
from tracker.training.errors import DataError

root, locks, url = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
file = read_sweep(root / "s.toml")
storage = open_storage(url, root / "study")
sweep.optuna.logging.set_verbosity(30)
print("ready", flush=True)
sys.stdin.readline()
study = sweep.open_study(storage, file, Config(), join=True)
worker = sweep.Worker(load_workspace(root), file, study, storage, locks)
while trial := worker.claim():
    print(trial.number, flush=True)
    time.sleep(0.02)  # others look at it while it runs
    study.tell(trial.number, 0.5)
"""


def test_everything_wrong_in_a_sweep_file_is_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text(WRONG)
    with pytest.raises(ConfigError) as caught:
        read_sweep(tmp_path / "s.toml")
    starts = [
        "trails: unknown key (nearest: trials)",
        "trials: expected at least 1, not 0",
        "monitor: expected val/ and the name of a metric, not 'f2'",
        "space.optim.lrr: unknown key (nearest: optim.lr)",
        "space.loss.name: expected one of",
        "space.train.batch_size: `low <= high` must hold",
        "space.train.epochs: expected at least 1, not 0",
        "space.model.name: is no number",
        "space.optim.weight_decay.hihg: unknown key (nearest: optim.weight_decay.high)",
        "space.optim.weight_decay.high: is missing, expected a number",
        "space.sched.warmup_epochs.log: expected true or false, not 'yes'",
        "space.lr: this key needs its section: optim.lr",
        "base.lrr: unknown key (nearest: lr)",
        "base.set.optim.lrr: unknown key (nearest: optim.lr)",
        "first[2].optim.lr: 1.0 is outside of the space",
        "first[2].optim.momentum: is not in the space",
    ]
    problems = caught.value.problems
    assert len(problems) == len(starts)
    assert all(any(problem.startswith(words) for problem in problems) for words in starts), problems


def test_a_key_that_cannot_be_tried_is_told_beside_other_mistakes(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("trial = 2\n[space]\ndata.val_ratio = [0.1, 0.2]\n")
    with pytest.raises(ConfigError) as caught:
        read_sweep(tmp_path / "s.toml")
    assert [*caught.value.problems] == [
        "trial: unknown key (nearest: trials)",
        "data.val_ratio changes the validation images or labels, so train.monitor cannot compare"
        " the trials",
    ]


def test_tables_of_a_sweep_file_that_are_none_are_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("base = 1\nspace = 2\nfirst = 3\n")
    with pytest.raises(ConfigError, match=r"3 problems in .*s\.toml") as caught:
        read_sweep(tmp_path / "s.toml")
    assert list(caught.value.problems) == [
        "base: expected a table, not 1",
        "space: expected config keys, as in [space] and optim.lr = { low = 1e-5, high = 1e-2 },"
        " not 2",
        "first: expected [[first]] tables, not 3",
    ]


def test_a_sweep_file_with_its_space_alone_has_the_declared_defaults(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("first = []\nspace.optim.lr = { low = 1e-5, high = 1 }\n")
    sweep = read_sweep(tmp_path / "s.toml")
    (dimension,) = sweep.space
    assert (dimension.name, dimension.contains(0.5), dimension.contains(2.0)) == (
        "optim.lr",
        True,
        False,
    )
    assert sweep.first == ()
    assert (sweep.trials, sweep.monitor, sweep.seed, sweep.sampler) == (20, "", 0, "tpe")
    assert (sweep.startup_trials, sweep.pruner, sweep.warmup_epochs) == (5, "median", 1)


def test_trials_that_could_not_be_compared_are_refused_before_anything_is_trained(
    workspace: Workspace,
) -> None:
    file = workspace.root / "s.toml"
    file.write_text(
        'monitor = "val/loss"\n[space]\nloss.gamma = [1.0, 2.0]\ndata.val_ratio = [0.1, 0.2]\n'
    )
    with pytest.raises(ConfigError, match="cannot be compared") as caught:
        run_sweep(workspace, file)
    assert [problem.partition(" ")[0] for problem in caught.value.problems] == [
        "loss.gamma",
        "data.val_ratio",
    ]
    file.write_text('monitor = "val/f1"\n[space]\nloss.name = ["focal", "f1"]\n')
    with pytest.raises(DataError, match=r"data\.train_dir is empty"):
        run_sweep(workspace, file)


def test_a_sweep_is_another_one_when_its_content_changes_but_not_its_length(tmp_path: Path) -> None:
    text = '[base]\nconfig = "b.toml"\n[space]\ndata.image_size = [[32, 32], [64, 64]]\n'
    names = []
    for config, more in (
        ("", ""),
        ("", "trials = 9\n"),
        ("", "seed = 2\n"),
        ("[train]\nepochs = 3\n", ""),
    ):
        (tmp_path / "b.toml").write_text(config)
        (tmp_path / "s.toml").write_text(more + text)
        names.append(read_sweep(tmp_path / "s.toml").study)
    assert names[0] == names[1]
    assert len(set(names)) == 3
    (dimension,) = read_sweep(tmp_path / "s.toml").space
    assert dimension.render("[64, 64]") == "data.image_size=[64, 64]"


@pytest.mark.parametrize("database", ["journal", "postgresql"])
def test_many_workers_claim_each_trial_once(
    workspace: Workspace, database: str, request: pytest.FixtureRequest
) -> None:
    root, url = workspace.root, ""
    if database == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = server.create_database()
    text = f'trials = 24\nstorage = "{url}"\n[space]\noptim.lr = {{ low = 1e-5, high = 1 }}'
    (root / "s.toml").write_text(text)
    workers = [
        subprocess.Popen(
            # on other machines nothing but the storage decides
            [
                sys.executable,
                "-c",
                WORKER,
                str(root),
                str(root / f"locks{number if url else 0}"),
                url,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for number in range(3)
    ]
    for worker in workers:
        assert worker.stdout
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin
        worker.stdin.write("go\n")
        worker.stdin.flush()
    outputs = [worker.communicate(timeout=COMMAND_LIMIT_S)[0] for worker in workers]
    assert sorted(int(number) for text in outputs for number in text.split()) == list(range(24))


def test_a_claim_is_one_workers_until_it_has_expired_and_the_worker_that_lost_it_learns_so(
    workspace: Workspace, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres_server.create_database()
    file = workspace.root / "s.toml"
    file.write_text(f'trials = 1\nstorage = "{url}"\n[space]\noptim.lr = [0.1, 0.2]\n')
    sweep = read_sweep(file)
    storage = open_storage(url, workspace.root)
    assert isinstance(storage, optuna.storages.RDBStorage)
    study = open_study(storage, sweep, Config(), join=True)
    elsewhere = replace(workspace, root=workspace.root / "elsewhere")
    suspended, other = (
        Worker(place, sweep, study, storage, place.root / "locks")
        for place in (workspace, elsewhere)
    )
    claims = Claims(storage, study.study_name, sweep.heartbeat_s)
    trial = suspended.claim()
    assert trial
    assert (claims.take(0), claims.list_expired()) == (False, {0: False})

    def be_suspended(*_: object) -> JobEnd:
        """Meanwhile another worker claims the trial, trains it and says how it ended."""
        suspended._job = Job(pid=12345, run="exp1")
        assert other._claim_next() is None
        with storage.engine.begin() as connection:
            late = "UPDATE tracker_claims SET heartbeat = heartbeat - interval '61 s'"
            connection.exec_driver_sql(late)
        assert claims.list_expired() == {0: True}
        taken = other._claim_next()
        assert taken
        assert claims.list_expired() == {0: False}
        study.set_user_attr("taken", taken.number)
        return JobEnd(None, "failed", "reported by the worker that lost it")

    monkeypatch.setattr(suspended, "_train", be_suspended)
    suspended.run(trial)
    assert study.user_attrs["taken"] == 0
    assert study.trials[0].state == optuna.trial.TrialState.RUNNING
    assert study.trials[0].user_attrs["place"][1] == str(workspace.root)

    stopped: list[str] = []
    with Heartbeat(
        Claims(storage, study.study_name, 0.02), 0, lambda: stopped.append("exp1")
    ) as it:
        it._thread.join(COMMAND_LIMIT_S)
    assert (stopped, it.lost) == (["exp1"], True)

    other.release()
    assert claims.take(0)
    storage.remove_session()
    storage.engine.dispose()


def test_the_best_trial_has_the_lowest_value_of_a_metric_that_is_better_low(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text('monitor = "val/price"\n[space]\noptim.lr = [0.1, 0.2]\n')
    sweep, storage = read_sweep(path), optuna.storages.InMemoryStorage()
    metrics = [Metric(name="price", higher_is_better=False)]
    study = open_study(storage, sweep, Config(), join=False, metrics=metrics)
    assert study.direction == optuna.study.StudyDirection.MINIMIZE
    with pytest.raises(RefusedError, match="took the lowest val/price for the best"):
        open_study(storage, sweep, Config(), join=True)


def test_pruner_and_sampler_are_those_of_the_file(tmp_path: Path) -> None:
    space = "[space]\noptim.lr = { low = 1e-5, high = 1 }"

    def read(text: str) -> Sweep:
        (tmp_path / "s.toml").write_text(text + space)
        return read_sweep(tmp_path / "s.toml")

    median = make_pruner(read("startup_trials = 0\nwarmup_epochs = 2\n"), Config())
    hyperband = make_pruner(read('pruner = "hyperband"\n'), Config())
    none = make_pruner(read('pruner = "none"\n'), Config())
    study = optuna.create_study(pruner=median)
    for worst in range(2):
        trial = study.ask()
        pruned = []
        for epoch in range(1, 5):
            trial.report(float(worst), epoch)
            pruned.append(trial.should_prune())
        study.tell(trial, float(worst))
    assert pruned == [False, False, True, True]
    assert (type(hyperband).__name__, type(none).__name__) == ("HyperbandPruner", "NopPruner")
    tpe, random = (make_sampler(read(f'sampler = "{name}"\n'), 0) for name in ("tpe", "random"))
    assert (type(tpe).__name__, type(random).__name__) == ("TPESampler", "RandomSampler")
    drawn = []
    for seed, number in ((0, 0), (0, 0), (0, 1), (1, 0)):
        study = optuna.create_study(sampler=make_sampler(read(f"seed = {seed}\n"), number))
        drawn.append(study.ask().suggest_float("x", 0, 1))
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3


def test_a_storage_out_of_reach_or_of_another_kind_is_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(TrackerError, match=r"cannot reach the storage of the sweep: .*refused"):
        open_storage("postgresql://u:secret@127.0.0.1:9/x", tmp_path)
    with pytest.raises(ConfigError, match=r"storage: expected postgresql\+psycopg://"):
        open_storage("sqlite:///x.db", tmp_path)


def test_a_process_that_comes_between_two_writes_of_another_finds_the_whole_base(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = optuna.create_study(storage=(storage := optuna.storages.InMemoryStorage()))
    write = study.set_user_attr

    def write_and_be_overtaken(key: str, value: object) -> None:
        write(key, value)
        _check_same(
            optuna.load_study(study_name=study.study_name, storage=storage), Config(), "sha256:d"
        )

    monkeypatch.setattr(study, "set_user_attr", write_and_be_overtaken)
    _check_same(study, Config(), "sha256:d")
    assert study.user_attrs["data"] == "sha256:d"


def test_a_sweep_that_an_earlier_version_began_goes_on(tmp_path: Path) -> None:
    study = optuna.create_study(storage=open_storage("", tmp_path))
    augment = {"augment.name": "/a/own.yaml", "augment.file_sha256": "ab"}
    older = {
        "data.label_fixes": "/a/fixes.csv",
        "train.devices": 2,
        "train.accelerator": "auto",
        **augment,
    }
    config = Config(augment=AugmentConfig(name="own.yaml", file_sha256="ab"))
    study.set_user_attr("data", "sha256:d")
    study.set_user_attr("base", {**outcome_values(config_to_dict(config)), **older})
    _check_same(study, config, "sha256:d")
    with pytest.raises(RefusedError, match=r"another base: optim\.lr"):
        _check_same(study, replace(config, optim=OptimConfig(lr=0.5)), "sha256:d")
