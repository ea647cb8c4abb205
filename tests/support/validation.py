"""Predictions of validation images, as training leaves them in a run folder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tracker.training.predict.probabilities import Predictions, save_probabilities
from tracker.workspace.tracker_toml import Workspace

IMAGES = 400


TRUTH = np.arange(IMAGES) % 2


def guess(errors: int, *, since: int = 0) -> Sequence[int]:
    """Guesses that are wrong on the first `errors` images from `since` on."""
    wrong = (np.arange(IMAGES) >= since) & (np.arange(IMAGES) < since + errors)
    return [int(label) for label in np.where(wrong, 1 - TRUTH, TRUTH)]


def keep(
    workspace: Workspace,
    run: str,
    guesses: Sequence[int],
    *,
    truth: Sequence[int] | None = None,
    ids: Sequence[str] | None = None,
    classes: tuple[str, ...] = ("cat", "dog"),
) -> None:
    """validation.npz as training leaves it."""
    ids = ids or [f"v{number:03d}.png" for number in range(len(guesses))]
    labels = np.array(TRUTH[: len(guesses)] if truth is None else truth)
    probabilities = np.eye(len(classes), dtype=np.float32)[list(guesses)]
    path = workspace.runs_dir / run / "validation.npz"
    save_probabilities(path, Predictions(tuple(ids), probabilities, classes, labels=labels))
