"""Pixels that show something else than sky: discs about sources, and the charge that saturated stars spill along columns or rows."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

__all__ = ["object_mask", "trail_tails"]

# Pixels along a trail that are looked at together, and how far their mean has to stand out of its noise.
_BLOCK = 8
_STANDS_OUT = 1.5
# Shortest run of spilled pixels that is a trail, and longest tail that is followed.
_SHORTEST = 8
_LONGEST = 400
# Pixels to either side of a trail that it is compared with, beyond a gap.
_GAP = 2
_FLANK = 4


@njit(cache=True)
def _mark_capsule(mask: NDArray[np.bool_], x: float, y: float, radius: float, dx: float, dy: float, half_width: float) -> None:
    """Mark the disc about (x, y) and the strip from there to (x + dx, y + dy)."""
    ny, nx = mask.shape
    length2 = dx * dx + dy * dy
    reach = max(radius, half_width) if length2 > 0.0 else radius
    first_x, last_x = max(math.ceil(min(x, x + dx) - reach), 0), min(math.floor(max(x, x + dx) + reach), nx - 1)
    first_y, last_y = max(math.ceil(min(y, y + dy) - reach), 0), min(math.floor(max(y, y + dy) + reach), ny - 1)
    for iy in range(first_y, last_y + 1):
        for ix in range(first_x, last_x + 1):
            px, py = ix - x, iy - y
            inside = px * px + py * py <= radius * radius
            if not inside and length2 > 0.0:
                t = min(max((px * dx + py * dy) / length2, 0.0), 1.0)
                inside = (px - t * dx) ** 2 + (py - t * dy) ** 2 <= half_width * half_width
            if inside:
                mask[iy, ix] = True


@njit(cache=True)
def _mark_all(mask: NDArray[np.bool_], table: NDArray[np.float64]) -> None:
    for row in table:
        # Also false for NaN and for positions too far off for an integer.
        if abs(row[0]) < 1e8 and abs(row[1]) < 1e8 and row[2] >= 0.0:
            _mark_capsule(mask, row[0], row[1], row[2], row[3], row[4], row[5])


def object_mask(
    shape: tuple[int, int],
    x: ArrayLike,
    y: ArrayLike,
    radius: ArrayLike,
    *,
    trail_x: ArrayLike = 0.0,
    trail_y: ArrayLike = 0.0,
    trail_half_width: ArrayLike = 2.0,
) -> NDArray[np.bool_]:
    """Pixels covered by sources and their charge trails.

    Parameters
    ----------
    shape : (ny, nx)
        Shape of the frame.
    x, y : float64, shape (n,)
        Positions, pixel; sources off the frame still mark what reaches into it; NaN marks nothing.
    radius : float64, shape (n,) or scalar
        Radius of the disc, pixel: a pixel is marked when its centre is inside or on it.
    trail_x, trail_y : float64, shape (n,) or scalar
        Where the trail ends, relative to the source, pixel; 0, 0 for none.
    trail_half_width : float64, shape (n,) or scalar
        Half width of the trail, pixel.

    Returns
    -------
    bool, shape (ny, nx)
        True where the sky is not to be measured.
    """
    columns = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (x, y, radius, trail_x, trail_y, trail_half_width)))
    table = np.stack([column.ravel() for column in columns], axis=1)
    mask = np.zeros(shape, dtype=np.bool_)
    _mark_all(mask, table)
    return mask


@njit(cache=True)
def _block_stands_out(data: NDArray[np.float32], spilled: NDArray[np.bool_], line: int, first: int, last: int, limit: float) -> bool:
    """Whether column `line`, rows first to last, is brighter than both of its sides together."""
    inside, n, beside, m = 0.0, 0, 0.0, 0
    for y in range(first, last + 1):
        if np.isfinite(data[y, line]):
            inside += data[y, line]
            n += 1
        for away in range(_GAP + 1, _GAP + _FLANK + 1):
            for x in (line - away, line + away):
                if 0 <= x < data.shape[1] and not spilled[y, x] and np.isfinite(data[y, x]):
                    beside += data[y, x]
                    m += 1
    return n > 0 and m > 0 and inside / n - beside / m > limit * math.sqrt(1.0 / n + 1.0 / m)


@njit(cache=True)
def _follow(
    data: NDArray[np.float32], spilled: NDArray[np.bool_], end: tuple[int, int, int], limit: float, tails: NDArray[np.bool_]
) -> None:
    """Mark the tail of a trail in a column, from its end on; it ends where two blocks do not stand out."""
    line, y, sense = end
    ny, nx = data.shape
    dim, length = 0, 0
    while dim < 2 and length < _LONGEST:
        near, far = y + sense, y + sense * _BLOCK
        first, last = max(min(near, far), 0), min(max(near, far), ny - 1)
        if first > last:
            break
        if _block_stands_out(data, spilled, line, first, last, limit):
            dim = 0
            tails[max(min(first, y), 0) : max(last, y) + 1, max(line - 1, 0) : min(line + 2, nx)] = True
        else:
            dim += 1
        y, length = far, length + _BLOCK


@njit(cache=True)
def _tails(data: NDArray[np.float32], spilled: NDArray[np.bool_], limit: float, tails: NDArray[np.bool_]) -> None:
    ny, nx = data.shape
    run = np.zeros(nx, np.int64)
    for y in range(ny + 1):
        for x in range(nx):
            if y < ny and spilled[y, x]:
                run[x] += 1
                continue
            if run[x] >= _SHORTEST:
                _follow(data, spilled, (x, y - 1, 1), limit, tails)
                _follow(data, spilled, (x, y - run[x], -1), limit, tails)
            run[x] = 0


def trail_tails(data: NDArray[np.float32], spilled: NDArray[np.bool_], noise: float) -> NDArray[np.bool_]:
    """Faint ends of the trails that saturated stars leave along columns or rows.

    Parameters
    ----------
    data : float32, shape (ny, nx)
        Image, ADU.
    spilled : bool, shape (ny, nx)
        Saturated pixels and the bright part of their trails; runs of 8 pixels and more along a column or a row are followed.
    noise : float
        Standard deviation of a sky pixel, ADU.

    Returns
    -------
    bool, shape (ny, nx)
        Pixels of tails, three wide: eight together stand out of the pixels three to six to either side by 1.5 times the noise of
        the difference.  A tail ends after two blocks that do not, at the frame's border, or after 400 pixels.
    """
    tails = np.zeros(spilled.shape, dtype=np.bool_)
    if spilled.any():
        _tails(np.ascontiguousarray(data, np.float32), np.ascontiguousarray(spilled), _STANDS_OUT * noise, tails)
        along = np.zeros(spilled.shape[::-1], dtype=np.bool_)
        _tails(np.ascontiguousarray(data.T, np.float32), np.ascontiguousarray(spilled.T), _STANDS_OUT * noise, along)
        tails |= along.T
    return tails
