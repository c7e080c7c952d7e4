"""The step mechanism on a whole small night: what is declared, what is pending, what a run changes and what it leaves alone."""

from __future__ import annotations

import dataclasses
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import compare
import pytest
import sqlalchemy as sa
from astropy.table import Table
from mini_night import N_CALIBRATION, N_OBJECT, Night, Work, begun, command, reduced_at
from sqlalchemy.orm import Session

from db.errors import AlgorithmFailed, StarledgerError
from db.tables import Base
from db.tables import Night as NightTable
from reduction.pipeline.declaration import Output, Rows, Step, Unit
from reduction.pipeline.order import STEPS
from reduction.pipeline.scheduler import Tally
from starledger.archive import create_archive, open_archive
from starledger.reduce import runner_for_reading

#: Written for every step by the ledger, and therefore declared by none.
_LEDGER = {"task", "config", "lineage", "product", "provisional_result", "refused_frame", "run", "step_check", "writer"}
_FRAMES = dict.fromkeys(("calibrate", "detect", "solve", "field", "refine", "background", "shapes", "psf", "photometry"), N_OBJECT)
_FIELDS = {
    "discover": 1,
    "distortion": 1,
    "field_colours": 1,
    "magnitude_reference": 1,
    "magnitude_fit": 1,
    "standard_system": 1,
    "statistics": 1,
    "source_order": 1,
}
#: What the distortion of the night serves: it is found from the first 4 frames, then from 8, 16 ...
_BEHIND_DISTORTION = ("refine", "background", "shapes", "psf", "photometry")

Fresh = Callable[[], Work]


def _after(name: str, *without: str) -> dict[str, int]:
    """Work of a step and of all later ones that have object frames or the field behind them."""
    names = list(STEPS)
    later = names[names.index(name) :]
    if name in ("magnitude_reference", "magnitude_fit", "statistics"):
        without = (*without, "source_order")  # which is made from what they are made from
    if name == "magnitude_fit":
        without = (*without, "standard_system")  # which is made from the reference
    return {step: n for step, n in {**_FRAMES, **_FIELDS}.items() if step in later and step not in without}


class _Spy:
    """Which tables each step writes, from the statements that reach the database."""

    def __init__(self) -> None:
        self.written: dict[str, set[str]] = {}
        self._step = ""
        sa.event.listen(sa.pool.Pool, "connect", self._listen)

    def close(self) -> None:
        sa.event.remove(sa.pool.Pool, "connect", self._listen)

    def _listen(self, connection: Any, record: object) -> None:
        connection.set_trace_callback(self._see)

    def _see(self, statement: str) -> None:
        found = re.match(r'\s*(?:INSERT INTO|UPDATE|DELETE FROM)\s+"?(\w+)', statement)
        if found and self._step:
            self.written.setdefault(self._step, set()).add(found[1])

    def begin(self, step: Step, pending: int) -> None:
        self._step = step.name

    def advance(self, step: Step, unit: Unit, error: StarledgerError | None) -> None: ...

    def again(self, step: Step, chance: str, units: int) -> None: ...

    def end(self, step: Step, tally: Tally) -> None:
        self._step = ""


@pytest.fixture
def spy() -> Iterator[_Spy]:
    found = _Spy()
    yield found
    found.close()


def test_what_is_declared_is_what_is_written(fresh: Fresh, night: Night, spy: _Spy, tmp_path: Path) -> None:
    work = fresh()
    create_archive(work.url, work.files).engine.dispose()
    # A target that waits for its source makes the last step write all it may write.
    star = Table.read(night.catalogue)[0]
    columns = "target_id, name, ra, dec, created"
    values = {"ra": float(star["ra"]), "dec": float(star["dec"])}
    work.sql(f"INSERT INTO target ({columns}) VALUES (1, 'mine', :ra, :dec, '2026-01-01 00:00:00')", **values)
    # Maps are written down where a fit has them.
    config = tmp_path / "maps.toml"
    config.write_text('[magnitude_fit]\nterms = ["colour", "shape_s"]\n')
    done = work.worked(reporter=spy, config=config)
    assert set(spy.written) == set(done) and set(done) >= {"catalogue", *_FRAMES, *_FIELDS}
    # Stars that a reference lacks come with later nights: tests/steps/test_references.py.
    # So do targets whose source was one of an open night only: tests/steps/test_open_night.py.
    # Terms are chosen, with a score each, where stars are many: tests/steps/test_chosen_terms.py.
    later = {"magnitude_fit": {"best_slot"}, "discover": {"target"}, "magnitude_reference": {"term_score"}}
    for name, written in spy.written.items():
        assert written - _LEDGER == {table.__tablename__ for table in STEPS[name].writes} - later.get(name, set()), name
        assert "task" in written, name


@pytest.mark.parametrize("how", ["rows", "finish"])
def test_an_undeclared_table_is_not_written(how: str, reduced: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    night_rows = Rows(NightTable, {"night_id": 1, "evening": "2000-01-02"})

    def finish(session: Session, task_id: int) -> list[Rows]:
        return [night_rows]

    def body(context: Any, unit: Unit, parameters: Any) -> Output:
        return {"rows": Output(rows=[night_rows]), "finish": Output(finish=finish)}[how]

    monkeypatch.setitem(STEPS, "calibrate", dataclasses.replace(STEPS["calibrate"], version=STEPS["calibrate"].version + 1, body=body))
    before = compare.snapshot(reduced.url)
    with pytest.raises(RuntimeError, match=r"step calibrate writes \w+ without declaring it"):
        reduced.tallies()
    assert compare.snapshot(reduced.url) == before


def test_a_second_run_changes_no_row(archive_url: str, tmp_path: Path) -> None:
    work, first = reduced_at(archive_url, tmp_path)
    assert set(first) >= set(_FRAMES) | set(_FIELDS) and first["ingest"] == N_OBJECT + N_CALIBRATION
    before = compare.snapshot(archive_url)
    files = {path: path.stat().st_mtime_ns for path in work.files.rglob("*")}
    assert work.worked() == {} and work.worked([]) == {}
    assert compare.snapshot(archive_url) == before
    assert {path: path.stat().st_mtime_ns for path in work.files.rglob("*")} == files
    assert work.sql("SELECT count(*), min(exit_code), max(exit_code) FROM run") == [(3, 0, 0)]


def test_both_engines_and_any_number_of_processes_give_the_same(reduced: Work, new_archive: Callable[[str], str], tmp_path: Path) -> None:
    """The template was made by one process on SQLite; this one by two on PostgreSQL."""
    (tmp_path / "other").mkdir()
    other, _ = reduced_at(new_archive("postgresql"), tmp_path / "other")
    assert compare.compare(reduced.url, other.url) == []
    ours, theirs = compare.light_curves(reduced.url), compare.light_curves(other.url)
    assert len(ours) > 1000 and ours.keys() == theirs.keys()
    assert all((ours[key] is None) == (theirs[key] is None) for key in ours)
    assert max(abs(ours[key] - theirs[key]) for key in ours if ours[key] is not None) < 1e-6


@pytest.mark.long
@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        ("[photometry]\nmargin = 6.0\n", _after("photometry")),
        ("[magnitude_fit]\norder = 1\n", _after("magnitude_reference")),
        ("[background]\nbox = 48\n", _after("background", "shapes")),
        ("[detect]\nthreshold = 5.0\n", _after("detect")),
        ("[discover]\nmin_snr = 8.0\n", {**_after("refine"), "discover": 1, "distortion": 1, "field_colours": 1}),
        ("[flat]\nclip = 3.5\n", {**_after("calibrate"), "flat": 1}),
    ],
)
def test_a_changed_parameter_makes_exactly_the_affected_work_pending(
    configuration: str, expected: dict[str, int], reduced: Work, tmp_path: Path
) -> None:
    config = tmp_path / "mine.toml"
    config.write_text(configuration)
    assert reduced.worked(config=config) == expected
    assert reduced.worked() == {}, "the file holds for later runs"


@pytest.mark.long
@pytest.mark.parametrize("configuration", ["[photometry]\nmargin = 6.0\n", "[magnitude_fit]\norder = 1\n", "[background]\nbox = 48\n"])
def test_results_of_a_changed_parameter_are_those_of_a_fresh_archive(configuration: str, reduced: Work, tmp_path: Path) -> None:
    """Fresh for the steps that the parameter has to do with: they have never been run with another one."""
    config = tmp_path / "mine.toml"
    config.write_text(configuration)
    (tmp_path / "other").mkdir()
    other = begun(tmp_path / "other")
    other.worked(config=config)
    assert compare.compare(reduced.url, other.url, current=True) != []
    reduced.worked(config=config)
    assert compare.compare(reduced.url, other.url, current=True) == []


@pytest.mark.long
def test_a_parameter_changed_back_gives_the_first_results(reduced: Work, tmp_path: Path) -> None:
    before = compare.dump(reduced.url, current=True)
    config = tmp_path / "mine.toml"
    config.write_text("[background]\nbox = 48\n")
    reduced.worked(config=config)
    config.write_text("")
    assert reduced.worked(config=config) == _after("background", "shapes")
    assert compare.differences(before, compare.dump(reduced.url, current=True)) == []
    assert reduced.worked() == {}, "an emptied file holds for later runs, too"


@pytest.mark.parametrize("name", ["solve", "photometry", "statistics"])
def test_a_raised_version_makes_exactly_the_affected_work_pending(name: str, reduced: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STEPS, name, dataclasses.replace(STEPS[name], version=STEPS[name].version + 1))
    assert reduced.worked() == _after(name)
    assert reduced.worked() == {}


@pytest.mark.long
@pytest.mark.parametrize(("kind", "remade"), [("flat", {}), ("dark", {}), ("bias", {"dark": 1, "large_scale_flat": 1, "flat": 1})])
def test_a_master_marked_bad_makes_its_dependants_pending(kind: str, remade: dict[str, int], reduced: Work) -> None:
    """The flats are exposed too shortly to need the dark."""
    assert reduced.sql("SELECT * FROM stale_product") == []
    product_id = reduced.sql("SELECT product_id FROM product WHERE kind = :kind", kind=kind)[0][0]
    reduced.sql("UPDATE product SET is_bad = 1, bad_reason = 'dew' WHERE product_id = :product", product=product_id)
    stale = {(step, unit) for step, unit in reduced.sql("SELECT step, unit FROM stale_product")}
    behind = set(_after("calibrate")) | set(remade)
    expected = {row for row in reduced.sql("SELECT step, unit FROM task") if row[0] in behind}
    assert stale == expected
    assert reduced.worked() == {**_after("calibrate"), **remade}
    # The reference before stays, with what was fitted to it; it counts no more.
    (latest,) = reduced.sql("SELECT reference_id FROM latest_reference")[0]
    fits = [("magnitude_fit", ANY), ("magnitude_reference", "1/1"), ("standard_system", ANY), ("statistics", ANY)]
    assert reduced.sql("SELECT step, unit FROM stale_product ORDER BY step") == fits
    assert f"{latest}/" not in reduced.sql("SELECT unit FROM stale_product WHERE step = 'magnitude_fit'")[0][0]
    assert reduced.sql(f"SELECT count({kind}_master_id) FROM calibrated_frame") == [(0,)]
    assert reduced.worked() == {}


@pytest.mark.long
def test_frames_added_later_make_no_old_frame_pending(fresh: Fresh, night: Night, tmp_path: Path) -> None:
    work, n_first = fresh(), 5
    objects = night.objects()
    raw = night.link(tmp_path / "raw", [*night.calibration(), *objects[:n_first]])
    work.worked([raw])
    tasks = "SELECT step, unit, input_hash, status, attempts FROM task WHERE frame_id IS NOT NULL ORDER BY task_id"
    before = work.sql(tasks)
    night.link(raw, objects[n_first:7])  # an eighth would have the distortion found anew
    stands = ("distortion", "magnitude_reference", "standard_system")
    n, later = 7 - n_first, {name: count for name, count in _FIELDS.items() if name not in stands}
    assert work.worked([raw]) == {"ingest": n, "classify": n, **dict.fromkeys(_FRAMES, n), **later}
    assert work.sql(tasks)[: len(before)] == before
    assert work.sql("SELECT count(DISTINCT frame_id) FROM light_curve") == [(7,)]
    night.link(raw, objects[7:])
    assert work.worked([raw]) == {
        "ingest": 1,
        "classify": 1,
        **dict.fromkeys(_FRAMES, 1),
        **_FIELDS,
        **dict.fromkeys(_BEHIND_DISTORTION, 8),
    }


def test_lineage_leads_from_a_point_back_to_raw_files(reduced: Work) -> None:
    frame_id, task_id = reduced.sql(
        "SELECT l.frame_id, p.task_id FROM light_curve l JOIN frame_photometry p ON p.frame_id = l.frame_id ORDER BY l.frame_id LIMIT 1"
    )[0]
    behind = (
        "WITH RECURSIVE behind (task_id) AS (SELECT CAST(:task AS INTEGER) UNION "
        "SELECT l.input_task_id FROM lineage l JOIN behind b ON b.task_id = l.task_id) "
        "SELECT t.unit FROM behind b JOIN task t ON t.task_id = b.task_id WHERE t.step = 'ingest'"
    )
    # All eight have a say in the distortion of the night.
    assert {row[0] for row in reduced.sql(behind, task=task_id)} == {row[0] for row in reduced.sql("SELECT sha256 FROM exposure")}
    fit = reduced.sql("SELECT task_id FROM magfit_solution WHERE frame_id = :frame LIMIT 1", frame=frame_id)[0][0]
    everything = {row[0] for row in reduced.sql("SELECT sha256 FROM exposure")}
    assert {row[0] for row in reduced.sql(behind, task=fit)} == everything and len(everything) == N_OBJECT + N_CALIBRATION


@pytest.mark.long
def test_a_defect_on_one_frame_fails_that_frame_only(reduced: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frame had been done before: what was made of it leaves the light curves, and comes back when it is tried again."""
    body, victim = STEPS["detect"].body, reduced.sql("SELECT frame_id FROM light_curve ORDER BY frame_id DESC LIMIT 1")[0][0]

    def broken(context: Any, unit: Unit, parameters: Any) -> Any:
        if unit.frame_id == victim:
            raise ValueError("operands could not be broadcast")
        return body(context, unit, parameters)

    monkeypatch.setitem(STEPS, "detect", dataclasses.replace(STEPS["detect"], version=STEPS["detect"].version + 1, body=broken))
    tallies = {tally.step: tally for tally in reduced.tallies()}
    assert {name: tally.done for name, tally in tallies.items() if tally.done} == {
        name: n - 1 if n == N_OBJECT else n for name, n in _after("detect").items()
    }
    (message,) = tallies["detect"].failed.values()
    assert "ValueError: operands could not be broadcast" in message and "please report" in message
    assert [name for name, tally in tallies.items() if tally.failed] == ["detect"]
    assert reduced.sql("SELECT count(DISTINCT frame_id), count(CASE WHEN frame_id = :v THEN 1 END) FROM light_curve", v=victim) == [
        (N_OBJECT - 1, 0)
    ]
    assert reduced.sql("SELECT DISTINCT step FROM task WHERE frame_id = :v AND status = 'done' ORDER BY step", v=victim) == [
        ("calibrate",),
        ("classify",),
    ]
    # What steps remember of having looked is no result: a failure in the middle of a run made those before it forget it.
    remembered = ("run", "step_check")
    before = compare.snapshot(reduced.url, remembered)
    again = {tally.step: tally for tally in reduced.tallies()}
    assert compare.snapshot(reduced.url, remembered) == before and len(again["detect"].failed) == 1

    monkeypatch.setitem(STEPS, "detect", dataclasses.replace(STEPS["detect"], body=body))
    done = reduced.worked(retry=True)
    assert done == {**dict.fromkeys(_after("detect"), 1), **dict.fromkeys(_BEHIND_DISTORTION, N_OBJECT)}
    mine = "SELECT attempts, status FROM task WHERE step = 'detect' AND step_version = :n AND frame_id = :v"
    assert reduced.sql(mine, n=STEPS["detect"].version, v=victim) == [(2, "done")]
    assert reduced.sql("SELECT count(DISTINCT frame_id) FROM light_curve") == [(N_OBJECT,)]


def test_rows_that_the_database_refuses_fail_their_frame_only(archive_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body, seen = STEPS["background"].body, []

    def without_level(context: Any, unit: Unit, parameters: Any) -> Any:
        output = body(context, unit, parameters)
        if not seen:
            seen.append(unit.key)
            columns = {**output.rows[0].columns, "level": None}
            output.rows[0] = dataclasses.replace(output.rows[0], columns=columns)
        return output

    work, _ = reduced_at(archive_url, tmp_path)
    step = STEPS["background"]
    monkeypatch.setitem(STEPS, "background", dataclasses.replace(step, version=step.version + 1, body=without_level))
    tallies = {tally.step: tally for tally in work.tallies()}
    assert list(tallies["background"].failed) == seen and tallies["background"].done == N_OBJECT - 1
    assert "level" in tallies["background"].failed[seen[0]] and tallies["photometry"].done == N_OBJECT - 1


def test_a_failed_unit_keeps_its_class_across_processes() -> None:
    error = pickle.loads(pickle.dumps(AlgorithmFailed("no", where="here", hint="do", code="x.y")))
    assert (type(error), str(error), error.code) == (AlgorithmFailed, "here: no; do", "x.y")


def test_a_second_writer_is_told_to_wait(archive_url: str, night: Night, tmp_path: Path) -> None:
    archive = create_archive(archive_url, tmp_path / "files")
    before = compare.snapshot(archive_url, without=())
    with archive.only_writer():
        code, _, messages = command("reduce", night.raw, "--archive", archive_url, "--jobs", "1")
    assert code == 3 and messages.count("\n") == 1
    assert "another starledger is writing to this archive" in messages and "wait" in messages
    assert compare.snapshot(archive_url, without=()) == before
    archive.engine.dispose()


def test_status_and_pending_are_read_only(reduced: Work) -> None:
    before = compare.snapshot(reduced.url, without=())
    archive = open_archive(reduced.url, reduced.files)
    runner = runner_for_reading(archive)
    assert all(not runner.state(step).pending and not runner.state(step).failed for step in STEPS.values())
    archive.engine.dispose()
    assert compare.snapshot(reduced.url, without=()) == before


def test_every_table_is_written_by_a_step_or_the_ledger() -> None:
    declared = {table.__tablename__ for step in STEPS.values() for table in step.writes}
    by_people = {"annotation", "kept_frame", "master_choice", "reference_request", "target", "type_correction"}
    before_the_first_plan = {"exposure_copy"}
    assert {table.name for table in Base.metadata.sorted_tables} == declared | _LEDGER | by_people | before_the_first_plan
