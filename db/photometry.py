"""Backgrounds, photometry slots, measurements, and what they come to frame by frame."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped

from db.base import Base, column, key, reference

__all__ = [
    "N_SLOT",
    "ApertureCorrection",
    "ClosedMeasurement",
    "FrameBackground",
    "FramePhotometry",
    "OpenMeasurement",
    "PhotometrySlot",
    "PsfChoice",
    "PsfMap",
    "PsfStar",
    "SharedPsf",
    "SharedPsfFrame",
    "TargetMeasurement",
]

#: Slots of a measurement row: 0 is the PSF's, 1 to 7 are apertures.
N_SLOT = 8


class FrameBackground(Base):
    """The background of one frame."""

    __tablename__ = "frame_background"
    __table_args__ = {"comment": "Backgrounds, frame by frame"}

    frame_id: Mapped[int] = key(sa.ForeignKey("frame.frame_id"), "Frame")
    level: Mapped[float] = column(sa.Double, "adu", "Mean over the frame")
    noise: Mapped[float] = column(sa.Double, "adu", "Standard deviation of a sky pixel")
    error: Mapped[float] = column(sa.Double, "adu", "Typical error of the local background")
    sky_fraction: Mapped[float] = column(sa.Double, "", "Fraction of pixels used as sky")
    box: Mapped[int | None] = column(sa.Integer, "pixel", "Side of the boxes that the map is made of", null=True)
    smooth: Mapped[float | None] = column(sa.Double, "pixel", "Standard deviation of the Gaussian that smooths them", null=True)
    structure: Mapped[float | None] = column(sa.Double, "adu", "Scatter of the boxes about the map beyond their noise", null=True)
    wing_light: Mapped[float | None] = column(
        sa.Double, "adu", "Light of stars beyond their masks that was taken off, mean over the sky", null=True
    )
    n_hiding: Mapped[int | None] = column(sa.Integer, "", "Stars that hide some of the sky", null=True)
    ring_inner: Mapped[float | None] = column(
        sa.Double, "pixel", "Inner radius of the rings about sources; NULL where the map serves all", null=True
    )
    ring_outer: Mapped[float | None] = column(
        sa.Double, "pixel", "Outer radius of the rings about sources; NULL where the map serves all", null=True
    )
    product_id: Mapped[int] = reference("product.product_id", "File with the planes of values and errors")
    task_id: Mapped[int] = reference("task.task_id", "Task that made it")


class FramePhotometry(Base):
    """What the measurements of one frame come to; a frame without a row has no points in the light curves."""

    __tablename__ = "frame_photometry"
    __table_args__ = {"comment": "Zero points and depth of the measurements, frame by frame"}

    frame_id: Mapped[int] = key(sa.ForeignKey("frame.frame_id"), "Frame")
    n_source: Mapped[int] = column(sa.Integer, "", "Number of sources measured")
    zero_point: Mapped[float | None] = column(
        sa.Double, "mag", "Magnitude of a source of 1 ADU/s, from catalogue stars; NULL with fewer than three", null=True
    )
    zero_point_scatter: Mapped[float | None] = column(sa.Double, "mag", "Scatter of the stars about the zero point, 1.48 MAD", null=True)
    n_zero_point: Mapped[int] = column(sa.Integer, "", "Stars in the zero point")
    limiting_mag: Mapped[float | None] = column(sa.Double, "mag", "Magnitude of a source with S/N 5", null=True)
    apertures: Mapped[str] = column(
        sa.String(8), "", "How border pixels are split: 'psf', by the profile; 'area'; 'plain': by area, and neighbours' light is in them"
    )
    task_id: Mapped[int] = reference("task.task_id", "Task that made its measurements")


class ApertureCorrection(Base):
    """The curve of growth of one frame's stars, at the radii of the instrument's apertures."""

    __tablename__ = "aperture_correction"
    __table_args__ = {"comment": "How much of a star's light each aperture holds, frame by frame"}

    frame_id: Mapped[int] = key(sa.ForeignKey("frame.frame_id"), "Frame")
    slot: Mapped[int] = key(sa.SmallInteger, "Photometry slot")
    enclosed: Mapped[float] = column(sa.Double, "", "Part of a star's light in it, by the profile map; median over the stars")
    correction: Mapped[float | None] = column(
        sa.Double, "mag", "To be added to a magnitude in it, for that of all the light; median of bright stars' own", null=True
    )
    scatter: Mapped[float | None] = column(sa.Double, "mag", "Scatter of these stars about it, 1.48 MAD", null=True)
    n_star: Mapped[int] = column(sa.Integer, "", "Number of these stars")


_MAP_ERROR = "is uncertain by the map's own error, common to stars near each other and in no error of a flux"
_RELATIVE = "stat.error;arith.ratio"


class PsfMap(Base):
    """The profile of stars over one frame, as a smooth map."""

    __tablename__ = "psf_map"
    __table_args__ = (sa.Index(None, "n_star"), {"comment": "Smooth maps of the profile of stars, frame by frame"})

    frame_id: Mapped[int] = key(sa.ForeignKey("frame.frame_id"), "Frame")
    kind: Mapped[str] = column(
        sa.String(8), "", "'psf': the light's own profile, integrated over pixels; 'prf': a pixel's response; 'shape': of the shape map"
    )
    reason: Mapped[str] = column(sa.String(160), "", "Why it is of this kind")
    poly_order: Mapped[int] = column(sa.SmallInteger, "", "Total degree in x, y")
    radius: Mapped[float] = column(sa.Double, "pixel", "The profile counts as far as this from a star")
    pixel: Mapped[float] = column(sa.Double, "pixel", "Width of the sensitive part of a pixel that it is integrated over; 0 for a PRF")
    n_coeff: Mapped[int] = column(sa.Integer, "", "Number of coefficients fitted")
    coeff: Mapped[str] = column(sa.Text, "", "JSON object: knots and coefficients, as reduction.photometry.kernels.psf_map reads them")
    n_star: Mapped[int] = column(sa.Integer, "", "Stars in the fit")
    chi2: Mapped[float | None] = column(sa.Double, "", "Median reduced chi-square of these stars", null=True)
    held_out: Mapped[str | None] = column(sa.Text, "", "JSON list: reduced chi-square of stars left out, for each order tried", null=True)
    roughness: Mapped[float | None] = column(sa.Double, "", "Strength of the smoothing that predicts stars left out best", null=True)
    terms: Mapped[str | None] = column(
        sa.String(80),
        "",
        "Further terms of the map, one word each: 'colour', 'brightness'; NULL in rows from before them",
        null=True,
        ucd="meta.note;stat.fit.param",
    )
    terms_held_out: Mapped[str | None] = column(
        sa.Text, "", "JSON object: reduced chi-square of stars left out, with each further term tried", null=True, ucd="stat.fit.chi2"
    )
    flux_error: Mapped[float | None] = column(
        sa.Double, "", f"Part of a bright star's flux that {_MAP_ERROR}; mean over the frame", null=True, ucd=_RELATIVE
    )
    flux_most_error: Mapped[float | None] = column(sa.Double, "", "The same where it is largest", null=True, ucd=_RELATIVE)
    faint_flux_error: Mapped[float | None] = column(
        sa.Double, "", f"Part of the flux of a star fainter than the sky that {_MAP_ERROR}; mean over the frame", null=True, ucd=_RELATIVE
    )
    faint_flux_most_error: Mapped[float | None] = column(sa.Double, "", "The same where it is largest", null=True, ucd=_RELATIVE)
    peak_error: Mapped[float | None] = column(
        sa.Double, "", "Error of the light in a star's middle pixel that comes of the map's, as part of it", null=True, ucd=_RELATIVE
    )
    fwhm: Mapped[float] = column(sa.Double, "pixel", "Full width at half maximum in the middle of the frame, as pixels show it")
    shape_fwhm: Mapped[float | None] = column(sa.Double, "pixel", "The shape map's there", null=True)
    task_id: Mapped[int] = reference("task.task_id", "Task that made it")


class PsfStar(Base):
    """A star that a profile map was fitted to (bulk; no foreign keys; partitioned by night on PostgreSQL)."""

    __tablename__ = "psf_star"
    __table_args__ = (
        {
            "comment": "Stars that the profile maps were fitted to",
            "postgresql_partition_by": "RANGE (night_id)",
            "sqlite_with_rowid": False,
        },
    )

    night_id: Mapped[int] = key(sa.SmallInteger, "Night")
    frame_id: Mapped[int] = key(sa.Integer, "Frame")
    source_id: Mapped[int] = key(sa.BigInteger, "Source")
    snr: Mapped[float] = column(sa.REAL, "", "Signal to noise of its flux")
    chi2: Mapped[float | None] = column(sa.REAL, "", "Reduced chi-square of its pixels about the map", null=True)


class SharedPsf(Base):
    """A profile map that few-starred frames of a night, of like seeing, have in common."""

    __tablename__ = "shared_psf"
    __table_args__ = {"comment": "Profile maps that several few-starred frames of a night share; rows count while their task is done"}

    setup_id: Mapped[int] = key(sa.ForeignKey("setup.setup_id"), "Set-up")
    channel: Mapped[str] = key(sa.String(8), "'mono', or the Bayer channel")
    night_id: Mapped[int] = key(sa.ForeignKey("night.night_id"), "Night")
    number: Mapped[int] = key(sa.SmallInteger, "Number of the map among those of the night, from 0")
    passband_id: Mapped[int] = reference("passband.passband_id", "Filter")
    kind: Mapped[str] = column(sa.String(8), "", "'psf': the light's own profile, integrated over pixels; 'prf': a pixel's response")
    seeing: Mapped[float] = column(
        sa.Double, "pixel", "Median full width at half maximum of its frames, as their detections have it", ucd="instr.obsty.seeing"
    )
    n_frame: Mapped[int] = column(sa.Integer, "", "Frames in the fit")
    n_star: Mapped[int] = column(sa.Integer, "", "Stars in the fit, those of each frame counted")
    poly_order: Mapped[int] = column(sa.SmallInteger, "", "Total degree in x, y")
    radius: Mapped[float] = column(sa.Double, "pixel", "The profile counts as far as this from a star, where a frame's width is 1")
    pixel: Mapped[float] = column(sa.Double, "pixel", "Width of the sensitive part of a pixel that it is integrated over; 0 for a PRF")
    n_coeff: Mapped[int] = column(sa.Integer, "", "Number of coefficients fitted")
    coeff: Mapped[str] = column(sa.Text, "", "JSON object: knots and coefficients, as reduction.photometry.kernels.psf_map reads them")
    left_out: Mapped[str] = column(sa.Text, "", "JSON list of such objects: the map without each part of its frames", ucd="stat.fit.param")
    chi2: Mapped[float] = column(sa.Double, "", "Median reduced chi-square of these stars")
    held_out: Mapped[str] = column(sa.Text, "", "JSON list: reduced chi-square of frames left out, for each order tried")
    roughness: Mapped[float] = column(sa.Double, "", "Strength of the smoothing that predicts frames left out best")
    terms: Mapped[str] = column(
        sa.String(80), "", "Further terms of the map, one word each: 'colour', 'brightness'", ucd="meta.note;stat.fit.param"
    )
    fwhm: Mapped[float] = column(sa.Double, "pixel", "Full width at half maximum in the middle, as pixels show it, where the width is 1")
    task_id: Mapped[int] = reference("task.task_id", "Task that made it")


class SharedPsfFrame(Base):
    """A frame that a shared profile map was fitted to."""

    __tablename__ = "shared_psf_frame"
    __table_args__ = (
        sa.Index(None, "setup_id", "channel", "night_id"),
        {"comment": "Frames that the shared profile maps were fitted to; rows count while their task is done"},
    )

    frame_id: Mapped[int] = key(sa.ForeignKey("frame.frame_id"), "Frame")
    setup_id: Mapped[int] = reference("setup.setup_id", "Set-up")
    channel: Mapped[str] = column(sa.String(8), "", "'mono', or the Bayer channel")
    night_id: Mapped[int] = reference("night.night_id", "Night")
    number: Mapped[int] = column(sa.SmallInteger, "", "Number of the map")
    fold: Mapped[int] = column(sa.SmallInteger, "", "Part of the frames that it belongs to, from 0: place in shared_psf.left_out")
    width: Mapped[float] = column(sa.Double, "", "How many times as wide as the map's its profile is", ucd="arith.factor;instr.det.psf")
    n_star: Mapped[int] = column(sa.Integer, "", "Its stars in the fit")
    task_id: Mapped[int] = reference("task.task_id", "Task that made it")


class PsfChoice(Base):
    """Which profile map a few-starred frame is measured with, and why; a frame without a row with its own, of `psf_map`."""

    __tablename__ = "psf_choice"
    __table_args__ = {"comment": "Which profile map a few-starred frame is measured with; rows count while their task is done"}

    frame_id: Mapped[int] = key(sa.ForeignKey("frame.frame_id"), "Frame")
    uses: Mapped[str] = column(
        sa.String(8), "", "'own': that of psf_map, of whatever kind it is; 'shared': that of shared_psf", ucd="meta.code.class"
    )
    reason: Mapped[str] = column(sa.String(160), "", "Why")
    number: Mapped[int | None] = column(sa.SmallInteger, "", "Number of the shared map of like seeing; NULL for none", null=True)
    width: Mapped[float | None] = column(
        sa.Double, "", "How many times as wide as the shared map's its profile is", null=True, ucd="arith.factor;instr.det.psf"
    )
    n_star: Mapped[int] = column(sa.Integer, "", "Its stars that both maps were tried on")
    own_chi2: Mapped[float | None] = column(
        sa.Double, "", "Geometric mean of their reduced chi-squares about its own map, made without each", null=True, ucd="stat.fit.chi2"
    )
    shared_chi2: Mapped[float | None] = column(
        sa.Double, "", "The same about the shared map, made without the frame", null=True, ucd="stat.fit.chi2"
    )
    task_id: Mapped[int] = reference("task.task_id", "Task that made it")


class PhotometrySlot(Base):
    """What a slot of `measurement` holds, for one instrument."""

    __tablename__ = "photometry_slot"
    __table_args__ = {"comment": "What each flux of a measurement is"}

    instrument_id: Mapped[int] = key(sa.ForeignKey("instrument.instrument_id"), "Instrument")
    slot: Mapped[int] = key(sa.SmallInteger, "Number of the flux column")
    kind: Mapped[str] = column(sa.String(12), "", "'aperture', 'psf' or 'prf'")
    radius: Mapped[float | None] = column(sa.Double, "pixel", "Radius of the aperture", null=True)
    description: Mapped[str] = column(sa.Text, "", "In words")
    task_id: Mapped[int] = reference("task.task_id", "Task that made it")


class _Fluxes:
    """Fluxes of one source on one frame (bulk, wide; no surrogate key, no foreign keys)."""

    source_id: Mapped[int] = key(sa.BigInteger, "Source")
    night_id: Mapped[int] = key(sa.SmallInteger, "Night")
    frame_id: Mapped[int] = key(sa.Integer, "Frame")
    flags: Mapped[int] = column(sa.Integer, "", "Bits of db.flags.Flag")
    x: Mapped[float] = column(sa.REAL, "pixel", "Projected position x, 0-based pixel centres")
    y: Mapped[float] = column(sa.REAL, "pixel", "Projected position y, 0-based pixel centres")
    background: Mapped[float | None] = column(sa.REAL, "adu", "Background at the source, per pixel", null=True)
    background_err: Mapped[float | None] = column(sa.REAL, "adu", "Its error, fully correlated over an aperture", null=True)
    psf_chi2: Mapped[float | None] = column(sa.REAL, "", "Reduced chi-square of the PSF fit", null=True)


for _slot in range(N_SLOT):
    _what = "PSF flux" if _slot == 0 else f"Flux of aperture slot {_slot}"
    setattr(_Fluxes, f"flux_{_slot}", column(sa.REAL, "adu", f"{_what}, per exposure", null=True, ucd="phot.count;em.opt"))
    setattr(_Fluxes, f"flux_err_{_slot}", column(sa.REAL, "adu", f"Error of flux_{_slot}", null=True, ucd="stat.error;phot.count;em.opt"))


class OpenMeasurement(_Fluxes, Base):
    """Fluxes as frames bring them, in the order in which they come; step extract takes them to `closed_measurement`.

    A frame's rows are appended. In the order of the sources they would touch nearly every page of their night, frame after frame.
    """

    __tablename__ = "open_measurement"
    __table_args__ = (
        sa.PrimaryKeyConstraint("night_id", "frame_id", "source_id"),
        {"comment": "Fluxes of each source on each frame of the nights that are not over", "sqlite_with_rowid": False},
    )


class ClosedMeasurement(_Fluxes, Base):
    """Fluxes of nights that are over, in the order of the sources.

    PostgreSQL: primary key (source_id, night_id, frame_id), partitioned by
    night. SQLite: (night_id, source_id, frame_id) WITHOUT ROWID.
    """

    __tablename__ = "closed_measurement"
    __table_args__ = (
        {
            "comment": "Fluxes of each source on each frame of the nights that are over",
            "postgresql_partition_by": "RANGE (night_id)",
            "sqlite_with_rowid": False,
        },
    )


class TargetMeasurement(Base):
    """The flux at the position of one target on one frame, whether or not there is a star (bulk; no foreign keys; partitioned by night)."""

    __tablename__ = "target_measurement"
    __table_args__ = (
        sa.Index(None, "target_id"),
        {
            "comment": "Fluxes at the positions of targets, frame by frame; rows count while their task is done",
            "postgresql_partition_by": "RANGE (night_id)",
            "sqlite_with_rowid": False,
        },
    )

    night_id: Mapped[int] = key(sa.SmallInteger, "Night")
    frame_id: Mapped[int] = key(sa.Integer, "Frame")
    target_id: Mapped[int] = key(sa.Integer, "Target")
    source_id: Mapped[int | None] = column(
        sa.BigInteger, "", "The source that it is on this frame, and whose place it takes; NULL: a star of its own", null=True
    )
    flags: Mapped[int] = column(sa.Integer, "", "Bits of db.flags.Flag")
    x: Mapped[float] = column(sa.REAL, "pixel", "Position x, 0-based pixel centres")
    y: Mapped[float] = column(sa.REAL, "pixel", "Position y, 0-based pixel centres")
    background: Mapped[float | None] = column(sa.REAL, "adu", "Background there, per pixel", null=True)
    background_err: Mapped[float | None] = column(sa.REAL, "adu", "Its error, the same for all pixels of the profile", null=True)
    flux: Mapped[float | None] = column(
        sa.REAL, "adu", "Flux fitted with the profile map, per exposure; NULL where no pixel counts", null=True
    )
    flux_err: Mapped[float | None] = column(sa.REAL, "adu", "Its error, with the background's", null=True)
    psf_err: Mapped[float | None] = column(
        sa.REAL,
        "adu",
        "Error of the flux by the profile map's own, common to stars near it and not in flux_err; NULL where it is not known",
        null=True,
        ucd="stat.error;phot.count;em.opt",
    )
    chi2: Mapped[float | None] = column(sa.REAL, "", "Reduced chi-square of the pixels of its profile", null=True)
    neighbour_flux: Mapped[float | None] = column(
        sa.REAL, "adu", "What a fit of it alone would take from other stars' light", null=True, ucd="phot.count;em.opt"
    )
    task_id: Mapped[int] = column(sa.Integer, "", "Task that made it")
