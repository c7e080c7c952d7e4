"""The stars of a reference as arrays: magnitudes by slot, and the colours that were measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.fetch import fetch_arrays
from db.tables import BestSlot, LightShare, MagfitReference, ReferenceMagnitude, Source, Task
from reduction.kernels.arrays import FloatArray, IntArray
from reduction.lightcurves.kernels.colour_relation import Relation
from reduction.pipeline.inputs import InputTask

__all__ = ["LatestReference", "ReferenceStars", "latest_references", "reference_stars", "relation_columns"]


@dataclass(frozen=True)
class LatestReference:
    """A reference that counts, with the place of its field (deg) and the task that made it."""

    reference_id: int
    field_id: int
    ra: float
    dec: float
    radius: float
    task: InputTask


@dataclass(frozen=True)
class ReferenceStars:
    """Stars of a reference.

    Attributes
    ----------
    source_id : int64, shape (n,)
        Rising.
    colour : float64, shape (n,)
        As fits use it (mag); NaN where it was not measured.
    mag, mag_err : mapping of int to float64, shape (n,)
        By slot (mag); NaN where the reference has none, or where light of others makes it no magnitude of the star.
    """

    source_id: IntArray
    colour: FloatArray
    mag: Mapping[int, FloatArray]
    mag_err: Mapping[int, FloatArray]

    def at(self, place: IntArray) -> ReferenceStars:
        """Some of the stars."""
        mag, mag_err = ({slot: values[place] for slot, values in each.items()} for each in (self.mag, self.mag_err))
        return ReferenceStars(self.source_id[place], self.colour[place], mag, mag_err)


def latest_references(session: Session) -> list[LatestReference]:
    """The references that count, in the order in which they were made."""
    text = sa.text(
        "SELECT r.reference_id, r.field_id, f.ra, f.dec, f.radius, r.task_id FROM latest_reference r"
        " JOIN field f ON f.field_id = r.field_id ORDER BY r.reference_id"
    )
    rows = session.execute(text).all()
    query = sa.select(Task.task_id, Task.input_hash).join(MagfitReference, MagfitReference.task_id == Task.task_id)
    hashes = {row.task_id: row.input_hash for row in session.execute(query)}
    # A reference counts until it is retracted, however its task ended up.
    return [
        LatestReference(
            row.reference_id, row.field_id, row.ra, row.dec, row.radius,
            InputTask(row.task_id, hashes[row.task_id], "magnitude_reference"),
        )
        for row in rows
    ]  # fmt: skip


def reference_stars(session: Session, reference_id: int, foreign_light: float) -> ReferenceStars:
    """The stars of a reference.

    Parameters
    ----------
    session : Session
    reference_id : int
    foreign_light : float
        In a slot where others send more than this part of the light, a star has no magnitude.
    """
    connection = session.connection()
    colour = sa.select(Source.source_id, sa.case((Source.colour_measured == 1, Source.fit_colour))).join(
        BestSlot, BestSlot.source_id == Source.source_id
    )
    ids, colours = fetch_arrays(connection, colour.where(BestSlot.reference_id == reference_id).order_by(Source.source_id), kinds="if")
    query = sa.select(ReferenceMagnitude.slot, ReferenceMagnitude.source_id, ReferenceMagnitude.mag, ReferenceMagnitude.mag_err)
    slot, source, mag, err = fetch_arrays(connection, query.where(ReferenceMagnitude.reference_id == reference_id), kinds="jiff")
    blended = sa.select(LightShare.slot, LightShare.source_id).where(
        LightShare.reference_id == reference_id, LightShare.foreign_light > foreign_light
    )
    dim_slot, dim = fetch_arrays(connection, blended, kinds="ji")
    slots = np.unique(slot).tolist()
    mags = {each: _placed(ids, source[slot == each], mag[slot == each]) for each in slots}
    errors = {each: _placed(ids, source[slot == each], err[slot == each]) for each in slots}
    for each in slots:
        mags[each][np.isin(ids, dim[dim_slot == each])] = np.nan
    return ReferenceStars(ids, colours, mags, errors)


def _placed(ids: IntArray, source: IntArray, values: FloatArray) -> FloatArray:
    found = np.full(ids.size, np.nan)
    place = np.minimum(np.searchsorted(ids, source), max(ids.size - 1, 0))
    known = ids[place] == source if ids.size else np.zeros(source.size, dtype=np.bool_)
    found[place[known]] = values[known]
    return found


def relation_columns(relation: Relation, mag: FloatArray, colour: FloatArray) -> dict[str, Any]:
    """What a row of `standard_system` or `magnitude_offset` says of a relation; `mag` and `colour` are those of the stars offered."""
    used = relation.used
    colours = colour[used & np.isfinite(colour)]
    return {
        "zero_point": relation.zero_point,
        "zero_point_err": relation.zero_point_err,
        "colour_term": relation.colour_term,
        "colour_term_err": relation.colour_term_err,
        "colour_pivot": relation.pivot,
        "scatter": relation.scatter,
        "excess": relation.excess,
        "colour_scatter": relation.colour_scatter,
        "n_star": relation.n_star,
        "n_offered": relation.n_given,
        "colour_min": float(colours.min()) if colours.size else np.nan,
        "colour_max": float(colours.max()) if colours.size else np.nan,
        "mag_min": float(mag[used].min()),
        "mag_max": float(mag[used].max()),
    }
