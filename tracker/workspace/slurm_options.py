"""What is asked of Slurm for a job: the section [slurm] of tracker.toml, and `--slurm-set`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tracker.training.reading import key, list_keys, read_keys, refuse
from tracker.training.tables import parse_toml_value

LOCAL = "local"  # submitit's name for jobs on this machine
EXECUTORS = ("slurm", LOCAL)
# As sbatch takes it: minutes, minutes:seconds, hours:minutes:seconds, days-hours and so on.
TIME = r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?"


def parse_minutes(raw: Any) -> int:
    """A time limit as sbatch takes it, in whole minutes, at least one; raises ValueError."""
    match = re.fullmatch(TIME, str(raw).strip()) if type(raw) in (int, str) else None
    if match is None:
        raise ValueError(raw)
    days, *rest = (None if part is None else int(part) for part in match.groups())
    numbers = [part for part in rest if part is not None]
    if days is not None:  # days-hours[:minutes[:seconds]]
        hours, minutes, seconds = [*numbers, 0, 0][:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:  # minutes[:seconds]
        hours, (minutes, seconds) = 0, [*numbers, 0][:2]
    total = ((days or 0) * 24 + hours) * 60 + minutes + (seconds > 0)
    if total < 1:
        raise ValueError(raw)
    return total


@dataclass(frozen=True, kw_only=True)
class SlurmOptions:
    """The section [slurm]: where a job runs, how long, and on what."""

    executor: str = key(
        "slurm",
        '"slurm", or "local": the same jobs on this machine at once, to try it without a cluster.',
        choices=EXECUTORS,
    )
    partition: str = key("", "Partition; empty: the cluster's default.")
    account: str = key("", "Account that is charged; empty: your default one.")
    qos: str = key("", "Quality of service; empty: the cluster's default.")
    time: int = key(
        240,
        "Time limit of a job, in minutes or as sbatch takes it (4:00:00, 1-12); a training that is"
        " not done by then goes on in the next job.",
        parse=parse_minutes,
        expected='minutes, or as in "4:00:00" or "1-12"',
    )
    gpus: int = key(
        -1, "GPUs of a job; -1: train.devices, and none for train.accelerator = cpu.", low=-1
    )
    cpus: int = key(0, "Cores of a job; 0: for the loaders and each process of the run.", low=0)
    mem_gb: int = key(0, "Memory of a job in GB; 0: the cluster's default.", low=0)
    warning_s: int = key(
        120, "Seconds before the time limit at which a training is told to save.", low=10
    )
    setup: tuple[str, ...] = key(
        (),
        'Shell lines before the training, as in ["module load cuda"].',
        expected="a list of lines",
    )
    options: tuple[str, ...] = key(
        (),
        'Other options of sbatch, as in ["constraint=a100", "exclusive"].',
        expected="a list of options",
    )


def change_options(options: SlurmOptions, texts: Sequence[str]) -> SlurmOptions:
    """The options with those of `--slurm-set key=value`; raises ConfigError with every problem."""
    problems: list[str] = []
    table: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign:
            problems.append(f"--slurm-set {text}: expected key=value, as in time=2:00:00")
            continue
        table[name.strip()] = parse_toml_value(value)
    values = read_keys(list_keys(SlurmOptions), table, problems, name="slurm")
    refuse(problems, "--slurm-set", hint="tracker.toml's section [slurm] has the same keys")
    return replace(options, **values)
