"""An archive: where its rows and its files are, and what can be asked of it from Python."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Engine

from db import schema
from db.engine import make_engine, parse_url, reachable, sqlite_path
from db.errors import ArchiveUnavailable, ConfigurationError
from db.keys import next_id

if TYPE_CHECKING:
    import pandas as pd
    from astropy.coordinates import SkyCoord
    from astropy.table import QTable
    from astropy.timeseries import TimeSeries
    from astropy.units import Quantity

    from starledger.adding import Added, Known

__all__ = ["Archive", "create_archive", "default_url", "no_archive", "open", "open_archive", "relocate_files"]

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
        from starledger.face import light_curve  # astropy and pandas take a second to import

        return light_curve(self.engine, what, slot=slot, radius=radius)

    def cone(self, coord: SkyCoord | str, radius: Quantity | float) -> QTable:
        """Sources within `radius` (a Quantity, or degrees) of a position, nearest first."""
        from starledger.face import cone

        return cone(self.engine, coord, radius)

    def sql(self, text: str, **parameters: Any) -> pd.DataFrame:
        """Rows of a SELECT statement; `:name` in the text takes its value from the keywords. Nothing can be written."""
        from queries.sql import sql_frame

        return sql_frame(self.engine, text, parameters)

    def add_target(self, name: str, known: Known | None = None, *, resolve: bool = False, timeout: float = 30.0) -> Added:
        """Add a star to follow; with `resolve`, from what is known of its name: see `starledger.adding.add_target`."""
        from starledger.adding import add_target

        return add_target(self, name, known, resolve=resolve, timeout=timeout)

    @contextmanager
    def only_writer(self) -> Iterator[None]:
        """Be the archive's one writer.

        Raises
        ------
        ArchiveUnavailable
            When another program writes.
        """
        from filelock import FileLock, Timeout

        where = self.engine.url.render_as_string(hide_password=True)
        busy = ArchiveUnavailable(
            "another starledger is writing to this archive", where=where, hint="wait until it has finished", code="archive.locked"
        )
        path = sqlite_path(self.engine.url)
        if path is not None:
            lock = FileLock(f"{path}.lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise busy from None
            except OSError as error:
                raise ArchiveUnavailable(
                    f"its lock cannot be taken ({error.strerror})",
                    where=where,
                    hint="a writer needs a folder it may write to",
                    code="archive.lock",
                ) from error
            try:
                yield
            finally:
                lock.release()
            return
        with self.engine.connect() as connection:
            if not connection.execute(sa.select(sa.func.pg_try_advisory_lock(_WRITER_LOCK))).scalar():
                raise busy
            connection.commit()  # the lock is the session's: it goes with the connection, not with a transaction
            try:
                yield
            finally:
                connection.execute(sa.select(sa.func.pg_advisory_unlock(_WRITER_LOCK)))


def create_archive(url: str | None = None, files: Path | None = None, *, check: Callable[[Archive], None] | None = None) -> Archive:
    """Make an archive where there is none, and open it; one that exists is opened, with this version's views.

    Parameters
    ----------
    url : str, optional
        See `default_url`.
    files : Path, optional
        Root of the pixel products; needed for PostgreSQL, else `<archive name>-files` beside the SQLite file.
    check : callable, optional
        Called with the archive before it is made where there is none: what it raises keeps it from being made.

    Raises
    ------
    ConfigurationError
        When there is no root, or the archive has its products in another one.
    """
    parsed = parse_url(url or default_url())
    path = sqlite_path(parsed)
    if path is not None and not path.parent.is_dir():
        raise ConfigurationError("no such folder", where=str(path.parent), hint="make it, or name another archive", code="archive.folder")
    with reachable(parsed):
        new = path is not None and not path.is_file()
        engine = make_engine(parsed, writer=True)
        new = new or schema.current(engine) is None
        root = _root(parsed, files, None if new else engine)
        archive = Archive(engine, root)
        if new:
            if check is not None:
                check(archive)
            with archive.only_writer():
                schema.upgrade(engine)
        schema.require_current(engine)
        if schema.other_views(engine):
            with archive.only_writer():
                schema.upgrade(engine)
        if root != (_stored_files(engine) or _beside(parsed)):
            with archive.only_writer():
                _move_root(archive, root)
    return archive


def relocate_files(archive: Archive, files: Path) -> None:
    """Remember that the folder of the pixel products was moved.

    Raises
    ------
    ConfigurationError
        When no product that the archive knows is there.
    """
    root = files.expanduser().absolute()
    with archive.only_writer(), reachable(archive.engine.url):
        paths = _products(archive.engine)
        if paths and not any((root / path).is_file() for path in paths):
            raise ConfigurationError(
                f"none of the archive's {len(paths)} products is there",
                where=str(root),
                hint="move the folder first",
                code="relocate.missing",
            )
        _remember_root(archive.engine, root)
    archive.files = root


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
        raise no_archive(path)
    engine = make_engine(parsed, writer=writer)
    with reachable(parsed):
        schema.require_current(engine)
        return Archive(engine, _root(parsed, files, engine))


def no_archive(path: Path) -> ArchiveUnavailable:
    """The error for a SQLite archive that is not there."""
    return ArchiveUnavailable("no such archive", where=str(path), hint="run 'starledger init' or give --archive", code="archive.missing")


def _root(url: URL, files: Path | None, engine: Engine | None) -> Path:
    """Root of the pixel products: that asked for, else that which the archive (when there is one) remembers, else beside SQLite's file."""
    given = files or (Path(os.environ["STARLEDGER_FILES"]) if os.environ.get("STARLEDGER_FILES") else None)
    root = given.expanduser().absolute() if given is not None else (_stored_files(engine) if engine is not None else None) or _beside(url)
    if root is None:
        where = url.render_as_string(hide_password=True)
        raise ConfigurationError("no folder for the pixel products", where=where, hint="give --files DIR", code="archive.files")
    return root


def _beside(url: URL) -> Path | None:
    path = sqlite_path(url)
    return path.with_name(f"{path.stem}-files") if path is not None else None


def _stored_files(engine: Engine) -> Path | None:
    from db.tables import Config

    query = sa.select(Config.content).where(Config.kind == "archive").order_by(Config.config_id.desc()).limit(1)
    with engine.connect() as connection:
        content = connection.execute(query).scalar()
    return Path(json.loads(content)["files"]) if content else None


def _products(engine: Engine) -> list[str]:
    from db.tables import Product

    with engine.connect() as connection:
        return [str(path) for path in connection.execute(sa.select(Product.path).where(Product.path.is_not(None))).scalars()]


def _move_root(archive: Archive, root: Path) -> None:
    """Remember another root, unless the archive has products elsewhere."""
    before = _stored_files(archive.engine) or _beside(archive.engine.url)
    if before is not None and before.resolve() != root.resolve() and _products(archive.engine):
        raise ConfigurationError(
            f"this archive has its pixel products in {before}",
            where=str(root),
            hint="to have them here, move the folder and run 'starledger relocate --files NEW'",
            code="archive.files",
        )
    _remember_root(archive.engine, root)


def _remember_root(engine: Engine, root: Path) -> None:
    from db.tables import Config

    content = json.dumps({"files": str(root)})
    with engine.begin() as connection:
        # One row: an archive may come back to a folder it was in before.
        connection.execute(sa.delete(Config).where(Config.kind == "archive"))
        sha256 = hashlib.sha256(f"archive\n{content}".encode()).hexdigest()
        values = {"config_id": next_id(connection, Config.config_id), "kind": "archive", "sha256": sha256, "content": content}
        connection.execute(sa.insert(Config).values(values))


def open(url: str | None = None, *, files: Path | None = None) -> Archive:
    """Open an archive for reading: ``archive = starledger.open("sqlite:///night.db")``."""
    return open_archive(url, files)
