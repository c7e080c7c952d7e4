"""The shape map that a frame's stars were fitted with."""

from __future__ import annotations

import json

import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.tables import ShapeMap as ShapeMapRow
from reduction.photometry.kernels.shape_map import ShapeMap

__all__ = ["shape_map_of"]


def shape_map_of(session: Session, frame_id: int) -> ShapeMap:
    """The shape map of a frame that has one, to be evaluated anywhere on it."""
    text = session.execute(sa.select(ShapeMapRow.coeff).where(ShapeMapRow.frame_id == frame_id)).scalar_one()
    return ShapeMap.from_row(json.loads(text))
