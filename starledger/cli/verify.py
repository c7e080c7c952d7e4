"""Commands that keep an archive whole: checking its files, copying its database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import starledger
from starledger.cli.options import ArchiveOption, FilesOption
from starledger.cli.output import say, screen

__all__ = ["register"]


def verify(
    full: Annotated[bool, typer.Option("--full", help="Hash every file, also what seems untouched.")] = False,
    archive: ArchiveOption = None,
    files: FilesOption = None,
) -> None:
    """Check that raw files and pixel products are what the archive says: there, of the same size, with the same SHA-256.

    What is damaged or gone is named, with what brings it back; products are made anew by the next reduction. The exit code is 1 then.
    The database itself is checked by 'starledger db check'.

    Example: starledger verify --full
    """
    console = screen(error=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("verify", total=None)
        verdict = starledger.open(archive, files=files).verify(
            full=full, progress=lambda done, of: bar.update(task, completed=done, total=of)
        )
    for one in (*verdict.served, *verdict.findings):
        say(f"{one.kind} {one.path}: {one.what}; {one.remedy}")
    counts = f"{verdict.n_raw} raw files and {verdict.n_product} products, {verdict.n_hashed} of them hashed"
    if not verdict.findings:
        served = f", but for {len(verdict.served)} of which copies serve" if verdict.served else ""
        say(f"{counts}: all are what they were{served}")
        return
    say(f"{counts}: {len(verdict.findings)} are damaged or gone")
    if not verdict.noted:
        say("the archive could not be told which products to make again: run this once more when it can be written to")
    raise typer.Exit(1)


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The copy.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Take the place of a file that is there.")] = False,
    archive: ArchiveOption = None,
    files: FilesOption = None,
) -> None:
    """Copy the database into a file, whole, also while a reduction runs; raw files and pixel products are not in it.

    Of SQLite the copy is an archive itself, checked once; of PostgreSQL it is what pg_dump makes, for pg_restore. Never copy the file of
    an archive that is open: what its log holds is not in it.

    Example: starledger backup night-copy.db --archive sqlite:///night.db
    """
    opened = starledger.open(archive, files=files)
    written = opened.backup(file, overwrite=overwrite)
    say(f"{written}: {written.stat().st_size / 1e6:.1f} MB; not in it: the raw files, and the pixel products in {opened.files}")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(verify)
    app.command()(backup)
