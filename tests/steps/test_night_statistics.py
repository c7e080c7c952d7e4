"""Statistics of light curves: a night costs a night, and nights added up are what all values give at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from many_nights import LAST, ManyNights, Plan
from sqlalchemy.orm import Session
from templates import make_schema

from queries.annotations import mask_point, unmask
from reduction.lightcurves import statistics_step
from reduction.lightcurves.kernels.statistics import light_curve_statistics

#: Stars from bright to fainter than what is summarised in fluxes.
PLAN = Plan(n_star=250, n_frame=9, n_slot=2, faintest=19.5, missing=0.1)
SLOT = 1
NUMBERS = ("n_good", "mag_mean", "mag_median", "rms", "mad_rms", "expected_rms", "chi2", "eta")


@pytest.fixture(scope="module", autouse=True)
def slices() -> Iterator[None]:
    """Nights are read in a handful of parts; other tests read theirs at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics_step, "_ROWS", 500)
        yield


@pytest.fixture(scope="module")
def grown(new_archive: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ManyNights]]:
    """Two nights of which the reference was made, and two that came later, one at a time."""
    built = {}
    for name in ("sqlite", "postgresql"):
        url = new_archive(name)
        make_schema(url)
        nights = ManyNights.create(url, tmp_path_factory.mktemp(name), PLAN)
        nights.add(2)
        nights.work()
        for _ in range(2):
            nights.add_night()
            done = {tally.step: tally.done for tally in nights.work()}
            assert done == {"magnitude_reference": 0, "magnitude_fit": 1, "statistics": 1}
        built[name] = nights
    yield built
    for nights in built.values():
        nights.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def nights(request: pytest.FixtureRequest, grown: dict[str, ManyNights]) -> ManyNights:
    return grown[request.param]


def select(nights: ManyNights, query: str, **values: Any) -> dict[str, np.ndarray]:
    with nights.engine.connect() as connection:
        result = connection.execute(sa.text(query), values)
        names, rows = list(result.keys()), result.all()
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    # A source's number is no float: it would be that of another.
    return {
        name: np.array(column, dtype=np.int64) if name == "source_id" else np.array([np.nan if v is None else float(v) for v in column])
        for name, column in zip(names, columns, strict=True)
    }


def from_view(nights: ManyNights, night_id: int | None = None) -> dict[str, np.ndarray]:
    """Statistics of the good points that people see, by source."""
    of_night = "" if night_id is None else f" AND night_id = {night_id}"
    points = select(
        nights,
        "SELECT source_id, bjd_tdb, mag, mag_err_total, flux / exptime AS flux, flux_err / exptime AS flux_err, quality "
        "FROM light_curve_all l JOIN (SELECT frame_id AS number, exptime FROM frame) f ON f.number = l.frame_id "
        f"WHERE slot = {SLOT}{of_night} ORDER BY source_id, bjd_tdb",
    )
    source_id, star = np.unique(points["source_id"], return_inverse=True)
    good = points["quality"] == 0
    # The step's errors of fluxes have the common errors in them, as those of magnitudes have.
    with np.errstate(invalid="ignore"):
        flux_err = np.where(points["mag_err_total"] > 0, points["mag_err_total"] * points["flux"] / 1.0857362047581296, points["flux_err"])
    values = (points["bjd_tdb"], points["mag"], points["mag_err_total"], points["flux"], flux_err)
    found = light_curve_statistics(star[good], *(value[good] for value in values), n_star=source_id.size)
    n_point = np.bincount(star, minlength=source_id.size)
    names = ("n", "mean", "median", "rms", "mad_rms", "expected_rms", "chi2_dof", "eta")
    return {"source_id": source_id, "n_point": n_point, **{n: getattr(found, m) for n, m in zip(NUMBERS, names, strict=True)}}


def kept(nights: ManyNights, night_id: int | None = None) -> dict[str, np.ndarray]:
    table, of_night = ("lightcurve_statistics", "") if night_id is None else ("night_statistics", f" AND night_id = {night_id}")
    columns = ", ".join(("source_id", "n_point", *NUMBERS))
    of = f"JOIN latest_reference r ON r.reference_id = t.reference_id WHERE slot = {SLOT}{of_night}"
    return select(nights, f"SELECT {columns} FROM {table} t {of} ORDER BY source_id")


def test_a_night_is_summarised_as_people_see_it(nights: ManyNights) -> None:
    for night_id in nights.nights():
        ours, theirs = kept(nights, night_id), from_view(nights, night_id)
        np.testing.assert_array_equal(ours["source_id"], theirs["source_id"])
        np.testing.assert_array_equal(ours["n_good"], theirs["n_good"])
        bright = ours["expected_rms"] < 0.08
        assert 60 < np.count_nonzero(bright) < 240
        for name in NUMBERS[1:]:
            np.testing.assert_allclose(ours[name][bright], theirs[name][bright], rtol=2e-6, atol=1e-9, err_msg=name)


def test_nights_added_up_are_the_light_curve(nights: ManyNights) -> None:
    ours, theirs = kept(nights), from_view(nights)
    np.testing.assert_array_equal(ours["source_id"], theirs["source_id"])
    np.testing.assert_array_equal(ours["n_point"], theirs["n_point"])
    bright = ours["expected_rms"] < 0.08
    np.testing.assert_array_equal(ours["n_good"][bright], theirs["n_good"][bright])
    for name, rtol in (("mag_mean", 1e-9), ("rms", 1e-5), ("expected_rms", 1e-6), ("chi2", 1e-5)):
        np.testing.assert_allclose(ours[name][bright], theirs[name][bright], rtol=rtol, err_msg=name)
    # Medians are of bins of a third of the width, in which values are taken for evenly spread: a tenth of it is what that costs.
    away = np.abs(ours["mag_median"] - theirs["mag_median"])[bright]
    width = select(nights, f"SELECT source_id, width FROM lightcurve_statistics WHERE slot = {SLOT} ORDER BY source_id")["width"][bright]
    assert (away < 0.34 * width).all() and np.median(away / width) < 0.1
    away = np.abs(ours["mad_rms"] - theirs["mad_rms"])[bright]
    assert (away < 1.4826 * 0.5 * width).all() and np.median(away / width) < 0.1


def test_of_one_night_alone_every_number_is_that_of_the_values(archive_url: str, tmp_path: Path) -> None:
    make_schema(archive_url)
    nights = ManyNights.create(archive_url, tmp_path, replace(PLAN, n_star=120))
    nights.add(1)
    nights.work()
    (night_id,) = nights.nights()
    ours, theirs = kept(nights), kept(nights, night_id)
    nights.close()
    for name, values in ours.items():
        np.testing.assert_allclose(values, theirs[name], rtol=1e-6, err_msg=name)


def test_nights_that_come_one_by_one_are_those_of_one_run(
    grown: dict[str, ManyNights], new_archive: Callable[[str], str], tmp_path: Path
) -> None:
    """The reference is of the same two nights; the others are there all at once, and in the other order."""
    url = new_archive("sqlite")
    make_schema(url)
    together = ManyNights.create(url, tmp_path, PLAN)
    first = together.add(2)
    together.work(LAST[:2])
    for night_id in (first[-1].night_id + 2, first[-1].night_id + 1):
        together.add_night(night_id)
    together.work()
    ours, theirs = kept(grown["sqlite"]), kept(together)
    together.close()
    for name in ("source_id", "n_point", "n_good"):
        np.testing.assert_array_equal(ours[name], theirs[name])
    known = np.isin(ours["source_id"], select(grown["sqlite"], "SELECT source_id FROM reference_magnitude WHERE slot = 1")["source_id"])
    assert np.count_nonzero(~known) > 0
    for name in NUMBERS[1:]:
        np.testing.assert_allclose(ours[name][known], theirs[name][known], rtol=1e-6, atol=1e-12, err_msg=name)


def test_both_engines_keep_the_same(grown: dict[str, ManyNights]) -> None:
    one, other = (kept(grown[name]) for name in ("sqlite", "postgresql"))
    for name, values in one.items():
        np.testing.assert_allclose(values, other[name], rtol=1e-6, atol=1e-12, err_msg=name)


def test_a_masked_night_is_taken_off_and_put_back(nights: ManyNights) -> None:
    before, night_id = kept(nights), nights.nights()[1]
    frame_id, source_id = nights.frames_of(night_id)[3], int(before["source_id"][10])
    with Session(nights.engine) as session:
        point = mask_point(session, frame_id, source_id, "satellite", "me").annotation_id
        session.commit()
    done = {tally.step: tally.done for tally in nights.work()}
    assert done == {"magnitude_reference": 0, "magnitude_fit": 0, "statistics": 1}
    masked = kept(nights)
    changed = np.flatnonzero(masked["n_good"] != before["n_good"])
    assert masked["source_id"][changed].tolist() == [source_id]
    assert masked["n_good"][changed] == before["n_good"][changed] - 1 and masked["n_point"][changed] == before["n_point"][changed]
    with Session(nights.engine) as session:
        unmask(session, point)
        session.commit()
    nights.work()
    for name, values in kept(nights).items():
        np.testing.assert_allclose(values, before[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_a_night_that_is_no_longer_fitted_leaves_the_statistics(
    new_archive: Callable[[str], str], archive_url: str, tmp_path: Path
) -> None:
    make_schema(archive_url)
    nights = ManyNights.create(archive_url, tmp_path, replace(PLAN, n_star=120))
    nights.add(2)
    nights.work()
    before = kept(nights)
    later = nights.add_night().night_id
    nights.work()
    assert kept(nights)["n_point"].sum() > before["n_point"].sum()
    with nights.engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE task SET status = 'superseded' WHERE step = 'magnitude_fit' AND unit LIKE '%/{later}'"))
        connection.execute(sa.text("DELETE FROM step_check"))
    nights.work(LAST[2:])
    after = kept(nights)
    nights.close()
    np.testing.assert_array_equal(after["source_id"], before["source_id"])
    # Medians of stars that one night alone had are of its values before, and of bins now.
    twice = before["n_point"] > PLAN.n_frame
    for name, values in after.items():
        some = twice if name in ("mag_median", "mad_rms") else twice | ~twice
        np.testing.assert_allclose(values[some], before[name][some], rtol=1e-6, atol=1e-12, err_msg=name)
    assert not select(nights, f"SELECT source_id FROM night_statistics WHERE night_id = {later}")["source_id"].size
