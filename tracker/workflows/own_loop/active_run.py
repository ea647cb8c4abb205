"""A run recorded by somebody else's training loop: the same folder, fingerprints, MLflow copy and
ledger index."""

from __future__ import annotations

import atexit
import builtins
import functools
import multiprocessing.util
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tracker.core.clock import utc_now
from tracker.core.metric_names import check_values, check_whole
from tracker.mirror.mirror import Mirror
from tracker.runs.output import notify
from tracker.runs.points import drop_system, finite, read_points
from tracker.runs.read import load_config
from tracker.runs.record import RunRecord
from tracker.runs.recorder import Recorder
from tracker.runs.stop_note import take_stop_note
from tracker.runs.summary import Summary, list_monitored
from tracker.runs.system_metrics import SystemMetrics
from tracker.training.config_fingerprint import config_fingerprint
from tracker.training.errors import ConfigError, WeightsError
from tracker.training.files import atomic_path, write_bytes
from tracker.training.metrics import METRICS
from tracker.training.numbers import render_float
from tracker.training.tables import flatten
from tracker.training.watch import is_loader_terminated
from tracker.workflows.ending import describe_error, index_run
from tracker.workflows.own_loop.checks import (
    check_evaluation,
    check_path,
    check_validation,
    copy_file,
    write_figure,
)
from tracker.workflows.own_loop.common_names import is_length
from tracker.workflows.own_loop.config_tables import to_tables, to_toml
from tracker.workflows.own_loop.termination import NAME, Termination, has_open
from tracker.workspace.competition import Workspace
from tracker.workspace.data import build_task, list_competition_ids
from tracker.workspace.metrics import higher_is_better
from tracker.workspace.predictions import Answers, check_answers, load_answers, normalize_answer

if TYPE_CHECKING:
    from tracker.training.predict.probabilities import Kept


FIGURES, FILES = "figures", "files"  # folders in a run folder

LAST = "last.pth"

FAR = 0.001  # between a validation score that was logged and that of the probabilities


@dataclass(frozen=True)
class _Chosen:
    """The metrics that the loop itself said the run is compared by, and their epoch; None where
    there are no epochs."""

    metrics: Mapping[str, float | None]
    epoch: int | None


class ActiveRun:
    """A run while it is being made. Leaving the `with` block, or the script, ends it: finished,
    failed, interrupted."""

    def __init__(
        self, workspace: Workspace, recorder: Recorder, *, follow: bool, quiet: bool = False
    ) -> None:
        self._workspace = workspace
        self._quiet = quiet
        self._recorder = recorder
        self._step, self._logged = 0, False
        self._summary = Summary(workspace.competition)
        self._chosen: _Chosen | None = None
        self._before: _Chosen | None = (
            None  # what save_best said before the run was resumed, until it is beaten
        )
        self._measured: dict[str, float] = {}  # by save_validation
        self._read_progress()
        recorder.summarize = self._summarize
        self.explain_resume: Callable[[], str] = (
            self._explain_resume
        )  # a logger or callback puts its own words here
        self._ended = False
        self._termination = Termination()
        import tracker.ledger.append  # noqa: F401  (the script may be ending when the run ends: too late to import much)

        self._pid = os.getpid()
        self._error_before = getattr(sys, "last_value", None)
        _note_exits()
        _hide_stops()
        atexit.register(self._end_with_script)
        if multiprocessing.parent_process() is not None:  # a forked process ends without atexit
            multiprocessing.util.Finalize(None, self._end_with_process, exitpriority=0)
        self._system = ExitStack()
        if follow:
            self._system.enter_context(SystemMetrics(recorder))
        self._mirror = Mirror(workspace, recorder.record.name) if follow else None
        if self._mirror:
            self._mirror.start()

    def __repr__(self) -> str:
        """`<run exp3, running, in runs/exp3>`."""
        return f"<run {self.name}, {self.status}, in {shorten(self.folder)}>"

    def _read_progress(self) -> None:
        """What was logged and saved before the run was resumed."""
        record = self._recorder.record
        for point in read_points(self.folder / "metrics.jsonl"):
            if own := drop_system(point["values"]):
                self._summary.add(own, epoch=point["epoch"])
                self._step, self._logged = point["step"], True
        if record.fingerprints.get("weights"):
            self._chosen = _Chosen(record.summary, record.best_epoch)
            self._before = self._chosen if (self.folder / "best.pth").is_file() else None
        if (self.folder / "validation.npz").is_file():
            from tracker.training.predict.probabilities import load_probabilities, measure

            self._measured = measure(load_probabilities(self.folder / "validation.npz"))

    def _summarize(self) -> dict[str, Any]:
        """What run.json says of the metrics so far."""
        record, logged = self._recorder.record, self._summary
        if self._chosen is None:
            best = logged.find_best_epoch()
            best_at = record.best_at if best == record.best_epoch else utc_now()
            found = self._complete(finite(logged.read()))
            return {"summary": found, "epoch": logged.epoch, "best_epoch": best, "best_at": best_at}
        chosen = {"summary": self._complete(self._read_chosen(self._chosen))}
        return (
            chosen
            if self._chosen.epoch is None
            else {**chosen, "epoch": max(record.epoch, logged.epoch)}
        )

    def _read_chosen(self, chosen: _Chosen) -> dict[str, float | None]:
        """What the loop said of its best epoch, with what else was logged in it."""
        logged = {} if chosen.epoch is None else self._summary.read_epoch(chosen.epoch)
        return {**finite(logged), **chosen.metrics}

    def _complete(self, metrics: Mapping[str, float | None]) -> dict[str, float | None]:
        """The metrics with what save_validation measured, unless the two contradict each other: of
        other weights."""
        return (
            dict(metrics) if self._find_contradictions(metrics) else {**self._measured, **metrics}
        )

    def _find_contradictions(self, metrics: Mapping[str, float | None]) -> dict[str, float]:
        """Of those that both have, the ones that save_validation measured otherwise, as the loop
        has them."""
        scores = [f"val/{name}" for name in METRICS]
        given = {
            name: value
            for name in scores
            if (value := metrics.get(name)) is not None and name in self._measured
        }
        return {
            name: value for name, value in given.items() if abs(value - self._measured[name]) > FAR
        }

    @property
    def name(self) -> str:
        """`expN`."""
        return self._recorder.record.name

    @property
    def folder(self) -> Path:
        """The run folder; `log_file` and `log_figure` put files there that MLflow shows, too."""
        return self._recorder.folder

    @property
    def status(self) -> str:
        """`running` until the run has ended, then finished, failed or interrupted."""
        return self._recorder.record.status

    @property
    def last_step(self) -> int:
        """The step of the last point, 0 before the first; a resumed run goes on from it."""
        return self._step

    @property
    def last_epoch(self) -> int:
        """The epoch of the last point, 0 before the first."""
        return self._summary.epoch

    @property
    def best(self) -> dict[str, float]:
        """The metrics that the run is compared by so far, also those of before a resume; empty
        before the first."""
        return {
            name: value for name, value in self._summarize()["summary"].items() if value is not None
        }

    def change_length(self, tables: Mapping[str, Mapping[str, Any]]) -> None:
        """Take what a whole config says of how long to train, epochs or steps, into that of a run
        that goes on."""
        config = load_config(self._workspace.runs_dir, self.name)
        before, given = flatten(config), flatten(tables)
        keys = [
            key
            for key in {**before, **given}
            if is_length(key) and before.get(key) != given.get(key)
        ]
        if not keys:
            return
        for key in keys:
            section, _, name = key.partition(".")
            table = config.setdefault(section, {})
            table.pop(name, None)
            if key in given:
                table[name] = given[key]
        self._recorder.change_config(config, config_fingerprint(config))
        told = [
            f"{key} is {given.get(key, 'not set')}, was {before.get(key, 'not set')}"
            for key in keys
        ]
        notify(f"{self.name}: {', '.join(told)}")

    def note_parent(self, name: str) -> None:
        """The run that this one was begun from, unless it has a parent."""
        if self._recorder.record.parent is None:
            self._recorder.describe(note="", parent=name)

    def add_config(self, config: Mapping[str, Any]) -> None:
        """Add keys to the config, until the first point is logged.

        Raises ConfigError for a key that has another value already, and for a new one when points
        were logged.
        """
        before, given = load_config(self._workspace.runs_dir, self.name), to_tables(config)
        old, new = flatten(before), flatten(given)
        refused = [
            key
            for key in new
            if (key in old and old[key] != new[key]) or (self._logged and key not in old)
        ]
        if refused:
            why = (
                "points were logged with the config as it is"
                if self._logged
                else "it has another value already"
            )
            raise ConfigError(
                f"{', '.join(refused[:5])} cannot be added to the config of {self.name}: {why}"
            )
        if new.keys() - old.keys():
            merged = {
                name: {**before.get(name, {}), **given.get(name, {})}
                for name in {**before, **given}
            }
            self._recorder.change_config(merged, config_fingerprint(merged))

    def log(
        self, values: Mapping[str, float], *, step: int | None = None, epoch: int | None = None
    ) -> None:
        """Put one point on disk before returning; without `step`, points are counted.

        Unless `save_best` says otherwise the run is compared by the best logged value of each
        metric (docs/own-training-loop.md says how the best epoch is found). Raises StorageError,
        and ConfigError for a name that is no text of 1 to 250 bytes without control characters, a
        value that is no number, or a step or epoch that is no whole number; nothing is written
        then, the run goes on.
        """
        plain = check_values(values)
        at = self._step + 1 if step is None else check_whole("step", step)
        during = self._summary.epoch if epoch is None else check_whole("epoch", epoch)
        self._recorder.metrics(plain, step=at, epoch=during)
        self._summary.add(plain, epoch=during)
        self._step, self._logged = at, True

    def log_figure(self, name: str, figure: Any) -> Path:
        """Keep a picture as figures/NAME in the run folder and in MLflow; a later one of the name
        takes its place.

        `figure` is one of matplotlib, an image of PIL, the path of a PNG or JPEG, or an array:
        [height, width],
        [height, width, channels] or [channels, height, width], bytes or floats between 0 and 1.
        `name` may have folders, as in val/confusion. Returns the file. Raises ConfigError for a
        name, DataError for anything else.
        """
        return write_figure(figure, self.folder / FIGURES / check_path(name))

    def log_file(self, path: Path | str, name: str = "") -> Path:
        """Keep a copy of a file as files/NAME in the run folder and in MLflow; without `name` under
        its own.

        Returns the copy. Raises ConfigError for a name, DataError when there is no such file,
        StorageError.
        """
        target = self.folder / FILES / check_path(name or Path(path).name)
        copy_file(Path(path), target)
        return target

    def save_best(
        self, weights: Any, *, epoch: int, metrics: Mapping[str, float], monitor: str = ""
    ) -> None:
        """Keep these weights, a state dict or the path of a checkpoint, as best.pth, and the
        metrics of their epoch.

        What else was logged in that epoch stays beside them. Call it when an epoch is better than
        all before. In a run that was resumed, what it had stays until an epoch is better by
        `monitor`, one of the `metrics` (without it the competition's, else val/f1, val/accuracy,
        val/loss, or the only one), and that is told. Raises WeightsError when a checkpoint cannot
        be read with weights_only, ConfigError for metrics that `log` would refuse, StorageError.
        """
        if monitor and monitor not in metrics:
            raise ConfigError(
                f"monitor is {monitor!r}, which is not among the metrics", hint=", ".join(metrics)
            )
        if not monitor:
            only = list(metrics) if len(metrics) == 1 else []
            monitor = next(
                (
                    name
                    for name in (*list_monitored(self._workspace.competition), *only)
                    if name in metrics
                ),
                "",
            )
        higher = higher_is_better(self._workspace.competition.metrics, monitor)
        self.save_better(weights, epoch=epoch, metrics=metrics, monitor=monitor, higher=higher)

    def save_better(
        self, weights: Any, *, epoch: int, metrics: Mapping[str, float], monitor: str, higher: bool
    ) -> None:
        """`save_best` for a library that says itself which way its metric is better."""
        old = self._before.metrics.get(monitor) if self._before else None
        new = check_values(metrics).get(monitor)
        if (
            self._before is None
            or old is None
            or new is None
            or (new > old if higher else new < old)
        ):
            self.replace_best(weights, epoch=epoch, metrics=metrics)
        else:
            here = f"{monitor} {render_float(old)}), epoch {epoch} has {render_float(new)}"
            notify(f"{self.name}: best.pth stays that of epoch {self._before.epoch} ({here}")

    def replace_best(self, weights: Any, *, epoch: int, metrics: Mapping[str, float]) -> None:
        """`save_best` for a caller who knows what was best before a resume."""
        from tracker.training.run.checkpoint import save_weights

        plain = check_values(metrics)
        fingerprint = save_weights(weights, self.folder / "best.pth")
        self._choose(_Chosen(finite(plain), epoch), reached=max(epoch, self.last_epoch))
        self._recorder.fingerprint(weights=fingerprint)
        self._before = None

    def save_last(self, state: Mapping[str, Any]) -> None:
        """Keep what the loop needs to go on, as last.pth in the run folder: whole, or what was
        there before.

        `state` has tensors, state dicts, numbers and texts: {"model": ..., "optimizer": ...,
        "epoch": 3}.
        Raises WeightsError for anything else (`load_last` could not read it safely), StorageError.
        """
        from tracker.training.run.checkpoint import load_checkpoint, save_checkpoint

        with atomic_path(self.folder / LAST) as temporary:
            save_checkpoint(temporary, {"state": dict(state)})
            try:
                load_checkpoint(temporary)
            except WeightsError as error:
                kinds = "tensors, numbers, texts, lists and dicts"
                hint = (
                    "state_dict() of models, optimizers and schedules; float(...) of NumPy's"
                    " numbers"
                )
                raise WeightsError(
                    f"this state cannot be kept: it has more than {kinds}", hint=hint
                ) from error

    def load_last(self) -> dict[str, Any] | None:
        """What `save_last` kept, on the CPU; None before the first. In every process of a group
        that goes on."""
        return load_last(self.folder / LAST)

    def _choose(self, chosen: _Chosen, *, reached: int) -> None:
        self._chosen = chosen
        summary = self._complete(self._read_chosen(chosen))
        self._recorder.progress(epoch=reached, best_epoch=chosen.epoch, summary=summary)

    def save_probabilities(self, ids: Sequence[Any], probabilities: Any) -> None:
        """Keep the probabilities [images, classes] of the evaluation images, for ensembles; ids in
        any order.

        predictions.csv gets the most probable class of each, unless `save_predictions` was called.
        The columns are in the order of competition.classes. Raises DataError unless every row is
        finite and sums to 1, and the ids are exactly those to predict, each once (all are taken
        where tracker.toml has no data.eval_dir); StorageError.
        """
        from tracker.training.predict.probabilities import save_probabilities

        task = build_task(self._workspace)
        known = list_competition_ids(self._workspace, {})
        kept = check_evaluation(ids, probabilities, task.classes, known=known)
        given = self._has_given_predictions()
        save_probabilities(self.folder / "probabilities.npz", kept)
        if not given:
            self.save_predictions(_to_answers(kept, task.answer_words))

    def _has_given_predictions(self) -> bool:
        """Whether predictions.csv is one of save_predictions, and does not follow from
        probabilities.npz."""
        from tracker.training.predict.probabilities import load_probabilities

        there = self._recorder.record.fingerprints.get("predictions")
        path = self.folder / "probabilities.npz"
        if there is None or not path.is_file():
            return there is not None
        answers = _to_answers(load_probabilities(path), self._workspace.competition.answer_words)
        return Answers.of(answers).fingerprint != there

    def save_validation(self, ids: Sequence[Any], labels: Any, probabilities: Any) -> None:
        """Keep the probabilities [images, classes] of the validation images, and their true labels,
        in any order.

        Labels are class numbers, columns of the probabilities, or names of competition.classes.
        `diff`, ensembles,
        `data suspects` and `select` compare runs by them: give images the same ids in every run
        (the program's own
        are paths below data.train_dir, as cat/7.png). Adds val/f1 and val/accuracy to the metrics
        of the run where it has none; where it has others, that is told. Raises DataError as
        `save_probabilities`, and for labels that are none; StorageError.
        """
        from tracker.training.predict.probabilities import measure, save_probabilities

        kept = check_validation(ids, labels, probabilities, build_task(self._workspace).classes)
        save_probabilities(self.folder / "validation.npz", kept)
        self._measured = measure(kept)
        self._recorder.fingerprint()  # the summary is written
        for name, logged in self._find_contradictions(self._recorder.record.summary).items():
            told = (
                f"{name} is {logged:.4g} as logged, {self._measured[name]:.4g} by the probabilities"
                " of save_validation"
            )
            notify(f"{told}: are they of the best epoch's weights?")

    def save_predictions(self, answers: Mapping[str, Any] | Path | str) -> None:
        """Keep the predictions: {image id: answer}, or a CSV.

        Raises RefusedError or DataError when they could never be submitted.
        """
        competition, target = self._workspace.competition, self.folder / "predictions.csv"
        if isinstance(answers, Mapping):
            table = Answers.of(
                {str(name): normalize_answer(str(answer)) for name, answer in answers.items()}
            )
            header = f"{competition.id_column},{competition.label_column}\n".encode()
            content = header + table.canonical
        else:
            table = load_answers(Path(answers), competition)
            content = Path(answers).read_bytes()
        check_answers(table, competition, None)
        write_bytes(target, content)
        self.fingerprint_predictions()

    def fingerprint_predictions(self) -> None:
        """Keep the fingerprint of the predictions.csv that is in the folder; raises DataError or
        RefusedError."""
        table = load_answers(self.folder / "predictions.csv", self._workspace.competition)
        self._recorder.fingerprint(predictions=table.fingerprint)

    def keep_summary(self, metrics: Mapping[str, float]) -> None:
        """Keep the metrics that the run is compared by, for a run without epochs."""
        self._choose(_Chosen(finite(check_values(metrics)), None), reached=0)

    def keep_facts(self, values: Mapping[str, Any]) -> None:
        """Keep facts found while training, beside the config."""
        self._recorder.params(
            {name: to_toml(value) for name, value in values.items() if value is not None}
        )

    def keep_file(self, path: Path) -> None:
        """Copy a file into the run folder."""
        with atomic_path(self.folder / path.name) as temporary:
            shutil.copyfile(path, temporary)

    def finish(
        self, status: str = "finished", *, error: str = "", times: tuple[str, str] | None = None
    ) -> RunRecord:
        """End the run; leaving the `with` block does it. One that was stopped is interrupted,
        whatever is said here.

        `times` are when it began and ended, where it was made elsewhere.
        """
        with self._termination.end():
            self._ended = True
            atexit.unregister(self._end_with_script)
            self._system.close()
            status, error = self._explain_end(status, error)
            record = self._recorder.finish(status, error=error, times=times)
        if not self._quiet:
            notify(_describe_end(record, self._workspace) + self._describe_resume(record))
        index_run(self._workspace, record)
        if self._mirror and (problem := self._mirror.wait()):
            notify(problem)
        return record

    def _explain_resume(self) -> str:
        return f'start_run(..., resume="{self.name}")'

    def _describe_resume(self, record: RunRecord) -> str:
        """How to go on with a run that was stopped, or that failed after it had come somewhere."""
        goes_on = record.status == "interrupted" or (record.status == "failed" and record.epoch > 0)
        return f". Resume: {self.explain_resume()}" if goes_on and record.kind == "train" else ""

    def _explain_end(self, status: str, error: str) -> tuple[str, str]:
        """Status and reason: `tracker stop` and SIGTERM, whatever the loop or a library made of
        them."""
        reason, facts = take_stop_note(self.folder)
        if facts:
            self._recorder.params(facts)
        if reason or self._termination.received:
            return "interrupted", reason or NAME
        return status, error

    def note_trained(self) -> None:
        """The training has reached its end: a stop that came too late for it does not make the run
        interrupted."""
        take_stop_note(self.folder)
        self._termination.received = False

    def __enter__(self) -> ActiveRun:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end(error)

    def end(self, error: BaseException | None) -> None:
        """End the run, unless it has ended, as an error on its way out of the script would: failed
        or interrupted."""
        if self._ended:
            return
        if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
            self.finish()
        elif _is_stop(error):
            _STOPS[:] = [error]
            # Who ends all processes may have ended this one's loader first.
            self.finish(
                "interrupted",
                error=describe_error(error) if isinstance(error, KeyboardInterrupt) else NAME,
            )
        else:
            self.finish("failed", error=describe_error(error))

    def _end_with_process(self) -> None:
        """The end of a process of multiprocessing, which Python tells while an error is on its way
        out."""
        error = sys.exc_info()[1]
        cause = (
            error.__context__ if isinstance(error, SystemExit) else None
        )  # torch exits after an error
        self.end(cause if isinstance(cause, Exception) else error)

    def _end_with_script(self) -> None:
        if os.getpid() != self._pid:  # a fork of the process that made the run
            return
        if (
            hasattr(sys, "ps1") or sys.flags.interactive
        ):  # Jupyter and the prompt go on after an error
            self.end(None)
            return
        error = getattr(
            sys, "last_value", None
        )  # what ended the script, whatever sys.excepthook did with it
        self.end(error if error is not self._error_before else _EXITS[-1] if _EXITS else None)


def load_last(path: Path) -> dict[str, Any] | None:
    from tracker.training.run.checkpoint import load_checkpoint

    if not path.is_file():
        return None
    state: dict[str, Any] = load_checkpoint(path).get("state", {})
    return state


_EXITS: list[SystemExit] = []  # what sys.exit was called with last

_STOPS: list[BaseException] = []  # what interrupted a run last

_LIBRARY_STOPS: list[BaseException] = []  # one that a library answers with sys.exit(1)

INTERRUPTED = 130  # the exit code of a script that was stopped


def _note_exits() -> None:
    """Keep the code of the last sys.exit, exit or quit: Python tells it to nobody while it ends."""

    if hasattr(sys, "ps1"):
        return

    def note(ending: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(ending, updated=())
        def noted(code: Any = None, /) -> Any:
            if _LIBRARY_STOPS and sys.exc_info()[1] is _LIBRARY_STOPS[-1]:
                code = INTERRUPTED
            _EXITS[:] = [SystemExit(code)]
            return ending(code)

        return noted

    for module, name in ((sys, "exit"), (builtins, "exit"), (builtins, "quit")):
        ending = getattr(module, name, None)
        if ending is not None and not hasattr(ending, "__wrapped__"):
            setattr(module, name, note(ending))


def exit_as_interrupted(error: BaseException) -> None:
    """Give the script that ends by this error exit code 130, though a library makes a sys.exit of
    it."""
    if isinstance(error, SystemExit):
        error.code = INTERRUPTED
    else:
        _LIBRARY_STOPS[:] = [error]


def _is_stop(error: BaseException) -> bool:
    return isinstance(error, KeyboardInterrupt) or is_loader_terminated(error)


def _hide_stops() -> None:
    """A script that is stopped while its run is open ends without a traceback: the run's last line
    says it all.

    A hook that somebody else has set stays; any other error is shown as always.
    """
    if hasattr(sys, "ps1") or sys.excepthook is not sys.__excepthook__:
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not _is_stop(error) or not (has_open() or error in _STOPS):
            sys.__excepthook__(kind, error, trace)
        elif not isinstance(error, KeyboardInterrupt):  # Python has a code of its own for that one
            raise SystemExit(INTERRUPTED)

    sys.excepthook = hook


def shorten(folder: Path) -> Path:
    """A path from the current folder on, where it is below that."""
    with suppress(OSError, ValueError):  # the current folder may be gone, or another
        return folder.relative_to(Path.cwd())
    return folder


def _describe_end(record: RunRecord, workspace: Workspace) -> str:
    """`exp11 finished: best epoch 2, val/f1 0.7184`, `exp12 was interrupted after epoch 3 (Ctrl-C)`."""
    status = record.status if record.status in ("finished", "failed") else f"was {record.status}"
    after = f" after epoch {record.epoch}" if record.status != "finished" and record.epoch else ""
    told = f"{record.name} {status}{after}" + (f" ({record.error})" if record.error else "")
    wanted = list_monitored(workspace.competition)
    name = next((each for each in wanted if record.summary.get(each) is not None), "")
    facts = [f"best epoch {record.best_epoch}"] if record.best_epoch is not None else []
    facts += (
        [f"{name} {render_float(value)}"] if (value := record.summary.get(name)) is not None else []
    )
    return told + (f": {', '.join(facts)}" if facts else "")


def _to_answers(kept: Kept, words: Sequence[str]) -> dict[str, str]:
    """{image id: answer} by the most probable class."""
    guesses = kept.probabilities.argmax(1).tolist()
    return {name: words[guess] for name, guess in zip(kept.ids, guesses, strict=True)}
