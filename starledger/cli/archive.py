"""Commands about the archive itself: its schema, and where its raw files are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import starledger
from starledger.cli.options import ArchiveOption, FilesOption, JobsOption
from starledger.cli.output import say

__all__ = ["register"]

_db = typer.Typer(no_args_is_help=True, help="The archive's database: its schema's revision, checks, what can be saved of it.")

_archive = typer.Typer(no_args_is_help=True, help="How the archive's measurements lie on the disk.")


@_archive.command("close")
def close_nights(
    nights: Annotated[list[str] | None, typer.Argument(metavar="NIGHT", help="Evenings, such as 2017-12-19.", show_default=False)] = None,
    archive: ArchiveOption = None,
    files: FilesOption = None,
    jobs: JobsOption = 0,
) -> None:
    """Close nights now: those named, else all that are over.

    What a night's frames have in common is made of all of them, frames that this changes are measured anew, magnitudes are fitted as a
    night's, and the measurements go into the order of the sources. A reduction does it by itself for each night that is over.
    On PostgreSQL, partitions of which all nights are closed are also frozen.

    Example: starledger archive close

    Example: starledger archive close 2017-12-19
    """
    closed = starledger.open(archive, files=files).nights.close(nights or [], jobs=jobs)
    for evening in closed:
        say(f"closed {evening}")
    if not closed:
        say("nothing to close")


@_db.command()
def upgrade(archive: ArchiveOption = None) -> None:
    """Bring the schema up to what this version needs.

    Example: starledger db upgrade --archive sqlite:///night.db
    """
    done = starledger.upgrade(archive)
    say(f"{done.before or 'empty'} -> {done.after}")


@_db.command()
def current(archive: ArchiveOption = None) -> None:
    """Say the schema's revision, and the one this version needs.

    Example: starledger db current
    """
    revision = starledger.revision(archive)
    say(f"archive {revision.found or 'empty'}, needed {revision.needed}")


@_db.command()
def check(archive: ArchiveOption = None) -> None:
    """Check that tables and views are what this version expects, and that the database is whole.

    SQLite and PostgreSQL look through their own files, as far as they can, and rows must refer to rows that are there. All of the
    database is read. Raw files and pixel products are checked by 'starledger verify'.

    Example: starledger db check
    """
    found = starledger.open(archive).check()
    for problem in found:
        say(problem)
    if found:
        say(f"{len(found)} problems: restore a copy, or save what can be read with 'starledger db recover'", error=True)
        raise typer.Exit(3)
    say("the schema is as expected, and the database is whole")


@_db.command()
def recover(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The new archive.")],
    archive: ArchiveOption = None,
) -> None:
    """Save what can be read of a damaged SQLite archive into a new one; the old one is only read.

    Rows that cannot be read are lost, with those that refer to them. What a reduction had made of them is made anew by the next one on
    the new archive; what people had written there (maskings, targets, choices) is not, and the tables are named.

    Example: starledger db recover saved.db --archive sqlite:///night.db
    """
    found = starledger.recover(archive, file)
    say(f"{sum(found.rows.values())} rows saved in {file}; {found.dropped} left out that referred to rows that are lost")
    if found.damaged:
        say(f"not read whole: {', '.join(found.damaged)}")
    say(f"'starledger reduce --archive {file}' makes anew what is missing; 'starledger verify' checks the files")


@_db.command()
def grant(
    role: Annotated[str, typer.Argument(help="Name of the role; it is made where there is none.")],
    revoke: Annotated[bool, typer.Option("--revoke", help="Take its rights in the archive from it instead.")] = False,
    archive: ArchiveOption = None,
) -> None:
    """Let a role of PostgreSQL read the archive and write nothing: what there is, and what upgrades and nights to come will bring.

    Who calls it owns the archive's tables, and to make the role needs CREATEROLE.

    Example: starledger db grant reader --archive postgresql://me@host/night

    Example: starledger db grant reader --revoke
    """
    for line in starledger.grant(archive, role, revoke=revoke):
        say(line)


def relocate(
    old: Annotated[Path | None, typer.Argument(help="Folder the raw files were in.")] = None,
    new: Annotated[Path | None, typer.Argument(help="Folder they are in now.")] = None,
    files: Annotated[Path | None, typer.Option("--files", help="Folder the pixel products are in now.")] = None,
    archive: ArchiveOption = None,
) -> None:
    """Mend the paths of raw files that were moved (OLD NEW), or of the folder of the pixel products (--files).

    Example: starledger relocate /data/nights /archive/nights

    Example: starledger relocate --files /archive/night-files
    """
    opened = starledger.open(archive, files=files)
    mended = opened.relocate(old, new, files=files)
    if old is not None:
        say(f"{mended} paths mended")
    if files is not None:
        say(f"pixel products in {opened.files}")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(_db, name="db")
    app.add_typer(_archive, name="archive")
    app.command()(relocate)
