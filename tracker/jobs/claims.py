"""Who works on a trial of a sweep on several machines: claims that end when nobody renews them.

A claim is a row beside Optuna's tables in PostgreSQL: the trial, its worker, and the worker's last
sign of life by the server's clock. One statement takes it, so two workers never have the same.
"""

from __future__ import annotations

import os
import subprocess
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from tracker.training.saves import block_saves

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from sqlalchemy.engine import Engine

CLAIMS = "tracker_claims"
CREATE = f"""CREATE TABLE IF NOT EXISTS {CLAIMS} (
    study TEXT NOT NULL, trial INTEGER NOT NULL, worker TEXT NOT NULL,
    heartbeat TIMESTAMPTZ NOT NULL, PRIMARY KEY (study, trial))"""
EXPIRED = "heartbeat < clock_timestamp() - 2 * make_interval(secs => %(interval)s)"
# A taken claim stays as it is until it has expired.
TAKE = f"""INSERT INTO {CLAIMS} AS claim VALUES
    (%(study)s, %(trial)s, %(worker)s, clock_timestamp())
    ON CONFLICT (study, trial) DO UPDATE
    SET worker = EXCLUDED.worker, heartbeat = EXCLUDED.heartbeat"""
TAKE_EXPIRED = f"{TAKE} WHERE claim.{EXPIRED}"
MINE = "study = %(study)s AND trial = %(trial)s AND worker = %(worker)s"
RENEW = f"UPDATE {CLAIMS} SET heartbeat = clock_timestamp() WHERE {MINE}"
GIVE_BACK = f"UPDATE {CLAIMS} SET heartbeat = '-infinity' WHERE {MINE}"
LIST = f"SELECT trial, {EXPIRED} FROM {CLAIMS} WHERE study = %(study)s"


class Claims:
    """The claims of a study, and those of this worker among them.

    A claim without a sign of life for two `interval_s` has expired. Errors of the database are
    raised as SQLAlchemy has them.
    """

    def __init__(self, storage: RDBStorage, study: str, interval_s: float) -> None:
        self.interval_s = interval_s
        self._engine: Engine = storage.engine
        self._study = study
        self._worker = uuid.uuid4().hex

    def take(self, trial: int, *, force: bool = False) -> bool:
        """Whether this worker has the trial now: nobody had it, or the claim has expired.

        With `force` it is taken from whoever has it.
        """
        return self._change(TAKE if force else TAKE_EXPIRED, trial)

    def renew(self, trial: int) -> bool:
        """Give a sign of life; False when another worker has the trial."""
        return self._change(RENEW, trial)

    def give_back(self, trial: int) -> None:
        """Let another worker take the trial at once, or when the claim has expired if the database
        does not answer."""
        from sqlalchemy.exc import SQLAlchemyError

        with suppress(SQLAlchemyError):
            self._change(GIVE_BACK, trial)

    def list_expired(self) -> dict[int, bool]:
        """Every trial that somebody has claimed, and whether that claim has expired."""
        with self._engine.begin() as connection:
            rows = connection.exec_driver_sql(LIST, self._values(0)).all()
        return {int(trial): bool(expired) for trial, expired in rows}

    def _change(self, statement: str, trial: int) -> bool:
        with self._engine.begin() as connection:
            return connection.exec_driver_sql(statement, self._values(trial)).rowcount == 1

    def _values(self, trial: int) -> dict[str, str | int | float]:
        return {
            "study": self._study,
            "trial": trial,
            "worker": self._worker,
            "interval": self.interval_s,
        }


class Heartbeat:
    """Keeps a claim while the block runs; `lost` says that another worker has the trial.

    Then `on_lost` is called, in another thread. While the database does not answer, the claim is
    tried again: whether somebody has taken it is known when it answers.
    """

    def __init__(self, claims: Claims, trial: int, on_lost: Callable[[], None]) -> None:
        self.lost = False
        self._claims = claims
        self._trial = trial
        self._on_lost = on_lost
        self._guard: _Guard | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def end_with_worker(self, pid: int) -> None:
        """End this training when this process is killed: its trial goes to another worker."""
        if self._guard is None or self._guard.pid != pid:
            self._release()
            self._guard = _Guard(pid)

    def check(self) -> bool:
        """Whether the trial is still this worker's, after one more sign of life."""
        self.lost = self.lost or not self._claims.renew(self._trial)
        return not self.lost

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self._release()

    def _release(self) -> None:
        if self._guard:
            self._guard.release()
            self._guard = None

    def _run(self) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        # Twice in an interval: one that comes late does no harm.
        while not self._over.wait(self._claims.interval_s / 2):
            try:
                held = self.check()
            except SQLAlchemyError:
                continue
            if not held:
                self._on_lost()
                return


class _Guard:
    """Ends a training by SIGTERM when this process dies, by whatever signal.

    A shell waits for the end of a pipe that only this process holds.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        with block_saves():
            self._guard = subprocess.Popen(
                ["sh", "-c", f"read -r _ || kill {pid}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd=os.sep,
            )

    def release(self) -> None:
        """The training has ended: let nobody be ended who gets its number."""
        self._guard.kill()
        self._guard.communicate()
