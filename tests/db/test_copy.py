"""Rows with texts, times and truth values: what COPY brings is what single INSERTs bring, whatever the text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from db.bulk import bulk_insert
from db.engine import is_sqlite, make_engine

META = sa.MetaData()
#: Every type that a column of the archive may have.
MIXED = sa.Table(
    "mixed",
    META,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("text", sa.Text),
    sa.Column("short", sa.String(8)),
    sa.Column("number", sa.Integer),
    sa.Column("small", sa.SmallInteger),
    sa.Column("real", sa.REAL),
    sa.Column("double", sa.Double),
    sa.Column("time", sa.DateTime),
    sa.Column("day", sa.Date),
    sa.Column("truth", sa.Boolean),
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, new_archive: Callable[[str], str]) -> Iterator[sa.Engine]:
    engine = make_engine(new_archive(request.param), writer=True)
    META.create_all(engine)
    yield engine
    engine.dispose()


AWKWARD = ["", "\\N", "\\.", 'a"b', "it's", "tab\there", "two\nlines\r", "back\\slash", "NULL", "ü€😀"]
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.none() | TEXTS | st.sampled_from(AWKWARD),
            "short": st.none() | TEXTS.map(lambda text: text[:8]),
            "number": st.none() | st.integers(-(2**31), 2**31 - 1),
            "small": st.none() | st.integers(-(2**15), 2**15 - 1),
            "real": st.none() | st.floats(width=32, allow_nan=False),
            "double": st.none() | st.floats(allow_nan=False),
            "time": st.none() | st.datetimes(),
            "day": st.none() | st.dates(),
            "truth": st.none() | st.booleans(),
        }
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(ROWS)
def test_rows_are_those_of_single_inserts(engine: sa.Engine, rows: list[dict[str, Any]]) -> None:
    with engine.connect() as connection:
        for number, row in enumerate(rows):
            connection.execute(sa.insert(MIXED).values(id=number, **row))
        expected = connection.execute(sa.select(MIXED).order_by(MIXED.c.id)).all()
        connection.execute(sa.delete(MIXED))
        columns = {name: np.array([row[name] for row in rows] + [None], dtype=object)[:-1] for name in rows[0]}
        bulk_insert(connection, MIXED, {"id": np.arange(len(rows)), **columns})
        assert connection.execute(sa.select(MIXED).order_by(MIXED.c.id)).all() == expected
        connection.rollback()


def test_missing_values_are_null_whatever_they_are_written_as(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        missing = np.array([None, np.nan, "x"], dtype=object)
        bulk_insert(connection, MIXED, {"id": np.arange(3), "text": missing, "double": np.array([1.0, np.nan, 2.0]), "short": "same"})
        found = connection.execute(sa.select(MIXED.c.text, MIXED.c.double, MIXED.c.short).order_by(MIXED.c.id)).all()
        connection.rollback()
    assert [tuple(row) for row in found] == [(None, 1.0, "same"), (None, None, "same"), ("x", 2.0, "same")]


def test_many_rows_come_in_pieces(engine: sa.Engine) -> None:
    n = 120_001
    texts = np.array([f"star {k}" * (k % 3) for k in range(n)], dtype=object)
    with engine.connect() as connection:
        bulk_insert(connection, MIXED, {"id": np.arange(n)[::-1], "text": texts})
        found = connection.execute(sa.select(MIXED.c.text).order_by(MIXED.c.id.desc())).scalars().all()
        connection.rollback()
    assert found == texts.tolist()


@pytest.mark.parametrize(("text", "said"), [("a\0b", "NUL character"), ("a\ud800b", "surrogate")])
def test_what_postgresql_cannot_keep_is_said(engine: sa.Engine, text: str, said: str) -> None:
    if is_sqlite(engine):
        pytest.skip("SQLite keeps a NUL")
    with engine.connect() as connection, pytest.raises(sa.exc.DataError, match=rf"mixed.text: .*{said}"):
        bulk_insert(connection, MIXED, {"id": np.arange(2), "text": np.array(["good", text], dtype=object)})


def test_a_text_that_is_too_long_is_refused_as_data(engine: sa.Engine) -> None:
    if is_sqlite(engine):
        pytest.skip("SQLite has no length of texts")
    with engine.connect() as connection, pytest.raises(sa.exc.DataError, match="too long"):
        bulk_insert(connection, MIXED, {"id": 1, "short": np.array(["123456789"], dtype=object)})


def test_rows_come_in_the_order_of_the_key(engine: sa.Engine) -> None:
    """Each next to the one before in the index, whatever their order was."""
    if is_sqlite(engine):
        pytest.skip("SQLite shows no place of a row")
    with engine.connect() as connection:
        ids = np.random.default_rng(1).permutation(1000)
        bulk_insert(connection, MIXED, {"id": ids, "number": 7 * ids})
        found = connection.execute(sa.text("SELECT id, number FROM mixed ORDER BY ctid")).all()
        connection.rollback()
    assert [tuple(row) for row in found] == [(k, 7 * k) for k in range(1000)]
