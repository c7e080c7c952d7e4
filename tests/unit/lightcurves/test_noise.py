"""Scatter against magnitude and the choice of the slot."""

from __future__ import annotations

import numpy as np
import pytest

from reduction.lightcurves.kernels.noise import best_slot, excess_scatter, frame_excess, noise_model


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


def in_slots(mag: np.ndarray, foreign: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scatter and share in a small and a large aperture, the large one with `foreign` times the star's light of a constant neighbour."""
    flux = 10 ** (-0.4 * (mag - 16))
    held = np.array([0.8 * np.ones(mag.size), np.ones(mag.size)])
    light = np.array([held[0] * flux, held[1] * flux + foreign * flux])
    noise = np.hypot(0.01 * np.array([[1.0], [2.4]]), 0.01 * np.sqrt(light))
    return 1.086 * noise / light * np.random.default_rng(2).lognormal(0, 0.1, light.shape), held * flux / light


def test_an_aperture_full_of_a_neighbours_light_is_not_preferred() -> None:
    mag = np.random.default_rng(1).uniform(11, 18, 800)
    scatter, share = in_slots(mag, np.where(np.arange(800) % 4 == 0, 3.0, 0.0))
    crowded, faint = share[1] < 0.5, mag > 15.5
    before, after = best_slot(mag, scatter * np.where(crowded, 1, np.nan)), best_slot(mag, scatter, share)
    assert (before[crowded & faint] == 1).mean() > 0.9, "in magnitudes the neighbour's light looks like a gain"
    assert (after[crowded] == 0).all()
    assert (after[~crowded & faint & (mag > 16.5)] == 0).all() and (after[~crowded & (mag < 12)] == 1).all()


def test_shares_of_one_change_nothing() -> None:
    mag, scatter = stars()
    table = np.array([scatter, 0.005 * np.hypot(1, 10 ** (0.4 * (mag - 14)))])
    np.testing.assert_array_equal(best_slot(mag, table), best_slot(mag, table, np.ones(table.shape)))


@pytest.mark.parametrize(("n_crowded", "own"), [(60, True), (3, False)])
def test_a_class_of_few_stars_joins_the_next(n_crowded: int, own: bool) -> None:
    mag, scatter = stars()
    crowded = np.arange(600) < n_crowded
    table = np.array([scatter * np.where(crowded, 3, 1), scatter * 1.3])
    share = np.where(crowded, [[0.4], [0.4]], 1.0)
    np.testing.assert_array_equal(best_slot(mag, table, share), crowded if own else np.zeros(600))


def test_a_few_uncrowded_stars_join_the_crowded() -> None:
    mag, scatter = stars()
    lone = np.arange(600) < 3
    table = np.array([scatter * np.where(lone, 1, 3), scatter * 1.3])
    assert (best_slot(mag, table, np.where(lone, [[1.0], [1.0]], 0.4)) == 1).all()


def test_a_star_of_unknown_share_is_judged_with_all() -> None:
    mag, scatter = stars()
    table = np.array([scatter, scatter * 1.3])
    share = np.ones(table.shape)
    share[:, :50], share[:, 50:60] = np.nan, 0.0
    assert (best_slot(mag, table, share) == 0).all()
    assert (best_slot(mag, table, np.full(table.shape, np.nan)) == -1).all()


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
    found = excess_scatter(frame_excess(frame, residual, sigma**2, 4))
    assert found[0] < 0.001 and abs(found[1] / 0.005 - 1) < 0.08 and abs(found[2] / 0.010 - 1) < 0.08
    assert found[3] == pytest.approx(np.median(found[:3]), rel=0.02)  # a frame without stars takes the others' median


@pytest.mark.parametrize("truth", [0.0, 0.0016])
def test_frames_of_few_stars_have_no_excess_by_chance(truth: float) -> None:
    rng = np.random.default_rng(12)
    n_frame, n = 120, 30
    frame = np.repeat(np.arange(n_frame), n)
    sigma = rng.uniform(0.003, 0.005, frame.size)
    cloudy = frame == 7
    residual = rng.standard_normal(frame.size) * np.hypot(sigma, np.where(cloudy, 0.02, truth))
    found = excess_scatter(frame_excess(frame, residual, sigma**2, n_frame))
    rest = np.delete(found, 7)
    assert np.sqrt(np.mean(rest**2)) == pytest.approx(truth, abs=6e-4)
    assert found[7] == pytest.approx(0.02, rel=0.35)


def test_frames_that_differ_keep_their_own_excess() -> None:
    rng = np.random.default_rng(13)
    frame = np.repeat(np.arange(60), 300)
    truth = np.where(np.arange(60) % 2, 0.002, 0.008)
    residual = rng.standard_normal(frame.size) * np.hypot(0.003, truth[frame])
    found = excess_scatter(frame_excess(frame, residual, np.full(frame.size, 9e-6), 60))
    assert np.corrcoef(found, truth)[0, 1] > 0.97
    assert np.median(found[::2]) == pytest.approx(0.008, rel=0.06) and np.median(found[1::2]) == pytest.approx(0.002, abs=6e-4)
