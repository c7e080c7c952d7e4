"""Type of a frame: bias, dark, flat, object or other, from its pixels and its header.

The tree: shutter closed (no light in the pixels)? yes: exposure much shorter than a minute? bias, else dark. No: stars? object. No: high
S/N and sky colour (Bayer channels within the locus of the twilight and day sky; on a monochrome sensor the level and the Sun's altitude)?
flat, else other. One frame has no absolute zero: whether there is light follows from all frames of a set-up and night (`night_survey`). The
type that the header declares is checked against the pixels; where it contradicts them in more than a tenth of the frames of a set (and in
more than one), as it does when every frame has the same, the set's declared types are not used.

Two tables hold the tree with all its doubts: `_light_rules`, whether light fell on the detector, and `_type_rules`. In each the first rule
that applies decides. A doubtful frame is "other": no frame of the sky must ever enter a master.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from reduction.frames.kernels import type_limits as limit
from reduction.frames.kernels.frame_statistics import FrameStatistics, HeaderEvidence, frame_statistics
from reduction.frames.kernels.night_survey import Night
from reduction.kernels.arrays import BoolArray, FloatArray

__all__ = ["Classification", "FrameStatistics", "HeaderEvidence", "classify_set", "frame_statistics"]

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


class _Rule(NamedTuple):
    """Where it applies, this is the verdict, for this reason.

    The type "closed" is bias or dark, by the exposure. The confidence is `undeclared`, where that is given, for a type that the header does
    not declare.
    """

    applies: BoolArray
    verdict: str | bool | None
    reason: str
    confidence: float = 0.0
    undeclared: float | None = None


def _first(rules: Sequence[_Rule]) -> list[_Rule]:
    """The first rule that applies to each frame; one must."""
    return [rules[place] for place in np.argmax([rule.applies for rule in rules], axis=0)]


class _Frames:
    """The frames of a night as columns of what the rules ask for; True where it is so.

    A comparison with what is unknown (NaN) is false. Light fell on the detector where `lit`, none where `dark`; elsewhere that is unknown.
    """

    def __init__(self, night: Night, *, trusted: bool) -> None:
        self.night, self.exptime, self.noise, self.stars, self.excess = night, night.exptime, night.noise, night.stars, night.excess
        # What the header declares, where that is trusted
        self.declared = [header.declared if trusted else None for header in night.headers]
        names = (None, "flat", "object", "other")
        self.uncalled, self.called_flat, self.called_object, self.called_other = (self._called(name) for name in names)
        self.called_closed = self._called("bias") | self._called("dark")
        self.blocked = np.array([header.blocked for header in night.headers], dtype=bool)
        # The exposure, the Sun
        self.no_time, self.short = night.no_time, self.exptime <= limit.FLAT_LENGTH
        # Light that came in no time had some that nobody knows.
        self.seconds = np.where(self.no_time & ~night.shut, np.nan, np.maximum(self.exptime, 1e-3))
        self.twilight, self.night_time = night.sun > limit.TWILIGHT, night.sun <= limit.TWILIGHT
        # Stars
        self.starry, self.many = self.stars >= limit.FEW_STARS, self.stars >= limit.MANY_STARS
        self.as_stars = np.array([bool((night.shining & night.as_long(time)).any()) for time in self.exptime], dtype=bool)
        self.spotted = night.spotted & ~self.called_closed & ~self.blocked
        # The level; without a zero level the light over the noise is a least
        self.measured = np.isfinite(self.excess)
        self.signal_to_noise = night.above / night.noise
        self.deep = night.above >= limit.DEEP * (night.top - np.maximum(0.0, night.base))
        self.rate_ratio = self.excess / self.seconds / (night.brightest_sky or np.nan)
        alike = np.where(self.measured, np.maximum(0.05 * self.excess, 2.0 * night.zero.scatter), self.noise)
        self.steady = night.repeated(alike)[0] >= 2
        self.smooth = night.smooth
        # What follows from these
        self.constant, self.saturated, self.normalised = self._blank()
        self.red, self.blue, self.sky_coloured = self._colour()
        light = _first(_light_rules(self))
        self.light, self.light_by = (np.array(column, dtype=object) for column in ([r.verdict for r in light], [r.reason for r in light]))
        self.lit, self.dark = (np.array([rule.verdict is which for rule in light], dtype=bool) for which in (True, False))
        self.closed = self._closed()
        self.starry_flat, self.like_the_sky, self.sky_flat = self._starry_flat(), self._like_the_sky(), self._sky_flat()
        self.surely_twilight = self.starry_flat & ~self.many & (self.rate_ratio >= limit.LAMP)

    def _called(self, name: str | None) -> BoolArray:
        return np.array([declared == name for declared in self.declared], dtype=bool)

    def _blank(self) -> tuple[BoolArray, BoolArray, BoolArray]:
        """Frames that hold nothing to be judged: constant, saturated, or normalised already."""
        names = ("saturated", "quantum", "level", "noise", "structure")
        saturated, quantum, level, noise, structure = (np.array([getattr(e, name) for e in self.night.statistics]) for name in names)
        normalised = (quantum == 0) & (level > 0.3) & (level < 2.0) & (noise < 0.2) & (structure < 0.5)
        return ~self.night.usable, saturated > 0.5, normalised

    def _colour(self) -> tuple[FloatArray, FloatArray, BoolArray]:
        """R/G and B/G of the light, NaN on a monochrome sensor or without a zero level; whether it is that of twilight or day."""
        channels = np.array([entry.channels or (np.nan,) * 3 for entry in self.night.statistics]).reshape(-1, 3)
        red, green, blue = (channels - self.night.base[:, None]).T
        green = np.where((self.measured | self.deep) & (green > 0), green, np.nan)
        red, blue = red / green, blue / green
        inside = (limit.RED[0] <= red) & (red <= limit.RED[1]) & (limit.BLUE[0] <= blue) & (blue <= limit.BLUE[1])
        return red, blue, inside & (blue >= limit.SLOPE * red)

    def _closed(self) -> BoolArray:
        """The shutter was closed or the filter blocked, by the pixels or, where these leave it open, by the declared type."""
        # A single frame that bright is not believed to be closed.
        by_type = self.dark | self.measured | ~self.deep | self.steady
        # Faint light with a few peaks may be no dark current, whatever its shape.
        # Nor need what is called an object frame, where no other of the exposure time is like it.
        like = self.night.repeated(np.maximum(0.1 * self.noise, limit.STEADY * self.excess), ~self.called_object)[0] >= 2
        by_pixels = self.dark & ((self.light_by == "level") | ((self.stars < limit.SOME_STARS) & (like | ~self.called_object)))
        few = ~self.starry & np.where(self.called_closed, by_type, by_pixels)
        return np.asarray(self.blocked | (~self.lit & (self.night.shut | (few & ~self.no_time))))

    def _starry_flat(self) -> BoolArray:
        """A flat at twilight sees the brightest stars; an object frame does not see that much sky."""
        # Where the Sun's altitude is unknown, only the night sky can be compared with.
        ratio = self.rate_ratio
        brighter = np.where(self.twilight, ~(ratio < limit.CLOUDS), ~self.night_time & (ratio >= limit.LAMP))
        return np.asarray(brighter & self.deep & (self.signal_to_noise >= 2 * limit.USABLE) & self.short)

    def _like_the_sky(self) -> BoolArray:
        """What clouds give at night: no brighter than they can be in an exposure of frames with stars, or faint in a long one."""
        clouds = np.where(np.isfinite(self.rate_ratio), self.rate_ratio < limit.CLOUDS, ~(self.deep & self.steady))
        # A lamp has no stars, however few, and what takes long beside it at night is no lamp.
        peaks = self.night_time & (self.stars >= limit.SOME_STARS)
        faint = clouds | peaks | ~(self.measured & self.deep) | (self.night_time & (self.rate_ratio < limit.LAMP))
        return np.asarray(~self.twilight & (((clouds | peaks) & self.as_stars) | (~self.short & faint)))

    def _sky_flat(self) -> BoolArray:
        """High S/N and sky colour, or, on a monochrome sensor, the level and the Sun's altitude; or a lamp."""
        ratio, compared, deep, steady = self.rate_ratio, np.isfinite(self.rate_ratio), self.deep, self.steady
        # No star shows by day: what is bright and steady then is a lamp in a closed dome. Nor is a cloud at night that bright.
        no_sky = (np.isfinite(self.red) & ~self.sky_coloured) | self.night_time
        lamp = ((self.night.sun > 0) | (ratio >= limit.LAMP)) & deep & steady & self.short
        twilight = np.where(compared, ratio >= limit.BRIGHTER, self.measured | deep) & (self.exptime <= limit.TWILIGHT_LENGTH)
        unknown = np.where(compared, (ratio >= limit.BRIGHTER) & ~self.as_stars & (steady | deep), deep) & self.short
        bright = np.where(no_sky, lamp, np.where(self.twilight, twilight, unknown))
        return np.asarray((self.signal_to_noise >= limit.USABLE) & self.smooth & bright)


def _light_rules(f: _Frames) -> list[_Rule]:
    """Whether light fell on the detector, None where that is unknown, and what shows it."""
    night, level, excess, noise, zero, open_ = f.night, f.night.level, f.excess, f.noise, f.night.zero, ~f.night.shut
    # Without a zero level, or with one that rests on the frame's declared type, a frame can only be compared with the others.
    alone = ~f.measured if zero.declared is None else ~f.measured | zero.declared
    sky, electrons, vignetting = night.sky, (excess / noise) ** 2 / f.seconds, night.vignetting
    # Other frames of the exposure time repeat the level as only dark current does.
    same, of = night.repeated(np.maximum(np.maximum(3.0 * zero.scatter, limit.STEADY * excess), 0.02 * noise))
    as_dark = (excess < 0.5 * noise) | (same >= np.maximum(2, 0.6 * of))
    return [
        _Rule(open_ & f.spotted, True, "spot"),
        _Rule(alone & f.starry, True, "stars"),
        _Rule(alone & (level - night.floor > limit.CLEAR * noise), True, "level"),
        _Rule(alone & (level > night.faintest_with_stars + 0.2 * noise), True, "brighter than frames with stars"),
        _Rule(alone & night.vignetted, True, "vignetting"),
        _Rule(alone, None, ""),
        _Rule(excess <= night.tolerance, False, "level"),
        _Rule(f.deep & (excess > limit.CLEAR * noise), True, "level"),
        _Rule(open_ & f.many, True, "stars"),
        _Rule(open_ & (excess > np.maximum(limit.ABOVE_SKY * sky, limit.CLEAR * noise)), True, "rate"),
        _Rule(open_ & (electrons > limit.FLOOD), True, "rate"),
        _Rule(vignetting > 0, True, "shape"),
        _Rule(vignetting < 0, False, "shape"),
        _Rule(open_ & f.starry, True, "stars"),
        _Rule((f.exptime < limit.SHORT) & (excess < 0.5 * noise), False, "level"),
        _Rule(open_ & (electrons > limit.ELECTRON_RATE), True, "rate"),
        _Rule(as_dark & (excess < limit.FAINT * sky), False, "fainter than any sky"),
        _Rule(np.ones(level.size, dtype=bool), None, ""),
    ]


def _type_rules(f: _Frames) -> list[_Rule]:
    """Types of frames, and why."""
    starry, lit, flat, closed = f.starry, f.lit, f.lit & f.called_flat, f.closed
    uncalled_flat = starry & (f.uncalled | f.called_closed) & f.surely_twilight
    faint = f.measured & (f.signal_to_noise < 0.5 * limit.USABLE)
    as_stars = lit & f.uncalled & (f.stars > 0) & f.as_stars
    few_stars = f.called_object & (f.stars > 0)
    some_stars = lit & f.uncalled & (f.stars >= limit.SOME_STARS) & f.night_time & ~f.short
    timeless_flat = flat & f.no_time & f.deep & f.smooth & ~f.night_time & (f.signal_to_noise >= limit.USABLE)
    return [
        # Nothing that could be judged
        _Rule(f.constant, "other", "{value}: nothing was exposed or read out", 0.99),
        _Rule(f.saturated, "other", "{saturated:.0%} of the pixels are saturated", 0.99),
        _Rule(f.normalised, "other", "its level is {level:.3f}: a flat that is normalised already, a master and no raw frame", 0.9),
        # The shutter was closed
        _Rule(closed & (lit | f.dark), "closed", "shutter closed ({distance}), exposure of {exptime:g} s", 0.99, 0.9),
        _Rule(closed & f.blocked, "closed", "exposure of {exptime:g} s behind a blocked filter", 0.99, 0.9),
        _Rule(closed & f.no_time, "closed", "exposure of {exptime:g} s", 0.99, 0.9),
        _Rule(closed, "closed", "called closed, exposure of {exptime:g} s; nothing to compare its level with", 0.8),
        # Stars
        _Rule(starry & f.dark & (f.many | f.called_object), "object", "{stars} stars on hardly any sky", 0.99, 0.6),
        _Rule(starry & f.dark, "other", "{stars} star-like peaks and no light above the zero level", 0.6),
        _Rule(starry & f.called_flat & f.starry_flat, "flat", "a bright twilight sky, though with {stars} stars", 0.8),
        _Rule(uncalled_flat, "flat", "a twilight sky {rate_ratio:.0f} times the night's, though with {stars} stars", 0.6),
        _Rule(starry, "object", "{stars} stars", 0.99, 0.9),
        _Rule(lit & f.spotted, "object", "a bright spot on hardly any sky", 0.99, 0.6),
        # Light and hardly a star
        _Rule(timeless_flat, "flat", "{lit}", 0.8),
        _Rule(
            lit & f.no_time & ~few_stars,
            "other",
            "light in an exposure of 0 s: the exposure time is wrong, or the shutter stayed open",
            0.6,
        ),
        _Rule(flat & f.like_the_sky, "other", "no star, and no brighter than the night sky of that exposure: clouds", 0.6),
        _Rule(flat & faint, "other", "{lit}, {signal_to_noise:.1f} times the noise: too faint to tell", 0.6),
        _Rule(flat, "flat", "{lit}", 0.99),
        _Rule(lit & few_stars, "object", "{stars} stars", 0.99),
        _Rule(lit & f.sky_flat & f.twilight, "flat", "bright and smooth, without stars; {ground}", 0.9),
        _Rule(lit & f.sky_flat, "flat", "bright and smooth, without stars; {ground}", 0.6),
        _Rule(as_stars, "object", "{stars} stars, in an exposure as long as those of other frames with stars", 0.6),
        _Rule(some_stars, "object", "{stars} stars in a long exposure at night", 0.6),
        _Rule(lit, "other", "open, without stars, and no bright twilight sky (clouds, or a closed dome?)", 0.6),
        # The pixels do not show whether there is light: the declared type decides, with care
        _Rule(f.called_flat & f.deep & ~f.measured & ~f.like_the_sky, "flat", "hardly a star; no zero level to compare with", 0.8),
        _Rule(few_stars, "object", "{stars} stars; no zero level to compare with", 0.8),
        _Rule(~f.measured, "other", "hardly a star, and no closed frame to compare the level with", 0.3),
        _Rule(f.measured, "other", "hardly a star, and {excess:.1f} ADU that may be dark current or the sky of clouds", 0.3),
    ]


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
        Exposures of the same set-up on the nights around it, used where the night's own zero level is unknown or rests on declared types.

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
    night, pixels, said = Night(statistics, headers), list(statistics), list(headers)
    if neighbours and (night.zero.level is None or night.zero.declared is not None):
        pixels += [entry for entry, _ in neighbours]
        said += [header for _, header in neighbours]
        night = Night(pixels, said)
    frames = _Frames(night, trusted=True)
    fits = _fits(frames)[: len(statistics)]
    trusted = bool(np.count_nonzero(fits == 0) <= max(1, limit.TRUST * np.count_nonzero(np.isfinite(fits))))
    if not trusted:
        # Without declared types among the exposed frames nothing changes but what these said against an exposure time.
        night = Night(pixels, said, trusted=False) if night.called_light.any() else night
        frames = _Frames(night, trusted=False)
    return [_classified(frames, index, rule, trusted) for index, rule in enumerate(_first(_type_rules(frames))[: len(statistics)])]


def _fits(f: _Frames) -> FloatArray:
    """1 where the declared type fits the pixels, 0 where it does not; NaN where these leave a doubt, or no type is declared."""
    few, level, shape = ~f.starry, f.light_by == "level", f.light_by == "shape"
    return np.select(
        [
            f.uncalled | f.constant | f.saturated | f.normalised,
            f.dark & level & few,
            f.many & ~f.blocked,
            f.surely_twilight,
            f.lit & few & (f.deep | shape),
        ],
        [
            np.full(few.size, np.nan),
            f.called_closed,
            f.called_object | f.called_other | (f.called_flat & f.starry_flat),
            f.called_flat,
            ~f.called_closed & ~(f.called_object & f.sky_flat),
        ],
        np.nan,
    )


def _classified(f: _Frames, index: int, rule: _Rule, trusted: bool) -> Classification:
    header, trusted_type = f.night.headers[index], f.declared[index]
    kind = str(rule.verdict)
    if kind == "closed":
        # By exposure time; a dark as short as its flat is still a dark where the header declares it one.
        kind = "dark" if header.exptime >= (limit.TRUE_DARK if trusted_type == "dark" else limit.SHORT) else "bias"
    values = _evidence(f, index)
    reason = rule.reason.format(**values, **_quoted(values))
    confidence = rule.confidence if rule.undeclared is None or trusted_type == kind else rule.undeclared
    disagrees = header.declared is not None and header.declared != kind
    if disagrees:
        reason = f"called {header.declared}, but {reason}"
        confidence = min(confidence, 0.6) if kind != "other" else confidence
    # By what the level shows, and by the header
    before = {*(("bias", "flat") if f.normalised[index] else ("bias",) if f.night.zeroed[index] else ()), *header.calibrated}
    if kind in ("object", "flat") and f.no_time[index]:
        reason += "; its exposure time of 0 s is wrong"
        confidence = min(confidence, 0.9)
    calibrated = tuple(step for step in ("bias", "dark", "flat") if step in before)
    if calibrated and kind in ("object", "flat"):
        reason += f"; already corrected for {', '.join(calibrated)}"
    evidence = {name: _rounded(value, _DIGITS.get(name, 3)) for name, value in values.items()}
    evidence |= {"exptime": header.exptime, "words_trusted": trusted, "calibrated": " ".join(calibrated)}
    return Classification(kind, reason, confidence, disagrees, evidence, calibrated)


_DIGITS = {"saturated": 6, "signal_to_noise": 2, "sun_altitude": 2}


def _rounded(value: Any, digits: int) -> Any:
    """As JSON holds it: None for what is unknown."""
    if isinstance(value, float):
        return round(float(value), digits) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def _evidence(f: _Frames, index: int) -> dict[str, Any]:
    """The numbers behind a type."""
    night, entry, sun = f.night, f.night.statistics[index], f.night.sun[index]
    coloured, zeroed = bool(np.isfinite(f.red[index])), night.zeroed[index]
    columns = ("exptime", "stars", "excess", "light", "light_by", "deep", "smooth", "rate_ratio", "blocked")
    return {
        **{name: getattr(entry, name) for name in ("level", "noise", "structure", "saturated")},
        **{name: getattr(f, name)[index] for name in columns},
        "declared": night.headers[index].declared,
        "signal_to_noise": f.signal_to_noise[index] if f.measured[index] else None,
        "temporal_noise": f.noise[index],
        "star_like_peaks": entry.n_peaks,
        "zero": night.pedestal[index] if zeroed else night.zero.level,
        "zero_from": "the bias taken off before" if zeroed else night.zero.source,
        "sky_colour": f.sky_coloured[index] if coloured else None,
        "sky_by": "Bayer channels" if coloured else "level" if np.isnan(sun) else "level and Sun's altitude",
        "red_to_green": f.red[index],
        "blue_to_green": f.blue[index],
        "sun_altitude": sun,
        "twilight": None if np.isnan(sun) else f.twilight[index],
    }


def _quoted(values: dict[str, Any]) -> dict[str, str]:
    """What sentences quote beside the evidence."""
    level, excess, ratio, sun = (values[name] for name in ("level", "excess", "rate_ratio", "sun_altitude"))
    measured, coloured = np.isfinite(excess), values["sky_colour"]
    altitude = "" if np.isnan(sun) else f"Sun at {sun:+.0f} degrees"
    brighter = f", {ratio:.1f} times the night sky" if np.isfinite(ratio) else ""
    ground = f"by the level{brighter}"
    if coloured:
        ground = f"sky colour by the Bayer channels (R/G {values['red_to_green']:.2f}, B/G {values['blue_to_green']:.2f})"
    ground += f", {altitude}" if altitude else ""
    if values["twilight"] and coloured is None:
        ground = f"monochrome: by the level and the Sun's altitude ({altitude}{brighter})"
    return {
        "value": "no pixel has a value" if np.isnan(level) else f"every pixel is {level:g}",
        "distance": f"level {excess:+.1f} ADU from the zero level" if measured else "no stars",
        "lit": "light" + (f" ({excess:+.0f} ADU)" if measured else "") + " and hardly a star",
        "ground": ground,
    }
