"""A 4096x4096 raw frame read, calibrated, freed of cosmic rays and written, on one core: starledger against ccdproc, in one run.

python benchmarks/bench_frame.py

Both write value, error and mask, tile-compressed; ccdproc with the rounding that astropy chooses. The masters are in memory.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import astropy.units as u
import ccdproc
import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData
from bench_calibrate import GAIN, READ_NOISE, SATURATION, SCALE, as_ccd, master
from record import record
from scipy import ndimage
from simulated_field import simulated_field

from db.flags import Mask
from reduction.calibration.kernels.calibration import calibrate
from reduction.calibration.kernels.cosmic_rays import cosmic_rays
from reduction.files.convert import read_raw
from reduction.files.product import read_calibrated, write_calibrated

HITS, ZERO = 2000, 1000.0
THRESHOLD = 5.0
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
Stages = dict[str, float]


class Watch:
    """Seconds of the processor that each stage takes, noted at its end, and those of the clock on the wall."""

    def __init__(self) -> None:
        self.stages: Stages = {}
        self.start, self.last = time.perf_counter(), time.process_time()

    def note(self, stage: str) -> None:
        """A stage has ended."""
        now = time.process_time()
        self.stages[stage], self.last = now - self.last, now

    def end(self) -> Stages:
        """All stages, and the time on the clock."""
        return {**self.stages, "clock": time.perf_counter() - self.start}


def raw_frame(rng: np.random.Generator, path: Path) -> np.ndarray:
    """Write the raw frame; where its hits are."""
    light = simulated_field()[0]
    hit = np.zeros(light.shape, bool)
    hit[tuple(rng.integers(20, light.shape[0] - 20, (2, HITS)))] = True
    light[hit] += rng.uniform(200.0, 3000.0, int(hit.sum())).astype(np.float32)
    fits.writeto(path, np.rint(light + ZERO).clip(0, 65535).astype(np.uint16))
    return hit


def processor(stages: Stages) -> float:
    """Seconds of the processor in all stages."""
    return sum(seconds for stage, seconds in stages.items() if stage != "clock")


def fastest(run: Callable[[], Stages], repeats: int = 3) -> Stages:
    """Stages of the shortest of several runs, after one that is not counted."""
    run()
    return min((run() for _ in range(repeats)), key=processor)


def main() -> None:
    rng = np.random.default_rng(2)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        path, mine, other = (Path(folder) / name for name in ("raw.fits", "starledger.fits", "ccdproc.fits"))
        hit = raw_frame(rng, path)
        shape = hit.shape
        bias, dark, flat = master(rng, ZERO, 0.5, shape), master(rng, 8.0, 0.8, shape), master(rng, 1.0, 0.003, shape)
        masters = [as_ccd(plane, unit) for plane, unit in ((bias, u.adu), (dark, u.adu), (flat, u.dimensionless_unscaled))]

        def ours() -> Stages:
            watch = Watch()
            raw = read_raw(path).data
            watch.note("read")
            plane = calibrate(
                raw, gain=GAIN, read_noise=READ_NOISE, saturation=SATURATION, bias=bias, dark=dark, dark_scale=SCALE, flat=flat
            )
            watch.note("calibrate")
            plane.mask[cosmic_rays(plane, threshold=THRESHOLD)] |= np.uint8(int(Mask.COSMIC))
            watch.note("cosmics")
            write_calibrated(mine, plane.value, plane.variance, plane.mask)
            watch.note("write")
            return watch.end()

        def by_ccdproc() -> Stages:
            watch = Watch()
            ccd = CCDData(fits.getdata(path).astype(np.float32), unit=u.adu)
            watch.note("read")
            ccd.mask = ccd.data >= SATURATION
            ccd = ccdproc.subtract_bias(ccd, masters[0])
            ccd = ccdproc.create_deviation(ccd, gain=GAIN * u.electron / u.adu, readnoise=READ_NOISE * u.electron, disregard_nan=True)
            seconds = {"dark_exposure": 1.0 * u.s, "data_exposure": SCALE * u.s}
            ccd = ccdproc.subtract_dark(ccd, masters[1], **seconds, scale=True)
            ccd = ccdproc.flat_correct(ccd, masters[2], norm_value=1.0)
            watch.note("calibrate")
            clean = ccdproc.cosmicray_lacosmic(
                ccd, sigclip=THRESHOLD, niter=1, gain=GAIN, readnoise=READ_NOISE, satlevel=SATURATION * GAIN, gain_apply=False
            )
            watch.note("cosmics")
            planes = {"SCI": ccd.data, "ERR": ccd.uncertainty.array}
            hdus = [fits.CompImageHDU(np.asarray(plane, np.float32), name=name) for name, plane in planes.items()]
            marked = fits.CompImageHDU(np.asarray(clean.mask, np.uint8), name="MASK")
            fits.HDUList([fits.PrimaryHDU(), *hdus, marked]).writeto(other, overwrite=True)
            watch.note("write")
            return watch.end()

        print(f"{shape[1]}x{shape[0]} pixels of 16 bits, bias, dark scaled by {SCALE}, flat, {HITS} cosmic-ray hits; seconds of one core")
        reference = 0.0
        for name, run in (("starledger", ours), ("ccdproc", by_ccdproc)):
            stages = fastest(run)
            total = processor(stages)
            reference = reference or total
            if run is by_ccdproc:
                record("frame", {name: reference / total})
            told = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in stages.items() if stage != "clock")
            print(f"{name:11s} {total:6.2f} s, {total / reference:5.1f} times; {told}; {stages['clock']:.2f} s on the clock")
        found = (read_calibrated(mine)["MASK"] & np.uint8(int(Mask.COSMIC))) > 0
        theirs = fits.getdata(other, "MASK") > 0
        beside = ndimage.binary_dilation(hit, np.ones((3, 3)))
        for name, marks in (("starledger", found), ("ccdproc", theirs)):
            print(f"{name:11s} marks {np.mean(marks[hit]):.1%} of the hits, and {np.count_nonzero(marks & ~beside)} pixels that touch none")
        print(f"files: {mine.stat().st_size / 1e6:.0f} MB and {other.stat().st_size / 1e6:.0f} MB, raw {path.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    if any(os.environ.get(name) != "1" for name in THREADS):
        # The libraries count their threads when they are loaded.
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **dict.fromkeys(THREADS, "1")})
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    main()
