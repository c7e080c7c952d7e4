"""Master frames: images that do not belong, hot and dead pixels, and whether darks are linear."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from db.flags import Mask
from reduction.calibration.kernels.calibration import Plane
from reduction.calibration.kernels.master_frames import (
    dark_linearity,
    dead_pixels,
    hot_pixels,
    image_statistics,
    outlier_reasons,
    robust_mean,
)
from reduction.calibration.kernels.stack import stack_bands

SHAPE = (200, 260)
GAIN, READ_NOISE = 2.0, 5.0


def plane(value: np.ndarray, variance: float | np.ndarray = 1.0) -> Plane:
    return Plane(value.astype(np.float32), np.broadcast_to(np.float32(variance), value.shape).copy(), np.zeros(value.shape, np.uint8))


def test_robust_mean() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(20.0, 2.0, 100_000)
    values[:500] = 1e5
    values[500] = np.nan
    mean, scatter = robust_mean(values)
    assert mean == pytest.approx(20.0, abs=0.03) and scatter == pytest.approx(2.0, rel=0.02)
    assert np.isnan(robust_mean([np.nan])).all()
    assert robust_mean([5.0, 5.0, 5.0]) == (5.0, 0.0)


def spoil(value: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    y, x = np.indices(value.shape)
    changes = {
        "leak": 8 * np.exp(-(((x - value.shape[1]) / 60) ** 2 + (y / 60) ** 2) / 2),
        "corner": 12 * np.exp(-(((x - value.shape[1]) / 12) ** 2 + (y / 12) ** 2) / 2),
        "bands along x": 2.0 * np.sin(2 * np.pi * y / 7),
        "bands along y": 2.0 * np.sin(2 * np.pi * x / 5),
        "half": np.where(y >= value.shape[0] // 2, 3.0, 0.0),
        "level": np.full(value.shape, 40.0),
        "noise": rng.normal(0, 12, value.shape),
    }
    return value + changes[kind]


@pytest.mark.parametrize("n", [4, 12])
@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("leak", "structure"),
        ("corner", "in a cell"),
        ("bands along x", "bands along x"),
        ("bands along y", "bands along y"),
        ("half", "structure"),
        ("level", "level"),
        ("noise", "noise"),
    ],
)
def test_a_planted_bad_bias_is_named(kind: str, word: str, n: int) -> None:
    rng = np.random.default_rng(7)
    pattern = rng.normal(300, 3, SHAPE)
    images = [pattern + rng.normal(0, READ_NOISE, SHAPE) for _ in range(n)]
    images[2] = spoil(images[2], kind, rng)
    reasons = outlier_reasons([image_statistics(plane(image)) for image in images])
    assert [k for k, reason in enumerate(reasons) if reason] == [2]
    assert word in reasons[2] and ("at most" in reasons[2] or "allowed" in reasons[2])


def test_good_images_are_kept_also_when_all_have_structure_of_their_own() -> None:
    rng = np.random.default_rng(8)
    for n in (3, 5, 20):
        for amplitude in (0.0, 1.0):
            images = []
            for _ in range(n):
                rows = amplitude * ndimage.gaussian_filter1d(rng.normal(0, 3, SHAPE[0]), 4)[:, None]
                images.append(300 + rng.normal(0, 0.2) + rows + rng.normal(0, READ_NOISE, SHAPE))
            assert not any(outlier_reasons([image_statistics(plane(image)) for image in images]))


def test_several_bad_images_of_different_kinds() -> None:
    rng = np.random.default_rng(9)
    images = [300 + rng.normal(0, READ_NOISE, SHAPE) for _ in range(9)]
    for k, kind in ((1, "leak"), (4, "half"), (6, "level")):
        images[k] = spoil(images[k], kind, rng)
    masked = Plane(np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.float32), np.full(SHAPE, Mask.NO_DATA, np.uint8))
    statistics = [*(image_statistics(plane(image)) for image in images), image_statistics(masked)]
    assert [k for k, reason in enumerate(outlier_reasons(statistics)) if reason] == [1, 4, 6, 9]
    assert not any(outlier_reasons(statistics[:2]))


def dark_frames(n: int, exptime: float, current: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    electrons = rng.poisson(current * exptime * GAIN, (n, *current.shape)) + rng.normal(0, READ_NOISE * GAIN, (n, *current.shape))
    return (electrons / GAIN).astype(np.float32)


def master(cube: np.ndarray) -> Plane:
    zero = np.zeros(cube.shape, np.uint8)
    found = stack_bands(
        lambda first, last: (cube[:, first:last], zero[:, first:last]),
        cube.shape[1:],
        n=len(cube),
        noise=READ_NOISE,
        photon_noise=1 / GAIN,
    )
    return Plane(found.value, found.variance, found.mask)


def current(rng: np.random.Generator, hot: float = 0.01) -> np.ndarray:
    """Dark current, ADU/s: a cold floor, and hot pixels of all degrees."""
    rate = np.full(SHAPE, 0.02)
    warm = rng.random(SHAPE) < hot
    rate[warm] += 0.5 * (1 + rng.pareto(1.0, int(warm.sum()))).clip(max=200)
    return rate


def test_a_master_dark_serves_a_shorter_exposure() -> None:
    rng = np.random.default_rng(10)
    rate = current(rng)
    long = master(dark_frames(15, 300.0, rate, rng))
    hot = rate > 0.5
    residual = long.value * (60 / 300) - rate * 60
    assert abs(np.mean(residual[hot] / (rate[hot] * 60))) < 0.02
    assert np.mean(residual[hot] ** 2 / (long.variance[hot] / 25)) == pytest.approx(1.0, abs=0.15)


def test_hot_mask_is_complete_from_its_limit_on() -> None:
    rng = np.random.default_rng(11)
    error = READ_NOISE / np.sqrt(10)
    truth = np.zeros((400, 500))
    hot = rng.random(truth.shape) < 0.02
    truth[hot] = 8 * error
    value = truth + 30 + np.linspace(0, 20, 500) + rng.normal(0, error, truth.shape)
    found = hot_pixels(plane(value, error**2))
    assert found[hot].mean() > 0.99
    assert found[~hot].mean() < 1e-4


def test_hot_and_dead_pixels() -> None:
    rng = np.random.default_rng(6)
    value = rng.normal(10, 1, SHAPE) + np.linspace(0, 30, SHAPE[1])
    value[10, 10] += 15
    value[0, -1] += 300
    value[40, 40] = 1e6
    dark = plane(value)
    dark.mask[40, 40] = Mask.NO_DATA
    assert np.argwhere(hot_pixels(dark)).tolist() == [[0, SHAPE[1] - 1], [10, 10]]
    dark.mask[:] = Mask.NO_DATA
    assert not hot_pixels(dark).any()
    y, x = np.indices(SHAPE)
    flat = (1 - 0.4 * ((x / 130 - 1) ** 2 + (y / 100 - 1) ** 2) / 2) * rng.normal(1, 0.01, SHAPE)
    flat[30, 30] *= 0.1
    flat[0, 0] *= 0.3
    assert np.argwhere(dead_pixels(plane(flat, 1e-6))).tolist() == [[0, 0], [30, 30]]


@pytest.mark.parametrize("offset", [0.0, 1.5])
def test_linear_darks_are_told_so(offset: float) -> None:
    rng = np.random.default_rng(12)
    rate = current(rng)
    short, long = (master(dark_frames(10, t, rate, rng)) for t in (60.0, 300.0))
    # A bias that drifted between the sets is no dark signal.
    long.value[:] += np.float32(offset)
    slope, error, n = dark_linearity(short, long, 5.0)
    assert n >= 30 and error < 0.02 * 5
    assert abs(slope - 5.0) < min(4 * error, 0.02 * 5)


def test_hot_pixels_that_saturate_are_not_linear() -> None:
    rng = np.random.default_rng(13)
    rate = current(rng)
    short = master(dark_frames(10, 60.0, rate, rng))
    long = master(dark_frames(10, 300.0, rate, rng))
    bent = Plane((long.value / (1 + np.maximum(long.value, 0) / 5000)).astype(np.float32), long.variance, long.mask)
    slope, error, n = dark_linearity(short, bent, 5.0)
    assert n > 30 and slope < 5.0 - 4 * error and slope < 4.9


def test_a_glow_that_saturates_is_not_linear() -> None:
    rng = np.random.default_rng(14)
    rate = current(rng, 0.003)
    y, x = np.indices(SHAPE)
    glow = np.exp(-(((x - SHAPE[1]) / 50) ** 2 + (y / 50) ** 2) / 2)
    short = master(dark_frames(10, 60.0, rate, rng) + (30 * glow).astype(np.float32))
    for factor, linear in ((5.0, True), (2.5, False)):
        long = master(dark_frames(10, 300.0, rate, rng) + (30 * factor * glow).astype(np.float32))
        slope, error, _ = dark_linearity(short, long, 5.0)
        assert (abs(slope - 5.0) < max(4 * error, 0.1)) == linear


def test_cold_darks_tell_nothing() -> None:
    rng = np.random.default_rng(15)
    short, long = (plane(rng.normal(0, 1, SHAPE)) for _ in range(2))
    slope, error, n = dark_linearity(short, long, 5.0)
    assert np.isnan(slope) and np.isnan(error) and n == 0
    with pytest.raises(ValueError, match="ratio"):
        dark_linearity(short, plane(np.zeros((3, 4))), 5.0)
