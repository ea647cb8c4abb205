"""The rows of `compare` before they are grouped: what is compared of each run or submission."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tracker.comparison.comparable import Basis, basis_of_run
from tracker.comparison.members import is_flattered
from tracker.comparison.subject import load_subject
from tracker.core.config_diff import (
    is_complete,
    shorten_fingerprint,
    translate,
)
from tracker.core.errors import TrackerError, UnknownRunError
from tracker.ledger.read import (
    get_submission,
    has_run,
    list_newest_scores,
    list_notes,
    list_numbers,
)
from tracker.ledger.records import Note, ScoredSubmission
from tracker.ledger.resolve import resolve_run
from tracker.run_folder.look import remember
from tracker.run_folder.read import load_compared_config, load_config, load_run
from tracker.run_folder.record import RunRecord, is_archived, list_run_numbers
from tracker.run_folder.values import (
    FIELDS,
    flatten_both,
    list_facts,
    list_fields,
    list_known_metrics,
)
from tracker.training.config_fingerprint import outcome_values
from tracker.training.errors import StorageError
from tracker.training.numbers import is_whole
from tracker.training.tables import flatten
from tracker.workspace.tracker_toml import Workspace

_RANGE = re.compile(r"(exp|s)([0-9]+)\.\.(?:exp|s)?([0-9]+)")


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """One run, or a submission known only from the ledger, as a row of the table."""

    fields: Mapping[str, Any]
    config: Mapping[str, Any]
    outcome: Mapping[str, Any]
    metrics: Mapping[str, float]
    submission: int | None
    basis: Basis
    complete: bool  # whether this program wrote the config
    weights: str | None = None
    notes: Sequence[Note] = field(default=())
    facts: Mapping[str, Any] = field(default_factory=dict)
    recorded: bool = True
    flattered: bool = False

    @property
    def name(self) -> str:
        """exp12, or s12 for a submission without a run folder."""
        return str(self.fields["name"])

    def values(self) -> dict[str, Any]:
        """Everything that a condition can ask for, by its name."""
        own = {**self.fields, "submission": self.submission}
        return {**self.facts, **own, **self.config, **self.metrics}

    def family(self, repeats: Sequence[str]) -> str:
        """A text that is equal for runs that differ only in `repeats`."""
        decisive = {key: value for key, value in self.outcome.items() if key not in repeats}
        return json.dumps(decisive, sort_keys=True, ensure_ascii=False)


def load_compared(
    workspace: Workspace,
    arguments: Sequence[str],
    limit: int,
    skipped: list[str],
    *,
    archived: bool,
    unfinished: bool,
) -> Iterator[ComparedRun]:
    if arguments:
        named = expand_ranges(workspace, arguments, archived=archived)
        every = expand_ranges(workspace, arguments, archived=True)
        if left_out := [name for name in every if name not in named]:
            skipped.append(f"archived {', '.join(left_out)} (--archived compares them too)")
        return _load_named(workspace, named)
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
        if reference[:1] == "s" and is_whole(reference[1:]):
            row = get_submission(workspace, int(reference[1:]))
            if not has_run(workspace, row):
                records[reference] = _load_historical(workspace, reference)
                continue
        record = load_run(workspace.runs_dir, resolve_run(workspace, reference))
        records[record.name] = record
    named = [record for record in records.values() if isinstance(record, RunRecord)]
    built = {run.name: run for run in build_runs(workspace, named)}
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
        except UnknownRunError:
            continue  # deleted since it was listed
        if (unfinished or record.status == "finished") and (archived or record.archived_at is None):
            records.append(record)
        if limit and len(records) == limit:
            break
    return build_runs(workspace, records, skipped)


def build_runs(
    workspace: Workspace, records: Sequence[RunRecord], skipped: list[str] | None = None
) -> Iterator[ComparedRun]:
    """What is compared of each run.

    Raises the error of an unreadable config, or adds it to `skipped` if that is given.
    """
    submitted = list_newest_scores(workspace, [record.uid for record in records])
    notes = list_notes(workspace, [record.uid for record in records])
    for record in records:
        try:
            config = load_compared_config(workspace.runs_dir, record)
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
    row: ScoredSubmission | None,
    notes: Sequence[Note],
) -> ComparedRun:
    data = record.fingerprints.get("data")
    # many runs share one config; the memory keeps it, so that its id stays its own
    (flat, outcome, flattered, complete), _ = remember(
        workspace.runs_dir,
        ("compared config", id(config)),
        lambda: (_describe_config(workspace, config), config),
    )
    own = {"kind": record.kind, "data": data and shorten_fingerprint(data)}
    # one object for equal runs: what is asked of each different one is then asked once
    outcome, _ = remember(
        workspace.runs_dir, ("outcome", id(flat), *own.values()), lambda: ({**outcome, **own}, flat)
    )
    return ComparedRun(
        fields=list_fields(record),
        config=flat,
        outcome=outcome,
        metrics=_list_metrics(record, row),
        submission=row.number if row else None,
        basis=basis_of_run(workspace, record, config),
        complete=complete,
        weights=record.fingerprints.get("weights"),
        notes=notes,
        facts=list_facts(record),
        flattered=flattered,
    )


def _describe_config(
    workspace: Workspace, config: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], bool, bool]:
    """(the values by dotted key, those that can change a result, whether it flatters, whether this
    program wrote it)."""
    common = translate(config)
    flat = flatten_both(config, common)
    return flat, outcome_values(common), is_flattered(workspace, config), is_complete(flat)


def _list_metrics(record: RunRecord, row: ScoredSubmission | None) -> dict[str, float]:
    return {**(row.scores if row else {}), **list_known_metrics(record)}


def load_values(workspace: Workspace, records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Everything that a condition can ask for, of each run.

    A run whose config cannot be read has only the values of its record.
    """
    return list(read_values(workspace, records))


def read_values(workspace: Workspace, records: Sequence[RunRecord]) -> Iterator[dict[str, Any]]:
    """`load_values` one after the other: those of 100,000 runs take a gigabyte."""
    submitted = list_newest_scores(workspace, [record.uid for record in records])
    for record in records:
        try:
            config = load_config(workspace.runs_dir, record.name)
        except TrackerError:
            config = {}
        row = submitted.get(record.uid)
        own = {**list_fields(record), "submission": row.number if row else None}
        known = {**list_facts(record), **own, **flatten_both(config)}
        yield known | _list_metrics(record, row)


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
    config = {**flatten(side.config), **flatten(translate(side.config))}
    return ComparedRun(
        fields={**fields, "author": row.author, "created_at": row.submitted_at},
        config=config,
        complete=is_complete(config),
        outcome=outcome_values(translate(side.config)),
        metrics={name: value for name, value in side.metrics.items() if value is not None},
        submission=row.number,
        basis=side.basis,
        weights=row.weights_fingerprint,
        notes=row.notes,
        recorded=side.recorded,
        flattered=is_flattered(workspace, side.config),
    )
