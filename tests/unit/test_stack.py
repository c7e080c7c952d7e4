"""Clipped means: unbiased, honest errors, outliers out, also with three images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from reduction.kernels.stack import clipped_mean, outlier_images


def gaussian(n: int, seed: int = 1, shape: tuple[int, int] = (120, 250)) -> np.ndarray:
    return np.random.default_rng(seed).normal(100.0, 5.0, (n, *shape)).astype(np.float32)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 9, 25])
def test_gaussian_noise_is_not_biased_and_its_error_is_right(n: int) -> None:
    stack = clipped_mean(gaussian(n))
    pixels = stack.value.size
    assert abs(stack.value.mean(dtype=float) - 100.0) < 4 * 5 / np.sqrt(n * pixels)
    assert stack.variance.mean(dtype=float) == pytest.approx(25 / n, rel=0.03)
    assert stack.value.var(dtype=float) == pytest.approx(25 / n, rel=0.03)
    assert stack.count.mean() > n * 0.999


@pytest.mark.parametrize("n", [4, 10])
def test_plain_mean_and_scatter_without_clipping(n: int) -> None:
    cube = gaussian(n, shape=(20, 30))
    stack = clipped_mean(cube, iterations=0, sigma=50.0)
    np.testing.assert_allclose(stack.value, cube.mean(axis=0, dtype=float), rtol=1e-6)
    np.testing.assert_allclose(stack.variance, cube.var(axis=0, ddof=1, dtype=float) / n, rtol=1e-5)


def test_tight_clipping_is_corrected_for() -> None:
    # With 60 images the limit is close to sigma itself: at 2.5 sigma 1.2 % are lost, and 6 % of the variance.
    stack = clipped_mean(gaussian(60, shape=(60, 100)), sigma=2.5)
    assert stack.count.mean() == pytest.approx(60 * (1 - 2 * stats.norm.sf(2.5)), rel=0.01)
    assert stack.value.mean(dtype=float) == pytest.approx(100.0, abs=0.03)
    assert (stack.variance * stack.count).mean(dtype=float) == pytest.approx(25.0, rel=0.03)


@pytest.mark.parametrize("n", [3, 4, 5, 12])
def test_a_cosmic_ray_goes(n: int) -> None:
    cube = gaussian(n)
    clean = clipped_mean(cube)
    cube[1, 10:60:7, 10:200:9] += 150.0
    stack = clipped_mean(cube)
    hit = np.zeros(stack.value.shape, bool)
    hit[10:60:7, 10:200:9] = True
    assert (stack.count[hit] == n - 1).mean() > 0.99
    np.testing.assert_array_equal(stack.value[~hit], clean.value[~hit])
    assert stack.value[hit].mean(dtype=float) == pytest.approx(100.0, abs=1.0)


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5, 0.7])
@pytest.mark.parametrize("n", [3, 5, 15])
def test_integer_data_of_low_noise(n: int, fraction: float) -> None:
    rng = np.random.default_rng(5)
    cube = np.rint(rng.normal(300 + fraction, 1.0, (n, 150, 200))).astype(np.float32)
    stack = clipped_mean(cube)
    assert stack.value.mean(dtype=float) == pytest.approx(300 + fraction, abs=0.006)
    assert stack.variance.mean(dtype=float) == pytest.approx((1 + 1 / 12) / n, rel=0.05)


def test_two_outliers_in_five() -> None:
    cube = gaussian(5)
    cube[:2, 50, 60] = 400.0
    stack = clipped_mean(cube)
    assert stack.count[50, 60] == 3 and abs(stack.value[50, 60] - 100.0) < 15


def test_a_pixel_masked_in_every_image() -> None:
    cube = gaussian(4, shape=(10, 12))
    mask = np.zeros(cube.shape, bool)
    mask[:, 3, 4] = True
    cube[:, 5, 6] = np.nan
    mask[1:, 7, 8] = True
    stack = clipped_mean(cube, mask=mask)
    for y, x in ((3, 4), (5, 6)):
        assert (stack.count[y, x], stack.value[y, x], stack.variance[y, x]) == (0, 0, 0)
    assert stack.count[7, 8] == 1 and stack.value[7, 8] == cube[0, 7, 8]
    assert 5 < stack.variance[7, 8] < 60


def test_a_row_masked_in_one_image_keeps_the_rest() -> None:
    cube = gaussian(4, shape=(10, 200))
    mask = np.zeros(cube.shape, bool)
    mask[0, 4] = True
    cube[2, 4, 50] += 500
    stack = clipped_mean(cube, mask=mask)
    assert stack.count[4, 50] == 2 and np.delete(stack.count[4], 50).min() == 3
    everything = clipped_mean(cube, mask=np.ones(cube.shape, bool))
    assert not everything.count.any() and not everything.value.any() and not everything.variance.any()


def test_one_image() -> None:
    cube = gaussian(1, shape=(6, 7))
    stack = clipped_mean(cube)
    np.testing.assert_array_equal(stack.value, cube[0])
    assert (stack.count == 1).all() and np.isnan(stack.variance).all()
    np.testing.assert_allclose(clipped_mean(cube, noise=5.0).variance, 25.0)


def test_noise_floor_spares_values_that_agree_by_chance() -> None:
    cube = np.full((5, 4, 50), 100.0, np.float32)
    cube[0, 2, 20] = 103.0
    assert clipped_mean(cube).count[2, 20] == 4
    assert clipped_mean(cube, noise=1.0).count[2, 20] == 5


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="cube"):
        clipped_mean(np.zeros((3, 4), np.float32))
    with pytest.raises(ValueError, match="mask"):
        clipped_mean(np.zeros((3, 4, 5), np.float32), mask=np.zeros((4, 5), bool))


def test_outlier_images() -> None:
    noise = [5.0, 5.1, 4.9, 5.05, 4.95]
    assert outlier_images([100, 100.5, 99.8, 100.1, 120.0], noise).tolist() == [False] * 4 + [True]
    assert outlier_images([100, 100.5, 99.8, 100.1, 100.2], [5.0, 5.1, 9.0, 5.05, 4.95]).tolist() == [False, False, True, False, False]
    assert outlier_images([100, 100.5, np.nan, 100.1], [5, 5, 5, 5]).tolist() == [False, False, True, False]
    # Levels that drift by a fraction of the noise are no reason; two images cannot tell which is wrong.
    assert not outlier_images([100, 100.0, 100.0, 101.0], [5, 5, 5, 5]).any()
    assert not outlier_images([100, 900], [5, 5]).any()
