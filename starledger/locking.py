"""The archive's one writer: who it is, and that no commit is anybody else's.

A lock keeps others out: of a file beside SQLite's, or of PostgreSQL's server. Locks of files do not hold on every network file system, and
PostgreSQL's goes with an idle connection, which anything between here and the server may cut. So the writer also says in the
archive who it is (table `writer`), and every transaction that it commits finds that row to be its own first, in that same transaction:
another that has taken over meanwhile has changed the row, and then nothing is committed
(`docs/decisions/0040-the-writer-stands-in-the-archive.md`).
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa
from filelock import FileLock, Timeout
from sqlalchemy.engine import Connection, Engine

from db.engine import is_sqlite, make_engine, reachable, sqlite_path
from db.errors import ArchiveUnavailable, printable
from db.keys import now
from db.tables import WriterMark

__all__ = ["STALE_AFTER", "only_writer"]

#: Key of PostgreSQL's advisory lock for the one writer.
_WRITER_LOCK = 7_204_190_511
#: How long after its last commit a writer on another host is taken for gone, where only its row keeps others out.
STALE_AFTER = dt.timedelta(hours=1)
#: How often one that waits looks, in seconds.
_LOOK = 0.25

_log = logging.getLogger("starledger")

#: Tokens of this process's own claims: a row with its number and another token was left by an earlier claim.
_held: set[str] = set()


class _Busy(Exception):
    """Another one writes; `who` says who, where that is known."""

    def __init__(self, who: str = "", hint: str = "") -> None:
        super().__init__(who)
        self.who = who
        self.hint = hint or "wait until it has finished"


@contextmanager
def only_writer(engine: Engine, *, wait: float = 0.0) -> Iterator[None]:
    """Be the one writer of the archive behind `engine`.

    Parameters
    ----------
    engine : Engine
        A writer's: what it commits from now on, it commits as the one writer.
    wait : float
        Seconds to wait for another writer; whom for is told to the logger ``starledger``.

    Raises
    ------
    ArchiveUnavailable
        When another program writes, with its host, process and since when. From a commit: when another has taken over, or the
        connection was cut that held PostgreSQL's lock.
    """
    with ExitStack() as stack:
        with reachable(engine.url):
            fence = _claimed(engine, wait, stack)
        sa.event.listen(engine, "commit", fence)
        try:
            yield
        finally:
            sa.event.remove(engine, "commit", fence)


def _claimed(engine: Engine, wait: float, stack: ExitStack) -> _Fence:
    """Claim the archive, or wait; what is to be given back goes on the stack."""
    until, told = time.monotonic() + wait, False
    path = sqlite_path(engine.url)
    _require_one_name(path)
    while True:
        with ExitStack() as trying:
            try:
                session = trying.enter_context(_locked(engine, path))
                fence = _Fence(engine, session)
                trying.enter_context(fence)
                stack.enter_context(trying.pop_all())
                return fence
            except _Busy as busy:
                who, hint = busy.who or _writing(engine), busy.hint
        left = until - time.monotonic()
        if left <= 0:
            message = f"another starledger is writing to this archive{who}"
            raise ArchiveUnavailable(message, where=_where(engine), hint=hint, code="archive.locked") from None
        if not told:
            _log.warning("another starledger is writing to this archive%s: waiting for it, %.0f s at most", printable(who), wait)
            told = True
        time.sleep(min(_LOOK, left))


def _where(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=True)


def _require_one_name(path: Path | None) -> None:
    """Refuse a file with several names: SQLite's log lies beside the name it was opened by, and of two names each has its own."""
    if path is not None and path.is_file() and path.stat().st_nlink > 1:
        raise ArchiveUnavailable(
            "this archive has a second name (a hard link), and SQLite loses rows when it is written to by two",
            where=str(path),
            hint="remove one of them, or make it a symbolic link",
            code="archive.links",
        )


def _locked(engine: Engine, path: Path | None) -> AbstractContextManager[int | None]:
    if not is_sqlite(engine):
        return _locked_server(engine)
    return _locked_file(path, _where(engine)) if path is not None else _locked_memory()


@contextmanager
def _locked_memory() -> Iterator[None]:
    yield  # a database in memory is nobody else's


@contextmanager
def _locked_file(path: Path, where: str) -> Iterator[None]:
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise _Busy from None
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
def _locked_server(engine: Engine) -> Iterator[int]:
    """PostgreSQL's advisory lock, on a connection of its own: the number of its process on the server."""
    with engine.connect() as connection:
        if not connection.execute(sa.select(sa.func.pg_try_advisory_lock(_WRITER_LOCK))).scalar():
            raise _Busy
        session = int(connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one())
        connection.commit()  # the lock is the session's: it goes with the connection, not with a transaction
        try:
            yield session
        finally:
            try:
                connection.execute(sa.select(sa.func.pg_advisory_unlock(_WRITER_LOCK)))
            except sa.exc.SQLAlchemyError:  # the server is gone, and the lock with the session
                connection.invalidate()


class _Fence:
    """The writer's row: set when it claims the archive, looked at in every transaction that it commits, and taken back.

    Parameters
    ----------
    engine : Engine
        The writer's.
    session : int, optional
        PostgreSQL's process that holds the lock; None on SQLite.
    """

    def __init__(self, engine: Engine, session: int | None) -> None:
        self.engine = engine
        self.session = session
        self.token = uuid.uuid4().hex
        # An archive of an earlier revision, or one that is being made, has no such table yet.
        self.marked = bool(sa.inspect(engine).has_table(WriterMark.__tablename__))
        mine = sa.update(WriterMark).where(WriterMark.token == self.token)
        if session is not None:
            mine = mine.where(_HOLDS.bindparams(session=session))
        self._beat = mine

    def __enter__(self) -> None:
        if self.marked:
            with self.engine.begin() as connection:
                self._claim(connection)
            _held.add(self.token)

    def _claim(self, connection: Connection) -> None:
        # PostgreSQL's lock is certain. A second writer's transaction waits for a first one's that has this row already.
        if self.session is None and (other := connection.execute(sa.select(WriterMark)).first()) is not None:
            _require_gone(other)
        connection.execute(sa.delete(WriterMark))
        present, me = now(), psutil.Process()
        connection.execute(
            sa.insert(WriterMark).values(
                writer_id=1,
                token=self.token,
                host=socket.gethostname(),
                process=me.pid,
                process_started=_start_of(me),
                since=present,
                heartbeat=present,
            )
        )

    def __call__(self, writing: Connection) -> None:
        """Refuse a commit that is not the one writer's."""
        if self.marked:
            held = writing.execute(self._beat.values(heartbeat=now())).rowcount == 1
        else:
            held = self.session is None or bool(writing.execute(sa.select(_HOLDS.bindparams(session=self.session))).scalar_one())
        if not held:
            how = "another starledger has taken over" if self.session is None else "the connection that held the writer's lock was cut"
            raise ArchiveUnavailable(
                how, where=_where(self.engine), hint="run again: what was not recorded yet is done then", code="archive.lock"
            )

    def __exit__(self, *_: object) -> None:
        _held.discard(self.token)
        if self.marked:
            with suppress(sa.exc.SQLAlchemyError), self.engine.begin() as connection:  # what is left is seen to be stale
                connection.execute(sa.delete(WriterMark).where(WriterMark.token == self.token))


#: Whether a process of the server still holds the lock.
_HOLDS = sa.text("EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = :session)")


def _start_of(process: psutil.Process) -> dt.datetime:
    return dt.datetime.fromtimestamp(process.create_time(), dt.UTC).replace(tzinfo=None)


def _require_gone(other: Any) -> None:
    """Refuse to take over from a writer that may still be at work."""
    last = other.heartbeat + STALE_AFTER
    if other.host == socket.gethostname():
        if _is_at_work(other):
            raise _Busy(_said(other))
    elif now() < last:
        raise _Busy(_said(other), f"wait until it has finished; if it is gone, {last:%Y-%m-%d %H:%M} UTC is when it is taken for gone")


def _is_at_work(other: Any) -> bool:
    if other.process == os.getpid():
        return other.token in _held
    try:
        process = psutil.Process(other.process)
        same = bool(abs(_start_of(process) - other.process_started) < dt.timedelta(seconds=2))
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _said(other: Any) -> str:
    return f" (process {other.process} on {other.host}, since {other.since:%Y-%m-%d %H:%M:%S} UTC)"


def _writing(engine: Engine) -> str:
    """Who writes, as far as the archive says."""
    reader = make_engine(engine.url)  # a writer's own would wait for the other's transaction
    try:
        with reader.connect() as connection:
            other = connection.execute(sa.select(WriterMark)).first()
    except sa.exc.SQLAlchemyError:
        return ""
    finally:
        reader.dispose()
    return _said(other) if other is not None else ""
