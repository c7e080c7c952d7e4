"""Robust mean magnitudes of stars, and how far one set of them is from the next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from reduction.kernels.arrays import FloatArray, IntArray
from reduction.kernels.compiled import scatter_about

__all__ = ["Averages", "average", "settled"]


@dataclass(frozen=True)
class Averages:
    """Mean magnitude of each star over its frames.

    Attributes
    ----------
    mag : float64, shape (n,)
        Robust weighted mean; NaN without any finite value.
    err : float64, shape (n,)
        Its standard error from the scatter met, or from the given errors where these are larger (mag).
    scatter : float64, shape (n,)
        Scatter of a single value, 1.4826 MAD about `mag` (mag); NaN below 3 values.
    n : int, shape (n,)
        Number of finite values.
    """

    mag: FloatArray
    err: FloatArray
    scatter: FloatArray
    n: IntArray


def average(star: ArrayLike, mag: ArrayLike, err: ArrayLike, n_star: int, *, clip: float = 5.0) -> Averages:
    """Robust mean magnitude of each star.

    Weighted by ``1 / err^2`` and Tukey's biweight about the median: a few wild values count for nothing, and a dip moves the mean by
    no more than its share of the frames.

    Parameters
    ----------
    star : int, shape (rows,)
        Star of each row, 0 to n_star - 1.
    mag, err : float64, shape (rows,)
        Magnitude and error; rows that are not finite are ignored.
    clip : float
        Deviation, in units of 1.4826 MAD, at which the weight is zero.
    """
    stars = np.asarray(star, dtype=np.int64)
    mags, errs = np.asarray(mag, dtype=np.float64), np.asarray(err, dtype=np.float64)
    rows = np.flatnonzero(np.isfinite(mags) & np.isfinite(errs) & (errs > 0))
    rows = rows[np.argsort(stars[rows], kind="stable")]
    ends = np.searchsorted(stars[rows], np.arange(n_star + 1))
    return Averages(*_average(ends, mags[rows], errs[rows], clip))


@njit(cache=True)
def _average(ends, mag, err, clip):  # type: ignore[no-untyped-def]
    n_star = ends.size - 1
    mean, error, scatter = np.full(n_star, np.nan), np.full(n_star, np.nan), np.full(n_star, np.nan)
    number = np.diff(ends)
    for i in range(n_star):
        if number[i] == 0:
            continue
        y, variance = mag[ends[i] : ends[i + 1]], err[ends[i] : ends[i + 1]] ** 2
        centre = np.median(y)
        scale = max(scatter_about(y, centre), np.sqrt(np.median(variance)) * 0.1, 1e-9)
        for _ in range(10):
            total, moment = 0.0, 0.0
            for j in range(y.size):
                u = (y[j] - centre) / (clip * scale)
                weight = (1 - u**2) ** 2 / variance[j] if abs(u) < 1 else 0.0
                total += weight
                moment += weight * y[j]
            if total <= 0 or moment / total == centre:
                break
            centre = moment / total
        mean[i] = centre
        expected = 1 / np.sqrt(np.sum(1 / variance))
        error[i] = expected
        if number[i] >= 3:
            scatter[i] = scatter_about(y, centre) * np.sqrt(number[i] / (number[i] - 1))
            error[i] = max(expected, scatter[i] / np.sqrt(number[i]))
    return mean, error, scatter, number


def settled(old: ArrayLike, new: ArrayLike, err: ArrayLike | None = None) -> float:
    """Change from one reference to the next.

    Parameters
    ----------
    old, new : float64, shape (n,)
        Magnitudes of the same stars; a common shift is taken out, since the fit's constant absorbs it.
    err : float64, shape (n,), optional
        Error of each; only the better half of the stars counts.

    Returns
    -------
    float
        Median of the absolute change (mag); infinite when no star is in both.
    """
    before, after = np.asarray(old, dtype=np.float64), np.asarray(new, dtype=np.float64)
    both = np.isfinite(before) & np.isfinite(after)
    if err is not None and both.any():
        errs = np.asarray(err, dtype=np.float64)
        both &= ~(errs > np.median(errs[both]))
    if not both.any():
        return np.inf
    change = after[both] - before[both]
    return float(np.median(np.abs(change - np.median(change))))
