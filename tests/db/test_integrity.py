"""What is found to be wrong with a PostgreSQL archive; damaged files of SQLite are tried in tests/steps/test_damaged.py."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import postgres_server
import pytest
import small_archive
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from db import schema
from db.engine import make_engine
from db.integrity import problems

#: Bytes of a page's header, and where in it the end of its list of items stands.
HEADER, LOWER = 24, 12
PAGE = 8192


def swap_first_items(file: Path, page: int) -> None:
    """Exchange the first and the last item of a page of an index, so that it is whole and out of order."""
    data = bytearray(file.read_bytes())
    begin = page * PAGE
    last = begin + struct.unpack_from("<H", data, begin + LOWER)[0] - 4
    first = begin + HEADER
    data[first : first + 4], data[last : last + 4] = data[last : last + 4], data[first : first + 4]
    file.write_bytes(data)


@pytest.fixture
def own_server() -> Iterator[tuple[Path, Path, str]]:
    """A server of the test's own: its folder, its programs, the URL of an empty archive."""
    server = postgres_server.find_server()
    assert server is not None
    folder = Path(tempfile.mkdtemp())  # not below pytest's, which only its owner may enter
    try:
        url = postgres_server.start(folder, server)
        with sa.create_engine(url.replace("postgresql:", "postgresql+psycopg2:"), isolation_level="AUTOCOMMIT").connect() as connection:
            connection.exec_driver_sql("CREATE DATABASE night")
        archive = f"{url.rpartition('/')[0]}/night"
        engine = make_engine(archive, writer=True)
        schema.upgrade(engine)  # the tests' copies of it are another server's
        engine.dispose()
        yield folder, server, archive
    finally:
        postgres_server.stop(folder, server)


def with_amcheck(engine: Engine) -> None:
    with engine.begin() as connection:
        if not connection.exec_driver_sql("SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'").scalar_one():
            pytest.skip("this PostgreSQL has no amcheck")
        # Not where everybody's functions are looked for.
        connection.exec_driver_sql("CREATE SCHEMA checks")
        connection.exec_driver_sql("CREATE EXTENSION amcheck SCHEMA checks")


def test_an_index_out_of_order_is_named(own_server: tuple[Path, Path, str]) -> None:
    folder, server, url = own_server
    engine = small_archive.build(url).engine
    with_amcheck(engine)
    assert list(problems(engine)) == []
    with engine.begin() as connection:
        path = connection.exec_driver_sql("SELECT pg_relation_filepath('pk_source'::regclass)").scalar_one()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("CHECKPOINT")
    engine.dispose()
    swap_first_items(folder / "data" / path, page=1)
    postgres_server.restart(folder, server)
    found = list(problems(engine))
    engine.dispose()
    assert any("pk_source" in line and "order" in line for line in found), found


def test_a_role_that_may_not_check_indexes_finds_no_fault(new_archive: Callable[[str], str]) -> None:
    small = small_archive.build(new_archive("postgresql"))
    with_amcheck(small.engine)
    name = f"reader_{small.engine.url.database}"
    with small.engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN")
        connection.exec_driver_sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}")
    reader = sa.create_engine(small.engine.url.set(username=name))
    try:
        assert list(problems(reader)) == []
        with small.engine.begin() as connection:
            connection.exec_driver_sql(f"REVOKE SELECT ON source FROM {name}")
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied for table source"):
            list(problems(reader))
    finally:
        reader.dispose()
        with small.engine.begin() as connection:
            connection.exec_driver_sql(f"DROP OWNED BY {name}; DROP ROLE {name}")
        small.engine.dispose()
