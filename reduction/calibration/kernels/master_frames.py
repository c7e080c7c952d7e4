"""Master frames: which images to stack, which pixels are bad, and whether darks grow with the exposure time alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

from db.flags import Mask
from reduction.calibration.kernels.calibration import Plane
from reduction.calibration.kernels.large_scale import cell_means, large_scale
from reduction.calibration.kernels.stack import MasterImage, outlier_images
from reduction.kernels.arrays import FloatArray
from reduction.kernels.compiled import clipped_mean
from reduction.kernels.robust import robust_scatter

__all__ = [
    "ImageStatistics",
    "dark_linearity",
    "dead_pixels",
    "hot_pixels",
    "image_statistics",
    "outlier_reasons",
    "robust_mean",
]


_NO_DATA = np.uint8(int(Mask.NO_DATA))
# Pixels that say nothing about the level of an image.
_UNUSABLE = np.uint8(int(Mask.NO_DATA | Mask.SATURATED | Mask.COSMIC | Mask.BLEED | Mask.NEIGHBOUR | Mask.HOT | Mask.DEAD))
# Cells along the longer side of an image whose structure is measured.
_N_CELL = 32
# A pixel whose true excess is at the limit is found with 99.5 %: that many of its own errors below it.
_COMPLETE = 2.6


@dataclass(frozen=True)
class ImageStatistics:
    """Statistics that decide whether an image belongs to a set.

    Attributes
    ----------
    level, noise : float
        Clipped mean and standard deviation of the pixels, ADU; NaN without a usable pixel.
    cells : float64, shape (my, mx)
        Means over square cells less the level, without outliers; NaN where no pixel is usable.
    n_pixel : float64, shape (my, mx)
        Pixels averaged in each.
    rows, columns : float64, shape (ny,), (nx,)
        The same over rows and columns, where banding shows.
    """

    level: float
    noise: float
    cells: FloatArray
    n_pixel: FloatArray
    rows: FloatArray
    columns: FloatArray


def robust_mean(values: ArrayLike, *, clip: float = 4.0) -> tuple[float, float]:
    """Clipped mean and standard deviation of a set of values.

    Parameters
    ----------
    values : float64, any shape
        Values; non-finite ones are ignored.
    clip : float
        Limit in standard deviations, symmetric about the mean; started from median and MAD.

    Returns
    -------
    mean, scatter : float
        NaN, NaN without a finite value.
    """
    finite = np.asarray(values).ravel()
    if finite.dtype != np.float32:
        finite = finite.astype(np.float64)
    usable = np.isfinite(finite)
    finite = finite if usable.all() else finite[usable]
    if finite.size == 0:
        return math.nan, math.nan
    mean, scatter = clipped_mean(np.ascontiguousarray(finite), clip)
    return float(mean), float(scatter)


def image_statistics(plane: Plane) -> ImageStatistics:
    """Level, noise and structure of a bias or dark image.

    Parameters
    ----------
    plane : Plane
        Image, ADU; of the bits of its mask, NEIGHBOUR and all lower ones are left out.

    Returns
    -------
    ImageStatistics
        Level and noise are measured on an even sample of at most about half a million pixels.
    """
    value = plane.value
    step = max(int(math.sqrt(value.size / 500_000)), 1)
    sample = (slice(None, None, step), slice(None, None, step))
    level, noise = robust_mean(value[sample][(plane.mask[sample] & _UNUSABLE) == 0])
    with np.errstate(invalid="ignore"):
        bad = ((plane.mask & _UNUSABLE) != 0) | ~(np.abs(value - np.float32(level)) <= 5.0 * noise)
    excess = np.where(bad, np.float32(0), value - np.float32(level))
    cells, n_pixel = cell_means(excess, bad, max(-(-max(value.shape) // _N_CELL), 1))
    profiles = []
    for axis in (1, 0):
        number = np.count_nonzero(~bad, axis=axis)
        total = excess.sum(axis=axis, dtype=np.float64)
        profiles.append(np.divide(total, number, out=np.full(number.shape, np.nan), where=number > 0))
    return ImageStatistics(level, noise, cells, n_pixel, *profiles)


def _residuals(arrays: Sequence[FloatArray]) -> FloatArray:
    """What each image has that the median of the set has not, (n, k); where all images have a value."""
    table = np.stack([array.ravel() for array in arrays])
    table = table[:, np.isfinite(table).all(axis=0)]
    return np.asarray(table - np.median(table, axis=0), np.float64)


def _excess(residual: FloatArray, expected: float) -> tuple[FloatArray, float]:
    """Rms of each image's residuals beyond their expected one, and what chance may leave of it."""
    m = residual.shape[1]
    if m == 0:
        return np.zeros(len(residual)), 0.0
    square = np.mean(residual**2, axis=1) - expected**2
    return np.asarray(np.sqrt(np.maximum(square, 0.0)), np.float64), expected * (50.0 / m) ** 0.25


def _structure_reasons(statistics: Sequence[ImageStatistics], limit: float) -> list[str]:
    """Reasons by structure, for three images or more."""
    noise = float(np.median([s.noise for s in statistics]))
    n_pixel = np.median([s.n_pixel for s in statistics], axis=0)
    per_cell = noise * math.sqrt(float(np.mean(1.0 / n_pixel[n_pixel > 0]))) if n_pixel.any() else 0.0
    ny, nx = statistics[0].rows.size, statistics[0].columns.size
    cells = _residuals([s.cells for s in statistics])
    measures = (
        ("structure", "rms over cells", *_excess(cells, per_cell)),
        ("bands along x", "rms over rows", *_excess(_residuals([s.rows for s in statistics]), noise / math.sqrt(nx))),
        ("bands along y", "rms over columns", *_excess(_residuals([s.columns for s in statistics]), noise / math.sqrt(ny))),
    )
    reasons = [""] * len(statistics)
    for name, where, found, chance in measures:
        # What all images of the set have in this measure is no reason against any.
        allowed = max(limit * noise, 5.0 * float(np.median(found)), chance)
        for k in np.flatnonzero(found > allowed):
            reasons[k] = reasons[k] or f"{name} that the set does not have: {found[k]:.3g} ADU {where}, at most {allowed:.3g}"
    highest = np.abs(cells).max(axis=1, initial=0.0)
    allowed = max(5.0 * limit * noise, 2.5 * float(np.median(highest)))
    for k in np.flatnonzero(highest > allowed):
        reasons[k] = reasons[k] or f"structure that the set does not have: {highest[k]:.3g} ADU in a cell, at most {allowed:.3g}"
    return reasons


def outlier_reasons(statistics: Sequence[ImageStatistics], *, sigma: float = 5.0, structure: float = 0.1) -> list[str]:
    """Reasons for which images do not belong to their set: by level, noise, or structure such as a light leak, banding or a jump.

    Parameters
    ----------
    statistics : sequence of ImageStatistics
        Of images of one size.
    sigma : float
        Limit of level and noise, as in `outlier_images`.
    structure : float
        Largest structure that the set's median has not, over the noise of a pixel: rms over cells, rows and columns; five times as much in
        a single cell.  Raised where the images of the set differ by more among themselves.

    Returns
    -------
    list of str, length n
        Reason with the value met and the limit, empty for an image to keep.  Structure is compared among the images whose level and noise
        agree; of fewer than three, none can be called an outlier.
    """
    reasons = outlier_images([s.level for s in statistics], [s.noise for s in statistics], sigma=sigma)
    # One round more than there may be kinds of bad images hidden behind worse ones.
    for _ in range(3):
        kept = [k for k, reason in enumerate(reasons) if not reason]
        if len(kept) < 3:
            break
        found = _structure_reasons([statistics[k] for k in kept], structure)
        if not any(found):
            break
        for k, reason in zip(kept, found, strict=True):
            reasons[k] = reason
    return reasons


def hot_pixels(dark: Plane | MasterImage, *, sigma: float = 8.0, smooth: float = 16.0) -> NDArray[np.bool_]:
    """Pixels far brighter than their surroundings in a master dark (or bias).

    Parameters
    ----------
    dark : Plane or MasterImage
        Master, ADU.
    sigma : float
        Excess from which on a pixel is hot, in units of the master's own pixel-to-pixel scatter (or its error, when larger).
    smooth : float
        Standard deviation of the weights that give the surroundings, pixel.

    Returns
    -------
    bool, shape (ny, nx)
        A pixel whose true excess is the limit is found with 99.5 %: the measured one may be 2.6 errors lower.
    """
    empty = (dark.mask & _NO_DATA) > 0
    mean, scatter = robust_mean(dark.value[~empty])
    if not math.isfinite(mean):
        return np.zeros(dark.value.shape, dtype=np.bool_)
    # The brightest must not raise the surroundings they are compared with.
    local = large_scale(dark.value, empty | (np.abs(dark.value - np.float32(mean)) > 4 * scatter), smooth).image()
    excess = dark.value - np.where(np.isfinite(local), local, np.float32(mean))
    _, scatter = robust_mean(excess[~empty])
    error = np.sqrt(dark.variance)
    return np.asarray(~empty & (excess > sigma * np.maximum(np.float32(scatter), error) - _COMPLETE * error), dtype=np.bool_)


def dead_pixels(flat: Plane | MasterImage, *, fraction: float = 0.4, smooth: float = 16.0) -> NDArray[np.bool_]:
    """Pixels whose response is a small fraction of their surroundings'.

    Parameters
    ----------
    flat : Plane or MasterImage
        Master flat.
    fraction : float
        Limit of response over that of the surroundings.
    smooth : float
        Standard deviation of the weights that give the surroundings, pixel.

    Returns
    -------
    bool, shape (ny, nx)
        NO_DATA pixels are not dead.
    """
    empty = (flat.mask & _NO_DATA) > 0
    local = large_scale(flat.value, empty, smooth).image()
    return np.asarray(~empty & (flat.value < np.float32(fraction) * local), dtype=np.bool_)


def dark_linearity(short: Plane | MasterImage, long: Plane | MasterImage, ratio: float) -> tuple[float, float, int]:
    """Ratio of the dark signals of two exposures, where there is signal.

    Parameters
    ----------
    short, long : Plane or MasterImage
        De-biased master darks, ADU, with their variances.
    ratio : float
        Exposure time of `long` over that of `short`.

    Returns
    -------
    slope, slope_err : float
        Signal of `long` over that of `short`, and its error: `ratio` where the dark signal grows with time alone.  A level common to all
        pixels does not matter.  Fitted with errors in both (York 1966, Can. J. Phys. 44, 1079) and little weight for outliers, once to the
        warm pixels and once to means over cells, where glow shows; of the two, the one that contradicts `ratio` significantly and
        most, else the more precise.  NaN, NaN when nothing is warm.
    n : int
        Pixels or cells of that fit.

    Raises
    ------
    ValueError
        If the shapes differ or `ratio` is not positive.
    """
    if short.value.shape != long.value.shape or not ratio > 0:
        raise ValueError(f"darks of shapes {short.value.shape} and {long.value.shape}, ratio of exposure times {ratio:g}")
    bad = ((short.mask | long.mask) & np.uint8(int(_UNUSABLE) & ~int(Mask.HOT))) != 0
    fits = [fit for fit in (_pixel_slope(short, long, bad, ratio), _cell_slope(short, long, bad, ratio)) if fit[2] > 2]
    if not fits:
        return math.nan, math.nan, 0
    worst = max(fits, key=lambda fit: abs(fit[0] - ratio) / fit[1])
    if abs(worst[0] - ratio) > 4.0 * worst[1]:
        return worst
    return min(fits, key=lambda fit: fit[1])


def _pixel_slope(short: Plane | MasterImage, long: Plane | MasterImage, bad: NDArray[np.bool_], ratio: float) -> tuple[float, float, int]:
    x, y, vx, vy = (np.asarray(a[~bad], np.float64) for a in (short.value, long.value, short.variance, long.variance))
    return _slope(x, y, vx, vy, ratio)


def _cell_slope(short: Plane | MasterImage, long: Plane | MasterImage, bad: NDArray[np.bool_], ratio: float) -> tuple[float, float, int]:
    mean, scatter = robust_mean(long.value[~bad])
    # Without the hot pixels, which have a fit of their own.
    surface = large_scale(long.value, bad | (np.abs(long.value - np.float32(mean)) > 4 * scatter), 16.0).image()
    warm = bad | (np.abs(long.value - surface) > 5 * np.sqrt(long.variance))
    size = max(-(-max(bad.shape) // _N_CELL), 1)
    (x, number), (y, _) = cell_means(short.value, warm, size), cell_means(long.value, warm, size)
    (vx, _), (vy, _) = cell_means(short.variance, warm, size), cell_means(long.variance, warm, size)
    good = number > 0.2 * size**2
    return _slope(x[good], y[good], vx[good] / number[good], vy[good] / number[good], ratio)


def _slope(x: FloatArray, y: FloatArray, vx: FloatArray, vy: FloatArray, ratio: float) -> tuple[float, float, int]:
    """Slope of y over x through the points with signal, its error, and their number."""
    # Best estimate of the signal were the dark linear: independent of the residual, so that choosing by it favours no slope.
    total = 1.0 / np.maximum(vx, 1e-12) + ratio**2 / np.maximum(vy, 1e-12)
    signal = (x / np.maximum(vx, 1e-12) + ratio * y / np.maximum(vy, 1e-12)) / total
    warm = signal - np.median(signal) > 8.0 / np.sqrt(total) if signal.size else np.zeros(0, np.bool_)
    n = int(np.count_nonzero(warm))
    if n < 3:
        return math.nan, math.nan, 0
    # The common level, which the many cold points know best, takes part as one point.
    x0, y0 = (float(np.median(a[~warm])) if not warm.all() else 0.0 for a in (x, y))
    px, py, qx, qy = (a[warm] for a in (x - x0, y - y0, vx, vy))

    def residual(slope: FloatArray) -> FloatArray:
        return np.asarray((py - slope[0] * px) / np.sqrt(qy + slope[0] ** 2 * qx + 1e-12), np.float64)

    fit = optimize.least_squares(residual, [ratio], loss="soft_l1", f_scale=2.0)
    spread = max(robust_scatter(fit.fun), 1.0) if n > 10 else max(float(np.sqrt(np.mean(fit.fun**2))), 1.0)
    return float(fit.x[0]), float(spread / np.linalg.norm(np.asarray(fit.jac))), n
