"""What the Python face hands out: units, times, provenance."""

from __future__ import annotations

from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import QTable
from astropy.timeseries import TimeSeries
from small_archive import SmallArchive

import starledger
from db.errors import ConfigurationError, NothingToDo
from db.views import VIEW_COLUMNS
from starledger.archive import Archive


def opened(small: SmallArchive) -> Archive:
    return Archive(small.engine, Path())


def test_a_light_curve_is_a_time_series(small: SmallArchive) -> None:
    series = opened(small).light_curve("HAT-P-32 b")
    assert isinstance(series, TimeSeries) and series.time.scale == "tdb"
    order = np.argsort(small.bjd_tdb[:, 0])
    np.testing.assert_allclose(series.time.jd, small.bjd_tdb[order, 0], rtol=0, atol=1e-9)
    assert series.colnames == ["time", *VIEW_COLUMNS]
    assert series["mag"].unit == u.mag and series["background"].unit == u.adu and series["x"].unit == u.pix and series["fwhm"].unit == u.pix
    np.testing.assert_allclose(series["mag"].value, small.mag[order, 0], atol=3e-7)
    assert all(series[name].info.description for name in VIEW_COLUMNS)
    meta = series.meta
    assert (meta["source_id"], meta["name"], meta["references"], meta["passbands"]) == (small.target, "HAT-P-32 b", [2, 3], ["V", "clear"])
    assert meta["slots"]["field 1, slot 1"] == "circular aperture, radius 4 pixel"
    assert meta["n_point"] == len(small.frame_id) and meta["flags"][1].startswith("SATURATED: ")


def test_positions_by_coordinates(small: SmallArchive) -> None:
    place = SkyCoord(small.ra[5] * u.deg, small.dec[5] * u.deg)
    assert opened(small).light_curve(place.galactic).meta["source_id"] == small.source_id[5]
    assert opened(small).light_curve(place, slot=2).meta["slots"].keys() == {"field 1, slot 2", "field 2, slot 2"}
    with pytest.raises(ConfigurationError, match="2 positions"):
        opened(small).light_curve(SkyCoord([1, 2] * u.deg, [1, 2] * u.deg))


def test_no_light_curve_is_said(small: SmallArchive) -> None:
    with pytest.raises(NothingToDo, match=r"no light curve of source \d+ \(HAT-P-32 b\) in slot 7"):
        opened(small).light_curve(small.target, slot=7)


def test_a_cone_is_a_table_with_units(small: SmallArchive) -> None:
    place = SkyCoord(small.ra[0] * u.deg, small.dec[0] * u.deg)
    for coord, radius in ((place, 2 * u.arcmin), (place, 2 / 60), (f"{small.ra[0]} {small.dec[0]}", 120 * u.arcsec)):
        table = opened(small).cone(coord, radius)
        assert isinstance(table, QTable) and table["separation"].unit == u.arcsec and table["ra"].unit == u.deg
        assert table["source_id"][0] == small.target and len(table) > 2 and (np.diff(table["separation"]) >= 0).all()
        assert set(table["origin"]) == {"catalogue"}
    assert len(opened(small).cone("200 -60", 0.1)) == 0


def test_the_public_face(tmp_path: Path, pair: dict[str, SmallArchive]) -> None:
    small = pair["sqlite"]
    archive = starledger.open(small.engine.url.render_as_string(), files=tmp_path)
    assert archive.light_curve(small.target).meta["n_point"] == len(small.frame_id)
    assert len(archive.cone("31.0427 46.6879", 1 * u.deg)) == len(small.source_id)
    assert archive.sql("SELECT count(*) AS n FROM source WHERE fit_mag < :limit", limit=10.95)["n"].item() == 10
    archive.engine.dispose()
