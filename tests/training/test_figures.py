"""Figures of a run: what is drawn, not how it looks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tests.conftest import save_image
from tracker.training import figures, sheets
from tracker.training.figures import CARDS, Card, choose_cards, draw_cards, draw_confusion, draw_curves
from tracker.training.probabilities import Kept

RED, GREEN = (214, 39, 40), (44, 160, 44)


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


def test_curves_show_both_parts_by_epoch_and_mark_the_best(tmp_path: Path, drawn: list[Figure]) -> None:
    curves = {
        f"{part}/{name}": {n: (n, 1 / n) for n in (1, 2, 3)} for part in ("train", "val") for name in ("loss", "f1")
    }
    draw_curves(curves, 2, tmp_path / "curves.png")
    (figure,) = drawn
    loss, accuracy, f1 = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["loss", "accuracy", "f1"]
    assert [list(line.get_xdata()) for line in loss.lines] == [[1, 2, 3], [1, 2, 3], [2, 2]]
    assert list(f1.lines[1].get_ydata()) == [1, 1 / 2, 1 / 3]
    assert list(accuracy.lines[0].get_xdata()) == []
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["train", "val", "best: epoch 2"]
    draw_curves(curves, None, tmp_path / "curves.png")
    assert len(drawn[1].axes[0].lines) == 2


def test_the_confusion_matrix_has_the_counts_in_their_places(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_confusion(np.array([[5, 0], [2, 7]]), ("cat", "dog"), tmp_path / "confusion.png")
    (axes,) = drawn[0].axes
    found = {(text.get_position(), text.get_text()) for text in axes.texts}
    assert found == {((0, 0), "5"), ((0, 1), "2"), ((1, 1), "7")}  # x is what was guessed


def test_wrong_guesses_come_first_the_surest_of_them_before_all() -> None:
    sure = np.array([0.9, 0.6, 0.8, 0.7, 0.95])
    guesses, labels = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 0, 1, 1])
    probabilities = np.where(np.arange(2) == guesses[:, None], sure[:, None], 1 - sure[:, None])
    kept = Kept(tuple("abcde"), probabilities, classes=("cat", "dog"), logits=probabilities, labels=labels)
    cards = choose_cards(kept, {name: Path(name) for name in "abcde"})
    assert [card.name for card in cards] == ["c", "b", "d", "a", "e"]
    assert cards[0] == Card(Path("c"), "c", "cat", "dog", pytest.approx(0.8))
    many = Kept(
        tuple(map(str, range(99))),
        np.tile([0.1, 0.9], (99, 1)),
        classes=("cat", "dog"),
        logits=np.zeros((99, 2)),
        labels=np.zeros(99, dtype=np.int64),
    )
    assert len(choose_cards(many, {name: Path(name) for name in many.ids})) == CARDS


def test_a_card_has_truth_and_guess_in_a_frame_of_its_colour(tmp_path: Path, drawn: list[Figure]) -> None:
    path = save_image(tmp_path / "a.png", seed=1, mode="P")
    draw_cards([Card(path, "a", "cat", "dog", 0.75), Card(path, "a", "dog", "dog", 0.5)], tmp_path / "images.png")
    assert [axes.get_title() for axes in drawn[0].axes] == ["cat\nguessed dog  0.75", "dog  0.50"]
    with Image.open(tmp_path / "images.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24) or []}
    assert {RED, GREEN} <= colours


def test_a_photograph_taken_sideways_is_shown_upright(tmp_path: Path, drawn: list[Figure]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    draw_cards([Card(tmp_path / "a.jpg", "a", "cat", "cat", 1.0)], tmp_path / "images.png")
    assert drawn[0].axes[0].images[0].get_array().shape == (40, 20, 3)
