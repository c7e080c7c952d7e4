"""The overscan: the level without light that every frame brings along, and how well it is known.

Each line of the overscan (a row, where it lies beside the image) gives a clipped
mean.  Lines into which a saturated star has bled stand above the others and
count for nothing; the rest are smoothed by a local straight line, or a
polynomial is fitted to them.  The variance of the result follows from the
weights of the fit, and from what the lines scatter beyond their own noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray
from scipy import ndimage

from reduction.calibration.kernels.stack import clipped_mean
from reduction.kernels.arrays import Raw
from reduction.kernels.robust import robust_scatter

__all__ = ["Section", "Trimmed", "subtract_overscan", "trim_overscan"]

Section = tuple[int, int, int, int]
"""Image section (x0, x1, y0, y1), 0-based, half open."""

# A line this many standard deviations off its neighbours is not like them.
_OUTLIER = 6.0
# Rows of the running median that outlying lines are judged by.
_WINDOW = 51


@dataclass(frozen=True)
class Trimmed:
    """An image without its overscan.

    Attributes
    ----------
    data : float32, shape (ny, nx)
        The light-sensitive part, ADU, level subtracted.
    level : float64, shape (ny, 1), (1, nx) or (1, 1)
        What was subtracted, ADU.
    variance : float64, shape of `level`
        Its variance, ADU**2: one error, common to all pixels of a line (with one level or a polynomial, nearly to all of the image).
        0 where nothing was subtracted.
    """

    data: NDArray[np.float32]
    level: NDArray[np.float64]
    variance: NDArray[np.float64]


@dataclass(frozen=True)
class _Lines:
    """Clipped mean of each line; `good` are those that the level may be taken from, `low` those that stand below all others."""

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    good: NDArray[np.bool_]
    low: NDArray[np.bool_]


def _section(section: Section, shape: tuple[int, ...], name: str) -> Section:
    x0, x1, y0, y1 = section
    if not (0 <= x0 < x1 <= shape[1] and 0 <= y0 < y1 <= shape[0]):
        raise ValueError(f"{name} section (x0, x1, y0, y1) = {section} does not lie in an image of {shape[1]}x{shape[0]} pixels")
    return section


def _scale(residual: NDArray[np.float64]) -> float:
    """Standard deviation without outliers; the wider percentiles have a say where integer data make the MAD a multiple of a step."""
    if residual.size == 0:
        return 0.0
    wide = float(np.subtract(*np.percentile(residual, [90, 10]))) / 2.563
    return max(robust_scatter(residual), wide)


def _running_median(level: NDArray[np.float64], good: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Median of the neighbouring lines with a value, at every line."""
    where = np.flatnonzero(good)
    median = ndimage.median_filter(level[good], size=min(_WINDOW, where.size), mode="nearest")
    return np.asarray(np.interp(np.arange(level.size), where, median), np.float64)


def _line_means(lines: NDArray[np.float32]) -> _Lines:
    """Clipped mean and its variance for each of the lines (n_line, n_sample)."""
    # The lines lie along one image row of the stack, so that they share the typical scatter of that row.
    stack = clipped_mean(np.ascontiguousarray(lines.T[:, np.newaxis, :]))
    finite = stack.count[0] > 0
    if not finite.any():
        raise ValueError("the overscan section holds no finite value")
    mean = np.where(finite, stack.value[0], 0.0).astype(np.float64)
    variance = stack.variance[0].astype(np.float64)
    residual = mean - _running_median(mean, finite)
    # What bleeds in only adds: a line below the others is a real dip of the level, and the image has it too.
    limit = _OUTLIER * max(_scale(residual[finite]), float(np.sqrt(np.nanmedian(variance[finite]))) if lines.shape[1] > 1 else 0.0)
    low = finite & (residual < -limit)
    good = finite & (np.abs(residual) <= limit)
    if not good.any():
        good = finite & ~low
    # A lone sample has no scatter of its own: the scatter from line to line is taken.
    alone = _scale(np.diff(mean[good])) ** 2 / 2.0
    variance = np.where(np.isfinite(variance) & (stack.count[0] > 1), variance, alone)
    return _Lines(mean, np.where(finite, variance, 0.0), good, low)


def _excess(residual: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """Variance by which the lines differ beyond what is expected; 0 where that may be chance."""
    mean = float(expected.mean())
    found = float(np.mean(residual**2)) - mean
    return found if found > 3.0 * mean * np.sqrt(2.0 / residual.size) else 0.0


def _smoothed(lines: _Lines, sigma: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Local straight line with Gaussian weights (Cleveland 1979, J. Am. Stat. Assoc. 74, 829), and its variance."""
    reach = int(np.ceil(4.0 * sigma))
    offset = np.arange(-reach, reach + 1, dtype=np.float64)
    kernel = np.exp(-0.5 * (offset / sigma) ** 2)

    def total(weight: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(ndimage.correlate1d(values, weight, mode="constant"), np.float64)

    good = lines.good.astype(np.float64)
    values, noise = good * lines.mean, good * lines.variance
    s0, s1, s2 = (total(kernel * offset**k, good) for k in range(3))
    t0, t1 = (total(kernel * offset**k, values) for k in range(2))
    v0, v1, v2 = (total(kernel**2 * offset**k, noise) for k in range(3))
    determinant = s0 * s2 - s1**2
    # Where all lines in reach lie on one side, a straight line would be drawn out beyond them: fill from the nearest instead.
    known = (determinant > 1e-3 * sigma**2 * s0**2) & (np.abs(s1) < sigma * s0) & (s0 > 0.2)
    if not known.any():
        return _filled(lines.mean, lines.variance, lines.good)
    divisor = np.where(known, determinant, 1.0)
    level = (s2 * t0 - s1 * t1) / divisor
    variance = (s2**2 * v0 - 2.0 * s1 * s2 * v1 + s1**2 * v2) / divisor**2
    both = known & lines.good
    own_weight = (s2 / divisor)[both]
    expected = lines.variance[both] * (1.0 - 2.0 * own_weight) + variance[both]
    extra = _excess((lines.mean - level)[both], expected) if both.any() else 0.0
    return _filled(level, variance + extra, known)


def _filled(
    level: NDArray[np.float64], variance: NDArray[np.float64], known: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lines without a level take it from those beside them."""
    index, where = np.arange(level.size), np.flatnonzero(known)
    return np.interp(index, where, level[known]), np.interp(index, where, variance[known])


def _polynomial(lines: _Lines, order: int) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Least-squares polynomial along the lines, its variance, and that of the lines about it beyond their noise."""
    usable = lines.good
    order = min(order, int(usable.sum()) - 1)
    basis = legendre.legvander(np.linspace(-1.0, 1.0, lines.mean.size) if lines.mean.size > 1 else np.zeros(1), order)
    for _ in range(5):
        covariance = np.linalg.pinv(basis[usable].T @ basis[usable])
        level = basis @ (covariance @ (basis[usable].T @ lines.mean[usable]))
        residual = lines.mean - level
        kept = usable & (np.abs(residual) <= 4.0 * max(_scale(residual[usable]), float(np.sqrt(lines.variance[usable].mean()))))
        if kept.sum() <= order + 1 or kept.sum() == usable.sum():
            break
        usable = kept
    leverage = np.einsum("ij,jk,ik->i", basis, covariance, basis)
    noise = float(lines.variance[usable].mean())
    extra = _excess(residual[usable], noise * (1.0 - leverage[usable])) if usable.sum() > order + 1 else 0.0
    return level, leverage * (noise + extra), extra


def _level(
    lines: NDArray[np.float32], smooth: float, order: int | None, *, single: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Level of each line and its variance; one of each when `single`."""
    found = _line_means(lines)
    if single or order is not None:
        level, variance, extra = _polynomial(found, 0 if single or order is None else order)
        # Scatter from line to line is no error of the one level that is their mean.
        return (level[:1], variance[:1]) if single else (level, variance + extra)
    if smooth <= 0:
        return _filled(found.mean, found.variance, found.good | found.low)
    level, variance = _smoothed(found, smooth)
    return np.where(found.low, found.mean, level), np.where(found.low, found.variance, variance)


def subtract_overscan(
    raw: Raw, trim: Section | None, overscan: Section | None, *, smooth: float = 5.0, order: int | None = None
) -> Trimmed:
    """Subtract the overscan level and cut the image to its light-sensitive part.

    Parameters
    ----------
    raw : real numbers, shape (ny, nx)
        Raw image, ADU; integers as they come from the file, or floats, where NaN and infinite values are left out.
    trim : Section or None
        Part to keep; None keeps all.
    overscan : Section or None
        Overscan, on any side; None subtracts nothing.  A section that spans the rows of `trim` gives a level for each row, one that
        spans its columns a level for each column, any other one level for all.
    smooth : float
        Standard deviation of the Gaussian weights that smooth the level from row to row (or column to column), pixel; 0 for each
        row's own mean.
    order : int or None
        Order of a polynomial along the rows (or columns) instead; 0 is one level for all, None smooths.

    Returns
    -------
    Trimmed
        A new image, the level subtracted from each of its lines, and the variance of that level.  Lines of the overscan without a
        finite value, and lines that stand above their neighbours because a saturated star bled into them, take the level of the
        lines beside them; a line that stands below keeps its own mean when smoothed, since the image dips with it.  What the lines
        scatter about the smoothed level beyond their own noise is part of the variance.

    Raises
    ------
    ValueError
        If a section does not lie in the image, the overscan has no finite value, or the order is negative.
    """
    x0, x1, y0, y1 = _section(trim or (0, raw.shape[1], 0, raw.shape[0]), raw.shape, "trim")
    if order is not None and order < 0:
        raise ValueError(f"the order of the overscan polynomial must be 0 or more, got {order}")
    data: NDArray[np.float32] = np.array(raw[y0:y1, x0:x1], dtype=np.float32)
    if overscan is None:
        return Trimmed(data, np.zeros((1, 1)), np.zeros((1, 1)))
    ox0, ox1, oy0, oy1 = _section(overscan, raw.shape, "overscan")
    if oy0 <= y0 and oy1 >= y1:
        level, variance = _level(np.asarray(raw[y0:y1, ox0:ox1], np.float32), smooth, order, single=False)
        level, variance = level[:, np.newaxis], variance[:, np.newaxis]
    elif ox0 <= x0 and ox1 >= x1:
        level, variance = _level(np.asarray(raw[oy0:oy1, x0:x1], np.float32).T, smooth, order, single=False)
        level, variance = level[np.newaxis, :], variance[np.newaxis, :]
    else:
        level, variance = _level(np.asarray(raw[oy0:oy1, ox0:ox1], np.float32), smooth, order, single=True)
        level, variance = level[:, np.newaxis], variance[:, np.newaxis]
    data -= level.astype(np.float32)
    return Trimmed(data, level, variance)


def trim_overscan(raw: Raw, trim: Section | None, overscan: Section | None, *, smooth: float = 5.0) -> NDArray[np.float32]:
    """The image alone of `subtract_overscan`, for planes and uses that need no variance.

    Parameters
    ----------
    raw, trim, overscan, smooth
        As in `subtract_overscan`.

    Returns
    -------
    float32, shape of `trim`
        A new array.

    Raises
    ------
    ValueError
        As in `subtract_overscan`.
    """
    return subtract_overscan(raw, trim, overscan, smooth=smooth).data
