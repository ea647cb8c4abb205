"""Texts for people: no control characters, and numbers in four significant digits."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from tracker.training.errors import ConfigError, find_nearest, first_line
from tracker.training.numbers import render_decimals, render_digits, render_float

__all__ = ["find_nearest", "first_line", "render_minute"]

LONGEST_ANSWER = 40  # characters of an answer in a list


def render_minute(time: str | None, *, unknown: str = "") -> str:
    """A UTC text to the minute, for people: `2026-11-24 02:11`."""
    return time[:16].replace("T", " ") if time else unknown


def check_utf8(what: str, text: str) -> None:
    """Raise ConfigError for a text that is not valid UTF-8 or has a NUL character.

    PostgreSQL stores no NUL. `what` names the text in the message.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{what} is not UTF-8 (character {error.start + 1})",
            hint="check the encoding of the terminal",
        ) from error
    if "\0" in text:
        raise ConfigError(
            f"{what} has a NUL (character {text.index(chr(0)) + 1}): no database keeps it",
            hint="leave that character out",
        )


# Control characters, line separators, marks that change the direction of text, and bytes that are
# not UTF-8. Newlines are allowed.
_STEERING = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def clean_text(text: str) -> str:
    """A text that cannot control a terminal: such characters are shown as `\\x1b` or `\\u202e`."""
    return _STEERING.sub(lambda match: ascii(match[0])[1:-1], text)


def render_answer(text: str) -> str:
    """An answer in a list: no answer has a word, and of a long one, as a mask is, the beginning."""
    if len(text) <= LONGEST_ANSWER:
        return text or "(empty)"
    return f"{text[:LONGEST_ANSWER]}... ({len(text):,} characters)"


def render_number(value: Any, *, signed: bool = False) -> str:
    """A number in four significant digits; `-` when unknown."""
    if isinstance(value, float):
        return render_float(value, signed=signed)
    return "-" if value is None else str(value)


def render_value(value: Any, *, whole: bool = False) -> str:
    """A config value as it is typed; `-` when there is none. A text of several lines is quoted.

    Its floats have four significant digits, or all of them with `whole`.
    """
    if value is None:
        return "-"
    if isinstance(value, str) and len(value.splitlines()) <= 1:
        return value
    return json.dumps(value if whole else _shorten(value), ensure_ascii=False)


def _shorten(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_shorten(item) for item in value]
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    return float(render_digits(value, 4) if abs(value) < 1000 else render_decimals(value, 0))


def render_values(values: Sequence[Any]) -> list[str]:
    """Config values side by side: with all digits if four would make different ones look equal."""
    short = [render_value(value) for value in values]
    whole = [render_value(value, whole=True) for value in values]
    return short if len(set(short)) == len(set(whole)) else whole


def join_numbers(numbers: Sequence[int], noun: str = "submission") -> str:
    """`submissions 1, 2 and 3`."""
    words = [str(number) for number in numbers]
    if len(words) == 1:
        return f"{noun} {words[0]}"
    return f"{noun}s {', '.join(words[:-1])} and {words[-1]}"
