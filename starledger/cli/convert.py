"""The command that writes the raw files of cameras as FITS: convert."""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from db.errors import ConfigurationError, NothingToDo, StarledgerError

__all__ = ["register"]

_OFFSET = re.compile(r"^\s*(?:UTC)?\s*([+-]?)(\d{1,2})(?::?(\d{2}))?\s*$", re.IGNORECASE)
_MAX_OFFSET = timedelta(hours=14)


def convert(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Raw files of cameras, TIFF, PNG, or folders that hold them.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the FITS files.")] = Path("fits"),
    utc_offset: Annotated[
        str | None,
        typer.Option(metavar="+HH:MM", help="The camera's clock minus UTC, where its files do not say it.", show_default=False),
    ] = None,
    compress: Annotated[bool, typer.Option("--compress", help="Write tile-compressed .fits.fz files, without loss.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write anew what is there already.")] = False,
) -> None:
    """Write the raw files of photographic cameras, TIFF and PNG as FITS: the mosaic as the sensor gave it, and all that is known of it.

    Folders below a given folder are kept. 'starledger reduce' reads all of these formats itself: convert is for other programs.

    Example: starledger convert IMG_0001.CR2 IMG_0002.CR2 -o fits --utc-offset +02:00
    """
    offset = None if utc_offset is None else parse_offset(utc_offset)
    jobs, passed = _jobs(files, output, ".fits.fz" if compress else ".fits")
    if not jobs:
        also = f"; {passed} other files were passed over" if passed else ""
        raise NothingToDo(
            f"no raw file of a camera, TIFF or PNG{also}",
            where=", ".join(str(path) for path in files),
            hint="FITS files need no conversion",
            code="convert.nothing",
        )
    tally = _convert_all(jobs, offset, compress, overwrite)
    before = f", {tally['before']} there already" if tally["before"] else ""
    failed = f", {tally['failed']} failed" if tally["failed"] else ""
    typer.echo(f"{tally['written']} written to {output}{before}{failed}")
    if tally["local"]:
        typer.echo(f"without UTC: {tally['local']}; say the offset of the camera's clock with --utc-offset", err=True)
    if tally["none"]:
        typer.echo(f"without any date: {tally['none']}", err=True)
    if tally["failed"]:
        raise typer.Exit(2 if tally["failed"] == len(jobs) else 1)


def parse_offset(text: str) -> timedelta:
    """Offset from UTC, such as +02:00, -0330, 9 or Z.

    Raises
    ------
    ConfigurationError
        It is none (``convert.offset``), or beyond 14 hours.
    """
    found = _OFFSET.match(text)
    if text.strip().upper() in ("Z", "UTC"):
        return timedelta()
    if found is not None:
        sign, hours, minutes = found.groups()
        size = timedelta(hours=int(hours), minutes=int(minutes or 0))
        if size <= _MAX_OFFSET and int(minutes or 0) < 60:
            return -size if sign == "-" else size
    raise ConfigurationError(
        f"{text!r} is no offset from UTC", where="--utc-offset", hint="give hours and minutes from -14:00 to +14:00", code="convert.offset"
    )


def _jobs(files: list[Path], output: Path, suffix: str) -> tuple[dict[Path, Path], int]:
    """Target of each file, and the number of files passed over."""
    from reduction.files.raw_files import find_raw_files, is_fits_name

    jobs: dict[Path, Path] = {}
    passed = 0
    for entry in files:
        found = find_raw_files([entry], exclude=[output])
        root = entry.absolute() if entry.is_dir() else entry.absolute().parent
        wanted = [path for path in found if not is_fits_name(path.name)]
        passed += found.ignored + len(found) - len(wanted)
        jobs |= {path: output / path.relative_to(root).with_suffix(suffix) for path in wanted if path not in jobs}
    return jobs, passed


def _convert_all(jobs: dict[Path, Path], offset: timedelta | None, compress: bool, overwrite: bool) -> Counter[str]:
    """Convert file by file; failures are printed as they come."""
    from reduction.files.convert import convert_file

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    tally: Counter[str] = Counter()
    made: dict[Path, Path] = {}
    # Drawn here and not by a thread: while a file is unpacked, the error stream is kept from the C library.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal, auto_refresh=False) as progress:
        task = progress.add_task("convert", total=len(jobs))
        for path, target in jobs.items():
            try:
                _require_unused(path, target, made)
                done = convert_file(path, target, utc_offset=offset, compressed=compress, overwrite=overwrite)
            except StarledgerError as error:
                tally["failed"] += 1
                console.print(f"[red]convert[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
            else:
                made[target] = path
                tally["written" if done.written else "before"] += 1
                tally[done.clock] += 1
            progress.advance(task)
            progress.refresh()
    return tally


def _require_unused(path: Path, target: Path, made: dict[Path, Path]) -> None:
    """Refuse a target that another file of this run has, which --overwrite would replace."""
    if target in made:
        raise ConfigurationError(
            f"{target} is made from {made[target].name} already", where=str(path), hint="convert it with another -o", code="convert.twice"
        )


def register(app: typer.Typer) -> None:
    """Add the command of this module to `app`."""
    app.command("convert")(convert)
