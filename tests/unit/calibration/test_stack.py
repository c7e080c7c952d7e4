"""Clipped means: unbiased, honest errors, outliers out, also with three images."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from db.flags import Mask
from reduction.calibration.kernels.stack import clipped_mean, outlier_images, stack_bands


def gaussian(n: int, seed: int = 1, shape: tuple[int, int] = (120, 250)) -> np.ndarray:
    return np.random.default_rng(seed).normal(100.0, 5.0, (n, *shape)).astype(np.float32)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 9, 25, 100])
def test_gaussian_noise_is_not_biased_and_its_error_is_right(n: int) -> None:
    stack = clipped_mean(gaussian(n))
    pixels = stack.value.size
    assert abs(stack.value.mean(dtype=float) - 100.0) < 4 * 5 / np.sqrt(n * pixels)
    assert stack.variance.mean(dtype=float) == pytest.approx(25 / n, rel=0.02)
    assert stack.value.var(dtype=float) == pytest.approx(25 / n, rel=0.04)
    assert np.mean((stack.value - 100.0) ** 2 / stack.variance) == pytest.approx(1.0, abs=0.04)


@pytest.mark.parametrize("sigma", [2.5, 3.0, 3.5])
@pytest.mark.parametrize("n", [3, 4, 6, 10, 40])
def test_good_values_are_rejected_at_the_stated_rate(n: int, sigma: float) -> None:
    stack = clipped_mean(gaussian(n, seed=n, shape=(1200 // n, 2000)), sigma=sigma)
    rejected = stack.count.size * n - int(stack.count.sum())
    expected = 2 * stats.norm.sf(sigma) * stack.count.size * n
    # Within a tenth, and the counting error.
    assert abs(rejected - expected) < 0.1 * expected + 4 * np.sqrt(expected)


@pytest.mark.parametrize("n", [4, 10])
def test_plain_mean_without_clipping(n: int) -> None:
    cube = gaussian(n, shape=(20, 300))
    stack = clipped_mean(cube, sigma=np.inf)
    np.testing.assert_allclose(stack.value, cube.mean(axis=0, dtype=float), rtol=1e-6)
    assert stack.variance.mean(dtype=float) == pytest.approx(25 / n, rel=0.05)
    assert (stack.count == n).all()


@pytest.mark.parametrize("n", [3, 8, 60])
def test_tight_clipping_is_corrected_for(n: int) -> None:
    # At 2.5 sigma 1.2 % of the values are lost, 9 % of their variance, and the mean is noisier by a tenth.
    stack = clipped_mean(gaussian(n, shape=(60, 1000)), sigma=2.5)
    assert stack.value.mean(dtype=float) == pytest.approx(100.0, abs=0.05)
    assert stack.variance.mean(dtype=float) == pytest.approx(stack.value.var(dtype=float), rel=0.05)


def test_a_pixel_noisier_than_its_row_has_its_own_error() -> None:
    cube = gaussian(20, shape=(40, 200))
    noisy = np.zeros((40, 200), bool)
    noisy[::4, ::10] = True
    cube[:, noisy] = 100 + 6 * (cube[:, noisy] - 100)
    stack = clipped_mean(cube)
    assert stack.count[noisy].mean() > 19
    assert stack.variance[noisy].mean(dtype=float) == pytest.approx(36 * 25 / 20, rel=0.15)
    assert stack.variance[~noisy].mean(dtype=float) == pytest.approx(25 / 20, rel=0.03)


def test_noise_that_grows_with_the_signal_along_a_row() -> None:
    rng = np.random.default_rng(3)
    level = np.linspace(20.0, 20_000.0, 2000)
    cube = (rng.poisson(level * 2.0, (6, 50, 2000)) / 2.0 + rng.normal(0, 3, (6, 50, 2000))).astype(np.float32)
    stack = clipped_mean(cube, noise=3.0, photon_noise=0.5)
    pull = (stack.value - level) / np.sqrt(stack.variance)
    for part in (slice(0, 200), slice(900, 1100), slice(1800, 2000)):
        assert np.mean(pull[:, part] ** 2) == pytest.approx(1.0, abs=0.06)
    assert stack.count.mean() > 6 * 0.9995


def test_images_have_the_weight_of_their_noise() -> None:
    rng = np.random.default_rng(4)
    scale = np.array([1.0, 1.0, 2.0, 4.0, 4.0])
    cube = (100 + 5 * scale[:, None, None] * rng.normal(size=(5, 100, 300))).astype(np.float32)
    cube[4, 50, 60] += 400
    stack = clipped_mean(cube, scale=scale)
    best = 25 / np.sum(1 / scale**2)
    assert stack.value.var(dtype=float) == pytest.approx(best, rel=0.03)
    assert np.median(stack.variance) == pytest.approx(best, rel=0.03)
    assert stack.count[50, 60] == 4 and stack.count.mean() > 5 * 0.999


def test_where_no_majority_agrees_all_are_kept() -> None:
    cube = gaussian(4, shape=(5, 200))
    cube[:2, 2, 20] = 600.0
    stack = clipped_mean(cube)
    assert stack.count[2, 20] == 4
    assert stack.variance[2, 20] > 1e4


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


def test_rounding_is_noise() -> None:
    cube = np.full((5, 4, 50), 100.0, np.float32)
    cube[0, 2, 20], cube[0, 3, 30] = 101.0, 104.0
    assert clipped_mean(cube).count[2, 20] == 4
    stack = clipped_mean(cube, quantum=1.0)
    assert stack.count[2, 20] == 5 and stack.count[3, 30] == 4
    np.testing.assert_allclose(stack.variance[0], 1 / 12 / 5, rtol=2e-3)


def bands(cube: np.ndarray, mask: np.ndarray):  # type: ignore[no-untyped-def]
    return lambda first, last: (cube[:, first:last], mask[:, first:last])


def test_bands_give_what_the_whole_gives() -> None:
    cube = gaussian(6, shape=(37, 50))
    cube[2, 5, 5] += 200
    mask = np.zeros(cube.shape, np.uint8)
    mask[:, 3, 3] = Mask.SATURATED
    mask[1:, 8] = Mask.NO_DATA
    mask[4, 9, 9] = Mask.HOT
    mask[0, 9, 10] = Mask.NEIGHBOUR
    mask[5, 9, 11] = Mask.DEAD
    whole = stack_bands(bands(cube, mask), (37, 50), n=6)
    for memory in (1, 5 * 6 * 50 * 4):
        parts = stack_bands(bands(cube, mask), (37, 50), n=6, memory=memory)
        for name in ("value", "variance", "mask", "count"):
            np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    assert {tuple(p): int(whole.mask[tuple(p)]) for p in np.argwhere(whole.mask)} == {
        (3, 3): Mask.NO_DATA,
        (9, 9): Mask.HOT,
        (9, 11): Mask.DEAD,
    }
    assert (whole.value[3, 3], whole.variance[3, 3], whole.count[3, 3]) == (0, 0, 0)
    assert (whole.count[9, 9], whole.count[9, 10], whole.count[5, 5]) == (6, 5, 5)
    # A row with one value a pixel has the error that one value has elsewhere.
    assert (whole.count[8] == 1).all() and whole.variance[8] == pytest.approx(25.0, rel=0.3)


def test_bands_of_the_wrong_size_and_too_few_images() -> None:
    cube = gaussian(3, shape=(8, 9))
    with pytest.raises(ValueError, match="3 images of shape"):
        stack_bands(lambda _, __: (cube, cube.astype(np.uint8)), (8, 9), n=3, memory=5 * 3 * 9 * 2)
    with pytest.raises(ValueError, match="at least one"):
        stack_bands(bands(cube, cube.astype(np.uint8)), (8, 9), n=0)
    lone = stack_bands(bands(cube[:1], np.zeros((1, 8, 9), np.uint8)), (8, 9), n=1)
    assert not lone.variance.any() and (lone.count == 1).all()


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="cube"):
        clipped_mean(np.zeros((3, 4), np.float32))
    with pytest.raises(ValueError, match="mask"):
        clipped_mean(np.zeros((3, 4, 5), np.float32), mask=np.zeros((4, 5), bool))
    with pytest.raises(ValueError, match="scale"):
        clipped_mean(np.zeros((3, 4, 5), np.float32), scale=[1.0, 2.0])


def test_outlier_images() -> None:
    noise = [5.0, 5.1, 4.9, 5.05, 4.95]
    reasons = outlier_images([100, 100.5, 99.8, 100.1, 120.0], noise)
    assert not any(reasons[:4]) and "level 120.00 ADU, allowed" in reasons[4]
    reasons = outlier_images([100, 100.5, 99.8, 100.1, 100.2], [5.0, 5.1, 9.0, 5.05, 4.95])
    assert [bool(r) for r in reasons] == [False, False, True, False, False] and "noise 9.00 ADU, allowed" in reasons[2]
    assert [bool(r) for r in outlier_images([100, 100.5, np.nan, 100.1], [5, 5, 5, 5])] == [False, False, True, False]
    # Levels that drift by a fraction of the noise are no reason; two images cannot tell which is wrong.
    assert not any(outlier_images([100, 100.0, 100.0, 101.0], [5, 5, 5, 5]))
    assert not any(outlier_images([100, 900], [5, 5]))


def test_master_bias_with_a_bad_frame_and_cosmic_rays() -> None:
    rng = np.random.default_rng(5)
    n, sigma, shape = 20, 5.0, (200, 300)
    pattern = rng.normal(300, 3, shape)
    cube = (pattern + rng.normal(0, sigma, (n, *shape))).astype(np.float32)
    hit = rng.random(cube.shape) < 0.005
    cube[hit] += rng.exponential(200, int(hit.sum())).astype(np.float32)
    master = stack_bands(bands(cube, np.zeros(cube.shape, np.uint8)), shape, n=n)
    error = master.value - pattern
    assert abs(error.mean()) < 0.02 * sigma
    assert error.std() < 1.05 * sigma / np.sqrt(n)
    assert np.sqrt(master.variance.mean(dtype=float)) == pytest.approx(sigma / np.sqrt(n), rel=0.03)


@pytest.mark.parametrize("n", [3, 4, 9, 30])
@pytest.mark.parametrize("sigma", [3.0, 5.0])
def test_the_floor_of_an_images_level_is_that_of_long_experience(n: int, sigma: float) -> None:
    """Levels that agree to the digit have the floor for a scale, and the limit is Student's, as rare as that of a Gaussian."""
    noise, allowed = 1e6, (0.05 if n > 4 else 0.2) * stats.t.isf(stats.norm.sf(sigma), 20.0 + 0.37 * (n - 1))
    level = np.zeros(n)
    for factor, refused in ((0.9999, False), (1.0001, True)):
        level[0] = factor * allowed * noise
        assert [bool(reason) for reason in outlier_images(level, np.full(n, noise), sigma=sigma)] == [refused] + [False] * (n - 1)
