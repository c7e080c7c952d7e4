"""Magnitudes of all stars and terms of all frames of a season, solved together.

The magnitude fit and the average of what it fitted, in turn, come to the solution of one least-squares problem: magnitude of the star plus
terms of the frame, for every measurement. Here that problem is solved as it stands, as a second method and as the judge of the first. The
terms of a frame meet no other frame's, so that they are eliminated frame by frame, and conjugate gradients solve what is left for the
stars (Hestenes & Stiefel 1952; the elimination as in the block adjustment of plates, Eichhorn & Jefferys 1971, and in ubercalibration,
Padmanabhan et al. 2008, ApJ 674, 1217). Frames are passed one after the other: a night at a time will do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from reduction.kernels.arrays import BoolArray, FloatArray, IntArray
from reduction.kernels.robust import MAD_TO_SIGMA
from reduction.lightcurves.kernels.frame_fit import inverse_of
from reduction.lightcurves.kernels.magnitude_fit import choose_terms

__all__ = ["SeasonSolution", "solve_season"]


HUBER_ROUNDS = 4
"""Rounds with Huber's weights before Tukey's: the start may be far off."""
HUBER_TUNING = 1.345
OWN_SCATTER_EPOCHS = 20
"""Measurements from which on a star's own scatter is known well enough to weigh it."""
START_FLOOR = 0.02
"""Scatter beyond the errors (mag) before it is known."""
SOLVED, EXACT = 1e-16, 1e-11
"""The gradients end where the squared residual of the star system is so small a part of the first, or moves no star by so many mag."""
MOST_GRADIENTS = 2000


@dataclass(frozen=True)
class SeasonSolution:
    """Result of `solve_season`.

    Attributes
    ----------
    star_mag : float64, shape (n,)
        Magnitude of each star, from all; NaN where no measurement of it counts.
    coeff_all : float64, shape (f, p)
        Terms of each frame, from all stars, for display: a star would correct itself. 0 where unused.
    coeff : float64, shape (f, n_fold, p)
        The same for the stars of each fold, of the season solved without them.
    mag : float64, shape (rows,)
        Magnitude of each measurement less the terms for its star's fold.
    weight : float64, shape (rows,)
        Last weight in the solution of all (1/mag^2); 0: not used.
    floor : float64, shape (f,)
        Scatter of each frame beyond the errors (mag).
    rounds : int
        Reweightings of the solution of all.
    change : float
        Largest change of a star's magnitude in the last of them (mag).
    """

    star_mag: FloatArray
    coeff_all: FloatArray
    coeff: FloatArray
    mag: FloatArray
    weight: FloatArray
    floor: FloatArray
    rounds: int
    change: float


def solve_season(
    frame: ArrayLike,
    star: ArrayLike,
    mag: ArrayLike,
    sigma: ArrayLike,
    design: ArrayLike,
    fold: ArrayLike,
    *,
    start: ArrayLike,
    group: ArrayLike,
    eligible: ArrayLike | None = None,
    n_fold: int = 5,
    per_term: float = 5.0,
    clip: float = 6.0,
    tolerance: float = 1e-6,
    most_rounds: int = 30,
) -> SeasonSolution:
    """Solve for all stars and frames at once, robustly, and without each fold in turn.

    Parameters
    ----------
    frame, star : int, shape (rows,)
        Frame (0 to f - 1, rows sorted by it) and star (0 to n - 1) of each measurement.
    mag, sigma : float64, shape (rows,)
        Instrumental magnitude and error; NaN where unusable.
    design : float64, shape (rows, p)
        Terms of each measurement, of the order of one.
    fold : int, shape (n,)
        Fold of each star, 0 to n_fold - 1.
    start : float64, shape (n,)
        The first reference, NaN where it has none. What the terms describe of the magnitudes and no data hold stays as it has it.
    group : int, shape (p,)
        Order in which terms are dropped where stars are few, see `choose_terms`.
    eligible : bool, shape (rows,), optional
        Measurements that count (all when omitted); the others are only corrected.
    n_fold, per_term
        As in `fit_frames` and `choose_terms`.
    clip : float
        Residual, in units of its error, at which a measurement's weight reaches zero.
    tolerance : float
        Change of every star's magnitude (mag) at which the weights have settled.
    most_rounds : int
        Most reweightings.

    Returns
    -------
    SeasonSolution

    Raises
    ------
    ValueError
        If the measurements are not sorted by frame, or there are none.
    """
    frames, stars, folds = (np.ascontiguousarray(v, dtype=np.int64) for v in (frame, star, fold))
    if frames.size == 0 or (np.diff(frames) < 0).any():
        raise ValueError(f"measurements must be sorted by frame and at least one, got {frames.size}")
    mags, sigmas, x = (np.ascontiguousarray(v, dtype=np.float64) for v in (mag, sigma, design))
    use = np.isfinite(mags) & np.isfinite(sigmas) & (sigmas > 0) & np.isfinite(x).all(axis=1)
    if eligible is not None:
        use &= np.asarray(eligible, dtype=np.bool_)
    season = _Season(np.searchsorted(frames, np.arange(frames[-1] + 2)), frames, stars, mags, sigmas, x, np.asarray(group), per_term)
    first = np.asarray(start, dtype=np.float64)
    whole = season.solved(use, first, clip, tolerance, most_rounds)
    coeff = np.stack([season.solved(use & (folds[stars] != k), first, clip, tolerance, most_rounds).coeff for k in range(n_fold)], axis=1)
    fitted = np.einsum("ij,ij->i", x, coeff[frames, folds[stars]])
    return SeasonSolution(whole.star_mag, whole.coeff, coeff, mags - fitted, whole.weight, whole.floor, whole.rounds, whole.change)


@dataclass(frozen=True)
class _Solved:
    star_mag: FloatArray
    coeff: FloatArray
    weight: FloatArray
    floor: FloatArray
    rounds: int
    change: float


@dataclass(frozen=True)
class _Season:
    """All measurements of a season."""

    ends: IntArray
    frame: IntArray
    star: IntArray
    mag: FloatArray
    sigma: FloatArray
    design: FloatArray
    group: IntArray
    per_term: float

    def solved(self, use: BoolArray, first: FloatArray, clip: float, tolerance: float, most_rounds: int) -> _Solved:
        """The solution of the measurements in use."""
        n_star, n_frame = first.size, self.ends.size - 1
        y = np.where(use, self.mag, 0.0)
        terms = self._terms(use)
        floor, excess = np.full(n_frame, START_FLOOR), np.zeros(n_star)
        weight = np.where(use, 1.0 / (self.sigma**2 + START_FLOOR**2), 0.0)
        now = self._filled(first, y, weight, terms)
        change, rounds = np.inf, 0
        while True:
            before = now
            now, coeff = self._gradients(before, y, weight, terms)
            rounds += 1
            residual = np.where(use, y - now[self.star] - np.einsum("ij,ij->i", self.design, coeff[self.frame]), 0.0)
            change = float(np.abs(now - before).max(initial=0.0))
            if (change <= tolerance and rounds > HUBER_ROUNDS) or rounds >= most_rounds:
                break
            variance = self.sigma**2 + floor[self.frame] ** 2 + excess[self.star] ** 2
            weight = self._robust(use, residual, variance, clip, rounds)
            floor = self._floors(residual, variance - floor[self.frame] ** 2, weight, terms)
            excess = self._excess(use, residual, floor)
        known = np.bincount(self.star, weight, n_star) > 0
        coeff = np.where(np.bincount(self.frame, weight, n_frame)[:, None] > 0, coeff, np.nan)
        return _Solved(np.where(known, now, np.nan), coeff, weight, floor, rounds, change)

    def _terms(self, use: BoolArray) -> BoolArray:
        number = np.bincount(self.frame[use], minlength=self.ends.size - 1)
        return np.array([choose_terms(int(n), self.group, self.per_term) for n in number])

    def _filled(self, first: FloatArray, y: FloatArray, weight: FloatArray, terms: BoolArray) -> FloatArray:
        """The first reference, with what it lacks from frames that are fitted to what it has, frame after frame until all are reached."""
        now, known = np.where(np.isfinite(first), first, 0.0), np.isfinite(first)
        while True:
            mine = weight * known[self.star]
            coeff = _frame_terms(self.ends, mine, self.design, _inverses(self.ends, mine, self.design, terms), y - now[self.star])
            reached = (np.bincount(self.frame, mine > 0, self.ends.size - 1) >= terms.sum(axis=1))[self.frame]
            mine = weight * reached * ~known[self.star]
            total = np.bincount(self.star, mine, now.size)
            new = total > 0
            if not new.any():
                return now
            fitted = y - np.einsum("ij,ij->i", self.design, coeff[self.frame])
            now[new] = np.bincount(self.star, mine * fitted, now.size)[new] / total[new]
            known |= new

    def _gradients(self, now: FloatArray, y: FloatArray, weight: FloatArray, terms: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Magnitudes and terms for these weights, by conjugate gradients from `now` on.

        Steps are orthogonal, by the stars' weights, to whatever changes no residual: of that the solution has what the start had.
        """
        inverse = _inverses(self.ends, weight, self.design, terms)
        total = np.bincount(self.star, weight, now.size)
        scale = np.divide(1.0, total, out=np.zeros(now.size), where=total > 0)

        def reduced(rows: FloatArray) -> FloatArray:
            left = rows - np.einsum("ij,ij->i", self.design, _frame_terms(self.ends, weight, self.design, inverse, rows)[self.frame])
            return np.asarray(np.bincount(self.star, weight * left, now.size), dtype=np.float64)

        found = now.copy()
        residual = reduced(y - now[self.star])
        step = scale * residual
        norm = float(residual @ step)
        enough = max(SOLVED * norm, EXACT**2 * float(total.sum()))
        for _ in range(MOST_GRADIENTS):
            if norm <= enough:
                break
            moved = reduced(step[self.star])
            length = norm / float(step @ moved)
            found += length * step
            residual -= length * moved
            scaled = scale * residual
            following = float(residual @ scaled)
            step = scaled + (following / norm) * step
            norm = following
        return found, _frame_terms(self.ends, weight, self.design, inverse, y - found[self.star])

    def _robust(self, use: BoolArray, residual: FloatArray, variance: FloatArray, clip: float, rounds: int) -> FloatArray:
        """Weights of Huber, later of Tukey, over the variance; residuals in units of their error, scaled to what is usual."""
        u = np.abs(residual) / np.sqrt(variance)
        u /= max(MAD_TO_SIGMA * float(np.median(u[use])), 1e-9) if use.any() else 1.0
        if rounds <= HUBER_ROUNDS:
            robust = np.minimum(1.0, HUBER_TUNING / np.maximum(u, 1e-9))
        else:
            robust = np.maximum(1.0 - (u / clip) ** 2, 0.0) ** 2
        return np.where(use, robust / variance, 0.0)

    def _floors(self, residual: FloatArray, known: FloatArray, weight: FloatArray, terms: BoolArray) -> FloatArray:
        """Scatter of each frame beyond what is known, from moments of the weighted residuals, less the terms' freedom."""
        gain = weight**2
        n_frame = self.ends.size - 1
        number = np.maximum(np.bincount(self.frame, weight > 0, n_frame), 1.0)
        freed = number / np.maximum(number - terms.sum(axis=1), 1.0)
        excess = np.bincount(self.frame, gain * (residual**2 * freed[self.frame] - known), n_frame)
        norm = np.bincount(self.frame, gain, n_frame)
        return np.sqrt(np.maximum(np.divide(excess, norm, out=np.zeros(n_frame), where=norm > 0), 0.0))

    def _excess(self, use: BoolArray, residual: FloatArray, floor: FloatArray) -> FloatArray:
        """A star's own scatter beyond errors and floors, where it is known well: variable and blended stars lose weight."""
        rows = np.flatnonzero(use)[np.argsort(self.star[use], kind="stable")]
        n_star = int(self.star.max()) + 1
        edges = np.searchsorted(self.star[rows], np.arange(n_star + 1))
        expected = self.sigma**2 + floor[self.frame] ** 2
        return np.asarray(_own_scatter(edges, residual[rows], expected[rows]), dtype=np.float64)


@njit(cache=True, nogil=True)
def _inverses(ends, weight, design, terms):  # type: ignore[no-untyped-def]
    """Inverse of each frame's normal equations, zero for terms that it does not use."""
    n_frame, p = terms.shape
    out = np.zeros((n_frame, p, p))
    normal = np.zeros((p, p))
    for f in range(n_frame):
        for j in range(p):
            for k in range(p):
                normal[j, k] = 0.0
        for i in range(ends[f], ends[f + 1]):
            if weight[i] > 0:
                for j in range(p):
                    if terms[f, j]:
                        for k in range(j + 1):
                            if terms[f, k]:
                                normal[j, k] += weight[i] * design[i, j] * design[i, k]
        out[f] = inverse_of(normal)
    return out


@njit(cache=True, nogil=True)
def _frame_terms(ends, weight, design, inverse, values):  # type: ignore[no-untyped-def]
    """Terms of each frame that describe the values of its rows best."""
    n_frame, p = inverse.shape[:2]
    out = np.zeros((n_frame, p))
    right = np.zeros(p)
    for f in range(n_frame):
        for j in range(p):
            right[j] = 0.0
        for i in range(ends[f], ends[f + 1]):
            if weight[i] > 0:
                for j in range(p):
                    right[j] += weight[i] * design[i, j] * values[i]
        for j in range(p):
            for k in range(p):
                out[f, j] += inverse[f, j, k] * right[k]
    return out


@njit(cache=True, nogil=True)
def _own_scatter(edges, residual, expected):  # type: ignore[no-untyped-def]
    out = np.zeros(edges.size - 1)
    for i in range(edges.size - 1):
        n = edges[i + 1] - edges[i]
        if n >= OWN_SCATTER_EPOCHS:
            mine = residual[edges[i] : edges[i + 1]]
            scatter = MAD_TO_SIGMA * np.median(np.abs(mine)) * np.sqrt(n / (n - 1))
            # Scatter by chance alone is 12 % high in a sixth of the stars with 20 measurements.
            spare = scatter**2 / (1 + 2 / np.sqrt(n)) - np.median(expected[edges[i] : edges[i + 1]])
            out[i] = np.sqrt(max(spare, 0.0))
    return out
