"""Databases made once for all workers of a test run, and copied: making the schema takes a second, copying it none.

Tests of the migrations, of the command line and of killed programs make theirs by `schema.upgrade`, as users do.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg2
from filelock import FileLock

from db import schema
from db.engine import make_engine, parse_url, sqlite_path

__all__ = ["administer", "copy_postgres", "copy_sqlite", "make_schema", "once"]


def once(name: str, make: Callable[[Path], None]) -> Path:
    """A folder of the test run that `make` fills, once for all workers."""
    folder = Path(os.environ["STARLEDGER_TEST_RUN"]) / name
    with FileLock(f"{folder}.lock"):
        if not (folder / "complete").exists():
            folder.mkdir()
            make(folder)
            (folder / "complete").touch()
    return folder


def make_schema(url: str) -> None:
    """Give an empty database this version's schema, as `schema.upgrade` does; leave one that is not empty alone."""
    path = sqlite_path(parse_url(url))
    if path is not None:
        if not path.exists():
            copy_sqlite(once("schema-sqlite", lambda folder: _upgrade(f"sqlite:///{folder / 'archive.db'}")) / "archive.db", path)
    elif _is_empty(url):
        once("schema-postgresql", lambda _: _upgrade(_new_database(url, "schema_template")))
        copy_postgres("schema_template", url)


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy a database into a new file."""
    with closing(sqlite3.connect(source)) as given, closing(sqlite3.connect(target)) as taken:
        given.backup(taken)


def copy_postgres(template: str, url: str) -> None:
    """Put a copy of a database of the same server, to which nobody is connected, in the place of another one."""
    server, _, name = url.rpartition("/")
    administer(f"{server}/postgres", f"DROP DATABASE {name} WITH (FORCE)", f"CREATE DATABASE {name} TEMPLATE {template}")


def administer(url: str, *statements: str) -> None:
    """Run statements that no transaction may hold."""
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
    finally:
        connection.close()


def _upgrade(url: str) -> None:
    engine = make_engine(url, writer=True)
    schema.upgrade(engine)
    engine.dispose()


def _new_database(url: str, name: str) -> str:
    """URL of a database made on the server of another one."""
    server = url.rpartition("/")[0]
    administer(f"{server}/postgres", f"CREATE DATABASE {name}")
    return f"{server}/{name}"


def _is_empty(url: str) -> bool:
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass('alembic_version') IS NULL")
            return bool(cursor.fetchone()[0])
    finally:
        connection.close()
