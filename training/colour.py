"""Colour jitter and normalisation as one matrix.

Brightness, contrast about the image's mean, saturation and a turn of the hue in YIQ are affine in R, G, B, and so is
normalisation: their product is one matrix [3, 4], applied to an image in one pass. Nothing is cut off between the
steps or at the end: what a step pushes past 0 or 255 stays there, where ColorJitter on uint8 cuts it off.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

# Rows Y, I, Q (NTSC). Y is also the grey that contrast and saturation move about (ITU-R BT.601, as in cv2 and PIL).
TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
FROM_YIQ = np.linalg.inv(TO_YIQ)
GREY = TO_YIQ[0]


def normalisation_matrix(mean: Sequence[float] | float, std: Sequence[float] | float, white: float = 255.0) -> Matrix:
    """[3, 4]: R, G, B in 0..white to (value / white - mean) / std."""
    means, stds = (np.broadcast_to(np.asarray(values, dtype=np.float64), 3) for values in (mean, std))
    return np.hstack([np.diag(1 / (stds * white)), (-means / stds)[:, None]])


def jitter_matrix(
    factors: tuple[float, float, float, float], order: Sequence[int], colour_mean: Sequence[float]
) -> Matrix:
    """[4, 4], on (R, G, B, 1): brightness, contrast, saturation and hue, each by its factor, in this order.

    Factors are those of ColorJitter: the first three multiply, the hue's is a share of the full turn. `colour_mean` is
    the mean of R, G, B over the image; contrast is about the grey of what the steps before it made of that mean.
    """
    brightness, contrast, saturation, hue = factors
    mean = np.array([*colour_mean, 1.0])
    matrix: Matrix = np.eye(4)
    for step in order:
        part = np.eye(4)
        if step == 0:
            part[:3, :3] *= brightness
        elif step == 1:
            part[:3, :3] *= contrast
            part[:3, 3] = (1 - contrast) * (GREY @ (matrix @ mean)[:3])
        elif step == 2:
            part[:3, :3] = saturation * part[:3, :3] + (1 - saturation) * GREY
        else:
            part[:3, :3] = hue_matrix(hue)
        matrix = part @ matrix
    return matrix


def hue_matrix(turn: float) -> Matrix:
    """[3, 3]: colours turned about the grey axis by a share of the full turn, red towards yellow as in HSV."""
    cos, sin = np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)
    rotation = np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
    matrix: Matrix = FROM_YIQ @ rotation @ TO_YIQ
    return matrix
