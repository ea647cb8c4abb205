"""What is said of a run after it was made: its tags, whether it is archived, and the files that
were freed.

It is `marks.json` in the run folder: it moves with the folder, no ledger is needed to read it, and
a running run, which writes run.json every few seconds, cannot overwrite it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tracker.core.clock import utc_now
from tracker.core.locks import FileLock
from tracker.runs.read import load_run
from tracker.runs.record import MARK_FIELDS, MARKS, RunRecord
from tracker.training.errors import ConfigError
from tracker.training.files import write_json
from tracker.workspace.competition import Workspace

LONGEST_TAG = 50


def check_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """The tags, each once, in their order; raises ConfigError for what cannot be a tag."""
    if isinstance(tags, str):
        raise ConfigError(f"tags: expected a list of texts, not {tags!r}", hint=f"tags=[{tags!r}]")
    found = list(tags)
    for tag in found:
        if not isinstance(tag, str) or not re.fullmatch(rf"[\w.:/+=-]{{1,{LONGEST_TAG}}}", tag):
            raise ConfigError(
                f"{tag!r} cannot be a tag",
                hint=(
                    f"1 to {LONGEST_TAG} letters, digits and . : / + = - _, without blanks:"
                    " final-candidate"
                ),
            )
    return tuple(dict.fromkeys(found))


def write_marks(folder: Path, record: RunRecord) -> None:
    """Write the marks of `record` into its folder, whole or not at all; raises StorageError."""
    plain = record.to_dict()
    write_json(folder / MARKS, {name: plain[name] for name in MARK_FIELDS})


def change_marks(workspace: Workspace, name: str, **changes: Any) -> RunRecord:
    """Change some of `MARK_FIELDS` of a run; raises UnknownRunError or StorageError."""
    with FileLock(workspace.lock_dir / "marks.lock"):
        record = replace(load_run(workspace.runs_dir, name), **changes)
        write_marks(workspace.runs_dir / name, record)
    return record


def tag_run(
    workspace: Workspace, name: str, tags: Sequence[str], *, remove: bool = False
) -> RunRecord:
    """Add tags to a run, or remove them.

    Raises UnknownRunError, StorageError, or ConfigError for what cannot be a tag, or a tag to
    remove that is not there.
    """
    wanted = check_tags(tags)
    with FileLock(workspace.lock_dir / "marks.lock"):
        record = load_run(workspace.runs_dir, name)
        if remove and (absent := [tag for tag in wanted if tag not in record.tags]):
            has = f"its tags: {', '.join(record.tags)}" if record.tags else "it has no tags"
            raise ConfigError(f"{name} has no tag {', '.join(absent)}", hint=has)
        kept = tuple(tag for tag in record.tags if tag not in wanted)
        record = replace(
            record, tags=kept if remove else tuple(dict.fromkeys([*record.tags, *wanted]))
        )
        write_marks(workspace.runs_dir / name, record)
    return record


def archive_runs(workspace: Workspace, names: Sequence[str]) -> list[RunRecord]:
    """Put runs away, all or none; raises UnknownRunError, StorageError, or ConfigError for one that
    is running."""
    records = [load_run(workspace.runs_dir, name) for name in names]
    if running := [record.name for record in records if record.status == "running"]:
        listed = f"{running[0]} is" if len(running) == 1 else f"{', '.join(running)} are"
        raise ConfigError(
            f"{listed} running: nothing was archived", hint=f"wait, or tracker stop {running[0]}"
        )
    now = utc_now()
    return [
        change_marks(workspace, record.name, archived_at=record.archived_at or now)
        for record in records
    ]


def unarchive_runs(workspace: Workspace, names: Sequence[str]) -> list[RunRecord]:
    """Take archived runs back; raises UnknownRunError or StorageError."""
    return [change_marks(workspace, name, archived_at=None) for name in names]
