"""What a terminal shows while a run is trained: lines that fit its width, and what goes on after
the last batch."""

from __future__ import annotations

import io
import math
import re
import sys

import pytest

from tracker.training.progress import Progress

METRICS = dict.fromkeys(("train/loss", "train/accuracy", "val/loss", "val/accuracy", "val/f1"), 0.5)


class Terminal(io.StringIO):
    """Takes what is written and says that somebody watches."""

    def isatty(self) -> bool:
        return True


def watch(patch: pytest.MonkeyPatch, width: int) -> Terminal:
    """stderr as a terminal of `width` columns, from here to the end of the test."""
    terminal = Terminal()
    patch.setattr(sys, "stderr", terminal)
    patch.setenv("TERM", "xterm")
    patch.setenv("COLUMNS", str(width))
    return terminal


def read(terminal: Terminal) -> list[str]:
    """Its lines, without what moves the cursor or colors them."""
    return (
        re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).replace("\r", "\n").splitlines()
    )


@pytest.mark.parametrize(
    ("width", "monitor"), [(40, "val/f1"), (80, "val/f1"), (80, "val/accuracy"), (200, "val/f1")]
)
def test_the_line_of_an_epoch_fits_the_terminal_and_keeps_the_deciding_figure(
    monkeypatch: pytest.MonkeyPatch, width: int, monitor: str
) -> None:
    terminal = watch(monkeypatch, width)
    with Progress(epochs=12, monitor=monitor) as progress:
        progress.begin(batches=1, done=0)
        progress.batch(epoch=12, images=4, loss=0.5)
        progress.epoch(
            epoch=12, metrics={**METRICS, "train/images_per_s": 412}, best=True, seconds_left=75
        )
    lines = [line.rstrip() for line in read(terminal)]
    (line,) = [line for line in lines if line.endswith("*best")]
    assert line.startswith("epoch 12/12  ")
    assert len(line) <= width
    assert f"{monitor} 0.5000" in line
    assert ("412 images/s  1:15 left" in line) == (width == 200)


def test_a_pipe_gets_the_whole_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    with Progress(epochs=2) as progress:
        progress.begin(batches=1, done=0)
        progress.epoch(
            epoch=1, metrics={**METRICS, "train/images_per_s": 412}, best=False, seconds_left=75
        )
        progress.finish("predicting")
    assert (
        capsys.readouterr().err
        == "epoch 1/2  train/loss 0.5000  train/accuracy 0.5000  val/loss 0.5000  val/accuracy"
        " 0.5000  val/f1 0.5000  412 images/s  1:15 left\n"
    )


@pytest.mark.parametrize(("loss", "shown"), [(math.nan, ""), (0.5, "loss 0.5000")])
def test_a_loss_that_was_not_read_yet_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, loss: float, shown: str
) -> None:
    """On a GPU it is read where a point is logged: it is not NaN before that."""
    terminal = watch(monkeypatch, 80)
    with Progress(epochs=1) as progress:
        progress.begin(batches=2, done=0)
        progress.batch(epoch=1, images=4, loss=loss)
    label = read(terminal)[-1].partition(" ━")[0]
    assert label.split() == ["epoch", "1/1", *shown.split()]


def test_after_its_batches_the_bar_says_what_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = watch(monkeypatch, 80)
    with Progress(epochs=1) as progress:
        progress.begin(batches=2, done=0)
        progress.batch(epoch=1, images=4, loss=0.5)
        progress.batch(epoch=1, images=4, loss=0.5)
        progress.validate(epoch=1)
        progress.notify("a")
        assert read(terminal)[-1].startswith("epoch 1/1  validating")
        for label in ("drawing", "predicting"):
            progress.finish(label)
            progress.notify("b")
            shown = read(terminal)[-1]
            assert shown.startswith(label)
            assert "2/2" not in shown
            assert "0:00:00" not in shown


def test_the_line_of_an_epoch_has_the_metrics_of_the_competition(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = {"train/loss": 0.5, "val/loss": 0.25, "val/rmse": 7.5, "val/f1/cat": 0.1}
    with Progress(epochs=2, monitor="val/rmse") as progress:
        progress.begin(batches=1, done=0)
        progress.epoch(epoch=1, metrics=figures, best=True, seconds_left=0)
    assert capsys.readouterr().err == (
        "epoch 1/2  train/loss 0.5000  val/loss 0.2500  val/rmse 7.500  0 images/s  *best\n"
    )
    terminal = watch(monkeypatch, 40)  # what decides stays where there is no room
    others = {f"val/{name}": 0.5 for name in ("log_loss", "kappa_quadratic")}
    with Progress(epochs=2, monitor="val/log_loss") as progress:
        progress.begin(batches=1, done=0)
        progress.epoch(epoch=1, metrics={**METRICS, **others}, best=True, seconds_left=0)
    (line,) = [line.rstrip() for line in read(terminal) if line.rstrip().endswith("*best")]
    assert "val/log_loss 0.5000" in line and "kappa" not in line and len(line) <= 40
