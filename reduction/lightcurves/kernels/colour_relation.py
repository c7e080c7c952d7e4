"""How one magnitude differs from another: a constant and a slope in colour, from stars that have both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reduction.kernels.arrays import BoolArray, FloatArray
from reduction.kernels.robust import MAD_TO_SIGMA, biweight, mad_scatter, spare_freedom

__all__ = ["LEAST_COLOURS", "LEAST_STARS", "Relation", "fit_relation"]

LEAST_STARS = 3
"""Stars from which on a zero point is known, and how well."""
LEAST_COLOURS = 10
"""Stars of known colour from which on a slope is fitted."""
LEAST_SPREAD = 0.05
"""Scatter of the colours below which they say nothing of a slope (mag)."""
LEAST_ERROR = 1e-4
"""Of a difference: no two magnitudes are better known (mag)."""
CLIP = 6.0
"""Stars farther off, in units of their errors and the excess, have no say."""
MOST_ROUNDS = 30
ENOUGH = 1e-6
"""Change of the coefficients at which the fit has settled (mag)."""


@dataclass(frozen=True)
class Relation:
    """A difference of magnitudes as ``zero_point + colour_term (colour - pivot)``.

    Attributes
    ----------
    zero_point, zero_point_err : float
        At the pivot, and its error (mag).
    colour_term, colour_term_err : float
        Slope and its error; 0 and 0 where none was fitted. The two errors are independent, for the pivot is the mean colour.
    pivot : float
        Weighted mean colour of the stars used (mag); NaN where no colour is known.
    scatter : float
        1.48 MAD of the stars about the relation (mag).
    excess : float
        What they scatter by beyond their errors (mag): how far the true difference of a single star may be from the relation.
    colour_scatter : float
        Standard deviation of the colours of the stars used (mag); 0 where fewer than two are known.
    used : bool, shape (n,)
        Stars that had a say.
    n_given : int
        Stars that were offered.
    """

    zero_point: float
    zero_point_err: float
    colour_term: float
    colour_term_err: float
    pivot: float
    scatter: float
    excess: float
    colour_scatter: float
    used: BoolArray
    n_given: int

    @property
    def n_star(self) -> int:
        """Stars that had a say."""
        return int(np.count_nonzero(self.used))


def fit_relation(difference: ArrayLike, error: ArrayLike, colour: ArrayLike) -> Relation | None:
    """Fit a constant and, where the colours allow, a slope; robustly, with a scatter beyond the errors that is found along the way.

    Tukey's biweight of residuals in units of errors and excess in quadrature. The excess makes the median of these what a Gaussian's is,
    so that some wild stars (variable, blended, misidentified) change nothing. The fit starts from least absolute deviations.

    Parameters
    ----------
    difference : float64, shape (n,)
        Of the two magnitudes (mag); stars with NaN are left out.
    error : float64, shape (n,)
        Its error (mag); NaN or 0 count as the least error, 0.1 mmag.
    colour : float64, shape (n,)
        NaN where not measured: such stars count only where too few have one.

    Returns
    -------
    Relation or None
        None with fewer than three stars.
    """
    values, errors, colours = (np.asarray(each, dtype=np.float64) for each in (difference, error, colour))
    given = np.isfinite(values)
    known = given & np.isfinite(colours)
    sloped = int(known.sum()) >= LEAST_COLOURS and mad_scatter(colours[known]) > LEAST_SPREAD
    mine = np.flatnonzero(known if sloped else given)
    if mine.size < LEAST_STARS:
        return None
    sigma = np.maximum(np.nan_to_num(errors[mine]), LEAST_ERROR)
    middle = float(np.median(colours[known])) if known.any() else np.nan
    design = np.stack([np.ones(mine.size), colours[mine] - middle], axis=1)[:, : 1 + sloped]
    coeff, excess, weight = _robust(design, values[mine], sigma)
    normal = design.T @ (design * weight[:, None])
    if sloped:
        # At the weighted mean colour the errors of constant and slope are independent.
        shift = normal[0, 1] / normal[0, 0]
        middle, design = middle + shift, design - np.array([0.0, shift])
        coeff = coeff + np.array([coeff[1] * shift, 0.0])
        normal = design.T @ (design * weight[:, None])
    errs = np.sqrt(np.diag(np.linalg.inv(normal)))
    residual = values[mine] - design @ coeff
    used = np.zeros(values.size, dtype=np.bool_)
    used[mine[weight > 0]] = True
    seen = colours[used & known]
    return Relation(
        float(coeff[0]), float(errs[0]), float(coeff[1]) if sloped else 0.0, float(errs[1]) if sloped else 0.0, middle,
        mad_scatter(residual), excess, float(seen.std()) if seen.size > 1 else 0.0, used, int(given.sum()),
    )  # fmt: skip


def _robust(design: FloatArray, values: FloatArray, sigma: FloatArray) -> tuple[FloatArray, float, FloatArray]:
    """Coefficients, excess, and the weights of the stars (1 / mag^2)."""
    coeff = _least_absolute(design, values, sigma)
    excess, weight = 0.0, np.ones(values.size)
    for _ in range(MOST_ROUNDS):
        residual = values - design @ coeff
        # Those without a say have none here either: a tenth of them would make of an excess half as much again.
        some = weight > 0
        excess = _excess(residual[some], sigma[some], design.shape[1])
        variance = sigma**2 + excess**2
        weight = biweight(residual**2 / (CLIP**2 * variance)) / variance
        following = _solve(design, values, weight)
        change = float(np.abs(following - coeff).max())
        coeff = following
        if change < ENOUGH:
            break
    return coeff, excess, weight


def _least_absolute(design: FloatArray, values: FloatArray, sigma: FloatArray) -> FloatArray:
    """A start that a third of wild stars does not spoil; errors that differ a lot weigh as if the scatter met were all alike."""
    common = float(np.median(np.abs(values - np.median(values))))
    size = np.sqrt(sigma**2 + common**2)
    coeff = np.zeros(design.shape[1])
    coeff[0] = np.median(values)
    for _ in range(20):
        off = np.abs(values - design @ coeff) / size
        coeff = _solve(design, values, 1.0 / (size**2 * np.maximum(off, 1e-3)))
    return coeff


def _solve(design: FloatArray, values: FloatArray, weight: FloatArray) -> FloatArray:
    root = np.sqrt(weight)
    return np.asarray(np.linalg.lstsq(design * root[:, None], values * root, rcond=1e-12)[0], dtype=np.float64)


def _excess(residual: FloatArray, sigma: FloatArray, n_term: int) -> float:
    """Scatter beyond the errors with which the median residual, in units of both, is a Gaussian's after so many terms were fitted."""
    wanted = spare_freedom(residual.size, n_term) / MAD_TO_SIGMA

    def median(excess: float) -> float:
        return float(np.median(np.abs(residual) / np.sqrt(sigma**2 + excess**2)))

    if median(0.0) <= wanted:
        return 0.0
    low, high = 0.0, float(np.max(np.abs(residual))) / wanted
    for _ in range(24):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if median(middle) > wanted else (low, middle)
    return high
