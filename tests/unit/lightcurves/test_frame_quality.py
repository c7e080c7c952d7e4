"""Frames that are judged: planted clouds, trails and lost focus are named with their numbers, clear nights are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from reduction.lightcurves.kernels.frame_quality import EXCLUDED, KEPT, WEIGHED, FrameQuality, frame_quality
from reduction.lightcurves.kernels.magnitude_fit import fit_to_reference

N_FRAME, N_STAR = 40, 300


def judged(
    clouds: dict[int, tuple[float, float]] | None = None,
    *,
    uniform: dict[int, float] | None = None,
    fwhm: dict[int, float] | None = None,
    ellipticity: dict[int, float] | None = None,
    noisy: dict[int, float] | None = None,
    n_frame: int = N_FRAME,
    n_star: int = N_STAR,
    error_scale: float = 1.0,
    seed: int = 1,
) -> FrameQuality:
    """A night fitted with a second-order polynomial; `clouds` of some depth (mag) and size on some frames."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(-1, 1, (2, n_star))
    mag, fold = rng.uniform(10, 14, n_star), rng.integers(0, 5, n_star)
    frame, star = np.repeat(np.arange(n_frame), n_star), np.tile(np.arange(n_star), n_frame)
    airmass = 1.0 + 0.8 * np.linspace(-0.5, 1, n_frame) ** 2
    design = np.stack([np.ones(n_star), x, y, x * x, x * y, y * y], axis=1)[star]
    sigma = 0.002 * 10 ** (0.2 * (mag - 11))
    scale = np.ones(n_frame)
    for k, factor in (noisy or {}).items():
        scale[k] = factor
    observed = mag[star] + 0.15 * airmass[frame] + rng.normal(0, 0.002, n_frame)[frame]
    observed += (scale[frame] * np.hypot(sigma, 0.002)[star]) * rng.normal(size=star.size)
    observed += (design[:, 1:] * rng.normal(0, 0.003, (n_frame, 5))[frame]).sum(axis=1)
    observed[rng.random(star.size) < 0.01] += 0.5
    for k, (depth, size) in (clouds or {}).items():
        u, v = rng.uniform(-0.7, 0.7, 2)
        observed[frame == k] += depth * np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * size**2))
    for k, lost in (uniform or {}).items():
        observed[frame == k] += lost
    ends = np.arange(n_frame + 1) * n_star
    fits = fit_to_reference(ends, observed, sigma[star], star, mag, np.zeros(n_star), design, fold)
    width, shape = 3.0 + rng.normal(0, 0.1, n_frame), 0.08 + rng.normal(0, 0.015, n_frame)
    for values, planted in ((width, fwhm), (shape, ellipticity)):
        for k, value in (planted or {}).items():
            values[k] = value
    residual, error = observed - mag[star] - fits.fitted, error_scale * np.hypot(sigma, 0.002)[star]
    return frame_quality(ends, residual, error, x[star], y[star], fits.coeff_all[:, 0], airmass, width, shape)


def flagged(quality: FrameQuality) -> set[int]:
    return {k for k, state in enumerate(quality.state) if state != KEPT}


@pytest.mark.parametrize("depth", [0.05, 0.1, 0.2, 0.5])
@pytest.mark.parametrize("size", [0.2, 0.4])
def test_patchy_clouds_are_flagged_and_no_other_frame(depth: float, size: float):
    clouds = dict.fromkeys((7, 20, 33), (depth, size))
    quality = judged(clouds)
    assert flagged(quality) == set(clouds)
    for k in clouds:
        assert "patchy clouds" in quality.reason[k]
        assert f"{quality.pattern[k]:.4f} mag" in quality.reason[k]
        assert 0.0 <= quality.factor[k] < 1.0
    if depth == 0.5:
        assert {quality.state[k] for k in clouds} == {EXCLUDED}


def test_a_pattern_is_measured():
    depth, size = 0.3, 0.3
    patterns = [judged({5: (depth, size)}, seed=seed).pattern[5] for seed in range(5)]
    # What a second-order polynomial leaves of the bump, on cells of a sixth of the frame.
    assert 0.02 < np.median(patterns) < 0.12


def test_uniform_extinction_is_only_noted():
    lost = {5: 0.3, 6: 0.8, 30: 1.5}
    quality = judged(uniform=lost)
    assert flagged(quality) == set()
    for k, value in lost.items():
        assert quality.extinction[k] == pytest.approx(value, abs=0.02)
        assert quality.reason[k] == f"{quality.extinction[k]:.2f} mag of light lost by all stars alike"
    assert all(reason == "" for k, reason in enumerate(quality.reason) if k not in lost)
    np.testing.assert_array_equal(quality.factor, 1.0)


def test_a_bright_sky_is_noted():
    n, unknown = 6, np.full(6, np.nan)
    sky, sun = np.array([900.0, 100.0, 110.0, 95.0, 100.0, 450.0]), np.array([-8.0, -30.0, -40.0, -40.0, -30.0, -25.0])
    empty = np.zeros(0)
    quality = frame_quality(np.zeros(n + 1), empty, empty, empty, empty, unknown, unknown, unknown, unknown, sky, sun)
    assert quality.state == (KEPT,) * n
    assert quality.reason[0] == "twilight, Sun at -8 deg: sky 8.6 times as bright as usual on the night"
    assert quality.reason[5] == "sky 4.3 times as bright as usual on the night"
    assert quality.reason[1:5] == ("",) * 4


def test_extinction_of_half_a_night_is_told_from_the_clear_half():
    lost = dict.fromkeys(range(18), 0.4)
    quality = judged(uniform=lost)
    assert all(quality.extinction[k] > 0.3 for k in lost)
    assert np.abs(quality.extinction[18:]).max() < 0.1


def test_trailed_and_defocused():
    quality = judged(fwhm={3: 4.5, 8: 7.0}, ellipticity={12: 0.3, 15: 0.6}, noisy={8: 3.0, 15: 3.0})
    assert {k: quality.state[k] for k in (3, 8, 12, 15)} == {3: WEIGHED, 8: EXCLUDED, 12: WEIGHED, 15: EXCLUDED}
    assert flagged(quality) == {3, 8, 12, 15}
    assert "FWHM 1.5" in quality.reason[3]
    assert "trailed: ellipticity 0.5" in quality.reason[15]
    assert quality.width[8] == pytest.approx(7.0 / 3.0, rel=0.05)
    assert quality.elongation[15] == pytest.approx(0.52, abs=0.03)


def test_wide_and_long_stars_that_scatter_as_usual_are_measured_well():
    quality = judged(fwhm={8: 7.0}, ellipticity={15: 0.6})
    assert {quality.state[k] for k in (8, 15)} == {WEIGHED}
    assert quality.factor[8] == pytest.approx((1.3 * 3.0 / 7.0) ** 2, rel=0.1)


def test_a_frame_that_scatters_loses_weight_as_its_variance_grows():
    quality = judged(noisy={10: 3.0})
    assert quality.state[10] == WEIGHED
    assert quality.factor[10] == pytest.approx((1.5 / 3.0) ** 2, rel=0.4)
    assert flagged(quality) == {10}


@pytest.mark.parametrize("n_star", [60, 300, 1000])
@pytest.mark.parametrize("error_scale", [0.5, 1.0, 2.0])
def test_clear_nights_give_no_alarm(n_star: int, error_scale: float):
    alarms = sum(len(flagged(judged(n_star=n_star, error_scale=error_scale, seed=seed))) for seed in range(12))
    assert alarms <= 0.01 * 12 * N_FRAME


def test_what_is_unknown_is_not_judged():
    nothing = np.full(3, np.nan)
    quality = frame_quality([0, 0, 2, 4], np.zeros(4), np.full(4, 0.01), np.zeros(4), np.zeros(4), nothing, nothing, nothing, nothing)
    assert quality.state == (KEPT,) * 3
    assert quality.reason == ("",) * 3
    assert np.isnan(quality.pattern).all()
    assert np.isnan(quality.extinction).all()


def test_few_frames_are_judged_by_what_is_bad_on_any_night():
    quality = judged({1: (0.3, 0.3)}, n_frame=3, fwhm={0: 3.0, 1: 3.0, 2: 7.5})
    assert quality.state[1] != KEPT
    assert quality.state[2] == WEIGHED
    assert quality.state[0] == KEPT
