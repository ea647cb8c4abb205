"""Groups of commands that import and build a command when it is typed, and not before.

Typer builds every command of an app at each start, which took longer than most commands work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

# Typer has its own copy of click and exports one of its errors; this is the base of them
USAGE_ERROR: Any = typer.BadParameter.__mro__[1]


class Entry(NamedTuple):
    """A command, or a group with the commands `below` it.

    `place` is "module:function" in `tracker.commands`; of a group, what it does alone, and empty
    if that is to print its page. `built_by` is the "module:class" of a command that is not Typer's
    own. `help` is its line on the page of `tracker --help`, in one of its
    panels. What is `hidden`, as an earlier name, is on no page.
    """

    place: str
    help: str = ""
    panel: str = ""
    hidden: bool = False
    below: Mapping[str, Entry] = {}
    built_by: str = ""

    def load(self) -> Any:
        """Import the function."""
        return _load(self.place)


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(f"tracker.commands.{module}"), name)


class BuiltWhenTyped(Mapping[str, Any]):
    """Typer's commands by their names, each built when it is asked for; Typer only reads it."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = entries
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            self._built[name] = _build(name, self._entries[name])
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class Command(TyperCommand):
    """A command with our own help page, which cuts no word."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The same; an option without its value names this command's page, not that of all."""
        try:
            return super().parse_args(ctx, args)
        except USAGE_ERROR as error:
            if error.ctx is None:
                error.ctx = ctx
                error.message = error.message.replace("requires an argument", "needs a value")
            raise

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from tracker.commands.help import print_help

        print_help(self, ctx, {})


class CommandGroup(TyperGroup):
    """A group with our own help page."""

    entries: Mapping[str, Entry] = {}

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from tracker.commands.help import print_help

        print_help(self, ctx, list_panels({name: self._explain(name) for name in self.entries}))

    def _explain(self, name: str) -> Entry:
        """The entry with its line on this page: the first paragraph of the command's own page."""
        entry = self.entries[name]
        return entry._replace(
            help=entry.help or (self.commands[name].help or "").partition("\n\n")[0]
        )


def list_panels(entries: Mapping[str, Entry]) -> dict[str, list[tuple[str, str]]]:
    """Names and lines of the help page by panel; nothing of what is hidden."""
    panels: dict[str, list[tuple[str, str]]] = {}
    for name, entry in entries.items():
        if not entry.hidden:
            panels.setdefault(entry.panel or "Commands", []).append((name, entry.help))
    return panels


def _build(name: str, entry: Entry) -> Any:
    """Typer's command or group for an entry."""
    app = typer.Typer(
        name=name,
        add_completion=False,
        pretty_exceptions_enable=False,
        cls=CommandGroup,
    )
    if not entry.below:
        built_by = _load(entry.built_by) if entry.built_by else Command
        app.command(name, cls=built_by, hidden=entry.hidden)(entry.load())
        return typer.main.get_command(app)
    if entry.place:
        app.callback(invoke_without_command=True)(entry.load())
    else:
        app.callback(help=entry.help, no_args_is_help=True)(_do_nothing)
    group: Any = typer.main.get_command(app)
    group.commands = BuiltWhenTyped(entry.below)
    group.entries = entry.below
    return group


def _do_nothing() -> None:
    """What a group does before its command."""
