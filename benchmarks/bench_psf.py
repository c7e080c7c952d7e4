"""Profile map, fitted fluxes and apertures that know the profile, on a frame of 300 and one of 20,000 stars.

The fluxes are held against photutils' PSFPhotometry with the same map, on the small frame; apertures against sep's exact ones on the same
stars, which split border pixels by area and leave neighbours in.

python benchmarks/bench_psf.py
"""

from __future__ import annotations

import resource
import time
import warnings

import numpy as np
import sep
from astropy.table import Table
from photutils.psf import PSFPhotometry
from record import record
from simulated_field import best_of

from reduction.photometry.kernels.psf_aperture import psf_apertures
from reduction.photometry.kernels.psf_fit import fit_psf
from reduction.photometry.kernels.psf_flux import Pixels, fit_fluxes, model_image
from reduction.photometry.kernels.psf_seed import seed_map
from reduction.photometry.psf_model import gridded_model

FWHM = 2.5
RADII = FWHM * np.array([1.0, 1.25, 1.6, 2.1])


def frame(n: int, nx: int, ny: int) -> tuple[Pixels, np.ndarray, np.ndarray, np.ndarray]:
    """Stars of a profile that is rounder on one side of the frame than on the other, on a sky with a noise of 10."""
    rng = np.random.default_rng(11)
    x, y, flux = rng.uniform(0, nx, n), rng.uniform(0, ny, n), 10 ** rng.uniform(2.5, 5.0, n)
    image, left = np.zeros((ny, nx)), x < nx / 2
    for side, ellipticity in ((left, 0.05), (~left, 0.15)):
        stamps = seed_map((nx, ny), FWHM, 4 * FWHM, pixel=1.0, ellipticity=ellipticity).stamps(x[side], y[side])
        image += model_image(stamps, flux[side], image.shape)
    image += rng.standard_normal(image.shape) * np.sqrt(100.0 + image)
    good = np.ones(image.shape, bool)
    return Pixels(image.astype(np.float32), np.full(image.shape, 100.0, np.float32), 1.0, good), x, y, flux


def stages(n: int, nx: int, ny: int) -> dict[str, float]:
    """Seconds of each stage, and of all; compiled before."""
    pixels, x, y, _ = frame(n, nx, ny)
    mask = np.zeros((ny, nx), np.uint8)
    seed = seed_map((nx, ny), FWHM, 4 * FWHM, pixel=1.0)
    start = time.perf_counter()
    psf = fit_psf(pixels, x, y, seed, max_stars=1000).psf
    mapped = time.perf_counter()
    stamps = psf.stamps(x, y)
    fluxes = fit_fluxes(pixels, stamps)
    fitted = time.perf_counter()
    psf_apertures(pixels, mask, psf, stamps, fluxes, x, y, RADII)
    by_profile = time.perf_counter()
    psf_apertures(pixels, mask, psf, stamps, fluxes, x, y, RADII, split=False)
    by_area = time.perf_counter()
    image = pixels.value.astype(np.float64)
    peer = best_of(lambda: [sep.sum_circle(image, x, y, radius, err=10.0, subpix=0) for radius in RADII])
    record("psf", {f"sep exact, {n} stars, split by area": (by_area - by_profile) / peer})
    return {
        "map": mapped - start,
        "fluxes": fitted - mapped,
        "four apertures by the profile": by_profile - fitted,
        "four apertures by area": by_area - by_profile,
        "sep's four apertures": peer,
        "map, fluxes, apertures by the profile": by_profile - start,
    }


def against_photutils() -> None:
    pixels, x, y, _ = frame(300, 650, 500)
    psf = fit_psf(pixels, x, y, seed_map((650, 500), FWHM, 4 * FWHM, pixel=1.0)).psf
    ours = best_of(lambda: fit_fluxes(pixels, psf.stamps(x, y)))
    model = gridded_model(psf)
    model.x_0.fixed = model.y_0.fixed = True
    photometry = PSFPhotometry(model, (21, 21), aperture_radius=4.0)
    table = Table({"x_init": x, "y_init": y})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        photometry(pixels.value.astype(float), error=np.sqrt(pixels.dark), init_params=table)
        theirs = time.perf_counter() - start
    record("psf", {"photutils, fluxes of 300 stars": ours / theirs})
    print(f"fluxes of 300 stars: {ours:.3f} s; photutils, each star alone: {theirs:.1f} s, {theirs / ours:.0f} times as long")


def main() -> None:
    start = time.perf_counter()
    stages(300, 650, 500)
    print(f"first run, with compiling where no cache is: {time.perf_counter() - start:.1f} s")
    for n, nx, ny in ((300, 650, 500), (20_000, 4096, 4096)):
        print(f"{n} stars on {nx} x {ny} pixels")
        for name, seconds in stages(n, nx, ny).items():
            print(f"    {name:40s} {seconds:7.3f} s")
    print(f"largest memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
    against_photutils()


if __name__ == "__main__":
    main()
