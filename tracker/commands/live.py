"""tracker events and watch: what happens now."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tracker.run_folder.running import RunWatcher


def events_command(
    since: Annotated[
        str,
        typer.Option(metavar="T", help='30m, 2h, 3d, or a time: "2026-11-24 21:00".'),
    ] = "24h",
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with new events until Ctrl-C.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON list; with -f one object on each line.")
    ] = False,
) -> None:
    """Show what happened: runs that started, ended or died, advice, SOTA, quota, deadline."""
    import datetime as dt
    import json

    from tracker.core.terminal import print_json, print_note, print_text
    from tracker.events.stream import follow_events, parse_since, read_events
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    competition = workspace.competition
    start = parse_since(since, competition, dt.datetime.now(dt.UTC))
    if as_json and not follow:
        print_json([event.to_dict() for event in read_events(workspace, start)])
        return
    events = read_events(workspace, start)
    if follow:
        events = follow_events(workspace, start, on_problem=print_note)
    count = 0
    for count, event in enumerate(events, start=1):  # noqa: B007
        plain = event.to_dict()
        if as_json:
            print(json.dumps(plain, ensure_ascii=False), flush=True)
        else:
            when = competition.local_time(plain["time"], "%m-%d %H:%M:%S")
            print_text(f"{when}  {event.kind:<11}  {' '.join(event.text.split())}")
    if not count:
        print_note(f"nothing happened since {start:%Y-%m-%d %H:%M} UTC")


def watch_command(
    word: Annotated[
        str, typer.Argument(metavar="[WORD]", help="Only runs with this in their name or note.")
    ] = "",
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.2)] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print them once and end.")] = False,
) -> None:
    """Watch the running runs of this workspace: epoch, loss, speed, time left, curve; q leaves."""
    import sys

    from tracker.console.watch import draw_running, render_line
    from tracker.core.terminal import find_width, has_color, print_text
    from tracker.run_folder.running import RunWatcher
    from tracker.workspace.tracker_toml import find_workspace

    watcher = RunWatcher(find_workspace())
    if sys.stdout.isatty() and not once:
        _watch_screen(
            lambda: draw_running(watcher.read(word), width=find_width(), color=has_color()), every
        )
        return
    lines = [render_line(run) for run in watcher.read(word)]
    print_text("\n".join(lines) or "no run is running")
    while lines and not once:
        lines = _print_changes(watcher, word, every, lines)


def _print_changes(watcher: RunWatcher, word: str, every: float, before: list[str]) -> list[str]:
    """Wait, then print the lines that are new; returns all lines now."""
    import time

    from tracker.console.watch import render_line

    time.sleep(every)
    lines = [render_line(run) for run in watcher.read(word)]
    for line in lines:
        if line not in before:
            print(line, flush=True)
    return lines


def _watch_screen(draw: Callable[[], list[str]], every: float) -> None:
    """Draw again and again until q is typed or Ctrl-C."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from tracker.core.terminal import wait_for_key

    console = Console()
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            text = "\n".join([*draw(), "", "q leaves; the runs go on"])
            live.update(Text.from_ansi(text), refresh=True)
            if wait_for_key("q", every):
                return
