"""Settings from the environment, in one table; no other module reads the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tracker.training.errors import ConfigError


class Setting(NamedTuple):
    """An environment variable: name, default, and a sentence about it."""

    name: str
    default: str
    doc: str


SETTINGS = (
    Setting(
        "TRACKER_WORKSPACE", "", "Workspace to use instead of the one around the current folder."
    ),
    Setting(
        "TRACKER_AUTHOR",
        "",
        "Your name in runs and submissions; default: the name with which you joined a team, or the"
        " login name.",
    ),
    Setting(
        "TRACKER_LEDGER_URL",
        "",
        "Ledger URL; replaces the one in tracker.toml, so that no password is in that file.",
    ),
    Setting("TRACKER_MLFLOW_URI", "", "MLflow tracking URI; replaces the one in tracker.toml."),
    Setting(
        "TRACKER_SWEEP_URL",
        "",
        "PostgreSQL URL of sweeps; replaces the one in the sweep file, so that no password is in"
        " that file.",
    ),
    Setting(
        "TRACKER_AUTO_PRECISION",
        "",
        'What train.precision = "auto" stands for on a CPU, 32-true or bf16-mixed; default:'
        " measured where the processor has bfloat16 and the training is long.",
    ),
    Setting(
        "TRACKER_LEADERBOARD_WAIT_S",
        "600",
        "Seconds that submit waits for a score of Kaggle; tracker sync fetches later scores.",
    ),
    Setting(
        "TRACKER_MLFLOW_WAIT_S",
        "120",
        "Longest wait in seconds for MLflow's copy at the end of a run, while the copy makes"
        " progress.",
    ),
    Setting(
        "TRACKER_NOTIFY_URL",
        "",
        "Webhooks for messages (Slack, Discord, ntfy, JSON), with spaces between; no messages"
        " without.",
    ),
    Setting(
        "TRACKER_BOARD_PASSWORD",
        "",
        "Password of tracker board, for any user name; default: the one in the workspace's .env.",
    ),
    Setting(
        "TRACKER_BOARD_HOSTS",
        "",
        "Names under which browsers reach tracker board, beside localhost and the machine's own.",
    ),
)

_QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_ETAG_TIMEOUT": "5",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

# MLflow's own retries repeat a request whose answer was lost, and may create a run twice. So we
# switch them off: we look first, and repeat then.
_REQUESTS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


def get_setting(name: str) -> str:
    """The value of a setting in the table, or its default."""
    default = next(setting.default for setting in SETTINGS if setting.name == name)
    return os.environ.get(name, default)  # noqa: TID251


def get_seconds(name: str) -> float:
    """A setting in seconds; raises ConfigError unless it is a number of at least 0."""
    text = get_setting(name)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ConfigError(f"{name}={text}: expected seconds, as in {name}=60")
    return seconds


class HubLocations(NamedTuple):
    """Where timm finds weights: the hub's address and two caches.

    The address is empty where HF_HUB_OFFLINE forbids the hub.
    """

    address: str
    caches: tuple[Path, Path]


def find_hub_locations() -> HubLocations:
    """Read the variables of the hub's client and of torch as those libraries read them."""
    environment = os.environ  # noqa: TID251
    cache = Path(environment.get("XDG_CACHE_HOME") or "~/.cache")
    home = Path(environment.get("HF_HOME") or cache / "huggingface")
    old_cache = environment.get("HUGGINGFACE_HUB_CACHE")
    hub = environment.get("HF_HUB_CACHE") or old_cache or home / "hub"
    torch = Path(environment.get("TORCH_HOME") or cache / "torch") / "hub" / "checkpoints"
    address = environment.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"
    if environment.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        address = ""
    return HubLocations(address, (Path(hub).expanduser(), torch.expanduser()))


def get_author(in_team: str = "") -> str:
    """The name of the user: TRACKER_AUTHOR, the name in the team, or the login name."""
    if author := get_setting("TRACKER_AUTHOR").strip() or in_team:
        return author
    import getpass

    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # Windows has no pwd
        return "unknown"


def is_secondary_rank() -> bool:
    """Whether torchrun started this process with a rank above 0: such a process makes no run."""
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK", "0") != "0"  # noqa: TID251


def find_rank() -> tuple[int, str]:
    """The rank of this process in the group that a launcher started, and the variable that has it.

    RANK (torchrun, accelerate) is used if it is set. Otherwise the rank is above 0 if SLURM_PROCID
    (srun), LOCAL_RANK or NODE_RANK (Lightning) is; in a Slurm shell SLURM_PROCID is 0. A process
    that was started by one of the group has the same rank.
    """
    names = ["RANK"] if _get_number("RANK") is not None else ["SLURM_PROCID", "LOCAL_RANK"]
    if "LOCAL_RANK" in names and _get_number("LOCAL_RANK") is not None:
        names.append("NODE_RANK")
    ranks = [(_get_number(name) or 0, name) for name in names]
    return next(((rank, name) for rank, name in ranks if rank > 0), (0, ""))


def find_job() -> str:
    """The number of the scheduler's job that this process is in, with its place in an array."""
    get = os.environ.get  # noqa: TID251
    if (array := get("SLURM_ARRAY_JOB_ID")) and (task := get("SLURM_ARRAY_TASK_ID")):
        return f"{array}_{task}"
    return get("SLURM_JOB_ID") or get("SUBMITIT_LOCAL_JOB_ID") or ""


def find_cluster() -> str:
    """The name of the Slurm cluster whose job this process is in; empty outside of jobs."""
    return os.environ.get("SLURM_CLUSTER_NAME", "")  # noqa: TID251


def use_save_signal() -> None:
    """Let submitit, here and in processes that we start, use SIGUSR1 where it would use SIGUSR2."""
    os.environ["SUBMITIT_PREEMPT_SIGNAL"] = "USR1"  # noqa: TID251
    os.environ["PYTHONSAFEPATH"] = "1"  # noqa: TID251  (no imports from the current folder)


def find_launch() -> tuple[str, int]:
    """The group that torchrun started, and how often it was restarted; empty without torchrun.

    Its id is `--rdzv-id`, or none: then the agent, our parent process, stands for the group.
    """
    launch = os.environ.get("TORCHELASTIC_RUN_ID", "")  # noqa: TID251
    if launch in ("", "none"):
        launch = f"agent {_describe_parent()}" if launch else ""
    return launch, _get_number("TORCHELASTIC_RESTART_COUNT") or 0


def _describe_parent() -> str:
    """The parent process and when it started: numbers of processes are used again."""
    import psutil

    with suppress(psutil.Error):
        return f"{os.getppid()} {psutil.Process(os.getppid()).create_time():.2f}"
    return str(os.getppid())


def _get_number(name: str) -> int | None:
    try:
        return int(os.environ.get(name, ""))  # noqa: TID251
    except ValueError:
        return None


def get_columns() -> int | None:
    """The terminal width from an exported COLUMNS, None without one."""
    columns = _get_number("COLUMNS")
    return columns if columns is not None and columns > 0 else None


def allows_color() -> bool:
    """Whether colors are allowed: NO_COLOR (no-color.org) and TERM=dumb forbid them."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"  # noqa: TID251


def has_cursor() -> bool:
    """Whether a terminal can write anywhere on its screen: TERM=dumb says that it cannot."""
    return os.environ.get("TERM") != "dumb"  # noqa: TID251


def extend_environment(values: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with `values` added, for a process that we start."""
    return {**os.environ, **values}  # noqa: TID251


def quiet_libraries() -> None:
    """Switch off telemetry and update checks of libraries, here and in processes that we start."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)  # noqa: TID251


def use_one_thread() -> None:
    """Let numpy, which is not yet loaded, multiply in one thread; only in our own short commands.

    The products of a comparison are small: two threads wait for each other twice as long as they
    compute (bench/compare_stats.py).
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # noqa: TID251


def limit_requests() -> None:
    """Let MLflow's client send each request once, with a time limit; only in our own processes."""
    for name, value in _REQUESTS.items():
        os.environ.setdefault(name, value)  # noqa: TID251
