"""Reading a raw frame the way every step needs it: its channel, trimmed, overscan taken off, saturated pixels known."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from db.tables import Exposure, Frame, Product
from reduction.calibration.kernels.calibration import saturated_mask
from reduction.calibration.kernels.overscan import Section, subtract_overscan
from reduction.files.convert import read_raw
from reduction.frames.kernels.bayer import Channel
from reduction.pipeline.declaration import Context
from reduction.pipeline.unchanged import product_file, raw_file

__all__ = ["RawFrame", "raw_frame", "raw_path"]


@dataclass(frozen=True)
class RawFrame:
    """A raw frame's pixels.

    Attributes
    ----------
    data : float32, shape (ny, nx)
        ADU, trimmed, overscan level subtracted where there is one.
    saturated : bool, shape (ny, nx)
        Pixels at or above the saturation level before that.
    quantum : float
        Step between values, ADU.
    level_variance : float64, shape (ny, 1), (1, nx) or (1, 1)
        Variance of the overscan level, ADU**2; 0 where there is none.
    untouched : (ny, nx)
        Raw values, in which alone saturated pixels pile up.
    """

    data: npt.NDArray[np.float32]
    saturated: npt.NDArray[np.bool_]
    quantum: float
    level_variance: npt.NDArray[np.float64]
    untouched: npt.NDArray[np.generic]


def raw_path(context: Context, exposure: Exposure) -> Path:
    """Where an exposure's pixels are read from: the raw file itself, or the FITS file made of a camera's own format.

    Raises
    ------
    FrameUnusable
        The file is gone, or is not what it was.
    """
    if exposure.product_id is None:
        return raw_file(context.session, exposure)
    return product_file(context, context.session.get_one(Product, exposure.product_id).path)


def raw_frame(context: Context, frame_id: int, saturation: float | None) -> RawFrame:
    """Read a frame's raw pixels.

    Raises
    ------
    FrameUnusable
        The file is gone, was changed, or is damaged.
    """
    frame = context.session.get_one(Frame, frame_id)
    exposure = context.session.get_one(Exposure, frame.exposure_id)
    raw = read_raw(raw_path(context, exposure))
    channel = Channel(frame.channel, frame.raw_x0, frame.raw_y0, frame.raw_step, frame.nx, frame.ny)
    untouched = channel.cut(raw.data)
    saturated = np.ascontiguousarray(saturated_mask(np.asarray(untouched, np.float32), saturation))
    overscan = _section_of(exposure.overscan)
    if overscan is None:
        data = np.ascontiguousarray(untouched, dtype=np.float32)
        return RawFrame(data, saturated, exposure.quantum, np.zeros((1, 1)), untouched)
    trimmed = subtract_overscan(raw.data, _section_of(exposure.trim), overscan, order=_overscan_order(context))
    inside = _within(channel, _section_of(exposure.trim))
    data = np.ascontiguousarray(inside.cut(trimmed.data), dtype=np.float32)
    variance = np.broadcast_to(trimmed.variance, trimmed.data.shape)
    level_variance = _thin(np.asarray(inside.cut(variance), np.float64), trimmed.variance.shape)
    return RawFrame(data, saturated, exposure.quantum, level_variance, untouched)


def _overscan_order(context: Context) -> int | None:
    """A parameter of step detector, which all later tasks are made from: changing it makes them pending."""
    parameters = context.parameters("detector")
    return None if parameters.overscan_order < 0 else int(parameters.overscan_order)


def _section_of(text: str | None) -> Section | None:
    """A section as kept in `exposure`."""
    if text is None:
        return None
    x0, x1, y0, y1 = json.loads(text)
    return int(x0), int(x1), int(y0), int(y1)


def _within(channel: Channel, trim: Section | None) -> Channel:
    """The same channel, counted from the corner of the trimmed image."""
    x0, _, y0, _ = trim or (0, 0, 0, 0)
    return Channel(channel.name, channel.x0 - x0, channel.y0 - y0, channel.step, channel.nx, channel.ny)


def _thin(variance: npt.NDArray[np.float64], shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """One value a line again: what is the same along an axis is kept once."""
    return variance[: 1 if shape[0] == 1 else None, : 1 if shape[1] == 1 else None].copy()
