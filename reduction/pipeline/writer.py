"""Writing results down: a task, its lineage, its product and its rows, in one transaction."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import Session

from db.bulk import bulk_insert
from db.errors import ArchiveUnavailable, StarledgerError
from db.keys import next_id, now
from db.tables import Base, Config, Exposure, Frame, Lineage, Product, RefusedFrame, Task
from reduction.files.product import TEMPORARY_PREFIX
from reduction.pipeline.declaration import NewFile, Output, Rows, Step, Unit, canonical
from reduction.pipeline.order import STEPS

__all__ = ["Ledger", "sweep"]

#: Products that can be made again at any time: their files go when they are superseded.
_PASSING = ("calibrated", "background")


class Ledger:
    """The one writer of a run."""

    def __init__(self, engine: Engine, files: Path, run_id: int) -> None:
        self.engine = engine
        self.files = files
        self.run_id = run_id
        self._configs: dict[str, int] = {}

    def done(self, step: Step, parameters: Any, results: list[tuple[Unit, str, Output | StarledgerError]]) -> None:
        """Record units that were worked, all in one transaction; then remove files that nothing needs any more."""
        removed: list[str] = []
        with self.engine.begin() as connection:
            for unit, input_hash, result in results:
                if isinstance(result, StarledgerError):
                    self._failed(connection, step, parameters, unit, input_hash, result)
                else:
                    removed += self._done(connection, step, parameters, unit, input_hash, result)
        for path in removed:
            (self.files / path).unlink(missing_ok=True)

    def _done(self, connection: Connection, step: Step, parameters: Any, unit: Unit, input_hash: str, output: Output) -> list[str]:
        task_id = self._task(connection, step, parameters, unit, input_hash, "done", None, output.remark)
        connection.execute(sa.delete(Lineage).where(Lineage.task_id == task_id))
        inputs = {task.task_id: task.role for task in unit.inputs}
        if inputs:
            bulk_insert(connection, _table(Lineage), {"task_id": task_id, "input_task_id": list(inputs), "role": list(inputs.values())})
        removed: list[str] = []
        product_id = None
        if output.file is not None:
            product_id, removed = self._product(connection, step, unit, task_id, output.file)
        for rows in output.rows:
            _write(connection, step, rows, task_id, product_id)
        if output.finish is not None:
            with Session(connection) as session:
                for rows in output.finish(session, task_id):
                    _write(connection, step, rows, task_id, product_id)
        if output.retire and unit.frame_id is not None:
            retire(connection, unit.frame_id, step.name)
        return removed

    def _failed(self, connection: Connection, step: Step, parameters: Any, unit: Unit, input_hash: str, error: StarledgerError) -> None:
        before = connection.execute(
            sa.select(Task.task_id).where(Task.step == step.name, Task.unit == unit.key, Task.status == "done")
        ).first()
        task_id = self._task(connection, step, parameters, unit, input_hash, "failed", error.code, str(error))
        connection.execute(sa.delete(RefusedFrame).where(RefusedFrame.task_id == task_id))
        refused = [{"task_id": task_id, "frame_id": frame_id, "reason": reason} for frame_id, reason in error.refused.items()]
        if refused:
            connection.execute(sa.insert(RefusedFrame), refused)
        if before is None:
            return
        frames = [unit.frame_id] if unit.frame_id is not None else []
        if step.per == "file":
            mine = sa.select(Frame.frame_id).join(Exposure, Exposure.exposure_id == Frame.exposure_id).where(Exposure.sha256 == unit.key)
            frames = list(connection.execute(mine).scalars())
        for frame_id in frames:
            retire(connection, frame_id, step.name)

    def _task(
        self,
        connection: Connection,
        step: Step,
        parameters: Any,
        unit: Unit,
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
        }
        connection.execute(sa.update(Task).where(*same, Task.input_hash != input_hash).values(status="superseded"))
        if row is not None:
            connection.execute(sa.update(Task).where(Task.task_id == row.task_id).values(attempts=row.attempts + 1, **values))
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
        return task_id

    def _product(self, connection: Connection, step: Step, unit: Unit, task_id: int, file: NewFile) -> tuple[int, list[str]]:
        product_id = connection.execute(sa.select(Product.product_id).where(Product.path == file.path)).scalar()
        values = {"task_id": task_id, "kind": file.kind, "sha256": file.sha256, "size": file.size}
        if product_id is not None:
            connection.execute(sa.update(Product).where(Product.product_id == product_id).values(superseded_by=None, **values))
        else:
            product_id = next_id(connection, Product.product_id)
            connection.execute(sa.insert(Product).values(product_id=product_id, path=file.path, is_bad=0, **values))
        same = sa.and_(Task.step == step.name, Task.unit == unit.key, Product.kind == file.kind)
        older = connection.execute(
            sa.select(Product.product_id, Product.path)
            .join(Task, Task.task_id == Product.task_id)
            .where(sa.or_(same, Product.product_id == file.replaces), Product.product_id != product_id)
        ).all()
        removed = [str(row.path) for row in older if row.path and file.kind in _PASSING]
        gone = {"path": None} if file.kind in _PASSING else {}
        for row in older:
            connection.execute(sa.update(Product).where(Product.product_id == row.product_id).values(superseded_by=product_id, **gone))
        return int(product_id), removed

    def retire_vanished(self, step: Step, planned: Collection[str]) -> None:
        """What was made of units that are no longer planned is superseded: a set of which too many frames were masked, say."""
        with self.engine.begin() as connection:
            query = sa.select(Task.task_id, Task.unit).where(Task.step == step.name, Task.status != "superseded")
            gone = [row.task_id for row in connection.execute(query) if row.unit not in planned]
            if gone:
                connection.execute(sa.update(Task).where(Task.task_id.in_(gone)).values(status="superseded"))

    def analyse(self, tables: tuple[type[Base], ...]) -> None:
        """Statistics for the planner: without them a light curve is a full scan on SQLite."""
        with self.engine.begin() as connection:
            for table in tables:
                connection.exec_driver_sql(f'ANALYZE "{table.__tablename__}"')

    def config(self, connection: Connection, kind: str, content: Mapping[str, Any]) -> int:
        """The id of a set of parameters, stored once."""
        text = canonical(content)
        sha256 = hashlib.sha256(f"{kind}\n{text}".encode()).hexdigest()
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


def retire(connection: Connection, frame_id: int, step: str) -> None:
    """What later steps made of a frame no longer stands: its tasks are superseded, and rows that say what stands now go with them.

    Such rows of the step itself go too, unless its own task on the frame is done.
    """
    names = list(STEPS)
    later = names[names.index(step) + 1 :]
    connection.execute(sa.update(Task).where(Task.frame_id == frame_id, Task.step.in_(later)).values(status="superseded"))
    for name in (step, *later):
        retired = sa.select(Task.task_id).where(Task.frame_id == frame_id, Task.step == name, Task.status != "done")
        for model in STEPS[name].standing:
            table = _table(model)
            connection.execute(sa.delete(table).where(table.c.task_id.in_(retired)))


def _table(model: type[Base]) -> sa.Table:
    return model.__table__  # type: ignore[return-value]


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Numpy scalars as Python's own, NaN as NULL."""
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
    return {name: None if isinstance(value, float) and value != value else value for name, value in plain.items()}


def _write(connection: Connection, step: Step, rows: Rows, task_id: int, product_id: int | None) -> None:
    step.require_declared(rows.table)
    table = _table(rows.table)
    columns = dict(rows.columns)
    if "task_id" in table.c:
        columns.setdefault("task_id", task_id)
    if "product_id" in table.c and product_id is not None:
        columns.setdefault("product_id", product_id)
    if rows.replace is not None:
        connection.execute(sa.delete(table).where(*(table.c[name] == value for name, value in rows.replace.items())))
    if not rows.upsert:
        bulk_insert(connection, table, columns)
        return
    values = _plain(columns)
    keys = {column.name: values[column.name] for column in table.primary_key}
    match = [table.c[name] == value for name, value in keys.items()]
    rest = {name: value for name, value in values.items() if name not in keys}
    if connection.execute(sa.select(sa.literal(1)).select_from(table).where(*match)).first() is None:
        connection.execute(sa.insert(table).values(values))
    elif rest:
        connection.execute(sa.update(table).where(*match).values(rest))


def sweep(engine: Engine, files: Path) -> int:
    """Make files and rows agree: remove what a killed run left, and make what is lost pending again.

    Only names of this program's making inside its own folders are looked at.

    Returns
    -------
    int
        Number of files removed.
    """
    with engine.connect() as connection:
        known = set(connection.execute(sa.select(Product.path).where(Product.path.is_not(None))).scalars())
    if known and not files.is_dir():
        raise ArchiveUnavailable(
            "the folder of the pixel products is not there", where=str(files), hint="mount it, or give --files DIR", code="archive.files"
        )
    if known and not any((files / path).is_file() for path in known if path is not None):
        raise ArchiveUnavailable(
            f"none of the archive's {len(known)} products is there",
            where=str(files),
            hint="mount it, or give the right --files",
            code="archive.files",
        )
    lost = [path for path in known if path is not None and not (files / path).is_file()]
    if lost:
        made = sa.select(Product.task_id).where(Product.path.in_(lost), Product.superseded_by.is_(None))
        # a calibrated frame that got its plate solution later is made from the raw frame again
        frames = sa.select(Task.frame_id).join(Product).where(Product.path.in_(lost), Product.kind == "calibrated")
        again = sa.or_(Task.task_id.in_(made), sa.and_(Task.step == "calibrate", Task.frame_id.in_(frames)))
        with engine.begin() as connection:
            connection.execute(sa.update(Task).where(again, Task.status == "done").values(status="superseded"))
    removed = 0
    for folder in files.glob(f"{TEMPORARY_PREFIX}*/"):
        shutil.rmtree(folder, ignore_errors=True)
        removed += 1
    for kind in ("raw", "bias", "dark", "largescale", "flat", "pattern", *_PASSING):
        for path in sorted((files / kind).glob("**/*.fits")):
            relative = path.relative_to(files).as_posix()
            if relative not in known:
                path.unlink(missing_ok=True)
                removed += 1
    return removed
