"""The paired bootstrap of weighted images holds its coverage, and obeys each metric's direction."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from tracker.comparison.statistics.outcomes import FEWEST, RESAMPLES, compare_outcomes
from tracker.comparison.statistics.paired import Difference, compare_predictions
from tracker.training.errors import DataError
from tracker.training.formats.samples import TaskMetric
from tracker.training.metrics import COMPETITION
from tracker.training.scorers import Outcome, Parameters

FEW = 250  # resamples of a simulated pair
PAIRS = 150
LOWER = ("log_loss", "rmse", "mae")
Draw = Callable[[np.random.Generator, int, float, float], tuple[Outcome, Outcome]]


def build_metric(kind: str, **parameters: object) -> TaskMetric:
    chosen = Parameters(**parameters)  # type: ignore[arg-type]
    return TaskMetric(name=kind, kind=kind, higher_is_better=kind not in LOWER, parameters=chosen)


def draw_classes(
    rng: np.random.Generator, images: int, skill_a: float, skill_b: float, classes: int = 3
) -> tuple[Outcome, Outcome]:
    """Scores of two runs whose errors are much the same, as those of runs are."""
    truth = np.arange(images) % classes
    shared = rng.standard_normal((images, classes))
    sides = []
    for skill in (skill_a, skill_b):
        logits = 0.8 * shared + 0.6 * rng.standard_normal((images, classes))
        logits[np.arange(images), truth] += skill
        scores = np.exp(logits)
        scores /= scores.sum(axis=1, keepdims=True)
        decided = scores.argmax(axis=1)
        sides.append(Outcome(classes=classes, truth=truth, decided=decided, scores=scores))
    return sides[0], sides[1]


def draw_numbers(
    rng: np.random.Generator, images: int, error_a: float, error_b: float
) -> tuple[Outcome, Outcome]:
    truth = 500 + 100 * rng.standard_normal(images)
    shared = rng.standard_normal(images)
    sides = []
    for error in (error_a, error_b):
        noise = 0.8 * shared + 0.6 * rng.standard_normal(images)
        sides.append(Outcome(classes=0, truth=truth, decided=truth + error * noise))
    return sides[0], sides[1]


def compare(a: Outcome, b: Outcome, kind: str, **options: object) -> Difference:
    options = {"resamples": FEW, **options}
    found = compare_outcomes(a, b, build_metric(kind), **options)  # type: ignore[arg-type]
    assert found is not None
    return found


# --- Coverage ---


@pytest.mark.parametrize(
    ("kind", "draw", "level"),
    [
        ("roc_auc", draw_classes, 1.0),
        ("log_loss", draw_classes, 1.0),
        ("kappa", draw_classes, 1.0),
        ("rmse", draw_numbers, 20.0),
    ],
)
def test_equal_runs_are_called_different_in_at_most_5_of_100_pairs(
    kind: str, draw: Draw, level: float
) -> None:
    found = []
    for number in range(PAIRS):
        rng = np.random.default_rng([2026, number])
        found.append(compare(*draw(rng, 150, level, level), kind, seed=number))
    covered = sum(pair.low <= 0 <= pair.high for pair in found) / PAIRS
    assert covered == pytest.approx(0.95, abs=0.04)
    assert sum(pair.better is not None for pair in found) <= 0.05 * PAIRS


def test_the_standard_error_of_a_mean_is_the_one_that_theory_has() -> None:
    """Many classes of two and three images, and one of 120: the variance is unbiased in each."""
    sizes = [2] * 40 + [3] * 40 + [120]
    truth = np.repeat(np.arange(81), sizes)
    rng = np.random.default_rng(1)
    right = rng.uniform(0.1, 0.9, (2, len(truth)))
    sides = []
    for part in right:
        scores = np.repeat((1 - part[:, None]) / 80, 81, axis=1)
        scores[np.arange(len(truth)), truth] = part
        sides.append(Outcome(classes=81, truth=truth, decided=truth, scores=scores))
    gains = np.log(right[0]) - np.log(right[1])
    variance = 0.0
    for label in range(81):
        part = gains[truth == label]
        variance += (len(part) / len(truth)) ** 2 * part.var(ddof=1) / len(part)
    found = compare(sides[0], sides[1], "log_loss", resamples=RESAMPLES)
    assert found.high - found.low == pytest.approx(2 * 1.959964 * math.sqrt(variance), rel=0.05)


def test_classes_have_the_interval_of_drawn_cells() -> None:
    a, b = draw_classes(np.random.default_rng(3), 300, 0.8, 1.2)
    decided = [np.asarray(side.decided) for side in (a, b)]
    drawn = compare_predictions(a.truth, *decided, 3).metrics
    for kind, name in (("macro_f1", "f1"), ("accuracy", "accuracy")):
        found = compare(a, b, kind, resamples=RESAMPLES)
        assert (found.a, found.b) == pytest.approx((drawn[name].a, drawn[name].b))
        width = drawn[name].high - drawn[name].low
        assert found.high - found.low == pytest.approx(width, rel=0.07)
        assert found.p == pytest.approx(drawn[name].p, abs=0.03)


# --- Direction ---


@pytest.mark.parametrize("kind", ["log_loss", "roc_auc", "kappa", "mcc", "average_precision"])
def test_the_better_run_of_classes_is_named_whichever_way_is_better(kind: str) -> None:
    a, b = draw_classes(np.random.default_rng(0), 300, 0.5, 2.0)
    there, back = compare(a, b, kind), compare(b, a, kind)
    assert (there.better, back.better) == ("b", "a")
    assert (there.delta < 0) == (kind in LOWER)
    assert there.higher_is_better == (kind not in LOWER)


@pytest.mark.parametrize(("kind", "sign"), [("rmse", -1), ("mae", -1), ("r2", 1)])
def test_the_better_run_of_numbers_is_named_on_any_scale(kind: str, sign: int) -> None:
    a, b = draw_numbers(np.random.default_rng(0), 200, 30, 15)
    found = compare(a, b, kind)
    assert (found.better, math.copysign(1, found.delta)) == ("b", sign)
    small = [
        Outcome(classes=0, truth=side.truth * 1e-12, decided=np.asarray(side.decided) * 1e-12)
        for side in (a, b)
    ]
    assert (compare(small[0], small[1], kind).better, found.p) == (
        "b",
        compare(small[0], small[1], kind).p,
    )


def test_equal_scores_are_no_difference_even_of_other_numbers() -> None:
    a, _ = draw_classes(np.random.default_rng(0), 100, 1.0, 1.0, classes=2)
    assert a.scores is not None
    softer = Outcome(classes=2, truth=a.truth, decided=a.decided, scores=np.sqrt(a.scores))
    found = compare(a, softer, "roc_auc")
    assert (found.delta, found.smallest, found.better, found.p) == (0, None, None, 1)
    assert compare(a, softer, "log_loss").smallest is not None


# --- What is drawn ---


@pytest.mark.parametrize("kind", ["log_loss", "roc_auc", "kappa"])
def test_photographs_of_one_person_are_no_more_evidence_than_one(kind: str) -> None:
    once = draw_classes(np.random.default_rng(3), 150, 0.8, 1.2)
    four = []
    for side in once:
        parts = {name: np.repeat(getattr(side, name), 4, axis=0) for name in ("truth", "decided")}
        scores = np.repeat(np.asarray(side.scores), 4, axis=0)
        four.append(Outcome(classes=3, scores=scores, **parts))
    people = [f"p{number // 4}" for number in range(600)]
    alone = compare(*once, kind, resamples=1500)
    found = compare(four[0], four[1], kind, resamples=1500, groups=people)
    assert found.high - found.low == pytest.approx(alone.high - alone.low, rel=0.1)
    assert found.p == pytest.approx(alone.p, abs=0.05)
    loose = compare(four[0], four[1], kind, resamples=1500)
    assert loose.high - loose.low == pytest.approx((alone.high - alone.low) / 2, rel=0.1)


def test_the_same_seed_gives_the_same_numbers() -> None:
    a, b = draw_classes(np.random.default_rng(0), 100, 1.0, 1.2)
    assert compare(a, b, "roc_auc") == compare(a, b, "roc_auc")
    assert compare(a, b, "roc_auc", seed=1).low != compare(a, b, "roc_auc").low


def test_a_metric_without_a_weighted_form_takes_fewer_resamples_by_its_scorer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def measure_brier(outcome: Outcome, parameters: Parameters) -> float:
        assert outcome.scores is not None
        return float(((outcome.scores - np.eye(3)[outcome.truth]) ** 2).sum(axis=1).mean())

    known = COMPETITION["log_loss"]._replace(title="Brier score", from_outcome=measure_brier)
    monkeypatch.setitem(COMPETITION, "brier", known)
    a, b = draw_classes(np.random.default_rng(0), 200, 0.5, 2.0)
    metric = TaskMetric(name="brier", kind="brier", higher_is_better=False)
    found = compare_outcomes(a, b, metric)
    assert found is not None
    assert (found.better, found.resamples, found.title) == ("b", FEWEST, "Brier score")


def test_a_metric_that_the_images_do_not_define_has_no_test() -> None:
    a, b = draw_classes(np.random.default_rng(0), 60, 1.0, 1.2, classes=2)
    one_class = [
        Outcome(classes=2, truth=np.zeros_like(a.truth), decided=side.decided, scores=side.scores)
        for side in (a, b)
    ]
    assert compare_outcomes(one_class[0], one_class[1], build_metric("roc_auc")) is None


def test_runs_that_order_all_images_rightly_and_wrongly_are_not_called_equal() -> None:
    truth = np.arange(60) % 2
    sides = []
    for second in (truth * 0.8 + 0.1, 0.9 - truth * 0.8):
        scores = np.stack([1 - second, second], axis=1)
        sides.append(Outcome(classes=2, truth=truth, decided=scores.argmax(axis=1), scores=scores))
    found = compare(sides[0], sides[1], "roc_auc")
    assert (found.delta, found.answer, found.better) == (-1, "real", "a")


def build_judge(measure: Callable[[pd.DataFrame, Outcome], float]) -> TaskMetric:
    """A judge's function of a frame with the id of each image, and whether it is right."""

    def judge(outcome: Outcome) -> float:
        right = outcome.truth == outcome.decided
        return measure(pd.DataFrame({"id": outcome.ids, "right": right}), outcome)

    return TaskMetric(name="own", kind="function", higher_is_better=True, function=judge)


def draw_named(images: int = 60) -> list[Outcome]:
    ids = np.array([f"i{number}.png" for number in range(images)])
    return [side._replace(ids=ids) for side in draw_classes(np.random.default_rng(0), images, 0, 2)]


def test_a_judges_function_that_joins_tables_by_id_counts_each_drawn_image_once() -> None:
    a, b = draw_named()

    def join(frame: pd.DataFrame, outcome: Outcome) -> float:
        joined = frame.merge(frame[["id"]], on="id")
        assert len(joined) == len(frame)
        return float(joined["right"].mean())

    found = compare_outcomes(a, b, build_judge(join))
    assert found is not None and found.resamples == FEWEST
    assert found.low < found.delta < found.high


def test_a_judges_function_that_fails_on_drawn_images_has_no_test() -> None:
    a, b = draw_named()

    def look_up(frame: pd.DataFrame, outcome: Outcome) -> float:
        if set(frame["id"]) != set(a.ids if a.ids is not None else ()):
            raise DataError("an image is missing")
        return float(frame["right"].mean())

    assert compare_outcomes(a, b, build_judge(look_up)) is None


# --- Groups of images that are alike ---


def draw_groups(seed: int, number: int = 30) -> tuple[Outcome, Outcome, list[str]]:
    """Two equally good runs on `number` groups of 8 images, whose errors are those of the group."""
    a, b = draw_classes(np.random.default_rng(seed), number, 1.0, 1.0)
    owners = np.repeat(np.arange(number), 8)
    sides = []
    for side in (a, b):
        assert side.scores is not None
        assert side.decided is not None
        truth, decided, scores = (part[owners] for part in (side.truth, side.decided, side.scores))
        sides.append(side._replace(truth=truth, decided=decided, scores=scores))
    return sides[0], sides[1], [f"patient {number}" for number in owners]


def test_intervals_hold_for_groups_of_images_that_are_alike_and_not_image_by_image() -> None:
    covered = {"groups": 0, "images": 0}
    for seed in range(PAIRS):
        a, b, groups = draw_groups(seed)
        drawn = {"groups": groups, "images": None}
        for name, units in drawn.items():
            found = compare(a, b, "log_loss", groups=units, seed=seed)
            covered[name] += found.low <= 0 <= found.high
    assert covered["groups"] / PAIRS > 0.89
    assert covered["images"] / PAIRS < 0.75


def test_where_every_image_is_a_group_of_its_own_nothing_changes() -> None:
    a, b = draw_classes(np.random.default_rng(4), 60, 1.0, 1.3)
    a = a._replace(truth=np.append(a.truth[:-1], 2), classes=3)
    b = b._replace(truth=a.truth)
    groups = [f"g{number}" for number in range(60)]
    assert compare(a, b, "log_loss", groups=groups) == compare(a, b, "log_loss")
    truth = np.append(a.truth[:-1], 3)  # a class of one image
    plain = compare_predictions(truth, a.decided, b.decided, 4, resamples=FEW)
    assert (
        compare_predictions(truth, a.decided, b.decided, 4, groups=groups, resamples=FEW) == plain
    )


def test_few_groups_have_the_wider_interval_of_students_t() -> None:
    a, b, groups = draw_groups(1, number=4)
    found = compare(a, b, "log_loss", groups=groups)
    assert found.smallest is not None
    error = found.smallest / (2.1700904 + 0.8416212)  # normal quantiles of 1 - 0.03/2 and 0.8
    assert (found.high - found.low) / 2 == pytest.approx(3.1824463 * error, rel=1e-6)  # 3 degrees


def test_a_single_group_unlike_all_others_is_drawn_too() -> None:
    """In a stratum of its own it would never vary, and the interval leave its errors out."""
    truth = np.array([0, 1, 0, 1, 0, 1, 2, 2])
    groups = ["a", "a", "b", "b", "c", "c", "d", "d"]
    a = np.array([0, 1, 0, 1, 0, 1, 0, 0])
    b = np.array([0, 1, 0, 1, 0, 1, 2, 2])  # differs from a in group d alone
    found = compare_predictions(truth, a, b, 3, groups=groups, resamples=FEW)
    assert found.metrics["accuracy"].smallest is not None
    scores = np.eye(3)[[a, b]] * 0.8 + 0.1
    sides = [
        Outcome(classes=3, truth=truth, decided=d, scores=s)
        for d, s in zip((a, b), scores, strict=True)
    ]
    assert compare(*sides, "log_loss", groups=groups).smallest is not None
