"""What is handed out with units: the tables and time series of astropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import astropy.units as u
import pandas as pd
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from astropy.time import Time
from astropy.timeseries import TimeSeries
from astropy.units import Quantity

from db.errors import ConfigurationError
from db.views import VIEW_COLUMNS
from queries.cone import CONE_COLUMNS

if TYPE_CHECKING:
    from queries.lightcurve import Curve

__all__ = ["cone_table", "degrees", "position", "quantities", "time_series"]


def quantities(frame: pd.DataFrame, columns: Mapping[str, tuple[str, str]]) -> QTable:
    """A data frame as a QTable with the units and descriptions of `columns`."""
    table = QTable()
    for name, (unit, text) in columns.items():
        values = frame[name].to_numpy(dtype=str if pd.api.types.is_string_dtype(frame[name]) else None)
        table[name] = values * u.Unit(unit) if unit else values
        table[name].info.description = text
    return table


def time_series(curve: Curve) -> TimeSeries:
    """A light curve as a TimeSeries: `time` is BJD_TDB, then every column of the view with its unit; `meta` says where it comes from."""
    time = Time(curve.frame["bjd_tdb"].to_numpy(), format="jd", scale="tdb")
    series = TimeSeries(time=time, data=quantities(curve.frame, VIEW_COLUMNS))
    series.meta.update(curve.meta)
    return series


def cone_table(frame: pd.DataFrame, ra: float, dec: float, radius: float) -> QTable:
    """Sources in a cone as a QTable; centre and radius (deg) are in `meta`."""
    table = quantities(frame, CONE_COLUMNS)
    table.meta.update(ra=ra, dec=dec, radius=radius)
    return table


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
