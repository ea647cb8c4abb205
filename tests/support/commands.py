"""Every command of the command line, by its words."""

from __future__ import annotations

from collections.abc import Iterator

import click
import typer

from tracker.commands.table import app


def list_commands() -> Iterator[tuple[str, click.Command]]:
    """Every command by its words, without groups and earlier names."""

    def walk(command: click.Command, words: str) -> Iterator[tuple[str, click.Command]]:
        children = getattr(command, "commands", {})
        for name, child in children.items():
            if not child.hidden:  # an earlier name
                yield from walk(child, f"{words} {name}".strip())
        if not children:
            yield words, command

    yield from walk(typer.main.get_command(app), "")


COMMANDS = dict(list_commands())
