"""Statistics of tables, by which the planner of either engine chooses: made anew when there is so much more than they tell of."""

from __future__ import annotations

import math
from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db.engine import is_sqlite

__all__ = ["FEW_ROWS", "GROWTH", "MANY_ROWS", "has_grown", "make_statistics", "rows_told"]

#: Statistics are made anew when there is so many times as much as at the last time.
GROWTH = 1.2
#: Rows of each index that SQLite's statistics are made from: of a step's tables, and of those that all steps write, since a run on one
#: night would else read an archive's every row.
MANY_ROWS, FEW_ROWS = 100_000, 1000


def has_grown(before: int, more: int) -> bool:
    """Whether a power of `GROWTH` lies between what a step had done and what it has done now."""
    first, last = (math.floor(math.log(number) / math.log(GROWTH)) if number > 0 else -1 for number in (before, before + more))
    return last > first


def make_statistics(connection: Connection, table: str, n_row: int) -> None:
    """Make statistics of a table, on SQLite from about so many rows of each index; PostgreSQL takes a sample by itself."""
    if is_sqlite(connection):
        connection.exec_driver_sql(f"PRAGMA analysis_limit = {n_row}")
    connection.exec_driver_sql(f'ANALYZE "{table}"')


def rows_told(connection: Connection, tables: Collection[str]) -> dict[str, float]:
    """Rows that each of some tables has by its statistics; 0 without any."""
    told = dict.fromkeys(tables, 0.0)
    if not is_sqlite(connection):
        text = "SELECT relname, reltuples FROM pg_class WHERE relname IN :tables AND relkind IN ('r', 'p') AND pg_table_is_visible(oid)"
        for name, number in connection.execute(sa.text(text).bindparams(sa.bindparam("tables", list(tables), expanding=True))):
            told[name] = max(float(number), 0.0)  # -1: never made
    elif connection.exec_driver_sql("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_stat1'").first() is not None:
        text = "SELECT tbl, stat FROM sqlite_stat1 WHERE tbl IN :tables"
        for name, stat in connection.execute(sa.text(text).bindparams(sa.bindparam("tables", list(tables), expanding=True))):
            told[name] = float(stat.split()[0])
    return told
