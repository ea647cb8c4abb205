"""The errors of runs and of the ledger; the whole tree, with those of training/errors.py and of
single modules.

TrackerError                  exit 1
  ConfigError                 exit 2   a wrong value in a config, a setting or an argument
    DataError                 exit 2   images, labels or ids that cannot be used
  MissingLibraryError         exit 2   a library that the command needs is not installed
  UnknownRunError             exit 2   no such run, submission or workspace
  RefusedError                exit 3   a submission that must not be sent
    AlreadyTrainedError       exit 3   a run has the same config, data and code
    DuplicateError            exit 3   these predictions were already submitted
  LedgerError                 exit 1   the ledger cannot be opened, or is not ours, or is newer
  LeaderboardError            exit 1   a leaderboard elsewhere cannot be reached or did not take a
  file
  TargetError                 exit 1   a tracker that runs are copied to refused something, or could
  not be reached
    TargetUnreachableError    exit 1   its server does not answer at all
    MlflowError               exit 1   MLflow refused something, or could not be reached
      MlflowUnreachableError  exit 1   no MLflow server answers
  WeightsError                exit 1   weights or a checkpoint that cannot be read or do not fit
  NonFiniteLossError          exit 1   the loss became NaN or infinite
  StorageError                exit 1   a file or folder that cannot be read or written
  InterruptedByUserError      exit 130 Ctrl-C or SIGTERM
"""

from __future__ import annotations

from tracker.training.errors import (
    ConfigError,
    DataError,
    MissingLibraryError,
    StorageError,
    TrackerError,
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


def render_error(error: TrackerError) -> str:
    """An error in one line, its advice included."""
    return f"{error} ({error.hint})" if error.hint else str(error)


class UnknownRunError(TrackerError):
    """A run, submission or workspace that does not exist."""

    exit_code = 2


class RefusedError(TrackerError):
    """A submission that must not be sent, or work that was done before; nothing was written."""

    exit_code = 3


class AlreadyTrainedError(RefusedError):
    """The run `run` was trained with the same config, data and code."""

    def __init__(self, run: str) -> None:
        self.run = run
        hint = f"tracker show {run}, or --force to train it again"
        super().__init__(f"{run} was trained with the same config, data and code", hint=hint)


class DuplicateError(RefusedError):
    """The predictions were submitted before, as submission `number`."""

    def __init__(self, message: str, *, number: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.number = number


class InterruptedByUserError(TrackerError):
    """The command was stopped, which is no error; what was recorded stays, and `hint` is the
    command that goes on."""

    exit_code = 130


class LedgerError(TrackerError):
    """The ledger cannot be opened or used."""
