"""Nights are closed once they are over: every measurement stays, and stands where it belongs."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import compare
import numpy as np
import pytest
import sqlalchemy as sa
from mini_night import N_OBJECT, Work, command, reduced_at
from sqlalchemy.orm import Session

from db.engine import make_engine
from db.errors import ConfigurationError
from db.tables import OpenMeasurement
from reduction.lightcurves import nights_over, source_order_step
from reduction.pipeline import writer
from starledger.archive import open_archive

Fresh = Callable[[], Work]
NIGHT = "2026-03-24"
COUNTS = "SELECT (SELECT count(*) FROM open_measurement), (SELECT count(*) FROM closed_measurement), (SELECT count(*) FROM measurement)"


def at(monkeypatch: pytest.MonkeyPatch, *when: int) -> None:
    """Set the clock that tells whether a night is over."""
    monkeypatch.setattr(nights_over, "now", lambda: dt.datetime(*when))  # type: ignore[arg-type]
    monkeypatch.setattr(source_order_step, "now", lambda: dt.datetime(*when))  # type: ignore[arg-type]


def counts(work: Work) -> tuple[int, int, int]:
    """Rows of open nights, of closed ones, and of the view of both."""
    ((opened, closed, both),) = work.sql(COUNTS)
    return opened, closed, both


@pytest.fixture
def opened(archive_url: str, tmp_path: Path) -> Work:
    """The reduced night as it was before it was over, on each engine in turn."""
    work, done = reduced_at(archive_url, tmp_path)
    assert done["source_order"] == 1
    names = ", ".join(OpenMeasurement.__table__.c.keys())
    work.sql(f"INSERT INTO open_measurement ({names}) SELECT {names} FROM closed_measurement")
    work.sql("DELETE FROM closed_measurement")
    work.sql("DELETE FROM lineage WHERE task_id IN (SELECT task_id FROM task WHERE step = 'source_order')")
    for table in ("task", "step_check"):
        work.sql(f"DELETE FROM {table} WHERE step = 'source_order'")
    return work


@pytest.mark.long
def test_a_night_that_lasts_is_left_open(fresh: Fresh, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, 2026, 3, 25, 2)
    work = fresh()
    done = work.worked()
    assert "source_order" not in done and done["photometry"] == N_OBJECT
    n_open, n_closed, n_both = counts(work)
    assert n_open == n_both > 0 and n_closed == 0
    assert work.worked() == {}


def test_an_open_night_has_the_light_curves_that_it_has_when_it_is_closed(opened: Work) -> None:
    n_open, n_closed, n_both = counts(opened)
    assert n_open == n_both > 0 and n_closed == 0
    before = compare.light_curves(opened.url)
    rows = opened.sql("SELECT * FROM measurement ORDER BY source_id, frame_id")
    assert opened.worked() == {"source_order": 1}
    assert counts(opened) == (0, n_both, n_both)
    assert compare.light_curves(opened.url) == before
    assert opened.sql("SELECT * FROM measurement ORDER BY source_id, frame_id") == rows
    assert opened.worked() == {}


def test_a_night_is_closed_at_the_noon_after_it(opened: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    ((longitude, night_id),) = opened.sql("SELECT o.longitude, n.night_id FROM observatory o, night n")
    noon = dt.datetime(2026, 3, 25, 12) - dt.timedelta(days=longitude / 360.0)
    with monkeypatch.context() as patch:
        before = noon - dt.timedelta(minutes=1)
        at(patch, *before.timetuple()[:6])
        assert opened.worked() == {}
        after = noon + dt.timedelta(minutes=1)
        at(patch, *after.timetuple()[:6])
        with open_archive(opened.url, opened.files) as archive:
            assert {step.step: step.pending for step in archive.status() if step.pending} == {"source_order": 1}
        assert opened.worked() == {"source_order": 1}
    assert night_id == (dt.date.fromisoformat(NIGHT) - dt.date(2000, 1, 1)).days


@pytest.mark.parametrize("longitudes", [(0.0,), (-150.0, 20.0), (None,)])
def test_a_night_is_over_when_it_is_over_everywhere(longitudes: tuple[float | None, ...], opened: Work) -> None:
    ((night_id, exposure_id),) = opened.sql("SELECT night_id, min(exposure_id) FROM exposure GROUP BY night_id")
    opened.sql("UPDATE exposure SET observatory_id = NULL")
    for number, longitude in enumerate(value for value in longitudes if value is not None):
        opened.sql(
            "INSERT INTO observatory (observatory_id, name, latitude, longitude, height) VALUES (:k, :name, 0, :longitude, 0)",
            k=100 + number, name=f"site {number}", longitude=longitude,
        )  # fmt: skip
        opened.sql("UPDATE exposure SET observatory_id = :k WHERE exposure_id >= :first", k=100 + number, first=exposure_id + number)
    last = min(-180.0 if longitude is None else longitude for longitude in longitudes)  # an unknown one may be anywhere
    noon = dt.datetime(2026, 3, 25, 12) - dt.timedelta(days=last / 360.0)
    engine = make_engine(opened.url)
    with Session(engine) as session:
        early, late = (nights_over.nights_over(session, [night_id], noon + dt.timedelta(minutes=k)) for k in (-1, 1))
    engine.dispose()
    assert (early, late) == (set(), {night_id})


def test_a_run_that_ends_between_two_slices_loses_nothing(opened: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    n = counts(opened)[2]
    before = compare.light_curves(opened.url)
    with monkeypatch.context() as patch:
        patch.setattr(source_order_step, "SLICE", n // 5)
        emptied: list[int] = []

        def ending(*_: Any) -> None:
            emptied.append(1)
            if len(emptied) == 2:
                raise KeyboardInterrupt

        patch.setattr(writer, "empty_log", ending)
        with pytest.raises(KeyboardInterrupt):
            opened.tallies()
    n_open, n_closed, n_both = counts(opened)
    assert n_open > 0 and n_closed > 0 and n_open + n_closed == n_both == n
    assert compare.light_curves(opened.url) == before
    assert opened.worked() == {"source_order": 1}
    assert counts(opened) == (0, n, n)
    assert compare.light_curves(opened.url) == before


@pytest.mark.parametrize("how", ["the same again", "another way"])
def test_a_frame_measured_again_in_a_closed_night_stands_once(how: str, opened: Work, tmp_path: Path) -> None:
    opened.worked()
    n = counts(opened)[2]
    ((frame_id,),) = opened.sql("SELECT min(frame_id) FROM closed_measurement")
    if how == "the same again":
        opened.sql("UPDATE task SET status = 'superseded' WHERE step = 'photometry' AND frame_id = :f", f=frame_id)
        done = opened.worked()
        assert done == {"photometry": 1, "source_order": 1}
    else:
        config = tmp_path / "mine.toml"
        config.write_text("[photometry]\nflag_radius = 2.5\n")
        done = opened.worked(config=config)
        assert done["photometry"] == N_OBJECT and done["source_order"] == 1
    assert counts(opened) == (0, n, n)
    assert opened.worked() == {}


def test_a_frame_that_fails_later_leaves_its_night_closed(opened: Work) -> None:
    opened.worked()
    n = counts(opened)[2]
    opened.sql("UPDATE task SET is_stale = 1 WHERE step = 'source_order'")
    opened.sql("UPDATE task SET status = 'failed' WHERE step = 'photometry' AND frame_id = (SELECT min(frame_id) FROM measurement)")
    tallies = {tally.step: tally.done for tally in opened.tallies() if tally.done}
    assert tallies["source_order"] == 1 and counts(opened) == (0, n, n)
    assert opened.sql("SELECT count(*) FROM task WHERE step = 'source_order' AND is_stale = 1 AND status = 'done'") == [(0,)]


def test_slices_divide_no_source() -> None:
    source_id = np.arange(10, 40)
    n_row = np.full(30, 100_000)
    slices = source_order_step._slices(source_id, n_row)
    assert [first for first, _ in slices[1:]] == [last + 1 for _, last in slices[:-1]]
    assert slices[0][0] == 10 and slices[-1][1] == 39 and len(slices) == 15
    assert source_order_step._slices(source_id[:0], n_row[:0]) == ()
    assert source_order_step._slices(source_id[:1], np.array([10**7])) == ((10, 10),)


def test_a_night_is_closed_by_hand(opened: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, 2026, 3, 25, 2)
    n = counts(opened)[2]
    with open_archive(opened.url, opened.files) as archive:
        assert archive.nights.close() == [], "it is not over"
        with pytest.raises(ConfigurationError, match="no frame of the night of 2026-03-23; give the evening's local date"):
            archive.nights.close(["2026-03-24", "2026-03-23"])
        assert counts(opened) == (n, 0, n)
        assert archive.nights.close(NIGHT) == [NIGHT]
        assert counts(opened) == (0, n, n)
        assert archive.nights.close(NIGHT) == []


def test_the_command_closes_nights(opened: Work) -> None:
    place = ["--archive", opened.url, "--files", str(opened.files)]
    code, out, _ = command("archive", "close", NIGHT, *place)
    assert (code, out) == (0, f"closed {NIGHT}\n")
    code, out, _ = command("archive", "close", *place)
    assert (code, out) == (0, "nothing to close\n")
    code, out, err = command("archive", "close", "yesterday", *place)
    assert code == 2 and out == "" and re.search("no frame of the night of yesterday", err)


def test_a_partition_is_frozen_when_its_nights_are_over(opened: Work) -> None:
    if opened.url.startswith("sqlite"):
        pytest.skip("SQLite has no partitions")
    with open_archive(opened.url, opened.files) as archive:
        archive.nights.close()
    query = "SELECT relpages, relallvisible FROM pg_class WHERE relname LIKE 'closed_measurement_n%' AND relkind = 'r'"
    ((n_page, n_visible),) = opened.sql(query)
    assert n_page == n_visible > 0


@pytest.mark.long
def test_a_first_measurement_deletes_nothing(archive_url: str, tmp_path: Path) -> None:
    """A DELETE before every new frame cost PostgreSQL two thirds of its rate."""
    deleted: set[str] = set()

    def see(_: Any, __: Any, statement: str, *___: Any) -> None:
        if found := re.match(r"DELETE FROM (\w+)", statement):
            deleted.add(found[1])

    sa.event.listen(sa.Engine, "before_cursor_execute", see)
    try:
        work = Work(archive_url, tmp_path / "files")
        work.worked()
        first = set(deleted)
        bulk = {"detection", "detection_match", "frame_coverage", "psf_star", "closed_measurement", "aperture_correction"}
        # The move of a closed night, and what the ledger says of a task.
        assert not first & bulk and "open_measurement" in first
        deleted.clear()
        work.sql("UPDATE task SET status = 'superseded' WHERE step IN ('detect', 'refine', 'psf', 'photometry')")
        work.worked()
        assert bulk <= deleted
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", see)
