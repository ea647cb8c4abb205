"""What users add to a run later: tags, whether it is archived, and which files were deleted.

It is `marks.json` in the run folder. So it moves with the folder, needs no ledger, and is not
overwritten by a running run, which writes run.json every few seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tracker.core.clock import utc_now
from tracker.core.locks import FileLock
from tracker.run_folder.read import load_run
from tracker.run_folder.record import MARK_FIELDS, MARKS, OPEN, RunRecord
from tracker.training.errors import ConfigError
from tracker.training.files import write_json
from tracker.workspace.tracker_toml import Workspace

MAX_TAG_CHARS = 50  # characters; a longer one does not fit a column of a list


def check_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """The tags without duplicates, in their order; raises ConfigError for an invalid tag."""
    if isinstance(tags, str):
        raise ConfigError(f"tags: expected a list of texts, not {tags!r}", hint=f"tags=[{tags!r}]")
    listed = list(tags)
    for tag in listed:
        if not isinstance(tag, str) or not re.fullmatch(rf"[\w.:/+=-]{{1,{MAX_TAG_CHARS}}}", tag):
            hint = (
                f"1 to {MAX_TAG_CHARS} letters, digits and . : / + = - _, without spaces:"
                " final-candidate"
            )
            raise ConfigError(f"{tag!r} cannot be a tag", hint=hint)
    return tuple(dict.fromkeys(listed))


def write_marks(folder: Path, record: RunRecord) -> None:
    """Write the marks of `record` into its folder, all or nothing; raises StorageError."""
    plain = record.to_dict()
    write_json(folder / MARKS, {name: plain[name] for name in MARK_FIELDS})


def change_marks(workspace: Workspace, name: str, **changes: Any) -> RunRecord:
    """Change some `MARK_FIELDS` of a run; raises UnknownRunError or StorageError."""
    with FileLock(workspace.state_dir / "marks.lock"):
        record = replace(load_run(workspace.runs_dir, name), **changes)
        write_marks(workspace.runs_dir / name, record)
    return record


def tag_run(
    workspace: Workspace, name: str, tags: Sequence[str], *, remove: bool = False
) -> RunRecord:
    """Add tags to a run, or remove them.

    Raises UnknownRunError, StorageError, or ConfigError for an invalid tag, or for a tag to remove
    that the run does not have.
    """
    wanted = check_tags(tags)
    with FileLock(workspace.state_dir / "marks.lock"):
        record = load_run(workspace.runs_dir, name)
        if remove:
            absent = [tag for tag in wanted if tag not in record.tags]
            if absent:
                has = f"its tags: {', '.join(record.tags)}" if record.tags else "it has no tags"
                raise ConfigError(f"{name} has no tag {', '.join(absent)}", hint=has)
            new = tuple(tag for tag in record.tags if tag not in wanted)
        else:
            new = tuple(dict.fromkeys([*record.tags, *wanted]))
        record = replace(record, tags=new)
        write_marks(workspace.runs_dir / name, record)
    return record


def archive_runs(workspace: Workspace, names: Sequence[str]) -> list[RunRecord]:
    """Archive runs, all or none; returns those that were not archived before.

    Raises UnknownRunError, StorageError, or ConfigError when one of them is running.
    """
    records = [load_run(workspace.runs_dir, name) for name in names]
    running = [record for record in records if record.status in OPEN]
    if running:
        states = ", ".join(f"{record.name} is {record.status}" for record in running)
        raise ConfigError(
            f"{states}: nothing was archived", hint=f"wait, or tracker stop {running[0].name}"
        )
    now = utc_now()
    return [
        change_marks(workspace, record.name, archived_at=now)
        for record in records
        if not record.archived_at
    ]


def unarchive_runs(workspace: Workspace, names: Sequence[str]) -> list[RunRecord]:
    """Bring archived runs back; returns those that were archived.

    Raises UnknownRunError or StorageError.
    """
    records = [load_run(workspace.runs_dir, name) for name in names]
    return [
        change_marks(workspace, record.name, archived_at=None)
        for record in records
        if record.archived_at
    ]
