"""Saving what can be read of a damaged SQLite archive into a new one.

Each table is read by its key from both ends, and around what cannot be read; where SQLite's own shell is installed, what its ``.recover``
finds is added. Rows that refer to lost ones are left out, and whatever wrote a table that lost rows is pending: `reduce` makes it anew.
"""

from __future__ import annotations

import datetime as dt
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine

from db import schema
from db.engine import altering, make_engine, parse_url, sqlite_path
from db.errors import ArchiveUnavailable, ConfigurationError
from db.integrity import references
from db.tables import Base, StepCheck, Task, WriterMark
from reduction.pipeline.order import STEPS
from starledger.archive import default_url, no_archive
from starledger.backup import new_file
from starledger.paths import AnyPath, one_path
from starledger.roots import beside, remember_root, stored_root

__all__ = ["Recovered", "recover"]

#: Rows written at a time.
_MANY = 5000
#: What is of no use to a later run.
_LEFT_OUT = (StepCheck.__tablename__, WriterMark.__tablename__)


@dataclass(frozen=True)
class Recovered:
    """What could be saved.

    Attributes
    ----------
    rows : dict
        Number of rows by table.
    damaged : tuple of str
        Tables that could not be read whole.
    dropped : int
        Rows left out since they referred to rows that are lost.
    """

    rows: dict[str, int]
    damaged: tuple[str, ...]
    dropped: int


def recover(url: str | None, file: AnyPath) -> Recovered:
    """Save what can be read of a SQLite archive into a new one; the old one is only read.

    Parameters
    ----------
    url : str, optional
        Of the archive, as for `starledger.open`.
    file : path
        The new archive.

    Raises
    ------
    ConfigurationError
        The file is there, or the archive is none of SQLite's.
    ArchiveUnavailable
        There is no such archive, or nothing can be read of it.

    Examples
    --------
    >>> starledger.recover("sqlite:///starledger.db", "saved.db").damaged
    ()
    """
    parsed = parse_url(url or default_url())
    source = sqlite_path(parsed)
    if source is None:
        where = parsed.render_as_string(hide_password=True)
        raise ConfigurationError("only SQLite's archives are a file", where=where, hint="restore a backup of it", code="recover.server")
    if not source.is_file():
        raise no_archive(source)
    with new_file(one_path(file)) as temporary:
        engine = make_engine(URL.create("sqlite", database=str(temporary)), writer=True)
        scratch = temporary.with_name(temporary.name + "-wal2")
        try:
            found = _saved(source, scratch, engine)
            _remember(engine, parsed)
        finally:
            engine.dispose()
            scratch.unlink(missing_ok=True)
    return found


def _saved(source: Path, scratch: Path, engine: Engine) -> Recovered:
    by_shell = _by_shell(source, scratch)
    schema.upgrade(engine, _revision(source))
    rows: dict[str, int] = {}
    damaged: list[str] = []
    with altering(engine) as connection:
        for table in Base.metadata.sorted_tables:
            if table.name in _LEFT_OUT or not sa.inspect(connection).has_table(table.name):
                continue
            if not _copy(source, connection, table):
                damaged.append(table.name)
                if by_shell:
                    _copy(scratch, connection, table)
            rows[table.name] = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        if not sum(rows.values()):
            raise ArchiveUnavailable("nothing can be read of it", where=str(source), hint="restore a copy", code="archive.damaged")
        dropped = _without_dangling(connection)
        # Measurements of closed nights were made by the step that clears them before it measures anew.
        made = {name: {model.__tablename__ for model in (*step.writes, *step.clears)} for name, step in STEPS.items()}
        again = [name for name, tables in made.items() if not tables.isdisjoint(damaged)]
        connection.execute(sa.update(Task).where(Task.step.in_(again)).values(status="superseded"))
    return Recovered(rows, tuple(damaged), dropped)


def _remember(engine: Engine, old: URL) -> None:
    """The pixel products stay where they are."""
    root = stored_root(engine) or beside(old)
    if root is not None:
        with engine.begin() as connection:
            remember_root(connection, root)


def _by_shell(source: Path, scratch: Path) -> bool:
    """Have SQLite's own shell recover pages into a scratch file, where it is installed and can."""
    shell = shutil.which("sqlite3")
    if shell is None:
        return False
    with subprocess.Popen(
        [shell, "-batch", "-readonly", str(source), ".recover --ignore-freelist"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as reading:
        written = subprocess.run([shell, "-batch", str(scratch)], stdin=reading.stdout, capture_output=True, check=False)
    return written.returncode == 0 and scratch.is_file()


def _revision(source: Path) -> str:
    """The archive's revision, or the newest where it cannot be read."""
    with suppress(sqlite3.Error), closing(_opened(source)) as old:
        (found,) = old.execute("SELECT version_num FROM alembic_version").fetchone() or (None,)
        if found in schema.revisions():
            return str(found)
    return "head"


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    return connection


def _copy(source: Path, connection: Connection, table: sa.Table) -> bool:
    """Copy the rows of a table that can be read and are no nonsense; whether all could be."""
    driver: Any = connection.connection.driver_connection
    try:
        with closing(_opened(source)) as old:
            names = [row[1] for row in old.execute(f'PRAGMA table_info("{table.name}")')]
            here = {row[1] for row in driver.execute(f'PRAGMA table_info("{table.name}")')}
            columns = [name for name in names if name in here and name in table.c]
            if not columns:
                return False
            reading = _Reading(old, table, columns)
            checks = [_check(table.c[name]) for name in columns]
            insert = f'INSERT OR IGNORE INTO "{table.name}" ({_quoted(columns)}) VALUES ({", ".join("?" * len(columns))})'
            for rows in reading.batches():
                good = [row for row in rows if all(check(value) for check, value in zip(checks, row, strict=True))]
                reading.whole &= len(good) == len(rows)
                driver.executemany(insert, good)
            return reading.whole
    except sqlite3.DatabaseError:
        return False


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _check(column: sa.Column[Any]) -> Callable[[Any], bool]:
    """Whether a value is one of the column's type: SQLite keeps anything anywhere."""
    kind = column.type.python_type
    if kind is dt.datetime:
        return lambda value: value is None or (isinstance(value, str) and _is_time(value))
    kinds = (int, float) if kind is float else (kind,)
    return lambda value: value is None or isinstance(value, kinds)


def _is_time(text: str) -> bool:
    try:
        dt.datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


class _Reading:
    """The rows of a table by its key: from the first until the damage, from the last back to it, and around it."""

    def __init__(self, connection: sqlite3.Connection, table: sa.Table, columns: Sequence[str]) -> None:
        self.connection = connection
        self.table = table.name
        self.columns = _quoted(columns)
        self.key = _quoted([column.name for column in table.primary_key])
        self.by_rowid = bool(table.dialect_options["sqlite"]["with_rowid"])
        self.whole = True

    def batches(self) -> Iterator[list[tuple[Any, ...]]]:
        if not self.by_rowid:
            yield from self._until_damage(f"ORDER BY {self.key}")
            if not self.whole:
                yield from self._until_damage("ORDER BY " + self.key.replace(",", " DESC,") + " DESC")
            return
        after: int | None = -(2**63)
        while after is not None:
            for rows in self._until_damage(f"WHERE rowid > {after} ORDER BY rowid", "rowid, "):
                after = max(after, rows[-1][0])
                yield [row[1:] for row in rows]
            if self.whole:
                return
            after = self._behind(after)

    def _until_damage(self, rest: str, more: str = "") -> Iterator[list[tuple[Any, ...]]]:
        rows: list[tuple[Any, ...]] = []
        self.whole, before = True, self.whole
        try:
            for row in self.connection.execute(f'SELECT {more}{self.columns} FROM "{self.table}" {rest}'):
                rows.append(row)
                if len(rows) == _MANY:
                    yield rows
                    rows = []
        except sqlite3.DatabaseError:
            self.whole = False
        if rows:
            yield rows
        self.whole &= before

    def _behind(self, after: int) -> int | None:
        """A rowid behind the damage that follows `after`, so that the next one can be read; None when there is none."""
        step = 1
        while after + step < 2**62 and not self._is_read(after + step):
            step *= 2
        if after + step >= 2**62 or self._is_read(after + step) is None:
            return None
        low, high = after + step // 2, after + step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._is_read(middle) else (middle, high)
        return high

    def _is_read(self, after: int) -> bool | None:
        """Whether the next row can be read; None when there is none."""
        try:
            found = self.connection.execute(
                f'SELECT {self.columns} FROM "{self.table}" WHERE rowid > {after} ORDER BY rowid LIMIT 1'
            ).fetchone()
        except sqlite3.DatabaseError:
            return False
        return True if found else None


def _without_dangling(connection: Connection) -> int:
    """Leave out rows that refer to rows that are not there, until none does; what may do without a reference, does."""
    dropped, changed = 0, True
    while changed:
        changed = False
        for reference in references():
            if not sa.inspect(connection).has_table(reference.table):
                continue
            if reference.nullable and reference.enforced:
                change = f'UPDATE "{reference.table}" SET "{reference.column}" = NULL WHERE {reference.dangling}'
            else:
                change = f'DELETE FROM "{reference.table}" WHERE {reference.dangling}'
            count = connection.exec_driver_sql(change).rowcount
            changed |= count > 0
            dropped += count if change.startswith("DELETE") else 0
    return dropped
