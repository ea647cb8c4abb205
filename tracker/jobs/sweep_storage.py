"""Where a study is kept: a journal file in the workspace, or PostgreSQL for many machines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.core.errors import TrackerError
from tracker.core.locks import FileLock
from tracker.jobs.job import one_line
from tracker.training.errors import ConfigError, first_line
from tracker.training.files import translate_os_errors
from tracker.training.libraries import require

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

CONNECT_S = 10
SCHEMA_LOCK = 0x0F7A  # any number: PostgreSQL's advisory lock while Optuna makes its tables


def open_storage(url: str, folder: Path) -> BaseStorage:
    """The storage at a PostgreSQL URL, or in `folder`; raises ConfigError, StorageError, or
    TrackerError."""
    if url:
        return _open_postgresql(url)
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    lock: Any = FileLock(
        folder / "journal.lock"
    )  # freed when its holder is killed; Optuna's own is waited for 30 s
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
            hint="without it, the study is a file in the workspace",
        )
    try:
        with psycopg.connect(
            f"postgresql://{rest}", connect_timeout=CONNECT_S, autocommit=True
        ) as connection:
            # two processes that make the tables at once break each other
            connection.execute("SELECT pg_advisory_lock(%s)", [SCHEMA_LOCK])
            return RDBStorage(f"postgresql+psycopg://{rest}", engine_kwargs={"pool_pre_ping": True})
    except psycopg.Error as error:
        raise TrackerError(
            f"the sweep's storage cannot be reached: {one_line(str(error))}"
        ) from error


@contextmanager
def translate_storage_errors() -> Iterator[None]:
    """Turn errors of Optuna and of its database into ours, in one line."""
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (OptunaError, SQLAlchemyError) as error:
        hint = "the same command goes on where it was; a run that was begun goes on by itself"
        raise TrackerError(f"the sweep's storage: {first_line(error)}", hint=hint) from error
