"""Detections against simulated truth, and on real frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from astropy.io import fits
from photutils.centroids import centroid_2dg

from db.flags import Flag, Mask
from reduction.astrometry.kernels.detection import Detections, extract

FloatArray = npt.NDArray[np.float64]
SKY = 300.0
NOISE = 1.5


def pixel_gaussian(
    shape: tuple[int, int], x: FloatArray, y: FloatArray, flux: FloatArray, a: float, b: float, theta: float = 0.0
) -> FloatArray:
    """Stars of axes `a`, `b` (standard deviations), integrated over pixels by 5x5 sampling."""
    image = np.zeros(shape)
    sub = (np.arange(5) - 2.0) / 5.0
    for px, py, light in zip(x, y, flux, strict=True):
        reach = int(6 * a) + 2
        rows = np.arange(max(int(py) - reach, 0), min(int(py) + reach + 1, shape[0]))
        columns = np.arange(max(int(px) - reach, 0), min(int(px) + reach + 1, shape[1]))
        dy = (rows[:, None] + sub).ravel()[:, None] - py
        dx = (columns[:, None] + sub).ravel()[None, :] - px
        along, across = dx * np.cos(theta) + dy * np.sin(theta), dy * np.cos(theta) - dx * np.sin(theta)
        value = np.exp(-0.5 * ((along / a) ** 2 + (across / b) ** 2)) / (2.0 * np.pi * a * b) * light
        image[np.ix_(rows, columns)] += value.reshape(len(rows), 5, len(columns), 5).mean(axis=(1, 3))
    return image


def star_field(n: int, a: float, b: float, theta: float = 0.0, seed: int = 1) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Noisy frame, and x, y, flux of stars on a jittered grid, brightest first."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(n)))
    row, column = np.divmod(np.arange(n), side)
    x, y = 25.0 + 30.0 * column + rng.uniform(-5, 5, n), 25.0 + 30.0 * row + rng.uniform(-5, 5, n)
    flux = np.sort(10.0 ** rng.uniform(2.6, 4.5, n))[::-1]
    shape = (50 + 30 * side, 40 + 30 * side)
    image = pixel_gaussian(shape, x, y, flux, a, b, theta) + SKY + rng.normal(0.0, NOISE, shape)
    return image, x, y, flux


def measure(image: FloatArray, mask: npt.NDArray[np.uint8] | None = None, **options: float) -> Detections:
    plane = np.zeros(image.shape, np.uint8) if mask is None else mask
    return extract(image.astype(np.float32), np.full(image.shape, NOISE**2, np.float32), plane, **options)  # type: ignore[arg-type]


def paired(found: Detections, x: FloatArray, y: FloatArray) -> tuple[npt.NDArray[np.int64], FloatArray]:
    distance = np.hypot(found.x[None, :] - x[:, None], found.y[None, :] - y[:, None])
    return distance.argmin(axis=1), distance.min(axis=1)


@pytest.mark.parametrize("fwhm", [2.2, 3.0, 6.0])
def test_every_star_is_found_once_and_nothing_else(fwhm: float) -> None:
    sigma = fwhm / 2.3548
    image, x, y, flux = star_field(100, sigma, sigma)
    found = measure(image)
    index, distance = paired(found, x, y)
    assert len(found) == 100
    assert len(np.unique(index)) == 100
    bright = flux > 5000
    assert np.median(distance[bright]) < 0.02
    assert distance[bright].max() < 0.06
    # pixels widen a star by their own variance of 1/12
    expected = 2.3548 * np.sqrt(sigma**2 + 1.0 / 12.0)
    assert np.median(found.fwhm[index[bright]]) == pytest.approx(expected, rel=0.06)
    assert np.median(found.flux[index[bright]] / flux[bright]) == pytest.approx(1.0 - 0.5 ** (2 * 1.5) ** 2, abs=0.02)
    assert np.all(np.diff(found.flux) <= 0)
    assert np.all(found.flags == 0)


def test_centroids_have_no_bias_with_the_pixel_phase() -> None:
    phase = np.linspace(-0.5, 0.5, 10)
    column, row = np.meshgrid(30.0 + 30.0 * np.arange(10), 30.0 + 30.0 * np.arange(10))
    x, y = (column + phase[None, :]).ravel(), (row + phase[:, None]).ravel()
    image = pixel_gaussian((360, 360), x, y, np.full(100, 3e4), 0.95, 0.95) + SKY
    found = measure(image + np.random.default_rng(2).normal(0.0, 0.2, image.shape))
    index, _ = paired(found, x, y)
    np.testing.assert_allclose(found.x[index], x, atol=0.012)
    np.testing.assert_allclose(found.y[index], y, atol=0.012)


def test_a_trailed_frame_gives_the_trail() -> None:
    angle = np.radians(30.0)
    image, x, y, flux = star_field(64, 4.0, 1.3, angle)
    found = measure(image)
    index, distance = paired(found, x, y)
    bright = index[flux > 3000]
    assert len(found) == 64
    assert distance[flux > 3000].max() < 0.25
    np.testing.assert_allclose(np.median(found.theta[bright]), angle, atol=0.02)
    assert np.median(found.semi_major[bright] / found.semi_minor[bright]) == pytest.approx(4.0 / 1.3, rel=0.15)


def test_centroids_agree_with_a_fitted_gaussian() -> None:
    image, x, y, _ = star_field(25, 1.2, 1.2, seed=4)
    found = measure(image)
    index, _ = paired(found, x[:5], y[:5])
    for k in index:
        column, row = round(found.x[k]), round(found.y[k])
        cut = image[row - 6 : row + 7, column - 6 : column + 7] - SKY
        fitted = centroid_2dg(cut) + np.array([column - 6, row - 6])
        np.testing.assert_allclose([found.x[k], found.y[k]], fitted, atol=0.02)


def test_saturated_stars_are_kept_and_flagged() -> None:
    image, x, y, _ = star_field(49, 1.3, 1.3)
    full = image >= 1200.0
    found = measure(np.minimum(image, 1200.0), np.where(full, int(Mask.SATURATED), 0).astype(np.uint8))
    index, distance = paired(found, x, y)
    touched = np.array([full[round(v) - 1 : round(v) + 2, round(u) - 1 : round(u) + 2].any() for u, v in zip(x, y, strict=True)])
    assert 3 < touched.sum() < 40
    assert distance.max() < 0.4
    np.testing.assert_array_equal((found.flags[index] & int(Flag.SATURATED)) != 0, touched)


def test_masked_pixels_are_ignored_and_flagged() -> None:
    image, x, y, _ = star_field(49, 1.3, 1.3)
    mask = np.zeros(image.shape, np.uint8)
    hot = (round(y[0]) + 2, round(x[0]) + 1)
    image[hot] += 5e4
    image[150:152, 90] = np.nan
    mask[hot] = int(Mask.HOT)
    lonely = (12, 12)
    image[lonely[0] - 1 : lonely[0] + 2, lonely[1] - 1 : lonely[1] + 2] += 3000.0
    mask[lonely[0] - 1 : lonely[0] + 2, lonely[1] - 1 : lonely[1] + 2] = int(Mask.COSMIC)
    found = measure(image, mask)
    index, distance = paired(found, x, y)
    assert len(found) == 49
    assert found.flags[index[0]] == int(Flag.BAD_PIXEL)
    assert distance[0] < 0.3


def test_a_hole_in_a_bright_star_hides_no_neighbour() -> None:
    # a masked pixel cuts the levels by which close stars are told apart: with its place left empty, none of these 36 was found
    rng = np.random.default_rng(6)
    n, angle = 36, rng.uniform(0.0, 2.0 * np.pi, 36)
    x, y = np.arange(n) % 6 * 40 + 25.0, np.arange(n) // 6 * 40 + 25.0
    near_x, near_y = x + 7.0 * np.cos(angle), y + 7.0 * np.sin(angle)
    flux = np.repeat([3e4, 3e3], n)
    image = pixel_gaussian((260, 260), np.append(x, near_x), np.append(y, near_y), flux, 1.15, 1.15) + SKY
    mask = np.zeros(image.shape, np.uint8)
    mask[y.astype(int), x.astype(int) + 2] = int(Mask.HOT)
    image[mask > 0] = 6e4
    found = measure(image + rng.normal(0.0, NOISE, image.shape), mask)
    index, distance = paired(found, np.append(x, near_x), np.append(y, near_y))
    assert len(found) == len(np.unique(index)) == 2 * n
    # and what stands in for the pixel is not measured
    assert distance[:n].max() < 0.02
    assert distance[n:].max() < 0.1
    assert np.all(found.flags[index[:n]] & int(Flag.BAD_PIXEL))


@pytest.mark.parametrize(
    ("bit", "flag"),
    [
        (Mask.SATURATED, Flag.SATURATED),
        (Mask.NO_DATA, Flag.BAD_PIXEL),
        (Mask.HOT, Flag.BAD_PIXEL),
        (Mask.DEAD, Flag.BAD_PIXEL),
        (Mask.BLEED, Flag.BAD_PIXEL),
        (Mask.COSMIC, Flag.COSMIC),
        (Mask.NEIGHBOUR, Flag(0)),
    ],
)
def test_flags_follow_from_the_mask_within_two_fwhm(bit: Mask, flag: Flag) -> None:
    image, x, y, _ = star_field(25, 1.3, 1.3, seed=3)
    mask = np.zeros(image.shape, np.uint8)
    mask[round(y[0]) + 4, round(x[0])] = int(bit)
    mask[round(y[1]) + 9, round(x[1])] = int(bit)
    found = measure(image, mask)
    index, _ = paired(found, x, y)
    assert found.flags[index[0]] == int(flag)
    assert np.all(np.delete(found.flags, index[0]) == 0)


def test_neighbours_within_two_fwhm_are_blended() -> None:
    x, y = np.array([40.0, 46.0, 100.0, 107.0]), np.full(4, 50.0)
    image = pixel_gaussian((100, 160), x, y, np.array([3e4, 1e4, 3e4, 1e4]), 1.3, 1.3) + SKY
    found = measure(image + np.random.default_rng(0).normal(0.0, NOISE, image.shape))
    index, distance = paired(found, x, y)
    assert len(np.unique(index)) == 4
    assert distance.max() < 0.05
    blend = int(Flag.BLENDED)
    np.testing.assert_array_equal(found.flags[index], [blend, blend, 0, 0])


@pytest.mark.parametrize("noise", [1.0, 30.0])
def test_stars_of_twenty_sigma_are_complete_and_alone_on_integer_sky_and_in_twilight(noise: float) -> None:
    rng = np.random.default_rng(5)
    n = 400
    x, y = np.arange(n) % 20 * 40 + 20 + rng.uniform(-5, 5, n), np.arange(n) // 20 * 40 + 20 + rng.uniform(-5, 5, n)
    flux = 20.0 * np.sqrt(4.0 * np.pi * (1.15**2 + 1.0 / 12.0) * (noise**2 + 1.0 / 12.0))
    slope = np.linspace(0.0, 1.0, 800)
    sky = SKY + noise * (50.0 * slope[:, None] + 80.0 * slope**2)
    image = pixel_gaussian((800, 800), x, y, np.full(n, flux), 1.15, 1.15) + sky
    found = extract(np.rint(rng.normal(image, noise)), np.full(image.shape, noise**2), np.zeros(image.shape, np.uint8), threshold=4.0)
    _, distance = paired(found, x, y)
    assert np.count_nonzero(distance < 1.5) >= 0.99 * n
    assert len(found) <= 1.01 * n
    assert np.nanmedian(found.fwhm) == pytest.approx(2.3548 * np.sqrt(1.15**2 + 1.0 / 12.0), rel=0.02)


def test_noise_in_any_units_holds_no_stars_and_hides_none() -> None:
    # sep cleans in mixed units when it is given a noise array: stars went missing where a pixel's noise was far from 1 ADU
    image, *_ = star_field(100, 2.1, 2.1, seed=9)
    counts = [
        len(extract(image * unit, np.full(image.shape, (NOISE * unit) ** 2), np.zeros(image.shape, np.uint8))) for unit in (0.01, 1, 100)
    ]
    assert len(set(counts)) == 1
    noise = np.random.default_rng(3).normal(SKY, 1.0, (1000, 1000))
    assert len(extract(noise, np.ones(noise.shape), np.zeros(noise.shape, np.uint8), threshold=4.0)) <= 1


def test_a_huge_saturated_star_is_one_star_and_leaves_the_others() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.uniform(20.0, 580.0, 60), rng.uniform(20.0, 580.0, 60)
    far = np.hypot(x - 300.0, y - 300.0) > 150.0
    image = pixel_gaussian((600, 600), np.array([300.3]), np.array([300.2]), np.array([3e8]), 12.0, 12.0)
    image += pixel_gaussian((600, 600), x, y, np.full(60, 2e4), 1.2, 1.2)
    image[297:303, 300:420] = 1e6
    full = image + SKY > 6e4
    data = rng.normal(np.minimum(image + SKY, 6e4), np.sqrt(np.minimum(image, 6e4) / 2.0 + 9.0))
    mask = np.where(full, int(Mask.SATURATED), 0).astype(np.uint8)
    found = extract(data, np.maximum(data - SKY, 0.0) / 2.0 + 9.0, mask, threshold=4.0)
    _, distance = paired(found, x, y)
    assert distance[far].max() < 0.2
    assert np.count_nonzero(full[np.rint(found.y).astype(int), np.rint(found.x).astype(int)]) == 1
    assert found.flags[0] & int(Flag.SATURATED)


def test_stars_at_the_edge_are_flagged() -> None:
    x, y = np.array([1.0, 60.0, 118.4, 60.0]), np.array([50.0, 50.0, 50.0, 98.6])
    image = pixel_gaussian((100, 120), x, y, np.full(4, 1e4), 1.3, 1.3) + SKY
    image += np.random.default_rng(0).normal(0.0, NOISE, image.shape)
    found = measure(image)
    index, _ = paired(found, x, y)
    assert len(found) == 4
    np.testing.assert_array_equal(found.flags[index], [int(Flag.EDGE), 0, int(Flag.EDGE), int(Flag.EDGE)])


def test_noise_dark_rows_and_single_hot_pixels_are_no_stars() -> None:
    rng = np.random.default_rng(8)
    image = SKY + rng.normal(0.0, NOISE, (400, 500))
    image[:6] -= np.array([65.0, 33.0, 19.0, 12.0, 7.0, 4.0])[:, None]
    image[:, 0] -= 36.0
    image[rng.integers(10, 390, 20), rng.integers(10, 490, 20)] += 30.0
    assert len(measure(image, threshold=5.0, min_area=4)) == 0


@pytest.mark.parametrize("fill", [np.nan, 0.0, 7.0])
def test_frames_without_light_give_nothing(fill: float) -> None:
    assert len(measure(np.full((80, 90), fill))) == 0


def test_result_is_the_same_twice_and_input_is_untouched() -> None:
    image, *_ = star_field(49, 1.3, 1.3)
    before = image.copy()
    first, second = measure(image), measure(image)
    for name in Detections.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    np.testing.assert_array_equal(image, before)


@pytest.mark.realdata
def test_real_frame_has_no_spurious_edge(night_files: Callable[[str], list[Path]]) -> None:
    data = fits.getdata(night_files("hatp32")[0]).astype(np.float32)
    mask = np.where(data >= 4095, int(Mask.SATURATED), 0).astype(np.uint8)
    found = extract(data, np.maximum(data - 313.0, 0.0) / 38.8 + 0.3, mask)
    assert 600 < len(found) < 1500
    # stars per row as near the dark rows as elsewhere
    low = np.count_nonzero(found.y < 20) / 20
    assert low < 2.0 * len(found) / 500
    clean = (found.flags == 0) & (found.snr > 100)
    assert np.isfinite(found.fwhm[clean]).mean() > 0.97
    assert 2.2 < np.nanmedian(found.fwhm[clean]) < 3.5
    assert np.count_nonzero(found.flags & int(Flag.SATURATED)) >= 10


@pytest.mark.parametrize("level", [0.0, 100.0])
def test_a_frame_without_any_scatter_has_no_stars(level: float) -> None:
    shape = (80, 100)
    assert len(extract(np.full(shape, level, np.float32), np.ones(shape, np.float32), np.zeros(shape, np.uint8))) == 0


def test_stars_are_the_same_in_any_unit() -> None:
    """Frames in electrons or in parts of full scale have other noise, and the same stars."""
    rng = np.random.default_rng(31)
    y, x = np.indices((120, 150))
    data = rng.normal(0.0, 1.0, y.shape)
    for xc, yc in ((30.2, 40.7), (100.5, 80.1), (60.0, 100.3)):
        data += 60.0 * np.exp(-((x - xc) ** 2 + (y - yc) ** 2) / (2 * 1.6**2))
    found = [
        extract((data * unit).astype(np.float32), np.full(y.shape, unit**2, np.float32), np.zeros(y.shape, np.uint8))
        for unit in (1.0, 1e-3, 300.0)
    ]
    assert len(found[0]) >= 3 and len({len(one) for one in found}) == 1
    for one in found[1:]:
        np.testing.assert_allclose(one.x, found[0].x, atol=1e-3)
