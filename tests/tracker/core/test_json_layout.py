"""The layout of JSON documents is that of Python's own encoder."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tracker.core.json_layout import JsonLayout

SINGLES = ["", '안경 "a"\n\u2028', "{,: ", 0, -7, 10**30, 0.1, 1e-300, 2.0, True, False, None]


def make_value(rng: random.Random, depth: int) -> Any:
    kind = rng.choice(["single", "dict", "list", "tuple"]) if depth else "single"
    if kind == "single":
        return rng.choice(SINGLES)
    items = [make_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if kind == "dict":
        keys = rng.sample([*SINGLES, "a", "b c"], len(items))
        return dict(zip(keys, items, strict=True))
    return items if kind == "list" else tuple(items)


def test_values_are_laid_out_as_json_dumps_does_it() -> None:
    rng = random.Random(1)  # noqa: S311
    layout = JsonLayout()
    values = [make_value(rng, 4) for _ in range(300)]
    for value in [*values, *SINGLES, [values, values]]:
        assert layout.render(value) == json.dumps(value, indent=1, ensure_ascii=False)


@pytest.mark.parametrize("value", [float("nan"), [1.0, float("inf")], {"a": [{"b": -1e999}]}])
def test_what_json_does_not_have_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        JsonLayout().render(value)
