"""The folders of the competition of 2022: profiles of people, seven photographs each."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import save_image
from tracker.training.formats.mask_profiles import MASK_PROFILE_CLASSES
from tracker.training.formats.samples import Person, Sample, Task

MASKS = Task(
    classes=MASK_PROFILE_CLASSES,
    id_column="ImageID",
    label_column="ans",
    answer_words=tuple(str(number) for number in range(18)),
)


SEVEN = ("mask1", "mask2", "mask3", "mask4", "mask5", "incorrect_mask", "normal")


def make_profiles(root: Path, people: int) -> None:
    """`people` profiles that take every gender and age band in turn."""
    for number in range(people):
        name = (
            f"{number:06d}_{('male', 'female')[number % 2]}_Asian_{(20, 45, 60)[number // 2 % 3]}"
        )
        for photo in SEVEN:
            save_image(root / name / f"{photo}.jpg", seed=number)


def make_samples(people: int) -> list[Sample]:
    """Seven photographs each, of five classes; the people differ in gender and age."""
    return [
        Sample(
            f"p{n}/i{photo}",
            "x",
            min(photo // 5, 1) * 6 + n % 3,
            f"p{n}",
            Person(f"p{n}", "male", 20 + n % 60),
        )
        for n in range(people)
        for photo in range(7)
    ]
