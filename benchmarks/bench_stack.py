"""Stacking 20 bias frames of 4096x4096 with masks and errors on one core: starledger against ccdproc, in one run.

python benchmarks/bench_stack.py
python benchmarks/bench_stack.py --size 1024 --frames 20 --theirs 5

Both get calibrated frames one by one, keep them on disk, and average what is within 4 sigma; the time includes the writing. Each runs in a
process of its own, whose peak memory is that of the whole process. With --theirs ccdproc gets fewer frames: its figures are then for these.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from record import record

LEVEL, NOISE, HITS = 300.0, 5.0, 0.0005
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def frames(size: int, n: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint8]]]:
    """Values and masks of a bias set with cosmic-ray hits; made as they are asked for, which is not timed."""
    for k in range(n):
        rng = np.random.default_rng(k)
        value = rng.standard_normal((size, size), dtype=np.float32)
        value *= np.float32(NOISE)
        value += np.float32(LEVEL)
        hit = rng.integers(0, size, (2, int(HITS * size**2)))
        value[hit[0], hit[1]] += rng.exponential(200.0, hit.shape[1]).astype(np.float32)
        mask = np.zeros((size, size), np.uint8)
        mask[rng.integers(0, size, 1000), rng.integers(0, size, 1000)] = 2
        yield value, mask


def ours(size: int, n: int, folder: Path) -> tuple[float, NDArray[np.float32], NDArray[np.float32]]:
    from reduction.calibration.kernels.stack import stack_bands
    from reduction.files.scratch import Scratch

    warm_value, warm_mask = np.zeros((3, 8, 8), np.float32), np.zeros((3, 8, 8), np.uint8)
    stack_bands(lambda first, last: (warm_value[:, first:last], warm_mask[:, first:last]), (8, 8), n=3)
    seconds = 0.0
    with Scratch(folder, (size, size)) as scratch:
        for value, mask in frames(size, n):
            start = time.perf_counter()
            scratch.add(value, mask)
            seconds += time.perf_counter() - start
        start = time.perf_counter()
        master = stack_bands(scratch.band, scratch.shape, n=n, sigma=4.0)
        seconds += time.perf_counter() - start
    return seconds, master.value, np.sqrt(master.variance)


def by_ccdproc(size: int, n: int, folder: Path) -> tuple[float, NDArray[np.float32], NDArray[np.float32]]:
    import astropy.units as u
    import ccdproc
    from astropy.nddata import CCDData

    seconds, names = 0.0, []
    for k, (value, mask) in enumerate(frames(size, n)):
        name = str(folder / f"{k}.fits")
        start = time.perf_counter()
        CCDData(value, mask=mask > 0, unit=u.adu).write(name)
        seconds += time.perf_counter() - start
        names.append(name)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # ccdproc's combiner has the scatter of the values as the error of their mean.
        master = ccdproc.combine(
            names,
            method="average",
            sigma_clip=True,
            sigma_clip_low_thresh=4.0,
            sigma_clip_high_thresh=4.0,
            sigma_clip_func=np.ma.median,
            sigma_clip_dev_func=np.ma.std,
            mem_limit=1e9,
            dtype=np.float32,
        )
    seconds += time.perf_counter() - start
    return seconds, np.asarray(master.data), np.asarray(master.uncertainty.array)


RUNS: dict[str, Callable[[int, int, Path], tuple[float, NDArray[np.float32], NDArray[np.float32]]]] = {
    "starledger": ours,
    "ccdproc": by_ccdproc,
}


def child(name: str, size: int, n: int) -> None:
    """Run one of them, and print its figures."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".tmp-") as folder:
        seconds, value, error = RUNS[name](size, n, Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    good = np.isfinite(value) & (value != 0)
    offset = float(np.mean(value[good] - LEVEL, dtype=float)) / NOISE
    scatter = float(np.std(value[good], dtype=float)) / (NOISE / np.sqrt(n))
    stated = float(np.median(error[good])) / (NOISE / np.sqrt(n))
    print(json.dumps({"seconds": seconds, "peak": peak, "offset": offset, "scatter": scatter, "stated": stated}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--theirs", type=int, default=None, help="frames that ccdproc gets, when fewer")
    parser.add_argument("--child", choices=sorted(RUNS), default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.size, options.frames)
        return
    number = {"starledger": options.frames, "ccdproc": options.theirs or options.frames}
    print(f"{options.size}x{options.size} pixels, {HITS:.2%} cosmic-ray hits a frame, one core")
    environment = {**os.environ, **dict.fromkeys(THREADS, "1")}
    reference = 0.0
    for name, n in number.items():
        command = [sys.executable, __file__, "--child", name, "--size", str(options.size), "--frames", str(n)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        found = json.loads(done.stdout.splitlines()[-1])
        reference = reference or found["seconds"] / n
        if name != "starledger":
            record("stack", {name: reference / (found["seconds"] / n)})
        print(
            f"{name:11s} {n:3d} frames {found['seconds']:7.1f} s, {found['seconds'] / n / reference:5.1f} times a frame; "
            f"peak {found['peak']:.2f} GB; "
            f"offset {found['offset']:+.4f} sigma, noise {found['scatter']:.3f} and stated error {found['stated']:.3f} of sigma/sqrt(n)"
        )


if __name__ == "__main__":
    main()
