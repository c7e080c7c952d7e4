"""Reading sources around a frame, with proper motion applied, and projecting them onto it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.fetch import fetch_arrays
from db.sky import cone
from db.tables import Source
from reduction.astrometry.kernels.wcs import apply_proper_motion
from reduction.kernels.arrays import FloatArray

__all__ = ["SourceTable", "julian_year", "sources_near"]


@dataclass(frozen=True)
class SourceTable:
    """Sources as arrays of one length, in the order of source_id; ra and dec (deg) at the asked epoch."""

    source_id: npt.NDArray[np.int64]
    ra: FloatArray
    dec: FloatArray
    mag: FloatArray
    colour: FloatArray
    colour_measured: npt.NDArray[np.bool_]
    fold: npt.NDArray[np.int64]
    catalogued: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.source_id)


def julian_year(jd: float) -> float:
    """Julian year of a Julian date."""
    return 2000.0 + (jd - 2451545.0) / 365.25


def sources_near(session: Session, ra: float, dec: float, radius: float, epoch: float, *, catalogued_only: bool = False) -> SourceTable:
    """Sources within `radius` degrees of a position, at a Julian year."""
    conditions = (Source.origin == "catalogue",) if catalogued_only else ()
    found = cone(ra, dec, radius, *conditions)
    names = ("source_id", "ra", "dec", "pmra", "pmdec", "epoch", "fit_mag", "fit_colour", "colour_measured", "fold")
    columns = [found.c[name] for name in names] + [sa.case((found.c.origin == "catalogue", 1), else_=0)]
    query = sa.select(*columns).order_by(found.c.source_id)
    values = fetch_arrays(session.connection(), query, kinds="ifffffffiii")
    ids, at_ra, at_dec, pmra, pmdec, since, mag, colour, measured, fold, catalogued = values
    at_ra, at_dec = apply_proper_motion(at_ra, at_dec, pmra, pmdec, since, epoch)
    return SourceTable(ids, at_ra, at_dec, mag, colour, measured > 0, fold, catalogued > 0)
