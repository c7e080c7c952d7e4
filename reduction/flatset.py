"""A set of flats made ready for its master: level and shape of each, stars masked, those not fit for it discarded with their reasons."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from db.flags import Mask
from db.tables import Frame
from reduction.detector import detector_of
from reduction.kernels.calibrate import Plane
from reduction.kernels.flat import UNUSABLE, block_means, expand, lasting_stars, shape_deviation, smooth_grid, star_mask
from reduction.kernels.masters import robust_mean
from reduction.masterset import pixels_of
from reduction.scratch import Scratch
from reduction.step import Context, Unit, parameter

__all__ = ["FlatSet", "LargescaleParameters", "flat_set"]

_ROWS = 128  # rows of all flats looked at together


@dataclass(frozen=True)
class LargescaleParameters:
    """Which flats are kept, and how their shapes are smoothed and stacked."""

    min_frames: int = parameter(3, "", "fewest frames that make a master")
    clip: float = parameter(4.0, "sigma", "clipping of outlier blocks")
    min_snr: float = parameter(30.0, "", "least signal-to-noise ratio of a pixel of one flat")
    max_saturated: float = parameter(0.01, "", "largest part of saturated pixels")
    max_level: float = parameter(0.9, "", "highest level, as a part of what the camera can hold above its zero level")
    max_structure: float = parameter(0.02, "", "largest difference of its large-scale shape from the set's (clouds), relative")
    block: int = parameter(16, "pixel", "side of the blocks that the shape is measured in")
    smooth: float = parameter(24.0, "pixel", "standard deviation of the weights that smooth the shape")
    stars: float = parameter(5.0, "sigma", "stars that stand out of the sky by more are masked")
    from_sky: bool = parameter(False, "", "make flats of a night's object frames where it has none of its own")
    valid_days: float = parameter(60.0, "d", "it serves frames so long before and after its own")


@dataclass
class FlatSet:
    """Flats over their own level and shape, in a scratch folder; the lists go by number there.

    Attributes
    ----------
    scratch : Scratch
        Ratios, about 1, and masks: NO_DATA under stars.
    places : list of int
        Place of each in the set of frames.
    levels : list of float
        Light, ADU.
    shapes : list of float64 arrays, shape (gy, gx)
        Smoothed shape, mean 1.
    warnings : list of str
        What is doubtful about the set.
    """

    scratch: Scratch
    places: list[int] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)
    shapes: list[npt.NDArray[np.float64]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def flat_set(context: Context, unit: Unit, p: LargescaleParameters, scratch: Scratch, reasons: list[str]) -> FlatSet:
    """Read the set's flats; `reasons` gets one for each that is not fit for a master.

    Parameters
    ----------
    scratch : Scratch
        Open and empty.
    reasons : list of str
        One a frame of the unit, empty.
    """
    found = FlatSet(scratch)
    first = context.session.get_one(Frame, unit.payload["frames"][0])
    detector = detector_of(context.session, first)
    full = None if detector.saturation is None else detector.saturation - detector.zero_level
    for place, plane in pixels_of(context, unit, reasons):
        reasons[place] = _unfit(plane, full, p)
        if not reasons[place]:
            _add(found, place, plane, p)
    _discard_clouds(found, reasons, p)
    if found.places:
        _mask_stars(found, [n for n, place in enumerate(found.places) if not reasons[place]], p)
    return found


def _unfit(plane: Plane, full: float | None, p: LargescaleParameters) -> str:
    """Why a flat by itself is not fit for a master; empty when it is."""
    saturated = float(np.mean((plane.mask & np.uint8(int(Mask.SATURATED))) != 0))
    good = (plane.mask & np.uint8(UNUSABLE)) == 0
    if saturated > p.max_saturated or not good.any():
        return f"saturated: {saturated:.2%} of the pixels, at most {p.max_saturated:.2%}"
    level, _ = robust_mean(plane.value[good])
    snr = level / float(np.sqrt(np.median(plane.variance[good])))
    if not level > 0:
        return f"no light: level {level:.4g} ADU above bias and dark"
    if full is not None and level > p.max_level * full:
        return f"too bright: {level / full:.0%} of what the camera holds, at most {p.max_level:.0%}"
    if snr < p.min_snr:
        return f"too faint: S/N {snr:.1f} a pixel, at least {p.min_snr:.1f}"
    return ""


def _add(found: FlatSet, place: int, plane: Plane, p: LargescaleParameters) -> None:
    """Keep a flat as level, shape, and ratio to both."""
    good = (plane.mask & np.uint8(UNUSABLE)) == 0
    level, _ = robust_mean(plane.value[good])
    shape = smooth_grid(block_means(plane.value / np.float32(level), good, p.block)[0], p.smooth / p.block)
    mean = float(shape.mean())
    shape /= mean
    ratio = plane.value / np.float32(level * mean) / expand(shape, plane.value.shape, p.block)
    found.scratch.add(ratio, plane.mask)
    found.places.append(place)
    found.levels.append(level * mean)
    found.shapes.append(shape)


def _discard_clouds(found: FlatSet, reasons: list[str], p: LargescaleParameters) -> None:
    """Flats whose shape is not the set's: clouds, the Moon, a light left on."""
    if len(found.shapes) < 3:
        return
    deviation = shape_deviation(found.shapes)
    # A set whose flats all differ is not refused whole.
    limit = max(p.max_structure, 5.0 * float(np.median(deviation)))
    for place, value in zip(found.places, deviation, strict=True):
        if value > limit:
            reasons[place] = f"another shape than the set (clouds?): {value:.2%} rms, at most {limit:.2%}"


def _mask_stars(found: FlatSet, kept: list[int], p: LargescaleParameters) -> None:
    """Mask stars, on each flat and, where they stand still, on all; then measure the shapes without them."""
    ny, nx = found.scratch.shape
    response = np.ones((ny, nx), np.float32)
    if len(kept) >= 3:
        for first in range(0, ny, _ROWS):
            ratio, mask = found.scratch.band(first, min(first + _ROWS, ny), kept)
            ratio[(mask & np.uint8(UNUSABLE)) != 0] = np.nan
            response[first : first + _ROWS] = _median(ratio)
    count = np.zeros((ny, nx), np.uint16)
    for number in kept:
        ratio, mask = found.scratch.frame(number)
        good = ((mask & np.uint8(UNUSABLE)) == 0) & (response > 0)
        stars = star_mask(np.where(good, ratio / np.where(response > 0, response, 1), 1).astype(np.float32), good, threshold=p.stars)
        count += stars
        mask[stars] |= np.uint8(int(Mask.NO_DATA))
        found.scratch.replace(number, ratio, mask)
    lasting = lasting_stars(count, len(kept))
    share = float(lasting.sum()) / max(int((count > 0).sum()), 1)
    if share > 0.2 and lasting.any():
        found.warnings.append(f"stars stand at the same place in most flats ({int(lasting.sum())} pixels masked): too little dithered")
    for number in kept:
        _measure_again(found, number, lasting, p)


def _median(ratio: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Median over the flats of the pixels that have a value, 1 where none has."""
    known = np.isfinite(ratio)
    ordered = np.sort(np.where(known, ratio, np.inf), axis=0)
    n = known.sum(axis=0)
    low = np.take_along_axis(ordered, np.maximum((n - 1) // 2, 0)[None], axis=0)[0]
    high = np.take_along_axis(ordered, np.minimum(n // 2, len(ratio) - 1)[None], axis=0)[0]
    return np.where(n > 0, np.where(n % 2 == 1, low, 0.5 * (low + high)), 1.0).astype(np.float32)


def _measure_again(found: FlatSet, number: int, lasting: npt.NDArray[np.bool_], p: LargescaleParameters) -> None:
    """What stars have added to a flat's shape is taken off it again."""
    ratio, mask = found.scratch.frame(number)
    mask[lasting] |= np.uint8(int(Mask.NO_DATA))
    correction = smooth_grid(block_means(ratio, (mask & np.uint8(UNUSABLE)) == 0, p.block)[0], p.smooth / p.block)
    shape = found.shapes[number] * correction
    mean = float(shape.mean())
    found.shapes[number] = shape / mean
    found.levels[number] *= mean
    found.scratch.replace(number, ratio / expand(correction, ratio.shape, p.block), mask)
