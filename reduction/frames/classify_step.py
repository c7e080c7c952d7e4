"""Step classify: bias, dark, flat, object or other, from pixels and header together, or from a person's word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.tables import Classification, Exposure, ExposureStatistics, Frame, TypeCorrection
from reduction.frames.evidence import read_evidence
from reduction.frames.kernels.classification import Classification as Found
from reduction.frames.kernels.classification import FrameStatistics, HeaderEvidence, classify_set
from reduction.pipeline.declaration import Context, Output, Rows, Unit, canonical, step
from reduction.pipeline.plans import done_tasks, frame_units

__all__ = ["ClassifyParameters", "classify"]


@dataclass(frozen=True)
class ClassifyParameters:
    """Nothing to set: the rule is the kernel's."""


@dataclass(frozen=True)
class _Word:
    """What a person said that an exposure is."""

    type: str
    reason: str
    author: str


def _plan(context: Context, _: ClassifyParameters) -> list[Unit]:
    # The frames of its night are evidence for a frame, not inputs: one that comes later makes no old frame pending.
    session = context.session
    done, words = done_tasks(session, "ingest"), _corrections(session)
    query = sa.select(Exposure.sha256, Frame.exposure_id, Frame.frame_id).join(Frame, Frame.exposure_id == Exposure.exposure_id)
    rows = session.execute(query).all()
    ingests = {row.frame_id: (done[row.sha256],) for row in rows if row.sha256 in done}
    facts = {row.frame_id: f"{words[row.exposure_id]}" for row in rows if row.exposure_id in words}
    return frame_units(session, (), types=None, extra=ingests, facts=facts)


def _corrections(session: Session) -> dict[int, _Word]:
    """The newest word on each exposure, where it was not taken back."""
    newest: dict[int, _Word | None] = {}
    for row in session.execute(sa.select(TypeCorrection).order_by(TypeCorrection.correction_id)).scalars():
        newest[row.exposure_id] = None if row.type is None else _Word(row.type, row.reason, row.author)
    return {exposure_id: word for exposure_id, word in newest.items() if word is not None}


@step(
    "classify",
    after=("ingest",),
    plan=_plan,
    version=2,
    parameters=ClassifyParameters,
    reads=(Frame, Exposure, ExposureStatistics, TypeCorrection, Classification),
    writes=(Classification,),
    together=True,
)
def classify(context: Context, units: Sequence[Unit], _: ClassifyParameters) -> dict[str, Output]:
    """Tell bias, dark, flat and object frames apart, with reason, evidence and confidence; a person's correction wins."""
    frames = _frames(context.session)
    wanted = {frames[int(unit.key)].exposure_id for unit in units}
    found = _classify(context.session, wanted)
    words = _corrections(context.session)
    outputs = {}
    for unit in units:
        frame = frames[int(unit.key)]
        outputs[unit.key] = _output(frame, found[frame.exposure_id], words.get(frame.exposure_id))
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


def _output(frame: Any, found: Found, word: _Word | None) -> Output:
    kind, reason, confidence = found.kind, found.reason, found.confidence
    if word is not None:
        kind, confidence = word.type, 1.0
        reason = f"{word.author} says so: {word.reason} (pixels and header: {found.kind}, {found.reason})"
    row = {
        "frame_id": frame.frame_id,
        "type": kind,
        "reason": reason,
        "confidence": confidence,
        "evidence": canonical(found.evidence),
        "disagrees": int(found.disagrees),
    }
    remark = f"the header says otherwise: {reason}" if found.disagrees and word is None else None
    # Light curves hold no points of what turned out not to show stars.
    return Output(rows=[Rows(Classification, row, upsert=True)], remark=remark, retire=frame.type == "object" and kind != "object")
