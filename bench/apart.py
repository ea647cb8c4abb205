"""Programs that are compared, each in a process of its own that waits for its turn.

What tracker sets for its process must not help another: how threads wait, and what memory is kept.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

POLICIES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
TRACKER: Mapping[str, str] = {"GOMP_SPINCOUNT": "1000"}  # set before torch is imported
SPINNING: Mapping[str, str] = {}  # as torch is for who sets nothing


class Apart:
    """A process that answers one question after the other."""

    def __init__(
        self, environment: Mapping[str, str], serve: Callable[..., None], *args: Any
    ) -> None:
        context = multiprocessing.get_context("spawn")  # torch reads the environment anew
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, serve, *args))
        with _set_policy(environment):
            self._process.start()
        other.close()

    def ask(self) -> Any:
        """The next answer; raises EOFError when the process has ended."""
        self._pipe.send(True)
        return self._pipe.recv()

    def end(self) -> None:
        """End the process."""
        with suppress(BrokenPipeError):
            self._pipe.send(False)
        self._process.join()


class Ended(Exception):
    """No more answers are wanted."""


def wait_for_word(pipe: Connection) -> None:
    """Return when the next answer is wanted; raises Ended."""
    if not pipe.recv():
        raise Ended


def apart(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What a function returns in a process of its own, which is as tracker's are."""
    with _set_policy(TRACKER), multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args, options)


def _serve(pipe: Connection, serve: Callable[..., None], *args: Any) -> None:
    with suppress(Ended):
        wait_for_word(pipe)
        serve(pipe, *args)


@contextmanager
def _set_policy(environment: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.pop(name) for name in POLICIES if name in os.environ}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name in POLICIES:
            os.environ.pop(name, None)
        os.environ.update(before)
