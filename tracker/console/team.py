"""The runs of everybody on a terminal."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tracker.core.table import Cell, Column, Styled
from tracker.core.terminal import print_table, print_text, style_status
from tracker.core.text import render_number
from tracker.workspace.metrics import choose_metrics, list_measured, rank_metric_column

if TYPE_CHECKING:
    from tracker.mirror.team import TeamRun
    from tracker.workspace.tracker_toml import Competition


def print_team(
    runs: Sequence[TeamRun],
    submitted: Mapping[str, int],
    competition: Competition,
    *,
    wide: bool = False,
) -> None:
    """A line a run, with author and host; `submitted` has submission numbers by uid."""
    if not runs:
        print_text("no run of anybody yet")
        return
    names = choose_metrics(competition, list_measured(run.metrics for run in runs))
    primary = competition.primary_metric
    columns = [
        Column("run"),
        Column("author", leaves=6),
        Column("host", leaves=5),
        Column("status", leaves=1),
        Column("best epoch", leaves=4, right=True),
        *[
            Column(f"val/{name}", leaves=rank_metric_column(name, primary), right=True)
            for name in names
        ],
        Column("submission", leaves=2, right=True),
        Column(f"created ({competition.time_zone})", leaves=7),
        Column("here", leaves=8),
    ]
    rows: list[list[Cell]] = []
    for run in runs:
        row: list[Cell] = [
            run.name,
            run.author,
            run.host,
            _render_status(run, competition),
            render_number(run.best_epoch),
            *[render_number(run.metrics.get(f"val/{name}")) for name in names],
            str(submitted.get(run.uid, "-")),
            competition.local_time(run.created_at),
            run.place or "-",
        ]
        rows.append(row)
    print_table(columns, rows, wide=wide)


def _render_status(run: TeamRun, competition: Competition) -> Styled:
    if not run.silent:
        return style_status(run.status)
    if not run.heartbeat:
        return Styled("running, no heartbeat", "yellow")
    today = competition.local_time(dt.datetime.now(dt.UTC).isoformat(), "%Y-%m-%d")
    since = competition.local_time(run.heartbeat)
    return Styled(f"silent since {since.removeprefix(today).strip()}", "yellow")
