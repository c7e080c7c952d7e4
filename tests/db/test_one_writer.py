"""An archive has one writer, for certain: whatever name it is opened by, and whatever becomes of the lock."""

from __future__ import annotations

import datetime as dt
import logging
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from mini_night import command

from db.engine import is_sqlite, make_engine, sqlite_path
from db.errors import ArchiveUnavailable, ConfigurationError
from db.keys import now
from db.tables import Target, WriterMark
from starledger.archive import Archive, create_archive, open_archive
from starledger.locking import STALE_AFTER
from starledger.patience import patience, waiting

GONE = {"writer_id": 1, "token": "another", "process": 2**22 + 1, "process_started": dt.datetime(2026, 1, 1)}


@pytest.fixture
def archive(archive_url: str, tmp_path: Path) -> Iterator[Archive]:
    """An empty archive on each engine in turn."""
    made = create_archive(archive_url, tmp_path / "files")
    yield made
    made.close()


def a_target(number: int) -> sa.Insert:
    return sa.insert(Target).values(target_id=number, name=f"star {number}", ra=1.0, dec=2.0, created=now())


def targets(archive: Archive) -> int:
    with archive.engine.connect() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(Target)).scalar_one())


def mark(archive: Archive) -> sa.Row[tuple[object, ...]] | None:
    with make_engine(archive.engine.url).connect() as connection:
        return connection.execute(sa.select(WriterMark.__table__)).first()


def leave(archive: Archive, **values: object) -> None:
    """The row that another writer left."""
    with make_engine(archive.engine.url, writer=True).begin() as connection:
        connection.execute(sa.delete(WriterMark))
        connection.execute(sa.insert(WriterMark).values({"host": socket.gethostname(), "since": now(), "heartbeat": now()} | GONE | values))


def test_who_writes_stands_in_the_archive_and_a_second_is_told(archive: Archive) -> None:
    assert mark(archive) is None
    with archive.only_writer():
        with pytest.raises(ArchiveUnavailable) as refused, open_archive(str(archive.engine.url.render_as_string(False))).only_writer():
            pytest.fail("two writers")
        row = mark(archive)
    assert row is not None and (row.process, row.host) == (os.getpid(), socket.gethostname())
    assert f"process {os.getpid()} on {socket.gethostname()}, since {row.since:%Y-%m-%d %H:%M:%S} UTC" in str(refused.value)
    assert refused.value.code == "archive.locked" and "\n" not in str(refused.value)
    assert mark(archive) is None


@pytest.mark.parametrize("how", ["symbolic", "folder", "relative"])
def test_other_names_are_the_same_archive(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    archive = create_archive(str(tmp_path / "data" / "night.db"))
    other = {"symbolic": tmp_path / "link.db", "folder": tmp_path / "there" / "night.db", "relative": Path("../data/night.db")}[how]
    (tmp_path / "link.db").symlink_to(tmp_path / "data" / "night.db")
    (tmp_path / "there").symlink_to(tmp_path / "data")
    monkeypatch.chdir(tmp_path / "data")
    opened = open_archive(str(other))
    assert opened.files == archive.files
    with archive.only_writer(), pytest.raises(ArchiveUnavailable, match="another starledger is writing"), opened.only_writer():
        pytest.fail("two writers")
    with opened.only_writer():
        pass


def test_a_hard_link_is_refused(tmp_path: Path) -> None:
    archive = create_archive(str(tmp_path / "night.db"))
    archive.close()
    os.link(tmp_path / "night.db", tmp_path / "other.db")
    for name in ("night.db", "other.db"):
        with pytest.raises(ArchiveUnavailable, match="second name") as refused, open_archive(str(tmp_path / name)).only_writer():
            pytest.fail("SQLite's log would lie beside another name")
        assert refused.value.code == "archive.links"
    (tmp_path / "other.db").unlink()
    with archive.only_writer():
        pass


def test_one_that_is_gone_is_taken_over_from(archive: Archive) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for process, started in ((ended.pid, now()), (os.getpid(), now()), (os.getppid(), dt.datetime(2001, 1, 1))):
        leave(archive, process=process, process_started=started)
        with archive.only_writer():
            found = mark(archive)
        assert found is not None and found.token != "another"


def test_where_files_cannot_be_locked_the_row_keeps_others_out(tmp_path: Path) -> None:
    """One on another host is believed as long as its last commit is not an hour old."""
    archive = create_archive(str(tmp_path / "night.db"))
    leave(archive, host="observatory", heartbeat=now() - STALE_AFTER + dt.timedelta(minutes=5))
    with pytest.raises(ArchiveUnavailable, match=r"on observatory, since .* is taken for gone"), archive.only_writer():
        pytest.fail("two writers")
    leave(archive, host="observatory", heartbeat=now() - STALE_AFTER)
    with archive.only_writer():
        pass


def test_on_a_server_the_lock_is_certain_and_the_row_only_says_who(archive: Archive) -> None:
    if is_sqlite(archive.engine):
        pytest.skip("locks of files are not certain")
    leave(archive, host="observatory")
    with archive.only_writer():
        pass


def test_nothing_is_committed_once_another_has_taken_over(archive: Archive) -> None:
    with archive.only_writer():
        with archive.writer.begin() as connection:
            connection.execute(a_target(1))
        leave(archive, host="observatory")
        with pytest.raises(ArchiveUnavailable, match="run again") as refused, archive.writer.begin() as connection:
            connection.execute(a_target(2))
    assert refused.value.code == "archive.lock" and targets(archive) == 1
    found = mark(archive)
    assert found is not None and found.token == "another", "the row of the other is left alone"


def test_a_second_waits_for_a_commit_under_way(archive: Archive) -> None:
    """Between the look and the commit there is no moment for another: its claim changes the row that was looked at."""
    begun, let_go, claimed = threading.Event(), threading.Event(), threading.Event()

    def claim() -> None:
        begun.wait(20)
        leave(archive)
        claimed.set()

    other = threading.Thread(target=claim)
    other.start()
    with archive.only_writer():
        # SQLAlchemy calls listeners in their order: the writer's own has looked when this one is called.
        def between(_: sa.Connection) -> None:
            begun.set()
            assert not claimed.wait(0.5)
            let_go.set()

        sa.event.listen(archive.writer, "commit", between)
        with archive.writer.begin() as connection:
            connection.execute(a_target(1))
        sa.event.remove(archive.writer, "commit", between)
        assert let_go.is_set() and claimed.wait(20)
        with pytest.raises(ArchiveUnavailable), archive.writer.begin() as connection:
            connection.execute(a_target(2))
    other.join()
    assert targets(archive) == 1


def test_unlocking_does_not_raise_when_the_server_has_gone(archive: Archive) -> None:
    if is_sqlite(archive.engine):
        pytest.skip("no server")
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with archive.only_writer(), make_engine(archive.engine.url).connect() as connection:
        assert connection.exec_driver_sql(others).all()
    with archive.only_writer():
        pass


def test_what_is_written_at_once_waits_and_says_for_whom(archive: Archive, caplog: pytest.LogCaptureFixture) -> None:
    held, end = threading.Event(), threading.Event()

    def hold() -> None:
        with open_archive(archive.engine.url.render_as_string(False)).only_writer():
            held.set()
            end.wait(20)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(20)
    token = waiting.set(20.0)
    try:
        with caplog.at_level(logging.WARNING, "starledger"):
            threading.Timer(0.5, end.set).start()
            with archive.writing() as session:
                session.execute(a_target(1))
        (line,) = caplog.messages
        assert "waiting for it, 20 s at most" in line and f"process {os.getpid()}" in line
    finally:
        waiting.reset(token)
        holder.join()
    assert targets(archive) == 1


def test_how_long_is_said_by_an_option_or_the_environment(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    url = archive.engine.url.render_as_string(False)
    token = waiting.set(None)
    monkeypatch.delenv("STARLEDGER_WAIT")
    assert patience() == 60.0
    with archive.only_writer():
        code, _, messages = command("--wait", "0", "target", "add", "star", "10.0 20.0", "--archive", url)
    assert code == 3 and len(messages.splitlines()) == 1 and "another starledger is writing" in messages and "process" in messages
    waiting.reset(token)
    monkeypatch.setenv("STARLEDGER_WAIT", "1.5")
    assert patience() == 1.5
    monkeypatch.setenv("STARLEDGER_WAIT", "soon")
    with pytest.raises(ConfigurationError, match="STARLEDGER_WAIT"):
        patience()


def test_an_interrupted_statement_gives_the_lock_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite keeps a closed connection's transaction as long as a cursor lives, and an exception's frames hold cursors."""
    archive = create_archive(str(tmp_path / "night.db"))
    path = sqlite_path(archive.engine.url)
    assert path is not None

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), archive.writer.connect() as connection:
        connection.execute(a_target(1))
        driver = connection.connection.driver_connection
        assert driver is not None
        cursor = driver.execute("SELECT target_id FROM target")
        assert next(cursor) == (1,)
        monkeypatch.setattr(connection.dialect, "do_execute", interrupt)
        connection.exec_driver_sql("SELECT 1")
    other = sqlite3.connect(path, timeout=0.0, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.close()
    assert cursor is not None
