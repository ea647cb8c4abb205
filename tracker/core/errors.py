"""The errors of runs and of the ledger.

The whole tree, with the errors of training/errors.py and of single modules. Its root is called
TrackerError here and in all rooms of tracker: `except TrackerError` catches every one of them.

TrainingError                 exit 1   the root, TrackerError in tracker
  ConfigError                 exit 2   a wrong value in a config, a setting or an argument
    DataError                 exit 2   images, labels or ids that cannot be used
  MissingLibraryError         exit 2   a library that the command needs is not installed
  UnknownRunError             exit 2   no such run, submission or workspace
  RefusedError                exit 3   a submission that must not be sent
    AlreadyTrainedError       exit 3   a run has the same config, data and code
    DuplicateError            exit 3   these predictions were already submitted
  LedgerError                 exit 1   the ledger cannot be opened, is foreign, older or newer
  LeaderboardError            exit 1   a remote leaderboard cannot be reached or rejected a file
  TargetError                 exit 1   another tracker, which gets copies of runs, refused or failed
    TargetUnreachableError      exit 1   its server does not answer at all
    MlflowError               exit 1   MLflow refused something, or is not reachable
      MlflowUnreachableError  exit 1   no MLflow server answers
  NotSentError                exit 1   a message did not arrive at a webhook
  WeightsError                exit 1   weights or a checkpoint that cannot be read or do not fit
  NonFiniteLossError          exit 1   the loss became NaN or infinite
  StorageError                exit 1   a file or folder that cannot be read or written
  InterruptedByUserError      exit 130 Ctrl-C or SIGTERM
  PreemptedError              exit 130 a scheduler needs the machine; a job will go on
"""

from __future__ import annotations

from tracker.core.hints import find_hint
from tracker.training.errors import (
    ConfigError,
    DataError,
    MissingLibraryError,
    StorageError,
    TrainingError,
)

__all__ = [
    "AlreadyTrainedError",
    "ConfigError",
    "DataError",
    "DuplicateError",
    "InterruptedByUserError",
    "LedgerError",
    "MissingLibraryError",
    "RefusedError",
    "StorageError",
    "TrackerError",
    "UnknownRunError",
    "render_error",
]

# One class with two names. `training` cannot import this module, and `except` asks for the real
# base classes of an error, so a TrackerError above the errors of `training` is not possible.
TrackerError = TrainingError


def render_error(error: TrackerError) -> str:
    """The message of an error and, in parentheses, what to do next."""
    hint = find_hint(error)
    return f"{error} ({hint})" if hint else str(error)


class UnknownRunError(TrackerError):
    """A run, submission or workspace that does not exist."""

    exit_code = 2


class RefusedError(TrackerError):
    """A submission that must not be sent, or a repeated training; nothing is written."""

    exit_code = 3


class AlreadyTrainedError(RefusedError):
    """The run `run` already has this config, data and `third`: code, or weights of an inference.

    `message` says so in other words, of an ensemble.
    """

    def __init__(
        self, run: str, *, third: str = "code", again: str = "train it again", message: str = ""
    ) -> None:
        self.run = run
        hint = f"tracker show {run}, or --force to {again}"
        message = message or f"{run} already has this config, data and {third}"
        super().__init__(message, hint=hint)


class DuplicateError(RefusedError):
    """The predictions were submitted before, as submission `number`.

    `rejected`: the leaderboard did not take them.
    """

    def __init__(
        self, message: str, *, number: int, rejected: bool = False, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.number = number
        self.rejected = rejected


class InterruptedByUserError(TrackerError):
    """The user stopped the command. What was recorded stays; `hint` is the command that resumes."""

    exit_code = 130


class PreemptedError(TrackerError):
    """A scheduler needs the machine: last.pth is saved, and a job will go on with the run."""

    exit_code = 130


class LedgerError(TrackerError):
    """The ledger cannot be opened or used."""
