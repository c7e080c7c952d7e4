"""Magnitudes of some frames fitted to a reference in one pass, and what they say of the next one.

The fits that leave out a fold use a reference of their own, averaged from magnitudes that were fitted without that fold as well: with a
common reference a dip reaches its own star through the averages of the others, and loses 1 to 3 % of its depth. Frames do not know of
each other here: a night, or a single frame, is fitted by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reduction.kernels.arrays import BoolArray, FloatArray, IntArray
from reduction.lightcurves.kernels.averages import Averages, average
from reduction.lightcurves.kernels.magnitude_fit import FrameFits, choose_terms, fit_to_reference
from reduction.lightcurves.kernels.noise import noise_model

__all__ = [
    "FitChoice",
    "FitRows",
    "FoldMeans",
    "FoldReference",
    "NightFit",
    "fit_night",
    "fold_means",
    "fold_reference",
    "own_fold",
    "weighed_means",
]

OWN_SCATTER_EPOCHS = 20
"""Measurements from which on a star's own scatter is known well enough (16 %) to weigh it."""


@dataclass(frozen=True)
class FitRows:
    """Measurements of some frames in one slot; `eligible` are the finite ones among those that may fix a fit.

    Attributes
    ----------
    frame, star : int, shape (rows,)
        Frame (0 to f - 1, rows sorted by it) and star (0 to n - 1).
    mag, sigma : float64, shape (rows,)
        Instrumental magnitude and error (mag).
    design : float64, shape (rows, p)
        Terms.
    fold : int, shape (n,)
        Fold of each star.
    eligible : bool, shape (rows,)
    counts : bool, shape (rows,)
        Those of the eligible that enter averages.
    ends : int, shape (f + 1,)
        Rows of frame i are ``ends[i]:ends[i + 1]``.
    factor : float64, shape (f,)
        What the weight of each frame's rows in averages is multiplied by: 1 unless it was judged, see `frame_quality`.
    """

    frame: IntArray
    star: IntArray
    mag: FloatArray
    sigma: FloatArray
    design: FloatArray
    fold: IntArray
    eligible: BoolArray
    counts: BoolArray
    ends: IntArray
    factor: FloatArray

    @classmethod
    def prepare(
        cls,
        frame: ArrayLike,
        star: ArrayLike,
        mag: ArrayLike,
        sigma: ArrayLike,
        design: ArrayLike,
        fold: ArrayLike,
        eligible: ArrayLike | None = None,
        *,
        counts: ArrayLike | None = None,
        n_frame: int | None = None,
    ) -> FitRows:
        """Take measurements in.

        Parameters
        ----------
        eligible : bool, shape (rows,), optional
            Measurements that may fix the fit (unsaturated, unflagged); all where omitted.
        counts : bool, shape (rows,), optional
            Those that enter averages; all that are eligible where omitted.
        n_frame : int, optional
            Frames that there are, where the last may have no row.

        Raises
        ------
        ValueError
            If there are no measurements, or they are not sorted by frame.
        """
        frames, stars, folds = (np.asarray(v, dtype=np.int64) for v in (frame, star, fold))
        mags, sigmas, designs = (np.asarray(v, dtype=np.float64) for v in (mag, sigma, design))
        if frames.size == 0 or (np.diff(frames) < 0).any():
            raise ValueError(f"measurements must be sorted by frame and at least one, got {frames.size}")
        finite = np.isfinite(mags) & np.isfinite(sigmas)
        if eligible is not None:
            finite &= np.asarray(eligible, dtype=np.bool_)
        averaged = finite if counts is None else finite & np.asarray(counts, dtype=np.bool_)
        ends = np.searchsorted(frames, np.arange((n_frame or int(frames[-1]) + 1) + 1))
        return cls(frames, stars, mags, sigmas, designs, folds, finite, averaged, ends, np.ones(ends.size - 1))

    def weighed(self, factor: ArrayLike) -> FitRows:
        """The same with frames that were judged: their rows count for less in averages, or not at all.

        Parameters
        ----------
        factor : float64, shape (f,)
            0 to 1.
        """
        factors = np.asarray(factor, dtype=np.float64)
        return replace(self, factor=factors, counts=self.counts & (factors[self.frame] > 0))


@dataclass(frozen=True)
class FitChoice:
    """How frames are fitted.

    Attributes
    ----------
    group : int, shape (p,)
        Order in which terms are dropped, see `choose_terms`.
    n_fold, per_term, clip
        As in `fit_frames` and `choose_terms`.
    fit_sigma : float
        Largest error (mag) of a star in the fit; in a frame with too few such stars for all terms the best ones beyond it are taken.
    """

    group: NDArray[np.generic]
    n_fold: int = 5
    per_term: float = 5.0
    clip: float = 6.0
    fit_sigma: float = 0.02


@dataclass(frozen=True)
class FoldReference:
    """Magnitudes that frames are fitted to, for the fit without each fold: float64, shape (n_fold, n), NaN where unknown.

    A star's entry in its own fold is of magnitudes that were fitted without it, and what people see as its reference magnitude; no fit
    that leaves out this fold uses it.

    Attributes
    ----------
    mag, err : float64, shape (n_fold, n)
        Magnitude and its error.
    excess : float64, shape (n_fold, n)
        Scatter of a single measurement beyond its error (mag), by which the star's weight falls.
    """

    mag: FloatArray
    err: FloatArray
    excess: FloatArray


@dataclass(frozen=True)
class FoldMeans:
    """Mean fitted magnitudes of n stars over some frames, in the fits without each fold; a star's own fold as in `FoldReference`.

    Attributes
    ----------
    mag, err, scatter : float64, shape (n_fold, n)
        As in `Averages`.
    n : int, shape (n,)
        Measurements averaged.
    variance : float64, shape (n,)
        Mean square of their errors (mag^2); NaN for none.
    """

    mag: FloatArray
    err: FloatArray
    scatter: FloatArray
    n: IntArray
    variance: FloatArray

    def public(self, fold: IntArray) -> Averages:
        """What people see: each star's means without its own fold."""
        mag, err, scatter = (own_fold(values, fold) for values in (self.mag, self.err, self.scatter))
        return Averages(mag, err, scatter, self.n)


@dataclass(frozen=True)
class NightFit:
    """Frames fitted to a reference.

    Attributes
    ----------
    fits : FrameFits
    terms : bool, shape (f, p)
        Terms fitted in each frame.
    mag, mag_err : float64, shape (rows,)
        Fitted magnitude; its error from the given sigma and the zero point.
    means : FoldMeans
        What the frames say of the stars' magnitudes.
    """

    fits: FrameFits
    terms: BoolArray
    mag: FloatArray
    mag_err: FloatArray
    means: FoldMeans


def own_fold(values: NDArray[np.float64], fold: IntArray) -> FloatArray:
    """Of values (n_fold, n), each star's in its own fold (n,)."""
    return np.asarray(np.take_along_axis(values, fold[None, :], axis=0)[0])


def fit_night(rows: FitRows, reference: FoldReference, choice: FitChoice) -> NightFit:
    """Fit every frame to the reference, without each fold by itself; a frame with few reference stars gets fewer terms.

    A star's weight falls with its scatter beyond the errors, as the reference knows it.

    Parameters
    ----------
    rows : FitRows
        Of f frames and n stars.
    reference : FoldReference
        Of these stars.
    choice : FitChoice

    Returns
    -------
    NightFit
    """
    fits, terms = _fit(rows, reference, choice)
    zero_point = fits.zp_err[rows.frame, rows.fold[rows.star]]
    means = fold_means(rows, reference, fits, choice.n_fold)
    return NightFit(fits, terms, rows.mag - fits.fitted, np.hypot(rows.sigma, zero_point), means)


def weighed_means(rows: FitRows, reference: FoldReference, fit: NightFit, choice: FitChoice) -> NightFit:
    """A fit with its means taken anew, of rows whose frames have been weighed since: frames do not know of each other in the fit itself.

    Parameters
    ----------
    rows : FitRows
        Those that were fitted, `FitRows.weighed`.
    reference : FoldReference
        That they were fitted to.
    fit : NightFit
    choice : FitChoice

    Returns
    -------
    NightFit
        The one given where every frame counts in full.
    """
    return fit if (rows.factor == 1.0).all() else replace(fit, means=fold_means(rows, reference, fit.fits, choice.n_fold))


def fold_reference(means: FoldMeans, fold: IntArray, least: int) -> FoldReference:
    """The reference that some means are.

    Parameters
    ----------
    means : FoldMeans
    fold : int, shape (n,)
        Fold of each star.
    least : int
        Stars with fewer measurements do not fix fits: a star seen once agrees with itself.
    """
    n_fold = len(means.mag)
    few = (means.n < least) & (np.arange(n_fold)[:, None] != fold)
    means = replace(means, mag=np.where(few, np.nan, means.mag))
    excess = np.array([_excess(means, fold, k) for k in range(n_fold)])
    others = np.where(np.arange(n_fold)[:, None] == fold, -np.inf, excess).max(axis=0)
    excess[fold, np.arange(fold.size)] = np.maximum(others, 0.0)
    return FoldReference(means.mag, means.err, excess)


def _excess(means: FoldMeans, fold: IntArray, k: int) -> FloatArray:
    """Scatter beyond the errors in the fits without fold `k`: that of stars alike, or a star's own where this is larger and well known."""
    others = fold != k
    mag, scatter = (np.where(others, values[k], np.nan) for values in (means.mag, means.scatter))
    own = np.where(means.n >= OWN_SCATTER_EPOCHS, scatter, 0.0)
    alike = noise_model(mag, scatter).at(mag)
    return np.asarray(np.sqrt(np.fmax(np.fmax(alike, own) ** 2 - np.nan_to_num(means.variance), 0.0)))


def fold_means(rows: FitRows, reference: FoldReference, fits: FrameFits, n_fold: int) -> FoldMeans:
    """Means of the fitted magnitudes, weighted by all that scatters from frame to frame.

    Errors, too, of each fit alone: floors and errors of the others have seen this fold's stars.

    Parameters
    ----------
    rows : FitRows
        Of f frames and n stars.
    reference : FoldReference
        By its excess stars lose weight.
    fits : FrameFits
        Of these frames.
    n_fold : int

    Returns
    -------
    FoldMeans
    """
    n_star = rows.fold.size
    mag, err, scatter = np.full((3, n_fold, n_star), np.nan)
    folds = rows.fold[rows.star]
    use = np.flatnonzero(rows.counts)
    most = np.nanmax(reference.excess, axis=0, initial=0.0)
    number = np.zeros(n_star, dtype=np.int64)
    for k in range(n_fold):
        mine = use[folds[use] != k]
        frame, star = rows.frame[mine], rows.star[mine]
        corrected = rows.mag[mine] - _corrections(rows, fits.coeff[:, k])[mine]
        error = _total_error(rows.sigma[mine], reference.excess[k, star], fits.fold_floor[frame, k], fits.zp_err[frame, k])
        error = error / np.sqrt(rows.factor[frame])
        mean, others = average(star, corrected, error, n_star), rows.fold != k
        mag[k, others], err[k, others], scatter[k, others] = mean.mag[others], mean.err[others], mean.scatter[others]
    frame, star = rows.frame[use], rows.star[use]
    error = _total_error(rows.sigma[use], most[star], fits.floor[frame], fits.zp_err[frame, folds[use]]) / np.sqrt(rows.factor[frame])
    mean = average(star, (rows.mag - fits.fitted)[use], error, n_star)
    own = (rows.fold, np.arange(n_star))
    mag[own], err[own], scatter[own], number = mean.mag, mean.err, mean.scatter, mean.n
    square = np.bincount(star, rows.sigma[use] ** 2, n_star)
    seen = np.bincount(star, minlength=n_star)
    variance = np.divide(square, seen, out=np.full(n_star, np.nan), where=seen > 0)
    return FoldMeans(mag, err, scatter, number, variance)


def _corrections(rows: FitRows, coeff: FloatArray) -> FloatArray:
    """Correction of every row by its frame's coefficients (f, terms): frame by frame, so that no copy of the terms is made."""
    found = np.empty(rows.frame.size)
    for i, (first, last) in enumerate(zip(rows.ends[:-1], rows.ends[1:], strict=True)):
        np.dot(rows.design[first:last], coeff[i], out=found[first:last])
    return found


def _total_error(sigma: FloatArray, excess: FloatArray, floor: FloatArray, zero_point: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt(sigma**2 + excess**2 + np.nan_to_num(floor) ** 2 + zero_point**2), dtype=np.float64)


def _fit(rows: FitRows, reference: FoldReference, choice: FitChoice) -> tuple[FrameFits, BoolArray]:
    others = np.arange(choice.n_fold)[:, None] != rows.fold
    known = (np.isfinite(reference.mag) & others).any(axis=0)
    offered = rows.eligible & known[rows.star] & np.isfinite(rows.design).all(axis=1)
    terms = np.zeros((rows.ends.size - 1, choice.group.size), dtype=np.bool_)
    wanted = int(np.ceil(choice.per_term * choice.group.size))
    for i, (first, last) in enumerate(zip(rows.ends[:-1], rows.ends[1:], strict=True)):
        errors = np.sort(rows.sigma[first:last][offered[first:last]])
        limit = max(choice.fit_sigma, errors[min(wanted, errors.size) - 1]) if errors.size else choice.fit_sigma
        offered[first:last] &= rows.sigma[first:last] <= limit
        terms[i] = choose_terms(int(np.count_nonzero(offered[first:last])), choice.group, choice.per_term)
    public = FoldReference(
        own_fold(reference.mag, rows.fold), own_fold(reference.err, rows.fold), np.nanmax(reference.excess, axis=0, initial=0.0)
    )
    fits = fit_to_reference(
        rows.ends,
        rows.mag,
        rows.sigma,
        rows.star,
        np.vstack([reference.mag, public.mag]),
        np.vstack([reference.excess**2 + reference.err**2, public.excess**2 + public.err**2]),
        rows.design,
        rows.fold,
        choice.n_fold,
        terms=terms,
        eligible=offered,
        clip=choice.clip,
    )
    return fits, terms
