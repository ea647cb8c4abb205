"""Statistics of a data set: counts, sizes and colors of its images, and the split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tracker.training.config import Config
from tracker.training.data.split import assign_folds, find_unit, split_samples
from tracker.training.formats import FORMATS
from tracker.training.formats.images import read_header
from tracker.training.formats.samples import LoadedData, Sample, Task
from tracker.training.input.channels import Channels, measure_channels


@dataclass(frozen=True, kw_only=True)
class PartSurvey:
    """The images of one part; what is unknown there is None or empty.

    `classes` and `attributes` count images, `ages` counts people by years; `sizes` are `width x
    height` of the files.
    Mean and standard deviation are those of R, G, B in 0..1 after the config's crop and resize.
    """

    images: int
    people: int | None = None
    classes: Mapping[str, int] = field(default_factory=dict)
    attributes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    ages: Mapping[int, int] = field(default_factory=dict)
    sizes: Mapping[str, int]
    formats: Mapping[str, int]
    mean: Channels
    std: Channels


@dataclass(frozen=True)
class Survey:
    """The parts of the data: training, validation, evaluation.

    `age_bands` only with a format that knows people. `notes` are sentences about what is not in
    them.
    """

    parts: Mapping[str, PartSurvey]
    age_bands: tuple[int, int] | None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON document."""
        return asdict(self)


@dataclass(frozen=True)
class SplitTable:
    """The part of each image; `rows` are (id, class, part).

    `column` is the name of the last of these: split or fold. `counts` are images by part and class,
    also where there is none.
    """

    column: str
    rows: tuple[tuple[str, str, str], ...]
    counts: Mapping[str, Mapping[str, int]]
    notes: tuple[str, ...] = ()

    @property
    def missing(self) -> list[tuple[str, str]]:
        """(part, class) where a validation part has no image of a class."""
        missing = []
        for part, counts in self.counts.items():
            if part not in ("train", "unused"):
                missing += [(part, name) for name, count in counts.items() if not count]
        return missing

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON document."""
        return {
            "column": self.column,
            "images": len(self.rows),
            "counts": self.counts,
            "missing": self.missing,
        }


def survey_data(config: Config, data: LoadedData, task: Task, *, root: Path) -> Survey:
    """Survey all images of all parts; raises DataError when one cannot be read."""
    parts = {}
    for name, samples in (("training", data.train), ("validation", data.val)):
        if samples:
            paths = [sample.path for sample in samples]
            parts[name] = PartSurvey(
                **_count_labels(samples, task, config.data.format), **_look_at(paths, config, root)
            )
    if data.eval:
        parts["evaluation"] = PartSurvey(
            **_look_at([image.path for image in data.eval], config, root)
        )
    known = FORMATS[config.data.format]
    return Survey(parts, config.data.age_bands if known.has_people else None, data.notes)


def tabulate_split(config: Config, data: LoadedData, task: Task) -> SplitTable:
    """The part of each image, or its fold with data.folds.

    `data` must be loaded without data.undersample. Images that data.undersample leaves out are
    `unused`. Raises ConfigError.
    """
    samples = sorted((*data.train, *data.val), key=lambda sample: sample.id)
    parts = dict.fromkeys((sample.id for sample in samples), "unused")
    if config.data.folds:
        folds = assign_folds(samples, config.data)
        names = [str(number) for number in range(config.data.folds)]
        parts |= {sample.id: str(folds[find_unit(sample, config.data)]) for sample in samples}
    else:
        train, val = split_samples(samples, config.data)
        names = ["train", "val"]
        if len(train) + len(val) < len(samples):
            names.append("unused")
        parts |= {sample.id: "train" for sample in train} | {sample.id: "val" for sample in val}
    rows = tuple((sample.id, task.classes[sample.label], parts[sample.id]) for sample in samples)
    counter = Counter((part, name) for _, name, part in rows)
    counts = {part: {name: counter[part, name] for name in task.classes} for part in names}
    return SplitTable("fold" if config.data.folds else "split", rows, counts, data.notes)


def _count_labels(samples: Sequence[Sample], task: Task, data_format: str) -> dict[str, Any]:
    labels = Counter(sample.label for sample in samples)
    counted: dict[str, Any] = {
        "classes": {name: labels[label] for label, name in enumerate(task.classes)}
    }
    people = {sample.person.id: sample.person for sample in samples if sample.person}
    if not people:
        return counted
    ages = Counter(person.age for person in people.values())
    return {
        **counted,
        "people": len(people),
        "attributes": FORMATS[data_format].count_attributes([sample.label for sample in samples]),
        "ages": dict(sorted(ages.items())),
    }


def _look_at(paths: Sequence[Path], config: Config, root: Path) -> dict[str, Any]:
    with ThreadPoolExecutor() as pool:
        headers = list(pool.map(read_header, paths))
    mean, std = measure_channels(paths, config, root=root)
    return {
        "images": len(paths),
        "sizes": dict(Counter(f"{width}x{height}" for _, (width, height) in headers).most_common()),
        "formats": dict(Counter(kind for kind, _ in headers).most_common()),
        "mean": mean,
        "std": std,
    }
