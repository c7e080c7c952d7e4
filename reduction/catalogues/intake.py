"""Stars of a catalogue become sources: which source each of them is, and the rows that say so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.fetch import fetch_arrays
from db.sky import cone
from db.tables import Source, SourceLink, SourceMagnitude, SourceName
from reduction.catalogues.columns import EPOCH, Stars
from reduction.catalogues.kernels.colours import assumed_colour, fit_colour, fit_magnitude
from reduction.catalogues.kernels.identifiers import ARCSEC, fold_of, healpix29, new_source_ids, pair_sky, unit_vectors
from reduction.kernels.arrays import BoolArray, FloatArray, IntArray
from reduction.pipeline.declaration import Rows

__all__ = ["Intake", "circle_of", "source_columns", "take_in"]


#: Degrees around a catalogue in which sources are looked at: wider than an order-12 pixel, in which new identifiers are numbered.
_MARGIN = 0.03
#: Identifiers in one statement: SQLite takes 32766 values.
_CHUNK = 5000


@dataclass(frozen=True)
class Intake:
    """What a catalogue's stars become; `write` brings the archive's rows into line and returns those to add."""

    n: int
    n_new: int
    n_linked: int
    write: Callable[[Session, int], list[Rows]]


@dataclass(frozen=True)
class _Known:
    """Sources around the catalogue."""

    ids: IntArray
    vectors: FloatArray
    position_err: FloatArray
    discovered: BoolArray
    mine: BoolArray  # made by an earlier reading of the same catalogue
    links: dict[int, int]  # Gaia's identifier -> source that had one of its own before
    names: set[str]


def circle_of(vectors: FloatArray) -> tuple[float, float, float]:
    """Centre (ra, dec) and radius of a circle around directions, degrees."""
    centre = vectors.mean(axis=0)
    centre /= np.linalg.norm(centre)
    # The chord: an arc cosine cannot tell small angles from none.
    chord = np.linalg.norm(vectors - centre, axis=1).max()
    radius = np.degrees(2 * np.arcsin(min(chord / 2, 1.0)))
    return float(np.degrees(np.arctan2(centre[1], centre[0])) % 360), float(np.degrees(np.arcsin(centre[2]))), float(radius)


def take_in(
    session: Session, stars: Stars, catalogue_id: int, match_radius: float, *, whole: bool = True, mine: int | None = None
) -> Intake:
    """Identify a catalogue's stars with the archive's sources, and say what to write.

    A star is the source with its Gaia identifier, else the nearest source
    within `match_radius` (arcsec, and three times what is known of the
    source's position error), one to one, the closest pair first. A Gaia star
    is only ever matched by position to a source that Gaia has not named:
    that source keeps its identifier, since its measurements carry it, takes
    over what the catalogue says, and a link remembers Gaia's number.

    Parameters
    ----------
    session : Session
    stars : Stars
    catalogue_id : int
    match_radius : float
        Arcsec.
    whole : bool
        The catalogue is read as a whole: its earlier rows are dropped. Else these stars are one piece of it.
    mine : int, optional
        Task of an earlier reading of the same file: its sources are read anew, and those that are gone from it are dropped.
    """
    vectors = unit_vectors(stars.ra, stars.dec)
    known = _known_sources(session, vectors, mine)
    ids, index, separation = _identify(stars, vectors, known, match_radius)
    at = index >= 0
    discovered, takes_over, by_gaia = (np.zeros(len(ids), dtype=bool) for _ in range(3))
    discovered[at] = known.discovered[index[at]]
    takes_over[at] = (known.mine | known.discovered)[index[at]]
    by_gaia[at] = np.isin(ids[at], list(known.links.values()))
    named_now = (stars.gaia > 0) & (stars.gaia != ids)  # by Gaia, after it had a number of its own
    # Gaia's position is the better one: a catalogue that is read again does not take it back.
    takes_over = (takes_over & ~(by_gaia & (stars.gaia == 0))) | (named_now & at)
    linked = discovered | (named_now & at & ~np.isin(stars.gaia, list(known.links)))  # a link that stands says how it came about
    columns = _columns(ids, stars)
    change = _Change(
        catalogue_id,
        mine,
        whole,
        gone=_made_by(session, mine, ids),
        again=ids[at],
        changed=_where(columns, takes_over),
        rows=[
            Rows(Source, _where(columns, ~at)),
            _magnitude_rows(ids, catalogue_id, stars),
            _name_rows(session, stars, ids, known, catalogue_id, named_now),
            *_link_rows(ids, catalogue_id, stars, separation, linked),
        ],
    )
    return Intake(len(ids), int((~at).sum()), int(linked.sum()), change)


def _known_sources(session: Session, vectors: FloatArray, mine: int | None) -> _Known:
    if len(vectors) == 0:
        nothing = np.zeros(0)
        return _Known(nothing.astype(np.int64), np.zeros((0, 3)), nothing, nothing > 0, nothing > 0, {}, set())
    ra, dec, radius = circle_of(vectors)
    near = cone(ra, dec, min(radius + _MARGIN, 180.0))
    discovered, own = (sa.case((condition, 1), else_=0) for condition in (near.c.origin == "discovered", near.c.task_id == (mine or 0)))
    columns = (near.c.source_id, near.c.ux, near.c.uy, near.c.uz, near.c.position_err, discovered, own)
    ids, ux, uy, uz, err, found, read = fetch_arrays(session.connection(), sa.select(*columns).order_by(near.c.source_id), kinds="iffffii")
    links = sa.select(SourceLink.gaia_id, SourceLink.source_id).join(near, near.c.source_id == SourceLink.source_id)
    names = sa.select(SourceName.name).join(near, near.c.source_id == SourceName.source_id)
    return _Known(
        ids,
        np.column_stack([ux, uy, uz]),
        err,
        found > 0,
        read > 0,
        {int(gaia): source_id for gaia, source_id in session.execute(links) if gaia is not None},
        set(session.execute(names).scalars()),
    )


def _identify(stars: Stars, vectors: FloatArray, known: _Known, match_radius: float) -> tuple[IntArray, IntArray, FloatArray]:
    """Each star's source_id, its index among the known sources (-1 for a new one), and how far they lie apart (arcsec; NaN)."""
    place = {source_id: k for k, source_id in enumerate(known.ids.tolist())}
    index = np.array([place.get(known.links.get(gaia, gaia), -1) if gaia else -1 for gaia in stars.gaia.tolist()], dtype=np.int64)
    at = np.flatnonzero(index >= 0)
    again = np.ones(len(at), dtype=bool)
    again[np.unique(index[at], return_index=True)[1]] = False
    index[at[again]] = -1
    separation = np.full(len(index), np.nan)
    separation[index >= 0] = _separation(vectors[index >= 0], known.vectors[index[index >= 0]])
    free = np.ones(len(known.ids), dtype=bool)
    free[index[index >= 0]] = False
    unnamed = (known.ids % 2 == 1) & ~np.isin(known.ids, list(known.links.values()))
    # Gaia's own stars first: what they leave is for stars without a number.
    for rows, allowed in ((stars.gaia > 0, free & unnamed), (stars.gaia == 0, free)):
        row, other = np.flatnonzero(rows & (index < 0)), np.flatnonzero(allowed & free)
        radius = match_radius + 3.0 * np.nan_to_num(known.position_err[other])
        near, distance = pair_sky(vectors[row], known.vectors[other], radius)
        hit = near >= 0
        index[row[hit]], separation[row[hit]] = other[near[hit]], distance[hit]
        free[other[near[hit]]] = False
    ids = np.where(index >= 0, known.ids[index] if len(known.ids) else 0, stars.gaia)
    # A number that another source has already, by a link or a second row, is not given twice.
    taken = np.isin(ids, known.ids) & (index < 0)
    ids[taken] = 0
    blank = ids == 0
    ids[blank] = new_source_ids(stars.ra[blank], stars.dec[blank], np.concatenate([known.ids, ids[~blank]]))
    return ids, index, separation


def _separation(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.asarray(2.0 * np.arcsin(np.linalg.norm(a - b, axis=1) / 2) / ARCSEC)


def source_columns(
    ids: IntArray, ra: FloatArray, dec: FloatArray, mag: FloatArray, colour: FloatArray, measured: BoolArray, origin: str
) -> dict[str, Any]:
    """Columns of `source` for stars without proper motion; shared by catalogue and discovered stars."""
    vectors = unit_vectors(ra, dec)
    return {
        "source_id": ids,
        "ra": ra,
        "dec": dec,
        "epoch": EPOCH,
        "pmra": 0.0,
        "pmdec": 0.0,
        "ux": vectors[:, 0],
        "uy": vectors[:, 1],
        "uz": vectors[:, 2],
        "healpix": healpix29(ra, dec),
        "fold": fold_of(ids),
        "origin": np.full(len(ids), origin),
        "fit_mag": mag,
        "fit_colour": colour,
        "colour_measured": measured.astype(np.int16),
    }


def _columns(ids: IntArray, stars: Stars) -> dict[str, Any]:
    """Columns of `source` for the catalogue's stars; what fits use is as good as this catalogue alone can say."""
    mag, measured = np.full(len(ids), np.nan), np.full(len(ids), np.nan)
    if stars.magnitudes():
        mag = fit_magnitude(stars.magnitudes())
    if stars.values:
        measured = fit_colour(stars.magnitudes(), stars.colours())
    has_colour = np.isfinite(measured)
    colour = np.where(has_colour, measured, assumed_colour(mag, mag, measured)) if len(ids) else measured
    faintest = np.nanmax(mag) if np.isfinite(mag).any() else 15.0
    mag = np.where(np.isfinite(mag), mag, faintest)
    columns = source_columns(ids, stars.ra, stars.dec, mag, colour, has_colour, "catalogue")
    return {**columns, "pmra": stars.pmra, "pmdec": stars.pmdec, "position_err": stars.position_err}


def _where(columns: Mapping[str, Any], rows: BoolArray) -> dict[str, Any]:
    return {name: value[rows] if np.ndim(value) else value for name, value in columns.items()}


def _magnitude_rows(ids: IntArray, catalogue_id: int, stars: Stars) -> Rows:
    picks = [(band, np.flatnonzero(np.isfinite(column))) for band, column in stars.values.items()]
    unknown = np.full(len(ids), np.nan)

    # One typed array a column: an identifier that passes through float64 is another identifier.
    def joined(parts: list[npt.NDArray[Any]], kind: Any) -> npt.NDArray[Any]:
        return np.concatenate(parts) if parts else np.zeros(0, dtype=kind)

    columns = {
        "source_id": ids[joined([k for _, k in picks], np.int64)],
        "catalogue_id": catalogue_id,
        "band": joined([np.full(len(k), band, dtype=object) for band, k in picks], object),
        "value": joined([stars.values[band][k] for band, k in picks], float),
        "error": joined([stars.errors.get(band, unknown)[k] for band, k in picks], float),
        "system": joined([np.full(len(k), stars.system(band), dtype=object) for band, k in picks], object),
    }
    return Rows(SourceMagnitude, columns)


def _name_rows(session: Session, stars: Stars, ids: IntArray, known: _Known, catalogue_id: int, named_now: BoolArray) -> Rows:
    """Names that no other catalogue gave to a source here; where two rows have one name it is the first row's."""
    mine = sa.select(SourceName.name).where(SourceName.catalogue_id == catalogue_id)
    taken = known.names - set(session.execute(mine).scalars()) if known.names else set()
    names: dict[str, int] = {}
    for prefix, identifiers in stars.names.items():
        for source_id, identifier in zip(ids.tolist(), identifiers.tolist(), strict=True):
            if identifier and f"{prefix} {identifier}" not in taken:
                names.setdefault(f"{prefix} {identifier}", source_id)
    # A source with a number of its own is found by Gaia's through its name.
    for source_id, gaia in zip(ids[named_now].tolist(), stars.gaia[named_now].tolist(), strict=True):
        if f"Gaia DR3 {gaia}" not in taken:
            names.setdefault(f"Gaia DR3 {gaia}", source_id)
    columns = {
        "name": np.array(list(names), dtype=object),
        "source_id": np.array(list(names.values()), dtype=np.int64),
        "catalogue_id": catalogue_id,
    }
    return Rows(SourceName, columns)


def _link_rows(ids: IntArray, catalogue_id: int, stars: Stars, separation: FloatArray, linked: BoolArray) -> Iterator[Rows]:
    """Links with Gaia's number, and links without one, which have no such column: an integer has no NaN."""
    for numbered in (True, False):
        rows = linked & ((stars.gaia > 0) == numbered)
        columns = {"source_id": ids[rows], "catalogue_id": catalogue_id, "separation": separation[rows]}
        yield Rows(SourceLink, {**columns, "gaia_id": stars.gaia[rows]} if numbered else columns)


def _made_by(session: Session, task_id: int | None, ids: IntArray) -> IntArray:
    """Sources that an earlier reading made and that are not among those of this one."""
    if task_id is None:
        return np.zeros(0, dtype=np.int64)
    (made,) = fetch_arrays(session.connection(), sa.select(Source.source_id).where(Source.task_id == task_id), kinds="i")
    return made[~np.isin(made, ids)]


@dataclass(frozen=True)
class _Change:
    """What happens to rows that are there, called with the writer's session; picklable."""

    catalogue_id: int
    mine: int | None
    whole: bool  # the catalogue is read as a whole, not a piece of it
    gone: IntArray  # sources that this reading no longer has
    again: IntArray  # sources that were there
    changed: dict[str, Any]  # columns of sources that take over what the catalogue says
    rows: list[Rows]

    def __call__(self, session: Session, task_id: int) -> list[Rows]:
        """Drop this catalogue's earlier rows, take over the new ones, and return the rows to add."""
        for table in (SourceMagnitude, SourceName):
            of_catalogue = sa.delete(table).where(table.catalogue_id == self.catalogue_id)
            if self.whole:
                session.execute(of_catalogue)
            for some in () if self.whole else _chunks(self.again):
                session.execute(of_catalogue.where(table.source_id.in_(some)))
        others = sa.select(SourceMagnitude.source_id).where(SourceMagnitude.source_id == Source.source_id)
        for some in _chunks(self.gone):
            session.execute(sa.delete(Source).where(Source.source_id.in_(some), ~others.exists()))
        session.execute(
            sa.delete(SourceLink).where(
                SourceLink.catalogue_id == self.catalogue_id, SourceLink.source_id.not_in(sa.select(Source.source_id))
            )
        )
        for some in _chunks(self.rows[-1].columns["source_id"]):
            session.execute(sa.delete(SourceLink).where(SourceLink.catalogue_id == self.catalogue_id, SourceLink.source_id.in_(some)))
        if self.mine is not None:
            session.execute(sa.update(Source).where(Source.task_id == self.mine).values(task_id=task_id))
        if len(self.changed["source_id"]):
            session.execute(sa.update(Source), _records(self.changed))
        return [rows for rows in self.rows if len(rows.columns["source_id"])]


def _chunks(ids: IntArray) -> Iterator[list[int]]:
    for start in range(0, len(ids), _CHUNK):
        yield ids[start : start + _CHUNK].tolist()


def _records(columns: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One mapping a row, NaN as NULL."""
    n = len(columns["source_id"])
    lists = [[value] * n if np.ndim(value) == 0 else np.asarray(value).tolist() for value in columns.values()]
    clean = [[None if value != value else value for value in column] for column in lists]
    return [dict(zip(columns, row, strict=True)) for row in zip(*clean, strict=True)]
