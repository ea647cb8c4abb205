"""Format mask_profiles: a folder `<id>_<gender>_<race>_<age>/` with seven photographs per person.

A class is a mask, a gender and an age band together: class = mask * 6 + gender * 3 + age band.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.training.errors import DataError
from tracker.training.formats.format import IMAGE_SUFFIXES, Format, TrainingFolder

if TYPE_CHECKING:
    from tracker.training.formats.samples import Person, Sample

MASKS = ("mask", "incorrect", "normal")
GENDERS = ("male", "female")
AGES = ("young", "middle", "old")
ATTRIBUTES = {"mask": MASKS, "gender": GENDERS, "age": AGES}  # the last changes from class to class
MASK_PROFILE_CLASSES = tuple(
    f"{mask}_{gender}_{age}" for mask in MASKS for gender in GENDERS for age in AGES
)
PROFILE = r"(?P<id>[^_]+)_(?P<gender>male|female)_(?P<race>[^_]+)_(?P<age>\d{1,3})"
PHOTOS = {**{f"mask{n}": 0 for n in range(1, 6)}, "incorrect_mask": 1, "normal": 2}


def mask_profile_label(mask: int, gender: str, age: int, bands: tuple[int, int]) -> int:
    """Class = mask * 6 + gender * 3 + age band, see `find_age_band`."""
    return mask * 6 + GENDERS.index(gender) * 3 + find_age_band(age, bands)


def find_age_band(age: int, bands: tuple[int, int]) -> int:
    """The index in AGES of an age in years: below the first band 0, below the second 1, else 2."""
    if age < bands[0]:
        return 0
    return 1 if age < bands[1] else 2


def _detect(folder: Path | None, table: Path | None) -> bool:
    if folder is None or not folder.is_dir():
        return False
    names = [
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    ]
    fitting = [name for name in names if re.fullmatch(PROFILE, name)]
    return len(fitting) > len(names) / 2


def _suggest_classes(folder: Path, table: Path | None, column: str) -> dict[str, Any]:
    return {"classes": list(MASK_PROFILE_CLASSES)}


def _read(source: TrainingFolder) -> list[Sample]:
    from tracker.training.formats.samples import Person

    classes = len(source.task.classes)
    if classes != len(MASK_PROFILE_CLASSES):
        raise DataError(
            f"format mask_profiles has {len(MASK_PROFILE_CLASSES)} classes, the competition has"
            f" {classes}",
            hint="set competition.classes in tracker.toml, or data.format",
        )
    samples = []
    for folder in source.listing.list_names(source.folder):
        profile = source.folder / folder
        match = re.fullmatch(PROFILE, profile.name) if profile.is_dir() else None
        if match is None:
            source.listing.add_problem(
                profile.name, profile, "expected a folder <id>_<male|female>_<race>_<age>"
            )
            continue
        gender = source.fixes.fix_gender(match["id"], match["gender"], GENDERS)
        person = Person(match["id"], gender, source.fixes.fix_age(match["id"], int(match["age"])))
        samples += _read_person(source, profile, person)
    return samples


def _read_person(source: TrainingFolder, profile: Path, person: Person) -> list[Sample]:
    from tracker.training.formats.samples import Sample

    samples, missing = [], set(PHOTOS)
    for photo in source.listing.list_names(profile):
        path = profile / photo
        name = f"{profile.name}/{path.name}"
        if path.stem not in PHOTOS or path.suffix.lower() not in IMAGE_SUFFIXES:
            source.listing.add_problem(
                name, path, "expected mask1..mask5, incorrect_mask or normal"
            )
            continue
        missing.discard(path.stem)
        mask = PHOTOS[source.fixes.fix_photo(person.id, path.stem, tuple(PHOTOS))]
        label = mask_profile_label(mask, person.gender, person.age, source.age_bands)
        samples.append(Sample(name, str(path), label, profile.name, person))
    for photo in sorted(missing):
        source.listing.add_problem(f"{profile.name}/{photo}", profile, f"{photo} is missing")
    return samples


def _count_attributes(labels: Sequence[int]) -> dict[str, dict[str, int]]:
    counted, step = {}, len(MASK_PROFILE_CLASSES)
    for attribute, names in ATTRIBUTES.items():
        step //= len(names)
        counts = Counter(label // step % len(names) for label in labels)
        counted[attribute] = {name: counts[index] for index, name in enumerate(names)}
    return counted


MASK_PROFILES = Format(
    name="mask_profiles",
    detect=_detect,
    suggest_classes=_suggest_classes,
    read=_read,
    defaults={
        "data.split": "by_profile",
        "data.mean": [0.548, 0.504, 0.479],
        "data.std": [0.237, 0.247, 0.246],
    },
    has_people=True,
    only_keys=("data.age_bands",),
    count_attributes=_count_attributes,
)
