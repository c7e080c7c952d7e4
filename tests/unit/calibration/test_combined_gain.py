"""One gain of several nights, and read noise without the sky's own."""

from __future__ import annotations

import numpy as np
import pytest

from reduction.calibration.kernels.combined_gain import combined_gain, least_gain, sky_read_noise

NONE = np.nan


def test_a_single_measurement_is_what_it_is() -> None:
    found = combined_gain([3.9], [0.3], [NONE], [NONE])
    assert found is not None and found == pytest.approx((3.9, 0.3))


def test_nights_that_could_not_measure_it_add_nothing() -> None:
    assert combined_gain([NONE, 3.9, NONE], [NONE, 0.3, NONE], [NONE] * 3, [NONE] * 3) == combined_gain([3.9], [0.3], [NONE], [NONE])
    assert combined_gain([], [], [], []) is None
    assert combined_gain([NONE], [NONE], [500.0], [100.0]) is None


def test_measurements_count_by_their_inverse_variance() -> None:
    rng = np.random.default_rng(5)
    pulls = []
    for _ in range(300):
        slope_err = rng.uniform(0.01, 0.05, 4)
        slope = rng.normal(0.25, slope_err)
        found = combined_gain(1 / slope, slope_err / slope**2, [NONE] * 4, [NONE] * 4)
        assert found is not None
        pulls.append((1 / found.value - 0.25) / (found.error / found.value**2))
    assert abs(np.mean(pulls)) < 0.15 and np.std(pulls) < 1.15


def test_those_that_disagree_have_a_larger_error() -> None:
    agreeing, disagreeing = (combined_gain([3.0, other], [0.1, 0.1], [NONE] * 2, [NONE] * 2) for other in (3.05, 4.0))
    assert agreeing is not None and disagreeing is not None
    assert disagreeing.error > 3 * agreeing.error


@pytest.mark.parametrize("gain", [0.4, 1.5, 4.8, 38.8])
def test_the_sky_of_dark_and_bright_nights_tells_it_alone(gain: float) -> None:
    level = np.array([540.0, 2900.0, 9900.0])
    variance = level / gain + (12.0 / gain) ** 2
    found = combined_gain([NONE] * 3, [NONE] * 3, level + 300.0, variance)
    assert found is not None and found.value == pytest.approx(gain, rel=1e-6) and found.error < 0.05 * gain


def test_nights_of_one_level_do_not() -> None:
    assert combined_gain([NONE] * 3, [NONE] * 3, [1000.0, 1001.0, 1003.0], [250.0, 251.0, 247.0]) is None


def test_the_order_of_the_nights_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    own, level = rng.normal(4.0, 0.4, 6), rng.uniform(500, 5000, 6)
    nights = np.array([own, np.full(6, 0.4), level, level / 4.1 + 20.0])
    found = {combined_gain(*nights[:, rng.permutation(6)]) for _ in range(20)}
    assert len(found) == 1


def test_the_skys_own_noise_is_no_read_noise() -> None:
    gain, read_noise, sky = 2.0, 8.0, 900.0
    variance = sky / gain + (read_noise / gain) ** 2
    assert sky_read_noise(gain, sky, variance) == pytest.approx(read_noise)
    assert sky_read_noise(0.9 * gain, sky, sky / gain) == 0.0
    least = least_gain(sky, variance)
    assert least is not None and 0.9 * gain < least < gain and sky_read_noise(least, sky, variance) == pytest.approx(0.0, abs=1e-3)
    assert least_gain(5.0, 100.0) is None and least_gain(np.nan, 1.0) is None and least_gain(5.0, 0.0) is None
