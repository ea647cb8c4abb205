"""tracker events and watch: what happens now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tracker.console.viewer.program import LineReader


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
        str,
        typer.Argument(
            metavar="[FILTER]",
            help='A text in name or note, or a condition, as in "val/f1 > 0.7".',
        ),
    ] = "",
    team: Annotated[
        bool, typer.Option("--team", help="Also what teammates run, asked once a minute.")
    ] = False,
    pin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUN",
            help="A run to keep on top, also an ended one (exp3, sota); may be repeated.",
        ),
    ] = None,
    every: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.2)] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print them once and end.")] = False,
) -> None:
    """Watch the running runs: epoch, loss, speed, time left, curves; ? has the keys, q leaves."""
    from tracker.commands.options import bring_runs
    from tracker.console.viewer.filters import parse_filter
    from tracker.console.viewer.program import LineReader, watch_screen
    from tracker.console.viewer.state import State
    from tracker.core.terminal import has_screen
    from tracker.ledger.resolve import resolve_run
    from tracker.run_folder.read import load_run
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    words = list(dict.fromkeys(pin or ()))
    bring_runs(workspace, *words)
    named = [resolve_run(workspace, one) for one in words]
    records = [load_run(workspace.runs_dir, name) for name in named]
    pinned = tuple(record.uid or record.name for record in records)
    state = State(filter=parse_filter(word), pinned=pinned, team=team)
    if has_screen() and not once:
        watch_screen(workspace, state, every_s=every, named=named)
        return
    _print_lines(LineReader(workspace, state, named), every, once=once)


def _print_lines(reader: LineReader, every: float, *, once: bool) -> None:
    """Print a line for each change until no run is running."""
    import time

    from tracker.core.terminal import print_note, print_text

    lines = reader.read()
    print_text("\n".join(lines) or reader.explain_none())
    while True:
        if reader.note:
            print_note(reader.note)
        if once or not reader.is_running:
            return
        time.sleep(every)
        before, lines = lines, reader.read()
        for line in lines:
            if line not in before:
                print_text(line)
