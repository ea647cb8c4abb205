"""The family of runs as people read it on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tracker.comparison.tree import MAX_INDENT, indent
from tracker.list_marks import Marks, explain_marks, style_marks
from tracker.metrics import higher_is_better
from tracker.report import (
    list_changes,
    list_followers,
    print_table,
    print_text,
    render_change,
    style_change,
    style_status,
    tell_unknown,
)
from tracker.table import Cell, Column, Styled
from tracker.training.metrics import METRICS
from tracker.training.numbers import render_count
from tracker.workspace import Metric

if TYPE_CHECKING:
    from tracker.comparison.tree import Family, Node
    from tracker.workspace import Competition

KEYS_SHOWN = 4
SPLITS = ("val", "public", "private")


def print_family(family: Family, competition: Competition, *, marks: Marks | None = None, wide: bool = False) -> None:
    """A tree on stdout: a line a node with its marks, scores, change and memo."""
    if not family.nodes:
        print("no runs and no submissions yet")
        return
    marks = marks or Marks()
    scores = [list_scores(node, competition) for node in family.nodes]
    names = [
        name
        for split in SPLITS
        for name in dict.fromkeys(name for known in scores for name in known)
        if name.split()[0] == split
    ]
    columns = [
        Column("run"),
        Column("submission", leaves=5, right=True),
        Column("kind", leaves=4),
        *[Column(name, leaves=1 if name in SPLITS else 3, right=True) for name in names],
        Column("change", leaves=1, text=True),
        Column("note, memo", leaves=1, text=True),
    ]
    guides = draw_guides([indent(node) for node in family.nodes])
    used: list[str] = []
    rows: list[list[Cell]] = []
    for node, guide, known in zip(family.nodes, guides, scores, strict=True):
        own = marks.list_marks(node.submission, node.name)
        used += own
        rows.append(
            [
                Styled(guide + " ".join([node.name, *own]), style_marks(own)),
                str(node.submission or "-"),
                _describe_kind(node),
                *[known.get(name, "-") for name in names],
                _style_origin(node),
                node.text,
            ]
        )
    print_table(columns, rows, legend=explain_marks(used), wide=wide)
    for problem in family.problems:
        print_text(problem, style="yellow")


def draw_guides(depths: Sequence[int]) -> list[str]:
    """The lines of a tree in front of each node, given in order with its depth."""
    guides = []
    going_on: set[int] = set()  # depths at which a sibling comes below
    for depth in reversed(depths):
        lines = ["\u2502 " if level in going_on else "  " for level in range(1, depth)]
        corner = ("\u251c " if depth in going_on else "\u2514 ") if depth else ""
        guides.append("".join(lines) + corner)
        going_on = {level for level in going_on if level < depth} | {depth}
    return guides[::-1]


def _describe_kind(node: Node) -> Styled:
    """What is no finished training: `ensemble`, `killed`."""
    kind = node.kind if node.kind != "train" else ""
    status = node.status if node.status not in ("finished", "submitted") else ""
    return Styled(" ".join(filter(None, (kind, status))) or "-", style_status(node.status).style if status else "")


def describe_origin(node: Node) -> str:
    """What a node changed of its parent, or the model that a family begins with."""
    if node.change is None:
        return _describe_beginning(node)
    return _name_parent(node) + shorten_change(node.change, node.not_known)


def _style_origin(node: Node) -> Styled:
    """The same, whole, as a cell that is cut between changes."""
    if node.change is None:
        return Styled(_describe_beginning(node))
    return style_change(node.change, node.not_known, before=_name_parent(node))


def _describe_beginning(node: Node) -> str:
    return node.model or ("model unknown" if node.has_config else "config unknown")


def _name_parent(node: Node) -> str:
    """The parent of a node that is drawn less deep than it lies."""
    return f"(from {node.parent}) " if node.depth > MAX_INDENT else ""


def shorten_change(change: Mapping[str, Sequence[Any]], not_known: Sequence[str] = ()) -> str:
    """The first keys of a change, and how many more there are."""
    changes = [*list_changes(change), *list_followers(change)]
    more = len(list_changes(change)) - KEYS_SHOWN
    shown = [*changes[:KEYS_SHOWN], *([render_count(more, "more key")] if more > 0 else ())]
    unknown = [tell_unknown(not_known)] if not_known else []
    return "; ".join([*([", ".join(shown)] if shown else ()), *unknown]) or render_change(change)


def list_scores(node: Node, competition: Competition) -> Mapping[str, str]:
    """Validation, public and private score by the deciding metric; another one when that was not measured."""
    found = {}
    for split in SPLITS:
        for name in (competition.primary_metric, *METRICS):
            value = node.scores.get(f"{split}_{name}")
            if value is not None:
                metric = find_metric(competition, f"{split}_{name}")
                suffix = "" if name == competition.primary_metric else f" {name}"
                found[f"{split}{suffix}"] = metric.render(value)
                break
    return found


def find_metric(competition: Competition, key: str) -> Metric:
    """How a figure such as `val_f1` is printed; one that is no metric of the competition as a plain number."""
    name = key.partition("_")[2]
    known = {metric.name: metric for metric in competition.metrics}
    better = higher_is_better(competition.metrics, name)
    return known.get(name, Metric(name=name, higher_is_better=better))
