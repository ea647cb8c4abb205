"""Many runs in one table: the config keys in which they differ, and their results.

Plain data; `console` shows it. Runs that differ only in seed or fold are one row, with mean and
standard deviation.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

from tracker.comparison.comparable import DATA, Basis, basis_of_run, explain_incomparable
from tracker.comparison.diff import UNCOMPARED_METRICS
from tracker.comparison.subject import load_subject
from tracker.comparison.where import Condition, explain_no_matches, parse_where
from tracker.core.config_diff import (
    ENSEMBLE,
    has_only_known_options,
    is_complete,
    knows,
    shorten_fingerprint,
    translate,
)
from tracker.core.errors import TrackerError, UnknownRunError
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
from tracker.training.errors import ConfigError, StorageError, find_nearest
from tracker.training.metrics import list_monitors
from tracker.training.numbers import render_count
from tracker.training.tables import flatten
from tracker.workspace.metrics import higher_is_better
from tracker.workspace.tracker_toml import Metric, Workspace

# More rows than anyone reads; `limit` asks for others.
DEFAULT_LIMIT = 200
MAX_NAMED = 4  # runs in a sentence
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
LEADERBOARD_PREFIXES = ("public_", "private_", "overall_")


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A metric over the `n` seeds or folds of a row.

    `sd` is the sample's (n - 1), None for one. `runs` is larger than `n` where a seed was trained
    repeatedly: repeats say nothing about the noise between seeds.
    """

    mean: float
    sd: float | None
    n: int
    runs: int = 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """A run, or runs that differ only in seed or fold; `config` has the keys that differ.

    `flattered`: one is an ensemble whose weights were searched on its validation images.
    """

    runs: Sequence[str]
    config: Mapping[str, Any]
    metrics: Mapping[str, Spread]
    submissions: Sequence[int]
    note: str
    notes: Sequence[Note]
    flattered: bool = False


@dataclass(frozen=True, kw_only=True)
class Incomparable:
    """Why `metric` of `runs` does not compare with that of `other`.

    `other` is a run of the largest set of rows that compare with each other.
    """

    metric: str
    runs: Sequence[str]
    other: str
    reason: str

    def __str__(self) -> str:
        more = len(self.runs) - MAX_NAMED
        named = ", ".join(self.runs[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
        return f"{named} with {self.other}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The table: `keys` and `metrics` name its columns, `best` the best row by each metric.

    `not_known` are keys that a run of another program never logged: not known to differ. `best` is
    the row with the best mean among comparable rows; `incomparable` lists the others.
    `empty_reason` says why there are no rows.
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
    empty_reason: str = ""  # why there are no rows

    @property
    def not_comparable(self) -> dict[str, list[str]]:
        """Sentences about the figures that cannot be compared, by metric."""
        sentences: dict[str, list[str]] = {}
        for item in self.incomparable:
            sentences.setdefault(item.metric, []).append(str(item))
        return sentences

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        plain = asdict(self)
        names = [
            "not_comparable" if name == "incomparable" else name
            for name in plain
            if name != "empty_reason"
        ]
        return {name: plain.get(name, self.not_comparable) for name in names}


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """One run, or a submission known only from the ledger, as a row of the table."""

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
        """A text that is equal for runs that differ only in `repeats`."""
        decisive = {key: value for key, value in self.outcome.items() if key not in repeats}
        return json.dumps(decisive, sort_keys=True, ensure_ascii=False)


def compare_runs(
    workspace: Workspace,
    arguments: Sequence[str],
    *,
    where: str = "",
    sort: str = "",
    each: bool = False,
    everything: bool = False,
    limit: int = DEFAULT_LIMIT,
    archived: bool = False,
) -> Comparison:
    """Compare the runs named (exp3, exp5..exp9, s12, sota), or the newest `limit` finished ones.

    A condition on the status also looks at runs that did not finish. Archived runs are compared if
    they are named one by one, or with `archived`. With `each`, every seed and fold has its own row.
    With `everything`, F1 by class and equal keys are columns, too.

    Raises UnknownRunError, StorageError, or ConfigError for a condition that cannot be read.
    """
    condition = parse_where(where) if where else None
    skipped: list[str] = []
    ended = condition is not None and condition.asks_status
    subjects = list(
        _load(workspace, arguments, limit, skipped, archived=archived, unfinished=ended)
    )
    if not subjects:
        raise UnknownRunError("no finished run to compare", hint=_suggest_runs(workspace))
    chosen = subjects
    if condition is not None:
        values = [run.values() for run in subjects]
        condition.check_names(chain.from_iterable(values))
        chosen = [run for run, known in zip(subjects, values, strict=True) if condition.test(known)]
    reason = ""
    if condition is not None and not chosen:
        searched = render_count(len(subjects), "run" if ended or arguments else "finished run")
        scope = f"the {searched}" if arguments else f"the newest {searched}"
        reason = _explain_empty(workspace, condition, subjects, scope)
    groups = _group(chosen, () if each else REPEATS)
    if sort:
        groups = _sort(workspace, groups, sort)
    keys, equal, not_known = _find_keys(chosen, () if each else REPEATS, everything=everything)
    own = [f"val/{metric.name}" for metric in workspace.competition.metrics]
    names = _list_metrics(
        chosen,
        [*LEADERBOARD_PREFIXES, *own, *list_monitors(), "val/", "train/"],
        everything=everything,
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
        empty_reason=reason,
    )


def _explain_empty(
    workspace: Workspace, condition: Condition, subjects: Sequence[ComparedRun], scope: str
) -> str:
    """Why the table is empty: what was searched, and which other runs match."""
    seen = {run.name for run in subjects}
    records = [record for record in list_runs(workspace.runs_dir) if record.name not in seen]
    others = find_matching_elsewhere(workspace, condition, records)
    command = f"tracker compare {' '.join(list(others)[:MAX_NAMED])}"
    values = [run.values() for run in subjects]
    return explain_no_matches(condition, scope, values, others=others, command=command)


def find_matching_elsewhere(
    workspace: Workspace, condition: Condition, records: Sequence[RunRecord]
) -> dict[str, str]:
    """{name: why it was not searched} of the runs that match a condition."""
    matches = {}
    for record, known in zip(records, load_values(workspace, records), strict=True):
        is_match = False
        with suppress(ConfigError):  # a value of another kind, in a run that was not asked for
            is_match = condition.test(known)
        if is_match:
            ended = "older" if record.status == "finished" else record.status
            matches[record.name] = "archived" if record.archived_at else ended
    return matches


def _suggest_runs(workspace: Workspace) -> str:
    """What to compare if no run has finished: unfinished runs, or submissions."""
    unfinished = [
        record.name
        for record in list_runs(workspace.runs_dir, archived=False)
        if record.status in UNFINISHED
    ]
    if unfinished:
        named = " ".join(unfinished[:MAX_NAMED])
        return f"tracker compare {named} compares unfinished runs"
    numbers = list_numbers(workspace)
    if len(numbers) > 1:
        return f"tracker run train makes one; tracker compare s{min(numbers)}..s{max(numbers)}"
    return "tracker run train makes one"


# --- Loading


def _load(
    workspace: Workspace,
    arguments: Sequence[str],
    limit: int,
    skipped: list[str],
    *,
    archived: bool,
    unfinished: bool,
) -> Iterator[ComparedRun]:
    if arguments:
        return _load_named(workspace, expand_ranges(workspace, arguments, archived=archived))
    return _load_newest(workspace, limit, skipped, archived=archived, unfinished=unfinished)


def expand_ranges(
    workspace: Workspace, arguments: Sequence[str], *, archived: bool = False
) -> list[str]:
    """Ranges like exp3..exp9 and s1..s18 written out, each name once.

    Archived runs within a range are left out unless `archived`. Raises UnknownRunError for an empty
    range.
    """
    names: list[str] = []
    for argument in arguments:
        match = _RANGE.fullmatch(argument)
        if match is None:
            names.append(argument)
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
        names += inside
    return list(dict.fromkeys(names))


def _load_named(workspace: Workspace, references: Sequence[str]) -> Iterator[ComparedRun]:
    """The runs and submissions in the given order; a run that is named twice comes once."""
    records: dict[str, RunRecord | ComparedRun] = {}
    for reference in references:
        if reference[:1] == "s" and reference[1:].isdecimal():
            row = get_submission(workspace, int(reference[1:]))
            if not has_run(workspace, row):
                records[reference] = _load_historical(workspace, reference)
                continue
        record = load_run(workspace.runs_dir, resolve_run(workspace, reference))
        records[record.name] = record
    named = [record for record in records.values() if isinstance(record, RunRecord)]
    built = {run.name: run for run in _build_runs(workspace, named)}
    for name, known in records.items():
        yield known if isinstance(known, ComparedRun) else built[name]


def _load_newest(
    workspace: Workspace, limit: int, skipped: list[str], *, archived: bool, unfinished: bool
) -> Iterator[ComparedRun]:
    """The newest runs that finished, or all with `unfinished`.

    A run that cannot be read is added to `skipped`.
    """
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
    return _build_runs(workspace, records, skipped)


def _build_runs(
    workspace: Workspace, records: Sequence[RunRecord], skipped: list[str] | None = None
) -> Iterator[ComparedRun]:
    """What is compared of each run.

    Raises the error of an unreadable config, or adds it to `skipped` if that is given.
    """
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
        yield _build_run(
            workspace, record, config, submitted.get(record.uid), notes.get(record.uid, ())
        )


def _build_run(
    workspace: Workspace,
    record: RunRecord,
    config: Mapping[str, Any],
    row: Submission | None,
    notes: Sequence[Note],
) -> ComparedRun:
    data = record.fingerprints.get("data")
    outcome = {
        **outcome_values(translate(config)),
        "kind": record.kind,
        "data": data and shorten_fingerprint(data),
    }
    summary = {name: value for name, value in record.summary.items() if value is not None}
    fields = {name: getattr(record, name) for name in FIELDS} | {
        "tags": ", ".join(record.tags) or None
    }
    if "adopted_from" in record.facts:  # the time that adopting took
        fields["duration_s"] = None
    return ComparedRun(
        fields=fields,
        config={**flatten(config), **flatten(translate(config))},
        outcome=outcome,
        metrics={**(row.scores if row else {}), **summary},
        submission=row.number if row else None,
        basis=basis_of_run(workspace, record, config),
        weights=record.fingerprints.get("weights"),
        notes=notes,
    )


def load_values(workspace: Workspace, records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Everything that a condition can ask for, of each run.

    A run whose config cannot be read has only the values of its record.
    """
    submitted = list_newest_of_runs(workspace, [record.uid for record in records])
    values = []
    for record in records:
        try:
            config = load_config(workspace.runs_dir, record.name)
        except TrackerError:
            config = {}
        values.append(_build_run(workspace, record, config, submitted.get(record.uid), ()).values())
    return values


def _load_historical(workspace: Workspace, word: str) -> ComparedRun:
    """A submission whose run folder is not here: what the ledger knows of it."""
    side = load_subject(workspace, word)
    row = get_submission(workspace, int(word[1:]))
    fields = {
        **dict.fromkeys(FIELDS),
        "name": side.name,
        "note": row.memo,
        "best_epoch": row.best_epoch,
    }
    return ComparedRun(
        fields={**fields, "author": row.author, "created_at": row.submitted_at},
        config={**flatten(side.config), **flatten(translate(side.config))},
        outcome=outcome_values(translate(side.config)),
        metrics={name: value for name, value in side.metrics.items() if value is not None},
        submission=row.number,
        basis=side.basis,
        weights=row.weights_fingerprint,
        notes=row.notes,
        recorded=side.recorded,
    )


# --- The table


def _group(subjects: Sequence[ComparedRun], repeats: Sequence[str]) -> list[list[ComparedRun]]:
    """Group runs that differ only in `repeats`, in the order of the first of each group.

    A run that broke off is alone: a shorter training is no seed. So is a run of another program
    that names no seed. Without `repeats`, each run is alone.
    """
    if not repeats:
        return [[run] for run in subjects]
    groups: dict[str, list[ComparedRun]] = {}
    for run in subjects:
        # A submission whose run folder is not here has no status.
        recorded = run.fields["status"] is not None
        broken_off = recorded and run.fields["status"] != "finished"
        unseeded = recorded and not is_complete(run.config) and "train.seed" not in run.outcome
        alone = broken_off or (unseeded and "ensemble.method" not in run.outcome)
        groups.setdefault(run.name if alone else run.family(repeats), []).append(run)
    return list(groups.values())


def _find_keys(
    subjects: Sequence[ComparedRun], repeats: Sequence[str], *, everything: bool
) -> tuple[list[str], int, list[str]]:
    """The config keys that differ, how many are equal, and which are unknown for some runs.

    An ensemble has no learning rate: that is no difference from runs that have one. A key that
    another program never logged is no difference either (`knows`).
    """
    every_key = dict.fromkeys(chain.from_iterable(run.outcome for run in subjects))
    known = [key for key in every_key if key not in repeats]
    trained = [run for run in subjects if "ensemble.method" not in run.outcome]
    configs = [run.config for run in trained if is_complete(run.config)]
    complete = set(chain.from_iterable(configs))
    by_hand = all(not run.recorded and has_only_known_options(run.config) for run in trained)

    def is_known(run: ComparedRun, key: str) -> bool:
        if key == DATA:
            return run.outcome.get(key) is not None
        return key in run.outcome or knows(
            run.config, key, of_complete=key in complete, by_hand=by_hand
        )

    def is_missed(key: str) -> bool:
        return not all(is_known(run, key) for run in trained)

    def differs(key: str) -> bool:
        asked = subjects
        if not key.startswith("ensemble."):
            asked = [run for run in trained if is_known(run, key)]
        return len({json.dumps(run.outcome.get(key)) for run in asked}) > 1

    differing = [key for key in known if differs(key)]
    missed = [key for key in known if is_missed(key)]
    equal = [key for key in known if key not in differing and key not in missed]
    return (known if everything else differing), len(equal), missed


def _list_metrics(
    subjects: Sequence[ComparedRun], order: Sequence[str], *, everything: bool
) -> list[str]:
    """The metrics, in the order of the prefixes `order`; F1 by class only on demand."""
    known = dict.fromkeys(chain.from_iterable(run.metrics for run in subjects))
    compared = [name for name in known if name not in UNCOMPARED_METRICS]
    # val/f1/cat: a second slash is a class.
    names = [name for name in compared if everything or name.count("/") < 2]

    def rank(name: str) -> int:
        places = (index for index, start in enumerate(order) if name.startswith(start))
        return next(places, len(order))

    return sorted(names, key=rank)


def _build_row(group: Sequence[ComparedRun], keys: Sequence[str], names: Sequence[str]) -> Row:
    first = group[0]
    submissions = [run.submission for run in group if run.submission is not None]
    notes = chain.from_iterable(run.notes for run in group)
    return Row(
        runs=[run.name for run in group],
        config={key: first.outcome.get(key) for key in keys},
        metrics={name: spread for name in names if (spread := _spread(group, name))},
        submissions=sorted(submissions),
        note=_join_notes(group),
        notes=sorted(notes, key=lambda note: note.time),
        flattered=any(run.config.get(f"{ENSEMBLE}searched") for run in group),
    )


def _join_notes(group: Sequence[ComparedRun]) -> str:
    """The note that all runs of a row share; otherwise the first one, with its count."""
    notes = [str(run.fields["note"] or "") for run in group]
    first = next((note for note in notes if note), "")
    if not first or notes.count(first) == len(notes):
        return first
    return f"{first} ({notes.count(first)} of {len(notes)} runs)"


def _spread(group: Sequence[ComparedRun], name: str) -> Spread | None:
    """Mean and standard deviation of a metric over the seeds that know it; None if none does."""
    known = [run for run in group if name in run.metrics]
    if not known:
        return None
    # Repeats of one training count once: they say nothing about the noise between seeds.
    values = []
    for repeats in _group_repeats(known):
        values.append(statistics.fmean(run.metrics[name] for run in repeats))
    sd = statistics.stdev(values) if len(values) > 1 else None
    return Spread(mean=statistics.fmean(values), sd=sd, n=len(values), runs=len(known))


def _group_repeats(subjects: Sequence[ComparedRun]) -> list[list[ComparedRun]]:
    """Group runs with equal weights, or of one seed and fold: repeats of one training."""
    groups: list[list[ComparedRun]] = []
    for run in subjects:
        same: list[list[ComparedRun]] = []
        others: list[list[ComparedRun]] = []
        for group in groups:
            is_same = any(_is_repeat(run, other) for other in group)
            (same if is_same else others).append(group)
        # A run may join groups that were apart: equal weights here, an equal seed there.
        groups = [*others, [run, *chain.from_iterable(same)]]
    return groups


def _is_repeat(one: ComparedRun, other: ComparedRun) -> bool:
    if one.weights and one.weights == other.weights:
        return True
    if one.outcome.get("train.seed") is None:
        # No seed is known: runs that agree in every figure are repeats, not a coincidence.
        return one.metrics == other.metrics
    return all(one.outcome.get(key) == other.outcome.get(key) for key in REPEATS)


def _find_best(
    workspace: Workspace,
    groups: Sequence[Sequence[ComparedRun]],
    rows: Sequence[Row],
    names: Sequence[str],
) -> tuple[dict[str, int], list[Incomparable]]:
    """{metric: index of the best row} among comparable rows, and why other rows are left out.

    There is no best row if all are equal, or if no set of comparable rows is the largest.
    """
    best: dict[str, int] = {}
    incomparable: list[Incomparable] = []
    for name in names:
        indexes = [index for index, row in enumerate(rows) if name in row.metrics]
        comparable, others = _find_comparable(groups, indexes, name)
        incomparable += others
        means = {index: rows[index].metrics[name].mean for index in comparable}
        if len(set(means.values())) > 1:
            choose = max if higher_is_better(workspace.competition.metrics, name) else min
            best[name] = choose(means, key=lambda index: means[index])
    return best, incomparable


def _find_comparable(
    groups: Sequence[Sequence[ComparedRun]], indexes: Sequence[int], name: str
) -> tuple[list[int], list[Incomparable]]:
    """The indexes of the largest set of rows that compare by a metric, and why others do not.

    No indexes if two sets are equally large.
    """
    sets: list[list[int]] = []
    for index in indexes:
        own_set = next(
            (
                one_set
                for one_set in sets
                if not _explain_incomparable_rows(groups[one_set[0]], groups[index], name)
            ),
            None,
        )
        if own_set is None:
            sets.append([index])
        else:
            own_set.append(index)
    if len(sets) < 2:
        return list(indexes), []
    sets.sort(key=len, reverse=True)
    first = groups[sets[0][0]]
    others = []
    for one_set in sets[1:]:
        members = chain.from_iterable(groups[index] for index in one_set)
        runs = [run.name for run in members]
        reason = _explain_incomparable_rows(groups[one_set[0]], first, name)
        others.append(Incomparable(metric=name, runs=runs, other=first[0].name, reason=reason))
    return (sets[0] if len(sets[0]) > len(sets[1]) else []), others


def _explain_incomparable_rows(
    one: Sequence[ComparedRun], other: Sequence[ComparedRun], name: str
) -> str:
    """Why a metric of two rows cannot be compared; rows of folds need the same folds.

    Leaderboard scores use the same images for all.
    """
    if name.startswith(LEADERBOARD_PREFIXES):
        return ""
    left = {run.outcome.get("data.fold"): run.basis for run in one}
    right = {run.outcome.get("data.fold"): run.basis for run in other}
    if len(one) + len(other) > 2 and left.keys() != right.keys():
        folds = f"{_join_folds(left)} against {_join_folds(right)}"
        return f"different validation images (folds {folds})"
    fold = next(iter(left))
    return explain_incomparable(left[fold], right.get(fold, other[0].basis), name)


def _join_folds(folds: Iterable[Any]) -> str:
    return ", ".join(sorted(str(fold) for fold in folds))


def _sort(
    workspace: Workspace, groups: list[list[ComparedRun]], name: str
) -> list[list[ComparedRun]]:
    """Sort by a metric, best first, or by a config key or field, ascending; unknown values last.

    Raises ConfigError.
    """
    runs = list(chain.from_iterable(groups))
    if runs:
        check_sort_name(name, chain.from_iterable(run.values() for run in runs))
    is_metric = any(name in run.metrics for run in runs)
    order = sort_key(workspace.competition.metrics, name, is_metric=is_metric)

    def find_value(group: list[ComparedRun]) -> Any:
        if not is_metric:
            return group[0].values().get(name)
        spread = _spread(group, name)
        return spread.mean if spread else None

    return sorted(groups, key=lambda group: order(find_value(group)))


def check_sort_name(name: str, known: Iterable[str], *, what: str = "run") -> None:
    """Raise ConfigError for a name that no run has, with the nearest known name."""
    names = list(dict.fromkeys(known))
    if name not in names:
        near = find_nearest(name, names)
        raise ConfigError(
            f"--sort: no {what} has {name!r}", hint=f"nearest: {near}" if near else ""
        )


def sort_key(
    declared: Sequence[Metric], name: str, *, is_metric: bool
) -> Callable[[Any], tuple[int, float, str]]:
    """The sort key for values of `name`: a metric best first, others ascending, unknown last."""
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
