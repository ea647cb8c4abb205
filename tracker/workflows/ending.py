"""The end of a run: written to its record, its copies and the index in the ledger."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tracker.comparison.likely_pairs import compare_likely_pairs
from tracker.core.errors import (
    InterruptedByUserError,
    PreemptedError,
    TrackerError,
    render_error,
)
from tracker.core.signals import sigterm_as_interrupt, terminate_as_interrupt
from tracker.mirror.mirror import Mirror
from tracker.run_folder.output import notify, outlive_terminal
from tracker.run_folder.read import load_config
from tracker.run_folder.record import RunRecord
from tracker.run_folder.recorder import Recorder
from tracker.run_folder.resumes import list_resumes, render_resume
from tracker.run_folder.stop_note import take_stop_note
from tracker.run_folder.system_metrics import SystemMetrics
from tracker.training.errors import mask_secrets
from tracker.training.libraries import translate_import_errors
from tracker.workspace.tracker_toml import Workspace


@contextmanager
def record_end(workspace: Workspace, recorder: Recorder) -> Iterator[None]:
    """Copy the run while the block makes it, and record its end, whatever ends it."""
    name = recorder.record.name
    mirror = Mirror(workspace, name)
    with ExitStack() as stack:
        with record_early_end(workspace, recorder):
            mirror.start()
            output = stack.enter_context(outlive_terminal(workspace))
            # Output goes to the run folder from here on.
            resumes, epoch = list_resumes(recorder.folder), recorder.record.epoch
            resumed = render_resume(workspace, resumes[-1], epoch) if resumes else ""
            end_hint = f"tracker stop {name} ends the run"
            output.attach_folder(recorder.folder, end_hint, resumed=resumed)
            take_stop_note(recorder.folder)  # an old one, of a stop that never took effect
        with terminate_as_interrupt(repeat=True) as signals:
            try:
                with SystemMetrics(recorder):
                    yield
            except BaseException as error:
                # A second signal must not end the recording of the end.
                signals.ignore()
                end = signals.find_cause(error)
                if isinstance(end, PreemptedError):
                    recorder.finish("preempted", error=str(end))
                    raise
                record_failure(workspace, recorder, end)
                if isinstance(end, KeyboardInterrupt):
                    raise _interrupted(recorder, end) from error
                raise
            signals.ignore()  # for milliseconds: else a run that did all of its work is killed
            recorder.finish("finished")
        try:
            is_indexed = index_run(workspace, recorder.record)
            # a ledger that does not answer is not asked for SOTA
            pairs = compare_likely_pairs(workspace, recorder.record) if is_indexed else None
            problem = mirror.wait(pairs)
        except KeyboardInterrupt:
            raise copy_interrupted(recorder.record) from None
        if problem:
            print(problem, file=sys.stderr)


@contextmanager
def record_early_end(workspace: Workspace, recorder: Recorder) -> Iterator[None]:
    """Record the end of a run that Ctrl-C, SIGTERM or an error ends before the work begins."""
    try:
        with sigterm_as_interrupt():
            yield
    except BaseException as error:
        record_failure(workspace, recorder, error)
        if isinstance(error, KeyboardInterrupt):
            raise _interrupted(recorder, error) from None
        raise


def copy_interrupted(record: RunRecord) -> InterruptedByUserError:
    """The error of Ctrl-C while a finished run is copied."""
    return InterruptedByUserError(
        f"{record.name} is finished; the wait for its copy was interrupted", hint="tracker sync"
    )


def _interrupted(recorder: Recorder, end: BaseException) -> InterruptedByUserError:
    """The error that says how to resume an interrupted run."""
    return InterruptedByUserError(
        f"{recorder.record.name} was interrupted ({recorder.record.error or describe_error(end)})",
        hint=_how_to_resume(recorder),
    )


def _how_to_resume(recorder: Recorder) -> str:
    record = recorder.record
    return f"tracker run train --from {record.name} --resume" if record.kind == "train" else ""


def record_stuck(workspace: Workspace, recorder: Recorder, error: BaseException) -> None:
    """Record the end of a run whose process is ended at once, and say how to resume it.

    That is said here, because no error reaches `main`.
    """
    record_failure(workspace, recorder, error)
    go_on = _how_to_resume(recorder)
    if isinstance(error, KeyboardInterrupt):
        notify(f"{_interrupted(recorder, error)}; continue with: {go_on}")
    else:
        notify(f"error: {describe_error(error)}")
        notify(f"  try: completed epochs are saved: {go_on}")


def record_failure(workspace: Workspace, recorder: Recorder, error: BaseException) -> None:
    """Record the end of a run that did not finish.

    It is interrupted after Ctrl-C, SIGTERM or `tracker stop`, else failed.
    """
    status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
    reason, facts = take_stop_note(recorder.folder) if status == "interrupted" else ("", {})
    recorder.params(facts)
    index_run(workspace, recorder.finish(status, error=reason or describe_error(error)))


def fingerprint_predictions(workspace: Workspace, predictions: Path | None) -> str | None:
    """The fingerprint of a predictions.csv, None where there is none."""
    from tracker.workspace.predictions import load_answers

    if predictions is None:
        return None
    return load_answers(predictions, workspace.competition).fingerprint


def describe_error(error: BaseException) -> str:
    """The reason that a run's record gives for its end."""
    if isinstance(error, KeyboardInterrupt):
        return str(error) or "Ctrl-C"
    if isinstance(error, TrackerError):
        return str(error)
    return mask_secrets(f"{type(error).__name__}: {error}".rstrip(": "))


def index_run(workspace: Workspace, record: RunRecord) -> bool:
    """Append the run to the ledger's index; if the ledger cannot be reached, only say so.

    Returns whether it was appended.
    """
    try:
        with translate_import_errors():
            from tracker.ledger.append import open_ledger

            with open_ledger(workspace) as ledger:
                folder = workspace.runs_dir / record.name
                ledger.append_run(record, load_config(workspace.runs_dir, record.name), str(folder))
    except TrackerError as error:
        notify(f"{record.name} is not in the ledger yet ({render_error(error)}): run tracker sync")
        return False
    return True
