"""Scatter against magnitude and the choice of the slot."""

from __future__ import annotations

import numpy as np
import pytest

from reduction.lightcurves.kernels.noise import best_slot, excess_scatter, noise_model


def stars(n: int = 600, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mag = rng.uniform(10, 16, n)
    return mag, 0.003 * np.hypot(1, 10 ** (0.4 * (mag - 13))) * rng.lognormal(0, 0.1, n)


def test_model_follows_the_stars():
    mag, scatter = stars()
    scatter[::20] *= 30
    model = noise_model(mag, scatter)
    expected = 0.003 * np.hypot(1, 10 ** (0.4 * (np.array([11, 13, 15]) - 13)))
    np.testing.assert_allclose(model.at([11, 13, 15]), expected, rtol=0.15)
    assert model.n.sum() == 600


def test_ends_are_constant_and_nan_stays():
    model = noise_model(*stars())
    assert model.at(5.0) == model.scatter[0]
    assert model.at(30.0) == model.scatter[-1]
    assert np.isnan(model.at(np.nan))


def test_thin_bins_are_joined():
    model = noise_model([10.0, 10.1, 12.0, 15.0, 15.1, 15.2], [0.01] * 6, min_stars=3)
    assert model.n.tolist() == [3, 3]
    np.testing.assert_allclose(model.scatter, 0.01)
    assert noise_model([10.0], [0.02]).at(12.0) == pytest.approx(0.02)


def test_nothing_usable():
    model = noise_model([np.nan, 12.0], [0.1, 0.0])
    assert np.isnan(model.at(12.0))
    assert best_slot([12.0], [[np.nan], [np.nan]]).tolist() == [-1]


def test_small_aperture_for_the_faint():
    mag, wide = stars()
    narrow = 0.005 * np.hypot(1, 10 ** (0.4 * (mag - 14)))
    slot = best_slot(mag, [wide, narrow])
    assert (slot[mag < 12] == 0).all()
    assert (slot[mag > 14] == 1).all()


def test_own_behaviour_does_not_choose():
    mag, scatter = stars()
    table = np.array([scatter, scatter * 1.3])
    table[1, 7] = 1e-5
    assert (best_slot(mag, table) == 0).all()


def test_crowded_stars_have_their_own_slot():
    mag, scatter = stars()
    crowded = np.arange(600) % 10 == 0
    table = np.array([scatter * np.where(crowded, 3, 1), scatter * 1.3])
    slot = best_slot(mag, table, crowded.astype(int))
    np.testing.assert_array_equal(slot, crowded)
    few = np.arange(600) < 3
    assert (best_slot(mag, table, few.astype(int)) == 0).all()


def test_missing_values_and_magnitudes():
    mag, scatter = stars()
    table = np.array([scatter * 1.3, scatter])
    table[0, mag > 13] = np.nan
    mag[5] = np.nan
    assert (best_slot(mag, table) == 1).all()


def test_excess_scatter_is_what_errors_do_not_explain() -> None:
    rng = np.random.default_rng(11)
    frame = np.repeat(np.arange(3), 4000)
    sigma = rng.uniform(0.001, 0.005, frame.size)
    excess = np.array([0.0, 0.005, 0.010])
    residual = rng.standard_normal(frame.size) * np.hypot(sigma, excess[frame])
    residual[::50] += 0.3  # variable stars move it little
    found = excess_scatter(frame, residual, sigma**2, 4)
    assert found[0] < 0.001 and abs(found[1] / 0.005 - 1) < 0.08 and abs(found[2] / 0.010 - 1) < 0.08
    assert found[3] == np.median(found[:3])  # a frame without stars takes the others' median
