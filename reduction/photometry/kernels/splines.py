"""Cubic B-splines on unevenly spaced knots: values at points, and integrals over pixels.

The knots are dense where a star's profile is steep, and sparse in its wings. Functions and recursion: de Boor (1978, A
Practical Guide to Splines, chapter X).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from reduction.kernels.arrays import FloatArray

__all__ = ["ORDER", "PADDING", "axis_integrals", "axis_knots", "spline_values", "values_at"]

#: Functions beyond each end of an axis; their coefficients are always zero, so that a profile ends smoothly.
PADDING = 3
#: Of a cubic spline: so many functions are not zero at a point.
ORDER = 4
GAUSS = 0.5 / np.sqrt(3.0)  # of an interval's length: two points off its middle integrate a cubic exactly


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
def values_at(knots: FloatArray, t: float, out: FloatArray) -> int:
    """The four functions that are not zero at t, into `out` (4,); returns the number of the first, or -1 where all are zero."""
    if not knots[ORDER - 1] <= t < knots[knots.size - ORDER]:
        return -1
    i = np.searchsorted(knots, t, side="right") - 1
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
    four = np.empty(ORDER)
    if width <= 0.0:
        first = values_at(knots, t, four)
        if first < 0:
            return 0, 0
        for k in range(ORDER):
            out[first + k] = four[k]
        return first, first + ORDER
    left, right = max(t - 0.5 * width, knots[ORDER - 1]), min(t + 0.5 * width, knots[knots.size - ORDER])
    if right <= left:
        return 0, 0
    i = np.searchsorted(knots, left, side="right") - 1
    first, last = i - (ORDER - 1), i - (ORDER - 1)
    while left < right and i < knots.size - ORDER:
        end = min(right, knots[i + 1])
        while last < i + 1:
            out[last] = 0.0
            last += 1
        middle, length = 0.5 * (left + end), end - left
        for point in (middle - GAUSS * length, middle + GAUSS * length):
            here = values_at(knots, point, four)
            if here >= 0:
                for k in range(ORDER):
                    out[here + k] += 0.5 * length * four[k]
        left = end
        i += 1
    return first, last


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
