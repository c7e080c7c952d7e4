"""Engines for both databases: what a URL means, pragmas, and errors a user can read."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url

from db.errors import ArchiveUnavailable, ConfigurationError
from db.passwords import masked
from db.refusals import refusal
from db.sqlite_reading import connect_reader, reads_alone

__all__ = ["altering", "empty_log", "is_sqlite", "make_engine", "parse_url", "reachable", "sqlite_path", "sqlite_reader"]

#: What a URL may begin with.
_DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql+psycopg2")
#: Before WAL, or SQLite ignores it.
PAGE_SIZE = 16384
#: How long a writer waits for another one, in seconds.
BUSY_TIMEOUT = 30.0
#: Pages after which SQLite copies its log into the database: the pages that every commit touches are copied once for all of them.
_LOG_PAGES = 4000
#: Size of SQLite's log, in bytes, from which on it is emptied after a commit: readers may have kept SQLite from it.
LOG_LIMIT = 96 * 2**20
#: How long that waits for readers, in milliseconds.
_LOG_PATIENCE = 3000


def parse_url(text: str) -> URL:
    """The archive's URL; a path stands for SQLite, a bare ``postgresql://`` for psycopg2.

    Raises
    ------
    ConfigurationError
        For other databases and for text that is no URL.
    """
    if "://" not in text:
        return URL.create("sqlite", database=text)
    try:
        url = make_url(text)
    except (sa.exc.ArgumentError, ValueError) as error:  # ValueError: a port that is no number
        raise ConfigurationError(
            "not a database URL", where=masked(text), hint="give sqlite:///FILE or postgresql://USER@HOST/NAME", code="archive.url"
        ) from error
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg2")
    if url.drivername not in _DRIVERS:
        raise ConfigurationError(
            f"no support for {url.drivername}", where=masked(text), hint="use sqlite:/// or postgresql://", code="archive.url"
        )
    return url


def is_sqlite(bind: Engine | Connection) -> bool:
    """Whether `bind` speaks SQLite."""
    return bind.dialect.name == "sqlite"


def sqlite_path(url: URL) -> Path | None:
    """The file of a SQLite URL; None for PostgreSQL and for a database in memory."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    return Path(str(url.database)).expanduser().absolute()


def make_engine(url: URL | str, *, writer: bool = False, brief: bool = False) -> Engine:
    """An engine; a `writer` takes SQLite's write lock when its transaction begins.

    Beginning with the lock is what makes a second writer wait instead of
    failing half-way; readers never take it, and SQLite refuses what they would write.

    A `brief` reader sees with each statement what is committed by then, as with PostgreSQL, and not all through what was there at first:
    a transaction that reads keeps SQLite from emptying its log as long as it lasts.
    """
    url = parse_url(url) if isinstance(url, str) else url
    if url.get_backend_name() == "postgresql":
        engine = sa.create_engine(url, pool_pre_ping=True)
        sa.event.listen(engine, "connect", _prepare_postgresql)
        return engine
    path = sqlite_path(url)
    if path is not None and not writer:
        engine = _reading(url, path)
    else:
        engine = sa.create_engine(url.set(database=str(path)) if path else url, connect_args={"timeout": BUSY_TIMEOUT})
        sa.event.listen(engine, "connect", _prepare_sqlite)
    if not brief:
        begin = "BEGIN IMMEDIATE" if writer else "BEGIN"
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def empty_log(engine: Engine, limit: int = LOG_LIMIT) -> None:
    """Copy SQLite's log into the database and empty it, where it is longer than `limit` bytes; whoever reads on keeps it for now."""
    path = sqlite_path(engine.url)
    log = path.with_name(f"{path.name}-wal") if path is not None else None
    if log is None or not log.exists() or log.stat().st_size <= limit:
        return
    connection = engine.raw_connection()
    try:
        driver: Any = connection.driver_connection
        driver.execute(f"PRAGMA busy_timeout = {_LOG_PATIENCE}")
        driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        driver.execute(f"PRAGMA busy_timeout = {int(1000 * BUSY_TIMEOUT)}")
    finally:
        connection.close()


def sqlite_reader(path: Path) -> Engine:
    """An engine for which SQLite opens the file to read only; it keeps no connection.

    SQLite itself refuses every write on it, whatever the statement.
    """
    engine = sa.create_engine(
        URL.create("sqlite", database=str(path)), creator=lambda: connect_reader(path, BUSY_TIMEOUT, strict=True), poolclass=sa.NullPool
    )
    sa.event.listen(engine, "connect", _prepare_sqlite_reader)
    return engine


def _reading(url: URL, path: Path) -> Engine:
    engine = sa.create_engine(url.set(database=str(path)), creator=lambda: connect_reader(path, BUSY_TIMEOUT))
    sa.event.listen(engine, "connect", _prepare_sqlite_reader)

    @sa.event.listens_for(engine, "checkin")
    def forget(_connection: sqlite3.Connection, record: Any) -> None:
        # Without locks it does not see what others write from now on.
        if reads_alone(path.resolve()):
            record.invalidate()

    return engine


@contextmanager
def altering(engine: Engine) -> Iterator[sa.Connection]:
    """A transaction that may rebuild tables.

    SQLite alters a table by copying it and dropping the old one, which its foreign keys forbid: they rest meanwhile and are
    checked as a whole before the commit (SQLite's own procedure: https://www.sqlite.org/lang_altertable.html, section 7).
    """
    if not is_sqlite(engine):
        with engine.begin() as connection:
            yield connection
        return
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA foreign_keys = OFF")
        try:
            with connection.begin():
                yield connection
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
                if broken:
                    raise RuntimeError(f"{len(broken)} references to rows that are not there, first: {tuple(broken[0])}")
        finally:
            driver.execute("PRAGMA foreign_keys = ON")


#: PostgreSQL's object id of the type real.
_FLOAT4 = 700


def _prepare_postgresql(connection: Any, _record: Any) -> None:
    from psycopg2.extensions import new_type, register_type  # SQLite needs none of it

    # A real comes as the shortest text that means it; read as a double, that text is another number than the one SQLite gives.
    register_type(new_type((_FLOAT4,), "FLOAT4", _single), connection)


def _single(text: str | None, _cursor: Any) -> float | None:
    return None if text is None else float(np.float32(text))


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are ours: see the "begin" event
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA page_size = {PAGE_SIZE}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA temp_store = MEMORY")
    cursor.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
    cursor.execute(f"PRAGMA journal_size_limit = {_LOG_PAGES * PAGE_SIZE}")
    cursor.close()
    _add_mathematics(connection)


def _prepare_sqlite_reader(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # each SELECT is its own transaction
    connection.execute("PRAGMA temp_store = MEMORY")
    _add_mathematics(connection)


#: Functions of the views and of the cookbook, by their number of arguments.
_FUNCTIONS: dict[str, tuple[Callable[..., float], int]] = {
    "log10": (math.log10, 1),
    "power": (math.pow, 2),
    "sqrt": (math.sqrt, 1),
    "floor": (lambda x: float(math.floor(x)), 1),
    "radians": (math.radians, 1),
    "degrees": (math.degrees, 1),
    "sin": (math.sin, 1),
    "cos": (math.cos, 1),
    "asin": (math.asin, 1),
    "acos": (math.acos, 1),
}


def _add_mathematics(connection: Any) -> None:
    """SQLite is often built without mathematics: the views need these functions. SQLAlchemy's own floor breaks on NULL."""
    connection.create_function("floor", 1, _null_where_undefined(_FUNCTIONS["floor"][0]), deterministic=True)
    try:
        connection.execute("SELECT log10(1.0)")
    except connection.OperationalError:
        for name, (function, count) in _FUNCTIONS.items():
            connection.create_function(name, count, _null_where_undefined(function), deterministic=True)


def _null_where_undefined(function: Callable[..., float]) -> Callable[..., float | None]:
    def answer(*values: float | None) -> float | None:
        given = [value for value in values if value is not None]
        try:
            return function(*given) if len(given) == len(values) else None
        except (ValueError, OverflowError):
            return None

    return answer


#: PostgreSQL's state: a number that its column or type does not hold.
_OUT_OF_RANGE = "22003"


def _too_large() -> ConfigurationError:
    return ConfigurationError("a number is too large for the archive", hint="check the numbers that were given", code="archive.number")


@contextmanager
def reachable(url: URL) -> Iterator[None]:
    """Turn the driver's errors of connection, locks, rights and damaged files into `ArchiveUnavailable`."""
    try:
        yield
    except OverflowError as error:
        if "SQLite INTEGER" not in str(error):  # the driver's own word, which SQLAlchemy passes on as it is
            raise
        raise _too_large() from error
    except (sa.exc.DatabaseError, sa.exc.InterfaceError) as error:
        if getattr(error.orig, "pgcode", None) == _OUT_OF_RANGE:
            raise _too_large() from error
        if refused := refusal(error, url):
            raise refused from error
        reason = str(error.orig).strip().splitlines()[0] if error.orig else str(error)
        damaged = "not a database" in reason or "malformed" in reason
        # The driver's interface fails once a connection is gone that the server or the network cut.
        cut = isinstance(error, sa.exc.InterfaceError) and "closed" in reason
        nonsense = "invalid dsn" in reason  # what follows the question mark of the URL
        if not (damaged or cut or nonsense or isinstance(error, sa.exc.OperationalError)):
            raise
        locked = "locked" in reason or "busy" in reason
        hint = "another program is writing; try again when it has finished" if locked else "check the URL and that the server runs"
        if "disk is full" in reason or "No space left" in reason:
            hint = "free some disk space and run again; nothing that was done is lost"
        if damaged:
            hint = "name another archive, or bring this one back from a copy"
        raise ArchiveUnavailable(
            reason, where=url.render_as_string(hide_password=True), hint=hint, code="archive.locked" if locked else "archive.unreachable"
        ) from error
