r"""Type of a frame: bias, dark, flat, object or other, from its pixels and its header.

The tree: shutter closed (no light in the pixels)? yes: exposure much shorter
than a minute? bias, else dark. No: stars? object. No: high S/N and sky colour
(Bayer channels within the locus of the twilight and day sky; on a monochrome
sensor the level and the Sun's altitude)? flat, else other.

One frame has no absolute zero: light and its lack are told by all frames of a
set-up and night (`reduction.frames.kernels.night_survey`). The observer's word is checked
against the pixels. The rule, first line that fits:

====================================  ============  ==========================================================
the pixels show                       the word is   the frame is
====================================  ============  ==========================================================
one value only; or half saturated     any           other
a level of 1, no whole numbers        any           other: a flat normalised before, no raw frame
a filter that blocks, or no light     any           bias or dark, by the exposure; a dark of under 5 s is one
and fewer than 5 stars                              only when it is called one. With 3 or 4 stars and light that
                                                    is dark current by its shape or faintness only, as the last
                                                    lines, unless it is called closed
light in an exposure of 0 s           any           other; object by 20 stars and no zero level to contradict
no light, 5 stars or more             object        object
\                                     others, none  object from 20 stars on, else other
light, 5 stars or more                flat          flat, if bright in twilight (Sun above -10 degrees), not
                                                    over 30 s and, where the night sky is known, 10 times it
                                                    (100 times where the Sun's altitude is unknown)
\                                     bias, dark,   flat, if so, with under 20 stars and 100 times the night
                                      none          sky; else object
\                                     object        object
light, fewer than 5 stars             flat          flat, unless too faint, or like clouds: not in twilight and
                                                    under 10 times the night sky in an exposure over 30 s or as
                                                    long as those of frames with stars, or faint in one over
                                                    30 s; then other
\                                     object        object with a star; without, as none
\                                     others, none  flat, if bright, smooth and of sky colour; or from a lamp (by
                                                    day, or 100 times the night sky); object with a star in an
                                                    exposure of frames with stars; else other
cannot be told from the lack of it    bias, dark    bias or dark, by the exposure, with low confidence; a single
                                                    frame at a tenth of the range or more: other
\                                     flat          flat from a tenth of the range on, unless like clouds
\                                     object        object with a star, else other
\                                     other, none   other
====================================  ============  ==========================================================

Sky colour is R/G and B/G inside the locus on a mosaic in twilight, by day, or
where the Sun's altitude is unknown; on a monochrome sensor it is the Sun's
altitude with the level or, where that is unknown, light brighter than the night
sky. Words that contradict the pixels in more than a tenth of the frames of a set
(and in more than one), such as one word for everything, count as none.
A doubtful frame is "other": no frame of the sky must ever enter a master.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

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
_TRUST = 0.1  # fraction of words that may be wrong
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

    entry: FrameStatistics
    header: HeaderEvidence
    sight: Sight
    word: str | None  # None where words are not to be trusted

    @property
    def few(self) -> bool:
        return self.sight.stars < FEW_STARS

    @property
    def colour(self) -> tuple[float, float] | None:
        """R/G and B/G of the light; None on a monochrome sensor or without a zero level."""
        zero, channels = self.sight.base, self.entry.channels
        if channels is None or (self.sight.zero is None and not self.sight.deep) or channels[1] - zero <= 0:
            return None
        return (channels[0] - zero) / (channels[1] - zero), (channels[2] - zero) / (channels[1] - zero)

    @property
    def sky_coloured(self) -> bool | None:
        """The colour is that of twilight or day; None where it is unknown."""
        if self.colour is None:
            return None
        red, blue = self.colour
        return _RED[0] <= red <= _RED[1] and _BLUE[0] <= blue <= _BLUE[1] and blue >= _SLOPE * red

    @property
    def twilight(self) -> bool | None:
        return None if self.header.sun is None else self.header.sun > TWILIGHT


Verdict = tuple[str, str, float]


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
    sights = survey(statistics, headers, neighbours)
    cases = [_Case(entry, header, sight, header.declared) for entry, header, sight in zip(statistics, headers, sights, strict=True)]
    trusted = _trusted(cases)
    result = []
    for case in cases:
        judged = case if trusted else _Case(case.entry, case.header, case.sight, None)
        kind, reason, confidence = _decide(judged)
        declared = case.header.declared
        disagrees = declared is not None and declared != kind
        calibrated = _calibrated(case)
        if disagrees:
            reason = f"called {declared}, but {reason}"
            confidence = min(confidence, 0.6) if kind != "other" else confidence
        if calibrated and kind in ("object", "flat"):
            reason += f"; already corrected for {', '.join(calibrated)}"
        result.append(Classification(kind, reason, confidence, disagrees, _evidence(judged, trusted), calibrated))
    return result


def _trusted(cases: Sequence[_Case]) -> bool:
    """Whether the words of a set fit its pixels, where these leave no doubt."""
    fits = [fit for case in cases if case.header.declared is not None and (fit := _fits(case)) is not None]
    wrong = fits.count(False)
    return wrong <= 1 or wrong <= _TRUST * len(fits)


def _fits(case: _Case) -> bool | None:
    """Whether the word fits the pixels; None where they could be either."""
    declared, sight = case.header.declared, case.sight
    if _blank(case) is not None:
        return None
    if sight.light is False and sight.light_by == "level" and case.few:
        return declared in ("bias", "dark")
    if sight.stars >= MANY_STARS and not case.header.blocked:
        return declared in ("object", "other") or (declared == "flat" and _starry_flat(case))
    if _surely_twilight(case):
        return declared == "flat"
    if sight.light and case.few and (sight.deep or sight.light_by == "shape"):
        return declared not in ("bias", "dark") and (declared != "object" or not _sky_flat(case))
    return None


def _decide(case: _Case) -> Verdict:
    sight, word = case.sight, case.word
    blank = _blank(case)
    if blank is not None:
        return blank
    if case.header.blocked or (sight.light is False and case.few and not _doubtful(case)):
        return _closed(case)
    if case.header.exptime == 0:
        return _instant(case)
    if sight.light is False and case.few:
        return _unclear(case)
    if sight.light is False:
        if word == "object" or sight.stars >= MANY_STARS:
            return "object", f"{sight.stars} stars on hardly any sky", 0.99 if word == "object" else 0.6
        return "other", f"{sight.stars} star-like peaks and no light above the zero level", 0.6
    if not case.few:
        return _starry(case)
    if sight.light:
        return _starless(case)
    return _unclear(case)


def _doubtful(case: _Case) -> bool:
    """Light that is there, though it may be dark current, in a frame with a few peaks that nobody calls closed."""
    return case.sight.light_by != "level" and case.sight.stars >= _SOME_STARS and case.word not in ("bias", "dark")


def _blank(case: _Case) -> Verdict | None:
    """Frames that hold no exposure."""
    entry = case.entry
    if entry.constant:
        value = "no pixel has a value" if np.isnan(entry.level) else f"every pixel is {entry.level:g}"
        return "other", f"{value}: nothing was exposed or read out", 0.99
    if entry.saturated > 0.5:
        return "other", f"{entry.saturated:.0%} of the pixels are saturated", 0.99
    if _normalised(entry):
        return "other", f"its level is {entry.level:.3f}: a flat that is normalised already, a master and no raw frame", 0.9
    return None


def _normalised(entry: FrameStatistics) -> bool:
    return entry.quantum == 0 and 0.3 < entry.level < 2.0 and entry.noise < 0.2 and entry.structure < 0.5


def _calibrated(case: _Case) -> tuple[str, ...]:
    """Steps done before: the header's word, and what the level says."""
    done = set(case.header.calibrated)
    if _normalised(case.entry):
        done |= {"bias", "flat"}
    elif case.sight.zero_from.startswith("the bias taken off"):
        done |= {"bias"}
    return tuple(step for step in ("bias", "dark", "flat") if step in done)


def _closed(case: _Case) -> Verdict:
    """Bias or dark: by length; the observer's word decides for short darks."""
    header, sight = case.header, case.sight
    exptime = header.exptime
    # A dark as short as its flat is still a dark, when it is called one.
    kind = "dark" if exptime >= _SHORT or (exptime >= _INSTANT and case.word == "dark") else "bias"
    length = f"exposure of {exptime:g} s"
    sure = 0.99 if case.word == kind else 0.9
    if sight.light is None:
        if header.blocked or exptime == 0:
            return kind, length + (" behind a blocked filter" if header.blocked else ""), sure
        return kind, f"called closed, {length}; nothing to compare its level with", 0.8
    level = f"level {sight.excess:+.1f} ADU from the zero level" if sight.excess is not None else "no stars"
    return kind, f"shutter closed ({level}), {length}", sure


def _instant(case: _Case) -> Verdict:
    """An exposure of 0 s that shows light: the header's time is wrong."""
    sight = case.sight
    if sight.stars >= MANY_STARS and sight.zero is None and case.word in (None, "object"):
        return "object", f"{sight.stars} stars, though the exposure is 0 s", 0.6
    if (sight.excess is None and sight.stars < MANY_STARS) or (sight.light is not True):
        return _closed(case)
    return "other", "light in an exposure of 0 s: the exposure time is wrong, or the shutter stayed open", 0.6


def _starry(case: _Case) -> Verdict:
    sight, word = case.sight, case.word
    if word == "flat" and _starry_flat(case):
        return "flat", f"a bright twilight sky, though with {sight.stars} stars", 0.8
    if word in (None, "bias", "dark") and _surely_twilight(case):
        return "flat", f"a twilight sky {sight.rate_ratio:.0f} times the night's, though with {sight.stars} stars", 0.6
    return "object", f"{sight.stars} stars", 0.99 if word == "object" else 0.9


def _starry_flat(case: _Case) -> bool:
    """A flat at twilight sees the brightest stars; an object frame does not see that much sky."""
    sight = case.sight
    bright = sight.deep and sight.signal_to_noise >= 2 * _USABLE
    ratio = sight.rate_ratio
    # Where the Sun's altitude is unknown, only the night sky can be compared with.
    brighter = (ratio is None or ratio >= _CLOUDS) if case.twilight else case.twilight is None and ratio is not None and ratio >= _LAMP
    return bright and brighter and case.header.exptime <= _FLAT_LENGTH


def _surely_twilight(case: _Case) -> bool:
    """So bright that no object frame is like it."""
    return _starry_flat(case) and case.sight.stars < MANY_STARS and (case.sight.rate_ratio or 0.0) >= _LAMP


def _starless(case: _Case) -> Verdict:
    """Light and hardly a star: flat, object or other."""
    sight, word = case.sight, case.word
    light = "light" + (f" ({sight.excess:+.0f} ADU)" if sight.excess is not None else "") + " and hardly a star"
    if word == "flat":
        if _like_the_sky(case):
            return "other", "no star, and no brighter than the night sky of that exposure: clouds", 0.6
        if sight.excess is not None and sight.signal_to_noise < 0.5 * _USABLE:
            return "other", f"{light}, {sight.signal_to_noise:.1f} times the noise: too faint to tell", 0.6
        return "flat", light, 0.99
    if word == "object" and sight.stars > 0:
        return "object", f"{sight.stars} stars", 0.99
    if _sky_flat(case):
        return "flat", f"bright and smooth, without stars; {_ground(case)}", 0.9 if case.twilight else 0.6
    if word is None and sight.stars > 0 and sight.as_stars:
        return "object", f"{sight.stars} stars, in an exposure as long as those of other frames with stars", 0.6
    return "other", "open, without stars, and no bright twilight sky (clouds, or a closed dome?)", 0.6


def _like_the_sky(case: _Case) -> bool:
    """What clouds give at night: no brighter than they can be in an exposure of frames with stars, or faint in a long one."""
    sight = case.sight
    if case.twilight:
        return False
    lamp = sight.rate_ratio is None and sight.deep and sight.steady
    clouds = not lamp and (sight.rate_ratio is None or sight.rate_ratio < _CLOUDS)
    long = case.header.exptime > _FLAT_LENGTH
    return (clouds and (sight.as_stars or long)) or (long and (sight.zero is None or not sight.deep))


def _sky_flat(case: _Case) -> bool:
    """High S/N and sky colour, or, on a monochrome sensor, the level and the Sun's altitude; or a lamp."""
    sight, exptime = case.sight, case.header.exptime
    ratio = sight.rate_ratio
    if sight.signal_to_noise < _USABLE or not sight.smooth:
        return False
    if case.sky_coloured is False or case.twilight is False:
        # No star shows by day: what is bright and steady then is a lamp in a closed dome. Nor is a cloud at night that bright.
        day = case.header.sun is not None and case.header.sun > 0
        return (day or (ratio is not None and ratio >= _LAMP)) and sight.deep and sight.steady and exptime <= _FLAT_LENGTH
    if case.twilight:
        return exptime <= _TWILIGHT_LENGTH and (ratio >= _BRIGHTER if ratio is not None else sight.zero is not None or sight.deep)
    if ratio is None:
        return sight.deep and exptime <= _FLAT_LENGTH
    return ratio >= _BRIGHTER and not sight.as_stars and exptime <= _FLAT_LENGTH and (sight.steady or sight.deep)


def _ground(case: _Case) -> str:
    """What stands for the colour of the sky."""
    sun = "" if case.header.sun is None else f"Sun at {case.header.sun:+.0f} degrees"
    if case.sky_coloured and case.colour is not None:
        red, blue = case.colour
        return f"sky colour by the Bayer channels (R/G {red:.2f}, B/G {blue:.2f})" + (f", {sun}" if sun else "")
    ratio = case.sight.rate_ratio
    brighter = "" if ratio is None else f", {ratio:.1f} times the night sky"
    if case.twilight and case.sky_coloured is None:
        return f"monochrome: by the level and the Sun's altitude ({sun}{brighter})"
    return f"by the level{brighter}" + (f", {sun}" if sun else "")


def _unclear(case: _Case) -> Verdict:
    """Hardly a star, and nothing that tells light from none: the word decides, with care."""
    sight, word = case.sight, case.word
    if word in ("bias", "dark") and not (sight.zero is None and sight.deep and not sight.steady):
        return _closed(case)
    if word == "flat" and sight.deep and sight.excess is None and not _like_the_sky(case):
        return "flat", "hardly a star; no zero level to compare with", 0.8
    if word == "object" and sight.stars > 0:
        return "object", f"{sight.stars} stars; no zero level to compare with", 0.8
    if sight.excess is None:
        return "other", "hardly a star, and no closed frame to compare the level with", 0.3
    return "other", f"hardly a star, and {sight.excess:.1f} ADU that may be dark current or the sky of clouds", 0.3


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), digits)


def _evidence(case: _Case, trusted: bool) -> Evidence:
    entry, header, sight, colour = case.entry, case.header, case.sight, case.colour
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
        "calibrated": " ".join(_calibrated(case)),
    }
