"""Step discover: stars that are detected again and again and stand in no catalogue become sources."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.tables import Classification, Field, FirstSolution, Frame, FrameField, Lineage, ProvisionalResult, Source, Target, Task
from reduction.astrometry.detections import detections_of
from reduction.astrometry.kernels.clustering import cluster_detections, match_sky
from reduction.astrometry.solutions import first_solution
from reduction.astrometry.sources import SourceTable, julian_year, sources_near
from reduction.catalogues.intake import source_columns
from reduction.catalogues.kernels.colours import assumed_colour
from reduction.catalogues.kernels.identifiers import new_source_ids
from reduction.pipeline.declaration import Context, InputTask, Output, Provisional, Rows, Unit, parameter, step
from reduction.pipeline.inputs import Grouped, Members
from reduction.pipeline.open_nights import OpenNights, open_nights, tolerances
from reduction.pipeline.plans import done_tasks

__all__ = ["DiscoverParameters", "discover"]

FloatArray = npt.NDArray[np.float64]

#: Light of sources so many pixels beside a frame falls on it.
_BESIDE = 20.0
#: Values of one IN list: SQLite takes no more than 32,766.
_MANY = 10_000


@dataclass(frozen=True)
class DiscoverParameters:
    """What counts as a source of its own."""

    min_frames: int = parameter(5, "", "a source is detected on at least this many frames of its field", least=1, most=10_000)
    min_fraction: float = parameter(0.1, "", "and on at least this fraction of them", least=0, most=1)
    radius: float = parameter(1.0, "pixel", "detections this close to their mean are one source", above=0, most=100)
    catalogue_radius: float = parameter(2.0, "pixel", "a detection this close to a known source is that source", above=0, most=100)
    min_snr: float = parameter(5.0, "", "least signal-to-noise ratio of a detection", least=0, most=10_000)


def _plan(context: Context, p: DiscoverParameters) -> list[Unit[None]]:
    """Each field, made from the solutions of all its frames.

    Those of nights that are open wait. In a field that has no others they are taken, at first one, then the fewest that make a source,
    and whenever there are twice as many.
    """
    session = context.session
    solved = done_tasks(session, "solve")
    query = (
        sa.select(FrameField.field_id, FrameField.frame_id, Frame.night_id)
        .join(Frame, Frame.frame_id == FrameField.frame_id)
        .join(Classification, Classification.frame_id == Frame.frame_id)
        .where(Classification.type == "object")
        .order_by(FrameField.field_id, Frame.jd_utc)
    )
    lasting = open_nights(session)
    inputs: dict[int, list[InputTask]] = {}
    waiting: dict[int, list[InputTask]] = {}
    nights: dict[int, int] = {}
    for field_id, frame_id, night_id in session.execute(query):
        if (task := solved.get(str(frame_id))) is not None:
            (waiting if night_id in lasting else inputs).setdefault(field_id, []).append(task)
            nights[field_id] = night_id
    units: list[Unit[None]] = [
        Unit(str(field_id), f"field {field_id}, {len(tasks)} frames", tuple(tasks)) for field_id, tasks in inputs.items()
    ]
    for field_id in sorted(waiting.keys() - inputs.keys()):
        tasks = waiting[field_id]
        n = p.min_frames * 2 ** int(np.log2(len(tasks) / p.min_frames)) if len(tasks) >= p.min_frames else 1
        label = f"field {field_id}, {n} frames of an open night"
        units.append(Unit(str(field_id), label, tuple(tasks[:n]), night_id=nights[field_id], provisional=True))
    return units


def _change(_: Mapping[str, Any], __: Mapping[str, Any], ___: Path) -> float:
    """What frames were measured with other sources is said by the body: no result as a whole stands for another."""
    return float("inf")


@step(
    "discover",
    plan=_plan,
    inputs=(Members("solve"), Grouped("field"), OpenNights()),
    parameters=DiscoverParameters,
    writes=(Source, Target),
    provisional=Provisional("", _change),
)
def discover(context: Context, unit: Unit[None], p: DiscoverParameters) -> Output:
    """Cluster detections that match no known source over a field's frames, and make sources of them."""
    session = context.session
    field = session.get_one(Field, int(unit.key))
    scale = session.execute(
        sa.select(FirstSolution.pixel_scale)
        .join(FrameField, FrameField.frame_id == FirstSolution.frame_id)
        .where(FrameField.field_id == field.field_id)
    ).scalars()
    arcsec = float(np.median(np.array(scale.all())))
    frames = session.execute(
        sa.select(Frame)
        .join(FrameField, FrameField.frame_id == Frame.frame_id)
        .join(Classification, Classification.frame_id == Frame.frame_id)
        .where(FrameField.field_id == field.field_id, Classification.type == "object")
        .order_by(Frame.jd_utc, Frame.frame_id)
    ).scalars().all()  # fmt: skip
    lasting = frozenset() if unit.provisional else open_nights(session)
    frames = [frame for frame in frames if frame.night_id not in lasting]
    epoch = julian_year(float(np.median([frame.jd_utc for frame in frames])))
    known = sources_near(session, field.ra, field.dec, 3.0 * field.radius, epoch)
    # What was found while the night was open is found once more, in all of its frames.
    before = _Before.of(session, unit, known)
    known = _without(known, before.source_id)
    sky = _unmatched(context, frames, known, p, p.catalogue_radius * arcsec)
    least = max(p.min_frames, int(np.ceil(p.min_fraction * len(frames))))
    found = cluster_detections(
        sky["ra"], sky["dec"], sky["snr"] ** 2, sky["frame"].astype(np.int64), radius_arcsec=p.radius * arcsec, min_frames=least
    )
    new = match_sky(found.ra, found.dec, known.ra, known.dec, p.catalogue_radius * arcsec) < 0
    labels = np.flatnonzero(new)
    if labels.size == 0 and before.source_id.size == 0:
        return Output(remark="0 new sources", summary={"sources": []})
    mag = np.array([np.median(sky["mag"][found.label == k]) for k in labels], dtype=np.float64)
    ra, dec = found.ra[labels], found.dec[labels]
    ids = new_source_ids(ra, dec, known.source_id) if labels.size else np.zeros(0, dtype=np.int64)
    measured = known.colour_measured
    colour = assumed_colour(mag, known.mag[measured], known.colour[measured])
    columns = source_columns(ids, ra, dec, mag, colour, np.zeros(len(ids), dtype=bool), "discovered") if labels.size else {}
    other = before.differing(ids, ra, dec, tolerances(context.settings).discovered * arcsec)
    late = [] if unit.provisional or not other[0].size else _measured_before(session, unit, frames)
    return Output(
        rows=[Rows(Source, columns, replace={"source_id": before.source_id} if before.source_id.size else None)],
        finish=partial(_unlink, np.setdiff1d(before.source_id, ids).tolist()),
        remark=f"{len(ids)} new sources",
        summary={"sources": ids.tolist()},
        measured_anew=tuple(frame.frame_id for frame in late if _lie_on(session, frame, *other)),
    )


@dataclass(frozen=True)
class _Before:
    """Sources that were discovered while the night was open, and that no catalogue has named since."""

    source_id: npt.NDArray[np.int64]
    ra: FloatArray
    dec: FloatArray

    @classmethod
    def of(cls, session: Session, unit: Unit[None], known: SourceTable) -> _Before:
        """Those of the unit's earlier results; none of a unit that is provisional itself: it adds to them."""
        query = (
            sa.select(ProvisionalResult.summary)
            .join(Task, Task.task_id == ProvisionalResult.task_id)
            .where(Task.step == "discover", Task.unit == unit.key, ProvisionalResult.final_task_id.is_(None))
        )
        found = [] if unit.provisional else [number for text in session.execute(query).scalars() for number in json.loads(text)["sources"]]
        mine = np.isin(known.source_id, np.array(found, dtype=np.int64)) & ~known.catalogued
        return cls(known.source_id[mine], known.ra[mine], known.dec[mine])

    def differing(self, ids: npt.NDArray[np.int64], ra: FloatArray, dec: FloatArray, tolerance: float) -> tuple[FloatArray, FloatArray]:
        """Positions of sources that were not known, are none any more, or have moved by more than a tolerance (arcsec)."""
        _, here, there = np.intersect1d(self.source_id, ids, return_indices=True)
        apart = 3600.0 * np.hypot((self.ra[here] - ra[there]) * np.cos(np.radians(dec[there])), self.dec[here] - dec[there])
        same = apart <= tolerance
        old, new = np.ones(self.source_id.size, dtype=np.bool_), np.ones(ids.size, dtype=np.bool_)
        old[here[same]], new[there[same]] = False, False
        return np.concatenate([self.ra[old], ra[new]]), np.concatenate([self.dec[old], dec[new]])


def _without(known: SourceTable, ids: npt.NDArray[np.int64]) -> SourceTable:
    kept = ~np.isin(known.source_id, ids)
    return known if kept.all() else SourceTable(*(getattr(known, each.name)[kept] for each in fields(known)))


def _measured_before(session: Session, unit: Unit[None], frames: Sequence[Frame]) -> list[Frame]:
    """Frames that were measured while their night was open: since the field's sources were last looked for in whole nights."""
    there = (Task.step == "photometry", Task.status.in_(["done", "failed"]))
    numbers = [frame.frame_id for frame in frames]
    measured = {
        frame_id
        for first in range(0, len(numbers), _MANY)
        for frame_id in session.execute(sa.select(Task.frame_id).where(*there, Task.frame_id.in_(numbers[first : first + _MANY]))).scalars()
    }
    whole = sa.select(Task.task_id).where(
        Task.step == "discover", Task.unit == unit.key, Task.task_id.not_in(sa.select(ProvisionalResult.task_id))
    )
    solved = sa.select(Lineage.input_task_id).where(Lineage.task_id.in_(whole))
    seen = set(session.execute(sa.select(Task.frame_id).where(Task.task_id.in_(solved))).scalars())
    return [frame for frame in frames if frame.frame_id in measured and frame.frame_id not in seen]


def _lie_on(session: Session, frame: Frame, ra: FloatArray, dec: FloatArray) -> bool:
    """Whether one of some positions lies on a frame, or so near that its light does."""
    plate = first_solution(session, frame.frame_id)
    return bool(plate.inside(*plate.project(ra, dec), margin=-_BESIDE).any())


def _unlink(gone: Sequence[int], session: Session, _task_id: int) -> list[Rows]:
    """Targets whose source is none any more have none, until step statistics finds them another."""
    for first in range(0, len(gone), _MANY):
        session.execute(sa.update(Target).where(Target.source_id.in_(gone[first : first + _MANY])).values(source_id=None))
    return []


def _unmatched(context: Context, frames: list[Frame], known: SourceTable, p: DiscoverParameters, radius: float) -> dict[str, FloatArray]:
    """Detections that are no known source, their magnitudes brought to those of the known sources of their frame."""
    parts: list[dict[str, npt.NDArray[Any]]] = []
    zero_point = 0.0
    for number, frame in enumerate(frames):
        stars = detections_of(context.session, frame.night_id, frame.frame_id)
        with np.errstate(invalid="ignore", divide="ignore"):
            snr = stars["flux"] / stars["flux_err"]
            mag = 25.0 - 2.5 * np.log10(stars["flux"] / frame.exptime)
        good = (snr >= p.min_snr) & np.isfinite(mag)
        ra, dec = first_solution(context.session, frame.frame_id).unproject(stars["x"], stars["y"])
        match = match_sky(ra, dec, known.ra, known.dec, radius)
        matched = good & (match >= 0)
        if matched.any():
            zero_point = float(np.median(known.mag[match[matched]] - mag[matched]))
        free = good & (match < 0)
        columns = {"ra": ra, "dec": dec, "snr": snr, "mag": mag + zero_point, "frame": np.full(len(ra), number)}
        parts.append({name: values[free] for name, values in columns.items()})
    return {name: np.concatenate([part[name] for part in parts]).astype(float) for name in parts[0]}
