"""Which catalogue band a passband is compared with."""

from __future__ import annotations

import numpy as np
import pytest

from reduction.lightcurves.kernels.standard_bands import GAIA_RELATIONS, bands_for, choose_band, from_gaia


@pytest.mark.parametrize(
    ("passband", "channel", "first"),
    [
        ("V", "mono", "V"), ("Johnson V", "mono", "V"), ("TG", "mono", "V"), ("G", "G1", "V"), ("L G", "G2", "V"), ("R", "R", "R"),
        ("B", "B", "B"), ("Clear", "mono", "G"), ("unknown", "mono", "G"), ("g", "mono", "g"), ("r", "mono", "r"), ("R", "mono", "R"),
        ("Ic", "mono", "I"), ("Ks", "mono", "K"), ("ip", "mono", "i"), ("L", "mono", "G"),
    ],
)  # fmt: skip
def test_the_nearest_band_comes_first(passband: str, channel: str, first: str) -> None:
    assert bands_for(passband, channel)[0] == first


def test_gaia_makes_the_sun() -> None:
    """G = -26.90 + 25, BP - RP = 0.82 (Casagrande & VandenBerg 2018): V -26.76, V-R 0.35 to 0.37, V-I 0.69 to 0.71, B-V 0.65."""
    g, colour = np.array([-1.90]), np.array([0.82])
    made = {band: float(from_gaia(g, colour, band)[0]) for band in GAIA_RELATIONS}
    assert made["V"] == pytest.approx(-1.76, abs=0.03)
    assert made["V"] - made["R"] == pytest.approx(0.36, abs=0.03)
    assert made["V"] - made["I"] == pytest.approx(0.70, abs=0.03)
    assert made["B"] - made["V"] == pytest.approx(0.65, abs=0.05)
    assert made["g"] - made["r"] == pytest.approx(0.45, abs=0.06)


@pytest.mark.parametrize("band", GAIA_RELATIONS)
def test_beyond_its_colours_a_relation_says_nothing(band: str) -> None:
    _, first, last = GAIA_RELATIONS[band]
    found = from_gaia(np.full(4, 12.0), np.array([first - 0.01, first, last, last + 0.01]), band)
    np.testing.assert_array_equal(np.isfinite(found), [False, True, True, False])


def values(**counts: int) -> dict[str, np.ndarray]:
    return {band: np.where(np.arange(1000) < n, 12.0 + 0.1 * k, np.nan) for k, (band, n) in enumerate(counts.items())}


@pytest.mark.parametrize(
    ("counts", "band"),
    [
        ({"V": 100, "G": 1000}, "V"),
        ({"V": 30, "G": 1000}, "G"),  # too few of them
        ({"V": 30, "G": 1000, "BP": 900, "RP": 900}, "V*"),
        ({"V": 50, "G": 1000}, "V"),
        ({"V": 10, "VT": 60}, "VT"),
        ({"V": 16, "VT": 60}, "V"),
        ({"V": 8, "G": 8}, "V"),
        ({"VT": 400, "J": 1000}, "VT"),
        ({"J": 1000}, None),
    ],
)
def test_a_band_that_few_stars_have_is_passed_over(counts: dict[str, int], band: str | None) -> None:
    chosen = choose_band(bands_for("V"), values(**counts), np.ones(1000, dtype=bool))
    assert (None if chosen is None else chosen[0]) == band


def test_only_stars_that_count_are_counted() -> None:
    stars = np.zeros(1000, dtype=bool)
    stars[500:] = True
    chosen = choose_band(bands_for("V"), values(V=500, G=1000), stars)
    assert chosen is not None and chosen[0] == "G"
