"""A person's own SELECT: it reads everything and writes nothing."""

from __future__ import annotations

import pandas as pd
import pytest
import sqlalchemy as sa
from small_archive import SmallArchive

from db.errors import ConfigurationError
from queries.sql import read_only, sql_frame


def test_rows_keep_their_types(small: SmallArchive) -> None:
    text = (
        "SELECT t.name, t.source_id, t.period, NULL AS hollow, 1 AS one FROM target t"
        " UNION ALL SELECT 'x', NULL, NULL, NULL, NULL ORDER BY 1"
    )
    frame = sql_frame(small.engine, text)
    linked = frame[frame["name"] == "HAT-P-32 b"].iloc[0]
    assert linked["source_id"] == small.target and isinstance(int(linked["source_id"]), int)
    assert frame["source_id"].isna().sum() == 1 and str(frame["source_id"].dtype) == "Int64"
    assert str(frame["period"].dtype) == "float64" and frame["hollow"].isna().all()
    averages = sql_frame(small.engine, "SELECT avg(1.0 * flags) AS mean FROM measurement")  # a Decimal on PostgreSQL
    assert str(averages["mean"].dtype) == "float64"


def test_parameters_and_harmless_punctuation(small: SmallArchive) -> None:
    assert sql_frame(small.engine, "SELECT :a AS a, :b AS b", {"a": 3, "b": "x;y"}).iloc[0].tolist() == [3, "x;y"]
    for text in (" select 1 AS a ; ", "-- why; not\nSELECT 1 AS a", "/* a;b */ SELECT 1 AS a", "(SELECT 1 AS a)"):
        if text.startswith("(") and small.engine.dialect.name == "sqlite":
            continue  # SQLite takes no brackets around a whole statement
        assert sql_frame(small.engine, text)["a"].tolist() == [1]
    assert sql_frame(small.engine, "SELECT ';' AS a, 'it''s; 100 %' AS b").iloc[0].tolist() == [";", "it's; 100 %"]
    assert sql_frame(small.engine, "SELECT '12:30:05 a::b \\:c' AS a, :b AS \"x:y\" -- :c\n", {"b": 1}).iloc[0].tolist() == [
        "12:30:05 a::b \\:c",
        1,
    ]
    assert sql_frame(small.engine, "SELECT 1 AS a WHERE 1 = 0").shape == (0, 1)
    assert sql_frame(small.engine, "SELECT 1 AS a, 2 AS a").iloc[0].tolist() == [1, 2]


@pytest.mark.parametrize(
    "text",
    [
        "DELETE FROM target",
        "INSERT INTO passband VALUES (9, 'x')",
        "UPDATE target SET ra = 0",
        "DROP TABLE target",
        "PRAGMA query_only = OFF",
        "SET TRANSACTION READ WRITE",
        "COMMIT",
        "SELECT 1; DELETE FROM target",
        "COMMIT; DELETE FROM target",
        "WITH a AS (SELECT 1) INSERT INTO passband SELECT 9, 'x' FROM a",
        "WITH a AS (DELETE FROM target RETURNING 1) SELECT * FROM a",
        "",
        ";",
    ],
)
def test_nothing_is_written(small: SmallArchive, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        sql_frame(small.engine, text)
    assert "\n" not in str(caught.value)
    assert len(sql_frame(small.engine, "SELECT * FROM target")) == 2
    assert len(sql_frame(small.engine, "SELECT * FROM passband")) == 2


@pytest.mark.parametrize("text", ["SELECT * FROM nowhere", "SELECT nothing FROM target", "SELECT FROM FROM", "SELECT :missing"])
def test_mistakes_are_one_line(small: SmallArchive, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        sql_frame(small.engine, text)
    assert "\n" not in str(caught.value) and "sqlalche.me" not in str(caught.value)


def test_the_database_itself_refuses_and_a_writer_may_write_afterwards(fresh: SmallArchive) -> None:
    with read_only(fresh.engine) as connection, pytest.raises(sa.exc.DBAPIError):
        connection.execute(sa.text("DELETE FROM target"))
    with fresh.engine.begin() as connection:
        connection.execute(sa.text("UPDATE target SET ra = 1.5"))
    assert sql_frame(fresh.engine, "SELECT ra FROM target")["ra"].tolist() == [1.5, 1.5]


def test_both_engines_give_equal_frames(pair: dict[str, SmallArchive]) -> None:
    text = "SELECT night_id, count(*) AS n, avg(fwhm) AS fwhm, min(path) AS path FROM frame_quality GROUP BY night_id ORDER BY night_id"
    pd.testing.assert_frame_equal(*(sql_frame(archive.engine, text) for archive in pair.values()))
