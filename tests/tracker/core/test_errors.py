"""The error trees that are drawn are the error trees that there are."""

from __future__ import annotations

import ast
import importlib
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import tracker.core.errors
import tracker.training.errors
from tracker.core.errors import TrackerError, render_error
from tracker.core.hints import HINTS, find_hint
from tracker.training.errors import ConfigError

ROOT = Path(__file__).parents[3]
TRAINING = sorted((ROOT / "training").rglob("*.py"))


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


def list_texts(path: Path) -> Iterator[str]:
    """Every text in a module: messages, docstrings and parts of f-strings."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def list_reasons(path: Path) -> Iterator[str]:
    """The reasons of the errors that a module raises."""
    module = importlib.import_module(
        ".".join(("tracker", *path.relative_to(ROOT).with_suffix("").parts))
    )
    for node in ast.walk(ast.parse(path.read_text())):
        for given in getattr(node, "keywords", ()):
            if given.arg == "reason" and isinstance(given.value, ast.Constant):
                yield str(given.value.value)
            elif given.arg == "reason" and ast.unparse(given.value).isupper():
                yield str(getattr(module, ast.unparse(given.value)))


def test_each_reason_of_an_error_of_training_has_a_hint() -> None:
    reasons = {
        name for path in TRAINING if "reason=" in path.read_text() for name in list_reasons(path)
    }
    assert reasons == set(HINTS)


def test_a_hint_has_the_facts_of_its_error() -> None:
    error = ConfigError("several machines", reason="torchrun needed", machines=2, processes=4)
    hint = "torchrun --nnodes 2 --nproc-per-node 4 --no-python tracker run train ..."
    assert find_hint(error) == hint
    assert render_error(error) == f"several machines ({hint})"


def test_an_error_keeps_its_reason_on_its_way_from_another_process() -> None:
    error = ConfigError("no", problems=["a"], reason="other config", run="exp1")
    arrived = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert find_hint(arrived) == find_hint(error) != ""


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: str(path.relative_to(ROOT)))
def test_training_says_nothing_of_the_command_line(path: Path) -> None:
    command = re.compile(r"\btracker [a-z]|(?<![\w-])--(?!force-reinstall)[a-z]")
    assert [text for text in list_texts(path) if command.search(text)] == []


@pytest.mark.parametrize("name", tracker.core.errors.__all__)
def test_what_the_errors_module_offers_is_there(name: str) -> None:
    assert hasattr(tracker.core.errors, name)


def test_the_root_of_tracker_catches_errors_of_training() -> None:
    with pytest.raises(TrackerError):
        raise ConfigError("a wrong value")
