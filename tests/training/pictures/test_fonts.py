"""Pictures with characters that matplotlib's own font does not have."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from PIL import Image

from tests.conftest import save_image
from tests.support.servers import require_or_skip
from tracker.training.inspect.survey import PartSurvey, Survey
from tracker.training.inspect.survey_figures import draw_survey
from tracker.training.pictures import fonts
from tracker.training.pictures.figures import Example, draw_confusion, draw_examples

ONLY_HERE = (  # of a private plane: no font that somebody has installed has them
    "\U0010f0f0\U0010f0f1"
)
NOWHERE = "\U0010f0f8\U0010f0f9"
TIME_LIMIT_S = 300


def make_font(path: Path, family: str, letters: str) -> Path:
    """A font whose characters are black bars of different heights."""
    names = {ord(letter): f"g{number}" for number, letter in enumerate(letters)}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap(names)
    glyphs = {}
    for number, name in enumerate([".notdef", *names.values()]):
        pen = TTGlyphPen(None)
        for step, corner in enumerate(
            [(100, 0), (900, 0), (900, 700 - 90 * number), (100, 700 - 90 * number)]
        ):
            (pen.lineTo if step else pen.moveTo)(corner)
        pen.closePath()
        glyphs[name] = pen.glyph()
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (1000, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2(usWeightClass=400)
    builder.setupPost()
    builder.save(path)
    return path


@pytest.fixture
def font(tmp_path: Path) -> Iterator[str]:
    """A family that is installed as long as the test runs."""
    path, known = (
        make_font(tmp_path / "here.ttf", "Tracker Here", ONLY_HERE),
        font_manager.fontManager.ttflist,
    )
    font_manager.fontManager.addfont(path)
    yield "Tracker Here"
    known[:] = [entry for entry in known if entry.name != "Tracker Here"]


@pytest.fixture(autouse=True)
def unsaid() -> Iterator[None]:
    fonts._reported.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    fonts._reported.clear()


def read_pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def draw_all(folder: Path, words: str) -> list[Path]:
    """A picture of each kind with these words as class name and file name."""
    folder.mkdir()
    photo = save_image(folder / "a.png", seed=1)
    part = PartSurvey(
        images=3, classes={words: 2, "dog": 1}, sizes={}, formats={}, mean=(0, 0, 0), std=(1, 1, 1)
    )
    return [
        draw_confusion(np.array([[5, 0], [2, 7]]), (words, "dog"), folder / "confusion.png"),
        draw_examples([Example(photo, f"{words}.png", words, "dog", 0.9)], folder / "cards.png"),
        *draw_survey(Survey({"training": part}, None), folder),
    ]


def test_every_picture_uses_a_font_that_has_the_characters(
    tmp_path: Path, font: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert fonts.find_families(f"cat {ONLY_HERE}") == ([font], set())
    known = draw_all(tmp_path / "known", ONLY_HERE)
    assert capfd.readouterr() == ("", "")
    boxes = draw_all(tmp_path / "boxes", NOWHERE)
    for with_font, without in zip(known, boxes, strict=True):
        one, other = read_pixels(with_font), read_pixels(without)
        assert one.shape != other.shape or (one != other).any(), with_font.name


def test_characters_without_a_font_are_told_once_with_what_to_install(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    draw_all(tmp_path / "a", NOWHERE)
    draw_all(tmp_path / "b", NOWHERE)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"pictures: no font on this machine has {NOWHERE}, they appear as boxes; "
        "install one: apt-get install fonts-noto-cjk"
    ]


def test_latin_and_greek_need_no_other_font() -> None:
    assert fonts.find_families("Große Köter, µ = 1 → λ") == ([], set())


def test_a_font_that_was_installed_after_matplotlib_had_listed_them_is_found(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    environment = {
        **os.environ,
        "HOME": str(home),
        "XDG_DATA_HOME": str(home),
        "MPLCONFIGDIR": str(home / "mpl"),
    }
    code = (
        "from tracker.training.pictures.fonts import find_families;"
        f" print(find_families({ONLY_HERE!r}))"
    )

    def find() -> str:
        words = [sys.executable, "-W", "error", "-c", code]
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, check=True, timeout=TIME_LIMIT_S
        )
        return done.stdout

    assert find().startswith("([], {")
    (home / "fonts").mkdir()
    make_font(home / "fonts" / "late.ttf", "Tracker Late", ONLY_HERE)
    assert find() == "(['Tracker Late'], set())\n"


KOREAN = "고양이 강아지"


def test_korean_is_drawn_with_a_font_of_the_system(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if fonts.find_families(KOREAN)[1]:
        require_or_skip(
            "korean-font", "matplotlib finds no font with Korean; apt-get install fonts-nanum"
        )
    draw_all(tmp_path / "a", KOREAN)
    assert capfd.readouterr() == ("", "")
