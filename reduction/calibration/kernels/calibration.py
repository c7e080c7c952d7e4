"""From a raw image to light: linearity, bias, dark and flat, with variance and mask.

With u the raw value above the zero level (overscan subtracted, bias B), L the
linearity correction, D the dark of scale k, and F the flat,

    value = (L(u) - k D) / F,    u = raw - B.

Its variance is the sum of each independent error times its derivative squared
(g gain, R read noise, q step of the raw values, V variances):

    V = [ light / g + L'^2 (R^2 / g^2 + q^2 / 12 + V_overscan) + V_masters + value^2 V_F ] / F^2

- Photons: N electrons scatter by sqrt(N) before the detector's response bends
  them, so that their noise in u is divided by L', and L' cancels in the value.
- Read noise, steps and the overscan level are errors of u: each has L'.
- Bias: d value / d B is -L' / F, and where the dark had the same bias taken off,
  D = D_raw - B carries the same error with the opposite sign:
  V_masters = (L' - k)^2 V_B + k^2 V_D, V_D without the bias's share. With
  another bias in the dark the errors are independent:
  V_masters = L'^2 V_B + k^2 (V_D + V_B,dark).
- Flat: d value / d F is -value / F.

The light of a pixel is not known, only measured. Taken from the pixel itself
it makes pixels that came out low by chance look sure of it. So it is the mean
of L(u) over the 3x3 pixels where the pixel agrees with that mean within 3
standard deviations, else the pixel's own; negative light makes no noise. Where
there is no light at all, what is left is a variance too large by a factor of
1 + 0.13 / R.

Errors that many pixels share (a row's overscan level, the masters) are in the
variance of each, and do not average out over a row, or over frames.
A master's noise is independent between pixels, so that it averages over an
aperture as photons do, but the same in all frames that it works on: it is an
error of a star's place, which only drift or dithering turns into scatter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from db.flags import Mask
from reduction.calibration.kernels.overscan import Section, trim_overscan
from reduction.calibration.kernels.saturation import bleed_mask, neighbour_mask, saturated_mask
from reduction.kernels.arrays import Raw

__all__ = ["Plane", "Section", "bleed_mask", "calibrate", "neighbour_mask", "saturated_mask", "trim_overscan"]

_NO_DATA = int(Mask.NO_DATA)
_SATURATED = int(Mask.SATURATED)
_CARRIED = int(Mask.NO_DATA | Mask.HOT | Mask.DEAD)


"""A raw image, as integers or floats."""


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


_Rows = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


@njit(cache=True)
def _mask_row(raw: Raw, masks: tuple[NDArray[np.uint8], ...], iy: int, saturation: float, out: NDArray[np.uint8]) -> None:
    """Bits that the masters carry, and saturation."""
    out[:] = 0
    for mask in masks:
        if mask.size:
            row = mask[iy]
            for ix in range(out.size):
                out[ix] |= row[ix] & np.uint8(_CARRIED)
    for ix in range(out.size):
        # A NaN is not saturated, and no level is reached when there is none.
        out[ix] |= np.uint8(_SATURATED) if raw[ix] >= saturation else np.uint8(0)


@njit(cache=True)
def _light_row(
    raw: Raw, zero: NDArray[np.float32], level: float, bits: NDArray[np.uint8], polynomial: NDArray[np.float64], out: _Rows
) -> None:
    """Signal above the zero level, linearised, its derivative, and 1 where it may speak for its neighbours."""
    light, slope, known = out
    for ix in range(light.size):
        light[ix] = np.float64(raw[ix]) - (zero[ix] if zero.size else level)
        slope[ix] = 1.0
    if polynomial.size:
        for ix in range(light.size):
            u, factor, derivative = light[ix], 0.0, 0.0
            for k in range(polynomial.size - 1, -1, -1):
                factor = (factor + polynomial[k]) * u
                derivative = (derivative + (k + 2.0) * polynomial[k]) * u
            light[ix], slope[ix] = u * (1.0 + factor), 1.0 + derivative
    for ix in range(light.size):
        known[ix] = 1.0 if abs(light[ix]) < np.inf and not bits[ix] & _CARRIED else 0.0


@njit(cache=True)
def _charge_row(
    light: NDArray[np.float64], known: NDArray[np.float64], here: int, constant: NDArray[np.float64], gain: float, columns: _Rows
) -> None:
    """Charge that makes the photon noise of each pixel of the row `here` of three, see the top of this module, into columns[2]."""
    total, count, charge = columns
    n = charge.size
    for ix in range(n):
        total[ix + 1], count[ix + 1] = 0.0, 0.0
    for k in range(light.shape[0]):
        for ix in range(n):
            total[ix + 1] += light[k, ix] if known[k, ix] > 0.0 else 0.0
            count[ix + 1] += known[k, ix]
    for ix in range(n):
        own = light[here, ix]
        around = count[ix] + count[ix + 1] + count[ix + 2]
        mean = max((total[ix] + total[ix + 1] + total[ix + 2]) / max(around, 1.0), 0.0)
        near = around > 0.0 and (own - mean) ** 2 <= 9.0 * (mean / gain + constant[ix])
        charge[ix] = mean if near else max(own, 0.0)


@njit(cache=True)
def _variance_row(
    slope: NDArray[np.float64],
    charge: NDArray[np.float64],
    gain: float,
    constant: NDArray[np.float64],
    variances: tuple[NDArray[np.float32], ...],
    scales: tuple[float, float],
    iy: int,
    out: NDArray[np.float64],
) -> None:
    """Variance before the flat."""
    bias, dark, dark_bias = variances
    scale, shared = scales
    for ix in range(out.size):
        out[ix] = charge[ix] / gain + slope[ix] ** 2 * constant[ix]
    if bias.size:
        for ix in range(out.size):
            out[ix] += (slope[ix] - shared) ** 2 * bias[iy, ix]
    if dark.size:
        for ix in range(out.size):
            out[ix] += scale**2 * dark[iy, ix]
    if dark_bias.size:
        for ix in range(out.size):
            out[ix] += scale**2 * dark_bias[iy, ix]


@njit(cache=True)
def _finish_row(
    light: NDArray[np.float64],
    variance: NDArray[np.float64],
    values: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    scale: float,
    offset: float,
    iy: int,
    out: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]],
) -> None:
    """Dark and flat, and the row of the result."""
    dark, flat, flat_variance = values
    value_row, variance_row, bits = out
    for ix in range(light.size):
        value, squared = light[ix] + offset, variance[ix]
        if dark.size:
            value -= scale * dark[iy, ix]
        if flat.size:
            response = np.float64(flat[iy, ix])
            inverse = 1.0 / response if response > 0.0 else np.nan
            value *= inverse
            squared = (squared + value * value * flat_variance[iy, ix]) * inverse * inverse
        good = abs(value) < np.inf and 0.0 <= squared < np.inf and not bits[ix] & _NO_DATA
        value_row[ix] = np.float32(value) if good else np.float32(0.0)
        variance_row[ix] = np.float32(squared) if good else np.float32(0.0)
        bits[ix] |= np.uint8(0) if good else np.uint8(_NO_DATA)


@njit(cache=True, error_model="numpy")
def _calibrate_rows(
    raw: Raw,
    masters: tuple[NDArray[np.float32], ...],
    masks: tuple[NDArray[np.uint8], ...],
    numbers: tuple[float, float, float, float, float, float],
    noise: tuple[NDArray[np.float64], NDArray[np.float64]],
    polynomial: NDArray[np.float64],
    out: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]],
) -> None:
    """Everything in one pass, row after row: three rows of the signal are at hand at a time."""
    zero, zero_variance, dark, dark_variance, dark_bias, flat, flat_variance = masters
    level, offset, scale, shared, gain, saturation = numbers
    ny, nx = raw.shape
    light, slope, known = np.zeros((3, nx)), np.zeros((3, nx)), np.zeros((3, nx))
    # One more column on either side, empty, for the mean of three.
    columns = (np.zeros(nx + 2), np.zeros(nx + 2), np.zeros(nx))
    variance, nothing = np.zeros(nx), np.zeros(0, np.float32)
    for step in range(ny + 1):
        if step < ny:
            k = step % 3
            _mask_row(raw[step], masks, step, saturation, out[2][step])
            zero_row = zero[step] if zero.size else nothing
            _light_row(raw[step], zero_row, level, out[2][step], polynomial, (light[k], slope[k], known[k]))
        else:
            known[step % 3] = 0.0
        iy = step - 1
        if iy < 0:
            continue
        here = iy % 3
        constant = noise[0][iy] + noise[1]
        _charge_row(light, known, here, constant, gain, columns)
        _variance_row(slope[here], columns[2], gain, constant, (zero_variance, dark_variance, dark_bias), (scale, shared), iy, variance)
        _finish_row(light[here], variance, (dark, flat, flat_variance), scale, offset, iy, (out[0][iy], out[1][iy], out[2][iy]))


def _plane(values: NDArray[np.float32] | None) -> NDArray[np.float32]:
    return np.zeros((0, 0), np.float32) if values is None else np.require(values, np.float32, ["C", "W"])


def _line_noise(variance: ArrayLike, constant: float, shape: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variance of the raw value that does not depend on light, as a sum of one of the row and one of the column."""
    given = np.atleast_2d(np.asarray(variance, dtype=np.float64))
    if given.shape not in {(1, 1), (shape[0], 1), (1, shape[1])}:
        raise ValueError(f"the overscan variance has shape {given.shape}, allowed are {(shape[0], 1)}, {(1, shape[1])} and one number")
    rows = np.broadcast_to(given[:, 0] if given.shape[1] == 1 else np.zeros(1), (shape[0],)) + constant
    columns = np.broadcast_to(given[0] if given.shape[1] > 1 else np.zeros(1), (shape[1],))
    return np.ascontiguousarray(rows), np.ascontiguousarray(columns)


def _masters(
    bias: Plane | None, dark: Plane | None, flat: Plane | None, dark_bias: NDArray[np.float32] | None
) -> tuple[tuple[NDArray[np.float32], ...], tuple[NDArray[np.uint8], ...]]:
    """Planes and masks in the order in which the kernel takes them; missing ones are empty."""
    planes = [bias, dark, flat]
    values = [_plane(None if plane is None else plane.value) for plane in planes]
    variances = [_plane(None if plane is None else plane.variance) for plane in planes]
    masks = [np.zeros((0, 0), np.uint8) if plane is None else np.require(plane.mask, np.uint8, ["C", "W"]) for plane in planes]
    return (values[0], variances[0], values[1], variances[1], _plane(dark_bias), values[2], variances[2]), tuple(masks)


def _mark_around(raw: Raw, plane: Plane) -> None:
    """BLEED and NEIGHBOUR, where anything is saturated."""
    saturated = (plane.mask & np.uint8(_SATURATED)) > 0
    if not saturated.any():
        return
    sample = plane.variance.ravel()[:: max(plane.variance.size // 100_000, 1)]
    sample = sample[sample > 0]
    noise = math.sqrt(float(np.median(sample))) if sample.size else 1.0
    bleed = bleed_mask(raw, saturated, noise=noise)
    plane.mask[bleed] |= np.uint8(Mask.BLEED)
    plane.mask[neighbour_mask(saturated | bleed)] |= np.uint8(Mask.NEIGHBOUR)


def calibrate(
    raw: Raw,
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
    linearity: Sequence[float] = (),
    overscan_variance: ArrayLike = 0.0,
    same_bias: bool = True,
    dark_bias_variance: NDArray[np.float32] | None = None,
    dark_has_zero: bool | None = None,
) -> Plane:
    """Subtract bias and dark, divide by the flat, and say how well every pixel is known.

    Parameters
    ----------
    raw : real numbers, shape (ny, nx)
        Raw image without its overscan level (`reduction.calibration.kernels.overscan.subtract_overscan`), ADU.
    gain : float
        Electrons per ADU, positive.
    read_noise : float
        Read noise, electron.
    saturation : float, or bool, shape (ny, nx), or None
        Level from which a pixel of `raw` is saturated, ADU.  Where an overscan level was subtracted, the `saturated_mask` of the
        untouched image, cut alike.  None when it is not known.
    bias : Plane or None
        Master bias, ADU.
    dark : Plane or None
        Master dark, ADU.  Its variance is that of the darks' scatter, without the bias's.
    dark_scale : float
        Exposure time over that of the dark.
    flat : Plane or None
        Master flat, mean 1.
    zero_level : float or None
        Level without light, ADU, a constant in the bias's place: subtracted when there is no bias and no dark that carries it, and
        the level above which light makes photon noise when there is no bias.
    quantum : float
        Step of the raw values, ADU, for the quantisation noise ``quantum**2 / 12``; 0 for data that are not integer.
    linearity : sequence of float
        Coefficients c1, c2, ... of the correction ``L(u) = u (1 + c1 u + c2 u**2 + ...)`` of the signal u above the zero level
        (the bias, else `zero_level`, else the dark that carries it), ADU**-1, ADU**-2, ...  Empty for a linear detector.  Masters
        must have had the same correction.
    overscan_variance : float, or array_like, shape (ny, 1) or (1, nx)
        Variance of the overscan level that was subtracted, ADU**2.
    same_bias : bool
        Whether the dark had this very `bias` taken off, or another one.
    dark_bias_variance : float32, shape (ny, nx), or None
        Variance of that other bias, ADU**2; None takes it to be as good as `bias`.
    dark_has_zero : bool or None
        Whether the dark still carries the zero level, so that it cannot be scaled; None: it does when there is no `bias`.

    Returns
    -------
    Plane
        Calibrated image, ADU.  NO_DATA for raw NaN, masters without data, or a flat that is not positive; SATURATED, BLEED for the
        trails that leave such pixels, and NEIGHBOUR beside either; HOT and DEAD as the masters say.

    Raises
    ------
    ValueError
        If gain is not positive, shapes differ, or a dark that carries the zero level is to be scaled, or to be used with a bias.

    Notes
    -----
    Formula and derivatives stand at the top of this module.
    """
    masters = [master for master in (bias, dark, flat) if master is not None]
    carries = dark is not None and (bias is None if dark_has_zero is None else dark_has_zero)
    if carries and (bias is not None or dark_scale != 1.0):
        raise ValueError("a dark that carries the zero level cannot be scaled, nor used with a bias")
    _check_arguments(raw, gain, read_noise, masters)
    if carries and zero_level is None:
        # A dark that carries an unknown zero level does what a bias does.
        bias, dark = dark, None
    level, offset = zero_level or 0.0, 0.0
    shared, other = 0.0, None
    if carries and bias is None:
        offset = level
    elif bias is not None and dark is not None:
        shared = dark_scale if same_bias else 0.0
        other = None if same_bias else (bias.variance if dark_bias_variance is None else dark_bias_variance)
    given = saturation if isinstance(saturation, np.ndarray) else None
    # Where there is no level no pixel reaches it; a value of +inf is none.
    limit = math.nan if saturation is None or given is not None else float(saturation)
    image = _native(raw)
    out = Plane(np.empty(raw.shape, np.float32), np.empty(raw.shape, np.float32), np.empty(raw.shape, np.uint8))
    noise = _line_noise(overscan_variance, (read_noise / gain) ** 2 + quantum**2 / 12.0, raw.shape)
    numbers = (level, offset, dark_scale, shared, gain, limit)
    polynomial = np.asarray(linearity, dtype=np.float64).ravel()
    _calibrate_rows(image, *_masters(bias, dark, flat, other), numbers, noise, polynomial, (out.value, out.variance, out.mask))
    if given is not None:
        out.mask[given] |= np.uint8(_SATURATED)
    _mark_around(image, out)
    return out


def _native(raw: Raw) -> Raw:
    """The image in one of the two types that the kernels are compiled for; both hold 16 bits exactly."""
    # Read-only arrays are a type of their own to numba, which would compile anew for them.
    if raw.dtype == np.uint16:
        return np.require(raw, np.uint16, ["C", "W"])
    return np.require(raw, np.float32, ["C", "W"])


def _check_arguments(raw: Raw, gain: float, read_noise: float, masters: list[Plane]) -> None:
    if not gain > 0 or not read_noise >= 0:
        raise ValueError(f"gain must be positive and read_noise not negative, got {gain} and {read_noise}")
    for master in masters:
        if master.value.shape != raw.shape:
            raise ValueError(f"a master has shape {master.value.shape}, the image {raw.shape}")
