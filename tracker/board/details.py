"""What the pages of a run, of a submission and of a comparison show, as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tracker.board.curves import Points, draw_curves
from tracker.comparison.advice import advise_run, by_epoch
from tracker.comparison.diff import RunDiff, diff_runs
from tracker.comparison.members import Member, list_members
from tracker.console.diff.sections import Section
from tracker.console.diff.views import PIPED_WIDTH, list_sections
from tracker.console.runs import ShownConfig, render_end
from tracker.console.shown_config import choose_config
from tracker.core.errors import UnknownRunError
from tracker.core.text import render_number, render_value
from tracker.ledger.read import find_sota, get_submission, list_notes, list_submissions_of
from tracker.ledger.records import Note, Submission
from tracker.ledger.resolve import load_resolved
from tracker.ledger.team_runs import IndexedRun, TeamRuns
from tracker.run_folder.points import read_curves
from tracker.run_folder.read import load_config
from tracker.run_folder.record import RunRecord, is_pulled, run_folder
from tracker.training.numbers import render_count
from tracker.workspace.metrics import deciding_first, list_model_metrics
from tracker.workspace.tracker_toml import Competition, Workspace

CHART = (420.0, 190.0)
LOSSES = ("val/loss", "train/loss")
MAX_CHARTS = 3  # of single metrics, beside that of the losses
MANY_SEGMENTS = 1  # slashes in the name of a metric that is not of one class


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A drawing with its heading; `curves` are the names of its curves in the order of colors."""

    title: str
    curves: Sequence[str]
    drawing: Markup


@dataclass(frozen=True, kw_only=True)
class RunDetails:
    """A run: `facts` and `metrics` are (name, text), `config` has (key, base's value, own value).

    `base` names what the config is compared with, empty where all keys are shown; `left_out` says
    which keys are not. `comparisons` are (words, a, b) of pages that compare it with others.
    `missing` says why there is no more than the ledger has.
    """

    name: str
    headline: str
    facts: Sequence[tuple[str, str]]
    parent: str | None = None
    metrics: Sequence[tuple[str, str]]
    advice: Sequence[str] = ()
    charts: Sequence[Chart] = ()
    base: str = ""
    config: Sequence[tuple[str, str, str]] = ()
    left_out: str = ""
    members: Sequence[Member] = ()
    submissions: Sequence[Submission] = ()
    notes: Sequence[Note] = ()
    comparisons: Sequence[tuple[str, str, str]] = ()
    missing: str = ""


@dataclass(frozen=True, kw_only=True)
class SubmissionDetails:
    """A submission: its row, what of the ledger identifies it, and its comparisons."""

    row: Submission
    facts: Sequence[tuple[str, str]]
    comparisons: Sequence[tuple[str, str, str]]


@dataclass(frozen=True, kw_only=True)
class DiffDetails:
    """A comparison: the sections of `tracker diff --full`, and the curves of both as drawings."""

    diff: RunDiff
    sections: Sequence[Section]
    charts: Sequence[Chart]


def read_run(workspace: Workspace, name: str) -> RunDetails:
    """The page of `exp12` or `mina/exp12`; raises UnknownRunError, LedgerError or StorageError.

    Of a teammate's run that was not pulled it has what the ledger's index has.
    """
    if is_pulled(name):
        indexed = TeamRuns(workspace).find(name)
        try:
            record = load_resolved(workspace, name)
        except UnknownRunError as error:
            return _describe_indexed(indexed, workspace.competition, str(error.hint))
    else:
        record = load_resolved(workspace, name)
    return _describe_run(workspace, record)


def _describe_run(workspace: Workspace, record: RunRecord) -> RunDetails:
    config = load_config(workspace.runs_dir, record.name)
    curves = read_curves(run_folder(workspace.runs_dir, record.name) / "metrics.jsonl")
    rows = list_submissions_of(workspace, record)
    advice = advise_run(record, config, curves, deciding_first(workspace.competition))
    shown = choose_config(workspace, record, config)
    by_name = {name: list(by_epoch(curve).items()) for name, curve in curves.items()}
    return RunDetails(
        name=record.name,
        headline=render_end(record, workspace.competition),
        facts=list(_list_facts(record, workspace.competition)),
        parent=record.parent,
        metrics=_list_metrics(record.summary),
        advice=advice.sentences if advice else (),
        charts=list(draw_charts({record.name: by_name}, workspace.competition)),
        base=shown.base_name if shown.base is not None else "",
        config=_list_config(shown),
        left_out=_explain_left_out(shown),
        members=list_members(workspace, config),
        submissions=rows,
        notes=list_notes(workspace, [record.uid]).get(record.uid, ()),
        comparisons=_compare_run(workspace, record, rows),
    )


def _list_facts(record: RunRecord, competition: Competition) -> Iterator[tuple[str, str]]:
    zone = competition.time_zone
    yield "status", record.status + (", archived" if record.archived_at else "")
    if record.error:
        yield "error", record.error
    yield "kind", record.kind
    if record.note:
        yield "note", record.note
    if record.tags:
        yield "tags", ", ".join(record.tags)
    yield "author", f"{record.author} on {record.host}"
    yield f"created ({zone})", competition.local_time(record.created_at)
    if record.finished_at:
        yield f"ended ({zone})", competition.local_time(record.finished_at)
    if record.epoch:
        yield "epochs", f"{record.epoch}, best {render_number(record.best_epoch)}"


def _list_metrics(summary: Mapping[str, float | None]) -> list[tuple[str, str]]:
    """Those of validation first, without those of single classes."""
    summary = list_model_metrics(summary)
    names = sorted(summary, key=lambda name: (not name.startswith("val/"), name))
    shown = [name for name in names if name.count("/") <= MANY_SEGMENTS]
    return [(name, render_number(summary[name])) for name in shown]


def _list_config(shown: ShownConfig) -> list[tuple[str, str, str]]:
    base = shown.base or {}
    return [
        (key, render_value(base.get(key)) if shown.base is not None else "", render_value(value))
        for key, value in shown.values.items()
    ]


def _explain_left_out(shown: ShownConfig) -> str:
    """What is not in the table of the config, as a sentence; empty where nothing is left out."""
    parts = []
    if shown.following:
        parts.append(
            "No choice of their own, they follow from the model, the data or another key:"
            f" {', '.join(shown.following)}."
        )
    if shown.left_out:
        parts.append(
            f"{render_count(shown.left_out, 'key')} as in {shown.base_name}: tracker show --full"
            " has all."
        )
    return " ".join(parts)


def _compare_run(
    workspace: Workspace, record: RunRecord, rows: Sequence[Submission]
) -> list[tuple[str, str, str]]:
    pairs = []
    if record.parent:
        pairs.append((f"with its parent {record.parent}", record.parent, record.name))
    best = find_sota(workspace)
    if best is not None and best.number not in [row.number for row in rows]:
        pairs.append((f"with SOTA, submission {best.number}", f"s{best.number}", record.name))
    return pairs


def _describe_indexed(run: IndexedRun, competition: Competition, hint: str) -> RunDetails:
    zone = competition.time_zone
    facts = [
        ("status", run.status),
        ("kind", run.kind),
        ("author", f"{run.author} on {run.host}"),
        (f"created ({zone})", competition.local_time(run.created_at)),
        *(
            (f"fingerprint of {name}", print_)
            for name, print_ in run.fingerprints.items()
            if print_
        ),
    ]
    return RunDetails(
        name=run.name,
        headline=f"{run.name} {run.status}",
        facts=facts,
        metrics=_list_metrics(run.summary),
        missing=f"This is what the ledger has of it. For curves and comparisons: {hint}",
    )


def read_submission(workspace: Workspace, number: int) -> SubmissionDetails:
    """The page of a submission; raises UnknownRunError, LedgerError or StorageError."""
    row = get_submission(workspace, number)
    comp = workspace.competition
    facts = [
        ("author", f"{row.author or '-'} on {row.host}" if row.host else row.author or "-"),
        (f"submitted ({comp.time_zone})", comp.local_time(row.submitted_at)),
        ("file", row.file or "-"),
    ]
    for name in ("predictions", "weights", "config", "data", "code"):
        if value := getattr(row, f"{name}_fingerprint"):
            facts.append((f"fingerprint of {name}", value))
    own = f"s{number}"
    words = [("with SOTA at that time", row.sota)]
    best = find_sota(workspace)
    if best is not None and best.number not in (number, row.sota):
        words.append(("with SOTA now", best.number))
    if number > 1 and number - 1 not in [other for _, other in words]:
        words.append(("with the submission before", number - 1))
    pairs = [
        (f"{text}, submission {other}", f"s{other}", own)
        for text, other in words
        if other is not None
    ]
    return SubmissionDetails(row=row, facts=facts, comparisons=pairs)


def read_diff(workspace: Workspace, a: str, b: str) -> DiffDetails:
    """The comparison of two runs or submissions; raises TrackerError as `tracker diff` does."""
    diff = diff_runs(workspace, a, b, keep=False)  # a page writes nothing
    sections = [
        section
        for section in list_sections(diff, everything=False, width=PIPED_WIDTH)
        if not section.drawing  # drawn below
    ]
    names = {diff.a: 0, diff.b: 1}
    curves = {
        run: {
            name: [(epoch, value) for epoch, value in pair[side] if value is not None]
            for name, pair in diff.curves.items()
        }
        for run, side in names.items()
    }
    return DiffDetails(
        diff=diff, sections=sections, charts=list(draw_charts(curves, workspace.competition))
    )


def draw_charts(
    runs: Mapping[str, Mapping[str, Points]], competition: Competition
) -> Iterator[Chart]:
    """A chart for each of the most important metrics of one or two runs, then the losses.

    `runs` has the curves of each run by metric. Of one run both losses are in one chart.
    """
    measured = {name for curves in runs.values() for name in curves}
    scores = [f"val/{metric.name}" for metric in competition.metrics]
    scores += sorted(name for name in measured if name.startswith("val/"))
    chosen = [name for name in dict.fromkeys(scores) if name in measured and name not in LOSSES]
    chosen = [name for name in chosen if name.count("/") <= MANY_SEGMENTS][:MAX_CHARTS]
    charts = [
        (name, {run: curves.get(name, ()) for run, curves in runs.items()}) for name in chosen
    ]
    if len(runs) == 1:
        (curves,) = runs.values()
        charts.append(("loss", {name: curves[name] for name in LOSSES if name in curves}))
    else:
        charts += [
            (name, {run: curves.get(name, ()) for run, curves in runs.items()}) for name in LOSSES
        ]
    width, height = CHART
    for place, (title, series) in enumerate(charts):
        drawing = draw_curves(title, series, width=width, height=height, name=f"curves-{place}")
        if drawing:
            drawn = [key for key, points in series.items() if points]
            yield Chart(title=title, curves=drawn, drawing=drawing)
