"""Masters, the frames that went into them, and calibrated frames."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped

from db.base import Base, column, key, reference

__all__ = ["CalibratedFrame", "Master", "MasterFrame"]


class Master(Base):
    """A master bias, dark or flat, or a fixed pattern."""

    __tablename__ = "master"
    __table_args__ = (sa.Index(None, "instrument_id", "kind"), {"comment": "Master bias, dark and flat frames"})

    master_id: Mapped[int] = key(sa.Integer, "Surrogate key")
    kind: Mapped[str] = column(sa.String(8), "", "bias, dark, flat, or pattern: what hot pixels add, from object frames without a dark")
    instrument_id: Mapped[int] = reference("instrument.instrument_id", "Instrument")
    night_id: Mapped[int] = reference("night.night_id", "Night of its frames")
    channel: Mapped[str] = column(sa.String(8), "", "'mono', or the Bayer channel")
    passband_id: Mapped[int | None] = reference("passband.passband_id", "Passband, for flats", null=True)
    exptime: Mapped[float | None] = column(sa.Double, "s", "Exposure time, for darks and patterns", null=True)
    ccd_temperature: Mapped[float | None] = column(sa.Double, "deg C", "Mean detector temperature", null=True)
    jd_utc: Mapped[float] = column(sa.Double, "d", "Mean mid-exposure of its frames, Julian date UTC")
    n_frame: Mapped[int] = column(sa.Integer, "", "Frames averaged")
    n_rejected: Mapped[int] = column(sa.Integer, "", "Frames rejected")
    level: Mapped[float] = column(sa.Double, "ADU", "Mean value; 1 for flats")
    noise: Mapped[float] = column(sa.Double, "ADU", "Typical error of a pixel of the master")
    product_id: Mapped[int] = reference("product.product_id", "File")
    task_id: Mapped[int] = reference("task.task_id", "Task that made it")


class MasterFrame(Base):
    """A frame considered for a master, and what became of it."""

    __tablename__ = "master_frame"
    __table_args__ = {"comment": "Frames considered for a master"}

    master_id: Mapped[int] = key(sa.ForeignKey("master.master_id"), "Master")
    frame_id: Mapped[int] = key(sa.ForeignKey("frame.frame_id"), "Frame")
    used: Mapped[int] = column(sa.SmallInteger, "", "1 when averaged, 0 when rejected")
    reason: Mapped[str | None] = column(sa.Text, "", "Why it was rejected", null=True)


class CalibratedFrame(Base):
    """An object frame after calibration: which masters were used, and its file."""

    __tablename__ = "calibrated_frame"
    __table_args__ = {"comment": "Calibrated object frames and the masters that were used"}

    frame_id: Mapped[int] = key(sa.ForeignKey("frame.frame_id"), "Frame")
    bias_master_id: Mapped[int | None] = reference("master.master_id", "Master bias; NULL when there was none", null=True)
    dark_master_id: Mapped[int | None] = reference("master.master_id", "Master dark; NULL when there was none", null=True)
    flat_master_id: Mapped[int | None] = reference("master.master_id", "Master flat; NULL when there was none", null=True)
    dark_scale: Mapped[float | None] = column(sa.Double, "", "Factor on the master dark", null=True)
    zero_level: Mapped[float] = column(sa.Double, "ADU", "Level without light that was taken off where there was no master bias, else 0")
    remark: Mapped[str | None] = column(sa.Text, "", "What was not done, and why", null=True)
    product_id: Mapped[int] = reference("product.product_id", "File with the planes SCI, VAR and MASK")
    task_id: Mapped[int] = reference("task.task_id", "Task that made it")
