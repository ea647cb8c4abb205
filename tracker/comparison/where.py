"""Conditions on runs, as in `val/f1 > 0.75 and model.name ~ swin`.

    condition  = both { "or" both }
    both       = single { "and" single }
    single     = "not" single | "(" condition ")" | NAME operator VALUE
    operator   = "=" | "==" | "!=" | "<" | "<=" | ">" | ">=" | "~" | "!~"

A name is a config key, a metric or a field of a run. A value is a number, true, false, null, a list
as in TOML, or a text, in quotes if it has spaces or brackets. `~` searches for a regular expression
anywhere in the value and ignores case. A value that is unknown for a run satisfies `= null` and no
other comparison.
"""

from __future__ import annotations

import operator
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracker.comparison.ordering import suggest_name
from tracker.training.errors import ConfigError
from tracker.training.numbers import render_float
from tracker.training.tables import parse_toml_value

Values = Mapping[str, Any]
Predicate = Callable[[Values], bool]
ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
MAX_NAMED = 4  # runs or values in a sentence
MAX_NESTING = 100  # brackets and nots within each other
OPERATORS = ("=", "==", "!=", *ORDER, "~", "!~")
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<bracket>[()])
    | (?P<operator><=|>=|==|!=|!~|[<>=~])
    | (?P<quoted>"(?:[^"\\]|\\.)*"|'[^']*'|\[[^\]]*\])
    | (?P<word>[^\s()<>=!~"'\[\]]+)
    | (?P<end>$)
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Condition:
    """A parsed condition: the names in it with their positions, and the test of a run's values."""

    text: str
    names: tuple[tuple[str, int], ...]
    test: Predicate

    @property
    def asks_status(self) -> bool:
        """Whether it asks how runs ended: then unfinished runs are searched, too."""
        return any(name == "status" for name, _ in self.names)

    def check_names(self, known: Iterable[str]) -> None:
        """Raise ConfigError for a name that no run has, with the nearest known name."""
        names = list(dict.fromkeys(known))
        for name, position in self.names:
            if name not in names:
                hint = suggest_name(name, names)
                raise _error(self.text, position, f"no run has {name!r}", hint=hint)


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    position: int


def parse_where(text: str) -> Condition:
    """Parse a condition; raises ConfigError that shows the position of the problem."""
    return _Parser(text).parse()


def explain_no_matches(
    condition: Condition,
    searched: str,
    values: Sequence[Values],
    *,
    others: Mapping[str, str],
    command: str,
) -> str:
    """Why a list is empty: what was searched, and what would find more.

    `others` are {name: reason} of runs that match but were not searched; `command` shows them.
    """
    if others:
        named = [f"{name} ({why})" for name, why in list(others.items())[:MAX_NAMED]]
        more = f" and {len(others) - MAX_NAMED} more" if len(others) > MAX_NAMED else ""
        verb = "matches" if len(others) == 1 else "match"
        return f"no match among {searched}; {', '.join(named)}{more} {verb}: {command}"
    if not values:
        return f"no match among {searched}"
    known = []
    for name in dict.fromkeys(name for name, _ in condition.names):
        summary = _summarize([item.get(name) for item in values])
        known.append(f"{name} is {summary}")
    return f"no match among {searched}: {', '.join(known)} there"


def _summarize(values: Sequence[Any]) -> str:
    """The known values in brief: a range of numbers, or the most frequent texts."""
    known = [value for value in values if value is not None]
    if not known:
        return "unknown"
    numbers = [value for value in known if _is_number(value)]
    if len(numbers) == len(known):
        low, high = (render_float(value) for value in (min(numbers), max(numbers)))
        return low if low == high else f"{low} to {high}"
    texts = [text for text, _ in Counter(map(str, known)).most_common()]
    more = ", ..." if len(texts) > MAX_NAMED else ""
    return " or ".join(texts) if len(texts) < 3 else ", ".join(texts[:MAX_NAMED]) + more


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _split(text)
        self._names: list[tuple[str, int]] = []
        self._depth = 0

    def parse(self) -> Condition:
        test = self._read_condition()
        if self._tokens[0].kind != "end":
            raise self._expected("and, or, or the end")
        return Condition(self._text, tuple(self._names), test)

    def _read_condition(self) -> Predicate:
        parts = [self._read_both()]
        while self._take_word("or"):
            parts.append(self._read_both())
        return parts[0] if len(parts) == 1 else lambda values: any(part(values) for part in parts)

    def _read_both(self) -> Predicate:
        parts = [self._read_single()]
        while self._take_word("and"):
            parts.append(self._read_single())
        return parts[0] if len(parts) == 1 else lambda values: all(part(values) for part in parts)

    def _read_single(self) -> Predicate:
        if self._depth == MAX_NESTING:
            raise _error(
                self._text,
                self._tokens[0].position,
                f"more than {MAX_NESTING} nested brackets and nots",
            )
        self._depth += 1
        test = self._read_part()
        self._depth -= 1
        return test

    def _read_part(self) -> Predicate:
        if self._take_word("not"):
            part = self._read_single()
            return lambda values: not part(values)
        if self._tokens[0].text == "(" and self._tokens[0].kind == "bracket":
            self._tokens.pop(0)
            inner = self._read_condition()
            if self._tokens[0].text != ")":
                raise self._expected(") to close the bracket")
            self._tokens.pop(0)
            return inner
        return self._read_comparison()

    def _read_comparison(self) -> Predicate:
        if self._tokens[0].kind != "word":
            raise self._expected("the name of a config key, a metric or a field")
        name = self._tokens.pop(0)
        if self._tokens[0].kind != "operator":
            raise self._expected(f"one of {' '.join(OPERATORS)} after {name.text!r}")
        sign = self._tokens.pop(0)
        if self._tokens[0].kind not in ("word", "quoted"):
            raise self._expected(f"a value after {sign.text!r}")
        value = self._tokens.pop(0)
        self._names.append((name.text, name.position))
        if sign.text in ("~", "!~"):
            return self._match(name, sign, value)
        return self._compare(name, sign, _read_value(value))

    def _match(self, name: _Token, sign: _Token, value: _Token) -> Predicate:
        try:
            with warnings.catch_warnings():
                # A warning about a later Python does not help the user.
                warnings.simplefilter("ignore")
                pattern = re.compile(_strip_quotes(value), re.IGNORECASE)
        except (re.error, RecursionError, OverflowError) as error:
            raise _error(self._text, value.position, f"not a regular expression: {error}") from None
        wanted = sign.text == "~"

        def test(values: Values) -> bool:
            known = values.get(name.text)
            return known is not None and (pattern.search(str(known)) is not None) == wanted

        return test

    def _compare(self, name: _Token, sign: _Token, wanted: Any) -> Predicate:
        def equal(values: Values) -> bool:
            known = values.get(name.text)
            if known is None or wanted is None:
                if sign.text == "!=":
                    return wanted is None and known is not None
                return known is wanted
            return _is_equal(known, wanted) == (sign.text != "!=")

        def ordered(values: Values) -> bool:
            known = values.get(name.text)
            if known is None:
                return False
            if _is_number(known) != _is_number(wanted) or not isinstance(known, int | float | str):
                raise _error(
                    self._text,
                    sign.position,
                    f"{name.text} is {known!r}: it cannot be ordered against {wanted!r}",
                )
            return ORDER[sign.text](known, wanted)

        return ordered if sign.text in ORDER else equal

    def _take_word(self, word: str) -> bool:
        if self._tokens[0].kind == "word" and self._tokens[0].text.lower() == word:
            self._tokens.pop(0)
            return True
        return False

    def _expected(self, what: str) -> ConfigError:
        token = self._tokens[0]
        actual = repr(token.text) if token.text else "the end"
        return _error(self._text, token.position, f"expected {what}, not {actual}")


def _split(text: str) -> list[_Token]:
    """The tokens of a text, the end as the last."""
    tokens: list[_Token] = []
    position = 0
    while not tokens or tokens[-1].kind != "end":
        match = _TOKEN.match(text, position)
        if match is None:
            start = position + len(text[position:]) - len(text[position:].lstrip())
            raise _error(text, start, f"cannot read {text[start : start + 12]!r}")
        kind = str(match.lastgroup)
        tokens.append(_Token(kind, match[kind], match.start(kind)))
        position = match.end()
    return tokens


def _strip_quotes(token: _Token) -> str:
    value = parse_toml_value(token.text) if token.kind == "quoted" else token.text
    if isinstance(value, str) and not token.text.startswith("'"):
        return value
    return token.text.strip("'")


def _read_value(token: _Token) -> Any:
    if token.kind == "quoted" and not token.text.startswith("["):
        return _strip_quotes(token)
    return None if token.text == "null" else parse_toml_value(token.text)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_equal(known: Any, wanted: Any) -> bool:
    """Equal values of one kind: 1 is 1.0, but not true."""
    if isinstance(known, bool) or isinstance(wanted, bool):
        return known is wanted
    return bool(known == wanted)


def _error(text: str, position: int, what: str, *, hint: str = "") -> ConfigError:
    return ConfigError(
        f"--where, character {position + 1}: {what}",
        problems=[text.replace("\n", " "), " " * position + "^"],
        hint=hint,
    )
