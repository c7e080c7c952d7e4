"""Footprints as polygons on the sky, to compare coverage with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reduction.astrometry.kernels.wcs import PlateSolution, unit_vectors

__all__ = ["outline", "polygon_area"]

FloatArray = npt.NDArray[np.float64]


def outline(solution: PlateSolution, n_edge: int = 8) -> FloatArray:
    """Footprint of a frame as a polygon on the sky that follows its curved borders.

    Parameters
    ----------
    solution : PlateSolution
        Of the frame.
    n_edge : int
        Equal parts that each border is divided into; 1 gives the four corners alone.

    Returns
    -------
    (4 n_edge, 2) array
        RA and Dec (degree) of points on the outer borders, from the origin counter-clockwise in x, y;
        every `n_edge`-th is a corner. NaN where the solution has no inverse.
    """
    step = np.arange(n_edge) / n_edge
    right, top = solution.nx - 0.5, solution.ny - 0.5
    one = np.ones(n_edge)
    x = np.concatenate([-0.5 + solution.nx * step, right * one, right - solution.nx * step, -0.5 * one])
    y = np.concatenate([-0.5 * one, -0.5 + solution.ny * step, top * one, top - solution.ny * step])
    return np.column_stack(solution.unproject(x, y))


def polygon_area(polygon: FloatArray) -> float:
    """Area of a polygon of great circles on the sky.

    Parameters
    ----------
    polygon : (k, 2) array
        RA and Dec (degree) of its vertices, in order. It lies within one hemisphere.

    Returns
    -------
    float
        Square degrees, not negative.

    Notes
    -----
    Sum of the signed solid angles of the triangles of the middle and each side (Van Oosterom &
    Strackee 1983, IEEE Trans. Biomed. Eng. 30, 125).
    """
    vertex = unit_vectors(polygon[:, 0], polygon[:, 1])
    following = np.roll(vertex, -1, axis=0)
    middle = vertex.sum(axis=0)
    middle /= np.linalg.norm(middle)
    triple = np.cross(vertex, following) @ middle
    angle = 2.0 * np.arctan2(triple, 1.0 + np.sum(vertex * following, axis=1) + vertex @ middle + following @ middle)
    return float(np.degrees(np.degrees(abs(np.sum(angle)))))
