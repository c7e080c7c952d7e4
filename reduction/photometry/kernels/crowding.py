"""Neighbours on a frame and on the sky."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from reduction.catalogues.kernels.identifiers import ARCSEC

__all__ = ["blended", "close_pairs"]


def blended(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], mag: npt.NDArray[np.float64], radius: float, magnitudes: float
) -> npt.NDArray[np.bool_]:
    """Whether a source has a neighbour within `radius` that is not fainter by more than `magnitudes`.

    Parameters
    ----------
    x, y : float64, shape (n,)
        Positions in pixel; a source with a NaN position has no neighbours.
    mag : float64, shape (n,)
        Magnitudes; NaN never counts as a neighbour's.
    radius : float
        Pixel.
    magnitudes : float
        Largest difference, neighbour minus source, that still counts.

    Returns
    -------
    bool, shape (n,)
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


def close_pairs(
    vectors: npt.NDArray[np.float64], radius: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """All pairs of directions closer than a radius, each both ways round, in order of the first and then of the separation.

    Parameters
    ----------
    vectors : float64, shape (n, 3)
        Unit vectors.
    radius : float
        Largest separation, arcsec.

    Returns
    -------
    first, second : int64, shape (m,)
        Indices into `vectors`; a direction is no neighbour of itself.
    separation : float64, shape (m,)
        Arcsec.
    """
    chord = 2.0 * np.sin(radius * ARCSEC / 2)
    pairs = cKDTree(vectors).query_pairs(chord, output_type="ndarray").reshape(-1, 2) if len(vectors) else np.zeros((0, 2), dtype=np.int64)
    first, second = np.concatenate([pairs, pairs[:, ::-1]]).T
    # The chord, not the cosine: at an arcsecond the cosine has lost it.
    half = np.linalg.norm(vectors[first] - vectors[second], axis=1) / 2
    separation = 2.0 * np.arcsin(half) / ARCSEC
    order = np.lexsort((second, separation, first))
    return first[order].astype(np.int64), second[order].astype(np.int64), separation[order]
