"""The archive goes away in the middle of writing: one clear line, nothing lost, nothing twice, and the next run ends as one undisturbed."""

from __future__ import annotations

import io
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import compare
import postgres_server
import pytest
import sqlalchemy as sa
from killed import require_no_leftovers
from mini_night import N_OBJECT, Night, Work, command

import db.bulk

#: COPY number of a run's open measurements in which the archive goes.
NUMBER = 3


class Cut(io.BytesIO):
    """What COPY reads: `away` is called once, when a part of the rows of the chosen statement has gone to the server."""

    def __init__(self, data: bytes, away: Callable[[], None]) -> None:
        super().__init__(data)
        self._away: Callable[[], None] | None = away

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() and self._away is not None:
            away, self._away = self._away, None
            away()
        return super().read(min(500, size) if size and size > 0 else 500)


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[], None]], None]]:
    """`cut(away)`: have `away` called in the middle of a COPY of measurements."""
    plain, seen, chosen = db.bulk._copy, [0], [False]

    def arm(away: Callable[[], None]) -> None:
        def copy(connection: sa.Connection, table: sa.Table, arrays: dict[str, object]) -> None:
            seen[0] += table.name == "open_measurement"
            chosen[0] = table.name == "open_measurement" and seen[0] == NUMBER
            plain(connection, table, arrays)  # type: ignore[arg-type]

        def stream(data: bytes) -> io.BytesIO:
            return Cut(data, away) if chosen[0] else io.BytesIO(data)

        monkeypatch.setattr(db.bulk, "_copy", copy)
        monkeypatch.setattr(db.bulk, "io", SimpleNamespace(BytesIO=stream))

    yield arm
    assert seen[0] >= NUMBER, "no COPY was cut"


def require_the_same_after_all(work: Work, reduced: Work, options: tuple[object, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """The next run, of one that ended in the middle, does what is left."""
    monkeypatch.undo()
    code, _, messages = command(*map(str, options))
    assert code == 0, messages
    assert compare.compare(reduced.url, work.url) == []
    assert work.sql("SELECT count(DISTINCT frame_id) FROM measurement") == [(N_OBJECT,)]
    require_no_leftovers(work)


def options_of(work: Work, night: Night) -> tuple[object, ...]:
    return ("reduce", night.raw, "--catalogue", night.catalogue, "--archive", work.url, "--files", work.files, "--jobs", 1)


def require_one_line(code: int, messages: str) -> None:
    last = messages.strip().splitlines()[-1]
    assert code == 3 and "Traceback" not in messages, messages
    assert "check the URL and that the server runs" in last, last


@pytest.mark.long
def test_the_server_restarts_in_the_middle_of_a_copy(
    reduced: Work, night: Night, tmp_path: Path, cut: Callable[[Callable[[], None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = postgres_server.find_server()
    assert server is not None
    folder = Path(tempfile.mkdtemp())  # not below pytest's, which only its owner may enter
    url = postgres_server.start(folder, server)
    try:
        with sa.create_engine(url.replace("postgresql:", "postgresql+psycopg2:"), isolation_level="AUTOCOMMIT").connect() as connection:
            connection.exec_driver_sql("CREATE DATABASE night")
        work = Work(f"{url.rpartition('/')[0]}/night", tmp_path / "files")
        options = options_of(work, night)
        cut(lambda: postgres_server.restart(folder, server))
        code, _, messages = command(*map(str, options))
        require_one_line(code, messages)
        assert work.sql("SELECT count(DISTINCT frame_id) FROM measurement")[0][0] < N_OBJECT
        require_the_same_after_all(work, reduced, options, monkeypatch)
    finally:
        postgres_server.stop(folder, server)


def test_the_connection_is_dropped_in_the_middle_of_a_copy(
    new_archive: Callable[[str], str],
    reduced: Work,
    night: Night,
    tmp_path: Path,
    cut: Callable[[Callable[[], None]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = Work(new_archive("postgresql"), tmp_path / "files")
    options = options_of(work, night)
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    cut(lambda: (work.sql(others), None)[1])
    code, _, messages = command(*map(str, options))
    require_one_line(code, messages)
    require_the_same_after_all(work, reduced, options, monkeypatch)


@pytest.mark.long
def test_the_lock_is_cut_and_another_may_write(
    new_archive: Callable[[str], str],
    reduced: Work,
    night: Night,
    tmp_path: Path,
    cut: Callable[[Callable[[], None]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The connection that holds the lock is idle for hours, and the first to be cut: nothing more is committed without it."""
    work = Work(new_archive("postgresql"), tmp_path / "files")
    options = options_of(work, night)
    holder = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database "
    holder += "WHERE datname = current_database())"
    left: list[int] = []

    def away() -> None:
        left.append(int(work.sql("SELECT count(*) FROM open_measurement")[0][0]))
        assert work.sql(holder) == [(True,)]

    cut(away)
    code, _, messages = command(*map(str, options))
    last = messages.strip().splitlines()[-1]
    assert code == 3 and "Traceback" not in messages and "the writer's lock was cut" in last and "run again" in last, messages
    assert work.sql("SELECT count(*) FROM open_measurement") == [(left[0],)]
    require_the_same_after_all(work, reduced, options, monkeypatch)


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix" or not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can mount a small disk")
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_disk_that_is_really_full(reduced: Work, night: Night, tmp_path: Path, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Archive and products on a file system of a part of the size that they need; then there is room."""
    files = [path for path in reduced.files.rglob("*") if path.is_file()]
    needed = sum(path.stat().st_size for path in files) + Path(reduced.url.removeprefix("sqlite:///")).stat().st_size
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", f"size={int(needed * share)}", "tmpfs", str(disk)]
    if subprocess.run(mounted, capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        work = Work(f"sqlite:///{disk / 'archive.db'}", disk / "files")
        options = options_of(work, night)
        code, _, messages = command(*map(str, options))
        last = messages.strip().splitlines()[-1]
        assert code == 3 and "Traceback" not in messages, messages
        assert "free some" in last, last
        subprocess.run(["mount", "-o", "remount,size=1g", str(disk)], check=True, capture_output=True)
        require_the_same_after_all(work, reduced, options, monkeypatch)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True, capture_output=True)
