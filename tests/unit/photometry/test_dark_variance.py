"""Variance of pixels without their stars, against what the calibration put in."""

from __future__ import annotations

import numpy as np
import pytest

from reduction.calibration.kernels.calibration import Plane, calibrate
from reduction.photometry.kernels.dark_variance import LEAST_VARIANCE, dark_variance

SHAPE = (40, 50)
GAIN, READ, SKY = 2.0, 6.0, 30.0


def calibrated(star: float, zero: float = 300.0, seed: int = 1) -> tuple[Plane, np.ndarray]:
    """Sky, and one star whose every pixel of a block of 12x12 has as much light (ADU); the raw sky as it should be without noise."""
    light = np.full(SHAPE, SKY)
    light[14:26, 20:32] += star
    rng = np.random.default_rng(seed)
    raw = np.rint((rng.poisson(light * GAIN) + rng.normal(0, READ, SHAPE)) / GAIN + 300.0).astype(np.uint16)
    return calibrate(raw, gain=GAIN, read_noise=READ, zero_level=zero), np.full(SHAPE, SKY + 300.0 - zero, np.float32)


def without_stars(plane: Plane, sky: np.ndarray, noise: float) -> np.ndarray:
    good = plane.mask == 0
    return dark_variance(plane.value, plane.variance, sky, good, good, gain=GAIN, noise=noise)


@pytest.mark.parametrize("zero", [250.0, 300.0, 350.0])
@pytest.mark.parametrize("star", [0.0, 10.0, 300.0, 5000.0])
def test_beneath_a_star_the_variance_is_the_skys_whatever_the_zero_level(star: float, zero: float) -> None:
    noise = np.sqrt(SKY / GAIN + (READ / GAIN) ** 2 + 1.0 / 12.0)
    plane, sky = calibrated(star, zero)
    found = without_stars(plane, sky, noise)
    assert found.dtype == np.float32
    # Within the star, away from its border where a mean of 3x3 pixels is neither one nor the other.
    assert np.mean(found[15:25, 21:31]) == pytest.approx(noise**2, rel=0.05)
    assert np.median(found) == pytest.approx(noise**2, rel=0.02)


def test_a_pixel_that_came_out_high_has_no_less_variance() -> None:
    noise = np.sqrt(SKY / GAIN + (READ / GAIN) ** 2 + 1.0 / 12.0)
    slopes = []
    for seed in range(8):
        plane, sky = calibrated(0.0, seed=seed)
        slopes.append(np.polyfit(plane.value.ravel() - SKY, without_stars(plane, sky, noise).ravel(), 1)[0])
    # The pixel's own value taken off would give a slope of half of 1 / gain.
    assert abs(np.mean(slopes)) < 0.03 / GAIN


def test_noise_above_the_typical_is_added_and_what_is_below_is_scaled() -> None:
    image, sky, all_good = np.full(SHAPE, 20.0, np.float32), np.full(SHAPE, 20.0, np.float32), np.ones(SHAPE, bool)
    variance = np.full(SHAPE, 10.0, np.float32)
    variance[5, 5], variance[6, 20], variance[7, 7] = 110.0, 5.0, 0.0
    found = dark_variance(image, variance, sky, all_good, all_good, gain=1.0, noise=2.0)
    np.testing.assert_allclose(found[[0, 5, 6, 7], [0, 5, 20, 7]], [4.0, 104.0, 2.0, LEAST_VARIANCE * 4.0], rtol=1e-6)


def test_unknown_pixels_are_nan_and_a_frame_without_noise_has_its_typical_variance() -> None:
    image, sky = np.full(SHAPE, 20.0, np.float32), np.full(SHAPE, 20.0, np.float32)
    image[3, 4], image[10, 11], variance = np.nan, 1e6, np.full(SHAPE, 9.0, np.float32)
    known = np.isfinite(image)
    known[10, 11] = False
    for noise in (0.0, np.nan):
        found = dark_variance(image, variance, sky, known, known, gain=1.0, noise=noise)
        assert np.isnan(found[3, 4])
        # A hot pixel tells nothing of those beside it.
        beside = found[[3, 9, 10], [5, 11, 12]]
        np.testing.assert_allclose(beside, 9.0, rtol=1e-6)
    none = np.zeros(SHAPE, bool)
    assert np.all(dark_variance(image, variance, sky, none, none, gain=1.0, noise=2.0)[known] >= LEAST_VARIANCE * 4.0)
