"""Workspaces that were moved, copied or mounted elsewhere: the absolute paths that MLflow keeps
follow them.

`.tracker/location.json` says where the workspace was when MLflow was last opened, and before. A
workspace of an earlier
version has no such file: there the experiments' paths tell it.
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
from tracker.training.errors import StorageError
from tracker.training.files import atomic_path, write_json
from tracker.training.numbers import render_count
from tracker.workspace.competition import TRACKER_TOML, Workspace
from tracker.workspace.moved_paths import LOCATION_NAME, Location, read_location

ARTIFACTS = "mlartifacts"

KEPT_COPIES = 3  # of the database; older ones are removed

BUSY_S = 30.0  # a server that writes at this moment is waited for

FOLDERS = (
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
)  # files of one run or model

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


class Change(NamedTuple):
    """A value of MLflow's database that follows the workspace."""

    table: str
    column: str
    row: int
    old: str
    new: str


def find_database(workspace: Workspace) -> Path | None:
    """The file of MLflow's SQLite database; None where MLflow is a server or another database."""
    match = re.fullmatch(r"sqlite(?:\+\w+)?:///([^?]+)(?:\?.*)?", workspace.mlflow_uri)
    return Path(match[1]) if match and match[1] != ":memory:" else None


def update_moved_paths(workspace: Workspace) -> str:
    """Point MLflow's database to where the workspace is now; returns what was done in a sentence,
    or nothing.

    Only paths inside the workspace's own earlier places are changed, all in one transaction, after
    a copy of the database. It may be called by several processes at once. Raises sqlite3.Error and
    OSError; then nothing has changed.
    """
    database = find_database(workspace)
    known = _load_location(workspace)
    root = str(workspace.root)
    places: list[str] = []
    done = ""
    if database is not None and database.is_file():
        own = database.is_relative_to(
            root
        )  # what lies outside may be the database of other workspaces, too
        places = _find_former_places(workspace, database, known, own=own)
        done = _move_paths(database, places, root) if places else ""
    if known is None or (
        known.root != root and (known.root in places or not Path(known.root).exists())
    ):
        earlier = [*places, *((known.root, *known.earlier) if known else ())]
        _save_location(
            workspace,
            Location(root, tuple(place for place in dict.fromkeys(earlier) if place != root)),
        )
    return done


def is_own_store(workspace: Workspace, uri: str | None) -> bool:
    """Whether a tracking URI is the workspace's, or was before the workspace moved."""
    database = find_database(workspace)
    if database is None or not database.is_relative_to(workspace.root):
        return uri == workspace.mlflow_uri
    inside = database.relative_to(workspace.root)
    return uri in {f"sqlite:///{Path(place) / inside}" for place in list_locations(workspace)}


def list_locations(workspace: Workspace) -> list[str]:
    """Where the workspace is, and where it was."""
    known = _load_location(workspace)
    return list(
        dict.fromkeys([str(workspace.root), *((known.root, *known.earlier) if known else ())])
    )


@contextmanager
def open_readable_store(workspace: Workspace) -> Iterator[Workspace]:
    """The workspace, its MLflow database a copy for the time of the block where it cannot be
    written (another user's).

    Raises StorageError when there is none to be copied.
    """
    database = find_database(workspace)
    if database is None or _is_writable(workspace, database):
        yield workspace
        return
    if not database.is_file():
        raise StorageError(
            f"no {database.name}, and {workspace.root} cannot be written",
            hint="its owner makes it: tracker sync",
        )
    with tempfile.TemporaryDirectory(prefix="tracker-ui-") as folder:
        served = replace(workspace, mlflow_uri=f"sqlite:///{Path(folder) / database.name}")
        try:
            _copy_for_reading(database, Path(folder) / database.name)
            _correct_copy(workspace, served)
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"cannot read {database}: {error}") from error
        yield served


def find_experiment(workspace: Workspace) -> str | None:
    """The id of the competition's experiment in MLflow's SQLite database, which is only read."""
    database = find_database(workspace)
    assert database is not None  # noqa: S101  (asked for SQLite only)
    with closing(_open_read_only(database)) as connection:
        row = connection.execute(
            "SELECT experiment_id FROM experiments WHERE name = ?", [workspace.competition.name]
        ).fetchone()
    return None if row is None else str(row[0])


def _is_writable(workspace: Workspace, database: Path) -> bool:
    file = database if database.exists() else database.parent
    locks = workspace.lock_dir if workspace.lock_dir.exists() else workspace.root
    lock = workspace.lock_dir / "mlflow.lock"
    needed = [file, database.parent, locks, *([lock] if lock.exists() else [])]
    return all(os.access(path, os.W_OK) for path in needed)


def _load_location(workspace: Workspace) -> Location | None:
    return read_location(workspace.lock_dir / LOCATION_NAME)


def save_first_location(workspace: Workspace) -> None:
    """Keep where a new workspace is, so that what lies beside it is found when it has moved.

    Not where there was one before: what it left says more.
    """
    database = find_database(workspace)
    if _load_location(workspace) is None and not (database and database.exists()):
        _save_location(workspace, Location(str(workspace.root)))


def _save_location(workspace: Workspace, location: Location) -> None:
    try:
        workspace.lock_dir.mkdir(parents=True, exist_ok=True)
        write_json(
            workspace.lock_dir / LOCATION_NAME,
            {"root": location.root, "earlier": list(location.earlier)},
        )
    except (OSError, StorageError):
        return  # the experiments' paths tell it the next time


def _find_former_places(
    workspace: Workspace, database: Path, known: Location | None, *, own: bool
) -> list[str]:
    """The earlier places whose paths must follow. A place that is this very folder (a link, a
    second mount) is none."""
    with closing(_open_read_only(database)) as connection:
        if not _has_column(connection, "experiments", "artifact_location"):
            return []  # a database that is being made
        experiments = connection.execute(
            "SELECT experiment_id, artifact_location FROM experiments"
        ).fetchall()
        if known is None:
            places = list(_guess_places(connection, experiments, workspace.root))
        else:
            paths = [path for _, location in experiments if (path := _local_path(location or ""))]
            held = [
                place for place in known.earlier if any(_is_inside(path, place) for path in paths)
            ]
            places = [known.root, *held]
    return [
        place
        for place in dict.fromkeys(places)
        if place not in ("/", str(workspace.root))
        and not _is_same_folder(Path(place), workspace.root)
        and (own or not (Path(place) / TRACKER_TOML).is_file())
    ]


def _guess_places(
    connection: sqlite3.Connection, experiments: Sequence[tuple[int, str | None]], root: Path
) -> Iterator[str]:
    """The folders of which experiments say that they have `mlartifacts`, and from which `root` was
    moved or copied."""
    for number, location in experiments:
        path = PurePosixPath(_local_path(location or "") or "/")
        artifacts = path.parent if path.name == str(number) else path
        place = Path(artifacts.parent)
        if artifacts.name != ARTIFACTS or place == root:
            continue
        runs = connection.execute("SELECT run_uuid FROM runs WHERE experiment_id = ?", [number])
        here = any((root / ARTIFACTS / run).is_dir() for (run,) in runs)
        if here or not place.exists() or (place / TRACKER_TOML).is_file():
            yield str(
                place
            )  # else somebody chose another folder for the files, which is still there


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


def _move(text: str, places: Sequence[str], root: str) -> str | None:
    """A path or file URI in an earlier place as it is in `root`, in the same form; None when it is
    none."""
    path = _local_path(text)
    if path is None:
        return None
    for place in places:
        if _is_inside(path, root) and not _is_inside(place, root):
            continue  # the workspace was moved into a folder of its earlier place
        if _is_inside(path, place):
            moved = root + path[len(place) :]
            return moved if text.startswith("/") else f"file://{quote(moved)}"
    return None


def _move_json(text: str, places: Sequence[str], root: str) -> str | None:
    """A JSON object with its paths moved; None when nothing in it does."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    moved = {
        key: _move(value, places, root) for key, value in values.items() if isinstance(value, str)
    }
    changed = {key: value for key, value in moved.items() if value is not None}
    return json.dumps({**values, **changed}) if changed else None


def _open_read_only(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True, timeout=BUSY_S)


def _has_column(connection: sqlite3.Connection, table: str, column: str) -> bool:
    return any(row[1] == column for row in connection.execute(f"PRAGMA table_info({table})"))


def _move_paths(
    database: Path, places: Sequence[str], root: str, *, bring_files: bool = True
) -> str:
    """Change the paths in one transaction, after a copy; returns a sentence, or nothing when none
    had to be."""
    with closing(sqlite3.connect(database, timeout=BUSY_S, isolation_level=None)) as connection:
        connection.execute(
            "BEGIN IMMEDIATE"
        )  # a second process waits here, and finds nothing left to do
        changes = list(_find_changes(connection, places, root))
        if not changes:
            return ""
        if bring_files:
            copy = _keep_copy(database)
            for change in changes:
                _bring_files(change, places)
        for change in changes:
            connection.execute(
                f"UPDATE {change.table} SET {change.column} = ? WHERE rowid = ?",
                [change.new, change.row],
            )
        connection.execute("COMMIT")
    if not bring_files:
        return ""
    paths = render_count(len(changes), "path")
    return (
        f"the workspace was in {places[0]}: {paths} in {database.name} changed to {root} (copy:"
        f" {copy})"
    )


def _find_changes(
    connection: sqlite3.Connection, places: Sequence[str], root: str
) -> Iterator[Change]:
    for table, column in COLUMNS:
        if not _has_column(connection, table, column):
            continue  # MLflow's versions differ
        rows = connection.execute(
            f"SELECT rowid, {column} FROM {table} WHERE {column} LIKE '/%' OR {column} LIKE"
            f" 'file:%' OR {column} LIKE '{{%'"
        )
        for row, old in rows:
            move = _move_json if table == "datasets" else _move
            new = move(old, places, root)
            if new is not None and not _stays(table, old, new):
                yield Change(table, column, row, old, new)


def _stays(table: str, old: str, new: str) -> bool:
    """Whether what was named is still there and not here. Experiments' and runs' files have their
    place here anyway."""
    before, after = _local_path(old), _local_path(new)
    if table in ("experiments", *dict(FOLDERS)) or before is None or after is None:
        return False
    return Path(before).exists() and not Path(after).exists()


def _bring_files(change: Change, places: Sequence[str]) -> None:
    """Copy here what an earlier version wrote to a place that is no workspace any more."""
    before, after = Path(_local_path(change.old) or ""), Path(_local_path(change.new) or "")
    if (change.table, change.column) not in FOLDERS or after.exists() or not before.is_dir():
        return
    if any(
        (Path(place) / TRACKER_TOML).is_file() for place in places if _is_inside(str(before), place)
    ):
        return  # this is a copy, and those files are the other's
    after.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=after.parent, prefix=f".{after.name}.") as folder:
        shutil.copytree(before, Path(folder) / after.name)
        (Path(folder) / after.name).rename(after)


def _keep_copy(database: Path) -> Path:
    """A copy of the database beside it; of earlier ones the newest stay."""
    stamp = re.sub(r"\W", "", utc_now())
    copy = database.with_name(f"{database.stem}-before-move-{stamp}.db")
    with atomic_path(copy) as temporary:
        _copy_database(database, temporary)
    for old in sorted(database.parent.glob(f"{database.stem}-before-move-*.db"))[:-KEPT_COPIES]:
        old.unlink(missing_ok=True)
    return copy


def _copy_database(database: Path, copy: Path) -> None:
    """A copy as of one moment, whoever writes meanwhile."""
    with closing(_open_read_only(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def _copy_for_reading(database: Path, copy: Path) -> None:
    """The same where the database cannot be written: with a log (WAL) it can then not be opened,
    only copied."""
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
    if places := _find_former_places(workspace, copy, _load_location(workspace), own=True):
        _move_paths(copy, places, str(workspace.root), bring_files=False)
