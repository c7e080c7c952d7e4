"""When a frame was exposed: the candidates of a header, and the most precise of them.

The uncertainty of a candidate is half a step of its last written digit. All
candidates are brought to UTC at mid-exposure as two-part Julian dates. The
first in the definition's order stands; one behind it that is more precise and
agrees with it is used in its place. One that differs from the chosen one by
more than their digits allow is noted, whether the definition reads it or not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from fnmatch import fnmatchcase
from typing import Any

import erfa

from db.errors import FrameUnusable
from reduction.headers.definition import InstrumentDefinition, TimeRule
from reduction.headers.local_clock import LARGEST_OFFSET, stated_offset
from reduction.headers.name_time import time_in_name
from reduction.headers.reader import quoted
from reduction.headers.remarks import moment, remark_of, zone
from reduction.headers.values import all_values, digits_of, number, text
from reduction.headers.written_times import CLOCK, FIRST_YEAR, LAST_YEAR, day_number, from_date, from_days, split_date

__all__ = ["ExposureTime", "exposure_time"]

_DAY = 86400.0
_MJD_ZERO = 2400000.5
_GPS_TO_TAI = 19.0
_LOCAL = "local"
_SCALES = {"tai": "tai", "tt": "tt", "tdt": "tt", "et": "tt", "tdb": "tt", "tcb": "tcb", "gps": "gps", "local": _LOCAL, "lt": _LOCAL}
_FIRST_DAY, _LAST_DAY = 2451544.5 - 32700.0, 2451544.5 + 32700.0  # JD: the night's number has 16 bits
_ROUNDING = 1e-3  # s: what a day number loses when it is written with eight decimals
_HOUR = 3600.0
#: Times that nearly everybody writes. Where the definition does not read them, they still may not be far from the one it does.
_WITNESSES = (
    TimeRule("date", "UT-OBS"),
    TimeRule("date", "DATE-BEG"),
    TimeRule("date", "DATE-OBS"),
    TimeRule("date", "DATE-AVG", at="mid"),
    TimeRule("mjd", "MJD-OBS"),
    TimeRule("mjd", "MJD"),
    TimeRule("jd", "JD"),
    TimeRule("jd", "JD-OBS"),
)
_END = TimeRule("date", "DATE-END", at="end")
_LATE, _LONG = 120.0, 3.0  # s, exposures: how much later than its exposure a frame may end, with its read-out
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
    zeros : int
        Digits behind the second, when all that are written are zero: that may be chance, or all that the clock gives. Else 0.
    zone : float or None
        Hours that the clock of the header is ahead of UTC, where it is a local one.
    """

    start_jd1: float
    start_jd2: float
    mid_jd1: float
    mid_jd2: float
    source: str
    sigma: float
    notes: tuple[str, ...]
    zeros: int = 0
    zone: float | None = None


@dataclass(frozen=True)
class _Candidate:
    jd1: float
    jd2: float
    sigma: float
    keyword: str
    at: str
    scale: str
    calendar: bool
    zeros: int = 0
    zone: float | None = None

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
    doubts: list[str] = []
    found, local = _stated(definition.override, definition, where)
    read = not found and not local
    if read:
        found, local = _candidates(header, definition, doubts)
    if not found:
        found, clocks = _stated(definition.default, definition, where)
        local += clocks
    if not found:
        raise _no_time(header, definition, local, where)
    best = _chosen(found, exptime)
    seconds, applied, notes = _clock_error(best, definition)
    mid2 = best.jd2 + (seconds + best.to_mid * exptime) / _DAY
    if not _FIRST_DAY < best.jd1 + mid2 < _LAST_DAY:
        raise FrameUnusable(
            f"{best.keyword} is JD {best.jd1 + mid2:g}, allowed are the years {FIRST_YEAR} to {LAST_YEAR}",
            where=where,
            hint="correct the header, or give date_obs under [override] in --config",
            code="frame.no_time",
        )
    source = f"{best.keyword} ({best.at}, {best.scale})"
    source += {"start": " + exptime/2", "mid": "", "end": " - exptime/2"}[best.at] + applied
    notes = (*notes, *_doubted_scale(header, best), *_disagreements(best, found, exptime))
    if read:
        notes = (*doubts, *notes, *_against_witnesses(header, definition, best, exptime))
    start2 = mid2 - exptime / 2 / _DAY
    return ExposureTime(best.jd1, start2, best.jd1, mid2, source[:_SOURCE_LENGTH], best.sigma, notes, best.zeros, best.zone)


def _chosen(found: list[_Candidate], exptime: float) -> _Candidate:
    """The first, unless a later one says the same with more digits: digits of a time that contradicts it are no reason to believe it."""
    first = found[0]
    finer = [other for other in found[1:] if abs(_gap(first, other, exptime)) <= 2.0 * first.sigma + other.sigma + _ROUNDING]
    return min([first, *finer], key=lambda candidate: candidate.sigma)


def _no_time(header: Mapping[str, Any], definition: InstrumentDefinition, local: list[str], where: str) -> FrameUnusable:
    if local:
        return FrameUnusable(
            f"the camera's clock was found ({local[0]}), but not its offset from UTC",
            where=where,
            hint="give utc_offset = HOURS (2 for UTC+2, -7 for UTC-7, 0 for a clock on UTC) under [default] in --config",
            code="frame.no_time",
        )
    tried = ", ".join(dict.fromkeys(rule.keyword for rule in definition.times))
    words = dict.fromkeys(word for rule in definition.times for word in (rule.keyword, rule.clock) if word is not None)
    there = [f"{word} = {quoted(header[word])}" for word in words if text(header.get(word)) is not None]
    if there:
        return FrameUnusable(
            f"{' and '.join(there)} cannot be read as date and time of day, from {FIRST_YEAR} to {LAST_YEAR}",
            where=where,
            hint="correct the header, or give date_obs or date_from_name = PATTERN under [override] in --config",
            code="frame.no_time",
        )
    return FrameUnusable(
        f"no time of exposure from {FIRST_YEAR} to {LAST_YEAR} under {tried}",
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


def _gap(best: _Candidate, other: _Candidate, exptime: float) -> float:
    """Seconds that another time's mid-exposure is later."""
    return ((other.jd1 - best.jd1) + (other.jd2 - best.jd2)) * _DAY + (other.to_mid - best.to_mid) * exptime


def _disagreements(best: _Candidate, found: list[_Candidate], exptime: float) -> tuple[str, ...]:
    notes = []
    for other in found:
        gap = _gap(best, other, exptime)
        allowed = other.sigma + best.sigma
        if abs(gap) > allowed * 1.001 + _ROUNDING:
            notes.append(f"{other.keyword} is {gap:+.3f} s from {best.keyword}, where their digits allow {allowed:.3g} s{_hours(gap)}")
    return tuple(notes)


def _hours(gap: float) -> str:
    """Whole hours and half ones are what a local clock is off."""
    halves = gap / (_HOUR / 2)
    local = abs(halves) > 0.5 and abs(halves - round(halves)) * _HOUR / 2 < 60.0 and abs(gap) <= LARGEST_OFFSET * _HOUR + 60.0
    return f" ({round(halves) / 2:+g} h: one of them may be local time)" if local else ""


def _against_witnesses(header: Mapping[str, Any], definition: InstrumentDefinition, best: _Candidate, exptime: float) -> Iterator[str]:
    """Times that the definition does not read, for a reason, and that are more than an exposure off all the same."""
    known = {rule.keyword for rule in definition.times}
    for rule in _WITNESSES:
        other = _candidate(header, rule, definition) if rule.keyword not in known and header.get(rule.keyword) is not None else None
        if not isinstance(other, _Candidate):
            continue
        gap = _gap(best, other, exptime)
        if abs(gap) > exptime + 1.0 + 2.0 * (other.sigma + best.sigma):
            yield f"{other.keyword}, which is not used, is {gap:+.3f} s from {best.keyword}{_hours(gap)}"
    end = _candidate(header, _END, definition) if header.get(_END.keyword) is not None and _END.keyword not in known else None
    if isinstance(end, _Candidate):
        took = ((end.jd1 - best.jd1) + (end.jd2 - best.jd2)) * _DAY - (best.to_mid - 0.5) * exptime
        slack = 1.0 + 2.0 * (end.sigma + best.sigma)
        if not 0.9 * exptime - slack <= took <= _LONG * exptime + _LATE + slack:
            yield f"{end.keyword} is {took:.3f} s after the start by {best.keyword}, with an exposure time of {exptime:g} s"


def _candidates(header: Mapping[str, Any], definition: InstrumentDefinition, doubts: list[str]) -> tuple[list[_Candidate], list[str]]:
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
    doubts.extend(_doubts(header, definition, found))
    return _without_copies(list(found.values())), local


def _doubts(
    header: Mapping[str, Any], definition: InstrumentDefinition, found: Mapping[tuple[str, str | None], _Candidate]
) -> Iterator[str]:
    """What stands twice, what cannot be read, and remarks that the definition does not go by."""
    used = {word for key in found for word in key}
    for keyword in dict.fromkeys(rule.keyword for rule in definition.times):
        values = all_values(header, keyword)
        for value in values[1:]:
            if value != values[0]:
                yield f"{keyword} stands more than once: {quoted(values[0])} is used, {quoted(value)} is not"
        forms = {rule.form for rule in definition.times if rule.keyword == keyword}
        word = text(values[0]) if values else None
        if word is not None and keyword not in used and not _readable(header, keyword, forms, word):
            yield f"{keyword} = {quoted(values[0])} cannot be read as a time: not used"
    for rule in definition.times:
        said = moment(remark_of(header, rule.clock or rule.keyword))
        if (rule.keyword, rule.clock) in found and rule.at is not None and said not in (None, rule.at) and rule.remark is None:
            yield f"the remark of {rule.clock or rule.keyword} says {said} of the exposure, the definition {rule.at}, which is used"


def _readable(header: Mapping[str, Any], keyword: str, forms: set[str], word: str) -> bool:
    """Whether a keyword that gave no time says something all the same: a date without time of day, a whole day, a local clock."""
    if forms == {"date"}:
        split = split_date(word)
        return split is not None and (split[3] is None or CLOCK.match(split[3]) is not None)
    digits = day_number(digits_of(header, keyword))
    return digits is not None and digits == digits.to_integral_value()


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
    for name, written, clock in (("file name", named, "local"), ("date_obs", stated, "utc")):
        found = _candidate({name: written}, TimeRule("date", name, zone=clock), definition) if written is not None else None
        if found is not None:
            return ([], [found]) if isinstance(found, str) else ([found], [])
    return [], []


def _candidate(header: Mapping[str, Any], rule: TimeRule, definition: InstrumentDefinition) -> _Candidate | str | None:
    """A time; None where the keyword holds none; what the clock says, as text, where its offset from UTC is needed and unknown."""
    name = rule.keyword if rule.clock is None else f"{rule.keyword}+{rule.clock}"
    remark = remark_of(header, rule.clock or rule.keyword)
    scale = "utc" if _says_utc(rule) else _scale(header)
    if rule.form == "date":
        written = from_date(header, rule.keyword, rule.clock)
    else:
        written = from_days(digits_of(header, rule.keyword), _MJD_ZERO if rule.form == "mjd" else 0.0)
    if written is None:
        return None
    jd2, at = written.jd2, rule.at or moment(remark) or "start"
    scale_name = "UTC" if scale == _LOCAL else scale.upper()
    # What TIMESYS or the keyword's own name says of the clock counts more than the remark.
    named = None if _says_utc(rule) or text(header.get("TIMESYS")) is not None else zone(remark)
    local = rule.zone == "local" or scale == _LOCAL or (rule.zone is None and named is not None and named[0] == "local")
    offset = written.zoned
    if local and offset is None:
        offset = _utc_offset(header, rule, definition, None if named is None else named[1])
        if offset is None:
            return f"{name} = {' '.join(str(header[word]).strip() for word in (rule.keyword, rule.clock) if word is not None)}"
        jd2 -= offset / 24.0
        scale_name = f"UTC{offset:+g}"
    jd1, jd2 = _to_utc(written.jd1, jd2, _LOCAL if local else scale)
    sigma = max(written.sigma, float(definition.override.get("time_sigma", 0.0)))
    return _Candidate(jd1, jd2, sigma, name, at, scale_name, rule.form == "date", written.zeros, offset)


def _utc_offset(header: Mapping[str, Any], rule: TimeRule, definition: InstrumentDefinition, remarked: float | None) -> float | None:
    """Hours that the camera's clock is ahead of UTC: as overridden, as the header says, as given where it does not."""
    written = number(header.get(rule.zone_keyword)) if rule.zone_keyword is not None else None
    written = written if written is None or abs(written) <= LARGEST_OFFSET else None
    stated = stated_offset(header)
    said = (definition.override.get("utc_offset"), written, remarked, None if stated is None else stated[0])
    return next((float(value) for value in (*said, definition.default.get("utc_offset")) if value is not None), None)


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
