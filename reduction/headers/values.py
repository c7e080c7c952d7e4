"""Values as they stand in FITS headers, written in many ways, to numbers.

Every function returns None for what cannot be a value of its kind ("N/A",
"hh:mm:ss.ss", -1 where the header says "no data"), never a guess.
"""

from __future__ import annotations

import math
import re
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from db.decimal_comma import with_point

__all__ = ["all_values", "denied", "digits_of", "number", "number_and_unit", "section", "sexagesimal", "text", "truth"]

_UNKNOWN = {"", "-", "none", "n/a", "na", "nan", "null", "unknown", "undefined", "undef", "no data"}
_PLACEHOLDERS = {"telescope", "observatory", "instrument"}
_NUMBER = re.compile(r"^\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][+-]?\d+)?)\s*([a-zA-Z%\"°/-]*(?: [a-zA-Z/-]+)*)\s*$")
#: What a number with a decimal comma begins with.
_WITH_COMMA = re.compile(r"^\s*([+-]?[\d.]*,[\d.,]*\d(?:[eEdD][+-]?\d+)?)")
_SEXAGESIMAL = re.compile(
    r"^\s*([+-]?)\s*(\d{1,3})[:\s hHdD°]+(\d{1,2}(?:[.,]\d+(?=[\s mM']*[NSEWnsew]?\s*$))?)(?:[:\s mM']+(\d{1,2}(?:[.,]\d*)?))?"
    r"\s*[sSmM'\"]?\s*([NSEWnsew]?)\s*$"
)
#: "Flat no. 3" is a name.
_DENIED = re.compile(
    r"\b(no(?![-.#\s]*\d)|not|never|without|false|off|omit(ted|ting)?|skip(ped|ping|s)?|disabled|failed|missing|pending)\b|n't\b",
    re.IGNORECASE,
)
#: "hh:mm:ss.ss" says how a value would be written.
_FORM = re.compile(r"[+-]?(h{1,2}|d{1,3}|y{2,4})[:\s-]+m{1,2}([:\s-]+[sd]{1,2}(\.s*)?.*)?", re.IGNORECASE)
_SECTION = re.compile(r"^\s*\[\s*(\d+)\s*:\s*(\d+)\s*,\s*(\d+)\s*:\s*(\d+)\s*\]\s*$")


def text(value: Any) -> str | None:
    """Return a word or name without padding, or None for blanks and placeholders."""
    if value is None or isinstance(value, bool):
        return None
    word = " ".join("".join(letter if letter.isprintable() else " " for letter in str(value)).split())
    return None if word.lower() in _UNKNOWN | _PLACEHOLDERS or _FORM.fullmatch(word) or word.startswith("<astropy") else word


def all_values(header: Mapping[str, Any], keyword: str) -> list[Any]:
    """Values of a keyword, of every card in the order of the header; more than one where it stands several times."""
    if header.get(keyword) is None:
        return []
    count = getattr(header, "count", None)
    return [header[keyword]] if count is None else [header[keyword, place] for place in range(count(keyword))]  # type: ignore[index]


def number(value: Any) -> float | None:
    """Return a finite number; text may carry a unit behind it ("40", "60.0 sec", "13 C")."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        return float(value) if abs(value) <= sys.float_info.max else None
    found = _number_match(str(value))
    size = float(found.group(1).upper().replace("D", "E")) if found else math.inf
    return size if math.isfinite(size) else None


def _number_match(value: str) -> re.Match[str] | None:
    """The number of a text and its unit; a decimal comma is one where it can be nothing else."""
    return _NUMBER.match(_WITH_COMMA.sub(lambda found: with_point(found.group(1)), value))


def number_and_unit(value: Any) -> tuple[float | None, str]:
    """Return a finite number and what stands behind it ("500 ms"); the unit is empty for a plain number."""
    found = _number_match(value) if isinstance(value, str) else None
    return number(value), "" if found is None else found.group(2)


def sexagesimal(value: Any) -> float | None:
    """Return sexagesimal text ("02 05 14.9", "-46:41:16") in units of its first field; S and W behind it negate."""
    found = _SEXAGESIMAL.match(str(value)) if isinstance(value, str) else None
    if found is None:
        return None
    sign, whole, minutes, seconds, letter = (part.replace(",", ".") if part else part for part in found.groups())
    if float(minutes) >= 60 or float(seconds or 0) > 60:
        return None
    size = int(whole) + float(minutes) / 60 + float(seconds or 0) / 3600
    return -size if sign == "-" or letter.upper() in ("S", "W") else size


def denied(clause: str) -> bool:
    """Whether words say that something was not done: "not done", "no flat field correction", "skipped"."""
    return _DENIED.search(clause) is not None


def truth(value: Any) -> bool:
    """Whether a keyword says that something was done: T, "YES", a file name; not F, "NO", "not done", 0, -1 or nothing."""
    if isinstance(value, bool):
        return value
    size = number(value)
    if size is not None:
        # Pipelines with status flags write -1 for a step they left out.
        return size > 0
    word = text(value)
    return word is not None and word.lower() not in {"f", "n", "undone"} and not denied(word)


def section(value: Any, shape: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Return a FITS section ``[x1:x2,y1:y2]`` (1-based, inclusive) as 0-based half-open (x0, x1, y0, y1).

    None unless it lies within `shape` (ny, nx) and holds at least one pixel.
    """
    found = _SECTION.match(str(value)) if value is not None else None
    if found is None:
        return None
    first_x, last_x, first_y, last_y = (int(part) for part in found.groups())
    ny, nx = shape
    if not (1 <= first_x <= last_x <= nx and 1 <= first_y <= last_y <= ny):
        return None
    return (first_x - 1, last_x, first_y - 1, last_y)


def digits_of(header: Mapping[str, Any], keyword: str) -> str:
    """Digits of a keyword as they are written in the card, so that trailing zeros count towards the precision."""
    value = header[keyword]
    cards = getattr(header, "cards", None)
    if isinstance(value, str) or cards is None:
        return str(value).strip()
    with warnings.catch_warnings():
        # A card that was changed in memory is written anew to be read, and may be too long for its remark.
        warnings.simplefilter("ignore")
        image = str(cards[keyword].image)
    written = image[10:].split("/")[0].strip().strip("'").strip()
    return written if number(written) == number(value) else repr(value)
