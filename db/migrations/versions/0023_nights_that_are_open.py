"""nights that are open: results that are provisional, and when a night was closed

Revision ID: 0023
Revises: 0022
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "night_closing",
        sa.Column("night_id", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Night"),
        sa.Column("by_hand", sa.SmallInteger(), nullable=False, comment="1 when a person closed it, 0 when it was over"),
        sa.Column("closed", sa.DateTime(), nullable=False, comment="When, UTC"),
        sa.PrimaryKeyConstraint("night_id", name=op.f("pk_night_closing")),
        comment="Nights that were closed, at the noon after them or by a person before",
    )
    op.create_table(
        "provisional_result",
        sa.Column("task_id", sa.Integer(), autoincrement=False, nullable=False, comment="The task"),
        sa.Column("night_id", sa.SmallInteger(), nullable=False, comment="The night that was open"),
        sa.Column("summary", sa.Text(), nullable=False, comment="JSON object: what later results of the same unit are compared with"),
        sa.Column("final_task_id", sa.Integer(), nullable=True, comment="Task made of the whole night; NULL until then"),
        sa.Column(
            "change",
            sa.Double(),
            nullable=True,
            comment="How far that one is off, in units of the tolerance; NULL until then, or where no number says it",
        ),
        sa.Column(
            "stands",
            sa.SmallInteger(),
            nullable=False,
            comment="1 when frames made with it need not be made anew: the change is within the tolerance; else 0",
        ),
        sa.ForeignKeyConstraint(["final_task_id"], ["task.task_id"], name=op.f("fk_provisional_result_final_task_id")),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"], name=op.f("fk_provisional_result_task_id")),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_provisional_result")),
        comment="Results of nights that were open, and how far what the whole night gave is from them",
    )
    op.create_index(op.f("ix_provisional_result_night_id_final_task_id"), "provisional_result", ["night_id", "final_task_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_provisional_result_night_id_final_task_id"), table_name="provisional_result")
    op.drop_table("provisional_result")
    op.drop_table("night_closing")
