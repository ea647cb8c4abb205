"""The content of the report as plain data; page.py and markdown.py render it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import chain, product
from typing import Any

from tracker.comparison.audit import Audit, audit, audit_part
from tracker.comparison.comparable import (
    Basis,
    basis_of_run,
    basis_of_submission,
    explain_incomparable,
)
from tracker.comparison.marks import name_node, read_marks
from tracker.comparison.members import list_flattered
from tracker.comparison.score_relation import group_by_scheme
from tracker.comparison.statistics.regression import MIN_TO_RANK, RankCorrelation, rank_correlation
from tracker.comparison.tree import Family, Node, build_family, build_line, name_model
from tracker.core.clock import to_utc_text
from tracker.core.config_diff import describe_ensemble
from tracker.core.errors import TrackerError
from tracker.core.list_marks import APART, SEARCHED, Marks
from tracker.ledger.chain import read_head
from tracker.ledger.connection import open_reader, read_rows
from tracker.ledger.read import (
    find_run,
    find_sota,
    find_times,
    get_submission,
    has_server,
    list_counted_times,
    list_validation_scores,
    read_clock,
)
from tracker.ledger.records import Submission
from tracker.ledger.shared_settings import apply_team_limit
from tracker.report.excerpt import BEST, MOST_ANCESTORS, read_compared, read_excerpt
from tracker.run_folder.read import load_config, load_run, look_once
from tracker.training.metrics import COMPETITION, METRICS
from tracker.training.numbers import render_decimals, render_float
from tracker.workspace.metrics import COLUMNS, choose_metrics, metric_title
from tracker.workspace.quota import Quota, build_quota, render_quota, split_times, window_start
from tracker.workspace.tracker_toml import Competition, Metric, Workspace

AUTOMATIC_NOTES = ("imported", "revealed", "sent")  # notes that tracker writes for itself
MIN_TO_PLOT = 3


@dataclass(frozen=True, kw_only=True)
class SubmissionEntry:
    """A submission with everything that the report shows of it.

    `values` has scores by `<split>_<metric>` and figures such as `train_loss`; unknown ones are
    left out. `gain` is the public score minus that of SOTA at that time. `equal_to` is the earlier
    submission that this one duplicates. `marks` has the mark of each validation figure that does
    not compare with SOTA's, `own_marks` are those of the submission itself, as in the other lists.
    `searched`: it is an ensemble whose weights were searched on its validation images. `here` is
    the name here of its run, None where only the ledger knows it.
    """

    number: int
    run: str | None
    here: str | None = None
    model: str | None
    memo: str
    author: str | None
    submitted_at: str | None
    values: Mapping[str, float]
    sota: int | None
    change: Mapping[str, Sequence[Any]] | None
    not_known: Sequence[str]
    gain: float | None
    notes: Sequence[str]
    is_sota: bool
    was_sota: bool
    equal_to: int | None
    marks: Mapping[str, str] = field(default_factory=dict)
    own_marks: Sequence[str] = ()
    searched: bool = False


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of figures: `key` is its name in `SubmissionEntry.values`.

    `label` is its heading under the heading of its `group`, `name` its heading without a group.
    """

    key: str
    group: str
    label: str
    name: str

    def render(self, entry: SubmissionEntry) -> str:
        """The figure; empty when it is unknown."""
        value = entry.values.get(self.key)
        return "" if value is None else render_float(value)

    def mark(self, entry: SubmissionEntry) -> str:
        """The mark behind the figure; empty where it compares with SOTA's."""
        return entry.marks.get(self.key, "") if self.key in entry.values else ""


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """Two figures of the same submissions; `points` are (number, x, y).

    The points are of `schemes` validation schemes; one without validation scores. `rank` is
    Spearman's over the submissions of the largest scheme, None if they are few. Those in `others`
    do not compare: they are of other schemes, or `flattered` by weights that were searched on the
    validation images.
    """

    x: str
    y: str
    points: Sequence[tuple[int, float, float]]
    rank: RankCorrelation | None
    others: Sequence[int] = ()
    schemes: int = 1
    flattered: Sequence[int] = ()

    @property
    def ranked(self) -> int:
        """How many submissions of the largest scheme the correlation is over."""
        return len(self.points) - len(self.others)

    @property
    def same_metric(self) -> bool:
        """Whether both axes have the same metric, so that equal values mean agreement."""
        return self.x.partition("_")[2] == self.y.partition("_")[2]


@dataclass(frozen=True, kw_only=True)
class TeamReport:
    """The whole report.

    `generated_at` is UTC text, `head` is the ledger's, `best_private` is by the deciding metric.
    `entries` are all submissions, or of a very large ledger some (see `explain_parts`): the last
    `newest` of them are the newest of `total`. `times` are those of the first and the last.
    `node_marks` has the mark of the validation score of a node of the family, by its name, `marks`
    those of submissions and runs. `ledger_problem` says which row of the ledger was changed.
    """

    competition: Competition
    generated_at: str
    head: str
    quota: Quota
    total: int
    newest: int
    times: tuple[str, str] | None
    entries: Sequence[SubmissionEntry]
    sota: SubmissionEntry | None
    best_private: SubmissionEntry | None
    columns: Sequence[Column]
    relations: Sequence[Scatter]
    family: Family
    audit: Audit
    node_marks: Mapping[str, str]
    marks: Marks
    ledger_problem: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether it shows every submission."""
        return self.newest == self.total

    def list_entry_marks(self) -> list[str]:
        """The marks that the submissions and their validation figures use."""
        marks = [mark for entry in self.entries for mark in entry.own_marks]
        return marks + [column.mark(entry) for entry in self.entries for column in self.columns]

    def list_own_marks(self, node: Node) -> list[str]:
        """The marks of a node of the family itself."""
        return self.marks.list_marks(node.submission, node.name)

    def list_family_marks(self) -> list[str]:
        """The marks that the family uses."""
        marks = [mark for node in self.family.nodes for mark in self.list_own_marks(node)]
        return [*marks, *self.node_marks.values()]

    def mark_node(self, node: Node, score: str) -> str:
        """The mark behind a score of `list_scores`."""
        return self.node_marks.get(node.name, "") if score.startswith("val") else ""


def build_report(workspace: Workspace) -> TeamReport:
    """Read the ledger and this workspace's runs; raises LedgerError or StorageError."""
    with look_once(workspace.runs_dir):
        return _build_report(workspace)


def _build_report(workspace: Workspace) -> TeamReport:
    competition = workspace.competition
    now = read_clock(workspace)
    excerpt = read_excerpt(workspace)
    rows, is_whole = excerpt.rows, excerpt.is_whole
    checked = audit(workspace) if is_whole else audit_part(workspace, rows)
    marks = read_marks(workspace, numbers=None if is_whole else [row.number for row in rows])
    bases = {row.number: basis_of_submission(workspace, row) for row in rows}
    entries = _build_entries(workspace, rows, checked, marks, bases)
    family = build_family(workspace) if is_whole else build_line(workspace, most=MOST_ANCESTORS)
    compared = rows[-excerpt.newest :]  # the best alone would correlate differently
    with open_reader(workspace.ledger_url) as query:
        counted = apply_team_limit(query, competition, on_server=has_server(workspace))
    times, _ = split_times(
        competition, now, list_counted_times(workspace, window_start(competition, now))
    )
    return TeamReport(
        competition=competition,
        generated_at=to_utc_text(now),
        head=read_head(workspace.ledger_url),
        quota=build_quota(counted, now, times),
        total=excerpt.total,
        newest=excerpt.newest,
        times=find_times(workspace),
        entries=entries,
        sota=next((entry for entry in entries if entry.is_sota), None),
        best_private=_find_best(entries, competition.primary, "private"),
        columns=_list_columns(entries, competition),
        relations=_list_relations(
            entries[-len(compared) :],
            competition,
            [group.numbers for group in group_by_scheme(workspace, compared)],
        ),
        family=family,
        audit=checked,
        node_marks=_mark_nodes(workspace, family, bases),
        marks=marks,
    )


def build_entry(workspace: Workspace, number: int) -> SubmissionEntry:
    """A submission as the report has it, whether it is shown there or not.

    Raises UnknownRunError for one that is not in the ledger.
    """
    get_submission(workspace, number)
    with look_once(workspace.runs_dir):
        rows = read_compared(workspace, {number})
        numbers = [row.number for row in rows]
        marks = read_marks(workspace, numbers=numbers)
        bases = {row.number: basis_of_submission(workspace, row) for row in rows}
        entries = _build_entries(workspace, rows, audit_part(workspace, rows), marks, bases)
    return entries[numbers.index(number)]


def _build_entries(
    workspace: Workspace,
    rows: Sequence[Submission],
    checked: Audit,
    marks: Marks,
    bases: Mapping[int, Basis],
) -> list[SubmissionEntry]:
    best = find_sota(workspace)
    remarks = _list_remarks(workspace)
    public = {
        row.number: row.scores.get(f"public_{workspace.competition.primary_metric}") for row in rows
    }
    equal_to = {item["number"]: item["equal_to"] for item in checked.wasted}
    chain = set(checked.sota_chain)
    validation = list_validation_scores(workspace, rows)
    reference = bases[best.number] if best else None
    known = _name_validation(best, validation[best.number]) if best else set()
    flattered = set(list_flattered(workspace, rows))
    entries = []
    for row in rows:
        names = [f"{part}_{name}" for part, name in product(("train", "val"), COLUMNS)]
        figures = {name: getattr(row, name) for name in names}
        figures |= {f"val_{name}": value for name, value in validation[row.number].items()}
        figures |= row.scores
        own, sota_score = public[row.number], public.get(row.sota or 0)
        entries.append(
            SubmissionEntry(
                number=row.number,
                run=row.run_name,
                here=find_run(workspace, row),
                model=_describe_model(row.config),
                memo=row.memo,
                author=row.author,
                submitted_at=row.submitted_at,
                values={name: value for name, value in figures.items() if value is not None},
                sota=row.sota,
                change=row.config_diff,
                not_known=row.not_known,
                gain=None if own is None or sota_score is None else own - sota_score,
                notes=[*remarks.get(str(row.number), ()), *remarks.get(row.run_uid or "", ())],
                is_sota=best is not None and row.number == best.number,
                was_sota=row.number in chain,
                equal_to=equal_to.get(row.number),
                marks=_mark_figures(
                    bases[row.number],
                    reference,
                    list(figures),
                    known,
                    flattered=row.number in flattered,
                ),
                searched=row.number in flattered,
                own_marks=marks.list_marks(row.number, name_node(workspace, row)),
            )
        )
    return entries


def _name_validation(row: Submission, scores: Mapping[str, float]) -> set[str]:
    """The names of the validation figures that a submission has: `val_f1`, `val_loss`."""
    columns = {f"val_{name}" for name in COLUMNS}
    known = {name for name in columns if getattr(row, name) is not None}
    return known | {f"val_{name}" for name in scores}


def _mark_figures(
    own: Basis,
    reference: Basis | None,
    names: Sequence[str],
    known: Set[str],
    *,
    flattered: bool,
) -> dict[str, str]:
    """{figure: its mark} of the validation figures that do not compare with those of SOTA.

    `known` are the figures that SOTA has: the others have nothing to be compared with.
    """
    marks = {}
    for name in names:
        if name.startswith("val_"):
            other = reference if name in known else None
            marks[name] = _find_mark(own, other, name, flattered=flattered)
    return {name: mark for name, mark in marks.items() if mark}


def _find_mark(own: Basis, reference: Basis | None, name: str, *, flattered: bool) -> str:
    reason = ""
    if reference is not None and own.name != reference.name:
        reason = explain_incomparable(reference, own, name)
    if reason:
        return APART
    return SEARCHED if flattered else ""


def _mark_nodes(workspace: Workspace, family: Family, bases: Mapping[int, Basis]) -> dict[str, str]:
    """{node: the mark of its validation score}, as in the table; runs are marked as well."""
    reference, known = None, set[str]()
    for node in family.nodes:
        submitted = bases.get(node.submission or 0)
        if node.is_sota and submitted:
            known = {name for name in node.scores if name.startswith("val_")}
            reference = submitted
    marks = {}
    for node in family.nodes:
        name = next((name for name in node.scores if name.startswith("val_")), None)
        if name is None:
            continue
        own = bases.get(node.submission or 0)
        try:
            if own is None:
                record = load_run(workspace.runs_dir, node.name)
                config = load_config(workspace.runs_dir, node.name)
                own = basis_of_run(workspace, record, config)
        except TrackerError:
            continue  # the family shows the run all the same
        compared = reference if name in known else None
        if mark := _find_mark(own, compared, name, flattered=node.flattered):
            marks[node.name] = mark
    return marks


def _describe_model(config: Mapping[str, Any]) -> str | None:
    if config.get("ensemble", {}).get("members"):
        return describe_ensemble(config["ensemble"])
    return name_model(config)


def _list_remarks(workspace: Workspace) -> dict[str, list[str]]:
    """Notes by people, by submission number or run uid, oldest first; other kinds are named."""
    rows = read_rows(
        workspace.ledger_url, "SELECT submission, run_uid, kind, text FROM notes ORDER BY seq"
    )
    remarks: dict[str, list[str]] = {}
    for row in rows:
        if row["kind"] not in AUTOMATIC_NOTES:
            text = row["text"] if row["kind"] == "note" else f"{row['kind']}: {row['text']}"
            remarks.setdefault(str(row["submission"] or row["run_uid"]), []).append(text)
    return remarks


def _find_best(
    entries: Iterable[SubmissionEntry], metric: Metric, split: str
) -> SubmissionEntry | None:
    """The entry with the best score of a split; ties go to the earlier one."""
    name, best = f"{split}_{metric.name}", None
    for entry in entries:
        if name in entry.values and (
            best is None or metric.is_better(entry.values[name], best.values[name])
        ):
            best = entry
    return best


def label_metric(name: str) -> str:
    """The metric's name beside a figure."""
    known = METRICS.get(name) or COMPETITION.get(name)
    return known.label if known else name


def render_gain(entry: SubmissionEntry) -> str:
    """The public score minus SOTA's at that time, with its sign; empty if unknown."""
    return "" if entry.gain is None else render_decimals(entry.gain, 4, signed=True)


def explain_parts(report: TeamReport) -> dict[str, str]:
    """What the parts of a report show, where that is not everything, and what shows all of it.

    The keys are `report`, `agreement`, `family` and `audit`; empty for a whole report.
    """
    if report.is_whole:
        return {}
    return {
        "report": (
            f"This report shows {len(report.entries):,} of {report.total:,} submissions: the newest"
            f" {report.newest:,}, the best {BEST} and each that became SOTA. tracker ledger export"
            " all.csv writes all of them."
        ),
        "agreement": f"Of the newest {report.newest:,}; tracker leaderboard cv-lb takes all.",
        "family": (
            f"Only SOTA and what it was made from, the {MOST_ANCESTORS} nearest; tracker tree shows"
            " all."
        ),
        "audit": "Of the submissions shown; tracker audit reads all, and the files of runs.",
    }


def list_facts(report: TeamReport) -> dict[str, str]:
    """The facts at the top of the report, without SOTA."""
    facts = {"Submissions": str(report.total)}
    if report.times:
        first, last = (report.competition.local_time(time) for time in report.times)
        facts[f"First to last ({report.competition.time_zone})"] = f"{first} to {last}"
    best, metric = report.best_private, report.competition.primary
    if best:
        facts["Best private score"] = (
            f"{metric.render(best.values[f'private_{metric.name}'])}, submission {best.number}"
        )
    among = "" if report.is_whole else " of the submissions shown"
    facts["Duplicates"] = f"{len(report.audit.wasted)}{among}"
    facts["Quota"] = render_quota(report.quota, report.competition)
    facts["Ledger head"] = report.head
    return facts


def _list_columns(entries: Sequence[SubmissionEntry], competition: Competition) -> list[Column]:
    """The columns of figures that are known for at least one submission."""
    columns = []
    for metric, split in product(competition.metrics, ("public", "private")):
        title = metric_title(metric)
        columns.append(
            Column(
                key=f"{split}_{metric.name}",
                group=title[:1].upper() + title[1:],
                label=split,
                name=f"{split} {_shorten(metric.name)}",
            )
        )
    known = set(chain.from_iterable(entry.values for entry in entries))
    for part, group in (("train", "Training"), ("val", "Validation")):
        measured = {key.removeprefix(f"{part}_") for key in known if key.startswith(f"{part}_")}
        for figure in dict.fromkeys([*choose_metrics(competition, measured), "loss"]):
            label = _shorten(figure)
            columns.append(
                Column(
                    key=f"{part}_{figure}",
                    group=group,
                    label=label,
                    name=f"{part} {label}",
                )
            )
    return [column for column in columns if column.key in known]


def _shorten(name: str) -> str:
    known = METRICS.get(name) or COMPETITION.get(name)
    return known.short if known else name


def _list_relations(
    entries: Sequence[SubmissionEntry], competition: Competition, schemes: Sequence[Sequence[int]]
) -> list[Scatter]:
    """Validation/public, public/private and validation/private, where enough scores are known."""
    primary = competition.primary_metric
    names = [*dict.fromkeys([primary, *(metric.name for metric in competition.metrics)])]
    # Of each pair of splits, the first metric with enough points is drawn.
    pairs = [
        [(f"val_{name}", f"public_{name}") for name in names] + [("val_f1", f"public_{primary}")],
        [(f"public_{primary}", f"private_{primary}")],
        [(f"val_{name}", f"private_{name}") for name in names] + [("val_f1", f"private_{primary}")],
    ]
    scatters = []
    for choices in pairs:
        relations = [_relate(entries, x, y, schemes) for x, y in choices]
        if relation := next((item for item in relations if len(item.points) >= MIN_TO_PLOT), None):
            scatters.append(relation)
    return scatters


def _relate(
    entries: Sequence[SubmissionEntry], x: str, y: str, schemes: Sequence[Sequence[int]]
) -> Scatter:
    points = [
        (e.number, e.values[x], e.values[y]) for e in entries if x in e.values and y in e.values
    ]
    groups = [points]
    if x.startswith("val_"):
        # Validation scores compare only within one scheme.
        groups = []
        for numbers in map(set, schemes):
            group = [point for point in points if point[0] in numbers]
            if group:
                groups.append(group)
    flattered = []
    if x.startswith("val_"):
        searched = {entry.number for entry in entries if entry.searched}
        flattered = [point[0] for point in points if point[0] in searched]
    unfair = set(flattered)
    fair = [[point for point in group if point[0] not in unfair] for group in groups]
    groups = [group for group in fair if group]
    largest = max(groups, key=len, default=[])
    rank = None
    if len(largest) >= MIN_TO_RANK:
        xs, ys = [point[1] for point in largest], [point[2] for point in largest]
        # A duplicate narrows no interval, as in `leaderboard cv-lb`.
        ranked = {point[0] for point in largest}
        copies = {entry.number for entry in entries if entry.equal_to in ranked}
        different = {point[1:] for point in largest if point[0] not in copies}
        rank = rank_correlation(xs, ys, distinct=len(different))
    drawn = {point[0] for point in largest}
    others = [point[0] for point in points if point[0] not in drawn]
    return Scatter(
        x=x,
        y=y,
        points=points,
        rank=rank,
        others=others,
        schemes=len(groups),
        flattered=flattered,
    )
