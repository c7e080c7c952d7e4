"""Step shapes: how the shapes of stars vary over each object frame, as a smooth map."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.errors import AlgorithmFailed
from db.fetch import fetch_arrays
from db.flags import Flag
from db.tables import DetectionMatch, Frame, ShapeMap, Source
from reduction.astrometry.detections import detections_of
from reduction.photometry.kernels.shape_map import fit_shape_map
from reduction.pipeline.declaration import Context, Output, Rows, Unit, parameter, step
from reduction.pipeline.inputs import Own, Untracked

__all__ = ["ShapesParameters", "shapes"]

#: A detection with one of these does not show the shape of a star.
_SPOILED = int(Flag.SATURATED | Flag.EDGE | Flag.BAD_PIXEL | Flag.COSMIC | Flag.BLENDED)
#: Pixels of the detector, not of the sky, have spoiled it.
_MARKED = int(Flag.BAD_PIXEL | Flag.COSMIC)


@dataclass(frozen=True)
class ShapesParameters:
    """How the shape map is fitted."""

    order: int = parameter(4, "", "highest degree in x, y; the lowest that predicts left-out stars as well is taken", least=0, most=8)
    min_snr: float = parameter(20.0, "", "least signal-to-noise ratio of a star", least=1, most=10_000)


@step(
    "shapes",
    inputs=(Own("detect"), Own("refine"), Untracked("field_colours")),
    parameters=ShapesParameters,
    writes=(ShapeMap,),
)
def shapes(context: Context, unit: Unit[None], p: ShapesParameters) -> Output:
    """Fit a smooth map of the shapes s, d, k of the stars, over position, magnitude and colour."""
    frame = context.session.get_one(Frame, int(unit.key))
    found = detections_of(context.session, frame.night_id, frame.frame_id)
    with np.errstate(invalid="ignore", divide="ignore"):
        snr = found["flux"] / found["flux_err"]
        good = (found["flags"] & _SPOILED == 0) & (snr >= p.min_snr) & np.isfinite(found["shape_s"])
    mag, colour = _known(context.session, frame, found["number"])
    x, y, s, d, k = (found[name][good].astype(float) for name in ("x", "y", "shape_s", "shape_d", "shape_k"))
    try:
        fitted = fit_shape_map(x, y, s, d, k, snr[good], size=(frame.nx, frame.ny), mag=mag[good], colour=colour[good], max_order=p.order)
    except AlgorithmFailed as error:
        marked = int(np.count_nonzero(found["flags"] & _MARKED))
        if 2 * marked <= len(found["flags"]):
            raise AlgorithmFailed(error.message, where=unit.label, hint=error.hint, code=error.code) from error
        raise AlgorithmFailed(
            f"{error.message}: {marked} of {len(found['flags'])} detections touch pixels that are bad, hot, or called cosmic rays",
            where=unit.label,
            hint="a warm detector without darks? take darks, or see the remark of step calibrate",
            code=error.code,
        ) from error
    middle = fitted.evaluate((frame.nx - 1) / 2.0, (frame.ny - 1) / 2.0)
    row = {
        "frame_id": frame.frame_id,
        "poly_order": fitted.order,
        "coeff": json.dumps(fitted.to_row()),
        "n_star": fitted.n_star,
        "fwhm": float(middle.fwhm),
        "ellipticity": float(middle.ellipticity),
        "theta": float(middle.theta),
        "rms_s": fitted.rms_s,
        "rms_d": fitted.rms_d,
        "rms_k": fitted.rms_k,
    }
    return Output(rows=[Rows(ShapeMap, row, upsert=True)])


def _known(session: Session, frame: Frame, number: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Magnitude and measured colour of the sources that the detections are; NaN for none."""
    query = (
        sa.select(DetectionMatch.number, Source.fit_mag, sa.case((Source.colour_measured == 1, Source.fit_colour)))
        .join(Source, Source.source_id == DetectionMatch.source_id)
        .where(DetectionMatch.night_id == frame.night_id, DetectionMatch.frame_id == frame.frame_id)
    )
    match, mag, colour = fetch_arrays(session.connection(), query, kinds="iff")
    columns = np.full((2, int(number.max(initial=-1)) + 1), np.nan)
    columns[:, match] = mag, colour
    return columns[0, number], columns[1, number]
