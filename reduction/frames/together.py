"""What the frames of one camera say only together: when its nights change, how fine its clock is, how soon the next exposure begins.

A frame is taken in by itself; this is worked out before, from the headers of all that are taken in and from what is in the archive of
the days around them. An interrupted run, which finds some of them there, comes to the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from astropy.io import fits
from sqlalchemy.orm import Session

from db.errors import FrameUnusable
from db.tables import Exposure, Frame
from reduction.files.contents import read_bytes
from reduction.files.convert import format_of, read_header
from reduction.files.exif import exif_header, read_exif
from reduction.frames.cameras import may_be_of, one_camera
from reduction.frames.kernels.night_change import night_change
from reduction.headers.facts import Facts, facts
from reduction.headers.instrument import InstrumentDefinition, definitions_from, identify
from reduction.pipeline.declaration import Context, Unit

__all__ = ["WHOLE_SECOND", "Together", "told_together"]

WHOLE_SECOND = 0.3
"""Seconds that the times of a clock are uncertain by that gives whole seconds, whatever zeros are written behind them: 1 / sqrt(12)."""

#: What a file may do that cannot be read: taking it in will fail in the same way, and be recorded there.
_UNREADABLE = (FrameUnusable, OSError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError, MemoryError)
_AROUND = 1.5  # days to either side of new frames that those of the archive count
_ENOUGH_ZEROS = 3  # all of them by chance: once in a thousand
_WHOLE = 2e-4  # s; a Julian date of one float is true to 0.04 ms
_SAME_START = 1.0 / 86400.0  # days; the same exposure in another file, whose time was rounded
_DAY = 86400.0
_START = {"start": -0.5, "mid": 0.0, "end": 0.5}
_SOURCE = re.compile(r"(?P<keyword>.+) \((?P<at>start|mid|end), [^)]*\)(?!.*, clock)")


@dataclass(frozen=True)
class Together:
    """For one file, what its set says.

    Attributes
    ----------
    longitude : float or None
        Degrees east by which its night is told, where its own header does not say.
    time_sigma : float
        Least uncertainty of its time, s.
    notes : tuple of str
        Doubts, each one sentence.
    """

    longitude: float | None = None
    time_sigma: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Shot:
    """One exposure: of a file that is taken in now (`key`), or of the archive (`night`)."""

    key: str | None
    mid: float
    exptime: float
    source: str
    sigma: float
    zeros: int
    unplaced: bool
    night: int | None = None

    @property
    def start(self) -> float:
        return self.mid - self.exptime / 2.0 / _DAY


def told_together(context: Context, units: Sequence[Unit[Any]]) -> list[Unit[Any]]:
    """Units of ingest, each with a `Together` as its payload."""
    definitions = definitions_from(context.settings)
    sets: list[tuple[Facts, list[_Shot]]] = []
    for unit in units:
        found = _facts(Path(str(unit.path)), definitions)
        if found is None:
            continue
        mine = next((shots for first, shots in sets if one_camera(first, found)), None)
        if mine is None:
            mine = []
            sets.append((found, mine))
        mine.append(_shot(unit.key, found))
    told: dict[str, Together] = {}
    taken = {unit.key for unit in units}
    for first, new in sets:
        told |= _of_set(new, _known(context.session, may_be_of(context.session, first), new, taken))
    return [replace(unit, payload=told.get(unit.key, Together())) for unit in units]


def _facts(path: Path, definitions: Iterable[InstrumentDefinition]) -> Facts | None:
    try:
        header = exif_header(read_exif(read_bytes(path))) if format_of(path) == "camera" else read_header(path)
        return facts(header, identify(header, definitions), _shape(header), path)
    except _UNREADABLE:
        return None


def _shape(header: fits.Header) -> tuple[int, int]:
    return int(header.get("NAXIS2", 1)), int(header.get("NAXIS1", 1))


def _shot(key: str, found: Facts) -> _Shot:
    mid, unplaced = found.mid_jd1 + found.mid_jd2, found.night_longitude is None
    return _Shot(key, mid, found.exptime, found.time_source, found.time_sigma, found.time_zeros, unplaced)


def _known(session: Session, instruments: Sequence[int], new: Sequence[_Shot], taken: set[str]) -> list[_Shot]:
    """Exposures of the camera in the archive, of the days around the new ones, without those that are taken in again."""
    first, last = min(shot.mid for shot in new) - _AROUND, max(shot.mid for shot in new) + _AROUND
    query = (
        sa.select(Exposure.sha256, Exposure.observatory_id, Exposure.notes)
        .add_columns(Frame.jd_utc, Frame.exptime, Frame.time_source, Frame.time_sigma, Frame.night_id)
        .join(Exposure, Exposure.exposure_id == Frame.exposure_id)
        .where(
            Frame.instrument_id.in_(instruments),
            Exposure.duplicate_of.is_(None),
            Frame.jd_utc.between(first, last),
            Frame.channel.in_(("mono", "G1")),
        )
        .order_by(Frame.jd_utc, Frame.frame_id)
    )
    return [_archived(row) for row in session.execute(query) if row.sha256 not in taken]


def _archived(row: Any) -> _Shot:
    found = _SOURCE.match(row.time_source)
    written = 0.5 if found is None else (row.jd_utc + _START[found["at"]] * row.exptime / _DAY) * _DAY % 1.0
    whole = min(written, 1.0 - written) < _WHOLE
    digits = _ENOUGH_ZEROS if row.time_sigma >= WHOLE_SECOND else max(0, round(-math.log10(2.0 * max(row.time_sigma, 1e-9))))
    unplaced = row.observatory_id is None and _CHANGE in (row.notes or "")
    return _Shot(None, row.jd_utc, row.exptime, row.time_source, row.time_sigma, digits if whole else 0, unplaced, row.night_id)


#: How the note begins that says when nights change.
_CHANGE = "no longitude and no local clock: nights change at"


def _of_set(new: Sequence[_Shot], known: Sequence[_Shot]) -> dict[str, Together]:
    longitude, nights = _nights(new, known)
    coarse = _whole_seconds([*new, *known])
    starts = np.sort(np.array([shot.start for shot in (*new, *known)]))
    told = {}
    for shot in new:
        notes = [nights] if shot.unplaced and nights is not None else []
        sigma = WHOLE_SECOND if _clock(shot) in coarse and shot.zeros else 0.0
        if sigma > shot.sigma:
            notes.append(f"every time of {_clock(shot)} is a whole second: known to {sigma:g} s")
        notes += _overlap(shot, starts)
        told[str(shot.key)] = Together(longitude if shot.unplaced else None, sigma, tuple(notes))
    return told


def _nights(new: Sequence[_Shot], known: Sequence[_Shot]) -> tuple[float | None, str | None]:
    """Longitude for the frames without one, and the note that says so; noon at Greenwich needs none, where it parts no night."""
    unplaced = [shot for shot in new if shot.unplaced]
    if not unplaced:
        return None, None
    placed = [shot for shot in known if shot.unplaced]
    longitude, hour = night_change([s.mid for s in unplaced], [s.mid for s in placed], [s.night or 0 for s in placed])
    minutes = round(60.0 * hour) % 1440
    return longitude, f"{_CHANGE} {minutes // 60:02d}:{minutes % 60:02d} UTC, within the longest gap between the frames"


def _clock(shot: _Shot) -> str:
    """Keyword and clock of a time: "DATE-OBS"."""
    found = _SOURCE.match(shot.source)
    return shot.source if found is None else found["keyword"]


def _whole_seconds(shots: Sequence[_Shot]) -> set[str]:
    """Clocks all of whose times are whole seconds with zeros behind them, too many for chance."""
    zeros: dict[str, list[int]] = {}
    for shot in shots:
        zeros.setdefault(_clock(shot), []).append(shot.zeros)
    return {name for name, digits in zeros.items() if all(digits) and sum(digits) >= _ENOUGH_ZEROS}


def _overlap(shot: _Shot, starts: np.ndarray[Any, Any]) -> list[str]:
    """A note where the camera began the next exposure long before this one could be over."""
    later = starts[np.searchsorted(starts, shot.start + _SAME_START, side="right") :]
    gap = float(later[0] - shot.start) * _DAY if len(later) else math.inf
    if shot.exptime <= 1.05 * gap + 1.0 + 2.0 * shot.sigma:
        return []
    hint = "milliseconds" if shot.exptime / 1000.0 <= gap else "another unit"
    said = f"an exposure time of {shot.exptime:g} s, and the next exposure begins {gap:.4g} s after this one"
    return [f"{said}: is it in {hint}? Give units.exptime under [[instrument]] in --config"]
