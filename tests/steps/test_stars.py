"""The step that settles a field's stars: band and colour of its fits, and neighbours, on both engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_archive
import sqlalchemy as sa
from small_archive import SmallArchive

from db.bulk import bulk_insert
from db.tables import Base
from reduction.catalogues.intake import source_columns
from reduction.catalogues.kernels.identifiers import new_source_ids
from reduction.pipeline.scheduler import Runner, Tally


@pytest.fixture
def small(archive_url: str) -> Iterator[SmallArchive]:
    """Two fields over one sky, whose sources were looked for; the sources have no magnitudes of a catalogue yet."""
    archive = small_archive.build(archive_url, n_frame=6, n_source=40)
    put(
        archive, "task", task_id=[901, 902], step="discover", step_version=1, unit=np.array(["1", "2"], dtype=object),
        input_hash=np.array(["a", "b"], dtype=object), config_id=1, run_id=1, status="done", attempts=1, finished=small_archive.NOW,
        facts="", is_stale=0,
    )  # fmt: skip
    yield archive
    archive.engine.dispose()


def put(small: SmallArchive, table: str, **columns: Any) -> None:
    arrays = {name: np.array(value, dtype=object) if isinstance(value, str) else value for name, value in columns.items()}
    with small.engine.begin() as connection:
        bulk_insert(connection, Base.metadata.tables[table], arrays)


def magnitudes(small: SmallArchive, catalogue_id: int, bands: dict[str, tuple[Any, float]]) -> None:
    """Values of a catalogue by band, NaN where it has none, with one error a band."""
    for band, (values, error) in bands.items():
        good = np.isfinite(values)
        put(
            small, "source_magnitude", source_id=small.source_id[good], catalogue_id=catalogue_id, band=band, value=values[good],
            error=np.full(good.sum(), error), system="test",
        )  # fmt: skip


def run(small: SmallArchive, **parameters: Any) -> Tally:
    with Runner(small.engine, Path(), {"field_colours": parameters}, 1) as runner:
        (tally,) = runner.run(["field_colours"])
    assert tally.failed == {}
    return tally


def rows(small: SmallArchive, text: str) -> list[tuple[Any, ...]]:
    with small.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(text))]


def fitted(small: SmallArchive) -> dict[int, tuple[float, float, int]]:
    return {row[0]: row[1:] for row in rows(small, "SELECT source_id, fit_mag, fit_colour, colour_measured FROM source")}


def test_a_field_names_the_band_and_colour_that_most_stars_have(small: SmallArchive) -> None:
    n = len(small.source_id)
    g = np.linspace(9.0, 13.0, n)
    colour = np.linspace(0.3, 1.5, n)
    v = g + 0.2
    few = np.where(np.arange(n) < 12, v, np.nan)
    g[-3:] = np.nan  # three have V alone, two of them no colour
    few[-3:] = v[-3:]
    bp_rp = np.where(np.arange(n) < n - 3, colour, np.nan)
    b_v = np.full(n, np.nan)
    b_v[:12], b_v[-1] = 0.8 * colour[:12], 0.8 * colour[-1]
    magnitudes(small, 1, {"G": (g, 0.01), "V": (few, 0.01), "BP-RP": (bp_rp, 0.01), "B-V": (b_v, 0.02)})
    assert run(small).done == 2
    assert rows(small, "SELECT fit_band, fit_colour_band FROM field") == [("G", "BP-RP")] * 2
    found = fitted(small)
    for k in range(n - 3):
        assert found[small.source_id[k]] == pytest.approx((g[k], colour[k], 1), abs=1e-9)
    # V and B-V were brought to G and BP-RP by the stars that have both.
    last = found[small.source_id[n - 1]]
    assert last == pytest.approx((v[n - 1] - 0.2, colour[n - 1], 1), abs=0.02)
    assumed = found[small.source_id[n - 2]]
    assert assumed[2] == 0 and 0.3 < assumed[1] < 1.5
    assert rows(small, "SELECT count(*) - count(fit_colour) FROM source") == [(0,)]
    assert run(small).done == 0


def test_of_two_catalogues_the_better_value_is_taken(small: SmallArchive) -> None:
    n = len(small.source_id)
    other = {"kind": "service", "name": "other", "path": "x", "sha256": "other", "columns": "{}"}
    put(small, "catalogue", catalogue_id=2, n_source=n, epoch=2016.0, task_id=1, **other)
    magnitudes(small, 1, {"V": (np.full(n, 10.0), 0.05)})
    magnitudes(small, 2, {"V": (np.where(np.arange(n) < 20, 10.3, np.nan), 0.01)})
    run(small)
    found = fitted(small)
    assert [found[k][0] for k in small.source_id[:20]] == [10.3] * 20
    assert [found[k][0] for k in small.source_id[20:]] == [10.0] * 20
    assert rows(small, "SELECT fit_band, fit_colour_band FROM field") == [("V", None)] * 2


def test_without_catalogue_magnitudes_nothing_is_named(small: SmallArchive) -> None:
    before = fitted(small)
    run(small)
    assert rows(small, "SELECT fit_band, fit_colour_band FROM field") == [(None, None)] * 2
    assert [mag for mag, _, _ in fitted(small).values()] == [mag for mag, _, _ in before.values()]


def neighbours(small: SmallArchive) -> dict[tuple[int, int], tuple[float, float]]:
    return {row[:2]: row[2:] for row in rows(small, "SELECT source_id, neighbour_id, separation, delta_mag FROM source_neighbour")}


def expected(small: SmallArchive, radius: float) -> dict[tuple[int, int], float]:
    """All pairs, without a tree."""
    found = rows(small, "SELECT source_id, ux, uy, uz FROM source ORDER BY source_id")
    ids = [row[0] for row in found]
    u = np.array([row[1:] for row in found])
    angle = 2 * np.degrees(np.arcsin(np.linalg.norm(u[:, None] - u[None], axis=2) / 2)) * 3600
    return {(ids[i], ids[j]): angle[i, j] for i, j in zip(*np.nonzero((angle <= radius) & ~np.eye(len(ids), dtype=bool)), strict=True)}


def test_neighbours_are_all_pairs_both_ways_round(small: SmallArchive) -> None:
    # A FWHM of some 16 arcsec; the grid's stars are 49 apart.
    run(small, neighbour_radius=1.0)
    assert neighbours(small) == {}
    assert run(small, neighbour_arcsec=400.0).done == 2
    found, wanted = neighbours(small), expected(small, 400.0)
    assert found.keys() == wanted.keys() and len(wanted) > 40
    mags = {k: v[0] for k, v in fitted(small).items()}
    for pair, (separation, delta) in found.items():
        assert separation == pytest.approx(wanted[pair], rel=1e-6)
        assert delta == pytest.approx(mags[pair[1]] - mags[pair[0]], abs=1e-5)
    run(small, neighbour_arcsec=200.0)
    # A larger radius of another time or field is not forgotten.
    assert neighbours(small).keys() == wanted.keys()


def test_a_source_found_later_has_its_neighbours_too(small: SmallArchive) -> None:
    run(small, neighbour_radius=1.0)
    ra, dec = small.ra[:1], small.dec[:1] + 10.0 / 3600
    ids = new_source_ids(ra, dec, small.source_id)
    columns = source_columns(ids, ra, dec, np.array([12.5]), np.array([0.8]), np.zeros(1, dtype=bool), "discovered")
    put(small, "source", **{**columns, "origin": "discovered", "task_id": 901})
    with small.engine.begin() as connection:
        connection.execute(sa.text("UPDATE task SET status = 'superseded' WHERE task_id = 901"))
    put(
        small, "task", task_id=[990_001], step="discover", step_version=1, unit=np.array(["1"], dtype=object),
        input_hash=np.array(["anew"], dtype=object), config_id=1, run_id=1, status="done", attempts=1, finished=small_archive.NOW,
        facts="", is_stale=0,
    )  # fmt: skip
    assert run(small, neighbour_radius=1.0).done == 2
    target = int(small.source_id[0])
    found = neighbours(small)
    assert found.keys() == {(int(ids[0]), target), (target, int(ids[0]))}
    assert found[target, int(ids[0])] == pytest.approx((10.0, 12.5 - fitted(small)[target][0]), rel=1e-4)


def test_fields_apart_have_bands_of_their_own(small: SmallArchive) -> None:
    with small.engine.begin() as connection:
        connection.execute(sa.text("UPDATE field SET ra = 100.0 WHERE field_id = 2"))
    n = 10
    ra, dec = np.linspace(99.8, 100.2, n), np.full(n, 46.81)
    ids = new_source_ids(ra, dec)
    columns = source_columns(ids, ra, dec, np.full(n, 12.0), np.full(n, 0.8), np.zeros(n, dtype=bool), "catalogue")
    put(small, "source", **{**columns, "origin": "catalogue", "task_id": 1})
    put(small, "source_magnitude", source_id=ids, catalogue_id=1, band="r", value=np.full(n, 11.0), system="Sloan")
    magnitudes(small, 1, {"G": (np.full(40, 10.0), 0.01)})
    run(small)
    assert rows(small, "SELECT fit_band FROM field ORDER BY field_id") == [("G",), ("r",)]
    assert {fitted(small)[k][0] for k in ids.tolist()} == {11.0}
