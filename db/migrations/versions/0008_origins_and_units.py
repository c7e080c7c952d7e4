"""origins of the detectors' facts as columns; units that astropy reads in the comments

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db.engine import is_sqlite

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_ORIGINS = {
    "gain_origin": "'given', 'measured' or 'assumed'",
    "read_noise_origin": "'given', 'measured' (from bias frames), or 'limit' (from the sky's noise)",
}

#: Comment before and after, by column.
_COMMENTS = {
    "annotation.created": (
        "When [UTC]",
        "When, UTC",
    ),
    "calibrated_frame.zero_level": (
        "Level without light that was taken off where there was no master bias, else 0 [ADU]",
        "Level without light that was taken off where there was no master bias, else 0 [adu]",
    ),
    "dark_linearity.is_linear": (
        "1 when slope and ratio agree within the limit of step linearity, else 0",
        "1 when slope and ratio agree within the limit of step dark_scaling, else 0",
    ),
    "detection.flux": (
        "Flux of the detection [ADU]",
        "Flux of the detection [adu]",
    ),
    "detection.flux_err": (
        "Its error [ADU]",
        "Its error [adu]",
    ),
    "detection.peak": (
        "Highest pixel above the background [ADU]",
        "Highest pixel above the background [adu]",
    ),
    "detector.gain": (
        "Gain [electron/ADU]",
        "Gain [electron/adu]",
    ),
    "detector.gain_err": (
        "Error of the gain; NULL when given [electron/ADU]",
        "Error of the gain; NULL when given [electron/adu]",
    ),
    "detector.saturation": (
        "Raw level at which a pixel is saturated; NULL when none was seen or given [ADU]",
        "Raw level at which a pixel is saturated; NULL when none was seen or given [adu]",
    ),
    "detector.zero_level": (
        "Level of a pixel without light, for frames without a bias master [ADU]",
        "Level of a pixel without light, for frames without a bias master [adu]",
    ),
    "distortion.coeff": (
        "JSON object: the coefficients, as reduction.kernels.distortion reads them",
        "JSON object: the coefficients, as reduction.astrometry.kernels.distortion reads them",
    ),
    "exposure.black_level": (
        "Level without light that the header or the definition gives [ADU]",
        "Level without light that the header or the definition gives [adu]",
    ),
    "exposure.ccd_temperature": (
        "Detector temperature [deg C]",
        "Detector temperature [deg_C]",
    ),
    "exposure.gain": (
        "Gain that the header or the definition gives [electron/ADU]",
        "Gain that the header or the definition gives [electron/adu]",
    ),
    "exposure.quantum": (
        "Step between raw values; 0 when they are continuous [ADU]",
        "Step between raw values; 0 when they are continuous [adu]",
    ),
    "exposure.saturation": (
        "Saturation level that the header or the definition gives [ADU]",
        "Saturation level that the header or the definition gives [adu]",
    ),
    "field.fit_band": (
        "Band that the fit_mag of its sources is in (step stars); NULL: no catalogue has one",
        "Band that the fit_mag of its sources is in (step field_colours); NULL: no catalogue has one",
    ),
    "field.fit_colour_band": (
        "Colour that the fit_colour of its sources is in (step stars); NULL: assumed for all",
        "Colour that the fit_colour of its sources is in (step field_colours); NULL: assumed for all",
    ),
    "first_solution.coeff": (
        "JSON object: the solution's coefficients, as reduction.kernels.wcs reads them",
        "JSON object: the solution's coefficients, as reduction.astrometry.kernels.wcs reads them",
    ),
    "frame.bx": (
        "Barycentric position of the observatory, ICRS x [light-day]",
        "Barycentric position of the observatory as light travel time, ICRS x [d]",
    ),
    "frame.by": (
        "Barycentric position of the observatory, ICRS y [light-day]",
        "Barycentric position of the observatory as light travel time, ICRS y [d]",
    ),
    "frame.bz": (
        "Barycentric position of the observatory, ICRS z [light-day]",
        "Barycentric position of the observatory as light travel time, ICRS z [d]",
    ),
    "frame_background.error": (
        "Typical error of the local background [ADU]",
        "Typical error of the local background [adu]",
    ),
    "frame_background.level": (
        "Mean over the frame [ADU]",
        "Mean over the frame [adu]",
    ),
    "frame_background.noise": (
        "Standard deviation of a sky pixel [ADU]",
        "Standard deviation of a sky pixel [adu]",
    ),
    "magfit_reference.created": (
        "When [UTC]",
        "When, UTC",
    ),
    "magfit_solution.measure_task": (
        "Task whose measurements were fitted; stale unless frame.measure_task is the same",
        "Task whose measurements were fitted; stale unless frame_photometry.task_id is the same",
    ),
    "master.ccd_temperature": (
        "Mean detector temperature; NULL when unknown [deg C]",
        "Mean detector temperature; NULL when unknown [deg_C]",
    ),
    "master.level": (
        "Mean value; 1 for flats [ADU]",
        "Mean value; 1 for flats [adu]",
    ),
    "master.noise": (
        "Typical error of a pixel of the master [ADU]",
        "Typical error of a pixel of the master [adu]",
    ),
    "master.temperature_tolerance": (
        "A dark serves frames whose detector was this much warmer or colder; NULL: at any temperature [deg C]",
        "A dark serves frames whose detector was this much warmer or colder; NULL: at any temperature [deg_C]",
    ),
    "master_choice.created": (
        "When [UTC]",
        "When, UTC",
    ),
    "measurement.background": (
        "Background at the source, per pixel [ADU]",
        "Background at the source, per pixel [adu]",
    ),
    "measurement.background_err": (
        "Its error, fully correlated over an aperture [ADU]",
        "Its error, fully correlated over an aperture [adu]",
    ),
    "measurement.flux_0": (
        "PSF flux, per exposure [ADU]",
        "PSF flux, per exposure [adu]",
    ),
    "measurement.flux_1": (
        "Flux of aperture slot 1, per exposure [ADU]",
        "Flux of aperture slot 1, per exposure [adu]",
    ),
    "measurement.flux_2": (
        "Flux of aperture slot 2, per exposure [ADU]",
        "Flux of aperture slot 2, per exposure [adu]",
    ),
    "measurement.flux_3": (
        "Flux of aperture slot 3, per exposure [ADU]",
        "Flux of aperture slot 3, per exposure [adu]",
    ),
    "measurement.flux_4": (
        "Flux of aperture slot 4, per exposure [ADU]",
        "Flux of aperture slot 4, per exposure [adu]",
    ),
    "measurement.flux_5": (
        "Flux of aperture slot 5, per exposure [ADU]",
        "Flux of aperture slot 5, per exposure [adu]",
    ),
    "measurement.flux_6": (
        "Flux of aperture slot 6, per exposure [ADU]",
        "Flux of aperture slot 6, per exposure [adu]",
    ),
    "measurement.flux_7": (
        "Flux of aperture slot 7, per exposure [ADU]",
        "Flux of aperture slot 7, per exposure [adu]",
    ),
    "measurement.flux_err_0": (
        "Error of flux_0 [ADU]",
        "Error of flux_0 [adu]",
    ),
    "measurement.flux_err_1": (
        "Error of flux_1 [ADU]",
        "Error of flux_1 [adu]",
    ),
    "measurement.flux_err_2": (
        "Error of flux_2 [ADU]",
        "Error of flux_2 [adu]",
    ),
    "measurement.flux_err_3": (
        "Error of flux_3 [ADU]",
        "Error of flux_3 [adu]",
    ),
    "measurement.flux_err_4": (
        "Error of flux_4 [ADU]",
        "Error of flux_4 [adu]",
    ),
    "measurement.flux_err_5": (
        "Error of flux_5 [ADU]",
        "Error of flux_5 [adu]",
    ),
    "measurement.flux_err_6": (
        "Error of flux_6 [ADU]",
        "Error of flux_6 [adu]",
    ),
    "measurement.flux_err_7": (
        "Error of flux_7 [ADU]",
        "Error of flux_7 [adu]",
    ),
    "run.finished": (
        "End of the run; NULL while running or when it was killed [UTC]",
        "End of the run, UTC; NULL while running or when it was killed",
    ),
    "run.started": (
        "Start of the run [UTC]",
        "Start of the run, UTC",
    ),
    "shape_map.coeff": (
        "JSON object: the map's coefficients, as reduction.kernels.shapemap reads them",
        "JSON object: the map's coefficients, as reduction.photometry.kernels.shape_map reads them",
    ),
    "target.created": (
        "When it was added [UTC]",
        "When it was added, UTC",
    ),
    "task.facts": (
        "SHA-256 of what it depends on besides its inputs, such as how other steps work; '' for nothing",
        "SHA-256 of what it depended on besides its input tasks, such as how other steps work; '' for nothing",
    ),
    "task.finished": (
        "When it was done or failed [UTC]",
        "When it was done or failed, UTC",
    ),
    "type_correction.created": (
        "When [UTC]",
        "When, UTC",
    ),
    "wcs_solution.coeff": (
        "JSON object: the solution's coefficients, as reduction.kernels.wcs reads them",
        "JSON object: the solution's coefficients, as reduction.astrometry.kernels.wcs reads them",
    ),
}


def upgrade() -> None:
    with op.batch_alter_table("detector") as detector:
        for name, comment in _ORIGINS.items():
            detector.add_column(sa.Column(name, sa.String(8), nullable=False, server_default="given", comment=comment))
    op.execute(
        "UPDATE detector SET gain_origin = CASE WHEN gain_source = 'given' THEN 'given' WHEN gain_source LIKE 'assumed%' THEN 'assumed'"
        " ELSE 'measured' END, read_noise_origin = CASE WHEN read_noise_source = 'given' THEN 'given'"
        " WHEN read_noise_source = 'bias frames' THEN 'measured' ELSE 'limit' END"
    )
    with op.batch_alter_table("detector") as detector:
        for name in _ORIGINS:
            detector.alter_column(name, server_default=None)
    _comment(1)


def downgrade() -> None:
    _comment(0)
    with op.batch_alter_table("detector") as detector:
        for name in _ORIGINS:
            detector.drop_column(name)


def _comment(which: int) -> None:
    """PostgreSQL keeps comments; SQLite has none."""
    connection = op.get_bind()
    if is_sqlite(connection):
        return
    for column, comments in _COMMENTS.items():
        table, name = column.split(".")
        text = comments[which].replace("'", "''")
        connection.exec_driver_sql(f'COMMENT ON COLUMN "{table}"."{name}" IS \'{text}\'')
