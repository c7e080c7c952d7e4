"""where a target's position and ephemeris are from

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_COLUMNS = {
    "position_from": "Service and reference that the position is from; NULL: a person gave it",
    "ephemeris_from": "Service and reference that the ephemeris is from, and what of it a person gave; NULL: all of it",
}
_EPOCH = ("A mid-transit or maximum, BJD_TDB [d]", "A mid-transit, or a maximum or minimum of a variable, BJD_TDB [d]")


def _comment(text: str) -> None:
    if op.get_bind().dialect.name != "sqlite":  # SQLite keeps none
        op.execute(f"COMMENT ON COLUMN target.epoch IS '{text}'")


def upgrade() -> None:
    for name, comment in _COLUMNS.items():
        op.add_column("target", sa.Column(name, sa.String(160), nullable=True, comment=comment))
    _comment(_EPOCH[1])


def downgrade() -> None:
    _comment(_EPOCH[0])
    with op.batch_alter_table("target") as batch_op:
        for name in reversed(_COLUMNS):
            batch_op.drop_column(name)
