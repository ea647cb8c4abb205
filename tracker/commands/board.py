"""tracker board."""

from __future__ import annotations

from typing import Annotated

import typer


def board_command(
    port: Annotated[int, typer.Option(help="Port; 0: any free one.", min=0, max=65535)] = 5001,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; one that others reach needs TRACKER_BOARD_PASSWORD."
        ),
    ] = "127.0.0.1",
    browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Serve the report as a live page: leaderboard, quota, deadline, running runs, each run.

    It reads the ledger and the run folders and writes nothing. Without --host only this machine
    reaches it.
    """
    from tracker.board.serve import serve_board
    from tracker.workspace.tracker_toml import find_workspace

    serve_board(find_workspace(), host=host, port=port, browser=browser)
