"""Statements that try to write through a door for reading, made by a grammar from a seed: the same seed, the same statements."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

__all__ = ["MARK", "statements"]

#: A write that is seen at once, and harms nothing.
MARK = "UPDATE run SET host = chr(69)"

_READS = [
    "SELECT 1",
    "SELECT count(*) FROM run",
    "SELECT * FROM target",
    "VALUES (1, 'a')",
    "TABLE passband",
    "SELECT ';'",
    "SELECT E'\\''",
    "SELECT name FROM target UNION ALL SELECT name FROM passband ORDER BY 1",
    'SELECT 1 AS "a;b"',
    "SHOW search_path",
    "SELECT $$;$$",
    "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 9) SELECT * FROM n",
    "EXPLAIN SELECT * FROM run",
    "SELECT max(mag) FROM light_curve",
    "SELECT :b",
    "SELECT 1 WHERE ':b' = :b",
    "SELECT * FROM run WHERE host LIKE '%s' ESCAPE '\\'",
]
_WRITES = [
    MARK,
    "UPDATE run SET host = 'E'",
    "DELETE FROM target",
    "INSERT INTO passband VALUES (9, 'x')",
    "TRUNCATE target",
    "DROP TABLE target",
    "DROP VIEW light_curve",
    "ALTER TABLE run ADD COLUMN evil int",
    "CREATE TABLE evil (a int)",
    "CREATE TABLE evil AS SELECT 1",
    "SELECT 1 AS a INTO evil",
    "CREATE TEMP TABLE evil (a int)",
    "CREATE VIEW evil AS SELECT 1",
    "CREATE INDEX evil ON run (host)",
    "CREATE FUNCTION evil() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE ROLE evil SUPERUSER",
    "CREATE SCHEMA evil",
    "CREATE SEQUENCE evil",
    "GRANT ALL ON run TO PUBLIC",
    "COMMENT ON TABLE run IS 'evil'",
    "REPLACE INTO passband VALUES (1, 'evil')",
    "DELETE FROM sqlite_master",
    "COPY run TO '{path}'",
    "COPY run TO PROGRAM 'touch {path}'",
    "COPY passband FROM PROGRAM 'echo 9,x' WITH CSV",
    "VACUUM INTO '{path}'",
    "VACUUM",
    "ANALYZE",
    "REINDEX TABLE run",
    "CLUSTER run USING run_pkey",
    "CHECKPOINT",
    "ATTACH '{path}' AS evil",
    "PRAGMA user_version = 7",
    "PRAGMA writable_schema = ON",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA query_only = OFF",
    "CREATE TRIGGER evil AFTER INSERT ON run BEGIN SELECT 1; END",
    "DO $x$ BEGIN UPDATE run SET host = 'E'; END $x$",
    "DO $x$ BEGIN COMMIT; UPDATE run SET host = 'E'; END $x$",
    "CALL evil()",
    "ALTER ROLE CURRENT_USER SET statement_timeout = 0",
    "ALTER DATABASE postgres SET work_mem = '1GB'",
    "NOTIFY evil",
    "LISTEN evil",
    "LOCK TABLE run",
    "PREPARE evil AS UPDATE run SET host = 'E'",
    "EXECUTE evil",
    "DECLARE evil CURSOR FOR SELECT 1",
    "FETCH ALL FROM starledger_rows",
    "MERGE INTO run r USING run s ON r.run_id = s.run_id WHEN MATCHED THEN UPDATE SET host = 'E'",
    "SELECT * FROM run FOR UPDATE",
    "LOAD 'evil'",
    "EXPLAIN ANALYZE UPDATE run SET host = 'E'",
    "WITH a AS (UPDATE run SET host = 'E' RETURNING 1) SELECT * FROM a",
    "REFRESH MATERIALIZED VIEW evil",
    "WITH a AS (SELECT 1) UPDATE run SET host = 'E'",
    "INSERT INTO passband VALUES (9, 'x') RETURNING passband_id",
    "DISCARD ALL",
    "RESET SESSION AUTHORIZATION",
]
_CALLS = [
    "set_config('transaction_read_only', 'off', false)",
    "set_config('default_transaction_read_only', 'off', false)",
    "lo_create(0)",
    "lo_from_bytea(0, 'evil')",
    "lo_unlink(1)",
    "lo_import('/etc/passwd')",
    "lo_export(1, '{path}')",
    "pg_advisory_lock(4711)",
    "pg_sleep(0)",
    "pg_try_advisory_lock(4711)",
    "pg_notify('evil', 'x')",
    "nextval('evil')",
    "setval('evil', 1)",
    "pg_read_file('/etc/passwd')",
    "pg_ls_dir('/')",
    "pg_terminate_backend(pg_backend_pid())",
    "pg_cancel_backend(0)",
    "pg_reload_conf()",
    "pg_switch_wal()",
    "pg_create_restore_point('evil')",
    "pg_export_snapshot()",
    "pg_logical_emit_message(false, 'a', 'b')",
    "pg_stat_reset()",
    "query_to_xml('UPDATE run SET host = ''E''', true, false, '')",
    "dblink('', 'UPDATE run SET host = ''E''')",
    "load_extension('evil')",
    "pg_file_write('{path}', 'x', false)",
    "brin_summarize_new_values('run')",
    "gin_clean_pending_list('run')",
    "writefile('{path}', 'x')",
    "pg_replication_origin_create('evil')",
    "fts3_tokenizer('simple', x'00')",
    "ts_stat('UPDATE run SET host = ''E''')",
    "randomblob(9)",
    "pragma_user_version()",
    "edit('x')",
    "pg_create_logical_replication_slot('evil', 'test_decoding')",
    "pg_drop_replication_slot('evil')",
    "current_setting('transaction_read_only')",
    "zeroblob(2000000000)",
    "pg_current_xact_id()",
    "printf('%.*c', 20000000, 'x')",
]
_TURNS = [
    "COMMIT",
    "ROLLBACK",
    "END",
    "ABORT",
    "BEGIN",
    "BEGIN READ WRITE",
    "START TRANSACTION READ WRITE",
    "SAVEPOINT a",
    "RELEASE a",
    "SET TRANSACTION READ WRITE",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    "SET default_transaction_read_only = off",
    "SET transaction_read_only = off",
    "RESET ALL",
    "SET standard_conforming_strings = off",
    "COMMIT AND CHAIN",
    "SET ROLE postgres",
    "PREPARE TRANSACTION 'evil'",
    "SET statement_timeout = 0",
    "PRAGMA query_only = 0",
    "SET search_path = evil",
    "DISCARD ALL",
    "RESET SESSION AUTHORIZATION",
]
#: Where a text of another kind begins and ends, each as one of the two databases reads it, or a lexer that errs.
_QUOTES = [
    ("'", "'"),
    ("E'\\'", "'"),
    ("E'\\' ", "'"),
    ("e'\\\\", "'"),
    ("U&'", "'"),
    ("U&'\\", "'"),
    ('"', '"'),
    ('U&"', '"'),
    ("$$", "$$"),
    ("$a$", "$a$"),
    ("$a$ $b$", "$a$"),
    ("--", "\n"),
    ("--", "\r"),
    ("/*", "*/"),
    ("/* /*", "*/"),
    ("/*'*/", "/*'*/"),
    ("[", "]"),
    ("`", "`"),
    ("B'", "'"),
    ("X'", "'"),
    ("N'", "'"),
    ("'\\", "'"),
    ("''''", "''"),
    ("$1$", "$1$"),
    ("é$$", "$$"),
    ("--\u2028", "\n"),
    ("(", ")"),
]
_BETWEEN = [
    "; ",
    ";",
    ";\r",
    ";\n",
    " ;-- \r",
    "\n;\n",
    ";;",
    "; /* */ ",
    "\x0c;\t",
    "\\;",
    "';",
    '";',
    "*/;",
    "$$;",
    " \\g ",
    "\x00;",
    "\ufeff;",
    "；",
]
_ENDS = ["", ";", " --", " /*", "; SELECT 1", "; SELECT 1 --'", " '", "; COMMIT", "; COMMIT --", " UNION SELECT 1", "\r", ";\r--\n"]


def statements(seed: int, path: str, *, marks: bool = False) -> Iterator[str]:
    """Endlessly, statements in which most try to write; `path` is a file they may try to make.

    With `marks`, they write no more than a mark.
    """
    rng = random.Random(seed)
    kinds = [_ended, _hidden, _turned] if marks else [_read, _ended, _joined, _hidden, _turned, _alone, _called, _within, _glued]
    writes = [MARK] if marks else _WRITES
    while True:
        text = rng.choice(kinds)(rng, writes)
        yield _mutated(rng, text).replace("{path}", path)


def _read(rng: random.Random, _writes: list[str]) -> str:
    return rng.choice(["", " ", "/* ; */", "-- ;\n"]) + rng.choice(_READS) + rng.choice(["", ";", " ;; ", " -- ; COMMIT", " /* ; */"])


def _ended(rng: random.Random, writes: list[str]) -> str:
    """The transaction is ended, and the write is in another."""
    return f"{rng.choice(_READS[:6])}{rng.choice(_BETWEEN[:8])}{rng.choice(_TURNS[:4])}; {rng.choice(writes)}{rng.choice(_ENDS)}"


def _joined(rng: random.Random, writes: list[str]) -> str:
    return rng.choice(_READS) + rng.choice(_BETWEEN) + rng.choice(writes) + rng.choice(_ENDS)


def _turned(rng: random.Random, writes: list[str]) -> str:
    turns = rng.choice(_BETWEEN).join(rng.choices(_TURNS, k=rng.randint(1, 3)))
    return "".join([rng.choice(_READS), rng.choice(_BETWEEN), turns, rng.choice(_BETWEEN), rng.choice(writes), rng.choice(_ENDS)])


def _hidden(rng: random.Random, writes: list[str]) -> str:
    """The rest is within a quotation, for one reader, and without for another."""
    begin, end = rng.choice(_QUOTES)
    other, last = rng.choice(_QUOTES)
    rest = rng.choice(
        [f"; {rng.choice(_TURNS)}; {rng.choice(writes)}; SELECT 1 ", f"; {rng.choice(writes)}", f" ; COMMIT; {rng.choice(writes)} "]
    )
    return (
        rng.choice(["SELECT 1 AS a, ", "SELECT ", "SELECT 1 "])
        + begin
        + rng.choice([end, "x" + end, "", other])
        + rest
        + rng.choice([end, last, ""])
    )


def _alone(rng: random.Random, writes: list[str]) -> str:
    return rng.choice(
        ["", "", " ", ";", "/**/", "--\n", "(", "EXPLAIN ", "EXPLAIN ANALYZE ", "EXPLAIN (ANALYZE, FORMAT json) "]
    ) + rng.choice(writes + _TURNS)


def _called(rng: random.Random, _writes: list[str]) -> str:
    call = rng.choice(_CALLS)
    name, bracket, rest = call.partition("(")
    name = rng.choice(
        [
            name,
            name.upper(),
            f"pg_catalog.{name}",
            f'"{name}"',
            f'pg_catalog . "{name}"',
            f"{name} /* */ ",
            f"1+{name}",
            f"{name}\r",
            f"main.{name}",
        ]
    )
    form = rng.choice(
        [
            "SELECT {}",
            "SELECT * FROM {}",
            "SELECT 1 WHERE {} IS NULL",
            "VALUES ({})",
            "SELECT 1 ORDER BY {}",
            "SELECT (SELECT {})",
            "WITH a AS MATERIALIZED (SELECT {}) SELECT * FROM a",
            "SELECT coalesce(NULL, {})",
            "SELECT count(*) FROM run GROUP BY {}",
            "TABLE {}",
        ]
    )
    return form.replace("{}", name + bracket + rest, 1)


def _within(rng: random.Random, writes: list[str]) -> str:
    """A write where a query is expected."""
    write = rng.choice(writes)
    form = rng.choice(
        [
            "WITH a AS ({} RETURNING *) SELECT * FROM a",
            "SELECT * FROM ({}) a",
            "SELECT ({})",
            "WITH a AS ({}) SELECT 1",
            "SELECT EXISTS ({})",
            "WITH RECURSIVE a AS (SELECT 1 UNION ALL {}) SELECT * FROM a",
            "SELECT * FROM ({} RETURNING 1) a",
            "COPY ({}) TO STDOUT",
        ]
    )
    return form.replace("{}", write, 1)


def _glued(rng: random.Random, writes: list[str]) -> str:
    pieces = (
        [piece for pair in rng.choices(_QUOTES, k=4) for piece in pair] + _BETWEEN + rng.choices(_TURNS, k=3) + rng.choices(writes, k=3)
    )
    return rng.choice(_READS) + "".join(rng.choices(pieces, k=rng.randint(1, 8)))


def _mutated(rng: random.Random, text: str) -> str:
    change: Callable[[str], str] = rng.choice([str, str, str, str, str.lower, str.swapcase, _with_space, lambda one: _cut(rng, one)])
    return change(text)


def _with_space(text: str) -> str:
    return text.replace(" ", "/**/\t")


def _cut(rng: random.Random, text: str) -> str:
    at = rng.randrange(len(text))
    return text[:at] + rng.choice(["", "'", "\\", ";", "\r", '"', "\x00", "$"]) + text[at + rng.randint(0, 2) :]
