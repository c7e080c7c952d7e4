"""Catalogues fetched from a service, on both engines: what is asked, what is kept, and what is asked again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import hpgeom
import numpy as np
import pytest
import small_archive
import sqlalchemy as sa
from astropy.table import Table
from sqlalchemy.orm import Session
from tap_service import Service, serving
from templates import make_schema

from db.bulk import bulk_insert
from db.engine import make_engine
from db.errors import ConfigurationError
from db.tables import Base
from reduction.catalogues.held import HeldCatalogues
from reduction.catalogues.intake import source_columns
from reduction.catalogues.kernels.identifiers import healpix29, unit_vectors
from reduction.catalogues.kernels.sky_ranges import circle_ranges, subtract
from reduction.catalogues.tap import Client
from reduction.pipeline.scheduler import Runner, Tally

RA, DEC = 31.0, 46.7


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reduction.catalogues.tap.Client", partial(Client, sleep=lambda _: None))


@pytest.fixture
def engine(archive_url: str) -> Iterator[sa.Engine]:
    make_schema(archive_url)
    engine = make_engine(archive_url, writer=True)
    with engine.begin() as connection:
        put(connection, "config", config_id=1, kind="user", sha256="c", content="{}")
        put(connection, "run", run_id=1, command="test", version="0", host="here", started=small_archive.NOW)
    yield engine
    engine.dispose()


def put(connection: sa.Connection, table: str, **columns: Any) -> None:
    arrays = {name: np.array(value, dtype=object) if isinstance(value, str) else value for name, value in columns.items()}
    bulk_insert(connection, Base.metadata.tables[table], arrays)


def run(engine: sa.Engine, url: str, names: tuple[str, ...] = ("gaia",), *, retry: bool = False, **options: Any) -> Tally:
    """Run the step; what has failed is in the tally."""
    services = [f"{name}={url}" for name in names]
    section = {"catalogues": list(names), "services": services, "attempts": 1, "timeout": 5.0, **options}
    with Runner(engine, Path(), {"fetch": section}, 1, retry=retry) as runner:
        (tally,) = runner.run(["fetch"])
    return tally


def rows(engine: sa.Engine, text: str, **values: Any) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(text), values)]


def column(engine: sa.Engine, text: str) -> list[Any]:
    return [row[0] for row in rows(engine, text)]


def sky(n: int = 600, radius: float = 4.0, seed: int = 2) -> Table:
    """Stars around the field as Gaia has them."""
    rng = np.random.default_rng(seed)
    ra = RA + rng.uniform(-radius, radius, n) / np.cos(np.radians(DEC))
    dec = DEC + rng.uniform(-radius, radius, n)
    pixel = np.asarray(hpgeom.angle_to_pixel(2**12, ra, dec, nest=True, lonlat=True), dtype=np.int64)
    table = Table({"source_id": (pixel << 35) | (np.arange(1, n + 1) << 7), "ra": ra, "dec": dec})
    table["ra_error"] = table["dec_error"] = 0.02
    table["pmra"], table["pmdec"], table["ref_epoch"] = rng.normal(0, 5, n), rng.normal(0, 5, n), 2016.0
    table["phot_g_mean_mag"] = rng.uniform(8, 18, n)
    table["phot_bp_mean_mag"] = table["phot_g_mean_mag"] + 0.3
    table["phot_rp_mean_mag"] = table["phot_g_mean_mag"] - 0.5
    for band in ("g", "bp", "rp"):
        table[f"phot_{band}_mean_flux_over_error"] = 500.0
    return table


def near(table: Table, radius: float, ra: float = RA, dec: float = DEC) -> np.ndarray:
    chord = np.linalg.norm(unit_vectors(table["ra"], table["dec"]) - unit_vectors(ra, dec), axis=1)
    return chord <= 2 * np.sin(np.radians(radius) / 2)


def test_nothing_is_asked_unless_it_is_wanted(engine: sa.Engine) -> None:
    with serving(sky()) as service:
        assert run(engine, service.url, (), sky=[f"{RA} {DEC} 1"]).done == 0
    assert service.queries == []


def test_the_sky_is_held_and_asked_for_once(engine: sa.Engine) -> None:
    table = sky()
    with serving(table) as service:
        tally = run(engine, service.url, sky=[f"{RA} {DEC} 1.0"], faintest=15.0)
        asked = len(service.queries)
        assert tally.failed == {} and tally.done == asked > 5
        again = run(engine, service.url, sky=[f"{RA} {DEC} 1.0"], faintest=15.0)
    assert again.done == 0 and again.failed == {} and len(service.queries) == asked
    # Without the service, all of it works on.
    assert run(engine, service.url, sky=[f"{RA} {DEC} 1.0"], faintest=15.0).failed == {}
    bright = table[(table["phot_g_mean_mag"] <= 15.0) & near(table, 1.5)]
    held = {
        row[0]: row
        for row in rows(engine, "SELECT source_id, ra, dec, pmra, position_err, fit_mag, fit_colour, colour_measured FROM source")
    }
    assert {int(k) for k in bright["source_id"]} <= held.keys()
    assert held.keys() <= {int(k) for k in table["source_id"][table["phot_g_mean_mag"] <= 15.0]}
    star = bright[0]
    assert held[int(star["source_id"])][1:] == pytest.approx(
        (star["ra"], star["dec"], star["pmra"], 2e-5, star["phot_g_mean_mag"], 0.8, 1), abs=1e-9
    )
    lo, hi = np.array(rows(engine, "SELECT lo, hi FROM catalogue_coverage"), dtype=np.int64).T
    assert len(subtract(circle_ranges(RA, DEC, 1.5, 10), np.column_stack([lo, hi]))) == 0
    assert (hi[np.argsort(lo)][:-1] <= np.sort(lo)[1:]).all()
    inside = (healpix29(table["ra"], table["dec"])[:, None] >= lo) & (healpix29(table["ra"], table["dec"])[:, None] < hi)
    assert (
        column(engine, "SELECT n_source FROM catalogue")
        == [len(held)]
        == [int((inside.any(axis=1) & (table["phot_g_mean_mag"] <= 15)).sum())]
    )
    errors = rows(engine, "SELECT band, min(error), max(error), min(system) FROM source_magnitude GROUP BY band ORDER BY band")
    assert [(band, system) for band, _, _, system in errors] == [("BP", "Gaia"), ("G", "Gaia"), ("RP", "Gaia")]
    assert [low for _, low, _, _ in errors] == pytest.approx([2.5 / np.log(10) / 500] * 3)


def test_every_piece_is_kept_before_the_next_is_asked_for(engine: sa.Engine) -> None:
    counts, reader = [], make_engine(engine.url)

    def watch(number: int) -> None:
        counts.append((number - 1, column(reader, "SELECT count(*) FROM catalogue_coverage")[0]))

    with serving(sky(), on_job=watch) as service:
        run(engine, service.url, sky=[f"{RA} {DEC} 0.5"])
    reader.dispose()
    assert len(counts) > 5 and all(before == kept for before, kept in counts)


def test_a_piece_that_fails_is_asked_for_again_alone(engine: sa.Engine) -> None:
    with serving(sky(), faults=["", "", "drop", "malformed"]) as service:
        tally = run(engine, service.url, sky=[f"{RA} {DEC} 0.5"])
        asked = len(service.queries)
        assert len(tally.failed) == 2 and tally.done == asked - 2
        assert all("no answer in 1 attempts" in message for message in tally.failed.values())
        assert run(engine, service.url, sky=[f"{RA} {DEC} 0.5"]).done == 0  # a failure waits for --retry
        assert len(service.queries) == asked
        assert run(engine, service.url, sky=[f"{RA} {DEC} 0.5"], retry=True).done == 2
        assert len(service.queries) == asked + 2
    assert set(service.queries[asked:]) == set(service.queries[2:4])


def test_without_a_network_only_the_first_piece_is_waited_for(engine: sa.Engine) -> None:
    with serving(sky(50), faults=["http"] * 1000) as service:
        tally = run(engine, service.url, sky=[f"{RA} {DEC} 0.5"], attempts=3)
        assert len(tally.failed) > 5 and tally.done == 0
        assert len(service.queries) == len(tally.failed) + 2
        service.faults.clear()
        assert run(engine, service.url, sky=[f"{RA} {DEC} 0.5"], attempts=3, retry=True).failed == {}


@pytest.mark.parametrize("declared", [True, False])
def test_what_is_cut_short_is_asked_for_in_quarters(engine: sa.Engine, declared: bool) -> None:
    table = sky(600, 0.5)
    table["phot_g_mean_mag"] = 9.0  # many more stars of that magnitude than there ought to be
    with serving(table, max_rows=60 if declared else 10**9, declares_overflow=declared) as service:
        tally = run(engine, service.url, sky=[f"{RA} {DEC} 0.4"], faintest=10.0, max_rows=10**6 if declared else 60)
    assert tally.failed == {} and len(service.queries) > tally.done
    found = set(column(engine, "SELECT source_id FROM source"))
    assert {int(k) for k in table["source_id"][near(table, 0.6)]} <= found
    assert len(found) == column(engine, "SELECT n_source FROM catalogue")[0]


def test_a_service_that_holds_too_much_in_the_smallest_piece_fails_the_piece(engine: sa.Engine) -> None:
    table = sky(50, 0.001)
    with serving(table, max_rows=1) as service:
        tally = run(engine, service.url, sky=[f"{RA} {DEC} 0.01"])
    assert any("lower [fetch] faintest" in message for message in tally.failed.values())
    assert "fetch.truncated" in column(engine, "SELECT error_code FROM task WHERE status = 'failed'")
    assert column(engine, "SELECT count(*) FROM source") == [0]


def test_only_new_sky_and_fainter_stars_are_asked_for(engine: sa.Engine) -> None:
    table = sky()
    with serving(table) as service:
        run(engine, service.url, sky=[f"{RA} {DEC} 0.5"], faintest=14.0)
        first = len(service.queries)
        run(engine, service.url, sky=[f"{RA} {DEC} 0.5", f"{RA + 1.0} {DEC} 0.5"], faintest=14.0)
        beside = service.queries[first:]
        assert beside and not set(beside) & set(service.queries[:first])
        second = len(service.queries)
        run(engine, service.url, sky=[f"{RA} {DEC} 0.3"], faintest=16.0)
        assert service.queries[second:] and all("<= 16" in query for query in service.queries[second:])
        third = len(service.queries)
        run(engine, service.url, sky=[f"{RA} {DEC} 0.3"], faintest=14.0)  # held deeper than that
        assert len(service.queries) == third
    faint = table[(table["phot_g_mean_mag"] <= 16.0) & near(table, 0.4)]
    assert {int(k) for k in faint["source_id"]} <= set(column(engine, "SELECT source_id FROM source"))
    assert column(engine, "SELECT count(*) - count(DISTINCT source_id) FROM source_magnitude WHERE band = 'G'") == [0]


def test_frames_say_where_and_how_deep(archive_url: str) -> None:
    small = small_archive.build(archive_url, n_frame=6, n_source=6)
    with serving(sky()) as service:
        tally = run(small.engine, service.url)
        asked = len(service.queries)
        assert tally.failed == {} and 5 < asked < 60
        assert run(small.engine, service.url).done == 0 and len(service.queries) == asked
    lo, hi = np.array(rows(small.engine, "SELECT lo, hi FROM catalogue_coverage"), dtype=np.int64).T
    assert len(subtract(circle_ranges(31.2, 46.8, 0.9, 10), np.column_stack([lo, hi]))) == 0
    # 300 detections on 0.67 square degrees at latitude -14: about 13.5 mag, and one deeper.
    (limit,) = set(column(small.engine, "SELECT magnitude_limit FROM catalogue_coverage"))
    assert 14.0 <= limit <= 16.0 and limit == int(limit)
    small.engine.dispose()


def test_a_frame_rests_on_the_pieces_that_it_meets(engine: sa.Engine) -> None:
    with serving(sky(100)) as service:
        run(engine, service.url, sky=[f"{RA} {DEC} 2.0"], faintest=12.0)
    pieces = rows(engine, "SELECT task_id, lo, hi FROM catalogue_coverage")
    with Session(engine) as session:
        held = HeldCatalogues(session)
        assert {task.task_id for task in held.tasks(None, None, 0.3)} == {row[0] for row in pieces}
        assert held.tasks((RA + 180.0) % 360, -DEC, 1.0) == ()
        found = {task.task_id for task in held.tasks(RA, DEC + 1.0, 0.3)}
        assert {task.role for task in held.tasks(RA, DEC, 0.3)} == {"catalogue"}
    circle = circle_ranges(RA, DEC + 1.0, 0.3, 12)
    wanted = {task_id for task_id, lo, hi in pieces if ((circle[:, 0] < hi) & (circle[:, 1] > lo)).any()}
    assert wanted <= found < {row[0] for row in pieces} and len(found) <= len(wanted) + 2


def tycho() -> Table:
    rng = np.random.default_rng(5)
    n = 300
    table = Table({"TYC1": np.full(n, 3281), "TYC2": np.arange(1, n + 1), "TYC3": np.ones(n, dtype=int), "HIP": np.zeros(n, dtype=int)})
    table["RAmdeg"] = RA + rng.uniform(-3, 3, n)
    table["DEmdeg"] = DEC + rng.uniform(-2, 2, n)
    table["pmRA"], table["pmDE"] = rng.normal(0, 20, n), rng.normal(0, 20, n)
    table["VTmag"] = rng.uniform(7, 12, n)
    table["BTmag"] = table["VTmag"] + rng.uniform(0.2, 1.5, n)
    for name, error in (("e_RAmdeg", 60.0), ("e_DEmdeg", 50.0), ("e_BTmag", 0.05), ("e_VTmag", 0.04)):
        table[name] = error
    table["e_RAmdeg"].unit = table["e_DEmdeg"].unit = "mas"
    return table


def test_a_vizier_catalogue_is_asked_in_circles_and_kept_in_pixels(engine: sa.Engine) -> None:
    table = tycho()
    with serving(table) as service:
        tally = run(engine, service.url, ("tycho2",), sky=[f"{RA} {DEC} 1.0"], faintest=13.0)
        asked = len(service.queries)
        assert tally.failed == {} and run(engine, service.url, ("tycho2",), sky=[f"{RA} {DEC} 1.0"], faintest=13.0).done == 0
        assert len(service.queries) == asked
    names = rows(engine, "SELECT n.name, s.position_err, s.epoch FROM source_name n JOIN source s ON s.source_id = n.source_id")
    wanted = table[near(Table({"ra": table["RAmdeg"], "dec": table["DEmdeg"]}), 1.45)]
    assert {f"TYC {row['TYC1']}-{row['TYC2']}-{row['TYC3']}" for row in wanted} <= {name for name, _, _ in names}
    assert len(names) == len({name for name, _, _ in names}) == column(engine, "SELECT count(*) FROM source")[0]
    assert all(err == pytest.approx(0.06) and epoch == 2016.0 for _, err, epoch in names)
    assert rows(engine, "SELECT DISTINCT band, error, system FROM source_magnitude ORDER BY band") == [
        ("BT", 0.05, "Tycho"),
        ("VT", 0.04, "Tycho"),
    ]
    assert set(column(engine, "SELECT colour_measured FROM source")) == {1}


def discovered(engine: sa.Engine, star: Any, offset: float) -> int:
    """A source that only the frames know, `offset` arcsec north of a star."""
    ids = np.array([(int(star["source_id"]) >> 35 << 35) | (7 << 7) | 1])
    place = np.array([star["ra"]]), np.array([star["dec"] + offset / 3600])
    columns = source_columns(ids, *place, np.array([14.0]), np.array([0.9]), np.zeros(1, dtype=bool), "discovered")
    task = {"step": "discover", "step_version": 1, "unit": "1", "input_hash": "x", "config_id": 1, "run_id": 1, "status": "done"}
    with engine.begin() as connection:
        put(connection, "task", task_id=900, attempts=1, finished=small_archive.NOW, facts="", is_stale=0, **task)
        put(connection, "source", **{**columns, "origin": "discovered", "task_id": 900})
        flux = {"flux_1": 1000.0, "flux_err_1": 1.0}
        put(connection, "open_measurement", source_id=ids, night_id=[6562], frame_id=[1], flags=0, x=1.0, y=1.0, **flux)
    return int(ids[0])


def test_a_discovered_source_keeps_its_identifier_when_gaia_knows_it(engine: sa.Engine) -> None:
    table = sky()
    star = table[np.flatnonzero(near(table, 0.5) & (table["phot_g_mean_mag"] < 16.0))[0]]
    gaia = int(star["source_id"])
    mine = discovered(engine, star, 0.7)
    with serving(table) as service:
        run(engine, service.url, sky=[f"{RA} {DEC} 0.5"], faintest=16.0)
        # Asked for again, deeper: the link stands, and no second source appears.
        run(engine, service.url, sky=[f"{RA} {DEC} 0.5"], faintest=17.5)
    assert column(engine, f"SELECT count(*) FROM source WHERE source_id = {gaia}") == [0]
    link = "SELECT l.source_id, l.separation, m.flux_1 FROM source_link l JOIN measurement m ON m.source_id = l.source_id"
    assert rows(engine, f"{link} WHERE l.gaia_id = :gaia", gaia=gaia) == [(mine, pytest.approx(0.7, abs=1e-6), 1000.0)]
    (found,) = rows(engine, "SELECT ra, dec, pmra, origin, fit_mag, colour_measured, task_id FROM source WHERE source_id = :id", id=mine)
    assert found == (pytest.approx(star["ra"]), pytest.approx(star["dec"]), pytest.approx(star["pmra"]), "catalogue",
                     pytest.approx(star["phot_g_mean_mag"]), 1, 900)  # fmt: skip
    assert rows(engine, "SELECT source_id FROM source_name WHERE name = :name", name=f"Gaia DR3 {gaia}") == [(mine,)]
    assert rows(engine, "SELECT count(*) FROM source_magnitude WHERE source_id = :id", id=mine) == [(3,)]


def test_a_star_beside_a_discovered_source_is_another(engine: sa.Engine) -> None:
    table = sky()
    star = table[np.flatnonzero(near(table, 0.5) & (table["phot_g_mean_mag"] < 16.0))[0]]
    mine = discovered(engine, star, 2.5)
    with serving(table) as service:
        run(engine, service.url, sky=[f"{RA} {DEC} 0.5"], faintest=16.0)
    assert column(engine, "SELECT count(*) FROM source_link") == [0]
    assert column(engine, f"SELECT origin FROM source WHERE source_id IN ({mine}, {int(star['source_id'])}) ORDER BY origin") == [
        "catalogue",
        "discovered",
    ]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"names": ("gaya",)}, r"catalogues = \['gaya'\] is out of range"),
        ({"sky": ["31 95 1"]}, "no circle on the sky"),
        ({"sky": ["31 46"]}, "no circle on the sky"),
    ],
)
def test_what_cannot_be_asked_for_ends_the_run(engine: sa.Engine, options: dict[str, Any], what: str) -> None:
    with serving(sky(10)) as service, pytest.raises(ConfigurationError, match=what):
        run(engine, service.url, **{"names": ("gaia",), **options})


def test_the_stand_in_is_not_a_sieve() -> None:
    """The service answers for exactly the pixel that is asked for."""
    table = sky(50)
    service = Service(table)
    text = service.answer("SELECT source_id FROM t WHERE source_id BETWEEN 0 AND 5 AND phot_g_mean_mag <= 20", 10).decode()
    assert "<TR>" not in text and 'value="OK"' in text
