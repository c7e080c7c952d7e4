"""What the remark behind a card (its FITS comment) says of its value: unit, direction that counts positive, moment, clock."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from reduction.headers.fact_list import FACTS

__all__ = ["ZONE_NAMES", "direction", "moment", "remark_of", "unit_of", "unit_word", "zone"]

#: Ways to write a unit, each whole: names of units as in ``FACTS[...].written``, of which a fact knows one at most.
_SPELLINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"s|secs?|seconds?", ("s",)),
    (r"ms|msecs?|millisecs?|milli-?seconds?", ("ms",)),
    (r"us|usecs?|microsecs?|micro-?seconds?", ("us",)),
    (r"mins?|minutes?", ("min",)),
    (r"h|hrs?|hours?|hour ?angle|decimal hours|hours? decimal", ("hour",)),
    (r"d|days?", ("day",)),
    (r"degs?|degrees?|decimal degrees|degrees decimal|°", ("degree", "deg")),
    (r"rads?|radians?", ("radian",)),
    (r"arc-?secs?|arc-?seconds?|asecs?|as", ("arcsec",)),
    (r"arc-?mins?|arc-?minutes?|amins?", ("arcmin",)),
    (r"um|mum|microns?|micro-?met(er|re)s?", ("micron",)),
    (r"mm|milli-?met(er|re)s?", ("mm",)),
    (r"cm|centi-?met(er|re)s?", ("cm",)),
    (r"m|met(er|re)s?", ("m",)),
    (r"km|kilo-?met(er|re)s?", ("km",)),
    (r"ft|feet|foot", ("feet",)),
    (r"in|inch|inches", ("inch",)),
    (r"c|°c|deg\.? ?c|degrees? c|(deg(rees?)? )?cel[sc]ius|centigrade", ("celsius",)),
    (r"k|deg\.? ?k|degrees? k|(deg(rees?)? )?kelvins?", ("kelvin",)),
    (r"f|°f|deg\.? ?f|degrees? f|(deg(rees?)? )?fahrenheit", ("fahrenheit",)),
    (r"(e-?|electrons?)( ?rms)?( ?(/|per) ?(pix|pixel))?", ("electron",)),
    (r"(adus?|dn|counts?)( ?(/|per) ?(pix|pixel))?", ("ADU",)),
    (r"(photo-?)?e(lectrons?|-)?\s*(/|per)\s*(adus?|dn|counts?|a/d units?)", ("electron/ADU",)),
    (r"(adus?|dn|counts?)\s*(/|per)\s*(photo-?)?e(lectrons?|-)?", ("ADU/electron",)),
    (r"e", ("east",)),
    (r"w", ("west",)),
)
#: Longer words say their unit wherever they stand in a remark; short ones in brackets, behind "in" or alone.
_PLAIN_WORDS = re.compile(
    r"\b(milli-?seconds?|micro-?seconds?|seconds?|minutes?|hours?|days?|degrees?|radians?|arc-?sec(ond)?s?|arc-?min(ute)?s?|microns?"
    r"|micro-?met(?:er|re)s?|milli-?met(?:er|re)s?|centi-?met(?:er|re)s?|kilo-?met(?:er|re)s?|met(?:er|re)s?|feet|inch(?:es)?|mm|km"
    r"|cel[sc]ius|kelvin|fahrenheit|electrons?)\b",
    re.IGNORECASE,
)
#: Facts whose degrees are no unit of their own, as every number of theirs is in some.
_IN_DEGREES = ("longitude", "ccd_temperature", "set_temperature")
_IN_BRACKETS = re.compile(r"\[([^\]]*)\]|\(([^)]*)\)")
_BEHIND_IN = re.compile(r"\bin ((?:deg(?:rees?)?\.? )?[a-zA-Z°]{1,2})(?=[,.;:)]|$)")
#: What of a bracket is no unit: how the digits stand, directions, binning, time scales, equinoxes.
_NO_UNIT = re.compile(
    r"[+-]?\b(hh?|mm?|ss?|dd?|hms|dms)([: .].*)?$|\b(binned|unbinned|pix(el)?s?|north|south|east|west|[nsew])\b|\biso\b.*",
    re.IGNORECASE,
)
#: A scale on the sky "per pixel", or "per mm", which is none of the pixels.
_PER_PIXEL = re.compile(r"\s*(/|\bper\b)\s*((un)?binned\s+)?(pix(el)?s?|px)\b.*", re.IGNORECASE)
_PER = re.compile(r"(/|\bper\b)\s*(mm|micron|um|deg|arcsec|s|sec|min|hour|h)\b", re.IGNORECASE)

_SIDES = {"east": "east", "e": "east", "west": "west", "w": "west", "north": "north", "n": "north", "south": "south", "s": "south"}
_SIGNED = re.compile(
    r"(?:\b(positive|negative)\b|(?<![A-Za-z])([+-])(?:ve)?)\s*(?:is\s+|=\s*|to\s+(?:the\s+)?)?(east|west|north|south|[ewns])\b"
    r"|\b(east|west|north|south|[ewns])(?:ward)?\s*(?:is\s+|=\s*)?(?:(positive|negative|pos\b|neg\b)|([+-])(?=[\s,)\]]|$))",
    re.IGNORECASE,
)
_SIDE = re.compile(r"\b(east|west|north|south)\b", re.IGNORECASE)
_OPPOSITE = {"east": "west", "west": "east", "north": "south", "south": "north"}

_MOMENTS = {
    "start": re.compile(r"\b(start(s|ed|ing)?|beg(in|ins|an|un|inning)|open(s|ed|ing)?|commence\w*)\b", re.IGNORECASE),
    "mid": re.compile(r"\b(mid|mid[- ]?(dle|point|time|exp\w*)|cent(er|re|ral) of|average\w*|avg)\b", re.IGNORECASE),
    "end": re.compile(r"\b(end|ends|ended|ending|finish\w*|stop(s|ped)?|clos(e|es|ed|ing)|grabbed|complet(e|ed|ion))\b", re.IGNORECASE),
}
_NOT_LOCAL = re.compile(r"sidereal|\blst\b", re.IGNORECASE)
_LOCAL = re.compile(r"\blocal\b|\bLT\b|\blocaltime\b", re.IGNORECASE)
_UTC = re.compile(r"\b(UTC?|GMT|universal)\b", re.IGNORECASE)
#: Names of time zones that mean one thing, in capitals, and their hours ahead of UTC: neither IST nor CST does.
ZONE_NAMES: Mapping[str, float] = MappingProxyType(
    {"HST": -10, "PST": -8, "PDT": -7, "MST": -7, "MDT": -6, "EST": -5, "EDT": -4, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3, "MSK": 3,
     "SAST": 2, "JST": 9, "AWST": 8, "AEST": 10, "AEDT": 11, "NZST": 12, "NZDT": 13}
)  # fmt: skip
_OFFSET = re.compile(r"\b(?:UTC?|GMT)\s*([+-])\s*(\d{1,2})(?::?(\d{2}))?\b", re.IGNORECASE)


def remark_of(header: Mapping[str, Any], keyword: str, place: int = 0) -> str:
    """Remark of a keyword's card, the first unless `place` says another; empty without one, and for a plain mapping."""
    comments = getattr(header, "comments", None)
    return str(comments[keyword, place]).strip() if comments is not None and keyword in header else ""


def unit_word(fact: str, word: str) -> str | None:
    """The unit that a word means for a fact, one of ``FACTS[fact].written``; None for every other word."""
    plain = " ".join(word.lower().replace("_", " ").split())
    for spelling, names in _SPELLINGS:
        if re.fullmatch(spelling, plain):
            found = next((name for name in names if name in FACTS[fact].written), None)
            if found is not None:
                return found
    return next((name for name in FACTS[fact].written if name.lower() == plain), None)


def unit_of(fact: str, remark: str) -> tuple[str | None, str | None]:
    """Unit that a remark states for the number of a fact.

    Parameters
    ----------
    fact : str
        Name in ``FACTS``.
    remark : str
        As ``[ms] Exposure time``, ``Exposure time in seconds`` or ``temperature of the chip (C)``.

    Returns
    -------
    unit : str or None
        One of ``FACTS[fact].written``; None where the remark states none.
    unknown : str or None
        What stands where the unit does and is none of them.
    """
    bracketed = [first or second for first, second in _IN_BRACKETS.findall(remark)]
    unknown = None
    for number, text in enumerate(bracketed):
        word, per = _without_pixel(text)
        unit = None if per else unit_word(fact, word)
        if unit is not None:
            return unit, None
        # FITS keeps the brackets at the beginning for the unit; others may hold anything.
        if number == 0 and remark.startswith("[") and _is_unit(word, per) and not (fact in _IN_DEGREES and word.lower().startswith("deg")):
            unknown = text.strip()
    plain, per = _without_pixel(_IN_BRACKETS.sub(" ", remark))
    words = [plain.strip(" .,:"), *_BEHIND_IN.findall(plain.strip()), *_words(plain)]
    found = {unit for word in words if (unit := unit_word(fact, word)) is not None}
    if per and fact == "pixel_scale":
        return None, unknown or plain.strip()
    return (found.pop() if len(found) == 1 and unknown is None else None), unknown


def _words(remark: str) -> list[str]:
    return [found.group(0) for found in _PLAIN_WORDS.finditer(remark)]


def _without_pixel(text: str) -> tuple[str, bool]:
    """A unit without "/pixel", and whether it is for something else than a pixel."""
    without = _PER_PIXEL.sub("", text)
    return without.strip(), _PER.search(without) is not None


def _is_unit(word: str, per: bool) -> bool:
    """Whether the word in brackets is a unit at all, rather than a form, a direction or a time scale."""
    left = _NO_UNIT.sub("", word).strip(" .,:+-")
    if not left or not re.search(r"[A-Za-z]", left) or _UTC.search(left):
        return False
    known = any(re.fullmatch(spelling, left.lower()) for spelling, _ in _SPELLINGS)
    return per or not known or left == word


def direction(remark: str) -> tuple[str | None, bool]:
    """Side of the sky or the Earth that counts positive by a remark, and whether it says so of the sign.

    ``positive west`` and ``west +`` do; ``[degrees West]`` names a side only.
    """
    signed = _SIGNED.search(remark)
    if signed is not None:
        before, sign, side, side_before, after, sign_after = signed.groups()
        word = (before or sign or after or sign_after or "").lower()
        found = _SIDES[(side or side_before).lower()]
        return (_OPPOSITE[found] if word.startswith(("neg", "-")) else found), True
    sides = {word.lower() for word in _SIDE.findall(remark)}
    return (sides.pop() if len(sides) == 1 else None), False


def moment(remark: str) -> str | None:
    """``start``, ``mid`` or ``end`` of the exposure, where a remark says one of them and no other."""
    # "Start date & time; see also DATE-END": keywords in capitals are no words of a sentence.
    text = re.sub(r"\b[A-Z]+-[A-Z]+\b|midnight", " ", remark)
    found = [name for name, words in _MOMENTS.items() if words.search(text)]
    return found[0] if len(found) == 1 else None


def zone(remark: str) -> tuple[str | None, float | None]:
    """``utc``, ``local`` or None by a remark, and the hours that a local clock is ahead of UTC where it says those, too."""
    if _NOT_LOCAL.search(remark):
        return None, None
    offset = _OFFSET.search(remark)
    if offset is not None:
        sign, hours, minutes = offset.groups()
        size = int(hours) + int(minutes or 0) / 60.0
        return ("local", -size if sign == "-" else size) if size else ("utc", None)
    named = {word for word in re.findall(r"\b[A-Z]{3,4}\b", remark) if word in ZONE_NAMES}
    if len(named) == 1 and _UTC.search(remark) is None:
        return "local", ZONE_NAMES[named.pop()]
    universal, local = _UTC.search(remark) is not None, _LOCAL.search(remark) is not None
    if universal == local:
        return None, None
    return ("utc" if universal else "local"), None
