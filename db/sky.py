"""Cones on the sky: a few HEALPix ranges answered from the index, then an exact cut."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from db.catalogues import Source
from db.errors import ConfigurationError
from db.lightcurves import BestSlot

__all__ = ["cone", "healpix_ranges", "nearest_source"]

_ORDER = 29
#: More ranges cost more in planning than they save in reading.
_MAX_RANGES = 32


def healpix_ranges(ra: float, dec: float, radius: float) -> list[tuple[int, int]]:
    """Ranges [first, last] of order-29 nested pixels that cover a cone.

    Parameters
    ----------
    ra, dec, radius : float
        Centre and radius in degrees; any right ascension, declination from -90 to 90, radius up to 180.

    Returns
    -------
    list of (int, int)
        At most 32 ranges, ascending and disjoint; together they hold the whole cone, and a little more.
    """
    import hpgeom  # a tenth of a second: only who asks for a place on the sky waits for it

    radius = max(radius, 1e-6)
    # Pixels of about half the radius: a few dozen of them cover the cone.
    size = radius / 2
    order = int(np.clip(math.floor(math.log2(58.6 / size)), 0, _ORDER - 2))
    pixels = np.unique(hpgeom.query_circle(2**order, ra % 360.0, dec, radius, inclusive=True, nest=True, lonlat=True, degrees=True))
    shift = 2 * (_ORDER - order)
    first = pixels.astype(np.int64) << shift
    last = ((pixels.astype(np.int64) + 1) << shift) - 1
    starts = np.flatnonzero(np.r_[True, first[1:] != last[:-1] + 1])
    ranges = [(int(first[i]), int(last[j])) for i, j in zip(starts, np.r_[starts[1:], len(first)] - 1, strict=True)]
    while len(ranges) > _MAX_RANGES:
        # Close the smallest gap: a few pixels more are read, and cut exactly afterwards.
        gaps = [ranges[k + 1][0] - ranges[k][1] for k in range(len(ranges) - 1)]
        k = int(np.argmin(gaps))
        ranges[k : k + 2] = [(ranges[k][0], ranges[k + 1][1])]
    return ranges


def cone(ra: float, dec: float, radius: float, *conditions: sa.ColumnElement[bool]) -> sa.Subquery:
    """Sources within `radius` degrees of a position: source rows with `separation` (arcsec).

    Parameters
    ----------
    ra, dec, radius : float
        Degrees; any right ascension, declination from -90 to 90, radius from 0 to 180.
    *conditions
        Further conditions on `Source`.

    Raises
    ------
    ConfigurationError
        For a declination, radius or number that cannot be.
    """
    if not (math.isfinite(ra) and abs(dec) <= 90.0 and 0.0 <= radius <= 180.0):
        raise ConfigurationError(
            f"no cone of radius {radius:g} deg at RA {ra:g}, Dec {dec:g}",
            hint="declination lies within -90 and 90 deg, the radius within 0 and 180",
            code="position.range",
        )
    a, d = math.radians(ra), math.radians(dec)
    vx, vy, vz = math.cos(d) * math.cos(a), math.cos(d) * math.sin(a), math.sin(d)
    source: Any = Source.__table__
    chord2 = (source.c.ux - vx) * (source.c.ux - vx) + (source.c.uy - vy) * (source.c.uy - vy) + (source.c.uz - vz) * (source.c.uz - vz)
    # Rounding must not lose the antipode, nor a source at the centre of a cone of radius 0.
    limit = (2.0 * math.sin(math.radians(radius) / 2.0)) ** 2 + 1e-30 if radius < 180.0 else 5.0
    pieces = [
        sa.select(*source.c, chord2.label("chord2")).where(source.c.healpix.between(first, last), chord2 <= limit, *conditions)
        for first, last in healpix_ranges(ra, dec, radius)
    ]
    inside = (sa.union_all(*pieces) if len(pieces) > 1 else pieces[0]).subquery()
    half = sa.case((inside.c.chord2 < 4.0, sa.func.sqrt(inside.c.chord2) / 2.0), else_=1.0)
    separation = 2.0 * sa.func.asin(half) * (180.0 / math.pi * 3600.0)
    return sa.select(*(c for c in inside.c if c.name != "chord2"), separation.label("separation")).subquery()


def nearest_source(bind: Connection | Session, ra: float, dec: float, radius: float) -> int | None:
    """The source that a position means: the nearest one with a light curve, or the nearest at all where none has one.

    Parameters
    ----------
    bind : Connection or Session
        To the archive.
    ra, dec, radius : float
        Degrees, as for `cone`.

    Returns
    -------
    int or None
        Its source_id; None when there is none within `radius`.
    """
    found = cone(ra, dec, radius)
    latest = sa.table("latest_reference", sa.column("reference_id"))
    has_curve = sa.exists().where(BestSlot.source_id == found.c.source_id, BestSlot.reference_id == latest.c.reference_id)
    order = (sa.case((has_curve, 0), else_=1), found.c.separation, found.c.source_id)
    return bind.execute(sa.select(found.c.source_id).order_by(*order).limit(1)).scalar()
