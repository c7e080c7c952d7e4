"""When a candidate becomes the reference that counts: with the last of its field's nights, and of the frames of nights that are open."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.keys import now
from db.tables import Frame, FrameField, MagfitReference, ProvisionalResult, Task
from reduction.lightcurves.night_points import measured
from reduction.pipeline.declaration import Rows
from reduction.pipeline.open_nights import open_nights

__all__ = ["acceptance"]


def acceptance(session: Session, reference_id: int, *, night_id: int | None = None, frame_id: int | None = None) -> list[Rows]:
    """The row that accepts a candidate, where all of its field is fitted to it: from then on the light curves are its.

    Parameters
    ----------
    session : Session
        The writer's.
    reference_id : int
        The reference.
    night_id, frame_id : int, optional
        What has just been fitted to it.

    Returns
    -------
    list of Rows
        One, or none.
    """
    made = session.get_one(MagfitReference, reference_id)
    if made.status != "candidate" or made.is_held:
        return []
    lasting = open_nights(session)
    mine = FrameField.field_id == made.field_id
    nights = set(session.execute(measured(Frame.night_id).where(mine).distinct()).scalars()) - lasting
    if nights - {int(unit.rpartition("/")[2]) for unit in _worked(session, "magnitude_fit", reference_id)} - {night_id}:
        return []
    frames = set(session.execute(measured(Frame.frame_id).where(mine, Frame.night_id.in_(lasting))).scalars()) if lasting else set()
    if frames - {int(unit.rpartition("/")[2]) for unit in _worked(session, "frame_fit", reference_id)} - {frame_id}:
        return []
    _took_the_place(session, made)
    # The task that made it is said, for otherwise the writer puts down this one: the reference would seem to be made in another way.
    columns = {"reference_id": reference_id, "status": "accepted", "accepted": now(), "task_id": made.task_id}
    return [Rows(MagfitReference, columns, upsert=True)]


def _worked(session: Session, step: str, reference_id: int) -> set[str]:
    query = sa.select(Task.unit).where(Task.step == step, Task.status.in_(["done", "failed"]), Task.unit.like(f"{reference_id}/%"))
    return set(session.execute(query).scalars())


def _took_the_place(session: Session, made: MagfitReference) -> None:
    """References of the field that were made while its first night was open have their final one."""
    others = sa.select(MagfitReference.task_id).where(MagfitReference.field_id == made.field_id, MagfitReference.task_id != made.task_id)
    session.execute(
        sa.update(ProvisionalResult)
        .where(ProvisionalResult.task_id.in_(others), ProvisionalResult.final_task_id.is_(None))
        .values(final_task_id=made.task_id, stands=0)
    )
