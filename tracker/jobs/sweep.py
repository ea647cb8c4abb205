"""A sweep: Optuna proposes values of config keys, and every trial is a run in its own process.

All trials of a study are in its storage from the beginning, and workers claim them there: many
workers on many machines make exactly that number. A trial belongs to the worker that has its lock.
When that worker has died, the next worker of the same workspace continues its run. On PostgreSQL
the worker has a claim as well (claims.py), and when that has expired, a worker of any workspace
trains the trial. The values of a trial depend on (seed, its number) and not on the worker.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState

from tracker.comparison.comparable import explain_key
from tracker.core.errors import InterruptedByUserError, RefusedError, TrackerError
from tracker.core.locks import FileLock
from tracker.core.settings import find_cluster
from tracker.core.signals import terminate_as_interrupt
from tracker.jobs.background import POLL_S, Child
from tracker.jobs.claims import Claims, Heartbeat
from tracker.jobs.job import (
    Job,
    JobCallbacks,
    JobEnd,
    describe_problem,
    find_equal_run,
    log,
    run_training,
    stop_training,
)
from tracker.jobs.queue import claim_folder
from tracker.jobs.stop import stop_run
from tracker.jobs.sweep_file import Sweep, find_team_storage, read_sweep
from tracker.jobs.sweep_storage import open_storage, translate_storage_errors
from tracker.run_folder.points import read_new_points
from tracker.run_folder.read import list_runs, load_config
from tracker.training.config import TABLE_KEYS, Config, config_to_dict, list_options
from tracker.training.config_fingerprint import name_files, outcome_values
from tracker.training.errors import ConfigError
from tracker.training.libraries import TRAINING, require
from tracker.training.machine import host_name
from tracker.training.numbers import render_digits, render_float
from tracker.training.targets import check_config
from tracker.workspace.data import prepare_data
from tracker.workspace.metrics import higher_is_better
from tracker.workspace.tracker_toml import Metric, Workspace

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

LOST = "another worker has the trial: this one gave no sign of life for two heartbeats"
LOOK_S = 2.0  # between two looks at the trials of other workers
BEGIN_S = 30.0  # creating a study takes less, unless the process that does it has died


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """A trial: its run, Optuna's name for its state, the monitored value of its best epoch."""

    number: int
    run: str | None
    host: str
    state: str
    value: float | None
    values: Mapping[str, Any]
    reason: str


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """The results of a study so far; `best` is the number of a trial."""

    study: str
    monitor: str
    trials: tuple[TrialResult, ...]
    best: int | None

    @property
    def failed(self) -> bool:
        """Whether all trials have ended and none is complete."""
        unfinished = [trial for trial in self.trials if trial.state in ("waiting", "running")]
        return self.best is None and not unfinished

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def find_next_seed(workspace: Workspace, sweep: SweepResult) -> int | None:
    """A train.seed that no run here has with the best trial's other keys: one more than any run's.

    None without a best trial, and where its run is not here.
    """
    best = next((trial for trial in sweep.trials if trial.number == sweep.best), None)
    here = {record.name for record in list_runs(workspace.runs_dir)}
    if best is None or best.run not in here:
        return None
    seeds = [Config().train.seed]
    for name in here:
        with suppress(TrackerError, KeyError, TypeError, ValueError):  # a loop of one's own
            seeds.append(int(load_config(workspace.runs_dir, name)["train"]["seed"]))
    return max(seeds) + 1


def run_sweep(workspace: Workspace, file: Path, *, join: bool = False) -> SweepResult:
    """Train trials until none is left to claim; with `join` other processes may do so, too.

    Raises ConfigError for a wrong file, DataError, RefusedError when another process works on it or
    the study has another config or other data, TrackerError when the storage fails, and
    InterruptedByUserError.
    """
    sweep, config = _resolve_sweep(workspace, file)
    data = _check_data(workspace, config)
    with (
        claim_folder(workspace, file, "sweeps", alone=not join) as folder,
        terminate_as_interrupt(),
        translate_storage_errors(),
    ):
        storage = open_storage(sweep.storage, folder)
        metrics = workspace.competition.metrics
        study = open_study(storage, sweep, config, join=join, metrics=metrics)
        _check_same(study, config, data)
        worker = Worker(workspace, sweep, study, storage, folder)
        try:
            while trial := worker.claim():
                worker.run(trial)
        except KeyboardInterrupt:
            hint = f"tracker run sweep {shlex.quote(str(file))}"
            raise InterruptedByUserError("the sweep was interrupted", hint=hint) from None
        finally:
            worker.release()
        return _collect(study, worker.monitor)


def prepare_sweep(workspace: Workspace, file: Path, *, shared: bool) -> Config:
    """Make the study and its trials for workers that join it; the config of their base.

    Raises like `run_sweep`, and ConfigError for a study in a file that workers on other machines
    are to share.
    """
    sweep, config = _resolve_sweep(workspace, file)
    if shared and not sweep.storage:
        raise ConfigError(
            f"{file}: workers on several machines need a storage",
            hint='storage = "team", or "postgresql+psycopg://..." (Sweeps in docs/training.md)',
        )
    data = _check_data(workspace, config)
    with (
        claim_folder(workspace, file, "sweeps", alone=False) as folder,
        translate_storage_errors(),
    ):
        storage, metrics = open_storage(sweep.storage, folder), workspace.competition.metrics
        study = open_study(storage, sweep, config, join=False, metrics=metrics)
        _check_same(study, config, data)
    return config


def _resolve_sweep(workspace: Workspace, file: Path) -> tuple[Sweep, Config]:
    """A sweep file and the config of its base, whose trials can be compared."""
    sweep = find_team_storage(read_sweep(file), workspace)
    require(*TRAINING, *(["psycopg"] if sweep.storage else []))
    config = sweep.base.resolve(workspace)
    # Trials are compared by one metric: no key may change what it means.
    monitor = sweep.monitor or config.train.monitor
    reasons = [explain_key(dimension.name, monitor) for dimension in sweep.space]
    if problems := [reason for reason in reasons if reason]:
        raise ConfigError(f"the trials of {file} cannot be compared:", problems=problems)
    return sweep, config


def _check_data(workspace: Workspace, config: Config) -> str:
    """The fingerprint of the data that all trials train with."""
    task, data = prepare_data(workspace, config)
    check_config(config, task)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return data.fingerprint


# --- The study ---


def open_study(
    storage: BaseStorage,
    sweep: Sweep,
    config: Config,
    *,
    join: bool,
    metrics: Sequence[Metric] = (),
) -> optuna.Study:
    """The study and its trials: created by the first call, enlarged by one without `join`.

    `metrics` are the competition's: they say which way is better. Raises RefusedError for a study
    that takes the worse values for the better ones, as earlier versions made it.
    """
    monitor = sweep.monitor or config.train.monitor
    is_high = higher_is_better(metrics, monitor)
    direction = StudyDirection.MAXIMIZE if is_high else StudyDirection.MINIMIZE
    try:
        study = optuna.create_study(
            study_name=sweep.study,
            storage=storage,
            direction=direction,
            pruner=make_pruner(sweep, config),
        )
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(
            study_name=sweep.study, storage=storage, pruner=make_pruner(sweep, config)
        )
        if study.direction != direction:
            worst = "lowest" if is_high else "highest"
            raise RefusedError(
                f"this sweep was started when tracker took the {worst} {monitor} for the best",
                hint="change the sweep file (for example its seed) to start a new sweep",
            ) from None
        if join:
            _wait_until_ready(study)
            return study
    study.set_user_attr("monitor", monitor)
    study.set_user_attr("heartbeat_s", sweep.heartbeat_s)
    # Put the missing trials into the storage; the first ones have given values.
    for number in range(len(study.get_trials(deepcopy=False)), sweep.trials):
        study.enqueue_trial(dict(sweep.first[number]) if number < len(sweep.first) else {})
    study.set_user_attr("ready", True)
    return study


def _wait_until_ready(study: optuna.Study) -> None:
    deadline = time.monotonic() + BEGIN_S
    while not study.user_attrs.get("ready"):
        if time.monotonic() > deadline:
            raise TrackerError(
                "the process that started this sweep has died", hint="run it once without --join"
            )
        time.sleep(POLL_S)


def make_pruner(sweep: Sweep, config: Config) -> BasePruner:
    """The pruner of the file, which ends bad trials early."""
    if sweep.pruner == "median":
        # Optuna counts steps from 0, we count epochs from 1.
        warmup_steps = sweep.warmup_epochs + 1
        return optuna.pruners.MedianPruner(
            n_startup_trials=sweep.startup_trials, n_warmup_steps=warmup_steps
        )
    if sweep.pruner == "hyperband":
        epochs = config.train.epochs
        return optuna.pruners.HyperbandPruner(
            min_resource=max(1, sweep.warmup_epochs), max_resource=epochs
        )
    return optuna.pruners.NopPruner()


def make_sampler(sweep: Sweep, number: int) -> BaseSampler:
    """The sampler for the trial with this number."""
    # A prime: sweeps with neighboring seeds share no trial seeds.
    seed = sweep.seed * 1_000_003 + number
    if sweep.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(
        seed=seed, n_startup_trials=sweep.startup_trials, constant_liar=True
    )


def _check_same(study: optuna.Study, config: Config, data: str) -> None:
    """Raise RefusedError unless the study has this config and data.

    Otherwise its trials could not be compared.
    """
    outcome = outcome_values(config_to_dict(config))
    # The data fingerprint covers the tables.
    values = {key: value for key, value in outcome.items() if key not in TABLE_KEYS}
    if "base" not in study.user_attrs:
        # The data first: another process that finds the base must find the data, too.
        study.set_user_attr("data", data)
        study.set_user_attr("base", values)
    # An earlier version saved more keys, and files with their folders.
    without_effect = {
        key for key, option in list_options().items() if not option.metadata["outcome"]
    }
    saved = study.user_attrs["base"]
    base = name_files({key: value for key, value in saved.items() if key not in without_effect})
    for key in TABLE_KEYS:
        base.pop(key, None)
    changed = sorted(key for key in {*base, *values} if base.get(key) != values.get(key))
    if study.user_attrs["data"] != data:
        changed.append("the data")
    if changed:
        raise RefusedError(
            f"this sweep was started with another base: {', '.join(changed)}",
            hint="restore it, or change the sweep file (for example its seed) to start a new sweep",
        )


# --- Trials ---


class Worker:
    """Claims trials, one at a time, and trains them."""

    def __init__(
        self,
        workspace: Workspace,
        sweep: Sweep,
        study: optuna.Study,
        storage: BaseStorage,
        folder: Path,
    ) -> None:
        self.monitor: str = study.user_attrs["monitor"]
        self._workspace = workspace
        self._sweep = sweep
        self._study = study
        self._storage = storage
        self._folder = folder
        # A job that comes back may be on another machine of the cluster.
        self._place = [find_cluster() or host_name(), str(workspace.root)]
        # The place of a trial whose worker died while claiming it; unknown in a shared storage.
        self._default_place = None if sweep.storage else self._place
        self._lock: FileLock | None = None
        self._claims: Claims | None = None
        if isinstance(storage, optuna.storages.RDBStorage):
            # All workers of a study agree on when a claim has expired.
            heartbeat_s = study.user_attrs.get("heartbeat_s", sweep.heartbeat_s)
            self._claims = Claims(storage, study.study_name, heartbeat_s)
        self._number: int | None = None
        self._job = Job()

    def claim(self) -> FrozenTrial | None:
        """A trial whose worker has died, or the next waiting one; None when there is none left.

        Waits while other machines train: one of them may die.
        """
        self.release()
        reported = 0
        while (trial := self._claim_next()) is None:
            claims = self._claims.list_expired() if self._claims else {}
            states = (TrialState.RUNNING, TrialState.WAITING)
            unfinished = self._study.get_trials(deepcopy=False, states=states)
            others = [trial for trial in unfinished if trial.number in claims]
            if not self._claims or not others:
                return None
            if len(others) != reported:
                reported = len(others)
                log(f"waiting for other workers: {reported} of {len(self._study.trials)} trials")
            time.sleep(min(LOOK_S, self._claims.interval_s / 2))
        return trial

    def _claim_next(self) -> FrozenTrial | None:
        expired = self._claims.list_expired() if self._claims else {}
        for state in (TrialState.RUNNING, TrialState.WAITING):
            for trial in self._study.get_trials(deepcopy=False, states=(state,)):
                if state == TrialState.RUNNING and not (
                    self._is_from_here(trial) or expired.get(trial.number)
                ):
                    continue
                lock = FileLock(
                    self._folder / f"trial-{self._study.study_name}-{trial.number}.lock"
                )
                if not lock.acquire(wait=False):
                    continue
                if self._take(trial, state):
                    self._lock, self._number = lock, trial.number
                    return trial
                lock.release()
        return None

    def _is_from_here(self, trial: FrozenTrial) -> bool:
        return bool(trial.user_attrs.get("place", self._default_place) == self._place)

    def _take(self, trial: FrozenTrial, state: TrialState) -> bool:
        """Whether a trial whose lock we hold is ours; the storage decides between machines."""
        # Its worker in this workspace had the lock, and has died.
        force = state == TrialState.RUNNING and self._is_from_here(trial)
        if self._claims and not self._claims.take(trial.number, force=force):
            return False
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            id_ = self._find_id(trial)
            if state == TrialState.RUNNING:
                return self._storage.get_trial(id_).state == TrialState.RUNNING
            return self._storage.set_trial_state_values(id_, TrialState.RUNNING)
        return False

    def _find_id(self, trial: FrozenTrial) -> int:
        study = self._storage.get_study_id_from_name(self._study.study_name)
        return self._storage.get_trial_id_from_study_id_trial_number(study, trial.number)

    def release(self) -> None:
        """Release the claimed trial."""
        if self._claims and self._number is not None:
            self._claims.give_back(self._number)
        self._number = None
        if self._lock:
            self._lock.release()
            self._lock = None

    def run(self, trial: FrozenTrial) -> None:
        """Train a trial and report its end to Optuna.

        Raises KeyboardInterrupt, after which the trial can be claimed again.
        """
        self._study.sampler = make_sampler(self._sweep, trial.number)
        handle = optuna.trial.Trial(self._study, self._find_id(trial))
        self._job = Job()
        if self._is_from_here(trial):
            self._job = Job(**handle.user_attrs.get("job", {}))
        elif "job" in handle.user_attrs:
            # The process and the run of another workspace.
            handle.set_user_attr("job", {})
        handle.set_user_attr("place", self._place)
        with self._keep(trial.number) as heartbeat:
            try:
                end = self._train(handle, heartbeat, max(trial.intermediate_values, default=0))
            except TrackerError as error:
                end = JobEnd(None, "failed", describe_problem(error))
            if heartbeat and not heartbeat.check():
                log(f"trial {trial.number}: {LOST}")
                return
            self._report_end(handle, end)

    def _keep(self, number: int) -> Heartbeat | nullcontext[None]:
        """A block in which the claim of a trial is renewed, where there are claims."""

        def stop() -> None:
            if self._job.pid:
                child = Child(self._workspace, self._job.pid, self._job.started)
                stop_training(self._workspace, child, self._job.run, LOST)

        return Heartbeat(self._claims, number, stop) if self._claims else nullcontext()

    def _save_job(self, handle: optuna.trial.Trial, heartbeat: Heartbeat | None, job: Job) -> None:
        """Raises TrackerError when another worker has the trial."""
        self._job = job
        if heartbeat and heartbeat.lost:
            raise TrackerError(LOST)
        if heartbeat:
            heartbeat.end_with_worker(job.pid)
        handle.set_user_attr("job", asdict(job))

    def _train(
        self, handle: optuna.trial.Trial, heartbeat: Heartbeat | None, reported: int
    ) -> JobEnd:
        job = self._job
        if heartbeat and job.pid and Child(self._workspace, job.pid, job.started).is_alive():
            heartbeat.end_with_worker(job.pid)
        suggested = {dimension.name: dimension.suggest(handle) for dimension in self._sweep.space}
        values = ", ".join(f"{name} {_render(value)}" for name, value in suggested.items())
        base = self._sweep.base
        assignments = [d.render(suggested[d.name]) for d in self._sweep.space]
        training = replace(
            base,
            assignments=(*base.assignments, *assignments),
            note=f"{base.note}: {values}" if base.note else values,
            facts={"sweep": self._study.study_name, "trial": handle.number},
        )
        log(f"trial {handle.number}: {values}")
        config = training.resolve(self._workspace)
        pruner = _Pruner(self._workspace, handle, self.monitor, config.train.epochs, reported)
        if not job.pid and not base.force and (same := find_equal_run(self._workspace, config)):
            pruner.catch_up(same.name)
            return JobEnd(same, "finished", f"{same.name} has the same config, data and code")
        callbacks = JobCallbacks(
            save_job=lambda job: self._save_job(handle, heartbeat, job), on_output=pruner.follow
        )
        return run_training(self._workspace, training, job, callbacks)

    def _report_end(self, handle: optuna.trial.Trial, end: JobEnd) -> None:
        state, value, reason = self._to_optuna(end)
        handle.set_user_attr("run", end.run.name if end.run else "")
        handle.set_user_attr("reason", reason)
        self._study.tell(handle.number, value, state=state)
        figure = "" if value is None else f", {self.monitor} {render_float(value)}"
        explanation = f": {reason}" if reason else ""
        log(f"trial {handle.number} {state.name.lower()}{figure}{explanation}")

    def _to_optuna(self, end: JobEnd) -> tuple[TrialState, float | None, str]:
        if end.run and end.status != "finished" and end.run.facts.get("pruned"):
            return TrialState.PRUNED, None, end.reason
        value = end.run.summary.get(self.monitor) if end.run else None
        if end.status == "finished" and value is not None:
            return TrialState.COMPLETE, value, end.reason
        return TrialState.FAIL, None, end.reason or f"{self.monitor} is not a number"


class _Pruner:
    """Reports a run's epochs to Optuna, and ends the run when Optuna's pruner says so."""

    def __init__(
        self,
        workspace: Workspace,
        handle: optuna.trial.Trial,
        monitor: str,
        epochs: int,
        reported: int,
    ) -> None:
        self._workspace = workspace
        self._handle = handle
        self._monitor = monitor
        self._epochs = epochs
        self._offset = 0
        self._epoch = reported

    def follow(self, name: str, text: str) -> None:
        """Show the output of a run, and end the run when it should be pruned."""
        log(text.removesuffix("\n"))
        if any(epoch < self._epochs and self._handle.should_prune() for epoch in self.report(name)):
            reason = f"pruned by {self._handle.study.study_name} after epoch {self._epoch}"
            # An error means that it has ended by itself, or is slow to end and will be asked again.
            with suppress(TrackerError):
                stop_run(self._workspace, name, reason=reason, facts={"pruned": True})

    def catch_up(self, name: str) -> None:
        """Report all epochs of a run that has ended."""
        for _ in self.report(name):
            pass

    def report(self, name: str) -> Iterator[int]:
        """Report the monitored value of each new epoch to Optuna, then yield the epoch."""
        points = read_new_points(self._workspace.runs_dir / name / "metrics.jsonl", self._offset)
        for self._offset, point in points:
            if point and self._monitor in point["values"] and point["epoch"] > self._epoch:
                self._epoch = point["epoch"]
                self._handle.report(point["values"][self._monitor], self._epoch)
                yield self._epoch


def _render(value: Any) -> str:
    return render_digits(value, 4) if isinstance(value, float) else str(value)


# --- What came of it ---


def _collect(study: optuna.Study, monitor: str) -> SweepResult:
    results = []
    for trial in study.get_trials(deepcopy=False):
        attrs = trial.user_attrs
        results.append(
            TrialResult(
                number=trial.number,
                run=attrs.get("run") or attrs.get("job", {}).get("run") or None,
                host=attrs.get("place", [""])[0],
                state=trial.state.name.lower(),
                value=trial.value if trial.state == TrialState.COMPLETE else None,
                values=dict(trial.params),
                reason=attrs.get("reason", ""),
            )
        )
    done = any(result.state == "complete" for result in results)
    best = study.best_trial.number if done else None
    return SweepResult(study=study.study_name, monitor=monitor, trials=tuple(results), best=best)
