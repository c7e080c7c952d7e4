"""Command ``header``: what the headers of raw files say, read as a reduction reads them, without an archive."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

import starledger
from db.errors import ConfigurationError
from starledger.cli.output import cell, say, show

if TYPE_CHECKING:
    from reduction.headers.facts import Facts
    from reduction.headers.instrument import InstrumentDefinition
    from starledger.raw_files import HeaderFacts

__all__ = ["register"]

_J2000_JD = 2451544.5  # 2000-01-01T00:00
_Row = tuple[str, str, str, str]


def header(
    files: Annotated[list[Path] | None, typer.Argument(help="Raw files, or folders that hold them.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file with instruments and settings, as for a reduction.", show_default=False)
    ] = None,
    definitions: Annotated[
        bool, typer.Option("--definitions", help="List the instrument definitions and what each is chosen for.")
    ] = False,
) -> None:
    """Say what the headers of raw files mean: definition, facts with their units and origin, doubts, and what is missing.

    Nothing is written, and no archive is needed.

    Example: starledger header night/light_001.fits --config roof.toml

    Example: starledger header --definitions
    """
    if definitions:
        show(_definition_table(starledger.definitions(config)))
    elif not files:
        raise ConfigurationError("no file given", hint="name raw files or folders, or ask for --definitions", code="header.usage")
    failed = [one for one in starledger.header(files, config=config) if not _print_file(one)] if files else []
    if failed:
        raise typer.Exit(1)


def _print_file(one: HeaderFacts) -> bool:
    """Print one file; False when it could not be read, or lacks what no frame can do without."""
    say(str(one.path), style="bold")
    if one.definition:
        say(f"definition {one.definition}: {one.reason}")
    if one.facts is None:
        say(str(one.error), label="starledger:", error=True)
        return False
    show(_fact_table(one.facts))
    for title, lines in (("note", one.facts.notes), ("missing", one.facts.missing)):
        for line in lines:
            say(f"{title}: {line}")
    say("")
    return True


def _table(*columns: str) -> Table:
    table = Table(header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _definition_table(known: Sequence[InstrumentDefinition]) -> Table:
    table = _table("definition", "chosen for", "what it is for")
    for choice in known:
        chosen_for = " and ".join(
            f"{keywords.replace('|', ' or ')} = {' or '.join(patterns)}" for keywords, patterns in choice.match.items()
        )
        table.add_row(*map(cell, (choice.name, chosen_for or "used when no other fits", choice.description)))
    return table


def _fact_table(found: Facts) -> Table:
    table = _table("fact", "value", "unit", "from")
    for row in _rows(found):
        table.add_row(*map(cell, row))
    return table


def _rows(found: Facts) -> Iterator[_Row]:
    """Every fact of a frame; `-` where nothing is known."""
    from reduction.headers.fact_list import FACTS

    yield ("instrument", found.instrument, "", "label of the definition")
    yield ("declared", found.declared or "-", "", found.sources.get("imagetyp", ""))
    yield ("start", _moment(found.start_jd1, found.start_jd2), "UTC", found.time_source)
    yield ("middle", _moment(found.mid_jd1, found.mid_jd2), "UTC", found.time_source)
    yield ("time_sigma", _text(found.time_sigma), "s", "")
    yield ("night_longitude", _text(found.night_longitude), "deg", found.sources.get("night_longitude", "the frames together"))
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
