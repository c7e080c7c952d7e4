"""Step sort: bias, dark, flat, object or other, from pixels and header together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from db.tables import Exposure, Frame, FrameStatistics
from reduction.evidence import read_evidence
from reduction.kernels.sort import classify_set
from reduction.plans import done_tasks, frame_units
from reduction.step import Context, Output, Unit, step

__all__ = ["SortParameters", "sort"]


@dataclass(frozen=True)
class SortParameters:
    """Nothing to set: the rule is the kernel's."""


def _plan(context: Context, _: SortParameters) -> list[Unit]:
    # The frames of its night are evidence for a frame, not inputs: one that comes later makes no old frame pending.
    done = done_tasks(context.session, "ingest")
    query = sa.select(Exposure.sha256, Frame.frame_id).join(Frame, Frame.exposure_id == Exposure.exposure_id)
    ingests = {row.frame_id: (done[row.sha256],) for row in context.session.execute(query) if row.sha256 in done}
    return frame_units(context.session, (), types=None, extra=ingests)


@step(
    "sort",
    per="frame",
    after=("ingest",),
    plan=_plan,
    parameters=SortParameters,
    reads=(Frame, Exposure, FrameStatistics),
    writes=(Frame,),
    together=True,
)
def sort(context: Context, units: Sequence[Unit], _: SortParameters) -> dict[str, Output]:
    """Tell bias, dark, flat and object frames apart, with reason and confidence."""
    query = (
        sa.select(Frame.frame_id, Frame.instrument_id, Frame.night_id, Frame.exptime, Frame.sun_altitude)
        .add_columns(Exposure.calibration_state, FrameStatistics.statistics)
        .join(Exposure, Exposure.exposure_id == Frame.exposure_id)
        .join(FrameStatistics, FrameStatistics.frame_id == Frame.frame_id)
        .order_by(Frame.jd_utc, Frame.frame_id)
    )
    wanted = {int(unit.key) for unit in units}
    sets: dict[tuple[int, int], list[sa.Row[tuple[object, ...]]]] = {}
    for row in context.session.execute(query):
        sets.setdefault((row.instrument_id, row.night_id), []).append(row)
    outputs: dict[str, Output] = {}
    for rows in sets.values():
        if not any(row.frame_id in wanted for row in rows):
            continue
        evidence = [read_evidence(row.statistics, row.exptime, row.calibration_state, row.sun_altitude) for row in rows]
        kinds = classify_set([pixels for pixels, _ in evidence], [header for _, header in evidence])
        for row, found in zip(rows, kinds, strict=True):
            frame = {"type": found.kind, "type_reason": found.reason, "type_confidence": found.confidence}
            remark = f"the header says otherwise: {found.reason}" if found.disagrees else None
            outputs[str(row.frame_id)] = Output(frame=frame, remark=remark)
    return {unit.key: outputs[unit.key] for unit in units}
