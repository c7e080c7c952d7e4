"""A person's own SELECT: it reads everything and writes nothing."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from compare import snapshot
from small_archive import SmallArchive

import queries.sql
from db.engine import make_engine
from db.errors import ConfigurationError, StarledgerError
from queries.parameters import with_values
from queries.sql import read_only, sql_frame, sql_rows

WRITE = "UPDATE run SET host = 'E'"


def is_postgresql(small: SmallArchive) -> bool:
    return small.engine.dialect.name == "postgresql"


def state(small: SmallArchive) -> dict[str, Any]:
    """All that could be written to: every row, what tables there are, large objects."""
    found: dict[str, Any] = dict(snapshot(small.engine.url.render_as_string(hide_password=False), without=()))
    with small.engine.connect() as connection:
        inspector = sa.inspect(connection)
        found["names"] = [sorted(inspector.get_table_names()), sorted(inspector.get_view_names()), sorted(inspector.get_schema_names())]
        if is_postgresql(small):
            found["large objects"] = connection.execute(sa.text("SELECT oid FROM pg_largeobject_metadata")).all()
    return found


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
    for text in (" select 1 AS a ; ", "-- why; not\nSELECT 1 AS a", "/* a;b */ SELECT 1 AS a", "(SELECT 1 AS a)", "SELECT 1 AS a;;"):
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
    "text", ["it's", "\\", "\\' ; -- x", "$$ $a$", "/* :b */", "%s %(a)s %%", "a\nb\rc", ":b", '"', "é \U0001f31f", ""]
)
def test_a_text_comes_back_as_it_was(small: SmallArchive, text: str) -> None:
    frame = sql_frame(small.engine, "SELECT :a AS a, ':a' AS b, 100 % 7 AS c, :a AS d", {"a": text, "more": 1})
    assert frame.iloc[0].tolist() == [text, ":a", 2, text]


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(3, "int64"), (-3, "int64"), (2**60 + 1, "int64"), (1.25, "float64"), (np.int64(7), "int64"), (np.float64(-0.5), "float64")],
)
def test_a_number_comes_back_as_it_was(small: SmallArchive, value: Any, dtype: str) -> None:
    frame = sql_frame(small.engine, "SELECT :a AS a, 5 -:a AS b", {"a": value})
    assert frame["a"].item() == value and str(frame["a"].dtype) == dtype and frame["b"].item() == 5 - value


def test_none_is_null(small: SmallArchive) -> None:
    assert sql_frame(small.engine, "SELECT :a AS a, coalesce(:a, 2) AS b", {"a": None}).iloc[0].tolist() == [None, 2]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("WITH a AS (SELECT 1 AS x UNION ALL SELECT 2) SELECT x, sum(x) OVER (ORDER BY x) AS s FROM a ORDER BY x", [[1, 1], [2, 3]]),
        ("WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 3) SELECT x FROM n", [[1], [2], [3]]),
        ("VALUES (1, 'a;b'), (2, 'c')", [[1, "a;b"], [2, "c"]]),
        ("SELECT 1 AS \"a;b\", 'DELETE FROM target; COMMIT' AS c", [[1, "DELETE FROM target; COMMIT"]]),
        ("SELECT 1 /* ; COMMIT; */ AS a -- ; COMMIT\n, 2 AS b", [[1, 2]]),
        ("SELECT '\\' AS a, ';' AS b", [["\\", ";"]]),
        ("SELECT 5 % 3 AS a, 'x' LIKE '%' AS b, '50%' AS c", [[2, True, "50%"]]),
        ("SELECT count(*) AS n FROM (SELECT * FROM light_curve WHERE log10(airmass) >= 0 LIMIT 3) x", [[3]]),
    ],
)
def test_what_reads_is_answered(small: SmallArchive, text: str, rows: list[list[Any]]) -> None:
    assert sql_frame(small.engine, text).to_numpy().tolist() == rows


@pytest.mark.parametrize(
    ("text", "parameters", "rows"),
    [
        ("SELECT '3'::int AS a, :b::int AS b, (ARRAY[1,2,3])[1:2] AS c", {"b": -4}, [[3, -4, [1, 2]]]),
        ("SELECT E'it\\'s; :a' AS a, $$;' :a$$ AS b, $x$ $$ ; :a $x$ AS c, :a AS d", {"a": 1}, [["it's; :a", ";' :a", " $$ ; :a ", 1]]),
        ("SELECT U&'d\\0061t\\003b' AS a, 1 /* /* ; ' */ :a */ AS b", {}, [["dat;", 1]]),
        ("SELECT x FROM generate_series(1, 3) x WHERE x = ANY(:few) AND x IN :some", {"few": [1, 3], "some": (2, 3)}, [[3]]),
        ("SELECT :day AS day", {"day": dt.date(2017, 12, 19)}, [[dt.date(2017, 12, 19)]]),
        ("TABLE passband", {}, [[1, "clear"], [2, "V"]]),
        ("SELECT 1 AS a -- :b\r, :c AS d", {"c": 2}, [[1, 2]]),
    ],
)
def test_postgresql_keeps_its_ways(pair: dict[str, SmallArchive], text: str, parameters: dict[str, Any], rows: list[list[Any]]) -> None:
    assert sql_frame(pair["postgresql"].engine, text, parameters).to_numpy().tolist() == rows


def test_sqlite_keeps_its_ways(pair: dict[str, SmallArchive]) -> None:
    engine = pair["sqlite"].engine
    assert sql_frame(engine, "SELECT value FROM json_each('[4, 5]')")["value"].tolist() == [4, 5]
    assert sql_frame(engine, "SELECT 'abc' REGEXP 'b' AS a, floor(NULL) AS b").iloc[0].tolist() == [1, None]
    assert "target" in sql_frame(engine, "SELECT name FROM sqlite_master")["name"].tolist()


def test_a_plan_is_explained(small: SmallArchive) -> None:
    plan = sql_frame(small.engine, f"EXPLAIN {'' if is_postgresql(small) else 'QUERY PLAN '}SELECT * FROM target WHERE ra > :ra", {"ra": 1})
    assert plan.iloc[:, -1].str.contains("target").any()


#: To SQLite, a carriage return ends no comment: these are one SELECT.
COMMENTED = [
    f"SELECT 1 --\r; COMMIT; {WRITE}; SELECT 1",
    f"SELECT 1 --;\r; ROLLBACK; BEGIN READ WRITE; {WRITE}; COMMIT; SELECT 1",
]
REFUSED = [
    f"SELECT E'\\' ' ; COMMIT; {WRITE}; SELECT 1 --'",
    f"SELECT e'\\'' AS a; COMMIT; {WRITE}; COMMIT; BEGIN; SELECT '\\'",
    f"SELECT $a$'$a$; COMMIT; {WRITE}; COMMIT; SELECT $a$'$a$",
    f"SELECT $$ $a$ $$; COMMIT; {WRITE}; SELECT $$ $a$ $$",
    f"SELECT 1 /* /* */ ' */; COMMIT; {WRITE}; SELECT 1 --'",
    f"SELECT U&'\\0027'; COMMIT; {WRITE}; SELECT '",
    f"SELECT U&'!' UESCAPE '!'; COMMIT; {WRITE}; SELECT 1",
    f"SET standard_conforming_strings = off; SELECT '\\'; COMMIT; {WRITE}; SELECT 1 --'",
    f"SELECT '\\'; COMMIT; {WRITE}; SELECT 1 --",
    f"SELECT 1\0; COMMIT; {WRITE}",
    f"SELECT 1; COMMIT; {WRITE}; SELECT 1",
    f"SELECT 1\n;\nCOMMIT\n;\n{WRITE}\n;\nSELECT 1",
    f"SELECT 1; {WRITE}",
    f"{WRITE} RETURNING 1",
    f"EXPLAIN ANALYZE {WRITE}",
    f"WITH a AS ({WRITE} RETURNING 1) SELECT * FROM a",
    f"DO $$BEGIN COMMIT; {WRITE}; END$$",
    f"PREPARE p AS {WRITE}",
    "EXECUTE p",
    "CALL p()",
    "SET ROLE NONE",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    "SET TRANSACTION READ WRITE",
    "BEGIN",
    "COMMIT",
    "COMMIT AND CHAIN",
    "SAVEPOINT a",
    "LISTEN a",
    "NOTIFY a",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "FETCH ALL FROM starledger_rows",
    "LOCK TABLE run",
    "SELECT * INTO copied FROM target",
    "CREATE TEMP TABLE copied AS SELECT * FROM target",
    "CREATE TABLE copied (a integer)",
    "SELECT * FROM target FOR UPDATE",
    "TRUNCATE run",
    "VACUUM",
    "ANALYZE",
    "REINDEX TABLE run",
    "COPY run TO STDOUT",
    "COPY run FROM PROGRAM 'true'",
    "UPDATE pg_settings SET setting = 'off' WHERE name = 'transaction_read_only'",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "SELECT pg_catalog . \"set_config\"('default_transaction_read_only', 'off', false)",
    "SELECT 1SET_CONFIG('role', 'none', false)",
    "SELECT U&\"set\\005fconfig\"('transaction_read_only', 'off', true)",
    "SELECT nextval('run_run_id_seq')",
    "SELECT lo_create(4711)",
    "SELECT lo_from_bytea(4711, 'x')",
    "SELECT lo_export(1, '/nowhere')",
    "SELECT pg_read_file('PG_VERSION')",
    "SELECT * FROM pg_ls_dir('.')",
    "SELECT pg_notify('a', 'b')",
    "SELECT pg_terminate_backend(1)",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_try_advisory_lock(1)",
    "SELECT * FROM dblink('', 'DELETE FROM run') AS t (a integer)",
    "SELECT query_to_xml('SELECT 1', true, false, '')",
    "PRAGMA query_only = OFF",
    "PRAGMA writable_schema = ON",
    "PRAGMA user_version = 7",
    "SELECT * FROM pragma_table_info('target')",
    "SELECT load_extension('x')",
    "DETACH DATABASE main",
    "REPLACE INTO passband VALUES (1, 'x')",
    "INSERT INTO passband VALUES (9, 'x')",
    "DELETE FROM target",
    "UPDATE target SET ra = 0",
    "DROP TABLE target",
    "DELETE FROM sqlite_master",
    "COMMIT; DELETE FROM target",
    "WITH a AS (SELECT 1) INSERT INTO passband SELECT 9, 'x' FROM a",
    "WITH a AS (DELETE FROM target RETURNING 1) SELECT * FROM a",
    "-- nothing",
    "",
    " ; ;",
]


def test_nothing_is_written(fresh: SmallArchive) -> None:
    before = state(fresh)
    for text in REFUSED:
        with pytest.raises(ConfigurationError) as caught:
            sql_frame(fresh.engine, text)
        assert "\n" not in str(caught.value) and caught.value.exit_code == 2, text
        assert state(fresh) == before, text


def test_a_carriage_return_ends_a_comment_for_postgresql_only(fresh: SmallArchive) -> None:
    before = state(fresh)
    for text in COMMENTED:
        if is_postgresql(fresh):
            with pytest.raises(ConfigurationError, match="only one statement"):
                sql_frame(fresh.engine, text)
        else:
            assert sql_frame(fresh.engine, text).to_numpy().tolist() == [[1]]
        assert state(fresh) == before, text


def test_no_file_is_made(fresh: SmallArchive, tmp_path: Any) -> None:
    path = tmp_path / "made"
    for text in (f"ATTACH '{path}' AS x", f"VACUUM INTO '{path}'", f"COPY run TO '{path}'", f"COPY run TO PROGRAM 'touch {path}'"):
        with pytest.raises(ConfigurationError):
            sql_frame(fresh.engine, text)
        assert not path.exists(), text


FRAGMENTS = [
    *("'", "''", '"', "E'", "e'\\'", "U&'", 'U&"', "$$", "$a$", "\\", "\\'", "--", "/*", "*/", "\r", "\n", "\t", " ", "(", ")", ","),
    *(";", ";", ";", "; COMMIT;", ";\rROLLBACK;", f"; COMMIT; {WRITE}; ", f"; {WRITE}; COMMIT; ", f"; COMMIT; {WRITE} --", WRITE),
    *("SELECT 1", "SELECT 1 ", "SELECT ';'", "SELECT E'\\''", "VALUES (1)", "BEGIN;", "AS a", "1", ":b", "::int", "%s", "é", "\x0c"),
]


def glued(seed: int) -> str:
    rng = random.Random(seed)
    pieces = ["SELECT 1", *rng.choices(FRAGMENTS, k=rng.randint(0, 6))]
    if seed % 2:  # what is between closes and opens again: more of these can be parsed
        quote = rng.choice(["'", '"', "$$", "--", "/*", "E'\\'", "--\r", ""])
        pieces[1:] = [quote, *pieces[1:3], {"--": "\n", "/*": "*/", "E'\\'": "'"}.get(quote, quote), f"; COMMIT; {WRITE}; SELECT 1"]
    return "".join(pieces)


def test_glued_texts_write_nothing(fresh: SmallArchive) -> None:
    before, answered = state(fresh), 0
    for seed in range(300):
        text = glued(seed)
        try:
            sql_frame(fresh.engine, text, {"b": "'; COMMIT; " + WRITE + " --"})
            answered += 1
        except StarledgerError as error:
            assert "\n" not in str(error), text
        if seed % 10 == 9:
            assert state(fresh) == before, [glued(k) for k in range(seed - 9, seed + 1)]
    # There are texts that are answered, and texts that write where nothing refuses them: else this would show little.
    assert answered >= 10
    assert sum(written_without_a_guard(fresh, glued(seed)) for seed in range(1, 100, 2)) >= 10


def written_without_a_guard(fresh: SmallArchive, text: str) -> bool:
    """Whether the text changes `run` where the driver gets it as it is, in a read-only transaction; what it changed is put back."""
    with fresh.engine.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        cursor = driver.cursor()
        try:
            if is_postgresql(fresh):
                cursor.execute(f"BEGIN READ ONLY; {text}")
            else:
                cursor.executescript(f"BEGIN; {text}")
        except (driver_error(fresh), ValueError):
            pass
        cursor.close()
        driver.rollback()
        connection.detach()
        connection.invalidate()
    with fresh.engine.begin() as connection:
        return connection.execute(sa.text("UPDATE run SET host = '' WHERE host = 'E'")).rowcount > 0


def driver_error(small: SmallArchive) -> type[Exception]:
    error: type[Exception] = small.engine.dialect.loaded_dbapi.Error
    return error


def test_a_transaction_stays_read_only_and_leaves_nothing_behind(pair: dict[str, SmallArchive], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server does where the names of functions are not looked at."""
    small = pair["postgresql"]
    before = state(small)
    monkeypatch.setattr(queries.sql, "_ACT", queries.sql.re.compile("(?!)"))
    with pytest.raises(ConfigurationError, match="before any query"):
        sql_frame(small.engine, "SELECT set_config('transaction_read_only', 'off', false)")
    with pytest.raises(ConfigurationError, match="non-volatile"):
        sql_frame(small.engine, f"SELECT query_to_xml($x${WRITE}$x$, true, false, '')")
    sql_frame(small.engine, "SELECT lo_create(4711), pg_advisory_lock(4711), set_config('default_transaction_read_only', 'off', false)")
    assert state(small) == before
    held = "SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711"  # tests beside this one hold others
    assert sql_frame(small.engine, held)["n"].item() == 0
    with pytest.raises(ConfigurationError, match="read-only transaction"):
        sql_frame(small.engine, f"WITH a AS ({WRITE} RETURNING 1) SELECT * FROM a")


def test_session_and_transaction_are_read_only(pair: dict[str, SmallArchive]) -> None:
    text = "SELECT current_setting('transaction_read_only') AS a, current_setting('default_transaction_read_only') AS b"
    assert sql_frame(pair["postgresql"].engine, text).iloc[0].tolist() == ["on", "on"]
    with pair["postgresql"].engine.connect() as connection:  # the pool's connections are as they were
        assert connection.execute(sa.text(text)).one() == ("off", "off")


def test_a_database_in_memory_is_only_read_meanwhile() -> None:
    engine = make_engine("sqlite://", writer=True)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE run (host text)")
        connection.exec_driver_sql("INSERT INTO run VALUES ('a')")
    with pytest.raises(ConfigurationError, match="not authorized"):
        sql_frame(engine, WRITE)
    assert sql_frame(engine, "SELECT host FROM run")["host"].tolist() == ["a"]
    with engine.begin() as connection:
        connection.exec_driver_sql(WRITE)
    assert sql_frame(engine, "SELECT host FROM run")["host"].tolist() == ["E"]
    engine.dispose()


def test_ordinary_words_are_no_functions(small: SmallArchive) -> None:
    frame = sql_frame(small.engine, 'SELECT 1 AS counts_stat, 2 AS lo_mag, 4 AS "pg", 6 & "one" AS u FROM (SELECT 2 AS one) x')
    assert frame.iloc[0].tolist() == [1, 2, 4, 2]


def test_rows_come_in_pieces(small: SmallArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries.sql, "PIECE", 7)
    text = "SELECT source_id, night_id, frame_id FROM measurement ORDER BY night_id, frame_id, source_id"
    with sql_rows(small.engine, text) as (names, rows):
        found = list(rows)
    assert names == ["source_id", "night_id", "frame_id"] and len(found) == small.mag.size == len(set(found))
    assert found == sorted(found, key=lambda row: (row[1], row[2], row[0]))
    for most in (6, 7, 8, 14):
        assert len(sql_frame(small.engine, "SELECT source_id FROM measurement LIMIT :most", {"most": most})) == most


def test_a_late_mistake_is_told_as_well(pair: dict[str, SmallArchive], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries.sql, "PIECE", 10)
    text = "SELECT 1 / (25 - x) AS a FROM generate_series(1, 30) x"
    with sql_rows(pair["postgresql"].engine, text) as (_, rows), pytest.raises(ConfigurationError, match="division by zero"):
        list(rows)


@pytest.mark.parametrize("text", ["SELECT * FROM nowhere", "SELECT nothing FROM target", "SELECT FROM FROM", "SELECT :missing"])
def test_mistakes_are_one_line(small: SmallArchive, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        sql_frame(small.engine, text)
    assert "\n" not in str(caught.value) and "sqlalche.me" not in str(caught.value)


@pytest.mark.parametrize("value", [object(), "\udc80", {"a": 1}])
def test_values_that_no_database_takes(small: SmallArchive, value: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        sql_frame(small.engine, "SELECT sqrt(:a) AS a", {"a": value})
    assert "\n" not in str(caught.value)


def test_values_go_where_names_are() -> None:
    text = "a :b ':b' \":b\" E'\\':b' $$:b$$ $q$:b$q$ x::b y[1:b] -- :b\r:b /* :b /* */ :b */ :b$c$:b"
    expected = "a <1> ':b' \":b\" E'\\':b' $$:b$$ $q$:b$q$ x::b y[1:b] -- :b\r<1> /* :b /* */ :b */ <1>$c$<1>"
    assert with_values(text, {"b": 1}, lambda value: f"<{value}>") == expected
    assert with_values("/* :b", {}, str) == "/* :b"


def test_the_database_itself_refuses_and_a_writer_may_write_afterwards(fresh: SmallArchive) -> None:
    with read_only(fresh.engine) as connection, pytest.raises(sa.exc.DBAPIError):
        connection.execute(sa.text("DELETE FROM target"))
    with fresh.engine.begin() as connection:
        connection.execute(sa.text("UPDATE target SET ra = 1.5"))
    assert sql_frame(fresh.engine, "SELECT ra FROM target")["ra"].tolist() == [1.5, 1.5]


def test_both_engines_give_equal_frames(pair: dict[str, SmallArchive]) -> None:
    text = "SELECT night_id, count(*) AS n, avg(fwhm) AS fwhm, min(path) AS path FROM frame_quality GROUP BY night_id ORDER BY night_id"
    pd.testing.assert_frame_equal(*(sql_frame(archive.engine, text) for archive in pair.values()))
