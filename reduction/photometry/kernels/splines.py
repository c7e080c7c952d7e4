"""Cubic B-splines on unevenly spaced knots: values at points, and integrals over pixels.

The knots are dense where a star's profile is steep, and sparse in its wings. Functions and recursion: de Boor (1978, A
Practical Guide to Splines, chapter X).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from reduction.kernels.arrays import FloatArray, IntArray

__all__ = ["ORDER", "PADDING", "axis_integrals", "axis_knots", "axis_values", "spline_values", "values_at"]

#: Functions beyond each end of an axis; their coefficients are always zero, so that a profile ends smoothly.
PADDING = 3
#: Of a cubic spline: so many functions are not zero at a point.
ORDER = 4


def axis_knots(radius: float, step: float, core: float, growth: float) -> FloatArray:
    """Knots from -radius to radius, `PADDING` more beyond each end.

    Parameters
    ----------
    radius : float
        Where the profile ends (pixel).
    step, core : float
        Distance of the knots (pixel) out to `core` (pixel).
    growth : float
        Factor from one distance to the next beyond.

    Returns
    -------
    float64, shape (m + 4,)
        Increasing, symmetric about 0 (pixel), for m functions.
    """
    distances = [step] * max(1, round(core / step))
    while sum(distances) + 0.5 * distances[-1] < radius:
        distances.append(distances[-1] * growth)
    half = np.concatenate([[0.0], np.cumsum(distances)]) * (radius / sum(distances))
    beyond = half[-1] + (half[-1] - half[-2]) * np.arange(1, PADDING + 1)
    half = np.concatenate([half, beyond])
    return np.concatenate([-half[:0:-1], half])


@njit(cache=True)
def _interval(knots: FloatArray, t: float) -> int:
    """Number of the knot before t, among those between which four functions are not zero."""
    low, high = ORDER - 1, knots.size - ORDER
    while high - low > 1:
        middle = (low + high) // 2
        if knots[middle] <= t:
            low = middle
        else:
            high = middle
    return low


@njit(cache=True)
def values_at(knots: FloatArray, t: float, out: FloatArray) -> int:
    """The four functions that are not zero at t, into `out` (4 or more,); returns the number of the first, or -1 where all are zero."""
    if not knots[ORDER - 1] <= t < knots[knots.size - ORDER]:
        return -1
    i = _interval(knots, t)
    out[0] = 1.0
    for degree in range(1, ORDER):
        saved = 0.0
        for k in range(degree):
            high, low = knots[i + k + 1], knots[i + k + 1 - degree]
            part = out[k] / (high - low)
            out[k] = saved + (high - t) * part
            saved = (t - low) * part
        out[degree] = saved
    return int(i - (ORDER - 1))


@njit(cache=True)
def spline_values(knots: FloatArray, t: float, width: float, out: FloatArray) -> tuple[int, int]:
    """Values of the functions at a point, or their integrals over a pixel about it.

    Parameters
    ----------
    knots : float64, shape (m + 4,)
    t : float
        The point (pixel).
    width : float
        Width of the pixel (pixel); 0 for the values at the point.
    out : float64, shape (m,)
        Where the values go; only those from the first to the last returned are set.

    Returns
    -------
    first, last : int
        The functions that are not zero: from first up to, not including, last.
    """
    return _values(knots, t, width, np.empty((2, ORDER + 1)), out)


@njit(cache=True)
def axis_values(knots: FloatArray, x: float, width: float, values: FloatArray, ranges: IntArray) -> None:
    """The functions that may have a coefficient, those but the padding, at or over all pixels of an axis.

    Parameters
    ----------
    knots : float64, shape (m + 4,)
    x : float
        Where the star is (pixel; the first pixel's centre is 0).
    width : float
        Width of a pixel's sensitive part (pixel); 0 for the values at the pixels' centres.
    values : float64, shape (size, m - 2 * PADDING)
        Where the values go; only those in range are set.
    ranges : int64, shape (size, 2)
        Where the first function that is not zero goes, and the one after the last.
    """
    m = values.shape[1]
    sums, full = np.empty((2, ORDER + 1)), np.empty(m + 2 * PADDING)
    for p in range(values.shape[0]):
        first, last = _values(knots, p - x, width, sums, full)
        ranges[p, 0], ranges[p, 1] = max(first - PADDING, 0), min(last - PADDING, m)
        for a in range(ranges[p, 0], ranges[p, 1]):
            values[p, a] = full[a + PADDING]


@njit(cache=True)
def _values(knots: FloatArray, t: float, width: float, sums: FloatArray, out: FloatArray) -> tuple[int, int]:
    """What `spline_values` gives; sums (2, 5): work space."""
    if width <= 0.0:
        first = values_at(knots, t, sums[0])
        if first < 0:
            return 0, 0
        for k in range(ORDER):
            out[first + k] = sums[0, k]
        return first, first + ORDER
    left, right = max(t - 0.5 * width, knots[ORDER - 1]), min(t + 0.5 * width, knots[knots.size - ORDER])
    if right <= left:
        return 0, 0
    begin, end = _sums_at(knots, left, sums[0]), _sums_at(knots, right, sums[1])
    for a in range(begin, end + ORDER):
        # all of a function lies before a point, or its sum's part, or nothing
        until = 1.0 if a < end else sums[1, a - end]
        before = sums[0, a - begin] if a < begin + ORDER else 0.0
        out[a] = (until - before) * (knots[a + ORDER] - knots[a]) / ORDER
    return begin, end + ORDER


@njit(cache=True)
def _sums_at(knots: FloatArray, t: float, out: FloatArray) -> int:
    """Integrals up to t, as parts of the whole, of the four functions that are not zero there, into `out` (5,); the first's number.

    The integral of a function is the sum of the splines of the next degree from its number on (de Boor, X.6).
    """
    i = _interval(knots, t)
    out[0] = 1.0
    for degree in range(1, ORDER + 1):
        saved = 0.0
        for k in range(degree):
            high, low = knots[i + k + 1], knots[i + k + 1 - degree]
            part = out[k] / (high - low)
            out[k] = saved + (high - t) * part
            saved = (t - low) * part
        out[degree] = saved
    for k in range(ORDER - 1, 0, -1):
        out[k] += out[k + 1]
    for k in range(ORDER):
        out[k] = out[k + 1]
    return int(i - (ORDER - 1))


def axis_integrals(knots: FloatArray) -> FloatArray:
    """Integral of each function over all of the axis.

    Parameters
    ----------
    knots : float64, shape (m + 4,)
        Knots (pixel).

    Returns
    -------
    float64, shape (m,)
        Pixel.
    """
    return np.asarray((knots[ORDER:] - knots[:-ORDER]) / ORDER, dtype=np.float64)
