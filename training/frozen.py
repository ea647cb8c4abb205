"""Frozen dataclasses that are made quickly: a short command makes up to seventy as it starts.

`dataclass(frozen=True)` writes and compiles six functions for each class, 0.3 to 0.8 ms. Here only
the constructor is compiled; the other methods are closures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, FrozenInstanceError
from operator import attrgetter
from typing import Any, NoReturn, TypeVar, dataclass_transform, overload

T = TypeVar("T")
Fields = Sequence[Field[Any]]


@overload
def frozen(cls: type[T], /) -> type[T]: ...


@overload
def frozen(*, kw_only: bool) -> Callable[[type[T]], type[T]]: ...


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def frozen(cls: Any = None, /, *, kw_only: bool = False) -> Any:
    """As `dataclass(frozen=True)`: the same constructor, equality, hash, text and errors.

    `replace`, `fields` and `asdict` of dataclasses take its objects. `__post_init__` and fields
    with `init=False` are not known here.
    """
    if cls is None:
        return lambda made: _complete(made, kw_only=kw_only)
    return _complete(cls, kw_only=kw_only)


def _complete(cls: type, *, kw_only: bool) -> type:
    """The class with its fields and methods; a method of its own stays."""
    own = set(vars(cls))
    dataclasses.dataclass(init=False, repr=False, eq=False, kw_only=kw_only)(cls)
    fields = dataclasses.fields(cls)
    methods = {
        "__init__": _compile_init(fields),
        "__repr__": _make_repr(fields),
        **_make_comparison(fields),
        "__setattr__": _refuse_to_set,
        "__delattr__": _refuse_to_delete,
    }
    for name in methods.keys() - own:
        setattr(cls, name, methods[name])
    return cls


def _compile_init(fields: Fields) -> Any:
    """A constructor that sets the fields past `__setattr__`, which refuses that."""
    keywords = [_write_parameter(field) for field in fields if field.kw_only]
    positional = [_write_parameter(field) for field in fields if not field.kw_only]
    parameters = ["self", *positional, *(["*", *keywords] if keywords else [])]
    lines = [f"def __init__({', '.join(parameters)}):", " pass"]
    for field in fields:
        value = field.name
        if field.default_factory is not MISSING:
            value = f"of[{value!r}].default_factory() if {value} is MISSING else {value}"
        lines.append(f" put(self, {field.name!r}, {value})")
    of = {field.name: field for field in fields}
    names = {"put": object.__setattr__, "MISSING": MISSING, "of": of}
    exec("\n".join(lines), names)  # noqa: S102  # as dataclasses do it
    init: Any = names["__init__"]
    init.__annotations__ = {field.name: field.type for field in fields} | {"return": None}
    return init


def _write_parameter(field: Field[Any]) -> str:
    """A parameter of the constructor; what a factory makes is MISSING until it is made."""
    if field.default is MISSING and field.default_factory is MISSING:
        return field.name
    return f"{field.name}=of[{field.name!r}].default"


def _make_repr(fields: Fields) -> Callable[[Any], str]:
    shown = [field.name for field in fields if field.repr]

    def __repr__(self: Any) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in shown)
        return f"{type(self).__qualname__}({values})"

    return __repr__


def _make_comparison(fields: Fields) -> dict[str, Any]:
    """Equality and hash: of the tuple of the fields, as of a dataclass."""
    names = [field.name for field in fields if field.compare]
    read: Callable[[Any], tuple[Any, ...]]
    if len(names) > 1:
        read = attrgetter(*names)
    else:

        def read(self: Any) -> tuple[Any, ...]:
            return tuple(getattr(self, name) for name in names)

    def __eq__(self: Any, other: object) -> bool:
        return read(self) == read(other) if type(other) is type(self) else NotImplemented

    def __hash__(self: Any) -> int:
        return hash(read(self))

    return {"__eq__": __eq__, "__hash__": __hash__}


def _refuse_to_set(self: Any, name: str, value: Any) -> NoReturn:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: Any, name: str) -> NoReturn:
    raise FrozenInstanceError(f"cannot delete field {name!r}")
