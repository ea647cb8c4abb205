"""Suspicious labels in hand-made probabilities: what is suggested, about whom, in which order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracker.training.formats.mask_profiles import MASK_PROFILE_CLASSES, PHOTOS, mask_profile_label
from tracker.training.formats.samples import Person, Sample
from tracker.training.inspect.suspects import Agreement, find_suspects, measure_agreement

BANDS = (30, 60)


def make_people(count: int) -> list[Sample]:
    """Seven photographs of each; genders and age bands in turn."""
    samples = []
    for number in range(count):
        person = Person(
            f"{number:03d}", ("male", "female")[number % 2], (25, 45, 70)[number // 2 % 3]
        )
        group = f"{person.id}_{person.gender}_Asian_{person.age}"
        for stem, mask in PHOTOS.items():
            label = mask_profile_label(mask, person.gender, person.age, BANDS)
            samples.append(
                Sample(f"{group}/{stem}.jpg", f"{group}/{stem}.jpg", label, group, person)
            )
    return samples


def believe(labels: list[int], classes: int, *, share: float = 0.9) -> NDArray[np.float32]:
    """Probabilities of a model that is right about these labels."""
    probabilities = np.full((len(labels), classes), (1 - share) / (classes - 1), dtype=np.float32)
    probabilities[np.arange(len(labels)), labels] = share
    return probabilities


def test_a_person_is_suspected_as_a_whole_and_before_single_photographs() -> None:
    samples = make_people(24)
    truth = [sample.label for sample in samples]
    for row in range(7):  # person 000 is a woman, 003 is young
        truth[row] += 3
        truth[21 + row] -= 1
    normal, incorrect = list(PHOTOS).index("normal"), list(PHOTOS).index("incorrect_mask")
    truth[7 * 5 + normal], truth[7 * 5 + incorrect] = (
        truth[7 * 5 + incorrect],
        truth[7 * 5 + normal],
    )
    truth[7 * 9] += 6  # mask1 of person 009 is worn incorrectly
    found = find_suspects(samples, believe(truth, 18), MASK_PROFILE_CLASSES, BANDS)
    assert [
        (suspect.id, suspect.field, suspect.value, len(suspect.images)) for suspect in found
    ] == [
        ("003", "age", "29", 7),
        ("000", "gender", "female", 7),
        ("005", "swap", "incorrect_mask/normal", 2),
        ("009_female_Asian_45/mask1.jpg", "label", "incorrect_female_middle", 1),
    ]
    assert all(suspect.confident for suspect in found)
    assert [(suspect.given, suspect.suggested) for suspect in found[:2]] == [
        ("45", "young"),
        ("male", "female"),
    ]


def test_the_label_of_a_photograph_is_that_of_the_mended_person() -> None:
    samples = make_people(24)
    truth = [sample.label + 3 * (row < 7) for row, sample in enumerate(samples)]
    truth[0] += 6
    found = find_suspects(samples, believe(truth, 18), MASK_PROFILE_CLASSES, BANDS)
    assert [(suspect.field, suspect.value) for suspect in found] == [
        ("gender", "female"),
        ("label", "incorrect_female_young"),
    ]


def test_a_weak_models_other_guesses_come_after_what_confident_learning_says() -> None:
    samples = [Sample(f"{row}.jpg", f"{row}.jpg", row % 2, f"{row}.jpg") for row in range(100)]
    probabilities = believe([sample.label for sample in samples], 2)
    probabilities[10] = (0.45, 0.55)
    probabilities[21] = (0.95, 0.05)
    found = find_suspects(samples, probabilities, ("cat", "dog"), BANDS)
    assert [(suspect.id, suspect.value, suspect.confident) for suspect in found] == [
        ("21.jpg", "cat", True),
        ("10.jpg", "dog", False),
    ]
    assert found[0].score == np.float32(0.05)


def test_nothing_is_suspected_where_all_is_as_given_or_of_one_class() -> None:
    samples = make_people(6)
    right = believe([sample.label for sample in samples], 18)
    assert find_suspects(samples, right, MASK_PROFILE_CLASSES, BANDS) == []
    cats = [Sample("a", "a", 0, "a"), Sample("b", "b", 0, "b")]
    assert find_suspects(cats, believe([1, 0], 2), ("cat", "dog"), BANDS) == []


def test_a_model_is_weak_when_most_of_its_doubts_are_its_own_or_chance_explains_it() -> None:
    def rate(right: int, judged: int, majority: float = 0.5) -> Agreement:
        return Agreement(field="label", right=right, judged=judged, majority=majority)

    assert not rate(950, 1000).weak
    assert rate(84, 100).weak
    assert rate(84, 100).credible == 0.033 / (1 - 0.84)
    assert rate(96, 100, majority=0.95).weak, "always naming the commonest class is as good"
    assert not rate(960, 1000, majority=0.9).weak
    assert rate(3, 3).weak, "three images tell nothing"
    assert rate(0, 10).weak


def test_a_model_is_judged_by_person_and_by_photograph() -> None:
    samples = make_people(12)
    truth = [
        sample.label + 3 * (row < 7) for row, sample in enumerate(samples)
    ]  # person 000 is a woman
    truth[10] += 6 if truth[10] < 12 else -6
    found = measure_agreement(samples, believe(truth, 18), MASK_PROFILE_CLASSES, BANDS)
    assert [(one.field, one.right, one.judged) for one in found] == [
        ("gender", 11, 12),
        ("age", 12, 12),
        ("label", 83, 84),
    ]
    assert found[0].majority == 0.5
    assert found[2].majority == 5 / 7
    plain = [Sample(f"{n}.jpg", f"{n}.jpg", int(n > 2), f"{n}.jpg") for n in range(10)]
    (only,) = measure_agreement(plain, believe([1] * 10, 2), ("cat", "dog"), BANDS)
    assert (only.field, only.right, only.judged, only.majority) == ("label", 7, 10, 0.7)
    assert only.weak
