"""How far the clock of a site is ahead of UTC, by what a header says: time zone, local clock beside UTC, sidereal time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import erfa

from reduction.headers.remarks import ZONE_NAMES, remark_of, unit_of
from reduction.headers.values import number, sexagesimal, text

__all__ = ["LARGEST_OFFSET", "clock_longitude", "stated_offset"]

LARGEST_OFFSET = 14.0
"""Hours; no time zone is farther from UTC."""

#: Hours that local time is ahead of UTC.
_AHEAD = ("TZOFFSET", "UTOFFSET", "UTCOFFS", "UTCOFFSE", "UTC_OFFS", "UTC-OFFS", "GMTOFFS", "GMT_OFFS", "TZ_OFFS")
#: Zones, of which some write the hours behind UTC: a number alone is not understood.
_ZONES = ("TIMEZONE", "TIME-ZON", "TIMEZON", "TZ", "ZONE")
_WEST = re.compile(r"\bwest|UTC?\s*(-|minus)\s*local|behind|local(\s*time)?\s*to\s*UTC?|to (get|obtain) UTC?", re.IGNORECASE)
_EAST = re.compile(r"\beast|local\s*(time)?\s*(-|minus)\s*UTC?|ahead|from UTC?|UTC?\s*to\s*local", re.IGNORECASE)
_ZONE = re.compile(r"(?:UTC?|GMT)?\s*([+-])\s*(\d{1,2})(?::?(\d{2}))?(?:\.(\d+))?\s*h?", re.IGNORECASE)
#: Local clocks, with or without a date.
_CLOCKS = ("DATE-LOC", "DATE-LT", "DATELOC", "LOCALTIM", "TIME-LOC", "TIME_LOC", "LOC-TIME", "LOCTIME", "LOCAL-T", "LTIME", "LT-OBS", "LT")
_CLOCK = re.compile(r"(?:^|[T\s])(\d{1,2}):(\d{2}):(\d{2}(?:[.,]\d*)?)\s*([AP]M)?", re.IGNORECASE)
_SIDEREAL = ("LST", "LST-OBS", "LMST", "ST", "SIDTIME", "SIDETIME", "SIDEREAL", "LSTHDR", "LST-STAR")
_QUARTER = 0.25  # h; zones differ by no less
_NEAR = 0.05  # h; two clocks of one computer are read within less


def stated_offset(header: Mapping[str, Any]) -> tuple[float, str] | None:
    """Hours that local time is ahead of UTC, and the keyword that says so; None where no keyword is understood.

    A number under TIMEZONE counts where its remark says on which side of Greenwich it counts positive.
    """
    for keyword in (*_AHEAD, *_ZONES):
        word = text(header.get(keyword))
        if word is None:
            continue
        if word in ZONE_NAMES:
            return float(ZONE_NAMES[word]), keyword
        remark = remark_of(header, keyword)
        west, east = _WEST.search(remark) is not None, _EAST.search(remark) is not None
        found = _ZONE.fullmatch(word)
        value = number(header.get(keyword))
        if found is not None and (value is None or word[0] == "+"):
            sign, hours, minutes, part = found.groups()
            size = int(hours) + int(minutes or 0) / 60.0 + float(f"0.{part or 0}")
            value, west = -size if sign == "-" else size, False
        elif value is None or (keyword in _ZONES and west == east):
            continue
        minutes_written = unit_of("exptime", remark)[0] == "min"
        value = value / 60.0 if minutes_written else value
        if abs(value) <= LARGEST_OFFSET:
            return (-value if west and not east else value), keyword
    return None


def clock_longitude(header: Mapping[str, Any], jd_utc: float) -> tuple[float, str] | None:
    """Longitude by which a night is told where the site's is not known, from the clocks of the header.

    Parameters
    ----------
    header : mapping
        FITS header.
    jd_utc : float
        Julian date (UTC) at which its clocks were read: the start of the exposure.

    Returns
    -------
    longitude : float
        Degrees, east positive: 15 for every hour that local time is ahead of UTC, or by sidereal time, which is of the place itself.
    source : str
        Keyword, and what it says.
    """
    stated = stated_offset(header)
    if stated is not None:
        return 15.0 * stated[0], f"{stated[1]} (UTC{stated[0]:+g})"
    for keyword in _CLOCKS:
        local = _hours_of(str(header.get(keyword, "")))
        if local is None:
            continue
        ahead = (local - (jd_utc + 0.5) % 1.0 * 24.0 + 12.0) % 24.0 - 12.0
        zone = round(ahead / _QUARTER) * _QUARTER
        if abs(ahead - zone) < _NEAR and abs(zone) <= LARGEST_OFFSET:
            return 15.0 * zone, f"{keyword} (UTC{zone:+g})"
    for keyword in _SIDEREAL:
        hours = sexagesimal(header.get(keyword))
        if hours is not None and 0.0 <= hours <= 24.0:
            greenwich = float(erfa.gmst06(jd_utc, 0.0, jd_utc, 0.0)) * 12.0 / erfa.DPI
            return 15.0 * ((hours - greenwich + 12.0) % 24.0 - 12.0), f"{keyword} (sidereal time)"
    return None


def _hours_of(written: str) -> float | None:
    found = _CLOCK.search(written)
    if found is None:
        return None
    hours, minutes, seconds, half = found.groups()
    hour = int(hours) if half is None else int(hours) % 12 + (12 if half.upper() == "PM" else 0)
    return hour + int(minutes) / 60.0 + float(seconds.replace(",", ".")) / 3600.0
