"""Calibration: the value, its variance by experiment, and every mask bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from db.flags import Mask
from reduction.kernels.calibrate import Plane, bleed_mask, calibrate, saturated_mask, smooth_normalised, trim_overscan

SHAPE = (40, 50)
GAIN, READ_NOISE = 1.7, 6.0


def plane(value: float, variance: float = 0.0, shape: tuple[int, int] = SHAPE) -> Plane:
    return Plane(np.full(shape, value, np.float32), np.full(shape, variance, np.float32), np.zeros(shape, np.uint8))


def raw(value: float = 1000.0) -> np.ndarray:
    return np.full(SHAPE, value, np.float32)


def test_value_and_variance_in_closed_form() -> None:
    masters = {"bias": plane(300, 2.0), "dark": plane(40, 3.0), "flat": plane(0.8, 1e-4)}
    out = calibrate(raw(), gain=GAIN, read_noise=READ_NOISE, dark_scale=0.5, **masters)
    np.testing.assert_allclose(out.value, (1000 - 300 - 20) / 0.8)
    own = 700 / GAIN + (READ_NOISE / GAIN) ** 2 + 1 / 12 + 0.25 * 3.0 + 0.25 * 2.0
    np.testing.assert_allclose(out.variance, own / 0.64 + 850**2 * 1e-4 / 0.64, rtol=1e-6)
    assert out.value.dtype == out.variance.dtype == np.float32 and out.mask.dtype == np.uint8
    assert not out.mask.any()


def test_variance_is_the_scatter_of_repeated_exposures() -> None:
    """Masters and image are drawn anew each time; the variance has to cover all of it."""
    rng = np.random.default_rng(8)
    n, light, response = 4000, 400.0, 0.7
    bias_err, dark_err, flat_err = 1.5, 2.0, 0.02

    def expose(electrons: float) -> np.ndarray:
        return np.rint(300 + (rng.poisson(electrons, (n, 1)) + rng.normal(0, READ_NOISE, (n, 1))) / GAIN).astype(np.float32)

    shape = (n, 1)
    bias_error = rng.normal(0, bias_err, shape)
    bias = Plane((300 + bias_error).astype(np.float32), plane(0, bias_err**2, shape).variance, np.zeros(shape, np.uint8))
    # A dark of twice the exposure time, from which the very same master bias was subtracted.
    dark = Plane((80 - bias_error + rng.normal(0, dark_err, shape)).astype(np.float32), plane(0, dark_err**2, shape).variance, bias.mask)
    flat = Plane((response + rng.normal(0, flat_err, shape)).astype(np.float32), plane(0, flat_err**2, shape).variance, bias.mask)
    image = expose(GAIN * (light * response + 40))
    out = calibrate(image, gain=GAIN, read_noise=READ_NOISE, bias=bias, dark=dark, dark_scale=0.5, flat=flat)
    assert out.value.mean(dtype=float) == pytest.approx(light, rel=0.01)
    assert out.value.var(dtype=float) == pytest.approx(out.variance.mean(dtype=float), rel=0.08)


def test_zero_level_stands_in_for_the_bias() -> None:
    out = calibrate(raw(), gain=GAIN, read_noise=0.0, zero_level=313.0)
    np.testing.assert_allclose(out.value, 687)
    np.testing.assert_allclose(out.variance, 687 / GAIN + 1 / 12, rtol=1e-6)
    below = calibrate(raw(200.0), gain=GAIN, read_noise=3.0, zero_level=313.0, quantum=0.0)
    np.testing.assert_allclose(below.value, -113)
    np.testing.assert_allclose(below.variance, (3 / GAIN) ** 2, rtol=1e-6)


def test_a_dark_without_a_bias_carries_the_zero_level() -> None:
    out = calibrate(raw(), gain=GAIN, read_noise=0.0, dark=plane(350.0), zero_level=300.0, quantum=0.0)
    np.testing.assert_allclose(out.value, 650)
    np.testing.assert_allclose(out.variance, 700 / GAIN, rtol=1e-6)
    with pytest.raises(ValueError, match="scaled"):
        calibrate(raw(), gain=GAIN, read_noise=0.0, dark=plane(350.0), dark_scale=0.5)


def test_no_saturation_level_is_no_crash() -> None:
    assert not calibrate(raw(65535.0), gain=1.0, read_noise=1.0, saturation=None).mask.any()


def test_saturation_is_judged_on_the_raw_value() -> None:
    image = raw(500.0)
    image[10, 20] = 4095.0
    image[11, 30] = 4094.0
    out = calibrate(image, gain=GAIN, read_noise=READ_NOISE, saturation=4095.0, bias=plane(300), flat=plane(1.5))
    assert np.argwhere(out.mask & Mask.SATURATED).tolist() == [[10, 20]]
    bleed = (out.mask & Mask.BLEED) > 0
    assert bleed[9:12, 19:22].sum() == 8 and not bleed[10, 20]
    given = np.zeros(SHAPE, bool)
    given[5, 6] = True
    out = calibrate(image, gain=GAIN, read_noise=READ_NOISE, saturation=given)
    assert np.argwhere(out.mask & Mask.SATURATED).tolist() == [[5, 6]]


def test_masks_of_the_masters_are_carried() -> None:
    bias, dark, flat = plane(300), plane(10), plane(1.0)
    bias.mask[1, 1] = Mask.HOT
    dark.mask[2, 2] = Mask.HOT | Mask.SATURATED
    flat.mask[3, 3] = Mask.DEAD
    flat.mask[4, 4] = Mask.NO_DATA
    flat.value[5, 5] = 0.0
    image = raw()
    image[6, 6] = np.nan
    out = calibrate(image, gain=GAIN, read_noise=READ_NOISE, bias=bias, dark=dark, flat=flat)
    found = {tuple(p): int(out.mask[tuple(p)]) for p in np.argwhere(out.mask)}
    assert found == {(1, 1): 4, (2, 2): 4, (3, 3): 8, (4, 4): 1, (5, 5): 1, (6, 6): 1}
    empty = (out.mask & Mask.NO_DATA) > 0
    assert not out.value[empty].any() and not out.variance[empty].any()
    assert np.isfinite(out.value).all() and np.isfinite(out.variance).all()


@pytest.mark.parametrize(("gain", "read_noise"), [(0.0, 1.0), (-1.0, 1.0), (np.nan, 1.0), (1.0, -1.0)])
def test_bad_gain_and_read_noise_are_named(gain: float, read_noise: float) -> None:
    with pytest.raises(ValueError, match="gain"):
        calibrate(raw(), gain=gain, read_noise=read_noise)


def test_a_master_of_another_shape_is_named() -> None:
    with pytest.raises(ValueError, match="shape"):
        calibrate(raw(), gain=1.0, read_noise=1.0, bias=plane(1.0, shape=(3, 3)))


def overscanned(ny: int = 60, nx: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """Frame whose level drifts by row; the last 16 columns are overscan."""
    rng = np.random.default_rng(9)
    drift = 1000 + 5 * np.sin(np.arange(ny) / 12.0)
    light = rng.uniform(50, 100, (ny, nx - 16))
    frame = np.hstack([light, np.zeros((ny, 16))]) + drift[:, None]
    frame[:, -16:] += rng.normal(0, 1.0, (ny, 16))
    return frame.astype(np.float32), light


def test_overscan_columns_give_a_level_for_each_row() -> None:
    frame, light = overscanned()
    frame[30, -3] += 5000  # a cosmic ray in the overscan
    out = trim_overscan(frame, (0, 64, 0, 60), (64, 80, 0, 60), smooth=2.0)
    assert out.shape == (60, 64)
    np.testing.assert_allclose(out, light, atol=0.7)
    np.testing.assert_allclose(trim_overscan(frame.T, (0, 60, 0, 64), (0, 60, 64, 80), smooth=2.0), light.T, atol=0.7)


def test_overscan_in_a_corner_gives_one_level() -> None:
    frame = raw(500.0)
    frame[:5, :5] = 100.0
    np.testing.assert_allclose(trim_overscan(frame, (10, 50, 10, 40), (0, 5, 0, 5)), 400.0)


def test_trim_alone_copies() -> None:
    frame = raw()
    out = trim_overscan(frame, (1, 3, 2, 5), None)
    out[:] = 0
    assert out.shape == (3, 2) and (frame == 1000).all()
    assert trim_overscan(frame, None, None).shape == SHAPE


@pytest.mark.parametrize("section", [(0, 51, 0, 40), (10, 10, 0, 40), (-1, 5, 0, 5)])
def test_a_section_outside_of_the_frame_is_named(section: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="section"):
        trim_overscan(raw(), section, None)
    with pytest.raises(ValueError, match="section"):
        trim_overscan(raw(), None, section)


def test_overscan_with_gaps_and_without_values() -> None:
    frame, light = overscanned()
    frame[10:13, 64:] = np.nan
    np.testing.assert_allclose(trim_overscan(frame, (0, 64, 0, 60), (64, 80, 0, 60), smooth=0.0), light, atol=1.5)
    frame[:, 64:] = np.nan
    with pytest.raises(ValueError, match="overscan"):
        trim_overscan(frame, (0, 64, 0, 60), (64, 80, 0, 60))


def test_bleed_follows_a_trail_and_not_a_star() -> None:
    rng = np.random.default_rng(10)
    y, x = np.indices((100, 160))
    frame = 350 + rng.normal(0, 1, (100, 160)) + 9000 * np.exp(-0.5 * ((x - 60) ** 2 + (y - 50) ** 2) / 2.0**2)
    frame[49:52, 60:110] += 60.0
    frame = np.minimum(frame, 4095).astype(np.float32)
    saturated = saturated_mask(frame, 4095)
    bleed = bleed_mask(frame, saturated, noise=1.0)
    assert bleed[50, 66:110].mean() > 0.95
    assert not bleed[:, 112:].any() and not bleed[:, :50].any() and not bleed[:40].any()
    assert not (bleed & saturated).any()
    assert not bleed_mask(frame, np.zeros_like(saturated)).any()


def test_smooth_normalised_keeps_a_constant_and_fills_gaps() -> None:
    image = np.full((60, 60), 3.0, np.float32)
    mask = np.zeros(image.shape, bool)
    mask[20:30, 20:30] = True
    image[mask] = 1e6
    image[50, 50] = np.nan
    np.testing.assert_allclose(smooth_normalised(image, mask, 4.0), 3.0, rtol=1e-6)
    np.testing.assert_allclose(smooth_normalised(image, None, 4.0)[0, 0], 3.0, rtol=1e-6)
    assert np.isnan(smooth_normalised(image, np.ones_like(mask), 4.0)).all()


@pytest.mark.realdata
def test_real_trails_are_towards_positive_x(shared_data: Path) -> None:
    frame = fits.getdata(min((shared_data / "hatp32").glob("*.FITS"))).astype(np.float32)
    saturated = saturated_mask(frame, 4095.0)
    bleed = bleed_mask(frame, saturated, noise=1.3)
    y, x = np.nonzero(saturated)
    right = sum(bleed[a, b + 1 : b + 40].sum() for a, b in zip(y, x, strict=True))
    left = sum(bleed[a, max(b - 39, 0) : b].sum() for a, b in zip(y, x, strict=True))
    assert right > 1.3 * left
    assert bleed.mean() < 0.01
