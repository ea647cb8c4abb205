"""What a queue and a sweep print at their end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tracker.core.list_marks import BEST, explain_marks
from tracker.core.table import Cell, Column, Styled
from tracker.core.terminal import print_table, print_text, style_status
from tracker.core.text import render_number, render_value
from tracker.workspace.metrics import choose_metrics, list_measured, rank_metric_column

if TYPE_CHECKING:
    from tracker.jobs.queue import QueueResult
    from tracker.jobs.sweep import SweepResult
    from tracker.workspace.tracker_toml import Competition


def print_queue(
    results: Sequence[QueueResult], competition: Competition, *, wide: bool = False
) -> None:
    """The results of the entries of a queue."""
    names = choose_metrics(competition, list_measured(result.metrics for result in results))
    columns = [
        Column("entry", right=True),
        Column("label", leaves=1, text=True),
        Column("run"),
        Column("status", leaves=1),
        *[
            Column(f"val {name}", leaves=rank_metric_column(name, names[0]), right=True)
            for name in names
        ],
    ]
    rows: list[list[Cell]] = []
    for result in results:
        figures = [render_number(result.metrics.get(f"val/{name}")) for name in names]
        rows.append(
            [
                str(result.entry),
                result.label,
                result.run or "-",
                style_status(result.status),
                *figures,
            ]
        )
    print_table(columns, rows, wide=wide)
    for result in results:  # below the table, where a long one is not cut
        if result.reason:
            print_text(f"entry {result.entry}: {result.reason}")


def print_sweep(sweep: SweepResult, *, next_seed: int | None = None, wide: bool = False) -> None:
    """The trials of a sweep, and how to train from the best: with a seed that it did not have."""
    names = list(dict.fromkeys(name for trial in sweep.trials for name in trial.values))
    columns = [
        Column("trial"),
        Column("run"),
        Column("state", leaves=1),
        Column(sweep.monitor, leaves=1, right=True),
        *[Column(name, leaves=2) for name in names],
    ]
    # Several trials may share the best value.
    top = next((trial.value for trial in sweep.trials if trial.number == sweep.best), None)
    rows: list[list[Cell]] = []
    for trial in sweep.trials:
        is_best = sweep.best is not None and trial.value == top
        name = Styled(f"{trial.number} {BEST}", "bold green") if is_best else str(trial.number)
        rows.append(
            [
                name,
                trial.run or "-",
                style_status(trial.state),
                render_number(trial.value),
                *[render_value(trial.values.get(key)) for key in names],
            ]
        )
    legend = explain_marks([BEST] if sweep.best is not None else [])
    print_table(columns, rows, title=sweep.study, legend=legend, wide=wide)
    for trial in sweep.trials:
        if trial.reason:
            print_text(f"trial {trial.number}: {trial.reason}")
    if sweep.best is None:
        print_text("no trial was completed")
        return
    best = next(trial for trial in sweep.trials if trial.number == sweep.best)
    print_text(
        f"best: trial {best.number}, {sweep.monitor} {render_number(best.value)}, {best.run} on"
        f" {best.host}"
    )
    # the best of many trials is lucky, too: with another seed it is no repeat that is refused
    seed = f" --seed {next_seed}" if next_seed is not None else ""
    print_text(f"train from it: tracker run train --from {best.run}{seed}")
