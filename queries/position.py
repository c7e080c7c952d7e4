"""Positions as people write them."""

from __future__ import annotations

import math
import re
import warnings

from db.errors import ConfigurationError

#: An hour in degrees as astropy has it, by way of radians: 15 less one bit.
_HOUR = 15.0 * math.radians(1.0) / math.radians(1.0)
_MINUTE, _SECOND = r"(?P<minute>[0-5]?\d)", r"(?P<second>[0-5]?\d(\.\d+)?)"
#: How nearly everybody writes hours and degrees: "02:04:10.2", "02 04 10.2" and "2h04m10.2s" or "2d04m10.2s".
_SEXAGESIMAL = {
    unit: re.compile(
        rf"(?P<sign>[-+]?)(?P<whole>{whole})(?:(?P<mark>[: ])|{letter} ?){_MINUTE}(?(mark)(?P=mark)|m ?){_SECOND}(?(mark)|s)", re.ASCII
    )
    for unit, whole, letter in (("hourangle", r"[01]?\d|2[0-3]", "h"), ("deg", r"\d{1,2}", "d"))
}

__all__ = ["is_position", "parse_position"]

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
#: A comma between digits, before the end of a number or its unit; "10,5," has another behind it, which parts.
_DECIMAL = re.compile(r"(\d),(\d+(?:[eE][+-]?\d+)?[^\d,:.]*,?)$")
_ENDS = re.compile(r"^[^,]*\d,\d+,$")
#: Without a blank, and with more commas than one: nobody can tell which part.
_AMBIGUOUS = re.compile(r"\s*[-+−]?\d+(,[-+−]?\d+){3,}\s*")
_PARTING = re.compile(r",\s")
#: Only these can stand in a position: a name has other letters.
_POSITION = re.compile(r"[-+0-9.,:;\seEhHmMsSdD°'\"′″ʰᵐˢ−]+")


def is_position(text: str) -> bool:
    """Whether `text` looks like "RA DEC" at all: at least two numbers, and no letters but h, m, s, d."""
    return _POSITION.fullmatch(text) is not None and len(re.findall(r"\d+", text)) >= 2 and len(_fields(text)) in (2, 4, 6)


def parse_position(text: str) -> tuple[float, float]:
    """Right ascension and declination in degrees (ICRS).

    Two plain numbers are degrees; anything with minutes is hours and
    degrees: "31.0427 46.6879", "02:04:10.2 +46:41:16", "02 04 10.2 +46 41 16",
    "2h04m10.2s +46d41m16s". A comma within a number is a decimal one where
    blanks or semicolons part the numbers, as in "31,0427 46,6879"; a single
    one, or one beside a blank, parts right ascension and declination.

    Raises
    ------
    ConfigurationError
        When it cannot be read, may mean two things as "10,5,20,5", or lies beyond 360 or 90 degrees.
    """
    fields = _fields(text)
    if _AMBIGUOUS.fullmatch(text) or (len(fields) == 4 and len(_PARTING.findall(text)) > 1):
        raise _unreadable(text, "its commas may be decimal or between numbers")
    if not is_position(text):
        raise _unreadable(text, "not two coordinates")
    half = len(fields) // 2
    ra, dec = _angle(text, " ".join(fields[:half]), "hourangle"), _angle(text, " ".join(fields[half:]), "deg")
    if not (math.isfinite(ra) and -180.0 <= ra <= 360.0 and abs(dec) <= 90.0):
        raise _unreadable(text, f"RA {ra:g} deg and Dec {dec:g} deg are not on the sky")
    return float(ra) % 360.0, float(dec)


def _angle(text: str, angle: str, unit: str) -> float:
    """Degrees of one coordinate of `text`: a plain number is degrees, others are in `unit`."""
    if _NUMBER.fullmatch(angle):
        return float(angle)
    usual = _SEXAGESIMAL[unit].fullmatch(angle)
    if usual is not None:
        # In astropy's order of operations: the same number to the last bit.
        whole = int(usual["whole"]) + int(usual["minute"]) / 60.0 + float(usual["second"]) / 3600.0
        return math.copysign(whole, -1.0 if usual["sign"] == "-" else 1.0) * (_HOUR if unit == "hourangle" else 1.0)
    from astropy.coordinates import Angle  # half a second to import: only for what is written in another way, or wrong
    from astropy.utils.exceptions import AstropyWarning

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", AstropyWarning)
            return float(Angle(angle, unit=unit).degree)
    except (ValueError, AstropyWarning) as error:
        raise _unreadable(text, str(error).splitlines()[0]) from error


def _fields(text: str) -> list[str]:
    """Numbers of a position, with a decimal point."""
    plain = text.replace("−", "-").strip()
    words = plain.replace(";", " ").split()
    if len(words) > 1 or ";" in plain:
        # Parted by something else already: a comma between two digits is a decimal one, unless a word has several.
        plain = " ".join(_DECIMAL.sub(r"\1.\2", word) if word.count(",") <= 1 or _ENDS.search(word) else word for word in words)
    return plain.replace(",", " ").replace(";", " ").split()


def _unreadable(text: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"no position ({reason})", where=repr(text), hint='give "31.0427 46.6879" or "02:04:10.2 +46:41:16"', code="position.format"
    )
