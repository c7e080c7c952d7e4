"""Background of a 4096x4096 frame with 20,000 stars: starledger against sep and photutils, in one run.

python benchmarks/bench_background.py
"""

from __future__ import annotations

import numpy as np
import sep
from photutils.background import Background2D, SExtractorBackground
from record import record
from simulated_field import best_of, simulated_field

from reduction.photometry.kernels.background import background
from reduction.photometry.kernels.covering import Catalogued, Detected, lights
from reduction.photometry.kernels.object_mask import object_mask


def main() -> None:
    image, x, y, flux = simulated_field()
    size = image.shape[0]
    variance = image / 2 + 4
    truth = np.add.outer(np.linspace(95, 105, size), np.linspace(-5, 5, size))
    radius = 3.0 + 1.5 * np.log10(flux / 100)
    covered = object_mask(image.shape, x, y, radius)
    print(f"{image.shape[1]}x{image.shape[0]} pixels, {x.size} stars, {covered.mean():.0%} masked; masking took", end=" ")
    print(f"{best_of(lambda: object_mask(image.shape, x, y, radius)):.3f} s")

    def ours() -> np.ndarray:
        return background(image, variance, covered).image(image.shape)

    stars = lights(
        Detected(x, y, flux, np.sqrt(flux), flux / 8.3, np.zeros(x.size, dtype=np.bool_)), Catalogued(*np.zeros((3, 0))), 2.7
    ).wings(8.0, 2.7, 0.02)

    def less_wings() -> np.ndarray:
        return background(image, variance, covered, stars=stars, fwhm=2.7).image(image.shape)

    def by_sep() -> np.ndarray:
        return sep.Background(image, mask=covered, bw=32, bh=32).back()

    def photutils() -> np.ndarray:
        return Background2D(image, 32, mask=covered, bkg_estimator=SExtractorBackground()).background

    reference = best_of(ours)
    for name, run in (("starledger", ours), ("with wings", less_wings), ("sep", by_sep), ("photutils", photutils)):
        seconds = reference if run is ours else best_of(run, 1 if run is photutils else 3)
        if run in (by_sep, photutils):
            record("background", {name: reference / seconds})
        error = run() - truth
        print(f"{name:11s} {seconds:6.3f} s, {seconds / reference:5.2f} times; mean error {error.mean():+.4f}, rms {error.std():.4f} ADU")


if __name__ == "__main__":
    main()
