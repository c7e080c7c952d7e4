"""Product files: planes written as tile-compressed FITS, atomically, and read back.

Masters and maps are kept without loss. Calibrated frames, of which there are
many, are rounded to a hundredth of their noise (`tiles`).

Products are written under a temporary name, synced, and renamed, so that a
file under its final name is complete; names starting with `TEMPORARY_PREFIX`
are leftovers to sweep.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from db.errors import FrameUnusable
from reduction.files.contents import one_line, read_bytes
from reduction.files.fits import STRUCTURE, OpenFile, opened
from reduction.files.fits_headers import cut_header, legible
from reduction.files.packed import header_end, unpacked_planes, with_cards
from reduction.files.tiles import DECODING_ERRORS, error_hdu, lossless_hdu, lowest_error, science_hdu

__all__ = [
    "TEMPORARY_PREFIX",
    "Written",
    "read_calibrated",
    "read_image",
    "write_atomically",
    "write_calibrated",
    "write_image",
    "write_wcs",
]

TEMPORARY_PREFIX = ".tmp-"
"""Start of the name of a file that is being written."""

_WCS = re.compile(
    r"(CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA)\d|(CD|PC|PV|PS)\d+_\d+|(A|B|AP|BP)_(\d_\d|ORDER|DMAX)|WCSAXES|WCSNAME|LONPOLE|LATPOLE|RADESYS|EQUINOX"
)
"""Keywords that tell where an image lies on the sky (FITS standard 4.0, section 8, and SIP)."""


@dataclass(frozen=True)
class Written:
    """What was written: SHA-256 of the file (hex) and its size in bytes."""

    sha256: str
    size: int


def write_image(path: str | Path, planes: Mapping[str, npt.NDArray[Any]], header: fits.Header | Mapping[str, Any] | None = None) -> Written:
    """Write named planes as a lossless tile-compressed FITS file, atomically.

    Parameters
    ----------
    path : path
        Final name; folders are made as needed.
    planes : mapping of str to ndarray, shape (ny, nx)
        Written in order as extensions of that name (SCI, VAR, MASK, ...); float64 becomes float32.
        Floats are packed by GZIP_2, integers by RICE_1, and floats that are all whole numbers
        as integers, which `read_image` turns back (half the time, a third of the size).
    header : Header or mapping, optional
        Cards of the primary header.

    Returns
    -------
    Written
        The same planes and header always give the same bytes.
    """
    return _write(Path(path), [lossless_hdu(name, array) for name, array in planes.items()], header)


def write_calibrated(
    path: str | Path,
    science: npt.NDArray[np.float32],
    variance: npt.NDArray[np.float32],
    mask: npt.NDArray[np.uint8],
    header: fits.Header | Mapping[str, Any] | None = None,
) -> Written:
    """Write a calibrated frame as the extensions SCI, ERR and MASK, rounded to a hundredth of its noise, atomically.

    Parameters
    ----------
    path : path
        Final name; folders are made as needed.
    science : float32, shape (ny, nx)
        ADU; 0, which pixels without data have, stays 0, and what is not finite becomes NaN.
    variance : float32, shape (ny, nx)
        ADU**2; its square root is written.
    mask : uint8, shape (ny, nx)
        Bits of `db.flags.Mask`.
    header : Header or mapping, optional
        Cards of the primary header; those of a world coordinate system go to the extensions too, where viewers look.

    Returns
    -------
    Written
        The same planes and header always give the same bytes.

    Notes
    -----
    All pixels share one step for the values (0.0346) and one for the errors (1/112), in units of the frame's lowest
    error: the rounding adds at most 0.01 of a pixel's error to its noise, and changes that error by at most 0.45 %.
    """
    with np.errstate(invalid="ignore"):
        error = np.sqrt(variance, dtype=np.float32)
    lowest = lowest_error(error, mask)
    shared = fits.Header([card for card in _cards(header) if _WCS.fullmatch(card.keyword)])
    in_adu = shared.copy()
    in_adu["BUNIT"] = "adu"
    hdus = [science_hdu("SCI", science, lowest, in_adu), error_hdu("ERR", error, lowest, in_adu), lossless_hdu("MASK", mask, shared)]
    return _write(Path(path), hdus, header)


def write_wcs(path: str | Path, target: str | Path, cards: Mapping[str, Any]) -> Written:
    """Copy a file of `write_calibrated` with a world coordinate system in its headers, atomically; the pixels stay packed as they are.

    Parameters
    ----------
    path, target : path
        The file, and the name of the copy.
    cards : mapping
        Keywords and values of the world coordinate system; they take the place of any that the file has.

    Returns
    -------
    Written
        The same file and cards always give the same bytes.

    Raises
    ------
    FrameUnusable
        As `read_image`.
    """
    before = read_bytes(path)
    try:
        contents = with_cards(before, _WCS, [card.image for card in _cards(cards)])
    except (ValueError, KeyError) as error:
        raise cut_header(Path(path), len(before), str(error)) from error
    write_atomically(Path(target), memoryview(contents))
    return Written(sha256=hashlib.sha256(contents).hexdigest(), size=len(contents))


def _write(path: Path, hdus: list[Any], header: fits.Header | Mapping[str, Any] | None) -> Written:
    primary = fits.PrimaryHDU()
    primary.header["NPLANES"] = (len(hdus), "image planes that follow")
    for card in _cards(header):
        primary.header.append(card, end=True)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fits.verify.VerifyWarning)
        fits.HDUList([primary, *hdus]).writeto(buffer, checksum=False)
    contents = buffer.getbuffer()
    write_atomically(path, contents)
    return Written(sha256=hashlib.sha256(contents).hexdigest(), size=len(contents))


def _cards(header: fits.Header | Mapping[str, Any] | None) -> list[fits.Card]:
    if header is None:
        return []
    cards = header.cards if isinstance(header, fits.Header) else [fits.Card(key, value) for key, value in header.items()]
    return [card for card in cards if not card.keyword.startswith(STRUCTURE)]


def write_atomically(path: Path, contents: memoryview) -> None:
    """Write a file under a temporary name, sync it and rename it: under its final name it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}")
    try:
        with temporary.open("wb") as stream:
            stream.write(contents)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; where folders cannot be opened (Windows) the system sees to it."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_image(path: str | Path) -> tuple[dict[str, npt.NDArray[Any]], fits.Header]:
    """Read a product: its planes by name, in native byte order, and its primary header.

    Raises
    ------
    FrameUnusable
        As `read_raw`, when the file is missing or damaged.
    """
    path = Path(path)
    contents = read_bytes(path)
    known = unpacked_planes(contents)
    if known is not None:
        return known, fits.Header.fromstring(legible(contents[: header_end(contents, 0)]))
    planes: dict[str, npt.NDArray[Any]] = {}
    with opened(path) as file:
        header = file.hdus[0].header.copy()
        for index, part in enumerate(file.parts):
            if index > 0 and part.shape:
                planes[file.hdus[index].name] = _pixels(file, index)
        if len(planes) != header.get("NPLANES", len(planes)):
            raise cut_header(path, file.length, f"{len(planes)} of {header['NPLANES']} planes found")
    return planes, header


def _pixels(file: OpenFile, index: int) -> npt.NDArray[Any]:
    file.require_complete(index)
    hdu = file.hdus[index]
    try:
        values: npt.NDArray[Any] = hdu.data
    except DECODING_ERRORS as error:
        raise FrameUnusable(
            f"the pixels of plane {hdu.name} cannot be decoded ({one_line(error)})",
            where=str(file.path),
            hint="delete the file: the next 'starledger reduce' makes it again",
            code="frame.corrupt",
        ) from error
    return np.ascontiguousarray(values, dtype=np.dtype(hdu.header.get("PLANETYP", values.dtype.newbyteorder("="))))


def read_calibrated(path: str | Path) -> dict[str, npt.NDArray[Any]]:
    """Read a file of `write_calibrated`.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    dict
        SCI (float32, ADU), VAR (float32, ADU**2) and MASK (uint8), each of shape (ny, nx).

    Raises
    ------
    FrameUnusable
        As `read_image`, and where a plane is not there (code ``frame.planes``).
    """
    planes, _ = read_image(path)
    if "ERR" in planes:
        planes["VAR"] = np.square(planes.pop("ERR"))
    names = ("SCI", "VAR", "MASK")
    missing = [name for name in names if name not in planes]
    if missing:
        raise FrameUnusable(
            f"no plane {' and '.join(missing)} among {', '.join(planes) or 'none'}",
            where=str(path),
            hint="give a calibrated frame: it has SCI, ERR (or VAR) and MASK",
            code="frame.planes",
        )
    return {name: planes[name] for name in names}
