"""One header looked at through one definition: values in order of preference, in the unit of their fact, and where each came from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from reduction.headers.definition import InstrumentDefinition
from reduction.headers.expressions import evaluate
from reduction.headers.fact_list import FACTS, convert
from reduction.headers.values import number, number_and_unit, sexagesimal, text

__all__ = ["DEFAULT", "OVERRIDE", "Candidate", "HeaderReader"]

OVERRIDE, DEFAULT = "[override]", "[default]"
#: Ways to write a unit behind a number, where they differ from the names in ``[units]``.
_SPELLINGS = {
    "sec": "s", "secs": "s", "second": "s", "seconds": "s", "msec": "ms", "milliseconds": "ms", "usec": "us", "min": "min",
    "minutes": "min", "c": "celsius", "degc": "celsius", "k": "kelvin", "um": "micron", "microns": "micron", "ft": "feet",
    "deg": "degree", "h": "hour", "e": "east", "w": "west",
}  # fmt: skip
#: Coordinates of a WCS, which are never in hours.
_ALWAYS_DEGREES = ("CRVAL1", "CRVAL2")


@dataclass(frozen=True)
class Candidate:
    """One value for a fact.

    Attributes
    ----------
    value : object
        As written, or as worked out.
    source : str
        Keyword, expression, ``[override]`` or ``[default]``.
    keyword : str or None
        Keyword it stands under; None for all others, which are in the fact's own unit.
    """

    value: Any
    source: str
    keyword: str | None = None


@dataclass(frozen=True)
class HeaderReader:
    """Reads the facts of one header.

    Attributes
    ----------
    header : mapping
        FITS header.
    definition : InstrumentDefinition
        What its keywords mean.
    shape : tuple of int
        (ny, nx) of the image.
    step : float
        Step between the stored values, ADU; 0 when they are continuous.
    sources : dict of str to str
        Filled while reading: fact to where its value came from.
    notes : list of str
        Filled while reading: doubts, each one sentence.
    """

    header: Mapping[str, Any]
    definition: InstrumentDefinition
    shape: tuple[int, int]
    step: float = 1.0
    sources: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def candidates(self, fact: str) -> Iterator[Candidate]:
        """Values in order of preference: override, expression, keywords in their order, default."""
        if fact in self.definition.override:
            yield Candidate(self.definition.override[fact], OVERRIDE)
        if fact in self.definition.expressions:
            expression = self.definition.expressions[fact]
            value = evaluate(expression, lambda word: number(self.header.get(word)))
            if value is not None:
                yield Candidate(value, expression)
        for keyword in self.definition.keywords.get(fact, ()):
            if self.header.get(keyword) is not None:
                yield Candidate(self.header[keyword], keyword, keyword)
        if fact in self.definition.default:
            yield Candidate(self.definition.default[fact], DEFAULT)

    def size(self, fact: str, candidate: Candidate) -> float | None:
        """Number of a candidate in the unit of its fact, whatever its limits; None where there is none."""
        if candidate.keyword is None:
            return number(candidate.value)
        plain, behind = number_and_unit(candidate.value)
        if plain is None:
            return self._sexagesimal(fact, candidate) if FACTS[fact].form == "angle" else None
        if fact == "latitude" and behind.upper() == "S":
            plain = -plain
        spelled = _SPELLINGS.get(behind.lower(), behind.lower())
        written = spelled if spelled in FACTS[fact].written else self.definition.units.get(fact)
        if candidate.keyword in _ALWAYS_DEGREES:
            written = None
        value = convert(fact, plain, written)
        return value if math.isfinite(value) else None

    def _sexagesimal(self, fact: str, candidate: Candidate) -> float | None:
        value = sexagesimal(candidate.value)
        if value is None or fact == "ra":
            # Sexagesimal right ascensions are in hours, whatever plain numbers are in.
            return None if value is None else 15.0 * value
        marked = str(candidate.value).strip()[-1:].upper() in ("E", "W")
        return value if marked else convert(fact, value, self.definition.units.get(fact))

    def number(self, fact: str, allowed: Callable[[float], bool] | None = None) -> float | None:
        """First number that is a possible value of the fact (or that `allowed` allows), or None; its source is kept."""
        possible = allowed if allowed is not None else FACTS[fact].allows
        for candidate in self.candidates(fact):
            value = self.size(fact, candidate)
            if value is not None and possible(value):
                self.sources[fact] = self.source_of(fact, candidate)
                return value
            if value is not None and value > FACTS[fact].high:
                self.beyond(fact, value, candidate.source)
        return None

    def beyond(self, fact: str, value: float, source: str) -> None:
        """Note a number that no camera has; small ones and those below 0 are how many write that they do not know."""
        self.notes.append(f"{source} = {value:g} is beyond {FACTS[fact].range}: not used")

    def source_of(self, fact: str, candidate: Candidate) -> str:
        """Where a value came from, with the unit it was written in where that is not the usual one."""
        unit = self.definition.units.get(fact)
        unusual = candidate.keyword is not None and unit is not None and unit != next(iter(FACTS[fact].written))
        return f"{candidate.source} ({unit})" if unusual else candidate.source

    def text(self, fact: str) -> str | None:
        """First word or name that is no placeholder, or None; its source is kept."""
        for candidate in self.candidates(fact):
            word = text(candidate.value)
            if word is not None:
                self.sources[fact] = candidate.source
                return word
        return None
