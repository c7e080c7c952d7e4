"""Image planes as tile-compressed HDUs (FITS standard 4.0, section 10): lossless, or quantised by a stated step.

The quantising step is given by the error plane and never by the noise that a
packer sees in the pixels: between columns of a fixed pattern it sees the pattern.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from db.flags import Mask

try:
    from astropy.io.fits.hdu.compressed._compression import CfitsioException as _BrokenTile
except ImportError:  # not a public name
    _BrokenTile = ValueError

__all__ = ["DECODING_ERRORS", "ERROR_STEP", "SCIENCE_STEP", "error_hdu", "lossless_hdu", "lowest_error", "science_hdu"]

DECODING_ERRORS = (
    *(_BrokenTile, fits.VerifyError, zlib.error, struct.error, OSError, EOFError, ValueError, TypeError, LookupError),
    *(ArithmeticError, AttributeError, AssertionError, RuntimeError),
)
"""What astropy may raise on damaged pixels or cards."""

SCIENCE_STEP = 0.0346
"""Step of the values in units of their lowest error: the rms of the rounding, step / sqrt(12), is 0.01 of it."""

ERROR_STEP = 1 / 112
"""Step of the errors in units of the lowest, which is a whole number of steps: no error is off by more than 0.45 % of itself."""

_ROWS_PER_TILE = 50
_GZIP_LEVEL = 1  # measured on real planes: a third of the time of level 6 for 5 % of the size
_SAMPLE = 300_000
_MOST_STEPS = 2.0**29  # on either side of zero: codes are 32-bit integers, and a few of them and the range of the dither are taken
_FEW = 1e-3  # part of the pixels that may lie beyond
_NO_DITHER, _SUBTRACTIVE_DITHER_2 = -1, 2  # numbers of the methods of ZQUANTIZ; the second keeps zero apart


def lossless_hdu(name: str, array: npt.NDArray[Any], cards: fits.Header | None = None) -> fits.CompImageHDU | fits.BinTableHDU:
    """Pack a plane without loss.

    Parameters
    ----------
    name : str
        EXTNAME.
    array : ndarray, shape (ny, nx)
        float64 becomes float32 and bool uint8. Integers are packed by RICE_1, floats by GZIP_2; floats that are all
        whole numbers are packed as integers, with a card PLANETYP that names the type to turn them back into.
    cards : Header, optional
        Cards for the extension's header.

    Returns
    -------
    CompImageHDU or BinTableHDU
        The same plane always gives the same bytes.
    """
    values = np.ascontiguousarray(array)
    cards = fits.Header() if cards is None else cards.copy()
    if values.dtype.kind == "f":
        values = values.astype(np.float32, copy=False)
        whole = _whole_numbers(values)
        if whole is None:
            return _gzip_hdu(name, values, cards)
        cards["PLANETYP"] = ("float32", "whole numbers, packed as integers")
        values = whole
    elif values.dtype.kind == "b":
        values = values.astype(np.uint8)
    return fits.CompImageHDU(values, cards, name=name, compression_type="RICE_1", tile_shape=_tile_shape(values.shape))


def lowest_error(error: npt.NDArray[np.float32], mask: npt.NDArray[np.uint8]) -> float:
    """Error that the steps of a frame are tied to: the smallest of its pixels.

    Parameters
    ----------
    error : float32, shape (ny, nx)
        Standard deviation of every pixel, ADU.
    mask : uint8, shape (ny, nx)
        Bits of `db.flags.Mask`; pixels without data do not count.

    Returns
    -------
    float
        ADU; NaN where no pixel with data has an error above zero. Stray pixels below half of the first percentile
        do not lower it: each halving costs a bit in every pixel of the frame.
    """
    known = ((mask & int(Mask.NO_DATA)) == 0) & (error > 0) & np.isfinite(error)
    errors = error[known]
    if errors.size == 0:
        return float("nan")
    # An odd stride visits all columns, whatever period their pattern has.
    sample = errors[:: (errors.size // _SAMPLE) | 1]
    return max(float(errors.min()), 0.5 * float(np.percentile(sample, 1)))


def science_hdu(
    name: str, values: npt.NDArray[np.float32], lowest: float, cards: fits.Header | None = None
) -> fits.CompImageHDU | fits.BinTableHDU:
    """Pack values by RICE_1, rounded to steps of 0.0346 of the lowest error with subtractive dithering.

    Dithering leaves an rms of 0.01 of that error and no bias (Pence et al. 2010, PASP 122, 1065).

    Parameters
    ----------
    name : str
        EXTNAME.
    values : float32, shape (ny, nx)
        ADU. Zero, which stands for no data, stays exactly zero; what is not finite becomes NaN, and a stray pixel
        beyond 1.8e7 times the lowest error is cut to that, so that it costs no other pixel a digit.
    lowest : float
        Result of `lowest_error`, ADU; where it is NaN there is no scale to round by, and the plane is packed without loss.
    cards : Header, optional
        Cards for the extension's header.

    Returns
    -------
    CompImageHDU or BinTableHDU
        Whole numbers that the step would not make smaller are packed without loss.
    """
    step = SCIENCE_STEP * lowest
    if not _can_be_quantised(values, step) or (step <= 1 and _whole_numbers(values) is not None):
        return lossless_hdu(name, values, cards)
    return _quantised_hdu(name, values, step, _SUBTRACTIVE_DITHER_2, cards)


def error_hdu(
    name: str, error: npt.NDArray[np.float32], lowest: float, cards: fits.Header | None = None
) -> fits.CompImageHDU | fits.BinTableHDU:
    """Pack errors by RICE_1, rounded to steps of 1/112 of the lowest; zero stays zero.

    Parameters
    ----------
    name : str
        EXTNAME.
    error : float32, shape (ny, nx)
        Standard deviation of every pixel, ADU; what is not finite becomes NaN, and a stray pixel beyond 4.7e6 times
        the lowest is cut to that.
    lowest : float
        Result of `lowest_error`, ADU; where it is NaN the plane is packed without loss.
    cards : Header, optional
        Cards for the extension's header.

    Returns
    -------
    CompImageHDU or BinTableHDU
        Not dithered: errors carry no signal to average, and a constant plane packs into nothing.
    """
    step = ERROR_STEP * lowest
    if not _can_be_quantised(error, step):
        return lossless_hdu(name, error, cards)
    # Zero means no data: an error above it stays above it.
    return _quantised_hdu(name, np.where((error > 0) & (error < step), np.float32(step), error), step, _NO_DITHER, cards)


def _can_be_quantised(values: npt.NDArray[np.float32], step: float) -> bool:
    """Whether steps are known, and codes for all but a few strays.

    Tiles of one pixel are not quantised by the packer, which then writes the time of day into a gzip stream.
    """
    if not np.isfinite(step) or values.shape[1] <= 1:
        return False
    return bool(np.count_nonzero(np.abs(values) > _MOST_STEPS * step) <= _FEW * values.size)


def _quantised_hdu(name: str, values: npt.NDArray[np.float32], step: float, method: int, cards: fits.Header | None) -> fits.CompImageHDU:
    values = np.ascontiguousarray(values, dtype=np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        values = np.where(finite, values, np.float32(np.nan))
    limit = np.float32(_MOST_STEPS * step)
    values = np.clip(values, -limit, limit)
    return fits.CompImageHDU(
        values,
        cards,
        name=name,
        compression_type="RICE_1",
        tile_shape=_tile_shape(values.shape),
        quantize_level=-step,
        quantize_method=method,
        dither_seed=_seed(values),
    )


def _seed(values: npt.NDArray[np.float32]) -> int:
    """Start of the dither (1 to 10000): the same for the same plane, and another for the next frame, whose rounding is then another."""
    return zlib.crc32(values[::_ROWS_PER_TILE].tobytes()) % 10_000 + 1


def _tile_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    return min(_ROWS_PER_TILE, shape[0]), shape[1]


def _gzip_hdu(name: str, values: npt.NDArray[np.float32], cards: fits.Header) -> fits.BinTableHDU:
    """Floats as tiles of GZIP_2 (FITS standard 4.0, 10.4.3): bytes of equal weight together, then deflated.

    astropy would pack them too, but writes the time of day into every tile, and takes three times as long.
    """
    rows, _ = _tile_shape(values.shape)
    tiles = np.empty(-(-values.shape[0] // rows), dtype=object)
    for number in range(len(tiles)):
        tile = values[number * rows : (number + 1) * rows].astype(">f4")
        shuffled = np.frombuffer(tile.tobytes(), np.uint8).reshape(-1, 4).T.tobytes()
        packer = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        tiles[number] = np.frombuffer(packer.compress(shuffled) + packer.flush(), np.uint8)
    hdu = fits.BinTableHDU.from_columns([fits.Column("COMPRESSED_DATA", "PB()", array=tiles)], name=name)
    ny, nx = values.shape
    layout = {"ZIMAGE": True, "ZTENSION": "IMAGE", "ZBITPIX": -32, "ZNAXIS": 2, "ZNAXIS1": nx, "ZNAXIS2": ny, "ZPCOUNT": 0, "ZGCOUNT": 1}
    hdu.header.update({**layout, "ZTILE1": nx, "ZTILE2": rows, "ZCMPTYPE": "GZIP_2", "ZQUANTIZ": "NONE"})
    hdu.header.extend(cards, end=True)
    return hdu


def _whole_numbers(values: npt.NDArray[np.float32]) -> npt.NDArray[np.int16] | npt.NDArray[np.int32] | None:
    """Return the same values as integers, or None where that would lose something (fractions, NaN, minus zero)."""
    if values.size == 0 or not np.all(np.abs(values) < 2**24):
        return None
    integers = values.astype(np.int32)
    if not np.array_equal(integers, values) or bool(np.any(np.signbit(values) & (integers == 0))):
        return None
    return integers.astype(np.int16) if np.abs(integers).max() < 2**15 else integers
