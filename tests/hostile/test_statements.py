"""Thousands of statements that try to write through the door for reading: nothing changes, on either engine."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import small_archive
import sqlalchemy as sa
from compare import snapshot
from hostile_statements import statements
from small_archive import SmallArchive

from db.engine import is_sqlite, sqlite_path
from db.errors import StarledgerError
from queries.sql import sql_frame

FULL = os.environ.get("STARLEDGER_REALDATA") == "full"
#: "SEED:NUMBER" of `make campaign`, which throws ten times the number; in CI the seeds are new, and the clock ends it.
_ASKED = os.environ.get("STARLEDGER_CAMPAIGN", "")
_SECONDS = 75.0
#: Statements between two looks at all rows.
BATCH = 100
VALUES = {"b": "'; COMMIT; UPDATE run SET host = 'E' --", "B": "$$\\"}

#: All else of PostgreSQL's that could be changed, but for what tests beside this one do to the same server.
_CATALOGUES = """
SELECT 'class', relname::text, relkind::text, relacl::text FROM pg_class WHERE relnamespace = current_schema()::regnamespace UNION ALL
SELECT 'function', proname::text, proowner::text, proacl::text FROM pg_proc WHERE pronamespace = current_schema()::regnamespace UNION ALL
SELECT 'schema', nspname::text, nspowner::text, nspacl::text FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_' UNION ALL
SELECT 'role', rolname::text, rolsuper::text, rolconfig::text FROM pg_roles WHERE rolname IN ('evil', current_user) UNION ALL
SELECT 'database', datname::text, '', datacl::text FROM pg_database WHERE datname IN ('evil', 'postgres', current_database()) UNION ALL
SELECT 'setting', setdatabase::text, setrole::text, setconfig::text FROM pg_db_role_setting UNION ALL
SELECT 'file', name, setting, error FROM pg_file_settings UNION ALL
SELECT 'column', attrelid::regclass::text, attname::text, attnum::text FROM pg_attribute WHERE attrelid = 'run'::regclass UNION ALL
SELECT 'trigger', tgname::text, tgrelid::text, '' FROM pg_trigger WHERE tgname = 'evil' UNION ALL
SELECT 'comment', objoid::text, classoid::text, description FROM pg_description WHERE objoid = 'run'::regclass UNION ALL
SELECT 'slot', slot_name::text, '', '' FROM pg_replication_slots UNION ALL
SELECT 'large object', oid::text, '', '' FROM pg_largeobject_metadata UNION ALL
SELECT 'lock', objid::text, '', '' FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 UNION ALL
SELECT 'prepared', gid, '', '' FROM pg_prepared_xacts
ORDER BY 1, 2, 3, 4
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def archive(request: pytest.FixtureRequest, new_archive: Callable[[str], str]) -> Iterator[SmallArchive]:
    """A small archive on each engine in turn; on PostgreSQL its owner is a superuser, from whom only the door keeps it."""
    built = small_archive.build(new_archive(request.param), n_frame=4, n_source=4)
    yield built
    built.engine.dispose()


def state(archive: SmallArchive, folder: Path) -> dict[str, Any]:
    """All rows, all that there is beside them, and the files of a folder."""
    found: dict[str, Any] = dict(snapshot(archive.engine.url.render_as_string(hide_password=False), without=()))
    path = sqlite_path(archive.engine.url)
    found["files"] = sorted(str(one) for one in folder.rglob("*"))
    if path is not None:
        # The log and its index are the readers', too, and empty.
        found["beside"] = sorted(one.name for one in path.parent.iterdir() if one.stat().st_size and not one.name.endswith("-shm"))
        found["bytes"] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found
    with archive.engine.connect() as connection:
        found["catalogues"] = [tuple(row) for row in connection.execute(sa.text(_CATALOGUES))]
    return found


@pytest.fixture
def settled(archive: SmallArchive) -> SmallArchive:
    """The archive with all of its rows in its file."""
    if is_sqlite(archive.engine):
        archive.engine.dispose()
    return archive


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """A folder that also the server's user could write to."""
    for one in (tmp_path, *tmp_path.parents[:2]):
        one.chmod(0o777)
    return tmp_path


def asked() -> tuple[int, int, float]:
    """First seed, number of statements, and seconds after which no more are thrown."""
    if _ASKED:
        seed, number = map(int, _ASKED.split(":"))
        return seed, 10 * number, 1e9
    return (secrets.randbelow(10**9), 10**6, _SECONDS) if FULL else (1, 300, 1e9)


def test_nothing_is_written(
    settled: SmallArchive, open_folder: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    monkeypatch.chdir(open_folder)
    seed, most, seconds = asked()
    texts = statements(seed, str(open_folder / "made"))
    before, begin = state(settled, open_folder), time.monotonic()
    said: Counter[str] = Counter()
    while said.total() < most and time.monotonic() < begin + seconds:
        batch = list(islice(texts, min(BATCH, most - said.total())))
        for text in batch:
            try:
                sql_frame(settled.engine, text, VALUES, timeout=5)
                said["answered"] += 1
            except StarledgerError as error:
                assert "\n" not in str(error), text
                said[error.code] += 1
        assert state(settled, open_folder) == before, (seed, batch)
    record_property(
        f"statements, {settled.engine.name}", f"{said.total()} from seed {seed} in {time.monotonic() - begin:.0f} s: {dict(said)}"
    )
    # Some read, and are answered: a door that is shut would show nothing.
    assert said["answered"] > said.total() / 50 and said["sql.refused"] > said.total() / 10


def test_they_would_write_where_nothing_refuses_them(settled: SmallArchive, tmp_path: Path) -> None:
    """The same grammar, of which the driver gets the texts as they are, in a transaction that only reads."""
    written = sum(writes_unguarded(settled, text) for text in islice(statements(1, str(tmp_path / "made"), marks=True), 200))
    assert written >= 10


def writes_unguarded(archive: SmallArchive, text: str) -> bool:
    with archive.engine.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        cursor = driver.cursor()
        try:
            if is_sqlite(archive.engine):
                driver.create_function("chr", 1, chr)
                cursor.executescript(f"BEGIN; {text}")
            else:
                cursor.execute(f"BEGIN READ ONLY; {text}")
        except (archive.engine.dialect.loaded_dbapi.Error, ValueError):
            pass
        cursor.close()
        driver.rollback()
        connection.detach()
        connection.invalidate()
    with archive.engine.begin() as connection:
        return connection.execute(sa.text("UPDATE run SET host = '' WHERE host = 'E'")).rowcount > 0
