"""The formats of training data, one per file; a new one needs a file and a line in FORMATS below.

They do not know the config of a run; whoever needs something of a format asks this registry.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tracker.training.formats.file_names import FILE_NAMES
from tracker.training.formats.format import Format, Listing, TrainingFolder
from tracker.training.formats.image_folder import IMAGE_FOLDER
from tracker.training.formats.labels_table import LABELS_TABLE
from tracker.training.formats.mask_profiles import MASK_PROFILES

__all__ = [
    "FORMATS",
    "Format",
    "Listing",
    "TrainingFolder",
    "by_format",
    "detect_format",
    "list_with_people",
    "list_with_table",
]

FORMATS: dict[str, Format] = {
    known.name: known for known in (MASK_PROFILES, IMAGE_FOLDER, FILE_NAMES, LABELS_TABLE)
}


def detect_format(folder: Path | None, labels: Path | None) -> str:
    """Guess the format of a training folder and a labels table; image_folder when no other fits."""
    newest_first = reversed(FORMATS.values())
    return next(
        (known.name for known in newest_first if known.detect(folder, labels)), IMAGE_FOLDER.name
    )


def by_format(key: str) -> dict[str, Any]:
    """{format: default} of a dotted key of a run's config."""
    return {known.name: known.defaults[key] for known in FORMATS.values() if key in known.defaults}


def list_with_people() -> list[str]:
    """The names of the formats that know the person in a photograph."""
    return [known.name for known in FORMATS.values() if known.has_people]


def list_with_table() -> list[str]:
    """The names of the formats that read a table of labels."""
    return [known.name for known in FORMATS.values() if "data.labels" in known.only_keys]
