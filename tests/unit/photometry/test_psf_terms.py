"""Further terms of the profile map, and the errors that come of it: against written-out equations, GalSim, and repeated noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rendered_stars import Sky, grid, render

from reduction.astrometry.kernels.wcs import exponents
from reduction.photometry.kernels.forced import forced_fluxes
from reduction.photometry.kernels.psf_aperture import psf_apertures
from reduction.photometry.kernels.psf_equations import Scene, normal_equations, total
from reduction.photometry.kernels.psf_fit import PsfFit, fit_psf
from reduction.photometry.kernels.psf_flux import Canvas, Pixels, fit_fluxes, model_image
from reduction.photometry.kernels.psf_map import FurtherTerm, PsfMap, map_terms
from reduction.photometry.kernels.psf_seed import seed_map
from reduction.photometry.kernels.splines import axis_integrals
from reduction.photometry.psf_model import gridded_model

FWHM = 2.5
SIZE = 480
COLOUR = FurtherTerm("colour", 1.0, 0.5, 0.0, 3.0)
BRIGHTNESS = FurtherTerm("brightness", 2.0, 1.5, 0.1, 9.0)


def seed(size: int = SIZE) -> PsfMap:
    return seed_map((size, size), 1.15 * FWHM, 4.0 * 1.15 * FWHM, pixel=1.0)


def two_terms(size: int = 80) -> PsfMap:
    """A profile that is wider for red stars, and longer for bright ones."""
    narrow = seed_map((size, size), 3.0, 10.0, pixel=2.0)  # of a map whose pixels would do more of the blurring
    wide, long = (
        seed_map((size, size), 3.0, 10.0, **shape).coeff[0] - narrow.coeff[0] for shape in ({}, {"pixel": 2.0, "ellipticity": 0.2})
    )
    coeff = np.stack([narrow.coeff[0], 0.1 * wide, -0.05 * wide, 0.3 * wide, 0.3 * long])
    return PsfMap(size, size, 1, narrow.knots, coeff, narrow.radius, 1.0, (COLOUR, BRIGHTNESS))


def colours(n: int, seed: int) -> np.ndarray:
    return np.clip(0.5 + np.random.default_rng(seed).gamma(2.0, 0.3, n), -0.2, 3.0)


def coloured(slope: float) -> tuple[Sky, np.ndarray]:
    """Stars wider by `slope` for each magnitude of colour."""
    x, y = grid(24.0, 201, SIZE)
    colour = colours(len(x), 202)
    flux = 10 ** np.random.default_rng(203).uniform(3.5, 5.5, len(x))
    return render(x, y, flux, fwhm=FWHM, size=SIZE, seed=204, stretch=1.0 + slope * (colour - 1.0)), colour


def slope_of_flux(sky: Sky, fit: PsfFit, colour: np.ndarray) -> tuple[float, float]:
    """Change of the flux with colour and its error, beside what a fit with the true profiles has (mmag/mag)."""
    found = fit_fluxes(sky.pixels, fit.psf.stamps(sky.x, sky.y, {"colour": colour}))
    true = fit_fluxes(sky.pixels, sky.stamps, rounds=4)
    relative = found.error / sky.flux
    bright = relative < 0.01
    design = np.column_stack([np.ones(len(colour)), colour - 1.0])[bright] / relative[bright, None]
    covariance = np.linalg.inv(design.T @ design)
    off = (found.flux - true.flux)[bright] / sky.flux[bright] / relative[bright]
    return 1086.0 * float((covariance @ design.T @ off)[1]), 1086.0 * float(np.sqrt(covariance[1, 1]))


def test_a_term_in_colour_takes_the_bias_of_red_stars_away() -> None:
    sky, colour = coloured(0.03)
    without, with_it = (fit_psf(sky.pixels, sky.x, sky.y, seed(), traits=known) for known in (None, {"colour": colour}))
    assert [term.name for term in with_it.psf.further] == ["colour"] and without.psf.further == ()
    assert with_it.tried["colour"] < with_it.held_out[1] - 0.005
    assert with_it.chi2 < without.chi2 - 0.005
    before, after = slope_of_flux(sky, without, colour), slope_of_flux(sky, with_it, colour)
    assert abs(before[0]) > 3.5 and abs(after[0]) < 0.3 * abs(before[0])
    # 3 % in width for a magnitude, as the map says it itself, but for the pixel's own part of the width
    wider = [with_it.psf.response(240.0, 240.0, np.zeros(1), np.zeros(1), {"colour": np.array([value])})[0, 0] for value in (0.7, 1.7)]
    assert wider[1] / wider[0] - 1.0 == pytest.approx(-2 * 0.03, abs=0.015)


def test_a_term_in_colour_is_left_out_where_nothing_depends_on_it() -> None:
    sky, colour = coloured(0.0)
    flux = sky.flux / 1e5
    fit = fit_psf(sky.pixels, sky.x, sky.y, seed(), traits={"colour": colour, "brightness": flux})
    assert fit.psf.further == () and set(fit.tried) == {"colour", "brightness"}
    assert min(fit.tried.values()) > fit.held_out[1] - 1e-4
    again = fit_psf(sky.pixels, sky.x, sky.y, seed())
    np.testing.assert_allclose(fit.psf.coeff, again.psf.coeff, atol=1e-12)


def test_stars_that_widen_with_their_flux_have_a_term_in_brightness() -> None:
    x, y = grid(24.0, 211, SIZE)
    flux = 10 ** np.random.default_rng(212).uniform(4.0, 5.8, len(x))
    sky = render(x, y, flux, fwhm=FWHM, size=SIZE, seed=213, stretch=1.0 + 0.03 * flux / 6e5)
    known = {"colour": colours(len(x), 214), "brightness": flux / 1e5}
    fit = fit_psf(sky.pixels, x, y, seed(), traits=known)
    assert [term.name for term in fit.psf.further] == ["brightness"]
    off = [fit_fluxes(sky.pixels, psf.stamps(x, y, known)).flux / flux for psf in (fit_psf(sky.pixels, x, y, seed()).psf, fit.psf)]
    bright = flux > 3e5
    bias = [abs(np.mean(ratio[bright]) / np.mean(ratio[~bright & (flux > 5e4)]) - 1.0) for ratio in off]
    assert bias[1] < 0.5 * bias[0]


def test_few_known_colours_make_no_term() -> None:
    sky, colour = coloured(0.03)
    known = np.where(np.arange(len(colour)) < 20, colour, np.nan)
    same = np.full(len(colour), 0.8)
    fit = fit_psf(sky.pixels, sky.x, sky.y, seed(), max_order=0, traits={"colour": known, "brightness": same})
    assert fit.psf.further == () and fit.tried == {}


def test_equations_with_further_terms_are_those_written_out() -> None:
    psf = two_terms()
    rng = np.random.default_rng(221)
    x, y, flux = rng.uniform(12, 68, 9), rng.uniform(12, 68, 9), rng.uniform(3e3, 3e4, 9)
    traits = {"colour": rng.uniform(0.2, 2.0, 9), "brightness": flux / 1e4}
    stamps = psf.stamps(x, y, traits)
    value = model_image(stamps, flux, (80, 80)) + rng.normal(0, 3, (80, 80))
    canvas = Canvas(Pixels(value.astype(np.float32), np.full((80, 80), 9.0, np.float32), 2.0, np.ones((80, 80), bool)))
    canvas.draw(stamps, flux)
    further = psf.terms(x, y, traits)[:, -2:]
    scene = Scene(canvas, psf, stamps, x, y, flux, further, 1e6, 0.0)
    found = normal_equations(scene, np.arange(9), 1)
    assert found.n_term == 5
    plain = replace(psf, order=0, coeff=psf.coeff[:1], further=())
    terms = np.column_stack([map_terms(x, y, (80, 80), 1), further])
    wanted = np.zeros_like(found.matrix)
    for i in range(9):
        one = normal_equations(scene._replace(psf=plain, further=np.zeros((9, 0))), np.array([i]), 0)
        wanted += np.kron(np.outer(terms[i], terms[i]), one.matrix)
    np.testing.assert_allclose(found.matrix, wanted, rtol=1e-9, atol=1e-9 * wanted.max())
    parts = [normal_equations(scene, np.arange(9)[k::2], 1) for k in range(2)]
    np.testing.assert_allclose(total(parts).matrix, found.matrix, rtol=1e-9, atol=1e-9 * wanted.max())
    some, n = found.of_terms([0, 3]), found.n_free
    np.testing.assert_array_equal(some.matrix[n:, :n], found.matrix[3 * n : 4 * n, :n])
    np.testing.assert_array_equal(some.right[n:], found.right[3 * n : 4 * n])


def test_further_terms_have_no_light_of_their_own_and_survive_the_archive() -> None:
    sky, colour = coloured(0.03)
    psf = fit_psf(sky.pixels, sky.x, sky.y, seed(), max_order=1, traits={"colour": colour}).psf
    weight = axis_integrals(psf.knots)
    integral = np.einsum("kba,b,a->k", psf.coeff, weight, weight)
    np.testing.assert_allclose(integral, [1.0, 0.0, 0.0, 0.0], atol=1e-12)
    assert psf.coeff.shape[0] == len(exponents(1)) + 1
    again = PsfMap.from_row(psf.to_row())
    assert again.further == psf.further
    np.testing.assert_allclose(
        again.stamps(sky.x, sky.y, {"colour": colour}).share, psf.stamps(sky.x, sky.y, {"colour": colour}).share, atol=1e-7
    )
    old = replace(psf, coeff=psf.coeff[:3], further=()).to_row()
    del old["further"]
    assert PsfMap.from_row(old).further == ()


def test_a_star_of_unknown_colour_is_the_mean_star_and_extremes_are_held() -> None:
    psf = two_terms()
    x, y = np.full(6, 30.2), np.full(6, 40.7)
    colour = np.array([np.nan, 1.0, 1.5, 3.0, 9.0, -5.0])
    share = psf.stamps(x, y, {"colour": colour}).share
    mean = psf.stamps(x[:1], y[:1]).share[0]
    np.testing.assert_array_equal(share[0], mean)
    np.testing.assert_array_equal(share[1], mean)
    np.testing.assert_allclose(share[2] - mean, (share[3] - mean) / 4.0, atol=1e-15)
    np.testing.assert_array_equal(share[4], share[3])
    assert share[5].max() > mean.max() > share[3].max()
    models = [gridded_model(psf, grid=2, traits=known) for known in ({}, {"colour": 3.0})]
    assert float(models[1](0.0, 0.0)) < 0.99 * float(models[0](0.0, 0.0))


def test_apertures_and_forced_fluxes_take_the_stars_own_profile() -> None:
    psf = two_terms()
    x, y, flux = np.array([20.3, 60.4, 40.0]), np.array([20.6, 22.2, 60.0]), np.array([2e4, 1e4, 5e3])
    traits = {"colour": np.array([3.0, 0.2, np.nan]), "brightness": np.array([2.0, np.nan, 8.0])}
    stamps = psf.stamps(x, y, traits)
    value = model_image(stamps, flux, (80, 80)).astype(np.float32)
    pixels = Pixels(value, np.full((80, 80), 25.0, np.float32), 1.0, np.ones((80, 80), bool))
    mask = np.zeros((80, 80), np.uint8)
    fluxes = fit_fluxes(pixels, stamps, rounds=4)
    light = psf_apertures(pixels, mask, psf, stamps, fluxes, x, y, [2.0, 4.0, 8.0], traits=traits)
    np.testing.assert_allclose(light.flux, flux[:, None] * light.enclosed, rtol=1e-4)
    assert light.enclosed[0, 0] < 0.97 * light.enclosed[1, 0]
    # the first star's place taken, and one of its own beside it
    options = {"radius": 1.0, "aperture": 4.0}
    at = (np.array([20.3, 5.0]), np.array([20.6, 70.0]), np.array([0, -1]))
    right, wrong = (forced_fluxes(pixels, mask, psf, x, y, *at, **options, traits=known) for known in (traits, None))
    assert right.flux[0] == pytest.approx(flux[0], rel=1e-4) and abs(right.flux[1]) < 1.0
    assert abs(wrong.flux[0] / flux[0] - 1.0) > 0.005


@pytest.mark.parametrize("n_side", [6, 12])
def test_the_maps_errors_are_the_spread_of_repeated_fits(n_side: int) -> None:
    """Of a profile that the map can have exactly, so that only noise is in the way."""
    size, rng = 30 * n_side, np.random.default_rng(231)
    truth = seed(size)
    places = (np.stack(np.meshgrid(*[np.arange(n_side)] * 2)).reshape(2, -1) + 0.5) * 30.0
    x, y = places + rng.uniform(-0.5, 0.5, places.shape)
    flux = 10 ** rng.uniform(3.8, 5.0, len(x))
    light = model_image(truth.stamps(x, y), flux, (size, size))
    variance, good = np.full(light.shape, 225.0, np.float32), np.ones(light.shape, bool)
    maps, told = [], []
    for _ in range(30):
        noisy = light + rng.normal(size=light.shape) * np.sqrt(225.0 + np.maximum(light, 0.0))
        fit = fit_psf(Pixels(noisy.astype(np.float32), variance, 1.0, good), x, y, truth, max_order=0)
        maps.append(fit.psf.response(0.0, 0.0, np.arange(-11.0, 12.0), np.arange(-11.0, 12.0)))
        told.append(fit.errors)
    profile = np.mean(maps, axis=0)
    bright = np.quantile(flux, 0.9)
    spread = [
        np.std([np.sum(weight * profile * image) / np.sum(weight * profile**2) for image in maps], ddof=1)
        for weight in (1.0 / (225.0 + np.maximum(profile, 0.0) * bright), np.ones_like(profile))
    ]
    said = np.sqrt(np.mean(np.square(told), axis=0))
    # thirty fits tell a spread to 13 %
    assert said[0] / spread[0] == pytest.approx(1.0, abs=0.35)
    assert said[2] / spread[1] == pytest.approx(1.0, abs=0.35)
    assert said[4] / np.std([image[11, 11] / profile[11, 11] for image in maps], ddof=1) == pytest.approx(1.0, abs=0.35)
    np.testing.assert_allclose(said[[1, 3]], said[[0, 2]], rtol=1e-6)  # the same everywhere, for order 0


def test_the_maps_errors_fall_with_the_root_of_the_number_of_stars() -> None:
    errors = []
    for n_side in (8, 16):
        size, rng = 26 * n_side, np.random.default_rng(241)
        places = (np.stack(np.meshgrid(*[np.arange(n_side)] * 2)).reshape(2, -1) + 0.5) * 26.0
        x, y = places + rng.uniform(-0.5, 0.5, places.shape)
        light = model_image(seed(size).stamps(x, y), np.full(len(x), 2e4), (size, size))
        noisy = light + rng.normal(size=light.shape) * np.sqrt(225.0 + np.maximum(light, 0.0))
        pixels = Pixels(noisy.astype(np.float32), np.full(light.shape, 225.0, np.float32), 1.0, np.ones(light.shape, bool))
        errors.append(fit_psf(pixels, x, y, seed(size), max_order=0).errors)
    assert errors[0].flux / errors[1].flux == pytest.approx(2.0, rel=0.25)
    assert errors[0].peak / errors[1].peak == pytest.approx(2.0, rel=0.25)


def test_as_many_terms_as_stars_leave_the_errors_unknown() -> None:
    x, y = grid(24.0, 251, 120)
    sky = render(x[:4], y[:4], np.full(4, 1e5), fwhm=FWHM, size=120, seed=252)
    fit = fit_psf(sky.pixels, x[:4], y[:4], seed(120), max_order=0)
    assert np.all(np.isfinite(fit.errors)) and fit.errors.flux_most >= fit.errors.flux > 0
