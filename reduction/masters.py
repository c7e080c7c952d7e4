"""Steps bias, dark and flat: frames of one kind and night are stacked into a master."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.errors import AlgorithmFailed
from db.flags import Mask
from db.keys import next_id
from db.tables import Detector, Exposure, Frame, Master, MasterFrame, Product
from reduction.choice import good_masters, master_plane
from reduction.kernels.calibrate import Plane
from reduction.kernels.calibrate import calibrate as calibrate_pixels
from reduction.kernels.masters import flat_frame_reject, flat_structure, hot_pixels, master_flat, robust_mean, stack_plane
from reduction.kernels.stack import outlier_images
from reduction.plans import done_tasks, not_masked
from reduction.raw import raw_frame
from reduction.step import Context, InputTask, Output, Rows, Unit, parameter, step

__all__ = ["BiasParameters", "DarkParameters", "FlatParameters", "bias", "dark", "flat"]


@dataclass(frozen=True)
class BiasParameters:
    """How bias frames are stacked."""

    min_frames: int = parameter(3, "", "fewest frames that make a master")
    clip: float = parameter(4.0, "sigma", "clipping of outlier pixels")
    outlier: float = parameter(5.0, "sigma", "an image whose level or noise is off by more is discarded")


@dataclass(frozen=True)
class DarkParameters(BiasParameters):
    """How dark frames are stacked."""

    hot: float = parameter(8.0, "sigma", "a pixel this far above the master dark's mean is hot")


@dataclass(frozen=True)
class FlatParameters:
    """How flats are stacked."""

    min_frames: int = parameter(3, "", "fewest frames that make a master")
    clip: float = parameter(4.0, "sigma", "clipping of outlier pixels")
    min_snr: float = parameter(30.0, "", "least signal-to-noise ratio of a pixel of one flat")
    max_saturated: float = parameter(0.01, "", "largest part of saturated pixels")
    max_structure: float = parameter(0.02, "", "largest difference of its large-scale shape from the set's, relative")
    max_dark_ratio: float = parameter(10.0, "", "darks are scaled down by no more than this")


def _groups(context: Context, kind: str, min_frames: int, by: Callable[[Frame], tuple[Any, ...]]) -> list[tuple[str, list[Frame]]]:
    """Frames of one type, sorted and not masked by hand, in groups of instrument, channel, night and more."""
    query = (
        sa.select(Frame).where(Frame.type == kind, not_masked()).order_by(Frame.instrument_id, Frame.channel, Frame.night_id, Frame.jd_utc)
    )
    groups: dict[str, list[Frame]] = {}
    for frame in context.session.execute(query).scalars():
        key = "/".join(str(part) for part in (frame.instrument_id, frame.channel, frame.night_id, *by(frame)))
        groups.setdefault(key, []).append(frame)
    return [(key, frames) for key, frames in groups.items() if len(frames) >= min_frames]


def _units(
    context: Context, groups: Iterable[tuple[str, list[Frame]]], masters: Callable[[Frame], list[tuple[str, InputTask, dict[str, Any]]]]
) -> list[Unit]:
    """One unit a group: made from its frames' sort tasks, its night's detector, and the masters chosen for its first frame."""
    sorts, detectors = done_tasks(context.session, "sort"), done_tasks(context.session, "detector")
    units = []
    for key, frames in groups:
        detector = detectors.get(f"{frames[0].instrument_id}/{frames[0].night_id}")
        inputs = [sorts.get(str(frame.frame_id)) for frame in frames]
        if detector is None or None in inputs:
            continue
        chosen = masters(frames[0])
        payload: dict[str, Any] = {"frames": [frame.frame_id for frame in frames], **{name: facts for name, _, facts in chosen}}
        tasks = tuple(task for task in inputs if task is not None)
        label = f"{frames[0].type} of night {frames[0].night_id}, {len(frames)} frames"
        units.append(Unit(key, label, (*tasks, detector, *(task for _, task, _ in chosen)), payload=payload, night_id=frames[0].night_id))
    return units


def _pick(context: Context, *, with_dark: float | None) -> Callable[[Frame], list[tuple[str, InputTask, dict[str, Any]]]]:
    masters = good_masters(context.session)

    def pick(frame: Frame) -> list[tuple[str, InputTask, dict[str, Any]]]:
        chosen: list[tuple[str, InputTask, dict[str, Any]]] = []
        bias_master = masters.bias(frame)
        if bias_master is not None:
            chosen.append(("bias", bias_master.task, {"path": bias_master.path}))
        dark_master = masters.dark(frame, max_ratio=with_dark) if with_dark is not None else None
        if dark_master is not None and (bias_master is not None or dark_master.same_exptime(frame)):
            chosen.append(("dark", dark_master.task, {"path": dark_master.path, "scale": dark_master.scale(frame)}))
        return chosen

    return pick


def _bias_plan(context: Context, p: BiasParameters) -> list[Unit]:
    return _units(context, _groups(context, "bias", p.min_frames, lambda _: ()), lambda _: [])


def _dark_plan(context: Context, p: DarkParameters) -> list[Unit]:
    groups = _groups(context, "dark", p.min_frames, lambda frame: (f"{frame.exptime:g}",))
    return _units(context, groups, _pick(context, with_dark=None))


def _flat_plan(context: Context, p: FlatParameters) -> list[Unit]:
    groups = _groups(context, "flat", p.min_frames, lambda frame: (frame.passband_id,))
    return _units(context, groups, _pick(context, with_dark=p.max_dark_ratio))


_READS = (Frame, Exposure, Detector, Master, Product)
_WRITES = (Master, MasterFrame)


@step("bias", per="night", after=("sort", "detector"), plan=_bias_plan, parameters=BiasParameters, reads=_READS, writes=_WRITES)
def bias(context: Context, unit: Unit, p: BiasParameters) -> Output:
    """Stack bias frames into a master: clipped mean, outlier frames discarded."""
    planes = _read(context, unit)
    reasons = _outliers(planes, p.outlier)
    kept = [plane for plane, reason in zip(planes, reasons, strict=True) if not reason]
    master = stack_plane(np.stack([plane.value for plane in kept]), np.stack([plane.mask for plane in kept]), sigma=p.clip)
    return _output(context, unit, "bias", master, reasons)


@step("dark", per="night", after=("sort", "detector", "bias"), plan=_dark_plan, parameters=DarkParameters, reads=_READS, writes=_WRITES)
def dark(context: Context, unit: Unit, p: DarkParameters) -> Output:
    """Stack de-biased dark frames into a master, and mark hot pixels."""
    planes = _read(context, unit)
    reasons = _outliers(planes, p.outlier)
    kept = [plane for plane, reason in zip(planes, reasons, strict=True) if not reason]
    master = stack_plane(np.stack([plane.value for plane in kept]), np.stack([plane.mask for plane in kept]), sigma=p.clip)
    master.mask[hot_pixels(master, sigma=p.hot)] |= int(Mask.HOT)
    return _output(context, unit, "dark", master, reasons)


@step(
    "flat",
    per="night",
    after=("sort", "detector", "bias", "dark"),
    plan=_flat_plan,
    parameters=FlatParameters,
    reads=_READS,
    writes=_WRITES,
)
def flat(context: Context, unit: Unit, p: FlatParameters) -> Output:
    """Stack de-biased, de-darked flats into a master; cloudy, weak and saturated ones are discarded."""
    planes = _read(context, unit)
    cube = np.stack([plane.value for plane in planes])
    masks = np.stack([plane.mask for plane in planes])
    level = np.array([robust_mean(plane.value[plane.mask == 0])[0] for plane in planes])
    noise = np.array(
        [float(np.sqrt(np.median(plane.variance[plane.mask == 0]))) if (plane.mask == 0).any() else np.nan for plane in planes]
    )
    saturated = np.array([float(((plane.mask & int(Mask.SATURATED)) != 0).mean()) for plane in planes])
    with np.errstate(invalid="ignore", divide="ignore"):
        structure = flat_structure(np.where(masks == 0, cube / level[:, None, None], np.nan).astype(np.float32))
    limits = {"min_signal_to_noise": p.min_snr, "max_saturated": p.max_saturated, "max_structure": p.max_structure}
    reasons = flat_frame_reject(level, noise, saturated, structure, **limits)
    _require(unit, reasons, p.min_frames)
    kept = [k for k, reason in enumerate(reasons) if not reason]
    return _output(context, unit, "flat", master_flat(cube[kept], masks[kept], sigma=p.clip), reasons)


def _read(context: Context, unit: Unit) -> list[Plane]:
    """The unit's frames, calibrated with the masters so far."""
    session = context.session
    first = session.get_one(Frame, unit.payload["frames"][0])
    detector = session.get_one(Detector, (first.instrument_id, first.night_id))
    bias_plane = master_plane(context, unit.payload.get("bias", {}).get("path"))
    dark_facts = unit.payload.get("dark", {})
    dark_plane = master_plane(context, dark_facts.get("path"))
    # A dark without a bias carries the zero level itself; only a flat without either needs the detector's.
    zero = detector.zero_level if first.type == "flat" and bias_plane is None and dark_plane is None else None
    planes = []
    for frame_id in unit.payload["frames"]:
        raw = raw_frame(session, frame_id, detector.saturation)
        planes.append(
            calibrate_pixels(
                raw.data,
                gain=detector.gain,
                read_noise=detector.read_noise,
                saturation=raw.saturated,
                bias=bias_plane,
                dark=dark_plane,
                dark_scale=dark_facts.get("scale", 1.0),
                zero_level=zero,
                quantum=raw.quantum,
            )
        )
    return planes


def _outliers(planes: list[Plane], sigma: float) -> list[str]:
    stats = np.array([robust_mean(plane.value[(plane.mask & int(Mask.NO_DATA)) == 0]) for plane in planes])
    bad = outlier_images(stats[:, 0], stats[:, 1], sigma=sigma)
    middle = np.median(stats, axis=0)
    return [
        f"level {level:.2f}, noise {noise:.2f} ADU, the set's are {middle[0]:.2f} and {middle[1]:.2f}" if is_bad else ""
        for (level, noise), is_bad in zip(stats, bad, strict=True)
    ]


def _require(unit: Unit, reasons: list[str], least: int) -> None:
    kept = sum(not reason for reason in reasons)
    if kept < least:
        first = next(reason for reason in reasons if reason)
        raise AlgorithmFailed(
            f"{kept} of {len(reasons)} frames are fit for a master, {least} are needed; the first refused: {first}",
            where=unit.label,
            hint="frames are reduced without this master; take better ones, or change the limits in the configuration",
            code="master.too_few",
        )


def _output(context: Context, unit: Unit, kind: str, master: Plane, reasons: list[str]) -> Output:
    noise = float(np.sqrt(np.median(master.variance[(master.mask & int(Mask.NO_DATA)) == 0])))
    level = float(np.mean(master.value[master.mask == 0], dtype=float))
    name = unit.key.replace("/", "-")
    planes = {"SCI": master.value, "VAR": master.variance, "MASK": master.mask}
    file = context.write(kind, f"{kind}-{name}", planes, {"KIND": kind, "NFRAME": len(reasons)})
    return Output(file=file, finish=partial(_rows, kind, tuple(unit.payload["frames"]), tuple(reasons), level, noise))


def _rows(
    kind: str, frames: tuple[int, ...], reasons: tuple[str, ...], level: float, noise: float, session: Session, _task_id: int
) -> list[Rows]:
    rows = [session.get_one(Frame, frame_id) for frame_id in frames]
    temperatures = [session.get_one(Exposure, frame.exposure_id).ccd_temperature for frame in rows]
    known = [t for t in temperatures if t is not None]
    master_id = next_id(session, Master.master_id)
    used = [frame for frame, reason in zip(rows, reasons, strict=True) if not reason]
    columns = {
        "master_id": master_id,
        "kind": kind,
        "instrument_id": rows[0].instrument_id,
        "night_id": rows[0].night_id,
        "channel": rows[0].channel,
        "passband_id": rows[0].passband_id if kind == "flat" else None,
        "exptime": rows[0].exptime if kind == "dark" else None,
        "ccd_temperature": float(np.mean(known)) if known else None,
        "jd_utc": float(np.mean([frame.jd_utc for frame in used])),
        "n_frame": len(used),
        "n_rejected": len(rows) - len(used),
        "level": level,
        "noise": noise,
    }
    frame_columns = [
        {"master_id": master_id, "frame_id": frame_id, "used": 0 if reason else 1, "reason": reason or None}
        for frame_id, reason in zip(frames, reasons, strict=True)
    ]
    return [Rows(Master, columns, upsert=True), *(Rows(MasterFrame, columns, upsert=True) for columns in frame_columns)]
