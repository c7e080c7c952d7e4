"""Where an archive's files are: the root of its pixel products, and its raw files when they were moved."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine

from db.engine import reachable, sqlite_path
from db.errors import ConfigurationError
from db.keys import next_id
from db.tables import Config, Exposure, ExposureCopy, Product
from starledger.patience import patience

if TYPE_CHECKING:
    from starledger.archive import Archive

__all__ = ["beside", "move_root", "remember_root", "relocate_files", "relocate_raw_files", "root_of", "stored_root"]


def root_of(url: URL, files: Path | None, engine: Engine | None) -> Path:
    """Root of the pixel products: that asked for, else that which the archive (when there is one) remembers, else beside SQLite's file.

    Raises
    ------
    ConfigurationError
        None of these is there.
    """
    given = files or (Path(os.environ["STARLEDGER_FILES"]) if os.environ.get("STARLEDGER_FILES") else None)
    root = given.expanduser().absolute() if given is not None else (stored_root(engine) if engine is not None else None) or beside(url)
    if root is None:
        where = url.render_as_string(hide_password=True)
        raise ConfigurationError("no folder for the pixel products", where=where, hint="give --files DIR", code="archive.files")
    return root


def beside(url: URL) -> Path | None:
    """The root that a SQLite archive has when none is named."""
    path = sqlite_path(url)
    return path.with_name(f"{path.stem}-files") if path is not None else None


def stored_root(engine: Engine) -> Path | None:
    """The root that the archive remembers."""
    query = sa.select(Config.content).where(Config.kind == "archive").order_by(Config.config_id.desc()).limit(1)
    with engine.connect() as connection:
        content = connection.execute(query).scalar()
    return Path(json.loads(content)["files"]) if content else None


def move_root(archive: Archive, root: Path) -> None:
    """Remember another root. The caller is the writer.

    Raises
    ------
    ConfigurationError
        The archive has products elsewhere.
    """
    before = stored_root(archive.engine) or beside(archive.engine.url)
    if before is not None and before.resolve() != root.resolve() and _products(archive.engine):
        raise ConfigurationError(
            f"this archive has its pixel products in {before}",
            where=str(root),
            hint="to have them here, move the folder and run 'starledger relocate --files NEW'",
            code="archive.files",
        )
    with archive.writer.begin() as connection:
        remember_root(connection, root)


def relocate_files(archive: Archive, files: Path) -> None:
    """Remember that the folder of the pixel products was moved.

    Raises
    ------
    ConfigurationError
        When no product that the archive knows is there.
    """
    root = files.expanduser().absolute()
    with archive.only_writer(wait=patience()), reachable(archive.engine.url):
        paths = _products(archive.engine)
        if paths and not any((root / path).is_file() for path in paths):
            raise ConfigurationError(
                f"none of the archive's {len(paths)} products is there",
                where=str(root),
                hint="move the folder first",
                code="relocate.missing",
            )
        with archive.writer.begin() as connection:
            remember_root(connection, root)
    archive.files = root


def relocate_raw_files(archive: Archive, old: Path, new: Path) -> int:
    """Mend the paths of the raw files that were moved from one folder to another; how many they are.

    Raises
    ------
    ConfigurationError
        No raw file of the archive was in `old`, or one of them is not in `new`: nothing is changed then.
    """
    before, after = str(old.expanduser().absolute()), str(new.expanduser().absolute())
    with archive.only_writer(wait=patience()), reachable(archive.engine.url), archive.writer.begin() as connection:
        rows = [*_moved(connection, before, after, copies=False), *_moved(connection, before, after, copies=True)]
        if not rows:
            raise ConfigurationError("no raw file of the archive lies there", where=before, hint="check OLD", code="relocate.nothing")
        there = {one.picture for one in rows if Path(one.path).is_file()}
        missing = [one.path for one in rows if one.picture not in there]
        if missing:
            raise ConfigurationError(
                f"{len(missing)} of {len(rows)} files are not there",
                where=missing[0],
                hint="check NEW; nothing was changed",
                code="relocate.missing",
            )
        for one in rows:
            connection.execute(one.update.values(path=one.path))
    return len(rows)


@dataclass(frozen=True)
class _Moved:
    """A file that was in the old folder: which picture it holds, its path in the new one, and the row that is to say so."""

    picture: int
    path: str
    update: sa.Update


def _moved(connection: Connection, before: str, after: str, *, copies: bool) -> Iterator[_Moved]:
    picture = sa.func.coalesce(Exposure.duplicate_of, Exposure.exposure_id)
    query = sa.select(Exposure.exposure_id, picture, Exposure.path)
    if copies:
        query = sa.select(ExposureCopy.copy_id, picture, ExposureCopy.path)
        query = query.join(Exposure, Exposure.exposure_id == ExposureCopy.exposure_id)
    for key, first, path in connection.execute(query).all():
        if Path(path).is_relative_to(before):
            mine = ExposureCopy.copy_id == key if copies else Exposure.exposure_id == key
            yield _Moved(first, after + path[len(before) :], sa.update(ExposureCopy if copies else Exposure).where(mine))


def _products(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return [str(path) for path in connection.execute(sa.select(Product.path).where(Product.path.is_not(None))).scalars()]


def remember_root(connection: Connection, root: Path) -> None:
    """Write down the root of the pixel products."""
    content = json.dumps({"files": str(root)})
    # One row: an archive may come back to a folder it was in before.
    connection.execute(sa.delete(Config).where(Config.kind == "archive"))
    sha256 = hashlib.sha256(f"archive\n{content}".encode()).hexdigest()
    values = {"config_id": next_id(connection, Config.config_id), "kind": "archive", "sha256": sha256, "content": content}
    connection.execute(sa.insert(Config).values(values))
