"""Rows as arrays: the same numbers on both engines, NULLs, identifiers beyond a double, values that a person could have typed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from templates import make_schema

from db import fetch
from db.bulk import bulk_insert
from db.engine import make_engine
from db.fetch import fetch_arrays
from db.tables import Base, ClosedMeasurement, Target
from reduction.pipeline.declaration import UndeclaredError
from reduction.pipeline.order import STEPS
from reduction.pipeline.session import declared_only

MEASUREMENT = Base.metadata.tables["closed_measurement"]
BASE = {"night_id": 10, "frame_id": 1, "flags": 0, "x": 1.5, "y": 2.5}
SELECT = "SELECT source_id, flags, flux_1, flux_1, x FROM measurement ORDER BY source_id"


@pytest.fixture
def engine(archive_url: str) -> Iterator[sa.Engine]:
    make_schema(archive_url)
    engine = make_engine(archive_url, writer=True)
    yield engine
    engine.dispose()


def filled(connection: sa.Connection, flux: np.ndarray, source_id: np.ndarray | None = None) -> None:
    ids = np.arange(flux.size) if source_id is None else source_id
    bulk_insert(connection, MEASUREMENT, BASE | {"source_id": ids, "flux_1": flux})


def test_values_nulls_and_types(engine: sa.Engine):
    flux = np.array([1.5, np.nan, -3.25, np.inf, 1e-40, 0.1])
    ids = np.array([2**53 + 1, 2**62 + 1, 2**63 - 1, -(2**63), -1, 0])
    with engine.begin() as connection:
        filled(connection, flux, ids)
        found = fetch_arrays(connection, SELECT, kinds="ijfrf")
    order = np.argsort(ids)
    np.testing.assert_array_equal(found[0], ids[order])
    np.testing.assert_array_equal(found[2], flux.astype(np.float32).astype(np.float64)[order])
    np.testing.assert_array_equal(found[3], flux.astype(np.float32)[order])
    assert [column.dtype.str[1:] for column in found] == ["i8", "i4", "f8", "f4", "f8"]
    assert all(column.flags.owndata and column.flags.writeable for column in found)


@pytest.fixture(scope="module")
def tables(new_archive: Callable[[str], str]) -> Iterator[list[sa.Engine]]:
    """An engine of either database with a table of identifiers and numbers."""
    engines = [make_engine(new_archive(name), writer=True) for name in ("sqlite", "postgresql")]
    for engine in engines:
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE t (a BIGINT, b DOUBLE PRECISION)"))
    yield engines
    for engine in engines:
        engine.dispose()


IDENTIFIERS = st.integers(-(2**63), 2**63 - 1)
NUMBERS = st.none() | st.floats(allow_nan=False)


@settings(max_examples=40, deadline=None)
@given(
    values=st.dictionaries(IDENTIFIERS, NUMBERS, max_size=40),
    rows=st.integers(1, 7),
    size=st.integers(1, 300),
)
def test_what_went_in_comes_out_whatever_the_pieces(tables: list[sa.Engine], values: dict[int, float | None], rows: int, size: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch, "_ROWS", rows)
        patch.setattr(fetch, "_BYTES", size)
        for engine in tables:
            with engine.connect() as connection:
                if values:
                    connection.execute(sa.text("INSERT INTO t VALUES (:a, :b)"), [{"a": a, "b": b} for a, b in values.items()])
                ids, numbers = fetch_arrays(connection, "SELECT a, b FROM t ORDER BY a", kinds="if")
                connection.rollback()
            assert ids.tolist() == sorted(values)
            np.testing.assert_array_equal(numbers, np.array([values[a] for a in sorted(values)], dtype=np.float64))


def test_as_sqlalchemy_reads_them(engine: sa.Engine):
    rng = np.random.default_rng(1)
    flux = np.where(rng.random(3000) < 0.1, np.nan, rng.lognormal(8, 4, 3000))
    with engine.begin() as connection:
        filled(connection, flux, rng.permutation(3000))
        one = fetch_arrays(connection, SELECT, kinds="iifff")
        rows = connection.execute(sa.text(SELECT)).all()
    for mine, theirs, dtype in zip(one, zip(*rows, strict=True), [np.int64] * 2 + [np.float64] * 3, strict=True):
        np.testing.assert_array_equal(mine, np.array(theirs, dtype=dtype))
        assert mine.dtype == dtype


@pytest.mark.parametrize("where", ["1 = 0", "flux_1 > 1e30"])
def test_nothing_found(engine: sa.Engine, where: str):
    with engine.begin() as connection:
        filled(connection, np.ones(3))
        found = fetch_arrays(connection, f"SELECT source_id, flags, x, flux_1 FROM measurement WHERE {where}", kinds="ijfr")
    assert [column.size for column in found] == [0, 0, 0, 0]
    assert [column.dtype for column in found] == [np.int64, np.int32, np.float64, np.float32]


def test_values_are_bound_not_pasted(engine: sa.Engine):
    hostile = "a'; DROP TABLE target; -- %s %(name)s 100% \\ :name \N{SNOWMAN}"
    with engine.begin() as connection:
        row = {"target_id": 1, "name": hostile, "ra": 1.5, "dec": 2.5, "created": dt.datetime(2026, 1, 2), "epoch": None}
        connection.execute(Target.__table__.insert(), [row, row | {"target_id": 2, "name": "other"}])
        text = "SELECT target_id, ra FROM target WHERE name = :name AND name LIKE '%100%' AND created > :when"
        given_values = {"name": hostile, "when": dt.datetime(2026, 1, 1)}
        ids, ra = fetch_arrays(connection, text, given_values, kinds="if")
        assert (ids.tolist(), ra.tolist()) == ([1], [1.5])
        query = sa.select(Target.target_id).where(Target.name.in_([hostile, "other"])).order_by(Target.target_id.desc())
        assert fetch_arrays(connection, query, kinds="i")[0].tolist() == [2, 1]
        listed = sa.text("SELECT target_id FROM target WHERE target_id IN :some").bindparams(sa.bindparam("some", expanding=True))
        assert fetch_arrays(connection, listed, {"some": [2, 7]}, kinds="i")[0].tolist() == [2]
        assert connection.execute(sa.text("SELECT count(*) FROM target")).scalar() == 2


def test_an_integer_that_is_null_or_too_large_is_refused_and_the_connection_lives_on(engine: sa.Engine):
    with engine.begin() as connection:
        filled(connection, np.full(3, np.nan), np.array([1, 2, 2**40]))
        with pytest.raises(ValueError, match="column 1 of the SELECT has a NULL"):
            fetch_arrays(connection, "SELECT source_id, NULLIF(flags, 0) FROM measurement", kinds="ii")
        with pytest.raises(ValueError, match="32 bits"):
            fetch_arrays(connection, "SELECT source_id FROM measurement", kinds="j")
        with pytest.raises(ValueError, match="3 kinds"):
            fetch_arrays(connection, "SELECT source_id, x FROM measurement", kinds="iff")
        assert fetch_arrays(connection, "SELECT source_id FROM measurement ORDER BY 1", kinds="i")[0].tolist() == [1, 2, 2**40]


def test_other_types_of_numbers(engine: sa.Engine):
    text = "SELECT count(*), sum(flags), avg(flags), max(night_id), 1 + 1 = 2, 2.5, NULL FROM measurement"
    with engine.begin() as connection:
        filled(connection, np.ones(4))
        connection.execute(sa.text("UPDATE closed_measurement SET flags = 3"))
        found = fetch_arrays(connection, text, kinds="iifiiff")
    assert [column.tolist() for column in found[:-1]] == [[4], [12], [3.0], [10], [1], [2.5]]
    assert np.isnan(found[-1]).all()


def test_the_callers_transaction_is_read(engine: sa.Engine):
    with engine.connect() as connection:
        filled(connection, np.ones(5))
        assert fetch_arrays(connection, "SELECT source_id FROM measurement", kinds="i")[0].size == 5
        connection.rollback()
        assert fetch_arrays(connection, "SELECT source_id FROM measurement", kinds="i")[0].size == 0


def test_an_error_of_the_database_is_sqlalchemys(engine: sa.Engine):
    with engine.connect() as connection, pytest.raises(sa.exc.DBAPIError):
        fetch_arrays(connection, "SELECT nothing FROM measurement", kinds="i")
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection, pytest.raises(sa.exc.DataError, match="division by zero"):
            fetch_arrays(connection, "SELECT 1 / CAST(:zero AS integer)", {"zero": 0}, kinds="i")


def test_a_step_reads_what_it_declared_this_way_too(engine: sa.Engine):
    with engine.connect() as plain:
        connection = declared_only(plain, STEPS["detect"])
        with pytest.raises(UndeclaredError):
            fetch_arrays(connection, "SELECT source_id FROM measurement", kinds="i")
        with pytest.raises(UndeclaredError):
            fetch_arrays(connection, sa.select(ClosedMeasurement.source_id), kinds="i")
