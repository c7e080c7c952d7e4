"""fluxes at the positions of targets

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_SOURCE = "The source that it is on this frame, and whose place it takes; NULL: a star of its own"
_ERROR = "Its error, the same for all pixels of the profile [adu]"
_FLUX = "Flux fitted with the profile map, per exposure; NULL where no pixel counts [adu]"
_NEIGHBOURS = "What a fit of it alone would take from other stars' light [adu]"


def _key(name: str, kind: sa.types.TypeEngine[Any], comment: str) -> sa.Column[Any]:
    return sa.Column(name, kind, autoincrement=False, nullable=False, comment=comment)


def _column(name: str, kind: sa.types.TypeEngine[Any], comment: str, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=null, comment=comment)


def upgrade() -> None:
    op.create_table(
        "target_measurement",
        _key("night_id", sa.SmallInteger(), "Night"),
        _key("frame_id", sa.Integer(), "Frame"),
        _key("target_id", sa.Integer(), "Target"),
        _column("source_id", sa.BigInteger(), _SOURCE, null=True),
        _column("flags", sa.Integer(), "Bits of db.flags.Flag"),
        _column("x", sa.REAL(), "Position x, 0-based pixel centres [pixel]"),
        _column("y", sa.REAL(), "Position y, 0-based pixel centres [pixel]"),
        _column("background", sa.REAL(), "Background there, per pixel [adu]", null=True),
        _column("background_err", sa.REAL(), _ERROR, null=True),
        _column("flux", sa.REAL(), _FLUX, null=True),
        _column("flux_err", sa.REAL(), "Its error, with the background's [adu]", null=True),
        _column("chi2", sa.REAL(), "Reduced chi-square of the pixels of its profile", null=True),
        _column("neighbour_flux", sa.REAL(), _NEIGHBOURS, null=True),
        _column("task_id", sa.Integer(), "Task that made it"),
        sa.PrimaryKeyConstraint("night_id", "frame_id", "target_id", name=op.f("pk_target_measurement")),
        comment="Fluxes at the positions of targets, frame by frame; rows count while their task is done",
        postgresql_partition_by="RANGE (night_id)",
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_target_measurement_target_id"), "target_measurement", ["target_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_target_measurement_target_id"), table_name="target_measurement")
    op.drop_table("target_measurement")
