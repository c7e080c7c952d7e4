"""A statement ends: by the clock, by an interrupt, when nobody reads its answer; and what it answers needs little memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from small_archive import SmallArchive

import queries.sql
from db.engine import is_sqlite
from db.errors import ConfigurationError
from queries.limits import Clock
from queries.sql import sql_frame, sql_rows, writer_by_right

FULL = os.environ.get("STARLEDGER_REALDATA") == "full"
#: Runs a command, and tells its peak memory last.
MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
sys.stderr.write(f" {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss}")
sys.exit(code)
"""
ENDLESS = "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
#: Found again among the server's statements, of tests beside this one.
MARKED = f"{ENDLESS} SELECT count(*) AS mark_{os.getpid()} FROM n"


def running(small: SmallArchive) -> int:
    """Sessions of the server that work on, or hold open, what this module asked."""
    if is_sqlite(small.engine):
        return 0
    # The text is data of another statement while rows are fetched: whoever else is connected to this database is the command.
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'"
    with small.engine.connect() as connection:
        return int(connection.execute(sa.text(query)).scalar_one())


def wait_until(true: object, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)


def command(small: SmallArchive, tmp_path: Path, *words: str) -> list[str]:
    url = small.engine.url.render_as_string(hide_password=False)
    return [sys.executable, "-m", "starledger", *words, "--archive", url]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "STARLEDGER_FILES": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.mark.parametrize("rows", ["count(*)", "x"])
def test_an_endless_statement_ends_by_the_clock(small: SmallArchive, rows: str) -> None:
    begin = time.monotonic()
    with (
        pytest.raises(ConfigurationError, match=r"no answer within 0\.5 s") as caught,
        sql_rows(small.engine, f"{ENDLESS} SELECT {rows} FROM n", timeout=0.5) as (_, found),
    ):
        sum(1 for _ in found)
    assert caught.value.code == "sql.timeout" and "--timeout" in str(caught.value)
    assert time.monotonic() - begin < 20  # it is not slow: it has no end
    wait_until(lambda: not running(small))


BACKTRACKING = "^(a|aa)+$"


def test_a_pattern_that_tries_all_ways_ends_by_the_clock(pair: dict[str, SmallArchive]) -> None:
    engine = pair["sqlite"].engine  # PostgreSQL's patterns try no way twice
    query = f"SELECT '{'a' * 60}!' REGEXP '{BACKTRACKING}' AS a"
    with pytest.raises(ConfigurationError, match=r"no answer within 0\.5 s"):
        sql_frame(engine, query, timeout=0.5)
    for timeout in (0.0, 30.0):  # the connection is as it was before
        answer = sql_frame(
            engine,
            "SELECT 'aaa' REGEXP :p AS a, 'ab' REGEXP :p AS b, NULL REGEXP :p AS c, 12 REGEXP '2' AS d",
            {"p": BACKTRACKING},
            timeout=timeout,
        )
        assert answer.iloc[0].tolist() == [1, 0, None, 1]


def test_a_pattern_that_is_none_is_quoted(pair: dict[str, SmallArchive]) -> None:
    with pytest.raises(ConfigurationError, match=r"missing \)"):
        sql_frame(pair["sqlite"].engine, "SELECT 'a' REGEXP '(a' AS a")


def test_an_interrupt_ends_such_a_pattern(pair: dict[str, SmallArchive], tmp_path: Path, environment: dict[str, str]) -> None:
    query = f"SELECT '{'a' * 60}!' REGEXP '{BACKTRACKING}' AS a"
    asks = subprocess.Popen(command(pair["sqlite"], tmp_path, "sql", query), env=environment, stderr=subprocess.PIPE, text=True)
    time.sleep(5.0)
    assert asks.poll() is None
    asks.send_signal(signal.SIGINT)
    assert asks.communicate(timeout=20)[1].count("\n") == 1
    assert asks.returncode == 130


def test_the_client_stops_a_server_that_keeps_no_time(pair: dict[str, SmallArchive], monkeypatch: pytest.MonkeyPatch) -> None:
    """As one does between two statements, and where a function puts the limit up."""
    monkeypatch.setattr(queries.sql, "_LIMIT", "SET LOCAL statement_timeout = 0 -- {}")
    with pytest.raises(ConfigurationError, match=r"no answer within 0\.3 s"):
        sql_frame(pair["postgresql"].engine, f"{ENDLESS} SELECT count(*) FROM n", timeout=0.3)
    wait_until(lambda: not running(pair["postgresql"]))


def test_the_clock_runs_while_the_database_works_only(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("queries.limits.time.monotonic", lambda: now[0])
    clock = Clock(10.0)
    for _ in range(3):
        with clock.running():
            now[0] += 3.0
        now[0] += 100.0
    assert clock.left == 1.0 and clock.milliseconds == 1000


@pytest.mark.parametrize("timeout", [-1.0, float("nan")])
def test_a_limit_that_is_none_is_refused(small: SmallArchive, timeout: float) -> None:
    with pytest.raises(ConfigurationError, match="no time limit"):
        sql_frame(small.engine, "SELECT 1", timeout=timeout)


@pytest.mark.parametrize("timeout", [0.0, float("inf"), 1e12])
def test_there_may_be_no_limit(small: SmallArchive, timeout: float) -> None:
    assert sql_frame(small.engine, "SELECT 1 AS a", timeout=timeout)["a"].tolist() == [1]


@pytest.mark.parametrize(("end", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_ends_it_on_the_server_as_well(
    small: SmallArchive, end: signal.Signals, code: int, tmp_path: Path, environment: dict[str, str]
) -> None:
    words = command(small, tmp_path, "sql", MARKED, "--timeout", "600")
    # A shell's background jobs, as of a test in one, pass on that they are not to be interrupted.
    begun = subprocess.Popen(
        words, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    )
    with begun:
        wait_until(lambda: begun.poll() is not None or (_seconds(begun.pid) > 3 if is_sqlite(small.engine) else running(small)))
        time.sleep(0.5)
        begun.send_signal(end)
        _, said = begun.communicate(timeout=60)
    assert begun.returncode == code and "interrupted" in said and "Traceback" not in said
    wait_until(lambda: not running(small))


def _seconds(pid: int) -> float:
    """Processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_closed_pipe_ends_it_on_the_server_as_well(small: SmallArchive, tmp_path: Path, environment: dict[str, str]) -> None:
    words = command(small, tmp_path, "sql", f"{ENDLESS} SELECT x FROM n", "--timeout", "600", "--format", "csv")
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as begun:
        assert begun.stdout is not None and begun.stderr is not None
        assert [begun.stdout.readline() for _ in range(2)] == ["x\n", "1\n"]
        begun.stdout.close()
        said = begun.stderr.read()
        assert begun.wait(60) == 141
    assert "Traceback" not in said and "Exception" not in said
    wait_until(lambda: not running(small))


@pytest.mark.parametrize("output", ["-", "rows.csv"])
def test_millions_of_rows_need_no_more_memory_than_a_few(
    small: SmallArchive, output: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    def peak(number: int) -> int:
        text = f"WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < {number}) SELECT x, 'text ' || x AS a FROM n"
        words = command(small, tmp_path, "sql", text, "--format", "csv", *([] if output == "-" else ["-o", str(tmp_path / output)]))
        with (tmp_path / "printed").open("wb") as printed:
            done = subprocess.run([sys.executable, "-c", MEASURE, *words], env=environment, stdout=printed, stderr=subprocess.PIPE)
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / ("printed" if output == "-" else output)).read_bytes().count(b"\n")
        assert lines == number + 1
        return int(done.stderr.split()[-1])

    few, many = peak(30_000), peak(3_000_000 if FULL else 200_000)
    assert many < few + 20_000, (few, many)  # kB


def test_a_table_has_the_first_rows_and_says_so(
    small: SmallArchive, tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from starledger.cli import output

    monkeypatch.setattr(output, "_MOST", 5)
    rows = iter([(k,) for k in range(9)])
    output.emit_rows(["a"], rows, "table", tmp_path / "a.txt")
    assert [line.strip() for line in (tmp_path / "a.txt").read_text().splitlines()][-6:-1] == ["0", "1", "2", "3", "4"]
    output.emit_rows(["a"], iter([(k,) for k in range(9)]), "csv", tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text().count("\n") == 10


def test_who_could_write_is_told_once(small: SmallArchive, tmp_path: Path, environment: dict[str, str]) -> None:
    words = command(small, tmp_path, "sql", "SELECT 1 AS a", "--format", "csv")
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "a\n1\n"
    assert done.stderr == ("" if is_sqlite(small.engine) else f"{writer_by_right(small.engine)}\n")
    assert is_sqlite(small.engine) or "db grant" in done.stderr
