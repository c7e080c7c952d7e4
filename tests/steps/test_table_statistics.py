"""When the planner's statistics are made anew, on both engines."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from many_nights import ManyNights, Plan
from templates import make_schema

from db.engine import is_sqlite
from db.tables import OpenMeasurement
from reduction.pipeline.table_statistics import has_grown, make_statistics, rows_told
from reduction.pipeline.writer import Writer


@pytest.mark.parametrize(("before", "more", "grown"), [(0, 1, True), (10, 1, True), (1100, 50, False), (1000, 200, True)])
def test_a_fifth_more_is_growth(before: int, more: int, grown: bool) -> None:
    assert has_grown(before, more) is grown


def test_an_open_night_is_told_of_whatever_the_archive_has(archive_url: str, tmp_path: Path) -> None:
    """Rows of open nights come and go: what was told of an empty table would have a night looked up row by row."""
    make_schema(archive_url)
    nights = ManyNights.create(archive_url, tmp_path / "files", Plan(n_star=60, n_frame=4))
    name, writer = OpenMeasurement.__tablename__, Writer(nights.engine, tmp_path / "files", 1)
    with nights.engine.begin() as connection:
        make_statistics(connection, name, 1000)
        assert rows_told(connection, [name, "run"]) == {name: 0.0, "run": 0.0}
    nights.add_night(is_open=True)
    with nights.engine.begin() as connection:
        # As before: statistics tell of nothing.
        if is_sqlite(connection):
            connection.exec_driver_sql(f"DELETE FROM sqlite_stat1 WHERE tbl = '{name}'")
        else:
            connection.exec_driver_sql(f"UPDATE pg_class SET reltuples = -1 WHERE relname = '{name}'")
        n_row = connection.execute(sa.text(f"SELECT count(*) FROM {name}")).scalar_one()
        assert n_row > 100
    for written, told in ((0, 0), (n_row, n_row), (n_row // 10, n_row)):
        if written:
            writer._written[OpenMeasurement] += written
        writer.analyse((OpenMeasurement,), grown=False)
        with nights.engine.connect() as connection:
            assert rows_told(connection, [name]) == {name: told}
    with nights.engine.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM {name}")
    writer._written[OpenMeasurement] += n_row // 10
    writer.analyse((OpenMeasurement,), grown=False)
    with nights.engine.connect() as connection:
        assert rows_told(connection, [name]) == {name: n_row}, "a tenth more is not worth it"
    nights.close()
