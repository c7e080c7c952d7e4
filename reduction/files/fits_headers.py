"""Headers of a FITS file before anything of it is decoded: where its parts lie, whether what they declare can be, and mended cards.

A card that cannot be read is kept as a text of what is legible, so that the rest of the header and the pixels can be.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from astropy.io import fits

from db.errors import FrameUnusable
from reduction.files.contents import MOST_PIXELS, require_size, too_large

__all__ = ["MOST_CARDS", "Part", "corrupt", "cut_header", "legible", "parts_of"]

MOST_CARDS = 20_000
"""Cards of a header: those of the longest pipelines have some thousands."""

_CARD, _BLOCK = 80, 2880
_BITPIX = (8, 16, 32, 64, -32, -64)
_MOST_AXES, _MOST_FIELDS = 99, 999
#: Cards as nearly all are written, which need no closer look.
_PLAIN = re.compile(
    rb"(?:COMMENT |HISTORY |        )[ -~]{72}"
    rb"|[A-Z0-9_-]{1,8} *= +(?:'(?:[^'\x00-\x1f\x7f-\xff]|'')*'|[+-]?[0-9]{1,15}(?:\.[0-9]*)?(?:[ED][+-]?[0-9]{1,3})?|[TF])? *(?:/[ -~]*)?"
)
#: Of bytes that no card may hold, NUL and other controls are blanks, and letters of other alphabets question marks.
_LEGIBLE = bytes(code if 32 <= code < 127 else 32 if code < 32 or code == 127 else 63 for code in range(256))
_CONTROLS = re.compile(rb"[\x00-\x1f\x7f]")
_STRUCTURE = re.compile(r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|BSCALE|BZERO|TFIELDS|Z(?:IMAGE|BITPIX|NAXIS\d*|TILE\d+)")


@dataclass(frozen=True)
class Part:
    """A part (HDU) of a FITS file.

    Attributes
    ----------
    data : int
        Byte at which its data begin.
    size : int
        Bytes of data that its header declares, without padding.
    shape : tuple of int
        Of its image, as arrays have it; empty where it is none.
    """

    data: int
    size: int
    shape: tuple[int, ...]

    @property
    def end(self) -> int:
        """Byte behind its data and their padding."""
        return self.data + -(-self.size // _BLOCK) * _BLOCK


def parts_of(contents: bytes, path: Path) -> tuple[bytes, list[Part], tuple[str, ...]]:
    """The parts of a FITS file, checked.

    Parameters
    ----------
    contents : bytes
        The file, decompressed.
    path : Path
        Its name, for errors.

    Returns
    -------
    contents : bytes
        The same, of one length, with cards mended that cannot be read.
    parts : list of Part
        In their order. What is damaged behind an image ends the list.
    damaged : tuple of str
        Keywords of the cards that were mended.

    Raises
    ------
    FrameUnusable
        Before the first image: a header without an end (``frame.truncated``), or that declares what cannot be (``frame.corrupt``) or
        is too much for a raw frame (``frame.too_large``).
    """
    pieces: list[bytes] = []
    parts: list[Part] = []
    damaged: list[str] = []
    start = kept = 0
    while start < len(contents) and (not parts or contents.startswith(b"XTENSION", start)):
        try:
            end = _header_end(contents, start, path)
            header, bad, cards = _mended(contents[start:end])
            part = _part(cards, end, len(parts), path)
        except FrameUnusable:
            if any(len(part.shape) >= 2 for part in parts):
                break  # no reason to lose the image
            raise
        if header is not None:
            pieces += [contents[kept:start], header]
            kept = end
        damaged += bad
        parts.append(part)
        start = part.end
    return (b"".join([*pieces, contents[kept:]]) if pieces else contents), parts, tuple(dict.fromkeys(damaged))


def corrupt(what: str, path: Path) -> FrameUnusable:
    """The error for a file whose header or pixels cannot be understood."""
    return FrameUnusable(what, where=str(path), hint="copy the file again from its source", code="frame.corrupt")


def legible(header: bytes) -> bytes:
    """A whole header, of which every card can be read: those that could not are texts of what is legible."""
    return _mended(header)[0] or header


def cut_header(path: Path, length: int, detail: str) -> FrameUnusable:
    """The error for a file that ends within a header."""
    return FrameUnusable(
        f"a header has no end in a file of {length} bytes ({detail})",
        where=str(path),
        hint="copy the file again from its source",
        code="frame.truncated",
    )


def _header_end(contents: bytes, start: int, path: Path) -> int:
    """Where the header ends that begins at `start`, blocks filled."""
    for number in range(MOST_CARDS + 1):
        card = contents[start + number * _CARD : start + (number + 1) * _CARD]
        if card.rstrip(b" \0") == b"END":
            end = start + -(-(number + 1) * _CARD // _BLOCK) * _BLOCK
            if end > len(contents):
                break
            return end
        if len(card) < _CARD:
            break
    else:
        raise too_large(f"a header of more than {MOST_CARDS} cards", f"{MOST_CARDS} cards", path)
    raise cut_header(path, len(contents), "no card END")


def _mended(header: bytes) -> tuple[bytes | None, list[str], dict[str, str]]:
    """The header where a card of it had to be mended, else None; keywords of such cards; the values of structural cards as written."""
    found: dict[str, str] = {}
    bad: list[str] = []
    lines = [header[place : place + _CARD] for place in range(0, len(header), _CARD)]
    last = next(number for number, line in enumerate(lines) if line.rstrip(b" \0") == b"END")
    kept = [*lines[:last], b"END".ljust(_CARD), *(b" " * _CARD for _ in lines[last + 1 :])]
    number = 0
    while number < last:
        group = 1
        while number + group < last and lines[number + group].startswith(b"CONTINUE") and b"&'" in lines[number + group - 1]:
            group += 1
        if group > 1 or not _PLAIN.fullmatch(lines[number]):
            kept[number : number + group], keyword = _mended_card(lines[number : number + group])
            bad += [keyword] if keyword else []
        word = kept[number][:8].rstrip().decode("ascii")
        if _STRUCTURE.fullmatch(word) and word not in found:
            found[word] = kept[number][10:].decode("ascii")
        number += group
    changed = b"".join(kept)
    return (changed if changed != header else None), bad, found


def _mended_card(lines: list[bytes]) -> tuple[list[bytes], str]:
    """A card, with the cards that go on with its text, as one that can be read; its keyword, where that changed more than letters."""
    image = b"".join(lines).translate(_LEGIBLE)
    keyword = image[:8].decode("ascii").strip()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            card = fits.Card.fromstring(image)
            text = f"{card.keyword}{card.value}{card.comment}"
            if not text.isprintable() or keyword == "CONTINUE":
                raise ValueError("not legible")
            # What astropy cannot write again as a card it cannot give others, either.
            str(fits.Header([card], copy=True))
    except (fits.VerifyError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError):
        return [str(_as_text(image.decode("ascii"))).encode("ascii"), *[b" " * _CARD] * (len(lines) - 1)], keyword or "a blank keyword"
    changed = any(_CONTROLS.search(line) for line in lines)
    return [image[place : place + _CARD] for place in range(0, len(image), _CARD)], keyword if changed else ""


def _as_text(image: str) -> fits.Card:
    """What can be read of a card, as a text."""
    keyword = image[:8].strip().upper()
    value, _, remark = image[8:_CARD].lstrip("= ").partition("/")
    text = value.strip().strip("'\"").strip().replace("'", "")[:60]
    if keyword == "CONTINUE" or not keyword.replace("-", "").replace("_", "").isalnum():
        return fits.Card("COMMENT", text)
    # The unit may stand in the remark; what does not fit behind the text goes.
    return fits.Card(keyword, text, remark.strip()[: max(0, _CARD - len(str(fits.Card(keyword, text)).rstrip()) - 3)])


def _part(cards: Mapping[str, str], data: int, number: int, path: Path) -> Part:
    """What a header declares."""
    declared = _Declared(cards, number, path)
    bits = declared.integer("BITPIX", None)
    if bits not in _BITPIX:
        raise declared.wrong("BITPIX", f"one of {', '.join(map(str, _BITPIX))}")
    axes = [declared.integer(f"NAXIS{axis}", None) for axis in range(1, declared.integer("NAXIS", None, most=_MOST_AXES) + 1)]
    groups = axes[1:] if axes and axes[0] == 0 and number == 0 else axes
    count = declared.integer("GCOUNT", 1) * (declared.integer("PCOUNT", 0) + (math.prod(groups) if groups else 0))
    kind = "IMAGE" if number == 0 else cards.get("XTENSION", "").strip().strip("'").partition("'")[0].strip()
    shape: tuple[int, ...] = ()
    if kind == "IMAGE":
        shape = tuple(axes[::-1])
        _require_pixels(shape, path)
        for word in ("BSCALE", "BZERO"):
            declared.number(word)
    elif kind == "BINTABLE" and cards.get("ZIMAGE", "").split("/")[0].strip() == "T":
        shape = _packed_shape(declared)
    return Part(data, abs(bits) // 8 * count, shape)


def _require_pixels(shape: Sequence[int], path: Path) -> None:
    if all(n == 1 for n in shape[:-2]):  # else it is no frame, and is not decoded
        require_size(math.prod(shape), path, most=MOST_PIXELS, unit="pixels")


def _packed_shape(declared: _Declared) -> tuple[int, ...]:
    """Shape of a compressed image, of which tiles may not be larger, nor more than the table has rows."""
    axes = [declared.integer(f"ZNAXIS{axis}", None) for axis in range(1, declared.integer("ZNAXIS", None, most=_MOST_AXES) + 1)]
    _require_pixels(axes[::-1], declared.path)
    if declared.integer("ZBITPIX", None) not in _BITPIX:
        raise declared.wrong("ZBITPIX", f"one of {', '.join(map(str, _BITPIX))}")
    declared.integer("TFIELDS", None, most=_MOST_FIELDS)
    rows = declared.integer("NAXIS2", None)
    tiles = 1
    for axis, size in enumerate(axes, start=1):
        width = declared.integer(f"ZTILE{axis}", size if axis == 1 else 1)
        if not 0 < width <= max(size, 1):
            raise declared.wrong(f"ZTILE{axis}", f"1 to {size}")
        tiles *= -(-size // width)
    if tiles != rows:
        raise corrupt(f"{rows} tiles in part {declared.part}, where an image of {' x '.join(map(str, axes))} has {tiles}", declared.path)
    return tuple(axes[::-1])


@dataclass(frozen=True)
class _Declared:
    """Values of structural cards, as text."""

    cards: Mapping[str, str]
    part: int
    path: Path

    def wrong(self, word: str, allowed: str) -> FrameUnusable:
        met = self.cards[word].split("/")[0].strip() if word in self.cards else "nothing"
        return corrupt(f"{word} = {met[:40]} in the header of part {self.part}, allowed is {allowed}", self.path)

    def integer(self, word: str, default: int | None, *, most: int = 2**63) -> int:
        """A whole number; BITPIX may be below 0."""
        text = self.cards[word].split("/")[0].strip() if word in self.cards else default
        if text is None or not re.fullmatch(r"[+-]?\d{1,20}", str(text)):
            raise self.wrong(word, "a whole number")
        value = int(text)
        if abs(value) > most or (value < 0 and "BITPIX" not in word):
            raise self.wrong(word, f"0 to {most}")
        return value

    def number(self, word: str) -> None:
        """Refuse a scale that is no number: which pixels it makes nobody knows."""
        if word not in self.cards:
            return
        text = self.cards[word].split("/")[0].strip().upper().replace("D", "E")
        try:
            finite = math.isfinite(float(text))
        except ValueError:
            finite = False
        if not finite:
            raise self.wrong(word, "a number")
