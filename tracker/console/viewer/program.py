"""`tracker watch` in a terminal: read, draw, wait for a key, until q."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tracker.console.viewer.draw import draw_screen
from tracker.console.viewer.feed import OwnFeed, OwnView, Poller
from tracker.console.viewer.filters import parse_filter
from tracker.console.viewer.plot import Style
from tracker.console.viewer.state import RUNNING, Scene, State, explain_none, list_shown, press
from tracker.console.viewer.terminal import Terminal
from tracker.console.watch import render_line
from tracker.core.errors import TrackerError, render_error
from tracker.core.signals import HANGUP, terminate_as_interrupt
from tracker.core.terminal import has_color
from tracker.mirror.team import ASK_AGAIN_S
from tracker.mirror.team_watch import TeamView, TeamWatcher
from tracker.workspace.tracker_toml import Workspace

BEYOND_ASCII = "\u2588\u28ff"  # blocks and dots


def watch_screen(
    workspace: Workspace, state: State, *, every_s: float, named: Sequence[str] = ()
) -> None:
    """Show the running runs and those that are `named` until q.

    Raises KeyboardInterrupt for Ctrl-C, SIGTERM and SIGHUP, and what a look did not expect.
    """
    style = Style(color=has_color(), unicode=_has_unicode())
    with terminate_as_interrupt(*HANGUP), Terminal() as terminal:
        feed = OwnFeed(workspace, named)
        own = Poller(feed.read, OwnView(), every_s=every_s, wake=terminal.wake)
        team = Poller(
            TeamWatcher(workspace).read, TeamView(), every_s=ASK_AGAIN_S, wake=terminal.wake
        )
        with _stopping(own, team):
            while not state.left:
                if _tell_feed(feed, state):
                    own.hurry()
                own.start()
                if state.team:
                    team.start()
                scene = build_scene(own, team)
                size = terminal.measure()
                lines = draw_screen(state, scene, width=size[0], height=size[1], style=style)
                terminal.show(lines, size)
                for key in terminal.wait():
                    state = press(state, key, scene)


class LineReader:
    """The same runs as plain lines, for a pipe; `note` says why something is not known, once."""

    def __init__(self, workspace: Workspace, state: State, named: Sequence[str]) -> None:
        self.note = ""
        self.is_running = False
        self._state = state
        self._feed = OwnFeed(workspace, named)
        _tell_feed(self._feed, state)
        self._team = TeamWatcher(workspace) if state.team else None
        self._asked, self._found, self._noted = float("-inf"), TeamView(), ""

    def read(self) -> list[str]:
        """A line for each run now; raises ConfigError for a name that no condition may have,
        LedgerError or StorageError."""
        own = self._feed.read()
        if own.names is not None:
            parse_filter(self._state.filter.text, own.names)
        problem = self._ask_team()
        self.note = problem if problem != self._noted else ""
        self._noted = problem
        values = {**self._found.values, **own.values}
        scene = Scene(own=own.runs, team=self._found.runs, values=values)
        shown = list_shown(self._state, scene)
        self.is_running = any(run.status in RUNNING for run in shown)
        return [render_line(run) for run in shown]

    def _ask_team(self) -> str:
        """Ask at most once a minute; why there was no answer."""
        if self._team is None or time.monotonic() - self._asked < ASK_AGAIN_S:
            return self._noted
        self._asked = time.monotonic()
        try:
            self._found = self._team.read()
        except TrackerError as error:
            return render_error(error)
        return self._found.problem

    def explain_none(self) -> str:
        """What is said instead of lines."""
        return explain_none(self._state)


@contextmanager
def _stopping(*pollers: Poller[OwnView] | Poller[TeamView]) -> Iterator[None]:
    try:
        yield
    finally:
        for poller in pollers:
            poller.stop()


def _tell_feed(feed: OwnFeed, state: State) -> bool:
    """What the state needs to know; whether a condition would have to wait for the next look."""
    feed.pinned = state.pinned
    before = feed.with_values
    feed.with_values = state.typing is not None or state.filter.condition is not None
    return feed.with_values and not before


def build_scene(own: Poller[OwnView], team: Poller[TeamView]) -> Scene:
    """What both have found; raises what one of them did not expect."""
    for poller in (own, team):
        if poller.crash is not None:
            raise poller.crash
    return Scene(
        own=own.latest.runs,
        team=team.latest.runs,
        team_note=team.problem or team.latest.problem or team.latest.note or "asking the team",
        problem=own.problem,
        values={**team.latest.values, **own.latest.values},
        names=own.latest.names,
    )


def _has_unicode() -> bool:
    """Whether the terminal's encoding has blocks and dots."""
    try:
        BEYOND_ASCII.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
