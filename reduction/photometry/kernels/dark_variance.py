"""Variance of a frame's pixels as it would be without its stars."""

from __future__ import annotations

import numpy as np
from numba import njit

from reduction.kernels.arrays import BoolArray, Float32Array

__all__ = ["LEAST_VARIANCE", "dark_variance"]

#: Least variance of a pixel, as part of the frame's typical one: no pixel is known without error.
LEAST_VARIANCE = 0.1
#: Variances of a pixel within which the square of its distance from the mean about it may be, for that mean to be its light.
_NEAR = 9.0
#: Pixels that tell the typical variance, evenly over the frame.
_SAMPLE = 2**18


def dark_variance(
    image: Float32Array, variance: Float32Array, sky: Float32Array, known: BoolArray, good: BoolArray, *, gain: float, noise: float
) -> Float32Array:
    """Variance of pixels less the photon noise of stars, on the level of the measured noise of the sky.

    Parameters
    ----------
    image, variance : float32, shape (ny, nx)
        Calibrated pixels with their sky (ADU), and their variance (ADU^2).
    sky : float32, shape (ny, nx)
        Background of each pixel (ADU).
    known : bool, shape (ny, nx)
        Pixels that tell the light about them: those that are finite, and neither hot nor dead.
    good : bool, shape (ny, nx)
        Pixels that tell the frame's typical variance.
    gain : float
        Electron per ADU.
    noise : float
        Standard deviation of a sky pixel (ADU), measured; where it is 0 or NaN the typical variance is the level.

    Returns
    -------
    float32, shape (ny, nx)
        ADU^2, at least a tenth of the sky's; NaN where image, variance or sky is.

    Notes
    -----
    What is taken off is the light that `reduction.calibration.kernels.calibration` put in: the mean of 3x3 pixels where the pixel agrees
    with it, and none where it is negative. The pixel's own value would leave pixels that came out high by chance with too little
    variance, and a fit with too much light. Taken off is what is above the sky, of which the same is true: a mistaken zero level cancels.

    The typical variance is then put at the level of the measured noise: what is above it is noise of its own kind (the flat's beneath a
    star, a hot pixel's) and is added, what is below it is so by a part.
    """
    dark = np.empty(image.shape, np.float32)
    # An odd step, so that a sample is not of the same few columns.
    sample = slice(None, None, max(good.size // _SAMPLE, 1) | 1)
    told = good.ravel()[sample]
    light, beneath, whole = (plane.ravel()[sample][told] for plane in (image, sky, variance))
    first = float(np.median(whole - (np.maximum(light, 0.0) - np.maximum(beneath, 0.0)) / gain)) if told.any() else 1.0
    _without_stars(image, variance, sky, known, 1.0 / gain, first, dark)
    typical = float(np.median(dark.ravel()[sample][told])) if told.any() else 1.0
    level = noise**2 if noise > 0.0 else typical
    _put_at(dark, typical, level)
    return dark


@njit(cache=True)
def _put_at(dark: Float32Array, typical: float, level: float) -> None:
    ratio = level / typical if typical > 0.0 else 1.0
    least = LEAST_VARIANCE * level
    for iy in range(dark.shape[0]):
        for ix in range(dark.shape[1]):
            value = np.float64(dark[iy, ix])
            if typical > 0.0:
                value = value * ratio if value < typical else level + value - typical
            dark[iy, ix] = np.maximum(value, least)  # keeps NaN


@njit(cache=True)
def _without_stars(
    image: Float32Array, variance: Float32Array, sky: Float32Array, known: BoolArray, inverse_gain: float, typical: float, out: Float32Array
) -> None:
    """Variances less the photon noise of what is above the sky; `typical`, about what they should be (ADU^2)."""
    ny, nx = image.shape
    # Sums and numbers of three rows, column after column.
    total, count = np.zeros(nx + 2), np.zeros(nx + 2)
    for iy in range(ny):
        total[:], count[:] = 0.0, 0.0
        for row in range(max(iy - 1, 0), min(iy + 2, ny)):
            for ix in range(nx):
                if known[row, ix]:
                    total[ix + 1] += image[row, ix]
                    count[ix + 1] += 1.0
        for ix in range(nx):
            light = np.float64(image[iy, ix])
            below = max(np.float64(sky[iy, ix]), 0.0)
            around = count[ix] + count[ix + 1] + count[ix + 2]
            if around > 0.0:
                mean = max((total[ix] + total[ix + 1] + total[ix + 2]) / around, 0.0)
                square = (light - mean) ** 2
                by_mean = variance[iy, ix] - (mean - below) * inverse_gain
                by_own = variance[iy, ix] - (max(light, 0.0) - below) * inverse_gain
                # With the own light in it, the variance would have to be this with the mean's: both may be true.
                other = variance[iy, ix] + by_own - by_mean
                if square <= _NEAR * variance[iy, ix] and (square <= _NEAR * other or abs(by_mean - typical) <= abs(by_own - typical)):
                    light = mean
            # A mean of pixels beside one without a value must not give it one.
            above = max(light, 0.0) - below + 0.0 * image[iy, ix]
            out[iy, ix] = variance[iy, ix] - above * inverse_gain
