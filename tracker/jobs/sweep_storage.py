"""The storage of a study: a journal file in the workspace, or PostgreSQL for many machines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.core.errors import TrackerError
from tracker.core.locks import FileLock
from tracker.jobs.claims import CREATE
from tracker.jobs.job import one_line
from tracker.training.errors import ConfigError, first_line
from tracker.training.files import translate_os_errors
from tracker.training.libraries import require

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

CONNECT_S = 10  # a server that is there answers at once; psycopg alone would wait for minutes
SCHEMA_LOCK = 0x0F7A  # any number: PostgreSQL's advisory lock while Optuna creates its tables


def open_storage(url: str, folder: Path) -> BaseStorage:
    """The storage at a PostgreSQL URL, or in `folder`.

    Raises ConfigError, StorageError or TrackerError.
    """
    if url:
        return _open_postgresql(url)
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    # Freed when its holder is killed. After a kill, Optuna's own lock makes others wait for 30 s.
    lock: Any = FileLock(folder / "journal.lock")
    with translate_os_errors(folder, "write"):
        folder.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(folder / "journal.jsonl"), lock_obj=lock))


def _open_postgresql(url: str) -> BaseStorage:
    require("psycopg")
    import psycopg
    from optuna.storages import RDBStorage

    scheme, _, rest = url.partition("://")
    if scheme not in ("postgresql", "postgresql+psycopg") or not rest:
        raise ConfigError(
            "storage: expected postgresql+psycopg://USER:PASSWORD@HOST:5432/NAME",
            hint="leave storage out to use a file in the workspace",
        )
    try:
        with psycopg.connect(
            f"postgresql://{rest}", connect_timeout=CONNECT_S, autocommit=True
        ) as connection:
            # Two processes that create the tables at the same time would break each other.
            connection.execute("SELECT pg_advisory_lock(%s)", [SCHEMA_LOCK])
            connection.execute(CREATE)
            return RDBStorage(f"postgresql+psycopg://{rest}", engine_kwargs={"pool_pre_ping": True})
    except psycopg.Error as error:
        raise TrackerError(
            f"cannot reach the storage of the sweep: {one_line(str(error))}"
        ) from error


@contextmanager
def translate_storage_errors() -> Iterator[None]:
    """Errors of Optuna and of its database become a TrackerError in one line."""
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (OptunaError, SQLAlchemyError) as error:
        hint = "run the same command again: it continues; a run that has started is still running"
        raise TrackerError(f"storage of the sweep: {first_line(error)}", hint=hint) from error
