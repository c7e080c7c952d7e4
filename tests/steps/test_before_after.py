"""The mapping by which archives of before the redesign are compared with those of now covers every column there was."""

from __future__ import annotations

from pathlib import Path

import mini_night
import sqlalchemy as sa
from before_after import DROPPED, MAPPING, STEPS, differences, new_place, read
from mini_night import Work

from db import schema
from db.engine import make_engine
from db.tables import Base
from reduction.pipeline.order import STEPS as NIGHT


def test_every_old_column_has_a_place_or_a_reason(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path / 'old.db'}", writer=True)
    schema.upgrade(engine, "0004")
    metadata = sa.MetaData()
    metadata.reflect(engine)
    engine.dispose()
    old = {f"{table.name}.{column.name}" for table in metadata.sorted_tables for column in table.columns} - {"alembic_version.version_num"}
    assert set(MAPPING) | set(DROPPED) <= old and set(MAPPING).isdisjoint(DROPPED)
    assert all(len(reason) > 20 for reason in DROPPED.values())
    new = {f"{table.name}.{column.name}" for table in Base.metadata.sorted_tables for column in table.columns}
    assert {place for place in map(new_place, old) if place is not None} <= new


def test_every_step_that_was_renamed_is_one() -> None:
    assert set(STEPS.values()) <= set(NIGHT) and set(STEPS).isdisjoint(NIGHT)


def test_a_difference_is_found(reduced: Work, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    same, other = reduced.url, mini_night.reduced(tmp_path / "other").url
    assert differences(same, same)[0] == []
    engine = make_engine(other, writer=True)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE frame_background SET level = level * (1 + 1e-11)"))
    engine.dispose()
    found, n_rows, n_values = differences(same, other)
    assert found and all(line.startswith("frame_background") for line in found)
    assert n_rows > 1000 and n_values > 10000
    assert read(same).keys() == {table for table in Base.metadata.tables if table not in ("run", "step_check")}
