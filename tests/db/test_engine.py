"""Engines: what a URL means, and mathematics where SQLite has none."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from db.engine import _add_mathematics, empty_log, make_engine, parse_url, reachable, sqlite_path
from db.errors import ArchiveUnavailable, ConfigurationError


def test_urls() -> None:
    assert parse_url("night.db").render_as_string() == "sqlite:///night.db"
    assert parse_url("sqlite:////data/night.db").database == "/data/night.db"
    for text in ("postgresql://me@host/night", "postgres://me@host/night", "postgresql+psycopg2://me@host/night"):
        assert parse_url(text).drivername == "postgresql+psycopg2"
    assert sqlite_path(parse_url("night.db")) == Path("night.db").absolute()
    assert sqlite_path(parse_url("sqlite://")) is None and sqlite_path(parse_url("postgresql://h/n")) is None


@pytest.mark.parametrize("text", ["mysql://me@host/night", "://", "sqlite:/x://y"])
def test_other_databases_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_url(text)
    assert caught.value.code == "archive.url"


class Bare:
    """A connection of a SQLite built without mathematics: it has a function only after it was given one."""

    OperationalError = sqlite3.OperationalError

    def __init__(self) -> None:
        self.inner = sqlite3.connect(":memory:")
        self.given: set[str] = set()

    def execute(self, text: str) -> Any:
        if "log10" in text and "log10" not in self.given:
            raise sqlite3.OperationalError("no such function: log10")
        return self.inner.execute(text)

    def create_function(self, name: str, *arguments: Any, **options: Any) -> None:
        self.given.add(name)
        self.inner.create_function(name, *arguments, **options)


def test_mathematics_is_added_where_it_is_missing() -> None:
    bare, full = Bare(), sqlite3.connect(":memory:")
    _add_mathematics(bare)
    text = (
        "SELECT log10(2.5), power(2.0, 0.4), sqrt(2.0), floor(-1.5), floor(21.0), radians(10.0), degrees(1.0),"
        " sin(1.0), cos(1.0), asin(0.5), acos(0.5)"
    )
    values = bare.execute(text).fetchone()
    assert values == pytest.approx(
        (
            math.log10(2.5),
            2**0.4,
            2**0.5,
            -2.0,
            21.0,
            math.radians(10),
            math.degrees(1),
            math.sin(1),
            math.cos(1),
            math.asin(0.5),
            math.acos(0.5),
        )
    )
    assert bare.execute("SELECT log10(NULL), power(NULL, 2), sqrt(-1.0), log10(0.0), asin(2.0)").fetchone() == (None,) * 5
    _add_mathematics(full)  # has its own where it was built with them
    assert full.execute("SELECT log10(100.0)").fetchone() == (2.0,)
    bare.inner.close()
    full.close()


def test_a_reader_waits_for_nobody_and_a_writer_takes_the_lock(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    writer, reader = make_engine(url, writer=True), make_engine(url)
    with writer.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (a integer)"))
    other = sa.create_engine(url, connect_args={"timeout": 0})
    with writer.begin() as first:
        first.execute(sa.text("INSERT INTO t VALUES (1)"))
        with reader.connect() as second:
            assert second.execute(sa.text("SELECT count(*) FROM t")).scalar() == 0
        with pytest.raises(ArchiveUnavailable) as caught, reachable(parse_url(url)), other.connect() as third:
            third.exec_driver_sql("BEGIN IMMEDIATE")
    assert caught.value.code == "archive.locked" and caught.value.exit_code == 3
    for engine in (writer, reader, other):
        engine.dispose()


def test_an_unreachable_server_is_one_line() -> None:
    url = parse_url("postgresql://me:secret@127.0.0.1:1/night")
    engine = make_engine(url)
    with pytest.raises(ArchiveUnavailable) as caught, reachable(url), engine.connect():
        pass
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)
    engine.dispose()


def _filled(path: Path) -> sa.Engine:
    """A SQLite database with a log of some 3 MB that nobody reads."""
    writer = make_engine(f"sqlite:///{path}", writer=True)
    with writer.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE bulk (number INTEGER PRIMARY KEY, text TEXT)")
    with writer.begin() as connection:
        connection.execute(sa.text("INSERT INTO bulk VALUES (:k, :text)"), [{"k": k, "text": "x" * 10_000} for k in range(300)])
    return writer


def test_a_long_log_is_emptied_and_a_short_one_left(tmp_path: Path) -> None:
    writer, log = _filled(tmp_path / "a.db"), tmp_path / "a.db-wal"
    size = log.stat().st_size
    assert size > 2**21
    empty_log(writer, size)
    assert log.stat().st_size == size
    empty_log(writer, size - 1)
    assert log.stat().st_size == 0
    with writer.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM bulk").scalar() == 300
    writer.dispose()


@pytest.mark.parametrize("brief", [True, False])
def test_a_brief_reader_does_not_keep_the_log(brief: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("db.engine._LOG_PATIENCE", 10)
    writer, log = _filled(tmp_path / "a.db"), tmp_path / "a.db-wal"
    reader = make_engine(f"sqlite:///{tmp_path / 'a.db'}", brief=brief)
    with reader.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM bulk").scalar() == 300
        with writer.begin() as other:
            other.exec_driver_sql("DELETE FROM bulk WHERE number = 0")
        empty_log(writer, 0)
        assert (log.stat().st_size == 0) == brief
        # It sees what is committed by now, as with PostgreSQL; whoever reads in a transaction sees what was there at first.
        assert connection.exec_driver_sql("SELECT count(*) FROM bulk").scalar() == (299 if brief else 300)
    reader.dispose()
    writer.dispose()


def test_emptying_the_log_of_what_has_none_does_nothing(archive_url: str) -> None:
    for url in (archive_url, "sqlite://"):
        engine = make_engine(url, writer=True)
        empty_log(engine, 0)
        engine.dispose()
