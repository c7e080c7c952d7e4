"""Step catalogue: a catalogue file becomes `source` rows with their magnitudes and names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from astropy.table import Table
from sqlalchemy.orm import Session

from db.bulk import fetch_columns
from db.errors import ConfigurationError
from db.keys import next_id
from db.tables import Catalogue, Source, SourceMagnitude, SourceName, Task
from reduction.kernels.colours import assumed_colour, fit_colour, fit_magnitude
from reduction.kernels.identity import fold_of, healpix29, match_sky, new_source_ids, unit_vectors
from reduction.kernels.wcs import apply_proper_motion
from reduction.step import Context, Output, Rows, Unit, parameter, step

__all__ = ["EPOCH", "CatalogueParameters", "catalogue", "source_columns"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: Julian year that the archive keeps positions at.
EPOCH = 2016.0

#: Column names understood without a mapping, in lower case.
_NAMES: dict[str, tuple[str, ...]] = {
    "ra": ("ra", "ra_icrs", "raj2000", "_ra", "ra_deg"),
    "dec": ("dec", "de_icrs", "dej2000", "_de", "dec_deg"),
    "pmra": ("pmra", "pm_ra", "pmra_cosdec"),
    "pmdec": ("pmdec", "pmde", "pm_dec"),
    "epoch": ("ref_epoch", "epoch"),
    "gaia": ("gaia_dr3", "gaia_id", "source_id", "gaia"),
    "tyc": ("tyc", "tyc2", "tycho"),
    "hip": ("hip",),
}
#: Band or colour -> column names and system.
_BANDS: dict[str, tuple[tuple[str, ...], str]] = {
    "G": (("g", "phot_g_mean_mag", "gmag", "g_mag"), "Gaia"),
    "BP": (("bp", "phot_bp_mean_mag", "bpmag"), "Gaia"),
    "RP": (("rp", "phot_rp_mean_mag", "rpmag"), "Gaia"),
    "B": (("b", "bmag"), "Johnson"),
    "V": (("v", "vmag"), "Johnson"),
    "BT": (("bt", "btmag"), "Tycho"),
    "VT": (("vt", "vtmag"), "Tycho"),
    "B-V": (("bv", "b-v", "b_v"), "Johnson"),
    "BP-RP": (("bp_rp",), "Gaia"),
}
_PREFIX = {"tyc": "TYC", "hip": "HIP"}


@dataclass(frozen=True)
class CatalogueParameters:
    """How a catalogue file is read."""

    epoch: float = parameter(2000.0, "yr", "epoch of the positions, where neither a column nor the file's metadata says it")
    match_radius: float = parameter(2.0, "arcsec", "a row this close to a known source is the same star")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _plan(context: Context, _: CatalogueParameters) -> list[Unit]:
    files = {}
    for name in context.settings.get("catalogues", ()):
        path = Path(name).expanduser().absolute()
        if not path.is_file():
            raise ConfigurationError("no such catalogue file", where=str(path), hint="check --catalogue", code="catalogue.missing")
        files[_sha256(path)] = path
    for row in context.session.execute(sa.select(Catalogue.sha256, Catalogue.path)):
        files.setdefault(row.sha256, Path(row.path))
    mapping = json.dumps(context.settings.get("catalogue_columns", {}), sort_keys=True)
    return [Unit(key, path.name, facts=f"{key}\n{mapping}", payload={"path": str(path)}) for key, path in files.items()]


@step(
    "catalogue",
    per="catalogue",
    plan=_plan,
    parameters=CatalogueParameters,
    reads=(Catalogue, Source, Task),
    writes=(Catalogue, Source, SourceMagnitude, SourceName),
)
def catalogue(context: Context, unit: Unit, p: CatalogueParameters) -> Output:
    """Take in a catalogue file: sources with positions, proper motions, magnitudes, colours and names."""
    path = Path(unit.payload["path"])
    table = _read(path)
    found = _columns(table, context.settings.get("catalogue_columns", {}), path)
    position = _positions(table, found, p, path)
    magnitudes, colours = _photometry(table, found)
    session = context.session
    before = sa.select(Source.task_id).join(Task, Task.task_id == Source.task_id).where(Task.step == "catalogue", Task.unit == unit.key)
    mine = session.execute(before.limit(1)).scalar()  # each reading replaces all rows of the one before
    ids, new = _identify(session, table, found, position, p, mine)
    catalogue_id = session.execute(sa.select(Catalogue.catalogue_id).where(Catalogue.sha256 == unit.key)).scalar()
    catalogue_id = catalogue_id or next_id(session, Catalogue.catalogue_id)
    centre = position["vectors"].mean(axis=0)
    centre /= np.linalg.norm(centre)
    rows = [
        Rows(
            Catalogue,
            {
                "catalogue_id": catalogue_id,
                "name": path.name,
                "path": str(path),
                "sha256": unit.key,
                "n_source": len(ids),
                "ra": float(np.degrees(np.arctan2(centre[1], centre[0])) % 360),
                "dec": float(np.degrees(np.arcsin(centre[2]))),
                "radius": float(np.degrees(np.arccos(np.clip((position["vectors"] @ centre).min(), -1, 1)))),
                "epoch": float(np.median(position["epoch"])),
                "columns": json.dumps(found, sort_keys=True),
            },
            upsert=True,
        ),
        _source_rows(ids, new, position, magnitudes, colours, mine),
        _magnitude_rows(ids, catalogue_id, {**magnitudes, **colours}),
        _name_rows(session, table, found, ids, catalogue_id),
    ]
    return Output(rows=rows, remark=f"{len(ids)} stars, {int(new.sum())} new")


def _read(path: Path) -> Table:
    try:
        if path.suffix.lower() in (".csv", ".txt"):
            return Table.read(path, format="ascii.csv")
        return Table.read(path)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"cannot be read as a table ({str(error).splitlines()[0]})",
            where=str(path),
            hint="give ECSV, CSV, FITS or VOTable with columns ra and dec",
            code="catalogue.format",
        ) from error


def _columns(table: Table, mapping: Mapping[str, str], path: Path) -> dict[str, str]:
    """Which column is taken as what: the user's mapping first, then names understood."""
    unknown = sorted(set(mapping) - set(_NAMES) - set(_BANDS))
    if unknown:
        known = ", ".join([*_NAMES, *_BANDS])
        raise ConfigurationError(f"no quantity {unknown[0]!r}", where="[catalogue_columns]", hint=f"known are: {known}", code="config.key")
    lower = {name.lower(): name for name in table.colnames}
    found = {}
    for what, names in {**_NAMES, **{band: names for band, (names, _) in _BANDS.items()}}.items():
        wanted = (mapping[what].lower(),) if what in mapping else names
        column = next((lower[name] for name in wanted if name in lower), None)
        if what in mapping and column is None:
            raise ConfigurationError(
                f"no column {mapping[what]!r}", where=str(path), hint="mend [catalogue_columns]", code="catalogue.column"
            )
        if column is not None:
            found[what] = column
    for what in ("ra", "dec"):
        if what not in found:
            raise ConfigurationError(
                f"no column for {what} among {', '.join(table.colnames)}",
                where=str(path),
                hint=f'name it in the configuration: [catalogue_columns] {what} = "..."',
                code="catalogue.column",
            )
    return found


def _values(table: Table, name: str) -> FloatArray:
    return np.asarray(np.ma.filled(np.ma.asarray(table[name]).astype(float), np.nan), dtype=float)


def _positions(table: Table, found: Mapping[str, str], p: CatalogueParameters, path: Path) -> dict[str, FloatArray]:
    ra, dec = _values(table, found["ra"]), _values(table, found["dec"])
    if len(ra) == 0 or not np.isfinite(ra).all() or not np.isfinite(dec).all() or (np.abs(dec) > 90).any():
        raise ConfigurationError(
            "empty, or positions missing or beyond the poles", where=str(path), hint="ra and dec must be degrees", code="catalogue.position"
        )
    pm = {k: np.nan_to_num(_values(table, found[k])) if k in found else np.zeros(len(ra)) for k in ("pmra", "pmdec")}
    epoch = np.full(len(ra), float(table.meta.get("epoch", p.epoch)))
    if "epoch" in found:
        epoch = np.where(np.isfinite(_values(table, found["epoch"])), _values(table, found["epoch"]), epoch)
    ra, dec = apply_proper_motion(ra, dec, pm["pmra"], pm["pmdec"], epoch, EPOCH)
    return {"ra": ra, "dec": dec, "epoch": epoch, "vectors": unit_vectors(ra, dec), **pm}


def _photometry(table: Table, found: Mapping[str, str]) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Magnitudes and colours by band; fillers (0 or beyond 40 mag, BP = RP = 0) become NaN."""
    values = {band: _values(table, found[band]) for band in _BANDS if band in found}
    if "BP" in values and "RP" in values:
        filler = (values["BP"] == 0.0) & (values["RP"] == 0.0)
        values["BP"][filler] = values["RP"][filler] = np.nan
    for band, column in values.items():
        column[np.abs(column) > 40] = np.nan
        if not np.isfinite(column).any():
            values[band] = np.full(len(column), np.nan)
    magnitudes = {band: column for band, column in values.items() if "-" not in band}
    colours = {band: column for band, column in values.items() if "-" in band}
    return magnitudes, colours


def _identify(
    session: Session, table: Table, found: Mapping[str, str], position: Mapping[str, FloatArray], p: CatalogueParameters, mine: int | None
) -> tuple[IntArray, npt.NDArray[np.bool_]]:
    """Each row's source_id, and whether its source row is this file's to write.

    `mine` is the task of an earlier reading of the same file: its sources are read anew. A star that the frames revealed first
    keeps its identifier when a catalogue turns out to know it: its measurements carry it.
    """
    ra, dec, vectors = position["ra"], position["dec"], position["vectors"]
    query = sa.select(Source.source_id, sa.case((Source.origin == "discovered", 1), else_=0), Source.ux, Source.uy, Source.uz).where(
        Source.dec.between(float(dec.min()) - 0.01, float(dec.max()) + 0.01), Source.task_id != (mine or 0)
    )
    known_ids, discovered, ux, uy, uz = fetch_columns(session.execute(query), "iifff")
    gaia = _gaia(table, found)
    near = match_sky(vectors, np.column_stack([ux, uy, uz]), p.match_radius)
    ids = gaia.copy()
    same = (near >= 0) & ((gaia == 0) | (discovered[near] > 0)) if len(known_ids) else np.zeros(len(ids), dtype=bool)
    ids[same] = known_ids[near[same]]
    ids[same & ~_first(ids)] = 0  # two rows at one source: the first is that source
    blank = ids == 0
    ids[blank] = new_source_ids(ra[blank], dec[blank], np.concatenate([known_ids, ids[~blank]]))
    return ids, ~np.isin(ids, known_ids)


def _gaia(table: Table, found: Mapping[str, str]) -> IntArray:
    """Gaia's identifiers; 0 where there is none, or the number is another catalogue's own, or a second row's."""
    if "gaia" not in found:
        return np.zeros(len(table), dtype=np.int64)
    column = np.ma.filled(np.ma.asarray(table[found["gaia"]]), 0).astype(np.int64)
    gaia = np.where((column > 0) & (column % 128 == 0), column, 0)
    gaia[~_first(gaia)] = 0
    return gaia


def _first(values: IntArray) -> npt.NDArray[np.bool_]:
    """Where each value stands for the first time."""
    first = np.zeros(len(values), dtype=bool)
    first[np.unique(values, return_index=True)[1]] = True
    return first


def source_columns(
    ids: npt.NDArray[np.int64],
    ra: FloatArray,
    dec: FloatArray,
    mag: FloatArray,
    colour: FloatArray,
    measured: npt.NDArray[np.bool_],
    origin: str,
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


def _source_rows(
    ids: npt.NDArray[np.int64],
    new: npt.NDArray[np.bool_],
    position: Mapping[str, FloatArray],
    magnitudes: Mapping[str, FloatArray],
    colours: Mapping[str, FloatArray],
    replaced: int | None,
) -> Rows:
    n = len(ids)
    mag = fit_magnitude(magnitudes) if magnitudes else np.full(n, np.nan)
    measured = fit_colour(magnitudes, colours) if magnitudes or colours else np.full(n, np.nan)
    has_colour = np.isfinite(measured)
    colour = np.where(has_colour, measured, assumed_colour(mag, mag, measured))
    faintest = np.nanmax(mag) if np.isfinite(mag).any() else 15.0
    mag = np.where(np.isfinite(mag), mag, faintest)
    columns = source_columns(ids, position["ra"], position["dec"], mag, colour, has_colour, "catalogue")
    columns.update(pmra=position["pmra"], pmdec=position["pmdec"])
    replace = {"task_id": replaced} if replaced is not None else None
    return Rows(Source, {name: value[new] if np.ndim(value) else value for name, value in columns.items()}, replace=replace)


def _magnitude_rows(ids: npt.NDArray[np.int64], catalogue_id: int, values: Mapping[str, FloatArray]) -> Rows:
    picks = [(band, np.flatnonzero(np.isfinite(column))) for band, column in values.items()]
    # One typed array a column: an identifier that passes through float64 is another identifier.
    rows = np.concatenate([k for _, k in picks]) if picks else np.zeros(0, dtype=np.int64)
    bands = np.array([band for band, k in picks for _ in k], dtype=object)
    return Rows(
        SourceMagnitude,
        {
            "source_id": ids[rows],
            "catalogue_id": catalogue_id,
            "band": bands,
            "value": np.array([values[band][k] for band, k in zip(bands, rows, strict=True)], dtype=float),
            "system": np.array([_BANDS[band][1] for band in bands], dtype=object),
        },
        replace={"catalogue_id": catalogue_id},
    )


def _name_rows(session: Session, table: Table, found: Mapping[str, str], ids: npt.NDArray[np.int64], catalogue_id: int) -> Rows:
    query = sa.select(SourceName.name).where(SourceName.catalogue_id != catalogue_id)
    taken = set(session.execute(query).scalars())
    names: dict[str, int] = {}
    for what, prefix in _PREFIX.items():
        if what not in found:
            continue
        column = table[found[what]]
        for source_id, value in zip(ids.tolist(), np.ma.filled(np.ma.asarray(column).astype(str), ""), strict=True):
            name = f"{prefix} {value}".strip()
            if value not in ("", "0", "--") and name not in taken:
                names.setdefault(name, source_id)
    columns = {
        "name": np.array(list(names), dtype=object),
        "source_id": np.array(list(names.values()), dtype=np.int64),
        "catalogue_id": catalogue_id,
    }
    return Rows(SourceName, columns, replace={"catalogue_id": catalogue_id})
