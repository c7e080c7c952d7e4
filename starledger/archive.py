"""An archive: where its rows and its files are, and what can be asked of it from Python."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import sqlalchemy as sa
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from astropy.timeseries import TimeSeries
from astropy.units import Quantity
from filelock import FileLock, Timeout
from sqlalchemy.engine import Engine

from db import schema
from db.engine import make_engine, parse_url, reachable, sqlite_path
from db.errors import ArchiveUnavailable, ConfigurationError
from db.tables import Config
from reduction.ledger import Ledger
from starledger.face import cone, light_curve, sql

__all__ = ["Archive", "create_archive", "default_url", "open", "open_archive"]

#: Key of PostgreSQL's advisory lock for the one writer.
_WRITER_LOCK = 7_204_190_511


def default_url() -> str:
    """The archive used when none is named: $STARLEDGER_ARCHIVE, else sqlite:///starledger.db."""
    return os.environ.get("STARLEDGER_ARCHIVE") or "sqlite:///starledger.db"


class Archive:
    """An open archive.

    Attributes
    ----------
    engine : Engine
        Of the database.
    files : Path
        Root of the pixel products.
    """

    def __init__(self, engine: Engine, files: Path) -> None:
        self.engine = engine
        self.files = files

    def light_curve(self, what: str | int | SkyCoord, *, slot: int | None = None, radius: float = 10.0) -> TimeSeries:
        """Light curve of a source id, a target's or catalogue name, or a position (nearest within `radius` arcsec).

        Returns
        -------
        astropy.timeseries.TimeSeries
            Times are BJD_TDB; columns are those of the view `light_curve`, with
            units; `meta` says which source, slot and reference.
        """
        return light_curve(self.engine, what, slot=slot, radius=radius)

    def cone(self, coord: SkyCoord | str, radius: Quantity | float) -> QTable:
        """Sources within `radius` (a Quantity, or degrees) of a position, nearest first."""
        return cone(self.engine, coord, radius)

    def sql(self, text: str, **parameters: Any) -> pd.DataFrame:
        """Rows of a SELECT statement; `:name` in the text takes its value from the keywords. Nothing can be written."""
        return sql(self.engine, text, parameters)

    @contextmanager
    def only_writer(self) -> Iterator[None]:
        """Be the archive's one writer.

        Raises
        ------
        ArchiveUnavailable
            When another program writes.
        """
        where = self.engine.url.render_as_string(hide_password=True)
        busy = ArchiveUnavailable(
            "another starledger is writing to this archive", where=where, hint="wait until it has finished", code="archive.locked"
        )
        path = sqlite_path(self.engine.url)
        if path is not None:
            try:
                with FileLock(f"{path}.lock", timeout=0):
                    yield
            except Timeout:
                raise busy from None
            return
        with self.engine.connect() as connection:
            if not connection.execute(sa.select(sa.func.pg_try_advisory_lock(_WRITER_LOCK))).scalar():
                raise busy
            connection.commit()  # the lock is the session's: it goes with the connection, not with a transaction
            try:
                yield
            finally:
                connection.execute(sa.select(sa.func.pg_advisory_unlock(_WRITER_LOCK)))


def create_archive(url: str | None = None, files: Path | None = None) -> Archive:
    """Make an archive where there is none, and open it; one that exists is opened as it is.

    Parameters
    ----------
    url : str, optional
        See `default_url`.
    files : Path, optional
        Root of the pixel products; needed for PostgreSQL, else `<archive name>-files` beside the SQLite file.
    """
    parsed = parse_url(url or default_url())
    path = sqlite_path(parsed)
    files = _files_asked_for(files)
    if path is None and files is None:
        with reachable(parsed):
            engine = make_engine(parsed, writer=True)
            if schema.current(engine) is None:
                raise ConfigurationError(
                    "no folder for the pixel products", where=str(parsed), hint="give --files DIR", code="archive.files"
                )
    if path is not None and not path.parent.is_dir():
        raise ConfigurationError(
            "no such folder", where=str(path.parent), hint="make it, or name another archive", code="archive.folder"
        )
    with reachable(parsed):
        engine = make_engine(parsed, writer=True)
        if schema.current(engine) is None:
            schema.upgrade(engine)
        else:
            schema.require_current(engine)
        if files is not None:
            with engine.begin() as connection:
                Ledger(engine, files, 0).config(connection, "archive", {"files": str(files)})
    return open_archive(url, files, writer=True)


def open_archive(url: str | None = None, files: Path | None = None, *, writer: bool = False) -> Archive:
    """Open an archive that exists.

    Raises
    ------
    ArchiveUnavailable
        It cannot be reached, or its schema is not this version's.
    """
    parsed = parse_url(url or default_url())
    path = sqlite_path(parsed)
    if path is not None and not path.is_file():
        raise ArchiveUnavailable("no such archive", where=str(path), hint="run 'starledger init' or give --archive", code="archive.missing")
    engine = make_engine(parsed, writer=writer)
    with reachable(parsed):
        schema.require_current(engine)
        root = _files_asked_for(files) or _stored_files(engine)
    if root is None:
        if path is None:
            raise ConfigurationError("no folder for the pixel products", where=str(parsed), hint="give --files DIR", code="archive.files")
        root = path.with_name(f"{path.stem}-files")
    return Archive(engine, root)


def _files_asked_for(files: Path | None) -> Path | None:
    given = files or (Path(os.environ["STARLEDGER_FILES"]) if os.environ.get("STARLEDGER_FILES") else None)
    return given.expanduser().absolute() if given is not None else None


def _stored_files(engine: Engine) -> Path | None:
    query = sa.select(Config.content).where(Config.kind == "archive").order_by(Config.config_id.desc()).limit(1)
    with engine.connect() as connection:
        content = connection.execute(query).scalar()
    return Path(json.loads(content)["files"]) if content else None


def open(url: str | None = None, *, files: Path | None = None) -> Archive:
    """Open an archive for reading: ``archive = starledger.open("sqlite:///night.db")``."""
    return open_archive(url, files)
