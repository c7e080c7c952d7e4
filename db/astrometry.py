"""Detections on frames and plate solutions."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped

from db.base import Base, column, key, reference

__all__ = ["Detection", "WcsSolution"]


class Detection(Base):
    """One detected source on one frame (bulk; no foreign keys; partitioned by night on PostgreSQL)."""

    __tablename__ = "detection"
    __table_args__ = (
        {
            "comment": "Detected sources, frame by frame",
            "postgresql_partition_by": "RANGE (night_id)",
            "sqlite_with_rowid": False,
        },
    )

    night_id: Mapped[int] = key(sa.SmallInteger, "Night")
    frame_id: Mapped[int] = key(sa.Integer, "Frame")
    number: Mapped[int] = key(sa.Integer, "Number on the frame, from 0, brightest first")
    x: Mapped[float] = column(sa.Double, "pixel", "Windowed centroid x, 0-based pixel centres")
    y: Mapped[float] = column(sa.Double, "pixel", "Windowed centroid y, 0-based pixel centres")
    flux: Mapped[float] = column(sa.REAL, "ADU", "Flux of the detection")
    flux_err: Mapped[float] = column(sa.REAL, "ADU", "Its error")
    peak: Mapped[float] = column(sa.REAL, "ADU", "Highest pixel above the background")
    fwhm: Mapped[float | None] = column(sa.REAL, "pixel", "Full width at half maximum", null=True)
    semi_major: Mapped[float | None] = column(sa.REAL, "pixel", "Semi-major axis, standard deviation", null=True)
    semi_minor: Mapped[float | None] = column(sa.REAL, "pixel", "Semi-minor axis, standard deviation", null=True)
    theta: Mapped[float | None] = column(sa.REAL, "rad", "Angle of the major axis from +x towards +y", null=True)
    flags: Mapped[int] = column(sa.Integer, "", "Bits of db.flags.Flag")


class WcsSolution(Base):
    """The final transformation (RA, Dec) -> (x, y) of one frame.

    Gnomonic projection about (ra0, dec0), then a polynomial of total degree
    `poly_order` in the scaled tangent-plane coordinates for each axis.
    """

    __tablename__ = "wcs_solution"
    __table_args__ = {"comment": "Plate solutions"}

    frame_id: Mapped[int] = key(sa.ForeignKey("frame.frame_id"), "Frame")
    ra0: Mapped[float] = column(sa.Double, "deg", "Tangent point, right ascension")
    dec0: Mapped[float] = column(sa.Double, "deg", "Tangent point, declination")
    poly_order: Mapped[int] = column(sa.SmallInteger, "", "Total degree of the polynomials")
    coeff: Mapped[str] = column(sa.Text, "", "JSON object: the solution's coefficients, as reduction.kernels.wcs reads them")
    ra: Mapped[float] = column(sa.Double, "deg", "Right ascension of the frame's centre, ICRS")
    dec: Mapped[float] = column(sa.Double, "deg", "Declination of the frame's centre, ICRS")
    radius: Mapped[float] = column(sa.Double, "deg", "Distance of the farthest corner from the centre")
    corners: Mapped[str] = column(sa.Text, "", "JSON list: RA and Dec in degrees of the four corners")
    pixel_scale: Mapped[float] = column(sa.Double, "arcsec/pixel", "Pixel scale at the centre")
    rotation: Mapped[float] = column(sa.Double, "deg", "Position angle of +y, east of north")
    parity: Mapped[int] = column(sa.SmallInteger, "", "+1 or -1: sign of the determinant of the transformation")
    n_matched: Mapped[int] = column(sa.Integer, "", "Catalogue stars in the fit")
    n_catalogue: Mapped[int] = column(sa.Integer, "", "Catalogue stars on the frame that could be seen")
    rms_x: Mapped[float] = column(sa.Double, "pixel", "Residual in x, 1.48 MAD, leave-one-out")
    rms_y: Mapped[float] = column(sa.Double, "pixel", "Residual in y, 1.48 MAD, leave-one-out")
    start: Mapped[str] = column(sa.String(16), "", "What it was started from: header, pointing, blind or neighbour")
    task_id: Mapped[int] = reference("task.task_id", "Task that made it")
