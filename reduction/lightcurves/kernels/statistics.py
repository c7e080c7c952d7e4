"""Statistics of a light curve: level, scatter, and tests for variability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from reduction.kernels.arrays import FloatArray, IntArray
from reduction.kernels.compiled import scatter_about

__all__ = ["LightCurveStatistics", "light_curve_statistics"]


@dataclass(frozen=True)
class LightCurveStatistics:
    """Statistics of each star; NaN where too few values.

    Attributes
    ----------
    n : int, shape (s,)
        Number of finite values.
    mean : float64, shape (s,)
        Mean weighted by ``1 / err^2`` (mag); from 1 value.
    median : float64, shape (s,)
        Median (mag); from 1 value.
    rms : float64, shape (s,)
        Standard deviation about the plain mean, n - 1 (mag); from 2 values.
    mad_rms : float64, shape (s,)
        1.4826 times the median absolute deviation from the median (mag); from 2 values.
    expected_rms : float64, shape (s,)
        Root of the mean squared error (mag); from 1 value.
    chi2_dof : float64, shape (s,)
        Chi-square about the weighted mean per degree of freedom, 1 for a constant star with true errors; from 2 values.
    eta : float64, shape (s,)
        Von Neumann (1941, Ann. Math. Stat. 12, 367): mean square successive difference over variance, about 2 for white noise and
        less for smooth variation; from 3 values.
    """

    n: IntArray
    mean: FloatArray
    median: FloatArray
    rms: FloatArray
    mad_rms: FloatArray
    expected_rms: FloatArray
    chi2_dof: FloatArray
    eta: FloatArray


def light_curve_statistics(star: ArrayLike, time: ArrayLike, mag: ArrayLike, err: ArrayLike, n_star: int) -> LightCurveStatistics:
    """Statistics of many light curves at once.

    Parameters
    ----------
    star : int, shape (rows,)
        Star of each value, 0 to n_star - 1, in any order.
    time : float64, shape (rows,)
        Time of each value; only its order counts.
    mag, err : float64, shape (rows,)
        Magnitude and error; values that are not finite or whose error is not positive are ignored.
    n_star : int
        Number of stars.
    """
    stars = np.asarray(star, dtype=np.int64)
    times, mags, errs = (np.asarray(v, dtype=np.float64) for v in (time, mag, err))
    rows = np.flatnonzero(np.isfinite(mags) & np.isfinite(errs) & (errs > 0))
    rows = rows[np.lexsort((times[rows], stars[rows]))]
    ends = np.searchsorted(stars[rows], np.arange(n_star + 1))
    table = _all_stars(ends, mags[rows], errs[rows])
    return LightCurveStatistics(np.diff(ends), *table)


@njit(cache=True)
def _all_stars(ends, mag, err):  # type: ignore[no-untyped-def]
    out = np.full((7, ends.size - 1), np.nan)
    for i in range(ends.size - 1):
        if ends[i + 1] > ends[i]:
            out[:, i] = _one_star(mag[ends[i] : ends[i + 1]], err[ends[i] : ends[i + 1]])
    return out


@njit(cache=True)
def _one_star(mag, err):  # type: ignore[no-untyped-def]
    out = np.full(7, np.nan)
    n = mag.size
    weight = 1 / err**2
    mean, median = np.sum(weight * mag) / np.sum(weight), np.median(mag)
    out[0], out[1], out[4] = mean, median, np.sqrt(np.mean(err**2))
    if n < 2:
        return out
    # About the median first: squares of magnitudes near 12 would cost digits.
    y = mag - median
    y -= np.mean(y)
    variance = np.sum(y**2) / (n - 1)
    out[2] = np.sqrt(variance)
    out[3] = scatter_about(mag, median)
    delta = (mag - mean) / err
    out[5] = np.sum(delta**2) / (n - 1)
    if n >= 3 and variance > 0:
        out[6] = np.sum(np.diff(y) ** 2) / (n - 1) / variance
    return out
