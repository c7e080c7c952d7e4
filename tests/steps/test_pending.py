"""What is pending is found in SQL: each time the same as by looking at every unit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from mini_night import N_OBJECT, Night, Work
from sqlalchemy.orm import Session

from reduction.pipeline import pending
from reduction.pipeline.order import STEPS
from reduction.pipeline.scheduler import Runner
from starledger.archive import open_archive
from starledger.reduce import runner_for_reading

Fresh = Callable[[], Work]


def found(runner: Runner) -> dict[str, tuple[int, set[str], dict[str, str]]]:
    """Of every step: number of done units, keys of the pending ones, failures."""
    states = runner.states().items()
    return {name: (state.done, {unit.key for unit, _ in state.pending}, state.failed) for name, state in states}


def assert_same(work: Work, monkeypatch: pytest.MonkeyPatch, **expected: int) -> None:
    """The short way and the long way find the same, and of each step named so many units."""
    archive = open_archive(work.url, work.files)
    runner = runner_for_reading(archive)
    short = found(runner)
    with monkeypatch.context() as patch:
        # Neither guards nor what SQL leaves out: every unit is planned and its hash compared.
        patch.setattr(pending, "_unsettled", lambda *_: None)
        patch.setattr(pending.Survey, "guards", lambda *_: pending.Guards("other", "other", "other", 0))
        long = found(runner)
    archive.engine.dispose()
    assert short == long
    assert {name: len(keys) for name, (_, keys, _) in short.items() if keys} == expected


def test_nothing_to_do_is_known_without_planning(reduced: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_same(reduced, monkeypatch)
    archive = open_archive(reduced.url, reduced.files)
    looks_outside = {name for name, step in STEPS.items() if step.per in ("catalogue", "piece of sky")}
    planned: list[str] = []
    original = pending.planned
    monkeypatch.setattr(pending, "planned", lambda context, *rest: (planned.append(context.step.name), original(context, *rest))[1])
    states = runner_for_reading(archive).states()
    archive.engine.dispose()
    assert set(planned) == looks_outside
    assert states["photometry"].done == N_OBJECT and states["statistics"].done == 1


def test_failures_are_looked_for_only_where_there_are_some(reduced: Work) -> None:
    reduced.sql("UPDATE task SET status = 'failed', message = 'clouds' WHERE step = 'detect'")
    archive = open_archive(reduced.url, reduced.files)
    asked: list[str] = []
    with archive.engine.connect() as connection:
        units = connection.exec_driver_sql("SELECT unit FROM task WHERE step = 'detect' ORDER BY task_id").scalars().all()
    runner = runner_for_reading(archive)
    sa.event.listen(archive.engine, "before_cursor_execute", lambda *call: asked.append(f"{call[2]} {call[3]}"))
    failed = {name: state.failed for name, state in runner.states().items() if state.failed}
    archive.engine.dispose()
    assert failed == {"detect": dict.fromkeys(units, "clouds")} and list(failed["detect"]) == units
    # Each such question once read all tasks of the archive.
    assert sum("task.message" in statement and "failed" in statement for statement in asked) == 1


def test_the_planner_knows_the_tasks(reduced: Work) -> None:
    known = (
        "SELECT DISTINCT tbl FROM sqlite_stat1 WHERE tbl IN ('task', 'lineage') ORDER BY tbl"
        if reduced.url.startswith("sqlite")
        else "SELECT DISTINCT tablename FROM pg_stats WHERE tablename IN ('task', 'lineage') ORDER BY tablename"
    )
    # Without, it looks for a night's task among all of a step, once for every frame.
    assert [name for (name,) in reduced.sql(known)] == ["lineage", "task"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("statement", "pending_now"),
    [
        ("UPDATE product SET is_bad = 1, bad_reason = 'dew' WHERE kind = 'flat'", {"calibrate": N_OBJECT}),
        ("UPDATE task SET status = 'superseded' WHERE step = 'background'", {"background": N_OBJECT}),
        ("DELETE FROM step_check", {}),
        (("INSERT INTO annotation (annotation_id, frame_id, reason, author, created)"
         " SELECT 1, max(frame_id), 'cloud', 'me', '2026-01-01 00:00:00' FROM light_curve"), {"magnitude_fit": 1, "statistics": 1}),
        (("INSERT INTO type_correction (correction_id, exposure_id, type, reason, author, created)"
         " SELECT 1, max(f.exposure_id), 'other', 'a car', 'me', '2026-01-01 00:00:00' FROM frame f"
         " JOIN light_curve l ON l.frame_id = f.frame_id"), {"classify": 1}),
    ],
    ids=["a bad master", "lost tasks", "no guards", "a mask", "a correction"],
)  # fmt: skip
def test_what_people_and_accidents_change_is_seen(
    statement: str, pending_now: dict[str, int], reduced: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    reduced.sql(statement)
    assert_same(reduced, monkeypatch, **pending_now)
    reduced.worked()
    assert_same(reduced, monkeypatch)


@pytest.mark.parametrize("name", ["ingest", "bias", "detect", "discover", "photometry"])
def test_a_raised_version_is_seen(name: str, reduced: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    before = found(runner_for_reading(open_archive(reduced.url, reduced.files)))[name][0]
    monkeypatch.setitem(STEPS, name, dataclasses.replace(STEPS[name], version=STEPS[name].version + 1))
    behind = {step: N_OBJECT for step in ("refine", "background", "psf", "photometry") if name == "discover"}
    assert_same(reduced, monkeypatch, **{name: before, **behind, **({"distortion": 1} if behind else {})})


def test_of_many_frames_only_new_ones_are_planned(fresh: Fresh, night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = fresh()
    raw = night.link(tmp_path / "raw", [*night.calibration(), *night.objects()[:5]])
    work.worked([raw])
    night.link(raw, night.objects()[5:7])
    planned: dict[str, int] = {}
    original = pending.planned

    def counting(context: object, parameters: object, only: object = None) -> list[object]:
        units = original(context, parameters, only)  # type: ignore[arg-type]
        planned[context.step.name] = len(units)  # type: ignore[attr-defined]
        return list(units)

    monkeypatch.setattr(pending, "planned", counting)
    work.worked([raw])
    frames = [name for name, step in STEPS.items() if step.plan is None]
    assert {name: planned[name] for name in frames} == dict.fromkeys(frames, 2), (
        "masters and catalogues are as they were: no rule has to be asked anew"
    )
    monkeypatch.undo()
    assert_same(work, monkeypatch)


def test_what_is_made_of_the_same_after_all_is_not_made_again(reduced: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    reduced.sql("UPDATE task SET is_stale = 1 WHERE step IN ('background', 'photometry', 'statistics')")
    assert_same(reduced, monkeypatch)
    assert reduced.worked() == {}
    assert reduced.sql("SELECT count(*) FROM task WHERE is_stale = 1") == [(0,)]


def test_a_changed_task_makes_its_descendants_stale_at_once(reduced: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends behind the step of the change leaves what is pending to see."""
    step = STEPS["background"]
    monkeypatch.setitem(STEPS, "background", dataclasses.replace(step, version=step.version + 1))
    archive = open_archive(reduced.url, reduced.files, writer=True)
    with Runner(archive.engine, archive.files, {}, 1) as runner:
        runner.run(["background"])
    with Session(archive.engine) as session:
        stale = set(session.execute(sa.text("SELECT DISTINCT step FROM task WHERE is_stale = 1")).scalars())
    archive.engine.dispose()
    assert stale == {"psf", "photometry", "magnitude_reference", "magnitude_fit", "standard_system", "statistics", "source_order"}
    assert_same(reduced, monkeypatch, psf=N_OBJECT, photometry=N_OBJECT)
    assert reduced.sql("SELECT count(*) FROM light_curve") != [(0,)], "stale points stay until there are new ones"
