"""What a header says of which camera it is: serial number, focal length, site and whatever else its definition names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from reduction.headers.fact_list import FACTS
from reduction.headers.reader import HeaderReader

__all__ = ["IDENTITY_FACTS", "SITE", "differing", "identity_facts", "in_words"]

SITE = "site"
"""Stands for latitude and longitude together."""

IDENTITY_FACTS = (SITE, *(kind.name for kind in FACTS.values() if kind.form in ("text", "number")))
"""What a definition may name under `identity`."""

#: What is looked at in any case: where it is no part of the rule, a difference is noted.
_ALWAYS = ("camera_serial", "focal_length", SITE)
#: Numbers that differ by this part are one: programs measure the focal length anew every night.
_PART = 0.05
#: Degrees by which two descriptions of one site differ, by rounding or by the telescope that stands next to it.
_NEARBY = 0.1


def identity_facts(reader: HeaderReader, site: tuple[float | None, float | None]) -> dict[str, Any]:
    """Facts that tell one camera from another of its model; those that the header does not have are left out.

    Parameters
    ----------
    reader : HeaderReader
        Of the header; nothing is noted in it.
    site : (float, float) or (None, None)
        Latitude and longitude, deg.

    Returns
    -------
    dict
        Fact to text or number; ``site`` to a list of two numbers.
    """
    quiet = HeaderReader(reader.header, reader.definition, reader.shape, reader.step)
    found: dict[str, Any] = {}
    for fact in dict.fromkeys((*reader.definition.identity, *_ALWAYS)):
        if fact == SITE:
            value: Any = [round(float(angle), 4) for angle in site if angle is not None] or None
        else:
            value = quiet.number(fact) if FACTS[fact].form == "number" else quiet.text(fact)
        if value is not None:
            found[fact] = value
    return found


def differing(one: Mapping[str, Any], other: Mapping[str, Any], among: Sequence[str]) -> list[str]:
    """Which of some facts are known to both and are not the same.

    Numbers are the same within 5 %, sites within 0.1 degree along the sky and up to the pole, texts without case and spaces.
    """
    return [fact for fact in among if fact in one and fact in other and not _same(fact, one[fact], other[fact])]


def _same(fact: str, one: Any, other: Any) -> bool:
    if fact == SITE:
        east = (one[1] - other[1] + 180.0) % 360.0 - 180.0
        return math.hypot(one[0] - other[0], east * math.cos(math.radians(one[0]))) < _NEARBY
    if FACTS[fact].form == "number":
        return bool(abs(one - other) <= _PART * max(abs(one), abs(other)))
    return "".join(str(one).split()).lower() == "".join(str(other).split()).lower()


def in_words(fact: str, value: Any) -> str:
    """A fact for people, such as ``focal_length 400 mm``."""
    if fact == SITE:
        return f"{SITE} {value[0]:.2f} {value[1]:.2f}"
    unit = FACTS[fact].unit
    return f"{fact} {value:g} {unit}".strip() if FACTS[fact].form == "number" else f"{fact} {value}"
