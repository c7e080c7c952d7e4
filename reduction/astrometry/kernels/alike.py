"""Whether two frames show the same stars, whatever stars these are: a camera that has not been moved, or by little."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from reduction.astrometry.kernels.acceptance import log_chance
from reduction.kernels.arrays import FloatArray

__all__ = ["alike"]


N_STARS = 60
REACH = 0.25  # of the diagonal: farther apart, two frames have too few stars in common
RADIUS = 2.5  # pixel
MAX_LOG_CHANCE = -8.0  # ten thousand offsets are tried
MIN_ALIKE = 6


def alike(x: FloatArray, y: FloatArray, other_x: FloatArray, other_y: FloatArray, size: tuple[int, int]) -> bool:
    """Whether far more stars of one frame agree on an offset to stars of the other than chance has it.

    Parameters
    ----------
    x, y, other_x, other_y : float64, shape (n,), (n,), (m,), (m,)
        Stars (pixel), brightest first; the brightest 60 count.
    size : (int, int)
        nx, ny of both.

    Notes
    -----
    A turn by more than half a degree or so is another pointing: then the stars at the edge move apart.
    """
    one = np.column_stack([x, y])[:N_STARS]
    two = np.column_stack([other_x, other_y])[:N_STARS]
    if min(len(one), len(two)) < MIN_ALIKE:
        return False
    offsets = (one[:, None, :] - two[None, :, :]).reshape(-1, 2)
    offsets = offsets[np.hypot(*offsets.T) < REACH * np.hypot(*size)]
    if len(offsets) == 0:
        return False
    agree = int(cKDTree(offsets).query_ball_point(offsets, RADIUS, return_length=True).max())
    by_chance = len(one) * len(two) * np.pi * RADIUS**2 / (size[0] * size[1])
    return agree >= MIN_ALIKE and log_chance(agree - 1, float(by_chance)) <= MAX_LOG_CHANCE
