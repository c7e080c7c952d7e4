"""Matching of positions on a frame, and robust fits of plate polynomials to the pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.spatial import cKDTree

from reduction.astrometry.kernels.wcs import PlateSolution, design_matrix, exponents, gnomonic
from reduction.kernels.arrays import FloatArray, IntArray
from reduction.kernels.robust import biweight, robust_scatter, spare_freedom

__all__ = ["PolynomialFit", "fit_plate", "highest_order", "match_positions", "pair_weights", "position_weights"]


TUKEY = 6.0  # in sigma per axis: pairs beyond have no say in the fit
ITERATIONS = 30
STARS_PER_TERM = 3
MIN_FLOOR = 0.005  # pixel; no centroid is better than that


@dataclass(frozen=True)
class PolynomialFit:
    """A fitted solution and the residuals (pixel, observed minus fitted) of its n pairs.

    `loo_x`, `loo_y` are the residuals each pair would have had if it had not been fitted, from the
    hat matrix with the weights held (Cook & Weisberg 1982, Residuals and Influence in Regression, 2.2).
    """

    solution: PlateSolution
    residual_x: FloatArray
    residual_y: FloatArray
    loo_x: FloatArray
    loo_y: FloatArray

    @property
    def sigma(self) -> float:
        """Scatter per axis (pixel), 1.48 MAD, both axes together."""
        return robust_scatter(np.concatenate([self.residual_x, self.residual_y]))


def position_weights(error: FloatArray, residual: FloatArray) -> FloatArray:
    """Weights of pairs whose centroids have errors of their own on top of a scatter that all share.

    Parameters
    ----------
    error : float64, shape (n,)
        1-sigma error of each detection (pixel); NaN counts as the median of the others; all NaN makes equal weights.
    residual : float64, shape (n, 2)
        Residuals of a fit (pixel).

    Returns
    -------
    float64, shape (n,)
        1 / (error^2 + floor^2), the largest 1. The floor, which stands for what the errors do not know (the catalogue,
        undersampling, the air), is what makes the robust scatter of the normalised residuals 1, and at least 0.005 pixel.
    """
    known = np.isfinite(error)
    if not known.any():
        return np.ones(len(error))
    filled = np.where(known, error, np.median(error[known]))

    def excess(floor: float) -> float:
        return robust_scatter(residual / np.hypot(filled, floor)[:, None]) - 1.0

    widest = max(2.0 * robust_scatter(residual), 2.0 * MIN_FLOOR)
    floor = float(brentq(excess, MIN_FLOOR, widest, xtol=1e-4)) if excess(MIN_FLOOR) > 0.0 > excess(widest) else MIN_FLOOR
    weight = 1.0 / (filled**2 + floor**2)
    scaled: FloatArray = weight / weight.max()
    return scaled


def highest_order(n_star: int, order: int) -> int:
    """Highest order up to `order`, at least 1, whose terms are met by three of the `n_star` stars each."""
    for candidate in range(order, 1, -1):
        if n_star >= STARS_PER_TERM * len(exponents(candidate)):
            return candidate
    return 1


def match_positions(x1: FloatArray, y1: FloatArray, x2: FloatArray, y2: FloatArray, radius: float) -> tuple[IntArray, IntArray]:
    """Pairs of mutually nearest points of (`x1`, `y1`) and (`x2`, `y2`) within `radius` (pixel).

    Returns indices into the first and into the second set, in ascending order of the first. Points
    with NaN match nothing. Each point is in one pair at most.
    """
    first = np.flatnonzero(np.isfinite(x1) & np.isfinite(y1))
    second = np.flatnonzero(np.isfinite(x2) & np.isfinite(y2))
    if len(first) == 0 or len(second) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    points1 = np.column_stack([x1[first], y1[first]])
    points2 = np.column_stack([x2[second], y2[second]])
    distance, nearest = (np.asarray(part) for part in cKDTree(points2).query(points1))
    back = np.asarray(cKDTree(points1).query(points2)[1])
    mutual = (back[nearest] == np.arange(len(first))) & (distance <= radius)
    return first[mutual].astype(np.int64), second[nearest[mutual]].astype(np.int64)


def fit_plate(
    ra: FloatArray,
    dec: FloatArray,
    x: FloatArray,
    y: FloatArray,
    weight: FloatArray,
    *,
    tangent: tuple[float, float],
    order: int,
    size: tuple[int, int],
) -> PolynomialFit:
    """Robust weighted fit of x, y as polynomials of the standard coordinates.

    Parameters
    ----------
    ra, dec, x, y : float64, shape (n,)
        Pairs: sky (degree) and frame (pixel). All finite; n at least the number of terms.
    weight : float64, shape (n,)
        Prior weights, relative inverse variances.
    tangent : (float, float)
        Tangent point (degree).
    order : int
        Total degree.
    size : (int, int)
        nx, ny of the frame.

    Notes
    -----
    Iteratively reweighted least squares with Tukey's biweight on the radial residual times the root of
    `weight` (Beaton & Tukey 1974, Technometrics 16, 147), its scale the median absolute one. The first
    pass is without it; pairs come out of a match radius, so none can be wild.
    """
    xi, eta = gnomonic(ra, dec, *tangent)
    # columns of order one; the powers of the reach go back into the coefficients
    reach = max(float(np.hypot(xi, eta).max()), 1e-6)
    matrix = design_matrix(xi / reach, eta / reach, order)
    target = np.column_stack([x, y])
    robust = np.ones_like(weight)
    for _ in range(ITERATIONS):
        coefficients, leverage = _weighted(matrix, target, weight * robust)
        residual = target - np.einsum("ni,ik->nk", matrix, coefficients)
        updated = pair_weights(residual * np.sqrt(weight)[:, None], matrix.shape[1])
        if np.abs(updated - robust).max() < 1e-3:
            break
        robust = updated
    loo = residual / (1.0 - np.minimum(leverage, 0.999))[:, None]
    back = np.array([reach ** -(i + j) for i, j in exponents(order)])[:, None]
    scaled = coefficients * back
    solution = PlateSolution(
        *tangent, order, tuple(float(value) for value in scaled[:, 0]), tuple(float(value) for value in scaled[:, 1]), *size
    )
    return PolynomialFit(solution, residual[:, 0], residual[:, 1], loo[:, 0], loo[:, 1])


def _weighted(matrix: FloatArray, target: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weighted least squares: coefficients and the diagonal of the hat matrix."""
    # einsum, not BLAS: matrices this thin gain nothing from its threads, which would fight those of other frames
    weighted = matrix * weight[:, None]
    inverse = np.linalg.pinv(np.einsum("ni,nj->ij", weighted, matrix), rcond=1e-13, hermitian=True)
    coefficients = inverse @ np.einsum("ni,nk->ik", weighted, target)
    # one step of refinement gives back the digits that the normal equations lose
    coefficients += inverse @ np.einsum("ni,nk->ik", weighted, target - np.einsum("ni,ik->nk", matrix, coefficients))
    return coefficients, np.einsum("ni,ni->n", np.einsum("ni,ij->nj", weighted, inverse), matrix)


def pair_weights(residual: FloatArray, n_term: int) -> FloatArray:
    """Tukey's weights of pairs by their residuals in both axes together.

    Parameters
    ----------
    residual : float64, shape (n, 2)
        In pixels, or over their errors.
    n_term : int
        Terms of the fit, per axis.

    Returns
    -------
    float64, shape (n,)
        From 0 to 1.
    """
    sigma = max(robust_scatter(residual) / spare_freedom(len(residual), n_term), 1e-9)
    return biweight((residual[:, 0] ** 2 + residual[:, 1] ** 2) / (2.0 * (TUKEY * sigma) ** 2))
