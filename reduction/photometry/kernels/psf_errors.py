"""How well a fitted profile map is known, from the covariance of its coefficients.

An error of the map is an error of the fluxes that are fitted with it, common to all stars about a place: of the change of a star's flux,
sum(w p dp) / sum(w p p) over its pixels, the variance is a quadratic form with the coefficients' covariance. That covariance is the
sandwich of M-estimates (Huber 1967; White 1980): the equations' inverse on either side, with their penalty and the stars' fluxes
solved for, and between them what each star's own residuals say of the coefficients. So it holds whatever the weights of the fit are, and
has in it whatever makes a star unlike the map: photons, its position, its neighbours, the flat field. What all stars have alike, and
the map cannot have, it does not know.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from reduction.kernels.arrays import BoolArray, Float32Array, FloatArray, IntArray
from reduction.photometry.kernels.psf_equations import Scene, System, pixel_weight
from reduction.photometry.kernels.psf_map import PsfMap, map_terms
from reduction.photometry.kernels.splines import PADDING, axis_integrals, axis_values

__all__ = ["MapErrors", "map_errors"]

CHUNK = 64  # stars whose pixels are summed together
BRIGHT_PART = 0.9  # of the stars that show the profile are fainter than the bright star whose error is told
TURNS = 2  # of map and fluxes: a third changes the errors by less than a hundredth
#: Simpson's rule over the frame, from edge to edge: exact for the mean of a cubic polynomial along either axis.
PLACES = (0.0, 0.5, 1.0)
SHARES = (1.0 / 6.0, 4.0 / 6.0, 1.0 / 6.0)


class MapErrors(NamedTuple):
    """Standard errors that come of a map's, for a star of which its further terms say nothing.

    flux, faint_flux : float
        Of the flux fitted with it, as part of the flux; root mean square over the frame. Of a star as bright as the brightest tenth of
        those that show the profile, and of one much fainter than the sky.
    flux_most, faint_flux_most : float
        The same where it is largest, of the middle, the edges and the corners.
    peak : float
        Of the light in the pixel that a star is in the middle of, as part of that; root mean square over the frame.
    """

    flux: float
    flux_most: float
    faint_flux: float
    faint_flux_most: float
    peak: float


def map_errors(scene: Scene, used: IntArray, equations: System) -> MapErrors:
    """Errors that come of a map's.

    Parameters
    ----------
    scene : Scene
        Map and fluxes as they were found; all stars are drawn.
    used : int64, shape (k,)
        Stars that the map was fitted to; more than it has terms.
    equations : System
        Of the map's coefficients.

    Returns
    -------
    MapErrors
        NaN where no more stars than terms were used.
    """
    psf = scene.psf
    own, light, square = _star_sums(scene, used)
    terms = np.hstack([map_terms(scene.x[used], scene.y[used], (psf.nx, psf.ny), psf.order), scene.further[used]])
    n_star, n_term = terms.shape
    if n_star <= n_term:
        return MapErrors(*[float("nan")] * 5)
    wanted, share = _wanted(scene, used)
    # rows of stars without a pixel that counts are zero
    taken = light / np.sqrt(np.where(square > 0.0, square, np.inf))[:, None]
    solved = _solve(equations, taken, terms, wanted)
    # a star's residuals are smaller by its own part in the map
    variance = np.square(_project(own, terms, solved)).sum(axis=0) * (n_star / (n_star - n_term))
    error = np.sqrt(variance).reshape(3, -1)
    typical, most = np.sqrt(np.square(error) @ share).tolist(), error.max(axis=1).tolist()
    return MapErrors(typical[0], most[0], typical[1], most[1], typical[2])


def _wanted(scene: Scene, used: IntArray) -> tuple[FloatArray, FloatArray]:
    """What is asked of the coefficients' changes, (n, 3 * n_place): bright flux, faint flux and peak; the places' shares of the frame."""
    psf, pixels = scene.psf, scene.canvas.pixels
    at = [np.clip(np.round(values[used]).astype(np.int64), 0, size - 1) for values, size in ((scene.y, psf.ny), (scene.x, psf.nx))]
    dark = float(np.median(pixels.dark[at[0], at[1]]))
    flux = max(float(np.quantile(scene.flux[used], BRIGHT_PART)), 0.0)
    places = [(u * (psf.nx - 1), v * (psf.ny - 1)) for v in PLACES for u in PLACES]
    basis, inside = _basis(psf)
    weights = axis_integrals(psf.knots)
    integral = np.outer(weights, weights)[psf.active]
    columns = []
    for x, y in places:
        term = psf.terms(np.array([x]), np.array([y]))[0]
        profile = basis @ (term @ psf.coeff[:, psf.active])
        bright = profile / (dark + np.maximum(profile, 0.0) * flux / pixels.gain)
        middle = np.zeros(len(profile))
        middle[inside] = 1.0
        # of a profile kept at unit integral
        columns.append([np.kron(term, basis.T @ weight / (weight @ profile) - integral) for weight in (bright, profile, middle)])
    share = np.outer(SHARES, SHARES).ravel()
    return np.array(columns).transpose(2, 1, 0).reshape(-1, 3 * len(places)), share


def _basis(psf: PsfMap) -> tuple[FloatArray, int]:
    """Value of each function that has a coefficient in the pixels of a star in the middle of one, (n_pixel, n); the number of that one."""
    reach = int(np.ceil(psf.radius))
    size, m = 2 * reach + 1, len(psf.knots) - 4 - 2 * PADDING
    values, ranges = np.zeros((size, m)), np.zeros((size, 2), np.int64)
    axis_values(psf.knots, float(reach), psf.pixel, values, ranges)
    for row, (first, last) in zip(values, ranges, strict=True):
        row[:first] = row[last:] = 0.0
    offset = np.arange(size) - reach
    within = (offset[:, None] ** 2 + offset[None, :] ** 2 <= psf.radius**2).ravel()
    active = psf.active[PADDING:-PADDING, PADDING:-PADDING].ravel()
    whole = np.asarray(np.kron(values, values)[within][:, active], dtype=np.float64)
    return whole, int(np.count_nonzero(within[: reach * size + reach]))


def _project(rows: FloatArray, terms: FloatArray, coeff: FloatArray) -> FloatArray:
    """Each star's row (n_star, n), times its terms (n_star, n_term), on columns of coefficients (n_term * n, k): (n_star, k)."""
    n_star, n_term = terms.shape
    by_term = rows @ coeff.reshape(n_term, rows.shape[1], -1).transpose(1, 0, 2).reshape(rows.shape[1], -1)
    return np.asarray(np.einsum("it,itk->ik", terms, by_term.reshape(n_star, n_term, -1)), dtype=np.float64)


def _spread(rows: FloatArray, terms: FloatArray, values: FloatArray) -> FloatArray:
    """The transpose of `_project`: (n_star, k) to (n_term * n, k)."""
    weighted = (terms[:, :, None] * values[:, None, :]).reshape(len(terms), -1)
    by_term = (rows.T @ weighted).reshape(rows.shape[1], terms.shape[1], -1)
    return np.asarray(by_term.transpose(1, 0, 2).reshape(-1, values.shape[1]), dtype=np.float64)


def _solve(equations: System, taken: FloatArray, terms: FloatArray, right: FloatArray) -> FloatArray:
    """Columns of coefficients from the map's equations less what the stars' own fluxes take up of them.

    The equations with the fluxes held are near, and their factor is known. Map and fluxes take turns: so does this.
    """
    held = solved = equations.solve(right)
    for _ in range(TURNS - 1):
        solved = held + equations.solve(_spread(taken, terms, _project(taken, terms, solved)))
    return solved


def _star_sums(scene: Scene, index: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Of each star: what its residuals and its light say of the profile's coefficients, (n_star, n) both; its light's weighted square."""
    canvas, psf, stamps, x, y, flux, _, clip, allowed = scene
    m = len(psf.knots) - 4 - 2 * PADDING
    active = psf.active[PADDING:-PADDING, PADDING:-PADDING]
    pixels, n = canvas.pixels, int(np.count_nonzero(active))
    planes = (pixels.value, canvas.model, pixels.dark, pixels.good, 1.0 / pixels.gain)
    own, light, square = np.empty((len(index), n)), np.empty((len(index), n)), np.empty(len(index))
    for part in np.array_split(np.arange(len(index)), max(1, len(index) // CHUNK)):
        i = index[part]
        corner = (stamps.x0[i], stamps.y0[i])
        miss = clip * allowed * flux[i] * stamps.share[i].max(axis=(1, 2))
        sums = np.zeros((2, len(part), m, m))
        place = (x[i] - corner[0], y[i] - corner[1])
        square[part] = _sum_stars(*planes, stamps.share[i], *corner, *place, flux[i], miss, psf.knots, psf.pixel, clip, sums[0], sums[1])
        own[part], light[part] = sums[0][:, active], sums[1][:, active]
    return own, light, square


@njit(cache=True)
def _sum_stars(
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
    clip: float,
    own: FloatArray,
    light: FloatArray,
) -> FloatArray:
    """Sums of pixels with the weights of `psf_equations`: own, light (n, m, m), of residuals and of the star's light; squares (n,)."""
    ny, nx = value.shape
    n, size, _ = stamps.shape
    m = own.shape[1]
    bx, by = np.zeros((size, m)), np.zeros((size, m))
    rx, ry = np.zeros((size, 2), np.int64), np.zeros((size, 2), np.int64)
    rows, square = np.empty((2, m)), np.zeros(n)
    for i in range(n):
        axis_values(knots, x[i], pixel, bx, rx)
        axis_values(knots, y[i], pixel, by, ry)
        for q in range(max(0, -y0[i]), min(size, ny - y0[i])):
            iy = y0[i] + q
            rows[:] = 0.0
            for p in range(max(0, -x0[i]), min(size, nx - x0[i])):
                ix = x0[i] + p
                if not good[iy, ix] or stamps[i, q, p] == 0.0:
                    continue
                mine, off = flux[i] * stamps[i, q, p], value[iy, ix] - model[iy, ix]
                weight = pixel_weight(mine, off, dark[iy, ix], inverse_gain, clip, miss[i])
                if weight == 0.0:
                    continue
                square[i] += weight * mine * mine
                for a in range(rx[p, 0], rx[p, 1]):
                    rows[0, a] += weight * flux[i] * off * bx[p, a]
                    rows[1, a] += weight * flux[i] * mine * bx[p, a]
            for b in range(ry[q, 0], ry[q, 1]):
                for a in range(m):
                    own[i, b, a] += by[q, b] * rows[0, a]
                    light[i, b, a] += by[q, b] * rows[1, a]
    return square
