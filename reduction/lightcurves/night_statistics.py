"""What a night says of the light curves, and how it is added to what they were before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.fetch import fetch_arrays
from db.fitted_points import FittedPoints
from db.tables import N_BIN, LightcurveStatistics, NightStatistics, ReferenceMagnitude
from reduction.kernels.arrays import FloatArray, IntArray
from reduction.lightcurves.kernels.merged_statistics import Frames, StarSums, frames_of, frames_of_reference, star_sums, statistics_of
from reduction.lightcurves.kernels.statistics import LightCurveStatistics, light_curve_statistics
from reduction.pipeline.declaration import Rows

__all__ = ["SlotOfNight", "added_up", "joined", "slot_of_night"]

T = TypeVar("T")

_SUMS = {
    "weight": "sum_weight", "first": "sum_first", "second": "sum_second", "plain": "sum_plain", "square": "sum_square",
    "variance": "sum_variance", "pairs": "n_pair", "steps": "sum_step",
}  # fmt: skip
_BINS = tuple(f"h_{k}" for k in range(N_BIN))


@dataclass(frozen=True)
class _Values:
    """Good points of some stars, as `star_sums` takes them."""

    star: IntArray
    time: FloatArray
    mag: FloatArray
    err: FloatArray
    flux: FloatArray
    flux_err: FloatArray

    def of(self, rows: Any) -> _Values:
        return _Values(*(getattr(self, each.name)[rows] for each in fields(self)))

    def sums(self, frames: Frames) -> StarSums:
        return star_sums(self.star, self.time, self.mag, self.err, self.flux, self.flux_err, frames)


@dataclass(frozen=True)
class SlotOfNight:
    """A night in one slot: of every star, rising, what its points come to.

    Attributes
    ----------
    source_id, n_point : int, shape (n,)
    statistics : LightCurveStatistics
        Of the night's values themselves.
    frames : Frames
        What sums are about; NaN for stars that the reference does not have.
    sums : StarSums
        Of the stars that it has.
    unknown : values of the others, whose centre is that of the night that is added first
    """

    slot: int
    source_id: IntArray
    n_point: IntArray
    statistics: LightCurveStatistics
    frames: Frames
    sums: StarSums
    unknown: _Values

    def placed(self, known: _Totals) -> SlotOfNight:
        """With sums of every star, those that the reference does not have about the centres that they were given before."""
        others, lacking = self.unknown, ~np.isfinite(self.frames.centre)
        before = known.frames.at(_places(known.source_id, self.source_id))
        first = frames_of(others.star, others.mag, others.flux, others.flux_err, n_star=self.source_id.size)
        theirs = before.where(np.isfinite(before.centre), first).where(lacking, Frames.none(lacking.size))
        return replace(self, frames=theirs.where(lacking, self.frames), sums=(self.sums + others.sums(theirs)).rounded())


@dataclass(frozen=True)
class _Totals:
    """Statistics of a slot's stars as they are kept, stars rising."""

    source_id: IntArray
    n_point: IntArray
    frames: Frames
    sums: StarSums


def _places(ids: IntArray, source_id: IntArray) -> IntArray:
    """Where each star is among the rising ones; -1 where it is not."""
    place = np.searchsorted(ids, source_id)
    there = np.append(ids, -1)[place] == source_id
    return np.where(there, place, -1)


def slot_of_night(session: Session, reference_id: int, slot: int, points: FittedPoints) -> SlotOfNight:
    """Statistics and sums of a night's points in a slot."""
    source_id, star = np.unique(points.source_id, return_inverse=True)
    n, star = source_id.size, star.ravel()
    every = _Values(star, points.bjd_tdb, points.mag, points.mag_err_total, points.flux, points.flux_err)
    good = every.of(points.quality == 0)
    frames = _frames(session, reference_id, slot, source_id)
    return SlotOfNight(
        slot,
        source_id,
        np.bincount(star[np.isfinite(points.flux)], minlength=n),
        light_curve_statistics(good.star, good.time, good.mag, good.err, good.flux, good.flux_err, n_star=n),
        frames,
        good.sums(frames),
        good.of(~np.isfinite(frames.centre[good.star])),
    )


def _frames(session: Session, reference_id: int, slot: int, source_id: IntArray) -> Frames:
    """Centres and widths of stars that the reference has; all of it is read, for whether a star is faint is said by those like it."""
    names = (ReferenceMagnitude.source_id, ReferenceMagnitude.mag, ReferenceMagnitude.mag_err, ReferenceMagnitude.scatter)
    query = sa.select(*names, ReferenceMagnitude.n_frame).where(
        ReferenceMagnitude.reference_id == reference_id, ReferenceMagnitude.slot == slot
    )
    ids, mag, err, scatter, n_frame = fetch_arrays(
        session.connection(), query.order_by(ReferenceMagnitude.source_id), kinds="ifffi"
    )  # fmt: skip
    return frames_of_reference(mag, err, scatter, n_frame).at(_places(ids, source_id))


def joined(parts: Sequence[SlotOfNight]) -> SlotOfNight:
    """One slot of a night of parts that have the stars one after the other."""
    before = np.cumsum([0, *(part.source_id.size for part in parts[:-1])])
    unknown = [replace(part.unknown, star=part.unknown.star + n) for part, n in zip(parts, before, strict=True)]
    return SlotOfNight(
        parts[0].slot,
        np.concatenate([part.source_id for part in parts]),
        np.concatenate([part.n_point for part in parts]),
        _one_after_the_other([part.statistics for part in parts]),
        _one_after_the_other([part.frames for part in parts]),
        _one_after_the_other([part.sums for part in parts]),
        _one_after_the_other(unknown),
    )


def _one_after_the_other(parts: Sequence[T]) -> T:
    """Of dataclasses of arrays that have a row for each star, or point."""
    names = [each.name for each in fields(parts[0])]  # type: ignore[arg-type]
    return type(parts[0])(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def added_up(session: Session, reference_id: int, night_id: int, slots: Sequence[SlotOfNight]) -> list[Rows]:
    """Rows of the night, and of the light curves with it in place of what was there of it before.

    Parameters
    ----------
    session : Session
        The writer's: nothing else is written between what is read here and the rows.
    """
    rows = []
    now = {night.slot: night for night in slots}
    text = "SELECT DISTINCT slot FROM night_statistics WHERE reference_id = :reference AND night_id = :night"
    before = session.execute(sa.text(text), {"reference": reference_id, "night": night_id}).scalars()
    for slot in sorted({*before, *now}):
        place = {"reference_id": reference_id, "slot": slot}
        old, totals = _kept(session, place, night_id), _kept(session, place)
        night = now[slot].placed(totals) if slot in now else None
        rows.append(_night_rows({**place, "night_id": night_id}, night))
        source_id = np.union1d(old.source_id, night.source_id) if night is not None else old.source_id
        rows.append(_total_rows(place, _with(totals, old, night, source_id), night))
    return rows


def _with(totals: _Totals, old: _Totals, night: SlotOfNight | None, source_id: IntArray) -> _Totals:
    """Totals of some stars without what a night was, and with what it is."""
    before, was = _places(totals.source_id, source_id), _places(old.source_id, source_id)
    n_point = _counts(totals.n_point, before) - _counts(old.n_point, was)
    sums, frames = totals.sums.at(before) - old.sums.at(was), totals.frames.at(before)
    if night is not None:
        now = _places(night.source_id, source_id)
        n_point, sums = n_point + _counts(night.n_point, now), sums + night.sums.at(now)
        frames = frames.where(before >= 0, night.frames.at(now))
    return _Totals(source_id, n_point, frames, sums)


def _counts(values: IntArray, place: IntArray) -> IntArray:
    return np.append(values, 0)[place]


def _kept(session: Session, place: dict[str, int], night_id: int | None = None) -> _Totals:
    """What is kept of a slot: of one night, or (without) over all nights."""
    table = LightcurveStatistics if night_id is None else NightStatistics
    where = {**place} if night_id is None else {**place, "night_id": night_id}
    about = ("is_flux", "centre", "width") if night_id is None else ()
    names = ("source_id", "n_point", "n_good", *_BINS, *about, *_SUMS.values())
    query = sa.select(*(getattr(table, name) for name in names)).filter_by(**where).order_by(table.source_id)
    kinds = "iii" + "i" * N_BIN + "iff"[: len(about)] + "f" * len(_SUMS)
    ids, n_point, n_good, *values = fetch_arrays(session.connection(), query, kinds=kinds)
    count = np.stack(values[:N_BIN], axis=1)
    of_flux, centre, width = values[N_BIN : N_BIN + 3] if about else (np.zeros(ids.size), *np.full((2, ids.size), np.nan))
    sums = dict(zip(_SUMS, values[N_BIN + len(about) :], strict=True))
    return _Totals(ids, n_point, Frames(of_flux > 0, centre, width), StarSums(n=n_good.astype(np.float64), count=count, **sums))


def _columns(source_id: IntArray, n_point: IntArray, found: LightCurveStatistics, sums: StarSums) -> dict[str, Any]:
    return {
        "source_id": source_id,
        "n_point": n_point,
        "n_good": sums.n.astype(np.int64),
        "mag_mean": found.mean,
        "mag_median": found.median,
        "rms": found.rms,
        "mad_rms": found.mad_rms,
        "expected_rms": found.expected_rms,
        "chi2": found.chi2_dof,
        "eta": found.eta,
        **{column: getattr(sums, name) for name, column in _SUMS.items()},
        **{name: sums.count[:, k] for k, name in enumerate(_BINS)},
    }


def _night_rows(place: dict[str, int], night: SlotOfNight | None) -> Rows:
    if night is None:
        return Rows(NightStatistics, {}, replace=place)
    return Rows(NightStatistics, {**place, **_columns(night.source_id, night.n_point, night.statistics, night.sums)}, replace=place)


def _total_rows(place: dict[str, int], totals: _Totals, night: SlotOfNight | None) -> Rows:
    """The rows of some stars; of one that has no points left there is none."""
    found = statistics_of(totals.sums, totals.frames)
    if night is not None:
        found = _of_one_night(found, night, _places(night.source_id, totals.source_id))
    columns = _columns(totals.source_id, totals.n_point, found, totals.sums)
    frames = totals.frames
    columns |= {"is_flux": frames.of_flux.astype(np.int64), "centre": frames.centre, "width": frames.width}
    kept = np.flatnonzero((totals.n_point > 0) & np.isfinite(frames.centre))
    columns = {name: values[kept] for name, values in columns.items()}
    return Rows(LightcurveStatistics, {**place, **columns}, replace={**place, "source_id": totals.source_id}, shared=True)


def _of_one_night(found: LightCurveStatistics, night: SlotOfNight, place: IntArray) -> LightCurveStatistics:
    """With the night's own numbers where it is all that there is of a star: they need no bins."""
    alone = (place >= 0) & (found.n == np.append(night.sums.n, 0)[place])
    return LightCurveStatistics(
        *(
            np.where(alone, np.append(getattr(night.statistics, each.name), 0)[place], getattr(found, each.name))
            for each in fields(LightCurveStatistics)
        )
    )
