"""The members of an ensemble: their weights and how each of them scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

from tracker.core.config_diff import (
    describe_ensemble,
    describe_ensemble_briefly,
    find_shown_parent,
    is_elsewhere,
    is_searched,
    name_elsewhere,
)
from tracker.core.errors import TrackerError
from tracker.ledger.read import find_run, list_newest_scores
from tracker.ledger.records import Submission
from tracker.ledger.team_runs import find_member_uids, find_run_by_uid, read_indexed_config
from tracker.run_folder.look import remember_of
from tracker.run_folder.members import list_member_names, replace_members
from tracker.run_folder.read import load_config, load_run
from tracker.run_folder.record import RunRecord
from tracker.workspace.metrics import choose_metrics, higher_is_better
from tracker.workspace.tracker_toml import Workspace


@dataclass(frozen=True, kw_only=True)
class Member:
    """A run in an ensemble; `weight` is None if all count the same.

    `value` is its validation score by `metric`. The scores are missing if its folder is gone.
    """

    run: str
    weight: float | None
    metric: str
    value: float | None
    validation: Mapping[str, float | None]
    submission: int | None
    public: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        return asdict(self)


def list_members(
    workspace: Workspace, config: Mapping[str, Any], *, with_ledger: bool = True
) -> list[Member]:
    """The members of an ensemble in the order of its config; empty for other runs.

    Without a ledger their submissions are unknown.
    """
    table = config.get("ensemble") or {}
    names = [str(name) for name in table.get("members") or ()]
    weights = list(table.get("weights") or ()) or [None] * len(names)
    records = [_find_record(workspace, name) for name in names]
    here = [record for record in records if record is not None]
    asks = with_ledger and bool(here)  # without a run, the ledger is not opened
    sent = list_newest_scores(workspace, [record.uid for record in here]) if asks else {}
    key = f"public_{workspace.competition.primary_metric}"
    measured = set(chain.from_iterable(_list_validation(record) for record in here))
    figures = choose_metrics(workspace.competition, measured)
    metric = next(iter(figures), workspace.competition.primary_metric)
    members = []
    for name, weight, record in zip(names, weights, records, strict=False):
        row = sent.get(record.uid) if record else None
        validation = _list_validation(record) if record else {}
        members.append(
            Member(
                run=name,
                weight=weight,
                metric=metric,
                value=validation.get(metric),
                validation=validation,
                submission=row.number if row else None,
                public=row.scores.get(key) if row else None,
            )
        )
    return members


def find_best_member(workspace: Workspace, config: Mapping[str, Any]) -> Member | None:
    """The member with the best validation score, the first of several; None if none is here.

    Members of a member that is an ensemble itself count as its members.
    """
    members: dict[str, Member] = {}
    waiting, seen = [config], set()
    while waiting:
        for member in list_members(workspace, waiting.pop(0)):
            record = _find_record(workspace, member.run)
            if record is None or member.run in seen:
                continue
            seen.add(member.run)
            if record.kind == "ensemble":
                with suppress(TrackerError):  # one that cannot be read has no member to offer
                    waiting.append(load_config(workspace.runs_dir, member.run))
            else:
                members[member.run] = member
    scored = [member for member in members.values() if member.value is not None]
    if not scored:
        return next(iter(members.values()), None)
    # Members of one ensemble have one metric; an ensemble within has perhaps another.
    metric = scored[0].metric
    sign = 1.0 if higher_is_better(workspace.competition.metrics, f"val/{metric}") else -1.0
    values = {member.run: sign * (member.value or 0.0) for member in scored}
    comparable = [member for member in scored if member.metric == metric]
    return max(comparable, key=lambda member: values[member.run])


def _list_validation(record: RunRecord) -> dict[str, float | None]:
    return {
        key.removeprefix("val/"): value
        for key, value in record.summary.items()
        if key.startswith("val/")
    }


def _find_record(workspace: Workspace, name: str) -> RunRecord | None:
    try:
        return load_run(workspace.runs_dir, name)
    except TrackerError:
        return None


def load_ensembles(
    workspace: Workspace, records: Sequence[RunRecord]
) -> dict[str, Mapping[str, Any]]:
    """{name: config} of the ensembles among the records; one that cannot be read is left out."""
    configs: dict[str, Mapping[str, Any]] = {}
    for record in records:
        if record.kind == "ensemble":
            # A config that cannot be read is told where the run itself is shown.
            with suppress(TrackerError):
                configs[record.name] = load_config(workspace.runs_dir, record.name)
    return configs


def name_ensembles(
    records: Sequence[RunRecord], ensembles: Mapping[str, Mapping[str, Any]]
) -> list[RunRecord]:
    """The records for display: the note of an ensemble begins with what it is made of, and its
    parent is a member that is part of it."""
    return [_name_ensemble(record, ensembles.get(record.name, {})) for record in records]


def shorten_notes(
    records: Sequence[RunRecord], ensembles: Mapping[str, Mapping[str, Any]]
) -> dict[str, tuple[str, ...]]:
    """{ensemble: its note for a narrow list, shorter and shorter}, without its members' names.

    `records` are as they were read.
    """
    notes: dict[str, tuple[str, ...]] = {}
    for record in records:
        table = ensembles.get(record.name, {}).get("ensemble")
        if table:
            brief = describe_ensemble_briefly(table)
            texts = (brief, brief[brief.index("ensemble") :].removesuffix(" runs"))
            notes[record.name] = tuple(
                f"{text}: {record.note}" if record.note else text for text in texts
            )
    return notes


def list_searched(workspace: Workspace, ensembles: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The names of ensembles whose validation scores are flattered, see `is_flattered`."""
    return {name for name, config in ensembles.items() if is_flattered(workspace, config)}


def list_flattered(workspace: Workspace, rows: Sequence[Submission]) -> Sequence[int]:
    """The submissions whose validation scores are flattered, see `is_flattered`."""
    return remember_of(
        workspace.runs_dir, "flattered", rows, lambda: _list_flattered(workspace, rows)
    )


def _list_flattered(workspace: Workspace, rows: Sequence[Submission]) -> list[int]:
    uids: dict[str, set[str]] = {}
    for row in rows:
        if row.run and row.run_uid:
            uids.setdefault(row.run, set()).add(row.run_uid)
    sent = {}
    for row in rows:
        if row.run and row.run_uid:
            sent[name_elsewhere(row.run, row.run_uid)] = row.config
            if len(uids[row.run]) == 1:  # teammates have an exp3 too
                sent[row.run] = row.config
    flattered = []
    alone: dict[int, bool] = {}  # by the id of a config that names no members
    for row in rows:
        known = alone.get(id(row.config))
        if known is None:
            config = find_row_config(workspace, row)
            known = is_flattered(workspace, config, sent)
            if not list_member_names(config):
                alone[id(row.config)] = known
        if known:
            flattered.append(row.number)
    return flattered


def find_row_config(workspace: Workspace, row: Submission) -> Mapping[str, Any]:
    """The config of a submission; members of an ensemble have the names of runs here.

    The ledger's index knows the uids of members that lay beside the ensemble. A member that it does
    not know is unknown, whatever run has that name here.
    """
    names = list_member_names(row.config)
    if not names:
        return row.config
    run = find_run(workspace, row)
    if run is not None:
        with suppress(TrackerError):
            return load_config(workspace.runs_dir, run)
    uids = find_member_uids(workspace, row.run_uid, names)
    linked = []
    for name in names:
        here = find_run_by_uid(workspace, name, uids.get(name))
        other = name if is_elsewhere(name) else name_elsewhere(name, uids.get(name))
        linked.append(here or other)
    return replace_members(row.config, linked)


def list_indexed_members(
    workspace: Workspace, uid: str | None, config: Mapping[str, Any]
) -> list[tuple[Mapping[str, Any], str | None]]:
    """(config, data fingerprint) of each run that the ensemble `uid` was made from in the end, by
    the ledger's index; empty where it does not know one of them."""
    found: list[tuple[Mapping[str, Any], str | None]] = []
    waiting, seen = [(uid, config)], {uid}
    while waiting:
        own, table = waiting.pop(0)
        names = list_member_names(table)
        uids = find_member_uids(workspace, own, names)
        for name in names:
            member = uids.get(name)
            indexed = read_indexed_config(workspace, member) if member else None
            if indexed is None:
                return []
            if member in seen:
                continue
            seen.add(member)
            if list_member_names(indexed[0]):
                waiting.append((member, indexed[0]))
            else:
                found.append(indexed)
    return found


def list_trained(workspace: Workspace, config: Mapping[str, Any]) -> list[str]:
    """The runs that an ensemble was made from in the end, each once, in the order of its members.

    Members of a member that is an ensemble itself stand for it. A member that is not known here is
    in the list, too.
    """
    found: list[str] = []
    waiting, seen = list_member_names(config), set[str]()
    while waiting:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        inner = list_member_names(_find_config(workspace, name, {}))
        waiting = [*inner, *waiting]
        if not inner:
            found.append(name)
    return found


def is_flattered(
    workspace: Workspace,
    config: Mapping[str, Any],
    sent: Mapping[str, Mapping[str, Any]] | None = None,
) -> bool:
    """Whether weights were searched on the validation images: an ensemble's, or a member's.

    `sent` has the configs of submitted runs by name, for members whose run folder is gone.
    Ensembles of earlier versions do not say what they have from their members.
    """
    waiting, seen = [config], set[str]()
    while waiting:
        current = waiting.pop()
        if is_searched(current):
            return True
        for name in (current.get("ensemble") or {}).get("members") or ():
            if name not in seen:
                seen.add(name)
                waiting.append(_find_config(workspace, str(name), sent or {}))
    return False


def find_data(workspace: Workspace, config: Mapping[str, Any]) -> str | None:
    """The data fingerprint that all members of an ensemble have; None where one is not known."""
    prints: set[str | None] = set()
    waiting = [str(name) for name in (config.get("ensemble") or {}).get("members") or ()]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        record = _find_record(workspace, name)
        if record is not None and record.kind == "ensemble":
            table = _find_config(workspace, name, {}).get("ensemble") or {}
            waiting += map(str, table.get("members") or ())
        else:
            prints.add(record.fingerprints.get("data") if record else None)
    return prints.pop() if len(prints) == 1 else None


def _find_config(
    workspace: Workspace, name: str, sent: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, Any]:
    """The config of a member, empty where it is not known."""
    with suppress(TrackerError):
        return load_config(workspace.runs_dir, name)
    return sent.get(name, {})


def _name_ensemble(record: RunRecord, config: Mapping[str, Any]) -> RunRecord:
    if "ensemble" not in config:
        return record
    description = describe_ensemble(config["ensemble"])
    note = f"{description}: {record.note}" if record.note else description
    return replace(record, note=note, parent=find_shown_parent(record.parent, config))
