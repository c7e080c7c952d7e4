"""Cosmic-ray hits, distinguished from stars by what the frame's own stars look like.

L.A.Cosmic (van Dokkum 2001, PASP 113, 1420; here astroscrappy) finds what is
sharper than its surroundings.  Where a star has its light on two or three
pixels that is the core of every star, so that none of its thresholds serves
wide-field frames.  It is used to find candidates, and each of them has to be
sharper than a star can be: of three pixels l, c, r in a row through a Gaussian
image of standard deviation s (pixel), wherever its centre,

    c**2 / (l r) = exp(1 / s**2)

(to 2 % even where it is integrated over pixels and s is 0.6).  The logarithm of
the left side, the sharpness, is measured on the bright stars of the frame
itself (half of it along a diagonal, where pixels are farther apart), and a hit
exceeds that of nearly all of them by a margin.  Every doubt, such as a hit
taken for a star here, makes the limit higher, and leaves hits unflagged rather
than stars flagged.
"""

from __future__ import annotations

import math

import astroscrappy
import numpy as np
import sep
from numba import njit
from numpy.typing import NDArray

from reduction.calibration.kernels.calibration import Plane

__all__ = ["cosmic_rays", "prepare", "star_sharpness"]

# Sharpness assumed where a frame shows too few stars: that of FWHM 1.2 pixels.
_SHARPEST = 3.8
_FEWEST = 8
_BRIGHTEST = 400
# Half widths of the stars' own distribution by which the sharpest of them exceed the middle.
_SPREAD = 1.5
# Sharpness by which a hit exceeds the stars.
_MARGIN = 0.9
# Standard deviations by which it does.
_CERTAIN = 2.5
_MESH = 32
# Part of the threshold that is asked of what touches a hit.
_NEIGHBOUR = 0.3
# Pixels of a line, at least, that its level is the median of.
_SAMPLE = 256
# Side of the tiles that are searched: where hits are few, and where so many small ones have some that their borders cost more.
_TILE = 8
_LARGE_TILE = 512
_BORDER = 10


@njit(cache=True)
def _good_line(bad: NDArray[np.bool_], y: int, x: int, dy: int, dx: int) -> bool:
    """Whether a pixel has a usable one on both sides."""
    ny, nx = bad.shape
    if not (dy <= y < ny - dy and abs(dx) <= x < nx - abs(dx)):
        return False
    return not (bad[y - dy, x - dx] or bad[y + dy, x + dx])


@njit(cache=True)
def _star_peaks(data: NDArray[np.float32], variance: NDArray[np.float32], bad: NDArray[np.bool_], limit: float) -> NDArray[np.float64]:
    """Signal-to-noise ratio and sharpness, (n, 2), of local maxima whose four neighbours are seen as well."""
    ny, nx = data.shape
    found = []
    for y in range(1, ny - 1):
        for x in range(1, nx - 1):
            c = np.float64(data[y, x])
            if bad[y, x] or not c * c > limit * limit * variance[y, x] or c <= 0.0:
                continue
            sharpest = -np.inf
            for dy, dx in ((0, 1), (1, 0)):
                before, after = np.float64(data[y - dy, x - dx]), np.float64(data[y + dy, x + dx])
                lowest = min(before, after)
                peak = max(before, after) <= c and lowest > 0.0
                if (
                    not peak
                    or not _good_line(bad, y, x, dy, dx)
                    or lowest**2 < 9.0 * max(variance[y - dy, x - dx], variance[y + dy, x + dx])
                ):
                    sharpest = np.inf
                    break
                sharpest = max(sharpest, math.log(c * c / (before * after)))
            if sharpest == np.inf:
                continue
            # A trail along a diagonal is as narrow as other stars only across it, and where it ends.
            for dx in (-1, 1):
                if _good_line(bad, y, x, 1, dx):
                    before, after = np.float64(data[y - 1, x - dx]), np.float64(data[y + 1, x + dx])
                    lowest = min(before, after)
                    if lowest > 0.0 and lowest**2 >= 9.0 * max(variance[y - 1, x - dx], variance[y + 1, x + dx]):
                        sharpest = max(sharpest, 0.5 * math.log(c * c / (before * after)))
            found.append((c / math.sqrt(variance[y, x]), sharpest))
    out = np.empty((len(found), 2))
    for k in range(len(found)):
        out[k, 0], out[k, 1] = found[k]
    return out


@njit(cache=True)
def _sharper(
    data: NDArray[np.float32],
    variance: NDArray[np.float32],
    bad: NDArray[np.bool_],
    candidates: NDArray[np.bool_],
    limit: float,
    certain: float,
    threshold: float,
) -> NDArray[np.bool_]:
    """Candidates above the threshold that along their row or their column are sharper than exp(-limit) = l r / c**2 with certainty."""
    out = np.zeros(candidates.shape, dtype=np.bool_)
    share = math.exp(-limit)
    for y in range(candidates.shape[0]):
        for x in range(candidates.shape[1]):
            if not candidates[y, x] or bad[y, x] or data[y, x] <= 0.0:
                continue
            c = np.float64(data[y, x])
            for dy, dx in ((0, 1), (1, 0)):
                if _good_line(bad, y, x, dy, dx):
                    before, after = max(np.float64(data[y - dy, x - dx]), 0.0), max(np.float64(data[y + dy, x + dx]), 0.0)
                    vb, va = np.float64(variance[y - dy, x - dx]), np.float64(variance[y + dy, x + dx])
                    # L.A.Cosmic subtracts the mean of the neighbours, which is off by half a standard deviation.
                    if c < (threshold - 1.5) * math.sqrt(min(vb, va)):
                        continue
                    error = (2.0 * c * share) ** 2 * variance[y, x] + before**2 * va + after**2 * vb + va * vb
                    if share * c * c - before * after > certain * math.sqrt(error):
                        out[y, x] = True
    return out


@njit(cache=True)
def _grow(
    data: NDArray[np.float32], candidates: NDArray[np.bool_], likely: NDArray[np.bool_], hits: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Add candidates that touch a hit and are likely, or not brighter than it."""
    ny, nx = hits.shape
    out = hits.copy()
    for y in range(ny):
        for x in range(nx):
            if hits[y, x]:
                for sy in range(max(y - 1, 0), min(y + 2, ny)):
                    for sx in range(max(x - 1, 0), min(x + 2, nx)):
                        fainter = candidates[sy, sx] and data[sy, sx] <= data[y, x]
                        out[sy, sx] = out[sy, sx] or likely[sy, sx] or fainter
    return out


def prepare(plane: Plane) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]] | None:
    """Image without its sky, variance, and pixels without a value of their own; None where there is no other.

    Parameters
    ----------
    plane : Plane
        Calibrated image, ADU, with variance and mask.

    Returns
    -------
    data : float32, shape (ny, nx)
        ADU; 0 where bad.
    variance : float32, shape (ny, nx)
        ADU**2; the middle one where bad.
    bad : bool, shape (ny, nx)
    """
    bad = (plane.mask != 0) | ~np.isfinite(plane.value) | ~(plane.variance > 0)
    if bad.all():
        return None
    ny, nx = plane.value.shape
    # A rough level, and the noise of pixels that count for nothing: a sample will do.
    sample = slice(None, None, max(int(np.count_nonzero(~bad)) // 2**18, 1))
    middle = np.float32(np.median(plane.value[~bad][sample]))
    data = np.ascontiguousarray(np.where(bad, np.float32(0), plane.value - middle), dtype=np.float32)
    data -= sep.Background(data, mask=bad, bw=min(_MESH, nx), bh=min(_MESH, ny)).back(dtype=np.float32)
    data[bad] = 0.0
    _level_lines(data)
    data[bad] = 0.0
    variance = np.where(bad, np.float32(np.median(plane.variance[~bad][sample])), plane.variance).astype(np.float32)
    return data, variance, bad


def _level_lines(data: NDArray[np.float32]) -> None:
    """Subtract what rows and columns have in common that the mesh is too coarse for: at an edge in shadow half a star would look sharp."""
    for line in (data, data.T):
        if line.shape[1] >= 2 * _MESH:
            line -= np.median(line[:, :: max(line.shape[1] // _SAMPLE, 1)], axis=1)[:, np.newaxis]


def _window(y: int, x: int, size: int, border: int, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], int, int]:
    """The tile that begins at (y, x), with a border, inside the frame; and where that begins."""
    y0, x0 = max(y - border, 0), max(x - border, 0)
    return (slice(y0, min(y + size + border, shape[0])), slice(x0, min(x + size + border, shape[1]))), y0, x0


def _tiles(sharp: NDArray[np.bool_], size: int) -> list[tuple[int, int]]:
    """Corners (y, x) of the tiles that have sharp pixels."""
    rows, columns = np.nonzero(sharp)
    return [(int(y), int(x)) for y, x in np.unique(np.stack([rows // size, columns // size]), axis=1).T * size]


def _candidates(data: NDArray[np.float32], variance: NDArray[np.float32], sharp: NDArray[np.bool_], threshold: float) -> NDArray[np.bool_]:
    """What L.A.Cosmic finds, near sharp pixels; its many median filters make up nearly all of the time."""
    out = np.zeros(data.shape, dtype=np.bool_)
    size, corners = _TILE, _tiles(sharp, _TILE)
    if len(corners) * (_TILE + 2 * _BORDER) ** 2 > data.size:
        size, corners = _LARGE_TILE, _tiles(sharp, _LARGE_TILE)
    for tile_y, tile_x in corners:
        # One pixel more than the tile for what touches its hits; the filters reach nine beyond, so that tiles give what the frame would.
        inner, inner_y, inner_x = _window(tile_y, tile_x, size, 1, data.shape)
        outer, outer_y, outer_x = _window(tile_y, tile_x, size, _BORDER, data.shape)
        # Without its mask, which it widens by a pixel, and would so hide hits beside hot pixels: bad pixels are at the sky's level here.
        found = _lacosmic(np.ascontiguousarray(data[outer]), np.ascontiguousarray(variance[outer]), threshold)
        height, width = out[inner].shape
        y, x = inner_y - outer_y, inner_x - outer_x
        out[inner] |= found[y : y + height, x : x + width]
    return out


def _lacosmic(data: NDArray[np.float32], variance: NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    """What `astroscrappy.detect_cosmics` finds in one pass with ``objlim = 0``.

    Its fine structure and its cleaning, two thirds of its time, play no part in that.
    """
    laplacian = astroscrappy.laplaceconvolve(astroscrappy.subsample(data))
    laplacian[laplacian < 0] = 0.0
    significance = astroscrappy.rebin(laplacian)
    significance /= 2.0 * np.sqrt(np.maximum(astroscrappy.sepmedfilt7(variance), np.float32(1e-5)))
    significance -= astroscrappy.sepmedfilt7(significance)
    hits = (significance > threshold).astype(np.uint8)
    low = np.float32(_NEIGHBOUR * threshold)
    return np.asarray((astroscrappy.dilate3(hits) > 0) & (significance > low))


def _sharpness(data: NDArray[np.float32], variance: NDArray[np.float32], bad: NDArray[np.bool_]) -> float:
    for limit in (50.0, 20.0):
        peaks = _star_peaks(data, variance, bad, limit)
        if len(peaks) >= _FEWEST:
            brightest = peaks[np.argsort(-peaks[:, 0], kind="stable")[:_BRIGHTEST]]
            low, middle = np.percentile(brightest[:, 1], [16, 50])
            # Hits and blends make the two tails; only blends, which are on the lower side, may widen the limit.
            return float(middle + _SPREAD * (middle - low))
    return _SHARPEST


def star_sharpness(plane: Plane) -> float:
    """Sharpness that nearly all bright stars of a frame stay below.

    Parameters
    ----------
    plane : Plane
        Calibrated image, ADU, with variance and mask.

    Returns
    -------
    float
        Of the sharper of row, column and diagonals, ``1 / s**2`` for a Gaussian of standard deviation s (pixel): 2.5 for FWHM 1.5, 1.1 for
        2.2, 0.35 for 4.  With fewer than 8 peaks of 20 standard deviations whose neighbours are seen as well, 3.8 (FWHM 1.2).
    """
    prepared = prepare(plane)
    return _SHARPEST if prepared is None else _sharpness(*prepared)


def cosmic_rays(plane: Plane, *, threshold: float = 5.0, sharpness: float | None = None) -> NDArray[np.bool_]:
    """Find pixels hit by cosmic rays.

    Parameters
    ----------
    plane : Plane
        Calibrated image, ADU, with variance and mask.  Pixels with any bit set are neither searched nor trusted, so that hot
        pixels have to be known before.
    threshold : float
        Detection limit of L.A.Cosmic, in standard deviations of the pixel's noise without a hit.
    sharpness : float or None
        `star_sharpness` of frames like this one; None measures it here.

    Returns
    -------
    bool, shape (ny, nx)
        True for hits, and for pixels of their tracks.  Nothing is replaced.  Pixels on the frame's edge are judged along it
        only.

    Notes
    -----
    L.A.Cosmic is given the variance plane, so that neither gain nor read noise matters, and runs once without its own test of
    contrast (``objlim = 0``), which takes undersampled stars for hits.  A hit is a candidate whose sharpness along its row or its
    column exceeds that of the stars by 0.9 with a certainty of 2.5 standard deviations.  Candidates that touch it belong to it
    where they are sharper than the stars with half that certainty, or not brighter than the hit.  A hit that adds less to
    a pixel than a star has there is not found.
    """
    prepared = prepare(plane)
    if prepared is None or min(plane.value.shape) < 9:
        return np.zeros(plane.value.shape, dtype=np.bool_)
    data, variance, bad = prepared
    limit = _sharpness(data, variance, bad) if sharpness is None else sharpness
    sharp = _sharper(data, variance, bad, data > 0, limit + _MARGIN, _CERTAIN, threshold)
    candidates = _candidates(data, variance, sharp, threshold)
    # What touches a hit is part of its track in all likelihood, so that less is asked of it.
    likely = _sharper(data, variance, bad, candidates, limit, 0.5 * _CERTAIN, 0.0)
    hits = sharp & candidates
    return np.asarray(_grow(data, candidates, likely, hits) & ~bad, dtype=np.bool_)
