"""what is pending: stale tasks, their facts and files, and what there was when a step had nothing pending

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    facts = "SHA-256 of what it depends on besides its inputs, such as how other steps work; '' for nothing"
    stale = "1 when something that it was made from was made anew or has failed since, else 0"
    with op.batch_alter_table("task") as task:
        task.add_column(sa.Column("facts", sa.String(64), nullable=False, server_default="", comment=facts))
        task.add_column(sa.Column("path", sa.Text(), nullable=True, comment="Absolute path of the file, where the step works on files"))
        task.add_column(sa.Column("is_stale", sa.SmallInteger(), nullable=False, server_default="0", comment=stale))
        task.create_index("ix_task_step_frame_id", ["step", "frame_id"])
        task.create_index("ix_task_step_status_is_stale_task_id", ["step", "status", "is_stale", "task_id"])
    with op.batch_alter_table("task") as task:
        task.alter_column("facts", server_default=None)
        task.alter_column("is_stale", server_default=None)
    _paths_from_messages()
    op.create_table(
        "step_check",
        sa.Column("step", sa.String(32), autoincrement=False, nullable=False, comment="Name of the step"),
        sa.Column(
            "guard",
            sa.String(64),
            nullable=False,
            comment="SHA-256 over parameters, the tasks of the step and of its inputs, and what people said",
        ),
        sa.Column(
            "rules",
            sa.String(64),
            nullable=False,
            comment="SHA-256 over what its rules choose from, such as masters and catalogues; '' for none",
        ),
        sa.PrimaryKeyConstraint("step", name=op.f("pk_step_check")),
        comment="What there was when a step had last nothing pending",
    )


def _paths_from_messages() -> None:
    """Files that could not be taken in stood at the head of their task's message alone, before a colon that others may precede."""
    connection = op.get_bind()
    known = sa.text("UPDATE task SET path = (SELECT e.path FROM exposure e WHERE e.sha256 = task.unit) WHERE step = 'ingest'")
    connection.execute(known)
    failed = sa.text("SELECT task_id, message FROM task WHERE step = 'ingest' AND status = 'failed' AND path IS NULL")
    for task_id, message in connection.execute(failed).all():
        head, colon, _ = (message or "").partition(": ")
        if colon and head.startswith("/"):
            connection.execute(sa.text("UPDATE task SET path = :path WHERE task_id = :task"), {"path": head, "task": task_id})


def downgrade() -> None:
    op.drop_table("step_check")
    with op.batch_alter_table("task") as task:
        task.drop_index("ix_task_step_status_is_stale_task_id")
        task.drop_index("ix_task_step_frame_id")
        for name in ("is_stale", "path", "facts"):
            task.drop_column(name)
