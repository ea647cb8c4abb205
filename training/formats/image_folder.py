"""Format image_folder: one folder for each class, with the name of the class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.training.errors import DataError
from tracker.training.formats.format import (
    IMAGE_SUFFIXES,
    PLAIN_DEFAULTS,
    Format,
    TrainingFolder,
)
from tracker.training.numbers import render_count

if TYPE_CHECKING:
    from tracker.training.formats.samples import Sample


def _suggest_classes(folder: Path, table: Path | None, column: str) -> dict[str, Any]:
    names = sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    if len(names) < 2:
        raise DataError(
            f"{folder} has {render_count(len(names), 'class folder')}, expected two or more",
            reason="unknown format",
        )
    return {"classes": names}


def _read(source: TrainingFolder) -> list[Sample]:
    from tracker.training.formats.samples import Sample

    samples, classes = [], source.task.classes
    for class_dir in source.listing.list_visible(source.folder):
        if class_dir.name not in classes or not class_dir.is_dir():
            source.listing.add_problem(
                class_dir.name, class_dir, f"not a folder named like a class ({', '.join(classes)})"
            )
            continue
        for path in source.listing.list_files(class_dir):
            name = path.relative_to(source.folder).as_posix()
            if path.suffix.lower() in IMAGE_SUFFIXES:
                samples.append(Sample(name, path, classes.index(class_dir.name), name))
            else:
                source.listing.add_problem(
                    name, path, f"not an image ({', '.join(sorted(IMAGE_SUFFIXES))})"
                )
    return samples


IMAGE_FOLDER = Format(
    name="image_folder",
    detect=lambda folder, table: False,  # the fallback when no other format fits
    suggest_classes=_suggest_classes,
    read=_read,
    defaults=PLAIN_DEFAULTS,
)
