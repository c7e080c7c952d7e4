"""Neighbours on a frame."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

__all__ = ["blended"]


def blended(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], mag: npt.NDArray[np.float64], radius: float, magnitudes: float
) -> npt.NDArray[np.bool_]:
    """Whether a source has a neighbour within `radius` that is not fainter by more than `magnitudes`.

    Parameters
    ----------
    x, y : (n,) arrays
        Positions in pixel; a source with a NaN position has no neighbours.
    mag : (n,) array
        Magnitudes; NaN never counts as a neighbour's.
    radius : float
        Pixel.
    magnitudes : float
        Largest difference, neighbour minus source, that still counts.

    Returns
    -------
    (n,) array of bool
    """
    result = np.zeros(len(x), dtype=bool)
    good = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if len(good) < 2:
        return result
    pairs = good[cKDTree(np.column_stack([x[good], y[good]])).query_pairs(radius, output_type="ndarray")].reshape(-1, 2)
    difference = mag[pairs[:, 1]] - mag[pairs[:, 0]]
    result[pairs[difference <= magnitudes, 0]] = True
    result[pairs[-difference <= magnitudes, 1]] = True
    return result
