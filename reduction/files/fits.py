"""FITS files: reading raw frames (`reduction.files.convert` reads those of every format).

Raw frames are read once, whole: what a truncated or foreign file would do to a
later step is found here and reported in one line.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from db.errors import FrameUnusable
from reduction.files.contents import decompressed, one_line, read_bytes, sha256_of
from reduction.files.fits_headers import Part, corrupt, cut_header, parts_of
from reduction.files.raw_files import FITS_SUFFIXES, RawFiles, find_raw_files, is_fits_name
from reduction.files.tiles import DECODING_ERRORS

__all__ = [
    "FITS_SUFFIXES",
    "RawFiles",
    "RawImage",
    "find_raw_files",
    "is_fits_name",
    "read_bytes",
    "read_header",
    "read_raw",
    "sha256_of",
]

STRUCTURE = (
    "SIMPLE",
    "XTENSION",
    "BITPIX",
    "NAXIS",
    "EXTEND",
    "PCOUNT",
    "GCOUNT",
    "CHECKSUM",
    "DATASUM",
    "BZERO",
    "BSCALE",
    "BLANK",
    "NPLANES",
)


#: A common step is chance where fewer than 8 values differ, of which fewer than 3 have a thousandth of the pixels each:
#: a bias frame without noise and its hot pixels.
_LEAST_VALUES, _LEAST_POPULATED, _POPULATED = 8, 3, 1e-3
_STEP_SAMPLE = 100_000
_BLOCK = 2**22  # values that are looked at together


@dataclass(frozen=True)
class RawImage:
    """A raw frame as it came from the camera, scaled by BZERO and BSCALE.

    Attributes
    ----------
    data : float32, shape (ny, nx), native byte order
        Pixel values in ADU; NaN where the file says BLANK.
    header : astropy.io.fits.Header
        The image's header, completed by the primary header for an image in an extension.
    integer : bool
        Every pixel is a whole number of ADU.
    quantum : float
        Step between the values in ADU, as by `value_step`; 0 when they are continuous.
    hdu : int
        Index of the HDU the image was found in.
    left_out : int
        Further images of the file, as large or larger, that were not read.
    damaged : tuple of str
        Keywords of cards that could not be read.
    lossy : bool
        It was compressed by HCOMPRESS, which may lose digits otherwise than by rounding.
    """

    data: npt.NDArray[np.float32]
    header: fits.Header
    integer: bool
    quantum: float
    hdu: int
    left_out: int = 0
    damaged: tuple[str, ...] = ()
    lossy: bool = False


def read_header(path: str | Path) -> fits.Header:
    """Header of the first 2-D image of a FITS file; the same checks and errors as `read_raw`."""
    with opened(Path(path)) as file:
        return _merged_header(file, _image_index(file))


def read_raw(path: str | Path) -> RawImage:
    """Read the first 2-D image of a FITS file.

    Parameters
    ----------
    path : path
        Plain, gzipped, bzipped or tile-compressed FITS file.

    Returns
    -------
    RawImage

    Raises
    ------
    FrameUnusable
        With the codes ``frame.unreadable``, ``frame.not_file``, ``frame.empty``, ``frame.not_fits``, ``frame.truncated``,
        ``frame.too_large``, ``frame.no_image``, ``frame.cube``, ``frame.corrupt`` and ``frame.lossy`` (whole numbers that
        32-bit floats cannot hold). Sizes are checked before anything is decoded.
    """
    path = Path(path)
    with opened(path) as file:
        index = _image_index(file)
        hdu = file.hdus[index]
        header = _merged_header(file, index)
        stored_integer = int(hdu.header["BITPIX"]) > 0
        scale = abs(float(hdu.header.get("BSCALE", 1.0)))
        values = hdu.data
        with np.errstate(over="ignore"):  # what 32 bits cannot hold is not finite
            data = np.ascontiguousarray(values, dtype=np.float32)
        left_out = _images_left_out(file.parts, index)
        lossy = isinstance(hdu, fits.CompImageHDU) and hdu.compression_type == "HCOMPRESS_1"
    if stored_integer and scale == 1.0:
        _require_exact(values, data, path)
    data = data.reshape(data.shape[-2:])
    whole = all_whole(data)
    quantum = value_step(data, scale if stored_integer else float(whole))
    return RawImage(data, header, whole, quantum, index, left_out, file.damaged, lossy)


def all_whole(data: npt.NDArray[np.float32]) -> bool:
    """Whether every finite pixel is a whole number, and there is one."""
    known = False
    for block in _blocks(data):
        finite = block[np.isfinite(block)]
        known = known or finite.size > 0
        if not np.array_equal(finite, np.rint(finite)):
            return False
    return known


def _blocks(data: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """The values some at a time: what is worked out from all of a large frame would need several times its memory."""
    values = data.reshape(-1)
    for start in range(0, values.size, _BLOCK):
        yield values[start : start + _BLOCK]


def value_step(data: npt.NDArray[np.float32], unit: float) -> float:
    """Greatest common step between the values of a raw frame.

    Parameters
    ----------
    data : float32, shape (ny, nx)
        Pixel values in ADU; those that are not finite do not count.
    unit : float
        Step they are written in, ADU: 1 for whole numbers; 0 for continuous values.

    Returns
    -------
    float
        A multiple of `unit`, ADU: 4 where a camera's 14 bits were stretched to 16. `unit` itself where so few values
        differ that their common step may be chance; 0 for continuous values, and for steps finer than the floats' own.
    """
    finite = data.reshape(-1) if bool(np.isfinite(data).all()) else data[np.isfinite(data)]
    if unit <= 0.0 or finite.size == 0 or float(np.spacing(max(finite.max(), -finite.min()))) > unit:
        return 0.0
    # Nearly every frame is told by a sample, at an odd stride, which visits all columns.
    few = finite[:: (finite.size // _STEP_SAMPLE) | 1]
    common = 0
    for sample in (few, *_blocks(finite)):
        steps = np.rint((sample.astype(np.float64) - float(finite[0])) / unit).astype(np.int64)
        common = math.gcd(common, int(np.gcd.reduce(steps)))
        if common == 1:
            return unit
    counts = np.unique(few, return_counts=True)[1]
    believed = counts.size >= _LEAST_VALUES or np.count_nonzero(counts > _POPULATED * few.size) >= _LEAST_POPULATED
    return unit * common if believed else unit


def _require_exact(values: npt.NDArray[Any], data: npt.NDArray[np.float32], path: Path) -> None:
    """Refuse 32- and 64-bit whole numbers that lose digits as floats of 32 bits."""
    if values.dtype.itemsize <= 2:
        return
    pairs = zip(_blocks(data), _blocks(values), strict=True)
    if not all(np.array_equal(one.astype(np.float64), other.astype(np.float64), equal_nan=True) for one, other in pairs):
        raise FrameUnusable(
            f"whole numbers up to {np.nanmax(values):.0f}, of which 32-bit floats lose digits, allowed up to {2**24}",
            where=str(path),
            hint="give the single exposures and not their sum, or divide the values by a power of 2 and say the gain of the result",
            code="frame.lossy",
        )


def _images_left_out(parts: list[Part], index: int) -> int:
    """Further 2-D images of at least the same size: other amplifiers and chips, but no previews."""
    size = math.prod(parts[index].shape)
    others = parts[:index] + parts[index + 1 :]
    return sum(len(part.shape) >= 2 and math.prod(part.shape) >= size for part in others)


def _contents(path: Path) -> bytes:
    """Return the bytes of a file, decompressed when they start as gzip or bzip2 does, whatever its name."""
    raw = decompressed(read_bytes(path), path)
    if not raw.startswith(b"SIMPLE  ="):
        raise FrameUnusable(
            f"not a FITS file: it starts with {raw[:12]!r}, a FITS file with 'SIMPLE  ='",
            where=str(path),
            hint="convert it to FITS or take it out of the folder",
            code="frame.not_fits",
        )
    return raw


@dataclass(frozen=True)
class OpenFile:
    """A FITS file: what astropy makes of it (compressed images are decoded on access), and what its headers declare."""

    path: Path
    hdus: fits.HDUList
    parts: list[Part]
    length: int
    damaged: tuple[str, ...]

    def require_complete(self, index: int) -> None:
        """Refuse an image of whose declared data the file holds only a part (astropy only warns)."""
        part = self.parts[index]
        if self.length < part.data + part.size:
            raise FrameUnusable(
                f"the file is truncated: {self.length} of the {part.data + part.size} bytes that its header declares",
                where=str(self.path),
                hint="copy it again from its source",
                code="frame.truncated",
            )


@contextmanager
def opened(path: Path) -> Iterator[OpenFile]:
    """A FITS file whose headers were checked; whatever astropy raises at what else is damaged is an error of the file.

    Raises
    ------
    FrameUnusable
        As `read_raw`.
    """
    contents, parts, damaged = parts_of(_contents(path), path)
    with warnings.catch_warnings():
        # What matters of what astropy warns about (truncation, odd cards) is checked here and raised or mended.
        warnings.simplefilter("ignore")
        try:
            with fits.open(io.BytesIO(contents), memmap=False, ignore_missing_simple=False, lazy_load_hdus=True) as hdus:
                yield OpenFile(path, hdus, parts, len(contents), damaged)
        except DECODING_ERRORS as error:
            raise corrupt(f"the file cannot be decoded ({one_line(error)})", path) from error


def _image_index(file: OpenFile) -> int:
    """Index of the first HDU with a 2-D image (axes of length 1 in front are allowed), which the file holds whole."""
    cube: tuple[int, ...] | None = None
    for index, part in enumerate(file.parts):
        if len(part.shape) < 2 or 0 in part.shape:
            continue
        if all(n == 1 for n in part.shape[:-2]):
            file.require_complete(index)
            return index
        cube = cube or part.shape
    if cube is not None:
        raise _cube(cube, file.path)
    last = file.parts[-1]
    if last.end < file.length:
        raise cut_header(file.path, file.length, f"after HDU {len(file.parts) - 1}")
    raise FrameUnusable("no HDU holds a 2-D image", where=str(file.path), hint="give raw image frames, not tables", code="frame.no_image")


def _cube(shape: tuple[int, ...], path: Path) -> FrameUnusable:
    axes = " x ".join(str(n) for n in shape)
    if len(shape) == 3 and 3 in (shape[0], shape[-1]):
        # Colours interpolated from a mosaic are no measurements: noise is smeared and stars are bent.
        return FrameUnusable(
            f"a colour image ({axes}), where a raw frame has one plane",
            where=str(path),
            hint="have the camera's software save the raw mosaic, not debayered",
            code="frame.cube",
        )
    return FrameUnusable(
        f"an image of {len(shape)} axes ({axes}), where a raw frame has 2",
        where=str(path),
        hint="split the cube into one file per exposure and channel",
        code="frame.cube",
    )


def _merged_header(file: OpenFile, index: int) -> fits.Header:
    """Header of HDU `index`; keywords of the primary header fill what it lacks."""
    header = file.hdus[index].header.copy()
    if index > 0:
        known = set(header)
        for card in file.hdus[0].header.cards:
            if card.keyword and card.keyword not in known and not card.keyword.startswith(STRUCTURE):
                header.append(card)
                known.add(card.keyword)
    return header
