"""Command ``header``: what the headers of raw files say, read as a reduction reads them, without an archive."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from db.errors import ConfigurationError, NothingToDo, StarledgerError

if TYPE_CHECKING:
    from reduction.headers.facts import Facts
    from reduction.headers.instrument import InstrumentDefinition

__all__ = ["register"]

#: Width of a table that no terminal limits.
_WIDE = 500
_J2000_JD = 2451544.5  # 2000-01-01T00:00
_Row = tuple[str, str, str, str]


def header(
    files: Annotated[list[Path] | None, typer.Argument(help="Raw files, or folders that hold them.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file with instruments and settings, as for a reduction.", show_default=False)
    ] = None,
    definitions: Annotated[bool, typer.Option("--definitions", help="List the instrument definitions and what they are told by.")] = False,
) -> None:
    """Say what the headers of raw files mean: definition, facts with their units and origin, doubts, and what is missing.

    Nothing is written, and no archive is needed.

    Example: starledger header night/light_001.fits --config roof.toml

    Example: starledger header --definitions
    """
    from reduction.headers.instrument import load_definitions

    known = load_definitions(config)
    # Whole lines for a pipe or a file, the terminal's own width for a person.
    console = Console(width=None if sys.stdout.isatty() else _WIDE, soft_wrap=not sys.stdout.isatty(), highlight=False)
    if definitions:
        console.print(_definition_table(known))
    elif not files:
        raise ConfigurationError("no file given", hint="name raw files or folders, or ask for --definitions", code="header.usage")
    found = _raw_files(files or [])
    if files and not found:
        raise NothingToDo(
            "no raw file", where=", ".join(map(str, files)), hint="TIFF and PNG files have to be named themselves", code="header.nothing"
        )
    failed = [path for path in found if not _print_file(console, path, known)]
    if failed:
        raise typer.Exit(1)


def _raw_files(paths: Sequence[Path]) -> list[Path]:
    """Files as given, and those that a reduction would find in the folders."""
    from reduction.files.fits import find_raw_files

    return [file for path in paths for file in (find_raw_files([path]) if path.is_dir() else [path])]


def _print_file(console: Console, path: Path, known: Sequence[InstrumentDefinition]) -> bool:
    """Print one file; False when it could not be read, or lacks what no frame can do without."""
    from reduction.files.convert import read_raw
    from reduction.headers.facts import facts
    from reduction.headers.instrument import identify_with_reason

    console.print(f"[bold]{escape(str(path))}[/bold]", soft_wrap=True)
    try:
        # The pixels say the step between values, which a gain may depend on.
        raw = read_raw(path)
        definition, reason = identify_with_reason(raw.header, known)
        console.print(escape(f"definition {definition.name}: {reason}"), soft_wrap=True)
        found = facts(raw.header, definition, raw.data.shape, path, quantum=raw.quantum, left_out=raw.left_out)
    except StarledgerError as error:
        typer.echo(f"starledger: {error}", err=True)
        return False
    console.print(_fact_table(found))
    for title, lines in (("note", found.notes), ("missing", found.missing)):
        for line in lines:
            console.print(escape(f"{title}: {line}"), soft_wrap=True)
    console.print()
    return True


def _table(*columns: str) -> Table:
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _definition_table(known: Sequence[InstrumentDefinition]) -> Table:
    table = _table("definition", "told by", "what it is for")
    for choice in known:
        told = " and ".join(f"{words.replace('|', ' or ')} = {' or '.join(patterns)}" for words, patterns in choice.match.items())
        table.add_row(escape(choice.name), escape(told or "used when no other fits"), escape(choice.description))
    return table


def _fact_table(found: Facts) -> Table:
    table = _table("fact", "value", "unit", "from")
    for row in _rows(found):
        table.add_row(*(escape(cell) for cell in row))
    return table


def _rows(found: Facts) -> Iterator[_Row]:
    """Every fact of a frame; `-` where nothing is known."""
    from reduction.headers.fact_list import FACTS

    yield ("instrument", found.instrument, "", "label of the definition")
    yield ("declared", found.declared or "-", "", found.sources.get("imagetyp", ""))
    yield ("start", _moment(found.start_jd1, found.start_jd2), "UTC", found.time_source)
    yield ("middle", _moment(found.mid_jd1, found.mid_jd2), "UTC", found.time_source)
    yield ("time_sigma", _text(found.time_sigma), "s", "")
    for name, kind in FACTS.items():
        if hasattr(found, name):
            yield (name, _text(getattr(found, name)), kind.unit, found.sources.get(name, ""))
    yield ("calibrated", " ".join(found.calibrated) or "-", "", "")
    yield ("blocked", _text(found.blocked), "", "")
    yield ("has_wcs", _text(found.has_wcs), "", "")


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, tuple):
        return " x ".join(map(str, value)) if len(value) == 2 else "x {} to {}, y {} to {}".format(*value)
    return str(value)


def _moment(jd1: float, jd2: float) -> str:
    """Calendar date to the millisecond."""
    moment = dt.datetime(2000, 1, 1) + dt.timedelta(days=(jd1 - _J2000_JD) + jd2)
    return moment.isoformat(sep=" ", timespec="milliseconds")


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(header)
