"""Why a frame failed, from its pixels, its detections and the frames like it: the message for people."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.errors import AlgorithmFailed, FrameUnusable
from db.tables import Classification, Detection, Frame, FrameBackground
from reduction.astrometry.kernels.detection import Detections
from reduction.astrometry.kernels.failure_causes import STAR_SNR, FrameFacts, diagnose
from reduction.calibration.calibrated import calibrated_planes
from reduction.kernels.robust import MAD_TO_SIGMA
from reduction.pipeline.declaration import Context

__all__ = ["failure", "sky_facts"]

_CELLS = 8  # along each axis, over which the sky is compared with itself


def sky_facts(science: npt.NDArray[np.float32], variance: npt.NDArray[np.float32], mask: npt.NDArray[np.uint8]) -> FrameFacts:
    """What the pixels of a calibrated frame say of its sky (ADU); NaN where none is good."""
    good = mask == 0
    if not good.any():
        return FrameFacts()
    sky, noise = float(np.median(science[good])), float(np.sqrt(np.median(variance[good])))
    cells = [
        np.median(part[use])
        for rows, kept in zip(np.array_split(science, _CELLS), np.array_split(good, _CELLS), strict=True)
        for part, use in zip(np.array_split(rows, _CELLS, axis=1), np.array_split(kept, _CELLS, axis=1), strict=True)
        if use.any()
    ]
    # In float32 as the pixels are, and so not by `mad_scatter`.
    scatter = float(MAD_TO_SIGMA * np.median(np.abs(np.array(cells) - np.median(cells))))
    return FrameFacts(sky=sky, noise=noise, unevenness=scatter / sky if sky > noise else float("nan"))


def failure(
    context: Context,
    frame: Frame,
    found: Detections,
    where: str,
    tried: str,
    *,
    n_catalogue: int | None = None,
    indexed: tuple[float, float] | None = None,
    unknown: tuple[str, ...] = (),
) -> FrameUnusable | AlgorithmFailed:
    """The error to raise for a frame without a plate solution, named for its cause.

    Parameters
    ----------
    context : Context
    frame : Frame
    found : Detections
        Of the frame.
    where : str
        The frame, for people.
    tried : str
        What the tries came to.
    n_catalogue : int, optional
        Catalogue stars where the frame is thought to be.
    indexed : (float, float), optional
        RA, Dec (deg) that a blind solution gave.
    unknown : tuple of str
        What could place the frame and is not known, as in `FrameFacts`.
    """
    planes = calibrated_planes(context, frame.frame_id)
    facts = sky_facts(planes["SCI"], planes["VAR"], planes["MASK"])
    stars, sky = _usual(context.session, frame)
    facts = replace(facts, usual_stars=stars, usual_sky=sky, n_catalogue=n_catalogue, indexed=indexed, unknown=unknown)
    return diagnose(found, facts, tried=tried, where=where)


def _usual(session: Session, frame: Frame) -> tuple[float, float]:
    """Medians of the number of stars and of the sky (ADU) of other frames of the night, set-up, channel and exposure time; NaN for none."""
    like = (
        *(Frame.night_id == frame.night_id, Frame.setup_id == frame.setup_id, Frame.channel == frame.channel),
        *(Frame.exptime == frame.exptime, Classification.type == "object", Frame.frame_id != frame.frame_id),
    )
    counts = (
        sa.select(sa.func.count())
        .select_from(Detection)
        .join(Frame, sa.and_(Frame.frame_id == Detection.frame_id, Frame.night_id == Detection.night_id))
        .join(Classification, Classification.frame_id == Frame.frame_id)
        .where(*like, Detection.flux > STAR_SNR * Detection.flux_err, Detection.fwhm.is_not(None))
        .group_by(Detection.frame_id)
    )
    skies = (
        sa.select(FrameBackground.level)
        .join(Frame, Frame.frame_id == FrameBackground.frame_id)
        .join(Classification, Classification.frame_id == Frame.frame_id)
        .where(*like)
    )
    medians = [np.array(session.execute(query).scalars().all(), dtype=float) for query in (counts, skies)]
    stars, sky = (float(np.median(values)) if values.size else float("nan") for values in medians)
    return stars, sky
