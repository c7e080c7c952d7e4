"""One header looked at through one definition: values in order of preference, in the unit of their fact, and where each came from."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from db.decimal_comma import ambiguous_comma
from reduction.headers.definition import InstrumentDefinition
from reduction.headers.expressions import evaluate
from reduction.headers.fact_list import FACTS, convert
from reduction.headers.remarks import direction, remark_of, unit_of, unit_word
from reduction.headers.values import all_values, number, number_and_unit, sexagesimal, text

__all__ = ["DEFAULT", "OVERRIDE", "Candidate", "HeaderReader", "quoted"]

OVERRIDE, DEFAULT = "[override]", "[default]"
#: Coordinates of a WCS, which are never in hours.
_ALWAYS_DEGREES = ("CRVAL1", "CRVAL2")
_HOURS = 24.0  # of a circle
_LONGEST_QUOTE = 60
_SIDE_BEFORE = re.compile(r"^\s*([NSEW])\s*(\d.*?)\s*$", re.IGNORECASE)


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
    place : int
        Which card of that keyword, where it stands several times.
    """

    value: Any
    source: str
    keyword: str | None = None
    place: int = 0


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

    def note(self, doubt: str) -> None:
        """Keep a doubt, once."""
        if doubt not in self.notes:
            self.notes.append(doubt)

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
            for place, value in enumerate(all_values(self.header, keyword)):
                if value is not None:
                    yield Candidate(value, keyword, keyword, place)
        if fact in self.definition.default:
            yield Candidate(self.definition.default[fact], DEFAULT)

    def size(self, fact: str, candidate: Candidate) -> float | None:
        """Number of a candidate in the unit of its fact, whatever its limits; None where there is none."""
        if candidate.keyword is None:
            return number(candidate.value)
        if FACTS[fact].form == "angle" and isinstance(candidate.value, str):
            # "W110 57 00" is "110 57 00 W".
            candidate = replace(candidate, value=_SIDE_BEFORE.sub(r"\2 \1", candidate.value))
        plain, behind = number_and_unit(candidate.value)
        if plain is None:
            return self._sexagesimal(fact, candidate) if FACTS[fact].form == "angle" else None
        if fact in ("latitude", "dec") and (behind.upper() == "S" or (plain > 0 and self._side(candidate) == "south")):
            plain = -plain
        value = convert(fact, plain, self.unit(fact, candidate, behind, plain))
        return value if math.isfinite(value) else None

    def unit(self, fact: str, candidate: Candidate, behind: str = "", plain: float = 1.0) -> str | None:
        """Unit that a keyword's number is in: as behind it, as the definition has it, as the remark says; None for the usual one."""
        if candidate.keyword is None or candidate.keyword in _ALWAYS_DEGREES:
            return None
        spelled = unit_word(fact, behind) if behind else None
        stated = self.definition.units.get(fact)
        if spelled is not None or stated is not None or not FACTS[fact].written:
            return spelled if spelled is not None else stated
        remark = remark_of(self.header, candidate.keyword, candidate.place)
        unit, unknown = unit_of(fact, remark)
        if unknown is not None or (behind and behind.upper() not in "NSEW"):
            self.note(
                f"{candidate.keyword} = {candidate.value} is in '{unknown or behind}', which is no unit known for {fact}: "
                f"taken as {FACTS[fact].unit}; give units.{fact} under [[instrument]] in --config"
            )
        return self._longitude(candidate, remark, plain) or unit if fact == "longitude" else unit

    def _longitude(self, candidate: Candidate, remark: str, plain: float) -> str | None:
        """Side that counts positive by the remark; of a number below zero a mere "West" may say what its sign says already."""
        side, of_sign = direction(remark)
        if side == "west" and not of_sign and plain < 0:
            self.note(f"{candidate.keyword} = {candidate.value} is said to be west: its sign is taken to say that already")
            return None
        return side if side in ("east", "west") else None

    def _side(self, candidate: Candidate) -> str | None:
        return direction(remark_of(self.header, candidate.keyword, candidate.place))[0] if candidate.keyword is not None else None

    def _sexagesimal(self, fact: str, candidate: Candidate) -> float | None:
        value = sexagesimal(candidate.value)
        if value is None:
            return None
        if fact == "ra":
            if abs(value) >= _HOURS:
                self.note(f"{candidate.keyword} = {candidate.value} is beyond 24 hours: taken as degrees")
                return value
            # Sexagesimal right ascensions are in hours, whatever plain numbers are in.
            return 15.0 * value
        if str(candidate.value).strip()[-1:].upper() in ("E", "W") or fact != "longitude":
            return -value if fact in ("latitude", "dec") and value > 0 and self._side(candidate) == "south" else value
        unit = self.unit(fact, candidate, plain=value)
        return convert(fact, value, unit if unit in ("east", "west") else None)

    def number(self, fact: str, allowed: Callable[[float], bool] | None = None) -> float | None:
        """First number that is a possible value of the fact (or that `allowed` allows), or None; its source is kept.

        What stands before it and cannot be read, and what stands behind it and says otherwise, is noted.
        """
        possible = allowed if allowed is not None else FACTS[fact].allows
        chosen: Candidate | None = None
        result: float | None = None
        for candidate in self.candidates(fact):
            value = self.size(fact, candidate)
            if value is None or not possible(value):
                self.not_used(fact, candidate, value)
            elif chosen is None or result is None:
                chosen, result = candidate, value
                self.sources[fact] = self.source_of(fact, candidate)
            elif FACTS[fact].disagree(result, value):
                self.disagreement(fact, chosen, candidate)
        return result

    def not_used(self, fact: str, candidate: Candidate, value: float | None) -> None:
        """Note what a keyword holds and is no value of the fact: text that cannot be read, and a number too large.

        Small numbers and those below 0 are how many write that they do not know.
        """
        written = text(candidate.value)
        if candidate.keyword is None or written is None:
            return
        if value is not None and value > FACTS[fact].high:
            self.beyond(fact, value, candidate.source)
        elif value is None and number(candidate.value) is None:
            why = "may be decimals or thousands" if ambiguous_comma(written) else f"cannot be read as {fact}"
            self.note(
                f"{candidate.keyword} = {quoted(candidate.value)} {why}: not used, unless {fact} is given under [override] in --config"
            )

    def disagreement(self, fact: str, chosen: Candidate, other: Candidate) -> None:
        """Note a keyword that says otherwise than the one that is used; what a person gives is not doubted."""
        if chosen.keyword is None or other.keyword is None or FACTS[fact].agree is None:
            return
        if chosen.keyword == other.keyword:
            self.note(f"{chosen.keyword} stands more than once: {quoted(chosen.value)} is used, {quoted(other.value)} is not")
        else:
            used = f"{chosen.keyword} = {quoted(chosen.value)}, which is used for {fact}"
            self.note(f"{other.keyword} = {quoted(other.value)} disagrees with {used}")

    def beyond(self, fact: str, value: float, source: str) -> None:
        """Note a number that no camera has; small ones and those below 0 are how many write that they do not know."""
        self.note(f"{source} = {value:g} is beyond {FACTS[fact].range}: not used")

    def source_of(self, fact: str, candidate: Candidate) -> str:
        """Where a value came from, with the unit it was written in where that is not the usual one."""
        unit = self.definition.units.get(fact)
        unusual = candidate.keyword is not None and unit is not None and unit != next(iter(FACTS[fact].written))
        return f"{candidate.source} ({unit})" if unusual else candidate.source

    def text(self, fact: str, same: Callable[[str, str], bool] | None = None) -> str | None:
        """First word or name that is no placeholder, or None; its source is kept, and others that are not the same are noted."""
        alike = same if same is not None else lambda one, other: one.casefold() == other.casefold()
        chosen: Candidate | None = None
        result: str | None = None
        for candidate in self.candidates(fact):
            word = text(candidate.value)
            if word is None:
                continue
            if chosen is None or result is None:
                chosen, result = candidate, word
                self.sources[fact] = candidate.source
            elif not alike(result, word):
                self.disagreement(fact, chosen, candidate)
        return result


def quoted(value: Any) -> str:
    """A value as a note names it: text in quotes and short, a number as it is."""
    return (
        f"'{text(value) or ''}'"[:_LONGEST_QUOTE] if isinstance(value, str) else f"{value:.10g}" if isinstance(value, float) else str(value)
    )
