"""Writing tables for people and for programs: Rich tables, CSV and ECSV, to the terminal or a file."""

from __future__ import annotations

import datetime as dt
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from db.errors import ConfigurationError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CurveFormat", "TableFormat", "csv_text", "emit", "rich_table", "write_text"]

#: Decimals in tables for people; all others are printed with six significant digits.
_DECIMALS = {
    "bjd_tdb": 8, "jd_utc": 8, "jd_tdb": 8, "epoch": 6, "ra": 6, "dec": 6, "x": 2, "y": 2, "airmass": 4, "fwhm": 2, "background": 2,
    "separation": 2,
    "period": 7,
    "duration": 4,
}  # fmt: skip
#: Width of a table that no terminal limits.
_WIDE = 500


class TableFormat(StrEnum):
    """How rows are printed."""

    table = "table"
    csv = "csv"


class CurveFormat(StrEnum):
    """How light curves are printed."""

    table = "table"
    csv = "csv"
    ecsv = "ecsv"


def csv_text(frame: pd.DataFrame) -> str:
    """CSV with a header line; floats in full precision, NULL empty."""
    return str(frame.to_csv(index=False, lineterminator="\n"))


def rich_table(frame: pd.DataFrame, columns: Sequence[str] | None = None, title: str | None = None) -> Table:
    """A table for people: numbers to the right, `-` where nothing is known."""
    from pandas.api.types import is_numeric_dtype

    table = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    names = list(columns if columns is not None else frame.columns)
    cells = []
    for k, name in enumerate(names):
        values = frame[name] if columns is not None else frame.iloc[:, k]
        number = is_numeric_dtype(values)
        table.add_column(str(name), justify="right" if number else "left", no_wrap=bool(number))
        cells.append(["-" if null else _cell(str(name), value) for value, null in zip(values, values.isna(), strict=True)])
    for row in zip(*cells, strict=True):
        table.add_row(*row)
    return table


def _cell(name: str, value: Any) -> str:
    if isinstance(value, float):
        decimals = 6 if name.startswith("mag") else _DECIMALS.get(name)
        return f"{value:.{decimals}f}" if decimals is not None else f"{value:.6g}"
    if isinstance(value, dt.datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return escape(str(value))


def emit(table: Callable[[], Table], text: Mapping[str, Callable[[], str]], kind: str, output: Path | None) -> None:
    """Print rows as `kind`, or write them to `output`; `table` and `text` make what is asked for, when it is asked for."""
    if kind != "table":
        content = text[kind]()
        if output is None:
            sys.stdout.write(content)
        else:
            write_text(output, content)
    elif output is None:
        # Whole lines for a pipe or a file, the terminal's own width for a person.
        Console(width=None if sys.stdout.isatty() else _WIDE, soft_wrap=not sys.stdout.isatty()).print(table())
    else:
        stream = io.StringIO()
        Console(file=stream, width=_WIDE).print(table())
        write_text(output, stream.getvalue())


def write_text(path: Path, content: str) -> None:
    """Write a file.

    Raises
    ------
    ConfigurationError
        When it cannot be written.
    """
    try:
        path.write_text(content, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ConfigurationError(
            error.strerror or "cannot be written", where=str(path), hint="name another file", code="file.write"
        ) from error
