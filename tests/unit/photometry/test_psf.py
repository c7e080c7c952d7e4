"""The profile map and the fluxes fitted with it: against analytic truth, scipy, photutils, and stars rendered by GalSim."""

from __future__ import annotations

from dataclasses import replace

import galsim
import numpy as np
import pytest
import rendered_stars
from astropy.table import Table
from rendered_stars import SIZE, counted, fitted, grid, normalised, render
from scipy.interpolate import BSpline

from db.errors import AlgorithmFailed
from reduction.astrometry.kernels.wcs import exponents
from reduction.photometry.kernels.psf_fit import fit_psf
from reduction.photometry.kernels.psf_flux import Pixels, fit_fluxes, model_image
from reduction.photometry.kernels.psf_map import PsfMap, Stamps, unit_integral
from reduction.photometry.kernels.psf_seed import fitted_seed, seed_map
from reduction.photometry.kernels.splines import axis_integrals, axis_knots, spline_values
from reduction.photometry.psf_model import gridded_model


@pytest.mark.parametrize("width", [0.0, 0.5, 1.0])
def test_splines_are_those_of_scipy(width: float) -> None:
    knots = axis_knots(6.5, 0.55, 2.2, 1.5)
    values, m = np.zeros(len(knots) - 4), len(knots) - 4
    for t in np.random.default_rng(41).uniform(-7.5, 7.5, 200):
        first, last = spline_values(knots, t, width, values)
        found = np.zeros(m)
        found[first:last] = values[first:last]
        low, high = np.clip([t - width / 2, t + width / 2], -6.5, 6.5)
        for j in range(m):
            spline = BSpline(knots, np.eye(m)[j], 3)
            wanted = float(spline.integrate(low, high)) if width and high > low else float(spline(t)) * (not width and -6.5 <= t < 6.5)
            assert found[j] == pytest.approx(wanted, abs=1e-12)
    wanted_integrals = [float(BSpline.basis_element(knots[j : j + 5]).integrate(knots[j], knots[j + 4])) for j in range(m)]
    np.testing.assert_allclose(axis_integrals(knots), wanted_integrals, rtol=1e-12)


@pytest.mark.parametrize("pixel", [0.0, 0.5, 1.0])
def test_a_map_has_unit_integral_wherever_it_is_asked(pixel: float) -> None:
    x, y = grid(20.0, 42)
    sky = render(x, y, np.full(len(x), 1e5), fwhm=2.5)
    psf = fitted(sky, 2.5, pixel=pixel).psf
    assert psf.order >= 1
    places = np.random.default_rng(43).uniform(0, SIZE, (2, 50))
    sums = psf.stamps(*places).share.sum(axis=(1, 2))
    # pixels beyond the radius, and the steps of sampling where a PRF is not integrated, are all that is missing
    np.testing.assert_allclose(sums, pixel**2 if pixel else 1.0, rtol=5e-3)
    again = PsfMap.from_row(psf.to_row())
    np.testing.assert_allclose(again.stamps(*places).share, psf.stamps(*places).share, atol=1e-6)


def test_fluxes_without_noise_are_exact_however_close_the_stars() -> None:
    psf = seed_map((60, 60), 3.0, 12.0, pixel=1.0)
    rng = np.random.default_rng(44)
    x, y, flux = rng.uniform(-5, 65, 80), rng.uniform(-5, 65, 80), rng.uniform(-100, 5000, 80)
    stamps = psf.stamps(x, y)
    value = model_image(stamps, flux, (60, 60))
    found = fit_fluxes(Pixels(value.astype(np.float32), np.full((60, 60), 9.0, np.float32), 2.0, np.ones((60, 60), bool)), stamps, rounds=6)
    assert np.nanmax(np.abs(found.flux - flux) / found.error) < 0.02
    # the equations' own inverse, written out
    design = np.array([model_image(Stamps(*(part[i : i + 1] for part in stamps)), np.ones(1), (60, 60)).ravel() for i in range(80)])
    weight = 1.0 / (9.0 + np.maximum(flux @ design, 0.0) / 2.0)
    inverse = np.linalg.inv((design * weight) @ design.T)
    np.testing.assert_allclose(found.error, np.sqrt(np.diag(inverse)), rtol=0.02)
    np.testing.assert_allclose(found.background_weight, inverse @ (design @ weight), rtol=0.1, atol=0.2 * found.background_weight.std())


def test_masked_pixels_do_not_count_and_a_star_without_any_has_no_flux() -> None:
    psf = seed_map((60, 60), 3.0, 9.0)
    x, y = np.array([20.3, 45.0]), np.array([20.6, 45.0])
    value = model_image(psf.stamps(x, y), np.array([1000.0, 500.0]), (60, 60)).astype(np.float32)
    good = np.ones((60, 60), dtype=bool)
    good[20, 20:22] = False
    good[33:57, 33:57] = False
    value[~good] = 1e6
    found = fit_fluxes(Pixels(value, np.full((60, 60), 4.0, np.float32), 1.0, good), psf.stamps(x, y))
    assert found.flux[0] == pytest.approx(1000.0, rel=1e-5)
    assert 0.3 < found.coverage[0] < 0.95 and found.coverage[1] == 0.0
    assert np.isnan(found.flux[1]) and np.isnan(found.error[1])


@pytest.mark.parametrize(("fwhm", "pixel"), [(1.5, 1.0), (2.5, 1.0), (2.5, 0.0), (4.0, 1.0)])
def test_isolated_stars_over_eight_magnitudes(fwhm: float, pixel: float) -> None:
    """As good as a fit with the true profile, the same for bright and faint, and with true errors."""
    size = 640 if fwhm < 3 else 900
    x, y = grid(16 * fwhm, 101, size)
    flux = 10 ** np.random.default_rng(102).uniform(2.6, 5.8, len(x))
    sky = render(x, y, flux, fwhm=fwhm, size=size, seed=103)
    found, best = counted(sky, fitted(sky, fwhm, pixel=pixel)), fit_fluxes(sky.pixels, sky.stamps, rounds=4)
    assert 0.95 < np.median(found.chi2[flux < 300 * best.error]) < 1.05
    off = normalised(found, sky) - 1.0
    relative = found.error / flux
    for low, high in ((3.0, 30.0), (30.0, 1000.0)):
        some = (flux > low * best.error) & (flux < high * best.error)
        weight = 1.0 / relative[some] ** 2
        bias, known = np.sum(weight * off[some]) / np.sum(weight), 1.0 / np.sqrt(np.sum(weight))
        assert abs(bias) < 0.001 + 3.0 * known
        assert np.std(off[some] / relative[some]) == pytest.approx(1.0, abs=0.05 + 2.5 / np.sqrt(2 * some.sum()))
        truth = np.std(best.flux[some] / flux[some] / relative[some])
        assert np.std(off[some] / relative[some]) < 1.06 * truth


def test_pairs_come_apart() -> None:
    """Two equal stars 1.5 FWHM apart, among isolated ones that set the scale."""
    size, fwhm = 640, 2.5
    x, y = grid(40.0, 111, size)
    rng = np.random.default_rng(112)
    angle, double = rng.uniform(0, 2 * np.pi, len(x)), np.arange(len(x)) % 2 == 0
    flux = 10 ** rng.uniform(4.0, 5.5, len(x))
    partner = np.stack([x + 1.5 * fwhm * np.cos(angle), y + 1.5 * fwhm * np.sin(angle)])[:, double]
    sky = render(np.append(x, partner[0]), np.append(y, partner[1]), np.append(flux, flux[double]), fwhm=fwhm, size=size, seed=113)
    off = counted(sky, fitted(sky, fwhm)).flux / sky.flux
    single, paired = off[: len(x)][~double], np.append(off[: len(x)][double], off[len(x) :])
    assert np.median(paired) / np.median(single) == pytest.approx(1.0, abs=0.005)


def test_a_crowded_field() -> None:
    """A star on every 40 square FWHM."""
    size, fwhm = 400, 2.5
    rng = np.random.default_rng(121)
    n = int(size**2 / (40 * fwhm**2))
    x, y = rng.uniform(-5, size + 5, (2, n))
    flux = 10 ** np.clip(2.8 + rng.exponential(0.6, n), 2.8, 5.3)
    sky = render(x, y, flux, fwhm=fwhm, size=size, seed=122)
    best, ours = fit_fluxes(sky.pixels, sky.stamps, rounds=4), counted(sky, fitted(sky, fwhm))
    faint = (flux < 100 * best.error) & (best.coverage > 0.9) & (flux > 5 * best.error)
    scatter = [np.median(np.abs(found.flux - flux * scale)[faint] / best.error[faint]) for found, scale in ((ours, 0.99), (best, 1.0))]
    assert scatter[0] < 1.15 * scatter[1]


@pytest.mark.parametrize(("kind", "fwhm", "radius"), [("ring", 15.0, 22.0), ("trail", 2.2, 11.0)])
def test_defocused_and_trailed_stars(kind: str, fwhm: float, radius: float) -> None:
    size = 560
    x, y = grid(70.0, 131, size)
    flux = 10 ** np.random.default_rng(132).uniform(4.0, 5.5, len(x))
    sky = render(x, y, flux, fwhm=fwhm, kind=kind, size=size, seed=133, cut=80)
    fit = fit_psf(sky.pixels, x, y, seed_map((size, size), fwhm if kind == "ring" else 4.0, radius, pixel=1.0))
    assert 0.9 < fit.chi2 < 1.15
    found = counted(sky, fit)
    off = found.flux / flux
    assert np.std(off / np.median(off) * flux / found.error - flux / found.error) < 1.3


def test_what_is_no_star_has_no_say_in_the_map() -> None:
    x, y = grid(30.0, 141, 420)
    flux = np.full(len(x), 5e4)
    sky = render(x, y, flux, fwhm=2.5, size=420, seed=142)
    spoiled = sky.pixels.value.copy()
    rows, columns = np.mgrid[:420, :420]
    for i in range(0, len(x), 9):  # galaxies
        spoiled += (800.0 * np.exp(-np.hypot(columns - x[i], rows - y[i]) / 4.0)).astype(np.float32)
    pixels = Pixels(spoiled, sky.pixels.dark, 1.0, sky.pixels.good)
    fit = fit_psf(pixels, x, y, seed_map((420, 420), 2.9, 11.0, pixel=1.0))
    galaxy = np.arange(len(x)) % 9 == 0
    assert fit.used[galaxy].mean() < 0.2 < 0.9 < fit.used[~galaxy].mean()


def test_a_profile_that_changes_with_the_distance_from_the_axis_is_found() -> None:
    """Slopes in x and y gain nothing, so that orders must not be tried only as long as the next one gains."""
    size = 500
    x, y = grid(30.0, 145, size)
    seed = seed_map((size, size), 2.6, 10.0, pixel=1.0)
    base = seed.coeff[0]
    broader = 0.25 * (np.roll(base, 1, 0) + np.roll(base, -1, 0) + np.roll(base, 1, 1) + np.roll(base, -1, 1)) - base
    u2, v2 = (exponents(2).index(powers) for powers in ((2, 0), (0, 2)))
    coeff = np.zeros((6, *base.shape))
    coeff[0], coeff[u2], coeff[v2] = base, 0.5 * broader * seed.active, 0.5 * broader * seed.active
    truth = replace(seed, order=2, coeff=unit_integral(coeff, seed.knots))
    flux = np.full(len(x), 3e4)
    value = model_image(truth.stamps(x, y), flux, (size, size))
    value += np.random.default_rng(146).standard_normal(value.shape) * np.sqrt(100.0 + value)
    pixels = Pixels(value.astype(np.float32), np.full(value.shape, 100.0, np.float32), 1.0, np.ones(value.shape, bool))
    fit = fit_psf(pixels, x, y, seed_map((size, size), 2.9, 11.0, pixel=1.0))
    assert fit.psf.order >= 2
    assert fit.held_out[2] < fit.held_out[0]
    found = fit_fluxes(pixels, fit.psf.stamps(x, y)).flux / flux
    corner = np.hypot(x - size / 2, y - size / 2) > 0.5 * size
    assert np.mean(found[corner]) / np.mean(found[~corner]) == pytest.approx(1.0, abs=0.003)


def test_too_few_stars_are_said() -> None:
    x, y = np.array([50.0, 150.0]), np.array([60.0, 160.0])
    sky = render(x, y, np.array([1e5, 1e5]), fwhm=2.5)
    with pytest.raises(AlgorithmFailed, match="2 stars show the profile, at least 4") as met:
        fitted(sky, 2.5)
    assert met.value.code == "psf.few_stars"


def test_a_frame_without_a_source_or_a_good_pixel_has_too_few() -> None:
    nothing, seed = np.zeros(0), seed_map((60, 60), 3.0, 9.0)
    bare = Pixels(np.zeros((60, 60), np.float32), np.ones((60, 60), np.float32), 1.0, np.ones((60, 60), bool))
    masked = Pixels(bare.value, bare.dark, 1.0, np.zeros((60, 60), bool))
    with pytest.raises(AlgorithmFailed, match="0 stars"):
        fit_psf(bare, nothing, nothing, seed)
    with pytest.raises(AlgorithmFailed, match="0 stars"):
        fit_psf(masked, np.array([30.0, 31.0]), np.array([30.0, 31.0]), seed)


def test_photutils_measures_the_same_with_the_map() -> None:
    """Single stars, by another's fit: positions held, all pixels alike."""
    psfphotometry = pytest.importorskip("photutils.psf")
    x, y = grid(40.0, 151)
    flux = np.full(len(x), 3e4)
    sky = render(x, y, flux, fwhm=2.5, seed=152)
    fit = fitted(sky, 2.5)
    model = gridded_model(fit.psf, grid=6)
    model.x_0.fixed = model.y_0.fixed = True
    theirs = psfphotometry.PSFPhotometry(model, (21, 21), aperture_radius=4.0)(
        sky.pixels.value.astype(float), error=np.full(sky.pixels.value.shape, 15.0), init_params=Table({"x": x, "y": y})
    )
    flat = Pixels(sky.pixels.value, np.full(sky.pixels.dark.shape, 225.0, np.float32), 1e9, sky.pixels.good)
    ours = fit_fluxes(flat, fit.psf.stamps(x, y))
    np.testing.assert_allclose(theirs["flux_fit"], ours.flux, rtol=3e-3)


@pytest.mark.parametrize(("fwhm", "worst", "before"), [(0.8, 0.04, 0.10), (1.0, 0.025, 0.04), (1.4, 0.012, 0.0)])
def test_light_between_the_pixels_of_one_colour_is_counted(
    fwhm: float, worst: float, before: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No star alone says what falls beside its pixels: a map that begins too wide keeps what it began with."""
    monkeypatch.setattr(rendered_stars, "profile", lambda *_: galsim.Moffat(beta=2.5, fwhm=fwhm, trunc=8.0 * fwhm).shear(g1=-0.15))
    x, y = grid(17.0, 171)
    sky = render(x, y, 10 ** np.random.default_rng(172).uniform(4.2, 5.5, len(x)), fwhm=fwhm, sky=50.0, seed=173, sensitive=0.5)
    width = max(1.3 * fwhm, 1.2)  # as detection finds it
    scatter = []
    for seed in (
        seed_map((SIZE, SIZE), width, 4 * width, pixel=0.5),
        fitted_seed(sky.pixels, x, y, (SIZE, SIZE), width, 4 * width, 0.5),
    ):
        ratio = fit_fluxes(sky.pixels, fit_psf(sky.pixels, x, y, seed).psf.stamps(x, y)).flux / sky.flux
        scatter.append(1.4826 * np.median(np.abs(ratio / np.median(ratio) - 1.0)))
    assert scatter[1] < worst and scatter[0] > before, scatter


def test_few_bright_stars_leave_the_seed_as_it_is() -> None:
    x, y = grid(80.0, 174)
    sky = render(x, y, np.full(len(x), 300.0), fwhm=1.5, seed=175, sensitive=0.5)
    plain = seed_map((SIZE, SIZE), 1.5, 6.0, pixel=0.5)
    np.testing.assert_array_equal(fitted_seed(sky.pixels, x, y, (SIZE, SIZE), 1.5, 6.0, 0.5).coeff, plain.coeff)
