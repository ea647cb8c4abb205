"""Figures of a run: what is drawn, not how it looks."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from tests.conftest import save_image
from tests.training.conftest import find_cut
from tracker.training.pictures import sheets
from tracker.training.pictures.figures import (
    MAX_EXAMPLES,
    MOST_CLASSES,
    Example,
    choose_examples,
    draw_confusion,
    draw_curves,
    draw_examples,
    draw_two_runs,
)
from tracker.training.pictures.sheets import fold_text, measure_text
from tracker.training.predict.probabilities import Predictions

RED, GREEN = (214, 39, 40), (44, 160, 44)
KOREAN = "마스크를 턱에 걸쳐 잘못 착용한 30세 이상 60세 미만의 여성"


def test_curves_show_both_parts_by_epoch_and_mark_the_best(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    curves = {
        f"{part}/{name}": {n: (n, 1 / n) for n in (1, 2, 3)}
        for part in ("train", "val")
        for name in ("loss", "f1")
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


def test_curves_have_a_panel_for_each_metric_of_the_competition(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    curve = {n: (n, 1 / n) for n in (1, 2, 3)}
    names = ["train/loss", "val/loss", "val/rmse", "val/mae", "train/lr"]
    draw_curves(dict.fromkeys(names, curve), 3, tmp_path / "curves.png")
    assert [axes.get_title() for axes in drawn[0].axes] == ["loss", "mae", "rmse"]
    assert list(drawn[0].axes[2].lines[1].get_ydata()) == [1, 1 / 2, 1 / 3]
    # of classes there are the usual ones first, and no panel for a single class
    names = ["val/loss", "val/accuracy", "val/f1", "val/f1/cat", "val/log_loss"]
    draw_curves(dict.fromkeys(names, curve), 3, tmp_path / "curves.png")
    titles = [axes.get_title() for axes in drawn[1].axes]
    assert titles == ["loss", "accuracy", "f1", "log_loss"]
    lines = {name: [(epoch, value) for epoch, value in curve.values()] for name in names}
    draw_two_runs(("exp1", "exp2"), (lines, lines), (1, 2), tmp_path / "two.png")
    assert [axes.get_title() for axes in drawn[2].axes] == titles


def test_the_confusion_matrix_has_the_counts_in_their_places(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    draw_confusion(np.array([[5, 0], [2, 7]]), ("cat", "dog"), tmp_path / "confusion.png")
    (axes,) = drawn[0].axes
    found = {(text.get_position(), text.get_text()) for text in axes.texts}
    assert found == {
        ((0, 0), "5\n100.0 %"),
        ((0, 1), "2\n22.2 %"),
        ((1, 1), "7\n77.8 %"),
    }  # x is what was guessed


@pytest.mark.parametrize(
    "classes",
    [
        ("with_mask", "without_mask"),
        ("고양이", "a very long_class name that goes on for ever and ever"),
        tuple(f"{KOREAN} {number}" for number in range(18)),
        tuple(f"class_{number}" for number in range(100)),
    ],
    ids=["two", "two long", "18 Korean", "100"],
)
def test_a_confusion_matrix_of_any_size_has_every_word_whole_and_numbers_in_their_cells(
    tmp_path: Path, drawn: list[Figure], classes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheets, "DPI", 20)  # that of the file; the layout is in inches
    draw_confusion(np.diag(np.full(len(classes), 1234)), classes, tmp_path / "confusion.png")
    (figure,) = drawn
    assert find_cut(figure) == []
    (axes,) = figure.axes
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert ["".join(label.get_text().split()) for label in labels] == [
            "".join(name.split()) for name in classes
        ]
    cell = axes.transData.transform([(0, 0), (1, 1)])
    width, height = abs(cell[1] - cell[0])
    for text in axes.texts:
        assert text.get_window_extent().width < width
        assert text.get_window_extent().height < height
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        boxes = [label.get_window_extent() for label in labels]
        assert not any(one.overlaps(other) for one, other in pairwise(boxes))


def test_a_confusion_matrix_of_very_many_classes_is_shaded_only_and_no_larger(
    tmp_path: Path, drawn: list[Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheets, "DPI", 20)
    for count in (MOST_CLASSES, 8 * MOST_CLASSES):
        draw_confusion(
            np.eye(count, dtype=np.int64),
            [f"class_{n}" for n in range(count)],
            tmp_path / "confusion.png",
        )
    assert list(drawn[1].axes[0].texts) == []
    assert find_cut(drawn[1]) == []
    assert max(drawn[1].get_size_inches()) <= max(drawn[0].get_size_inches())


def test_wrong_guesses_come_first_the_surest_of_them_before_all() -> None:
    confidence = np.array([0.9, 0.6, 0.8, 0.7, 0.95])
    guesses, labels = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 0, 1, 1])
    probabilities = np.where(
        np.arange(2) == guesses[:, None], confidence[:, None], 1 - confidence[:, None]
    )
    predictions = Predictions(
        tuple("abcde"), probabilities, classes=("cat", "dog"), logits=probabilities, labels=labels
    )
    examples = choose_examples(predictions, {name: Path(name) for name in "abcde"})
    assert [example.name for example in examples] == ["c", "b", "d", "a", "e"]
    assert examples[0] == Example(Path("c"), "c", "cat", "dog", pytest.approx(0.8))
    many = Predictions(
        tuple(map(str, range(99))),
        np.tile([0.1, 0.9], (99, 1)),
        classes=("cat", "dog"),
        logits=np.zeros((99, 2)),
        labels=np.zeros(99, dtype=np.int64),
    )
    assert len(choose_examples(many, {name: Path(name) for name in many.ids})) == MAX_EXAMPLES


def test_a_card_has_truth_and_guess_in_a_frame_of_its_color(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    path = save_image(tmp_path / "a.png", seed=1, mode="P")
    draw_examples(
        [Example(path, "a", "cat", "dog", 0.75), Example(path, "a", "dog", "dog", 0.5)],
        tmp_path / "images.png",
    )
    titles = ["true cat\npredicted dog  0.75", "true dog\npredicted dog  0.50"]
    assert [axes.get_title() for axes in drawn[0].axes] == titles
    (legend,) = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "the prediction is right",
        "the prediction is wrong",
    ]
    with Image.open(tmp_path / "images.png") as picture:
        colors = {color for _, color in picture.convert("RGB").getcolors(1 << 24) or []}
    assert {RED, GREEN} <= colors


def test_a_photograph_taken_sideways_is_shown_upright(tmp_path: Path, drawn: list[Figure]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    draw_examples([Example(tmp_path / "a.jpg", "a", "cat", "cat", 1.0)], tmp_path / "images.png")
    assert drawn[0].axes[0].images[0].get_array().shape == (40, 20, 3)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_words_of_a_sheet_are_whole_and_no_wider_than_their_picture_and_its_edges(
    tmp_path: Path, drawn: list[Figure], count: int
) -> None:
    path = save_image(tmp_path / "a.png", seed=1, mode="RGB")
    name = f"{KOREAN}/{'long-name_' * 9}.png"
    draw_examples(
        [Example(path, name, KOREAN, "other" * 12, 0.75)] * count, tmp_path / "images.png"
    )
    (figure,) = drawn
    assert find_cut(figure) == []
    width = figure.bbox.width / min(count, 6)
    for axes in figure.axes:
        for text in (axes.title, axes.xaxis.label):
            assert text.get_window_extent().width <= width
        assert "".join(axes.get_xlabel().split()) == "".join(name.split())
        assert "".join(KOREAN.split()) in "".join(axes.get_title().split())


def test_text_is_folded_at_its_words_and_nothing_of_it_is_lost() -> None:
    assert fold_text("with_mask/photo-17.jpg", 1.0, 7) == "with_mask/photo-\n17.jpg"
    assert fold_text("short", 1.0, 7) == "short"
    for text in (KOREAN * 3, "x" * 200, "", "👩\u200d🔬" * 30):
        folded = fold_text(text, 1.0, 7)
        assert "".join(folded.split()) == "".join(text.split())
        assert measure_text(folded, 7) <= 1.0
