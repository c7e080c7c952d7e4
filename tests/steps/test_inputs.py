"""Inputs are said once: order, lineage and what may be read follow from them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from mini_night import Work

from db.engine import make_engine
from db.tables import ClosedMeasurement, FirstSolution, Frame, PhotometrySlot
from reduction.photometry.psf_model import SharedMap
from reduction.pipeline.declaration import Context, Kind, Step, UndeclaredError
from reduction.pipeline.inputs import Input, Joined, LookedUp, Members
from reduction.pipeline.order import NIGHT, STEPS, TOPICS
from reduction.pipeline.session import reading_session, tables_read

TRACKED = [(step, source) for step in STEPS.values() for source in step.sources if source.tracked]


def test_the_list_of_the_night_is_in_order() -> None:
    place = {line.name: number for number, line in enumerate(NIGHT)}
    assert len(place) == len(NIGHT) and {line.topic for line in NIGHT} == set(TOPICS)
    wrong = [(step.name, other) for step in STEPS.values() for other in step.after if place[other] >= place[step.name]]
    assert wrong == []


@pytest.mark.parametrize("step", STEPS.values(), ids=lambda step: step.name)
def test_a_step_is_a_module_of_its_topic(step: Step) -> None:
    line = step.line
    assert step.body.__module__ == f"reduction.{line.topic}.{line.module}"
    assert (step.body.__doc__ or "").strip(), "the body says what the step does"


def test_recorded_lineage_is_what_is_declared(reduced: Work) -> None:
    query = (
        "SELECT DISTINCT t.step, l.role, i.step FROM lineage l "
        "JOIN task t ON t.task_id = l.task_id JOIN task i ON i.task_id = l.input_task_id"
    )
    recorded = set(reduced.sql(query))
    declared = {(step.name, role, name) for step, source in TRACKED for role in source.roles for name in source.steps}
    assert recorded <= declared
    # A role of several steps, such as that of a master, may come from any of them.
    roles = {(step, role) for step, role, _ in recorded}
    optional = (LookedUp, Members, SharedMap)  # on this night no map is shared
    missing = [
        (step.name, source)
        for step, source in TRACKED
        if reduced.sql("SELECT 1 FROM task WHERE step = :step AND status = 'done' LIMIT 1", step=step.name)
        and not isinstance(source, optional)
        and not any((step.name, role) in roles for role in source.roles)
    ]
    assert missing == []
    members = {(step.name, source.step) for step, source in TRACKED if isinstance(source, Members)}
    worked = {step for step, _, _ in recorded}
    there = {row[0] for row in reduced.sql("SELECT DISTINCT step FROM task")}  # on this night nothing was fetched
    assert {pair for pair in members if pair[0] in worked and pair[1] in there} <= {(step, name) for step, _, name in recorded}


def test_every_needed_input_is_in_the_lineage_of_every_task(reduced: Work) -> None:
    for step, source in TRACKED:
        if isinstance(source, Joined) and source.needed:
            without = reduced.sql(
                "SELECT count(*) FROM task t WHERE t.step = :step AND t.status = 'done' AND NOT EXISTS "
                "(SELECT 1 FROM lineage l JOIN task i ON i.task_id = l.input_task_id WHERE l.task_id = t.task_id AND i.step = :input)",
                step=step.name,
                input=source.step,
            )
            assert without == [(0,)], (step.name, source.step)


def session_error(work: Work, name: str, statement: Any) -> str:
    engine = make_engine(work.url)
    try:
        with reading_session(engine, STEPS[name]) as session, pytest.raises(UndeclaredError) as raised:
            session.execute(statement)
    finally:
        engine.dispose()
    return str(raised.value)


@pytest.mark.parametrize(
    ("name", "statement", "table"),
    [
        ("calibrate", sa.select(ClosedMeasurement.source_id), "closed_measurement"),
        ("detect", sa.select(Frame.frame_id).where(sa.exists().where(FirstSolution.frame_id == Frame.frame_id)), "first_solution"),
        ("background", sa.select(Frame).join(PhotometrySlot, PhotometrySlot.instrument_id == Frame.instrument_id), "photometry_slot"),
        ("photometry", sa.text("SELECT reference_id FROM magfit_reference"), "magfit_reference"),
        ("solve", sa.text("SELECT mag FROM light_curve"), "best_slot"),
        ("ingest", sa.select(sa.func.count()).select_from(sa.select(ClosedMeasurement.x).subquery()), "closed_measurement"),
        ("ingest", sa.select(sa.func.count(ClosedMeasurement.x)), "closed_measurement"),
        ("slots", sa.select(sa.orm.aliased(ClosedMeasurement).x), "closed_measurement"),
    ],
)
def test_a_table_that_is_not_behind_a_step_is_not_read(name: str, statement: Any, table: str, reduced: Work) -> None:
    message = session_error(reduced, name, statement)
    assert message.startswith(f"step {name} reads ") and table in message and message.endswith("without declaring it")


def test_words_in_quotes_are_no_tables() -> None:
    assert tables_read(sa.text("SELECT 'measurement' FROM frame")) == {"frame"}


def test_a_body_that_reads_more_ends_the_run(reduced: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def body(context: Context, unit: Any, parameters: Any) -> Any:
        return context.session.execute(sa.select(ClosedMeasurement.x).limit(1)).all()

    step = STEPS["detect"]
    monkeypatch.setitem(STEPS, "detect", dataclasses.replace(step, version=step.version + 1, body=body))
    with pytest.raises(UndeclaredError, match="step detect reads closed_measurement"):
        reduced.tallies()


def test_a_body_looks_at_no_parameters_but_those_behind_it(tmp_path: Path) -> None:
    context = Context(session=None, files=tmp_path, settings={}, step=STEPS["flat"])  # type: ignore[arg-type]
    assert context.parameters("large_scale_flat").min_frames >= 1
    with pytest.raises(UndeclaredError, match="step flat looks at the parameters of photometry"):
        context.parameters("photometry")


def test_a_product_of_an_undeclared_kind_is_not_written(tmp_path: Path) -> None:
    context = Context(session=None, files=tmp_path, settings={}, step=STEPS["detect"])  # type: ignore[arg-type]
    with pytest.raises(UndeclaredError, match="step detect makes a product 'psf'"):
        context.product("psf", "frame", lambda path: pytest.fail(f"wrote {path}"))


def test_a_new_kind_of_product_is_swept_as_soon_as_it_is_declared(reduced: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    orphan = reduced.files / "psf" / "frame-1.fits"
    orphan.parent.mkdir()
    orphan.touch()
    assert reduced.worked([]) == {} and orphan.exists(), "a folder that is nobody's is left alone"
    monkeypatch.setitem(STEPS, "photometry", dataclasses.replace(STEPS["photometry"], products=(Kind("psf", passing=True),)))
    assert reduced.worked([]) == {} and not orphan.exists()


def test_every_kind_of_product_has_its_writer() -> None:
    kinds = [(kind.name, step.name) for step in STEPS.values() for kind in step.products]
    assert {name for name, _ in kinds} == {"raw", "bias", "dark", "largescale", "flat", "pattern", "calibrated", "background"}
    assert [step for name, step in kinds if name == "calibrated"] == ["calibrate", "refine"]


def test_inputs_name_steps_that_there_are() -> None:
    assert {name for step in STEPS.values() for source in step.sources for name in source.steps} <= set(STEPS)
    assert all(isinstance(source, Input) or source.tables for step in STEPS.values() for source in step.inputs)
