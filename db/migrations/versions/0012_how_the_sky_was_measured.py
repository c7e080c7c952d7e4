"""how the sky was measured

Revision ID: 0012
Revises: 0009
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0009"
branch_labels = None
depends_on = None

_COLUMNS: tuple[sa.Column[Any], ...] = (
    sa.Column("box", sa.Integer(), nullable=True, comment="Side of the boxes that the map is made of [pixel]"),
    sa.Column("smooth", sa.Double(), nullable=True, comment="Standard deviation of the Gaussian that smooths them [pixel]"),
    sa.Column("structure", sa.Double(), nullable=True, comment="Scatter of the boxes about the map beyond their noise [adu]"),
    sa.Column(
        "wing_light", sa.Double(), nullable=True, comment="Light of stars beyond their masks that was taken off, mean over the sky [adu]"
    ),
    sa.Column("n_hiding", sa.Integer(), nullable=True, comment="Stars that hide some of the sky"),
    sa.Column(
        "ring_inner", sa.Double(), nullable=True, comment="Inner radius of the rings about sources; NULL where the map serves all [pixel]"
    ),
    sa.Column(
        "ring_outer", sa.Double(), nullable=True, comment="Outer radius of the rings about sources; NULL where the map serves all [pixel]"
    ),
)


def upgrade() -> None:
    with op.batch_alter_table("frame_background") as table:
        for column in _COLUMNS:
            table.add_column(column.copy())


def downgrade() -> None:
    with op.batch_alter_table("frame_background") as table:
        for column in reversed(_COLUMNS):
            table.drop_column(column.name)
