"""Many runs in one table: the config keys in which they differ, and what came of it. Plain data;
render_compare.py renders it.

Runs that differ in nothing but the seed or the fold are one row, with mean and standard deviation.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from tracker.comparison.comparable import DATA, Basis, basis_of_run, explain_incomparable
from tracker.comparison.diff import NOT_COMPARED
from tracker.comparison.subject import load_side
from tracker.comparison.where import Condition, explain_nothing_found, parse_where
from tracker.core.config_diff import is_by_hand, is_complete, knows, shorten_print
from tracker.core.errors import UnknownRunError
from tracker.ledger.read import (
    get_submission,
    has_run,
    list_newest_of_runs,
    list_notes,
    list_numbers,
)
from tracker.ledger.records import Note, Submission
from tracker.ledger.resolve import resolve_run
from tracker.runs.read import list_runs, load_config, load_run
from tracker.runs.record import RUN_NAME, RunRecord, is_archived, list_run_numbers
from tracker.training.config_fingerprint import outcome_values
from tracker.training.errors import ConfigError, StorageError, TrackerError, find_nearest
from tracker.training.metrics import list_monitors
from tracker.training.numbers import render_count
from tracker.training.tables import flatten
from tracker.workspace.competition import Metric, Workspace
from tracker.workspace.metrics import higher_is_better

NEWEST = 200
MOST_NAMED = 4  # runs in a sentence
UNFINISHED = ("running", "interrupted", "killed", "failed")
REPEATS = ("train.seed", "data.fold")
FIELDS = (
    "tags",
    "name",
    "kind",
    "status",
    "parent",
    "note",
    "author",
    "host",
    "created_at",
    "best_epoch",
    "duration_s",
)
_RANGE = re.compile(r"(exp|s)([0-9]+)\.\.(?:exp|s)?([0-9]+)")
_SCORES = ("public_", "private_", "overall_")


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A metric over the `n` seeds or folds of a row that know it; `sd` is the sample's (n - 1),
    None for one.

    `runs` are more where a seed was trained repeatedly: repeats say nothing about the noise between
    seeds.
    """

    mean: float
    sd: float | None
    n: int
    runs: int = 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """A run, or runs that differ in seed or fold alone; `config` has the keys in which the rows
    differ."""

    runs: Sequence[str]
    config: Mapping[str, Any]
    metrics: Mapping[str, Spread]
    submissions: Sequence[int]
    note: str
    notes: Sequence[Note]


@dataclass(frozen=True, kw_only=True)
class Incomparable:
    """`runs` whose `metric` does not compare with that of `other`, a run of the most rows that do, and
    why."""

    metric: str
    runs: Sequence[str]
    other: str
    reason: str

    def __str__(self) -> str:
        more = len(self.runs) - MOST_NAMED
        named = ", ".join(self.runs[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        return f"{named} with {self.other}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The table: `keys` and `metrics` name its columns, `best` the row with the best mean of each
    metric.

    `not_known` are the keys that a run of another program never logged: not known to differ. Others
    are compared by
    them.
    `best` is among rows whose figures are comparable; `incomparable` are the others.
    """

    rows: Sequence[Row]
    keys: Sequence[str]
    metrics: Sequence[str]
    best: Mapping[str, int]
    incomparable: Sequence[Incomparable]
    equal_keys: int
    not_known: Sequence[str]
    runs: int
    considered: int
    skipped: Sequence[str]
    nothing_found: str = ""  # why there are no rows

    @property
    def not_comparable(self) -> dict[str, list[str]]:
        """Sentences about the figures that do not compare, by metric."""
        found: dict[str, list[str]] = {}
        for item in self.incomparable:
            found.setdefault(item.metric, []).append(str(item))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        plain = asdict(self)
        names = [
            "not_comparable" if name == "incomparable" else name
            for name in plain
            if name != "nothing_found"
        ]
        return {name: plain.get(name, self.not_comparable) for name in names}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One run, or a submission known from the ledger alone, as it goes into the table."""

    fields: Mapping[str, Any]
    config: Mapping[str, Any]
    outcome: Mapping[str, Any]
    metrics: Mapping[str, float]
    submission: int | None
    basis: Basis
    weights: str | None = None
    notes: Sequence[Note] = field(default=())
    recorded: bool = True

    @property
    def name(self) -> str:
        """exp12, or s12 for a submission without a run folder."""
        return str(self.fields["name"])

    def values(self) -> dict[str, Any]:
        """Everything that a condition can ask for, by its name."""
        return {**self.fields, "submission": self.submission, **self.config, **self.metrics}

    def family(self, repeats: Sequence[str]) -> str:
        """Equal for runs that differ in `repeats` alone."""
        decisive = {key: value for key, value in self.outcome.items() if key not in repeats}
        return json.dumps(decisive, sort_keys=True, ensure_ascii=False)


def compare_runs(
    workspace: Workspace,
    words: Sequence[str],
    *,
    where: str = "",
    sort: str = "",
    each: bool = False,
    everything: bool = False,
    limit: int = NEWEST,
    archived: bool = False,
) -> Comparison:
    """Compare the runs meant by `words` (exp3, exp5..exp9, s12, sota), or the newest `limit`
    finished ones.

    A condition on the status looks at the newest runs however they ended. Archived runs are
    compared where they are named one by one, or with `archived`. With `each`, seeds and folds have
    rows of their own; with `everything`, F1 by class and keys that are equal are among the columns.
    Raises UnknownRunError, StorageError, or ConfigError for a condition that cannot be understood.
    """
    condition = parse_where(where) if where else None
    skipped: list[str] = []
    ended = condition is not None and condition.asks_status
    subjects = list(_load(workspace, words, limit, skipped, archived=archived, unfinished=ended))
    if not subjects:
        raise UnknownRunError("no finished run to compare", hint=_suggest_subjects(workspace))
    chosen = subjects
    if condition is not None:
        values = [subject.values() for subject in subjects]
        condition.check_names(name for known in values for name in known)
        chosen = [
            subject
            for subject, known in zip(subjects, values, strict=True)
            if condition.test(known)
        ]
    nothing = ""
    if condition is not None and not chosen:
        looked_at = render_count(len(subjects), "run" if ended or words else "finished run")
        nothing = _explain_nothing(
            workspace, condition, subjects, f"{'the' if words else 'the newest'} {looked_at}"
        )
    groups = _group(chosen, () if each else REPEATS)
    if sort:
        groups = _sort(workspace, groups, sort)
    keys, equal, not_known = _find_keys(chosen, () if each else REPEATS, everything=everything)
    own = [f"val/{metric.name}" for metric in workspace.competition.metrics]
    names = _list_metrics(
        chosen, [*_SCORES, *own, *list_monitors(), "val/", "train/"], everything=everything
    )
    rows = [_build_row(group, keys, names) for group in groups]
    best, incomparable = _find_best(workspace, groups, rows, names)
    return Comparison(
        rows=rows,
        keys=keys,
        metrics=names,
        best=best,
        incomparable=incomparable,
        equal_keys=equal,
        not_known=not_known,
        runs=len(chosen),
        considered=len(subjects),
        skipped=skipped,
        nothing_found=nothing,
    )


def _explain_nothing(
    workspace: Workspace, condition: Condition, subjects: Sequence[Subject], scope: str
) -> str:
    """What was looked at, and which of all other runs the condition is true of."""
    seen = {subject.name for subject in subjects}
    records = [record for record in list_runs(workspace.runs_dir) if record.name not in seen]
    others = find_others(workspace, condition, records)
    command = f"tracker compare {' '.join(list(others)[:MOST_NAMED])}"
    values = [subject.values() for subject in subjects]
    return explain_nothing_found(condition, scope, values, others=others, command=command)


def find_others(
    workspace: Workspace, condition: Condition, records: Sequence[RunRecord]
) -> dict[str, str]:
    """{name: why it was not looked at} of the runs of which a condition is true."""
    found = {}
    for record, known in zip(records, load_values(workspace, records), strict=True):
        fits = False
        with suppress(ConfigError):  # a value of another kind, in a run that was not asked for
            fits = condition.test(known)
        if fits:
            ended = "older" if record.status == "finished" else record.status
            found[record.name] = "archived" if record.archived_at else ended
    return found


def _suggest_subjects(workspace: Workspace) -> str:
    """What to compare where no run has finished: those that have not, or submissions, if the ledger
    has any."""
    unfinished = [
        record.name
        for record in list_runs(workspace.runs_dir, archived=False)
        if record.status in UNFINISHED
    ]
    if unfinished:
        named = " ".join(unfinished[:MOST_NAMED])
        return f"tracker compare {named} compares what has not finished"
    numbers = list_numbers(workspace)
    if len(numbers) > 1:
        return f"tracker run train makes one; tracker compare s{min(numbers)}..s{max(numbers)}"
    return "tracker run train makes one"


# --- Loading
# ----------------------------------------------------------------------------------------------------------


def _load(
    workspace: Workspace,
    words: Sequence[str],
    limit: int,
    skipped: list[str],
    *,
    archived: bool,
    unfinished: bool,
) -> Iterator[Subject]:
    if words:
        return _load_named(workspace, expand_words(workspace, words, archived=archived))
    return _load_newest(workspace, limit, skipped, archived=archived, unfinished=unfinished)


def expand_words(
    workspace: Workspace, words: Sequence[str], *, archived: bool = False
) -> list[str]:
    """Ranges like exp3..exp9 and s1..s18 written out, each word once, without the archived runs
    within a range.

    Raises UnknownRunError for an empty range.
    """
    found: list[str] = []
    for word in words:
        match = _RANGE.fullmatch(word)
        if match is None:
            found.append(word)
            continue
        kind, low, high = match[1], int(match[2]), int(match[3])
        if kind == "exp":
            known: Iterable[int] = reversed(list_run_numbers(workspace.runs_dir))
        else:
            known = list_numbers(workspace)
        inside = [f"{kind}{number}" for number in known if low <= number <= high]
        if kind == "exp" and not archived:
            inside = [name for name in inside if not is_archived(workspace.runs_dir / name)]
        if not inside:
            raise UnknownRunError(
                f"nothing between {kind}{low} and {kind}{high}", hint="tracker runs lists them"
            )
        found += inside
    return list(dict.fromkeys(found))


def _load_named(workspace: Workspace, words: Sequence[str]) -> Iterator[Subject]:
    """The runs and submissions in the order named; a run that is named in two ways comes once."""
    records: dict[str, RunRecord | Subject] = {}
    for word in words:
        if word[:1] == "s" and word[1:].isdecimal():
            row = get_submission(workspace, int(word[1:]))
            if not has_run(workspace, row):
                records[word] = _load_historical(workspace, word)
                continue
        record = load_run(workspace.runs_dir, resolve_run(workspace, word))
        records[record.name] = record
    found = [record for record in records.values() if isinstance(record, RunRecord)]
    built = {subject.name: subject for subject in _build_subjects(workspace, found)}
    for name, known in records.items():
        yield known if isinstance(known, Subject) else built[name]


def _load_newest(
    workspace: Workspace, limit: int, skipped: list[str], *, archived: bool, unfinished: bool
) -> Iterator[Subject]:
    """The newest runs that finished, or all with `unfinished`; one that cannot be read is told in
    `skipped`."""
    records: list[RunRecord] = []
    for number in list_run_numbers(workspace.runs_dir):
        try:
            record = load_run(workspace.runs_dir, f"exp{number}")
        except StorageError as error:
            skipped.append(f"exp{number}: {error}")
            continue
        if (unfinished or record.status == "finished") and (archived or record.archived_at is None):
            records.append(record)
        if limit and len(records) == limit:
            break
    return _build_subjects(workspace, records, skipped)


def _build_subjects(
    workspace: Workspace, records: Sequence[RunRecord], skipped: list[str] | None = None
) -> Iterator[Subject]:
    """What is compared of each run; raises what its config raises, or tells it in `skipped`."""
    submitted = list_newest_of_runs(workspace, [record.uid for record in records])
    notes = list_notes(workspace, [record.uid for record in records])
    for record in records:
        try:
            config = load_config(workspace.runs_dir, record.name)
        except TrackerError as error:
            if skipped is None:
                raise
            skipped.append(f"{record.name}: {error}")
            continue
        yield _build_subject(
            workspace, record, config, submitted.get(record.uid), notes.get(record.uid, ())
        )


def _build_subject(
    workspace: Workspace,
    record: RunRecord,
    config: Mapping[str, Any],
    row: Submission | None,
    notes: Sequence[Note],
) -> Subject:
    data = record.fingerprints.get("data")
    outcome = {**outcome_values(config), "kind": record.kind, "data": data and shorten_print(data)}
    summary = {name: value for name, value in record.summary.items() if value is not None}
    fields = {name: getattr(record, name) for name in FIELDS} | {
        "tags": ", ".join(record.tags) or None
    }
    if "adopted_from" in record.facts:  # the time that adopting took
        fields["duration_s"] = None
    return Subject(
        fields=fields,
        config=flatten(config),
        outcome=outcome,
        metrics={**(row.scores if row else {}), **summary},
        submission=row.number if row else None,
        basis=basis_of_run(workspace, record, config),
        weights=record.fingerprints.get("weights"),
        notes=notes,
    )


def load_values(workspace: Workspace, records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Everything that a condition can ask for of each run; of one whose config cannot be read what
    its record has."""
    submitted = list_newest_of_runs(workspace, [record.uid for record in records])
    found = []
    for record in records:
        try:
            config = load_config(workspace.runs_dir, record.name)
        except TrackerError:
            config = {}
        found.append(
            _build_subject(workspace, record, config, submitted.get(record.uid), ()).values()
        )
    return found


def _load_historical(workspace: Workspace, word: str) -> Subject:
    """A submission whose run is not here: what the ledger knows of it."""
    side = load_side(workspace, word)
    row = get_submission(workspace, int(word[1:]))
    fields = {
        **dict.fromkeys(FIELDS),
        "name": side.name,
        "note": row.memo,
        "best_epoch": row.best_epoch,
    }
    return Subject(
        fields={**fields, "author": row.author, "created_at": row.submitted_at},
        config=flatten(side.config),
        outcome=outcome_values(side.config),
        metrics={name: value for name, value in side.metrics.items() if value is not None},
        submission=row.number,
        basis=side.basis,
        weights=row.weights_fingerprint,
        notes=row.notes,
        recorded=side.recorded,
    )


# --- The table
# --------------------------------------------------------------------------------------------------------


def _group(subjects: Sequence[Subject], repeats: Sequence[str]) -> list[list[Subject]]:
    """Runs that differ in nothing but `repeats` together, in the order of the first of each; none
    together without.

    One that broke off is alone: other lengths are no seeds. So is one of another program that names
    no seed.
    """
    if not repeats:
        return [[subject] for subject in subjects]
    groups: dict[str, list[Subject]] = {}
    for subject in subjects:
        broken_off = subject.fields["status"] not in (
            None,
            "finished",
        )  # None: of a submission whose run is not here
        recorded = subject.fields["status"] is not None
        unseeded = (
            recorded and not is_complete(subject.config) and "train.seed" not in subject.outcome
        )
        alone = broken_off or (unseeded and "ensemble.method" not in subject.outcome)
        groups.setdefault(subject.name if alone else subject.family(repeats), []).append(subject)
    return list(groups.values())


def _find_keys(
    subjects: Sequence[Subject], repeats: Sequence[str], *, everything: bool
) -> tuple[list[str], int, list[str]]:
    """The config keys in which the subjects differ, in the config's order, how many are equal, and
    which some miss.

    That an ensemble has no learning rate is no difference from the runs that have one, nor that
    another program's run tells nothing of a key (`knows`).
    """
    known = list(
        dict.fromkeys(key for subject in subjects for key in subject.outcome if key not in repeats)
    )
    trained = [subject for subject in subjects if "ensemble.method" not in subject.outcome]

    complete = {key for subject in trained if is_complete(subject.config) for key in subject.config}

    by_hand = all(not subject.recorded and is_by_hand(subject.config) for subject in trained)

    def is_known(subject: Subject, key: str) -> bool:
        if key == DATA:
            return subject.outcome.get(key) is not None
        return key in subject.outcome or knows(
            subject.config, key, of_complete=key in complete, by_hand=by_hand
        )

    def differs(key: str) -> bool:
        asked = (
            subjects
            if key.startswith("ensemble.")
            else [one for one in trained if is_known(one, key)]
        )
        return len({json.dumps(subject.outcome.get(key)) for subject in asked}) > 1

    differing = [key for key in known if differs(key)]
    missed = [key for key in known if not all(is_known(subject, key) for subject in trained)]
    equal = [key for key in known if key not in differing and key not in missed]
    return (known if everything else differing), len(equal), missed


def _list_metrics(
    subjects: Sequence[Subject], order: Sequence[str], *, everything: bool
) -> list[str]:
    """In the `order` of their beginnings; F1 by class only on demand."""
    known = dict.fromkeys(
        name for subject in subjects for name in subject.metrics if name not in NOT_COMPARED
    )
    names = [name for name in known if everything or name.count("/") < 2]

    def rank(name: str) -> int:
        return next(
            (place for place, start in enumerate(order) if name.startswith(start)), len(order)
        )

    return sorted(names, key=rank)


def _build_row(group: Sequence[Subject], keys: Sequence[str], names: Sequence[str]) -> Row:
    first = group[0]
    submissions = [subject.submission for subject in group if subject.submission is not None]
    return Row(
        runs=[subject.name for subject in group],
        config={key: first.outcome.get(key) for key in keys},
        metrics={name: spread for name in names if (spread := _spread(group, name))},
        submissions=sorted(submissions),
        note=_share_note(group),
        notes=sorted(
            (note for subject in group for note in subject.notes), key=lambda note: note.time
        ),
    )


def _share_note(group: Sequence[Subject]) -> str:
    """The note that all runs of a row have; of several ones the first, with how many runs it is of."""
    notes = [str(subject.fields["note"] or "") for subject in group]
    first = next((note for note in notes if note), "")
    if not first or notes.count(first) == len(notes):
        return first
    return f"{first} ({notes.count(first)} of {len(notes)} runs)"


def _spread(group: Sequence[Subject], name: str) -> Spread | None:
    """Mean and standard deviation of a metric over the seeds whose runs know it, None when none
    does."""
    known = [subject for subject in group if name in subject.metrics]
    if not known:
        return None
    values = [
        statistics.fmean(subject.metrics[name] for subject in runs)
        for runs in _group_repeats(known)
    ]
    sd = statistics.stdev(values) if len(values) > 1 else None
    return Spread(mean=statistics.fmean(values), sd=sd, n=len(values), runs=len(known))


def _group_repeats(subjects: Sequence[Subject]) -> list[list[Subject]]:
    """Runs with equal weights, or of one seed and fold, together: they are repeats of one training."""
    groups: list[list[Subject]] = []
    for subject in subjects:
        same = [group for group in groups if any(_is_repeat(subject, other) for other in group)]
        merged = [subject, *(other for group in same for other in group)]
        groups = [*(group for group in groups if group not in same), merged]
    return groups


def _is_repeat(one: Subject, other: Subject) -> bool:
    if one.weights and one.weights == other.weights:
        return True
    seeds = [[subject.outcome.get(key) for key in REPEATS] for subject in (one, other)]
    if seeds[0][0] is None:  # no seed is known: equal in every figure is no coincidence
        return one.metrics == other.metrics
    return seeds[0] == seeds[1]


def _find_best(
    workspace: Workspace,
    groups: Sequence[Sequence[Subject]],
    rows: Sequence[Row],
    names: Sequence[str],
) -> tuple[dict[str, int], list[Incomparable]]:
    """{metric: place of the row with the best mean} among the comparable rows, and why others are
    not among them.

    Without metrics in which all rows are equal, or where no two comparable rows outnumber the
    others.
    """
    best: dict[str, int] = {}
    why: list[Incomparable] = []
    for name in names:
        places = [place for place, row in enumerate(rows) if name in row.metrics]
        alike, others = _find_comparable(groups, places, name)
        why += others
        means = {place: rows[place].metrics[name].mean for place in alike}
        if len(set(means.values())) > 1:
            choose = max if higher_is_better(workspace.competition.metrics, name) else min
            best[name] = choose(means, key=lambda place: means[place])
    return best, why


def _find_comparable(
    groups: Sequence[Sequence[Subject]], places: Sequence[int], name: str
) -> tuple[list[int], list[Incomparable]]:
    """The places of the most rows that compare by a metric, and why the others do not.

    No places where there are as many others that compare among themselves.
    """
    parts: list[list[int]] = []
    for place in places:
        own = next(
            (part for part in parts if not _explain_rows(groups[part[0]], groups[place], name)),
            None,
        )
        if own is None:
            parts.append([place])
        else:
            own.append(place)
    if len(parts) < 2:
        return list(places), []
    parts.sort(key=len, reverse=True)
    first = groups[parts[0][0]]
    others = []
    for part in parts[1:]:
        runs = [subject.name for place in part for subject in groups[place]]
        reason = _explain_rows(first, groups[part[0]], name)
        others.append(Incomparable(metric=name, runs=runs, other=first[0].name, reason=reason))
    return (parts[0] if len(parts[0]) > len(parts[1]) else []), others


def _explain_rows(one: Sequence[Subject], other: Sequence[Subject], name: str) -> str:
    """Why a metric of two rows cannot be compared; of folds, both must have the same ones.

    A leaderboard's images are the same for all.
    """
    if name.startswith(_SCORES):
        return ""
    left, right = (
        {subject.outcome.get("data.fold"): subject.basis for subject in row} for row in (one, other)
    )
    if len(one) + len(other) > 2 and left.keys() != right.keys():
        folds = [", ".join(sorted(str(fold) for fold in row)) for row in (left, right)]
        return f"other validation images (folds {folds[0]} against {folds[1]})"
    fold = next(iter(left))
    return explain_incomparable(left[fold], right.get(fold, other[0].basis), name)


def _sort(workspace: Workspace, groups: list[list[Subject]], name: str) -> list[list[Subject]]:
    """By a metric, the best first, or by a config key or field, ascending; the unknown last. Raises
    ConfigError."""
    if groups:
        check_sort_name(
            name, [key for group in groups for subject in group for key in subject.values()]
        )
    is_metric = any(name in subject.metrics for group in groups for subject in group)
    order = sort_key(workspace.competition.metrics, name, is_metric=is_metric)

    def find_value(group: list[Subject]) -> Any:
        if not is_metric:
            return group[0].values().get(name)
        spread = _spread(group, name)
        return spread.mean if spread else None

    return sorted(groups, key=lambda group: order(find_value(group)))


def check_sort_name(name: str, known: Iterable[str], *, what: str = "run") -> None:
    """Raise ConfigError for a name that none has, with the nearest that one has."""
    names = list(dict.fromkeys(known))
    if name not in names:
        near = find_nearest(name, names)
        raise ConfigError(
            f"--sort: no {what} has {name!r}", hint=f"nearest: {near}" if near else ""
        )


def sort_key(
    declared: Sequence[Metric], name: str, *, is_metric: bool
) -> Callable[[Any], tuple[int, float, str]]:
    """What puts values of `name` in order: of a metric the best first, of others ascending; the
    unknown last."""
    sign = -1.0 if is_metric and higher_is_better(declared, name) else 1.0

    def find_key(value: Any) -> tuple[int, float, str]:
        kind, number, text = _sortable(value)
        return kind, sign * number if kind == 0 else number, text

    return find_key


def _sortable(value: Any) -> tuple[int, float, str]:
    """Numbers, then texts, then the unknown; exp9 before exp12."""
    if isinstance(value, int | float):
        return 0, float(value), ""
    match = RUN_NAME.fullmatch(str(value))
    if match:
        return 1, float(match[1]), ""
    return (3 if value is None else 2), 0.0, str(value)
