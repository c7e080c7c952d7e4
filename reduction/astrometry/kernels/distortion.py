"""The distortion of the optics, shared by all frames of a night, and plate solutions that lean on it.

A frame by itself has too few stars to tell its distortion from their noise; a night's frames have it in
common. With u, v the pixel offset from the middle of the frame that the linear terms of a frame's own
solution give, x = x_middle + u + P(u, v) and y alike, where P has terms of degree two and more and is
the same for all frames: it goes with the optics, whichever way they are turned on the sky.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reduction.astrometry.kernels.plate_fit import PolynomialFit, pair_weights
from reduction.astrometry.kernels.plate_fit import _weighted as weighted_fit
from reduction.astrometry.kernels.wcs import PlateSolution, design_matrix, exponents, gnomonic
from reduction.kernels.arrays import FloatArray
from reduction.kernels.robust import robust_scatter

__all__ = ["DistortionMap", "Pairs", "distortion_change", "distortion_of", "fit_distortion", "fit_with_distortion"]


LINEAR = 3  # terms of degree 0 and 1: the frame's own
ROUNDS = 6
FOLDS = 5
_NODES = 21  # along either axis, where two distortions are compared
BORDER = 5.0  # in sigma: no residual counts for more in the choice of the order


@dataclass(frozen=True)
class Pairs:
    """Stars of one frame with their detections, and a first solution of it.

    Attributes
    ----------
    solution : PlateSolution
        Good to a pixel.
    ra, dec, x, y : float64, shape (n,)
        Star at the frame's epoch (degree) and detection (pixel).
    weight : float64, shape (n,)
        Inverse variance, relative.
    star : int64, shape (n,)
        Which star it is: held out on all frames at once.
    """

    solution: PlateSolution
    ra: FloatArray
    dec: FloatArray
    x: FloatArray
    y: FloatArray
    weight: FloatArray
    star: npt.NDArray[np.int64]


@dataclass(frozen=True)
class DistortionMap:
    """Distortion of an optical system over its detector.

    Attributes
    ----------
    order : int
        Total degree; 1 for none.
    coeff_x, coeff_y : tuple of float
        Coefficients (pixel) of the terms of degree two and more of `exponents(order)` in u / reach, v / reach, where reach is half
        the diagonal of the frame: about what a term moves a star in the corner.
    nx, ny : int
        Size of the frame (pixel).
    n_frame, n_pair : int
        What it was fitted to.
    rms_x, rms_y : float
        Scatter (pixel, 1.48 MAD) of stars that were left out, on all frames.
    """

    order: int
    coeff_x: tuple[float, ...]
    coeff_y: tuple[float, ...]
    nx: int
    ny: int
    n_frame: int
    n_pair: int
    rms_x: float
    rms_y: float

    def as_row(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return {**dataclasses.asdict(self), "coeff_x": list(self.coeff_x), "coeff_y": list(self.coeff_y)}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> DistortionMap:
        """The inverse of `as_row`."""
        return cls(**{**row, "coeff_x": tuple(row["coeff_x"]), "coeff_y": tuple(row["coeff_y"])})


@dataclass
class _Frame:
    """A frame's pairs in standard coordinates, and its linear terms and robust weights so far.

    The offset u, v (pixel) of a star from the middle of the frame is `base @ linear`.
    """

    pairs: Pairs
    tangent: tuple[float, float]
    degree: float
    base: FloatArray
    target: FloatArray
    linear: FloatArray
    robust: FloatArray

    @classmethod
    def of(cls, pairs: Pairs) -> _Frame:
        s = pairs.solution
        tangent = s.centre
        degree = s.radius  # standard coordinates in units of this: columns of like size
        xi, eta = gnomonic(pairs.ra, pairs.dec, *tangent)
        middle = gnomonic(*tangent, s.ra0, s.dec0)
        # the slope in the middle; that the two tangent planes differ is for the first round to mend
        slope = s.jacobian(float(middle[0]), float(middle[1])) * degree
        target = np.column_stack([pairs.x - (s.nx - 1) / 2.0, pairs.y - (s.ny - 1) / 2.0])
        base = design_matrix(xi / degree, eta / degree, 1)
        return cls(pairs, tangent, degree, base, target, np.vstack([np.zeros(2), slope.T]), np.ones(len(target)))

    def offsets(self, linear: FloatArray) -> FloatArray:
        """u, v (pixel), shape (n, 2)."""
        found: FloatArray = np.einsum("ni,ik->nk", self.base, linear)
        return found


def fit_distortion(frames: Sequence[Pairs], order: int = 5) -> DistortionMap:
    """Fit the distortion that frames of one optical system have in common, each with linear terms of its own.

    Parameters
    ----------
    frames : sequence of Pairs
        Of one size, each with four pairs or more.
    order : int
        Highest total degree. The lowest is taken that predicts left-out stars as well as any: five times a fifth of the stars is
        left out, on all frames at once.

    Returns
    -------
    DistortionMap

    Notes
    -----
    Alternates weighted least squares of P, from which each frame's linear terms are projected out, with fits of the linear terms
    and Tukey's biweight on the residuals of each frame.
    """
    tried = [_try(frames, degree) for degree in range(1, order + 1)]
    border = BORDER * min(robust_scatter(left_out) for _, left_out in tried)
    means = [float(np.mean(np.minimum(left_out**2, border**2))) for _, left_out in tried]
    n_star = len(np.unique(np.concatenate([pairs.star for pairs in frames])))
    enough = (1.0 + 2.0 / n_star) * min(means)
    best = next(k for k, mean in enumerate(means) if mean <= enough)
    coefficients, left_out = tried[best]
    first = frames[0].solution
    return DistortionMap(
        order=best + 1,
        coeff_x=_floats(coefficients[:, 0]),
        coeff_y=_floats(coefficients[:, 1]),
        nx=first.nx,
        ny=first.ny,
        n_frame=len(frames),
        n_pair=len(left_out),
        rms_x=robust_scatter(left_out[:, 0]),
        rms_y=robust_scatter(left_out[:, 1]),
    )


def _try(frames: Sequence[Pairs], order: int) -> tuple[FloatArray, FloatArray]:
    """Coefficients of P, (n_term, 2), and the residuals of every pair from fits without its star, (n, 2)."""
    work = [_Frame.of(pairs) for pairs in frames]
    coefficients = np.zeros((len(exponents(order)) - LINEAR, 2))
    for _ in range(ROUNDS):
        coefficients = _joint(work, [frame.pairs.weight * frame.robust for frame in work], order, coefficients)
        for frame in work:
            frame.robust = pair_weights(frame.target - _predicted(frame, frame.linear, coefficients, order), LINEAR)
    left_out = [np.full_like(frame.target, np.nan) for frame in work]
    kept = [frame.linear for frame in work]
    for fold in range(FOLDS):
        weights = [frame.pairs.weight * frame.robust * (frame.pairs.star % FOLDS != fold) for frame in work]
        without = _joint(work, weights, order, coefficients)
        for frame, residual, linear in zip(work, left_out, kept, strict=True):
            out = frame.pairs.star % FOLDS == fold
            residual[out] = (frame.target - _predicted(frame, frame.linear, without, order))[out]
            frame.linear = linear
    return coefficients, np.concatenate(left_out)


def _terms(offsets: FloatArray, order: int, reach: float) -> FloatArray:
    return design_matrix(offsets[:, 0] / reach, offsets[:, 1] / reach, order)[:, LINEAR:]


def _reach(frame: _Frame) -> float:
    return 0.5 * float(np.hypot(frame.pairs.solution.nx, frame.pairs.solution.ny))


def _predicted(frame: _Frame, linear: FloatArray, coefficients: FloatArray, order: int) -> FloatArray:
    """Offset of every star from the middle of the frame, distortion included (pixel)."""
    offsets = frame.offsets(linear)
    bent: FloatArray = np.einsum("ni,ik->nk", _terms(offsets, order, _reach(frame)), coefficients)
    return offsets + bent


def _joint(work: Sequence[_Frame], weights: Sequence[FloatArray], order: int, coefficients: FloatArray) -> FloatArray:
    """One step of the fit: P of all frames, then each frame's linear terms, which change in place."""
    n = len(coefficients)
    if n:
        matrix, side = np.zeros((n, n)), np.zeros((n, 2))
        for frame, weight in zip(work, weights, strict=True):
            offsets = frame.offsets(frame.linear)
            root = np.sqrt(weight)[:, None]
            own, _ = np.linalg.qr(root * frame.base)
            terms, residual = root * _terms(offsets, order, _reach(frame)), root * (frame.target - offsets)
            terms -= own @ (own.T @ terms)
            residual -= own @ (own.T @ residual)
            matrix += terms.T @ terms
            side += terms.T @ residual
        coefficients = np.linalg.pinv(matrix, rcond=1e-12, hermitian=True) @ side
    for frame, weight in zip(work, weights, strict=True):
        miss = frame.target - _predicted(frame, frame.linear, coefficients, order)
        frame.linear = frame.linear + weighted_fit(frame.base, miss, weight)[0]
    return coefficients


def fit_with_distortion(pairs: Pairs, distortion: DistortionMap) -> PolynomialFit:
    """Plate solution of one frame with a known distortion: only its linear terms are fitted.

    Parameters
    ----------
    pairs : Pairs
        Stars of the frame, four or more.
    distortion : DistortionMap
        Of the same optics and frame size.

    Returns
    -------
    PolynomialFit
        The solution, of the order of the distortion, with residuals and leave-one-out residuals (pixel).
    """
    frame, order = _Frame.of(pairs), distortion.order
    coefficients = np.array([distortion.coeff_x, distortion.coeff_y]).T.reshape(-1, 2)
    leverage = np.zeros(len(pairs.x))
    for _ in range(ROUNDS):
        miss = frame.target - _predicted(frame, frame.linear, coefficients, order)
        frame.robust = pair_weights(miss, LINEAR)
        correction, leverage = weighted_fit(frame.base, miss, pairs.weight * frame.robust)
        frame.linear = frame.linear + correction
    residual = frame.target - _predicted(frame, frame.linear, coefficients, order)
    loo = residual / (1.0 - np.minimum(leverage, 0.999))[:, None]
    return PolynomialFit(_composed(frame, coefficients, order), residual[:, 0], residual[:, 1], loo[:, 0], loo[:, 1])


def distortion_change(one: DistortionMap, other: DistortionMap) -> float:
    """By how much positions differ between two distortions of the same optics: what a frame's own linear terms take up left aside.

    Parameters
    ----------
    one, other : DistortionMap
        Of frames of one size.

    Returns
    -------
    float
        The largest difference (pixel) on the frame; infinite for frames of another size.
    """
    if (one.nx, one.ny) != (other.nx, other.ny):
        return float("inf")
    reach = 0.5 * float(np.hypot(one.nx, one.ny))
    node = np.linspace(-0.5, 0.5, _NODES)
    offsets = np.column_stack([value.ravel() for value in np.meshgrid(node * one.nx, node * one.ny)])
    moved = np.zeros_like(offsets)
    for distortion, sign in ((one, 1.0), (other, -1.0)):
        if distortion.order > 1:
            moved += sign * _terms(offsets, distortion.order, reach) @ np.array([distortion.coeff_x, distortion.coeff_y]).T
    linear = design_matrix(offsets[:, 0] / reach, offsets[:, 1] / reach, 1)
    left = moved - linear @ np.linalg.lstsq(linear, moved, rcond=None)[0]
    return float(np.hypot(left[:, 0], left[:, 1]).max())


def distortion_of(solution: PlateSolution) -> DistortionMap:
    """Distortion that a plate solution holds: what is left of it about the middle of its frame when its linear terms there are taken off.

    Parameters
    ----------
    solution : PlateSolution
        Of any order.

    Returns
    -------
    DistortionMap
        Of the same order, for other frames of the same optics and size; `n_frame` 1, `n_pair` 0, `rms_x` and `rms_y` 0.
    """
    size, order = solution, solution.order
    middle = np.array([(size.nx - 1) / 2.0, (size.ny - 1) / 2.0])
    reach = 0.5 * float(np.hypot(size.nx, size.ny))
    xi0, eta0 = gnomonic(*solution.centre, solution.ra0, solution.dec0)
    slope = solution.jacobian(float(xi0), float(eta0))
    node = reach * np.cos(np.pi * (np.arange(2 * order + 3) + 0.5) / (2 * order + 3))
    offsets = np.column_stack([value.ravel() for value in np.meshgrid(node, node)])
    standard = np.linalg.solve(slope, offsets.T) + np.array([[float(xi0)], [float(eta0)]])
    values = design_matrix(standard[0], standard[1], order) @ np.array([solution.coeff_x, solution.coeff_y]).T - middle - offsets
    terms = design_matrix(offsets[:, 0] / reach, offsets[:, 1] / reach, order)
    found = np.linalg.lstsq(terms, values, rcond=None)[0][LINEAR:]
    return DistortionMap(order, _floats(found[:, 0]), _floats(found[:, 1]), size.nx, size.ny, 1, 0, 0.0, 0.0)


def _floats(values: FloatArray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _composed(frame: _Frame, coefficients: FloatArray, order: int) -> PlateSolution:
    """Linear terms and distortion as one polynomial of the standard coordinates: of the same degree, so it is exact."""
    size = frame.pairs.solution
    node = np.cos(np.pi * (np.arange(2 * order + 3) + 0.5) / (2 * order + 3))
    xi, eta = (value.ravel() for value in np.meshgrid(node, node))
    offsets = np.einsum("ni,ik->nk", design_matrix(xi, eta, 1), frame.linear)
    values = offsets + _terms(offsets, order, _reach(frame)) @ coefficients + [(size.nx - 1) / 2.0, (size.ny - 1) / 2.0]
    found, *_ = np.linalg.lstsq(design_matrix(xi, eta, order), values, rcond=None)
    scaled = found * np.array([frame.degree ** -(i + j) for i, j in exponents(order)])[:, None]
    return PlateSolution(*frame.tangent, order, _floats(scaled[:, 0]), _floats(scaled[:, 1]), size.nx, size.ny)
