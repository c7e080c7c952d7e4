"""Errors of the whole project, classed by meaning.

One root, four meanings: there is nothing to do; this frame is unusable; the
algorithm failed on good data; the configuration (or the archive) is wrong.
A message says what, where, the value met and allowed, and what to do.
This module is a leaf: it imports the standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = [
    "AlgorithmFailed",
    "ArchiveUnavailable",
    "ConfigurationError",
    "FrameUnusable",
    "NothingToDo",
    "StarledgerError",
    "Terminated",
    "exit_code_of",
    "printable",
    "shortened",
]

#: Letters of each part of a message: where, what, and what to do.
_LONGEST = 2000
#: What moves a terminal's cursor, paints, or turns the order of letters about: controls (C0, C1), ends of lines, and marks of direction.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """A text on one line, as any terminal may be given it: other characters are written as Python writes them."""
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def shortened(text: str) -> str:
    """A text of which the middle is left out where it is too long for a person: a value met may be as long as a file."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 4 :]}"


class StarledgerError(Exception):
    """Root of every error that a user is meant to read.

    Parameters
    ----------
    message : str
        What went wrong, on one line, with the value met.
    where : str
        File, row or setting it happened in.
    hint : str
        What the user can do about it.
    code : str, optional
        Stable machine-readable code, e.g. ``frame.truncated``; the class's own when omitted.
    refused : mapping of int to str, optional
        Frames of a set that were refused, by frame_id, each with its reason.
    """

    code = "error"
    exit_code = 2

    def __init__(
        self, message: str, *, where: str = "", hint: str = "", code: str | None = None, refused: Mapping[int, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint
        self.refused = dict(refused or {})
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        parts = filter(None, (self.where, self.message))
        text = ": ".join(map(shortened, parts))
        return printable(f"{text}; {shortened(self.hint)}" if self.hint else text)

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders in the frame pool: keep the keywords.
        return (_rebuild, (type(self), self.message, self.where, self.hint, self.code, self.refused))


def _rebuild(kind: type[StarledgerError], message: str, where: str, hint: str, code: str, refused: Mapping[int, str]) -> StarledgerError:
    return kind(message, where=where, hint=hint, code=code, refused=refused)


class Terminated(KeyboardInterrupt):
    """SIGTERM: the program ends as at an interrupt, with the exit code that shells expect."""

    exit_code = 143


def exit_code_of(end: BaseException) -> int:
    """Exit code after an error or an interrupt; of the latter as shells have it: 128 and the number of the signal."""
    return int(getattr(end, "exit_code", 130))


class NothingToDo(StarledgerError):
    """There is no input, or all of it is done already."""

    code = "nothing"


class FrameUnusable(StarledgerError):
    """The data of this frame cannot be used; the rest of the night can."""

    code = "frame"
    exit_code = 1


class AlgorithmFailed(StarledgerError):
    """Good data, and still no result."""

    code = "algorithm"
    exit_code = 1


class ConfigurationError(StarledgerError):
    """A setting, an option or a file given by the user is wrong."""

    code = "configuration"


class ArchiveUnavailable(StarledgerError):
    """The archive cannot be reached, is locked, or has another schema."""

    code = "archive"
    exit_code = 3
