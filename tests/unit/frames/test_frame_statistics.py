"""Statistics of raw frames of known make-up: level, noise, peaks, colours."""

from __future__ import annotations

import json

import numpy as np
import pytest
from raw_frames import SHAPE, camera, mosaic

from reduction.frames.kernels.frame_statistics import FrameStatistics, frame_statistics


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_level_noise_and_structure_of_integers(scale: float) -> None:
    data = np.rint(np.random.default_rng(12).normal(300.3, scale, (400, 500))).astype(np.float32)
    statistics = frame_statistics(data)
    # Rounding to whole numbers adds 1/12 to the variance; clipping at 3 sigma takes 1.5 %.
    assert statistics.level == pytest.approx(300.3, abs=0.02 * scale)
    assert statistics.noise == pytest.approx(np.sqrt(scale**2 + 1 / 12), rel=0.04)
    assert statistics.structure < 0.3 * scale
    assert statistics.n_peaks == 0


def test_stars_are_counted_and_found() -> None:
    data = np.random.default_rng(13).normal(300, 5, SHAPE).astype(np.float32)
    y, x = np.indices(SHAPE)
    places = [(30.0, 40.0), (100.0, 90.0), (200.0, 150.0)]
    for cx, cy in places:
        data += (500 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 2)).astype(np.float32)
    data[60, 60] += 5000  # a hot pixel
    found = frame_statistics(data)
    assert sorted(map(tuple, found.peaks.tolist())) == places
    assert found.n_peaks == 3


def test_pixels_without_value_do_not_matter() -> None:
    data = camera("object", 14)
    data[50:60] = np.nan
    whole, holed = frame_statistics(camera("object", 14)), frame_statistics(data)
    assert holed.level == pytest.approx(whole.level, rel=0.01)
    assert holed.n_peaks == pytest.approx(whole.n_peaks, abs=6)


def test_statistics_are_json_with_null_for_nan() -> None:
    data = camera("object", 17)
    data[:24, :32] = np.nan  # a box and a pixel of the probe
    statistics = frame_statistics(data)
    text = json.dumps(statistics.as_dict(), allow_nan=False)
    assert "null" in text
    again = FrameStatistics.from_dict(json.loads(text))
    assert json.dumps(again.as_dict()) == text
    assert len(text) < 12_000


@pytest.mark.parametrize("pattern", ["RGGB", "BGGR", "GRBG", "GBRG"])
def test_levels_of_the_colours_of_a_mosaic(pattern: str) -> None:
    found = frame_statistics(mosaic({"R": 500.0, "G": 1000.0, "B": 700.0}, pattern), bayer=pattern)
    assert found.channels == pytest.approx((2548.0, 3048.0, 2748.0), abs=1.0)
    assert found.level == pytest.approx(3048.0, abs=1.0)
    assert found.n_peaks == 0
    assert frame_statistics(mosaic({"R": 500.0, "G": 1000.0, "B": 700.0})).channels is None


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no Bayer pattern"):
        frame_statistics(np.zeros((10, 10), np.float32), bayer="RGBG")


@pytest.mark.parametrize("pattern", ["RGGB", "GBRG"])
def test_hot_pixels_of_a_mosaic_are_no_stars_and_stars_are_where_they_are(pattern: str) -> None:
    data = mosaic({"R": 100.0, "G": 100.0, "B": 100.0}, pattern, seed=1)
    generator = np.random.default_rng(2)
    data[generator.integers(0, 256, 3000), generator.integers(0, 320, 3000)] += generator.exponential(300.0, 3000).astype(np.float32)
    assert frame_statistics(data, bayer=pattern).n_peaks <= 2
    y, x = np.indices(data.shape)
    places = [(40.3, 60.8), (150.0, 100.0), (251.0, 200.4), (270.6, 31.5)]
    for cx, cy in places:  # FWHM of 2 pixels of the mosaic, 1 of the green channel
        data += (3000 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 2 / 0.85**2)).astype(np.float32)
    found = frame_statistics(data, bayer=pattern).peaks
    assert all(np.min(np.hypot(*(found - place).T)) < 2.0 for place in places)


def test_a_peak_has_its_height_on_the_smoothed_image() -> None:
    y, x = np.indices(SHAPE)
    data = np.random.default_rng(40).normal(300, 1, SHAPE) + 500 * np.exp(-((x - 100) ** 2 + (y - 90) ** 2) / 2)
    # Of a star and a filter of one pixel each the height is halved.
    assert frame_statistics(data.astype(np.float32)).heights == pytest.approx([250.0], rel=0.02)


def test_the_brightest_peaks_come_first_and_300_are_kept() -> None:
    y, x = np.indices((400, 400))
    data = np.random.default_rng(41).normal(300, 1, (400, 400))
    places = [(20 + 18 * i, 20 + 18 * j) for i in range(20) for j in range(20)]
    for number, (cx, cy) in enumerate(places):
        near = (slice(cy - 6, cy + 7), slice(cx - 6, cx + 7))
        data[near] += (100 + number) * np.exp(-((x[near] - cx) ** 2 + (y[near] - cy) ** 2) / 2 / 1.2**2)
    found = frame_statistics(data.astype(np.float32))
    assert (found.n_peaks, len(found.peaks), len(found.heights)) == (400, 300, 300)
    assert np.all(np.diff(found.heights) <= 0)
    assert tuple(found.peaks[0]) in places[-20:]


def test_stars_far_out_of_focus_are_found_on_sums_of_pixels() -> None:
    y, x = np.indices((256, 256))
    data = np.random.default_rng(42).normal(300, 5, (256, 256))
    places = [(60.0, 80.0), (150.0, 60.0), (180.0, 190.0)]
    for cx, cy in places:
        radius = np.hypot(x - cx, y - cy)
        data += 12.0 * (radius < 9) * (radius > 3)
    found = frame_statistics(data.astype(np.float32)).peaks
    assert all(np.min(np.hypot(*(found - place).T)) < 8.0 for place in places)


def test_the_shape_of_the_light_in_boxes_and_its_values_at_points() -> None:
    y, x = np.indices((160, 240))
    data = (1000.0 + 2.0 * x + 5.0 * y).astype(np.float32)
    found = frame_statistics(data)
    rows, columns = np.indices((8, 8))
    np.testing.assert_allclose(found.boxes, 1000.0 + 2.0 * (30 * columns + 14.5) + 5.0 * (20 * rows + 9.5), rtol=1e-3)
    # The middles of a division into 16 by 16, rounded down.
    expected = [1000.0 + 2.0 * int((i + 0.5) / 16 * 240) + 5.0 * int((j + 0.5) / 16 * 160) for j in range(16) for i in range(16)]
    np.testing.assert_allclose(found.probe, expected)
    noisy = frame_statistics(camera("object", 44))
    for values, digits in ((noisy.boxes, 3), (noisy.probe, 3), (noisy.heights, 2)):  # they are kept as text
        np.testing.assert_array_equal(values, values.round(digits))
    small = frame_statistics(data[:63, :63])
    assert (small.boxes.shape, small.probe.shape) == ((0, 8), (0,))
    assert frame_statistics(data[:64, :64]).probe.shape == (256,)


def test_steps_values_below_zero_and_piles_at_the_maximum() -> None:
    whole = np.rint(np.random.default_rng(43).normal(300, 20, SHAPE)).astype(np.float32)
    assert frame_statistics(whole).quantum == 1.0
    assert frame_statistics(4 * whole).quantum == 4.0
    assert frame_statistics(whole + np.float32(0.5)).quantum == 0.0
    assert frame_statistics(whole).negative == 0.0
    half = whole - 300
    assert frame_statistics(half).negative == pytest.approx(np.mean(half < 0))
    for n, share in ((9, 0.0), (10, 10 / whole.size)):
        piled = whole.copy()
        piled.flat[:n] = 1000.0
        assert frame_statistics(piled).saturated == pytest.approx(share)
        assert frame_statistics(piled, saturation=1000.0).saturated == pytest.approx(n / whole.size)
