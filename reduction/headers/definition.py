"""What an instrument definition holds; `definitionfile` reads it, `instrument` chooses among several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Correction", "InstrumentDefinition", "TimeRule"]


@dataclass(frozen=True)
class TimeRule:
    """Where a time stands in a header.

    Attributes
    ----------
    form : str
        ``date`` (ISO date, with the time of day in it or in `clock`), ``mjd`` or ``jd``.
    keyword : str
        Keyword of the date or day number.
    clock : str or None
        Keyword of the time of day, for a date without one.
    at : str or None
        ``start``, ``mid`` or ``end`` of the exposure; when None what the card's remark says, else its start.
    zone : str or None
        ``utc``, or ``local`` for a clock whose offset from UTC stands under `zone_keyword` or in the setting ``utc_offset``; when
        None what the card's remark says, else UTC.
        An offset written behind the time itself always counts.
    zone_keyword : str or None
        Keyword of that offset in hours, positive east of Greenwich.
    remark : str or None
        Pattern that the card's comment must fit (case ignored), for writers who say there what the time is.
    """

    form: str
    keyword: str
    clock: str | None = None
    at: str | None = None
    zone: str | None = None
    zone_keyword: str | None = None
    remark: str | None = None


@dataclass(frozen=True)
class Correction:
    """A known error of a clock over a span of time.

    Attributes
    ----------
    seconds : float
        Added to the clock, in s.
    reason : str
        Why, in the user's words.
    since, until : float
        Julian dates (UTC, day) from which and before which it holds; infinite where open.
    """

    seconds: float
    reason: str
    since: float = float("-inf")
    until: float = float("inf")


@dataclass(frozen=True)
class InstrumentDefinition:
    """Meaning of the header keywords of one instrument; ``docs/instruments.md`` describes each table.

    Attributes
    ----------
    name, description, label : str
        `label` makes the instrument's name, with header keywords in braces.
    identity : tuple of str
        Facts that tell one camera from another of the same name: where one of them differs, it is another instrument.
    match : mapping of str to tuple of str
        ``KEYWORD`` or ``KEYWORD|OTHER``: patterns of which one must fit the value of one of the keywords.
    expressions : mapping of str to str
        Fact to arithmetic over keywords, which comes before its keywords.
    keywords : mapping of str to tuple of str
        Fact to keywords, the first with a sensible value is used.
    units : mapping of str to str
        Fact to the unit its keywords are written in.
    image_types : mapping of str to str
        Pattern of the image type to bias, dark, flat, object or other; the first that fits counts.
    blocked : tuple of str
        Patterns of filters that let no light through.
    times : tuple of TimeRule
        Candidates for the time.
    corrections : tuple of Correction
        Known errors of the clock.
    default, override : mapping
        Values used where the header has none, and values that win over it.
    """

    name: str
    description: str = ""
    label: str = ""
    identity: tuple[str, ...] = ()
    match: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    expressions: Mapping[str, str] = field(default_factory=dict)
    keywords: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    image_types: Mapping[str, str] = field(default_factory=dict)
    blocked: tuple[str, ...] = ()
    times: tuple[TimeRule, ...] = ()
    corrections: tuple[Correction, ...] = ()
    default: Mapping[str, Any] = field(default_factory=dict)
    override: Mapping[str, Any] = field(default_factory=dict)
