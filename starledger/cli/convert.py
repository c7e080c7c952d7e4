"""The command that writes the raw files of cameras as FITS: convert."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import starledger
from starledger.cli.output import say, screen

if TYPE_CHECKING:
    from types import TracebackType

    from starledger.raw_files import ConvertedFile

__all__ = ["register"]


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
    with _Bar() as bar:
        done = starledger.convert(files, output, utc_offset=utc_offset, compress=compress, overwrite=overwrite, progress=bar.show)
    tally = Counter("failed" if one.converted is None else "written" if one.converted.written else "before" for one in done)
    clock = Counter(one.converted.clock for one in done if one.converted is not None)
    before = f", {tally['before']} there already" if tally["before"] else ""
    failed = f", {tally['failed']} failed" if tally["failed"] else ""
    say(f"{tally['written']} written to {output}{before}{failed}")
    if clock["local"]:
        say(f"without UTC: {clock['local']}; say the offset of the camera's clock with --utc-offset", error=True)
    if clock["none"]:
        say(f"without any date: {clock['none']}", error=True)
    if tally["failed"]:
        raise typer.Exit(2 if tally["failed"] == len(done) else 1)


class _Bar:
    """A progress bar on a terminal, and failures as they come."""

    def __init__(self) -> None:
        self.console = screen(error=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        # Drawn here and not by a thread: while a file is unpacked, the error stream is kept from the C library.
        self.progress = Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal, auto_refresh=False)
        self.task = self.progress.add_task("convert", total=None)

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()

    def show(self, one: ConvertedFile | None, total: int) -> None:
        """Take in how one file went; None before the first."""
        if one is not None and one.error is not None:
            self.console.say(str(one.error), label="convert")
        self.progress.update(self.task, total=total, advance=0 if one is None else 1)
        self.progress.refresh()


def register(app: typer.Typer) -> None:
    """Add the command of this module to `app`."""
    app.command("convert")(convert)
