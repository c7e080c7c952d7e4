"""How the bulk tables lie on the disk: what PostgreSQL is to do with a partition to which nothing is added any more."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from db.bulk import PARTITION_NIGHTS, partition_name
from db.engine import is_sqlite

__all__ = ["settle", "vacuum"]


def vacuum(engine: Engine, table: str, *options: str) -> None:
    """Have PostgreSQL give free the space of a table's rows that are gone, outside of any transaction; SQLite uses it again by itself."""
    if is_sqlite(engine):
        return
    words = f"({', '.join(options)}) " if options else ""
    _alone(engine, f'VACUUM {words}"{table}"')


def _alone(engine: Engine, statement: str) -> None:
    """Run a statement that no transaction may hold."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(statement)


def settle(engine: Engine, night_id: int) -> list[str]:
    """Freeze the partitions of `closed_measurement` whose nights are all over and closed, those that are not frozen yet.

    A frozen partition is never rewritten, and read without looking at transactions. Its index is made anew, without gaps.

    Parameters
    ----------
    engine : Engine
        A writer's.
    night_id : int
        The night that it is now, at Greenwich.

    Returns
    -------
    list of str
        Names of the partitions that were frozen now; none on SQLite.
    """
    if is_sqlite(engine):
        return []
    partitions = sa.text(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'closed_measurement'::regclass"
        " AND c.relallvisible < pg_relation_size(c.oid) / CAST(current_setting('block_size') AS int)"
    )
    with engine.connect() as connection:
        found = set(connection.execute(partitions).scalars())
        is_open = "EXISTS (SELECT 1 FROM open_measurement o WHERE o.night_id = n.night_id)"
        nights = connection.execute(sa.text(f"SELECT n.night_id, {is_open} FROM night n")).all()
    blocks = sorted({night // PARTITION_NIGHTS for night, _ in nights})
    opened = {night // PARTITION_NIGHTS for night, waits in nights if waits}
    done = [partition_name("closed_measurement", block * PARTITION_NIGHTS) for block in blocks if _is_over(block, night_id, opened)]
    frozen = [name for name in done if name in found]
    if frozen:
        with engine.begin() as connection:
            # Rows of a commit that is not on the disk yet are not taken for visible, and a server may be set not to wait for it: a commit
            # that writes something, and waits, brings the earlier ones there.
            connection.exec_driver_sql("SET LOCAL synchronous_commit = on")
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = version_num")
    for name in frozen:
        # Each night came in between the sources of the nights before: the pages of the index are two thirds full.
        _alone(engine, f'REINDEX TABLE CONCURRENTLY "{name}"')
        vacuum(engine, name, "FREEZE", "ANALYZE")
    return frozen


def _is_over(block: int, night_id: int, opened: set[int]) -> bool:
    # A day later, it is over west of Greenwich, too.
    return (block + 1) * PARTITION_NIGHTS < night_id and block not in opened
