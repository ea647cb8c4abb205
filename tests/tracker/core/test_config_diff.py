"""Differences between two configs."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tracker.core import config_diff
from tracker.core.config_diff import diff_configs, is_own
from tracker.training.config import Config, config_to_dict
from tracker.training.tables import flatten

VALUES = [0, 1, 1.0, True, 0.5, None, "x", "a/b.csv", "c/b.csv", [1, 2], [1.0, 2], [], float("nan")]


def change(rng: random.Random, config: dict[str, Any]) -> dict[str, Any]:
    """A config with some other values, without some keys, perhaps without a section."""
    changed: dict[str, Any] = json.loads(json.dumps(config))
    for name in rng.choices([*flatten(config)], k=rng.randrange(7)):
        section, _, key = name.partition(".")
        if rng.random() < 0.2:
            changed[section].pop(key, None)
        else:
            changed[section][key] = rng.choice(VALUES)
    if rng.random() < 0.3:
        changed["augment"] |= {
            "file_sha256": rng.choice("qr"),
            "name": rng.choice(["a/p.py", "b/p.py"]),
        }
    if rng.random() < 0.1:
        del changed[rng.choice([*changed])]
    return changed


def test_a_diff_of_the_keys_that_differ_is_the_diff_of_all_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng, base = random.Random(1), config_to_dict(Config())  # noqa: S311
    for _ in range(150):
        old, new = change(rng, base), change(rng, base)
        assert is_own(old)
        prints = [None, "sha256:a", "sha256:b"]
        wanted: dict[str, Any] = {"data": (rng.choice(prints), rng.choice(prints))}
        found = diff_configs(old, new, **wanted)
        with monkeypatch.context() as patch:
            patch.setattr(config_diff, "_keep_different", lambda one, other: (one, other))
            whole = diff_configs(old, new, **wanted)
        assert json.dumps(found) == json.dumps(whole)  # in the same order
