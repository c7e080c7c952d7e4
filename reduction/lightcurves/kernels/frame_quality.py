"""Frames that clouds, trailing or bad focus have spoiled, told from what the magnitude fit left and from the shapes of stars.

Clouds that dim all stars alike go into the zero point and do no harm. Patchy ones leave residuals that are alike for stars near each other:
their medians on a coarse grid scatter by more than the stars within a cell allow. What is usual on the night is what a frame is held
against, so that neither the camera nor the errors need be known well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from reduction.kernels.arrays import BoolArray, FloatArray, IntArray
from reduction.kernels.robust import MAD_TO_SIGMA, mad_scatter

__all__ = ["EXCLUDED", "KEPT", "WEIGHED", "FrameQuality", "frame_quality"]


KEPT, WEIGHED, EXCLUDED = "kept", "down-weighted", "excluded"
CELL_STARS = 8
"""Stars that a cell of the grid should have, so that its median is worth something."""
LEAST_CELL, MOST_SIDE = 4, 6
MEDIAN_VARIANCE = np.pi / 2
"""Of a median, over that of a mean."""
CERTAIN = 6.0
"""Standard errors by which a frame is off before it is said to be: of some ten numbers on some thousands of frames, none by chance."""
NOTED = 0.1
"""Uniform extinction (mag) that is worth a word."""
PATTERN = (0.003, 0.05)
"""Scatter of the grid (mag) from which on a frame loses weight, and is excluded."""
SCATTER = (1.5, 5.0)
"""The same of the stars' scatter within the cells, over that of the night."""
SCATTER_ERROR = 1.17
"""Relative error of a scatter from the median of n absolute values, times the root of n."""
WIDTH = (1.3, 2.0)
"""The same of the FWHM over that of the night."""
ELONGATION = (0.12, 0.35)
"""The same of the ellipticity beyond that of the night."""
SKY = 3.0
"""Sky over that of the night that is worth a word: what it adds to the noise, the errors have."""
TWILIGHT = -12.0
"""Altitude of the Sun (deg) from which on a bright sky is twilight."""
LEAST_FRAMES = 5
"""Frames that a night must have to say what is usual."""


@dataclass(frozen=True)
class FrameQuality:
    """Result of `frame_quality` for f frames.

    Attributes
    ----------
    state : tuple of str
        ``kept``, ``down-weighted`` or ``excluded``.
    factor : float64, shape (f,)
        What the weight of the frame's measurements is to be multiplied by: 1 kept, 0 excluded.
    reason : tuple of str
        Why, in words and numbers; empty where there is nothing to say.
    extinction : float64, shape (f,)
        What the zero point lost beyond the night's course with airmass (mag); NaN where it is unknown.
    pattern : float64, shape (f,)
        Scatter of the residuals' large-scale pattern beyond its error (mag); NaN where stars are too few.
    pattern_sigma : float64, shape (f,)
        How certain that is: chi-square of the grid less its expectation, in standard deviations.
    scatter : float64, shape (f,)
        Scatter of the stars within the cells, over that of the night: 1 is usual.
    width : float64, shape (f,)
        FWHM over that of the night.
    elongation : float64, shape (f,)
        Ellipticity less that of the night.
    brightness : float64, shape (f,)
        Sky over that of the night; NaN where it is unknown.
    """

    state: tuple[str, ...]
    factor: FloatArray
    reason: tuple[str, ...]
    extinction: FloatArray
    pattern: FloatArray
    pattern_sigma: FloatArray
    scatter: FloatArray
    width: FloatArray
    elongation: FloatArray
    brightness: FloatArray


def frame_quality(
    ends: ArrayLike,
    residual: ArrayLike,
    error: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    zero_point: ArrayLike,
    airmass: ArrayLike,
    fwhm: ArrayLike,
    ellipticity: ArrayLike,
    sky: ArrayLike | None = None,
    sun_altitude: ArrayLike | None = None,
) -> FrameQuality:
    """Judge the frames of one night and field.

    Parameters
    ----------
    ends : int[f + 1]
        Rows of frame i are ``ends[i]:ends[i + 1]``.
    residual, error : float64, shape (rows,)
        Fitted magnitude of good stars less their mean, held out, and its error (mag); rows that are not finite are left out.
    x, y : float64, shape (rows,)
        Place on the frame, from -1 to 1: the variables X and Y.
    zero_point : float64, shape (f,)
        Constant of the frame's fit: instrumental less reference magnitude in the middle; larger is less light. NaN where unknown.
    airmass, fwhm, ellipticity : float64, shape (f,)
        Of the frame; FWHM in pixels, ellipticity 1 - b/a. NaN where unknown.
    sky : float64, shape (f,), optional
        Brightness of the sky (any unit, for equal exposure). A bright one is noted; a frame that it spoils shows it in its scatter.
    sun_altitude : float64, shape (f,), optional
        Altitude of the Sun (deg), which tells twilight from moonlight and lit clouds.

    Returns
    -------
    FrameQuality
        A night of fewer than five frames says nothing of what is usual: only patterns and shapes that are bad on any night count.
    """
    edges = np.asarray(ends, dtype=np.int64)
    zero, air, width, shape = (np.asarray(v, dtype=np.float64) for v in (zero_point, airmass, fwhm, ellipticity))
    pattern, sigma, scatter, number = _patterns(edges, *(np.asarray(v, dtype=np.float64) for v in (residual, error, x, y)))
    extinction = zero - _course(zero, air)
    usual_scatter, usual_width, usual_shape = (_usual(values) for values in (scatter, width, shape))
    ratio, wide, long = scatter / usual_scatter[0], width / usual_width[0], shape - usual_shape[0]
    # By chance alone the scatter of a few stars differs from that of as many others.
    chance = usual_scatter[0] * SCATTER_ERROR / np.sqrt(np.maximum(number, 1.0))
    noisy = _beyond(scatter, usual_scatter) & (scatter > usual_scatter[0] + CERTAIN * chance) & (ratio > SCATTER[0])
    patchy = (sigma > CERTAIN) & (pattern > PATTERN[0])
    # Stars that are wide or long and yet scatter as usual are measured well.
    fine = np.isfinite(ratio) & ~noisy & ~patchy
    words: list[list[str]] = [[] for _ in zero]
    factor = np.ones(zero.size)
    checks = (
        (pattern, PATTERN, patchy, None, "patchy clouds: residuals vary over the field by {:.4f} mag ({:.0f} sigma)", sigma),
        (ratio, SCATTER, noisy, None, "stars scatter {:.2f} times as usual on the night", ratio),
        (wide, WIDTH, _beyond(width, usual_width), fine, "out of focus or bad seeing: FWHM {:.2f} times the night's", ratio),
        (long, ELONGATION, _beyond(shape, usual_shape), fine, "trailed: ellipticity {:.2f} above the night's", ratio),
    )
    for values, (least, most), certain, measured_well, text, more in checks:
        for k in np.flatnonzero(certain & (values > least)):
            words[k].append(text.format(values[k], more[k]))
            spoiled = values[k] > most and not (measured_well is not None and measured_well[k])
            factor[k] = 0.0 if spoiled else factor[k] * (least / values[k]) ** 2
    for k in np.flatnonzero(extinction > NOTED):
        words[k].append(f"{extinction[k]:.2f} mag of light lost by all stars alike")
    brightness = np.full(zero.size, np.nan) if sky is None else np.asarray(sky, dtype=np.float64)
    brightness = brightness / _usual(brightness)[0]
    _note_sky(words, brightness, sun_altitude)
    state = tuple(EXCLUDED if one == 0.0 else KEPT if one == 1.0 else WEIGHED for one in factor)
    reason = tuple("; ".join(each) for each in words)
    return FrameQuality(state, factor, reason, extinction, pattern, sigma, ratio, wide, long, brightness)


def _note_sky(words: list[list[str]], brightness: FloatArray, sun_altitude: ArrayLike | None) -> None:
    sun = np.full(brightness.size, np.nan) if sun_altitude is None else np.asarray(sun_altitude, dtype=np.float64)
    for k in np.flatnonzero(brightness > SKY):
        why = f"twilight, Sun at {sun[k]:.0f} deg: " if sun[k] > TWILIGHT else ""
        words[k].append(f"{why}sky {brightness[k]:.1f} times as bright as usual on the night")


def _usual(values: FloatArray) -> tuple[float, float]:
    """Median of the night and scatter of a frame about it; no scatter is large enough where frames are too few."""
    known = values[np.isfinite(values)]
    if known.size == 0:
        return np.nan, np.inf
    centre = float(np.median(known))
    return centre, max(mad_scatter(known), 0.01 * abs(centre)) if known.size >= LEAST_FRAMES else 0.05 * abs(centre)


def _beyond(values: FloatArray, usual: tuple[float, float]) -> BoolArray:
    return np.asarray(values > usual[0] + CERTAIN * usual[1])


def _course(zero: FloatArray, airmass: FloatArray) -> FloatArray:
    """Zero points that a night without clouds has: a line in airmass, of which clouded frames have no say."""
    known = np.isfinite(zero)
    if np.count_nonzero(known) < LEAST_FRAMES:
        return np.full(zero.size, np.nan)
    air = np.where(np.isfinite(airmass), airmass, 1.0)
    line = np.stack([np.ones(zero.size), air - np.median(air[known])], axis=1)
    if np.ptp(air[known]) < 0.05:
        line[:, 1] = 0.0
    # Clouds only take light: the clear frames are among the third with the most.
    coeff = np.array([np.quantile(zero[known], 0.2), 0.0])
    for _ in range(20):
        left = zero[known] - line[known] @ coeff
        scale = max(MAD_TO_SIGMA * float(np.median(np.abs(left[left <= np.quantile(left, 0.5)]))), 0.005)
        weight = np.where(left < 0, 1.0, np.maximum(1.0 - (left / (6.0 * scale)) ** 2, 0.0))
        coeff = np.linalg.lstsq(line[known] * weight[:, None], zero[known] * weight, rcond=1e-10)[0]
    return np.asarray(line @ coeff, dtype=np.float64)


def _patterns(ends: IntArray, residual: FloatArray, error: FloatArray, x: FloatArray, y: FloatArray) -> tuple[FloatArray, ...]:
    """Scatter of the grid's medians beyond their errors (mag), how certain it is (sigma), scatter in the cells over the errors, stars."""
    n_frame = ends.size - 1
    frame = np.repeat(np.arange(n_frame), np.diff(ends))
    use = np.isfinite(residual) & np.isfinite(error) & (error > 0) & np.isfinite(x) & np.isfinite(y)
    number = np.bincount(frame[use], minlength=n_frame)
    side = int(np.clip(np.sqrt(np.median(number[number > 0], axis=0) / CELL_STARS), 2, MOST_SIDE)) if number.any() else 2
    column, line = (np.clip(((v[use] + 1.0) * 0.5 * side).astype(np.int64), 0, side - 1) for v in (x, y))
    cell = (frame[use] * side + line) * side + column
    order = np.argsort(cell, kind="stable")
    edges = np.searchsorted(cell[order], np.arange(n_frame * side**2 + 1))
    median, information, within = _cells(edges, residual[use][order], error[use][order])
    median, information, n = (v.reshape(n_frame, side**2) for v in (median, information, np.diff(edges)))
    scatter, pattern, sigma = np.full((3, n_frame), np.nan)
    chi2, cells, stars = np.zeros((3, n_frame))
    for f in range(n_frame):
        mine = np.flatnonzero(n[f] >= LEAST_CELL)
        spread = within[edges[f * side**2] : edges[(f + 1) * side**2]]
        spread = spread[np.isfinite(spread)]
        if mine.size < 3 or spread.size < 3 * LEAST_CELL:
            continue
        stars[f] = spread.size
        scatter[f] = MAD_TO_SIGMA * float(np.median(np.abs(spread)))
        squared = MEDIAN_VARIANCE * scatter[f] ** 2 / information[f, mine]
        away = median[f, mine] - np.average(median[f, mine], weights=1.0 / squared)
        chi2[f], cells[f] = float(np.sum(away**2 / squared)), mine.size - 1
        pattern[f] = np.sqrt(max(float(np.mean(away**2 - squared)), 0.0))
    known = cells > 0
    if known.any():
        # Errors of the reference are a pattern that clear frames have as well.
        usual = max(float(np.quantile(chi2[known] / cells[known], 0.25)), 1.0)
        sigma[known] = (chi2[known] / usual - cells[known]) / np.sqrt(2.0 * cells[known])
    return pattern, sigma, scatter, stars


@njit(cache=True, nogil=True)
def _cells(edges, residual, error):  # type: ignore[no-untyped-def]
    """Median and summed weight of each cell, and each star's deviation from the median over its error."""
    n_cell = edges.size - 1
    median, information = np.zeros(n_cell), np.zeros(n_cell)
    within = np.full(residual.size, np.nan)
    for c in range(n_cell):
        n = edges[c + 1] - edges[c]
        if n < 2:
            continue
        median[c] = np.median(residual[edges[c] : edges[c + 1]])
        for i in range(edges[c], edges[c + 1]):
            information[c] += 1.0 / error[i] ** 2
            within[i] = (residual[i] - median[c]) / error[i] * np.sqrt(n / (n - 1.0))
    return median, information, within
