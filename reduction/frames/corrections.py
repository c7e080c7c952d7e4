"""People's words on what exposures are."""

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
    """What a person said that an exposure is."""

    type: str
    reason: str
    author: str


class Corrections(Said):
    """People's words on what exposures are."""

    def frames(self) -> sa.ColumnElement[bool]:
        """Frames of exposures that a person has corrected."""
        return Frame.exposure_id.in_(sa.select(TypeCorrection.exposure_id))

    def facts(self, session: Session) -> Mapping[int, str]:
        """The newest word on the exposure of each frame."""
        words = corrections(session)
        query = sa.select(Frame.frame_id, Frame.exposure_id).where(Frame.exposure_id.in_(words))
        return {row.frame_id: f"{words[row.exposure_id]}" for row in session.execute(query)}


def corrections(session: Session) -> dict[int, Correction]:
    """The newest word on each exposure, where it was not taken back."""
    newest: dict[int, Correction | None] = {}
    for row in session.execute(sa.select(TypeCorrection).order_by(TypeCorrection.correction_id)).scalars():
        newest[row.exposure_id] = None if row.type is None else Correction(row.type, row.reason, row.author)
    return {exposure_id: word for exposure_id, word in newest.items() if word is not None}
