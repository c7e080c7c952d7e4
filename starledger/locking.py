"""The archive's one writer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from filelock import FileLock, Timeout
from sqlalchemy.engine import Engine

from db.engine import sqlite_path
from db.errors import ArchiveUnavailable

__all__ = ["only_writer"]

#: Key of PostgreSQL's advisory lock for the one writer.
_WRITER_LOCK = 7_204_190_511


@contextmanager
def only_writer(engine: Engine) -> Iterator[None]:
    """Be the one writer of the archive behind `engine`: by a lock file beside SQLite's, by an advisory lock of PostgreSQL.

    Raises
    ------
    ArchiveUnavailable
        When another program writes.
    """
    path = sqlite_path(engine.url)
    with _locked_file(path, _where(engine)) if path is not None else _locked_server(engine):
        yield


def _where(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=True)


def _busy(where: str) -> ArchiveUnavailable:
    return ArchiveUnavailable(
        "another starledger is writing to this archive", where=where, hint="wait until it has finished", code="archive.locked"
    )


@contextmanager
def _locked_file(path: Path, where: str) -> Iterator[None]:
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise _busy(where) from None
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


@contextmanager
def _locked_server(engine: Engine) -> Iterator[None]:
    with engine.connect() as connection:
        if not connection.execute(sa.select(sa.func.pg_try_advisory_lock(_WRITER_LOCK))).scalar():
            raise _busy(_where(engine))
        session = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
        connection.commit()  # the lock is the session's: it goes with the connection, not with a transaction

        def still_held(writing: sa.Connection) -> None:
            # An idle connection may be cut by whatever is between here and the server, and another writer may begin.
            if not writing.execute(_HELD, {"session": session}).scalar_one():
                raise ArchiveUnavailable(
                    "the connection that held the writer's lock was cut",
                    where=_where(engine),
                    hint="run again: what was not recorded yet is done then",
                    code="archive.lock",
                )

        sa.event.listen(engine, "commit", still_held)
        try:
            yield
        finally:
            sa.event.remove(engine, "commit", still_held)
            try:
                connection.execute(sa.select(sa.func.pg_advisory_unlock(_WRITER_LOCK)))
            except sa.exc.DBAPIError:  # the server is gone, and the lock with the session
                connection.invalidate()


_HELD = sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = :session")
