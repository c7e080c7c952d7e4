"""Which filters stood in the light: every wheel counts, and a place of a wheel without a filter does not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reduction.headers.reader import Candidate, HeaderReader, quoted
from reduction.headers.values import all_values, number, text

__all__ = ["BEHIND", "filters_in_light", "is_empty_place"]

#: Between the names of filters that stood one behind the other.
BEHIND = " + "
_WHEELS = "123456789ABCDEF"
_WHEEL = re.compile(r"(?P<stem>[A-Z][A-Z_-]*?)[_-]?(?P<wheel>[1-9A-F])")
_STEM = re.compile(r"FILT(ER|NAME?|NM)?|FLT(NM)?|WHEEL|FW(HEEL)?|FILT(ER)?I|.*FILT.*")
_HIERARCHICAL = re.compile(r"(?P<stem>.*\bFILT)(?P<wheel>[1-9])(?P<rest> NAME)")
#: How programs call a place of a wheel without a filter, or with plain glass in it.
_EMPTY = re.compile(
    r"(\d+[ :._-]+)?(no[ _-]?filters?|none|nil|null|no|empty|open|clear|clr|air|free|hole|out|unused|vacant|void)"
    r"([ _-]?(slot|position|pos|place|hole|glass|filter|beam))?([ _#-]*\d+([-_.]\d+)?)?",
    re.IGNORECASE,
)
_BETWEEN = re.compile(r"\s*[,;+|/]\s*")


@dataclass(frozen=True)
class _Place:
    """What one keyword says: the filter, and the wheel it stands in, "" for what holds for all of them."""

    candidate: Candidate
    name: str
    wheel: str


def is_empty_place(word: str) -> bool:
    """Whether a name is that of a place without a filter: ``<NO FILTER>``, ``air``, ``Clear``, ``open2-8``."""
    return _EMPTY.fullmatch(word.strip(" <>()[]{}'\"-*.")) is not None or not word.strip(" <>()[]-*.")


def filters_in_light(reader: HeaderReader) -> tuple[str, ...]:
    """Names of the filters, in the order of the wheels; that of an empty place where no wheel holds one, and none where nothing is said.

    A keyword without a number (FILTER) holds for all wheels: where it names one of theirs, as R-Bessell does R, that is the same
    filter, else it is one more. Two of them that differ are noted, and the first is used. A number is a position of a wheel, and
    is no name where there is another.
    """
    places = list(_places(reader))
    if places and places[0].candidate.keyword is None:
        reader.sources["filter"] = places[0].candidate.source
        return (places[0].name,)
    full = [place for place in places if not is_empty_place(place.name)]
    named = [place for place in full if number(place.name) is None]
    used = _different(reader, named or full) or places[:1]
    if used:
        reader.sources["filter"] = BEHIND.join(dict.fromkeys(place.candidate.source for place in used))
    return tuple(place.name for place in used)


def _places(reader: HeaderReader) -> Iterator[_Place]:
    listed = tuple(reader.definition.keywords.get("filter", ()))
    wheels = [keyword for keyword in _siblings(reader.header, listed) if keyword not in listed]
    given = [candidate for candidate in reader.candidates("filter") if candidate.source != "[default]"]
    more = [
        Candidate(value, keyword, keyword, place) for keyword in wheels for place, value in enumerate(all_values(reader.header, keyword))
    ]
    default = [candidate for candidate in reader.candidates("filter") if candidate.source == "[default]"]
    found = [place for candidate in [*given, *more] for place in _named(candidate)]
    yield from found or [place for candidate in default for place in _named(candidate)]


def _named(candidate: Candidate) -> Iterator[_Place]:
    word = text(candidate.value)
    if word is None:
        return
    if candidate.keyword is None:
        yield _Place(candidate, word, "")
        return
    parts = [part for part in _BETWEEN.split(word) if part]
    # "Clear;V" is two wheels under one keyword; "V/R" or "OIII+Ha" is one name.
    for part in parts if len(parts) > 1 and any(map(is_empty_place, parts)) else [word]:
        yield _Place(candidate, part, _wheel_of(candidate.keyword)[1])


def _wheel_of(keyword: str) -> tuple[str, str]:
    """Keyword without the wheel, and the wheel: ("FILTER", "2"); no wheel for FILTER itself."""
    found = _WHEEL.fullmatch(keyword) or _HIERARCHICAL.fullmatch(keyword)
    if found is None or _STEM.fullmatch(found["stem"]) is None:
        return keyword, ""
    return found["stem"] + found.groupdict().get("rest", ""), found["wheel"]


def _siblings(header: Mapping[str, Any], listed: tuple[str, ...]) -> list[str]:
    """Keywords of the header that are those of further wheels of what is listed, in the order of the wheels."""
    stems = [_wheel_of(keyword)[0] for keyword in listed]
    found = [
        (stems.index(stem), _WHEELS.index(wheel), keyword)
        for keyword in header
        for stem, wheel in [_wheel_of(keyword)]
        if wheel and stem in stems
    ]
    return [keyword for _, _, keyword in sorted(set(found))]


def _different(reader: HeaderReader, places: list[_Place]) -> list[_Place]:
    """Each filter once; what no two keywords can mean together is noted."""
    used: list[_Place] = []
    for place in sorted(places, key=lambda place: (place.wheel != "", place.wheel)):
        if any(_same(place, other) for other in used):
            continue
        rival = next((other for other in used if other.wheel == place.wheel and other.candidate.keyword != place.candidate.keyword), None)
        twice = next(
            (
                other
                for other in used
                if other.candidate.keyword == place.candidate.keyword and other.candidate.place != place.candidate.place
            ),
            None,
        )
        if rival is not None or twice is not None:
            reader.disagreement("filter", (rival or twice or place).candidate, place.candidate)
            continue
        overall = next((other for other in used if other.wheel == "" and place.wheel), None)
        if overall is not None:
            reader.note(
                f"{overall.candidate.keyword} = {quoted(overall.name)} and {place.candidate.keyword} = {quoted(place.name)} are taken for "
                "two filters, one behind the other"
            )
        used.append(place)
    return used


def _same(one: _Place, other: _Place) -> bool:
    """One name, or of different keywords one that says more: R and R-Bessell."""
    words, others = _words(one.name), _words(other.name)
    if words == others:
        return True
    differently = one.candidate.keyword != other.candidate.keyword and (one.wheel == "" or other.wheel == "" or one.wheel == other.wheel)
    return differently and (words <= others or others <= words)


def _words(name: str) -> frozenset[str]:
    return frozenset(re.findall(r"[^\W_]+", name.casefold())) or frozenset({name})
