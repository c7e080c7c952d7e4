"""A person's own SELECT, which can read everything and write nothing.

No text is judged here: the database does that. Several statements in one text are refused by what is asked of it (a cursor of
PL/pgSQL is opened for one statement that returns rows; `sqlite3` runs one), and writing by how it is asked (a file opened to
read only and an authorizer; a read-only transaction that is always rolled back, on a connection that is thrown away).
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg2
from psycopg2.extensions import encodings
from sqlalchemy.engine import Connection, Engine

from db.engine import is_sqlite, reachable, sqlite_path, sqlite_reader
from db.errors import ArchiveUnavailable, ConfigurationError
from db.rights import rights_to_write
from queries.dataframe import data_frame
from queries.limits import TIMEOUT, Clock, timed_patterns, too_long, watched, with_cancel
from queries.parameters import with_values

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_only", "sql_frame", "sql_rows", "writer_by_right"]

#: Rows that are fetched at a time.
PIECE = 10_000

_ERRORS = (sqlite3.Error, sqlite3.Warning, psycopg2.Error, ValueError, OverflowError)

#: Before the statement. The first line outlives the transaction; cursors are else planned for their first rows only.
_SESSION = (
    "SET default_transaction_read_only = on; SET standard_conforming_strings = on; SET cursor_tuple_fraction = 1; SET lock_timeout = '10s'"
)
#: Before each of our own statements: the server's clock begins anew with every one.
_LIMIT = "SET LOCAL statement_timeout = {}"
#: Rows come from a cursor that PL/pgSQL opened: it takes one statement that returns rows, and the text comes to it as data.
_OPEN = """DO $do$
DECLARE rows CONSTANT refcursor := 'starledger_rows';
BEGIN
  OPEN rows NO SCROLL FOR EXECUTE current_setting('starledger.statement');
END
$do$"""
_FETCH = "FETCH {} FROM starledger_rows"

#: Functions of PostgreSQL that act beyond the transaction (on files, on other sessions and servers, on locks), write large objects
#: (which versions before 16 let a read-only transaction do), change who asks, or run text of their own. A name can be spelled in one
#: way only, but for case and for U&"...", so a text without these words names none of them: there is no text to understand for that.
#: Still this is no wall: a function or a view that somebody made can do what its maker may do, and a list is never complete. The real
#: wall is a role that has no right but to read.
_ACTS = (
    *("pg_read_", "pg_ls_", "pg_stat_file", "pg_file_", "lo_import", "lo_export", "lo_creat", "lo_from_bytea", "lo_put", "lo_unlink"),
    *("lo_truncate", "lowrite", "dblink", "pg_terminate_", "pg_cancel_", "pg_reload_", "pg_rotate_", "pg_switch_", "pg_promote"),
    *("pg_create_", "pg_drop_", "pg_copy_", "pg_backup_", "pg_start_backup", "pg_stop_backup", "pg_wal_replay_", "pg_logical_", "pg_log_"),
    *("pg_replication_origin_", "pg_replication_slot_", "pg_sync_", "pg_stat_reset", "pg_stat_statements_reset", "pg_import_", "pg_notify"),
    *("pg_export_snapshot", "pg_advisory_", "pg_try_advisory_", "pg_truncate_", "pg_restore_", "pg_clear_", "pg_nextoid", "set_config"),
    *("brin_summarize_", "brin_desummarize_", "gin_clean_pending_list", "heap_force_"),
    *("query_to_xml", "cursor_to_xml", "xpath_table", "ts_stat", "ts_rewrite", "crosstab", "connectby"),
)
#: One of them at the beginning of a word (a digit is none: "1set_config" is two words to PostgreSQL), or such a name.
_ACT = re.compile(r"(?<![^\W\d])(?:" + "|".join(_ACTS) + r'|u&")', re.IGNORECASE)

#: Bytes of the longest value that SQLite may make for a statement: it would make a gigabyte of 20 characters.
_LONGEST_VALUE = 10**8
#: What SQLite may do for a SELECT.
_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}

#: PostgreSQL's states: a cursor cannot be opened for this; not in a read-only transaction; not made read-write after a query.
_REFUSED = ("42P11", "25006", "25001")
#: PostgreSQL's states: a statement was cancelled, by its clock or a person; a lock was waited for too long; a right is missing.
_CANCELLED, _LOCKED, _NO_RIGHT = "57014", "55P03", "42501"
_SQLITE_REFUSED = ("not authorized", "authorization denied", "readonly database", "one statement at a time")
_HINT = "give one statement such as SELECT or WITH; commands such as 'starledger mask' change the archive"


@contextmanager
def read_only(engine: Engine) -> Iterator[Connection]:
    """A connection of its own on which the database itself refuses to write; what it did is rolled back.

    SQLite: the file is opened to read only, and all but reading is refused (ATTACH, PRAGMA, load_extension). PostgreSQL: its
    transactions are read-only and can be made nothing else after their first query. Text that is not ours goes through `sql_rows`,
    which takes one statement: a COMMIT among several would end the transaction.
    """
    with _sqlite_connection(engine) if is_sqlite(engine) else _postgresql_connection(engine) as connection:
        yield connection


@contextmanager
def _sqlite_connection(engine: Engine) -> Iterator[Connection]:
    path = sqlite_path(engine.url)
    reader = sqlite_reader(path) if path is not None else engine  # a database in memory is its connection
    with reader.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        with suppress(sqlite3.OperationalError):
            # At its first use SQLite declares the table it stands for, which the authorizer would see as CREATE TABLE.
            driver.execute("SELECT 1 FROM json_each('[]'), json_tree('[]')")
        before = driver.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
        driver.set_authorizer(_authorize)
        try:
            yield connection
        finally:
            driver.set_authorizer(None)
            driver.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, before)


def _authorize(action: int, _one: str | None, name: str | None, _database: str | None, _view: str | None) -> int:
    if action not in _READING or (action == sqlite3.SQLITE_FUNCTION and (name or "").lower() == "load_extension"):
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


@contextmanager
def _postgresql_connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        # Not back to the pool: a session keeps advisory locks and settings.
        connection.detach()
        driver: Any = connection.connection.dbapi_connection
        with driver.cursor() as cursor:
            cursor.execute(_SESSION)
        driver.commit()
        driver.set_session(readonly=True)
        yield connection  # its close rolls back


def writer_by_right(engine: Engine) -> str | None:
    """One line for a person who asks in a role of PostgreSQL that could write; None where there is nothing to say."""
    if is_sqlite(engine):
        return None
    with reachable(engine.url), engine.connect() as connection:
        right = rights_to_write(connection)
    return right and f"this role {right}: 'starledger db grant ROLE' makes one that can only read"


@contextmanager
def sql_rows(
    engine: Engine, text: str, parameters: Mapping[str, Any] | None = None, *, timeout: float = TIMEOUT
) -> Iterator[tuple[list[str], Iterator[tuple[Any, ...]]]]:
    """Names of the columns, and the rows of one SELECT statement as they are fetched: memory holds `PIECE` of them.

    Parameters, errors: see `sql_frame`. Rows can be had until the context is left; then the statement ends on the server as well.
    """
    values = {name: value.item() if isinstance(value, np.generic) else value for name, value in (parameters or {}).items()}
    clock = Clock(timeout)
    with ExitStack() as stack:
        with reachable(engine.url), _told(text, clock):
            connection = stack.enter_context(read_only(engine))
        driver: Any = connection.connection.dbapi_connection
        if is_sqlite(engine):
            stack.enter_context(timed_patterns(driver, clock))
        cursor = driver.cursor()
        stack.callback(cursor.close)
        with _told(text, clock):
            if is_sqlite(engine):
                fetch = _run_sqlite(cursor, text, values, clock)
            else:
                fetch = _run_postgresql(cursor, text, values, clock, stack.enter_context(with_cancel(driver, clock)))
            first = fetch()
        if cursor.description is None:
            raise _refused(text, "it returns no rows" if text.strip(" ;\n\r\t") else "it is empty")
        yield [column[0] for column in cursor.description], _rows(text, clock, first, fetch)


def _run_sqlite(cursor: Any, text: str, values: Mapping[str, Any], clock: Clock) -> Callable[[], list[tuple[Any, ...]]]:
    # SQLite finds :name itself; the driver takes no semicolons after the first.
    with watched(cursor.connection, clock):
        cursor.execute(text.strip().rstrip(";"), values)

    def fetch() -> list[tuple[Any, ...]]:
        with watched(cursor.connection, clock):
            return list(cursor.fetchmany(PIECE))

    return fetch


def _run_postgresql(
    cursor: Any, text: str, values: Mapping[str, Any], clock: Clock, call: Callable[[Callable[[], Any]], Any]
) -> Callable[[], list[tuple[Any, ...]]]:
    encoding = encodings[cursor.connection.encoding]
    statement = with_values(text, values, lambda value: str(cursor.mogrify("%s", (value,)), encoding))
    if found := _ACT.search(statement):
        reason = 'no name can be spelled with U&"' if found[0][-1] == '"' else f"it says {found[0]}, and such functions do more than read"
        raise _refused(text, reason)

    def begin() -> None:
        cursor.execute(_LIMIT.format(clock.milliseconds))
        # That this is the transaction's first query matters: after it, PostgreSQL lets nothing make the transaction read-write.
        cursor.execute("SELECT set_config('starledger.statement', %s, true)", (statement,))
        cursor.execute(_OPEN)

    def piece() -> list[tuple[Any, ...]]:
        cursor.execute(_LIMIT.format(clock.milliseconds))
        cursor.execute(_FETCH.format(PIECE))
        return list(cursor.fetchall())

    call(begin)
    return lambda: list(call(piece))


def _rows(text: str, clock: Clock, piece: list[tuple[Any, ...]], fetch: Callable[[], list[tuple[Any, ...]]]) -> Iterator[tuple[Any, ...]]:
    while piece:
        yield from piece
        if len(piece) < PIECE:
            return
        with _told(text, clock):
            piece = fetch()


def sql_frame(engine: Engine, text: str, parameters: Mapping[str, Any] | None = None, *, timeout: float = TIMEOUT) -> pd.DataFrame:
    """Rows of one SELECT statement.

    Parameters
    ----------
    engine : Engine
        Of the archive.
    text : str
        One statement that reads; `:name` stands for a parameter.
    parameters : mapping, optional
        Values of the parameters.
    timeout : float
        Seconds that the database may work on it; 0 for no limit.

    Returns
    -------
    pandas.DataFrame
        A column per column of the result; see `queries.dataframe.data_frame`.

    Raises
    ------
    ConfigurationError
        When it is no single reading statement, a parameter has no value, the time is over, or the database refuses it.
    ArchiveUnavailable
        When the database cannot be reached or is locked.
    """
    with sql_rows(engine, text, parameters, timeout=timeout) as (names, rows):
        return data_frame(rows, names)


@contextmanager
def _told(text: str, clock: Clock) -> Iterator[None]:
    """Errors of the drivers in one line that a person can read."""
    try:
        yield
    except _ERRORS as error:
        raise _readable(error, text, clock) from error


def _readable(error: Exception, text: str, clock: Clock) -> ConfigurationError | ArchiveUnavailable:
    reason = _first_line(clock.raised or error)
    state = getattr(error, "pgcode", None)
    if isinstance(clock.raised, TimeoutError):
        return too_long(clock)
    if state == _CANCELLED or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
        # Someone else may end it, too.
        return too_long(clock) if clock.left <= 0 or "timeout" in reason else _lost(reason)
    lost = isinstance(error, psycopg2.OperationalError) and state is None
    if (isinstance(error, sqlite3.OperationalError) and ("locked" in reason or "busy" in reason)) or lost or state == _LOCKED:
        return _lost(reason)
    if state == _NO_RIGHT:
        hint = "its owner may give the right to read: 'starledger db grant ROLE'"
        return ArchiveUnavailable(reason, where="sql", hint=hint, code="archive.rights")
    if state in _REFUSED or any(words in reason for words in _SQLITE_REFUSED):
        return _refused(text, reason)
    if "binding" in reason or "can't adapt" in reason:
        return ConfigurationError(reason, where="sql", hint="give a value for every :name", code="sql.parameter")
    return ConfigurationError(reason, where="sql", hint="docs/cookbook.md has examples that work on both engines", code="sql.error")


def _lost(reason: str) -> ArchiveUnavailable:
    return ArchiveUnavailable(reason, where="sql", hint="try again", code="archive.unreachable")


def _refused(text: str, reason: str) -> ConfigurationError:
    begin = " ".join(text.split())
    begin = f"{begin[:40]}..." if len(begin) > 43 else begin
    message = f"only one statement that reads is taken, not '{begin}' ({reason})"
    return ConfigurationError(message, where="sql", hint=_HINT, code="sql.refused")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
