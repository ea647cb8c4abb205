"""The rows of the ledger as texts, in the order in which they were added."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tracker.ledger.columns import MAX_INTEGER
from tracker.ledger.connection import Row, open_reader
from tracker.ledger.team_runs import name_runs
from tracker.workspace.tracker_toml import Workspace


@dataclass(frozen=True, kw_only=True)
class Event:
    """A row of the ledger as a text."""

    seq: int
    kind: str
    submission: int | None
    time: str | None
    author: str | None
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        return asdict(self)


HISTORY = {
    "run": (
        "SELECT seq, NULL AS submission, finished_at AS time, author, name AS run, uid AS run_uid,"
        " status FROM runs"
    ),
    "submission": (
        "SELECT seq, number AS submission, submitted_at AS time, author, run, run_uid, memo FROM"
        " submissions"
    ),
    "score": "SELECT seq, submission, scored_at AS time, author, split, metric, value FROM scores",
    "note": (
        "SELECT seq, submission, noted_at AS time, author, kind AS what, text, "
        "run_uid, (SELECT max(r.name) FROM runs r WHERE r.uid = notes.run_uid) AS run FROM notes"
    ),
}


def list_history(
    workspace: Workspace, *, submission: int | None = None, limit: int = 0
) -> list[Event]:
    """Every row as it was added, including scores that were corrected later.

    With `submission` only its rows; with `limit` only the newest.
    """
    events = []
    with open_reader(workspace.ledger_url) as query:
        for kind, sql in HISTORY.items():
            if submission is not None and kind == "run":
                continue
            column = "number" if kind == "submission" else "submission"
            where = f" WHERE {column} = :submission" if submission is not None else ""
            known = {"limit": min(limit, MAX_INTEGER) or MAX_INTEGER}
            if submission is not None:
                known["submission"] = submission
            rows = [
                dict(row) for row in query(f"{sql}{where} ORDER BY seq DESC LIMIT :limit", known)
            ]
            if kind != "score":
                for row, name in zip(rows, name_runs(workspace.runs_dir, query, rows), strict=True):
                    row["run"] = name
            for row in rows:
                shared = {name: row.pop(name) for name in ("seq", "submission", "time", "author")}
                text = _describe_event(workspace, kind, row)
                events.append(Event(kind=kind, **shared, text=text))
    events.sort(key=lambda event: event.seq)
    return events[-limit if limit else None :]


def _describe_event(workspace: Workspace, kind: str, row: Row) -> str:
    if kind == "run":
        return f"{row['run']} {row['status']}"
    if kind == "submission":
        return f"{row['run'] or 'unknown run'}: {row['memo']}"
    if kind == "score":
        metric = next((m for m in workspace.competition.metrics if m.name == row["metric"]), None)
        value = metric.render(row["value"]) if metric else row["value"]
        return f"{row['split']} {row['metric']} {value}"
    about = f" on {row['run']}" if row["run"] else ""
    return f"{row['what']}{about}: {row['text']}"
