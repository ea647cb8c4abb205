"""The images that `tracker init --holdout` held out: their list, and the seal of the files.

Only lists: no image is copied or moved. images.csv has the ids, and the content of each image, so
that no copy of one is trained on. solution.csv has the labels; only the leaderboard reads it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tracker.training.errors import DataError
from tracker.training.files import check_regular, translate_os_errors
from tracker.training.tables import parse_json, read_table
from tracker.workspace.leaderboard_kinds import HOLDOUT

if TYPE_CHECKING:
    from tracker.workspace.tracker_toml import Workspace

KIND = HOLDOUT.name  # of leaderboard
FOLDER, SEAL = KIND, "sealed.json"
IMAGES, SOLUTION = "images.csv", "solution.csv"
COLUMNS = ("id", "sha256")


def is_held_out(workspace: Workspace) -> bool:
    """Whether images are held out here, whatever the leaderboard is set to since."""
    sealed = os.path.lexists(workspace.root / FOLDER / SEAL)
    return sealed or workspace.leaderboard == KIND


def read_held_out(workspace: Workspace) -> dict[str, str]:
    """{id: SHA-256 of the image file} of the held-out images; empty where none are.

    Raises DataError where the list is missing or was changed: training would see these images.
    """
    if not is_held_out(workspace):
        return {}
    path = workspace.root / FOLDER / IMAGES
    check_seal(path)
    return {row[0]: row[1] for row in read_table(path, COLUMNS)}


def check_seal(path: Path) -> None:
    """Raise DataError unless a file has the content that it was sealed with."""
    seal = path.parent / SEAL
    for needed in (seal, path):
        if not os.path.lexists(needed):
            raise DataError(
                f"{needed} is missing: without it held-out images could not be told from others",
                hint=f"restore {FOLDER}/ from a backup or from git; a new workspace holds out anew:"
                " tracker init DIR --holdout 0.15",
            )
    with translate_os_errors(seal, "read"):
        check_regular(seal)
        known = _read_hashes(seal)
    if known.get(path.name) != hash_file(path):
        raise DataError(
            f"{path} was changed after its images were held out",
            hint=f"restore {FOLDER}/ from a backup or from git",
        )


def _read_hashes(seal: Path) -> Mapping[str, str]:
    try:
        known = parse_json(seal.read_text(encoding="utf-8"))["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{seal} is damaged", hint="restore it from a backup") from error
    return known if isinstance(known, dict) else {}


def hash_file(path: Path) -> str:
    """SHA-256 of a file; raises StorageError."""
    import hashlib

    with translate_os_errors(path, "read"):
        check_regular(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()
