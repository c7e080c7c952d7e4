"""Overscan: the level, its variance by experiment, and everything that real overscans do."""

from __future__ import annotations

import numpy as np
import pytest

from reduction.calibration.kernels.overscan import subtract_overscan, trim_overscan

SHAPE = (40, 50)


def raw(value: float = 1000.0) -> np.ndarray:
    return np.full(SHAPE, value, np.float32)


def overscanned(ny: int = 60, nx: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """Frame whose level drifts by row; the last 16 columns are overscan."""
    rng = np.random.default_rng(9)
    drift = 1000 + 5 * np.sin(np.arange(ny) / 12.0)
    light = rng.uniform(50, 100, (ny, nx - 16))
    frame = np.hstack([light, np.zeros((ny, 16))]) + drift[:, None]
    frame[:, -16:] += rng.normal(0, 1.0, (ny, 16))
    return frame.astype(np.float32), light


def strips(rng: np.random.Generator, level: np.ndarray, *, width: int = 24, noise: float = 4.0) -> np.ndarray:
    """Frame without light or noise in its 4 columns, followed by an overscan of integers."""
    over = np.rint(level[:, None] + rng.normal(0, noise, (level.size, width)))
    return np.hstack([np.repeat(level[:, None], 4, axis=1), over]).astype(np.float32)


def test_overscan_columns_give_a_level_for_each_row() -> None:
    frame, light = overscanned()
    frame[30, -3] += 5000  # a cosmic ray in the overscan
    out = trim_overscan(frame, (0, 64, 0, 60), (64, 80, 0, 60), smooth=2.0)
    assert out.shape == (60, 64) and out.dtype == np.float32
    np.testing.assert_allclose(out, light, atol=0.7)
    np.testing.assert_allclose(trim_overscan(frame.T, (0, 60, 0, 64), (0, 60, 64, 80), smooth=2.0), light.T, atol=0.7)


@pytest.mark.parametrize("how", [{"smooth": 3.0}, {"smooth": 0.0}, {"order": 3}, {"order": 0}])
def test_the_side_does_not_matter(how: dict[str, float]) -> None:
    frame, _ = overscanned()
    right = subtract_overscan(frame, (0, 64, 0, 60), (64, 80, 0, 60), **how)
    left = subtract_overscan(np.ascontiguousarray(frame[:, ::-1]), (16, 80, 0, 60), (0, 16, 0, 60), **how)
    top = subtract_overscan(np.ascontiguousarray(frame.T), (0, 60, 0, 64), (0, 60, 64, 80), **how)
    bottom = subtract_overscan(np.ascontiguousarray(frame[:, ::-1].T), (0, 60, 16, 80), (0, 60, 0, 16), **how)
    assert right.level.shape == right.variance.shape == (60, 1) and top.level.shape == top.variance.shape == (1, 60)
    for other in (left.level[:, 0], top.level[0], bottom.level[0]):
        np.testing.assert_allclose(other, right.level[:, 0], rtol=1e-6)
    np.testing.assert_allclose(top.variance[0], right.variance[:, 0], rtol=1e-4)
    np.testing.assert_allclose(left.data[:, ::-1], right.data, atol=1e-3)


def test_overscan_in_a_corner_gives_one_level() -> None:
    frame = raw(500.0)
    frame[:5, :5] = 100.0
    out = subtract_overscan(frame, (10, 50, 10, 40), (0, 5, 0, 5))
    np.testing.assert_allclose(out.data, 400.0)
    assert out.level.shape == out.variance.shape == (1, 1) and out.variance[0, 0] == 0.0


def test_trim_alone_copies() -> None:
    frame = raw()
    out = subtract_overscan(frame, (1, 3, 2, 5), None)
    out.data[:] = 0
    assert out.data.shape == (3, 2) and (frame == 1000).all() and not out.variance.any() and not out.level.any()
    assert trim_overscan(frame, None, None).shape == SHAPE


@pytest.mark.parametrize("section", [(0, 51, 0, 40), (10, 10, 0, 40), (-1, 5, 0, 5), (5, 4, 0, 5), (60, 70, 0, 40)])
def test_a_section_outside_of_the_frame_is_named(section: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"trim section.*50x40"):
        subtract_overscan(raw(), section, None)
    with pytest.raises(ValueError, match=r"overscan section.*50x40"):
        subtract_overscan(raw(), None, section)


def test_a_negative_order_is_named() -> None:
    with pytest.raises(ValueError, match="order"):
        subtract_overscan(raw(), None, (0, 5, 0, 40), order=-1)


@pytest.mark.parametrize("how", [{"smooth": 5.0}, {"smooth": 0.0}, {"order": 4}, {"order": 0}])
def test_rows_without_a_value_are_bridged(how: dict[str, float]) -> None:
    frame, light = overscanned()
    frame[10:13, 64:] = np.nan
    frame[40, 64:] = np.inf
    out = subtract_overscan(frame, (0, 64, 0, 60), (64, 80, 0, 60), **how)
    np.testing.assert_allclose(out.data, light, atol=1.5 if how != {"order": 0} else 6.5)
    assert np.isfinite(out.variance).all() and (out.variance >= 0).all()
    frame[:, 64:] = np.nan
    with pytest.raises(ValueError, match="overscan section holds no finite value"):
        subtract_overscan(frame, (0, 64, 0, 60), (64, 80, 0, 60), **how)


@pytest.mark.parametrize("how", [{"smooth": 4.0}, {"smooth": 0.0}, {"order": 2}, {"order": 0}])
@pytest.mark.parametrize("reach", [8, 24])
def test_a_star_that_bleeds_into_the_overscan_moves_nothing(how: dict[str, float], reach: int) -> None:
    """Six rows of 1000 ADU over a third, or all, of the overscan; the level stays where it is without them."""
    rng = np.random.default_rng(3)
    clean = strips(rng, np.full(200, 1000.0))
    bled = clean.copy()
    bled[90:96, 4 : 4 + reach] += np.linspace(1500, 500, reach, dtype=np.float32)
    trim, over = (0, 4, 0, 200), (4, 28, 0, 200)
    expected, found = subtract_overscan(clean, trim, over, **how), subtract_overscan(bled, trim, over, **how)
    assert np.abs(found.level - expected.level).max() < 5 * 4.0 / np.sqrt(24)
    assert np.abs(found.level - 1000).max() < 5 * 4.0 / np.sqrt(24)


def test_a_row_that_dips_keeps_its_own_level() -> None:
    rng = np.random.default_rng(4)
    level = np.full(200, 1000.0)
    level[80:84] -= 60.0
    frame = strips(rng, level)
    out = subtract_overscan(frame, (0, 4, 0, 200), (4, 28, 0, 200), smooth=4.0)
    np.testing.assert_allclose(out.data, 0.0, atol=5 * 4.0 / np.sqrt(24))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, ">i2", ">f4", np.float64])
def test_every_type_of_number_gives_the_same(dtype: str) -> None:
    rng = np.random.default_rng(5)
    frame = np.rint(rng.normal(100, 3, (30, 20)))
    expected = subtract_overscan(frame.astype(np.float32), (0, 12, 0, 30), (12, 20, 0, 30))
    found = subtract_overscan(frame.astype(dtype), (0, 12, 0, 30), (12, 20, 0, 30))
    assert found.data.dtype == np.float32
    np.testing.assert_array_equal(found.data, expected.data)


@pytest.mark.parametrize("how", [{"smooth": 4.0}, {"smooth": 0.0}, {"order": 2}, {"order": 0}])
def test_one_column_is_enough(how: dict[str, float]) -> None:
    rng = np.random.default_rng(6)
    frame = strips(rng, np.full(300, 700.0), width=1)
    out = subtract_overscan(frame, (0, 4, 0, 300), (4, 5, 0, 300), **how)
    pull = (out.level - 700.0) / np.sqrt(out.variance)
    assert np.isfinite(pull).all() and np.abs(pull).max() < 6
    one = subtract_overscan(frame[:1], (0, 4, 0, 1), (4, 5, 0, 1), **how)
    assert np.isfinite(one.data).all() and np.isfinite(one.variance).all()


@pytest.mark.parametrize("how", [{"smooth": 5.0}, {"smooth": 0.0}, {"order": 3}, {"order": 1}])
def test_the_variance_is_the_error_of_the_level(how: dict[str, float]) -> None:
    """Many frames with a sloping level: error squared over variance is 1 in the mean, at the ends as in the middle."""
    rng = np.random.default_rng(7)
    level = 1000.0 + 0.02 * np.arange(100)
    pulls = []
    for _ in range(300):
        out = subtract_overscan(strips(rng, level), (0, 4, 0, 100), (4, 28, 0, 100), **how)
        pulls.append((out.level[:, 0] - level) / np.sqrt(out.variance[:, 0]))
    squared = np.square(pulls)
    assert squared.mean() == pytest.approx(1.0, abs=0.12)
    assert squared[:, [0, -1]].mean() == pytest.approx(1.0, abs=0.25)
    assert np.mean(pulls) == pytest.approx(0.0, abs=0.1)


def test_the_variance_of_one_level_is_its_error() -> None:
    rng = np.random.default_rng(17)
    pulls = []
    for _ in range(400):
        frame = np.zeros((40, 30), np.float32)
        frame[:10, :10] = np.rint(500 + rng.normal(0, 3, (10, 10)))
        out = subtract_overscan(frame, (10, 30, 10, 40), (0, 10, 0, 10))
        pulls.append((out.level[0, 0] - 500) / np.sqrt(out.variance[0, 0]))
    assert np.std(pulls) == pytest.approx(1.0, abs=0.12)


@pytest.mark.parametrize("how", [{"smooth": 5.0}, {"order": 1}])
def test_rows_that_jitter_are_in_the_variance_where_they_are_smoothed_away(how: dict[str, float]) -> None:
    rng = np.random.default_rng(8)
    level = 1000.0 + rng.normal(0, 3.0, 400)
    frame = strips(rng, level)
    out = subtract_overscan(frame, (0, 4, 0, 400), (4, 28, 0, 400), **how)
    assert np.mean(out.data[:, 0] ** 2 / out.variance[:, 0]) == pytest.approx(1.0, abs=0.2)
    own = subtract_overscan(frame, (0, 4, 0, 400), (4, 28, 0, 400), smooth=0.0)
    assert own.variance.mean() == pytest.approx(16 / 24, rel=0.15)
    assert own.data.std() == pytest.approx(np.sqrt(16 / 24), rel=0.15)


def test_a_slope_is_followed_to_the_first_row() -> None:
    level = 1000.0 + 0.5 * np.arange(100)
    frame = np.repeat(level[:, None], 12, axis=1).astype(np.float32)
    np.testing.assert_allclose(subtract_overscan(frame, (0, 4, 0, 100), (4, 12, 0, 100), smooth=5.0).data, 0.0, atol=1e-3)
    np.testing.assert_allclose(subtract_overscan(frame, (0, 4, 0, 100), (4, 12, 0, 100), order=1).data, 0.0, atol=1e-3)


def test_a_polynomial_is_numpys() -> None:
    frame, _ = overscanned()
    out = subtract_overscan(frame, (0, 64, 0, 60), (64, 80, 0, 60), order=4)
    rows = np.arange(60.0)
    expected = np.polynomial.Polynomial.fit(rows, frame[:, 64:].mean(axis=1, dtype=float), 4)(rows)
    np.testing.assert_allclose(out.level[:, 0], expected, atol=0.05)
