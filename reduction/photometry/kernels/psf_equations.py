"""Normal equations of a profile map: what the pixels of stars say of its coefficients.

The unknowns are a change of the map, the data what its model leaves of the pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit
from scipy.linalg import cho_solve, cholesky

from db.errors import AlgorithmFailed
from reduction.astrometry.kernels.wcs import exponents
from reduction.kernels.arrays import BoolArray, Float32Array, FloatArray, IntArray
from reduction.photometry.kernels.psf_flux import Canvas
from reduction.photometry.kernels.psf_map import PsfMap, Stamps, active_functions, map_terms
from reduction.photometry.kernels.splines import PADDING, axis_values

__all__ = ["Normal", "Scene", "System", "normal_equations", "pixel_weight", "right_side", "system", "total"]

CHUNK = 64  # stars whose equations are multiplied out together
MODEL_ERROR = 0.02  # of a star's light in a pixel: keeps a few bright stars from having all the say


class Scene(NamedTuple):
    """A frame's stars as a map has them.

    canvas, with the stars drawn on it; psf, the map; stamps, positions `x`, `y` (pixel) and `flux` (ADU), of n stars; `further` (n, k),
    values of terms beyond those in x and y: the map's own, or those to be tried where it has none; pixels off by more than `clip` sigma
    have no say, where the map may be wrong by `allowed` of a star's light in its brightest pixel.
    """

    canvas: Canvas
    psf: PsfMap
    stamps: Stamps
    x: FloatArray
    y: FloatArray
    flux: FloatArray
    further: FloatArray
    clip: float
    allowed: float


class Normal(NamedTuple):
    """Normal equations of n coefficients, term after term: those in x and y up to an order, then further ones.

    matrix (n, n), right (n,); square, the sum of weighted squares of the data, coefficients c leave square - 2 c right + c matrix c;
    n_pixel, how many have a say; n_term, number of terms.
    """

    matrix: FloatArray
    right: FloatArray
    square: float
    n_pixel: int
    n_term: int

    @property
    def n_free(self) -> int:
        """Coefficients of each term."""
        return len(self.right) // self.n_term

    def rest(self, coeff: FloatArray) -> float:
        """Sum of weighted squares that coefficients of the first terms leave, the others zero."""
        n = len(coeff)
        return float(self.square - 2.0 * coeff @ self.right[:n] + coeff @ self.matrix[:n, :n] @ coeff)

    def of(self, factor: float) -> Normal:
        """The same of other coefficients, of which these are so many times as much."""
        return self if factor == 1.0 else self._replace(matrix=self.matrix * factor**2, right=self.right * factor)

    def without(self, part: Normal) -> Normal:
        """Matrix and right sides without those of a part, enough to solve."""
        return Normal(self.matrix - part.matrix, self.right - part.right, 0.0, 0, self.n_term)

    def of_terms(self, chosen: Sequence[int]) -> Normal:
        """Equations of some of the terms; no copy is made of the first ones."""
        n = self.n_free
        if list(chosen) == list(range(len(chosen))):
            used = n * len(chosen)
            return self._replace(matrix=self.matrix[:used, :used], right=self.right[:used], n_term=len(chosen))
        index = (np.array(chosen, dtype=np.int64)[:, None] * n + np.arange(n)).ravel()
        return self._replace(matrix=self.matrix[np.ix_(index, index)], right=self.right[index], n_term=len(chosen))


class System(NamedTuple):
    """Equations of a map: matrix (n, n) without the penalty on roughness, the upper Cholesky factor (n, n) with it."""

    matrix: FloatArray
    factor: FloatArray

    def solve(self, right: FloatArray, n: int | None = None) -> FloatArray:
        """The first `n` coefficients, all without; the others are held at zero, for a lower order's factor is the corner of a higher's."""
        corner = self.factor[:n, :n]
        return np.asarray(cho_solve((corner, False), right[: len(corner)], check_finite=False), dtype=np.float64)


def normal_equations(scene: Scene, index: IntArray, order: int) -> Normal:
    """Equations of the map's coefficients up to an order, and of the scene's further terms.

    Parameters
    ----------
    scene : Scene
    index : int64, shape (k,)
        Stars that have a say.
    order : int
        At least the map's own.

    Returns
    -------
    Normal
    """
    found = _changes(scene, index, order, products=True)
    active = scene.psf.active[PADDING:-PADDING, PADDING:-PADDING]
    number = np.full(active.shape, -1, dtype=np.int64)
    number[active] = np.arange(np.count_nonzero(active))
    products = _products(order, scene.further.shape[1])
    matrix = np.zeros((len(products) * np.count_nonzero(active),) * 2)
    _fill(found.moments, products, number, matrix)
    change, own = found.right[:, active].ravel(), np.zeros(len(matrix))
    known = scene.psf.free(order)
    own[: len(known)] = known
    explained = matrix @ own
    return Normal(matrix, change + explained, found.square + float(own @ (2.0 * change + explained)), found.n_pixel, len(products))


def right_side(scene: Scene, index: IntArray) -> FloatArray:
    """Right sides of a change of the map's coefficients, by a matrix that is near the scene's own.

    Parameters
    ----------
    scene : Scene
    index : int64, shape (k,)
        Stars that have a say.

    Returns
    -------
    float64, shape (n,)
    """
    found, active = _changes(scene, index, scene.psf.order, products=False), scene.psf.active[PADDING:-PADDING, PADDING:-PADDING]
    return np.asarray(found.right[:, active].ravel(), dtype=np.float64)


def total(parts: list[Normal]) -> Normal:
    """Equations of all stars of several parts."""
    matrix, right, square, n_pixel, n_term = zip(*parts, strict=True)
    return Normal(sum(matrix[1:], matrix[0]), sum(right[1:], right[0]), sum(square), sum(n_pixel), n_term[0])


def system(normal: Normal, psf: PsfMap, roughness: float) -> System:
    """Equations with a penalty on roughness.

    Parameters
    ----------
    normal : Normal
    psf : PsfMap
        Any map with these knots and this radius.
    roughness : float
        Strength of the penalty, in units of what a typical coefficient is known by.

    Returns
    -------
    System

    Raises
    ------
    AlgorithmFailed
        The equations have no solution.
    """
    penalty = _penalty(tuple(psf.knots.tolist()), psf.radius)
    n, matrix = len(penalty), normal.matrix
    scale = float(np.median(np.diag(matrix)[:n]))
    penalised = matrix.copy()
    for term in range(0, len(matrix), n):
        penalised[term : term + n, term : term + n] += penalty * (roughness * scale)
    penalised[np.diag_indices(len(matrix))] += 1e-9 * scale
    try:
        return System(matrix, cholesky(penalised, overwrite_a=True, check_finite=False))
    except np.linalg.LinAlgError as error:
        raise AlgorithmFailed(
            "the stars do not fix the coefficients of the profile",
            hint="look at the frame for clouds, saturation or a wrong background",
            code="psf.few_stars",
        ) from error


class _Changes(NamedTuple):
    """Normal equations of a change of the coefficients; m functions along either axis may have one.

    moments (n_moment, m, reach + 1, m, reach + 1): sums of products of function (b, a) with function (b + i, a + j) at [b, i, a, j], the
    same as of (b, a + j) with (b + i, a), times each product of two terms, of which many are the same;
    right (n_term, m, m); square, the sum of weighted squares of what the model leaves.
    """

    moments: FloatArray
    right: FloatArray
    square: float
    n_pixel: int


def _changes(scene: Scene, index: IntArray, order: int, *, products: bool) -> _Changes:
    """Equations for some of the stars; without products only the right sides."""
    canvas, psf, stamps, x, y, flux, further, clip, allowed = scene
    size = (psf.nx, psf.ny)
    m, reach = len(psf.knots) - 4 - 2 * PADDING, _reach(psf)
    place = map_terms(x[index], y[index], size, order)
    terms = np.hstack([place, further[index]])
    pairs = _pair_values(map_terms(x[index], y[index], size, 2 * order), place, further[index])
    moments = np.zeros((pairs.shape[1], m * m * (reach + 1) ** 2))
    right, square, n_pixel = np.zeros((terms.shape[1], m * m)), 0.0, 0
    pixels = canvas.pixels
    planes = (pixels.value, canvas.model, pixels.dark, pixels.good, 1.0 / pixels.gain)
    for part in np.array_split(np.arange(len(index)), max(1, len(index) // CHUNK)) if len(index) else ():
        i = index[part]
        corner = (stamps.x0[i], stamps.y0[i])
        offset = (x[i] - corner[0], y[i] - corner[1])
        miss = clip * allowed * flux[i] * stamps.share[i].max(axis=(1, 2))
        own, own_right, squares, counts = _star_equations(
            *planes, stamps.share[i], *corner, *offset, flux[i], miss, psf.knots, psf.pixel, reach, clip, products
        )
        if products:
            moments += pairs[part].T @ own.reshape(len(part), -1)
        right += terms[part].T @ own_right.reshape(len(part), -1)
        square += squares
        n_pixel += counts
    return _Changes(moments.reshape(-1, m, reach + 1, m, reach + 1), right.reshape(-1, m, m), square, n_pixel)


def _reach(psf: PsfMap) -> int:
    """How many functions further on an axis one can meet the same pixel."""
    return PADDING + int(np.ceil(psf.pixel / np.diff(psf.knots).min())) if psf.pixel else PADDING


@njit(cache=True)
def pixel_weight(light: float, off: float, dark: float, inverse_gain: float, clip: float, miss: float) -> float:
    """What a pixel's word on the profile counts for.

    Parameters
    ----------
    light, off : float
        The star's light in it by the map, and what the model of all stars leaves (ADU).
    dark : float
        Its variance without stars (ADU^2).
    inverse_gain : float
        ADU per electron.
    clip, miss : float
        Pixels off by more than `clip` sigma and `miss` (ADU) in quadrature have no say.

    Returns
    -------
    float
        One over its variance (1/ADU^2), 0 without a say.
    """
    variance = dark + max(light, 0.0) * inverse_gain + (MODEL_ERROR * light) ** 2
    return 0.0 if off * off > clip**2 * variance + miss**2 else 1.0 / variance


@njit(cache=True)
def _star_equations(
    value: Float32Array,
    model: FloatArray,
    dark: Float32Array,
    good: BoolArray,
    inverse_gain: float,
    stamps: FloatArray,
    x0: IntArray,
    y0: IntArray,
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
    miss: FloatArray,
    knots: FloatArray,
    pixel: float,
    reach: int,
    clip: float,
    products: bool,
) -> tuple[FloatArray, FloatArray, float, int]:
    """Each star's normal equations of the profile: products, right sides; sum of weighted squares of the rest, number of pixels."""
    ny, nx = value.shape
    n, size, _ = stamps.shape
    m, step = knots.size - 4 - 2 * PADDING, reach + 1
    own, right = np.zeros((n if products else 0, m, step, m * step)), np.zeros((n, m, m))
    bx, by = np.zeros((size, m)), np.zeros((size, m))
    rx, ry = np.zeros((size, 2), np.int64), np.zeros((size, 2), np.int64)
    row, row_right = np.empty(m * step), np.empty(m)
    square, count = 0.0, 0
    for i in range(n):
        axis_values(knots, x[i], pixel, bx, rx)
        axis_values(knots, y[i], pixel, by, ry)
        for q in range(max(0, -y0[i]), min(size, ny - y0[i])):
            iy = y0[i] + q
            _reset(row)
            _reset(row_right)
            for p in range(max(0, -x0[i]), min(size, nx - x0[i])):
                ix = x0[i] + p
                if not good[iy, ix] or stamps[i, q, p] == 0.0:
                    continue
                light, off = flux[i] * stamps[i, q, p], value[iy, ix] - model[iy, ix]
                weight = pixel_weight(light, off, dark[iy, ix], inverse_gain, clip, miss[i])
                if weight == 0.0:
                    continue
                square += weight * off * off
                count += 1
                _add_pixel(bx[p], rx[p], weight * flux[i] * off, weight * flux[i] ** 2 if products else 0.0, step, row_right, row)
            # what a row of pixels adds is the same for all functions in y, but for their values there
            for b in range(ry[q, 0], ry[q, 1]):
                _add_scaled(row_right, by[q, b], right[i, b])
                if products:
                    for b2 in range(b, ry[q, 1]):
                        _add_scaled(row, by[q, b] * by[q, b2], own[i, b, b2 - b])
    return own, right, square, count


@njit(cache=True)
def _add_pixel(values: FloatArray, span: IntArray, data: float, weight: float, step: int, row_right: FloatArray, row: FloatArray) -> None:
    """Add a pixel to a row's right sides (m,) and, if it has a weight, its products (m * step,)."""
    for a in range(span[0], span[1]):
        row_right[a] += data * values[a]
        if weight > 0.0:
            for a2 in range(a, span[1]):
                row[a * step + a2 - a] += weight * values[a] * values[a2]


@njit(cache=True)
def _reset(values: FloatArray) -> None:
    for k in range(values.size):
        values[k] = 0.0


@njit(cache=True)
def _add_scaled(values: FloatArray, factor: float, out: FloatArray) -> None:
    for k in range(values.size):
        out[k] += factor * values[k]


@njit(cache=True)
def _fill(moments: FloatArray, product: IntArray, index: IntArray, out: FloatArray) -> None:
    """The symmetric matrix (n_term * n, n_term * n).

    product (n_term, n_term): which of the moments two terms make; index (m, m): number of each function's coefficient, or -1.
    """
    m, step = moments.shape[1], moments.shape[2]
    n_term = product.shape[0]
    n = out.shape[0] // n_term
    for k in range(n_term):
        for k2 in range(n_term):
            for b in range(m):
                for b2 in range(b, min(b + step, m)):
                    for a in range(m):
                        for a2 in range(a, min(a + step, m)):
                            value = moments[product[k, k2], b, b2 - b, a, a2 - a]
                            for one, two in ((index[b, a], index[b2, a2]), (index[b, a2], index[b2, a])):
                                if one >= 0 and two >= 0:
                                    out[k * n + one, k2 * n + two] = value
                                    out[k * n + two, k2 * n + one] = value


def _products(order: int, n_further: int) -> IntArray:
    """Number of the product that each two terms make, (n_term, n_term), in the order of `_pair_values`."""
    number = {powers: k for k, powers in enumerate(exponents(2 * order))}
    terms = exponents(order)
    n, n_term = len(terms), len(terms) + n_further
    out = np.zeros((n_term, n_term), dtype=np.int64)
    out[:n, :n] = [[number[i + a, j + b] for a, b in terms] for i, j in terms]
    count = len(number)
    for k in range(n, n_term):
        out[k, : k + 1] = out[: k + 1, k] = count + np.arange(k + 1)
        count += k + 1
    return out


def _pair_values(monomials: FloatArray, place: FloatArray, further: FloatArray) -> FloatArray:
    """Every product of two terms of n stars: monomials in x, y up to twice the order, then each further term with those up to it."""
    terms = np.hstack([place, further])
    n = place.shape[1]
    return np.hstack([monomials, *[terms[:, : k + 1] * terms[:, k : k + 1] for k in range(n, terms.shape[1])]])


@lru_cache(maxsize=8)
def _penalty(places: tuple[float, ...], radius: float) -> FloatArray:
    """Sum of squared second differences of coefficients along both axes, for the free ones (n, n); places: the knots."""
    knots = np.array(places)
    active = active_functions(knots, radius)
    m = len(active)
    middle = knots[2:-2]
    second = np.zeros((m, m))
    for j in range(1, m - 1):
        left, right = middle[j] - middle[j - 1], middle[j + 1] - middle[j]
        # second derivative on uneven distances, times the core's distance squared
        second[j, j - 1 : j + 2] = 2.0 / (left + right) * np.array([1.0 / left, -1.0 / left - 1.0 / right, 1.0 / right])
    second *= np.diff(knots).min() ** 2
    one = second.T @ second
    whole = np.kron(np.eye(m), one) + np.kron(one, np.eye(m))
    chosen = active.ravel()
    return np.asarray(whole[np.ix_(chosen, chosen)], dtype=np.float64)
