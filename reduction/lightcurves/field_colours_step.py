"""Step field_colours: the band and the colour that a field's fits use, and its stars' neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from sqlalchemy.orm import Session

from db.fetch import fetch_arrays
from db.sky import cone
from db.tables import DetectionSummary, Field, FirstSolution, FrameField, Source, SourceMagnitude, SourceNeighbour
from reduction.catalogues.kernels.colours import BANDS, assumed_colour, colours_of, combine, main_column
from reduction.catalogues.kernels.identifiers import unit_vectors
from reduction.photometry.kernels.crowding import close_pairs
from reduction.pipeline.declaration import Context, Output, Rows, Unit, parameter, step
from reduction.pipeline.inputs import Grouped, Members
from reduction.pipeline.plans import done_tasks

__all__ = ["FieldColoursParameters", "field_colours"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: A field's frames may lie half a frame beside its first: its sources are looked for in so many radii of that.
_REACH = 2.0
#: Identifiers in one statement: SQLite takes 32766 values.
_CHUNK = 5000
#: The relations between bands and colours are fitted in a wider circle.
_WIDE = 3.0


@dataclass(frozen=True)
class FieldColoursParameters:
    """What counts as a neighbour."""

    neighbour_radius: float = parameter(5.0, "FWHM", "stars this close to each other are neighbours", least=0, most=30)
    neighbour_arcsec: float = parameter(0.0, "arcsec", "the same as an angle, where it is larger", least=0, most=3600)


def _plan(context: Context, _: FieldColoursParameters) -> list[Unit[tuple[int, ...]]]:
    """Each field whose sources were looked for, with the fields that it shares sources with."""
    session = context.session
    done = done_tasks(session, "discover")
    fields = session.execute(sa.select(Field).order_by(Field.field_id)).scalars().all()
    groups = _groups(fields)
    units = []
    for field in fields:
        if (task := done.get(str(field.field_id))) is not None:
            others = tuple(done[str(f.field_id)] for f in groups[field.field_id] if f is not field and str(f.field_id) in done)
            group = tuple(other.field_id for other in groups[field.field_id])
            facts = " ".join(str(field_id) for field_id in group)
            units.append(Unit(str(field.field_id), f"field {field.field_id}", (task, *others), facts, payload=group))
    return units


def _groups(fields: Sequence[Field]) -> dict[int, list[Field]]:
    """For each field, all that it is connected with by shared sky: they use one band and one colour, since a source has one of each."""
    if not fields:
        return {}
    vectors = unit_vectors(*(np.array([getattr(field, name) for field in fields]) for name in ("ra", "dec")))
    radius = np.array([_REACH * field.radius for field in fields])
    angle = np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(vectors[:, None] - vectors[None], axis=2) / 2, 0, 1)))
    _, label = connected_components(csr_array(angle < radius[:, None] + radius[None]), directed=False)
    members: dict[int, list[Field]] = {}
    for field, k in zip(fields, label.tolist(), strict=True):
        members.setdefault(k, []).append(field)
    return {field.field_id: group for group in members.values() for field in group}


@step(
    "field_colours",
    plan=_plan,
    inputs=(Members("discover"), Grouped("field")),
    parameters=FieldColoursParameters,
    writes=(Field, Source, SourceNeighbour),
)
def field_colours(context: Context, unit: Unit[tuple[int, ...]], p: FieldColoursParameters) -> Output:
    """Settle a field's stars: the band and colour that its fits use, each star's magnitude and colour in them, and its neighbours."""
    session = context.session
    field = session.get_one(Field, int(unit.key))
    group = session.execute(sa.select(Field).where(Field.field_id.in_(unit.payload))).scalars().all()
    sky = _Sky.read(session, group)
    fit = _fit(sky.mag, _catalogue_values(session, group, sky.ids))
    mine = sky.within([field], _REACH)
    radius = max(p.neighbour_arcsec, _ladder(p.neighbour_radius * _fwhm(session, field)))
    first, second, separation = close_pairs(sky.vectors, radius)
    own = mine[first]
    pairs = {
        "source_id": sky.ids[first[own]],
        "neighbour_id": sky.ids[second[own]],
        "separation": separation[own],
        "delta_mag": fit.mag[second[own]] - fit.mag[first[own]],
    }
    # What is assumed is assumed anew; of the rest, only what is different is written.
    other = (np.abs(fit.mag - sky.mag) > 1e-9) | (np.abs(fit.colour - sky.colour) > 1e-9) | ~fit.measured | (fit.measured != sky.measured)
    rows = other & sky.within(group, _REACH)
    changed = {
        "source_id": sky.ids[rows],
        "fit_mag": fit.mag[rows],
        "fit_colour": fit.colour[rows],
        "colour_measured": fit.measured[rows].astype(int),
    }
    band, colour = fit.band or "no band", fit.colour_band or "no colour"
    return Output(
        rows=[Rows(Field, {"field_id": field.field_id, "fit_band": fit.band, "fit_colour_band": fit.colour_band}, upsert=True)],
        finish=_Finish(changed, sky.ids[mine], radius, pairs),
        remark=f"fits in {band} and {colour}; {int(own.sum())} neighbours within {radius:.0f} arcsec",
    )


@dataclass(frozen=True)
class _Sky:
    """Sources around some fields, in the order of their identifiers."""

    ids: IntArray
    vectors: FloatArray
    mag: FloatArray
    colour: FloatArray
    measured: npt.NDArray[np.bool_]

    @classmethod
    def read(cls, session: Session, fields: Sequence[Field]) -> _Sky:
        """All sources in the wide circles of the fields."""
        parts = []
        for ra, dec, radius in _circles(fields):
            near = cone(ra, dec, radius)
            columns = [near.c[name] for name in ("source_id", "ux", "uy", "uz", "fit_mag", "fit_colour", "colour_measured")]
            parts.append(fetch_arrays(session.connection(), sa.select(*columns), kinds="ifffffi"))
        ids, *rest = (np.concatenate(column) for column in zip(*parts, strict=True))
        ids, at = np.unique(ids, return_index=True)
        ux, uy, uz, mag, colour, measured = (column[at] for column in rest)
        return cls(ids, np.column_stack([ux, uy, uz]), mag, colour, measured > 0)

    def within(self, fields: Sequence[Field], reach: float) -> npt.NDArray[np.bool_]:
        """Which sources lie within so many radii of any of the fields."""
        found = np.zeros(len(self.ids), dtype=bool)
        for field in fields:
            chord = 2.0 * np.sin(np.radians(min(reach * field.radius, 180.0)) / 2)
            found |= np.linalg.norm(self.vectors - unit_vectors(field.ra, field.dec), axis=1) <= chord
        return found


def _circles(fields: Sequence[Field]) -> list[tuple[float, float, float]]:
    """The wide circles of the fields, without those that lie in another: the channels of one camera see the same sky."""
    kept: list[tuple[float, float, float]] = []
    for field in sorted(fields, key=lambda field: (-field.radius, field.field_id)):
        u = unit_vectors(field.ra, field.dec)
        apart = [
            np.degrees(np.arccos(np.clip(u @ unit_vectors(ra, dec), -1, 1))) + _WIDE * field.radius - radius for ra, dec, radius in kept
        ]
        if not apart or min(apart) > 0.01 * field.radius:
            kept.append((field.ra, field.dec, min(_WIDE * field.radius, 180.0)))
    return kept


def _catalogue_values(session: Session, fields: Sequence[Field], ids: IntArray) -> dict[str, FloatArray]:
    """Magnitudes and colours by band, NaN where unknown; of several catalogues' values that with the smallest error, else the first."""
    parts: list[Any] = []
    for circle in _circles(fields):
        near = cone(*circle)
        m = SourceMagnitude
        query = sa.select(m.source_id, m.catalogue_id, m.band, m.value, m.error).join(near, near.c.source_id == m.source_id)
        parts += session.execute(query).all()
    found: dict[str, list[Any]] = {}
    for row in parts:
        found.setdefault(row.band, []).append(row)
    values = {}
    for band, rows in found.items():
        rows.sort(key=lambda row: (-(np.inf if row.error is None else row.error), -row.catalogue_id))
        values[band] = np.full(len(ids), np.nan)
        # The last one written stays: the best.
        values[band][np.searchsorted(ids, np.array([row.source_id for row in rows], dtype=np.int64))] = [row.value for row in rows]
    return values


@dataclass(frozen=True)
class _Fit:
    band: str | None
    colour_band: str | None
    mag: FloatArray
    colour: FloatArray
    measured: npt.NDArray[np.bool_]


def _fit(before: FloatArray, values: Mapping[str, FloatArray]) -> _Fit:
    """The band and the colour that most stars have, and every star's value in them; `before` where no catalogue has a magnitude."""
    bands = {band: values[band] for band in BANDS if band in values}
    mag = combine(list(bands.values()), 1) if bands else before
    colours = colours_of(bands, {name: column for name, column in values.items() if "-" in name}) if values else {}
    colour = combine(list(colours.values()), 2) if colours else np.full(len(before), np.nan)
    measured = np.isfinite(colour)
    mag = np.where(np.isfinite(mag), mag, before)
    colour = np.where(measured, colour, assumed_colour(mag, mag, colour))
    return _Fit(main_column(bands), main_column(colours), mag, colour, measured)


def _fwhm(session: Session, field: Field) -> float:
    """Median FWHM of a field's frames, arcsec; 0 when none was measured."""
    query = (
        sa.select(DetectionSummary.fwhm * FirstSolution.pixel_scale)
        .join(FrameField, FrameField.frame_id == DetectionSummary.frame_id)
        .join(FirstSolution, FirstSolution.frame_id == FrameField.frame_id)
        .where(FrameField.field_id == field.field_id, DetectionSummary.fwhm.is_not(None))
    )
    found = session.execute(query).scalars().all()
    return float(np.median(np.array(found))) if found else 0.0


def _ladder(radius: float) -> float:
    """The next power of 1.25: the seeing of one night more makes no other neighbours."""
    return float(1.25 ** np.ceil(np.log(radius) / np.log(1.25) - 1e-9)) if radius > 0 else 0.0


@dataclass(frozen=True)
class _Finish:
    """Sources that change, and the pairs that take the place of those of the same sources."""

    changed: dict[str, Any]
    own: IntArray
    radius: float
    pairs: dict[str, Any]

    def __call__(self, session: Session, _task_id: int) -> list[Rows]:
        """Pairs that another field knows out to a larger radius stay."""
        if len(self.changed["source_id"]):
            columns = [column.tolist() for column in self.changed.values()]
            session.execute(sa.update(Source), [dict(zip(self.changed, row, strict=True)) for row in zip(*columns, strict=True)])
        for start in range(0, max(len(self.own), 1), _CHUNK):
            some = self.own[start : start + _CHUNK].tolist()
            # Separations are kept as float32.
            near = SourceNeighbour.separation <= self.radius * (1 + 1e-6)
            session.execute(sa.delete(SourceNeighbour).where(near, SourceNeighbour.source_id.in_(some)))
        return [Rows(SourceNeighbour, self.pairs)]
