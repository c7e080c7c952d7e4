"""Step distortion: what the optics do to all frames of a night alike, from their stars together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from db.errors import AlgorithmFailed
from db.tables import Classification, Distortion, FirstSolution, Frame
from reduction.astrometry.kernels.distortion import DistortionMap, distortion_change, fit_distortion
from reduction.astrometry.solutions import first_solution
from reduction.astrometry.standards import BRIGHTEST, frame_stars, standards
from reduction.pipeline.declaration import Context, InputTask, Output, Provisional, Rows, Unit, parameter, step
from reduction.pipeline.inputs import Members, Worked
from reduction.pipeline.open_nights import OpenNights
from reduction.pipeline.plans import done_tasks, night_key

__all__ = ["DistortionParameters", "distortion"]


@dataclass(frozen=True)
class DistortionParameters:
    """How the distortion of a night is found."""

    order: int = parameter(
        5, "", "highest degree of its polynomials; the lowest that predicts left-out stars as well is taken", least=1, most=9
    )
    min_frames: int = parameter(4, "", "fewest frames; made anew each time there are twice as many", least=1, most=10_000)
    radius: float = parameter(1.0, "pixel", "a detection this close to a source is that source", above=0, most=100)


def _plan(context: Context, p: DistortionParameters) -> list[Unit[tuple[int, ...]]]:
    """Each night of a set-up and channel with enough solved frames: the first 4, 8, 16 ... so that a frame more changes nothing yet."""
    session = context.session
    solved = done_tasks(session, "solve")
    query = sa.select(Frame.setup_id, Frame.channel, Frame.night_id, Frame.frame_id)
    query = query.join(Classification, Classification.frame_id == Frame.frame_id).where(Classification.type == "object")
    nights: dict[str, list[tuple[int, InputTask]]] = {}
    for row in session.execute(query.order_by(Frame.jd_utc, Frame.frame_id)):
        if (task := solved.get(str(row.frame_id))) is not None:
            nights.setdefault(night_key(row.setup_id, row.channel, row.night_id), []).append((row.frame_id, task))
    units = []
    for key, members in nights.items():
        if len(members) < p.min_frames:
            continue
        used = members[: p.min_frames * 2 ** int(np.log2(len(members) / p.min_frames))]
        night_id = int(key.rsplit("/", 1)[1])
        frames, tasks = [frame_id for frame_id, _ in used], tuple(task for _, task in used)
        facts = context.step.facts(context.settings)
        units.append(Unit(key, f"night {night_id}, {len(used)} frames", tasks, facts, night_id=night_id, payload=tuple(frames)))
    return units


def _change(earlier: Mapping[str, Any], later: Mapping[str, Any], _: Path) -> float:
    """By how many pixels positions differ."""
    return distortion_change(DistortionMap.from_row(dict(earlier)), DistortionMap.from_row(dict(later)))


@step(
    "distortion",
    plan=_plan,
    inputs=(Members("solve"), Worked("discover"), OpenNights()),
    parameters=DistortionParameters,
    writes=(Distortion,),
    provisional=Provisional("distortion", _change),
)
def distortion(context: Context, unit: Unit[tuple[int, ...]], p: DistortionParameters) -> Output:
    """Fit the distortion that the night's frames have in common, to catalogue stars and discovered sources."""
    session = context.session
    pairs = []
    for frame_id in unit.payload:
        frame, first = session.get_one(Frame, frame_id), session.get_one(FirstSolution, frame_id)
        error = float(np.hypot(first.rms_x, first.rms_y) / np.sqrt(2.0))
        plate = first_solution(session, frame_id)
        found = standards(frame_stars(session, frame, plate), plate, error, p.radius)
        found = found.take(np.flatnonzero(found.in_fit > 0)[:BRIGHTEST])
        if len(found.pairs.x) >= 6:
            pairs.append(found.pairs)
    if len(pairs) < p.min_frames:
        raise AlgorithmFailed(
            f"{len(pairs)} frames have six stars or more, {p.min_frames} are needed",
            where=unit.label,
            hint="raise [distortion] radius, or look at the frames' solutions",
            code="distortion.few_frames",
        )
    found_map = fit_distortion(pairs, p.order)
    setup_id, channel, night_id = unit.key.split("/")
    row = {
        "setup_id": int(setup_id),
        "channel": channel,
        "night_id": int(night_id),
        "poly_order": found_map.order,
        "coeff": json.dumps(found_map.as_row()),
        "n_frame": found_map.n_frame,
        "n_pair": found_map.n_pair,
        "rms_x": found_map.rms_x,
        "rms_y": found_map.rms_y,
    }
    remark = f"order {found_map.order}, {found_map.n_pair} pairs"
    return Output(rows=[Rows(Distortion, row, upsert=True)], remark=remark, summary=found_map.as_row())
