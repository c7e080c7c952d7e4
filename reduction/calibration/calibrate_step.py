"""Step calibrate: object frames with bias, dark and flat taken off, variance and mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from db.errors import FrameUnusable
from db.flags import Mask
from db.tables import CalibratedFrame, Exposure, Frame, MasterChoice
from reduction.calibration.calibrated import object_pixels, zero_level
from reduction.calibration.kernels.calibration import Plane
from reduction.calibration.master_choice import Chosen, Masters, zero_is_gone
from reduction.files.product import write_calibrated
from reduction.pipeline.declaration import Context, Kind, NewFile, Output, Rows, Unit, canonical, parameter, step
from reduction.pipeline.inputs import OfNight, Own, Said

__all__ = ["CalibrateParameters", "calibrate"]

_KINDS = ("bias", "dark", "flat")


@dataclass(frozen=True)
class CalibrateParameters:
    """How object frames are calibrated."""

    cosmic: float = parameter(6.0, "sigma", "cosmic rays that stand out by more are marked; 0: none are looked for", least=0, most=1000)
    keep: bool = parameter(True, "", "keep calibrated frames as files; else they are made anew whenever a step needs them")

    def check(self) -> tuple[str, str] | None:
        """Every other pixel stands out of the noise by less."""
        return (f"cosmic = {self.cosmic:g} would mark noise", "allowed is 0 or 2 to 1000 sigma") if 0 < self.cosmic < 2 else None


@step(
    "calibrate",
    inputs=(Own("classify"), OfNight("detector"), Masters("bias", kinds=_KINDS), Said((MasterChoice,))),
    products=(Kind("calibrated", passing=True),),
    version=5,
    parameters=CalibrateParameters,
    writes=(CalibratedFrame,),
)
def calibrate(context: Context, unit: Unit[Mapping[str, Chosen] | None], p: CalibrateParameters) -> Output:
    """Take off bias and dark, divide by the flat, where there are masters; carry variance and mask, mark cosmic rays."""
    frame = context.session.get_one(Frame, int(unit.key))
    exposure = context.session.get_one(Exposure, frame.exposure_id)
    chosen = unit.payload or {}
    masters = {kind: master.master_id for kind, master in chosen.items()}
    scale = chosen["dark"].scale if "dark" in chosen else None
    if frame.exptime == 0:
        raise FrameUnusable(
            "the frame shows light, and its exposure time is 0 s: no magnitude follows from it",
            where=unit.label,
            hint="correct the header, or give exptime under [override] in --config",
            code="frame.bad_exptime",
        )
    plane, doubtful = object_pixels(context, frame, masters, scale or 1.0)
    dark_has_zero = "dark" in chosen and chosen["dark"].bias_master_id is None
    zero = 0.0 if dark_has_zero else zero_level(context, frame, masters)
    done = exposure.calibration_state.split()
    missing = [kind for kind in _KINDS if kind not in masters and kind not in done]
    if "bias" in missing and (dark_has_zero or zero_is_gone(done)):
        missing.remove("bias")
    remarks = [f"no master {', '.join(missing)}"] if missing else []
    if _below_zero(plane):
        remarks.append("the sky is below the zero level: was it taken off before? CALSTAT in the header would say so")
    remark = "; ".join([*remarks, *([doubtful] if doubtful else [])]) or None
    row = {
        "frame_id": frame.frame_id,
        **{f"{kind}_master_id": masters.get(kind) for kind in _KINDS},
        "dark_scale": scale,
        "zero_level": zero,
        "n_saturated": _count(plane, Mask.SATURATED),
        "n_cosmic": _count(plane, Mask.COSMIC),
        "remark": remark,
        "product_id": None,
    }
    file = _keep(context, frame, exposure, masters, row, plane) if p.keep else None
    if file is not None:
        del row["product_id"]  # the writer's
    return Output(rows=[Rows(CalibratedFrame, row, upsert=True)], file=file, remark=remark)


def _below_zero(plane: Plane) -> bool:
    """Whether the sky is darker than no light, beyond what noise and a master's level can do."""
    good = plane.mask == 0
    value, variance = plane.value[good][::17], plane.variance[good][::17]
    return bool(value.size and np.median(value) < -5.0 * np.sqrt(np.median(variance)))


def _count(plane: Plane, bit: Mask) -> int:
    return int(np.count_nonzero(plane.mask & np.uint8(int(bit))))


def _keep(context: Context, frame: Frame, exposure: Exposure, masters: dict[str, int], row: dict[str, Any], plane: Plane) -> NewFile:
    header = {
        "RAWSHA": exposure.sha256[:60],
        "OBJECT": exposure.object_name,
        "EXPTIME": frame.exptime,
        "JD_UTC": frame.jd_utc,
        "CHANNEL": frame.channel,
        "MASTERS": canonical(masters)[:60],
        "DARKSCAL": row["dark_scale"],
        "ZEROLEV": row["zero_level"],
    }
    known = {name: value for name, value in header.items() if value is not None}
    write = partial(write_calibrated, science=plane.value, variance=plane.variance, mask=plane.mask, header=known)
    return context.product("calibrated", f"frame-{frame.frame_id:07d}", write)
