"""The help pages: the panels of Typer's own pages, without the Markdown and traceback machinery.

Typer's renderer imports 77 ms of it, more than everything else that --help does; see
bench/startup.py. And it cuts long words, which are the names of keys and settings here; these pages
cut none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.panel import Panel

Rows = list[tuple[str, str]]

NARROW = 60  # columns of a terminal below which there is no room for two columns
NAME_SHARE = 0.4  # of the width: where names need more, what an option does goes below its name


def print_help(command: Any, context: Any, commands: Mapping[str, Rows]) -> None:
    """Print usage, sentences, arguments and options, a panel for each `rich_help_panel`, and the
    `commands` of a group by panel: names and what they do."""
    from rich.console import Console, Group
    from rich.padding import Padding
    from rich.text import Text

    usage = Text("Usage: ", style="yellow").append(
        " ".join([context.command_path, *command.collect_usage_pieces(context)])
    )
    parts = [Padding(usage, (1, 1)), Padding(Text(_reflow(command.help or "")), (0, 1, 1, 1))]
    console = Console(highlight=False)
    panels = {**_list_parameters(command, context), **commands}
    console.print(
        Group(*parts, *[_panel(title, rows, console.width) for title, rows in panels.items()])
    )


def _reflow(text: str) -> str:
    """Paragraphs as one line each, so that only the terminal's width breaks them."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _list_parameters(command: Any, context: Any) -> dict[str, Rows]:
    """Names and explanations of what a command takes, by panel; nothing of what is hidden."""
    panels: dict[str, Rows] = {}
    for kind, title in (("argument", "Arguments"), ("option", "Options")):
        for parameter in command.get_params(context):
            record = parameter.get_help_record(context)
            if record and parameter.param_type_name == kind:
                panel = getattr(parameter, "rich_help_panel", None) or title
                panels.setdefault(panel, []).append((record[0], " ".join(record[1].split())))
    return panels


def _panel(title: str, rows: Rows, width: int) -> Panel:
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    longest = max(len(name) for name, _ in rows)
    is_stacked = width < NARROW or longest > NAME_SHARE * width
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(no_wrap=not is_stacked, ratio=1 if is_stacked else None, overflow="fold")
    if not is_stacked:
        table.add_column(ratio=1, overflow="fold")
    for name, text in rows:
        cells = [Text(name, style="bold cyan"), Text(_reflow(text))]
        if is_stacked:  # what it does goes below its name
            cells = [Text("\n").join([cells[0], Text("    ") + cells[1]])]
        table.add_row(*cells)
    return Panel(table, title=title, title_align="left", border_style="dim", padding=(0, 1))
