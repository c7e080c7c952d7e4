"""Step magnitude_offsets: how the references of fields that overlap differ, by the stars that both have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.spatial import cKDTree

from db.tables import MagnitudeOffset, ReferenceRequest
from reduction.catalogues.kernels.identifiers import unit_vectors
from reduction.lightcurves.kernels.colour_relation import LEAST_STARS, fit_relation
from reduction.lightcurves.reference_stars import LatestReference, ReferenceStars, latest_references, reference_stars, relation_columns
from reduction.pipeline.declaration import Context, Output, Rows, Unit, parameter, step
from reduction.pipeline.inputs import Members, Said, Untracked

__all__ = ["MagnitudeOffsetsParameters", "magnitude_offsets"]

#: A field's frames may lie half a frame beside its first.
_REACH = 2.0


@dataclass(frozen=True)
class MagnitudeOffsetsParameters:
    """Which common stars tie two references together."""

    max_error: float = parameter(0.05, "mag", "magnitudes with larger errors have no say", above=0, most=1)
    foreign_light: float = parameter(
        0.1, "", "nor have stars in slots where this part of the light, or more, is that of others", above=0, most=1
    )
    least_stars: int = parameter(LEAST_STARS, "", "with fewer common stars two references stay unrelated", least=LEAST_STARS, most=10_000)


@dataclass(frozen=True)
class _Pair:
    reference_id: int
    other_id: int


def _plan(context: Context, _: MagnitudeOffsetsParameters) -> list[Unit[_Pair]]:
    """Each pair of references that count now and whose fields may have stars in common: a new reference brings those with it, no more."""
    found = latest_references(context.session)
    pairs = ((found[late], found[early]) for early, late in _overlapping(found))
    return [
        Unit(
            f"{one.reference_id}/{other.reference_id}",
            f"fields {one.field_id} and {other.field_id}, references {one.reference_id} and {other.reference_id}",
            (one.task, other.task),
            payload=_Pair(one.reference_id, other.reference_id),
        )
        for one, other in pairs
    ]


def _overlapping(references: Sequence[LatestReference]) -> list[tuple[int, int]]:
    """Places of two references each, the earlier first, whose fields overlap."""
    if len(references) < 2:
        return []
    vectors = unit_vectors(np.array([each.ra for each in references]), np.array([each.dec for each in references]))
    reach = np.radians([min(_REACH * each.radius, 90.0) for each in references])
    # The tree leaves out what is too far off for any pair, so that a thousand fields are no million pairs.
    pairs = cKDTree(vectors).query_pairs(2.0 * np.sin(min(reach.max(), np.pi / 2)) + 1e-9, output_type="ndarray")
    angle = 2.0 * np.arcsin(np.clip(np.linalg.norm(vectors[pairs[:, 0]] - vectors[pairs[:, 1]], axis=1) / 2.0, 0.0, 1.0))
    near = pairs[angle < reach[pairs[:, 0]] + reach[pairs[:, 1]]]
    return [(int(min(pair)), int(max(pair))) for pair in sorted(near.tolist())]


@step(
    "magnitude_offsets",
    plan=_plan,
    inputs=(
        Members("magnitude_reference"),
        Untracked("magnitude_fit"),
        Untracked("field_colours"),
        Said((ReferenceRequest,)),
    ),
    parameters=MagnitudeOffsetsParameters,
    writes=(MagnitudeOffset,),
)
def magnitude_offsets(context: Context, unit: Unit[_Pair], p: MagnitudeOffsetsParameters) -> Output:
    """Compare two references, slot by slot: the offset of their magnitudes at the common stars' mean colour, and its slope."""
    session, pair = context.session, unit.payload
    one, other = (reference_stars(session, number, p.foreign_light) for number in (pair.reference_id, pair.other_id))
    _, mine, theirs = np.intersect1d(one.source_id, other.source_id, assume_unique=True, return_indices=True)
    place = {"reference_id": pair.reference_id, "other_reference_id": pair.other_id}
    rows = [Rows(MagnitudeOffset, {}, replace=place), *_rows(place, one.at(mine), other.at(theirs), p)]
    remark = f"{mine.size} common stars" + ("" if len(rows) > 1 else ": too few to compare them")
    return Output(rows=rows, remark=remark)


def _rows(place: dict[str, int], one: ReferenceStars, other: ReferenceStars, p: MagnitudeOffsetsParameters) -> list[Rows]:
    """A row for each slot of the one with each of the other: a source may have its curve in any."""
    rows = []
    for slot, other_slot in product(one.mag, other.mag):
        good = (one.mag_err[slot] <= p.max_error) & (other.mag_err[other_slot] <= p.max_error)
        difference = np.where(good, one.mag[slot] - other.mag[other_slot], np.nan)
        if np.count_nonzero(np.isfinite(difference)) < p.least_stars:
            continue
        error = np.hypot(one.mag_err[slot], other.mag_err[other_slot])
        relation = fit_relation(difference, error, one.colour)
        if relation is not None:
            columns = relation_columns(relation, one.mag[slot], one.colour)
            rows.append(Rows(MagnitudeOffset, {**place, "slot": slot, "other_slot": other_slot, **columns}))
    return rows
