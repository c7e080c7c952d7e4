"""Local sky of single sources: the softly clipped mean of the sky pixels of a ring about each."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from reduction.photometry.kernels.sky_boxes import MIN_PIXELS, clip_factors, soft_clipped_mean

__all__ = ["Rings", "annulus_background", "significance"]


@dataclass(frozen=True)
class Rings:
    """Sky in rings about `n` positions.

    Attributes
    ----------
    value, error : float64, shape (n,)
        Mean and its standard error, ADU; NaN for fewer than 12 sky pixels.  The error is common to all pixels of an aperture.
    noise : float64, shape (n,)
        Standard deviation of a pixel of the ring, corrected for its clipping, ADU.
    n_pixel : int64, shape (n,)
        Sky pixels in the ring.
    """

    value: NDArray[np.float64]
    error: NDArray[np.float64]
    noise: NDArray[np.float64]
    n_pixel: NDArray[np.int64]


@njit(cache=True)
def _rings(
    planes: tuple[NDArray[np.float32], NDArray[np.bool_]],
    places: tuple[NDArray[np.float64], NDArray[np.float64]],
    radii: tuple[float, float],
    settings: tuple[float, float],
    factors: NDArray[np.float64],
    found: NDArray[np.float64],
) -> None:
    data, excluded = planes
    inner, outer = radii
    clip, quantum = settings
    ny, nx = data.shape
    values = np.empty(int(4.0 * (outer + 1.0) ** 2), np.float32)
    for k in range(places[0].size):
        x, y = places[0][k], places[1][k]
        n = 0
        # Also false for NaN.
        if not (abs(x) < 1e8 and abs(y) < 1e8):
            continue
        for iy in range(max(math.ceil(y - outer), 0), min(math.floor(y + outer), ny - 1) + 1):
            for ix in range(max(math.ceil(x - outer), 0), min(math.floor(x + outer), nx - 1) + 1):
                r2 = (ix - x) * (ix - x) + (iy - y) * (iy - y)
                value = data[iy, ix]
                if inner * inner <= r2 <= outer * outer and not excluded[iy, ix] and value - value == 0.0:
                    values[n] = value
                    n += 1
        found[k, 3] = n
        if n >= MIN_PIXELS:
            mean, sigma, variance = soft_clipped_mean(values, n, 0.0, clip, quantum, factors)
            # Like values are no proof of an exact mean.
            found[k, 0], found[k, 1], found[k, 2] = mean, math.sqrt(variance + quantum * quantum / (12.0 * n * n)), sigma


@njit(cache=True)
def _discs(data: NDArray[np.float32], x: NDArray[np.float64], y: NDArray[np.float64], radius: float, out: NDArray[np.float64]) -> None:
    """Sum and number of the finite pixels within a radius."""
    ny, nx = data.shape
    for k in range(x.size):
        if not (abs(x[k]) < 1e8 and abs(y[k]) < 1e8):
            continue
        for iy in range(max(math.ceil(y[k] - radius), 0), min(math.floor(y[k] + radius), ny - 1) + 1):
            for ix in range(max(math.ceil(x[k] - radius), 0), min(math.floor(x[k] + radius), nx - 1) + 1):
                value = data[iy, ix]
                if (ix - x[k]) ** 2 + (iy - y[k]) ** 2 <= radius * radius and value - value == 0.0:
                    out[k, 0] += value
                    out[k, 1] += 1.0


def annulus_background(
    data: NDArray[np.float32],
    excluded: NDArray[np.bool_],
    x: ArrayLike,
    y: ArrayLike,
    *,
    inner: float,
    outer: float,
    clip: float = 3.0,
    quantum: float = 0.0,
) -> Rings:
    """Measure the sky in a ring about each position.

    Parameters
    ----------
    data : float32, shape (ny, nx)
        Image, ADU; take a map of the sky off first, so that a gradient does not count as noise.
    excluded : bool, shape (ny, nx)
        Pixels that are not sky; those that are not finite are left out as well.
    x, y : float64, shape (n,)
        Positions, pixel; of a ring that is cut by the frame's edge the rest is used; NaN gives NaN.
    inner, outer : float
        Radii of the ring, pixel: pixels whose centres lie between them or on them.
    clip : float
        Clipping distance, standard deviations, symmetric about the mean.
    quantum : float
        Step of the raw data, ADU; 0 for data that are continuous.

    Returns
    -------
    Rings

    Raises
    ------
    ValueError
        If the planes differ in shape, or the radii are not 0 <= inner < outer.
    """
    if data.shape != excluded.shape:
        raise ValueError(f"data and excluded differ in shape: {data.shape}, {excluded.shape}")
    if not 0 <= inner < outer:
        raise ValueError(f"radii must be 0 <= inner < outer, got {inner} and {outer}")
    places = (np.ascontiguousarray(x, np.float64).ravel(), np.ascontiguousarray(y, np.float64).ravel())
    found = np.full((places[0].size, 4), np.nan)
    found[:, 3] = 0
    planes = (np.ascontiguousarray(data, np.float32), np.ascontiguousarray(excluded, np.bool_))
    _rings(planes, places, (float(inner), float(outer)), (float(clip), float(quantum)), clip_factors(clip), found)
    return Rings(found[:, 0], found[:, 1], found[:, 2], found[:, 3].astype(np.int64))


def significance(data: NDArray[np.float32], x: ArrayLike, y: ArrayLike, rings: Rings, radius: float) -> NDArray[np.float64]:
    """Light within a radius over its error, with the sky of the rings.

    Parameters
    ----------
    data : float32, shape (ny, nx)
        Image that the rings were measured on, ADU.
    x, y : float64, shape (n,)
        Positions, pixel.
    rings : Rings
        Of the same positions.
    radius : float
        Pixel; whole pixels are summed.

    Returns
    -------
    float64, shape (n,)
        NaN without a ring, or off the frame.  Noise is that of the sky alone.
    """
    out = np.zeros((len(rings.value), 2))
    data = np.ascontiguousarray(data, np.float32)
    _discs(data, np.ascontiguousarray(x, np.float64), np.ascontiguousarray(y, np.float64), radius, out)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.sqrt(out[:, 1] * rings.noise**2 + (out[:, 1] * rings.error) ** 2)
        return np.asarray((out[:, 0] - out[:, 1] * rings.value) / error, np.float64)
