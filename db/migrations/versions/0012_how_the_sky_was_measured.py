"""how the sky was measured

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


_RING = "radius of the rings about sources; NULL where the map serves all [pixel]"


def _column(name: str, kind: sa.types.TypeEngine[Any], comment: str) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=True, comment=comment)


def _columns() -> tuple[sa.Column[Any], ...]:
    return (
        _column("box", sa.Integer(), "Side of the boxes that the map is made of [pixel]"),
        _column("smooth", sa.Double(), "Standard deviation of the Gaussian that smooths them [pixel]"),
        _column("structure", sa.Double(), "Scatter of the boxes about the map beyond their noise [adu]"),
        _column("wing_light", sa.Double(), "Light of stars beyond their masks that was taken off, mean over the sky [adu]"),
        _column("n_hiding", sa.Integer(), "Stars that hide some of the sky"),
        _column("ring_inner", sa.Double(), f"Inner {_RING}"),
        _column("ring_outer", sa.Double(), f"Outer {_RING}"),
    )


def upgrade() -> None:
    with op.batch_alter_table("frame_background") as table:
        for column in _columns():
            table.add_column(column)


def downgrade() -> None:
    with op.batch_alter_table("frame_background") as table:
        for column in reversed(_columns()):
            table.drop_column(column.name)
