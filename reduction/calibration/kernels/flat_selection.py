"""Which flats are fit for a master: relative to the camera's own levels, the light's own noise, and the other flats of the set."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from db.flags import Mask
from reduction.calibration.kernels.calibration import Plane
from reduction.calibration.kernels.flat import UNUSABLE
from reduction.kernels.arrays import FloatArray
from reduction.kernels.robust import mad_scatter, robust_scatter

__all__ = ["FlatStatistics", "flat_reasons", "flat_statistics"]


# Cells along the longer side of a flat whose shape is judged, and pixels of each that are looked at.
_N_CELL, _PER_CELL = 16, 1024
# A cell counts when at least this part of its pixels has a value.
_ENOUGH = 0.2
# A flat with less than this part of the light of the brightest but one is no measure of the others.
_FAINT = 0.05
# Pairs of neighbouring pixels that a flat's noise is measured from.
_N_PAIR = 20_000


@dataclass(frozen=True)
class FlatStatistics:
    """Statistics that decide whether a flat is fit for a master.

    Attributes
    ----------
    level : float
        Median of the light above bias and dark, ADU; NaN without a usable pixel.
    noise : float
        Typical error of a pixel by its variance, ADU.
    saturated : float
        Fraction of saturated pixels.
    cells : float64, shape (my, mx)
        Medians over about 16 by 16 cells, over the level; NaN where few pixels are usable.
    cell_error : float
        Typical error of those medians.
    pairs : float32, shape (2, k)
        Pixels and their right neighbours on an even grid, over the level; NaN where unusable.
    """

    level: float
    noise: float
    saturated: float
    cells: FloatArray
    cell_error: float
    pairs: NDArray[np.float32]

    @property
    def signal_to_noise(self) -> float:
        """Of a typical pixel; 0 without light."""
        return self.level / self.noise if self.level > 0 and self.noise > 0 else 0.0


def flat_statistics(flat: Plane) -> FlatStatistics:
    """Measure a flat.

    Parameters
    ----------
    flat : Plane
        Bias- and dark-subtracted flat, ADU.

    Returns
    -------
    FlatStatistics
        Medians throughout: stars do not count.
    """
    good = (flat.mask & np.uint8(UNUSABLE)) == 0
    saturated = float(np.mean((flat.mask & np.uint8(int(Mask.SATURATED))) != 0))
    ny, nx = flat.value.shape
    step = max(int(math.sqrt(flat.value.size / _N_PAIR)), 2)
    left = (slice(step // 2, None, step), slice(0, nx - 1, step))
    right = (left[0], slice(1, nx, step))
    usable = good[left] & good[right]
    size = max(-(-max(ny, nx) // _N_CELL), 1)
    sparse = max(int(size / math.sqrt(_PER_CELL)), 1)
    lit = np.where(good, flat.value, np.float32(np.nan))
    cells = np.array([[_median(lit[y : y + size : sparse, x : x + size : sparse]) for x in range(0, nx, size)] for y in range(0, ny, size)])
    known = flat.value[left][usable]
    level = float(np.median(known)) if known.size else math.nan
    noise = float(np.sqrt(np.median(flat.variance[left][usable]))) if known.size else math.nan
    scale = level if level > 0 else math.nan
    pairs = np.stack([np.where(usable, flat.value[part], np.nan).ravel() for part in (left, right)]) / scale
    # The median is 80 % as precise as the mean.
    cell_error = 1.25 * noise / scale / math.sqrt(max((size / sparse) ** 2, 1.0))
    return FlatStatistics(level, noise, saturated, cells / scale, cell_error, pairs.astype(np.float32))


def _median(values: NDArray[np.float32]) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size >= max(_ENOUGH * values.size, 1) else math.nan


def flat_reasons(
    statistics: Sequence[FlatStatistics],
    *,
    min_signal_to_noise: float = 5.0,
    min_relative: float = 0.3,
    max_saturated: float = 0.01,
    max_level: float = math.inf,
    max_structure: float = 0.02,
    max_curved: float = 0.005,
    max_excess_noise: float = 1.3,
    max_jump: float = 0.15,
    time: ArrayLike | None = None,
    exptime: ArrayLike | None = None,
) -> list[str]:
    """Reasons for which flats are not fit for a master: dark, saturated, weak, cloudy.

    Parameters
    ----------
    statistics : sequence of FlatStatistics
        Of flats of one size.
    min_signal_to_noise : float
        Least S/N of a pixel of one flat, whatever the others have.
    min_relative : float
        Least S/N in units of the median of the set, of those flats that have a twentieth of the light of the brightest but one: however
        many faint frames there are, they are not what a flat is.
    max_saturated : float
        Largest fraction of saturated pixels.
    max_level : float
        Highest level, ADU: what the camera's own range, above its zero level, still takes linearly.
    max_structure, max_curved : float
        Largest difference of the shape from the set's, rms, relative: as it is, and with a plane taken off.  The twilight's own gradient is
        a plane, clouds are not.  Raised to 3.5 times the typical of the set, and where noise alone makes more.
    max_excess_noise : float
        Largest pixel noise over that expected by the variance, response taken off, in units of the set's typical.
    max_jump : float
        Largest relative deviation of the level from a smooth trend in time, raised to five times the scatter; used with
        `time` and five flats or more that do show a smooth trend.
    time, exptime : float64, shape (n,), optional
        Mid-exposure (any unit) and exposure time, s.

    Returns
    -------
    list of str, length n
        Reason with the value met and the limit, empty for a flat to keep.  What needs a comparison is judged among the flats that passed
        before, three or more.
    """
    reasons = [_by_itself(s, min_signal_to_noise, max_saturated, max_level) for s in statistics]
    snr = np.array([s.signal_to_noise for s in statistics])
    kept = [k for k, reason in enumerate(reasons) if not reason]
    if kept:
        level = np.array([statistics[k].level for k in kept])
        judges = snr[kept][level >= _FAINT * np.sort(level)[-min(2, level.size)]]
        least = min_relative * float(np.median(judges))
        for k in kept:
            if snr[k] < least:
                reasons[k] = f"too faint: S/N {snr[k]:.1f} a pixel, at least {least:.1f} ({min_relative:.0%} of the set's)"
    tests: tuple[Callable[[list[int]], list[str]], ...] = (
        lambda which: _shape_reasons([statistics[k] for k in which], max_structure, max_curved),
        lambda which: _noise_reasons([statistics[k] for k in which], max_excess_noise),
        lambda which: _trend_reasons(np.array([statistics[k].level for k in which]), _part(time, which), _part(exptime, which), max_jump),
    )
    # Once more, since a bad flat may have hidden behind a worse one.
    for test in 2 * tests:
        kept = [k for k, reason in enumerate(reasons) if not reason]
        if len(kept) >= 3:
            for k, reason in zip(kept, test(kept), strict=True):
                reasons[k] = reason
    return reasons


def _part(values: ArrayLike | None, which: list[int]) -> FloatArray | None:
    return None if values is None else np.asarray(values, dtype=np.float64)[which]


def _by_itself(flat: FlatStatistics, min_snr: float, max_saturated: float, max_level: float) -> str:
    if flat.saturated > max_saturated:
        return f"saturated: {flat.saturated:.2%} of the pixels, at most {max_saturated:.2%}"
    if not flat.level > 0:
        return f"no light: level {flat.level:.4g} ADU above bias and dark, more than 0 is needed"
    if flat.level > max_level:
        return f"too bright: level {flat.level:.4g} ADU, at most {max_level:.4g}"
    if flat.signal_to_noise < min_snr:
        return f"too faint: S/N {flat.signal_to_noise:.1f} a pixel, at least {min_snr:.1f}"
    return ""


def _shape_reasons(flats: Sequence[FlatStatistics], max_structure: float, max_curved: float) -> list[str]:
    """Flats whose shape is not the set's: clouds, the Moon, a light left on."""
    ratio, places = _shape_ratios(flats)
    if ratio.shape[1] < 6:
        return [""] * len(flats)
    plane = np.column_stack([np.ones(len(places)), places])
    # A bright star may fill a cell or two: they must not tilt the plane, nor count for the rms.
    ratio = np.clip(ratio, *np.percentile(ratio, [2, 98], axis=1)[:, :, None])
    curved = ratio - (plane @ np.linalg.lstsq(plane, ratio.T, rcond=None)[0]).T
    reasons = [""] * len(flats)
    weight = np.array([flat.signal_to_noise**2 for flat in flats])
    error = np.array([flat.cell_error for flat in flats])
    # The median of the set has its noise, too.
    error = np.hypot(error, 1.25 * float(np.median(error)) / math.sqrt(len(flats)))
    for name, residual, least in (("another shape", ratio - 1.0, max_structure), ("clouds", curved, max_curved)):
        rms = np.subtract(*np.percentile(residual, [95, 5], axis=1)) / 3.29
        found = np.sqrt(np.maximum(rms**2 - error**2, 0.0))
        typical = float(_weighted_median(found[:, None], weight)[0])
        limit = np.maximum(max(least, 3.5 * typical), error * (50.0 / len(places)) ** 0.25)
        for k in np.flatnonzero(found > limit):
            reasons[k] = reasons[k] or f"{name}: differs from the set's shape by {found[k]:.2%} rms, at most {limit[k]:.2%}"
    return reasons


def _shape_ratios(flats: Sequence[FlatStatistics]) -> tuple[FloatArray, FloatArray]:
    """Cells of each flat over the median of the set, (n, k), and where they are, (k, 2)."""
    cube = np.stack([flat.cells for flat in flats])
    known = np.isfinite(cube).all(axis=0)
    middle = _weighted_median(cube[:, known], np.array([flat.signal_to_noise**2 for flat in flats]))
    bright = middle > 0.05 * float(np.median(middle)) if middle.size else np.zeros(0, np.bool_)
    ratio = cube[:, known][:, bright] / middle[bright]
    return np.asarray(ratio / np.median(ratio, axis=1, keepdims=True) if ratio.size else ratio, np.float64), np.argwhere(known)[
        bright
    ].astype(float)


def _weighted_median(values: FloatArray, weight: FloatArray) -> FloatArray:
    """Median over the first axis of values that count by their weight; that of `numpy` where they count the same."""
    order = np.argsort(values, axis=0)
    ordered, share = np.take_along_axis(values, order, axis=0), weight[order] / weight.sum()
    middle = np.cumsum(share, axis=0) - 0.5 * share
    above = np.clip(np.sum(middle < 0.5, axis=0), 1, len(values) - 1)[None]
    (low, high), (before, after) = ([np.take_along_axis(a, k, axis=0)[0] for k in (above - 1, above)] for a in (ordered, middle))
    return np.asarray(low + np.clip((0.5 - before) / (after - before), 0.0, 1.0) * (high - low), np.float64)


def _noise_reasons(flats: Sequence[FlatStatistics], limit: float) -> list[str]:
    """Flats noisier than their light explains: each over the weighted mean of the others, in neighbouring pixels."""
    pairs = np.stack([flat.pairs.astype(np.float64) for flat in flats])
    pairs = pairs[:, :, np.isfinite(pairs).all(axis=(0, 1))]
    if pairs.shape[2] < 100:
        return [""] * len(flats)
    weight = np.array([flat.signal_to_noise**2 for flat in flats])
    total = np.tensordot(weight, pairs, axes=1)
    excess = []
    for own, w in zip(pairs, weight, strict=True):
        ratio = own / ((total - w * own) / (weight.sum() - w))
        difference = ratio[1] - ratio[0]
        scatter = mad_scatter(difference) / math.sqrt(2.0)
        excess.append(scatter / math.sqrt(1.0 / w + 1.0 / (weight.sum() - w)))
    relative = np.array(excess) / np.median(excess)
    return [f"noise {r:.2f} times what its light explains, at most {limit:.2f}" if r > limit else "" for r in relative]


def _trend_reasons(level: FloatArray, time: FloatArray | None, exptime: FloatArray | None, max_jump: float) -> list[str]:
    """Flats whose light leaves the smooth trend of the others: a cloud that dims without a shape."""
    none = [""] * level.size
    if time is None or level.size < 5 or np.ptp(time) == 0:
        return none
    light = np.log(level / (exptime if exptime is not None else 1.0))
    t = (time - time.mean()) / np.ptp(time)
    terms = np.vander(t, 3 if level.size >= 8 else 2)
    start = np.linalg.lstsq(terms, light, rcond=None)[0]

    def residual(coefficients: FloatArray) -> FloatArray:
        return np.asarray(light - terms @ coefficients, np.float64)

    fit = optimize.least_squares(residual, start, loss="cauchy", f_scale=0.02)
    scatter = robust_scatter(fit.fun)
    # Levels without a trend, such as those of a lamp that was changed, tell nothing.
    if scatter > 0.05:
        return none
    limit = max(max_jump, 5.0 * scatter)
    return [
        f"level {math.expm1(d):+.0%} off the trend of the others, at most {limit:.0%}" if abs(math.expm1(d)) > limit else ""
        for d in fit.fun
    ]
