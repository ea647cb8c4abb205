"""Many runs in one table: the config keys in which they differ, and their results.

Plain data; `console` shows it. Runs that differ only in seed or fold are one row, with mean and
standard deviation.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

from tracker.comparison.comparable import DATA, explain_incomparable, explain_scheme, name_folds
from tracker.comparison.compared_run import ComparedRun, load_compared, load_values
from tracker.comparison.diff import UNCOMPARED_METRICS
from tracker.comparison.indexed_values import choose_by_index
from tracker.comparison.ordering import check_sort_name, sort_key
from tracker.comparison.where import Condition, explain_no_matches, parse_where
from tracker.core.config_diff import (
    are_different,
    has_only_known_options,
    knows,
)
from tracker.core.errors import UnknownRunError
from tracker.ledger.read import list_numbers, suggest_first_run
from tracker.ledger.records import Note
from tracker.run_folder.read import list_runs, look_once
from tracker.run_folder.record import OPEN, RunRecord
from tracker.training.config_fingerprint import later_defaults
from tracker.training.errors import ConfigError
from tracker.training.metrics import list_monitors
from tracker.training.numbers import render_count
from tracker.workspace.metrics import are_same, higher_is_better
from tracker.workspace.tracker_toml import Workspace

# More rows than anyone reads; `limit` asks for others.
DEFAULT_LIMIT = 200
MAX_NAMED = 4  # runs in a sentence
UNFINISHED = (*OPEN, "interrupted", "killed", "failed")
REPEATS = ("train.seed", "data.fold")
OWN_COLUMNS = ("name", "submission", "note")  # each table has them anyway
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

    `flattered`: one is an ensemble whose weights were searched on its validation images. `fields`
    has the columns `Comparison.fields` of its first run. `numbers` are the submissions by run.
    `folds` are those of its runs where they are several: on different validation images then.
    """

    runs: Sequence[str]
    config: Mapping[str, Any]
    metrics: Mapping[str, Spread]
    submissions: Sequence[int]
    note: str
    notes: Sequence[Note]
    flattered: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)
    folds: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Incomparable:
    """Why `metric` of `runs`, which compare with each other, compares with no other run.

    `other` is a run of the largest set of rows that compare with each other; of it the reason is.
    With `only_other`, the runs do not compare with that one, but with another of its set.
    """

    metric: str
    runs: Sequence[str]
    other: str
    reason: str
    only_other: bool = False

    def __str__(self) -> str:
        more = len(self.runs) - MAX_NAMED
        named = ", ".join(self.runs[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
        return f"{named} with {self.other}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The table: `keys` and `metrics` name its columns, `best` the best row by each metric.

    `not_known` are keys that a run of another program never logged: not known to differ. `best` is
    the row with the best mean among comparable rows; `incomparable` lists the others.
    `empty_reason` says why there are no rows. `asked` are the names in --where and --sort: their
    columns stay in a narrow terminal. `fields` are those of them that are neither config keys nor
    metrics, and the status if a run did not finish. `within` has {metric: (run, value)} where the
    best run is one of a row of several whose mean is not the best.
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
    empty_reason: str = ""
    asked: Sequence[str] = ()
    fields: Sequence[str] = ()
    within: Mapping[str, tuple[str, float]] = field(default_factory=dict)

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
        for row in plain["rows"]:
            del row["fields"], row["numbers"], row["folds"]
        names = [
            "not_comparable" if name == "incomparable" else name
            for name in plain
            if name not in ("empty_reason", "asked", "fields", "within")
        ]
        return {name: plain.get(name, self.not_comparable) for name in names}


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

    A condition on the status also looks at runs that did not finish; so does any other that no
    finished run meets. Archived runs are compared if they are named one by one, or with `archived`.
    With `each`, every seed and fold has its own row. With `everything`, F1 by class and equal keys
    are columns, too.

    Raises UnknownRunError, StorageError, or ConfigError for a condition that cannot be read.
    """
    # of few runs the folders are read
    with nullcontext() if limit or arguments else look_once(workspace.runs_dir):
        return _compare(
            workspace,
            arguments,
            where=where,
            sort=sort,
            each=each,
            everything=everything,
            limit=limit,
            archived=archived,
        )


def _compare(
    workspace: Workspace,
    arguments: Sequence[str],
    *,
    where: str,
    sort: str,
    each: bool,
    everything: bool,
    limit: int,
    archived: bool,
) -> Comparison:
    condition = parse_where(where) if where else None
    skipped: list[str] = []
    ended = condition is not None and condition.asks_status

    def load(*, unfinished: bool) -> list[ComparedRun]:
        skipped.clear()
        return list(
            load_compared(
                workspace, arguments, limit, skipped, archived=archived, unfinished=unfinished
            )
        )

    considered = chosen = None
    if condition is not None and not limit and not arguments:
        known = choose_by_index(workspace, condition, archived=archived, unfinished=ended)
        chosen, considered = known or (None, None)
    subjects = load(unfinished=ended) if chosen is None else chosen
    if chosen is None:
        chosen = _choose(subjects, condition)
    if condition is not None and not chosen and not ended and not arguments:
        chosen = _choose(every := load(unfinished=True), condition)
        subjects = every if chosen else subjects
    if not subjects:
        raise UnknownRunError("no finished run to compare", hint=_suggest_runs(workspace))
    if condition is not None and considered is None:
        condition.check_names(chain.from_iterable(run.values() for run in subjects))
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
    asked = _list_asked(condition, sort)
    fields = _list_fields(chosen, asked)
    rows = [_build_row(group, keys, names, fields) for group in groups]
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
        considered=len(subjects) if considered is None else considered,
        skipped=skipped,
        empty_reason=reason,
        asked=asked,
        fields=fields,
        within=_find_within(workspace, groups, best, incomparable),
    )


def _choose(subjects: Sequence[ComparedRun], condition: Condition | None) -> list[ComparedRun]:
    """The runs that meet the condition; all without one."""
    if condition is None:
        return list(subjects)
    return [run for run in subjects if condition.test(run.values())]


def _list_asked(condition: Condition | None, sort: str) -> list[str]:
    """The names in --sort and --where, each once."""
    names = [name for name, _ in condition.names] if condition else []
    return list(dict.fromkeys([*filter(None, [sort]), *names]))


def _list_fields(chosen: Sequence[ComparedRun], asked: Sequence[str]) -> list[str]:
    """What is shown of runs beside keys and metrics: what is asked for, and how they ended."""
    others = set(chain.from_iterable([*run.config, *run.metrics] for run in chosen))
    fields = [name for name in asked if name not in others and name not in OWN_COLUMNS]
    if any(run.fields["status"] not in (None, "finished") for run in chosen):
        fields.append("status")
    return list(dict.fromkeys(fields))


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
    first, numbers = f"{suggest_first_run(workspace)} makes one", list_numbers(workspace)
    if len(numbers) > 1:
        return f"{first}; tracker compare s{min(numbers)}..s{max(numbers)}"
    return first


def _group(subjects: Sequence[ComparedRun], repeats: Sequence[str]) -> list[list[ComparedRun]]:
    """Group runs that differ only in `repeats`, in the order of the first of each group.

    A run that broke off is alone: a shorter training is no seed. So is a run of another program
    that names no seed. Without `repeats`, each run is alone.
    """
    if not repeats:
        return [[run] for run in subjects]
    groups: dict[str, list[ComparedRun]] = {}
    families: dict[int, str] = {}  # by the id of what decides: many runs share it
    for run in subjects:
        # A submission whose run folder is not here has no status.
        recorded = run.fields["status"] is not None
        broken_off = recorded and run.fields["status"] != "finished"
        unseeded = recorded and not run.complete and "train.seed" not in run.outcome
        alone = broken_off or (unseeded and "ensemble.method" not in run.outcome)
        if not alone and id(run.outcome) not in families:
            families[id(run.outcome)] = run.family(repeats)
        groups.setdefault(run.name if alone else families[id(run.outcome)], []).append(run)
    return list(groups.values())


def _find_keys(
    subjects: Sequence[ComparedRun], repeats: Sequence[str], *, everything: bool
) -> tuple[list[str], int, list[str]]:
    """The config keys that differ, how many are equal, and which are unknown for some runs.

    An ensemble has no learning rate: that is no difference from runs that have one. A key that
    another program never logged is no difference either (`knows`).
    """
    first: dict[int, ComparedRun] = {}  # of those that share what decides
    for run in subjects:
        first.setdefault(id(run.outcome), run)
    subjects = [*first.values()]
    every_key = dict.fromkeys(chain.from_iterable(run.outcome for run in subjects))
    known = [key for key in every_key if key not in repeats]
    trained = [run for run in subjects if "ensemble.method" not in run.outcome]
    configs = [run.config for run in trained if run.complete]
    complete = set(chain.from_iterable(configs))
    by_hand = all(not run.recorded and has_only_known_options(run.config) for run in trained)

    logged = Counter(chain.from_iterable(run.outcome for run in trained))

    def is_known(run: ComparedRun, key: str) -> bool:
        if key == DATA:
            return run.outcome.get(key) is not None
        return key in run.outcome or knows(
            run.config, key, of_complete=key in complete, by_hand=by_hand
        )

    def list_knowing(key: str) -> list[ComparedRun]:
        if key != DATA and logged[key] == len(trained):
            return trained  # as nearly always: no run has to be asked
        return [run for run in trained if is_known(run, key)]

    def is_missed(key: str) -> bool:
        return len(list_knowing(key)) < len(trained)

    def differs(key: str) -> bool:
        asked = subjects if key.startswith("ensemble.") else list_knowing(key)
        different: dict[Any, Any] = {}
        for run in asked:
            value = run.outcome.get(key)
            one = json.dumps(value) if isinstance(value, list | dict) else value
            different.setdefault((type(value), one), value)
        values = [*different.values()]
        return any(are_different(values[0], value) for value in values)

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


def _build_row(
    group: Sequence[ComparedRun], keys: Sequence[str], names: Sequence[str], fields: Sequence[str]
) -> Row:
    first = group[0]
    known = first.values()
    numbers = {run.name: run.submission for run in group if run.submission is not None}
    folds = sorted({str(fold) for run in group if (fold := _find_fold(run)) is not None})
    notes = chain.from_iterable(run.notes for run in group)
    return Row(
        runs=[run.name for run in group],
        config={key: _find_value(first, key) for key in keys},
        metrics={name: spread for name in names if (spread := _spread(group, name))},
        submissions=sorted(numbers.values()),
        note=_join_notes(group),
        notes=sorted(notes, key=lambda note: note.time),
        flattered=any(run.flattered for run in group),
        fields={name: known.get(name) for name in fields},
        numbers=numbers,
        folds=folds if len(folds) > 1 else [],
    )


def _find_value(run: ComparedRun, key: str) -> Any:
    """The value of a config key; the default where a complete config leaves the key out at it."""
    value = run.outcome.get(key)
    if value is None and run.complete:
        return later_defaults().get(key) or None
    return value


def _join_notes(group: Sequence[ComparedRun]) -> str:
    """The note that all runs of a row share; else the first one, and of how many runs it is."""
    notes = [str(run.fields["note"] or "") for run in group]
    first = next((note for note in notes if note), "")
    if not first or notes.count(first) == len(notes):
        return first
    return f"{first} (on {notes.count(first)} of {len(notes)} runs)"


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
    """Group runs with equal weights, or of one seed and fold: repeats of one training.

    A run may join groups that were apart: equal weights here, an equal seed there.
    """
    parents = list(range(len(subjects)))

    def find_first(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    seen: dict[Any, list[int]] = {}  # by what repeats share, so that not each pair is compared
    for index, run in enumerate(subjects):
        weights, seed, figures = ("weights", run.weights), _seed_key(run), _figures_key(run)
        shared = [weights] if run.weights else []
        # No seed is known: runs that agree in every figure are repeats, not a coincidence.
        shared.append(figures if seed is None else seed)
        for key in shared:
            for other in seen.get(key, ()):
                parents[find_first(other)] = find_first(index)
            seen[key] = [index]
        if seed is not None:
            seen.setdefault(figures, []).append(index)
    groups: dict[int, list[ComparedRun]] = {}
    for index, run in enumerate(subjects):
        groups.setdefault(find_first(index), []).append(run)
    return list(groups.values())


def _seed_key(run: ComparedRun) -> Any:
    """What the repeats of a seed share; None where no seed is known."""
    if run.outcome.get("train.seed") is None:
        return None
    values = [run.outcome.get(key) for key in REPEATS]
    return ("seed", *[json.dumps(value) if isinstance(value, list) else value for value in values])


def _figures_key(run: ComparedRun) -> Any:
    return ("figures", frozenset(run.metrics.items()))


def _find_best(
    workspace: Workspace,
    groups: Sequence[Sequence[ComparedRun]],
    rows: Sequence[Row],
    names: Sequence[str],
) -> tuple[dict[str, int], list[Incomparable]]:
    """{metric: index of the best row} among comparable rows, and why other rows are left out.

    There is no best row if all are equal, or if no set of comparable rows is the largest. A
    validation score that flatters its row is not the best, nor one that does not compare with each
    other of the set.
    """
    best: dict[str, int] = {}
    incomparable: list[Incomparable] = []
    for name in names:
        indexes = [index for index, row in enumerate(rows) if name in row.metrics]
        comparable, others = _find_comparable(groups, indexes, name)
        incomparable += others
        means = {index: rows[index].metrics[name].mean for index in comparable}
        if name.startswith("val/"):
            means = {index: mean for index, mean in means.items() if not rows[index].flattered}
        choose = max if higher_is_better(workspace.competition.metrics, name) else min
        top = choose(means, key=lambda index: means[index], default=-1)
        if not all(are_same(name, mean, means[top]) for mean in means.values()):
            apart = [index for index in means if _are_apart(groups, top, index, name)]
            if not apart:
                best[name] = top
            incomparable += [_explain_apart(groups, index, top, name) for index in apart]
    return best, incomparable


def _find_within(
    workspace: Workspace,
    groups: Sequence[Sequence[ComparedRun]],
    best: Mapping[str, int],
    incomparable: Sequence[Incomparable],
) -> dict[str, tuple[str, float]]:
    """{metric: (run, value)} where the best run is in another row than the best one.

    A run of one fold of several says nothing: folds are not equally hard.
    """
    within = {}
    for name, top in best.items():
        if not name.startswith(("val/", *LEADERBOARD_PREFIXES)):
            continue
        apart = {run for item in incomparable if item.metric == name for run in item.runs}
        is_val = name.startswith("val/")
        known = {
            (run.name, index): run.metrics[name]
            for index, group in enumerate(groups)
            for run in group
            if name in run.metrics and run.name not in apart and not (is_val and run.flattered)
        }
        choose = max if higher_is_better(workspace.competition.metrics, name) else min
        value = choose(known.values())
        run, _ = next(key for key in known if known[key] == value)
        rows = {index for key, index in known if known[key, index] == value}
        several_folds = len({_find_fold(one) for index in rows for one in groups[index]}) > 1
        if top not in rows and not (is_val and several_folds):
            within[name] = (run, value)
    return within


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
    # a row whose images nobody knows may compare with several sets: it belongs in the largest
    for one_set in sets[1:]:
        moving = [
            index
            for index in one_set[1:]
            if not _explain_incomparable_rows(first, groups[index], name)
        ]
        one_set[:] = [index for index in one_set if index not in moving]
        sets[0] += moving
    others = []
    for one_set in sets[1:]:
        members = chain.from_iterable(groups[index] for index in one_set)
        runs = [run.name for run in members]
        reason = _explain_incomparable_rows(groups[one_set[0]], first, name)
        others.append(Incomparable(metric=name, runs=runs, other=first[0].name, reason=reason))
    return (sets[0] if len(sets[0]) > len(sets[1]) else []), others


def _are_apart(groups: Sequence[Sequence[ComparedRun]], one: int, other: int, name: str) -> bool:
    """Whether two rows of a set do not compare: each is only known to compare with its first."""
    return one != other and bool(_explain_incomparable_rows(groups[other], groups[one], name))


def _explain_apart(
    groups: Sequence[Sequence[ComparedRun]], index: int, top: int, name: str
) -> Incomparable:
    reason = _explain_incomparable_rows(groups[index], groups[top], name)
    runs = [run.name for run in groups[index]]
    other = groups[top][0].name
    return Incomparable(metric=name, runs=runs, other=other, reason=reason, only_other=True)


def _explain_incomparable_rows(
    one: Sequence[ComparedRun], other: Sequence[ComparedRun], name: str
) -> str:
    """Why a metric of two rows cannot be compared; rows of folds need the same folds.

    Leaderboard scores use the same images for all.
    """
    if name.startswith(LEADERBOARD_PREFIXES):
        return ""
    left = {_find_fold(run): run.basis for run in one}
    right = {_find_fold(run): run.basis for run in other}
    known = None not in left.keys() | right.keys()
    if len(one) + len(other) > 2 and known and left.keys() != right.keys():
        folds = f"{name_folds(left)} against {name_folds(right)}"
        if _join_folds(left) == _join_folds(right):
            folds = f"{_describe_folds(left)} against {_describe_folds(right)}"
        scheme = explain_scheme(one[0].basis, other[0].basis)  # of one without folds, it has none
        return scheme or f"different validation images ({folds})"
    fold = next(iter(left))
    return explain_incomparable(left[fold], right.get(fold, other[0].basis), name)


def _find_fold(run: ComparedRun) -> Any:
    """The fold of a run; that of its members for an ensemble; None where it is not known."""
    return run.basis.images.get("data.fold", run.outcome.get("data.fold"))


def _join_folds(folds: Iterable[Any]) -> str:
    return ", ".join(sorted(str(fold) for fold in folds))


def _describe_folds(folds: Collection[Any]) -> str:
    """`folds 0 and 1 each by itself`, or `... together` for an ensemble that joins the folds."""
    return f"{name_folds(folds)} {'each by itself' if len(folds) > 1 else 'together'}"


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
