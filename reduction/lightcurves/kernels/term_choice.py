"""Order and terms of the magnitude fit, chosen by how well they predict stars that had no say.

Every candidate is fitted to the same frames without each fold in turn; what counts is how far the stars of a fold lie from what the others
say. Of candidates that predict as well as the best, within the error of the difference, the simplest is taken (Breiman et al. 1984,
Classification and Regression Trees, sect. 3.4.3). Differences are paired: the same stars on the same frames, by both candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from reduction.kernels.arrays import BoolArray, FloatArray, IntArray
from reduction.kernels.robust import robust_scatter
from reduction.lightcurves.kernels.magnitude_fit import fit_to_reference

__all__ = ["CandidateScore", "Sample", "TermChoice", "choose_by_held_out", "sampled"]


LIMIT = 6.0
"""Residual, in units of its error, from which on a star is as bad as it can be."""
LEAST_GAIN = 0.002
"""Part of the score by which more terms must lower it: less is worth no coefficient."""


@dataclass(frozen=True)
class Sample:
    """Measurements on some frames, as `fit_to_reference` takes them; `design` has every term that may be chosen."""

    ends: IntArray
    mag: FloatArray
    sigma: FloatArray
    star: IntArray
    reference: FloatArray
    variance: FloatArray
    design: FloatArray
    fold: IntArray
    eligible: BoolArray


@dataclass(frozen=True)
class CandidateScore:
    """How well a set of terms predicts.

    Attributes
    ----------
    name : str
        ``order 2``, or ``+ colour`` for what is chosen so far with one more term.
    n_term : int
    score : float
        Mean squared residual of held-out stars over their squared errors, bounded; NaN where stars are too few to try.
    gain : float
        Of the set chosen before it: its score less this one; of the orders the first's. NaN where it was not tried.
    gain_err : float
        Standard error of the gain, over the stars.
    scatter : float
        1.48 MAD of the residuals of the better measured half (mag).
    chosen : bool
        Whether it was taken.
    """

    name: str
    n_term: int
    score: float
    gain: float
    gain_err: float
    scatter: float
    chosen: bool


@dataclass(frozen=True)
class TermChoice:
    """Terms that are used, bool (p,), and the scores of everything tried, in that order."""

    terms: BoolArray
    scores: tuple[CandidateScore, ...]


def sampled(ends: ArrayLike, most_rows: int) -> IntArray:
    """Frames, evenly spread, that have no more rows together: at least one.

    Parameters
    ----------
    ends : int[f + 1]
        Rows of frame i are ``ends[i]:ends[i + 1]``.
    most_rows : int

    Returns
    -------
    int, shape (k,)
    """
    edges = np.asarray(ends, dtype=np.int64)
    n_frame = edges.size - 1
    wanted = max(int(n_frame * min(most_rows / max(int(edges[-1] - edges[0]), 1), 1.0)), 1)
    return np.unique(((np.arange(wanted) + 0.5) * n_frame / wanted).astype(np.int64))


def choose_by_held_out(
    sample: Sample,
    names: Sequence[str],
    degree: ArrayLike,
    *,
    orders: Sequence[int] | None = None,
    given: ArrayLike | None = None,
    n_fold: int = 5,
    per_term: float = 5.0,
    errors: float = 1.0,
    term_errors: ArrayLike = 3.0,
) -> TermChoice:
    """Choose the degree of the polynomial in position, then the further terms, each tried in turn on what is chosen so far.

    Parameters
    ----------
    sample : Sample
        Of p terms; a few frames do.
    names : sequence of str
        Names of the p terms.
    degree : int, shape (p,)
        Degree of a term in position, 0 for the constant; -1 for further terms, which are tried in this order.
    orders : sequence of int, optional
        Degrees that are tried, rising; all up to the highest where omitted. One alone is taken.
    given : bool, shape (p,), optional
        Further terms that are used in any case, and not tried.
    n_fold : int
        Folds.
    per_term : float
        Stars that a term needs, see `choose_terms`: what the median frame has too few for is not tried.
    errors : float
        Standard errors by which the best order may be better than the simplest that is taken.
    term_errors : float or float64, shape (p,)
        Standard errors by which each further term must be better: many are tried, and one in six gains one error by chance.

    Returns
    -------
    TermChoice
    """
    degrees = np.asarray(degree)
    always = np.zeros(degrees.size, dtype=np.bool_) if given is None else np.asarray(given, dtype=np.bool_)
    trial = _Trial(sample, n_fold, per_term)
    wanted = range(int(degrees.max()) + 1) if orders is None else orders
    sets = [(f"order {order}", (degrees >= 0) & (degrees <= order) | always) for order in wanted]
    tried = [(name, terms, trial.residuals(terms)) for name, terms in sets]
    trial = trial.with_floor([found for *_, found in tried if found is not None])
    losses = [None if found is None else trial.losses(found[0]) for *_, found in tried]
    means = [np.inf if loss is None or not np.isfinite(loss).any() else float(np.nanmean(loss)) for loss in losses]
    best = means.index(min(means))
    gains = [trial.gain(losses[0], loss) for loss in losses]
    good = (k for k, loss in enumerate(losses) if loss is not None and not trial.is_better(loss, losses[best], errors))
    simplest = next(good, 0)
    scores = [
        trial.scored(name, terms, loss, gain, k == simplest)
        for k, ((name, terms, _), loss, gain) in enumerate(zip(tried, losses, gains, strict=True))
    ]
    chosen, loss = tried[simplest][1], losses[simplest]
    needed = np.broadcast_to(np.asarray(term_errors, dtype=np.float64), degrees.shape)
    for k in np.flatnonzero((degrees < 0) & ~always):
        more = chosen.copy()
        more[k] = True
        found = trial.residuals(more)
        new = None if found is None else trial.losses(found[0])
        better = new is not None and trial.is_better(loss, new, float(needed[k]))
        scores.append(trial.scored(f"+ {names[int(k)]}", more, new, trial.gain(loss, new), better))
        if better:
            chosen, loss = more, new
    return TermChoice(chosen, tuple(scores))


@dataclass(frozen=True)
class _Trial:
    """Fits of the sample with sets of terms, and what their residuals come to."""

    sample: Sample
    n_fold: int
    per_term: float
    floor: FloatArray | None = None

    def residuals(self, terms: BoolArray) -> tuple[FloatArray, FloatArray] | None:
        """Residuals of the held-out stars, NaN of others, and the floors of the frames; None where stars are too few."""
        s = self.sample
        offered = np.bincount(self._frame()[s.eligible & np.isfinite(s.mag)], minlength=s.ends.size - 1)
        if np.count_nonzero(terms) > 1 and np.median(offered) < self.per_term * np.count_nonzero(terms):
            return None
        fits = fit_to_reference(
            *(s.ends, s.mag, s.sigma, s.star, s.reference, s.variance, np.ascontiguousarray(s.design[:, terms]), s.fold, self.n_fold),
            eligible=s.eligible,
        )
        reference = np.atleast_2d(s.reference)[-1][s.star]
        return np.where(s.eligible, s.mag - reference - fits.fitted, np.nan), fits.floor

    def with_floor(self, found: list[tuple[FloatArray, FloatArray]]) -> _Trial:
        """With one floor for all candidates: the least that any leaves, so that none is weighed by its own faults."""
        if not found:
            return self
        floors = np.array([floor for _, floor in found])
        return replace(self, floor=np.where(np.isfinite(floors).any(axis=0), np.nanmin(np.nan_to_num(floors, nan=np.inf), axis=0), 0.0))

    def losses(self, residual: FloatArray) -> FloatArray:
        """Tukey's loss of every residual, its square over the error's where that is small; NaN where there is none."""
        u2 = residual**2 / self._error2() / LIMIT**2
        return np.asarray(LIMIT**2 / 3.0 * (1.0 - np.maximum(1.0 - u2, 0.0) ** 3), dtype=np.float64)

    def gain(self, before: FloatArray | None, after: FloatArray | None) -> tuple[float, float]:
        """Mean of what the loss falls by, and its standard error over the stars: what one gains on all frames is one gain.

        Not over frames: a term that few of them need is needed.
        """
        if before is None or after is None:
            return np.nan, np.nan
        change = before - after
        use = np.isfinite(change)
        if not use.any():
            return np.nan, np.nan
        return float(change[use].mean()), _error_of_mean(change[use], self.sample.star[use])

    def is_better(self, before: FloatArray | None, after: FloatArray | None, errors: float) -> bool:
        """Whether the loss falls by more than its error, and by enough to be worth it."""
        gain, error = self.gain(before, after)
        return before is not None and gain > errors * error and gain > LEAST_GAIN * float(np.nanmean(before))

    def scored(self, name: str, terms: BoolArray, loss: FloatArray | None, gain: tuple[float, float], chosen: bool) -> CandidateScore:
        n_term = int(np.count_nonzero(terms))
        if loss is None or not np.isfinite(loss).any():
            return CandidateScore(name, n_term, np.nan, np.nan, np.nan, np.nan, False)
        good = np.isfinite(loss) & (self.sample.sigma <= np.median(self.sample.sigma[np.isfinite(loss)]))
        # The loss of a residual is undone: it grows with it up to the limit.
        u = LIMIT * np.sqrt(1.0 - np.cbrt(np.maximum(1.0 - 3.0 * loss[good] / LIMIT**2, 0.0)))
        return CandidateScore(name, n_term, float(np.nanmean(loss)), *gain, robust_scatter(u * np.sqrt(self._error2()[good])), chosen)

    def _error2(self) -> FloatArray:
        s = self.sample
        floor = np.zeros(s.ends.size - 1) if self.floor is None else self.floor
        return np.asarray(s.sigma**2 + np.atleast_2d(s.variance)[-1][s.star] + floor[self._frame()] ** 2, dtype=np.float64)

    def _frame(self) -> IntArray:
        return np.repeat(np.arange(self.sample.ends.size - 1), np.diff(self.sample.ends))


def _error_of_mean(values: FloatArray, group: IntArray) -> float:
    """Standard error of the mean, where values of a group may be all alike; 0 of one group."""
    _, which = np.unique(group, return_inverse=True)
    n_group = int(which.max()) + 1
    if n_group < 2:
        return 0.0
    total = np.bincount(which, values - values.mean())
    return float(np.sqrt(np.sum(total**2) * n_group / (n_group - 1)) / values.size)
