"""Plate solutions as rows, written and read."""

from __future__ import annotations

import json

import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.tables import FirstSolution, WcsSolution
from reduction.astrometry.kernels.wcs import PlateSolution

__all__ = ["first_solution", "plate_solution", "solution_columns"]


def solution_columns(frame_id: int, s: PlateSolution) -> dict[str, object]:
    """Columns that first_solution and wcs_solution have of a transformation."""
    return {
        "frame_id": frame_id,
        "ra0": s.ra0,
        "dec0": s.dec0,
        "poly_order": s.order,
        "coeff": json.dumps(s.as_row()),
        "ra": s.centre[0],
        "dec": s.centre[1],
        "radius": s.radius,
        "corners": json.dumps(s.corners),
        "pixel_scale": s.scale,
        "rotation": s.rotation,
        "parity": s.parity,
    }


def first_solution(session: Session, frame_id: int) -> PlateSolution:
    """The plate solution of a frame by itself: good to find out what is on it."""
    text = session.execute(sa.select(FirstSolution.coeff).where(FirstSolution.frame_id == frame_id)).scalar_one()
    return PlateSolution.from_row(json.loads(text))


def plate_solution(session: Session, frame_id: int) -> PlateSolution:
    """The final plate solution of a frame."""
    text = session.execute(sa.select(WcsSolution.coeff).where(WcsSolution.frame_id == frame_id)).scalar_one()
    return PlateSolution.from_row(json.loads(text))
