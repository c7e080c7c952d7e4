"""What is read from a catalogue's columns: names, errors, systems, fillers, identifiers, rounding, proper motions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import Distance, SkyCoord
from astropy.table import MaskedColumn, Table
from astropy.time import Time

from db.errors import ConfigurationError
from reduction.catalogues.columns import EPOCH, Stars, recognise, stars_of
from reduction.catalogues.tables import read_table


def read(columns: dict[str, Any], epoch: float = 2000.0, **mapping: str) -> Stars:
    table = Table({"ra": [10.123456, 20.654321], "dec": [1.123457, -2.7654321], **columns})
    return stars_of(table, recognise(table.colnames, mapping, "here"), epoch, "here")


def test_errors_of_magnitudes_are_found_under_their_usual_names() -> None:
    stars = read({"Vmag": [10.0, 11.0], "e_Vmag": [0.01, 0.0], "bp": [9.0, 9.5], "bp_err": [0.02, np.nan], "Kmag": [8.0, np.nan]})
    assert stars.errors["V"][0] == 0.01 and np.isnan(stars.errors["V"][1])  # an error of 0 is none
    assert stars.errors["BP"][0] == 0.02 and np.isnan(stars.errors["BP"][1])
    assert "K" not in stars.errors and stars.system("K") == "2MASS"
    assert read({"mine": [1.0, 2.0], "its": [0.1, 0.2]}, r="mine", r_err="its").errors["r"].tolist() == [0.1, 0.2]


def test_gaias_flux_errors_become_errors_in_magnitude() -> None:
    stars = read({"phot_g_mean_mag": [10.0, 11.0], "phot_g_mean_flux_over_error": [1000.0, np.nan]})
    assert stars.errors["G"][0] == pytest.approx(2.5 / np.log(10) / 1000.0)
    assert np.isnan(stars.errors["G"][1])


def test_capitals_tell_gaias_band_from_sloans() -> None:
    stars = read({"Gmag": [10.0, 11.0], "gmag": [10.5, 11.5], "e_Gmag": [0.1, 0.1], "e_gmag": [0.2, 0.2]})
    assert stars.values["G"].tolist() == [10.0, 11.0] and stars.values["g"].tolist() == [10.5, 11.5]
    assert stars.errors["G"][0] == 0.1 and stars.errors["g"][0] == 0.2
    assert stars.system("G") == "Gaia" and stars.system("g") == "Sloan"
    # On its own, a small letter is Sloan's.
    assert set(read({"gmag": [1.0, 2.0]}).values) == {"g"} and set(read({"g": [1.0, 2.0]}).values) == {"g"}
    assert set(read({"GMAG": [1.0, 2.0]}).values) == {"G"}


def test_fillers_are_no_values() -> None:
    stars = read({"g": [10.0, 99.9], "bp": [0.0, 10.0], "rp": [0.0, 9.0]})
    assert np.isnan(stars.values["BP"][0]) and np.isnan(stars.values["RP"][0]) and stars.values["BP"][1] == 10.0
    assert stars.values["G"][0] == 10.0 and np.isnan(stars.values["G"][1])


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (np.array([-9640, 356223732835202304]), [0, 356223732835202304]),
        (MaskedColumn([0, 356223732835202304], mask=[True, False]), [0, 356223732835202304]),
        (["", "356223732835202304"], [0, 356223732835202304]),
        (["nan", "99999999999999999999"], [0, 0]),
        ([356223732835202304, 356223732835202304], [356223732835202304, 0]),  # a second row is another star
        ([9640, 356223732835202304], [0, 356223732835202304]),
        ([np.nan, 3.562237328352023e17], [0, 0]),  # what was a float is another star's number
    ],
)
def test_gaias_identifiers(column: Any, expected: list[int]) -> None:
    assert read({"gaia_dr3": column}).gaia.tolist() == expected


def test_tycho_numbers_in_one_column_or_in_three() -> None:
    assert read({"tyc": ["1-2-3", ""]}).names["TYC"].tolist() == ["1-2-3", ""]
    assert read({"TYC1": [3281, 0], "TYC2": [957, 0], "TYC3": [1, 0]}).names["TYC"].tolist() == ["3281-957-1", ""]


def test_a_rounded_position_has_an_error() -> None:
    table = Table({"ra": [10.1234, 10.123456, 10.12], "dec": [1.5, 1.123457, -2.71]})
    stars = stars_of(table, recognise(table.colnames, {}, ""), 2000.0, "")
    assert stars.position_err[0] == pytest.approx(0.36 / np.sqrt(12)) and np.isnan(stars.position_err[1])
    assert stars.position_err[2] == pytest.approx(36.0 / np.sqrt(12))


def test_errors_of_positions_have_units() -> None:
    table = Table({"ra": [10.123456], "dec": [1.123457], "e_RAJ2000": [0.3] * u.arcsec, "e_DEJ2000": [200.0] * u.mas})
    assert stars_of(table, recognise(table.colnames, {}, ""), 2000.0, "").position_err[0] == pytest.approx(0.3)
    assert read({"ra_error": [30.0, 0.0], "dec_error": [50.0, 0.0]}).position_err[0] == pytest.approx(0.050)


def test_barnards_star_moves_as_astropy_moves_it() -> None:
    # Epoch 1991.25 to 2016: 257 arcsec along a great circle (Hipparcos, HIP 87937).
    ra, dec, pmra, pmdec = 269.45402305, 4.66828815, -797.84, 10326.93
    table = Table({"ra": [ra], "dec": [dec], "pmra": [pmra], "pmdec": [pmdec]}, meta={"epoch": 1991.25})
    stars = stars_of(table, recognise(table.colnames, {}, ""), 2000.0, "")
    start = SkyCoord(
        ra * u.deg, dec * u.deg, Distance(1.83 * u.pc), pm_ra_cosdec=pmra * u.mas / u.yr, pm_dec=pmdec * u.mas / u.yr,
        radial_velocity=0 * u.km / u.s, obstime=Time(1991.25, format="jyear", scale="tdb"),
    )  # fmt: skip
    end = start.apply_space_motion(Time(EPOCH, format="jyear", scale="tdb"))
    assert end.separation(SkyCoord(stars.ra[0] * u.deg, stars.dec[0] * u.deg)).mas < 0.1
    assert end.separation(start).arcsec > 250


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no quantity 'X'"):
        recognise(["ra", "dec"], {"X": "y"}, "here")
    with pytest.raises(ConfigurationError, match="no column 'y'"):
        recognise(["ra", "dec"], {"V": "y"}, "here")
    with pytest.raises(ConfigurationError, match="no column for dec among ra, b"):
        recognise(["ra", "b"], {}, "here")
    with pytest.raises(ConfigurationError, match="beyond the poles"):
        stars_of(Table({"ra": [1.0], "dec": [91.0]}), {"ra": "ra", "dec": "dec"}, 2000.0, "here")


@pytest.mark.parametrize("name", ["s.ecsv", "s.csv", "s.fits", "s.vot", "s.parquet"])
def test_files_of_every_kind_say_the_same(name: str, tmp_path: Path) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    table = Table({"source_id": [356223732835202304, 128], "ra": [10.123456, 20.5], "dec": [1.0, -2.0], "Vmag": [9.0, np.nan]})
    table.write(tmp_path / name, **({"format": "votable"} if name.endswith("vot") else {}))
    back = read_table(tmp_path / name)
    stars = stars_of(back, recognise(back.colnames, {}, name), 2000.0, name)
    assert stars.gaia.tolist() == [356223732835202304, 128]
    assert np.allclose(stars.ra, table["ra"], rtol=0, atol=1e-12) and stars.values["V"][0] == 9.0 and np.isnan(stars.values["V"][1])


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "n_gaia", "n_rounded"), [("patch_12x12deg_hatp32", 2300, 100), ("patch_13x13deg_agpeg_skycamt", 1600, 10)]
)
def test_the_traps_of_the_real_catalogues(name: str, n_gaia: int, n_rounded: int, shared_data: Path) -> None:
    table = read_table(shared_data / "catalogues" / f"{name}.ecsv")
    stars = stars_of(table, recognise(table.colnames, {}, name), 2000.0, name)
    assert n_gaia < np.count_nonzero(stars.gaia) < 2400 and (stars.gaia >= 0).all()
    rounded = np.isin(np.asarray(table["pos_src"]).astype(str), ["bigsky", "1"])
    assert np.count_nonzero(rounded) >= n_rounded
    assert np.isfinite(stars.position_err[rounded]).all() and np.isfinite(stars.position_err[~rounded]).mean() < 0.001
    assert (stars.values["BP"] != 0.0).all() and (np.nan_to_num(stars.values["BP"] - stars.values["RP"], nan=1.0) != 0.0).sum() > 7000
    assert {stars.system(band) for band in stars.values} == {"Gaia", "Johnson", "Tycho"}
