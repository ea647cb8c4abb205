"""The page of `tracker --help`: the panels of Typer's own page, without the Markdown and traceback
machinery.

Typer's renderer imports 77 ms of it, more than everything else that --help does; see
bench/startup.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tracker.commands.group import Entry

if TYPE_CHECKING:
    from rich.panel import Panel

NARROW = 60  # columns of a terminal below which there is no room for two columns


def print_help(group: Any, context: Any, entries: Mapping[str, Entry]) -> None:
    """Print a group's usage, sentence, options and commands, a panel for each `rich_help_panel`."""
    from rich.console import Console, Group
    from rich.padding import Padding
    from rich.text import Text

    usage = Text("Usage: ", style="yellow").append(
        " ".join([context.command_path, *group.collect_usage_pieces(context)])
    )
    records = [
        record
        for option in group.get_params(context)
        if (record := option.get_help_record(context))
    ]
    panels: dict[str, list[tuple[str, str]]] = {
        "Options": [(names, text.strip()) for names, text in records]
    }
    for name, entry in entries.items():
        panels.setdefault(entry.panel, []).append((name, entry.help))
    parts = [Padding(usage, (1, 1)), Padding(Text(group.help or ""), (0, 1, 1, 1))]
    console = Console(highlight=False)
    narrow = console.width < NARROW
    console.print(
        Group(*parts, *[_panel(title, rows, narrow=narrow) for title, rows in panels.items()])
    )


def _panel(title: str, rows: list[tuple[str, str]], *, narrow: bool) -> Panel:
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(no_wrap=not narrow, ratio=1 if narrow else None, overflow="fold")
    if not narrow:
        table.add_column(ratio=1)
    for name, text in rows:
        cells = [Text(name, style="bold cyan"), Text(" ".join(text.split()))]
        if narrow:  # what it does goes below its name
            cells = [Text("\n").join(cells)]
        table.add_row(*cells)
    return Panel(table, title=title, title_align="left", border_style="dim", padding=(0, 1))
