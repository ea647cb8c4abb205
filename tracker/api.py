"""A run recorded by somebody else's training loop: the same folder, fingerprints, MLflow copy and ledger index."""

from __future__ import annotations

import atexit
import builtins
import functools
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from tracker.errors import ConfigError, TrackerError, render_error
from tracker.jobs.output import notify
from tracker.metric_names import check_values, check_whole
from tracker.mirror import Mirror, describe_lag
from tracker.predictions import Answers, check_answers, load_answers, normalize_answer
from tracker.recorder import Recorder
from tracker.runs import RunRecord, check_utf8
from tracker.settings import find_rank
from tracker.system_metrics import SystemMetrics
from tracker.train import describe_error, index_run
from tracker.training.atomic import atomic_path, write_bytes
from tracker.training.config import config_fingerprint
from tracker.training.watch import is_loader_terminated, name_signal
from tracker.workspace import Workspace, find_workspace

NO_SECTION = "config"


def begin(
    config: Mapping[str, Any],
    *,
    note: str = "",
    parent: str | None = None,
    root: Path | None = None,
    follow: bool = True,
    kind: str = "train",
) -> ActiveRun:
    """See tracker.start_run; `kind` is one of those in README."""
    workspace = find_workspace(root)
    tables = to_tables(config)
    check_utf8("the config", json.dumps(tables, ensure_ascii=False))
    prints = {"config": config_fingerprint(tables), "data": None}
    recorder = Recorder.create(
        workspace.runs_dir, kind=kind, config=tables, parent=parent, note=note, fingerprints=prints
    )
    return ActiveRun(workspace, recorder, follow=follow)


def begin_in_group(config: Mapping[str, Any], *, rank: int | None, **options: Any) -> ActiveRun:
    """`begin` in the first process of a group; in the others a run that does nothing. See tracker.start_run."""
    variable = ""
    if rank is None:
        rank, variable = find_rank()
        distributed = getattr(sys.modules.get("torch"), "distributed", None)
        if distributed is not None and distributed.is_available() and distributed.is_initialized():
            rank, variable = distributed.get_rank(), ""
    if rank <= 0:
        return begin(config, **options)
    if variable == "SLURM_PROCID":  # tasks of srun may be a group, or each an experiment of its own
        notify(f"task {rank} of srun records nothing, task 0 does; start_run(..., rank=0) makes a run in each")
    return OtherProcess()


class ActiveRun:
    """A run while it is being made. Leaving the `with` block, or the script, ends it: finished, failed, interrupted."""

    def __init__(self, workspace: Workspace, recorder: Recorder, *, follow: bool) -> None:
        self._workspace = workspace
        self._recorder = recorder
        self._step = 0
        self._ended = False
        import tracker.ledger.append  # noqa: F401  (the script may be ending when the run ends: too late to import much)

        self._pid = os.getpid()
        self._error_before = getattr(sys, "last_value", None)
        _note_exits()
        atexit.register(self._end_with_script)
        self._system = ExitStack()
        if follow:
            self._system.enter_context(SystemMetrics(recorder))
        self._mirror = Mirror(workspace, recorder.record.name) if follow else None
        if self._mirror:
            self._mirror.start()

    @property
    def name(self) -> str:
        """`expN`."""
        return self._recorder.record.name

    @property
    def folder(self) -> Path:
        """The run folder; files put there that MLflow shows are listed in tracker/mlflow_log.py."""
        return self._recorder.folder

    def log(self, values: Mapping[str, float], *, step: int | None = None, epoch: int | None = None) -> None:
        """Put one point on disk before returning; without `step`, points are counted.

        Raises StorageError, and ConfigError for a name that is no text of 1 to 250 bytes without control characters, a
        value that is no number, or a step or epoch that is no whole number; nothing is written then, the run goes on.
        """
        plain = check_values(values)
        at = self._step + 1 if step is None else check_whole("step", step)
        during = self._recorder.record.epoch if epoch is None else check_whole("epoch", epoch)
        self._recorder.metrics(plain, step=at, epoch=during)
        self._step = at

    def save_best(self, weights: Any, *, epoch: int, metrics: Mapping[str, float]) -> None:
        """Keep these weights, a state dict or the path of a checkpoint, as best.pth, and the metrics of their epoch.

        Raises WeightsError when a checkpoint cannot be read with weights_only, ConfigError for metrics that `log`
        would refuse, StorageError.
        """
        from tracker.training.checkpoint import save_weights

        plain = check_values(metrics)
        fingerprint = save_weights(weights, self.folder / "best.pth")
        self._recorder.progress(epoch=epoch, best_epoch=epoch, summary=plain)
        self._recorder.fingerprint(weights=fingerprint)

    def save_predictions(self, answers: Mapping[str, Any] | Path | str) -> None:
        """Keep the predictions: {image id: answer}, or a CSV.

        Raises RefusedError or DataError when they could never be submitted.
        """
        competition, target = self._workspace.competition, self.folder / "predictions.csv"
        if isinstance(answers, Mapping):
            table = Answers.of({str(name): normalize_answer(str(answer)) for name, answer in answers.items()})
            header = f"{competition.id_column},{competition.label_column}\n".encode()
            content = header + table.canonical
        else:
            table = load_answers(Path(answers), competition)
            content = Path(answers).read_bytes()
        check_answers(table, competition, None)
        write_bytes(target, content)
        self.fingerprint_predictions()

    def fingerprint_predictions(self) -> None:
        """Keep the fingerprint of the predictions.csv that is in the folder; raises DataError or RefusedError."""
        table = load_answers(self.folder / "predictions.csv", self._workspace.competition)
        self._recorder.fingerprint(predictions=table.fingerprint)

    def keep_summary(self, metrics: Mapping[str, float]) -> None:
        """Keep the metrics that the run is compared by, for a run without epochs."""
        plain = check_values(metrics)
        self._recorder.progress(epoch=0, best_epoch=None, summary=plain)

    def keep_facts(self, values: Mapping[str, Any]) -> None:
        """Keep facts found while training, beside the config."""
        self._recorder.params({name: _to_toml(value) for name, value in values.items() if value is not None})

    def keep_file(self, path: Path) -> None:
        """Copy a file into the run folder."""
        with atomic_path(self.folder / path.name) as temporary:
            shutil.copyfile(path, temporary)

    def finish(self, status: str = "finished", *, error: str = "") -> RunRecord:
        """End the run; leaving the `with` block does it."""
        self._ended = True
        atexit.unregister(self._end_with_script)
        self._system.close()
        record = self._recorder.finish(status, error=error)
        index_run(self._workspace, record)
        if self._mirror and (problem := self._mirror.wait()):
            notify(problem)
        return record

    def __enter__(self) -> ActiveRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if self._ended:
            return
        if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
            self.finish()
        elif isinstance(error, KeyboardInterrupt):
            self.finish("interrupted", error=describe_error(error))
        elif is_loader_terminated(error):  # who ends all processes ended this one's loader first
            self.finish("interrupted", error=name_signal(signal.SIGTERM))
        else:
            self.finish("failed", error=describe_error(error))

    def _end_with_script(self) -> None:
        if os.getpid() != self._pid:  # a fork of the process that made the run
            return
        if hasattr(sys, "ps1") or sys.flags.interactive:  # Jupyter and the prompt go on after an error
            self._end(None)
            return
        error = getattr(sys, "last_value", None)  # what ended the script, whatever sys.excepthook did with it
        self._end(error if error is not self._error_before else _EXITS[-1] if _EXITS else None)


class OtherProcess(ActiveRun):
    """The run in a process of its group that is not the first: it writes nothing."""

    def __init__(self) -> None:
        self._scratch: Path | None = None

    @property
    def name(self) -> str:
        """Empty: only the first process knows."""
        return ""

    @property
    def folder(self) -> Path:
        """A folder that is deleted when the process ends."""
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="tracker-"))
            atexit.register(shutil.rmtree, self._scratch, ignore_errors=True)
        return self._scratch

    def log(self, values: Mapping[str, float], *, step: int | None = None, epoch: int | None = None) -> None:
        """Nothing."""

    def save_best(self, weights: Any, *, epoch: int, metrics: Mapping[str, float]) -> None:
        """Nothing."""

    def save_predictions(self, answers: Mapping[str, Any] | Path | str) -> None:
        """Nothing."""

    def fingerprint_predictions(self) -> None:
        """Nothing."""

    def keep_summary(self, metrics: Mapping[str, float]) -> None:
        """Nothing."""

    def keep_facts(self, values: Mapping[str, Any]) -> None:
        """Nothing."""

    def keep_file(self, path: Path) -> None:
        """Nothing."""

    def finish(self, status: str = "finished", *, error: str = "") -> RunRecord:
        """A record of no run."""
        return RunRecord(name="", uid="", status=status, error=error)

    def _end(self, error: BaseException | None) -> None:
        pass


_EXITS: list[SystemExit] = []  # what sys.exit was called with last


def _note_exits() -> None:
    """Keep the code of the last sys.exit, exit or quit: Python tells it to nobody while it ends."""

    if hasattr(sys, "ps1"):
        return

    def note(ending: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(ending, updated=())
        def noted(code: Any = None, /) -> Any:
            _EXITS[:] = [SystemExit(code)]
            return ending(code)

        return noted

    for module, name in ((sys, "exit"), (builtins, "exit"), (builtins, "quit")):
        ending = getattr(module, name, None)
        if ending is not None and not hasattr(ending, "__wrapped__"):
            setattr(module, name, note(ending))


def copy_to_mlflow(workspace: Workspace, name: str) -> str:
    """Bring MLflow's copy of a run up to date, once; returns the line that says what kept it back, or nothing."""
    from tracker.mlflow_log import sync_run

    try:
        sync_run(workspace, name)
    except TrackerError as error:
        return describe_lag(render_error(error))
    return ""


def to_tables(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A config of any nesting as sections of keys: deeper ones get dots, values without a section one of their own.

    What TOML cannot hold becomes text, None is left out. Raises ConfigError when two keys fall together.
    """
    tables: dict[str, dict[str, Any]] = {}
    for section, value in config.items():
        pairs = list(_flatten(value)) if isinstance(value, Mapping) else [(str(section), value)]
        table = tables.setdefault(str(section) if isinstance(value, Mapping) else NO_SECTION, {})
        for key, item in pairs:
            if key in table:
                raise ConfigError(f"two config keys are called {section}.{key}", hint="rename one of them")
            if item is not None:
                table[key] = _to_toml(item)
    return tables


def _flatten(table: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _to_toml(value: Any) -> Any:
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_to_toml(item) for item in value if item is not None]
    try:
        return _to_toml(value.item())  # a number of numpy or torch
    except (AttributeError, ValueError, RuntimeError, TrackerError):
        return str(value)
