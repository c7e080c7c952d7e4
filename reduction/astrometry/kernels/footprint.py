"""Footprints of frames on the sky and how much two of them have in common."""

from __future__ import annotations

import numpy as np

from reduction.astrometry.kernels.wcs import gnomonic, unit_vectors
from reduction.kernels.arrays import FloatArray

__all__ = ["overlap_fraction"]


def overlap_fraction(corners: FloatArray, others: FloatArray) -> float:
    """Common part of two convex footprints, as a fraction of the smaller one.

    Both are projected gnomonically about the middle of the first and
    intersected as polygons (Sutherland & Hodgman 1974, CACM 17, 32).

    Parameters
    ----------
    corners, others : float64, shape (k, 2)
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
