"""Votes and averages, against their definitions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tracker.training.errors import ConfigError, DataError
from tracker.training.predict.ensemble import combine, combine_validation, search_weights
from tracker.training.predict.probabilities import (
    Predictions,
    align,
    load_probabilities,
    measure_classes,
)

LABELS = np.array([0, 1], dtype=np.int64)


def rows(*values: list[float]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array(values, dtype=np.float32)


def answers(method: str, *members: list[float], weights: tuple[float, ...] = ()) -> list[int]:
    return combine(method, [rows(member) for member in members], weights).argmax(1).tolist()


def test_the_majority_wins_a_hard_vote_however_sure_the_others_are() -> None:
    assert answers("hard", [0.51, 0.49, 0], [0.51, 0.49, 0], [0, 0.0, 1.0]) == [0]
    assert answers("soft", [0.51, 0.49, 0], [0.51, 0.49, 0], [0, 0.0, 1.0]) == [0]
    assert answers("soft", [0.4, 0.3, 0.3], [0.4, 0.3, 0.3], [0, 0.0, 1.0]) == [2]


def test_a_tied_vote_goes_to_the_greater_sum_and_then_to_the_first_member() -> None:
    assert answers("hard", [0.6, 0.4, 0], [0.1, 0.9, 0]) == [1]
    assert answers("hard", [0.25, 0.75, 0], [0.75, 0.25, 0]) == [1]
    assert answers("hard", [0.75, 0.25, 0], [0.25, 0.75, 0]) == [0]
    assert answers("hard", [0.5, 0.1, 0.4], [0.1, 0.5, 0.4]) == [
        0
    ]  # the third has the greatest sum, but no vote


def test_weights_decide_as_numbers_of_equal_members_would() -> None:
    assert answers("weighted", [0.6, 0.4], [0.3, 0.7], weights=(3, 1)) == [0]
    assert answers("weighted", [0.6, 0.4], [0.3, 0.7], weights=(1, 1)) == [1]


def test_rank_ignores_how_confident_a_model_is_as_a_whole() -> None:
    members = [
        rows([0.9, 0.1], [0.8, 0.2], [0.7, 0.3]),
        rows([0.501, 0.499], [0.5, 0.5], [0.499, 0.501]),
    ]
    assert combine("rank", members)[:, 0].tolist() == [1.0, 0.5, 0.0]


@given(arrays(np.float32, (3, 5, 4), elements=st.floats(0, 1, width=32)))
def test_the_winner_of_a_hard_vote_never_has_fewer_votes(stacked: np.ndarray) -> None:
    found = combine("hard", list(stacked)).argmax(1)
    choices = stacked.argmax(2)
    for image in range(5):
        votes = np.bincount(choices[:, image], minlength=4)
        assert votes[found[image]] == votes.max()


@pytest.mark.parametrize(
    ("method", "weights", "words"),
    [
        ("loud", (), "expected one of"),
        ("weighted", (), "go together"),
        ("soft", (1.0, 1.0), "go together"),
        ("weighted", (1.0,), "expected 2 numbers"),
        ("weighted", (0.0, 0.0), "not all 0"),
        ("weighted", (-1.0, 2.0), "at least 0"),
    ],
)
def test_a_wrong_method_or_weight_is_named(
    method: str, weights: tuple[float, ...], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        combine(method, [rows([1.0, 0.0]), rows([0.0, 1.0])], weights)


def test_members_are_brought_into_one_order_and_must_agree_on_images_and_classes() -> None:
    first = Predictions(("a", "b"), rows([1, 0], [0, 1]), ("x", "y"))
    turned = Predictions(("b", "a"), rows([0, 1], [1, 0]), ("x", "y"))
    _, second = align([first, turned], ["exp1", "exp2"])
    assert second.ids == ("a", "b")
    assert np.array_equal(second.probabilities, first.probabilities)
    with pytest.raises(DataError, match="exp2 and exp1 predicted different images: 1 of 2"):
        align([first, Predictions(("a", "c"), turned.probabilities, ("x", "y"))], ["exp1", "exp2"])
    with pytest.raises(DataError, match="different classes"):
        align([first, Predictions(("a", "b"), turned.probabilities, ("y", "x"))], ["exp1", "exp2"])


def test_validation_counts_only_over_the_same_images() -> None:
    good = Predictions(("a", "b"), rows([0.9, 0.1], [0.2, 0.8]), ("x", "y"), LABELS)
    bad = Predictions(("a", "b"), rows([0.6, 0.4], [0.6, 0.4]), ("x", "y"), LABELS)
    joined = combine_validation([good, bad], "soft")
    assert joined is not None
    assert measure_classes(joined) == {
        "val/f1": 1.0,
        "val/accuracy": 1.0,
        "val/f1/x": 1.0,
        "val/f1/y": 1.0,
    }
    assert combine_validation([good, replace(bad, ids=("a", "c"))], "soft") is None
    assert combine_validation([good, replace(bad, labels=None)], "soft") is None


def test_members_of_different_folds_give_out_of_fold_predictions() -> None:
    parts = [
        Predictions((a, b), rows([0.9, 0.1], [p, 1 - p]), ("x", "y"), LABELS)
        for a, b, p in ((*"ab", 0.2), (*"cd", 0.7))
    ]
    joined = combine_validation(parts, "soft")
    assert joined is not None
    assert joined.ids == ("a", "b", "c", "d")
    assert measure_classes(joined)["val/accuracy"] == 0.75


def test_searched_weights_are_the_best_on_the_validation_images() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 300)
    skills = (0.3, 0.6, 0.0)
    members = [
        Predictions(
            tuple(map(str, range(300))),
            np.asarray(rng.dirichlet([1] * 3, 300) + skill * np.eye(3)[truth], dtype=np.float32),
            ("x", "y", "z"),
            truth,
        )
        for skill in skills
    ]
    weights = search_weights(members)

    def judge(given: list[float]) -> float:
        joined = combine_validation(members, "weighted", given)
        assert joined is not None
        return measure_classes(joined)["val/f1"]

    assert judge(weights) >= max(
        judge([1.0, 0.0, 0.0]), judge([0.0, 1.0, 0.0]), judge([1.0, 1.0, 1.0])
    )
    assert weights[1] > weights[2]
    with pytest.raises(ConfigError, match="different images"):
        search_weights([members[0], replace(members[1], ids=tuple(map(str, range(1, 301))))])


def test_a_missing_or_torn_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_probabilities(tmp_path / "p.npz")
    (tmp_path / "p.npz").write_bytes(b"PK torn")
    with pytest.raises(DataError, match="cannot read"):
        load_probabilities(tmp_path / "p.npz")
