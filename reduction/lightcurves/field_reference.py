"""A field's reference, built: from its first frame within that frame's night, then with all nights, until it settles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from sqlalchemy.orm import Session

from reduction.catalogues.kernels.identifiers import fold_of
from reduction.kernels.arrays import FloatArray, IntArray
from reduction.lightcurves.chosen_terms import ChosenTerms, choose_terms_of_field
from reduction.lightcurves.fit_terms import FitTerms, MagnitudeFitParameters
from reduction.lightcurves.frame_verdicts import judge, judged_slot, well_measured
from reduction.lightcurves.kernels.averages import Averages, settled
from reduction.lightcurves.kernels.night_fit import FitChoice, FoldReference, fit_night, fold_reference, weighed_means
from reduction.lightcurves.kernels.nights import MeansOfNights
from reduction.lightcurves.kernels.reference import iterate, least_epochs
from reduction.lightcurves.kernels.term_choice import CandidateScore
from reduction.lightcurves.night_points import NightPoints, Shot, read_night
from reduction.lightcurves.references import SlotReference, night_means, nights_of, read_reference
from reduction.photometry.kernels.light_share import typical_fluxes
from reduction.pipeline.parameters import parameter

__all__ = ["Built", "BuiltSlot", "FieldWork", "ReferenceParameters", "averaged", "begun", "build", "from_nights"]

#: Measurements that a star needs to fix fits.
LEAST = 5
#: References that are averaged of one night before terms are chosen.
_ABOUT = 4


@dataclass(frozen=True)
class ReferenceParameters:
    """When a field needs a new reference, and when that has settled."""

    tolerance: float = parameter(3e-5, "mag", "median change of the reference of one night at which it has settled", above=0, most=1)
    settled: float = parameter(1e-4, "mag", "the same for that of several nights", above=0, most=1)
    max_iterations: int = parameter(25, "", "most references that are averaged of one night", least=1, most=1000)
    max_passes: int = parameter(6, "", "most times that all nights are read for one reference", least=1, most=100)
    method: str = parameter(
        "iterated", "", "how: fits and averages in turn, a night in memory; or all stars and frames of all nights at once, in memory",
        choices=("iterated", "season"),
    )  # fmt: skip
    drift: float = parameter(0.005, "mag", "a new one is made when nights differ by so much from it, beyond their errors", above=0, most=10)
    unknown: float = parameter(0.3, "", "or when it lacks so large a part of the stars that they measure", above=0, most=1)
    drift_nights: int = parameter(3, "", "nights, the latest, that must all do so", least=1, most=1000)


@dataclass(frozen=True)
class FieldWork:
    """A field whose reference is made: its frames in the order of time, the first of the reference among them, slots, parameters, terms."""

    session: Session
    field_id: int
    frames: Sequence[Shot]
    first: int
    slots: Sequence[int]
    fit: MagnitudeFitParameters
    limits: ReferenceParameters
    terms: FitTerms

    @property
    def choice(self) -> FitChoice:
        """How frames are fitted."""
        return self.fit.choice(self.terms)

    @property
    def nights(self) -> list[int]:
        """Its nights, in the order of time."""
        return list(dict.fromkeys(shot.night_id for shot in self.frames))

    @property
    def first_night(self) -> int:
        """Night of the first frame."""
        return self.frames[self.first].night_id

    def read(self, night_id: int, slots: Sequence[int] | None = None) -> NightPoints:
        """The measurements of a night."""
        mine = [shot for shot in self.frames if shot.night_id == night_id]
        return read_night(self.session, self.field_id, night_id, slots or self.slots, self.terms, mine)

    def typical_fluxes(self, points: NightPoints) -> FloatArray:
        """Flux of each star on the first frame, of whose night the points are, from the slot in which neighbours are told apart (ADU)."""
        slot = min(points.flux)
        flux, error = (values[slot].astype(np.float64) for values in (points.flux, points.flux_err))
        return typical_fluxes(points.frame, points.star, flux, error, self.place(points), len(points.source_id))

    def place(self, points: NightPoints) -> int:
        """Place of the first frame among those of its night."""
        return list(points.shots).index(self.frames[self.first])


@dataclass
class BuiltSlot:
    """A reference in one slot: as people see it, for the fit without each fold, and how it settled."""

    public: Averages
    folds: FoldReference
    change: float
    settled: bool
    iteration: int


@dataclass
class Built:
    """A reference of the stars `source_id` (rising).

    `flux` is each star's typical flux on the first frame (ADU); `single` are the magnitudes of that frame, by slot; `n_zero` catalogue
    stars fixed its zero point (None: it was not fixed anew). `terms` are those of the fits to it, `scores` those of all that were tried.
    """

    source_id: IntArray
    fit_mag: FloatArray
    flux: FloatArray
    n_night: int
    n_frame: int
    terms: FitTerms
    scores: tuple[CandidateScore, ...] = ()
    n_zero: int | None = None
    slots: dict[int, BuiltSlot] = field(default_factory=dict)
    single: dict[int, Averages] = field(default_factory=dict)

    def references(self) -> dict[int, SlotReference]:
        """What frames are fitted to next, by slot."""
        return {slot: SlotReference(self.source_id, each.folds) for slot, each in self.slots.items()}

    def meet(self, source_id: IntArray, fit_mag: FloatArray) -> None:
        """Take in stars that no night before had, with their magnitudes where these are known."""
        ids = np.union1d(self.source_id, source_id)
        at, mine = np.searchsorted(ids, self.source_id), np.searchsorted(ids, source_id)
        mag, flux = np.full((2, ids.size), np.nan)
        mag[at], flux[at] = self.fit_mag, self.flux
        mag[mine] = np.where(np.isfinite(fit_mag), fit_mag, mag[mine])
        if ids.size > self.source_id.size:
            self.single = {slot: _spread(each, at, ids.size) for slot, each in self.single.items()}
            folds = {slot: SlotReference(self.source_id, each.folds).at(ids) for slot, each in self.slots.items()}
            for slot, each in self.slots.items():
                each.public, each.folds = _spread(each.public, at, ids.size), folds[slot]
        self.source_id, self.fit_mag, self.flux = ids, mag, flux


def _spread(each: Averages, at: IntArray, n: int) -> Averages:
    mag, err, scatter = np.full((3, n), np.nan)
    number = np.zeros(n, dtype=np.int64)
    mag[at], err[at], scatter[at], number[at] = each.mag, each.err, each.scatter, each.n
    return Averages(mag, err, scatter, number)


def build(work: FieldWork) -> Built:
    """A reference from its first frame on, by fits and averages in turn, a night in memory at a time.

    With several nights, all of them are fitted to that of the first frame's night, and their means are the next, until that settles.
    """
    work, built = begun(work)
    return built if len(work.nights) == 1 else _with_all_nights(work, built)


def begun(work: FieldWork) -> tuple[FieldWork, Built]:
    """A reference of the first frame's night, and the work with the terms that were chosen.

    Frames that are found spoiled have less of a say in the averages, or none. Within the frame's own night it settles in memory.
    """
    judged = judged_slot(work.slots)
    scores: tuple[CandidateScore, ...] = ()
    points = work.read(work.first_night)
    if work.fit.is_open and points.frame.size:
        chosen = _chosen(work, points, judged)
        points = points if chosen.terms.terms == work.terms.terms else replace(work, terms=chosen.terms).read(work.first_night)
        work, scores = replace(work, terms=chosen.terms), chosen.scores
    built = Built(points.source_id, points.fit_mag, work.typical_fluxes(points), 1, len(points.shots), work.terms, scores)
    _settle(work, points, judged, built, np.ones(len(points.shots)))
    factor = _factor(work, points, judged, built)
    for slot in work.slots:
        if slot != judged or (factor < 1).any():
            _settle(work, points, slot, built, factor)
    built.slots = {slot: built.slots[slot] for slot in work.slots}
    return work, built


def from_nights(work: FieldWork, base_id: int) -> Built:
    """A reference averaged from the means of nights that are kept of an earlier one; then as in `build`."""
    points = work.read(work.first_night, work.slots[:1])
    built = Built(points.source_id, points.fit_mag, work.typical_fluxes(points), 0, 0, work.terms)
    before = {slot: read_reference(work.session, base_id, slot) for slot in work.slots}
    sums = {slot: MeansOfNights() for slot in work.slots}
    for night in nights_of(work.session, base_id):
        for slot in work.slots:
            ids, means = night_means(work.session, base_id, night, slot)
            sums[slot].add(ids, means, before[slot].at(ids))
    for each in sums.values():
        built.meet(each.source_id, np.full(each.source_id.size, np.nan))
    averaged(work, built, sums, before)
    return _with_all_nights(work, built)


def _chosen(work: FieldWork, points: NightPoints, slot: int) -> ChosenTerms:
    """Terms chosen on frames of the first night that are not spoiled, by a reference that is about settled."""
    about = replace(work, limits=replace(work.limits, max_iterations=min(_ABOUT, work.limits.max_iterations)))
    built = Built(points.source_id, points.fit_mag, work.typical_fluxes(points), 1, len(points.shots), work.terms)
    _settle(about, points, slot, built, np.ones(len(points.shots)))
    whole = _factor(work, points, slot, built) == 1.0
    good = [shot for shot, kept in zip(points.shots, whole, strict=True) if kept and not shot.masked] or list(points.shots)
    stars = points.source_id[well_measured(points.rows(slot, np.ones((points.frame.size, 1))), work.fit.fit_sigma)]
    place = (work.field_id, work.first_night, slot)
    return choose_terms_of_field(work.session, place, good, built.references()[slot], stars, work.fit)


def _factor(work: FieldWork, points: NightPoints, slot: int, built: Built) -> FloatArray:
    """What the weight of each frame of the first night is multiplied by, judged by a fit to the reference of this night."""
    rows = points.rows(slot, work.terms.design(points.variables, points.frame.size))
    folds = built.slots[slot].folds
    return judge(points, rows, folds, fit_night(rows, folds, work.choice), work.fit.fit_sigma).factor


def _settle(work: FieldWork, points: NightPoints, slot: int, built: Built, factor: FloatArray) -> None:
    """The reference of one night in one slot, of frames that count by `factor`, and the single frame's magnitudes."""
    fit, limits, terms = work.fit, work.limits, work.terms
    mag, sigma = points.instrumental(slot)
    start, n_zero = _start(points, mag, sigma, work.place(points))
    result = iterate(
        points.frame, points.star, mag, sigma, terms.design(points.variables, len(mag)), points.fold, start=start, group=terms.group,
        eligible=points.eligible, counts=points.unmasked(), factor=factor, fit_sigma=fit.fit_sigma, per_term=fit.per_term, clip=fit.clip,
        min_epochs=LEAST, tolerance=limits.tolerance, max_iterations=limits.max_iterations,
    )  # fmt: skip
    public = Averages(result.reference.mag, result.reference.err, result.mean.scatter, result.reference.n)
    built.slots[slot] = BuiltSlot(public, result.folds, result.history[-1].change, result.converged, len(result.references) - 1)
    built.single[slot] = result.references[0]
    built.n_zero = n_zero if built.n_zero is None else min(built.n_zero, n_zero)


def _start(points: NightPoints, mag: FloatArray, sigma: FloatArray, first: int) -> tuple[FloatArray, int]:
    """The first frame's magnitudes, shifted to the catalogue's scale by the median of its good catalogue stars, and their number.

    With fewer than three of them the magnitudes stay instrumental and the number is 0.
    """
    reference = np.full(len(points.source_id), np.nan)
    rows = np.flatnonzero((points.frame == first) & points.eligible & np.isfinite(mag))
    reference[points.star[rows]] = mag[rows]
    good = rows[(sigma[rows] < 0.05) & points.catalogued[points.star[rows]]]
    if good.size < 3:
        return reference, 0
    return reference + float(np.median(points.fit_mag[points.star[good]] - mag[good])), int(good.size)


def _with_all_nights(work: FieldWork, built: Built) -> Built:
    """Fit every night to the reference and average the next, until it settles; one night is in memory at a time."""
    references, before = built.references(), np.inf
    for _ in range(work.limits.max_passes):
        sums = {slot: MeansOfNights() for slot in work.slots}
        for night_id in work.nights:
            _add_night(work, night_id, built, references, sums)
        references = averaged(work, built, sums, references)
        change = float(np.median([each.change for each in built.slots.values()]))
        # Small changes that no longer fall go in a circle: another pass would bring nothing.
        if all(each.settled for each in built.slots.values()) or before <= change < 2 * work.limits.settled:
            break
        before = change
    return built


def _add_night(
    work: FieldWork, night_id: int, built: Built, references: Mapping[int, SlotReference], sums: Mapping[int, MeansOfNights]
) -> None:  # fmt: skip
    points = work.read(night_id)
    if not points.source_id.size:
        return
    built.meet(points.source_id, points.fit_mag)
    design = work.terms.design(points.variables, points.frame.size)
    judged, factor = judged_slot(work.slots), None
    for slot in (judged, *(slot for slot in work.slots if slot != judged)):
        rows, against = points.rows(slot, design), references[slot].at(points.source_id)
        fit = fit_night(rows, against, work.choice)
        # The slot that is judged by comes first: one verdict is for all.
        factor = judge(points, rows, against, fit, work.fit.fit_sigma).factor if factor is None else factor
        sums[slot].add(points.source_id, weighed_means(rows.weighed(factor), against, fit, work.choice).means, against)


def averaged(
    work: FieldWork, built: Built, sums: Mapping[int, MeansOfNights], before: Mapping[int, SlotReference]
) -> dict[int, SlotReference]:  # fmt: skip
    """The next reference in each slot, and how far it is from the last."""
    built.n_night, built.n_frame = len(work.nights), len(work.frames)
    fold = fold_of(built.source_id).astype(np.int64)
    for slot, each in sums.items():
        means = each.means_of(built.source_id)
        folds = fold_reference(means, fold, least_epochs(LEAST, len(work.frames)))
        change = _change(before[slot].at(built.source_id), folds, fold)
        number = built.slots[slot].iteration + 1 if slot in built.slots else 1
        built.slots[slot] = BuiltSlot(means.public(fold), folds, change, change <= work.limits.settled, number)
    return built.references()


def _change(old: FoldReference, new: FoldReference, fold: IntArray) -> float:
    """Of the references of the folds; a star's own fold is not fitted to."""
    others = np.arange(len(old.mag))[:, None] != fold
    before, after, error = (np.where(others, values, np.nan).ravel() for values in (old.mag, new.mag, new.err))
    return settled(before, after, error)
