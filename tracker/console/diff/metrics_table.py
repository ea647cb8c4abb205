"""How the metrics moved: a row for each, the classes, gaps and best epochs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tracker.comparison.diff import RunDiff
from tracker.console.diff.sections import Section
from tracker.core.list_marks import SEARCHED, explain_marks, mark_flattered
from tracker.core.table import Column, Styled
from tracker.core.text import render_number
from tracker.training.metrics import METRICS
from tracker.workspace.metrics import is_of_training


def build_metric_columns(diff: RunDiff) -> list[Column]:
    """The columns of `list_metric_rows`."""
    sides = [Column(name, leaves=2, right=True, group="sides") for name in (diff.a, diff.b)]
    return [Column("metric"), *sides, Column("delta", right=True), Column("ahead", leaves=3)]


def list_metric_rows(diff: RunDiff, names: Sequence[str]) -> list[tuple[Styled, ...]]:
    """A row for each metric; only a difference that is known to be real has a color."""
    rows = []
    for name in names:
        item = diff.metrics[name]
        better = {"a": diff.a, "b": diff.b, None: "-"}[item["better"]]
        winner = item["better"] if _is_shown(name, diff) else None
        style = {"a": "red", "b": "green", None: ""}[winner]
        delta = Styled(render_number(item["delta"], signed=True), style)
        marked = diff.flattered if name.startswith("val/") else (False, False)
        figures = [
            Styled(
                mark_flattered(render_number(item[side]), flattered=own, any_of_column=any(marked))
            )
            for side, own in zip(("a", "b"), marked, strict=True)
        ]
        rows.append((Styled(name), *figures, delta, Styled(better, style)))
    return rows


def explain_flattered(diff: RunDiff) -> list[str]:
    """The legend of the mark of flattered figures, where there is one."""
    return [explain_marks([SEARCHED])] if any(diff.flattered) else []


def list_metrics(diff: RunDiff, *, everything: bool) -> Iterator[Section]:
    """The table of metrics, and sentences on classes, reasons and epochs."""
    by_class = find_by_class(diff)
    names = [name for name in diff.metrics if everything or name not in by_class]
    rows = list_metric_rows(diff, names)
    if rows:
        rows += _list_gaps(diff)
        yield Section(columns=build_metric_columns(diff), rows=rows)
        yield Section(lines=explain_flattered(diff))
    else:
        yield Section(lines=["metrics: no difference"])
    if by_class and not everything:
        yield Section(lines=[*_list_by_class(by_class, _list_class_beginnings(), diff)])
    yield Section(lines=[*explain_incomparable(diff, of_training=True)])
    yield Section(lines=[*render_best_epochs(diff)])


def choose_brief_metrics(diff: RunDiff) -> list[str]:
    """Leaderboard scores and validation metrics; --full has training, classes and gaps, too."""
    by_class = find_by_class(diff)
    names = [name for name in diff.metrics if name not in by_class and not is_of_training(name)]
    # overall follows from public and private
    return [name for name in names if not name.startswith("overall_")]


def find_by_class(diff: RunDiff) -> dict[str, Mapping[str, Any]]:
    """The metrics of single classes: up to hundreds, so most views count them only."""
    beginnings = _list_class_beginnings()
    return {name: item for name, item in diff.metrics.items() if name.startswith(beginnings)}


def _list_class_beginnings() -> tuple[str, ...]:
    return tuple(f"val/{metric.name}/" for metric in METRICS.values() if metric.by_class)


def _is_shown(name: str, diff: RunDiff) -> bool:
    """Whether the difference is known to be no chance, and so has the color of better or worse.

    A leaderboard's score counts as it is.
    """
    if not name.startswith(("val/", "train/")):
        return True
    result = diff.statistics.metrics.get(name.removeprefix("val/")) if diff.statistics else None
    return result is not None and result.better == diff.metrics[name]["better"]


def _list_gaps(diff: RunDiff) -> Iterator[tuple[Styled, ...]]:
    """Validation minus training at the best epochs."""
    for name, (a, b) in diff.gap.items():
        if a is not None or b is not None:
            delta = render_number(None if a is None or b is None else b - a, signed=True)
            texts = (f"gap {name} (val - train)", render_number(a), render_number(b), delta, "-")
            yield tuple(map(Styled, texts))


def _list_by_class(
    by_class: Mapping[str, Mapping[str, Any]], beginnings: Sequence[str], diff: RunDiff
) -> Iterator[str]:
    """A line on each metric that has classes; --all shows each class."""
    for beginning in beginnings:
        if of_metric := {
            name: item for name, item in by_class.items() if name.startswith(beginning)
        }:
            line = _render_by_class(beginning, of_metric, diff)
            if line:  # nothing where one of the two has no figure of any class
                yield line


def _render_by_class(
    beginning: str, by_class: Mapping[str, Mapping[str, Any]], diff: RunDiff
) -> str:
    title = f"{beginning.rstrip('/')} by class"
    if any(name in diff.not_comparable for name in by_class):
        return f"{title}: not comparable (--all shows each)"
    if all(item["delta"] is None for item in by_class.values()):
        return ""
    winners = [item["better"] for item in by_class.values()]
    name, item = max(by_class.items(), key=lambda pair: abs(pair[1]["delta"] or 0.0))
    change = render_number(item["delta"], signed=True)
    most = f"largest change: {name.removeprefix(beginning)} {change}"
    return (
        f"{title}: {winners.count('b')} higher in {diff.b}, {winners.count('a')} in {diff.a};"
        f" {most} (--all shows each)"
    )


def explain_incomparable(diff: RunDiff, *, of_training: bool) -> Iterator[str]:
    """Metrics that cannot be compared, a line for each reason; without F1 by class.

    Metrics of training are left out unless `of_training`. A reason that the verdict gives is not
    repeated.
    """
    for reason in dict.fromkeys(diff.not_comparable.values()):
        names = [
            name
            for name, why in diff.not_comparable.items()
            if why == reason and name.count("/") < 2
        ]
        if not of_training:
            names = [name for name in names if not is_of_training(name)]
        if names:
            told = any(reason in line for line in diff.verdict)
            why = " for the reason above" if told else f": {reason}"
            yield f"{', '.join(names)}: not comparable{why}"


def render_best_epochs(diff: RunDiff) -> Iterator[str]:
    """The best epochs, where they differ."""
    a, b = diff.best_epoch
    if a != b:
        yield f"best epoch: {render_number(a)} -> {render_number(b)}"
