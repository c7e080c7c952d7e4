"""Reading the detections of a frame."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.bulk import fetch_columns
from db.tables import Detection, DetectionSummary, Frame
from reduction.astrometry.kernels.detection import Detections

__all__ = ["detections_of", "fwhm_of", "stars_of"]


def detections_of(session: Session, night_id: int, frame_id: int) -> dict[str, np.ndarray[Any, Any]]:
    """A frame's detections as arrays, brightest first, by the names of the columns of `detection`; NaN where there is no value."""
    names = tuple(column.key for column in Detection.__table__.columns if column.key not in ("night_id", "frame_id"))
    kinds = "".join("i" if name in ("number", "flags") else "f" for name in names)
    # PostgreSQL hands out a REAL in its shortest form, which is not its value: cast, so that both engines give the same digits.
    columns = [
        sa.cast(column, sa.Double) if isinstance(column.type, sa.REAL) else column for column in (getattr(Detection, n) for n in names)
    ]
    query = sa.select(*columns).where(Detection.night_id == night_id, Detection.frame_id == frame_id).order_by(Detection.number)
    return dict(zip(names, fetch_columns(session.execute(query), kinds), strict=True))


def stars_of(session: Session, frame: Frame) -> Detections:
    """A frame's detections as the kernels know them."""
    columns = detections_of(session, frame.night_id, frame.frame_id)
    columns |= {"s": columns["shape_s"], "d": columns["shape_d"], "k": columns["shape_k"]}
    columns["flags"] = columns["flags"].astype(np.int32)
    with np.errstate(divide="ignore", invalid="ignore"):
        columns["snr"] = columns["flux"] / columns["flux_err"]
    return Detections(**{field.name: columns[field.name] for field in fields(Detections)})


def fwhm_of(session: Session, frame_id: int) -> float | None:
    """Median full width at half maximum (pixel) of a frame's stars; None where it is not known."""
    summary = session.get(DetectionSummary, frame_id)
    return None if summary is None else summary.fwhm
