"""passwords leave the commands of earlier runs

Revision ID: 0025
Revises: 0024
"""

from __future__ import annotations

import shlex

import sqlalchemy as sa
from alembic import op

from db.passwords import command_line, masked

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def _clean(command: str) -> str:
    try:
        return command_line(shlex.split(command))
    except ValueError:  # no shell takes it: its words are not known
        return masked(command)


def upgrade() -> None:
    run = sa.table("run", sa.column("run_id", sa.Integer), sa.column("command", sa.Text))
    bind = op.get_bind()
    for run_id, command in bind.execute(sa.select(run.c.run_id, run.c.command).where(run.c.command.contains("://"))).all():
        clean = _clean(command)
        if clean != command:
            bind.execute(sa.update(run).where(run.c.run_id == run_id).values(command=clean))


def downgrade() -> None:
    """What was masked does not come back."""
