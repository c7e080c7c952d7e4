"""Step extract: stars on each calibrated object frame, with centroids and shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.bulk import fetch_columns
from db.errors import FrameUnusable
from db.tables import CalibratedFrame, Detection, Frame, Product
from reduction.calibrated import calibrated_planes
from reduction.kernels.extract import extract as extract_stars
from reduction.plans import frame_units
from reduction.step import Context, Output, Rows, Unit, parameter, step

__all__ = ["ExtractParameters", "detections_of", "extract"]


@dataclass(frozen=True)
class ExtractParameters:
    """How stars are detected."""

    threshold: float = parameter(4.0, "sigma", "detection threshold on the filtered image")
    min_area: int = parameter(4, "pixel", "fewest connected pixels above it")
    min_stars: int = parameter(5, "", "a frame with fewer detections is unusable")


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


@step(
    "extract",
    per="frame",
    after=("calibrate",),
    plan=lambda context, _: frame_units(context.session, ("calibrate",)),
    version=2,
    parameters=ExtractParameters,
    reads=(Frame, CalibratedFrame, Product),
    writes=(Detection, Frame),
)
def extract(context: Context, unit: Unit, p: ExtractParameters) -> Output:
    """Detect stars and measure their positions and shapes."""
    planes = calibrated_planes(context, int(unit.key))
    found = extract_stars(planes["SCI"], planes["VAR"], planes["MASK"], threshold=p.threshold, min_area=p.min_area)
    if len(found) < p.min_stars:
        raise FrameUnusable(
            f"{len(found)} stars found, at least {p.min_stars} are needed",
            where=unit.label,
            hint="clouded, trailed or out of focus? Otherwise lower [extract] threshold",
            code="frame.few_stars",
        )
    clean = (found.flags == 0) & (found.snr > 20) & np.isfinite(found.fwhm)
    fwhm = np.median(found.fwhm[clean if clean.sum() >= 3 else np.isfinite(found.fwhm)])
    place = {"night_id": unit.night_id, "frame_id": unit.frame_id}
    columns = {
        **place,
        "number": np.arange(len(found)),
        "x": found.x,
        "y": found.y,
        "x_err": found.x_err,
        "y_err": found.y_err,
        "flux": found.flux,
        "flux_err": found.flux_err,
        "peak": found.peak,
        "fwhm": found.fwhm,
        "semi_major": found.semi_major,
        "semi_minor": found.semi_minor,
        "theta": found.theta,
        "shape_s": found.s,
        "shape_d": found.d,
        "shape_k": found.k,
        "flags": found.flags,
    }
    frame = {"fwhm": float(fwhm), "n_detection": len(found)}
    return Output(rows=[Rows(Detection, columns, replace=place)], frame=frame)
