"""Passwords in URLs, and how they are kept out of what is stored and shown."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

__all__ = ["command_line", "masked"]

#: User and password of a URL: up to its last @, since an unquoted password may have one; in a word of a command also spaces.
_IN_TEXT = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^:/?#@\s]*):\S*@")
_IN_WORD = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^:/?#@\s]*):.*@", re.DOTALL)
_IN_QUERY = re.compile(r"([?&](?:ssl)?password=)[^&#\s]*", re.IGNORECASE)
_HIDDEN = "***"


def masked(text: str) -> str:
    """A text with the passwords of its URLs hidden."""
    return _hidden(_IN_TEXT, text)


def command_line(words: Sequence[str]) -> str:
    """A command as a shell takes it, the passwords of its URLs hidden."""
    return shlex.join(_hidden(_IN_WORD, word) for word in words)


def _hidden(in_url: re.Pattern[str], text: str) -> str:
    return _IN_QUERY.sub(rf"\g<1>{_HIDDEN}", in_url.sub(rf"\g<1>:{_HIDDEN}@", text))
