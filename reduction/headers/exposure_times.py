"""When a frame was exposed: the candidates of a header, and the most precise of them.

The uncertainty of a candidate is half a step of its last written digit. All
candidates are brought to UTC at mid-exposure as two-part Julian dates; one
that differs from the chosen one by more than their digits allow is noted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

import erfa

from db.errors import FrameUnusable
from reduction.headers.definition import InstrumentDefinition, TimeRule
from reduction.headers.name_time import time_in_name
from reduction.headers.values import digits_of, number, text

__all__ = ["ExposureTime", "exposure_time"]

_DATE = re.compile(r"^\s*(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?:[T\s]+(.+))?$")
_OLD_DATE = re.compile(r"^\s*(\d{1,2})/(\d{1,2})/(\d{2})\s*$")
_CLOCK = re.compile(r"^\s*(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d*))?)?\s*(Z|UTC?|[+-]\d{2}(?::?\d{2})?)?\s*$")
_DECIMAL = re.compile(r"^\s*(\d+)(?:\.(\d*))?\s*$")
_DAY = 86400.0
_MJD_ZERO = 2400000.5
_GPS_TO_TAI = 19.0
_LOCAL = "local"
_SCALES = {"tai": "tai", "tt": "tt", "tdt": "tt", "et": "tt", "tdb": "tt", "tcb": "tcb", "gps": "gps", "local": _LOCAL, "lt": _LOCAL}
# Photographic plates have times too; before and after these years, which numbers of nights reach, a date is a clock that was never set.
_FIRST_YEAR, _LAST_YEAR = 1911, 2088
_FIRST_DAY, _LAST_DAY = 2451544.5 - 32700.0, 2451544.5 + 32700.0  # JD: the night's number has 16 bits
_ROUNDING = 1e-3  # s: what a day number loses when it is written with eight decimals
_LARGEST_OFFSET = 14.0  # h: no time zone is farther from UTC
_SOURCE_LENGTH = 64  # of the column frame.time_source


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
    calendar: bool

    @property
    def to_mid(self) -> float:
        """Exposure times from this moment to the middle."""
        return {"start": 0.5, "mid": 0.0, "end": -0.5}[self.at]


def exposure_time(header: Mapping[str, Any], definition: InstrumentDefinition, exptime: float, *, where: str = "") -> ExposureTime:
    """Choose the most precise time of a header.

    Parameters
    ----------
    header : mapping
        FITS header.
    definition : InstrumentDefinition
        Its `times` are the candidates, the first of which wins among equally precise ones; its `corrections` and the settings
        ``date_from_name``, ``date_obs``, ``utc_offset``, ``time_offset`` and ``time_sigma`` are applied.
    exptime : float
        Exposure time in s.
    where : str
        File named in an error, and whose name the setting ``date_from_name`` reads.

    Raises
    ------
    FrameUnusable
        No rule gives a time, or only that of a local clock whose offset from UTC nobody gives (code ``frame.no_time``).
    """
    found, local = _stated(definition.override, definition, where)
    if not found and not local:
        found, local = _candidates(header, definition)
    if not found:
        found, clocks = _stated(definition.default, definition, where)
        local += clocks
    if not found:
        raise _no_time(definition, local, where)
    best = min(found, key=lambda candidate: candidate.sigma)
    seconds, applied, notes = _clock_error(best, definition)
    mid2 = best.jd2 + (seconds + best.to_mid * exptime) / _DAY
    if not _FIRST_DAY < best.jd1 + mid2 < _LAST_DAY:
        raise FrameUnusable(
            f"{best.keyword} is JD {best.jd1 + mid2:g}, allowed are the years {_FIRST_YEAR} to {_LAST_YEAR}",
            where=where,
            hint="correct the header, or give date_obs under [override] in --config",
            code="frame.no_time",
        )
    source = f"{best.keyword} ({best.at}, {best.scale})"
    source += {"start": " + exptime/2", "mid": "", "end": " - exptime/2"}[best.at] + applied
    notes = (*notes, *_doubted_scale(header, best), *_disagreements(best, found, exptime))
    return ExposureTime(best.jd1, mid2 - exptime / 2 / _DAY, best.jd1, mid2, source[:_SOURCE_LENGTH], best.sigma, notes)


def _no_time(definition: InstrumentDefinition, local: list[str], where: str) -> FrameUnusable:
    if local:
        return FrameUnusable(
            f"the camera's clock was found ({local[0]}), but not its offset from UTC",
            where=where,
            hint="give utc_offset = HOURS (2 for UTC+2, -7 for UTC-7, 0 for a clock on UTC) under [default] in --config",
            code="frame.no_time",
        )
    tried = ", ".join(dict.fromkeys(rule.keyword for rule in definition.times))
    return FrameUnusable(
        f"no time of exposure from {_FIRST_YEAR} to {_LAST_YEAR} under {tried}",
        where=where,
        hint="name the keyword under [[instrument.times]], or give date_from_name = PATTERN or date_obs under [default], in --config",
        code="frame.no_time",
    )


def _clock_error(best: _Candidate, definition: InstrumentDefinition) -> tuple[float, str, tuple[str, ...]]:
    """Seconds to add to the clock, how the source says so, and a note for each dated correction."""
    jd = best.jd1 + best.jd2
    dated = [correction for correction in definition.corrections if correction.since <= jd < correction.until]
    seconds = sum((correction.seconds for correction in dated), float(definition.override.get("time_offset", 0.0)))
    notes = tuple(f"the clock was corrected by {entry.seconds:+g} s: {entry.reason or 'no reason given'}" for entry in dated)
    return seconds, f", clock {seconds:+.6g} s" if seconds else "", notes


def _disagreements(best: _Candidate, found: list[_Candidate], exptime: float) -> tuple[str, ...]:
    notes = []
    for other in found:
        gap = ((other.jd1 - best.jd1) + (other.jd2 - best.jd2)) * _DAY + (other.to_mid - best.to_mid) * exptime
        allowed = other.sigma + best.sigma
        if abs(gap) > allowed * 1.001 + _ROUNDING:
            notes.append(f"{other.keyword} is {gap:+.3f} s from {best.keyword}, where their digits allow {allowed:.3g} s")
    return tuple(notes)


def _candidates(header: Mapping[str, Any], definition: InstrumentDefinition) -> tuple[list[_Candidate], list[str]]:
    """Times of a header, and the local clocks whose offset from UTC is unknown; of several rules for a keyword the first that fits."""
    found: dict[tuple[str, str | None], _Candidate] = {}
    local: list[str] = []
    for rule in definition.times:
        key = (rule.keyword, rule.clock)
        if key in found or header.get(rule.keyword) is None or not _remark_fits(header, rule):
            continue
        candidate = _candidate(header, rule, definition)
        if isinstance(candidate, str):
            local.append(candidate)
        elif candidate is not None:
            found[key] = candidate
    return _without_copies(list(found.values())), local


def _remark_fits(header: Mapping[str, Any], rule: TimeRule) -> bool:
    comments = getattr(header, "comments", None)
    return rule.remark is None or (comments is not None and fnmatchcase(str(comments[rule.keyword]).lower(), rule.remark.lower()))


def _without_copies(found: list[_Candidate]) -> list[_Candidate]:
    """Day numbers that only repeat a calendar date are no more precise than that.

    Many writers compute JD or MJD from the whole seconds of DATE-OBS: all their further digits say is what was cut off.
    """
    dates = [candidate for candidate in found if candidate.calendar]
    result = []
    for candidate in found:
        copied = [
            date.sigma
            for date in dates
            if not candidate.calendar
            and date.at == candidate.at
            and abs((date.jd1 - candidate.jd1) + (date.jd2 - candidate.jd2)) * _DAY <= candidate.sigma + _ROUNDING
        ]
        result.append(replace(candidate, sigma=max(candidate.sigma, *copied)) if copied else candidate)
    return result


def _stated(settings: Mapping[str, Any], definition: InstrumentDefinition, where: str) -> tuple[list[_Candidate], list[str]]:
    """The time in the file's name or of the setting, as `_candidates`; a name is more of one frame's than a setting."""
    named = time_in_name(where, settings["date_from_name"]) if "date_from_name" in settings else None
    given = settings.get("date_obs")
    stated = given.isoformat() if isinstance(given, (date, datetime)) else given
    for name, written, zone in (("file name", named, "local"), ("date_obs", stated, "utc")):
        found = _candidate({name: written}, TimeRule("date", name, zone=zone), definition) if written is not None else None
        if found is not None:
            return ([], [found]) if isinstance(found, str) else ([found], [])
    return [], []


def _candidate(header: Mapping[str, Any], rule: TimeRule, definition: InstrumentDefinition) -> _Candidate | str | None:
    """A time; None where the keyword holds none; what the clock says, as text, where its offset from UTC is needed and unknown."""
    name = rule.keyword if rule.clock is None else f"{rule.keyword}+{rule.clock}"
    scale = "utc" if _says_utc(rule) else _scale(header)
    if rule.form == "date":
        parts = _from_date(header, rule)
    else:
        parts = _from_days(digits_of(header, rule.keyword), _MJD_ZERO if rule.form == "mjd" else 0.0)
    if parts is None:
        return None
    jd1, jd2, sigma, zoned = parts
    scale_name = "UTC" if scale == _LOCAL else scale.upper()
    if (rule.zone == "local" or scale == _LOCAL) and not zoned:
        offset = _utc_offset(header, rule, definition)
        if offset is None:
            return f"{name} = {' '.join(str(header[word]).strip() for word in (rule.keyword, rule.clock) if word is not None)}"
        jd2 -= offset / 24.0
        scale_name = f"UTC{offset:+g}"
    jd1, jd2 = _to_utc(jd1, jd2, scale)
    least = float(definition.override.get("time_sigma", 0.0))
    return _Candidate(jd1, jd2, max(sigma, least), name, rule.at, scale_name, rule.form == "date")


def _utc_offset(header: Mapping[str, Any], rule: TimeRule, definition: InstrumentDefinition) -> float | None:
    """Hours that the camera's clock is ahead of UTC: as overridden, as the header says, as given where it does not."""
    written = number(header.get(rule.zone_keyword)) if rule.zone_keyword is not None else None
    written = written if written is None or abs(written) <= _LARGEST_OFFSET else None
    for value in (definition.override.get("utc_offset"), written, definition.default.get("utc_offset")):
        if value is not None:
            return float(value)
    return None


def _scale(header: Mapping[str, Any]) -> str:
    """Time scale that TIMESYS names; UTC without one, and for what `_doubted_scale` notes."""
    word = (text(header.get("TIMESYS")) or "utc").lower()
    return next((scale for start, scale in _SCALES.items() if word.startswith(start)), "utc")


def _says_utc(rule: TimeRule) -> bool:
    """UT-OBS, DATE-UTC, JD_UTC, a clock under UTC: whatever TIMESYS says of the others."""
    return re.search(r"(^|[-_])UTC?([-_]|$|START)", rule.clock or rule.keyword) is not None


def _doubted_scale(header: Mapping[str, Any], best: _Candidate) -> tuple[str, ...]:
    word = text(header.get("TIMESYS"))
    known = word is None or word.lower() in ("ut", "z", "gmt") or word.lower().startswith((*_SCALES, "utc"))
    return () if known or best.keyword.split("+")[0] not in header else (f"TIMESYS = {word} is not known as a time scale: taken as UTC",)


def _to_utc(jd1: float, jd2: float, scale: str) -> tuple[float, float]:
    """Bring TT, TAI, TCB or GPS to UTC; TDB is taken as TT (2 ms at most). A local clock was brought to UTC by its offset."""
    if scale in ("utc", _LOCAL):
        return jd1, jd2
    if scale == "gps":
        jd2 += _GPS_TO_TAI / _DAY
    elif scale == "tcb":
        jd1, jd2 = erfa.tttai(*erfa.tcbtdb(jd1, jd2))
    elif scale == "tt":
        jd1, jd2 = erfa.tttai(jd1, jd2)
    utc1, utc2 = erfa.taiutc(jd1, jd2)
    return float(utc1), float(utc2)


def _from_days(digits: str, zero: float) -> tuple[float, float, float, bool] | None:
    """Day number as written; whole and fractional part are kept apart so that no digit is lost."""
    found = _DECIMAL.match(digits)
    if found is None:
        return None
    whole, fraction = found.group(1), found.group(2) or ""
    if not fraction or not _plausible(zero + int(whole)):
        return None
    return zero + int(whole), float(f"0.{fraction}"), 0.5 * 10.0 ** -len(fraction) * _DAY, False


def _plausible(jd: float) -> bool:
    return 2451544.5 + (_FIRST_YEAR - 2000) * 365.25 < jd < 2451544.5 + (_LAST_YEAR + 1 - 2000) * 365.25


def _from_date(header: Mapping[str, Any], rule: TimeRule) -> tuple[float, float, float, bool] | None:
    """Two-part JD, half a step of its last digit in s, and whether an offset from UTC was written behind it."""
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


def _julian(year: int, month: int, day: int, clock: re.Match[str]) -> tuple[float, float, float, bool] | None:
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
    return float(jd1), float(jd2), step / 2, zone is not None


def _zone(zone: str | None) -> timedelta:
    if zone is None or zone[0] not in "+-":
        return timedelta()
    digits = zone[1:].replace(":", "").ljust(4, "0")
    size = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return -size if zone[0] == "-" else size
