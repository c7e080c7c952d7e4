"""What a frame was taken for."""

from __future__ import annotations

from sqlalchemy.orm import Session

from db.tables import Classification

__all__ = ["type_of"]


def type_of(session: Session, frame_id: int) -> str:
    """The type of a frame that step classify has seen: bias, dark, flat, object or other."""
    return session.get_one(Classification, frame_id).type
