"""Detector facts from images alone: simulated truth first, then real nights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from reduction.calibration.kernels.detector import (
    brightest,
    pair_sample,
    pair_transfer,
    photon_transfer,
    saturation_level,
    sky_mask,
    sky_sample,
)

SHAPE = (300, 300)


def expose(rng: np.random.Generator, sky: float, *, gain: float = 20.0, shift: float = 0.0) -> np.ndarray:
    """Integer frame (ADU) of a star field with 1 % pixel response noise; `sky` is light in ADU."""
    fixed = np.random.default_rng(77)
    light = np.full(SHAPE, sky)
    y, x = np.indices(SHAPE)
    for star_x, star_y, flux in zip(fixed.uniform(0, 300, 60), fixed.uniform(0, 300, 60), 30 * fixed.pareto(0.7, 60) + 30, strict=True):
        cut = (slice(max(int(star_y) - 12, 0), int(star_y) + 13), slice(max(int(star_x) - 12, 0), int(star_x) + 13))
        light[cut] += flux / 25 * np.exp(-0.5 * ((x[cut] - star_x - shift) ** 2 + (y[cut] - star_y) ** 2) / 2.0**2)
    light *= fixed.normal(1.0, 0.01, SHAPE)
    electrons = rng.poisson(light * gain) + rng.normal(0, 8.0, SHAPE)
    return np.rint(np.clip(313 + electrons / gain, 0, 4095)).astype(np.float32)


def test_sky_sample_of_integer_data() -> None:
    rng = np.random.default_rng(1)
    data = np.rint(rng.normal(353.3, 1.1, SHAPE) + np.linspace(0, 8, 300)).astype(np.float32)
    sample = sky_sample(data)
    assert sample.level[0] == pytest.approx(353.3 + 4, abs=0.1)
    assert sample.variance[0] == pytest.approx(1.1**2 + 1 / 12, rel=0.03)


def test_sky_sample_among_stars() -> None:
    sample = sky_sample(expose(np.random.default_rng(2), 50.0))
    assert sample.level[0] == pytest.approx(363, abs=0.5)
    assert sample.variance[0] == pytest.approx(50 / 20 + (8 / 20) ** 2 + 1 / 12 + 0.25, rel=0.06)


def test_pair_sample_drops_what_stands_still() -> None:
    rng = np.random.default_rng(3)
    sample = pair_sample(expose(rng, 50.0), expose(rng, 52.0, shift=1.5))
    assert sample.level[0] == pytest.approx(364, abs=0.5)
    assert sample.variance[0] == pytest.approx(51 / 20 + (8 / 20) ** 2 + 1 / 12, rel=0.04)
    assert sample.n[0] > 20_000


def test_no_sky_is_nan() -> None:
    nothing = np.full(SHAPE, np.nan, np.float32)
    sample = pair_sample(nothing, nothing)
    assert np.isnan(sample.level[0]) and sample.n[0] == 0
    assert np.isnan(sky_sample(nothing).variance[0])


def test_sky_mask_finds_stars() -> None:
    image = expose(np.random.default_rng(4), 50.0)
    masked = sky_mask(image)
    assert masked[image > 400].all()
    assert 0.02 < masked.mean() < 0.5


def test_gain_from_the_sky_of_a_night() -> None:
    rng = np.random.default_rng(5)
    samples = [pair_sample(expose(rng, sky), expose(rng, sky)) for sky in np.linspace(20, 80, 10)]
    level, variance, n = (np.concatenate([getattr(s, name) for s in samples]) for name in ("level", "variance", "n"))
    transfer = photon_transfer(level, variance, variance * np.sqrt(2 / n))
    assert transfer.constrained and transfer.gain == pytest.approx(20.0, rel=0.1)
    assert abs(transfer.gain - 20.0) < 4 * transfer.gain_err < 10
    # Read noise hides in the zero level: both together make the right noise.
    assert transfer.zero_level == pytest.approx(313 - 20 * (8 / 20) ** 2, abs=4)
    known = photon_transfer(level, variance, zero_level=313.0)
    assert known.read_noise == pytest.approx(8.0, abs=2.5)


def test_photon_transfer_of_an_exact_line() -> None:
    level = np.linspace(400, 900, 12)
    variance = (level - 300) / 2.5 + (7.0 / 2.5) ** 2 + 1 / 12
    variance[4] *= 5
    transfer = photon_transfer(level, variance, zero_level=300.0)
    assert transfer.gain == pytest.approx(2.5, rel=1e-6) and transfer.read_noise == pytest.approx(7.0, rel=1e-5)
    assert transfer.constrained and transfer.reason == "" and transfer.n == 12


@pytest.mark.parametrize("level", [[400.0] * 8, [400.0, 401, 402], np.linspace(400, 401, 30), [np.nan] * 9, []])
def test_photon_transfer_says_when_it_does_not_know(level: list[float]) -> None:
    level = np.asarray(level)
    variance = 40 + np.random.default_rng(6).normal(0, 1, level.size)
    transfer = photon_transfer(level, variance)
    assert not transfer.constrained and transfer.reason


def test_pairs_of_flats_and_biases() -> None:
    rng = np.random.default_rng(7)
    response = rng.normal(1.0, 0.02, SHAPE) * np.linspace(0.7, 1.2, 300)

    def frame(light: float) -> np.ndarray:
        return np.rint(313 + (rng.poisson(light * 2.0 * response) + rng.normal(0, 9.0, SHAPE)) / 2.0).astype(np.float32)

    transfer = pair_transfer((frame(9000), frame(9100)), (frame(0), frame(0)))
    assert transfer.constrained and transfer.gain == pytest.approx(2.0, rel=0.02)
    assert transfer.gain_err < 0.05
    assert transfer.read_noise == pytest.approx(9.0, rel=0.02) and transfer.zero_level == pytest.approx(313, abs=0.1)
    dark = pair_transfer((frame(0), frame(0)), (frame(0), frame(0)))
    assert not dark.constrained and dark.reason


def test_saturation_of_clipped_data() -> None:
    rng = np.random.default_rng(9)
    frames = [np.minimum(np.rint(rng.pareto(1.0, SHAPE) * 20 + 350), 4095).astype(np.float32) for _ in range(4)]
    assert saturation_level([brightest(f) for f in frames]) == 4095
    assert saturation_level(brightest(frames[0])) == 4095
    unsaturated = [np.where(f > 3000, 350, f).astype(np.float32) for f in frames]
    assert saturation_level([brightest(f) for f in unsaturated]) is None


def test_saturation_smeared_by_a_flat() -> None:
    rng = np.random.default_rng(10)
    frames = [np.minimum(rng.pareto(1.0, SHAPE) * 60, 33000) * rng.normal(1.0, 0.02, SHAPE) for _ in range(3)]
    level = saturation_level([brightest(f.astype(np.float32)) for f in frames])
    assert level is not None and 29000 < level < 33000


def test_no_saturation_in_noise_one_star_or_nothing() -> None:
    rng = np.random.default_rng(11)
    assert saturation_level([brightest(rng.normal(300, 4, SHAPE).round().astype(np.float32)) for _ in range(5)]) is None
    stars = [expose(rng, 50.0) for _ in range(5)]
    for frame in stars:
        frame[frame > 3000] = 900
        frame[150, 150] = 2900 + rng.normal(0, 10)
    assert saturation_level([brightest(f) for f in stars]) is None
    assert saturation_level([]) is None and saturation_level([np.full(5, np.nan)]) is None


def test_a_full_scale_maximum_counts() -> None:
    assert saturation_level([300.0, 400.0, 65535.0]) == 65535


def test_brightest() -> None:
    image = np.arange(1000, dtype=np.float32)
    image[7] = np.nan
    assert brightest(image, 3).tolist() == [999, 998, 997]
    top = brightest(np.array([1.0, np.nan], np.float32), 3)
    assert top[0] == 1 and np.isnan(top[1:]).all()


@pytest.mark.realdata
def test_real_night_gain_zero_level_and_saturation(shared_data: Path) -> None:
    """Truth: 38.8 electron/ADU, zero level 313 ADU, 12 bits."""
    files = sorted((shared_data / "hatp32").glob("*.FITS"))
    starts = np.linspace(0, len(files) - 2, 8).astype(int)
    pairs = [[fits.getdata(files[k]).astype(np.float32) for k in (start, start + 1)] for start in starts]
    samples = [pair_sample(*pair) for pair in pairs]
    transfer = photon_transfer(*(np.concatenate([getattr(s, name) for s in samples]) for name in ("level", "variance")))
    assert transfer.constrained
    assert 38.8 / 1.5 < transfer.gain < 38.8 * 1.5
    assert abs(transfer.gain - 38.8) < 2.5 * transfer.gain_err
    assert transfer.zero_level == pytest.approx(313, abs=10)
    assert saturation_level([brightest(frame) for pair in pairs for frame in pair]) == 4095


@pytest.mark.realdata
def test_real_smeared_saturation(night_files: Callable[[str], list[Path]]) -> None:
    level = saturation_level([brightest(fits.getdata(path).astype(np.float32)) for path in night_files("skycamt")])
    assert level is not None and 27000 < level < 34000
