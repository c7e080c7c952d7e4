"""Reading a raw frame the way every step needs it: trimmed, overscan taken off, saturated pixels known."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from db.errors import FrameUnusable
from db.tables import Exposure, Frame
from reduction.fits import read_raw
from reduction.kernels.calibrate import saturated_mask, trim_overscan

__all__ = ["RawFrame", "raw_frame", "section_of"]

Section = tuple[int, int, int, int]


@dataclass(frozen=True)
class RawFrame:
    """A raw frame's pixels.

    Attributes
    ----------
    data : (ny, nx) float32
        ADU, trimmed, overscan level subtracted where there is one.
    saturated : (ny, nx) bool
        Pixels at or above the saturation level before that.
    quantum : float
        Step between values, ADU.
    """

    data: npt.NDArray[np.float32]
    saturated: npt.NDArray[np.bool_]
    quantum: float


def section_of(text: str | None) -> Section | None:
    """A section as kept in `exposure`."""
    if text is None:
        return None
    x0, x1, y0, y1 = json.loads(text)
    return int(x0), int(x1), int(y0), int(y1)


def raw_frame(session: Session, frame_id: int, saturation: float | None) -> RawFrame:
    """Read a frame's raw file.

    Raises
    ------
    FrameUnusable
        The file is gone or damaged.
    """
    frame = session.get_one(Frame, frame_id)
    exposure = session.get_one(Exposure, frame.exposure_id)
    try:
        raw = read_raw(exposure.path)
    except FileNotFoundError as error:
        raise FrameUnusable(
            "raw file is gone", where=exposure.path, hint="if it was moved: starledger relocate OLD NEW", code="frame.file_missing"
        ) from error
    trim = section_of(exposure.trim)
    data = trim_overscan(raw.data, trim, section_of(exposure.overscan))
    saturated = trim_overscan(saturated_mask(raw.data, saturation).astype(np.float32), trim, None) > 0
    return RawFrame(data, saturated, exposure.quantum)
