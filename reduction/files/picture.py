"""TIFF and PNG files that hold one frame without loss: a monochrome sensor's, or an undemosaiced mosaic.

Such files say little of the exposure; what they leave out (exposure time, filter,
Bayer pattern) is given under ``[default]`` or ``[override]`` of the configuration.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile

from db.errors import FrameUnusable
from reduction.files.contents import MOST_PIXELS, read_bytes, require_size
from reduction.files.exif import creator, exif_header, quiet_logger, read_exif
from reduction.files.fits import RawImage, all_whole, value_step

__all__ = ["PNG_MAGIC", "read_picture"]

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
"""First bytes of every PNG file."""

_TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TIFF_ERRORS = (ValueError, RuntimeError, TypeError, KeyError, IndexError, OSError, OverflowError, MemoryError, struct.error)
_MIN_IS_WHITE, _MIN_IS_BLACK, _PALETTE, _CFA = 0, 1, 3, 32803
_JPEG = 7
_JPEG_2000 = dict.fromkeys((33003, 33004, 33005, 34712), "JPEG 2000")
_LOSSY = {6: "JPEG", _JPEG: "JPEG", 34892: "JPEG", **_JPEG_2000, 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL"}
_REDUCED, _MASK = 1, 4
_CFA_PATTERN = 33422
#: Whole numbers above are not all floats of 32 bits.
_LARGEST = 2**24
_KINDS = {0: "grey", 2: "colour", 3: "palette", 4: "grey with transparency", 6: "colour with transparency"}


def read_picture(path: str | Path) -> RawImage:
    """Read a TIFF (8, 16 or 32 bits, float; any lossless compression) or PNG (8 or 16 bits) of one channel.

    Parameters
    ----------
    path : path
        The contents decide the file's format.

    Returns
    -------
    RawImage
        `data` in the order of the file, its first row first. The header holds the cards of
        `reduction.files.exif.exif_header`, ROWORDER, and BAYERPAT where a TIFF states its mosaic.

    Raises
    ------
    FrameUnusable
        ``frame.unreadable``, ``frame.empty``, ``frame.not_picture``, ``frame.corrupt``, ``frame.truncated``,
        ``frame.colour`` (RGB, palette), ``frame.cube`` (several images), and ``frame.lossy`` (compressions
        that may lose something, fewer than 8 bits, inverted greys, whole numbers of 2**24 and more).
    """
    path = Path(path)
    contents = read_bytes(path)
    if contents.startswith(PNG_MAGIC):
        values, pattern = _png(contents, path), None
    elif contents.startswith(_TIFF_MAGICS):
        values, pattern = _tiff(contents, path)
    else:
        raise FrameUnusable(
            f"neither TIFF nor PNG: it starts with {contents[:12]!r}",
            where=str(path),
            hint="take it out of the folder",
            code="frame.not_picture",
        )
    if values.dtype.kind in "iu" and values.dtype.itemsize > 2 and np.abs(values.astype(np.int64)).max() >= _LARGEST:
        raise _lossy(f"values up to {values.max()}, allowed below {_LARGEST}", path)
    data = np.ascontiguousarray(values, dtype=np.float32)
    header = exif_header(read_exif(contents))
    if pattern is not None:
        header["BAYERPAT"] = (pattern, "colours of the first 2 x 2 pixels, row by row")
        header["XBAYROFF"] = (0, "[pix] x offset of BAYERPAT")
        header["YBAYROFF"] = (0, "[pix] y offset of BAYERPAT")
    header["ROWORDER"] = ("TOP-DOWN", "the first row is the top of the picture")
    header["SWCREATE"] = (creator(), "software that made this header")
    whole = values.dtype.kind in "iu" or all_whole(data)
    return RawImage(data=data, header=header, integer=whole, quantum=value_step(data, float(whole)), hdu=0)


def _png(contents: bytes, path: Path) -> npt.NDArray[Any]:
    if len(contents) < 33:
        raise _truncated(contents, path)
    width, height, bits, kind = struct.unpack(">IIBB", contents[16:26])
    require_size(width * height, path, most=MOST_PIXELS, unit="pixels")
    if kind != 0:
        raise _colour(f"a PNG of {_KINDS.get(kind, f'kind {kind}')}", path)
    if bits < 8:
        raise _lossy(f"a PNG of {bits} bits, allowed 8 and 16", path)
    try:
        values: npt.NDArray[Any] = imagecodecs.png_decode(contents)
    except (RuntimeError, ValueError, MemoryError) as error:
        if "too small" in str(error):
            raise _truncated(contents, path) from error
        raise _corrupt(error, path) from error
    if values.ndim != 2:
        # A grey picture with a transparent colour (tRNS) is decoded to two channels.
        raise _colour("a PNG of grey with transparency", path)
    return values


def _tiff(contents: bytes, path: Path) -> tuple[npt.NDArray[Any], str | None]:
    try:
        with quiet_logger("tifffile"), tifffile.TiffFile(io.BytesIO(contents)) as tiff:
            every: list[Any] = list(tiff.pages)
            pages = [page for page in every if not page.subfiletype & (_REDUCED | _MASK)]
            _require_one_grey(pages, path)
            page = pages[0]
            strip = max(page.tilelength or 0, page.rowsperstrip if not page.is_tiled else 0) * max(page.tilewidth or 0, page.imagewidth)
            require_size(max(page.imagelength * page.imagewidth, strip), path, most=MOST_PIXELS, unit="pixels")
            ends = [start + size for start, size in zip(page.dataoffsets, page.databytecounts, strict=False)]
            if max(ends, default=0) > len(contents):
                raise _truncated(contents, path, max(ends))
            return page.asarray(), _tiff_pattern(page)
    except _TIFF_ERRORS as error:
        raise _corrupt(error, path) from error


def _require_one_grey(pages: list[Any], path: Path) -> None:
    if not pages:
        raise FrameUnusable("a TIFF without an image", where=str(path), hint="copy it again from its source", code="frame.corrupt")
    page = pages[0]
    if len(pages) > 1:
        raise FrameUnusable(
            f"a TIFF of {len(pages)} images, where a raw frame has one",
            where=str(path),
            hint="split it into one file each",
            code="frame.cube",
        )
    if page.samplesperpixel != 1 or page.photometric not in (_MIN_IS_WHITE, _MIN_IS_BLACK, _CFA):
        kind = "a palette" if page.photometric == _PALETTE else f"{page.samplesperpixel} channels"
        raise _colour(f"a TIFF of {kind}", path)
    if page.photometric == _MIN_IS_WHITE:
        raise _lossy("a TIFF in which 0 is white", path)
    if page.bitspersample < 8 or page.dtype is None or page.dtype.kind not in "iuf" or len(page.shape) != 2:
        raise _lossy(f"a TIFF of {page.bitspersample} bits and shape {page.shape}, allowed is one image of 8 bits and more", path)
    # JPEG of more than 8 bits is the lossless one, which cameras use.
    if int(page.compression) in _LOSSY and not (page.compression == _JPEG and page.bitspersample > 8):
        raise _lossy(f"a TIFF compressed as {_LOSSY[int(page.compression)]}", path)


def _tiff_pattern(page: Any) -> str | None:
    """BAYERPAT of a TIFF that states its mosaic (TIFF/EP, ISO 12234-2: 0, 1, 2 are red, green, blue)."""
    tag = page.tags.get(_CFA_PATTERN)
    if page.photometric != _CFA or tag is None:
        return None
    value = bytes(tag.value) if isinstance(tag.value, (bytes, tuple, list)) else b""
    letters = "".join("RGB"[index] for index in value if index < 3)
    return letters if sorted(letters) == ["B", "G", "G", "R"] else None


def _colour(met: str, path: Path) -> FrameUnusable:
    return FrameUnusable(
        f"{met}, where a raw frame has one channel",
        where=str(path),
        hint="have the camera's software save the raw mosaic, not debayered",
        code="frame.colour",
    )


def _lossy(met: str, path: Path) -> FrameUnusable:
    return FrameUnusable(
        f"{met}: no measurement of light", where=str(path), hint="save frames as 16-bit grey without loss", code="frame.lossy"
    )


def _truncated(contents: bytes, path: Path, needed: int | None = None) -> FrameUnusable:
    size = f"{len(contents)} of the {needed} bytes that it declares" if needed else f"{len(contents)} bytes, and its pixels go on"
    return FrameUnusable(f"the file is truncated: {size}", where=str(path), hint="copy it again from its source", code="frame.truncated")


def _corrupt(error: BaseException, path: Path) -> FrameUnusable:
    detail = " ".join(str(error).split())[:160] or type(error).__name__
    return FrameUnusable(
        f"the picture cannot be decoded ({detail})", where=str(path), hint="copy it again from its source", code="frame.corrupt"
    )
