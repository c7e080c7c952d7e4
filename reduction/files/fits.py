"""FITS files: reading raw frames (`reduction.files.convert` reads those of every format).

Raw frames are read once, whole: what a truncated or foreign file would do to a
later step is found here and reported in one line.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from db.errors import FrameUnusable
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
    """

    data: npt.NDArray[np.float32]
    header: fits.Header
    integer: bool
    quantum: float
    hdu: int
    left_out: int = 0


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits.

    Raises
    ------
    FrameUnusable
        The file cannot be read (code ``frame.unreadable``).
    """
    try:
        with Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(Path(path), error) from error


def read_bytes(path: str | Path) -> bytes:
    """All bytes of a file.

    Raises
    ------
    FrameUnusable
        The file cannot be read (``frame.unreadable``) or holds nothing (``frame.empty``).
    """
    try:
        contents = Path(path).read_bytes()
    except OSError as error:
        raise _unreadable(Path(path), error) from error
    if not contents:
        raise FrameUnusable("the file is empty (0 bytes)", where=str(path), hint="copy it again from its source", code="frame.empty")
    return contents


def read_header(path: str | Path) -> fits.Header:
    """Header of the first 2-D image of a FITS file; the same checks and errors as `read_raw`."""
    with opened(Path(path)) as (hdus, length):
        index = _image_index(hdus, length, Path(path))
        require_complete(hdus[index], length, Path(path))
        return _merged_header(hdus, index)


def read_raw(path: str | Path) -> RawImage:
    """Read the first 2-D image of a FITS file.

    Parameters
    ----------
    path : path
        Plain, gzipped or tile-compressed FITS file.

    Returns
    -------
    RawImage

    Raises
    ------
    FrameUnusable
        With the codes ``frame.unreadable``, ``frame.empty``, ``frame.not_fits``, ``frame.truncated``,
        ``frame.no_image``, ``frame.cube``, ``frame.corrupt`` and ``frame.lossy`` (whole numbers that
        32-bit floats cannot hold).
    """
    path = Path(path)
    with opened(path) as (hdus, length):
        index = _image_index(hdus, length, path)
        hdu = hdus[index]
        require_complete(hdu, length, path)
        header = _merged_header(hdus, index)
        stored_integer = int(hdu.header["BITPIX"]) > 0
        scale = abs(float(hdu.header.get("BSCALE", 1.0)))
        try:
            values = hdu.data
        except DECODING_ERRORS as error:
            raise FrameUnusable(
                f"the pixels of HDU {index} cannot be decoded ({_one_line(error)})",
                where=str(path),
                hint="copy the file again from its source",
                code="frame.corrupt",
            ) from error
        data = np.ascontiguousarray(values, dtype=np.float32)
        left_out = _images_left_out(hdus, index)
    if stored_integer and scale == 1.0:
        _require_exact(values, data, path)
    data = data.reshape(data.shape[-2:])
    whole = all_whole(data)
    quantum = value_step(data, scale if stored_integer else float(whole))
    return RawImage(data=data, header=header, integer=whole, quantum=quantum, hdu=index, left_out=left_out)


def all_whole(data: npt.NDArray[np.float32]) -> bool:
    """Whether every finite pixel is a whole number, and there is one."""
    finite = np.isfinite(data)
    return bool(finite.any()) and bool(np.all((data == np.rint(data)) | ~finite))


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
    finite = data[np.isfinite(data)]
    if unit <= 0.0 or finite.size == 0 or float(np.spacing(np.abs(finite).max())) > unit:
        return 0.0
    # Nearly every frame is told by a sample, at an odd stride, which visits all columns.
    few = finite[:: (finite.size // _STEP_SAMPLE) | 1]
    for sample in (few, finite):
        steps = np.rint((sample.astype(np.float64) - float(finite[0])) / unit).astype(np.int64)
        common = int(np.gcd.reduce(steps))
        if common == 1:
            return unit
    counts = np.unique(few, return_counts=True)[1]
    believed = counts.size >= _LEAST_VALUES or np.count_nonzero(counts > _POPULATED * few.size) >= _LEAST_POPULATED
    return unit * common if believed else unit


def _require_exact(values: npt.NDArray[Any], data: npt.NDArray[np.float32], path: Path) -> None:
    """Refuse 32- and 64-bit whole numbers that lose digits as floats of 32 bits."""
    if values.dtype.itemsize > 2 and not bool(np.array_equal(data.astype(np.float64), values.astype(np.float64), equal_nan=True)):
        raise FrameUnusable(
            f"whole numbers up to {np.nanmax(values):.0f}, of which 32-bit floats lose digits, allowed up to {2**24}",
            where=str(path),
            hint="give the single exposures and not their sum, or divide the values by a power of 2 and say the gain of the result",
            code="frame.lossy",
        )


def _images_left_out(hdus: fits.HDUList, index: int) -> int:
    """Further 2-D images of at least the same size: other amplifiers and chips, but no previews."""
    size = int(np.prod(_shape(hdus[index])))
    shapes = [_shape(hdu) for other, hdu in each_hdu(hdus) if other != index and getattr(hdu, "is_image", False)]
    return sum(len(shape) >= 2 and int(np.prod(shape)) >= size for shape in shapes)


def _unreadable(path: Path, error: OSError) -> FrameUnusable:
    return FrameUnusable(
        f"cannot be read ({error.strerror or _one_line(error)})",
        where=str(path),
        hint="check the path and its permissions",
        code="frame.unreadable",
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _contents(path: Path) -> bytes:
    """Return the bytes of a file, decompressed when they start as gzip does, whatever its name."""
    raw = read_bytes(path)
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, zlib.error, OSError) as error:
            raise FrameUnusable(
                f"the gzip stream is cut short or damaged ({_one_line(error)})",
                where=str(path),
                hint="copy the file again from its source",
                code="frame.truncated",
            ) from error
    if not raw:
        raise FrameUnusable("a gzip file of nothing", where=str(path), hint="copy it again from its source", code="frame.empty")
    if not raw.startswith(b"SIMPLE  ="):
        raise FrameUnusable(
            f"not a FITS file: it starts with {raw[:12]!r}, a FITS file with 'SIMPLE  ='",
            where=str(path),
            hint="convert it to FITS or take it out of the folder",
            code="frame.not_fits",
        )
    return raw


@contextmanager
def opened(path: Path) -> Iterator[tuple[fits.HDUList, int]]:
    """HDUs of a file (compressed images decoded on access) and the length of its contents in bytes."""
    contents = _contents(path)
    with warnings.catch_warnings():
        # What matters of what astropy warns about (truncation, odd cards) is checked here and raised or mended.
        warnings.simplefilter("ignore")
        try:
            hdus = fits.open(
                io.BytesIO(contents),
                memmap=False,
                ignore_missing_simple=False,
                lazy_load_hdus=True,
            )
        except (OSError, ValueError, KeyError) as error:
            raise cut_header(path, len(contents), _one_line(error)) from error
        with hdus:
            yield hdus, len(contents)


def cut_header(path: Path, length: int, detail: str) -> FrameUnusable:
    return FrameUnusable(
        f"a header has no end in a file of {length} bytes ({detail})",
        where=str(path),
        hint="copy the file again from its source",
        code="frame.truncated",
    )


def _image_index(hdus: fits.HDUList, length: int, path: Path) -> int:
    """Index of the first HDU with a 2-D image (axes of length 1 in front are allowed)."""
    cube: tuple[int, ...] | None = None
    for index, hdu in each_hdu(hdus):
        if not getattr(hdu, "is_image", False):
            continue
        shape = _shape(hdu)
        if len(shape) < 2 or 0 in shape:
            continue
        if all(n == 1 for n in shape[:-2]):
            return index
        cube = cube or shape
    if cube is not None:
        raise _cube(cube, path)
    last = hdus[-1].fileinfo()
    if int(last["datLoc"]) + int(last["datSpan"]) < length:
        raise cut_header(path, length, f"after HDU {len(hdus) - 1}")
    raise FrameUnusable("no HDU holds a 2-D image", where=str(path), hint="give raw image frames, not tables", code="frame.no_image")


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


def each_hdu(hdus: fits.HDUList) -> Iterator[tuple[int, Any]]:
    index = 0
    while True:
        try:
            hdu = hdus[index]
        except (IndexError, OSError, ValueError, KeyError):
            # A damaged extension behind a good image is no reason to lose the image.
            return
        yield index, hdu
        index += 1


def _shape(hdu: Any) -> tuple[int, ...]:
    header = hdu.header
    return tuple(int(header[f"NAXIS{axis}"]) for axis in range(int(header.get("NAXIS", 0)), 0, -1))


def require_complete(hdu: Any, length: int, path: Path) -> None:
    """Refuse an image of whose declared data the file holds only a part (astropy only warns)."""
    stored = getattr(hdu, "_bintable", None) or hdu
    info = stored.fileinfo() or {}
    needed = int(info.get("datLoc", 0)) + int(stored.size)
    if length < needed:
        raise FrameUnusable(
            f"the file is truncated: {length} of the {needed} bytes that its header declares",
            where=str(path),
            hint="copy it again from its source",
            code="frame.truncated",
        )


def _merged_header(hdus: fits.HDUList, index: int) -> fits.Header:
    """Header of HDU `index` with every card readable; keywords of the primary header fill what it lacks."""
    header = readable(hdus[index].header)
    if index > 0:
        primary = readable(hdus[0].header)
        for card in primary.cards:
            if card.keyword and card.keyword not in header and not card.keyword.startswith(STRUCTURE):
                header.append(card)
    return header


def readable(header: fits.Header) -> fits.Header:
    """Copy of a header in which cards that break the standard hold their raw text as a string."""
    cards = []
    for card in header.cards:
        try:
            _ = (card.keyword, card.value, card.comment)
            cards.append(card)
        except (fits.VerifyError, ValueError, UnicodeError):
            cards.append(_raw_card(card.image))
    return fits.Header(cards, copy=True)


def _raw_card(image: str) -> fits.Card:
    keyword = image[:8].strip().upper()
    text = image[8:].lstrip("= ").split("/")[0].strip().strip("'\"").strip()
    printable = "".join(letter if " " <= letter <= "~" else "?" for letter in text)[:60]
    if not keyword.replace("-", "").replace("_", "").isalnum():
        return fits.Card("COMMENT", printable)
    return fits.Card(keyword, printable)
