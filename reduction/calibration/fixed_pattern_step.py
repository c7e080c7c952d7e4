"""Step fixed_pattern: what hot and cold pixels add, from a night's own object frames, where there was no dark for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.flags import Mask
from db.keys import next_id
from db.tables import CalibratedFrame, Classification, Exposure, Frame, FrameBackground, Master, Product
from reduction.calibration.calibrated import calibrated_planes
from reduction.calibration.kernels.fixed_pattern import FixedPattern
from reduction.calibration.kernels.fixed_pattern import fixed_pattern as measure_pattern
from reduction.files.product import read_image, write_image
from reduction.photometry.background_map import covered, read_map
from reduction.pipeline.declaration import Context, Kind, Output, Provisional, Rows, Unit, parameter, step
from reduction.pipeline.inputs import Members
from reduction.pipeline.open_nights import OpenNights
from reduction.pipeline.plans import done_tasks

__all__ = ["FixedPatternParameters", "fixed_pattern"]

#: Largest cube of residuals in memory; more frames or larger ones are worked in bands of rows.
_CUBE_BYTES = 300_000_000


@dataclass(frozen=True)
class FixedPatternParameters:
    """How the fixed pattern is found."""

    min_frames: int = parameter(
        16, "", "fewest object frames; a pointing that drifts is what separates pixels from stars", least=10, most=10_000
    )
    clip: float = parameter(4.5, "sigma", "clipping of a pixel's values", least=1, most=30)
    significance: float = parameter(3.0, "sigma", "pixels less significant than this are left as they are", least=0, most=1000)


def _plan(context: Context, p: FixedPatternParameters) -> list[Unit[tuple[int, ...]]]:
    """Object frames of one instrument, night and exposure time that had no dark.

    Of a night that is still coming in, the first 16, 32, 64 ... frames are
    taken: each new frame does not make all the others pending.
    """
    done = done_tasks(context.session, "background")
    query = (
        sa.select(Frame.frame_id, Frame.setup_id, Frame.channel, Frame.night_id, Frame.exptime)
        .join(CalibratedFrame, CalibratedFrame.frame_id == Frame.frame_id)
        .join(Exposure, Exposure.exposure_id == Frame.exposure_id)
        .join(Classification, Classification.frame_id == Frame.frame_id)
        .where(Classification.type == "object", CalibratedFrame.dark_master_id.is_(None), Exposure.calibration_state.not_like("%dark%"))
        .order_by(Frame.jd_utc, Frame.frame_id)
    )
    groups: dict[str, list[tuple[int, int]]] = {}
    for row in context.session.execute(query):
        if str(row.frame_id) in done:
            key = f"{row.setup_id}/{row.channel}/{row.night_id}/{row.exptime:g}"
            groups.setdefault(key, []).append((row.frame_id, row.night_id))
    units = []
    for key, members in groups.items():
        if len(members) < p.min_frames:
            continue
        n = p.min_frames * 2 ** int(np.log2(len(members) / p.min_frames))
        frames = [frame_id for frame_id, _ in members[:n]]
        tasks = tuple(done[str(frame_id)] for frame_id in frames)
        units.append(Unit(key, f"night {members[0][1]}, {n} frames", tasks, payload=tuple(frames), night_id=members[0][1]))
    return units


def _change(earlier: Mapping[str, Any], later: Mapping[str, Any], files: Path) -> float:
    """The largest difference of two corrections, in units of the noise of a frame's pixel."""
    paths = [files / str(summary["path"]) for summary in (earlier, later)]
    if not all(path.is_file() for path in paths):
        return float("inf")
    one, other = (read_image(path)[0]["SCI"].astype(np.float64) for path in paths)
    return float(np.abs(one - other).max() / later["noise"]) if one.shape == other.shape else float("inf")


@step(
    "fixed_pattern",
    plan=_plan,
    inputs=(Members("background"), OpenNights()),
    provisional=Provisional("pattern", _change),
    products=(Kind("pattern"),),
    version=2,
    parameters=FixedPatternParameters,
    writes=(Master,),
)
def fixed_pattern(context: Context, unit: Unit[tuple[int, ...]], p: FixedPatternParameters) -> Output:
    """Find what hot and cold pixels add to frames without a dark, from the night's own drifting object frames."""
    session = context.session
    frames = [session.get_one(Frame, frame_id) for frame_id in unit.payload]
    ny, nx = frames[0].ny, frames[0].nx
    band = max(1, min(ny, _CUBE_BYTES // (5 * nx * len(frames))))
    sky_noise = float(np.median([session.get_one(FrameBackground, frame.frame_id).noise or 1.0 for frame in frames]))
    parts = []
    for first in range(0, ny, band):
        rows = slice(first, min(first + band, ny))
        residual = np.empty((len(frames), rows.stop - first, nx), dtype=np.float32)
        excluded = np.empty(residual.shape, dtype=bool)
        for k, (data, bad) in enumerate(_residuals(context, frames)):
            residual[k], excluded[k] = data[rows], bad[rows]
        parts.append(measure_pattern(residual, excluded, clip=p.clip, noise=sky_noise))
    found = FixedPattern(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("value", "error", "count")))
    correction = found.correction(p.significance)
    known = np.isfinite(found.error)
    error = np.where(correction != 0, found.error, 0.0).astype(np.float32)
    planes: dict[str, npt.NDArray[Any]] = {
        "SCI": correction,
        "VAR": error**2,
        "MASK": np.where(known, 0, int(Mask.NO_DATA)).astype(np.uint8),
    }
    cards = {"KIND": "pattern", "NFRAME": len(frames)}
    write = partial(write_image, planes=planes, header=cards)
    file = context.product("pattern", f"pattern-{unit.key.replace('/', '-')}", write)
    level = float(np.mean(correction, dtype=float))
    noise = float(np.median(found.error[known])) if known.any() else 0.0
    remark = f"{int((correction != 0).sum())} pixels corrected, {100 * known.mean():.0f} % of the frame known"
    finish = partial(_rows, unit.payload, level, noise, int((~known).sum()))
    return Output(file=file, finish=finish, remark=remark, summary={"path": file.path, "noise": sky_noise})


def _residuals(context: Context, frames: list[Frame]) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]]:
    """Each frame less its background, and the pixels under sources."""
    query = sa.select(FrameBackground.frame_id, Product.path).join(Product, Product.product_id == FrameBackground.product_id)
    paths = {row.frame_id: str(row.path) for row in context.session.execute(query)}
    wings = context.parameters("background")
    for frame in frames:
        planes = calibrated_planes(context, frame.frame_id)
        sky = read_map(context, paths[frame.frame_id]).image(planes["SCI"].shape)
        # Hot pixels that no dark has shown look like cosmic rays, on every frame; those that are, the clipping finds.
        masked = (planes["MASK"] & np.uint8(255 - int(Mask.COSMIC))) != 0
        yield planes["SCI"] - sky, covered(context, frame, planes, wings) | masked


def _rows(frames: tuple[int, ...], level: float, noise: float, n_unknown: int, session: Session, task_id: int) -> list[Rows]:
    rows = [session.get_one(Frame, frame_id) for frame_id in frames]
    before = session.execute(sa.select(Master.master_id).where(Master.task_id == task_id)).scalar()
    jd_utc = [frame.jd_utc for frame in rows]
    columns: dict[str, Any] = {
        "master_id": before if before is not None else next_id(session, Master.master_id),
        "kind": "pattern",
        "setup_id": rows[0].setup_id,
        "night_id": rows[0].night_id,
        "channel": rows[0].channel,
        "exptime": rows[0].exptime,
        "jd_utc": float(np.mean(jd_utc)),
        # Hot pixels come and go with the temperature: it serves its own night.
        "valid_from": min(jd_utc) - 1.0,
        "valid_until": max(jd_utc) + 1.0,
        "max_ratio": 1.0,
        "from_sky": 1,
        "n_frame": len(rows),
        "n_rejected": 0,
        "n_bad_pixel": n_unknown,
        "level": level,
        "noise": noise,
    }
    return [Rows(Master, columns, upsert=True)]
