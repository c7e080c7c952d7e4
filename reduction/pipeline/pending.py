"""What is pending, asked in SQL.

A unit is done when its task is, with the hash of its inputs as they are now. To say so of an archive's hundred thousand frames
without looking at each of them:

- a step of which neither the inputs nor its own tasks have changed since all of it was worked has nothing pending (`step_check`);
- of frames, SQL leaves those whose task is done, not stale, of this version and these parameters: the rest is planned;
- what a changed task was an input of is stale from the moment the change is written down (`reduction.pipeline.writer`).

The hash has the last word on whatever is planned.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from db.tables import Config, Frame, Lineage, Product, StepCheck, Task
from reduction.pipeline.declaration import Context, Step, Unit, canonical
from reduction.pipeline.inputs import Joined, LookedUp, Said
from reduction.pipeline.order import STEPS
from reduction.pipeline.plans import planned

__all__ = ["Guards", "StepState", "Survey", "config_sha256", "facts_sha256", "state_of"]


@dataclass
class StepState:
    """A step's units by what they need.

    Attributes
    ----------
    done : int
        Units that are done.
    pending : list of (Unit, str)
        Units to work, with their hashes.
    failed : dict
        Message by unit's key.
    unchanged : list of int
        Tasks that were stale and are made of the same after all.
    planned : set of str, optional
        Keys of all units that there are; None where they were not asked for.
    settled : bool
        Nothing has changed since all was worked: no unit was looked at.
    """

    done: int = 0
    pending: list[tuple[Unit[Any], str]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    unchanged: list[int] = field(default_factory=list)
    planned: set[str] | None = None
    settled: bool = False


@dataclass(frozen=True)
class Guards:
    """Digests of what a step's pending work depends on: equal ones mean that nothing has changed.

    Attributes
    ----------
    all : str
        Of everything.
    rules : str
        Of what the rules of its looked-up inputs depend on: masters and people's choices, catalogues.
    """

    all: str
    rules: str


def facts_sha256(facts: str) -> str:
    """What `task.facts` keeps of a unit's facts."""
    return hashlib.sha256(facts.encode()).hexdigest() if facts else ""


def config_sha256(kind: str, content: Mapping[str, Any]) -> str:
    """SHA-256 by which a set of parameters is known."""
    return hashlib.sha256(f"{kind}\n{canonical(content)}".encode()).hexdigest()


class Survey:
    """What there is of tasks, counted once for all steps.

    Parameters
    ----------
    session : Session
        Reads.
    settings : mapping
        In force.
    """

    def __init__(self, session: Session, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        query = sa.select(Task.step, Task.status, Task.is_stale, sa.func.count(), sa.func.sum(Task.task_id))
        self._counts: dict[str, list[tuple[Any, ...]]] = {}
        for name, status, *numbers in session.execute(query.group_by(Task.step, Task.status, Task.is_stale)).all():
            # PostgreSQL sums integers to Decimals.
            self._counts.setdefault(name, []).append((status, *(int(str(number)) for number in numbers)))
        bad = session.execute(sa.select(sa.func.count(), sa.func.sum(Product.product_id)).where(Product.is_bad == 1)).one()
        self._bad = f"{bad[0]} {bad[1]}"

    def done(self, name: str) -> int:
        """Number of the step's done tasks."""
        return sum(row[2] for row in self._counts.get(name, []) if row[0] == "done")

    def failed(self, name: str) -> bool:
        """Whether the step has failed tasks."""
        return any(row[0] == "failed" for row in self._counts.get(name, []))

    def guards(self, step: Step, session: Session) -> Guards:
        """The step's guards as they are now; the session reads what people said to it."""
        works = [STEPS[name].fingerprint(self._settings) for name in sorted({step.name, *step.behind})]
        inputs = {name for source in step.sources if source.before for name in source.steps}
        looked_up = [source for source in step.sources if isinstance(source, LookedUp) and source.frames() is None]
        rules = {name for source in looked_up for name in source.steps}
        said = "\n".join(source.digest(session, self._settings) for source in step.inputs if isinstance(source, Said))
        return Guards(
            _digest(*works, said, self._bad, *self._tasks({step.name, *inputs})),
            _digest(said, self._bad, *self._tasks(rules)) if rules else "",
        )

    def _tasks(self, names: Iterable[str]) -> list[str]:
        return [f"{name} {sorted(self._counts.get(name, []))}" for name in sorted(names)]


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def state_of(context: Context, parameters: Any, survey: Survey, *, retry: bool = False) -> StepState:
    """What the context's step could work on now.

    Parameters
    ----------
    context : Context
        With a session that reads what the step declared.
    parameters : dataclass
        The step's.
    survey : Survey
        Counted now.
    retry : bool
        Whether failed units are worked again.
    """
    step = context.step
    guards, stored = survey.guards(step, context.session), context.session.get(StepCheck, step.name)
    trying = retry and survey.failed(step.name)
    if step.guarded and not trying and stored is not None and stored.guard == guards.all:
        return StepState(survey.done(step.name), failed=_failures(context.session, step.name, survey), settled=True)
    settled = stored is not None and stored.rules == guards.rules
    only = _unsettled(context, step, parameters, retry) if step.plan is None and settled else None
    units = planned(context, parameters, only)
    return _sorted_out(context.session, step, parameters, units, survey, retry=retry, all_planned=only is None)


def _failures(session: Session, name: str, survey: Survey) -> dict[str, str]:
    """Message of each of the step's failed units, in the order of their tasks."""
    if not survey.failed(name):
        return {}
    query = sa.select(Task.task_id, Task.unit, Task.message).where(Task.step == name, Task.status == "failed")
    # Sorted here: asked for the order, SQLite reads every task of the archive by its key, in place of the index over steps.
    return {row.unit: row.message or "" for row in sorted(session.execute(query), key=lambda row: int(row.task_id))}


def _sorted_out(
    session: Session, step: Step, parameters: Any, units: list[Unit[Any]], survey: Survey, *, retry: bool, all_planned: bool
) -> StepState:
    """Planned units by what their hashes say."""
    query = sa.select(Task.unit, Task.input_hash, Task.status, Task.message, Task.task_id, Task.is_stale).where(Task.step == step.name)
    if len(units) <= _FEW:
        query = query.where(Task.unit.in_([unit.key for unit in units]))
    known = {(row.unit, row.input_hash): row for row in session.execute(query)}
    worked = Counter(unit for (unit, _), row in known.items() if row.status == "done")
    state = StepState(survey.done(step.name), planned={unit.key for unit in units} if all_planned else None)
    failures = {} if all_planned else _failures(session, step.name, survey)
    for unit, input_hash in zip(units, step.input_hashes(units, parameters), strict=True):
        failures.pop(unit.key, None)
        row = known.get((unit.key, input_hash))
        if row is not None and (row.status == "done" or (row.status == "failed" and not retry)):
            if row.status == "failed":
                state.failed[unit.key] = row.message or ""
            if row.is_stale:
                state.unchanged.append(row.task_id)
        else:
            state.pending.append((unit, input_hash))
            state.done -= worked[unit.key]
    state.failed |= failures
    return state


#: So many units are looked for by their keys; of more, all tasks of the step are read.
_FEW = 500


def _unsettled(context: Context, step: Step, parameters: Any, retry: bool) -> sa.ColumnElement[bool]:
    """Frames that the step's tasks do not settle: without a task as it would be made now, or with a word of a person."""
    mine = aliased(Task)
    content = {step.name: dataclasses.asdict(parameters)}
    config = sa.select(Config.config_id).where(Config.sha256 == config_sha256("step", content))
    good = [
        mine.step == step.name,
        mine.frame_id == Frame.frame_id,
        mine.status.in_(["done"] if retry else ["done", "failed"]),
        mine.is_stale == 0,
        mine.step_version == step.version,
        mine.config_id == context.session.execute(config).scalar(),
        mine.facts == facts_sha256(step.facts(context.settings)),
    ]
    good += [~_came_later(source, mine) for source in step.sources if isinstance(source, Joined) and not source.needed]
    always = [source.frames() for source in step.inputs if isinstance(source, (Said, LookedUp))]
    return sa.or_(~sa.exists().where(*good), *(condition for condition in always if condition is not None))


def _came_later(source: Joined, mine: type[Task]) -> sa.ColumnElement[bool]:
    """Whether a task that a frame can do without is there now, and was not when the frame was worked."""
    other = aliased(Task)
    used = sa.exists().where(Lineage.task_id == mine.task_id, Lineage.input_task_id == other.task_id)
    there = sa.exists().where(other.step == source.step, other.status == "done", source.matches(other), ~used.correlate(mine, other))
    # Said, for by itself SQLAlchemy looks no further than to the next SELECT: the frame would be any frame.
    return there.correlate(Frame, mine)
