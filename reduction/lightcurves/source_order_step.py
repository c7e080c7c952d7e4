"""Step source_order: the measurements of a night that is over are put into the order of the sources, as light curves are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.fetch import fetch_arrays
from db.keys import now
from db.tables import ClosedMeasurement, Frame, Night, NightClosing, OpenMeasurement, Task
from reduction.kernels.arrays import IntArray
from reduction.lightcurves.nights_over import NightsOver, nights_to_close, over_now
from reduction.pipeline.declaration import Context, InputTask, Move, Output, Rows, Unit, step
from reduction.pipeline.inputs import Members

__all__ = ["night_units", "source_order"]

#: Rows of one slice: SQLite writes some 45 MB of them, and as much where they are taken away.
SLICE = 200_000


@dataclass(frozen=True)
class SourceOrderParameters:
    """It has none."""


def _plan(context: Context, _: SourceOrderParameters) -> list[Unit[None]]:
    """Nights to close, and those of which a frame was measured anew; made from the photometry of their frames."""
    session = context.session
    nights = nights_to_close(session, context.settings)
    if not context.settings.get("nights"):
        nights += _made_before(context)
    return night_units(session, nights)


def night_units(session: Session, nights: Sequence[int]) -> list[Unit[None]]:
    """A unit for each of some nights, by night_id: made from the photometry of its frames, if there is any."""
    query = (
        sa.select(Frame.night_id, Night.evening, Task.task_id, Task.input_hash)
        .join(Night, Night.night_id == Frame.night_id)
        .join(Task, sa.and_(Task.frame_id == Frame.frame_id, Task.step == "photometry", Task.status == "done"))
        .where(Frame.night_id.in_(nights))
        .order_by(Frame.night_id, Frame.jd_utc, Frame.frame_id)
    )
    inputs: dict[tuple[int, str], list[InputTask]] = {}
    for night_id, evening, task_id, input_hash in session.execute(query):
        inputs.setdefault((night_id, evening), []).append(InputTask(task_id, input_hash, "photometry"))
    return [Unit(str(night_id), f"night of {evening}", tuple(tasks), night_id=night_id) for (night_id, evening), tasks in inputs.items()]


def _made_before(context: Context) -> list[int]:
    """Nights that are over and were closed, and would not be closed the same way now."""
    again = sa.or_(Task.is_stale == 1, Task.step_version != context.step.version)
    query = sa.select(Task.unit).where(Task.step == context.step.name, Task.status == "done", again)
    return sorted(over_now(context.session, [int(unit) for unit in context.session.execute(query).scalars()]))


@step(
    "source_order",
    plan=_plan,
    inputs=(Members("photometry"), NightsOver()),
    parameters=SourceOrderParameters,
    writes=(OpenMeasurement, ClosedMeasurement, NightClosing),
    moves=(OpenMeasurement,),
)
def source_order(context: Context, unit: Unit[None], _: SourceOrderParameters) -> Output:
    """Have the writer move the night's open measurements, source by source, to those of the closed nights."""
    night_id = int(unit.key)
    query = sa.select(OpenMeasurement.source_id, sa.func.count()).where(OpenMeasurement.night_id == night_id)
    counts = query.group_by(OpenMeasurement.source_id).order_by(OpenMeasurement.source_id)
    source_id, n_row = fetch_arrays(context.session.connection(), counts, kinds="ii")
    rows = []
    if context.session.get(NightClosing, night_id) is None:
        rows.append(Rows(NightClosing, {"night_id": night_id, "by_hand": 0, "closed": now()}, upsert=True))
    return Output(rows=rows, moves=(Move(OpenMeasurement, ClosedMeasurement, night_id, _slices(source_id, n_row)),))


def _slices(source_id: IntArray, n_row: IntArray) -> tuple[tuple[int, int], ...]:
    """First and last source of each slice; a source is never divided."""
    if not len(source_id):
        return ()
    number = (np.cumsum(n_row) - 1) // SLICE
    first = np.flatnonzero(np.diff(number, prepend=-1))
    last = np.append(first[1:], len(source_id)) - 1
    return tuple(zip(source_id[first].tolist(), source_id[last].tolist(), strict=True))
