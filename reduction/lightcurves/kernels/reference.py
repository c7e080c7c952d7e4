"""Magnitude references: chosen by merit, averaged from fitted magnitudes, iterated until they settle.

The first reference is one frame; each next one is the average of all magnitudes fitted against the last (Pal 2009, PhD thesis, sect. 2.8;
Penev et al., arXiv 2507.14289, sect. 3.9).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from reduction.kernels.arrays import BoolArray, FloatArray, IntArray
from reduction.kernels.compiled import scatter_about
from reduction.lightcurves.kernels.magnitude_fit import FrameFits, choose_terms, fit_frames
from reduction.lightcurves.kernels.noise import noise_model

__all__ = ["Averages", "Iteration", "MagfitResult", "average", "iterate", "select_reference", "settled"]


OWN_SCATTER_EPOCHS = 20
"""Measurements from which on a star's own scatter is known well enough (16 %) to weigh it."""
MODE_ROUNDS = 10
"""Fits and averages that leave of the terms what no data hold."""
LEAST_ERROR = 1e-4
"""Of a reference magnitude: none is better known where its change is weighed (mag)."""


@dataclass(frozen=True)
class Averages:
    """Mean magnitude of each star over its frames.

    Attributes
    ----------
    mag : float64, shape (n,)
        Robust weighted mean; NaN without any finite value.
    err : float64, shape (n,)
        Its standard error from the scatter met, or from the given errors where these are larger (mag).
    scatter : float64, shape (n,)
        Scatter of a single value, 1.4826 MAD about `mag` (mag); NaN below 3 values.
    n : int, shape (n,)
        Number of finite values.
    """

    mag: FloatArray
    err: FloatArray
    scatter: FloatArray
    n: IntArray


@dataclass(frozen=True)
class Iteration:
    """What one iteration reached: the change of the reference (mag; see `settled`)."""

    change: float


@dataclass(frozen=True)
class MagfitResult:
    """Result of `iterate`.

    Attributes
    ----------
    reference : Averages
        What the last fits were made against, seen from outside: every star's mean of magnitudes fitted without its fold.
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
    fits: FrameFits
    mag: FloatArray
    mag_err: FloatArray
    mean: Averages
    terms: BoolArray
    history: tuple[Iteration, ...]
    converged: bool
    references: tuple[Averages, ...]


def select_reference(
    fwhm: ArrayLike,
    sky: ArrayLike,
    n_star: ArrayLike,
    zero_point: ArrayLike,
    airmass: ArrayLike,
    fit_rms: ArrayLike,
    usable: ArrayLike | None = None,
) -> int:
    """Frame with the highest merit.

    Each quantity is ranked among the usable frames (0 worst, 1 best: small FWHM, sky, airmass and rms, many stars, a bright zero point)
    and a frame's merit is the mean of its ranks, so that neither units nor outliers matter. Unknown values rank in the middle.

    Parameters
    ----------
    fwhm, sky, n_star, zero_point, airmass, fit_rms : float64, shape (f,)
        Pixel, ADU, count, mag (larger: more light), airmass, and the rms of the astrometric or photometric fit; NaN where unknown.
    usable : bool, shape (f,), optional
        Frames that may be chosen.

    Returns
    -------
    int
        Index of the frame, the first of equals; -1 when none is usable.
    """
    lower = [np.asarray(v, dtype=np.float64) for v in (fwhm, sky, airmass, fit_rms)]
    higher = [-np.asarray(v, dtype=np.float64) for v in (n_star, zero_point)]
    allowed = np.ones(lower[0].shape, dtype=np.bool_) if usable is None else np.asarray(usable, dtype=np.bool_)
    if not allowed.any():
        return -1
    merit = np.mean([_rank(values, allowed) for values in (*lower, *higher)], axis=0)
    return int(np.argmax(np.where(allowed, merit, -np.inf)))


def _rank(values: FloatArray, allowed: BoolArray) -> FloatArray:
    known = np.sort(values[allowed & np.isfinite(values)])
    out = np.full(values.shape, 0.5)
    if known.size > 1 and known[0] < known[-1]:
        better = known.size - np.searchsorted(known, values, side="right")
        equal = np.searchsorted(known, values, side="right") - np.searchsorted(known, values, side="left")
        rank = (better + 0.5 * np.maximum(equal - 1, 0)) / (known.size - 1)
        out = np.where(np.isfinite(values), rank, 0.5)
    return out


def average(star: ArrayLike, mag: ArrayLike, err: ArrayLike, n_star: int, *, clip: float = 5.0) -> Averages:
    """Robust mean magnitude of each star.

    Weighted by ``1 / err^2`` and Tukey's biweight about the median: a few wild values count for nothing, and a dip moves the mean by
    no more than its share of the frames.

    Parameters
    ----------
    star : int, shape (rows,)
        Star of each row, 0 to n_star - 1.
    mag, err : float64, shape (rows,)
        Magnitude and error; rows that are not finite are ignored.
    clip : float
        Deviation, in units of 1.4826 MAD, at which the weight is zero.
    """
    stars = np.asarray(star, dtype=np.int64)
    mags, errs = np.asarray(mag, dtype=np.float64), np.asarray(err, dtype=np.float64)
    rows = np.flatnonzero(np.isfinite(mags) & np.isfinite(errs) & (errs > 0))
    rows = rows[np.argsort(stars[rows], kind="stable")]
    ends = np.searchsorted(stars[rows], np.arange(n_star + 1))
    return Averages(*_average(ends, mags[rows], errs[rows], clip))


@njit(cache=True)
def _average(ends, mag, err, clip):  # type: ignore[no-untyped-def]
    n_star = ends.size - 1
    mean, error, scatter = np.full(n_star, np.nan), np.full(n_star, np.nan), np.full(n_star, np.nan)
    number = np.diff(ends)
    for i in range(n_star):
        if number[i] == 0:
            continue
        y, variance = mag[ends[i] : ends[i + 1]], err[ends[i] : ends[i + 1]] ** 2
        centre = np.median(y)
        scale = max(scatter_about(y, centre), np.sqrt(np.median(variance)) * 0.1, 1e-9)
        for _ in range(10):
            u = (y - centre) / (clip * scale)
            weight = np.where(np.abs(u) < 1, (1 - u**2) ** 2, 0.0) / variance
            if np.sum(weight) <= 0:
                break
            centre = np.sum(weight * y) / np.sum(weight)
        mean[i] = centre
        expected = 1 / np.sqrt(np.sum(1 / variance))
        error[i] = expected
        if number[i] >= 3:
            scatter[i] = scatter_about(y, centre) * np.sqrt(number[i] / (number[i] - 1))
            error[i] = max(expected, scatter[i] / np.sqrt(number[i]))
    return mean, error, scatter, number


def settled(old: ArrayLike, new: ArrayLike, err: ArrayLike | None = None) -> float:
    """Change from one reference to the next.

    Parameters
    ----------
    old, new : float64, shape (n,)
        Magnitudes of the same stars; a common shift is taken out, since the fit's constant absorbs it.
    err : float64, shape (n,), optional
        Error of each; only the better half of the stars counts.

    Returns
    -------
    float
        Median of the absolute change (mag); infinite when no star is in both.
    """
    before, after = np.asarray(old, dtype=np.float64), np.asarray(new, dtype=np.float64)
    both = np.isfinite(before) & np.isfinite(after)
    if err is not None and both.any():
        errs = np.asarray(err, dtype=np.float64)
        both &= ~(errs > np.median(errs[both]))
    if not both.any():
        return np.inf
    change = after[both] - before[both]
    return float(np.median(np.abs(change - np.median(change))))


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
    fit_sigma: float = 0.02,
    n_fold: int = 5,
    per_term: float = 5.0,
    clip: float = 6.0,
    min_epochs: int = 5,
    tolerance: float = 3e-5,
    max_iterations: int = 15,
) -> MagfitResult:
    """Fit all frames of a field to a reference, average, and repeat until the reference settles.

    The fits that leave out a fold use a reference of their own, averaged from magnitudes that were fitted without that fold as well: with a
    common reference a dip reaches its own star through the averages of the others, and loses 1 to 3 % of its depth.

    A star's weight falls with its scatter beyond the errors in the iteration before: that of stars of its magnitude, or its own where
    this is larger. Its own scatter may count here, since it never takes part in its own correction.

    Parameters
    ----------
    frame, star : int, shape (rows,)
        Frame (0 to f - 1, rows sorted by it) and star (0 to n - 1) of each measurement.
    mag, sigma : float64, shape (rows,)
        Instrumental magnitude and error (photons, sky); NaN where unusable.
    design : float64, shape (rows, p)
        Terms of each measurement.
    fold : int, shape (n,)
        Fold of each star.
    start : int or float64, shape (n,)
        Frame whose magnitudes are the first reference, or that reference itself.
    group : int, shape (p,)
        Order in which terms are dropped, see `choose_terms`.
    eligible : bool, shape (rows,), optional
        Measurements that may fix the fit and enter averages (unsaturated, unflagged); the others are only corrected.
    fit_sigma : float
        Largest `sigma` (mag) in the fit; in a frame with too few such stars for all terms the best ones beyond it are taken.
    n_fold, per_term, clip
        As in `fit_frames` and `choose_terms`.
    min_epochs : int
        Stars with fewer eligible measurements (or than half the frames, if that is less) do not fix the fit after the first iteration:
        a star seen once agrees with itself.
    tolerance : float
        Median change of the reference (mag) at which it has settled. At 1e-4 two runs that stop an iteration apart differ by up to 5 % of a
        1 % dip with 40 stars a frame, at 3e-5 by 1 %.
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
    rows = _Rows.prepare(frame, star, mag, sigma, design, fold, eligible)
    choice = _Choice(np.asarray(group), n_fold, per_term, clip, fit_sigma)
    first = public = _first_reference(start, rows)
    reference = _stack([first] * n_fold)
    history: list[Iteration] = []
    references: list[Averages] = []
    held: BoolArray | None = None
    excess = np.zeros((n_fold, rows.fold.size))
    while True:
        fits, terms = _fit(rows, excess, reference, public, choice)
        fitted = rows.mag - fits.fitted
        zero_point = fits.zp_err[rows.frame, rows.fold[rows.star]]
        if held is None or not np.array_equal(held, terms.all(axis=0)):
            held = np.asarray(terms.all(axis=0))
            modes = _free_modes(rows, held)
        following = _pinned(_following(rows, excess, fits, n_fold, min_epochs), first, modes)
        use, err = rows.eligible, _errors(rows, excess.max(axis=0), fits)
        mean = average(rows.star[use], fitted[use], err[use], rows.fold.size)
        history.append(Iteration(settled(reference.mag.ravel(), following.mag.ravel(), following.err.ravel())))
        references.append(Averages(public.mag, public.err, mean.scatter, public.n))
        converged = history[-1].change <= tolerance
        if converged or len(history) >= max_iterations:
            break
        excess = np.array([_excess(rows, k, following) for k in range(n_fold)])
        reference, public = following, mean
    return MagfitResult(public, fits, fitted, np.hypot(rows.sigma, zero_point), mean, terms, tuple(history), converged, tuple(references))


@dataclass(frozen=True)
class _Rows:
    """Measurements as `iterate` works on them; `eligible` are the finite ones among those offered."""

    frame: IntArray
    star: IntArray
    mag: FloatArray
    sigma: FloatArray
    design: FloatArray
    fold: IntArray
    eligible: BoolArray
    ends: IntArray

    @classmethod
    def prepare(
        cls,
        frame: ArrayLike,
        star: ArrayLike,
        mag: ArrayLike,
        sigma: ArrayLike,
        design: ArrayLike,
        fold: ArrayLike,
        eligible: ArrayLike | None,
    ) -> _Rows:
        frames, stars, folds = (np.asarray(v, dtype=np.int64) for v in (frame, star, fold))
        mags, sigmas, designs = (np.asarray(v, dtype=np.float64) for v in (mag, sigma, design))
        if frames.size == 0 or (np.diff(frames) < 0).any():
            raise ValueError(f"measurements must be sorted by frame and at least one, got {frames.size}")
        finite = np.isfinite(mags) & np.isfinite(sigmas)
        if eligible is not None:
            finite &= np.asarray(eligible, dtype=np.bool_)
        ends = np.searchsorted(frames, np.arange(frames[-1] + 2))
        return cls(frames, stars, mags, sigmas, designs, folds, finite, ends)


@dataclass(frozen=True)
class _Choice:
    """Parameters of the fits."""

    group: NDArray[np.generic]
    n_fold: int
    per_term: float
    clip: float
    fit_sigma: float


def _first_reference(start: int | ArrayLike, rows: _Rows) -> Averages:
    n_star = rows.fold.size
    if np.ndim(start) == 0:
        inside = np.flatnonzero((rows.frame == start) & rows.eligible)
        return average(rows.star[inside], rows.mag[inside], rows.sigma[inside], n_star)
    given = np.asarray(start, dtype=np.float64)
    return Averages(given, np.zeros(n_star), np.full(n_star, np.nan), np.isfinite(given).astype(np.int64))


def _errors(rows: _Rows, excess: FloatArray, fits: FrameFits) -> FloatArray:
    """Error of each fitted magnitude with all that scatters from frame to frame."""
    return _total_error(rows.sigma, excess[rows.star], fits.floor[rows.frame], fits.zp_err[rows.frame, rows.fold[rows.star]])


def _total_error(sigma: FloatArray, excess: FloatArray, floor: FloatArray, zero_point: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt(sigma**2 + excess**2 + np.nan_to_num(floor) ** 2 + zero_point**2), dtype=np.float64)


def _stack(means: list[Averages]) -> Averages:
    """Averages with a leading axis of folds."""
    columns = [[getattr(mean, name) for mean in means] for name in ("mag", "err", "scatter", "n")]
    return Averages(*(np.array(column) for column in columns))


def _following(rows: _Rows, excess: FloatArray, fits: FrameFits, n_fold: int, min_epochs: int) -> Averages:
    """Next reference of the fits without each fold: [n_fold, n], from the other folds' stars alone, NaN for the fold's own."""
    enough = min(min_epochs, max((rows.ends.size - 1) // 2, 1))
    means = []
    for k in range(n_fold):
        mine = np.flatnonzero(rows.eligible & (rows.fold[rows.star] != k))
        corrected = rows.mag[mine] - np.einsum("ij,ij->i", rows.design[mine], fits.coeff[rows.frame[mine], k])
        frame, star = rows.frame[mine], rows.star[mine]
        # Errors, too, of this fit alone: floors and errors of the others have seen this fold's stars.
        error = _total_error(rows.sigma[mine], excess[k, star], fits.fold_floor[frame, k], fits.zp_err[frame, k])
        mean = average(star, corrected, error, rows.fold.size)
        means.append(Averages(np.where(mean.n < enough, np.nan, mean.mag), mean.err, mean.scatter, mean.n))
    return _stack(means)


def _free_modes(rows: _Rows, held: BoolArray) -> FloatArray:
    """Changes of the reference (n, p) that every frame's fit takes up whole: nothing in the data holds them.

    With the same terms at the same places in all frames they are the terms themselves. Where stars move over the detector, or are not in
    every frame, what a fit and an average leave of the terms comes nearer to them each time.
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


def _pinned(following: Averages, first: Averages, modes: FloatArray) -> Averages:
    """A next reference with what no data hold as the first reference has it, for each fold by itself.

    Otherwise the folds' systems would drift apart, and on for ever. To bring them together by each other would let a star see itself:
    the modes are not quite what the fits take up. But constants are, and by these the magnitudes of all folds agree.
    """
    held = [each - _along(modes, each - first.mag, err) for each, err in zip(following.mag, following.err, strict=True)]
    mag = np.array(held)
    known = np.isfinite(mag)
    common = np.where(known, mag, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    shift = [float(np.median((one - common)[there])) if there.any() else 0.0 for one, there in zip(mag, known, strict=True)]
    return Averages(mag - np.array(shift)[:, None], following.err, following.scatter, following.n)


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


def _excess(rows: _Rows, k: int, mean: Averages) -> FloatArray:
    """Scatter beyond the errors in the fits without fold `k`: that of stars alike, or a star's own where this is larger and well known."""
    use = rows.eligible & (rows.fold[rows.star] != k)
    typical = np.bincount(rows.star[use], rows.sigma[use] ** 2, rows.fold.size) / np.maximum(mean.n[k], 1)
    own = np.where(mean.n[k] >= OWN_SCATTER_EPOCHS, mean.scatter[k], 0.0)
    alike = noise_model(mean.mag[k], mean.scatter[k]).at(mean.mag[k])
    return np.asarray(np.sqrt(np.fmax(np.fmax(alike, own) ** 2 - typical, 0.0)))


def _fit(rows: _Rows, excess: FloatArray, reference: Averages, public: Averages, choice: _Choice) -> tuple[FrameFits, BoolArray]:
    """Fit all frames, without each fold against its `reference`; a frame with few reference stars gets fewer terms."""
    known = np.asarray(np.isfinite(reference.mag).any(axis=0))
    offered = rows.eligible & known[rows.star] & np.isfinite(rows.design).all(axis=1)
    terms = np.zeros((rows.ends.size - 1, choice.group.size), dtype=np.bool_)
    wanted = int(np.ceil(choice.per_term * choice.group.size))
    for i, (first, last) in enumerate(zip(rows.ends[:-1], rows.ends[1:], strict=True)):
        errors = np.sort(rows.sigma[first:last][offered[first:last]])
        limit = max(choice.fit_sigma, errors[min(wanted, errors.size) - 1]) if errors.size else choice.fit_sigma
        offered[first:last] &= rows.sigma[first:last] <= limit
        terms[i] = choose_terms(int(np.count_nonzero(offered[first:last])), choice.group, choice.per_term)
    against = np.vstack([reference.mag, public.mag])[:, rows.star]
    variance = np.vstack([excess**2 + reference.err**2, excess.max(axis=0) ** 2 + public.err**2])[:, rows.star]
    folds = rows.fold[rows.star]
    fits = fit_frames(
        rows.ends,
        rows.mag - against,
        np.sqrt(rows.sigma**2 + variance),
        rows.design,
        folds,
        choice.n_fold,
        terms=terms,
        eligible=offered,
        clip=choice.clip,
    )
    return fits, terms
