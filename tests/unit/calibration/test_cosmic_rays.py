"""Cosmic rays: planted hits are found, undersampled stars are not taken for them."""

from __future__ import annotations

from pathlib import Path

import astroscrappy
import galsim
import numpy as np
import pytest
from astropy.io import fits
from scipy import ndimage, special

from db.flags import Mask
from reduction.astrometry.kernels.detection import extract
from reduction.calibration.kernels import cosmic_rays as cosmic
from reduction.calibration.kernels.calibration import Plane, calibrate
from reduction.calibration.kernels.cosmic_rays import cosmic_rays, star_sharpness

GAIN, READ_NOISE, SKY, SIZE = 2.0, 8.0, 300.0, 400
NOISE = np.sqrt(SKY + READ_NOISE**2)


def pixel_star(x: float, y: float, flux: float, fwhm: float, image: np.ndarray) -> None:
    """Add a Gaussian star, integrated over the pixels."""
    width = fwhm / 2.3548 * np.sqrt(2.0)
    first_x, first_y = max(int(x) - 9, 0), max(int(y) - 9, 0)
    window = image[first_y : int(y) + 10, first_x : int(x) + 10]
    column, row = np.arange(first_x, first_x + window.shape[1]), np.arange(first_y, first_y + window.shape[0])
    across = 0.5 * (special.erf((column + 0.5 - x) / width) - special.erf((column - 0.5 - x) / width))
    along = 0.5 * (special.erf((row + 0.5 - y) / width) - special.erf((row - 0.5 - y) / width))
    window += flux * np.outer(along, across)


def stars(rng: np.random.Generator, n: int, fwhm: tuple[float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sky and stars in electrons, FWHM rising from the frame's left to its right."""
    x, y = rng.uniform(5, SIZE - 6, (2, n))
    image = np.full((SIZE, SIZE), SKY)
    for star_x, star_y, flux in zip(x, y, 800.0 * (rng.pareto(0.8, n) + 1.0).clip(max=500), strict=True):
        pixel_star(star_x, star_y, flux, fwhm[0] + (fwhm[1] - fwhm[0]) * star_x / SIZE, image)
    return image, x, y


def hits(rng: np.random.Generator, n: int) -> np.ndarray:
    """Charge of hits, electrons: single pixels and tracks of 3 to 12, 10 to 1000 standard deviations of the sky in each."""
    charge = np.zeros((SIZE, SIZE))
    for k in range(n):
        length, angle = (0.0 if k % 2 == 0 else rng.uniform(3, 12)), rng.uniform(0, np.pi)
        step = np.linspace(0, length, 200)
        y, x = np.rint(rng.uniform(15, SIZE - 15, (2, 1)) + step * np.array([[np.sin(angle)], [np.cos(angle)]])).astype(int)
        # The quarter of a standard deviation keeps what noise takes away above 10.
        charge[y, x] = max(charge[y[0], x[0]], 10 ** rng.uniform(1.02, 3) * NOISE)
    return charge


def exposed(rng: np.random.Generator, electrons: np.ndarray, charge: np.ndarray | float = 0.0) -> Plane:
    counts = rng.poisson(electrons) + charge + rng.normal(0, READ_NOISE, electrons.shape)
    raw = np.rint(1000 + counts / GAIN).clip(max=65535).astype(np.uint16)
    return calibrate(raw, gain=GAIN, read_noise=READ_NOISE, zero_level=1000.0, saturation=65535.0)


def cores(mask: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether any of the 3x3 pixels about each star is marked."""
    return ndimage.binary_dilation(mask, np.ones((3, 3)))[np.rint(y).astype(int), np.rint(x).astype(int)]


@pytest.mark.parametrize("fwhm", [(1.4, 1.4), (1.5, 1.5), (2.0, 2.0), (2.2, 2.2), (2.5, 2.5), (4.0, 4.0), (1.5, 2.5)], ids=str)
def test_hits_are_found_and_stars_are_not(fwhm: tuple[float, float]) -> None:
    rng = np.random.default_rng(21)
    image, x, y = stars(rng, 500, fwhm)
    charge = hits(rng, 120)
    plane = exposed(rng, image, charge)
    found = cosmic_rays(plane)
    struck = charge > 0
    # A hit below what the stars put on the pixel is not asked for.
    clear = struck & (image < SKY + charge / 4) & (plane.mask == 0)
    assert clear.sum() > 350
    assert found[clear].mean() > 0.97
    near = ndimage.binary_dilation(struck, np.ones((3, 3)))
    assert cores(found & ~near, x, y).sum() <= 1
    assert (found & ~near).sum() <= 3


@pytest.mark.parametrize("angle", [0, 30, 45, 80])
@pytest.mark.parametrize(("profile", "fwhm"), [("gaussian", 1.3), ("gaussian", 1.6), ("moffat", 1.6), ("moffat", 2.2)])
def test_trailed_stars_are_no_hits_and_hits_among_them_are_found(profile: str, fwhm: float, angle: float) -> None:
    rng = np.random.default_rng(31)
    seen = galsim.Gaussian(fwhm=fwhm) if profile == "gaussian" else galsim.Moffat(beta=3.0, fwhm=fwhm)
    trail = galsim.Convolve(seen, galsim.Box(8.0, 0.05).rotate(angle * galsim.degrees))
    frame = galsim.ImageD(SIZE, SIZE, init_value=SKY)
    for x, y, flux in zip(*rng.uniform(20, SIZE - 20, (2, 120)), 10 ** rng.uniform(3.5, 6.3, 120), strict=True):
        stamp = trail.drawImage(nx=33, ny=33, scale=1.0, center=galsim.PositionD(x, y)) * flux
        frame[stamp.bounds & frame.bounds] += stamp[stamp.bounds & frame.bounds]
    charge = hits(rng, 60)
    plane = exposed(rng, frame.array, charge)
    found = cosmic_rays(plane)
    assert not (found & ~ndimage.binary_dilation(charge > 0, np.ones((3, 3)))).any()
    clear = (charge > 0) & (frame.array < SKY + 5.0) & (plane.mask == 0) & (charge > 30 * NOISE)
    assert clear.sum() > 50
    assert found[clear].mean() > 0.9


@pytest.mark.parametrize("fwhm", [1.4, 1.8, 2.2, 2.6])
def test_a_crowded_field_without_hits_stays_clean(fwhm: float) -> None:
    rng = np.random.default_rng(22)
    image, x, y = stars(rng, 3000, (fwhm, fwhm))
    plane = exposed(rng, image)
    assert cores(cosmic_rays(plane), x, y).mean() <= 0.001
    if fwhm < 2.0:
        # What the guard is for.
        alone, _ = astroscrappy.detect_cosmics(plane.value, invar=plane.variance, inmask=plane.mask != 0, satlevel=np.inf)
        assert cores(alone, x, y).mean() > 0.2


@pytest.mark.parametrize("fwhm", [1.5, 2.0, 3.0])
def test_sharpness_is_that_of_the_gaussian(fwhm: float) -> None:
    rng = np.random.default_rng(23)
    image, _, _ = stars(rng, 300, (fwhm, fwhm))
    # The pixel's own width, 1/12 in the square, adds to the star's.
    expected = 1.0 / ((fwhm / 2.3548) ** 2 + 1.0 / 12.0)
    assert star_sharpness(exposed(rng, image)) == pytest.approx(expected, rel=0.12)


def test_hits_do_not_make_the_stars_sharper() -> None:
    rng = np.random.default_rng(24)
    image, _, _ = stars(rng, 300, (2.2, 2.2))
    clean, struck = star_sharpness(exposed(rng, image)), star_sharpness(exposed(rng, image, hits(rng, 300)))
    assert struck == pytest.approx(clean, abs=0.15)


def test_without_stars_bright_hits_are_found() -> None:
    rng = np.random.default_rng(25)
    charge = hits(rng, 100)
    plane = exposed(rng, np.full((SIZE, SIZE), SKY), charge)
    found = cosmic_rays(plane)
    assert found[charge > 60 * NOISE].mean() > 0.9
    assert not (found & ~ndimage.binary_dilation(charge > 0, np.ones((3, 3)))).any()
    given = cosmic_rays(plane, sharpness=1.1)
    assert given[charge > 0].mean() > 0.97


def test_a_hit_in_the_wings_of_a_star_leaves_its_core() -> None:
    rng = np.random.default_rng(26)
    image, _, _ = stars(rng, 300, (2.2, 2.2))
    image[150:250, 150:250] = SKY
    pixel_star(200.0, 200.0, 60_000.0, 2.2, image)
    charge = np.zeros_like(image)
    charge[200, 204] = 200 * NOISE
    found = cosmic_rays(exposed(rng, image, charge))[190:211, 190:211]
    assert np.argwhere(found).tolist() == [[10, 14]]


def test_masked_pixels_are_neither_searched_nor_trusted() -> None:
    rng = np.random.default_rng(27)
    image, _, _ = stars(rng, 300, (2.2, 2.2))
    plane = exposed(rng, image)
    sky = np.argwhere(ndimage.maximum_filter(image, 9) < SKY + 1)[::40][:20]
    for y, x in sky:
        plane.value[y, x] = 5000.0
        plane.mask[y, x] = Mask.HOT
    plane.value[100:104, 100:104] = np.nan
    plane.mask[100:104, 100:104] = Mask.NO_DATA
    assert not cosmic_rays(plane).any()
    plane.mask[:] = Mask.NO_DATA
    assert not cosmic_rays(plane).any() and star_sharpness(plane) == 3.8


@pytest.mark.parametrize("shape", [(1, 1), (5, 40), (9, 9), (33, 70)])
def test_small_frames(shape: tuple[int, int]) -> None:
    value = np.random.default_rng(28).normal(100, 5, shape).astype(np.float32)
    plane = Plane(value, np.full(shape, 25, np.float32), np.zeros(shape, np.uint8))
    assert cosmic_rays(plane).shape == shape and not cosmic_rays(plane).any()


def test_tiles_give_what_the_whole_frame_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(30)
    image, _, _ = stars(rng, 800, (2.0, 2.0))
    plane = exposed(rng, image, hits(rng, 200))
    tiled = cosmic_rays(plane)
    for size in (100, SIZE):
        monkeypatch.setattr(cosmic, "_LARGE_TILE", size)
        monkeypatch.setattr(cosmic, "_TILE", size)
        np.testing.assert_array_equal(cosmic_rays(plane), tiled)


def test_stars_at_an_edge_in_shadow_are_left_alone() -> None:
    rng = np.random.default_rng(31)
    image = np.full((SIZE, SIZE), 3000.0)
    for k, x in enumerate(np.linspace(40, SIZE - 12, 40)):
        pixel_star(x, 3.0 + 0.08 * k, 12_000.0, 2.4, image)
        pixel_star(x, 200.0, 12_000.0, 2.4, image)
    # As on a real detector: half of the light in the first row, all of it in the eighth.
    image *= 1.0 - 0.5 * np.exp(-np.arange(SIZE) / 2.0)[:, np.newaxis]
    charge = np.zeros_like(image)
    charge[5, 20] = 2000.0
    assert np.argwhere(cosmic_rays(exposed(rng, image, charge))).tolist() == [[5, 20]]


def test_nothing_is_changed() -> None:
    rng = np.random.default_rng(29)
    plane = exposed(rng, np.full((SIZE, SIZE), SKY), hits(rng, 50))
    before = [part.copy() for part in (plane.value, plane.variance, plane.mask)]
    np.testing.assert_array_equal(cosmic_rays(plane), cosmic_rays(plane))
    for part, old in zip((plane.value, plane.variance, plane.mask), before, strict=True):
        np.testing.assert_array_equal(part, old)


@pytest.mark.realdata
@pytest.mark.parametrize("night", ["skycamt", "hatp32"])
def test_cores_of_real_undersampled_stars_are_left_alone(shared_data: Path, night: str) -> None:
    files = sorted(path for path in (shared_data / night).iterdir() if path.suffix.lower() == ".fits")
    # One of skycamt's frames has as many stars as three of the other night's.
    n = 1 if night == "skycamt" else 3
    planes = [real_plane(fits.getdata(path).astype(np.float32), night) for path in files[:: len(files) // n][:n]]
    # There is no dark: what is found in the same place again and again is a hot pixel, and has to be known before.
    again = np.sum([cosmic_rays(plane) for plane in planes], axis=0) >= 2
    n_star, n_flagged, n_alone = 0, 0, 0
    for plane in planes:
        plane.mask[again] |= int(Mask.HOT)
        stars_seen = extract(plane.value, plane.variance, plane.mask, threshold=5.0)
        # One of its four rounds: what it marks first is more than enough.
        alone, _ = astroscrappy.detect_cosmics(plane.value, invar=plane.variance, inmask=plane.mask != 0, satlevel=np.inf, niter=1)
        n_star += stars_seen.x.size
        n_flagged += int(cores(cosmic_rays(plane), stars_seen.x, stars_seen.y).sum())
        n_alone += int(cores(alone, stars_seen.x, stars_seen.y).sum())
    assert n_star > 3000
    assert n_flagged < 0.003 * n_star and n_alone > 15 * n_flagged


def real_plane(data: np.ndarray, night: str) -> Plane:
    if night == "hatp32":
        return calibrate(data, gain=38.8, read_noise=20.0, zero_level=313.0, saturation=4095.0)
    level, noise = float(np.median(data)), 1.4826 * float(np.median(np.abs(np.diff(data, axis=1)))) / np.sqrt(2.0)
    return calibrate(data, gain=2.0, read_noise=2.0 * noise, zero_level=level, saturation=0.9 * float(data.max()))


@pytest.mark.parametrize("shape", [(9, 9), (28, 40), (120, 90)])
def test_candidates_are_those_of_astroscrappy(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(8)
    data, variance = rng.normal(0, 10, shape).astype(np.float32), rng.uniform(50, 150, shape).astype(np.float32)
    struck = rng.random(shape) < 0.03
    struck[shape[0] // 2, shape[1] // 2] = True
    data[struck] += rng.uniform(200, 900, np.count_nonzero(struck)).astype(np.float32)
    truth, _ = astroscrappy.detect_cosmics(data, invar=variance, sigclip=5.0, objlim=0.0, satlevel=np.inf, niter=1)
    assert truth.any()
    np.testing.assert_array_equal(cosmic._lacosmic(data, variance, 5.0), truth.astype(bool))
