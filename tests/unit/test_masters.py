"""Master frames: normalisation, rejection with reasons, bad pixels."""

from __future__ import annotations

import numpy as np
import pytest

from db.flags import Mask
from reduction.kernels.calibrate import Plane
from reduction.kernels.masters import (
    dead_pixels,
    flat_frame_reject,
    flat_structure,
    hot_pixels,
    master_flat,
    normalise_flat,
    robust_mean,
    stack_plane,
)

SHAPE = (96, 128)


def response(seed: int = 1) -> np.ndarray:
    y, x = np.indices(SHAPE)
    vignetting = 1 - 0.3 * (((x - 64) / 80) ** 2 + ((y - 48) / 80) ** 2)
    truth = vignetting * np.random.default_rng(seed).normal(1.0, 0.01, SHAPE)
    return truth / truth.mean()


def flats(levels: list[float], gain: float = 2.0, seed: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.poisson(level * gain * response()) / gain for level in levels]).astype(np.float32)


def test_robust_mean() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(20.0, 2.0, 100_000)
    values[:500] = 1e5
    values[500] = np.nan
    mean, scatter = robust_mean(values)
    assert mean == pytest.approx(20.0, abs=0.03) and scatter == pytest.approx(2.0, rel=0.02)
    assert np.isnan(robust_mean([np.nan])).all()
    assert robust_mean([5.0, 5.0, 5.0]) == (5.0, 0.0)


def test_stack_plane_carries_masks() -> None:
    cube = np.random.default_rng(4).normal(300, 4, (5, *SHAPE)).astype(np.float32)
    mask = np.zeros(cube.shape, np.uint8)
    mask[:, 3, 3] = Mask.NO_DATA
    mask[1, 4, 4] = Mask.COSMIC
    cube[1, 4, 4] = 9000
    mask[2, 5, 5] = Mask.HOT
    master = stack_plane(cube, mask)
    assert {tuple(p): int(master.mask[tuple(p)]) for p in np.argwhere(master.mask)} == {(3, 3): 1, (5, 5): 4}
    assert master.value[4, 4] < 310 and master.value[3, 3] == 0
    assert master.variance.mean(dtype=float) == pytest.approx(16 / 5, rel=0.05)
    assert not stack_plane(cube[:1]).variance.any()


def test_master_flat_is_the_response_whatever_the_levels() -> None:
    levels = [30000.0, 22000.0, 15000.0, 9000.0, 6000.0]
    flat = master_flat(flats(levels))
    assert flat.value.mean(dtype=float) == pytest.approx(1.0, abs=1e-3)
    ratio = flat.value / response()
    assert ratio.mean() == pytest.approx(1.0, abs=1e-3)
    expected = np.sqrt(np.mean([1 / (2 * level) for level in levels]) / len(levels))
    assert (ratio / ratio.mean()).std() == pytest.approx(expected, rel=0.1)
    assert np.sqrt(flat.variance.mean(dtype=float)) == pytest.approx(expected, rel=0.15)
    assert not flat.mask.any()


def test_master_flat_with_stars_that_move_and_a_pixel_masked_everywhere() -> None:
    cube = flats([20000.0] * 5)
    mask = np.zeros(cube.shape, np.uint8)
    for k in range(5):
        cube[k, 20 + 3 * k : 23 + 3 * k, 40:43] *= 1.5
    mask[:, 7, 7] = Mask.SATURATED
    cube[:, 50, 60] *= 0.2
    flat = master_flat(cube, mask)
    found = {tuple(p): int(flat.mask[tuple(p)]) for p in np.argwhere(flat.mask)}
    assert found == {(7, 7): int(Mask.NO_DATA), (50, 60): int(Mask.DEAD)}
    ratio = np.delete((flat.value / response()).ravel(), 7 * 128 + 7)
    assert np.abs(ratio[20 * 128 : 40 * 128] / np.median(ratio) - 1).max() < 0.05


def test_a_flat_without_light_is_named() -> None:
    cube = flats([20000.0] * 3)
    cube[1] = -1
    with pytest.raises(ValueError, match="mean level"):
        master_flat(cube)
    with pytest.raises(ValueError, match="mean level"):
        normalise_flat(Plane(cube[1], cube[1], np.zeros(SHAPE, np.uint8)))


def test_normalise_flat() -> None:
    value = (response() * 700).astype(np.float32)
    flat, level = normalise_flat(Plane(value, np.full(SHAPE, 49.0, np.float32), np.zeros(SHAPE, np.uint8)))
    assert level == pytest.approx(700, rel=1e-3)
    np.testing.assert_allclose(flat.value * level, value, rtol=1e-6)
    np.testing.assert_allclose(flat.variance * level**2, 49, rtol=1e-6)


def test_flats_are_rejected_with_reasons() -> None:
    structure = [0.001, 0.001, 0.001, 0.001, 0.08]
    reasons = flat_frame_reject([20000, 300, 20000, -5, 20000], [100, 60, 100, 3, 100], [0, 0, 0.3, 0, 0], structure)
    assert reasons[0] == ""
    for reason, word in zip(reasons[1:], ("S/N", "saturated", "no light", "shape"), strict=True):
        assert word in reason


def test_a_cloud_changes_the_shape() -> None:
    cube = flats([20000.0] * 5)
    cube[3] *= np.linspace(0.9, 1.1, SHAPE[1])
    normalised = (cube / cube.mean(axis=(1, 2), keepdims=True)).astype(np.float32)
    normalised[2, 5:9, 5:9] = np.nan
    structure = flat_structure(normalised)
    assert structure[3] > 0.04 and np.delete(structure, 3).max() < 0.002
    assert not flat_structure(normalised[:2]).any()


def test_hot_and_dead_pixels() -> None:
    rng = np.random.default_rng(6)
    value = rng.normal(10, 1, SHAPE) + np.linspace(0, 30, SHAPE[1])
    value[10, 10] += 15
    value[0, 127] += 300
    value[40, 40] = 1e6
    empty = np.zeros(SHAPE, np.uint8)
    empty[40, 40] = Mask.NO_DATA
    dark = Plane(value.astype(np.float32), np.full(SHAPE, 1.0, np.float32), empty)
    assert np.argwhere(hot_pixels(dark)).tolist() == [[0, 127], [10, 10]]
    flat = response().astype(np.float32)
    flat[30, 30] *= 0.1
    assert np.argwhere(dead_pixels(Plane(flat, flat * 0, np.zeros(SHAPE, np.uint8)))).tolist() == [[30, 30]]
