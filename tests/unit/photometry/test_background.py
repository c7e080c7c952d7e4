"""Background: unbiased on integer data, true to gradients, and honest about its error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from reduction.photometry.kernels.background import background
from reduction.photometry.kernels.object_mask import object_mask
from reduction.photometry.kernels.sky_boxes import clip_factors, soft_clipped_mean

SHAPE = (256, 320)


def nothing() -> np.ndarray:
    return np.zeros(SHAPE, bool)


def unit() -> np.ndarray:
    return np.ones(SHAPE, np.float32)


@pytest.mark.parametrize("fraction", np.arange(0, 1, 0.125))
@pytest.mark.parametrize("sigma", [0.6, 1.0, 1.7])
def test_integer_data_at_any_level(fraction: float, sigma: float) -> None:
    rng = np.random.default_rng(11)
    shape = (700, 700)
    data = np.rint(rng.normal(353 + fraction, sigma, shape)).astype(np.float32)
    sky = background(data, np.full(shape, sigma**2, np.float32), np.zeros(shape, bool))
    # What rounding itself does to the mean of this draw is not the background's fault.
    assert sky.value.mean(dtype=float) == pytest.approx(353 + fraction, abs=0.01)
    assert sky.image(shape).mean(dtype=float) - data.mean(dtype=float) == pytest.approx(0.0, abs=0.003)


def test_a_hard_clip_would_fail_that_test() -> None:
    rng = np.random.default_rng(11)
    data = np.rint(rng.normal(353.02, 1.0, 2_000_000))
    kept = data[np.abs(data - 353.02) <= 3.0]
    assert abs(kept.mean() - 353.02) > 0.01


@pytest.mark.parametrize("excluded_part", [0.0, 0.4])
def test_error_is_the_scatter_of_the_map(excluded_part: float) -> None:
    rng = np.random.default_rng(3)
    pulls, errors = [], []
    for _ in range(12):
        data = rng.normal(100.0, 2.0, SHAPE).astype(np.float32)
        sky = background(data, 4 * unit(), rng.random(SHAPE) < excluded_part)
        pulls.append(((sky.value - 100.0) / sky.error).ravel())
        errors.append(sky.error.mean())
    assert np.std(pulls) == pytest.approx(1.0, abs=0.2)
    assert np.mean(errors) < 0.1


def test_a_gradient_is_not_bent_at_the_edges() -> None:
    y, x = np.indices(SHAPE)
    truth = 300 + 0.1 * x - 0.05 * y
    sky = background(truth.astype(np.float32), unit(), nothing())
    np.testing.assert_allclose(sky.image(SHAPE), truth, atol=0.12)
    sky = background(truth.astype(np.float32), unit(), object_mask(SHAPE, [100.0, 319.0], [100.0, 0.0], [40.0, 60.0]))
    np.testing.assert_allclose(sky.image(SHAPE), truth, atol=0.3)


def test_at_and_image_say_the_same() -> None:
    rng = np.random.default_rng(4)
    sky = background(rng.normal(50, 3, SHAPE).astype(np.float32), 9 * unit(), nothing(), box=24)
    image = sky.image(SHAPE)
    y, x = (a.ravel() for a in np.indices(SHAPE))
    value, error = sky.at(x, y)
    np.testing.assert_allclose(value.reshape(SHAPE), image, atol=1e-4)
    assert (error > 0).all()
    # Nodes are met exactly; outside of the grid the border holds, NaN stays NaN.
    np.testing.assert_allclose(sky.at([2 * 24 - 0.5], [3 * 24 - 0.5])[0], sky.value[3, 2], rtol=1e-6)
    far, _ = sky.at([-1000.0, 1e6], [-1000.0, 1e6])
    assert far == pytest.approx([sky.value[0, 0], sky.value[-1, -1]], rel=1e-5)
    assert np.isnan(sky.at([np.nan], [5.0])[0][0])


def test_stars_that_were_not_masked_hardly_matter() -> None:
    rng = np.random.default_rng(5)
    data = rng.normal(100.0, 2.0, SHAPE)
    y, x = np.indices(SHAPE)
    for star_x, star_y in zip(rng.uniform(0, 320, 30), rng.uniform(0, 256, 30), strict=True):
        data += 400 * np.exp(-0.5 * ((x - star_x) ** 2 + (y - star_y) ** 2) / 1.5**2)
    sky = background(data.astype(np.float32), 4 * unit(), nothing())
    assert abs(sky.value.mean(dtype=float) - 100.0) < 0.25
    assert data.mean() > 102


def test_boxes_without_sky_are_filled_and_their_error_grows() -> None:
    rng = np.random.default_rng(6)
    truth = 200 + 0.02 * np.indices(SHAPE)[1]
    excluded = nothing()
    excluded[:, 100:260] = True
    sky = background((truth + rng.normal(0, 1, SHAPE)).astype(np.float32), unit(), excluded, smooth=24.0)
    value, error = sky.at([20.0, 180.0, 310.0], [128.0] * 3)
    assert np.all(np.abs(value - (200 + 0.02 * np.array([20, 180, 310]))) < 4 * error)
    assert error[1] > 2 * error[0]


def test_no_sky_at_all() -> None:
    sky = background(unit(), unit(), ~nothing())
    assert np.isnan(sky.value).all() and sky.n_sky == 0
    assert np.isnan(sky.at([5.0], [5.0])[0]).all()


def test_non_finite_pixels_and_constant_data() -> None:
    data = unit() * 7
    data[40:60, 40:60] = np.nan
    data[0, 0] = np.inf
    sky = background(data, 0 * unit(), nothing())
    np.testing.assert_allclose(sky.value, 7.0, rtol=1e-6)
    assert np.isfinite(sky.error).all()


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="shape"):
        background(unit(), unit()[1:], nothing())
    with pytest.raises(ValueError, match="box"):
        background(unit(), unit(), nothing(), box=1)


def test_object_mask_is_a_disc() -> None:
    mask = object_mask((50, 60), [20.0, np.nan, 59.0, -3.0], [30.0, 10.0, 0.0, 49.0], [5.0, 9.0, 1.0, 4.0])
    y, x = np.indices(mask.shape)
    truth = np.zeros(mask.shape, bool)
    for star_x, star_y, radius in ((20, 30, 5), (59, 0, 1), (-3, 49, 4)):
        truth |= np.hypot(x - star_x, y - star_y) <= radius
    np.testing.assert_array_equal(mask, truth)


def test_object_mask_with_a_trail() -> None:
    mask = object_mask((50, 100), [20.0], [25.0], 4.0, trail_x=40.0, trail_half_width=2.0)
    assert mask[25, 20:63].all() and not mask[25, 63:].any()
    assert mask[23:28, 40].all() and not mask[[22, 28], 40].any()
    assert mask[21:30, 20].all() and not mask[25, :16].any()
    assert not object_mask((5, 5), [], [], []).any()


@pytest.mark.realdata
def test_real_sky_between_halves(shared_data: Path) -> None:
    """Two disjoint halves of a real frame's sky pixels give the same background within their errors."""
    data = fits.getdata(min((shared_data / "hatp32").glob("*.FITS"))).astype(np.float32)
    bright = data > 380
    y, x = np.nonzero(bright)
    stars = object_mask(data.shape, x, y, 8.0)
    board = np.indices(data.shape).sum(axis=0) % 2 == 0
    a, b = (background(data, np.ones_like(data), stars | half) for half in (board, ~board))
    pull = (a.value - b.value) / np.hypot(a.error, b.error)
    assert np.abs(a.value - b.value)[1:-1, 1:-1].max() < 0.3
    assert np.std(pull) < 1.5


def test_like_values_are_not_given_up_for_the_outliers() -> None:
    """Where all that is left is alike, its scatter of 0 must not call back what was clipped."""
    values = np.full(400, 5.0, np.float32)
    values[:40] = 100.0
    assert soft_clipped_mean(values, 400, 1.0, 3.0, 0.0, clip_factors(3.0)) == (5.0, 0.0, 0.0)


def test_the_clipped_mean_is_that_of_its_own_weights() -> None:
    rng = np.random.default_rng(30)
    values = np.concatenate([rng.normal(50.0, 2.0, 700), rng.normal(58.0, 4.0, 300)]).astype(np.float32)
    factors = clip_factors(3.0)
    centre, sigma, variance = soft_clipped_mean(values.copy(), len(values), 2.0, 3.0, 0.0, factors)
    away = values - centre
    w = np.clip(3.5 - np.abs(away) / sigma, 0.0, 1.0)
    assert abs(float(np.sum(w * away) / np.sum(w))) < 2e-3 * sigma
    assert np.sqrt(np.sum(w * away**2) / np.sum(w) / factors[0, 0]) == pytest.approx(sigma, rel=0.02)
    assert variance == pytest.approx(factors[0, 1] * sigma**2 / float(w.sum()), rel=0.02)
