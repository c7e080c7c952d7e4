"""Scatter and weights that a few wild values do not spoil.

Means that are clipped stay where they are used: the stack's over images, the background's with a soft edge, the frame statistics' that
stops early, each on data of its own and with its own start, limit and end.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from reduction.kernels.arrays import Float32Array, FloatArray

__all__ = ["GAUSSIAN_MAD", "MAD_TO_SIGMA", "biweight", "mad_scatter", "robust_scatter", "scatter_about", "spare_freedom"]

MAD_TO_SIGMA = 1.4826
"""Standard deviation of a Gaussian over its median absolute deviation, as the field rounds it."""
GAUSSIAN_MAD = 1.482602218505602
"""The same in full: what is kept as evidence of frame types was measured with it."""


def scatter_about(values: FloatArray | Float32Array, centre: float, factor: float = MAD_TO_SIGMA) -> float:
    """Scatter of a Gaussian by the median absolute deviation from a given centre.

    Parameters
    ----------
    values : float64 or float32, shape (n,)
        At least one; float32 values are subtracted in float32, in compiled code in float64.
    centre : float
        In the unit of the values.
    factor : float
        Standard deviation over median absolute deviation.

    Returns
    -------
    float
        In the unit of the values; NaN with a NaN among them.
    """
    # Plain enough that `compiled` can compile it as it stands.
    return factor * float(np.median(np.abs(values - centre)))


def mad_scatter(values: FloatArray, factor: float = MAD_TO_SIGMA) -> float:
    """Scatter of a Gaussian by the median absolute deviation from the median.

    Parameters
    ----------
    values : float64, shape (n,)
        At least one.
    factor : float
        Standard deviation over median absolute deviation.

    Returns
    -------
    float
        In the unit of the values; NaN with a NaN among them.
    """
    return scatter_about(values, float(np.median(values)), factor)


def robust_scatter(values: ArrayLike) -> float:
    """1.4826 times the median of the absolute values, about zero.

    Parameters
    ----------
    values : float64, any shape
        Residuals.

    Returns
    -------
    float
        In the unit of the values; NaN of nothing.
    """
    array = np.asarray(values, dtype=np.float64)
    return scatter_about(array, 0.0) if array.size else float("nan")


def biweight(square: FloatArray) -> FloatArray:
    """Tukey's weights, (1 - u^2)^2 and 0 from |u| = 1 on.

    Parameters
    ----------
    square : float64, shape (n,)
        u^2: squared residuals over the squared limit.

    Returns
    -------
    float64, shape (n,)
        From 0 to 1; NaN where the square is NaN.
    """
    weight: FloatArray = np.maximum(1.0 - square, 0.0) ** 2
    return weight


def spare_freedom(n: int, n_term: int) -> float:
    """Residual of a fit over the error of a value, at least the root of a tenth.

    A fit through few values leaves residuals smaller than their errors.

    Parameters
    ----------
    n : int
        Values, at least one.
    n_term : int
        Terms fitted to them.

    Returns
    -------
    float
    """
    return float(np.sqrt(max(1.0 - n_term / n, 0.1)))
