"""The stars that people follow."""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.errors import ConfigurationError
from db.keys import next_id, now
from db.sky import nearest_source
from db.tables import Target, TargetMeasurement
from queries.dataframe import data_frame

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["add_target", "check_name", "list_targets", "remove_target", "target_named"]

#: Characters of the columns that say where something is from.
_ORIGIN = 160


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
    position_from: str | None = None,
    ephemeris_from: str | None = None,
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
        A mid-transit, or a maximum or minimum of a variable, BJD_TDB.
    period, duration : float, optional
        Days.
    radius : float
        Arcsec within which a source is taken for it; see `db.sky.nearest_source`.
    position_from, ephemeris_from : str, optional
        Service and reference; cut to what the columns hold. None: a person gave it.

    Returns
    -------
    Target

    Raises
    ------
    ConfigurationError
        For a name that is taken, empty or a number, a position off the sky, or an ephemeris that cannot be.
    """
    name = check_name(session, name)
    _check_numbers(ra, dec, epoch, period, duration)
    target = Target(
        target_id=next_id(session, Target.target_id),
        name=name,
        ra=ra % 360.0,
        dec=dec,
        source_id=nearest_source(session, ra, dec, radius / 3600.0),
        epoch=epoch,
        period=period,
        duration=duration,
        created=now(),
        position_from=None if position_from is None else position_from[:_ORIGIN],
        ephemeris_from=None if ephemeris_from is None else ephemeris_from[:_ORIGIN],
    )
    session.add(target)
    session.flush()
    return target


def list_targets(session: Session) -> pd.DataFrame:
    """All targets by name: name, ra, dec, source_id, epoch, period, duration and ephemeris_from."""
    ephemeris = (Target.epoch, Target.period, Target.duration, Target.ephemeris_from)
    columns = (Target.name, Target.ra, Target.dec, Target.source_id, *ephemeris)
    rows = session.execute(sa.select(*columns).order_by(Target.name)).all()
    frame = data_frame(rows, [column.key for column in columns])
    return frame.astype({"source_id": "Int64", "epoch": float, "period": float, "duration": float})


def check_name(session: Session, name: str) -> str:
    """The name as it is kept, single-spaced.

    Raises
    ------
    ConfigurationError
        For one that is taken whatever the case, empty, too long or a number.
    """
    name = " ".join(name.split())
    if not name or name.isdigit() or len(name) > 64:
        raise ConfigurationError(
            "a target's name has 1 to 64 characters and is not a number", where=repr(name), hint="give another name", code="target.name"
        )
    if session.execute(sa.select(Target.target_id).where(sa.func.lower(Target.name) == name.lower())).first() is not None:
        raise ConfigurationError(
            "there is a target of this name", where=repr(name), hint="see 'starledger target list'", code="target.exists"
        )
    return name


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


def target_named(session: Session, name: str) -> Target:
    """The target of a name, whatever the case.

    Raises
    ------
    ConfigurationError
        When there is none.
    """
    wanted = " ".join(name.split()).lower()
    found = session.execute(sa.select(Target).where(sa.func.lower(Target.name) == wanted).order_by(Target.target_id)).scalars().first()
    if found is None:
        close = difflib.get_close_matches(wanted, (one.lower() for one in session.execute(sa.select(Target.name)).scalars()), n=3)
        likely = f"do you mean {', '.join(repr(one) for one in close)}? Else " if close else ""
        raise ConfigurationError(
            "there is no target of this name", where=repr(name), hint=f"{likely}see 'starledger target list'", code="target.unknown"
        )
    return found


def remove_target(session: Session, name: str) -> Target:
    """Remove a target and its measurements.

    Parameters
    ----------
    session : Session
        The caller commits.
    name : str
        Its name, whatever the case.

    Raises
    ------
    ConfigurationError
        When there is none of this name.
    """
    target = target_named(session, name)
    session.execute(sa.delete(TargetMeasurement).where(TargetMeasurement.target_id == target.target_id))
    session.delete(target)
    session.flush()
    return target
