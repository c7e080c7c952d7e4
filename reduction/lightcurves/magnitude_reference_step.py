"""Step magnitude_reference: the magnitudes that a field's frames are fitted to, begun with one frame and averaged until they settle."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.errors import AlgorithmFailed
from db.keys import next_id, now
from db.tables import (
    Annotation,
    BestSlot,
    Config,
    Field,
    Frame,
    FrameField,
    FrameScore,
    KeptFrame,
    LightShare,
    Lineage,
    MagfitFoldReference,
    MagfitReference,
    ProvisionalResult,
    ReferenceMagnitude,
    ReferenceRequest,
    SourceMagnitude,
    Task,
    TermScore,
)
from reduction.catalogues.kernels.identifiers import fold_of
from reduction.kernels.arrays import FloatArray, IntArray
from reduction.lightcurves.chosen_terms import score_rows
from reduction.lightcurves.field_reference import Built, FieldWork, ReferenceParameters, begun, build, from_nights
from reduction.lightcurves.kernels.noise import best_slot
from reduction.lightcurves.kernels.reference_frame import MERITS, frame_scores, select_reference
from reduction.lightcurves.night_points import Shot, measured, shots, slots_of
from reduction.lightcurves.own_light import OwnLight, own_light
from reduction.lightcurves.references import drifts, reference_rows, terms_of
from reduction.lightcurves.season_reference import solved
from reduction.pipeline.declaration import Context, InputTask, Output, Provisional, Rows, Unit, canonical, step
from reduction.pipeline.inputs import Earlier, Grouped, Members, Said
from reduction.pipeline.open_nights import OpenNights, open_nights
from reduction.pipeline.pending import config_sha256

__all__ = ["magnitude_reference"]


@dataclass(frozen=True)
class _Wanted:
    """A reference that a field needs: why, for which wish, from which frame, and of whose night means it begins."""

    field_id: int
    reason: str
    request_id: int | None = None
    frame_id: int | None = None
    is_held: bool = False
    base_id: int | None = None


def _plan(context: Context, p: ReferenceParameters) -> list[Unit[_Wanted]]:
    """A unit for each field that needs a reference now: those that are there are finished and never worked again."""
    session = context.session
    lasting = open_nights(session)
    made: dict[int, list[MagfitReference]] = {}
    query = sa.select(MagfitReference).where(MagfitReference.status != "iteration").order_by(MagfitReference.reference_id)
    for each in session.execute(query).scalars():
        made.setdefault(each.field_id, []).append(each)
    units = []
    for field_id in session.execute(sa.select(Field.field_id).order_by(Field.field_id)).scalars():
        number = len(made.get(field_id, [])) + 1
        needs = _wanted(context, field_id, made.get(field_id, []), p)
        # Its frames may be many, and on most days nothing is made of them.
        frames, opened = _frames_of(session, field_id, lasting) if needs else ((), None)
        for wanted in needs if frames else ():
            facts = f"{wanted.request_id} {wanted.frame_id} {wanted.base_id}"
            label = f"field {field_id}, reference {number}"
            unit = Unit(f"{field_id}/{number}", label, frames, facts, night_id=opened, payload=wanted, provisional=opened is not None)
            units.append(unit)
            number += 1
    return units


def _frames_of(session: Session, field_id: int, lasting: frozenset[int]) -> tuple[tuple[InputTask, ...], int | None]:
    """The photometry of a field's frames, in the order of time: those of an open night, which is said, where there are no others."""
    query = measured(Task.task_id, Task.input_hash, Frame.night_id).join(Task, Task.frame_id == Frame.frame_id)
    mine = (FrameField.field_id == field_id, Task.step == "photometry", Task.status == "done")
    rows = session.execute(query.where(*mine).order_by(Frame.jd_utc, Frame.frame_id)).all()
    kept = [row for row in rows if row.night_id not in lasting]
    tasks = tuple(InputTask(row.task_id, row.input_hash, "photometry") for row in kept or rows)
    return tasks, None if kept or not rows else rows[-1].night_id


def _wanted(context: Context, field_id: int, made: Sequence[MagfitReference], p: ReferenceParameters) -> list[_Wanted]:
    """What the field needs: what people asked for, else one where there is none, or none that suits any more."""
    session = context.session
    answered = {each.request_id for each in made}
    asked = (
        sa.select(ReferenceRequest)
        .where(ReferenceRequest.field_id == field_id, ReferenceRequest.kind == "new")
        .order_by(ReferenceRequest.request_id)
    )
    accepted = [each for each in made if each.status == "accepted"]
    counts = max(accepted, key=lambda each: (each.accepted, each.reference_id), default=None)
    outlived = _outlived(session, made)
    there = [each for each in made if each.status in ("accepted", "candidate") and each.reference_id not in outlived]
    suits = [each for each in there if _as_now(context, each, p)]
    base = counts.reference_id if counts is not None and counts in suits else None
    open_requests = [
        each for each in session.execute(asked.order_by(ReferenceRequest.request_id)).scalars() if each.request_id not in answered
    ]
    if open_requests:
        return [
            _Wanted(field_id, f"asked for: {each.reason}"[:200], each.request_id, each.frame_id, bool(each.is_held),
                    base if each.frame_id is None else None)
            for each in open_requests
        ]  # fmt: skip
    if not suits:
        reason = "the field had none" if counts is None else "fits are made otherwise now"
        reason = "the night that it was begun in is over" if counts is not None and counts.reference_id in outlived else reason
        return [_Wanted(field_id, reason)]
    if counts is None or counts not in suits or any(each.status == "candidate" for each in suits):
        return []
    if _measured_anew(session, counts):
        return [_Wanted(field_id, "most of its frames were measured anew")]
    if reason := drifts(session, counts.reference_id, p.drift, p.unknown, p.drift_nights):
        return [_Wanted(field_id, reason, base_id=counts.reference_id)]
    return []


def _outlived(session: Session, made: Sequence[MagfitReference]) -> set[int]:
    """References that were made of the first frames of a field's first night, and the night is over."""
    night = sa.select(ProvisionalResult.task_id, ProvisionalResult.night_id).where(ProvisionalResult.final_task_id.is_(None))
    rows = session.execute(night.where(ProvisionalResult.task_id.in_([each.task_id for each in made])))
    found = {row.task_id: row.night_id for row in rows}
    lasting = open_nights(session) if found else frozenset()
    return {each.reference_id for each in made if each.task_id in found and found[each.task_id] not in lasting}


def _as_now(context: Context, made: MagfitReference, p: ReferenceParameters) -> bool:
    """Whether the reference is of this version of the step, and its fits of these parameters."""
    if made.parameters != _fit_parameters(context):
        return False
    config = sa.select(Config.config_id).where(Config.sha256 == config_sha256("step", {context.step.name: dataclasses.asdict(p)}))
    query = sa.select(sa.literal(1)).where(
        Task.task_id == made.task_id, Task.step_version == context.step.version, Task.config_id == config.scalar_subquery()
    )
    return context.session.execute(query).first() is not None


def _fit_parameters(context: Context) -> str:
    return canonical(dataclasses.asdict(context.parameters("magnitude_fit")))


def _measured_anew(session: Session, made: MagfitReference) -> bool:
    """Whether most of what the reference was made from no longer stands."""
    gone = sa.select(sa.func.count()).where(Task.step == "photometry", Task.status.in_(["failed", "superseded"]))
    if 2 * session.execute(gone).scalar_one() < made.n_frame:
        return False  # whichever these are: its own tasks, of all its frames, need not be looked at
    query = (
        sa.select(Task.status == "done", sa.func.count())
        .join(Lineage, Lineage.input_task_id == Task.task_id)
        .where(Lineage.task_id == made.task_id)
        .group_by(Task.status == "done")
    )
    count = {bool(stands): int(n) for stands, n in session.execute(query)}
    return count.get(False, 0) > count.get(True, 0)


def _change(_: Mapping[str, Any], __: Mapping[str, Any], ___: Path) -> float:
    """A reference has a number of its own, and none stands for another."""
    return float("inf")


@step(
    "magnitude_reference",
    plan=_plan,
    inputs=(
        Members("photometry"),
        Grouped("field"),
        Earlier("magnitude_fit"),
        Said((Annotation, KeptFrame, ReferenceRequest)),
        OpenNights(),
    ),
    provisional=Provisional("", _change),
    version=2,
    parameters=ReferenceParameters,
    writes=(MagfitReference, MagfitFoldReference, ReferenceMagnitude, FrameScore, TermScore, BestSlot, LightShare),
)
def magnitude_reference(context: Context, unit: Unit[_Wanted], p: ReferenceParameters) -> Output:
    """Make a field's reference: choose its first frame, fit and average until it settles, choose each source's slot."""
    session, wanted = context.session, unit.payload
    lasting = frozenset() if unit.provisional else open_nights(session)
    frames = [shot for shot in shots(session, wanted.field_id) if shot.night_id not in lasting]
    scores = _scores(frames)
    first = _first_frame(frames, scores["score"], wanted)
    fit = context.parameters("magnitude_fit")
    slots = slots_of(session, frames[first].instrument_id)
    base = None if wanted.base_id is None else terms_of(session.get_one(MagfitReference, wanted.base_id))
    work = FieldWork(session, wanted.field_id, frames, first, slots, fit, p, base or fit.start)
    if p.method == "season":
        built = solved(*begun(work))
    else:
        built = from_nights(work, wanted.base_id) if wanted.base_id is not None else build(work)
    if not any(np.isfinite(each.folds.mag).any() for each in built.slots.values()):
        raise AlgorithmFailed(
            "no frame could be fitted", where=unit.label, hint="too few unsaturated stars in common", code="magfit.no_fit"
        )
    own = own_light(context, frames[first].frame_id, built.source_id, built.flux, np.array(slots))
    rows = partial(_rows, wanted, frames, first, scores, built, own, _fit_parameters(context), _zero(session, built, wanted.base_id))
    settled = sum(each.settled for each in built.slots.values())
    made = f"from frame {frames[first].frame_id}; {built.n_night} nights; {_terms_text(built)}"
    return Output(finish=rows, remark=f"{wanted.reason}; {made}; settled in {settled} of {len(slots)} slots")


def _terms_text(built: Built) -> str:
    return f"order {built.terms.order}{''.join(f' + {name}' for name in built.terms.further)}{' by held-out stars' if built.scores else ''}"


def _scores(frames: Sequence[Shot]) -> dict[str, FloatArray]:
    def of(name: str) -> FloatArray:
        return np.array([np.nan if getattr(shot, name) is None else getattr(shot, name) for shot in frames], dtype=np.float64)

    return frame_scores({name: of(name) for name in MERITS}, [not shot.masked for shot in frames])


def _first_frame(frames: Sequence[Shot], score: FloatArray, wanted: _Wanted) -> int:
    """The frame that a person chose, else that of highest score among those that no person has masked."""
    if wanted.frame_id is not None:
        found = [k for k, shot in enumerate(frames) if shot.frame_id == wanted.frame_id]
        if not found:
            raise AlgorithmFailed(
                f"frame {wanted.frame_id} has no measurements in this field", hint="choose another frame", code="magfit.no_frame"
            )
        return found[0]
    first = select_reference(score, [not shot.masked for shot in frames])
    if first < 0:
        raise AlgorithmFailed("every frame is masked", hint="take a mask back with 'starledger mask remove'", code="magfit.masked")
    return first


def _zero(session: Session, built: Built, base_id: int | None) -> dict[str, Any]:
    """The band that the zero point is on, that of most of the field's catalogue stars, and how many stars fixed it."""
    if built.n_zero is None:
        base = session.get_one(MagfitReference, base_id)
        return {"zero_band": base.zero_band, "n_zero": base.n_zero}
    ids = built.source_id
    inside = SourceMagnitude.source_id.between(int(ids[0]), int(ids[-1]))
    query = sa.select(SourceMagnitude.source_id, SourceMagnitude.band).where(inside, SourceMagnitude.band.not_like("%-%"))
    mine = set(ids.tolist())
    bands = Counter(band for source_id, band in session.execute(query) if source_id in mine)
    band = max(sorted(bands), key=lambda name: bands[name]) if bands and built.n_zero else None
    return {"zero_band": band, "n_zero": built.n_zero}


def _rows(
    wanted: _Wanted,
    frames: Sequence[Shot],
    first: int,
    scores: Mapping[str, FloatArray],
    built: Built,
    own: OwnLight,
    parameters: str,
    zero: Mapping[str, Any],
    session: Session,
    _task_id: int,
) -> list[Rows]:
    """The reference as a candidate, with the single frame that it began with, scores, best slots and own light."""
    number = next_id(session, MagfitReference.reference_id)
    shared = {
        "field_id": wanted.field_id,
        "frame_id": frames[first].frame_id,
        "is_held": int(wanted.is_held),
        "parameters": parameters,
        "fit_order": built.terms.order,
        "fit_terms": " ".join(built.terms.further),
        "created": now(),
        **zero,
    }
    rows: list[Rows] = []
    parent = wanted.base_id
    if built.single:
        single = {"iteration": 0, "status": "iteration", "reason": "the single frame", "n_night": 1, "n_frame": 1, "is_settled": 0}
        n_source = max(int(np.isfinite(each.mag).sum()) for each in built.single.values())
        rows.append(Rows(MagfitReference, {"reference_id": number, **shared, **single, "n_source": n_source}, upsert=True))
        rows += [row for slot, each in built.single.items() for row in reference_rows(number, slot, built.source_id, each)]
        parent, number = number, number + 1
    slots = built.slots.values()
    columns = {
        "reference_id": number,
        "iteration": max(each.iteration for each in slots),
        "status": "candidate",
        "reason": wanted.reason,
        "parent_id": parent,
        "request_id": wanted.request_id,
        "n_night": built.n_night,
        "n_frame": built.n_frame,
        "n_source": max(int(np.isfinite(each.public.mag).sum()) for each in slots),
        "change": float(np.median([each.change for each in slots])),
        "is_settled": int(all(each.settled for each in slots)),
    }
    rows.append(Rows(MagfitReference, {**shared, **columns}, upsert=True))
    for slot, each in built.slots.items():
        rows += reference_rows(number, slot, built.source_id, each.public, each.folds)
    rows += [_score_rows(number, frames, scores), score_rows(number, built.scores)]
    best = _best_slots(built, own)
    rows.append(Rows(BestSlot, {"reference_id": number, "source_id": built.source_id, "slot": best, "fold": fold_of(built.source_id)}))
    return rows + [_shares(number, slot, built, *light) for slot, *light in zip(built.slots, own.foreign, own.share, strict=True)]


def _score_rows(reference_id: int, frames: Sequence[Shot], scores: Mapping[str, FloatArray]) -> Rows:
    usable = np.array([not shot.masked for shot in frames], dtype=np.int64)
    order = np.argsort([shot.frame_id for shot in frames])
    columns = {name if name == "score" else f"{name}_rank": values[order] for name, values in scores.items()}
    ids = np.array([shot.frame_id for shot in frames])[order]
    return Rows(FrameScore, {"reference_id": reference_id, "frame_id": ids, "is_usable": usable[order], **columns})


def _best_slots(built: Built, own: OwnLight) -> IntArray:
    """Slot of each source, from the scatter of stars of its magnitude and crowding, and their own part of the light."""
    slots = np.array(list(built.slots))
    scatter = np.array([each.public.scatter for each in built.slots.values()])
    middle = int(slots[len(slots) // 2])
    # By the star's own magnitude: what an aperture holds of a bright neighbour must not choose a larger one.
    index = best_slot(built.fit_mag, scatter, own.share, 1.0 - own.foreign[-1])
    return np.where(index >= 0, slots[np.clip(index, 0, len(slots) - 1)], middle)


def _shares(reference_id: int, slot: int, built: Built, foreign: FloatArray, share: FloatArray) -> Rows:
    known = np.isfinite(share)
    light = {"foreign_light": foreign[known], "share": share[known]}
    return Rows(LightShare, {"reference_id": reference_id, "slot": slot, "source_id": built.source_id[known], **light})
