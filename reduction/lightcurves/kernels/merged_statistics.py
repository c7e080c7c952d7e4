"""Statistics of light curves that are kept as sums: a night is added, or taken off, whatever the number of nights before.

The sums of a star are of its values less a centre that never changes, in magnitudes, or in fluxes where it is faint. Median and scatter
about it come from counts in bins of the value's distance from the centre, narrow in the middle and wider outwards: to some hundredths of
the scatter.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numba import njit
from numpy.typing import ArrayLike
from scipy.ndimage import median_filter

from reduction.kernels.arrays import BoolArray, FloatArray, IntArray
from reduction.kernels.robust import MAD_TO_SIGMA
from reduction.lightcurves.kernels.statistics import FAINT, POGSON, LightCurveStatistics

__all__ = ["N_BIN", "Frames", "StarSums", "frames_of", "frames_of_reference", "star_sums", "statistics_of"]

N_BIN = 24
"""Bins of the distance from the centre."""
_PER_WIDTH = 3.0
"""Bins for each width next to the centre; the last ones begin at 20 widths."""
_MOST = 32767
"""A night has no more values in a bin: so many go into two bytes."""
_LEAST_WIDTH = 1e-5
_ALIKE = 51
"""Stars of like magnitude that say what error one has."""


@dataclass(frozen=True)
class Frames:
    """What the sums of n stars are about, once for all.

    Attributes
    ----------
    of_flux : bool, shape (n,)
        Whether the values are fluxes: the star is faint.
    centre, width : float64, shape (n,)
        Centre (mag, or the flux on the scale where magnitude 25 is 1), and the unit of the bins.
    """

    of_flux: BoolArray
    centre: FloatArray
    width: FloatArray

    @classmethod
    def none(cls, n: int) -> Frames:
        """Of stars that have none: NaN."""
        return cls(np.zeros(n, dtype=np.bool_), np.full(n, np.nan), np.full(n, np.nan))

    def at(self, place: IntArray) -> Frames:
        """Those at some places, none at place -1."""
        there, found = place >= 0, Frames.none(place.size)
        for one in fields(self):
            getattr(found, one.name)[there] = getattr(self, one.name)[place[there]]
        return found

    def where(self, chosen: BoolArray, other: Frames) -> Frames:
        """These where chosen, the other ones elsewhere."""
        return Frames(*(np.where(chosen, getattr(self, one.name), getattr(other, one.name)) for one in fields(self)))


@dataclass(frozen=True)
class StarSums:
    """Sums of n stars; all but `count` of shape (n,) and float64, so that they can be added up and taken off.

    Attributes
    ----------
    n : number of values
    weight, first, second : sums of 1, d, d^2 over the squared errors, d the distance from the centre
    plain, square : sums of d and d^2
    variance : sum of the squared errors
    pairs, steps : pairs of values that follow each other within a night, and the sum of their squared differences
    count : int, shape (n, N_BIN)
        Values in each bin.
    """

    n: FloatArray
    weight: FloatArray
    first: FloatArray
    second: FloatArray
    plain: FloatArray
    square: FloatArray
    variance: FloatArray
    pairs: FloatArray
    steps: FloatArray
    count: IntArray

    @classmethod
    def none(cls, n_star: int) -> StarSums:
        """Of no values."""
        return cls(*np.zeros((9, n_star)), np.zeros((n_star, N_BIN), dtype=np.int64))  # type: ignore[call-arg]

    def at(self, place: IntArray) -> StarSums:
        """Those at some places, none at place -1."""
        there, found = place >= 0, StarSums.none(place.size)
        for one in fields(self):
            getattr(found, one.name)[there] = getattr(self, one.name)[place[there]]
        return found

    def rounded(self) -> StarSums:
        """As a night's are kept, in four bytes: so added, they can be taken off again to the last bit of a season's."""
        return StarSums(*(values.astype(np.float32).astype(values.dtype) for values in (getattr(self, one.name) for one in fields(self))))

    def __add__(self, other: StarSums) -> StarSums:
        """With the values of the others."""
        return StarSums(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    def __sub__(self, other: StarSums) -> StarSums:
        """Without the values of the others, which are among these."""
        return StarSums(*(getattr(self, one.name) - getattr(other, one.name) for one in fields(self)))


def frames_of(star: ArrayLike, mag: ArrayLike, flux: ArrayLike, flux_err: ArrayLike, *, n_star: int) -> Frames:
    """Centres and widths, from the first night of a star: its median, and the scatter about it.

    Parameters
    ----------
    star : int, shape (rows,)
        Star of each value, 0 to n_star - 1.
    mag, flux, flux_err : float64, shape (rows,)
        As in `star_sums`.
    n_star : int

    Returns
    -------
    Frames
        NaN for a star without a value.
    """
    stars = np.asarray(star, dtype=np.int64)
    mags, fluxes, errors = (np.asarray(v, dtype=np.float64) for v in (mag, flux, flux_err))
    rows = np.flatnonzero(np.isfinite(fluxes) & np.isfinite(errors) & (errors > 0))
    rows = rows[np.argsort(stars[rows], kind="stable")]
    ends = np.searchsorted(stars[rows], np.arange(n_star + 1))
    of_flux, centre, width = _frames(ends, mags[rows], fluxes[rows], errors[rows])
    return Frames(of_flux, centre, width)


def frames_of_reference(mag: ArrayLike, mag_err: ArrayLike, scatter: ArrayLike, n_frame: ArrayLike) -> Frames:
    """Centres and widths from a reference: the same for every night that is fitted to it, whichever is worked first.

    Parameters
    ----------
    mag, mag_err : float64, shape (n,)
        Magnitude and error of each star in the reference; NaN where it has none.
    scatter : float64, shape (n,)
        Scatter of a measurement about it; NaN where one frame made it.
    n_frame : int, shape (n,)
        Measurements averaged.
    """
    mags, errors, scatters = (np.asarray(v, dtype=np.float64) for v in (mag, mag_err, scatter))
    typical = _typical(mags, errors * np.sqrt(np.maximum(np.asarray(n_frame, dtype=np.float64), 1.0)))
    with np.errstate(invalid="ignore"):
        of_flux = POGSON / typical < FAINT
        width = np.where(of_flux, typical, np.fmax(np.fmax(scatters, typical), _LEAST_WIDTH))
        light = 10.0 ** (0.4 * (25.0 - mags))
    return Frames(of_flux, np.where(of_flux, light, mags), np.where(of_flux, light * np.minimum(width, 1.0) / POGSON, width))


def _typical(mag: FloatArray, error: FloatArray) -> FloatArray:
    """The error of stars of like magnitude: one that varies is not faint for it."""
    order = np.argsort(mag, kind="stable")
    order = order[np.isfinite(mag[order]) & np.isfinite(error[order])]
    typical = np.full(mag.size, np.nan)
    typical[order] = median_filter(error[order], min(_ALIKE, order.size), mode="nearest") if order.size else 0.0
    return typical


def star_sums(
    star: ArrayLike, time: ArrayLike, mag: ArrayLike, err: ArrayLike, flux: ArrayLike, flux_err: ArrayLike, frames: Frames
) -> StarSums:
    """Sums of one night's values.

    Parameters
    ----------
    star : int, shape (rows,)
        Star of each value, index into `frames`, in any order.
    time : float64, shape (rows,)
        Time of each value; only its order counts.
    mag, err, flux, flux_err : float64, shape (rows,)
        As in `light_curve_statistics`: values that are not finite or whose error is not positive are ignored.
    frames : Frames
        Of n stars.
    """
    stars = np.asarray(star, dtype=np.int64)
    mags, errs, fluxes, errors = (np.asarray(v, dtype=np.float64) for v in (mag, err, flux, flux_err))
    faint = frames.of_flux[stars]
    value, error = np.where(faint, fluxes, mags), np.where(faint, errors, errs)
    rows = np.flatnonzero(np.isfinite(value) & np.isfinite(error) & (error > 0) & np.isfinite(frames.centre[stars]))
    rows = rows[np.lexsort((np.asarray(time, dtype=np.float64)[rows], stars[rows]))]
    ends = np.searchsorted(stars[rows], np.arange(frames.centre.size + 1))
    sums, count = _sums(ends, value[rows], error[rows], frames.centre, frames.width)
    return StarSums(*(*sums, count))


def statistics_of(sums: StarSums, frames: Frames) -> LightCurveStatistics:
    """What sums come to: as `light_curve_statistics` would find of all values, but for median and scatter about it, which are of the bins.

    Parameters
    ----------
    sums : StarSums
    frames : Frames
        What they are about.

    Returns
    -------
    LightCurveStatistics
        `eta` is of values that follow each other within a night.
    """
    n = sums.n
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(n > 0, frames.centre + sums.first / sums.weight, np.nan)
        spread = np.where(n > 1, np.maximum(sums.square - sums.plain**2 / n, 0.0) / (n - 1), np.nan)
        chi2 = np.where(n > 1, np.maximum(sums.second - sums.first**2 / sums.weight, 0.0) / (n - 1), np.nan)
        expected = np.where(n > 0, np.sqrt(sums.variance / n), np.nan)
        eta = np.where((sums.pairs > 1) & (spread > 0), sums.steps / sums.pairs / spread, np.nan)
        away, mad = _of_bins(sums.count, _EDGES)
        median, scatter = frames.centre + away * frames.width, np.where(n > 1, MAD_TO_SIGMA * mad * frames.width, np.nan)
        # Of fluxes, as magnitudes at their mean.
        bright = frames.of_flux & (mean > 0)
        factor = np.where(frames.of_flux, np.where(bright, POGSON / mean, np.nan), 1.0)
        known = ~frames.of_flux | bright
        as_mag = np.where(frames.of_flux, 25.0 - 2.5 * np.log10(np.where(bright, mean, np.nan)), mean)
        middle = np.where(frames.of_flux, 25.0 - 2.5 * np.log10(np.where(bright & (median > 0), median, np.nan)), median)
    chi2, eta = (np.where(known, values, np.nan) for values in (chi2, eta))
    return LightCurveStatistics(
        n.astype(np.int64), as_mag, middle, np.sqrt(spread) * factor, scatter * factor, expected * factor, chi2, eta
    )  # fmt: skip


@njit(cache=True)
def _frames(ends, mag, flux, error):  # type: ignore[no-untyped-def]
    n_star = ends.size - 1
    of_flux = np.zeros(n_star, dtype=np.bool_)
    centre, width = np.full(n_star, np.nan), np.full(n_star, np.nan)
    for i in range(n_star):
        mine = slice(ends[i], ends[i + 1])
        if ends[i + 1] == ends[i]:
            continue
        ratio = np.median(flux[mine] / error[mine])
        of_flux[i] = ratio < FAINT
        value = flux[mine] if of_flux[i] else mag[mine][np.isfinite(mag[mine])]
        if value.size == 0:
            continue
        centre[i] = np.median(value)
        typical = np.median(error[mine]) if of_flux[i] else POGSON / ratio
        width[i] = max(MAD_TO_SIGMA * np.median(np.abs(value - centre[i])), typical, _LEAST_WIDTH)
    return of_flux, centre, width


@njit(cache=True)
def _sums(ends, value, error, centre, width):  # type: ignore[no-untyped-def]
    n_star = ends.size - 1
    sums, count = np.zeros((9, n_star)), np.zeros((n_star, N_BIN), dtype=np.int64)
    for i in range(n_star):
        for j in range(ends[i], ends[i + 1]):
            d, w = value[j] - centre[i], 1.0 / error[j] ** 2
            sums[0, i] += 1.0
            sums[1, i] += w
            sums[2, i] += w * d
            sums[3, i] += w * d * d
            sums[4, i] += d
            sums[5, i] += d * d
            sums[6, i] += error[j] ** 2
            if j > ends[i]:
                sums[7, i] += 1.0
                sums[8, i] += (value[j] - value[j - 1]) ** 2
            k = int(np.floor(np.arcsinh(d / width[i]) * _PER_WIDTH)) + N_BIN // 2
            k = min(max(k, 0), N_BIN - 1)
            count[i, k] = min(count[i, k] + 1, _MOST)
    return sums, count


#: Where the bins begin and end, in widths from the centre.
_EDGES = np.sinh((np.arange(N_BIN + 1) - N_BIN // 2) / _PER_WIDTH)


@njit(cache=True)
def _of_bins(count, edges):  # type: ignore[no-untyped-def]
    """Median, and median distance from it, in widths, of values that are spread evenly within their bins."""
    n_star = count.shape[0]
    median, mad = np.full(n_star, np.nan), np.full(n_star, np.nan)
    below = np.zeros(edges.size)
    for i in range(n_star):
        for k in range(count.shape[1]):
            below[k + 1] = below[k] + count[i, k]
        total = below[-1]
        if total <= 0:
            continue
        k = 0
        while below[k + 1] < 0.5 * total:
            k += 1
        median[i] = edges[k] + (edges[k + 1] - edges[k]) * (0.5 * total - below[k]) / count[i, k]
        low, high = 0.0, edges[-1] - edges[0]
        for _ in range(40):
            middle = 0.5 * (low + high)
            inside = _lower(below, edges, median[i] + middle) - _lower(below, edges, median[i] - middle)
            if inside < 0.5 * total:
                low = middle
            else:
                high = middle
        mad[i] = 0.5 * (low + high)
    return median, mad


@njit(cache=True)
def _lower(below, edges, x):  # type: ignore[no-untyped-def]
    """Values below x."""
    if x <= edges[0]:
        return 0.0
    if x >= edges[-1]:
        return below[-1]
    k = np.searchsorted(edges, x, side="right") - 1
    return below[k] + (below[k + 1] - below[k]) * (x - edges[k]) / (edges[k + 1] - edges[k])
