"""Light of stars beyond their masks: the common profile of their wings, from how the sky falls away from them.

A mask ends where a wing falls below the noise of a pixel; hundreds of pixels
see much less than that, and all wings together lift the sky of a crowded field
by a tenth of the noise.  The level of the sky itself is free in every box here,
so that the wings are known only by how they fall within the boxes: a wrong
profile cannot take sky for light.  The profile falls as r**(-11/3), the wing
of a seeing disc (Kolmogorov), times a factor that is free at knots in r.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.optimize import nnls

__all__ = ["Wings", "WingStars", "measure_wings", "wing_reach"]

# Knots in r: 1, 1.5, 2.25 ... FWHM.
_STEP = math.log(1.5)
_N_KNOT = 11
_POWER = 11.0 / 3.0
#: Largest distance at which a wing counts, FWHM: the last knot.
_FARTHEST = math.exp(_STEP * (_N_KNOT - 1))
# Step in r**2 of the table of wings, FWHM**2.
_FINE = 0.05
# Cells along a side of a box: their means are what the profile is fitted to.
_SIDE = 8
# Terms of a smooth sky that varies within a box: x, y, x^2, x y, y^2 over the frame.
_N_SMOOTH = 5
# Standard deviation of the factor before anything is known; a Gaussian core would have 0.9 at its centre.
_PRIOR = 2.0
# Stars at most whose flux is fitted to their own wing.
_MOST_SATURATED = 100
_ROUNDS = 4


@dataclass(frozen=True)
class WingStars:
    """Stars whose wings are looked at.

    Attributes
    ----------
    x, y : float64, shape (n,)
        Positions, pixel.
    flux : float64, shape (n,)
        ADU, positive; good to a factor of some for saturated stars.
    reach : float64, shape (n,)
        Distance to which the wing counts, pixel (see `wing_reach`).
    saturated : bool, shape (n,)
        Whose flux is not known: it is fitted to the wing, for the 100 brightest.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    reach: NDArray[np.float64]
    saturated: NDArray[np.bool_]


@dataclass(frozen=True)
class Wings:
    """What stars add to the sky of each box.

    Attributes
    ----------
    level, error : float64, shape (by, bx)
        Mean light of wings on the sky pixels of each box, and what noise leaves uncertain of it, ADU.
    profile : float64, shape (11,)
        Factors at r = 1, 1.5, 2.25 ... FWHM of a surface brightness ``flux / fwhm**2 * (r / fwhm)**(-11/3)``; not negative.
    n_star : int
        Stars with a wing on sky pixels.
    """

    level: NDArray[np.float64]
    error: NDArray[np.float64]
    profile: NDArray[np.float64]
    n_star: int


def wing_reach(flux: NDArray[np.float64], fwhm: float, level: float) -> NDArray[np.float64]:
    """Radius at which the wings of a seeing disc fall to a level.

    Parameters
    ----------
    flux : float64, shape (n,)
        ADU.
    fwhm : float
        Pixel.
    level : float
        ADU per pixel, positive.

    Returns
    -------
    float64, shape (n,)
        Pixel; at most 57 FWHM, 0 for a flux that is not positive.
    """
    ratio = np.maximum(np.nan_to_num(flux, nan=0.0), 0.0) * 0.7 / (fwhm**2 * level)
    return fwhm * np.minimum(ratio ** (1.0 / _POWER), _FARTHEST)


@njit(cache=True)
def _touched(
    x: NDArray[np.float64], y: NDArray[np.float64], reach: NDArray[np.float64], box: int, by: int, bx: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which stars reach into which boxes: where the list of each box begins, and the lists."""
    start = np.zeros(by * bx + 1, np.int64)
    lists = np.zeros(0, np.int64)
    for fill in range(2):
        if fill == 1:
            start[1:] = np.cumsum(start[1:])
            lists = np.empty(start[-1], np.int64)
            place = start[:-1].copy()
        for k in range(x.size):
            for j in range(max(int((y[k] - reach[k] + 0.5) // box), 0), min(int((y[k] + reach[k] + 0.5) // box), by - 1) + 1):
                for i in range(max(int((x[k] - reach[k] + 0.5) // box), 0), min(int((x[k] + reach[k] + 0.5) // box), bx - 1) + 1):
                    if fill == 0:
                        start[j * bx + i + 1] += 1
                    else:
                        lists[place[j * bx + i]] = k
                        place[j * bx + i] += 1
    return start, lists


@njit(cache=True)
def _cell_weights(
    data: NDArray[np.float32],
    excluded: NDArray[np.bool_],
    corner: tuple[int, int, int],
    sky: NDArray[np.float64],
    unit: float,
    limit: float,
    weights: NDArray[np.float32],
    sums: NDArray[np.float64],
) -> None:
    """Clipping weights of the pixels of a box; number and mean of each cell go to `sums`."""
    y0, x0, box = corner
    ny, nx = data.shape
    weights[:] = 0.0
    sums[:] = 0.0
    for iy in range(y0, min(y0 + box, ny)):
        for ix in range(x0, min(x0 + box, nx)):
            away = data[iy, ix] - sky[2]
            if excluded[iy, ix] or away - away != 0.0:
                continue
            w = min(max(limit - abs(away) / unit, 0.0), 1.0)
            cell = ((iy - y0) * _SIDE // box) * _SIDE + (ix - x0) * _SIDE // box
            weights[iy - y0, ix - x0] = w
            sums[cell, 0] += w
            sums[cell, 1] += w * away


@njit(cache=True)
def _table() -> NDArray[np.float32]:
    """Wing and place among the knots at r**2 = 1, 1.05, 1.1 ... FWHM**2: logarithms of every pixel would take most of the time."""
    table = np.empty((int(_FARTHEST**2 / _FINE) + 2, 2), np.float32)
    for m in range(table.shape[0]):
        log = 0.5 * math.log(1.0 + m * _FINE)
        table[m, 0] = math.exp(-_POWER * log)
        table[m, 1] = min(log / _STEP, _N_KNOT - 1.0)
    return table


@njit(cache=True)
def _add_wing(
    star: tuple[float, float, float, float],
    corner: tuple[int, int, int],
    fwhm: float,
    table: NDArray[np.float32],
    weights: NDArray[np.float32],
    cells: NDArray[np.float32],
) -> None:
    """Add the wing of one star to the sums (cell, knot) of a box."""
    x, y, flux, reach = star
    y0, x0, box = corner
    scale = np.float32(flux / (fwhm * fwhm))
    fine, first = 1.0 / (_FINE * fwhm * fwhm), 1.0 / _FINE
    for iy in range(max(math.ceil(y - reach), y0), min(math.floor(y + reach), y0 + box - 1) + 1):
        for ix in range(max(math.ceil(x - reach), x0), min(math.floor(x + reach), x0 + box - 1) + 1):
            w = weights[iy - y0, ix - x0]
            r2 = (ix - x) * (ix - x) + (iy - y) * (iy - y)
            if w <= 0.0 or r2 > reach * reach:
                continue
            entry = max(r2 * fine - first, 0.0)
            m = min(int(entry), table.shape[0] - 2)
            into = np.float32(min(entry - m, 1.0))
            value = w * scale * (table[m, 0] + into * (table[m + 1, 0] - table[m, 0]))
            knot = table[m, 1] + into * (table[m + 1, 1] - table[m, 1])
            k = min(int(knot), _N_KNOT - 2)
            part = knot - k
            cell = ((iy - y0) * _SIDE // box) * _SIDE + (ix - x0) * _SIDE // box
            cells[cell, k] += value * (1.0 - part)
            cells[cell, k + 1] += value * part


@njit(cache=True)
def _fill(
    planes: tuple[NDArray[np.float32], NDArray[np.bool_]],
    grid: NDArray[np.float64],
    settings: tuple[int, float, float, float],
    stars: NDArray[np.float64],
    lists: tuple[NDArray[np.int64], NDArray[np.int64]],
    wanted: NDArray[np.int64],
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Mean wings (box, cell, knot), for factors of one, and (box, cell) number and mean of the sky of the wanted boxes."""
    data, excluded = planes
    box, clip, least, fwhm = settings
    table = _table()
    wings = np.zeros((wanted.size, _SIDE * _SIDE, _N_KNOT), np.float32)
    sums = np.zeros((wanted.size, _SIDE * _SIDE, 2))
    weights = np.zeros((box, box), np.float32)
    for m in range(wanted.size):
        j, i = wanted[m] // grid.shape[1], wanted[m] % grid.shape[1]
        corner = (j * box, i * box, box)
        unit = max(grid[j, i, 5], least)
        if grid[j, i, 4] == 0.0 or unit <= 0.0:
            continue
        _cell_weights(data, excluded, corner, grid[j, i], unit, clip + 0.5, weights, sums[m])
        for k in lists[1][lists[0][wanted[m]] : lists[0][wanted[m] + 1]]:
            _add_wing((stars[k, 0], stars[k, 1], stars[k, 2], stars[k, 3]), corner, fwhm, table, weights, wings[m])
        for cell in range(_SIDE * _SIDE):
            n = sums[m, cell, 0]
            if n > 0.0:
                sums[m, cell, 1] /= n
                wings[m, cell] /= n
    return wings, sums


@njit(cache=True)
def _equations(
    wings: NDArray[np.float32],
    sums: NDArray[np.float64],
    grid: NDArray[np.float64],
    wanted: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Normal matrix and right side for the factors and a smooth sky; each box has a level of its own."""
    by, bx = grid.shape[:2]
    n_term = _N_KNOT + _N_SMOOTH
    matrix, right = np.zeros((n_term, n_term)), np.zeros(n_term)
    rows = np.zeros((_SIDE * _SIDE, n_term + 1))
    for m in range(wanted.size):
        j, i = wanted[m] // bx, wanted[m] % bx
        total, mean = 0.0, np.zeros(n_term + 1)
        for cell in range(_SIDE * _SIDE):
            u = (2.0 * (i + (cell % _SIDE + 0.5) / _SIDE) - bx) / max(by, bx)
            v = (2.0 * (j + (cell // _SIDE + 0.5) / _SIDE) - by) / max(by, bx)
            rows[cell, :_N_KNOT] = wings[m, cell]
            rows[cell, _N_KNOT:] = np.array([u, v, u * u, u * v, v * v, sums[m, cell, 1]])
            mean += sums[m, cell, 0] * rows[cell]
            total += sums[m, cell, 0]
        if total == 0.0:
            continue
        mean /= total
        for cell in range(_SIDE * _SIDE):
            weight = sums[m, cell, 0] / (grid[j, i, 5] ** 2 + 1e-24)
            if weight == 0.0:
                continue
            row = rows[cell] - mean
            for a in range(n_term):
                if row[a] != 0.0:
                    right[a] += weight * row[a] * row[n_term]
                    for b in range(a + 1):
                        matrix[a, b] += weight * row[a] * row[b]
    return matrix + np.tril(matrix, -1).T, right


def _factors(matrix: NDArray[np.float64], right: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Factors of the profile, not negative, and their covariance; what is not known stays near zero."""
    smooth = matrix[_N_KNOT:, _N_KNOT:] + 1e-9 * np.trace(matrix[_N_KNOT:, _N_KNOT:]) * np.eye(_N_SMOOTH) + 1e-30 * np.eye(_N_SMOOTH)
    gain = np.linalg.solve(smooth, matrix[_N_KNOT:, :_N_KNOT]).T
    inner = matrix[:_N_KNOT, :_N_KNOT] - gain @ matrix[_N_KNOT:, :_N_KNOT] + np.eye(_N_KNOT) / _PRIOR**2
    side = right[:_N_KNOT] - gain @ right[_N_KNOT:]
    root = np.linalg.cholesky(0.5 * (inner + inner.T))
    factors = nnls(root.T, np.linalg.solve(root, side))[0]
    covariance, free = np.zeros((_N_KNOT, _N_KNOT)), np.nonzero(factors > 0)[0]
    # Factors held at zero are known by that.
    covariance[np.ix_(free, free)] = np.linalg.inv(inner[np.ix_(free, free)])
    return np.asarray(factors, np.float64), covariance


@dataclass(frozen=True)
class _Cells:
    """Wings and sky of some boxes, cell by cell."""

    wanted: NDArray[np.int64]
    wings: NDArray[np.float32]
    sums: NDArray[np.float64]

    def slopes(self, values: NDArray[np.float64], where: NDArray[np.intp]) -> NDArray[np.float64]:
        """Values (box, cell) less their mean over each box."""
        n = self.sums[where, :, 0]
        mean = (n * values).sum(axis=1, keepdims=True) / np.maximum(n.sum(axis=1, keepdims=True), 1e-12)
        return np.asarray(values - mean, np.float64)


def _light(wings: NDArray[np.floating], factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Light (...) of wings (..., knot); not by BLAS, whose last digits depend on the number of its threads."""
    return np.asarray(np.einsum("...k,k->...", wings, factors), np.float64)


def _own_flux(
    cells: _Cells, own: NDArray[np.float32], where: NDArray[np.intp], factors: NDArray[np.float64], sigma: NDArray[np.float64]
) -> float:
    """By what the flux of a star has to be multiplied for its wing to be that of all stars."""
    light = cells.slopes(_light(own, factors), where)
    residual = cells.slopes(cells.sums[where, :, 1] - _light(cells.wings[where], factors), where)
    weight = cells.sums[where, :, 0] / np.maximum(sigma[:, np.newaxis] ** 2, 1e-24)
    information = float((weight * light**2).sum())
    if information < 25.0:
        return 1.0
    return float(np.clip(1.0 + float((weight * light * residual).sum()) / information, 0.2, 5.0))


def _profile(
    cells: _Cells, grid: NDArray[np.float64], alone: list[tuple[NDArray[np.intp], NDArray[np.float32]]], sigma: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Factors of the profile and their covariance, in turn with the fluxes of saturated stars, whose wings `cells` then has."""
    factors, covariance = _factors(*_equations(cells.wings, cells.sums, grid, cells.wanted))
    for _ in range(_ROUNDS if alone else 0):
        for where, own in alone:
            times = np.float32(_own_flux(cells, own, where, factors, sigma[where]))
            cells.wings[where] += (times - 1) * own
            own *= times
        factors, covariance = _factors(*_equations(cells.wings, cells.sums, grid, cells.wanted))
    return factors, covariance


def measure_wings(
    data: NDArray[np.float32],
    excluded: NDArray[np.bool_],
    grid: NDArray[np.float64],
    stars: WingStars,
    *,
    fwhm: float,
    box: int,
    clip: float,
    least_unit: float,
) -> Wings:
    """Measure what the wings of stars add to the sky of each box.

    Parameters
    ----------
    data : float32, shape (ny, nx)
        Image, ADU.
    excluded : bool, shape (ny, nx)
        Pixels that are not sky: sources and bad pixels.
    grid : float64, shape (by, bx, 6)
        Of `sky_boxes.measure_boxes`.
    stars : WingStars
        Stars on the frame and about it; those that are NaN or have no flux are left out.
    fwhm : float
        Typical width of stars, pixel.
    box : int
        Side of the boxes, pixel.
    clip, least_unit : float
        Clipping distance and its least unit (ADU), as the boxes were measured.

    Returns
    -------
    Wings
        All zero without stars.
    """
    by, bx = grid.shape[:2]
    table = np.stack([stars.x, stars.y, stars.flux, stars.reach], axis=1).astype(np.float64)
    use = np.isfinite(table).all(axis=1) & (stars.flux > 0) & (np.abs(table[:, :2]) < 1e7).all(axis=1)
    table, saturated = table[use], stars.saturated[use]
    level, error = np.zeros((by, bx)), np.zeros((by, bx))
    lists = _touched(table[:, 0], table[:, 1], table[:, 3], box, by, bx)
    wanted = np.nonzero((np.diff(lists[0]) > 0) & (grid[..., 4].ravel() > 0))[0]
    if wanted.size == 0:
        return Wings(level, error, np.zeros(_N_KNOT), 0)
    planes, settings = (np.ascontiguousarray(data), np.ascontiguousarray(excluded)), (box, clip, least_unit, fwhm)
    cells = _Cells(wanted, *_fill(planes, grid, settings, table, lists, wanted))
    sigma = grid[..., 5].ravel()[wanted]
    alone = []
    for k in np.nonzero(saturated)[0][np.argsort(-table[saturated, 2], kind="stable")][:_MOST_SATURATED]:
        star = table[k : k + 1]
        mine = _touched(star[:, 0], star[:, 1], star[:, 3], box, by, bx)
        where = np.nonzero(np.diff(mine[0])[wanted] > 0)[0]
        if where.size:
            alone.append((where, _fill(planes, grid, settings, star, mine, wanted[where])[0]))
    factors, covariance = _profile(cells, grid, alone, sigma)
    n = cells.sums[..., 0]
    mean = (n[..., np.newaxis] * cells.wings).sum(axis=1) / np.maximum(n.sum(axis=1), 1e-12)[:, np.newaxis]
    level.ravel()[wanted] = _light(mean, factors)
    error.ravel()[wanted] = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", mean, covariance, mean), 0.0))
    return Wings(level, error, factors, len(table))
