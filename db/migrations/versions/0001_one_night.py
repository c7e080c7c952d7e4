"""one night

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _measurement_key() -> tuple[str, ...]:
    sqlite = op.get_bind().dialect.name == "sqlite"
    return ("night_id", "source_id", "frame_id") if sqlite else ("source_id", "night_id", "frame_id")


def upgrade() -> None:
    op.create_table(
        "annotation",
        sa.Column("annotation_id", sa.Integer(), autoincrement=False, nullable=False, comment="Surrogate key"),
        sa.Column("frame_id", sa.Integer(), nullable=False, comment="The frame"),
        sa.Column("source_id", sa.BigInteger(), nullable=True, comment="The source, or NULL for the whole frame"),
        sa.Column("reason", sa.Text(), nullable=False, comment="Why it is masked"),
        sa.Column("author", sa.String(length=64), nullable=False, comment="Who masked it"),
        sa.Column("created", sa.DateTime(), nullable=False, comment="When [UTC]"),
        sa.PrimaryKeyConstraint("annotation_id", name=op.f("pk_annotation")),
        comment="A person's maskings, with reasons",
    )
    with op.batch_alter_table("annotation", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_annotation_frame_id_source_id"), ["frame_id", "source_id"], unique=False)

    op.create_table(
        "best_slot",
        sa.Column("reference_id", sa.Integer(), autoincrement=False, nullable=False, comment="Reference"),
        sa.Column("source_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="Source"),
        sa.Column("slot", sa.SmallInteger(), nullable=False, comment="Photometry slot"),
        sa.PrimaryKeyConstraint("reference_id", "source_id", name=op.f("pk_best_slot")),
        comment="Slot of each source's light curve, by magnitude and crowding",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "config",
        sa.Column("config_id", sa.Integer(), autoincrement=False, nullable=False, comment="Surrogate key"),
        sa.Column(
            "kind",
            sa.String(length=16),
            nullable=False,
            comment="'step' for one step's parameters, 'user' for a configuration file's content",
        ),
        sa.Column("sha256", sa.String(length=64), nullable=False, comment="SHA-256 of kind and content"),
        sa.Column("content", sa.Text(), nullable=False, comment="Canonical JSON of the parameters"),
        sa.PrimaryKeyConstraint("config_id", name=op.f("pk_config")),
        sa.UniqueConstraint("sha256", name=op.f("uq_config_sha256")),
        comment="Sets of parameters, each stored once",
    )
    op.create_table(
        "detection",
        sa.Column("night_id", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Night"),
        sa.Column("frame_id", sa.Integer(), autoincrement=False, nullable=False, comment="Frame"),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False, comment="Number on the frame, from 0, brightest first"),
        sa.Column("x", sa.Double(), nullable=False, comment="Windowed centroid x, 0-based pixel centres [pixel]"),
        sa.Column("y", sa.Double(), nullable=False, comment="Windowed centroid y, 0-based pixel centres [pixel]"),
        sa.Column("flux", sa.REAL(), nullable=False, comment="Flux of the detection [ADU]"),
        sa.Column("flux_err", sa.REAL(), nullable=False, comment="Its error [ADU]"),
        sa.Column("peak", sa.REAL(), nullable=False, comment="Highest pixel above the background [ADU]"),
        sa.Column("fwhm", sa.REAL(), nullable=True, comment="Full width at half maximum [pixel]"),
        sa.Column("semi_major", sa.REAL(), nullable=True, comment="Semi-major axis, standard deviation [pixel]"),
        sa.Column("semi_minor", sa.REAL(), nullable=True, comment="Semi-minor axis, standard deviation [pixel]"),
        sa.Column("theta", sa.REAL(), nullable=True, comment="Angle of the major axis from +x towards +y [rad]"),
        sa.Column("flags", sa.Integer(), nullable=False, comment="Bits of db.flags.Flag"),
        sa.PrimaryKeyConstraint("night_id", "frame_id", "number", name=op.f("pk_detection")),
        comment="Detected sources, frame by frame",
        postgresql_partition_by="RANGE (night_id)",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "instrument",
        sa.Column("instrument_id", sa.Integer(), autoincrement=False, nullable=False, comment="Surrogate key"),
        sa.Column("name", sa.String(length=128), nullable=False, comment="Telescope and camera as the headers name them"),
        sa.Column("definition", sa.String(length=64), nullable=False, comment="Name of the definition that read its headers"),
        sa.Column("nx", sa.Integer(), nullable=False, comment="Width of its raw frames [pixel]"),
        sa.Column("ny", sa.Integer(), nullable=False, comment="Height of its raw frames [pixel]"),
        sa.PrimaryKeyConstraint("instrument_id", name=op.f("pk_instrument")),
        sa.UniqueConstraint("name", "nx", "ny", name=op.f("uq_instrument_name_nx_ny")),
        comment="Cameras on telescopes",
    )
    op.create_table(
        "lightcurve_statistics",
        sa.Column("reference_id", sa.Integer(), autoincrement=False, nullable=False, comment="Reference"),
        sa.Column("slot", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Photometry slot"),
        sa.Column("source_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="Source"),
        sa.Column("n_point", sa.Integer(), nullable=False, comment="Points with a magnitude"),
        sa.Column("n_good", sa.Integer(), nullable=False, comment="Points with quality 0"),
        sa.Column("mag_mean", sa.Double(), nullable=True, comment="Weighted mean magnitude [mag]"),
        sa.Column("mag_median", sa.Double(), nullable=True, comment="Median magnitude [mag]"),
        sa.Column("rms", sa.Double(), nullable=True, comment="Standard deviation [mag]"),
        sa.Column("mad_rms", sa.Double(), nullable=True, comment="1.48 times the median absolute deviation [mag]"),
        sa.Column("expected_rms", sa.Double(), nullable=True, comment="Root mean square of mag_err_total [mag]"),
        sa.Column("chi2", sa.Double(), nullable=True, comment="Reduced chi-square about the mean, with mag_err_total"),
        sa.Column("eta", sa.Double(), nullable=True, comment="Von Neumann ratio: 2 for white noise, less for smooth variation"),
        sa.Column("task_id", sa.Integer(), nullable=False, comment="Task that made it"),
        sa.PrimaryKeyConstraint("reference_id", "slot", "source_id", name=op.f("pk_lightcurve_statistics")),
        comment="Statistics of light curves, per source and slot",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "magfit_solution",
        sa.Column("frame_id", sa.Integer(), autoincrement=False, nullable=False, comment="Frame"),
        sa.Column("reference_id", sa.Integer(), autoincrement=False, nullable=False, comment="Reference"),
        sa.Column("slot", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Photometry slot"),
        sa.Column("fold", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Fold that the coefficients are for"),
        sa.Column(
            "measure_task",
            sa.Integer(),
            nullable=False,
            comment="Task whose measurements were fitted; stale unless frame.measure_task is the same",
        ),
        sa.Column("n_term", sa.SmallInteger(), nullable=False, comment="Terms used"),
        sa.Column("n_fit", sa.Integer(), nullable=False, comment="Stars used"),
        sa.Column("fit_rms", sa.Double(), nullable=False, comment="Weighted scatter of the stars used, held out [mag]"),
        sa.Column("zero_point_err", sa.Double(), nullable=False, comment="Error that the fit adds to a magnitude [mag]"),
        sa.Column(
            "mag_floor",
            sa.Double(),
            nullable=False,
            comment="Scatter of bright stars beyond their errors (scintillation and the like) [mag]",
        ),
        sa.Column("task_id", sa.Integer(), nullable=False, comment="Task that made it"),
        sa.Column("c_const", sa.Double(), nullable=False, comment="Coefficient of 1; 0 when unused [mag]"),
        sa.Column("c_x", sa.Double(), nullable=False, comment="Coefficient of X; 0 when unused [mag]"),
        sa.Column("c_y", sa.Double(), nullable=False, comment="Coefficient of Y; 0 when unused [mag]"),
        sa.Column("c_xx", sa.Double(), nullable=False, comment="Coefficient of X * X; 0 when unused [mag]"),
        sa.Column("c_xy", sa.Double(), nullable=False, comment="Coefficient of X * Y; 0 when unused [mag]"),
        sa.Column("c_yy", sa.Double(), nullable=False, comment="Coefficient of Y * Y; 0 when unused [mag]"),
        sa.Column("c_xxx", sa.Double(), nullable=False, comment="Coefficient of X * X * X; 0 when unused [mag]"),
        sa.Column("c_xxy", sa.Double(), nullable=False, comment="Coefficient of X * X * Y; 0 when unused [mag]"),
        sa.Column("c_xyy", sa.Double(), nullable=False, comment="Coefficient of X * Y * Y; 0 when unused [mag]"),
        sa.Column("c_yyy", sa.Double(), nullable=False, comment="Coefficient of Y * Y * Y; 0 when unused [mag]"),
        sa.Column("c_xxxx", sa.Double(), nullable=False, comment="Coefficient of X * X * X * X; 0 when unused [mag]"),
        sa.Column("c_xxxy", sa.Double(), nullable=False, comment="Coefficient of X * X * X * Y; 0 when unused [mag]"),
        sa.Column("c_xxyy", sa.Double(), nullable=False, comment="Coefficient of X * X * Y * Y; 0 when unused [mag]"),
        sa.Column("c_xyyy", sa.Double(), nullable=False, comment="Coefficient of X * Y * Y * Y; 0 when unused [mag]"),
        sa.Column("c_yyyy", sa.Double(), nullable=False, comment="Coefficient of Y * Y * Y * Y; 0 when unused [mag]"),
        sa.Column("c_colour", sa.Double(), nullable=False, comment="Coefficient of colour; 0 when unused [mag]"),
        sa.Column("c_colour2", sa.Double(), nullable=False, comment="Coefficient of colour * colour; 0 when unused [mag]"),
        sa.Column("c_colour_x", sa.Double(), nullable=False, comment="Coefficient of colour * X; 0 when unused [mag]"),
        sa.Column("c_colour_y", sa.Double(), nullable=False, comment="Coefficient of colour * Y; 0 when unused [mag]"),
        sa.Column("c_mag", sa.Double(), nullable=False, comment="Coefficient of mag; 0 when unused [mag]"),
        sa.Column("c_mag2", sa.Double(), nullable=False, comment="Coefficient of mag * mag; 0 when unused [mag]"),
        sa.Column("c_airmass", sa.Double(), nullable=False, comment="Coefficient of airmass; 0 when unused [mag]"),
        sa.Column("c_airmass_colour", sa.Double(), nullable=False, comment="Coefficient of airmass * colour; 0 when unused [mag]"),
        sa.Column("c_sin_x", sa.Double(), nullable=False, comment="Coefficient of sin_x; 0 when unused [mag]"),
        sa.Column("c_cos_x", sa.Double(), nullable=False, comment="Coefficient of cos_x; 0 when unused [mag]"),
        sa.Column("c_sin_y", sa.Double(), nullable=False, comment="Coefficient of sin_y; 0 when unused [mag]"),
        sa.Column("c_cos_y", sa.Double(), nullable=False, comment="Coefficient of cos_y; 0 when unused [mag]"),
        sa.PrimaryKeyConstraint("frame_id", "reference_id", "slot", "fold", name=op.f("pk_magfit_solution")),
        comment="Coefficients of the magnitude fits",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "measurement",
        sa.Column("source_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="Source"),
        sa.Column("night_id", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Night"),
        sa.Column("frame_id", sa.Integer(), autoincrement=False, nullable=False, comment="Frame"),
        sa.Column("flags", sa.Integer(), nullable=False, comment="Bits of db.flags.Flag"),
        sa.Column("x", sa.REAL(), nullable=False, comment="Projected position x, 0-based pixel centres [pixel]"),
        sa.Column("y", sa.REAL(), nullable=False, comment="Projected position y, 0-based pixel centres [pixel]"),
        sa.Column("background", sa.REAL(), nullable=True, comment="Background at the source, per pixel [ADU]"),
        sa.Column("background_err", sa.REAL(), nullable=True, comment="Its error, fully correlated over an aperture [ADU]"),
        sa.Column("psf_chi2", sa.REAL(), nullable=True, comment="Reduced chi-square of the PSF fit"),
        sa.Column("flux_0", sa.REAL(), nullable=True, comment="PSF flux, per exposure [ADU]"),
        sa.Column("flux_err_0", sa.REAL(), nullable=True, comment="Error of flux_0 [ADU]"),
        sa.Column("flux_1", sa.REAL(), nullable=True, comment="Flux of aperture slot 1, per exposure [ADU]"),
        sa.Column("flux_err_1", sa.REAL(), nullable=True, comment="Error of flux_1 [ADU]"),
        sa.Column("flux_2", sa.REAL(), nullable=True, comment="Flux of aperture slot 2, per exposure [ADU]"),
        sa.Column("flux_err_2", sa.REAL(), nullable=True, comment="Error of flux_2 [ADU]"),
        sa.Column("flux_3", sa.REAL(), nullable=True, comment="Flux of aperture slot 3, per exposure [ADU]"),
        sa.Column("flux_err_3", sa.REAL(), nullable=True, comment="Error of flux_3 [ADU]"),
        sa.Column("flux_4", sa.REAL(), nullable=True, comment="Flux of aperture slot 4, per exposure [ADU]"),
        sa.Column("flux_err_4", sa.REAL(), nullable=True, comment="Error of flux_4 [ADU]"),
        sa.Column("flux_5", sa.REAL(), nullable=True, comment="Flux of aperture slot 5, per exposure [ADU]"),
        sa.Column("flux_err_5", sa.REAL(), nullable=True, comment="Error of flux_5 [ADU]"),
        sa.Column("flux_6", sa.REAL(), nullable=True, comment="Flux of aperture slot 6, per exposure [ADU]"),
        sa.Column("flux_err_6", sa.REAL(), nullable=True, comment="Error of flux_6 [ADU]"),
        sa.Column("flux_7", sa.REAL(), nullable=True, comment="Flux of aperture slot 7, per exposure [ADU]"),
        sa.Column("flux_err_7", sa.REAL(), nullable=True, comment="Error of flux_7 [ADU]"),
        # A night's rows lie together in SQLite's one file; PostgreSQL's partitions do that for it.
        sa.PrimaryKeyConstraint(*_measurement_key(), name=op.f("pk_measurement")),
        comment="Fluxes of each source on each frame, written once",
        postgresql_partition_by="RANGE (night_id)",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "night",
        sa.Column(
            "night_id", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Days from 2000-01-01 of the evening's local date"
        ),
        sa.Column("evening", sa.String(length=10), nullable=False, comment="Local date of the evening, ISO"),
        sa.PrimaryKeyConstraint("night_id", name=op.f("pk_night")),
        comment="Nights",
    )
    op.create_table(
        "observatory",
        sa.Column("observatory_id", sa.Integer(), autoincrement=False, nullable=False, comment="Surrogate key"),
        sa.Column("name", sa.String(length=128), nullable=False, comment="Name as the headers or the definition give it"),
        sa.Column("latitude", sa.Double(), nullable=False, comment="Geodetic latitude [deg]"),
        sa.Column("longitude", sa.Double(), nullable=False, comment="Longitude, positive east [deg]"),
        sa.Column("height", sa.Double(), nullable=False, comment="Height above the ellipsoid; 0 when nobody gave it [m]"),
        sa.PrimaryKeyConstraint("observatory_id", name=op.f("pk_observatory")),
        sa.UniqueConstraint("name", "latitude", "longitude", name=op.f("uq_observatory_name_latitude_longitude")),
        comment="Places on the Earth",
    )
    op.create_table(
        "passband",
        sa.Column("passband_id", sa.Integer(), autoincrement=False, nullable=False, comment="Surrogate key"),
        sa.Column("name", sa.String(length=64), nullable=False, comment="Name as the headers give it; 'unknown' when they do not"),
        sa.PrimaryKeyConstraint("passband_id", name=op.f("pk_passband")),
        sa.UniqueConstraint("name", name=op.f("uq_passband_name")),
        comment="Filters",
    )
    op.create_table(
        "reference_magnitude",
        sa.Column("reference_id", sa.Integer(), autoincrement=False, nullable=False, comment="Reference"),
        sa.Column("slot", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Photometry slot"),
        sa.Column("source_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="Source"),
        sa.Column("mag", sa.Double(), nullable=False, comment="Magnitude [mag]"),
        sa.Column("mag_err", sa.Double(), nullable=False, comment="Its error [mag]"),
        sa.Column(
            "scatter",
            sa.Double(),
            nullable=True,
            comment="Scatter of the cross-fitted magnitudes about it, 1.48 MAD; NULL for one frame [mag]",
        ),
        sa.Column("n_frame", sa.Integer(), nullable=False, comment="Frames averaged"),
        sa.PrimaryKeyConstraint("reference_id", "slot", "source_id", name=op.f("pk_reference_magnitude")),
        comment="Magnitudes of the references",
        sqlite_with_rowid=False,
    )
    op.create_table(
        "target",
        sa.Column("target_id", sa.Integer(), autoincrement=False, nullable=False, comment="Surrogate key"),
        sa.Column("name", sa.String(length=64), nullable=False, comment="Name"),
        sa.Column("ra", sa.Double(), nullable=False, comment="Right ascension, ICRS [deg]"),
        sa.Column("dec", sa.Double(), nullable=False, comment="Declination, ICRS [deg]"),
        sa.Column("source_id", sa.BigInteger(), nullable=True, comment="Its source; NULL while none lies within the radius"),
        sa.Column("epoch", sa.Double(), nullable=True, comment="A mid-transit or maximum, BJD_TDB [d]"),
        sa.Column("period", sa.Double(), nullable=True, comment="Period [d]"),
        sa.Column("duration", sa.Double(), nullable=True, comment="Duration of the transit [d]"),
        sa.Column("created", sa.DateTime(), nullable=False, comment="When it was added [UTC]"),
        sa.PrimaryKeyConstraint("target_id", name=op.f("pk_target")),
        sa.UniqueConstraint("name", name=op.f("uq_target_name")),
        comment="Stars that people follow",
    )
    op.create_table(
        "field",
        sa.Column("field_id", sa.Integer(), autoincrement=False, nullable=False, comment="Surrogate key"),
        sa.Column("instrument_id", sa.Integer(), nullable=False, comment="Instrument"),
        sa.Column("passband_id", sa.Integer(), nullable=False, comment="Passband"),
        sa.Column("ra", sa.Double(), nullable=False, comment="Right ascension of the centre of the first frame, ICRS [deg]"),
        sa.Column("dec", sa.Double(), nullable=False, comment="Declination of the centre of the first frame, ICRS [deg]"),
        sa.Column("radius", sa.Double(), nullable=False, comment="Distance of the first frame's farthest corner from its centre [deg]"),
        sa.Column("corners", sa.Text(), nullable=False, comment="JSON list: RA and Dec in degrees of the first frame's corners"),
        sa.ForeignKeyConstraint(["instrument_id"], ["instrument.instrument_id"], name=op.f("fk_field_instrument_id")),
        sa.ForeignKeyConstraint(["passband_id"], ["passband.passband_id"], name=op.f("fk_field_passband_id")),
        sa.PrimaryKeyConstraint("field_id", name=op.f("pk_field")),
        comment="Patches of sky: same instrument and passband, footprints overlapping by half or more",
    )
    op.create_table(
        "run",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False, comment="Surrogate key"),
        sa.Column("command", sa.Text(), nullable=False, comment="Command as given"),
        sa.Column("version", sa.String(length=64), nullable=False, comment="Software version"),
        sa.Column("git_commit", sa.String(length=40), nullable=True, comment="Git commit of the software, where it runs from a checkout"),
        sa.Column("host", sa.String(length=255), nullable=False, comment="Host name"),
        sa.Column("user_config_id", sa.Integer(), nullable=True, comment="Configuration file in force"),
        sa.Column("started", sa.DateTime(), nullable=False, comment="Start of the run [UTC]"),
        sa.Column("finished", sa.DateTime(), nullable=True, comment="End of the run; NULL while running or when it was killed [UTC]"),
        sa.Column("exit_code", sa.Integer(), nullable=True, comment="Exit code; NULL while running or when it was killed"),
        sa.ForeignKeyConstraint(["user_config_id"], ["config.config_id"], name=op.f("fk_run_user_config_id")),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_run")),
        comment="Calls of the program that reduce",
    )
    op.create_table(
        "task",
        sa.Column("task_id", sa.Integer(), autoincrement=False, nullable=False, comment="Surrogate key"),
        sa.Column("step", sa.String(length=32), nullable=False, comment="Name of the step"),
        sa.Column("step_version", sa.Integer(), nullable=False, comment="Version of the step's algorithm"),
        sa.Column(
            "unit",
            sa.String(length=128),
            nullable=False,
            comment="What it worked on: a file's SHA-256, a frame_id, a field_id, instrument and night",
        ),
        sa.Column("frame_id", sa.Integer(), nullable=True, comment="The frame, where the step works on frames"),
        sa.Column(
            "input_hash", sa.String(length=64), nullable=False, comment="SHA-256 over step, version, parameters and the input tasks' hashes"
        ),
        sa.Column("config_id", sa.Integer(), nullable=False, comment="Parameters it used"),
        sa.Column("run_id", sa.Integer(), nullable=False, comment="Run that did it"),
        sa.Column(
            "status", sa.String(length=12), nullable=False, comment="'done', 'failed', or 'superseded' by a newer task on the same unit"
        ),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="How often it was tried"),
        sa.Column("finished", sa.DateTime(), nullable=False, comment="When it was done or failed [UTC]"),
        sa.Column("error_code", sa.String(length=64), nullable=True, comment="Stable code of the error, when failed"),
        sa.Column("message", sa.Text(), nullable=True, comment="The error's one line, or a remark of the step"),
        sa.ForeignKeyConstraint(["config_id"], ["config.config_id"], name=op.f("fk_task_config_id")),
        sa.ForeignKeyConstraint(["run_id"], ["run.run_id"], name=op.f("fk_task_run_id")),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_task")),
        sa.UniqueConstraint("step", "unit", "input_hash", name=op.f("uq_task_step_unit_input_hash")),
        comment="Units of work: one step on one file, frame, night, instrument or field",
    )
    with op.batch_alter_table("task", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_task_frame_id"), ["frame_id"], unique=False)

    op.create_table(
        "catalogue",
        sa.Column("catalogue_id", sa.Integer(), autoincrement=False, nullable=False, comment="Surrogate key"),
        sa.Column("name", sa.String(length=128), nullable=False, comment="File name"),
        sa.Column("path", sa.Text(), nullable=False, comment="Path it was read from"),
        sa.Column("sha256", sa.String(length=64), nullable=False, comment="SHA-256 of the file"),
        sa.Column("n_source", sa.Integer(), nullable=False, comment="Rows taken in"),
        sa.Column("ra", sa.Double(), nullable=False, comment="Right ascension of its centre, ICRS [deg]"),
        sa.Column("dec", sa.Double(), nullable=False, comment="Declination of its centre, ICRS [deg]"),
        sa.Column("radius", sa.Double(), nullable=False, comment="Radius that holds all of it [deg]"),
        sa.Column("epoch", sa.Double(), nullable=False, comment="Epoch of its positions, Julian year [yr]"),
        sa.Column("columns", sa.Text(), nullable=False, comment="JSON object: which column was taken as what"),
        sa.Column("task_id", sa.Integer(), nullable=False, comment="Task that took it in"),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"], name=op.f("fk_catalogue_task_id")),
        sa.PrimaryKeyConstraint("catalogue_id", name=op.f("pk_catalogue")),
        sa.UniqueConstraint("sha256", name=op.f("uq_catalogue_sha256")),
        comment="Catalogues taken in from files",
    )
    op.create_table(
        "detector",
        sa.Column("instrument_id", sa.Integer(), autoincrement=False, nullable=False, comment="Instrument"),
        sa.Column("night_id", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Night"),
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
        sa.Column("task_id", sa.Integer(), nullable=False, comment="Task that made it"),
        sa.ForeignKeyConstraint(["instrument_id"], ["instrument.instrument_id"], name=op.f("fk_detector_instrument_id")),
        sa.ForeignKeyConstraint(["night_id"], ["night.night_id"], name=op.f("fk_detector_night_id")),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"], name=op.f("fk_detector_task_id")),
        sa.PrimaryKeyConstraint("instrument_id", "night_id", name=op.f("pk_detector")),
        comment="Gain, read noise and levels by instrument and night",
    )
    op.create_table(
        "exposure",
        sa.Column("exposure_id", sa.Integer(), autoincrement=False, nullable=False, comment="Surrogate key"),
        sa.Column("sha256", sa.String(length=64), nullable=False, comment="SHA-256 of the raw file"),
        sa.Column("path", sa.Text(), nullable=False, comment="Absolute path of the raw file, which is never moved or changed"),
        sa.Column("size", sa.BigInteger(), nullable=False, comment="Size of the raw file [byte]"),
        sa.Column(
            "mtime_ns",
            sa.BigInteger(),
            nullable=False,
            comment="Modification time of the raw file: spares hashing a file that has not changed [ns]",
        ),
        sa.Column("instrument_id", sa.Integer(), nullable=False, comment="Instrument"),
        sa.Column("observatory_id", sa.Integer(), nullable=True, comment="Site; NULL when unknown (times are then geocentric)"),
        sa.Column("night_id", sa.SmallInteger(), nullable=False, comment="Night"),
        sa.Column("object_name", sa.String(length=128), nullable=True, comment="What the header says was observed"),
        sa.Column("header_type", sa.String(length=64), nullable=True, comment="What the header says the exposure is"),
        sa.Column(
            "calibration_state",
            sa.String(length=64),
            nullable=False,
            comment="What the header says was done already: any of 'bias', 'dark', 'flat'; '' for none",
        ),
        sa.Column("pointing_ra", sa.Double(), nullable=True, comment="Right ascension that the header gives [deg]"),
        sa.Column("pointing_dec", sa.Double(), nullable=True, comment="Declination that the header gives [deg]"),
        sa.Column("pixel_scale", sa.Double(), nullable=True, comment="Pixel scale that the header or the definition gives [arcsec/pixel]"),
        sa.Column("gain", sa.Double(), nullable=True, comment="Gain that the header or the definition gives [electron/ADU]"),
        sa.Column("read_noise", sa.Double(), nullable=True, comment="Read noise that the header or the definition gives [electron]"),
        sa.Column("saturation", sa.Double(), nullable=True, comment="Saturation level that the header or the definition gives [ADU]"),
        sa.Column("ccd_temperature", sa.Double(), nullable=True, comment="Detector temperature [deg C]"),
        sa.Column(
            "trim",
            sa.String(length=64),
            nullable=True,
            comment="JSON list x0, x1, y0, y1 (half-open) of the part with sky; NULL: all of it",
        ),
        sa.Column(
            "overscan", sa.String(length=64), nullable=True, comment="JSON list x0, x1, y0, y1 (half-open) of the overscan; NULL: none"
        ),
        sa.Column("quantum", sa.Double(), nullable=False, comment="Step between raw values; 0 when they are continuous [ADU]"),
        sa.Column("notes", sa.Text(), nullable=True, comment="Doubts about the header"),
        sa.Column("task_id", sa.Integer(), nullable=False, comment="Task that took it in"),
        sa.ForeignKeyConstraint(["instrument_id"], ["instrument.instrument_id"], name=op.f("fk_exposure_instrument_id")),
        sa.ForeignKeyConstraint(["night_id"], ["night.night_id"], name=op.f("fk_exposure_night_id")),
        sa.ForeignKeyConstraint(["observatory_id"], ["observatory.observatory_id"], name=op.f("fk_exposure_observatory_id")),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"], name=op.f("fk_exposure_task_id")),
        sa.PrimaryKeyConstraint("exposure_id", name=op.f("pk_exposure")),
        sa.UniqueConstraint("sha256", name=op.f("uq_exposure_sha256")),
        comment="Raw files",
    )
    with op.batch_alter_table("exposure", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_exposure_path"), ["path"], unique=False)

    op.create_table(
        "lineage",
        sa.Column("task_id", sa.Integer(), autoincrement=False, nullable=False, comment="The task"),
        sa.Column("input_task_id", sa.Integer(), autoincrement=False, nullable=False, comment="A task whose result it read"),
        sa.Column(
            "role", sa.String(length=32), nullable=False, comment="Step of the input, or its part: 'bias', 'dark', 'flat', 'catalogue'"
        ),
        sa.ForeignKeyConstraint(["input_task_id"], ["task.task_id"], name=op.f("fk_lineage_input_task_id")),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"], name=op.f("fk_lineage_task_id")),
        sa.PrimaryKeyConstraint("task_id", "input_task_id", name=op.f("pk_lineage")),
        comment="What each task was made from",
    )
    with op.batch_alter_table("lineage", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_lineage_input_task_id"), ["input_task_id"], unique=False)

    op.create_table(
        "photometry_slot",
        sa.Column("instrument_id", sa.Integer(), autoincrement=False, nullable=False, comment="Instrument"),
        sa.Column("slot", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Number of the flux column"),
        sa.Column("kind", sa.String(length=12), nullable=False, comment="'aperture', 'psf' or 'prf'"),
        sa.Column("radius", sa.Double(), nullable=True, comment="Radius of the aperture [pixel]"),
        sa.Column("description", sa.Text(), nullable=False, comment="In words"),
        sa.Column("task_id", sa.Integer(), nullable=False, comment="Task that made it"),
        sa.ForeignKeyConstraint(["instrument_id"], ["instrument.instrument_id"], name=op.f("fk_photometry_slot_instrument_id")),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"], name=op.f("fk_photometry_slot_task_id")),
        sa.PrimaryKeyConstraint("instrument_id", "slot", name=op.f("pk_photometry_slot")),
        comment="What each flux of a measurement is",
    )
    op.create_table(
        "product",
        sa.Column("product_id", sa.Integer(), autoincrement=False, nullable=False, comment="Surrogate key"),
        sa.Column("task_id", sa.Integer(), nullable=False, comment="Task that made it"),
        sa.Column("kind", sa.String(length=32), nullable=False, comment="'bias', 'dark', 'flat', 'pattern', 'calibrated', 'background'"),
        sa.Column("path", sa.Text(), nullable=True, comment="Path relative to the files root; NULL once the file was removed"),
        sa.Column("sha256", sa.String(length=64), nullable=False, comment="SHA-256 of the file"),
        sa.Column("size", sa.BigInteger(), nullable=False, comment="Size of the file [byte]"),
        sa.Column("is_bad", sa.SmallInteger(), nullable=False, comment="1 when a person or a check has rejected it, else 0"),
        sa.Column("bad_reason", sa.Text(), nullable=True, comment="Why it was rejected"),
        sa.Column("superseded_by", sa.Integer(), nullable=True, comment="The product that took its place"),
        sa.ForeignKeyConstraint(["superseded_by"], ["product.product_id"], name=op.f("fk_product_superseded_by")),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"], name=op.f("fk_product_task_id")),
        sa.PrimaryKeyConstraint("product_id", name=op.f("pk_product")),
        sa.UniqueConstraint("path", name=op.f("uq_product_path")),
        comment="Files made, under the files root",
    )
    with op.batch_alter_table("product", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_product_task_id"), ["task_id"], unique=False)

    op.create_table(
        "source",
        sa.Column(
            "source_id",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="Gaia's id, else HEALPix order 12 (nested) << 35 | number << 7 | 1: sorts like the sky, bit 0 is never set in Gaia's",
        ),
        sa.Column("ra", sa.Double(), nullable=False, comment="Right ascension, ICRS, at `epoch` [deg]"),
        sa.Column("dec", sa.Double(), nullable=False, comment="Declination, ICRS, at `epoch` [deg]"),
        sa.Column("epoch", sa.Double(), nullable=False, comment="Epoch of ra, dec and the unit vector, Julian year [yr]"),
        sa.Column("pmra", sa.Double(), nullable=False, comment="Proper motion in right ascension times cos(dec); 0 when unknown [mas/yr]"),
        sa.Column("pmdec", sa.Double(), nullable=False, comment="Proper motion in declination; 0 when unknown [mas/yr]"),
        sa.Column("ux", sa.Double(), nullable=False, comment="ICRS unit vector x"),
        sa.Column("uy", sa.Double(), nullable=False, comment="ICRS unit vector y"),
        sa.Column("uz", sa.Double(), nullable=False, comment="ICRS unit vector z"),
        sa.Column("healpix", sa.BigInteger(), nullable=False, comment="HEALPix order 29, nested"),
        sa.Column("fold", sa.SmallInteger(), nullable=False, comment="Cross-fit fold, 0 to 4, from a stable hash of source_id"),
        sa.Column("origin", sa.String(length=12), nullable=False, comment="'catalogue' or 'discovered'"),
        sa.Column(
            "fit_mag",
            sa.Double(),
            nullable=False,
            comment="Magnitude used in fits and for neighbours: the catalogue's, else from the frames [mag]",
        ),
        sa.Column(
            "fit_colour",
            sa.Double(),
            nullable=False,
            comment="Colour used in fits: measured, else the median of stars of that magnitude [mag]",
        ),
        sa.Column("colour_measured", sa.SmallInteger(), nullable=False, comment="1 when fit_colour was measured, 0 when assumed"),
        sa.Column("task_id", sa.Integer(), nullable=False, comment="Task that made the row"),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"], name=op.f("fk_source_task_id")),
        sa.PrimaryKeyConstraint("source_id", name=op.f("pk_source")),
        comment="Stars",
    )
    with op.batch_alter_table("source", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_source_dec"), ["dec"], unique=False)
        batch_op.create_index(batch_op.f("ix_source_healpix"), ["healpix"], unique=False)

    op.create_table(
        "frame",
        sa.Column("frame_id", sa.Integer(), autoincrement=False, nullable=False, comment="Surrogate key"),
        sa.Column("exposure_id", sa.Integer(), nullable=False, comment="Exposure"),
        sa.Column("channel", sa.String(length=8), nullable=False, comment="'mono', or the Bayer channel"),
        sa.Column("night_id", sa.SmallInteger(), nullable=False, comment="Night"),
        sa.Column("instrument_id", sa.Integer(), nullable=False, comment="Instrument"),
        sa.Column("passband_id", sa.Integer(), nullable=False, comment="Passband"),
        sa.Column("exptime", sa.Double(), nullable=False, comment="Exposure time [s]"),
        sa.Column("nx", sa.Integer(), nullable=False, comment="Width after trimming [pixel]"),
        sa.Column("ny", sa.Integer(), nullable=False, comment="Height after trimming [pixel]"),
        sa.Column("jd_utc", sa.Double(), nullable=False, comment="Mid-exposure, Julian date UTC [d]"),
        sa.Column("jd_tdb", sa.Double(), nullable=False, comment="Mid-exposure, Julian date TDB at the observatory [d]"),
        sa.Column("time_source", sa.String(length=64), nullable=False, comment="Keywords and rule that gave the time"),
        sa.Column("time_sigma", sa.Double(), nullable=False, comment="Precision of the time as written in the header [s]"),
        sa.Column("bx", sa.Double(), nullable=False, comment="Barycentric position of the observatory, ICRS x [light-day]"),
        sa.Column("by", sa.Double(), nullable=False, comment="Barycentric position of the observatory, ICRS y [light-day]"),
        sa.Column("bz", sa.Double(), nullable=False, comment="Barycentric position of the observatory, ICRS z [light-day]"),
        sa.Column("zx", sa.Double(), nullable=True, comment="Zenith, ICRS unit vector x; NULL when the site is unknown"),
        sa.Column("zy", sa.Double(), nullable=True, comment="Zenith, ICRS unit vector y"),
        sa.Column("zz", sa.Double(), nullable=True, comment="Zenith, ICRS unit vector z"),
        sa.Column("sun_altitude", sa.Double(), nullable=True, comment="Altitude of the Sun [deg]"),
        sa.Column("moon_altitude", sa.Double(), nullable=True, comment="Altitude of the Moon [deg]"),
        sa.Column("moon_illumination", sa.Double(), nullable=False, comment="Illuminated fraction of the Moon's disc"),
        sa.Column("moon_ra", sa.Double(), nullable=False, comment="Right ascension of the Moon [deg]"),
        sa.Column("moon_dec", sa.Double(), nullable=False, comment="Declination of the Moon [deg]"),
        sa.Column("type", sa.String(length=8), nullable=True, comment="bias, dark, flat, object or other (step sort)"),
        sa.Column("type_reason", sa.Text(), nullable=True, comment="Why it has this type (step sort)"),
        sa.Column("type_confidence", sa.Double(), nullable=True, comment="Confidence in the type, 0 to 1 (step sort)"),
        sa.Column("field_id", sa.Integer(), nullable=True, comment="Field (step field)"),
        sa.Column("airmass", sa.Double(), nullable=True, comment="Airmass of the frame's centre (step field)"),
        sa.Column("moon_separation", sa.Double(), nullable=True, comment="Distance of the Moon from the centre (step field) [deg]"),
        sa.Column("fwhm", sa.Double(), nullable=True, comment="Median full width at half maximum of its stars (step extract) [pixel]"),
        sa.Column("n_detection", sa.Integer(), nullable=True, comment="Number of detections (step extract)"),
        sa.Column("sky_level", sa.Double(), nullable=True, comment="Sky above the zero level, mean over the frame (step background) [ADU]"),
        sa.Column("sky_noise", sa.Double(), nullable=True, comment="Noise of a sky pixel, standard deviation (step background) [ADU]"),
        sa.Column("n_measured", sa.Integer(), nullable=True, comment="Number of sources measured (step photometry)"),
        sa.Column("measure_task", sa.Integer(), nullable=True, comment="Task that made its measurements (step photometry)"),
        sa.Column(
            "zero_point",
            sa.Double(),
            nullable=True,
            comment="Magnitude of a source of 1 ADU/s, from catalogue stars (step photometry) [mag]",
        ),
        sa.Column(
            "zero_point_scatter",
            sa.Double(),
            nullable=True,
            comment="Scatter of the stars about the zero point, 1.48 MAD (step photometry) [mag]",
        ),
        sa.Column("n_zero_point", sa.Integer(), nullable=True, comment="Stars in the zero point (step photometry)"),
        sa.Column("limiting_mag", sa.Double(), nullable=True, comment="Magnitude of a source with S/N 5 (step photometry) [mag]"),
        sa.ForeignKeyConstraint(["exposure_id"], ["exposure.exposure_id"], name=op.f("fk_frame_exposure_id")),
        sa.ForeignKeyConstraint(["field_id"], ["field.field_id"], name=op.f("fk_frame_field_id")),
        sa.ForeignKeyConstraint(["instrument_id"], ["instrument.instrument_id"], name=op.f("fk_frame_instrument_id")),
        sa.ForeignKeyConstraint(["night_id"], ["night.night_id"], name=op.f("fk_frame_night_id")),
        sa.ForeignKeyConstraint(["passband_id"], ["passband.passband_id"], name=op.f("fk_frame_passband_id")),
        sa.PrimaryKeyConstraint("frame_id", name=op.f("pk_frame")),
        sa.UniqueConstraint("exposure_id", "channel", name=op.f("uq_frame_exposure_id_channel")),
        comment="Frames: one channel of one exposure",
    )
    with op.batch_alter_table("frame", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_frame_field_id_night_id"), ["field_id", "night_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_frame_night_id_frame_id"), ["night_id", "frame_id"], unique=False)

    op.create_table(
        "master",
        sa.Column("master_id", sa.Integer(), autoincrement=False, nullable=False, comment="Surrogate key"),
        sa.Column(
            "kind",
            sa.String(length=8),
            nullable=False,
            comment="bias, dark, flat, or pattern: what hot pixels add, from object frames without a dark",
        ),
        sa.Column("instrument_id", sa.Integer(), nullable=False, comment="Instrument"),
        sa.Column("night_id", sa.SmallInteger(), nullable=False, comment="Night of its frames"),
        sa.Column("channel", sa.String(length=8), nullable=False, comment="'mono', or the Bayer channel"),
        sa.Column("passband_id", sa.Integer(), nullable=True, comment="Passband, for flats"),
        sa.Column("exptime", sa.Double(), nullable=True, comment="Exposure time, for darks and patterns [s]"),
        sa.Column("ccd_temperature", sa.Double(), nullable=True, comment="Mean detector temperature [deg C]"),
        sa.Column("jd_utc", sa.Double(), nullable=False, comment="Mean mid-exposure of its frames, Julian date UTC [d]"),
        sa.Column("n_frame", sa.Integer(), nullable=False, comment="Frames averaged"),
        sa.Column("n_rejected", sa.Integer(), nullable=False, comment="Frames rejected"),
        sa.Column("level", sa.Double(), nullable=False, comment="Mean value; 1 for flats [ADU]"),
        sa.Column("noise", sa.Double(), nullable=False, comment="Typical error of a pixel of the master [ADU]"),
        sa.Column("product_id", sa.Integer(), nullable=False, comment="File"),
        sa.Column("task_id", sa.Integer(), nullable=False, comment="Task that made it"),
        sa.ForeignKeyConstraint(["instrument_id"], ["instrument.instrument_id"], name=op.f("fk_master_instrument_id")),
        sa.ForeignKeyConstraint(["night_id"], ["night.night_id"], name=op.f("fk_master_night_id")),
        sa.ForeignKeyConstraint(["passband_id"], ["passband.passband_id"], name=op.f("fk_master_passband_id")),
        sa.ForeignKeyConstraint(["product_id"], ["product.product_id"], name=op.f("fk_master_product_id")),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"], name=op.f("fk_master_task_id")),
        sa.PrimaryKeyConstraint("master_id", name=op.f("pk_master")),
        comment="Master bias, dark and flat frames",
    )
    with op.batch_alter_table("master", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_master_instrument_id_kind"), ["instrument_id", "kind"], unique=False)

    op.create_table(
        "source_magnitude",
        sa.Column("source_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="Source"),
        sa.Column("catalogue_id", sa.Integer(), autoincrement=False, nullable=False, comment="Catalogue"),
        sa.Column(
            "band", sa.String(length=16), autoincrement=False, nullable=False, comment="Band, e.g. G, BP, RP, V, VT, B-V for a colour"
        ),
        sa.Column("value", sa.Double(), nullable=False, comment="Magnitude or colour [mag]"),
        sa.Column("error", sa.Double(), nullable=True, comment="Its error; NULL when the catalogue has none [mag]"),
        sa.Column("system", sa.String(length=16), nullable=False, comment="Photometric system: Gaia, Johnson, Tycho, or unknown"),
        sa.ForeignKeyConstraint(["catalogue_id"], ["catalogue.catalogue_id"], name=op.f("fk_source_magnitude_catalogue_id")),
        sa.PrimaryKeyConstraint("source_id", "catalogue_id", "band", name=op.f("pk_source_magnitude")),
        comment="Catalogue magnitudes",
    )
    op.create_table(
        "source_name",
        sa.Column(
            "name",
            sa.String(length=64),
            autoincrement=False,
            nullable=False,
            comment="Name with its prefix, e.g. 'TYC 3281-957-1', 'HIP 9640', 'Gaia DR3 ...'",
        ),
        sa.Column("source_id", sa.BigInteger(), autoincrement=False, nullable=False, comment="Source"),
        sa.Column("catalogue_id", sa.Integer(), nullable=False, comment="Catalogue that gives it"),
        sa.ForeignKeyConstraint(["catalogue_id"], ["catalogue.catalogue_id"], name=op.f("fk_source_name_catalogue_id")),
        sa.PrimaryKeyConstraint("name", "source_id", name=op.f("pk_source_name")),
        comment="Names of sources",
    )
    with op.batch_alter_table("source_name", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_source_name_source_id"), ["source_id"], unique=False)

    op.create_table(
        "calibrated_frame",
        sa.Column("frame_id", sa.Integer(), autoincrement=False, nullable=False, comment="Frame"),
        sa.Column("bias_master_id", sa.Integer(), nullable=True, comment="Master bias; NULL when there was none"),
        sa.Column("dark_master_id", sa.Integer(), nullable=True, comment="Master dark; NULL when there was none"),
        sa.Column("flat_master_id", sa.Integer(), nullable=True, comment="Master flat; NULL when there was none"),
        sa.Column("dark_scale", sa.Double(), nullable=True, comment="Factor on the master dark"),
        sa.Column(
            "zero_level",
            sa.Double(),
            nullable=False,
            comment="Level without light that was taken off where there was no master bias, else 0 [ADU]",
        ),
        sa.Column("remark", sa.Text(), nullable=True, comment="What was not done, and why"),
        sa.Column("product_id", sa.Integer(), nullable=False, comment="File with the planes SCI, VAR and MASK"),
        sa.Column("task_id", sa.Integer(), nullable=False, comment="Task that made it"),
        sa.ForeignKeyConstraint(["bias_master_id"], ["master.master_id"], name=op.f("fk_calibrated_frame_bias_master_id")),
        sa.ForeignKeyConstraint(["dark_master_id"], ["master.master_id"], name=op.f("fk_calibrated_frame_dark_master_id")),
        sa.ForeignKeyConstraint(["flat_master_id"], ["master.master_id"], name=op.f("fk_calibrated_frame_flat_master_id")),
        sa.ForeignKeyConstraint(["frame_id"], ["frame.frame_id"], name=op.f("fk_calibrated_frame_frame_id")),
        sa.ForeignKeyConstraint(["product_id"], ["product.product_id"], name=op.f("fk_calibrated_frame_product_id")),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"], name=op.f("fk_calibrated_frame_task_id")),
        sa.PrimaryKeyConstraint("frame_id", name=op.f("pk_calibrated_frame")),
        comment="Calibrated object frames and the masters that were used",
    )
    op.create_table(
        "frame_background",
        sa.Column("frame_id", sa.Integer(), autoincrement=False, nullable=False, comment="Frame"),
        sa.Column("level", sa.Double(), nullable=False, comment="Mean over the frame [ADU]"),
        sa.Column("noise", sa.Double(), nullable=False, comment="Standard deviation of a sky pixel [ADU]"),
        sa.Column("error", sa.Double(), nullable=False, comment="Typical error of the local background [ADU]"),
        sa.Column("sky_fraction", sa.Double(), nullable=False, comment="Fraction of pixels used as sky"),
        sa.Column("product_id", sa.Integer(), nullable=False, comment="File with the planes of values and errors"),
        sa.Column("task_id", sa.Integer(), nullable=False, comment="Task that made it"),
        sa.ForeignKeyConstraint(["frame_id"], ["frame.frame_id"], name=op.f("fk_frame_background_frame_id")),
        sa.ForeignKeyConstraint(["product_id"], ["product.product_id"], name=op.f("fk_frame_background_product_id")),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"], name=op.f("fk_frame_background_task_id")),
        sa.PrimaryKeyConstraint("frame_id", name=op.f("pk_frame_background")),
        comment="Backgrounds, frame by frame",
    )
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
    op.create_table(
        "magfit_reference",
        sa.Column("reference_id", sa.Integer(), autoincrement=False, nullable=False, comment="Surrogate key"),
        sa.Column("field_id", sa.Integer(), nullable=False, comment="Field"),
        sa.Column("iteration", sa.SmallInteger(), nullable=False, comment="0 for the single reference frame, then one up for each average"),
        sa.Column("status", sa.String(length=12), nullable=False, comment="'iteration' on the way, 'accepted', or 'retracted'"),
        sa.Column("parent_id", sa.Integer(), nullable=True, comment="The reference it was averaged from"),
        sa.Column("frame_id", sa.Integer(), nullable=False, comment="The single frame that the iteration began with"),
        sa.Column("n_frame", sa.Integer(), nullable=False, comment="Frames in the average"),
        sa.Column("n_source", sa.Integer(), nullable=False, comment="Sources with a magnitude"),
        sa.Column("change", sa.Double(), nullable=True, comment="Median change of the references that followed it, over the slots [mag]"),
        sa.Column("zero_band", sa.String(length=16), nullable=True, comment="Catalogue band that fixed the zero point; NULL: instrumental"),
        sa.Column("n_zero", sa.Integer(), nullable=False, comment="Catalogue stars that fixed the zero point"),
        sa.Column("created", sa.DateTime(), nullable=False, comment="When [UTC]"),
        sa.Column("task_id", sa.Integer(), nullable=False, comment="Task that made it"),
        sa.ForeignKeyConstraint(["field_id"], ["field.field_id"], name=op.f("fk_magfit_reference_field_id")),
        sa.ForeignKeyConstraint(["frame_id"], ["frame.frame_id"], name=op.f("fk_magfit_reference_frame_id")),
        sa.ForeignKeyConstraint(["parent_id"], ["magfit_reference.reference_id"], name=op.f("fk_magfit_reference_parent_id")),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"], name=op.f("fk_magfit_reference_task_id")),
        sa.PrimaryKeyConstraint("reference_id", name=op.f("pk_magfit_reference")),
        comment="Photometric references",
    )
    with op.batch_alter_table("magfit_reference", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_magfit_reference_field_id_status"), ["field_id", "status"], unique=False)

    op.create_table(
        "master_frame",
        sa.Column("master_id", sa.Integer(), autoincrement=False, nullable=False, comment="Master"),
        sa.Column("frame_id", sa.Integer(), autoincrement=False, nullable=False, comment="Frame"),
        sa.Column("used", sa.SmallInteger(), nullable=False, comment="1 when averaged, 0 when rejected"),
        sa.Column("reason", sa.Text(), nullable=True, comment="Why it was rejected"),
        sa.ForeignKeyConstraint(["frame_id"], ["frame.frame_id"], name=op.f("fk_master_frame_frame_id")),
        sa.ForeignKeyConstraint(["master_id"], ["master.master_id"], name=op.f("fk_master_frame_master_id")),
        sa.PrimaryKeyConstraint("master_id", "frame_id", name=op.f("pk_master_frame")),
        comment="Frames considered for a master",
    )
    op.create_table(
        "wcs_solution",
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
        sa.Column("start", sa.String(length=16), nullable=False, comment="What it was started from: header, pointing, blind or neighbour"),
        sa.Column("task_id", sa.Integer(), nullable=False, comment="Task that made it"),
        sa.ForeignKeyConstraint(["frame_id"], ["frame.frame_id"], name=op.f("fk_wcs_solution_frame_id")),
        sa.ForeignKeyConstraint(["task_id"], ["task.task_id"], name=op.f("fk_wcs_solution_task_id")),
        sa.PrimaryKeyConstraint("frame_id", name=op.f("pk_wcs_solution")),
        comment="Plate solutions",
    )


def downgrade() -> None:
    op.drop_table("wcs_solution")
    op.drop_table("master_frame")
    with op.batch_alter_table("magfit_reference", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_magfit_reference_field_id_status"))

    op.drop_table("magfit_reference")
    op.drop_table("frame_statistics")
    op.drop_table("frame_background")
    op.drop_table("calibrated_frame")
    with op.batch_alter_table("source_name", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_source_name_source_id"))

    op.drop_table("source_name")
    op.drop_table("source_magnitude")
    with op.batch_alter_table("master", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_master_instrument_id_kind"))

    op.drop_table("master")
    with op.batch_alter_table("frame", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_frame_night_id_frame_id"))
        batch_op.drop_index(batch_op.f("ix_frame_field_id_night_id"))

    op.drop_table("frame")
    with op.batch_alter_table("source", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_source_healpix"))
        batch_op.drop_index(batch_op.f("ix_source_dec"))

    op.drop_table("source")
    with op.batch_alter_table("product", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_product_task_id"))

    op.drop_table("product")
    op.drop_table("photometry_slot")
    with op.batch_alter_table("lineage", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_lineage_input_task_id"))

    op.drop_table("lineage")
    with op.batch_alter_table("exposure", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_exposure_path"))

    op.drop_table("exposure")
    op.drop_table("detector")
    op.drop_table("catalogue")
    with op.batch_alter_table("task", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_task_frame_id"))

    op.drop_table("task")
    op.drop_table("run")
    op.drop_table("field")
    op.drop_table("target")
    op.drop_table("reference_magnitude")
    op.drop_table("passband")
    op.drop_table("observatory")
    op.drop_table("night")
    op.drop_table("measurement")
    op.drop_table("magfit_solution")
    op.drop_table("lightcurve_statistics")
    op.drop_table("instrument")
    op.drop_table("detection")
    op.drop_table("config")
    op.drop_table("best_slot")
    with op.batch_alter_table("annotation", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_annotation_frame_id_source_id"))

    op.drop_table("annotation")
