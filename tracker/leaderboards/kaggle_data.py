"""Downloading a competition's files from Kaggle, through its official client.

The client goes on where an interrupted download stopped, if the file on Kaggle is still the same.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tracker.leaderboards.kaggle import open_client
from tracker.training.errors import ConfigError
from tracker.training.files import translate_os_errors

AGAIN = "the same command goes on from here"


def download_archive(slug: str, folder: Path) -> Path:
    """Download all files of a competition as one archive into a folder, and return its path.

    Raises LeaderboardError, ConfigError without credentials, and StorageError.
    """
    with translate_os_errors(folder, "create"):
        folder.mkdir(parents=True, exist_ok=True)
    quiet = not sys.stderr.isatty()  # else the client shows a bar
    # errors of connections are OSErrors, too: the inner one takes them
    with translate_os_errors(folder, "write"), open_client(slug, hint=AGAIN) as api:
        api.competition_download_files(slug, path=str(folder), quiet=quiet)
    found = sorted(path for path in folder.glob(f"{slug}.*") if path.suffix == ".zip")
    if not found:
        raise ConfigError(
            f"Kaggle sent no zip file for {slug}",
            hint="download the files there, and give the folder: --data",
        )
    return found[0]
