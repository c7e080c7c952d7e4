"""Calibrated pixels: made from a raw frame and its masters, or read from the file that was kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.errors import FrameUnusable
from db.flags import Mask
from db.tables import CalibratedFrame, Classification, Exposure, Frame, Master, Product
from reduction.calibration.detectors import detector_of
from reduction.calibration.kernels.calibration import Plane, calibrate
from reduction.calibration.kernels.cosmic_rays import cosmic_rays
from reduction.calibration.kernels.hot_or_hit import MOST_HIT, hit_fraction, mark_hot_or_hit
from reduction.calibration.master_choice import master_plane, zero_is_gone
from reduction.calibration.raw_frame import raw_frame
from reduction.files.product import read_calibrated
from reduction.frames.types import type_of
from reduction.pipeline.declaration import Context
from reduction.pipeline.unchanged import product_file

__all__ = ["MasterPlanes", "calibrated_pixels", "calibrated_planes", "object_pixels", "zero_level"]


#: Frames that are asked whether what looks like a cosmic ray is on them as well.
_N_ALIKE = 4


class MasterPlanes:
    """Pixels of masters, each read once: the frames of a set share them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._planes: dict[int, Plane | None] = {}

    def of(self, master_id: int | None) -> Plane | None:
        """The planes of a master; None for None."""
        if master_id is None:
            return None
        if master_id not in self._planes:
            query = sa.select(Product.path).join(Master, Master.product_id == Product.product_id).where(Master.master_id == master_id)
            self._planes[master_id] = master_plane(self._context, self._context.session.execute(query).scalar_one())
        return self._planes[master_id]


def calibrated_pixels(
    context: Context, frame: Frame, masters: Mapping[str, int], *, dark_scale: float = 1.0, planes: MasterPlanes | None = None
) -> Plane:
    """Calibrate a raw frame.

    Parameters
    ----------
    context : Context
    frame : Frame
        The frame's row.
    masters : mapping of str to int
        Ids of the masters to use, by kind: bias, dark, flat.
    dark_scale : float
        Factor on the dark.
    planes : MasterPlanes, optional
        Where the masters' pixels are kept from frame to frame.

    Returns
    -------
    Plane
        Value in ADU, variance and mask.

    Raises
    ------
    FrameUnusable
        The raw file is gone or damaged.
    """
    planes = planes or MasterPlanes(context)
    detector = detector_of(context.session, frame)
    raw = raw_frame(context, frame.frame_id, detector.saturation)
    bias, dark = masters.get("bias"), masters.get("dark")
    dark_bias = context.session.get_one(Master, dark).bias_master_id if dark is not None else None
    same_bias = dark_bias is None or dark_bias == bias
    other = None if same_bias else planes.of(dark_bias)
    # A dark that had no bias taken off carries the zero level itself.
    carries_zero = dark is not None and dark_bias is None
    plane = calibrate(
        raw.data,
        gain=detector.gain,
        read_noise=detector.read_noise,
        saturation=raw.saturated,
        bias=planes.of(bias),
        dark=planes.of(dark),
        dark_scale=dark_scale,
        flat=planes.of(masters.get("flat")),
        zero_level=None if carries_zero else zero_level(context, frame, masters),
        quantum=raw.quantum,
        linearity=json.loads(detector.linearity) if detector.linearity else (),
        overscan_variance=raw.level_variance,
        same_bias=same_bias,
        dark_bias_variance=other.variance if other is not None else None,
        dark_has_zero=carries_zero,
    )
    if bias is None and type_of(context.session, frame.frame_id) in ("bias", "dark"):
        # What light there is, and its noise, count from the zero level; the frame keeps the level, since it is what it shows.
        plane.value[(plane.mask & np.uint8(int(Mask.NO_DATA))) == 0] += np.float32(zero_level(context, frame, masters))
    return plane


def zero_level(context: Context, frame: Frame, masters: Mapping[str, int]) -> float:
    """Level without light (ADU) where no master holds it."""
    exposure = context.session.get_one(Exposure, frame.exposure_id)
    if "bias" in masters:
        return 0.0
    if zero_is_gone(exposure.calibration_state.split()):
        # What took it off may have left a pedestal, so that no value is below 0.
        return exposure.black_level or 0.0
    return detector_of(context.session, frame).zero_level


def object_pixels(context: Context, frame: Frame, masters: Mapping[str, int], dark_scale: float) -> tuple[Plane, str | None]:
    """An object frame calibrated, with cosmic rays marked, and what is doubtful about these."""
    planes = MasterPlanes(context)
    found = calibrated_pixels(context, frame, masters, dark_scale=dark_scale, planes=planes)
    threshold = context.parameters("calibrate").cosmic
    if threshold <= 0:
        return found, None
    hits = cosmic_rays(found, threshold=threshold)
    if hit_fraction(found, hits) <= MOST_HIT:
        found.mask[hits] |= np.uint8(int(Mask.COSMIC))
        return found, None
    others = []
    for other in _frames_alike(context.session, frame):
        try:
            others.append(calibrated_pixels(context, other, masters, dark_scale=dark_scale, planes=planes))
        except FrameUnusable:
            continue  # its own task says so
    return mark_hot_or_hit(found, hits, others, threshold=threshold)


def _frames_alike(session: Session, frame: Frame) -> list[Frame]:
    """The object frames of the set-up, channel, night and exposure time that are nearest in time; evidence for a frame, and no input."""
    query = sa.select(Frame).join(Classification, Classification.frame_id == Frame.frame_id)
    alike = [getattr(Frame, name) == getattr(frame, name) for name in ("setup_id", "channel", "night_id", "exptime", "nx", "ny")]
    query = query.where(*alike, Classification.type == "object", Frame.frame_id != frame.frame_id)
    return list(session.execute(query.order_by(sa.func.abs(Frame.jd_utc - frame.jd_utc), Frame.frame_id).limit(_N_ALIKE)).scalars())


def calibrated_planes(context: Context, frame_id: int) -> dict[str, npt.NDArray[Any]]:
    """The planes SCI, VAR and MASK of a calibrated frame; calibrated anew where its file is not kept.

    Raises
    ------
    FrameUnusable
        When its file is gone, or is not what was written.
    """
    row = context.session.get_one(CalibratedFrame, frame_id)
    if row.product_id is None:
        masters = {"bias": row.bias_master_id, "dark": row.dark_master_id, "flat": row.flat_master_id}
        used = {kind: master_id for kind, master_id in masters.items() if master_id is not None}
        plane, _ = object_pixels(context, context.session.get_one(Frame, frame_id), used, row.dark_scale or 1.0)
        return {"SCI": plane.value, "VAR": plane.variance, "MASK": plane.mask}
    return read_calibrated(product_file(context, context.session.get_one(Product, row.product_id).path))
