"""Cross-fitted magnitude fit of a frame to a reference.

The difference between instrumental and reference magnitude is a smooth function of position, colour and so on; its coefficients are found
by robust weighted least squares (Kovacs, Bakos & Noyes 2005, MNRAS 356, 557, sect. 2; Pal 2009, PhD thesis, sect. 2.8). Here every star
belongs to a fold, and the coefficients that correct it come from the stars of all *other* folds. Those fits are made apart from each
other, robust weights and error floor included, so that nothing a star does can reach its own correction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import ArrayLike

from reduction.kernels.arrays import BoolArray, FloatArray, IntArray
from reduction.lightcurves.kernels.frame_fit import fit_range

__all__ = ["FrameFits", "choose_terms", "fit_frames", "fit_to_reference"]


TASK_ROWS = 20_000
"""Rows from which on a task is worth a thread's while."""


@dataclass(frozen=True)
class FrameFits:
    """Result of `fit_frames`.

    Attributes
    ----------
    coeff : float64, shape (f, n_fold, p)
        Coefficients for the stars of each fold, from the stars of all other folds; unused terms are 0, a fit that is not possible NaN.
    coeff_all : float64, shape (f, p)
        Coefficients from all stars, for display only: they correct nobody.
    fitted : float64, shape (rows,)
        Correction of each star (mag), with the coefficients of its fold. Subtract it from the instrumental magnitude.
    zp_err : float64, shape (f, n_fold)
        Typical (rms over the fold's stars) standard error of the correction, from the coefficient covariance (mag).
    rms : float64, shape (f,)
        Weighted rms of the held-out residuals of the used stars (mag).
    n_fit : int, shape (f,)
        Number of stars used in the fit to all.
    floor : float64, shape (f,)
        Systematic scatter added in quadrature to the errors in the fit to all (mag).
    fold_floor : float64, shape (f, n_fold)
        The same in the fits without each fold: what is weighed for a fold's stars must not have seen them.
    used : bool, shape (rows,)
        False for stars that were not offered, not finite, or rejected in the fit to all.
    """

    coeff: FloatArray
    coeff_all: FloatArray
    fitted: FloatArray
    zp_err: FloatArray
    rms: FloatArray
    n_fit: IntArray
    floor: FloatArray
    fold_floor: FloatArray
    used: BoolArray


def choose_terms(n_star: int, group: ArrayLike, per_term: float = 5.0) -> BoolArray:
    """Terms that `n_star` stars can bear.

    Parameters
    ----------
    n_star : int
        Stars offered to the fit.
    group : int, shape (p,)
        Group of each term: 0 for the constant, which always stays; groups of higher number are dropped first, and whole.
    per_term : float
        Stars needed for each term.

    Returns
    -------
    bool, shape (p,)
        Terms to fit; with few stars the constant alone (a weighted ensemble).
    """
    groups = np.asarray(group)
    for last in np.unique(groups)[::-1]:
        terms: BoolArray = groups <= last
        if n_star >= per_term * np.count_nonzero(terms):
            return terms
    return np.asarray(groups == groups.min())


def fit_frames(
    ends: ArrayLike,
    dmag: ArrayLike,
    sigma: ArrayLike,
    design: ArrayLike,
    fold: ArrayLike,
    n_fold: int = 5,
    *,
    terms: ArrayLike | None = None,
    eligible: ArrayLike | None = None,
    clip: float = 6.0,
    floor: float | None = None,
    iterations: int = 20,
) -> FrameFits:
    """Fit many frames, each on its own.

    Reweighted least squares with Huber's, then Tukey's weights over ``sigma^2 + floor^2``. The floor is the moment estimate from the
    robustly weighted residuals (DerSimonian & Laird 1986), so that bright stars do not dominate. A column that depends on earlier ones
    gets coefficient 0.

    Parameters
    ----------
    ends : int[f + 1]
        Rows of frame i are ``ends[i]:ends[i + 1]``.
    dmag : float64, shape (rows,) or (n_fold + 1, rows)
        Instrumental minus reference magnitude; NaN: not fitted, but corrected. With two axes, what the fit without each fold uses, and
        last the fit to all.
    sigma : float64, shape (rows,) or (n_fold + 1, rows)
        Its standard error without the floor (mag); NaN or <= 0: not fitted.
    design : float64, shape (rows, p)
        Terms, of the order of one; a star with a term that is not finite is neither fitted nor corrected (NaN).
    fold : int, shape (rows,)
        Fold of each star, 0 to n_fold - 1.
    n_fold : int
        Folds.
    terms : bool, shape (f, p), optional
        Terms to fit to each frame (all when omitted); see `choose_terms`.
    eligible : bool, shape (rows,), optional
        Stars that may be used (all when omitted).
    clip : float
        Residual, in units of the robust scale, at which Tukey's biweight reaches zero.
    floor : float, optional
        Systematic scatter (mag) to add in quadrature; estimated from the fitted stars when omitted.
    iterations : int
        Most iterations of the reweighting.
    """
    dmags, sigmas = (np.atleast_2d(np.asarray(v, dtype=np.float64)) for v in (dmag, sigma))
    if 1 in (len(dmags), len(sigmas)):
        dmags, sigmas = np.broadcast_arrays(dmags, sigmas)
    n = dmags.shape[1]
    # A measurement is here a star of its own, with a reference that is what it is to be fitted by.
    variance = np.where(sigmas > 0, sigmas**2, np.nan)
    return fit_to_reference(
        ends,
        np.zeros(n),
        np.zeros(n),
        np.arange(n),
        -dmags,
        variance,
        design,
        fold,
        n_fold,
        terms=terms,
        eligible=eligible,
        clip=clip,
        floor=floor,
        iterations=iterations,
    )


def fit_to_reference(
    ends: ArrayLike,
    mag: ArrayLike,
    sigma: ArrayLike,
    star: ArrayLike,
    reference: ArrayLike,
    variance: ArrayLike,
    design: ArrayLike,
    fold: ArrayLike,
    n_fold: int = 5,
    *,
    terms: ArrayLike | None = None,
    eligible: ArrayLike | None = None,
    clip: float = 6.0,
    floor: float | None = None,
    iterations: int = 20,
    threads: int | None = None,
) -> FrameFits:
    """Fit many frames to magnitudes of stars, each on its own: `fit_frames` without arrays of every fold's differences.

    Parameters
    ----------
    ends : int[f + 1]
        Rows of frame i are ``ends[i]:ends[i + 1]``.
    mag, sigma : float64, shape (rows,)
        Instrumental magnitude and its error (mag); NaN: not fitted, but corrected.
    star : int, shape (rows,)
        Star of each row, 0 to n - 1.
    reference : float64, shape (n,) or (n_fold + 1, n)
        Reference magnitudes; with two axes those of the fit without each fold, and last those of the fit to all. NaN: not fitted.
    variance : float64, shape (n,) or (n_fold + 1, n)
        What is added to the squared error, of the reference and of the star's own scatter (mag^2); NaN, or a sum that is not above 0:
        not fitted.
    design : float64, shape (rows, p)
        Terms, of the order of one; a star with a term that is not finite is neither fitted nor corrected (NaN).
    fold : int, shape (n,)
        Fold of each star, 0 to n_fold - 1.
    n_fold, terms, eligible, clip, floor, iterations
        As in `fit_frames`.
    threads : int, optional
        Threads that share the frames; those that numba may use (NUMBA_NUM_THREADS, else the processors) when omitted. The result does
        not depend on it.
    """
    edges = np.ascontiguousarray(ends, dtype=np.int64)
    x = np.ascontiguousarray(design, dtype=np.float64)
    stars, folds = (np.ascontiguousarray(v, dtype=np.int64) for v in (star, fold))
    mags, sigmas = (np.ascontiguousarray(v, dtype=np.float64) for v in (mag, sigma))
    references, variances = (np.atleast_2d(np.asarray(v, dtype=np.float64)) for v in (reference, variance))
    if len(references) != len(variances):
        references, variances = np.broadcast_arrays(references, variances)
    references, variances = np.ascontiguousarray(references), np.ascontiguousarray(variances)
    shape = (edges.size - 1, n_fold, x.shape[1])
    chosen = np.ones((shape[0], shape[2]), np.bool_) if terms is None else np.ascontiguousarray(terms, dtype=np.bool_)
    offered = np.ones(stars.size, np.bool_) if eligible is None else np.ascontiguousarray(eligible, dtype=np.bool_)
    choice = (float(clip), -1.0 if floor is None else float(floor), int(iterations))
    out = FrameFits(
        coeff=np.zeros(shape),
        coeff_all=np.zeros((shape[0], shape[2])),
        fitted=np.full(stars.size, np.nan),
        zp_err=np.empty(shape[:2]),
        rms=np.empty(shape[0]),
        n_fit=np.zeros(shape[0], np.int64),
        floor=np.empty(shape[0]),
        fold_floor=np.empty(shape[:2]),
        used=np.zeros(stars.size, np.bool_),
    )
    filled = (out.coeff, out.coeff_all, out.fitted, out.zp_err, out.rms, out.n_fit, out.floor, out.fold_floor, out.used)
    given = (mags, sigmas, stars, offered)

    def work(part: tuple[int, int]) -> None:
        fit_range(*part, edges, given, references, variances, x, folds, chosen, choice, filled)

    allowed = int(numba.config.NUMBA_NUM_THREADS) if threads is None else threads  # type: ignore[attr-defined]
    _each(work, list(_parts(edges)), allowed)
    return out


def _parts(ends: IntArray) -> Iterator[tuple[int, int]]:
    """Runs of frames, long enough each to be worth a task."""
    first = 0
    for last in range(1, ends.size):
        if last == ends.size - 1 or ends[last] - ends[first] >= TASK_ROWS:
            yield first, last
            first = last


def _each(work: Callable[[tuple[int, int]], None], parts: list[tuple[int, int]], threads: int) -> None:
    """Work all parts, in threads that end with it: numba's own would live on, and one of its layers does not survive a fork."""
    if min(threads, len(parts)) <= 1:
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(min(threads, len(parts))) as pool:
        list(pool.map(work, parts))
