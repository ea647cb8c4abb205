"""Labels that are likely wrong, by confident learning (arXiv:1911.00068) with cleanlab.

The probabilities must come from models that were not trained on the images. Of format mask_profiles
a person's gender and age are judged by all photographs together, the mask by each alone, for that
is how their labels go wrong.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker.training.formats.mask_profiles import AGES, GENDERS, MASKS, mask_profile_label
from tracker.training.formats.samples import Person, Sample

Probabilities = NDArray[np.float64]
OLDEST = 129  # the last age that data.label_fixes takes
# Mean share of wrong labels in ten public test sets (Northcutt, Athalye, Mueller 2021,
# arXiv:2103.14749).
USUAL_NOISE = 0.033
OUTLIER = 3.5
NORMAL_MAD = 0.6745  # the median absolute deviation of a normal distribution
CHANCE = 0.05  # of taking a model that only names the commonest class for a better one


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A label that is likely wrong, and the line of data.label_fixes that corrects it.

    `given` and `suggested` are words for people, `score` the probability of the given label,
    `images` the ids of the
    images that it is about, `against` how many of these the model would label otherwise.
    `confident`: confident learning calls it an error; else the model only guesses otherwise, which
    a weak model does for many.
    """

    id: str
    field: str
    value: str
    given: str
    suggested: str
    score: float
    images: tuple[str, ...]
    against: int
    confident: bool


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How often the model agrees with a field's labels: `right` of `judged` people or images.

    `majority` is the share of the commonest label, which a model without any knowledge reaches.
    """

    field: str
    right: int
    judged: int
    majority: float

    @property
    def accuracy(self) -> float:
        """The share of labels with which the model agrees."""
        return self.right / self.judged

    @property
    def credible(self) -> float:
        """The largest possible share of right doubts, if the labels have the usual error rate."""
        return min(1.0, USUAL_NOISE / (1 - self.accuracy)) if self.right < self.judged else 1.0

    @property
    def weak(self) -> bool:
        """Whether the model is too weak to doubt labels.

        Most of its doubts must be its own mistakes, or it may know only the most common label. The
        latter by the one-sided binomial test against the no-information rate.
        """
        from scipy.special import bdtrc

        p_value = float(bdtrc(self.right - 1, self.judged, self.majority)) if self.right else 1.0
        return self.credible < 0.5 or p_value >= CHANCE


@dataclass(frozen=True)
class _Issue:
    """A row whose label `given` should likely be `suggested`.

    `score` is the probability of the given label.
    """

    row: int
    given: int
    suggested: int
    score: float
    confident: bool


def find_suspects(
    samples: Sequence[Sample],
    probabilities: NDArray[np.float32],
    classes: Sequence[str],
    age_bands: tuple[int, int],
    target: str = "class",
) -> list[Suspect]:
    """Suspicious labels, the most suspicious first.

    `probabilities` [samples, classes] are out-of-fold; where the `target` is a number, they are
    numbers [samples, 1]. Those of confident learning come first, and of people those with the most
    photographs against them.
    """
    if target == "number":
        return _find_in_numbers(samples, probabilities[:, 0].astype(np.float64))
    shares = probabilities.astype(np.float64).clip(1e-9)
    if target != "labels":
        shares /= shares.sum(1, keepdims=True)
    if target == "labels":
        suspects = _find_in_labels(samples, shares, classes)
    elif all(sample.person for sample in samples):
        suspects = _find_in_profiles(samples, shares, classes, age_bands)
    else:
        suspects = _find_in_images(samples, shares, classes)
    return sort_suspects(suspects)


def sort_suspects(suspects: Sequence[Suspect]) -> list[Suspect]:
    """Those of confident learning first, then by images against them, then by the probability."""
    return sorted(
        suspects, key=lambda suspect: (not suspect.confident, -suspect.against, suspect.score)
    )


def measure_agreement(
    samples: Sequence[Sample],
    probabilities: NDArray[np.float32],
    classes: Sequence[str],
    age_bands: tuple[int, int],
    target: str = "class",
) -> list[Agreement]:
    """How often the model agrees with the labels, by field; each person counts once.

    Each of several labels counts, given or not. There is no agreement with numbers.
    """
    shares = probabilities.astype(np.float64)
    if not samples or target == "number":
        return []
    if target == "labels":
        return [_measure_labels(_stack(samples), shares)]
    if not all(sample.person for sample in samples):
        return [_measure("label", [sample.label for sample in samples], shares)]
    by_attribute = shares.reshape(-1, len(MASKS), len(GENDERS), len(AGES))
    rows_of = _group_rows(samples)
    people = [_person_of(samples[rows[0]]) for rows in rows_of.values()]
    # the mean over a person's photographs
    genders = _pool(by_attribute.sum((1, 3)), rows_of)
    ages = _pool(by_attribute.sum((1, 2)), rows_of)
    bands = [
        mask_profile_label(0, person.gender, person.age, age_bands) % len(AGES) for person in people
    ]
    masks = [sample.label // (len(GENDERS) * len(AGES)) for sample in samples]
    return [
        _measure("gender", [GENDERS.index(person.gender) for person in people], genders),
        _measure("age", bands, ages),
        _measure("label", masks, by_attribute.sum((2, 3))),
    ]


def _measure(field: str, labels: Sequence[int], shares: Probabilities) -> Agreement:
    given = np.array(labels)
    right = int((shares.argmax(1) == given).sum())
    return Agreement(
        field=field,
        right=right,
        judged=len(given),
        majority=float(np.bincount(given).max() / len(given)),
    )


def _measure_labels(given: NDArray[np.int64], shares: Probabilities) -> Agreement:
    share = given.mean(axis=0)
    return Agreement(
        field="label",
        right=int(((shares >= 0.5) == given).sum()),
        judged=given.size,
        majority=float(np.maximum(share, 1 - share).mean()),
    )


def _stack(samples: Sequence[Sample]) -> NDArray[np.int64]:
    """0 or 1 for each class of each sample."""
    return np.array([sample.values for sample in samples]).round().astype(np.int64)


def _pool(shares: Probabilities, rows_of: Mapping[str, list[int]]) -> Probabilities:
    """The mean [people, names] of the shares [samples, names] of each person's photographs."""
    return np.stack([shares[rows].mean(0) for rows in rows_of.values()])


def _group_rows(samples: Sequence[Sample]) -> dict[str, list[int]]:
    """The rows of each person."""
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, sample in enumerate(samples):
        rows_of[sample.group].append(row)
    return rows_of


def _find_in_images(
    samples: Sequence[Sample], shares: Probabilities, classes: Sequence[str]
) -> list[Suspect]:
    return [
        Suspect(
            id=samples[issue.row].id,
            field="label",
            value=classes[issue.suggested],
            given=classes[issue.given],
            suggested=classes[issue.suggested],
            score=issue.score,
            images=(samples[issue.row].id,),
            against=1,
            confident=issue.confident,
        )
        for issue in _find_issues([sample.label for sample in samples], shares)
    ]


def _find_in_labels(
    samples: Sequence[Sample], shares: Probabilities, classes: Sequence[str]
) -> list[Suspect]:
    """Images with a label too many or too few: each label is judged by itself.

    An image with several of them is one suspect, and what the model predicts is suggested.
    """
    given = _stack(samples)
    issues: dict[int, list[tuple[int, _Issue]]] = defaultdict(list)
    for number in range(len(classes)):
        column = np.stack([1 - shares[:, number], shares[:, number]], axis=1)
        column /= column.sum(1, keepdims=True)
        for issue in _find_issues(given[:, number].tolist(), column):
            issues[issue.row].append((number, issue))
    suspects = []
    for row, found in issues.items():
        suggested = given[row].tolist()
        for number, _ in found:
            suggested[number] = 1 - suggested[number]
        suspects.append(
            Suspect(
                id=samples[row].id,
                field="label",
                value=_join_names(suggested, classes),
                given=_join_names(given[row].tolist(), classes) or "none",
                suggested=_join_names(suggested, classes) or "none",
                score=min(issue.score for _, issue in found),
                images=(samples[row].id,),
                against=1,
                confident=any(issue.confident for _, issue in found),
            )
        )
    return suspects


def _join_names(has: Sequence[Any], classes: Sequence[str]) -> str:
    return " ".join(name for name, one in zip(classes, has, strict=True) if one)


def _find_in_numbers(samples: Sequence[Sample], guesses: NDArray[np.float64]) -> list[Suspect]:
    """Numbers that the model misses by far more than the others, the farthest first.

    By the modified z-score of the error, over 3.5 (Iglewicz and Hoaglin 1993, How to detect and
    handle outliers): median and median absolute deviation do not follow the outliers. `score` is
    how probable so large an error is.
    """
    given = np.array([sample.values[0] for sample in samples])
    errors = given - guesses
    distance = np.abs(errors - np.median(errors))
    scale = float(np.median(distance)) / NORMAL_MAD
    if not scale:  # most errors are equal
        return []
    suspects = []
    for row in np.argsort(-distance, kind="stable"):
        z_score = float(distance[row]) / scale
        if z_score <= OUTLIER:
            break
        number = f"{guesses[row]:.6g}"
        suspects.append(
            Suspect(
                id=samples[row].id,
                field="label",
                value=number,
                given=f"{given[row]:.6g}",
                suggested=number,
                score=math.erfc(z_score / math.sqrt(2)),
                images=(samples[row].id,),
                against=1,
                confident=True,
            )
        )
    return suspects


def _find_issues(labels: Sequence[int], shares: Probabilities) -> list[_Issue]:
    """Rows whose label is not the most probable one."""
    from cleanlab.filter import find_label_issues

    if len(set(labels)) < 2:  # with one class, no label can be confused with another
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with few examples
        confident = find_label_issues(np.array(labels, dtype=np.int64), shares, n_jobs=1)
    guesses = shares.argmax(1)
    return [
        _Issue(row, label, int(guesses[row]), float(shares[row, label]), bool(confident[row]))
        for row, label in enumerate(labels)
        if guesses[row] != label
    ]


# --- mask_profiles ---


def _find_in_profiles(
    samples: Sequence[Sample], shares: Probabilities, classes: Sequence[str], bands: tuple[int, int]
) -> list[Suspect]:
    by_attribute = shares.reshape(-1, len(MASKS), len(GENDERS), len(AGES))
    rows_of = _group_rows(samples)
    people = {group: _person_of(samples[rows[0]]) for group, rows in rows_of.items()}
    # gender and age, by all photographs of a person
    given = [GENDERS.index(person.gender) for person in people.values()]
    genders = _judge_people(
        samples, rows_of, by_attribute.sum((1, 3)), field="gender", names=GENDERS, given=given
    )
    given = [
        mask_profile_label(0, person.gender, person.age, bands) % len(AGES)
        for person in people.values()
    ]
    ages = _judge_people(
        samples, rows_of, by_attribute.sum((1, 2)), field="age", names=AGES, given=given
    )
    for group, suspect in ages.items():
        years = _nearest_age(people[group].age, AGES.index(suspect.suggested), bands)
        ages[group] = replace(suspect, value=str(years), given=str(people[group].age))
    # masks, by photograph; their class also has the corrected gender and age
    corrected = dict(people)  # with the suggested corrections
    corrected |= {
        group: replace(corrected[group], gender=suspect.value) for group, suspect in genders.items()
    }
    corrected |= {
        group: replace(corrected[group], age=int(suspect.value)) for group, suspect in ages.items()
    }
    issues = _find_issues(
        [sample.label // (len(GENDERS) * len(AGES)) for sample in samples], by_attribute.sum((2, 3))
    )
    masks = _suspect_masks(issues, samples, corrected, classes, bands)
    return [*genders.values(), *ages.values(), *masks]


def _person_of(sample: Sample) -> Person:
    assert sample.person is not None  # noqa: S101  (samples of mask_profiles have one)
    return sample.person


def _judge_people(
    samples: Sequence[Sample],
    rows_of: Mapping[str, list[int]],
    shares: Probabilities,
    *,
    field: str,
    names: Sequence[str],
    given: Sequence[int],
) -> dict[str, Suspect]:
    """Suspects by group: the mean prediction for a person's photographs against the folder's label.

    `shares` [samples, names] are the attribute's probabilities, `given` has its label for each
    person.
    """
    pooled = _pool(shares, rows_of)
    groups, suspects = list(rows_of), {}
    for issue in _find_issues(given, pooled):
        rows = rows_of[groups[issue.row]]
        suspects[groups[issue.row]] = Suspect(
            id=_person_of(samples[rows[0]]).id,
            field=field,
            value=names[issue.suggested],
            given=names[issue.given],
            suggested=names[issue.suggested],
            score=issue.score,
            images=tuple(samples[row].id for row in rows),
            against=int((shares[rows].argmax(1) != issue.given).sum()),
            confident=issue.confident,
        )
    return suspects


def _nearest_age(age: int, band: int, bands: tuple[int, int]) -> int:
    """The age in a band that is nearest to `age`; the user can correct it."""
    first, last = ((0, bands[0] - 1), (bands[0], bands[1] - 1), (bands[1], OLDEST))[band]
    return min(max(age, first), last)


def _suspect_masks(
    issues: Sequence[_Issue],
    samples: Sequence[Sample],
    people: Mapping[str, Person],
    classes: Sequence[str],
    bands: tuple[int, int],
) -> list[Suspect]:
    """Photographs with a wrong mask label.

    Two photographs of a person that should have each other's label are swapped.
    """
    suspects, done = [], set()
    for issue in issues:
        sample = samples[issue.row]
        person = people[sample.group]
        if issue.row in done:
            continue
        left = (
            one for one in issues if samples[one.row].group == sample.group and one.row not in done
        )
        other = next((one for one in left if _suggest_each_other(issue, one)), None)
        images = [issue] if other is None else [issue, other]
        done |= {one.row for one in images}
        stems = [samples[one.row].path.stem for one in images]
        label = classes[mask_profile_label(issue.suggested, person.gender, person.age, bands)]
        suspects.append(
            Suspect(
                id=person.id if other else sample.id,
                field="swap" if other else "label",
                value="/".join(stems) if other else label,
                given=MASKS[issue.given],
                suggested=MASKS[issue.suggested],
                score=min(one.score for one in images),
                images=tuple(samples[one.row].id for one in images),
                against=len(images),
                confident=any(one.confident for one in images),
            )
        )
    return suspects


def _suggest_each_other(one: _Issue, other: _Issue) -> bool:
    return (one.given, one.suggested) == (other.suggested, other.given)
