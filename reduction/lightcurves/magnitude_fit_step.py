"""Step magnitude_fit: a night's frames are brought to the field's reference, cross-fitted, in one pass.

Step frame_fit does it for each frame of a night that is open by itself, until the night is closed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.errors import AlgorithmFailed
from db.fetch import fetch_arrays
from db.tables import (
    N_FOLD,
    Annotation,
    BestSlot,
    Exposure,
    Frame,
    FrameField,
    FrameVerdict,
    KeptFrame,
    MagfitMap,
    MagfitReference,
    MagfitSolution,
    NightChange,
    NightMagnitude,
    NightNoise,
    ReferenceRequest,
    Task,
)
from db.terms import TERMS, Term, term_groups
from reduction.kernels.arrays import BoolArray, FloatArray, IntArray
from reduction.lightcurves.accepting import acceptance
from reduction.lightcurves.fit_terms import FitTerms, MagnitudeFitParameters
from reduction.lightcurves.frame_verdicts import Verdicts, judge, judged_slot, kept_by_people
from reduction.lightcurves.kernels.averages import Averages, settled
from reduction.lightcurves.kernels.night_fit import FitChoice, FitRows, FoldReference, NightFit, fit_night, own_fold, weighed_means
from reduction.lightcurves.kernels.night_noise import night_noise
from reduction.lightcurves.kernels.noise import FrameExcess, excess_scatter, frame_excess
from reduction.lightcurves.night_points import NightPoints, Shot, measured, read_night, shots, slots_of
from reduction.lightcurves.references import SlotReference, in_use, night_rows, read_reference, terms_of
from reduction.pipeline.declaration import Context, InputTask, Output, Rows, Unit, canonical, step
from reduction.pipeline.inputs import Earlier, Members, Said, Worked
from reduction.pipeline.open_nights import OpenNights, open_nights

__all__ = ["frame_fit", "magnitude_fit"]

#: Stars of like magnitude from which the slot of one is taken that the reference does not have.
_ALIKE = 15
#: Values of one IN list: SQLite takes no more than 32,766.
_MANY = 10_000


@dataclass(frozen=True)
class _Night:
    """A night of a field, to be fitted to one reference."""

    reference_id: int
    field_id: int
    night_id: int


def _plan(context: Context, p: MagnitudeFitParameters) -> list[Unit[_Night]]:
    """Every night of a field, for each reference of the field that is worked with; of what was all fitted once, nights that changed."""
    session = context.session
    references = in_use(session, canonical(dataclasses.asdict(p)))
    if not references:
        return []
    lasting = open_nights(session)
    since = context.since
    context.in_part = since is not None and all(each.task_id <= since for each in references)
    changed = _changed_nights(session, since) if since is not None and context.in_part else None
    nights: dict[int, dict[int, list[InputTask]]] = {}
    for field_id, night_id, task_id, input_hash in session.execute(_fitted_frames(changed)) if changed is None or changed else ():
        if night_id not in lasting:
            nights.setdefault(field_id, {}).setdefault(night_id, []).append(InputTask(task_id, input_hash, "photometry"))
    made = _reference_tasks(session, references)
    said = _said(session)
    return [
        Unit(
            f"{each.reference_id}/{night_id}",
            f"field {each.field_id}, night {night_id}, reference {each.reference_id}, {len(tasks)} frames",
            (made[each.task_id], *tasks),
            said.get((each.field_id, night_id), ""),
            payload=_Night(each.reference_id, each.field_id, night_id),
        )
        for each in references
        for night_id, tasks in nights.get(each.field_id, {}).items()
    ]


def _fitted_frames(nights: Collection[int] | None) -> sa.Select[Any]:
    """Field, night and photometry of every frame, or of those of some nights."""
    query = measured(FrameField.field_id, Frame.night_id, Task.task_id, Task.input_hash).join(Task, Task.frame_id == Frame.frame_id)
    query = query.where(Task.step == "photometry", Task.status == "done").order_by(FrameField.field_id, Frame.jd_utc)
    return query if nights is None else query.where(Frame.night_id.in_(nights))


def _changed_nights(session: Session, since: int) -> set[int]:
    """Nights with frames that were measured after a task, or whose fit is stale."""
    new = (Task.step == "photometry", Task.status == "done", Task.is_stale.in_([0, 1]), Task.task_id > since)
    # Frames by frames: joined, SQLite would look at all that there are.
    frames = list(session.execute(sa.select(Task.frame_id).where(*new)).scalars())
    nights = [
        session.execute(sa.select(Frame.night_id).where(Frame.frame_id.in_(frames[first : first + _MANY])).distinct()).scalars()
        for first in range(0, len(frames), _MANY)
    ]
    stale = sa.select(Task.unit).where(Task.step == "magnitude_fit", Task.status.in_(["done", "failed"]), Task.is_stale == 1)
    # Those that have been open till now: their frames were fitted one by one.
    single = sa.select(Task.unit).where(Task.step == "frame_fit", Task.status.in_(["done", "failed"]), Task.is_stale.in_([0, 1]))
    opened = {int(unit.split("/")[1]) for unit in session.execute(single).scalars()}
    return (
        opened
        | {night_id for some in nights for night_id in some}
        | {int(unit.rpartition("/")[2]) for unit in session.execute(stale).scalars()}
    )


def _reference_tasks(session: Session, references: Sequence[MagfitReference]) -> dict[int, InputTask]:
    """The tasks that made the references, which count however they ended up: a reference stands until it is retracted."""
    query = sa.select(Task.task_id, Task.input_hash).where(Task.task_id.in_([each.task_id for each in references]))
    return {row.task_id: InputTask(row.task_id, row.input_hash, "magnitude_reference") for row in session.execute(query)}


def _said(session: Session) -> dict[tuple[int, int], str]:
    """What people say of whole frames, by field and night, as text that enters a unit's hash: masked they make no means, kept they do."""
    # The maskings are few, the frames many: these are looked up by their key, and sorted here.
    whole = sa.select(Annotation.frame_id).where(Annotation.source_id.is_(None))
    query = sa.select(FrameField.field_id, Frame.night_id, Frame.frame_id).join(FrameField, FrameField.frame_id == Frame.frame_id)
    found: dict[tuple[int, int], str] = {}
    for field_id, night_id, frame_id in sorted(map(tuple, session.execute(query.where(Frame.frame_id.in_(whole)))), key=lambda row: row[2]):
        found[field_id, night_id] = f"{found.get((field_id, night_id), '')} {frame_id}"
    for field_id, night_id, frame_id in kept_by_people(session):
        found[field_id, night_id] = f"{found.get((field_id, night_id), '')} +{frame_id}"
    return found


def _accepted(night: _Night, session: Session, _task_id: int) -> list[Rows]:
    """A candidate is accepted when this was the last of its field's nights: from then on the light curves are its."""
    return acceptance(session, night.reference_id, night_id=night.night_id)


def _without(session: Session, unit: Unit[_Night]) -> list[Rows]:
    """A night that cannot be fitted keeps no candidate waiting that others were fitted to."""
    night = unit.payload
    return acceptance(session, night.reference_id, night_id=night.night_id) if _is_fitted_to(session, night.reference_id) else []


def _is_fitted_to(session: Session, reference_id: int) -> bool:
    """Whether anything is."""
    mine = (Task.step.in_(["magnitude_fit", "frame_fit"]), Task.status == "done", Task.unit.like(f"{reference_id}/%"))
    return session.execute(sa.select(Task.task_id).where(*mine).limit(1)).first() is not None


@step(
    "magnitude_fit",
    plan=_plan,
    inputs=(
        Members("photometry"),
        Members("magnitude_reference"),
        Earlier("frame_fit"),
        Said((Annotation, KeptFrame, ReferenceRequest)),
        OpenNights(),
    ),
    version=7,
    parameters=MagnitudeFitParameters,
    writes=(MagfitSolution, MagfitMap, NightMagnitude, NightChange, NightNoise, FrameVerdict, BestSlot, MagfitReference),
    failed=_without,
)
def magnitude_fit(context: Context, unit: Unit[_Night], p: MagnitudeFitParameters) -> Output:
    """Fit a night's frames to the reference of their field (cross-fitted), and keep what they say of the next reference."""
    session, night = context.session, unit.payload
    terms = terms_of(session.get_one(MagfitReference, night.reference_id)) or p.start
    frames = shots(session, night.field_id, night.night_id)
    slots = slots_of(session, frames[0].instrument_id)
    points = read_night(session, night.field_id, night.night_id, slots, terms, frames)
    rows: list[Rows] = []
    remarks = []
    fitted = np.zeros(len(frames), dtype=np.bool_)
    if points.frame.size:
        design = terms.design(points.variables, points.frame.size)
        choice = p.choice(terms)
        first = _fitted(session, night, points, judged_slot(slots), design, choice)
        verdicts = judge(points, first.rows, first.reference, first.fit, p.fit_sigma)
        for slot in slots:
            mine = first if slot == first.slot else _fitted(session, night, points, slot, design, choice)
            rows += _slot(night, points, mine, verdicts, terms, p)
            fitted = fitted | mine.possible
        rows.append(verdicts.rows(night.reference_id, points))
        remarks.append(verdicts.remark())
        rows += [
            Rows(MagfitMap, columns, replace={name: columns[name] for name in ("reference_id", "frame_id", "name")})
            for columns in points.maps.rows(night.reference_id)
        ]
        rows += _new_slots(session, night.reference_id, _Stars(points.source_id, points.fold, points.fit_mag))
    n_fitted = int(np.count_nonzero(fitted))
    if n_fitted == 0:
        n_point = int(points.frame.size)
        raise AlgorithmFailed(
            f"none of {len(frames)} frames has enough stars to be fitted: {n_point} measurements are fit for it",
            where=unit.label,
            hint="see the remarks of step calibrate and the flags of the measurements: saturated, bad pixels, cosmic rays?",
            code="magfit.no_fit",
        )
    remarks.append(None if n_fitted == len(frames) else f"{len(frames) - n_fitted} of {len(frames)} frames have too few stars to be fitted")
    return Output(
        rows=rows,
        finish=partial(_accepted, night),
        remark="; ".join(each for each in remarks if each) or None,
        anew=_fitted_one_by_one(session, night),
    )


@dataclass(frozen=True)
class _Fitted:
    """A night fitted in one slot: the rows, what they were fitted to, and the fit."""

    slot: int
    rows: FitRows
    reference: FoldReference
    fit: NightFit

    @property
    def possible(self) -> BoolArray:
        """Frames that have stars enough."""
        return np.asarray(np.isfinite(self.fit.fits.coeff).all(axis=(1, 2)))


def _fitted(
    session: Session, night: _Night, points: NightPoints, slot: int, design: FloatArray, choice: FitChoice
) -> _Fitted:  # fmt: skip
    rows = points.rows(slot, design)
    reference = read_reference(session, night.reference_id, slot).at(points.source_id)
    return _Fitted(slot, rows, reference, fit_night(rows, reference, choice))


def _fitted_one_by_one(session: Session, night: _Night) -> bool:
    """Whether frames of the night were fitted while it was open: their rows give place."""
    frames = sa.select(Frame.frame_id).where(Frame.night_id == night.night_id)
    mine = (MagfitSolution.frame_id.in_(frames), MagfitSolution.reference_id == night.reference_id)
    return session.execute(sa.select(sa.literal(1)).where(*mine).limit(1)).first() is not None


def _slot(
    night: _Night, points: NightPoints, mine: _Fitted, verdicts: Verdicts, terms: FitTerms, p: MagnitudeFitParameters
) -> list[Rows]:  # fmt: skip
    """Rows of the night in one slot; excluded frames have none."""
    rows, reference, there = mine.rows.weighed(verdicts.factor), mine.reference, verdicts.fitted
    fit = weighed_means(rows, reference, mine.fit, p.choice(terms))
    mag, err, excess = (own_fold(values, points.fold) for values in (reference.mag, reference.err, reference.excess))
    known = Averages(mag, err, excess, fit.means.n)
    noise = _bright_stars(rows, fit, known, rows.eligible & (rows.sigma <= p.floor_sigma) & there[rows.frame])
    place = {"reference_id": night.reference_id, "slot": mine.slot}
    return [
        *_solutions(place, points.shots, terms.terms, fit, excess_scatter(noise), there),
        night_rows({**place, "night_id": night.night_id}, points.source_id, fit.means),
        _change(place, night.night_id, points, fit, known, int(np.count_nonzero(mine.possible & there))),
        *_noise(place, night.night_id, points.shots, noise),
    ]


def _bright_stars(rows: FitRows, fit: NightFit, known: Averages, bright: BoolArray) -> FrameExcess:
    """Scatter of the bright stars of each frame beyond their errors, about the reference and held out: no star fits itself."""
    some = np.flatnonzero(bright & np.isfinite(fit.mag) & np.isfinite(known.mag[rows.star]))
    star = rows.star[some]
    variance = fit.mag_err[some] ** 2 + known.err[star] ** 2
    return frame_excess(rows.frame[some], fit.mag[some] - known.mag[star], variance, rows.ends.size - 1)


def _solutions(
    place: Mapping[str, Any], frames: Sequence[Shot], terms: tuple[Term, ...], fit: NightFit, floor: FloatArray, there: BoolArray
) -> list[Rows]:  # fmt: skip
    """The coefficients of the frames that are `there`, a block of rows for each fold: so they are read."""
    fits, by_id = fit.fits, np.argsort([shot.frame_id for shot in frames])
    ids, tasks = (np.array([getattr(shot, name) for shot in frames]) for name in ("frame_id", "measure_task"))
    rows = []
    for fold in range(N_FOLD):
        frame = by_id[np.isfinite(fits.coeff[by_id, fold]).all(axis=1) & there[by_id]]
        coeff = dict.fromkeys((term.column for term in TERMS), np.zeros(len(frame)))
        coeff |= {term.column: fits.coeff[frame, fold, k] for k, term in enumerate(terms)}
        columns = {
            "frame_id": ids[frame],
            "measure_task": tasks[frame],
            "n_term": fit.terms[frame].sum(axis=1),
            "term_groups": term_groups(terms),
            "n_fit": fits.n_fit[frame],
            "fit_rms": fits.rms[frame],
            "zero_point_err": fits.zp_err[frame, fold],
            "mag_floor": floor[frame],
            **coeff,
        }
        rows.append(Rows(MagfitSolution, {**place, "fold": fold, **columns}, replace={**place, "fold": fold, "frame_id": ids}))
    return rows


def _change(place: Mapping[str, Any], night_id: int, points: NightPoints, fit: NightFit, known: Averages, n_frame: int) -> Rows:
    """How far the night is from the reference, and how far by its errors it ought to be."""
    mean = fit.means.public(points.fold)
    there = np.isfinite(mean.mag)
    both = there & np.isfinite(known.mag)
    error = np.hypot(mean.err, known.err)
    good = both & (error <= (np.median(error[both]) if both.any() else 0.0))
    change = settled(known.mag, mean.mag, error)
    columns = {
        "night_id": night_id,
        "n_frame": n_frame,
        "n_star": int(np.count_nonzero(both)),
        "n_unknown": int(np.count_nonzero(there & ~np.isfinite(known.mag))),
        "change": change if np.isfinite(change) else np.nan,
        # the median of the absolute value of a Gaussian
        "expected": 0.6745 * float(np.median(error[good])) if good.any() else np.nan,
    }
    return Rows(NightChange, {**place, **columns}, upsert=True)


def _noise(place: Mapping[str, Any], night_id: int, frames: Sequence[Shot], excess: FrameExcess) -> list[Rows]:
    """Floor and scintillation of the night, where its frames tell."""
    airmass = np.array([np.nan if shot.airmass is None else shot.airmass for shot in frames], dtype=np.float64)
    exptime = np.array([shot.exptime for shot in frames], dtype=np.float64)
    noise = night_noise(excess, airmass, exptime)
    mine = {**place, "night_id": night_id}
    # A night that does not tell any more has no row, either.
    return [Rows(NightNoise, {} if noise is None else {**mine, **noise._asdict()}, replace=mine)]


class _Stars(NamedTuple):
    """Stars of a night or a frame, with their folds and magnitudes in the field's band."""

    source_id: IntArray
    fold: IntArray
    fit_mag: FloatArray


def _new_slots(session: Session, reference_id: int, stars: _Stars) -> list[Rows]:
    """Slots of stars that the reference does not have: those of stars of like magnitude, so that their curves are seen."""
    query = sa.select(BestSlot.source_id, BestSlot.slot).where(BestSlot.reference_id == reference_id).order_by(BestSlot.source_id)
    ids, slots = fetch_arrays(session.connection(), query, kinds="ii")
    new = np.flatnonzero(~np.isin(stars.source_id, ids))
    if not new.size or not ids.size:
        return []
    place = np.minimum(np.searchsorted(ids, stars.source_id), ids.size - 1)
    there = np.flatnonzero((ids[place] == stars.source_id) & np.isfinite(stars.fit_mag))
    chosen = [_slot_alike(mag, stars.fit_mag[there], slots[place[there]], slots) for mag in stars.fit_mag[new]]
    columns = {"source_id": stars.source_id[new], "slot": np.array(chosen), "fold": stars.fold[new]}
    return [Rows(BestSlot, {"reference_id": reference_id, **columns})]


def _slot_alike(mag: float, mags: FloatArray, slots: IntArray, everyones: IntArray) -> int:
    nearest = slots[np.argsort(np.abs(mags - mag), kind="stable")[:_ALIKE]] if np.isfinite(mag) else slots
    return int(np.bincount(nearest if nearest.size else everyones).argmax())


@dataclass(frozen=True)
class FrameFitParameters:
    """It has none: frames are fitted as nights are."""


@dataclass(frozen=True)
class _Single:
    """A frame of an open night, to be fitted to one reference."""

    reference_id: int
    field_id: int
    night_id: int
    frame_id: int


def _frames_plan(context: Context, _: FrameFitParameters) -> list[Unit[_Single]]:
    """Every frame of the nights that are open, for each reference that its field works with; none once the night is closed."""
    session = context.session
    lasting = open_nights(session)
    if not lasting:
        return []
    references = in_use(session, canonical(dataclasses.asdict(context.parameters("magnitude_fit"))))
    made = _reference_tasks(session, references)
    columns = (FrameField.field_id, Frame.night_id, Frame.frame_id, Exposure.path, Task.task_id, Task.input_hash)
    query = (
        measured(*columns)
        .join(Exposure, Exposure.exposure_id == Frame.exposure_id)
        .join(Task, sa.and_(Task.frame_id == Frame.frame_id, Task.step == "photometry", Task.status == "done"))
        .where(Frame.night_id.in_(lasting))
        .order_by(Frame.jd_utc, Frame.frame_id)
    )
    rows = session.execute(query).all()
    facts = context.step.facts(context.settings)
    return [
        Unit(
            f"{each.reference_id}/{row.night_id}/{row.frame_id}",
            f"{Path(row.path).name}, reference {each.reference_id}",
            (made[each.task_id], InputTask(row.task_id, row.input_hash, "photometry")),
            facts,
            row.frame_id,
            row.night_id,
            payload=_Single(each.reference_id, each.field_id, row.night_id, row.frame_id),
        )
        for each in references
        for row in rows
        if row.field_id == each.field_id
    ]


def _frame_without(session: Session, unit: Unit[_Single]) -> list[Rows]:
    """Nor does a frame of an open night that cannot be fitted."""
    single = unit.payload
    return acceptance(session, single.reference_id, frame_id=single.frame_id) if _is_fitted_to(session, single.reference_id) else []


@step(
    "frame_fit",
    plan=_frames_plan,
    inputs=(
        Members("photometry"),
        Members("magnitude_reference"),
        Worked("magnitude_fit"),
        Said((ReferenceRequest,)),
        OpenNights(),
    ),
    parameters=FrameFitParameters,
    writes=(MagfitSolution, MagfitMap, BestSlot, MagfitReference),
    complete=True,
    failed=_frame_without,
)
def frame_fit(context: Context, unit: Unit[_Single], _: FrameFitParameters) -> Output:
    """Fit a frame of an open night to the reference of its field; what the night says of the stars waits until it is closed."""
    session, single = context.session, unit.payload
    p = context.parameters("magnitude_fit")
    frames = shots(session, single.field_id, single.night_id, single.frame_id)
    slots = slots_of(session, frames[0].instrument_id)
    terms = terms_of(session.get_one(MagfitReference, single.reference_id)) or p.start
    points = read_night(session, single.field_id, single.night_id, slots, terms, frames)
    if not points.frame.size:
        return Output(finish=partial(_frame_finish, single, None), remark="no measurements")
    design = terms.design(points.variables, points.frame.size)
    rows: list[Rows] = []
    for slot in slots:
        rows += _frame_slot(context, single, points, slot, design, terms)
    rows += [
        Rows(MagfitMap, columns, replace={name: columns[name] for name in ("reference_id", "frame_id", "name")})
        for columns in points.maps.rows(single.reference_id)
    ]
    known = any(np.size(each.columns.get("frame_id", ())) for each in rows if each.table is MagfitSolution)
    stars = _Stars(points.source_id, points.fold, points.fit_mag)
    return Output(rows=rows, finish=partial(_frame_finish, single, stars), remark=None if known else "too few stars to be fitted")


def _frame_slot(
    context: Context, single: _Single, points: NightPoints, slot: int, design: FloatArray, terms: FitTerms
) -> Sequence[Rows]:  # fmt: skip
    """Coefficients of the frame in one slot: those that it has in the fit of its night, which frames share nothing in but the reference."""
    p = context.parameters("magnitude_fit")
    rows = points.rows(slot, design)
    reference = _reference(context, single.reference_id, slot).at(points.source_id)
    fit = fit_night(rows, reference, p.choice(terms))
    mag, err, excess = (own_fold(values, points.fold) for values in (reference.mag, reference.err, reference.excess))
    known = Averages(mag, err, excess, fit.means.n)
    noise = _bright_stars(rows, fit, known, rows.eligible & (rows.sigma <= p.floor_sigma))
    place = {"reference_id": single.reference_id, "slot": slot}
    return _solutions(place, points.shots, terms.terms, fit, excess_scatter(noise), np.ones(len(points.shots), dtype=np.bool_))


def _reference(context: Context, reference_id: int, slot: int) -> SlotReference:
    """A reference in one slot, which the next frames find in memory."""
    kept = context.kept
    name = Path(f"reference/{reference_id}/{slot}")
    if name not in kept:
        kept[name] = read_reference(context.session, reference_id, slot)
    found: SlotReference = kept[name]
    return found


def _frame_finish(single: _Single, stars: _Stars | None, session: Session, _task_id: int) -> list[Rows]:
    """Slots of stars that are new; by the writer, since the frames before may have had the same."""
    rows = [] if stars is None else _new_slots(session, single.reference_id, stars)
    return rows + acceptance(session, single.reference_id, frame_id=single.frame_id)
