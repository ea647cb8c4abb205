"""tracker events: what happens now."""

from __future__ import annotations

from typing import Annotated

import typer


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
