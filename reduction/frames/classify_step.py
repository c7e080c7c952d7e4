"""Step classify: bias, dark, flat, object or other, from pixels and header together, or from a person's correction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.tables import Classification, Exposure, ExposureStatistics, Frame, TypeCorrection
from reduction.frames.corrections import Correction, Corrections, corrections
from reduction.frames.evidence import read_evidence
from reduction.frames.kernels.classification import Classification as Found
from reduction.frames.kernels.classification import FrameStatistics, HeaderEvidence, classify_set
from reduction.pipeline.declaration import Context, Output, Rows, Unit, canonical, step
from reduction.pipeline.inputs import OfFile

__all__ = ["ClassifyParameters", "classify"]


@dataclass(frozen=True)
class ClassifyParameters:
    """Nothing to set: the rule is the kernel's."""


@step(
    "classify",
    # The frames of its night are evidence for a frame, not inputs: one that comes later makes no old frame pending.
    inputs=(OfFile("ingest"), Corrections((TypeCorrection,))),
    types=None,
    version=3,
    parameters=ClassifyParameters,
    writes=(Classification,),
    together=True,
)
def classify(context: Context, units: Sequence[Unit[None]], _: ClassifyParameters) -> dict[str, Output]:
    """Tell bias, dark, flat and object frames apart, with reason, evidence and confidence; a person's correction wins."""
    frames = _frames(context.session)
    wanted = {frames[int(unit.key)].exposure_id for unit in units}
    found = _classify(context.session, wanted)
    corrected = corrections(context.session)
    outputs = {}
    for unit in units:
        frame = frames[int(unit.key)]
        outputs[unit.key] = _output(frame, found[frame.exposure_id], corrected.get(frame.exposure_id))
    return outputs


def _frames(session: Session) -> dict[int, Any]:
    """Every frame, with the type that it had so far."""
    query = sa.select(Frame.frame_id, Frame.exposure_id, Classification.type).outerjoin(
        Classification, Classification.frame_id == Frame.frame_id
    )
    return {row.frame_id: row for row in session.execute(query)}


def _classify(session: Session, wanted: set[int]) -> dict[int, Found]:
    """Types of exposures, each judged among those of its set-up and night."""
    query = (
        sa.select(Frame.exposure_id, Frame.setup_id, Frame.night_id, Frame.exptime, Frame.sun_altitude)
        .add_columns(Exposure.calibration_state, ExposureStatistics.statistics)
        .join(Exposure, Exposure.exposure_id == Frame.exposure_id)
        .join(ExposureStatistics, ExposureStatistics.exposure_id == Frame.exposure_id)
        .where(Frame.channel.in_(("mono", "G1")))
        .order_by(Frame.jd_utc, Frame.frame_id)
    )
    sets: dict[tuple[int, int], list[Any]] = {}
    for row in session.execute(query):
        sets.setdefault((row.setup_id, row.night_id), []).append(row)
    found: dict[int, Found] = {}
    for (setup_id, night_id), rows in sets.items():
        if wanted.isdisjoint(row.exposure_id for row in rows):
            continue
        own = _evidence(rows)
        # An evening's flats and the next morning's bias frames tell of one another.
        beside = [pair for night in (night_id - 1, night_id + 1) for pair in _evidence(sets.get((setup_id, night), []))]
        kinds = classify_set([pixels for pixels, _ in own], [header for _, header in own], beside)
        found |= {row.exposure_id: kind for row, kind in zip(rows, kinds, strict=True)}
    return found


def _evidence(rows: list[Any]) -> list[tuple[FrameStatistics, HeaderEvidence]]:
    return [read_evidence(row.statistics, row.exptime, row.calibration_state, row.sun_altitude) for row in rows]


def _output(frame: Any, found: Found, correction: Correction | None) -> Output:
    kind, reason, confidence = found.kind, found.reason, found.confidence
    if correction is not None:
        kind, confidence = correction.type, 1.0
        reason = f"{correction.author} says so: {correction.reason} (pixels and header: {found.kind}, {found.reason})"
    row = {
        "frame_id": frame.frame_id,
        "type": kind,
        "reason": reason,
        "confidence": confidence,
        "evidence": canonical(found.evidence),
        "disagrees": int(found.disagrees),
    }
    remark = f"the header says otherwise: {reason}" if found.disagrees and correction is None else None
    # Light curves hold no points of what turned out not to show stars.
    return Output(rows=[Rows(Classification, row, upsert=True)], remark=remark, retire=frame.type == "object" and kind != "object")
