"""verdicts on frames, and what people say against them; terms that were chosen for a reference

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

    op.create_table(
        "term_score",
        sa.Column(
            "reference_id",
            sa.Integer(),
            autoincrement=False,
            nullable=False,
            comment="Reference",
        ),
        sa.Column(
            "number",
            sa.SmallInteger(),
            autoincrement=False,
            nullable=False,
            comment="Place in the order in which they were tried, from 0",
        ),
        sa.Column(
            "name",
            sa.String(length=24),
            nullable=False,
            comment="'order 2', or '+ colour' for one more term",
        ),
        sa.Column(
            "n_term",
            sa.SmallInteger(),
            nullable=False,
            comment="Terms in all",
        ),
        sa.Column(
            "is_chosen",
            sa.SmallInteger(),
            nullable=False,
            comment="1: it was taken",
        ),
        sa.Column(
            "loss",
            sa.Double(),
            nullable=True,
            comment="Mean squared residual over its error, bounded; NULL: stars are too few",
        ),
        sa.Column(
            "gain",
            sa.Double(),
            nullable=True,
            comment="What the loss falls by: from order 0, or from what was chosen before",
        ),
        sa.Column(
            "gain_err",
            sa.Double(),
            nullable=True,
            comment="Its error, over the stars",
        ),
        sa.Column(
            "scatter",
            sa.Double(),
            nullable=True,
            comment="Scatter of the better measured half, 1.48 MAD [mag]",
        ),
        sa.PrimaryKeyConstraint("reference_id", "number", name=op.f("pk_term_score")),
        comment="Orders and terms that were tried for the fits to a reference",
        sqlite_with_rowid=False,
    )
    op.add_column(
        "magfit_reference",
        sa.Column(
            "fit_order",
            sa.SmallInteger(),
            nullable=True,
            comment="Degree in position of the fits to it; NULL: made before it was kept here",
        ),
    )
    op.add_column(
        "magfit_reference",
        sa.Column(
            "fit_terms",
            sa.Text(),
            nullable=True,
            comment="Further terms of the fits to it, by name, with spaces between; NULL as fit_order",
        ),
    )


def downgrade() -> None:
    with op.batch_alter_table("magfit_reference") as table:
        table.drop_column("fit_terms")
        table.drop_column("fit_order")
    op.drop_table("term_score")
    op.drop_table("kept_frame")
    op.drop_table("frame_verdict")
