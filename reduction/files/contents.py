"""The bytes of a file from a stranger: regular files only, and no more of them than a raw frame can have."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from db.errors import FrameUnusable

__all__ = ["MOST_BYTES", "MOST_PIXELS", "decompressed", "open_regular", "read_bytes", "require_size", "sha256_of", "too_large"]

MOST_BYTES = 800_000_000
"""Bytes of a raw file, as it lies there and decompressed: a sensor of 200 million pixels of 32 bits."""

MOST_PIXELS = 200_000_000
"""Pixels of a raw frame: the largest sensors have 151 million."""

#: How packed files begin, and what unpacks them.
_PACKERS: tuple[tuple[bytes, str, Callable[[io.BytesIO], gzip.GzipFile | bz2.BZ2File]], ...] = (
    (b"\x1f\x8b", "gzip", lambda stream: gzip.GzipFile(fileobj=stream)),
    (b"BZh", "bzip2", bz2.BZ2File),
)
#: The same, for who only asks.
PACKED = tuple(start for start, _, _ in _PACKERS)
_PIECE = 2**20
_KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"))


@contextmanager
def open_regular(path: str | Path) -> Iterator[io.BufferedReader]:
    """Open a regular file, or a link to one, for reading; nothing else is opened, since reading it may never end.

    Raises
    ------
    FrameUnusable
        It cannot be read (code ``frame.unreadable``), or is a FIFO, a socket, a device or a folder (``frame.not_file``).
    """
    try:
        _require_regular(path, Path(path).stat())
        # Should it have become a FIFO since, opening it does not wait for a writer.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(handle, "rb") as stream:  # noqa: PTH123  a handle has no path
            _require_regular(path, os.fstat(stream.fileno()))
            yield stream
    except OSError as error:
        raise FrameUnusable(
            f"cannot be read ({error.strerror or one_line(error)})",
            where=str(path),
            hint="check the path and its permissions",
            code="frame.unreadable",
        ) from error


def _require_regular(path: str | Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for test, name in _KINDS if test(status.st_mode)), "a device")
        raise FrameUnusable(f"{kind}, where a file is needed", where=str(path), hint="take it out of the folder", code="frame.not_file")


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits.

    Raises
    ------
    FrameUnusable
        As `open_regular`, and where the file is too large for a raw frame (``frame.too_large``).
    """
    with open_regular(path) as stream:
        require_size(os.fstat(stream.fileno()).st_size, path)
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_bytes(path: str | Path) -> bytes:
    """All bytes of a file.

    Raises
    ------
    FrameUnusable
        As `sha256_of`, and where the file holds nothing (``frame.empty``).
    """
    with open_regular(path) as stream:
        require_size(os.fstat(stream.fileno()).st_size, path)
        contents = stream.read()
    if not contents:
        raise FrameUnusable("the file is empty (0 bytes)", where=str(path), hint="copy it again from its source", code="frame.empty")
    return contents


def require_size(size: int, path: str | Path, *, most: int = MOST_BYTES, unit: str = "bytes") -> None:
    """Refuse what is too large for a raw frame, before any of it is read or decoded (``frame.too_large``)."""
    if size > most:
        raise too_large(f"{size} {unit}", f"{most} {unit}", path)


def too_large(met: str, allowed: str, path: str | Path) -> FrameUnusable:
    """The error for what is larger than anything a raw frame has."""
    return FrameUnusable(
        f"{met}, allowed up to {allowed}", where=str(path), hint="is it a raw frame? copy it again, or take it out", code="frame.too_large"
    )


def decompressed(contents: bytes, path: str | Path) -> bytes:
    """The bytes themselves, or what they hold where they start as gzip or bzip2 does, whatever the file's name.

    Raises
    ------
    FrameUnusable
        For a stream that is damaged (``frame.truncated``), holds nothing, or holds too much: it is given up at `MOST_BYTES`.
    """
    for start, kind, opener in _PACKERS:
        if contents.startswith(start):
            return _unpacked(contents, kind, opener, path)
    return contents


def _unpacked(contents: bytes, kind: str, opener: Callable[[io.BytesIO], gzip.GzipFile | bz2.BZ2File], path: str | Path) -> bytes:
    found = io.BytesIO()
    try:
        with opener(io.BytesIO(contents)) as stream:
            while piece := stream.read(_PIECE):
                found.write(piece)
                if found.tell() > MOST_BYTES:
                    raise too_large(f"more than {MOST_BYTES} bytes in {len(contents)} of {kind}", f"{MOST_BYTES} bytes", path)
    except (EOFError, zlib.error, OSError, ValueError) as error:
        raise FrameUnusable(
            f"the {kind} stream is cut short or damaged ({one_line(error)})",
            where=str(path),
            hint="copy the file again from its source",
            code="frame.truncated",
        ) from error
    if not found.tell():
        raise FrameUnusable(f"a {kind} file of nothing", where=str(path), hint="copy it again from its source", code="frame.empty")
    return found.getvalue()


def one_line(error: BaseException) -> str:
    """What an error says, in one line of 160 characters at most."""
    return " ".join(str(error).split())[:160] or type(error).__name__
