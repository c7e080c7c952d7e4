"""Many rows as numpy arrays, a column each: COPY BINARY from PostgreSQL, packed by the driver's rows from SQLite.

No row of PostgreSQL becomes an object of Python: the server writes rows of one length (its NULLs as NaN), which numpy reads as they are.
What SQLite's driver hands out are tuples, some thousands at a time. Beside the arrays themselves either way takes some megabytes.
"""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from db.engine import is_sqlite

__all__ = ["fetch_arrays"]

#: Types of the arrays, by the letter of a column.
_TYPES: dict[str, Any] = {"i": np.int64, "j": np.int32, "f": np.float64, "r": np.float32}
#: Rows that are turned into arrays at a time, of SQLite: few enough to stay in the processor's cache.
_ROWS = 2_000
#: Stands for NULL on the way from SQLite: no REAL is so small, and no number happens to be this one.
_NULL_VALUE = -7.3419868361541e-289
#: Bytes that are turned into arrays at a time, of PostgreSQL.
_BYTES = 1 << 22
#: PostgreSQL's object ids of the types that numpy reads, with their formats; and of truth values.
_FORMATS = {21: ">i2", 23: ">i4", 20: ">i8", 700: ">f4", 701: ">f8"}
_BOOLEAN = 16
_INT32 = np.iinfo(np.int32)
_NULL = "column {} of the SELECT has a NULL, which no integer is: fetch it as 'f', or give it a value with COALESCE"
_SIGNATURE = b"PGCOPY\n\xff\r\n\x00"


def fetch_arrays(
    connection: Connection, statement: sa.Executable | str, parameters: Mapping[str, Any] | None = None, *, kinds: str
) -> list[NDArray[Any]]:
    """The rows of a SELECT as one array a column: the same numbers on both engines.

    Parameters
    ----------
    connection : sqlalchemy Connection
        Of a session: ``session.connection()``. The rows are what its transaction sees.
    statement : SELECT of SQLAlchemy, ``sa.text`` or str
        Values belong into `parameters`, ``:name`` in a text. No name of a column matters. Rows come in the order of its ORDER BY,
        otherwise in any.
    parameters : mapping, optional
        Values by name: numbers, texts, dates, or lists where a bind parameter is expanding.
    kinds : str
        One letter a column: "i" int64, "j" int32 (no NULL, nor what does not fit), "f" float64, "r" float32 (NULL becomes NaN). A REAL
        column has the same values as "f" and as "r". Identifiers never pass through a float, which would change them.

    Returns
    -------
    list of arrays
        One a column, each of its own memory; empty ones without rows.

    Raises
    ------
    ValueError
        If the SELECT has another number of columns, or an integer column a NULL.
    """
    query = sa.text(statement) if isinstance(statement, str) else statement
    columns, given = [_Growing(kind) for kind in kinds], parameters or {}
    types = _types(connection, query, given)
    if len(types) != len(kinds):
        raise ValueError(f"{len(kinds)} kinds ({kinds!r}) for a SELECT of {len(types)} columns: one letter each")
    if is_sqlite(connection):
        _of_sqlite(connection, query, given, columns)
    else:
        _of_postgresql(connection, query, given, columns, types)
    return [column.whole() for column in columns]


class _Growing:
    """An array that grows in place: pieces put together at the end would be there twice."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._values = np.empty(0, _TYPES[kind])
        self._n = 0

    def add(self, values: NDArray[Any]) -> None:
        if self.kind == "j" and values.size and (values.max() > _INT32.max or values.min() < _INT32.min):
            raise ValueError(f"integers from {values.min()} to {values.max()} do not fit into 32 bits: fetch the column as 'i'")
        end = self._n + values.size
        if end > self._values.size:
            self._values.resize(max(end, self._values.size * 5 // 4), refcheck=False)
        with np.errstate(over="ignore"):
            self._values[self._n : end] = values
        self._n = end

    def whole(self) -> NDArray[Any]:
        self._values.resize(self._n, refcheck=False)
        return self._values


def _of_sqlite(connection: Connection, query: sa.Executable, parameters: Mapping[str, Any], columns: Sequence[_Growing]) -> None:
    kinds = "".join(column.kind for column in columns)
    if isinstance(query, sa.TextClause):
        query, parameters = _without_nulls(query, kinds), {**parameters, "null_value": _NULL_VALUE}
    result = connection.execute(query, parameters)
    cursor: Any = result.cursor
    layout = struct.Struct("<" + "".join("q" if kind in "ij" else "d" for kind in kinds))
    fields = np.dtype([(f"c{k}", "<i8" if kind in "ij" else "<f8") for k, kind in enumerate(kinds)])
    while rows := cursor.fetchmany(_ROWS):
        try:
            packed = np.frombuffer(b"".join(itertools.starmap(layout.pack, rows)), fields)
            pieces = [packed[name] for name in packed.dtype.names or ()]
        except struct.error:  # a NULL among them, or a number where an integer is wanted
            pieces = [_column(values, kind, k) for k, (values, kind) in enumerate(zip(zip(*rows, strict=True), kinds, strict=True))]
        for column, piece in zip(columns, pieces, strict=True):
            column.add(piece if column.kind in "ij" else np.where(piece == _NULL_VALUE, np.nan, piece))
    result.close()


def _without_nulls(query: sa.TextClause, kinds: str) -> sa.TextClause:
    """The same with a number for NULL: a row with None cannot be packed at once."""
    names = ", ".join(f"c{k}" for k in range(len(kinds)))
    values = ", ".join(f"c{k}" if kind in "ij" else f"ifnull(c{k}, :null_value)" for k, kind in enumerate(kinds))
    return sa.text(f"WITH q({names}) AS ({query.text}) SELECT {values} FROM q").bindparams(*query._bindparams.values())


def _column(values: Sequence[Any], kind: str, k: int) -> NDArray[Any]:
    if kind in "ij" and None in values:
        raise ValueError(_NULL.format(k))
    # None becomes NaN.
    return np.array(values, dtype=np.float64 if kind in "fr" else np.int64)


def _of_postgresql(
    connection: Connection, query: sa.Executable, parameters: Mapping[str, Any], columns: Sequence[_Growing], types: Sequence[Any]
) -> None:
    formats, expressions = zip(*(_written(f"c{k}", column.kind, types[k]) for k, column in enumerate(columns)), strict=True)
    sink = _Sink(columns, formats)
    raw = connection.connection.cursor()
    try:
        names = ", ".join(f"c{k}" for k in range(len(columns)))
        begin, end = f"SELECT {', '.join(expressions)} FROM (", f") AS q({names})"
        select = begin.encode() + _bound(connection, query, parameters, raw) + end.encode()
        with io.BufferedWriter(sink, _BYTES) as buffer:
            raw.copy_expert(b"COPY (" + select + b") TO STDOUT (FORMAT BINARY)", buffer)
    except raw.connection.Error as error:
        raise sa.exc.DBAPIError.instance("COPY TO STDOUT", None, error, raw.connection.Error, dialect=connection.dialect) from error
    finally:
        raw.close()
    if sink.error is not None:
        raise sink.error


def _types(connection: Connection, query: sa.Executable, parameters: Mapping[str, Any]) -> list[Any]:
    """The driver's types of the columns; executed as any statement, so that whoever listens to the connection's hears of it."""
    result = connection.execute(_without_rows(query), parameters)
    cursor: Any = result.cursor
    types = [column[1] for column in cursor.description]
    result.close()
    return types


def _without_rows(query: sa.Executable) -> sa.Executable:
    if isinstance(query, sa.TextClause):
        return sa.text(f"SELECT * FROM ({query.text}) AS q LIMIT 0").bindparams(*query._bindparams.values())
    assert isinstance(query, sa.sql.selectable.GenerativeSelect)
    return query.limit(0)


def _written(name: str, kind: str, oid: int) -> tuple[str, str]:
    """Format and SQL of a column whose every value has one length."""
    wanted = _FORMATS.get(oid, "")
    if kind in "ij":
        if "i" in wanted:
            return wanted, name
        return (">i4", f"CAST({name} AS integer)") if oid == _BOOLEAN else (">i8", f"CAST({name} AS bigint)")
    if wanted == ">f4":
        return wanted, f"COALESCE({name}, CAST('NaN' AS real))"
    return ">f8", f"COALESCE(CAST({name} AS double precision), CAST('NaN' AS double precision))"


def _bound(connection: Connection, query: sa.Executable, parameters: Mapping[str, Any], cursor: Any) -> bytes:
    """The statement with its values, quoted by the driver: COPY takes none."""
    filled: Any = query.bindparams(**parameters) if isinstance(query, sa.TextClause) else query.params(parameters)  # type: ignore[attr-defined]
    compiled = filled.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
    return bytes(cursor.mogrify(str(compiled), compiled.params))


class _Sink(io.RawIOBase):
    """Takes the stream of COPY BINARY in pieces of any length, and keeps its columns.

    A row is the number of fields (int16), then for each field its length (int32; -1 for NULL) and its bytes, all big-endian (PostgreSQL
    manual, COPY, binary format).
    """

    def __init__(self, columns: Sequence[_Growing], formats: Sequence[str]) -> None:
        fields: list[tuple[str, str]] = [("n", ">i2")]
        for k, wanted in enumerate(formats):
            fields += [(f"l{k}", ">i4"), (f"c{k}", wanted)]
        self._row = np.dtype(fields)
        self._columns = columns
        self._rest = b""
        self._begun = False
        self.error: ValueError | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        # An exception would leave the connection in the middle of the stream: it is kept until the end.
        if self.error is None:
            try:
                self._read(self._rest + bytes(data))
            except ValueError as error:
                self.error = error
        return len(data)

    def _read(self, stream: bytes) -> None:
        begin, head = 0, len(_SIGNATURE) + 8
        if not self._begun and len(stream) >= head:
            self._begun, begin = True, head + int.from_bytes(stream[head - 4 : head], "big")
        n = (len(stream) - begin) // self._row.itemsize if self._begun else 0
        if n:
            self._take(np.frombuffer(stream, self._row, n, begin))
        self._rest = stream[begin + n * self._row.itemsize :]

    def _take(self, rows: NDArray[Any]) -> None:
        whole = [rows[f"l{k}"] == rows.dtype[f"c{k}"].itemsize for k in range(len(self._columns))]
        if not all(each.all() for each in whole):
            first = np.argmin(np.all(whole, axis=0))  # what follows a NULL is not where it is looked for
            raise ValueError(_NULL.format(int(np.argmin([each[first] for each in whole]))))
        for k, column in enumerate(self._columns):
            column.add(rows[f"c{k}"])
