"""Steps bias and dark: frames of one kind, set-up, channel and night are stacked into a master."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.calibration import Origin
from db.flags import Mask
from db.tables import Classification, Exposure, Frame
from reduction.calibration.calibrated import zero_level
from reduction.calibration.detectors import detector_of
from reduction.calibration.frame_sets import (
    INPUTS,
    PROVISIONAL,
    WRITES,
    MasterUnit,
    frame_sets,
    master_output,
    pixels_of,
    require_enough,
    set_units,
)
from reduction.calibration.kernels.master_frames import hot_pixels, image_statistics, outlier_reasons
from reduction.calibration.kernels.stack import MasterImage, stack_bands
from reduction.calibration.master_choice import Masters
from reduction.files.scratch import Scratch
from reduction.frames.types import type_of
from reduction.pipeline.declaration import Context, Kind, Output, Unit, parameter, step
from reduction.pipeline.inputs import Earlier

__all__ = ["BiasParameters", "DarkParameters", "bias", "dark"]


@dataclass(frozen=True)
class BiasParameters:
    """How bias frames are stacked."""

    min_frames: int = parameter(3, "", "fewest frames that make a master", least=1, most=10_000)
    clip: float = parameter(4.0, "sigma", "clipping of outlier pixels", least=1, most=30)
    outlier: float = parameter(
        5.0,
        "sigma",
        "an image whose level or noise is off by more is discarded, as is one with bands or structure of its own",
        least=1,
        most=30,
    )
    valid_days: float = parameter(180.0, "d", "it serves frames so long before and after its own", least=0, most=36_525)


@dataclass(frozen=True)
class DarkParameters(BiasParameters):
    """How dark frames are stacked."""

    hot: float = parameter(8.0, "sigma", "a pixel this far above its surroundings in the master dark is hot", least=5, most=1000)
    temperature: float = parameter(
        2.0, "deg C", "darks serve frames whose detector was no more than this warmer or colder", least=0, most=100
    )
    max_ratio: float = parameter(
        10.0, "", "darks that are linear are scaled down to exposures shorter by no more than this", least=1, most=10_000
    )


def _bias_plan(context: Context, p: BiasParameters) -> list[Unit[MasterUnit]]:
    return set_units(context, frame_sets(context.session, "bias", p.min_frames, lambda _: ()), ())


def _dark_plan(context: Context, p: DarkParameters) -> list[Unit[MasterUnit]]:
    return set_units(context, frame_sets(context.session, "dark", p.min_frames, _by_exptime_and_warmth(context.session, p)), ("bias",))


def _by_exptime_and_warmth(session: Session, p: DarkParameters) -> Callable[[Frame], tuple[object, ...]]:
    """Darks of one exposure time in groups of like temperature: a group ends where the next is warmer than its coldest by the tolerance."""
    query = (
        sa.select(Frame.frame_id, Frame.setup_id, Frame.channel, Frame.night_id, Frame.exptime, Exposure.ccd_temperature)
        .join(Exposure, Exposure.exposure_id == Frame.exposure_id)
        .join(Classification, Classification.frame_id == Frame.frame_id)
        .where(Classification.type == "dark", Exposure.ccd_temperature.is_not(None))
        .order_by(Frame.setup_id, Frame.channel, Frame.night_id, Frame.exptime, Exposure.ccd_temperature, Frame.frame_id)
    )
    group: dict[int, str] = {}
    before: tuple[object, ...] | None = None
    coldest = 0.0
    for row in session.execute(query):
        group_key = (row.setup_id, row.channel, row.night_id, f"{row.exptime:g}")
        if group_key != before or row.ccd_temperature > coldest + p.temperature:
            before, coldest = group_key, row.ccd_temperature
        group[row.frame_id] = f"{coldest:.1f}C"
    return lambda frame: (f"{frame.exptime:g}", *([group[frame.frame_id]] if frame.frame_id in group else []))


@step(
    "bias",
    plan=_bias_plan,
    inputs=INPUTS,
    products=(Kind("bias"),),
    complete=True,
    version=3,
    parameters=BiasParameters,
    writes=WRITES,
    provisional=PROVISIONAL,
)
def bias(context: Context, unit: Unit[MasterUnit], p: BiasParameters) -> Output:
    """Stack bias frames into a master: clipped mean, outlier frames discarded."""
    master, reasons = _stack(context, unit, p)
    return master_output(context, unit, "bias", master, reasons, {}, p.valid_days)


@step(
    "dark",
    plan=_dark_plan,
    inputs=(*INPUTS, Masters("bias", kinds=("bias",)), Earlier("dark_scaling")),
    products=(Kind("dark"),),
    complete=True,
    version=3,
    parameters=DarkParameters,
    writes=WRITES,
    provisional=PROVISIONAL,
)
def dark(context: Context, unit: Unit[MasterUnit], p: DarkParameters) -> Output:
    """Stack de-biased dark frames into a master, and mark hot pixels."""
    master, reasons = _stack(context, unit, p)
    master.mask[hot_pixels(master, sigma=p.hot)] |= np.uint8(int(Mask.HOT))
    debiased = "bias" in unit.payload.masters
    columns = {
        "temperature_tolerance": p.temperature,
        "max_ratio": p.max_ratio if debiased else 1.0,
        "warning": None if debiased else "no bias was taken off: it serves exposures as long as its own alone",
    }
    return master_output(context, unit, "dark", master, reasons, columns, p.valid_days)


def _stack(context: Context, unit: Unit[MasterUnit], p: BiasParameters) -> tuple[MasterImage, list[str]]:
    """Clipped mean of the set's frames, and the reasons of those discarded."""
    reasons = [""] * len(unit.payload.frames)
    first = context.session.get_one(Frame, unit.payload.frames[0])
    with Scratch(context.files, (first.ny, first.nx)) as scratch:
        indices, statistics = [], []
        for index, plane in pixels_of(context, unit, reasons):
            scratch.add(plane.value, plane.mask)
            indices.append(index)
            statistics.append(image_statistics(plane))
        for index, reason in zip(indices, outlier_reasons(statistics, sigma=p.outlier), strict=True):
            reasons[index] = reason
        kept = require_enough(unit, reasons, p.min_frames)
        zero = _zero(context, unit, first)
        read = _above(scratch, [indices.index(index) for index in kept], zero)
        master = stack_bands(read, scratch.shape, n=len(kept), sigma=p.clip, **_noise_model(context, first))
    master.value[master.count > 0] += np.float32(zero)
    return master, reasons


def _zero(context: Context, unit: Unit[MasterUnit], first: Frame) -> float:
    """The level that is still in darks without a bias, ADU: it makes no photon noise."""
    masters = {kind: chosen.master_id for kind, chosen in unit.payload.masters.items()}
    return zero_level(context, first, masters) if type_of(context.session, first.frame_id) == "dark" else 0.0


_Band = tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]


def _above(scratch: Scratch, numbers: list[int], zero: float) -> Callable[[int, int], _Band]:
    """Bands of the frames, above the zero level."""

    def read(y0: int, y1: int) -> _Band:
        value, mask = scratch.band(y0, y1, numbers)
        value -= np.float32(zero)
        return value, mask

    return read


def _noise_model(context: Context, first: Frame) -> dict[str, float]:
    """What the detector's facts say of a value's noise: rounding always, read noise and a dark's photons where they are known."""
    detector = detector_of(context.session, first)
    model = {"quantum": context.session.get_one(Exposure, first.exposure_id).quantum}
    # An upper limit from the sky, or electrons without a gain, would make hot pixels look surer than they are.
    gain_known = detector.gain_origin != Origin.ASSUMED
    if detector.read_noise_origin == Origin.MEASURED or (detector.read_noise_origin == Origin.GIVEN and gain_known):
        model["noise"] = detector.read_noise / detector.gain
        if gain_known and type_of(context.session, first.frame_id) == "dark":
            model["photon_noise"] = 1.0 / detector.gain
    return model
