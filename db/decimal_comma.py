"""Numbers with a decimal comma, as half of the world writes them: read where they can mean one thing only."""

from __future__ import annotations

import re

__all__ = ["ambiguous_comma", "with_point"]

_EXPONENT = r"(?:[eEdD][+-]?\d+)?"
#: "60,5", "0,500", ",5", "1234,567": no thousands are written so. "1,5" of three digits, as "1,500", may be either.
_COMMA = re.compile(rf"([+-]?(?:\d+|)),(\d+{_EXPONENT})")
_EITHER = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
#: "1,234,567", "1,234.5" and "1.234,5": of two signs the last is the decimal one, and one that stands twice is none.
_THOUSANDS = re.compile(rf"([+-]?[1-9]\d{{0,2}}(?:,\d{{3}})+)(\.\d*{_EXPONENT})")
_MILLIONS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3}){2,}")
_THOUSANDS_BY_POINTS = re.compile(rf"([+-]?[1-9]\d{{0,2}}(?:\.\d{{3}})+),(\d+{_EXPONENT})")


def ambiguous_comma(word: str) -> bool:
    """Whether the comma of a number may stand before decimals or between thousands: "1,500"."""
    return _EITHER.fullmatch(word.strip()) is not None


def with_point(word: str) -> str:
    """A number's text with a decimal point and no sign between thousands.

    Parameters
    ----------
    word : str
        One number, such as ``60,5``, ``1.234,5`` or ``1,234,567``.

    Returns
    -------
    str
        What has no comma, may mean two things (see `ambiguous_comma`) or is no number is returned as it is.
    """
    word = word.strip()
    if _EITHER.fullmatch(word):
        return word
    if (found := _THOUSANDS_BY_POINTS.fullmatch(word)) is not None:
        return f"{found.group(1).replace('.', '')}.{found.group(2)}"
    if (found := _THOUSANDS.fullmatch(word)) is not None:
        return found.group(1).replace(",", "") + found.group(2)
    if _MILLIONS.fullmatch(word):
        return word.replace(",", "")
    found = _COMMA.fullmatch(word)
    return word if found is None else f"{found.group(1)}.{found.group(2)}"
