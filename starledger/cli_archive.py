"""Commands about the archive itself: its schema, and where its raw files are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer

from db import schema
from db.engine import make_engine, parse_url, reachable
from db.errors import ConfigurationError
from db.tables import Exposure
from starledger.archive import default_url, open_archive
from starledger.options import ArchiveOption

__all__ = ["register"]

_db = typer.Typer(no_args_is_help=True, help="The archive's schema: upgrade it, say its revision, check it.")


@_db.command()
def upgrade(archive: ArchiveOption = None) -> None:
    """Bring the schema up to what this version needs.

    Example: starledger db upgrade --archive sqlite:///night.db
    """
    url = parse_url(archive or default_url())
    with reachable(url):
        engine = make_engine(url, writer=True)
        before = schema.current(engine)
        schema.upgrade(engine)
    typer.echo(f"{before or 'empty'} -> {schema.head()}")


@_db.command()
def current(archive: ArchiveOption = None) -> None:
    """Say the schema's revision, and the one this version needs.

    Example: starledger db current
    """
    url = parse_url(archive or default_url())
    with reachable(url):
        found = schema.current(make_engine(url))
    typer.echo(f"archive {found or 'empty'}, needed {schema.head()}")


@_db.command()
def check(archive: ArchiveOption = None) -> None:
    """Check that the tables are what this version expects.

    Example: starledger db check
    """
    opened = open_archive(archive)
    found = schema.differences(opened.engine)
    if found:
        raise ConfigurationError(
            f"{len(found)} differences between tables and models, first: {found[0]}",
            where=str(opened.engine.url),
            hint="was the schema changed by hand?",
            code="archive.schema",
        )
    typer.echo("the schema is as expected")


def relocate(
    old: Annotated[Path, typer.Argument(help="Folder the raw files were in.")],
    new: Annotated[Path, typer.Argument(help="Folder they are in now.")],
    archive: ArchiveOption = None,
) -> None:
    """Mend the paths of raw files that were moved.

    Example: starledger relocate /data/nights /archive/nights
    """
    opened = open_archive(archive, writer=True)
    before, after = str(old.expanduser().absolute()), str(new.expanduser().absolute())
    with opened.only_writer(), reachable(opened.engine.url), opened.engine.begin() as connection:
        rows = connection.execute(sa.select(Exposure.exposure_id, Exposure.path)).all()
        moved = [(row.exposure_id, after + row.path[len(before) :]) for row in rows if Path(row.path).is_relative_to(before)]
        if not moved:
            raise ConfigurationError("no raw file of the archive lies there", where=before, hint="check OLD", code="relocate.nothing")
        missing = [path for _, path in moved if not Path(path).is_file()]
        if missing:
            raise ConfigurationError(
                f"{len(missing)} of {len(moved)} files are not there",
                where=missing[0],
                hint="check NEW; nothing was changed",
                code="relocate.missing",
            )
        for exposure_id, path in moved:
            connection.execute(sa.update(Exposure).where(Exposure.exposure_id == exposure_id).values(path=path))
    typer.echo(f"{len(moved)} paths mended")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(_db, name="db")
    app.command()(relocate)
