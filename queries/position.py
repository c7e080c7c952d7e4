"""Positions as people write them."""

from __future__ import annotations

import math
import re
import warnings

from db.errors import ConfigurationError

__all__ = ["is_position", "parse_position"]

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
#: Only these can stand in a position: a name has other letters.
_POSITION = re.compile(r"[-+0-9.,:;\seEhHmMsSdD°'\"′″ʰᵐˢ−]+")


def is_position(text: str) -> bool:
    """Whether `text` looks like "RA DEC" at all: at least two numbers, and no letters but h, m, s, d."""
    return _POSITION.fullmatch(text) is not None and len(re.findall(r"\d+", text)) >= 2 and len(_fields(text)) in (2, 4, 6)


def parse_position(text: str) -> tuple[float, float]:
    """Right ascension and declination in degrees (ICRS).

    Two plain numbers are degrees; anything with minutes is hours and
    degrees: "31.0427 46.6879", "02:04:10.2 +46:41:16", "02 04 10.2 +46 41 16",
    "2h04m10.2s +46d41m16s".

    Raises
    ------
    ConfigurationError
        When it cannot be read, or lies beyond 360 or 90 degrees.
    """
    fields = _fields(text)
    if not is_position(text):
        raise _unreadable(text, "not two coordinates")
    from astropy.coordinates import Angle  # half a second to import
    from astropy.utils.exceptions import AstropyWarning

    half = len(fields) // 2
    ra_text, dec_text = " ".join(fields[:half]), " ".join(fields[half:])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", AstropyWarning)
            ra = float(ra_text) if _NUMBER.fullmatch(ra_text) else Angle(ra_text, unit="hourangle").degree
            dec = float(dec_text) if _NUMBER.fullmatch(dec_text) else Angle(dec_text, unit="deg").degree
    except (ValueError, AstropyWarning) as error:
        raise _unreadable(text, str(error).splitlines()[0]) from error
    if not (math.isfinite(ra) and -180.0 <= ra <= 360.0 and abs(dec) <= 90.0):
        raise _unreadable(text, f"RA {ra:g} deg and Dec {dec:g} deg are not on the sky")
    return float(ra) % 360.0, float(dec)


def _fields(text: str) -> list[str]:
    return text.replace("−", "-").replace(",", " ").replace(";", " ").split()


def _unreadable(text: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"no position ({reason})", where=repr(text), hint='give "31.0427 46.6879" or "02:04:10.2 +46:41:16"', code="position.format"
    )
