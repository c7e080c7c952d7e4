"""References tied to a catalogue and to each other: three cameras on the same stars, whose zero points and colour terms are known."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from many_nights import LAST, ManyNights, Plan
from templates import make_schema

from db.engine import is_sqlite
from db.terms import COLOUR_PIVOT
from queries.joined_curve import JOINED_COLUMNS
from reduction.lightcurves.standard_system_step import StandardSystemParameters
from starledger.reduce import status

STEPS = (*LAST[:2], "standard_system", "magnitude_offsets")
CONFIG = '[magnitude_fit]\nterms = ["colour", "airmass_colour"]\n'
#: Terms of nights do not differ: what is injected is what a reference has.
PLAN = Plan(n_star=300, n_frame=8, n_slot=2, night_scatter=0.0, colour_term=0.08, catalogue_error=0.003, n_variable=0)


@dataclass
class Cameras:
    """An archive with three cameras: the first and the last in one passband."""

    cameras: list[ManyNights]
    config: Path

    @property
    def first(self) -> ManyNights:
        return self.cameras[0]

    def rows(self, text: str, **values: Any) -> list[Any]:
        with self.first.engine.connect() as connection:
            return list(connection.execute(sa.text(text), values).all())

    def injected(self, camera: ManyNights) -> tuple[float, float]:
        """Number of a camera's reference, and the colour term of the frame that it began with."""
        query = "SELECT r.reference_id, r.frame_id, f.night_id FROM latest_reference l JOIN magfit_reference r USING (reference_id)"
        ((reference, frame, night),) = self.rows(
            f"{query} JOIN frame f ON f.frame_id = r.frame_id WHERE l.field_id = :field", field=camera.plan.camera
        )
        place = camera.frames_of(night).index(frame)
        return reference, float(camera.sky.night(night).coefficients["colour"][place])


def build(url: str, folder: Path) -> Cameras:
    make_schema(url)
    config = folder / "terms.toml"
    config.write_text(CONFIG)
    first = ManyNights.create(url, folder / "files", PLAN)
    others = [
        first.beside(camera=2, passband="V", zero=-0.7, colour_term=-0.12),
        first.beside(camera=3, zero=0.4, colour_term=-0.05),
    ]
    cameras = Cameras([first, *others], config)
    for camera in cameras.cameras:
        camera.add(2)
    done = {tally.step: tally.done for tally in first.work(STEPS, config=config)}
    assert done == {"magnitude_reference": 3, "magnitude_fit": 6, "standard_system": 3, "magnitude_offsets": 3}
    return cameras


@pytest.fixture(scope="module")
def pair(new_archive: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Cameras]]:
    """The same archive on both engines; what is changed in it is changed back."""
    built = {name: build(new_archive(name), tmp_path_factory.mktemp(name)) for name in ("sqlite", "postgresql")}
    yield built
    for each in built.values():
        each.first.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def work(request: pytest.FixtureRequest, pair: dict[str, Cameras]) -> Cameras:
    return pair[request.param]


def test_injected_zero_points_and_colour_terms_come_back(work: Cameras) -> None:
    for camera in work.cameras:
        reference, colour_term = work.injected(camera)
        rows = work.rows("SELECT * FROM standard_system WHERE reference_id = :reference ORDER BY slot", reference=reference)
        assert [row.slot for row in rows] == [0, 1]
        for row in rows:
            assert (row.band, row.system, row.colour_band) == ("G", "Gaia", "BP-RP")
            assert row.colour_term == pytest.approx(-colour_term, abs=max(1e-3, 3.5 * row.colour_term_err))
            assert row.colour_term_err < 2e-3 and row.zero_point_err < 1e-3
            assert 200 < row.n_star <= row.n_offered <= PLAN.n_star
            assert row.colour_min < row.colour_pivot < row.colour_max
            assert row.scatter == pytest.approx(PLAN.catalogue_error, rel=0.6)


def test_standard_magnitudes_are_the_true_ones(work: Cameras) -> None:
    """To better than a millimagnitude in the mean, on every camera, also where the fitted ones are off by a tenth."""
    for camera in work.cameras:
        found = np.array(
            work.rows(
                "SELECT source_id, avg(standard_mag), avg(mag), max(system_err), min(ref_id), max(colour_quality)"
                " FROM standard_light_curve WHERE field_id = :field GROUP BY source_id ORDER BY source_id",
                field=camera.plan.camera,
            ),
            dtype=object,
        )
        place = np.searchsorted(camera.sky.source_id, found[:, 0].astype(np.int64))
        bright = camera.sky.mag[place] < 11.0
        off, fitted, error = (found[bright, k].astype(float) for k in (1, 2, 3))
        true, colour = camera.sky.mag[place][bright], camera.sky.colour[place][bright] - COLOUR_PIVOT
        assert np.median(off - true) == pytest.approx(0.0, abs=1e-3)
        assert np.polyfit(colour, off - true, 1)[0] == pytest.approx(0.0, abs=2e-3)
        assert abs(np.polyfit(colour, fitted - true, 1)[0]) > 0.01
        assert (error > 0).all() and np.median(error) < 5e-3
        assert set(found[:, 4].tolist()) == {work.injected(camera)[0]} and found[:, 5].min() == 0


def test_a_person_chooses_the_band(work: Cameras, tmp_path: Path) -> None:
    """V made up of Gaia's colours, which the catalogue here does not have: nothing is said; then G again."""
    config, first = tmp_path / "bands.toml", work.first.plan
    query = "SELECT s.band, count(*) FROM standard_system s JOIN latest_reference r USING (reference_id) GROUP BY s.band ORDER BY s.band"
    config.write_text(f'{CONFIG}[standard_system]\nbands = ["{first.passband.lower()} = V*"]\n')
    work.first.work(STEPS, config=config)
    assert work.rows(query) == [("G", 2)]  # of the camera with another passband
    config.write_text(f'{CONFIG}[standard_system]\nbands = ["{first.passband} = G", "V = G"]\n')
    work.first.work(STEPS, config=config)
    assert work.rows(query) == [("G", 6)]
    work.first.work(STEPS, config=work.config)
    assert work.rows(query) == [("G", 6)]


@pytest.mark.parametrize("bands", ["clear", "=V", "clear=", "clear=X*"])
def test_a_band_of_nothing_is_refused(bands: str) -> None:
    found = StandardSystemParameters(bands=(bands,)).check()
    assert found is not None and repr(bands) in found[0]
    assert StandardSystemParameters(bands=("clear=V*", "SDSS r = g")).check() is None
    assert StandardSystemParameters(bands=("SDSS r = g",)).bands_for("sdss R", "mono") == ("g",)


def test_offsets_are_the_differences_of_the_cameras(work: Cameras) -> None:
    known = {camera.plan.camera: work.injected(camera) for camera in work.cameras}
    rows = work.rows("SELECT * FROM field_offset ORDER BY reference_id, other_reference_id, slot, other_slot")
    assert len(rows) == 3 * 4
    pulls = []
    for row in rows:
        (reference, mine), (other, theirs) = known[row.field_id], known[row.other_field_id]
        assert (row.reference_id, row.other_reference_id) == (reference, other) and reference > other
        assert (row.instrument, row.other_instrument) == (f"camera {row.field_id}", f"camera {row.other_field_id}")
        assert row.passband == ("V" if row.field_id == 2 else "G")
        assert row.colour_term == pytest.approx(mine - theirs, abs=max(1e-3, 3.5 * row.colour_term_err))
        assert row.n_star > 200 and row.zero_point_err < 1e-3
        one, two = (
            dict(
                work.rows(
                    "SELECT source_id, mag FROM reference_magnitude WHERE reference_id = :r AND slot = :s", r=number, s=slot
                )
            )
            for number, slot in ((reference, row.slot), (other, row.other_slot))
        )  # fmt: skip
        sky = work.first.sky
        both = [k for k, star in enumerate(sky.source_id.tolist()) if star in one and star in two and sky.mag[k] < 10.5]
        ids, colours = sky.source_id[both].tolist(), sky.colour[both]
        difference = np.array([one[star] - two[star] for star in ids]) - row.zero_point - row.colour_term * (colours - row.colour_pivot)
        assert np.median(difference) == pytest.approx(0.0, abs=1e-3)
        pulls.append(np.median(difference) / row.zero_point_err)
    assert np.max(np.abs(pulls)) < 6.0


def joined(work: Cameras, star: int) -> Any:
    return work.first.archive.curve(int(work.first.sky.source_id[star]), joined=True)


def test_one_curve_over_two_cameras(work: Cameras) -> None:
    """Of one passband the cameras are on one scale, of another on another, to a millimagnitude in the mean over stars."""
    sky = work.first.sky
    stars = [k for k in np.argsort(sky.mag)[:60].tolist() if abs(sky.colour[k] - COLOUR_PIVOT) > 0.2][:20]
    before, after, error = [], [], []
    for star in stars:
        curve = joined(work, star)
        points = curve.frame
        g, v = points[points["passband"] == "G"], points[points["passband"] == "V"]
        assert set(g["field_id"]) == {1, 3} and g["scale"].nunique() == v["scale"].nunique() == 1
        assert g["scale"].iloc[0] != v["scale"].iloc[0]
        assert (v["join_err"] == 0).all() and (v["joined_mag"] == v["mag"]).all()
        assert len(curve.meta["scales"]) == 3 and sum("common stars" in text for text in curve.meta["scales"].values()) == 1
        one, three = g[g["field_id"] == 1], g[g["field_id"] == 3]
        before.append(three["mag"].mean() - one["mag"].mean())
        after.append(three["joined_mag"].mean() - one["joined_mag"].mean())
        error.append(g["join_err"].max())
    assert np.std(before) > 0.02
    assert np.mean(after) == pytest.approx(0.0, abs=1e-3)
    assert np.std(after) < 2e-3 and 0 < max(error) < 3e-3


def test_the_time_series_has_the_columns_with_units(work: Cameras) -> None:
    series = work.first.archive.light_curve(int(work.first.sky.source_id[3]), joined=True)
    assert set(JOINED_COLUMNS) < set(series.colnames)
    assert str(series["joined_mag"].unit) == "mag" and series.meta["scales"]


def test_without_an_offset_fields_stay_on_scales_of_their_own(work: Cameras) -> None:
    star = int(work.first.sky.source_id[3])
    with work.first.engine.begin() as connection:
        kept = connection.execute(sa.text("SELECT * FROM magnitude_offset")).mappings().all()
        connection.execute(sa.text("DELETE FROM magnitude_offset"))
    try:
        curve = work.first.archive.curve(star, joined=True)
    finally:
        with work.first.engine.begin() as connection:
            names = list(kept[0])
            text = f"INSERT INTO magnitude_offset ({', '.join(names)}) VALUES ({', '.join(':' + name for name in names)})"
            connection.execute(sa.text(text), [dict(row) for row in kept])
    points = curve.frame
    assert points["scale"].nunique() == 3 and (points["joined_mag"] == points["mag"]).all()
    assert all("as it is" in text for text in curve.meta["scales"].values())


def test_a_star_without_colour_has_the_scatter_of_colours_in_its_error(work: Cameras) -> None:
    star = int(work.first.sky.source_id[3])
    text = (
        "SELECT min(standard_mag - mag), max(system_err), max(colour_quality) FROM standard_light_curve"
        " WHERE source_id = :star AND field_id = 1"
    )
    ((_, known, quality),) = work.rows(text, star=star)
    assert quality in (0, 1)
    reference, _ = work.injected(work.first)
    with work.first.engine.begin() as connection:
        connection.execute(sa.text("UPDATE source SET colour_measured = 0 WHERE source_id = :star"), {"star": star})
    try:
        ((shift, error, quality),) = work.rows(text, star=star)
        row = work.rows(
            "SELECT z.* FROM standard_system z JOIN best_slot b USING (reference_id, slot) WHERE reference_id = :r AND source_id = :star",
            r=reference, star=star,
        )[0]  # fmt: skip
    finally:
        with work.first.engine.begin() as connection:
            connection.execute(sa.text("UPDATE source SET colour_measured = 1 WHERE source_id = :star"), {"star": star})
    assert quality == 2 and error > known
    assert shift == pytest.approx(row.zero_point)
    assert error == pytest.approx(np.sqrt(row.zero_point_err**2 + row.excess**2 + (row.colour_term * row.colour_scatter) ** 2))


def test_a_standard_curve_is_read_by_key(work: Cameras) -> None:
    """Two look-ups a point more than the curve itself, whose points are found by their keys."""
    star = int(work.first.sky.source_id[3])
    condition = f"WHERE source_id = {star} AND night_id BETWEEN 6000 AND 6100"
    with work.first.engine.connect() as connection:
        if is_sqlite(connection):
            plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN SELECT * FROM standard_light_curve {condition}")]
            assert not [
                line for line in plan if re.match(r"(SCAN|MATERIALIZE|CO-ROUTINE) .*(measurement|light_curve|standard|source)", line)
            ]
            assert [line for line in plan if re.match(r"SEARCH z USING PRIMARY KEY \(reference_id=\? AND slot=\?\)", line)]
            return
        pages = {}
        for view in ("light_curve", "standard_light_curve"):
            plan = [
                row[0] for row in connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) SELECT * FROM {view} {condition}")
            ]
            pages[view] = sum(int(number) for number in re.findall(r"(?:hit|read)=(\d+)", next(line for line in plan if "Buffers" in line)))
        n_point = connection.exec_driver_sql(f"SELECT count(*) FROM light_curve {condition}").scalar_one()
        assert pages["standard_light_curve"] <= pages["light_curve"] + 8 * n_point


def pending(work: Cameras) -> dict[str, int]:
    return {step.step: step.pending for step in status(work.first.archive) if step.pending and step.step in STEPS}


def test_rows_follow_the_reference(archive_url: str, tmp_path: Path) -> None:
    """A new night asks for nothing; a new reference for its own rows; one taken back for those that were never made."""
    make_schema(archive_url)
    config = tmp_path / "terms.toml"
    config.write_text(CONFIG)
    first = ManyNights.create(archive_url, tmp_path / "files", Plan(n_star=80, n_frame=4, n_slot=2, faintest=11.0))
    work = Cameras([first, first.beside(camera=2, colour_term=0.05)], config)

    def run() -> dict[str, int]:
        return {tally.step: tally.done for tally in first.work(STEPS, config=config) if tally.done}

    for camera in work.cameras:
        camera.add(1)
    assert run() == {"magnitude_reference": 2, "magnitude_fit": 2, "standard_system": 2, "magnitude_offsets": 1}
    first.add(1)
    assert run() == {"magnitude_fit": 1}
    first.archive.references.new(1, "two nights instead of one")
    assert run() == {"magnitude_reference": 1, "magnitude_fit": 2, "standard_system": 1, "magnitude_offsets": 1}
    refs = dict(work.rows("SELECT field_id, reference_id FROM latest_reference"))
    assert {(row.reference_id, row.other_reference_id) for row in work.rows("SELECT * FROM field_offset")} == {(refs[1], refs[2])}
    second = first.archive.references.new(2, "anew")
    assert second is not None
    assert run() == {"magnitude_reference": 1, "magnitude_fit": 1, "standard_system": 1, "magnitude_offsets": 1}
    # The first reference of field 1 was never compared with the second of field 2.
    first.archive.references.retract(1, "it was better before")
    assert run() == {"magnitude_offsets": 1}
    now = dict(work.rows("SELECT field_id, reference_id FROM latest_reference"))
    assert now[1] < refs[1] < now[2]
    assert {(row.reference_id, row.other_reference_id) for row in work.rows("SELECT * FROM field_offset")} == {(now[2], now[1])}
    assert set(work.rows("SELECT DISTINCT ref_id FROM standard_light_curve WHERE standard_mag IS NOT NULL")) == {(now[1],), (now[2],)}
    # Once more, and there is nothing to do.
    assert run() == {}
    first.close()
