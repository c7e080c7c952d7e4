"""Extraction of a 4096x4096 frame with 20,000 stars on one core: starledger against sep as is and source-extractor, in one run.

python benchmarks/bench_extract.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import sep
from astropy.io import fits
from record import record
from scipy.spatial import cKDTree
from simulated_field import best_of, simulated_field

from reduction.astrometry.kernels.detection import extract

SIGNIFICANT = 20.0
COLUMNS = ("XWIN_IMAGE", "YWIN_IMAGE", "FLUX_AUTO", "X2WIN_IMAGE", "Y2WIN_IMAGE", "XYWIN_IMAGE", "ERRAWIN_IMAGE", "FWHM_IMAGE")


def by_sep(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The recipe of sep's documentation, with windowed centroids for the half-light radius and errors left out."""
    background = sep.Background(image)
    flat = image - background.back(dtype=np.float32)
    objects = sep.extract(flat, 1.5, err=background.globalrms)
    radius, _ = sep.flux_radius(flat, objects["x"], objects["y"], 6.0 * objects["a"], 0.5, normflux=objects["flux"], subpix=5)
    x, y, _ = sep.winpos(flat, objects["x"], objects["y"], 2.0 / 2.35 * radius)
    return x, y


def by_source_extractor(image: np.ndarray, folder: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """Positions, and the seconds of the program without those to write the image."""
    fits.writeto(folder / "image.fits", image, overwrite=True)
    (folder / "columns").write_text("\n".join(COLUMNS) + "\n")
    shared = Path("/usr/share/source-extractor")
    options = {
        "PARAMETERS_NAME": folder / "columns",
        "FILTER_NAME": shared / "default.conv",
        "STARNNW_NAME": shared / "default.nnw",
        "CATALOG_NAME": folder / "stars",
        "CATALOG_TYPE": "ASCII",
        "DETECT_THRESH": 1.5,
        "DETECT_MINAREA": 4,
        "NTHREADS": 1,
        "MEMORY_PIXSTACK": 3000000,
        "VERBOSE_TYPE": "QUIET",
    }
    words = [str(word) for name, value in options.items() for word in (f"-{name}", value)]
    start = time.perf_counter()
    subprocess.run(["source-extractor", "image.fits", "-c", shared / "default.sex", *words], cwd=folder, check=True, capture_output=True)
    seconds = time.perf_counter() - start
    x, y = np.loadtxt(folder / "stars", usecols=(0, 1), unpack=True)
    return x - 1.0, y - 1.0, seconds


def verdict(x: np.ndarray, y: np.ndarray, truth: tuple[np.ndarray, np.ndarray, np.ndarray]) -> str:
    """Number found, share found of isolated stars above the significance, and the scatter of bright stars' positions."""
    true_x, true_y, flux = truth
    snr = flux / np.sqrt(4.0 * np.pi * 1.15**2 * (100.0 / 2.0 + 4.0) + flux / 2.0)
    alone = cKDTree(np.column_stack([true_x, true_y])).query(np.column_stack([true_x, true_y]), k=2)[0][:, 1] > 10.0
    inside = (np.minimum(true_x, true_y) > 10) & (np.maximum(true_x, true_y) < 4085)
    distance, nearest = cKDTree(np.column_stack([x, y])).query(np.column_stack([true_x, true_y]))
    wanted = (snr > SIGNIFICANT) & inside
    bright = (snr > 100) & alone & inside & (distance < 1.0)
    offset = np.concatenate([x[nearest[bright]] - true_x[bright], y[nearest[bright]] - true_y[bright]])
    spurious = np.mean(cKDTree(np.column_stack([true_x, true_y])).query(np.column_stack([x, y]))[0] > 2.0)
    isolated, every = (100.0 * np.mean(distance[which] < 1.5) for which in (wanted & alone, wanted))
    return (
        f"{x.size} found, {isolated:.2f} % of isolated and {every:.2f} % of all above S/N {SIGNIFICANT:.0f}, "
        f"{100 * spurious:.2f} % spurious, {1480 * np.median(np.abs(offset)):.1f} mpx at S/N > 100"
    )


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    image, x, y, flux = simulated_field()
    variance, mask = image / 2 + 4, np.zeros(image.shape, np.uint8)
    reference = best_of(lambda: extract(image, variance, mask, threshold=4.0))
    found = extract(image, variance, mask, threshold=4.0)
    print(f"{x.size} stars, {image.shape[1]}x{image.shape[0]} pixels, one core")
    print(f"starledger        {reference:6.2f} s; {verdict(found.x, found.y, (x, y, flux))}")
    seconds = best_of(lambda: by_sep(image))
    record("extract", {"sep": reference / seconds})
    print(f"sep               {seconds:6.2f} s, {seconds / reference:.2f} times starledger's; {verdict(*by_sep(image), (x, y, flux))}")
    if shutil.which("source-extractor") is None:
        print("source-extractor  not installed")
        return
    with tempfile.TemporaryDirectory() as folder:
        runs = [by_source_extractor(image, Path(folder)) for _ in range(3)]
    seconds = min(run[2] for run in runs)
    record("extract", {"source-extractor": reference / seconds})
    print(
        f"source-extractor  {seconds:6.2f} s, {seconds / reference:.2f} times starledger's; {verdict(runs[0][0], runs[0][1], (x, y, flux))}"
    )


if __name__ == "__main__":
    main()
