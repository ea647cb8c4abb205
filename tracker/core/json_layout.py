"""JSON in the layout of `json.dumps(value, indent=1)`, a tenth of the time.

With `indent` the json module takes its encoder in Python. The one in C lays out everything that has
no list or table inside, as its separators may have line breaks.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from json.encoder import encode_basestring
from typing import Any

TABLES = (dict, list, tuple)
MANY = 5000  # tables whose text is remembered
SHARED_DEPTH = 2  # the items of a list are tables of depth 1, each for itself


class JsonLayout:
    """Renders values one after the other; nobody changes a table between them.

    Very many items of a list share a table, such as a config: its text is made once.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[Any, str]] = {}

    def render(self, value: Any, depth: int = 0) -> str:
        """The text of a value that stands `depth` levels deep.

        Raises ValueError for NaN and infinity, which JSON does not have.
        """
        if not isinstance(value, TABLES):
            return _render_single(value)
        first, last = "{}" if isinstance(value, dict) else "[]"
        if not value:
            return first + last
        items = value.values() if isinstance(value, dict) else value
        if any(isinstance(item, TABLES) for item in items):
            body = self._render_nested(value, depth)
        else:
            body = _encode(depth + 1)(value)[1:-1]
        return f"{first}\n{' ' * (depth + 1)}{body}\n{' ' * depth}{last}"

    def _render_nested(self, value: Any, depth: int) -> str:
        """What is between the brackets of a table that has others inside."""
        key = (id(value), depth)
        if (known := self._known.get(key)) is not None:
            return known[1]
        between = ",\n" + " " * (depth + 1)
        if isinstance(value, dict):
            pairs = value.items()
            text = between.join([_render_key(k) + self.render(v, depth + 1) for k, v in pairs])
        else:
            text = between.join([self.render(item, depth + 1) for item in value])
        if depth >= SHARED_DEPTH:
            if len(self._known) >= MANY:
                self._known.clear()
            self._known[key] = (value, text)  # while it is here, nothing else gets its id
        return text


def _render_single(value: Any) -> str:
    if type(value) is str:
        return encode_basestring(value)
    return "null" if value is None else _encode(0)(value)


def _render_key(key: Any) -> str:
    if type(key) is str:
        return f"{encode_basestring(key)}: "
    return _encode(0)({key: 0})[1:-2]


@cache
def _encode(depth: int) -> Callable[[Any], str]:
    """The encoder whose items stand on lines of their own, `depth` levels deep."""
    between = ",\n" + " " * depth
    return json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(between, ": ")).encode
