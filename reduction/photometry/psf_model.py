"""The profile map that a frame is measured with: its own, or one that it shares; also as a model of photutils."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.tables import Frame, PsfChoice, SharedPsf, Task
from db.tables import PsfMap as PsfMapRow
from reduction.photometry.kernels.psf_map import PsfMap
from reduction.pipeline.inputs import Joined

if TYPE_CHECKING:
    from photutils.psf import GriddedPSFModel

__all__ = ["SharedMap", "gridded_model", "is_shared", "map_kind_of", "psf_map_of"]


@dataclass(frozen=True)
class SharedMap(Joined):
    """The choice of a frame that took a shared map: what is measured with its own map depends on no choice."""

    needed: bool = False

    def matches(self, task: type[Task]) -> sa.ColumnElement[bool]:
        """By the frame, where its choice is the shared map."""
        shared = sa.exists().where(PsfChoice.frame_id == task.frame_id, PsfChoice.task_id == task.task_id, PsfChoice.uses == "shared")
        return sa.and_(task.frame_id == Frame.frame_id, shared.correlate(task))


def psf_map_of(session: Session, frame_id: int) -> PsfMap:
    """The profile map that a frame is measured with, of one that has any."""
    found = _shared(session, frame_id)
    if found is not None:
        return PsfMap.from_row(json.loads(found.coeff)).drawn_out(found.width)
    text = session.execute(sa.select(PsfMapRow.coeff).where(PsfMapRow.frame_id == frame_id)).scalar_one()
    return PsfMap.from_row(json.loads(text))


def map_kind_of(session: Session, frame_id: int) -> str:
    """Kind of that map: psf, prf, or shape where it is of the shape map."""
    found = _shared(session, frame_id)
    if found is not None:
        return str(found.kind)
    return session.execute(sa.select(PsfMapRow.kind).where(PsfMapRow.frame_id == frame_id)).scalar_one()


def is_shared(session: Session, frame_id: int) -> bool:
    """Whether that map is one that several frames share."""
    return _shared(session, frame_id) is not None


def _shared(session: Session, frame_id: int) -> Any:
    """The shared map that a frame took: coeff, kind and width; None where it has its own."""
    night = (SharedPsf.setup_id == Frame.setup_id, SharedPsf.channel == Frame.channel, SharedPsf.night_id == Frame.night_id)
    query = (
        sa.select(SharedPsf.coeff, SharedPsf.kind, PsfChoice.width)
        .join(Frame, sa.and_(*night))
        .join(PsfChoice, sa.and_(PsfChoice.frame_id == Frame.frame_id, PsfChoice.number == SharedPsf.number))
        .join(Task, Task.task_id == PsfChoice.task_id)
        .where(Frame.frame_id == frame_id, PsfChoice.uses == "shared", Task.status == "done")
    )
    return session.execute(query).first()


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
