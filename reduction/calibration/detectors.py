"""Reading what is known of the detector behind a frame."""

from __future__ import annotations

from sqlalchemy.orm import Session

from db.tables import Detector, Frame

__all__ = ["detector_of"]


def detector_of(session: Session, frame: Frame) -> Detector:
    """The detector's facts for a frame."""
    return session.get_one(Detector, (frame.setup_id, frame.channel, frame.night_id))
