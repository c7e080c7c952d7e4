"""Frames as the profile of stars is mapped on them: its kind and width, which have too few stars for it, and their pixels."""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.tables import Frame, PsfStar, ShapeMap
from db.tables import PsfMap as PsfMapRow
from reduction.astrometry.detections import fwhm_of
from reduction.calibration.master_choice import PatternWithoutDark
from reduction.photometry.kernels.psf_fit import FrameStars
from reduction.photometry.star_light import placed_sources, star_light
from reduction.pipeline.declaration import Context

__all__ = ["Seen", "few_starred", "frame_fwhm", "frame_stars", "profile_kind", "seen", "sensitive_width"]

#: Where no FWHM is known (pixel).
USUAL_FWHM = 3.0


def frame_fwhm(session: Session, frame_id: int) -> float:
    """Full width at half maximum (pixel) of a frame's stars, by their shapes, else by its detections."""
    shape = session.get(ShapeMap, frame_id)
    return float(shape.fwhm if shape is not None else (fwhm_of(session, frame_id) or USUAL_FWHM))


def profile_kind(frame: Frame, fwhm: float, *, asked: str, least_fwhm: float) -> tuple[str, str]:
    """Kind of a frame's profile map, psf or prf, and why; see `[psf] kind` and `least_fwhm`."""
    if asked != "auto":
        return asked, "asked for"
    if frame.raw_step > 1:
        return "psf", f"channel {frame.channel} of a Bayer mosaic"
    if fwhm < least_fwhm:
        return "prf", f"FWHM {fwhm:.2f} pixel, below {least_fwhm:g}"
    return "psf", f"FWHM {fwhm:.2f} pixel, at least {least_fwhm:g}"


def sensitive_width(frame: Frame, kind: str) -> float:
    """Width (pixel) of the part of a pixel that sees light, which a PSF is integrated over; 0 for a PRF."""
    return 1.0 / frame.raw_step if kind == "psf" else 0.0


class Seen(NamedTuple):
    """A frame as the map that it may share asks for: those of one filter, size and kind, in pixels of one width, go together."""

    passband_id: int
    nx: int
    ny: int
    kind: str
    pixel: float
    fwhm: float


def few_starred(context: Context) -> sa.ColumnElement[bool]:
    """Condition on `frame`: its own map stands on too few stars, or is none; too few as [shared_psf] has it."""
    p = context.parameters("shared_psf")
    few = sa.select(PsfMapRow.frame_id).where(PsfMapRow.n_star < p.few_stars)
    squares = sa.select(sa.func.coalesce(sa.func.sum(PsfStar.snr * PsfStar.snr), 0.0))
    mine = squares.where(PsfStar.night_id == Frame.night_id, PsfStar.frame_id == Frame.frame_id).correlate(Frame)
    return sa.and_(Frame.frame_id.in_(few), mine.scalar_subquery() < p.few_snr**2)


def seen(context: Context, frame: Frame) -> Seen:
    """Kind and FWHM as the step psf has them."""
    fwhm = frame_fwhm(context.session, frame.frame_id)
    p = context.parameters("psf")
    kind, _ = profile_kind(frame, fwhm, asked=p.kind, least_fwhm=p.least_fwhm)
    return Seen(frame.passband_id, frame.nx, frame.ny, kind, sensitive_width(frame, kind), fwhm)


def frame_stars(context: Context, frame: Frame, beyond: float, width: float) -> FrameStars:
    """A frame's pixels and all sources whose light is on it, as far as `beyond` its border (pixel); `width` is that of its profile."""
    pattern = PatternWithoutDark("fixed_pattern").look_up(context, [frame.frame_id]).get(frame.frame_id)
    sources = placed_sources(context, frame, -beyond)
    light = star_light(context, frame, None if pattern is None else pattern.payload)
    return FrameStars(light.pixels(), sources.x, sources.y, width, sources.traits(context.parameters("psf").terms))
