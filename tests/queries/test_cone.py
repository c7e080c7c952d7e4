"""Cones: exact against brute force, everywhere on the sky."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import sqlalchemy as sa
from small_archive import analyse
from templates import make_schema

from db.bulk import bulk_insert
from db.engine import is_sqlite, make_engine
from db.errors import ConfigurationError
from db.sky import cone as cone_query
from db.sky import healpix_ranges
from db.tables import Base
from queries.cone import CONE_COLUMNS, cone
from reduction.catalogues.kernels.identifiers import healpix29, unit_vectors

N = 4000
PLACES = [
    (0.0, 0.0),
    (359.9999, 0.3),
    (31.04, 46.69),
    (0.0, 90.0),
    (123.0, -90.0),
    (200.0, 89.9),
    (45.0, 41.8103),
    (-10.0, 5.0),
    (180.0, -41.81),
]
RADII = [1 / 3600, 10 / 3600, 0.1, 1.0, 7.3, 30.0]


@pytest.fixture(scope="module")
def sky() -> tuple[np.ndarray, np.ndarray]:
    """Half all over the sky, half crowded about the places that are asked for, from an arcsecond outwards."""
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(0, 360, N // 2), np.degrees(np.arcsin(rng.uniform(-1, 1, N // 2)))
    centre = np.array(PLACES)[rng.integers(len(PLACES), size=N // 2)]
    distance, angle = 10 ** rng.uniform(-4.5, 1.5, N // 2), rng.uniform(0, 2 * np.pi, N // 2)
    d0, r = np.radians(centre[:, 1]), np.radians(distance)
    sine = np.sin(d0) * np.cos(r) + np.cos(d0) * np.sin(r) * np.cos(angle)
    a = np.radians(centre[:, 0]) + np.arctan2(np.sin(angle) * np.sin(r) * np.cos(d0), np.cos(r) - np.sin(d0) * sine)
    return np.r_[ra, np.degrees(a) % 360], np.r_[dec, np.degrees(np.arcsin(np.clip(sine, -1, 1)))]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, new_archive, sky) -> Iterator[sa.Engine]:
    url = new_archive(request.param)
    make_schema(url)
    engine = make_engine(url, writer=True)
    ra, dec = sky
    u = unit_vectors(ra, dec)
    with engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO config VALUES (1, 'step', 'x', '{}')"))
        connection.execute(
            sa.text("INSERT INTO run (run_id, command, version, host, started) VALUES (1, 'x', '0', 'h', '2026-01-01 00:00:00')")
        )
        connection.execute(
            sa.text(
                "INSERT INTO task (task_id, step, step_version, unit, input_hash, config_id, run_id, status, attempts, finished,"
                " facts, is_stale)"
                " VALUES (1, 'catalogue', 1, 'x', 'x', 1, 1, 'done', 1, '2026-01-01 00:00:00', '', 0)"
            )
        )
        columns = {
            "ra": ra,
            "dec": dec,
            "ux": u[:, 0],
            "uy": u[:, 1],
            "uz": u[:, 2],
            "healpix": healpix29(ra, dec),
            "source_id": np.arange(N),
        }
        others = {
            "epoch": 2016.0,
            "pmra": 0.0,
            "pmdec": 0.0,
            "fold": 0,
            "fit_mag": 12.0,
            "fit_colour": 0.8,
            "colour_measured": 1,
            "task_id": 1,
        }
        bulk_insert(connection, Base.metadata.tables["source"], columns | others | {"origin": np.array(["catalogue"] * N, dtype=object)})
    analyse(engine)
    yield engine
    engine.dispose()


@pytest.mark.parametrize("radius", RADII)
def test_cone_equals_brute_force(engine: sa.Engine, sky, radius: float) -> None:
    u = unit_vectors(*sky)
    n_found = 0
    with engine.connect() as connection:
        for ra, dec in PLACES:
            chord = np.linalg.norm(u - unit_vectors(np.array([ra]), np.array([dec])), axis=1)
            separation = np.degrees(2 * np.arcsin(np.clip(chord / 2, 0, 1)))
            found = cone(connection, ra, dec, radius)
            assert set(found["source_id"]) == set(np.flatnonzero(separation <= radius).tolist())
            np.testing.assert_allclose(found["separation"], 3600 * separation[found["source_id"]], rtol=1e-9, atol=1e-9)
            assert found["separation"].is_monotonic_increasing
            n_found += len(found)
    assert n_found > len(PLACES)


def test_the_whole_sky_and_a_single_point(engine: sa.Engine, sky) -> None:
    with engine.connect() as connection:
        whole = cone(connection, 17.0, -3.0, 180.0)
        assert len(whole) == N
        assert whole["separation"].max() <= 180 * 3600
        point = cone(connection, float(sky[0][9]), float(sky[1][9]), 0.0)
        assert point["source_id"].tolist() == [9]
        assert len(cone(connection, 31.04, 46.69, 5.0, limit=3)) == 3
        assert list(point.columns) == list(CONE_COLUMNS)


def test_conditions_are_applied_inside(engine: sa.Engine) -> None:
    source = Base.metadata.tables["source"]
    with engine.connect() as connection:
        every = connection.execute(sa.select(cone_query(31.04, 46.69, 5.0).c.source_id)).scalars().all()
        even = connection.execute(sa.select(cone_query(31.04, 46.69, 5.0, source.c.source_id % 2 == 0).c.source_id)).scalars().all()
    assert set(even) == {k for k in every if k % 2 == 0} and 0 < len(even) < len(every)


@pytest.mark.parametrize("radius", RADII)
def test_ranges_are_few_and_disjoint(radius: float) -> None:
    for ra, dec in PLACES:
        ranges = np.array(healpix_ranges(ra, dec, radius))
        assert 1 <= len(ranges) <= 32
        assert (ranges[:, 0] <= ranges[:, 1]).all() and (ranges[1:, 0] > ranges[:-1, 1]).all()
        # What is read beyond the cone stays within bounds.
        area = float((ranges[:, 1] - ranges[:, 0] + 1).sum()) / (12 * 4**29)
        assert area < 12 * np.sin(np.radians(radius) / 2) ** 2


@pytest.mark.parametrize("radius", [10 / 3600, 1.0])
def test_cone_is_answered_from_the_index(engine: sa.Engine, radius: float) -> None:
    query = sa.select(cone_query(31.04, 46.69, radius).c.source_id)
    text = str(query.compile(engine, compile_kwargs={"literal_binds": True}))
    with engine.connect() as connection:
        if is_sqlite(engine):
            plan = [row[-1] for row in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + text)]
            assert any("USING INDEX ix_source_healpix" in line for line in plan)
            assert not any(line.startswith("SCAN source") for line in plan), plan
        else:
            plan = [row[0] for row in connection.exec_driver_sql("EXPLAIN (COSTS OFF) " + text)]
            assert any("ix_source_healpix" in line for line in plan)
            assert not any("Seq Scan" in line for line in plan), plan


@pytest.mark.parametrize(("ra", "dec", "radius"), [(0, 91, 1), (np.nan, 0, 1), (0, 0, -1), (0, 0, 181), (0, np.nan, 1), (0, 0, np.nan)])
def test_impossible_cones_are_refused(ra: float, dec: float, radius: float) -> None:
    with pytest.raises(ConfigurationError, match="no cone"):
        cone_query(ra, dec, radius)
