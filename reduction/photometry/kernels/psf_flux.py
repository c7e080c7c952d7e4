"""Fluxes of all stars of a frame by a joint least-squares fit of their profiles.

With the profiles known, the fluxes are the solution of linear equations in which only stars that overlap meet. They are
solved for all stars at once by conjugate gradients; a star's error comes from the equations of itself and its neighbours.
Weights are of the variance that the model predicts, not of the pixels' own: pixels that happen to be low
would have more weight, and faint stars too little light.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from scipy.sparse import csr_array

from reduction.kernels.arrays import BoolArray, Float32Array, FloatArray, IntArray
from reduction.photometry.kernels.psf_map import Stamps

__all__ = ["Canvas", "Fluxes", "Neighbours", "Pixels", "fit_fluxes", "model_image", "overlapping", "row_by_row"]

TOLERANCE = 1e-4  # sigma: largest change of a flux at which the equations count as solved
MAX_STEPS = 200  # of conjugate gradients
MAX_NEIGHBOURS = 24  # whose equations enter a star's error
LEAST_SHARED = 1e-8  # square of the correlation of two stars' profiles, below which they are no neighbours


@dataclass(frozen=True)
class Pixels:
    """What a frame's fit is made to.

    Attributes
    ----------
    value : float32, shape (ny, nx)
        Pixels less the background (ADU); finite.
    dark : float32, shape (ny, nx)
        Variance of a pixel without stars (ADU^2).
    gain : float
        Electron per ADU: stars add value / gain to the variance.
    good : bool, shape (ny, nx)
        Pixels that count.
    """

    value: Float32Array
    dark: Float32Array
    gain: float
    good: BoolArray


class Canvas:
    """Light of stars on a frame and the weights that follow, beneath their stamps; fits of one frame share its planes.

    Attributes
    ----------
    pixels : Pixels
    model : float64, shape (ny, nx)
        Light of the stars drawn last (ADU), good beneath their stamps; 0 where none was ever drawn.
    weight : float32, shape (ny, nx)
        1 / variance of each pixel beneath them (1/ADU^2); 0 for pixels that do not count.
    """

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels
        self.model: FloatArray = np.zeros(pixels.value.shape)
        self.weight: Float32Array = np.zeros(pixels.value.shape, np.float32)

    def draw(self, stamps: Stamps, flux: FloatArray) -> None:
        """Put stars in place of what is there; those of NaN have no light."""
        pixels, visit = self.pixels, row_by_row(stamps)
        _clear(*stamps, visit, self.model)
        _add(*stamps, visit, np.nan_to_num(flux), self.model)
        _weights(pixels.dark, self.model, pixels.good, 1.0 / pixels.gain, *stamps, visit, self.weight)


def row_by_row(stamps: Stamps) -> IntArray:
    """Order in which stars' pixels are still in the cache when the next star needs them.

    Parameters
    ----------
    stamps : Stamps
        Of n stars.

    Returns
    -------
    int64, shape (n,)
        Their numbers.
    """
    return np.argsort(stamps.y0, kind="stable")


class Neighbours(NamedTuple):
    """Stars whose stamps overlap.

    Those of star i are ``other[begin[i]:begin[i + 1]]``; `covariance` of its flux with each of theirs (ADU^2), 0 for all but the
    `MAX_NEIGHBOURS` that it shares most pixels with.
    """

    begin: IntArray
    other: IntArray
    covariance: FloatArray


@dataclass(frozen=True)
class Fluxes:
    """Fluxes of n stars.

    Attributes
    ----------
    flux, error : float64, shape (n,)
        ADU; NaN for a star without any pixel that counts.
    background_weight : float64, shape (n,)
        Change of the flux for 1 ADU of background over its profile (pixel).
    chi2 : float64, shape (n,)
        Reduced chi-square over the pixels of the profile.
    coverage : float64, shape (n,)
        Fraction of the profile that lies on pixels that count.
    neighbours : Neighbours
    model : float64, shape (ny, nx)
        Light of all of them on the frame (ADU).
    """

    flux: FloatArray
    error: FloatArray
    background_weight: FloatArray
    chi2: FloatArray
    coverage: FloatArray
    neighbours: Neighbours
    model: FloatArray


def overlapping(stamps: Stamps, chosen: BoolArray) -> BoolArray:
    """Which of n stars are chosen, or have stamps that overlap with those of one that is."""
    start, other = _pairs(stamps.x0, stamps.y0, stamps.share.shape[1])
    one = np.repeat(np.arange(len(chosen)), np.diff(start))
    out = chosen.copy()
    out[one[chosen[other]]] = True
    out[other[chosen[one]]] = True
    return out


def fit_fluxes(pixels: Pixels, stamps: Stamps, *, start: FloatArray | None = None, rounds: int = 2, canvas: Canvas | None = None) -> Fluxes:
    """Fit the fluxes of all stars of a frame.

    Parameters
    ----------
    pixels : Pixels
    stamps : Stamps
        Of n stars, all whose light is on the frame; those without a pixel that counts get NaN.
    start : float64, shape (n,), optional
        Fluxes (ADU) that say how much photon noise there is at first; none without.
    rounds : int
        How often the weights are made from the fluxes found.
    canvas : Canvas, optional
        Of the frame, to work on; what other fits returned as `model` is overwritten.

    Returns
    -------
    Fluxes
    """
    n, canvas = len(stamps.x0), canvas or Canvas(pixels)
    flux = np.zeros(n) if start is None else np.nan_to_num(start)
    visit, pairs = row_by_row(stamps), _pairs(stamps.x0, stamps.y0, stamps.share.shape[1])
    diagonal, right, sky, share = (np.empty(n) for _ in range(4))
    off = np.empty(len(pairs[1]))
    for _ in range(rounds):
        canvas.draw(stamps, flux)
        _equations(pixels.value, canvas.weight, *stamps, visit, *pairs, diagonal, off, right, sky, share)
        flux = _solve(diagonal, off, pairs, right, flux)
    canvas.draw(stamps, flux)
    chi2 = np.empty(n)
    _chi_squares(pixels.value, canvas.model, canvas.weight, *stamps, visit, chi2)
    error, background = np.empty(n), np.empty(n)
    begin, other, element = _both_ways(off, *pairs)
    covariance = np.zeros(len(other))
    strength, place = np.empty(np.diff(begin).max(initial=0)), np.full(n, -1)
    _errors(diagonal, begin, other, element, sky, strength, place, error, background, covariance)
    lost = diagonal <= 0.0
    flux, error, background, chi2 = (np.where(lost, np.nan, values) for values in (flux, error, background, chi2))
    return Fluxes(flux, error, background, chi2, share, Neighbours(begin, other, covariance), canvas.model)


def model_image(stamps: Stamps, flux: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """Light of stars on a frame.

    Parameters
    ----------
    stamps : Stamps
        Of n stars.
    flux : float64, shape (n,)
        ADU; NaN counts as none.
    shape : (int, int)
        (ny, nx) of the frame.

    Returns
    -------
    float64, shape (ny, nx)
        ADU.
    """
    out = np.zeros(shape)
    _add(*stamps, row_by_row(stamps), np.nan_to_num(flux), out)
    return out


@njit(cache=True)
def _weights(
    dark: Float32Array,
    model: FloatArray,
    good: BoolArray,
    inverse_gain: float,
    stamps: FloatArray,
    x0: IntArray,
    y0: IntArray,
    visit: IntArray,
    out: Float32Array,
) -> None:
    ny, nx = out.shape
    size = stamps.shape[1]
    for i in visit:
        for iy in range(max(0, y0[i]), min(y0[i] + size, ny)):
            for ix in range(max(0, x0[i]), min(x0[i] + size, nx)):
                light = max(model[iy, ix], 0.0) * inverse_gain
                out[iy, ix] = 1.0 / (dark[iy, ix] + light) if good[iy, ix] else 0.0


@njit(cache=True)
def _clear(stamps: FloatArray, x0: IntArray, y0: IntArray, visit: IntArray, out: FloatArray) -> None:
    ny, nx = out.shape
    size = stamps.shape[1]
    for i in visit:
        for iy in range(max(0, y0[i]), min(y0[i] + size, ny)):
            for ix in range(max(0, x0[i]), min(x0[i] + size, nx)):
                out[iy, ix] = 0.0


@njit(cache=True)
def _add(stamps: FloatArray, x0: IntArray, y0: IntArray, visit: IntArray, flux: FloatArray, out: FloatArray) -> None:
    ny, nx = out.shape
    size = stamps.shape[1]
    for i in visit:
        if flux[i] == 0.0:
            continue
        for q in range(max(0, -y0[i]), min(size, ny - y0[i])):
            for p in range(max(0, -x0[i]), min(size, nx - x0[i])):
                out[y0[i] + q, x0[i] + p] += flux[i] * stamps[i, q, p]


def _pairs(x0: IntArray, y0: IntArray, size: int) -> tuple[IntArray, IntArray]:
    """Neighbours j > i of each star i whose stamps overlap: where those of i begin in the list, and the list."""
    order = np.argsort(x0)
    start = np.zeros(len(x0) + 1, dtype=np.int64)
    _count_pairs(x0, y0, size, order, start)
    start = np.cumsum(start)
    found = np.empty(start[-1], dtype=np.int64)
    _list_pairs(x0, y0, size, order, start[:-1].copy(), found)
    return start, found


@njit(cache=True)
def _count_pairs(x0: IntArray, y0: IntArray, size: int, order: IntArray, count: IntArray) -> None:
    """How many pairs each star has with those of higher number, at the place after its own (n + 1,)."""
    for a in range(order.size):
        i = order[a]
        b = a + 1
        while b < order.size and x0[order[b]] - x0[i] < size:
            if abs(y0[order[b]] - y0[i]) < size:
                count[min(i, order[b]) + 1] += 1
            b += 1


@njit(cache=True)
def _list_pairs(x0: IntArray, y0: IntArray, size: int, order: IntArray, fill: IntArray, found: IntArray) -> None:
    """Write down these stars; fill (n,), where those of each begin."""
    for a in range(order.size):
        i = order[a]
        b = a + 1
        while b < order.size and x0[order[b]] - x0[i] < size:
            j = order[b]
            if abs(y0[j] - y0[i]) < size:
                found[fill[min(i, j)]] = max(i, j)
                fill[min(i, j)] += 1
            b += 1


@njit(cache=True)
def _equations(
    value: Float32Array,
    weight: Float32Array,
    stamps: FloatArray,
    x0: IntArray,
    y0: IntArray,
    visit: IntArray,
    start: IntArray,
    neighbours: IntArray,
    diagonal: FloatArray,
    off: FloatArray,
    right: FloatArray,
    sky: FloatArray,
    share: FloatArray,
) -> None:
    """Normal equations of the fluxes: diagonal, off-diagonal elements in the order of the pairs, right sides; sum of weighted profiles."""
    ny, nx = value.shape
    size = stamps.shape[1]
    for i in visit:
        own, data, flat, inside, whole = 0.0, 0.0, 0.0, 0.0, 0.0
        for q in range(size):
            iy = y0[i] + q
            for p in range(size):
                ix = x0[i] + p
                profile = stamps[i, q, p]
                whole += profile
                if 0 <= iy < ny and 0 <= ix < nx and weight[iy, ix] > 0.0:
                    weighted = weight[iy, ix] * profile
                    own += weighted * profile
                    data += weighted * value[iy, ix]
                    flat += weighted
                    inside += profile
        diagonal[i], right[i], sky[i], share[i] = own, data, flat, inside / whole
        for k in range(start[i], start[i + 1]):
            j = neighbours[k]
            total = 0.0
            for iy in range(max(y0[i], y0[j], 0), min(min(y0[i], y0[j]) + size, ny)):
                for ix in range(max(x0[i], x0[j], 0), min(min(x0[i], x0[j]) + size, nx)):
                    total += weight[iy, ix] * stamps[i, iy - y0[i], ix - x0[i]] * stamps[j, iy - y0[j], ix - x0[j]]
            off[k] = total


def _solve(diagonal: FloatArray, off: FloatArray, pairs: tuple[IntArray, IntArray], right: FloatArray, flux: FloatArray) -> FloatArray:
    """Fluxes by conjugate gradients on the equations scaled to unit diagonal, whose unknowns are in units of their errors."""
    scale = np.where(diagonal > 0.0, 1.0 / np.sqrt(np.maximum(diagonal, 1e-300)), 0.0)
    start, neighbours = pairs
    first = np.repeat(np.arange(len(diagonal)), np.diff(start))
    upper = csr_array((off * scale[first] * scale[neighbours], neighbours, start), shape=(len(diagonal), len(diagonal)))
    unknown = flux * np.sqrt(np.maximum(diagonal, 0.0))

    def product(vector: FloatArray) -> FloatArray:
        return np.asarray(np.where(scale > 0.0, vector, 0.0) + upper @ vector + upper.T @ vector, dtype=np.float64)

    residual = right * scale - product(unknown)
    direction, square = residual.copy(), residual @ residual
    for _ in range(MAX_STEPS):
        if np.abs(residual).max(initial=0.0) < TOLERANCE:
            break
        image = product(direction)
        step = square / (direction @ image)
        unknown += step * direction
        residual -= step * image
        before, square = square, residual @ residual
        direction = residual + (square / before) * direction
    return unknown * scale


@njit(cache=True)
def _chi_squares(
    value: Float32Array,
    model: FloatArray,
    weight: Float32Array,
    stamps: FloatArray,
    x0: IntArray,
    y0: IntArray,
    visit: IntArray,
    out: FloatArray,
) -> None:
    ny, nx = value.shape
    size = stamps.shape[1]
    for i in visit:
        total, count = 0.0, 0
        for iy in range(max(y0[i], 0), min(y0[i] + size, ny)):
            for ix in range(max(x0[i], 0), min(x0[i] + size, nx)):
                if weight[iy, ix] > 0.0 and stamps[i, iy - y0[i], ix - x0[i]] != 0.0:
                    total += weight[iy, ix] * (value[iy, ix] - model[iy, ix]) ** 2
                    count += 1
        out[i] = total / (count - 1) if count > 1 else np.nan


def _both_ways(off: FloatArray, start: IntArray, neighbours: IntArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Neighbours of either direction: where those of each star begin, the neighbours, and the elements with them."""
    first = np.repeat(np.arange(len(start) - 1), np.diff(start))
    one = np.concatenate([first, neighbours])
    order = np.argsort(one, kind="stable")
    begin = np.concatenate([[0], np.cumsum(np.bincount(one, minlength=len(start) - 1))])
    return begin, np.concatenate([neighbours, first])[order], np.concatenate([off, off])[order]


@njit(cache=True)
def _strongest(
    i: int, begin: IntArray, other: IntArray, element: FloatArray, diagonal: FloatArray, strength: FloatArray, members: IntArray
) -> int:
    """A star and those of its neighbours that it shares most of its pixels with, into members (`MAX_NEIGHBOURS` + 1,); how many."""
    size = begin[i + 1] - begin[i]
    for k in range(size):
        j = other[begin[i] + k]
        strength[k] = element[begin[i] + k] ** 2 / (diagonal[j] * diagonal[i]) if diagonal[j] > 0.0 else 0.0
    members[0], used = i, 1
    while used < members.size:
        best = -1
        for k in range(size):
            if strength[k] > (strength[best] if best >= 0 else LEAST_SHARED):
                best = k
        if best < 0:
            break
        strength[best] = 0.0
        members[used] = other[begin[i] + best]
        used += 1
    return used


@njit(cache=True)
def _solve_small(matrix: FloatArray, right: FloatArray, n: int) -> None:
    """Solve the leading (n, n) of a positive definite matrix for two right sides (n, 2), in their place, by Cholesky's factor, in its."""
    for j in range(n):
        for k in range(j):
            for i in range(j, n):
                matrix[i, j] -= matrix[i, k] * matrix[j, k]
        root = np.sqrt(max(matrix[j, j], 1e-30))
        for i in range(j, n):
            matrix[i, j] /= root
    for side in range(2):
        for i in range(n):
            for k in range(i):
                right[i, side] -= matrix[i, k] * right[k, side]
            right[i, side] /= matrix[i, i]
        for i in range(n - 1, -1, -1):
            for k in range(i + 1, n):
                right[i, side] -= matrix[k, i] * right[k, side]
            right[i, side] /= matrix[i, i]


@njit(cache=True)
def _errors(
    diagonal: FloatArray,
    begin: IntArray,
    other: IntArray,
    element: FloatArray,
    sky: FloatArray,
    strength: FloatArray,
    place: IntArray,
    error: FloatArray,
    background: FloatArray,
    covariance: FloatArray,
) -> None:
    """Errors, changes for a unit of background, and covariances, from the equations of a star and its strongest neighbours.

    Work space: strength, as long as the longest list of neighbours; place (n,), -1 everywhere.
    """
    members = np.zeros(MAX_NEIGHBOURS + 1, np.int64)
    matrix, right = np.zeros((members.size, members.size)), np.zeros((members.size, 2))
    for i in range(diagonal.size):
        if diagonal[i] <= 0.0:
            continue
        n = _strongest(i, begin, other, element, diagonal, strength, members)
        for k in range(n):
            place[members[k]] = k
        # in units of each star's own error, so that none outweighs another in the rounding
        for k in range(n):
            one = members[k]
            for e in range(n):
                matrix[k, e] = 0.0
            matrix[k, k] = 1.0 + 1e-12
            right[k, 0], right[k, 1] = 1.0 if k == 0 else 0.0, sky[one] / np.sqrt(diagonal[one])
            for e in range(begin[one], begin[one + 1]):
                if place[other[e]] >= 0:
                    matrix[k, place[other[e]]] = element[e] / np.sqrt(diagonal[one] * diagonal[other[e]])
        _solve_small(matrix, right, n)
        error[i] = np.sqrt(max(right[0, 0], 1.0) / diagonal[i])
        background[i] = right[0, 1] / np.sqrt(diagonal[i])
        for e in range(begin[i], begin[i + 1]):
            k = place[other[e]]
            if k >= 0:
                covariance[e] = right[k, 0] / np.sqrt(diagonal[other[e]] * diagonal[i])
        for k in range(n):
            place[members[k]] = -1
