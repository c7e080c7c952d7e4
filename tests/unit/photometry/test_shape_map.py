"""Smooth shape maps: analytic maps, planted outliers, and GalSim's truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import galsim
import numpy as np
import numpy.typing as npt
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from db.errors import AlgorithmFailed
from db.flags import Mask
from reduction.astrometry.kernels.detection import extract
from reduction.photometry.kernels.shape_map import Shape, ShapeMap, _Basis, _logarithm, _shape, fit_shape_map

SIZE = (1024, 900)


def shape_axes(s: npt.ArrayLike, d: npt.ArrayLike, k: npt.ArrayLike) -> Shape:
    """FWHM, ellipticity and angle of shapes, by way of their logarithm as the map has it."""
    return _shape(*_logarithm(*(np.asarray(value, dtype=np.float64) for value in (s, d, k))))


def sdk(fwhm: Any, ellipticity: Any, theta: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shape of FWHM (geometric mean, pixel), 1 - b/a and angle (rad), by rotating the diagonal matrix."""
    sigma = np.asarray(fwhm) / (2.0 * np.sqrt(2.0 * np.log(2.0)))
    ratio = np.sqrt(1.0 - np.asarray(ellipticity))
    along, across = ratio**2 / (sigma**2 * ratio**2) * ratio**2, 1.0 / (sigma**2 * ratio**2)
    mean, half = (along + across) / 2.0, (along - across) / 2.0
    return mean, half * np.cos(2.0 * np.asarray(theta)), half * np.sin(2.0 * np.asarray(theta))


def smooth(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """FWHM, ellipticity, angle: sharpest left of the middle, stretched as by astigmatism and a constant trail."""
    u, v = x / SIZE[0] - 0.5, y / SIZE[1] - 0.5
    first, second = 0.08 + 0.3 * (u**2 - v**2), 0.02 + 0.6 * u * v
    return 2.6 + 1.8 * ((u + 0.2) ** 2 + v**2) + 0.3 * v, np.hypot(first, second), 0.5 * np.arctan2(second, first)


def stars(n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.5, SIZE[0] - 0.5, n), rng.uniform(-0.5, SIZE[1] - 0.5, n), rng


def frame_grid() -> tuple[np.ndarray, np.ndarray]:
    x, y = np.meshgrid(np.linspace(-0.5, SIZE[0] - 0.5, 25), np.linspace(-0.5, SIZE[1] - 0.5, 23))
    return x.ravel(), y.ravel()


def noisy(shape: tuple[np.ndarray, ...], snr: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Shapes with errors of 1.4 / snr of s."""
    return [value + rng.normal(0.0, 1.4, value.shape) / snr * shape[0] for value in shape]


def misses(found: Shape, fwhm: np.ndarray, ellipticity: np.ndarray, theta: np.ndarray) -> tuple[float, float]:
    """Largest relative error of the FWHM, and largest error of the ellipticity as a vector."""
    away = found.ellipticity * np.exp(2j * found.theta) - ellipticity * np.exp(2j * theta)
    return float(np.abs(found.fwhm / fwhm - 1.0).max()), float(np.abs(away).max())


@pytest.mark.parametrize("theta", [-1.5, -0.3, 0.0, 0.8, 1.5])
def test_axes_of_a_shape(theta: float) -> None:
    found = shape_axes(*sdk(3.0, 0.2, theta))
    assert float(found.fwhm) == pytest.approx(3.0, rel=1e-12)
    assert float(found.ellipticity) == pytest.approx(0.2, abs=1e-12)
    assert float(found.theta) == pytest.approx(theta, abs=1e-12)
    # the exponent falls slowest along the major axis
    s, d, k = (float(value) for value in (found.s, found.d, found.k))
    angle = np.linspace(-np.pi / 2, np.pi / 2, 2001)
    x, y = np.cos(angle), np.sin(angle)
    assert angle[np.argmin(s * (x**2 + y**2) + d * (x**2 - y**2) + 2 * k * x * y)] == pytest.approx(theta, abs=2e-3)


def test_axes_of_a_circle_and_of_what_is_no_shape() -> None:
    found = shape_axes([0.5, 0.5, np.nan, -1.0], [0.0, 0.4, 0.0, 0.0], [0.0, 0.4, 0.0, 0.0])
    assert found.fwhm[0] == pytest.approx(2.0 * np.sqrt(2.0 * np.log(2.0)) / np.sqrt(0.5), rel=1e-12)
    assert found.ellipticity[0] == 0.0
    np.testing.assert_allclose([found.s[0], found.d[0], found.k[0]], [0.5, 0.0, 0.0], atol=1e-15)
    assert np.isnan(np.array(found)[:, 1:]).all()


def test_map_of_a_smooth_frame() -> None:
    x, y, rng = stars(1200)
    snr = 10.0 ** rng.uniform(1.0, 3.0, len(x))
    s, d, k = noisy(sdk(*smooth(x, y)), snr, rng)
    found = fit_shape_map(x, y, s, d, k, snr, size=SIZE)
    grid = frame_grid()
    fwhm, ellipticity = misses(found.evaluate(*grid), *smooth(*grid))
    assert fwhm < 0.01 and ellipticity < 0.01
    assert 3 <= found.order <= 4 and 2 <= found.ellipticity_order <= 4
    # the error stated is that of the map at its stars, within the reach of a single draw
    at_stars = found.evaluate(x, y)
    error = np.sqrt(np.mean((at_stars.fwhm - smooth(x, y)[0]) ** 2))
    assert 0.3 * found.err_fwhm < error < 3.0 * found.err_fwhm
    assert found.rms_s == pytest.approx(1.4826 * np.median(np.abs(s - sdk(*smooth(x, y))[0])), rel=0.1)


def test_the_order_follows_the_frame_and_the_number_of_stars() -> None:
    for n, flat_order, highest in ((12, 0, 0), (40, 0, 2), (2000, 0, 4)):
        x, y, rng = stars(n, seed=n)
        snr = np.full(n, 200.0)
        level = fit_shape_map(x, y, *noisy(sdk(np.full(n, 3.0), 0.1, 0.3), snr, rng), snr, size=SIZE)
        assert level.order <= flat_order + (n < 100)  # a few stars may be deceived by chance
        bent = fit_shape_map(x, y, *sdk(*smooth(x, y)), snr, size=SIZE)
        assert bent.order <= max(highest, 1)
        assert n >= 5 * len(bent.coeff_p)
    assert bent.order == 4


@pytest.mark.parametrize("share", [0.05, 0.25, 0.4])
def test_blends_and_galaxies_do_not_bend_the_map(share: float) -> None:
    x, y, rng = stars(1000)
    snr = np.full(len(x), 100.0)
    fwhm, ellipticity, theta = smooth(x, y)
    wrong = rng.random(len(x)) < share
    wrong_shape = (np.where(wrong, fwhm * rng.uniform(1.3, 2.5, len(x)), fwhm), np.where(wrong, 0.5, ellipticity), theta)
    found = fit_shape_map(x, y, *noisy(sdk(*wrong_shape), snr, rng), snr, size=SIZE)
    grid = frame_grid()
    worst = misses(found.evaluate(*grid), *smooth(*grid))
    assert worst[0] < 0.01 and worst[1] < 0.01


@pytest.mark.parametrize("scatter", [0.0, 0.05])
def test_the_errors_of_the_map_are_honest(scatter: float) -> None:
    """Also where stars scatter for reasons of their own, as undersampled ones do, whatever their S/N."""
    ratio = []
    for seed in range(12):
        x, y, rng = stars(400, seed)
        snr = 10.0 ** rng.uniform(1.3, 3.0, len(x))
        fwhm, ellipticity, theta = smooth(x, y)
        shapes = noisy(sdk(fwhm * np.exp(rng.normal(0.0, scatter, len(x))), ellipticity, theta), snr, rng)
        found = fit_shape_map(x, y, *shapes, snr, size=SIZE)
        at = found.evaluate(x, y)
        ratio.append([np.sqrt(np.mean((at.fwhm - fwhm) ** 2)) / found.err_fwhm])
    assert 0.7 < np.mean(ratio) < 1.6


def test_magnitude_and_colour_have_terms_where_they_matter() -> None:
    x, y, rng = stars(1500)
    mag, colour = rng.uniform(8.0, 14.0, len(x)), rng.normal(0.8, 0.4, len(x))
    colour[::7] = np.nan
    snr = np.full(len(x), 300.0)
    fwhm, ellipticity, theta = smooth(x, y)
    # brighter is wider (the brighter-fatter effect), bluer is wider (seeing, chromatic lenses)
    wider = fwhm * np.exp(-0.01 * (mag - 11.0) - 0.03 * (np.nan_to_num(colour, nan=0.8) - 0.8))
    shapes = noisy(sdk(wider, ellipticity, theta), snr, rng)
    plain = fit_shape_map(x, y, *shapes, snr, size=SIZE)
    found = fit_shape_map(x, y, *shapes, snr, size=SIZE, mag=mag, colour=colour)
    assert (plain.mag_order, plain.colour_order) == (0, 0)
    assert found.mag_order >= 1 and found.colour_order == 1
    assert found.rms_fwhm < 0.7 * plain.rms_fwhm
    at = found.evaluate(500.0, 450.0, mag=[8.5, 13.5, np.nan], colour=[0.8, 0.8, np.nan])
    assert at.fwhm[0] / at.fwhm[1] == pytest.approx(np.exp(0.05), rel=0.004)
    # beyond the stars the map stays what it was
    assert found.evaluate(500.0, 450.0, mag=30.0, colour=0.8).fwhm == found.evaluate(500.0, 450.0, mag=14.0, colour=0.8).fwhm
    nothing = fit_shape_map(x, y, *noisy(sdk(fwhm, ellipticity, theta), snr, rng), snr, size=SIZE, mag=mag, colour=colour)
    assert np.ptp(nothing.evaluate(500.0, 450.0, mag=[8.0, 14.0], colour=[0.4, 1.2]).fwhm) < 0.01


@settings(max_examples=30, deadline=None)
@given(n=st.integers(5, 60), ellipticity=st.floats(0.0, 0.95), seed=st.integers(0, 500))
def test_no_shape_of_a_map_is_unphysical(n: int, ellipticity: float, seed: int) -> None:
    x, y, rng = stars(n, seed)
    shape = sdk(rng.uniform(1.0, 9.0, n), ellipticity, rng.uniform(-1.5, 1.5, n))
    found = fit_shape_map(x, y, *shape, rng.uniform(5.0, 500.0, n), size=SIZE)
    at = found.evaluate(*frame_grid())
    assert (at.s > np.hypot(at.d, at.k)).all()
    assert ((at.ellipticity >= 0.0) & (at.ellipticity < 1.0) & (at.fwhm > 0.0)).all()


def test_row_survives_json() -> None:
    x, y, rng = stars(300)
    snr = np.full(300, 50.0)
    found = fit_shape_map(x, y, *noisy(sdk(*smooth(x, y)), snr, rng), snr, size=SIZE, mag=rng.uniform(8, 12, 300))
    assert ShapeMap.from_row({**json.loads(json.dumps(found.to_row())), "frame_id": 3}) == found


def test_positions_beyond_the_border_and_unknown_ones() -> None:
    x, y, _ = stars(300)
    found = fit_shape_map(x, y, *sdk(*smooth(x, y)), np.full(300, 50.0), size=SIZE)
    at = found.evaluate([-50.0, 0.0, np.nan], [0.0, 0.0, 5.0])
    assert at.fwhm[0] == at.fwhm[1] and np.isnan(at.fwhm[2])
    assert float(found.evaluate(10.0, 20.0).s) > 0.0


def test_useless_stars_are_left_out_and_too_few_are_refused() -> None:
    x, y, _ = stars(300)
    s, d, k = sdk(*smooth(x, y))
    snr = np.full(300, 50.0)
    x[100], snr[101] = np.nan, 0.0
    s, d, k = noisy((s, d, k), np.full(300, 50.0), np.random.default_rng(2))
    s[:100] = 0.5 * np.hypot(d[:100], k[:100])
    found = fit_shape_map(x, y, s, d, k, snr, size=SIZE)
    assert found.n_star == 198
    with pytest.raises(AlgorithmFailed, match="2 of 104 stars have a usable shape, at least 5 are needed") as met:
        fit_shape_map(*(value[:104] for value in (x, y, s, d, k, snr)), size=SIZE)
    assert met.value.code == "shape.few_stars"


def measured(x: np.ndarray, y: np.ndarray, snr: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Adaptive moments (Hirata & Seljak 2003) of GalSim's Gaussian stars with sky noise, as s, d, k."""
    out = np.full((3, len(x)), np.nan)
    side = 31
    noise = galsim.BaseDeviate(int(rng.integers(1 << 30)))
    for n, (fwhm, ellipticity, theta) in enumerate(zip(*smooth(x, y), strict=True)):
        ratio = 1.0 - ellipticity
        star = galsim.Gaussian(fwhm=fwhm, flux=1.0).shear(q=ratio, beta=theta * galsim.radians)
        offset = galsim.PositionD(x[n] % 1.0 - 0.5, y[n] % 1.0 - 0.5)
        image = star.drawImage(nx=side, ny=side, scale=1.0, method="no_pixel", offset=offset)
        # S/N of the flux of a known profile: flux / (noise * sqrt(effective area))
        image.addNoise(galsim.GaussianNoise(noise, sigma=float(np.sqrt((image.array**2).sum())) / snr[n]))
        moments = galsim.hsm.FindAdaptiveMom(image, strict=False)
        if moments.moments_status == 0:
            e = moments.observed_shape
            root = np.sqrt(1.0 - e.e1**2 - e.e2**2) * moments.moments_sigma**2
            out[:, n] = [1.0 / root, -e.e1 / root, -e.e2 / root]
    return out[0], out[1], out[2]


def test_map_of_galsims_stars_is_galsims_truth() -> None:
    x, y, rng = stars(600)
    snr = 10.0 ** rng.uniform(1.3, 2.7, len(x))
    found = fit_shape_map(x, y, *measured(x, y, snr, rng), snr, size=SIZE)
    grid = frame_grid()
    worst = misses(found.evaluate(*grid), *smooth(*grid))
    assert worst[0] < 0.01 and worst[1] < 0.01


def test_map_of_an_extracted_frame_is_galsims_truth() -> None:
    rng = np.random.default_rng(6)
    image = galsim.ImageF(*SIZE, xmin=0, ymin=0)
    column, row = np.meshgrid(np.arange(14.0, SIZE[0] - 14, 24), np.arange(14.0, SIZE[1] - 14, 24))
    x, y = column.ravel() + rng.uniform(-4, 4, column.size), row.ravel() + rng.uniform(-4, 4, column.size)
    noise = 5.0
    for fwhm, ellipticity, theta, x0, y0 in zip(*smooth(x, y), x, y, strict=True):
        star = galsim.Gaussian(fwhm=fwhm, flux=noise * 10.0 ** rng.uniform(2.2, 3.8)).shear(
            q=1.0 - ellipticity, beta=theta * galsim.radians
        )
        stamp = star.drawImage(nx=27, ny=27, scale=1.0, method="auto", center=galsim.PositionD(x0, y0))
        both = stamp.bounds & image.bounds
        image[both] += stamp[both]
    data = image.array + rng.normal(0.0, noise, image.array.shape).astype(np.float32)
    found = extract(data, np.full(data.shape, noise**2, np.float32), np.zeros(data.shape, np.uint8))
    clean = found.take((found.flags == 0) & (found.snr > 20.0))
    shape_map = fit_shape_map(clean.x, clean.y, clean.s, clean.d, clean.k, clean.snr, size=SIZE)
    # what a star looks like includes the pixel, a box of variance 1/12
    grid = frame_grid()
    s, d, k = sdk(*smooth(*grid))
    det = s**2 - d**2 - k**2
    mean, first, second = s / det + 1.0 / 12.0, -d / det, -k / det
    det = mean**2 - first**2 - second**2
    expected = shape_axes(mean / det, -first / det, -second / det)
    worst = misses(shape_map.evaluate(*grid), expected.fwhm, expected.ellipticity, expected.theta)
    assert worst[0] < 0.01 and worst[1] < 0.01


@pytest.mark.realdata
def test_two_halves_of_a_real_frames_stars_make_the_same_map(night_files: Callable[[str], list[Path]]) -> None:
    data = fits.getdata(night_files("hatp32")[0]).astype(np.float32)
    mask = np.where(data >= 4095, int(Mask.SATURATED), 0).astype(np.uint8)
    found = extract(data, np.maximum(data - 313.0, 0.0) / 38.8 + 0.3, mask)
    clean = found.take((found.flags == 0) & (found.snr > 20.0))
    x, y = (part.ravel() for part in np.meshgrid(np.linspace(0.0, 649.0, 27), np.linspace(0.0, 499.0, 21)))
    maps = []
    for start in (0, 1):
        half = clean.take(np.arange(start, len(clean), 2))
        maps.append(fit_shape_map(half.x, half.y, half.s, half.d, half.k, half.snr, size=(650, 500)).evaluate(x, y))
    first, second = maps
    assert np.std(first.fwhm / second.fwhm) < 0.02
    away = first.ellipticity * np.exp(2j * first.theta) - second.ellipticity * np.exp(2j * second.theta)
    assert np.sqrt(np.mean(np.abs(away) ** 2)) < 0.03
    # the stars of this frame are trailed, and all the same way
    assert np.median(first.ellipticity) > 0.2 and np.ptp(first.theta) < 0.5


@pytest.mark.parametrize(("nx", "ny"), [(1, 2), (2, 1), (101, 3001)])
def test_terms_go_from_minus_one_to_one_over_the_frame(nx: int, ny: int) -> None:
    basis = _Basis(nx, ny, 1, 1, 0, 0, (0.0, 1.0), (0.0, 1.0))
    x, y, known = np.array([0.0, nx - 1.0, (nx - 1) / 2]), np.array([0.0, ny - 1.0, (ny - 1) / 2]), np.zeros(3)
    expected = {"x": [-1.0, 1.0, 0.0] if nx > 1 else [-1.0] * 3, "y": [-1.0, 1.0, 0.0] if ny > 1 else [-1.0] * 3}
    columns = basis.terms(x, y, known, known).T.tolist()
    assert sorted(columns) == sorted([[1.0] * 3, expected["x"], expected["y"]])
