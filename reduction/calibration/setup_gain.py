"""What the nights of a set-up say of its gain together, and when a night that has one takes a better one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from sqlalchemy.orm import Session

from db.calibration import Origin
from db.tables import Detector
from reduction.calibration.kernels.combined_gain import Gain, combined_gain

__all__ = ["NightNoise", "revisions", "setup_gain"]

#: With a gain that is known so well errors are right to half as much: the night keeps it.
_GOOD = 0.1
#: Before that it takes one whose error is this part of its own.
_BETTER = 0.5

#: Set-up, channel and night.
_Where = tuple[int, str, int]


@dataclass(frozen=True)
class NightNoise:
    """What a night says of the gain of its set-up.

    Attributes
    ----------
    gain, gain_err : float or None
        Measured on it, electron/ADU.
    level, variance : float or None
        Of its sky, ADU and ADU**2, from differences of frames.
    """

    gain: float | None
    gain_err: float | None
    level: float | None
    variance: float | None


def _combined(nights: Mapping[int, NightNoise]) -> Gain | None:
    """By inverse variance, in the order of the nights."""
    rows = [nights[night] for night in sorted(nights)]
    names = ("gain", "gain_err", "level", "variance")
    return combined_gain(*(np.array([getattr(row, name) for row in rows], dtype=float) for name in names))


def setup_gain(session: Session, where: _Where, kept: Mapping[Path, NightNoise]) -> Gain | None:
    """The gain of a set-up and channel, from the nights that were measured before and those that are worked now.

    Parameters
    ----------
    session : Session
        Reads.
    where : (int, str, int)
        Set-up, channel and night.
    kept : mapping
        What is worked now, under ``setup/channel/night``.
    """
    nights = _settled(session, where[:2]).get(where[:2], {})
    folder = Path(str(where[0]), where[1])
    nights |= {int(path.name): found for path, found in kept.items() if path.parent == folder}
    return _combined(nights)


def _settled(session: Session, place: tuple[int, str] | None = None) -> dict[tuple[int, str], dict[int, NightNoise]]:
    """What nights measured that were worked, by set-up and channel, then by night."""
    query = sa.select(Detector.setup_id, Detector.channel, Detector.night_id)
    query = query.add_columns(Detector.own_gain, Detector.own_gain_err, Detector.sky_level, Detector.sky_variance)
    if place is not None:
        query = query.where(Detector.setup_id == place[0], Detector.channel == place[1])
    found: dict[tuple[int, str], dict[int, NightNoise]] = {}
    for row in session.execute(query):
        noise = NightNoise(row.own_gain, row.own_gain_err, row.sky_level, row.sky_variance)
        found.setdefault((row.setup_id, row.channel), {})[row.night_id] = noise
    return found


def revisions(session: Session) -> dict[_Where, str]:
    """Of each night, the gain of its set-up for which it was made anew, or is to be, as text that enters its hash; without the others.

    A gain that was assumed, or is known to no better than 10 %, gives way to one that is known twice as well, and to no other: so a
    night is made anew three times at most, and most never.
    """
    together = {place: _combined(nights) for place, nights in _settled(session).items()}
    query = sa.select(Detector.setup_id, Detector.channel, Detector.night_id, Detector.gain_revision)
    query = query.add_columns(Detector.gain, Detector.gain_err, Detector.gain_origin).where(Detector.gain_origin != Origin.GIVEN)
    found: dict[_Where, str] = {}
    for row in session.execute(query):
        known = row.gain_err / row.gain if row.gain_err is not None else math.inf
        now = together[row.setup_id, row.channel]
        better = now is not None and known > _GOOD and now.error / now.value < _BETTER * known
        revision = f"{now.value:.6g}" if better and now is not None else row.gain_revision
        if revision is not None:
            found[row.setup_id, row.channel, row.night_id] = revision
    return found
