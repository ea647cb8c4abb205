"""Draws the demo's photographs: simple faces whose mask, gender and age can be seen, and a
competition made of them."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import TYPE_CHECKING

from tracker.training.formats.mask_profiles import AGES, GENDERS, find_age_band, mask_profile_label

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

WIDTH, HEIGHT = 96, 128
PHOTOS = (*[(f"mask{number}", 0) for number in range(1, 6)], ("incorrect_mask", 1), ("normal", 2))
AGE_RANGES = {"young": (18, 29), "middle": (31, 58), "old": (60, 80)}
BANDS = (30, 60)
SKINS = ((255, 224, 196), (234, 192, 156), (198, 146, 108), (141, 94, 62))
HAIR = {"young": (45, 30, 20), "middle": (120, 80, 50), "old": (205, 205, 205)}
MASKS = ((120, 180, 220), (235, 235, 240), (60, 60, 70), (160, 210, 170))


def make_competition(root: Path, *, people: int, eval_people: int, seed: int) -> None:
    """Write train/<profile>/, eval/images/, eval/info.csv and solution.csv (half Public, half
    Private)."""
    rng = random.Random(seed)  # noqa: S311
    for number in range(people):
        gender, age = _pick_person(rng, number)
        folder = root / "train" / f"{number + 1:06d}_{gender}_Asian_{age}"
        folder.mkdir(parents=True)
        look = _Look(rng, gender, age)
        for name, mask in PHOTOS:
            suffix = ".png" if rng.random() < 0.1 else ".jpg"
            look.draw(mask).save(folder / f"{name}{suffix}")
    images = root / "eval" / "images"
    images.mkdir(parents=True)
    rows = []
    for number in range(eval_people):
        gender, age = _pick_person(rng, number)
        look = _Look(rng, gender, age)
        for _, mask in PHOTOS:
            name = f"{rng.getrandbits(64):016x}.jpg"
            look.draw(mask).save(images / name)
            rows.append(
                (
                    name,
                    mask_profile_label(mask, gender, age, BANDS),
                    ("Public", "Private")[number // 6 % 2],
                )
            )
    rng.shuffle(rows)
    _write_csv(root / "eval" / "info.csv", ("ImageID", "ans"), [(name, 0) for name, _, _ in rows])
    _write_csv(root / "solution.csv", ("ImageID", "ans", "Usage"), rows)


def _pick_person(rng: random.Random, number: int) -> tuple[str, int]:
    """Genders and age bands in turn, so that every class has someone."""
    band = AGES[number // 2 % 3]
    return GENDERS[number % 2], rng.randint(*AGE_RANGES[band])


def _write_csv(
    path: Path, header: tuple[str, ...], rows: list[tuple[str, int]] | list[tuple[str, int, str]]
) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


class _Look:
    """One person: what stays the same from photograph to photograph."""

    def __init__(self, rng: random.Random, gender: str, age: int) -> None:
        self._rng = rng
        self._gender = gender
        self._band = AGES[find_age_band(age, BANDS)]
        self._skin = rng.choice(SKINS)
        self._hair = tuple(channel + rng.randint(-12, 12) for channel in HAIR[self._band])
        self._shirt = tuple(rng.randint(40, 220) for _ in range(3))

    def draw(self, mask: int) -> Image.Image:
        """A photograph: mask 0 is worn, 1 is below the nose, 2 is none."""
        from PIL import Image, ImageDraw

        rng = self._rng
        back = rng.randint(120, 230)
        image = Image.new("RGB", (WIDTH, HEIGHT), (back, back, back + rng.randint(0, 20)))
        draw = ImageDraw.Draw(image)
        x, y = 48 + rng.randint(-5, 5), 58 + rng.randint(-5, 5)
        draw.ellipse((x - 44, y + 42, x + 44, y + 110), fill=self._shirt)
        if self._gender == "female":
            draw.rounded_rectangle((x - 34, y - 42, x + 34, y + 52), 24, fill=self._hair)
        else:
            draw.ellipse((x - 31, y - 44, x + 31, y + 12), fill=self._hair)
        draw.ellipse((x - 27, y - 32, x + 27, y + 40), fill=self._skin)
        self._draw_face(draw, x, y)
        if mask < 2:
            top = y + (4 if mask == 0 else 20)
            draw.rounded_rectangle((x - 25, top, x + 25, y + 42), 9, fill=rng.choice(MASKS))
        return image

    def _draw_face(self, draw: ImageDraw.ImageDraw, x: int, y: int) -> None:
        dark = tuple(channel // 3 for channel in self._skin)
        for side in (-12, 12):
            draw.ellipse((x + side - 5, y - 9, x + side + 5, y - 2), fill="white")
            draw.ellipse((x + side - 2, y - 8, x + side + 2, y - 3), fill=(30, 30, 30))
            draw.line((x + side - 6, y - 14, x + side + 6, y - 14), fill=self._hair, width=2)
        draw.line((x, y - 2, x - 3, y + 10, x + 3, y + 11), fill=dark, width=2)
        lips = (190, 60, 70) if self._gender == "female" else (150, 90, 80)
        draw.ellipse((x - 9, y + 20, x + 9, y + 26), fill=lips)
        wrinkles = AGES.index(self._band)
        for step in range(wrinkles * 2):
            draw.line((x - 14, y - 19 - 3 * step, x + 14, y - 19 - 3 * step), fill=dark, width=1)
