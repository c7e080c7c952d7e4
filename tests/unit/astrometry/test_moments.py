"""Centroids and shapes against GalSim's truth, the least possible errors, and GalSim's own adaptive moments."""

from __future__ import annotations

import galsim
import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial import cKDTree

from reduction.astrometry.kernels.detection import Detections, extract
from reduction.astrometry.kernels.moments import FWHM_PER_SIGMA, adaptive_shapes, axes_of, neighbours_of, sdk_of, windowed_centroids

PIXEL = 1.0 / 12.0  # pixel^2; variance of a pixel about its centre

FloatArray = npt.NDArray[np.float64]
SKY, GAIN, READ_NOISE = 100.0, 2.0, 2.0
PITCH = 32


def field(profile: galsim.GSObject, flux: float, n: int, rng: np.random.Generator, pitch: int = PITCH) -> tuple[FloatArray, FloatArray]:
    """n x n equal stars at every phase of the pixel, without sky and noise; positions (m, 2)."""
    image = galsim.ImageD(n * pitch, n * pitch, xmin=0, ymin=0)
    places = (
        np.stack(np.meshgrid(np.arange(n), np.arange(n)), axis=-1).reshape(-1, 2) * pitch + pitch / 2 + rng.uniform(-0.5, 0.5, (n * n, 2))
    )
    half = pitch // 2 - 1
    for x, y in places:
        box = galsim.BoundsI(int(x) - half, int(x) + half, int(y) - half, int(y) + half)
        star = profile.withFlux(flux)
        star.drawImage(image=image[box], center=galsim.PositionD(x, y), scale=1.0, add_to_image=True)
    return image.array.copy(), places


def observe(model: FloatArray, rng: np.random.Generator) -> Detections:
    variance = (model + SKY) / GAIN + READ_NOISE**2
    data = model + SKY + rng.normal(0.0, np.sqrt(variance))
    estimated = np.maximum(data, 0.0) / GAIN + READ_NOISE**2
    return extract(data, estimated, np.zeros(data.shape, np.uint8), threshold=4.0)


def at_snr(profile: galsim.GSObject, snr: float) -> tuple[float, float]:
    """Flux of a star of that signal-to-noise ratio, and the least possible error of its x for a known profile, mean over the phases."""

    def star(phase: float) -> FloatArray:
        return np.asarray(profile.drawImage(nx=65, ny=65, scale=1.0, offset=(phase, 0.0), dtype=float).array)

    light = star(0.0)
    flux = np.geomspace(10.0, 1e7, 4001)
    reached = np.array([np.sqrt(np.sum((f * light) ** 2 / ((f * light + SKY) / GAIN + READ_NOISE**2))) for f in flux])
    chosen = float(np.interp(snr, reached, flux))
    information = []
    for phase in (0.0, 0.25, 0.5):
        slope = chosen * (star(phase + 0.01) - star(phase - 0.01)) / 0.02
        information.append(np.sum(slope**2 / ((chosen * star(phase) + SKY) / GAIN + READ_NOISE**2)))
    return chosen, float(1.0 / np.sqrt(np.mean(information)))


@pytest.mark.parametrize("snr", [20.0, 100.0, 500.0])
@pytest.mark.parametrize("profile", [galsim.Gaussian(fwhm=1.5), galsim.Gaussian(fwhm=2.7), galsim.Moffat(beta=3, fwhm=3.0)], ids=str)
def test_errors_are_true_and_near_the_least_possible(profile: galsim.GSObject, snr: float) -> None:
    rng = np.random.default_rng(1)
    flux, bound = at_snr(profile, snr)
    model, places = field(profile, flux, 12, rng)
    offset, pull = [], []
    for _ in range(6):
        found = observe(model, rng)
        distance, index = cKDTree(np.column_stack([found.x, found.y])).query(places)
        assert len(found) == len(places)
        assert distance.max() < 1.5
        both = np.concatenate([found.x[index] - places[:, 0], found.y[index] - places[:, 1]])
        offset.append(both)
        pull.append(both / np.concatenate([found.x_err[index], found.y_err[index]]))
    # 1728 numbers: their scatter is known to 1.7 %
    assert np.std(np.concatenate(offset)) < 1.2 * bound
    assert np.std(np.concatenate(pull)) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("fwhm", [1.5, 2.2, 4.0, 8.0])
@pytest.mark.parametrize(("shear", "angle"), [(0.0, 0.0), (0.1, 30.0), (0.2, -70.0)])
def test_shapes_are_those_that_were_drawn(fwhm: float, shear: float, angle: float) -> None:
    rng = np.random.default_rng(2)
    profile = galsim.Gaussian(fwhm=fwhm).shear(galsim.Shear(g=shear, beta=angle * galsim.degrees))
    flux, _ = at_snr(profile, 60.0)
    model, places = field(profile, flux, 8, rng, pitch=64)
    found = observe(model, rng)
    variance = (fwhm / FWHM_PER_SIGMA) ** 2
    a, b = np.sqrt(variance * np.array([(1 + shear) / (1 - shear), (1 - shear) / (1 + shear)]) + PIXEL)
    assert len(found) == len(places)
    # a pixel's own width is part of the shape; medians, for one star at S/N 60 is good to 2 %
    assert np.nanmedian(found.fwhm) == pytest.approx(FWHM_PER_SIGMA * np.sqrt(a * b), rel=0.01)
    s, d, k = (np.nanmedian(values) for values in (found.s, found.d, found.k))
    e = np.hypot(d, k)
    assert 1.0 - np.sqrt((s - e) / (s + e)) == pytest.approx(1.0 - b / a, abs=0.01)
    if shear > 0.0:
        assert np.degrees(np.arctan2(-k, -d) / 2) == pytest.approx(angle, abs=3.0)


@pytest.mark.parametrize("profile", [galsim.Gaussian(fwhm=2.5), galsim.Moffat(beta=2.5, fwhm=3.0), galsim.Kolmogorov(fwhm=4.0)], ids=str)
def test_shapes_agree_with_adaptive_moments_of_galsim(profile: galsim.GSObject) -> None:
    drawn = profile.shear(g1=0.1, g2=-0.05)
    image = drawn.drawImage(nx=64, ny=64, scale=1.0, offset=(0.3, -0.2), dtype=np.float32)
    theirs = galsim.hsm.FindAdaptiveMom(image)
    at = np.array([31.5 + 0.3]), np.array([31.5 - 0.2])
    ours = adaptive_shapes(image.array, np.zeros((64, 64), bool), *at, np.array([[2.0, 2.0, 0.0]]))
    xx, yy, xy = ours[0]
    assert np.linalg.det([[xx, xy], [xy, yy]]) ** 0.25 == pytest.approx(theirs.moments_sigma, rel=0.002)
    assert (xx - yy) / (xx + yy) == pytest.approx(theirs.observed_e1, abs=0.002)
    assert 2 * xy / (xx + yy) == pytest.approx(theirs.observed_e2, abs=0.002)


def test_masked_pixels_and_the_phase_of_an_undersampled_star_do_not_move_it() -> None:
    shape = np.array([0.39, 0.39, 0.0])
    moved = []
    for phase in np.linspace(-0.5, 0.5, 11):
        image = galsim.Gaussian(sigma=np.sqrt(0.39 - PIXEL)).drawImage(nx=32, ny=32, scale=1.0, offset=(phase, 0.2), dtype=np.float32)
        bad = np.zeros((32, 32), bool)
        bad[16, 17] = True
        place = np.array([15.5 + phase]), np.array([15.7])
        near = neighbours_of(*place, 5.0)
        args = (image.array, np.ones((32, 32), np.float32), bad, place[0] + 0.2, place[1] - 0.2, shape, np.array([2.0]), near)
        x, y, *_ = windowed_centroids(*args)
        moved.append([x[0] - place[0][0], y[0] - place[1][0]])
    np.testing.assert_allclose(moved, 0.0, atol=0.008)


@pytest.mark.parametrize(("fwhm", "separation", "ratio"), [(2.7, 1.8, 1.0), (4.0, 1.5, 1.0), (4.0, 1.8, 0.3)])
def test_close_pairs_are_told_apart_and_do_not_pull_at_each_other(fwhm: float, separation: float, ratio: float) -> None:
    rng = np.random.default_rng(4)
    angle = 0.7
    step = separation * fwhm * np.array([np.cos(angle), np.sin(angle)])
    star = galsim.Gaussian(fwhm=fwhm)
    single, places = field(star, 2e4, 6, rng, 48)
    pairs, first = field((star + star.shift(*step).withFlux(ratio)) / (1.0 + ratio), 2e4 * (1.0 + ratio), 6, rng, 48)
    found = observe(np.hstack([single, pairs]), rng)
    first = first + np.array([single.shape[1], 0.0])
    truth = np.concatenate([places, first, first + step])
    distance, index = cKDTree(np.column_stack([found.x, found.y])).query(truth)
    assert len(found) == len(np.unique(index)) == len(truth)
    assert np.median(distance) < 0.03
    assert distance.max() < 0.15
    blended = (found.flags[index] & 16) > 0
    np.testing.assert_array_equal(blended, np.arange(len(truth)) >= len(places))


def test_sdk_and_axes_describe_one_ellipse() -> None:
    covariance = np.array([[2.0, 1.0, 0.4], [1.5, 1.5, 0.0], [np.nan, 1.0, 0.0]])
    s, d, k = sdk_of(covariance)
    a, b, theta = axes_of(covariance)
    for i in range(2):
        np.testing.assert_allclose(np.linalg.inv([[s[i] + d[i], k[i]], [k[i], s[i] - d[i]]])[[0, 1, 0], [0, 1, 1]], covariance[i])
    e = np.hypot(d, k)
    np.testing.assert_allclose([a[:2], b[:2]], [(s[:2] - e[:2]) ** -0.5, (s[:2] + e[:2]) ** -0.5])
    assert theta[0] == pytest.approx(np.arctan2(-k[0], -d[0]) / 2)
    assert np.isnan([s[2], d[2], k[2], a[2], b[2], theta[2]]).all()
