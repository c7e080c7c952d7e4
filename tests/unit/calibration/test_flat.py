"""Flats against simulated truth: chosen, matched, and stacked to the photon limit."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from db.flags import Mask
from reduction.calibration.kernels.calibration import Plane
from reduction.calibration.kernels.flat import (
    UNUSABLE,
    block_means,
    expand,
    lasting_stars,
    leftover,
    smooth_shape,
    spot_means,
    stack_shapes,
    standing_spots,
    star_mask,
    starlike,
)
from reduction.calibration.kernels.flat_selection import FlatStatistics, flat_reasons, flat_statistics
from reduction.calibration.kernels.stack import MasterImage, stack_bands

GAIN, READ_NOISE, SATURATION = 2.0, 4.0, 60_000.0
BLOCK, SMOOTH = 8, 16.0
SHAPE = (200, 260)


@dataclass
class Camera:
    """A camera whose response is known: vignetting of 40 %, dust rings, pixels that differ, dead and hot ones."""

    shape: tuple[int, int] = SHAPE
    scatter: float = 0.008
    seed: int = 1
    response: np.ndarray = field(init=False)
    dead: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        ny, nx = self.shape
        y, x = np.indices(self.shape, dtype=float)
        r2 = ((x - nx / 2) ** 2 + (y - ny / 2) ** 2) / ((nx / 2) ** 2 + (ny / 2) ** 2)
        self.response = (1.0 - 0.4 * r2) * rng.normal(1.0, self.scatter, self.shape)
        for _ in range(4):
            d = np.hypot(x - rng.uniform(0, nx), y - rng.uniform(0, ny))
            self.response *= 1.0 - 0.03 * np.exp(-0.5 * ((d - 12.0) / 3.0) ** 2)
        self.dead = rng.random(self.shape) < 3e-4
        self.response[self.dead] *= 0.1

    def flat(self, level: float, rng: np.random.Generator, light: np.ndarray | float = 1.0, extra: np.ndarray | float = 0.0) -> Plane:
        """A flat with its errors; `light` is the illumination, `extra` added light, ADU."""
        electrons = np.clip((level * light * self.response + extra) * GAIN, 0, None)
        value = (rng.poisson(electrons) + rng.normal(0.0, READ_NOISE, self.shape)) / GAIN
        mask = np.where(value >= SATURATION, int(Mask.SATURATED), 0).astype(np.uint8)
        value = np.minimum(value, SATURATION).astype(np.float32)
        variance = (np.clip(level * light * self.response, 0, None) / GAIN + (READ_NOISE / GAIN) ** 2).astype(np.float32)
        return Plane(value, variance, mask)


def twilight(shape: tuple[int, int], rng: np.random.Generator, strength: float = 0.01) -> np.ndarray:
    """Gradient of `strength` from side to side, in a direction of its own."""
    y, x = np.indices(shape, dtype=float)
    angle = rng.uniform(0, 2 * np.pi)
    return 1.0 + strength * (np.cos(angle) * (x / shape[1] - 0.5) + np.sin(angle) * (y / shape[0] - 0.5))


def clouds(shape: tuple[int, int], rng: np.random.Generator, strength: float = 0.04) -> np.ndarray:
    y, x = np.indices(shape, dtype=float)
    px, py = rng.uniform(0, 2 * np.pi, 2)
    return 1.0 + strength * np.sin(2 * np.pi * 1.3 * x / shape[1] + px) * np.cos(2 * np.pi * y / shape[0] + py)


def stars(shape: tuple[int, int], n: int, rng: np.random.Generator, flux: float = 2e4, fwhm: float = 3.0) -> np.ndarray:
    """Light of `n` stars, ADU, with a power law of fluxes from `flux` on."""
    image = np.zeros(shape)
    y, x = np.indices(shape, dtype=float)
    for x0, y0, f in zip(
        rng.uniform(0, shape[1], n), rng.uniform(0, shape[0], n), flux * (1 + rng.pareto(1.2, n)).clip(max=50), strict=True
    ):
        box = np.s_[max(int(y0) - 25, 0) : int(y0) + 26, max(int(x0) - 25, 0) : int(x0) + 26]
        image[box] += f * np.exp(-0.5 * ((x[box] - x0) ** 2 + (y[box] - y0) ** 2) * (2.355 / fwhm) ** 2) * (2.355 / fwhm) ** 2 / (2 * np.pi)
    return image


@dataclass
class Reduced:
    master: MasterImage
    shape: np.ndarray
    left: np.ndarray
    standing: int
    covered: float


def reduce_flats(flats: list[Plane], rounds: int = 2) -> Reduced:
    """The flow chart's two rounds through the stack, as the steps do it, in memory."""
    statistics = [flat_statistics(flat) for flat in flats]
    levels = np.array([s.level for s in statistics])
    good = [(flat.mask & UNUSABLE) == 0 for flat in flats]
    shapes = [smooth_shape(f.value / np.float32(lv), g, block=BLOCK, sigma=SMOOTH) for f, lv, g in zip(flats, levels, good, strict=True)]
    masks = [flat.mask.copy() for flat in flats]
    size = flats[0].value.shape
    errors = np.array([s.noise / s.level for s in statistics])
    scale = errors / np.median(errors)
    model = {"noise": READ_NOISE / GAIN / float(np.median(levels)), "photon_noise": 1 / (GAIN * float(np.median(levels)))}
    spots, standing = np.zeros(size, bool), 0
    for _ in range(rounds):
        ratio = [f.value / np.float32(lv) / expand(s, size, BLOCK) for f, lv, s in zip(flats, levels, shapes, strict=True)]
        cube, bits = np.stack(ratio), np.stack(masks)
        response = stack_bands(lambda a, b, c=cube, m=bits: (c[:, a:b], m[:, a:b]), size, n=len(flats), scale=scale, **model)
        known = ((response.mask & int(Mask.NO_DATA)) == 0) & (response.value > 0.2)
        labels = standing_spots(response.value, known)
        safe = np.where(known, response.value, 1).astype(np.float32)
        count, n_spot, means = np.zeros(size, np.uint16), int(labels.max()), []
        for k, flat in enumerate(flats):
            usable = good[k] & known
            pure = np.where(usable, ratio[k] / safe, 1).astype(np.float32)
            means.append(spot_means(pure, usable, labels, n_spot))
            found = star_mask(pure, usable)
            count += found
            masks[k] = flat.mask | np.where(found, int(Mask.NO_DATA), 0).astype(np.uint8)
        # A spot's mean is over some 30 pixels.
        stars_among = starlike(means, [s.noise / s.level / np.sqrt(30) for s in statistics], levels)
        standing = max(standing, int(stars_among.sum()))
        spots = spots | np.append(False, stars_among)[labels] | lasting_stars(count, len(flats))
        for k, flat in enumerate(flats):
            usable = ((masks[k] & UNUSABLE) == 0) & ~spots
            shapes[k] = smooth_shape(flat.value / np.float32(levels[k]), usable, block=BLOCK, sigma=SMOOTH)
    masks = [mask | np.where(spots, int(Mask.NO_DATA), 0).astype(np.uint8) for mask in masks]
    large = stack_shapes(shapes, BLOCK)
    cube = np.stack([f.value / np.float32(lv) / expand(s, size, BLOCK) for f, lv, s in zip(flats, levels, shapes, strict=True)])
    bits = np.stack(masks)
    blocks = [block_means(r, (m & UNUSABLE) == 0, BLOCK) for r, m in zip(cube, bits, strict=True)]
    left = leftover([b[0] for b in blocks], [b[1] for b in blocks])
    cube *= expand(large.value, size, BLOCK)
    master = stack_bands(lambda a, b: (cube[:, a:b], bits[:, a:b]), size, n=len(flats), scale=scale, **model)
    covered = float(np.mean([(m & UNUSABLE) != 0 for m in masks]))
    return Reduced(master, expand(large.value, size, BLOCK), left, standing, covered)


def against_truth(found: Reduced, camera: Camera) -> tuple[float, float, float]:
    """Chi2 per pixel of the small-scale response, rms of the large-scale residual, fraction of pixels without a value."""
    master = found.master
    good = (master.mask == 0) & ~camera.dead
    ratio = np.where(good, master.value / camera.response, np.nan).astype(np.float32)
    ratio /= np.nanmean(ratio)
    large = expand(smooth_shape(ratio, good, block=BLOCK, sigma=SMOOTH), ratio.shape, BLOCK)
    mean = np.mean(master.value[good], dtype=float)
    error = np.sqrt(master.variance) / camera.response / (mean / camera.response[good].mean())
    pull = ((ratio - large) / error)[good]
    return float(np.mean(pull**2)), float((large[good] - 1).std()), float(np.mean((master.mask & int(Mask.NO_DATA)) != 0))


TWILIGHT = [30_000.0, 22_000.0, 15_000.0, 9_000.0, 6_000.0]


@pytest.mark.parametrize("n_star", [0, 5, 30])
def test_response_to_the_photon_limit(n_star: int) -> None:
    rng, camera = np.random.default_rng(7), Camera()
    flats = [camera.flat(level, rng, 1.0, stars(SHAPE, n_star, rng)) for level in TWILIGHT]
    found = reduce_flats(flats)
    chi2, large, empty = against_truth(found, camera)
    assert 0.95 < chi2 < 1.05
    assert large < 0.001
    assert empty < 0.005
    assert found.left.max() < 0.002
    # The photons of all five, not their number, set the error.
    relative = 1 / np.sqrt(sum(1 / (1 / (GAIN * level) + (READ_NOISE / GAIN / level) ** 2) for level in TWILIGHT))
    middle = np.s_[80:120, 110:150]
    assert np.sqrt(np.median(found.master.variance[middle])) / np.median(found.master.value[middle]) == pytest.approx(relative, rel=0.1)


def test_twilight_gradients_of_one_percent_average_out() -> None:
    rng, camera = np.random.default_rng(11), Camera()
    found = reduce_flats([camera.flat(level, rng, twilight(SHAPE, rng)) for level in np.geomspace(40_000, 5_000, 10)])
    chi2, large, _ = against_truth(found, camera)
    assert 0.95 < chi2 < 1.05
    assert large < 0.002
    # A gradient that all flats share is taken for the response: 1 % from side to side is 0.29 % rms.
    y, _ = np.indices(SHAPE)
    shared = reduce_flats([camera.flat(level, rng, 1.0 + 0.01 * (y / SHAPE[0] - 0.5)) for level in TWILIGHT])
    assert against_truth(shared, camera)[1] == pytest.approx(0.0029, abs=0.0006)


def test_sky_flats_of_object_frames() -> None:
    rng, camera = np.random.default_rng(12), Camera()
    found = reduce_flats([camera.flat(800.0, rng, 1.0, stars(SHAPE, 50, rng, 5e3)) for _ in range(9)])
    chi2, large, empty = against_truth(found, camera)
    assert 0.15 < found.covered < 0.35
    assert 0.93 < chi2 < 1.07
    assert large < 0.002
    assert empty < 0.01


@pytest.mark.parametrize("step", [0, 1])
def test_stars_that_stand_still_are_masked(step: int) -> None:
    rng, camera = np.random.default_rng(13), Camera()
    field_ = stars(SHAPE, 20, rng)
    found = reduce_flats([camera.flat(level, rng, 1.0, np.roll(field_, (step * k, 0), (0, 1))) for k, level in enumerate(TWILIGHT)])
    assert 12 <= found.standing <= 22
    assert 0.95 < against_truth(found, camera)[0] < 1.05


def test_dust_is_no_star_and_lamps_tell_nothing() -> None:
    rng, camera = np.random.default_rng(14), Camera()
    assert reduce_flats([camera.flat(level, rng) for level in TWILIGHT]).standing == 0
    assert not starlike([np.full(3, 1.2), np.full(3, 1.2)], [0.01, 0.01], [900.0, 900.0]).any()
    fading = [np.array([1.2, 1.2, np.nan]), np.array([1.2, 1.1, 1.0]), np.array([1.2, 1.05, 1.0])]
    assert starlike(fading, [0.01] * 3, [1.0, 2.0, 4.0]).tolist() == [False, True, False]


def test_stars_meeting_by_chance_do_not_stand_still() -> None:
    rng = np.random.default_rng(15)
    count = rng.binomial(5, 0.2, (100, 100)).astype(np.uint16)
    assert lasting_stars(count, 5).mean() < 0.002
    sparse = np.zeros((100, 100), np.uint16)
    sparse[10:14, 10:14], sparse[50, 50] = 3, 1
    assert lasting_stars(sparse, 5).sum() == 16
    assert not lasting_stars(sparse, 2).any()


@pytest.mark.parametrize("seed", range(6))
def test_bad_flats_are_refused_and_good_ones_kept(seed: int) -> None:
    rng, camera = np.random.default_rng(seed), Camera((150, 200), seed=seed)
    n = int(rng.integers(7, 21))
    levels = rng.permutation(np.geomspace(rng.uniform(4_000, 10_000), rng.uniform(25_000, 40_000), n))
    bad = dict(zip(rng.permutation(n)[:3].tolist(), ("cloud", "saturated", "faint"), strict=True))
    flats = []
    for k, level in enumerate(levels):
        light, kind = twilight(camera.shape, rng), bad.get(k)
        light = light * clouds(camera.shape, rng, 0.03) if kind == "cloud" else light
        level = {"saturated": rng.uniform(62_000, 90_000), "faint": rng.uniform(50, 500)}.get(str(kind), level)
        flats.append(camera.flat(level, rng, light, stars(camera.shape, int(rng.integers(0, 50)), rng)))
    reasons = flat_reasons([flat_statistics(flat) for flat in flats])
    words = {"cloud": "shape", "saturated": "saturated", "faint": "S/N"}
    assert {k for k, reason in enumerate(reasons) if reason} == set(bad)
    for k, kind in bad.items():
        assert words[kind] in reasons[k] and "at " in reasons[k]


def test_criteria_do_not_know_the_unit() -> None:
    rng, camera = np.random.default_rng(3), Camera((150, 200))
    flats = [
        camera.flat(level, rng, clouds(camera.shape, rng, 0.05) if k == 2 else 1.0) for k, level in enumerate([20_000.0] * 4 + [300.0])
    ]
    scaled = [Plane(f.value / np.float32(16), f.variance / np.float32(256), f.mask) for f in flats]
    first, second = (flat_reasons([flat_statistics(f) for f in each]) for each in (flats, scaled))
    assert [bool(r) for r in first] == [bool(r) for r in second] == [False, False, True, False, True]


def test_excess_noise_and_jumps_of_the_light() -> None:
    rng, camera = np.random.default_rng(4), Camera((150, 200))
    levels = 30_000 * np.exp(-0.15 * np.arange(8))
    levels[5] *= 0.7
    flats = [camera.flat(level, rng) for level in levels]
    noisy = flats[2].value + rng.normal(0, 150, camera.shape).astype(np.float32)
    flats[2] = Plane(noisy, flats[2].variance, flats[2].mask)
    statistics = [flat_statistics(flat) for flat in flats]
    reasons = flat_reasons(statistics, time=np.arange(8.0), exptime=np.full(8, 5.0))
    assert [k for k, reason in enumerate(reasons) if reason] == [2, 5]
    assert "noise" in reasons[2] and "trend" in reasons[5]
    # Without times, or with levels that follow none, a level is no reason.
    assert [k for k, reason in enumerate(flat_reasons(statistics)) if reason] == [2]
    mixed = [statistics[k] for k in (0, 7, 1, 6, 3, 4)]
    assert not any(flat_reasons(mixed, time=np.arange(6.0)))


def test_flats_without_light_and_too_few_to_compare() -> None:
    rng, camera = np.random.default_rng(5), Camera((150, 200))
    dark = Plane(rng.normal(-1, 2, camera.shape).astype(np.float32), np.full(camera.shape, 4, np.float32), np.zeros(camera.shape, np.uint8))
    blind = Plane(dark.value, dark.variance, np.full(camera.shape, Mask.NO_DATA, np.uint8))
    good = camera.flat(20_000, rng)
    reasons = flat_reasons([flat_statistics(flat) for flat in (dark, blind, good)], max_level=25_000)
    assert "no light" in reasons[0] and "no light" in reasons[1] and not reasons[2]
    assert "too bright" in flat_reasons([flat_statistics(good)], max_level=15_000)[0]


@pytest.mark.parametrize("shape", [(512, 640), (390, 517)])
def test_vignetting_is_kept_to_the_corners_under_masks(shape: tuple[int, int]) -> None:
    y, x = np.indices(shape, dtype=float)
    r2 = ((x - shape[1] / 2) ** 2 + (y - shape[0] / 2) ** 2) / ((shape[1] / 2) ** 2 + (shape[0] / 2) ** 2)
    truth = (1 / (1 + 0.29 * r2) ** 2).astype(np.float32)
    rng = np.random.default_rng(6)
    good = rng.random(shape) > 0.2
    good[100:130, 200:260] = False
    image = np.where(good, truth, np.float32(7))
    image[0, 0] = np.nan
    smooth = expand(smooth_shape(image, good, block=16, sigma=24.0), shape, 16)
    assert np.abs(smooth / truth - 1).max() < 5e-4


def test_quadratics_are_exact_and_gaps_are_filled() -> None:
    y, x = np.indices((130, 170), dtype=float)
    truth = (1 + 2e-3 * x - 1e-5 * y**2 + 1e-5 * x * y).astype(np.float32)
    good = np.ones(truth.shape, bool)
    good[40:60, 50:90] = False
    np.testing.assert_allclose(expand(smooth_shape(truth, good, block=8, sigma=16.0), truth.shape, 8), truth, atol=1e-3)
    lone = np.zeros(truth.shape, bool)
    lone[20, 30] = True
    np.testing.assert_allclose(smooth_shape(np.where(lone, np.float32(4), truth), lone, block=8, sigma=8.0), 4.0, rtol=1e-6)
    assert np.isnan(smooth_shape(truth, ~np.ones(truth.shape, bool), block=8, sigma=8.0)).all()
    with pytest.raises(ValueError, match="sigma"):
        smooth_shape(truth, good, block=8, sigma=0.0)


def test_block_means_leave_outliers_out() -> None:
    rng = np.random.default_rng(8)
    image = rng.normal(10, 1, (64, 70)).astype(np.float32)
    image[3, 3] = 1e6
    mean, variance = block_means(image, np.ones(image.shape, bool), 16)
    assert mean.shape == (4, 5) and abs(mean[0, 0] - 10) < 0.4
    assert mean[1, 1] == pytest.approx(image[16:32, 16:32].mean(), abs=0.02)
    assert variance[1, 1] == pytest.approx(image[16:32, 16:32].var(ddof=1) / 256, rel=0.05)


def test_shapes_are_averaged_and_compared() -> None:
    y, x = np.indices((20, 24), dtype=float)
    vignetting = 1 - 0.3 * ((x / 23 - 0.5) ** 2 + (y / 19 - 0.5) ** 2)
    shapes = [vignetting * (1 + 0.01 * k * (x / 23 - 0.5)) for k in (-2, -1, 0, 1, 2)]
    shapes[1][4, 4] *= 1.3
    large = stack_shapes(shapes, 16)
    expected = vignetting / vignetting.mean()
    np.testing.assert_allclose(large.value / expected, 1, atol=1e-3)
    assert large.count[4, 4] == 4 and large.count[10, 12] == 5
    error = np.std([shape / shape.mean() for shape in shapes], axis=0, ddof=1) / np.sqrt(5)
    np.testing.assert_allclose(np.sqrt(large.variance), error, rtol=1e-3)
    with pytest.raises(ValueError, match="positive"):
        stack_shapes([-vignetting], 16)


def test_dust_that_moved_is_left_over() -> None:
    rng = np.random.default_rng(9)
    images = [rng.normal(1, 0.01, (160, 160)).astype(np.float32) for _ in range(5)]
    images[3][40:80, 40:80] -= 0.03
    means, variances = zip(*(block_means(image, np.ones(image.shape, bool), 8) for image in images), strict=True)
    left = leftover(means, variances)
    assert left[3] > 0.005 and np.delete(left, 3).max() < 0.002
    assert not leftover(means[:2], variances[:2]).any()


@pytest.mark.realdata
def test_tircam2_with_a_pedestal_and_no_darks(shared_data: Path) -> None:
    folder = shared_data / "tircam2"
    biases = np.stack([fits.getdata(folder / f"bias_{k}.fits").astype(np.float32) for k in (1, 2, 3)])
    bias = np.median(biases, axis=0)
    flats = []
    for k in range(1, 6):
        light = fits.getdata(folder / f"flats0{k}.fits").astype(np.float32) - bias
        flats.append(Plane(light, np.full(light.shape, 16.0**2, np.float32), np.zeros(light.shape, np.uint8)))
    statistics = [flat_statistics(flat) for flat in flats]
    assert all(100 < s.level < 200 and 5 < s.signal_to_noise < 15 for s in statistics)
    assert not any(flat_reasons(statistics))
    assert all("S/N" in reason and "at least 30" in reason for reason in flat_reasons(statistics, min_signal_to_noise=30.0))
    master = reduce_flats(flats).master
    good = master.mask == 0
    assert good.mean() > 0.85
    assert np.median(np.sqrt(master.variance[good])) < 0.06


@pytest.mark.parametrize("n_faint", [5, 50])
def test_faint_frames_never_outvote_bright_flats(n_faint: int) -> None:
    generator = np.random.default_rng(3)
    y, x = np.indices((96, 112))
    shape = 1 - 0.3 * ((x - 56) ** 2 + (y - 48) ** 2) / 56**2

    def taken(light: np.ndarray | float) -> FlatStatistics:
        value = generator.poisson(np.broadcast_to(light, y.shape)) + generator.normal(0, 4, y.shape)
        return flat_statistics(Plane(value.astype(np.float32), (value.clip(1) + 16).astype(np.float32), np.zeros(y.shape, np.uint8)))

    # A pedestal that nobody took off is even, and its S/N is not that of a dark frame.
    statistics = [taken(103.0) for _ in range(n_faint)] + [taken(28000.0 * shape) for _ in range(2)]
    reasons = flat_reasons(statistics)
    assert all(reason.startswith("too faint") for reason in reasons[:n_faint])
    assert reasons[n_faint:] == ["", ""]


def test_the_shape_of_a_set_is_that_of_its_bright_flats() -> None:
    generator = np.random.default_rng(4)
    y, x = np.indices((96, 112))
    shape, tilted = 1 - 0.3 * ((x - 56) ** 2 + (y - 48) ** 2) / 56**2, 1 + 0.3 * (x - 56) * (y - 48) / 56**2
    light = [3000.0 * tilted] * 5 + [28000.0 * shape] * 2
    planes = [(generator.poisson(each) + generator.normal(0, 4, y.shape)).astype(np.float32) for each in light]
    reasons = flat_reasons([flat_statistics(Plane(value, value.clip(1) + 16, np.zeros(y.shape, np.uint8))) for value in planes])
    assert reasons[5:] == ["", ""]
    assert all(reason for reason in reasons[:5])
