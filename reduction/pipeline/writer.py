"""Writing results down: a task, its lineage, its product and its rows, in one transaction."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import Session

from db.bulk import bulk_insert, ensure_partitions
from db.engine import empty_log, is_sqlite
from db.errors import StarledgerError
from db.keys import next_id, now
from db.storage import vacuum
from db.tables import Base, Config, Exposure, Frame, Lineage, Product, ProvisionalResult, RefusedFrame, StepCheck, Task
from reduction.pipeline.declaration import Move, NewFile, Output, Rows, Step, Unit, canonical
from reduction.pipeline.lost import forget, make_again
from reduction.pipeline.open_nights import OpenNightParameters
from reduction.pipeline.order import STEPS
from reduction.pipeline.pending import Guards, config_sha256, facts_sha256
from reduction.pipeline.table_statistics import FEW_ROWS, GROWTH, MANY_ROWS, make_statistics, rows_told
from reduction.pipeline.unchanged import LOST

__all__ = ["Writer"]


#: Values of one IN list: SQLite takes no more than 32,766.
_MANY = 10_000


class Writer:
    """The one writer of a run."""

    def __init__(self, engine: Engine, files: Path, run_id: int, tolerances: OpenNightParameters | None = None) -> None:
        self.engine = engine
        self.files = files
        self.run_id = run_id
        self.tolerances = tolerances or OpenNightParameters()
        self._configs: dict[str, int] = {}
        self._written: Counter[type[Base]] = Counter()  # rows, since statistics were looked at last

    def done(self, step: Step, parameters: Any, results: list[tuple[Unit[Any], str, Output | StarledgerError]]) -> None:
        """Record units that were worked, all in one transaction; then remove files that nothing needs any more."""
        removed: list[str] = []
        for _, _, result in results:
            for move in result.moves if isinstance(result, Output) else ():
                self._move(step, move)
        with self.engine.begin() as connection:
            for unit, input_hash, result in results:
                if isinstance(result, StarledgerError):
                    self._failed(connection, step, parameters, unit, input_hash, result)
                else:
                    removed += self._done(connection, step, parameters, unit, input_hash, result)
        empty_log(self.engine)
        for path in removed:
            (self.files / path).unlink(missing_ok=True)

    def _move(self, step: Step, move: Move) -> None:
        """Move rows, each slice in a transaction of its own."""
        source, target = _table(move.source), _table(move.target)
        for table in (move.source, move.target):
            step.require_declared(table)
        for first, last in move.slices:
            # By frame as well, so that the slice is looked up by the key in place of reading the whole night.
            frames = source.c.frame_id.in_(sa.select(Frame.frame_id).where(Frame.night_id == move.night_id))
            mine = sa.and_(source.c.night_id == move.night_id, frames, source.c.source_id.between(first, last))
            chosen = sa.select(source).where(mine).order_by(source.c.source_id, source.c.frame_id)
            with self.engine.begin() as connection:
                if not is_sqlite(connection):
                    ensure_partitions(connection, target.name, [move.night_id])
                moved = connection.execute(sa.insert(target).from_select(list(source.c.keys()), chosen)).rowcount
                connection.execute(sa.delete(source).where(mine))
            self._written[move.target] += moved
            empty_log(self.engine)
        vacuum(self.engine, source.name)

    def _done(self, connection: Connection, step: Step, parameters: Any, unit: Unit[Any], input_hash: str, output: Output) -> list[str]:
        before = _tasks_of(connection, step.name, unit.key)
        task_id = self._task(connection, step, parameters, unit, input_hash, "done", None, output.remark)
        removed: list[str] = []
        product_id = None
        if output.file is not None:
            product_id, removed = self._product(connection, step, unit, task_id, output.file)
        anew = bool(before) or output.anew
        for rows in output.rows:
            self._write(connection, step, rows, task_id, product_id, anew=anew)
        if output.finish is not None:
            with Session(connection) as session:
                for rows in output.finish(session, task_id):
                    self._write(connection, step, rows, task_id, product_id, anew=anew)
        if task_id in before:
            _rows_came_back(connection, step, task_id)
        others = [other for other in before if other != task_id]
        if step.provisional is not None:
            others = self._compared(connection, step, unit, task_id, output, others)
        if output.measured_anew:
            _measured_anew(connection, step, output.measured_anew)
        retired = [unit.frame_id] if output.retire and unit.frame_id is not None else []
        if step.per == "file":
            retired += _frames_of_duplicate(connection, unit.key)
        _made_anew(connection, others, retired=retired)
        return removed

    def _compared(
        self, connection: Connection, step: Step, unit: Unit[Any], task_id: int, output: Output, others: Sequence[int]
    ) -> list[int]:
        """Note a provisional result, or compare those before with what the whole night gave; earlier tasks that no longer stand."""
        assert step.provisional is not None
        open_before = provisional_before(connection, others)
        if unit.provisional:
            connection.execute(sa.delete(ProvisionalResult).where(ProvisionalResult.task_id == task_id))
            row = {"task_id": task_id, "night_id": unit.night_id, "summary": canonical(output.summary), "stands": 0}
            connection.execute(sa.insert(ProvisionalResult).values(row))
            return [other for other in others if other not in open_before]
        tolerance = getattr(self.tolerances, step.provisional.tolerance) if step.provisional.tolerance else 0.0
        standing = set()
        for other, summary in open_before.items():
            change = step.provisional.change(json.loads(summary), output.summary, self.files)
            stands = change <= tolerance
            values = {
                "final_task_id": task_id,
                "change": change / tolerance if tolerance > 0 and math.isfinite(change) else None,
                "stands": int(stands),
            }
            connection.execute(sa.update(ProvisionalResult).where(ProvisionalResult.task_id == other).values(**values))
            standing |= {other} if stands else set()
        return [other for other in others if other not in standing]

    def _write(self, connection: Connection, step: Step, rows: Rows, task_id: int, product_id: int | None, *, anew: bool) -> None:
        """Write rows of a unit; `anew`: it was worked before, so that there may be older rows in their place."""
        step.require_declared(rows.table)
        table = _table(rows.table)
        # A DELETE that finds nothing costs PostgreSQL two thirds of its rate.
        if rows.replace is not None and (anew or rows.shared):
            _delete(connection, table, rows.replace)
        if not rows.columns:
            return
        self._written[rows.table] += max(map(np.size, rows.columns.values()))
        columns = dict(rows.columns)
        if "task_id" in table.c:
            columns.setdefault("task_id", task_id)
        if "product_id" in table.c and product_id is not None:
            columns.setdefault("product_id", product_id)
        if rows.upsert:
            _upsert(connection, table, _plain(columns))
        else:
            bulk_insert(connection, table, columns)

    def _failed(
        self, connection: Connection, step: Step, parameters: Any, unit: Unit[Any], input_hash: str, error: StarledgerError
    ) -> None:
        # A unit that met a lost product is not done for: both are made by the next run.
        damaged = self._lost(error)
        status = "superseded" if damaged else "failed"
        task_id = self._task(connection, step, parameters, unit, input_hash, status, error.code, str(error))
        make_again(connection, damaged)
        connection.execute(sa.delete(RefusedFrame).where(RefusedFrame.task_id == task_id))
        refused = [{"task_id": task_id, "frame_id": frame_id, "reason": reason} for frame_id, reason in error.refused.items()]
        if refused:
            connection.execute(sa.insert(RefusedFrame), refused)
        # The same task may have been done before, by a run of which a file was lost: what was made of it goes as well.
        before = _tasks_of(connection, step.name, unit.key)
        frames = [unit.frame_id] if unit.frame_id is not None else []
        if step.per == "file":
            children = sa.select(Task.frame_id).join(Lineage, Lineage.task_id == Task.task_id).where(Lineage.input_task_id.in_(before))
            frames = [frame_id for frame_id in connection.execute(children.distinct()).scalars() if frame_id is not None]
        if step.provisional is not None and not unit.provisional:
            # The whole night gives nothing: what was provisional does not stand, either.
            lost = ProvisionalResult.task_id.in_(list(provisional_before(connection, before)))
            connection.execute(sa.update(ProvisionalResult).where(lost).values(final_task_id=task_id, stands=0))
        _made_anew(connection, before, retired=frames)
        _no_longer_stand(connection, Task.task_id.in_(before))
        if step.failed is not None:
            with Session(connection) as session:
                for rows in step.failed(session, unit):
                    self._write(connection, step, rows, task_id, None, anew=bool(before))

    def _lost(self, error: StarledgerError) -> list[str]:
        """The product, as the archive names it, that an error says is to be made again."""
        return [Path(error.where).relative_to(self.files).as_posix()] if error.code in LOST else []

    def _task(
        self,
        connection: Connection,
        step: Step,
        parameters: Any,
        unit: Unit[Any],
        input_hash: str,
        status: str,
        code: str | None,
        message: str | None,
    ) -> int:
        """Insert or update the task's row; older tasks on the same unit become superseded."""
        same = (Task.step == step.name, Task.unit == unit.key)
        row = connection.execute(sa.select(Task.task_id, Task.attempts).where(*same, Task.input_hash == input_hash)).first()
        values = {
            "status": status,
            "run_id": self.run_id,
            "finished": now(),
            "error_code": code,
            "message": message,
            "frame_id": unit.frame_id,
            "path": unit.path,
            "facts": facts_sha256(unit.facts),
            "is_stale": 0,
        }
        connection.execute(sa.update(Task).where(*same, Task.input_hash != input_hash).values(status="superseded"))
        if row is not None:
            forget(connection)
            connection.execute(sa.update(Task).where(Task.task_id == row.task_id).values(attempts=row.attempts + 1, **values))
            self._lineage(connection, int(row.task_id), unit)
            return int(row.task_id)
        task_id = next_id(connection, Task.task_id)
        connection.execute(
            sa.insert(Task).values(
                task_id=task_id,
                step=step.name,
                step_version=step.version,
                unit=unit.key,
                input_hash=input_hash,
                config_id=self.config(connection, "step", {step.name: dataclasses.asdict(parameters)}),
                attempts=1,
                **values,
            )
        )
        self._lineage(connection, task_id, unit)
        return task_id

    def _lineage(self, connection: Connection, task_id: int, unit: Unit[Any]) -> None:
        """What the task was made from, or tried to be."""
        connection.execute(sa.delete(Lineage).where(Lineage.task_id == task_id))
        inputs = {task.task_id: task.role for task in unit.inputs}
        if inputs:
            bulk_insert(connection, _table(Lineage), {"task_id": task_id, "input_task_id": list(inputs), "role": list(inputs.values())})

    def _product(self, connection: Connection, step: Step, unit: Unit[Any], task_id: int, file: NewFile) -> tuple[int, list[str]]:
        # A task that is done once more may find its product's row without a file: what took its place was lost.
        removed_before = sa.and_(Product.task_id == task_id, Product.kind == file.kind, Product.path.is_(None))
        same_file = sa.select(Product.product_id).where(sa.or_(Product.path == file.path, removed_before))
        product_id = connection.execute(same_file.order_by(Product.path.is_(None), Product.product_id).limit(1)).scalar()
        values = {"task_id": task_id, "kind": file.kind, "path": file.path, "sha256": file.sha256, "size": file.size}
        if product_id is not None:
            connection.execute(sa.update(Product).where(Product.product_id == product_id).values(superseded_by=None, **values))
        else:
            product_id = next_id(connection, Product.product_id)
            connection.execute(sa.insert(Product).values(product_id=product_id, is_bad=0, **values))
        same = sa.and_(Task.step == step.name, Task.unit == unit.key, Product.kind == file.kind)
        older = connection.execute(
            sa.select(Product.product_id, Product.path)
            .join(Task, Task.task_id == Product.task_id)
            .where(sa.or_(same, Product.product_id == file.replaces), Product.product_id != product_id)
        ).all()
        passing = step.require_kind(file.kind).passing
        removed = [str(row.path) for row in older if row.path and passing]
        gone = {"path": None} if passing else {}
        for row in older:
            connection.execute(sa.update(Product).where(Product.product_id == row.product_id).values(superseded_by=product_id, **gone))
        return int(product_id), removed

    def retire_vanished(self, step: Step, planned: Collection[str]) -> bool:
        """What was made of units that are no longer planned is superseded: a set of which too many frames were masked, say.

        What was made of it is stale.

        Returns
        -------
        bool
            Whether there was anything.
        """
        with self.engine.begin() as connection:
            query = sa.select(Task.task_id, Task.unit).where(Task.step == step.name, Task.status != "superseded")
            gone = [row.task_id for row in connection.execute(query) if row.unit not in planned]
            if gone:
                forget(connection)
                connection.execute(sa.update(Task).where(Task.task_id.in_(gone)).values(status="superseded"))
                lost = ProvisionalResult.task_id.in_(gone)
                connection.execute(sa.update(ProvisionalResult).where(lost).values(final_task_id=ProvisionalResult.task_id, stands=0))
                _made_anew(connection, gone, retired=())
        return bool(gone)

    def unchanged(self, tasks: Sequence[int]) -> None:
        """Tasks that were stale turn out to be made of what they were made of before."""
        with self.engine.begin() as connection:
            for first in range(0, len(tasks), _MANY):
                connection.execute(sa.update(Task).where(Task.task_id.in_(tasks[first : first + _MANY])).values(is_stale=0))

    def checked(self, step: Step, guards: Guards, n_done: int) -> None:
        """All that was pending of a step was worked, `n_done` units in all: until a guard changes, nothing is."""
        values = {
            "guard": guards.all,
            "rules": guards.rules,
            "ground": guards.ground,
            "last_task": guards.last_task,
            "n_done": n_done,
        }
        with self.engine.begin() as connection:
            row = connection.execute(sa.select(StepCheck.guard, StepCheck.rules).where(StepCheck.step == step.name)).first()
            if row is None:
                connection.execute(sa.insert(StepCheck).values(step=step.name, **values))
            elif tuple(row) != (guards.all, guards.rules):
                connection.execute(sa.update(StepCheck).where(StepCheck.step == step.name).values(**values))

    def analyse(self, tables: tuple[type[Base], ...], *, grown: bool = True) -> None:
        """Statistics for the planner: without them a light curve is a full scan on SQLite, and a plan looks at all tasks for each frame.

        They are made of the tables that were written: all of them where the step has `grown`, else those that got much more than their
        statistics tell of. The measurements of open nights come and go, and a night of a thousand is none of growth.
        """
        written = {table.__tablename__: self._written.pop(table) for table in tables if table in self._written}
        if not written and not grown:
            return
        with self.engine.begin() as connection:
            told = rows_told(connection, written) if written and not grown else {}
            for name, number in written.items():
                if grown or number >= (GROWTH - 1) * told[name]:
                    make_statistics(connection, name, MANY_ROWS)
            for table in (Task, Lineage) if grown else ():
                make_statistics(connection, table.__tablename__, FEW_ROWS)

    def config(self, connection: Connection, kind: str, content: Mapping[str, Any]) -> int:
        """The id of a set of parameters, stored once."""
        text, sha256 = canonical(content), config_sha256(kind, content)
        if sha256 in self._configs:
            return self._configs[sha256]
        config_id = connection.execute(sa.select(Config.config_id).where(Config.sha256 == sha256)).scalar()
        if config_id is None:
            config_id = next_id(connection, Config.config_id)
            connection.execute(sa.insert(Config).values(config_id=config_id, kind=kind, sha256=sha256, content=text))
        else:
            # Remembered only when it was there before: a rolled-back insert must not be.
            self._configs[sha256] = config_id
        return int(config_id)


def provisional_before(connection: Connection, tasks: Sequence[int]) -> dict[int, str]:
    """Summary of each of some tasks whose result is provisional, of a night that is still open."""
    query = sa.select(ProvisionalResult.task_id, ProvisionalResult.summary).where(ProvisionalResult.final_task_id.is_(None))
    return {row.task_id: row.summary for row in connection.execute(query.where(ProvisionalResult.task_id.in_(tasks)))}


def _measured_anew(connection: Connection, step: Step, frames: Sequence[int]) -> None:
    """Frames are worked once more by the steps per frame behind this one, though their hashes are the same."""
    forget(connection)
    later = list(STEPS)[list(STEPS).index(step.name) + 1 :]
    names = [name for name in later if STEPS[name].per == "frame" and step.name in STEPS[name].behind]
    for first in range(0, len(frames), _MANY):
        mine = Task.frame_id.in_(frames[first : first + _MANY])
        connection.execute(
            sa.update(Task).where(mine, Task.step.in_(names), Task.status.in_(["done", "failed"])).values(status="superseded")
        )


def _frames_of_duplicate(connection: Connection, sha256: str) -> list[int]:
    """Frames of a file that was an exposure of its own and turned out to be another file of one: nothing stands of them."""
    query = sa.select(Frame.frame_id).join(Exposure, Exposure.exposure_id == Frame.exposure_id)
    return list(connection.execute(query.where(Exposure.sha256 == sha256, Exposure.duplicate_of.is_not(None))).scalars())


def _tasks_of(connection: Connection, step: str, unit: str) -> list[int]:
    """Every task of the step on the unit, also those that failed or were superseded."""
    return list(connection.execute(sa.select(Task.task_id).where(Task.step == step, Task.unit == unit)).scalars())


def _rows_came_back(connection: Connection, step: Step, task_id: int) -> None:
    """A task that was done once more has written its rows where it writes them: whoever had moved them has to do so again.

    Its hash is the same, and therefore no hash says so.
    """
    movers = [other.name for other in STEPS.values() if set(other.moves) & set(step.writes)]
    if movers:
        mine = sa.select(Lineage.task_id).where(Lineage.input_task_id == task_id)
        connection.execute(sa.update(Task).where(Task.step.in_(movers), Task.task_id.in_(mine)).values(status="superseded"))


def _made_anew(connection: Connection, before: Sequence[int], *, retired: Sequence[int]) -> None:
    """What earlier results of a unit were an input of is stale; what was made of a retired frame no longer stands.

    Parameters
    ----------
    before : sequence of int
        The earlier tasks of the unit.
    retired : sequence of int
        Frames of which nothing stands that goes back to these tasks.
    """
    if not before:
        return
    first = sa.select(Lineage.task_id).where(Lineage.input_task_id.in_(before)).cte("behind", recursive=True)
    behind = first.union(sa.select(Lineage.task_id).join(first, Lineage.input_task_id == first.c.task_id))
    made = sa.and_(Task.task_id.in_(sa.select(behind.c.task_id)), Task.status.in_(["done", "failed"]))
    if retired:
        forget(connection)
        mine = sa.and_(made, Task.frame_id.in_(retired))
        _no_longer_stand(connection, mine)
        connection.execute(sa.update(Task).where(mine).values(status="superseded"))
    connection.execute(sa.update(Task).where(made, Task.is_stale == 0).values(is_stale=1))


def _no_longer_stand(connection: Connection, tasks: sa.ColumnElement[bool]) -> None:
    """Take away the rows of tasks that say what stands now."""
    for step in STEPS.values():
        for table in step.standing:
            mine = sa.select(Task.task_id).where(tasks, Task.step == step.name)
            connection.execute(sa.delete(table).where(_table(table).c.task_id.in_(mine)))


def _table(model: type[Base]) -> sa.Table:
    return model.__table__  # type: ignore[return-value]


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Numpy scalars as Python's own, NaN as NULL."""
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
    return {name: None if isinstance(value, float) and value != value else value for name, value in plain.items()}


def _upsert(connection: Connection, table: sa.Table, values: Mapping[str, Any]) -> None:
    """Insert one row, or update the one of its primary key."""
    keys = {column.name: values[column.name] for column in table.primary_key}
    match = [table.c[name] == value for name, value in keys.items()]
    rest = {name: value for name, value in values.items() if name not in keys}
    if connection.execute(sa.select(sa.literal(1)).select_from(table).where(*match)).first() is None:
        connection.execute(sa.insert(table).values(values))
    elif rest:
        connection.execute(sa.update(table).where(*match).values(rest))


def _delete(connection: Connection, table: sa.Table, place: Mapping[str, Any]) -> None:
    """Delete the rows of a place; a column may be given several values."""
    one = [table.c[name] == value for name, value in _plain(place).items() if np.ndim(value) == 0]
    several = [(name, np.asarray(value).tolist()) for name, value in place.items() if np.ndim(value)]
    if not several:
        connection.execute(sa.delete(table).where(*one))
        return
    ((name, values),) = several
    for first in range(0, len(values), _MANY):
        connection.execute(sa.delete(table).where(*one, table.c[name].in_(values[first : first + _MANY])))
