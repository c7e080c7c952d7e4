"""How long what a person wants written waits for another writer of the archive."""

from __future__ import annotations

import os
from contextvars import ContextVar

from db.decimal_comma import with_point
from db.errors import ConfigurationError

__all__ = ["patience", "waiting"]

waiting: ContextVar[float | None] = ContextVar("waiting", default=None)
"""Seconds; None for $STARLEDGER_WAIT, else 60."""


def patience() -> float:
    """How many seconds to wait.

    Raises
    ------
    ConfigurationError
        When $STARLEDGER_WAIT is no such number.
    """
    chosen = waiting.get()
    if chosen is not None:
        return chosen
    given = os.environ.get("STARLEDGER_WAIT") or "60"
    try:
        seconds = float(with_point(given))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ConfigurationError(f"no number of seconds: {given!r}", where="STARLEDGER_WAIT", hint="give 0 or more", code="archive.wait")
    return seconds
