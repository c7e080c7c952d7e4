"""Reading needs no right to write: files and folders that are read only, and a role of PostgreSQL with SELECT alone."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
import small_archive
import sqlalchemy as sa
from compare import snapshot
from many_commands import Done, run_all
from small_archive import SmallArchive
from templates import administer

import starledger
from db.engine import make_engine, sqlite_path
from db.errors import ArchiveUnavailable, ConfigurationError
from queries.sql import writer_by_right

READING = [
    ["status"],
    ["sql", "SELECT count(*) AS n FROM measurement", "--format", "csv"],
    ["lc", "HAT-P-32 b", "--format", "csv"],
    *([*words, "list"] for words in (["target"], ["frames"], ["masters"], ["mask"], ["reference"])),
    ["frames", "quality", "--all"],
    ["masters", "choices"],
    ["db", "current"],
    ["db", "check"],
]
WRITING = [
    ["target", "add", "x", "1 1"],
    ["mask", "frame", "1", "--reason", "x"],
    ["frames", "set", "flat", "1", "--reason", "x"],
    ["reference", "new", "1", "--reason", "x"],
    ["target", "remove", "HAT-P-32 b"],
    ["detect"],
    ["init"],
]


def answers(url: str, files: Path, commands: list[list[str]], *, unprivileged: bool = False) -> dict[str, str]:
    found = run_all(url, commands, files, unprivileged=unprivileged)
    assert [one for one in found if one.code or "Traceback" in one.stderr] == []
    return {" ".join(one.words): one.stdout for one in found}


def refusals(url: str, files: Path, *, unprivileged: bool = False) -> list[Done]:
    found = run_all(url, WRITING, files, unprivileged=unprivileged)
    assert [one for one in found if one.code != 3 or one.stderr.count("\n") != 1 or "Traceback" in one.stderr] == []
    return found


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder to which every user finds the way."""
    with tempfile.TemporaryDirectory(prefix="starledger-public-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


@pytest.fixture
def laid(public: Path, pair: dict[str, SmallArchive]) -> Callable[[str], Path]:
    """`laid("gone")`: a read-only archive without a log; "present": with rows that are in the log alone; "held": and open to a writer."""
    kept: list[sqlite3.Connection] = []

    def lay(log: str) -> Path:
        path, source = public / "night.db", sqlite_path(pair["sqlite"].engine.url)
        pair["sqlite"].engine.dispose()
        assert source is not None
        with closing(sqlite3.connect(source)) as given, closing(sqlite3.connect(path)) as taken:
            given.backup(taken)
            taken.execute("PRAGMA journal_mode = WAL")
        if log != "gone":
            writer = sqlite3.connect(path)
            writer.execute("INSERT INTO passband VALUES (9, 'in the log')")
            writer.commit()
            if log == "held":
                kept.append(writer)
            else:
                names = [path, path.with_name("night.db-wal")]
                for one in names:
                    shutil.copy(one, one.with_name(f"{one.name}.copy"))
                writer.close()
                for one in names:
                    one.with_name(f"{one.name}.copy").rename(one)
        for one in public.iterdir():
            one.chmod(0o444)
        public.chmod(0o555)
        return path

    yield lay  # type: ignore[misc]
    for writer in kept:
        writer.close()


@pytest.mark.parametrize("log", ["gone", "present", "held"])
def test_a_read_only_archive_answers(laid: Callable[[str], Path], log: str, tmp_path: Path) -> None:
    path = laid(log)
    before = {one.name: one.stat().st_mtime_ns for one in path.parent.iterdir()}
    in_log = ["sql", "SELECT count(*) AS n FROM passband WHERE passband_id = 9", "--format", "csv"]
    found = answers(str(path), tmp_path, [*READING, in_log], unprivileged=True)
    assert found[" ".join(READING[1])] == "n\n1200\n"
    assert found[" ".join(in_log)] == ("n\n0\n" if log == "gone" else "n\n1\n")
    # The index of a log that somebody holds is the readers', too.
    assert {one.name: one.stat().st_mtime_ns for one in path.parent.iterdir() if log != "held"} == (before if log != "held" else {})


def test_writing_to_a_read_only_archive_is_one_line(laid: Callable[[str], Path], tmp_path: Path) -> None:
    path = laid("gone")
    assert [one for one in refusals(str(path), tmp_path, unprivileged=True) if "folder" not in one.stderr] == []


def test_a_reader_leaves_nothing_that_keeps_a_later_writer_out(public: Path, laid: Callable[[str], Path], tmp_path: Path) -> None:
    """A file of mode 0444 in a folder that may be written: an index that the reader made would be of that mode, too."""
    path = laid("gone")
    public.chmod(0o777)
    answers(str(path), tmp_path, READING[1:2], unprivileged=True)
    assert sorted(one.name for one in public.iterdir()) == ["night.db"]


def test_a_reader_without_locks_is_not_kept(laid: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections of the pool that would not see what is written from now on."""
    path = laid("gone")
    monkeypatch.setattr("db.sqlite_reading.os.access", lambda *_: False)
    engine = make_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM passband")).scalar() == 2
        first = connection.connection.dbapi_connection
    with engine.connect() as connection:
        assert connection.connection.dbapi_connection is not first
    engine.dispose()


def test_a_reader_cannot_write(small: SmallArchive) -> None:
    if small.engine.dialect.name == "postgresql":
        pytest.skip("a role of PostgreSQL has the rights that it was granted")
    engine = make_engine(small.engine.url)
    with pytest.raises(sa.exc.OperationalError, match="readonly"), engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM target"))
    engine.dispose()


# PostgreSQL: a role that may only read


@pytest.fixture
def served(new_archive: Callable[[str], str]) -> Iterator[SmallArchive]:
    built = small_archive.build(new_archive("postgresql"), n_frame=6, n_source=6)
    yield built
    built.engine.dispose()


@pytest.fixture
def role(served: SmallArchive) -> Iterator[str]:
    """A name that no other test of the server has."""
    url = served.engine.url.render_as_string(hide_password=False).replace("+psycopg2", "")
    name = f"reader \"{os.getpid()}' "
    yield name
    quoted = '"' + name.replace('"', '""') + '"'
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,))
        known = cursor.fetchone()
    if known:
        administer(url, f"DROP OWNED BY {quoted}", f"DROP ROLE {quoted}")


def as_role(served: SmallArchive, role: str) -> str:
    return served.engine.url.set(username=role).render_as_string(hide_password=False)


def test_a_granted_role_reads_and_writes_nothing(served: SmallArchive, role: str, tmp_path: Path) -> None:
    owner = served.engine.url.render_as_string(hide_password=False)
    before = snapshot(owner, without=())
    said = starledger.grant(owner, role)
    assert "is made" in said[0] and any("every table" in line for line in said)
    reader = as_role(served, role)
    found = answers(reader, tmp_path, READING)
    assert found == answers(owner, tmp_path, READING)
    engine = make_engine(reader)
    assert writer_by_right(engine) is None and "superuser" in str(writer_by_right(served.engine))
    engine.dispose()
    assert [one for one in refusals(reader, tmp_path) if not re.search("permission denied for table.* GRANT ", one.stderr)] == []
    with pytest.raises(ArchiveUnavailable, match="permission denied to create role"):
        starledger.grant(reader, "another")
    assert snapshot(owner, without=()) == before


def test_what_comes_later_can_be_read_as_well(served: SmallArchive, role: str) -> None:
    owner = served.engine.url.render_as_string(hide_password=False)
    starledger.grant(owner, role)
    with served.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE closed_measurement_n9984 PARTITION OF closed_measurement FOR VALUES FROM (9984) TO (10016)"
        )
        connection.exec_driver_sql("CREATE VIEW later AS SELECT 1 AS one")
    engine = make_engine(as_role(served, role))
    with engine.connect() as connection:
        for relation in ("closed_measurement_n9984", "closed_measurement", "later", "light_curve"):
            connection.execute(sa.text(f"SELECT * FROM {relation} LIMIT 1"))
    for text in ("UPDATE run SET host = 'E'", "CREATE TABLE evil (a int)", "INSERT INTO closed_measurement_n9984 DEFAULT VALUES"):
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"), engine.begin() as connection:
            connection.exec_driver_sql(text)
    engine.dispose()


def test_rights_are_taken_again(served: SmallArchive, role: str, tmp_path: Path) -> None:
    owner = served.engine.url.render_as_string(hide_password=False)
    starledger.grant(owner, role)
    with served.engine.begin() as connection:
        name = served.engine.dialect.identifier_preparer.quote_identifier(role)
        connection.exec_driver_sql(f"GRANT INSERT ON target TO {name}")
    assert "which was there" in starledger.grant(owner, role)[0]  # and that right is gone, or this would be refused
    assert any("DROP ROLE" in line for line in starledger.grant(owner, role, revoke=True))
    with pytest.raises(ArchiveUnavailable, match="GRANT SELECT ON alembic_version"):
        starledger.open(as_role(served, role), files=tmp_path)


def test_a_role_that_could_write_is_no_reader(served: SmallArchive, role: str) -> None:
    owner = served.engine.url.render_as_string(hide_password=False)
    name = served.engine.dialect.identifier_preparer.quote_identifier(role)
    with pytest.raises(ConfigurationError, match="is a superuser"):
        starledger.grant(owner, str(served.engine.url.username))
    with served.engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {name} NOINHERIT IN ROLE pg_write_all_data")
    with pytest.raises(ConfigurationError, match=r"may write to \w+, as a member of pg_write_all_data") as met:
        starledger.grant(owner, role)
    assert met.value.code == "grant.writer"
    for wrong in ("", "public", "pg_read_all_data", "a" * 64, "a\n", "\x1b[2J"):
        with pytest.raises(ConfigurationError, match="no name for a reader"):
            starledger.grant(owner, wrong)
    with pytest.raises(ConfigurationError, match="there is no role"):
        starledger.grant(owner, "nobody knows it", revoke=True)


def test_sqlite_has_no_roles(pair: dict[str, SmallArchive]) -> None:
    with pytest.raises(ConfigurationError, match=r"no roles.*chmod"):
        starledger.grant(str(sqlite_path(pair["sqlite"].engine.url)), "reader")


def test_making_an_archive_without_the_right_names_it(
    served: SmallArchive, role: str, new_archive: Callable[[str], str], tmp_path: Path
) -> None:
    owner = served.engine.url.render_as_string(hide_password=False)
    starledger.grant(owner, role)
    empty = sa.make_url(new_archive("postgresql")).set(username=role).render_as_string(hide_password=False)
    with pytest.raises(ArchiveUnavailable, match="GRANT CREATE ON SCHEMA public"):
        starledger.create(empty, files=tmp_path)
    with pytest.raises(ArchiveUnavailable, match=r"must be owner|permission denied for table writer; its owner may GRANT"):
        starledger.upgrade(as_role(served, role))
