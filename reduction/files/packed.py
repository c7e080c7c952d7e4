"""Reading product files, and putting cards into them, without astropy: of a small frame its headers cost more than the pixels.

Only what `reduction.files.product` writes is understood. `None` for anything else, damaged files among it: astropy then reads
the file, or says what is the matter with it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

__all__ = ["header_end", "unpacked_planes", "with_cards"]

_CARD = 80
_BLOCK = 2880
_ZBITPIX = {8: np.uint8, 16: np.int16, 32: np.int32, -32: np.float32}
_CODES = {1: np.uint8, 2: np.int16, 4: np.int32}
_ZERO_CODE = -2147483646  # what SUBTRACTIVE_DITHER_2 keeps for zero (FITS standard 4.0, 10.2.2)
_N_RANDOM = 10_000
#: Columns of tiles by the bytes of their values: a pair (length, offset) of 32 bits, or a double.
_COLUMNS = {"PB": ">i4,>i4", "D": ">f8"}

_BROKEN = (
    imagecodecs.DelayedImportError,
    imagecodecs.RcompError,
    imagecodecs.DeflateError,
    imagecodecs.GzipError,
    ValueError,
    KeyError,
    IndexError,
    OverflowError,
)


def header_end(contents: bytes | memoryview, start: int) -> int:
    """Where the header that begins at `start` ends, blocks filled; ValueError where it has no end."""
    for block in range(start, len(contents), _BLOCK):
        text = bytes(contents[block : block + _BLOCK])
        # Cards begin at multiples of 80: the letters may be part of a value elsewhere.
        if any(text[card : card + 8] == b"END     " for card in range(0, len(text), _CARD)):
            return block + _BLOCK
    raise ValueError("no END")


def unpacked_planes(contents: bytes) -> dict[str, npt.NDArray[Any]] | None:
    """Planes of a product file by name, in native byte order; None where it is not one of ours, whole and sound.

    Parameters
    ----------
    contents : bytes
        The file.
    """
    try:
        return {plane.name: plane.pixels() for plane in _extensions(contents)}
    except _BROKEN:
        return None


def with_cards(contents: bytes, gone: re.Pattern[str], cards: Iterable[str]) -> bytes:
    """A product file with other cards in the headers of its planes; the pixels stay as they are.

    Parameters
    ----------
    contents : bytes
        The file.
    gone : pattern
        Keywords, whole, of cards that are taken out.
    cards : iterable of str
        Cards of 80 characters that are put at each header's end.

    Raises
    ------
    ValueError, KeyError
        The file is cut short, or not one of ours.
    """
    end = header_end(contents, 0)
    parts, new = [contents[:end]], "".join(cards)
    for plane in _extensions(contents):
        start, end = end, header_end(contents, end)
        text = contents[start:end].decode("ascii")
        lines = [text[k : k + _CARD] for k in range(0, len(text), _CARD)]
        kept = [line for line in lines[: lines.index("END".ljust(_CARD))] if not gone.fullmatch(line[:8].rstrip())]
        header = "".join(kept) + new + "END".ljust(_CARD)
        size = -(-len(plane.data) // _BLOCK) * _BLOCK
        parts += [header.ljust(-(-len(header) // _BLOCK) * _BLOCK).encode("ascii"), contents[end : end + size]]
        end += size
    return b"".join(parts)


@dataclass(frozen=True)
class _Plane:
    cards: Mapping[str, Any]
    data: memoryview

    @property
    def name(self) -> str:
        return str(self.cards["EXTNAME"])

    def pixels(self) -> npt.NDArray[Any]:
        cards = self.cards
        if any(name in cards for name in ("BLANK", "BSCALE", "BZERO", "THEAP")) or cards["ZNAXIS"] != 2:
            raise ValueError("not ours")
        nx, ny, rows = cards["ZNAXIS1"], cards["ZNAXIS2"], cards["ZTILE2"]
        table = self._table()
        if cards["ZTILE1"] != nx or len(table) != -(-ny // rows):
            raise ValueError("not ours")
        out = np.empty((ny, nx), dtype=_ZBITPIX[cards["ZBITPIX"]])
        for number, entry in enumerate(table):
            tile = out[number * rows : (number + 1) * rows]
            tile[:] = self._tile(number, entry, tile.shape)
        return out.astype(cards.get("PLANETYP", out.dtype), copy=False)

    def _table(self) -> npt.NDArray[np.void]:
        kinds = {
            self.cards[f"TTYPE{k}"]: _COLUMNS[self.cards[f"TFORM{k}"].lstrip("1").partition("(")[0]]
            for k in range(1, self.cards["TFIELDS"] + 1)
        }
        return np.frombuffer(self.data, dtype=np.dtype(list(kinds.items())), count=self.cards["NAXIS2"])

    def _tile(self, number: int, entry: np.void, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        names = entry.dtype.names or ()
        packed = self._heap(entry["COMPRESSED_DATA"])
        if self.cards["ZCMPTYPE"] == "GZIP_2" and "ZSCALE" not in names:
            return _unshuffled(imagecodecs.gzip_decode(packed, out=4 * math.prod(shape))).reshape(shape)
        if self.cards["ZCMPTYPE"] != "RICE_1" or (self.cards["ZNAME1"], self.cards["ZNAME2"]) != ("BLOCKSIZE", "BYTEPIX"):
            raise ValueError("not ours")
        codes = imagecodecs.rcomp_decode(packed, shape=shape, dtype=_CODES[self.cards["ZVAL2"]], nblock=self.cards["ZVAL1"])
        if "ZSCALE" in names:
            return self._values(number, codes, float(entry["ZSCALE"]), float(entry["ZZERO"]))
        if "ZBLANK" in self.cards:
            raise ValueError("not ours")
        return codes

    def _heap(self, place: np.void) -> bytes:
        length, offset = place.item()
        start = self.cards["NAXIS1"] * self.cards["NAXIS2"] + offset
        if offset < 0 or start + length > len(self.data):
            raise ValueError("beyond the heap")
        return bytes(self.data[start : start + length])

    def _values(self, number: int, codes: npt.NDArray[np.integer], scale: float, zero: float) -> npt.NDArray[Any]:
        method = self.cards.get("ZQUANTIZ", "NO_DITHER")
        if method == "NO_DITHER":
            values = codes * scale + zero
        elif method == "SUBTRACTIVE_DITHER_2":
            dither = _dither(number + self.cards["ZDITHER0"], codes.size).reshape(codes.shape)
            values = np.where(codes == _ZERO_CODE, 0.0, (codes - dither + 0.5) * scale + zero)
        else:
            raise ValueError("not ours")
        if "ZBLANK" in self.cards:
            values[codes == self.cards["ZBLANK"]] = np.nan
        return values


def _unshuffled(contents: bytes | bytearray) -> npt.NDArray[np.float32]:
    """Values of which all first bytes come first, the highest, then all second ones."""
    first, *others = np.frombuffer(contents, np.uint8).reshape(4, -1)
    # Shifting whole words is several times as fast as moving single bytes.
    words = first.astype(np.uint32)
    for lower in others:
        words <<= 8
        words |= lower
    return words.view(np.float32)


@cache
def _random() -> npt.NDArray[np.float64]:
    """The dither's random numbers, those of every FITS file (FITS standard 4.0, appendix I)."""
    values, seed = np.empty(_N_RANDOM, np.float32), 1
    for k in range(_N_RANDOM):
        seed = (16807 * seed) % 2147483647
        values[k] = seed / 2147483647
    return values.astype(np.float64)


def _dither(row: int, n: int) -> npt.NDArray[np.float64]:
    """Random numbers of the `n` pixels of a tile."""
    random, parts, first = _random(), [], (row - 1) % _N_RANDOM
    while n > 0:
        start = int(random[first] * 500)
        parts.append(random[start : start + n])
        n -= len(parts[-1])
        first = (first + 1) % _N_RANDOM
    return np.concatenate(parts)


def _extensions(contents: bytes) -> Iterator[_Plane]:
    """Every HDU after the first, which holds no pixels; ValueError unless they make up the whole file."""
    view = memoryview(contents)
    start = header_end(view, 0)
    primary, count = _cards(view[:start]), 0
    if primary.get("NAXIS") != 0:
        raise ValueError("not ours")
    while start < len(contents):
        end = header_end(view, start)
        cards = _cards(view[start:end])
        size = cards["NAXIS1"] * cards["NAXIS2"] + cards["PCOUNT"]
        if cards["XTENSION"] != "BINTABLE" or cards["ZIMAGE"] is not True or end + size > len(contents):
            raise ValueError("not ours")
        yield _Plane(cards, view[end : end + size])
        start, count = end + -(-size // _BLOCK) * _BLOCK, count + 1
    if primary["NPLANES"] != count or start != len(contents):
        raise ValueError("not whole")


def _cards(header: memoryview) -> dict[str, Any]:
    """Values of the structural keywords, which are all that is asked for; ValueError for what cannot be read."""
    text = bytes(header).decode("ascii")
    cards: dict[str, Any] = {}
    for start in range(0, len(text), _CARD):
        keyword = text[start : start + 8].rstrip()
        if keyword == "END":
            break
        if keyword.startswith(_STRUCTURE) and text[start + 8 : start + 10] == "= ":
            cards.setdefault(keyword, _value(text[start + 10 : start + _CARD]))
    return cards


_STRUCTURE = (
    "XTENSION",
    "NAXIS",
    "PCOUNT",
    "TFIELDS",
    "TTYPE",
    "TFORM",
    "THEAP",
    "Z",
    "EXTNAME",
    "PLANETYP",
    "NPLANES",
    "BLANK",
    "BS",
    "BZ",
)


def _value(text: str) -> bool | int | float | str:
    if text.lstrip().startswith("'"):
        return text.lstrip()[1:].partition("'")[0].rstrip()
    word = text.partition("/")[0].strip()
    if word in ("T", "F"):
        return word == "T"
    return int(word) if word.lstrip("+-").isdigit() else float(word)
