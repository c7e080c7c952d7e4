"""Engines for both databases: what a URL means, pragmas, and errors a user can read."""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url

from db.errors import ArchiveUnavailable, ConfigurationError, StarledgerError
from db.passwords import masked
from db.refusals import refusal
from db.sqlite_reading import connect_reader, reads_alone
from db.whole import damaged, require_whole

__all__ = ["altering", "doubt", "empty_log", "is_sqlite", "make_engine", "parse_url", "reachable", "sqlite_path", "sqlite_reader"]

#: What a URL may begin with.
_DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql+psycopg2")
#: Before WAL, or SQLite ignores it.
PAGE_SIZE = 16384
#: How long a writer waits for another one, in seconds.
BUSY_TIMEOUT = 30.0
#: Pages after which SQLite copies its log into the database: the pages that every commit touches are copied once for all of them.
_LOG_PAGES = 4000
#: How libpq notices that the way to PostgreSQL is gone, and keeps what lies between from forgetting an idle connection: after a minute
#: without a word it asks, four times, 15 s apart; and what was sent waits for two minutes at most.
_KEEPALIVES = {"keepalives": 1, "keepalives_idle": 60, "keepalives_interval": 15, "keepalives_count": 4, "tcp_user_timeout": 120_000}
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
    """The file of a SQLite URL, behind all links; None for PostgreSQL and for a database in memory."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    return Path(os.path.realpath(Path(str(url.database)).expanduser()))


def make_engine(url: URL | str, *, writer: bool = False, brief: bool = False) -> Engine:
    """An engine; a `writer` takes SQLite's write lock when its transaction begins.

    Beginning with the lock is what makes a second writer wait instead of
    failing half-way; readers never take it, and SQLite refuses what they would write.

    A `brief` reader sees with each statement what is committed by then, as with PostgreSQL, and not all through what was there at first:
    a transaction that reads keeps SQLite from emptying its log as long as it lasts.
    """
    url = parse_url(url) if isinstance(url, str) else url
    if url.get_backend_name() == "postgresql":
        engine = sa.create_engine(url, pool_pre_ping=True, connect_args={k: v for k, v in _KEEPALIVES.items() if k not in url.query})
        sa.event.listen(engine, "connect", _prepare_postgresql)
        return engine
    path = sqlite_path(url)
    if path is not None and not writer:
        engine = _reading(url, path)
    else:
        engine = sa.create_engine(url.set(database=str(path)) if path else url, connect_args={"timeout": BUSY_TIMEOUT})
        sa.event.listen(engine, "connect", _prepare_sqlite)
    for end in ("invalidate", "checkin"):
        sa.event.listen(engine, end, _let_go, insert=True)  # before what may close it
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
    cursor.execute(f"PRAGMA synchronous = {_synchronous()}")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA temp_store = MEMORY")
    cursor.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
    cursor.execute(f"PRAGMA journal_size_limit = {_LOG_PAGES * PAGE_SIZE}")
    cursor.close()
    _add_mathematics(connection)


def _synchronous() -> str:
    """NORMAL: a power cut may take the last commits, which are then pending; FULL: it takes none, and each commit waits for the disk."""
    chosen = (os.environ.get("STARLEDGER_SYNCHRONOUS") or "normal").upper()
    if chosen not in ("NORMAL", "FULL"):
        raise ConfigurationError(
            f"no such mode: {chosen}", where="STARLEDGER_SYNCHRONOUS", hint="give normal or full", code="archive.synchronous"
        )
    return chosen


def _let_go(connection: Any, *_: Any) -> None:
    """Give SQLite's write lock back at once.

    An interrupt in the middle of a statement has SQLAlchemy close the connection; but SQLite keeps it, and its transaction, until the
    last cursor is gone, which the frames of the exception hold. (https://www.sqlite.org/c3ref/close.html: a zombie.)
    """
    if connection is not None and connection.in_transaction:
        connection.rollback()


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
    """Turn errors of connection, locks, rights and damaged files into `ArchiveUnavailable`; odd values, too, where damage is why."""
    where = url.render_as_string(hide_password=True)
    with _Doubted(url):
        try:
            yield
        except OverflowError as error:
            if "SQLite INTEGER" not in str(error):  # the driver's own word, which SQLAlchemy passes on as it is
                raise
            raise _too_large() from error
        except ValueError as error:
            if not isinstance(error, UnicodeEncodeError) and "NUL (0x00)" not in str(error):  # PostgreSQL's driver's word
                raise
            hint = "check the texts that were given"
            raise ConfigurationError("a text is not UTF-8, or has a NUL in it", hint=hint, code="archive.text") from error
        except (sa.exc.DatabaseError, sa.exc.InterfaceError) as error:
            raise _unavailable(error, url, where) from error


class _Doubted:
    """Asks, when something fails that is no error of ours, whether the archive is damaged: odd values come of odd bytes."""

    def __init__(self, url: URL) -> None:
        self.url = url

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, Exception) and not isinstance(error, StarledgerError):
            doubt(self.url)


def doubt(url: URL, *, seconds: float | None = None) -> None:
    """Refuse an archive that is damaged: before it is written to, and before what nobody foresaw is blamed on anything else.

    Parameters
    ----------
    url : URL
        Of the archive; of PostgreSQL's, the server itself says so.
    seconds : float, optional
        Look at no more than can be read in this time.

    Raises
    ------
    ArchiveUnavailable
        It is damaged.
    """
    require_whole(sqlite_path(url), url.render_as_string(hide_password=True), seconds=seconds)


#: What PostgreSQL calls a damaged table, and a damaged index.
_CORRUPTED = ("XX001", "XX002")


def _unavailable(error: sa.exc.DBAPIError, url: URL, where: str) -> BaseException:
    """The error that a driver's means; itself where it is no archive's trouble."""
    reason = str(error.orig).strip().splitlines()[0] if error.orig else str(error)
    state = getattr(error.orig, "pgcode", None)
    if "malformed" in reason or state in _CORRUPTED:
        return damaged(reason, where)
    if state == _OUT_OF_RANGE:
        return _too_large()
    if refused := refusal(error, url):
        return refused
    strange = "not a database" in reason
    # The driver's interface fails once a connection is gone that the server or the network cut.
    cut = isinstance(error, sa.exc.InterfaceError) and "closed" in reason
    nonsense = "invalid dsn" in reason  # what follows the question mark of the URL
    if not (strange or cut or nonsense or isinstance(error, sa.exc.OperationalError)):
        return error
    locked = "locked" in reason or "busy" in reason
    full = "disk is full" in reason or "No space left" in reason
    if not (locked or full or strange or nonsense):
        doubt(url)
    hint = "another program is writing; try again when it has finished" if locked else "check the URL and that the server runs"
    if full:
        hint = "free some disk space and run again; nothing that was done is lost"
    if strange:
        hint = "name another archive; if it was one, restore a copy, or save what can be read with 'starledger db recover'"
    return ArchiveUnavailable(reason, where=where, hint=hint, code="archive.locked" if locked else "archive.unreachable")
