"""Clipped mean of registered images, sound for three images as for a hundred.

A pixel's own scatter says little when there are three to five images, so its
variance is that of its image row (from pixel to pixel by a noise model), and
its own scatter counts where it is larger. Where a value or the scatter stands
out, the values about the median form a core, and every value is tested against
mean and scatter of the *others* of the core (the deleted residual; Cook &
Weisberg 1982, Residuals and Influence in Regression, 2.2). So an outlier hides
neither itself nor another, and the limit that a Gaussian passes at `sigma`
follows for any number of images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy import special

from db.flags import Mask
from reduction.kernels.arrays import BoolArray, Float32Array, FloatArray
from reduction.kernels.robust import MAD_TO_SIGMA

__all__ = ["MasterImage", "Stack", "clipped_mean", "outlier_images", "stack_bands"]

# Degrees of freedom that the row's typical scatter counts for beside the pixel's own.
_PRIOR_DOF = 8.0
# Half-width of the core about the median, in standard deviations: what is left out is only tested, not rejected.
_CORE = 3.0
# A pixel is looked at closely when its scatter is one of the largest hundredth, and has its own variance when beyond chance.
_DOUBTED, _NOISIER = 0.01, 0.0005
# Factors that make the scaled MAD of n Gaussian values unbiased for n = 0 ... 9 (Croux & Rousseeuw 1992, COMPSTAT 1, 411).
_MAD_FACTOR = np.array([1.0, 1.0, 1.196, 1.495, 1.363, 1.206, 1.200, 1.140, 1.129, 1.107])
# Bits of values that no mean takes, and of pixels that stay what they are.
_LEFT_OUT = int(Mask.NO_DATA | Mask.SATURATED | Mask.COSMIC | Mask.BLEED | Mask.NEIGHBOUR)
_CARRIED = int(Mask.HOT | Mask.DEAD)


@dataclass(frozen=True)
class Stack:
    """Mean image with its error.

    Attributes
    ----------
    value : float32, shape (ny, nx)
        Mean of the values kept; 0 where there is none.
    variance : float32, shape (ny, nx)
        Variance of that mean, from the typical scatter of the row or, where that is larger beyond chance, of the pixel's own
        values; NaN where it is unknown; 0 where there is no value.
    count : int16, shape (ny, nx)
        Values kept.
    """

    value: Float32Array
    variance: Float32Array
    count: NDArray[np.int16]


@dataclass(frozen=True)
class MasterImage:
    """A master frame.

    Attributes
    ----------
    value : float32, shape (ny, nx)
        ADU (flats: relative response); 0 where the mask says NO_DATA.
    variance : float32, shape (ny, nx)
        Square of the value's error; 0 where the mask says NO_DATA.
    mask : uint8, shape (ny, nx)
        Bits of `db.flags.Mask`: NO_DATA where no image had a value, HOT and DEAD where any image had them.
    count : int16, shape (ny, nx)
        Images averaged in each pixel.
    """

    value: Float32Array
    variance: Float32Array
    mask: NDArray[np.uint8]
    count: NDArray[np.int16]


def _mad_factor(n: int) -> float:
    return float(_MAD_FACTOR[n]) if n < _MAD_FACTOR.size else n / (n - 0.8)


def _deleted_limit(sigma: float, dof: int) -> float:
    """Limit that a deleted residual of a Gaussian exceeds as often as sigma, in units of the scale that `_scale` gives.

    The scale is never below the row's, so it is that of the row times a factor whose distribution follows from chi-square.
    """
    tail = float(special.ndtr(-sigma))
    if dof < 1 or not tail > 1e-300:
        return sigma
    chi2 = 2.0 * special.gammaincinv(dof / 2.0, (np.arange(400) + 0.5) / 400)
    factor = np.sqrt(np.maximum(1.0, (_PRIOR_DOF + chi2) / (_PRIOR_DOF + dof)))
    low, high = 0.5 * sigma, sigma
    for _ in range(30):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if float(special.ndtr(-middle * factor).mean()) > tail else (low, middle)
    return high


@lru_cache(maxsize=64)
def _tables(n_image: int, sigma: float) -> tuple[FloatArray, ...]:
    """What depends on the number of values (0 to n_image) only.

    Squared limit of the deleted residual by the degrees of freedom of the others; MAD factors; limits of the scatter over the row's for a
    doubted and a noisier pixel; fraction of the row's pixels that its typical scatter is taken from, and what that leaves of the mean.
    """
    n = np.arange(n_image + 1)
    limits = np.array([_deleted_limit(sigma, int(k)) ** 2 for k in n])
    dof = np.maximum(n - 1, 1)
    doubted, noisier = (2.0 * special.gammaincinv(dof / 2.0, 1.0 - p) / dof for p in (_DOUBTED, _NOISIER))
    # The more images, the more pixels have an outlier in one of them: these are the ones with the largest scatter.
    used = 1.0 - np.clip(0.02 * n, 0.1, 0.5)
    quantile = 2.0 * special.gammaincinv(dof / 2.0, used)
    left = special.chdtr(dof + 2, quantile) / used
    return limits, np.array([_mad_factor(int(k)) for k in n]), doubted, noisier, used, left


def _clipped_variance(sigma: float) -> float:
    """Variance that a Gaussian keeps when cut at +-sigma."""
    z = min(sigma, 30.0)
    density = math.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi)
    return 1.0 - 2.0 * z * density / float(special.ndtr(z) - special.ndtr(-z))


@njit(cache=True)
def _row_moments(values: Float32Array, bits: NDArray[np.uint8], left_out: int, weight: FloatArray, out: tuple[FloatArray, ...]) -> None:
    """Weighted moments of the values of each pixel of a row (n, nx), and its largest squared deleted residual."""
    count, total, mean, square, worst = out
    n_image, nx = values.shape
    for column in out:
        column[:] = 0.0
    for k in range(n_image):
        w = weight[k]
        for ix in range(nx):
            use = (bits[k, ix] & left_out) == 0 and abs(values[k, ix]) < np.inf
            count[ix] += 1.0 if use else 0.0
            total[ix] += w if use else 0.0
            mean[ix] += w * np.float64(values[k, ix]) if use else 0.0
    for ix in range(nx):
        mean[ix] = mean[ix] / total[ix] if total[ix] > 0.0 else 0.0
    for k in range(n_image):
        w = weight[k]
        for ix in range(nx):
            use = (bits[k, ix] & left_out) == 0 and abs(values[k, ix]) < np.inf
            deviation = np.float64(values[k, ix]) - mean[ix] if use else 0.0
            term = w * deviation * deviation
            square[ix] += term
            residual = term * total[ix] / max(total[ix] - w, 1e-30)
            worst[ix] = max(worst[ix], residual)


@njit(cache=True)
def _row_factor(moments: tuple[FloatArray, ...], model: FloatArray, used: FloatArray, left: FloatArray) -> float:
    """Typical variance of a value in a row over that of the noise model; NaN where no pixel has two values."""
    count, _, _, square, _ = moments
    number = np.zeros(used.size, np.int64)
    for c in count:
        number[int(c)] += 1
    number[:2] = 0
    most = int(np.argmax(number))
    if number[most] == 0:
        return np.nan
    ratio = np.empty(number[most])
    filled = 0
    for ix in range(count.size):
        if int(count[ix]) == most:
            ratio[filled] = square[ix] / (most - 1) / model[ix]
            filled += 1
    n_used = max(math.ceil(used[most] * filled), 1)
    ordered = np.partition(ratio, n_used - 1)
    typical: float = ordered[:n_used].sum() / n_used / left[most]
    return typical


@njit(cache=True)
def _insertion_sort(values: FloatArray, n: int) -> None:
    for i in range(1, n):
        here = values[i]
        j = i - 1
        while j >= 0 and values[j] > here:
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = here


@njit(cache=True)
def _median_of(values: FloatArray, n: int) -> float:
    _insertion_sort(values, n)
    middle: float = 0.5 * (values[(n - 1) // 2] + values[n // 2])
    return middle


@njit(cache=True)
def _find_core(values: FloatArray, weight: FloatArray, n: int, prior: float, mad_factor: float, work: tuple[FloatArray, BoolArray]) -> None:
    """Mark the values about the median."""
    ordered, core = work
    ordered[:n] = values[:n]
    centre = _median_of(ordered, n)
    for i in range(n):
        ordered[i] = abs(values[i] - centre) * math.sqrt(weight[i])
    scale = MAD_TO_SIGMA * mad_factor * _median_of(ordered, n)
    # The MAD is 37 % as efficient as the standard deviation: that many degrees of freedom.
    dof = 0.37 * (n - 1)
    limit = _CORE * _CORE * max(prior, (_PRIOR_DOF * prior + dof * scale * scale) / (_PRIOR_DOF + dof))
    for i in range(n):
        core[i] = weight[i] * (values[i] - centre) ** 2 <= limit


@njit(cache=True)
def _reject(
    values: FloatArray,
    weight: FloatArray,
    n: int,
    prior: float,
    limits: FloatArray,
    mad_factors: FloatArray,
    work: tuple[FloatArray, BoolArray],
    kept: BoolArray,
) -> None:
    """Mark the values to keep: all of them where no majority agrees."""
    core = work[1]
    _find_core(values, weight, n, prior, mad_factors[n], work)
    total, mean, square, size = 0.0, 0.0, 0.0, 0
    for i in range(n):
        if core[i]:
            size += 1
            total += weight[i]
            mean += weight[i] * values[i]
    mean /= total
    for i in range(n):
        if core[i]:
            square += weight[i] * (values[i] - mean) ** 2
    number = 0
    for i in range(n):
        # Weight, mean, scatter and number of the others of the core.
        own = weight[i] if core[i] else 0.0
        others = total - own
        m = size - 1 if core[i] else size
        kept[i] = True
        if m >= 1:
            deviation = (values[i] - mean) * (total / others if core[i] else 1.0)
            scatter = square - own * (values[i] - mean) ** 2 * total / others
            scale = max(prior, (_PRIOR_DOF * prior + scatter) / (_PRIOR_DOF + m - 1))
            kept[i] = deviation**2 * weight[i] * others / (weight[i] + others) <= limits[m - 1] * scale
        number += kept[i]
    if 2 * number <= n:
        kept[:n] = True


@njit(cache=True)
def _mean_of_kept(values: FloatArray, weight: FloatArray, kept: BoolArray, n: int) -> tuple[int, float, float, float]:
    """Number, weight, mean and weighted squares of the values kept."""
    number, total, mean, square = 0, 0.0, 0.0, 0.0
    for i in range(n):
        if kept[i]:
            number += 1
            total += weight[i]
            mean += weight[i] * values[i]
    mean /= total
    for i in range(n):
        if kept[i]:
            square += weight[i] * (values[i] - mean) ** 2
    return number, total, mean, square


@njit(cache=True)
def _stack_rows(
    cube: Float32Array,
    bits: NDArray[np.uint8],
    left_out: int,
    weight: FloatArray,
    noise: tuple[float, float, float, float],
    tables: tuple[FloatArray, ...],
    out: tuple[Float32Array, Float32Array, NDArray[np.int16]],
) -> None:
    """Stack every row of cube (n, ny, nx); noise is (constant, per value, floor, variance left by the clipping)."""
    limits, mad_factors, doubted, noisier, used, left = tables
    constant, per_value, floor, clipped = noise
    n_image, ny, nx = cube.shape
    moments = (np.empty(nx), np.empty(nx), np.empty(nx), np.empty(nx), np.empty(nx))
    model = np.empty(nx)
    values, weights, kept = np.empty(n_image), np.empty(n_image), np.empty(n_image, np.bool_)
    work = (np.empty(n_image), np.empty(n_image, np.bool_))
    for iy in range(ny):
        _row_moments(cube[:, iy], bits[:, iy], left_out, weight, moments)
        count, totals, means, squares, worst = moments
        for ix in range(nx):
            model[ix] = constant + per_value * max(means[ix], 0.0)
        factor = _row_factor(moments, model, used, left)
        for ix in range(nx):
            n, total, mean, square = int(count[ix]), totals[ix], means[ix], squares[ix]
            prior = max(factor * model[ix], floor) if factor == factor else floor if floor > 0.0 else np.nan
            fine = worst[ix] <= limits[max(n - 2, 0)] * prior and square <= doubted[n] * (n - 1) * prior
            if n >= 3 and not fine:
                filled = 0
                for k in range(n_image):
                    if (bits[k, iy, ix] & left_out) == 0 and abs(cube[k, iy, ix]) < np.inf:
                        values[filled], weights[filled] = cube[k, iy, ix], weight[k]
                        filled += 1
                work[0][:n] = values[:n]
                prior = max(factor * (constant + per_value * max(_median_of(work[0], n), 0.0)), floor)
                _reject(values, weights, n, prior, limits, mad_factors, work, kept)
                n, total, mean, square = _mean_of_kept(values, weights, kept, n)
            variance = prior
            if n >= 2:
                own = square / (n - 1) / clipped
                variance = prior if own <= noisier[n] * prior else own
            if n >= 3:
                # Values near the limit, in or out by chance, make the mean of those kept noisier (Huber 1964, Ann. Math. Stat. 35, 73).
                variance /= clipped
            out[0][iy, ix], out[1][iy, ix], out[2][iy, ix] = mean, variance / total if n > 0 else 0.0, n


# Clipping limit; weights of the images; constant and slope of the noise model, its floor, and the variance that clipping leaves.
_Settings = tuple[float, FloatArray, tuple[float, float, float, float]]


def _settings(n: int, sigma: float, noise: float, photon_noise: float, quantum: float, scale: ArrayLike | None) -> _Settings:
    scales = np.ones(n) if scale is None else np.asarray(scale, dtype=np.float64)
    if scales.shape != (n,) or not bool(np.all(scales > 0)):
        raise ValueError(f"scale must hold {n} positive numbers, got {np.array2string(scales, precision=4)}")
    constant = max(noise**2, 1e-30) if noise > 0 or photon_noise > 0 else 1.0
    floor = max(quantum**2 / 12.0, noise**2 if n == 1 else 0.0)
    return sigma, 1.0 / scales**2, (constant, photon_noise, floor, _clipped_variance(sigma))


def _clip(cube: Float32Array, bits: NDArray[np.uint8], left_out: int, settings: _Settings) -> Stack:
    out = (np.empty(cube.shape[1:], np.float32), np.empty(cube.shape[1:], np.float32), np.empty(cube.shape[1:], np.int16))
    sigma, weight, noise = settings
    _stack_rows(cube, bits, left_out, weight, noise, _tables(cube.shape[0], sigma), out)
    return Stack(*out)


def clipped_mean(
    cube: Float32Array,
    *,
    mask: BoolArray | None = None,
    sigma: float = 4.0,
    noise: float = 0.0,
    photon_noise: float = 0.0,
    quantum: float = 0.0,
    scale: ArrayLike | None = None,
) -> Stack:
    """Mean of each pixel over the images, without outliers.

    Parameters
    ----------
    cube : float32, shape (n, ny, nx)
        Images, ADU (or normalised flats).
    mask : bool, shape (n, ny, nx), optional
        True where a value is not to be used; non-finite values never are.
    sigma : float
        Clipping limit: a good value is rejected as often as a Gaussian passes it, for any number of images.  Infinite for a plain mean.
        With fewer than three values, or where no majority agrees, all are kept.
    noise, photon_noise : float
        Model of a value's noise: its variance is proportional to ``noise**2 + photon_noise * value`` (photon_noise is 1 / gain for images
        in ADU).  It tells how the noise differs along a row; how large it is, the images tell.  A single image has `noise`.
    quantum : float
        Step of integer values: the noise is at least that of rounding, ``quantum / sqrt(12)``.
    scale : float64, shape (n,), optional
        Noise of the images relative to one another; an image has the weight ``1 / scale**2``.

    Returns
    -------
    Stack
        A pixel masked in every image has count 0, value 0 and variance 0.

    Raises
    ------
    ValueError
        If the cube is not 3-D or holds no image, or mask or scale do not fit.
    """
    if cube.ndim != 3 or cube.shape[0] == 0:
        raise ValueError(f"cube must be (n, ny, nx) with n >= 1, got {cube.shape}")
    if mask is not None and mask.shape != cube.shape:
        raise ValueError(f"mask has shape {mask.shape}, the cube {cube.shape}")
    settings = _settings(cube.shape[0], sigma, noise, photon_noise, quantum, scale)
    bits = np.zeros(cube.shape, np.uint8) if mask is None else np.ascontiguousarray(mask, dtype=np.bool_).view(np.uint8)
    return _clip(np.ascontiguousarray(cube, dtype=np.float32), bits, 1, settings)


def stack_bands(
    read: Callable[[int, int], tuple[Float32Array, NDArray[np.uint8]]],
    shape: tuple[int, int],
    *,
    n: int,
    sigma: float = 4.0,
    noise: float = 0.0,
    photon_noise: float = 0.0,
    quantum: float = 0.0,
    scale: ArrayLike | None = None,
    memory: float = 2e8,
) -> MasterImage:
    """Stack images that do not fit into memory, band of rows by band of rows.

    Parameters
    ----------
    read : callable
        ``read(first, last)`` gives rows `first` to `last` (not included) of all images: values (float32) and bits of `db.flags.Mask`
        (uint8), each of shape (n, last - first, nx).
    shape : tuple of int
        (ny, nx) of the images.
    n : int
        Number of images.
    sigma, noise, photon_noise, quantum, scale
        As in `clipped_mean`.
    memory : float
        Bytes that a band may take.  The result does not depend on it.

    Returns
    -------
    MasterImage
        NO_DATA, SATURATED, COSMIC, BLEED and NEIGHBOUR pixels of an image are left out of the mean.  Where nothing tells the
        variance of a pixel, it is that of the typical pixel for as many values; 0 for a single image without `noise`.

    Raises
    ------
    ValueError
        If there is no image, or `scale` or what is read does not fit.
    """
    if n < 1:
        raise ValueError(f"at least one image is needed to stack, got {n}")
    ny, nx = shape
    settings = _settings(n, sigma, noise, photon_noise, quantum, scale)
    value, variance = np.empty(shape, np.float32), np.empty(shape, np.float32)
    mask, count = np.empty(shape, np.uint8), np.empty(shape, np.int16)
    step = max(int(memory / (5.0 * n * nx)), 1)
    for first in range(0, ny, step):
        rows = slice(first, min(first + step, ny))
        cube, bits = read(rows.start, rows.stop)
        if cube.shape != (n, rows.stop - first, nx) or bits.shape != cube.shape:
            raise ValueError(f"rows {first} to {rows.stop} of {n} images of shape {shape}: got {cube.shape} and masks {bits.shape}")
        stack = _clip(np.ascontiguousarray(cube, dtype=np.float32), np.ascontiguousarray(bits, dtype=np.uint8), _LEFT_OUT, settings)
        value[rows], variance[rows], count[rows] = stack.value, stack.variance, stack.count
        mask[rows] = np.bitwise_or.reduce(bits, axis=0) & np.uint8(_CARRIED)
    mask[count == 0] |= np.uint8(int(Mask.NO_DATA))
    _fill_variance(variance, count)
    return MasterImage(value, variance, mask, count)


def _fill_variance(variance: Float32Array, count: NDArray[np.int16]) -> None:
    if (unknown := np.isnan(variance)).any():
        known = ~unknown & (count > 0)
        typical = float(np.median(variance[known] * count[known])) if known.any() else 0.0
        variance[unknown] = typical / count[unknown]


def _agreement(values: FloatArray, floor: float, sigma: float) -> tuple[float, float]:
    """Middle of a set of values and how far from it one may lie; the scale is at least the floor."""
    middle = float(np.median(values))
    scale = MAD_TO_SIGMA * _mad_factor(values.size) * float(np.median(np.abs(values - middle)))
    # The floor stands for long experience with images of a set, hence the larger prior.
    limit = -float(special.stdtrit(20.0 + 0.37 * (values.size - 1), float(special.ndtr(-sigma))))
    return middle, limit * max(scale, floor, np.finfo(np.float64).tiny)


def outlier_images(level: ArrayLike, noise: ArrayLike, *, sigma: float = 5.0) -> list[str]:
    """Reasons for which images of a set differ from the rest in level or noise.

    Parameters
    ----------
    level : float64, shape (n,)
        Mean level of each image, ADU.
    noise : float64, shape (n,)
        Pixel noise of each image, ADU, positive.
    sigma : float
        Limit, as in `clipped_mean`.

    Returns
    -------
    list of str, length n
        Reason with the value met and the limits, empty for an image that belongs to the set.  The scales have floors, 5 % of the noise
        for the level (20 % for fewer than five images) and 5 % for the noise, so that good images are not judged by differences that do
        not matter.  What is not finite is always a reason; with fewer than three others none of them is an outlier.
    """
    levels, noises = np.asarray(level, dtype=np.float64), np.asarray(noise, dtype=np.float64)
    known = np.isfinite(levels) & np.isfinite(noises) & (noises > 0)
    reasons = ["" if good else "no pixel to measure level and noise from" for good in known]
    good = np.flatnonzero(known)
    if good.size < 3:
        return reasons
    # Where one image fewer may be one too few, a level must be far off.
    middle, reach = _agreement(levels[good], (0.05 if good.size > 4 else 0.2) * float(np.median(noises[good])), sigma)
    noise_middle, noise_reach = _agreement(np.log(noises[good]), 0.05, sigma)
    for k in good:
        if abs(levels[k] - middle) > reach:
            reasons[k] = f"level {levels[k]:.2f} ADU, allowed {middle - reach:.2f} to {middle + reach:.2f}"
        elif abs(math.log(noises[k]) - noise_middle) > noise_reach:
            lowest, highest = math.exp(noise_middle - noise_reach), math.exp(noise_middle + noise_reach)
            reasons[k] = f"noise {noises[k]:.2f} ADU, allowed {lowest:.2f} to {highest:.2f}"
    return reasons
