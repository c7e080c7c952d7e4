"""What the Python face hands out: time series and tables with units, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import astropy.units as u
import pandas as pd
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from astropy.time import Time
from astropy.timeseries import TimeSeries
from astropy.units import Quantity
from sqlalchemy.engine import Connection, Engine

from db.errors import ConfigurationError, NothingToDo
from db.flags import FLAG_TEXT
from db.views import VIEW_COLUMNS
from queries.cone import CONE_COLUMNS
from queries.cone import cone as cone_frame
from queries.lightcurve import light_curve as curve_frame
from queries.lightcurve import slot_text
from queries.position import parse_position
from queries.resolve import Found, resolve, resolve_position
from queries.sql import sql_frame

__all__ = ["cone", "find", "find_curve", "light_curve", "provenance", "quantities", "sql"]


def find(connection: Connection, what: str | int | SkyCoord, radius: float = 10.0) -> Found:
    """The source meant by an id, a name or a position (str or SkyCoord; nearest within `radius` arcsec)."""
    if isinstance(what, SkyCoord):
        place = _single(what)
        return resolve_position(connection, place.ra.deg, place.dec.deg, radius=radius)
    return resolve(connection, what, radius=radius)


def find_curve(
    engine: Engine, what: str | int | SkyCoord, *, slot: int | None = None, radius: float = 10.0
) -> tuple[Found, pd.DataFrame, dict[str, Any]]:
    """The source, the rows of its light curve, and where they come from.

    Raises
    ------
    ConfigurationError
        When `what` means no source.
    NothingToDo
        When the source has no light curve (in that slot).
    """
    with engine.connect() as connection:
        found = find(connection, what, radius)
        frame = curve_frame(connection, found.source_id, slot=slot)
        if frame.empty:
            which = f"source {found.source_id}" + (f" ({found.name})" if found.name else "")
            in_slot = "" if slot is None else f" in slot {slot}"
            raise NothingToDo(
                f"no light curve of {which}{in_slot}",
                hint="see 'starledger status': was its field measured and fitted?",
                code="lightcurve.empty",
            )
        return found, frame, provenance(connection, found, frame)


def light_curve(engine: Engine, what: str | int | SkyCoord, *, slot: int | None = None, radius: float = 10.0) -> TimeSeries:
    """The light curve as a TimeSeries: `time` is BJD_TDB, then every column of the view with its unit; see `find_curve`."""
    _, frame, meta = find_curve(engine, what, slot=slot, radius=radius)
    table = quantities(frame, VIEW_COLUMNS)
    series = TimeSeries(time=Time(frame["bjd_tdb"].to_numpy(), format="jd", scale="tdb"), data=table)
    series.meta.update(meta)
    return series


def cone(engine: Engine, coord: SkyCoord | str, radius: Quantity | float) -> QTable:
    """Sources within `radius` (an angle, or degrees) of a position, nearest first, with units."""
    if isinstance(coord, SkyCoord):
        place = _single(coord)
        ra, dec = float(place.ra.deg), float(place.dec.deg)
    else:
        ra, dec = parse_position(coord)
    degrees = float(radius.to_value(u.deg)) if isinstance(radius, Quantity) else float(radius)
    with engine.connect() as connection:
        frame = cone_frame(connection, ra, dec, degrees)
    table = quantities(frame, CONE_COLUMNS)
    table.meta.update(ra=ra, dec=dec, radius=degrees)
    return table


def sql(engine: Engine, text: str, parameters: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Rows of one statement that reads; nothing can be written."""
    return sql_frame(engine, text, parameters)


def quantities(frame: pd.DataFrame, columns: Mapping[str, tuple[str, str]]) -> QTable:
    """A data frame as a QTable with the units and descriptions of `columns`."""
    table = QTable()
    for name, (unit, text) in columns.items():
        values = frame[name].to_numpy(dtype=str if pd.api.types.is_string_dtype(frame[name]) else None)
        table[name] = values * u.Unit(unit) if unit else values
        table[name].info.description = text
    return table


def provenance(connection: Connection, found: Found, frame: pd.DataFrame) -> dict[str, Any]:
    """Where a light curve comes from: source, slots and references, archive, and the meaning of its flags."""
    slots = sorted(set(zip(frame["field_id"].tolist(), frame["slot"].tolist(), strict=True)))
    return {
        "source_id": found.source_id,
        "name": found.name or "",
        "ra": found.ra,
        "dec": found.dec,
        "separation": found.separation,
        "slots": {f"field {field}, slot {slot}": slot_text(connection, field, slot) for field, slot in slots},
        "references": sorted(int(value) for value in frame["ref_id"].unique()),
        "passbands": sorted(str(value) for value in frame["passband"].unique()),
        "n_point": len(frame),
        "n_mag": int(frame["mag"].notna().sum()),
        "archive": connection.engine.url.render_as_string(hide_password=True),
        "time": "BJD_TDB, mid-exposure",
        "quality": "0 good, 1 flagged in the pixels, 2 masked by a person",
        "flags": {int(flag): f"{flag.name}: {text}" for flag, text in FLAG_TEXT.items()},
    }


def _single(coord: SkyCoord) -> SkyCoord:
    if not coord.isscalar:
        raise ConfigurationError(f"{len(coord)} positions", hint="give one at a time", code="position.many")
    return coord.icrs
