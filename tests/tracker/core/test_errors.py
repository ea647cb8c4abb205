"""The error trees that are drawn are the error trees that there are."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import tracker.core.errors
import tracker.training.errors
from tracker.core.errors import TrackerError

ROOT = Path(__file__).parents[2]


def read_drawing(module: ModuleType) -> set[tuple[str, str, int]]:
    """(class, its base in the drawing, exit code) of each line of a module's docstring that draws a
    class."""
    drawn, above = set(), {0: "Exception"}
    for line in (module.__doc__ or "").splitlines():
        name, _, rest = line.strip().partition(" ")
        code = rest.split()
        if not name.endswith("Error") or code[:1] != ["exit"]:
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        above[depth + 1] = name
        drawn.add((name, above[depth], int(code[1])))
    return drawn


def list_errors() -> Iterator[type[TrackerError]]:
    """Every public class below TrackerError; only modules that define an error are imported."""
    yield TrackerError
    for path in [*(ROOT / "tracker").rglob("*.py"), *(ROOT / "training").rglob("*.py")]:
        nodes = ast.parse(path.read_text()).body
        names = [
            node.name
            for node in nodes
            if isinstance(node, ast.ClassDef) and node.name.endswith("Error")
        ]
        parts = path.relative_to(ROOT).with_suffix("").parts
        if not names or parts[:2] == ("tracker", "training"):
            continue
        dotted = ".".join(parts if parts[0] == "tracker" else ("tracker", *parts)).removesuffix(
            ".__init__"
        )
        for name in names:
            found = getattr(importlib.import_module(dotted), name)
            if issubclass(found, TrackerError) and not name.startswith("_"):
                yield found


def describe(error: type[TrackerError]) -> tuple[str, str, int]:
    base = error.__base__
    assert base is not None
    return error.__name__, base.__name__, error.exit_code


def test_the_whole_tree_is_drawn_and_right() -> None:
    assert read_drawing(tracker.core.errors) == {describe(error) for error in list_errors()}


def test_the_tree_of_training_is_drawn_and_right() -> None:
    own = [error for error in list_errors() if error.__module__.startswith("tracker.training.")]
    assert read_drawing(tracker.training.errors) == {describe(error) for error in own}


@pytest.mark.parametrize("name", tracker.core.errors.__all__)
def test_what_the_errors_module_offers_is_there(name: str) -> None:
    assert hasattr(tracker.core.errors, name)
