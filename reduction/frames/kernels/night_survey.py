"""What the frames of one set-up and night say about each other: the zero level, defects, noise, the shape and the rate of the light.

One frame has no absolute zero and no noise free of fixed pattern; a set has. Words of the header only say where a zero level may lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import spatial

from reduction.frames.kernels.frame_statistics import FrameStatistics, HeaderEvidence
from reduction.kernels.arrays import FloatArray
from reduction.kernels.robust import GAUSSIAN_MAD

__all__ = ["FEW_STARS", "MANY_STARS", "TWILIGHT", "Sight", "survey"]


FEW_STARS = 5
"""Star-like peaks that are believed without a word."""
MANY_STARS = 20
"""Star-like peaks that no word takes away."""

TWILIGHT = -10.0
"""Degrees: with the Sun above, the sky is brighter than the Moon makes it."""

_SAME_PIXEL = 2.5  # pixel
_DEEP = 0.1  # fraction of the range of the camera: dark current does not reach it, a flat does
_INSTANT = 1.0  # s: the night sky adds nothing
_LONGER = 2.0  # ratio of exposure times at which a star must have grown
_PARTNERS = 40  # frames nearest in level whose pixels are compared
_WITNESSES = 6  # frames of each exposure time that show where defects are
_ELECTRON_RATE = 5.0  # electron/s a pixel at least: more than dark current
_FLOOD = 50.0  # electron/s a pixel at least: more than a warm camera's
_ABOVE_SKY = 1.5  # of the faintest sky with stars
_FAINT = 0.3  # of the faintest sky with stars: less is no sky
_GRID_HALF = 4  # half the number of boxes a side
_SHAPED = 3.0  # light over noise of frames whose light shows its shape
_STEADY = 0.01  # scatter of the excess of darks among themselves


@dataclass(frozen=True)
class Sight:
    """What the pixels of a frame show in the light of its set.

    Attributes
    ----------
    stars : int
        Star-like peaks that are no defects.
    zero : float or None
        Level without light, ADU.
    base : float
        The same or, where it is unknown, the faintest level of the set if there are several, ADU.
    above : float
        Level above it, ADU.
    zero_from : str
        What gave the zero level.
    excess : float or None
        Level above it, ADU.
    tolerance : float
        Excess that means nothing, ADU.
    noise : float
        Pixel noise without fixed pattern where two frames show it, ADU.
    light : bool or None
        Light fell on the detector; None where it cannot be told.
    light_by : str
        What told.
    deep : bool
        The level is a tenth of the camera's range or more above the zero level.
    steady : bool
        At least two other frames of its exposure time have its level within 5 % of the excess (within the noise, without a zero level).
    smooth : bool
        The light varies over the frame by less than a tenth, beyond a quadratic shape, or as that of the frames with stars.
    rate_ratio : float or None
        Light per second over that of the brightest sky with stars; None where there is none.
    as_stars : bool
        Frames of its exposure time show stars.
    """

    stars: int
    zero: float | None
    base: float
    above: float
    zero_from: str
    excess: float | None
    tolerance: float
    noise: float
    light: bool | None
    light_by: str
    deep: bool
    steady: bool
    smooth: bool
    rate_ratio: float | None
    as_stars: bool

    @property
    def signal_to_noise(self) -> float:
        """Light over the noise of a pixel; at least, where the zero level is unknown."""
        return self.above / self.noise


@dataclass(frozen=True)
class _Zero:
    level: float | None
    scatter: float
    source: str
    said: npt.NDArray[np.bool_] | None = None  # frames that give it by their word only, and so cannot be judged by it


class _Night:
    """Columns of a set of frames, and what follows from them."""

    def __init__(self, statistics: Sequence[FrameStatistics], headers: Sequence[HeaderEvidence]) -> None:
        self.statistics, self.headers = statistics, headers
        self.level = np.array([entry.level for entry in statistics], dtype=np.float64)
        self.exptime = np.array([header.exptime for header in headers], dtype=np.float64)
        self.usable = np.array([not entry.constant for entry in statistics], dtype=bool)
        # A filter that lets nothing through is a fact; so is a shutter that had no time to open.
        self.shut = np.array([header.blocked or header.exptime == 0 for header in headers], dtype=bool)
        self.zeroed = np.array([_zeroed(entry, header) for entry, header in zip(statistics, headers, strict=True)], dtype=bool)
        self.top = self._top()
        self.floor = float(self.level[self.usable].min()) if self.usable.any() else 0.0
        self.noise = self._noises()
        self.stars = np.array([entry.n_peaks for entry in statistics])
        self.zero = self._zero()
        self.stars = self._stars()
        self.zero = self._zero()
        self.excess = np.array([self._excess(index) for index in range(len(statistics))])
        self.tolerance = np.maximum(5.0 * self.zero.scatter, 0.1 * self.noise)
        self.shining = self.usable & (self.stars >= FEW_STARS) & ~self.shut & ~(self.excess <= self.tolerance)

    def _top(self) -> float:
        """Greatest value that the camera can write: of 12, 14 or 16 bits, by its brightest pixel; 16 where it writes in larger steps."""
        entries = [entry for entry in self.statistics if not entry.constant]
        brightest = max((entry.maximum for entry in entries), default=0.0)
        if min((entry.quantum for entry in entries), default=1.0) >= 4.0:
            brightest = max(brightest, 2.0**14)
        return next((2.0**bits - 1 for bits in (12, 14, 16) if brightest <= 2.0**bits - 1), brightest)

    def _noises(self) -> FloatArray:
        """Temporal noise: least scatter of the difference to a frame of much the same level, per root two."""
        own = np.array([entry.noise for entry in self.statistics], dtype=np.float64)
        noise = own.copy()
        kept = [index for index, entry in enumerate(self.statistics) if self.usable[index] and entry.probe.size]
        sizes = {self.statistics[index].probe.size for index in kept}
        if len(kept) >= 2 and len(sizes) == 1:
            kept.sort(key=lambda index: (self.level[index], self.exptime[index], own[index]))
            probes = np.stack([self.statistics[index].probe for index in kept])
            for place, index in enumerate(kept):
                low, high = max(0, place - _PARTNERS // 2), place + _PARTNERS // 2 + 1
                partners = np.delete(probes[low:high], place - low, axis=0)
                difference = partners - probes[place]
                difference -= np.nanmedian(difference, axis=1, keepdims=True)
                scatter = GAUSSIAN_MAD * np.nanmedian(np.abs(difference), axis=1) / np.sqrt(2.0)
                # The same frame twice has no noise at all.
                scatter = scatter[scatter > 0.1 * min(1.0, own[index])]
                if scatter.size:
                    noise[index] = min(own[index], float(scatter.min()))
        return np.maximum(noise, 1e-6)

    def _zero(self) -> _Zero:
        """Level without light, from the best witnesses that the set has."""
        shut = self.usable & self.shut & ~self.zeroed
        if shut.any():
            shut &= self.exptime == self.exptime[shut].min()
            return self._from(shut, "exposures of 0 s or behind a blocked filter")
        starless = self.usable & ~self.zeroed & (self.stars < FEW_STARS)
        words = np.array([header.declared in ("bias", "dark") for header in self.headers], dtype=bool)
        candidates = starless & ((self.exptime < _INSTANT) | words) & (self.level < _DEEP * self.top) & self._below_stars()
        if candidates.any():
            lowest = self.level[candidates].min()
            candidates &= self.level <= lowest + max(1.0, 0.5 * float(np.median(self.noise[candidates])))
            candidates &= self.exptime == self.exptime[candidates].min()
            if (self.exptime[candidates] < _INSTANT).all():
                return self._from(candidates, "the shortest exposures")
            return replace(self._from(candidates, "frames called bias or dark"), said=candidates)
        black = [header.black_level for header in self.headers if header.black_level is not None and np.isfinite(header.black_level)]
        if black:
            return _Zero(float(np.median(black)), 0.1 * float(np.median(self.noise)), "the black level in the header")
        timeless = starless & (self.level < _DEEP * self.top)
        if timeless.any():
            timeless &= self.level <= self.level[timeless].min() + 0.2 * float(np.median(self.noise[timeless]))
            if self.exptime[timeless].max() >= 3.0 * self.exptime[timeless].min() > 0:
                return self._from(timeless, "a level that does not grow with the exposure")
        return _Zero(None, 0.0, "nothing")

    def _below_stars(self) -> npt.NDArray[np.bool_]:
        """No darker than a frame with stars can only be the sky."""
        starry = self.usable & (self.stars >= MANY_STARS) & ~self.shut
        if not starry.any():
            return np.ones(self.level.size, dtype=bool)
        below: npt.NDArray[np.bool_] = self.level <= self.level[starry].min() + 0.2 * self.noise
        return below

    def _from(self, which: npt.NDArray[np.bool_], source: str) -> _Zero:
        levels = self.level[which]
        middle = float(np.median(levels))
        scatter = GAUSSIAN_MAD * float(np.median(np.abs(levels - middle)))
        return _Zero(middle, max(scatter, 0.02 * float(np.median(self.noise[which])), 0.1), source)

    def _excess(self, index: int) -> float:
        if self.zeroed[index]:
            return float(self.level[index])
        return float("nan") if self.zero.level is None else float(self.level[index] - self.zero.level)

    def _stars(self) -> npt.NDArray[np.int64]:
        """Per frame: star-like peaks at no defect."""
        excess = np.array([self._excess(index) for index in range(len(self.statistics))])
        dark = np.maximum(5.0 * self.zero.scatter, 0.1 * self.noise) >= excess
        said = np.array([header.says_closed for header in self.headers], dtype=bool)
        # Where there is no light there are no stars: what looks like one in a frame of that kind is a defect in all frames.
        closed = np.flatnonzero(self.usable & (self.shut | (dark & said & (self.exptime < _INSTANT)) | (dark & (self.stars < FEW_STARS))))
        counts = np.array([entry.n_peaks for entry in self.statistics])
        times = {value: np.flatnonzero(self.usable & (self.exptime == value)) for value in np.unique(self.exptime)}
        for index, entry in enumerate(self.statistics):
            if not len(entry.peaks):
                continue
            witnesses = [other for other in self._spread(closed) if other != index]
            defect = self._seen(entry, witnesses) if witnesses else np.zeros(len(entry.peaks), dtype=bool)
            for exptime, members in times.items():
                longest, shortest = max(exptime, self.exptime[index]), min(exptime, self.exptime[index])
                if shortest > 0 and longest >= _LONGER * shortest:
                    defect |= self._not_grown(index, self._spread(members), longest / shortest)
            counts[index] = entry.n_peaks - int(np.count_nonzero(defect))
        return counts

    def _spread(self, places: npt.NDArray[np.intp]) -> list[int]:
        """At most six, evenly over the levels, whatever the order of the frames."""
        ordered = places[np.lexsort((self.noise[places], self.exptime[places], self.level[places]))]
        chosen = np.linspace(0, places.size - 1, min(places.size, _WITNESSES)).round().astype(int)
        return [int(place) for place in ordered[chosen]]

    def _seen(self, entry: FrameStatistics, witnesses: list[int]) -> npt.NDArray[np.bool_]:
        places = [self.statistics[other].peaks for other in witnesses if len(self.statistics[other].peaks)]
        if not places:
            return np.zeros(len(entry.peaks), dtype=bool)
        distance, _ = spatial.cKDTree(np.concatenate(places)).query(entry.peaks)
        return np.asarray(distance <= _SAME_PIXEL)

    def _not_grown(self, index: int, witnesses: list[int], ratio: float) -> npt.NDArray[np.bool_]:
        """Peaks that half of the frames of another exposure time show at the same pixel, and not brighter in the longer exposure."""
        entry = self.statistics[index]
        votes = np.zeros(len(entry.peaks))
        for other in witnesses:
            peer = self.statistics[other]
            if not len(peer.peaks):
                continue
            distance, nearest = spatial.cKDTree(peer.peaks).query(entry.peaks)
            growth = np.abs(np.log(np.maximum(peer.heights[nearest], 1e-6) / np.maximum(entry.heights, 1e-6)))
            # A saturated star cannot grow.
            free = np.maximum(peer.heights[nearest], entry.heights) < 0.2 * self.top
            votes += (distance <= _SAME_PIXEL) & (growth < 0.5 * np.log(ratio)) & free
        return np.asarray(votes >= max(1.0, 0.5 * len(witnesses)))

    def sight(self, index: int) -> Sight:
        """What one frame shows."""
        excess = float(self.excess[index])
        known = np.isfinite(excess)
        light, by = self._light(index)
        peers = self._peers(index)
        same = max(0.05 * excess, 2.0 * self.zero.scatter) if known else float(self.noise[index])
        near = np.abs(self.level[peers] - self.level[index]) <= same
        rate, sky = excess / max(self.exptime[index], 1e-3), self._sky_rates
        zero = 0.0 if self.zeroed[index] else self.zero.level
        base = self._base(index)
        return Sight(
            stars=int(self.stars[index]),
            zero=zero,
            base=base,
            above=float(self.level[index]) - base,
            zero_from="the bias taken off before" if self.zeroed[index] else self.zero.source,
            excess=excess if known else None,
            tolerance=float(self.tolerance[index]),
            noise=float(self.noise[index]),
            light=light,
            light_by=by,
            deep=bool(self.level[index] - base >= _DEEP * (self.top - max(0.0, base))),
            steady=int(np.count_nonzero(near)) >= 2,
            smooth=self._smooth(index),
            rate_ratio=float(rate / sky.max()) if known and sky.size and sky.max() > 0 else None,
            as_stars=bool(np.any(self.shining & (np.abs(self.exptime - self.exptime[index]) <= 0.2 * self.exptime[index]))),
        )

    def _base(self, index: int) -> float:
        if self.zeroed[index]:
            return 0.0
        if self.zero.level is not None:
            return self.zero.level
        several = float(np.nanmax(self.level[self.usable])) > 1.5 * self.floor if self.usable.any() else False
        return self.floor if several else 0.0

    def _peers(self, index: int) -> npt.NDArray[np.intp]:
        """Other frames of the same exposure time."""
        same = self.usable & (self.exptime == self.exptime[index])
        same[index] = False
        return np.flatnonzero(same)

    @cached_property
    def _skies(self) -> npt.NDArray[np.bool_]:
        """Frames with many stars or, where there are none, with a few: their light is the night sky's."""
        suns = np.array([np.nan if header.sun is None else header.sun for header in self.headers], dtype=np.float64)
        short_and_bright = (self.excess >= _DEEP * self.top) & (self.exptime <= 30.0) & ~(suns <= TWILIGHT)
        found: npt.NDArray[np.bool_] = self.shining & np.isfinite(self.excess) & ~(suns > TWILIGHT) & ~short_and_bright
        many = found & (self.stars >= MANY_STARS)
        return many if bool(many.any()) else found

    @cached_property
    def _sky_rates(self) -> FloatArray:
        rates: FloatArray = (self.excess / np.maximum(self.exptime, 1e-3))[self._skies]
        return rates

    def _sky(self, index: int) -> float:
        """Excess that the night sky would give a frame, ADU: the faintest of its exposure time, else the middle one; else infinite."""
        seconds = max(float(self.exptime[index]), 1e-3)
        same = self._skies & (np.abs(self.exptime - seconds) <= 0.2 * seconds)
        if same.any():
            return float(self.excess[same].min())
        return float(np.median(self._sky_rates)) * seconds if self._sky_rates.size else float("inf")

    def _light(self, index: int) -> tuple[bool | None, str]:
        excess, tolerance, noise = float(self.excess[index]), self.tolerance[index], self.noise[index]
        if np.isnan(excess) or (self.zero.said is not None and self.zero.said[index]):
            return self._light_without_zero(index)
        if excess <= tolerance:
            return False, "level"
        seconds, stars, shut = max(float(self.exptime[index]), 1e-3), self.stars[index], bool(self.shut[index])
        if excess >= _DEEP * (self.top - self._base(index)) and excess > 10.0 * noise:
            return True, "level"
        if not shut and stars >= MANY_STARS:
            return True, "stars"
        sky, electrons = self._sky(index), (excess / noise) ** 2 / seconds
        # Frames with stars hold dark current too: what is brighter than they are per second is no dark current.
        if not shut and (excess > max(_ABOVE_SKY * sky, 10.0 * noise) or electrons > _FLOOD):
            return True, "rate"
        shape = self._light_by_shape(index)
        if shape is not None:
            return shape, "shape"
        if not shut and stars >= FEW_STARS:
            return True, "stars"
        if self.exptime[index] < _INSTANT * 5 and excess < 0.5 * noise:
            return False, "level"
        if not shut and electrons > _ELECTRON_RATE:
            return True, "rate"
        if excess < _FAINT * sky and (excess < 0.5 * noise or self._reproduced(index)):
            return False, "fainter than any sky"
        return None, ""

    def _light_without_zero(self, index: int) -> tuple[bool | None, str]:
        level, noise = float(self.level[index]), float(self.noise[index])
        if self.stars[index] >= FEW_STARS:
            return True, "stars"
        if level - self.floor > 10.0 * noise:
            return True, "level"
        # Dark current grows with time: where stars show, the sky of as long an exposure is brighter.
        starry = self.shining & (self.exptime >= self.exptime[index])
        if starry.any() and level > float(self.level[starry].min()) + 0.2 * noise:
            return True, "brighter than frames with stars"
        return (True, "vignetting") if self._vignetted(index) else (None, "")

    def _vignetted(self, index: int) -> bool:
        """Whether all corners are darker than the centre, much alike: dark current and glow do not look so."""
        boxes = self.statistics[index].boxes
        if not boxes.size:
            return False
        half = _GRID_HALF
        falls = np.mean(boxes[half - 1 : half + 1, half - 1 : half + 1]) - boxes[[0, 0, -1, -1], [0, -1, 0, -1]]
        return bool(falls.min() > max(float(self.noise[index]), 0.25 * falls.max()))

    def _reproduced(self, index: int) -> bool:
        """Whether other frames of its exposure time repeat its level as only dark current does."""
        peers = self._peers(index)
        if peers.size < 2:
            return False
        limit = max(3.0 * self.zero.scatter, _STEADY * float(self.excess[index]), 0.02 * float(self.noise[index]))
        return bool(np.count_nonzero(np.abs(self.level[peers] - self.level[index]) <= limit) >= max(2, 0.6 * peers.size))

    def _light_of(self, index: int) -> FloatArray | None:
        """The 8x8 shape of a frame's light, ADU."""
        boxes = self.statistics[index].boxes
        if not boxes.size:
            return None
        if self.zeroed[index]:
            return boxes
        dark = [other for other in self._zero_boxes if other.shape == boxes.shape]
        return boxes - (np.median(dark, axis=0) if dark else self._base(index))

    @cached_property
    def _zero_boxes(self) -> list[FloatArray]:
        near = self.usable & ~self.zeroed & (np.abs(self.excess) <= self.tolerance)
        if not near.any():
            return []
        return [self.statistics[k].boxes for k in self._spread(np.flatnonzero(near & (self.exptime <= self.exptime[near].min())))]

    @cached_property
    def _shapes(self) -> list[FloatArray]:
        """Shapes of light that is light beyond doubt, of mean 1: that of frames with stars, and of the bright ones."""
        # The sky of a narrow filter has hardly a shape: dark current would stand for it.
        measured = self.excess > _SHAPED * self.noise
        found = []
        for which in (self._skies & measured, self.usable & measured & (self.excess >= _DEEP * self.top)):
            lights = [light for k in self._spread(np.flatnonzero(which)) if (light := self._light_of(k)) is not None]
            lights = [light / light.mean() for light in lights if light.mean() > 0]
            if lights:
                found.append(np.median(lights, axis=0))
        return found

    def _light_by_shape(self, index: int) -> bool | None:
        """Whether a faint excess has the shape of light (vignetting), has not, or does not show it."""
        light, excess = self._light_of(index), float(self.excess[index])
        if light is None:
            return None
        verdicts = set()
        for shape in self._shapes:
            pattern, good = _pattern(shape)
            if light.shape != shape.shape or not np.any(pattern[good]):
                continue
            slope, error = _line(pattern[good], light[good])
            error = max(error, 0.01 * float(self.noise[index]) / float(np.sqrt(np.sum(pattern[good] ** 2))))
            if 0.5 < slope / excess < 1.7 and 0.5 * excess > 5.0 * error:
                verdicts.add(True)
            elif abs(slope) < 0.3 * excess and 0.3 * excess > 3.0 * error:
                verdicts.add(False)
        return verdicts.pop() if len(verdicts) == 1 else None

    def _smooth(self, index: int) -> bool:
        light = self._light_of(index)
        excess = 0.0 if light is None else float(light.mean())
        if light is None or not excess > 0:
            return True
        y, x = (np.indices(light.shape) / max(1, light.shape[0] - 1)).reshape(2, -1)
        terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
        rest = light.ravel() - terms @ np.linalg.lstsq(terms, light.ravel(), rcond=None)[0]
        if GAUSSIAN_MAD * float(np.median(np.abs(rest))) <= 0.05 * excess and float(np.abs(rest).max()) <= 0.3 * excess:
            return True
        return any(_alike(light, shape) for shape in self._shapes[:1] if shape.shape == light.shape)


def _pattern(shape: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """A shape's deviation from its middle, and where it is no outlier."""
    pattern = shape - np.median(shape)
    return pattern, np.asarray(np.abs(pattern) <= 5.0 * GAUSSIAN_MAD * np.median(np.abs(pattern)))


def _alike(light: FloatArray, shape: FloatArray) -> bool:
    """Whether the light varies over the frame as another does."""
    good = _pattern(shape)[1] & _pattern(light)[1]
    if np.count_nonzero(good) < 8 or not np.ptp(shape[good]) > 0 or not np.ptp(light[good]) > 0:
        return False
    return bool(np.corrcoef(light[good], shape[good])[0, 1] > 0.6)


def _line(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Slope of y against x and its error, without outliers."""
    kept = np.ones(x.size, dtype=bool)
    slope, scatter = 0.0, 0.0
    for _ in range(5):
        dx, dy = x - x[kept].mean(), y - y[kept].mean()
        slope = float(np.sum(dx[kept] * dy[kept]) / max(np.sum(dx[kept] ** 2), 1e-30))
        rest = dy - slope * dx
        scatter = GAUSSIAN_MAD * float(np.median(np.abs(rest)))
        kept = np.abs(rest) <= 3.0 * max(scatter, 1e-12)
        if np.count_nonzero(kept) < 8:
            break
    return slope, scatter / float(np.sqrt(max(np.sum((x - x.mean()) ** 2), 1e-30)))


def _zeroed(entry: FrameStatistics, header: HeaderEvidence) -> bool:
    """Whether the zero level was taken off before: the header says so, or pixels lie below zero."""
    return "bias" in header.calibrated or "dark" in header.calibrated or entry.negative > 0.05


def survey(
    statistics: Sequence[FrameStatistics],
    headers: Sequence[HeaderEvidence],
    neighbours: Sequence[tuple[FrameStatistics, HeaderEvidence]] = (),
) -> list[Sight]:
    """What the pixels of each frame show in the light of all.

    Parameters
    ----------
    statistics : sequence of FrameStatistics
        Of the exposures of one set-up and night.
    headers : sequence of HeaderEvidence
        Of the same length.
    neighbours : sequence of (FrameStatistics, HeaderEvidence)
        Exposures of the same set-up on the nights around it, asked where the night itself has no zero level but by its words.

    Returns
    -------
    list of Sight
        In the order of the input.
    """
    night = _Night(statistics, headers)
    if neighbours and (night.zero.level is None or night.zero.said is not None):
        night = _Night([*statistics, *(entry for entry, _ in neighbours)], [*headers, *(header for _, header in neighbours)])
    return [night.sight(index) for index in range(len(statistics))]
