"""Simulated skies: stars with the wings of a seeing disc, a known level, continuous or integer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reduction.photometry.kernels.covering import Catalogued, Detected, Lights, lights

__all__ = ["FWHM", "Scene", "expected", "profile", "scene"]

FWHM = 3.0


@dataclass(frozen=True)
class Scene:
    """Image (ADU) and its variance, the level under it that is to be found, and its stars, of which the bright ones were detected."""

    data: NDArray[np.float32]
    variance: NDArray[np.float32]
    truth: NDArray[np.float64]
    stars: Lights
    saturated: NDArray[np.bool_]
    sigma: float


def profile(r2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seeing disc of unit light: a Moffat core (beta = 4.765) with a wing of r**(-11/3) (Racine 1996, PASP 108, 699), roughly."""
    u = r2 / FWHM**2
    core = 0.86 * (4.765 - 1) / (np.pi * 0.4 * 2.4) * (1 + u / 0.62) ** -4.765
    return np.asarray((core + 0.1 * (1.2 + u) ** (-11 / 6)) / FWHM**2 / 1.66, np.float64)


def expected(level: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Mean of Gaussian noise about a level that is rounded to integers, from its characteristic function."""
    bias = np.zeros(level.shape)
    for k in (1, 2, 3):
        bias += (-1) ** k / (np.pi * k) * np.exp(-2 * (np.pi * k * sigma) ** 2) * np.sin(2 * np.pi * k * level)
    return level + bias


def scene(
    seed: int,
    shape: tuple[int, int] = (384, 384),
    *,
    per_star: float = 40.0,
    level: float = 100.0,
    slope: float = 0.0,
    sigma: float = 10.0,
    integer: bool = False,
    giants: tuple[float, ...] = (),
    full: float = np.inf,
) -> Scene:
    """Stars, one in every `per_star` square FWHM with a S/N above 5, on a sky that rises by `slope` from left to right."""
    rng = np.random.default_rng(seed)
    ny, nx = shape
    n = rng.poisson((nx + 80) * (ny + 80) / (per_star * FWHM**2))
    least = 5.0 * sigma * np.sqrt(4 * np.pi) * FWHM / 2.355
    flux = np.concatenate([np.minimum(least * rng.random(n) ** (-1 / 0.75), 3e3 * least), np.array(giants) * least])
    x, y = rng.uniform(-40, nx + 40, flux.size), rng.uniform(-40, ny + 40, flux.size)
    x[n:], y[n:] = rng.uniform(60, nx - 60, len(giants)), rng.uniform(60, ny - 60, len(giants))
    light = np.zeros(shape)
    for star_x, star_y, star_flux in zip(x, y, flux, strict=True):
        half = 250 if star_flux > 1e3 * least else 60 if star_flux > 10 * least else 18
        rows = np.arange(max(int(star_y) - half, 0), min(int(star_y) + half + 1, ny))
        columns = np.arange(max(int(star_x) - half, 0), min(int(star_x) + half + 1, nx))
        light[np.ix_(rows, columns)] += star_flux * profile(np.add.outer((rows - star_y) ** 2, (columns - star_x) ** 2))
    truth = np.broadcast_to(level + slope * np.arange(nx) / nx, shape)
    variance = sigma**2 * (1 + 0.8 * light / 100.0)
    data = truth + light + rng.normal(0, 1, shape) * np.sqrt(variance)
    if integer:
        data, truth, variance = np.rint(data), expected(truth, sigma), variance + 1 / 12
    saturated = data >= full
    data = np.minimum(data, full)
    peak = flux * float(profile(np.zeros(1))[0])
    seen = (flux > 1.3 * least) & (x > 0) & (x < nx - 1) & (y > 0) & (y < ny - 1)
    detected = Detected(
        x[seen],
        y[seen],
        np.minimum(flux, 4 * full)[seen],
        least / 5 * np.ones(seen.sum()),
        np.minimum(peak, full)[seen],
        (peak + level > full)[seen],
    )
    mag = 25 - 2.5 * np.log10(flux) + rng.normal(0, 0.05, flux.size)
    stars = lights(detected, Catalogued(x, y, mag), FWHM)
    return Scene(
        data.astype(np.float32),
        variance.astype(np.float32),
        np.array(truth, np.float64),
        stars,
        saturated,
        float(np.sqrt(sigma**2 + integer / 12)),
    )
