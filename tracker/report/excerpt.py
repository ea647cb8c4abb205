"""Which submissions a report shows: all of them, or of a very large ledger some.

A browser does not show a page of 150,000 submissions, and reading them takes a minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tracker.ledger.read import (
    count_submissions,
    find_sota,
    list_best_numbers,
    list_duplicates,
    list_numbered,
    list_numbers,
    list_sota_numbers,
    list_submissions,
)
from tracker.ledger.records import Submission
from tracker.workspace.tracker_toml import Workspace

MOST = 20_000  # submissions of a ledger whose report shows all
NEWEST, BEST = 2000, 100  # of a larger one that are shown
MOST_ANCESTORS = 100  # of SOTA in the family of such a report


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """The submissions that a report shows, `rows` by number, of the `total` of the ledger.

    Where these are not all, the last `newest` of them are the newest ones of the ledger.
    """

    rows: Sequence[Submission]
    total: int
    newest: int

    @property
    def is_whole(self) -> bool:
        """Whether the report shows every submission."""
        return self.total == self.newest


def read_excerpt(workspace: Workspace) -> Excerpt:
    """All submissions, or the newest, the best, each that became SOTA, and what they need."""
    total = count_submissions(workspace)
    if total <= MOST:
        rows = list_submissions(workspace)
        return Excerpt(rows=rows, total=len(rows), newest=len(rows))
    primary, numbers = workspace.competition.primary, set(list_sota_numbers(workspace))
    for split, most in (("public", BEST), ("private", 1)):
        best = list_best_numbers(
            workspace, f"{split}_{primary.name}", most, higher_is_better=primary.higher_is_better
        )
        numbers.update(best or ())
    since = list_numbers(workspace)[-NEWEST]
    return Excerpt(rows=read_compared(workspace, numbers, since), total=total, newest=NEWEST)


def read_compared(
    workspace: Workspace, numbers: set[int], since: int | None = None
) -> list[Submission]:
    """SOTA, these submissions and all from `since` on, those that they repeat, and those that were
    SOTA at their time."""
    best = find_sota(workspace)
    wanted = numbers | ({best.number} if best else set())
    rows = list_numbered(workspace, wanted, since=since)
    known = {row.number for row in rows}
    related = {row.sota for row in rows if row.sota is not None}
    related |= set(list_duplicates(workspace, known).values())
    return sorted([*rows, *list_numbered(workspace, related - known)], key=lambda row: row.number)
