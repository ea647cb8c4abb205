"""Classes without a table: each has a folder, or file names begin with it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from tracker.setup.folder.reading import Reading, find_given_folder
from tracker.training.formats.file_names import find_classes

SETS = re.compile(r"(train|test|val|valid|validation|eval|images?)([_-]?(images?|set|data))?", re.I)


def find_class_folders(reading: Reading, apart: Path | None) -> tuple[str, str, list[str]] | None:
    """A folder with a folder of images for each class: (format, folder, label of each image)."""
    given = find_given_folder(reading, reading.given.train_dir) if reading.given.train_dir else None
    below: dict[str, Counter[str]] = {}
    for folder, count in reading.images.folders.items():
        parent, _, name = folder.rpartition("/")
        if name and not SETS.fullmatch(name) and reading.folder / folder != apart:
            below.setdefault(parent, Counter())[name] += count
    usable = {
        parent: counts
        for parent, counts in below.items()
        if len(counts) > 1 and (given is None or parent == given)
    }
    if not usable:
        return None
    best = max(usable, key=lambda name: ("train" in name.lower(), usable[name].total(), -len(name)))
    reading.why["data.format"] = "each class has a folder of its own"
    return (
        "image_folder",
        best,
        [name for name, count in usable[best].items() for _ in range(count)],
    )


def find_class_names(reading: Reading, apart: Path | None) -> tuple[str, str, list[str]] | None:
    """A folder whose file names begin with their class: (format, folder, label of each image)."""
    given = find_given_folder(reading, reading.given.train_dir) if reading.given.train_dir else None
    stems: dict[str, list[str]] = {}
    for images in reading.images.by_stem.values():
        for image in images:
            if reading.folder / image.folder != apart and given in (None, image.folder):
                stems.setdefault(image.folder, []).append(image.stem)
    found = {folder: find_classes(names) for folder, names in stems.items()}
    usable = {folder: labels for folder, labels in found.items() if labels}
    if not usable:
        return None
    best = max(usable, key=lambda name: ("train" in name.lower(), len(usable[name])))
    reading.why["data.format"] = "file names begin with the class"
    return "file_names", best, usable[best]
