"""maps of the profile of stars, and which stars they are from

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_KIND = "'psf': the light's own profile, integrated over pixels; 'prf': a pixel's response; 'shape': of the shape map"
_PIXEL = "Width of the sensitive part of a pixel that it is integrated over; 0 for a PRF [pixel]"
_COEFF = "JSON object: knots and coefficients, as reduction.photometry.kernels.psf_map reads them"


def _column(name: str, kind: sa.types.TypeEngine[Any], comment: str, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=null, comment=comment)


def upgrade() -> None:
    op.create_table(
        "psf_map",
        sa.Column("frame_id", sa.Integer(), autoincrement=False, nullable=False, comment="Frame"),
        _column("kind", sa.String(8), _KIND),
        _column("reason", sa.String(160), "Why it is of this kind"),
        _column("poly_order", sa.SmallInteger(), "Total degree in x, y"),
        _column("radius", sa.Double(), "The profile counts as far as this from a star [pixel]"),
        _column("pixel", sa.Double(), _PIXEL),
        _column("n_coeff", sa.Integer(), "Number of coefficients fitted"),
        _column("coeff", sa.Text(), _COEFF),
        _column("n_star", sa.Integer(), "Stars in the fit"),
        _column("chi2", sa.Double(), "Median reduced chi-square of these stars", null=True),
        _column("held_out", sa.Text(), "JSON list: reduced chi-square of stars left out, for each order tried", null=True),
        _column("roughness", sa.Double(), "Strength of the smoothing that predicts stars left out best", null=True),
        _column("fwhm", sa.Double(), "Full width at half maximum in the middle of the frame, as pixels show it [pixel]"),
        _column("shape_fwhm", sa.Double(), "The shape map's there [pixel]", null=True),
        sa.Column("task_id", sa.Integer(), nullable=False, comment="Task that made it"),
        sa.ForeignKeyConstraint(["frame_id"], ["frame.frame_id"], name=op.f("fk_psf_map_frame_id_frame")),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"], name=op.f("fk_psf_map_task_id_task")),
        sa.PrimaryKeyConstraint("frame_id", name=op.f("pk_psf_map")),
        comment="Smooth maps of the profile of stars, frame by frame",
    )
    op.create_table(
        "psf_star",
        sa.Column("night_id", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Night"),
        sa.Column("frame_id", sa.Integer(), autoincrement=False, nullable=False, comment="Frame"),
        sa.Column("source_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="Source"),
        _column("snr", sa.REAL(), "Signal to noise of its flux"),
        _column("chi2", sa.REAL(), "Reduced chi-square of its pixels about the map", null=True),
        sa.PrimaryKeyConstraint("night_id", "frame_id", "source_id", name=op.f("pk_psf_star")),
        comment="Stars that the profile maps were fitted to",
        postgresql_partition_by="RANGE (night_id)",
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("psf_star")
    op.drop_table("psf_map")
