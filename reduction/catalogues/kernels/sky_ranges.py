"""Pieces of sky as half-open ranges [lo, hi) of HEALPix pixels of order 29, nested."""

from __future__ import annotations

import hpgeom
import numpy as np
import numpy.typing as npt

from reduction.kernels.arrays import IntArray

__all__ = ["ORDER", "cell_circle", "cell_range", "circle_ranges", "subtract", "to_cells", "union"]


#: Order of the pixels that ranges count.
ORDER = 29


def union(ranges: IntArray) -> IntArray:
    """The same sky in ascending, disjoint ranges that do not touch.

    Parameters
    ----------
    ranges : int64, shape (n, 2)
        Ranges [lo, hi), in any order; empty ones are left out.

    Returns
    -------
    int64, shape (m, 2)
    """
    ranges = np.asarray(ranges, dtype=np.int64).reshape(-1, 2)
    ranges = ranges[ranges[:, 1] > ranges[:, 0]]
    if len(ranges) == 0:
        return ranges
    ranges = ranges[np.argsort(ranges[:, 0], kind="stable")]
    end = np.maximum.accumulate(ranges[:, 1])
    first = np.flatnonzero(np.r_[True, ranges[1:, 0] > end[:-1]])
    return np.column_stack([ranges[first, 0], end[np.r_[first[1:] - 1, len(ranges) - 1]]])


def subtract(ranges: IntArray, held: IntArray) -> IntArray:
    """What of some sky is not in another.

    Parameters
    ----------
    ranges, held : int64, shapes (n, 2) and (m, 2)
        Ranges [lo, hi), in any order.

    Returns
    -------
    int64, shape (k, 2)
        Ascending and disjoint.
    """
    wanted, taken = union(ranges), union(held)
    edges = np.unique(np.concatenate([wanted.ravel(), taken.ravel()]))
    if len(edges) < 2:
        return np.zeros((0, 2), dtype=np.int64)
    pieces = np.column_stack([edges[:-1], edges[1:]])
    return union(pieces[_inside(pieces[:, 0], wanted) & ~_inside(pieces[:, 0], taken)])


def _inside(pixel: IntArray, ranges: IntArray) -> npt.NDArray[np.bool_]:
    """Whether pixels lie in disjoint ascending ranges: an odd number of edges lies before them."""
    return np.asarray(np.searchsorted(ranges.ravel(), pixel, side="right") % 2 == 1)


def circle_ranges(ra: float, dec: float, radius: float, order: int) -> IntArray:
    """Ranges of the pixels of an order that overlap a circle.

    Parameters
    ----------
    ra, dec, radius : float
        Degrees.
    order : int
        0 to 29; pixels have sides of 58.6 / 2^order degrees.

    Returns
    -------
    int64, shape (n, 2)
        Ascending and disjoint; together they hold the whole circle.
    """
    found = hpgeom.query_circle(2**order, ra % 360.0, dec, max(radius, 1e-9), inclusive=True, nest=True, lonlat=True, degrees=True)
    pixels = np.unique(np.asarray(found, dtype=np.int64))
    shift = 2 * (ORDER - order)
    return union(np.column_stack([pixels << shift, (pixels + 1) << shift]))


def to_cells(ranges: IntArray, order: int) -> list[tuple[int, int]]:
    """The fewest HEALPix pixels, none larger than those of an order, that are exactly some ranges.

    Parameters
    ----------
    ranges : int64, shape (n, 2)
        Ranges [lo, hi).
    order : int
        Lowest order of the answer's pixels.

    Returns
    -------
    list of (order, pixel)
        Ascending on the sky.
    """
    cells = []
    largest = 2 * (ORDER - order)
    for lo, hi in union(ranges).tolist():
        while lo < hi:
            aligned = (lo & -lo).bit_length() - 1 if lo else largest
            shift = min(largest, aligned, (hi - lo).bit_length() - 1)
            shift -= shift % 2
            cells.append((ORDER - shift // 2, lo >> shift))
            lo += 1 << shift
    return cells


def cell_range(order: int, pixel: int) -> tuple[int, int]:
    """Range [lo, hi) of one pixel of an order.

    Parameters
    ----------
    order, pixel : int
        HEALPix, nested.
    """
    shift = 2 * (ORDER - order)
    return pixel << shift, (pixel + 1) << shift


def cell_circle(order: int, pixel: int) -> tuple[float, float, float]:
    """A circle that holds one pixel: right ascension, declination, radius in degrees.

    Parameters
    ----------
    order, pixel : int
        HEALPix, nested.
    """
    ra, dec = hpgeom.pixel_to_angle(2**order, pixel, nest=True, lonlat=True, degrees=True)
    # Boundaries of HEALPix pixels are no great circles: the corners and eight points of each edge, and a little more.
    edge_ra, edge_dec = hpgeom.boundaries(2**order, pixel, step=8, nest=True, lonlat=True, degrees=True)
    a, d = np.radians(np.ravel(edge_ra)), np.radians(np.ravel(edge_dec))
    a0, d0 = np.radians(float(ra)), np.radians(float(dec))
    half = np.sin((d - d0) / 2) ** 2 + np.cos(d) * np.cos(d0) * np.sin((a - a0) / 2) ** 2
    radius = 2 * np.arcsin(np.sqrt(np.clip(half, 0, 1))).max()
    return float(ra), float(dec), float(np.degrees(radius)) * 1.02 + 1e-6
