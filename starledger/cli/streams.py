"""The program's own output and error stream: what cannot be written there is one line or none, never a traceback."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from db.errors import ConfigurationError

__all__ = ["CLOSED_PIPE", "guarded_streams"]

#: Exit code where whoever read the output went away, as shells have it: 128 and the number of SIGPIPE.
CLOSED_PIPE = 141


@contextmanager
def guarded_streams() -> Iterator[None]:
    """While the program runs, its streams take every character, and say in one line when they cannot be written.

    An encoding that lacks a character, as ASCII does, gets Python's escape of it. A pipe that its reader closed ends the program
    without a word. What cannot be said on the error stream is not worth the end of a night.
    """
    before = sys.stdout, sys.stderr
    output = _Output(**_like(before[0])) if _is_guarded(before[0]) else None
    error = _Aside(**_like(before[1])) if _is_guarded(before[1]) else None
    sys.stdout, sys.stderr = output or before[0], error or before[1]
    try:
        yield
        sys.stdout.flush()
    finally:
        sys.stdout, sys.stderr = before
        for stream in (output, error):
            if stream is not None:
                _leave(stream)


def _is_guarded(stream: Any) -> bool:
    """Whether a stream is the system's; what a program puts in its place, as a notebook does, takes every character and is kept."""
    return stream is None or hasattr(stream, "buffer")


def _like(stream: Any) -> dict[str, Any]:
    """How to open a stream that writes where this one does, or nowhere, where the program was started without it."""
    if stream is None:
        return {"buffer": Path(os.devnull).open("wb"), "encoding": "utf-8"}
    stream.flush()
    return {
        "buffer": stream.buffer,
        "encoding": stream.encoding,
        "errors": "backslashreplace",
        "line_buffering": stream.line_buffering,
    }


class _Output(io.TextIOWrapper):
    """Standard output."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise self._end(error) from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise self._end(error) from error

    def _end(self, error: OSError) -> SystemExit | ConfigurationError:
        _discard(self)
        if isinstance(error, BrokenPipeError):
            return SystemExit(CLOSED_PIPE)
        reason = error.strerror or "cannot be written"
        return ConfigurationError(reason, where="standard output", hint="print to another place", code="file.write")


class _Aside(io.TextIOWrapper):
    """The error stream."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError:
            _discard(self)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            _discard(self)


def _discard(stream: io.TextIOWrapper) -> None:
    """Let what was not written, and all that follows, go nowhere: it would be tried once more at the very end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _leave(stream: io.TextIOWrapper) -> None:
    stream.flush()
    stream.detach()
