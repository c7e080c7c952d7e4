"""PostgreSQL's binary COPY format, encoded from arrays (PostgreSQL manual, COPY, binary format).

A row is the number of fields (int16), then for each field its length (int32; -1 for NULL) and its bytes, all big-endian.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from db.path_text import PathText

__all__ = ["copy_binary", "copy_rows", "fixed_format", "is_null"]

_SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TRAILER = b"\xff\xff"
#: PostgreSQL counts days and microseconds from here.
_EPOCH = dt.datetime(2000, 1, 1)
_MICROSECOND = dt.timedelta(microseconds=1)
#: Rows with texts that are laid out at a time: their places take some ten times their bytes.
_ROWS = 50_000


def fixed_format(column: sa.Column[Any]) -> str | None:
    """Big-endian numpy format of a number's PostgreSQL type; None for other types."""
    kinds = ((sa.BigInteger, ">i8"), (sa.SmallInteger, ">i2"), (sa.Integer, ">i4"), (sa.REAL, ">f4"), (sa.Double, ">f8"))
    return next((code for kind, code in kinds if isinstance(column.type, kind)), None)


def is_null(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a column is NaN or, among objects such as texts and integers that may be unknown, None."""
    if values.dtype.kind == "O":
        return np.array([value is None or value != value for value in values.tolist()], dtype=np.bool_)
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), dtype=np.bool_)


def copy_binary(arrays: Mapping[str, NDArray[Any]], formats: Mapping[str, str]) -> bytes:
    """Encode columns of numbers, NaN as NULL.

    Rows are laid out at a fixed stride first; the bytes of NULL values are then cut out.

    Parameters
    ----------
    arrays : mapping of str to array, shape (n,)
        The columns.
    formats : mapping of str to str
        Big-endian numpy format of each, as from `fixed_format`.
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
        null = is_null(values)
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


def copy_rows(table: sa.Table, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Encode columns of any type that the archive has: numbers, texts, dates, times, truth values; None and NaN are NULL.

    Parameters
    ----------
    table : sqlalchemy Table
        Says the types.
    arrays : mapping of str to array, shape (n,)
        The columns; n is 1 at least.

    Raises
    ------
    ValueError
        For a text that PostgreSQL has no place for: one with a NUL character, or with half of a surrogate pair.
    """
    n = len(next(iter(arrays.values())))
    parts = [_SIGNATURE]
    for start in range(0, n, _ROWS):
        fields = [_field(table.c[name], values[start : start + _ROWS]) for name, values in arrays.items()]
        parts.append(_laid_out(fields))
    return b"".join([*parts, _TRAILER])


#: A field of some rows: the bytes of all values one after the other, and the length of each; -1 for NULL.
_Field = tuple[NDArray[np.uint8], NDArray[np.int64]]


def _field(column: sa.Column[Any], values: NDArray[Any]) -> _Field:
    null = is_null(values)
    code = fixed_format(column)
    if code is None and isinstance(column.type, sa.String | PathText):
        return _texts(column, values, null)
    if code is None:
        code, whole = _whole_numbers(column)
        values = np.array([0 if unknown else whole(value) for value, unknown in zip(values.tolist(), null, strict=True)], dtype=np.int64)
    numbers = np.where(null, 0, values).astype(code)[~null]
    return np.frombuffer(numbers.tobytes(), np.uint8), np.where(null, -1, numbers.dtype.itemsize)


def _whole_numbers(column: sa.Column[Any]) -> tuple[str, Callable[[Any], int]]:
    """How a date, a time or a truth value is a whole number: its format, and the number."""
    if isinstance(column.type, sa.DateTime):
        return ">i8", lambda value: (value - _EPOCH) // _MICROSECOND
    if isinstance(column.type, sa.Date):
        return ">i4", lambda value: (value - _EPOCH.date()).days
    if isinstance(column.type, sa.Boolean):
        return ">i1", int
    raise TypeError(f"{column}: no binary form of {column.type}")


def _texts(column: sa.Column[Any], values: NDArray[Any], null: NDArray[np.bool_]) -> _Field:
    given = values.tolist()
    # A band or a role stands in thousands of rows.
    known = {value: _encoded(column, value) for value in set(given)}
    encoded = [known[value] for value in given]
    if null.any():
        encoded = [b"" if unknown else data for data, unknown in zip(encoded, null.tolist(), strict=True)]
    joined = b"".join(encoded)
    lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
    return np.frombuffer(joined, np.uint8), np.where(null, -1, lengths)


def _encoded(column: sa.Column[Any], value: Any) -> bytes:
    """A text in UTF-8."""
    try:
        data = str(value).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{column}: {value!r} has half of a surrogate pair, which is no text") from error
    if b"\0" in data:
        raise ValueError(f"{column}: {value!r} has a NUL character, which PostgreSQL cannot keep")
    return data


def _laid_out(fields: list[_Field]) -> bytes:
    """Rows of fields."""
    n = len(fields[0][1])
    widths = [np.maximum(length, 0) for _, length in fields]
    ends = np.cumsum(2 + np.sum([4 + width for width in widths], axis=0))
    out = np.empty(int(ends[-1]), dtype=np.uint8)
    place = np.concatenate([[0], ends[:-1]])
    _put(out, place, np.full(n, len(fields), dtype=">i2"))
    place = place + 2
    for (data, length), width in zip(fields, widths, strict=True):
        _put(out, place, length.astype(">i4"))
        place = place + 4
        # Each byte of a value comes as far behind the value's place as it is behind the value's first byte.
        first = np.cumsum(width) - width
        out[np.repeat(place - first, width) + np.arange(len(data))] = data
        place = place + width
    return out.tobytes()


def _put(out: NDArray[np.uint8], place: NDArray[np.int64], numbers: NDArray[Any]) -> None:
    """Write numbers of one width, each at its place."""
    width = numbers.dtype.itemsize
    out[place[:, None] + np.arange(width)] = numbers.view(np.uint8).reshape(-1, width)
