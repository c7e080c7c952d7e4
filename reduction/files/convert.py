"""Raw frames of every format, read alike, and written as FITS files that any FITS tool opens.

`read_raw` and `read_header` are what steps read raw files with. Files are told
apart by what they begin with, then by their suffix.

A FITS file made by `to_fits` says in its header which file it was made from: ORIGFILE is
the name, ORIGSHA the SHA-256. Where a folder holds both, the same exposure
would be counted twice: whoever takes files in compares `original_sha256` of
each FITS file with the SHA-256 of the others, and leaves out one of the two.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from db.errors import ConfigurationError, FrameUnusable
from reduction.files import fits as fits_files
from reduction.files.contents import PACKED, open_regular
from reduction.files.exif import state_offset
from reduction.files.fits import STRUCTURE, RawImage
from reduction.files.product import Written, write_atomically
from reduction.files.raw_files import CAMERA_SUFFIXES, PICTURE_SUFFIXES, is_fits_name

__all__ = ["Converted", "convert_file", "format_of", "original_sha256", "read_header", "read_raw", "to_fits"]

_HEAD = 12
_ROWS_PER_TILE = 16


def read_raw(path: str | Path) -> RawImage:
    """Read a raw frame: FITS, a camera's raw file, or a TIFF or PNG of one channel.

    Parameters
    ----------
    path : path
        A file of any format that `reduction.files.raw_files.find_raw_files` finds.

    Returns
    -------
    RawImage

    Raises
    ------
    FrameUnusable
        As `reduction.files.fits.read_raw`, `reduction.files.camera.read_camera` and `reduction.files.picture.read_picture`.
    """
    path = Path(path)
    kind = format_of(path)
    if kind == "fits":
        return fits_files.read_raw(path)
    # LibRaw and the picture libraries are imported where a file needs them: most nights are all FITS.
    if kind == "picture":
        from reduction.files.picture import read_picture

        return read_picture(path)
    from reduction.files.camera import read_camera

    return read_camera(path)


def read_header(path: str | Path) -> fits.Header:
    """Header that `read_raw` gives, with the same checks and errors; of FITS files the pixels are not decoded."""
    path = Path(path)
    return fits_files.read_header(path) if format_of(path) == "fits" else read_raw(path).header


def format_of(path: str | Path) -> str:
    """Reader that a file belongs to: ``fits``, ``camera`` or ``picture`` (TIFF, PNG).

    By the first bytes, then by the suffix; ``fits`` for what is neither, and for a file that
    cannot be opened, so that its reader says what is wrong.
    """
    path = Path(path)
    try:
        with open_regular(path) as stream:
            head = stream.read(_HEAD)
    except FrameUnusable:
        head = b""
    name = path.name.lower()
    if head.startswith((b"SIMPLE  =", *PACKED)) or is_fits_name(name):
        return "fits"
    if head.startswith(b"\x89PNG\r\n\x1a\n") or name.endswith(PICTURE_SUFFIXES):
        return "picture"
    return "camera" if name.endswith(CAMERA_SUFFIXES) else "fits"


def original_sha256(header: fits.Header) -> str | None:
    """SHA-256 (64 hexadecimal digits) of the file that a FITS file was made from by `to_fits`; None where it was not."""
    text = str(header.get("ORIGSHA", "")).strip().lower()
    return text if len(text) == 64 and set(text) <= set("0123456789abcdef") else None


def to_fits(
    raw: RawImage,
    path: str | Path,
    *,
    original: str | Path | None = None,
    cards: Iterable[tuple[Any, ...] | fits.Card] = (),
    compressed: bool = False,
    overwrite: bool = False,
) -> Written:
    """Write a raw frame as FITS, atomically and without loss.

    Parameters
    ----------
    raw : RawImage
        As from `read_raw`.
    path : path
        Name of the new file; folders are made as needed.
    original : path, optional
        File that `raw` was read from: its name and SHA-256 become ORIGFILE and ORIGSHA.
    cards : iterable of (keyword, value, comment) or Card
        Further cards; they win over those of `raw.header`.
    compressed : bool
        Tile-compressed by RICE_1 (the usual suffix is ``.fits.fz``).
    overwrite : bool
        Replace a file of that name.

    Returns
    -------
    Written
        SHA-256 and size of the new file.

    Raises
    ------
    ConfigurationError
        The file exists (``convert.exists``), or cannot be written (``convert.write``).
    FrameUnusable
        `original` cannot be read.

    Notes
    -----
    Whole numbers from 0 to 65535 are 16-bit integers with BZERO = 32768, others as few bits
    as hold them; values that are not whole, and NaN, stay 32-bit floats, which RICE_1 would round:
    they are compressed by GZIP_2. Rows keep their order (ROWORDER says which end is up).
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise _exists(path, "is not to be overwritten")
    header = _standard_header(raw.header)
    for card in cards:
        header.update([card])
    if original is not None:
        header["ORIGFILE"] = (_ascii(Path(original).name), "file that this one was made from")
        header["ORIGSHA"] = fits_files.sha256_of(original)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A comment too long for its card is cut, as the standard asks.
        warnings.simplefilter("ignore", fits.verify.VerifyWarning)
        _hdus(_stored(raw), header, compressed).writeto(buffer, output_verify="silentfix")
    contents = buffer.getbuffer()
    try:
        write_atomically(path, contents)
    except OSError as error:
        raise ConfigurationError(
            f"cannot be written ({error.strerror})", where=str(path), hint="give another folder with -o", code="convert.write"
        ) from error
    return Written(sha256=hashlib.sha256(contents).hexdigest(), size=len(contents))


@dataclass(frozen=True)
class Converted:
    """What became of one file.

    Attributes
    ----------
    path : Path
        Its FITS file.
    written : bool
        Written now, not before.
    clock : str
        ``utc`` where the time is known, ``local`` where only that of the camera's clock is, else ``none``.
    """

    path: Path
    written: bool
    clock: str


def convert_file(
    path: str | Path, target: str | Path, *, utc_offset: timedelta | None = None, compressed: bool = False, overwrite: bool = False
) -> Converted:
    """Write a camera's raw file or a picture as FITS; what was written before is left as it is.

    Parameters
    ----------
    path : path
        File to read.
    target : path
        FITS file to write.
    utc_offset : timedelta, optional
        Local time of the camera's clock minus UTC, used where the file does not say it.
    compressed, overwrite : bool
        As for `to_fits`.

    Returns
    -------
    Converted

    Raises
    ------
    FrameUnusable
        The file cannot be used.
    ConfigurationError
        `target` exists and was made from another file or with another offset, or cannot be written.
    """
    path, target = Path(path), Path(target)
    if target.exists() and not overwrite:
        return _written_before(path, target, utc_offset)
    raw = read_raw(path)
    if utc_offset is not None:
        state_offset(raw.header, utc_offset)
    to_fits(raw, target, original=path, compressed=compressed, overwrite=overwrite)
    return Converted(target, True, _clock(raw.header))


def _written_before(path: Path, target: Path, utc_offset: timedelta | None) -> Converted:
    try:
        header = fits_files.read_header(target)
    except FrameUnusable as error:
        raise _exists(target, f"cannot be used ({error.message})") from error
    if original_sha256(header) != fits_files.sha256_of(path):
        raise _exists(target, f"was not made from {path.name}")
    by_camera = "EXIF" in header.comments["TZOFFSET"] if "TZOFFSET" in header else "DATE-LOC" not in header
    if utc_offset is not None and not by_camera and header.get("TZOFFSET") != utc_offset / timedelta(hours=1):
        raise _exists(target, "was made with another offset from UTC, or none")
    return Converted(target, False, _clock(header))


def _clock(header: fits.Header) -> str:
    return "utc" if "DATE-OBS" in header else "local" if "DATE-LOC" in header else "none"


def _exists(target: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"the file exists and {why}", where=str(target), hint="give another folder with -o, or --overwrite", code="convert.exists"
    )


def _hdus(values: npt.NDArray[Any], header: fits.Header, compressed: bool) -> fits.HDUList:
    if not compressed:
        return fits.HDUList([fits.PrimaryHDU(values, header)])
    rows = min(_ROWS_PER_TILE, values.shape[0])
    kind = {"compression_type": "GZIP_2", "quantize_level": 0.0} if values.dtype.kind == "f" else {"compression_type": "RICE_1"}
    return fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(values, header, tile_shape=(rows, values.shape[1]), **kind)])


def _stored(raw: RawImage) -> npt.NDArray[Any]:
    """Pixels in the smallest type that loses nothing, 16 bits at least."""
    values = raw.data
    if not raw.integer or not bool(np.isfinite(values).all()):
        return values
    low, high = float(values.min()), float(values.max())
    kind = next((kind for kind in (np.uint16, np.int16, np.int32) if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max), None)
    return values if kind is None else values.astype(kind)


def _standard_header(header: fits.Header) -> fits.Header:
    """Cards without those that describe how the file they came from was stored."""
    return fits.Header([card for card in header.cards if not card.keyword.startswith(STRUCTURE) and card.keyword != ""], copy=True)


def _ascii(name: str) -> str:
    return "".join(letter if " " <= letter <= "~" else "?" for letter in name)
