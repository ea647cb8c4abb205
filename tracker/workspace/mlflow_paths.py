"""Corrects the absolute paths in MLflow's database after a workspace was moved or copied.

`.tracker/location.json` has the location of the workspace when MLflow was last opened, and earlier
locations. A workspace of an earlier version has no such file: there the paths of the experiments
show where it was.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from tracker.core.clock import utc_now
from tracker.core.sqlite_files import open_read_only
from tracker.training.errors import StorageError
from tracker.training.files import atomic_path, write_json
from tracker.training.numbers import render_count
from tracker.workspace.moved_paths import LOCATION_NAME, Location, read_location
from tracker.workspace.tracker_toml import TRACKER_TOML, Workspace

ARTIFACTS = "mlartifacts"

MAX_COPIES = 3  # copies of the database; older ones are deleted

BUSY_S = 30.0  # a wait for a server that writes at this moment

FOLDERS = (("runs", "artifact_uri"), ("logged_models", "artifact_location"))  # of one run or model

COLUMNS = (
    ("experiments", "artifact_location"),
    *FOLDERS,
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("datasets", "dataset_source"),  # a JSON object with a path in it
    ("trace_tags", "value"),  # of the tag mlflow.artifactLocation
    ("workspaces", "default_artifact_root"),
    ("workspaces", "trace_archival_location"),
)


class PathChange(NamedTuple):
    """A changed path in MLflow's database."""

    table: str
    column: str
    row: int
    old: str
    new: str


def find_database(workspace: Workspace) -> Path | None:
    """The file of MLflow's SQLite database; None for a server or another database."""
    match = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+)(?:\?.*)?", workspace.mlflow_uri)
    return Path(match[1]) if match and match[1] != ":memory:" else None


def update_moved_paths(workspace: Workspace) -> str:
    """PathChange paths of earlier locations in MLflow's database to the present one.

    Returns a sentence about the change, or an empty text. Only paths inside the workspace's own
    earlier locations are changed, in one transaction, after a copy of the database. Several
    processes may call it at once. Raises sqlite3.Error and OSError; then nothing has changed.
    """
    database = find_database(workspace)
    known = _load_location(workspace)
    root = str(workspace.root)
    former: list[str] = []
    done = ""
    if database is not None and database.is_file():
        # a database outside of the workspace may belong to other workspaces, too
        own = database.is_relative_to(root)
        former = _find_former_roots(workspace, database, known, own=own)
        done = _move_paths(database, former, root) if former else ""
    if known is None or _has_moved(known, root, former):
        earlier = [*former, *_list_roots(known)]
        others = [other for other in dict.fromkeys(earlier) if other != root]
        _save_location(workspace, Location(root, tuple(others)))
    return done


def _has_moved(known: Location, root: str, former: Sequence[str]) -> bool:
    """Whether the workspace was moved, and is not only another path to the same folder."""
    if known.root == root:
        return False
    return known.root in former or not Path(known.root).exists()


def _list_roots(known: Location | None) -> tuple[str, ...]:
    return (known.root, *known.earlier) if known else ()


def is_own_store(workspace: Workspace, uri: str | None) -> bool:
    """Whether a tracking URI is the workspace's, now or before it was moved."""
    database = find_database(workspace)
    if database is None or not database.is_relative_to(workspace.root):
        return uri == workspace.mlflow_uri
    inside = database.relative_to(workspace.root)
    return uri in {f"sqlite:///{Path(root) / inside}" for root in list_locations(workspace)}


def list_locations(workspace: Workspace) -> list[str]:
    """The present location of the workspace, then the earlier ones."""
    roots = _list_roots(_load_location(workspace))
    return list(dict.fromkeys([str(workspace.root), *roots]))


@contextmanager
def open_readable_store(workspace: Workspace) -> Iterator[Workspace]:
    """In this block the workspace with a copy of its MLflow database, if that is not writable.

    This is for another user's workspace. Raises StorageError when there is no database to copy.
    """
    database = find_database(workspace)
    if database is None or _is_writable(workspace, database):
        yield workspace
        return
    if not database.is_file():
        raise StorageError(
            f"there is no {database.name}, and {workspace.root} is not writable",
            hint="its owner can create it: tracker sync",
        )
    with tempfile.TemporaryDirectory(prefix="tracker-ui-") as folder:
        served = replace(workspace, mlflow_uri=f"sqlite:///{Path(folder) / database.name}")
        try:
            _copy_for_reading(database, Path(folder) / database.name)
            _correct_copy(workspace, served)
        except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
            raise StorageError(f"cannot read {database}: {error}") from error
        yield served


def find_experiment(workspace: Workspace) -> str | None:
    """The id of the competition's experiment in MLflow's SQLite database, or None; read-only."""
    database = find_database(workspace)
    assert database is not None  # noqa: S101  (asked for SQLite only)
    with closing(_open_read_only(database)) as connection:
        row = connection.execute(
            "SELECT experiment_id FROM experiments WHERE name = ?", [workspace.competition.name]
        ).fetchone()
    return None if row is None else str(row[0])


def _is_writable(workspace: Workspace, database: Path) -> bool:
    file = database if database.exists() else database.parent
    locks = workspace.state_dir if workspace.state_dir.exists() else workspace.root
    lock = workspace.state_dir / "mlflow.lock"
    needed = [file, database.parent, locks]
    if lock.exists():
        needed.append(lock)
    return all(os.access(path, os.W_OK) for path in needed)


def _load_location(workspace: Workspace) -> Location | None:
    return read_location(workspace.state_dir / LOCATION_NAME)


def save_first_location(workspace: Workspace) -> None:
    """Record the location of a new workspace, so that `../photos` is found after a move.

    Nothing is written if there was a workspace before: its files show earlier locations, too.
    """
    database = find_database(workspace)
    if _load_location(workspace) is None and not (database and database.exists()):
        _save_location(workspace, Location(str(workspace.root)))


def _save_location(workspace: Workspace, location: Location) -> None:
    try:
        workspace.state_dir.mkdir(parents=True, exist_ok=True)
        write_json(
            workspace.state_dir / LOCATION_NAME,
            {"root": location.root, "earlier": list(location.earlier)},
        )
    except (OSError, StorageError):
        return  # the next time the paths of the experiments show it


def _find_former_roots(
    workspace: Workspace, database: Path, known: Location | None, *, own: bool
) -> list[str]:
    """The earlier locations whose paths must be changed.

    A path that leads to the present folder (a link, a second mount) is not among them.
    """
    with closing(_open_read_only(database)) as connection:
        if not _has_column(connection, "experiments", "artifact_location"):
            return []  # MLflow is creating the database at this moment
        experiments = connection.execute(
            "SELECT experiment_id, artifact_location FROM experiments"
        ).fetchall()
        if known is None:
            roots = list(_guess_roots(connection, experiments, workspace.root))
        else:
            # an older location only if an experiment still has a path in it
            paths = [_local_path(location or "") for _, location in experiments]
            roots = [known.root]
            for root in known.earlier:
                if any(path and _is_inside(path, root) for path in paths):
                    roots.append(root)
    return [root for root in dict.fromkeys(roots) if _is_former(root, workspace, own=own)]


def _is_former(root: str, workspace: Workspace, *, own: bool) -> bool:
    """Whether an earlier location is another folder than the present one.

    If the database is outside of the workspace (not `own`), a location that has a tracker.toml is
    still in use: the present workspace is a copy of it.
    """
    if root in ("/", str(workspace.root)) or _is_same_folder(Path(root), workspace.root):
        return False
    return own or not (Path(root) / TRACKER_TOML).is_file()


def _guess_roots(
    connection: sqlite3.Connection, experiments: Sequence[tuple[int, str | None]], root: Path
) -> Iterator[str]:
    """The folders from which `root` was moved or copied, as the paths of the experiments show."""
    for number, location in experiments:
        path = PurePosixPath(_local_path(location or "") or "/")
        artifacts = path.parent if path.name == str(number) else path
        former = Path(artifacts.parent)
        if artifacts.name != ARTIFACTS or former == root:
            continue
        runs = connection.execute("SELECT run_uuid FROM runs WHERE experiment_id = ?", [number])
        here = any((root / ARTIFACTS / run).is_dir() for (run,) in runs)
        # otherwise the user chose another folder for the files, and it still exists
        if here or not former.exists() or (former / TRACKER_TOML).is_file():
            yield str(former)


def _is_same_folder(a: Path, b: Path) -> bool:
    try:
        return a.samefile(b)
    except OSError:
        return False


def _local_path(text: str) -> str | None:
    """The path in a path or file URI; None for anything else."""
    if text.startswith("/"):
        return text
    if not text.startswith("file:"):
        return None
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    path = unquote(parts.path)
    return path if parts.netloc in ("", "localhost") and path.startswith("/") else None


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _move(text: str, former: Sequence[str], root: str) -> str | None:
    """A path or file URI of an earlier location, changed to `root`; None for any other text."""
    path = _local_path(text)
    if path is None:
        return None
    for root_before in former:
        if _is_inside(path, root) and not _is_inside(root_before, root):
            continue  # the workspace was moved into a folder of its earlier location
        if _is_inside(path, root_before):
            moved = root + path[len(root_before) :]
            return moved if text.startswith("/") else f"file://{quote(moved)}"
    return None


def _move_json(text: str, former: Sequence[str], root: str) -> str | None:
    """A JSON object with its paths changed; None when none of them changes."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    changed = {}
    for key, value in values.items():
        moved = _move(value, former, root) if isinstance(value, str) else None
        if moved is not None:
            changed[key] = moved
    return json.dumps({**values, **changed}) if changed else None


def _open_read_only(database: Path) -> sqlite3.Connection:
    return open_read_only(database, timeout_s=BUSY_S)


def _has_column(connection: sqlite3.Connection, table: str, column: str) -> bool:
    return any(row[1] == column for row in connection.execute(f"PRAGMA table_info({table})"))


def _move_paths(
    database: Path, former: Sequence[str], root: str, *, copy_files: bool = True
) -> str:
    """PathChange the paths in one transaction, after a copy; returns a sentence, or ""."""
    with closing(sqlite3.connect(database, timeout=BUSY_S, isolation_level=None)) as connection:
        # a second process waits here, and then finds nothing to change
        connection.execute("BEGIN IMMEDIATE")
        changes = list(_find_changes(connection, former, root))
        if not changes:
            return ""
        if copy_files:
            copy = _keep_copy(database)
            for change in changes:
                _copy_files_here(change, former)
        for change in changes:
            connection.execute(
                f"UPDATE {change.table} SET {change.column} = ? WHERE rowid = ?",
                [change.new, change.row],
            )
        connection.execute("COMMIT")
    if not copy_files:
        return ""
    paths = render_count(len(changes), "path")
    done = f"{paths} in {database.name} changed to {root}"
    return f"the workspace was in {former[0]}: {done} (copy: {copy})"


def _find_changes(
    connection: sqlite3.Connection, former: Sequence[str], root: str
) -> Iterator[PathChange]:
    for table, column in COLUMNS:
        if not _has_column(connection, table, column):
            continue  # another version of MLflow
        rows = connection.execute(
            f"SELECT rowid, {column} FROM {table} WHERE {column} LIKE '/%' OR {column} LIKE"
            f" 'file:%' OR {column} LIKE '{{%'"
        )
        for row, old in rows:
            move = _move_json if table == "datasets" else _move
            new = move(old, former, root)
            if new is not None and not _stays(table, old, new):
                yield PathChange(table, column, row, old, new)


def _stays(table: str, old: str, new: str) -> bool:
    """Whether the old path still exists and the new one does not: then it is not changed.

    Paths of experiments, runs and models are always changed: MLflow writes new files there.
    """
    before, after = _local_path(old), _local_path(new)
    if table in ("experiments", *dict(FOLDERS)) or before is None or after is None:
        return False
    return Path(before).exists() and not Path(after).exists()


def _copy_files_here(change: PathChange, former: Sequence[str]) -> None:
    """Copy a run's or model's files here, if an earlier version wrote them to the old location."""
    before, after = Path(_local_path(change.old) or ""), Path(_local_path(change.new) or "")
    if (change.table, change.column) not in FOLDERS or after.exists() or not before.is_dir():
        return
    owners = [Path(root_before) for root_before in former if _is_inside(str(before), root_before)]
    if any((owner / TRACKER_TOML).is_file() for owner in owners):
        return  # this workspace is a copy, and the files belong to the other one
    after.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=after.parent, prefix=f".{after.name}.") as folder:
        shutil.copytree(before, Path(folder) / after.name)
        (Path(folder) / after.name).rename(after)


def _keep_copy(database: Path) -> Path:
    """Copy the database to a file next to it; of earlier copies the newest stay."""
    stamp = re.sub(r"\W", "", utc_now())
    copy = database.with_name(f"{database.stem}-before-move-{stamp}.db")
    with atomic_path(copy) as temporary:
        _copy_database(database, temporary)
    for old in sorted(database.parent.glob(f"{database.stem}-before-move-*.db"))[:-MAX_COPIES]:
        old.unlink(missing_ok=True)
    return copy


def _copy_database(database: Path, copy: Path) -> None:
    """Copy the content of one moment, also while others write."""
    with closing(_open_read_only(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def _copy_for_reading(database: Path, copy: Path) -> None:
    """Copy a database that is not writable; with a log (WAL) it cannot be opened, only copied."""
    try:
        _copy_database(database, copy)
    except sqlite3.OperationalError:
        for suffix in ("", "-wal"):
            part = database.with_name(database.name + suffix)
            if part.exists():
                shutil.copyfile(part, copy.with_name(copy.name + suffix))


def _correct_copy(workspace: Workspace, served: Workspace) -> None:
    copy = find_database(served)
    assert copy is not None  # noqa: S101  (the caller named it)
    former = _find_former_roots(workspace, copy, _load_location(workspace), own=True)
    if former:
        _move_paths(copy, former, str(workspace.root), copy_files=False)
