"""Sky background: object-masked, clipped mean in boxes, less the wings of stars, smoothed, with its error."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from reduction.kernels.robust import MAD_TO_SIGMA
from reduction.photometry.kernels.sky_boxes import LEAST_UNIT, clip_factors, measure_boxes
from reduction.photometry.kernels.wings import WingStars, measure_wings

__all__ = ["BackgroundMap", "background"]

#: Sum of Gaussian weights below which boxes are too far off for a plane: the products of their weights would vanish.
_NOTHING = 1e-30
#: Part of the light of wings by which it may be wrong.
_WING_ERROR = 0.1
#: Ratio of the widths of the Gaussian that are compared, and by what the score of the narrower has to be less.
_NARROWER = 1.5
_REASON = 0.95
#: Part of the wings' light that a smooth map does not follow.
UNEVEN = 0.25


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
    wings, doubt : float32, shape (gy, gx), optional
        Light of stars beyond their masks that was taken off, smoothed, at the nodes, and what of `error` is its uncertainty, ADU.
    noise : float
        Standard deviation of a sky pixel, mean over the boxes, corrected for its clipping, ADU; NaN where it is not known.
    wing : float
        Light of stars beyond their masks that was taken off, mean over the boxes, ADU.
    structure : float
        Standard deviation of the boxes beyond their noise, ADU: what the map does not follow.
    smooth : float
        Standard deviation of the Gaussian that smooths the boxes, pixel.
    """

    value: NDArray[np.float32]
    error: NDArray[np.float32]
    box: int
    n_sky: int
    wings: NDArray[np.float32] | None = None
    doubt: NDArray[np.float32] | None = None
    noise: float = math.nan
    wing: float = 0.0
    structure: float = 0.0
    smooth: float = math.nan

    def seen(self) -> BackgroundMap:
        """The sky and the wings on it: all smooth light that is beneath the stars, and its error.

        Fluxes are measured against it, as no profile reaches that far. How much of the wings there is does not matter then, but that
        they are not smooth: a part `UNEVEN` of them is the error.
        """
        if self.wings is None or self.doubt is None:
            return self
        squared = np.maximum(self.error**2 - self.doubt**2, 0.0) + (UNEVEN * self.wings) ** 2
        return replace(self, value=self.value + self.wings, error=np.sqrt(squared), wings=None, doubt=None)

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


def _structure(grid: NDArray[np.float64], box: int, width: float) -> tuple[float, float]:
    """Variance of the boxes about their smoothed neighbours beyond what their own errors say, and of what is predicted, ADU**2."""
    flat = grid.reshape(-1, grid.shape[2])
    level, variance = _smoothed(grid, flat[:, 0].copy(), flat[:, 1].copy(), box, width, True)
    used = (flat[:, 4] > 0) & np.isfinite(level)
    if int(used.sum()) < 6:
        return 0.0, math.inf
    residual = np.abs(flat[used, 2] - level[used])
    missed = float((MAD_TO_SIGMA * np.median(residual)) ** 2)
    # A few boxes with more than sky must not decide; a steep part of the frame may.
    score = float(np.mean(np.minimum(residual, 5.0 * math.sqrt(missed)) ** 2)) if missed > 0 else 0.0
    return max(missed - float(np.median(flat[used, 3] + variance[used])), 0.0), score


def _width(grid: NDArray[np.float64], box: int, smooth: float) -> tuple[float, float]:
    """Width of the Gaussian that predicts boxes best that were left out, at most `smooth`; and the structure about it."""
    best, (structure, score) = smooth, _structure(grid, box, smooth)
    for narrower in (smooth / _NARROWER, smooth / _NARROWER**2):
        its_structure, its_score = _structure(grid, box, narrower)
        # A narrower one needs a reason: noise alone makes the scores differ.
        if narrower < box / 2 or not its_score < _REASON * score:
            break
        best, structure, score = narrower, its_structure, its_score
    return best, structure


def _bending(value: NDArray[np.float64], variance: NDArray[np.float64], narrow: NDArray[np.float64]) -> float:
    """Squared bias of the smoothed level where the sky is curved, ADU**2: it differs from a narrower one by more than noise.

    A Gaussian of width s is off by half s**2 times the Laplacian.  The narrower one has a part q = 1 / 1.5**2 of that, and their
    difference 1 + 1 / q - 4 / (1 + q) of the wide one's variance.  Nodes count by what they tell: those at the edge, or beyond it, where
    either level is the plane's continuation, must not decide with the square of their noise.
    """
    q = 1.0 / _NARROWER**2
    weight = 1.0 / np.maximum(variance, 1e-30)
    square = (value - narrow) ** 2 - (1.0 + 1.0 / q - 4.0 / (1.0 + q)) * variance
    return max(float(np.average(square, weights=weight)), 0.0) / (1.0 - q) ** 2


def _noise(grid: NDArray[np.float64]) -> float:
    """Standard deviation of a sky pixel: root of the mean variance of the boxes, of which the noisiest tenth may hold more than sky."""
    used = grid[..., 4] > 0
    if not used.any():
        return math.nan
    variance, n = grid[used, 5] ** 2, grid[used, 4]
    # Symmetric about the median, so that what is left out does not make it smaller.
    away = np.abs(variance - np.median(variance))
    keep = away <= max(4.0 * MAD_TO_SIGMA * float(np.median(away)), 1e-12)
    return math.sqrt(float(np.average(variance[keep], weights=n[keep])))


def background(
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    excluded: NDArray[np.bool_],
    *,
    box: int = 32,
    smooth: float = 48.0,
    clip: float = 3.0,
    quantum: float = 0.0,
    stars: WingStars | None = None,
    fwhm: float = 3.0,
) -> BackgroundMap:
    """Measure the sky between the sources.

    Parameters
    ----------
    data : float32, shape (ny, nx)
        Image, ADU.
    variance : float32, shape (ny, nx)
        Variance of each pixel, ADU**2; only starts the clipping and guards its scatter.
    excluded : bool, shape (ny, nx)
        Pixels not to use: sources (see `object_mask.object_mask`) and bad pixels.  Non-finite data are left out as well.
    box : int
        Side of the boxes, pixel.
    smooth : float
        Standard deviation of the Gaussian that weighs the boxes about a node, pixel; 1.5 or 2.25 times less where that predicts
        boxes better that were left out.
    clip : float
        Clipping distance, standard deviations of the sky in the box; symmetric about the mean.
    quantum : float
        Step of the raw data, ADU: noise of a fraction of it is not clipped; 0 for data that are continuous.
    stars : WingStars, optional
        Stars whose wings beyond `excluded` are measured and taken off.
    fwhm : float
        Their width, pixel.

    Returns
    -------
    BackgroundMap
        A box with fewer than 12 sky pixels is filled from its neighbours: the Gaussian grows until it finds one box's
        worth of sky, and the error with it.  Without any sky the map is NaN.

    Raises
    ------
    ValueError
        If the planes differ in shape, or box, smooth, clip or fwhm is too small.

    Notes
    -----
    Smoothing is normalised convolution with a local plane instead of a local constant (normalised differential
    convolution: Knutsson & Westin 1993, CVPR, 515), so that a gradient is not bent at edges and beside masks.
    """
    if not data.shape == variance.shape == excluded.shape:
        raise ValueError(f"data, variance and excluded differ in shape: {data.shape}, {variance.shape}, {excluded.shape}")
    if box < 4 or smooth <= 0 or clip < 1 or fwhm <= 0:
        raise ValueError(f"box must be >= 4, smooth and fwhm > 0 and clip >= 1, got {box}, {smooth}, {fwhm}, {clip}")
    contiguous = np.ascontiguousarray
    planes = (contiguous(data, np.float32), contiguous(variance, np.float32), contiguous(excluded, np.bool_))
    grid = measure_boxes(*planes, box, clip, quantum, clip_factors(clip))
    used = grid[..., 4] > 0
    noise, light = _noise(grid), np.zeros(used.shape)
    doubt = np.zeros(used.shape)
    if stars is not None:
        wings = measure_wings(planes[0], planes[2], grid, stars, fwhm=fwhm, box=box, clip=clip, least_unit=LEAST_UNIT * quantum)
        grid[..., 2] -= wings.level
        light, doubt = wings.level, np.hypot(wings.error, _WING_ERROR * wings.level)
    width, structure = _width(grid, box, smooth)
    grid[used, 3] += structure
    shape = (grid.shape[0] + 1, grid.shape[1] + 1)
    y, x = np.indices(shape, dtype=np.float64).reshape(2, -1) * box - 0.5
    value, squared = _smoothed(grid, x, y, box, width, False)
    squared += _bending(value, squared, _smoothed(grid, x, y, box, width / _NARROWER, False)[0])

    def at_nodes(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        grid[..., 2] = boxes
        return _smoothed(grid, x, y, box, width, False)[0].reshape(shape) if boxes.any() else np.zeros(shape)

    # What is wrong with the wings is wrong in all boxes about them: it does not average.
    doubtful = at_nodes(doubt)
    squared += doubtful.ravel() ** 2
    return BackgroundMap(
        value=value.reshape(shape).astype(np.float32),
        error=np.sqrt(squared).reshape(shape).astype(np.float32),
        box=box,
        n_sky=int(grid[..., 4].sum()),
        wings=at_nodes(light).astype(np.float32),
        doubt=doubtful.astype(np.float32),
        noise=noise,
        wing=float(light[used].mean()) if used.any() else 0.0,
        structure=math.sqrt(structure),
        smooth=width,
    )
