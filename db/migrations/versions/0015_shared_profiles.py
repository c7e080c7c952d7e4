"""profile maps that few-starred frames of a night share, and which map each of them is measured with

Revision ID: 0015
Revises: 0014
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_KIND = "'psf': the light's own profile, integrated over pixels; 'prf': a pixel's response"
_SEEING = "Median full width at half maximum of its frames, as their detections have it [pixel]"
_RADIUS = "The profile counts as far as this from a star, where a frame's width is 1 [pixel]"
_PIXEL = "Width of the sensitive part of a pixel that it is integrated over; 0 for a PRF [pixel]"
_COEFF = "JSON object: knots and coefficients, as reduction.photometry.kernels.psf_map reads them"
_FWHM = "Full width at half maximum in the middle, as pixels show it, where the width is 1 [pixel]"
_FOLD = "Part of the frames that it belongs to, from 0: place in shared_psf.left_out"
_USES = "'own': that of psf_map, of whatever kind it is; 'shared': that of shared_psf"
_WIDTH = "How many times as wide as the shared map's its profile is"
_OWN = "Geometric mean of their reduced chi-squares about its own map, made without each"


def _column(name: str, kind: sa.types.TypeEngine[Any], comment: str, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=null, comment=comment)


def _key(name: str, kind: sa.types.TypeEngine[Any], comment: str) -> sa.Column[Any]:
    return sa.Column(name, kind, autoincrement=False, nullable=False, comment=comment)


def _refers(table: str, column: str, other: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{other}.{column}"], name=op.f(f"fk_{table}_{column}_{other}"))


def upgrade() -> None:
    op.create_table(
        "shared_psf",
        _key("setup_id", sa.Integer(), "Set-up"),
        _key("channel", sa.String(8), "'mono', or the Bayer channel"),
        _key("night_id", sa.SmallInteger(), "Night"),
        _key("number", sa.SmallInteger(), "Number of the map among those of the night, from 0"),
        _column("passband_id", sa.Integer(), "Filter"),
        _column("kind", sa.String(8), _KIND),
        _column("seeing", sa.Double(), _SEEING),
        _column("n_frame", sa.Integer(), "Frames in the fit"),
        _column("n_star", sa.Integer(), "Stars in the fit, those of each frame counted"),
        _column("poly_order", sa.SmallInteger(), "Total degree in x, y"),
        _column("radius", sa.Double(), _RADIUS),
        _column("pixel", sa.Double(), _PIXEL),
        _column("n_coeff", sa.Integer(), "Number of coefficients fitted"),
        _column("coeff", sa.Text(), _COEFF),
        _column("left_out", sa.Text(), "JSON list of such objects: the map without each part of its frames"),
        _column("chi2", sa.Double(), "Median reduced chi-square of these stars"),
        _column("held_out", sa.Text(), "JSON list: reduced chi-square of frames left out, for each order tried"),
        _column("roughness", sa.Double(), "Strength of the smoothing that predicts frames left out best"),
        _column("terms", sa.String(80), "Further terms of the map, one word each: 'colour', 'brightness'"),
        _column("fwhm", sa.Double(), _FWHM),
        _column("task_id", sa.Integer(), "Task that made it"),
        _refers("shared_psf", "setup_id", "setup"),
        _refers("shared_psf", "night_id", "night"),
        _refers("shared_psf", "passband_id", "passband"),
        _refers("shared_psf", "task_id", "task"),
        sa.PrimaryKeyConstraint("setup_id", "channel", "night_id", "number", name=op.f("pk_shared_psf")),
        comment="Profile maps that several few-starred frames of a night share; rows count while their task is done",
    )
    op.create_table(
        "shared_psf_frame",
        _key("frame_id", sa.Integer(), "Frame"),
        _column("setup_id", sa.Integer(), "Set-up"),
        _column("channel", sa.String(8), "'mono', or the Bayer channel"),
        _column("night_id", sa.SmallInteger(), "Night"),
        _column("number", sa.SmallInteger(), "Number of the map"),
        _column("fold", sa.SmallInteger(), _FOLD),
        _column("width", sa.Double(), "How many times as wide as the map's its profile is"),
        _column("n_star", sa.Integer(), "Its stars in the fit"),
        _column("task_id", sa.Integer(), "Task that made it"),
        _refers("shared_psf_frame", "frame_id", "frame"),
        _refers("shared_psf_frame", "setup_id", "setup"),
        _refers("shared_psf_frame", "night_id", "night"),
        _refers("shared_psf_frame", "task_id", "task"),
        sa.PrimaryKeyConstraint("frame_id", name=op.f("pk_shared_psf_frame")),
        comment="Frames that the shared profile maps were fitted to; rows count while their task is done",
    )
    place = ["setup_id", "channel", "night_id"]
    op.create_index(op.f("ix_shared_psf_frame_setup_id_channel_night_id"), "shared_psf_frame", place, unique=False)
    op.create_table(
        "psf_choice",
        _key("frame_id", sa.Integer(), "Frame"),
        _column("uses", sa.String(8), _USES),
        _column("reason", sa.String(160), "Why"),
        _column("number", sa.SmallInteger(), "Number of the shared map of like seeing; NULL for none", null=True),
        _column("width", sa.Double(), _WIDTH, null=True),
        _column("n_star", sa.Integer(), "Its stars that both maps were tried on"),
        _column("own_chi2", sa.Double(), _OWN, null=True),
        _column("shared_chi2", sa.Double(), "The same about the shared map, made without the frame", null=True),
        _column("task_id", sa.Integer(), "Task that made it"),
        _refers("psf_choice", "frame_id", "frame"),
        _refers("psf_choice", "task_id", "task"),
        sa.PrimaryKeyConstraint("frame_id", name=op.f("pk_psf_choice")),
        comment="Which profile map a few-starred frame is measured with; rows count while their task is done",
    )
    op.create_index(op.f("ix_psf_map_n_star"), "psf_map", ["n_star"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_psf_map_n_star"), table_name="psf_map")
    op.drop_table("psf_choice")
    op.drop_index(op.f("ix_shared_psf_frame_setup_id_channel_night_id"), table_name="shared_psf_frame")
    op.drop_table("shared_psf_frame")
    op.drop_table("shared_psf")
