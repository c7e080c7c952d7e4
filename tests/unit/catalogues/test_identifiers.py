"""Identifiers, pairing on the sky, neighbours, and colours from incomplete bands."""

from __future__ import annotations

import random

import hpgeom
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from reduction.catalogues.kernels.colours import assumed_colour, colours_of, combine, fit_colour, fit_magnitude, main_column
from reduction.catalogues.kernels.identifiers import fold_of, healpix29, match_sky, new_source_ids, pair_sky, unit_vectors
from reduction.photometry.kernels.crowding import close_pairs


def test_new_identifiers_sort_like_the_sky_and_are_never_gaias() -> None:
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(30, 32, 500), rng.uniform(45, 47, 500)
    ids = new_source_ids(ra, dec)
    assert len(set(ids.tolist())) == 500 and (ids % 2 == 1).all()
    assert (ids >> 35 == healpix29(ra, dec) >> 34).all()
    shuffled = rng.permutation(500)
    assert (new_source_ids(ra[shuffled], dec[shuffled]) == ids[shuffled]).all()
    assert not set(new_source_ids(ra, dec, ids).tolist()) & set(ids.tolist())


def test_folds_are_even_and_for_ever() -> None:
    ids = new_source_ids(np.linspace(0, 359, 5000), np.zeros(5000))
    assert np.bincount(fold_of(ids)).min() > 900
    # First numbers of splitmix64 for the seeds 0 and 1234567, as its reference implementation prints them.
    assert fold_of([0, 1234567], 30000).tolist() == [16294208416658607535 % 30000, 6457827717110365317 % 30000]


def sky(arcsec_east: list[float], arcsec_north: list[float]) -> np.ndarray:
    return unit_vectors(200.0 + np.array(arcsec_east) / 3600 / np.cos(np.radians(60.0)), 60.0 + np.array(arcsec_north) / 3600)


def test_pairs_are_one_to_one_and_the_closest_first() -> None:
    stars = sky([0.0, 1.0, 50.0], [0.0, 0.0, 0.0])
    sources = sky([0.6, 50.5, 52.0], [0.0, 0.0, 0.0])
    index, separation = pair_sky(stars, sources, 2.0)
    # The source at 0.6 is nearer to the star at 1.0: the star at 0 goes without.
    assert index.tolist() == [-1, 0, 1]
    assert separation[1:] == pytest.approx([0.4, 0.5], abs=1e-4) and np.isnan(separation[0])
    assert match_sky(stars, sources, 2.0).tolist() == [0, 0, 1]


def test_a_source_may_have_a_radius_of_its_own() -> None:
    index, _ = pair_sky(sky([0.0, 100.0], [0.0, 0.0]), sky([1.5, 101.5], [0.0, 0.0]), np.array([1.0, 2.0]))
    assert index.tolist() == [-1, 1]


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
def test_nothing_pairs_with_nothing(n: int, m: int) -> None:
    index, separation = pair_sky(np.zeros((n, 3)), np.zeros((m, 3)), 1.0)
    assert index.tolist() == [-1] * n and np.isnan(separation).all()


def test_close_pairs_are_astropys() -> None:
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(0, 0.1, 300) - 0.05, rng.uniform(89.8, 90.0, 300)
    ra *= 3600  # all around the pole
    first, second, separation = close_pairs(unit_vectors(ra, dec), 60.0)
    at = SkyCoord(ra, dec, unit="deg")
    i, j, angle, _ = at.search_around_sky(at, 60.0 * u.arcsec)
    other = i != j
    assert set(zip(first.tolist(), second.tolist(), strict=True)) == set(zip(i[other].tolist(), j[other].tolist(), strict=True))
    wanted = dict(zip(zip(i.tolist(), j.tolist(), strict=True), angle.arcsec, strict=True))
    assert np.allclose(separation, [wanted[pair] for pair in zip(first.tolist(), second.tolist(), strict=True)], rtol=0, atol=1e-8)
    assert (np.diff(first) >= 0).all()


@pytest.mark.parametrize("n", [0, 1])
def test_one_star_has_no_neighbour(n: int) -> None:
    assert [len(column) for column in close_pairs(unit_vectors(np.zeros(n), np.zeros(n)), 10.0)] == [0, 0, 0]


def test_two_components_a_milliarcsecond_apart_are_told_apart() -> None:
    _, _, separation = close_pairs(unit_vectors(np.array([10.0, 10.0]), np.array([0.0, 1e-3 / 3600])), 1.0)
    assert separation == pytest.approx([1e-3] * 2, rel=1e-4)


def test_gaps_are_filled_by_the_relation_of_stars_that_have_both() -> None:
    rng = np.random.default_rng(5)
    v = rng.uniform(8, 12, 200)
    g = v - 0.3 + 0.02 * (v - 10)
    assert np.allclose(fit_magnitude({"V": v, "G": g}), g)  # at equal numbers Gaia's
    some = np.where(np.arange(200) < 150, g, np.nan)
    fewer = np.where(np.arange(200) < 60, np.nan, v)  # 140 stars, 90 of them with both
    assert np.allclose(fit_magnitude({"V": fewer, "G": some}), g, rtol=0, atol=1e-9)
    assert np.allclose(combine([some, fewer], 1), g, rtol=0, atol=1e-9)


def test_the_most_complete_column_is_the_main_one() -> None:
    nan = np.nan
    assert main_column({"G": np.array([1.0, nan]), "V": np.array([1.0, 2.0])}) == "V"
    assert main_column({"G": np.array([1.0, nan]), "V": np.array([nan, 2.0])}) == "G"
    assert main_column({"G": np.array([nan, nan])}) is None and main_column({}) is None


def test_a_colour_is_formed_of_magnitudes_or_given() -> None:
    magnitudes = {"B": np.array([10.0, np.nan]), "V": np.array([9.4, 9.0])}
    found = colours_of(magnitudes, {"B-V": np.array([0.5, 0.7])})
    assert found["B-V"] == pytest.approx([0.6, 0.7]) and np.isnan(found["J-K"]).all()
    assert fit_colour(magnitudes, {}) == pytest.approx([0.6, np.nan], nan_ok=True)


def test_an_assumed_colour_is_that_of_stars_as_bright() -> None:
    mag = np.linspace(8, 14, 300)
    colour = 0.4 + 0.1 * (mag - 8)
    assert assumed_colour(np.array([9.0, 12.0]), mag, colour) == pytest.approx([0.5, 0.8], abs=0.01)
    assert assumed_colour(np.array([np.nan]), mag, colour) == pytest.approx([0.7], abs=0.01)
    assert assumed_colour(np.array([10.0]), np.array([np.nan]), np.array([1.0])) == pytest.approx([0.8])


places = st.lists(st.tuples(st.floats(0.0, 359.99), st.floats(-89.0, 89.0)), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(places, st.randoms(use_true_random=False))
def test_identifiers_say_where_the_star_is_and_differ_even_at_one_place(at: list[tuple[float, float]], shuffle: random.Random) -> None:
    many = at + shuffle.sample(at, len(at))  # every place twice
    ra, dec = np.array(many).T
    ids = new_source_ids(ra, dec)
    assert len(set(ids.tolist())) == len(many) and (ids % 2 == 1).all() and (ids > 0).all()
    assert (ids >> 35 == healpix29(ra, dec) >> 34).all()
    more = new_source_ids(ra, dec, ids)
    assert not set(more.tolist()) & set(ids.tolist())


def test_the_first_star_of_a_place_is_number_one() -> None:
    first = new_source_ids(np.array([10.0, 10.0]), np.array([20.0, 20.0]))
    place = int(healpix29(np.array([10.0]), np.array([20.0]))[0]) >> 34
    assert sorted(first.tolist()) == [(place << 35) | (number << 7) | 1 for number in (1, 2)]


def test_a_relation_is_not_that_of_its_wildest_stars() -> None:
    x = np.linspace(8.0, 12.0, 120)
    y = 0.3 + x + np.random.default_rng(4).normal(0.0, 0.01, 120)
    y[[5, 50, 115]] += [4.0, -3.0, 5.0]
    known = np.where(np.arange(120) < 118, y, np.nan)
    filled = combine([known, np.where(np.arange(120) >= 10, x, np.nan)], 1)
    assert filled[118:] == pytest.approx(x[118:] + 0.3, abs=0.015)


@pytest.mark.parametrize("turns", [-720.0, -360.0, 360.0, 720.0])
def test_a_place_is_the_same_after_full_turns(turns: float) -> None:
    ra, dec = np.array([0.25, 31.0, 180.0, 359.75]), np.array([-89.0, 46.7, 0.0, 12.5])
    assert healpix29(ra + turns, dec).tolist() == healpix29(ra, dec).tolist()
    assert healpix29(ra, dec).tolist() == hpgeom.angle_to_pixel(2**29, ra, dec, nest=True, lonlat=True).tolist()
