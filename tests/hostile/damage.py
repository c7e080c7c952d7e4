"""Damaged files of every kind that the program reads, each made from a good one by a seed, and files that are none."""

from __future__ import annotations

import gzip
import io
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import camera_files
import imagecodecs
import numpy as np
import tifffile
from astropy.io import fits
from astropy.table import Table

__all__ = ["RAW", "STRANGE_NAMES", "TABLES", "good_files", "mutant", "special_files"]

#: Kinds that a night's folder may hold, and kinds of catalogues.
RAW = ("plain", "float", "extension", "rice", "gzip", "hcompress", "plio", "gz", "tiff", "png", "dng")
TABLES = ("ecsv", "votable", "csv", "table")
_SUFFIXES = {
    **dict.fromkeys(("rice", "gzip", "hcompress", "plio"), ".fits.fz"),
    "gz": ".fits.gz",
    "tiff": ".tif",
    "png": ".png",
    "dng": ".dng",
    "ecsv": ".ecsv",
    "votable": ".vot",
    "csv": ".csv",
    "toml": ".toml",
}
_SHAPE = (64, 80)

_CONFIG = """\
[detect]
threshold = 4.5
[default]
gain = 1.3
[override]
time_offset = -0.35
[catalogue_columns]
V = "Vmag"
[[instrument]]
name = "roof"
match = { INSTRUME = "QHY*" }
keywords = { exptime = ["SHUTTER"] }
expressions = { gain = "206.265 * XPIXSZ / FOCALLEN" }
image_types = { "light*" = "object" }
"""


def good_files(seed: int = 7) -> dict[str, bytes]:
    """A good file of each kind; the frames are of a camera, a night and a field of their own."""
    rng = np.random.default_rng(seed)
    values = rng.normal(900.0, 12.0, _SHAPE)
    for x, y, flux in zip(rng.uniform(6, 74, 4), rng.uniform(6, 58, 4), 10 ** rng.uniform(2.8, 4.2, 4), strict=True):  # too few to look for
        row, column = np.indices(_SHAPE)
        values += flux / 14.0 * np.exp(-((column - x) ** 2 + (row - y) ** 2) / 4.5)
    whole = np.rint(values).clip(0, 65535).astype(np.uint16)
    header = _header()
    hdus = {
        "plain": [fits.PrimaryHDU(whole, header)],
        "float": [fits.PrimaryHDU(values.astype(np.float32), header)],
        "extension": [fits.PrimaryHDU(header=header), fits.ImageHDU(whole), fits.ImageHDU(whole)],
    }
    for kind in ("rice", "gzip", "hcompress", "plio"):
        data = whole.astype(np.int16) if kind == "plio" else whole
        hdus[kind] = [fits.PrimaryHDU(), fits.CompImageHDU(data, header, compression_type=f"{kind.upper()}_1")]
    files = {kind: _written(fits.HDUList(some)) for kind, some in hdus.items()}
    files["gz"] = gzip.compress(files["plain"], mtime=0)
    picture = io.BytesIO()
    tifffile.imwrite(picture, whole, compression="zlib", photometric="minisblack")
    return {**files, "tiff": picture.getvalue(), "png": imagecodecs.png_encode(whole), **_tables(rng), "toml": _CONFIG.encode()}


def _header() -> fits.Header:
    return fits.Header(
        [
            ("EXPTIME", 30.0, "[s]"),
            ("DATE-OBS", "2019-02-03T04:05:06.789", "UTC, start"),
            ("IMAGETYP", "Light Frame"),
            ("INSTRUME", "Stranger's camera"),
            ("OBJECT", "a field of nobody's & more of the text than one card can hold, so that it goes on in the next one"),
            ("FILTER", "V"),
            ("XBINNING", 1),
            ("GAIN", 1.5, "[electron/adu]"),
            ("CCD-TEMP", -20.0),
            ("RA", 200.0),
            ("DEC", -30.0),
            ("SITELAT", 10.0),
            ("SITELONG", 20.0),
            ("HISTORY", "made by a test"),
        ]
    )


def _written(hdus: fits.HDUList) -> bytes:
    buffer = io.BytesIO()
    hdus.writeto(buffer)
    return buffer.getvalue()


def _tables(rng: np.random.Generator) -> dict[str, bytes]:
    n = 40
    table = Table({"ra": rng.uniform(199, 201, n), "dec": rng.uniform(-31, -29, n), "Vmag": rng.uniform(8, 14, n), "tyc": ["1-2-3"] * n})
    made = {}
    for kind, form in (("ecsv", "ascii.ecsv"), ("csv", "ascii.csv")):
        text = io.StringIO()
        table.write(text, format=form)
        made[kind] = text.getvalue().encode()
    for kind, form in (("votable", "votable"), ("table", "fits")):
        buffer = io.BytesIO()
        table.write(buffer, format=form)
        made[kind] = buffer.getvalue()
    return made


def dng(folder: Path) -> bytes:
    """A camera's raw file; its writer wants a folder."""
    mosaic = np.random.default_rng(3).integers(500, 900, _SHAPE).astype(np.uint16)
    return camera_files.write_dng(folder / "good.dng", mosaic, packed=True).read_bytes()


# --- what happens to files


def _flipped(contents: bytes, rng: np.random.Generator) -> bytes:
    damaged = np.frombuffer(contents, np.uint8).copy()
    places = rng.integers(0, len(damaged), int(rng.choice([1, 3, 30, 300])))
    damaged[places] ^= (1 << rng.integers(0, 8, len(places))).astype(np.uint8)
    return damaged.tobytes()


def _cut(contents: bytes, rng: np.random.Generator) -> bytes:
    return contents[: int(rng.integers(0, len(contents)))]


def _block(contents: bytes, rng: np.random.Generator) -> bytes:
    """A block taken out, put in, doubled or overwritten."""
    size = int(rng.choice([1, 7, 80, 512, 2880]))
    place = int(rng.integers(0, len(contents)))
    filling = [rng.bytes(size), b"\0" * size, contents[:size], b"\xff" * size][int(rng.integers(4))]
    return [contents[:place] + contents[place + size :], contents[:place] + filling + contents[place:]][int(rng.integers(2))]


def _head(contents: bytes, rng: np.random.Generator) -> bytes:
    """Bits flipped where formats say what they hold."""
    return _flipped(contents[:400], rng) + contents[400:]


_VALUES = (
    *("'x'", "2.5", "-1", "0", "99999999999999999999999999", "1E400", "NaN", "T", "'", "'never ends", "1000000000", "-32768", "2147483648"),
    *("'1899-01-01T00:00:00'", "'2099-01-01T00:00:00'", "1E10", "1E-320", "1000000", "(1.0, 2.0)", "", "'a''", "'\\x1b[31m'", "'[1:9,'"),
)
_WORDS = (
    *("BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "BSCALE", "BZERO", "BLANK", "PCOUNT", "GCOUNT", "SIMPLE", "XTENSION", "EXTEND", "THEAP"),
    *("ZIMAGE", "ZNAXIS", "ZNAXIS1", "ZNAXIS2", "ZBITPIX", "ZTILE1", "ZTILE2", "ZCMPTYPE", "ZSCALE", "ZZERO", "ZVAL1", "ZVAL2", "ZNAME1"),
    *("ZQUANTIZ", "TFIELDS", "TFORM1", "TTYPE1"),
    *("EXPTIME", "DATE-OBS", "XBINNING", "GAIN", "CCD-TEMP", "RA", "DEC", "SITELAT", "OBJECT", "FILTER", "IMAGETYP"),
)


def _card(contents: bytes, rng: np.random.Generator) -> bytes:
    """Some card of a header made nonsense."""
    ends = [place for place in range(0, min(len(contents), 40_000), 80) if contents[place : place + 8] == b"END     "]
    if not ends:
        return _flipped(contents, rng)
    lines = [contents[place : place + 80] for place in range(0, ends[-1], 80)]
    chosen = int(rng.integers(0, len(lines)))
    word = _WORDS[int(rng.integers(len(_WORDS)))].ljust(8).encode()
    held = [number for number, line in enumerate(lines) if line[:8] == word]
    kind = int(rng.integers(8))
    if kind <= 3:
        number = held[0] if held else chosen
        value = _VALUES[int(rng.integers(len(_VALUES)))].encode().decode("unicode_escape").encode("latin-1")
        lines[number] = (word + b"= " + value).ljust(80)[:80]
    elif kind == 4:
        lines[chosen] = lines[chosen].replace(b" ", b"\0")
    elif kind == 5:
        lines[chosen] = lines[chosen][:10] + rng.bytes(70)
    elif kind == 6:
        lines[chosen] = rng.bytes(8) + lines[chosen][8:]
    else:
        lines[chosen] = lines[chosen].replace(b"'", b" ", 1)
    return b"".join(lines) + contents[ends[-1] :]


def _cards(contents: bytes, rng: np.random.Generator) -> bytes:
    """Far too many cards, or no END."""
    end = contents.find(b"END     ")
    if end < 0:
        return _cut(contents, rng)
    if rng.integers(2):
        return contents[:end] + b" " * 8 + contents[end + 8 :]
    return contents[:end] + b"COMMENT never ends".ljust(80) * 36 * int(rng.choice([10, 1000, 6000])) + contents[end:]


def _bomb(contents: bytes, rng: np.random.Generator) -> bytes:
    """Gigabytes in a few megabytes."""
    head = contents[:2880].replace(b"NAXIS1  =                   80", b"NAXIS1  =                40000")
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0) as stream:
        stream.write(head)
        for _ in range(int(rng.choice([2, 40]))):
            stream.write(bytes(2**25))
    return packed.getvalue()


def _word(contents: bytes, rng: np.random.Generator) -> bytes:
    """Some word of a text made nonsense."""
    words = contents.split(b" ")
    strange = (
        b"nan",
        b"1e400",
        b"[" * 5000,
        b"\0",
        b"\x1b[2J",
        b"\xff\xfe",
        b"9" * 5000,
        b"'",
        b'"',
        b"<",
        b"&a;",
        b"-",
        b"a.b.c = 1\n",
        b"",
    )
    for place in rng.integers(0, len(words), int(rng.choice([1, 2, 5]))):
        words[int(place)] = strange[int(rng.integers(len(strange)))]
    return b" ".join(words)


_Mutation = Callable[[bytes, np.random.Generator], bytes]
_ANY: tuple[_Mutation, ...] = (_flipped, _head, _cut, _block)
_OF_KIND: dict[str, tuple[_Mutation, ...]] = {
    **dict.fromkeys(("plain", "float", "extension", "rice", "gzip", "hcompress", "plio", "table"), (*_ANY, _card, _card, _card, _cards)),
    **dict.fromkeys(("ecsv", "votable", "csv", "toml"), (*_ANY, _word, _word, _word)),
}


def mutant(kind: str, good: bytes, seed: int) -> tuple[str, bytes]:
    """Name and contents of a damaged file: the same ones for the same seed."""
    rng = np.random.default_rng([seed, *kind.encode()])
    mutations = _OF_KIND.get(kind, _ANY)
    made = mutations[int(rng.integers(len(mutations)))](good, rng)
    if kind == "gz" and rng.integers(2):
        made = gzip.compress(_OF_KIND["plain"][int(rng.integers(8))](gzip.decompress(good), rng), mtime=0)
    if kind == "gz" and rng.integers(12) == 0:
        made = _bomb(gzip.decompress(good), rng)
    suffix = _SUFFIXES.get(kind, ".fits")
    if kind in RAW and rng.integers(15) == 0:
        suffix = [".fits", ".fits.fz", ".fits.gz", ".cr2", ".tif"][int(rng.integers(5))]
    return f"{kind}-{seed}{suffix}", made


#: Names of files that terminals, databases and commands stumble over.
STRANGE_NAMES = (
    *(b"not-\xff\xfe-utf8", b"a\nnewline", b"\x1b[31mred\x1b]0;title\x07", b"n" * 240, b"-o", b"'; DROP TABLE frame; --"),
    "\u202egnp".encode(),
)


def special_files(folder: Path, frame: bytes) -> Iterator[Path]:
    """Files that are none, and names that are strange; each yielded when it is there."""

    def link(name: str, target: str | Path) -> Path:
        (folder / name).symlink_to(target)
        return folder / name

    os.mkfifo(folder / "fifo.fits")
    yield folder / "fifo.fits"
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(folder)  # the address of a socket may not be long
        server.bind("socket.fits")
        os.chdir(here)
    yield folder / "socket.fits"
    yield link("zeros.fits", "/dev/zero")
    yield link("null.fits", "/dev/null")
    yield link("to-fifo.fits", "fifo.fits")
    yield link("dangling.fits", "nowhere")
    yield link("itself.fits", "itself.fits")
    yield link("one.fits", "other.fits")
    yield link("other.fits", "one.fits")
    yield link("up.fits", "..")
    (folder / "folder.fits").mkdir()
    yield folder / "folder.fits"
    for name, size in (("huge.fits", 2**40), ("large.fits", 700_000_000), ("empty.fits", 0), ("huge.fits.gz", 2**40), ("huge.dng", 2**40)):
        with (folder / name).open("wb") as stream:
            stream.truncate(size)
        yield folder / name
    (folder / "unreadable.fits").write_bytes(frame + b" ")
    (folder / "unreadable.fits").chmod(0)
    yield folder / "unreadable.fits"
    for number, name in enumerate(STRANGE_NAMES):
        path = folder / os.fsdecode(name + b".fits")
        path.write_bytes(frame.replace(b"2019-02-03T04:05:06", b"2019-02-03T05:0%d:06" % number))
        yield path
    (folder / "far.fits").write_bytes(frame.replace(b"2019-02-03T04:05:06", b"2019-02-03T06:05:06"))
    os.utime(folder / "far.fits", ns=(2**62, 2**62))
    yield folder / "far.fits"
