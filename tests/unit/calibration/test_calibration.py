"""Calibration: the value, its variance by experiment, and every mask bit."""

from __future__ import annotations

from pathlib import Path

import astropy.units as u
import ccdproc
import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from scipy import ndimage

from db.flags import Mask
from reduction.calibration.kernels.calibration import Plane, bleed_mask, calibrate, neighbour_mask, saturated_mask
from reduction.calibration.kernels.overscan import Trimmed, subtract_overscan

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
    assert not (out.mask & Mask.BLEED).any()
    beside = (out.mask & Mask.NEIGHBOUR) > 0
    assert beside[9:12, 19:22].sum() == beside.sum() == 8 and not beside[10, 20]
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


def test_bleed_follows_a_trail_and_not_a_star() -> None:
    rng = np.random.default_rng(10)
    y, x = np.indices((100, 160))
    frame = 350 + rng.normal(0, 1, (100, 160)) + 9000 * np.exp(-0.5 * ((x - 60) ** 2 + (y - 50) ** 2) / 2.0**2)
    frame[49:52, 60:110] += 60.0
    frame = np.minimum(frame, 4095).astype(np.float32)
    saturated = saturated_mask(frame, 4095)
    bleed = bleed_mask(frame, saturated, noise=1.0)
    assert bleed[49:52, 66:110].mean() > 0.99
    assert not bleed[:, 112:].any() and not bleed[:, :50].any() and not bleed[:40].any()
    assert not (bleed & saturated).any()
    assert not bleed_mask(frame, np.zeros_like(saturated)).any()
    np.testing.assert_array_equal(bleed_mask(frame.T.copy(), saturated.T.copy()), bleed.T)
    np.testing.assert_array_equal(bleed_mask(frame[:, ::-1].copy(), saturated[:, ::-1].copy()), bleed[:, ::-1])


def trailed_field(rng: np.random.Generator, vertical: bool) -> tuple[np.ndarray, np.ndarray]:
    """Frame of 15 saturated stars that bleed, and the pixels of the trails."""
    y, x = np.indices((400, 400))
    frame, planted = np.full((400, 400), 100.0), np.zeros((400, 400), bool)
    for k in range(15):
        cx, cy = 40 + 80 * (k % 5) + rng.uniform(-5, 5), 60 + 130 * (k // 5) + rng.uniform(-5, 5)
        star = 10 ** rng.uniform(5.2, 6.2) / (2 * np.pi * 1.3**2) * np.exp(-0.5 * ((x - cx) ** 2 + (y - cy) ** 2) / 1.3**2)
        full = star > 10_000
        for column in np.unique(np.nonzero(full)[1]):
            rows = np.flatnonzero(full[:, column])
            length = int(rng.integers(8, 40))
            trail = slice(rows[-1] + 1, rows[-1] + 1 + length) if k % 2 else slice(max(rows[0] - length, 0), rows[0])
            planted[trail, column] = True
        frame += star
    frame[planted] += 400.0
    frame += rng.normal(0, np.sqrt(frame / 2 + 9))
    frame = np.minimum(np.rint(frame), 10_000).astype(np.float32)
    return (frame, planted) if vertical else (frame.T.copy(), planted.T.copy())


@pytest.mark.parametrize("vertical", [True, False])
def test_planted_saturated_and_bled_pixels_are_flagged(vertical: bool) -> None:
    frame, planted = trailed_field(np.random.default_rng(11), vertical)
    out = calibrate(frame, gain=2.0, read_noise=6.0, saturation=10_000.0, zero_level=0.0)
    full = frame >= 10_000
    assert full.sum() > 100 and planted.sum() > 500
    np.testing.assert_array_equal((out.mask & Mask.SATURATED) > 0, full)
    trails = planted & ~full
    assert ((out.mask & Mask.BLEED) > 0)[trails].mean() >= 0.99
    assert ((out.mask & int(Mask.BLEED | Mask.NEIGHBOUR)) > 0)[trails].mean() >= 0.995
    assert ((out.mask & Mask.BLEED) > 0)[~planted].mean() < 0.005
    marked = (out.mask & int(Mask.SATURATED | Mask.BLEED)) > 0
    np.testing.assert_array_equal((out.mask & Mask.NEIGHBOUR) > 0, ndimage.binary_dilation(marked, np.ones((3, 3))) & ~marked)


def test_bleed_at_the_border_and_beside_nan() -> None:
    frame = np.full((12, 30), 100.0, np.float32)
    frame[0, 5:20] = frame[11, 5:20] = 400.0
    frame[0, 5] = frame[11, 5] = 5000.0
    frame[2:4, 10] = np.nan
    bleed = bleed_mask(frame, saturated_mask(frame, 5000.0), noise=5.0)
    assert bleed[0, 6:20].all() and bleed[11, 6:20].all() and bleed.sum() == 28


def test_a_frame_that_is_saturated_throughout() -> None:
    out = calibrate(raw(65535.0).astype(np.uint16), gain=1.0, read_noise=3.0, saturation=65535.0)
    assert (out.mask == Mask.SATURATED).all()


def test_infinity_is_saturated_and_has_no_value() -> None:
    image = raw()
    image[4, 4] = np.inf
    out = calibrate(image, gain=1.0, read_noise=3.0, saturation=4000.0)
    assert out.mask[4, 4] == int(Mask.SATURATED | Mask.NO_DATA) and out.value[4, 4] == out.variance[4, 4] == 0.0
    assert calibrate(image, gain=1.0, read_noise=3.0).mask[4, 4] == Mask.NO_DATA


def test_neighbours_at_the_corners() -> None:
    mask = np.zeros((5, 6), bool)
    mask[0, 0] = mask[4, 5] = True
    assert np.argwhere(neighbour_mask(mask)).tolist() == [[0, 1], [1, 0], [1, 1], [3, 4], [3, 5], [4, 4]]


@pytest.mark.parametrize("which", ["bias", "dark", "flat", "raw"])
def test_a_pixel_masked_everywhere_is_masked_and_nothing_else(which: str) -> None:
    masters = {"bias": plane(300), "dark": plane(10), "flat": plane(1.0)}
    image = raw()
    if which == "raw":
        image[:] = np.nan
    else:
        masters[which].mask[:] = Mask.NO_DATA
    out = calibrate(image, gain=GAIN, read_noise=READ_NOISE, saturation=900.0, **masters)
    assert (out.mask & Mask.NO_DATA).all() and not out.value.any() and not out.variance.any()


def test_types_of_numbers_and_read_only_arrays_do_not_matter() -> None:
    rng = np.random.default_rng(12)
    image = np.rint(rng.normal(1000, 30, SHAPE))
    masters = {"bias": plane(300, 2.0), "dark": plane(40, 3.0), "flat": plane(0.8, 1e-4)}
    for master in masters.values():
        master.value.flags.writeable = False
    expected = calibrate(image.astype(np.float32), gain=GAIN, read_noise=READ_NOISE, saturation=1080.0, **masters)
    for dtype in (np.uint16, np.int16, ">i2", ">f4", np.float64, np.int32):
        found = calibrate(image.astype(dtype), gain=GAIN, read_noise=READ_NOISE, saturation=1080.0, **masters)
        np.testing.assert_array_equal(found.value, expected.value)
        np.testing.assert_array_equal(found.variance, expected.variance)
        np.testing.assert_array_equal(found.mask, expected.mask)


def test_linearity_and_every_derivative_in_closed_form() -> None:
    """Each error on its own against the numerical derivative of the value times that error."""
    base = {"raw": 21_000.0, "bias": 1000.0, "dark": 300.0, "flat": 0.8}
    linearity, scale = (2e-6, 3e-11), 0.4

    def run(variances: dict[str, float], *, gain: float = 1e12, read_noise: float = 0.0, overscan: float = 0.0, **changed: float) -> Plane:
        at = {**base, **changed}
        masters = {
            name: Plane(
                np.full((3, 3), at[name], np.float32), plane(0, variances.get(name, 0.0), (3, 3)).variance, np.zeros((3, 3), np.uint8)
            )
            for name in ("bias", "dark", "flat")
        }
        return calibrate(
            np.full((3, 3), at["raw"], np.float32),
            gain=gain,
            read_noise=read_noise,
            quantum=0.0,
            dark_scale=scale,
            linearity=linearity,
            overscan_variance=overscan,
            **masters,
        )

    u = base["raw"] - base["bias"]
    light = u * (1 + linearity[0] * u + linearity[1] * u**2)
    value = (light - scale * base["dark"]) / base["flat"]
    np.testing.assert_allclose(run({}).value, value, rtol=1e-6)

    def derivative(**steps: float) -> float:
        up = run({}, **{name: base[name] + step for name, step in steps.items()}).value[1, 1]
        down = run({}, **{name: base[name] - step for name, step in steps.items()}).value[1, 1]
        return float(up - down) / 2.0

    # The dark lost what the bias gained.
    np.testing.assert_allclose(run({"bias": 16.0}).variance, derivative(bias=32.0, dark=-32.0) ** 2 / 64.0, rtol=1e-3)
    np.testing.assert_allclose(run({"dark": 16.0}).variance, derivative(dark=32.0) ** 2 / 64.0, rtol=1e-3)
    np.testing.assert_allclose(run({"flat": 1e-4}).variance, derivative(flat=0.005) ** 2 * 4.0, rtol=1e-3)
    np.testing.assert_allclose(run({}, overscan=16.0).variance, derivative(raw=32.0) ** 2 / 64.0, rtol=1e-3)
    slope = 1 + 2 * linearity[0] * u + 3 * linearity[1] * u**2
    np.testing.assert_allclose(run({}, gain=2.0, read_noise=8.0).variance, (light / 2.0 + (slope * 4.0) ** 2) / 0.64, rtol=1e-5)


def test_the_overscan_variance_may_go_by_row_or_by_column() -> None:
    rows, columns = np.arange(40.0)[:, None], np.arange(50.0)[None, :]
    for given in (rows, columns, 7.0):
        out = calibrate(raw(0.0), gain=1.0, read_noise=0.0, quantum=0.0, overscan_variance=given)
        np.testing.assert_allclose(out.variance, np.broadcast_to(given, SHAPE), rtol=1e-6)
    with pytest.raises(ValueError, match="overscan variance"):
        calibrate(raw(), gain=1.0, read_noise=0.0, overscan_variance=np.zeros((50, 1)))


def test_a_dark_with_another_bias_adds_that_biass_error() -> None:
    masters = {"bias": plane(300, 2.0), "dark": plane(40, 3.0)}
    own = {"gain": 1e12, "read_noise": 0.0, "quantum": 0.0, "dark_scale": 0.5}
    np.testing.assert_allclose(calibrate(raw(), **own, **masters).variance, 0.25 * 2 + 0.25 * 3, rtol=1e-6)
    np.testing.assert_allclose(calibrate(raw(), **own, **masters, same_bias=False).variance, 2 + 0.25 * (3 + 2), rtol=1e-6)
    other = plane(0, 5.0).variance
    found = calibrate(raw(), **own, **masters, same_bias=False, dark_bias_variance=other)
    np.testing.assert_allclose(found.variance, 2 + 0.25 * (3 + 5), rtol=1e-6)


@pytest.mark.parametrize(
    ("read_noise", "light", "mean", "pull"),
    [(3.0, 0.0, 1.045, 0.977), (6.0, 0.0, 1.022, 0.988), (6.0, 3.0, 1.002, 1.0), (3.0, 10.0, 1.0, 1.0), (6.0, 1000.0, 1.0, 1.0)],
)
def test_the_bias_of_the_photon_noise_at_low_counts_is_what_is_stated(read_noise: float, light: float, mean: float, pull: float) -> None:
    rng = np.random.default_rng(14)
    image = ((rng.poisson(light, (500, 500)) + rng.normal(0, read_noise, (500, 500))) / GAIN).astype(np.float32)
    out = calibrate(image, gain=GAIN, read_noise=read_noise, zero_level=0.0, quantum=0.0)
    true = (light + read_noise**2) / GAIN**2
    assert out.variance.mean(dtype=float) / true == pytest.approx(mean, abs=0.003)
    assert np.std((out.value - light / GAIN) / np.sqrt(out.variance)) == pytest.approx(pull, abs=0.006)


def test_a_star_has_its_own_photon_noise() -> None:
    """The mean of 3x3 pixels serves the sky; where a pixel stands off it, its own light counts."""
    image = raw(100.0)
    image[20, 20] = 5000.0
    out = calibrate(image, gain=GAIN, read_noise=READ_NOISE, zero_level=0.0)
    noise = (READ_NOISE / GAIN) ** 2 + 1 / 12
    assert out.variance[20, 20] == pytest.approx(5000 / GAIN + noise, rel=1e-5)
    assert out.variance[20, 21] == pytest.approx(100 / GAIN + noise, rel=1e-5)
    # A hot pixel and one without data say nothing of the light beside them.
    bias = plane(0.0)
    image[20, 20] = 120.0
    bias.mask[20, 20] = Mask.HOT
    assert calibrate(image, gain=GAIN, read_noise=READ_NOISE, bias=bias).variance[20, 21] == pytest.approx(100 / GAIN + noise, rel=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_ccdproc_gives_the_same() -> None:
    """Value and error; on constant light, where the estimates of the photon noise are one."""
    rng = np.random.default_rng(15)
    shape, gain, read_noise = (60, 70), 2.0, 8.0

    def master(value: float, error: float) -> Plane:
        errors = rng.uniform(0.5, 1.5, shape) * error
        return Plane(rng.normal(value, error, shape).astype(np.float32), (errors**2).astype(np.float32), np.zeros(shape, np.uint8))

    bias, dark, flat = master(0.0, 0.5), master(40.0, 0.8), master(1.0, 0.01)
    dark_bias = np.zeros(shape, np.float32)
    frame = (np.full(shape, 2000.0) + bias.value).astype(np.float32)
    # ccdproc takes the errors of bias and dark for independent, and the bias in the dark for perfect.
    ours = calibrate(
        frame,
        gain=gain,
        read_noise=read_noise,
        bias=bias,
        dark=dark,
        dark_scale=0.5,
        flat=flat,
        quantum=0.0,
        same_bias=False,
        dark_bias_variance=dark_bias,
    )

    def ccd(plane: Plane, unit: u.UnitBase) -> CCDData:
        return CCDData(plane.value.astype(float), uncertainty=StdDevUncertainty(np.sqrt(plane.variance.astype(float))), unit=unit)

    theirs = CCDData(frame.astype(float), unit=u.adu)
    electrons = np.full(shape, 2000.0 * gain + read_noise**2)
    theirs.uncertainty = StdDevUncertainty(np.sqrt(electrons) / gain)
    theirs = ccdproc.subtract_bias(theirs, ccd(bias, u.adu))
    theirs = ccdproc.subtract_dark(theirs, ccd(dark, u.adu), dark_exposure=2 * u.s, data_exposure=1 * u.s, scale=True)
    theirs = ccdproc.flat_correct(theirs, ccd(flat, u.dimensionless_unscaled), norm_value=1.0)
    np.testing.assert_allclose(ours.value, theirs.data, rtol=1e-5)
    np.testing.assert_allclose(np.sqrt(ours.variance), theirs.uncertainty.array, rtol=1e-4)


class Camera:
    """A simulated camera: electrons in, integers with an overscan out; fixed pattern in bias, dark and flat."""

    shape, gain, read_noise, width = (150, 160), 1.6, 7.0, 24

    def __init__(self, seed: int, bend: float = 0.0) -> None:
        self.rng = np.random.default_rng(seed)
        self.bias = self.rng.normal(0, 3.0, self.shape)
        self.dark = self.rng.gamma(2.0, 0.05, self.shape)  # electron/s
        self.flat = self.rng.normal(1, 0.02, self.shape)
        self.flat /= self.flat.mean()
        self.bend = bend

    def linear(self, measured: np.ndarray) -> np.ndarray:
        return measured * (1 + self.bend * measured)

    def bent(self, true: np.ndarray) -> np.ndarray:
        return true if self.bend == 0 else (np.sqrt(1 + 4 * self.bend * true) - 1) / (2 * self.bend)

    def expose(self, light: float, seconds: float) -> Trimmed:
        """Light in electrons; the frame without its overscan."""
        ny, nx = self.shape
        electrons = self.rng.poisson(light * self.flat + self.dark * seconds)
        level = 1000 + 4 * np.sin(np.arange(ny) / 30.0)
        frame = np.zeros((ny, nx + self.width))
        frame[:, :nx] = self.bias + self.bent(electrons / self.gain)
        frame += level[:, None] + self.rng.normal(0, self.read_noise / self.gain, frame.shape)
        return subtract_overscan(np.rint(frame).astype(np.uint16), (0, nx, 0, ny), (nx, nx + self.width, 0, ny), smooth=0.0)

    def calibrated(self, light: float, seconds: float, **masters: object) -> Plane:
        frame = self.expose(light, seconds)
        linearity = (self.bend,) if self.bend else ()
        return calibrate(
            frame.data, gain=self.gain, read_noise=self.read_noise, overscan_variance=frame.variance, linearity=linearity, **masters
        )

    def stacked(self, n: int, light: float, seconds: float, **masters: object) -> Plane:
        cube = np.stack([self.calibrated(light, seconds, **masters).value for _ in range(n)])
        return Plane(cube.mean(axis=0), cube.var(axis=0, ddof=1) / n, np.zeros(self.shape, np.uint8))

    def master_flat(self, n: int, light: float, **masters: object) -> Plane:
        flat = self.stacked(n, light, 2.0, **masters)
        level = float(flat.value.mean(dtype=float))
        # Of few frames the scatter is a poor measure of each pixel's noise, and all have the same.
        return Plane(flat.value / np.float32(level), np.full_like(flat.value, flat.variance.mean() / level**2), flat.mask)


@pytest.mark.parametrize("bend", [0.0, 2e-6], ids=["linear", "bent"])
@pytest.mark.parametrize("scale", [1.0, 0.4])
@pytest.mark.parametrize("light", [150.0, 20_000.0])
@pytest.mark.parametrize("same_bias", [True, False])
def test_the_pull_over_flat_sky_is_one(light: float, scale: float, bend: float, same_bias: bool) -> None:
    """Noisy masters of few frames, an overscan per row, a scaled dark; (value - truth) / error has the scatter 1.00 +- 0.02."""
    camera = Camera(13, bend)
    squared = []
    for _ in range(2):
        bias = camera.stacked(6, 0.0, 0.0)
        bias.variance[:] = bias.variance.mean()
        dark_bias = bias if same_bias else camera.stacked(4, 0.0, 0.0)
        dark_bias.variance[:] = dark_bias.variance.mean()
        dark = camera.stacked(5, 0.0, 100.0, bias=dark_bias)
        dark.variance[:] = dark.variance.mean()
        flat = camera.master_flat(8, 9000.0, bias=bias)
        other = {} if same_bias else {"same_bias": False, "dark_bias_variance": dark_bias.variance}
        out = camera.calibrated(light, 100.0 * scale, bias=bias, dark=dark, dark_scale=scale, flat=flat, **other)
        assert not out.mask.any()
        pull = (out.value - light / camera.gain) / np.sqrt(out.variance)
        squared.append(np.square(pull))
        assert abs(pull.mean()) < 0.05 + 0.004 * light / 150
    assert np.sqrt(np.mean(squared)) == pytest.approx(1.0, abs=0.02)


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
