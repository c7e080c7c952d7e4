"""Calibrating a 4096x4096 frame (value, error, mask) on one core: starledger against ccdproc, in one run.

python benchmarks/bench_calibrate.py
"""

from __future__ import annotations

import tracemalloc
import warnings
from collections.abc import Callable

import astropy.units as u
import ccdproc
import numpy as np
from astropy.nddata import CCDData, StdDevUncertainty
from record import record
from simulated_field import best_of, simulated_field

from reduction.calibration.kernels.calibration import Plane, calibrate
from reduction.calibration.kernels.cosmic_rays import cosmic_rays
from reduction.calibration.kernels.overscan import subtract_overscan

GAIN, READ_NOISE, SATURATION, SCALE = 2.0, 4.0, 60_000.0, 0.5
OVERSCAN = 64


def master(rng: np.random.Generator, value: float, error: float, shape: tuple[int, int]) -> Plane:
    values = rng.normal(value, error, shape).astype(np.float32)
    return Plane(values, np.full(shape, error**2, np.float32), (rng.random(shape) < 1e-4).astype(np.uint8) * np.uint8(4))


def as_ccd(plane: Plane, unit: u.UnitBase) -> CCDData:
    return CCDData(plane.value, uncertainty=StdDevUncertainty(np.sqrt(plane.variance)), mask=plane.mask > 0, unit=unit)


def peak(function: Callable[[], object]) -> float:
    """Most memory that a call takes beyond what was there, GB."""
    tracemalloc.start()
    function()
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return highest / 1e9


def main() -> None:
    rng = np.random.default_rng(2)
    light = simulated_field()[0]
    ny, nx = light.shape
    raw = np.hstack([light, rng.normal(0.0, READ_NOISE / GAIN, (ny, OVERSCAN))]) + 1000.0
    raw = np.rint(raw).clip(0, 65535).astype(np.uint16)
    trim, overscan = (0, nx, 0, ny), (nx, nx + OVERSCAN, 0, ny)
    bias, dark, flat = master(rng, 0.0, 0.5, (ny, nx)), master(rng, 8.0, 0.8, (ny, nx)), master(rng, 1.0, 0.003, (ny, nx))
    frame = raw[:, :nx]
    print(f"{nx}x{ny} pixels of 16 bits, masters for bias, dark (scaled by {SCALE}) and flat, {(frame >= SATURATION).sum()} saturated")

    def ours() -> Plane:
        return calibrate(
            frame,
            gain=GAIN,
            read_noise=READ_NOISE,
            saturation=SATURATION,
            bias=bias,
            dark=dark,
            dark_scale=SCALE,
            flat=flat,
            zero_level=0.0,
        )

    masters = [as_ccd(plane, unit) for plane, unit in ((bias, u.adu), (dark, u.adu), (flat, u.dimensionless_unscaled))]

    def by_ccdproc() -> CCDData:
        ccd = CCDData(frame.astype(np.float32), unit=u.adu, mask=frame >= SATURATION)
        ccd = ccdproc.create_deviation(ccd, gain=GAIN * u.electron / u.adu, readnoise=READ_NOISE * u.electron, disregard_nan=True)
        ccd = ccdproc.subtract_bias(ccd, masters[0])
        seconds = {"dark_exposure": 1.0 * u.s, "data_exposure": SCALE * u.s}
        ccd = ccdproc.subtract_dark(ccd, masters[1], **seconds, scale=True)
        return ccdproc.flat_correct(ccd, masters[2], norm_value=1.0)

    def with_overscan() -> Plane:
        trimmed = subtract_overscan(raw, trim, overscan)
        return calibrate(
            trimmed.data,
            gain=GAIN,
            read_noise=READ_NOISE,
            saturation=frame >= SATURATION,
            bias=bias,
            dark=dark,
            dark_scale=SCALE,
            flat=flat,
            overscan_variance=trimmed.variance,
            linearity=(1e-7,),
        )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result, theirs = ours(), by_ccdproc()
        good = (result.mask == 0) & ~theirs.mask
        difference = float(np.abs(result.value - theirs.data)[good].max())
        print(f"largest difference of the values, unmasked: {difference:.5f} ADU")
        reference = best_of(ours)
        for name, run in (("starledger", ours), ("ccdproc", by_ccdproc), ("starledger with overscan and linearity", with_overscan)):
            seconds = reference if run is ours else best_of(run)
            if run is by_ccdproc:
                record("calibrate", {name: reference / seconds})
            print(f"{name:39s} {seconds:6.3f} s, {seconds / reference:5.1f} times; {peak(run):.2f} GB beyond raw frame and masters")
        plane = with_overscan()
        seconds = best_of(lambda: cosmic_rays(plane))
        print(f"{'starledger, cosmic-ray hits on top':39s} {seconds:6.3f} s; {peak(lambda: cosmic_rays(plane)):.2f} GB")


if __name__ == "__main__":
    main()
