"""Smooth map of the shapes of stars over a frame.

A star's shape is the elliptical Gaussian exp(-[s (x^2 + y^2) + d (x^2 - y^2) + 2 k x y] / 2) of the HAT surveys (Pal
2009, PhD thesis, section 2.4). What is fitted by polynomials is the logarithm of its matrix ((s + d, k), (k, s - d)), which
may take any value, so that no map, however steep, holds an unphysical shape (Arsigny et al. 2006, Magn. Reson. Med. 56, 411).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from db.errors import AlgorithmFailed
from reduction.kernels.platefit import robust_scatter
from reduction.kernels.wcs import design_matrix, exponents

__all__ = ["Shape", "ShapeMap", "fit_shape_map", "shape_axes"]

FloatArray: TypeAlias = npt.NDArray[np.float64]

FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
STARS_PER_TERM = 5
FLOOR = 0.01  # of the logarithms: what keeps a star of endless S/N from being the only one to count
TUKEY = 6.0  # sigma; stars beyond have no say
ITERATIONS = 20
ORDER_GAIN = 2.0  # over the number of stars: by so much a further term must lower the squared left-out residuals
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


def shape_axes(s: npt.ArrayLike, d: npt.ArrayLike, k: npt.ArrayLike) -> Shape:
    """FWHM, ellipticity and angle of shapes.

    Parameters
    ----------
    s, d, k : array_like
        1/pixel^2, as in `Shape`. An unphysical shape (s <= hypot(d, k)) or NaN gives NaN.
    """
    return _shape(*_logarithm(*(np.asarray(value, dtype=np.float64) for value in (s, d, k))))


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
class ShapeMap:
    """Smooth map of star shapes over one frame.

    Attributes
    ----------
    nx, ny : int
        Size of the frame (pixel).
    order : int
        Total degree in x and y, each scaled to run from -1 to 1 between the outermost pixel centres.
    mag_order, colour_order : int
        Highest powers of magnitude (0 to 2) and colour (0 or 1), which follow the terms of position in the coefficients.
    mag_range, colour_range : (float, float)
        Values (mag) scaled to -1 and 1; beyond them the map does not change.
    coeff_p, coeff_q, coeff_r : tuple of float
        Coefficients of the matrix logarithm ((p + q, r), (r, p - q)) of the shape in 1/pixel^2.
    rms_s, rms_d, rms_k : float
        1.48 MAD of the stars' shapes about the map fitted without each (1/pixel^2).
    rms_fwhm, rms_ellipticity : float
        The same of their FWHM (pixel) and, as sqrt((dq^2 + dr^2) / 2), of an axis of their ellipticity.
    err_fwhm, err_ellipticity : float
        Statistical error of the map itself, at a typical star (pixel; an axis of the ellipticity).
    n_star : int
        Stars that had a say in the map.
    """

    nx: int
    ny: int
    order: int
    mag_order: int
    colour_order: int
    mag_range: tuple[float, float]
    colour_range: tuple[float, float]
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
        position, *stars = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in (x, y, mag, colour)))
        matrix = _terms(self, position, *stars)
        p, q, r = (np.einsum("...i,i->...", matrix, np.array(coeff)) for coeff in (self.coeff_p, self.coeff_q, self.coeff_r))
        return _shape(p, q, r)

    def to_row(self) -> dict[str, Any]:
        """Plain values, fit for JSON and for columns."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> ShapeMap:
        """The inverse of `to_row`; other keys of `row` are ignored."""
        values = {name: row[name] for name in cls.__dataclass_fields__}
        return cls(**{name: tuple(value) if isinstance(value, list | tuple) else value for name, value in values.items()})
