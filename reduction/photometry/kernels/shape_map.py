"""Smooth map of the shapes of stars over a frame.

A star's shape is the elliptical Gaussian exp(-[s (x^2 + y^2) + d (x^2 - y^2) + 2 k x y] / 2) of the HAT surveys (Pal
2009, PhD thesis, section 2.4). What is fitted by polynomials is the logarithm of its matrix ((s + d, k), (k, s - d)), which
may take any value, so that no map, however steep, holds an unphysical shape (Arsigny et al. 2006, Magn. Reson. Med. 56, 411).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from db.errors import AlgorithmFailed
from reduction.astrometry.kernels.wcs import design_matrix, exponents
from reduction.kernels.arrays import FloatArray
from reduction.kernels.robust import biweight, robust_scatter, spare_freedom

__all__ = ["Shape", "ShapeMap", "fit_shape_map"]


FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
STARS_PER_TERM = 5
FLOOR = 0.003  # of the logarithms: smallest scatter of stars of endless S/N about a smooth map
START_FLOOR = 0.01  # the same before it is known
NOISE = 2.0  # over the S/N: a shape's error of the logarithms by the noise
BRIGHT = 75.0  # percentile of S/N from which stars show how far shapes scatter for other reasons
TUKEY = 4.0  # sigma, root mean square of the three components; stars beyond have no say
ITERATIONS = 20
ORDER_GAIN = 2.0  # over the number of stars: by so much of their median a further term must lower the mean squared left-out residuals
SIZE, ELLIPTICITY, BOTH = slice(0, 1), slice(1, 3), slice(0, 3)  # of the components p, q, r
SPREAD = (1.0, 99.0)  # percentiles of magnitude and colour between which the map follows them


class Shape(NamedTuple):
    """Shapes of n stars: arrays of equal shape.

    `s`, `d`, `k` in 1/pixel^2; `fwhm` (pixel), the geometric mean of the axes; `ellipticity` 1 - b/a; `theta` the angle
    from +x to the major axis, towards +y (rad, -pi/2 to pi/2).
    """

    s: FloatArray
    d: FloatArray
    k: FloatArray
    fwhm: FloatArray
    ellipticity: FloatArray
    theta: FloatArray


def _logarithm(s: FloatArray, d: FloatArray, k: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Matrix logarithm ((p + q, r), (r, p - q)); NaN where there is none."""
    stretch = np.hypot(d, k)
    with np.errstate(all="ignore"):
        p = 0.5 * np.log(np.where(s > stretch, (s - stretch) * (s + stretch), np.nan))
        # the limit of atanh(stretch / s) / stretch is 1 / s
        gain = np.where(stretch > 0.0, np.arctanh(stretch / s) / stretch, 1.0 / s)
    return p, np.where(np.isnan(p), np.nan, d * gain), np.where(np.isnan(p), np.nan, k * gain)


def _shape(p: FloatArray, q: FloatArray, r: FloatArray) -> Shape:
    eta = np.hypot(q, r)
    gain = np.exp(p) * np.where(eta > 0.0, np.sinh(eta) / np.where(eta > 0.0, eta, 1.0), 1.0)
    fwhm = FWHM_PER_SIGMA * np.exp(-0.5 * p)
    return Shape(np.exp(p) * np.cosh(eta), gain * q, gain * r, fwhm, -np.expm1(-eta), 0.5 * np.arctan2(-r, -q))


@dataclass(frozen=True)
class _Basis:
    nx: int
    ny: int
    order: int
    ellipticity_order: int
    mag_order: int
    colour_order: int
    mag_range: tuple[float, float]
    colour_range: tuple[float, float]

    @property
    def n_term(self) -> int:
        return len(exponents(max(self.order, self.ellipticity_order))) + self.mag_order + self.colour_order

    def used(self, order: int) -> npt.NDArray[np.bool_]:
        """Which of the terms a polynomial of this degree in x and y has."""
        degree = [i + j for i, j in exponents(max(self.order, self.ellipticity_order))]
        return np.array(degree + [0] * (self.mag_order + self.colour_order)) <= order

    def terms(self, x: FloatArray, y: FloatArray, mag: FloatArray, colour: FloatArray) -> FloatArray:
        """Value of every term for stars, shape (..., n_term)."""
        # frames one pixel wide have no middle to scale from
        u = np.clip(2.0 * x / max(self.nx - 1, 1) - 1.0, -1.0, 1.0)
        v = np.clip(2.0 * y / max(self.ny - 1, 1) - 1.0, -1.0, 1.0)
        columns = [design_matrix(u, v, max(self.order, self.ellipticity_order))]
        for value, (low, high), order in ((mag, self.mag_range, self.mag_order), (colour, self.colour_range, self.colour_order)):
            if order:
                scaled = np.nan_to_num(np.clip(2.0 * (value - low) / (high - low) - 1.0, -1.0, 1.0))
                columns.append(np.stack([scaled**power for power in range(1, order + 1)], axis=-1))
        return np.concatenate(columns, axis=-1)


@dataclass(frozen=True)
class ShapeMap(_Basis):
    """Smooth map of star shapes over one frame.

    Attributes
    ----------
    nx, ny : int
        Size of the frame (pixel).
    order, ellipticity_order : int
        Total degrees of p and of q, r in x and y, each scaled to run from -1 to 1 between the outermost pixel centres.
    mag_order, colour_order : int
        Highest powers of magnitude (0 to 2) and colour (0 or 1).
    mag_range, colour_range : (float, float)
        Values (mag) scaled to -1 and 1; beyond them the map does not change.
    coeff_p, coeff_q, coeff_r : tuple of float
        Coefficients of the matrix logarithm ((p + q, r), (r, p - q)) of the shape in 1/pixel^2: p is the size, q and r
        are the ellipticity. Terms of x, y in the order of `exponents`, then of magnitude, then of colour; 0 for those not used.
    rms_s, rms_d, rms_k : float
        1.48 MAD of the stars' shapes about the map fitted without each (1/pixel^2).
    rms_fwhm, rms_ellipticity : float
        The same of their FWHM (pixel) and, as the scatter of q and r, of an axis of their ellipticity.
    err_fwhm, err_ellipticity : float
        Statistical error of the map itself, at a typical star (pixel; an axis of the ellipticity).
    n_star : int
        Stars that had a say in the map.
    """

    coeff_p: tuple[float, ...]
    coeff_q: tuple[float, ...]
    coeff_r: tuple[float, ...]
    rms_s: float
    rms_d: float
    rms_k: float
    rms_fwhm: float
    rms_ellipticity: float
    err_fwhm: float
    err_ellipticity: float
    n_star: int

    def evaluate(self, x: npt.ArrayLike, y: npt.ArrayLike, mag: npt.ArrayLike = np.nan, colour: npt.ArrayLike = np.nan) -> Shape:
        """Shape of stars at `x`, `y` (pixel) of some `mag` and `colour`.

        Positions beyond the border are moved onto it, magnitudes and colours into the range of the
        stars fitted; an unknown magnitude or colour (NaN) counts as the middle of it. NaN positions
        give NaN. The result is physical always: s > hypot(d, k).
        """
        return _shape(*self.logarithm(x, y, mag, colour))

    def logarithm(
        self, x: npt.ArrayLike, y: npt.ArrayLike, mag: npt.ArrayLike = np.nan, colour: npt.ArrayLike = np.nan
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The components p, q, r that are mapped: of the matrix logarithm ((p + q, r), (r, p - q)); arguments as of `evaluate`."""
        stars = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in (x, y, mag, colour)))
        matrix = self.terms(*stars)
        p, q, r = (np.einsum("...i,i->...", matrix, np.array(coeff)) for coeff in (self.coeff_p, self.coeff_q, self.coeff_r))
        return p, q, r

    def to_row(self) -> dict[str, Any]:
        """Plain values, fit for JSON and for columns."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> ShapeMap:
        """The inverse of `to_row`; other keys of `row` are ignored."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value := row[name], list) else value for name in cls.__dataclass_fields__
        }
        return cls(**values)


def fit_shape_map(
    x: FloatArray,
    y: FloatArray,
    s: FloatArray,
    d: FloatArray,
    k: FloatArray,
    snr: FloatArray,
    *,
    size: tuple[int, int],
    mag: FloatArray | None = None,
    colour: FloatArray | None = None,
    max_order: int = 4,
) -> ShapeMap:
    """Fit the smooth map to the shapes of a frame's stars.

    Parameters
    ----------
    x, y : float64, shape (n,)
        Stars that are neither saturated nor blended nor cut by the edge (pixel). A few that are do no harm.
    s, d, k : float64, shape (n,)
        Their shapes (1/pixel^2). Unphysical ones and those with a NaN anywhere but in `mag` and `colour` are left out.
    snr : float64, shape (n,)
        Signal to noise of their fluxes, positive.
    size : (int, int)
        nx, ny of the frame.
    mag, colour : float64, shape (n,), optional
        Magnitude and colour (mag); NaN where unknown.
    max_order : int
        Highest total degree in x, y.

    Returns
    -------
    ShapeMap

    Raises
    ------
    AlgorithmFailed
        Fewer than five usable stars.

    Notes
    -----
    Iteratively reweighted least squares with Tukey's biweight on the three components together, order by order, so that
    outliers are known before the map can bend towards them. Weights are 1 / (floor^2 + (2 / snr)^2); the floor, of size and
    of ellipticity, is what the quarter of highest S/N scatters beyond that noise, for undersampling spares no star. The
    order, again of each, is the lowest that predicts left-out stars as well as any (leave-one-out from the hat matrix with the
    weights held: Cook & Weisberg 1982, Residuals and Influence in Regression, 2.2). Then magnitude, its square and colour
    are added, each if it, too, predicts them better. There are at least five stars for every term.
    """
    stars = _select(x, y, s, d, k, snr, mag, colour)
    if len(stars.weight) < STARS_PER_TERM:
        raise AlgorithmFailed(
            f"{len(stars.weight)} of {len(x)} stars have a usable shape, at least {STARS_PER_TERM} are needed for a shape map",
            hint="too few bright stars in the field, or hot pixels and cosmic rays spoil them; photometry does without",
            code="shape.few_stars",
        )
    fits = _orders(stars, size, max_order)
    stars = stars._replace(weight=_weight(stars.snr, _floors(fits[-1], stars)))
    fits = _orders(stars, size, max_order)
    chosen = replace(fits[-1].basis, order=_lowest(fits, stars, SIZE), ellipticity_order=_lowest(fits, stars, ELLIPTICITY))
    best = _fit(chosen, stars, fits[-1].robust)
    for name, step in (("mag", 1), ("mag", 2), ("colour", 1)):
        best = _extended(best, stars, name, step)
    return _shape_map(best, stars)


class _Stars(NamedTuple):
    """Usable stars: position, magnitude, colour, S/N, logarithms (n, 3) and their prior weights 1/variance (n, 3)."""

    x: FloatArray
    y: FloatArray
    mag: FloatArray
    colour: FloatArray
    snr: FloatArray
    target: FloatArray
    weight: FloatArray


class _Fit(NamedTuple):
    """Coefficients (n_term, 3), left-out residuals (n, 3), weights by the residuals (n,), and the map's variance (n, 3) for unit weight."""

    basis: _Basis
    coefficients: FloatArray
    loo: FloatArray
    robust: FloatArray
    spread: FloatArray


def _select(
    x: FloatArray,
    y: FloatArray,
    s: FloatArray,
    d: FloatArray,
    k: FloatArray,
    snr: FloatArray,
    mag: FloatArray | None,
    colour: FloatArray | None,
) -> _Stars:
    target = np.column_stack(_logarithm(s, d, k))
    use = np.isfinite(target).all(axis=1) & np.isfinite(x) & np.isfinite(y) & (snr > 0.0)
    unknown = np.full(len(x), np.nan)
    magnitude, index = unknown if mag is None else mag, unknown if colour is None else colour
    return _Stars(x[use], y[use], magnitude[use], index[use], snr[use], target[use], _weight(snr[use], np.full(3, START_FLOOR)))


def _weight(snr: FloatArray, floor: FloatArray) -> FloatArray:
    return np.asarray(1.0 / (floor**2 + (NOISE / snr[:, None]) ** 2), dtype=np.float64)


def _floors(fit: _Fit, stars: _Stars) -> FloatArray:
    """Scatter of the brightest stars about a fit beyond what the noise explains, of p, q, r."""
    bright = stars.snr >= np.percentile(stars.snr, BRIGHT)
    scatter = _part_scatter(fit.loo[bright])
    excess = scatter**2 - float(np.median(NOISE / stars.snr[bright])) ** 2
    return np.asarray(np.sqrt(np.maximum(excess, FLOOR**2)), dtype=np.float64)


def _part_scatter(residual: FloatArray) -> FloatArray:
    """1.48 MAD of residuals (n, 3) of p, q, r: one of the size, one of both axes of the ellipticity."""
    size, axis = (robust_scatter(residual[:, part].ravel()) for part in (SIZE, ELLIPTICITY))
    return np.array([size, axis, axis])


def _range(value: FloatArray) -> tuple[float, float]:
    known = value[np.isfinite(value)]
    low, high = np.percentile(known, SPREAD) if known.size else (0.0, 0.0)
    return float(low), float(high)


def _orders(stars: _Stars, size: tuple[int, int], max_order: int) -> list[_Fit]:
    """Fits of order 0, 1, ... in x and y, as far as the stars allow."""
    basis = _Basis(*size, 0, 0, 0, 0, _range(stars.mag), _range(stars.colour))
    robust = _star_weights((stars.target - np.median(stars.target, axis=0)) * np.sqrt(stars.weight), 1)
    fits = [_fit(basis, stars, robust)]
    for order in range(1, max_order + 1):
        larger = replace(basis, order=order, ellipticity_order=order)
        if len(stars.weight) >= STARS_PER_TERM * larger.n_term:
            fits.append(_fit(larger, stars, fits[-1].robust))
    return fits


def _fit(basis: _Basis, stars: _Stars, robust: FloatArray) -> _Fit:
    matrix = basis.terms(stars.x, stars.y, stars.mag, stars.colour)
    coefficients, residual, spread = (np.zeros((n, 3)) for n in (basis.n_term, len(matrix), len(matrix)))
    for _ in range(ITERATIONS):
        for part, order in ((SIZE, basis.order), (ELLIPTICITY, basis.ellipticity_order)):
            used = basis.used(order)
            coefficients[used, part], spread[:, part] = _weighted(
                matrix[:, used], stars.target[:, part], stars.weight[:, part.start] * robust
            )
        residual = stars.target - np.einsum("ni,ik->nk", matrix, coefficients)
        updated = _star_weights(residual * np.sqrt(stars.weight), basis.n_term)
        settled = np.abs(updated - robust).max() < 1e-2
        robust = updated
        if settled:
            break
    leverage = np.minimum(spread * stars.weight * robust[:, None], 0.999)
    return _Fit(basis, coefficients, residual / (1.0 - leverage), robust, spread)


def _weighted(matrix: FloatArray, target: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weighted least squares: coefficients, and the variance (n, 1) of what they predict, for unit weight."""
    # einsum, not BLAS: matrices this thin gain nothing from its threads, which would fight those of other frames
    weighted = matrix * weight[:, None]
    inverse = np.linalg.pinv(np.einsum("ni,nj->ij", weighted, matrix), rcond=1e-12, hermitian=True)
    spread = np.einsum("ni,ni->n", np.einsum("ni,ij->nj", matrix, inverse), matrix)
    return inverse @ np.einsum("ni,nk->ik", weighted, target), spread[:, None]


def _star_weights(residual: FloatArray, n_term: int) -> FloatArray:
    """Weights (n,) of residuals (n, 3) in units of their errors."""
    sigma = np.maximum(_part_scatter(residual) / spare_freedom(len(residual), n_term), 1e-6)
    return biweight(np.mean((residual / sigma) ** 2, axis=1) / TUKEY**2)


def _scores(fits: list[_Fit], stars: _Stars, part: slice) -> tuple[list[float], float]:
    """Mean squared left-out residual of each fit in units of the errors, and by how much a better one must be smaller."""
    squares = [np.mean(stars.weight[:, part] * fit.loo[:, part] ** 2, axis=1) for fit in fits]
    typical = min(float(np.median(square)) for square in squares)
    # one cap for all: a blend is as far off under each
    return [float(np.mean(np.minimum(square, TUKEY**2 * typical))) for square in squares], ORDER_GAIN * typical / len(stars.weight)


def _lowest(fits: list[_Fit], stars: _Stars, part: slice) -> int:
    scores, gain = _scores(fits, stars, part)
    return next(order for order, score in enumerate(scores) if score <= min(scores) + gain)


def _extended(fit: _Fit, stars: _Stars, name: str, order: int) -> _Fit:
    """The fit with a further power of magnitude or colour, if it predicts left-out stars better."""
    low, high = fit.basis.mag_range if name == "mag" else fit.basis.colour_range
    known = np.count_nonzero(np.isfinite(stars.mag if name == "mag" else stars.colour))
    at_present = fit.basis.mag_order if name == "mag" else fit.basis.colour_order
    basis = replace(fit.basis, mag_order=order) if name == "mag" else replace(fit.basis, colour_order=order)
    if at_present != order - 1 or not high > low or known < STARS_PER_TERM * basis.n_term:
        return fit
    larger = _fit(basis, stars, fit.robust)
    (before, after), gain = _scores([fit, larger], stars, BOTH)
    return larger if after < before - gain else fit


def _shape_map(fit: _Fit, stars: _Stars) -> ShapeMap:
    seen, left_out = _shape(*stars.target.T), _shape(*(stars.target - fit.loo).T)
    basis: dict[str, Any] = vars(fit.basis)
    unit = _part_scatter(fit.loo * np.sqrt(stars.weight))
    # scatter of a star of unit weight, times the map's error for such stars
    err_size, err_axis = np.sqrt(np.median(fit.spread[:, :2], axis=0))
    return ShapeMap(
        **basis,
        coeff_p=tuple(map(float, fit.coefficients[:, 0])),
        coeff_q=tuple(map(float, fit.coefficients[:, 1])),
        coeff_r=tuple(map(float, fit.coefficients[:, 2])),
        rms_s=robust_scatter(seen.s - left_out.s),
        rms_d=robust_scatter(seen.d - left_out.d),
        rms_k=robust_scatter(seen.k - left_out.k),
        rms_fwhm=robust_scatter(seen.fwhm - left_out.fwhm),
        rms_ellipticity=robust_scatter(fit.loo[:, ELLIPTICITY].ravel()),
        err_fwhm=float(0.5 * np.median(left_out.fwhm)) * float(unit[0] * err_size),
        err_ellipticity=float(unit[1] * err_axis),
        n_star=int(np.count_nonzero(fit.robust > 0.0)),
    )
