"""Step background: the sky between the sources of each object frame."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from db.errors import FrameUnusable
from db.tables import CalibratedFrame, Detection, DetectionSummary, Frame, FrameBackground, Product, Source, WcsSolution
from reduction.calibration.calibrated import calibrated_planes
from reduction.photometry.background_map import BackgroundParameters, covered
from reduction.photometry.kernels.background import background as measure_background
from reduction.pipeline.declaration import Context, Output, Rows, Unit, step
from reduction.pipeline.plans import fingerprint, frame_units

__all__ = ["background"]


def _plan(context: Context, _: BackgroundParameters) -> list[Unit]:
    # How sources are discovered matters here; which other frames revealed them must not make this frame pending.
    return frame_units(context.session, ("calibrate", "detect", "refine", "field"), facts=fingerprint("discover", context.settings))


@step(
    "background",
    after=("calibrate", "detect", "refine", "field", "discover"),
    plan=_plan,
    parameters=BackgroundParameters,
    reads=(Frame, CalibratedFrame, Product, Detection, DetectionSummary, Source, WcsSolution),
    writes=(FrameBackground,),
)
def background(context: Context, unit: Unit, p: BackgroundParameters) -> Output:
    """Measure the sky between the sources: object-masked clipped mean, smoothed, with its error."""
    session = context.session
    frame = session.get_one(Frame, int(unit.key))
    planes = calibrated_planes(context, frame.frame_id)
    excluded = covered(context, frame, planes, p) | (planes["MASK"] != 0)
    sky = measure_background(planes["SCI"], planes["VAR"], excluded, box=p.box, smooth=p.smooth, clip=p.clip)
    if not np.isfinite(sky.value).all():
        raise FrameUnusable(
            "no sky between the sources",
            where=unit.label,
            hint="lower [background] max_radius for a crowded or trailed field",
            code="frame.no_sky",
        )
    image = sky.image(planes["SCI"].shape)
    level, noise = float(image.mean(dtype=float)), _noise(planes["SCI"] - image, excluded, p.clip)
    file = context.write(
        "background", f"frame-{frame.frame_id:07d}", {"SKY": sky.value, "ERR": sky.error}, {"BOX": sky.box, "NSKY": sky.n_sky}
    )
    row = {
        "frame_id": frame.frame_id,
        "level": level,
        "noise": noise,
        "error": float(np.median(sky.error)),
        "sky_fraction": sky.n_sky / image.size,
    }
    return Output(rows=[Rows(FrameBackground, row, upsert=True)], file=file)


def _noise(residual: npt.NDArray[np.float32], excluded: npt.NDArray[np.bool_], clip: float) -> float:
    """Standard deviation of the sky pixels, clipped."""
    values = residual[~excluded].astype(float)
    for _ in range(5):
        values = values[np.abs(values - values.mean()) <= clip * values.std()]
    return float(values.std())
