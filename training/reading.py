"""One reader of what people write as TOML: the config of a run, and the settings of a workspace.

A key is declared once, as a dataclass field made by `key`: its default, its limits, and a sentence.
`read_keys` checks a table against such keys and collects every problem. The same declarations give
the template of a new file, its help, and the reference page.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from tracker.training.errors import ConfigError, find_nearest
from tracker.training.numbers import render_count

_NO_ALIASES: Mapping[str, str] = types.MappingProxyType({})
T = TypeVar("T")
EXPECTED = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    dict: "a table",
}
_LONGEST_LIST = 15  # names of known keys in a message: more would fill the screen
_LARGEST = 2**63 - 1  # what TOML promises, and seeds and counts have room for
_LONGEST_VALUE = 200  # letters of a wrong value in a message, for the same reason


class Key(NamedTuple):
    """What may be written for one key.

    `kind` is the type of the value after reading. `low` and `high` are the smallest and the
    greatest number, `above` is a number that is too small itself. With `files`, a path that ends in
    one of these suffixes is as good as a choice. `parse` turns a raw value into the one that the
    program uses and raises ValueError. `expected` says what a wrong value should have been, where
    the kind and the limits do not say it well. `written` is the default as a new file has it.
    """

    name: str
    kind: Any
    doc: str
    default: Any = None
    choices: Sequence[str] | Callable[[], Sequence[str]] = ()
    files: Sequence[str] = ()
    low: float | None = None
    high: float | None = None
    above: float | None = None
    parse: Callable[[Any], Any] | None = None
    expected: str = ""
    written: Any = None

    def list_choices(self) -> tuple[str, ...]:
        """The allowed texts; empty where every text is. A registry is asked when it is needed."""
        return tuple(self.choices() if callable(self.choices) else self.choices)


REQUIRED: Any = dataclasses.MISSING  # as the default: the key must be written


def key(default: T, doc: str, *, file_name: str = "", **limits: Any) -> T:
    """A dataclass field that is a key, `file_name` where the file calls it otherwise.

    `limits` are those of `Key`, and facts that only the owner of the key asks for.
    """
    return dataclasses.field(
        default=default, metadata={"doc": doc, "file_name": file_name, **limits}
    )


@functools.cache
def list_keys(cls: type) -> Mapping[str, Key]:
    """The keys of a dataclass by the names that they have in the file, in order."""
    kinds = typing.get_type_hints(cls)
    limits = set(Key._fields)
    keys: dict[str, Key] = {}
    for field in dataclasses.fields(cls):
        if "doc" not in field.metadata:
            continue
        name = field.metadata["file_name"] or field.name
        own = {word: value for word, value in field.metadata.items() if word in limits}
        keys[name] = Key(name=name, kind=kinds[field.name], default=field.default, **own)
    return types.MappingProxyType(keys)  # made once: it is asked for each key of each run


def read_keys(
    keys: Mapping[str, Key],
    table: Any,
    problems: list[str],
    *,
    name: str = "",
    elsewhere: Iterable[str] = (),
    aliases: Mapping[str, str] = _NO_ALIASES,
) -> dict[str, Any]:
    """The values that a table has for `keys`; each wrong one is a line in `problems` and left out.

    `name` is that of the table, empty at the top of a file. `elsewhere` has the dotted keys of
    other tables, for someone who wrote a key into the wrong one; `aliases` are what other programs
    call a key.
    """
    if not isinstance(table, Mapping):
        problems.append(f"{name}: is a table, write [{name}]")
        return {}
    values: dict[str, Any] = {}
    for word, value in table.items():
        dotted = f"{name}.{word}" if name else word
        if word not in keys:
            problems.append(
                f"{dotted}: unknown key{suggest_key(word, keys, name, elsewhere, aliases)}"
            )
            continue
        before = len(problems)
        read = _read_value(keys[word], value, problems, dotted)
        if len(problems) == before:
            values[word] = read
    for word, known in keys.items():
        if known.default is REQUIRED and word not in table:
            dotted = f"{name}.{word}" if name else word
            problems.append(f"{dotted}: is missing, expected {describe_key(known)}")
    return values


def read_object(cls: type[T], table: Any, problems: list[str], *, name: str = "") -> T | None:
    """An object of a dataclass from a table; None when a required key is missing or wrong."""
    keys = list_keys(cls)  # type: ignore[arg-type]
    values = read_keys(keys, table, problems, name=name)
    required = [word for word, known in keys.items() if known.default is REQUIRED]
    if not values.keys() >= set(required):
        return None
    fields = {
        field.metadata.get("file_name") or field.name: field.name
        for field in dataclasses.fields(cls)  # type: ignore[arg-type]
    }
    return cls(**{fields[word]: value for word, value in values.items()})


def refuse(problems: Sequence[str], source: Any, *, hint: str = "", reason: str = "") -> None:
    """Raise ConfigError with every problem of a source; nothing happens when there is none."""
    if problems:
        raise ConfigError(
            f"{render_count(len(problems), 'problem')} in {source}:",
            problems=problems,
            hint=hint,
            reason=reason,
        )


def suggest_key(
    word: str,
    keys: Iterable[str],
    name: str = "",
    elsewhere: Iterable[str] = (),
    aliases: Mapping[str, str] = _NO_ALIASES,
) -> str:
    """In brackets, the key that was meant; the known keys when none is near.

    `aliases` are what other programs call a key: {word: dotted key}.
    """
    here = list(keys)
    others: dict[str, list[str]] = {}
    for dotted in elsewhere:
        others.setdefault(dotted.rpartition(".")[2], []).append(dotted)
    # the very word in another table first: the key was written into the wrong one
    near = " or ".join(others.get(word, ())) or aliases.get(word.lower().replace("-", "_"), "")
    if not near and (match := find_nearest(word, here)):
        near = f"{name}.{match}" if name else match
    if not near:
        near = " or ".join(others.get(find_nearest(word, others, cutoff=0.7), ())[:1])
    if near:
        return f" (nearest: {near})"
    return f" (known: {', '.join(here)})" if 0 < len(here) <= _LONGEST_LIST else ""


def _read_value(known: Key, value: Any, problems: list[str], name: str) -> Any:
    """A value as the key wants it; what is wrong goes into `problems`."""
    item = _find_item(known.kind)
    if dataclasses.is_dataclass(item):
        return _read_list_of_tables(item, value, problems, name)
    try:
        if known.parse is not None:
            return known.parse(value)
        read = convert(value, known.kind)
        check_limits(read, known)
    except ValueError as error:
        problems.append(
            f"{name}: expected {known.expected or error.args[0]}, not {_show(value)}{_near(error)}"
        )
        return None
    return read


def _show(value: Any) -> str:
    """A wrong value as it stands in the file, and no more of it than a line has room for."""
    shown = str(value) if isinstance(value, dt.date | dt.time) else repr(value)
    return shown if len(shown) <= _LONGEST_VALUE else f"{shown[:_LONGEST_VALUE]}..."


def _near(error: ValueError) -> str:
    """The nearest choice, which stands behind the wrong value."""
    return f" (nearest: {error.args[1]})" if len(error.args) > 1 and error.args[1] else ""


def _read_list_of_tables(cls: Any, value: Any, problems: list[str], name: str) -> Any:
    """A tuple of objects from [[name]] tables, counted from 1 in what is wrong with them."""
    try:
        tables = parse_tables(value)
    except ValueError:
        tables = []
    if not tables:
        problems.append(f"{name}: expected [[{name}]] tables")
    return tuple(
        read_object(cls, table, problems, name=f"{name}[{number}]")
        for number, table in enumerate(tables, start=1)
    )


def parse_tables(raw: Any) -> list[Mapping[str, Any]]:
    """The tables of a list written as [[name]]; raises ValueError."""
    if not isinstance(raw, list) or not all(isinstance(table, Mapping) for table in raw):
        raise ValueError("a list of tables")
    return list(raw)


def _find_item(kind: Any) -> Any:
    """The type of the items of a list of any length; None for other kinds."""
    parts = typing.get_args(kind)
    return parts[0] if typing.get_origin(kind) is tuple and parts[1:] == (Ellipsis,) else None


def find_item_keys(known: Key) -> Mapping[str, Key]:
    """The keys of each table in a list of tables; empty for other kinds of keys."""
    item = _find_item(known.kind)
    return list_keys(item) if dataclasses.is_dataclass(item) else {}  # type: ignore[arg-type]


def convert(value: Any, wanted: Any) -> Any:
    """Return `value` as type `wanted`; raises ValueError that names what is expected instead."""
    if wanted is Any:
        return value
    origin = typing.get_origin(wanted)
    if origin is tuple:
        return _convert_items(value, wanted)
    if origin is types.UnionType:
        return _convert_to_one_of(value, typing.get_args(wanted))
    if wanted is dict:
        if isinstance(value, Mapping):
            return dict(value)
        raise ValueError(EXPECTED[dict])
    if wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
        return _convert_to_float(value)
    if wanted is int and type(value) is int and abs(value) > _LARGEST:
        raise ValueError(f"a whole number up to {_LARGEST}")
    if wanted is str and isinstance(value, str) and not _is_storable(value):
        raise ValueError("a text in UTF-8 without NUL")
    if type(value) is wanted:
        return value
    raise ValueError(EXPECTED[wanted])


def _convert_to_float(value: float) -> float:
    try:
        number = float(value)
    except OverflowError:  # a whole number may have any length in TOML
        number = math.inf
    if not math.isfinite(number):
        raise ValueError("a finite number")
    return number


def _convert_items(value: Any, wanted: Any) -> tuple[Any, ...]:
    """A list of a given length, for which one value stands too, or of texts of any number."""
    parts = typing.get_args(wanted)
    item = _find_item(wanted)
    if item is not None:
        plural = {str: "a list of texts", dict: "a list of tables"}[item]
        if not isinstance(value, list | tuple):
            raise ValueError(plural)
        try:
            items = tuple(convert(part, item) for part in value)
        except ValueError:
            raise ValueError(plural) from None
        if any(isinstance(part, str) and not part.strip() for part in items):
            raise ValueError(plural)
        return items
    given = list(value) if isinstance(value, list | tuple) else [value] * len(parts)
    if len(given) != len(parts):
        raise ValueError(f"{len(parts)} values")
    return tuple(convert(item, part) for item, part in zip(given, parts, strict=True))


def _convert_to_one_of(value: Any, kinds: Sequence[Any]) -> Any:
    """Return `value` as the first of these types that it fits, or () where a list may be empty."""
    if tuple[()] in kinds and value in ([], ()):
        return ()
    if type(value) in kinds:
        return value
    if float in kinds:
        return convert(value, float)
    tuples = [kind for kind in kinds if typing.get_args(kind)]
    if not tuples:
        raise ValueError("true, false or a path")
    return convert(value, tuples[0])


def _is_storable(text: str) -> bool:
    """Whether a text can be written to a file, and be the name of one."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def check_limits(value: Any, known: Key) -> None:
    """Raise ValueError that names the choices or the limit; a second argument is the nearest."""
    choices = known.list_choices()
    is_file = bool(known.files) and str(value).endswith(tuple(known.files))
    if choices and value not in choices and not is_file:
        raise ValueError(_describe_choices(known), find_nearest(str(value), choices))
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, str | Mapping):
            continue
        if known.low is not None and number < known.low:
            raise ValueError(f"at least {known.low:g}")
        if known.above is not None and number <= known.above:
            raise ValueError(f"more than {known.above:g}")
        if known.high is not None and number > known.high:
            raise ValueError(f"at most {known.high:g}")


def _describe_choices(known: Key) -> str:
    words = [word for word in known.list_choices() if word]
    words += [f"*{suffix}" for suffix in known.files]
    return f"one of {', '.join(words)}"


def describe_key(known: Key) -> str:
    """What a key takes, in words."""
    if known.expected:
        return known.expected
    if known.list_choices():
        return _describe_choices(known)
    return EXPECTED.get(known.kind, "a value")
