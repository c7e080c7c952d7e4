"""Step background: the sky between the sources of each object frame."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from db.errors import FrameUnusable
from db.tables import Frame, FrameBackground
from reduction.calibration.calibrated import calibrated_planes
from reduction.files.product import write_image
from reduction.photometry.background_map import BackgroundParameters, Sky, measured_sky
from reduction.pipeline.declaration import Context, Kind, Output, Rows, Unit, step
from reduction.pipeline.inputs import Own, Worked

__all__ = ["background"]


@step(
    "background",
    # How sources are discovered matters here; which other frames revealed them must not make a frame pending.
    inputs=(Own("calibrate"), Own("detect"), Own("refine"), Own("field"), Worked("discover")),
    products=(Kind("background", passing=True),),
    version=3,
    parameters=BackgroundParameters,
    writes=(FrameBackground,),
)
def background(context: Context, unit: Unit[None], p: BackgroundParameters) -> Output:
    """Measure the sky between the sources: object-masked clipped mean less the wings of stars, smoothed, with its error."""
    frame = context.session.get_one(Frame, int(unit.key))
    planes = calibrated_planes(context, frame.frame_id)
    sky = measured_sky(context, frame, planes, p)
    if not np.isfinite(sky.map.value).all():
        raise FrameUnusable(
            "no sky between the sources",
            where=unit.label,
            hint="lower [background] max_radius for a crowded or trailed field",
            code="frame.no_sky",
        )
    shape = planes["SCI"].shape
    row = {
        "frame_id": frame.frame_id,
        "level": float(sky.map.image(shape).mean(dtype=float)),
        "noise": sky.map.noise,
        "error": float(np.median(sky.map.error)),
        "sky_fraction": sky.map.n_sky / (shape[0] * shape[1]),
        "box": p.box,
        "smooth": sky.map.smooth,
        "structure": sky.map.structure,
        "wing_light": sky.map.wing,
        "n_hiding": sky.n_hiding,
        "ring_inner": p.ring_inner * sky.fwhm if p.ring_outer > 0 else None,
        "ring_outer": p.ring_outer * sky.fwhm if p.ring_outer > 0 else None,
    }
    file = context.product("background", f"frame-{frame.frame_id:07d}", partial(write_image, **_contents(sky, p)))
    return Output(rows=[Rows(FrameBackground, row, upsert=True)], file=file)


def _contents(sky: Sky, p: BackgroundParameters) -> dict[str, Any]:
    """Planes and header of the file; for rings about the sources, the pixels that are not sky as well."""
    planes: dict[str, Any] = {"SKY": sky.map.value, "ERR": sky.map.error, "WINGS": sky.map.wings, "DOUBT": sky.map.doubt}
    header: dict[str, Any] = {"BOX": sky.map.box, "NSKY": sky.map.n_sky}
    if p.ring_outer > 0:
        planes["HIDDEN"] = sky.excluded.astype(np.uint8)
        header |= {"RINGIN": p.ring_inner * sky.fwhm, "RINGOUT": p.ring_outer * sky.fwhm, "QUANTUM": sky.quantum}
    return {"planes": planes, "header": header}
