"""Magnitude references: averaged from fitted magnitudes, iterated until they settle.

The first reference is one frame; each next one is the average of all magnitudes fitted against the last (Pal 2009, PhD thesis, sect. 2.8;
Penev et al., arXiv 2507.14289, sect. 3.9).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from reduction.kernels.arrays import BoolArray, FloatArray, IntArray
from reduction.lightcurves.kernels.averages import Averages, average, settled
from reduction.lightcurves.kernels.gauge import free_modes, pinned
from reduction.lightcurves.kernels.magnitude_fit import FrameFits
from reduction.lightcurves.kernels.night_fit import FitChoice, FitRows, FoldReference, NightFit, fit_night, fold_reference

__all__ = ["Iteration", "MagfitResult", "iterate", "least_epochs", "start_reference"]

CYCLE = 4
"""Iterations in which neither the change nor the scatter became smaller: what is left goes round and round."""
CYCLE_CHANGE = 1e-4
"""Change below which such a circle counts as settled (mag)."""
BETTER = 0.999
"""Factor by which a change or a scatter must fall to be smaller."""


@dataclass(frozen=True)
class Iteration:
    """What one iteration reached.

    Attributes
    ----------
    change : float
        Of the reference (mag); see `settled`.
    scatter : float
        Median held-out scatter of the better half of the stars (mag).
    """

    change: float
    scatter: float = np.nan


@dataclass(frozen=True)
class MagfitResult:
    """Result of `iterate`.

    Attributes
    ----------
    reference : Averages
        What the last fits were made against, seen from outside: every star's mean of magnitudes fitted without its fold.
    folds : FoldReference
        The same for the fit without each fold.
    fits : FrameFits
        Fits of all frames against `reference`.
    mag, mag_err : float64, shape (rows,)
        Fitted magnitude; its error from the given sigma and the zero point.
    mean : Averages
        Averages of `mag`, which would be the next reference.
    terms : bool, shape (f, p)
        Terms fitted in each frame.
    history : tuple of Iteration
    converged : bool
    references : tuple of Averages
        The public reference of each iteration, with the scatter of the magnitudes that were fitted to it.
    """

    reference: Averages
    folds: FoldReference
    fits: FrameFits
    mag: FloatArray
    mag_err: FloatArray
    mean: Averages
    terms: BoolArray
    history: tuple[Iteration, ...]
    converged: bool
    references: tuple[Averages, ...]


def iterate(
    frame: ArrayLike,
    star: ArrayLike,
    mag: ArrayLike,
    sigma: ArrayLike,
    design: ArrayLike,
    fold: ArrayLike,
    *,
    start: int | ArrayLike,
    group: ArrayLike,
    eligible: ArrayLike | None = None,
    counts: ArrayLike | None = None,
    factor: ArrayLike | None = None,
    fit_sigma: float = 0.02,
    n_fold: int = 5,
    per_term: float = 5.0,
    clip: float = 6.0,
    min_epochs: int = 5,
    tolerance: float = 3e-5,
    max_iterations: int = 15,
) -> MagfitResult:
    """Fit all frames of a field to a reference, average, and repeat until the reference settles.

    A star's weight falls with its scatter beyond the errors in the iteration before: that of stars of its magnitude, or its own where
    this is larger. Its own scatter may count here, since it never takes part in its own correction.

    Parameters
    ----------
    frame, star, mag, sigma, design, fold, eligible, counts
        As in `FitRows`.
    factor : float64, shape (f,), optional
        What each frame counts for in averages, see `FitRows.weighed`; all alike where omitted.
    start : int or float64, shape (n,)
        Frame whose magnitudes are the first reference, or that reference itself.
    group, fit_sigma, n_fold, per_term, clip
        As in `FitChoice`.
    min_epochs : int
        Stars with fewer eligible measurements (or than half the frames, if that is less) do not fix the fit after the first iteration.
    tolerance : float
        Median change of the reference (mag) at which it has settled. At 1e-4 two runs that stop an iteration apart differ by up to 5 % of a
        1 % dip with 40 stars a frame, at 3e-5 by 1 %. It has settled, too, where it goes in a circle of less than 1e-4.
    max_iterations : int
        Most iterations, at least 1.

    Returns
    -------
    MagfitResult
        What the terms describe of a reference is that of the first: a change of it goes into every frame's fit and leaves the
        fitted magnitudes as they are.

    Raises
    ------
    ValueError
        If there are no measurements, or they are not sorted by frame.
    """
    rows = FitRows.prepare(frame, star, mag, sigma, design, fold, eligible, counts=counts)
    rows = rows if factor is None else rows.weighed(np.asarray(factor)[: rows.ends.size - 1])
    choice = FitChoice(np.asarray(group), n_fold, per_term, clip, fit_sigma)
    public = _first(start, rows)
    first, reference = public.mag, start_reference(public.mag, n_fold, public.err)
    least = least_epochs(min_epochs, rows.ends.size - 1)
    others = np.arange(n_fold)[:, None] != rows.fold
    history: list[Iteration] = []
    references: list[Averages] = []
    held: BoolArray | None = None
    while True:
        fit = fit_night(rows, reference, choice)
        if held is None or not np.array_equal(held, fit.terms.all(axis=0)):
            held = np.asarray(fit.terms.all(axis=0))
            modes = free_modes(rows, held)
        counts = others & (fit.means.n >= least)
        mags = pinned(np.where(counts, fit.means.mag, np.nan), fit.means.err, first, modes)
        following = fold_reference(replace(fit.means, mag=np.where(others, mags, fit.means.mag)), rows.fold, least)
        mean = fit.means.public(rows.fold)
        history.append(_reached(reference, following, mean, others))
        references.append(Averages(public.mag, public.err, mean.scatter, public.n))
        converged = history[-1].change <= tolerance or _goes_round(history)
        if converged or len(history) >= max_iterations:
            break
        reference, public = following, mean
    return _result(public, reference, fit, mean, history, converged, references)


def start_reference(mag: FloatArray, n_fold: int, err: FloatArray | None = None) -> FoldReference:
    """A reference to begin with, the same for all folds.

    Parameters
    ----------
    mag : float64, shape (n,)
        Magnitudes; NaN where unknown.
    n_fold : int
    err : float64, shape (n,), optional
        Their errors; 0 where omitted.
    """
    shape = (n_fold, len(mag))
    errors = np.zeros(len(mag)) if err is None else err
    return FoldReference(np.broadcast_to(mag, shape).copy(), np.broadcast_to(errors, shape).copy(), np.zeros(shape))


def least_epochs(min_epochs: int, n_frame: int) -> int:
    """Measurements that a star needs to fix fits.

    Parameters
    ----------
    min_epochs : int
        Among many frames.
    n_frame : int
        Frames that there are: half of them are enough.
    """
    return min(min_epochs, max(n_frame // 2, 1))


def _result(
    public: Averages,
    reference: FoldReference,
    fit: NightFit,
    mean: Averages,
    history: list[Iteration],
    converged: bool,
    references: list[Averages],
) -> MagfitResult:
    return MagfitResult(
        public, reference, fit.fits, fit.mag, fit.mag_err, mean, fit.terms, tuple(history), converged, tuple(references)
    )  # fmt: skip


def _reached(old: FoldReference, new: FoldReference, mean: Averages, others: BoolArray) -> Iteration:
    """Change of the folds' references, and scatter of the better half of the stars."""
    before, after, error = (np.where(others, values, np.nan).ravel() for values in (old.mag, new.mag, new.err))
    known = np.isfinite(mean.scatter) & np.isfinite(mean.err)
    good = known & (mean.err <= (np.median(mean.err[known]) if known.any() else 0.0))
    return Iteration(settled(before, after, error), float(np.median(mean.scatter[good])) if good.any() else np.nan)


def _goes_round(history: list[Iteration]) -> bool:
    """Whether small changes have stopped falling, and the scatter with them."""
    if len(history) <= CYCLE or history[-1].change > CYCLE_CHANGE:
        return False
    last, before = history[-CYCLE:], history[:-CYCLE]

    def smaller(name: str) -> bool:
        return bool(min(getattr(each, name) for each in last) < BETTER * min(getattr(each, name) for each in before))

    return not smaller("change") and not smaller("scatter")


def _first(start: int | ArrayLike, rows: FitRows) -> Averages:
    n_star: int = rows.fold.size
    if np.ndim(start) == 0:
        inside = np.flatnonzero((rows.frame == start) & rows.eligible)
        return average(rows.star[inside], rows.mag[inside], rows.sigma[inside], n_star)
    given = np.asarray(start, dtype=np.float64)
    number: IntArray = np.isfinite(given).astype(np.int64)
    return Averages(given, np.zeros(n_star), np.full(n_star, np.nan), number)
