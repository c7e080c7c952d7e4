"""What the frames of one set-up and night say about each other: the zero level, defects, noise, the shape and the rate of the light.

One frame has no absolute zero and no noise free of fixed pattern; a set has.
Types that headers declare only say where a zero level may lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import spatial

from reduction.frames.kernels.frame_statistics import FrameStatistics, HeaderEvidence
from reduction.kernels.arrays import BoolArray, FloatArray, IntArray
from reduction.kernels.robust import GAUSSIAN_MAD, mad_scatter, scatter_about

__all__ = ["FEW_STARS", "MANY_STARS", "TWILIGHT", "Sight", "survey"]

FEW_STARS = 5
"""With so many star-like peaks or more, a frame may be an object frame whatever its header declares."""
MANY_STARS = 20
"""With so many star-like peaks or more, a frame shows stars whatever type its header declares."""
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
_CLEAR = 10.0  # light over noise that is no accident
_SHAPED = 3.0  # light over noise of frames whose light shows its shape
_STEADY = 0.01  # scatter of the excess of darks among themselves


@dataclass(frozen=True)
class _Zero:
    """Level without light (None: unknown), its scatter, what gave it, and the frames that give it by their declared type alone."""

    level: float | None
    scatter: float
    source: str
    declared: BoolArray | None = None  # such a frame cannot be judged by it


class _Night:
    """Columns of a set of frames, and what follows from them."""

    def __init__(self, statistics: Sequence[FrameStatistics], headers: Sequence[HeaderEvidence]) -> None:
        self.statistics, self.headers = statistics, headers
        self.level = np.array([entry.level for entry in statistics], dtype=np.float64)
        self.exptime = np.array([header.exptime for header in headers], dtype=np.float64)
        self.sun = np.array([np.nan if header.sun is None else header.sun for header in headers], dtype=np.float64)
        self.usable = np.array([not entry.constant for entry in statistics], dtype=bool)
        # A filter that lets nothing through is a fact; so is a shutter that had no time to open.
        self.shut = np.array([header.blocked or header.exptime == 0 for header in headers], dtype=bool)
        # The zero level was taken off before: the header says so, or pixels lie below zero.
        before = [not {"bias", "dark"}.isdisjoint(header.calibrated) for header in headers]
        self.zeroed = np.array(before, dtype=bool) | np.array([entry.negative > 0.05 for entry in statistics], dtype=bool)
        self.top = self._top()
        self.floor = float(self.level[self.usable].min()) if self.usable.any() else 0.0
        self.noise = self._noises()
        # The zero level tells defects from stars, and their number where the zero level may lie: twice is enough.
        self.stars = np.array([entry.n_peaks for entry in statistics])
        self.zero = self._zero()
        self.stars = self._stars()
        self.zero = self._zero()
        self.excess = self._excess()
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
        if len(kept) >= 2 and len({self.statistics[index].probe.size for index in kept}) == 1:
            kept.sort(key=lambda index: (self.level[index], self.exptime[index], own[index]))
            probes = np.stack([self.statistics[index].probe for index in kept])
            for place, index in enumerate(kept):
                low, high = max(0, place - _PARTNERS // 2), place + _PARTNERS // 2 + 1
                difference = np.delete(probes[low:high], place - low, axis=0) - probes[place]
                difference -= np.nanmedian(difference, axis=1, keepdims=True)
                scatter = GAUSSIAN_MAD * np.nanmedian(np.abs(difference), axis=1) / np.sqrt(2.0)
                # The same frame twice has no noise at all.
                noise[index] = scatter[scatter > 0.1 * min(1.0, own[index])].min(initial=own[index])
        return np.maximum(noise, 1e-6)

    def _zero(self) -> _Zero:
        """Level without light, from the best witnesses that the set has."""
        shut = self.usable & self.shut & ~self.zeroed
        if shut.any():
            return self._from(shut & (self.exptime == self.exptime[shut].min()), "exposures of 0 s or behind a blocked filter")
        faint = self.usable & ~self.zeroed & (self.stars < FEW_STARS) & (self.level < _DEEP * self.top)
        closed = np.array([header.declared in ("bias", "dark") for header in self.headers], dtype=bool)
        dark = faint & ((self.exptime < _INSTANT) | closed)
        starry = self.usable & (self.stars >= MANY_STARS) & ~self.shut
        if starry.any():  # what is no darker than a frame with stars can only be the sky
            dark &= self.level <= self.level[starry].min() + 0.2 * self.noise
        if dark.any():
            dark &= self.level <= self.level[dark].min() + max(1.0, 0.5 * float(np.median(self.noise[dark])))
            dark &= self.exptime == self.exptime[dark].min()
            short = bool((self.exptime[dark] < _INSTANT).all())
            return self._from(dark, "the shortest exposures") if short else self._from(dark, "frames called bias or dark", dark)
        black = [header.black_level for header in self.headers if header.black_level is not None and np.isfinite(header.black_level)]
        if black:
            return _Zero(float(np.median(black)), 0.1 * float(np.median(self.noise)), "the black level in the header")
        if faint.any():
            faint &= self.level <= self.level[faint].min() + 0.2 * float(np.median(self.noise[faint]))
            if self.exptime[faint].max() >= 3.0 * self.exptime[faint].min() > 0:
                return self._from(faint, "a level that does not grow with the exposure")
        return _Zero(None, 0.0, "nothing")

    def _from(self, which: BoolArray, source: str, declared: BoolArray | None = None) -> _Zero:
        scatter = max(mad_scatter(self.level[which], GAUSSIAN_MAD), 0.02 * float(np.median(self.noise[which])), 0.1)
        return _Zero(float(np.median(self.level[which])), scatter, source, declared)

    def _excess(self) -> FloatArray:
        zero = np.nan if self.zero.level is None else self.zero.level
        return np.where(self.zeroed, self.level, self.level - zero)

    def _stars(self) -> IntArray:
        """Per frame: star-like peaks at no defect."""
        dark = np.maximum(5.0 * self.zero.scatter, 0.1 * self.noise) >= self._excess()
        called = np.array([header.says_closed for header in self.headers], dtype=bool)
        # Where there is no light there are no stars: what looks like one in a frame of that kind is a defect in all frames.
        closed = np.flatnonzero(self.usable & (self.shut | (dark & called & (self.exptime < _INSTANT)) | (dark & (self.stars < FEW_STARS))))
        counts = np.array([entry.n_peaks for entry in self.statistics])
        times = {value: np.flatnonzero(self.usable & (self.exptime == value)) for value in np.unique(self.exptime)}
        for index in (index for index, entry in enumerate(self.statistics) if len(entry.peaks)):
            defect = self._seen(index, [other for other in self.spread(closed) if other != index])
            for exptime, members in times.items():
                longest, shortest = max(exptime, self.exptime[index]), min(exptime, self.exptime[index])
                if shortest > 0 and longest >= _LONGER * shortest:
                    defect |= self._not_grown(index, self.spread(members), longest / shortest)
            counts[index] -= np.count_nonzero(defect)
        return counts

    def spread(self, indices: npt.NDArray[np.intp]) -> list[int]:
        """At most six, evenly over the levels, whatever the order of the frames."""
        ordered = indices[np.lexsort((self.noise[indices], self.exptime[indices], self.level[indices]))]
        chosen = np.linspace(0, indices.size - 1, min(indices.size, _WITNESSES)).round().astype(int)
        return [int(index) for index in ordered[chosen]]

    def _seen(self, index: int, witnesses: list[int]) -> BoolArray:
        """Peaks at which a witness has one too."""
        peaks = self.statistics[index].peaks
        places = np.concatenate([np.empty((0, 2)), *(self.statistics[other].peaks for other in witnesses)])
        return np.asarray(spatial.cKDTree(places).query(peaks)[0] <= _SAME_PIXEL) if len(places) else np.zeros(len(peaks), dtype=bool)

    def _not_grown(self, index: int, witnesses: list[int], ratio: float) -> BoolArray:
        """Peaks that half of the frames of another exposure time show at the same pixel, and not brighter in the longer exposure."""
        entry = self.statistics[index]
        votes = np.zeros(len(entry.peaks))
        for peer in (self.statistics[other] for other in witnesses if len(self.statistics[other].peaks)):
            distance, nearest = spatial.cKDTree(peer.peaks).query(entry.peaks)
            growth = np.abs(np.log(np.maximum(peer.heights[nearest], 1e-6) / np.maximum(entry.heights, 1e-6)))
            # A saturated star cannot grow.
            free = np.maximum(peer.heights[nearest], entry.heights) < 0.2 * self.top
            votes += (distance <= _SAME_PIXEL) & (growth < 0.5 * np.log(ratio)) & free
        return np.asarray(votes >= max(1.0, 0.5 * len(witnesses)))

    @cached_property
    def skies(self) -> BoolArray:
        """Frames with many stars or, where there are none, with a few: their light is the night sky's."""
        short_and_bright = (self.excess >= _DEEP * self.top) & (self.exptime <= 30.0) & ~(self.sun <= TWILIGHT)
        found = self.shining & np.isfinite(self.excess) & ~(self.sun > TWILIGHT) & ~short_and_bright
        many = found & (self.stars >= MANY_STARS)
        return np.asarray(many if many.any() else found)

    @cached_property
    def sky_rates(self) -> FloatArray:
        """Excess per second of those frames, ADU/s."""
        return np.asarray((self.excess / np.maximum(self.exptime, 1e-3))[self.skies])

    @cached_property
    def zero_boxes(self) -> list[FloatArray]:
        """The 8x8 levels of the shortest frames without light, ADU."""
        near = self.usable & ~self.zeroed & (np.abs(self.excess) <= self.tolerance)
        shortest = near & (self.exptime <= self.exptime[near].min(initial=np.inf))
        return [self.statistics[k].boxes for k in self.spread(np.flatnonzero(shortest))]

    def light_of(self, index: int) -> FloatArray | None:
        """The 8x8 shape of a frame's light, ADU."""
        boxes = self.statistics[index].boxes
        if not boxes.size or self.zeroed[index]:
            return boxes if boxes.size else None
        dark = [other for other in self.zero_boxes if other.shape == boxes.shape]
        return np.asarray(boxes - (np.median(dark, axis=0) if dark else self.base(index)))

    def base(self, index: int) -> float:
        """The zero level or, where it is unknown, the faintest level of the set if there are several, ADU."""
        if self.zeroed[index]:
            return 0.0
        if self.zero.level is not None:
            return self.zero.level
        return self.floor if self.usable.any() and float(np.nanmax(self.level[self.usable])) > 1.5 * self.floor else 0.0

    @cached_property
    def shapes(self) -> list[FloatArray]:
        """Shapes of light that is light beyond doubt, of mean 1: that of frames with stars, and of the bright ones."""
        # The sky of a narrow filter has hardly a shape: dark current would stand for it.
        measured = self.excess > _SHAPED * self.noise
        found = []
        for which in (self.skies & measured, self.usable & measured & (self.excess >= _DEEP * self.top)):
            lights = [light for k in self.spread(np.flatnonzero(which)) if (light := self.light_of(k)) is not None and light.mean() > 0]
            if lights:
                found.append(np.median([light / light.mean() for light in lights], axis=0))
        return found


class Sight:
    """What the pixels of one frame show in the light of its set; levels, noise and light in ADU.

    Attributes
    ----------
    entry, header : FrameStatistics, HeaderEvidence
        Of the frame.
    stars : int
        Star-like peaks that are no defects.
    zero, zero_from : float or None, str
        Level without light, and what gave it.
    base, above : float
        The same or, where it is unknown, the faintest level of the set if there are several; the level above it.
    excess, tolerance : float or None, float
        Level above the zero level, and how much of it means nothing.
    noise : float
        Pixel noise without fixed pattern where two frames show it.
    light, light_by : bool or None, str
        Light fell on the detector, None where that is unknown; what shows it.
    deep : bool
        The level is a tenth of the camera's range or more above the zero level.
    rate_ratio : float or None
        Light per second over that of the brightest sky with stars; None where there is none.
    """

    def __init__(self, night: _Night, index: int) -> None:
        self._night, self._index, zeroed = night, index, night.zeroed[index]
        self.entry, self.header = night.statistics[index], night.headers[index]
        self._exptime, self._excess = float(night.exptime[index]), float(night.excess[index])
        self.stars, self.noise, self.tolerance = int(night.stars[index]), float(night.noise[index]), float(night.tolerance[index])
        self.zero = 0.0 if zeroed else night.zero.level
        self.zero_from = "the bias taken off before" if zeroed else night.zero.source
        self.base = night.base(index)
        self.above = self.entry.level - self.base
        self.excess = self._excess if np.isfinite(self._excess) else None
        self.light, self.light_by = self._light()
        self.deep = bool(self.above >= _DEEP * (night.top - max(0.0, self.base)))
        rate, brightest = self._excess / max(self._exptime, 1e-3), night.sky_rates.max(initial=0.0)
        self.rate_ratio = float(rate / brightest) if self.excess is not None and brightest > 0 else None

    @property
    def signal_to_noise(self) -> float:
        """Light over the noise of a pixel; at least, where the zero level is unknown."""
        return self.above / self.noise

    @property
    def steady(self) -> bool:
        """At least two other frames of its exposure time have its level, to 5 % of the excess (the noise, without a zero level)."""
        same = self.noise if self.excess is None else max(0.05 * self.excess, 2.0 * self._night.zero.scatter)
        return int(np.count_nonzero(np.abs(self._peers - self.entry.level) <= same)) >= 2

    @property
    def as_stars(self) -> bool:
        """Frames of its exposure time show stars."""
        return bool(np.any(self._night.shining & (np.abs(self._night.exptime - self._exptime) <= 0.2 * self._exptime)))

    @cached_property
    def smooth(self) -> bool:
        """The light varies over the frame by less than a tenth, beyond a quadratic shape, or as that of the frames with stars."""
        light = self._night.light_of(self._index)
        excess = 0.0 if light is None else float(light.mean())
        if light is None or not excess > 0:
            return True
        y, x = (np.indices(light.shape) / max(1, light.shape[0] - 1)).reshape(2, -1)
        terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
        rest = light.ravel() - terms @ np.linalg.lstsq(terms, light.ravel(), rcond=None)[0]
        if scatter_about(rest, 0.0, GAUSSIAN_MAD) <= 0.05 * excess and float(np.abs(rest).max()) <= 0.3 * excess:
            return True
        return any(_alike(light, shape) for shape in self._night.shapes[:1] if shape.shape == light.shape)

    @cached_property
    def _peers(self) -> FloatArray:
        """Levels of the other frames of the same exposure time, ADU."""
        same = self._night.usable & (self._night.exptime == self._exptime)
        same[self._index] = False
        return np.asarray(self._night.level[same])

    def _light(self) -> tuple[bool | None, str]:
        """Whether there is light, and what shows it: the first that decides."""
        night, excess, noise, seconds = self._night, self._excess, self.noise, max(self._exptime, 1e-3)
        if self.excess is None or (night.zero.declared is not None and night.zero.declared[self._index]):
            return self._light_without_zero()
        if excess <= self.tolerance:
            return False, "level"
        if excess >= _DEEP * (night.top - self.base) and excess > _CLEAR * noise:
            return True, "level"
        open_, sky, electrons = not night.shut[self._index], self._sky(seconds), (excess / noise) ** 2 / seconds
        if open_ and self.stars >= MANY_STARS:
            return True, "stars"
        # Frames with stars hold dark current too: what is brighter than they are per second is no dark current.
        if open_ and (excess > max(_ABOVE_SKY * sky, _CLEAR * noise) or electrons > _FLOOD):
            return True, "rate"
        shape = self._light_by_shape()
        if shape is not None:
            return shape, "shape"
        if open_ and self.stars >= FEW_STARS:
            return True, "stars"
        if self._exptime < _INSTANT * 5 and excess < 0.5 * noise:
            return False, "level"
        if open_ and electrons > _ELECTRON_RATE:
            return True, "rate"
        dark = excess < _FAINT * sky and (excess < 0.5 * noise or self._reproduced())
        return (False, "fainter than any sky") if dark else (None, "")

    def _light_without_zero(self) -> tuple[bool | None, str]:
        night, level = self._night, self.entry.level
        if self.stars >= FEW_STARS:
            return True, "stars"
        if level - night.floor > _CLEAR * self.noise:
            return True, "level"
        # Dark current grows with time: where stars show, the sky of as long an exposure is brighter.
        starry = night.shining & (night.exptime >= self._exptime)
        if level > night.level[starry].min(initial=np.inf) + 0.2 * self.noise:
            return True, "brighter than frames with stars"
        return (True, "vignetting") if self._vignetted() else (None, "")

    def _sky(self, seconds: float) -> float:
        """Excess that the night sky would give, ADU: the faintest of the exposure time, else the middle one; else infinite."""
        night = self._night
        same = night.skies & (np.abs(night.exptime - seconds) <= 0.2 * seconds)
        if same.any():
            return float(night.excess[same].min())
        return float(np.median(night.sky_rates)) * seconds if night.sky_rates.size else float("inf")

    def _vignetted(self) -> bool:
        """Whether all corners are darker than the centre, much alike: dark current and glow do not look so."""
        boxes = self.entry.boxes
        if not boxes.size:
            return False
        half = len(boxes) // 2
        falls = np.mean(boxes[half - 1 : half + 1, half - 1 : half + 1]) - boxes[[0, 0, -1, -1], [0, -1, 0, -1]]
        return bool(falls.min() > max(self.noise, 0.25 * falls.max()))

    def _reproduced(self) -> bool:
        """Whether other frames of its exposure time repeat its level as only dark current does."""
        limit = max(3.0 * self._night.zero.scatter, _STEADY * self._excess, 0.02 * self.noise)
        return int(np.count_nonzero(np.abs(self._peers - self.entry.level) <= limit)) >= max(2, 0.6 * self._peers.size)

    def _light_by_shape(self) -> bool | None:
        """Whether a faint excess has the shape of light (vignetting), has not, or does not show it."""
        light, excess, verdicts = self._night.light_of(self._index), self._excess, set()
        for shape in self._night.shapes if light is not None else []:
            pattern, good = _pattern(shape)
            if light is None or light.shape != shape.shape or not np.any(pattern[good]):
                continue
            slope, error = _line(pattern[good], light[good])
            error = max(error, 0.01 * self.noise / float(np.sqrt(np.sum(pattern[good] ** 2))))
            if 0.5 < slope / excess < 1.7 and 0.5 * excess > 5.0 * error:
                verdicts.add(True)
            elif abs(slope) < 0.3 * excess and 0.3 * excess > 3.0 * error:
                verdicts.add(False)
        return verdicts.pop() if len(verdicts) == 1 else None


def _pattern(shape: FloatArray) -> tuple[FloatArray, BoolArray]:
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
        scatter = scatter_about(rest, 0.0, GAUSSIAN_MAD)
        kept = np.abs(rest) <= 3.0 * max(scatter, 1e-12)
        if np.count_nonzero(kept) < 8:
            break
    return slope, scatter / float(np.sqrt(max(np.sum((x - x.mean()) ** 2), 1e-30)))


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
        Exposures of the same set-up on the nights around it, used where the night's own zero level is unknown or rests on declared types.

    Returns
    -------
    list of Sight
        In the order of the input.
    """
    night = _Night(statistics, headers)
    if neighbours and (night.zero.level is None or night.zero.declared is not None):
        night = _Night([*statistics, *(entry for entry, _ in neighbours)], [*headers, *(header for _, header in neighbours)])
    return [Sight(night, index) for index in range(len(statistics))]
