"""Bring a teammate's run from MLflow into this workspace: a read-only copy below .tracker/team.

Whole or not at all: the files come into a folder of their own, are checked, and are renamed to
their place. What the ledger has of the run decides (record, config, fingerprints of predictions and
weights); the other files are checked with record.json, whose hash is a tag of the run in MLflow.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracker.core.errors import LedgerError, RefusedError, TrackerError, UnknownRunError
from tracker.core.locks import FileLock
from tracker.ledger.connection import read_rows
from tracker.ledger.read import find_sota, get_submission
from tracker.ledger.resolve import parse_submission
from tracker.ledger.team_runs import (
    FINGERPRINTS,
    INDEX,
    IndexedRun,
    TeamRuns,
    has_copy,
    is_at_home,
    read_pulled,
)
from tracker.mirror import MANIFEST, WEIGHTS
from tracker.run_folder.read import load_run
from tracker.run_folder.record import TEAM, is_pulled
from tracker.training.errors import DataError, StorageError
from tracker.training.files import translate_os_errors, write_json
from tracker.training.tables import parse_json, read_toml
from tracker.workspace.predictions import load_answers
from tracker.workspace.tracker_toml import Workspace

CONFIG, PREDICTIONS = "config.toml", "predictions.csv"
FILES = (
    CONFIG,
    "decision.json",
    "env.json",
    "metrics.jsonl",
    PREDICTIONS,
    "probabilities.npz",
    "validation.npz",
)
UNFINISHED = ".pull-"  # folders of a pull that has not ended, or was killed
# What run.json and the ledger's row of the run both have.
SHARED = ("uid", "kind", "status", "author", "host", "created_at", "finished_at", "best_epoch")


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """A copy that was brought: its name here, its files, and their size in bytes."""

    name: str
    files: Sequence[str]
    size: int


def bring(
    workspace: Workspace,
    words: Sequence[str],
    *,
    weights: bool = False,
    notify: Callable[[str], None] = lambda _: None,
) -> None:
    """Pull what a command needs of the runs that `words` mean, and say so.

    What is here already is not asked for again. A submission (`s12`, `sota`) is known from the
    ledger, too: where its run cannot be pulled, that is said and the command goes on. Raises
    TrackerError for a run that cannot be pulled.
    """
    for word in words:
        try:
            run = _find_missing(workspace, word, weights=weights)
            if run is None:
                continue
            pulled = pull(workspace, run, weights=weights)
            notify(describe_pulled(workspace, pulled))
            sources = _list_sources(workspace, pulled.name) if weights else []
            bring(workspace, sources, weights=weights, notify=notify)
        except TrackerError as error:
            is_away = isinstance(error, LedgerError)
            if is_away and has_copy(workspace, word):
                notify(f"{word} is the copy here, not compared with the ledger: {error}")
                continue
            if is_pulled(word):
                raise
            notify(f"the run of {word} was not pulled: {error}")


def describe_pulled(workspace: Workspace, pulled: Pulled) -> str:
    """What was pulled, in one line."""
    return (
        f"pulled {pulled.name} from {workspace.shown_mlflow_uri}: {', '.join(pulled.files)}"
        f" ({pulled.size / 1e6:.1f} MB)"
    )


def _list_sources(workspace: Workspace, name: str) -> list[str]:
    """The teammate's run that an inference has its weights from."""
    record = load_run(workspace.runs_dir, name)
    parent = record.parent or ""
    return [parent] if record.kind == "infer" and is_pulled(parent) else []


def _find_missing(workspace: Workspace, word: str, *, weights: bool) -> IndexedRun | None:
    """The run to pull for a word; None where it is here, or no run that the ledger knows."""
    if is_pulled(word):
        run = TeamRuns(workspace).find(word)
        return None if _is_here(workspace, run, weights=weights) else run
    number = parse_submission(word)
    if number is None and word != "sota":
        return None
    try:
        row = find_sota(workspace) if number is None else get_submission(workspace, number)
    except UnknownRunError:
        return None  # the command itself says so
    if row is None or row.run is None or row.run_uid is None:
        return None
    # A file of this workspace's own has no runs of others.
    if is_at_home(workspace, row.run, row.run_uid) or is_alone(workspace):
        return None
    found = TeamRuns(workspace).by_uid.get(row.run_uid)
    return None if found is None or _is_here(workspace, found, weights=weights) else found


def is_alone(workspace: Workspace) -> bool:
    """Whether MLflow is a file of this workspace, which nobody else writes to."""
    from tracker.workspace.mlflow_paths import is_own_store

    local = workspace.mlflow_uri.startswith("sqlite:")
    return local and is_own_store(workspace, workspace.mlflow_uri)


def _is_here(workspace: Workspace, run: IndexedRun, *, weights: bool) -> bool:
    """Whether a run needs no pull: one of this workspace, or a copy of its newest record."""
    if not is_pulled(run.name):
        return True
    name, seq = read_pulled(workspace).get(run.uid, ("", 0))
    if seq != run.seq:
        return False
    wanted = weights and run.fingerprints["weights"]
    return not wanted or (workspace.root / TEAM / name / WEIGHTS).is_file()


def find_to_pull(workspace: Workspace, word: str) -> IndexedRun:
    """The run that `mina/exp12`, `s12` or `sota` means, for `tracker pull`.

    Raises UnknownRunError, and RefusedError for a run of this workspace.
    """
    runs = TeamRuns(workspace)
    number = parse_submission(word)
    if number is not None or word == "sota":
        row = find_sota(workspace) if number is None else get_submission(workspace, number)
        run = runs.by_uid.get(row.run_uid or "") if row else None
        if run is None:
            raise UnknownRunError(
                f"{word} has no run in the ledger", hint="tracker runs --team lists the runs"
            )
    elif is_pulled(word):
        run = runs.find(word)
    else:
        raise UnknownRunError(
            f"{word} is not the name of a teammate's run",
            hint="as in mina/exp12; tracker runs --team lists them",
        )
    if not is_pulled(run.name):
        raise RefusedError(f"{word} is {run.name} of this workspace: there is nothing to pull")
    return run


def pull(workspace: Workspace, run: IndexedRun, *, weights: bool = False) -> Pulled:
    """Download a run's files, check them, and put them below .tracker/team.

    An earlier copy is replaced. Raises MlflowError, RefusedError for a file that is not what the
    run wrote, StorageError for one that is missing or cut off.
    """
    if is_alone(workspace):
        raise UnknownRunError(
            f"{run.name} is on {run.host}: MLflow of this workspace is a file of its own",
            hint="set the team's server: [mlflow] tracking_uri in tracker.toml",
        )
    team = workspace.root / TEAM
    with translate_os_errors(team, "create"):
        team.mkdir(parents=True, exist_ok=True)
    with FileLock(team / ".lock"):
        for left in team.glob(f"{UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = team / f"{UNFINISHED}{os.getpid()}"
        with translate_os_errors(folder, "write"):
            folder.mkdir()
        try:
            kept = _has_weights(workspace, run)
            files = _download(workspace, run, folder, weights=weights or kept)
            size = sum((folder / name).stat().st_size for name in files)
            name = _put_in_place(workspace, run, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return Pulled(name=name, files=files, size=size)


def _has_weights(workspace: Workspace, run: IndexedRun) -> bool:
    """Whether the copy that is replaced has weights: the new one has them, too."""
    name = read_pulled(workspace).get(run.uid, ("", 0))[0]
    return bool(name) and (workspace.root / TEAM / name / WEIGHTS).is_file()


# --- download and check


def _download(workspace: Workspace, run: IndexedRun, folder: Path, *, weights: bool) -> list[str]:
    """Download and check the files of a run, and write its run.json; the names of the files."""
    from tracker.mirror.targets.mlflow_team import RunFiles

    there = RunFiles(workspace, run.uid)
    if not there.is_there or not there.record_hash:
        raise StorageError(
            f"MLflow at {workspace.shown_mlflow_uri} does not have the files of {run.name} yet",
            hint=_how_to_push(run),
        )
    sizes = there.list_sizes()
    if MANIFEST not in sizes:
        raise _missing(run, MANIFEST)
    path = there.download(MANIFEST, folder)
    _check_hash(run, MANIFEST, path, there.record_hash)
    manifest = _read_manifest(run, path)
    path.unlink()
    _check_record(run, manifest["record"])
    wanted = [
        name for name in (*FILES, *([WEIGHTS] if weights else ())) if name in manifest["files"]
    ]
    for name in wanted:
        _check_size(run, name, sizes, manifest["files"][name]["size"])
        path = there.download(name, folder)
        _check_hash(run, name, path, manifest["files"][name]["sha256"])
    _check_against_ledger(workspace, run, folder, weights=weights)
    _write_record(workspace, run, manifest["record"], folder)
    return wanted


def _how_to_push(run: IndexedRun) -> str:
    return f"on {run.host}, in the workspace of {run.author}: tracker push {run.run}"


def _missing(run: IndexedRun, name: str) -> StorageError:
    return StorageError(f"{run.name}: {name} is missing on MLflow", hint=_how_to_push(run))


def _check_size(run: IndexedRun, name: str, sizes: Mapping[str, int | None], expected: int) -> None:
    """Raise StorageError for a file that is missing or cut off, before it is downloaded."""
    if name not in sizes:
        raise _missing(run, name)
    size = sizes[name]
    if size is not None and size < expected:
        raise StorageError(
            f"{run.name}: {name} is cut off on MLflow: {size:,} of {expected:,} bytes",
            hint=_how_to_push(run),
        )


def _check_hash(run: IndexedRun, name: str, path: Path, expected: str) -> None:
    from tracker.mirror.copy import hash_file

    found = hash_file(path)
    if found != expected:
        raise _forged(run, name, f"sha256 {found[:12]}, recorded was {expected[:12]}")


def _forged(run: IndexedRun, name: str, reason: str) -> RefusedError:
    return RefusedError(
        f"{run.name}: {name} on MLflow is not what the run wrote ({reason}); nothing was pulled",
        hint=f"{_how_to_push(run)} sends it again",
    )


def _read_manifest(run: IndexedRun, path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
        for file in manifest["files"].values():
            int(file["size"])
            str(file["sha256"])
        if not isinstance(manifest["record"], dict):
            raise TypeError("record is not a table")
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        OverflowError,
    ) as error:
        raise _forged(run, MANIFEST, str(error)) from error
    return manifest


def _check_record(run: IndexedRun, record: Mapping[str, Any]) -> None:
    """Raise RefusedError unless the record is the one that the ledger has."""
    row = {name: getattr(run, name) for name in SHARED}
    row |= {"name": run.run, "summary": dict(run.summary)}
    prints = record.get("fingerprints") or {}
    found = {name: record.get(name) for name in row}
    from tracker.ledger.chain import canonical_json  # it loads hashlib

    for name in FINGERPRINTS:
        row[f"{name} fingerprint"], found[f"{name} fingerprint"] = (
            run.fingerprints[name],
            prints.get(name),
        )
    wrong = [
        name for name, value in row.items() if canonical_json(found[name]) != canonical_json(value)
    ]
    if wrong:
        raise _forged(run, MANIFEST, f"the ledger has another {', '.join(wrong)}")


def _check_against_ledger(
    workspace: Workspace, run: IndexedRun, folder: Path, *, weights: bool
) -> None:
    """Raise RefusedError where config, predictions or weights are not those of the ledger."""
    from tracker.ledger.chain import canonical_json

    (row,) = read_rows(
        workspace.ledger_url, "SELECT config FROM runs WHERE seq = :seq", {"seq": run.seq}
    )
    if (
        not (folder / CONFIG).is_file()
        or canonical_json(read_toml(folder / CONFIG)) != row["config"]
    ):
        raise _forged(run, CONFIG, "the ledger has another config")
    if expected := run.fingerprints["predictions"]:
        if not (folder / PREDICTIONS).is_file():
            raise _missing(run, PREDICTIONS)
        try:
            found = load_answers(folder / PREDICTIONS, workspace.competition).fingerprint
        except DataError as error:
            raise _forged(run, PREDICTIONS, str(error)) from error
        if found != expected:
            raise _forged(run, PREDICTIONS, "the ledger has another fingerprint")
    if weights and (expected := run.fingerprints["weights"]):
        _check_weights(run, folder / WEIGHTS, expected)


def _check_weights(run: IndexedRun, path: Path, expected: str) -> None:
    from tracker.training.libraries import TRAINING, require

    if not path.is_file():
        raise StorageError(f"{run.name}: {WEIGHTS} is not on MLflow", hint=_how_to_push(run))
    require(*TRAINING)
    from tracker.training.run.infer import load_weights

    try:
        _, found = load_weights(path)
    except TrackerError as error:
        raise _forged(run, WEIGHTS, str(error)) from error
    if found != expected:
        raise _forged(run, WEIGHTS, "the ledger has another fingerprint")


# --- its place here


def _write_record(
    workspace: Workspace, run: IndexedRun, record: Mapping[str, Any], folder: Path
) -> None:
    """Write run.json with the names that the run, its parent and its members have here."""
    import tomli_w

    runs = TeamRuns(workspace)
    own = dict(record)
    own["name"] = _choose_name(workspace, run)
    if own.get("parent"):
        own["parent"] = runs.translate(run, str(own["parent"]))
    write_json(folder / "run.json", own)
    config = read_toml(folder / CONFIG)
    if members := config.get("ensemble", {}).get("members"):
        config["ensemble"]["members"] = [runs.translate(run, str(name)) for name in members]
        (folder / CONFIG).write_text(tomli_w.dumps(config), encoding="utf-8")


def _choose_name(workspace: Workspace, run: IndexedRun) -> str:
    """The name of the copy: that of an earlier copy, or the run's name if it is free."""
    known = read_pulled(workspace)
    if run.uid in known:
        return known[run.uid][0]
    taken = {name for name, _ in known.values()}
    return next(name for name in (run.name, *run.forms) if name not in taken)


def _put_in_place(workspace: Workspace, run: IndexedRun, folder: Path) -> str:
    """Rename the checked folder to its place, and note it in the index; its name."""
    name = _choose_name(workspace, run)
    team = workspace.root / TEAM
    target = team / name
    for path in folder.iterdir():
        path.chmod(0o444)
    with translate_os_errors(target, "write"):
        target.parent.mkdir(exist_ok=True)
        if target.exists():
            target.rename(team / f"{UNFINISHED}{os.getpid()}-old")
        folder.rename(target)
    known = {**read_pulled(workspace), run.uid: (name, run.seq)}
    write_json(team / INDEX, {uid: list(pair) for uid, pair in known.items()})
    shutil.rmtree(team / f"{UNFINISHED}{os.getpid()}-old", ignore_errors=True)
    return name
