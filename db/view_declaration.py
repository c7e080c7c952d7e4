"""How a view is declared: as data, of which its SQL, its units and its page of the documentation are made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import InstrumentedAttribute

__all__ = ["View", "ViewColumn", "of", "own", "select", "through"]


@dataclass(frozen=True)
class ViewColumn:
    """A column of a view: its name, the expression that gives it, its unit ("" for none), UCD and meaning."""

    name: str
    sql: str
    unit: str
    ucd: str
    comment: str


@dataclass(frozen=True)
class View:
    """A view: what it is for, its columns, and where they come from.

    Parameters
    ----------
    name, comment : str
        Its name, and what it is for.
    columns : tuple of ViewColumn
        In their order.
    body : str
        SQL from FROM on, portable between SQLite and PostgreSQL.
    before : str
        SQL before the SELECT: a WITH clause.
    stands_on : tuple of str
        The views that it reads; they are created before it.
    """

    name: str
    comment: str
    columns: tuple[ViewColumn, ...]
    body: str
    before: str = ""
    stands_on: tuple[str, ...] = ()

    @property
    def sql(self) -> str:
        """The statement that the view stands for."""
        before = f"{self.before.strip()}\n" if self.before else ""
        return f"\n{before}{select(self.columns)}\n{self.body.strip()}"


def of(
    attribute: InstrumentedAttribute[Any], alias: str = "", *, name: str = "", sql: str = "", ucd: str = "", comment: str = ""
) -> ViewColumn:
    """A column of a table passed on, with the unit, UCD and comment that it has there.

    Parameters
    ----------
    attribute : InstrumentedAttribute
        The table's column, such as ``Frame.jd_utc``.
    alias : str
        The table's alias in the view's body.
    name : str
        Its name in the view where that is another.
    sql : str
        The expression where it is not the column as it stands, but something of the same meaning.
    ucd, comment : str
        Its UCD and meaning where the view's readers need other words than the table's.
    """
    column: sa.Column[Any] = attribute.class_.__table__.c[attribute.key]
    meaning = column.info["meaning"]
    if meaning == "Surrogate key":
        # In its own table that says enough.
        meaning = f"Key of {column.table.name}"
    return ViewColumn(
        name or column.name, sql or f"{alias}.{column.name}", column.info["unit"], ucd or column.info["ucd"], comment or meaning
    )


def own(name: str, sql: str, unit: str, ucd: str, comment: str) -> ViewColumn:
    """A column that is the view's own: computed, and in no table."""
    return ViewColumn(name, sql, unit, ucd, comment)


def through(alias: str, columns: Iterable[ViewColumn]) -> tuple[ViewColumn, ...]:
    """Columns of a subquery of that alias, passed on as they are."""
    return tuple(replace(column, sql=f"{alias}.{column.name}") for column in columns)


def select(columns: Iterable[ViewColumn]) -> str:
    """The SELECT clause: every expression under the column's name."""
    return "SELECT " + ",\n       ".join(_expression(column) for column in columns)


def _expression(column: ViewColumn) -> str:
    return column.sql if column.sql.rpartition(".")[2] == column.name else f"{column.sql} AS {column.name}"
