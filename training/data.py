"""Which images there are, what they show, and how they are split; everything is checked before training.

`load_data` is the whole interface: it returns plain data, or raises one DataError that lists every offender.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tracker.training.config import DataConfig
from tracker.training.errors import DataError
from tracker.training.images import IMAGE_SUFFIXES, check_images
from tracker.training.label_fixes import LabelFixes
from tracker.training.samples import EvalImage, LoadedData, Person, Sample, Task
from tracker.training.split import split_samples
from tracker.training.tables import LINE, read_table

MASKS = ("mask", "incorrect", "normal")
GENDERS = ("male", "female")
AGES = ("young", "middle", "old")
MASK_PROFILE_CLASSES = tuple(f"{mask}_{gender}_{age}" for mask in MASKS for gender in GENDERS for age in AGES)
PROFILE = re.compile(r"(?P<id>[^_]+)_(?P<gender>male|female)_(?P<race>[^_]+)_(?P<age>\d{1,3})")
PHOTOS = {**{f"mask{n}": 0 for n in range(1, 6)}, "incorrect_mask": 1, "normal": 2}


def load_data(config: DataConfig, task: Task, *, root: Path, cache: Path | None = None) -> LoadedData:
    """List, check and split the images; `cache` keeps the checks of unchanged files between runs.

    Raises DataError with every corrupt or missing image, folder that does not parse, class without images and
    id that is both in training and evaluation.
    """
    problems: list[str] = []
    if not config.train_dir:
        raise DataError("no training data: data.train_dir is empty", hint="--set data.train_dir=FOLDER")
    train_dir = root / Path(config.train_dir).expanduser()
    if not train_dir.is_dir():
        raise DataError(f"no such folder: {train_dir} (data.train_dir)")
    samples = _read_samples(train_dir, config, task, root, problems)
    images = _read_eval(config, task, root, problems)
    problems += _list_overlaps(samples, images)
    paths = [*(sample.path for sample in samples), *(image.path for image in images)]
    checked = check_images(paths, cache=cache)
    problems += [f"{path}: {check.problem}" for path, check in checked.items() if check.problem]
    counts = Counter(sample.label for sample in samples)
    problems += [f"class {name!r}: no training image" for label, name in enumerate(task.classes) if not counts[label]]
    train, val = split_samples(samples, config) if samples else ((), ())
    if not problems:
        problems += _list_split_problems(train, val, task)
    if problems:
        raise DataError(
            f"{len(problems)} problem(s) in the data:",
            problems=problems,
            hint="mend or remove these files, then run the same command again",
        )
    hashes = {path: check.sha256 for path, check in checked.items()}
    return LoadedData(train, val, images, _fingerprint(samples, images, hashes), hashes)


def mask_profile_label(mask: int, gender: str, age: int, bands: tuple[int, int]) -> int:
    """Class = mask * 6 + gender * 3 + age band; below the first band 0, below the second 1, else 2."""
    band = 0 if age < bands[0] else 1 if age < bands[1] else 2
    return mask * 6 + GENDERS.index(gender) * 3 + band


def _read_samples(folder: Path, config: DataConfig, task: Task, root: Path, problems: list[str]) -> list[Sample]:
    """The training images with their labels as corrected by data.label_fixes."""
    table = root / Path(config.label_fixes).expanduser() if config.label_fixes else None
    fixes = LabelFixes.read(table, problems)
    if config.format == "mask_profiles":
        samples = _read_profiles(folder, config, task, fixes, problems)
    elif config.format == "csv":
        samples = _read_csv(folder, config, task, root, problems)
    else:
        samples = _read_folders(folder, task, problems)
    fixed = [replace(s, label=fixes.fix_label(s.id, s.label, task.classes)) for s in samples]
    problems += fixes.list_unused()
    return fixed


def _read_profiles(
    folder: Path, config: DataConfig, task: Task, fixes: LabelFixes, problems: list[str]
) -> list[Sample]:
    """`<id>_<gender>_<race>_<age>/` folders of seven photographs each."""
    if len(task.classes) != len(MASK_PROFILE_CLASSES):
        raise DataError(
            f"format mask_profiles has {len(MASK_PROFILE_CLASSES)} classes, the competition has {len(task.classes)}",
            hint="set competition.classes in tracker.toml, or data.format",
        )
    samples = []
    for profile in _visible(folder):
        match = PROFILE.fullmatch(profile.name) if profile.is_dir() else None
        if match is None:
            problems.append(f"{profile}: expected a folder <id>_<male|female>_<race>_<age>")
            continue
        gender = fixes.fix_gender(match["id"], match["gender"], GENDERS)
        person = Person(match["id"], gender, fixes.fix_age(match["id"], int(match["age"])))
        missing = set(PHOTOS)
        for path in _visible(profile):
            if path.stem not in PHOTOS or path.suffix.lower() not in IMAGE_SUFFIXES:
                problems.append(f"{path}: expected mask1..mask5, incorrect_mask or normal")
                continue
            missing.discard(path.stem)
            mask = PHOTOS[fixes.fix_photo(person.id, path.stem, tuple(PHOTOS))]
            label = mask_profile_label(mask, person.gender, person.age, config.age_bands)
            samples.append(Sample(f"{profile.name}/{path.name}", path, label, profile.name, person))
        problems += [f"{profile}: {name} is missing" for name in sorted(missing)]
    return samples


def _read_folders(folder: Path, task: Task, problems: list[str]) -> list[Sample]:
    """One folder a class, named like the class."""
    samples = []
    for class_dir in _visible(folder):
        if class_dir.name not in task.classes or not class_dir.is_dir():
            problems.append(f"{class_dir}: not a folder named like a class ({', '.join(task.classes)})")
            continue
        for path in sorted(class_dir.rglob("*")):
            if path.is_dir() or any(part.startswith(".") for part in path.relative_to(folder).parts):
                continue
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                problems.append(f"{path}: not an image ({', '.join(sorted(IMAGE_SUFFIXES))})")
                continue
            name = path.relative_to(folder).as_posix()
            samples.append(Sample(name, path, task.classes.index(class_dir.name), name))
    return samples


def _read_csv(folder: Path, config: DataConfig, task: Task, root: Path, problems: list[str]) -> list[Sample]:
    """A CSV with an id and a label column; the label is an answer word or a class name."""
    table = root / Path(config.labels).expanduser() if config.labels else folder / "labels.csv"
    words = {word: label for words in (task.classes, task.answer_words) for label, word in enumerate(words)}
    images = folder / "images" if (folder / "images").is_dir() else folder
    samples, seen = [], set()
    for line, name, word in read_table(table, (LINE, task.id_column, task.label_column)):
        if word not in words:
            problems.append(f"{table}:{line}: unknown label {word!r}")
        elif name in seen:
            problems.append(f"{table}:{line}: {name} is listed twice")
        else:
            samples.append(Sample(name, images / name, words[word], name))
        seen.add(name)
    return samples


def _read_eval(config: DataConfig, task: Task, root: Path, problems: list[str]) -> tuple[EvalImage, ...]:
    """The images of info.csv in its order, or every image in the folder when there is no info.csv."""
    if not config.eval_dir:
        return ()
    folder = root / Path(config.eval_dir).expanduser()
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder} (data.eval_dir)")
    images = folder / "images" if (folder / "images").is_dir() else folder
    table = folder / "info.csv"
    if os.path.lexists(table):  # what is no file is told
        names = [name for (name,) in read_table(table, (task.id_column,))]
        twice = [name for name, count in Counter(names).items() if count > 1]
        problems += [f"{table}: {name} is listed twice" for name in twice]
    else:
        names = [path.name for path in _visible(images) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not names:
        problems.append(f"{folder}: no image to predict")
    return tuple(EvalImage(name, images / name) for name in names)


def list_eval_ids(config: DataConfig, task: Task, *, root: Path) -> list[str]:
    """The ids to predict, without reading an image; raises DataError."""
    problems: list[str] = []
    images = _read_eval(config, task, root, problems)
    if problems:
        raise DataError(f"{len(problems)} problem(s) in the evaluation set:", problems=problems)
    return [image.id for image in images]


def _visible(folder: Path) -> list[Path]:
    """What is in a folder, in name order; names beginning with a dot are ignored."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _list_overlaps(samples: Sequence[Sample], images: Sequence[EvalImage]) -> list[str]:
    train_ids = {sample.id for sample in samples}
    train_paths = {sample.path.resolve() for sample in samples}
    if len({sample.path.name for sample in samples}) == len(samples):  # mask1.jpg in every profile is no id
        train_ids |= {sample.path.name for sample in samples}
    return [
        f"{image.id}: is both a training and an evaluation image"
        for image in images
        if image.id in train_ids or image.path.resolve() in train_paths
    ]


def _list_split_problems(train: Sequence[Sample], val: Sequence[Sample], task: Task) -> list[str]:
    counts = Counter(sample.label for sample in train)
    problems = [
        f"class {name!r}: every image fell into validation, lower data.val_ratio or use split stratified"
        for label, name in enumerate(task.classes)
        if not counts[label]
    ]
    return problems + ([] if val else ["no image left for validation, raise data.val_ratio"])


def _fingerprint(samples: Sequence[Sample], images: Sequence[EvalImage], hashes: dict[Path, str]) -> str:
    """SHA-256 over sorted `set,id,label,content` lines."""
    lines = [f"train,{s.id},{s.label},{hashes[s.path]}" for s in samples]
    lines += [f"eval,{i.id},,{hashes[i.path]}" for i in images]
    return "sha256:" + hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
