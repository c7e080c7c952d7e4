"""The views people query; generated, and recreated whenever the schema is brought up to date."""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import TopologicalSorter

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from db.engine import is_sqlite
from db.personal_views import PersonalView, put_aside, put_back, rights
from db.view_declaration import View
from db.view_definitions import FLAG_BIT, FRAME_MASTER, FRAME_QUALITY, GOOD_MASTER, LATEST_REFERENCE, STALE_PRODUCT
from db.view_light_curve import LIGHT_CURVE, LIGHT_CURVE_ALL
from db.view_measurement import MEASUREMENT
from db.view_standards import FIELD_OFFSET, STANDARD_LIGHT_CURVE
from db.view_target_curve import TARGET_LIGHT_CURVE

__all__ = ["DEFINITIONS", "TARGET_COLUMNS", "VIEWS", "VIEW_COLUMNS", "TakenDown", "put_up", "replace_views", "take_down"]

_READING = (
    LIGHT_CURVE,
    LIGHT_CURVE_ALL,
    STANDARD_LIGHT_CURVE,
    TARGET_LIGHT_CURVE,
    MEASUREMENT,
    LATEST_REFERENCE,
    GOOD_MASTER,
    FRAME_MASTER,
    FRAME_QUALITY,
    FIELD_OFFSET,
    STALE_PRODUCT,
    FLAG_BIT,
)

#: The views by name, in the order in which people want to read of them.
DEFINITIONS: dict[str, View] = {view.name: view for view in _READING}

#: Their SQL, in the order of creation.
VIEWS: dict[str, str] = {
    name: DEFINITIONS[name].sql for name in TopologicalSorter({view.name: view.stands_on for view in _READING}).static_order()
}

#: Columns of `light_curve` and `light_curve_all`: unit and meaning.
VIEW_COLUMNS: dict[str, tuple[str, str]] = {column.name: (column.unit, column.comment) for column in LIGHT_CURVE.columns}

#: The same of `target_light_curve`.
TARGET_COLUMNS: dict[str, tuple[str, str]] = {column.name: (column.unit, column.comment) for column in TARGET_LIGHT_CURVE.columns}


@dataclass(frozen=True)
class TakenDown:
    """What was taken down with the archive's views: who might read them, and the views of people that stood on them."""

    rights: dict[str, list[str]]
    personal: list[PersonalView]


def take_down(connection: Connection) -> TakenDown:
    """Drop every view of the archive that exists, and before them those of people; `put_up` brings all of it back.

    Raises
    ------
    ConfigurationError
        For a person's view that could not be made anew.
    """
    personal = put_aside(connection, VIEWS)
    present = _present(connection)
    given = {} if is_sqlite(connection) else {name: rights(connection, oid, name) for name, oid in present.items()}
    for name in reversed(list(VIEWS)):
        if name in present:
            connection.exec_driver_sql(f"DROP VIEW {name}")
    return TakenDown(given, personal)


def put_up(connection: Connection, taken: TakenDown) -> None:
    """Create every view, none of which may exist, and what stood on them.

    Raises
    ------
    ConfigurationError
        For a person's view that the archive has not the columns for now.
    """
    for name, text in VIEWS.items():
        connection.exec_driver_sql(f"CREATE VIEW {name} AS {text}")
        for statement in taken.rights.get(name, ()):
            connection.exec_driver_sql(statement)
    put_back(connection, taken.personal)


def replace_views(connection: Connection) -> None:
    """Bring the views to those of this version where the tables stay as they are.

    PostgreSQL replaces a view under those that stand on it as long as its columns stay and others come behind them.
    """
    if not is_sqlite(connection):
        try:
            with connection.begin_nested():
                for name, text in VIEWS.items():
                    connection.exec_driver_sql(f"CREATE OR REPLACE VIEW {name} AS {text}")
        except sa.exc.ProgrammingError:
            pass  # its columns are others
        else:
            return
    put_up(connection, take_down(connection))


def _present(connection: Connection) -> dict[str, int]:
    """The archive's views that exist; on PostgreSQL with their object ids."""
    if is_sqlite(connection):
        query = "SELECT name, 0 FROM sqlite_master WHERE type = 'view'"
    else:
        query = "SELECT relname, oid FROM pg_class WHERE relkind = 'v' AND relnamespace = current_schema()::regnamespace"
    return {name: oid for name, oid in connection.exec_driver_sql(query) if name in VIEWS}
