"""Step statistics: a night's light curves in numbers, of what people see in the view, added up over the nights; targets find sources."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.fitted_points import ALL_SOURCES, fitted_points, points_of_night
from db.sky import nearest_source
from db.tables import Annotation, BestSlot, LightcurveStatistics, NightStatistics, ReferenceRequest, Target, Task
from reduction.lightcurves.night_statistics import SlotOfNight, added_up, joined, slot_of_night
from reduction.pipeline.declaration import Context, InputTask, Output, Rows, Unit, parameter, step
from reduction.pipeline.inputs import Members, Said
from reduction.pipeline.plans import done_tasks, masks

__all__ = ["StatisticsParameters", "statistics"]

#: Values of one IN list: SQLite takes no more than 32,766.
_MANY = 10_000
#: Measurements of a night that are in memory at a time.
_ROWS = 200_000


@dataclass(frozen=True)
class StatisticsParameters:
    """How light curves are summarised."""

    target_radius: float = parameter(10.0, "arcsec", "a target is linked to the nearest source within this", above=0, most=3600)


@dataclass(frozen=True)
class _Night:
    """A night of a field, as it was fitted to the reference that counts."""

    reference_id: int
    field_id: int
    night_id: int


def _plan(context: Context, _: StatisticsParameters) -> list[Unit[_Night]]:
    """Each night that was fitted to a field's reference; of what was all summarised once, nights that were fitted since."""
    session = context.session
    fields = {row.reference_id: row.field_id for row in session.execute(_COUNTING)}
    since = context.since
    context.in_part = since is not None and _summarised(session, fields, since)
    fits = _fits(session, _changed(session, since)) if since is not None and context.in_part else done_tasks(session, "magnitude_fit")
    # A night that was fitted and no longer is has to be taken off.
    before = _changed(session, since) if since is not None and context.in_part else done_tasks(session, "statistics")
    masked = masks(session)
    units = []
    for reference_id, night_id in sorted(tuple(map(int, key.split("/"))) for key in {*fits, *before} if "/" in key):
        if (field_id := fields.get(reference_id)) is not None:
            fit = fits.get(f"{reference_id}/{night_id}")
            units.append(
                Unit(
                    f"{reference_id}/{night_id}",
                    f"field {field_id}, night {night_id}, reference {reference_id}",
                    () if fit is None else (fit,),
                    masked.get((field_id, night_id), ""),
                    payload=_Night(reference_id, field_id, night_id),
                )
            )
    return units


_COUNTING = sa.text("SELECT field_id, reference_id FROM latest_reference ORDER BY field_id")


def _summarised(session: Session, references: Collection[int], since: int) -> bool:
    """Whether these references counted when all was summarised up to a task."""
    for reference_id in references:
        mine = (Task.step == "statistics", Task.status == "done", Task.unit.like(f"{reference_id}/%"), Task.task_id <= since)
        if session.execute(sa.select(Task.task_id).where(*mine).limit(1)).first() is None:
            return False
    return True


def _changed(session: Session, since: int) -> set[str]:
    """Nights that were fitted after a task, or whose statistics are stale."""
    fits = (Task.step == "magnitude_fit", Task.status == "done", Task.is_stale.in_([0, 1]), Task.task_id > since)
    stale = (Task.step == "statistics", Task.status.in_(["done", "failed"]), Task.is_stale == 1)
    return {unit for some in (fits, stale) for unit in session.execute(sa.select(Task.unit).where(*some)).scalars()}


def _fits(session: Session, units: Collection[str]) -> dict[str, InputTask]:
    """The done fits of some nights."""
    wanted, found = sorted(units), dict[str, InputTask]()
    for first in range(0, len(wanted), _MANY):
        query = sa.select(Task.unit, Task.task_id, Task.input_hash).where(
            Task.step == "magnitude_fit", Task.status == "done", Task.unit.in_(wanted[first : first + _MANY])
        )
        found |= {row.unit: InputTask(row.task_id, row.input_hash, "magnitude_fit") for row in session.execute(query)}
    return found


@step(
    "statistics",
    plan=_plan,
    inputs=(Members("magnitude_fit"), Said((Annotation, ReferenceRequest))),
    version=3,
    parameters=StatisticsParameters,
    writes=(NightStatistics, LightcurveStatistics, Target),
)
def statistics(context: Context, unit: Unit[_Night], p: StatisticsParameters) -> Output:
    """Summarise a night's light curves: mean, scatter, expected scatter, chi2, von Neumann eta; add them up; link targets to sources."""
    session, night = context.session, unit.payload
    slots: dict[int, list[SlotOfNight]] = {}
    for sources in _slices(session, night) if unit.inputs else ():
        scope = points_of_night(night.field_id, night.reference_id, night.night_id, sources)
        for slot, points in fitted_points(session.connection(), scope):
            if points.source_id.size:
                slots.setdefault(slot, []).append(slot_of_night(session, night.reference_id, slot, points))
    return Output(rows=_targets(session, p.target_radius), finish=partial(_added, night, [joined(parts) for parts in slots.values()]))


def _slices(session: Session, night: _Night) -> Iterator[tuple[int, int]]:
    """First and last sources of parts of the night that are read at a time."""
    text = "SELECT count(*) FROM frame f JOIN frame_field ff ON ff.frame_id = f.frame_id WHERE f.night_id = :night AND ff.field_id = :field"
    n_frame = session.execute(sa.text(text), {"night": night.night_id, "field": night.field_id}).scalar_one()
    query = sa.select(BestSlot.source_id).where(BestSlot.reference_id == night.reference_id).order_by(BestSlot.source_id)
    ends = session.execute(query).scalars().all()[:: max(_ROWS // max(n_frame, 1), 1)][1:]
    yield from zip([ALL_SOURCES[0], *(end + 1 for end in ends)], [*ends, ALL_SOURCES[1]], strict=True)


def _added(night: _Night, slots: list[SlotOfNight], session: Session, _task_id: int) -> list[Rows]:
    return added_up(session, night.reference_id, night.night_id, slots)


def _targets(session: Session, radius: float) -> list[Rows]:
    """Links of targets that have none yet."""
    rows = []
    for target in session.execute(sa.select(Target).where(Target.source_id.is_(None))).scalars():
        found = nearest_source(session, target.ra, target.dec, radius / 3600.0)
        if found is not None:
            columns = {"name": target.name, "ra": target.ra, "dec": target.dec, "created": target.created, "source_id": found}
            rows.append(Rows(Target, {"target_id": target.target_id, **columns}, upsert=True))
    return rows
