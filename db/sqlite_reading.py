"""Opening a SQLite archive to read it, whether or not anything may be written where it lies."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

__all__ = ["connect_reader", "reads_alone"]

#: What SQLite says where it wants to make a log or its index beside the database and may not.
_UNWRITABLE = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}


def connect_reader(path: Path, timeout: float, *, strict: bool = False) -> sqlite3.Connection:
    """A connection on which SQLite refuses every write, in a folder or of a file that may be read only, too.

    SQLite's log (WAL) has an index beside it that readers share with the writer. Where neither is there and none can be made, nobody
    writes: the file is read as one that does not change, or with its log and an index in memory, and nothing is made beside it.

    Parameters
    ----------
    path : Path
        The database, which exists.
    timeout : float
        How long to wait for a lock, in seconds.
    strict : bool
        Open it to read only also where it could be written. Else SQLite may put its log away when the last connection is closed, as
        after a writer that ended while others read.

    Raises
    ------
    sqlite3.Error
        It cannot be opened or read.
    """
    path = path.resolve()  # SQLite has the log beside the file that a link leads to
    if not strict and os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        return _open(path, "mode=rw", timeout, "PRAGMA query_only = ON")
    if reads_alone(path):
        return _alone(path, timeout)
    try:
        return _open(path, "mode=ro", timeout)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in _UNWRITABLE:
            raise
        return _alone(path, timeout)


def reads_alone(path: Path) -> bool:
    """Whether no writer can have opened the file that this process may not write: its log has no index.

    An index that such a reader made would have the file's mode and owner, and keep the writer out later.
    """
    return not os.access(path, os.W_OK) and not path.with_name(f"{path.name}-shm").exists()


def _alone(path: Path, timeout: float) -> sqlite3.Connection:
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size:
        # Without locks, and with the log's index in memory: https://www.sqlite.org/wal.html#noshm
        return _open(path, "mode=ro&vfs=unix-none", timeout, "PRAGMA locking_mode = EXCLUSIVE")
    return _open(path, "mode=ro&immutable=1", timeout)


def _open(path: Path, how: str, timeout: float, *first: str) -> sqlite3.Connection:
    # SQLAlchemy's pool hands a connection from thread to thread, to one at a time.
    connection = sqlite3.connect(f"{path.as_uri()}?{how}", uri=True, timeout=timeout, check_same_thread=False)
    try:
        for statement in (*first, "SELECT count(*) FROM sqlite_master"):
            connection.execute(statement).fetchall()
    except sqlite3.Error:
        connection.close()
        raise
    return connection
