"""Which nights are over: those whose measurements no frame is added to any more, as far as a clock can tell."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.keys import now
from db.tables import Exposure, Frame, Night, NightClosing, Observatory, OpenMeasurement
from reduction.frames.kernels.times import night_number
from reduction.pipeline.inputs import Said

__all__ = ["NightsOver", "julian_date", "nights_over", "nights_to_close", "over_now"]

#: Julian date of 1970-01-01 00:00, where Unix time begins.
_UNIX_JD = 2440587.5


@dataclass(frozen=True, init=False)
class NightsOver(Said):
    """Nights with measurements that are over, by the clock or by a person's word."""

    def __init__(self) -> None:
        super().__init__((Night, NightClosing, Exposure, Frame, Observatory, OpenMeasurement))

    def digest(self, session: Session, settings: Mapping[str, Any]) -> str:
        """Their numbers."""
        return f"{nights_to_close(session, settings)}"


def nights_to_close(session: Session, settings: Mapping[str, Any]) -> list[int]:
    """Nights with open measurements that are to be closed: those that a person names, else those that are over now or were closed.

    Parameters
    ----------
    session : Session
        Reads.
    settings : mapping
        "nights" are those named, if any.
    """
    there = sa.exists().where(OpenMeasurement.night_id == Night.night_id)
    opened = list(session.execute(sa.select(Night.night_id).where(there).order_by(Night.night_id)).scalars())
    wanted = set(settings.get("nights", ())) or over_now(session, opened)
    return [night for night in opened if night in wanted]


def julian_date() -> float:
    """The present (UTC)."""
    return _julian_date(now())


def _julian_date(at: dt.datetime) -> float:
    return _UNIX_JD + at.replace(tzinfo=dt.UTC).timestamp() / 86400.0


def over_now(session: Session, nights: Collection[int]) -> set[int]:
    """Those of some nights that are over now, or that a person closed before: no frame is expected of them."""
    by_hand = sa.select(NightClosing.night_id).where(NightClosing.night_id.in_(nights), NightClosing.by_hand == 1)
    return set(session.execute(by_hand).scalars()) | nights_over(session, nights, now())


def nights_over(session: Session, nights: Collection[int], at: dt.datetime) -> set[int]:
    """Those of some nights that are over: local mean solar noon has come to every observatory that has frames of them.

    Parameters
    ----------
    session : Session
        Reads.
    nights : collection of int
        night_id of each.
    at : datetime
        The present, UTC, without a zone.
    """
    # The westernmost observatory is the last; an unknown one may be anywhere, and its noon come as late as at the date line.
    query = (
        sa.select(Frame.night_id, sa.func.min(sa.func.coalesce(Observatory.longitude, -180.0)))
        .join(Exposure, Exposure.exposure_id == Frame.exposure_id)
        .join(Observatory, Observatory.observatory_id == Exposure.observatory_id, isouter=True)
        .where(Frame.night_id.in_(nights))
        .group_by(Frame.night_id)
    )
    jd = _julian_date(at)
    return {night for night, longitude in session.execute(query) if int(night_number(jd, longitude)) > night}
