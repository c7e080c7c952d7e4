"""Frames of like seeing, for what they may have in common."""

from __future__ import annotations

import numpy as np

from reduction.kernels.arrays import FloatArray

__all__ = ["seeing_groups"]


def seeing_groups(fwhm: FloatArray, tolerance: float, least: int) -> list[list[int]]:
    """Groups of frames whose widths differ little, the largest first chosen and each frame in one at most.

    Parameters
    ----------
    fwhm : float64, shape (n,)
        Width of stars on each frame (pixel).
    tolerance : float
        The widest of a group is at most (1 + tolerance)^2 times as wide as the narrowest, so that none is farther than that from
        one in the middle.
    least : int
        Fewest frames of a group.

    Returns
    -------
    list of list of int
        Numbers of the frames in rising order, groups in the order of their widths.
    """
    left, groups = np.argsort(fwhm, kind="stable"), []
    while len(left) >= least:
        widths = fwhm[left]
        end = np.searchsorted(widths, widths * (1.0 + tolerance) ** 2, side="right")
        begin = int(np.argmax(end - np.arange(len(left))))
        group = left[begin : end[begin]]
        if len(group) < least:
            break
        groups.append(sorted(int(k) for k in group))
        left = np.delete(left, np.s_[begin : end[begin]])
    return sorted(groups, key=lambda group: float(np.median(fwhm[group])))
