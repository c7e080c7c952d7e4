"""Writing tables for people and for programs: Rich tables, CSV and ECSV, to the terminal or a file."""

from __future__ import annotations

import csv
import datetime as dt
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from db.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["CurveFormat", "TableFormat", "csv_text", "emit", "rich_table", "say", "style_of", "write_text"]

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


def csv_text(rows: pd.DataFrame | Mapping[str, NDArray[Any]]) -> str:
    """CSV of a data frame or of columns, with a header line; floats in full precision, NULL empty."""
    if not isinstance(rows, Mapping):
        return str(rows.to_csv(index=False, lineterminator="\n"))
    import numpy as np

    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(rows)
    cells = [np.where(_unknown(values), "", values.astype(str)).tolist() for values in rows.values()]
    writer.writerows(zip(*cells, strict=True))
    return stream.getvalue()


def rich_table(rows: pd.DataFrame | Mapping[str, NDArray[Any]], columns: Sequence[str] | None = None, title: str | None = None) -> Table:
    """A table for people, of a data frame or of columns: numbers to the right, `-` where nothing is known."""
    table = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    cells = []
    for name, number, values, unknown in _columns(rows, columns):
        table.add_column(name, justify="right" if number else "left", no_wrap=number)
        cells.append(["-" if null else _cell(name, value) for value, null in zip(values, unknown, strict=True)])
    for row in zip(*cells, strict=True):
        table.add_row(*row)
    return table


def _columns(
    rows: pd.DataFrame | Mapping[str, NDArray[Any]], names: Sequence[str] | None
) -> Iterator[tuple[str, bool, Iterable[Any], Iterable[bool]]]:
    """Each column's name, whether it holds numbers, its values, and which of them are unknown."""
    if isinstance(rows, Mapping):
        for name in rows if names is None else names:
            yield name, rows[name].dtype.kind in "iuf", rows[name].tolist(), _unknown(rows[name]).tolist()
        return
    from pandas.api.types import is_numeric_dtype

    for k, name in enumerate(rows.columns if names is None else names):
        values = rows.iloc[:, k] if names is None else rows[name]  # SQL may name two columns alike
        yield str(name), bool(is_numeric_dtype(values)), values, values.isna()


def _unknown(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where a column is NaN or None."""
    import numpy as np

    return np.isnan(values) if values.dtype.kind == "f" else np.array([value is None for value in values.tolist()], dtype=np.bool_)


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


def say(text: str) -> None:
    """One line of an answer, as it stands."""
    Console(soft_wrap=True, highlight=False, markup=False).print(text)


def style_of(output: Path | None, known: tuple[str, ...]) -> str:
    """How to write a file by its suffix: one of `known`, else a table for people.

    Raises
    ------
    ConfigurationError
        For another suffix.
    """
    suffix = output.suffix.lower().lstrip(".") if output is not None else ""
    if suffix in ("", "txt"):
        return "table"
    if suffix not in known:
        kinds = ", ".join(f".{one}" for one in (*known, "txt"))
        raise ConfigurationError(
            f"no format for .{suffix}", where=str(output), hint=f"name one of {kinds}, or give --format", code="file.format"
        )
    return suffix


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
