"""Commands about the archive itself: its schema, and where its raw files are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from db.errors import ConfigurationError
from starledger.cli.options import ArchiveOption

# The modules of the database come when a command runs.
if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from starledger.archive import Archive

__all__ = ["register"]

_db = typer.Typer(no_args_is_help=True, help="The archive's schema: upgrade it, say its revision, check it.")


@_db.command()
def upgrade(archive: ArchiveOption = None) -> None:
    """Bring the schema up to what this version needs.

    Example: starledger db upgrade --archive sqlite:///night.db
    """
    from db import schema
    from db.engine import make_engine, parse_url, reachable
    from starledger.archive import Archive, default_url

    url = parse_url(archive or default_url())
    _require_file(url)
    with reachable(url):
        opened = Archive(make_engine(url, writer=True), Path())
        before = schema.current(opened.engine)
        with opened.only_writer():
            schema.upgrade(opened.engine)
    typer.echo(f"{before or 'empty'} -> {schema.head()}")


@_db.command()
def current(archive: ArchiveOption = None) -> None:
    """Say the schema's revision, and the one this version needs.

    Example: starledger db current
    """
    from db import schema
    from db.engine import make_engine, parse_url, reachable
    from starledger.archive import default_url

    url = parse_url(archive or default_url())
    _require_file(url)
    with reachable(url):
        found = schema.current(make_engine(url))
    typer.echo(f"archive {found or 'empty'}, needed {schema.head()}")


@_db.command()
def check(archive: ArchiveOption = None) -> None:
    """Check that tables and views are what this version expects.

    Example: starledger db check
    """
    from db import schema
    from db.engine import reachable
    from starledger.archive import open_archive

    opened = open_archive(archive)
    with reachable(opened.engine.url):
        found = schema.differences(opened.engine)
        views = schema.other_views(opened.engine)
    if views:
        raise ConfigurationError(
            f"views of another version: {', '.join(views)}",
            where=opened.engine.url.render_as_string(hide_password=True),
            hint="run 'starledger db upgrade'",
            code="archive.views",
        )
    if found:
        raise ConfigurationError(
            f"{len(found)} differences between tables and models, first: {found[0]}",
            where=opened.engine.url.render_as_string(hide_password=True),
            hint="was the schema changed by hand?",
            code="archive.schema",
        )
    typer.echo("the schema is as expected")


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
    from starledger.archive import open_archive, relocate_files

    if (old is None) != (new is None) or (old is None and files is None):
        raise ConfigurationError("nothing to mend", hint="give OLD and NEW, or --files DIR", code="relocate.usage")
    opened = open_archive(archive, files, writer=True)
    if old is not None and new is not None:
        typer.echo(f"{_relocate_raw(opened, old, new)} paths mended")
    if files is not None:
        relocate_files(opened, files)
        typer.echo(f"pixel products in {opened.files}")


def _relocate_raw(opened: Archive, old: Path, new: Path) -> int:
    import sqlalchemy as sa

    from db.engine import reachable
    from db.tables import Exposure

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
    return len(moved)


def _require_file(url: URL) -> None:
    """Refuse a SQLite file that is not there: opening it would make it."""
    from db.engine import sqlite_path
    from starledger.archive import no_archive

    path = sqlite_path(url)
    if path is not None and not path.is_file():
        raise no_archive(path)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(_db, name="db")
    app.command()(relocate)
