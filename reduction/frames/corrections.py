"""Types of exposures that people have corrected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.tables import Frame, TypeCorrection
from reduction.pipeline.inputs import Said

__all__ = ["Correction", "Corrections", "corrections"]


@dataclass(frozen=True)
class Correction:
    """The type that a person gave an exposure."""

    type: str
    reason: str
    author: str


class Corrections(Said):
    """Types of exposures that people have corrected."""

    def frames(self) -> sa.ColumnElement[bool]:
        """Frames of exposures that a person has corrected."""
        return Frame.exposure_id.in_(sa.select(TypeCorrection.exposure_id))

    def facts(self, session: Session) -> Mapping[int, str]:
        """The newest correction of each frame's exposure."""
        corrected = corrections(session)
        query = sa.select(Frame.frame_id, Frame.exposure_id).where(Frame.exposure_id.in_(corrected))
        return {row.frame_id: f"{corrected[row.exposure_id]}" for row in session.execute(query)}


def corrections(session: Session) -> dict[int, Correction]:
    """The newest correction of each exposure, where it was not taken back."""
    newest: dict[int, Correction | None] = {}
    for row in session.execute(sa.select(TypeCorrection).order_by(TypeCorrection.correction_id)).scalars():
        newest[row.exposure_id] = None if row.type is None else Correction(row.type, row.reason, row.author)
    return {exposure_id: found for exposure_id, found in newest.items() if found is not None}
