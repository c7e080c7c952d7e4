"""A person's own SELECT, which can read everything and write nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from db.engine import is_sqlite
from db.errors import ArchiveUnavailable, ConfigurationError
from queries.dataframe import data_frame

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["read_only", "sql_frame"]

_VERBS = ("select", "with", "values", "explain", "table")
#: Text in which a semicolon ends nothing and a colon names no parameter: strings, quoted names, comments.
_OPAQUE = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|\$(\w*)\$.*?\$\1\$", re.DOTALL)


@contextmanager
def read_only(engine: Engine) -> Iterator[Connection]:
    """A connection whose transaction the database itself keeps from writing."""
    if is_sqlite(engine):
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA query_only = ON")
            try:
                yield connection
            finally:
                # The connection goes back to the pool, where a writer may take it.
                connection.exec_driver_sql("PRAGMA query_only = OFF")
        return
    with engine.connect().execution_options(postgresql_readonly=True) as connection:
        yield connection


def sql_frame(engine: Engine, text: str, parameters: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Rows of one SELECT statement.

    Parameters
    ----------
    engine : Engine
        Of the archive.
    text : str
        One statement that reads; `:name` stands for a parameter.
    parameters : mapping, optional
        Values of the parameters.

    Returns
    -------
    pandas.DataFrame
        A column per column of the result; see `queries.dataframe.data_frame`.

    Raises
    ------
    ConfigurationError
        When it is no single reading statement, a parameter has no value, or the database refuses it.
    ArchiveUnavailable
        When the database cannot be reached or is locked.
    """
    statement = _single(text)
    with read_only(engine) as connection:
        try:
            result = connection.execute(sa.text(statement), dict(parameters or {}))
            names = list(result.keys())
            rows = result.all()
        except sa.exc.DBAPIError as error:
            raise _readable(error) from error
        except sa.exc.StatementError as error:
            reason = _first_line(error.orig or error)
            raise ConfigurationError(reason, where="sql", hint="give a value for every :name", code="sql.parameter") from error
    return data_frame(rows, names)


def _single(text: str) -> str:
    """The one statement, with the colons that name no parameter escaped."""
    statement = text.strip().rstrip(";").rstrip()
    bare = _OPAQUE.sub(" ", statement).strip()
    verb = re.match(r"[(\s]*(\w*)", bare)
    if verb is None or verb[1].lower() not in _VERBS:
        raise ConfigurationError(
            f"only statements that read are taken, not {verb[1].upper() if verb and verb[1] else 'this'}",
            where="sql",
            hint="begin with SELECT or WITH; commands such as 'starledger mask' change the archive",
            code="sql.verb",
        )
    if ";" in bare:
        raise ConfigurationError("more than one statement", where="sql", hint="give one at a time", code="sql.many")
    return _OPAQUE.sub(lambda found: found[0].replace(":", r"\:"), statement)


def _readable(error: sa.exc.DBAPIError) -> ConfigurationError | ArchiveUnavailable:
    reason = _first_line(error.orig or error)
    if "locked" in reason or "busy" in reason or error.connection_invalidated:
        return ArchiveUnavailable(reason, where="sql", hint="try again", code="archive.unreachable")
    if "readonly database" in reason or "read-only transaction" in reason:
        return ConfigurationError(reason, where="sql", hint="sql only reads; commands such as 'starledger mask' write", code="sql.write")
    return ConfigurationError(reason, where="sql", hint="docs/cookbook.md has examples that work on both engines", code="sql.error")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[0].partition(" (Background")[0] if lines else type(error).__name__
