"""What a frame covers, as ranges of HEALPix pixels.

Ranges of nested pixels of one high order are a MOC (IVOA Multi-Order Coverage map 2.0, 2022), and a table of
them answers "was this position observed?" with the comparison of two integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import hpgeom
import numpy as np
import numpy.typing as npt

from reduction.astrometry.kernels.wcs import PlateSolution
from reduction.kernels.arrays import IntArray

__all__ = ["BUCKET_SHIFT", "CoverageRanges", "coverage_ranges"]


#: The bucket of a HEALPix pixel of order 29, nested, is pixel >> BUCKET_SHIFT: its pixel of order 6.
BUCKET_SHIFT = 46
ORDER = 29
BUCKET_ORDER = 6
CELL = 58.6323  # degree; side of a HEALPix pixel of order 0 taken as a square
CELLS_PER_DIAGONAL = 128


@dataclass(frozen=True)
class CoverageRanges:
    """Half-open ranges of HEALPix pixels (order 29, nested): arrays of equal length n, ascending and disjoint.

    Attributes
    ----------
    bucket : int64, shape (n,)
        Pixel of order 6 that holds the range; none crosses the border of one. A position is covered
        where bucket = healpix >> 46 and lo <= healpix < hi.
    lo, hi : int64, shape (n,)
        First pixel of the range, and the one after its last.
    """

    bucket: IntArray
    lo: IntArray
    hi: IntArray

    def covers(self, healpix: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether pixels of order 29, nested, are in any of the ranges."""
        pixel = np.asarray(healpix, dtype=np.int64)
        place = np.searchsorted(self.lo, pixel, side="right") - 1
        return (place >= 0) & (pixel < np.append(self.hi, 0)[place])


def coverage_ranges(solution: PlateSolution) -> CoverageRanges:
    """HEALPix cells whose centre lies on the frame.

    Parameters
    ----------
    solution : PlateSolution
        Of the frame. Its distortion counts: the borders may be curved.

    Returns
    -------
    CoverageRanges
        Empty where the solution has no centre. A cell's side is 1/128 of the frame's diagonal, within
        a factor of sqrt(2), which makes some hundreds of ranges a frame.
    """
    ra, dec = solution.centre
    radius = solution.radius
    if not np.isfinite([ra, dec, radius]).all():
        none = np.zeros(0, np.int64)
        return CoverageRanges(none, none, none)
    side = 2.0 * radius / CELLS_PER_DIAGONAL
    order = int(np.clip(round(float(np.log2(CELL / side))), BUCKET_ORDER, ORDER))
    # a border can bulge beyond the corners, though never by much
    around = hpgeom.query_circle(2**order, ra, dec, min(1.05 * radius, 90.0), nest=True, lonlat=True, degrees=True)
    on_frame = solution.inside(*solution.project(*hpgeom.pixel_to_angle(2**order, around, nest=True, lonlat=True, degrees=True)))
    return _ranges(np.sort(np.asarray(around[on_frame], dtype=np.int64)), order)


def _ranges(pixel: IntArray, order: int) -> CoverageRanges:
    """Runs of consecutive `pixel` (ascending) of an order, cut at the borders of buckets."""
    shift = 2 * (ORDER - order)
    bucket = pixel >> (BUCKET_SHIFT - shift)
    cut = np.flatnonzero((np.diff(pixel) != 1) | (np.diff(bucket) != 0)) + 1
    ends = np.unique(np.concatenate([[0], cut, [len(pixel)]])).astype(np.int64)
    return CoverageRanges(bucket[ends[:-1]], pixel[ends[:-1]] << shift, (pixel[ends[1:] - 1] + 1) << shift)
