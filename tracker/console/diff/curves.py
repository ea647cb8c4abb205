"""The curves of both runs, as text and as a picture, and what they advise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tracker.comparison.advice import Advice
from tracker.comparison.diff import RunDiff
from tracker.console.textplot import Panel, render_curves

LOSSES = ("val/loss", "train/loss")
WARNED = ("overfitting", "diverged")


def draw_curves(diff: RunDiff, width: int) -> list[str]:
    """The curves of both runs in lines of `width` columns; nothing where no run has two epochs."""
    scores = [name for name in diff.curves if name.startswith("val/") and name not in LOSSES]
    lines = []
    for name in (*scores[:1], *LOSSES):
        pairs = zip((diff.a, diff.b), diff.curves.get(name, ([], [])), diff.best_epoch, strict=True)
        item = diff.metrics.get(name, {})
        figures = (item.get("a"), item.get("b"))
        panels = [
            Panel(name=run, curve=curve, best=best, figure=figure)
            for (run, curve, best), figure in zip(pairs, figures, strict=True)
        ]
        if any(len(panel.curve) > 1 for panel in panels):
            lines += render_curves(name, panels, width=width)
    return lines


def list_warnings(diff: RunDiff) -> Iterator[tuple[str, Advice]]:
    """The runs that went wrong, and what their curves advise."""
    for name, advice in zip((diff.a, diff.b), diff.advice, strict=True):
        if advice and advice.state in WARNED:
            yield name, advice


def list_advice(diff: RunDiff) -> list[str]:
    """What the curves advise on a run that went wrong."""
    return [
        f"{name}: {sentence}"
        for name, advice in list_warnings(diff)
        for sentence in advice.sentences
    ]


def open_picture(diff: RunDiff, folder: Path) -> Path:
    """Draw the curves of both runs into `folder` and show them; raises StorageError."""
    import webbrowser

    path = draw_diff(diff, folder)
    webbrowser.open(path.as_uri())
    return path


def draw_diff(diff: RunDiff, folder: Path) -> Path:
    """The curves of both runs as a PNG in `folder`; raises StorageError."""
    from tracker.training.files import translate_os_errors
    from tracker.training.pictures.figures import draw_two_runs

    with translate_os_errors(folder, "create"):
        folder.mkdir(parents=True, exist_ok=True)
    curves = [{name: pair[side] for name, pair in diff.curves.items()} for side in (0, 1)]
    return draw_two_runs(
        (diff.a, diff.b), curves, diff.best_epoch, folder / f"diff-{diff.a}-{diff.b}.png"
    )
