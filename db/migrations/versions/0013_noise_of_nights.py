"""noise of nights

Revision ID: 0013
Revises: 0012
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "night_noise",
        sa.Column("reference_id", sa.Integer(), autoincrement=False, nullable=False, comment="Reference"),
        sa.Column("slot", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Photometry slot"),
        sa.Column("night_id", sa.Integer(), autoincrement=False, nullable=False, comment="Night"),
        sa.Column("n_frame", sa.Integer(), nullable=False, comment="Frames that tell"),
        sa.Column("mag_floor", sa.Double(), nullable=False, comment="Scatter that does not depend on airmass and exposure [mag]"),
        sa.Column("mag_floor_err", sa.Double(), nullable=False, comment="Its error [mag]"),
        sa.Column(
            "scintillation",
            sa.Double(),
            nullable=False,
            comment="Scatter times the root of 2 t that rises as airmass^1.75 [mag s(1/2)]",
        ),
        sa.Column("scintillation_err", sa.Double(), nullable=False, comment="Its error [mag s(1/2)]"),
        sa.PrimaryKeyConstraint("reference_id", "slot", "night_id", name=op.f("pk_night_noise")),
        comment="Floor and scintillation of each night, per slot",
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("night_noise")
