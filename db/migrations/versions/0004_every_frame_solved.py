"""every frame solved

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_DETECTION = {
    "x_err": "Error of x [pixel]",
    "y_err": "Error of y [pixel]",
    "shape_s": "Shape s of the Gaussian exp(-(s (x^2 + y^2) + d (x^2 - y^2) + 2 k x y) / 2) [1/pixel^2]",
    "shape_d": "Shape d [1/pixel^2]",
    "shape_k": "Shape k [1/pixel^2]",
}

#: What the two tables of solutions share; rows of before were made by frames alone.
_SHARED = (
    "frame_id, ra0, dec0, poly_order, coeff, ra, dec, radius, corners, pixel_scale, rotation, parity, "
    "n_matched, n_catalogue, rms_x, rms_y, task_id"
)


def _solution() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("frame_id", sa.Integer(), autoincrement=False, nullable=False, comment="Frame"),
        sa.Column("ra0", sa.Double(), nullable=False, comment="Tangent point, right ascension [deg]"),
        sa.Column("dec0", sa.Double(), nullable=False, comment="Tangent point, declination [deg]"),
        sa.Column("poly_order", sa.SmallInteger(), nullable=False, comment="Total degree of the polynomials"),
        sa.Column(
            "coeff", sa.Text(), nullable=False, comment="JSON object: the solution's coefficients, as reduction.kernels.wcs reads them"
        ),
        sa.Column("ra", sa.Double(), nullable=False, comment="Right ascension of the frame's centre, ICRS [deg]"),
        sa.Column("dec", sa.Double(), nullable=False, comment="Declination of the frame's centre, ICRS [deg]"),
        sa.Column("radius", sa.Double(), nullable=False, comment="Distance of the farthest corner from the centre [deg]"),
        sa.Column("corners", sa.Text(), nullable=False, comment="JSON list: RA and Dec in degrees of the four corners"),
        sa.Column("pixel_scale", sa.Double(), nullable=False, comment="Pixel scale at the centre [arcsec/pixel]"),
        sa.Column("rotation", sa.Double(), nullable=False, comment="Position angle of +y, east of north [deg]"),
        sa.Column("parity", sa.SmallInteger(), nullable=False, comment="+1 or -1: sign of the determinant of the transformation"),
        sa.Column("n_matched", sa.Integer(), nullable=False, comment="Catalogue stars in the fit"),
        sa.Column("n_catalogue", sa.Integer(), nullable=False, comment="Catalogue stars on the frame that could be seen"),
        sa.Column("rms_x", sa.Double(), nullable=False, comment="Residual in x, 1.48 MAD, leave-one-out [pixel]"),
        sa.Column("rms_y", sa.Double(), nullable=False, comment="Residual in y, 1.48 MAD, leave-one-out [pixel]"),
        sa.Column(
            "chance", sa.Double(), nullable=True, comment="log10 of the probability that a wrong solution matches so many stars [dex]"
        ),
    ]


def _task(table: str, *parents: str) -> list[sa.schema.SchemaItem]:
    """The column task_id, and foreign keys of it and of other columns to the tables of their names."""
    keys = [
        sa.ForeignKeyConstraint([f"{parent}_id"], [f"{parent}.{parent}_id"], name=op.f(f"fk_{table}_{parent}_id"))
        for parent in (*parents, "task")
    ]
    return [sa.Column("task_id", sa.Integer(), nullable=False, comment="Task that made it"), *keys]


def _create_first_solution() -> None:
    op.create_table(
        "first_solution",
        *_solution(),
        sa.Column(
            "start",
            sa.String(length=24),
            nullable=False,
            comment="What it was started from: header, pointing, blind, neighbour; +pattern: by star patterns",
        ),
        *_task("first_solution", "frame"),
        sa.PrimaryKeyConstraint("frame_id", name=op.f("pk_first_solution")),
        comment="Plate solutions of each frame by itself",
    )


def _create_distortion() -> None:
    op.create_table(
        "distortion",
        sa.Column("setup_id", sa.Integer(), autoincrement=False, nullable=False, comment="Set-up"),
        sa.Column("channel", sa.String(length=8), autoincrement=False, nullable=False, comment="'mono', or the Bayer channel"),
        sa.Column("night_id", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Night"),
        sa.Column("poly_order", sa.SmallInteger(), nullable=False, comment="Total degree of the polynomials; 1: no distortion seen"),
        sa.Column("coeff", sa.Text(), nullable=False, comment="JSON object: the coefficients, as reduction.kernels.distortion reads them"),
        sa.Column("n_frame", sa.Integer(), nullable=False, comment="Frames it was fitted to: the night's first 4, 8, 16 ..."),
        sa.Column("n_pair", sa.Integer(), nullable=False, comment="Pairs of star and detection it was fitted to"),
        sa.Column("rms_x", sa.Double(), nullable=False, comment="Residual in x of stars left out of the fit, 1.48 MAD [pixel]"),
        sa.Column("rms_y", sa.Double(), nullable=False, comment="Residual in y of stars left out of the fit, 1.48 MAD [pixel]"),
        *_task("distortion", "setup", "night"),
        sa.PrimaryKeyConstraint("setup_id", "channel", "night_id", name=op.f("pk_distortion")),
        comment="Distortion of the optics by set-up, channel and night",
    )


def _create_match_and_coverage() -> None:
    op.create_table(
        "detection_match",
        sa.Column("night_id", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Night"),
        sa.Column("frame_id", sa.Integer(), autoincrement=False, nullable=False, comment="Frame"),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False, comment="Number of the detection on the frame"),
        sa.Column("source_id", sa.BigInteger(), nullable=False, comment="Source; in one match of a frame at most"),
        sa.Column(
            "dx",
            sa.REAL(),
            nullable=False,
            comment="Detected minus projected x; of stars that took part in the fit as if they had not [pixel]",
        ),
        sa.Column("dy", sa.REAL(), nullable=False, comment="Detected minus projected y, likewise [pixel]"),
        sa.Column(
            "in_fit",
            sa.SmallInteger(),
            nullable=False,
            comment="1 for a catalogue star of the fit, 2 for a discovered source of the fit, else 0",
        ),
        sa.PrimaryKeyConstraint("night_id", "frame_id", "number", name=op.f("pk_detection_match")),
        comment="Sources of the detections, with the residuals of the plate solution",
        postgresql_partition_by="RANGE (night_id)",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "frame_coverage",
        sa.Column("frame_id", sa.Integer(), autoincrement=False, nullable=False, comment="Frame"),
        sa.Column("lo", sa.BigInteger(), autoincrement=False, nullable=False, comment="First HEALPix number of the range"),
        sa.Column("hi", sa.BigInteger(), nullable=False, comment="First HEALPix number behind the range"),
        sa.Column("bucket", sa.Integer(), nullable=False, comment="HEALPix number of order 6 that holds the range: lo >> 46"),
        sa.PrimaryKeyConstraint("frame_id", "lo", name=op.f("pk_frame_coverage")),
        comment="Sky on each frame, HEALPix ranges (order 29, nested, half-open)",
    )
    with op.batch_alter_table("frame_coverage", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_frame_coverage_bucket_lo"), ["bucket", "lo"], unique=False)


def _create_shape_map() -> None:
    scatter = {
        "rms_s": "Scatter of s about the map, 1.48 MAD, of stars left out [1/pixel^2]",
        "rms_d": "Scatter of d, likewise [1/pixel^2]",
        "rms_k": "Scatter of k, likewise [1/pixel^2]",
    }
    op.create_table(
        "shape_map",
        sa.Column("frame_id", sa.Integer(), autoincrement=False, nullable=False, comment="Frame"),
        sa.Column("poly_order", sa.SmallInteger(), nullable=False, comment="Total degree in x, y"),
        sa.Column(
            "coeff", sa.Text(), nullable=False, comment="JSON object: the map's coefficients, as reduction.kernels.shapemap reads them"
        ),
        sa.Column("n_star", sa.Integer(), nullable=False, comment="Stars in the fit"),
        sa.Column("fwhm", sa.Double(), nullable=False, comment="Full width at half maximum in the middle of the frame [pixel]"),
        sa.Column("ellipticity", sa.Double(), nullable=False, comment="1 - minor/major axis in the middle of the frame"),
        sa.Column("theta", sa.Double(), nullable=False, comment="Angle of the major axis there, from +x towards +y [rad]"),
        *(sa.Column(name, sa.Double(), nullable=False, comment=comment) for name, comment in scatter.items()),
        *_task("shape_map", "frame"),
        sa.PrimaryKeyConstraint("frame_id", name=op.f("pk_shape_map")),
        comment="Smooth maps of star shapes, frame by frame",
    )


#: New columns of wcs_solution, with what rows of before get where they may not be NULL.
_FINAL: dict[str, tuple[Any, str | None, str]] = {
    "chance": (sa.Double(), None, "log10 of the probability that a wrong solution matches so many stars [dex]"),
    "n_secondary": (sa.Integer(), "0", "Discovered sources in the fit"),
    "distortion": (sa.String(length=8), "'own'", "'night' when the night's distortion was used, 'own' when the frame's own"),
    "warning": (sa.Text(), None, "What is doubtful about it"),
    "fits": (sa.Text(), None, "JSON object: keywords and values of the solution as a FITS WCS (TAN-SIP)"),
    "fits_error": (sa.Double(), None, "Largest deviation of that FITS WCS from the solution on the frame [pixel]"),
}


def _create_refused_frame() -> None:
    op.create_table(
        "refused_frame",
        sa.Column("task_id", sa.Integer(), autoincrement=False, nullable=False, comment="Task that made no master"),
        sa.Column("frame_id", sa.Integer(), autoincrement=False, nullable=False, comment="Frame"),
        sa.Column("reason", sa.Text(), nullable=False, comment="Why it was refused"),
        sa.ForeignKeyConstraint(["frame_id"], ["frame.frame_id"], name=op.f("fk_refused_frame_frame_id")),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"], name=op.f("fk_refused_frame_task_id")),
        sa.PrimaryKeyConstraint("task_id", "frame_id", name=op.f("pk_refused_frame")),
        comment="Frames refused where no master came of their set",
    )


def upgrade() -> None:
    for name, comment in _DETECTION.items():
        op.add_column("detection", sa.Column(name, sa.REAL(), nullable=True, comment=comment))
    _create_first_solution()
    _create_distortion()
    _create_match_and_coverage()
    _create_shape_map()
    _create_refused_frame()
    op.execute(f"INSERT INTO first_solution ({_SHARED}, start) SELECT {_SHARED}, start FROM wcs_solution")
    for name, (kind, value, comment) in _FINAL.items():
        op.add_column("wcs_solution", sa.Column(name, kind, nullable=True, comment=comment))
        if value is not None:
            op.execute(f"UPDATE wcs_solution SET {name} = {value}")
    with op.batch_alter_table("wcs_solution") as batch_op:
        for name, (kind, value, comment) in _FINAL.items():
            if value is not None:
                batch_op.alter_column(name, existing_type=kind, existing_comment=comment, nullable=False)
        batch_op.drop_column("start")
    if op.get_bind().dialect.name != "sqlite":
        op.execute("COMMENT ON TABLE wcs_solution IS 'Plate solutions, final'")


def downgrade() -> None:
    op.add_column(
        "wcs_solution",
        sa.Column("start", sa.String(length=16), nullable=True, comment="What it was started from: header, pointing, blind or neighbour"),
    )
    op.execute(
        "UPDATE wcs_solution SET start = coalesce("
        "(SELECT substr(f.start, 1, 16) FROM first_solution f WHERE f.frame_id = wcs_solution.frame_id), 'unknown')"
    )
    with op.batch_alter_table("wcs_solution") as batch_op:
        batch_op.alter_column(
            "start",
            existing_type=sa.String(length=16),
            existing_comment="What it was started from: header, pointing, blind or neighbour",
            nullable=False,
        )
        for name in _FINAL:
            batch_op.drop_column(name)
    if op.get_bind().dialect.name != "sqlite":
        op.execute("COMMENT ON TABLE wcs_solution IS 'Plate solutions'")
    with op.batch_alter_table("frame_coverage", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_frame_coverage_bucket_lo"))
    for table in ("refused_frame", "shape_map", "frame_coverage", "detection_match", "distortion", "first_solution"):
        op.drop_table(table)
    for name in _DETECTION:
        op.drop_column("detection", name)
