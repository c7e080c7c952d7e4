"""Circular-aperture photometry with exact circle-pixel overlap.

The overlap of a circle with a pixel is integrated in closed form: over a column
of the pixel grid the upper half of the circle is the function
``h(x) = sqrt(r**2 - x**2)``, and the area of a pixel is the difference of two
integrals of ``min(h(x), y)``.  No sub-sampling is involved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from db.flags import Flag, Mask

__all__ = ["ApertureSums", "aperture_photometry", "mask_flags", "pixel_overlap"]

_NO_DATA = int(Mask.NO_DATA)
_SATURATED = int(Mask.SATURATED)
_COSMIC = int(Mask.COSMIC)
_BAD = int(Mask.NO_DATA | Mask.HOT | Mask.DEAD | Mask.BLEED)
_FLAG_SATURATED = int(Flag.SATURATED)
_FLAG_COSMIC = int(Flag.COSMIC)
_FLAG_BAD = int(Flag.BAD_PIXEL)
_FLAG_EDGE = int(Flag.EDGE)


@dataclass(frozen=True)
class ApertureSums:
    """Sums over `n` sources and `k` apertures.

    Attributes
    ----------
    flux : float64, shape (n, k)
        Sum of overlap times data, ADU; NaN for a position off the frame or NaN.
    variance : float64, shape (n, k)
        Sum of overlap squared times pixel variance, ADU**2: the pixels are independent.
        The background's error, common to all pixels, is not part of it.
    area : float64, shape (n, k)
        Pixels summed (less than pi r**2 where the frame's edge or pixels without data cut
        the aperture), so ``flux - area * background`` is right for a cut aperture too.
    flags : int32, shape (n,)
        Bits of `db.flags.Flag` in the largest aperture.
    """

    flux: NDArray[np.float64]
    variance: NDArray[np.float64]
    area: NDArray[np.float64]
    flags: NDArray[np.int32]


@njit(cache=True)
def _primitive(x: float, r: float) -> float:
    """Integral of sqrt(r**2 - t**2) for t from 0 to x, with abs(x) <= r."""
    return 0.5 * (x * math.sqrt((r - x) * (r + x)) + r * r * math.asin(x / r))


@njit(cache=True)
def _area_below(x0: float, x1: float, y: float, r: float) -> float:
    """Area of 0 <= Y <= y, x0 <= X <= x1 inside the circle, for y >= 0."""
    left, right = max(x0, -r), min(x1, r)
    if right <= left or y <= 0.0:
        return 0.0
    # Within abs(x) < c the line Y = y is the limit, outside of it the circle is.
    c = math.sqrt((r - y) * (r + y)) if y < r else 0.0
    inner0, inner1 = max(left, -c), min(right, c)
    if inner1 <= inner0:
        return _primitive(right, r) - _primitive(left, r)
    area = (inner1 - inner0) * y
    if left < inner0:
        area += _primitive(inner0, r) - _primitive(left, r)
    if right > inner1:
        area += _primitive(right, r) - _primitive(inner1, r)
    return area


@njit(cache=True)
def pixel_overlap(x0: float, y0: float, r: float) -> float:
    """Area of a pixel inside a circle.

    Parameters
    ----------
    x0, y0 : float
        Lower left corner of the pixel from the circle's centre (pixel).
    r : float
        Radius (pixel), positive.

    Returns
    -------
    float
        From 0 to 1 (pixel^2).
    """
    x1, y1 = x0 + 1.0, y0 + 1.0
    far_x, far_y = max(-x0, x1), max(-y0, y1)
    if far_x * far_x + far_y * far_y <= r * r:
        return 1.0
    near_x, near_y = max(x0, -x1, 0.0), max(y0, -y1, 0.0)
    if near_x * near_x + near_y * near_y >= r * r:
        return 0.0
    if y0 >= 0.0:
        return _area_below(x0, x1, y1, r) - _area_below(x0, x1, y0, r)
    if y1 <= 0.0:
        return _area_below(x0, x1, -y0, r) - _area_below(x0, x1, -y1, r)
    return _area_below(x0, x1, y1, r) + _area_below(x0, x1, -y0, r)


@njit(cache=True)
def mask_flags(bits: int) -> int:
    """Bits of `db.flags.Flag` that a pixel with the mask `bits` sets."""
    flags = 0
    if bits & _SATURATED:
        flags |= _FLAG_SATURATED
    if bits & _BAD:
        flags |= _FLAG_BAD
    if bits & _COSMIC:
        flags |= _FLAG_COSMIC
    return flags


@njit(cache=True)
def _sum_one(
    data: NDArray[np.float32], variance: NDArray[np.float32], mask: NDArray[np.uint8], x: float, y: float, r: float
) -> tuple[float, float, float, int]:
    """Flux, variance, area and flags of one aperture."""
    ny, nx = data.shape
    first_x, last_x = math.floor(x - r + 0.5), math.ceil(x + r - 0.5)
    first_y, last_y = math.floor(y - r + 0.5), math.ceil(y + r - 0.5)
    flags = 0
    if x - r < -0.5 or y - r < -0.5 or x + r > nx - 0.5 or y + r > ny - 0.5:
        flags = _FLAG_EDGE
    flux, noise, area = 0.0, 0.0, 0.0
    for iy in range(max(first_y, 0), min(last_y, ny - 1) + 1):
        for ix in range(max(first_x, 0), min(last_x, nx - 1) + 1):
            weight = pixel_overlap(ix - 0.5 - x, iy - 0.5 - y, r)
            if weight <= 0.0:
                continue
            bits = mask[iy, ix]
            value = data[iy, ix]
            if bits & _NO_DATA or not math.isfinite(value):
                flags |= _FLAG_BAD
                continue
            flags |= mask_flags(bits)
            flux += weight * value
            noise += weight * weight * variance[iy, ix]
            area += weight
    return flux, noise, area, flags


@njit(cache=True)
def _sum_all(
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    mask: NDArray[np.uint8],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    radii: NDArray[np.float64],
    flux: NDArray[np.float64],
    noise: NDArray[np.float64],
    area: NDArray[np.float64],
    flags: NDArray[np.int32],
) -> None:
    ny, nx = data.shape
    largest = np.argmax(radii)
    for i in range(x.size):
        # Written so that a NaN fails it too.
        if not (-0.5 <= x[i] < nx - 0.5 and -0.5 <= y[i] < ny - 0.5):
            flux[i, :], noise[i, :], area[i, :] = np.nan, np.nan, 0.0
            flags[i] = _FLAG_EDGE
            continue
        for j in range(radii.size):
            flux[i, j], noise[i, j], area[i, j], bits = _sum_one(data, variance, mask, x[i], y[i], radii[j])
            if j == largest:
                flags[i] = bits


def aperture_photometry(
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    mask: NDArray[np.uint8],
    x: ArrayLike,
    y: ArrayLike,
    radii: ArrayLike,
) -> ApertureSums:
    """Sum the light in circular apertures with exact circle-pixel overlap.

    Parameters
    ----------
    data : float32, shape (ny, nx)
        Image, ADU; the background may be still in it (see `ApertureSums.area`).
    variance : float32, shape (ny, nx)
        Variance of each pixel, ADU**2.
    mask : uint8, shape (ny, nx)
        Bits of `db.flags.Mask`.  Pixels with NO_DATA or a non-finite value are left out of the sums and
        flagged BAD_PIXEL; all other masked pixels are summed and flagged.
    x, y : float64, shape (n,)
        Centres, pixel, 0-based pixel centres.
    radii : float64, shape (k,)
        Radii, pixel, positive; k >= 1.

    Returns
    -------
    ApertureSums
        A position off the frame, or NaN, has NaN flux and variance, no area and the flag EDGE.  An aperture
        cut by the edge holds what is on the frame, with the flag EDGE.  An aperture with no pixel left has
        flux 0 and area 0.

    Raises
    ------
    ValueError
        If the planes differ in shape, x and y in length, or a radius is not positive.

    Notes
    -----
    Overlap and flux agree with ``photutils.aperture.CircularAperture`` (method "exact") to rounding; the variance
    weighs with the overlap squared, photutils' with the overlap.
    """
    centre_x = np.ascontiguousarray(x, dtype=np.float64).ravel()
    centre_y = np.ascontiguousarray(y, dtype=np.float64).ravel()
    radius = np.ascontiguousarray(radii, dtype=np.float64).ravel()
    if not data.shape == variance.shape == mask.shape:
        raise ValueError(f"data, variance and mask differ in shape: {data.shape}, {variance.shape}, {mask.shape}")
    if centre_x.size != centre_y.size:
        raise ValueError(f"x has {centre_x.size} positions, y has {centre_y.size}")
    if radius.size == 0 or not bool(np.all(radius > 0)):
        raise ValueError(f"radii must be positive and at least one, got {radius.tolist()}")
    shape = (centre_x.size, radius.size)
    flux, noise, area = np.empty(shape), np.empty(shape), np.empty(shape)
    flags = np.zeros(centre_x.size, dtype=np.int32)
    contiguous = np.ascontiguousarray
    planes = (contiguous(data, np.float32), contiguous(variance, np.float32), contiguous(mask, np.uint8))
    _sum_all(*planes, centre_x, centre_y, radius, flux, noise, area, flags)
    return ApertureSums(flux, noise, area, flags)
