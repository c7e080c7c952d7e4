"""Saturated pixels, the charge trails that leave them, and the pixels beside both."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from reduction.kernels.arrays import Raw

__all__ = ["bleed_mask", "neighbour_mask", "saturated_mask"]


# Saturated pixels side by side that one trail may be as wide as, and pixels without a sign of a trail that do not end it.
_WIDEST = 40
_GAP = 2


def saturated_mask(raw: Raw, saturation: float | None) -> NDArray[np.bool_]:
    """Pixels at or above the saturation level.

    Parameters
    ----------
    raw : real numbers, shape (ny, nx)
        Raw image, ADU, before anything is subtracted.
    saturation : float or None
        Level, ADU; None marks nothing.

    Returns
    -------
    bool, shape (ny, nx)
        NaN is not saturated, +inf is.
    """
    if saturation is None:
        return np.zeros(raw.shape, dtype=np.bool_)
    return np.asarray(raw >= saturation, dtype=np.bool_)


@njit(cache=True)
def _run(saturated: NDArray[np.bool_], y: int, x: int, dy: int, dx: int) -> int:
    """How many saturated pixels follow (y, x) without a gap in the direction (dy, dx)."""
    n = 0
    while n < _WIDEST:
        y, x = y + dy, x + dx
        if not (0 <= y < saturated.shape[0] and 0 <= x < saturated.shape[1] and saturated[y, x]):
            break
        n += 1
    return n


@njit(cache=True)
def _beside(raw: Raw, y: int, x: int, dy: int, dx: int, before: int, after: int) -> float:
    """Highest value two and three pixels beyond both sides of a trail; -inf where there is none."""
    highest = -np.inf
    for far in (2, 3):
        for step in (-(before + far), after + far):
            sy, sx = y + step * dy, x + step * dx
            # A NaN is never higher.
            if 0 <= sy < raw.shape[0] and 0 <= sx < raw.shape[1] and raw[sy, sx] > highest:
                highest = float(raw[sy, sx])
    return highest


@njit(cache=True)
def _follow(
    raw: Raw,
    saturated: NDArray[np.bool_],
    bleed: NDArray[np.bool_],
    start: tuple[int, int, int, int],
    limit: float,
    length: int,
) -> None:
    """Mark the trail that leaves the saturated pixel (y, x) in the direction (dy, dx)."""
    y, x, dy, dx = start
    before, after, last = 0, 0, 0
    # The tip of a round star is narrower than the trail: what counts is its widest part.
    for back in range(_run(saturated, y, x, -dy, -dx) + 1):
        before = max(before, _run(saturated, y - back * dy, x - back * dx, -dx, -dy))
        after = max(after, _run(saturated, y - back * dy, x - back * dx, dx, dy))
    for step in range(1, length + 1):
        py, px = y + step * dy, x + step * dx
        if not (0 <= py < raw.shape[0] and 0 <= px < raw.shape[1]) or saturated[py, px] or step - last > _GAP + 1:
            break
        side = _beside(raw, py, px, dx, dy, before, after)
        if side > -np.inf and raw[py, px] > side + limit:
            last = step
    for step in range(1, last + 1):
        bleed[y + step * dy, x + step * dx] = True


@njit(cache=True)
def _trails(raw: Raw, saturated: NDArray[np.bool_], limit: float, length: int, bleed: NDArray[np.bool_]) -> None:
    """Follow the trails of every saturated pixel at the end of its row or column of saturated pixels."""
    ny, nx = saturated.shape
    for y in range(ny):
        for x in range(nx):
            if saturated[y, x]:
                for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
                    if 0 <= y + dy < ny and 0 <= x + dx < nx and not saturated[y + dy, x + dx]:
                        _follow(raw, saturated, bleed, (y, x, dy, dx), limit, length)


def bleed_mask(
    raw: Raw, saturated: NDArray[np.bool_], *, noise: float = 1.0, threshold: float = 5.0, max_length: int = 200
) -> NDArray[np.bool_]:
    """Charge trails that leave saturated pixels along rows or columns.

    Parameters
    ----------
    raw : real numbers, shape (ny, nx)
        Image, ADU.
    saturated : bool, shape (ny, nx)
        Saturated pixels (see `saturated_mask`).
    noise : float
        Pixel noise of the sky, ADU.
    threshold : float
        A trail's pixel exceeds the pixels two and three beyond both sides of the trail by so many times the noise.
    max_length : int
        Longest trail followed, pixel.

    Returns
    -------
    bool, shape (ny, nx)
        Pixels of trails.  A trail starts at a saturated pixel, is at most as wide as the saturated pixels that it starts from, and
        ends after two pixels that do not stand out; beyond the border and at NaN there is nothing to compare with.  The sharp
        sides of a bright star's image stand out too, so that its innermost wings count as bled.  Saturated pixels themselves are
        not included.  The time it takes follows from the number of saturated pixels.
    """
    bleed = np.zeros(saturated.shape, dtype=np.bool_)
    _trails(raw, saturated, threshold * noise, max_length, bleed)
    return bleed


@njit(cache=True)
def _grow(mask: NDArray[np.bool_], grown: NDArray[np.bool_]) -> None:
    ny, nx = mask.shape
    for y in range(ny):
        for x in range(nx):
            if mask[y, x]:
                for sy in range(max(y - 1, 0), min(y + 2, ny)):
                    for sx in range(max(x - 1, 0), min(x + 2, nx)):
                        grown[sy, sx] = grown[sy, sx] or not mask[sy, sx]


def neighbour_mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels next to marked ones.

    Parameters
    ----------
    mask : bool, shape (ny, nx)
        Marked pixels.

    Returns
    -------
    bool, shape (ny, nx)
        The eight neighbours of every marked pixel that are not marked themselves.
    """
    grown = np.zeros(mask.shape, dtype=np.bool_)
    _grow(mask, grown)
    return grown
