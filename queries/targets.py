"""The stars that people follow."""

from __future__ import annotations

import datetime as dt
import math

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.errors import ConfigurationError
from db.tables import Target
from queries.cone import cone
from queries.frames import data_frame
from queries.resolve import has_light_curve

__all__ = ["add_target", "link_targets", "list_targets"]


def add_target(
    session: Session,
    name: str,
    ra: float,
    dec: float,
    *,
    epoch: float | None = None,
    period: float | None = None,
    duration: float | None = None,
    radius: float = 10.0,
) -> Target:
    """Add a target, linked to its source where one is near.

    Parameters
    ----------
    session : Session
        The caller commits.
    name : str
        Its name, unlike any other's whatever the case.
    ra, dec : float
        Position in degrees, ICRS.
    epoch : float, optional
        A mid-transit or maximum, BJD_TDB.
    period, duration : float, optional
        Days.
    radius : float
        Arcsec within which a source is taken for it.

    Returns
    -------
    Target

    Raises
    ------
    ConfigurationError
        For a name that is taken, empty or a number, a position off the sky, or an ephemeris that cannot be.
    """
    name = " ".join(name.split())
    _check_name(session, name)
    _check_numbers(ra, dec, epoch, period, duration)
    number = int(session.execute(sa.select(sa.func.coalesce(sa.func.max(Target.target_id), 0))).scalar_one()) + 1
    created = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    target = Target(
        target_id=number, name=name, ra=ra % 360.0, dec=dec, epoch=epoch, period=period, duration=duration, created=created, source_id=None
    )
    session.add(target)
    target.source_id = _nearest(session, target, radius)
    session.flush()
    return target


def link_targets(session: Session, *, radius: float = 10.0) -> int:
    """Link every target to the nearest source within `radius` (arcsec), one with a light curve first.

    Returns
    -------
    int
        Number of targets whose source changed. The caller commits.
    """
    changed = 0
    for target in session.execute(sa.select(Target).order_by(Target.target_id)).scalars():
        nearest = _nearest(session, target, radius)
        if nearest is not None and nearest != target.source_id:
            target.source_id = nearest
            changed += 1
    session.flush()
    return changed


def list_targets(session: Session) -> pd.DataFrame:
    """All targets by name: name, ra, dec, source_id, epoch, period and duration."""
    columns = (Target.name, Target.ra, Target.dec, Target.source_id, Target.epoch, Target.period, Target.duration)
    rows = session.execute(sa.select(*columns).order_by(Target.name)).all()
    frame = data_frame(rows, [column.key for column in columns])
    return frame.astype({"source_id": "Int64", "epoch": float, "period": float, "duration": float})


def _nearest(session: Session, target: Target, radius: float) -> int | None:
    connection = session.connection()
    ids = cone(connection, target.ra, target.dec, radius / 3600.0)["source_id"].tolist()
    return next((int(source_id) for source_id in ids if has_light_curve(connection, source_id)), int(ids[0]) if ids else None)


def _check_name(session: Session, name: str) -> None:
    if not name or name.isdigit() or len(name) > 64:
        raise ConfigurationError(
            "a target's name has 1 to 64 characters and is not a number", where=repr(name), hint="give another name", code="target.name"
        )
    if session.execute(sa.select(Target.target_id).where(sa.func.lower(Target.name) == name.lower())).first() is not None:
        raise ConfigurationError(
            "there is a target of this name", where=repr(name), hint="see 'starledger target list'", code="target.exists"
        )


def _check_numbers(ra: float, dec: float, epoch: float | None, period: float | None, duration: float | None) -> None:
    given = [value for value in (epoch, period, duration) if value is not None]
    if not (math.isfinite(ra) and abs(dec) <= 90.0 and all(math.isfinite(value) for value in given)):
        raise ConfigurationError(f"no such position or ephemeris: {ra:g} {dec:g} {given}", hint="give finite numbers", code="target.value")
    if (period is not None and period <= 0) or (duration is not None and duration <= 0):
        raise ConfigurationError(
            "period and duration are days above 0", where=f"{period} {duration}", hint="give days", code="target.value"
        )
    if period is not None and duration is not None and duration >= period:
        raise ConfigurationError(
            f"a duration of {duration:g} d is not shorter than the period of {period:g} d", hint="both are in days", code="target.value"
        )
