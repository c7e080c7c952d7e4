"""Bulk rows: COPY BINARY on PostgreSQL, executemany on SQLite, in the caller's transaction."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import ArrayLike, NDArray
from sqlalchemy.engine import Connection

from db.engine import is_sqlite

__all__ = ["PARTITION_NIGHTS", "bulk_insert", "copy_binary", "fetch_columns"]

#: Nights in one PostgreSQL partition of a bulk table.
PARTITION_NIGHTS = 32

_SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TRAILER = b"\xff\xff"


def bulk_insert(connection: Connection, table: sa.Table, columns: Mapping[str, ArrayLike]) -> int:
    """Insert rows given by columns; scalars are repeated, NaN becomes NULL.

    Parameters
    ----------
    connection : sqlalchemy Connection
        In a transaction, which the rows join.
    table : sqlalchemy Table
        Target. REAL columns are rounded to float32 on both engines.
    columns : mapping of str to array
        One entry per column to fill; all arrays of one length. None, in an array of objects, is NULL.

    Returns
    -------
    int
        Number of rows.
    """
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    n = max((len(a) for a in arrays.values() if a.ndim), default=1)
    arrays = {name: np.broadcast_to(a, (n,)) if a.ndim == 0 else a for name, a in arrays.items()}
    if n == 0:
        return 0
    if not connection.in_transaction():
        connection.begin()  # as executing a statement would: the driver's own cursor, used below, does not
    if is_sqlite(connection):
        _insert_many(connection, table, arrays)
        return n
    if table.dialect_kwargs.get("postgresql_partition_by"):
        _ensure_partitions(connection, table, arrays["night_id"])
    if all(_pg_format(table.c[name]) for name in arrays):
        _copy(connection, table, arrays)
    else:
        connection.execute(table.insert(), [dict(zip(arrays, row, strict=True)) for row in _python_rows(table, arrays)])
    return n


def fetch_columns(result: sa.Result[Any], kinds: str) -> list[NDArray[Any]]:
    """The rows of a result as one array a column.

    Parameters
    ----------
    result : sqlalchemy Result
        Of a SELECT; one that the connection executed is read faster than one of a session.
    kinds : str
        One letter a column: "i" int64 (no NULL), "f" float64 (NULL becomes NaN).
        Identifiers never pass through a float, which would change them.
    """
    # Of many rows, SQLAlchemy's own would cost as much as the arrays, and Python's numbers four times their memory.
    raw = result.cursor if isinstance(result, sa.CursorResult) else None
    rows = (raw or result).fetchmany(_ROWS)
    parts = [_arrays(rows, kinds)]
    while len(rows) == _ROWS:
        rows = (raw or result).fetchmany(_ROWS)
        parts.append(_arrays(rows, kinds))
    result.close()
    return parts[0] if len(parts) == 1 else [np.concatenate(column) for column in zip(*parts, strict=True)]


#: Rows that are turned into arrays at a time.
_ROWS = 50_000


def _arrays(rows: Sequence[Any], kinds: str) -> list[NDArray[Any]]:
    types = {"i": np.int64, "f": np.float64}
    columns = list(zip(*rows, strict=True)) or [()] * len(kinds)
    return [np.array(column, dtype=types[kind]) for column, kind in zip(columns, kinds, strict=True)]


def _python_rows(table: sa.Table, arrays: dict[str, NDArray[Any]]) -> list[tuple[Any, ...]]:
    lists = []
    for name, values in arrays.items():
        if isinstance(table.c[name].type, sa.REAL):
            values = values.astype(np.float32).astype(np.float64)
        if values.dtype.kind == "f":
            lists.append([None if value != value else value for value in values.tolist()])
        else:
            lists.append(values.tolist())
    return list(zip(*lists, strict=True))


def _insert_many(connection: Connection, table: sa.Table, arrays: dict[str, NDArray[Any]]) -> None:
    names = ", ".join(f'"{name}"' for name in arrays)
    marks = ", ".join("?" * len(arrays))
    raw = connection.connection.cursor()
    try:
        raw.executemany(f'INSERT INTO "{table.name}" ({names}) VALUES ({marks})', _python_rows(table, arrays))
    except raw.connection.Error as error:
        raise _translated(table, raw.connection, error) from error
    finally:
        raw.close()


def _translated(table: sa.Table, driver: Any, error: Exception) -> sa.exc.DBAPIError:
    """SQLAlchemy's error for a driver's, whose cursor was used directly; `driver` has the driver's classes as attributes."""
    kinds = {driver.IntegrityError: sa.exc.IntegrityError, driver.OperationalError: sa.exc.OperationalError}
    kind = next((ours for theirs, ours in kinds.items() if isinstance(error, theirs)), sa.exc.DatabaseError)
    return kind(f"bulk insert into {table.name}", None, error)


def _pg_format(column: sa.Column[Any]) -> str | None:
    """Big-endian numpy format of a fixed-width PostgreSQL type; None for others."""
    kinds = ((sa.BigInteger, ">i8"), (sa.SmallInteger, ">i2"), (sa.Integer, ">i4"), (sa.REAL, ">f4"), (sa.Double, ">f8"))
    return next((code for kind, code in kinds if isinstance(column.type, kind)), None)


def copy_binary(arrays: Mapping[str, NDArray[Any]], formats: Mapping[str, str]) -> bytes:
    """Encode columns as PostgreSQL's binary COPY format, NaN as NULL.

    A row is the number of fields (int16), then for each field its length
    (int32; -1 for NULL) and its bytes, all big-endian (PostgreSQL manual,
    COPY, binary format). Rows are laid out at a fixed stride first; the
    bytes of NULL values are then cut out.
    """
    names = list(arrays)
    n = len(arrays[names[0]])
    fields: list[tuple[str, str]] = [("n_field", ">i2")]
    for name in names:
        fields += [(f"len {name}", ">i4"), (name, formats[name])]
    rows = np.zeros(n, dtype=np.dtype(fields))
    rows["n_field"] = len(names)
    keep: NDArray[np.bool_] | None = None
    for name in names:
        values = arrays[name]
        width = rows.dtype[name].itemsize
        null = _is_null(values)
        rows[f"len {name}"] = np.where(null, -1, width)
        rows[name] = np.where(null, 0, values)
        if null.any():
            if keep is None:
                keep = np.ones((n, rows.dtype.itemsize), dtype=bool)
            start = rows.dtype.fields[name][1]  # type: ignore[index]
            keep[null, start : start + width] = False
    flat = rows.view(np.uint8).reshape(n, rows.dtype.itemsize)
    body = flat.tobytes() if keep is None else flat[keep].tobytes()
    return _SIGNATURE + body + _TRAILER


def _is_null(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a column is NaN or, among objects such as integers that may be unknown, None."""
    if values.dtype.kind == "O":
        return np.array([value is None for value in values.tolist()], dtype=np.bool_)
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), dtype=np.bool_)


def _copy(connection: Connection, table: sa.Table, arrays: dict[str, NDArray[Any]]) -> None:
    formats = {name: str(_pg_format(table.c[name])) for name in arrays}
    names = ", ".join(f'"{name}"' for name in arrays)
    cursor = connection.connection.cursor()
    try:
        cursor.copy_expert(f'COPY "{table.name}" ({names}) FROM STDIN (FORMAT BINARY)', io.BytesIO(copy_binary(arrays, formats)))
    except cursor.connection.Error as error:
        raise _translated(table, cursor.connection, error) from error
    finally:
        cursor.close()


def _ensure_partitions(connection: Connection, table: sa.Table, night_id: NDArray[Any]) -> None:
    for block in np.unique(np.floor_divide(night_id, PARTITION_NIGHTS)).tolist():
        first, last = block * PARTITION_NIGHTS, (block + 1) * PARTITION_NIGHTS
        name = f"{table.name}_n{first}" if first >= 0 else f"{table.name}_m{-first}"
        connection.exec_driver_sql(f'CREATE TABLE IF NOT EXISTS "{name}" PARTITION OF "{table.name}" FOR VALUES FROM ({first}) TO ({last})')
