"""Reading the detections of a frame."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.fetch import fetch_arrays
from db.tables import Detection, DetectionSummary, Frame
from reduction.astrometry.kernels.detection import Detections

__all__ = ["as_stars", "detections_of", "fwhm_of", "stars_of"]


def detections_of(session: Session, night_id: int, frame_id: int) -> dict[str, np.ndarray[Any, Any]]:
    """A frame's detections as arrays, brightest first, by the names of the columns of `detection`; NaN where there is no value."""
    place = {"night": night_id, "frame": frame_id}
    return dict(zip(_NAMES, fetch_arrays(session.connection(), _of_frame(), place, kinds=_KINDS), strict=True))


_NAMES = tuple(column.key for column in Detection.__table__.columns if column.key not in ("night_id", "frame_id"))
_KINDS = "".join("i" if name in ("number", "flags") else "f" for name in _NAMES)


@cache
def _of_frame() -> sa.Select[*tuple[Any, ...]]:
    # PostgreSQL hands out a REAL in its shortest form, which is not its value: cast, so that both engines give the same digits.
    columns = [
        sa.cast(column, sa.Double) if isinstance(column.type, sa.REAL) else column for column in (getattr(Detection, n) for n in _NAMES)
    ]
    mine = (Detection.night_id == sa.bindparam("night"), Detection.frame_id == sa.bindparam("frame"))
    return sa.select(*columns).where(*mine).order_by(Detection.number)


def stars_of(session: Session, frame: Frame) -> Detections:
    """A frame's detections as the kernels know them."""
    return as_stars(detections_of(session, frame.night_id, frame.frame_id))


def as_stars(detections: dict[str, np.ndarray[Any, Any]]) -> Detections:
    """Detections as `detections_of` gives them, as the kernels know them."""
    columns = dict(detections)
    columns |= {"s": columns["shape_s"], "d": columns["shape_d"], "k": columns["shape_k"]}
    columns["flags"] = columns["flags"].astype(np.int32)
    with np.errstate(divide="ignore", invalid="ignore"):
        columns["snr"] = columns["flux"] / columns["flux_err"]
    return Detections(**{field.name: columns[field.name] for field in fields(Detections)})


def fwhm_of(session: Session, frame_id: int) -> float | None:
    """Median full width at half maximum (pixel) of a frame's stars; None where it is not known."""
    summary = session.get(DetectionSummary, frame_id)
    return None if summary is None else summary.fwhm
