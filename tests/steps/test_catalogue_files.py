"""Catalogue files on both engines: several that describe one star, read again, and found on sources that the frames knew first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_archive
import sqlalchemy as sa
from astropy.table import Table
from templates import make_schema

from db.engine import make_engine
from db.tables import Base
from reduction.pipeline.scheduler import Runner, Tally

GAIA = 353375138722546176


@pytest.fixture
def engine(archive_url: str) -> Iterator[sa.Engine]:
    make_schema(archive_url)
    engine = make_engine(archive_url, writer=True)
    with engine.begin() as connection:
        connection.execute(sa.insert(Base.metadata.tables["config"]).values(config_id=1, kind="user", sha256="c", content="{}"))
        values = {"run_id": 1, "command": "test", "version": "0", "host": "here", "started": small_archive.NOW}
        connection.execute(sa.insert(Base.metadata.tables["run"]).values(values))
    yield engine
    engine.dispose()


def take(engine: sa.Engine, *files: Path, columns: dict[str, str] | None = None, **parameters: Any) -> Tally:
    settings = {"catalogues": [str(path) for path in files], "catalogue": parameters, "catalogue_columns": columns or {}}
    with Runner(engine, Path(), settings, 1) as runner:
        (tally,) = runner.run(["catalogue"])
    assert tally.failed == {}
    return tally


def rows(engine: sa.Engine, text: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(text))]


def write(path: Path, **columns: Any) -> Path:
    Table(columns).write(path, overwrite=True)
    return path


@pytest.fixture
def tycho(tmp_path: Path) -> Path:
    """Three stars, the last two 3 arcsec apart."""
    return write(
        tmp_path / "tycho.ecsv", ra=[31.000001, 31.1000001, 31.1000001], dec=[46.000001, 46.2000001, 46.2000001 + 3 / 3600],
        tyc=["1-1-1", "1-2-1", "1-2-2"], VTmag=[9.0, 10.0, 11.0], e_VTmag=[0.02, 0.03, 0.04], BTmag=[9.7, 10.4, np.nan],
    )  # fmt: skip


@pytest.fixture
def gaia(tmp_path: Path) -> Path:
    """The same three, and one more beside the first."""
    return write(
        tmp_path / "gaia.ecsv", source_id=GAIA + 128 * np.arange(4), ra=[31.000001, 31.1000001, 31.1000001, 31.000001],
        dec=[46.000001 + 0.2 / 3600, 46.2000001, 46.2000001 + 3.1 / 3600, 46.000001 + 1.5 / 3600],
        phot_g_mean_mag=[8.9, 9.9, 10.9, 15.0], phot_bp_mean_mag=[9.2, 10.0, 11.1, 15.5], phot_rp_mean_mag=[8.4, 9.5, 10.4, 14.5],
        ref_epoch=[2016.0] * 4,
    )  # fmt: skip


@pytest.mark.parametrize("first", ["tycho", "gaia"])
def test_one_star_has_the_magnitudes_of_both_catalogues(engine: sa.Engine, tycho: Path, gaia: Path, first: str) -> None:
    files = (tycho, gaia) if first == "tycho" else (gaia, tycho)
    for path in files:
        take(engine, path, epoch=2016.0)
    found = rows(
        engine,
        "SELECT n.name, m.band, m.value, m.error, m.system FROM source_name n JOIN source_magnitude m ON m.source_id = n.source_id"
        " WHERE n.name LIKE 'TYC%' ORDER BY n.name, m.band",
    )
    assert [row[:3] for row in found] == [
        ("TYC 1-1-1", "BP", 9.2), ("TYC 1-1-1", "BT", 9.7), ("TYC 1-1-1", "G", 8.9), ("TYC 1-1-1", "RP", 8.4), ("TYC 1-1-1", "VT", 9.0),
        ("TYC 1-2-1", "BP", 10.0), ("TYC 1-2-1", "BT", 10.4), ("TYC 1-2-1", "G", 9.9), ("TYC 1-2-1", "RP", 9.5), ("TYC 1-2-1", "VT", 10.0),
        ("TYC 1-2-2", "BP", 11.1), ("TYC 1-2-2", "G", 10.9), ("TYC 1-2-2", "RP", 10.4), ("TYC 1-2-2", "VT", 11.0),
    ]  # fmt: skip
    assert {(band, error, system) for _, band, _, error, system in found if band == "VT"} == {
        ("VT", e, "Tycho") for e in (0.02, 0.03, 0.04)
    }
    assert rows(engine, "SELECT count(*), count(fit_colour), min(position_err) FROM source") == [(4, 4, None)]
    # Whichever came first, Gaia's number leads to the star.
    number = f"SELECT source_id FROM source WHERE source_id = {GAIA} UNION SELECT source_id FROM source_link WHERE gaia_id = {GAIA}"
    (star,) = {row[0] for row in rows(engine, "SELECT source_id FROM source_name WHERE name = 'TYC 1-1-1'")}
    assert rows(engine, number) == [(star,)] and (star == GAIA) == (first == "gaia")


def test_a_file_that_is_read_again_keeps_its_identifiers(engine: sa.Engine, tycho: Path, gaia: Path) -> None:
    take(engine, tycho, epoch=2016.0)
    text = "SELECT name, source_id FROM source_name WHERE name LIKE 'TYC%' ORDER BY name"
    before = rows(engine, text)
    take(engine, gaia, epoch=2016.0)
    place = "SELECT s.dec FROM source s JOIN source_name n ON n.source_id = s.source_id WHERE n.name = 'TYC 1-1-1'"
    assert rows(engine, place) == [(pytest.approx(46.000001 + 0.2 / 3600, abs=1e-9),)]
    again = take(engine, epoch=2016.0, match_radius=1.8)
    assert rows(engine, place) == [(pytest.approx(46.000001 + 0.2 / 3600, abs=1e-9),)]  # Gaia's stays
    assert again.done == 2
    assert rows(engine, text) == before and len(before) == 3
    assert rows(engine, "SELECT count(*) FROM source") == [(4,)]
    assert rows(engine, "SELECT count(*) FROM source_link WHERE gaia_id IS NOT NULL") == [(3,)]


def test_stars_that_a_second_reading_no_longer_has_are_dropped(engine: sa.Engine, tmp_path: Path) -> None:
    path = write(tmp_path / "mixed.ecsv", ra=[31.0000001, 32.0], dec=[46.0000001, 46.5], alpha=[35.0000001, 36.0], Vmag=[9.0, 10.0])
    take(engine, path)
    take(engine, columns={"ra": "alpha"})
    assert [ra for (ra,) in rows(engine, "SELECT ra FROM source ORDER BY ra")] == pytest.approx([35.0, 36.0])
    assert rows(engine, "SELECT count(*) FROM source_magnitude") == [(2,)]


def test_a_star_of_no_number_links_to_a_discovered_source(engine: sa.Engine, tycho: Path) -> None:
    take(engine, tycho, epoch=2016.0)
    with engine.begin() as connection:
        # As if the first had been found on the frames, and the file came now.
        for table in ("source_magnitude", "source_name", "catalogue"):
            connection.execute(sa.delete(Base.metadata.tables[table]))
        connection.execute(sa.text("DELETE FROM source WHERE fit_mag > 9.5"))
        connection.execute(sa.text("UPDATE task SET step = 'discover'"))
        connection.execute(sa.text("UPDATE source SET origin = 'discovered', colour_measured = 0"))
    (mine,) = rows(engine, "SELECT source_id FROM source")
    take(engine, tycho, epoch=2016.0)
    assert rows(engine, "SELECT source_id, gaia_id, catalogue_id FROM source_link") == [(mine[0], None, 1)]
    assert rows(engine, f"SELECT origin, colour_measured FROM source WHERE source_id = {mine[0]}") == [("catalogue", 1)]
    assert rows(engine, "SELECT source_id FROM source_name WHERE name = 'TYC 1-1-1'") == [mine]


@pytest.mark.realdata
def test_two_real_catalogues_of_one_sky_make_one_set_of_sources(engine: sa.Engine, shared_data: Path) -> None:
    folder = shared_data / "catalogues"
    take(engine, folder / "hatp32_r1.5deg.ecsv")
    (before,) = rows(engine, "SELECT count(*) FROM source")
    ids = rows(engine, "SELECT source_id FROM source ORDER BY 1")
    assert before == (487,)
    take(engine, folder / "patch_12x12deg_hatp32.ecsv")
    assert set(ids) <= set(rows(engine, "SELECT source_id FROM source"))
    (counts,) = rows(engine, "SELECT count(*), count(fit_colour), count(fit_mag), min(source_id) FROM source")
    # 9778 rows, four of which are of a star that the file has twice: 0.1 to 0.9 arcsec apart, of one name or the same magnitudes
    assert counts[:3] == (9774, 9774, 9774) and counts[3] > 0
    text = "SELECT source_id FROM source_magnitude GROUP BY source_id HAVING count(DISTINCT catalogue_id) = 2"
    (two,) = rows(engine, f"SELECT count(*) FROM ({text}) t")
    assert two == (487,)
    assert rows(engine, "SELECT count(*) FROM source_magnitude WHERE band = 'BP' AND value = 0") == [(0,)]
    (rounded,) = rows(engine, "SELECT count(*) FROM source WHERE position_err BETWEEN 0.10 AND 0.11")
    assert rounded[0] > 100


def test_a_column_of_numbers_does_not_pass_through_a_float(engine: sa.Engine, gaia: Path) -> None:
    take(engine, gaia)
    assert [number for (number,) in rows(engine, "SELECT source_id FROM source ORDER BY 1")] == [GAIA + 128 * k for k in range(4)]
