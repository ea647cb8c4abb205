"""The confusion matrix [true class, predicted class], and the counts for metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracker.training.metrics import Counts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def confusion_matrix(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Counts [classes, classes] of true class against predicted class."""
    import numpy as np

    cells = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


def count_classes(confusion: NDArray[np.int64]) -> Counts:
    """The counts of each class in a confusion matrix."""
    import numpy as np

    table = confusion.astype(np.float64)
    return Counts(actual=table.sum(1), hits=np.diag(table).copy(), predicted=table.sum(0))
