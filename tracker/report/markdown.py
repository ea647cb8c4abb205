"""The report as Markdown, for a wiki or a repository: charts become tables and sentences."""

from __future__ import annotations

from collections.abc import Iterator

from tracker.comparison.tree import Node, describe_archived, describe_origin, indent, list_scores
from tracker.core.config_diff import render_change
from tracker.core.list_marks import explain_marks
from tracker.core.markdown import escape, render_table
from tracker.report.charts import describe_scatter, describe_timeline, title_scatter
from tracker.report.data import (
    SubmissionEntry,
    TeamReport,
    explain_parts,
    label_metric,
    list_facts,
    render_gain,
)
from tracker.workspace.metrics import NO_PUBLIC_SCORE
from tracker.workspace.quota import render_quota


def render_markdown(report: TeamReport) -> str:
    """The whole document; every text from the ledger or the runs is escaped."""
    # a paragraph where a part is not whole, otherwise nothing
    about = {part: [f"{escape(text)}\n"] for part, text in explain_parts(report).items()}
    parts = [
        f"# {escape(report.competition.name)}: submissions\n",
        *about.get("report", []),
        "\n".join(_render_top(report)),
        "## Timeline\n",
        describe_timeline(report.entries, report.competition.primary) + "\n",
        "## Submissions\n",
        _render_submissions(report),
        "## Do the scores agree?\n",
        *about.get("agreement", []),
        "\n".join(f"- {title_scatter(item)}: {describe_scatter(item)}" for item in report.relations)
        or "Not known yet.",
        f"\n## Family\n\n{escape(explain_marks(report.list_family_marks()))}\n",
        *about.get("family", []),
        "\n".join(_render_node(node, report) for node in report.family.nodes)
        or "No runs and no submissions yet.",
        *map(escape, filter(None, [describe_archived(report.family)])),
        "\n".join(f"\n{escape(problem)}" for problem in report.family.problems),
        "\n## Audit\n",
        *about.get("audit", []),
        "\n".join(_render_audit(report)),
    ]
    return "\n".join(parts) + "\n"


def _render_top(report: TeamReport) -> Iterator[str]:
    metric, best = report.competition.primary, report.sota
    yield f"{report.competition.local_time(report.generated_at)} ({report.competition.time_zone})\n"
    if report.ledger_problem:
        yield f"**The ledger was changed:** {escape(report.ledger_problem)}\n"
    if best:
        model = f", {escape(best.model)}" if best.model else ""
        score = (
            f"{metric.render(best.values[f'public_{metric.name}'])} public"
            f" {label_metric(metric.name)}"
        )
        yield f"- SOTA: {score}, submission {best.number}{model}: {escape(best.memo)}"
    else:
        yield f"- {NO_PUBLIC_SCORE}"
    for name, fact in list_facts(report).items():
        yield f"- {name}: {escape(fact)}"
    yield ""


def _render_submissions(report: TeamReport) -> str:
    if not report.entries:
        return "No submissions yet.\n"
    names = [
        "No.",
        "Model",
        "Memo",
        *(column.name for column in report.columns),
        "Change against SOTA then",
        "Notes",
    ]
    rows = [_render_entry(entry, report) for entry in report.entries]
    table = render_table(names, rows, numbers=range(3, 3 + len(report.columns)))
    return f"{table}\n{escape(explain_marks(report.list_entry_marks()))}\n"


def _render_entry(entry: SubmissionEntry, report: TeamReport) -> list[str]:
    change = "-"
    if entry.sota is not None:
        change = f"{entry.sota}: {escape(render_change(entry.change, entry.not_known))}"
    return [
        f"{entry.number}{_mark(' '.join(entry.own_marks))}",
        escape(entry.model),
        escape(entry.memo),
        *((column.render(entry) or "-") + _mark(column.mark(entry)) for column in report.columns),
        change,
        escape("; ".join(_list_notes(entry))),
    ]


def _mark(mark: str) -> str:
    return f" {escape(mark)}" if mark else ""


def _list_notes(entry: SubmissionEntry) -> list[str]:
    repeated = [f"duplicate of {entry.equal_to}"] if entry.equal_to is not None else []
    return [*repeated, *entry.notes]


def _render_node(node: Node, report: TeamReport) -> str:
    title = f"{escape(node.name)}{_mark(' '.join(report.list_own_marks(node)))}"
    if node.submission is not None and node.kind != "submission":
        title += f" (submission {node.submission})"
    scores = list_scores(node, report.competition).items()
    parts = [
        title,
        escape(describe_origin(node)),
        ", ".join(f"{name} {text}{_mark(report.mark_node(node, name))}" for name, text in scores),
        escape(node.text),
    ]
    known = [part for part in parts if part not in ("", "-")]
    return "  " * indent(node) + "- " + "; ".join(known)


def _render_audit(report: TeamReport) -> Iterator[str]:
    audit, metric = report.audit, report.competition.primary
    entries = {entry.number: entry for entry in report.entries}
    yield "### Duplicates of earlier submissions\n"
    rows = [
        [
            str(item["number"]),
            str(item["equal_to"]),
            escape(item["evidence"]),
            escape(entries[item["number"]].memo),
        ]
        for item in audit.wasted
    ]
    yield render_table(("No.", "duplicate of", "evidence", "memo"), rows) if rows else "None.\n"
    for title, items in (
        ("One key away from SOTA", audit.one_key),
        ("Several keys at once", audit.several_keys),
        ("Ensembles", audit.ensembles),
        ("Of another program, keys unknown", audit.keys_unknown),
    ):
        yield f"### {title}\n"
        rows = []
        for item in items:
            entry = entries[item["number"]]
            gain = render_gain(entry) or "-"
            rows.append(
                [
                    str(entry.number),
                    str(entry.sota),
                    escape(render_change(entry.change, entry.not_known)),
                    gain,
                ]
            )
        names = ("No.", "SOTA then", "change", f"public {label_metric(metric.name)}")
        yield render_table(names, rows, numbers=(3,)) if rows else "None.\n"
    yield "### Who and when\n"
    yield f"- Quota: {render_quota(report.quota, report.competition)}"
    yield "- By author: " + ", ".join(
        f"{escape(name)} {count}" for name, count in audit.by_author.items()
    )
    yield f"- By day ({report.competition.time_zone}): " + ", ".join(
        f"{day} {count}" for day, count in audit.by_day.items()
    )
    if audit.no_key:
        yield f"- No key changed from the SOTA then: {', '.join(map(str, audit.no_key))}"
    if audit.without_sota:
        yield f"- No SOTA then to compare with: {', '.join(map(str, audit.without_sota))}"
    if audit.unscored:
        yield f"- No score yet: {', '.join(map(str, audit.unscored))}"
    if audit.missing:
        yield "\n### Missing files\n"
        yield from (f"- {escape(item['file'])} ({escape(item['what'])})" for item in audit.missing)
    if audit.freed:
        yield "\n### Files freed by tracker clean\n"
        for item in audit.freed:
            yield (
                f"- {escape(item['file'])} on"
                f" {report.competition.local_time(item['freed_at'], '%Y-%m-%d')}"
            )
