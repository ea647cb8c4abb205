"""Groups of images that are right or wrong together: those of a patient, a place, a person.

Resamples draw whole groups. Where every image is a group of its own, they draw images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]

FEW = 10  # with fewer groups an interval is rough: bench/coverage.py


def number_groups(groups: Sequence[str] | None) -> Integers | None:
    """The group of each image [images] as a number; None where no two images share one."""
    import numpy as np

    if groups is None:
        return None
    names, numbers = np.unique(np.array(groups), return_inverse=True)
    return None if len(names) == len(numbers) else numbers.astype(np.int64)


def are_same_groups(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether the same images are together in both, however their groups are called."""
    pairs = len(set(zip(one, other, strict=True)))
    return pairs == len(set(one)) == len(set(other))
