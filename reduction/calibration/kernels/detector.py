"""Gain, zero level and saturation of a detector that nobody described, from its images.

Photon noise makes the variance of the sky rise with its level by one over the
gain (photon transfer: Janesick 2001, Scientific Charge-Coupled Devices, ch. 2).
Variances come from differences of two frames, in which everything that stands
still in the detector drops out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from reduction.calibration.kernels.master_frames import robust_mean
from reduction.kernels.compiled import clipped_mean
from reduction.kernels.robust import biweight, robust_scatter
from reduction.photometry.kernels.background import background

__all__ = [
    "PhotonTransfer",
    "SkySample",
    "brightest",
    "pair_sample",
    "pair_transfer",
    "photon_transfer",
    "saturation_level",
    "sky_mask",
    "sky_sample",
]

_CLIP = 4.0
# A Gaussian clipped at 4 sigma keeps this part of its variance.
_CLIPPED_VARIANCE = 0.99893
_QUANTISATION = 1.0 / 12.0
# Sky pixels without which a box is not used.
_FEWEST_PIXELS = 100


@dataclass(frozen=True)
class SkySample:
    """Level and noise of star-free sky.

    Attributes
    ----------
    level : float64, shape (m,)
        Mean level, ADU of the image: nothing is subtracted.
    variance : float64, shape (m,)
        Noise variance of a pixel, ADU**2, quantisation included.
    n : int64, shape (m,)
        Differences that the variance rests on.
    """

    level: NDArray[np.float64]
    variance: NDArray[np.float64]
    n: NDArray[np.int64]


@dataclass(frozen=True)
class PhotonTransfer:
    """What noise says about the detector.

    Attributes
    ----------
    gain, gain_err : float
        Electron/ADU; the error includes how far the parts of the level range disagree.  NaN when nothing is known.
    read_noise : float
        Electron; only known when the zero level was given, else 0 (its variance then stands in `zero_level`).
    zero_level : float
        ADU; as given, else the level at which the photon noise would vanish.  ``(level - zero_level) / gain + (read_noise / gain)**2 +
        quantum**2 / 12`` is the noise of the sky either way.
    constrained : bool
        The levels span enough to trust the gain: positive, and known to 30 % or better.
    n : int
        Samples used.
    reason : str
        Why it is not constrained; empty when it is.
    """

    gain: float
    gain_err: float
    read_noise: float
    zero_level: float
    constrained: bool
    n: int
    reason: str = ""


def _unknown(reason: str, n: int = 0) -> PhotonTransfer:
    return PhotonTransfer(math.nan, math.nan, 0.0, math.nan, False, n, reason)


def _grown(found: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """What lies within so many pixels of a marked one, along rows, columns and diagonals."""
    grown = found.view(np.uint8)
    if pixels > 0 and found.any():
        for axis in (0, 1):
            grown = ndimage.maximum_filter1d(grown, 2 * pixels + 1, axis=axis, mode="constant")
    return np.asarray(grown.view(np.bool_), np.bool_)


@njit(cache=True)
def _box_samples(
    first: NDArray[np.float32], second: NDArray[np.float32], sky: NDArray[np.bool_], box: int, clip: float
) -> NDArray[np.float64]:
    """Clipped mean of the two images, clipped scatter of their difference, and number of sky pixels, of each box with 100 of them."""
    ny, nx = first.shape
    rows = np.empty((((ny + box - 1) // box) * ((nx + box - 1) // box), 3))
    mean, difference = np.empty(box * box), np.empty(box * box)
    m = 0
    for y0 in range(0, ny, box):
        for x0 in range(0, nx, box):
            n = 0
            for y in range(y0, min(y0 + box, ny)):
                for x in range(x0, min(x0 + box, nx)):
                    if sky[y, x]:
                        mean[n] = 0.5 * (np.float64(first[y, x]) + np.float64(second[y, x]))
                        difference[n] = np.float64(second[y, x]) - np.float64(first[y, x])
                        n += 1
            if n >= _FEWEST_PIXELS:
                rows[m, 0] = clipped_mean(mean[:n], clip)[0]
                rows[m, 1] = clipped_mean(difference[:n], clip)[1]
                rows[m, 2] = n
                m += 1
    return rows[:m]


@njit(cache=True)
def _pair_samples(
    flat: NDArray[np.float32],
    other: NDArray[np.float32],
    bias: NDArray[np.float32],
    second: NDArray[np.float32],
    good: NDArray[np.bool_],
    box: int,
    clip: float,
) -> NDArray[np.float64]:
    """Level of the first of two flats over two biases, its ratio to the other's, and scatter of the differences of flats and of biases.

    A row for each box with 100 good pixels; the second flat's difference is of what is brought to the level of the first.
    """
    ny, nx = flat.shape
    rows = np.empty((((ny + box - 1) // box) * ((nx + box - 1) // box), 4))
    # One more than a box has pixels: one that does not count is overwritten by the next.
    light, dimmer, between = np.empty(box * box + 1), np.empty(box * box + 1), np.empty(box * box + 1)
    m = 0
    for y0 in range(0, ny, box):
        for x0 in range(0, nx, box):
            n = 0
            for y in range(y0, min(y0 + box, ny)):
                for x in range(x0, min(x0 + box, nx)):
                    zero = 0.5 * (np.float64(bias[y, x]) + np.float64(second[y, x]))
                    light[n], dimmer[n] = np.float64(flat[y, x]) - zero, np.float64(other[y, x]) - zero
                    between[n] = np.float64(bias[y, x]) - np.float64(second[y, x])
                    if good[y, x] and math.isfinite(light[n]) and math.isfinite(dimmer[n]) and math.isfinite(between[n]):
                        n += 1
            if n >= _FEWEST_PIXELS:
                level, its_level = clipped_mean(light[:n], clip)[0], clipped_mean(dimmer[:n], clip)[0]
                ratio = level / its_level if its_level > 0.0 else 1.0
                rows[m, 0], rows[m, 1] = level, ratio
                rows[m, 2] = clipped_mean(light[:n] - ratio * dimmer[:n], clip)[1]
                rows[m, 3] = clipped_mean(between[:n], clip)[1]
                m += 1
    return rows[:m]


def sky_mask(
    image: NDArray[np.float32], mask: NDArray[np.bool_] | None = None, *, threshold: float = 3.0, grow: int = 3
) -> NDArray[np.bool_]:
    """Pixels that are not plain sky.

    Parameters
    ----------
    image : float32, shape (ny, nx)
        Image, ADU.
    mask : bool, shape (ny, nx), optional
        Pixels not to use.
    threshold : float
        Detection limit in the smoothed image, standard deviations of its sky.
    grow : int
        Pixels by which detections grow; those a hundred times brighter than the limit grow by four times as much.

    Returns
    -------
    bool, shape (ny, nx)
        True for sources, masked and non-finite pixels.
    """
    bad = ~np.isfinite(image) if mask is None else ~np.isfinite(image) | mask
    excluded = bad
    flat_variance = np.zeros(image.shape, dtype=np.float32)
    for _ in range(2):
        level = background(image, flat_variance, excluded, box=32, smooth=32.0).image((image.shape[0], image.shape[1]))
        residual = np.where(bad, 0.0, image - level)
        smooth = ndimage.gaussian_filter(residual, 1.2)
        _, scatter = robust_mean(smooth[~excluded], clip=3.0)
        if not math.isfinite(scatter):
            break
        found = smooth > threshold * scatter
        bright = smooth > 100.0 * threshold * scatter
        excluded = bad | _grown(found, grow) | _grown(bright, 4 * grow)
    return np.asarray(excluded, dtype=np.bool_)


def _difference_variance(difference: NDArray[np.floating]) -> float:
    """Variance of one of two values from their clipped differences."""
    _, scatter = robust_mean(difference, clip=_CLIP)
    return scatter**2 / _CLIPPED_VARIANCE / 2.0


def sky_sample(image: NDArray[np.float32], mask: NDArray[np.bool_] | None = None) -> SkySample:
    """Level and noise of the star-free sky of one image.

    Parameters
    ----------
    image : float32, shape (ny, nx)
        Image, ADU.
    mask : bool, shape (ny, nx), optional
        Pixels not to use.

    Returns
    -------
    SkySample
        One sample.  The variance is from differences of horizontal neighbours, so gradients do not count; pixel-to-pixel structure of the
        detector does (see `pair_sample`).  NaN, with n = 0, when there is no sky.
    """
    excluded = sky_mask(image, mask)
    level, _ = robust_mean(image[~excluded], clip=_CLIP)
    pairs = ~(excluded[:, 1:] | excluded[:, :-1])
    difference = (image[:, 1:] - image[:, :-1])[pairs]
    variance = _difference_variance(difference) if difference.size > 1 else math.nan
    return SkySample(np.array([level]), np.array([variance]), np.array([difference.size]))


def pair_sample(
    first: NDArray[np.float32], second: NDArray[np.float32], mask: NDArray[np.bool_] | None = None, *, box: int = 48
) -> SkySample:
    """Level and noise of the sky from the difference of two successive frames.

    Parameters
    ----------
    first, second : float32, shape (ny, nx)
        Frames of equal exposure, ADU, not shifted against one another: what stands still in the detector drops out.
    mask : bool, shape (ny, nx), optional
        Pixels not to use; sources of either frame are found here.
    box : int
        Side of the boxes whose median is taken, pixel, so that a few boxes with faint sources left do not count.

    Returns
    -------
    SkySample
        One sample; NaN, with n = 0, when no box has 100 sky pixels.  Only the differences of such samples from one pair
        of frames to another tell of light: within a frame the level may follow the detector's structure.
    """
    sky = ~(sky_mask(first, mask) | sky_mask(second, mask))
    rows = _box_samples(np.ascontiguousarray(first, np.float32), np.ascontiguousarray(second, np.float32), sky, box, _CLIP)
    if not len(rows):
        return SkySample(np.array([math.nan]), np.array([math.nan]), np.array([0]))
    level, scatter, n = rows.T
    variance = scatter**2 / _CLIPPED_VARIANCE / 2.0
    return SkySample(np.median(level, keepdims=True), np.median(variance, keepdims=True), np.array([int(n.sum())]))


def _robust_line(
    x: NDArray[np.float64], y: NDArray[np.float64], err: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Intercept at x = 0, slope, and their covariance; Tukey's biweight at 4.685 scaled errors."""
    design = np.stack([np.ones_like(x), x], axis=1) / err[:, np.newaxis]
    target = y / err
    weight = np.ones_like(x)
    for _ in range(20):
        solution = np.linalg.lstsq(design * np.sqrt(weight)[:, np.newaxis], target * np.sqrt(weight), rcond=None)[0]
        residual = target - design @ solution
        scale = max(robust_scatter(residual), 1e-12)
        weight = biweight(np.square(residual / (4.685 * scale)))
    normal = (design * weight[:, np.newaxis]).T @ design
    used = max(float(weight.sum()) - 2.0, 1.0)
    covariance = np.linalg.pinv(normal) * float((weight * residual**2).sum()) / used
    return np.asarray(solution, np.float64), np.asarray(covariance, np.float64)


def photon_transfer(
    level: ArrayLike,
    variance: ArrayLike,
    variance_err: ArrayLike | None = None,
    *,
    zero_level: float | None = None,
    quantum: float = 1.0,
) -> PhotonTransfer:
    """Gain from the straight line of noise variance against level.

    Parameters
    ----------
    level, variance : float64, shape (m,)
        Samples, ADU and ADU**2, e.g. of `pair_sample` over the pairs of a night.
    variance_err : float64, shape (m,), optional
        Errors of the variances; equal when omitted.
    zero_level : float, optional
        Level without light, ADU (bias, overscan), which separates read noise from photon noise.
    quantum : float
        Step of the data, ADU; 0 for data that are not integer.

    Returns
    -------
    PhotonTransfer
        Not constrained, with the reason, for fewer than 5 samples or a slope that is not positive or not significant.

    Notes
    -----
    Take one sample a frame or pair, at levels that differ by light: samples from different places of one frame mix light
    with the detector's structure.  The error adds what the slopes of the lower and the upper half of the levels differ by, beyond
    their noise: with many samples what remains of faint stars matters more.
    """
    x, y = np.asarray(level, dtype=np.float64), np.asarray(variance, dtype=np.float64)
    err = np.ones_like(x) if variance_err is None else np.asarray(variance_err, dtype=np.float64)
    good = np.isfinite(x) & np.isfinite(y) & np.isfinite(err) & (err > 0)
    x, y, err = x[good], y[good] - quantum**2 * _QUANTISATION, err[good]
    if x.size < 5 or np.ptp(x) == 0:
        return _unknown(f"{x.size} samples of sky, at least 5 at different levels are needed", x.size)
    middle = float(np.median(x))
    (noise, slope), covariance = _robust_line(x - middle, y, err)
    slope_err = math.hypot(math.sqrt(max(float(covariance[1, 1]), 0.0)), _half_difference(x, y, err))
    if slope <= 0:
        return _unknown(f"the variance of the sky does not rise with its level ({slope:.3g} +- {slope_err:.2g} ADU)", x.size)
    gain = 1.0 / slope
    gain_err = gain * slope_err / slope
    constrained = slope_err < 0.3 * slope
    reason = "" if constrained else f"gain {gain:.3g} +- {gain_err:.2g} electron/ADU: the sky levels span too little ({np.ptp(x):.3g} ADU)"
    read_noise = 0.0
    if zero_level is None:
        zero_level = middle - float(noise) * gain
    else:
        read_noise = gain * math.sqrt(max(float(noise) - (middle - zero_level) * slope, 0.0))
    return PhotonTransfer(float(gain), float(gain_err), read_noise, float(zero_level), bool(constrained), x.size, reason)


def _half_difference(x: NDArray[np.float64], y: NDArray[np.float64], err: NDArray[np.float64]) -> float:
    """Half the difference of the slopes below and above the middle of the levels, beyond its noise; 0 with few samples."""
    low, high = np.percentile(x, [2, 98])
    lower = x <= 0.5 * (low + high)
    if min(int(lower.sum()), int((~lower).sum())) < 10:
        return 0.0
    fits = [_robust_line(x[part] - np.median(x[part]), y[part], err[part]) for part in (lower, ~lower)]
    difference = float(fits[0][0][1] - fits[1][0][1])
    return 0.5 * math.sqrt(max(difference**2 - float(fits[0][1][1, 1] + fits[1][1][1, 1]), 0.0))


def pair_transfer(
    flats: tuple[NDArray[np.float32], NDArray[np.float32]],
    biases: tuple[NDArray[np.float32], NDArray[np.float32]],
    mask: NDArray[np.bool_] | None = None,
    *,
    box: int = 64,
) -> PhotonTransfer:
    """Gain and read noise from two flats and two biases (Janesick's method).

    Parameters
    ----------
    flats, biases : pairs of float32, shape (ny, nx)
        Raw frames, ADU.  The second flat is brought to the level of the first, box by box, so that in their difference nothing is
        left of the response of the pixels.
    mask : bool, shape (ny, nx), optional
        Pixels not to use.
    box : int
        Side of the boxes whose gains are averaged, pixel.

    Returns
    -------
    PhotonTransfer
        `zero_level` is the mean of the biases.  Read noise includes quantisation.
    """
    good = np.ones(flats[0].shape, dtype=np.bool_) if mask is None else ~mask
    flat, other, bias, second = (np.ascontiguousarray(frame, np.float32) for frame in (*flats, *biases))
    rows = _pair_samples(flat, other, bias, second, np.ascontiguousarray(good), box, _CLIP)
    if not len(rows):
        return _unknown("no box of the flats has 100 good pixels")
    level, ratio, scatter, read_scatter = rows.T
    # The flats' difference is taken whole, the biases' is that of two like values.
    variance, read_variance = scatter**2 / _CLIPPED_VARIANCE, read_scatter**2 / _CLIPPED_VARIANCE / 2.0
    read = float(np.median(read_variance))
    # The mean bias is in both: its noise, half the read noise squared, counts by the square of 1 - ratio.
    photon = variance - (1.0 + ratio**2 + 0.5 * (1.0 - ratio) ** 2) * read
    slopes = photon[level > 0] / (level * (1.0 + ratio))[level > 0]
    slope, scatter = robust_mean(slopes)
    if not slope > 0:
        return _unknown("the flats are not noisier than the biases", len(rows))
    slope_err = scatter / math.sqrt(slopes.size)
    constrained = slope_err < 0.3 * slope
    reason = "" if constrained else "the flats hold too little light"
    zero = robust_mean((0.5 * (biases[0].astype(np.float64) + biases[1]))[good])[0]
    return PhotonTransfer(1.0 / slope, slope_err / slope**2, math.sqrt(read) / slope, zero, constrained, len(rows), reason)


def brightest(image: NDArray[np.float32], k: int | None = None) -> NDArray[np.float32]:
    """Highest finite values of an image, falling; for `saturation_level`.

    Parameters
    ----------
    image : float32, any shape
        Raw image, ADU.
    k : int, optional
        Number of values, by default 0.2 % of the pixels and at least 200.

    Returns
    -------
    float32, shape (k,)
        Filled up with NaN when the image has fewer finite values.
    """
    values = image[np.isfinite(image)].ravel()
    number = max(image.size // 500, 200) if k is None else k
    top = np.full(number, np.nan, dtype=np.float32)
    n = min(number, values.size)
    if n:
        top[:n] = np.sort(np.partition(values, values.size - n)[values.size - n :])[::-1]
    return top


def saturation_level(top: Sequence[ArrayLike] | NDArray[np.floating]) -> float | None:
    """Saturation level from the pile-up of pixels at the top.

    Parameters
    ----------
    top : float64, shape (n_frame, k) or (k,), or a sequence of float64, shape (k,)
        The highest values of each image of a set, ADU (see `brightest`); non-finite ones are ignored.

    Returns
    -------
    float or None
        Pixels at or above it are saturated.  None when the values thin out towards the top as stars do.

    Notes
    -----
    Tried in this order: a sharp pile, the maximum itself met at least 5 times and more often than all values in the next
    per cent of the range; a pile smeared by calibration, a maximum in the histogram of the values after a minimum a fifth as
    high, with 10 pixels a frame (a star's core has fewer), which starts where the counts have doubled from the minimum; a
    maximum of 2**b - 1 with b of 8, 10, 12, 14, 15 or 16.
    """
    table = _rows_of(top)
    values = np.sort(table[np.isfinite(table)])
    if values.size == 0:
        return None
    highest, width = float(values[-1]), float(values[-1] - values[0])
    in_pile = values.size - int(np.searchsorted(values, highest))
    below = values.size - int(np.searchsorted(values, highest - 0.01 * width)) - in_pile
    if in_pile >= 5 and in_pile > below:
        return highest
    smeared = _smeared_pile(table) if width > 0 else None
    if smeared is not None:
        return smeared
    return highest if highest in {2.0**b - 1 for b in (8, 10, 12, 14, 15, 16)} else None


def _rows_of(top: Sequence[ArrayLike] | NDArray[np.floating]) -> NDArray[np.float64]:
    """One row of values an image, filled up with NaN; images without a finite value left out."""
    rows = [np.asarray(row, dtype=np.float64).ravel() for row in top]
    if all(row.size == 1 for row in rows):
        rows = [np.concatenate(rows)] if rows else []
    table = np.full((len(rows), max((row.size for row in rows), default=0)), np.nan)
    for k, row in enumerate(rows):
        table[k, : row.size] = row
    return np.asarray(table[np.isfinite(table).any(axis=1)], np.float64)


def _smeared_pile(table: NDArray[np.float64]) -> float | None:
    """Start of a broad pile-up at the top of the values (n_frame, k)."""
    values = table[np.isfinite(table)]
    # Below the highest of the frames' lowest values not every frame takes part.
    values = values[values >= np.nanmax(np.nanmin(table, axis=1))]
    # Bins finer than the step of integer data would show a comb.
    bins = min(64, np.unique(values).size // 4)
    if bins < 8:
        return None
    counts, edges = np.histogram(values, bins=bins)
    smooth = ndimage.uniform_filter1d(counts.astype(np.float64), 3, mode="nearest")
    lowest = np.minimum.accumulate(smooth)
    peak = int(np.argmax(smooth / (lowest + 1.0)))
    valley = int(np.argmin(smooth[: peak + 1]))
    if smooth[peak] < max(5.0 * (lowest[peak] + 1.0), 20.0):
        return None
    start = valley + int(np.argmax(smooth[valley : peak + 1] > 2.0 * (lowest[peak] + 1.0)))
    level = float(edges[start])
    return level if float(np.median((table >= level).sum(axis=1))) >= 10 else None
