"""The joint solution of a season: exact without noise, as dense least squares, and the judge of the iteration."""

from __future__ import annotations

import numpy as np
import pytest
from simulated_season import GROUP, Season, simulated_season

from reduction.lightcurves.kernels.reference import iterate
from reduction.lightcurves.kernels.season import SeasonSolution, solve_season


def about_the_mean(season: Season, values: np.ndarray) -> np.ndarray:
    """Values of the measurements less each star's median."""
    medians = np.array([np.median(values[season.star == k]) if (season.star == k).any() else 0.0 for k in range(season.true_mag.size)])
    return values - medians[season.star]


def solved(season: Season, start: int = 5, **options: object) -> SeasonSolution:
    """With the magnitudes of a frame as the first reference."""
    s = season
    return solve_season(s.frame, s.star, s.mag, s.sigma, s.design, s.fold, start=s.first(start), group=GROUP, **options)  # type: ignore[arg-type]


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def test_exact_without_noise():
    season = simulated_season(noise=0.0, wild=0.0)
    solution = solved(season)
    error = about_the_mean(season, season.mag - solution.mag - season.correction)
    assert np.abs(error).max() < 1e-6
    residual = season.mag - solution.star_mag[season.star] - (season.design * solution.coeff_all[season.frame]).sum(axis=1)
    assert np.abs(residual).max() < 1e-6


def test_as_dense_least_squares():
    season = simulated_season(2, 4, 40, wild=0.0)
    solution = solved(season, clip=1e6, tolerance=0.0, most_rounds=1)
    n_star, p = season.true_mag.size, GROUP.size
    matrix = np.zeros((season.mag.size, n_star + season.n_frame * p))
    rows = np.arange(season.mag.size)
    matrix[rows, season.star] = 1.0
    number = np.bincount(season.frame)
    # As many terms as the frame's stars can bear.
    used = [max(g for g in np.unique(GROUP) if n >= 5 * np.count_nonzero(g >= GROUP)) >= GROUP for n in number]
    for k in range(p):
        there = np.array(used)[season.frame, k]
        matrix[rows[there], n_star + season.frame[there] * p + k] = season.design[there, k]
    weight = 1 / np.sqrt(season.sigma**2 + 0.02**2)
    found = np.linalg.lstsq(matrix * weight[:, None], season.mag * weight, rcond=1e-12)[0]
    mine = solution.star_mag[season.star] + (season.design * solution.coeff_all[season.frame]).sum(axis=1)
    np.testing.assert_allclose(mine, matrix @ found, rtol=0, atol=1e-7)


def test_what_no_data_hold_is_that_of_the_start():
    season = simulated_season(noise=0.0, wild=0.0, drift=0.0)
    tilted = season.true_mag + 0.03
    solution = solve_season(season.frame, season.star, season.mag, season.sigma, season.design, season.fold, start=tilted, group=GROUP)
    seen = np.isfinite(solution.star_mag)
    np.testing.assert_allclose(solution.star_mag[seen], tilted[seen], rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_was_put_in_is_recovered(seed: int):
    season = simulated_season(n_star=300, seed=seed)
    solution = solved(season)
    error = about_the_mean(season, (season.mag - solution.mag) - season.correction)
    assert rms(error) < 1e-3
    wild = np.abs(season.mag - season.true_mag[season.star] - season.correction) > 0.3
    assert (solution.weight[wild] == 0).mean() > 0.97


@pytest.mark.parametrize("seed", [1, 2])
def test_the_iteration_ends_where_the_season_does(seed: int):
    season = simulated_season(n_star=300, seed=seed)
    s = season
    result = iterate(s.frame, s.star, s.mag, s.sigma, s.design, s.fold, start=5, group=GROUP, fit_sigma=0.05)
    solution = solved(season)
    difference = about_the_mean(season, result.mag - solution.mag)
    assert rms(difference) < 5e-4
    error = about_the_mean(season, (s.mag - result.mag) - s.correction)
    assert rms(error) < 1e-3


def test_the_first_frame_does_not_matter():
    season = simulated_season(n_star=300)
    one, other = solved(season, 5), solved(season, 30)
    assert rms(about_the_mean(season, one.mag - other.mag)) < 2e-4
    assert np.nanmax(np.abs(one.star_mag - other.star_mag)) > 1e-3  # but for what no data hold


def test_a_dip_is_not_diluted():
    season = simulated_season(2, 20, 60, noise=0.0, wild=0.0)
    star = int(np.argmin(np.abs(season.true_mag - 11) + 10 * (np.bincount(season.star, minlength=60) < 36)))
    dip = (season.star == star) & (season.frame % 20 >= 14)
    dipped = Season(**{**vars(season), "mag": season.mag + 0.01 * dip})
    solution, before = solved(dipped), solved(season)
    depth = (solution.mag - before.mag)[dip].mean() - (solution.mag - before.mag)[(season.star == star) & ~dip].mean()
    assert depth == pytest.approx(0.01, rel=1e-3)
    joint = (season.design[dip] * (solution.coeff_all - before.coeff_all)[season.frame[dip]]).sum(axis=1)
    assert abs(joint.mean()) > 1e-4  # by all stars together it would be


def test_unusable_measurements_are_corrected_but_do_not_count():
    season = simulated_season(2, 10, 100)
    eligible = np.random.default_rng(2).random(season.mag.size) < 0.9
    spoiled = np.where(eligible, season.mag, season.mag + 3.0)
    one = solved(season, eligible=eligible)
    s = Season(**{**vars(season), "mag": spoiled})
    other = solve_season(s.frame, s.star, s.mag, s.sigma, s.design, s.fold, start=season.first(5), group=GROUP, eligible=eligible)
    np.testing.assert_array_equal(one.coeff, other.coeff)
    np.testing.assert_allclose(other.mag - one.mag, np.where(eligible, 0.0, 3.0), rtol=0, atol=1e-12)
    assert not one.weight[~eligible].any()


def test_rows_out_of_order_are_refused():
    season = simulated_season(1, 3, 30)
    with pytest.raises(ValueError, match="sorted by frame"):
        solve_season(
            *(season.frame[::-1], season.star, season.mag, season.sigma, season.design, season.fold), start=season.first(0), group=GROUP
        )
