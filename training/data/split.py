"""Split samples into training and validation: by person, by image or by class, once or in folds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tracker.training.config import DataConfig
from tracker.training.errors import ConfigError
from tracker.training.formats.samples import Sample

if TYPE_CHECKING:
    import numpy as np


def split_samples(
    samples: Sequence[Sample], config: DataConfig
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Training and validation samples, in the given order; sampling is without replacement.

    Raises ConfigError when there are more folds than people or images.
    """
    import numpy as np

    rng = np.random.default_rng(config.split_seed)
    if config.folds:
        held_out = {
            unit for unit, fold in assign_folds(samples, config).items() if fold == config.fold
        }
    elif config.split == "stratified":
        by_class: dict[int, list[str]] = defaultdict(list)
        for sample in samples:
            by_class[sample.label].append(sample.id)
        held_out = set()
        for label in sorted(by_class):
            held_out.update(_hold_out(sorted(by_class[label]), config.val_ratio, rng))
    else:
        units = {find_unit(sample, config) for sample in samples}
        held_out = set(_hold_out(sorted(units), config.val_ratio, rng))
    chosen = [find_unit(sample, config) in held_out for sample in samples]
    train = [sample for sample, out in zip(samples, chosen, strict=True) if not out]
    val = [sample for sample, out in zip(samples, chosen, strict=True) if out]
    return tuple(_undersample(train, config, rng)), tuple(val)


def find_unit(sample: Sample, config: DataConfig) -> str:
    """The unit that the split does not divide: the person, or the image."""
    return sample.group if config.split == "by_profile" else sample.id


def assign_folds(samples: Sequence[Sample], config: DataConfig) -> dict[str, int]:
    """The fold of each person or image.

    All folds have nearly the same size and nearly the same share of each class. by_image is not
    stratified. Raises ConfigError when there are more folds than people or images.
    """
    import numpy as np

    rng = np.random.default_rng(config.split_seed)
    labels: dict[str, set[int]] = defaultdict(set)
    for sample in samples:
        labels[find_unit(sample, config)].add(0 if config.split == "by_image" else sample.label)
    if len(labels) < config.folds:
        raise ConfigError(
            f"data.folds: {config.folds} folds of {len(labels)} units", hint="use fewer folds"
        )
    # deal the units of each combination of classes to the folds, like cards
    strata: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for unit in sorted(labels):
        strata[tuple(sorted(labels[unit]))].append(unit)
    dealt: list[str] = []
    for key in sorted(strata):
        units = strata[key]
        dealt += [units[index] for index in rng.permutation(len(units))]
    return {unit: number % config.folds for number, unit in enumerate(dealt)}


def _hold_out(units: Sequence[str], ratio: float, rng: np.random.Generator) -> list[str]:
    """The held-out units: at least one, and not all when there are two or more."""
    number = min(max(1, round(len(units) * ratio)), max(len(units) - 1, 0))
    return [units[index] for index in rng.permutation(len(units))[:number]]


def _undersample(
    samples: list[Sample], config: DataConfig, rng: np.random.Generator
) -> list[Sample]:
    """Without some of the people of an age range."""
    if not config.undersample:
        return samples
    first, last, share = config.undersample
    people = sorted({s.group for s in samples if s.person and first <= s.person.age <= last})
    kept = round(len(people) * share)
    left_out = {people[index] for index in rng.permutation(len(people))[kept:]}
    return [sample for sample in samples if sample.group not in left_out]
