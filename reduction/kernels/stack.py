"""Clipped mean of registered images, sound for three images as for a hundred.

A pixel's own scatter says little when there are three to five images: a cut at
four times that scatter either never happens or removes good values by chance.
So each pixel's scale is moderated with the typical scatter of its row, as in
the moderated t statistic of Smyth (2004, Stat. Appl. Genet. Mol. Biol. 3, 3),
and the limit is the quantile of Student's t that a Gaussian passes at `sigma`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy import special

__all__ = ["Stack", "clipped_mean", "outlier_images"]

# Degrees of freedom that the row's typical scatter, or a known noise, counts for.
_PRIOR_DOF = 8.0
# Factors that make the scaled MAD of n Gaussian values unbiased for n = 0 ... 9 (Croux & Rousseeuw 1992, COMPSTAT 1, 411).
_MAD_FACTOR = np.array([1.0, 1.0, 1.196, 1.495, 1.363, 1.206, 1.200, 1.140, 1.129, 1.107])


@dataclass(frozen=True)
class Stack:
    """Mean image with its error.

    Attributes
    ----------
    value : float32, shape (ny, nx)
        Mean of the values kept; 0 where there is none.
    variance : float32, shape (ny, nx)
        Variance of that mean, from the scatter of the values kept; for a single value the row's typical (or the given)
        noise squared, NaN when that is unknown too; 0 where there is no value.
    count : int16, shape (ny, nx)
        Values kept.
    """

    value: NDArray[np.float32]
    variance: NDArray[np.float32]
    count: NDArray[np.int16]


def _mad_factor(n: int) -> float:
    return float(_MAD_FACTOR[n]) if n < _MAD_FACTOR.size else n / (n - 0.8)


def _student_limit(sigma: float, dof: ArrayLike) -> NDArray[np.float64]:
    """Quantile of Student's t with the tail that a Gaussian has beyond sigma."""
    degrees, tail = np.asarray(dof, dtype=np.float64), special.ndtr(-sigma)
    return np.asarray(-special.stdtrit(degrees, tail) if tail > 0 else np.full(degrees.shape, np.inf), np.float64)


def _median_residual_scale(n: int) -> float:
    """Standard deviation of x_i - median(x) over that of x, for n Gaussian values."""
    # Covariance with the median is var / n; var(median) is pi / 2n but for small n (Hojo 1931, Biometrika 23, 315).
    if n <= 2:
        return 1.0
    small = {3: 0.4487, 4: 0.2982, 5: 0.2868, 6: 0.2147, 7: 0.2104, 8: 0.1682, 9: 0.1661}
    var_median = small[n] if n in small else math.pi / (2.0 * n)
    return math.sqrt(1.0 + var_median - 2.0 / n)


def _row_variance(row: NDArray[np.float32], good: NDArray[np.bool_]) -> float:
    """Typical variance of one image's values in a row: trimmed mean of the pixels' variances, NaN when unknown."""
    count = good.sum(axis=0)
    dof = int(count.max(initial=0)) - 1
    if dof < 1:
        return math.nan
    full = count == dof + 1
    variance = np.var(row[:, full], axis=0, ddof=1, dtype=np.float64, where=good[:, full])
    # Outliers sit in the upper tail: leave a tenth out, and divide by what a scaled chi-square keeps.
    kept = np.sort(variance)[: max(math.ceil(0.9 * variance.size), 1)]
    quantile = 2.0 * special.gammaincinv(dof / 2.0, 0.9)
    return float(kept.mean() / (special.chdtr(dof + 2, quantile) / 0.9))


@njit(cache=True)
def _clip_pixel(
    values: NDArray[np.float64], n: int, prior: float, limits: NDArray[np.float64], mad_factors: NDArray[np.float64], iterations: int
) -> int:
    """Move the values kept to the front of `values`; their number."""
    for _ in range(iterations):
        if n < 3:
            return n
        centre = np.median(values[:n])
        scale = 1.4826 * mad_factors[n] * np.median(np.abs(values[:n] - centre))
        # The MAD is 37 % as efficient as the standard deviation: that many degrees of freedom.
        dof = 0.37 * (n - 1)
        if math.isnan(prior):
            limit = limits[0, n] * scale
        else:
            limit = limits[1, n] * math.sqrt((_PRIOR_DOF * prior + dof * scale * scale) / (_PRIOR_DOF + dof))
        kept = 0
        for i in range(n):
            if abs(values[i] - centre) <= limit:
                values[kept] = values[i]
                kept += 1
        if kept == n:
            return n
        n = kept
    return n


@njit(cache=True)
def _stack_rows(
    cube: NDArray[np.float32],
    good: NDArray[np.bool_],
    prior: NDArray[np.float64],
    tables: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]],
    iterations: int,
    out: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int16]],
) -> None:
    """Stack every row of cube (n, ny, nx)."""
    limits, mad_factors, corrections = tables
    n_image, ny, nx = cube.shape
    values = np.empty(n_image)
    for iy in range(ny):
        for ix in range(nx):
            n = 0
            for k in range(n_image):
                if good[k, iy, ix]:
                    values[n] = cube[k, iy, ix]
                    n += 1
            n = _clip_pixel(values, n, prior[iy], limits, mad_factors, iterations)
            mean, square = 0.0, 0.0
            for k in range(n):
                mean += values[k] / n
            for k in range(n):
                square += (values[k] - mean) ** 2
            out[0][iy, ix], out[1][iy, ix], out[2][iy, ix] = mean, 0.0, n
            correction = corrections[n] if iterations > 0 else 1.0
            if n == 1:
                out[1][iy, ix] = prior[iy]
            elif n > 1:
                out[1][iy, ix] = square / (n - 1.0) / n / correction


def _tables(n_image: int, sigma: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Limits without and with a prior, MAD factors, and variance left by the clipping, for 0 to n_image values."""
    n = np.arange(n_image + 1)
    dof = np.maximum(0.37 * (n - 1), 0.37)
    residual = np.array([_median_residual_scale(k) for k in range(n_image + 1)])
    limits = np.stack([_student_limit(sigma, dof) * residual, _student_limit(sigma, _PRIOR_DOF + dof) * residual])
    z = np.minimum(limits[1], 30.0)
    kept = special.ndtr(z) - special.ndtr(-z)
    density = np.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi)
    return limits, np.array([_mad_factor(k) for k in range(n_image + 1)]), 1.0 - 2.0 * z * density / kept


def clipped_mean(
    cube: NDArray[np.float32],
    *,
    mask: NDArray[np.bool_] | None = None,
    sigma: float = 4.0,
    iterations: int = 3,
    noise: ArrayLike | None = None,
) -> Stack:
    """Mean of each pixel over the images, without outliers.

    Parameters
    ----------
    cube : float32, shape (n, ny, nx)
        Images, ADU (or normalised flats).
    mask : bool, shape (n, ny, nx), optional
        True where a value is not to be used; non-finite values never are.
    sigma : float
        Clipping limit, in the standard deviations of a Gaussian with the same chance of a false rejection.
    iterations : int
        Most rounds of clipping; 0 for a plain mean.
    noise : float or float64 shape (n,), optional
        Pixel noise of the images that is known to be there (floor of the scale), in units of `cube`.

    Returns
    -------
    Stack
        A pixel masked in every image has count 0, value 0 and variance 0.

    Raises
    ------
    ValueError
        If the cube is not 3-D, holds no image, or the mask has another shape.
    """
    if cube.ndim != 3 or cube.shape[0] == 0:
        raise ValueError(f"cube must be (n, ny, nx) with n >= 1, got {cube.shape}")
    if mask is not None and mask.shape != cube.shape:
        raise ValueError(f"mask has shape {mask.shape}, the cube {cube.shape}")
    n_image, ny, nx = cube.shape
    images = np.ascontiguousarray(cube, dtype=np.float32)
    good = np.isfinite(images) if mask is None else np.isfinite(images) & ~mask
    prior = np.array([_row_variance(images[:, iy], good[:, iy]) for iy in range(ny)])
    if noise is not None:
        prior = np.fmax(prior, float(np.mean(np.square(np.asarray(noise, dtype=np.float64)))))
    out = (np.empty((ny, nx), np.float32), np.empty((ny, nx), np.float32), np.empty((ny, nx), np.int16))
    _stack_rows(images, good, prior, _tables(n_image, sigma), iterations, out)
    return Stack(*out)


def _deviation(values: NDArray[np.float64], floor: float) -> NDArray[np.float64]:
    """Deviation from the median in units of a scale moderated with the floor."""
    n = values.size
    centre = np.median(values)
    scale = 1.4826 * _mad_factor(n) * float(np.median(np.abs(values - centre)))
    return np.asarray(np.abs(values - centre) / max(scale, floor, np.finfo(np.float64).tiny), np.float64)


def outlier_images(level: ArrayLike, noise: ArrayLike, *, sigma: float = 5.0) -> NDArray[np.bool_]:
    """Images of a set that differ from the rest in level or noise.

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
    bool, shape (n,)
        True for an image that does not belong to the set, and for a level or noise that is not finite.  The scales have floors, a
        fifth of the noise for the level and 5 % for the noise, so that good images are not judged by
        differences that do not matter.  With fewer than three finite images none of them is an outlier.
    """
    levels, noises = np.asarray(level, dtype=np.float64), np.asarray(noise, dtype=np.float64)
    outlier = ~(np.isfinite(levels) & np.isfinite(noises) & (noises > 0))
    good = np.flatnonzero(~outlier)
    if good.size < 3:
        return outlier
    # The floors stand for long experience with images of a set, hence the larger prior.
    limit = float(_student_limit(sigma, 20.0 + 0.37 * (good.size - 1))[()])
    by_level = _deviation(levels[good], 0.2 * float(np.median(noises[good])))
    by_noise = _deviation(np.log(noises[good]), 0.05)
    outlier[good] = (by_level > limit) | (by_noise > limit)
    return outlier
