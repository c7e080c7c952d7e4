"""Fixed pattern of a drifting night."""

from __future__ import annotations

import numpy as np
import pytest

from reduction.calibration.kernels.fixed_pattern import fixed_pattern


def night(n: int = 60, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    dark = np.zeros((30, 40), dtype=np.float32)
    dark[5, 7], dark[20, 30], dark[12, 12] = 40.0, 6.0, -5.0
    return dark, (dark + rng.normal(0, 1.1, (n, 30, 40))).astype(np.float32)


def test_hot_pixels_are_found_and_the_rest_left_alone():
    dark, frames = night()
    pattern = fixed_pattern(frames, np.zeros(frames.shape, dtype=bool))
    np.testing.assert_allclose(pattern.value, dark, atol=0.75)
    np.testing.assert_allclose(pattern.error, 1.1 / np.sqrt(60), rtol=0.35)
    correction = pattern.correction(5.0)
    np.testing.assert_array_equal(correction != 0, dark != 0)
    assert (pattern.count >= 55).all()


def test_excluded_pixels_and_cosmic_rays_do_not_count():
    dark, frames = night()
    excluded = np.zeros(frames.shape, dtype=bool)
    for k in range(60):
        # A star that drifts by half a pixel a frame, and one that stays.
        excluded[k, 14:17, k // 2 : k // 2 + 3] = True
        frames[k, 14:17, k // 2 : k // 2 + 3] += 500
    excluded[:, 25, 5] = True
    frames[:, 25, 5] += 500
    frames[10, 5, 8] = 900
    frames[11, 5, 8] = np.nan
    pattern = fixed_pattern(frames, excluded)
    np.testing.assert_allclose(pattern.value, dark, atol=0.75)
    assert pattern.count[25, 5] == 0
    assert np.isinf(pattern.error[25, 5])
    assert pattern.correction()[25, 5] == 0
    assert pattern.count[5, 8] == 58


def test_bands_of_rows_equal_the_whole():
    _, frames = night()
    excluded = np.random.default_rng(3).random(frames.shape) < 0.2
    whole = fixed_pattern(frames, excluded)
    band = fixed_pattern(frames[:, 10:20], excluded[:, 10:20])
    np.testing.assert_array_equal(band.value, whole.value[10:20])
    np.testing.assert_array_equal(band.error, whole.error[10:20])


def test_too_few_frames_are_unknown():
    _, frames = night(9)
    pattern = fixed_pattern(frames, np.zeros(frames.shape, dtype=bool))
    assert (pattern.count == 0).all()
    assert (pattern.correction() == 0).all()


def test_integer_data_without_noise():
    frames = np.full((20, 4, 4), 3.0, dtype=np.float32)
    pattern = fixed_pattern(frames, np.zeros(frames.shape, dtype=bool))
    np.testing.assert_allclose(pattern.value, 3.0)
    assert pattern.error[0, 0] == pytest.approx(1 / np.sqrt(20))
