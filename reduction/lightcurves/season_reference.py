"""A field's reference from one solution for all stars and frames of all nights: the second method, and the judge of the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from db.tables import N_FOLD, MagfitReference
from reduction.catalogues.kernels.identifiers import fold_of
from reduction.kernels.arrays import FloatArray, IntArray
from reduction.lightcurves.field_reference import Built, BuiltSlot, FieldWork, ReferenceParameters, averaged
from reduction.lightcurves.fit_terms import MagnitudeFitParameters
from reduction.lightcurves.frame_verdicts import judge, judged_slot
from reduction.lightcurves.kernels.averages import Averages
from reduction.lightcurves.kernels.magnitude_fit import FrameFits
from reduction.lightcurves.kernels.night_fit import fit_night, fold_means, own_fold
from reduction.lightcurves.kernels.nights import MeansOfNights
from reduction.lightcurves.kernels.season import SeasonSolution, solve_season
from reduction.lightcurves.night_points import NightPoints, shots, slots_of
from reduction.lightcurves.references import read_reference, terms_of

__all__ = ["JointMagnitudes", "joint_magnitudes", "solved"]

#: Change of the last reweighting (mag) below which the joint solution has settled.
_SETTLED = 1e-5


@dataclass(frozen=True)
class _Night:
    """A night in memory, and what its frames count for."""

    points: NightPoints
    design: FloatArray
    factor: FloatArray


@dataclass(frozen=True)
class JointMagnitudes:
    """Magnitudes of n stars in one slot, NaN where unknown: of a stored reference, and of the joint solution that begins with it."""

    source_id: IntArray
    stored: FloatArray
    joint: FloatArray


def solved(work: FieldWork, built: Built) -> Built:
    """The reference that the joint solution of all nights is, which are in memory together.

    It begins with `built`, a reference that is about right: frames are judged by it, and what no data hold stays as it has it. As of
    any other, its magnitudes are the means of what the frames' terms leave, in the solutions without each fold.
    """
    nights = _read(work, built)
    before = built.references()
    for slot in work.slots:
        season = _solution(work, built, nights, slot)
        sums = MeansOfNights()
        ends = np.cumsum([0, *(len(night.points.shots) for night in nights)])
        for night, first in zip(nights, ends, strict=False):
            rows = night.points.rows(slot, night.design).weighed(night.factor)
            against = before[slot].at(night.points.source_id)
            fits = _fits(season, slice(int(first), int(first) + len(night.points.shots)), rows.frame, rows.design, rows.fold[rows.star])
            sums.add(night.points.source_id, fold_means(rows, against, fits, N_FOLD), against)
        averaged(work, built, {slot: sums}, before)
        built.slots[slot] = replace(built.slots[slot], change=season.change, settled=season.change <= _SETTLED, iteration=season.rounds)
    return built


def joint_magnitudes(session: Session, made: MagfitReference, p: MagnitudeFitParameters, limits: ReferenceParameters) -> JointMagnitudes:
    """A stored reference beside the joint solution that begins with it, in the slot that frames are judged in.

    Parameters
    ----------
    session : Session
        Reads all nights of the field.
    made : MagfitReference
    p, limits
        Parameters of steps `magnitude_fit` and `magnitude_reference`.
    """
    frames = shots(session, made.field_id)
    first = next(k for k, shot in enumerate(frames) if shot.frame_id == made.frame_id)
    slot = judged_slot(slots_of(session, frames[first].instrument_id))
    work = FieldWork(session, made.field_id, frames, first, [slot], p, limits, terms_of(made) or p.start)
    stored = read_reference(session, made.reference_id, slot)
    fold = fold_of(stored.source_id).astype(np.int64)
    mag, err = (own_fold(values, fold) for values in (stored.folds.mag, stored.folds.err))
    n_star = stored.source_id.size
    public = Averages(mag, err, np.full(n_star, np.nan), np.isfinite(mag).astype(np.int64))
    unknown = np.full(n_star, np.nan)
    built = Built(stored.source_id, unknown, unknown, made.n_night, made.n_frame, work.terms)
    built.slots[slot] = BuiltSlot(public, stored.folds, np.nan, False, 0)
    joint = solved(work, built)
    at = np.searchsorted(joint.source_id, stored.source_id)
    return JointMagnitudes(stored.source_id, mag, joint.slots[slot].public.mag[at])


def _read(work: FieldWork, built: Built) -> list[_Night]:
    """All nights, their frames judged by the reference that there is; stars that it lacks are met."""
    slot, nights = judged_slot(work.slots), []
    for night_id in work.nights:
        points = work.read(night_id)
        if not points.frame.size:
            continue
        design = work.terms.design(points.variables, points.frame.size)
        rows, against = points.rows(slot, design), built.references()[slot].at(points.source_id)
        factor = judge(points, rows, against, fit_night(rows, against, work.choice), work.fit.fit_sigma).factor
        nights.append(_Night(points, design, factor))
        built.meet(points.source_id, points.fit_mag)
    return nights


def _solution(work: FieldWork, built: Built, nights: Sequence[_Night], slot: int) -> SeasonSolution:
    """The joint solution in one slot."""
    columns: Mapping[str, list[Any]] = {name: [] for name in ("frame", "star", "mag", "sigma", "design", "eligible")}
    first = 0
    for night in nights:
        points = night.points
        mag, sigma = points.instrumental(slot)
        mine = (
            *(points.frame + first, np.searchsorted(built.source_id, points.source_id)[points.star], mag, sigma, night.design),
            points.unmasked() & (night.factor > 0)[points.frame],
        )
        for into, values in zip(columns.values(), mine, strict=True):
            into.append(values)
        first += len(points.shots)
    frame, star, mag, sigma, design, eligible = (np.concatenate(values) for values in columns.values())
    fold = fold_of(built.source_id).astype(np.int64)
    start = built.slots[slot].public.mag
    return solve_season(
        frame, star, mag, sigma, design, fold, start=start, group=work.terms.group, eligible=eligible.astype(np.bool_),
        n_fold=N_FOLD, per_term=work.fit.per_term, clip=work.fit.clip,
    )  # fmt: skip


def _fits(season: SeasonSolution, mine: slice, frame: IntArray, design: FloatArray, fold: IntArray) -> FrameFits:
    """A night's part of the solution, as if its frames had been fitted by themselves."""
    coeff = _padded(season.coeff, mine, np.nan)
    floor, n = _padded(season.floor, mine, 0.0), len(coeff)
    return FrameFits(
        coeff=coeff,
        coeff_all=_padded(season.coeff_all, mine, np.nan),
        fitted=np.einsum("ij,ij->i", design, coeff[frame, fold]),
        zp_err=np.zeros((n, N_FOLD)),
        rms=np.zeros(n),
        n_fit=np.zeros(n, dtype=np.int64),
        floor=floor,
        fold_floor=np.repeat(floor[:, None], N_FOLD, axis=1),
        used=np.asarray(np.isfinite(coeff[frame, fold]).all(axis=1)),
    )


def _padded(values: FloatArray, mine: slice, empty: float) -> FloatArray:
    """Values of a night's frames; the last frames of the season may have no measurement, and no place in the solution."""
    out = np.full((mine.stop - mine.start, *values.shape[1:]), empty)
    there = values[mine]
    out[: len(there)] = there
    return out
