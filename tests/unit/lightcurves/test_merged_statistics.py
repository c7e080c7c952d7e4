"""Statistics that are kept as sums: of nights added up they are those of all values, and a night can be taken off again."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from reduction.lightcurves.kernels.merged_statistics import Frames, StarSums, frames_of, star_sums, statistics_of
from reduction.lightcurves.kernels.statistics import POGSON, light_curve_statistics

N_STAR, N_NIGHT, N_POINT = 40, 12, 30


class Season:
    """Stars from bright to faint, some of them variable, on nights of as many points."""

    def __init__(self, seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        mag = np.linspace(9.0, 18.5, N_STAR)
        shape = (N_NIGHT, N_STAR, N_POINT)
        self.star = np.broadcast_to(np.arange(N_STAR)[:, None], shape)
        self.time = np.broadcast_to(np.arange(N_NIGHT)[:, None, None] + np.linspace(0, 0.3, N_POINT), shape)
        light = 10.0 ** (0.4 * (25.0 - mag))[:, None]
        self.flux_err = np.broadcast_to(np.sqrt((0.002 * light) ** 2 + 200.0**2 + light), shape)
        wave = np.where(np.arange(N_STAR)[:, None] % 7 == 3, 0.1 * np.sin(7.0 * self.time), 0.0)
        self.flux = light * (1 + wave) + self.flux_err * rng.normal(size=shape)
        with np.errstate(invalid="ignore", divide="ignore"):
            positive = np.where(self.flux > 0, self.flux, np.nan)
            self.mag, self.err = 25.0 - 2.5 * np.log10(positive), POGSON * self.flux_err / positive

    def values(self, *nights: int) -> list[np.ndarray]:
        some = list(nights)
        return [v[some].ravel() for v in (self.star, self.time, self.mag, self.err, self.flux, self.flux_err)]

    def frames(self) -> Frames:
        star, _, mag, _, flux, flux_err = self.values(0)
        return frames_of(star, mag, flux, flux_err, n_star=N_STAR)


def added(season: Season, frames: Frames, *nights: int) -> StarSums:
    parts = [star_sums(*season.values(night), frames) for night in nights]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def test_nights_added_up_are_the_season() -> None:
    season = Season()
    frames = season.frames()
    whole = light_curve_statistics(*season.values(*range(N_NIGHT)), n_star=N_STAR)
    # A star at the limit is taken for what its first night says; its values agree to a percent either way.
    same = frames.of_flux == (np.arange(N_STAR) > np.flatnonzero(~frames.of_flux).max())
    found = statistics_of(added(season, frames, *range(N_NIGHT)), frames)
    assert same.all() and 2 < np.count_nonzero(frames.of_flux) < 20
    clear = np.abs(np.arange(N_STAR) - np.flatnonzero(~frames.of_flux).max()) > 2
    for name, rtol in (("n", 0), ("mean", 1e-9), ("rms", 1e-6), ("expected_rms", 1e-9), ("chi2_dof", 1e-6)):
        np.testing.assert_allclose(getattr(found, name)[clear], getattr(whole, name)[clear], rtol=rtol, err_msg=name)
    assert np.nanmax(np.abs(found.median - whole.median)[clear] / whole.rms[clear]) < 0.08
    np.testing.assert_allclose(found.mad_rms[clear], whole.mad_rms[clear], rtol=0.12)


def test_eta_is_of_pairs_within_a_night() -> None:
    season = Season(2)
    frames = season.frames()
    one = statistics_of(added(season, frames, 0), frames)
    whole = light_curve_statistics(*season.values(0), n_star=N_STAR)
    bright = ~frames.of_flux
    np.testing.assert_allclose(one.eta[bright], whole.eta[bright], rtol=1e-6)
    season_eta = statistics_of(added(season, frames, *range(N_NIGHT)), frames).eta
    assert np.median(season_eta[np.arange(N_STAR) % 7 != 3]) == pytest.approx(2.0, abs=0.1)


def test_a_night_is_taken_off_again() -> None:
    season = Season(3)
    frames = season.frames()
    before, night = added(season, frames, 0, 1, 2), added(season, frames, 3)
    back = (before + night) - night
    for one in fields(StarSums):
        np.testing.assert_allclose(getattr(back, one.name), getattr(before, one.name), rtol=1e-9, atol=1e-7, err_msg=one.name)
    assert (back.count == before.count).all()


def test_order_of_nights_does_not_matter() -> None:
    season = Season(4)
    frames = season.frames()
    one, other = added(season, frames, 0, 1, 2), added(season, frames, 2, 0, 1)
    np.testing.assert_array_equal(one.count, other.count)
    np.testing.assert_allclose(statistics_of(one, frames).rms, statistics_of(other, frames).rms, rtol=1e-10)


def test_the_bins_reach_far_and_the_middle_is_fine() -> None:
    rng = np.random.default_rng(5)
    n = 20_000
    value = 12.0 + 0.01 * rng.standard_cauchy(n)
    error, star = np.full(n, 0.01), np.zeros(n, dtype=int)
    flux = 10.0 ** (0.4 * (25.0 - value))
    frames = frames_of(star, value, flux, flux * error / POGSON, n_star=1)
    found = statistics_of(star_sums(star, np.arange(n), value, error, flux, flux * error / POGSON, frames), frames)
    assert found.median[0] == pytest.approx(np.median(value), abs=0.0005)
    assert found.mad_rms[0] == pytest.approx(1.4826 * np.median(np.abs(value - np.median(value))), rel=0.03)


def test_stars_without_a_value_have_none() -> None:
    frames = frames_of([0], [12.0], [1e5], [100.0], n_star=2)
    found = statistics_of(star_sums([0], [0.0], [12.0], [0.001], [1e5], [100.0], frames), frames)
    assert found.n.tolist() == [1, 0]
    assert found.mean[0] == pytest.approx(12.0) and np.isnan(found.mean[1]) and np.isnan(found.rms).all()
    assert found.median[0] == pytest.approx(12.0, abs=0.001)
