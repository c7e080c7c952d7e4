"""What was observed: observatory, instrument, passband, night, field, exposure and frame."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.orm import Mapped

from db.base import Base, column, key, reference
from db.path_text import PathText

__all__ = [
    "Classification",
    "Exposure",
    "ExposureCopy",
    "ExposureStatistics",
    "Field",
    "Frame",
    "Instrument",
    "Night",
    "Observatory",
    "Passband",
    "Setup",
    "TypeCorrection",
]


class Observatory(Base):
    """A site on the Earth."""

    __tablename__ = "observatory"
    __table_args__ = (sa.UniqueConstraint("name", "latitude", "longitude"), {"comment": "Places on the Earth"})

    observatory_id: Mapped[int] = key(sa.Integer, "Surrogate key")
    name: Mapped[str] = column(sa.String(128), "", "Name as the headers or the definition give it")
    latitude: Mapped[float] = column(sa.Double, "deg", "Geodetic latitude")
    longitude: Mapped[float] = column(sa.Double, "deg", "Longitude, positive east")
    height: Mapped[float] = column(sa.Double, "m", "Height above the ellipsoid; 0 when nobody gave it")


class Instrument(Base):
    """A camera on a telescope, as identified by its definition."""

    __tablename__ = "instrument"
    __table_args__ = (sa.UniqueConstraint("name", "nx", "ny"), {"comment": "Cameras on telescopes"})

    instrument_id: Mapped[int] = key(sa.Integer, "Surrogate key")
    name: Mapped[str] = column(sa.String(128), "", "Telescope and camera as the headers name them")
    definition: Mapped[str] = column(sa.String(64), "", "Name of the definition that read its headers")
    nx: Mapped[int] = column(sa.Integer, "pixel", "Width of its raw frames")
    ny: Mapped[int] = column(sa.Integer, "pixel", "Height of its raw frames")
    identity: Mapped[str | None] = column(
        sa.Text,
        "",
        "JSON object: label, and the facts by which its definition tells cameras apart; NULL: none known",
        null=True,
    )


class Setup(Base):
    """How a camera was set: only frames of one set-up share masters."""

    __tablename__ = "setup"
    __table_args__ = (sa.Index(None, "instrument_id"), {"comment": "Set-ups of cameras: what frames must share to share masters"})

    setup_id: Mapped[int] = key(sa.Integer, "Surrogate key")
    instrument_id: Mapped[int] = reference("instrument.instrument_id", "Instrument")
    binning_x: Mapped[int] = column(sa.SmallInteger, "pixel", "Binning along x")
    binning_y: Mapped[int] = column(sa.SmallInteger, "pixel", "Binning along y")
    gain_setting: Mapped[float | None] = column(
        sa.Double, "", "The camera's own gain setting or ISO speed; NULL when the header has none", null=True
    )
    offset_setting: Mapped[float | None] = column(
        sa.Double, "", "The camera's own offset setting; NULL when the header has none", null=True
    )
    read_mode: Mapped[str | None] = column(sa.String(64), "", "Read-out mode; NULL when the header has none", null=True)


class Passband(Base):
    """A filter."""

    __tablename__ = "passband"
    __table_args__ = (sa.UniqueConstraint("name"), {"comment": "Filters"})

    passband_id: Mapped[int] = key(sa.Integer, "Surrogate key")
    name: Mapped[str] = column(
        sa.String(64), "", "Name as the headers give it, and the colour of a Bayer channel; 'unknown' when there is neither"
    )


class Night(Base):
    """A night, numbered by its evening's local date; it changes at local mean solar noon."""

    __tablename__ = "night"
    __table_args__ = {"comment": "Nights"}

    night_id: Mapped[int] = key(sa.SmallInteger, "Days from 2000-01-01 of the evening's local date")
    evening: Mapped[str] = column(sa.String(10), "", "Local date of the evening, ISO")


class Field(Base):
    """A patch of sky seen by one instrument through one passband."""

    __tablename__ = "field"
    __table_args__ = {"comment": "Patches of sky: same instrument and passband, footprints overlapping by half or more"}

    field_id: Mapped[int] = key(sa.Integer, "Surrogate key")
    instrument_id: Mapped[int] = reference("instrument.instrument_id", "Instrument")
    passband_id: Mapped[int] = reference("passband.passband_id", "Passband")
    ra: Mapped[float] = column(sa.Double, "deg", "Right ascension of the centre of the first frame, ICRS")
    dec: Mapped[float] = column(sa.Double, "deg", "Declination of the centre of the first frame, ICRS")
    radius: Mapped[float] = column(sa.Double, "deg", "Distance of the first frame's farthest corner from its centre")
    corners: Mapped[str] = column(sa.Text, "", "JSON list: RA and Dec in degrees of the first frame's corners")
    fit_band: Mapped[str | None] = column(
        sa.String(16), "", "Band that the fit_mag of its sources is in (step field_colours); NULL: no catalogue has one", null=True
    )
    fit_colour_band: Mapped[str | None] = column(
        sa.String(16), "", "Colour that the fit_colour of its sources is in (step field_colours); NULL: assumed for all", null=True
    )


class Exposure(Base):
    """One raw file, known by its SHA-256."""

    __tablename__ = "exposure"
    __table_args__ = (
        sa.UniqueConstraint("sha256"),
        sa.Index(None, "path"),
        sa.Index(None, "pixels_sha256"),
        sa.Index(None, "duplicate_of"),
        {"comment": "Raw files"},
    )

    exposure_id: Mapped[int] = key(sa.Integer, "Surrogate key")
    sha256: Mapped[str] = column(sa.String(64), "", "SHA-256 of the raw file")
    path: Mapped[str] = column(PathText(), "", "Absolute path of the raw file, which is never moved or changed")
    size: Mapped[int] = column(sa.BigInteger, "byte", "Size of the raw file")
    mtime_ns: Mapped[int] = column(sa.BigInteger, "ns", "Modification time of the raw file: spares hashing a file that has not changed")
    instrument_id: Mapped[int] = reference("instrument.instrument_id", "Instrument")
    observatory_id: Mapped[int | None] = reference(
        "observatory.observatory_id", "Site; NULL when unknown (times are then geocentric)", null=True
    )
    night_id: Mapped[int] = reference("night.night_id", "Night")
    object_name: Mapped[str | None] = column(sa.String(128), "", "What the header says was observed", null=True)
    header_type: Mapped[str | None] = column(sa.String(64), "", "What the header says the exposure is", null=True)
    bayer: Mapped[str | None] = column(
        sa.String(4), "", "Colours of the 2x2 pixels at the origin of the array, row by row, such as RGGB; NULL when monochrome", null=True
    )
    lens: Mapped[str | None] = column(sa.String(128), "", "Lens that the header names", null=True)
    aperture: Mapped[float | None] = column(sa.Double, "", "F-number of the lens that the header gives", null=True)
    calibration_state: Mapped[str] = column(
        sa.String(64), "", "What the header says was done already: any of 'bias', 'dark', 'flat'; '' for none"
    )
    pointing_ra: Mapped[float | None] = column(sa.Double, "deg", "Right ascension that the header gives", null=True)
    pointing_dec: Mapped[float | None] = column(sa.Double, "deg", "Declination that the header gives", null=True)
    pixel_scale: Mapped[float | None] = column(sa.Double, "arcsec/pixel", "Pixel scale that the header or the definition gives", null=True)
    gain: Mapped[float | None] = column(sa.Double, "electron/adu", "Gain that the header or the definition gives", null=True)
    read_noise: Mapped[float | None] = column(sa.Double, "electron", "Read noise that the header or the definition gives", null=True)
    saturation: Mapped[float | None] = column(sa.Double, "adu", "Saturation level that the header or the definition gives", null=True)
    black_level: Mapped[float | None] = column(sa.Double, "adu", "Level without light that the header or the definition gives", null=True)
    ccd_temperature: Mapped[float | None] = column(sa.Double, "deg_C", "Detector temperature", null=True)
    trim: Mapped[str | None] = column(
        sa.String(64), "", "JSON list x0, x1, y0, y1 (half-open) of the part with sky; NULL: all of it", null=True
    )
    overscan: Mapped[str | None] = column(sa.String(64), "", "JSON list x0, x1, y0, y1 (half-open) of the overscan; NULL: none", null=True)
    quantum: Mapped[float] = column(sa.Double, "adu", "Step between raw values; 0 when they are continuous")
    notes: Mapped[str | None] = column(sa.Text, "", "Doubts about the header", null=True)
    original_sha256: Mapped[str | None] = column(
        sa.String(64), "", "SHA-256 of the camera's file that this FITS file was converted from; NULL for an original", null=True
    )
    pixels_sha256: Mapped[str | None] = column(
        sa.String(64), "", "SHA-256 of the pixels' values, however the file stores them; NULL: not known yet", null=True
    )
    duplicate_of: Mapped[int | None] = reference(
        "exposure.exposure_id", "The same exposure in another file, which has the frames; NULL for the only or first one", null=True
    )
    product_id: Mapped[int | None] = reference(
        "product.product_id", "The FITS file made from a camera's own format; NULL when the raw file is FITS", null=True
    )
    task_id: Mapped[int] = reference("task.task_id", "Task that took it in")


class ExposureCopy(Base):
    """A further place in which the bytes of a raw file lie."""

    __tablename__ = "exposure_copy"
    __table_args__ = (
        sa.Index(None, "exposure_id"),
        sa.Index(None, "path"),
        {"comment": "Further places of raw files, byte for byte the same"},
    )

    copy_id: Mapped[int] = key(sa.Integer, "Surrogate key")
    exposure_id: Mapped[int] = reference("exposure.exposure_id", "The raw file, which has SHA-256 and size")
    path: Mapped[str] = column(PathText(), "", "Absolute path of the copy")
    mtime_ns: Mapped[int] = column(sa.BigInteger, "ns", "Modification time of the copy")


class Frame(Base):
    """One channel of one exposure: the unit of all reduction."""

    __tablename__ = "frame"
    __table_args__ = (
        sa.UniqueConstraint("exposure_id", "channel"),
        sa.Index(None, "night_id", "frame_id"),
        sa.Index(None, "instrument_id", "jd_utc"),
        {"comment": "Frames: one channel of one exposure"},
    )

    frame_id: Mapped[int] = key(sa.Integer, "Surrogate key")
    exposure_id: Mapped[int] = reference("exposure.exposure_id", "Exposure")
    channel: Mapped[str] = column(sa.String(8), "", "'mono', or the Bayer channel: R, G1, G2, B (G1 shares its rows with R)")
    setup_id: Mapped[int] = reference("setup.setup_id", "Set-up of the camera")
    night_id: Mapped[int] = reference("night.night_id", "Night")
    instrument_id: Mapped[int] = reference("instrument.instrument_id", "Instrument")
    passband_id: Mapped[int] = reference("passband.passband_id", "Passband")
    exptime: Mapped[float] = column(sa.Double, "s", "Exposure time")
    nx: Mapped[int] = column(sa.Integer, "pixel", "Width after trimming")
    ny: Mapped[int] = column(sa.Integer, "pixel", "Height after trimming")
    raw_x0: Mapped[int] = column(
        sa.Integer, "pixel", "Column of the raw file that the frame's first column is: raw x = raw_x0 + raw_step x"
    )
    raw_y0: Mapped[int] = column(sa.Integer, "pixel", "Row of the raw file that the frame's first row is: raw y = raw_y0 + raw_step y")
    raw_step: Mapped[int] = column(
        sa.SmallInteger, "pixel", "Pixels of the raw file from one of the frame's to the next: 2 for a Bayer channel, else 1"
    )
    jd_utc: Mapped[float] = column(sa.Double, "d", "Mid-exposure, Julian date UTC")
    jd_tdb: Mapped[float] = column(sa.Double, "d", "Mid-exposure, Julian date TDB at the observatory")
    time_source: Mapped[str] = column(sa.String(64), "", "Keywords and rule that gave the time")
    time_sigma: Mapped[float] = column(sa.Double, "s", "Precision of the time as written in the header")
    bx: Mapped[float] = column(sa.Double, "d", "Barycentric position of the observatory as light travel time, ICRS x")
    by: Mapped[float] = column(sa.Double, "d", "Barycentric position of the observatory as light travel time, ICRS y")
    bz: Mapped[float] = column(sa.Double, "d", "Barycentric position of the observatory as light travel time, ICRS z")
    zx: Mapped[float | None] = column(sa.Double, "", "Zenith, ICRS unit vector x; NULL when the site is unknown", null=True)
    zy: Mapped[float | None] = column(sa.Double, "", "Zenith, ICRS unit vector y", null=True)
    zz: Mapped[float | None] = column(sa.Double, "", "Zenith, ICRS unit vector z", null=True)
    sun_altitude: Mapped[float | None] = column(sa.Double, "deg", "Altitude of the Sun", null=True)
    moon_altitude: Mapped[float | None] = column(sa.Double, "deg", "Altitude of the Moon", null=True)
    moon_illumination: Mapped[float] = column(sa.Double, "", "Illuminated fraction of the Moon's disc")
    moon_ra: Mapped[float] = column(sa.Double, "deg", "Right ascension of the Moon")
    moon_dec: Mapped[float] = column(sa.Double, "deg", "Declination of the Moon")


class Classification(Base):
    """What a frame was taken for, by step classify."""

    __tablename__ = "classification"
    __table_args__ = (sa.Index(None, "type", "frame_id"), {"comment": "Types of frames, each with its evidence"})

    frame_id: Mapped[int] = key(sa.ForeignKey("frame.frame_id"), "Frame")
    type: Mapped[str] = column(sa.String(8), "", "bias, dark, flat, object or other")
    reason: Mapped[str] = column(sa.Text, "", "Why it has this type")
    confidence: Mapped[float] = column(sa.Double, "", "Confidence in the type, 0 to 1")
    evidence: Mapped[str | None] = column(sa.Text, "", "JSON object: the numbers behind the type", null=True)
    disagrees: Mapped[int | None] = column(sa.SmallInteger, "", "1 when the header says that it is of another type, else 0", null=True)
    task_id: Mapped[int] = reference("task.task_id", "Task that made it")


class ExposureStatistics(Base):
    """What the raw pixels say, as evidence for sorting."""

    __tablename__ = "exposure_statistics"
    __table_args__ = {"comment": "Statistics of the raw pixels: the evidence for sorting"}

    exposure_id: Mapped[int] = key(sa.ForeignKey("exposure.exposure_id"), "Exposure")
    statistics: Mapped[str] = column(sa.Text, "", "JSON object: name and value of each statistic, and what the header adds")
    task_id: Mapped[int] = reference("task.task_id", "Task that made it")


class TypeCorrection(Base):
    """A person's correction of an exposure's type; the newest wins over pixels and header."""

    __tablename__ = "type_correction"
    __table_args__ = (sa.Index(None, "exposure_id"), {"comment": "A person's corrections of the types of exposures"})

    correction_id: Mapped[int] = key(sa.Integer, "Surrogate key")
    exposure_id: Mapped[int] = reference("exposure.exposure_id", "Exposure")
    type: Mapped[str | None] = column(
        sa.String(8), "", "bias, dark, flat, object or other; NULL: the correction before it is taken back", null=True
    )
    reason: Mapped[str] = column(sa.Text, "", "Why")
    author: Mapped[str] = column(sa.String(64), "", "Who said so")
    created: Mapped[dt.datetime] = column(sa.DateTime, "", "When, UTC")
