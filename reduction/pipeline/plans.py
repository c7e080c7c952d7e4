"""Plans: which units there are to work on, and what they are made from.

The plan of a step per frame follows from its inputs; steps that work on sets
say themselves how their sets are made, with what is shared here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from db.tables import Annotation, Classification, Exposure, Frame, FrameField, Task
from reduction.pipeline.declaration import Context, Step, Unit
from reduction.pipeline.inputs import Found, InputTask, Joined, LookedUp, Said
from reduction.pipeline.open_nights import open_nights

__all__ = ["done_tasks", "frame_units", "masks", "night_key", "not_masked", "planned"]


def planned(context: Context, parameters: Any, only: sa.ColumnElement[bool] | None = None) -> list[Unit[Any]]:
    """Every unit that the context's step could work on now, each with the tasks it is made from.

    Parameters
    ----------
    only : SQL condition on `frame`, optional
        The frames that matter, for a step whose plan follows from its inputs.
    """
    step = context.step
    if step.plan is None:
        return frame_units(context, only)
    units = step.plan(context, parameters)
    if step.provisional is None:
        return units
    lasting = open_nights(context.session)
    return [dataclasses.replace(unit, provisional=True) if unit.night_id in lasting else unit for unit in units] if lasting else units


def frame_units(context: Context, only: sa.ColumnElement[bool] | None = None) -> list[Unit[Any]]:
    """One unit per frame for which every needed input of the step is done, in order of time."""
    step = context.step
    joined = [source for source in step.sources if isinstance(source, Joined)]
    tasks = [aliased(Task) for _ in joined]
    query = frames_with_inputs(step, list(zip(joined, tasks, strict=True)), only)
    rows = context.session.execute(query).all()
    looked = _looked_up(context, {row.frame_id for row in rows} if only is not None else None)
    facts = step.facts(context.settings)
    said = [source.facts(context.session) for source in step.inputs if isinstance(source, Said)]
    units = []
    for row in rows:
        own = [
            InputTask(row[4 + 2 * k], row[5 + 2 * k], source.step) for k, source in enumerate(joined) if row[4 + 2 * k] is not None
        ]  # fmt: skip
        more = [found.get(row.frame_id, Found()) for found in looked]
        payload = next((one.payload for one in more if one.payload is not None), None)
        name = Path(row.path).name if row.channel == "mono" else f"{Path(row.path).name} {row.channel}"
        inputs = (*own, *(task for one in more for task in one.tasks))
        words = "".join(one.get(row.frame_id, "") for one in said)
        units.append(Unit(str(row.frame_id), name, inputs, facts + words, row.frame_id, row.night_id, payload=payload))
    return units


def frames_with_inputs(
    step: Step, joined: list[tuple[Joined, type[Task]]], only: sa.ColumnElement[bool] | None
) -> sa.Select[*tuple[Any, ...]]:
    """Frames of the step's types with the tasks of their inputs: frame_id, night_id, channel, path, and task_id and hash of each."""
    columns = [column for _, task in joined for column in (task.task_id, task.input_hash)]
    query = sa.select(Frame.frame_id, Frame.night_id, Frame.channel, Exposure.path, *columns).join(
        Exposure, Exposure.exposure_id == Frame.exposure_id
    )
    # The frames of what turned out to be a further file of an exposure, which has frames of its own, are no longer worked.
    query = query.where(Exposure.duplicate_of.is_(None))
    if step.types is not None:
        query = query.join(Classification, Classification.frame_id == Frame.frame_id).where(Classification.type.in_(step.types))
    for source, task in joined:
        matches = sa.and_(task.step == source.step, task.status == "done", source.matches(task))
        query = query.join(task, matches, isouter=not source.needed)
    if only is not None:
        query = query.where(only)
    return query.order_by(Frame.jd_utc, Frame.frame_id)


def _looked_up(context: Context, frames: set[int] | None) -> list[Mapping[int, Found]]:
    return [source.look_up(context, frames) for source in context.step.sources if isinstance(source, LookedUp)]


def done_tasks(session: Session, step: str) -> dict[str, InputTask]:
    """The done tasks of a step, by unit key."""
    query = sa.select(Task.unit, Task.task_id, Task.input_hash).where(Task.step == step, Task.status == "done")
    return {row.unit: InputTask(row.task_id, row.input_hash, step) for row in session.execute(query)}


def night_key(setup_id: int, channel: str, night_id: int) -> str:
    """Unit of the steps that work on a night of one set-up and channel."""
    return f"{setup_id}/{channel}/{night_id}"


def masks(session: Session) -> dict[tuple[int, int], str]:
    """What people have masked, by field and night, as text that enters a unit's hash."""
    # The maskings are few, the frames many: these are looked up by their key, and sorted here.
    some = sa.select(Annotation.frame_id)
    fields = sa.select(Frame.frame_id, FrameField.field_id, Frame.night_id).join(FrameField, FrameField.frame_id == Frame.frame_id)
    place = {row.frame_id: (row.field_id, row.night_id) for row in session.execute(fields.where(Frame.frame_id.in_(some)))}
    found: dict[tuple[int, int], str] = {}
    query = sa.select(Annotation.frame_id, Annotation.source_id).order_by(Annotation.frame_id, Annotation.source_id)
    for frame_id, source_id in session.execute(query):
        if frame_id in place:
            found[place[frame_id]] = f"{found.get(place[frame_id], '')} {frame_id}/{source_id or 'all'}"
    return found


def not_masked() -> sa.ColumnElement[bool]:
    """Frames that no person has masked."""
    whole = sa.select(Annotation.annotation_id).where(Annotation.frame_id == Frame.frame_id, Annotation.source_id.is_(None))
    return ~whole.exists()
