"""Flats, twice through the stack: the large-scale flat of smoothed flats, then the master flat of flats matched to it.

Twilight and clouds give each flat a large-scale shape of its own, while the
response of the pixels is the same in all of them. So the shapes are judged and
averaged on their own, and each flat is brought to the average shape before the
pixels are stacked (Pal 2009, PhD thesis, Eotvos University, section 2.4).

A shape is kept as a grid of block means, smoothed by a local plane: unlike a
mean under a Gaussian, a plane is as good at the edge, where vignetting is
steepest, as in the middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from db.flags import Mask
from reduction.kernels.masters import robust_mean
from reduction.kernels.stack import clipped_mean

__all__ = [
    "UNUSABLE",
    "LargeScale",
    "block_means",
    "expand",
    "lasting_stars",
    "leftover",
    "shape_deviation",
    "smooth_grid",
    "stack_shapes",
    "star_mask",
]

Floats = NDArray[np.float64]

#: Bits of pixels that no flat is judged by.
UNUSABLE = int(Mask.NO_DATA | Mask.SATURATED | Mask.COSMIC | Mask.BLEED | Mask.NEIGHBOUR | Mask.HOT | Mask.DEAD)

# A block counts when at least this part of its pixels has a value.
_ENOUGH = 0.2


@dataclass(frozen=True)
class LargeScale:
    """The large-scale shape of a set of flats.

    Attributes
    ----------
    value : float32, shape (gy, gx)
        Relative brightness of each block, mean 1.
    variance : float32, shape (gy, gx)
        Variance of that mean, from the scatter of the flats.
    count : int16, shape (gy, gx)
        Flats averaged.
    block : int
        Side of a block, pixel; those at the far edges may be cut.
    """

    value: NDArray[np.float32]
    variance: NDArray[np.float32]
    count: NDArray[np.int16]
    block: int


def block_means(value: NDArray[np.float32], good: NDArray[np.bool_], block: int) -> tuple[Floats, Floats]:
    """Mean of the good pixels of each block, outliers beyond 5 standard deviations left out.

    Parameters
    ----------
    value : float32, shape (ny, nx)
        Image.
    good : bool, shape (ny, nx)
        Pixels to use.
    block : int
        Side of a block, pixel.

    Returns
    -------
    mean, variance : float64, shape (ceil(ny / block), ceil(nx / block))
        Mean and its variance from the pixels' scatter; NaN where fewer than a fifth of the pixels are good.
    """
    ny, nx = value.shape
    rows, columns = -(-ny // block), -(-nx // block)
    padded = np.full((rows * block, columns * block), np.nan, dtype=np.float32)
    padded[:ny, :nx] = np.where(good, value, np.float32(np.nan))
    cells = padded.reshape(rows, block, columns, block).swapaxes(1, 2).reshape(rows, columns, block * block)
    size = np.full((rows * block, columns * block), False)
    size[:ny, :nx] = True
    whole = size.reshape(rows, block, columns, block).sum(axis=(1, 3))
    for _ in range(2):
        used = np.isfinite(cells)
        n = used.sum(axis=-1)
        filled = np.where(used, cells, 0.0)
        mean = filled.sum(axis=-1, dtype=np.float64) / np.maximum(n, 1)
        scatter2 = np.where(used, (filled - mean[..., None]) ** 2, 0.0).sum(axis=-1) / np.maximum(n - 1, 1)
        cells = np.where(np.abs(cells - mean[..., None]) <= 5.0 * np.sqrt(scatter2)[..., None], cells, np.nan)
    enough = n >= np.maximum(_ENOUGH * whole, 2)
    return np.where(enough, mean, np.nan), np.where(enough, scatter2 / np.maximum(n, 1), np.nan)


def smooth_grid(grid: Floats, sigma: float) -> Floats:
    """Smooth a grid by a local plane with Gaussian weights, and fill its gaps.

    Parameters
    ----------
    grid : float64, shape (gy, gx)
        Values; NaN where there is none.
    sigma : float
        Standard deviation of the weights, in cells; widened where too few cells are known.

    Returns
    -------
    float64, shape (gy, gx)
        Exact for a plane, also at the edges (Cleveland 1979, J. Am. Stat. Assoc. 74, 829). NaN all over when no cell is known.
    """
    known = np.isfinite(grid)
    if not known.any():
        return np.full(grid.shape, np.nan)
    result = np.full(grid.shape, np.nan)
    width = max(sigma, 0.5)
    while True:
        fitted = _local_plane(np.where(known, grid, 0.0), known.astype(np.float64), width)
        result = np.where(np.isfinite(result), result, fitted)
        if np.isfinite(result).all():
            return result
        if width > 2.0 * max(grid.shape):
            return np.where(np.isfinite(result), result, float(np.mean(grid[known])))
        width *= 2.0


def _local_plane(values: Floats, weight: Floats, sigma: float) -> Floats:
    """Value at each cell of the weighted plane around it; NaN where the cells in reach do not fix one."""
    reach = int(np.ceil(3.0 * sigma))
    offset = np.arange(-reach, reach + 1, dtype=np.float64)
    kernel = np.exp(-0.5 * (offset / sigma) ** 2)

    def moment(image: Floats, i: int, j: int) -> Floats:
        along_y = ndimage.correlate1d(image, kernel * offset**i, axis=0, mode="constant")
        return np.asarray(ndimage.correlate1d(along_y, kernel * offset**j, axis=1, mode="constant"), np.float64)

    s = {(i, j): moment(weight, i, j) for i, j in ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))}
    t = [moment(values * weight, *power) for power in ((0, 0), (1, 0), (0, 1))]
    matrix = np.stack([s[0, 0], s[1, 0], s[0, 1], s[1, 0], s[2, 0], s[1, 1], s[0, 1], s[1, 1], s[0, 2]], axis=-1)
    matrix = matrix.reshape(*values.shape, 3, 3)
    fixed = (s[0, 0] > 3.0 * kernel.min()) & (np.linalg.det(matrix) > 1e-6 * np.maximum(s[0, 0], 1e-300) ** 3 * sigma**4)
    safe = np.where(fixed[..., None, None], matrix, np.eye(3))
    plane = np.linalg.solve(safe, np.stack(t, axis=-1)[..., None])[..., 0]
    return np.where(fixed, plane[..., 0], np.nan)


def expand(grid: ArrayLike, shape: tuple[int, int], block: int) -> NDArray[np.float32]:
    """Bring a grid of block means to full size by cubic splines.

    Parameters
    ----------
    grid : shape (gy, gx)
        Finite values at the middles of the blocks.
    shape : tuple of int
        (ny, nx) of the image.
    block : int
        Side of a block, pixel.

    Returns
    -------
    float32, shape (ny, nx)
        Beyond the middles of the outermost blocks the grid goes on in a straight line.
    """
    padded = np.pad(np.asarray(grid, np.float64), 2, mode="reflect", reflect_type="odd") if min(np.shape(grid)) > 2 else None
    if padded is None:
        padded = np.pad(np.asarray(grid, np.float64), 2, mode="edge")
    # The last blocks may be cut: their means belong to the middles of what is left of them.
    rows, columns = (_places(n, block, m) for n, m in zip(shape, np.shape(grid), strict=True))
    spline = ndimage.spline_filter(padded, order=3)
    along_y = _along(spline, rows + 2.0, 0)
    return np.asarray(_along(along_y, columns + 2.0, 1), np.float32)


def _places(n: int, block: int, cells: int) -> Floats:
    """Fractional cell of each pixel along an axis."""
    middles = block * np.arange(cells, dtype=np.float64) + (block - 1) / 2.0
    last = block * (cells - 1)
    middles[-1] = (last + n - 1) / 2.0
    pixel = np.arange(n, dtype=np.float64)
    inside = np.interp(pixel, middles, np.arange(cells))
    if cells == 1:
        return inside
    before, after = pixel < middles[0], pixel > middles[-1]
    inside[before] = (pixel[before] - middles[0]) / (middles[1] - middles[0])
    inside[after] = cells - 1 + (pixel[after] - middles[-1]) / (middles[-1] - middles[-2])
    return inside


def _along(spline: Floats, places: Floats, axis: int) -> Floats:
    """Evaluate spline coefficients at fractional places along one axis."""
    base = np.floor(places).astype(np.int64)
    t = places - base
    weights = ((1 - t) ** 3 / 6, (3 * t**3 - 6 * t**2 + 4) / 6, (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6, t**3 / 6)
    total = None
    for k, weight in enumerate(weights):
        index = np.clip(base - 1 + k, 0, spline.shape[axis] - 1)
        shaped = weight[:, None] if axis == 0 else weight[None, :]
        part = np.take(spline, index, axis=axis) * shaped
        total = part if total is None else total + part
    assert total is not None
    return np.asarray(total, np.float64)


def shape_deviation(shapes: Sequence[Floats]) -> Floats:
    """How far the shape of each flat is from that of the set.

    Parameters
    ----------
    shapes : sequence of float64, shape (gy, gx)
        Shapes with mean 1; NaN where there is none.

    Returns
    -------
    float64, shape (n,)
        Standard deviation over the blocks of shape / median shape; 0 for fewer than 3 flats, of which none can be told wrong.
    """
    cube = np.stack(shapes)
    if len(cube) < 3:
        return np.zeros(len(cube))
    middle = np.nanmedian(cube, axis=0)
    ratio = cube / np.where(middle > 0, middle, np.nan)
    return np.asarray(np.nanstd(ratio, axis=(1, 2)), np.float64)


def stack_shapes(shapes: Sequence[Floats], block: int, *, sigma: float = 4.0) -> LargeScale:
    """Average the shapes of a set of flats into its large-scale flat.

    Parameters
    ----------
    shapes : sequence of float64, shape (gy, gx)
        Smoothed shapes (`smooth_grid`), finite.
    block : int
        Side of a block, pixel.
    sigma : float
        Clipping limit.

    Returns
    -------
    LargeScale

    Raises
    ------
    ValueError
        If there is no shape, or one is not positive.
    """
    cube = np.stack([shape / np.mean(shape) for shape in shapes])
    if not np.all(cube > 0):
        raise ValueError("a flat's shape must be positive everywhere")
    stack = clipped_mean(cube.astype(np.float32), sigma=sigma)
    mean = float(stack.value.mean(dtype=float))
    variance = np.nan_to_num(stack.variance, nan=0.0) / np.float32(mean**2)
    return LargeScale((stack.value / np.float32(mean)).astype(np.float32), variance.astype(np.float32), stack.count, block)


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
        Pixels by which detections grow; those five times brighter than the limit grow by twice as much.

    Returns
    -------
    bool, shape (ny, nx)
        Only what is brighter than its surroundings: dust is not a star.
    """
    excess = np.where(good, ratio - np.float32(1), np.float32(0))
    smooth = ndimage.gaussian_filter(excess, 1.5)
    weight = ndimage.gaussian_filter(good.astype(np.float32), 1.5)
    smooth = np.where(weight > 0.3, smooth / np.maximum(weight, 0.3), 0.0)
    middle, scatter = robust_mean(smooth[good], clip=3.0)
    if not np.isfinite(scatter) or scatter <= 0:
        return np.zeros(ratio.shape, dtype=np.bool_)
    found = smooth - middle > threshold * scatter
    bright = smooth - middle > 5.0 * threshold * scatter
    square = np.ones((3, 3), dtype=np.bool_)
    grown = ndimage.binary_dilation(found, square, iterations=grow) if found.any() else found
    if bright.any():
        grown = grown | ndimage.binary_dilation(bright, square, iterations=2 * grow)
    return np.asarray(grown, dtype=np.bool_)


def leftover(blocks: Sequence[Floats], variances: Sequence[Floats]) -> Floats:
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
    if len(cube) < 3:
        return np.zeros(len(cube))
    residual = cube - np.nanmedian(cube, axis=0)
    residual -= np.nanmean(residual, axis=(1, 2), keepdims=True)
    excess = np.nanmean(residual**2, axis=(1, 2)) - np.nanmean(noise, axis=(1, 2))
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
        Part of the flats from which on a pixel's star counts as standing still.

    Returns
    -------
    bool, shape (ny, nx)
        Such a star is in the median of the flats as well, so that only those with a fainter sky than most show it: no flat
        tells that pixel's response. None for fewer than 3 flats.
    """
    if n < 3:
        return np.zeros(count.shape, dtype=np.bool_)
    return np.asarray(count >= max(share * n, 2), dtype=np.bool_)
