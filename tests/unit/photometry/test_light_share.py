"""How much of the light in an aperture is the star's own."""

from __future__ import annotations

import numpy as np
import pytest

from reduction.photometry.kernels.aperture import aperture_photometry
from reduction.photometry.kernels.light_share import light_shares, typical_fluxes
from reduction.photometry.kernels.psf_flux import Pixels, fit_fluxes, model_image
from reduction.photometry.kernels.psf_map import PsfMap
from reduction.photometry.kernels.psf_seed import seed_map

SIZE = (120, 100)
RADII = [2.25, 3.5, 6.0, 9.0]


@pytest.fixture(scope="module", params=[0.0, 1.0], ids=["prf", "psf"])
def psf(request: pytest.FixtureRequest) -> PsfMap:
    return seed_map(SIZE, 3.0, 10.0, pixel=request.param)


def field(psf: PsfMap, n: int = 150, seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    # some stand beyond the border, as their light does on real frames
    x, y = rng.uniform(-6, SIZE[0] + 6, n), rng.uniform(-6, SIZE[1] + 6, n)
    return x, y, 10 ** rng.uniform(2, 5, n)


def direct_sum(psf: PsfMap, flux: float, x: float, y: float, centre: tuple[float, float], radius: float, fine: int = 24) -> float:
    """Light of one star in a circle, every pixel cut into fine x fine parts."""
    image = model_image(psf.stamps(np.array([x]), np.array([y])), np.array([flux]), SIZE[::-1])
    step = (np.arange(fine * max(SIZE)) + 0.5) / fine - 0.5
    inside = (step[None, : fine * SIZE[0]] - centre[0]) ** 2 + (step[: fine * SIZE[1], None] - centre[1]) ** 2 <= radius**2
    weight = inside.reshape(SIZE[1], fine, SIZE[0], fine).mean(axis=(1, 3))
    return float((weight * image).sum())


def test_two_stars_are_summed_directly(psf: PsfMap) -> None:
    x, y, flux = np.array([50.3, 54.1]), np.array([40.2, 42.7]), np.array([1000.0, 4000.0])
    found = light_shares(psf.stamps(x, y), flux, x, y, RADII)
    for k, radius in enumerate(RADII):
        own, other = (direct_sum(psf, flux[j], x[j], y[j], (x[0], y[0]), radius) for j in (0, 1))
        assert found[0, k] == pytest.approx(own / (own + other), abs=1e-3)
    assert (np.diff(found[0]) < 0).all(), "a larger aperture holds more of a bright neighbour"


def test_a_star_alone_has_all_the_light(psf: PsfMap) -> None:
    x, y = np.array([20.4, 80.9]), np.array([30.0, 60.2])
    np.testing.assert_allclose(light_shares(psf.stamps(x, y), np.array([10.0, 1e6]), x, y, RADII), 1.0, rtol=1e-12)
    assert light_shares(psf.stamps(x[:0], y[:0]), x[:0], x[:0], y[:0], RADII).shape == (0, len(RADII))


def test_a_star_without_light_has_no_share_and_takes_none(psf: PsfMap) -> None:
    x, y = np.array([50.0, 53.0, 51.0]), np.array([40.0, 40.0, 43.0])
    found = light_shares(psf.stamps(x, y), np.array([1000.0, -500.0, np.nan]), x, y, RADII)
    np.testing.assert_allclose(found[0], 1.0, rtol=1e-12)
    assert np.isnan(found[1:]).all()
    # lost in the noise, it may be as bright as its error; its neighbour does not get that light
    least = light_shares(psf.stamps(x, y), np.array([1000.0, -500.0, np.nan]), x, y, RADII, least=np.array([1.0, 100.0, 50.0]))
    whole = light_shares(psf.stamps(x[:2], y[:2]), np.array([1000.0, 100.0]), x[:2], y[:2], RADII)
    np.testing.assert_allclose(least[0], 1.0, rtol=1e-12)
    np.testing.assert_allclose(least[1], whole[1], rtol=1e-12)


def test_dips_in_a_crowded_field_are_as_deep_as_the_share(psf: PsfMap) -> None:
    x, y, flux = field(psf)
    stamps = psf.stamps(x, y)
    share = light_shares(stamps, flux, x, y, RADII)
    image = model_image(stamps, flux, SIZE[::-1])
    inside = np.flatnonzero((x > 9) & (x < SIZE[0] - 10) & (y > 9) & (y < SIZE[1] - 10))
    assert (share[inside] < 0.5).any() and (share[inside] > 0.95).any()
    for star in inside[::8]:
        dipped = flux.copy()
        dipped[star] *= 0.98
        sums = [
            aperture_photometry(*planes(plane), x[star], y[star], RADII).flux[0]
            for plane in (image, model_image(stamps, dipped, SIZE[::-1]))
        ]
        depth = 1.0 - sums[1] / sums[0]
        np.testing.assert_allclose(depth / share[star], 0.02, rtol=0.02)
        fitted = fit_fluxes(pixels(model_image(stamps, dipped, SIZE[::-1])), stamps).flux[star]
        assert fitted == pytest.approx(0.98 * flux[star], rel=2e-3), "the joint fit sees the whole dip"


def planes(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return image.astype(np.float32), np.ones(image.shape, np.float32), np.zeros(image.shape, np.uint8)


def pixels(image: np.ndarray) -> Pixels:
    return Pixels(image.astype(np.float32), np.full(image.shape, 0.01, np.float32), 1e6, np.ones(image.shape, bool))


def test_typical_fluxes_are_medians_on_one_scale() -> None:
    rng = np.random.default_rng(5)
    n_frame, n_star, first = 41, 30, 7
    truth = np.concatenate([10 ** rng.uniform(4, 5, 20), np.zeros(10)])
    scale = rng.uniform(0.5, 1.5, n_frame)
    scale[first] = 1.0
    frame, star = (index.ravel() for index in np.indices((n_frame, n_star)))
    error = np.full(frame.size, 10.0)
    flux = scale[frame] * truth[star] + rng.normal(0, 10.0, frame.size)
    flux[(frame == 3) & (star == 2)] = np.nan
    flux[(frame == first) & (star == 4)] = np.nan
    flux[frame % 3 == 0] *= np.where(star[frame % 3 == 0] == 6, 0.5, 1.0)  # an eclipse
    found = typical_fluxes(frame, star, flux, error, first, n_star + 1)
    np.testing.assert_allclose(found[:20], truth[:20], rtol=5e-3)
    assert (found[20:30] < 0).any() and np.abs(found[20:30]).max() < 10.0
    assert np.isnan(found[30])
