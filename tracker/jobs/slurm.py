"""Trainings and sweeps as jobs of Slurm, by submitit: `tracker run train --slurm`.

A run exists before its job, as `pending`, and the job resumes it. Before a job loses its machine it
gets SIGUSR1: the training saves last.pth within its epoch, is `preempted`, and the job goes back
into the queue. The executor `local` runs the same jobs on this machine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tracker.core.clock import utc_now
from tracker.core.errors import TrackerError
from tracker.core.settings import use_save_signal
from tracker.jobs.slurm_job import SweepJob, TrainJob
from tracker.jobs.slurm_state import JOB_NAME, SubmittedJob
from tracker.run_folder.output import OUTPUT_NAME
from tracker.run_folder.recorder import settle_waiting
from tracker.training.config import Config, TrainConfig
from tracker.training.errors import ConfigError
from tracker.training.files import translate_os_errors, write_json
from tracker.training.libraries import require
from tracker.workspace.slurm_options import LOCAL, SlurmOptions
from tracker.workspace.tracker_toml import Workspace

TIMEOUTS = 1000  # a training goes on in a new job as often as the time limit ends one
LOADERS = 4  # loader processes of data.workers = -1


def check_job(options: SlurmOptions, train: TrainConfig) -> None:
    """Raise ConfigError, or MissingLibraryError, where no job can be submitted."""
    import shutil

    require("submitit")
    if train.num_nodes > 1:
        raise ConfigError(
            "train.num_nodes: a job of --slurm has one machine",
            hint="train.devices = 8 uses its GPUs; for more, torchrun in a batch script",
        )
    if not hasattr(os, "fork"):
        raise ConfigError("--slurm needs Linux", hint="submit from a machine of the cluster")
    if options.executor == "slurm" and not shutil.which("sbatch"):
        raise ConfigError(
            "no sbatch here: this machine belongs to no Slurm cluster",
            hint="log in to the cluster, or try it here with --slurm-set executor=local",
        )


def submit_run(
    workspace: Workspace, name: str, config: Config, options: SlurmOptions
) -> SubmittedJob:
    """Submit the job of a run that waits; if that fails the run is `failed`, and may be resumed.

    Raises TrackerError.
    """
    (workspace.runs_dir / name / OUTPUT_NAME).touch()  # what `tracker logs` follows
    job = TrainJob(root=str(workspace.root), run=name)
    try:
        (number,) = _submit(workspace, [job], options, config.train, title=f"tracker-{name}")
    except TrackerError as error:
        settle_waiting(workspace.runs_dir, name, "failed", error=str(error))
        raise
    submitted = SubmittedJob(executor=options.executor, number=number, submitted=utc_now())
    write_json(workspace.runs_dir / name / JOB_NAME, asdict(submitted))
    return submitted


def submit_sweep(
    workspace: Workspace, file: Path, workers: int, config: Config, options: SlurmOptions
) -> list[SubmittedJob]:
    """Submit the workers of a sweep as one array of jobs; raises TrackerError."""
    jobs = [SweepJob(root=str(workspace.root), file=str(file.resolve())) for _ in range(workers)]
    numbers = _submit(workspace, jobs, options, config.train, title=f"tracker-{file.stem}")
    now = utc_now()
    return [
        SubmittedJob(executor=options.executor, number=number, submitted=now) for number in numbers
    ]


def _submit(
    workspace: Workspace,
    jobs: Sequence[TrainJob | SweepJob],
    options: SlurmOptions,
    train: TrainConfig,
    *,
    title: str,
) -> list[str]:
    """Submit jobs and return their numbers: one array, where there are several."""
    use_save_signal()
    folder = workspace.state_dir / "slurm"
    with translate_os_errors(folder, "write"):
        folder.mkdir(parents=True, exist_ok=True)
    gpus = options.gpus
    if gpus < 0:
        gpus = 0 if train.accelerator == "cpu" else train.devices
    if options.executor == LOCAL:
        return _submit_here(folder, jobs, options, gpus)
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        executor = SlurmExecutor(folder, max_num_timeout=TIMEOUTS)
        executor.update_parameters(
            **_describe_job(options, train, gpus), job_name=title, array_parallelism=len(jobs)
        )
        return _list_numbers(executor, jobs)
    except (FailedJobError, FailedSubmissionError, RuntimeError, OSError) as error:
        raise TrackerError(
            f"Slurm did not take the job: {_last_line(error)}",
            hint="section [slurm] of tracker.toml, or --slurm-set: partition, account, time, gpus",
        ) from error


def _list_numbers(executor: Any, jobs: Sequence[TrainJob | SweepJob]) -> list[str]:
    with executor.batch():
        submitted = [executor.submit(job) for job in jobs]
    return [str(job.job_id) for job in submitted]


def _describe_job(options: SlurmOptions, train: TrainConfig, gpus: int) -> dict[str, Any]:
    """The parameters of submitit's SlurmExecutor; what is not set is left to the cluster."""
    others: dict[str, Any] = {"requeue": True, "signal": f"USR1@{options.warning_s}"}
    for text in options.options:
        name, sign, value = text.strip().lstrip("-").partition("=")
        others[name] = value if sign else True
    cpus = options.cpus or train.devices * (LOADERS + 1)
    named = {"partition": options.partition, "account": options.account, "qos": options.qos}
    return {
        **{name: value for name, value in named.items() if value},
        **({"gpus_per_node": gpus} if gpus else {}),
        **({"mem": f"{options.mem_gb}GB"} if options.mem_gb else {}),
        "time": options.time,
        "nodes": 1,
        "ntasks_per_node": 1,
        "cpus_per_task": cpus,
        "signal_delay_s": options.warning_s,
        "setup": [*options.setup, "export SUBMITIT_PREEMPT_SIGNAL=USR1 PYTHONSAFEPATH=1"],
        "additional_parameters": others,
    }


def _submit_here(
    folder: Path, jobs: Sequence[TrainJob | SweepJob], options: SlurmOptions, gpus: int
) -> list[str]:
    """Start jobs on this machine, in a session of their own: the terminal may close.

    submitit starts them as children that keep the terminal, so a fork of this process does it.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _start_and_leave(folder, jobs, options, gpus, write)
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    found = json.loads(answer or "{}")
    if "numbers" not in found:
        raise TrackerError(f"the job did not start: {found.get('problem', 'its process died')}")
    return [str(number) for number in found["numbers"]]


def _start_and_leave(
    folder: Path,
    jobs: Sequence[TrainJob | SweepJob],
    options: SlurmOptions,
    gpus: int,
    answer: int,
) -> None:
    """In the fork: start the jobs, write their numbers to `answer`, and end this process."""
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)
        from submitit import LocalExecutor

        executor = LocalExecutor(folder, max_num_timeout=TIMEOUTS)
        executor.update_parameters(
            timeout_min=options.time,
            gpus_per_node=gpus,
            signal_delay_s=options.warning_s,
            setup=list(options.setup),
        )
        found: dict[str, Any] = {"numbers": _list_numbers(executor, jobs)}
    except Exception as error:  # noqa: BLE001  (this process has no other way to tell)
        found = {"problem": f"{type(error).__name__}: {error}"}
    with suppress(OSError):
        os.write(answer, json.dumps(found).encode())
    os._exit(0)


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1]
