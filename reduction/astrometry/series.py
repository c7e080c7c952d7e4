"""Frames of one pointing that follow each other: one of them is solved blindly, for all of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.tables import Classification, DetectionSummary, Exposure, FirstSolution, Frame
from reduction.astrometry.detections import stars_of
from reduction.astrometry.kernels.alike import alike
from reduction.astrometry.kernels.failure_causes import count_stars
from reduction.kernels.arrays import FloatArray
from reduction.pipeline.declaration import Context

__all__ = ["leaders"]

#: Frames of a series that one blind solution is meant for; so many are looked at on either side.
_REACH = 50
#: By how much (degree) pointings in headers of one series differ at most.
_POINTING = 1.0


@dataclass(frozen=True)
class _Seen:
    """What tells whether a frame shows what another does, and how good it is."""

    x: FloatArray
    y: FloatArray
    n_star: int
    size: tuple[int, int]
    said: tuple[str | None, float | None, float | None]


def leaders(context: Context, frame: Frame) -> list[int]:
    """frame_id of the frames that show the same stars as this one and are not solved, or only blindly, the fittest first.

    Parameters
    ----------
    context : Context
    frame : Frame
        Of the channel of its exposure that is solved.

    Notes
    -----
    Frames before and after it are of its series as long as each shows the stars of the one next to it, and its header says no other
    object or place. What is fit has as many stars as the better half of the series: neither clouds, nor a storm of cosmic rays. That
    some were solved blindly meanwhile has no say, so that the outcome does not depend on the order of work.
    """
    numbers = _in_time(context.session, frame)
    place = numbers.index(frame.frame_id)
    series = [frame.frame_id]
    for side in (numbers[place + 1 : place + 1 + _REACH], numbers[max(place - _REACH, 0) : place][::-1]):
        last = frame.frame_id
        for number in side:
            if not _same(context, last, number):
                break
            series.append(number)
            last = number
    count = {number: _seen(context, number).n_star for number in series}
    usual = float(np.quantile(list(count.values()), 0.75))
    solved = sa.select(FirstSolution.frame_id).where(FirstSolution.frame_id.in_(series), FirstSolution.start.not_like("blind%"))
    left = set(series) - set(context.session.execute(solved).scalars())
    return sorted(left, key=lambda number: (abs(count[number] - usual), number))


def _in_time(session: Session, frame: Frame) -> list[int]:
    """The object frames of the night, instrument and channel."""
    query = (
        sa.select(Frame.frame_id)
        .join(Classification, Classification.frame_id == Frame.frame_id)
        .join(DetectionSummary, DetectionSummary.frame_id == Frame.frame_id)
        .where(Frame.night_id == frame.night_id, Frame.instrument_id == frame.instrument_id, Frame.channel == frame.channel)
        .where(sa.or_(Classification.type == "object", Frame.frame_id == frame.frame_id))
        .order_by(Frame.jd_utc, Frame.frame_id)
    )
    return list(session.execute(query).scalars())


def _same(context: Context, one: int, two: int) -> bool:
    """Whether two frames show the same stars; found out once in a process."""
    key = Path(f"alike {min(one, two)} {max(one, two)}")
    if key not in context.kept:
        a, b = _seen(context, one), _seen(context, two)
        context.kept[key] = a.size == b.size and _no_other_place(a.said, b.said) and alike(a.x, a.y, b.x, b.y, a.size)
    found: bool = context.kept[key]
    return found


def _no_other_place(one: tuple[Any, ...], two: tuple[Any, ...]) -> bool:
    """Whether two headers may speak of the same pointing."""
    if None not in (one[0], two[0]) and one[0] != two[0]:
        return False
    if None in (*one[1:], *two[1:]):
        return True
    d_ra = (one[1] - two[1] + 180.0) % 360.0 - 180.0
    return bool(np.hypot(d_ra * np.cos(np.radians(one[2])), one[2] - two[2]) < _POINTING)


def _seen(context: Context, number: int) -> _Seen:
    key = Path(f"stars {number}")
    if key not in context.kept:
        frame = context.session.get_one(Frame, number)
        exposure = context.session.get_one(Exposure, frame.exposure_id)
        stars = stars_of(context.session, frame)
        shaped = np.flatnonzero(np.isfinite(stars.fwhm))[:100]
        said = (exposure.object_name, exposure.pointing_ra, exposure.pointing_dec)
        context.kept[key] = _Seen(stars.x[shaped], stars.y[shaped], count_stars(stars), (frame.nx, frame.ny), said)
    found: _Seen = context.kept[key]
    return found
