"""Step detect: stars on each calibrated object frame, with centroids and shapes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from db.errors import FrameUnusable
from db.tables import Detection, DetectionSummary
from reduction.astrometry.kernels.detection import extract as extract_stars
from reduction.astrometry.kernels.trailing import trailing
from reduction.calibration.calibrated import calibrated_planes
from reduction.pipeline.declaration import Context, Output, Rows, Unit, parameter, step
from reduction.pipeline.inputs import Own

__all__ = ["DetectParameters", "detect"]


@dataclass(frozen=True)
class DetectParameters:
    """How stars are detected."""

    threshold: float = parameter(4.0, "sigma", "detection threshold on the filtered image", least=1.5, most=1000)
    min_area: int = parameter(4, "pixel", "fewest connected pixels above it", least=1, most=1000)
    max_trail: float = parameter(20.0, "pixel", "a frame whose stars are all trailed over more is unusable", above=0, most=10_000)


@step(
    "detect",
    inputs=(Own("calibrate"),),
    version=2,
    parameters=DetectParameters,
    writes=(Detection, DetectionSummary),
)
def detect(context: Context, unit: Unit[None], p: DetectParameters) -> Output:
    """Detect stars and measure their positions and shapes."""
    planes = calibrated_planes(context, int(unit.key))
    found = extract_stars(planes["SCI"], planes["VAR"], planes["MASK"], threshold=p.threshold, min_area=p.min_area)
    trail = trailing(found)
    if trail.trailed and trail.length > p.max_trail:
        raise FrameUnusable(
            f"stars are trailed over {trail.length:.0f} pixel, at most {p.max_trail:.0f} are allowed",
            where=unit.label,
            hint="the mount did not follow; to measure trails all the same, raise [detect] max_trail",
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
    fwhm = float(np.median(widths)) if widths.size else None
    summary = {"frame_id": unit.frame_id, "fwhm": fwhm, "n_detection": len(found)}
    return Output(rows=[Rows(Detection, columns, replace=place), Rows(DetectionSummary, summary, upsert=True)])
