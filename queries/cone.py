"""Sources in a cone on the sky."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db.sky import cone as cone_query
from queries.dataframe import data_frame

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CONE_COLUMNS", "cone", "cone_rows"]

#: Columns of a cone: unit and meaning.
CONE_COLUMNS: dict[str, tuple[str, str]] = {
    "source_id": ("", "Source"),
    "ra": ("deg", "Right ascension, ICRS, at `epoch`"),
    "dec": ("deg", "Declination, ICRS, at `epoch`"),
    "epoch": ("yr", "Epoch of the position, Julian year"),
    "pmra": ("mas/yr", "Proper motion in right ascension times cos(dec)"),
    "pmdec": ("mas/yr", "Proper motion in declination"),
    "fit_mag": ("mag", "Magnitude used in fits: the catalogue's, else from the frames"),
    "fit_colour": ("mag", "Colour used in fits"),
    "colour_measured": ("", "1 when fit_colour was measured, 0 when assumed"),
    "origin": ("", "'catalogue' or 'discovered'"),
    "separation": ("arcsec", "Distance from the centre of the cone"),
}


def cone(connection: Connection, ra: float, dec: float, radius: float, *, limit: int | None = None) -> pd.DataFrame:
    """Sources within `radius` of a position, nearest first.

    Parameters
    ----------
    connection : Connection
        To the archive.
    ra, dec, radius : float
        Centre (ICRS) and radius in degrees.
    limit : int, optional
        Return no more than the nearest so many.

    Returns
    -------
    pandas.DataFrame
        The columns of `CONE_COLUMNS`; no rows where there is no source.

    Raises
    ------
    ConfigurationError
        For a position or radius that cannot be.
    """
    frame = data_frame(cone_rows(connection, ra, dec, radius, limit=limit), list(CONE_COLUMNS))
    return frame.astype({name: "float64" for name, (unit, _) in CONE_COLUMNS.items() if unit} | {"source_id": "int64"})


def cone_rows(connection: Connection, ra: float, dec: float, radius: float, *, limit: int | None = None) -> Sequence[sa.Row[Any]]:
    """What `cone` gives, as rows of the database."""
    found = cone_query(ra, dec, radius)
    query = sa.select(*(found.c[name] for name in CONE_COLUMNS)).order_by(found.c.separation, found.c.source_id)
    return connection.execute(query.limit(limit) if limit is not None else query).all()
