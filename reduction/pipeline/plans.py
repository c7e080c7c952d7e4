"""Plans that several steps share: which frames, nights or fields there are to work on, and what they are made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.tables import Annotation, Classification, Exposure, Frame, FrameField, Task
from reduction.pipeline.declaration import InputTask, Unit, canonical, read_parameters
from reduction.pipeline.order import STEPS

__all__ = ["done_tasks", "fingerprint", "frame_units", "masks", "night_key", "not_masked"]


def done_tasks(session: Session, step: str) -> dict[str, InputTask]:
    """The done tasks of a step, by unit key."""
    query = sa.select(Task.unit, Task.task_id, Task.input_hash).where(Task.step == step, Task.status == "done")
    return {row.unit: InputTask(row.task_id, row.input_hash, step) for row in session.execute(query)}


def night_key(setup_id: int, channel: str, night_id: int) -> str:
    """Unit of the steps that work on a night of one set-up and channel."""
    return f"{setup_id}/{channel}/{night_id}"


def frame_units(
    session: Session,
    after: Iterable[str],
    *,
    types: tuple[str, ...] | None = ("object",),
    extra: Mapping[int, tuple[InputTask, ...]] | None = None,
    facts: Mapping[int, str] | str = "",
) -> list[Unit]:
    """One unit per frame of the given types for which every step of `after` is done, in order of time.

    Parameters
    ----------
    extra : mapping of frame_id to tasks, optional
        Further inputs; only frames in the mapping are planned.
    facts : str or mapping of frame_id to str
        What else the result depends on.
    """
    tasks = [done_tasks(session, name) for name in after]
    query = sa.select(Frame.frame_id, Frame.night_id, Frame.channel, Exposure.path).join(Exposure)
    if types is not None:
        query = query.join(Classification, Classification.frame_id == Frame.frame_id).where(Classification.type.in_(types))
    units = []
    for row in session.execute(query.order_by(Frame.jd_utc, Frame.frame_id)):
        key = str(row.frame_id)
        inputs = [done.get(key) for done in tasks]
        if None in inputs or (extra is not None and row.frame_id not in extra):
            continue
        more = extra[row.frame_id] if extra is not None else ()
        name = Path(row.path).name if row.channel == "mono" else f"{Path(row.path).name} {row.channel}"
        units.append(
            Unit(
                key,
                name,
                tuple(task for task in inputs if task is not None) + more,
                facts if isinstance(facts, str) else facts.get(row.frame_id, ""),
                row.frame_id,
                row.night_id,
            )
        )
    return units


def fingerprint(step: str, settings: Mapping[str, Any]) -> str:
    """Version and parameters of a step, for units that depend on how it worked but not on which frames it saw."""
    declared = STEPS[step]
    parameters = read_parameters(declared.parameters, settings.get(step, {}), f"[{step}]")
    return f"{step}:{declared.version}:{canonical(dataclasses.asdict(parameters))}"


def masks(session: Session) -> dict[int, str]:
    """What people have masked, by field, as text that enters a unit's hash."""
    query = (
        sa.select(FrameField.field_id, Annotation.frame_id, Annotation.source_id)
        .join(FrameField, FrameField.frame_id == Annotation.frame_id)
        .order_by(Annotation.frame_id, Annotation.source_id)
    )
    found: dict[int, str] = {}
    for field_id, frame_id, source_id in session.execute(query):
        found[field_id] = f"{found.get(field_id, '')} {frame_id}/{source_id or 'all'}"
    return found


def not_masked() -> sa.ColumnElement[bool]:
    """Frames that no person has masked."""
    whole = sa.select(Annotation.annotation_id).where(Annotation.frame_id == Frame.frame_id, Annotation.source_id.is_(None))
    return ~whole.exists()
