"""what there was when a step had nothing pending: the last task, and how many were done; bad products are found by an index

Revision ID: 0020
Revises: 0018
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0018"
branch_labels = None
depends_on = None

_GROUND = "SHA-256 over parameters and what people said: the guard without tasks"
_LAST_TASK = "Last task that there was: what is new since has a higher number"
_N_DONE = "Its tasks that were done"


def _column(name: str, kind: Any, comment: str) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False, comment=comment)


def upgrade() -> None:
    # What was known of the steps is asked anew: the guards are made in another way.
    op.execute("DELETE FROM step_check")
    with op.batch_alter_table("step_check") as table:
        table.add_column(_column("ground", sa.String(64), _GROUND))
        table.add_column(_column("last_task", sa.Integer(), _LAST_TASK))
        table.add_column(_column("n_done", sa.Integer(), _N_DONE))
    op.create_index(op.f("ix_product_is_bad"), "product", ["is_bad"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_product_is_bad"), table_name="product")
    op.execute("DELETE FROM step_check")
    with op.batch_alter_table("step_check") as table:
        for name in ("ground", "last_task", "n_done"):
            table.drop_column(name)
