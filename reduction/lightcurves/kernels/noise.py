"""Scatter against magnitude, and what follows from it: typical noise, and the aperture that suits a star.

A star is always judged by the stars like it, never by its own behaviour: choosing the aperture in which a star itself scatters least
prefers the one that hides its variations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reduction.kernels.arrays import FloatArray, IntArray
from reduction.kernels.robust import scatter_about

__all__ = ["FrameExcess", "NoiseModel", "best_slot", "excess_scatter", "frame_excess", "noise_model"]

#: Error of a variance from the median of n absolute values, times the root of n and over the variance.
CHANCE = 2.33
#: Errors by which a frame may be off the others' value and still be drawn to it.
FAR = 3.0
#: Part of the least variance by which an excess may be negative.
LEAST_LEFT = 0.9
#: Shares of the light in the largest aperture at which one class of crowding ends and the next begins.
CROWDING = (0.2, 0.5, 0.8, 0.95)


@dataclass(frozen=True)
class NoiseModel:
    """Typical scatter as a function of magnitude.

    Attributes
    ----------
    mag : float64, shape (b,)
        Median magnitude of each bin, rising.
    scatter : float64, shape (b,)
        Smoothed median scatter of each bin (mag).
    n : int, shape (b,)
        Stars in each bin.
    """

    mag: FloatArray
    scatter: FloatArray
    n: IntArray

    def at(self, mag: ArrayLike) -> FloatArray:
        """Scatter (mag) at `mag`: log-linear between bins, constant beyond the ends; NaN for NaN or without any bin."""
        wanted = np.asarray(mag, dtype=np.float64)
        if self.mag.size == 0:
            return np.full(wanted.shape, np.nan)
        return np.asarray(np.exp(np.interp(wanted, self.mag, np.log(self.scatter))))


def noise_model(mag: ArrayLike, scatter: ArrayLike, *, width: float = 0.5, min_stars: int = 7) -> NoiseModel:
    """Median scatter per magnitude bin, smoothed.

    Parameters
    ----------
    mag, scatter : float64, shape (n,)
        Mean magnitude and scatter of each star; pairs that are not finite or not positive are ignored.
    width : float
        Width of a bin (mag).
    min_stars : int
        A bin with fewer stars is joined with the next fainter ones (the last one with the one before).

    Returns
    -------
    NoiseModel
        Empty when no star is usable.
    """
    mags, scatters = np.asarray(mag, dtype=np.float64), np.asarray(scatter, dtype=np.float64)
    good = np.isfinite(mags) & np.isfinite(scatters) & (scatters > 0)
    order = np.argsort(mags[good], kind="stable")
    mags, scatters = mags[good][order], scatters[good][order]
    bins = _join(np.floor(mags / width).astype(np.int64), min_stars)
    n = np.array([stop - start for start, stop in bins], dtype=np.int64)
    centre = np.array([np.median(mags[start:stop]) for start, stop in bins])
    median = np.array([np.median(scatters[start:stop]) for start, stop in bins])
    return NoiseModel(centre, _smooth(centre, median, n, width), n)


def _join(number: IntArray, min_stars: int) -> list[tuple[int, int]]:
    """Ranges of the sorted stars that form the bins."""
    edges = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), number.size] if number.size else [0]
    bins: list[tuple[int, int]] = []
    start = 0
    for stop in edges[1:]:
        if stop - start >= min_stars or (stop == number.size and not bins):
            bins.append((start, stop))
            start = stop
    if start < number.size:
        bins[-1] = (bins[-1][0], number.size)
    return bins


def _smooth(mag: FloatArray, scatter: FloatArray, n: IntArray, width: float) -> FloatArray:
    """Local straight lines in log scatter, Gaussian in magnitude, bins weighted by their stars."""
    log = np.log(scatter)
    out = np.empty_like(log)
    for i, centre in enumerate(mag):
        offset = (mag - centre) / width
        weight = n * np.exp(-0.5 * offset**2)
        total, first, second = weight.sum(), weight @ offset, weight @ offset**2
        determinant = total * second - first**2
        if determinant > 1e-6 * total**2:
            out[i] = (second * (weight @ log) - first * (weight @ (offset * log))) / determinant
        else:
            out[i] = weight @ log / total
    return np.exp(out)


def best_slot(
    mag: ArrayLike,
    scatter: ArrayLike,
    share: ArrayLike | None = None,
    alone: ArrayLike | None = None,
    *,
    width: float = 0.5,
    min_stars: int = 7,
) -> IntArray:
    """Photometry slot of each star: the one in which dips of stars of its magnitude and crowding stand out best from their scatter.

    What a star does shows in an aperture as its share of the light there, and a neighbour's constant light lowers the scatter in
    magnitudes by the same factor. Scatter over share is the smallest dip of the star itself that could be seen.

    Parameters
    ----------
    mag : float64, shape (n,)
        Mean magnitude of each star, the same for all slots.
    scatter : float64, shape (s, n)
        Cross-fitted scatter of each star in each slot (mag); NaN: unknown.
    share : float64, shape (s, n), optional
        The star's own part of what each slot measures, 1 without; NaN: unknown.
    alone : float64, shape (n,), optional
        The star's own part of the light in the largest aperture: how crowded it is; without it, that of the last slot's share. A star of
        unknown crowding is judged with all the others.
    width, min_stars
        As in `noise_model`; a class of crowding with fewer stars is joined with the next less crowded one.

    Returns
    -------
    int, shape (n,)
        Slot of each star (its row in `scatter`); stars without magnitude get the slot that is best for most; -1 where nothing is known.
    """
    mags, scatters = np.asarray(mag, dtype=np.float64), np.asarray(scatter, dtype=np.float64)
    shares = np.ones(scatters.shape) if share is None else np.asarray(share, dtype=np.float64)
    noise = scatters / np.where(shares > 0, shares, np.nan)
    own = shares[-1] if alone is None else np.asarray(alone, dtype=np.float64)
    group = _crowding(own, np.isfinite(mags) & np.isfinite(noise).any(axis=0), min_stars)
    out = _choose(mags, noise, np.ones(mags.shape, dtype=np.bool_), width, min_stars)
    for value in np.unique(group[group >= 0]):
        inside = group == value
        out[inside] = _choose(mags, noise, inside, width, min_stars)[inside]
    known = out[np.isfinite(mags) & (out >= 0)]
    out[~np.isfinite(mags)] = np.bincount(known).argmax() if known.size else -1
    return out


def _crowding(share: FloatArray, usable: NDArray[np.bool_], min_stars: int) -> IntArray:
    """Class of each star by its share of the light in the largest aperture, 0 the most crowded; -1 where that is unknown."""
    group = np.where(np.isfinite(share), np.digitize(share, CROWDING), -1)

    def few(value: int) -> bool:
        return int(np.count_nonzero(usable & (group == value))) < min_stars

    for value in range(len(CROWDING)):
        if few(value):
            group[group == value] = value + 1
    if few(len(CROWDING)):
        group[group == len(CROWDING)] = group.max(initial=-1, where=group < len(CROWDING))
    return group


def _choose(mag: FloatArray, scatter: FloatArray, inside: NDArray[np.bool_], width: float, min_stars: int) -> IntArray:
    # Slots are compared on the stars that all of them measured: a slot must not win by losing its hard cases.
    populated = np.isfinite(scatter[:, inside]).any(axis=1)
    if not populated.any():
        return np.full(mag.shape, -1, dtype=np.int64)
    common = inside & np.isfinite(scatter[populated]).all(axis=0)
    level = np.full((scatter.shape[0], mag.size), np.inf)
    for slot in np.flatnonzero(populated):
        model = noise_model(mag[common], scatter[slot, common], width=width, min_stars=min_stars)
        level[slot] = np.nan_to_num(model.at(mag), nan=np.inf)
    return np.where(np.isfinite(level).any(axis=0), np.argmin(level, axis=0), -1)


@dataclass(frozen=True)
class FrameExcess:
    """Variance of each frame's residuals beyond their errors, each by itself.

    Attributes
    ----------
    value : float64, shape (n_frame,)
        Of the frame (mag^2); NaN where stars are too few.
    typical : float64, shape (n_frame,)
        Variance that the errors explain, of its middle star (mag^2).
    chance : float64, shape (n_frame,)
        Relative error of a variance from so many stars.
    """

    value: FloatArray
    typical: FloatArray
    chance: FloatArray

    def error(self, expected: float | FloatArray) -> FloatArray:
        """What chance makes of the values (mag^2) where `expected` is true: a frame far off is not excused by its own scatter."""
        return self.chance * (self.typical + expected)

    def of(self, frames: NDArray[np.generic]) -> FrameExcess:
        """That of some of the frames, by their numbers or a mask."""
        return FrameExcess(self.value[frames], self.typical[frames], self.chance[frames])


def frame_excess(frame: ArrayLike, residual: ArrayLike, variance: ArrayLike, n_frame: int, *, min_stars: int = 5) -> FrameExcess:
    """Excess of each frame: scintillation, missing flats and whatever else acts on bright stars, whose errors do not hide it.

    Of a frame, the value v at which the median of ``|r| / sqrt(variance + v)`` is that of a Gaussian, 0.6745: neither outliers nor
    variable stars move it. It may be negative, by chance: else many frames without any excess would have one in the mean.

    Parameters
    ----------
    frame : int, shape (rows,)
        Frame of each residual, 0 to n_frame - 1.
    residual, variance : float64, shape (rows,)
        Held-out residual (mag) and the variance expected of it (mag^2); rows that are not finite are ignored.
    n_frame : int
        Number of frames.
    min_stars : int
        A frame with fewer has none.

    Returns
    -------
    FrameExcess
    """
    frames = np.asarray(frame, dtype=np.int64)
    r, v = np.abs(np.asarray(residual, dtype=np.float64)), np.asarray(variance, dtype=np.float64)
    good = np.flatnonzero(np.isfinite(r) & np.isfinite(v) & (v > 0))
    good = good[np.argsort(frames[good], kind="stable")]
    ends = np.searchsorted(frames[good], np.arange(n_frame + 1))
    excess, typical, n = np.full(n_frame, np.nan), np.full(n_frame, np.nan), np.diff(ends)
    for k in range(n_frame):
        rows = good[ends[k] : ends[k + 1]]
        if rows.size >= min_stars:
            excess[k] = _solve_excess(r[rows], v[rows])
            typical[k] = np.median(v[rows])
    return FrameExcess(excess, typical, CHANCE / np.sqrt(np.maximum(n, 1)))


def excess_scatter(excess: FrameExcess) -> FloatArray:
    """Scatter of bright stars that is taken for each frame.

    What frames differ by beyond chance is kept, and the rest is drawn to their common value (Efron and Morris 1975, JASA 70, 311); a frame
    far off, in clouds, keeps its own, one with too few stars takes the common value.

    Parameters
    ----------
    excess : FrameExcess
        Of n_frame frames.

    Returns
    -------
    float64, shape (n_frame,)
        Excess (mag), 0 or more; 0 everywhere when no frame has enough stars.
    """
    return np.sqrt(np.maximum(_drawn_together(excess), 0.0))


def _drawn_together(excess: FrameExcess) -> FloatArray:
    """Values shrunk to their common one by what chance explains of their differences; NaN take the common one."""
    value = excess.value
    known = np.isfinite(value)
    if not known.any():
        return np.zeros(len(value))
    common = float(np.median(value[known]))
    error = excess.error(common)
    spread = float(scatter_about(value[known], common)) ** 2
    real = max(spread - float(np.median(error[known] ** 2)), 0.0)
    own = real / (real + error**2)
    far = np.abs(value - common) > FAR * np.sqrt(real + error**2)
    return np.where(known, np.where(far, value, common + own * (value - common)), common)


def _solve_excess(r: FloatArray, variance: FloatArray) -> float:
    """A residual is more than 0.6745 of its error where v is less than ``(r / 0.6745)^2 - variance``: v is the median of these, mag^2."""
    return max(float(np.median((r / 0.6745) ** 2 - variance)), -LEAST_LEFT * float(variance.min()))
