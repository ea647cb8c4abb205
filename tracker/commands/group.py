"""Groups of commands that import and build a command when it is typed, and not before.

Typer builds every command of an app at each start, which took longer than most commands work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import typer


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


def _build(name: str, entry: Entry) -> Any:
    """Typer's command or group for an entry."""
    app = typer.Typer(
        name=name,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    if not entry.below:
        built_by = _load(entry.built_by) if entry.built_by else None
        app.command(name, cls=built_by, hidden=entry.hidden)(entry.load())
        return typer.main.get_command(app)
    if entry.place:
        app.callback(invoke_without_command=True)(entry.load())
    else:
        app.callback(help=entry.help, no_args_is_help=True)(_do_nothing)
    group: Any = typer.main.get_command(app)
    group.commands = BuiltWhenTyped(entry.below)
    return group


def _do_nothing() -> None:
    """What a group does before its command."""
