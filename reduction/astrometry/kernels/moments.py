"""Windowed centroids and adaptive second moments of stars, freed of what pixels and neighbours do to them.

The window is a Gaussian, as in SExtractor's XWIN (Bertin & Arnouts 1996, A&AS 117, 393) and in adaptive moments
(Bernstein & Jarvis 2002, AJ 123, 583). Sums over pixels are no integrals: an undersampled star's windowed moments
depend on where in the pixel it stands, and a masked pixel pulls at them. So the same sums are taken over a Gaussian
star integrated by the same pixels, and the difference to its integrals is taken off; what Gaussians leave there, the
neighbours, is taken off before.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from reduction.kernels.arrays import FloatArray

__all__ = ["FWHM_PER_SIGMA", "adaptive_shapes", "axes_of", "neighbours_of", "sdk_of", "windowed_centroids"]


FWHM_PER_SIGMA = 2.0 * math.sqrt(2.0 * math.log(2.0))
WINDOW = 1.5  # variance of a centroid's window in that of the star: errors of 1.04 (sky) to 1.19 (photons alone) times the least possible
KURTOSIS = -1.0 / 2880.0  # fourth cumulant of a pixel, -1/120, over 4!: what is not Gaussian in a star integrated by it
REACH = 16.0  # squared radius of a window, in its own variances
SWEEPS = 4  # rounds of a group of stars that take each other's light off
SMALLEST, LARGEST = 0.2, 1600.0  # pixel^2; variance along an axis, pixel included: FWHM of 1.05 and 94 pixels


@njit(cache=True)
def _star(dx: float, dy: float, pxx: float, pyy: float, pxy: float) -> float:
    """Gaussian of height about 1 and inverse covariance p (pixel included), as pixels integrate it."""
    u, v = pxx * dx + pxy * dy, pxy * dx + pyy * dy
    along_x = u**4 - 6.0 * u * u * pxx + 3.0 * pxx * pxx
    along_y = v**4 - 6.0 * v * v * pyy + 3.0 * pyy * pyy
    return math.exp(-0.5 * (dx * u + dy * v)) * (1.0 + KURTOSIS * (along_x + along_y))


@njit(cache=True)
def _inverse(xx: float, yy: float, xy: float) -> tuple[float, float, float]:
    """Inverse of a symmetric 2x2 matrix, as xx, yy, xy."""
    det = xx * yy - xy * xy
    return yy / det, xx / det, -xy / det


@njit(cache=True)
def _neighbours(
    column: int,
    row: int,
    i: int,
    first: NDArray[np.int64],
    other: NDArray[np.int64],
    x: FloatArray,
    y: FloatArray,
    height: FloatArray,
    p: FloatArray,
) -> float:
    """Light of star i's neighbours on a pixel."""
    light = 0.0
    for j in range(first[i], first[i + 1]):
        k = other[j]
        if height[k] > 0.0:
            light += height[k] * _star(column - x[k], row - y[k], p[0], p[1], p[2])
    return light


@njit(cache=True)
def _box(centre: float, reach: float, size: int) -> tuple[int, int]:
    """First and one past the last pixel within reach of a centre."""
    return max(math.ceil(centre - reach), 0), min(math.floor(centre + reach) + 1, size)


@njit(cache=True)
def _centroid_sums(
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    bad: NDArray[np.bool_],
    i: int,
    x: FloatArray,
    y: FloatArray,
    height: FloatArray,
    first: NDArray[np.int64],
    other: NDArray[np.int64],
    shape: FloatArray,
    p: FloatArray,
) -> FloatArray:
    """Sums over the window of star i, for its light and for a star of height 1, see `_newton`."""
    sums = np.zeros(19)
    ny, nx = data.shape
    reach = math.sqrt(REACH * WINDOW)
    top, bottom = _box(y[i], reach * math.sqrt(shape[1]), ny)
    left, right = _box(x[i], reach * math.sqrt(shape[0]), nx)
    for row in range(top, bottom):
        dy = row - y[i]
        for column in range(left, right):
            dx = column - x[i]
            u, v = p[0] * dx + p[2] * dy, p[2] * dx + p[1] * dy
            q = (dx * u + dy * v) / WINDOW
            if q > REACH or bad[row, column]:
                continue
            w = math.exp(-0.5 * q)
            light = w * (data[row, column] - _neighbours(column, row, i, first, other, x, y, height, p))
            model = w * _star(dx, dy, p[0], p[1], p[2])
            noise = w * w * variance[row, column]
            sums[0] += light
            sums[1] += light * dx
            sums[2] += light * dy
            sums[3] += light * dx * u
            sums[4] += light * dx * v
            sums[5] += light * dy * u
            sums[6] += light * dy * v
            sums[7] += model
            sums[8] += model * dx
            sums[9] += model * dy
            sums[10] += model * dx * u
            sums[11] += model * dx * v
            sums[12] += model * dy * u
            sums[13] += model * dy * v
            sums[14] += noise * dx * dx
            sums[15] += noise * dy * dy
            sums[16] += noise * dx * dy
            sums[17] += w * w
            sums[18] += noise
    return sums


@njit(cache=True)
def _newton(sums: FloatArray) -> tuple[float, float, float, float, float, float]:
    """Height of the star, step to its centroid, and the covariance xx, yy, xy of the centroid; height 0 where there is no star.

    The first moment's slope with the centre is a sum over the star's own light, whatever its profile, and the error
    that sum makes on a Gaussian: slope = sum of w I (1 - r r^T / W), plus A (sum of w G r r^T / C - the same of w G).
    """
    if not (sums[0] > 0.0 and sums[7] > 0.0):
        return 0.0, 0.0, 0.0, np.inf, np.inf, 0.0
    a = sums[0] / sums[7]
    share = 1.0 + 1.0 / WINDOW
    jxx = sums[0] - sums[3] / WINDOW + a * (share * sums[10] - sums[7])
    jxy = -sums[4] / WINDOW + a * share * sums[11]
    jyx = -sums[5] / WINDOW + a * share * sums[12]
    jyy = sums[0] - sums[6] / WINDOW + a * (share * sums[13] - sums[7])
    # in the noise of the faintest stars the Gaussian's own slope is the better guess
    if jxx < 0.5 * a * sums[10] or jyy < 0.5 * a * sums[13]:
        jxx, jxy, jyx, jyy = a * sums[10], a * sums[11], a * sums[12], a * sums[13]
    det = jxx * jyy - jxy * jyx
    if not det > 0.0:
        return 0.0, 0.0, 0.0, np.inf, np.inf, 0.0
    bx, by = sums[1] - a * sums[8], sums[2] - a * sums[9]
    ixx, ixy, iyx, iyy = jyy / det, -jxy / det, -jyx / det, jxx / det
    vxx = ixx * ixx * sums[14] + 2.0 * ixx * ixy * sums[16] + ixy * ixy * sums[15]
    vyy = iyx * iyx * sums[14] + 2.0 * iyx * iyy * sums[16] + iyy * iyy * sums[15]
    vxy = ixx * iyx * sums[14] + (ixx * iyy + ixy * iyx) * sums[16] + ixy * iyy * sums[15]
    return a, ixx * bx + ixy * by, iyx * bx + iyy * by, vxx, vyy, vxy


@njit(cache=True)
def _centroids(
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    bad: NDArray[np.bool_],
    x: FloatArray,
    y: FloatArray,
    height: FloatArray,
    covariance: FloatArray,
    weight: FloatArray,
    spread: FloatArray,
    first: NDArray[np.int64],
    other: NDArray[np.int64],
    shape: FloatArray,
    limit: FloatArray,
) -> None:
    p = np.array(_inverse(shape[0], shape[1], shape[2]))
    start_x, start_y = x.copy(), y.copy()
    longest = math.sqrt(min(shape[0], shape[1]))
    for sweep in range(SWEEPS):
        for i in range(x.size):
            if sweep > 0 and first[i] == first[i + 1]:
                continue
            for _ in range(20):
                sums = _centroid_sums(data, variance, bad, i, x, y, height, first, other, shape, p)
                a, dx, dy, covariance[i, 0], covariance[i, 1], covariance[i, 2] = _newton(sums)
                height[i] = a
                if sums[17] > 0.0:
                    weight[i], spread[i] = sums[0] / math.sqrt(sums[17]), math.sqrt(sums[18] / sums[17])
                step = math.hypot(dx, dy)
                if step > longest:
                    dx, dy = dx * longest / step, dy * longest / step
                x[i], y[i] = x[i] + dx, y[i] + dy
                if math.hypot(x[i] - start_x[i], y[i] - start_y[i]) > limit[i]:
                    x[i], y[i] = start_x[i], start_y[i]
                    break
                if step < 1e-4:
                    break


@njit(cache=True)
def _shape_sums(
    data: NDArray[np.float32],
    bad: NDArray[np.bool_],
    i: int,
    x: FloatArray,
    y: FloatArray,
    height: FloatArray,
    first: NDArray[np.int64],
    other: NDArray[np.int64],
    p: FloatArray,
    c: FloatArray,
) -> FloatArray:
    """Sums of light, first and second moments under a window of covariance c, for star i and for a star of height 1 and that shape."""
    sums = np.zeros(10)
    ny, nx = data.shape
    own = np.array(_inverse(c[0], c[1], c[2]))
    reach = math.sqrt(REACH)
    top, bottom = _box(y[i], reach * math.sqrt(c[1]), ny)
    left, right = _box(x[i], reach * math.sqrt(c[0]), nx)
    for row in range(top, bottom):
        dy = row - y[i]
        for column in range(left, right):
            dx = column - x[i]
            q = own[0] * dx * dx + 2.0 * own[2] * dx * dy + own[1] * dy * dy
            if q > REACH or bad[row, column]:
                continue
            w = math.exp(-0.5 * q)
            light = w * (data[row, column] - _neighbours(column, row, i, first, other, x, y, height, p))
            model = w * _star(dx, dy, own[0], own[1], own[2])
            sums[0] += light
            sums[1] += light * dx * dx
            sums[2] += light * dy * dy
            sums[3] += light * dx * dy
            sums[4] += model
            sums[5] += model * dx * dx
            sums[6] += model * dy * dy
            sums[7] += model * dx * dy
            sums[8] += light * dx
            sums[9] += light * dy
    return sums


@njit(cache=True)
def _next_shape(sums: FloatArray, c: FloatArray) -> tuple[bool, float, float, float]:
    """Covariance of the Gaussian that has the moments seen under a window of covariance c; whether there is one."""
    if not (sums[0] > 0.0 and sums[4] > 0.0):
        return False, c[0], c[1], c[2]
    # the Gaussian of the window's own shape would show half of its covariance: what its sums show instead is the pixels' doing
    xx = sums[1] / sums[0] - sums[5] / sums[4] + 0.5 * c[0]
    yy = sums[2] / sums[0] - sums[6] / sums[4] + 0.5 * c[1]
    xy = sums[3] / sums[0] - sums[7] / sums[4] + 0.5 * c[2]
    if not (xx > 0.0 and yy > 0.0 and xx * yy > xy * xy):
        return True, 0.5 * c[0], 0.5 * c[1], 0.5 * c[2]
    seen, window = _inverse(xx, yy, xy), _inverse(c[0], c[1], c[2])
    pxx, pyy, pxy = seen[0] - window[0], seen[1] - window[1], seen[2] - window[2]
    wide = pxx + pyy < 0.25 * (window[0] + window[1])
    # light wider than its window by far, or not at all like a Gaussian: the window follows in steps
    if wide or not (pxx > 0.0 and pyy > 0.0 and pxx * pyy > pxy * pxy):
        return True, 2.0 * xx, 2.0 * yy, 2.0 * xy
    xx, yy, xy = _inverse(pxx, pyy, pxy)
    return True, xx, yy, xy


@njit(cache=True)
def _shapes(
    data: NDArray[np.float32],
    bad: NDArray[np.bool_],
    x: FloatArray,
    y: FloatArray,
    height: FloatArray,
    first: NDArray[np.int64],
    other: NDArray[np.int64],
    p: FloatArray,
    start: FloatArray,
    result: FloatArray,
    free: bool,
) -> None:
    c = np.zeros(3)
    for i in range(x.size):
        c[:] = start[i]
        for iteration in range(40):
            sums = _shape_sums(data, bad, i, x, y, height, first, other, p, c)
            ok, xx, yy, xy = _next_shape(sums, c)
            if not ok:
                break
            if free:
                x[i], y[i] = x[i] + sums[8] / sums[0], y[i] + sums[9] / sums[0]
            change = abs(xx - c[0]) + abs(yy - c[1]) + 2.0 * abs(xy - c[2])
            size = c[0] + c[1]
            # half steps once whole ones have not settled: profiles with wide wings swing
            part = 1.0 if iteration < 10 else 0.5
            c[0], c[1], c[2] = c[0] + part * (xx - c[0]), c[1] + part * (yy - c[1]), c[2] + part * (xy - c[2])
            mean, spread = 0.5 * (c[0] + c[1]), math.hypot(0.5 * (c[0] - c[1]), c[2])
            if mean - spread < SMALLEST or mean + spread > LARGEST:
                break
            if change < 1e-4 * size:
                result[i] = c
                break


def neighbours_of(x: FloatArray, y: FloatArray, radius: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Neighbours of each star within a radius.

    Parameters
    ----------
    x, y : float64, shape (n,)
        Positions (pixel), finite.
    radius : float
        Pixel.

    Returns
    -------
    first : int64, shape (n + 1,)
        Where each star's neighbours begin in `other`; they end where the next star's begin.
    other : int64, shape (m,)
        Their indices, ascending for each star.
    """
    pairs = cKDTree(np.column_stack([x, y])).query_pairs(radius, output_type="ndarray").reshape(-1, 2) if len(x) else np.zeros((0, 2), int)
    both = np.concatenate([pairs, pairs[:, ::-1]]).astype(np.int64)
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    return np.searchsorted(both[:, 0], np.arange(len(x) + 1)).astype(np.int64), np.ascontiguousarray(both[:, 1])


def windowed_centroids(
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    bad: NDArray[np.bool_],
    x: FloatArray,
    y: FloatArray,
    shape: FloatArray,
    limit: FloatArray,
    neighbours: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Centroids under a Gaussian window of one shape, with neighbours taken off, and their covariance.

    Parameters
    ----------
    data, variance : float32, shape (ny, nx)
        Image less its background (ADU), and its variance (ADU^2).
    bad : bool, shape (ny, nx)
        Pixels that are not used.
    x, y : float64, shape (n,)
        Where to start (pixel).
    shape : float64, shape (3,)
        Covariance xx, yy, xy (pixel^2) of the frame's stars, pixel included. The window's is 1.7 times as large.
    limit : float64, shape (n,)
        A centroid that goes farther than this (pixel) stays where it started.
    neighbours : first, other
        As `neighbours_of` gives them.

    Returns
    -------
    x, y : float64, shape (n,)
        Centroids (pixel).
    covariance : float64, shape (n, 3)
        Of the centroids, xx, yy, xy (pixel^2), from `variance`; infinite where there is no light to centre on.
    height : float64, shape (n,)
        Central brightness of a Gaussian of that shape with the same light under the window (ADU).
    weight : float64, shape (n,)
        Light under the window over the root of the sum of the squared window: the significance of the detection
        once it is divided by the noise of a pixel (ADU).
    spread : float64, shape (n,)
        That noise, the star's own photons included: root of the mean of `variance` under the squared window (ADU).

    Notes
    -----
    In sky noise the errors are 1.07 times the least possible ones for a Gaussian star, in photon noise 1.16 times.
    """
    first, other = neighbours
    x, y = x.astype(np.float64), y.astype(np.float64)
    height, weight, spread, covariance = np.zeros(len(x)), np.zeros(len(x)), np.zeros(len(x)), np.full((len(x), 3), np.inf)
    _centroids(data, variance, bad, x, y, height, covariance, weight, spread, first, other, shape, limit)
    return x, y, covariance, height, weight, spread


def adaptive_shapes(
    data: NDArray[np.float32],
    bad: NDArray[np.bool_],
    x: FloatArray,
    y: FloatArray,
    start: FloatArray,
    *,
    height: FloatArray | None = None,
    shape: FloatArray | None = None,
    neighbours: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> FloatArray:
    """Covariance of the elliptical Gaussian that each star looks like under a window of its own shape.

    Parameters
    ----------
    data : float32, shape (ny, nx)
        Image less its background (ADU).
    bad : bool, shape (ny, nx)
        Pixels that are not used.
    x, y : float64, shape (n,)
        Centres (pixel).
    start : float64, shape (n, 3)
        Covariance xx, yy, xy (pixel^2) to start from.
    height, shape, neighbours : optional
        Neighbours to take off: central brightness of each star, covariance of all, and `neighbours_of`. Without
        them the centres are free to move while the shape is sought.

    Returns
    -------
    float64, shape (n, 3)
        Covariance xx, yy, xy (pixel^2), pixel included: of a Gaussian star, its own and 1/12 along x and y. NaN where
        the iteration does not settle, or ends below a FWHM of 1.05 or above 94 pixels.
    """
    result = np.full((len(x), 3), np.nan)
    free = height is None or shape is None or neighbours is None
    if height is None or shape is None or neighbours is None:
        height, shape, neighbours = np.zeros(len(x)), np.array([1.0, 1.0, 0.0]), neighbours_of(x, y, 0.0)
    first, other = neighbours
    inverse = np.linalg.inv([[shape[0], shape[2]], [shape[2], shape[1]]])[[0, 1, 0], [0, 1, 1]]
    _shapes(data, bad, x.astype(np.float64), y.astype(np.float64), height, first, other, inverse, start, result, free)
    return result


def sdk_of(covariance: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Shape parameters of the HAT practice: a star is exp(-[s(x^2 + y^2) + d(x^2 - y^2) + 2k x y] / 2).

    Parameters
    ----------
    covariance : float64, shape (n, 3)
        xx, yy, xy (pixel^2).

    Returns
    -------
    s, d, k : float64, shape (n,)
        1/pixel^2; NaN follows NaN. Source: Pal (2009), PhD thesis, section 2.4.
    """
    xx, yy, xy = covariance.T
    det = xx * yy - xy * xy
    return 0.5 * (xx + yy) / det, 0.5 * (yy - xx) / det, -xy / det


def axes_of(covariance: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Semi-axes, as standard deviations, and position angle of the ellipse of a covariance.

    Parameters
    ----------
    covariance : float64, shape (n, 3)
        xx, yy, xy (pixel^2).

    Returns
    -------
    a, b : float64, shape (n,)
        Semi-major and semi-minor axis (pixel): a^-2 and b^-2 are s -+ hypot(d, k). NaN follows NaN.
    theta : float64, shape (n,)
        Angle from +x to the major axis, towards +y (rad, -pi/2 to pi/2).
    """
    xx, yy, xy = covariance.T
    mean, spread = 0.5 * (xx + yy), np.hypot(0.5 * (xx - yy), xy)
    return np.sqrt(mean + spread), np.sqrt(mean - spread), 0.5 * np.arctan2(2.0 * xy, xx - yy)
