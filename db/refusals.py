"""What a database says to somebody who may not write, in one line that names the right."""

from __future__ import annotations

import re
import sqlite3

import sqlalchemy as sa
from sqlalchemy.engine import URL

from db.errors import ArchiveUnavailable

__all__ = ["refusal"]

#: PostgreSQL's states: a right is missing; the transaction, the role or the whole server reads only.
_NO_RIGHT, _READS_ONLY = "42501", "25006"
_DENIED = re.compile(r"permission denied for (table|view|sequence|schema|database|relation) \"?([^\"\n]+)\"?")
#: The right that each kind of statement needs on a table; those that make something need one on what it is made in.
_RIGHTS = re.compile(r"\s*(INSERT|UPDATE|DELETE|TRUNCATE|SELECT)\b", re.IGNORECASE)
_MADE_IN = ("schema", "database")


def refusal(error: sa.exc.DBAPIError, url: URL) -> ArchiveUnavailable | None:
    """The error to show where the database refused for want of a right; None where it was something else.

    Parameters
    ----------
    error : DBAPIError
        SQLAlchemy's, with the driver's.
    url : URL
        Of the archive.
    """
    reason = (str(error.orig).strip().splitlines() or [""])[0]
    state = getattr(error.orig, "pgcode", None)
    if isinstance(error.orig, sqlite3.Error):
        if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_READONLY:
            return None
        hint = "a writer needs the right to write to the file and to its folder (chmod u+w)"
    elif state == _READS_ONLY:
        hint = "ask where, and in a role that, transactions may write: SHOW default_transaction_read_only"
    elif state == _NO_RIGHT:
        hint = _grant(error, reason, url.username or "ROLE")
    else:
        return None
    return ArchiveUnavailable(reason, where=url.render_as_string(hide_password=True), hint=hint, code="archive.rights")


def _grant(error: sa.exc.DBAPIError, reason: str, role: str) -> str:
    """What the owner may do about it."""
    found = _DENIED.search(reason)
    if found is None:
        return f"the role {role} does not own it, or lacks that right: ask in the role that owns the archive"
    kind, name = found.groups()
    if kind in _MADE_IN:
        return f"its owner may GRANT CREATE ON {kind.upper()} {name} TO {role}, or ask in the role that owns the archive"
    statement = _RIGHTS.match(error.statement or "")
    # Rows in bulk come by COPY.
    right = statement[1].upper() if statement else "INSERT"
    return f"its owner may GRANT {right} ON {name} TO {role}; who only reads needs nothing but SELECT"
