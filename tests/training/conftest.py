"""A tiny data folder for the tests of training."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from tests.conftest import make_pictures
from tracker.training.formats.samples import Task
from tracker.training.pictures import figures, sheets
from tracker.training.pictures.fonts import use_fonts

TWO = Task(classes=("cat", "dog"), id_column="ImageID", label_column="ans", answer_words=("0", "1"))


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """train/{cat,dog} with 12 images each and eval/images with 6, eval/info.csv."""
    make_pictures(tmp_path)
    return tmp_path


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is saved, as matplotlib has it."""
    found: list[Figure] = []
    save = figures.save_figure

    def keep(figure: Figure, path: Path) -> Path:
        found.append(figure)
        return save(figure, path)

    for module in (figures, sheets):
        monkeypatch.setattr(module, "save_figure", keep)
    return found


def find_cut(figure: Figure) -> list[str]:
    """The texts of a figure that its edges cut."""
    with use_fonts(figure):
        figure.draw_without_rendering()
        texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
        shown = [text for text in texts if text.get_visible() and text.get_text().strip()]
        left, bottom, right, top = figure.bbox.extents
        boxes = {
            text.get_text(): text.get_window_extent()
            for text in shown
            if text.axes is None or text.axes.axison
        }
    return [
        text
        for text, box in boxes.items()
        if box.x0 < left or box.y0 < bottom or box.x1 > right or box.y1 > top
    ]
