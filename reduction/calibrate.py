"""Step calibrate: object frames with bias, dark and flat taken off, variance and mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from db.tables import CalibratedFrame, Detector, Exposure, Frame, Master, Product
from reduction.choice import good_masters, master_plane
from reduction.kernels.calibrate import calibrate as calibrate_pixels
from reduction.plans import done_tasks, frame_units
from reduction.raw import raw_frame
from reduction.step import Context, InputTask, Output, Rows, Unit, canonical, parameter, step

__all__ = ["CalibrateParameters", "calibrate"]


@dataclass(frozen=True)
class CalibrateParameters:
    """How object frames are calibrated."""

    max_dark_ratio: float = parameter(10.0, "", "darks are scaled down by no more than this")


def _plan(context: Context, p: CalibrateParameters) -> list[Unit]:
    """Every object frame with its night's detector and the masters that the rule picks for it now."""
    session = context.session
    masters = good_masters(session)
    detectors = done_tasks(session, "detector")
    extra: dict[int, tuple[InputTask, ...]] = {}
    choice: dict[int, dict[str, Any]] = {}
    query = sa.select(Frame, Exposure.calibration_state).join(Exposure).where(Frame.type == "object")
    for frame, state in session.execute(query):
        detector = detectors.get(f"{frame.instrument_id}/{frame.night_id}")
        if detector is None:
            continue
        found = {"bias": masters.bias(frame), "dark": masters.dark(frame, max_ratio=p.max_dark_ratio), "flat": masters.flat(frame)}
        if found["bias"] is None and found["dark"] is not None and not found["dark"].same_exptime(frame):
            found["dark"] = None  # it carries the zero level, so it cannot be scaled
        used = {kind: master for kind, master in found.items() if master is not None and kind not in state.split()}
        extra[frame.frame_id] = (detector, *(master.task for master in used.values()))
        choice[frame.frame_id] = {kind: (master.master_id, master.path, master.scale(frame)) for kind, master in used.items()}
    units = frame_units(session, ("sort",), extra=extra)
    return [Unit(u.key, u.label, u.inputs, "", u.frame_id, u.night_id, {"masters": choice[int(u.key)]}) for u in units]


@step(
    "calibrate",
    per="frame",
    after=("sort", "detector", "bias", "dark", "flat"),
    plan=_plan,
    parameters=CalibrateParameters,
    reads=(Frame, Exposure, Detector, Master, Product),
    writes=(CalibratedFrame,),
)
def calibrate(context: Context, unit: Unit, _: CalibrateParameters) -> Output:
    """Take off bias and dark, divide by the flat, where there are masters; carry variance and mask."""
    session = context.session
    frame = session.get_one(Frame, int(unit.key))
    exposure = session.get_one(Exposure, frame.exposure_id)
    detector = session.get_one(Detector, (frame.instrument_id, frame.night_id))
    masters: dict[str, tuple[int, str, float]] = unit.payload["masters"]
    done = exposure.calibration_state.split()
    raw = raw_frame(session, frame.frame_id, detector.saturation)
    planes = {kind: master_plane(context, masters[kind][1] if kind in masters else None) for kind in ("bias", "dark", "flat")}
    dark_scale = masters["dark"][2] if "dark" in masters else 1.0
    no_zero = planes["bias"] is None and planes["dark"] is None
    zero_level = detector.zero_level if no_zero and "bias" not in done else 0.0
    result = calibrate_pixels(
        raw.data,
        gain=detector.gain,
        read_noise=detector.read_noise,
        saturation=raw.saturated,
        bias=planes["bias"],
        dark=planes["dark"],
        dark_scale=dark_scale,
        flat=planes["flat"],
        zero_level=zero_level if no_zero else None,
        quantum=raw.quantum,
    )
    missing = [kind for kind in ("bias", "dark", "flat") if kind not in masters and kind not in done]
    remark = f"no master {', '.join(missing)}" if missing else None
    file = context.write(
        "calibrated",
        f"frame-{frame.frame_id:07d}",
        {"SCI": result.value, "VAR": result.variance, "MASK": result.mask},
        {"RAWSHA": exposure.sha256[:60], "MASTERS": canonical(sorted(masters))[:60], "DARKSCAL": dark_scale, "ZEROLEV": zero_level},
    )
    row = {
        "frame_id": frame.frame_id,
        "bias_master_id": masters["bias"][0] if "bias" in masters else None,
        "dark_master_id": masters["dark"][0] if "dark" in masters else None,
        "flat_master_id": masters["flat"][0] if "flat" in masters else None,
        "dark_scale": dark_scale if "dark" in masters else None,
        "zero_level": zero_level,
        "remark": remark,
    }
    return Output(rows=[Rows(CalibratedFrame, row, upsert=True)], file=file, remark=remark)
