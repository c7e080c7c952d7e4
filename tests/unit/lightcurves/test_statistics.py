"""Statistics of light curves against hand-computed values and known distributions."""

from __future__ import annotations

import numpy as np
import pytest

from reduction.lightcurves.kernels.statistics import light_curve_statistics


def test_by_hand():
    s = light_curve_statistics([0] * 4, [0, 1, 2, 3], [12.0, 12.1, 12.0, 12.3], [0.1, 0.1, 0.1, 0.2], 1)
    mean = (12.0 + 12.1 + 12.0 + 12.3 / 4) / 3.25
    assert s.n.tolist() == [4]
    assert s.mean[0] == pytest.approx(mean, rel=1e-14)
    assert s.median[0] == pytest.approx(12.05)
    assert s.rms[0] == pytest.approx(np.std([0, 0.1, 0, 0.3], ddof=1))
    assert s.mad_rms[0] == pytest.approx(1.4826 * 0.05)
    assert s.expected_rms[0] == pytest.approx(np.sqrt((3 * 0.01 + 0.04) / 4))
    chi2 = ((12 - mean) ** 2 * 2 + (12.1 - mean) ** 2) / 0.01 + (12.3 - mean) ** 2 / 0.04
    assert s.chi2_dof[0] == pytest.approx(chi2 / 3)
    assert s.eta[0] == pytest.approx((0.01 + 0.01 + 0.09) / 3 / np.var([0, 0.1, 0, 0.3], ddof=1))


def test_white_noise():
    rng = np.random.default_rng(1)
    n = 4000
    s = light_curve_statistics(np.zeros(n, dtype=int), np.arange(n), 12 + 0.01 * rng.normal(size=n), np.full(n, 0.01), 1)
    assert s.rms[0] == pytest.approx(0.01, rel=0.04)
    assert s.mad_rms[0] == pytest.approx(0.01, rel=0.05)
    assert s.chi2_dof[0] == pytest.approx(1, abs=0.08)
    assert s.eta[0] == pytest.approx(2, abs=0.1)


def test_smooth_variation():
    t = np.linspace(0, 1, 400)
    s = light_curve_statistics(np.zeros(400, dtype=int), t, 12 + 0.1 * np.sin(2 * np.pi * t), np.full(400, 0.01), 1)
    assert s.rms[0] == pytest.approx(0.1 / np.sqrt(2), rel=0.01)
    assert s.eta[0] < 0.01


def test_order_of_rows_does_not_matter():
    rng = np.random.default_rng(2)
    star, time, mag = rng.integers(0, 5, 300), rng.uniform(size=300), rng.normal(12, 0.1, 300)
    mix = rng.permutation(300)
    one = light_curve_statistics(star, time, mag, np.full(300, 0.05), 5)
    two = light_curve_statistics(star[mix], time[mix], mag[mix], np.full(300, 0.05), 5)
    np.testing.assert_array_equal(one.eta, two.eta)
    np.testing.assert_array_equal(one.mean, two.mean)


def test_few_and_bad_values():
    mag = [12.0, np.nan, 13.0, 13.0, 14.0, 14.0]
    err = [0.1, 0.1, 0.1, 0.1, 0.0, np.nan]
    s = light_curve_statistics([0, 0, 1, 1, 2, 2], np.arange(6), mag, err, 4)
    assert s.n.tolist() == [1, 2, 0, 0]
    np.testing.assert_array_equal(s.mean, [12, 13, np.nan, np.nan])
    np.testing.assert_array_equal(s.rms, [np.nan, 0, np.nan, np.nan])
    np.testing.assert_array_equal(s.chi2_dof, [np.nan, 0, np.nan, np.nan])
    assert np.isnan(s.eta).all()


def test_exact_for_a_bright_constant():
    s = light_curve_statistics([0] * 50, np.arange(50), np.full(50, 11.4321), np.full(50, 0.003), 1)
    assert s.rms[0] == 0
    assert s.chi2_dof[0] == pytest.approx(0, abs=1e-20)
    assert np.isnan(s.eta[0])
