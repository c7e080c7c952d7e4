"""Closing nights by hand: what their frames have in common is made for good, and their measurements go into the order of the sources.

Full partitions are frozen.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.engine import reachable
from db.errors import ConfigurationError, StarledgerError
from db.keys import now
from db.storage import settle
from db.tables import Night, NightClosing, ProvisionalResult, Task
from reduction.pipeline.declaration import Step, Unit
from reduction.pipeline.open_nights import open_nights
from reduction.pipeline.scheduler import Tally
from starledger.archive import Archive
from starledger.patience import patience
from starledger.reduce import reduce

__all__ = ["close_nights", "nights_open"]


class _Closed:
    """Who is told how the work goes: the nights that were closed."""

    def __init__(self) -> None:
        self.nights: list[int] = []

    def begin(self, step: Step, pending: int) -> None: ...

    def advance(self, step: Step, unit: Unit[Any], error: StarledgerError | None) -> None:
        if step.name != "source_order":
            return  # a frame that cannot be used is one that cannot be used: the archive says so, and the night is closed
        if error is not None:
            raise error
        self.nights.append(int(unit.key))

    def again(self, step: Step, chance: str, units: int) -> None: ...

    def end(self, step: Step, _tally: Tally) -> None: ...


def close_nights(archive: Archive, nights: Sequence[str] = (), *, jobs: int = 1) -> list[str]:
    """Close nights: those named, whether or not they are over; all that are over where none is named.

    What is provisional is made of the whole night, and frames that this changes are measured anew. That a person closed a night is
    written down first: a run that ends on the way is finished by the next one.

    Parameters
    ----------
    archive : Archive
        Any.
    nights : sequence of str
        Their evenings, ISO dates.
    jobs : int
        Processes; 0: one a processor.

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
    with archive.only_writer(wait=patience()), reachable(archive.engine.url):
        _say_closed(archive, [evenings[night] for night in nights])
    reduce(archive, nights=[evenings[night] for night in nights], reporter=closed, jobs=jobs)
    with archive.only_writer(), reachable(archive.engine.url):
        settle(archive.writer, (now().date() - dt.date(2000, 1, 1)).days)
    return [evening for evening, night_id in sorted(evenings.items()) if night_id in closed.nights]


def _say_closed(archive: Archive, nights: Sequence[int]) -> None:
    """Write down that a person closes nights."""
    with archive.writer.begin() as connection:
        for night_id in nights:
            connection.execute(sa.delete(NightClosing).where(NightClosing.night_id == night_id))
            connection.execute(sa.insert(NightClosing).values(night_id=night_id, by_hand=1, closed=now()))


def nights_open(archive: Archive) -> dict[str, int]:
    """Evenings of the nights that are open, or have results that are provisional still, and the number of these."""
    number = (
        sa.select(ProvisionalResult.night_id, sa.func.count())
        .join(Task, Task.task_id == ProvisionalResult.task_id)
        .where(ProvisionalResult.final_task_id.is_(None), Task.status == "done")
        .group_by(ProvisionalResult.night_id)
    )
    with reachable(archive.engine.url), Session(archive.engine) as session:
        counts = dict.fromkeys(sorted(open_nights(session)), 0)
        counts |= {night_id: int(n) for night_id, n in session.execute(number)}
        evenings = sa.select(Night.night_id, Night.evening).where(Night.night_id.in_(counts)).order_by(Night.night_id)
        return {str(evening): counts[night_id] for night_id, evening in session.execute(evenings)}
