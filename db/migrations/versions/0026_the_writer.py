"""the one writer stands in the archive

Revision ID: 0026
Revises: 0025
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "writer",
        sa.Column("writer_id", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Always 1"),
        sa.Column("token", sa.String(length=32), nullable=False, comment="Random: which claim this is"),
        sa.Column("host", sa.String(length=255), nullable=False, comment="Host name"),
        sa.Column("process", sa.Integer(), nullable=False, comment="Number of the process on that host"),
        sa.Column("process_started", sa.DateTime(), nullable=False, comment="When that process began, UTC: numbers are given again"),
        sa.Column("since", sa.DateTime(), nullable=False, comment="When it began to write, UTC"),
        sa.Column("heartbeat", sa.DateTime(), nullable=False, comment="Its last commit, UTC"),
        sa.PrimaryKeyConstraint("writer_id", name=op.f("pk_writer")),
        comment="The program that writes to the archive now",
    )


def downgrade() -> None:
    op.drop_table("writer")
