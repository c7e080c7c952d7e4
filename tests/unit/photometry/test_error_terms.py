"""Errors of fluxes, one kind of noise at a time: frames in integers go through the kernels of the steps again and again.

The spread of each star's fluxes over the error said is 1 within 0.05, the bar, beside what so many frames tell of it: about the star's
own mean, and about the truth, which a weight that follows the noise of its own pixel would miss.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from error_terms import FWHM, SHAPE, Camera, Field, Measured, field, master, measured, pulls, raw_frame, repeated
from numpy.random import Generator

from reduction.calibration.kernels.calibration import Plane
from reduction.photometry.kernels.object_mask import object_mask
from reduction.photometry.kernels.psf_fit import fit_psf
from reduction.photometry.kernels.psf_flux import Pixels, fit_fluxes, model_image

BAR = 0.05
N_FRAMES = 40
#: A gain at which photons make no noise, and integers are all there is.
NO_PHOTONS = 1e6

Frame = Callable[[Generator], Measured]


@pytest.fixture(scope="module")
def stars() -> Field:
    """Over five magnitudes, many with neighbours in their apertures."""
    return field(1.0, 100.0)


def plainly(stars: Field, camera: Camera) -> Frame:
    """Frames without masters."""
    return lambda rng: measured(stars, camera, raw_frame(rng, stars, camera))


def photons_of_stars(stars: Field) -> tuple[Field, Frame]:
    some = stars.of_flux(1500.0 * stars.flux)
    return some, plainly(some, Camera(gain=1.0, read_noise=0.1, sky=5.0))


def photons_of_the_sky(stars: Field) -> tuple[Field, Frame]:
    some = stars.of_flux(60.0 * stars.flux)
    return some, plainly(some, Camera(gain=1.0, read_noise=0.1, sky=2000.0))


def photons_of_a_dim_sky(stars: Field) -> tuple[Field, Frame]:
    some = stars.of_flux(15.0 * stars.flux)
    return some, plainly(some, Camera(gain=1.0, read_noise=0.1, sky=50.0))


def read_noise(stars: Field) -> tuple[Field, Frame]:
    some = stars.of_flux(30.0 * stars.flux)
    return some, plainly(some, Camera(gain=NO_PHOTONS, read_noise=10.0 * NO_PHOTONS, sky=100.0))


def quantisation(stars: Field) -> tuple[Field, Frame]:
    """Pixels whose levels are anywhere between two integers, as those of a detector are; the bias knows them."""
    some, camera = stars.of_flux(2.0 * stars.flux), Camera(gain=NO_PHOTONS, read_noise=0.3 * NO_PHOTONS, sky=100.0)

    def make(rng: Generator) -> Measured:
        level = rng.uniform(0.0, 9.0, SHAPE)
        return measured(some, camera, raw_frame(rng, some, camera, added=level), bias=master(rng, camera.zero + level, 0.0))

    return some, make


def mistaken_zero(said: float, sky: float) -> Callable[[Field], tuple[Field, Frame]]:
    def case(stars: Field) -> tuple[Field, Frame]:
        some = stars.of_flux(50.0 * stars.flux)
        return some, plainly(some, Camera(gain=2.0, read_noise=4.0, sky=sky, said_zero=said))

    return case


def flat(stars: Field) -> tuple[Field, Frame]:
    """One raw frame, and a new flat each time."""
    some, camera = stars.of_flux(8000.0 * stars.flux), Camera(gain=NO_PHOTONS, read_noise=0.0, sky=500.0)
    raw = raw_frame(np.random.default_rng(1), some, camera)
    return some, lambda rng: measured(some, camera, raw, flat=master(rng, 1.0, 0.003))


def bias(stars: Field) -> tuple[Field, Frame]:
    some, camera = stars.of_flux(30.0 * stars.flux), Camera(gain=NO_PHOTONS, read_noise=0.0, sky=50.0)
    raw = raw_frame(np.random.default_rng(1), some, camera)
    return some, lambda rng: measured(some, camera, raw, bias=master(rng, camera.zero, 3.0))


def bias_and_scaled_dark(stars: Field) -> tuple[Field, Frame]:
    """The dark had the same bias taken off, so that its error is in both."""
    some, camera = stars.of_flux(100.0 * stars.flux), Camera(gain=NO_PHOTONS, read_noise=0.0, sky=50.0, dark=20.0)
    raw = raw_frame(np.random.default_rng(1), some, camera)

    def make(rng: Generator) -> Measured:
        zero, dark = master(rng, camera.zero, 3.0), master(rng, 10.0, 4.0)
        less = Plane(dark.value - (zero.value - np.float32(camera.zero)), dark.variance, dark.mask)
        return measured(some, camera, raw, bias=zero, dark=less, dark_scale=2.0)

    return some, make


def hot_pixels(stars: Field) -> tuple[Field, Frame]:
    """A tenth of the pixels, corrected by a pattern that is known badly."""
    some, camera = stars.of_flux(30.0 * stars.flux), Camera(gain=NO_PHOTONS, read_noise=2.0 * NO_PHOTONS, sky=100.0)

    def make(rng: Generator) -> Measured:
        hot = rng.random(SHAPE) < 0.1
        found = master(rng, 30.0, 12.0)
        pattern = Plane(np.where(hot, found.value, np.float32(0)), np.where(hot, found.variance, np.float32(0)), found.mask)
        return measured(some, camera, raw_frame(rng, some, camera, added=30.0 * hot), pattern=pattern)

    return some, make


def everything(stars: Field) -> tuple[Field, Frame]:
    some, camera = stars.of_flux(120.0 * stars.flux), Camera(gain=1.5, read_noise=6.0, sky=80.0, dark=10.0)

    def make(rng: Generator) -> Measured:
        level, response = rng.uniform(0.0, 9.0, SHAPE), 1.0 + rng.normal(0.0, 0.02, SHAPE)
        raw = raw_frame(rng, some, camera, response=response, added=level)
        masters = {
            "bias": master(rng, camera.zero + level, 1.0),
            "dark": master(rng, camera.dark, 1.5),
            "flat": master(rng, response, 0.003),
        }
        own_bias = masters["bias"].value - (camera.zero + level).astype(np.float32)
        masters["dark"] = Plane(masters["dark"].value - own_bias, masters["dark"].variance, masters["dark"].mask)
        return measured(some, camera, raw, **masters)

    return some, make


TERMS = {
    "photons of stars": photons_of_stars,
    "photons of the sky": photons_of_the_sky,
    "photons of a dim sky": photons_of_a_dim_sky,
    "read noise": read_noise,
    "quantisation": quantisation,
    "zero level 50 too low, dim sky": mistaken_zero(250.0, 30.0),
    "zero level 50 too high, dim sky": mistaken_zero(350.0, 30.0),
    "zero level 50 too high": mistaken_zero(350.0, 200.0),
    "flat": flat,
    "bias": bias,
    "bias and scaled dark": bias_and_scaled_dark,
    "hot pixels": hot_pixels,
    "all together": everything,
}


@pytest.mark.parametrize("term", TERMS)
def test_the_spread_of_fluxes_is_the_error_said(term: str, stars: Field) -> None:
    some, make = TERMS[term](stars)
    found = pulls(some, repeated(make, N_FRAMES, 5))
    for name, root, error in (("own mean", found.own, found.own_error), ("truth", found.truth, found.truth_error)):
        # so many frames tell it well enough for the bar to mean something
        assert np.all(error < 0.035), (term, name, error)
        assert np.all(np.abs(root - 1.0) < BAR + error), f"{term}, about the {name}:\n{root.round(3)}\n{error.round(3)}"


def test_a_constant_star_has_a_chi_square_of_one_whatever_its_magnitude(stars: Field) -> None:
    frames = repeated(everything(stars)[1], 2 * N_FRAMES, 6)
    flux, error = np.stack([one.flux for one in frames]), np.stack([one.error for one in frames])
    mean = np.average(flux, axis=0, weights=error**-2)
    chi2 = np.square((flux - mean) / error).sum(axis=0) / (len(frames) - 1)
    for per_bin in (part.mean(axis=0) for part in np.array_split(chi2, 5)):
        np.testing.assert_allclose(per_bin, 1.0, atol=0.1 + np.sqrt(10.0 / (len(frames) * len(chi2))))


def test_a_mistaken_zero_level_changes_no_error(stars: Field) -> None:
    some = stars.of_flux(50.0 * stars.flux)
    raw = raw_frame(np.random.default_rng(3), some, Camera(gain=2.0, read_noise=4.0, sky=30.0))
    said = [measured(some, Camera(gain=2.0, read_noise=4.0, sky=30.0, said_zero=zero), raw) for zero in (250.0, 300.0, 350.0)]
    for other in (said[0], said[2]):
        np.testing.assert_allclose(other.error, said[1].error, rtol=BAR)
        assert np.median(np.abs(other.error / said[1].error - 1.0)) < 0.005
        assert np.max(np.abs(other.flux - said[1].flux) / said[1].error) < 0.3


def test_the_error_of_the_background_is_common_to_an_aperture() -> None:
    """Few pixels show the sky, none of them in an aperture, and an aperture is large against its star."""
    far, camera = field(0.01, 0.02, n=14, apart=42.0, seed=3), Camera(gain=NO_PHOTONS, read_noise=10.0 * NO_PHOTONS, sky=100.0)
    hidden = np.ones(SHAPE, bool)
    hidden[::4, ::4] = False
    hidden |= object_mask(SHAPE, far.x, far.y, 13.0)
    options = {"hidden": hidden, "box": 16, "smooth": 24.0, "radii": FWHM * np.array([1.0, 2.4, 4.8])}
    frames = repeated(lambda rng: measured(far, camera, raw_frame(rng, far, camera), **options), 150, 7)
    level, error = (np.stack(part) for part in zip(*(one.sky.at(far.x, far.y) for one in frames), strict=True))
    flux, variance, area = (np.stack([getattr(one.apertures, name) for one in frames]) for name in ("flux", "variance", "area"))
    assert np.median((area[..., 2] * error) ** 2 / variance[..., 2]) > 1.5  # most of the error is the background's
    ring, its_area = flux[..., 2] - flux[..., 1], area[..., 2] - area[..., 1]
    ring_error = np.sqrt(variance[..., 2] - variance[..., 1] + (its_area * error) ** 2)
    whole = np.sqrt(variance[..., 2] + (area[..., 2] * error) ** 2)
    pull = np.stack([(level - camera.sky) / error, flux[..., 2] / whole, ring / ring_error], axis=2)
    square = np.square(pull).mean(axis=1)
    root = np.sqrt(square.mean(axis=0))
    uncertain = square.std(axis=0, ddof=1) / np.sqrt(len(square)) / (2.0 * root)
    assert np.all(uncertain < 0.05), uncertain
    assert np.all(np.abs(root - 1.0) < BAR + uncertain), (root, uncertain)
    # Were it of each pixel alone, the aperture would hold much more than is said.
    alone = np.sqrt(variance[..., 2] + area[..., 2] * error**2)
    assert np.sqrt(np.mean(np.square(flux[..., 2] / alone))) > 1.4


def test_the_error_of_the_profile_is_the_spread_of_fluxes_fitted_with_maps_of_few_stars() -> None:
    """One map a frame, so that one flux error a frame is all there is: what stars without noise have in common.

    Stars so bright that each frame chooses the same penalty: what else the choice adds is not in the error (decision 0029).
    """
    few, camera = field(1e5, 5e5, n=24, apart=24.0, seed=5), Camera(gain=1.0, read_noise=5.0, sky=100.0)
    n, fluxes = 60, (float(np.quantile(few.flux, 0.9)), 1.0)
    light = [model_image(few.stamps, np.full(24, flux), SHAPE).astype(np.float32) for flux in fluxes]
    dark, good = np.full(SHAPE, camera.sky + 25.0, np.float32), np.ones(SHAPE, bool)
    shift, said = np.empty((n, 2)), np.empty((n, 2))
    for k, rng in enumerate(np.random.default_rng(9).spawn(n)):
        fit = fit_psf(measured(few, camera, raw_frame(rng, few, camera)).pixels, few.x, few.y, few.psf, max_order=0)
        stamps = fit.psf.stamps(few.x, few.y)
        found = [fit_fluxes(Pixels(clean, dark, camera.gain, good), stamps).flux for clean in light]
        shift[k] = [np.mean(flux) / truth - 1.0 for flux, truth in zip(found, fluxes, strict=True)]
        said[k] = fit.errors.flux, fit.errors.faint_flux
    pull = np.std(shift, axis=0, ddof=1) / np.sqrt(np.mean(said**2, axis=0))
    np.testing.assert_allclose(pull, 1.0, atol=BAR + 1.0 / np.sqrt(2.0 * (n - 1)))
