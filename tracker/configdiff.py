"""What differs between two configs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tracker.training.config import outcome_values


def diff_configs(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[Any]]:
    """{key: [old, new]} of the keys that can change a result and differ; None where a side lacks the key.

    Of an ensemble and a trained run only the ensemble's keys: that the one has no learning rate is no change to it.
    """
    left, right = outcome_values(old), outcome_values(new)
    keys = [*left, *(key for key in right if key not in left)]
    if ("ensemble" in old) != ("ensemble" in new):
        keys = [key for key in keys if key.startswith("ensemble.")]
    pairs = {key: [left.get(key), right.get(key)] for key in keys}
    return {key: [a, b] for key, (a, b) in pairs.items() if json.dumps(a) != json.dumps(b)}  # true is not 1
