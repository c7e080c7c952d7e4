"""How much of the light in each photometry slot is the star's own, on the frame that a reference begins with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from db.tables import Frame, FramePhotometry
from reduction.kernels.arrays import FloatArray, IntArray
from reduction.photometry.kernels.light_share import light_shares
from reduction.photometry.psf_model import map_kind_of, psf_map_of
from reduction.photometry.star_light import apertures_of, placed_sources
from reduction.pipeline.declaration import Context

__all__ = ["OwnLight", "own_light"]

#: Part of the frame's longer side by which a star may stand beyond its border: a field's frames drift, and few stars are on all.
BEYOND = 0.25


@dataclass(frozen=True)
class OwnLight:
    """Of n stars in s slots.

    Attributes
    ----------
    foreign : float64, shape (s, n)
        Other stars' part of the light that falls into the slot; NaN where it is unknown.
    share : float64, shape (s, n)
        The star's own part of what is measured.
    """

    foreign: FloatArray
    share: FloatArray


def own_light(context: Context, frame_id: int, source_id: IntArray, flux: FloatArray, slots: IntArray) -> OwnLight:
    """Own share of the light of each star in each slot.

    Parameters
    ----------
    context : Context
    frame_id : int
        Frame whose profile map, plate solution and apertures count.
    source_id : int, shape (n,)
        Stars, rising.
    flux : float64, shape (n,)
        Flux of each on that frame (ADU).
    slots : int, shape (s,)

    Returns
    -------
    OwnLight
        NaN for a star in an aperture, where it has no positive flux or stands far beyond the frame. For the flux fitted with the profile
        map the foreign light is that in the smallest aperture. Where only the shape map stands in, neighbours' light does not count as
        subtracted: a profile which is not the stars' own leaves some of it.
    """
    session = context.session
    frame = session.get_one(Frame, frame_id)
    apertures, radii = apertures_of(session, frame.instrument_id)
    around = placed_sources(context, frame, -BEYOND * max(frame.nx, frame.ny))
    _, mine, theirs = np.intersect1d(source_id, around.table.source_id, assume_unique=True, return_indices=True)
    x, y = around.x[theirs], around.y[theirs]
    traits = {name: values[theirs] for name, values in around.traits().items()}
    # A column at least: without an aperture nothing says how much of the light is others'.
    inside = np.full((len(source_id), max(len(apertures), 1)), np.nan)
    inside[np.asarray(mine)[:, None], np.arange(len(apertures))] = light_shares(
        psf_map_of(session, frame_id).stamps(x, y, traits), flux[mine], x, y, radii
    )
    is_aperture = np.isin(slots, apertures)
    column = np.where(is_aperture, np.searchsorted(apertures, slots), 0)
    mode = session.execute(sa.select(FramePhotometry.apertures).where(FramePhotometry.frame_id == frame_id)).scalar_one()
    subtracted = (map_kind_of(session, frame_id) != "shape") & ((mode != "plain") | ~is_aperture)
    known = inside[:, column].T
    return OwnLight(1.0 - known, np.where(subtracted[:, None] & np.isfinite(known), 1.0, known))
