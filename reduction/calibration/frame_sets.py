"""Sets of frames that make a master: which belong together, their pixels one by one, and the rows of what comes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.errors import AlgorithmFailed, FrameUnusable
from db.flags import Mask
from db.keys import next_id
from db.tables import Annotation, Classification, Exposure, Frame, Master, MasterChoice, MasterFrame
from reduction.calibration.calibrated import MasterPlanes, calibrated_pixels
from reduction.calibration.kernels.calibration import Plane
from reduction.calibration.kernels.stack import MasterImage
from reduction.calibration.master_choice import DONE_BEFORE, Chosen, chosen_masters, needed, zero_is_gone
from reduction.files.product import read_image, write_image
from reduction.pipeline.declaration import Context, InputTask, Output, Provisional, Rows, Unit
from reduction.pipeline.inputs import Members, Said
from reduction.pipeline.open_nights import OpenNights
from reduction.pipeline.plans import done_tasks, night_key, not_masked

__all__ = [
    "INPUTS",
    "PROVISIONAL",
    "WRITES",
    "FrameSet",
    "MasterUnit",
    "frame_sets",
    "master_output",
    "pixels_of",
    "require_enough",
    "set_units",
    "subtracted_variance",
]

#: What every master is made from, and the tables that it is written to.
INPUTS = (Members("classify"), Members("detector"), Said((Annotation, MasterChoice)), OpenNights())
WRITES = (Master, MasterFrame)

#: Of a master's pixels, no more than this part may be bad in one and good in another that stands in its place.
_BAD_IN_ONE = 1e-4


def _change(earlier: Mapping[str, Any], later: Mapping[str, Any], files: Path) -> float:
    """Rms difference of two masters' pixels, in units of the later one's error."""
    paths = [files / str(summary["path"]) for summary in (earlier, later)]
    if not all(path.is_file() for path in paths):
        return float("inf")
    (one, _), (other, _) = map(read_image, paths)
    if one["SCI"].shape != other["SCI"].shape:
        return float("inf")
    if np.count_nonzero(one["MASK"] != other["MASK"]) > _BAD_IN_ONE * one["MASK"].size:
        return float("inf")
    good = (one["MASK"] == 0) & (other["MASK"] == 0)
    difference = one["SCI"][good].astype(np.float64) - other["SCI"][good]
    if not difference.any():
        return 0.0
    return float(np.sqrt(np.mean(difference**2) / np.mean(other["VAR"][good], dtype=float)))


#: How masters of an open night are compared with those of the whole one.
PROVISIONAL = Provisional("master", _change)


@dataclass(frozen=True)
class MasterUnit:
    """Frames that a master is made of, and the masters that serve each of them.

    Attributes
    ----------
    frames : tuple of int
        frame_id, in order of time.
    served : tuple of mappings
        By kind, one for each frame.
    large_scale : str, optional
        File of the large-scale flat that flats are matched to.
    """

    frames: tuple[int, ...]
    served: tuple[Mapping[str, Chosen], ...]
    large_scale: str | None = None

    @property
    def masters(self) -> Mapping[str, Chosen]:
        """Those that serve the first frame."""
        return self.served[0]


@dataclass(frozen=True)
class FrameSet:
    """Frames that make one master, in order of time."""

    key: str
    type: str
    frames: tuple[Frame, ...]

    @property
    def label(self) -> str:
        """What it is, for people."""
        first = self.frames[0]
        channel = "" if first.channel == "mono" else f", {first.channel}"
        return f"{self.type} of night {first.night_id}, {len(self.frames)} frames{channel}"


def frame_sets(session: Session, kind: str, min_frames: int, by: Callable[[Frame], tuple[object, ...]]) -> list[FrameSet]:
    """Frames of one type that no person has masked, by set-up, channel, night and what `by` gives; small sets are left out.

    Frames that somebody else has corrected show a master's work no more: bias frames and darks with the zero level off, flats flattened.
    """
    query = sa.select(Frame, Exposure.calibration_state).join(Exposure, Exposure.exposure_id == Frame.exposure_id)
    query = query.join(Classification, Classification.frame_id == Frame.frame_id).where(Classification.type == kind, not_masked())
    groups: dict[str, list[Frame]] = {}
    for frame, state in session.execute(query.order_by(Frame.setup_id, Frame.channel, Frame.night_id, Frame.jd_utc, Frame.frame_id)):
        done = state.split()
        if "flat" in done or (kind in ("bias", "dark") and zero_is_gone(done)):
            continue
        key = "/".join(str(part) for part in (frame.setup_id, frame.channel, frame.night_id, *by(frame)))
        groups.setdefault(key, []).append(frame)
    return [FrameSet(key, kind, tuple(frames)) for key, frames in groups.items() if len(frames) >= min_frames]


def set_units(
    context: Context,
    sets: Iterable[FrameSet],
    kinds: tuple[str, ...],
    more: Callable[[FrameSet], tuple[InputTask, ...] | None] | None = None,
) -> list[Unit[MasterUnit]]:
    """One unit a set: made from its frames' sort tasks, its night's detector, and the masters that serve its frames.

    Parameters
    ----------
    sets : iterable of FrameSet
    kinds : tuple of str
        Kinds of masters that the frames are calibrated with.
    more : callable, optional
        Further inputs of a set; None where it cannot be worked yet.
    """
    session = context.session
    sorts, detectors = done_tasks(session, "classify"), done_tasks(session, "detector")
    chosen = chosen_masters(session) if kinds else {}
    states = {row.frame_id: row.calibration_state.split() for row in session.execute(DONE_BEFORE)}
    units = []
    for each in sets:
        first = each.frames[0]
        detector = detectors.get(night_key(first.setup_id, first.channel, first.night_id))
        inputs = [sorts.get(str(frame.frame_id)) for frame in each.frames]
        further = more(each) if more is not None else ()
        if detector is None or None in inputs or further is None:
            continue
        # Flats of one set may differ in exposure time: each has the dark that serves it.
        served = [needed(chosen.get(frame.frame_id, {}), kinds, states.get(frame.frame_id, ())) for frame in each.frames]
        masters = {master.master_id: master.task for used in served for master in used.values()}
        payload = MasterUnit(tuple(frame.frame_id for frame in each.frames), tuple(served))
        tasks = (*(task for task in inputs if task is not None), detector, *masters.values(), *further)
        units.append(Unit(each.key, each.label, tasks, payload=payload, night_id=first.night_id))
    return units


def pixels_of(
    context: Context, unit: Unit[MasterUnit], reasons: list[str], *, only: Iterable[int] | None = None
) -> Iterator[tuple[int, Plane]]:
    """The set's frames one by one, each calibrated with the masters that serve it, as (index in the set, pixels).

    A frame that cannot be read is left out, and its entry of `reasons` says why; frames with a reason are not read.
    `only` names the indices that are wanted.
    """
    planes = MasterPlanes(context)
    wanted = set(range(len(reasons))) if only is None else set(only)
    for index, frame_id in enumerate(unit.payload.frames):
        if reasons[index] or index not in wanted:
            continue
        frame = context.session.get_one(Frame, frame_id)
        served = unit.payload.served[index]
        ids = {kind: master.master_id for kind, master in served.items()}
        scale = served["dark"].scale if "dark" in served else 1.0
        try:
            yield index, calibrated_pixels(context, frame, ids, dark_scale=scale, planes=planes)
        except FrameUnusable as error:
            reasons[index] = error.message


def subtracted_variance(context: Context, unit: Unit[MasterUnit], derivatives: Mapping[int, float]) -> npt.NDArray[np.float32]:
    """Variance that bias and dark bring into a mean of the set's frames: an error that the frames share and their scatter does not show.

    Parameters
    ----------
    derivatives : mapping of int to float
        By index in the set: what one ADU more in the frame adds to the mean.

    Returns
    -------
    float32, shape (ny, nx)
        As in `reduction.calibration.kernels.calibration`, for a linear detector: a frame has -1 of its bias, -k of its dark of
        scale k, +k of the bias that was taken off that dark; what frames have of one master adds up before it is squared.
    """
    coefficient: dict[int, float] = {}
    for index, derivative in derivatives.items():
        served = unit.payload.served[index]
        parts = [(served["bias"].master_id, -1.0)] if "bias" in served else []
        if (dark := served.get("dark")) is not None:
            parts.append((dark.master_id, -dark.scale))
            parts += [(dark.bias_master_id, dark.scale)] if dark.bias_master_id is not None else []
        for master_id, part in parts:
            coefficient[master_id] = coefficient.get(master_id, 0.0) + part * derivative
    first = context.session.get_one(Frame, unit.payload.frames[0])
    planes, variance = MasterPlanes(context), np.zeros((first.ny, first.nx), np.float32)
    for master_id, total in coefficient.items():
        plane = planes.of(master_id)
        assert plane is not None
        variance += np.float32(total**2) * plane.variance
    return variance


def require_enough(unit: Unit[MasterUnit], reasons: list[str], least: int) -> list[int]:
    """Indices of the frames that are left.

    Raises
    ------
    AlgorithmFailed
        When they are fewer than `least`; with the reason of every frame that was refused.
    """
    kept = [index for index, reason in enumerate(reasons) if not reason]
    if len(kept) < least:
        refused = {frame_id: reason for frame_id, reason in zip(unit.payload.frames, reasons, strict=True) if reason}
        listed = "; ".join(f"frame {frame_id}: {reason}" for frame_id, reason in refused.items())
        raise AlgorithmFailed(
            f"{len(kept)} of {len(reasons)} frames are fit for a master, {least} are needed ({listed})",
            where=unit.label,
            hint="frames are reduced without this master; take better ones, or change the limits in the configuration",
            code="master.too_few",
            refused=refused,
        )
    return kept


def master_output(
    context: Context,
    unit: Unit[MasterUnit],
    kind: str,
    master: MasterImage,
    reasons: list[str],
    columns: Mapping[str, Any],
    valid_days: float,
    header: Mapping[str, Any] | None = None,
) -> Output:
    """The file and the rows of a master, and of the frames that were considered for it."""
    empty = (master.mask & np.uint8(int(Mask.NO_DATA))) != 0
    good = master.mask == 0
    if empty.all() or not good.any():
        raise AlgorithmFailed("no pixel of the master has a value", where=unit.label, hint="are the frames saturated?", code="master.empty")
    planes: dict[str, npt.NDArray[Any]] = {"SCI": master.value, "VAR": master.variance, "MASK": master.mask, "COUNT": master.count}
    cards = {"KIND": kind, "NFRAME": len(reasons), **(header or {})}
    file = context.product(kind, f"{kind}-{unit.key.replace('/', '-')}", partial(write_image, planes=planes, header=cards))
    masters = unit.payload.masters
    facts = {
        "kind": kind,
        "level": float(np.mean(master.value[good], dtype=float)),
        "noise": float(np.sqrt(np.median(master.variance[~empty]))),
        "n_bad_pixel": int(np.count_nonzero(~good)),
        "bias_master_id": masters["bias"].master_id if "bias" in masters else None,
        "max_ratio": 1.0,
        "from_sky": 0,
        **columns,
    }
    finish = partial(_rows, facts, unit.payload.frames, tuple(reasons), valid_days)
    return Output(file=file, finish=finish, remark=facts.get("warning"), summary={"path": file.path})


def _rows(
    facts: dict[str, Any], frames: tuple[int, ...], reasons: tuple[str, ...], valid_days: float, session: Session, task_id: int
) -> list[Rows]:
    rows = [session.get_one(Frame, frame_id) for frame_id in frames]
    temperatures = [session.get_one(Exposure, frame.exposure_id).ccd_temperature for frame in rows]
    known = [t for t in temperatures if t is not None]
    used = [frame for frame, reason in zip(rows, reasons, strict=True) if not reason]
    # A set that is again what it was before gets its master back.
    before = session.execute(sa.select(Master.master_id).where(Master.task_id == task_id)).scalar()
    master_id = before if before is not None else next_id(session, Master.master_id)
    first = rows[0]
    flat = facts["kind"] in ("flat", "largescale")
    columns = {
        "master_id": master_id,
        "setup_id": first.setup_id,
        "night_id": first.night_id,
        "channel": first.channel,
        "passband_id": first.passband_id if flat else None,
        "exptime": first.exptime if facts["kind"] == "dark" else None,
        "ccd_temperature": float(np.mean(known)) if known else None,
        "jd_utc": float(np.mean([frame.jd_utc for frame in used])),
        "valid_from": min(frame.jd_utc for frame in used) - valid_days,
        "valid_until": max(frame.jd_utc for frame in used) + valid_days,
        "n_frame": len(used),
        "n_rejected": len(rows) - len(used),
        **facts,
    }
    considered = [
        {"master_id": master_id, "frame_id": frame_id, "used": 0 if reason else 1, "reason": reason or None}
        for frame_id, reason in zip(frames, reasons, strict=True)
    ]
    return [Rows(Master, columns, upsert=True), *(Rows(MasterFrame, row, upsert=True) for row in considered)]
