"""From the tables of name services to positions and ephemerides."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table
from name_services import planets, variables

from reduction.frames.kernels.heliocentric import hjd_to_bjd_tdb
from starledger.nameanswers import planet_answer, separation, simbad_answer, to_bjd_tdb, vsx_answer


def test_separations() -> None:
    assert separation((10.0, 60.0), (10.0, 60.0)) == 0.0
    assert separation((359.9999, 60.0), (0.0001, 60.0)) == pytest.approx(0.0002 * 3600 * 0.5, rel=1e-6)
    assert separation((0.0, 89.0), (180.0, 89.0)) == pytest.approx(2 * 3600, rel=1e-9)


@pytest.mark.parametrize(
    ("system", "seconds", "remark"),
    [
        ("BJD-TDB", 0.0, ""),
        ("BJD_TT", 0.0, ""),
        ("BJD-UTC", 67.184, "from BJD-UTC"),
        ("BJD", 0.0, "time scale not given, TDB assumed: 69 s off if it is UTC"),
        ("", 0.0, "time system not given, BJD_TDB assumed: up to 10 min off if it is not"),
        ("JD", 0.0, "JD, BJD_TDB assumed: up to 10 min off if it is not"),
    ],
)
def test_time_systems(system: str, seconds: float, remark: str) -> None:
    time, said = to_bjd_tdb(2456500.5, system, 31.0, 46.7)  # 2013: 35 leap seconds
    assert ((time - 2456500.5) * 86400, said) == (pytest.approx(seconds, abs=1e-4), remark)


def test_heliocentric_times_in_either_scale() -> None:
    utc = 2456500.5
    bjd = hjd_to_bjd_tdb(utc, 31.0, 46.7)
    assert to_bjd_tdb(utc, "HJD", 31.0, 46.7) == (bjd, "from HJD")
    assert to_bjd_tdb(utc, "HJD-UTC", 31.0, 46.7)[0] == bjd
    assert to_bjd_tdb(utc + 67.184 / 86400, "HJD-TDB", 31.0, 46.7)[0] == pytest.approx(bjd, rel=0, abs=1e-3 / 86400)


def test_the_ephemeris_of_a_planet_is_of_one_reference() -> None:
    rows = planets()
    answer = planet_answer(rows[rows["hostname"] == "HAT-P-32"], "HAT-P-32 b")
    assert answer is not None
    assert (answer.period, answer.epoch) == (2.15000820, 2455867.402743)
    assert answer.reference == "Wang et al. 2019 (2019AJ....157...82W)"
    assert answer.duration == pytest.approx(3.1176 / 24)  # the default reference has none: that of the next whole one
    assert "depth 2.27 %" in answer.text


def test_a_reference_without_a_time_yields_to_one_that_has_it() -> None:
    rows = planets()[:3]
    rows["pl_tranmid"][0] = np.nan
    answer = planet_answer(rows, "HAT-P-32 b")
    assert answer is not None and answer.reference == "Hartman et al. 2011 (2011ApJ...742...59H)"
    assert answer.period == 2.15000825
    assert (answer.epoch - 2454420.44637) * 86400 == pytest.approx(65.184, abs=1e-4)  # type: ignore[operator]  # given in UTC
    assert "from BJD-UTC" in answer.text


def test_a_planet_without_transits_has_a_period_only() -> None:
    rows = planets()
    answer = planet_answer(rows[rows["pl_name"] == "HAT-P-13 c"], "HAT-P-13 c")
    assert answer is not None and (answer.period, answer.epoch, answer.duration) == (428.5, None, None)


def test_a_star_of_several_planets_has_no_ephemeris_but_each_of_them_has() -> None:
    rows = planets()[3:]
    star = planet_answer(rows, "HAT-P-13")
    assert star is not None and star.period is None and "HAT-P-13 b, HAT-P-13 c; name one" in star.text
    planet = planet_answer(rows, "HAT-P-13 B")
    assert planet is not None and planet.period == 2.91626 and planet.reference == "Bakos et al. 2009 (2009A&A...707..446B)"


def test_the_nearest_variable_is_taken() -> None:
    answer = vsx_answer(variables(), (101.001, 10.0))
    assert answer is not None and answer.name == "Slow One"
    assert answer.period is None and "period >500 d" in answer.text  # a limit is no period


def test_a_constant_star_has_no_ephemeris() -> None:
    answer = vsx_answer(variables()[4:], None)
    assert answer is not None and (answer.period, answer.epoch) == (None, None)
    assert "constant or not existing" in answer.text and "ephemeris not used" in answer.text


def test_amplitudes() -> None:
    texts = [vsx_answer(variables()[row : row + 1], None).text for row in (0, 1)]  # type: ignore[union-attr]
    assert "11.29 V, amplitude 0.025 V" in texts[0]
    assert "7.06 to 8.12 V, amplitude 1.06" in texts[1] and "period 0.56685: d" in texts[1]


def test_an_object_without_a_position_is_not_known() -> None:
    columns = {"main_id": ["X"], "ra": MaskedColumn([1.0], mask=[True]), "dec": MaskedColumn([1.0], mask=[True])}
    assert simbad_answer(Table({**columns, "otype": ["*"], "coo_bibcode": [""]})) is None


@pytest.mark.parametrize("dec", [90.5, np.nan])
def test_what_is_no_place_is_refused(dec: float) -> None:
    with pytest.raises(ValueError, match="no place on the sky"):
        simbad_answer(Table({"main_id": ["X"], "ra": [1.0], "dec": [dec], "otype": ["*"], "coo_bibcode": [""]}))
