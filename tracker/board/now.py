"""What happens now: the clocks of quota and deadline, the running runs, the newest events."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tracker.board.curves import Points, draw_curves
from tracker.board.state import Elsewhere, State
from tracker.console.watch import render_left
from tracker.core.clock import from_utc_text
from tracker.core.text import render_number
from tracker.events.event import Event
from tracker.events.stream import read_events
from tracker.mirror.team import TeamRun
from tracker.run_folder.running import RunningRun
from tracker.workspace.quota import Quota
from tracker.workspace.tracker_toml import Competition, Workspace

EVENTS_SINCE = dt.timedelta(hours=24)
MAX_EVENTS = 12
CARD = (340.0, 150.0)  # of a curve
NO_CURVE = Markup("")


@dataclass(frozen=True, kw_only=True)
class Clock:
    """A fact with a time to count down to: `until` is UTC text, None where nothing is counted.

    `text` is the fact when the page is made, `after` what is shown when the time has come.
    """

    label: str
    text: str
    until: str | None = None
    after: str = ""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A running run: where it is as (label, text), and its curve; `about` says who and where.

    `run` is None for a teammate's run, which has no page here before it ends.
    """

    title: str
    run: str | None
    about: str
    facts: Sequence[tuple[str, str]]
    drawing: Markup = NO_CURVE


@dataclass(frozen=True, kw_only=True)
class Now:
    """What happens now; `events` are the newest, the last one first."""

    clocks: Sequence[Clock]
    cards: Sequence[Card]
    team_problem: str
    events: Sequence[Event]


def read_now(workspace: Workspace, state: State, quota: Quota, now: dt.datetime) -> Now:
    """What happens at `now` (aware); raises LedgerError or StorageError."""
    events = _drop_earlier_bests(read_events(workspace, now - EVENTS_SINCE))
    cards = [
        _build_card(run, f"running-{place}") for place, run in enumerate(state.running, start=1)
    ]
    cards += [
        _build_team_card(run, state.team, workspace.competition, f"elsewhere-{place}")
        for place, run in enumerate(state.team.running, start=1)
    ]
    return Now(
        clocks=list(list_clocks(quota, workspace.competition, now)),
        cards=cards,
        team_problem=state.team.problem,
        events=events[::-1][:MAX_EVENTS],
    )


def _drop_earlier_bests(events: Iterable[Event]) -> list[Event]:
    """Of the best epochs of a run only the newest: a training has one every few minutes."""
    kept: dict[str, Event] = {}
    for event in events:
        key = f"best:{event.run}" if event.kind == "best" else event.id
        kept.pop(key, None)
        kept[key] = event
    return list(kept.values())


def list_clocks(quota: Quota, competition: Competition, now: dt.datetime) -> Iterator[Clock]:
    """How many submissions are left, when there are new ones, and the deadline."""
    if quota.left is None:
        yield Clock(label="Submitted today", text=f"{quota.used}, no daily limit")
    else:
        yield Clock(label="Submissions left", text=f"{quota.left} of {quota.limit}")
    if quota.used and quota.resets_at:
        label = f"All {quota.limit} again in"
        if competition.quota_window == "rolling":
            label = "The next one in"
        yield _count_down(label, quota.resets_at, now, "now")
    if quota.deadline:
        at = competition.local_time(quota.deadline)
        label = f"To the deadline, {at} ({competition.time_zone})"
        yield _count_down(label, quota.deadline, now, "it has passed")


def _count_down(label: str, until: str, now: dt.datetime, after: str) -> Clock:
    seconds = (from_utc_text(until) - now).total_seconds()
    text = render_span(seconds) if seconds > 0 else after
    return Clock(label=label, text=text, until=until, after=after)


def render_span(seconds: float) -> str:
    """A time span to the minute: `2 d 3 h 12 min`."""
    minutes = max(int(seconds // 60), 0)
    days, hours, rest = minutes // 1440, minutes // 60 % 24, minutes % 60
    if not minutes:
        return "less than a minute"
    parts = [(days, "d"), (hours, "h"), (rest, "min")]
    while parts and not parts[0][0]:
        parts = parts[1:]
    return " ".join(f"{number} {unit}" for number, unit in parts)


def _build_card(run: RunningRun, name: str) -> Card:
    epoch = f"{run.epoch}" if run.epochs is None else f"{run.epoch} of {run.epochs}"
    facts = [("epoch", epoch)]
    if run.value is not None:
        facts += [(f"{run.metric} now", render_number(run.value))]
        facts += [("best", render_number(run.best))]
    if run.loss is not None:
        facts.append(("train/loss", render_number(run.loss)))
    if run.images_per_s is not None:
        facts.append(("images/s", f"{run.images_per_s:.0f}"))
    if run.gpu_percent is not None:
        facts.append(("GPU", f"{run.gpu_percent:.0f} %"))
    if run.left_s is not None:
        facts.append(("time left", render_left(run.left_s)))
    points = list(zip(run.curve_epochs, run.curve, strict=True))
    drawing = _draw_card(run.name, run.metric, points, name, run.epochs)
    return Card(title=run.name, run=run.name, about="", facts=facts, drawing=drawing)


def _draw_card(run: str, metric: str, points: Points, name: str, epochs: int | None) -> Markup:
    width, height = CARD
    title = f"{metric} of {run}"
    return draw_curves(
        title, {metric: points}, width=width, height=height, name=name, epochs=epochs
    )


def _build_team_card(run: TeamRun, team: Elsewhere, competition: Competition, name: str) -> Card:
    known = run.metrics.items()
    facts = [(name, render_number(value)) for name, value in known if value is not None]
    if run.best_epoch is not None:
        facts = [("best epoch", str(run.best_epoch)), *facts]
    beat = competition.local_time(run.heartbeat, "%H:%M")
    if run.silent:
        facts.append(("silent since", beat))
    about = f"{run.author} on {run.host}, since {competition.local_time(run.created_at)}"
    # MLflow has the steps of the values, one value for each epoch
    points = list(enumerate(team.curves.get(run.uid, ()), start=1))
    drawing = _draw_card(run.name, team.metric, points, name, None)
    return Card(title=run.name, run=None, about=about, facts=facts, drawing=drawing)
