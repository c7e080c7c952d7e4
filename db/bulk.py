"""Bulk rows: COPY BINARY on PostgreSQL, executemany on SQLite, in the caller's transaction and in the order of the table's key."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import ArrayLike, NDArray
from sqlalchemy.engine import Connection

from db.copy_format import copy_binary, copy_rows, fixed_format
from db.engine import is_sqlite

__all__ = ["PARTITION_NIGHTS", "bulk_insert", "ensure_partitions", "partition_name"]

#: Nights in one PostgreSQL partition of a bulk table.
PARTITION_NIGHTS = 32


def bulk_insert(connection: Connection, table: sa.Table, columns: Mapping[str, ArrayLike]) -> int:
    """Insert rows given by columns; scalars are repeated, NaN becomes NULL.

    Parameters
    ----------
    connection : sqlalchemy Connection
        In a transaction, which the rows join.
    table : sqlalchemy Table
        Target. REAL columns are rounded to float32 on both engines.
    columns : mapping of str to array
        One entry per column to fill; all arrays of one length. None, in an array of objects, is NULL; so is NaN, in any.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    sqlalchemy.exc.DBAPIError
        Where the database refuses the rows: `IntegrityError` for a key that is there, `DataError` for a text that it cannot keep.
    """
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    n = max((len(a) for a in arrays.values() if a.ndim), default=1)
    arrays = {name: np.broadcast_to(a, (n,)) if a.ndim == 0 else a for name, a in arrays.items()}
    if n == 0:
        return 0
    arrays = _in_order(table, arrays)
    if not connection.in_transaction():
        connection.begin()  # as executing a statement would: the driver's own cursor, used below, does not
    if is_sqlite(connection):
        _insert_many(connection, table, arrays)
        return n
    if table.dialect_kwargs.get("postgresql_partition_by"):
        ensure_partitions(connection, table.name, arrays["night_id"])
    _copy(connection, table, arrays)
    return n


def _in_order(table: sa.Table, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Rows in the order of the key, so that an index is appended to and its pages are touched one after the other."""
    keys = [_ranks(arrays[column.name]) for column in table.primary_key if column.name in arrays]
    if not keys:
        return arrays
    order = np.lexsort(keys[::-1])
    if (order == np.arange(len(order))).all():
        return arrays
    return {name: values[order] for name, values in arrays.items()}


def _ranks(values: NDArray[Any]) -> NDArray[Any]:
    """Numbers in the order of the values, which may be texts."""
    if values.dtype.kind != "O":
        return values
    given = values.tolist()
    # Sorted as texts, whatever they are: what order None and a number have does not matter here.
    rank = {value: number for number, value in enumerate(sorted(set(given), key=str))}
    return np.array([rank[value] for value in given], dtype=np.int64)


def _python_rows(table: sa.Table, arrays: dict[str, NDArray[Any]]) -> Iterator[tuple[Any, ...]]:
    """Rows for SQLite, which takes a NaN for NULL by itself; one at a time, since a list of them would be looked through for garbage."""
    lists = []
    for name, values in arrays.items():
        if isinstance(table.c[name].type, sa.REAL):
            values = values.astype(np.float32).astype(np.float64)
        given = values.tolist()
        if values.dtype.kind == "O":
            given = [None if value is None or value != value else value for value in given]
        if isinstance(table.c[name].type, sa.Date | sa.DateTime):
            given = [None if value is None else _time_text(value) for value in given]
        lists.append(given)
    return zip(*lists, strict=True)


def _time_text(value: dt.date) -> str:
    """A date or a time as SQLAlchemy writes and reads it in SQLite."""
    return value.isoformat(" ", "microseconds") if isinstance(value, dt.datetime) else value.isoformat()


def _insert_many(connection: Connection, table: sa.Table, arrays: dict[str, NDArray[Any]]) -> None:
    names = ", ".join(f'"{name}"' for name in arrays)
    marks = ", ".join("?" * len(arrays))
    raw = connection.connection.cursor()
    try:
        rows: Any = _python_rows(table, arrays)  # sqlite3 takes an iterator, of which SQLAlchemy's types know nothing
        raw.executemany(f'INSERT INTO "{table.name}" ({names}) VALUES ({marks})', rows)
    except raw.connection.Error as error:
        raise _translated(table, raw.connection, error) from error
    finally:
        raw.close()


def _translated(table: sa.Table, driver: Any, error: Exception) -> sa.exc.DBAPIError:
    """SQLAlchemy's error for a driver's, whose cursor was used directly; `driver` has the driver's classes as attributes."""
    kinds = {
        driver.IntegrityError: sa.exc.IntegrityError,
        driver.OperationalError: sa.exc.OperationalError,
        driver.DataError: sa.exc.DataError,
    }
    kind = next((ours for theirs, ours in kinds.items() if isinstance(error, theirs)), sa.exc.DatabaseError)
    return kind(f"bulk insert into {table.name}", None, error)


def _copy(connection: Connection, table: sa.Table, arrays: dict[str, NDArray[Any]]) -> None:
    formats = {name: fixed_format(table.c[name]) for name in arrays}
    fixed = {name: code for name, code in formats.items() if code is not None}
    try:
        data = copy_binary(arrays, fixed) if len(fixed) == len(formats) else copy_rows(table, arrays)
    except ValueError as error:
        raise sa.exc.DataError(f"bulk insert into {table.name}", None, error) from error
    names = ", ".join(f'"{name}"' for name in arrays)
    cursor = connection.connection.cursor()
    try:
        cursor.copy_expert(f'COPY "{table.name}" ({names}) FROM STDIN (FORMAT BINARY)', io.BytesIO(data))
    except cursor.connection.Error as error:
        raise _translated(table, cursor.connection, error) from error
    finally:
        cursor.close()


def ensure_partitions(connection: Connection, table: str, night_id: ArrayLike) -> None:
    """Make the partitions of a PostgreSQL bulk table that rows of these nights go into, where they are absent.

    Parameters
    ----------
    connection : sqlalchemy Connection
        To PostgreSQL.
    table : str
        Name of a table that is partitioned by night.
    night_id : array_like, shape (n,)
        Nights.
    """
    for block in np.unique(np.floor_divide(np.asarray(night_id, dtype=np.int64), PARTITION_NIGHTS)).tolist():
        first, last = block * PARTITION_NIGHTS, (block + 1) * PARTITION_NIGHTS
        name = partition_name(table, first)
        connection.exec_driver_sql(f'CREATE TABLE IF NOT EXISTS "{name}" PARTITION OF "{table}" FOR VALUES FROM ({first}) TO ({last})')


def partition_name(table: str, first: int) -> str:
    """Name of the partition of a bulk table that begins with night `first`."""
    return f"{table}_n{first}" if first >= 0 else f"{table}_m{-first}"
