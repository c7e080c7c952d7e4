"""Steps large_scale_flat and flat: flats go through the stack twice, first their shapes, then their pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from db.errors import AlgorithmFailed
from db.flags import Mask
from db.tables import Frame
from reduction.calibration.detectors import detector_of
from reduction.calibration.flat_sets import FlatSet, LargeScaleFlatParameters, flat_set
from reduction.calibration.frame_sets import (
    INPUTS,
    PROVISIONAL,
    WRITES,
    FrameSet,
    MasterUnit,
    frame_sets,
    master_output,
    require_enough,
    set_units,
    subtracted_variance,
)
from reduction.calibration.kernels.flat import UNUSABLE, block_means, expand, leftover, stack_shapes
from reduction.calibration.kernels.master_frames import dead_pixels, robust_mean
from reduction.calibration.kernels.stack import MasterImage, stack_bands
from reduction.calibration.master_choice import Masters
from reduction.files.product import read_image
from reduction.files.scratch import Scratch
from reduction.frames.types import type_of
from reduction.pipeline.declaration import Context, InputTask, Kind, Output, Unit, parameter, step
from reduction.pipeline.inputs import Members
from reduction.pipeline.unchanged import product_file

__all__ = ["FlatParameters", "LargeScaleFlatParameters", "flat", "large_scale_flat"]

_CALIBRATED_FOR = ("bias", "dark")

#: In so few seconds (s) dark current is nothing beside the light of a flat.
_NO_DARK_NEEDED = 5.0

_LARGE_SCALE = sa.text(
    "SELECT master_id, setup_id, channel, passband_id, night_id, from_sky, valid_from, valid_until, noise, path, task_id, input_hash"
    " FROM good_master WHERE kind = 'largescale' ORDER BY master_id"
)


@dataclass(frozen=True)
class FlatParameters:
    """How flats are stacked, once they are matched to the large-scale flat."""

    clip: float = parameter(4.0, "sigma", "clipping of outlier pixels", least=1, most=30)
    max_leftover: float = parameter(
        0.005, "", "largest structure left of a flat that was matched to the large-scale flat, relative", above=0, most=1
    )
    dead: float = parameter(0.4, "", "a pixel with less of its surroundings' response is dead", least=0, most=1)
    max_error: float = parameter(
        1.0, "", "where a pixel's response is known no better than this, the large-scale flat stands alone", above=0, most=1000
    )
    better: float = parameter(
        0.5, "", "another night's large-scale flat is taken where its error is this part of the night's own", least=0, most=1
    )
    valid_days: float = parameter(60.0, "d", "it serves frames so long before and after its own", least=0, most=36_525)


def _sets(context: Context, p: LargeScaleFlatParameters) -> list[FrameSet]:
    """Flats of a passband and night; with `from_sky`, object frames of a passband and night that has no flats."""
    flats = frame_sets(context.session, "flat", p.min_frames, lambda frame: (frame.passband_id,))
    if not p.from_sky:
        return flats
    own = {each.key for each in flats}
    sky = frame_sets(context.session, "object", p.min_frames, lambda frame: (frame.passband_id,))
    return flats + [FrameSet(f"sky/{each.key}", each.type, each.frames) for each in sky if each.key not in own]


def _largescale_plan(context: Context, p: LargeScaleFlatParameters) -> list[Unit[MasterUnit]]:
    return set_units(context, _sets(context, p), _CALIBRATED_FOR)


def _shape_parameters(context: Context) -> LargeScaleFlatParameters:
    """Those of step large_scale_flat, which is behind every flat."""
    found: LargeScaleFlatParameters = context.parameters("large_scale_flat")
    return found


def _flat_plan(context: Context, p: FlatParameters) -> list[Unit[MasterUnit]]:
    """The same sets, each with the large-scale flat that it is matched to."""
    large = list(context.session.execute(_LARGE_SCALE))
    chosen: dict[str, Any] = {}

    def with_shape(each: FrameSet) -> tuple[InputTask, ...] | None:
        best = _best(each, large, p.better)
        if best is None:
            return None
        chosen[each.key] = best
        return (InputTask(best.task_id, best.input_hash, "largescale"),)

    units = set_units(context, _sets(context, _shape_parameters(context)), _CALIBRATED_FOR, with_shape)
    return [replace(unit, payload=replace(unit.payload, large_scale=chosen[unit.key].path)) for unit in units]


def _best(each: FrameSet, large: Sequence[Any], better: float) -> Any | None:
    """The set's own large-scale flat, or one of another night whose error is less than `better` times its own."""
    first = each.frames[0]
    mine = (first.setup_id, first.channel, first.passband_id)
    fitting = [m for m in large if (m.setup_id, m.channel, m.passband_id) == mine and m.valid_from <= first.jd_utc <= m.valid_until]
    own = next((m for m in fitting if m.night_id == first.night_id and bool(m.from_sky) == each.key.startswith("sky/")), None)
    if own is None:
        return None  # what the set's shapes are not fit for, its pixels are not either
    best = min(fitting, key=lambda m: (m.noise, m.master_id))
    return best if best.noise < better * own.noise else own


@step(
    "large_scale_flat",
    plan=_largescale_plan,
    inputs=(*INPUTS, Masters("bias", kinds=("bias", "dark"))),
    products=(Kind("largescale"),),
    complete=True,
    version=3,
    parameters=LargeScaleFlatParameters,
    writes=WRITES,
    provisional=PROVISIONAL,
)
def large_scale_flat(context: Context, unit: Unit[MasterUnit], p: LargeScaleFlatParameters) -> Output:
    """Stack the smoothed flats of a night into its large-scale flat; cloudy, weak and saturated flats are discarded."""
    reasons = [""] * len(unit.payload.frames)
    first = context.session.get_one(Frame, unit.payload.frames[0])
    with Scratch(context.files, (first.ny, first.nx)) as scratch:
        found = flat_set(context, unit, p, scratch, reasons)
        kept = require_enough(unit, reasons, p.min_frames)
    shape = stack_shapes([found.shapes[found.indices.index(index)] for index in kept], p.block, sigma=p.clip)
    master = MasterImage(shape.value, shape.variance, np.zeros(shape.value.shape, np.uint8), shape.count)
    columns = {"from_sky": int(type_of(context.session, first.frame_id) == "object"), "warning": "; ".join(found.warnings) or None}
    return master_output(context, unit, "largescale", master, reasons, columns, p.valid_days, {"BLOCK": p.block})


@step(
    "flat",
    plan=_flat_plan,
    inputs=(*INPUTS, Masters("bias", kinds=("bias", "dark")), Members("large_scale_flat", role="largescale")),
    products=(Kind("flat"),),
    complete=True,
    version=4,
    parameters=FlatParameters,
    writes=WRITES,
    provisional=PROVISIONAL,
)
def flat(context: Context, unit: Unit[MasterUnit], p: FlatParameters) -> Output:
    """Match each flat to the large-scale flat and stack them into the master flat."""
    shape_parameters = _shape_parameters(context)
    reasons = [""] * len(unit.payload.frames)
    first = context.session.get_one(Frame, unit.payload.frames[0])
    with Scratch(context.files, (first.ny, first.nx)) as scratch:
        found = flat_set(context, unit, shape_parameters, scratch, reasons)
        _discard_leftovers(found, reasons, p)
        kept = require_enough(unit, reasons, shape_parameters.min_frames)
        # A flat times smooth(large-scale / flat) is its ratio to its own shape, times the large-scale flat.
        planes, header = read_image(product_file(context, unit.payload.large_scale))
        shape = expand(planes["SCI"], found.scratch.shape, int(header["BLOCK"]))
        master = _stack(context, unit, first, found, [found.indices.index(index) for index in kept], shape, p)
    if _typical_error(master) > p.max_error:
        found.warnings.append(f"a pixel's response is known to {_typical_error(master):.1%} only: this is the large-scale flat alone")
        master = _smooth(master, shape)
    columns = {
        "from_sky": int(type_of(context.session, first.frame_id) == "object"),
        "warning": "; ".join(_doubts(unit, found, master, len(kept), first.exptime)) or None,
    }
    return master_output(context, unit, "flat", master, reasons, columns, p.valid_days)


def _discard_leftovers(found: FlatSet, reasons: list[str], p: FlatParameters) -> None:
    """Flats in which there is structure that the others do not have, such as dust that moved."""
    kept = [number for number, index in enumerate(found.indices) if not reasons[index]]
    measured = []
    for number in kept:
        ratio, mask = found.scratch.frame(number)
        measured.append(block_means(ratio, (mask & np.uint8(UNUSABLE)) == 0, 8))
    if len(kept) < 3:
        return
    left = leftover([mean for mean, _ in measured], [variance for _, variance in measured])
    for number, value in zip(kept, left, strict=True):
        if value > p.max_leftover:
            reasons[found.indices[number]] = f"structure that the others do not have: {value:.2%} rms, at most {p.max_leftover:.2%}"


def _stack(
    context: Context,
    unit: Unit[MasterUnit],
    first: Frame,
    found: FlatSet,
    kept: list[int],
    shape: npt.NDArray[np.float32],
    p: FlatParameters,
) -> MasterImage:
    """The flats, each times large-scale flat over its own shape, averaged with the weight of their errors; mean 1 over the good pixels."""

    def read(y0: int, y1: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        ratio, mask = found.scratch.band(y0, y1, kept)
        return ratio * shape[y0:y1], mask

    detector = detector_of(context.session, first)
    levels, errors = (np.array([column[number] for number in kept]) for column in (found.levels, found.errors))
    typical = float(np.median(levels))
    stack = stack_bands(
        read,
        found.scratch.shape,
        n=len(kept),
        sigma=p.clip,
        noise=detector.read_noise / detector.gain / typical,
        photon_noise=1.0 / (detector.gain * typical),
        scale=errors / np.median(errors),
    )
    share = 1.0 / errors**2 / np.sum(1.0 / errors**2) / levels
    common = subtracted_variance(context, unit, dict(zip((found.indices[number] for number in kept), share.tolist(), strict=True)))
    stack.variance[stack.count > 0] += common[stack.count > 0]
    good = stack.mask == 0
    if not good.any():
        raise AlgorithmFailed("no pixel of the flat has a value", hint="are the flats saturated?", code="master.empty")
    mean = float(stack.value[good].mean(dtype=float))
    value, variance = stack.value / np.float32(mean), stack.variance / np.float32(mean**2)
    mask = stack.mask.copy()
    mask[~(value > 0)] |= np.uint8(int(Mask.NO_DATA))
    mask[dead_pixels(MasterImage(value, variance, mask, stack.count), fraction=p.dead)] |= np.uint8(int(Mask.DEAD))
    empty = (mask & np.uint8(int(Mask.NO_DATA))) != 0
    value[empty], variance[empty] = 0.0, 0.0
    return MasterImage(value, variance, mask, stack.count)


def _typical_error(master: MasterImage) -> float:
    good = master.mask == 0
    return math.sqrt(float(np.median(master.variance[good]))) if good.any() else 0.0


def _smooth(master: MasterImage, shape: npt.NDArray[np.float32]) -> MasterImage:
    """The large-scale flat instead of pixels whose response is not known: its error is how the pixels differ, beyond their noise."""
    good = master.mask == 0
    value = shape / np.float32(shape[good].mean(dtype=float))
    _, scatter = robust_mean(master.value[good] / value[good])
    noise, _ = robust_mean(master.variance[good] / value[good] ** 2)
    own = max(scatter**2 - noise, 0.0)
    empty = (master.mask & np.uint8(int(Mask.NO_DATA))) != 0
    variance = np.float32(own) * value**2
    value[empty], variance[empty] = 0.0, 0.0
    return MasterImage(value, variance, master.mask, master.count)


def _doubts(unit: Unit[MasterUnit], found: FlatSet, master: MasterImage, n: int, exptime: float) -> list[str]:
    """What an observer should know before trusting the master."""
    doubts = list(found.warnings)
    if n < 5:
        doubts.append(f"only {n} flats")
    missing = [kind for kind in _CALIBRATED_FOR if kind not in unit.payload.masters]
    if exptime < _NO_DARK_NEEDED and "dark" in missing:
        missing.remove("dark")
    if missing:
        doubts.append(f"no {' and no '.join(missing)} was taken off the flats")
    noise = _typical_error(master)
    if noise > 0.01:
        doubts.append(f"a pixel's response is known to {noise:.1%} only: it adds that much noise to every frame")
    return doubts
