"""What is done when a process first reads a ledger; `tracker.cli` says what, in a command.

The reader of the ledger knows no workspace, and a command says not whether it reads the ledger.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Action = Callable[[str, Any], None]  # the ledger's address, and the function for queries
_actions: list[Action] = []
_done: set[str] = set()


def on_first_read(action: Action) -> None:
    """Call `action` when a ledger is first read."""
    _actions[:] = [action]


def mark_read(url: str) -> None:
    """This ledger is looked at in another way: nothing is to be done at the first read."""
    _done.add(url)


def notify_read(url: str, query: Any) -> None:
    """The ledger at `url` is open for `query`."""
    if _actions and url not in _done:
        _done.add(url)  # before the action, which may read, too
        _actions[0](url, query)
