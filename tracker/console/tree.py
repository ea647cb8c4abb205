"""The family of runs as people read it on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from tracker.comparison.tree import (
    SPLITS,
    describe_archived,
    describe_root,
    find_metric,
    indent,
    list_score_keys,
    name_parent,
)
from tracker.console.submissions import measure_first, put_before, style_change
from tracker.core.list_marks import SEARCHED, Marks, explain_marks, mark_flattered, style_marks
from tracker.core.table import Cell, Column, Styled
from tracker.core.terminal import print_table, print_text, style_status

if TYPE_CHECKING:
    from tracker.comparison.tree import Family, Node
    from tracker.workspace.tracker_toml import Competition

FIRST_CHANGE, SHORT_NOTE = 32, 12  # the columns that less important ones leave for


def print_family(
    family: Family, competition: Competition, *, marks: Marks | None = None, wide: bool = False
) -> None:
    """A tree on stdout: a line a node with its marks, scores, change and memo."""
    if not family.nodes:
        print(describe_archived(family) or "no runs and no submissions yet")
        return
    marks = marks or Marks()
    shown = dict.fromkeys(
        name for node in family.nodes for name in list_score_keys(node, competition)
    )
    names = [name for split in SPLITS for name in shown if name.split()[0] == split]
    changes = _style_origins(family.nodes)
    columns = [
        Column("run"),
        Column("submission", leaves=11, right=True),
        Column("kind", leaves=10),
        *[Column(name, leaves=_rank_score(name), right=True) for name in names],
        Column(
            "change",
            leaves=1,
            text=True,
            least=measure_first(changes, FIRST_CHANGE),
        ),
        Column("note, memo", leaves=2, text=True, least=SHORT_NOTE),
    ]
    guides = draw_guides([indent(node) for node in family.nodes])
    figures = {name: _render_scores(family.nodes, name, competition) for name in names}
    used = [SEARCHED] if any(SEARCHED in text for text in chain(*figures.values())) else []
    rows: list[list[Cell]] = []
    for place, (node, guide, change) in enumerate(zip(family.nodes, guides, changes, strict=True)):
        own = marks.list_marks(node.submission, node.name)
        used += own
        rows.append(
            [
                Styled(guide + " ".join([node.name, *own]), style_marks(own)),
                str(node.submission or "-"),
                _describe_kind(node),
                *[figures[name][place] for name in names],
                change,
                node.text,
            ]
        )
    print_table(columns, rows, legend=explain_marks(used), wide=wide)
    for problem in family.problems:
        print_text(problem, style="yellow")
    if left_out := describe_archived(family):
        print_text(left_out)


def _rank_score(name: str) -> int:
    """When a column of scores leaves: the private score, known after the end, before notes."""
    if name not in SPLITS:
        return 4
    return 3 if name == "private" else 1


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


def _render_scores(nodes: Sequence[Node], title: str, competition: Competition) -> list[str]:
    """The figures of a column such as `val` (of the deciding metric) or `val accuracy`."""
    split, _, name = title.partition(" ")
    key = f"{split}_{name or competition.primary_metric}"
    flattered = [split == "val" and node.flattered and key in node.scores for node in nodes]
    any_of_column, metric = any(flattered), find_metric(competition, key)
    figures = []
    for node, own in zip(nodes, flattered, strict=True):
        figure = metric.render(node.scores[key]) if key in node.scores else "-"
        figures.append(mark_flattered(figure, flattered=own, any_of_column=any_of_column))
    return figures


def _describe_kind(node: Node) -> Styled:
    """What is no finished training: `ensemble`, `killed`."""
    kind = node.kind if node.kind != "train" else ""
    status = node.status if node.status not in ("finished", "submitted") else ""
    return Styled(
        " ".join(filter(None, (kind, status))) or "-",
        style_status(node.status).style if status else "",
    )


def _style_origins(nodes: Sequence[Node]) -> list[Styled]:
    """The same, whole, as cells that are cut between changes.

    Very many nodes have the same change, which is styled once.
    """
    cells: dict[str, Styled] = {}
    origins = []
    for node in nodes:
        if node.change is None:
            origins.append(Styled(describe_root(node)))
            continue
        key = repr((node.change, node.not_known))
        if key not in cells:
            cells[key] = style_change(node.change, node.not_known)
        origins.append(put_before(name_parent(node), cells[key]))
    return origins
