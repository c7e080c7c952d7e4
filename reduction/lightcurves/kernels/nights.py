"""Mean magnitudes of nights brought together, night by night, into those of a field: what the next reference is made of."""

from __future__ import annotations

import numpy as np

from reduction.kernels.arrays import FloatArray, IntArray
from reduction.lightcurves.kernels.night_fit import FoldMeans, FoldReference

__all__ = ["MeansOfNights"]

NIGHT_FLOOR = 0.001
"""By which a constant star's nightly means differ beyond their errors (mag): a night of many frames does not count for all others."""
FAR = 3.0
"""Errors by which a night may be off before it loses weight (Huber's)."""


class MeansOfNights:
    """Sums of nightly means, by star and fold; nights are added in any order, and none is kept.

    A night's mean has the weight ``1 / (err^2 + NIGHT_FLOOR^2)``, less where it is far from the reference that it was fitted to: a
    night gone wrong does not carry a star away, and one that is right again and again does.
    """

    def __init__(self, n_fold: int = 5) -> None:
        self._ids: IntArray = np.zeros(0, dtype=np.int64)
        self._sums = {name: np.zeros((n_fold, 0)) for name in ("centre", "weight", "first", "second", "n", "scatter", "seen", "nights")}
        self._variance: FloatArray = np.zeros(0)

    @property
    def source_id(self) -> IntArray:
        """Stars met so far, rising."""
        return self._ids

    def add(self, source_id: IntArray, means: FoldMeans, reference: FoldReference) -> None:
        """Add a night.

        Parameters
        ----------
        source_id : int, shape (n,)
            Its stars, rising.
        means : FoldMeans
            Of these stars.
        reference : FoldReference
            What they were fitted to; NaN where it does not have the star.
        """
        self._widen(source_id)
        at = np.searchsorted(self._ids, source_id)
        sums = self._sums
        centre = sums["centre"][:, at]
        centre = np.where(np.isfinite(centre), centre, np.where(np.isfinite(reference.mag), reference.mag, means.mag))
        sums["centre"][:, at] = centre
        known = np.isfinite(means.mag) & (means.err > 0)
        variance = means.err**2 + NIGHT_FLOOR**2
        off = np.abs(means.mag - centre) / np.sqrt(variance + np.nan_to_num(reference.err) ** 2)
        weight = np.where(known, np.minimum(1.0, FAR / np.fmax(off, FAR)) / variance, 0.0)
        away = np.where(known, means.mag - centre, 0.0)
        number = np.where(known, means.n, 0)
        told = known & np.isfinite(means.scatter)
        for name, values in (
            ("weight", weight),
            ("first", weight * away),
            ("second", weight * away**2),
            ("n", number),
            ("seen", np.where(told, number, 0)),
            ("scatter", np.where(told, number * means.scatter**2, 0.0)),
            ("nights", known),
        ):
            sums[name][:, at] += values
        self._variance[at] += np.where(means.n > 0, means.n * np.nan_to_num(means.variance), 0.0)

    def means_of(self, source_id: IntArray) -> FoldMeans:
        """Means over the nights, of stars that may not all have been met: these have NaN.

        The scatter is that of a single measurement, with what a star's nights differ by.
        """
        self._widen(source_id)
        at = np.searchsorted(self._ids, source_id)
        s = {name: values[:, at] for name, values in self._sums.items()}
        with np.errstate(invalid="ignore", divide="ignore"):
            away = s["first"] / s["weight"]
            between = np.maximum(s["second"] / s["weight"] - away**2, 0.0)
            expected = 1.0 / np.sqrt(s["weight"])
            met = np.sqrt(between / np.maximum(s["nights"] - 1.0, 1.0))
            scatter = np.sqrt(s["scatter"] / s["seen"] + np.where(s["nights"] > 1, between, 0.0))
            n = s["n"].max(axis=0).astype(np.int64)
            variance = self._variance[at] / n
        error = np.where(s["nights"] > 1, np.maximum(expected, met), expected)
        return FoldMeans(s["centre"] + away, np.where(np.isfinite(away), error, np.nan), scatter, n, variance)

    def _widen(self, source_id: IntArray) -> None:
        ids = np.union1d(self._ids, source_id)
        if ids.size == self._ids.size:
            return
        at = np.searchsorted(ids, self._ids)
        for name, values in self._sums.items():
            wider = np.full((len(values), ids.size), np.nan if name == "centre" else 0.0)
            wider[:, at] = values
            self._sums[name] = wider
        variance = np.zeros(ids.size)
        variance[at] = self._variance
        self._ids, self._variance = ids, variance
