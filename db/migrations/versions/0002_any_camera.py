"""any camera

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


#: New columns with what rows of before get, where they may not be NULL.
_FILLED: dict[str, dict[str, Any]] = {
    "calibrated_frame": {
        "n_saturated": (sa.Integer(), "0", "Saturated pixels [pixel]"),
        "n_cosmic": (sa.Integer(), "0", "Pixels hit by cosmic rays [pixel]"),
    },
    "frame": {
        "setup_id": (sa.Integer(), "instrument_id", "Set-up of the camera"),
        "raw_x0": (sa.Integer(), "0", "Column of the raw file that the frame's first column is: raw x = raw_x0 + raw_step x [pixel]"),
        "raw_y0": (sa.Integer(), "0", "Row of the raw file that the frame's first row is: raw y = raw_y0 + raw_step y [pixel]"),
        "raw_step": (
            sa.SmallInteger(),
            "1",
            "Pixels of the raw file from one of the frame's to the next: 2 for a Bayer channel, else 1 [pixel]",
        ),
    },
    "master": {
        "setup_id": (sa.Integer(), "instrument_id", "Set-up of the camera"),
        "valid_from": (sa.Double(), "jd_utc - 1", "It serves frames from this Julian date UTC on [d]"),
        "valid_until": (sa.Double(), "jd_utc + 1", "It serves frames up to this Julian date UTC [d]"),
        "max_ratio": (
            sa.Double(),
            "1",
            "A dark may be scaled to exposures shorter by this factor, where measured darks show linearity; 1: never",
        ),
        "from_sky": (sa.SmallInteger(), "0", "1 for a flat made of object frames, else 0"),
        "n_bad_pixel": (sa.Integer(), "0", "Masked pixels: hot, dead or without a value [pixel]"),
    },
}

_FREE: dict[str, dict[str, Any]] = {
    "exposure": {
        "bayer": (sa.String(4), "Colours of the 2x2 pixels at the origin of the array, row by row, such as RGGB; NULL when monochrome"),
        "lens": (sa.String(128), "Lens that the header names"),
        "aperture": (sa.Double(), "F-number of the lens that the header gives"),
        "black_level": (sa.Double(), "Level without light that the header or the definition gives [ADU]"),
        "original_sha256": (sa.String(64), "SHA-256 of the camera's file that this FITS file was converted from; NULL for an original"),
        "duplicate_of": (sa.Integer(), "The same exposure in another file, which has the frames; NULL for the only or first one"),
        "product_id": (sa.Integer(), "The FITS file made from a camera's own format; NULL when the raw file is FITS"),
    },
    "frame": {
        "type_evidence": (sa.Text(), "JSON object: the numbers behind the type (step sort)"),
        "type_disagrees": (sa.SmallInteger(), "1 when the header says that it is of another type, else 0 (step sort)"),
    },
    "master": {
        "temperature_tolerance": (
            sa.Double(),
            "A dark serves frames whose detector was this much warmer or colder; NULL: at any temperature [deg C]",
        ),
        "bias_master_id": (sa.Integer(), "Master bias taken off its frames; NULL: none"),
        "warning": (sa.Text(), "What is doubtful about it"),
    },
}

#: Foreign keys of the new columns.
_KEYS: dict[str, dict[str, tuple[str, str]]] = {
    "exposure": {"duplicate_of": ("exposure", "exposure_id"), "product_id": ("product", "product_id")},
    "frame": {"setup_id": ("setup", "setup_id")},
    "master": {"setup_id": ("setup", "setup_id"), "bias_master_id": ("master", "master_id")},
}


#: Comments that say something else now: table, column, before, after. SQLite keeps none.
_COMMENTS = (
    (
        "calibrated_frame",
        "product_id",
        "File with the planes SCI, VAR and MASK",
        "File with the planes SCI, ERR and MASK; NULL when it is not kept and made anew when needed",
    ),
    ("frame", "channel", "'mono', or the Bayer channel", "'mono', or the Bayer channel: R, G1, G2, B (G1 shares its rows with R)"),
    (
        "master",
        "kind",
        "bias, dark, flat, or pattern: what hot pixels add, from object frames without a dark",
        "bias, dark, largescale (smoothed flats), flat, or pattern: what hot pixels add, from object frames without a dark",
    ),
    ("master", "ccd_temperature", "Mean detector temperature [deg C]", "Mean detector temperature; NULL when unknown [deg C]"),
    ("master", "product_id", "File", "File with the planes SCI, VAR, MASK and COUNT"),
    (
        "passband",
        "name",
        "Name as the headers give it; 'unknown' when they do not",
        "Name as the headers give it, and the colour of a Bayer channel; 'unknown' when there is neither",
    ),
    (
        "product",
        "kind",
        "'bias', 'dark', 'flat', 'pattern', 'calibrated', 'background'",
        "'raw' (converted), 'bias', 'dark', 'largescale', 'flat', 'pattern', 'calibrated', 'background'",
    ),
)


def _comment(after: bool) -> None:
    if op.get_bind().dialect.name == "sqlite":
        return
    for table, name, old, new in _COMMENTS:
        text = (new if after else old).replace("'", "''")
        op.execute(f"COMMENT ON COLUMN {table}.{name} IS '{text}'")
    text = "Master calibration frames" if after else "Master bias, dark and flat frames"
    op.execute(f"COMMENT ON TABLE master IS '{text}'")


def _levels() -> list[sa.Column[Any]]:
    return [
        sa.Column("gain", sa.Double(), nullable=False, comment="Gain [electron/ADU]"),
        sa.Column("gain_err", sa.Double(), nullable=True, comment="Error of the gain; NULL when given [electron/ADU]"),
        sa.Column(
            "gain_source", sa.String(length=64), nullable=False, comment="How the gain came about: 'given', or what it was measured from"
        ),
        sa.Column("read_noise", sa.Double(), nullable=False, comment="Read noise [electron]"),
        sa.Column("read_noise_source", sa.String(length=64), nullable=False, comment="How the read noise came about"),
        sa.Column(
            "zero_level", sa.Double(), nullable=False, comment="Level of a pixel without light, for frames without a bias master [ADU]"
        ),
        sa.Column("zero_level_source", sa.String(length=64), nullable=False, comment="How the zero level came about"),
        sa.Column(
            "saturation",
            sa.Double(),
            nullable=True,
            comment="Raw level at which a pixel is saturated; NULL when none was seen or given [ADU]",
        ),
        sa.Column("saturation_source", sa.String(length=64), nullable=False, comment="How the saturation level came about"),
    ]


def _task() -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("task_id", sa.Integer(), nullable=False, comment="Task that made it"),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"], name=op.f("fk_detector_task_id")),
    ]


def _create_detector() -> None:
    op.create_table(
        "detector",
        sa.Column("setup_id", sa.Integer(), autoincrement=False, nullable=False, comment="Set-up"),
        sa.Column("channel", sa.String(length=8), autoincrement=False, nullable=False, comment="'mono', or the Bayer channel"),
        sa.Column("night_id", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Night"),
        *_levels(),
        sa.Column(
            "linearity",
            sa.Text(),
            nullable=True,
            comment="JSON list c1, c2 ...: light = s (1 + c1 s + c2 s^2 ...) for a signal of s ADU; NULL: taken as linear",
        ),
        *_task(),
        sa.ForeignKeyConstraint(["setup_id"], ["setup.setup_id"], name=op.f("fk_detector_setup_id")),
        sa.ForeignKeyConstraint(["night_id"], ["night.night_id"], name=op.f("fk_detector_night_id")),
        sa.PrimaryKeyConstraint("setup_id", "channel", "night_id", name=op.f("pk_detector")),
        comment="Gain, read noise, levels and linearity by set-up, channel and night",
    )


def _create_old_detector() -> None:
    op.create_table(
        "detector",
        sa.Column("instrument_id", sa.Integer(), autoincrement=False, nullable=False, comment="Instrument"),
        sa.Column("night_id", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Night"),
        *_levels(),
        *_task(),
        sa.ForeignKeyConstraint(["instrument_id"], ["instrument.instrument_id"], name=op.f("fk_detector_instrument_id")),
        sa.ForeignKeyConstraint(["night_id"], ["night.night_id"], name=op.f("fk_detector_night_id")),
        sa.PrimaryKeyConstraint("instrument_id", "night_id", name=op.f("pk_detector")),
        comment="Gain, read noise and levels by instrument and night",
    )


def _create_tables() -> None:
    op.create_table(
        "setup",
        sa.Column("setup_id", sa.Integer(), autoincrement=False, nullable=False, comment="Surrogate key"),
        sa.Column("instrument_id", sa.Integer(), nullable=False, comment="Instrument"),
        sa.Column("binning_x", sa.SmallInteger(), nullable=False, comment="Binning along x [pixel]"),
        sa.Column("binning_y", sa.SmallInteger(), nullable=False, comment="Binning along y [pixel]"),
        sa.Column(
            "gain_setting", sa.Double(), nullable=True, comment="The camera's own gain setting or ISO speed; NULL when the header has none"
        ),
        sa.Column("offset_setting", sa.Double(), nullable=True, comment="The camera's own offset setting; NULL when the header has none"),
        sa.Column("read_mode", sa.String(length=64), nullable=True, comment="Read-out mode; NULL when the header has none"),
        sa.ForeignKeyConstraint(["instrument_id"], ["instrument.instrument_id"], name=op.f("fk_setup_instrument_id")),
        sa.PrimaryKeyConstraint("setup_id", name=op.f("pk_setup")),
        comment="Set-ups of cameras: what frames must share to share masters",
    )
    with op.batch_alter_table("setup", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_setup_instrument_id"), ["instrument_id"], unique=False)

    op.create_table(
        "dark_linearity",
        sa.Column("long_master_id", sa.Integer(), autoincrement=False, nullable=False, comment="Master dark of the longer exposures"),
        sa.Column("short_master_id", sa.Integer(), autoincrement=False, nullable=False, comment="Master dark of the shorter exposures"),
        sa.Column("ratio", sa.Double(), nullable=False, comment="Ratio of the exposure times"),
        sa.Column("slope", sa.Double(), nullable=False, comment="Ratio of the dark signals of warm pixels"),
        sa.Column("slope_err", sa.Double(), nullable=False, comment="Error of the slope"),
        sa.Column("n_pixel", sa.Integer(), nullable=False, comment="Warm pixels compared [pixel]"),
        sa.Column(
            "is_linear",
            sa.SmallInteger(),
            nullable=False,
            comment="1 when slope and ratio agree within the limit of step linearity, else 0",
        ),
        sa.Column("task_id", sa.Integer(), nullable=False, comment="Task that made it"),
        sa.ForeignKeyConstraint(["long_master_id"], ["master.master_id"], name=op.f("fk_dark_linearity_long_master_id")),
        sa.ForeignKeyConstraint(["short_master_id"], ["master.master_id"], name=op.f("fk_dark_linearity_short_master_id")),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"], name=op.f("fk_dark_linearity_task_id")),
        sa.PrimaryKeyConstraint("long_master_id", "short_master_id", name=op.f("pk_dark_linearity")),
        comment="Pairs of master darks compared: does the dark signal grow with the exposure time?",
    )
    op.create_table(
        "exposure_statistics",
        sa.Column("exposure_id", sa.Integer(), autoincrement=False, nullable=False, comment="Exposure"),
        sa.Column(
            "statistics", sa.Text(), nullable=False, comment="JSON object: name and value of each statistic, and what the header adds"
        ),
        sa.Column("task_id", sa.Integer(), nullable=False, comment="Task that made it"),
        sa.ForeignKeyConstraint(["exposure_id"], ["exposure.exposure_id"], name=op.f("fk_exposure_statistics_exposure_id")),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"], name=op.f("fk_exposure_statistics_task_id")),
        sa.PrimaryKeyConstraint("exposure_id", name=op.f("pk_exposure_statistics")),
        comment="Statistics of the raw pixels: the evidence for sorting",
    )
    op.create_table(
        "type_correction",
        sa.Column("correction_id", sa.Integer(), autoincrement=False, nullable=False, comment="Surrogate key"),
        sa.Column("exposure_id", sa.Integer(), nullable=False, comment="Exposure"),
        sa.Column(
            "type",
            sa.String(length=8),
            nullable=True,
            comment="bias, dark, flat, object or other; NULL: the correction before it is taken back",
        ),
        sa.Column("reason", sa.Text(), nullable=False, comment="Why"),
        sa.Column("author", sa.String(length=64), nullable=False, comment="Who said so"),
        sa.Column("created", sa.DateTime(), nullable=False, comment="When [UTC]"),
        sa.ForeignKeyConstraint(["exposure_id"], ["exposure.exposure_id"], name=op.f("fk_type_correction_exposure_id")),
        sa.PrimaryKeyConstraint("correction_id", name=op.f("pk_type_correction")),
        comment="A person's corrections of the types of exposures",
    )
    with op.batch_alter_table("type_correction", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_type_correction_exposure_id"), ["exposure_id"], unique=False)

    op.create_table(
        "master_choice",
        sa.Column("choice_id", sa.Integer(), autoincrement=False, nullable=False, comment="Surrogate key"),
        sa.Column("kind", sa.String(length=16), nullable=False, comment="bias, dark or flat"),
        sa.Column("setup_id", sa.Integer(), nullable=False, comment="Set-up of the frames"),
        sa.Column("channel", sa.String(length=8), nullable=False, comment="'mono', or the Bayer channel"),
        sa.Column("night_id", sa.SmallInteger(), nullable=True, comment="For the frames of this night; NULL when for one frame"),
        sa.Column("frame_id", sa.Integer(), nullable=True, comment="For this frame; NULL when for a night"),
        sa.Column("master_id", sa.Integer(), nullable=True, comment="The master to use; NULL: none at all"),
        sa.Column("is_active", sa.SmallInteger(), nullable=False, comment="1; 0 when it was taken back"),
        sa.Column("reason", sa.Text(), nullable=False, comment="Why"),
        sa.Column("author", sa.String(length=64), nullable=False, comment="Who said so"),
        sa.Column("created", sa.DateTime(), nullable=False, comment="When [UTC]"),
        sa.ForeignKeyConstraint(["frame_id"], ["frame.frame_id"], name=op.f("fk_master_choice_frame_id")),
        sa.ForeignKeyConstraint(["master_id"], ["master.master_id"], name=op.f("fk_master_choice_master_id")),
        sa.ForeignKeyConstraint(["night_id"], ["night.night_id"], name=op.f("fk_master_choice_night_id")),
        sa.ForeignKeyConstraint(["setup_id"], ["setup.setup_id"], name=op.f("fk_master_choice_setup_id")),
        sa.PrimaryKeyConstraint("choice_id", name=op.f("pk_master_choice")),
        comment="A person's choices of masters, over the rule's",
    )
    with op.batch_alter_table("master_choice", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_master_choice_kind_night_id_frame_id"), ["kind", "night_id", "frame_id"], unique=False)


def _add_columns() -> None:
    for table, columns in _FREE.items():
        for name, (kind, comment) in columns.items():
            op.add_column(table, sa.Column(name, kind, nullable=True, comment=comment))
    for table, filled in _FILLED.items():
        for name, (kind, value, comment) in filled.items():
            op.add_column(table, sa.Column(name, kind, nullable=True, comment=comment))
            op.execute(f"UPDATE {table} SET {name} = {value}")
        with op.batch_alter_table(table) as batch_op:
            for name, (kind, _, comment) in filled.items():
                batch_op.alter_column(name, existing_type=kind, existing_comment=comment, nullable=False)
    for table, keys in _KEYS.items():
        with op.batch_alter_table(table) as batch_op:
            for name, (parent, key) in keys.items():
                batch_op.create_foreign_key(batch_op.f(f"fk_{table}_{name}"), parent, [name], [key])


def upgrade() -> None:
    _create_tables()
    # Frames of before had one set-up an instrument, as far as anybody knew.
    op.execute(
        "INSERT INTO setup (setup_id, instrument_id, binning_x, binning_y) SELECT instrument_id, instrument_id, 1, 1 FROM instrument"
    )
    _add_columns()
    with op.batch_alter_table("master") as batch_op:
        batch_op.drop_index(batch_op.f("ix_master_instrument_id_kind"))
        batch_op.drop_constraint(batch_op.f("fk_master_instrument_id"), type_="foreignkey")
        batch_op.drop_column("instrument_id")
        batch_op.alter_column("kind", existing_type=sa.String(length=8), type_=sa.String(length=16), existing_nullable=False)
        batch_op.create_index(batch_op.f("ix_master_setup_id_channel_kind"), ["setup_id", "channel", "kind"], unique=False)
    with op.batch_alter_table("calibrated_frame") as batch_op:
        batch_op.alter_column("product_id", existing_type=sa.Integer(), nullable=True)
    # What these two hold is measured anew by the next run.
    op.drop_table("frame_statistics")
    op.drop_table("detector")
    _create_detector()
    _comment(after=True)


def downgrade() -> None:
    _comment(after=False)
    op.drop_table("detector")
    _create_old_detector()
    op.create_table(
        "frame_statistics",
        sa.Column("frame_id", sa.Integer(), autoincrement=False, nullable=False, comment="Frame"),
        sa.Column("statistics", sa.Text(), nullable=False, comment="JSON object: name and value of each statistic"),
        sa.Column("task_id", sa.Integer(), nullable=False, comment="Task that made it"),
        sa.ForeignKeyConstraint(["frame_id"], ["frame.frame_id"], name=op.f("fk_frame_statistics_frame_id")),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"], name=op.f("fk_frame_statistics_task_id")),
        sa.PrimaryKeyConstraint("frame_id", name=op.f("pk_frame_statistics")),
        comment="Statistics of the raw pixels: the evidence for sorting",
    )
    op.execute("DELETE FROM calibrated_frame WHERE product_id IS NULL")
    with op.batch_alter_table("calibrated_frame") as batch_op:
        batch_op.alter_column("product_id", existing_type=sa.Integer(), nullable=False)
    for table in ("type_correction", "master_choice", "exposure_statistics", "dark_linearity"):
        op.drop_table(table)
    op.execute("DELETE FROM master_frame WHERE master_id IN (SELECT master_id FROM master WHERE kind = 'largescale')")
    op.execute("DELETE FROM master WHERE kind = 'largescale'")
    op.add_column("master", sa.Column("instrument_id", sa.Integer(), nullable=True, comment="Instrument"))
    op.execute("UPDATE master SET instrument_id = (SELECT s.instrument_id FROM setup s WHERE s.setup_id = master.setup_id)")
    with op.batch_alter_table("master") as batch_op:
        batch_op.drop_index(batch_op.f("ix_master_setup_id_channel_kind"))
        batch_op.alter_column("instrument_id", existing_type=sa.Integer(), existing_comment="Instrument", nullable=False)
        batch_op.create_foreign_key(batch_op.f("fk_master_instrument_id"), "instrument", ["instrument_id"], ["instrument_id"])
        batch_op.create_index(batch_op.f("ix_master_instrument_id_kind"), ["instrument_id", "kind"], unique=False)
        batch_op.alter_column("kind", existing_type=sa.String(length=16), type_=sa.String(length=8), existing_nullable=False)
    for table, keys in _KEYS.items():
        with op.batch_alter_table(table) as batch_op:
            for name in keys:
                batch_op.drop_constraint(batch_op.f(f"fk_{table}_{name}"), type_="foreignkey")
    for columns in (_FILLED, _FREE):
        for table, names in columns.items():
            with op.batch_alter_table(table) as batch_op:
                for name in names:
                    batch_op.drop_column(name)
    op.drop_table("setup")
