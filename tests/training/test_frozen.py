"""A frozen class is a frozen dataclass in everything that this program does with one."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from dataclasses import FrozenInstanceError, asdict, field, fields, replace
from functools import cached_property
from typing import Any

import pytest

from tracker.training.frozen import frozen


class Plain:
    """Fields of every kind that occurs."""

    name: str
    size: int = 3
    tags: list[str] = field(default_factory=list)
    secret: str = field(default="", repr=False, compare=False)

    @cached_property
    def area(self) -> int:
        """The square of the size."""
        return self.size**2


def build(make: Any, **options: Any) -> Any:
    """The class `Plain` completed by a decorator, under one name whichever it was."""
    own = {key: value for key, value in vars(Plain).items() if not key.startswith("__")}
    cls = type("Plain", (), {**own, "__annotations__": Plain.__annotations__})
    return make(**options)(cls) if options else make(cls)


def list_parameters(cls: Any) -> list[tuple[str, Any, bool]]:
    """Name, annotation, and whether it may be left out."""
    parameters = inspect.signature(cls).parameters.values()
    return [(one.name, one.annotation, one.default is not one.empty) for one in parameters]


Own: Any = build(frozen)
Known: Any = build(dataclasses.dataclass, frozen=True)


@frozen(kw_only=True)
class Named:
    """Keywords alone."""

    first: int
    second: int = 2


@frozen
class Single:
    """One field, whose values are compared as in a tuple: first by identity."""

    value: float


@frozen
class Empty:
    """No field."""


@pytest.mark.parametrize(
    "values", [{"name": "a"}, {"name": "a", "size": 4}, {"name": "b", "tags": ["x"], "secret": "s"}]
)
def test_objects_are_those_of_a_frozen_dataclass(values: dict[str, Any]) -> None:
    own, known = Own(**values), Known(**values)

    assert repr(own) == repr(known)
    assert asdict(own) == asdict(known)
    assert [f.name for f in fields(own)] == [f.name for f in fields(known)]
    assert asdict(replace(own, size=9)) == asdict(replace(known, size=9))
    assert own.area == known.area
    assert own == Own(**values) != known
    assert own == replace(own, secret="another")
    assert own != replace(own, size=-1)
    assert copy.deepcopy(own) == own
    assert Own.__match_args__ == Known.__match_args__
    assert list_parameters(Own) == list_parameters(Known)


def test_equal_objects_have_one_hash_and_an_unhashable_value_has_none() -> None:
    assert hash(Named(first=1)) == hash(Named(first=1))
    assert len({Named(first=1), Named(first=1), Named(first=2)}) == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(Own("a"))


def test_each_object_gets_what_a_factory_makes_anew() -> None:
    one, other = Own("a"), Own("a")

    one.tags.append("x")

    assert other.tags == []


def test_nothing_can_be_set_or_deleted() -> None:
    one = Named(first=1)

    for name in ("first", "new"):
        with pytest.raises(FrozenInstanceError, match=f"cannot assign to field '{name}'"):
            setattr(one, name, 2)
        with pytest.raises(FrozenInstanceError, match=f"cannot delete field '{name}'"):
            delattr(one, name)
    assert one == Named(first=1)


def test_wrong_arguments_are_refused_as_by_any_function() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'name'"):
        Own()
    with pytest.raises(TypeError, match="unexpected keyword argument 'sise'"):
        Own("a", sise=3)
    with pytest.raises(TypeError, match="positional argument"):
        Named(1)  # type: ignore[call-arg]


def test_a_single_value_is_compared_as_in_a_tuple() -> None:
    nothing = float("nan")

    assert Single(nothing) == Single(nothing)
    assert Empty() == Empty()
    assert hash(Single(1.0)) == hash(Single(1.0))


def test_objects_survive_pickle() -> None:
    assert pickle.loads(pickle.dumps(Named(first=5))) == Named(first=5)  # noqa: S301


def test_a_method_of_the_class_stays() -> None:
    @frozen
    class Written:
        value: int

        def __repr__(self) -> str:
            return "written by hand"

    assert repr(Written(1)) == "written by hand"
