"""measurements of open nights stand in the order in which they come, those of closed nights in the order of the sources

Revision ID: 0016
Revises: 0015
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from db.bulk import ensure_partitions
from db.engine import is_sqlite

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_BEFORE = "Fluxes of each source on each frame, written once"
_CLOSED = "Fluxes of each source on each frame of the nights that are over"
_OPEN = "Fluxes of each source on each frame of the nights that are not over"

#: What follows the key.
_COLUMNS: tuple[tuple[str, sa.types.TypeEngine[Any], str, bool], ...] = (
    ("flags", sa.Integer(), "Bits of db.flags.Flag", False),
    ("x", sa.REAL(), "Projected position x, 0-based pixel centres [pixel]", False),
    ("y", sa.REAL(), "Projected position y, 0-based pixel centres [pixel]", False),
    ("background", sa.REAL(), "Background at the source, per pixel [adu]", True),
    ("background_err", sa.REAL(), "Its error, fully correlated over an aperture [adu]", True),
    ("psf_chi2", sa.REAL(), "Reduced chi-square of the PSF fit", True),
    *(
        (name, sa.REAL(), comment, True)
        for slot in range(8)
        for name, comment in (
            (f"flux_{slot}", f"{'PSF flux' if slot == 0 else f'Flux of aperture slot {slot}'}, per exposure [adu]"),
            (f"flux_err_{slot}", f"Error of flux_{slot} [adu]"),
        )
    ),
)


#: Foreign keys of bulk rows: PostgreSQL looks each one up, which takes two thirds of the time of a million stars.
_LOOKED_UP = (
    ("source", "task_id", "task"),
    ("source_magnitude", "catalogue_id", "catalogue"),
    ("source_name", "catalogue_id", "catalogue"),
)


def _key(name: str, kind: sa.types.TypeEngine[Any], comment: str) -> sa.Column[Any]:
    return sa.Column(name, kind, autoincrement=False, nullable=False, comment=comment)


def upgrade() -> None:
    _rename("measurement", "closed_measurement", _CLOSED)
    op.create_table(
        "open_measurement",
        _key("source_id", sa.BigInteger(), "Source"),
        _key("night_id", sa.SmallInteger(), "Night"),
        _key("frame_id", sa.Integer(), "Frame"),
        *(sa.Column(name, kind, nullable=null, comment=comment) for name, kind, comment, null in _COLUMNS),
        sa.PrimaryKeyConstraint("night_id", "frame_id", "source_id", name=op.f("pk_open_measurement")),
        comment=_OPEN,
        sqlite_with_rowid=False,
    )
    for table, column, _ in _LOOKED_UP:
        with op.batch_alter_table(table) as batch:
            batch.drop_constraint(batch.f(f"fk_{table}_{column}"), type_="foreignkey")


def downgrade() -> None:
    connection = op.get_bind()
    for table, column, other in _LOOKED_UP:
        with op.batch_alter_table(table) as batch:
            batch.create_foreign_key(batch.f(f"fk_{table}_{column}"), other, [column], [column])
    nights = [row[0] for row in connection.exec_driver_sql("SELECT DISTINCT night_id FROM open_measurement")]
    if not is_sqlite(connection):
        ensure_partitions(connection, "closed_measurement", nights)
    names = ", ".join(["source_id", "night_id", "frame_id", *(column[0] for column in _COLUMNS)])
    connection.exec_driver_sql(
        f"INSERT INTO closed_measurement ({names}) SELECT {names} FROM open_measurement ORDER BY source_id, night_id, frame_id"
    )
    op.drop_table("open_measurement")
    _rename("closed_measurement", "measurement", _BEFORE)
    # An older version has no such step: before revision 0005, another one had its name.
    tasks = "SELECT task_id FROM task WHERE step = 'extract'"
    connection.exec_driver_sql(f"DELETE FROM lineage WHERE task_id IN ({tasks})")
    connection.exec_driver_sql("DELETE FROM task WHERE step = 'extract'")
    connection.exec_driver_sql("DELETE FROM step_check WHERE step = 'extract'")


def _rename(before: str, after: str, comment: str) -> None:
    """Rename the partitioned table; on PostgreSQL its partitions and their keys as well."""
    connection = op.get_bind()
    if is_sqlite(connection):
        op.rename_table(before, after)
        return
    query = f"SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = '{before}'::regclass"
    for (name,) in connection.exec_driver_sql(query).all():
        other = name.replace(before, after, 1)
        op.rename_table(name, other)
        connection.exec_driver_sql(f'ALTER INDEX IF EXISTS "{name}_pkey" RENAME TO "{other}_pkey"')
    op.rename_table(before, after)
    connection.exec_driver_sql(f"ALTER INDEX pk_{before} RENAME TO pk_{after}")
    op.create_table_comment(after, comment)
