"""The reader of declared keys: every problem at once, each with what is meant."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import pytest

from tracker.training.errors import ConfigError
from tracker.training.reading import REQUIRED, key, list_keys, read_keys, read_object, refuse


@dataclass(frozen=True, kw_only=True)
class Item:
    """A table of a list."""

    name: str = key(REQUIRED, "Name.")
    weight: float = key(1.0, "Weight.", above=0)


@dataclass(frozen=True, kw_only=True)
class Example:
    """A section of a file."""

    rate: float = key(0.1, "Rate.", low=0, high=1)
    epochs: int = key(10, "Epochs.", low=1)
    mode: str = key("fast", "Mode.", choices=("fast", "exact"), files=(".toml",))
    pair: tuple[int, int] = key((1, 2), "Two numbers.")
    words: tuple[str, ...] = key((), "Words.")
    on: bool = key(False, "Switch.", file_name="enabled")
    items: tuple[Item, ...] = key((), "Tables.")


def read(table: Any, elsewhere: tuple[str, ...] = ()) -> tuple[dict[str, Any], list[str]]:
    problems: list[str] = []
    values = read_keys(list_keys(Example), table, problems, name="part", elsewhere=elsewhere)
    return values, problems


def test_right_values_are_read_and_absent_keys_stay_absent() -> None:
    table = {"rate": 1, "pair": 3, "words": ["a", "b"], "enabled": True, "mode": "my.toml"}
    values, problems = read(table)
    assert problems == []
    assert values == {
        "rate": 1.0,
        "pair": (3, 3),
        "words": ("a", "b"),
        "enabled": True,
        "mode": "my.toml",
    }
    assert type(values["rate"]) is float


def test_all_problems_of_a_table_are_reported_at_once_and_right_values_kept() -> None:
    values, problems = read({"rate": "much", "epochs": 2.5, "pair": [1], "mode": "exact"})
    assert values == {"mode": "exact"}
    assert problems == [
        "part.rate: expected a number, not 'much'",
        "part.epochs: expected a whole number, not 2.5",
        "part.pair: expected 2 values, not [1]",
    ]


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"epoch": 3}, "part.epoch: unknown key (nearest: part.epochs)"),
        ({"lr": 3}, "part.lr: unknown key (nearest: optim.lr)"),
        (
            {"zzzzzz": 3},
            "part.zzzzzz: unknown key (known: rate, epochs, mode, pair, words, enabled, items)",
        ),
        ({"on": True}, "part.on: unknown key"),
    ],
)
def test_an_unknown_key_names_the_nearest_one_or_the_section_it_belongs_to(
    table: dict[str, Any], problem: str
) -> None:
    values, problems = read(table, elsewhere=("optim.lr", "optim.rate"))
    assert values == {}
    assert len(problems) == 1
    assert problems[0].startswith(problem)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"rate": -0.1}, "part.rate: expected at least 0, not -0.1"),
        ({"rate": 1.5}, "part.rate: expected at most 1, not 1.5"),
        ({"rate": float("nan")}, "part.rate: expected a finite number, not nan"),
        ({"rate": True}, "part.rate: expected a number, not True"),
        ({"epochs": 0}, "part.epochs: expected at least 1, not 0"),
        (
            {"mode": "exakt"},
            "part.mode: expected one of fast, exact, *.toml, not 'exakt' (nearest: exact)",
        ),
        ({"mode": "a\0b"}, "part.mode: expected a text in UTF-8 without NUL, not 'a\\x00b'"),
        ({"words": ["a", ""]}, "part.words: expected a list of texts, not ['a', '']"),
        ({"enabled": 1}, "part.enabled: expected true or false, not 1"),
    ],
)
def test_a_value_outside_its_limits_or_choices_says_what_is_expected(
    table: dict[str, Any], problem: str
) -> None:
    assert read(table) == ({}, [problem])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("rate", "a finite number"), ("epochs", "a whole number up to 9223372036854775807")],
)
def test_a_whole_number_that_fits_no_float_or_64_bits_is_a_problem(
    name: str, expected: str
) -> None:
    values, problems = read({name: 10**400})
    assert values == {}
    assert problems == [f"part.{name}: expected {expected}, not 1{'0' * 199}..."]


def test_a_list_of_tables_is_checked_in_each_table() -> None:
    values, problems = read({"items": [{"name": "a"}, {"name": "b", "weight": 2}]})
    assert problems == []
    assert values["items"] == (Item(name="a"), Item(name="b", weight=2.0))
    values, problems = read({"items": [{"weight": 0}, {"nam": "b"}]})
    assert values == {}
    assert problems == [
        "part.items[1].weight: expected more than 0, not 0",
        "part.items[1].name: is missing, expected a text",
        "part.items[2].nam: unknown key (nearest: part.items[2].name)",
        "part.items[2].name: is missing, expected a text",
    ]
    assert read({"items": "a"})[1] == ["part.items: expected [[part.items]] tables"]


def test_a_section_that_is_no_table_is_one_problem() -> None:
    assert read("fast") == ({}, ["part: is a table, write [part]"])


def test_a_wrong_value_is_shown_as_it_is_written_and_a_long_one_in_part() -> None:
    table = {"rate": dt.date(2021, 8, 23), "pair": ["x" * 1000]}
    assert read(table)[1] == [
        "part.rate: expected a number, not 2021-08-23",
        f"part.pair: expected 2 values, not ['{'x' * 198}...",
    ]


def test_an_object_has_the_names_of_its_fields_and_none_without_a_required_key() -> None:
    problems: list[str] = []
    assert read_object(Example, {"enabled": True}, problems) == Example(on=True)
    assert problems == []
    assert read_object(Item, {"weight": 2}, problems) is None
    assert problems == ["name: is missing, expected a text"]


def test_the_problems_of_a_source_are_one_error() -> None:
    refuse([], "a.toml")
    with pytest.raises(ConfigError, match=r"2 problems in a\.toml") as caught:
        refuse(["a: wrong", "b: wrong"], "a.toml")
    assert list(caught.value.problems) == ["a: wrong", "b: wrong"]
