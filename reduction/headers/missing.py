"""Facts that neither header nor definition gives: one line for each, with where it was looked for and how to give it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reduction.headers.definition import InstrumentDefinition
from reduction.headers.reader import quoted
from reduction.headers.values import text

__all__ = ["missing_facts", "written_under"]

_SHARP = 0.5  # s: whole seconds are what many cameras write, and do
_NAMED = 6  # keywords that a line names; generic definitions have three times as many
_SKY = ("filter", "pixel_scale", "pointing")
_MEASURED = "it is measured from pairs of bias and flat frames"
_HINTS = {
    "gain": f"{_MEASURED}, or give gain = ELECTRON/ADU under [default] in --config",
    "read_noise": f"{_MEASURED}, or give read_noise = ELECTRON under [default] in --config",
    "saturation": "only the format's own limit is known, or give saturation = ADU under [default] in --config",
    "site": "times are geocentric and there is no airmass, or give latitude, longitude (degrees, east) and height (m) under [default] in "
    "--config",
    "pixel_scale": "the field is solved at any scale, which takes longer, or give pixel_scale = ARCSEC under [default] in --config",
    "pointing": "the field is solved blindly, which takes longer, or give ra and dec (degrees) under [default] in --config",
    "filter": "its passband is 'unknown', or give filter = NAME under [default] in --config",
}
_PARTS = {
    "site": ("latitude", "longitude"),
    "pointing": ("ra", "dec"),
    "pixel_scale": ("pixel_scale", "pixel_size", "unbinned_pixel_size", "focal_length"),
}


def written_under(header: Mapping[str, Any], keywords: Sequence[str]) -> list[str]:
    """What stands under some keywords, as ``KEYWORD = value``; placeholders and blanks are nothing."""
    return [f"{keyword} = {quoted(header[keyword])}" for keyword in dict.fromkeys(keywords) if text(header.get(keyword)) is not None]


def missing_facts(known: Mapping[str, Any], definition: InstrumentDefinition, header: Mapping[str, Any]) -> tuple[str, ...]:
    """One line for each fact that neither the header nor a setting gives.

    Parameters
    ----------
    known : mapping
        Facts by the names of `reduction.headers.facts.Facts`.
    definition : InstrumentDefinition
        Its keywords are named as those that were looked for.
    header : mapping
        FITS header: what stands under them and does not give the fact is quoted.

    Returns
    -------
    tuple of str
        Of gain, read noise, saturation, site, time, and for frames not declared bias or dark pixel scale, pointing and filter.
    """
    values = {**known, "site": known["latitude"], "pointing": known["ra"]}
    dark = known["declared"] in ("bias", "dark")
    # Of a mosaic each channel is its own passband.
    unneeded = {
        *(_SKY if dark else ()),
        *(("filter",) if known["bayer"] else ()),
        *(("pixel_scale", "pointing") if known["has_wcs"] else ()),
    }
    lines = [_line(fact, definition, header) for fact in _HINTS if values[fact] is None and fact not in unneeded]
    if known["time_sigma"] > _SHARP:
        source, sigma = known["time_source"], known["time_sigma"]
        hint = "name a better keyword under [[instrument.times]], or give time_sigma under [override], in --config"
        lines.append(f"the time is known to {sigma:.3g} s only ({source}): {hint}")
    return tuple(lines)


def _line(fact: str, definition: InstrumentDefinition, header: Mapping[str, Any]) -> str:
    parts = _PARTS.get(fact, (fact,))
    keywords = [keyword for part in parts for keyword in definition.keywords.get(part, ())]
    looked = [definition.expressions[part] for part in parts if part in definition.expressions]
    looked = list(dict.fromkeys([*looked, *keywords]))
    more = f" and {len(looked) - _NAMED} more" if len(looked) > _NAMED else ""
    where = f"looked for {', '.join(looked[:_NAMED])}{more}" if looked else "no keyword of it is known"
    there = written_under(header, keywords)[:_NAMED]
    said = f"not known, as {' and '.join(there)} cannot be used for it" if there else "not in the header"
    return f"{fact.replace('_', ' ')} is {said} ({where}): {_HINTS[fact]}"
