"""verdicts on frames, and what people say against them

Revision ID: 0021
Revises: 0020
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "frame_verdict",
        sa.Column("reference_id", sa.Integer(), autoincrement=False, nullable=False, comment="Reference"),
        sa.Column("frame_id", sa.Integer(), autoincrement=False, nullable=False, comment="Frame"),
        sa.Column("verdict", sa.String(length=13), nullable=False, comment="'kept', 'down-weighted' or 'excluded'"),
        sa.Column(
            "factor",
            sa.REAL(),
            nullable=False,
            comment="What the weight of its measurements is multiplied by: 1 kept, 0 excluded",
        ),
        sa.Column("is_overruled", sa.SmallInteger(), nullable=False, comment="1: a person keeps it, whatever the numbers say"),
        sa.Column("reason", sa.Text(), nullable=True, comment="Why, in words and numbers; NULL: nothing to say"),
        sa.Column(
            "extinction", sa.REAL(), nullable=True, comment="Light lost by all stars alike, beyond the night's course with airmass [mag]"
        ),
        sa.Column(
            "pattern", sa.REAL(), nullable=True, comment="Scatter of residuals over the field beyond their errors, medians of cells [mag]"
        ),
        sa.Column("pattern_sigma", sa.REAL(), nullable=True, comment="How certain the pattern is, in standard deviations"),
        sa.Column("scatter_ratio", sa.REAL(), nullable=True, comment="Scatter of stars within the cells, over that of the night"),
        sa.Column("fwhm_ratio", sa.REAL(), nullable=True, comment="FWHM over that of the night"),
        sa.Column("elongation", sa.REAL(), nullable=True, comment="Ellipticity less that of the night"),
        sa.Column("sky_ratio", sa.REAL(), nullable=True, comment="Sky over that of the night"),
        sa.PrimaryKeyConstraint("reference_id", "frame_id", name=op.f("pk_frame_verdict")),
        comment="Verdicts on frames: clouds, trails, bad focus",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "kept_frame",
        sa.Column("frame_id", sa.Integer(), autoincrement=False, nullable=False, comment="Frame"),
        sa.Column("reason", sa.Text(), nullable=False, comment="Why"),
        sa.Column("author", sa.String(length=64), nullable=False, comment="Who said so"),
        sa.Column("created", sa.DateTime(), nullable=False, comment="When, UTC"),
        sa.PrimaryKeyConstraint("frame_id", name=op.f("pk_kept_frame")),
        comment="Frames that people keep, over the verdict of the fit",
    )


def downgrade() -> None:
    op.drop_table("kept_frame")
    op.drop_table("frame_verdict")
