"""The report as one HTML file that loads nothing: styles, charts and the sort script are inside."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tracker.comparison.tree import (
    MAX_INDENT,
    Family,
    Node,
    describe_archived,
    find_metric,
    indent,
    list_scores,
)
from tracker.core.config_diff import (
    list_changed_keys,
    list_implied_keys,
    render_change,
    render_ensemble_change,
    render_unknown_keys,
)
from tracker.core.list_marks import MEANINGS, explain_marks
from tracker.core.text import clean_text, render_value
from tracker.report.charts import (
    describe_scatter,
    describe_timeline,
    draw_scatter,
    draw_timeline,
    title_scatter,
)
from tracker.report.data import (
    Column,
    Scatter,
    TeamReport,
    explain_parts,
    label_metric,
    list_facts,
    render_gain,
)
from tracker.workspace.metrics import NO_PUBLIC_SCORE, metric_title
from tracker.workspace.tracker_toml import Competition, Metric

FOLDER = Path(__file__).resolve().parent
MINUS = "\u2212"
NEWEST = 500  # rows of a list that are shown; a browser takes seconds for more, so older ones fold
LONG_TABLE = 40  # a list with more rows scrolls in its own box
WIDE, NARROW = (1240.0, 400.0), (358.0, 300.0)
SCATTER = 380.0
MIN_CLOSE_UP_POINTS = 8  # fewer points do not crowd
MAX_CLOSE_UP_SHARE = 0.5  # of an axis that the better half may fill to get a close-up


def render_page(report: TeamReport) -> str:
    """The whole page; every text from the ledger or the runs is cleaned and escaped."""
    script = read_own_file("sort.js")
    environment = build_environment(report.competition)
    page = environment.get_template("page.html").render(
        **describe_report(report),
        links=None,
        style=read_own_file("style.css"),
        script=script,
        script_hash=hash_text(script),
    )
    return clean_text(page)


def build_environment(competition: Competition, *folders: Path) -> Environment:
    """The templates of `folders` and of the report, with its filters; every text is escaped."""
    environment = Environment(
        loader=FileSystemLoader([*folders, FOLDER]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "value": render_value,
        "minute": competition.local_time,
        "metric": label_metric,
    }
    environment.filters |= {
        "ensemble_change": render_ensemble_change,
        "change": render_change,
        "unknown": render_unknown_keys,
        "own_keys": list_changed_keys,
        "implied_keys": list_implied_keys,
    }
    return environment


def describe_report(report: TeamReport) -> dict[str, Any]:
    """What page.html is rendered with, but for `links`, style and script."""
    metric = report.competition.primary
    return {
        **describe_marks(),
        "report": report,
        "about": explain_parts(report),
        "metric": metric,
        "entry_marks": explain_marks(report.list_entry_marks()),
        "node_marks": explain_marks(report.list_family_marks()),
        "metric_name": metric_title(metric),
        "no_public_score": NO_PUBLIC_SCORE,
        "groups": group_columns(report.columns),
        "facts": list_facts(report),
        "timelines": [
            draw_timeline(report.entries, metric, width=width, height=height, name=name)
            for name, (width, height) in {"wide": WIDE, "narrow": NARROW}.items()
        ],
        "timeline_words": describe_timeline(report.entries, metric),
        "scatters": list(_draw_scatters(report)),
        "family": list(_nest(report.family)),
        "archived": describe_archived(report.family),
        "scores": lambda node: list_scores(node, report.competition),
        "gain": lambda entry: render_gain(entry).replace("-", MINUS),
        "by_number": {entry.number: entry for entry in report.entries},
        "max_indent": MAX_INDENT,
    }


def describe_marks() -> dict[str, Any]:
    """What macros.html needs on any page."""
    return {
        "mark_meanings": MEANINGS,
        "shown": NEWEST,
        "explain_mark": lambda mark: explain_marks([mark]).partition(" ")[2],
        "long_table": LONG_TABLE,
    }


def hash_text(text: str) -> str:
    """SHA-256 of a script or a style as a Content-Security-Policy has it, without `sha256-`."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def read_own_file(name: str, folder: Path = FOLDER) -> Markup:
    """A script or a style that lies beside a template."""
    return Markup((folder / name).read_text(encoding="utf-8"))  # noqa: S704 our own file


def group_columns(columns: Sequence[Column]) -> dict[str, list[Column]]:
    """The columns by the heading that spans them."""
    groups: dict[str, list[Column]] = {}
    for column in columns:
        groups.setdefault(column.group, []).append(column)
    return groups


def _draw_scatters(report: TeamReport) -> Iterator[dict[str, Any]]:
    """Title, description and drawings of each scatter.

    If the better half is crowded into a corner, there is a close-up of it.
    """
    steps = report.audit.sota_chain
    for index, relation in enumerate(report.relations):
        metrics = (
            find_metric(report.competition, relation.x),
            find_metric(report.competition, relation.y),
        )
        parts = {"all": relation, "close": zoom_in(relation, metrics[1])}
        yield {
            "title": title_scatter(relation),
            "words": describe_scatter(relation),
            "same_metric": relation.same_metric,
            "others": len(relation.others),
            "drawings": {
                which: draw_scatter(
                    part,
                    metrics,
                    steps,
                    size=SCATTER,
                    name=f"scatter-{index}-{which}",
                    close=which == "close",
                )
                for which, part in parts.items()
                if part is not None
            },
        }


def zoom_in(relation: Scatter, metric: Metric) -> Scatter | None:
    """The better half by the second score if it fills only a corner of the drawing; else None."""
    points = sorted(relation.points, key=lambda point: point[2], reverse=metric.higher_is_better)
    half = points[: (len(points) + 1) // 2]
    if len(points) < MIN_CLOSE_UP_POINTS:
        return None
    shares = []
    for axis in (1, 2):
        whole = [point[axis] for point in points]
        part = [point[axis] for point in half]
        spread = max(whole) - min(whole)
        shares.append((max(part) - min(part)) / spread if spread else 1.0)
    if max(shares) > MAX_CLOSE_UP_SHARE:
        return None
    others = [number for number, _, _ in half if number in relation.others]
    return replace(relation, points=sorted(half), rank=None, others=others)


def _nest(family: Family) -> Iterator[tuple[Node, Markup]]:
    """Each node with the markup that closes its list item or opens the list of its children."""
    depths = [indent(node) for node in family.nodes]
    for node, own, following in zip(family.nodes, depths, [*depths[1:], 0], strict=False):
        if following > own:
            yield node, Markup("<ul>")
        else:
            yield node, Markup("</li>") + Markup("</ul></li>") * (own - following)
