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

from reduction.frames.kernels import type_limits as limit
from reduction.frames.kernels.frame_statistics import FrameStatistics, HeaderEvidence
from reduction.kernels.arrays import BoolArray, FloatArray, IntArray
from reduction.kernels.robust import GAUSSIAN_MAD, mad_scatter, scatter_about

__all__ = ["Night", "Zero"]


@dataclass(frozen=True)
class Zero:
    """Level without light (None: unknown), its scatter, what gave it, and the frames that give it by their declared type alone."""

    level: float | None
    scatter: float
    source: str
    declared: BoolArray | None = None


class Night:
    """Frames of one set-up and night as columns; levels, noise and light in ADU, times in s.

    Attributes
    ----------
    stars : int64, shape (n,)
        Star-like peaks that are no defects.
    noise : float64, shape (n,)
        Pixel noise without fixed pattern where two frames show it.
    zero : Zero
        Of the set.
    base, above : float64, shape (n,)
        Level without light or, where it is unknown, the faintest level of the set if there are several; the level above it.
    excess, tolerance : float64, shape (n,)
        Level above the zero level, NaN where that is unknown, and how much of it means nothing.
    shut : bool, shape (n,)
        No light can have come in: the filter is blocked, or there was no time, and nothing in the pixels says otherwise.
    spotted : bool, shape (n,)
        A bright spot on next to no light: a planet, say, or a lone star.
    trusted : bool
        Whether a declared flat or object frame may contradict an exposure time.
    """

    def __init__(self, statistics: Sequence[FrameStatistics], headers: Sequence[HeaderEvidence], *, trusted: bool = True) -> None:
        self.statistics, self.headers = statistics, headers
        self.level = np.array([entry.level for entry in statistics], dtype=np.float64)
        self.exptime = np.array([header.exptime for header in headers], dtype=np.float64)
        self.sun = np.array([header.sun_altitude for header in headers], dtype=np.float64)  # None becomes NaN
        self.usable = np.array([not entry.constant for entry in statistics], dtype=bool)
        self.called_closed = np.array([header.declared in ("bias", "dark") for header in headers], dtype=bool)
        self.called_light = np.array([trusted and header.declared in ("flat", "object") for header in headers], dtype=bool)
        # The zero level was taken off before: the header says so, or pixels lie below zero.
        before = [not {"bias", "dark"}.isdisjoint(header.calibrated) for header in headers]
        self.zeroed = np.array(before, dtype=bool) | np.array([entry.negative > 0.05 for entry in statistics], dtype=bool)
        # What is left of the zero level then, such as the pedestal that keeps values above 0.
        black = [header.black_level if header.black_level is not None else 0.0 for header in headers]
        self.pedestal = np.nan_to_num(np.where(self.zeroed, black, 0.0))
        none = np.full((limit.GRID, limit.GRID), np.nan)
        self.boxes = np.array([entry.boxes if entry.boxes.size else none for entry in statistics]).reshape(-1, *none.shape)
        self._trees = [spatial.cKDTree(entry.peaks) if len(entry.peaks) else None for entry in statistics]
        self.top = self._top()
        self.floor = float(self.level[self.usable].min()) if self.usable.any() else 0.0
        self.noise = self._noises()
        # The zero level tells defects from stars, and their number where the zero level may lie: twice is enough.
        self.stars: IntArray = np.array([entry.n_peaks for entry in statistics], dtype=np.int64)
        self.no_time = self.exptime == 0
        # A filter that lets nothing through is a fact; an exposure time of 0 s is what somebody wrote.
        blocked = np.array([header.blocked for header in headers], dtype=bool)
        self.shut = blocked | (self.no_time & ~self._exposed())
        self.spotted = self._spotted()
        self._take_zero()
        self.stars = self._stars()
        self._take_zero()
        self.shining = self.usable & (self.stars >= limit.FEW_STARS) & ~self.shut & ~(self.excess <= self.tolerance)
        several = self.usable.any() and float(np.nanmax(self.level[self.usable])) > 1.5 * self.floor
        base = self.zero.level if self.zero.level is not None else self.floor if several else 0.0
        self.base = np.where(self.zeroed, self.pedestal, base)
        self.above = self.level - self.base
        self.spotted &= self.stars > 0

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
        probed = self.usable & np.array([entry.probe.size > 0 for entry in self.statistics], dtype=bool)
        kept = self._ordered(probed, own)
        probes = np.array([self.statistics[index].probe for index in kept])
        for place, index in enumerate(kept if kept.size >= 2 else []):
            low, high = max(0, place - limit.PARTNERS // 2), place + limit.PARTNERS // 2 + 1
            difference = np.delete(probes[low:high], place - low, axis=0) - probes[place]
            difference -= np.nanmedian(difference, axis=1, keepdims=True)
            scatter = GAUSSIAN_MAD * np.nanmedian(np.abs(difference), axis=1) / np.sqrt(2.0)
            # The same frame twice has no noise at all.
            noise[index] = scatter[scatter > 0.1 * min(1.0, own[index])].min(initial=own[index])
        return np.maximum(noise, 1e-6)

    def _exposed(self) -> BoolArray:
        """Frames that show light whatever exposure time stands in their headers: by stars, by their level, by the declared type with these.

        Many frames say 0 s that were exposed: a keyword was never filled in.
        """
        starry = self.usable & (self.stars >= limit.MANY_STARS)
        faintest = self.level[starry].min(initial=np.inf)
        lone = self.usable & self.no_time & ~self.zeroed & ~starry
        # Nothing lies much above the darkest of them; one may be a failed read-out, so that it needs company.
        ordered = np.sort(self.level[lone])
        darkest = ordered[min(1, ordered.size - 1)] if ordered.size >= 3 else ordered.min(initial=np.inf)
        quiet = float(self.noise[lone].min(initial=np.inf))
        by_level = ~self.zeroed & ((self.level > faintest + 0.2 * self.noise) | (self.level > darkest + limit.CLEAR * quiet))
        by_type = self.called_light & ((self.stars >= limit.FEW_STARS) | (self.level > faintest - 0.2 * self.noise))
        # Defects make many peaks on frames that are called closed, and darker than what was exposed.
        longer = self.level[self.usable & ~self.no_time].min(initial=np.inf)
        defects = self.called_closed & (self.level < longer - limit.CLEAR * self.noise)
        return np.asarray((starry & ~defects) | by_level | by_type)

    def _spotted(self) -> BoolArray:
        """Frames whose brightest star-like peak is all the light that they have, next to which nothing is."""
        tallest = np.array([entry.heights.max(initial=0.0) for entry in self.statistics], dtype=np.float64)
        floor = self.level[self.usable & ~self.zeroed].min(initial=np.inf)
        above = np.where(self.zeroed, self.level - self.pedestal, self.level - floor)
        return np.asarray(self.usable & (tallest > limit.SPOT * self.noise) & (tallest > limit.SPOT_SKY * above))

    def _take_zero(self) -> None:
        self.zero = self._zero()
        self.excess = np.where(
            self.zeroed, self.level - self.pedestal, self.level - (np.nan if self.zero.level is None else self.zero.level)
        )
        self.tolerance = np.maximum(5.0 * self.zero.scatter, 0.1 * self.noise)

    def _zero(self) -> Zero:
        """Level without light, from the best witnesses that the set has."""
        shut = self.usable & self.shut & ~self.zeroed
        if shut.any():
            return self._from(shut & (self.exptime == self.exptime[shut].min()), "exposures of 0 s or behind a blocked filter")
        faint = self.usable & ~self.zeroed & (self.stars < limit.FEW_STARS) & (self.level < limit.DEEP * self.top) & ~self.spotted
        faint &= ~self.no_time
        dark = faint & ((self.exptime < limit.INSTANT) | self.called_closed)
        # What is no darker than a frame with stars can only be the sky.
        starry = self.usable & (self.stars >= limit.MANY_STARS) & ~self.shut
        faintest = self.level[starry].min(initial=np.inf)
        dark &= self.level <= faintest + np.where(self.called_light, -0.2, 0.2) * self.noise
        if dark.any():
            dark &= self.level <= self.level[dark].min() + max(1.0, 0.5 * float(np.median(self.noise[dark])))
            dark &= self.exptime == self.exptime[dark].min()
            short = bool((self.exptime[dark] < limit.INSTANT).all())
            return self._from(dark, "the shortest exposures") if short else self._from(dark, "frames called bias or dark", dark)
        levels = [header.black_level for header, zeroed in zip(self.headers, self.zeroed, strict=True) if not zeroed]
        black = [level for level in levels if level is not None and np.isfinite(level)]
        if black:
            return Zero(float(np.median(black)), 0.1 * float(np.median(self.noise)), "the black level in the header")
        unlit = self._unlit()
        if unlit.any():
            return self._from(unlit, "frames of an even level where those with stars show the shape of the sky")
        if faint.any():
            faint &= self.level <= self.level[faint].min() + 0.2 * float(np.median(self.noise[faint]))
            if self.exptime[faint].max() >= 3.0 * self.exptime[faint].min() > 0:
                return self._from(faint, "a level that does not grow with the exposure")
        return Zero(None, 0.0, "nothing")

    def _unlit(self) -> BoolArray:
        """Frames darker than those with stars, which hold next to nothing of the shape in which these are brighter.

        The light of the sky falls off to the corners as the optics have it; the level of a closed frame does not. So the light in a frame
        is measured without a zero level.
        """
        found, shaped = np.zeros(self.level.size, dtype=bool), self.usable & ~self.zeroed & ~np.isnan(self.boxes).any(axis=(1, 2))
        many, few = (shaped & ~self.shut & (self.stars >= least) for least in (limit.MANY_STARS, limit.FEW_STARS))
        starry = many if many.any() else few
        if not starry.any():
            return found
        sky = np.median(self.boxes[self._spread(starry)], axis=0)
        quiet = shaped & ~self.no_time & ~self.spotted & (self.stars < limit.SOME_STARS)
        quiet &= self.level < self.level[starry].min() - self.noise
        for index in np.flatnonzero(quiet):
            light = sky - self.boxes[index]
            mean = float(light.mean())
            if not mean > 0:
                continue
            slope, error = _slope(self.boxes[index], light / mean, 0.01 * self.noise[index])
            found[index] = abs(slope) < limit.UNLIT * mean and 3.0 * error < limit.UNLIT * mean
        alike = np.abs(self.level[:, None] - self.level[found][None, :]) <= 0.2 * self.noise[:, None]
        return np.asarray(found & (np.count_nonzero(alike, axis=1) >= 2))

    def _from(self, which: BoolArray, source: str, declared: BoolArray | None = None) -> Zero:
        scatter = max(mad_scatter(self.level[which], GAUSSIAN_MAD), 0.02 * float(np.median(self.noise[which])), 0.1)
        return Zero(float(np.median(self.level[which])), scatter, source, declared)

    def _stars(self) -> IntArray:
        """Per frame: star-like peaks at no defect."""
        dark = self.excess <= self.tolerance
        called = self.called_closed & (self.exptime < limit.INSTANT)
        # Where there is no light there are no stars: what looks like one in a frame of that kind is a defect in all frames.
        closed = self.usable & (self.shut | (dark & ~self.spotted & (called | (self.stars < limit.FEW_STARS))))
        dark_frames = self._spread(closed)
        times = [(time, self.usable & (self.exptime == time)) for time in np.unique(self.exptime)]
        counts = self.stars.copy()
        for index in (index for index, entry in enumerate(self.statistics) if len(entry.peaks)):
            defect = self._shown(index, dark_frames) > 0
            own = int(np.count_nonzero(self.usable & (self.exptime == self.exptime[index])))
            for time, which in times:
                longer, shorter = max(time, self.exptime[index]), min(time, self.exptime[index])
                if shorter > 0 and longer >= limit.LONGER * shorter:
                    frames = self._spread(which & self._other_time(index))
                    # One frame whose exposure time is wrong shows the stars of all others: it needs company where they have it.
                    if len(frames) >= (1 if own <= 2 else 2):
                        # Half of the frames of another exposure time show it, and not brighter in the longer exposure.
                        defect |= self._shown(index, frames, longer / shorter) >= max(1.0, 0.5 * len(frames))
            counts[index] -= np.count_nonzero(defect)
        return counts

    def _other_time(self, index: int) -> BoolArray:
        """Frames whose level has grown with the exposure time, as light does; else the time is wrong, or the scene another."""
        longer = np.where(self.exptime > self.exptime[index], self.level, self.level[index])
        shorter = np.where(self.exptime > self.exptime[index], self.level[index], self.level)
        light = np.where(np.isfinite(self.excess), shorter - self.level + self.excess, 0.0)
        return np.asarray(self.called_closed | (longer - shorter > np.maximum(self.noise, 0.3 * light)))

    def _shown(self, index: int, witnesses: list[int], ratio: float | None = None) -> IntArray:
        """How many witnesses show each peak of a frame at the same pixel and, given a ratio of exposure times, not grown with it."""
        entry = self.statistics[index]
        votes = np.zeros(len(entry.peaks), dtype=np.int64)
        for other in witnesses:
            if other == index or (tree := self._trees[other]) is None:
                continue
            distance, nearest = tree.query(entry.peaks)
            shown = distance <= limit.SAME_PIXEL
            if ratio is not None:
                heights = self.statistics[other].heights[nearest]
                growth = np.abs(np.log(np.maximum(heights, 1e-6) / np.maximum(entry.heights, 1e-6)))
                # A saturated star cannot grow.
                shown &= (growth < 0.5 * np.log(ratio)) & (np.maximum(heights, entry.heights) < 0.2 * self.top)
            votes += shown
        return votes

    def _ordered(self, which: BoolArray, noise: FloatArray) -> npt.NDArray[np.intp]:
        """Frames by level, exposure time and noise, whatever the order they come in."""
        found = np.flatnonzero(which)
        return found[np.lexsort((noise[found], self.exptime[found], self.level[found]))]

    def _spread(self, which: BoolArray) -> list[int]:
        """At most six, evenly over the levels."""
        found = self._ordered(which, self.noise)
        return [int(found[place]) for place in np.linspace(0, found.size - 1, min(found.size, limit.WITNESSES)).round().astype(int)]

    def repeated(self, within: FloatArray, among: BoolArray | None = None) -> tuple[IntArray, IntArray]:
        """How many other frames (`among` some) of the same exposure time have each frame's level to so many ADU, and how many there are."""
        same, of = np.zeros(self.level.size, dtype=np.int64), np.zeros(self.level.size, dtype=np.int64)
        for index in range(self.level.size):
            peers = self.usable & (self.exptime == self.exptime[index]) & (True if among is None else among)
            peers[index] = False
            same[index] = np.count_nonzero(np.abs(self.level[peers] - self.level[index]) <= within[index])
            of[index] = np.count_nonzero(peers)
        return same, of

    def as_long(self, seconds: float) -> BoolArray:
        """Frames of an exposure time, to 20 %."""
        return np.asarray(np.abs(self.exptime - seconds) <= 0.2 * seconds)

    @cached_property
    def skies(self) -> BoolArray:
        """Frames with many stars or, where there are none, with a few: their light is the night sky's."""
        timed = ~self.no_time
        short_and_bright = (self.excess >= limit.DEEP * self.top) & (self.exptime <= limit.FLAT_LENGTH) & ~(self.sun <= limit.TWILIGHT)
        found = timed & self.shining & np.isfinite(self.excess) & ~(self.sun > limit.TWILIGHT) & ~short_and_bright
        many = found & (self.stars >= limit.MANY_STARS)
        return np.asarray(many if many.any() else found)

    @cached_property
    def sky_rates(self) -> FloatArray:
        """Excess per second of those frames, ADU/s."""
        return np.asarray((self.excess / np.maximum(self.exptime, 1e-3))[self.skies])

    @property
    def brightest_sky(self) -> float:
        """Excess per second (ADU/s) of the brightest sky with stars or, where none shows any, of what was exposed long at night; else 0."""
        if self.sky_rates.size:
            return float(self.sky_rates.max())
        long = self.usable & ~self.shut & (self.sun <= limit.TWILIGHT) & (self.exptime > limit.FLAT_LENGTH) & (self.excess > self.tolerance)
        return float((self.excess[long] / self.exptime[long]).max(initial=0.0))

    @property
    def sky(self) -> FloatArray:
        """Excess that the night sky would give, ADU: the faintest of the exposure time, else the middle one; else infinite."""
        middle = float(np.median(self.sky_rates)) if self.sky_rates.size else np.inf
        times = np.maximum(self.exptime, 1e-3)
        faintest = np.array([self.excess[self.skies & self.as_long(time)].min(initial=np.inf) for time in times])
        return np.where(np.isfinite(faintest), faintest, middle * times)

    @property
    def faintest_with_stars(self) -> FloatArray:
        """Level of the faintest frame with stars of as long an exposure or a longer one: dark current grows with time."""
        return np.array([self.level[self.shining & (self.exptime >= time)].min(initial=np.inf) for time in self.exptime])

    @cached_property
    def lights(self) -> FloatArray:
        """The 8x8 shapes of the frames' light, ADU, shape (n, 8, 8): above the shortest frames without light, else above `base`."""
        near = self.usable & ~self.zeroed & (np.abs(self.excess) <= self.tolerance)
        dark = self.boxes[self._spread(near & (self.exptime <= self.exptime[near].min(initial=np.inf)))]
        dark = dark[~np.isnan(dark).all(axis=(1, 2))]
        level = np.median(dark, axis=0) if len(dark) else self.base[:, None, None]
        return np.where(self.zeroed[:, None, None], self.boxes, self.boxes - level)

    @cached_property
    def shapes(self) -> list[FloatArray]:
        """Shapes of light that is light beyond doubt, of mean 1: that of frames with stars, and of the bright ones."""
        # The sky of a narrow filter has hardly a shape: dark current would stand for it.
        measured = self.usable & (self.excess > limit.SHAPED * self.noise)
        found = []
        for which in (self.skies & measured, measured & (self.excess >= limit.DEEP * self.top)):
            lights = self.lights[self._spread(which)]
            means = lights.mean(axis=(1, 2), keepdims=True)
            if (means > 0).any():
                found.append(np.median((lights / means)[means.ravel() > 0], axis=0))
        return found

    @property
    def smooth(self) -> BoolArray:
        """The light varies over the frame by less than a tenth, beyond a quadratic shape, or as that of the frames with stars."""
        y, x = (np.indices((limit.GRID, limit.GRID)) / (limit.GRID - 1)).reshape(2, -1)
        terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
        light, mean = self.lights.reshape(-1, limit.GRID**2), self.lights.mean(axis=(1, 2))
        rest = np.abs(light - light @ (terms @ np.linalg.pinv(terms)).T)
        flat = (GAUSSIAN_MAD * np.median(rest, axis=1) <= 0.05 * mean) & (rest.max(axis=1) <= 0.3 * mean)
        starry = [any(_alike(one, shape) for shape in self.shapes[:1]) for one in self.lights]
        return np.asarray(~(mean > 0) | flat | np.array(starry, dtype=bool))

    @property
    def vignetted(self) -> BoolArray:
        """Whether all corners are darker than the centre, much alike: dark current and glow do not look so."""
        middle = slice(limit.GRID // 2 - 1, limit.GRID // 2 + 1)
        corners = self.boxes[:, [0, 0, -1, -1], [0, -1, 0, -1]]
        falls = self.boxes[:, middle, middle].mean(axis=(1, 2))[:, None] - corners
        return np.asarray(falls.min(axis=1) > np.maximum(self.noise, 0.25 * falls.max(axis=1)))

    @property
    def vignetting(self) -> IntArray:
        """1 where a faint excess has the shape of light, -1 where it has not, 0 where it does not show it."""
        found = np.zeros(self.level.size, dtype=np.int64)
        for index in np.flatnonzero(self.excess > self.tolerance):
            excess, verdicts = self.excess[index], set()
            for shape in self.shapes:
                slope, error = _slope(self.lights[index], shape, 0.01 * self.noise[index])
                if 0.5 < slope / excess < 1.7 and 0.5 * excess > 5.0 * error:
                    verdicts.add(1)
                elif abs(slope) < 0.3 * excess and 0.3 * excess > 3.0 * error and slope < max(0.1 * excess, 5.0 * error):
                    # On a warm detector a tenth of the level may be the sky, and shows.
                    verdicts.add(-1)
            found[index] = verdicts.pop() if len(verdicts) == 1 else 0
        return found


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


def _slope(light: FloatArray, shape: FloatArray, noise: float) -> tuple[float, float]:
    """Slope of the light against a shape, and its error with boxes of at least that noise; outliers of both do not count."""
    pattern, good = _pattern(shape)
    x, y, kept = pattern[good], light[good], np.ones(np.count_nonzero(good), dtype=bool)
    if not x.any():
        return 0.0, np.inf
    slope = scatter = 0.0
    for _ in range(5):
        dx, dy = x - x[kept].mean(), y - y[kept].mean()
        slope = float(np.sum(dx[kept] * dy[kept]) / max(np.sum(dx[kept] ** 2), 1e-30))
        scatter = scatter_about(dy - slope * dx, 0.0, GAUSSIAN_MAD)
        kept = np.abs(dy - slope * dx) <= 3.0 * max(scatter, 1e-12)
        if np.count_nonzero(kept) < 8:
            break
    return slope, max(scatter / float(np.sqrt(max(np.sum((x - x.mean()) ** 2), 1e-30))), noise / float(np.sqrt(np.sum(x**2))))
