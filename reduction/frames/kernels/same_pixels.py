"""Whether two files hold one picture: by the values of their pixels, however they are stored."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["differ_as_compressed", "is_featureless", "pixels_sha256"]

_BLOCK = 2**22  # values that are looked at together
#: What lossy compression adds, as a part of the sky's noise: some 0.02 to 0.3. Noise of two exposures differs by 1.4.
_LARGEST_PART = 0.5
#: The 99th percentile of the differences over their median: 2.0 where values were rounded to steps, 3.8 for noise.
_ROUNDED = 2.8


def pixels_sha256(data: NDArray[np.float32]) -> str:
    """SHA-256 of the values of an image, the same for every byte order, offset, type and compression that keeps them.

    Parameters
    ----------
    data : float32, shape (ny, nx)
        Pixels as read; every NaN is one value, and so are 0 and -0.

    Returns
    -------
    str
        64 hexadecimal digits; the shape counts as well.
    """
    digest = hashlib.sha256(" ".join(map(str, data.shape)).encode())
    values = data.reshape(-1)
    for start in range(0, values.size, _BLOCK):
        block = values[start : start + _BLOCK].astype("<f4") + np.float32(0.0)
        block[np.isnan(block)] = np.nan
        digest.update(np.ascontiguousarray(block, "<f4").data)
    return digest.hexdigest()


def is_featureless(data: NDArray[np.float32]) -> bool:
    """Whether half of the pixels or more have one value, blank or saturated: such pictures are equal by chance.

    Parameters
    ----------
    data : float32, shape (ny, nx)
        Pixels; those that are not finite count as one value.
    """
    values = data[np.isfinite(data)]
    if 2 * values.size <= data.size:
        return True
    # A value that half of the pixels have is their median, or one of the two in its middle.
    middle = values.size // 2
    candidates = np.partition(values, [middle - 1, middle])[middle - 1 : middle + 1]
    blank = data.size - values.size
    return bool(max(np.count_nonzero(values == one) for one in candidates) + blank >= 0.5 * data.size)


def differ_as_compressed(first: NDArray[np.float32], second: NDArray[np.float32], *, lossy: bool = False) -> bool:
    """Whether two images are one picture, of which one or both went through lossy compression or were rounded.

    Parameters
    ----------
    first, second : float32, shape (ny, nx)
        Pixels, ADU.
    lossy : bool
        One of the files says that its compression loses digits otherwise than by rounding (HCOMPRESS).

    Returns
    -------
    bool
        The differences are small beside the noise from pixel to pixel, and those of rounding: even, and within bounds, where two
        exposures differ by Gaussian noise. Two images of whole numbers are not one: what is rounded of them is said by `lossy`.

    Notes
    -----
    Noise alone does not decide: two dark frames of a detector with a strong fixed pattern differ by little beside it.
    Quantisation of floats by tiles: Pence, White & Seaman 2010, PASP 122, 1065.
    """
    good = np.isfinite(first) & np.isfinite(second)
    if first.shape != second.shape or 2 * np.count_nonzero(good) < good.size or not np.array_equal(np.isnan(first), np.isnan(second)):
        return False
    one, other = first.astype(np.float64), second.astype(np.float64)
    neighbours = np.abs((one[:, 1:] - one[:, :-1])[good[:, 1:] & good[:, :-1]])
    noise = 1.4826 * float(np.median(neighbours)) / np.sqrt(2.0)
    misses = np.abs(one - other)[good]
    half, most = (float(value) for value in np.percentile(misses, [50.0, 99.0]))
    whole = bool(np.array_equal(one[good], np.rint(one[good])) and np.array_equal(other[good], np.rint(other[good])))
    small = float(np.sqrt(np.mean(np.square(np.minimum(misses, most))))) < _LARGEST_PART * noise
    return small and (lossy or (not whole and most < _ROUNDED * half))
