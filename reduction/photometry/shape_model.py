"""The shape map that a frame's stars were fitted with."""

from __future__ import annotations

import json

import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.tables import ShapeMap as ShapeMapRow
from reduction.photometry.kernels.shape_map import ShapeMap

__all__ = ["shape_map_of"]


def shape_map_of(session: Session, frame_id: int) -> ShapeMap | None:
    """The shape map of a frame, to be evaluated anywhere on it; None where too few of its stars had a usable shape."""
    text = session.execute(sa.select(ShapeMapRow.coeff).where(ShapeMapRow.frame_id == frame_id)).scalar_one_or_none()
    return None if text is None else ShapeMap.from_row(json.loads(text))
