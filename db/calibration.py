"""Detectors, masters, the frames that went into them, which of them a person chose, and calibrated frames."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.orm import Mapped

from db.base import Base, column, key, reference

__all__ = ["CalibratedFrame", "DarkLinearity", "Detector", "Master", "MasterChoice", "MasterFrame", "Origin", "RefusedFrame"]


class Origin(StrEnum):
    """How a fact of a detector came about."""

    GIVEN = "given"  # by the header, or by the definition of the instrument
    MEASURED = "measured"  # from bias frames, flats or the sky
    LIMIT = "limit"  # an upper limit
    ASSUMED = "assumed"  # nothing tells it


class Detector(Base):
    """Gain, read noise, zero level, saturation and linearity of one set-up and channel on one night, and how they came about."""

    __tablename__ = "detector"
    __table_args__ = {"comment": "Gain, read noise, levels and linearity by set-up, channel and night"}

    setup_id: Mapped[int] = key(sa.ForeignKey("setup.setup_id"), "Set-up")
    channel: Mapped[str] = key(sa.String(8), "'mono', or the Bayer channel")
    night_id: Mapped[int] = key(sa.ForeignKey("night.night_id"), "Night")
    gain: Mapped[float] = column(sa.Double, "electron/adu", "Gain")
    gain_err: Mapped[float | None] = column(sa.Double, "electron/adu", "Error of the gain; NULL when given", null=True)
    gain_source: Mapped[str] = column(sa.String(64), "", "How the gain came about: 'given', or what it was measured from")
    gain_origin: Mapped[str] = column(sa.String(8), "", "'given', 'measured' or 'assumed'")
    own_gain: Mapped[float | None] = column(sa.Double, "electron/adu", "Gain that this night alone measured; NULL: none", null=True)
    own_gain_err: Mapped[float | None] = column(sa.Double, "electron/adu", "Error of that", null=True)
    sky_level: Mapped[float | None] = column(
        sa.Double, "adu", "Level of the sky of its pairs of frames; NULL: none were looked at", null=True
    )
    sky_variance: Mapped[float | None] = column(sa.Double, "adu2", "Noise variance of that sky, without quantisation", null=True)
    gain_revision: Mapped[str | None] = column(
        sa.String(16), "", "Gain of the set-up for which the night was made anew; NULL: as it was first made", null=True
    )
    read_noise: Mapped[float] = column(sa.Double, "electron", "Read noise")
    read_noise_source: Mapped[str] = column(sa.String(64), "", "How the read noise came about")
    read_noise_origin: Mapped[str] = column(sa.String(8), "", "'given', 'measured' (from bias frames), or 'limit' (from the sky's noise)")
    zero_level: Mapped[float] = column(sa.Double, "adu", "Level of a pixel without light, for frames without a bias master")
    zero_level_source: Mapped[str] = column(sa.String(64), "", "How the zero level came about")
    saturation: Mapped[float | None] = column(
        sa.Double, "adu", "Raw level at which a pixel is saturated; NULL when none was seen or given", null=True
    )
    saturation_source: Mapped[str] = column(sa.String(64), "", "How the saturation level came about")
    linearity: Mapped[str | None] = column(
        sa.Text, "", "JSON list c1, c2 ...: light = s (1 + c1 s + c2 s^2 ...) for a signal of s ADU; NULL: taken as linear", null=True
    )
    task_id: Mapped[int] = reference("task.task_id", "Task that made it")


class Master(Base):
    """A master bias, dark or flat, a large-scale flat, or a fixed pattern."""

    __tablename__ = "master"
    __table_args__ = (sa.Index(None, "setup_id", "channel", "kind"), {"comment": "Master calibration frames"})

    master_id: Mapped[int] = key(sa.Integer, "Surrogate key")
    kind: Mapped[str] = column(
        sa.String(16),
        "",
        "bias, dark, largescale (smoothed flats), flat, or pattern: what hot pixels add, from object frames without a dark",
    )
    setup_id: Mapped[int] = reference("setup.setup_id", "Set-up of the camera")
    night_id: Mapped[int] = reference("night.night_id", "Night of its frames")
    channel: Mapped[str] = column(sa.String(8), "", "'mono', or the Bayer channel")
    passband_id: Mapped[int | None] = reference("passband.passband_id", "Passband, for flats", null=True)
    exptime: Mapped[float | None] = column(sa.Double, "s", "Exposure time, for darks and patterns", null=True)
    ccd_temperature: Mapped[float | None] = column(sa.Double, "deg_C", "Mean detector temperature; NULL when unknown", null=True)
    jd_utc: Mapped[float] = column(sa.Double, "d", "Mean mid-exposure of its frames, Julian date UTC")
    valid_from: Mapped[float] = column(sa.Double, "d", "It serves frames from this Julian date UTC on")
    valid_until: Mapped[float] = column(sa.Double, "d", "It serves frames up to this Julian date UTC")
    temperature_tolerance: Mapped[float | None] = column(
        sa.Double, "deg_C", "A dark serves frames whose detector was this much warmer or colder; NULL: at any temperature", null=True
    )
    max_ratio: Mapped[float] = column(
        sa.Double, "", "A dark may be scaled to exposures shorter by this factor, where measured darks show linearity; 1: never"
    )
    bias_master_id: Mapped[int | None] = reference("master.master_id", "Master bias taken off its frames; NULL: none", null=True)
    from_sky: Mapped[int] = column(sa.SmallInteger, "", "1 for a flat made of object frames, else 0")
    n_frame: Mapped[int] = column(sa.Integer, "", "Frames averaged")
    n_rejected: Mapped[int] = column(sa.Integer, "", "Frames rejected")
    n_bad_pixel: Mapped[int] = column(sa.Integer, "pixel", "Masked pixels: hot, dead or without a value")
    level: Mapped[float] = column(sa.Double, "adu", "Mean value; 1 for flats")
    noise: Mapped[float] = column(sa.Double, "adu", "Typical error of a pixel of the master")
    warning: Mapped[str | None] = column(sa.Text, "", "What is doubtful about it", null=True)
    product_id: Mapped[int] = reference("product.product_id", "File with the planes SCI, VAR, MASK and COUNT")
    task_id: Mapped[int] = reference("task.task_id", "Task that made it")


class MasterFrame(Base):
    """A frame considered for a master, and what became of it."""

    __tablename__ = "master_frame"
    __table_args__ = {"comment": "Frames considered for a master"}

    master_id: Mapped[int] = key(sa.ForeignKey("master.master_id"), "Master")
    frame_id: Mapped[int] = key(sa.ForeignKey("frame.frame_id"), "Frame")
    used: Mapped[int] = column(sa.SmallInteger, "", "1 when averaged, 0 when rejected")
    reason: Mapped[str | None] = column(sa.Text, "", "Why it was rejected", null=True)


class RefusedFrame(Base):
    """A frame of a set of which no master came, and why it was not fit for one."""

    __tablename__ = "refused_frame"
    __table_args__ = {"comment": "Frames refused where no master came of their set"}

    task_id: Mapped[int] = key(sa.ForeignKey("task.task_id"), "Task that made no master")
    frame_id: Mapped[int] = key(sa.ForeignKey("frame.frame_id"), "Frame")
    reason: Mapped[str] = column(sa.Text, "", "Why it was refused")


class DarkLinearity(Base):
    """Whether two master darks of a set-up show a dark signal that grows with the exposure time alone."""

    __tablename__ = "dark_linearity"
    __table_args__ = {"comment": "Pairs of master darks compared: does the dark signal grow with the exposure time?"}

    long_master_id: Mapped[int] = key(sa.ForeignKey("master.master_id"), "Master dark of the longer exposures")
    short_master_id: Mapped[int] = key(sa.ForeignKey("master.master_id"), "Master dark of the shorter exposures")
    ratio: Mapped[float] = column(sa.Double, "", "Ratio of the exposure times")
    slope: Mapped[float] = column(sa.Double, "", "Ratio of the dark signals of warm pixels")
    slope_err: Mapped[float] = column(sa.Double, "", "Error of the slope")
    n_pixel: Mapped[int] = column(sa.Integer, "pixel", "Warm pixels compared")
    is_linear: Mapped[int] = column(sa.SmallInteger, "", "1 when slope and ratio agree within the limit of step dark_scaling, else 0")
    task_id: Mapped[int] = reference("task.task_id", "Task that made it")


class MasterChoice(Base):
    """A person's choice of a master; the newest for a frame, else for its night, wins over the rule."""

    __tablename__ = "master_choice"
    __table_args__ = (sa.Index(None, "kind", "night_id", "frame_id"), {"comment": "A person's choices of masters, over the rule's"})

    choice_id: Mapped[int] = key(sa.Integer, "Surrogate key")
    kind: Mapped[str] = column(sa.String(16), "", "bias, dark or flat")
    setup_id: Mapped[int] = reference("setup.setup_id", "Set-up of the frames")
    channel: Mapped[str] = column(sa.String(8), "", "'mono', or the Bayer channel")
    night_id: Mapped[int | None] = reference("night.night_id", "For the frames of this night; NULL when for one frame", null=True)
    frame_id: Mapped[int | None] = reference("frame.frame_id", "For this frame; NULL when for a night", null=True)
    master_id: Mapped[int | None] = reference("master.master_id", "The master to use; NULL: none at all", null=True)
    is_active: Mapped[int] = column(sa.SmallInteger, "", "1; 0 when it was taken back")
    reason: Mapped[str] = column(sa.Text, "", "Why")
    author: Mapped[str] = column(sa.String(64), "", "Who said so")
    created: Mapped[dt.datetime] = column(sa.DateTime, "", "When, UTC")


class CalibratedFrame(Base):
    """An object frame after calibration: which masters were used, and its file."""

    __tablename__ = "calibrated_frame"
    __table_args__ = {"comment": "Calibrated object frames and the masters that were used"}

    frame_id: Mapped[int] = key(sa.ForeignKey("frame.frame_id"), "Frame")
    bias_master_id: Mapped[int | None] = reference("master.master_id", "Master bias; NULL when there was none", null=True)
    dark_master_id: Mapped[int | None] = reference("master.master_id", "Master dark; NULL when there was none", null=True)
    flat_master_id: Mapped[int | None] = reference("master.master_id", "Master flat; NULL when there was none", null=True)
    dark_scale: Mapped[float | None] = column(sa.Double, "", "Factor on the master dark", null=True)
    zero_level: Mapped[float] = column(sa.Double, "adu", "Level without light that was taken off where there was no master bias, else 0")
    n_saturated: Mapped[int] = column(sa.Integer, "pixel", "Saturated pixels")
    n_cosmic: Mapped[int] = column(sa.Integer, "pixel", "Pixels hit by cosmic rays")
    remark: Mapped[str | None] = column(sa.Text, "", "What was not done, and why", null=True)
    product_id: Mapped[int | None] = reference(
        "product.product_id", "File with the planes SCI, ERR and MASK; NULL when it is not kept and made anew when needed", null=True
    )
    task_id: Mapped[int] = reference("task.task_id", "Task that made it")
