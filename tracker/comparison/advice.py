"""What the curves of a run say about how long it should have been trained.

Plain Python: `show` loads no numpy for it.

A trend is judged by order alone: Mann-Kendall's test counts the pairs of epochs in which the curve
rose, and under mere noise every order is equally likely, however large the noise is (Mann 1945,
Econometrica 13). No threshold is in units of loss or F1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import combinations, pairwise
from typing import Any

from tracker.run_folder.points import Curves
from tracker.run_folder.record import RunRecord
from tracker.training.metrics import list_monitors
from tracker.training.numbers import render_count
from tracker.workspace.metrics import higher_is_better
from tracker.workspace.tracker_toml import Metric

# Of 0.05 for a false alarm, each of the three tests (rise, fall, rising loss) has a third.
ALPHA = 0.05 / 3
# With fewer epochs, no order is rarer than ALPHA.
MIN_EPOCHS = 5
# With fewer epochs nothing is said but that they are few, or that a loss is no number: a rise is
# easily missed, and what looks like overfitting or divergence may be the noise of the beginning.
MIN_TO_JUDGE = 8
# A curve that is best at its end is no plateau if noise alone rises like it in fewer than this.
ALPHA_PLATEAU = 0.05
# Up to 12 epochs, the distribution is counted exactly; from ten on it is nearly normal.
MAX_EXACT = 12
# Epochs that are named beside the best one.
MAX_EQUAL_NAMED = 3
DEFAULT_MONITOR = "val/f1"  # of runs whose config has no train.monitor
Series = Mapping[int, float]  # by epoch


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What the curves of one run say, as numbers and as sentences.

    `state` is improving, overfitting, diverged, plateau (no trend beyond noise) or short (too few
    epochs to tell a rise from noise). `past_best` epochs came after `best_epoch` of
    `monitor`. `noise` is the standard deviation from epoch to epoch. From epoch `gap_opened` on,
    the validation loss is above the
    training loss by more than noise. `stop_at` has the best epoch by each metric. `patience` would
    have given the same best epoch and saved `saved` epochs.
    """

    state: str
    monitor: str
    epochs: int
    best_epoch: int
    past_best: int
    noise: float | None
    gap_opened: int | None
    stop_at: Mapping[str, int]
    patience: int
    saved: int
    sentences: Sequence[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        return asdict(self)


def advise(
    curves: Curves,
    *,
    monitor: str = DEFAULT_MONITOR,
    metrics: Sequence[Metric] = (),
    has_our_keys: bool = True,
) -> Advice | None:
    """Read the curves of a run by epoch; None where the monitored metric was never finite.

    `metrics` are the competition's: they say which way is better. Without `has_our_keys` (the
    training loop is another program's) the advice names no config keys.
    """
    own = [f"val/{metric.name}" for metric in metrics]
    stoppers = list(dict.fromkeys([*list_monitors(), *own]))
    signs = {name: 1 if higher_is_better(metrics, name) else -1 for name in (*stoppers, monitor)}
    series = {name: by_epoch(curves.get(name, {})) for name in (*stoppers, monitor)}
    series["train/loss"] = average_epochs(curves.get("train/loss", {}))
    finite = {name: _finite(values) for name, values in series.items()}
    watched = finite[monitor]
    if not watched:
        return None
    epochs = max(max(values, default=0) for values in series.values())
    sign = signs[monitor]
    best = find_best(watched, sign)
    state = _find_state(series, finite, monitor, sign, best)
    patience = _find_patience(watched, sign)
    advice = Advice(
        state=state,
        monitor=monitor,
        epochs=epochs,
        best_epoch=best,
        past_best=epochs - best,
        noise=_estimate_noise(list(watched.values())),
        gap_opened=_find_gap(finite["train/loss"], finite["val/loss"]),
        stop_at={name: find_best(finite[name], signs[name]) for name in stoppers if finite[name]},
        patience=patience,
        saved=max(0, epochs - best - patience),
        sentences=(),
    )
    return replace(advice, sentences=_write(advice, watched, finite, has_our_keys))


def advise_run(
    record: RunRecord, config: Mapping[str, Any], curves: Curves, metrics: Sequence[Metric]
) -> Advice | None:
    """Advice about a run that was trained.

    None for other kinds of runs, and for a run without a curve of its monitored metric.
    """
    # An ensemble that an earlier version adopted is of kind train.
    if record.kind != "train" or "ensemble" in config:
        return None
    monitor = config.get("train", {}).get("monitor") or find_monitor(curves, metrics)
    has_our_keys = bool(record.fingerprints.get("data"))  # a loop of another program has none
    return advise(curves, monitor=monitor, metrics=metrics, has_our_keys=has_our_keys)


def find_monitor(curves: Curves, metrics: Sequence[Metric]) -> str:
    """The metric that judges a run whose config names none.

    It is the first of the competition's that was logged, the deciding one first in `metrics`.
    """
    own = [f"val/{metric.name}" for metric in metrics]
    return next((name for name in own if name in curves), DEFAULT_MONITOR)


def find_best(values: Series, sign: int) -> int:
    """The first epoch with the best value: the highest if `sign` is 1, the lowest if it is -1."""
    return max(values, key=lambda epoch: (sign * values[epoch], -epoch))


def find_ties(values: Series, best: int) -> list[int]:
    """The epochs after `best` that are as good as it."""
    return [epoch for epoch, value in values.items() if epoch > best and value == values[best]]


def by_epoch(curve: Mapping[int, tuple[int, float]]) -> dict[int, float]:
    """The last value of each epoch, the one of its highest step: every view of epochs shows it."""
    by_step = [curve[step] for step in sorted(curve)]
    return dict(sorted(dict(by_step).items()))


def average_epochs(curve: Mapping[int, tuple[int, float]]) -> dict[int, float]:
    """The mean value of each epoch: where a loop logs its batches, the last one is no epoch's loss.

    The last value stays where it is no number; others that are none are left out.
    """
    of_epoch: dict[int, list[float]] = {}
    for step in sorted(curve):
        epoch, value = curve[step]
        of_epoch.setdefault(epoch, []).append(value)
    means = {}
    for epoch in sorted(of_epoch):
        values = of_epoch[epoch]
        known = [value for value in values if math.isfinite(value)]
        is_mean = math.isfinite(values[-1])
        means[epoch] = sum(known) / len(known) if is_mean else values[-1]
    return means


def _finite(values: Series) -> dict[int, float]:
    return {epoch: value for epoch, value in values.items() if math.isfinite(value)}


def _find_state(
    series: Mapping[str, Series], finite: Mapping[str, Series], monitor: str, sign: int, best: int
) -> str:
    every_loss = [*series["train/loss"].values(), *series["val/loss"].values()]
    if not all(math.isfinite(value) for value in every_loss):
        return "diverged"
    watched = finite[monitor]
    values = [sign * value for value in watched.values()]
    if len(values) < MIN_TO_JUDGE:
        return "short"
    if _ends_high(finite["train/loss"]):
        return "diverged"
    late = values[-max(MIN_EPOCHS, len(values) // 2) :]
    newest = list(watched)[-math.ceil(len(values) / 4) :]
    if best in newest and _rise_p_value(late) < ALPHA:
        return "improving"
    falling = _after(watched, best, -sign)
    lost = finite["val/loss"]
    turn = find_best(lost, -1) if lost else best
    rising = _after(lost, turn, 1) if _keeps_falling(finite["train/loss"], turn) else []
    if any(_rise_p_value(part) < ALPHA for part in (falling, rising)):
        return "overfitting"
    return "short" if best in newest and _may_rise(watched, sign, best) else "plateau"


def _may_rise(watched: Series, sign: int, best: int) -> bool:
    """Whether a curve that is best at its end may be rising still, though that is not certain."""
    level, first = _find_level(watched, best), min(watched)
    since = _after(watched, level if level > first else first - 1, sign)
    return _rise_p_value(since) < ALPHA_PLATEAU


def _find_level(watched: Series, best: int) -> int:
    """The first epoch that noise alone may separate from the best one."""
    noise = _estimate_noise(list(watched.values())) or 0.0
    reach = _expected_range(noise, len(watched))
    return next(epoch for epoch, value in watched.items() if abs(watched[best] - value) <= reach)


def _ends_high(train: Series) -> bool:
    """Whether the training loss is clearly above its first epoch, or rises since its best one."""
    losses = list(train.values())
    if len(losses) < MIN_TO_JUDGE:
        return False
    noise = _estimate_noise(losses)
    clear = losses[0] - min(losses) if noise is None else _expected_range(noise, len(losses))
    rising = _after(train, find_best(train, -1), 1)
    return losses[-1] - losses[0] > clear or _rise_p_value(rising) < ALPHA


def _after(values: Series, epoch: int, sign: int) -> list[float]:
    """The values after an epoch, times `sign`.

    The epoch itself was chosen for its value and says nothing about a trend.
    """
    return [sign * value for number, value in values.items() if number > epoch]


def _keeps_falling(train: Series, since: int) -> bool:
    """Whether the training loss continued to fall after an epoch."""
    later = _after(train, since, 1)
    return bool(later) and since in train and _find_median(later) < train[since]


def _rise_p_value(values: Sequence[float]) -> float:
    """One-sided p value of Mann-Kendall's test for a rising trend.

    It is how often noise alone has as many pairs of which the later value is higher.
    """
    count = len(values)
    if count < 2:
        return 1.0
    falls = sum(later <= earlier for earlier, later in combinations(values, 2))
    if count <= MAX_EXACT:
        orders = _count_inversions(count)
        return sum(orders[: falls + 1]) / math.factorial(count)
    mean, variance = count * (count - 1) / 4, count * (count - 1) * (2 * count + 5) / 72
    return 1 - _chance_above((falls + 0.5 - mean) / math.sqrt(variance))


@cache
def _count_inversions(count: int) -> list[int]:
    """How many orders of `count` values have 0, 1, 2 ... pairs in the wrong order."""
    orders = [1]
    for size in range(2, count + 1):
        longer = [0] * (len(orders) + size - 1)
        for inversions, number in enumerate(orders):
            for shift in range(size):
                longer[inversions + shift] += number
        orders = longer
    return orders


def _estimate_noise(values: Sequence[float]) -> float | None:
    """Standard deviation of the noise, from the median of second differences.

    A steady trend adds nothing to second differences.
    """
    if len(values) < MIN_EPOCHS:
        return None
    bends = [abs(values[i - 1] - 2 * values[i] + values[i + 1]) for i in range(1, len(values) - 1)]
    return _find_median(bends) / (_find_quantile(0.75) * math.sqrt(6))


def _expected_range(noise: float, count: int) -> float:
    """How far the best of `count` epochs is above another epoch by noise alone (95 of 100 runs)."""
    return math.sqrt(2) * noise * _find_quantile(0.95 ** (1 / count))


# Importing `statistics` for the three below takes a fortieth of `tracker show`.


def _find_median(values: Sequence[float]) -> float:
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _chance_above(errors: float) -> float:
    """How often a normal value is more than so many standard errors above its mean."""
    return math.erfc(errors / math.sqrt(2)) / 2


def _find_quantile(share: float) -> float:
    """The standard errors below which a share of normal values lies, 0.5 <= share < 1.

    Newton's method: from 0 it comes near from below, for the tail is convex.
    """
    errors, step = 0.0, 1.0
    while step > 1e-9:
        density = math.exp(-errors * errors / 2) / math.sqrt(2 * math.pi)
        step = (_chance_above(errors) - (1 - share)) / density
        errors += step
    return errors


def _find_gap(train: Series, val: Series) -> int | None:
    """The epoch from which the validation loss stays above the training loss by more than noise.

    Or above the smallest gap that there was. None if the gap does not grow.
    """
    gaps = {epoch: val[epoch] - train[epoch] for epoch in val if epoch in train}
    noise = _estimate_noise(list(gaps.values()))
    if noise is None or _rise_p_value(list(gaps.values())) >= ALPHA:
        return None
    level = max(0.0, min(gaps.values())) + _expected_range(noise, len(gaps))
    closed = [epoch for epoch, gap in gaps.items() if gap <= level]
    return next((epoch for epoch in gaps if epoch > max(closed, default=0)), None)


def _find_patience(values: Series, sign: int) -> int:
    """The smallest train.patience with which the training would have reached its best epoch."""
    records, best = [], -math.inf
    for epoch, value in values.items():
        if sign * value > best:
            best = sign * value
            records.append(epoch)
    return max([later - earlier for earlier, later in pairwise(records)], default=1)


# --- Sentences


def _write(
    advice: Advice, watched: Series, finite: Mapping[str, Series], has_our_keys: bool
) -> list[str]:
    equal = _name_ties(watched, advice.best_epoch)
    best = f"{advice.monitor} was best in epoch {advice.best_epoch} of {advice.epochs}{equal}"
    lines = [WRITERS[advice.state](advice, best, watched)]
    if advice.state == "overfitting" and advice.gap_opened is not None:
        lines.append(
            f"Since epoch {advice.gap_opened}, the validation loss has moved away from the training"
            " loss."
        )
    if advice.state == "diverged":
        remedy = "optim.lr, or set train.clip_grad"
        if not has_our_keys:
            remedy = "the learning rate, or clip the gradients"
        lines[0] = f"{lines[0]} Lower {remedy}."
    if advice.state in ("overfitting", "plateau") and advice.saved:
        saved, stop = render_count(advice.saved, "epoch"), f"train.patience={advice.patience}"
        if not has_our_keys:
            without = render_count(advice.patience, "epoch")
            stop = f"Early stopping after {without} without improvement"
        weights = "best.pth" if has_our_keys else "best epoch"
        lines.append(f"{stop} would have given the same {weights} and saved {saved}.")
    others = [
        f"{name} in epoch {epoch}{_name_ties(finite[name], epoch)}"
        for name, epoch in advice.stop_at.items()
        if advice.best_epoch not in (epoch, *find_ties(finite[name], epoch))
    ]
    if others and advice.state != "short":
        lines.append(f"Other metrics were best in other epochs: {', '.join(others)}.")
    return lines


def _name_ties(values: Series, best: int) -> str:
    equal = find_ties(values, best)
    more = len(equal) - MAX_EQUAL_NAMED
    named = [*map(str, equal[:MAX_EQUAL_NAMED]), *([f"{more} more"] if more > 0 else ())]
    return f" (as good: {', '.join(named)})" if equal else ""


def _write_improving(_: Advice, best: str, __: Series) -> str:
    return f"Still improving at the end: {best}. More epochs should help."


def _write_overfitting(advice: Advice, best: str, _: Series) -> str:
    share = 100 * advice.past_best / advice.epochs
    return (
        f"Overfitting: {best}; the {render_count(advice.past_best, 'epoch')} after it"
        f" ({share:.0f} %) brought no improvement."
    )


def _write_diverged(_: Advice, best: str, __: Series) -> str:
    return f"Diverged: the training loss did not stay low; {best}."


def _write_plateau(advice: Advice, best: str, watched: Series) -> str:
    noise, level = advice.noise or 0.0, _find_level(watched, advice.best_epoch)
    return (
        f"Plateau: {best}; since epoch {level}, it has changed less than its noise"
        f" ({noise:.2g} per epoch). It is unclear whether more epochs would help."
    )


def _write_short(advice: Advice, best: str, _: Series) -> str:
    if not advice.past_best:
        best = f"{advice.monitor} was best in the last of {advice.epochs} epochs"
    if advice.epochs == 1:
        best = "there was only one"
    elif advice.past_best:
        return f"Too few epochs to judge: {best}, which in so few may be chance. Try more to see."
    return f"Too few epochs to judge: {best}. Try more."


WRITERS: dict[str, Callable[[Advice, str, Series], str]] = {
    "improving": _write_improving,
    "overfitting": _write_overfitting,
    "diverged": _write_diverged,
    "plateau": _write_plateau,
    "short": _write_short,
}
