"""What is handed out with units: the tables and time series of astropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import astropy.units as u
import pandas as pd
from astropy.coordinates import SkyCoord
from astropy.table import MaskedColumn, QTable
from astropy.time import Time
from astropy.timeseries import TimeSeries
from astropy.units import Quantity

from db.errors import ConfigurationError
from db.views import TARGET_COLUMNS, VIEW_COLUMNS
from queries.cone import CONE_COLUMNS, cone
from queries.joined_curve import JOINED_COLUMNS
from queries.position import parse_position
from queries.target_curve import NIGHT_COLUMNS

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from queries.lightcurve import Curve
    from queries.target_curve import TargetCurve

__all__ = ["cone_around", "cone_table", "degrees", "position", "quantities", "target_series", "target_table", "time_series"]


def quantities(frame: pd.DataFrame, columns: Mapping[str, tuple[str, str]]) -> QTable:
    """A data frame as a QTable with the units and descriptions of `columns`."""
    table = QTable()
    for name, (unit, text) in columns.items():
        column = frame[name]
        if isinstance(column.dtype, pd.Int64Dtype):
            table[name] = MaskedColumn(column.fillna(0).to_numpy(dtype="int64"), mask=column.isna().to_numpy(), description=text)
            continue
        values = column.to_numpy(dtype=str if pd.api.types.is_string_dtype(column) else None)
        table[name] = values * u.Unit(unit) if unit else values
        table[name].info.description = text
    return table


def time_series(curve: Curve) -> TimeSeries:
    """A light curve as a TimeSeries: `time` is BJD_TDB, then every column of the view with its unit; `meta` says where it comes from."""
    time = Time(curve.frame["bjd_tdb"].to_numpy(), format="jd", scale="tdb")
    columns = {**VIEW_COLUMNS, **JOINED_COLUMNS} if "scale" in curve.columns else VIEW_COLUMNS
    series = TimeSeries(time=time, data=quantities(curve.frame, columns))
    series.meta.update(curve.meta)
    return series


def target_series(curve: TargetCurve) -> TimeSeries:
    """The light curve of a target, likewise; whole numbers that are not known are masked."""
    time = Time(curve.frame["bjd_tdb"].to_numpy(), format="jd", scale="tdb")
    series = TimeSeries(time=time, data=quantities(curve.frame, TARGET_COLUMNS))
    series.meta.update(curve.meta)
    return series


def target_table(curve: TargetCurve, *, per_night: bool = False) -> QTable:
    """The points of a target's light curve, or its nights, with units; `meta` says where they come from."""
    table = quantities(curve.nights, NIGHT_COLUMNS) if per_night else quantities(curve.frame, TARGET_COLUMNS)
    table.meta.update(curve.meta)
    return table


def cone_table(frame: pd.DataFrame, ra: float, dec: float, radius: float) -> QTable:
    """Sources in a cone as a QTable; centre and radius (deg) are in `meta`."""
    table = quantities(frame, CONE_COLUMNS)
    table.meta.update(ra=ra, dec=dec, radius=radius)
    return table


def cone_around(connection: Connection, coord: SkyCoord | str, radius: Quantity | float) -> QTable:
    """Sources around a position, given as astropy's or as text, as from `cone_table`.

    Raises
    ------
    ConfigurationError
        There are several positions, or it is none.
    """
    ra, dec = parse_position(coord) if isinstance(coord, str) else position(coord)
    size = degrees(radius)
    return cone_table(cone(connection, ra, dec, size), ra, dec, size)


def position(coord: SkyCoord) -> tuple[float, float]:
    """Right ascension and declination (deg, ICRS) of one position.

    Raises
    ------
    ConfigurationError
        There are several.
    """
    if not coord.isscalar:
        raise ConfigurationError(f"{len(coord)} positions", hint="give one at a time", code="position.many")
    place = coord.icrs
    return float(place.ra.deg), float(place.dec.deg)


def degrees(angle: Quantity | float) -> float:
    """An angle in degrees; a plain number is degrees already."""
    return float(angle.to_value(u.deg)) if isinstance(angle, Quantity) else float(angle)
