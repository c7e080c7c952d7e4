"""Robust scatter and weights: Gaussians, constants, nothing, and NaN."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from reduction.kernels import compiled
from reduction.kernels.robust import (
    GAUSSIAN_MAD,
    MAD_TO_SIGMA,
    biweight,
    mad_scatter,
    robust_scatter,
    scatter_about,
    spare_freedom,
)


def test_the_factor_is_that_of_a_gaussian() -> None:
    assert pytest.approx(1 / stats.norm.ppf(0.75), rel=1e-15) == GAUSSIAN_MAD
    assert pytest.approx(GAUSSIAN_MAD, rel=2e-6) == MAD_TO_SIGMA


@pytest.mark.parametrize("sigma", [0.01, 3.0, 1e6])
def test_scatter_of_a_gaussian_with_wild_values(sigma: float) -> None:
    values = np.random.default_rng(1).normal(100.0, sigma, 100_000)
    # The MAD of n values is known to 1.17 sigma / sqrt(n).
    assert mad_scatter(values) == pytest.approx(sigma, rel=4 * 1.17 / np.sqrt(values.size))
    assert robust_scatter(values - 100.0) == pytest.approx(sigma, rel=4 * 1.17 / np.sqrt(values.size))
    values[:100] = 1e12
    assert mad_scatter(values) == pytest.approx(sigma, rel=0.02)


def test_scatter_against_an_independent_code() -> None:
    values = np.random.default_rng(2).exponential(2.0, 1001)
    expected = float(stats.median_abs_deviation(values))
    assert mad_scatter(values) == pytest.approx(1.4826 * expected, rel=1e-15)
    assert mad_scatter(values, GAUSSIAN_MAD) == pytest.approx(float(stats.median_abs_deviation(values, scale="normal")), rel=1e-14)
    assert scatter_about(values, 7.0) == pytest.approx(1.4826 * np.median(np.abs(values - 7.0)), rel=1e-15)


def test_scatter_of_constants_is_nothing_about_themselves_and_their_distance_elsewhere() -> None:
    values = np.full(7, 4.0)
    assert mad_scatter(values) == 0.0
    assert scatter_about(values, 1.0) == pytest.approx(3 * 1.4826)
    assert robust_scatter([[4.0, -4.0]]) == pytest.approx(4 * 1.4826)


def test_scatter_of_nothing_and_of_nan_is_unknown() -> None:
    assert np.isnan(robust_scatter([]))
    values = np.array([1.0, np.nan, 2.0])
    assert np.isnan([mad_scatter(values), robust_scatter(values), scatter_about(values, 0.0)]).all()


@pytest.mark.parametrize("n", [1, 2, 7, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_code_gives_the_very_same(n: int, dtype: type) -> None:
    values = np.random.default_rng(n).normal(0.5, 1.0, n).astype(dtype)
    # numpy subtracts float32 values in float32, the compiler in float64.
    assert compiled.scatter_about(values, 0.25) == scatter_about(values.astype(np.float64), 0.25)


def test_weights_of_tukey() -> None:
    u = np.array([0.0, 0.5, 1.0, 3.0])
    assert biweight(u**2) == pytest.approx([1.0, 0.5625, 0.0, 0.0])
    assert np.isnan(biweight(np.array([np.nan]))).all()


def test_residuals_of_a_fit_are_smaller_than_errors_by_the_spare_freedom() -> None:
    generator = np.random.default_rng(3)
    n, n_term = 40, 10
    terms = generator.normal(size=(n, n_term))
    hat = terms @ np.linalg.pinv(terms)
    errors = generator.normal(size=(n, 5000))
    assert np.std(errors - hat @ errors) == pytest.approx(spare_freedom(n, n_term), rel=0.02)
    # As many terms as values leave nothing to judge by.
    assert spare_freedom(5, 5) == spare_freedom(5, 50) == pytest.approx(np.sqrt(0.1))
