"""From a raw image to light: overscan, bias, dark and flat, with variance and mask.

The variance of a pixel is photon noise of the light above the zero level, read
noise, quantisation, and the masters' own variances carried with the derivatives
of ``value = (raw - bias - scale * dark) / flat``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from db.flags import Mask
from reduction.kernels.stack import clipped_mean

__all__ = ["Plane", "Section", "bleed_mask", "calibrate", "saturated_mask", "smooth_normalised", "trim_overscan"]

Section = tuple[int, int, int, int]
"""Image section (x0, x1, y0, y1), 0-based, half open."""

_CARRIED = int(Mask.NO_DATA | Mask.HOT | Mask.DEAD)


@dataclass(frozen=True)
class Plane:
    """An image with variance and mask.

    Attributes
    ----------
    value : float32, shape (ny, nx)
        ADU (flats: relative response, mean 1); 0 where the mask says NO_DATA.
    variance : float32, shape (ny, nx)
        ADU**2; 0 where the mask says NO_DATA.
    mask : uint8, shape (ny, nx)
        Bits of `db.flags.Mask`.
    """

    value: NDArray[np.float32]
    variance: NDArray[np.float32]
    mask: NDArray[np.uint8]


def _check_section(section: Section, shape: tuple[int, ...], name: str) -> None:
    x0, x1, y0, y1 = section
    if not (0 <= x0 < x1 <= shape[1] and 0 <= y0 < y1 <= shape[0]):
        raise ValueError(f"{name} section (x0, x1, y0, y1) = {section} does not lie in an image of {shape[1]}x{shape[0]} pixels")


def _overscan_profile(lines: NDArray[np.float32], smooth: float) -> NDArray[np.float32]:
    """Clipped mean of each row of lines (n_line, n_sample), smoothed along the rows."""
    # The lines lie along one image row, so that they share the typical scatter of that row.
    stack = clipped_mean(np.ascontiguousarray(lines.T[:, np.newaxis, :]))
    good = stack.count[0] > 0
    if not good.any():
        raise ValueError("the overscan section holds no finite value")
    level = np.where(good, stack.value[0], 0.0).astype(np.float64)
    if smooth <= 0:
        return np.asarray(np.interp(np.arange(level.size), np.flatnonzero(good), level[good]), dtype=np.float32)
    weight = ndimage.gaussian_filter1d(good.astype(np.float64), smooth, mode="nearest")
    total = ndimage.gaussian_filter1d(level, smooth, mode="nearest")
    profile = np.divide(total, weight, out=np.full(level.size, level[good].mean()), where=weight > 1e-6)
    return np.asarray(profile, dtype=np.float32)


def trim_overscan(raw: NDArray[np.float32], trim: Section | None, overscan: Section | None, *, smooth: float = 5.0) -> NDArray[np.float32]:
    """Subtract the overscan level and cut the image to its light-sensitive part.

    Parameters
    ----------
    raw : float32, shape (ny, nx)
        Raw image, ADU.
    trim : Section or None
        Part to keep; None keeps all.
    overscan : Section or None
        Overscan; None subtracts nothing.  A section that spans the rows of `trim` gives a level for each row, one that
        spans its columns a level for each column, any other one level for all.
    smooth : float
        Standard deviation of the Gaussian that smooths the level from row to row (or column to column), pixel; 0 for none.

    Returns
    -------
    float32, shape of `trim`
        A new array.

    Raises
    ------
    ValueError
        If a section does not lie in the image or the overscan has no finite value.
    """
    whole: Section = (0, raw.shape[1], 0, raw.shape[0])
    x0, x1, y0, y1 = trim or whole
    _check_section((x0, x1, y0, y1), raw.shape, "trim")
    image: NDArray[np.float32] = np.array(raw[y0:y1, x0:x1], dtype=np.float32)
    if overscan is None:
        return image
    _check_section(overscan, raw.shape, "overscan")
    ox0, ox1, oy0, oy1 = overscan
    if oy0 <= y0 and oy1 >= y1:
        image -= _overscan_profile(raw[y0:y1, ox0:ox1], smooth)[:, np.newaxis]
    elif ox0 <= x0 and ox1 >= x1:
        image -= _overscan_profile(raw[oy0:oy1, x0:x1].T, smooth)[np.newaxis, :]
    else:
        image -= _overscan_profile(raw[oy0:oy1, ox0:ox1].reshape(1, -1), 0.0)[0]
    return image


def saturated_mask(raw: NDArray[np.float32], saturation: float | None) -> NDArray[np.bool_]:
    """Pixels at or above the saturation level.

    Parameters
    ----------
    raw : float32, shape (ny, nx)
        Raw image, ADU, before anything is subtracted.
    saturation : float or None
        Level, ADU; None marks nothing.

    Returns
    -------
    bool, shape (ny, nx)
        NaN is not saturated, +inf is.
    """
    if saturation is None:
        return np.zeros(raw.shape, dtype=np.bool_)
    return np.asarray(raw >= saturation, dtype=np.bool_)


def _ridge(raw: NDArray[np.float32], axis: int, limit: float) -> NDArray[np.bool_]:
    """Pixels that stand by `limit` above those two and three to both sides across the trail."""
    across = 1 - axis
    sides = [ndimage.shift(raw, [shift if a == across else 0 for a in (0, 1)], order=0, mode="nearest") for shift in (-3, -2, 2, 3)]
    return np.asarray(raw > np.max(sides, axis=0) + limit, dtype=np.bool_)


def bleed_mask(
    raw: NDArray[np.float32], saturated: NDArray[np.bool_], *, noise: float = 1.0, threshold: float = 5.0, max_length: int = 200
) -> NDArray[np.bool_]:
    """Pixels next to saturated ones, and the charge trails that leave them along rows or columns.

    Parameters
    ----------
    raw : float32, shape (ny, nx)
        Image, ADU.
    saturated : bool, shape (ny, nx)
        Saturated pixels (see `saturated_mask`).
    noise : float
        Pixel noise of the sky, ADU.
    threshold : float
        A trail's pixel exceeds the pixels two and three to both sides across the trail by so many times the noise.
    max_length : int
        Longest trail followed, pixel.

    Returns
    -------
    bool, shape (ny, nx)
        The eight neighbours of every saturated pixel, and every pixel of a ridge connected with them along a row
        or a column; saturated pixels themselves are not included.
    """
    if not saturated.any():
        return np.zeros(raw.shape, dtype=np.bool_)
    ring = ndimage.binary_dilation(saturated, structure=np.ones((3, 3), bool))
    bleed = ring.copy()
    finite = np.nan_to_num(raw, nan=0.0, posinf=float(np.finfo(np.float32).max), neginf=0.0)
    for axis in (0, 1):
        line = np.zeros((3, 3), dtype=np.bool_)
        line[(slice(None), 1) if axis == 0 else (1, slice(None))] = True
        ridge = _ridge(finite, axis, threshold * noise)
        bleed |= ndimage.binary_dilation(ring, structure=line, iterations=max_length, mask=ridge | ring)
    return np.asarray(bleed & ~saturated, dtype=np.bool_)


def smooth_normalised(image: NDArray[np.float32], mask: NDArray[np.bool_] | None, sigma: float) -> NDArray[np.float32]:
    """Gaussian smoothing that ignores masked pixels (normalised convolution; Knutsson & Westin 1993, CVPR, 515).

    Parameters
    ----------
    image : float32, shape (ny, nx)
        Image; non-finite pixels count as masked.
    mask : bool, shape (ny, nx), or None
        True where a pixel is not to be used.
    sigma : float
        Standard deviation of the Gaussian, pixel; cut at 4 sigma.

    Returns
    -------
    float32, shape (ny, nx)
        Smoothed image, masked pixels filled from their neighbours; NaN where no used pixel is in reach.  Beyond the edge
        there are no pixels: a constant image stays constant.
    """
    good = np.isfinite(image) if mask is None else np.isfinite(image) & ~mask
    filled = np.where(good, image, 0.0).astype(np.float64)
    total = ndimage.gaussian_filter(filled, sigma, mode="constant")
    weight = ndimage.gaussian_filter(good.astype(np.float64), sigma, mode="constant")
    # Recursive sums leave rounding where there is no pixel at all.
    ratio = np.divide(total, weight, out=np.full(image.shape, np.nan), where=weight > 1e-9)
    return np.asarray(ratio, dtype=np.float32)


def _pedestal(
    raw: NDArray[np.float32], bias: Plane | None, dark: Plane | None, dark_scale: float, zero_level: float | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What to subtract from the raw image, and the zero level of the light that makes photon noise."""
    scaled = dark_scale * dark.value.astype(np.float64) if dark is not None else np.zeros(raw.shape)
    if bias is not None:
        level = bias.value.astype(np.float64)
        return level + scaled, level
    if dark is not None:
        return scaled, np.full(raw.shape, zero_level) if zero_level is not None else scaled
    level = np.full(raw.shape, zero_level if zero_level is not None else 0.0)
    return level, level


def _carried_mask(raw: NDArray[np.float32], masters: list[Plane]) -> NDArray[np.uint8]:
    mask = np.where(np.isfinite(raw), 0, int(Mask.NO_DATA)).astype(np.uint8)
    for master in masters:
        mask |= master.mask & np.uint8(_CARRIED)
    return mask


def calibrate(
    raw: NDArray[np.float32],
    *,
    gain: float,
    read_noise: float,
    saturation: float | NDArray[np.bool_] | None = None,
    bias: Plane | None = None,
    dark: Plane | None = None,
    dark_scale: float = 1.0,
    flat: Plane | None = None,
    zero_level: float | None = None,
    quantum: float = 1.0,
) -> Plane:
    """Subtract bias and dark, divide by the flat, and say how well every pixel is known.

    Parameters
    ----------
    raw : float32, shape (ny, nx)
        Raw image after `trim_overscan`, ADU.
    gain : float
        Electrons per ADU, positive.
    read_noise : float
        Read noise, electron.
    saturation : float, bool array of shape (ny, nx), or None
        Level from which a pixel of `raw` is saturated, ADU.  Where an overscan level was subtracted, the `saturated_mask` of the
        untouched image, cut alike.  None when it is not known.
    bias : Plane or None
        Master bias, ADU.
    dark : Plane or None
        Master dark, ADU: bias-subtracted when `bias` is given.  Without a bias it carries the zero level, so it cannot be scaled.  Its
        variance is that of the darks' scatter, without the bias's.
    dark_scale : float
        Exposure time over that of the dark.
    flat : Plane or None
        Master flat, mean 1.
    zero_level : float or None
        Level without light, ADU, a constant in the bias's place: subtracted when there is neither bias nor dark, and the level above
        which light makes photon noise when there is no bias.
    quantum : float
        Step of the raw values, ADU, for the quantisation noise ``quantum**2 / 12``; 0 for data that are not integer.

    Returns
    -------
    Plane
        Calibrated image, ADU.  NO_DATA for raw NaN, masters without data, or a flat that is not positive; SATURATED, and BLEED beside
        it; HOT and DEAD as the masters say.

    Raises
    ------
    ValueError
        If gain is not positive, shapes differ, or a dark is to be scaled without a bias.
    """
    masters = [master for master in (bias, dark, flat) if master is not None]
    _check_arguments(raw, gain, read_noise, masters, scaled=dark is not None and bias is None and dark_scale != 1.0)
    subtract, zero = _pedestal(raw, bias, dark, dark_scale, zero_level)
    mask = _carried_mask(raw, masters)
    value = raw - subtract
    variance = np.maximum(raw - zero, 0.0) / gain + (read_noise / gain) ** 2 + quantum**2 / 12.0
    if dark is not None:
        variance += dark_scale**2 * dark.variance.astype(np.float64)
    if bias is not None:
        # The dark had the same bias subtracted, so its error is there with the opposite sign.
        variance += (1.0 - (dark_scale if dark is not None else 0.0)) ** 2 * bias.variance.astype(np.float64)
    if flat is not None:
        response = np.where(flat.value > 0, flat.value, np.nan).astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            value = value / response
            variance = (variance + value**2 * flat.variance) / response**2
    saturated = saturation if isinstance(saturation, np.ndarray) else saturated_mask(raw, saturation)
    mask[saturated] |= int(Mask.SATURATED)
    if saturated.any():
        mask[bleed_mask(raw, saturated, noise=float(np.sqrt(np.nanmedian(variance))))] |= int(Mask.BLEED)
    mask[~(np.isfinite(value) & np.isfinite(variance))] |= int(Mask.NO_DATA)
    empty = (mask & int(Mask.NO_DATA)) > 0
    value[empty], variance[empty] = 0.0, 0.0
    return Plane(value.astype(np.float32), variance.astype(np.float32), mask)


def _check_arguments(raw: NDArray[np.float32], gain: float, read_noise: float, masters: list[Plane], *, scaled: bool) -> None:
    if not gain > 0 or not read_noise >= 0:
        raise ValueError(f"gain must be positive and read_noise not negative, got {gain} and {read_noise}")
    for master in masters:
        if master.value.shape != raw.shape:
            raise ValueError(f"a master has shape {master.value.shape}, the image {raw.shape}")
    if scaled:
        raise ValueError("a dark that carries the zero level cannot be scaled: give a bias")
