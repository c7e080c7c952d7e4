"""Robust means and scatters, compiled; `robust` itself stays free of numba for whoever needs no compiler."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from reduction.kernels import robust

__all__ = ["clipped_mean", "scatter_about"]

_SAMPLE = 20_000
_ITERATIONS = 20
_SETTLED = 1e-4

scatter_about = njit(cache=True)(robust.scatter_about)


# Only the order of the sums is free: values are finite here.
@njit(cache=True, fastmath={"reassoc", "contract", "nsz"}, forceinline=True)
def _moments(values: NDArray[np.floating], centre: float, limit: float) -> tuple[float, float, float]:
    """Number, and sums of the first and second powers about the centre, of the values within the limit of it."""
    n, first, second = 0.0, 0.0, 0.0
    for i in range(values.size):
        away = np.float64(values[i]) - centre
        kept = 1.0 if abs(away) <= limit else 0.0
        n += kept
        first += kept * away
        second += kept * away * away
    return n, first, second


@njit(cache=True)
def clipped_mean(values: NDArray[np.floating], clip: float) -> tuple[float, float]:
    """Clipped mean and standard deviation of values.

    Parameters
    ----------
    values : float64 or float32, shape (n,)
        Finite, at least one.
    clip : float
        Limit in standard deviations, symmetric about the mean; started from median and MAD.

    Returns
    -------
    mean, scatter : float
        In the unit of the values.
    """
    # Some thousands of values are enough to start from.
    sample = values[:: max(values.size // _SAMPLE, 1)].astype(np.float64)
    mean = float(np.median(sample))
    # On integer data the MAD is a multiple of the step, so the wider percentiles have a say.
    ends = np.percentile(sample, np.array([95.0, 5.0]))
    scatter = max(scatter_about(sample, mean), (ends[0] - ends[1]) / 3.29)
    for _ in range(_ITERATIONS):
        n, first, second = _moments(values, mean, clip * scatter)
        if n == 0.0:
            break
        new_mean = mean + first / n
        new_scatter = math.sqrt(max(second / n - (first / n) ** 2, 0.0))
        if abs(new_mean - mean) <= _SETTLED * scatter and abs(new_scatter - scatter) <= _SETTLED * scatter:
            break
        mean, scatter = new_mean, new_scatter
    return mean, scatter
