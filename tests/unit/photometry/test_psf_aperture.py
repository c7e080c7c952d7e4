"""Apertures that know the profile: against photutils, and against the truth of frames that GalSim renders."""

from __future__ import annotations

import numpy as np
import pytest
from photutils.aperture import CircularAperture
from rendered_stars import SIZE, Sky, fitted, grid, render

from db.flags import Flag, Mask
from reduction.kernels.arrays import FloatArray
from reduction.photometry.kernels.growth import aperture_corrections
from reduction.photometry.kernels.psf_aperture import PsfApertures, psf_apertures
from reduction.photometry.kernels.psf_fit import PsfFit
from reduction.photometry.kernels.psf_flux import Fluxes, Pixels, fit_fluxes, model_image
from reduction.photometry.kernels.psf_map import map_terms
from reduction.photometry.kernels.psf_seed import seed_map


def measured(
    sky: Sky, fit: PsfFit, radii: FloatArray, mask: np.ndarray | None = None, *, split: bool = True
) -> tuple[PsfApertures, Fluxes]:
    """Apertures and the fluxes that they lean on."""
    mask = np.zeros(sky.pixels.value.shape, np.uint8) if mask is None else mask
    pixels = Pixels(sky.pixels.value, sky.pixels.dark, sky.pixels.gain, mask == 0)
    stamps = fit.psf.stamps(sky.x, sky.y)
    fluxes = fit_fluxes(pixels, stamps)
    return psf_apertures(pixels, mask, fit.psf, stamps, fluxes, sky.x, sky.y, radii, split=split), fluxes


def about_a_smooth_map(ratio: FloatArray, sky: Sky) -> FloatArray:
    """Flux over truth in each aperture, less what varies smoothly over the frame with the profile: that is the magnitude fit's to mend."""
    terms = map_terms(sky.x, sky.y, (SIZE, SIZE), 3)
    return ratio - terms @ np.linalg.lstsq(terms, ratio, rcond=None)[0]


def test_split_by_area_sums_as_photutils_does() -> None:
    x, y = grid(60.0, 151)
    value = np.random.default_rng(152).normal(50.0, 5.0, (SIZE, SIZE)).astype(np.float32)
    pixels = Pixels(value, np.ones((SIZE, SIZE), np.float32), 1.0, np.ones((SIZE, SIZE), bool))
    psf = seed_map((SIZE, SIZE), 2.5, 10.0)
    stamps = psf.stamps(x, y)
    fluxes = fit_fluxes(pixels, stamps)
    radii = np.array([1.2, 2.5, 4.0, 7.3])
    found = psf_apertures(pixels, np.zeros((SIZE, SIZE), np.uint8), psf, stamps, fluxes, x, y, radii)
    for k, radius in enumerate(radii):
        wanted = CircularAperture(np.stack([x, y], axis=1), radius).do_photometry(value.astype(float), method="exact")[0]
        np.testing.assert_allclose(found.flux[:, k], wanted, rtol=1e-5)
        np.testing.assert_allclose(found.area[:, k], np.pi * radius**2, rtol=1e-9)


@pytest.mark.parametrize(("fwhm", "least", "limit"), [(1.3, 1.4, 0.6), (1.6, 1.0, 0.8), (2.5, 0.7, 0.4), (4.0, 0.7, 0.4)])
def test_no_scatter_with_the_phase_of_the_pixel(fwhm: float, least: float, limit: float) -> None:
    x, y = grid(max(21.0, 8.0 * fwhm), 153)
    sky = render(x, y, np.full(len(x), 3e6), fwhm=fwhm, sky=50.0, seed=154)
    fit = fitted(sky, fwhm)
    radii = fit.psf.fwhm(SIZE / 2, SIZE / 2) * np.array([least, 1.4, 2.0])
    found, _ = measured(sky, fit, radii)
    scatter = about_a_smooth_map(found.flux / sky.flux[:, None], sky).std(axis=0) * np.sqrt(len(x) / (len(x) - 10))
    expected = np.sqrt(np.mean(found.variance, axis=0)) / 3e6
    excess = 1e3 * np.sqrt(np.maximum(scatter**2 - expected**2, 0.0))
    assert np.all(excess < limit), excess
    # what the profile puts inside is what is there
    inside = np.median(found.flux / sky.flux[:, None] / found.enclosed, axis=0)
    np.testing.assert_allclose(inside, inside[-1], atol=2e-3)
    assert 0.96 < inside[-1] < 1.002  # the rest is beyond the map's radius


def test_one_colour_of_a_mosaic_counts_the_light_beside_its_pixels() -> None:
    x, y = grid(21.0, 155)
    sky = render(x, y, np.full(len(x), 1e6), fwhm=2.2, sky=50.0, seed=156, sensitive=0.5)
    fit = fitted(sky, 2.2, pixel=0.5)
    radii = fit.psf.fwhm(SIZE / 2, SIZE / 2) * np.array([1.0, 1.5, 2.5])
    found, _ = measured(sky, fit, radii)
    by_area, _ = measured(sky, fit, radii, split=False)
    excess = {}
    for name, sums in {"profile": found, "area": by_area}.items():
        ratio = sums.flux / np.median(sums.flux, axis=0)
        scatter = about_a_smooth_map(ratio, sky).std(axis=0) * np.sqrt(len(x) / (len(x) - 10))
        expected = np.sqrt(np.mean(sums.variance, axis=0)) / np.median(sums.flux, axis=0)
        excess[name] = 1e3 * np.sqrt(np.maximum(scatter**2 - expected**2, 0.0))
    assert np.all(excess["profile"] < 1.0), excess
    assert excess["area"][0] > 1.2
    # all of the light, not the quarter that the pixels see
    assert np.all(np.abs(np.median(found.flux[:, 2]) / 1e6 / found.enclosed[:, 2] - 1.0) < 0.02)


def test_neighbours_are_subtracted_and_the_errors_say_how_well() -> None:
    rng = np.random.default_rng(157)
    n = int(SIZE**2 / (40 * 2.5**2))  # a star on every 40 square FWHM
    x, y = rng.uniform(5, SIZE - 5, (2, n))
    flux = 10 ** rng.uniform(2.7, 5.0, n)
    sky = render(x, y, flux, fwhm=2.5, seed=158)
    fit = fitted(sky, 2.5)
    radii = fit.psf.fwhm(SIZE / 2, SIZE / 2) * np.array([0.7, 1.0, 1.5])
    found, fluxes = measured(sky, fit, radii)
    gap = np.hypot(x[:, None] - x, y[:, None] - y) + np.where(np.eye(n), 1e9, 0.0)
    apart = gap.min(axis=1) > 2.5
    share = found.share(flux)
    crowded = apart & (share[:, -1] < 0.9)
    assert crowded.sum() > 40
    for k in range(2):
        scaled = (found.flux / found.enclosed)[:, k]
        off = scaled / np.median((scaled / flux)[flux > 3e4]) - flux
        error = (np.sqrt(found.variance) / found.enclosed)[:, k]
        pull = off / np.hypot(error, 0.002 * flux)
        assert abs(np.median(pull[crowded])) < 0.25, k
        assert 0.85 < 1.4826 * np.median(np.abs(pull[crowded])) < 1.25, k
    # no sum is better than the fit
    assert np.all(np.sqrt(found.variance) >= found.enclosed * fluxes.error[:, None] * (1 - 1e-9))
    # what was there before it was subtracted
    others = np.array([model_image(fit.psf.stamps(x, y), np.where(np.arange(n) == i, 0.0, flux), (SIZE, SIZE)) for i in range(3)])
    for i in range(3):
        wanted = CircularAperture((x[i], y[i]), radii[2]).do_photometry(others[i], method="exact")[0][0]
        assert found.foreign[i, 2] == pytest.approx(wanted, abs=0.05 * wanted + 30.0)


def test_bad_pixels_are_filled_and_flagged_and_the_border_cuts_nothing_off() -> None:
    x, y = grid(30.0, 159)
    x[:4], y[:4] = [2.0, SIZE - 2.5, 150.0, 60.0], [75.0, 165.0, 1.5, SIZE - 1.2]
    sky = render(x, y, np.full(len(x), 1e5), fwhm=2.8, seed=160)
    fit = fitted(sky, 2.8)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    at_x, at_y = np.round(x).astype(int), np.round(y).astype(int)
    mask[at_y[4:20] + 1, at_x[4:20]] = int(Mask.COSMIC)
    mask[at_y[20:40], at_x[20:40] - 1] = int(Mask.DEAD)
    mask[at_y[40] - 9 : at_y[40] + 10, at_x[40] - 9 : at_x[40] + 10] = int(Mask.NO_DATA)
    sky.pixels.value[mask != 0] = 4e4
    radii = np.array([2.5, 4.0, 6.0])
    found, _ = measured(sky, fit, radii, mask)
    ratio = found.flux / found.enclosed / 1e5
    whole = ratio[41:]
    np.testing.assert_allclose(np.median(ratio[:40], axis=0), np.median(whole, axis=0), atol=5e-3)
    assert np.all(np.abs(ratio[:40] / np.median(whole, axis=0) - 1.0) < 0.04)
    pull = (ratio[:40] / np.median(whole, axis=0) - 1.0) * 1e5 * found.enclosed[:40] / np.sqrt(found.variance[:40])
    assert np.sqrt(np.mean(pull**2)) < 1.4
    assert np.isnan(found.flux[40]).all()
    assert np.all(found.flags[:4] & int(Flag.EDGE))
    assert np.all(found.flags[4:20] & int(Flag.COSMIC))
    assert np.all(found.flags[20:41] & int(Flag.BAD_PIXEL))
    assert not found.flags[41:].any()
    assert np.all(found.replaced[:40, 2] > 0) and not found.replaced[41:].any()


def test_the_curve_of_growth_is_that_of_the_stars() -> None:
    x, y = grid(30.0, 161)
    sky = render(x, y, np.full(len(x), 1e5), fwhm=2.5, seed=162)
    fit = fitted(sky, 2.5)
    found, fluxes = measured(sky, fit, np.array([2.0, 4.0, 8.0]))
    growth = aperture_corrections(fluxes.flux, fluxes.error, found.flux, found.enclosed, np.ones(len(x), bool))
    assert np.all(np.diff(growth.enclosed) > 0)
    np.testing.assert_allclose(growth.correction, 2.5 * np.log10(growth.enclosed), atol=2e-3)
    assert np.all(growth.n_star == len(x)) and np.all(growth.scatter < 0.03)
    nothing = aperture_corrections(fluxes.flux, fluxes.error, found.flux, found.enclosed, np.zeros(len(x), bool))
    assert np.isnan(nothing.correction).all() and not nothing.n_star.any()


def test_dips_of_crowded_stars_keep_their_depth_in_every_aperture() -> None:
    rng = np.random.default_rng(163)
    n = int(SIZE**2 / (40 * 2.5**2))
    x, y = rng.uniform(8, SIZE - 8, (2, n))
    flux = 10 ** rng.uniform(3.8, 5.3, n)
    gap = np.hypot(x[:, None] - x, y[:, None] - y) + np.where(np.eye(n), 1e9, 0.0)
    crowded = np.flatnonzero((gap.min(axis=1) > 2.5) & (gap.min(axis=1) < 7.0))
    dipped = crowded[::3]
    assert len(dipped) > 20
    lower = flux.copy()
    lower[dipped] *= 0.9
    radii = 2.75 * np.array([0.7, 1.0, 1.6, 2.1])
    before, after = (render(x, y, light, fwhm=2.5, seed=seed) for light, seed in ((flux, 164), (lower, 165)))
    first, second = (measured(sky, fitted(sky, 2.5), radii)[0] for sky in (before, after))
    sums = [
        np.stack([CircularAperture(np.stack([x, y], axis=1), r).do_photometry(sky.pixels.value.astype(float))[0] for r in radii], axis=1)
        for sky in (before, after)
    ]
    weight = 1.0 / (first.variance[dipped] / first.flux[dipped] ** 2 + second.variance[dipped] / second.flux[dipped] ** 2)
    depth = 1.0 - np.average((second.flux / first.flux)[dipped], axis=0, weights=weight)
    plain = 1.0 - np.average((sums[1] / sums[0])[dipped], axis=0, weights=weight)
    np.testing.assert_allclose(depth, 0.1, rtol=0.03)
    assert plain[-1] < 0.085  # the neighbours' constant light hides a part of it
    others = np.setdiff1d(crowded, dipped)
    change = (second.flux - first.flux)[others] / np.sqrt(first.variance + second.variance)[others]
    assert np.all(np.abs(np.median(change, axis=0)) < 0.4)
