"""What no data hold of a reference: changes that every frame's fit takes up whole. They stay as the first reference has them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from reduction.kernels.arrays import BoolArray, FloatArray
from reduction.kernels.compiled import scatter_about
from reduction.lightcurves.kernels.night_fit import FitRows

__all__ = ["free_modes", "pinned"]

MODE_ROUNDS = 10
"""Fits and averages that leave of the terms what no data hold."""
LEAST_ERROR = 1e-4
"""Of a reference magnitude: none is better known where its change is weighed (mag)."""


def free_modes(rows: FitRows, held: BoolArray) -> FloatArray:
    """Changes of the reference (n, p) that every frame's fit takes up whole: nothing in the data holds them.

    With the same terms at the same places in all frames they are the terms themselves. Where stars move over the detector, or are not in
    every frame, what a fit and an average leave of the terms comes nearer to them each time.

    Parameters
    ----------
    rows : FitRows
    held : bool, shape (q,)
        Terms that all frames are fitted with: p of them.

    Returns
    -------
    float64, shape (n, p)
        One column a mode (mag).
    """
    use = np.flatnonzero(rows.eligible & np.isfinite(rows.design).all(axis=1))
    star, design = rows.star[use], rows.design[use][:, held]
    ends = np.searchsorted(rows.frame[use], np.arange(rows.ends.size))
    number = np.maximum(np.bincount(star, minlength=rows.fold.size), 1)[:, None]

    def mean(values: FloatArray) -> FloatArray:
        return np.stack([np.bincount(star, column, rows.fold.size) for column in values.T], axis=1) / number

    modes = mean(design)
    for _ in range(MODE_ROUNDS):
        fitted = modes[star]
        for first, last in pairwise(ends):
            terms = design[first:last]
            fitted[first:last] = terms @ np.linalg.lstsq(terms, fitted[first:last], rcond=1e-12)[0]
        modes = mean(fitted)
    return modes


def pinned(mag: FloatArray, err: FloatArray, first: FloatArray, modes: FloatArray) -> FloatArray:
    """Magnitudes of a next reference with what no data hold as the first reference has it, for each fold by itself.

    Otherwise the folds' systems would drift apart, and on for ever. To bring them together by each other would let a star see itself:
    the modes are not quite what the fits take up. But constants are, and by these the magnitudes of all folds agree.

    Parameters
    ----------
    mag, err : float64, shape (n_fold, n)
        Of the next reference; NaN for a star's own fold.
    first : float64, shape (n,)
        The first reference.
    modes : float64, shape (n, p)
        See `free_modes`.
    """
    held = np.array([each - _along(modes, each - first, error) for each, error in zip(mag, err, strict=True)])
    known = np.isfinite(held)
    common = np.where(known, held, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    shift = [float(np.median((one - common)[there])) if there.any() else 0.0 for one, there in zip(held, known, strict=True)]
    return np.asarray(held - np.array(shift)[:, None], dtype=np.float64)


def _along(modes: FloatArray, change: FloatArray, err: FloatArray) -> FloatArray:
    """What a change has of the modes, by robust least squares."""
    use = np.isfinite(change) & np.isfinite(err)
    if np.count_nonzero(use) < 2 * modes.shape[1]:
        return np.full(change.shape, float(np.median(change[use])) if use.any() else 0.0)
    terms, values, weight = modes[use], change[use], 1.0 / np.maximum(err[use], LEAST_ERROR)
    left: FloatArray = values - np.median(values)
    coeff: FloatArray = np.zeros(modes.shape[1])
    for _ in range(3):
        pull = np.abs(left) * weight
        robust = weight * (pull <= 5.0 * max(scatter_about(pull, 0.0), 1e-9))
        coeff = np.asarray(np.linalg.lstsq(terms * robust[:, None], values * robust, rcond=1e-10)[0], dtype=np.float64)
        left = values - terms @ coeff
    return np.asarray(modes @ coeff, dtype=np.float64)
