"""Whether an archive is whole: what SQLite and PostgreSQL can say of their files, and rows that refer to nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from db.engine import is_sqlite
from db.tables import Base
from db.whole import is_the_archives

__all__ = ["Reference", "problems", "references"]

#: Problems of one kind that are told one by one.
_TOLD = 20
#: Natural keys: columns of these names mean rows of these tables, whether or not a foreign key says so.
_NATURAL = {"frame_id": "frame", "source_id": "source", "night_id": "night", "field_id": "field"}
#: The function that compares an index with its table, by its whole name, where the extension is there and this role may call it.
_AMCHECK = """
SELECT p.oid::regproc FROM pg_extension e
JOIN pg_proc p ON p.pronamespace = e.extnamespace AND p.proname = 'bt_index_check' AND p.pronargs = 2
WHERE e.extname = 'amcheck' AND has_function_privilege(p.oid, 'EXECUTE')
""".strip()
#: PostgreSQL's state: a right is missing, which says nothing of a table.
_NO_RIGHT = "42501"


@dataclass(frozen=True)
class Reference:
    """A column whose values are keys of another table.

    Attributes
    ----------
    table, column : str
        Where the values are.
    parent, key : str
        What they refer to.
    nullable : bool
        Whether a row may do without.
    enforced : bool
        Whether a foreign key says so.
    """

    table: str
    column: str
    parent: str
    key: str
    nullable: bool
    enforced: bool

    @property
    def dangling(self) -> str:
        """SQL condition of the rows that refer to nothing."""
        there = f'SELECT 1 FROM "{self.parent}" parent WHERE parent."{self.key}" = "{self.table}"."{self.column}"'
        return f'"{self.table}"."{self.column}" IS NOT NULL AND NOT EXISTS ({there})'


def references() -> list[Reference]:
    """Every column that refers to a row: by a foreign key, or by a natural key alone."""
    found = []
    for table in Base.metadata.sorted_tables:
        for column in table.columns:
            nullable = bool(column.nullable)
            keys = {(key.column.table.name, key.column.name) for key in column.foreign_keys}
            found += [Reference(table.name, column.name, *key, nullable, enforced=True) for key in sorted(keys)]
            parent = _NATURAL.get(column.name)
            if parent not in (None, table.name) and not keys:
                found.append(Reference(table.name, column.name, str(parent), column.name, nullable, enforced=False))
    return found


def problems(engine: Engine) -> Iterator[str]:
    """What is wrong with an archive, a line each; nothing when it is whole. Reads all of it."""
    with engine.connect() as connection:
        try:
            yield from _of_sqlite(connection) if is_sqlite(connection) else _of_postgresql(connection)
            for reference in references():
                # SQLite's own check, above, has looked at foreign keys; PostgreSQL keeps them, unless someone had it look away.
                if not (reference.enforced and is_sqlite(connection)):
                    yield from _dangling(connection, reference)
        except sa.exc.DBAPIError as error:
            if not is_the_archives(error):
                raise
            yield f"a table cannot be read: {_line(error)}"


def _line(error: sa.exc.DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0]


def _of_sqlite(connection: Connection) -> Iterator[str]:
    for (answer,) in connection.exec_driver_sql(f"PRAGMA integrity_check({_TOLD})"):
        if answer != "ok":
            yield from str(answer).splitlines()
    counts: dict[tuple[str, str], int] = {}
    for table, _, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        counts[table, parent] = counts.get((table, parent), 0) + 1
    for (table, parent), count in counts.items():
        yield f"{count} rows of {table} refer to rows of {parent} that are not there"


def _dangling(connection: Connection, reference: Reference) -> Iterator[str]:
    count = connection.exec_driver_sql(f'SELECT count(*) FROM "{reference.table}" WHERE {reference.dangling}').scalar_one()
    if count:
        yield f"{count} rows of {reference.table} refer to rows of {reference.parent} that are not there, by {reference.column}"


def _of_postgresql(connection: Connection) -> Iterator[str]:
    loose = (
        "SELECT relname FROM pg_class c WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace"
        " AND relname ~ '^closed_measurement_n-?[0-9]+$' AND NOT EXISTS (SELECT 1 FROM pg_inherits WHERE inhrelid = c.oid)"
    )
    for (name,) in connection.exec_driver_sql(loose.replace("%", "%%")):
        yield f"{name} is no partition of closed_measurement: its rows are not seen"
    for table in Base.metadata.sorted_tables:
        yield from _refused(connection, f'SELECT count(*) FROM "{table.name}"', table.name)
    check = connection.exec_driver_sql(_AMCHECK).scalar_one_or_none()
    if check is None:
        return
    indexes = (
        "SELECT c.oid, c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam"
        " WHERE a.amname = 'btree' AND c.relkind = 'i' AND i.indisvalid AND c.relnamespace = current_schema()::regnamespace"
    )
    for oid, name in connection.exec_driver_sql(indexes).all():
        yield from _refused(connection, f"SELECT {check}({int(oid)}, true)", name)


def _refused(connection: Connection, statement: str, name: str) -> Iterator[str]:
    """What PostgreSQL says against a statement that only looks at a table or an index."""
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(statement)
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated or getattr(error.orig, "pgcode", None) == _NO_RIGHT:
            raise
        yield f"{name}: {_line(error)}"
