"""What is printed for programs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tracker.core.terminal import print_json


@pytest.mark.parametrize(
    "rows", [[], [{}], [{"a": "x\ny", "b": [1, {"c": None}]}, {"n": 0.5}], [[], [1]], ["\n", 2]]
)
def test_the_items_of_an_iterator_are_printed_as_the_list_is(
    rows: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    print_json(rows)
    whole = capsys.readouterr().out
    print_json(iter(rows))
    assert capsys.readouterr().out == whole
    assert json.loads(whole) == rows


def test_what_json_has_no_number_for_is_null_in_an_iterator_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_json(iter([{"a": float("nan")}, {"a": 1.0}]))
    assert json.loads(capsys.readouterr().out) == [{"a": None}, {"a": 1.0}]
