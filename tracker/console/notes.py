"""Notes and corrections on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from tracker.core.table import Column
from tracker.core.terminal import print_table

if TYPE_CHECKING:
    from tracker.ledger.records import Note
    from tracker.workspace.tracker_toml import Competition


def render_newest(notes: Sequence[Note]) -> str:
    """What was noted last, and how many remarks there are before it; `-` for none."""
    earlier = f" (+{len(notes) - 1})" if len(notes) > 1 else ""
    return f"{notes[-1]}{earlier}" if notes else "-"


def render_corrections(
    before: Mapping[str, float], after: Mapping[str, float], competition: Competition
) -> Iterator[str]:
    """A line for each score that had another value."""
    for name, old in before.items():
        if after[name] != old:
            metric = competition.metric(name.partition("_")[2])
            yield (
                f"{name.replace('_', ' ')} was {metric.render(old)}; the old value stays in the"
                " ledger's history"
            )


def print_notes(notes: Sequence[Note], competition: Competition) -> None:
    """Every remark with its time and author; nothing when there is none."""
    if notes:
        times = [competition.local_time(note.time, "%Y-%m-%d %H:%M") for note in notes]
        rows = [
            (time, note.author, str(note.submission or "-"), str(note))
            for time, note in zip(times, notes, strict=True)
        ]
        columns = (
            f"noted ({competition.time_zone})",
            Column("by", leaves=2),
            Column("submission", leaves=3, right=True),
            "note",
        )
        print_table(columns, rows)
