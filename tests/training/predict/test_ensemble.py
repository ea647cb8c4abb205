"""Votes and averages, against their definitions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tracker.training.config import EvalConfig
from tracker.training.errors import ConfigError, DataError
from tracker.training.formats.samples import Task, TaskMetric
from tracker.training.predict.decide import build_outcome, compute_metric, plain_decision
from tracker.training.predict.ensemble import (
    combine,
    combine_validation,
    find_search_metric,
    read_method,
    search_weights,
)
from tracker.training.predict.probabilities import (
    Predictions,
    align,
    load_probabilities,
    measure_classes,
    select,
)

LABELS = np.array([0, 1], dtype=np.int64)


def make_task(target: str = "class", metric: str = "", *, higher: bool = True) -> Task:
    classes = () if target == "number" else ("x", "y", "z")
    return Task(
        classes=classes,
        id_column="id",
        label_column="label",
        answer_words=classes,
        target=target,
        metrics=(TaskMetric(name=metric, kind=metric, higher_is_better=higher),) if metric else (),
    )


TASK = make_task()


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
        ("weighted", (1.0,), "got 1 weight for 2 members"),
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
    weights = search_weights(members, TASK)

    def judge(given: list[float]) -> float:
        joined = combine_validation(members, "weighted", given)
        assert joined is not None
        return measure_classes(joined)["val/f1"]

    assert judge(weights) >= max(
        judge([1.0, 0.0, 0.0]), judge([0.0, 1.0, 0.0]), judge([1.0, 1.0, 1.0])
    )
    assert weights[1] > weights[2]
    with pytest.raises(ConfigError, match="different images"):
        search_weights([members[0], replace(members[1], ids=tuple(map(str, range(1, 301))))], TASK)


IMAGES = 200
RNG = np.random.default_rng(7)
TRUTH: dict[str, np.ndarray] = {
    "class": RNG.integers(0, 3, IMAGES),
    "ordered": RNG.integers(0, 3, IMAGES),
    "labels": (RNG.random((IMAGES, 3)) < 0.4).astype(np.float32),
    "number": RNG.normal(40, 10, (IMAGES, 1)).astype(np.float32),
}


def make_guess(target: str, noise: float) -> Predictions:
    """What a model of this much noise would predict."""
    truth = TRUTH[target]
    if target == "number":
        table = truth + RNG.normal(0, noise, truth.shape)
    elif target == "labels":
        table = (truth * 0.5 + RNG.random(truth.shape) * noise).clip(0.01, 0.99)
    else:
        table = np.eye(3)[truth] + RNG.random((IMAGES, 3)) * noise
        table /= table.sum(1, keepdims=True)
    ids = tuple(map(str, range(IMAGES)))
    classes = () if target == "number" else ("x", "y", "z")
    return Predictions(ids, table.astype(np.float32), classes, truth)


@pytest.mark.parametrize(
    ("target", "metric", "higher"),
    [
        ("class", "macro_f1", True),
        ("class", "log_loss", False),
        ("class", "roc_auc", True),
        ("ordered", "kappa", True),
        ("labels", "average_precision", True),
        ("labels", "f_beta", True),
        ("number", "rmse", False),
        ("number", "mae", False),
        ("labels", "", True),  # a metric that is not computed here
        ("number", "", True),
    ],
)
def test_greedy_selection_is_best_by_the_deciding_metric_in_its_direction(
    target: str, metric: str, higher: bool
) -> None:
    task = make_task(target, metric, higher=higher)
    members = [make_guess(target, noise) for noise in (3.0, 1.0, 2.0)]
    weights = search_weights(members, task)
    measured = find_search_metric(task)
    assert measured.higher_is_better is (higher if metric else False)

    def judge(*given: float) -> float:
        joined = combine_validation(members, "weighted", given, target)
        assert joined is not None
        outcome = build_outcome(joined, task, plain_decision(task, EvalConfig()))
        value = compute_metric(measured, outcome)
        return value if measured.higher_is_better else -value

    others = [judge(1, 0, 0), judge(0, 1, 0), judge(0, 0, 1)]
    assert judge(*weights) >= max(others) - 1e-6
    assert weights[1] > 0  # the best member


def test_a_geometric_mean_is_of_probabilities_again() -> None:
    first, second = rows([0.9, 0.1, 0.0]), rows([0.4, 0.1, 0.5])
    mean = combine("geometric", [first, second])
    assert mean.sum() == pytest.approx(1)
    assert mean[0, 0] / mean[0, 1] == pytest.approx(6)  # the root of 9 times 4
    assert mean[0, 2] < 1e-15  # one member rules it out
    several = combine("geometric", [rows([0.5, 0.9]), rows([0.5, 0.5])], target="labels")
    assert several[0].tolist() == pytest.approx([0.5, 0.75])  # odds of 9 and 1: 3
    numbers = combine("geometric", [rows([2.0]), rows([8.0])], target="number")
    assert numbers.tolist() == [[4.0]]
    with pytest.raises(ConfigError, match="needs numbers above 0, found -1"):
        combine("geometric", [rows([2.0]), rows([-1.0])], target="number")


def test_equal_scores_share_a_rank_in_whatever_order_the_images_are() -> None:
    scores = rows([0.5, 0.1], [0.5, 0.9], [0.2, 0.5])
    ranks = combine("rank", [scores, scores])
    assert ranks.tolist() == [[0.75, 0.0], [0.75, 1.0], [0.0, 0.5]]


def test_mean_and_greedy_are_other_names() -> None:
    members = [rows([0.6, 0.4]), rows([0.2, 0.8])]
    assert np.array_equal(combine("mean", members), combine("soft", members))
    assert read_method("greedy", ()) == "weighted"
    with pytest.raises(ConfigError, match="greedy searches the weights"):
        read_method("greedy", (1.0, 2.0))


@pytest.mark.parametrize(
    ("method", "target", "words"),
    [
        ("hard", "labels", "a vote for one class"),
        ("hard", "number", "a vote for one class"),
        ("rank", "number", "not numbers of the target"),
    ],
)
def test_a_method_that_does_not_fit_the_target_is_refused(
    method: str, target: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        combine(method, [rows([1.0]), rows([0.0])], target=target)


def test_folds_of_numbers_and_several_labels_are_joined_with_their_labels() -> None:
    for target in ("number", "labels"):
        whole = make_guess(target, 1.0)
        parts = [select(whole, range(0, 90)), select(whole, range(90, IMAGES))]
        joined = combine_validation(parts, "soft", target=target)
        assert joined is not None and joined.ids == whole.ids
        assert np.array_equal(np.asarray(joined.labels), np.asarray(whole.labels))
        assert np.array_equal(joined.probabilities, whole.probabilities)


def test_a_missing_or_torn_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_probabilities(tmp_path / "p.npz")
    with pytest.raises(DataError, match="of the validation images") as caught:
        load_probabilities(tmp_path / "validation.npz")
    assert "run.save_validation" in caught.value.hint
    (tmp_path / "p.npz").write_bytes(b"PK torn")
    with pytest.raises(DataError, match="cannot read"):
        load_probabilities(tmp_path / "p.npz")
