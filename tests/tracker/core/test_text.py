"""Pieces of text that messages are made of, each in one place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tracker.core.text import render_minute, render_value
from tracker.training.errors import find_nearest, first_line
from tracker.training.numbers import render_decimals, render_digits, render_float, render_share

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n  one  \n"), "one"),
        (KeyError(), "KeyError"),
        (OSError(" "), "OSError"),
    ],
)
def test_an_error_is_told_by_its_first_line_or_its_kind(error: Exception, line: str) -> None:
    assert first_line(error) == line


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.78125, "0.7813"),
        (0.00005, "5.000e-05"),
        (0.00012345, "0.0001235"),
        (-0.78125, "-0.7813"),
        (12.345, "12.35"),
        (2.0005, "2.001"),
        (1234500.0, "1.235e+06"),
        (1.5e-05, "1.500e-05"),
        (1.2345e-300, "1.235e-300"),
        (1.7e308, "1.700e+308"),
        (0.0, "0.0000"),
        (float("inf"), "inf"),
    ],
)
def test_a_half_is_rounded_up_as_people_do_it(value: float, shown: str) -> None:
    assert render_float(value) == shown


def test_every_view_rounds_alike() -> None:
    assert render_decimals(0.78125, 4, signed=True) == "+0.7813"
    assert (render_float(-0.0), render_decimals(-1e-9, 2)) == ("0.0000", "0.00")
    assert [render_decimals(x, 2, signed=True) for x in (-0.0, -1e-9)] == ["+0.00", "-0.00"]
    assert (render_digits(0.78125, 4), render_digits(1e-05, 2), render_digits(0.5, 4)) == (
        "0.7813",
        "1e-05",
        "0.5",
    )
    assert render_value("two\nlines") == r'"two\nlines"'
    assert render_value([0.78125, 1e-05, 12345.5]) == "[0.7813, 1e-05, 12346.0]"
    assert render_share(0.00125, decimals=2) == "0.13 %"


def test_the_nearest_word_is_found_and_a_far_one_is_none() -> None:
    assert find_nearest("optim.rl", ["optim.lr", "train.seed"]) == "optim.lr"
    assert find_nearest("zzz", ["optim.lr"]) == ""


@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        ("host", ""),
        ("rate", ""),
        ("time", ""),
        ("nots", "note"),
        ("lr", "optim.lr"),
        ("f1", "val/f1"),
        ("f2", "f1"),
        ("acc", "val/accuracy"),
        ("mode", "model.name"),
        ("epoch", "train.epochs"),
    ],
)
def test_a_word_is_near_only_where_somebody_can_have_meant_it(word: str, nearest: str) -> None:
    known = ["note", "optim.lr", "val/f1", "train.epochs", "model.name", "val/accuracy"]
    assert find_nearest(word, ["f1", "asl"] if word == "f2" else known) == nearest


def test_a_time_is_shown_to_the_minute() -> None:
    assert render_minute("2026-11-24T02:11:46.123456Z") == "2026-11-24 02:11"
    assert (render_minute(None), render_minute(None, unknown="-")) == ("", "-")


@pytest.mark.parametrize(
    "twin", [r"splitlines\(\)\[0\]", r"get_close_matches\(.*n=1", r"^class \w*Lock\b"]
)
def test_none_of_it_is_written_a_second_time(twin: str) -> None:
    files = [*ROOT.glob("tracker/**/*.py"), *ROOT.glob("training/**/*.py")]
    places = {path.resolve() for path in files if re.search(twin, path.read_text(), re.MULTILINE)}
    assert len(places) == 1, places


@pytest.mark.parametrize(
    ("share", "decimals", "text"),
    [
        (0.9312, 1, "93.1 %"),
        (0.9997, 1, "over 99.9 %"),
        (1.0, 1, "100.0 %"),
        (0.0002, 1, "under 0.1 %"),
        (0.0, 1, "0.0 %"),
        (0.996, 0, "over 99 %"),
        (0.95, 0, "95 %"),
    ],
)
def test_a_share_is_all_or_nothing_only_where_it_is(share: float, decimals: int, text: str) -> None:
    assert render_share(share, decimals=decimals) == text
