"""The family of runs as people read it on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tracker.comparison.tree import MAX_INDENT, indent
from tracker.metrics import TRAINED, higher_is_better
from tracker.report import clean_text, find_width, list_changes, render_change
from tracker.workspace import Metric

if TYPE_CHECKING:
    from rich.text import Text

    from tracker.comparison.tree import Family, Node
    from tracker.workspace import Competition

KEYS_SHOWN = 4


def print_family(family: Family, competition: Competition) -> None:
    """A tree on stdout, SOTA marked ** and what it was made from *; plain when piped."""
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    if not family.nodes:
        print("no runs and no submissions yet")
        return
    root = Tree("", hide_root=True, guide_style="dim")
    open_at = [root]
    for node in family.nodes:
        depth = indent(node)
        branch = open_at[depth].add(_describe(node, competition))
        open_at[depth + 1 :] = [branch]
    console = Console(width=find_width(), highlight=False)
    console.print(root)
    for problem in family.problems:
        console.print(Text(clean_text(problem), style="yellow"))


def _describe(node: Node, competition: Competition) -> Text:
    """One node on a line: name, change or model, scores, memo."""
    from rich.text import Text

    mark = " **" if node.is_sota else " *" if node.sota_line else ""
    text = Text(clean_text(node.name) + mark, style="bold" if node.sota_line else "")
    if node.submission is not None and node.kind != "submission":
        text.append(f" (submission {node.submission})")
    if node.kind not in ("train", "submission") or node.status not in ("finished", "submitted"):
        text.append(f" {node.kind} {node.status}")
    text.append(f"  {clean_text(describe_origin(node))}", style="cyan")
    if scores := list_scores(node, competition):
        text.append("  " + ", ".join(f"{name} {score}" for name, score in scores.items()))
    if node.text:
        text.append(f"  {clean_text(' '.join(node.text.split()))}", style="dim")
    return text


def describe_origin(node: Node) -> str:
    """What a node changed of its parent, or the model that a family begins with."""
    if node.change is None:
        return node.model or "config unknown"
    words = shorten_change(node.change)
    return f"(from {node.parent}) {words}" if node.depth > MAX_INDENT else words


def shorten_change(change: Mapping[str, Sequence[Any]]) -> str:
    """The first keys of a change, and how many more there are."""
    changes = list_changes(change)
    shown = ", ".join(changes[:KEYS_SHOWN]) or render_change(change)
    more = len(changes) - KEYS_SHOWN
    return f"{shown}, and {more} more" if more > 0 else shown


def list_scores(node: Node, competition: Competition) -> Mapping[str, str]:
    """Validation, public and private score by the deciding metric; another one when that was not measured."""
    found = {}
    for split in ("val", "public", "private"):
        for name in (competition.primary_metric, *TRAINED):
            value = node.scores.get(f"{split}_{name}")
            if value is not None:
                metric = find_metric(competition, f"{split}_{name}")
                suffix = "" if name == competition.primary_metric else f" {name}"
                found[f"{split}{suffix}"] = f"{value * 100:.2f} %" if metric.percent else metric.render(value)
                break
    return found


def find_metric(competition: Competition, key: str) -> Metric:
    """How a figure such as `val_f1` is printed; one that is no metric of the competition as a plain number."""
    name = key.partition("_")[2]
    known = {metric.name: metric for metric in competition.metrics}
    better = higher_is_better(competition.metrics, name)
    return known.get(name, Metric(name=name, percent=name == "accuracy", higher_is_better=better))
