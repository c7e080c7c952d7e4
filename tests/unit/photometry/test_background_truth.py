"""Background on simulated fields: within 0.02 of the noise in sparse and 0.1 in crowded fields, with an error that is true."""

from __future__ import annotations

import numpy as np
import pytest
from skies import FWHM, Scene, expected, scene

from reduction.photometry.kernels.background import BackgroundMap, background
from reduction.photometry.kernels.object_mask import object_mask
from reduction.photometry.kernels.sky_boxes import clip_factors, soft_clipped_mean


def measured(field: Scene, *, wings: bool = True, quantum: float = 0.0) -> BackgroundMap:
    """As the step does it, with its default settings."""
    shape = field.data.shape
    stars = field.stars
    y, x = np.nonzero(field.saturated)
    hidden = object_mask(shape, stars.x, stars.y, stars.radius(field.sigma, FWHM, 0.1, 2.0, 12.0)) | object_mask(shape, x, y, 2 * FWHM)
    light = stars.wings(field.sigma, FWHM, 0.02) if wings else None
    return background(field.data, field.variance, hidden, quantum=quantum, stars=light, fwhm=FWHM)


def off(field: Scene, sky: BackgroundMap) -> np.ndarray:
    """Error of the map, in units of the noise."""
    return (sky.image(field.data.shape) - field.truth) / field.sigma


@pytest.mark.parametrize(("per_star", "limit"), [(1500.0, 0.02), (40.0, 0.1)])
@pytest.mark.parametrize("slope", [0.0, 30.0])
def test_level_and_error_among_stars(per_star: float, limit: float, slope: float) -> None:
    errors, pulls, noise = [], [], []
    for seed in range(300, 304):
        field = scene(seed, per_star=per_star, slope=slope)
        sky = measured(field)
        errors.append(off(field, sky))
        y, x = (a.ravel() for a in np.mgrid[48:384:96, 48:384:96])
        value, error = sky.at(x, y)
        pulls.append((value - field.truth[y, x]) / error)
        noise.append(sky.noise / field.sigma)
    assert abs(np.mean(errors)) < 0.4 * limit and np.sqrt(np.mean(np.square(errors))) < limit
    # 64 places, of which some share their boxes.  In a crowded frame as small as these the error is mostly that of the profile of
    # wings, which is one for the frame, and errs on the large side.
    assert (0.8 if per_star > 100 else 0.6) < np.sqrt(np.mean(np.square(pulls))) < 1.25
    assert np.mean(noise) == pytest.approx(1.0, abs=0.005 if per_star > 100 else 0.015)


def test_giants_with_their_wings_taken_off() -> None:
    field = scene(311, per_star=1500.0, giants=(1e5, 4e5), full=20_000.0)
    assert 20 < field.saturated.sum() < 2000
    with_wings, without = off(field, measured(field)), off(field, measured(field, wings=False))
    assert np.sqrt(np.mean(with_wings**2)) < 0.04 < 0.3 < np.sqrt(np.mean(without**2))
    value, error = measured(field).at(*np.meshgrid(np.arange(16.0, 384, 32), np.arange(16.0, 384, 32)))
    pull = (value - field.truth[16::32, 16::32]) / error
    assert np.sqrt(np.mean(pull**2)) < 1.5


@pytest.mark.parametrize("sigma", [0.3, 0.5, 0.9, 3.0])
@pytest.mark.parametrize("phase", [0.02, 0.25, 0.5, 0.77])
def test_integer_sky(sigma: float, phase: float) -> None:
    rng = np.random.default_rng(320)
    level = np.full((512, 512), 20.0 + phase)
    data = np.rint(rng.normal(level, sigma)).astype(np.float32)
    sky = background(data, np.full(data.shape, sigma**2 + 1 / 12, np.float32), np.zeros(data.shape, bool), quantum=1.0)
    error = (sky.image(data.shape) - expected(level, sigma)) / sigma
    assert abs(error.mean()) < 0.009 and np.sqrt(np.mean(error**2)) < 0.02
    assert sky.noise == pytest.approx(data.std(dtype=float), rel=0.015)


@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_integer_sky_among_stars(sigma: float) -> None:
    for per_star, limit in ((1500.0, 0.02), (40.0, 0.1)):
        field = scene(330, per_star=per_star, level=20.3, sigma=sigma, integer=True)
        assert np.sqrt(np.mean(off(field, measured(field, quantum=1.0)) ** 2)) < limit


def test_coarse_integers_need_to_be_told() -> None:
    """What the step of the data is for: without it the rare integer of a narrow noise is clipped, and the level is that of the other."""
    rng = np.random.default_rng(321)
    values = np.rint(rng.normal(0.1, 0.3, 4000)).astype(np.float32)
    factors = clip_factors(3.0)
    told, ignorant = (soft_clipped_mean(values.copy(), values.size, 0.0, 3.0, quantum, factors)[0] for quantum in (1.0, 0.0))
    assert told == pytest.approx(values.mean(dtype=float), abs=0.003)
    assert abs(ignorant - values.mean(dtype=float)) > 0.01


def test_magnitudes_do_not_depend_on_the_level_of_the_sky() -> None:
    """Below 0.2 mmag per doubling, in three bins of magnitude, for an aperture of 2 FWHM."""
    skies, area = np.array([50.0, 100.0, 200.0, 400.0]), np.pi * (2 * FWHM) ** 2
    bias = []
    for level in skies:
        sigma = np.sqrt(level)
        fields = [scene(340 + k, per_star=1500.0, level=level, sigma=float(sigma)) for k in range(3)]
        bias.append(np.mean([off(field, measured(field)) for field in fields]) * sigma)
    for signal_to_noise in (1000.0, 300.0, 150.0):
        # Of this S/N over the noise of the sky of 100 ADU.
        flux = signal_to_noise * 10.0 * np.sqrt(area)
        magnitude = -2.5 * np.log10(1.0 - area * np.array(bias) / flux)
        assert abs(np.polyfit(np.log2(skies), 1000 * magnitude, 1)[0]) < 0.2
