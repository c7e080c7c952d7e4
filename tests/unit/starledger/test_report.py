"""What a stranger reads while a reduction runs: steps with work, how far they are, a table of what was done, and the exit code."""

from __future__ import annotations

import io
from typing import Any

import pytest

from db.errors import FrameUnusable
from reduction.pipeline.declaration import Unit
from reduction.pipeline.order import STEPS
from reduction.pipeline.scheduler import Tally
from starledger.cli import report
from starledger.cli.demo import _table
from starledger.cli.output import Screen
from starledger.cli.report import ProgressReporter, summary_table
from starledger.demo.compare import Comparison, Row
from starledger.reduce import exit_code


def printed(table: Any) -> str:
    stream = io.StringIO()
    Screen(file=stream, width=200).print(table)
    return stream.getvalue()


def test_steps_with_nothing_to_do_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(report.time, "monotonic", lambda: clock[0])
    stream = io.StringIO()
    with ProgressReporter(Screen(file=stream, width=200)) as reporter:
        reporter.begin(STEPS["bias"], 0)
        reporter.end(STEPS["bias"], Tally("bias"))
        reporter.begin(STEPS["solve"], 4)
        for seconds, name in ((1.0, "a.fits"), (60.0, "b.fits"), (1.0, "c.fits")):
            clock[0] += seconds
            reporter.advance(STEPS["solve"], Unit(name, name), None)
        reporter.again(STEPS["solve"], "from neighbours", 1)
        reporter.advance(STEPS["solve"], Unit("4", "d.fits"), FrameUnusable("no light"))
        reporter.end(STEPS["solve"], Tally("solve"))
    assert stream.getvalue().splitlines() == [
        "solve: 4 to do",
        "solve: b.fits done, 2 still to do",
        "solve: from neighbours, 1 still to do",
        "solve d.fits: no light",
    ]
    assert "\x1b" not in stream.getvalue()  # colours and bars are for terminals


def test_the_table_has_the_steps_that_had_work() -> None:
    text = printed(summary_table([Tally("bias"), Tally("detect", done=3), Tally("solve", failed={"1": "x"}), Tally("field", before=2)]))
    assert [line.split()[0] for line in text.splitlines()] == ["step", "detect", "solve", "field"]


def test_what_was_not_recovered_is_said_in_words() -> None:
    nan = float("nan")
    rows = [Row("one", "depth", "", 0.02, nan, nan, True, 0.05), Row("two", "period", "d", 0.2, 0.2, nan, True, 0.05)]
    text = printed(_table(Comparison(rows, [])))
    assert "nan" not in text and "not found" in text and "+0.00 %" in text


@pytest.mark.parametrize(
    ("tallies", "code"),
    [
        ([Tally("ingest", done=10), Tally("solve", done=10)], 0),
        ([Tally("ingest", done=10), Tally("solve", done=9, failed={"1": ""})], 1),
        # a later step may have nothing but the bad frame to work on, or too few stars on all
        ([Tally("solve", done=9, failed={"1": ""}), Tally("shapes", failed={"2": ""})], 1),
        ([Tally("solve", before=9), Tally("shapes", failed={str(n): "" for n in range(9)})], 1),
        ([Tally("ingest", done=10), Tally("solve", failed={str(n): "" for n in range(10)})], 2),
        ([Tally("ingest", failed={"a": ""})], 2),
    ],
)
def test_the_exit_code_says_whether_anything_came_through(tallies: list[Tally], code: int) -> None:
    assert exit_code(tallies) == code
