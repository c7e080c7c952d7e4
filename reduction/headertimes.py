"""When a frame was exposed: the candidates of a header, and the most precise of them.

The uncertainty of a candidate is half a step of its last written digit. All
candidates are brought to UTC at mid-exposure as two-part Julian dates; one
that differs from the chosen one by more than their digits allow is noted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import erfa

from db.errors import FrameUnusable
from reduction.headervalues import digits_of, text
from reduction.instrument import TimeRule

__all__ = ["ExposureTime", "exposure_time"]

_DATE = re.compile(r"^\s*(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?:[T\s]+(.+))?$")
_OLD_DATE = re.compile(r"^\s*(\d{1,2})/(\d{1,2})/(\d{2})\s*$")
_CLOCK = re.compile(r"^\s*(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d*))?)?\s*(Z|UTC?|[+-]\d{2}(?::?\d{2})?)?\s*$")
_DECIMAL = re.compile(r"^\s*(\d+)(?:\.(\d*))?\s*$")
_DAY = 86400.0
_MJD_ZERO = 2400000.5
_GPS_TO_TAI = 19.0
# Photographic plates have times too; before and after these years a date is a clock that was never set.
_FIRST_YEAR, _LAST_YEAR = 1880, 2150


@dataclass(frozen=True)
class ExposureTime:
    """Start and middle of an exposure.

    Attributes
    ----------
    start_jd1, start_jd2, mid_jd1, mid_jd2 : float
        UTC as two-part Julian dates (day, day); the sum is the date.
    source : str
        Keyword and rule used, e.g. ``UT-OBS (start, UTC) + exptime/2``.
    sigma : float
        Uncertainty in s: half a step of the last digit written, or what the definition states.
    notes : tuple of str
        Candidates that disagree, and other doubts.
    """

    start_jd1: float
    start_jd2: float
    mid_jd1: float
    mid_jd2: float
    source: str
    sigma: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Candidate:
    jd1: float
    jd2: float
    sigma: float
    keyword: str
    at: str
    scale: str


def exposure_time(
    header: Mapping[str, Any], rules: tuple[TimeRule, ...], exptime: float, *, offset: float = 0.0, sigma: float = 0.0, where: str = ""
) -> ExposureTime:
    """Choose the most precise time of a header.

    Parameters
    ----------
    header : mapping
        FITS header.
    rules : tuple of TimeRule
        Candidates; the first wins among equally precise ones.
    exptime : float
        Exposure time in s.
    offset : float
        Correction added to the clock, in s.
    sigma : float
        Least uncertainty of any candidate, in s.
    where : str
        File named in an error.

    Raises
    ------
    FrameUnusable
        No rule gives a time (code ``frame.no_time``).
    """
    found = [candidate for candidate in (_candidate(header, rule, sigma) for rule in rules) if candidate is not None]
    if not found:
        tried = ", ".join(dict.fromkeys(rule.keyword for rule in rules))
        raise FrameUnusable(
            f"no time of exposure under {tried}",
            where=where,
            hint="name the keyword under [[instrument.times]] in --config",
            code="frame.no_time",
        )
    best = min(found, key=lambda candidate: candidate.sigma)
    half = exptime / 2 / _DAY
    jd2 = best.jd2 + offset / _DAY
    start2, mid2 = (jd2 - half, jd2) if best.at == "mid" else (jd2, jd2 + half)
    source = f"{best.keyword} ({best.at}, {best.scale.upper()})" + ("" if best.at == "mid" else " + exptime/2")
    return ExposureTime(best.jd1, start2, best.jd1, mid2, source, best.sigma, _disagreements(best, found, exptime))


def _disagreements(best: _Candidate, found: list[_Candidate], exptime: float) -> tuple[str, ...]:
    notes = []
    for other in found:
        gap = ((other.jd1 - best.jd1) + (other.jd2 - best.jd2)) * _DAY
        gap += (0.0 if other.at == "mid" else exptime / 2) - (0.0 if best.at == "mid" else exptime / 2)
        allowed = other.sigma + best.sigma
        if abs(gap) > allowed * 1.001 + 1e-3:
            notes.append(f"{other.keyword} is {gap:+.3f} s from {best.keyword}, where their digits allow {allowed:.3g} s")
    return tuple(notes)


def _candidate(header: Mapping[str, Any], rule: TimeRule, floor: float) -> _Candidate | None:
    if header.get(rule.keyword) is None:
        return None
    scale = _scale(header)
    if rule.form == "date":
        parts = _from_date(header, rule)
        name = rule.keyword if rule.clock is None else f"{rule.keyword}+{rule.clock}"
    else:
        parts = _from_days(digits_of(header, rule.keyword), _MJD_ZERO if rule.form == "mjd" else 0.0)
        name = rule.keyword
    if parts is None:
        return None
    jd1, jd2, sigma = parts
    jd1, jd2 = _to_utc(jd1, jd2, scale)
    return _Candidate(jd1, jd2, max(sigma, floor), name, rule.at, scale)


def _scale(header: Mapping[str, Any]) -> str:
    word = (text(header.get("TIMESYS")) or "utc").lower()
    known = {"tai": "tai", "tt": "tt", "tdt": "tt", "et": "tt", "tdb": "tt", "tcb": "tt", "gps": "gps"}
    return next((scale for start, scale in known.items() if word.startswith(start)), "utc")


def _to_utc(jd1: float, jd2: float, scale: str) -> tuple[float, float]:
    """Bring TT, TAI or GPS to UTC; TDB is taken as TT (2 ms at most)."""
    if scale == "utc":
        return jd1, jd2
    if scale == "gps":
        jd2 += _GPS_TO_TAI / _DAY
    elif scale == "tt":
        jd1, jd2 = erfa.tttai(jd1, jd2)
    utc1, utc2 = erfa.taiutc(jd1, jd2)
    return float(utc1), float(utc2)


def _from_days(digits: str, zero: float) -> tuple[float, float, float] | None:
    """Day number as written; whole and fractional part are kept apart so that no digit is lost."""
    found = _DECIMAL.match(digits)
    if found is None:
        return None
    whole, fraction = found.group(1), found.group(2) or ""
    if not fraction or not _plausible(zero + int(whole)):
        return None
    return zero + int(whole), float(f"0.{fraction}"), 0.5 * 10.0 ** -len(fraction) * _DAY


def _plausible(jd: float) -> bool:
    return 2451544.5 + (_FIRST_YEAR - 2000) * 365.25 < jd < 2451544.5 + (_LAST_YEAR - 2000) * 365.25


def _from_date(header: Mapping[str, Any], rule: TimeRule) -> tuple[float, float, float] | None:
    date = _split_date(header[rule.keyword])
    if date is None:
        return None
    year, month, day, clock = date
    if rule.clock is not None:
        # A date with its own time of day may be local: joining it with a clock in UT could be a day off.
        if clock is not None or header.get(rule.clock) is None:
            return None
        clock = str(header[rule.clock])
        joined = _split_date(clock)
        clock = joined[3] if joined is not None else clock
    found = _CLOCK.match(clock) if clock is not None else None
    if found is None or not _FIRST_YEAR <= year <= _LAST_YEAR:
        return None
    return _julian(year, month, day, found)


def _split_date(value: Any) -> tuple[int, int, int, str | None] | None:
    found = _DATE.match(str(value))
    if found is not None:
        return int(found.group(1)), int(found.group(2)), int(found.group(3)), found.group(4)
    found = _OLD_DATE.match(str(value))
    # The two-digit years of the old FITS form DD/MM/YY are all of the 20th century (FITS standard 4.0, 9.1.3).
    return None if found is None else (1900 + int(found.group(3)), int(found.group(2)), int(found.group(1)), None)


def _julian(year: int, month: int, day: int, clock: re.Match[str]) -> tuple[float, float, float] | None:
    hours, minutes, seconds, fraction, zone = clock.groups()
    second = int(seconds or 0) + float(f"0.{fraction or 0}")
    if second >= 61.0 or int(hours) > 24 or int(minutes) > 59:
        return None
    try:
        minute = datetime(year, month, day) + timedelta(hours=int(hours), minutes=int(minutes)) - _zone(zone)
    except ValueError:
        return None
    # erfa's UTC days keep leap seconds (a quasi-JD); it only doubts dates far ahead, which is no reason to stop.
    jd1, jd2, _ = erfa.ufunc.dtf2d(b"UTC", minute.year, minute.month, minute.day, minute.hour, minute.minute, second)
    step = 60.0 if seconds is None else 10.0 ** -len(fraction or "")
    return float(jd1), float(jd2), step / 2


def _zone(zone: str | None) -> timedelta:
    if zone is None or zone[0] not in "+-":
        return timedelta()
    digits = zone[1:].replace(":", "").ljust(4, "0")
    size = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return -size if zone[0] == "-" else size
