"""Step extract: stars on each calibrated object frame, with centroids and shapes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.bulk import fetch_columns
from db.errors import FrameUnusable
from db.tables import CalibratedFrame, Detection, Frame, Product
from reduction.calibrated import calibrated_planes
from reduction.kernels.extract import Detections
from reduction.kernels.extract import extract as extract_stars
from reduction.kernels.trailing import trailing
from reduction.plans import frame_units
from reduction.step import Context, Output, Rows, Unit, parameter, step

__all__ = ["ExtractParameters", "detections_of", "extract", "stars_of"]


@dataclass(frozen=True)
class ExtractParameters:
    """How stars are detected."""

    threshold: float = parameter(4.0, "sigma", "detection threshold on the filtered image")
    min_area: int = parameter(4, "pixel", "fewest connected pixels above it")
    max_trail: float = parameter(20.0, "pixel", "a frame whose stars are all trailed over more is unusable")


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
    trail = trailing(found)
    if trail.trailed and trail.length > p.max_trail:
        raise FrameUnusable(
            f"stars are trailed over {trail.length:.0f} pixel, at most {p.max_trail:.0f} are allowed",
            where=unit.label,
            hint="the mount did not follow; to measure trails all the same, raise [extract] max_trail",
            code="frame.trailed",
        )
    clean = (found.flags == 0) & (found.snr > 20) & np.isfinite(found.fwhm)
    widths = found.fwhm[clean if clean.sum() >= 3 else np.isfinite(found.fwhm)]
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
    # Of a frame with few stars or none, step solve says what is the matter: it knows the frames alike.
    frame = {"fwhm": float(np.median(widths)) if widths.size else None, "n_detection": len(found)}
    return Output(rows=[Rows(Detection, columns, replace=place)], frame=frame)
