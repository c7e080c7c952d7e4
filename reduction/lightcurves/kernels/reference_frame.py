"""The frame that a magnitude reference begins with: the one of highest merit."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from reduction.kernels.arrays import BoolArray, FloatArray

__all__ = ["MERITS", "frame_scores", "select_reference"]

#: What a frame is judged by, and whether more of it is better.
MERITS: dict[str, bool] = {
    "fwhm": False,
    "sky_level": False,
    "n_star": True,
    "zero_point": True,
    "airmass": False,
    "zero_point_scatter": False,
    "ellipticity": False,
}


def frame_scores(merits: dict[str, ArrayLike], usable: ArrayLike | None = None) -> dict[str, FloatArray]:
    """How good frames are among each other, merit by merit and in all.

    Each merit is ranked among the usable frames from 0, the worst, to 1, the best, and a frame's score is the mean of its ranks, so that
    neither units nor outliers matter. Unknown values rank in the middle.

    Parameters
    ----------
    merits : dict of str to float64, shape (f,)
        Some of `MERITS`; NaN where unknown.
    usable : bool, shape (f,), optional
        Frames that may be chosen; all where omitted.

    Returns
    -------
    dict of str to float64, shape (f,)
        Ranks by the merits' names, and their mean as ``score``.
    """
    values = {name: np.asarray(v, dtype=np.float64) * (-1.0 if MERITS[name] else 1.0) for name, v in merits.items()}
    shape = next(iter(values.values())).shape
    allowed = np.ones(shape, dtype=np.bool_) if usable is None else np.asarray(usable, dtype=np.bool_)
    ranks = {name: _rank(each, allowed) for name, each in values.items()}
    return {**ranks, "score": np.mean(list(ranks.values()), axis=0)}


def select_reference(score: ArrayLike, usable: ArrayLike | None = None) -> int:
    """Index of the usable frame of highest score, the first of equals; -1 when none is usable."""
    scores = np.asarray(score, dtype=np.float64)
    allowed = np.ones(scores.shape, dtype=np.bool_) if usable is None else np.asarray(usable, dtype=np.bool_)
    return int(np.argmax(np.where(allowed, scores, -np.inf))) if allowed.any() else -1


def _rank(values: FloatArray, allowed: BoolArray) -> FloatArray:
    """Of values of which fewer is better: 1 for the best of those allowed, 0 for the worst."""
    known = np.sort(values[allowed & np.isfinite(values)])
    out = np.full(values.shape, 0.5)
    if known.size > 1 and known[0] < known[-1]:
        better = known.size - np.searchsorted(known, values, side="right")
        equal = np.searchsorted(known, values, side="right") - np.searchsorted(known, values, side="left")
        rank = (better + 0.5 * np.maximum(equal - 1, 0)) / (known.size - 1)
        out = np.where(np.isfinite(values), rank, 0.5)
    return out
