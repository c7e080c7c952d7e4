"""Raw files of photographic cameras: the Bayer mosaic as the sensor gave it, and what the camera wrote about it.

LibRaw (by rawpy) unpacks the pixels and knows the levels of each model; nothing
is demosaiced, scaled, or subtracted.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rawpy

from db.errors import FrameUnusable
from reduction.files.contents import MOST_PIXELS, read_bytes, require_size
from reduction.files.exif import creator, exif_header, read_exif
from reduction.files.fits import RawImage, value_step
from reduction.kernels.robust import scatter_about

__all__ = ["read_camera"]

#: Least width of a border, in pixels, that is taken for an optical black one: narrower ones are often lit or padded.
_LEAST_BORDER = 16
#: Pixels of a border left out beside the image (light gets there) and at its outer edge.
_BESIDE, _OUTER = 4, 2
#: Part of the range from black to white by which a black border may differ from the camera's stated black level.
_BLACK_TOLERANCE = 0.02
#: Part of the range below which a maker's limit of linearity is not believed.
_LEAST_RANGE = 0.5
_CLIP = 5.0
_LIBRAW_ERRORS = (rawpy.LibRawError, rawpy.NotSupportedError, OSError, RuntimeError, NotImplementedError, ValueError, MemoryError)
_STDERR = 2
_stderr_lock = threading.Lock()


def read_camera(path: str | Path) -> RawImage:
    """Read a camera's raw file (CR2, CR3, NEF, ARW, DNG, RAF, ORF, RW2, ...).

    Parameters
    ----------
    path : path
        File that LibRaw can read.

    Returns
    -------
    RawImage
        `data` is the visible part of the mosaic, black level included, first stored row first. The header holds
        the cards of `reduction.files.exif.exif_header` and

        - BAYERPAT: colours of the pixels (x, y) = (0, 0), (1, 0), (0, 1), (1, 1) of `data`, such as RGGB;
          absent for a monochrome sensor. XBAYROFF and YBAYROFF are 0, ROWORDER is TOP-DOWN.
        - BLKLEV: black level (ADU) as the camera states it; BLKLEV1 to BLKLEV4 in the order of BAYERPAT
          where they differ, BLKLEV being their mean.
        - OBLACK, OBNOISE: clipped mean and scatter of a pixel (ADU) of the optical black border, where there is one.
        - SATURATE: the highest usable value (ADU), black level included.

    Raises
    ------
    FrameUnusable
        ``frame.unreadable``, ``frame.empty``, ``frame.truncated``, ``frame.not_raw`` (LibRaw does not know
        it), ``frame.corrupt``, and ``frame.not_bayer`` for X-Trans, Foveon and other sensors, and for
        files that hold colours already interpolated.
    """
    path = Path(path)
    contents = read_bytes(path)
    with _quiet_stderr() as said:
        try:
            with rawpy.imread(io.BytesIO(contents)) as raw:
                # Nothing is unpacked before it is asked for.
                require_size(raw.sizes.raw_width * raw.sizes.raw_height, path, most=MOST_PIXELS, unit="pixels")
                pattern = _pattern(raw, path)
                data = raw.raw_image_visible.astype(np.float32)
                cards = [*_layout_cards(pattern, raw.color_desc), *_level_cards(raw, pattern)]
                shot = raw.other, raw.lens.model
        except _LIBRAW_ERRORS as error:
            raise _unusable(error, said(), contents, path) from error
    exif = read_exif(contents)
    header = exif_header(exif)
    if not exif:
        header.extend(_shot_cards(*shot))
    elif "LENS" not in header and any(letter.isalnum() for letter in shot[1]):
        header["LENS"] = (_ascii(shot[1]), "lens")
    header.extend([*cards, ("SWCREATE", creator(), "software that made this header")])
    return RawImage(data=data, header=header, integer=True, quantum=value_step(data, 1.0), hdu=0)


@contextmanager
def _quiet_stderr() -> Iterator[Any]:
    """Keep what the C library writes to the error stream; yields a function that returns it."""
    with _stderr_lock, tempfile.TemporaryFile() as kept:

        def said() -> str:
            kept.seek(0)
            return kept.read(10_000).decode("utf-8", "replace")

        if sys.stderr is not None:
            sys.stderr.flush()
        try:
            saved = os.dup(_STDERR)
        except OSError:
            # A process without an error stream has none to keep clean.
            yield said
            return
        try:
            os.dup2(kept.fileno(), _STDERR)
            yield said
        finally:
            os.dup2(saved, _STDERR)
            os.close(saved)


def _unusable(error: BaseException, said: str, contents: bytes, path: Path) -> FrameUnusable:
    detail = error.args[0] if error.args else type(error).__name__
    detail = " ".join((detail.decode("utf-8", "replace") if isinstance(detail, bytes) else str(detail)).split())[:160]
    if isinstance(error, rawpy.LibRawIOError) or "end of file" in said:
        return FrameUnusable(
            f"the file is truncated: it ends at {len(contents)} bytes, and what it points to lies beyond",
            where=str(path),
            hint="copy it again from the camera",
            code="frame.truncated",
        )
    if isinstance(error, rawpy.LibRawFileUnsupportedError):
        return FrameUnusable(
            f"not a camera's raw file, or of a camera that LibRaw {'.'.join(map(str, rawpy.libraw_version))} does not know: "
            f"it starts with {contents[:12]!r}",
            where=str(path),
            hint="convert it to DNG with the maker's or Adobe's converter, or take it out of the folder",
            code="frame.not_raw",
        )
    return FrameUnusable(
        f"the pixels cannot be decoded ({detail})", where=str(path), hint="copy the file again from the camera", code="frame.corrupt"
    )


def _pattern(raw: rawpy.RawPy, path: Path) -> npt.NDArray[np.uint8] | None:
    """Colour indices of the first 2 x 2 visible pixels; None for a monochrome sensor."""
    pattern = raw.raw_pattern if raw.raw_type == rawpy.RawType.Flat else None
    if pattern is None:
        raise _not_bayer("three colours at every pixel (Foveon, or a linear DNG with interpolated colours)", path)
    if pattern.shape == (1, 1):
        return None
    if pattern.shape == (6, 6):
        raise _not_bayer("an X-Trans mosaic of 6 x 6 pixels", path)
    colours = raw.color_desc.decode("latin-1")
    if pattern.shape != (2, 2) or sorted(colours[index] for index in pattern.ravel()) != ["B", "G", "G", "R"]:
        raise _not_bayer(f"a mosaic of {pattern.shape[0]} x {pattern.shape[1]} pixels of the colours {colours}", path)
    sizes = raw.sizes
    visible: npt.NDArray[np.uint8] = np.roll(pattern, (-sizes.top_margin, -sizes.left_margin), (0, 1))
    return visible


def _not_bayer(met: str, path: Path) -> FrameUnusable:
    return FrameUnusable(
        f"{met}, where a Bayer mosaic of R, G, G, B is needed",
        where=str(path),
        hint="such sensors are not supported: leave its files out of the folder",
        code="frame.not_bayer",
    )


def _layout_cards(pattern: npt.NDArray[np.uint8] | None, colours: bytes) -> list[tuple[str, Any, str]]:
    cards: list[tuple[str, Any, str]] = [("ROWORDER", "TOP-DOWN", "the first row is the top of the picture")]
    if pattern is None:
        return cards
    letters = "".join(chr(colours[index]) for index in pattern.ravel())
    offsets = [("XBAYROFF", 0, "[pix] x offset of BAYERPAT"), ("YBAYROFF", 0, "[pix] y offset of BAYERPAT")]
    return [("BAYERPAT", letters, "colours of the first 2 x 2 pixels, row by row"), *offsets, *cards]


def _level_cards(raw: rawpy.RawPy, pattern: npt.NDArray[np.uint8] | None) -> list[tuple[str, Any, str]]:
    by_colour = raw.black_level_per_channel
    blacks = [float(by_colour[index]) for index in (pattern.ravel() if pattern is not None else (0,))]
    black = sum(blacks) / len(blacks)
    cards: list[tuple[str, Any, str]] = [("BLKLEV", black, "[adu] black level, as the camera states it")]
    if len(set(blacks)) > 1:
        cards += [(f"BLKLEV{n}", level, f"[adu] of pixel {n} of BAYERPAT") for n, level in enumerate(blacks, start=1)]
    white = float(raw.white_level)
    # The maker's limit, where the file has one, is below the end of the converter's range; nonsense is known among the values.
    limits = [float(level) for level in raw.camera_white_level_per_channel or () if level - black > _LEAST_RANGE * (white - black)]
    white = min([white, *limits])
    if white > black:
        cards.append(("SATURATE", white, "[adu] highest usable value, with black level"))
        found = _optical_black(raw, black, white)
        if found is not None:
            cards.append(("OBLACK", found[0], "[adu] mean of the optical black border"))
            cards.append(("OBNOISE", found[1], "[adu] scatter of a pixel of it"))
    return cards


def _optical_black(raw: rawpy.RawPy, black: float, white: float) -> tuple[float, float] | None:
    """Clipped mean and scatter of the masked border at the left, else at the top; None where none is seen to be one."""
    sizes = raw.sizes
    borders = []
    if sizes.left_margin >= _LEAST_BORDER:
        borders.append(raw.raw_image[sizes.top_margin :, _OUTER : sizes.left_margin - _BESIDE])
    if sizes.top_margin >= _LEAST_BORDER:
        borders.append(raw.raw_image[_OUTER : sizes.top_margin - _BESIDE, sizes.left_margin :])
    for border in borders:
        values = border.astype(np.float32).ravel()
        middle = float(np.median(values))
        # Whole numbers can have no spread at all in the middle: half a step is their own.
        sigma = max(scatter_about(values, middle), 0.5)
        kept = values[np.abs(values - middle) <= _CLIP * sigma]
        mean, scatter = float(kept.mean(dtype=np.float64)), float(kept.std(dtype=np.float64))
        # A padded border has no noise, and a lit one is not at the black level.
        if scatter > 0 and abs(mean - black) <= _BLACK_TOLERANCE * (white - black):
            return round(mean, 4), round(scatter, 4)
    return None


def _shot_cards(other: Any, lens: str) -> list[tuple[str, Any, str]]:
    """What LibRaw knows of the exposure, for formats whose EXIF is not read; its times have no sub-seconds."""
    # LibRaw takes the clock for this machine's local time and rawpy turns it back: it is the camera's again.
    local = other.timestamp.replace(microsecond=0).isoformat() if other.timestamp.year > 1970 else None
    cards = [
        ("DATE-LOC", local, "start of exposure, clock of the camera"),
        ("EXPTIME", float(str(np.float32(other.shutter_speed))), "[s] exposure time"),
        ("ISOSPEED", int(other.iso_speed), "ISO speed setting"),
        ("LENS", _ascii(lens), "lens"),
        ("FOCALLEN", float(other.focal_length), "[mm] focal length of the lens"),
        ("APERTURE", float(str(np.float32(other.aperture))), "f-number of the lens"),
    ]
    return [card for card in cards if card[1]]


def _ascii(text: str) -> str:
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text).strip()
