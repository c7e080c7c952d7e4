"""Statistics of a light curve: level, scatter, and tests for variability."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from reduction.kernels.arrays import FloatArray, IntArray
from reduction.kernels.compiled import scatter_about

__all__ = ["FAINT", "LightCurveStatistics", "light_curve_statistics"]

#: Median signal-to-noise ratio below which a star's statistics are of its fluxes. Above, the two agree to a percent.
FAINT = 10.0
POGSON = 2.5 / np.log(10.0)


@dataclass(frozen=True)
class LightCurveStatistics:
    """Statistics of each star; NaN where too few values.

    Attributes
    ----------
    n : int, shape (s,)
        Number of values that count.
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


def light_curve_statistics(
    star: ArrayLike, time: ArrayLike, mag: ArrayLike, err: ArrayLike, flux: ArrayLike, flux_err: ArrayLike, *, n_star: int
) -> LightCurveStatistics:
    """Statistics of many light curves at once.

    Those of a faint star, whose median signal-to-noise ratio is below `FAINT`, are of its fluxes, and are turned into magnitudes at their
    mean: points without a positive flux count, and without them such a star would look too bright, and too quiet by a third.

    Parameters
    ----------
    star : int, shape (rows,)
        Star of each value, 0 to n_star - 1, in any order.
    time : float64, shape (rows,)
        Time of each value; only its order counts.
    mag, err : float64, shape (rows,)
        Magnitude and error.
    flux, flux_err : float64, shape (rows,)
        Flux, on the scale where magnitude 25 is 1, and error; values that are not finite or whose error is not positive are ignored.
    n_star : int
        Number of stars.

    Returns
    -------
    LightCurveStatistics
        For a faint star whose mean flux is not positive only n.
    """
    stars = np.asarray(star, dtype=np.int64)
    values = [np.asarray(v, dtype=np.float64) for v in (mag, err, flux, flux_err)]
    rows = np.flatnonzero(np.isfinite(values[2]) & np.isfinite(values[3]) & (values[3] > 0))
    rows = rows[np.lexsort((np.asarray(time, dtype=np.float64)[rows], stars[rows]))]
    ends = np.searchsorted(stars[rows], np.arange(n_star + 1))
    table = _all_stars(ends, *(value[rows] for value in values))
    n, *others = table
    return LightCurveStatistics(n.astype(np.int64), *others)


@njit(cache=True)
def _all_stars(ends, mag, err, flux, flux_err):  # type: ignore[no-untyped-def]
    out = np.full((8, ends.size - 1), np.nan)
    for i in range(ends.size - 1):
        mine = slice(ends[i], ends[i + 1])
        out[0, i] = ends[i + 1] - ends[i]
        if out[0, i] == 0:
            continue
        if np.median(flux[mine] / flux_err[mine]) < FAINT:
            out[1:, i] = _faint_star(flux[mine], flux_err[mine])
            continue
        use = np.isfinite(mag[mine]) & np.isfinite(err[mine]) & (err[mine] > 0)
        out[0, i] = np.count_nonzero(use)
        if out[0, i] > 0:
            out[1:, i] = _one_star(mag[mine][use], err[mine][use])
    return out


@njit(cache=True)
def _faint_star(flux, err):  # type: ignore[no-untyped-def]
    """Statistics of fluxes, as magnitudes about their mean."""
    out = _one_star(flux, err)
    mean, median = out[0], out[1]
    if not mean > 0.0:
        return np.full(7, np.nan)
    out[0] = 25.0 - 2.5 * np.log10(mean)
    out[1] = 25.0 - 2.5 * np.log10(median) if median > 0.0 else np.nan
    out[2:5] *= POGSON / mean
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
