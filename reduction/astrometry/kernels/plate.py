"""Plate solution of one frame: from detections and a catalogue to (RA, Dec) -> (x, y)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from db.errors import AlgorithmFailed
from reduction.astrometry.kernels.acceptance import MAX_LOG_CHANCE, Acceptance, judge
from reduction.astrometry.kernels.plate_fit import (
    PolynomialFit,
    fit_plate,
    highest_order,
    match_positions,
    position_weights,
)
from reduction.astrometry.kernels.start import MIN_MATCHED, StarLists, Start, confirmed_starts, name_of
from reduction.astrometry.kernels.wcs import PlateSolution, unit_vectors
from reduction.kernels.arrays import FloatArray, IntArray
from reduction.kernels.robust import robust_scatter

__all__ = ["PlateFit", "refine", "solve"]


CLIP = 5.0  # sigma per axis
MIN_RADIUS = 0.4  # pixel; a pair closer than this is never clipped
MAX_ROUNDS = 25
SAMPLE = 2000  # catalogue stars: of much longer lists, the first rounds take as many
ORDER_GAIN = 2.0  # over the number of pairs: by so much a higher order must lower the squared leave-one-out residuals


@dataclass(frozen=True)
class PlateFit:
    """A solution and the pairs that made it.

    Attributes
    ----------
    solution : PlateSolution
        Tangent point in the middle of the frame.
    det_index, cat_index : (n_matched,) int64
        The pairs, by index into the arrays given, in ascending order of `cat_index`; each detection
        and each catalogue star is in one pair at most.
    residual_x, residual_y : (n_matched,) float64
        Detected minus projected (pixel).
    loo_x, loo_y : (n_matched,) float64
        The same from fits without the star itself (pixel).
    rms_x, rms_y : float
        1.48 MAD of `loo_x`, `loo_y` (pixel).
    n_matched, n_catalogue_in_frame : int
        Pairs kept, and catalogue stars that fall on the frame.
    radius : float
        Match radius of the last round (pixel).
    acceptance : Acceptance
        Whether chance could have made these pairs.
    method : str
        How the solution was started: see `confirmed_starts`; ``refine`` for `refine`.
    """

    solution: PlateSolution
    det_index: IntArray
    cat_index: IntArray
    residual_x: FloatArray
    residual_y: FloatArray
    loo_x: FloatArray
    loo_y: FloatArray
    rms_x: float
    rms_y: float
    n_matched: int
    n_catalogue_in_frame: int
    radius: float
    acceptance: Acceptance
    method: str


def solve(
    det_x: FloatArray,
    det_y: FloatArray,
    det_flux: FloatArray,
    cat_ra: FloatArray,
    cat_dec: FloatArray,
    cat_mag: FloatArray,
    shape: tuple[int, int],
    *,
    start: Start | Sequence[Start | tuple[str, Start]],
    order: int = 3,
    clip: float = CLIP,
    det_err: FloatArray | None = None,
    parity: int | None = None,
) -> PlateFit:
    """Find and fit the plate solution of a frame.

    Parameters
    ----------
    det_x, det_y, det_flux : float64, shape (n,)
        Detections: position (pixel) and flux (any unit).
    cat_ra, cat_dec, cat_mag : float64, shape (m,)
        Catalogue at the frame's epoch (degree; mag in about the frame's passband). It must cover
        the frame and may be larger. NaN magnitudes count as faintest; NaN positions are ignored.
    shape : (int, int)
        (ny, nx) of the frame.
    start : PlateSolution, Pointing, callable (x, y) -> (ra, dec), or a sequence of these
        Tried in the order given; (name, start) in a sequence names it in `method`: see `confirmed_starts`.
    order : int
        Highest total degree of the polynomials; lowered until every term is met by three stars.
    clip : float
        Pairs farther than this many sigma (per axis, 1.48 MAD) are left out.
    det_err : float64, shape (n,), optional
        1-sigma errors of the detections per axis (pixel), for weights; all alike by default.
    parity : int, optional
        Handedness that the camera is known to have, as `PlateSolution.parity`; either one by default.

    Returns
    -------
    PlateFit

    Raises
    ------
    FrameUnusable
        Fewer than six detections.
    AlgorithmFailed
        No start is confirmed by the stars, or what comes of it is refused: its pairs dwindle, chance could have
        made them, or its handedness is the wrong one.
    """
    size = (shape[1], shape[0])
    starts: Sequence[Start | tuple[str, Start]] = start if isinstance(start, Sequence) else [start]
    det = np.lexsort((det_x, det_y, -det_flux))
    det = det[np.isfinite(det_x[det]) & np.isfinite(det_y[det])]
    cat = np.lexsort((cat_ra, cat_dec, np.nan_to_num(cat_mag, nan=np.inf)))
    cat = cat[np.isfinite(cat_ra[cat]) & np.isfinite(cat_dec[cat])]
    lists = StarLists(det_x[det], det_y[det], cat_ra[cat], cat_dec[cat], size)
    error = None if det_err is None else det_err[det]
    fit = _first_accepted(lists, starts, error, parity, order, clip)
    by_catalogue = np.argsort(cat[fit.cat_index])
    return replace(
        fit,
        det_index=det[fit.det_index][by_catalogue],
        cat_index=cat[fit.cat_index][by_catalogue],
        residual_x=fit.residual_x[by_catalogue],
        residual_y=fit.residual_y[by_catalogue],
        loo_x=fit.loo_x[by_catalogue],
        loo_y=fit.loo_y[by_catalogue],
    )


def _first_accepted(
    lists: StarLists, starts: Sequence[Start | tuple[str, Start]], error: FloatArray | None, parity: int | None, order: int, clip: float
) -> PlateFit:
    """The first start that leads to a solution that passes the test."""
    refused = []
    for guess, method, limit in confirmed_starts(lists, starts):
        try:
            fit = refine(guess, lists.x, lists.y, lists.ra, lists.dec, order=order, clip=clip, det_err=error, limit=limit, ranked=True)
        except AlgorithmFailed as failure:
            refused.append(f"{method}: {failure.message}")
            continue
        if parity is not None and fit.solution.parity != parity:
            refused.append(f"{method}: parity {fit.solution.parity:+d}, the camera has {parity:+d}")
        elif fit.acceptance.accepted:
            return replace(fit, method=method)
        else:
            refused.append(f"{method}: {fit.acceptance.reason}")
    if refused:
        raise AlgorithmFailed(
            f"a plate solution was found and is not to be believed: {'; '.join(refused)}",
            hint="check the pointing, the pixel scale and the catalogue's area",
            code="solve.refused",
        )
    raise AlgorithmFailed(
        f"no plate solution from {', '.join(map(name_of, starts)) or 'nothing'}: "
        f"{len(lists.x)} detections do not fit {len(lists.ra)} catalogue stars",
        hint="check the pointing, the pixel scale and the catalogue's area",
        code="solve.no_start",
    )


def refine(
    solution: PlateSolution,
    det_x: FloatArray,
    det_y: FloatArray,
    cat_ra: FloatArray,
    cat_dec: FloatArray,
    *,
    order: int = 3,
    clip: float = CLIP,
    radius: float | None = None,
    weight: FloatArray | None = None,
    det_err: FloatArray | None = None,
    limit: float = MAX_LOG_CHANCE,
    ranked: bool = False,
) -> PlateFit:
    """Refit a solution that is good to a few pixel.

    Parameters
    ----------
    solution : PlateSolution
        Good to `radius` over most of the frame.
    det_x, det_y : float64, shape (n,)
        Detections (pixel).
    cat_ra, cat_dec : float64, shape (m,)
        Catalogue, or mean positions of sources seen before (degree).
    order, clip
        As for `solve`.
    radius : float
        First match radius (pixel), by default 0.002 diagonals and at least 3; it shrinks to `clip`
        sigma, not below 0.4.
    weight : float64, shape (m,), optional
        Relative weights of the catalogue stars, such as inverse variances; equal by default.
    det_err : float64, shape (n,), optional
        1-sigma errors of the detections per axis (pixel). Together with a floor that the residuals tell they make
        weights, which multiply `weight`: see `position_weights`.
    limit : float
        Largest log10 of the chance that is believed: see `reduction.astrometry.kernels.acceptance.max_log_chance`.
    ranked : bool
        The detections are given brightest first, which counts in the acceptance.

    Returns
    -------
    PlateFit
        Whether it is to be believed says its `acceptance`.

    Raises
    ------
    AlgorithmFailed
        Fewer than six pairs are left.

    Notes
    -----
    From the order of `solution` on the order grows by one a round and the match radius shrinks, until the pairs no longer change. Of these
    pairs the lowest order is fitted that predicts left-out stars as well as any.
    """
    weights = np.ones(len(cat_ra)) if weight is None else weight
    errors = np.full(len(det_x), np.nan) if det_err is None else det_err
    stars = _Stars(det_x, det_y, errors, cat_ra, cat_dec, weights)
    reach = max(3.0, 0.002 * float(np.hypot(solution.nx, solution.ny))) if radius is None else radius
    near = _around(cat_ra, cat_dec, solution.centre, 1.2 * solution.radius)
    first = min(solution.order, order)
    if len(near) > 2 * SAMPLE:
        # a sample brings the solution near enough for the whole list to settle at once
        sample = _settle(stars, near[:: len(near) // SAMPLE], solution, solution.centre, reach, (first, order), clip)
        solution, reach, first = sample.fit.solution, sample.radius, sample.fit.solution.order
    settled = _settle(stars, near, solution, solution.centre, reach, (first, order), clip)
    return _result(replace(settled, fit=_best_order(settled)), len(det_x), limit, ranked)


@dataclass(frozen=True)
class _Stars:
    """Detections (pixel) with their errors, catalogue stars (degree) with their weights."""

    x: FloatArray
    y: FloatArray
    error: FloatArray
    ra: FloatArray
    dec: FloatArray
    weight: FloatArray


@dataclass(frozen=True)
class _Settled:
    """A fit, its pairs: (ra, dec, x, y, weight) and their indices, and the match radius that made them."""

    fit: PolynomialFit
    pairs: tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]
    det: IntArray
    cat: IntArray
    n_inside: int
    radius: float


def _settle(
    stars: _Stars, near: IntArray, solution: PlateSolution, tangent: tuple[float, float], reach: float, orders: tuple[int, int], clip: float
) -> _Settled:
    """Project, match and fit the catalogue stars `near`, from the first to the last of `orders`, until the pairs no longer change."""
    size = (solution.nx, solution.ny)
    previous: tuple[bytes, bytes, int] | None = None
    for step in range(MAX_ROUNDS):
        px, py = solution.project(stars.ra[near], stars.dec[near])
        on_frame = np.flatnonzero(solution.inside(px, py))
        px, py = px[on_frame], py[on_frame]
        pair, det = match_positions(px, py, stars.x, stars.y, reach)
        if len(pair) < MIN_MATCHED:
            raise _dwindled(len(pair), len(on_frame), reach)
        cat = near[on_frame[pair]]
        degree = highest_order(len(cat), min(orders[1], orders[0] + step))
        x, y = stars.x[det], stars.y[det]
        weight = stars.weight[cat] * position_weights(stars.error[det], np.column_stack([x - px[pair], y - py[pair]]))
        pairs = (stars.ra[cat], stars.dec[cat], x, y, weight)
        fit = fit_plate(*pairs, tangent=tangent, order=degree, size=size)
        settled = _Settled(fit, pairs, det, cat, len(on_frame), reach)
        state = (det.tobytes(), cat.tobytes(), degree)
        if state == previous:
            break
        previous, solution = state, fit.solution
        reach = max(MIN_RADIUS, min(reach, np.sqrt(2.0) * clip * fit.sigma))
    return settled


def _around(ra: FloatArray, dec: FloatArray, centre: tuple[float, float], radius: float) -> IntArray:
    """Index of the stars within `radius` (degree) of a point."""
    chord = np.linalg.norm(unit_vectors(ra, dec) - unit_vectors(*centre), axis=1)
    return np.flatnonzero(chord <= 2.0 * np.sin(np.radians(0.5 * radius))).astype(np.int64)


def _best_order(settled: _Settled) -> PolynomialFit:
    """Fit of the lowest order whose leave-one-out residuals, weighted, are as small as any, up to that of the fit."""
    last = settled.fit.solution
    tangent, size = (last.ra0, last.dec0), (last.nx, last.ny)
    fits = [fit_plate(*settled.pairs, tangent=tangent, order=order, size=size) for order in range(1, last.order)] + [settled.fit]
    root = np.sqrt(settled.pairs[4])
    normalised = [np.concatenate([root * each.loo_x, root * each.loo_y]) for each in fits]
    # one cap for all orders: a blend is as far off under each
    cap = (CLIP * min(robust_scatter(each) for each in normalised)) ** 2
    scores = [float(np.mean(np.minimum(each**2, cap))) for each in normalised]
    enough = (1.0 + ORDER_GAIN / len(root)) * min(scores)
    return next(each for each, score in zip(fits, scores, strict=True) if score <= enough)


def _dwindled(n_pair: int, n_inside: int, radius: float) -> AlgorithmFailed:
    return AlgorithmFailed(
        f"{n_pair} of {n_inside} catalogue stars on the frame have a detection within {radius:.2f} pixel, {MIN_MATCHED} are needed",
        hint="the start was wrong, or the catalogue has too few stars here",
        code="solve.few_pairs",
    )


def _result(settled: _Settled, n_det: int, limit: float, ranked: bool) -> PlateFit:
    fit = settled.fit
    size: dict[str, Any] = {"n_det": n_det, "n_cat": settled.n_inside, "n_term": len(fit.solution.coeff_x)}
    how: dict[str, Any] = {"area": float(fit.solution.nx * fit.solution.ny), "limit": limit, "rank": settled.det if ranked else None}
    return PlateFit(
        solution=fit.solution,
        det_index=settled.det,
        cat_index=settled.cat,
        residual_x=fit.residual_x,
        residual_y=fit.residual_y,
        loo_x=fit.loo_x,
        loo_y=fit.loo_y,
        rms_x=robust_scatter(fit.loo_x),
        rms_y=robust_scatter(fit.loo_y),
        n_matched=len(settled.cat),
        n_catalogue_in_frame=settled.n_inside,
        radius=settled.radius,
        acceptance=judge(np.hypot(fit.loo_x, fit.loo_y), radius=settled.radius, **size, **how),
        method="refine",
    )
