"""Cross-fitted magnitude fit of a frame to a reference.

The difference between instrumental and reference magnitude is a smooth function of position, colour and so on; its coefficients are found
by robust weighted least squares (Kovacs, Bakos & Noyes 2005, MNRAS 356, 557, sect. 2; Pal 2009, PhD thesis, sect. 2.8). Here every star
belongs to a fold, and the coefficients that correct it come from the stars of all *other* folds. Those fits are made apart from each
other, robust weights and error floor included, so that nothing a star does can reach its own correction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from reduction.kernels.arrays import BoolArray, FloatArray, IntArray
from reduction.kernels.compiled import scatter_about
from reduction.kernels.robust import MAD_TO_SIGMA

__all__ = ["FrameFits", "choose_terms", "fit_frames"]


HUBER_STEPS = 3
"""Iterations with Huber weights before the redescending ones: Tukey's alone can settle in a wrong minimum."""

HUBER_TUNING = 1.345
"""Huber's tuning constant (95 % efficient for Gaussian errors)."""


@dataclass(frozen=True)
class FrameFits:
    """Result of `fit_frames`.

    Attributes
    ----------
    coeff : float64, shape (f, n_fold, p)
        Coefficients for the stars of each fold, from the stars of all other folds; unused terms are 0, a fit that is not possible NaN.
    coeff_all : float64, shape (f, p)
        Coefficients from all stars, for display only: they correct nobody.
    fitted : float64, shape (rows,)
        Correction of each star (mag), with the coefficients of its fold. Subtract it from the instrumental magnitude.
    zp_err : float64, shape (f, n_fold)
        Typical (rms over the fold's stars) standard error of the correction, from the coefficient covariance (mag).
    rms : float64, shape (f,)
        Weighted rms of the held-out residuals of the used stars (mag).
    n_fit : int, shape (f,)
        Number of stars used in the fit to all.
    floor : float64, shape (f,)
        Systematic scatter added in quadrature to the errors in the fit to all (mag).
    fold_floor : float64, shape (f, n_fold)
        The same in the fits without each fold: what is weighed for a fold's stars must not have seen them.
    used : bool, shape (rows,)
        False for stars that were not offered, not finite, or rejected in the fit to all.
    """

    coeff: FloatArray
    coeff_all: FloatArray
    fitted: FloatArray
    zp_err: FloatArray
    rms: FloatArray
    n_fit: IntArray
    floor: FloatArray
    fold_floor: FloatArray
    used: BoolArray


def choose_terms(n_star: int, group: ArrayLike, per_term: float = 5.0) -> BoolArray:
    """Terms that `n_star` stars can bear.

    Parameters
    ----------
    n_star : int
        Stars offered to the fit.
    group : int, shape (p,)
        Group of each term: 0 for the constant, which always stays; groups of higher number are dropped first, and whole.
    per_term : float
        Stars needed for each term.

    Returns
    -------
    bool, shape (p,)
        Terms to fit; with few stars the constant alone (a weighted ensemble).
    """
    groups = np.asarray(group)
    for last in np.unique(groups)[::-1]:
        terms: BoolArray = groups <= last
        if n_star >= per_term * np.count_nonzero(terms):
            return terms
    return np.asarray(groups == groups.min())


def fit_frames(
    ends: ArrayLike,
    dmag: ArrayLike,
    sigma: ArrayLike,
    design: ArrayLike,
    fold: ArrayLike,
    n_fold: int = 5,
    *,
    terms: ArrayLike | None = None,
    eligible: ArrayLike | None = None,
    clip: float = 6.0,
    floor: float | None = None,
    iterations: int = 20,
) -> FrameFits:
    """Fit many frames, each on its own.

    Reweighted least squares with Huber's, then Tukey's weights over ``sigma^2 + floor^2``. The floor is the moment estimate from the
    robustly weighted residuals (DerSimonian & Laird 1986), so that bright stars do not dominate. A column that depends on earlier ones
    gets coefficient 0.

    Parameters
    ----------
    ends : int[f + 1]
        Rows of frame i are ``ends[i]:ends[i + 1]``.
    dmag : float64, shape (rows,) or (n_fold + 1, rows)
        Instrumental minus reference magnitude; NaN: not fitted, but corrected. With two axes, what the fit without each fold uses, and
        last the fit to all.
    sigma : float64, shape (rows,) or (n_fold + 1, rows)
        Its standard error without the floor (mag); NaN or <= 0: not fitted.
    design : float64, shape (rows, p)
        Terms, of the order of one; a star with a term that is not finite is neither fitted nor corrected (NaN).
    fold : int, shape (rows,)
        Fold of each star, 0 to n_fold - 1.
    n_fold : int
        Folds.
    terms : bool, shape (f, p), optional
        Terms to fit to each frame (all when omitted); see `choose_terms`.
    eligible : bool, shape (rows,), optional
        Stars that may be used (all when omitted).
    clip : float
        Residual, in units of the robust scale, at which Tukey's biweight reaches zero.
    floor : float, optional
        Systematic scatter (mag) to add in quadrature; estimated from the fitted stars when omitted.
    iterations : int
        Most iterations of the reweighting.
    """
    edges, folds = np.asarray(ends, dtype=np.int64), np.asarray(fold, dtype=np.int64)
    x = np.ascontiguousarray(design, dtype=np.float64)
    shape = (n_fold + 1, folds.size)
    y, error = (np.ascontiguousarray(np.broadcast_to(np.asarray(v, dtype=np.float64), shape)) for v in (dmag, sigma))
    chosen = np.ones((edges.size - 1, x.shape[1]), dtype=np.bool_) if terms is None else np.ascontiguousarray(terms, dtype=np.bool_)
    offered = np.isfinite(x).all(axis=1)
    if eligible is not None:
        offered &= np.asarray(eligible, dtype=np.bool_)
    fixed_floor = -1.0 if floor is None else float(floor)
    coeff = np.empty((edges.size - 1, n_fold, x.shape[1]))
    zp_err, fold_floor = np.empty((2, edges.size - 1, n_fold))
    fitted = np.full(folds.size, np.nan)
    frame = np.repeat(np.arange(edges.size - 1), np.diff(edges))
    for k in range(n_fold):
        found = _fit_set(edges, y[k], error[k], x, offered & (folds != k), chosen, clip, fixed_floor, iterations)
        coeff[:, k], covariance, _, fold_floor[:, k] = found
        zp_err[:, k] = _typical_error(edges, x, folds == k, offered, covariance)
        mine = np.flatnonzero(folds == k)
        fitted[mine] = np.einsum("ij,ij->i", x[mine], coeff[frame[mine], k])
    coeff_all, _, weight, floors = _fit_set(edges, y[-1], error[-1], x, offered, chosen, clip, fixed_floor, iterations)
    used = weight > 0
    total = np.bincount(frame, weight, edges.size - 1)
    # Stars whose fold leaves too few others for a fit are judged by that of all: the frame's other folds are used.
    held_out = np.where(np.isfinite(fitted), fitted, np.einsum("ij,ij->i", x, np.nan_to_num(coeff_all)[frame]))
    square = np.bincount(frame[used], (weight * (y[-1] - held_out) ** 2)[used], edges.size - 1)
    rms = np.sqrt(np.divide(square, total, out=np.full(edges.size - 1, np.nan), where=total > 0))
    n_fit = np.bincount(frame[used], minlength=edges.size - 1)
    return FrameFits(coeff, coeff_all, fitted, zp_err, rms, n_fit, floors, fold_floor, used)


@njit(cache=True)
def _fit_set(ends, dmag, sigma, design, offered, terms, clip, floor, iterations):  # type: ignore[no-untyped-def]
    """Coefficients and covariance of each frame from the offered rows, the rows' last weights and the frames' floors."""
    n_frame, n_term = terms.shape
    coeff = np.zeros((n_frame, n_term))
    covariance = np.zeros((n_frame, n_term, n_term))
    weight = np.zeros(dmag.size)
    floors = np.full(n_frame, np.nan)
    for f in range(n_frame):
        rows = np.arange(ends[f], ends[f + 1])
        rows = rows[offered[rows] & np.isfinite(dmag[rows]) & np.isfinite(sigma[rows]) & (sigma[rows] > 0)]
        columns = np.flatnonzero(terms[f])
        solution, inverse, last, floors[f] = _fit_one(dmag[rows], sigma[rows], _take(design, rows, columns), clip, floor, iterations)
        weight[rows] = last
        for i in range(columns.size):
            coeff[f, columns[i]] = solution[i]
            for j in range(columns.size):
                covariance[f, columns[i], columns[j]] = inverse[i, j]
    return coeff, covariance, weight, floors


@njit(cache=True)
def _typical_error(ends, design, mine, offered, covariance):  # type: ignore[no-untyped-def]
    """Rms standard error of each frame's correction over the fold's offered stars, or over all offered where it has none."""
    out = np.full(ends.size - 1, np.nan)
    for f in range(ends.size - 1):
        total, n = np.zeros(2), np.zeros(2)
        for i in range(ends[f], ends[f + 1]):
            if offered[i]:
                variance = 0.0
                for j in range(design.shape[1]):
                    for k in range(design.shape[1]):
                        variance += design[i, j] * covariance[f, j, k] * design[i, k]
                which = 0 if mine[i] else 1
                total[which] += variance
                n[which] += 1
        if n[0] > 0:
            out[f] = np.sqrt(total[0] / n[0])
        elif n[1] > 0:
            out[f] = np.sqrt(total[1] / n[1])
    return out


@njit(cache=True)
def _take(design, rows, columns):  # type: ignore[no-untyped-def]
    out = np.empty((rows.size, columns.size))
    for i in range(rows.size):
        for j in range(columns.size):
            out[i, j] = design[rows[i], columns[j]]
    return out


@njit(cache=True)
def _fit_one(y, sigma, x, clip, fixed_floor, iterations):  # type: ignore[no-untyped-def]
    """Coefficients, their covariance, the last weights (1/mag^2, 0 where rejected) and the floor of one fit."""
    n, p = x.shape
    weight = np.zeros(n)
    if n <= p:
        return np.full(p, np.nan), np.full((p, p), np.nan), weight, np.nan
    # The median is a start no single star can spoil; the slopes follow within the Huber steps.
    residual = y - np.median(y)
    floor = max(fixed_floor, 0.0)
    if fixed_floor < 0:
        floor = scatter_about(residual, 0.0)
    solution = np.zeros(p)
    spread = np.sqrt(n / (n - p))
    for step in range(iterations):
        variance = sigma**2 + floor**2
        deviation = np.abs(residual) / np.sqrt(variance)
        scale = max(MAD_TO_SIGMA * np.median(deviation) * spread, 1e-9)
        for i in range(n):
            u = deviation[i] / scale
            if step < HUBER_STEPS:
                robust = min(1.0, HUBER_TUNING / max(u, 1e-9))
            else:
                robust = (1 - (u / clip) ** 2) ** 2 if u < clip else 0.0
            weight[i] = robust / variance[i]
        previous = solution
        solution, _ = _solve(x, y, weight)
        residual = y - x @ solution
        if fixed_floor < 0:
            floor = _floor(residual, variance, weight, sigma, p)
        if step > HUBER_STEPS and np.max(np.abs(solution - previous)) < 1e-7:
            break
    return solution, _covariance(x, residual / np.sqrt(variance), 1 / variance, clip * scale), weight, floor


@njit(cache=True)
def _covariance(x, deviation, inverse_variance, limit):  # type: ignore[no-untyped-def]
    """Covariance of a biweight fit (Huber 1981, Robust Statistics, eq. 7.6.10), with each residual enlarged by its star's leverage."""
    n = x.shape[0]
    _, inverse = _solve(x, np.zeros(n), inverse_variance)
    square, slope = 0.0, 0.0
    for i in range(n):
        t = (deviation[i] / limit) ** 2
        if t < 1:
            leverage = min(inverse_variance[i] * (x[i] @ (inverse @ x[i])), 0.9)
            square += (deviation[i] * (1 - t) ** 2 / (1 - leverage)) ** 2
            slope += (1 - t) * (1 - 5 * t)
    slope = max(slope / n, 0.1)
    return inverse * max(square / n, 1e-18) / slope**2


@njit(cache=True)
def _floor(residual, variance, weight, sigma, p):  # type: ignore[no-untyped-def]
    """Scatter beyond the errors: moment estimate with the fit's own weights, corrected for `p` fitted terms."""
    n = max(np.count_nonzero(weight > 0), p + 1)
    gain = weight / variance
    norm = np.sum(gain)
    if norm <= 0:
        return 0.0
    excess = np.sum(gain * (residual**2 * (n / (n - p)) - sigma**2)) / norm
    return np.sqrt(max(excess, 0.0))


@njit(cache=True)
def _solve(x, y, weight):  # type: ignore[no-untyped-def]
    """Weighted normal equations by Cholesky; columns that depend on earlier ones are left out (coefficient and covariance 0)."""
    n, p = x.shape
    normal = np.zeros((p, p))
    right = np.zeros(p)
    for i in range(n):
        if weight[i] > 0:
            for j in range(p):
                wx = weight[i] * x[i, j]
                right[j] += wx * y[i]
                for k in range(j + 1):
                    normal[j, k] += wx * x[i, k]
    lower = np.zeros((p, p))
    for j in range(p):
        pivot = normal[j, j] - np.sum(lower[j, :j] ** 2)
        if pivot <= 1e-10 * normal[j, j]:
            continue
        lower[j, j] = np.sqrt(pivot)
        for i in range(j + 1, p):
            lower[i, j] = (normal[i, j] - np.sum(lower[i, :j] * lower[j, :j])) / lower[j, j]
    inverse_lower = _invert_lower(lower)
    inverse = inverse_lower.T @ inverse_lower
    return inverse @ right, inverse


@njit(cache=True)
def _invert_lower(lower):  # type: ignore[no-untyped-def]
    """Inverse of a lower triangle, with zero rows and columns for zero pivots."""
    p = lower.shape[0]
    out = np.zeros((p, p))
    for j in range(p):
        if lower[j, j] == 0:
            continue
        out[j, j] = 1 / lower[j, j]
        for i in range(j + 1, p):
            if lower[i, i] != 0:
                out[i, j] = -np.sum(lower[i, j:i] * out[j:i, j]) / lower[i, i]
    return out
