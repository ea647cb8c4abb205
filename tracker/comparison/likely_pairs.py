"""The comparisons that somebody asks for after a training, made while it waits for its copies.

numpy is loaded there already, and the wait is idle. `diff` and `check` read what was found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from tracker.core.errors import TrackerError
from tracker.run_folder.read import load_compared_config
from tracker.run_folder.record import RUN_NAME, RunRecord, run_folder
from tracker.workspace.tracker_toml import Workspace

LARGEST_MB = 2  # of validation.npz: 10,000 images of 18 classes are 1.4 and take 0.3 s


class Side(NamedTuple):
    """What a comparison of validation images needs to know of a run."""

    name: str
    config: Mapping[str, Any]
    folder: Path


def compare_likely_pairs(workspace: Workspace, record: RunRecord) -> Iterator[str]:
    """Compare a run with SOTA, with the run it was made from, and with the run before it.

    Yields the name of each after it was compared. Nothing is raised: a finished run must not fail
    for it, and the command that asks for these figures says what is wrong.
    """
    with suppress(Exception):
        if not _is_small(workspace, record.name):
            return
        side = _load_side(workspace, record)
        for other in _list_others(workspace, record):
            if _is_small(workspace, other.name):
                _compare(workspace, _load_side(workspace, other), side)
                yield other.name


def _is_small(workspace: Workspace, name: str) -> bool:
    """Whether the run has validation predictions, and so few that nobody waits for them."""
    from tracker.comparison.evidence import VALIDATION

    path = run_folder(workspace.runs_dir, name) / VALIDATION
    return path.is_file() and path.stat().st_size <= LARGEST_MB << 20


def _load_side(workspace: Workspace, record: RunRecord) -> Side:
    config = load_compared_config(workspace.runs_dir, record)
    return Side(record.name, config, run_folder(workspace.runs_dir, record.name))


def _list_others(workspace: Workspace, record: RunRecord) -> Iterator[RunRecord]:
    """SOTA's run, the parent and the run before, each once, where they are here."""
    from tracker.ledger.resolve import load_resolved

    seen = {record.name}
    match = RUN_NAME.fullmatch(record.name)
    words = ["sota", record.parent, f"exp{int(match[1]) - 1}" if match else None]
    for word in filter(None, words):
        with suppress(TrackerError):
            other = load_resolved(workspace, word)
            if other.name not in seen:
                seen.add(other.name)
                yield other


def _compare(workspace: Workspace, left: Side, right: Side) -> None:
    """Compare two runs as `diff` does, to the last digit: it multiplies in one thread."""
    from threadpoolctl import threadpool_limits

    from tracker.comparison.evidence import compare_validation, is_kept
    from tracker.comparison.statistics.decision import RESAMPLES

    if is_kept(workspace, left, right, RESAMPLES):
        with threadpool_limits(1, user_api="blas"):
            compare_validation(workspace, left, right, resamples=RESAMPLES, images=0)
