"""Aperture photometry against pi r**2 and against photutils."""

from __future__ import annotations

import math

import numpy as np
import pytest
from photutils.aperture import CircularAperture

from db.flags import Flag, Mask
from reduction.photometry.kernels.aperture import aperture_photometry, pixel_overlap


def circle_overlap(x: float, y: float, r: float, ix: int, iy: int) -> float:
    """Area of pixel (ix, iy) inside a circle about (x, y)."""
    return float(pixel_overlap(ix - 0.5 - x, iy - 0.5 - y, r))


def planes(shape: tuple[int, int], seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    data = rng.normal(100.0, 10.0, shape).astype(np.float32)
    return data, rng.uniform(1.0, 2.0, shape).astype(np.float32), np.zeros(shape, np.uint8)


@pytest.mark.parametrize("radius", [0.05, 0.3, 0.5, 0.7072, 1.0, 1.5, 2.0, 3.7, 8.0, 20.25])
def test_area_is_pi_r_squared(radius: float) -> None:
    rng = np.random.default_rng(2)
    x, y = rng.uniform(30, 34, (2, 200))
    x[:3], y[:3] = (30.0, 30.5, 30.25), (30.0, 30.5, 30.0)
    ones = np.ones((64, 64), np.float32)
    sums = aperture_photometry(ones, ones, np.zeros((64, 64), np.uint8), x, y, [radius])
    truth = math.pi * radius**2
    np.testing.assert_allclose(sums.area, truth, rtol=1e-12)
    np.testing.assert_allclose(sums.flux, truth, rtol=1e-12)
    assert not sums.flags.any()


def test_pixel_in_closed_form() -> None:
    # A quarter of the unit circle lies in the pixel whose corner is its centre.
    assert circle_overlap(-0.5, -0.5, 1.0, 0, 0) == pytest.approx(math.pi / 4, abs=1e-15)
    # The circle just reaches the corners: the whole pixel; a small circle lies inside the pixel.
    assert circle_overlap(0.0, 0.0, math.sqrt(0.5) + 1e-12, 0, 0) == 1.0
    assert circle_overlap(0.0, 0.0, 0.25, 0, 0) == pytest.approx(math.pi / 16, abs=1e-15)
    # Circular segment beyond the pixel's border.
    segment = math.acos(0.5) - 0.5 * math.sqrt(0.75)
    assert circle_overlap(0.0, 0.0, 1.0, 1, 0) == pytest.approx(segment - 2 * (segment_corner()), abs=1e-14)


def segment_corner() -> float:
    """Part of the segment x > 0.5 of the unit circle that lies above y = 0.5."""
    top = math.sqrt(0.75)
    return 0.5 * ((top * 0.5 + math.asin(top)) - (0.5 * top + math.asin(0.5))) - 0.5 * (top - 0.5)


def test_sums_agree_with_photutils() -> None:
    data, variance, mask = planes((80, 90))
    rng = np.random.default_rng(3)
    x, y = rng.uniform(-0.5, 89.4, 150), rng.uniform(-0.5, 79.4, 150)
    radii = [0.4, 1.3, 2.5, 6.0, 11.7]
    sums = aperture_photometry(data, variance, mask, x, y, radii)
    for j, radius in enumerate(radii):
        for i in range(x.size):
            weight = CircularAperture((x[i], y[i]), radius).to_mask(method="exact").to_image(data.shape)
            assert sums.area[i, j] == pytest.approx(weight.sum(), rel=1e-10)
            assert sums.flux[i, j] == pytest.approx((weight * data.astype(float)).sum(), rel=1e-10)
            assert sums.variance[i, j] == pytest.approx((weight**2 * variance.astype(float)).sum(), rel=1e-10)


def test_positions_off_the_frame_or_nan() -> None:
    data, variance, mask = planes((40, 50))
    x = [np.nan, 25.0, -0.51, 49.6, 25.0, 1e30, -np.inf, 25.0]
    y = [20.0, np.nan, 20.0, 20.0, 39.51, 20.0, 20.0, 20.0]
    sums = aperture_photometry(data, variance, mask, x, y, [3.0, 5.0])
    assert np.isnan(sums.flux[:-1]).all() and np.isnan(sums.variance[:-1]).all()
    assert (sums.area[:-1] == 0).all()
    assert (sums.flags[:-1] == Flag.EDGE).all()
    assert np.isfinite(sums.flux[-1]).all() and sums.flags[-1] == 0


def test_edge_flag_follows_the_largest_aperture() -> None:
    data, variance, mask = planes((40, 50))
    # Radius 5 just fits with its centre 4.5 from the first pixel's centre.
    sums = aperture_photometry(data, variance, mask, [4.5, 4.4, 20.0], [20.0, 20.0, 35.0], [5.0, 2.0])
    assert sums.flags.tolist() == [0, Flag.EDGE, Flag.EDGE]
    assert sums.area[1, 0] < math.pi * 25 and sums.area[1, 1] == pytest.approx(math.pi * 4)


@pytest.mark.parametrize(
    ("bit", "flag"),
    [
        (Mask.SATURATED, Flag.SATURATED),
        (Mask.HOT, Flag.BAD_PIXEL),
        (Mask.DEAD, Flag.BAD_PIXEL),
        (Mask.BLEED, Flag.BAD_PIXEL),
        (Mask.COSMIC, Flag.COSMIC),
        (Mask.NO_DATA, Flag.BAD_PIXEL),
    ],
)
def test_mask_bits_become_flags(bit: Mask, flag: Flag) -> None:
    data, variance, mask = planes((40, 40))
    mask[20, 24] = bit
    # 24 lies in the largest aperture of the first source only.
    sums = aperture_photometry(data, variance, mask, [20.0, 18.0], [20.0, 20.0], [2.0, 5.0])
    assert sums.flags.tolist() == [flag, 0]


def test_pixels_without_data_leave_area_and_background_right() -> None:
    data = np.full((40, 40), 7.0, np.float32)
    mask = np.zeros((40, 40), np.uint8)
    data[20, 20], mask[21, 20] = np.nan, Mask.NO_DATA
    sums = aperture_photometry(data, data, mask, [20.0], [20.0], [4.0])
    assert sums.area[0, 0] == pytest.approx(math.pi * 16 - 2, rel=1e-12)
    assert sums.flux[0, 0] - 7.0 * sums.area[0, 0] == pytest.approx(0.0, abs=1e-12)
    assert sums.flags[0] == Flag.BAD_PIXEL


def test_bad_arguments_are_named() -> None:
    data, variance, mask = planes((10, 10))
    with pytest.raises(ValueError, match="radii"):
        aperture_photometry(data, variance, mask, [5.0], [5.0], [0.0])
    with pytest.raises(ValueError, match="shape"):
        aperture_photometry(data, variance[1:], mask, [5.0], [5.0], [1.0])
    with pytest.raises(ValueError, match="positions"):
        aperture_photometry(data, variance, mask, [5.0], [5.0, 6.0], [1.0])


def test_no_source() -> None:
    data, variance, mask = planes((10, 10))
    sums = aperture_photometry(data, variance, mask, [], [], [1.0, 2.0])
    assert sums.flux.shape == (0, 2) and sums.flags.shape == (0,)
