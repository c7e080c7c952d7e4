"""Small camera files whose truth is known: DNGs that LibRaw opens, with an EXIF block, and the wrappings of other makers."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile

ASCII, SHORT, LONG, RATIONAL = 2, 3, 4, 5
LINEAR = 34892
MAKE, MODEL, ORIENTATION, DATE, EXIF_IFD, GPS_IFD = 271, 272, 274, 306, 34665, 34853

EXIF = {
    0x829A: (RATIONAL, (1, 3)),
    0x829D: (RATIONAL, (28, 10)),
    0x8827: (SHORT, (1600,)),
    0x9003: (ASCII, "2023:08:12 01:03:04"),
    0x9011: (ASCII, "+02:00"),
    0x9291: (ASCII, "37"),
    0x920A: (RATIONAL, (135, 1)),
    0xA431: (ASCII, "012345"),
    0xA434: (ASCII, "EF135mm f/2L USM"),
}
"""Exposure of 1/3 s at 2023-08-12T01:03:04.37+02:00, that is 2023-08-11T23:03:04.37 UTC."""

COLOURS = {"R": 0, "G": 1, "B": 2}


def ifd(tags: Mapping[int, tuple[int, Any]], at: int) -> bytes:
    """A little-endian image file directory (TIFF 6.0) that begins at byte `at` of its file, with the values behind it."""
    entries, values = b"", b""
    behind = at + 2 + 12 * len(tags) + 4
    for tag, (kind, value) in sorted(tags.items()):
        if kind == ASCII:
            packed = value.encode("latin-1") + b"\0"
            count = len(packed)
        else:
            packed = struct.pack(f"<{len(value)}{'H' if kind == SHORT else 'I'}", *value)
            count = len(value) // 2 if kind == RATIONAL else len(value)
        if len(packed) <= 4:
            field = packed.ljust(4, b"\0")
        else:
            field = struct.pack("<I", behind + len(values))
            values += packed + b"\0" * (len(packed) % 2)
        entries += struct.pack("<HHI", tag, kind, count) + field
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0) + values


def tiff_block(tags: Mapping[int, tuple[int, Any]]) -> bytes:
    """A TIFF file of nothing but tags."""
    return b"II*\0\x08\0\0\0" + ifd(tags, 8)


def write_dng(
    path: Path,
    mosaic: npt.NDArray[np.uint16],
    *,
    pattern: str = "RGGB",
    black: tuple[int, ...] = (512,),
    white: int = 16000,
    active: tuple[int, int, int, int] | None = None,
    exif: Mapping[int, tuple[int, Any]] | None = EXIF,
    gps: Mapping[int, tuple[int, Any]] | None = None,
    camera: tuple[str, str] = ("Example", "Example One"),
    packed: bool = False,
) -> Path:
    """Write a DNG (version 1.4).

    `pattern` holds for the first pixels of the active area (top, left, bottom, right), by default all of it; "" is monochrome;
    `packed` by lossless JPEG, as cameras do.
    """
    linear = mosaic.ndim == 3 or not pattern
    tags: list[tuple[Any, ...]] = [
        (MAKE, ASCII, 0, camera[0], False),
        (MODEL, ASCII, 0, camera[1], False),
        (50706, 1, 4, bytes([1, 4, 0, 0]), False),
        (50708, ASCII, 0, camera[1], False),
        (50717, SHORT, 1, white, False),
        (50721, 10, 9, (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1), False),
        (50728, RATIONAL, 3, (1, 1, 1, 1, 1, 1), False),
        (50778, SHORT, 1, 21, False),
    ]
    if not linear or mosaic.ndim == 2:
        tags.append((50714, SHORT, len(black), black if len(black) > 1 else black[0], False))
    if not linear:
        side = int(len(pattern) ** 0.5)
        tags += [(33421, SHORT, 2, (side, side), False), (33422, 1, side**2, bytes(COLOURS[letter] for letter in pattern), False)]
        if len(black) == 4:
            tags.append((50713, SHORT, 2, (2, 2), False))
    if active is not None:
        tags.append((50829, LONG, 4, active, False))
    for number, block in ((EXIF_IFD, exif), (GPS_IFD, gps)):
        if block is not None:
            tags.append((number + 1, LONG, 1, number, False))
    options: dict[str, Any] = {
        "photometric": (LINEAR if mosaic.ndim == 3 else 1) if linear else 32803,
        "extratags": tags,
        "metadata": None,
        "byteorder": "<",
    }
    if packed:
        strip = imagecodecs.ljpeg_encode(mosaic, bitspersample=16)
        tifffile.imwrite(path, iter([strip]), shape=mosaic.shape, dtype=mosaic.dtype, compression=7, rowsperstrip=len(mosaic), **options)
    else:
        tifffile.imwrite(path, mosaic, **options)
    if linear and mosaic.ndim == 2:
        # tifffile knows linear raws of three colours only.
        contents = path.read_bytes()
        path.write_bytes(contents.replace(struct.pack("<HHII", 262, SHORT, 1, 1), struct.pack("<HHII", 262, SHORT, 1, LINEAR)))
    for number, block in ((EXIF_IFD, exif), (GPS_IFD, gps)):
        if block is not None:
            _hang_on(path, number, block)
    return path


def _hang_on(path: Path, number: int, block: Mapping[int, tuple[int, Any]]) -> None:
    """Put a directory at the end of a file and let its tag point there; tifffile writes such tags under other numbers only."""
    contents = path.read_bytes()
    contents += b"\0" * (len(contents) % 2)
    entry = struct.pack("<HHII", number + 1, LONG, 1, number)
    assert contents.count(entry) == 1
    path.write_bytes(contents.replace(entry, struct.pack("<HHII", number, LONG, 1, len(contents))) + ifd(block, len(contents)))


def raf_of(block: bytes) -> bytes:
    """A Fuji RAF whose preview has this EXIF."""
    segment = b"Exif\0\0" + block
    jpeg = b"\xff\xd8\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + b"\xff\xd9"
    return b"FUJIFILMCCD-RAW ".ljust(84, b"0") + struct.pack(">II", 200, len(jpeg)) + b"\0" * 108 + jpeg


def cr3_of(image: bytes, exif: bytes, gps: bytes = b"") -> bytes:
    """A Canon CR3 of boxes only."""

    def box(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body) + 8) + kind + body

    canon = (
        bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
        + box(b"CNCV", b"CanonCR3")
        + box(b"CMT1", image)
        + box(b"CMT2", exif)
        + box(b"CMT4", gps)
    )
    return box(b"ftyp", b"crx \0\0\0\x01crx isom") + box(b"moov", box(b"uuid", canon) + box(b"mvhd", b"\0" * 20))
