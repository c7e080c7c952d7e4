"""Magnitude fit of single frames: exact on noise-free data, held out, robust, and honest about its error."""

from __future__ import annotations

import numpy as np
import pytest
from one_frame import fit_frame

from reduction.lightcurves.kernels.magnitude_fit import choose_terms, fit_frames

TRUTH = np.array([0.31, 0.12, -0.08, 0.04, 0.02, -0.03])


def plane(n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Design of order 2, errors and folds of n stars."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-1, 1, (2, n))
    design = np.stack([np.ones(n), x, y, x * x, x * y, y * y], axis=1)
    return design, 10 ** rng.uniform(-3, -1.3, n), rng.integers(0, 5, n)


def test_exact_without_noise():
    design, sigma, fold = plane(60)
    fit = fit_frame(design @ TRUTH, sigma, design, fold)
    np.testing.assert_allclose(fit.coeff, np.tile(TRUTH, (5, 1)), atol=1e-10)
    np.testing.assert_allclose(fit.coeff_all, TRUTH, atol=1e-10)
    np.testing.assert_allclose(fit.fitted, design @ TRUTH, atol=1e-10)
    assert fit.n_fit == 60
    assert fit.used.all()
    assert fit.rms < 1e-9


def test_equals_numpy_least_squares_without_the_fold():
    design, sigma, fold = plane(80)
    rng = np.random.default_rng(2)
    dmag = design @ TRUTH + sigma * rng.normal(size=80)
    # A clip this wide leaves Tukey's weights flat, so the fit is plain weighted least squares.
    fit = fit_frame(dmag, sigma, design, fold, floor=0.0, clip=1e6)
    others = fold != 3
    expected = np.linalg.lstsq(design[others] / sigma[others, None], dmag[others] / sigma[others], rcond=None)[0]
    np.testing.assert_allclose(fit.coeff[3], expected, atol=1e-7)


@pytest.mark.parametrize("change", [0.01, -0.5, 30.0, np.nan])
def test_no_star_reaches_its_own_correction(change: float):
    design, sigma, fold = plane(40)
    dmag = design @ TRUTH + sigma * np.random.default_rng(3).normal(size=40)
    star = int(np.argmin(sigma))
    before = fit_frame(dmag, sigma, design, fold)
    dmag[star] += change
    after = fit_frame(dmag, sigma, design, fold)
    own = fold == fold[star]
    np.testing.assert_array_equal(after.coeff[fold[star]], before.coeff[fold[star]])
    np.testing.assert_array_equal(after.fitted[own], before.fitted[own])
    assert not np.array_equal(after.fitted[~own], before.fitted[~own])


def test_outliers_are_rejected():
    design, sigma, fold = plane(200)
    rng = np.random.default_rng(4)
    dmag = design @ TRUTH + sigma * rng.normal(size=200)
    wild = rng.choice(200, 30, replace=False)
    dmag[wild] += rng.choice([-1, 1], 30) * rng.uniform(0.5, 3, 30)
    fit = fit_frame(dmag, sigma, design, fold)
    assert not fit.used[wild].any()
    assert fit.n_fit > 160
    assert np.abs(fit.coeff - TRUTH).max() < 0.01


def test_floor_is_recovered_and_zero_where_none():
    design, sigma, fold = plane(3000)
    noise = np.random.default_rng(5).normal(size=(2, 3000))
    smooth = design @ TRUTH
    assert fit_frame(smooth + sigma * noise[0] + 0.006 * noise[1], sigma, design, fold).floor == pytest.approx(0.006, rel=0.15)
    assert fit_frame(smooth + sigma * noise[0], sigma, design, fold).floor < 0.001


def test_zero_point_error_is_the_scatter_of_the_correction():
    design, sigma, fold = plane(50)
    rng = np.random.default_rng(6)
    n_frame = 400
    noise = np.hypot(sigma, 0.004) * rng.normal(size=(n_frame, 50))
    rows = np.tile(np.arange(50), n_frame)
    fits = fit_frames(np.arange(n_frame + 1) * 50, (design @ TRUTH + noise).ravel(), sigma[rows], design[rows], fold[rows])
    error = fits.fitted.reshape(n_frame, 50) - design @ TRUTH
    for k in range(5):
        assert np.median(fits.zp_err[:, k]) == pytest.approx(error[:, fold == k].std(), rel=0.2)


def test_unusable_rows_are_corrected_but_not_fitted():
    design, sigma, fold = plane(60)
    dmag = design @ TRUTH
    dmag[0], sigma[1], sigma[2] = np.nan, 0.0, np.nan
    eligible = np.ones(60, dtype=bool)
    eligible[3] = False
    dmag[3] += 5
    design[4, 1] = np.nan
    fit = fit_frame(dmag, sigma, design, fold, eligible=eligible)
    assert not fit.used[:5].any()
    assert fit.n_fit == 55
    np.testing.assert_allclose(fit.fitted[:4], (design @ TRUTH)[:4], atol=1e-9)
    assert np.isnan(fit.fitted[4])


def test_too_few_stars_and_none():
    design, sigma, fold = plane(5)
    fit = fit_frame(design @ TRUTH, sigma, design, fold)
    assert np.isnan(fit.coeff).all()
    assert np.isnan(fit.fitted).all()
    assert fit.n_fit == 0
    empty = fit_frame(np.zeros(0), np.zeros(0), np.zeros((0, 3)), np.zeros(0, dtype=int))
    assert np.isnan(empty.coeff).all()
    assert empty.fitted.shape == (0,)


def test_a_fold_that_leaves_too_few_stars_does_not_take_the_scatter_of_the_others_away():
    fit = fit_frame(np.array([0.30, 0.32, 0.31]), np.full(3, 0.01), np.ones((3, 1)), np.array([0, 0, 1]))
    assert np.isnan(fit.coeff[0]).all()
    assert np.isfinite(fit.coeff[1:]).all()
    assert 0.0 < fit.rms < 0.02


def test_dependent_column_gets_zero():
    design, sigma, fold = plane(60)
    doubled = np.column_stack([design, design[:, 1]])
    fit = fit_frame(design @ TRUTH, sigma, doubled, fold)
    np.testing.assert_array_equal(fit.coeff[:, 6], 0)
    np.testing.assert_allclose(fit.fitted, design @ TRUTH, atol=1e-9)


def test_unused_terms_are_zero():
    design, sigma, fold = plane(60)
    terms = np.array([True, True, True, False, False, False])
    fit = fit_frame(design[:, :3] @ TRUTH[:3], sigma, design, fold, terms=terms)
    np.testing.assert_array_equal(fit.coeff[:, 3:], 0)
    np.testing.assert_allclose(fit.coeff[:, :3], np.tile(TRUTH[:3], (5, 1)), atol=1e-10)


def test_frames_are_independent():
    design, sigma, fold = plane(90)
    dmag = design @ TRUTH + sigma * np.random.default_rng(7).normal(size=90)
    both = fit_frames([0, 40, 90], dmag, sigma, design, fold)
    second = fit_frame(dmag[40:], sigma[40:], design[40:], fold[40:])
    np.testing.assert_array_equal(both.coeff[1], second.coeff)
    np.testing.assert_array_equal(both.fitted[40:], second.fitted)
    assert both.rms[1] == second.rms


@pytest.mark.parametrize(("n_star", "kept"), [(30, 6), (29, 3), (15, 3), (14, 1), (1, 1), (0, 1)])
def test_terms_follow_the_number_of_stars(n_star: int, kept: int):
    terms = choose_terms(n_star, [0, 1, 1, 2, 2, 2])
    assert terms.tolist() == [True] * kept + [False] * (6 - kept)
