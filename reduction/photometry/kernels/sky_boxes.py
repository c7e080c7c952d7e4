"""Level and noise of the sky in boxes: softly clipped means that integers do not bias.

The mean is used and never the median or a mode: on integer data whose noise is
about 1 ADU those are off by tenths of an ADU, which an aperture multiplies by
its area.  For the same reason the clipping has no sharp border: a hard cut at a
fixed distance from the mean lets one more integer in on one side than on the
other.  The weight falls from one to zero over one standard deviation about the
clipping distance, which is symmetric for any position of the mean between two
integers.  Where the noise is a fraction of the step between integers, the
neighbouring integers are all the noise there is: the distance is never so small
that they lose weight.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from reduction.kernels.compiled import scatter_about

__all__ = ["LEAST_UNIT", "MIN_PIXELS", "clip_factors", "measure_boxes", "soft_clipped_mean"]

#: Fewest sky pixels of a box that is used.
MIN_PIXELS = 12
_ITERATIONS = 12
_SAMPLE = 256
#: Least unit of the clipping distance, steps of the data: the weight of integers whose noise is a fraction of their step falls from
#: two steps on. Worst case over noises from 0.3 steps and all levels: 0.005 standard deviations; with 0.6, 0.008.
LEAST_UNIT = 0.8
#: Ratios of that unit to the noise for which the factors are tabulated: from 1 in steps of a tenth.
_RATIO_STEP = 0.1
_N_RATIO = 31


def clip_factors(clip: float) -> NDArray[np.float64]:
    """What soft clipping does to Gaussian noise.

    Parameters
    ----------
    clip : float
        Clipping distance in its unit, which is the standard deviation or larger.

    Returns
    -------
    float64, shape (31, 2)
        For units of 1, 1.1 ... 4 standard deviations: the part of the variance that is kept, and the growth of the variance of
        the mean.  The second is the asymptotic variance of an M-estimator of location (Huber 1981, section 3.2).
    """
    rows = []
    for ratio in 1.0 + _RATIO_STEP * np.arange(_N_RATIO):
        end = min((clip + 0.5) * ratio, 9.0)
        z = np.linspace(-end, end, 4001)
        density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
        weight = np.clip(clip + 0.5 - np.abs(z) / ratio, 0, 1)
        kept, second = np.trapezoid(weight * density, z), np.trapezoid(weight * z**2 * density, z)
        rows.append((second / kept, kept * np.trapezoid((weight * z) ** 2 * density, z) / second**2))
    return np.array(rows)


@njit(cache=True)
def _factor(factors: NDArray[np.float64], unit: float, sigma: float, column: int) -> float:
    """A factor of `clip_factors` for a unit of the clipping distance and a noise."""
    if not unit < 1e3 * sigma:
        return float(factors[-1, column])
    position = max(unit / sigma - 1.0, 0.0) / _RATIO_STEP
    k = min(int(position), _N_RATIO - 2)
    part = min(position - k, 1.0)
    return float((1.0 - part) * factors[k, column] + part * factors[k + 1, column])


@njit(cache=True)
def _start(values: NDArray[np.float32], n: int) -> tuple[float, float]:
    """Median and scaled median absolute deviation of a sample of the first n values."""
    step = max(n // _SAMPLE, 1)
    sample = values[:n:step].copy()
    centre = float(np.median(sample))
    return centre, scatter_about(sample, centre)


# Only the order of the sums is free: values are finite here.
@njit(cache=True, fastmath={"reassoc", "contract", "nsz"}, forceinline=True)
def _weighted_sums(values: NDArray[np.float32], n: int, centre: float, inverse: float, limit: float) -> tuple[float, float, float]:
    """Sums of the weights, and of the first and second moments about the centre."""
    w_sum, first, second = 0.0, 0.0, 0.0
    for i in range(n):
        d = values[i] - centre
        w = min(max(limit - abs(d) * inverse, 0.0), 1.0)
        w_sum += w
        first += w * d
        second += w * d * d
    return w_sum, first, second


@njit(cache=True)
def soft_clipped_mean(
    values: NDArray[np.float32], n: int, noise: float, clip: float, quantum: float, factors: NDArray[np.float64]
) -> tuple[float, float, float]:
    """Mean of values, softly clipped about it.

    Parameters
    ----------
    values : float32, shape (m,)
        Values of which the first n count, ADU; finite.
    n : int
        At least one.
    noise : float
        Least standard deviation to start from, ADU.
    clip : float
        Clipping distance, standard deviations of the values.
    quantum : float
        Step of the data, ADU; 0 for data that are continuous.
    factors : float64, shape (31, 2)
        Of `clip_factors(clip)`.

    Returns
    -------
    mean, sigma, variance : float
        Mean and standard deviation of the values, corrected for its clipping, ADU; variance of the mean, ADU**2.
    """
    centre, sigma = _start(values, n)
    sigma = max(sigma, noise)
    least = LEAST_UNIT * quantum
    weight_sum, growth = float(n), 1.0
    for _ in range(_ITERATIONS):
        unit = max(sigma, least)
        w_sum, first, second = _weighted_sums(values, n, centre, 1.0 / unit if unit > 0.0 else 0.0, clip + 0.5)
        if w_sum < 2.0:
            break
        shift = first / w_sum
        kept = _factor(factors, unit, sigma, 0)
        spread = math.sqrt(max(second / w_sum - shift * shift, 0.0) / kept)
        # Each step leaves a few per cent of the last: far below the error of the mean.
        settled = abs(shift) <= 1e-3 * unit and abs(spread - sigma) <= 1e-2 * unit
        centre += shift
        growth = _factor(factors, unit, sigma, 1)
        sigma, weight_sum = spread, w_sum
        if settled or spread == 0.0:
            break
    return centre, sigma, growth * sigma * sigma / weight_sum


@njit(cache=True)
def _box_noise(variance: NDArray[np.float32], excluded: NDArray[np.bool_], y0: int, x0: int, box: int) -> float:
    """Root of the mean variance of the sky pixels in every eighth row of a box; 0 when there is none."""
    ny, nx = variance.shape
    total, n = 0.0, 0
    for iy in range(y0, min(y0 + box, ny), 8):
        for ix in range(x0, min(x0 + box, nx)):
            if not excluded[iy, ix] and 0.0 < variance[iy, ix] < np.inf:
                total += variance[iy, ix]
                n += 1
    return math.sqrt(total / n) if n > 0 else 0.0


@njit(cache=True)
def measure_boxes(
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    excluded: NDArray[np.bool_],
    box: int,
    clip: float,
    quantum: float,
    factors: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Sky of each box of an image.

    Parameters
    ----------
    data, variance : float32, shape (ny, nx)
        Image, ADU, and the variance of its pixels, ADU**2, which only starts the clipping and guards its scatter.
    excluded : bool, shape (ny, nx)
        Pixels not to use; those that are not finite are left out as well.
    box : int
        Side of the boxes, pixel.
    clip, quantum, factors
        As `soft_clipped_mean` takes them.

    Returns
    -------
    float64, shape (by, bx, 6)
        Mean x and y of the sky pixels, their mean, its variance, their number and their standard deviation; all 0 with
        fewer than 12 sky pixels.
    """
    ny, nx = data.shape
    by, bx = (ny + box - 1) // box, (nx + box - 1) // box
    grid = np.zeros((by, bx, 6))
    values = np.empty(box * box, np.float32)
    for j in range(by):
        for i in range(bx):
            n, sum_x, sum_y = 0, 0, 0
            for iy in range(j * box, min((j + 1) * box, ny)):
                before = n
                for ix in range(i * box, min((i + 1) * box, nx)):
                    # Without a branch: what is not sky is overwritten by the next value.
                    value = data[iy, ix]
                    sky = int(not excluded[iy, ix]) & int(value - value == 0.0)
                    values[n] = value
                    n += sky
                    sum_x += ix * sky
                sum_y += iy * (n - before)
            if n < MIN_PIXELS:
                continue
            pixel_noise = _box_noise(variance, excluded, j * box, i * box, box)
            mean, sigma, of_mean = soft_clipped_mean(values, n, pixel_noise, clip, quantum, factors)
            # The variance plane guards against a scatter that is small by chance, the last terms against none at all.
            least = max(0.5 * pixel_noise, 1e-6 * abs(mean), 1e-12)
            grid[j, i] = np.array([sum_x / n, sum_y / n, mean, max(of_mean, least * least / n), float(n), sigma])
    return grid
