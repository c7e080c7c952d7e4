"""Flats, twice through the stack: the large-scale flat of smoothed flats, then the master flat of flats matched to it.

Twilight and clouds give each flat a large-scale shape of its own, while the
response of the pixels is the same in all of them. So the shapes are judged and
averaged on their own, and each flat is brought to the average shape before the
pixels are stacked (Pal 2009, PhD thesis, Eotvos University, section 2.4).

A shape is kept as a grid of values at the middles of square blocks, smoothed
by local quadratics (see `largescale`). What all flats of a set have in common,
such as the twilight's mean gradient, no set can tell from the response.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from db.flags import Mask
from reduction.calibration.kernels.large_scale import interpolate, large_scale, spline_matrix
from reduction.calibration.kernels.master_frames import robust_mean
from reduction.calibration.kernels.stack import clipped_mean
from reduction.kernels.arrays import FloatArray

__all__ = [
    "UNUSABLE",
    "LargeScale",
    "block_means",
    "expand",
    "lasting_stars",
    "leftover",
    "smooth_shape",
    "stack_shapes",
    "spot_means",
    "standing_spots",
    "star_mask",
    "starlike",
]


#: Bits of pixels that no flat is judged by.
UNUSABLE = int(Mask.NO_DATA | Mask.SATURATED | Mask.COSMIC | Mask.BLEED | Mask.NEIGHBOUR | Mask.HOT | Mask.DEAD)

# A block counts when at least this part of its pixels has a value.
_ENOUGH = 0.2
# Blocks with less than this part of the mean light do not tell how a flat is lit.
_UNLIT = 0.05


@dataclass(frozen=True)
class LargeScale:
    """The large-scale shape of a set of flats.

    Attributes
    ----------
    value : float32, shape (gy, gx)
        Relative brightness at the middle of each block, mean 1.
    variance : float32, shape (gy, gx)
        Variance of that mean, from the scatter of the flats, tilts included; 0 for a single flat.
    count : int16, shape (gy, gx)
        Flats averaged.
    block : int
        Side of a block, pixel; those at the far edges may be cut.
    """

    value: NDArray[np.float32]
    variance: NDArray[np.float32]
    count: NDArray[np.int16]
    block: int


@njit(cache=True)
def _block_sums(value: NDArray[np.float32], good: NDArray[np.bool_], block: int, enough: float, out: tuple[FloatArray, FloatArray]) -> None:
    ny, nx = value.shape
    for by in range(out[0].shape[0]):
        for bx in range(out[0].shape[1]):
            y1, x1 = min((by + 1) * block, ny), min((bx + 1) * block, nx)
            whole = (y1 - by * block) * (x1 - bx * block)
            mean, limit, n, square = 0.0, np.inf, 0, 0.0
            for _ in range(3):
                n, total, square = 0, 0.0, 0.0
                for iy in range(by * block, y1):
                    for ix in range(bx * block, x1):
                        v = np.float64(value[iy, ix])
                        if good[iy, ix] and abs(v) < np.inf and abs(v - mean) <= limit:
                            n += 1
                            total += v - mean
                            square += (v - mean) ** 2
                if n < 2:
                    break
                shift = total / n
                square = max(square - n * shift * shift, 0.0)
                mean += shift
                limit = 5.0 * math.sqrt(square / (n - 1))
            known = n >= max(enough * whole, 2.0)
            out[0][by, bx] = mean if known else np.nan
            out[1][by, bx] = square / (n - 1) / n if known else np.nan


def block_means(value: NDArray[np.float32], good: NDArray[np.bool_], block: int) -> tuple[FloatArray, FloatArray]:
    """Mean of the good pixels of each block, outliers beyond 5 standard deviations left out.

    Parameters
    ----------
    value : float32, shape (ny, nx)
        Image; non-finite pixels are never good.
    good : bool, shape (ny, nx)
        Pixels to use.
    block : int
        Side of a block, pixel.

    Returns
    -------
    mean, variance : float64, shape (ceil(ny / block), ceil(nx / block))
        Mean and its variance from the pixels' scatter; NaN where fewer than a fifth of the pixels are good.
    """
    shape = (-(-value.shape[0] // block), -(-value.shape[1] // block))
    out = (np.empty(shape), np.empty(shape))
    _block_sums(np.ascontiguousarray(value, dtype=np.float32), np.ascontiguousarray(good), block, _ENOUGH, out)
    return out


def smooth_shape(value: NDArray[np.float32], good: NDArray[np.bool_], *, block: int, sigma: float) -> FloatArray:
    """Large-scale shape of a flat at the middles of its blocks.

    Parameters
    ----------
    value : float32, shape (ny, nx)
        Flat; non-finite pixels are never good.
    good : bool, shape (ny, nx)
        Pixels to use.
    block : int
        Side of a block, pixel; no more than `sigma`, or structure is lost between the middles.
    sigma : float
        Standard deviation of the weights, pixel.

    Returns
    -------
    float64, shape (gy, gx)
        As `large_scale`: masked pixels bias nothing, and blocks that the edge cuts have the middle of what is left of them.
    """
    middles = tuple(_middles(n, block) for n in value.shape)
    return large_scale(value, ~good, sigma, positions=(middles[0], middles[1])).nodes


def _middles(n: int, block: int) -> FloatArray:
    """Middles of the blocks along an axis of n pixels."""
    edges = np.append(np.arange(0, n, block), n)
    return np.asarray(0.5 * (edges[1:] + edges[:-1] - 1.0), np.float64)


def expand(grid: ArrayLike, shape: tuple[int, int], block: int) -> NDArray[np.float32]:
    """Bring a grid of values at the middles of blocks to full size by cubic splines.

    Parameters
    ----------
    grid : shape (gy, gx)
        Finite values.
    shape : tuple of int
        (ny, nx) of the image.
    block : int
        Side of a block, pixel.

    Returns
    -------
    float32, shape (ny, nx)
        The splines go on beyond the middles of the outermost blocks.
    """
    rows, columns = (spline_matrix(_middles(n, block), np.arange(n)) for n in shape)
    return interpolate(rows, np.asarray(grid, np.float64), columns)


def stack_shapes(shapes: Sequence[FloatArray], block: int, *, sigma: float = 4.0) -> LargeScale:
    """Average the shapes of a set of flats into its large-scale flat.

    Parameters
    ----------
    shapes : sequence of float64, shape (gy, gx)
        Smoothed shapes, finite.
    block : int
        Side of a block, pixel.
    sigma : float
        Clipping limit.

    Returns
    -------
    LargeScale
        Blocks without light, such as those of a dead corner, have what was measured, be it negative.

    Raises
    ------
    ValueError
        If there is no shape, or one has no light.
    """
    means = np.array([float(np.mean(shape)) for shape in shapes])
    if not (means.size and np.all(means > 0)):
        raise ValueError(f"the mean of every flat's shape must be positive, got {np.array2string(means, precision=4)}")
    cube = np.stack(shapes) / means[:, None, None]
    # Twilight tilts a flat's shape: tilts are averaged as they are, and only what is left may be clipped.
    tilt = _tilts(cube)
    stack = clipped_mean((cube / tilt).astype(np.float32), sigma=sigma)
    value = stack.value * tilt.mean(axis=0)
    variance = np.var(cube, axis=0, ddof=1) / len(cube) if len(cube) > 1 else np.zeros(value.shape)
    mean = float(value.mean())
    return LargeScale((value / mean).astype(np.float32), (variance / mean**2).astype(np.float32), stack.count, block)


def _tilts(cube: FloatArray) -> FloatArray:
    """The plane fitted to each of the shapes (n, gy, gx) over their median, where that has light."""
    n, gy, gx = cube.shape
    middle = np.median(cube, axis=0).ravel()
    lit = middle > _UNLIT
    y, x = np.indices((gy, gx))
    terms = np.column_stack([np.ones(gy * gx), y.ravel() / gy, x.ravel() / gx])
    ratio = cube.reshape(n, -1)[:, lit] / middle[lit]
    coefficients = np.linalg.lstsq(terms[lit], ratio.T, rcond=None)[0]
    return np.asarray(np.maximum((terms @ coefficients).T, _UNLIT).reshape(cube.shape), np.float64)


@njit(cache=True)
def _mark_discs(
    image: NDArray[np.int32], y: NDArray[np.int64], x: NDArray[np.int64], reach: NDArray[np.int64], mark: NDArray[np.int32]
) -> None:
    """Write each mark into the disc of its reach, where there is none yet."""
    ny, nx = image.shape
    for k in range(y.size):
        r = reach[k]
        for iy in range(max(y[k] - r, 0), min(y[k] + r, ny - 1) + 1):
            for ix in range(max(x[k] - r, 0), min(x[k] + r, nx - 1) + 1):
                if image[iy, ix] == 0 and (iy - y[k]) ** 2 + (ix - x[k]) ** 2 <= r * r:
                    image[iy, ix] = mark[k]


def _grown(labels: NDArray[np.int32], height: NDArray[np.float32], grow: int) -> NDArray[np.int32]:
    """Labels grown by `grow` pixels, and one more for every factor of 2 in height: what is below the limit has wings as well."""
    y, x = np.nonzero(labels)
    reach = grow + np.log2(np.maximum(height[y, x], 1.0)).astype(np.int64)
    out = np.zeros(labels.shape, dtype=np.int32)
    _mark_discs(out, y.astype(np.int64), x.astype(np.int64), np.minimum(reach, 16), labels[y, x].astype(np.int32))
    return out


def _filtered(ratio: NDArray[np.float32], good: NDArray[np.bool_]) -> tuple[NDArray[np.float32], float, float]:
    """Ratio through the filter of a star, 0 where few pixels are good; its middle and its scatter."""
    excess = np.where(good, ratio - np.float32(1), np.float32(0))
    weight = ndimage.gaussian_filter(good.astype(np.float32), 1.5, truncate=3.0)
    smooth = ndimage.gaussian_filter(excess, 1.5, truncate=3.0) / np.maximum(weight, np.float32(0.3))
    smooth[weight < 0.3] = 0.0
    middle, scatter = robust_mean(_sample(smooth, good), clip=3.0)
    return np.asarray(smooth, np.float32), middle, scatter


def _sample(image: NDArray[np.floating], good: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Good pixels of about half a million."""
    step = max(image.size // 500_000, 1)
    return image.ravel()[::step][good.ravel()[::step]]


def star_mask(ratio: NDArray[np.float32], good: NDArray[np.bool_], *, threshold: float = 5.0, grow: int = 3) -> NDArray[np.bool_]:
    """Pixels under stars on a flat.

    Parameters
    ----------
    ratio : float32, shape (ny, nx)
        Flat over its own shape and over the response of the pixels, so far as it is known: about 1.
    good : bool, shape (ny, nx)
        Pixels with a value.
    threshold : float
        Detection limit in the smoothed image, standard deviations.
    grow : int
        Pixels by which detections grow; one more for every factor of 2 above the limit.

    Returns
    -------
    bool, shape (ny, nx)
        Only what is brighter than its surroundings: dust is not a star.
    """
    smooth, middle, scatter = _filtered(ratio, good)
    if not scatter > 0:
        return np.zeros(ratio.shape, dtype=np.bool_)
    height = (smooth - np.float32(middle)) / np.float32(threshold * scatter)
    return np.asarray(_grown((height > 1.0).astype(np.int32), height, grow) > 0, dtype=np.bool_)


def _falls_off(smooth: NDArray[np.float32], middle: float, box: tuple[slice, ...], inside: NDArray[np.bool_]) -> bool:
    """Whether a spot is little more than half as high four pixels from its peak: the light within a ring of dust is not."""
    peak = np.argmax(np.where(inside, smooth[box], -np.inf))
    y, x = np.add(np.unravel_index(int(peak), inside.shape), (box[0].start, box[1].start))
    angle = np.linspace(0.0, 2.0 * np.pi, 16, endpoint=False)
    rows = np.clip(np.rint(y + 4.0 * np.sin(angle)), 0, smooth.shape[0] - 1).astype(np.intp)
    columns = np.clip(np.rint(x + 4.0 * np.cos(angle)), 0, smooth.shape[1] - 1).astype(np.intp)
    return float(smooth[rows, columns].mean()) - middle < 0.55 * (float(smooth[y, x]) - middle)


def standing_spots(response: NDArray[np.float32], good: NDArray[np.bool_], *, threshold: float = 5.0) -> NDArray[np.int32]:
    """Spots like stars in the response itself: stars that stand at the same place in all flats, or structure of the detector.

    Parameters
    ----------
    response : float32, shape (ny, nx)
        Mean of the flats, each over its own shape: about 1.
    good : bool, shape (ny, nx)
        Pixels with a value.
    threshold : float
        Detection limit in the smoothed image, standard deviations.

    Returns
    -------
    int32, shape (ny, nx)
        Number of the spot that a pixel lies under, from 1 without gaps; 0 for none.  Lone pixels, columns, and the light within a ring of
        dust are none, nor are stars wider than about 7 pixels.  `starlike` tells which are stars.
    """
    smooth, middle, scatter = _filtered(response, good)
    if not scatter > 0:
        return np.zeros(response.shape, dtype=np.int32)
    excess = np.where(good, response - np.float32(1), np.float32(0))
    # A lone bright pixel is smeared by the filter, too, but what is around it is as dark as everywhere.
    _, pixel = robust_mean(_sample(excess - smooth, good))
    around = ndimage.uniform_filter(excess, 3) * 9 - excess
    height = (smooth - np.float32(middle)) / np.float32(threshold * scatter)
    labels, n = ndimage.label((height > 1.0) & (around > threshold * pixel * math.sqrt(8.0)))
    number, kept = np.zeros(n + 1, dtype=np.int32), 0
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        ny, nx = (part.stop - part.start for part in box)
        compact = min(ny, nx) >= 2 and max(ny, nx) <= 3 * min(ny, nx)
        if compact and _falls_off(smooth, middle, box, labels[box] == label):
            kept += 1
            number[label] = kept
    return _grown(number[labels], height, 3)


def spot_means(ratio: NDArray[np.float32], good: NDArray[np.bool_], spots: NDArray[np.int32], n: int) -> FloatArray:
    """Mean of each spot on one flat: float64, shape (n,); NaN where no pixel is good.

    Parameters
    ----------
    ratio : float32, shape (ny, nx)
        Flat over its own shape and over the response.
    good : bool, shape (ny, nx)
        Pixels with a value.
    spots : int32, shape (ny, nx)
        From `standing_spots`.
    n : int
        Number of spots.
    """
    used = good & (spots > 0)
    number = np.bincount(spots[used], minlength=n + 1)[1:]
    total = np.bincount(spots[used], weights=ratio[used], minlength=n + 1)[1:]
    return np.asarray(np.divide(total, number, out=np.full(n, np.nan), where=number > 0), np.float64)


def starlike(means: Sequence[FloatArray], errors: ArrayLike, sky: ArrayLike, *, sigma: float = 5.0) -> NDArray[np.bool_]:
    """Spots that fade as the sky gets brighter: stars. Structure of the detector keeps its contrast.

    Parameters
    ----------
    means : sequence of float64, shape (n_spot,)
        From `spot_means`, for each flat.
    errors : float64, shape (n,)
        Error of such a mean of each flat.
    sky : float64, shape (n,)
        Light of each flat for one length of exposure: level / exptime.
    sigma : float
        Significance.

    Returns
    -------
    bool, shape (n_spot,)
        None where the sky was the same in all flats, from which nothing follows.
    """
    table = np.stack(means)
    faintness = 1.0 / np.asarray(sky, np.float64)
    weight = np.isfinite(table) / np.asarray(errors, np.float64)[:, None] ** 2
    total = np.maximum(weight.sum(axis=0), 1e-300)
    x = faintness[:, None] - (weight * faintness[:, None]).sum(axis=0) / total
    square = (weight * x**2).sum(axis=0)
    slope = np.divide((weight * x * np.nan_to_num(table)).sum(axis=0), square, out=np.zeros(table.shape[1]), where=square > 0)
    return np.asarray(slope * np.sqrt(square) > sigma, dtype=np.bool_)


def leftover(blocks: Sequence[FloatArray], variances: Sequence[FloatArray]) -> FloatArray:
    """Structure that is left of each flat after it was matched to the large-scale flat.

    Parameters
    ----------
    blocks : sequence of float64, shape (gy, gx)
        Block means of the matched flats over the large-scale flat, about 1; NaN where there is none.
    variances : sequence of float64, shape (gy, gx)
        Their variances.

    Returns
    -------
    float64, shape (n,)
        Standard deviation over the blocks of what differs from the median of the flats, beyond the noise; 0 for fewer than 3 flats.
    """
    cube, noise = np.stack(blocks), np.stack(variances)
    known = np.isfinite(cube).all(axis=0)
    if len(cube) < 3 or not known.any():
        return np.zeros(len(cube))
    residual = cube[:, known] - np.median(cube[:, known], axis=0)
    residual -= residual.mean(axis=1, keepdims=True)
    excess = np.mean(residual**2, axis=1) - np.mean(noise[:, known], axis=1)
    return np.asarray(np.sqrt(np.maximum(excess, 0.0)), np.float64)


def lasting_stars(count: NDArray[np.uint16], n: int, share: float = 0.4) -> NDArray[np.bool_]:
    """Pixels under stars that stand still from flat to flat.

    Parameters
    ----------
    count : uint16, shape (ny, nx)
        Flats in which a pixel lies under a star (`star_mask`).
    n : int
        Number of flats.
    share : float
        Part of the flats from which on a pixel's star counts as standing still; more where the field is so crowded that stars
        of dithered flats meet on one pixel in a thousand by chance.

    Returns
    -------
    bool, shape (ny, nx)
        Such a star is in the median of the flats as well, so that only those with a fainter sky than most show it: no flat
        tells that pixel's response. None for fewer than 3 flats.
    """
    if n < 3:
        return np.zeros(count.shape, dtype=np.bool_)
    from scipy.stats import binom  # takes as long to import as most of the rest together

    by_chance = float(binom.isf(1e-3, n, min(float(count.mean()) / n, 1.0)))
    return np.asarray(count >= max(share * n, 2, by_chance + 1), dtype=np.bool_)
