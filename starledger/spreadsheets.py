"""Values that are separated by commas or spaces, which a program reads back as they were and a spreadsheet opens without running them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Protocol

__all__ = ["Stream", "csv_cell", "row_writer", "write_csv"]


class Stream(Protocol):
    """What text can be written to."""

    def write(self, text: str, /) -> Any:
        """Take `text`."""


#: What a spreadsheet takes for a formula when a cell begins with it, in its full width too; and what it passes over before one.
_RUNS = re.compile("[=+\\-@\t\r\n\uff0b\uff0d\uff1d\uff20]")
_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|inf)")


def csv_cell(value: Any) -> Any:
    """A value as a cell of CSV: NULL and NaN are empty, and a text that a spreadsheet would run has an apostrophe before it.

    A text that is a number stays one, as do numbers.

    Examples
    --------
    >>> [csv_cell(value) for value in ("=1+1", "-0.5", -0.5, None, "a=b")]
    ["'=1+1", '-0.5', -0.5, '', 'a=b']
    """
    if isinstance(value, str):
        return f"'{value}" if _RUNS.match(value) and not _NUMBER.fullmatch(value) else value
    if isinstance(value, Decimal):  # an average of PostgreSQL's
        value = float(value)
    return "" if value is None or value != value else value  # NaN alone is not itself


def write_csv(stream: Stream, names: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a header line, and each row as it comes."""
    writer = row_writer(stream)
    writer.writerow([csv_cell(name) for name in names])
    writer.writerows([csv_cell(value) for value in row] for row in rows)


def row_writer(stream: Stream, delimiter: str = ",") -> Any:
    """A `csv.writer` of lines that end with a line feed, and which quotes a cell with a carriage return as well."""
    return csv.writer(_Lines(stream), delimiter=delimiter, lineterminator="\r\n")


class _Lines:
    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def write(self, line: str) -> None:
        self.stream.write(line.removesuffix("\r\n") + "\n")
