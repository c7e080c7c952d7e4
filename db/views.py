"""The views people query; generated, and recreated whenever the schema is brought up to date."""

from __future__ import annotations

from graphlib import TopologicalSorter

from sqlalchemy.engine import Connection

from db.engine import is_sqlite
from db.view_declaration import View
from db.view_definitions import FLAG_BIT, FRAME_MASTER, FRAME_QUALITY, GOOD_MASTER, LATEST_REFERENCE, STALE_PRODUCT
from db.view_light_curve import LIGHT_CURVE, LIGHT_CURVE_ALL
from db.view_measurement import MEASUREMENT
from db.view_target_curve import TARGET_LIGHT_CURVE

__all__ = ["DEFINITIONS", "TARGET_COLUMNS", "VIEWS", "VIEW_COLUMNS", "create_views", "drop_views"]

_READING = (
    LIGHT_CURVE,
    LIGHT_CURVE_ALL,
    TARGET_LIGHT_CURVE,
    MEASUREMENT,
    LATEST_REFERENCE,
    GOOD_MASTER,
    FRAME_MASTER,
    FRAME_QUALITY,
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


def create_views(connection: Connection) -> None:
    """Create every view; they must not exist."""
    for name, text in VIEWS.items():
        connection.exec_driver_sql(f"CREATE VIEW {name} AS {text}")


def drop_views(connection: Connection) -> None:
    """Drop every view that exists."""
    if is_sqlite(connection):
        present = {row[0] for row in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'view'")}
    else:
        query = "SELECT table_name FROM information_schema.views WHERE table_schema = current_schema()"
        present = {row[0] for row in connection.exec_driver_sql(query)}
    for name in reversed(list(VIEWS)):
        if name in present:
            connection.exec_driver_sql(f"DROP VIEW {name}")
