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
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, aliased

from db.tables import Config, Frame, Lineage, Product, StepCheck, Task
from reduction.pipeline.declaration import Context, Step, Unit, canonical
from reduction.pipeline.inputs import Joined, LookedUp, Said
from reduction.pipeline.order import STEPS
from reduction.pipeline.plans import planned
from reduction.pipeline.provisional import in_place_of, is_open, unit_as_worked

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
    ground : str
        Of everything but tasks: parameters, and what people said.
    last_task : int
        Last task that there is.
    """

    all: str
    rules: str
    ground: str
    last_task: int


def facts_sha256(facts: str) -> str:
    """What `task.facts` keeps of a unit's facts."""
    return hashlib.sha256(facts.encode()).hexdigest() if facts else ""


def config_sha256(kind: str, content: Mapping[str, Any]) -> str:
    """SHA-256 by which a set of parameters is known."""
    return hashlib.sha256(f"{kind}\n{canonical(content)}".encode()).hexdigest()


class Survey:
    """What there is of tasks, asked once for all steps.

    Of each step, status and staleness the last task stands for all: a step's new task has the highest number, and where nothing was
    pending nothing was stale. What the writer changes in other ways (`writer.forget`) it forgets all checks for. So the answer
    costs the same for ten frames and for a million.

    Parameters
    ----------
    session : Session
        Reads.
    settings : mapping
        In force.
    """

    def __init__(self, session: Session, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._last: dict[str, list[tuple[str, int, int]]] = {}
        for name, status, is_stale, last in session.execute(sa.text(_last_tasks())):
            if last is not None:
                self._last.setdefault(name, []).append((status, is_stale, last))
        self._number: dict[str, int] = {}
        bad = session.execute(sa.select(sa.func.count(), sa.func.sum(Product.product_id)).where(Product.is_bad == 1)).one()
        self._bad = f"{bad[0]} {bad[1]}"

    def done(self, name: str, session: Session) -> int:
        """Number of the step's done tasks; counted when it is first asked for."""
        if name not in self._number:
            query = sa.select(sa.func.count()).select_from(Task).where(Task.step == name, Task.status == "done")
            self._number[name] = int(session.execute(query).scalar_one())
        return self._number[name]

    def failed(self, name: str) -> bool:
        """Whether the step has failed tasks."""
        return any(row[0] == "failed" for row in self._last.get(name, []))

    def guards(self, step: Step, session: Session) -> Guards:
        """The step's guards as they are now; the session reads what people said to it."""
        works = [STEPS[name].fingerprint(self._settings) for name in sorted({step.name, *step.behind})]
        inputs = {name for source in step.sources if source.before for name in source.steps}
        looked_up = [source for source in step.sources if isinstance(source, LookedUp) and source.frames() is None]
        rules = {name for source in looked_up for name in source.steps}
        sayings = [source for source in step.inputs if isinstance(source, Said)]
        said = "\n".join(source.digest(session, self._settings) for source in sayings if source.ground)
        passing = [source.digest(session, self._settings) for source in sayings if not source.ground]
        given = canonical({name: self._settings.get(name) for name in _GIVEN}) if step.per == "file" else ""
        ground = _digest(*works, said, given, self._bad)
        return Guards(
            _digest(ground, *passing, *self._tasks({step.name, *inputs})),
            _digest(said, self._bad, *self._tasks(rules)) if rules else "",
            ground,
            max((row[2] for rows in self._last.values() for row in rows), default=0),
        )

    def _tasks(self, names: Iterable[str]) -> list[str]:
        return [f"{name} {sorted(self._last.get(name, []))}" for name in sorted(names)]


#: What the files' facts come from, besides the files.
_GIVEN = ("instrument", "default", "override")


@cache
def _last_tasks() -> str:
    """The last task of each step, status and staleness, each looked up in an index; NULL where there is none."""
    kinds = ", ".join(
        f"('{name}', '{status}', {stale})" for name in STEPS for status in ("done", "failed", "superseded") for stale in (0, 1)
    )
    same = "t.step = k.step AND t.status = k.status AND t.is_stale = k.is_stale"
    return (
        f"WITH kind (step, status, is_stale) AS (VALUES {kinds})"
        f" SELECT k.step, k.status, k.is_stale, (SELECT max(t.task_id) FROM task t WHERE {same}) FROM kind k"
    )


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
    stored = context.session.get(StepCheck, step.name)
    trying = retry and survey.failed(step.name)
    follows = step.guarded or (step.per == "file" and not context.settings.get("paths"))
    if stored is not None and follows and not trying and stored.guard == survey.guards(step, context.session).all:
        return StepState(stored.n_done, failed=_failures(context.session, step.name, survey), settled=True)
    guards = survey.guards(step, context.session)
    settled = stored is not None and stored.rules == guards.rules
    only = _unsettled(context, step, parameters, retry) if step.plan is None and settled else None
    if stored is not None and stored.ground == guards.ground and not trying:
        context.since = stored.last_task
    units = planned(context, parameters, only)
    all_planned = only is None and not context.in_part
    return _sorted_out(context.session, step, parameters, units, survey, retry=retry, all_planned=all_planned)


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
    state = StepState(survey.done(step.name, session), planned={unit.key for unit in units} if all_planned else None)
    failures = {} if all_planned else _failures(session, step.name, survey)
    hashes = _hashes(session, step, parameters, units, known)
    for unit, input_hash in zip(units, hashes, strict=True):
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


def _hashes(session: Session, step: Step, parameters: Any, units: list[Unit[Any]], known: Mapping[tuple[Any, Any], Any]) -> list[str]:
    """Hash of each unit; of a frame that may keep what its night had when it came, that of its task (`provisional`)."""
    hashes = step.input_hashes(units, parameters)
    stands = {key[0]: row for key, row in known.items() if row.status in ("done", "failed")}
    numbers = {unit.key: k for k, unit in enumerate(units) if unit.key in stands and stands[unit.key].input_hash != hashes[k]}
    worked = unit_as_worked(session, step, {stands[key].task_id: units[k] for key, k in numbers.items()})
    for unit, input_hash in zip(worked.values(), step.input_hashes(worked.values(), parameters), strict=True):
        if input_hash == stands[unit.key].input_hash:
            hashes[numbers[unit.key]] = input_hash
    return hashes


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
    if STEPS[source.step].provisional is not None:
        there = there.where(~is_open(other), ~in_place_of(mine, other))
    # Said, for by itself SQLAlchemy looks no further than to the next SELECT: the frame would be any frame.
    return there.correlate(Frame, mine)
