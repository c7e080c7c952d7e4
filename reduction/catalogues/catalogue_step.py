"""Step catalogue: a catalogue file becomes `source` rows with their magnitudes and names."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.errors import ConfigurationError
from db.keys import next_id
from db.path_text import escaped
from db.tables import Catalogue, Source, SourceLink, SourceMagnitude, SourceName, Task
from reduction.astrometry.kernels.wcs import unit_vectors
from reduction.catalogues.columns import BANDS, left_aside, recognise, stars_of
from reduction.catalogues.doubles import RADIUS, without_doubles
from reduction.catalogues.intake import circle_of, take_in
from reduction.catalogues.tables import catalogue_bytes, read_table, require_catalogue
from reduction.pipeline.declaration import Context, Output, Rows, Unit, parameter, step

__all__ = ["CatalogueParameters", "catalogue"]


#: Columns left aside that are named; the rest are counted.
_LISTED = 12


@dataclass(frozen=True)
class CatalogueParameters:
    """How a catalogue file is read."""

    epoch: float = parameter(
        2000.0, "yr", "epoch of the positions, where neither a column nor the file's metadata says it", least=1800, most=2200
    )
    match_radius: float = parameter(2.0, "arcsec", "a row this close to a known source is the same star", above=0, most=60)


def _plan(context: Context, _: CatalogueParameters) -> list[Unit[None]]:
    files = {}
    for name in context.settings.get("catalogues", ()):
        path = Path(name).expanduser().absolute()
        require_catalogue(path)
        files[hashlib.sha256(catalogue_bytes(path)).hexdigest()] = path
    for row in context.session.execute(sa.select(Catalogue.sha256, Catalogue.path).where(Catalogue.kind == "file")):
        files.setdefault(row.sha256, Path(row.path))
    mapping = json.dumps(context.settings.get("catalogue_columns", {}), sort_keys=True)
    return [Unit(key, path.name, facts=f"{key}\n{mapping}", path=str(path)) for key, path in files.items()]


@step(
    "catalogue",
    plan=_plan,
    parameters=CatalogueParameters,
    version=3,
    writes=(Catalogue, Source, SourceLink, SourceMagnitude, SourceName),
)
def catalogue(context: Context, unit: Unit[None], p: CatalogueParameters) -> Output:
    """Take in a catalogue file: sources with positions, proper motions, magnitudes, colours and names."""
    path = Path(str(unit.path))
    table = read_table(path)
    if len(table) == 0:
        raise ConfigurationError("no rows", where=str(path), hint="give a catalogue with at least one star", code="catalogue.empty")
    found = recognise(table.colnames, context.settings.get("catalogue_columns", {}), str(path))
    stars, n_joined, n_close = without_doubles(stars_of(table, found, p.epoch, str(path)))
    session = context.session
    catalogue_id = session.execute(sa.select(Catalogue.catalogue_id).where(Catalogue.sha256 == unit.key)).scalar()
    catalogue_id = catalogue_id or next_id(session, Catalogue.catalogue_id)
    taken = take_in(session, stars, catalogue_id, p.match_radius, mine=_earlier(session, unit.key))
    ra, dec, radius = circle_of(unit_vectors(stars.ra, stars.dec))
    row = {
        "catalogue_id": catalogue_id,
        "kind": "file",
        "name": escaped(path.name),
        "path": str(path),
        "sha256": unit.key,
        "n_source": taken.n,
        "ra": ra,
        "dec": dec,
        "radius": radius,
        "epoch": float(np.median(stars.epoch)),
        "columns": json.dumps(found, sort_keys=True),
    }
    said = [f"{taken.n} stars, {taken.n_new} new"]
    if taken.n_linked:
        said.append(f"{taken.n_linked} known from the frames")
    if n_joined:
        said.append(f"{n_joined} rows joined with another of the same star")
    if n_close:
        said.append(f"{n_close} pairs within {RADIUS:g} arcsec kept as two stars")
    said.append(f"magnitudes: {', '.join(f'{found[band]} as {_said(band)}' for band in BANDS if band in found) or 'none'}")
    aside = left_aside(table, found)
    if aside:
        more = f" and {len(aside) - _LISTED} more" if len(aside) > _LISTED else ""
        said.append(f"left aside: {', '.join(aside[:_LISTED])}{more} ([catalogue_columns] says what columns are)")
    return Output(rows=[Rows(Catalogue, row, upsert=True)], finish=taken.write, remark="; ".join(said))


def _said(band: str) -> str:
    """A band with its system, for people."""
    return f"{BANDS[band][1]} {band}"


def _earlier(session: Session, key: str) -> int | None:
    """The task of an earlier reading of the same file, where it made sources."""
    query = sa.select(Source.task_id).join(Task, Task.task_id == Source.task_id).where(Task.step == "catalogue", Task.unit == key)
    return session.execute(query.limit(1)).scalar()
