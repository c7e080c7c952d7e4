"""The view `measurement`: fluxes of open and of closed nights, together."""

from __future__ import annotations

from db.photometry import ClosedMeasurement, OpenMeasurement
from db.view_declaration import View, ViewColumn, of, select

__all__ = ["MEASUREMENT"]


def _columns(table: type[ClosedMeasurement | OpenMeasurement]) -> tuple[ViewColumn, ...]:
    # Without an alias, so that plans name the tables.
    return tuple(of(getattr(table, column.key), table.__tablename__) for column in table.__table__.columns)


#: A row is in one of the two tables. Both engines look each of them up by its own key, also in a join; SQLite does not on the right side
#: of a LEFT JOIN, where it reads all rows first.
MEASUREMENT = View(
    "measurement",
    "Fluxes of each source on each frame, written once: `closed_measurement` and `open_measurement` together.",
    _columns(ClosedMeasurement),
    f"FROM closed_measurement\nUNION ALL\n{select(_columns(OpenMeasurement))}\nFROM open_measurement",
)
