"""Telling a damaged archive from whatever else may be wrong."""

from __future__ import annotations

import math
import sqlite3
import time
from pathlib import Path

import sqlalchemy as sa

from db.errors import ArchiveUnavailable

__all__ = ["damaged", "is_the_archives", "require_whole"]

#: Steps of SQLite's machine after which it looks at the clock.
_OFTEN = 10_000
#: SQLite archives of which this process has found nothing wrong.
_whole: set[Path] = set()


def is_the_archives(error: sa.exc.DBAPIError) -> bool:
    """Whether an error of the database is no statement's or row's own: it is lost, full, locked or damaged."""
    rows = (sa.exc.IntegrityError, sa.exc.DataError, sa.exc.ProgrammingError, sa.exc.NotSupportedError)
    return not isinstance(error, rows)


def damaged(reason: str, where: str) -> ArchiveUnavailable:
    """The error for an archive that is damaged."""
    return ArchiveUnavailable(
        f"the archive is damaged ({reason})",
        where=where,
        hint="restore a copy ('starledger backup' makes them), or save what can be read with 'starledger db recover'",
        code="archive.damaged",
    )


def require_whole(path: Path | None, where: str, *, seconds: float | None = None) -> None:
    """Refuse a SQLite archive that is damaged: asked in full once a process.

    Parameters
    ----------
    path : Path, optional
        Its file; None where there is none to look at.
    where : str
        How a message names it.
    seconds : float, optional
        Look at no more than can be read in this time, and whatever was found before.

    Raises
    ------
    ArchiveUnavailable
        It is damaged.
    """
    if path is None or (path in _whole and seconds is None) or not path.is_file():
        return
    until = math.inf if seconds is None else time.monotonic() + seconds
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        connection.set_progress_handler(lambda: time.monotonic() > until, _OFTEN)
        try:
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            connection.close()
    except sqlite3.OperationalError:
        return  # no more time, locked, or not to be opened: that says nothing
    except sqlite3.DatabaseError as error:
        answer = str(error)
    if answer != "ok":
        raise damaged(" ".join(str(answer).split()), where)
    _whole.add(path)
