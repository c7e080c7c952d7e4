"""Fluxes at given positions: against analytic truth, and on frames rendered by GalSim with the profile map fitted to their stars."""

from __future__ import annotations

import numpy as np
import pytest
from rendered_stars import fitted, grid, render

from reduction.kernels.arrays import FloatArray, IntArray
from reduction.photometry.kernels.forced import ForcedFluxes, match_moving, take_turns
from reduction.photometry.kernels.forced import forced_fluxes as on_masked
from reduction.photometry.kernels.psf_flux import Pixels, fit_fluxes, model_image
from reduction.photometry.kernels.psf_seed import seed_map

FWHM = 2.5
SIZE = 640


def forced_fluxes(pixels, psf, *positions) -> ForcedFluxes:
    """Without masked pixels; the last of `positions` is the radius of conflict."""
    *places, radius = positions
    return on_masked(pixels, np.zeros(pixels.value.shape, np.uint8), psf, *places, radius=radius, aperture=6.0)


def none(n: int) -> IntArray:
    return np.full(n, -1, dtype=np.int64)


def rendered(
    seed: int, extra: tuple[FloatArray, FloatArray, FloatArray], flux: FloatArray | None = None
) -> tuple[ForcedFluxes, FloatArray]:
    """A sparse frame whose stars show its profile and are known, and `extra` ones (x, y, flux) that are not: what is found there."""
    x, y = grid(40.0, seed, SIZE)
    bright = 10 ** np.random.default_rng(seed + 1).uniform(3.5, 5.5, len(x)) if flux is None else np.full(len(x), flux)
    sky = render(np.append(x, extra[0]), np.append(y, extra[1]), np.append(bright, extra[2]), fwhm=FWHM, size=SIZE, seed=seed + 2)
    known = type(sky)(sky.pixels, x, y, bright, type(sky.stamps)(*(part[: len(x)] for part in sky.stamps)))
    psf = fitted(known, FWHM).psf
    return forced_fluxes(sky.pixels, psf, x, y, extra[0], extra[1], none(len(extra[0])), 0.3 * FWHM), bright


def between(seed: int) -> tuple[FloatArray, FloatArray]:
    """Positions away from the stars of the same seed, at any phase of the pixel."""
    x, y = grid(40.0, seed, SIZE)
    rng = np.random.default_rng(seed + 3)
    angle = np.tile(np.arange(4) * np.pi / 2 + 0.4, len(x)) + rng.uniform(-0.1, 0.1, 4 * len(x))
    distance = rng.uniform(13.0, 19.0, 4 * len(x))
    return np.repeat(x, 4) + distance * np.cos(angle), np.repeat(y, 4) + distance * np.sin(angle)


def test_where_nothing_is_the_flux_is_zero_within_true_errors() -> None:
    x, y = between(201)
    found, _ = rendered(201, (x, y, np.zeros(len(x))))
    pull = found.flux / found.error
    assert len(pull) > 800 and 0.4 < (pull < 0).mean() < 0.6
    assert abs(pull.mean()) < 0.1 and np.std(pull) == pytest.approx(1.0, abs=0.06)
    assert np.median(found.chi2) == pytest.approx(1.0, abs=0.05)


def test_a_star_too_faint_to_be_seen_has_its_flux() -> None:
    x, y = between(211)
    truth = np.resize([30.0, 60.0, 120.0, 0.0], len(x))  # errors are of about 60
    found, _ = rendered(211, (x, y, truth))
    assert 40.0 < np.median(found.error) < 90.0
    for flux in (30.0, 60.0, 120.0):
        some = truth == flux
        off = (found.flux[some] - flux) / found.error[some]
        assert abs(off.mean()) < 3.0 / np.sqrt(some.sum())
        assert found.flux[some].mean() > 0.5 * flux
    assert np.std((found.flux - truth) / found.error) == pytest.approx(1.0, abs=0.06)


def test_next_to_a_star_the_flux_is_unbiased() -> None:
    """Two FWHM away from a star a hundred times brighter than the error, several times over."""
    pulls = []
    for seed in (221, 231, 241):
        x, y = grid(40.0, seed, SIZE)
        angle = np.random.default_rng(seed + 4).uniform(0.0, 2 * np.pi, len(x))
        place = (x + 2 * FWHM * np.cos(angle), y + 2 * FWHM * np.sin(angle), np.zeros(len(x)))
        found, _ = rendered(seed, place, flux=2e4)
        assert np.median(found.neighbour_flux / found.error) > 3.0  # what a fit of the position alone would have found
        pulls.append(found.flux / found.error)
    pull = np.concatenate(pulls)
    assert abs(pull.mean()) < 0.15 and np.std(pull) == pytest.approx(1.0, abs=0.1)


def frame(x: FloatArray, y: FloatArray, flux: FloatArray, noise: float = 3.0) -> Pixels:
    """A frame of the seed's own profile."""
    image = model_image(seed_map((90, 80), 3.0, 10.0, pixel=1.0).stamps(x, y), flux, (80, 90))
    value = image + np.random.default_rng(5).normal(0.0, noise, image.shape)
    return Pixels(value.astype(np.float32), np.full(image.shape, noise**2, np.float32), 1e9, np.ones(image.shape, dtype=bool))


def test_in_the_place_of_a_star_it_is_the_stars_own_flux() -> None:
    psf = seed_map((90, 80), 3.0, 10.0, pixel=1.0)
    rng = np.random.default_rng(6)
    x, y, flux = rng.uniform(0, 80, 25), rng.uniform(0, 80, 25), rng.uniform(-50, 4000, 25)
    pixels = frame(x, y, flux)
    stars = fit_fluxes(pixels, psf.stamps(x, y))
    found = forced_fluxes(pixels, psf, x, y, x.copy(), y.copy(), np.arange(25), 0.1)
    for name in ("flux", "error", "background_weight", "chi2"):
        np.testing.assert_array_equal(getattr(found, name), getattr(stars, name))


def test_the_same_position_twice_is_measured_twice() -> None:
    psf = seed_map((90, 80), 3.0, 10.0, pixel=1.0)
    star, hidden = (np.array([30.2]), np.array([40.7])), (60.0, 40.3)
    pixels = frame(np.append(star[0], hidden[0]), np.append(star[1], hidden[1]), np.array([9000.0, 500.0]))
    # the star under two names, the other position twice and once a little beside
    x, y = np.array([30.2, 30.4, 60.0, 60.0, 60.3]), np.array([40.7, 40.7, 40.3, 40.3, 40.3])
    found = forced_fluxes(pixels, psf, *star, x, y, np.array([0, 0, -1, -1, -1]), 0.9)
    assert found.flux[0] == pytest.approx(9000.0, abs=5 * found.error[0])
    assert found.flux[1] == pytest.approx(9000.0, rel=0.03) and found.flux[1] != found.flux[0]
    np.testing.assert_allclose(found.flux[2:4], 500.0, atol=4 * found.error[2])
    assert found.flux[2] == found.flux[3] and found.flux[4] == pytest.approx(found.flux[2], rel=0.1)
    alone = forced_fluxes(pixels, psf, *star, x[2:3], y[2:3], none(1), 0.9)
    # whoever else is followed there neither shares its light nor adds to its error
    np.testing.assert_allclose([found.flux[2], found.error[2]], [alone.flux[0], alone.error[0]], rtol=1e-4)


def test_turns_keep_apart_what_cannot_be_told_apart() -> None:
    x = np.array([0.0, 0.5, 1.0, 1.6, 10.0, 20.0, 30.0])
    turn, pairs = take_turns(x, np.zeros(7), np.array([-1, -1, -1, -1, 3, 3, 4]), 0.7)
    assert {tuple(pair) for pair in pairs.tolist()} == {(0, 1), (1, 2), (2, 3), (4, 5)}
    assert turn.tolist() == [0, 1, 0, 1, 0, 1, 0]
    turn, pairs = take_turns(np.zeros(3), np.zeros(3), none(3), 0.1)
    assert turn.tolist() == [0, 1, 2] and len(pairs) == 3


def test_a_star_that_moves_is_followed() -> None:
    star_x = np.array([[10.0, 50.0, np.nan], [12.0, 50.0, 70.0], [13.0, 50.0, 70.5]])  # 2000, 2016, now
    star_y = np.zeros((3, 3))
    x = np.array([10.1, 12.0, 13.0, 11.0, 50.2, 70.0, np.nan])
    star, dx, dy = match_moving(x, np.zeros(7), star_x, star_y, 0.4)
    assert star.tolist() == [0, 0, 0, -1, 1, 2, -1]
    np.testing.assert_allclose(dx, [3.0, 1.0, 0.0, 0.0, 0.0, 0.5, 0.0])
    assert not dy.any()
    assert match_moving(x, x, np.zeros((3, 0)), np.zeros((3, 0)), 1.0)[0].tolist() == [-1] * 7


def test_the_own_part_of_the_light_says_how_blended_a_position_is() -> None:
    psf = seed_map((120, 120), 3.0, 12.0, pixel=1.0)
    star_x, star_y = np.array([30.0, 90.0]), np.array([60.0, 60.0])
    stamps = psf.stamps(star_x, star_y)
    value = model_image(stamps, np.array([1e4, 1e4]), (120, 120)).astype(np.float32)
    pixels = Pixels(value, np.ones((120, 120), np.float32), 1.0, np.ones((120, 120), bool))
    found = forced_fluxes(pixels, psf, star_x, star_y, np.array([30.0, 94.0, 60.0]), np.full(3, 60.0), np.array([0, -1, -1]), 1.0)
    assert found.share[0] > 0.999  # a star alone
    assert found.share[1] < 0.05  # nothing beside one
    assert found.share[2] > 0.3  # nothing far from both: its error, against hardly any light


def test_masked_pixels_and_none_at_all() -> None:
    psf = seed_map((90, 80), 3.0, 10.0, pixel=1.0)
    pixels = frame(np.array([40.0]), np.array([40.0]), np.array([800.0]))
    pixels.good[40, 40:42] = False
    pixels.good[:30, :30] = False
    nothing = np.zeros(0)
    found = forced_fluxes(pixels, psf, nothing, nothing, np.array([40.0, 10.0]), np.array([40.0, 10.0]), none(2), 0.5)
    assert found.flux[0] == pytest.approx(800.0, abs=4 * found.error[0])
    assert np.isnan(found.flux[1]) and np.isnan(found.error[1]) and np.isnan(found.chi2[1])
    assert len(forced_fluxes(pixels, psf, nothing, nothing, nothing, nothing, none(0), 0.5).flux) == 0
