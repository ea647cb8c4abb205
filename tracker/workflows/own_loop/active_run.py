"""A run recorded by somebody else's training loop.

It has the same folder, fingerprints, MLflow copy and ledger index as a run of `tracker run train`.
"""

from __future__ import annotations

import atexit
import multiprocessing.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tracker.core.errors import RefusedError
from tracker.core.metric_names import check_integer, check_values
from tracker.mirror.mirror import Mirror
from tracker.run_folder.output import notify
from tracker.run_folder.points import drop_system_metrics, read_points, replace_non_finite
from tracker.run_folder.read import load_config
from tracker.run_folder.record import RunRecord
from tracker.run_folder.recorder import Recorder
from tracker.run_folder.stop_note import take_stop_note
from tracker.run_folder.summary import list_monitored
from tracker.run_folder.system_metrics import SystemMetrics
from tracker.training.config_fingerprint import config_fingerprint
from tracker.training.errors import ConfigError, DataError, StorageError, WeightsError
from tracker.training.files import atomic_path, write_text
from tracker.training.numbers import render_float
from tracker.training.tables import flatten
from tracker.workflows.advice_events import AdviceEvents
from tracker.workflows.ending import describe_error, index_run
from tracker.workflows.own_loop.checks import (
    check_evaluation,
    check_path,
    check_validation,
    copy_file,
    write_figure,
)
from tracker.workflows.own_loop.common_names import is_length
from tracker.workflows.own_loop.compared_metrics import ComparedMetrics, DeclaredMetrics
from tracker.workflows.own_loop.config_tables import to_tables, to_toml
from tracker.workflows.own_loop.given_predictions import read_given, render_csv, render_refused
from tracker.workflows.own_loop.script_end import (
    find_script_error,
    is_stop,
    record_exit_code,
    remember_stop,
)
from tracker.workflows.own_loop.termination import SIGTERM_NAME, Termination, ignore_loader_ends
from tracker.workspace.data import build_task, list_competition_ids
from tracker.workspace.metrics import higher_is_better
from tracker.workspace.predictions import check_answers, find_wrong_ids, load_answers
from tracker.workspace.tracker_toml import Workspace

if TYPE_CHECKING:
    from tracker.training.predict.probabilities import Predictions

FIGURES, FILES = "figures", "files"  # folders in a run folder

LAST = "last.pth"
REFUSED = "predictions.refused.csv"  # what save_predictions could not take


class ActiveRun:
    """A run that is being made. It ends when the `with` block or the script ends.

    Its status is then finished, failed or interrupted.
    """

    def __init__(
        self,
        workspace: Workspace,
        recorder: Recorder,
        termination: Termination,
        *,
        follow: bool,
        quiet: bool = False,
    ) -> None:
        self._workspace = workspace
        self._termination = termination
        self._quiet = quiet
        self._recorder = recorder
        # The step of the last point, and whether any point was logged.
        self._step, self._logged = 0, False
        self._metrics = ComparedMetrics(workspace.competition)
        self._advice = AdviceEvents(recorder, workspace.competition)
        # What save_best declared before the run was resumed, until a better epoch comes.
        self._best_before: DeclaredMetrics | None = None
        self._read_progress()
        recorder.summarize = lambda: self._metrics.summarize(self._recorder.record)
        recorder.read_best = self._metrics.read_best
        # A logger or callback puts its own instruction here.
        self.explain_resume: Callable[[], str] = self._explain_resume
        self._ended = False
        self._watch_for_end()
        self._system = ExitStack()
        if follow:
            self._system.enter_context(SystemMetrics(recorder))
        self._mirror = Mirror(workspace, recorder.record.name) if follow else None
        if self._mirror:
            self._mirror.start()

    def __repr__(self) -> str:
        """`<run exp3, running, in runs/exp3>`."""
        return f"<run {self.name}, {self.status}, in {shorten(self.folder)}>"

    def _watch_for_end(self) -> None:
        """Prepare for every way in which the script may end."""
        # The run may end while the interpreter ends: it is too late then to import much.
        import tracker.ledger.append  # noqa: F401

        self._pid = os.getpid()
        self._error_before = getattr(sys, "last_value", None)
        record_exit_code()
        atexit.register(self._end_with_script)
        # A process of multiprocessing ends without atexit.
        if multiprocessing.parent_process() is not None:
            multiprocessing.util.Finalize(None, self._end_with_process, exitpriority=0)

    def _read_progress(self) -> None:
        """Read what was logged and saved before the run was resumed."""
        record = self._recorder.record
        for point in read_points(self.folder / "metrics.jsonl"):
            if values := drop_system_metrics(point["values"]):
                self._metrics.logged.add(values, epoch=point["epoch"])
                self._step, self._logged = point["step"], True
        if record.fingerprints.get("weights"):
            self._metrics.best = DeclaredMetrics(record.summary, record.best_epoch)
            has_weights = (self.folder / "best.pth").is_file()
            self._best_before = self._metrics.best if has_weights else None
        if (self.folder / "validation.npz").is_file():
            self._metrics.measured = self._measure_validation()

    @property
    def name(self) -> str:
        """`expN`."""
        return self._recorder.record.name

    @property
    def folder(self) -> Path:
        """The run folder. To add files that MLflow also shows, use `log_file` and `log_figure`."""
        return self._recorder.folder

    @property
    def status(self) -> str:
        """`running` until the run has ended, then finished, failed or interrupted."""
        return self._recorder.record.status

    @property
    def last_step(self) -> int:
        """The step of the last point, 0 before the first. A resumed run continues from it."""
        return self._step

    @property
    def last_epoch(self) -> int:
        """The epoch of the last point, 0 before the first."""
        return self._metrics.logged.epoch

    @property
    def best(self) -> dict[str, float]:
        """The metrics that the run is compared by so far; empty before the first point.

        In a resumed run they include those from before.
        """
        summary = self._metrics.summarize(self._recorder.record)["summary"]
        return {name: value for name, value in summary.items() if value is not None}

    def change_length(self, tables: Mapping[str, Mapping[str, Any]]) -> None:
        """Take the number of epochs or steps from a whole config into that of a resumed run."""
        config = load_config(self._workspace.runs_dir, self.name)
        before, given = flatten(config), flatten(tables)
        lengths = [key for key in {**before, **given} if is_length(key)]
        changed = [key for key in lengths if before.get(key) != given.get(key)]
        if not changed:
            return
        for key in changed:
            section, _, name = key.partition(".")
            table = config.setdefault(section, {})
            table.pop(name, None)
            if key in given:
                table[name] = given[key]
        self._recorder.change_config(config, config_fingerprint(config))
        changes = [
            f"{key} is {given.get(key, 'not set')}, was {before.get(key, 'not set')}"
            for key in changed
        ]
        notify(f"{self.name}: {', '.join(changes)}")

    def set_parent(self, name: str) -> None:
        """Record the run that this one was started from, unless it already has a parent."""
        if self._recorder.record.parent is None:
            self._recorder.describe(note="", parent=name)

    def add_config(self, config: Mapping[str, Any]) -> None:
        """Add keys to the config, until the first point is logged.

        Raises ConfigError for a key that already has another value, and for a new key after the
        first point.
        """
        before, given = load_config(self._workspace.runs_dir, self.name), to_tables(config)
        old, new = flatten(before), flatten(given)
        added = [key for key in new if key not in old]
        refused = [key for key in new if key in old and old[key] != new[key]]
        if self._logged:
            refused = [key for key in new if key in added or key in refused]
        if refused:
            reason = (
                "points were already logged with the config as it is"
                if self._logged
                else "it already has another value"
            )
            names = ", ".join(refused[:5])
            raise ConfigError(f"{names} cannot be added to the config of {self.name}: {reason}")
        if added:
            merged = {
                section: {**before.get(section, {}), **given.get(section, {})}
                for section in {**before, **given}
            }
            self._recorder.change_config(merged, config_fingerprint(merged))

    def log(
        self, values: Mapping[str, float], *, step: int | None = None, epoch: int | None = None
    ) -> None:
        """Write one point to disk before returning; without `step`, points are counted.

        Unless `save_best` is called, the run is compared by the best logged value of each metric
        (docs/own-training-loop.md says how the best epoch is found). Raises StorageError, and
        ConfigError for a wrong point: a name must be a text of 1 to 250 bytes without control
        characters, a value a number, step and epoch whole numbers. Nothing is written then, and
        the run continues.
        """
        numbers = check_values(values)
        this_step = self._step + 1 if step is None else check_integer("step", step)
        this_epoch = self.last_epoch if epoch is None else check_integer("epoch", epoch)
        self._recorder.metrics(numbers, step=this_step, epoch=this_epoch)
        if this_epoch > self.last_epoch:
            self._advice.look(this_epoch)
        self._metrics.logged.add(numbers, epoch=this_epoch)
        self._step, self._logged = this_step, True

    def log_figure(self, name: str, figure: Any) -> Path:
        """Save a picture as figures/NAME in the run folder and in MLflow; returns the file.

        A later picture with the same name replaces it. `figure` is a matplotlib figure, a PIL
        image, the path of a PNG or JPEG, or an array: [height, width], [height, width, channels]
        or [channels, height, width], bytes or floats between 0 and 1. `name` may have folders, as
        in val/confusion. Raises ConfigError for a wrong name, DataError for anything else.
        """
        return write_figure(figure, self.folder / FIGURES / check_path(name))

    def log_file(self, path: Path | str, name: str = "") -> Path:
        """Copy a file to files/NAME in the run folder and in MLflow; returns the copy.

        Without `name` the copy has the name of the file. Raises ConfigError for a wrong name,
        DataError when there is no such file, StorageError.
        """
        target = self.folder / FILES / check_path(name or Path(path).name)
        copy_file(Path(path), target)
        return target

    def save_best(
        self, weights: Any, *, epoch: int, metrics: Mapping[str, float], monitor: str = ""
    ) -> None:
        """Save these weights as best.pth, with the metrics of their epoch.

        Call it when an epoch is better than all before. `weights` is a state dict or the path of a
        checkpoint. Other metrics that were logged in that epoch are kept beside the given ones. In
        a resumed run, the earlier best.pth stays until an epoch is better by `monitor`, one of the
        `metrics`, and a message says so. Without `monitor` it is the competition's metric, else
        val/f1, val/accuracy, val/loss, or the only metric given. Raises WeightsError when a
        checkpoint cannot be read with weights_only, ConfigError for metrics that `log` would
        refuse, StorageError.
        """
        if monitor and monitor not in metrics:
            raise ConfigError(
                f"monitor is {monitor!r}, which is not among the metrics", hint=", ".join(metrics)
            )
        competition = self._workspace.competition
        if not monitor:
            only = list(metrics) if len(metrics) == 1 else []
            candidates = (*list_monitored(competition), *only)
            monitor = next((name for name in candidates if name in metrics), "")
        higher = higher_is_better(competition.metrics, monitor)
        self.save_better(weights, epoch=epoch, metrics=metrics, monitor=monitor, higher=higher)

    def save_better(
        self, weights: Any, *, epoch: int, metrics: Mapping[str, float], monitor: str, higher: bool
    ) -> None:
        """`save_best` for a library that knows whether a higher value of its metric is better."""
        before = self._best_before
        old = before.metrics.get(monitor) if before else None
        new = check_values(metrics).get(monitor)
        if before is not None and old is not None and new is not None:
            better = new > old if higher else new < old
            if not better:
                notify(
                    f"{self.name}: best.pth is still the one of epoch {before.epoch}"
                    f" ({monitor} {render_float(old)}); epoch {epoch} has {render_float(new)}"
                )
                return
        self.replace_best(weights, epoch=epoch, metrics=metrics)

    def replace_best(self, weights: Any, *, epoch: int, metrics: Mapping[str, float]) -> None:
        """`save_best` for a caller who knows what was best before the run was resumed."""
        from tracker.training.run.checkpoint import save_weights

        numbers = check_values(metrics)
        fingerprint = save_weights(weights, self.folder / "best.pth")
        self._set_best(
            DeclaredMetrics(replace_non_finite(numbers), epoch), reached=max(epoch, self.last_epoch)
        )
        self._recorder.fingerprint(weights=fingerprint)
        self._best_before = None

    def save_last(self, state: Mapping[str, Any]) -> None:
        """Save the state that the loop needs to resume, as last.pth in the run folder.

        The earlier file stays until the new one is complete. `state` has tensors, state dicts,
        numbers and texts: {"model": ..., "optimizer": ..., "epoch": 3}. Raises WeightsError for
        anything else (`load_last` could not read it safely), StorageError.
        """
        from tracker.training.run.checkpoint import load_checkpoint, save_checkpoint

        with atomic_path(self.folder / LAST) as temporary:
            save_checkpoint(temporary, {"state": dict(state)})
            try:
                load_checkpoint(temporary)
            except WeightsError as error:
                raise WeightsError(
                    "this state cannot be saved: it may have tensors, numbers, texts, lists and"
                    " dicts only",
                    hint=(
                        "pass state_dict() of models, optimizers and schedulers, and float(...) of"
                        " NumPy numbers"
                    ),
                ) from error

    def load_last(self) -> dict[str, Any] | None:
        """The state that `save_last` wrote, on the CPU; None before the first.

        In a group of processes every process gets it.
        """
        return load_last(self.folder / LAST)

    def _measure_validation(self) -> dict[str, float]:
        """val/NAME of the saved validation predictions."""
        from tracker.training.predict.decide import measure
        from tracker.training.predict.probabilities import load_probabilities

        predictions = load_probabilities(self.folder / "validation.npz")
        return measure(predictions, build_task(self._workspace))

    def _set_best(self, best: DeclaredMetrics, *, reached: int) -> None:
        """Declare the metrics of the run; `reached` is the last epoch so far."""
        self._metrics.best = best
        summary = self._metrics.describe(best)
        self._recorder.progress(epoch=reached, best_epoch=best.epoch, summary=summary)

    def take_over(self, original: RunRecord, weights: str | None) -> None:
        """Be compared by what the record of an adopted run says, and have its fingerprints."""
        self._set_best(
            DeclaredMetrics(dict(original.summary), original.best_epoch), reached=original.epoch
        )
        prints = {"data": original.fingerprints.get("data")}
        if weights:
            prints["weights"] = weights
        self._recorder.fingerprint(**prints)
        self._best_before = None

    def save_probabilities(self, ids: Sequence[Any], probabilities: Any) -> None:
        """Save the probabilities [images, classes] of the evaluation images, for ensembles.

        The ids may be in any order, the columns are in the order of competition.classes.
        predictions.csv gets the most probable class of each image, unless `save_predictions` was
        called. Raises StorageError, and DataError unless every row is finite and sums to 1, and
        each id to predict is there exactly once (without data.eval_dir in tracker.toml any ids are
        taken).
        """
        from tracker.training.predict.probabilities import save_probabilities

        task = build_task(self._workspace)
        known = list_competition_ids(self._workspace, {})
        predictions = check_evaluation(ids, probabilities, task, known=known)
        # Look before probabilities.npz is replaced: the answer depends on the old one.
        given = self._has_given_predictions()
        save_probabilities(self.folder / "probabilities.npz", predictions)
        if not given:
            self.save_predictions(_to_answers(predictions, self._workspace))

    def _has_given_predictions(self) -> bool:
        """Whether predictions.csv is from save_predictions, not from the probabilities."""
        from tracker.training.predict.probabilities import load_probabilities

        fingerprint = self._recorder.record.fingerprints.get("predictions")
        path = self.folder / "probabilities.npz"
        if fingerprint is None or not path.is_file():
            return fingerprint is not None
        answers = _to_answers(load_probabilities(path), self._workspace)
        return read_given(answers, self._workspace.competition).fingerprint != fingerprint

    def save_validation(
        self,
        ids: Sequence[Any],
        labels: Any,
        probabilities: Any,
        *,
        groups: Sequence[Any] | None = None,
    ) -> None:
        """Save the probabilities [images, classes] of the validation images and their true labels.

        The images may be in any order. Labels are class numbers (columns of the probabilities) or
        names of competition.classes. `diff`, ensembles, `data suspects` and `select` compare runs
        by these files: an image must have the same id in every run (for this program the path below
        data.train_dir, as cat/7.png). `groups` has the patient, place or sequence of each image, as
        images of one are alike: statistics then draw whole groups (data.group of tracker.toml says
        what they are called). val/f1 and val/accuracy are added to the metrics of the run where it
        has none; a message says so where it has different ones. Raises DataError like
        `save_probabilities`, and for wrong labels; StorageError.
        """
        from tracker.training.predict.probabilities import save_probabilities

        task = build_task(self._workspace)
        name = str(self._workspace.data.get("group") or "group")
        predictions = check_validation(
            ids, labels, probabilities, task, groups=groups, group_name=name
        )
        save_probabilities(self.folder / "validation.npz", predictions)
        self._metrics.measured = self._measure_validation()
        self._recorder.fingerprint()  # writes the summary, too
        contradictions = self._metrics.find_contradictions(self._recorder.record.summary)
        for name, logged in contradictions.items():
            notify(
                f"{name} is {logged:.4g} as logged, but {self._metrics.measured[name]:.4g} from the"
                " probabilities of save_validation: are they from the weights of the best epoch?"
            )

    def save_predictions(self, answers: Any) -> None:
        """Save the predictions: {id: answer}, a pandas or polars frame, or the path of a CSV.

        An answer is what tracker.toml says: a class, a number, a list of numbers or
        {column: number} for an answer of columns, a list of classes for labels and ranked. A frame
        and a CSV have the columns of the competition. Raises RefusedError or DataError for answers
        that could never be submitted; they are kept in predictions.refused.csv. Images that are
        missing and ids that are unknown are kept as they are, with a warning: `submit` refuses
        them, and a later call with all images mends it.
        """
        competition, target = self._workspace.competition, self.folder / "predictions.csv"
        try:
            table = read_given(answers, competition)
            check_answers(table, competition, None)
        except (RefusedError, DataError):
            self._keep_refused(answers)
            raise
        (self.folder / REFUSED).unlink(missing_ok=True)
        order, problem = self._list_ids()
        write_text(target, render_csv(table, competition, order))
        self.fingerprint_predictions()
        wrong = find_wrong_ids(table, competition, order) if order is not None else []
        if problem := "; ".join(map(str, wrong)) or problem:
            notify(
                f"warning: {self.name}: submit will refuse these predictions: {problem}. They are"
                f" kept in predictions.csv; {self._explain_mending()}"
            )

    def _explain_mending(self) -> str:
        """What whoever gave predictions of other images does next."""
        source = self._recorder.record.facts.get("adopted_from")
        if source:
            return f"put the right file into {source}, and adopt it again with --force"
        return "call run.save_predictions again with all images"

    def _keep_refused(self, answers: Any) -> None:
        """Write answers that are refused beside the others, for they may have taken hours."""
        text = render_refused(answers, self._workspace.competition)
        if text:
            write_text(self.folder / REFUSED, text)
            notify(
                f"{self.name}: these predictions are refused, and kept as they were given in"
                f" {shorten(self.folder / REFUSED)}. When they are right: a script with"
                f' tracker.start_run(..., resume="{self.name}") that calls'
                " run.save_predictions(...)"
            )

    def _list_ids(self) -> tuple[list[str] | None, str]:
        """The ids to predict, if they are known, and why they cannot be read.

        What a loop has computed is saved all the same: the images may be mounted again tomorrow.
        """
        try:
            return list_competition_ids(self._workspace, {}), ""
        except (ConfigError, StorageError) as error:
            return None, f"the ids to predict cannot be read: {error}"

    def fingerprint_predictions(self) -> None:
        """Record the fingerprint of predictions.csv; raises DataError or RefusedError."""
        table = load_answers(self.folder / "predictions.csv", self._workspace.competition)
        self._recorder.fingerprint(predictions=table.fingerprint)

    def set_summary(self, metrics: Mapping[str, float]) -> None:
        """Set the metrics that the run is compared by, for a run without epochs."""
        self._set_best(DeclaredMetrics(replace_non_finite(check_values(metrics)), None), reached=0)

    def add_facts(self, values: Mapping[str, Any]) -> None:
        """Record facts found while training, beside the config."""
        self._recorder.params(
            {name: to_toml(value) for name, value in values.items() if value is not None}
        )

    def add_file(self, path: Path) -> None:
        """Copy a file into the run folder."""
        with atomic_path(self.folder / path.name) as temporary:
            shutil.copyfile(path, temporary)

    def finish(
        self, status: str = "finished", *, error: str = "", times: tuple[str, str] | None = None
    ) -> RunRecord:
        """End the run; leaving the `with` block does it.

        A run that was stopped is interrupted, whatever `status` is. `times` are its beginning and
        end, for a run that was made elsewhere.
        """
        with ignore_loader_ends():
            return self._finish(status, error, times)

    def discard(self) -> None:
        """End the run and remove its folder: nobody was told of it, nor was the ledger."""
        with self._end():
            self._recorder.finish("failed")
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def _end(self) -> Iterator[None]:
        """A signal waits in this block: how the run ended is on disk before anything stops it."""
        with self._termination.end():
            self._ended = True
            atexit.unregister(self._end_with_script)
            self._system.close()
            yield

    def _finish(self, status: str, error: str, times: tuple[str, str] | None) -> RunRecord:
        with self._end():
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
        """How to resume a run that was stopped, or that failed after its first epoch."""
        stopped = record.status == "interrupted"
        failed_later = record.status == "failed" and record.epoch > 0
        if record.kind != "train" or not (stopped or failed_later):
            return ""
        return f". Resume: {self.explain_resume()}"

    def _explain_end(self, status: str, error: str) -> tuple[str, str]:
        """Status and reason. After `tracker stop` or SIGTERM it is interrupted.

        That holds whatever the loop or a library made of the stop.
        """
        reason, facts = take_stop_note(self.folder)
        if facts:
            self._recorder.params(facts)
        if reason or self._termination.received:
            return "interrupted", reason or SIGTERM_NAME
        return status, error

    def mark_trained(self) -> None:
        """Training is complete: a stop that came too late does not make the run interrupted."""
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
        """End the run, unless it has ended, by the error that ends the script.

        It is then finished (no error, or sys.exit without a code), interrupted or failed.
        """
        if self._ended:
            return
        if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
            self.finish()
        elif is_stop(error) or self._termination.received:
            remember_stop(error)
            # Whoever ends all processes may have ended the loader of this one first.
            by_key = isinstance(error, KeyboardInterrupt)
            self.finish("interrupted", error=describe_error(error) if by_key else SIGTERM_NAME)
        else:
            self.finish("failed", error=describe_error(error))

    def _end_with_process(self) -> None:
        """Called by Python at the end of a process of multiprocessing, while its error is known."""
        error = sys.exc_info()[1]
        # torch calls sys.exit after an error: the error is its context.
        cause = error.__context__ if isinstance(error, SystemExit) else None
        self.end(cause if isinstance(cause, Exception) else error)

    def _end_with_script(self) -> None:
        if os.getpid() != self._pid:  # a fork of the process that made the run
            return
        # Jupyter and the Python prompt continue after an error.
        if hasattr(sys, "ps1") or sys.flags.interactive:
            self.end(None)
        else:
            self.end(find_script_error(self._error_before))


def load_last(path: Path) -> dict[str, Any] | None:
    """The state in a last.pth, on the CPU; None when there is no such file."""
    from tracker.training.run.checkpoint import load_checkpoint

    if not path.is_file():
        return None
    state: dict[str, Any] = load_checkpoint(path).get("state", {})
    return state


def shorten(folder: Path) -> Path:
    """A path relative to the current folder, where it is inside."""
    with suppress(OSError, ValueError):  # the current folder may be gone, or somewhere else
        return folder.relative_to(Path.cwd())
    return folder


def _describe_end(record: RunRecord, workspace: Workspace) -> str:
    """`exp1 finished: best epoch 2, val/f1 0.7184`, `exp2 failed after epoch 3 (...)`."""
    status = record.status if record.status in ("finished", "failed") else f"was {record.status}"
    text = f"{record.name} {status}"
    if record.status != "finished" and record.epoch:
        text += f" after epoch {record.epoch}"
    if record.error:
        text += f" ({record.error})"
    facts = [f"best epoch {record.best_epoch}"] if record.best_epoch is not None else []
    for name in list_monitored(workspace.competition):
        value = record.summary.get(name)
        if value is not None:
            facts.append(f"{name} {render_float(value)}")
            break
    return f"{text}: {', '.join(facts)}" if facts else text


def _to_answers(kept: Predictions, workspace: Workspace) -> dict[str, list[str]]:
    """{image id: cells of its answer} by the most probable class, or what the competition asks."""
    from tracker.training.config import EvalConfig
    from tracker.training.predict.decide import plain_decision, render_rows

    task = build_task(workspace)
    _, rows = render_rows(kept, task, plain_decision(task, EvalConfig()))
    return {name: cells for name, *cells in rows}
