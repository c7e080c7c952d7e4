"""All that is printed or written for people and for programs: lines, Rich tables, CSV and ECSV, to the terminal or a file.

Names of files, and whatever else came from outside, may hold what moves a terminal's cursor, paints, or turns the order of letters
about. Nothing of that reaches a terminal from here: a new command cannot print but by this module, which a test looks after.
"""

from __future__ import annotations

import datetime as dt
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from db.errors import ConfigurationError, printable
from starledger.spreadsheets import Stream, write_csv

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

__all__ = [
    "CurveFormat",
    "Screen",
    "TableFormat",
    "cell",
    "csv_text",
    "emit",
    "emit_rows",
    "rich_table",
    "say",
    "screen",
    "show",
    "style_of",
    "write_out",
    "write_text",
]

#: Decimals in tables for people; all others are printed with six significant digits.
_DECIMALS = {
    "bjd_tdb": 8, "jd_utc": 8, "jd_tdb": 8, "epoch": 6, "ra": 6, "dec": 6, "x": 2, "y": 2, "airmass": 4, "fwhm": 2, "background": 2,
    "separation": 2,
    "period": 7,
    "duration": 4,
}  # fmt: skip
#: Width of a table that no terminal limits.
_WIDE = 500
#: Rows of a question in SQL that a table for people has: on a terminal, and elsewhere. All of them are kept until it is drawn.
_MOST_SHOWN, _MOST = 1000, 100_000


class TableFormat(StrEnum):
    """How rows are printed."""

    table = "table"
    csv = "csv"


class CurveFormat(StrEnum):
    """How light curves are printed."""

    table = "table"
    csv = "csv"
    ecsv = "ecsv"


class Screen(Console):
    """A console for text from anywhere: controls are shown as Python writes them, and nothing in it is a style or an emoji."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Pieces of what is shown, of which Rich's own controls stay as they are."""
        for segment in super().render(renderable, options):
            text = _printable_lines(segment.text)
            yield segment if segment.control or text == segment.text else Segment(text, segment.style)

    def say(self, text: str, *, label: str = "", style: str = "") -> None:
        """One line, as it stands; what it is about in red before it."""
        parts = [(f"{printable(label)} ", "red")] if label else []
        self.print(Text.assemble(*parts, (printable(text), style)), soft_wrap=True, highlight=False)


def screen(*, error: bool = False) -> Screen:
    """The terminal of the output or the error stream; whole lines for a pipe or a file."""
    stream = sys.stderr if error else sys.stdout
    return Screen(stderr=error, width=None if stream.isatty() else _WIDE, emoji=False, highlight=False)


def say(text: str, *, label: str = "", style: str = "", error: bool = False) -> None:
    """One line of an answer, as it stands; of what is said beside it, on the error stream."""
    screen(error=error).say(text, label=label, style=style)


def cell(value: object) -> Text:
    """A cell of a table."""
    return Text(printable(str(value)))


def _printable_lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def csv_text(rows: pd.DataFrame | Mapping[str, NDArray[Any]]) -> str:
    """CSV of a data frame or of columns, with a header line; floats in full precision, NULL empty."""
    stream = io.StringIO()
    if isinstance(rows, Mapping):
        import numpy as np

        # A float as NumPy writes one of its own width.
        columns = [np.where(_unknown(values), "", values if values.dtype.kind == "O" else values.astype(str)) for values in rows.values()]
        write_csv(stream, rows, zip(*(column.tolist() for column in columns), strict=True))
    else:
        known = rows.astype(object).where(rows.notna(), None)
        write_csv(stream, map(str, rows.columns), known.itertuples(index=False, name=None))
    return stream.getvalue()


def rich_table(rows: pd.DataFrame | Mapping[str, NDArray[Any]], columns: Sequence[str] | None = None, title: str | None = None) -> Table:
    """A table for people, of a data frame or of columns: numbers to the right, `-` where nothing is known."""
    table = Table(
        title=None if title is None else cell(title), title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    cells = []
    for name, number, values, unknown in _columns(rows, columns):
        table.add_column(cell(name), justify="right" if number else "left", no_wrap=number)
        cells.append([cell("-" if null else _shown(name, value)) for value, null in zip(values, unknown, strict=True)])
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


def _shown(name: str, value: Any) -> str:
    if isinstance(value, float):
        decimals = 6 if name.startswith("mag") else _DECIMALS.get(name)
        return f"{value:.{decimals}f}" if decimals is not None else f"{value:.6g}"
    if isinstance(value, dt.datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return str(value)


def emit(table: Callable[[], Table], text: Mapping[str, Callable[[], str]], kind: str, output: Path | None) -> None:
    """Print rows as `kind`, or write them to `output`; `table` and `text` make what is asked for, when it is asked for."""
    if kind != "table":
        content = text[kind]()
        if output is None:
            write_out(content)
        else:
            write_text(output, content)
    elif output is None:
        show(table())
    else:
        stream = io.StringIO()
        Screen(file=stream, width=_WIDE, emoji=False).print(table())
        write_text(output, stream.getvalue())


def show(table: Table) -> None:
    """Print a table: whole lines for a pipe or a file, the terminal's own width for a person."""
    screen().print(table, soft_wrap=not sys.stdout.isatty())


def emit_rows(names: Sequence[str], rows: Iterator[tuple[Any, ...]], kind: str, output: Path | None) -> None:
    """Print or write rows as they come: CSV of any number of them, a table of the first ones, which is said then."""
    if kind == "csv":
        if output is None:
            write_csv(_out(), names, rows)
        else:
            _write(output, lambda stream: write_csv(stream, names, rows))
        return
    from queries.dataframe import data_frame  # a quarter of a second: only where a table is drawn

    most = _MOST_SHOWN if output is None and sys.stdout.isatty() else _MOST
    frame = data_frame(islice(rows, most), names)
    emit(lambda: rich_table(frame), {}, kind, output)
    if next(rows, None) is not None:
        say(f"the first {most} rows; --format csv or -o FILE.csv has all of them", error=True)


def _out() -> Stream:
    return _Shown() if sys.stdout.isatty() else sys.stdout


class _Shown:
    """Standard output where a person looks at it."""

    def write(self, text: str) -> None:
        sys.stdout.write(_printable_lines(text))


def write_out(content: str) -> None:
    """Print a text of several lines for a program; a terminal gets it without controls."""
    _out().write(content)


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
    _write(path, lambda stream: stream.write(content))


def _write(path: Path, fill: Callable[[Stream], Any]) -> None:
    try:
        with path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as stream:
            fill(stream)
    except OSError as error:
        raise ConfigurationError(
            error.strerror or "cannot be written", where=str(path), hint="name another file", code="file.write"
        ) from error
