"""Fetching a competition's files from Kaggle into a folder of their own."""

from __future__ import annotations

import json
from pathlib import Path

from tracker.setup.unpack import unpack_all
from tracker.training.errors import ConfigError
from tracker.training.files import translate_os_errors, write_text
from tracker.training.tables import parse_json

HIDDEN = ".download"  # the archive while it comes, and the note that all of it is unpacked
DONE = "done.json"


def fetch_competition(slug: str, folder: Path) -> bool:
    """Download and unpack a competition, unless that was done; whether anything was fetched.

    An interrupted call goes on where it stopped. The archive is deleted in the end. Raises
    ConfigError for a folder with other files, LeaderboardError, DataError and StorageError.
    """
    from tracker.leaderboards.kaggle_data import download_archive

    place = folder / HIDDEN
    done = place / DONE
    if _read_done(done) == slug:
        return False
    if folder.exists() and not place.is_dir() and any(folder.iterdir()):
        raise ConfigError(
            f"{folder} has files already",
            hint="without --download they are read; or another --data",
        )
    archive = download_archive(slug, place)
    with translate_os_errors(folder, "write"):
        write_text(folder / ".gitignore", "*\n")  # data are no code
    unpack_all(archive, folder)
    write_text(done, json.dumps({"competition": slug}))
    with translate_os_errors(archive, "delete"):
        archive.unlink()
    return True


def _read_done(path: Path) -> str:
    """The competition that a finished download had; empty where none was finished."""
    try:
        return str(parse_json(path.read_text(encoding="utf-8"))["competition"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
