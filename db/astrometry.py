"""Detections on frames, plate solutions, fields of frames, what lies where on the sky, and the shapes of stars over a frame."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped

from db.base import Base, column, key, reference

__all__ = [
    "Detection",
    "DetectionMatch",
    "DetectionSummary",
    "Distortion",
    "FirstSolution",
    "FrameCoverage",
    "FrameField",
    "ShapeMap",
    "WcsSolution",
]


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
    x_err: Mapped[float | None] = column(sa.REAL, "pixel", "Error of x", null=True)
    y_err: Mapped[float | None] = column(sa.REAL, "pixel", "Error of y", null=True)
    flux: Mapped[float] = column(sa.REAL, "adu", "Flux of the detection")
    flux_err: Mapped[float] = column(sa.REAL, "adu", "Its error")
    peak: Mapped[float] = column(sa.REAL, "adu", "Highest pixel above the background")
    fwhm: Mapped[float | None] = column(sa.REAL, "pixel", "Full width at half maximum", null=True)
    semi_major: Mapped[float | None] = column(sa.REAL, "pixel", "Semi-major axis, standard deviation", null=True)
    semi_minor: Mapped[float | None] = column(sa.REAL, "pixel", "Semi-minor axis, standard deviation", null=True)
    theta: Mapped[float | None] = column(sa.REAL, "rad", "Angle of the major axis from +x towards +y", null=True)
    shape_s: Mapped[float | None] = column(
        sa.REAL, "1/pixel^2", "Shape s of the Gaussian exp(-(s (x^2 + y^2) + d (x^2 - y^2) + 2 k x y) / 2)", null=True
    )
    shape_d: Mapped[float | None] = column(sa.REAL, "1/pixel^2", "Shape d", null=True)
    shape_k: Mapped[float | None] = column(sa.REAL, "1/pixel^2", "Shape k", null=True)
    flags: Mapped[int] = column(sa.Integer, "", "Bits of db.flags.Flag")


class DetectionSummary(Base):
    """What the detections on one frame come to."""

    __tablename__ = "detection_summary"
    __table_args__ = {"comment": "Number and width of the detections, frame by frame"}

    frame_id: Mapped[int] = key(sa.ForeignKey("frame.frame_id"), "Frame")
    fwhm: Mapped[float | None] = column(
        sa.Double, "pixel", "Median full width at half maximum of its stars; NULL when none has one", null=True
    )
    n_detection: Mapped[int] = column(sa.Integer, "", "Number of detections")
    task_id: Mapped[int] = reference("task.task_id", "Task that made it")


class DetectionMatch(Base):
    """Which source a detection is, and by how much it misses (bulk; no foreign keys; partitioned by night on PostgreSQL)."""

    __tablename__ = "detection_match"
    __table_args__ = (
        {
            "comment": "Sources of the detections, with the residuals of the plate solution",
            "postgresql_partition_by": "RANGE (night_id)",
            "sqlite_with_rowid": False,
        },
    )

    night_id: Mapped[int] = key(sa.SmallInteger, "Night")
    frame_id: Mapped[int] = key(sa.Integer, "Frame")
    number: Mapped[int] = key(sa.Integer, "Number of the detection on the frame")
    source_id: Mapped[int] = column(sa.BigInteger, "", "Source; in one match of a frame at most")
    dx: Mapped[float] = column(sa.REAL, "pixel", "Detected minus projected x; of stars that took part in the fit as if they had not")
    dy: Mapped[float] = column(sa.REAL, "pixel", "Detected minus projected y, likewise")
    in_fit: Mapped[int] = column(sa.SmallInteger, "", "1 for a catalogue star of the fit, 2 for a discovered source of the fit, else 0")


class _Solution:
    """A transformation (RA, Dec) -> (x, y) of one frame.

    Gnomonic projection about (ra0, dec0), then a polynomial of total degree
    `poly_order` in the tangent-plane coordinates for each axis.
    """

    frame_id: Mapped[int] = key(sa.ForeignKey("frame.frame_id"), "Frame")
    ra0: Mapped[float] = column(sa.Double, "deg", "Tangent point, right ascension")
    dec0: Mapped[float] = column(sa.Double, "deg", "Tangent point, declination")
    poly_order: Mapped[int] = column(sa.SmallInteger, "", "Total degree of the polynomials")
    coeff: Mapped[str] = column(sa.Text, "", "JSON object: the solution's coefficients, as reduction.astrometry.kernels.wcs reads them")
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
    chance: Mapped[float | None] = column(
        sa.Double, "dex", "log10 of the probability that a wrong solution matches so many stars", null=True
    )
    task_id: Mapped[int] = reference("task.task_id", "Task that made it")


class FirstSolution(_Solution, Base):
    """The transformation of a frame by itself, from catalogue stars: what fields and discovered sources rest on."""

    __tablename__ = "first_solution"
    __table_args__ = {"comment": "Plate solutions of each frame by itself"}

    start: Mapped[str] = column(
        sa.String(24), "", "What it was started from: header, pointing, blind, neighbour; +pattern: by star patterns"
    )


class WcsSolution(_Solution, Base):
    """The final transformation of a frame: with the night's distortion and discovered sources as secondary standards."""

    __tablename__ = "wcs_solution"
    __table_args__ = {"comment": "Plate solutions, final"}

    n_secondary: Mapped[int] = column(sa.Integer, "", "Discovered sources in the fit")
    distortion: Mapped[str] = column(sa.String(8), "", "'night' when the night's distortion was used, 'own' when the frame's own")
    warning: Mapped[str | None] = column(sa.Text, "", "What is doubtful about it", null=True)
    fits: Mapped[str | None] = column(sa.Text, "", "JSON object: keywords and values of the solution as a FITS WCS (TAN-SIP)", null=True)
    fits_error: Mapped[float | None] = column(
        sa.Double, "pixel", "Largest deviation of that FITS WCS from the solution on the frame", null=True
    )


class FrameField(Base):
    """Where a solved frame lies: its field, and what follows from where its centre points."""

    __tablename__ = "frame_field"
    __table_args__ = (sa.Index(None, "field_id", "frame_id"), {"comment": "Fields of the frames, with what follows from where they point"})

    frame_id: Mapped[int] = key(sa.ForeignKey("frame.frame_id"), "Frame")
    field_id: Mapped[int] = reference("field.field_id", "Field")
    airmass: Mapped[float | None] = column(
        sa.Double, "", "Airmass of the frame's centre; NULL when the site is unknown, or at the horizon", null=True
    )
    moon_separation: Mapped[float | None] = column(sa.Double, "deg", "Distance of the Moon from the centre", null=True)
    task_id: Mapped[int] = reference("task.task_id", "Task that made it")


class Distortion(Base):
    """The distortion that the frames of a night have in common."""

    __tablename__ = "distortion"
    __table_args__ = {"comment": "Distortion of the optics by set-up, channel and night"}

    setup_id: Mapped[int] = key(sa.ForeignKey("setup.setup_id"), "Set-up")
    channel: Mapped[str] = key(sa.String(8), "'mono', or the Bayer channel")
    night_id: Mapped[int] = key(sa.ForeignKey("night.night_id"), "Night")
    poly_order: Mapped[int] = column(sa.SmallInteger, "", "Total degree of the polynomials; 1: no distortion seen")
    coeff: Mapped[str] = column(sa.Text, "", "JSON object: the coefficients, as reduction.astrometry.kernels.distortion reads them")
    n_frame: Mapped[int] = column(sa.Integer, "", "Frames it was fitted to: the night's first 4, 8, 16 ...")
    n_pair: Mapped[int] = column(sa.Integer, "", "Pairs of star and detection it was fitted to")
    rms_x: Mapped[float] = column(sa.Double, "pixel", "Residual in x of stars left out of the fit, 1.48 MAD")
    rms_y: Mapped[float] = column(sa.Double, "pixel", "Residual in y of stars left out of the fit, 1.48 MAD")
    task_id: Mapped[int] = reference("task.task_id", "Task that made it")


class FrameCoverage(Base):
    """The sky that a frame shows, as HEALPix ranges: 'inside the frame and not measured' is a query.

    A source is inside when ``bucket = healpix >> 46`` (an index finds it) and
    ``lo <= healpix < hi``, to a cell of about 1/128 of the frame's diagonal.
    """

    __tablename__ = "frame_coverage"
    __table_args__ = (sa.Index(None, "bucket", "lo"), {"comment": "Sky on each frame, HEALPix ranges (order 29, nested, half-open)"})

    frame_id: Mapped[int] = key(sa.Integer, "Frame")
    lo: Mapped[int] = key(sa.BigInteger, "First HEALPix number of the range")
    hi: Mapped[int] = column(sa.BigInteger, "", "First HEALPix number behind the range")
    bucket: Mapped[int] = column(sa.Integer, "", "HEALPix number of order 6 that holds the range: lo >> 46")


class ShapeMap(Base):
    """How the shapes of stars vary over a frame, smoothly."""

    __tablename__ = "shape_map"
    __table_args__ = {"comment": "Smooth maps of star shapes, frame by frame"}

    frame_id: Mapped[int] = key(sa.ForeignKey("frame.frame_id"), "Frame")
    poly_order: Mapped[int] = column(sa.SmallInteger, "", "Total degree in x, y")
    coeff: Mapped[str] = column(sa.Text, "", "JSON object: the map's coefficients, as reduction.photometry.kernels.shape_map reads them")
    n_star: Mapped[int] = column(sa.Integer, "", "Stars in the fit")
    fwhm: Mapped[float] = column(sa.Double, "pixel", "Full width at half maximum in the middle of the frame")
    ellipticity: Mapped[float] = column(sa.Double, "", "1 - minor/major axis in the middle of the frame")
    theta: Mapped[float] = column(sa.Double, "rad", "Angle of the major axis there, from +x towards +y")
    rms_s: Mapped[float] = column(sa.Double, "1/pixel^2", "Scatter of s about the map, 1.48 MAD, of stars left out")
    rms_d: Mapped[float] = column(sa.Double, "1/pixel^2", "Scatter of d, likewise")
    rms_k: Mapped[float] = column(sa.Double, "1/pixel^2", "Scatter of k, likewise")
    task_id: Mapped[int] = reference("task.task_id", "Task that made it")
