"""Step field: which field a solved frame belongs to, and what follows from where it points."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.keys import next_id
from db.tables import Field, FirstSolution, Frame, FrameField
from reduction.astrometry.kernels.footprint import overlap_fraction
from reduction.astrometry.kernels.wcs import unit_vectors
from reduction.pipeline.declaration import Context, Output, Rows, Unit, parameter, step
from reduction.pipeline.inputs import Own

__all__ = ["FieldParameters", "field"]


@dataclass(frozen=True)
class FieldParameters:
    """What counts as one field."""

    overlap: float = parameter(0.5, "", "least common part of the footprints of a frame and of a field's first frame", above=0, most=1)


@dataclass(frozen=True)
class _Known:
    field_id: int
    instrument_id: int
    passband_id: int
    corners: list[list[float]]


@step(
    "field",
    inputs=(Own("solve"),),
    parameters=FieldParameters,
    writes=(Field, FrameField),
    together=True,
)
def field(context: Context, units: Sequence[Unit[None]], p: FieldParameters) -> dict[str, Output]:
    """Assign solved frames to fields; airmass and Moon distance of their centres."""
    session = context.session
    known = _known_fields(session)
    fresh = next_id(session, Field.field_id)
    outputs: dict[str, Output] = {}
    query = sa.select(Frame, FirstSolution).join(FirstSolution, FirstSolution.frame_id == Frame.frame_id)
    wanted = {unit.frame_id for unit in units}
    before = {row.frame_id: row.field_id for row in session.execute(sa.select(FrameField.frame_id, FrameField.field_id))}
    found = {frame.frame_id: (frame, wcs) for frame, wcs in session.execute(query) if frame.frame_id in wanted}
    for unit in units:
        frame, wcs = found[int(unit.key)]
        corners = json.loads(wcs.corners)
        match = _best(known, frame, before.get(frame.frame_id), corners, p.overlap)
        rows = []
        if match is None:
            match = _Known(fresh, frame.instrument_id, frame.passband_id, corners)
            fresh += 1
            known.append(match)
            columns = {
                "field_id": match.field_id,
                "instrument_id": frame.instrument_id,
                "passband_id": frame.passband_id,
                "ra": wcs.ra,
                "dec": wcs.dec,
                "radius": wcs.radius,
                "corners": wcs.corners,
            }
            rows.append(Rows(Field, columns, upsert=True))
        place = {"frame_id": frame.frame_id, "field_id": match.field_id, **_place(frame, wcs)}
        outputs[unit.key] = Output(rows=[*rows, Rows(FrameField, place, upsert=True)])
    return outputs


def _known_fields(session: Session) -> list[_Known]:
    query = sa.select(Field.field_id, Field.instrument_id, Field.passband_id, Field.corners).order_by(Field.field_id)
    return [_Known(row.field_id, row.instrument_id, row.passband_id, json.loads(row.corners)) for row in session.execute(query)]


def _best(known: list[_Known], frame: Frame, before: int | None, corners: list[list[float]], least: float) -> _Known | None:
    """The frame's field so far, where it still overlaps enough, else the one that overlaps most."""
    mine = [f for f in known if (f.instrument_id, f.passband_id) == (frame.instrument_id, frame.passband_id)]
    common = {f.field_id: overlap_fraction(np.array(corners), np.array(f.corners)) for f in mine}
    if before is not None and common.get(before, 0.0) >= least:
        return next(f for f in mine if f.field_id == before)
    best = max(mine, key=lambda f: (common[f.field_id], -f.field_id), default=None)
    return best if best is not None and common[best.field_id] >= least else None


def _place(frame: Frame, wcs: FirstSolution) -> dict[str, Any]:
    """Airmass (None below the horizon or without a site) and Moon distance of the centre."""
    u = unit_vectors(wcs.ra, wcs.dec)
    moon = unit_vectors(frame.moon_ra, frame.moon_dec)
    airmass = None
    if frame.zx is not None and frame.zy is not None and frame.zz is not None:
        cosine = float(np.dot(u, (frame.zx, frame.zy, frame.zz)))
        airmass = 1.0 / cosine if cosine > 0.02 else None
    separation = float(np.degrees(np.arccos(np.clip(np.dot(u, moon), -1.0, 1.0))))
    return {"airmass": airmass, "moon_separation": separation}
