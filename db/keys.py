"""What every new row needs that only the one writer can give: its key, and the time."""

from __future__ import annotations

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

__all__ = ["next_id", "now"]


def now() -> dt.datetime:
    """The present, UTC, without a zone as the archive keeps it."""
    return dt.datetime.now(dt.UTC).replace(tzinfo=None)


def next_id(bind: Connection | Session, column: Any) -> int:
    """The next free value of an integer key; safe since there is one writer."""
    return int(bind.execute(sa.select(sa.func.coalesce(sa.func.max(column), 0))).scalar_one()) + 1
