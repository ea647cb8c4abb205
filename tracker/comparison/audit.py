"""How the submissions were spent; plain data, shown by `console` and `report`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tracker.comparison.duplicates import find_duplicates
from tracker.core.config_diff import ENSEMBLE, list_changed_keys
from tracker.ledger.read import list_run_paths, list_sota_numbers, list_submissions
from tracker.ledger.records import Note, Submission, was_sent_here
from tracker.run_folder.read import iterate_runs, look_once
from tracker.run_folder.record import RunRecord
from tracker.workspace.mlflow_paths import list_locations
from tracker.workspace.tracker_toml import Competition, Workspace

CHECKPOINT = "best.pth"
GROUPS = ("one_key", "several_keys", "ensembles", "keys_unknown", "no_key", "without_sota")


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What the ledger says about all submissions; the lists hold submission numbers.

    `wasted` are duplicates of an earlier submission. Every submission is in one of the groups from
    `one_key` to `without_sota`, by its change from SOTA at that time. `ensembles` are those where
    one of the two is an ensemble, `keys_unknown` those with keys that only one of the two configs
    has, so that one known key may not be the only one.
    """

    submissions: int
    wasted: Sequence[Mapping[str, Any]]
    sota_chain: Sequence[int]
    one_key: Sequence[Mapping[str, Any]]
    several_keys: Sequence[Mapping[str, Any]]
    ensembles: Sequence[Mapping[str, Any]]
    keys_unknown: Sequence[Mapping[str, Any]]
    no_key: Sequence[int]
    without_sota: Sequence[int]
    by_author: Mapping[str, int]
    by_day: Mapping[str, int]
    unscored: Sequence[int]
    missing: Sequence[Mapping[str, Any]]
    freed: Sequence[Mapping[str, Any]]
    notes: Sequence[tuple[int, Note]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        return asdict(self)


def audit(workspace: Workspace) -> Audit:
    """Look at every submission and at the files of this workspace's runs."""
    with look_once(workspace.runs_dir):
        return _audit(workspace, list_submissions(workspace))


def audit_part(workspace: Workspace, rows: Sequence[Submission]) -> Audit:
    """The same of these submissions alone, without the files of runs."""
    return _audit(workspace, rows, runs=False)


def _audit(workspace: Workspace, rows: Sequence[Submission], *, runs: bool = True) -> Audit:
    """The audit of `rows`; without `runs`, no run's files are looked for."""
    days = Counter(find_day(workspace.competition, row.submitted_at) for row in rows)
    missing, freed = _look_at_files(workspace) if runs else ([], [])
    groups = _group_by_change(rows)
    notes: list[tuple[int, Note]] = []
    for row in rows:
        notes += [(row.number, note) for note in row.notes]
    return Audit(
        submissions=len(rows),
        wasted=find_duplicates(rows),
        sota_chain=list_sota_numbers(workspace),
        one_key=[
            {"number": row.number, "sota": row.sota, "key": keys[0]}
            for row, keys in groups["one_key"]
        ],
        several_keys=[
            {"number": row.number, "sota": row.sota, "keys": keys}
            for row, keys in groups["several_keys"]
        ],
        ensembles=[{"number": row.number, "sota": row.sota} for row, _ in groups["ensembles"]],
        keys_unknown=[
            {"number": row.number, "sota": row.sota, "keys": keys, "not_known": [*row.not_known]}
            for row, keys in groups["keys_unknown"]
        ],
        no_key=[row.number for row, _ in groups["no_key"]],
        without_sota=[row.number for row, _ in groups["without_sota"]],
        by_author=dict(Counter(row.author or "unknown" for row in rows).most_common()),
        by_day=dict(sorted(days.items())),
        unscored=[row.number for row in rows if not row.scores and not row.is_rejected],
        missing=[*_find_unsaved(workspace, rows), *missing],
        freed=freed,
        notes=notes,
    )


def find_day(competition: Competition, time: str | None) -> str:
    """The day of a UTC text, as the quota counts days: in the competition's time zone."""
    return competition.local_time(time, "%Y-%m-%d")[:10] if time else "unknown"


def _group_by_change(
    rows: Sequence[Submission],
) -> dict[str, list[tuple[Submission, list[str]]]]:
    """{group: [(submission, its changed keys)]}; each submission is in one group."""
    groups: dict[str, list[tuple[Submission, list[str]]]] = {name: [] for name in GROUPS}
    for row in rows:
        keys = list_changed_keys(row.config_diff or {})
        groups[_find_group(row, keys)].append((row, keys))
    return groups


def _find_group(row: Submission, keys: Sequence[str]) -> str:
    if row.sota is None:
        return "without_sota"
    if any(key.startswith(ENSEMBLE) for key in keys):
        return "ensembles"
    # "One key" is only said where every key is known; several known keys are several anyway.
    if len(keys) > 1:
        return "several_keys"
    if row.not_known or row.config_diff is None:
        return "keys_unknown"
    return "one_key" if keys else "no_key"


def _find_unsaved(workspace: Workspace, rows: Sequence[Submission]) -> Iterator[dict[str, Any]]:
    """The files of submissions that no longer exist where they were sent."""
    for row in rows:
        was_saved_here = (
            row.file and row.predictions_fingerprint and row.run_uid and was_sent_here(row)
        )
        if was_saved_here and not (workspace.root / str(row.file)).is_file():
            yield {"what": f"submission {row.number}", "file": row.file}


def _look_at_files(workspace: Workspace) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(files that the ledger or a run record names and that no longer exist, checkpoints that
    tracker clean removed, and when)."""
    missing, freed = list[dict[str, Any]](), list[dict[str, Any]]()
    for name in sorted(_list_own_runs(workspace)):
        if not os.path.exists(f"{workspace.runs_dir}/{name}"):  # noqa: PTH110 of very many runs
            missing.append({"what": name, "file": workspace.relative(workspace.runs_dir / name)})
    for record in iterate_runs(workspace.runs_dir):
        folder = f"{workspace.runs_dir}/{record.name}"
        gone = ["run.json"] if record.status == "broken" else []
        if record.status == "finished":
            gone = [
                name
                for name in _list_files(record)
                if name not in record.freed and not os.path.isfile(f"{folder}/{name}")  # noqa: PTH113
            ]
        for name in gone:
            file = str(workspace.relative(Path(folder) / name))
            missing.append({"what": record.name, "file": file})
        path = Path(folder) / CHECKPOINT if CHECKPOINT in record.freed else None
        if path and not path.is_file():
            file = str(workspace.relative(path))
            freed.append({"what": record.name, "file": file, "freed_at": record.freed[CHECKPOINT]})
    return missing, freed


def _list_own_runs(workspace: Workspace) -> set[str]:
    """The names of the runs that the ledger has of this workspace, which may have moved since."""
    folders = {str(Path(place) / "runs") for place in list_locations(workspace)}
    known: dict[str, bool] = {}  # by the folder of a run, which very many share
    names = set[str]()
    for name, path in list_run_paths(workspace):
        parent = path.removesuffix(f"/{name}")
        if parent not in known:
            known[parent] = str(Path(path).parent) in folders
        if known[parent]:
            names.add(name)
    return names


def _list_files(record: RunRecord) -> list[str]:
    """The files that a finished run had.

    A training loop of the user's own may have saved no weights and no predictions.
    """
    trained = record.kind == "train" and record.fingerprints.get("weights")
    weights = [CHECKPOINT] if trained else []
    predictions = ["predictions.csv"] if record.fingerprints.get("predictions") else []
    return ["config.toml", "metrics.jsonl", *weights, *predictions]
