"""Step background: the sky between the sources of each object frame."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from db.errors import FrameUnusable
from db.tables import Frame, FrameBackground
from reduction.calibration.calibrated import calibrated_planes
from reduction.files.product import write_image
from reduction.photometry.background_map import BackgroundParameters, covered
from reduction.photometry.kernels.background import background as measure_background
from reduction.pipeline.declaration import Context, Kind, Output, Rows, Unit, step
from reduction.pipeline.inputs import Own, Worked

__all__ = ["background"]


@step(
    "background",
    # How sources are discovered matters here; which other frames revealed them must not make a frame pending.
    inputs=(Own("calibrate"), Own("detect"), Own("refine"), Own("field"), Worked("discover")),
    products=(Kind("background", passing=True),),
    parameters=BackgroundParameters,
    writes=(FrameBackground,),
)
def background(context: Context, unit: Unit[None], p: BackgroundParameters) -> Output:
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
    write = partial(write_image, planes={"SKY": sky.value, "ERR": sky.error}, header={"BOX": sky.box, "NSKY": sky.n_sky})
    file = context.product("background", f"frame-{frame.frame_id:07d}", write)
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
