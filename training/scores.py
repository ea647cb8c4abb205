"""Scores from a confusion matrix [true class, predicted class] of counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def confusion_matrix(truth: NDArray[np.int64], guess: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Counts [classes, classes] of true class against predicted class."""
    import numpy as np

    cells = np.bincount(truth * classes + guess, minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


def f1_by_class(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """2 TP / (2 TP + FP + FN) of each class; 0 for a class that nobody has and nobody predicts."""
    import numpy as np

    hits = np.diag(confusion).astype(np.float64)
    both = confusion.sum(0) + confusion.sum(1)
    f1: NDArray[np.float64] = np.divide(2 * hits, both, out=np.zeros_like(hits), where=both > 0)
    return f1


def macro_f1(confusion: NDArray[np.int64]) -> float:
    """Mean of `f1_by_class` over all classes."""
    return float(f1_by_class(confusion).mean())


def accuracy(confusion: NDArray[np.int64]) -> float:
    """Share of correct predictions; 0 when there are none."""
    total = int(confusion.sum())
    return float(confusion.trace()) / total if total else 0.0
