"""A frame's profile map as a model of photutils, for everything that photutils does with one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.tables import PsfMap as PsfMapRow
from reduction.photometry.kernels.psf_map import PsfMap

if TYPE_CHECKING:
    from photutils.psf import GriddedPSFModel

__all__ = ["gridded_model", "psf_map_of"]


def psf_map_of(session: Session, frame_id: int) -> PsfMap:
    """The profile map of a frame that has one."""
    text = session.execute(sa.select(PsfMapRow.coeff).where(PsfMapRow.frame_id == frame_id)).scalar_one()
    return PsfMap.from_row(json.loads(text))


def gridded_model(psf: PsfMap, *, grid: int = 5, oversampling: int = 4, traits: Mapping[str, float] | None = None) -> GriddedPSFModel:
    """The map on a grid of places, between which photutils interpolates.

    Parameters
    ----------
    psf : PsfMap
    grid : int
        Places along either axis, from edge to edge of the frame; at least 2.
    oversampling : int
        Points of the model for each pixel, along either axis.
    traits : dict of str to float, optional
        What is known of the star, by name of the map's further terms: its colour (mag), its brightness (flux, 1 at 12 mag). Of a term
        that is not named the model has the middle.

    Returns
    -------
    GriddedPSFModel
        Of unit flux; positions in pixels, 0-based pixel centres.
    """
    from astropy.nddata import NDData
    from photutils.psf import GriddedPSFModel

    half = int(np.ceil(psf.radius)) * oversampling
    offset = np.arange(-half, half + 1) / oversampling
    places = [(float(x), float(y)) for y in np.linspace(0, psf.ny - 1, grid) for x in np.linspace(0, psf.nx - 1, grid)]
    known = {name: np.array([value]) for name, value in (traits or {}).items()}
    data = np.array([psf.response(x, y, offset, offset, known) for x, y in places])
    data /= data.sum(axis=(1, 2), keepdims=True) / oversampling**2
    meta: dict[str, Any] = {"grid_xypos": places, "oversampling": oversampling}
    return GriddedPSFModel(NDData(data, meta=meta))
