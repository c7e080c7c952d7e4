"""The points of the view `light_curve_all` as arrays, for all sources of a field in one night.

The view computes each slot's magnitudes from two dozen coefficients, row by row: for a night of 3,000 sources the database
takes half a minute. The same numbers come from arrays in a fraction of it; a test holds them against the view. Logarithms and powers
are the database's own here too: those of numpy differ in the last digit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.fetch import fetch_arrays
from db.tables import N_FOLD, N_SLOT
from db.terms import MAP_TERMS, MAPS, TERMS, VARIABLES, Term, correction, map_value, needed
from db.view_light_curve import BARYCENTRIC, POGSON, QUALITY
from reduction.kernels.arrays import FloatArray, IntArray

__all__ = ["FittedPoints", "fitted_points"]


@dataclass(frozen=True)
class FittedPoints:
    """Points of one slot, columns of `light_curve_all`; NaN for NULL.

    flux, flux_err: what `mag` and `mag_err_total` are of, on the scale where magnitude 25 is 1; a flux that is not positive has no
    magnitude.
    """

    source_id: IntArray
    bjd_tdb: FloatArray
    mag: FloatArray
    mag_err_total: FloatArray
    quality: IntArray
    flux: FloatArray
    flux_err: FloatArray


@dataclass(frozen=True)
class _Points:
    """Measurements of a field in a night with what their fitted magnitudes are computed from, apart from the instrumental ones."""

    source_id: IntArray
    frame_id: IntArray
    fold: IntArray
    task_id: IntArray
    quality: IntArray
    bjd_tdb: FloatArray
    exptime: FloatArray
    variables: dict[str, FloatArray]

    def take(self, index: npt.NDArray[np.intp]) -> _Points:
        own = {each.name: getattr(self, each.name)[index] for each in fields(self) if each.name != "variables"}
        return replace(self, **own, variables={name: values[index] for name, values in self.variables.items()})


@dataclass(frozen=True)
class _Place:
    """Which points: of a night of a field, as they were fitted to a reference."""

    field_id: int
    reference_id: int
    night_id: int

    @property
    def fits(self) -> dict[str, int]:
        """Values of the parameters of `_SOLUTIONS`."""
        return {"reference": self.reference_id, "night": self.night_id}


#: The night's solutions, slot by slot and fold by fold: so they are looked up by their key.
_SOLUTIONS = (
    f" FROM magfit_solution WHERE reference_id = :reference AND slot IN ({', '.join(map(str, range(N_SLOT)))})"
    f" AND fold IN ({', '.join(map(str, range(N_FOLD)))}) AND frame_id IN (SELECT f.frame_id FROM frame f WHERE f.night_id = :night)"
)


def fitted_points(session: Session, field_id: int, reference_id: int, night_id: int) -> Iterator[tuple[int, FittedPoints]]:
    """The points of every slot that has solutions of a night for a reference, slot by slot.

    Parameters
    ----------
    session : Session
    field_id : int
    reference_id : int
        The field's latest reference.
    night_id : int
    """
    place = _Place(field_id, reference_id, night_id)
    slots = list(session.execute(sa.text(f"SELECT DISTINCT slot{_SOLUTIONS} ORDER BY slot"), place.fits).scalars())
    if not slots:
        return
    terms = _terms(session, place)
    points, instrumental = _points(session, place, slots, terms)
    points.variables.update(_maps(session, place, points, terms))
    for slot in slots:
        yield slot, _fitted(session, place, slot, points, *instrumental[slot], terms)


def _terms(session: Session, place: _Place) -> tuple[Term, ...]:
    """Terms with a coefficient that is not 0: the others need not be read, and add nothing."""
    used = ", ".join(f"max(CASE WHEN {term.column} <> 0.0 THEN 1 ELSE 0 END)" for term in TERMS)
    found = session.execute(sa.text(f"SELECT {used}{_SOLUTIONS}"), place.fits).one()
    return tuple(term for term, is_used in zip(TERMS, found, strict=True) if is_used or not term.factors)


def _maps(session: Session, place: _Place, points: _Points, terms: tuple[Term, ...]) -> dict[str, FloatArray]:
    """The maps in use at every point; 0 on a frame without."""
    values = {}
    columns = ", ".join(f"p_{term.name}" for term in MAP_TERMS)
    text = (
        f"SELECT frame_id, {columns} FROM magfit_map WHERE reference_id = :reference AND name = :name"
        " AND frame_id IN (SELECT f.frame_id FROM frame f WHERE f.night_id = :night) ORDER BY frame_id"
    )
    for name in (name for name in needed(terms) if name in MAPS):
        values_of = {**place.fits, "name": name}
        frame_id, *polynomial = fetch_arrays(session.connection(), text, values_of, kinds="i" + "f" * len(MAP_TERMS))
        at_frame = np.searchsorted(frame_id, points.frame_id)
        known = np.isin(points.frame_id, frame_id)
        at = [np.where(known, np.append(column, 0.0)[at_frame], 0.0) for column in polynomial]
        values[name] = map_value(at, points.variables["X"], points.variables["Y"])
    return values


def _points(
    session: Session, place: _Place, slots: list[int], terms: tuple[Term, ...]
) -> tuple[_Points, dict[int, tuple[FloatArray, FloatArray]]]:
    """Every measurement of the field in the night, and by slot its flux and error (ADU/s)."""
    names = [expression for slot in slots for expression in _instrumental(slot)]
    used = [name for name in needed(terms) if name in VARIABLES]
    columns = ", ".join([QUALITY, BARYCENTRIC, "f.exptime", *(VARIABLES[name] for name in used), *names])
    text = (
        f"SELECT m.source_id, m.frame_id, s.fold, fp.task_id, {columns} "
        "FROM frame_field ff JOIN frame f ON f.frame_id = ff.frame_id "
        "JOIN frame_photometry fp ON fp.frame_id = f.frame_id "
        "JOIN measurement m ON m.night_id = f.night_id AND m.frame_id = f.frame_id "
        "JOIN source s ON s.source_id = m.source_id WHERE ff.field_id = :field AND f.night_id = :night"
    )
    kinds = "iiiii" + "f" * (2 + len(used) + len(names))
    found = fetch_arrays(session.connection(), text, {"field": place.field_id, "night": place.night_id}, kinds=kinds)
    ids, frame_id, fold, task_id, quality, bjd, exptime, *values = found
    variables = dict(zip(used, values, strict=False))
    own = values[len(used) :]
    points = _Points(ids, frame_id, fold, task_id, quality, bjd, exptime, variables)
    return points, {slot: (own[2 * k], own[2 * k + 1]) for k, slot in enumerate(slots)}


def _instrumental(slot: int) -> tuple[str, str]:
    """SQL of a slot's flux and its error."""
    flux, error = (f"CAST(m.{stem}_{slot} AS DOUBLE PRECISION) / f.exptime" for stem in ("flux", "flux_err"))
    return flux, error


def _fitted(
    session: Session, place: _Place, slot: int, points: _Points, flux: FloatArray, error: FloatArray, terms: tuple[Term, ...]
) -> FittedPoints:
    """The points that have a solution of their own measurement."""
    names = ["power(zero_point_err, 2)", "power(mag_floor, 2)", *(term.column for term in terms)]
    text = f"SELECT frame_id, fold, measure_task, {', '.join(names)}{_SOLUTIONS} AND slot = :slot"
    values_of = {**place.fits, "slot": slot}
    frame_id, fold, task_id, *values = fetch_arrays(session.connection(), text, values_of, kinds="iii" + "f" * len(names))
    number = {key: k for k, key in enumerate(zip(frame_id.tolist(), fold.tolist(), task_id.tolist(), strict=True))}
    keys, inverse = np.unique(np.stack([points.frame_id, points.fold, points.task_id]), axis=1, return_inverse=True)
    found = np.array([number.get((frame, fold, task), -1) for frame, fold, task in keys.T.tolist()], dtype=np.int64)
    row = found[inverse.ravel()] if found.size else np.zeros(0, np.int64)
    kept = np.flatnonzero(row >= 0)
    solution = {name: column[row[kept]] for name, column in zip(names, values, strict=True)}
    mine = points.take(kept)
    scale = 10.0 ** (0.4 * correction(solution, mine.variables))
    flux, error = flux[kept] * scale, error[kept] * scale
    common = solution["power(zero_point_err, 2)"] + solution["power(mag_floor, 2)"]
    bright = flux > 0
    light = np.where(bright, flux, np.nan)
    mag, mag_err = 25.0 - 2.5 * np.log10(light), np.sqrt((POGSON * error / light) ** 2 + common)
    flux_err = np.sqrt(error**2 + common * (flux / POGSON) ** 2)
    return FittedPoints(mine.source_id, mine.bjd_tdb, mag, mag_err, mine.quality, flux, flux_err)
