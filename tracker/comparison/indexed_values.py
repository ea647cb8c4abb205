"""What a condition asks of very many runs, from their index instead of from each run folder."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tracker.comparison.compared_run import ComparedRun, build_runs, read_values
from tracker.core.errors import TrackerError
from tracker.ledger.read import has_ledger_rows, list_newest_numbers, list_newest_values
from tracker.run_folder.look import find_index
from tracker.run_folder.read import load_compared_config, load_listed, load_run
from tracker.training.errors import ConfigError
from tracker.workspace.tracker_toml import Workspace

if TYPE_CHECKING:
    from tracker.comparison.where import Condition
    from tracker.run_folder.index import IndexedValues, RunIndex

SUBMISSION, STATUS = "submission", "status"
PRECISION = "train.precision"  # a comparison has it as it was found to be
SPLITS = ("public_", "private_", "overall_")  # of the scores in the ledger


@dataclass(frozen=True)
class WantedValues:
    """(number, {name: value}) of the runs, the newest first, and the names that any of them has."""

    rows: Sequence[tuple[int, Mapping[str, Any]]]
    names: Set[str]
    metrics: Set[str]


def read_wanted(
    workspace: Workspace,
    index: RunIndex,
    wanted: Sequence[str],
    *,
    archived: bool,
    unfinished: bool = True,
) -> WantedValues | None:
    """The wanted values of all runs, as `read_values` has them; None where the index is damaged.

    Raises LedgerError, as `read_values` does.
    """
    try:
        known = [
            one
            for one in index.read_values(wanted if unfinished else [*wanted, STATUS])
            if isinstance(one, int)
            or ((archived or not one.archived) and (unfinished or one.low[STATUS] == "finished"))
        ]
        names, metrics = index.list_names(one.form for one in known if not isinstance(one, int))
    except (sqlite3.Error, ValueError, LookupError, TypeError):
        return None
    records = {
        number: record
        for number in known
        if isinstance(number, int)
        for record in load_listed(workspace.runs_dir, [number])
        if (archived or record.archived_at is None) and (unfinished or record.status == "finished")
    }
    read = dict(zip(records, read_values(workspace, [*records.values()]), strict=True))
    for number, record in records.items():
        names.update(read[number])
        metrics.update(record.summary)
    scores = _read_scores(workspace, wanted)
    names.add(SUBMISSION)
    rows: list[tuple[int, Mapping[str, Any]]] = []
    for one in known:
        if not isinstance(one, int):
            rows.append((one.number, _merge(one, scores, names)))
        elif one in read:
            rows.append((one, read[one]))
    return WantedValues(rows, names, metrics)


def choose_by_index(
    workspace: Workspace, condition: Condition, *, archived: bool, unfinished: bool
) -> tuple[list[ComparedRun], int] | None:
    """(the runs that meet a condition, of how many), so that the others are not built.

    None without an index, where no run meets it, or where something is wrong with a name, a value
    or a run: who builds all of them can say what.
    """
    index = find_index(workspace.runs_dir)
    wanted = [*dict.fromkeys(name for name, _ in condition.names)]
    if index is None or PRECISION in wanted or not _are_readable(workspace, index):
        return None
    values = read_wanted(workspace, index, wanted, archived=archived, unfinished=unfinished)
    if values is None or not values.names >= set(wanted):
        return None
    try:
        chosen = [number for number, known in values.rows if condition.test(known)]
    except ConfigError:
        return None
    records = [*load_listed(workspace.runs_dir, chosen)]
    return ([*build_runs(workspace, records)], len(values.rows)) if chosen else None


def _are_readable(workspace: Workspace, index: RunIndex) -> bool:
    """Whether every run has a record and a config: a comparison names the others."""
    try:
        for number in index.list_unknown():
            load_compared_config(workspace.runs_dir, load_run(workspace.runs_dir, f"exp{number}"))
    except TrackerError:
        return False
    return index.has_all_configs()


def _merge(
    one: IndexedValues, scores: Mapping[str, Mapping[str, Any]], names: set[str]
) -> dict[str, Any]:
    """The values of a run by their names, in the order of `read_values`."""
    values = dict(one.low)
    if SUBMISSION in scores:
        values[SUBMISSION] = scores[SUBMISSION].get(one.uid)
    values.update(one.config)
    for name, by_uid in scores.items():
        if name != SUBMISSION and one.uid in by_uid:
            values[name] = by_uid[one.uid]
            names.add(name)
    values.update(one.high)
    return values


def _read_scores(workspace: Workspace, wanted: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """{name: {uid: value}} of the wanted names that the ledger has."""
    found: dict[str, Mapping[str, Any]] = {}
    has_ledger_rows(workspace)  # a missing ledger is told, whatever is asked
    for name in wanted:
        if name == SUBMISSION:
            found[name] = list_newest_numbers(workspace, None)
        elif name.startswith(SPLITS):
            split, _, metric = name.partition("_")
            found[name] = list_newest_values(workspace, split, metric)
    return found
