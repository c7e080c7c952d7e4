"""Fixed pattern of a night without darks: hot and cold pixels seen in its own object frames.

Where the pointing drifts, a pixel sees sky in most frames. Its mean deviation from the smooth background is what the detector adds: dark
current that no master dark took out. A star that wanders over such pixels otherwise carries each of them into its light curve.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from reduction.kernels.robust import MAD_TO_SIGMA

__all__ = ["FixedPattern", "fixed_pattern"]

MIN_IMAGES = 10
"""Sky values a pixel needs: with fewer, the clipping cannot tell the wing of a star from the pixel."""


@dataclass(frozen=True)
class FixedPattern:
    """Mean deviation of each pixel from the smooth sky.

    Attributes
    ----------
    value : float32, shape (ny, nx)
        Clipped mean (ADU per exposure); 0 where unknown.
    error : float32, shape (ny, nx)
        Its standard error (ADU); infinite where unknown.
    count : int16[ny, nx]
        Values it rests on; 0 where unknown.
    """

    value: NDArray[np.float32]
    error: NDArray[np.float32]
    count: NDArray[np.int16]

    def correction(self, significance: float = 3.0) -> NDArray[np.float32]:
        """Image to subtract, float32, shape (ny, nx): `value` where it exceeds `significance` times its error, else 0.

        Subtracting pure noise from the rest would only add it to every frame in the same place.
        """
        return np.where(np.abs(self.value) > significance * self.error, self.value, np.float32(0))


def fixed_pattern(residual: NDArray[np.float32], excluded: NDArray[np.bool_], *, clip: float = 4.5, noise: float = 1.0) -> FixedPattern:
    """Mean of sky-subtracted frames of one detector, exposure time and night.

    Parameters
    ----------
    residual : float32, shape (n, ny, nx)
        Frames minus their smooth background (ADU); may be a band of rows of each.
    excluded : bool, shape (n, ny, nx)
        Pixels under sources (see `object_mask`) and otherwise bad ones. Without drift the sources stay on the same pixels, which
        then stay unknown. Values that are not finite are left out too.
    clip : float
        Clipping distance from the median, in units of 1.4826 MAD.
    noise : float
        Least scatter of a pixel (ADU): the MAD of integer data can be zero.

    Returns
    -------
    FixedPattern
        Pixels with fewer than 10 values are unknown.
    """
    return FixedPattern(*_pattern(residual, excluded, clip, noise))


@njit(cache=True)
def _pattern(residual, excluded, clip, noise):  # type: ignore[no-untyped-def]
    n, ny, nx = residual.shape
    value = np.zeros((ny, nx), dtype=np.float32)
    error = np.full((ny, nx), np.inf, dtype=np.float32)
    count = np.zeros((ny, nx), dtype=np.int16)
    column = np.empty((nx, n))
    filled = np.empty(nx, dtype=np.int64)
    for iy in range(ny):
        filled[:] = 0
        # Frame by frame along the row, as the cube lies in memory.
        for k in range(n):
            for ix in range(nx):
                if not excluded[k, iy, ix] and np.isfinite(residual[k, iy, ix]):
                    column[ix, filled[ix]] = residual[k, iy, ix]
                    filled[ix] += 1
        for ix in range(nx):
            if filled[ix] >= MIN_IMAGES:
                value[iy, ix], error[iy, ix], count[iy, ix] = _clipped(column[ix, : filled[ix]], clip, noise)
    return value, error, count


@njit(cache=True)
def _clipped(values, clip, noise):  # type: ignore[no-untyped-def]
    centre = np.median(values)
    distance = np.abs(values - centre)
    limit = clip * max(MAD_TO_SIGMA * np.median(distance), noise)
    kept = values[distance <= limit]
    mean = np.mean(kept)
    scatter = max(np.sqrt(np.sum((kept - mean) ** 2) / max(kept.size - 1, 1)), noise)
    return mean, scatter / np.sqrt(kept.size), kept.size
