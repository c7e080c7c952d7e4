"""Fit of the profile map to the pixels of a frame's stars.

Two linear fits take turns: the fluxes of all stars jointly with the map held (`psf_flux`), and the map's coefficients with
the fluxes held. The terms in x and y hardly change over a star, so that its normal equations are formed once for the profile
and multiplied out by the terms (Pal 2009, PhD thesis, section 2.5; Penev et al. 2025, arXiv 2507.14289). The unknowns are changes
of the map, the data what its model leaves: once order and roughness are chosen the equations' matrix is kept, and a turn
makes only the right sides anew, which alone say where the turns end.

Terms beyond those in x and y (what a profile has of a star's colour, say) are multiplied out like these. Each is tried where enough
stars are known by it, and kept if it predicts left-out stars better, as a higher order must.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from db.errors import AlgorithmFailed
from reduction.astrometry.kernels.wcs import exponents
from reduction.kernels.arrays import BoolArray, FloatArray, IntArray
from reduction.photometry.kernels.psf_equations import Normal, Scene, normal_equations, right_side, system, total
from reduction.photometry.kernels.psf_errors import MapErrors, map_errors
from reduction.photometry.kernels.psf_flux import Canvas, Fluxes, Pixels, fit_fluxes, overlapping
from reduction.photometry.kernels.psf_map import FurtherTerm, PsfMap, Traits

__all__ = ["PsfFit", "fit_psf"]

MOST_TURNS = 10  # of fluxes and map
SETTLED = 0.01  # part of the median chi-square by which a further turn must lower it for one more
LEAST_STARS = 4
STARS_PER_TERM = (1, 10, 10, 30)  # by order, the last for all higher ones: these cost most, and few stars never carry them
ORDER_GAIN = 2.0  # over the number of pixels: a higher order, or one more term, must lower the held-out chi-square by more, as part of it
LEAST_KNOWN = 30  # stars of which something is known, for a term in it
FURTHEST = 5.0  # standard deviations from the median, as which those beyond count: one wrong colour must not have all the say
FOLDS, MANY = (3, 2), 200  # of stars, each predicted by the others: of few, and from so many on, where a half is as good as all
ROUGHNESS = (1e-5, 1e-3, 1e-7)  # strengths of the penalty, in units of what a typical coefficient is known by: to begin with, and tried
BRIGHT = 50.0  # signal-to-noise ratio from which stars show how far the map misses a typical one
UNLIKE, UNLIKE_CHI2 = 10.0, 2.0  # a star missed by so many times the typical part of its light, with at least this chi-square, is none


class _Turn(NamedTuple):
    """See `psf_equations.Scene`; order is what is fitted at most."""

    clip: float
    allowed: float
    order: int


#: A seed that is far off must not choose its pixels, and as long as its errors have their say nothing tells where to stop: order and
#: roughness are chosen in the last of the first turns, from all orders allowed.
FIRST_TURNS = (_Turn(20.0, 0.05, 0), _Turn(20.0, 0.005, 2), _Turn(6.0, 0.0, 99))


@dataclass(frozen=True)
class PsfFit:
    """A profile map and how well it stands.

    Attributes
    ----------
    psf : PsfMap
    used : bool, shape (n,)
        Stars that the map was fitted to.
    snr, star_chi2 : float64, shape (n_used,)
        Signal-to-noise ratio of each of these, and its reduced chi-square about the map.
    chi2 : float
        Median of `star_chi2`.
    held_out : tuple of float
        Reduced chi-square of stars left out of the fit, by order.
    roughness : float
        Strength of the penalty chosen.
    tried : dict of str to float
        Reduced chi-square of stars left out, with each further term that could be tried, beside those kept before it and the first
        orders.
    errors : MapErrors
        How well the map is known.
    """

    psf: PsfMap
    used: BoolArray
    snr: FloatArray
    star_chi2: FloatArray
    chi2: float
    held_out: tuple[float, ...]
    roughness: float
    tried: dict[str, float]
    errors: MapErrors


def fit_psf(
    pixels: Pixels,
    x: FloatArray,
    y: FloatArray,
    seed: PsfMap,
    *,
    max_order: int = 3,
    min_snr: float = 20.0,
    max_stars: int = 2000,
    traits: Traits | None = None,
) -> PsfFit:
    """Fit the map to a frame.

    Parameters
    ----------
    pixels : Pixels
    x, y : float64, shape (n,)
        Positions of all stars whose light is on the frame (pixel).
    seed : PsfMap
        Where to begin; its knots, radius and pixel are kept.
    max_order : int
        Highest degree in x and y; the lowest that predicts left-out stars as well is taken.
    min_snr : float
        Least signal-to-noise ratio of a star that shows the profile.
    max_stars : int
        At most so many show it, evenly over the frame.
    traits : dict of str to float64, shape (n,), optional
        What is known of the stars: a further term is tried for each, in this order.

    Returns
    -------
    PsfFit

    Raises
    ------
    AlgorithmFailed
        Too few stars.
    """
    canvas, stamps = Canvas(pixels), seed.stamps(x, y)
    every = fit_fluxes(pixels, stamps, canvas=canvas)
    selection = _Selection(x, y, (seed.nx, seed.ny), min_snr, max_stars)
    first = selection.stars(every, np.ones(len(x), dtype=bool))
    # Stars that share no pixel with one that shows the profile have no part in it.
    near = np.flatnonzero(overlapping(stamps, first))
    known = {name: values[near] for name, values in (traits or {}).items()}
    fit, used = _take_turns(canvas, selection.of(near), seed, every.flux[near], max_order, known)
    chosen = np.zeros(len(x), dtype=bool)
    chosen[near[used]] = True
    return replace(fit, used=chosen)


@dataclass(frozen=True)
class _Selection:
    """How stars that show the profile are chosen from those at `x`, `y`."""

    x: FloatArray
    y: FloatArray
    size: tuple[int, int]
    min_snr: float
    most: int

    def of(self, index: IntArray) -> _Selection:
        return replace(self, x=self.x[index], y=self.y[index])

    def stars(self, fluxes: Fluxes, usable: BoolArray) -> BoolArray:
        """The brightest usable stars of each part of the frame, whole, of enough S/N."""
        with np.errstate(invalid="ignore", divide="ignore"):
            snr = fluxes.flux / fluxes.error
        good = np.flatnonzero(usable & (snr >= self.min_snr) & (fluxes.coverage > 0.99))
        used = np.zeros(len(self.x), dtype=bool)
        if len(good) <= self.most:
            used[good] = True
            return used
        cell = np.sqrt(self.size[0] * self.size[1] / 64.0)
        number = (self.y[good] // cell).astype(np.int64) * 1000 + (self.x[good] // cell).astype(np.int64)
        order = np.lexsort((-snr[good], number))
        first = np.searchsorted(number[order], number[order])
        rank = np.empty(len(good), dtype=np.int64)
        rank[order] = np.arange(len(good)) - first
        used[good[np.lexsort((-snr[good], rank))[: self.most]]] = True
        return used


def _take_turns(
    canvas: Canvas, selection: _Selection, seed: PsfMap, flux: FloatArray, max_order: int, traits: Traits
) -> tuple[PsfFit, IntArray]:
    """Map and fluxes in turn until they settle; the stars that the map was fitted to."""
    x, y = selection.x, selection.y
    psf, stamps = seed, seed.stamps(x, y)
    fluxes = fit_fluxes(canvas.pixels, stamps, start=flux, rounds=1, canvas=canvas)
    choice, chi2 = _Choice(0, ROUGHNESS[0]), np.inf
    for number in range(MOST_TURNS):
        usable = _like_the_map(fluxes) if number else np.ones(len(x), dtype=bool)
        used = np.flatnonzero(selection.stars(fluxes, usable))
        highest = min(max_order, _highest_order(len(used)))
        turn = FIRST_TURNS[min(number, len(FIRST_TURNS) - 1)]
        last = number + 1 == len(FIRST_TURNS)
        further = _further_terms(traits, used) if last else choice.further
        scene = Scene(canvas, psf, stamps, x, y, fluxes.flux, _values(further, traits, len(x)), turn.clip, turn.allowed)
        if number < len(FIRST_TURNS):
            tried = min(highest, turn.order)
            folds = FOLDS[len(used) >= MANY] if last else 1
            parts = [normal_equations(scene, used[k::folds], max(tried, psf.order)) for k in range(folds)]
            choice = _choose(parts, seed, tried, choice.roughness, further) if last else replace(choice, order=tried)
            whole = total(parts).of_terms(choice.blocks(further, max(tried, psf.order)))
            equations = system(whole, seed, choice.roughness)
            coeff = equations.solve(whole.right)
        else:
            coeff = equations.solve(right_side(scene, used, equations.matrix))
        psf = psf.with_free(choice.order, coeff, choice.further)
        stamps = psf.stamps(x, y, traits)
        fluxes = fit_fluxes(canvas.pixels, stamps, start=fluxes.flux, rounds=1, canvas=canvas)
        before, chi2 = chi2, float(np.median(fluxes.chi2[used]))
        if number + 1 >= len(FIRST_TURNS) and chi2 > before * (1.0 - SETTLED):
            break
    snr = fluxes.flux[used] / fluxes.error[used]
    scene = Scene(canvas, psf, stamps, x, y, fluxes.flux, _values(choice.further, traits, len(x)), turn.clip, turn.allowed)
    found = (choice.held_out, choice.roughness, choice.tried, map_errors(scene, used, equations))
    return PsfFit(psf, np.zeros(0, dtype=bool), snr, fluxes.chi2[used], chi2, *found), used


@dataclass(frozen=True)
class _Choice:
    """See `PsfFit`."""

    order: int
    roughness: float
    held_out: tuple[float, ...] = ()
    further: tuple[FurtherTerm, ...] = ()
    tried: dict[str, float] = field(default_factory=dict)

    def blocks(self, tried: tuple[FurtherTerm, ...], order: int) -> list[int]:
        """Numbers of the terms chosen among those of an order and the further ones tried."""
        kept = [len(exponents(order)) + k for k, term in enumerate(tried) if term in self.further]
        return [*range(len(exponents(self.order))), *kept]


def _further_terms(traits: Traits, used: IntArray) -> tuple[FurtherTerm, ...]:
    """A term in everything that is known of enough of the stars used, and differs between them."""
    terms = []
    for name, values in traits.items():
        known = values[used][np.isfinite(values[used])]
        if len(known) >= LEAST_KNOWN and known.min() < known.max():
            centre, scale = float(np.median(known)), float(np.std(known))
            low, high = max(known.min(), centre - FURTHEST * scale), min(known.max(), centre + FURTHEST * scale)
            terms.append(FurtherTerm(name, centre, scale, float(low), float(high)))
    return tuple(terms)


def _values(terms: tuple[FurtherTerm, ...], traits: Traits, n: int) -> FloatArray:
    """Values of further terms for n stars, (n, n_further)."""
    return np.column_stack([term.values(traits[term.name]) for term in terms]) if terms else np.zeros((n, 0))


def _highest_order(n_star: int) -> int:
    """What so many stars carry."""
    if n_star < LEAST_STARS:
        raise AlgorithmFailed(
            f"{n_star} stars show the profile, at least {LEAST_STARS} are needed",
            hint="look at the frame for clouds, saturation or a wrong background",
            code="psf.few_stars",
        )
    order = 0
    while STARS_PER_TERM[min(order + 1, len(STARS_PER_TERM) - 1)] * len(exponents(order + 1)) <= n_star:
        order += 1
    return order


def _like_the_map(fluxes: Fluxes) -> BoolArray:
    """Stars that the map does not miss by far more of their light than others: galaxies, pairs and blemishes are unlike it."""
    with np.errstate(invalid="ignore", divide="ignore"):
        miss = (fluxes.chi2 - 1.0) * (fluxes.error / fluxes.flux) ** 2
        bright = (fluxes.flux > BRIGHT * fluxes.error) & np.isfinite(miss)
    typical = max(float(np.median(miss[bright])), 0.0) if bright.any() else 0.0
    return np.asarray(~((fluxes.chi2 > UNLIKE_CHI2) & (miss > UNLIKE * typical)))


def _choose(parts: list[Normal], seed: PsfMap, highest: int, roughness: float, tried: tuple[FurtherTerm, ...]) -> _Choice:
    """Order, further terms, then roughness, by how well the map of all other folds predicts the stars of each.

    The parts have all terms in x and y up to the highest order or more, and those tried.
    """
    n_place, allowed = parts[0].n_term - len(tried), ORDER_GAIN / sum(part.n_pixel for part in parts)
    places = [part.of_terms(range(len(exponents(highest)))) for part in parts]
    # All orders: a profile that changes with the distance from the axis gains nothing by slopes, and all by the next.
    held_out = _held_out(places, seed, [len(exponents(order)) for order in range(highest + 1)], roughness)
    best = next(order for order, value in enumerate(held_out) if value <= min(held_out) * (1.0 + allowed))
    # What stars are unlike by, and what detail they show, is seen beside the mean profile and its slopes; higher orders would cost most of
    # the time.
    low = min(best, 1)
    kept, reached, found = [*range(len(exponents(low)))], held_out[low], {}
    for k, term in enumerate(tried):
        terms = [*kept, n_place + k]
        found[term.name] = _held_out([part.of_terms(terms) for part in parts], seed, [len(terms)], roughness)[0]
        if found[term.name] < reached * (1.0 - allowed):
            kept, reached = terms, found[term.name]
    further = tuple(term for k, term in enumerate(tried) if n_place + k in kept)
    by_roughness = {roughness: held_out[low]}
    for strength in ROUGHNESS:
        by_roughness.setdefault(strength, _held_out(places, seed, [len(exponents(low))], strength)[0])
    return _Choice(best, min(by_roughness, key=lambda r: by_roughness[r]), tuple(held_out), further, found)


def _held_out(parts: list[Normal], seed: PsfMap, sizes: list[int], roughness: float) -> list[float]:
    """Reduced chi-square of each part's stars by the map of all others, with so many of the first terms, rising."""
    parts = [part.of_terms(range(sizes[-1])) for part in parts]
    whole, rests = total(parts), np.zeros(len(sizes))
    for part in parts:
        others = Normal(whole.matrix - part.matrix, whole.right - part.right, 0.0, 0, whole.n_term)
        equations = system(others, seed, roughness)
        rests += [part.rest(equations.solve(others.right, n_term * part.n_free)) for n_term in sizes]
    return [float(rest) / whole.n_pixel for rest in rests]
