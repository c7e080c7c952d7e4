"""Fit of the profile map to the pixels of a frame's stars.

Two linear fits take turns: the fluxes of all stars jointly with the map held (`psf_flux`), and the map's coefficients with
the fluxes held. The terms in x and y hardly change over a star, so that its normal equations are formed once for the profile
and multiplied out by the terms (Pal 2009, PhD thesis, section 2.5; Penev et al. 2025, arXiv 2507.14289).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numba import njit
from scipy.linalg import cho_factor, cho_solve

from db.errors import AlgorithmFailed
from reduction.astrometry.kernels.wcs import exponents
from reduction.kernels.arrays import BoolArray, Float32Array, FloatArray, IntArray
from reduction.photometry.kernels.psf_flux import Fluxes, Pixels, fit_fluxes, model_image, overlapping
from reduction.photometry.kernels.psf_map import PsfMap, Stamps, map_terms, unit_integral
from reduction.photometry.kernels.psf_seed import active_functions
from reduction.photometry.kernels.splines import PADDING, spline_values

__all__ = ["PsfFit", "fit_psf"]

CHUNK = 64  # stars whose equations are multiplied out together
TURNS = (3, 10)  # of fluxes and map: at least, at most
SETTLED = 0.01  # part of the median chi-square by which a further turn must lower it for one more
LEAST_STARS = 4
STARS_PER_TERM = (1, 10, 10, 30)  # by order, the last for all higher ones: these cost most, and few stars never carry them
ORDER_GAIN = 2.0  # over the number of pixels: by so much of it a further order must lower the held-out chi-square for the next to be tried
FOLDS, MANY = (5, 2), 200  # of stars, each predicted by the others: of few, and from so many on, where a half is as good as all
ROUGHNESS = (1e-5, 1e-3, 1e-7)  # strengths of the penalty, in units of what a typical coefficient is known by: to begin with, and tried
MODEL_ERROR = 0.02  # of a star's light in a pixel: keeps a few bright stars from having all the say
BRIGHT = 50.0  # signal-to-noise ratio from which stars show how far the map misses a typical one
UNLIKE, UNLIKE_CHI2 = 10.0, 2.0  # a star missed by so many times the typical part of its light, with at least this chi-square, is none
# By turn: sigma beyond which a pixel has no say, and the error of the map, as part of a star's light in its brightest pixel, that is
# allowed for then. A seed that is far off must not choose its pixels.
CLIP = ((20.0, 0.05), (20.0, 0.005), (6.0, 0.0))


@dataclass(frozen=True)
class PsfFit:
    """A profile map and how well it stands.

    Attributes
    ----------
    psf : PsfMap
    fluxes : Fluxes
        Of all stars.
    used : bool, shape (n,)
        Stars that the map was fitted to.
    chi2 : float
        Median reduced chi-square of the stars used, about the map.
    held_out : tuple of float
        Reduced chi-square of stars left out of the fit, by order.
    roughness : float
        Strength of the penalty chosen.
    """

    psf: PsfMap
    fluxes: Fluxes
    used: BoolArray
    chi2: float
    held_out: tuple[float, ...]
    roughness: float


def fit_psf(
    pixels: Pixels,
    x: FloatArray,
    y: FloatArray,
    seed: PsfMap,
    *,
    max_order: int = 3,
    min_snr: float = 20.0,
    max_stars: int = 2000,
) -> PsfFit:
    """Fit the map to a frame.

    Parameters
    ----------
    pixels : Pixels
    x, y : float64, shape (n,)
        Positions of all stars whose light is on the frame (pixel).
    seed : PsfMap
        Where to begin; its knots, radius and pixel are kept.
    max_order : int
        Highest degree in x and y; the lowest that predicts left-out stars as well is taken.
    min_snr : float
        Least signal-to-noise ratio of a star that shows the profile.
    max_stars : int
        At most so many show it, evenly over the frame.

    Returns
    -------
    PsfFit

    Raises
    ------
    AlgorithmFailed
        Too few stars.
    """
    stamps = seed.stamps(x, y)
    every = fit_fluxes(pixels, stamps)
    first = _profile_stars(every, x, y, np.ones(len(x), dtype=bool), (seed.nx, seed.ny), min_snr, max_stars)
    # Stars that share no pixel with one that shows the profile have no part in it.
    near = np.flatnonzero(overlapping(stamps, first))
    fit = _take_turns(pixels, x[near], y[near], seed, every.flux[near], max_order, min_snr, max_stars)
    used = np.zeros(len(x), dtype=bool)
    used[near] = fit.used
    start = every.flux
    start[near] = fit.fluxes.flux
    fluxes = fit_fluxes(pixels, fit.psf.stamps(x, y), start=start, rounds=1)
    return replace(fit, fluxes=fluxes, used=used)


def _take_turns(
    pixels: Pixels, x: FloatArray, y: FloatArray, seed: PsfMap, flux: FloatArray, max_order: int, min_snr: float, max_stars: int
) -> PsfFit:
    """Map and fluxes in turn until they settle. The order grows by one a turn for as long as stars left out gain by it."""
    psf, stamps = seed, seed.stamps(x, y)
    fluxes = fit_fluxes(pixels, stamps, start=flux, rounds=1)
    choice, growing, chi2 = _Choice(0, ROUGHNESS[0], ()), True, np.inf
    for turn in range(TURNS[1]):
        stars = _like_the_map(fluxes) if turn else np.ones(len(x), dtype=bool)
        used = _profile_stars(fluxes, x, y, stars, (psf.nx, psf.ny), min_snr, max_stars)
        highest = min(max_order, _highest_order(int(np.count_nonzero(used))))
        tried = min(highest, choice.order + growing)
        equations = _equations(pixels, psf, stamps, x, y, fluxes.flux, used, tried, CLIP[min(turn, len(CLIP) - 1)])
        if growing:
            # As long as the seed's errors have their say, nothing tells where to stop.
            choice = _choose(equations, psf.knots, psf.radius, tried, ROUGHNESS if turn + 1 >= len(CLIP) else ROUGHNESS[:1])
            growing = turn + 1 < len(CLIP) or choice.order == tried < highest
        order = min(choice.order, tried)
        coeff = _coefficients(_total(equations), psf.knots, psf.radius, order, tried, choice.roughness)
        psf = replace(psf, order=order, coeff=unit_integral(coeff, psf.knots))
        stamps = psf.stamps(x, y)
        fluxes = fit_fluxes(pixels, stamps, start=fluxes.flux, rounds=1)
        before, chi2 = chi2, float(np.median(fluxes.chi2[used]))
        if turn + 1 >= TURNS[0] and not growing and chi2 > before * (1.0 - SETTLED):
            break
    return PsfFit(psf, fluxes, used, chi2, choice.held_out, choice.roughness)


@dataclass(frozen=True)
class _Equations:
    """Normal equations of the coefficients for one fold of stars, at the highest order.

    moments (n_moment, m, reach + 1, m, 2 reach + 1): sums of products of function (b, a) with its neighbour (b + i,
    a + j - reach) at [b, i, a, j], times each monomial in x, y up to twice the order, for the product of two terms is one of those; right
    (n_term, m, m); square, the sum of weighted squares of the data; count of pixels.
    """

    moments: FloatArray
    right: FloatArray
    square: float
    count: int


@dataclass(frozen=True)
class _Choice:
    order: int
    roughness: float
    held_out: tuple[float, ...]


def _highest_order(n_star: int) -> int:
    if n_star < LEAST_STARS:
        raise AlgorithmFailed(
            f"{n_star} stars show the profile, at least {LEAST_STARS} are needed",
            hint="look at the frame for clouds, saturation or a wrong background",
            code="psf.few_stars",
        )
    order = 0
    while STARS_PER_TERM[min(order + 1, len(STARS_PER_TERM) - 1)] * len(exponents(order + 1)) <= n_star:
        order += 1
    return order


def _like_the_map(fluxes: Fluxes) -> BoolArray:
    """Stars that the map does not miss by far more of their light than others: galaxies, pairs and blemishes are unlike it."""
    with np.errstate(invalid="ignore", divide="ignore"):
        miss = (fluxes.chi2 - 1.0) * (fluxes.error / fluxes.flux) ** 2
        bright = (fluxes.flux > BRIGHT * fluxes.error) & np.isfinite(miss)
    typical = max(float(np.median(miss[bright])), 0.0) if bright.any() else 0.0
    return np.asarray(~((fluxes.chi2 > UNLIKE_CHI2) & (miss > UNLIKE * typical)))


def _profile_stars(
    fluxes: Fluxes, x: FloatArray, y: FloatArray, usable: BoolArray, size: tuple[int, int], min_snr: float, most: int
) -> BoolArray:
    """The brightest usable stars of each part of the frame, whole, of enough S/N."""
    with np.errstate(invalid="ignore", divide="ignore"):
        snr = fluxes.flux / fluxes.error
    good = np.flatnonzero(usable & (snr >= min_snr) & (fluxes.coverage > 0.99))
    used = np.zeros(len(x), dtype=bool)
    if len(good) <= most:
        used[good] = True
        return used
    cell = np.sqrt(size[0] * size[1] / 64.0)
    number = (y[good] // cell).astype(np.int64) * 1000 + (x[good] // cell).astype(np.int64)
    order = np.lexsort((-snr[good], number))
    first = np.searchsorted(number[order], number[order])
    rank = np.empty(len(good), dtype=np.int64)
    rank[order] = np.arange(len(good)) - first
    used[good[np.lexsort((-snr[good], rank))[:most]]] = True
    return used


def _equations(
    pixels: Pixels,
    psf: PsfMap,
    stamps: Stamps,
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
    used: BoolArray,
    order: int,
    clip: tuple[float, float],
) -> list[_Equations]:
    """Normal equations of the coefficients at an order, by fold of stars."""
    residual = pixels.value.astype(np.float64) - model_image(stamps, flux, pixels.value.shape)
    index = np.flatnonzero(used)
    folds = FOLDS[len(index) >= MANY]
    return [_fold_equations(pixels, residual, psf, stamps, x, y, flux, index[k::folds], order, clip) for k in range(folds)]


def _fold_equations(
    pixels: Pixels,
    residual: FloatArray,
    psf: PsfMap,
    stamps: Stamps,
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
    index: IntArray,
    order: int,
    clip: tuple[float, float],
) -> _Equations:
    m, size = psf.coeff.shape[1], (psf.nx, psf.ny)
    reach = _reach(psf)
    terms, products = map_terms(x[index], y[index], size, order), map_terms(x[index], y[index], size, 2 * order)
    moments = np.zeros((products.shape[1], m * m * (reach + 1) * (2 * reach + 1)))
    right, square, count = np.zeros((terms.shape[1], m * m)), 0.0, 0
    for part in np.array_split(np.arange(len(index)), max(1, len(index) // CHUNK)):
        i = index[part]
        corner = (stamps.x0[i], stamps.y0[i])
        place = (x[i] - corner[0], y[i] - corner[1])
        own, own_right, squares, counts = _star_equations(
            residual,
            pixels.dark,
            1.0 / pixels.gain,
            pixels.good,
            stamps.share[i],
            *corner,
            *place,
            flux[i],
            psf.knots,
            psf.pixel,
            reach,
            clip,
        )
        moments += products[part].T @ own.reshape(len(part), -1)
        right += terms[part].T @ own_right.reshape(len(part), -1)
        square += squares
        count += counts
    return _Equations(moments.reshape(-1, m, reach + 1, m, 2 * reach + 1), right.reshape(-1, m, m), square, count)


def _reach(psf: PsfMap) -> int:
    """How many functions further on an axis one can meet the same pixel."""
    return PADDING + int(np.ceil(psf.pixel / np.diff(psf.knots).min())) if psf.pixel else PADDING


@njit(cache=True)
def _star_equations(
    residual: FloatArray,
    dark: Float32Array,
    inverse_gain: float,
    good: BoolArray,
    stamps: FloatArray,
    x0: IntArray,
    y0: IntArray,
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
    knots: FloatArray,
    pixel: float,
    reach: int,
    clip: tuple[float, float],
) -> tuple[FloatArray, FloatArray, float, int]:
    """Each star's normal equations of the profile: products, right sides; sum of weighted squares of the data, number of pixels."""
    ny, nx = residual.shape
    n, size, _ = stamps.shape
    m = knots.size - 4
    own, right = np.zeros((n, m, reach + 1, m, 2 * reach + 1)), np.zeros((n, m, m))
    bx, by = np.zeros((size, m)), np.zeros((size, m))
    rx, ry = np.zeros((size, 2), np.int64), np.zeros((size, 2), np.int64)
    row, row_right = np.empty((m, 2 * reach + 1)), np.empty(m)
    square, count = 0.0, 0
    for i in range(n):
        for p in range(size):
            rx[p, 0], rx[p, 1] = spline_values(knots, p - x[i], pixel, bx[p])
            ry[p, 0], ry[p, 1] = spline_values(knots, p - y[i], pixel, by[p])
        allowed = clip[0] ** 2 * (clip[1] * flux[i] * stamps[i].max()) ** 2 if clip[1] > 0.0 else 0.0
        for q in range(max(0, -y0[i]), min(size, ny - y0[i])):
            iy = y0[i] + q
            row[:] = 0.0
            row_right[:] = 0.0
            for p in range(max(0, -x0[i]), min(size, nx - x0[i])):
                ix = x0[i] + p
                if not good[iy, ix] or stamps[i, q, p] == 0.0:
                    continue
                light = flux[i] * stamps[i, q, p]
                variance = dark[iy, ix] + max(light, 0.0) * inverse_gain + (MODEL_ERROR * light) ** 2
                off = residual[iy, ix]
                if off * off > clip[0] ** 2 * variance + allowed:
                    continue
                data, weight = off + light, 1.0 / variance
                square += weight * data * data
                count += 1
                for a in range(rx[p, 0], rx[p, 1]):
                    first = weight * flux[i] * bx[p, a]
                    row_right[a] += first * data
                    for a2 in range(rx[p, 0], rx[p, 1]):
                        row[a, a2 - a + reach] += first * flux[i] * bx[p, a2]
            # what a row of pixels adds is the same for all functions in y, but for their values there
            for b in range(ry[q, 0], ry[q, 1]):
                right[i, b] += by[q, b] * row_right
                for b2 in range(b, ry[q, 1]):
                    _add_scaled(row, by[q, b] * by[q, b2], own[i, b, b2 - b])
    return own, right, square, count


@njit(cache=True)
def _add_scaled(values: FloatArray, factor: float, out: FloatArray) -> None:
    for j in range(values.shape[0]):
        for k in range(values.shape[1]):
            out[j, k] += factor * values[j, k]


def _total(equations: list[_Equations]) -> _Equations:
    first, *others = equations
    moments, right = first.moments.copy(), first.right.copy()
    for other in others:
        moments += other.moments
        right += other.right
    return _Equations(moments, right, sum(e.square for e in equations), sum(e.count for e in equations))


def _choose(equations: list[_Equations], knots: FloatArray, radius: float, max_order: int, roughness: tuple[float, ...]) -> _Choice:
    """Order, then roughness, by how well the map of all other folds predicts the stars of each; orders are tried as long as they gain."""
    systems = [_dense(e, knots, radius) for e in equations]
    count = sum(e.count for e in equations)
    whole = (sum(matrix for matrix, _ in systems), sum(right for _, right in systems))

    def score(order: int, strength: float) -> float:
        total = 0.0
        for fold, (matrix, right) in zip(equations, systems, strict=True):
            solution = _solve(whole[0] - matrix, whole[1] - right, knots, radius, order, max_order, strength)
            total += float(fold.square - 2.0 * solution @ right + solution @ matrix @ solution)
        return total / count

    scores = [score(0, roughness[0])]
    for order in range(1, max_order + 1):
        scores.append(score(order, roughness[0]))
        if scores[-1] > scores[-2] * (1.0 - ORDER_GAIN / count):
            break
    best = next(order for order, value in enumerate(scores) if value <= min(scores) * (1.0 + ORDER_GAIN / count))
    by_roughness = {roughness[0]: scores[best]} | {strength: score(best, strength) for strength in roughness[1:]}
    return _Choice(best, min(by_roughness, key=lambda r: by_roughness[r]), tuple(scores))


@njit(cache=True)
def _fill(moments: FloatArray, product: IntArray, index: IntArray, out: FloatArray) -> None:
    """The symmetric matrix (n_term * n, n_term * n).

    product (n_term, n_term): the monomial that two terms make; index (m, m): number of each function's coefficient, or -1.
    """
    m, reach = moments.shape[1], moments.shape[2] - 1
    n_term = product.shape[0]
    n = out.shape[0] // n_term
    for k in range(n_term):
        for k2 in range(n_term):
            for b in range(m):
                for a in range(m):
                    i = index[b, a]
                    if i < 0:
                        continue
                    for b2 in range(b, min(b + reach + 1, m)):
                        for a2 in range(max(a - reach, 0), min(a + reach + 1, m)):
                            j = index[b2, a2]
                            if j >= 0:
                                value = moments[product[k, k2], b, b2 - b, a, a2 - a + reach]
                                out[k * n + i, k2 * n + j] = value
                                out[k2 * n + j, k * n + i] = value


def _dense(equations: _Equations, knots: FloatArray, radius: float) -> tuple[FloatArray, FloatArray]:
    """Matrix and right side of the coefficients that are free, term after term."""
    active = active_functions(knots, radius)
    index = np.full(active.shape, -1, dtype=np.int64)
    index[active] = np.arange(np.count_nonzero(active))
    n = np.count_nonzero(active) * equations.right.shape[0]
    matrix = np.zeros((n, n))
    _fill(equations.moments, _products(equations.right.shape[0]), index, matrix)
    return matrix, equations.right[:, active].ravel()


def _products(n_term: int) -> IntArray:
    """Number of the monomial that each two terms make, (n_term, n_term)."""
    order = next(k for k in range(n_term) if len(exponents(k)) == n_term)
    number = {powers: k for k, powers in enumerate(exponents(2 * order))}
    terms = exponents(order)
    return np.array([[number[i + a, j + b] for a, b in terms] for i, j in terms], dtype=np.int64)


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


def _solve(
    matrix: FloatArray, right: FloatArray, knots: FloatArray, radius: float, order: int, max_order: int, roughness: float
) -> FloatArray:
    """Coefficients of the highest order, of which those beyond `order` are zero."""
    n_term, n = len(exponents(order)), len(right) // len(exponents(max_order))
    used = n_term * n
    scale = float(np.median(np.diag(matrix)[:n]))
    penalty = _penalty(tuple(knots.tolist()), radius) * (roughness * scale)
    system = matrix[:used, :used].copy()
    for term in range(0, used, n):
        system[term : term + n, term : term + n] += penalty
    system[np.diag_indices(used)] += 1e-9 * scale
    out = np.zeros(len(right))
    try:
        factor = cho_factor(system, overwrite_a=True, check_finite=False)
    except np.linalg.LinAlgError as error:
        raise AlgorithmFailed(
            "the stars do not fix the coefficients of the profile",
            hint="look at the frame for clouds, saturation or a wrong background",
            code="psf.few_stars",
        ) from error
    out[:used] = cho_solve(factor, right[:used], check_finite=False)
    return out


def _coefficients(equations: _Equations, knots: FloatArray, radius: float, order: int, max_order: int, roughness: float) -> FloatArray:
    """Coefficients (n_term, m, m) of an order."""
    active = active_functions(knots, radius)
    solution = _solve(*_dense(equations, knots, radius), knots, radius, order, max_order, roughness)
    n, n_term = np.count_nonzero(active), len(exponents(order))
    coeff = np.zeros((n_term, *active.shape))
    coeff[:, active] = solution[: n * n_term].reshape(n_term, n)
    return coeff
