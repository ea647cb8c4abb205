"""Split samples into training and validation: by person, group, image or class, once or in folds.

The results of by_profile, by_image and stratified are those of every earlier version, so runs made
before validate on the same images.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tracker.training.config import DataConfig
from tracker.training.data.even_parts import divide_evenly, hold_out_evenly
from tracker.training.errors import ConfigError
from tracker.training.formats.samples import Sample
from tracker.training.formats.table_rows import list_set

if TYPE_CHECKING:
    import numpy as np

GROUPED = ("by_profile", "by_group", "stratified_group")  # values of data.split
STRATIFIED = ("stratified", "stratified_group")


def split_samples(
    samples: Sequence[Sample], config: DataConfig
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """Training and validation samples, in the given order; sampling is without replacement.

    Raises ConfigError when there are more folds than people, groups or images.
    """
    import numpy as np

    rng = np.random.default_rng(config.split_seed)
    held_out = _choose_held_out(samples, config, rng)
    train = [sample for sample in samples if sample.id not in held_out]
    val = [sample for sample in samples if sample.id in held_out]
    return tuple(_undersample(train, config, rng)), tuple(val)


def _choose_held_out(
    samples: Sequence[Sample], config: DataConfig, rng: np.random.Generator
) -> set[str]:
    """The ids of the validation images."""
    if config.folds or config.fold_file:
        fold_of = assign_folds(samples, config)
        return {name for name, fold in fold_of.items() if fold == config.fold}
    if _is_divided_evenly(samples, config):
        held_out = hold_out_evenly(_list_contents(samples, config), config.val_ratio, rng)
    elif config.split == "stratified":
        by_class: dict[int, list[str]] = defaultdict(list)
        for sample in samples:
            by_class[sample.label].append(sample.id)
        held_out = set()
        for label in sorted(by_class):
            held_out.update(_hold_out(sorted(by_class[label]), config.val_ratio, rng))
    else:
        units = {_find_unit(sample, config) for sample in samples}
        held_out = set(_hold_out(sorted(units), config.val_ratio, rng))
    return {sample.id for sample in samples if _find_unit(sample, config) in held_out}


def _find_unit(sample: Sample, config: DataConfig) -> str:
    """The unit that the split does not divide: the person or group, or the image."""
    grouped = config.split in GROUPED or config.group
    return sample.group if grouped else sample.id


def name_group(config: DataConfig) -> str:
    """What the groups are called that the split does not divide; empty where it divides by image.

    The photographs of a person under by_profile are known by their ids.
    """
    by_person = "person" if config.split in ("by_group", "stratified_group") else ""
    return config.group or by_person


def _is_divided_evenly(samples: Sequence[Sample], config: DataConfig) -> bool:
    """Whether units of any size, or images of several classes, are divided by scikit-learn."""
    if config.split == "by_profile":
        return False
    several = len(samples[0].values) > 1
    grouped = config.split in GROUPED or bool(config.group)
    return grouped or (config.split == "stratified" and several)


def _list_contents(samples: Sequence[Sample], config: DataConfig) -> dict[str, list[int]]:
    """The classes of each unit's images; the same for all where the split is not stratified."""
    contents: dict[str, list[int]] = defaultdict(list)
    for sample in samples:
        labels = [0]
        if config.split in STRATIFIED:
            several = list_set(sample.values) if len(sample.values) > 1 else []
            labels = several or [sample.label]
        contents[_find_unit(sample, config)] += labels
    return contents


def assign_folds(samples: Sequence[Sample], config: DataConfig) -> dict[str, int]:
    """The fold of each image, by its id; -1: in training always, as a fold file can have it.

    All folds have nearly the same size and nearly the same share of each class. by_image and
    by_group are not stratified. Raises ConfigError when there are more folds than people, groups
    or images.
    """
    import numpy as np

    if config.fold_file:
        return {sample.id: -1 if sample.fold is None else sample.fold for sample in samples}
    rng = np.random.default_rng(config.split_seed)
    units = {_find_unit(sample, config) for sample in samples}
    if len(units) < config.folds:
        raise ConfigError(
            f"data.folds: {config.folds} folds of {len(units)} units", hint="use fewer folds"
        )
    if _is_divided_evenly(samples, config):
        fold_of = divide_evenly(_list_contents(samples, config), config.folds, rng)
    else:
        fold_of = _deal(samples, config, rng)
    return {sample.id: fold_of[_find_unit(sample, config)] for sample in samples}


def _deal(
    samples: Sequence[Sample], config: DataConfig, rng: np.random.Generator
) -> dict[str, int]:
    """Deal the units of each combination of classes to the folds, like cards."""
    labels: dict[str, set[int]] = defaultdict(set)
    for sample in samples:
        labels[_find_unit(sample, config)].add(0 if config.split == "by_image" else sample.label)
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
