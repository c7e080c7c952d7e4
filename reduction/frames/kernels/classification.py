"""Type of a frame: bias, dark, flat, object or other, from its pixels and its header.

The tree: shutter closed (no light in the pixels)? yes: exposure much shorter than a minute? bias, else dark. No: stars? object. No: high
S/N and sky colour (Bayer channels within the locus of the twilight and day sky; on a monochrome sensor the level and the Sun's altitude)?
flat, else other. One frame has no absolute zero: whether there is light follows from all frames of a set-up and night (`night_survey`). The
type that the header declares is checked against the pixels; where it contradicts them in more than a tenth of the frames of a set (and in
more than one), as it does when every frame has the same, the set's declared types are not used.

`_RULES` is the tree with all its doubts, in order. A doubtful frame is "other": no frame of the sky must
ever enter a master.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from reduction.frames.kernels.frame_statistics import FrameStatistics, HeaderEvidence, frame_statistics
from reduction.frames.kernels.night_survey import FEW_STARS, MANY_STARS, TWILIGHT, Sight, survey

__all__ = ["Classification", "FrameStatistics", "HeaderEvidence", "classify_set", "frame_statistics"]

_SHORT = 5.0  # s: much shorter than a minute
_INSTANT = 0.1  # s: no dark is shorter
_USABLE = 10.0  # light over noise of a pixel of a usable flat
_BRIGHTER = 2.0  # light per second over that of the brightest sky with stars: it is not the night sky
_CLOUDS = 10.0  # the same: clouds, with or without the Moon
_LAMP = 100.0  # the same, where the Sun is down: no cloud is that bright
_FLAT_LENGTH = 30.0  # s: flats are shorter
_TWILIGHT_LENGTH = 60.0  # s: in twilight too
_SOME_STARS = 3  # star-like peaks: chance makes one or two
_TRUST = 0.1  # fraction of declared types that may be wrong
# Twilight and day sky from 6,000 K haze to the deep blue at the zenith through the filters of many cameras: R/G, B/G and B/R.
_RED, _BLUE, _SLOPE = (0.15, 0.85), (0.5, 1.5), 0.85

Evidence = dict[str, float | int | str | bool | None]


@dataclass(frozen=True)
class Classification:
    """Type of a frame.

    Attributes
    ----------
    kind : str
        bias, dark, flat, object or other.
    reason : str
        Why, in one sentence.
    confidence : float
        0.99 pixels and header agree; 0.9 pixels alone; 0.8 header alone; 0.6 pixels against header, or on a weak ground; 0.3 unclear.
    disagrees : bool
        The header says something else.
    evidence : dict
        The numbers behind it; None is unknown.
    calibrated : tuple of str
        Steps done before, by header or level: some of bias, dark, flat.
    """

    kind: str
    reason: str
    confidence: float
    disagrees: bool = False
    evidence: Evidence = field(default_factory=dict)
    calibrated: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Case:
    """All that a decision rests on."""

    sight: Sight
    declared: str | None  # type by the header; None where the set's declared types are not to be trusted

    @cached_property
    def few(self) -> bool:
        return self.sight.stars < FEW_STARS

    @cached_property
    def many(self) -> bool:
        return self.sight.stars >= MANY_STARS

    @cached_property
    def exptime(self) -> float:
        return self.sight.header.exptime

    @cached_property
    def normalised(self) -> bool:
        entry = self.sight.entry
        return entry.quantum == 0 and 0.3 < entry.level < 2.0 and entry.noise < 0.2 and entry.structure < 0.5

    @cached_property
    def saturated(self) -> bool:
        return self.sight.entry.saturated > 0.5

    @cached_property
    def state(self) -> str:
        """What the frame shows, before any doubt."""
        if self.sight.entry.constant or self.saturated or self.normalised:
            return "blank"
        if self.closed:
            return "closed"
        if self.exptime == 0:
            return "light in no time"
        if not self.few:
            return "stars without sky" if self.sight.light is False else "stars"
        return "unclear" if not self.sight.light else "light, called flat" if self.declared == "flat" else "light"

    @cached_property
    def calibrated(self) -> tuple[str, ...]:
        """Steps done before: what the header says, and what the level shows."""
        by_level = {"bias", "flat"} if self.normalised else {"bias"} if self.sight.zero_from.startswith("the bias taken off") else set()
        return tuple(step for step in ("bias", "dark", "flat") if step in by_level.union(self.sight.header.calibrated))

    @cached_property
    def closed(self) -> bool:
        """The shutter was closed or the filter blocked, by the pixels or, where these leave it open, by the declared type."""
        sight = self.sight
        if sight.header.blocked:
            return True
        if self.exptime == 0:
            return not self.timeless_stars and (sight.light is not True or (sight.excess is None and not self.many))
        if sight.light or not self.few:
            return False
        if self.declared in ("bias", "dark"):
            # A single frame that bright is not believed to be closed.
            return sight.light is False or sight.zero is not None or not sight.deep or sight.steady
        # Faint light with a few peaks may be no dark current, whatever its shape.
        return sight.light is False and (sight.light_by == "level" or sight.stars < _SOME_STARS)

    @cached_property
    def closed_kind(self) -> str:
        """Bias or dark: by exposure time; a dark as short as its flat is still a dark where the header declares it one."""
        return "dark" if self.exptime >= _SHORT or (self.exptime >= _INSTANT and self.declared == "dark") else "bias"

    @cached_property
    def colour(self) -> tuple[float, float] | None:
        """R/G and B/G of the light; None on a monochrome sensor or without a zero level."""
        zero, channels = self.sight.base, self.sight.entry.channels
        if channels is None or (self.sight.zero is None and not self.sight.deep) or channels[1] - zero <= 0:
            return None
        return (channels[0] - zero) / (channels[1] - zero), (channels[2] - zero) / (channels[1] - zero)

    @cached_property
    def sky_coloured(self) -> bool | None:
        """The colour is that of twilight or day; None where it is unknown."""
        if self.colour is None:
            return None
        red, blue = self.colour
        return _RED[0] <= red <= _RED[1] and _BLUE[0] <= blue <= _BLUE[1] and blue >= _SLOPE * red

    @cached_property
    def twilight(self) -> bool | None:
        return None if self.sight.header.sun is None else self.sight.header.sun > TWILIGHT

    @cached_property
    def starry_flat(self) -> bool:
        """A flat at twilight sees the brightest stars; an object frame does not see that much sky."""
        ratio = self.sight.rate_ratio
        bright = self.sight.deep and self.sight.signal_to_noise >= 2 * _USABLE
        # Where the Sun's altitude is unknown, only the night sky can be compared with.
        brighter = (ratio is None or ratio >= _CLOUDS) if self.twilight else self.twilight is None and (ratio or 0.0) >= _LAMP
        return bright and brighter and self.exptime <= _FLAT_LENGTH

    @cached_property
    def surely_twilight(self) -> bool:
        """So bright that no object frame is like it."""
        return self.starry_flat and not self.many and (self.sight.rate_ratio or 0.0) >= _LAMP

    @cached_property
    def like_the_sky(self) -> bool:
        """What clouds give at night: no brighter than they can be in an exposure of frames with stars, or faint in a long one."""
        sight, ratio, long = self.sight, self.sight.rate_ratio, self.exptime > _FLAT_LENGTH
        if self.twilight:
            return False
        clouds = not (sight.deep and sight.steady) if ratio is None else ratio < _CLOUDS
        return (clouds and (sight.as_stars or long)) or (long and (sight.zero is None or not sight.deep))

    @cached_property
    def sky_flat(self) -> bool:
        """High S/N and sky colour, or, on a monochrome sensor, the level and the Sun's altitude; or a lamp."""
        sight, ratio, short = self.sight, self.sight.rate_ratio, self.exptime <= _FLAT_LENGTH
        if sight.signal_to_noise < _USABLE or not sight.smooth:
            return False
        if self.sky_coloured is False or self.twilight is False:
            # No star shows by day: what is bright and steady then is a lamp in a closed dome. Nor is a cloud at night that bright.
            lamp = (sight.header.sun or 0.0) > 0 or (ratio or 0.0) >= _LAMP
            return lamp and sight.deep and sight.steady and short
        if self.twilight:
            bright = ratio >= _BRIGHTER if ratio is not None else sight.zero is not None or sight.deep
            return bright and self.exptime <= _TWILIGHT_LENGTH
        bright = sight.deep if ratio is None else ratio >= _BRIGHTER and not sight.as_stars and (sight.steady or sight.deep)
        return bright and short

    @property
    def timeless_stars(self) -> bool:
        return self.many and self.sight.zero is None and self.declared in (None, "object")

    @property
    def called_object(self) -> bool:
        return self.declared == "object" and self.sight.stars > 0

    @property
    def uncalled_twilight(self) -> bool:
        return self.declared in (None, "bias", "dark") and self.surely_twilight

    @property
    def faint(self) -> bool:
        return self.sight.excess is not None and self.sight.signal_to_noise < 0.5 * _USABLE

    @property
    def deep_flat(self) -> bool:
        return self.declared == "flat" and self.sight.deep and self.sight.excess is None and not self.like_the_sky

    @property
    def as_stars(self) -> bool:
        return self.declared is None and self.sight.stars > 0 and self.sight.as_stars

    @property
    def quoted(self) -> dict[str, str]:
        """What the sentences of the rules quote."""
        sight, entry, ratio, sun = self.sight, self.sight.entry, self.sight.rate_ratio, self.sight.header.sun
        altitude = "" if sun is None else f"Sun at {sun:+.0f} degrees"
        brighter = "" if ratio is None else f", {ratio:.1f} times the night sky"
        if self.sky_coloured and self.colour is not None:
            ground = f"sky colour by the Bayer channels (R/G {self.colour[0]:.2f}, B/G {self.colour[1]:.2f})"
        else:
            ground = f"by the level{brighter}"
        ground += f", {altitude}" if altitude else ""
        if self.twilight and self.sky_coloured is None:
            ground = f"monochrome: by the level and the Sun's altitude ({altitude}{brighter})"
        return {
            "value": "no pixel has a value" if np.isnan(entry.level) else f"every pixel is {entry.level:g}",
            "saturated": f"{entry.saturated:.0%}",
            "level": f"{entry.level:.3f}",
            "stars": f"{sight.stars} stars",
            "peaks": f"{sight.stars} star-like peaks",
            "length": f"exposure of {self.exptime:g} s",
            "zero": f"level {sight.excess:+.1f} ADU from the zero level" if sight.excess is not None else "no stars",
            "light": "light" + (f" ({sight.excess:+.0f} ADU)" if sight.excess is not None else "") + " and hardly a star",
            "noise": f"{sight.signal_to_noise:.1f} times the noise",
            "excess": f"{sight.excess or 0.0:.1f} ADU",
            "night": f"{ratio or 0.0:.0f} times the night's",
            "ground": ground,
        }


def _always(_: _Case) -> bool:
    return True


class _Rule(NamedTuple):
    """Where it applies, the frame is of this type, for this reason.

    `kind` "closed" is bias or dark, by the exposure. `undeclared` is the confidence where the header declares another type or none,
    where that differs.
    """

    name: str
    applies: Callable[[_Case], bool]
    kind: str
    confidence: float
    sentence: str
    undeclared: float | None = None


# By what the frame shows (`_Case.state`); the first rule that applies decides.
_RULES = {
    "blank": (
        _Rule("constant", lambda c: c.sight.entry.constant, "other", 0.99, "{value}: nothing was exposed or read out"),
        _Rule("saturated", lambda c: c.saturated, "other", 0.99, "{saturated} of the pixels are saturated"),
        _Rule("normalised", _always, "other", 0.9, "its level is {level}: a flat that is normalised already, a master and no raw frame"),
    ),
    "closed": (
        _Rule("dark pixels", lambda c: c.sight.light is not None, "closed", 0.99, "shutter closed ({zero}), {length}", 0.9),
        _Rule("blocked filter", lambda c: c.sight.header.blocked, "closed", 0.99, "{length} behind a blocked filter", 0.9),
        _Rule("no time", lambda c: c.exptime == 0, "closed", 0.99, "{length}", 0.9),
        _Rule("by the header", _always, "closed", 0.8, "called closed, {length}; nothing to compare its level with"),
    ),
    # An exposure of 0 s that shows light is longer than its header says.
    "light in no time": (
        _Rule("stars", lambda c: c.timeless_stars, "object", 0.6, "{stars}, though the exposure is 0 s"),
        _Rule("light", _always, "other", 0.6, "light in an exposure of 0 s: the exposure time is wrong, or the shutter stayed open"),
    ),
    "stars without sky": (
        _Rule("stars", lambda c: c.many or c.declared == "object", "object", 0.99, "{stars} on hardly any sky", 0.6),
        _Rule("peaks", _always, "other", 0.6, "{peaks} and no light above the zero level"),
    ),
    "stars": (
        _Rule("called flat", lambda c: c.declared == "flat" and c.starry_flat, "flat", 0.8, "a bright twilight sky, though with {stars}"),
        _Rule("twilight", lambda c: c.uncalled_twilight, "flat", 0.6, "a twilight sky {night}, though with {stars}"),
        _Rule("stars", _always, "object", 0.99, "{stars}", 0.9),
    ),
    "light, called flat": (
        _Rule("clouds", lambda c: c.like_the_sky, "other", 0.6, "no star, and no brighter than the night sky of that exposure: clouds"),
        _Rule("faint", lambda c: c.faint, "other", 0.6, "{light}, {noise}: too faint to tell"),
        _Rule("flat", _always, "flat", 0.99, "{light}"),
    ),
    "light": (
        _Rule("few stars", lambda c: c.called_object, "object", 0.99, "{stars}"),
        _Rule("twilight", lambda c: c.sky_flat and c.twilight is True, "flat", 0.9, "bright and smooth, without stars; {ground}"),
        _Rule("bright", lambda c: c.sky_flat, "flat", 0.6, "bright and smooth, without stars; {ground}"),
        _Rule("as stars", lambda c: c.as_stars, "object", 0.6, "{stars}, in an exposure as long as those of other frames with stars"),
        _Rule("doubtful", _always, "other", 0.6, "open, without stars, and no bright twilight sky (clouds, or a closed dome?)"),
    ),
    # The pixels do not show whether there is light: the declared type decides, with care.
    "unclear": (
        _Rule("called flat", lambda c: c.deep_flat, "flat", 0.8, "hardly a star; no zero level to compare with"),
        _Rule("few stars", lambda c: c.called_object, "object", 0.8, "{stars}; no zero level to compare with"),
        _Rule("no zero", lambda c: c.sight.excess is None, "other", 0.3, "hardly a star, and no closed frame to compare the level with"),
        _Rule("faint", _always, "other", 0.3, "hardly a star, and {excess} that may be dark current or the sky of clouds"),
    ),
}


def classify_set(
    statistics: Sequence[FrameStatistics],
    headers: Sequence[HeaderEvidence],
    neighbours: Sequence[tuple[FrameStatistics, HeaderEvidence]] = (),
) -> list[Classification]:
    """Types of the exposures of one set-up and night.

    Parameters
    ----------
    statistics : sequence of FrameStatistics
    headers : sequence of HeaderEvidence
        Of the same length.
    neighbours : sequence of (FrameStatistics, HeaderEvidence)
        Exposures of the same set-up on the nights around it: where the night has no frame that shows the zero level, theirs do.

    Returns
    -------
    list of Classification
        In the order of the input; it does not depend on that order otherwise.

    Raises
    ------
    ValueError
        If the lengths differ.
    """
    if len(statistics) != len(headers):
        raise ValueError(f"{len(statistics)} statistics and {len(headers)} headers; one of each is needed for an exposure")
    cases = [_Case(sight, sight.header.declared) for sight in survey(statistics, headers, neighbours)]
    fits = [fit for case in cases if case.declared is not None and (fit := _fits(case)) is not None]
    trusted = fits.count(False) <= max(1, _TRUST * len(fits))
    return [_classified(case if trusted else _Case(case.sight, None), trusted) for case in cases]


def _fits(case: _Case) -> bool | None:
    """Whether the declared type fits the pixels, where these leave no doubt; None where they could be either."""
    declared, sight = case.declared, case.sight
    if case.state == "blank":
        return None
    if sight.light is False and sight.light_by == "level" and case.few:
        return declared in ("bias", "dark")
    if case.many and not sight.header.blocked:
        return declared in ("object", "other") or (declared == "flat" and case.starry_flat)
    if case.surely_twilight:
        return declared == "flat"
    if sight.light and case.few and (sight.deep or sight.light_by == "shape"):
        return declared not in ("bias", "dark") and (declared != "object" or not case.sky_flat)
    return None


def _classified(case: _Case, trusted: bool) -> Classification:
    rule = next(rule for rule in _RULES[case.state] if rule.applies(case))
    kind = case.closed_kind if rule.kind == "closed" else rule.kind
    reason, confidence = (
        rule.sentence.format(**case.quoted),
        rule.confidence if rule.undeclared is None or case.declared == kind else rule.undeclared,
    )
    declared = case.sight.header.declared
    disagrees = declared is not None and declared != kind
    if disagrees:
        reason = f"called {declared}, but {reason}"
        confidence = min(confidence, 0.6) if kind != "other" else confidence
    if case.calibrated and kind in ("object", "flat"):
        reason += f"; already corrected for {', '.join(case.calibrated)}"
    return Classification(kind, reason, confidence, disagrees, _evidence(case, trusted), case.calibrated)


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), digits)


def _evidence(case: _Case, trusted: bool) -> Evidence:
    sight, colour = case.sight, case.colour
    entry, header = sight.entry, sight.header
    return {
        "level": _rounded(entry.level),
        "noise": _rounded(entry.noise),
        "temporal_noise": _rounded(sight.noise),
        "structure": _rounded(entry.structure),
        "saturated": _rounded(entry.saturated, 6),
        "star_like_peaks": entry.n_peaks,
        "stars": sight.stars,
        "zero": _rounded(sight.zero),
        "zero_from": sight.zero_from,
        "excess": _rounded(sight.excess),
        "light": sight.light,
        "light_by": sight.light_by,
        "signal_to_noise": _rounded(sight.signal_to_noise, 2) if sight.excess is not None else None,
        "deep": sight.deep,
        "smooth": sight.smooth,
        "rate_ratio": _rounded(sight.rate_ratio),
        "sky_colour": case.sky_coloured,
        "sky_by": "Bayer channels" if colour is not None else "level and Sun's altitude" if header.sun is not None else "level",
        "red_to_green": None if colour is None else _rounded(colour[0]),
        "blue_to_green": None if colour is None else _rounded(colour[1]),
        "sun_altitude": _rounded(header.sun, 2),
        "twilight": case.twilight,
        "exptime": header.exptime,
        "declared": header.declared,
        "words_trusted": trusted,
        "blocked": header.blocked,
        "calibrated": " ".join(case.calibrated),
    }
