"""Columns under the names that the documentation gives, those left aside, and stars that a catalogue has twice."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from reduction.catalogues.columns import BANDS, Stars, left_aside, recognise, stars_of
from reduction.catalogues.doubles import without_doubles

ARCSEC = 1.0 / 3600.0


@pytest.mark.parametrize("band", list(BANDS))
def test_every_band_is_taken_under_its_own_name(band: str) -> None:
    found = recognise(["ra", "dec", band], {} if "-" not in band else {band: band}, "here")
    assert {what: column for what, column in found.items() if what in BANDS} == {band: band}


def test_sloans_small_letters_are_not_gaias_or_cousins() -> None:
    assert recognise(["ra", "dec", "g", "r", "i", "z"], {}, "") == {"ra": "ra", "dec": "dec", "g": "g", "r": "r", "i": "i", "z": "z"}
    assert "r" not in recognise(["ra", "dec", "R", "I"], {}, "") and "i" not in recognise(["ra", "dec", "R", "I"], {}, "")
    both = recognise(["ra", "dec", "G", "g", "BP", "RP"], {}, "")
    assert (both["G"], both["g"]) == ("G", "g")
    gaias = recognise(["ra", "dec", "g", "bp", "rp"], {}, "")  # in its company it is Gaia's
    assert gaias["G"] == "g" and "g" not in gaias
    all_seven = recognise(["ra", "dec", "g", "r", "i", "z", "bp", "rp"], {}, "")
    assert all_seven["g"] == "g" and "G" not in all_seven


def test_columns_left_aside_are_those_of_numbers() -> None:
    table = Table({"ra": [1.0], "dec": [2.0], "V": [9.0], "R": [8.0], "note": ["x"], "n_obs": [3]})
    assert left_aside(table, recognise(table.colnames, {}, "")) == ["R", "n_obs"]


def stars(**columns: list[float] | list[str]) -> Stars:
    table = Table(columns)
    return stars_of(table, recognise(table.colnames, {}, ""), 2016.0, "")


def test_a_star_that_is_there_twice_is_one() -> None:
    found = stars(
        ra=[10.0, 10.0 + 0.4 * ARCSEC, 11.0], dec=[0.0, 0.0, 0.0], V=[9.0, 9.05, 10.0], B=[np.nan, 9.6, 11.0], tyc=["1-2-1", "", "1-3-1"]
    )
    one, joined, close = without_doubles(found)
    assert (len(one), joined, close) == (2, 1, 0)
    assert one.ra == pytest.approx([10.0, 11.0], abs=1e-3)
    assert one.values["B"].tolist() == [9.6, 11.0]
    assert one.names["TYC"].tolist() == ["1-2-1", "1-3-1"]


@pytest.mark.parametrize(
    "told",
    [{"V": [9.0, 12.0]}, {"V": [8.0, np.nan], "VT": [np.nan, 11.2]}, {"tyc": ["1-2-1", "1-2-2"]}, {"gaia": [128, 256]}],
)
def test_two_stars_close_together_stay_two(told: dict[str, list[float]]) -> None:
    found = stars(ra=[10.0, 10.0 + 0.4 * ARCSEC], dec=[0.0, 0.0], **told)
    kept, joined, close = without_doubles(found)
    assert (len(kept), joined, close) == (2, 0, 1)


def test_three_rows_of_one_star_and_none_at_all() -> None:
    found = stars(ra=[10.0, 10.0, 10.0], dec=[0.0, 0.2 * ARCSEC, 0.4 * ARCSEC], V=[np.nan, np.nan, 9.0], B=[np.nan, 10.0, np.nan])
    one, joined, _ = without_doubles(found)
    assert (len(one), joined) == (1, 2)
    assert (one.values["V"][0], one.values["B"][0]) == (9.0, 10.0)
