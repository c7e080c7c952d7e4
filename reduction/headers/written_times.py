"""Times as they stand in headers, to two-part Julian dates: calendar dates, times of day, day numbers, with the digits that are written."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import erfa

from db.decimal_comma import with_point
from reduction.headers.remarks import remark_of, unit_of
from reduction.headers.values import digits_of, number

__all__ = ["CLOCK", "FIRST_YEAR", "LAST_YEAR", "Written", "day_number", "from_date", "from_days", "split_date"]

# Photographic plates have times too; before and after these years, which numbers of nights reach, a date is a clock that was never set.
FIRST_YEAR, LAST_YEAR = 1911, 2088
"""Years that a time may be of."""

_DATE = re.compile(r"^\s*(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?:[T\s]+(.+))?$")
_OLD_DATE = re.compile(r"^\s*(\d{1,2})/(\d{1,2})/(\d{2})\s*$")
_DAY_FIRST = re.compile(r"^\s*(\d{1,2})([/.])(\d{1,2})\2(\d{4})(?:[T\s]+(.+))?$")
CLOCK = re.compile(
    r"^\s*(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:[.,](\d*))?)?\s*([AP]M)?\s*(Z|UTC?|GMT|[+-]\d{2}(?::?\d{2})?)?\s*$", re.IGNORECASE
)
"""A time of day, perhaps with its offset from UTC."""
_DAY, _HOUR, _MONTHS = 86400.0, 3600.0, 12
_MOST_DIGITS = 12  # of a day number, on each side of its point
_FLOAT = 5e-5  # s: what a Julian date of one float is true to
_J2000_DAY = 2451544.5  # JD of 2000-01-01T00:00


@dataclass(frozen=True)
class Written:
    """A time as written, in whatever scale.

    Attributes
    ----------
    jd1, jd2 : float
        Two-part Julian date; an offset written behind the time is taken off.
    sigma : float
        Half a step of its last digit, s.
    zeros : int
        Digits behind the second, where all of them are zero.
    zoned : float or None
        Hours of the offset written behind it.
    """

    jd1: float
    jd2: float
    sigma: float
    zeros: int = 0
    zoned: float | None = None


def day_number(written: str) -> Decimal | None:
    """A day number with all its digits: "58107.0650", "5.810706529E+04", "58107,065"."""
    try:
        found = Decimal(with_point(written).upper().replace("D", "E"))
    except InvalidOperation:
        return None
    return found if found.is_finite() and found.adjusted() < _MOST_DIGITS else None


def from_days(written: str, zero: float) -> Written | None:
    """Day number as written; whole and fractional part are kept apart so that no digit is lost."""
    found = day_number(written)
    if found is None or found < 0:
        return None
    exponent = int(found.as_tuple().exponent)
    if exponent >= 0 or not _plausible(zero + int(found)):
        return None
    fraction, sigma = float(found - int(found)), 0.5 * 10.0 ** max(exponent, -_MOST_DIGITS) * _DAY
    second, known = (fraction + zero % 1.0) * _DAY, max(sigma, _FLOAT)
    # A whole second, to all the digits there are, may be chance as zeros may be behind one.
    zeros = math.floor(-math.log10(2.0 * known)) if known < 0.05 and abs(second - round(second)) <= 1.05 * known else 0
    return Written(zero + int(found), fraction, sigma, zeros)


def _plausible(jd: float) -> bool:
    return 2451544.5 + (FIRST_YEAR - 2000) * 365.25 < jd < 2451544.5 + (LAST_YEAR + 1 - 2000) * 365.25


def from_date(header: Mapping[str, Any], keyword: str, clock: str | None = None) -> Written | None:
    """A date as of `split_date` with its time of day, which may stand under a keyword of its own; None for others."""
    date = split_date(header[keyword])
    if date is None:
        return None
    year, month, day, time = date
    if not FIRST_YEAR <= year <= LAST_YEAR:
        return None
    if clock is not None:
        # A date with its own time of day may be local: joining it with a clock in UT could be a day off.
        if time is not None or header.get(clock) is None:
            return None
        seconds = _seconds_of_day(header, clock)
        if seconds is not None:
            return _at_second(year, month, day, *seconds)
        time = str(header[clock])
        joined = split_date(time)
        time = joined[3] if joined is not None else time
    found = CLOCK.match(time) if time is not None else None
    return None if found is None else _julian(year, month, day, found)


def _seconds_of_day(header: Mapping[str, Any], keyword: str) -> tuple[float, float] | None:
    """A time of day that is a number, whose unit its remark says, in s, and half a step of its last digit."""
    value, (unit, _) = number(header.get(keyword)), unit_of("exptime", remark_of(header, keyword))
    step = {"s": 1.0, "hour": _HOUR}.get(unit or "")
    digits = day_number(digits_of(header, keyword)) if value is not None and step is not None else None
    if value is None or step is None or digits is None or not 0.0 <= value * step < _DAY:
        return None
    return value * step, 0.5 * step * 10.0 ** min(int(digits.as_tuple().exponent), 0)


def _at_second(year: int, month: int, day: int, second: float, sigma: float) -> Written | None:
    try:
        midnight = datetime(year, month, day)
    except ValueError:
        return None
    return Written(_J2000_DAY + (midnight - datetime(2000, 1, 1)).days, second / _DAY, sigma)


def split_date(value: Any) -> tuple[int, int, int, str | None] | None:
    """Year, month, day and the time of day behind them. Of two numbers up to 12 before a year nobody knows which is the month."""
    found = _DATE.match(str(value))
    if found is not None:
        return int(found.group(1)), int(found.group(3)), int(found.group(4)), found.group(5)
    found = _DAY_FIRST.match(str(value))
    if found is not None:
        first, sign, second, year, clock = found.groups()
        day, month = (int(second), int(first)) if int(second) > _MONTHS else (int(first), int(second))
        return (int(year), month, day, clock) if sign == "." or day > _MONTHS or day == month else None
    found = _OLD_DATE.match(str(value))
    # The two-digit years of the old FITS form DD/MM/YY are all of the 20th century (FITS standard 4.0, 9.1.3).
    return None if found is None else (1900 + int(found.group(3)), int(found.group(2)), int(found.group(1)), None)


def _julian(year: int, month: int, day: int, clock: re.Match[str]) -> Written | None:
    hours, minutes, seconds, fraction, half, zone = clock.groups()
    second = int(seconds or 0) + float(f"0.{fraction or 0}")
    hour = int(hours) if half is None else int(hours) % 12 + (12 if half.upper() == "PM" else 0)
    if second >= 61.0 or hour > 24 or int(minutes) > 59:
        return None
    try:
        minute = datetime(year, month, day) + timedelta(hours=hour, minutes=int(minutes)) - _zone(zone)
    except ValueError:
        return None
    # erfa's UTC days keep leap seconds (a quasi-JD); it only doubts dates far ahead, which is no reason to stop.
    jd1, jd2, _ = erfa.ufunc.dtf2d(b"UTC", minute.year, minute.month, minute.day, minute.hour, minute.minute, second)
    step = 60.0 if seconds is None else 10.0 ** -len(fraction or "")
    zeros = len(fraction) if fraction and not fraction.strip("0") else 0
    return Written(float(jd1), float(jd2), step / 2, zeros, None if zone is None else _zone(zone) / timedelta(hours=1))


def _zone(zone: str | None) -> timedelta:
    if zone is None or zone[0] not in "+-":
        return timedelta()
    digits = zone[1:].replace(":", "").ljust(4, "0")
    size = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return -size if zone[0] == "-" else size
