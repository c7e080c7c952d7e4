"""Aperture photometry that knows the profile of stars.

A pixel on the border of an aperture is split as the profile's integral says, not as its area does; where the sensitive part of a
pixel is smaller than the pixel, as in one colour of a Bayer mosaic, what falls beside it is added in the same way. Neighbours' light
is subtracted, and pixels without a value hold what the star's profile puts there (Pal 2009, PhD thesis, section 2.4; Penev et al.
2025, arXiv 2507.14289). Without a profile of the light itself the border is split by area.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from db.flags import Flag, Mask
from reduction.kernels.arrays import Float32Array, FloatArray, IntArray
from reduction.photometry.kernels.aperture import mask_flags, pixel_overlap
from reduction.photometry.kernels.psf_flux import Fluxes, Pixels
from reduction.photometry.kernels.psf_map import PsfMap, Stamps, Traits, local_profile
from reduction.photometry.kernels.splines import ORDER, values_at

__all__ = ["PsfApertures", "psf_apertures"]

#: Pixels with these bits hold no light that counts.
_REPLACED = int(Mask.NO_DATA | Mask.SATURATED | Mask.HOT | Mask.DEAD | Mask.COSMIC | Mask.BLEED)
_EDGE, _SATURATED = int(Flag.EDGE), int(Mask.SATURATED | Mask.BLEED)
#: Profile, as part of its peak, below which a border pixel is split by area: there the map is too uncertain for a ratio.
SMALL = 3e-4
#: Part of the star's light in an aperture that may fall on pixels without a value, saturated ones apart.
MOST_REPLACED = 0.5
#: Entries of the table of splines in a pixel: positions are rounded to them, which moves a point of the integral by 5e-4 pixel at most.
FINE = 1024
#: See `_Basis.steep`: in distances of the innermost knots, and pixels.
STEEP = 4.5
LEAST_STEEP = 3.0
#: Gauss-Legendre points of -1 to 1 and their weights: along either axis of the part of a border pixel inside the circle.
_POINTS = np.array([-math.sqrt(0.6), 0.0, math.sqrt(0.6)])
_WEIGHTS = np.array([5.0, 8.0, 5.0]) / 18.0
_FEW_POINTS = np.array([-math.sqrt(1.0 / 3.0), math.sqrt(1.0 / 3.0)])
_FEW_WEIGHTS = np.array([0.5, 0.5])


@dataclass(frozen=True)
class PsfApertures:
    """Light of n stars in k apertures.

    Attributes
    ----------
    flux, variance : float64, shape (n, k)
        Light of the star (ADU), neighbours' subtracted, and its variance (ADU^2) but for the background's. NaN where too little of the
        star falls on pixels with a value.
    area : float64, shape (n, k)
        Change of the flux for 1 ADU of background (pixel).
    enclosed : float64, shape (n, k)
        Part of the star's light that the profile puts into the aperture.
    replaced : float64, shape (n, k)
        Part of the star's light in the aperture that is the profile's, in place of pixels without a value.
    foreign : float64, shape (n, k)
        Light of other stars that fell into the aperture and was subtracted (ADU).
    flags : int32, shape (n,)
        Bits of `db.flags.Flag` in the largest aperture.
    """

    flux: FloatArray
    variance: FloatArray
    area: FloatArray
    enclosed: FloatArray
    replaced: FloatArray
    foreign: FloatArray
    flags: NDArray[np.int32]

    def share(self, own: FloatArray) -> FloatArray:
        """The star's own part of the light that falls into each aperture, before the neighbours' is subtracted; (n, k), 0 to 1.

        own : float64, shape (n,)
            Flux of each star (ADU), at least its error.
        """
        mine = np.maximum(own[:, None] * self.enclosed, 0.0)
        whole = mine + np.maximum(self.foreign, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(whole > 0.0, mine / whole, np.nan), dtype=np.float64)


def psf_apertures(
    pixels: Pixels,
    mask: NDArray[np.uint8],
    psf: PsfMap,
    stamps: Stamps,
    fluxes: Fluxes,
    x: FloatArray,
    y: FloatArray,
    radii: ArrayLike,
    *,
    wanted: NDArray[np.bool_] | None = None,
    split: bool = True,
    traits: Traits | None = None,
) -> PsfApertures:
    """Measure stars in circular apertures with the help of their profiles.

    Parameters
    ----------
    pixels : Pixels
    mask : uint8, shape (ny, nx)
        Bits of `db.flags.Mask`.
    psf : PsfMap
    stamps : Stamps
        Of the map, of n stars: all whose light is on the frame.
    fluxes : Fluxes
        Of these stars, fitted with the map.
    x, y : float64, shape (n,)
        Positions that the stamps were made for (pixel).
    radii : float64, shape (k,)
        Radii (pixel).
    wanted : bool, shape (n,), optional
        Stars to measure; all without. The others are neighbours only.
    split : bool
        Border pixels are split by the profile, which needs a map of the light itself (`psf.pixel` > 0); otherwise by area.
    traits : dict of str to float64, shape (n,), optional
        What the stamps were made with.

    Returns
    -------
    PsfApertures
        Of the stars wanted.
    """
    chosen = np.arange(len(x)) if wanted is None else np.flatnonzero(wanted)
    radius = np.ascontiguousarray(radii, dtype=np.float64).ravel()
    by_profile = bool(split and psf.pixel > 0.0)
    # what whole pixels would hold; the same as the stamps unless only a part of a pixel is sensitive
    whole = replace(psf, pixel=1.0).stamps(x, y, traits).share if by_profile and psf.pixel < 1.0 else stamps.share
    shape = (len(chosen), len(radius))
    sums = np.zeros((6, *shape))
    flags = np.zeros(len(chosen), dtype=np.int32)
    own = (np.nan_to_num(fluxes.flux), np.nan_to_num(fluxes.error), np.nan_to_num(fluxes.background_weight))
    light = (pixels.value, pixels.dark, 1.0 / pixels.gain, fluxes.model, np.ascontiguousarray(mask))
    profile = (_basis(psf.knots), psf.coeff, psf.terms(x, y, traits), psf.pixel if by_profile else 0.0)
    visit = np.argsort(stamps.y0[chosen], kind="stable")
    _measure(*light, *profile, *stamps, whole, *own, *fluxes.neighbours, x, y, radius, chosen, visit, sums, flags)
    lost = (sums[4] > MOST_REPLACED * np.abs(sums[3])) | ~np.isfinite(fluxes.flux[chosen, None])
    sums[:2, lost] = np.nan
    total, variance, area, enclosed, replaced, foreign = sums
    return PsfApertures(total, variance, area, enclosed, replaced, foreign, flags)


class _Basis(NamedTuple):
    """Splines along an axis, looked up: values of those that are not zero at ``start + k / FINE`` (m, 4), the first's number (m,).

    steep : float
        Radius (pixel) to which the profile is so steep that a border pixel takes nine points for every smooth piece, not four in all.
    """

    values: FloatArray
    first: IntArray
    start: float
    steep: float


def _basis(knots: FloatArray) -> _Basis:
    start = float(knots[ORDER - 1])
    points = start + np.arange(int((knots[-ORDER] - start) * FINE) + 1) / FINE
    values, first = np.zeros((len(points), ORDER)), np.zeros(len(points), dtype=np.int64)
    _look_up(knots, points, values, first)
    return _Basis(values, first, start, max(STEEP * float(np.diff(knots).min()), LEAST_STEEP))


@njit(cache=True)
def _look_up(knots: FloatArray, points: FloatArray, values: FloatArray, first: IntArray) -> None:
    for k in range(points.size):
        first[k] = max(values_at(knots, points[k], values[k]), 0)


@njit(cache=True)
def _profile_at(basis: _Basis, local: FloatArray, dx: float, dy: float) -> float:
    """The profile at an offset from the star, to the nearest entries of the table."""
    i, j = int((dx - basis.start) * FINE + 0.5), int((dy - basis.start) * FINE + 0.5)
    if not (0 <= i < basis.first.size and 0 <= j < basis.first.size):
        return 0.0
    first_x, first_y = basis.first[i], basis.first[j]
    total = 0.0
    for b in range(ORDER):
        row = 0.0
        for a in range(ORDER):
            row += basis.values[i, a] * local[first_y + b, first_x + a]
        total += basis.values[j, b] * row
    return total


@njit(cache=True)
def _inside(basis: _Basis, local: FloatArray, x0: float, y0: float, r: float) -> float:
    """Mean of the profile over that part of a pixel which is inside a circle about the star; x0, y0: the pixel's lower left corner."""
    # Mirrored, so that the pixel is above the axis, or crosses it.
    sign = 1.0
    if y0 < -0.5:
        sign, y0 = -1.0, -y0 - 1.0
    low = max(y0, 0.0)
    reach = math.sqrt(max(r * r - low * low, 0.0))
    left, right = max(x0, -reach), min(x0 + 1.0, reach)
    # Where the circle passes the pixel's upper or lower side the limits have kinks: a piece for either side of each.
    lower, upper = math.sqrt(max(r * r - y0 * y0, 0.0)), math.sqrt(max(r * r - (y0 + 1.0) ** 2, 0.0))
    inner, outer = min(lower, upper), max(lower, upper)
    if r > basis.steep:
        cuts = (left, right, right, right, right, right)
    else:
        cuts = (left, -outer, -inner, inner, outer, right)
    points, weights = (_POINTS, _WEIGHTS) if r <= basis.steep else (_FEW_POINTS, _FEW_WEIGHTS)
    total, area = 0.0, 0.0
    for piece in range(5):
        start = min(max(cuts[piece], left), right)
        half = 0.5 * (min(max(cuts[piece + 1], left), right) - start)
        if half < 1e-9:
            continue
        for i in range(points.size):
            dx = start + half * (1.0 + points[i])
            height = math.sqrt(max(r * r - dx * dx, 0.0))
            bottom, top = max(y0, -height), min(y0 + 1.0, height)
            for j in range(points.size):
                dy = 0.5 * (bottom + top) + 0.5 * (top - bottom) * points[j]
                weight = half * weights[i] * weights[j] * (top - bottom)
                total += weight * _profile_at(basis, local, dx, sign * dy)
                area += weight
    return total / area if area > 0.0 else 0.0


@njit(cache=True)
def _weight(part: float, overlap: float, response: float, small: float, sensitive: float) -> float:
    """Of what a pixel holds, how much is the star's light inside the circle; may be above 1 where part of a pixel is not sensitive."""
    return (max(part, 0.0) + small * overlap) / (max(response, 0.0) + small * sensitive)


@njit(cache=True)
def _measure(
    value: Float32Array,
    dark: Float32Array,
    inverse_gain: float,
    model: FloatArray,
    mask: NDArray[np.uint8],
    basis: _Basis,
    coeff: FloatArray,
    terms: FloatArray,
    pixel: float,
    stamps: FloatArray,
    x0: IntArray,
    y0: IntArray,
    whole: FloatArray,
    flux: FloatArray,
    error: FloatArray,
    sky: FloatArray,
    begin: IntArray,
    other: IntArray,
    covariance: FloatArray,
    x: FloatArray,
    y: FloatArray,
    radii: FloatArray,
    chosen: IntArray,
    visit: IntArray,
    sums: FloatArray,
    flags: NDArray[np.int32],
) -> None:
    """Sums (6, n, k): flux, variance, area, enclosed, replaced (but for saturated pixels), foreign; flags."""
    size = stamps.shape[1]
    largest = 0.0
    for k in range(radii.size):
        largest = max(largest, radii[k])
    local, weights = np.zeros(coeff.shape[1:]), np.zeros((size, size))
    for c in visit:
        i = chosen[c]
        if pixel > 0.0:
            local_profile(terms[i], coeff, local)
        for k in range(radii.size):
            box = _box(x[i] - x0[i], y[i] - y0[i], radii[k], size)
            for q in range(box[0], box[1]):
                for p in range(box[2], box[3]):
                    weights[q, p] = 0.0
            bits = _sum_one(
                value, dark, inverse_gain, model, mask, basis, local, pixel, stamps[i], whole[i], x0[i], y0[i],
                flux[i], error[i], sky[i], x[i], y[i], radii[k], weights, sums[:, c, k],
            )  # fmt: skip
            if radii[k] >= largest:
                flags[c] = bits
            for e in range(begin[i], begin[i + 1]):
                j = other[e]
                foreign = _seen(weights, box, stamps[j], x0[i] - x0[j], y0[i] - y0[j])
                # What is subtracted was fitted to the same pixels: its error and theirs are correlated.
                sums[1, c, k] -= foreign * (foreign * error[j] ** 2 + 2.0 * sums[3, c, k] * covariance[e])
                sums[2, c, k] -= foreign * sky[j]
            # No sum of these pixels tells the star's light better than the fit does (Cramer, Rao).
            sums[1, c, k] = max(sums[1, c, k], (sums[3, c, k] * error[i]) ** 2)


@njit(cache=True)
def _box(x: float, y: float, r: float, size: int) -> tuple[int, int, int, int]:
    """Rows, then columns, of a stamp that an aperture meets: from, up to."""
    low, high = max(0, math.floor(y - r + 0.5)), min(size, math.ceil(y + r - 0.5) + 1)
    return low, high, max(0, math.floor(x - r + 0.5)), min(size, math.ceil(x + r - 0.5) + 1)


@njit(cache=True)
def _seen(weights: FloatArray, box: tuple[int, int, int, int], other: FloatArray, dx: int, dy: int) -> float:
    """What an aperture would hold of another star of unit flux; weights (size, size) on the own stamp, dx, dy beyond the other's."""
    size = weights.shape[0]
    total = 0.0
    for q in range(max(box[0], -dy), min(box[1], size - dy)):
        for p in range(max(box[2], -dx), min(box[3], size - dx)):
            total += weights[q, p] * other[q + dy, p + dx]
    return total


@njit(cache=True)
def _sum_one(
    value: Float32Array,
    dark: Float32Array,
    inverse_gain: float,
    model: FloatArray,
    mask: NDArray[np.uint8],
    basis: _Basis,
    local: FloatArray,
    pixel: float,
    stamp: FloatArray,
    whole: FloatArray,
    x0: int,
    y0: int,
    flux: float,
    error: float,
    sky: float,
    x: float,
    y: float,
    r: float,
    weights: FloatArray,
    sums: FloatArray,
) -> int:
    """One star in one aperture: adds to sums (6,), sets weights (size, size) of pixels with a value, returns flags."""
    ny, nx = value.shape
    size = stamp.shape[0]
    flags, lit = 0, 0.0
    peak = 0.0
    for q in range(size):
        for p in range(size):
            peak = max(peak, stamp[q, p])
    small, sensitive = SMALL * peak, pixel * pixel
    for iy in range(math.floor(y - r + 0.5), math.ceil(y + r - 0.5) + 1):
        for ix in range(math.floor(x - r + 0.5), math.ceil(x + r - 0.5) + 1):
            overlap = pixel_overlap(ix - 0.5 - x, iy - 0.5 - y, r)
            if overlap <= 0.0:
                continue
            q, p = iy - y0, ix - x0
            inside = 0 <= q < size and 0 <= p < size
            response = stamp[q, p] if inside else 0.0
            weight = overlap
            if inside and pixel > 0.0 and (overlap < 1.0 or pixel < 1.0):
                part = whole[q, p] if overlap >= 1.0 else overlap * _inside(basis, local, ix - 0.5 - x, iy - 0.5 - y, r)
                weight = _weight(part, overlap, response, small, sensitive)
            on_frame = 0 <= iy < ny and 0 <= ix < nx
            bits = int(mask[iy, ix]) if on_frame else 0
            flags |= mask_flags(bits) if on_frame else _EDGE
            sums[3] += weight * response
            if not on_frame or bits & _REPLACED:
                sums[0] += weight * response * flux
                lit += weight * response
                if bits & _SATURATED == 0:
                    sums[4] += weight * response
                continue
            neighbours = model[iy, ix] - flux * response
            sums[0] += weight * (value[iy, ix] - neighbours)
            sums[1] += weight * weight * (dark[iy, ix] + max(model[iy, ix], 0.0) * inverse_gain)
            sums[2] += weight
            sums[5] += weight * neighbours
            if inside:
                weights[q, p] = weight
    sums[1] += (lit * error) ** 2
    sums[2] += lit * sky
    return flags
