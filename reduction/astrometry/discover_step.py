"""Step discover: stars that are detected again and again and stand in no catalogue become sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from db.tables import Classification, Field, FirstSolution, Frame, FrameField, Source
from reduction.astrometry.detections import detections_of
from reduction.astrometry.kernels.clustering import cluster_detections, match_sky
from reduction.astrometry.solutions import first_solution
from reduction.astrometry.sources import SourceTable, julian_year, sources_near
from reduction.catalogues.intake import source_columns
from reduction.catalogues.kernels.colours import assumed_colour
from reduction.catalogues.kernels.identifiers import new_source_ids
from reduction.pipeline.declaration import Context, InputTask, Output, Rows, Unit, parameter, step
from reduction.pipeline.inputs import Grouped, Members
from reduction.pipeline.plans import done_tasks

__all__ = ["DiscoverParameters", "discover"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DiscoverParameters:
    """What counts as a source of its own."""

    min_frames: int = parameter(5, "", "a source is detected on at least this many frames of its field", least=1, most=10_000)
    min_fraction: float = parameter(0.1, "", "and on at least this fraction of them", least=0, most=1)
    radius: float = parameter(1.0, "pixel", "detections this close to their mean are one source", above=0, most=100)
    catalogue_radius: float = parameter(2.0, "pixel", "a detection this close to a known source is that source", above=0, most=100)
    min_snr: float = parameter(5.0, "", "least signal-to-noise ratio of a detection", least=0, most=10_000)


def _plan(context: Context, _: DiscoverParameters) -> list[Unit[None]]:
    """Each field, made from the solutions of all its frames."""
    session = context.session
    solved = done_tasks(session, "solve")
    query = (
        sa.select(FrameField.field_id, FrameField.frame_id)
        .join(Frame, Frame.frame_id == FrameField.frame_id)
        .join(Classification, Classification.frame_id == Frame.frame_id)
        .where(Classification.type == "object")
        .order_by(FrameField.field_id, Frame.jd_utc)
    )
    inputs: dict[int, list[InputTask]] = {}
    for field_id, frame_id in session.execute(query):
        if (task := solved.get(str(frame_id))) is not None:
            inputs.setdefault(field_id, []).append(task)
    return [Unit(str(field_id), f"field {field_id}, {len(tasks)} frames", tuple(tasks)) for field_id, tasks in inputs.items()]


@step(
    "discover",
    plan=_plan,
    inputs=(Members("solve"), Grouped("field")),
    parameters=DiscoverParameters,
    writes=(Source,),
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
    epoch = julian_year(float(np.median([frame.jd_utc for frame in frames])))
    known = sources_near(session, field.ra, field.dec, 3.0 * field.radius, epoch)
    sky = _unmatched(context, list(frames), known, p, p.catalogue_radius * arcsec)
    least = max(p.min_frames, int(np.ceil(p.min_fraction * len(frames))))
    found = cluster_detections(
        sky["ra"], sky["dec"], sky["snr"] ** 2, sky["frame"].astype(np.int64), radius_arcsec=p.radius * arcsec, min_frames=least
    )
    new = match_sky(found.ra, found.dec, known.ra, known.dec, p.catalogue_radius * arcsec) < 0
    labels = np.flatnonzero(new)
    if labels.size == 0:
        return Output(remark="0 new sources")
    mag = np.array([np.median(sky["mag"][found.label == k]) for k in labels])
    ra, dec = found.ra[labels], found.dec[labels]
    ids = new_source_ids(ra, dec, known.source_id)
    measured = known.colour_measured
    colour = assumed_colour(mag, known.mag[measured], known.colour[measured])
    columns = source_columns(ids, ra, dec, mag, colour, np.zeros(len(ids), dtype=bool), "discovered")
    return Output(rows=[Rows(Source, columns)], remark=f"{len(ids)} new sources")


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
