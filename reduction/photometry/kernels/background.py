"""Sky background: object-masked, clipped mean in boxes, smoothed, with its error.

The mean is used and never the median or a mode: on integer data whose noise is
about 1 ADU those are off by tenths of an ADU, which an aperture multiplies by
its area.  For the same reason the clipping has no sharp border: a hard cut at a
fixed distance from the mean lets one more integer in on one side than on the
other.  The weight falls from one to zero over one standard deviation about the
clipping distance, which is symmetric for any position of the mean between two
integers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from reduction.kernels.compiled import scatter_about
from reduction.kernels.robust import MAD_TO_SIGMA

__all__ = ["BackgroundMap", "background", "object_mask"]

_ITERATIONS = 12
_SAMPLE = 256
_MIN_PIXELS = 12
#: Sum of Gaussian weights below which boxes are too far off for a plane: the products of their weights would vanish.
_NOTHING = 1e-30


@dataclass(frozen=True)
class BackgroundMap:
    """Background on a grid of nodes at the corners of the boxes.

    Attributes
    ----------
    value : float32, shape (gy, gx)
        Sky level at the nodes, ADU; node (j, i) lies at x = i * box - 0.5, y = j * box - 0.5.
        NaN everywhere when no box of the frame held enough sky.
    error : float32, shape (gy, gx)
        Standard error of `value`, ADU.  It is common to all pixels of an aperture: an aperture of area A
        gains the variance ``(A * error)**2``, not ``A * error**2``.
    box : int
        Distance of the nodes, pixel.
    n_sky : int
        Sky pixels that the map rests on.
    """

    value: NDArray[np.float32]
    error: NDArray[np.float32]
    box: int
    n_sky: int

    def at(self, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Level and error at positions.

        Parameters
        ----------
        x, y : float64, shape (n,)
            Positions, pixel.  One outside of the grid takes the value at the nearest border; NaN gives NaN.

        Returns
        -------
        value, error : float64, shape (n,)
            Cubic (Catmull-Rom) interpolation of the level and bilinear interpolation of its error, ADU.
        """
        gy, gx = self.value.shape
        j, v = _cell(y, self.box, gy)
        i, u = _cell(x, self.box, gx)
        value = np.zeros(u.shape)
        error = np.zeros(u.shape)
        padded, bounds = _padded(self.value.astype(np.float64)), self.error.astype(np.float64)
        for row, row_weight in enumerate(_catmull_rom(v)):
            for column, column_weight in enumerate(_catmull_rom(u)):
                value += row_weight * column_weight * padded[j + row, i + column]
        for row, row_weight in enumerate((1 - v, v)):
            for column, column_weight in enumerate((1 - u, u)):
                error += row_weight * column_weight * bounds[j + row, i + column]
        return value, error

    def image(self, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Level of every pixel of a frame.

        Parameters
        ----------
        shape : (ny, nx)
            Shape of the frame that the map was made from.

        Returns
        -------
        float32, shape (ny, nx)
            The same interpolation as `at`, ADU.
        """
        rows = _interpolation_matrix(shape[0], self.box, self.value.shape[0])
        columns = _interpolation_matrix(shape[1], self.box, self.value.shape[1])
        # Not by BLAS: its last digits depend on the number of its threads, and a frame must not depend on who works it.
        image: NDArray[np.float32] = csr_array(rows) @ np.einsum("ij,kj->ik", _padded(self.value), columns)
        return image


def _cell(position: ArrayLike, box: int, n: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Node before each position and the fraction to the next, within the grid."""
    grid = (np.asarray(position, dtype=np.float64) + 0.5) / box
    index = np.clip(np.nan_to_num(np.floor(grid), nan=0.0), 0, n - 2).astype(np.intp)
    return index, np.clip(grid - index, 0.0, 1.0)


def _catmull_rom(t: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Weights of the nodes -1, 0, 1, 2 about fraction t (Catmull & Rom 1974)."""
    return (
        0.5 * t * (t * (2 - t) - 1),
        0.5 * (t * t * (3 * t - 5) + 2),
        0.5 * t * (t * (4 - 3 * t) + 1),
        0.5 * t * t * (t - 1),
    )


def _padded(nodes: NDArray[np.floating]) -> NDArray[np.floating]:
    """Nodes with one more on every side, continued linearly."""
    return np.pad(nodes, 1, mode="reflect", reflect_type="odd")


def _interpolation_matrix(n_pixel: int, box: int, n_node: int) -> NDArray[np.float32]:
    """Matrix (pixel, padded node) of the interpolation along one axis."""
    index, t = _cell(np.arange(n_pixel), box, n_node)
    matrix = np.zeros((n_pixel, n_node + 2), np.float32)
    for k, weight in enumerate(_catmull_rom(t)):
        matrix[np.arange(n_pixel), index + k] = weight
    return matrix


@njit(cache=True)
def _mark_capsule(mask: NDArray[np.bool_], x: float, y: float, radius: float, dx: float, dy: float, half_width: float) -> None:
    """Mark the disc about (x, y) and the strip from there to (x + dx, y + dy)."""
    ny, nx = mask.shape
    length2 = dx * dx + dy * dy
    reach = max(radius, half_width) if length2 > 0.0 else radius
    first_x, last_x = max(math.ceil(min(x, x + dx) - reach), 0), min(math.floor(max(x, x + dx) + reach), nx - 1)
    first_y, last_y = max(math.ceil(min(y, y + dy) - reach), 0), min(math.floor(max(y, y + dy) + reach), ny - 1)
    for iy in range(first_y, last_y + 1):
        for ix in range(first_x, last_x + 1):
            px, py = ix - x, iy - y
            inside = px * px + py * py <= radius * radius
            if not inside and length2 > 0.0:
                t = min(max((px * dx + py * dy) / length2, 0.0), 1.0)
                inside = (px - t * dx) ** 2 + (py - t * dy) ** 2 <= half_width * half_width
            if inside:
                mask[iy, ix] = True


@njit(cache=True)
def _mark_all(mask: NDArray[np.bool_], table: NDArray[np.float64]) -> None:
    for row in table:
        # Also false for NaN and for positions too far off for an integer.
        if abs(row[0]) < 1e8 and abs(row[1]) < 1e8 and row[2] >= 0.0:
            _mark_capsule(mask, row[0], row[1], row[2], row[3], row[4], row[5])


def object_mask(
    shape: tuple[int, int],
    x: ArrayLike,
    y: ArrayLike,
    radius: ArrayLike,
    *,
    trail_x: ArrayLike = 0.0,
    trail_y: ArrayLike = 0.0,
    trail_half_width: ArrayLike = 2.0,
) -> NDArray[np.bool_]:
    """Pixels covered by sources and their charge trails.

    Parameters
    ----------
    shape : (ny, nx)
        Shape of the frame.
    x, y : float64, shape (n,)
        Positions, pixel; sources off the frame still mark what reaches into it; NaN marks nothing.
    radius : float64, shape (n,) or scalar
        Radius of the disc, pixel: a pixel is marked when its centre is inside or on it.
    trail_x, trail_y : float64, shape (n,) or scalar
        Where the trail ends, relative to the source, pixel; 0, 0 for none.
    trail_half_width : float64, shape (n,) or scalar
        Half width of the trail, pixel.

    Returns
    -------
    bool, shape (ny, nx)
        True where the sky is not to be measured.
    """
    columns = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (x, y, radius, trail_x, trail_y, trail_half_width)))
    table = np.stack([column.ravel() for column in columns], axis=1)
    mask = np.zeros(shape, dtype=np.bool_)
    _mark_all(mask, table)
    return mask


@njit(cache=True)
def _start(values: NDArray[np.float32], n: int) -> tuple[float, float]:
    """Median and scaled median absolute deviation of a sample of the first n values."""
    step = max(n // _SAMPLE, 1)
    sample = values[:n:step].copy()
    centre = float(np.median(sample))
    return centre, scatter_about(sample, centre)


# Only the order of the sums is free: values are finite here.
@njit(cache=True, fastmath={"reassoc", "contract", "nsz"})
def _weighted_sums(values: NDArray[np.float32], n: int, centre: float, inverse: float, limit: float) -> tuple[float, float, float]:
    """Sums of the weights, and of the first and second moments about the centre."""
    w_sum, first, second = 0.0, 0.0, 0.0
    for i in range(n):
        d = values[i] - centre
        w = min(max(limit - abs(d) * inverse, 0.0), 1.0)
        w_sum += w
        first += w * d
        second += w * d * d
    return w_sum, first, second


@njit(cache=True)
def _soft_clipped_mean(values: NDArray[np.float32], n: int, noise: float, clip: float, shrink: float) -> tuple[float, float, float]:
    """Mean, standard deviation and weight of the values about their mean, softly clipped."""
    centre, sigma = _start(values, n)
    sigma = max(sigma, noise)
    weight_sum = float(n)
    for _ in range(_ITERATIONS):
        w_sum, first, second = _weighted_sums(values, n, centre, 1.0 / sigma if sigma > 0.0 else 0.0, clip + 0.5)
        if w_sum < 2.0:
            break
        shift = first / w_sum
        spread = math.sqrt(max(second / w_sum - shift * shift, 0.0) / shrink)
        # Each step leaves a few per cent of the last: far below the error of the mean.
        settled = abs(shift) <= 1e-3 * sigma and abs(spread - sigma) <= 1e-2 * sigma
        centre += shift
        sigma, weight_sum = spread, w_sum
        if settled or spread == 0.0:
            break
    return centre, sigma, weight_sum


@njit(cache=True)
def _box_noise(variance: NDArray[np.float32], excluded: NDArray[np.bool_], y0: int, x0: int, box: int) -> float:
    """Root of the mean variance of the sky pixels in every eighth row of a box; 0 when there is none."""
    ny, nx = variance.shape
    total, n = 0.0, 0
    for iy in range(y0, min(y0 + box, ny), 8):
        for ix in range(x0, min(x0 + box, nx)):
            if not excluded[iy, ix] and 0.0 < variance[iy, ix] < np.inf:
                total += variance[iy, ix]
                n += 1
    return math.sqrt(total / n) if n > 0 else 0.0


@njit(cache=True)
def _measure_boxes(
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    excluded: NDArray[np.bool_],
    box: int,
    clip: float,
    factors: tuple[float, float],
) -> NDArray[np.float64]:
    """Grid (by, bx, 5) of x, y, mean, variance of the mean and pixels of the boxes; pixels 0 for too little sky."""
    shrink, inflate = factors
    ny, nx = data.shape
    by, bx = (ny + box - 1) // box, (nx + box - 1) // box
    grid = np.zeros((by, bx, 5))
    values = np.empty(box * box, np.float32)
    for j in range(by):
        for i in range(bx):
            n, sum_x, sum_y = 0, 0, 0
            for iy in range(j * box, min((j + 1) * box, ny)):
                before = n
                for ix in range(i * box, min((i + 1) * box, nx)):
                    # Without a branch: what is not sky is overwritten by the next value.
                    value = data[iy, ix]
                    sky = int(not excluded[iy, ix]) & int(value - value == 0.0)
                    values[n] = value
                    n += sky
                    sum_x += ix * sky
                sum_y += iy * (n - before)
            if n < _MIN_PIXELS:
                continue
            pixel_noise = _box_noise(variance, excluded, j * box, i * box, box)
            mean, sigma, weight = _soft_clipped_mean(values, n, pixel_noise, clip, shrink)
            # The variance plane guards against a scatter that is small by chance, the last term against none at all.
            scatter = max(sigma, 0.5 * pixel_noise, 1e-6 * abs(mean), 1e-12)
            grid[j, i] = np.array([sum_x / n, sum_y / n, mean, inflate * scatter * scatter / weight, float(n)])
    return grid


@njit(cache=True)
def _normal_equations(
    grid: NDArray[np.float64],
    x: float,
    y: float,
    window: tuple[int, int, int, int],
    width: float,
    leave_out: int,
    near: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Sums of w, wu, wv, wuu, wuv, wvv and of the Gaussian alone; the Gaussian of each box in the window goes to `near`."""
    m0, mu, mv, muu, muv, mvv, found = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    k = 0
    for j in range(window[0], window[1]):
        for i in range(window[2], window[3]):
            near[k] = 0.0
            if grid[j, i, 4] > 0.0 and j * grid.shape[1] + i != leave_out:
                u, v = (grid[j, i, 0] - x) / width, (grid[j, i, 1] - y) / width
                near[k] = math.exp(-0.5 * (u * u + v * v))
                found += near[k]
                w = near[k] / grid[j, i, 3]
                m0 += w
                mu += w * u
                mv += w * v
                muu += w * u * u
                muv += w * u * v
                mvv += w * v * v
            k += 1
    return np.array([m0, mu, mv, muu, muv, mvv, found])


@njit(cache=True)
def _plane_at(grid: NDArray[np.float64], x: float, y: float, box: int, width: float, leave_out: int) -> tuple[float, float, float]:
    """Plane fitted to the boxes about (x, y): its value there, the value's variance, and the sum of Gaussian weights."""
    by, bx = grid.shape[:2]
    reach = math.ceil(3.0 * width / box)
    j0, i0 = int((y + 0.5) // box), int((x + 0.5) // box)
    window = (max(j0 - reach, 0), min(j0 + reach, by - 1) + 1, max(i0 - reach, 0), min(i0 + reach, bx - 1) + 1)
    near = np.empty((window[1] - window[0]) * (window[3] - window[2]))
    m = _normal_equations(grid, x, y, window, width, leave_out, near)
    if m[6] <= _NOTHING:
        return np.nan, np.nan, 0.0
    # A slope that the boxes do not hold stays near zero, which leaves the plain weighted mean.
    muu, mvv = m[3] + 0.001 * m[0], m[5] + 0.001 * m[0]
    # First row of the inverse of the normal matrix, by cofactors.
    c0, c1, c2 = muu * mvv - m[4] * m[4], m[2] * m[4] - m[1] * mvv, m[1] * m[4] - m[2] * muu
    determinant = m[0] * c0 + m[1] * c1 + m[2] * c2
    value, variance = 0.0, 0.0
    k = 0
    for j in range(window[0], window[1]):
        for i in range(window[2], window[3]):
            if near[k] > 0.0:
                u, v = (grid[j, i, 0] - x) / width, (grid[j, i, 1] - y) / width
                c = near[k] / grid[j, i, 3] * (c0 + c1 * u + c2 * v) / determinant
                value += c * grid[j, i, 2]
                variance += c * c * grid[j, i, 3]
            k += 1
    return value, variance, m[6]


@njit(cache=True)
def _smoothed(
    grid: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], box: int, width: float, leave_out: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Smoothed level and its variance at positions; the width grows where there is too little sky."""
    extent = 2.0 * box * max(grid.shape[0], grid.shape[1])
    value, variance = np.full(x.size, np.nan), np.full(x.size, np.nan)
    for k in range(x.size):
        wide = width
        while True:
            level, noise, found = _plane_at(grid, x[k], y[k], box, wide, k if leave_out else -1)
            if found >= 1.0 or wide > extent:
                break
            wide *= 1.5
        # A wider Gaussian averages more boxes, and all of them are farther off.
        value[k], variance[k] = level, noise * (wide / width) ** 4
    return value, variance


def _structure(grid: NDArray[np.float64], box: int, width: float) -> float:
    """Variance of the boxes about their smoothed neighbours beyond what their own errors say, ADU**2."""
    flat = grid.reshape(-1, 5)
    level, variance = _smoothed(grid, flat[:, 0].copy(), flat[:, 1].copy(), box, width, True)
    used = (flat[:, 4] > 0) & np.isfinite(level)
    if int(used.sum()) < 6:
        return 0.0
    residual = np.abs(flat[used, 2] - level[used])
    return max(float((MAD_TO_SIGMA * np.median(residual)) ** 2 - np.median(flat[used, 3] + variance[used])), 0.0)


def _clip_factors(clip: float) -> tuple[float, float]:
    """Variance kept by the soft clipping of a Gaussian, and growth of the mean's variance by it.

    The second is the asymptotic variance of an M-estimator of location (Huber 1981, section 3.2).
    """
    z = np.linspace(-clip - 1, clip + 1, 4001)
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    weight = np.clip(clip + 0.5 - np.abs(z), 0, 1)
    kept, second = np.trapezoid(weight * density, z), np.trapezoid(weight * z**2 * density, z)
    return float(second / kept), float(kept * np.trapezoid((weight * z) ** 2 * density, z) / second**2)


def background(
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    excluded: NDArray[np.bool_],
    *,
    box: int = 32,
    smooth: float = 48.0,
    clip: float = 3.0,
) -> BackgroundMap:
    """Measure the sky between the sources.

    Parameters
    ----------
    data : float32, shape (ny, nx)
        Image, ADU.
    variance : float32, shape (ny, nx)
        Variance of each pixel, ADU**2; only starts the clipping and guards its scatter.
    excluded : bool, shape (ny, nx)
        Pixels not to use: sources (see `object_mask`) and bad pixels.  Non-finite data are left out as well.
    box : int
        Side of the boxes, pixel.
    smooth : float
        Standard deviation of the Gaussian that weighs the boxes about a node, pixel.
    clip : float
        Clipping distance, standard deviations of the sky in the box; symmetric about the mean.

    Returns
    -------
    BackgroundMap
        A box with fewer than 12 sky pixels is filled from its neighbours: the Gaussian grows until it finds one box's
        worth of sky, and the error with it.  Without any sky the map is NaN.

    Raises
    ------
    ValueError
        If the planes differ in shape, or box, smooth or clip is too small.

    Notes
    -----
    Smoothing is normalised convolution with a local plane instead of a local constant (normalised differential
    convolution: Knutsson & Westin 1993, CVPR, 515), so that a gradient is not bent at edges and beside masks.
    """
    if not data.shape == variance.shape == excluded.shape:
        raise ValueError(f"data, variance and excluded differ in shape: {data.shape}, {variance.shape}, {excluded.shape}")
    if box < 4 or smooth <= 0 or clip < 1:
        raise ValueError(f"box must be >= 4, smooth > 0 and clip >= 1, got {box}, {smooth}, {clip}")
    contiguous = np.ascontiguousarray
    planes = (contiguous(data, np.float32), contiguous(variance, np.float32), contiguous(excluded, np.bool_))
    grid = _measure_boxes(*planes, box, clip, _clip_factors(clip))
    used = grid[..., 4] > 0
    grid[used, 3] += _structure(grid, box, smooth)
    shape = (grid.shape[0] + 1, grid.shape[1] + 1)
    y, x = np.indices(shape, dtype=np.float64).reshape(2, -1) * box - 0.5
    value, noise = _smoothed(grid, x, y, box, smooth, False)
    return BackgroundMap(
        value=value.reshape(shape).astype(np.float32),
        error=np.sqrt(noise).reshape(shape).astype(np.float32),
        box=box,
        n_sky=int(grid[..., 4].sum()),
    )
