"""Fit of the profile map to the pixels of the stars of a frame, or of several that have a map in common.

Two linear fits take turns: the fluxes of all stars jointly with the map held (`psf_flux`), and the map's coefficients with
the fluxes held. The terms in x and y hardly change over a star, so that its normal equations are formed once for the profile
and multiplied out by the terms (Pal 2009, PhD thesis, section 2.5; Penev et al. 2025, arXiv 2507.14289). The unknowns are changes
of the map, the data what its model leaves: once order and roughness are chosen the equations' matrix is kept, and a turn
makes only the right sides anew, which alone say where the turns end.

Frames that have a map in common each have fluxes of their own, and a width: on each the profile is the map's, drawn out. The
equations of a drawn-out map are those of the map but for a factor, so that those of all frames add up.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from db.errors import AlgorithmFailed
from reduction.astrometry.kernels.wcs import exponents
from reduction.kernels.arrays import BoolArray, FloatArray, IntArray
from reduction.photometry.kernels.psf_equations import Normal, Scene, System, normal_equations, right_side, system, total
from reduction.photometry.kernels.psf_errors import MapErrors, map_errors
from reduction.photometry.kernels.psf_flux import Canvas, Pixels, fit_fluxes, overlapping
from reduction.photometry.kernels.psf_map import FurtherTerm, PsfMap, Traits
from reduction.photometry.kernels.psf_stars import Selection, like_the_map
from reduction.photometry.kernels.psf_width import width_change

__all__ = ["FrameStars", "PsfFit", "SharedFit", "fit_psf", "fit_shared_psf"]

MOST_TURNS = 10  # of fluxes and map
SETTLED = 0.01  # part of the median chi-square by which a further turn must lower it for one more
LEAST_STARS = 4
STARS_PER_TERM = (1, 10, 10, 30)  # by order, the last for all higher ones: these cost most, and few stars never carry them
ORDER_GAIN = 2.0  # over the number of pixels: a higher order, or one more term, must lower the held-out chi-square by more, as part of it
LEAST_KNOWN = 30  # stars of which something is known, for a term in it
FURTHEST = 5.0  # standard deviations from the median, as which those beyond count: one wrong colour must not have all the say
FOLDS, MANY = (3, 2), 200  # of stars, each predicted by the others: of few, and from so many on, where a half is as good as all
FRAME_FOLDS = 5  # of frames that have a map in common, at most
ROUGHNESS = (1e-5, 1e-3, 1e-7)  # strengths of the penalty, in units of what a typical coefficient is known by: to begin with, and tried


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


class FrameStars(NamedTuple):
    """One of the frames that a map is fitted to.

    pixels, of the frame; x, y (n,), positions of all stars whose light is on it (pixel); width, how many times as wide as the
    map's its profile is, to begin with; traits, what is known of the stars.
    """

    pixels: Pixels
    x: FloatArray
    y: FloatArray
    width: float = 1.0
    traits: Traits = MappingProxyType({})


@dataclass(frozen=True)
class SharedFit:
    """A map of several frames.

    Attributes
    ----------
    psf : PsfMap
    used : list of bool, shape (n,)
        Of each frame, the stars that the map was fitted to.
    width : float64, shape (n_frame,)
        How many times as wide as the map's the profile of each frame is.
    fold : int64, shape (n_frame,)
        Part of the frames that each belongs to.
    left_out : list of PsfMap
        Map of all frames but those of each part.
    chi2, held_out, roughness
        As of `PsfFit`; what is left out are parts of the frames.
    """

    psf: PsfMap
    used: list[BoolArray]
    width: FloatArray
    fold: IntArray
    left_out: list[PsfMap]
    chi2: float
    held_out: tuple[float, ...]
    roughness: float


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
    shows: BoolArray | None = None,
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
    shows : bool, shape (n,), optional
        Stars that may show it; all where not given.

    Returns
    -------
    PsfFit

    Raises
    ------
    AlgorithmFailed
        Too few stars.
    """
    part = _Part(FrameStars(pixels, x, y, traits=traits or {}), seed, min_snr, max_stars, shows)
    turns = _take_turns([part], seed, max_order)
    used = turns.used[0]
    snr, chi2 = part.fluxes.flux[used] / part.fluxes.error[used], part.fluxes.chi2[used]
    choice = turns.choice
    errors = map_errors(part.scene(turns.turn, choice.further), used, turns.equations)
    return PsfFit(turns.psf, part.chosen(used), snr, chi2, turns.chi2, choice.held_out, choice.roughness, choice.tried, errors)


def fit_shared_psf(
    frames: list[FrameStars], seed: PsfMap, *, max_order: int = 3, min_snr: float = 20.0, max_stars: int = 2000
) -> SharedFit:
    """Fit one map to several frames of one size; each has fluxes and a width of its own.

    Parameters
    ----------
    frames : list of FrameStars
        Two at least.
    seed : PsfMap
        Where to begin; its knots, radius and pixel are kept.
    max_order, min_snr, max_stars
        As of `fit_psf`; so many stars of each frame at most.

    Returns
    -------
    SharedFit

    Raises
    ------
    AlgorithmFailed
        Too few stars on all of them together.
    """
    parts = [_Part(frame, seed, min_snr, max_stars, None) for frame in frames]
    turns = _take_turns(parts, seed, max_order)
    folds = min(FRAME_FOLDS, len(parts))
    return SharedFit(
        turns.psf,
        [part.chosen(used) for part, used in zip(parts, turns.used, strict=True)],
        np.array([part.width for part in parts]),
        np.arange(len(parts)) % folds,
        _left_out(parts, turns, seed, folds),
        turns.chi2,
        turns.choice.held_out,
        turns.choice.roughness,
    )


class _Part:
    """A frame's part in the fit: its pixels, the stars that have one, and their fluxes with the map as it stands."""

    def __init__(self, frame: FrameStars, seed: PsfMap, min_snr: float, max_stars: int, shows: BoolArray | None) -> None:
        self.width, self.canvas, self.n = frame.width, Canvas(frame.pixels), len(frame.x)
        self.psf = seed.drawn_out(self.width)
        stamps = self.psf.stamps(frame.x, frame.y)
        every = fit_fluxes(frame.pixels, stamps, canvas=self.canvas)
        selection = Selection(frame.x, frame.y, (seed.nx, seed.ny), min_snr, max_stars)
        self.shows = np.ones(self.n, dtype=bool) if shows is None else shows
        # Stars that share no pixel with one that shows the profile have no part in it.
        self.near = np.flatnonzero(overlapping(stamps, selection.stars(every, self.shows)))
        self.selection, self.shows = selection.of(self.near), self.shows[self.near]
        self.traits = {name: values[self.near] for name, values in frame.traits.items()}
        self.fluxes = every
        self.draw(seed, every.flux[self.near])

    def draw(self, psf: PsfMap, flux: FloatArray) -> None:
        """Fluxes with a map, near what they are."""
        self.psf = psf.drawn_out(self.width)
        self.stamps = self.psf.stamps(self.selection.x, self.selection.y, self.traits)
        self.fluxes = fit_fluxes(self.canvas.pixels, self.stamps, start=flux, rounds=1, canvas=self.canvas)

    @property
    def factor(self) -> float:
        """What the map's coefficients are multiplied by on this frame."""
        return self.width**-2

    def wider(self, index: IntArray) -> tuple[float, float]:
        """By how much the profile is wider than it is drawn, by some of the stars; see `width_change`."""
        return width_change(self.canvas, self.psf, self.stamps, self.selection.x, self.selection.y, self.traits, self.fluxes.flux, index)

    def scene(self, turn: _Turn, further: tuple[FurtherTerm, ...]) -> Scene:
        x, y = self.selection.x, self.selection.y
        values = _values(further, self.traits, len(x))
        return Scene(self.canvas, self.psf, self.stamps, x, y, self.fluxes.flux, values, turn.clip, turn.allowed)

    def chosen(self, used: IntArray) -> BoolArray:
        """Some of the stars that have a part, among all of the frame."""
        out = np.zeros(self.n, dtype=bool)
        out[self.near[used]] = True
        return out


class _Turns(NamedTuple):
    """How the turns ended: the map, of each frame the stars that it was fitted to, the last turn and its equations."""

    psf: PsfMap
    used: list[IntArray]
    choice: _Choice
    chi2: float
    turn: _Turn
    equations: System


def _take_turns(parts: list[_Part], seed: PsfMap, max_order: int) -> _Turns:
    """Map and fluxes in turn until they settle."""
    psf, choice, chi2 = seed, _Choice(0, ROUGHNESS[0]), np.inf
    for number in range(MOST_TURNS):
        used = _used(parts, first=number == 0)
        n_star = sum(len(index) for index in used)
        highest = min(max_order, _highest_order(n_star))
        turn = FIRST_TURNS[min(number, len(FIRST_TURNS) - 1)]
        last = number + 1 == len(FIRST_TURNS)
        further = _further_terms([part.traits for part in parts], used) if last else choice.further
        scenes = [part.scene(turn, further) for part in parts]
        if number < len(FIRST_TURNS):
            tried = min(highest, turn.order)
            normals = _folded(parts, scenes, used, max(tried, psf.order), folds=_n_folds(parts, n_star) if last else 1)
            choice = _choose(normals, seed, tried, choice.roughness, further) if last else replace(choice, order=tried)
            whole = total(normals).of_terms(choice.blocks(further, max(tried, psf.order)))
            equations = system(whole, seed, choice.roughness)
            coeff = equations.solve(whole.right)
        else:
            changes = [right_side(scene, index) * part.factor for part, scene, index in zip(parts, scenes, used, strict=True)]
            coeff = equations.solve(sum(changes[1:], changes[0]) + equations.matrix @ psf.free(psf.order))
        psf = psf.with_free(choice.order, coeff, choice.further)
        for part in parts:
            part.draw(psf, part.fluxes.flux)
        if len(parts) > 1:
            _fit_widths(parts, used, psf)
        before, chi2 = chi2, float(np.median(np.concatenate([part.fluxes.chi2[index] for part, index in zip(parts, used, strict=True)])))
        if number + 1 >= len(FIRST_TURNS) and chi2 > before * (1.0 - SETTLED):
            break
    return _Turns(psf, used, choice, chi2, turn, equations)


def _used(parts: list[_Part], *, first: bool) -> list[IntArray]:
    """Of each frame the stars that show the profile."""
    usable = [np.ones(len(part.near), dtype=bool) for part in parts] if first else like_the_map([part.fluxes for part in parts])
    return [np.flatnonzero(part.selection.stars(part.fluxes, part.shows & good)) for part, good in zip(parts, usable, strict=True)]


def _n_folds(parts: list[_Part], n_star: int) -> int:
    """Folds of a frame's stars, or of frames."""
    return min(FRAME_FOLDS, len(parts)) if len(parts) > 1 else FOLDS[n_star >= MANY]


def _folded(parts: list[_Part], scenes: list[Scene], used: list[IntArray], order: int, folds: int) -> list[Normal]:
    """Equations of each fold."""
    if len(parts) == 1:
        return [normal_equations(scenes[0], used[0][k::folds], order) for k in range(folds)]
    found: list[Normal] = []
    for number, (part, scene, index) in enumerate(zip(parts, scenes, used, strict=True)):
        # Added up as they come: those of all frames, each by itself, would fill the memory.
        one = normal_equations(scene, index, order).of(part.factor)
        if number < folds:
            found.append(one)
        else:
            found[number % folds] = total([found[number % folds], one])
    return found


def _fit_widths(parts: list[_Part], used: list[IntArray], psf: PsfMap) -> None:
    """Bring the frames' widths nearer to what their pixels show; what is common to all is the map's."""
    found = [part.wider(index) for part, index in zip(parts, used, strict=True)]
    known = np.array([weight for _, weight in found])
    change = np.array([change for change, _ in found])
    if not known.any():
        return
    change -= np.average(change, weights=known)
    for part, by in zip(parts, change, strict=True):
        part.width *= float(np.exp(by))
        part.draw(psf, part.fluxes.flux)


def _left_out(parts: list[_Part], turns: _Turns, seed: PsfMap, folds: int) -> list[PsfMap]:
    """The map of all frames but those of each fold, by the equations at the end."""
    order, choice = turns.psf.order, turns.choice
    normals = _folded(parts, [part.scene(turns.turn, choice.further) for part in parts], turns.used, order, folds)
    whole, found = total(normals), []
    for one in normals:
        others = whole.without(one)
        found.append(turns.psf.with_free(order, system(others, seed, choice.roughness).solve(others.right), choice.further))
    return found


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


def _further_terms(traits: list[Traits], used: list[IntArray]) -> tuple[FurtherTerm, ...]:
    """A term in everything that is known of enough of the stars used, on all frames, and differs between them."""
    terms = []
    for name in traits[0]:
        values = np.concatenate([known[name][index] for known, index in zip(traits, used, strict=True)])
        known = values[np.isfinite(values)]
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
        others = whole.without(part)
        equations = system(others, seed, roughness)
        rests += [part.rest(equations.solve(others.right, n_term * part.n_free)) for n_term in sizes]
    return [float(rest) / whole.n_pixel for rest in rests]
