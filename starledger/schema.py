"""The schema of an archive: which revision it has, and bringing it to the one that this version needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.engine import URL

from db import schema
from db.engine import make_engine, parse_url, reachable, sqlite_path
from db.errors import ConfigurationError
from starledger.locking import only_writer
from starledger.patience import patience

if TYPE_CHECKING:
    from starledger.archive import Archive

__all__ = ["Revision", "Upgrade", "check_schema", "renew_views", "revision", "upgrade"]


@dataclass(frozen=True)
class Revision:
    """The archive's revision (None: an empty database), and the one this version needs."""

    found: str | None
    needed: str


@dataclass(frozen=True)
class Upgrade:
    """The archive's revision before (None: an empty database) and after."""

    before: str | None
    after: str


def revision(url: str | None = None) -> Revision:
    """The revision of an archive's schema, which may be one that cannot be opened.

    Parameters
    ----------
    url : str, optional
        As for `starledger.open`.

    Raises
    ------
    ArchiveUnavailable
        It is not there or cannot be reached.

    Examples
    --------
    >>> found = starledger.revision("sqlite:///starledger.db")
    >>> found.found == found.needed
    """
    parsed = _existing(url)
    engine = make_engine(parsed)
    try:
        with reachable(parsed):
            return Revision(schema.current(engine), schema.head())
    finally:
        engine.dispose()


def upgrade(url: str | None = None) -> Upgrade:
    """Bring an archive's schema up to what this version needs; all of it or nothing.

    Parameters
    ----------
    url : str, optional
        As for `starledger.open`.

    Raises
    ------
    ArchiveUnavailable
        It is not there, cannot be reached, or another program writes.

    Examples
    --------
    >>> starledger.upgrade("sqlite:///starledger.db")
    """
    parsed = _existing(url)
    engine = make_engine(parsed, writer=True)
    try:
        with reachable(parsed):
            before = schema.current(engine)
            with only_writer(engine, wait=patience()):
                schema.upgrade(engine)
            return Upgrade(before, schema.head())
    finally:
        engine.dispose()


def check_schema(archive: Archive) -> None:
    """Check that tables and views are what this version expects.

    Raises
    ------
    ConfigurationError
        They are not.
    """
    where = archive.engine.url.render_as_string(hide_password=True)
    with reachable(archive.engine.url):
        found, views = schema.differences(archive.engine), schema.other_views(archive.engine)
    if views:
        raise ConfigurationError(
            f"views of another version: {', '.join(views)}", where=where, hint="run 'starledger db upgrade'", code="archive.views"
        )
    if found:
        raise ConfigurationError(
            f"{len(found)} differences between tables and models, first: {found[0]}",
            where=where,
            hint="was the schema changed by hand?",
            code="archive.schema",
        )


def renew_views(archive: Archive) -> None:
    """Bring the views to those of this version, where they are not."""
    if schema.other_views(archive.engine):
        with archive.only_writer():
            schema.upgrade(archive.writer)


def _existing(url: str | None) -> URL:
    """The URL, of an archive that exists: opening a SQLite file that is not there would make it."""
    from starledger.archive import default_url, no_archive

    parsed = parse_url(url or default_url())
    path = sqlite_path(parsed)
    if path is not None and not path.is_file():
        raise no_archive(path)
    return parsed
