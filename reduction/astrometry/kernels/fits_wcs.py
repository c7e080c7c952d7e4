"""Plate solutions as standard FITS headers.

TAN with SIP (Shupe et al. 2005, ASP Conf. 347, 491) is what astropy, DS9 and astrometry.net read. Its
polynomials run from the pixel to the sky and a plate solution's the other way, so they are fitted over the
frame. SIP goes up to order 9 and thus holds every polynomial that TPV, of order 7, could express.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from db.errors import AlgorithmFailed
from reduction.astrometry.kernels.wcs import PlateSolution, design_matrix, exponents, gnomonic, gnomonic_inverse
from reduction.kernels.arrays import FloatArray

__all__ = ["MAX_SIP_ORDER", "fits_wcs"]

_Miss: TypeAlias = Callable[[int, FloatArray], float]

#: Highest order that SIP has keywords for.
MAX_SIP_ORDER = 9
N_FIT = 31  # Chebyshev nodes an axis: three for each order, and dense where polynomials deviate most
NEAR = 0.1  # of the frame
N_CHECK = 40  # even grid an axis, borders included, on which the deviation is taken


def fits_wcs(solution: PlateSolution, *, tolerance: float = 1e-3) -> tuple[dict[str, str | int | float], float]:
    """FITS cards of a plate solution.

    Parameters
    ----------
    solution : PlateSolution
        With an inverse everywhere on the frame.
    tolerance : float
        The order of each polynomial is the lowest, from that of the solution on, that keeps to this
        deviation (pixel); where none does, the best one up to 9.

    Returns
    -------
    cards : dict
        Keyword to plain value, in the order of a header: TAN, with SIP (A, B from pixel to sky; AP, BP
        back) unless the solution is linear. CRPIX counts from 1, as FITS does. The tangent point is the
        solution's own if that lies near the middle of the frame or the solution is linear, else the middle.
    deviation : float
        Largest distance (pixel) over the frame, borders included, between the header and `solution`,
        of both directions.

    Raises
    ------
    AlgorithmFailed
        Part of the frame has no position on the sky.
    """
    tangent, origin = _reference(solution)
    x, y = _grid(solution, np.cos(np.pi * (np.arange(N_FIT) + 0.5) / N_FIT))
    check_x, check_y = _grid(solution, np.linspace(-1.0, 1.0, N_CHECK))
    pixel, check_pixel = _about(origin, x, y), _about(origin, check_x, check_y)
    plane = _standard(solution, x, y, tangent)

    def miss_forward(order: int, terms: FloatArray) -> float:
        xi, eta = _value(check_pixel, order, terms).T
        sky = gnomonic_inverse(xi, eta, *tangent)
        return _distance(_about(origin, *solution.project(*sky)), check_pixel)

    order, forward, deviation = _lowest_order(pixel, plane, miss_forward, solution.order, tolerance)
    cd = forward[:2].T
    to_focal = np.linalg.inv(cd).T
    focal, check_focal = plane @ to_focal, _standard(solution, check_x, check_y, tangent) @ to_focal

    def miss_back(order: int, terms: FloatArray) -> float:
        return _distance(_value(check_focal, order, terms), check_pixel)

    cards = _linear_cards(tangent, origin, cd, order)
    if order > 1:
        back_order, back, back_deviation = _lowest_order(focal, pixel, miss_back, max(solution.order, 2), tolerance)
        cards |= _sip_cards("{}", order, forward @ to_focal) | _sip_cards("{}P", back_order, back)
        deviation = max(deviation, back_deviation)
    return cards, deviation


def _reference(solution: PlateSolution) -> tuple[tuple[float, float], tuple[float, float]]:
    """Tangent point (degree) and its pixel."""
    own, middle = (solution.coeff_x[0], solution.coeff_y[0]), ((solution.nx - 1) / 2.0, (solution.ny - 1) / 2.0)
    # far from the middle, polynomials of high order about the tangent point lose their digits
    near = max(abs(own[0] - middle[0]) / solution.nx, abs(own[1] - middle[1]) / solution.ny) < NEAR
    return ((solution.ra0, solution.dec0), own) if near or solution.order == 1 else (solution.centre, middle)


def _grid(solution: PlateSolution, node: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Pixel positions of a grid that runs from -1 to 1 between the outer borders."""
    x, y = np.meshgrid((solution.nx * (node + 1.0) - 1.0) / 2.0, (solution.ny * (node + 1.0) - 1.0) / 2.0)
    return x.ravel(), y.ravel()


def _about(origin: tuple[float, float], x: FloatArray, y: FloatArray) -> FloatArray:
    return np.column_stack([x - origin[0], y - origin[1]])


def _standard(solution: PlateSolution, x: FloatArray, y: FloatArray, tangent: tuple[float, float]) -> FloatArray:
    plane = np.column_stack(gnomonic(*solution.unproject(x, y), *tangent))
    missing = ~np.isfinite(plane).all(axis=1)
    if missing.any():
        where = int(np.argmax(missing))
        raise AlgorithmFailed(
            f"the plate solution has no sky position at x {x[where]:.0f}, y {y[where]:.0f} of a {solution.nx} x {solution.ny} frame",
            hint="its polynomial folds over; solve with a lower order",
            code="solve.no_inverse",
        )
    return plane


def _value(point: FloatArray, order: int, terms: FloatArray) -> FloatArray:
    """Polynomials without a constant term at n points, shape (n, 2)."""
    value: FloatArray = np.einsum("ni,ik->nk", design_matrix(point[:, 0], point[:, 1], order)[:, 1:], terms)
    return value


def _fit(point: FloatArray, target: FloatArray, order: int) -> FloatArray:
    """Coefficients of `exponents(order)[1:]`, shape (n_terms - 1, 2): the tangent point stays where it is."""
    u, v = np.abs(point).max(axis=0)
    matrix = design_matrix(point[:, 0] / u, point[:, 1] / v, order)[:, 1:]
    # einsum, not BLAS: see PlateSolution; refined twice, for normal equations lose digits
    inverse = np.linalg.inv(np.einsum("ni,nj->ij", matrix, matrix))
    terms = np.zeros((matrix.shape[1], 2))
    for _ in range(3):
        terms += inverse @ np.einsum("ni,nk->ik", matrix, target - np.einsum("ni,ik->nk", matrix, terms))
    scaled: FloatArray = terms * np.array([1.0 / (u**i * v**j) for i, j in exponents(order)[1:]])[:, None]
    return scaled


def _lowest_order(point: FloatArray, target: FloatArray, miss: _Miss, first: int, tolerance: float) -> tuple[int, FloatArray, float]:
    tried = []
    for order in range(min(first, MAX_SIP_ORDER), MAX_SIP_ORDER + 1):
        terms = _fit(point, target, order)
        tried.append((order, terms, miss(order, terms)))
        if tried[-1][2] <= tolerance:
            break
    return min(tried, key=lambda each: each[2])


def _distance(first: FloatArray, second: FloatArray) -> float:
    distance = np.hypot(*(first - second).T)
    return float(np.where(np.isfinite(distance), distance, np.inf).max())


def _linear_cards(tangent: tuple[float, float], origin: tuple[float, float], cd: FloatArray, order: int) -> dict[str, str | int | float]:
    suffix = "-SIP" if order > 1 else ""
    return {
        "WCSAXES": 2,
        "CTYPE1": f"RA---TAN{suffix}",
        "CTYPE2": f"DEC--TAN{suffix}",
        "CUNIT1": "deg",
        "CUNIT2": "deg",
        "CRPIX1": origin[0] + 1.0,
        "CRPIX2": origin[1] + 1.0,
        "CRVAL1": tangent[0] % 360.0,
        "CRVAL2": tangent[1],
        "CD1_1": float(cd[0, 0]),
        "CD1_2": float(cd[0, 1]),
        "CD2_1": float(cd[1, 0]),
        "CD2_2": float(cd[1, 1]),
        # the default is another one for a tangent point at the pole
        "LONPOLE": 180.0,
        "LATPOLE": tangent[1],
        "RADESYS": "ICRS",
    }


def _sip_cards(name: str, order: int, terms: FloatArray) -> dict[str, str | int | float]:
    """What the polynomials add to u, v: A, B from the quadratic terms on, for the linear ones are the CD matrix; AP, BP with them."""
    first = 2 if name == "{}" else 1
    added = terms.copy()
    added[:2] -= np.eye(2)
    cards: dict[str, str | int | float] = {}
    for axis, letter in enumerate("AB"):
        key = name.format(letter)
        cards[f"{key}_ORDER"] = order
        cards |= {f"{key}_{i}_{j}": float(added[n, axis]) for n, (i, j) in enumerate(exponents(order)[1:]) if i + j >= first}
    return cards
