"""What the pixels of one exposure say about its type: level, noise, star-like peaks, and small samples that frames are compared by.

On a Bayer mosaic everything but the levels of the colours is measured on the first green channel, and what looks like a star there must
show on the other green pixels around it too: a hot pixel does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from reduction.frames.kernels import type_limits as limit
from reduction.frames.kernels.bayer import Channel, channels_of
from reduction.kernels.arrays import BoolArray, Float32Array, FloatArray
from reduction.kernels.robust import GAUSSIAN_MAD, mad_scatter, scatter_about

__all__ = ["FrameStatistics", "HeaderEvidence", "frame_statistics"]

_SHAPES = {"peaks": (-1, 2), "heights": (-1,), "boxes": (-1, limit.GRID), "probe": (-1,)}


@dataclass(frozen=True)
class FrameStatistics:
    """Statistics of one raw exposure.

    Attributes
    ----------
    level : float
        Sigma-clipped mean, ADU; NaN without a finite pixel. Of the green pixels on a mosaic, as all but `channels` and `maximum`.
    noise : float
        Pixel noise from differences of neighbours, ADU (fixed pattern on the scale of a pixel included).
    structure : float
        Scatter of the medians of 16-pixel boxes, 1.48 MAD, ADU.
    minimum, maximum : float
        Of the finite pixels, ADU.
    saturated : float
        Fraction of pixels at or above the saturation level, or piled up at the maximum.
    constant : bool
        All finite pixels are equal, or there are none.
    n_peaks : int
        Number of star-like peaks in the central 1024 pixels.
    peaks : float64, shape (n, 2)
        x, y of the 300 brightest of them, brightest first; pixels of the array given, also on a mosaic.
    heights : float64, shape (n,)
        Height of each above the background on the smoothed image, ADU.
    channels : tuple of float or None
        Levels of R, G and B, ADU; None on a monochrome sensor.
    boxes : float64, shape (8, 8)
        Clipped means of an 8 by 8 division of the frame, ADU; shape (0, 8) for a frame of fewer than 64 pixels a side.
    probe : float64, shape (256,)
        Values of a regular grid of single pixels, ADU; shape (0,) for a frame of fewer than 64 pixels a side.
    quantum : float
        Step between the values of the sample, ADU; 0 where they are no whole numbers.
    negative : float
        Fraction of pixels below zero: a camera writes none.
    """

    level: float
    noise: float
    structure: float
    minimum: float
    maximum: float
    saturated: float
    constant: bool
    n_peaks: int
    peaks: FloatArray
    heights: FloatArray = field(default_factory=lambda: np.empty(0))
    channels: tuple[float, float, float] | None = None
    boxes: FloatArray = field(default_factory=lambda: np.empty((0, limit.GRID)))
    probe: FloatArray = field(default_factory=lambda: np.empty(0))
    quantum: float = 1.0
    negative: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold, None for NaN; `from_dict` turns them back."""
        return {entry.name: _plain(getattr(self, entry.name)) for entry in fields(self)} | {"peaks": self.peaks.astype(int).tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FrameStatistics:
        """Read the values of `as_dict`; None stands for NaN."""
        read: dict[str, Any] = {name: float("nan") if value is None else value for name, value in values.items()}
        read |= {name: np.array(values[name], dtype=np.float64).reshape(shape) for name, shape in _SHAPES.items()}
        read["channels"] = None if values["channels"] is None else tuple(np.array(values["channels"], dtype=np.float64).tolist())
        return cls(**read)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | tuple | list):
        return [_plain(item) for item in (value.tolist() if isinstance(value, np.ndarray) else value)]
    return None if isinstance(value, float) and not np.isfinite(value) else value


@dataclass(frozen=True)
class HeaderEvidence:
    """What the header adds.

    Attributes
    ----------
    exptime : float
        s.
    declared : str or None
        Type that the header declares: bias, dark, flat, object or other.
    blocked : bool
        The filter lets no light through.
    calibrated : tuple of str
        Steps done before: bias, dark, flat.
    sun_altitude : float or None
        Degrees; None or NaN when unknown.
    black_level : float or None
        Level without light that the camera states, ADU; None or NaN when unknown.
    """

    exptime: float
    declared: str | None = None
    blocked: bool = False
    calibrated: tuple[str, ...] = ()
    sun_altitude: float | None = None
    black_level: float | None = None


def frame_statistics(data: Float32Array, *, saturation: float | None = None, bayer: str | None = None) -> FrameStatistics:
    """Statistics of a raw exposure for its classification.

    Parameters
    ----------
    data : float32, shape (ny, nx)
        ADU, without overscan; a mosaic whole. NaN pixels are left out.
    saturation : float, optional
        ADU.
    bayer : str, optional
        Colours of the pixels (0, 0), (1, 0), (0, 1), (1, 1), such as RGGB; None for a monochrome sensor.

    Returns
    -------
    FrameStatistics

    Raises
    ------
    ValueError
        If `bayer` is no Bayer pattern.
    """
    colours = {} if bayer is None else {each.name: each for each in channels_of(bayer, (0, data.shape[1], 0, data.shape[0]))}
    green = colours.get("G1")
    plane = data if green is None else np.asarray(green.cut(data))
    minimum, maximum, saturated = _extremes(data, saturation)
    if not minimum < maximum or not (plane.size and np.nanmin(plane) < np.nanmax(plane)):
        return FrameStatistics(minimum, 0.0, 0.0, minimum, maximum, 0.0, True, 0, np.empty((0, 2)))
    sample = _sample(plane)
    level = _clipped(sample)[0]
    window, corner = _central(plane)
    window = _filled(window, level)
    smoothed = ndimage.gaussian_filter(window, 1.0)
    other = None if green is None else _central(_around(data, colours["G2"], green, level))[0]
    places, heights = _peaks(window, smoothed, other)
    step, origin = (1, (0, 0)) if green is None else (green.step, (green.x0, green.y0))
    return FrameStatistics(
        level=level,
        noise=_clipped(_sample(np.diff(window, axis=1)))[1] / float(np.sqrt(2.0)),
        structure=mad_scatter(_box_medians(smoothed)[0].ravel(), GAUSSIAN_MAD),
        minimum=minimum,
        maximum=maximum,
        saturated=saturated,
        constant=False,
        n_peaks=len(places),
        peaks=(places[: limit.MOST_PEAKS] + corner) * step + origin,
        heights=np.round(heights[: limit.MOST_PEAKS], 2),
        channels=_levels(data, colours),
        boxes=_shape_of_light(plane),
        probe=_probe(plane),
        quantum=_quantum(sample),
        negative=float(np.mean(sample < 0)),
    )


def _extremes(data: Float32Array, saturation: float | None) -> tuple[float, float, float]:
    """Least and greatest finite value, and the fraction of saturated pixels."""
    finite = data[np.isfinite(data)]
    if finite.size == 0:
        return float("nan"), float("nan"), 0.0
    # A camera may saturate below what its header says. One pixel is always the brightest; only several at one value are a pile-up.
    piled = int(np.count_nonzero(finite == finite.max()))
    above = 0 if saturation is None else int(np.count_nonzero(data >= saturation))
    return float(finite.min()), float(finite.max()), max(above, piled if piled >= limit.PILE else 0) / data.size


def _levels(data: Float32Array, colours: Mapping[str, Channel]) -> tuple[float, float, float] | None:
    if not colours:
        return None
    level = {name: _clipped(_sample(np.asarray(channel.cut(data))))[0] for name, channel in colours.items()}
    return level["R"], (level["G1"] + level["G2"]) / 2, level["B"]


def _sample(values: npt.NDArray[Any]) -> FloatArray:
    """Finite values of a regular sub-grid; its steps are odd, as columns of even and odd number may have amplifiers of their own."""
    step = max(1, int(np.sqrt(values.size / limit.SAMPLE)))
    step += 1 - step % 2
    sample = values[::step, ::step].astype(np.float64).ravel()
    return sample[np.isfinite(sample)]


def _quantum(sample: FloatArray) -> float:
    """Greatest common step of whole numbers, else 0: a camera of 14 bits may write multiples of 4."""
    if not np.array_equal(sample, np.rint(sample)) or np.abs(sample).max(initial=0) > 2**52:
        return 0.0
    return float(np.gcd.reduce(np.diff(np.unique(sample)).astype(np.int64))) or 1.0


def _clipped(values: FloatArray) -> tuple[float, float]:
    """Mean and standard deviation of what lies within 3 sigma of the mean; NaN for no values."""
    if values.size == 0:
        return float("nan"), float("nan")
    mean = float(np.median(values))
    scatter = scatter_about(values, mean, GAUSSIAN_MAD)
    if scatter == 0:
        mean, scatter = float(values.mean()), float(values.std())
    for _ in range(10):
        kept = values[np.abs(values - mean) <= 3.0 * scatter]
        if kept.size == 0:
            break
        before, mean, scatter = scatter, float(kept.mean()), float(kept.std())
        if abs(scatter - before) <= 1e-3 * before:
            break
    return mean, scatter


def _blocks(data: Float32Array, height: int, width: int) -> Float32Array:
    """A division into blocks of that size, shape (rows, columns, height, width); what is left over at the far edges is left out."""
    rows, columns = data.shape[0] // height, data.shape[1] // width
    return data[: rows * height, : columns * width].reshape(rows, height, columns, width).swapaxes(1, 2)


def _shape_of_light(plane: Float32Array) -> FloatArray:
    """Clipped means of an 8 by 8 division."""
    height, width = (size // limit.GRID for size in plane.shape)
    if min(height, width) < limit.GRID:
        return np.empty((0, limit.GRID))
    means = [_clipped(_sample(block))[0] for row in _blocks(plane, height, width) for block in row]
    return np.round(np.array(means).reshape(limit.GRID, limit.GRID), 3)


def _probe(plane: Float32Array) -> FloatArray:
    if min(plane.shape) < limit.GRID * limit.GRID:
        return np.empty(0)
    y, x = ((np.arange(limit.PROBE) + 0.5) / limit.PROBE * np.array(plane.shape)[:, None]).astype(int)
    return plane[np.ix_(y, x)].astype(np.float64).ravel().round(3)


def _central(plane: Float32Array) -> tuple[Float32Array, tuple[int, int]]:
    """The window searched for stars, and the pixel x, y of its corner."""
    y0, x0 = (max(0, size - limit.WINDOW) // 2 for size in plane.shape)
    return plane[y0 : y0 + limit.WINDOW, x0 : x0 + limit.WINDOW], (x0, y0)


def _filled(plane: Float32Array, level: float) -> Float32Array:
    return np.where(np.isfinite(plane), plane, np.float32(level))


def _box_medians(data: Float32Array) -> tuple[FloatArray, int]:
    """Medians of boxes of 16 pixels, or of a quarter of a small image; and the pixels a side of a box."""
    box = max(1, min(limit.BOX, *(size // 4 for size in data.shape)))
    return np.median(_blocks(data, box, box), axis=(2, 3)).astype(np.float64), box


def _background(data: Float32Array) -> Float32Array:
    """Box medians, median-filtered against bright stars and joined bilinearly."""
    medians, box = _box_medians(data)
    medians = ndimage.median_filter(medians, 3, mode="nearest")
    rows, columns = (_joined(size, count, box) for size, count in zip(data.shape, medians.shape, strict=True))
    return np.asarray(rows @ medians @ columns.T, dtype=np.float32)


def _joined(length: int, count: int, box: int) -> FloatArray:
    """Weights of the boxes at each pixel of a line, shape (length, count): linear between their middles, constant beyond."""
    place = np.clip((np.arange(length) - (box - 1) / 2) / box, 0, count - 1)
    return np.maximum(0.0, 1.0 - np.abs(place[:, None] - np.arange(count)))


def _peaks(window: Float32Array, smoothed: Float32Array, other: Float32Array | None) -> tuple[FloatArray, FloatArray]:
    """Places and heights of star-like peaks; where there is hardly one, of stars far out of focus."""
    if min(window.shape) < 12:
        return np.empty((0, 2)), np.empty(0)
    places, heights = _star_like(window, smoothed, 4, other)
    if len(places) < limit.MOST_PEAKS // 10 and min(window.shape) >= 16 * limit.DONUT_BIN:
        binned = _binned(window)
        donuts, summits = _star_like(binned, ndimage.gaussian_filter(binned, 1.0), 2)
        if len(donuts) > len(places):
            return donuts * limit.DONUT_BIN + (limit.DONUT_BIN - 1) / 2, summits
    return places, heights


def _star_like(data: Float32Array, smoothed: Float32Array, border: int, other: Float32Array | None = None) -> tuple[FloatArray, FloatArray]:
    """x, y and heights, highest first, of peaks that stand out of the smoothed noise and are as wide as a star on all sides."""
    background = _background(smoothed)
    smoothed, excess = smoothed - background, data - background
    scatter = np.abs(smoothed)
    # Pixel by pixel: a detector's glow is noisier than the rest of the frame.
    noise = GAUSSIAN_MAD * np.maximum(_background(scatter), np.median(scatter))
    found = (smoothed > np.maximum(limit.STAR_SIGMA * noise, 1e-6)) & (smoothed == ndimage.maximum_filter(smoothed, 5))
    # The borders of many detectors are dark or bright.
    found[:border], found[-border:], found[:, :border], found[:, -border:] = False, False, False, False
    y, x = np.nonzero(found)
    if other is None:
        wide = _round(np.stack([excess[y + j, x + i] for j in (-1, 0, 1) for i in (-1, 0, 1)], axis=-1))
    else:
        middle = float(np.median(other))
        wide = other[y, x] - middle > np.maximum(limit.OTHER_GREEN * excess[y, x], 4.0 * scatter_about(other, middle, GAUSSIAN_MAD))
    places, heights = np.stack([x, y], axis=-1)[wide].astype(np.float64), smoothed[y, x][wide].astype(np.float64)
    order = np.argsort(-heights, kind="stable")
    return places[order], heights[order]


def _round(stamps: Float32Array) -> BoolArray:
    """Whether 3x3 stamps, rows of nine values from bottom left to top right, are wider than a hot pixel and a particle's track."""
    peak, fourth = np.max(stamps, axis=-1), np.sort(stamps, axis=-1)[:, -4]
    sides, corners = (np.minimum(stamps[:, a] + stamps[:, 8 - a], stamps[:, b] + stamps[:, 8 - b]) / 2 for a, b in ((1, 3), (0, 2)))
    return np.asarray((fourth > limit.STAR_WIDTH * peak) & (sides > limit.STAR_SIDES * peak) & (corners > limit.STAR_CORNERS * peak))


def _around(data: Float32Array, second: Channel, first: Channel, level: float) -> Float32Array:
    """Third-brightest of the four pixels of the second green channel around each of the first, above their local background."""
    plane = _filled(np.asarray(second.cut(data)), level)
    plane = plane - (_background(plane) if min(plane.shape) >= 4 else np.float32(level))
    # Both channels have the same size; the second's pixel of the same number lies to one side of the first's.
    origin = [-1 if there < here else 0 for there, here in ((second.y0, first.y0), (second.x0, first.x0))]
    return np.asarray(ndimage.rank_filter(plane, 1, size=2, mode="wrap", origin=origin))


def _binned(data: Float32Array) -> Float32Array:
    """Means of 4x4 pixels, which alone show stars that are far out of focus, or faint."""
    blocks = _blocks(data, limit.DONUT_BIN, limit.DONUT_BIN)
    # Of the middle half: they leave out hot pixels and tracks, and do not step as medians of whole numbers do.
    ordered = np.sort(blocks.reshape(*blocks.shape[:2], -1), axis=-1)
    return np.asarray(ordered[:, :, limit.DONUT_BIN : 3 * limit.DONUT_BIN].mean(axis=-1, dtype=np.float64), dtype=np.float32)
