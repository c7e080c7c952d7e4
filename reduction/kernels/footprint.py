"""Footprints of frames on the sky and how much two of them have in common."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reduction.kernels.wcs import PlateSolution, gnomonic, unit_vectors

__all__ = ["outline", "overlap_fraction", "polygon_area"]

FloatArray = npt.NDArray[np.float64]


def overlap_fraction(corners: FloatArray, others: FloatArray) -> float:
    """Common part of two convex footprints, as a fraction of the smaller one.

    Both are projected gnomonically about the middle of the first and
    intersected as polygons (Sutherland & Hodgman 1974, CACM 17, 32).

    Parameters
    ----------
    corners, others : (k, 2) arrays
        RA and Dec in degrees of the corners, in order around the footprint.

    Returns
    -------
    float
        0 when they are apart, or a corner lies 90 degrees or more away.
    """
    middle = unit_vectors(corners[:, 0], corners[:, 1]).sum(axis=0)
    ra0 = float(np.degrees(np.arctan2(middle[1], middle[0])))
    dec0 = float(np.degrees(np.arctan2(middle[2], np.hypot(middle[0], middle[1]))))
    first = _ordered(np.column_stack(gnomonic(corners[:, 0], corners[:, 1], ra0, dec0)))
    second = _ordered(np.column_stack(gnomonic(others[:, 0], others[:, 1], ra0, dec0)))
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return 0.0
    smaller = min(_area(first), _area(second))
    return _area(_clip(first, second)) / smaller if smaller > 0 else 0.0


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


def _area(polygon: FloatArray) -> float:
    if len(polygon) < 3:
        return 0.0
    x, y = polygon.T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def _ordered(polygon: FloatArray) -> FloatArray:
    return polygon if _area(polygon) >= 0 else polygon[::-1]


def _clip(subject: FloatArray, window: FloatArray) -> FloatArray:
    points = list(subject)
    for a, b in zip(window, np.roll(window, -1, axis=0), strict=True):
        edge = b - a
        kept: list[FloatArray] = []
        for p, q in zip(points, points[1:] + points[:1], strict=True):
            side_p = edge[0] * (p[1] - a[1]) - edge[1] * (p[0] - a[0])
            side_q = edge[0] * (q[1] - a[1]) - edge[1] * (q[0] - a[0])
            if side_p >= 0:
                kept.append(p)
            if side_p * side_q < 0:
                kept.append(p + (q - p) * side_p / (side_p - side_q))
        points = kept
        if not points:
            break
    return np.array(points).reshape(-1, 2)
