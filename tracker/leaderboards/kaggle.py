"""Kaggle, through its official client (`pip install 'kaggle>=2.2'`), imported when it is needed.

A file is recognized on Kaggle by its name, which has its fingerprint: before a file is sent, we
look for it there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tracker.core.errors import RefusedError
from tracker.core.settings import get_seconds
from tracker.leaderboards import Leaderboard, LeaderboardError, Scores, SendResult
from tracker.training.errors import ConfigError, first_line
from tracker.training.libraries import require, translate_import_errors
from tracker.workspace.predictions import Answers
from tracker.workspace.tracker_toml import Workspace

POLL_S = 5.0  # seconds between two looks for a score
PAGE = 100  # the newest submissions, among which a file is looked for


class KaggleLeaderboard(Leaderboard):
    """Sends the file, waits for the public score, and reads the private one after the deadline."""

    def __init__(self, workspace: Workspace) -> None:
        self._slug = workspace.leaderboard_options.get("competition", "")
        self._metric = workspace.competition.primary_metric
        self._api: Any = None

    def score_public(self, answers: Answers) -> Scores:
        """No score is known yet; raises RefusedError when Kaggle's limit of today is reached."""
        with self._client() as api:
            limits = api.competition_get_submission_limits(self._slug)
        if not limits.num_allowed_now:
            raise RefusedError(
                f"Kaggle's daily limit is reached: the team has submitted {limits.num_today}",
                hint="nothing was sent",
            )
        return {}

    def send(self, path: Path, message: str, *, sent: bool) -> SendResult:
        """Send a file unless Kaggle has it, and wait for its score; raises LeaderboardError."""
        with self._client() as api:
            reference = ""
            if not sent and self._find(api, path.name) is None:
                response = api.competition_submit(str(path), message, self._slug, quiet=True)
                if not response.ref:
                    raise LeaderboardError(
                        f"Kaggle did not accept the file: {response.message}", hint=_LATER
                    )
                reference = str(response.ref)
            return self._wait(lambda: self._find(api, path.name), reference)

    def _find(self, api: Any, name: str) -> Any:
        """The submission of a file of this name, None when Kaggle has none."""
        for row in api.competition_submissions(self._slug, page_size=PAGE) or ():
            if row is not None and row.file_name == name:
                return row
        return None

    def _wait(self, look: Callable[[], Any], reference: str) -> SendResult:
        """Poll until the submission is scored or rejected, or the wait is over: sync asks again."""
        deadline = time.monotonic() + get_seconds("TRACKER_LEADERBOARD_WAIT_S")
        while True:
            row = look()
            status = row.status.name if row is not None else "PENDING"
            if status == "ERROR":
                return SendResult(
                    reference=str(row.ref),
                    rejected=row.error_description or "Kaggle gives no reason",
                )
            if status == "COMPLETE":
                return SendResult(reference=str(row.ref), scores=self._read_scores(row))
            if time.monotonic() >= deadline:
                return SendResult(reference=str(row.ref) if row is not None else reference)
            time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))

    def _read_scores(self, row: Any) -> Scores:
        texts = {"public": row.public_score, "private": row.private_score}
        return {(split, self._metric): float(text) for split, text in texts.items() if text}

    @contextmanager
    def _client(self) -> Iterator[Any]:
        with open_client(self._slug, hint=_LATER, api=self._api) as api:
            self._api = api
            yield api


@contextmanager
def open_client(slug: str, *, hint: str, api: Any = None) -> Iterator[Any]:
    """The official client, signed in unless it is given; its errors become LeaderboardError.

    `hint` is what to do where an error itself does not say it.
    """
    require("kaggle")
    with translate_import_errors():
        import requests

        api = api or _sign_in()
    try:
        yield api
    except requests.exceptions.HTTPError as error:
        raise _translate(error, slug, hint) from error
    except (requests.exceptions.RequestException, ValueError) as error:
        raise LeaderboardError(f"Kaggle: {first_line(error)[:300]}", hint=hint) from error


_LATER = "nothing is lost: tracker sync sends what is in the ledger but not on Kaggle"


def _sign_in() -> Any:
    """A client with credentials; raises ConfigError without them.

    The client itself prints a page of text and calls exit() then.
    """
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        from kaggle.api.kaggle_api_extended import KaggleApi

        api = KaggleApi()
        try:
            api.authenticate()
        except SystemExit:
            raise ConfigError(
                "no Kaggle credentials",
                hint="kaggle auth login, or set KAGGLE_USERNAME and KAGGLE_KEY",
            ) from None
    return api


def _translate(error: Any, slug: str, hint: str) -> LeaderboardError:
    code = error.response.status_code if error.response is not None else 0
    reason = first_line(error)[:300]
    hints = {
        401: "the credentials are not valid: kaggle auth login",
        403: f"join the competition and accept its rules on Kaggle first: {slug}",
        404: f"check the competition's name (--kaggle, leaderboard.competition): {slug!r}",
        429: "Kaggle's limit is reached: tracker sync sends it later",
    }
    return LeaderboardError(f"Kaggle returned {code}: {reason}", hint=hints.get(code, hint))
