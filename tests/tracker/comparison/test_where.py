"""Conditions on runs: what they mean, and where they go wrong."""

from __future__ import annotations

from typing import Any

import pytest

from tracker.comparison.where import parse_where
from tracker.training.errors import ConfigError

RUN: dict[str, Any] = {
    "name": "exp12",
    "status": "finished",
    "val/f1": 0.78,
    "best_epoch": 3,
    "note": "Swin (large) and more",
    "model.name": "swin_large_patch4",
    "model.pretrained": True,
    "data.age_bands": [29, 58],
    "public_f1": None,
    "created": "2026-11-24T10:00",
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("val/f1 > 0.75 and model.name ~ swin", True),
        ("val/f1>0.75 and model.name~SWIN", True),
        ("val/f1 > 0.78", False),
        ("val/f1 >= 0.78", True),
        ("best_epoch = 3.0", True),
        ("best_epoch != 3", False),
        ("model.pretrained = true", True),
        ("model.pretrained = 1", False),
        ("data.age_bands = [29, 58]", True),
        ("data.age_bands == [29,59]", False),
        ("name = exp12 or name = exp13 and status = failed", True),
        ("(name = exp12 or name = exp13) and status = failed", False),
        ("not (name = exp1 or name = exp2)", True),
        ("not name = exp12 and status = finished", False),
        ('note ~ "swin \\\\(large"', True),
        ("note ~ '(large) and'", False),
        ("note ~ '[(]large[)] and'", True),
        ("model.name ~ ^swin_.*4$", True),
        ("model.name !~ vit", True),
        ("public_f1 = null", True),
        ("public_f1 != null", False),
        ("val/f1 != null", True),
        ("public_f1 < 1", False),
        ("not public_f1 < 1", True),
        ("created > 2026-11-23", True),
    ],
)
def test_a_condition_means_what_it_says(text: str, holds: bool) -> None:
    assert parse_where(text).test(RUN) is holds


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("", 1, "expected the name of a config key"),
        ("val/f1", 7, "after 'val/f1', not the end"),
        ("val/f1 swin", 8, "after 'val/f1', not 'swin'"),
        ("val/f1 >", 9, "a value after '>', not the end"),
        ("val/f1 > 1 val", 12, "and, or, or the end, not 'val'"),
        ("(val/f1 > 1", 12, "to close the bracket, not the end"),
        ("val/f1 > 1)", 11, "and, or, or the end, not ')'"),
        ("note ~ '(a' or note ~ \"b\"", 8, "not a regular expression"),
        ('note ~ "abc', 8, "cannot read"),
        ("val/f1 > swin", 8, "is 0.78: it cannot be ordered against 'swin'"),
        ("model.name < 3", 12, "'swin_large_patch4': it cannot be ordered against 3"),
        ("data.age_bands < [1]", 16, "it cannot be ordered"),
    ],
)
def test_an_error_shows_the_place(text: str, place: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_where(text).test(RUN)
    assert words in str(caught.value)
    assert f"character {place}:" in str(caught.value)
    assert caught.value.problems[1] == " " * (place - 1) + "^"


@pytest.mark.parametrize(
    "text", ["(" * 3000 + "a = 1" + ")" * 3000, "not " * 5000 + "a = 1", "a = " + "9" * 5000]
)
def test_depth_and_length_end_in_an_answer(text: str) -> None:
    if text[0] == "a":
        assert not parse_where(text).test({"a": 1})
        return
    with pytest.raises(ConfigError, match="more than 100 nested brackets and nots"):
        parse_where(text)
    assert parse_where(f"{'(' * 99}a = 1{')' * 99} and a = 1").test({"a": 1})


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    condition = parse_where("best_epoch = 3 and model.nam ~ swin")
    with pytest.raises(ConfigError, match=r"no run has 'model\.nam'") as caught:
        condition.check_names(RUN)
    assert caught.value.hint == "nearest: model.name"
    assert "character 20" in str(caught.value)
    parse_where("val/f1 > 0").check_names(RUN)
