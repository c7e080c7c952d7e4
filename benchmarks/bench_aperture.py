"""Four exact apertures on 20,000 stars: starledger against photutils (exact) and sep, in one run.

python benchmarks/bench_aperture.py
"""

from __future__ import annotations

import numpy as np
import sep
from photutils.aperture import CircularAperture
from photutils.aperture import aperture_photometry as photutils_photometry
from record import record
from simulated_field import best_of, simulated_field

from reduction.photometry.kernels.aperture import aperture_photometry

RADII = (2.0, 3.0, 4.0, 6.0)


def main() -> None:
    image, x, y, _ = simulated_field()
    variance, mask = image / 2 + 4, np.zeros(image.shape, np.uint8)
    error = np.sqrt(variance)
    apertures = [CircularAperture(np.stack([x, y], axis=1), radius) for radius in RADII]

    def ours() -> np.ndarray:
        return aperture_photometry(image, variance, mask, x, y, RADII).flux

    def photutils() -> np.ndarray:
        table = photutils_photometry(image, apertures, error=error, method="exact")
        return np.stack([table[f"aperture_sum_{k}"] for k in range(len(RADII))], axis=1)

    def by_sep(subpix: int) -> np.ndarray:
        return np.stack([sep.sum_circle(image, x, y, radius, err=error, subpix=subpix)[0] for radius in RADII], axis=1)

    reference = best_of(ours)
    print(f"{x.size} stars, {len(RADII)} apertures, {image.shape[1]}x{image.shape[0]} pixels")
    print(f"starledger              {reference:7.3f} s")
    for name, run in (("photutils exact", photutils), ("sep exact (subpix=0)", lambda: by_sep(0)), ("sep subpix=5", lambda: by_sep(5))):
        seconds = best_of(run)
        record("aperture", {name: reference / seconds})
        difference = np.nanmax(np.abs(run() - ours()))
        print(f"{name:22s}  {seconds:7.3f} s, {seconds / reference:6.2f} times starledger's; largest difference {difference:.2g} ADU")


if __name__ == "__main__":
    main()
