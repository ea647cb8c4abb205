"""Advice is right on curves whose story is known, and says nothing where there is only noise."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import scipy.stats

from tests.support.workspaces import make_run
from tracker.comparison.advice import (
    Advice,
    _find_median,
    _find_quantile,
    _rise_p_value,
    advise,
    advise_run,
    by_epoch,
)
from tracker.run_folder.points import Curves
from tracker.run_folder.record import RunRecord
from tracker.workspace.tracker_toml import Workspace

SEEDS = 200


def make_curves(**series: Sequence[float]) -> Curves:
    """Curves by epoch from 1; `val_f1` is val/f1."""
    return {
        name.replace("_", "/"): {step: (step, value) for step, value in enumerate(values, start=1)}
        for name, values in series.items()
    }


def get_advice(monitor: str = "val/f1", **series: Sequence[float]) -> Advice:
    advice = advise(make_curves(**series), monitor=monitor)
    assert advice is not None
    return advice


BEST_AT_3 = {
    "train_loss": [
        1.2,
        0.8,
        0.55,
        0.4,
        0.3,
        0.22,
        0.17,
        0.13,
        0.1,
        0.08,
        0.06,
        0.05,
        0.04,
        0.03,
        0.03,
    ],
    "val_loss": [
        1.1,
        0.85,
        0.74,
        0.76,
        0.8,
        0.83,
        0.88,
        0.9,
        0.95,
        0.97,
        1.02,
        1.05,
        1.08,
        1.12,
        1.13,
    ],
    "val_f1": [
        0.5,
        0.65,
        0.78,
        0.77,
        0.772,
        0.765,
        0.76,
        0.762,
        0.755,
        0.75,
        0.752,
        0.745,
        0.74,
        0.742,
        0.735,
    ],
    "val_accuracy": [
        0.6,
        0.7,
        0.8,
        0.8,
        0.81,
        0.79,
        0.79,
        0.78,
        0.78,
        0.77,
        0.78,
        0.77,
        0.77,
        0.76,
        0.76,
    ],
}


# --- Known stories ---


def test_best_in_epoch_3_of_15_is_overfitting() -> None:
    advice = get_advice(**BEST_AT_3)
    assert (advice.state, advice.best_epoch, advice.past_best, advice.epochs) == (
        "overfitting",
        3,
        12,
        15,
    )
    assert advice.gap_opened in (2, 3)
    assert advice.stop_at == {"val/f1": 3, "val/accuracy": 5, "val/loss": 3}
    assert (advice.patience, advice.saved) == (1, 11)
    text = " ".join(advice.sentences)
    assert (
        "val/f1 was best in epoch 3 of 15; the 12 epochs after it (80 %) brought no improvement"
        in text
    )
    assert "val/accuracy in epoch 5" in text
    assert "val/loss in epoch" not in text
    assert "train.patience=1 would have given the same best.pth and saved 11 epochs." in text


def test_the_advice_about_a_run_of_another_program_names_no_key() -> None:
    curves = make_curves(**BEST_AT_3)
    record = RunRecord(name="exp1", uid="u", kind="train")
    advice = advise_run(record, {}, curves, [])
    assert advice is not None
    text = " ".join(advice.sentences)
    assert (
        "Early stopping after 1 epoch without improvement would have given the same best epoch and"
        " saved 11 epochs." in text
    )
    assert "train." not in text


def test_a_loss_that_turns_while_training_goes_on_is_overfitting_though_f1_stands_still() -> None:
    flat = [
        0.5,
        0.65,
        0.78,
        0.77,
        0.775,
        0.77,
        0.778,
        0.77,
        0.772,
        0.779,
        0.77,
        0.775,
        0.776,
        0.771,
        0.774,
    ]
    assert get_advice(**{**BEST_AT_3, "val_f1": flat}).state == "overfitting"


def test_a_run_that_still_improves_is_told_to_go_on() -> None:
    epochs = range(1, 16)
    advice = get_advice(
        train_loss=[math.exp(-epoch / 8) for epoch in epochs],
        val_loss=[0.2 + math.exp(-epoch / 8) for epoch in epochs],
        val_f1=[0.8 - 0.5 * math.exp(-epoch / 8) for epoch in epochs],
    )
    assert (advice.state, advice.past_best, advice.saved, advice.gap_opened) == (
        "improving",
        0,
        0,
        None,
    )
    assert "More epochs should help" in advice.sentences[0]


def test_a_run_that_only_recovers_is_not_called_improving() -> None:
    assert (
        get_advice(val_f1=[0.6, 0.7, 0.8, 0.5, 0.52, 0.55, 0.57, 0.6, 0.62, 0.65, 0.67, 0.7]).state
        == "plateau"
    )


@pytest.mark.parametrize(
    "loss",
    [
        [1.2, 0.9, 0.7, 0.6, 0.8, 1.5, 2.9, 2.9, 2.9, 2.9],
        [1.2, 0.9, 0.7, 0.6, math.nan],
        [0.7, 0.5, 3.0, 5.0, 5.0, 5.0, 5.0, 5.0],
        [1.2, 0.5, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
    ],
)
def test_a_training_loss_that_does_not_stay_down_has_diverged(loss: Sequence[float]) -> None:
    advice = get_advice(train_loss=loss, val_f1=[0.5, 0.6, 0.65, *[0.1] * (len(loss) - 3)])
    assert advice.state == "diverged"
    assert "optim.lr" in advice.sentences[0]


def test_few_epochs_are_said_to_be_few() -> None:
    assert get_advice(val_f1=[0.5, 0.6]).sentences == [
        "Too few epochs to judge: val/f1 was best in the last of 2 epochs. Try more."
    ]
    assert get_advice(val_f1=[0.6, 0.5]).sentences == [
        "Too few epochs to judge: val/f1 was best in epoch 1 of 2, which in so few may be chance."
        " Try more to see."
    ]
    assert get_advice(val_f1=[0.6]).sentences == [
        "Too few epochs to judge: there was only one. Try more."
    ]


RISEN = (0.7884, 0.7976, 0.8839, 0.8551, 0.8747, 0.8941)


@pytest.mark.parametrize(
    "values",
    [
        RISEN,
        (0.79, 0.80, 0.88, 0.85, 0.89, 0.87),  # best in the last but one
        (0.70, 0.85, 0.80, 0.83, 0.82, 0.84, 0.86),
        (0.70, 0.79, 0.72, 0.81, 0.74, 0.83, 0.76, 0.85),  # noise as large as its rise
    ],
)
def test_a_rise_that_may_go_on_is_no_plateau(values: Sequence[float]) -> None:
    losses = [0.6 * 0.8**epoch for epoch in range(len(values))]
    for monitor, curve in (("val/f1", values), ("val/loss", [1 - value for value in values])):
        advice = get_advice(monitor=monitor, **{"train/loss": losses, monitor: curve})
        assert advice.state in ("short", "improving")
        assert "Plateau" not in advice.sentences[0]


def test_the_rise_of_six_epochs_is_too_short_to_judge() -> None:
    assert get_advice(val_f1=RISEN).sentences[0] == (
        "Too few epochs to judge: val/f1 was best in the last of 6 epochs. Try more."
    )


@pytest.mark.parametrize(
    "curves",
    [
        {"val_f1": [0.9, 0.7, 0.6, 0.5, 0.4]},  # 5 epochs of a Lightning run, the first the best
        {"val_f1": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]},
        {"val_f1": [0.5, 0.6, 0.7], "train_loss": [1.08, 0.55, 2.6]},  # of last batches
        {"val_f1": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]},
    ],
)
def test_every_advice_needs_the_same_number_of_epochs(curves: dict[str, list[float]]) -> None:
    advice = get_advice(**curves)
    assert advice.state == "short"
    assert [line.split(":")[0] for line in advice.sentences] == ["Too few epochs to judge"]
    broken = {**curves, "train_loss": [math.nan] * len(curves["val_f1"])}
    assert get_advice(**broken).state == "diverged", "that is certain after one"


def test_the_loss_of_an_epoch_is_the_mean_of_its_batches() -> None:
    rng, curve, step = np.random.default_rng(1), {}, 0
    for epoch in range(1, 11):
        for batch in range(20):
            # steadily better, but for the last batch of each epoch, which has hard images
            curve[step] = (epoch, 1 / epoch + rng.normal(0, 0.001) + (batch == 19) * epoch / 20)
            step += 1
    curves = {**make_curves(val_f1=[0.5 + n / 100 for n in range(10)]), "train/loss": curve}
    last = {**curves, "train/loss": dict(enumerate(by_epoch(curve).items()))}
    states = [advise(found) for found in (curves, last)]
    assert [found and found.state for found in states] == ["improving", "diverged"]


def test_the_monitored_metric_decides_and_a_loss_is_better_when_it_is_lower() -> None:
    assert get_advice(monitor="val/loss", **BEST_AT_3).best_epoch == 3
    assert get_advice(monitor="val/accuracy", **BEST_AT_3).best_epoch == 5
    assert advise(make_curves(train_loss=[1, 2]), monitor="val/f1") is None
    assert advise(make_curves(val_f1=[math.nan])) is None


# --- Noise ---


def count_states(make: Callable[[np.random.Generator], dict[str, Sequence[float]]]) -> Counter[str]:
    return Counter(get_advice(**make(np.random.default_rng(seed))).state for seed in range(SEEDS))


def fade(epochs: int, pace: float) -> np.ndarray:
    return np.exp(-np.arange(1, epochs + 1) / pace)


@pytest.mark.parametrize("epochs", [8, 15, 30])
@pytest.mark.parametrize("size", [0.001, 0.05])
def test_noise_alone_is_a_plateau_whatever_its_size(epochs: int, size: float) -> None:
    def make(rng: np.random.Generator) -> dict[str, Sequence[float]]:
        noise = size * rng.standard_normal((3, epochs))
        return {"val_f1": 0.7 + noise[0], "val_loss": 0.6 + noise[1], "train_loss": 0.5 + noise[2]}

    assert count_states(make)["plateau"] > 0.9 * SEEDS


def test_a_plateau_after_learning_is_called_one_and_its_beginning_is_found() -> None:
    def make(rng: np.random.Generator) -> dict[str, Sequence[float]]:
        noise = 0.01 * rng.standard_normal((2, 15))
        return {
            "val_f1": 0.7 - 0.5 * fade(15, 1) + noise[0],
            "train_loss": 0.3 + fade(15, 1) + noise[1],
        }

    assert count_states(make)["plateau"] > 0.9 * SEEDS
    told = get_advice(**make(np.random.default_rng(0)))
    assert told.sentences[0].startswith("Plateau: ")
    assert told.noise == pytest.approx(0.01, rel=0.8)


def test_overfitting_and_improvement_are_seen_through_noise() -> None:
    def overfit(rng: np.random.Generator) -> dict[str, Sequence[float]]:
        noise, after = rng.standard_normal((3, 15)), np.maximum(0, np.arange(15) - 2)
        return {
            "train_loss": fade(15, 4) + 0.02 * noise[0],
            "val_loss": 0.6 + fade(15, 1) + 0.04 * after + 0.02 * noise[1],
            "val_f1": 0.75 - 0.4 * fade(15, 1) - 0.008 * after + 0.01 * noise[2],
        }

    def improve(rng: np.random.Generator) -> dict[str, Sequence[float]]:
        noise = rng.standard_normal((2, 15))
        return {
            "val_f1": 0.8 - 0.5 * fade(15, 8) + 0.01 * noise[0],
            "val_loss": 0.5 + fade(15, 8) + 0.02 * noise[1],
        }

    assert count_states(overfit)["overfitting"] > 0.95 * SEEDS
    assert count_states(improve)["improving"] > 0.95 * SEEDS


def test_the_trend_test_is_that_of_kendall() -> None:
    rng = np.random.default_rng(0)
    for count in (5, 8, 12, 30, 60):
        values = list(rng.standard_normal(count) + 0.1 * np.arange(count))
        method = "exact" if count <= 12 else "asymptotic"
        wanted = scipy.stats.kendalltau(
            range(count), values, alternative="greater", method=method
        ).pvalue
        assert _rise_p_value(values) == pytest.approx(wanted, abs=1e-6 if count <= 12 else 0.02)


# --- Runs ---


def test_only_a_run_that_was_trained_is_advised(workspace: Workspace) -> None:
    record = make_run(workspace, "0000011110")
    curves = make_curves(val_f1=[0.5, 0.6], val_loss=[0.4, 0.5])
    assert advise_run(record, {}, curves, ()) is not None
    assert advise_run(record, {"train": {"monitor": "val/loss"}}, curves, ()).best_epoch == 1  # type: ignore[union-attr]
    assert advise_run(type(record)(name="exp2", uid="u", kind="ensemble"), {}, curves, ()) is None


def test_epochs_that_tie_are_named_beside_the_first_and_no_metric_disagrees_by_a_tie() -> None:
    f1 = [0.1, 0.2, 0.6, 0.5, 0.6, 0.4, 0.5, 0.4]
    accuracy = [0.1, 0.9, 0.9, 0.2, 0.3, 0.2, 0.3, 0.2]
    loss = [0.9, 0.5, 0.6, 0.1, 0.6, 0.1, 0.6, 0.5]
    advice = get_advice(**{"val/f1": f1, "val/accuracy": accuracy, "val/loss": loss})
    text = " ".join(advice.sentences)
    assert advice.best_epoch == 3
    assert "val/f1 was best in epoch 3 of 8 (as good: 5)" in text
    assert "val/loss in epoch 4 (as good: 6)" in text
    assert "val/accuracy in epoch" not in text, "epoch 3 is as good as epoch 2"


def test_the_last_value_of_an_epoch_is_that_of_its_highest_step() -> None:
    assert by_epoch({3: (1, 0.2), 1: (1, 0.9), 5: (2, 0.1), 4: (2, 0.7)}) == {1: 0.2, 2: 0.1}


def test_median_and_quantiles_are_those_of_the_standard_library() -> None:
    for values in ([3.0], [4.0, 1.0], [5.0, -2.0, 9.0], [2.0, 8.0, 1.0, 7.0]):
        assert _find_median(values) == statistics.median(values)
    for share in (0.5, 0.75, 0.95, 0.95 ** (1 / 5), 0.95 ** (1 / 100_000)):
        expected = statistics.NormalDist().inv_cdf(share)
        assert _find_quantile(share) == pytest.approx(expected, rel=1e-12, abs=1e-12)
