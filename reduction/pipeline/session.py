"""A session that reads what a step declared, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import Session
from sqlalchemy.sql import visitors

from db.tables import Base, Config, Lineage, Product, ProvisionalResult, Run, StepCheck, Task
from db.views import VIEWS
from reduction.pipeline.declaration import Step, UndeclaredError

__all__ = ["declared_only", "reading_session", "tables_read"]

#: What the machine itself keeps: every step may look there.
_MACHINE = frozenset(table.__tablename__ for table in (Config, Lineage, Product, ProvisionalResult, Run, StepCheck, Task))

_TABLES = frozenset(Base.metadata.tables)
_WORD = re.compile(r"\b[a-z_0-9]+\b")


def tables_read(statement: Any) -> frozenset[str]:
    """Names of the tables that a statement reads; a view is what it is made of.

    Parameters
    ----------
    statement : SQLAlchemy construct
        Text is searched for the names of tables and views.
    """
    found: set[str] = set()
    for element in visitors.iterate(statement):
        if isinstance(element, sa.TextClause):
            found |= _named(element.text)
        elif isinstance(element, sa.Table):
            found.add(element.name)
        elif isinstance(element, sa.Column) and isinstance(element.table, sa.Table):
            found.add(element.table.name)
        elif isinstance(element, sa.ColumnClause) and isinstance(element.table, sa.Alias):
            found |= {table.name for table in visitors.iterate(element.table) if isinstance(table, sa.Table)}
    return frozenset(found & _TABLES)


def _named(text: str) -> set[str]:
    """Tables and views that a text names, the views taken apart."""
    words = set(_WORD.findall(re.sub(r"'[^']*'", "", text)))
    found = words & _TABLES
    for view in words & VIEWS.keys():
        found |= _view_tables(view)
    return found


_of_views: dict[str, set[str]] = {}


def _view_tables(view: str) -> set[str]:
    if view not in _of_views:
        _of_views[view] = set()  # a view is not made of itself
        _of_views[view] = _named(VIEWS[view])
    return _of_views[view]


def declared_only(connection: Connection, step: Step) -> Connection:
    """Make a connection refuse statements that read a table which is not behind the step.

    Raises
    ------
    UndeclaredError
        From the statement: what a step reads without declaring it can change without the step's work becoming pending.
    """
    allowed = {table.__tablename__ for table in step.reads} | _MACHINE

    def check(_: Connection, statement: Any, *__: Any) -> None:
        undeclared = tables_read(statement) - allowed
        if undeclared:
            raise UndeclaredError(f"step {step.name} reads {', '.join(sorted(undeclared))} without declaring it")

    sa.event.listen(connection, "before_execute", check)
    return connection


@contextmanager
def reading_session(engine: Engine, step: Step) -> Iterator[Session]:
    """A session for a plan or a body of the step."""
    with engine.connect() as connection, Session(declared_only(connection, step)) as session:
        yield session
