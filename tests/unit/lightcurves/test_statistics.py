"""Statistics of light curves against hand-computed values and known distributions."""

from __future__ import annotations

import numpy as np
import pytest

from reduction.lightcurves.kernels.statistics import FAINT, POGSON, LightCurveStatistics
from reduction.lightcurves.kernels.statistics import light_curve_statistics as of_both


def light_curve_statistics(star, time, mag, err, n_star: int) -> LightCurveStatistics:
    """Of magnitudes, with the fluxes that belong to them."""
    mags, errs = np.asarray(mag, dtype=float), np.asarray(err, dtype=float)
    flux = 10.0 ** (0.4 * (25.0 - mags))
    return of_both(star, time, mags, errs, flux, flux * np.maximum(errs, 0.0) / POGSON, n_star=n_star)


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


def test_faint_stars_are_judged_by_their_fluxes() -> None:
    """Half of the points have no magnitude, or nearly none: mean and scatter are the truth's all the same."""
    rng = np.random.default_rng(3)
    n_star, n = 400, 60
    truth = np.repeat(10.0 ** rng.uniform(-0.3, 0.9, n_star), n)  # 0.5 to 8 times the error
    flux = truth + rng.standard_normal(truth.size)
    with np.errstate(invalid="ignore", divide="ignore"):
        mag, err = 25.0 - 2.5 * np.log10(flux), POGSON / np.abs(flux)
    star = np.repeat(np.arange(n_star), n)
    s = of_both(star, np.tile(np.arange(n), n_star), mag, err, flux, np.ones(flux.size), n_star=n_star)
    assert np.all(s.n == n) and truth.max() < FAINT
    light = 10.0 ** (0.4 * (25.0 - s.mean))
    wanted = truth[::n]
    assert abs(np.mean(light - wanted)) < 4.0 / np.sqrt(flux.size)
    np.testing.assert_allclose(np.median(s.rms / (POGSON / wanted)), 1.0, atol=0.03)
    np.testing.assert_allclose(np.median(s.mad_rms / (POGSON / wanted)), 1.0, atol=0.05)
    np.testing.assert_allclose(s.expected_rms, POGSON / light, rtol=1e-12)
    assert abs(np.mean(s.chi2_dof) - 1.0) < 0.03


def test_fluxes_and_magnitudes_agree_where_one_takes_over() -> None:
    rng = np.random.default_rng(4)
    flux = FAINT + rng.standard_normal(4000)
    found = []
    for factor in (0.99, 1.01):  # of the error: either side of the limit
        error = np.full(flux.size, np.median(flux) / (FAINT * factor))
        args = (25.0 - 2.5 * np.log10(flux), POGSON * error / flux, flux, error)
        found.append(of_both(np.zeros(flux.size, int), np.arange(flux.size), *args, n_star=1))
    one, two = found
    assert one.rms[0] != two.rms[0]
    for name, limit in {"mean": 0.02, "median": 0.001, "rms": 0.003, "mad_rms": 0.003, "expected_rms": 0.003}.items():
        assert abs(getattr(one, name)[0] - getattr(two, name)[0]) < limit, name


def test_nothing_there_has_a_number_of_points_and_no_magnitude() -> None:
    s = of_both([0, 0, 0], [0, 1, 2], [np.nan, np.nan, 24.0], [np.nan, np.nan, 1.0], [-3.0, -1.0, 0.4], [1.0, 1.0, 1.0], n_star=1)
    assert s.n[0] == 3 and np.isnan(s.mean[0]) and np.isnan(s.rms[0])
