"""An open night of a field that has a reference: frames are fitted to it one by one, and the night once, when it is closed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from many_nights import ManyNights, Plan
from open_night import at
from templates import make_schema

from db.errors import AlgorithmFailed
from reduction.pipeline.order import STEPS as DECLARED

PLAN = Plan(n_star=120, n_frame=6, n_slot=2)
STEPS = ("magnitude_reference", "magnitude_fit", "frame_fit")
COEFFICIENTS = "c_const, c_x, c_y, c_xx, c_xy, c_yy, c_colour, zero_point_err, fit_rms, n_fit"


@pytest.fixture
def field(archive_url: str, tmp_path: Path) -> Iterator[ManyNights]:
    make_schema(archive_url)
    nights = ManyNights.create(archive_url, tmp_path / "files", replace(PLAN))
    nights.add(2)
    nights.work(STEPS)
    yield nights
    nights.close()


def rows(nights: ManyNights, text: str) -> list[tuple[Any, ...]]:
    with nights.engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(text)]


def done(nights: ManyNights) -> dict[str, int]:
    return {tally.step: tally.done for tally in nights.work(STEPS) if tally.done}


def test_frames_of_an_open_night_are_fitted_one_by_one(field: ManyNights, monkeypatch: pytest.MonkeyPatch) -> None:
    night_id = field.nights()[-1] + 1
    evening = dt.date(2000, 1, 1) + dt.timedelta(days=night_id)
    at(monkeypatch, *evening.timetuple()[:3], 22)
    before = rows(field, "SELECT * FROM magfit_solution ORDER BY reference_id, slot, fold, frame_id")
    kept = [rows(field, f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in ("night_change", "magfit_reference")]
    field.add_night(night_id)
    assert done(field) == {"frame_fit": PLAN.n_frame}
    assert done(field) == {}
    frames = ", ".join(map(str, field.frames_of(night_id)))
    assert (
        rows(field, f"SELECT * FROM magfit_solution WHERE frame_id NOT IN ({frames}) ORDER BY reference_id, slot, fold, frame_id") == before
    )
    assert [rows(field, f"SELECT * FROM {table} ORDER BY 1, 2, 3") for table in ("night_change", "magfit_reference")] == kept
    ((n_point, n_frame),) = rows(field, f"SELECT count(mag), count(DISTINCT frame_id) FROM light_curve WHERE night_id = {night_id}")
    assert n_frame == PLAN.n_frame and n_point > 0.5 * PLAN.n_star * PLAN.n_frame
    curve = field.archive.light_curve(int(field.sky.source_id[0]))
    ((n_shown,),) = rows(field, f"SELECT count(*) FROM light_curve WHERE source_id = {field.sky.source_id[0]}")
    assert len(curve) == n_shown and night_id in set(curve["night_id"]), "tonight's points are there"
    fits = f"SELECT {COEFFICIENTS} FROM magfit_solution WHERE frame_id IN ({frames}) ORDER BY reference_id, slot, fold, frame_id"
    single = np.array(rows(field, fits), dtype=float)

    following = evening + dt.timedelta(days=2)
    at(monkeypatch, *following.timetuple()[:3], 12)
    assert done(field) == {"magnitude_fit": 1}
    assert done(field) == {}
    np.testing.assert_allclose(np.array(rows(field, fits), dtype=float), single, rtol=1e-9, atol=1e-12)
    assert rows(field, "SELECT count(*) FROM task WHERE step = 'frame_fit' AND status <> 'superseded'") == [(0,)]
    assert rows(field, f"SELECT count(*) FROM night_change WHERE night_id = {night_id}") == [(PLAN.n_slot,)]
    assert rows(field, "SELECT count(*) FROM magfit_reference WHERE status = 'accepted'") == [(1,)]


def test_a_candidate_waits_for_the_frames_of_open_nights(field: ManyNights, monkeypatch: pytest.MonkeyPatch) -> None:
    night_id = field.nights()[-1] + 1
    evening = dt.date(2000, 1, 1) + dt.timedelta(days=night_id)
    at(monkeypatch, *evening.timetuple()[:3], 22)
    field.add_night(night_id)
    assert done(field) == {"frame_fit": PLAN.n_frame}
    ((field_id,),) = rows(field, "SELECT field_id FROM field")
    field.archive.references.new(field_id, reason="to see")
    field.work(("magnitude_reference", "magnitude_fit"))
    assert rows(field, "SELECT status FROM magfit_reference WHERE iteration > 0 ORDER BY reference_id") == [("accepted",), ("candidate",)]
    assert done(field) == {"frame_fit": PLAN.n_frame}
    assert rows(field, "SELECT status FROM magfit_reference WHERE iteration > 0 ORDER BY reference_id") == [("accepted",), ("accepted",)]
    assert rows(field, "SELECT n_night FROM magfit_reference ORDER BY reference_id DESC LIMIT 1") == [(2,)], "of nights that are closed"


def test_a_frame_that_cannot_be_fitted_keeps_no_candidate_waiting(field: ManyNights, monkeypatch: pytest.MonkeyPatch) -> None:
    night_id = field.nights()[-1] + 1
    evening = dt.date(2000, 1, 1) + dt.timedelta(days=night_id)
    at(monkeypatch, *evening.timetuple()[:3], 22)
    field.add_night(night_id)
    assert done(field) == {"frame_fit": PLAN.n_frame}
    last, fit = field.frames_of(night_id)[-1], DECLARED["frame_fit"]

    def broken(context: Any, unit: Any, parameters: Any) -> Any:
        if unit.frame_id == last:
            raise AlgorithmFailed("no light")
        return fit.body(context, unit, parameters)

    ((field_id,),) = rows(field, "SELECT field_id FROM field")
    field.archive.references.new(field_id, reason="to see")
    monkeypatch.setitem(DECLARED, "frame_fit", replace(fit, body=broken))
    with pytest.raises(RuntimeError, match="no light"):
        field.work(STEPS, jobs=1)
    assert rows(field, "SELECT status FROM magfit_reference WHERE iteration > 0 ORDER BY reference_id") == [("accepted",), ("accepted",)]
