"""What the curves of a run say about how long it should have been trained. Plain Python: `show`
loads no numpy for it.

A trend is judged by order alone: Mann-Kendall's test counts the pairs of epochs in which the curve
rose, and under mere noise every order is equally likely, however large the noise is (Mann 1945,
Econometrica 13). No threshold is in units of loss or F1.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

from tracker.runs.points import Curves
from tracker.runs.record import RunRecord
from tracker.training.metrics import list_monitors
from tracker.workspace.competition import Metric
from tracker.workspace.metrics import higher_is_better

CHANCE = 0.05 / 3  # of reading something into noise, in each of the three tests
FEWEST = 5  # epochs: fewer have no order that is rarer than CHANCE
EXACT = 12  # epochs up to which the distribution is counted out; it is all but normal from ten on
MOST_EQUAL = 3  # epochs that are named beside the best one
MONITOR = "val/f1"  # of runs whose config has no train.monitor
Series = Mapping[int, float]  # by epoch


@dataclass(frozen=True, kw_only=True)
class Advice:
    """`state` is improving, overfitting, diverged, plateau (no trend beyond noise) or short (too few
    epochs).

    `past_best` epochs came after `best_epoch` of `monitor`; `noise` is the standard deviation from
    epoch to epoch;
    `gap_opened` is the epoch from which the validation loss left the training loss behind;
    `stop_at` has the best epoch
    by each metric; `patience` would have kept the same best epoch and saved `saved` epochs.
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
    curves: Curves, *, monitor: str = MONITOR, metrics: Sequence[Metric] = ()
) -> Advice | None:
    """Read the curves of a run by epoch; None where the monitored metric was never finite.

    `metrics` are the competition's: they say which way is better.
    """
    stoppers = list_monitors()
    signs = {name: 1 if higher_is_better(metrics, name) else -1 for name in (*stoppers, monitor)}
    series = {name: by_epoch(curves.get(name, {})) for name in (*stoppers, monitor, "train/loss")}
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
    return replace(advice, sentences=_write(advice, watched, finite))


def advise_run(
    record: RunRecord, config: Mapping[str, Any], curves: Curves, metrics: Sequence[Metric]
) -> Advice | None:
    """Advice about a run that was trained; None for other kinds, and where it has no curve of its
    monitored metric."""
    if record.kind != "train":
        return None
    return advise(curves, monitor=config.get("train", {}).get("monitor", MONITOR), metrics=metrics)


def find_best(values: Series, sign: int) -> int:
    """The first epoch with the best value, the highest where `sign` is 1, the lowest where it is
    -1."""
    return max(values, key=lambda epoch: (sign * values[epoch], -epoch))


def find_equals(values: Series, best: int) -> list[int]:
    """The epochs after `best` that are as good as it."""
    return [epoch for epoch, value in values.items() if epoch > best and value == values[best]]


def by_epoch(curve: Mapping[int, tuple[int, float]]) -> dict[int, float]:
    """The last value of each epoch, the one of its highest step: every view of epochs shows it."""
    by_step = [curve[step] for step in sorted(curve)]
    return dict(sorted(dict(by_step).items()))


def _finite(values: Series) -> dict[int, float]:
    return {epoch: value for epoch, value in values.items() if math.isfinite(value)}


def _find_state(
    series: Mapping[str, Series], finite: Mapping[str, Series], monitor: str, sign: int, best: int
) -> str:
    if _has_diverged(series, finite["train/loss"]):
        return "diverged"
    watched = finite[monitor]
    values = [sign * value for value in watched.values()]
    if len(values) < FEWEST:
        return "short"
    late = values[-max(FEWEST, len(values) // 2) :]
    newest = list(watched)[-math.ceil(len(values) / 4) :]
    if best in newest and _chance_of_rise(late) < CHANCE:
        return "improving"
    falling = _after(watched, best, -sign)
    lost = finite["val/loss"]
    turn = find_best(lost, -1) if lost else best
    rising = _after(lost, turn, 1) if _keeps_falling(finite["train/loss"], turn) else []
    if any(_chance_of_rise(part) < CHANCE for part in (falling, rising)):
        return "overfitting"
    return "plateau"


def _has_diverged(series: Mapping[str, Series], train: Series) -> bool:
    """A loss that is no number; a training loss that ends clearly above its first epoch, or rises
    since its best."""
    if any(
        not math.isfinite(value)
        for name in ("train/loss", "val/loss")
        for value in series[name].values()
    ):
        return True
    losses = list(train.values())
    if not losses:
        return False
    noise = _estimate_noise(losses)
    clear = losses[0] - min(losses) if noise is None else _luck(noise, len(losses))
    rising = _after(train, find_best(train, -1), 1)
    return losses[-1] - losses[0] > clear or _chance_of_rise(rising) < CHANCE


def _after(values: Series, epoch: int, sign: int) -> list[float]:
    """What came after an epoch; the epoch itself was chosen for its value and says nothing about a
    trend."""
    return [sign * value for number, value in values.items() if number > epoch]


def _keeps_falling(train: Series, since: int) -> bool:
    """Whether the training loss went on to fall after an epoch."""
    later = _after(train, since, 1)
    return bool(later) and since in train and statistics.median(later) < train[since]


def _chance_of_rise(values: Sequence[float]) -> float:
    """One-sided p of Mann-Kendall's test: how often noise alone has as many pairs of which the
    later is higher."""
    count = len(values)
    if count < 2:
        return 1.0
    falls = sum(later <= earlier for i, later in enumerate(values) for earlier in values[:i])
    if count <= EXACT:
        orders = _count_inversions(count)
        return sum(orders[: falls + 1]) / math.factorial(count)
    mean, variance = count * (count - 1) / 4, count * (count - 1) * (2 * count + 5) / 72
    return statistics.NormalDist(mean, math.sqrt(variance)).cdf(falls + 0.5)


@cache
def _count_inversions(count: int) -> list[int]:
    """How many orders of `count` values have 0, 1, 2 ... pairs the wrong way round."""
    orders = [1]
    for size in range(2, count + 1):
        longer = [0] * (len(orders) + size - 1)
        for place, number in enumerate(orders):
            for shift in range(size):
                longer[place + shift] += number
        orders = longer
    return orders


def _estimate_noise(values: Sequence[float]) -> float | None:
    """Standard deviation of the noise, from the median of second differences, to which a steady
    trend adds nothing."""
    if len(values) < FEWEST:
        return None
    bends = [abs(values[i - 1] - 2 * values[i] + values[i + 1]) for i in range(1, len(values) - 1)]
    return statistics.median(bends) / (statistics.NormalDist().inv_cdf(0.75) * math.sqrt(6))


def _luck(noise: float, count: int) -> float:
    """How far the best of `count` epochs stands above another one of them by noise alone, in 95 of
    100 runs."""
    return math.sqrt(2) * noise * statistics.NormalDist().inv_cdf(0.95 ** (1 / count))


def _find_gap(train: Series, val: Series) -> int | None:
    """The epoch from which the validation loss stays above the training loss, or above the smallest
    gap there was.

    By more than the noise; None where the gap does not widen.
    """
    gaps = {epoch: val[epoch] - train[epoch] for epoch in val if epoch in train}
    noise = _estimate_noise(list(gaps.values()))
    if noise is None or _chance_of_rise(list(gaps.values())) >= CHANCE:
        return None
    level = max(0.0, min(gaps.values())) + _luck(noise, len(gaps))
    closed = [epoch for epoch, gap in gaps.items() if gap <= level]
    return next((epoch for epoch in gaps if epoch > max(closed, default=0)), None)


def _find_patience(values: Series, sign: int) -> int:
    """The smallest train.patience with which training would have reached its best epoch."""
    records, best = [], -math.inf
    for epoch, value in values.items():
        if sign * value > best:
            best = sign * value
            records.append(epoch)
    return max([later - earlier for earlier, later in pairwise(records)], default=1)


# --- Sentences
# --------------------------------------------------------------------------------------------------------


def _write(advice: Advice, watched: Series, finite: Mapping[str, Series]) -> list[str]:
    equal = _name_equals(watched, advice.best_epoch)
    best = f"{advice.monitor} was best in epoch {advice.best_epoch} of {advice.epochs}{equal}"
    lines = [WORDS[advice.state](advice, best, watched)]
    if advice.state == "overfitting" and advice.gap_opened is not None:
        lines.append(
            "The validation loss has left the training loss behind since epoch"
            f" {advice.gap_opened}."
        )
    if advice.state in ("overfitting", "plateau") and advice.saved:
        kept = f"train.patience={advice.patience} would have kept the same best.pth"
        lines.append(f"In hindsight {kept} and saved {_epochs(advice.saved)}.")
    others = [
        f"by {name} epoch {epoch}{_name_equals(finite[name], epoch)}"
        for name, epoch in advice.stop_at.items()
        if advice.best_epoch not in (epoch, *find_equals(finite[name], epoch))
    ]
    if others and advice.state != "short":
        lines.append(f"Judged by another metric, another epoch was best: {', '.join(others)}.")
    return lines


def _name_equals(values: Series, best: int) -> str:
    equal = find_equals(values, best)
    more = len(equal) - MOST_EQUAL
    named = [*map(str, equal[:MOST_EQUAL]), *([f"{more} more"] if more > 0 else ())]
    return f" (as good: {', '.join(named)})" if equal else ""


def _write_improving(_: Advice, best: str, __: Series) -> str:
    return f"Still improving at the end: {best}. More epochs should help."


def _write_overfitting(advice: Advice, best: str, _: Series) -> str:
    share = 100 * advice.past_best / advice.epochs
    return (
        f"Overfitting: {best}; the {_epochs(advice.past_best)} after it ({share:.0f} %) brought"
        " nothing better."
    )


def _write_diverged(_: Advice, best: str, __: Series) -> str:
    return (
        f"Diverged: the training loss did not stay down; {best}. Lower optim.lr, or set"
        " train.clip_grad."
    )


def _write_plateau(advice: Advice, best: str, watched: Series) -> str:
    noise, highest = advice.noise or 0.0, watched[advice.best_epoch]
    reach = _luck(noise, len(watched))
    level = next(epoch for epoch, value in watched.items() if abs(highest - value) <= reach)
    return (
        f"Plateau: {best}, and from epoch {level} on"
        f" nothing stands out of the noise ({noise:.2g} from epoch to epoch). It is unclear whether"
        " more epochs would help."
    )


def _write_short(advice: Advice, best: str, _: Series) -> str:
    more = ", the last one: try more" if not advice.past_best else ""
    return f"Too few epochs to judge: {best}{more}."


def _epochs(number: int) -> str:
    return f"{number} epoch{'s' * (number != 1)}"


WORDS: dict[str, Callable[[Advice, str, Series], str]] = {
    "improving": _write_improving,
    "overfitting": _write_overfitting,
    "diverged": _write_diverged,
    "plateau": _write_plateau,
    "short": _write_short,
}
