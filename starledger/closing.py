"""Closing nights by hand: their measurements go into the order of the sources, and full partitions are frozen."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from db.engine import reachable
from db.errors import ConfigurationError, StarledgerError
from db.keys import now
from db.storage import settle
from db.tables import Night
from reduction.pipeline.declaration import Step, Unit
from reduction.pipeline.scheduler import Tally
from starledger.archive import Archive
from starledger.reduce import reduce

__all__ = ["close_nights"]


class _Closed:
    """Who is told how the work goes: the nights that were closed."""

    def __init__(self) -> None:
        self.nights: list[int] = []

    def begin(self, step: Step, pending: int) -> None: ...

    def advance(self, _step: Step, unit: Unit[Any], error: StarledgerError | None) -> None:
        if error is not None:
            raise error
        self.nights.append(int(unit.key))

    def end(self, step: Step, _tally: Tally) -> None: ...


def close_nights(archive: Archive, nights: Sequence[str] = ()) -> list[str]:
    """Close nights: those named, whether or not they are over; all that are over where none is named.

    Parameters
    ----------
    archive : Archive
        Any.
    nights : sequence of str
        Their evenings, ISO dates.

    Returns
    -------
    list of str
        Evenings of the nights that had measurements to move.

    Raises
    ------
    ConfigurationError
        When the archive has no frame of such a night.
    """
    with reachable(archive.engine.url), archive.engine.connect() as connection:
        evenings = {str(evening): int(night_id) for night_id, evening in connection.execute(sa.select(Night.night_id, Night.evening))}
    for night in nights:
        if night not in evenings:
            raise ConfigurationError(
                f"no frame of the night of {night}", hint="give the evening's local date, such as 2017-12-19", code="night.unknown"
            )
    closed = _Closed()
    reduce(archive, steps=["extract"], nights=[evenings[night] for night in nights], reporter=closed)
    with archive.only_writer(), reachable(archive.engine.url):
        settle(archive.writer, (now().date() - dt.date(2000, 1, 1)).days)
    return [evening for evening, night_id in sorted(evenings.items()) if night_id in closed.nights]
