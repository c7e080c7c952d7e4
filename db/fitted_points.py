"""The points of the views `light_curve` and `light_curve_all` as arrays: a night of a field, or the curve of a source.

The views compute each slot's magnitudes from two dozen coefficients, row by row: for a night of 3,000 sources the database takes half a
minute. The same numbers come from arrays in a fraction of it; tests hold them against the views. Logarithms and powers are numpy's here,
which may differ from the database's in the last digit.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db.fetch import fetch_arrays
from db.lightcurves import N_FOLD
from db.photometry import N_SLOT
from db.terms import MAP_TERMS, MAPS, TERMS, VARIABLES, Term, correction, map_value, needed
from db.view_light_curve import AIRMASS, BARYCENTRIC, POGSON, QUALITY

__all__ = ["ALL_SOURCES", "CIRCUMSTANCES", "FittedPoints", "Scope", "fitted_points", "points_of_night", "points_of_source"]

#: First and last source_id that there may be.
ALL_SOURCES = (-(2**63), 2**63 - 1)

_Floats = npt.NDArray[np.float64]
_Integers = npt.NDArray[np.int64]

#: Columns of the views that nothing is computed from: SQL and the letter for `fetch_arrays`.
CIRCUMSTANCES: dict[str, tuple[str, str]] = {
    "night_id": ("m.night_id", "i"),
    "jd_utc": ("f.jd_utc", "f"),
    "flags": ("m.flags", "i"),
    "x": ("m.x", "f"),
    "y": ("m.y", "f"),
    "airmass": (AIRMASS, "f"),
    "fwhm": ("(SELECT ds.fwhm FROM detection_summary ds WHERE ds.frame_id = f.frame_id)", "f"),
    "background": ("m.background", "f"),
}


@dataclass(frozen=True)
class Scope:
    """Which points: as they were fitted to a reference; made by `points_of_night` and `points_of_source`.

    Attributes
    ----------
    values : dict
        What the statements' parameters are.
    frame : str
        SQL that joins the frame of a measurement.
    where, solutions : str
        SQL that chooses measurements, and solutions.
    """

    values: dict[str, int]
    frame: str
    where: str
    solutions: str

    def of(self, text: str) -> dict[str, int]:
        """Values of the parameters that a statement has."""
        return {name: value for name, value in self.values.items() if f":{name}" in text}


def points_of_night(field_id: int, reference_id: int, night_id: int, sources: tuple[int, int] = ALL_SOURCES) -> Scope:
    """The points of a field in one night: of all sources, or of those from one to another, both included."""
    return Scope(
        {"field": field_id, "reference": reference_id, "night": night_id, "first_source": sources[0], "last_source": sources[1]},
        "m.night_id = f.night_id AND m.frame_id = f.frame_id",
        "f.night_id = :night AND m.source_id BETWEEN :first_source AND :last_source",
        # Slot by slot and fold by fold: so they are looked up by their key.
        f"slot IN ({_numbers(N_SLOT)}) AND fold IN ({_numbers(N_FOLD)})"
        " AND frame_id IN (SELECT f.frame_id FROM frame f WHERE f.night_id = :night)",
    )


def points_of_source(field_id: int, reference_id: int, source_id: int, slot: int, fold: int, nights: tuple[int, int]) -> Scope:
    """The points of a source in one slot of a field, from the first to the last of some nights."""
    values = {"field": field_id, "reference": reference_id, "source": source_id, "own_slot": slot, "fold": fold}
    return Scope(
        {**values, "first": nights[0], "last": nights[1]},
        # By frame alone: of the night as well, PostgreSQL would expect one row of thousands, and look up all that follows one by one.
        "m.frame_id = f.frame_id",
        "m.source_id = :source AND m.night_id BETWEEN :first AND :last",
        "slot = :own_slot AND fold = :fold",
    )


def _numbers(n: int) -> str:
    return ", ".join(map(str, range(n)))


@dataclass(frozen=True)
class FittedPoints:
    """Points of one slot, in no order; NaN for NULL.

    Attributes
    ----------
    source_id, frame_id, quality : int, shape (n,)
    bjd_tdb, mag, mag_err, mag_err_total : float64, shape (n,)
        As the views have them.
    flux, photon_err, flux_err : float64, shape (n,)
        Per second, on the scale where magnitude 25 is 1; its error from photons, sky and detector, and what `mag_err_total` is of. A flux
        that is not positive has no magnitude.
    exptime : float64, shape (n,)
        s.
    others : dict
        The circumstances that were asked for, and `fit_rms`, `n_fit` of the fits.
    """

    source_id: _Integers
    frame_id: _Integers
    quality: _Integers
    bjd_tdb: _Floats
    mag: _Floats
    mag_err: _Floats
    mag_err_total: _Floats
    flux: _Floats
    photon_err: _Floats
    flux_err: _Floats
    exptime: _Floats
    others: dict[str, npt.NDArray[np.generic]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Points:
    """Measurements with what their fitted magnitudes are computed from, apart from the instrumental ones."""

    source_id: _Integers
    frame_id: _Integers
    fold: _Integers
    task_id: _Integers
    quality: _Integers
    bjd_tdb: _Floats
    exptime: _Floats
    variables: dict[str, _Floats]
    others: dict[str, npt.NDArray[np.generic]]

    def take(self, index: npt.NDArray[np.intp]) -> _Points:
        plain = {each.name: getattr(self, each.name)[index] for each in fields(self) if each.name not in ("variables", "others")}
        variables = {name: values[index] for name, values in self.variables.items()}
        others = {name: values[index] for name, values in self.others.items()}
        return replace(self, **plain, variables=variables, others=others)


def fitted_points(connection: Connection, scope: Scope, *, circumstances: Sequence[str] = ()) -> Iterator[tuple[int, FittedPoints]]:
    """The points of every slot that has solutions, slot by slot.

    Parameters
    ----------
    connection : Connection
    scope : Scope
        Which points.
    circumstances : sequence of str
        Which of `CIRCUMSTANCES` come with them.
    """
    slots = _slots(connection, scope)
    if not slots:
        return
    terms = _terms(connection, scope)
    points, instrumental = _points(connection, scope, slots, terms, circumstances)
    points.variables.update(_maps(connection, scope, points, terms))
    for slot in slots:
        yield slot, _fitted(connection, scope, slot, points, *instrumental[slot], terms)


def _solutions(scope: Scope) -> str:
    return f" FROM magfit_solution WHERE reference_id = :reference AND {scope.solutions}"


def _slots(connection: Connection, scope: Scope) -> list[int]:
    if "own_slot" in scope.values:
        return [scope.values["own_slot"]]
    text = f"SELECT DISTINCT slot{_solutions(scope)} ORDER BY slot"
    return list(connection.execute(sa.text(text), scope.of(text)).scalars())


def _terms(connection: Connection, scope: Scope) -> tuple[Term, ...]:
    """The constant, and of many rows terms with a coefficient that is not 0: the others need not be read, and add nothing.

    Of a source's few rows all terms of the groups in use: to look for coefficients would take longer than to read them.
    """
    if "source" in scope.values:
        text = f"SELECT DISTINCT term_groups{_solutions(scope)}"
        groups = functools.reduce(operator.or_, connection.execute(sa.text(text), scope.of(text)).scalars(), 0)
        return tuple(term for term in TERMS if not term.group or term.group & groups)
    used = ", ".join(f"max(CASE WHEN {term.column} <> 0.0 THEN 1 ELSE 0 END)" for term in TERMS)
    text = f"SELECT {used}{_solutions(scope)}"
    found = connection.execute(sa.text(text), scope.of(text)).one()
    return tuple(term for term, is_used in zip(TERMS, found, strict=True) if is_used or not term.factors)


def _maps(connection: Connection, scope: Scope, points: _Points, terms: tuple[Term, ...]) -> dict[str, _Floats]:
    """The maps in use at every point; 0 on a frame without."""
    values = {}
    columns = ", ".join(f"p_{term.name}" for term in MAP_TERMS)
    frames = " AND frame_id IN (SELECT f.frame_id FROM frame f WHERE f.night_id = :night)" if "night" in scope.values else ""
    text = f"SELECT frame_id, {columns} FROM magfit_map WHERE reference_id = :reference AND name = :name{frames} ORDER BY frame_id"
    for name in (name for name in needed(terms) if name in MAPS):
        kinds = "i" + "f" * len(MAP_TERMS)
        frame_id, *polynomial = fetch_arrays(connection, text, {**scope.of(text), "name": name}, kinds=kinds)
        at_frame = np.searchsorted(frame_id, points.frame_id)
        known = np.isin(points.frame_id, frame_id)
        at = [np.where(known, np.append(column, 0.0)[at_frame], 0.0) for column in polynomial]
        values[name] = map_value(at, points.variables["X"], points.variables["Y"])
    return values


def _points(
    connection: Connection, scope: Scope, slots: Sequence[int], terms: tuple[Term, ...], circumstances: Sequence[str]
) -> tuple[_Points, dict[int, tuple[_Floats, _Floats]]]:
    """Every measurement, and by slot its flux and error (ADU/s)."""
    names = [expression for slot in slots for expression in _instrumental(slot)]
    used = [name for name in needed(terms) if name in VARIABLES]
    others = [CIRCUMSTANCES[name] for name in circumstances]
    expressions = [QUALITY, BARYCENTRIC, "f.exptime", *(VARIABLES[name] for name in used), *names, *(sql for sql, _ in others)]
    text = (
        f"SELECT m.source_id, m.frame_id, s.fold, fp.task_id, {', '.join(expressions)} "
        "FROM frame_field ff JOIN frame f ON f.frame_id = ff.frame_id "
        "JOIN frame_photometry fp ON fp.frame_id = f.frame_id "
        f"JOIN measurement m ON {scope.frame} "
        f"JOIN source s ON s.source_id = m.source_id WHERE ff.field_id = :field AND {scope.where}"
    )
    kinds = "iiiii" + "f" * (2 + len(used) + len(names)) + "".join(kind for _, kind in others)
    ids, frame_id, fold, task_id, quality, bjd, exptime, *values = fetch_arrays(connection, text, scope.of(text), kinds=kinds)
    variables = dict(zip(used, values, strict=False))
    own = values[len(used) : len(used) + len(names)]
    around = dict(zip(circumstances, values[len(used) + len(names) :], strict=True))
    points = _Points(ids, frame_id, fold, task_id, quality, bjd, exptime, variables, around)
    return points, {slot: (own[2 * k], own[2 * k + 1]) for k, slot in enumerate(slots)}


def _instrumental(slot: int) -> tuple[str, str]:
    """SQL of a slot's flux and its error."""
    flux, error = (f"CAST(m.{stem}_{slot} AS DOUBLE PRECISION) / f.exptime" for stem in ("flux", "flux_err"))
    return flux, error


def _fitted(
    connection: Connection, scope: Scope, slot: int, points: _Points, flux: _Floats, error: _Floats, terms: tuple[Term, ...]
) -> FittedPoints:
    """The points that have a solution of their own measurement."""
    names = ["zero_point_err", "mag_floor", "fit_rms", *(term.column for term in terms)]
    text = f"SELECT frame_id, fold, measure_task, n_fit, {', '.join(names)}{_solutions(scope)} AND slot = :slot"
    kinds = "iiii" + "f" * len(names)
    frame_id, fold, task_id, n_fit, *values = fetch_arrays(connection, text, {**scope.of(text), "slot": slot}, kinds=kinds)
    row = _rows_of((points.frame_id, points.fold, points.task_id), (frame_id, fold, task_id))
    kept = np.flatnonzero(row >= 0)
    solution = {name: column[row[kept]] for name, column in zip(names, values, strict=True)}
    mine = points.take(kept)
    scale = 10.0 ** (0.4 * correction(solution, mine.variables))
    flux, error = flux[kept] * scale, error[kept] * scale
    fit = solution["zero_point_err"] ** 2
    common = fit + solution["mag_floor"] ** 2
    light = np.where(flux > 0, flux, np.nan)
    own = (POGSON * error / light) ** 2
    return FittedPoints(
        mine.source_id,
        mine.frame_id,
        mine.quality,
        mine.bjd_tdb,
        25.0 - 2.5 * np.log10(light),
        np.sqrt(own + fit),
        np.sqrt(own + common),
        flux,
        error,
        np.sqrt(error**2 + common * (flux / POGSON) ** 2),
        mine.exptime,
        {**mine.others, "fit_rms": solution["fit_rms"], "n_fit": n_fit[row[kept]]},
    )


def _rows_of(wanted: Sequence[_Integers], there: Sequence[_Integers]) -> _Integers:
    """Which solution each point has, -1 for none; both are frames, folds and tasks."""
    frames, place = np.unique(there[0], return_inverse=True)
    row = np.full((frames.size + 1, N_FOLD + 1), -1, dtype=np.int64)
    row[place, there[1]] = np.arange(place.size)
    at = np.searchsorted(frames, wanted[0])
    at[np.append(frames, -1)[at] != wanted[0]] = frames.size
    found = row[at, np.where(wanted[1] < N_FOLD, wanted[1], N_FOLD)]
    return np.where((found >= 0) & (np.append(there[2], -1)[found] == wanted[2]), found, -1)
