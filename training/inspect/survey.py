"""Statistics of a data set: counts, sizes and colors of its images, and the split."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tracker.training.config import Config
from tracker.training.data.balance import count_classes
from tracker.training.data.split import assign_folds, split_samples
from tracker.training.formats import FORMATS
from tracker.training.formats.images import read_header
from tracker.training.formats.samples import LoadedData, Sample, Task
from tracker.training.formats.table_rows import list_set
from tracker.training.input.channels import Channels, measure_channels

ALWAYS = "-1"  # the part of images that a fold file keeps in training


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
    """The part of each image; `rows` are (id, label, part).

    `column` is the name of the last of these: split or fold. A label is a class, several with |
    between, or a number. `counts` are images by part and class, also where there is none;
    of numbers by part and range. `sizes` are the images of each part, `means` those of its numbers.
    """

    column: str
    rows: tuple[tuple[str, str, str], ...]
    counts: Mapping[str, Mapping[str, int]]
    notes: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    means: Mapping[str, float] = field(default_factory=dict)

    @property
    def missing(self) -> list[tuple[str, str]]:
        """(part, class) where a validation part has no image of a class."""
        missing = []
        for part, counts in self.counts.items():
            if part not in ("train", "unused", ALWAYS):
                missing += [(part, name) for name, count in counts.items() if not count]
        return missing

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON document."""
        return {
            "column": self.column,
            "images": len(self.rows),
            "counts": self.counts,
            "missing": self.missing,
            "sizes": self.sizes,
            "means": self.means,
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
    if config.data.folds or config.data.fold_file:
        column = "fold"
        folds = assign_folds(samples, config.data)
        names = [str(number) for number in sorted(set(folds.values())) if number >= 0]
        if -1 in folds.values():
            names.append(ALWAYS)
        parts |= {name: str(fold) for name, fold in folds.items()}
    else:
        column = "split"
        train, val = split_samples(samples, config.data)
        names = ["train", "val"]
        if len(train) + len(val) < len(samples):
            names.append("unused")
        parts |= {sample.id: "train" for sample in train} | {sample.id: "val" for sample in val}
    rows = tuple((s.id, _render_label(s, task), parts[s.id]) for s in samples)
    members = {part: [s for s in samples if parts[s.id] == part] for part in names}
    means = {}
    if task.target == "number":
        counts = _count_ranges(samples, members)
        means = {part: sum(s.values[0] for s in own) / len(own) for part, own in members.items()}
    else:
        counts = {part: _count_classes(own, task) for part, own in members.items()}
    sizes = {part: len(own) for part, own in members.items()}
    return SplitTable(column, rows, counts, data.notes, sizes, means)


def _render_label(sample: Sample, task: Task) -> str:
    if task.target == "number":
        return f"{sample.values[0]:.15g}"
    labels = list_set(sample.values) if sample.values else [sample.label]
    return "|".join(task.classes[label] for label in labels)


def _count_classes(samples: Sequence[Sample], task: Task) -> dict[str, int]:
    if task.target == "number":
        return {}
    counts = count_classes(samples)
    return {name: counts[label] for label, name in enumerate(task.classes)}


def _count_ranges(
    samples: Sequence[Sample], members: Mapping[str, Sequence[Sample]]
) -> dict[str, dict[str, int]]:
    """The images of each part in each range of numbers that a split is stratified by."""
    ranges: dict[int, list[float]] = defaultdict(list)
    for sample in samples:
        ranges[sample.label].append(sample.values[0])
    titles = {label: f"{min(values):.4g} to {max(values):.4g}" for label, values in ranges.items()}
    counts = {}
    for part, own in members.items():
        counter = Counter(sample.label for sample in own)
        counts[part] = {f"{label + 1}: {titles[label]}": counter[label] for label in sorted(titles)}
    return counts


def _count_labels(samples: Sequence[Sample], task: Task, data_format: str) -> dict[str, Any]:
    counted: dict[str, Any] = {"classes": _count_classes(samples, task)}
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
