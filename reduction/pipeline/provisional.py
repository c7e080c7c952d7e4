"""Frames that were worked with a provisional result of their night: whether they may stay as they are.

While a night is open, a frame keeps what its night had when it came: a later version makes no earlier frame pending. When the night is
closed, the writer compares each version with what the whole night gave (`provisional_result`), and frames made with one that stands keep
it. So a frame is done when its task was made of what stands now, or of what may stand in its place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from db.tables import Lineage, ProvisionalResult, Task
from reduction.pipeline.declaration import Step, Unit
from reduction.pipeline.inputs import InputTask
from reduction.pipeline.order import STEPS

__all__ = ["in_place_of", "is_open", "unit_as_worked"]

#: Values of one IN list: SQLite takes no more than 32,766.
_MANY = 10_000


@dataclasses.dataclass(frozen=True)
class _Used:
    """A task that another was made from; `final`: what the whole night gave in its place, None while it is open."""

    task: InputTask
    is_provisional: bool
    final: int | None
    stands: bool


def is_open(task: type[Task]) -> sa.ColumnElement[bool]:
    """Whether a task's result is provisional and its night not made as a whole yet."""
    return sa.exists().where(ProvisionalResult.task_id == task.task_id, ProvisionalResult.final_task_id.is_(None)).correlate(task)


def in_place_of(mine: type[Task], other: type[Task]) -> sa.ColumnElement[bool]:
    """Whether a task was made from a provisional result that may stand in the place of another one, the final."""
    stands = (ProvisionalResult.final_task_id == other.task_id, ProvisionalResult.stands == 1)
    used = sa.exists().where(Lineage.task_id == mine.task_id, Lineage.input_task_id == ProvisionalResult.task_id, *stands)
    return used.correlate(mine, other)


def unit_as_worked(session: Session, step: Step, units: Mapping[int, Unit[Any]]) -> dict[int, Unit[Any]]:
    """Units of a step per frame with the inputs that their tasks were made from, where these may stand in place of the present ones.

    Parameters
    ----------
    units : mapping of int to Unit
        By the task that stands of each.

    Returns
    -------
    dict
        The same units with other inputs; without those of which there are none.
    """
    if step.per != "frame" or not units or not _has_provisional(step):
        return {}
    lasting = _open_among(session, {task.task_id for unit in units.values() for task in unit.inputs})
    worked = {}
    for task_id, used in _lineages(session, list(units)).items():
        inputs = _as_worked(units[task_id].inputs, used, lasting)
        if inputs is not None:
            worked[task_id] = dataclasses.replace(units[task_id], inputs=inputs)
    return worked


def _has_provisional(step: Step) -> bool:
    return any(STEPS[name].provisional is not None for source in step.sources if source.tracked for name in source.steps)


def _as_worked(now: Sequence[InputTask], used: Sequence[_Used], lasting: set[int]) -> tuple[InputTask, ...] | None:
    """The inputs with those that were used in place of provisional ones, or in place of what they stand for."""
    before = {each.task.task_id for each in used}
    roles = {task.role for task in now}
    kept: list[InputTask] = []
    for task in now:
        others = [each for each in used if each.task.role == task.role]
        if task.task_id in before:
            kept.append(task)
        elif task.task_id in lasting:
            kept += [each.task for each in others]  # what there was when the frame came, or nothing
        else:
            stand_in = [each.task for each in others if each.stands and each.final == task.task_id]
            if not stand_in:
                return None
            kept += stand_in
    # What could not be made again while its night is open is kept by those that have it.
    kept += [each.task for each in used if each.task.role not in roles and each.is_provisional and each.final is None]
    return tuple(kept)


def _open_among(session: Session, tasks: set[int]) -> set[int]:
    ids = sorted(tasks)
    query = sa.select(ProvisionalResult.task_id).where(ProvisionalResult.final_task_id.is_(None))
    return {
        task_id
        for first in range(0, len(ids), _MANY)
        for task_id in session.execute(query.where(ProvisionalResult.task_id.in_(ids[first : first + _MANY]))).scalars()
    }


def _lineages(session: Session, tasks: list[int]) -> dict[int, list[_Used]]:
    """What tasks were made from, by task."""
    other = aliased(Task)
    query = (
        sa.select(
            Lineage.task_id, other.task_id, other.input_hash, Lineage.role,
            ProvisionalResult.task_id.is_not(None), ProvisionalResult.final_task_id, sa.func.coalesce(ProvisionalResult.stands, 0),
        )
        .select_from(Lineage)
        .join(other, other.task_id == Lineage.input_task_id)
        .join(ProvisionalResult, ProvisionalResult.task_id == other.task_id, isouter=True)
    )  # fmt: skip
    found: dict[int, list[_Used]] = {}
    for first in range(0, len(tasks), _MANY):
        for task_id, used, input_hash, role, provisional, final, stands in session.execute(
            query.where(Lineage.task_id.in_(tasks[first : first + _MANY]))
        ):
            each = _Used(InputTask(used, input_hash, role), bool(provisional), final, bool(stands))
            found.setdefault(task_id, []).append(each)
    return found
