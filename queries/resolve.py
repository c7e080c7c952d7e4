"""From what a person types to a source: an id, a target's name, a catalogue's name or a position."""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db.errors import ConfigurationError
from db.sky import nearest_source
from db.tables import Source, SourceLink, SourceName, Target
from queries.cone import cone_rows
from queries.position import is_position, parse_position

__all__ = ["Found", "resolve", "resolve_position"]

#: Widening circles in which the nearest sources are looked for when none is near enough, in degrees.
_CIRCLES = (0.02, 0.2, 2.0, 20.0, 180.0)
_GAIA_NAME = re.compile(r"gaia\s*(?:e?dr\d\s*)?(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """A source that was asked for.

    Attributes
    ----------
    source_id : int
    ra, dec : degree, ICRS
    mag : mag
        The magnitude used in fits.
    name : str or None
        Target's or catalogue's name, where it has one.
    separation : arcsec or None
        Distance from the position asked for; None when it was asked for by id or name.
    """

    source_id: int
    ra: float
    dec: float
    mag: float
    name: str | None = None
    separation: float | None = None


def resolve(connection: Connection, what: str | int, *, radius: float = 10.0) -> Found:
    """The source meant by `what`.

    Parameters
    ----------
    connection : Connection
        To the archive.
    what : str or int
        A source id; a target's name or a catalogue's name, in any case; or "RA DEC" in degrees or sexagesimal.
    radius : float
        Arcsec around a position in which a source is taken for the one meant.

    Returns
    -------
    Found

    Raises
    ------
    ConfigurationError
        When nothing is meant by it, or no source is near enough; it then says what is near.
    """
    text = " ".join(str(what).split())
    number = re.fullmatch(r"\d{1,19}", text)
    found = (_by_id(connection, int(text)) if number else None) or _by_target(connection, text, radius) or _by_name(connection, text)
    if found is not None:
        return found
    if number:
        raise ConfigurationError(f"no source with the id {text}", hint='give a name or a position "RA DEC"', code="source.unknown")
    if is_position(text):
        return resolve_position(connection, *parse_position(text), radius=radius)
    close = difflib.get_close_matches(text.lower(), (name.lower() for name in connection.execute(sa.select(Target.name)).scalars()), n=3)
    likely = f"do you mean {', '.join(repr(name) for name in close)}? Else " if close else ""
    raise ConfigurationError(
        f"{text!r} is no source id, target, catalogue name or position",
        hint=likely + "see 'starledger target list', or give \"RA DEC\" in degrees or sexagesimal",
        code="source.unknown",
    )


def resolve_position(connection: Connection, ra: float, dec: float, *, radius: float = 10.0, name: str | None = None) -> Found:
    """The nearest source with a light curve within `radius` (arcsec) of a position in degrees, else the nearest at all.

    Raises
    ------
    ConfigurationError
        When no source is near enough; the message names the three nearest.
    """
    source_id = nearest_source(connection, ra, dec, radius / 3600.0)
    if source_id is None:
        raise _nothing_near(connection, ra, dec, radius, name)
    row = next(row for row in cone_rows(connection, ra, dec, radius / 3600.0) if row.source_id == source_id)
    name = name or _name_of(connection, source_id)
    return Found(source_id, float(row.ra), float(row.dec), _mag(row.fit_mag), name, float(row.separation))


def _by_id(connection: Connection, source_id: int, name: str | None = None) -> Found | None:
    if source_id >= 2**63:
        return None
    query = sa.select(Source.source_id, Source.ra, Source.dec, Source.fit_mag).where(Source.source_id == source_id)
    row = connection.execute(query).first()
    if row is None:
        # A star that was found on the frames before Gaia's number for it was known keeps its own.
        linked = connection.execute(sa.select(SourceLink.source_id).where(SourceLink.gaia_id == source_id).limit(1)).scalar()
        return None if linked is None else _by_id(connection, linked, name)
    return Found(*row, name or _name_of(connection, source_id))


def _name_of(connection: Connection, source_id: int) -> str | None:
    for column, of in ((Target.name, Target.source_id), (SourceName.name, SourceName.source_id)):
        name = connection.execute(sa.select(column).where(of == source_id).order_by(column).limit(1)).scalar()
        if name is not None:
            return str(name)
    return None


def _by_target(connection: Connection, text: str, radius: float) -> Found | None:
    query = sa.select(Target.name, Target.ra, Target.dec, Target.source_id)
    row = connection.execute(query.where(sa.func.lower(Target.name) == text.lower()).order_by(Target.name != text)).first()
    if row is None:
        return None
    linked = _by_id(connection, row.source_id, row.name) if row.source_id is not None else None
    return linked or resolve_position(connection, row.ra, row.dec, radius=radius, name=row.name)


def _by_name(connection: Connection, text: str) -> Found | None:
    query = sa.select(SourceName.source_id, SourceName.name)
    # The name as written is answered from the key; only another spelling has to read all names.
    for condition in (SourceName.name == text, sa.func.lower(SourceName.name) == text.lower()):
        row = connection.execute(query.where(condition).order_by(SourceName.source_id)).first()
        if row is not None:
            return _by_id(connection, row.source_id, row.name)
    gaia = _GAIA_NAME.fullmatch(text)
    return _by_id(connection, int(gaia[1]), text) if gaia else None


def _nothing_near(connection: Connection, ra: float, dec: float, radius: float, name: str | None) -> ConfigurationError:
    for circle in _CIRCLES:
        nearest = cone_rows(connection, ra, dec, circle, limit=3)
        if len(nearest) == 3:
            break
    what = f"{name}: " if name else ""
    where = f"no source within {radius:g} arcsec of {ra:.5f} {dec:+.5f}"
    if not nearest:
        return ConfigurationError(what + where, hint="the archive has no sources yet", code="source.none_near")
    listed = ", ".join(f"{row.source_id} at {_angle(row.separation)} (mag {_mag(row.fit_mag):.2f})" for row in nearest)
    return ConfigurationError(what + where, hint=f"nearest: {listed}; choose one, or raise --radius", code="source.none_near")


def _mag(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _angle(arcsec: float) -> str:
    return f"{arcsec:.1f} arcsec" if arcsec < 600 else f"{arcsec / 3600:.2f} deg"
