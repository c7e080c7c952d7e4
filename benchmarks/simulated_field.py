"""A simulated 4096x4096 frame with 20,000 stars, shared by the benchmarks."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def simulated_field(
    size: int = 4096, n_star: int = 20_000, seed: int = 1
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Image (ADU), x, y (pixel) and flux (ADU) of Gaussian stars, FWHM 2.7 pixel, on a sloping sky of 100 ADU."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, size - 1, (2, n_star))
    flux = 500.0 * (rng.pareto(0.8, n_star) + 1.0).clip(max=2000.0)
    image = np.add.outer(np.linspace(95, 105, size), np.linspace(-5, 5, size))
    offset = np.arange(-8, 9)
    for star_x, star_y, star_flux in zip(x, y, flux, strict=True):
        columns, rows = int(star_x) + offset, int(star_y) + offset
        columns, rows = columns[(columns >= 0) & (columns < size)], rows[(rows >= 0) & (rows < size)]
        profile = np.outer(np.exp(-0.5 * ((rows - star_y) / 1.15) ** 2), np.exp(-0.5 * ((columns - star_x) / 1.15) ** 2))
        image[np.ix_(rows, columns)] += star_flux / (2 * np.pi * 1.15**2) * profile
    image += rng.normal(0.0, np.sqrt(image / 2.0 + 4.0))
    return image.astype(np.float32), x, y, flux


def best_of(function: Callable[[], object], repeats: int = 3) -> float:
    """Shortest of several run times, second, after one run that is not counted."""
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)
