"""Type of a frame: bias, dark, flat, object or other, from its pixels and its header.

The tree: shutter closed? yes: exposure much shorter than a minute? bias, else
dark. No: stars? object. No: bright sky (and, with a known Sun altitude,
twilight or day)? flat, else other. The observer's word counts as evidence and
decides where the pixels cannot; where they contradict it they win, and the
frame is marked.

One frame has no absolute zero, so closed frames are told from open ones by the
levels of all frames of an instrument and night, and what looks like a star and
stands at the same pixel in a closed frame or a flat is a defect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, spatial

__all__ = ["Classification", "FrameStatistics", "HeaderEvidence", "classify_set", "frame_statistics"]

Image = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

_MAD = 1.482602218505602
_SAMPLE = 200_000  # pixels that give level and noise: to 0.3 % of the noise
_WINDOW = 1024  # pixels a side searched for stars: enough to tell, and quick on large frames
_BOX = 16  # pixels a side of a background box
_STAR_SIGMA = 6.0  # above the smoothed noise: none expected by chance in 10^7 pixels
_STAR_WIDTH = 0.25  # fourth-brightest of the 3x3 pixels over the brightest: 0 for a hot pixel, 0.3 or more for FWHM of 1.5
_MOST_PEAKS = 300
_SAME_PIXEL = 2.5  # pixel
_FEW_STARS = 5
_MANY_STARS = 20
_BRIGHT_SKY = 20.0  # sky over pixel noise of a usable flat
_SHORT = 5.0  # s: much shorter than a minute
_TWILIGHT = -18.0  # degree
_PLAIN = ("level", "noise", "structure", "minimum", "maximum", "saturated", "constant", "n_peaks")


@dataclass(frozen=True)
class FrameStatistics:
    """Statistics of one raw frame.

    Attributes
    ----------
    level : float
        Sigma-clipped mean, ADU; NaN without a finite pixel.
    noise : float
        Pixel noise from differences of neighbours, ADU (fixed pattern on the scale of a pixel included).
    structure : float
        Scatter of the medians of 16-pixel boxes, 1.48 MAD, ADU.
    minimum, maximum : float
        Of the finite pixels, ADU.
    saturated : float
        Fraction of pixels at or above the saturation level or, where that is unknown, piled up at the maximum.
    constant : bool
        All finite pixels are equal, or there are none.
    n_peaks : int
        Number of star-like peaks in the central 1024 pixels.
    peaks : ndarray of float64, shape (n, 2)
        x, y of the 300 brightest of them, brightest first.
    """

    level: float
    noise: float
    structure: float
    minimum: float
    maximum: float
    saturated: float
    constant: bool
    n_peaks: int
    peaks: Floats

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold; `from_dict` turns them back."""
        values = {name: getattr(self, name) for name in _PLAIN}
        return {**values, "peaks": self.peaks.astype(int).tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FrameStatistics:
        """Read the values of `as_dict`; None stands for NaN."""
        plain: dict[str, Any] = {name: float("nan") if values[name] is None else values[name] for name in _PLAIN}
        return cls(**plain, peaks=np.asarray(values["peaks"], dtype=np.float64).reshape(-1, 2))


@dataclass(frozen=True)
class HeaderEvidence:
    """What the header adds.

    Attributes
    ----------
    exptime : float
        s.
    declared : str or None
        The observer's word: bias, dark, flat, object or other.
    blocked : bool
        The filter lets no light through.
    calibrated : tuple of str
        Steps done before: bias, dark, flat.
    sun_altitude : float or None
        Degrees; None or NaN when unknown.
    """

    exptime: float
    declared: str | None = None
    blocked: bool = False
    calibrated: tuple[str, ...] = ()
    sun_altitude: float | None = None

    @property
    def says_closed(self) -> bool:
        """No light was meant to fall on the detector."""
        return self.blocked or self.exptime == 0 or self.declared in ("bias", "dark")


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
        0.99 pixels and header agree; 0.9 pixels alone; 0.8 header alone; 0.6 pixels against header; 0.3 unclear.
    disagrees : bool
        The header says something else.
    evidence : dict
        The numbers behind it; None is unknown.
    """

    kind: str
    reason: str
    confidence: float
    disagrees: bool = False
    evidence: dict[str, float | int | str | bool | None] = field(default_factory=dict)


def frame_statistics(data: Image, *, saturation: float | None = None) -> FrameStatistics:
    """Statistics of a raw frame for its classification.

    Parameters
    ----------
    data : ndarray of float32, shape (ny, nx)
        ADU; NaN pixels are left out.
    saturation : float, optional
        ADU.

    Returns
    -------
    FrameStatistics
    """
    finite = data[np.isfinite(data)]
    if finite.size == 0 or finite.min() == finite.max():
        level = float(finite[0]) if finite.size else float("nan")
        return FrameStatistics(level, 0.0, 0.0, level, level, 0.0, True, 0, np.empty((0, 2)))
    level = _clipped(_sample(finite))[0]
    maximum = float(finite.max())
    top = maximum if saturation is None else min(saturation, maximum + 1)
    at_top = int(np.count_nonzero(finite >= top))
    # One pixel is always the brightest; only several at the very same value are a pile-up.
    saturated = at_top / finite.size if saturation is not None or at_top >= 10 else 0.0
    window = _central(np.where(np.isfinite(data), data, np.float32(level)))
    noise = _clipped(_sample(np.diff(window, axis=1).ravel()))[1] / np.sqrt(2.0)
    smoothed = ndimage.gaussian_filter(window, 1.0)
    medians = _box_medians(smoothed, _box(window))
    structure = _MAD * float(np.median(np.abs(medians - np.median(medians))))
    offset = ((data.shape[1] - window.shape[1]) // 2, (data.shape[0] - window.shape[0]) // 2)
    peaks = _star_peaks(window, smoothed) + np.asarray(offset, dtype=np.float64)
    minimum = float(finite.min())
    return FrameStatistics(level, float(noise), structure, minimum, maximum, saturated, False, len(peaks), peaks[:_MOST_PEAKS])


def _sample(values: npt.NDArray[Any]) -> Floats:
    """Every n-th value, n odd: columns of even and odd number may have amplifiers of their own."""
    step = max(1, values.size // _SAMPLE)
    return values[:: step + 1 - step % 2].astype(np.float64)


def _clipped(values: Floats, sigma: float = 3.0, iterations: int = 10) -> tuple[float, float]:
    """Mean and standard deviation of what lies within `sigma` of the mean."""
    mean = float(np.median(values))
    scatter = _MAD * float(np.median(np.abs(values - mean)))
    if scatter == 0:
        mean, scatter = float(values.mean()), float(values.std())
    for _ in range(iterations):
        kept = values[np.abs(values - mean) <= sigma * scatter]
        if kept.size == 0:
            break
        before = scatter
        mean, scatter = float(kept.mean()), float(kept.std())
        if abs(scatter - before) <= 1e-3 * before:
            break
    return mean, scatter


def _central(data: Image) -> Image:
    ny, nx = data.shape
    height, width = min(ny, _WINDOW), min(nx, _WINDOW)
    y0, x0 = (ny - height) // 2, (nx - width) // 2
    return data[y0 : y0 + height, x0 : x0 + width]


def _box(data: Image) -> int:
    return int(max(1, min(_BOX, data.shape[0] // 4, data.shape[1] // 4)))


def _box_medians(data: Image, box: int) -> Floats:
    rows, columns = data.shape[0] // box, data.shape[1] // box
    boxes = data[: rows * box, : columns * box].reshape(rows, box, columns, box).swapaxes(1, 2)
    medians: Floats = np.median(boxes.reshape(rows, columns, -1), axis=-1).astype(np.float64)
    return medians


def _background(data: Image) -> Image:
    """Box medians, median-filtered against bright stars and joined bilinearly."""
    box = _box(data)
    medians = ndimage.median_filter(_box_medians(data, box), 3, mode="nearest")
    return _stretched(_stretched(medians, data.shape[0], box, 0), data.shape[1], box, 1).astype(np.float32)


def _stretched(grid: Floats, length: int, box: int, axis: int) -> Floats:
    last = grid.shape[axis] - 1
    place = np.clip((np.arange(length) - (box - 1) / 2) / box, 0, last)
    lower = np.minimum(place.astype(np.int64), max(last - 1, 0))
    weight = np.expand_dims(place - lower, 1 - axis)
    joined: Floats = np.take(grid, lower, axis) * (1 - weight) + np.take(grid, np.minimum(lower + 1, last), axis) * weight
    return joined


def _star_peaks(data: Image, smoothed: Image) -> Floats:
    """x, y of peaks that stand out of the smoothed noise and are wider than a hot pixel."""
    if min(data.shape) < 12:
        return np.empty((0, 2))
    background = _background(smoothed)
    smoothed = smoothed - background
    threshold = _STAR_SIGMA * _MAD * float(np.median(np.abs(smoothed)))
    candidate = (smoothed > max(threshold, 1e-6)) & (smoothed == ndimage.maximum_filter(smoothed, 5))
    # The borders of many detectors are dark or bright.
    candidate[:4], candidate[-4:], candidate[:, :4], candidate[:, -4:] = False, False, False, False
    y, x = np.nonzero(candidate)
    excess = data - background
    stamp = np.sort(np.stack([excess[y + i, x + j] for i in (-1, 0, 1) for j in (-1, 0, 1)], axis=-1), axis=-1)
    wide = stamp[:, -4] > _STAR_WIDTH * stamp[:, -1]
    order = np.argsort(-smoothed[y, x][wide], kind="stable")
    return np.stack([x[wide][order], y[wide][order]], axis=-1).astype(np.float64)


def classify_set(statistics: Sequence[FrameStatistics], headers: Sequence[HeaderEvidence]) -> list[Classification]:
    """Types of the frames of one instrument and night.

    Parameters
    ----------
    statistics : sequence of FrameStatistics
    headers : sequence of HeaderEvidence
        Of the same length.

    Returns
    -------
    list of Classification
        In the order of the input; it does not depend on that order otherwise.
    """
    stars = _stars(statistics, headers)
    zero, zero_scatter = _zero_level(statistics, headers, stars)
    floor = min((entry.level for entry in statistics if not entry.constant), default=float("nan"))
    result = []
    for entry, header, count in zip(statistics, headers, stars, strict=True):
        sight = _look(entry, header, count, zero, zero_scatter, floor)
        kind, reason, confidence = _decide(entry, header, sight)
        disagrees = header.declared is not None and header.declared != kind
        if header.calibrated and kind in ("object", "flat"):
            reason += f"; already corrected for {', '.join(header.calibrated)}"
        result.append(Classification(kind, reason, confidence, disagrees, _evidence(entry, header, sight)))
    return result


@dataclass(frozen=True)
class _Sight:
    """What the pixels of a frame show in the light of its set."""

    stars: int
    excess: float | None  # ADU above the zero level
    light: bool | None  # None: cannot be told
    bright: bool  # a high S/N sky
    twilight: bool | None


def _stars(statistics: Sequence[FrameStatistics], headers: Sequence[HeaderEvidence]) -> list[int]:
    """Per frame: star-like peaks at no peak of the other frames in which no star should be."""
    starless = [
        place
        for place, (entry, header) in enumerate(zip(statistics, headers, strict=True))
        if len(entry.peaks) and (header.says_closed or header.declared == "flat")
    ]
    common = _tree([statistics[place].peaks for place in starless])
    counts = []
    for index, entry in enumerate(statistics):
        defects = _tree([statistics[place].peaks for place in starless if place != index]) if index in starless else common
        if defects is None or not len(entry.peaks):
            counts.append(entry.n_peaks)
            continue
        distance, _ = defects.query(entry.peaks)
        counts.append(entry.n_peaks - int(np.count_nonzero(distance <= _SAME_PIXEL)))
    return counts


def _tree(positions: list[Floats]) -> spatial.cKDTree | None:
    return spatial.cKDTree(np.concatenate(positions)) if positions else None


def _zero_level(
    statistics: Sequence[FrameStatistics], headers: Sequence[HeaderEvidence], stars: Sequence[int]
) -> tuple[float | None, float]:
    """Level without light, and its scatter, from the shortest of the frames that say they are closed and show no stars."""
    closed = [
        (header.exptime, entry.level, entry.noise)
        for entry, header, count in zip(statistics, headers, stars, strict=True)
        if header.says_closed and not entry.constant and count < _MANY_STARS
    ]
    if not closed:
        return None, 0.0
    shortest = min(exptime for exptime, _, _ in closed)
    levels = np.array([level for exptime, level, _ in closed if exptime == shortest])
    scatter = _MAD * float(np.median(np.abs(levels - np.median(levels))))
    noise = float(np.median([noise for exptime, _, noise in closed if exptime == shortest]))
    return float(np.median(levels)), max(scatter, 0.02 * noise, 0.1)


def _look(entry: FrameStatistics, header: HeaderEvidence, stars: int, zero: float | None, zero_scatter: float, floor: float) -> _Sight:
    excess = None if zero is None else entry.level - zero
    noise = max(entry.noise, 1e-6)
    above = entry.level - floor if excess is None else excess
    light: bool | None = None
    if excess is not None:
        light = excess > 5.0 * zero_scatter
    elif stars >= _FEW_STARS or above > 10.0 * noise:
        light = True
    sun = header.sun_altitude
    twilight = None if sun is None or np.isnan(sun) else bool(sun > _TWILIGHT)
    return _Sight(stars, excess, light, above > _BRIGHT_SKY * noise, twilight)


def _decide(entry: FrameStatistics, header: HeaderEvidence, sight: _Sight) -> tuple[str, str, float]:
    if entry.constant:
        value = "no pixel has a value" if np.isnan(entry.level) else f"every pixel is {entry.level:g}"
        return "other", f"{value}: nothing was exposed or read out", 0.99
    if entry.saturated > 0.5:
        return "other", f"{entry.saturated:.0%} of the pixels are saturated", 0.99
    if header.says_closed:
        if sight.stars >= _MANY_STARS and sight.light is not False and not header.blocked and header.exptime > 0:
            return "object", f"{sight.stars} stars in a frame called {header.declared}", 0.6
        return _closed(header, sight)
    if header.declared is not None and sight.light is False and sight.stars == 0:
        kind, reason, _ = _closed(header, sight)
        return kind, f"called {header.declared}, but {reason}", 0.6
    if header.declared is None and sight.stars < _FEW_STARS and sight.light is not True:
        if sight.light is False:
            return _closed(header, sight)
        return "other", "no stars, no image type, and no closed frame to compare the level with", 0.3
    return _open(header, sight)


def _closed(header: HeaderEvidence, sight: _Sight) -> tuple[str, str, float]:
    """Bias or dark: by length; the observer's word decides for short darks."""
    # A dark as short as its flat is still a dark, when it is called one.
    short = header.exptime < _SHORT and not (header.declared == "dark" and header.exptime > 0)
    kind = "bias" if short else "dark"
    length = f"exposure of {header.exptime:g} s"
    if sight.light is None:
        return kind, f"called closed, {length}; no shorter closed frame to compare with", 0.8
    if header.blocked or header.exptime == 0:
        return kind, f"{length}" + (" behind a blocked filter" if header.blocked else ""), 0.99 if header.declared == kind else 0.9
    level = f"level {sight.excess:+.1f} ADU from the zero level" if sight.excess is not None else "no stars"
    return kind, f"shutter closed ({level}), {length}", 0.99 if header.declared == kind else 0.9


def _open(header: HeaderEvidence, sight: _Sight) -> tuple[str, str, float]:
    """Object, flat or other."""
    declared = header.declared
    if declared == "flat" and (sight.bright or sight.stars < _FEW_STARS):
        if sight.light is None:
            return "flat", "called flat, no stars", 0.8
        return "flat", "light" + (f" ({sight.excess:+.0f} ADU)" if sight.excess is not None else "") + " and hardly a star", 0.99
    if sight.stars >= (1 if declared == "object" else _FEW_STARS):
        confidence = 0.99 if declared == "object" else 0.9 if declared is None else 0.6
        return "object", f"{sight.stars} stars" + (f" in a frame called {declared}" if declared not in (None, "object") else ""), confidence
    if sight.bright and sight.twilight is not False and declared in (None, "flat"):
        return "flat", "bright, without stars" + (", Sun up or in twilight" if sight.twilight else ""), 0.9 if sight.twilight else 0.6
    if sight.bright and sight.twilight and declared == "object":
        return "flat", "called object, but bright, without stars, and in twilight or day", 0.6
    return "other", "open, without stars, and no bright twilight sky (clouds, or a closed dome?)", 0.6


def _evidence(entry: FrameStatistics, header: HeaderEvidence, sight: _Sight) -> dict[str, float | int | str | bool | None]:
    level = None if np.isnan(entry.level) else round(entry.level, 3)
    return {
        "level": level,
        "noise": round(entry.noise, 3),
        "structure": round(entry.structure, 3),
        "saturated": round(entry.saturated, 6),
        "star_like_peaks": entry.n_peaks,
        "stars": sight.stars,
        "excess": None if sight.excess is None else round(sight.excess, 3),
        "light": sight.light,
        "bright": sight.bright,
        "twilight": sight.twilight,
        "exptime": header.exptime,
        "declared": header.declared,
        "blocked": header.blocked,
    }
