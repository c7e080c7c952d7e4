"""How both engines read the view of open and closed measurements: by their keys, whatever is asked of it."""

from __future__ import annotations

import re

import pytest
import sqlalchemy as sa
from small_archive import SmallArchive

from db.engine import is_sqlite

TABLES = ("open_measurement", "closed_measurement")
#: What is asked, for which the view must be taken apart into its two tables, not read into one first.
QUESTIONS = {
    "a curve": "SELECT * FROM light_curve WHERE source_id = :s AND night_id BETWEEN 6562 AND 6563 ORDER BY bjd_tdb, frame_id",
    "a curve in a slot": "SELECT * FROM light_curve_all WHERE source_id = :s AND night_id BETWEEN 6562 AND 6563 AND slot = 1",
    "a standard curve": "SELECT * FROM standard_light_curve WHERE source_id = :s AND night_id BETWEEN 6562 AND 6563 ORDER BY bjd_tdb",
    "a frame of a closed night": "SELECT * FROM light_curve WHERE night_id = 6562 AND frame_id = 3",
    "a frame of an open night": "SELECT * FROM light_curve WHERE night_id = 6563 AND frame_id = 15",
    "a night": "SELECT source_id, mag FROM light_curve WHERE night_id = 6562",
    "measurements of a source": "SELECT * FROM measurement WHERE source_id = :s AND night_id = 6562",
    "measurements of a frame": "SELECT m.* FROM frame f JOIN measurement m ON m.night_id = f.night_id AND m.frame_id = f.frame_id"
    " WHERE f.frame_id = 15",
    "whether there is one": "SELECT f.frame_id, (SELECT m.flags FROM measurement m WHERE m.source_id = :s AND m.night_id = f.night_id"
    " AND m.frame_id = f.frame_id) FROM frame f",
}
AVERAGES = {
    "of a curve": "SELECT avg(mag) FROM light_curve WHERE source_id = :s",
    "of a frame": "SELECT avg(mag) FROM light_curve WHERE night_id = 6562 AND frame_id = 3",
    "of a night": "SELECT source_id, avg(mag) FROM light_curve WHERE night_id = 6562 GROUP BY source_id",
}


EVERY = {**QUESTIONS, **{f"an average {name}": text for name, text in AVERAGES.items()}}


def plan(small: SmallArchive, text: str) -> list[str]:
    with small.engine.connect() as connection:
        parameters = {"s": small.target} if ":s" in text else {}
        if is_sqlite(connection):
            return [row[-1] for row in connection.execute(sa.text(f"EXPLAIN QUERY PLAN {text}"), parameters)]
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        return [row[0] for row in connection.execute(sa.text(f"EXPLAIN (COSTS OFF) {text}"), parameters)]


def read_through(small: SmallArchive, lines: list[str]) -> list[str]:
    """Lines of a plan that read a table from end to end."""
    names = "|".join(TABLES)
    if is_sqlite(small.engine):
        return [line for line in lines if re.match(rf"SCAN ({names})\b", line)]
    entered = [k for k, line in enumerate(lines) if re.search(rf"Scan.* on ({names})", line)]
    return [lines[k] for k in entered if "Cond" not in lines[k + 1]]


@pytest.mark.parametrize("question", EVERY.values(), ids=EVERY)
def test_measurements_are_read_by_key(question: str, small: SmallArchive) -> None:
    lines = plan(small, question)
    assert read_through(small, lines) == [], "\n".join(lines)
    assert all(any(table in line for line in lines) for table in TABLES)


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_the_view_is_taken_apart(question: str, small: SmallArchive) -> None:
    """SQLite reads it into a table of its own where it averages; a whole night of it, at most."""
    lines = plan(small, question)
    assert [line for line in lines if re.match(r"(MATERIALIZE|CO-ROUTINE|SCAN) measurement", line)] == [], "\n".join(lines)


def test_a_row_is_in_one_of_the_tables_and_in_the_view(small: SmallArchive) -> None:
    with small.engine.connect() as connection:
        both, opened, closed = (
            connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar_one() for name in ("measurement", *TABLES)
        )
        nights = [row[0] for row in connection.exec_driver_sql("SELECT DISTINCT night_id FROM open_measurement")]
    assert both == opened + closed == small.mag.size and opened > 0 and closed > 0
    assert nights == [6563]
