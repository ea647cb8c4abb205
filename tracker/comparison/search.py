"""Which runs or submissions a list shows, and in which order: --where, --sort and --limit."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

from tracker.comparison.comparable import (
    Basis,
    basis_of_run,
    explain_loss,
    explain_validation,
    is_same_scheme,
)
from tracker.core.errors import TrackerError
from tracker.ledger.read import (
    list_best_submissions,
    list_newest_submissions,
    list_ranks,
    list_submissions,
    list_validation_scores,
)
from tracker.ledger.records import Submission
from tracker.run_folder.read import list_runs, load_config, load_listed, look_once
from tracker.run_folder.record import RunRecord
from tracker.training.errors import ConfigError
from tracker.training.numbers import render_count
from tracker.training.tables import flatten
from tracker.workspace.metrics import SPLITS, higher_is_better, strip_split
from tracker.workspace.tracker_toml import Competition, Workspace

if TYPE_CHECKING:
    from tracker.comparison.compare import Incomparable
    from tracker.comparison.where import Condition
    from tracker.run_folder.index import RunIndex

SCORE_PREFIXES = ("public_", "private_", "val_")


def search_runs(
    workspace: Workspace, *, where: str = "", sort: str = "", limit: int = 0, archived: bool = False
) -> list[RunRecord]:
    """The first `limit` runs that match `where` (0: all), newest first or by `sort`.

    Raises ConfigError for a condition or a name that cannot be read.
    """
    if not where and not sort:
        return list_runs(workspace.runs_dir, limit=limit or None, archived=archived)
    # Only a search needs them: a plain list is the quicker by 10 ms.
    from tracker.comparison.ordering import check_sort_name, sort_key
    from tracker.comparison.where import parse_where

    condition = parse_where(where) if where else None
    with look_once(workspace.runs_dir) as index:
        if index is not None:
            found = _search_index(workspace, index, condition, sort, archived=archived)
            if found is not None:
                chosen = found[: limit or None]
                return [*load_listed(workspace.runs_dir, chosen)]
        records = list_runs(workspace.runs_dir, archived=archived)
        names, matches = _test_all(workspace, records, condition, sort)
    if not records:
        names = list_known_names(workspace.competition)
        if condition is not None:
            condition.check_names(names)
    if sort:
        check_sort_name(sort, names)
        metrics = set(chain.from_iterable(record.summary for record in records))
        is_metric = sort in metrics or sort.startswith(SCORE_PREFIXES)
        order = sort_key(workspace.competition.metrics, sort, is_metric=is_metric)
        matches.sort(key=lambda pair: order(pair[1]))
    return [records[index] for index, _ in matches[: limit or None]]


def _search_index(
    workspace: Workspace,
    index: RunIndex,
    condition: Condition | None,
    sort: str,
    *,
    archived: bool,
) -> list[int] | None:
    """The numbers of the runs that match, in order, by what the index has of very many runs.

    None where something is wrong with a name or a value: who reads every run can say what.
    """
    from tracker.comparison.indexed_values import read_wanted
    from tracker.comparison.ordering import sort_key

    wanted = dict.fromkeys([name for name, _ in condition.names] if condition else ())
    asked = [*dict.fromkeys([*wanted, *filter(None, [sort])])]
    found: list[tuple[int, Any]] = []
    values = read_wanted(workspace, index, asked, archived=archived)
    if values is None or not values.names >= set(asked):
        return None
    try:
        for number, known in values.rows:
            if condition is None or condition.test(known):
                found.append((number, known.get(sort)))
    except ConfigError:
        return None
    if sort:
        is_metric = sort in values.metrics or sort.startswith(SCORE_PREFIXES)
        order = sort_key(workspace.competition.metrics, sort, is_metric=is_metric)
        found.sort(key=lambda pair: order(pair[1]))
    return [number for number, _ in found]


def _test_all(
    workspace: Workspace, records: Sequence[RunRecord], condition: Condition | None, sort: str
) -> tuple[Collection[str], list[tuple[int, Any]]]:
    """The names of all values, and (index, value of `sort`) of the records that match.

    The values of one record at a time: those of very many need more memory than a laptop has.
    """
    from tracker.comparison.compared_run import read_values

    names: dict[str, None] = {}
    found: list[tuple[int, Any]] = []
    problem: ConfigError | None = None
    for index, known in enumerate(read_values(workspace, records)):
        names.update(dict.fromkeys(known))
        try:
            if condition is None or condition.test(known):
                found.append((index, known.get(sort)))
        except ConfigError as error:  # a name that no run has is the first to be told
            problem = problem or error
    if condition is not None and records:
        condition.check_names(names)
    if problem is not None:
        raise problem
    return names, found


def list_known_names(competition: Competition) -> list[str]:
    """What a run or a submission may have, where there is none yet that would tell.

    The names of fields, of config keys, and of the metrics that are declared or computed here.
    """
    from tracker.ledger.columns import list_columns
    from tracker.run_folder.values import FIELDS
    from tracker.training.config import Config, config_to_dict
    from tracker.training.metrics import METRICS

    declared = [metric.name for metric in competition.metrics]
    scores = [f"{split}_{name}" for split in SPLITS for name in declared]
    figures = [
        f"{part}{mark}{name}"
        for part in ("train", "val")
        for mark in ("/", "_")
        for name in ("loss", *declared, *METRICS)
    ]
    fields = [*FIELDS, "submission", *list_columns("submissions")]
    return [*fields, *scores, *figures, *flatten(config_to_dict(Config()))]


def list_incomparable(
    workspace: Workspace, records: Sequence[RunRecord], sort: str
) -> list[Incomparable]:
    """The runs that an order by a validation figure puts beside others with which it does not
    compare: losses of another kind, other schemes. Each is told against the largest set.
    """
    if not sort.startswith("val/"):
        return []
    from tracker.comparison.compare import Incomparable

    sets: list[list[Basis]] = []
    for basis in _list_bases(workspace, records, sort):
        own_set = next((one for one in sets if not _explain_apart(one[0], basis, sort)), None)
        if own_set is None:
            sets.append([basis])
        else:
            own_set.append(basis)
    sets.sort(key=len, reverse=True)
    return [
        Incomparable(
            metric=sort,
            runs=[basis.name for basis in one_set],
            other=sets[0][0].name,
            reason=_explain_apart(one_set[0], sets[0][0], sort),
        )
        for one_set in sets[1:]
    ]


def _list_bases(workspace: Workspace, records: Sequence[RunRecord], sort: str) -> Iterator[Basis]:
    """What the figure of each run that has it is measured on."""
    for record in records:
        if record.summary.get(sort) is not None:
            # A run that cannot be read cannot be compared.
            with suppress(TrackerError):
                config = load_config(workspace.runs_dir, record.name)
                yield basis_of_run(workspace, record, config)


def _explain_apart(a: Basis, b: Basis, sort: str) -> str:
    """Why a figure of two runs has no common order, or "". Folds of one scheme have one."""
    reason = explain_loss(a, b) if strip_split(sort) == "loss" else ""
    return reason or ("" if is_same_scheme(a, b) else explain_validation(a, b))


def search_submissions(
    workspace: Workspace, *, sort: str = "", limit: int = 0
) -> tuple[list[Submission], dict[int, int]]:
    """The newest submissions, or the first by `sort` (`limit` 0: all), and their ranks among all.

    Without `sort`, or by a score, no other submission is read. Raises ConfigError for a name that
    no submission has.
    """
    competition = workspace.competition
    best_is_high = higher_is_better(competition.metrics, sort)
    if not sort:
        rows = list_newest_submissions(workspace, limit)
    elif found := list_best_submissions(workspace, sort, limit, higher_is_better=best_is_high):
        rows = found
    else:
        every = list_submissions(workspace)
        validation = list_validation_scores(workspace, every)
        rows = sort_submissions(competition, every, validation, sort)[: limit or None]
        if sort.startswith("val_"):
            return rows, rank_submissions(competition, every, validation, sort)
    # Ranks are by the score that the list is sorted by, else by the deciding public one.
    name = sort
    if not sort.startswith(SCORE_PREFIXES):
        name = f"public_{competition.primary_metric}"
    best_is_high = higher_is_better(competition.metrics, name)
    return rows, list_ranks(
        workspace, name, [row.number for row in rows], higher_is_better=best_is_high
    )


def explain_no_runs(workspace: Workspace, where: str, *, archived: bool) -> str:
    """Why no run matches: what was searched, and which archived runs match."""
    from tracker.comparison.compare import find_matching_elsewhere
    from tracker.comparison.compared_run import load_values
    from tracker.comparison.where import explain_no_matches, parse_where

    condition = parse_where(where)
    records = list_runs(workspace.runs_dir)
    searched = [record for record in records if archived or record.archived_at is None]
    others = [record for record in records if not archived and record.archived_at is not None]
    scope = render_count(len(searched), "run", "runs, however they ended")
    scope += ", without the archived ones" if others else ""
    matches = find_matching_elsewhere(workspace, condition, others)
    command = "tracker runs --archived includes them"
    return explain_no_matches(
        condition, scope, load_values(workspace, searched), others=matches, command=command
    )


def sort_submissions(
    competition: Competition,
    rows: Sequence[Submission],
    validation: Mapping[int, Mapping[str, float]],
    name: str,
) -> list[Submission]:
    """Sort by a score or validation figure (`public_f1`, `val_f1`), a field or a config key.

    Scores and figures have the best first. Raises ConfigError for a name that no submission has.
    """
    from tracker.comparison.ordering import check_sort_name, sort_key

    values = {row.number: collect_values(row, validation.get(row.number, {})) for row in rows}
    known = chain.from_iterable(values.values()) if rows else list_known_names(competition)
    check_sort_name(name, known, what="submission")
    order = sort_key(competition.metrics, name, is_metric=name.startswith(SCORE_PREFIXES))
    return sorted(rows, key=lambda row: order(values[row.number].get(name)))


def collect_values(row: Submission, figures: Mapping[str, float]) -> dict[str, Any]:
    """Every value by which submissions can be sorted, by its name."""
    fields = {
        "number": row.number,
        "run": row.run,
        "memo": row.memo,
        "author": row.author,
        "sota": row.sota,
    }
    known = {f"val_{name}": value for name, value in figures.items()}
    return {
        **fields,
        "submitted_at": row.submitted_at,
        **flatten_config(row),
        **known,
        **row.scores,
    }


def flatten_config(row: Submission) -> dict[str, Any]:
    """The config of a submission by dotted keys; of a table row, what the table says."""
    return flatten(
        {name: table for name, table in row.config.items() if isinstance(table, Mapping)}
    )


def rank_submissions(
    competition: Competition,
    rows: Sequence[Submission],
    validation: Mapping[int, Mapping[str, float]],
    name: str,
) -> dict[int, int]:
    """{number: rank} by a score or figure; equal values share a rank, unknown ones have none."""
    known: dict[int, float] = {}
    for row in rows:
        value = collect_values(row, validation.get(row.number, {})).get(name)
        if isinstance(value, int | float):
            known[row.number] = value
    sign = -1 if higher_is_better(competition.metrics, name) else 1
    ordered = sorted(sign * value for value in known.values())
    return {number: bisect_left(ordered, sign * value) + 1 for number, value in known.items()}
