"""Bulk rows: the same rows on both engines, in the caller's transaction."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from templates import make_schema

from db.bulk import bulk_insert
from db.copy_format import copy_binary
from db.engine import is_sqlite, make_engine
from db.tables import Base

MEASUREMENT = Base.metadata.tables["closed_measurement"]
BASE = {"night_id": 10, "frame_id": 1, "flags": 0, "x": 1.5, "y": 2.5}


@pytest.fixture
def engine(archive_url: str) -> Iterator[sa.Engine]:
    make_schema(archive_url)
    engine = make_engine(archive_url, writer=True)
    yield engine
    engine.dispose()


def rows(connection: sa.Connection, *names: str) -> list[tuple[Any, ...]]:
    query = sa.text(f"SELECT {', '.join(names)} FROM measurement ORDER BY night_id, source_id, frame_id")
    return [tuple(row) for row in connection.execute(query)]


def test_nan_becomes_null_and_the_rest_stays(engine: sa.Engine) -> None:
    flux = np.array([1.5, np.nan, -3.25, np.inf, 0.0])
    with engine.begin() as connection:
        assert bulk_insert(connection, MEASUREMENT, {"source_id": np.arange(5), "flux_1": flux, **BASE}) == 5
        assert rows(connection, "flux_1", "flux_2") == [(1.5, None), (None, None), (-3.25, None), (np.inf, None), (0.0, None)]
        assert connection.execute(sa.text("SELECT count(*) FROM measurement WHERE flux_1 IS NULL")).scalar() == 1


def test_identifiers_that_are_not_known_are_null(engine: sa.Engine) -> None:
    table = Base.metadata.tables["target_measurement"]
    source = np.array([2**62 + 1, None, -1], dtype=object)
    with engine.begin() as connection:
        bulk_insert(connection, table, {"target_id": np.arange(3), "source_id": source, "task_id": 1, "flux": np.nan, **BASE})
        found = connection.execute(sa.text("SELECT source_id, flux FROM target_measurement ORDER BY target_id")).all()
    assert [tuple(row) for row in found] == [(2**62 + 1, None), (None, None), (-1, None)]


def test_values_are_rounded_to_float32_on_both_engines(engine: sa.Engine) -> None:
    flux = np.random.default_rng(1).lognormal(8, 4, 500)
    with engine.begin() as connection:
        bulk_insert(connection, MEASUREMENT, {"source_id": np.arange(500), "flux_1": flux, **BASE})
        # As a float8, a REAL shows what it holds; psycopg2 reads it in its shortest form, SQLite's is a float8 anyway.
        read = np.array([row[0] for row in rows(connection, "CAST(flux_1 AS DOUBLE PRECISION)")])
    np.testing.assert_array_equal(read, flux.astype(np.float32).astype(np.float64))


def test_extremes_survive(engine: sa.Engine) -> None:
    source = np.array([0, 1, 2**62 + 1, 2**63 - 1])
    with engine.begin() as connection:
        frame = np.array([0, 1, 2**31 - 2, 2**31 - 1])
        bulk_insert(connection, MEASUREMENT, BASE | {"source_id": source, "night_id": np.array([0, 9999, -5, -9999]), "frame_id": frame})
        read = {row[0]: row[1:] for row in rows(connection, "source_id", "night_id", "frame_id")}
    assert read == {0: (0, 0), 1: (9999, 1), 2**62 + 1: (-5, 2**31 - 2), 2**63 - 1: (-9999, 2**31 - 1)}


def test_the_callers_transaction_decides(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        bulk_insert(connection, MEASUREMENT, {"source_id": np.arange(3), **BASE})
        connection.rollback()
        assert rows(connection, "source_id") == []
        bulk_insert(connection, MEASUREMENT, {"source_id": np.arange(3), **BASE})
        connection.commit()
    with engine.connect() as connection:
        assert len(rows(connection, "source_id")) == 3


def test_a_repeated_key_is_an_integrity_error(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        with pytest.raises(sa.exc.IntegrityError):
            bulk_insert(connection, MEASUREMENT, {"source_id": np.array([1, 2, 1]), **BASE})
        connection.rollback()
        assert rows(connection, "source_id") == []


def test_null_where_none_is_allowed_is_an_integrity_error(engine: sa.Engine) -> None:
    with engine.connect() as connection, pytest.raises(sa.exc.IntegrityError):
        bulk_insert(connection, MEASUREMENT, {"source_id": np.arange(2), **BASE, "x": np.array([1.0, np.nan])})


def test_no_rows_and_scalars(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        assert bulk_insert(connection, MEASUREMENT, {"source_id": np.array([], dtype=int), **BASE}) == 0
        assert bulk_insert(connection, MEASUREMENT, {"source_id": 7, **BASE}) == 1
        assert rows(connection, "source_id", "x", "y") == [(7, 1.5, 2.5)]


def test_text_columns(engine: sa.Engine) -> None:
    passband = Base.metadata.tables["passband"]
    names = np.array(["r'", 'a"b', "grün %s"], dtype=object)
    with engine.begin() as connection:
        bulk_insert(connection, passband, {"passband_id": np.arange(3), "name": names})
        assert connection.execute(sa.select(passband.c.name).order_by(passband.c.passband_id)).scalars().all() == names.tolist()


def test_partitions_are_made_when_needed(engine: sa.Engine) -> None:
    if is_sqlite(engine):
        pytest.skip("SQLite has no partitions")
    with engine.begin() as connection:
        nights = np.array([-33, -32, -1, 0, 31, 32, 6562])
        bulk_insert(connection, MEASUREMENT, BASE | {"source_id": 1, "night_id": nights})
        query = "SELECT night_id, tableoid::regclass::text FROM closed_measurement"
        places = dict(tuple(row) for row in connection.exec_driver_sql(query))
    assert places == {
        -33: "closed_measurement_m64", -32: "closed_measurement_m32", -1: "closed_measurement_m32", 0: "closed_measurement_n0",
        31: "closed_measurement_n0", 32: "closed_measurement_n32", 6562: "closed_measurement_n6560",
    }  # fmt: skip


def decode(data: bytes, formats: list[str]) -> list[tuple[Any, ...]]:
    """PostgreSQL's binary COPY format, read as its manual describes it."""
    assert data[:11] == b"PGCOPY\n\xff\r\n\0"
    flags, extension = struct.unpack(">ii", data[11:19])
    assert flags == 0
    place, found = 19 + extension, []
    while True:
        (count,) = struct.unpack_from(">h", data, place)
        place += 2
        if count == -1:
            assert place == len(data)
            return found
        row: list[Any] = []
        for code in formats[:count]:
            (length,) = struct.unpack_from(">i", data, place)
            place += 4
            row.append(None if length == -1 else struct.unpack_from(f">{code}", data, place)[0])
            place += max(length, 0)
        found.append(tuple(row))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(-(2**63), 2**63 - 1),
            st.integers(-(2**15), 2**15 - 1),
            st.floats(width=32),
            st.floats(),
            st.integers(-(2**31), 2**31 - 1),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_copy_binary_against_the_manual(values: list[tuple[Any, ...]]) -> None:
    columns = list(zip(*values, strict=True))
    arrays = {
        "a": np.array(columns[0], dtype=np.int64),
        "b": np.array(columns[1], dtype=np.int16),
        "c": np.array(columns[2], dtype=np.float64),
        "d": np.array(columns[3], dtype=np.float64),
        "e": np.array(columns[4], dtype=np.int64),
    }
    data = copy_binary(arrays, {"a": ">i8", "b": ">i2", "c": ">f4", "d": ">f8", "e": ">i4"})
    expected = [tuple(None if value != value else value for value in row) for row in values]
    assert decode(data, ["q", "h", "f", "d", "i"]) == expected
