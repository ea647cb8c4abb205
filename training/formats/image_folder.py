"""Format image_folder: one folder for each class, with the name of the class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.training.errors import DataError
from tracker.training.formats.format import (
    IMAGE_SUFFIXES,
    PLAIN_DEFAULTS,
    PLAIN_INIT_KEYS,
    Format,
    TrainingFolder,
    split_suffix,
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

    samples: list[Sample] = []
    classes = source.task.classes
    for class_name in source.listing.list_names(source.folder):
        class_dir = source.folder / class_name
        if class_name not in classes or not class_dir.is_dir():
            source.listing.add_problem(
                class_name, class_dir, f"not a folder named like a class ({', '.join(classes)})"
            )
            continue
        label, before = classes.index(class_name), f"{class_dir}/"
        for below in source.listing.list_files(class_dir):
            name = f"{class_name}/{below}"
            if split_suffix(below)[1].lower() in IMAGE_SUFFIXES:
                samples.append(Sample(name, before + below, label, name))
            else:
                source.listing.add_problem(
                    name, before + below, f"not an image ({', '.join(sorted(IMAGE_SUFFIXES))})"
                )
    return samples


IMAGE_FOLDER = Format(
    name="image_folder",
    detect=lambda folder, table: False,  # the fallback when no other format fits
    suggest_classes=_suggest_classes,
    read=_read,
    defaults=PLAIN_DEFAULTS,
    init_keys=PLAIN_INIT_KEYS,
)
