"""A set of flats made ready for its master: level and shape of each, stars masked, those not fit for it discarded with their reasons."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from db.flags import Mask
from db.tables import Frame
from reduction.calibration.detectors import detector_of
from reduction.calibration.frame_sets import MasterUnit, pixels_of
from reduction.calibration.kernels.calibration import Plane
from reduction.calibration.kernels.flat import (
    UNUSABLE,
    expand,
    lasting_stars,
    smooth_shape,
    spot_means,
    standing_spots,
    star_mask,
    starlike,
)
from reduction.calibration.kernels.flat_selection import flat_reasons, flat_statistics
from reduction.calibration.kernels.master_frames import robust_mean
from reduction.files.scratch import Scratch
from reduction.frames.types import type_of
from reduction.pipeline.declaration import Context, Unit, parameter

__all__ = ["FlatSet", "LargeScaleFlatParameters", "flat_set"]

_ROWS = 128  # rows of all flats looked at together
# Stars are masked until no shape changes by more (rms), or so many times: on noisy flats each further round masks noise.
_SETTLED, _ROUNDS, _SKY_ROUNDS = 5e-4, 2, 5
_STAR = int(Mask.COSMIC)  # a star's light is no more the flat's than a cosmic ray's, and nothing else sets this bit on flats


@dataclass(frozen=True)
class LargeScaleFlatParameters:
    """Which flats are kept, and how their shapes are smoothed and stacked."""

    min_frames: int = parameter(3, "", "fewest frames that make a master", least=1, most=10_000)
    clip: float = parameter(4.0, "sigma", "clipping of outlier blocks", least=1, most=30)
    min_snr: float = parameter(5.0, "", "least signal-to-noise ratio of a pixel of one flat", least=0, most=10_000)
    min_relative_snr: float = parameter(0.3, "", "the same as a part of the set's median", least=0, most=1)
    max_saturated: float = parameter(0.01, "", "largest part of saturated pixels", least=0, most=1)
    max_level: float = parameter(0.9, "", "highest level, as a part of what the camera can hold above its zero level", above=0, most=1)
    max_structure: float = parameter(
        0.02, "", "largest difference of its large-scale shape from the set's (clouds), relative", above=0, most=1
    )
    block: int = parameter(16, "pixel", "side of the blocks that the shape is measured in", least=4, most=1024)
    smooth: float = parameter(24.0, "pixel", "standard deviation of the weights that smooth the shape", least=4, most=4096)
    stars: float = parameter(5.0, "sigma", "stars that stand out of the sky by more are masked", least=1, most=1000)
    from_sky: bool = parameter(False, "", "make flats of a night's object frames where it has none of its own")
    valid_days: float = parameter(60.0, "d", "it serves frames so long before and after its own", least=0, most=36_525)

    def check(self) -> tuple[str, str] | None:
        """Between the middles of larger blocks, structure of the smoothed shape would be lost."""
        if self.block <= self.smooth:
            return None
        return f"block = {self.block} is more than smooth = {self.smooth:g}", "lower the one or raise the other"


@dataclass
class FlatSet:
    """Flats over their own level and shape, in a scratch folder; the lists go by number there.

    Attributes
    ----------
    scratch : Scratch
        Ratios, about 1, and masks: COSMIC under stars, NO_DATA under those that stand still.
    indices : list of int
        Index of each in the set of frames.
    levels : list of float
        Light, ADU.
    errors : list of float
        Error of a pixel over the level.
    exptimes : list of float
        Exposure times, s.
    shapes : list of float64 arrays, shape (gy, gx)
        Smoothed shape, mean 1.
    warnings : list of str
        What is doubtful about the set.
    """

    scratch: Scratch
    indices: list[int] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    exptimes: list[float] = field(default_factory=list)
    shapes: list[npt.NDArray[np.float64]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def flat_set(context: Context, unit: Unit[MasterUnit], p: LargeScaleFlatParameters, scratch: Scratch, reasons: list[str]) -> FlatSet:
    """Read the set's flats; `reasons` gets one for each that is not fit for a master.

    Parameters
    ----------
    scratch : Scratch
        Open and empty.
    reasons : list of str
        One a frame of the unit, empty.
    """
    found = FlatSet(scratch)
    limits = _limits(context, unit, p)
    statistics = []
    for index, plane in pixels_of(context, unit, reasons):
        measured = flat_statistics(plane)
        (reasons[index],) = flat_reasons([measured], **limits)
        if not reasons[index]:
            statistics.append(measured)
            found.errors.append(1.0 / measured.signal_to_noise)
            _add(found, index, plane, p)
    frames = [context.session.get_one(Frame, unit.payload.frames[index]) for index in found.indices]
    found.exptimes = [max(frame.exptime, 1e-3) for frame in frames]
    times = [frame.jd_utc for frame in frames]
    for index, reason in zip(found.indices, flat_reasons(statistics, time=times, exptime=found.exptimes, **limits), strict=True):
        reasons[index] = reason
    sky = bool(frames) and type_of(context.session, frames[0].frame_id) == "object"
    _mask_stars(found, [n for n, index in enumerate(found.indices) if not reasons[index]], p, sky=sky)
    return found


def _limits(context: Context, unit: Unit[MasterUnit], p: LargeScaleFlatParameters) -> dict[str, Any]:
    """What flats are judged by; the highest level is a part of what the camera holds."""
    detector = detector_of(context.session, context.session.get_one(Frame, unit.payload.frames[0]))
    full = math.inf if detector.saturation is None else detector.saturation - detector.zero_level
    return {
        "min_signal_to_noise": p.min_snr,
        "min_relative": p.min_relative_snr,
        "max_saturated": p.max_saturated,
        "max_level": p.max_level * full,
        "max_structure": p.max_structure,
    }


def _add(found: FlatSet, index: int, plane: Plane, p: LargeScaleFlatParameters) -> None:
    """Keep a flat as level, shape, and ratio to both."""
    good = (plane.mask & np.uint8(UNUSABLE)) == 0
    level, _ = robust_mean(plane.value[good])
    shape = smooth_shape(plane.value / np.float32(level), good, block=p.block, sigma=p.smooth)
    mean = float(shape.mean())
    shape /= mean
    ratio = plane.value / np.float32(level * mean) / expand(shape, plane.value.shape, p.block)
    found.scratch.add(ratio, plane.mask)
    found.indices.append(index)
    found.levels.append(level * mean)
    found.shapes.append(shape)


def _mask_stars(found: FlatSet, kept: list[int], p: LargeScaleFlatParameters, *, sky: bool) -> None:
    """Mask stars, on each flat and, where they stand still, on all; then measure the shapes without them.

    Stars are in the shapes and the response that they are looked for in; so it is done again where the shapes changed.
    """
    lasting = np.zeros(found.scratch.shape, np.bool_)
    for _ in range(_SKY_ROUNDS if sky else _ROUNDS):
        lasting |= _star_round(found, kept, p, sky=sky)
        if max((_measure_again(found, number, lasting, p) for number in kept), default=0.0) < _SETTLED:
            break
    if lasting.any():
        found.warnings.append(f"stars stand at the same place in the flats ({int(lasting.sum())} pixels masked): too little dithered")


def _star_round(found: FlatSet, kept: list[int], p: LargeScaleFlatParameters, *, sky: bool) -> npt.NDArray[np.bool_]:
    """Mark the stars of each flat anew; pixels under those that stand still."""
    response = _response(found, kept)
    spots = standing_spots(response, response > 0) if len(kept) >= 3 else np.zeros(response.shape, np.int32)
    n_spot = int(spots.max(initial=0))
    count, means = np.zeros(response.shape, np.uint16), []
    for number in kept:
        ratio, mask = found.scratch.frame(number)
        mask &= np.uint8(~_STAR & 0xFF)
        good = ((mask & np.uint8(UNUSABLE)) == 0) & (response > 0)
        plain = np.where(good, ratio / np.where(response > 0, response, 1), 1).astype(np.float32)
        means.append(spot_means(plain, good, spots, n_spot))
        stars = star_mask(plain, good, threshold=p.stars)
        count += stars
        mask[stars] |= np.uint8(_STAR)
        found.scratch.replace(number, ratio, mask)
    # On a sky of stars what looks like a star is one; of flats, only how it fades as the sky gets brighter can tell.
    standing = spots > 0 if sky else _standing(found, kept, spots, means)
    return lasting_stars(count, len(kept)) | standing


def _standing(found: FlatSet, kept: list[int], spots: npt.NDArray[np.int32], means: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.bool_]:
    """Pixels under spots of the response that fade as the sky gets brighter: stars that no other flat is without."""
    n = int(spots.max(initial=0))
    if n == 0:
        return np.zeros(spots.shape, np.bool_)
    area = np.median(np.bincount(spots[spots > 0])[1:])
    errors = [found.errors[number] / math.sqrt(float(area)) for number in kept]
    stars = starlike(means, errors, [found.levels[number] / found.exptimes[number] for number in kept])
    return np.asarray(np.concatenate([[False], stars])[spots], np.bool_)


def _response(found: FlatSet, kept: list[int]) -> npt.NDArray[np.float32]:
    """Median of the ratios, pixel by pixel; 1 where there are too few for one."""
    ny, nx = found.scratch.shape
    response = np.ones((ny, nx), np.float32)
    if len(kept) < 3:
        return response
    for first in range(0, ny, _ROWS):
        ratio, mask = found.scratch.band(first, min(first + _ROWS, ny), kept)
        ratio[(mask & np.uint8(UNUSABLE)) != 0] = np.nan
        response[first : first + _ROWS] = _median(ratio)
    return response


def _median(ratio: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Median over the flats of the pixels that have a value, 1 where none has."""
    known = np.isfinite(ratio)
    ordered = np.sort(np.where(known, ratio, np.inf), axis=0)
    n = known.sum(axis=0)
    low = np.take_along_axis(ordered, np.maximum((n - 1) // 2, 0)[None], axis=0)[0]
    high = np.take_along_axis(ordered, np.minimum(n // 2, len(ratio) - 1)[None], axis=0)[0]
    return np.where(n > 0, np.where(n % 2 == 1, low, 0.5 * (low + high)), 1.0).astype(np.float32)


def _measure_again(found: FlatSet, number: int, lasting: npt.NDArray[np.bool_], p: LargeScaleFlatParameters) -> float:
    """What stars have added to a flat's shape is taken off it again; how much that was, rms."""
    ratio, mask = found.scratch.frame(number)
    mask[lasting] |= np.uint8(int(Mask.NO_DATA))
    correction = smooth_shape(ratio, (mask & np.uint8(UNUSABLE)) == 0, block=p.block, sigma=p.smooth)
    shape = found.shapes[number] * correction
    mean = float(shape.mean())
    found.shapes[number] = shape / mean
    found.levels[number] *= mean
    found.scratch.replace(number, ratio / expand(correction, ratio.shape, p.block), mask)
    return float(np.std(correction) / np.mean(correction))
