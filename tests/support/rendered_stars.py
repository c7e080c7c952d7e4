"""Frames of stars rendered by GalSim, whose truth is known, with profiles that splines cannot represent exactly."""

from __future__ import annotations

from dataclasses import dataclass

import galsim
import numpy as np

from reduction.kernels.arrays import FloatArray
from reduction.photometry.kernels.psf_fit import PsfFit, fit_psf
from reduction.photometry.kernels.psf_flux import Fluxes, Pixels, fit_fluxes
from reduction.photometry.kernels.psf_map import Stamps
from reduction.photometry.kernels.psf_seed import seed_map

__all__ = ["SIZE", "Sky", "counted", "fitted", "grid", "normalised", "profile", "render"]

SIZE = 300


@dataclass(frozen=True)
class Sky:
    """A rendered frame: its pixels, the truth, and every star's true stamp."""

    pixels: Pixels
    x: FloatArray
    y: FloatArray
    flux: FloatArray
    stamps: Stamps


def profile(kind: str, fwhm: float, u: float, v: float) -> galsim.GSObject:
    """None that splines represent exactly; u, v: place on the frame, -1 to 1."""
    if kind == "ring":
        disc = galsim.Sum([galsim.TopHat(0.5 * fwhm), -0.16 * galsim.TopHat(0.2 * fwhm)]).withFlux(1.0)
        return galsim.Convolve(galsim.Kolmogorov(fwhm=0.25 * fwhm), disc)
    if kind == "trail":
        return galsim.Convolve(galsim.Kolmogorov(fwhm=fwhm), galsim.Box(5.0, 0.01).rotate(20.0 * galsim.degrees))
    seeing = galsim.Kolmogorov(fwhm=0.9 * fwhm * (1.0 + 0.05 * (u * u + v * v))).shear(g1=0.05 * u + 0.02, g2=0.04 * v)
    coma = galsim.Kolmogorov(fwhm=1.6 * fwhm).shift(0.15 * fwhm, 0.1 * fwhm * u)
    return 0.9 * galsim.Convolve(seeing, galsim.Gaussian(fwhm=0.45 * fwhm)) + 0.1 * coma


def render(
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
    *,
    fwhm: float,
    kind: str = "aberrated",
    size: int = SIZE,
    sky: float = 200.0,
    seed: int = 1,
    cut: int = 48,
    sensitive: float = 1.0,
    stretch: FloatArray | None = None,
) -> Sky:
    """Stars of `flux` (electron) at `x`, `y`, with photon noise and 5 electrons of read noise; the sky is taken off.

    sensitive: width of the part of a pixel that sees light, 1 or a half (one colour of a Bayer mosaic); `sky` is what that part sees.
    stretch: by how much each star's profile is wider.
    """
    image = galsim.ImageD(size, size)
    share, corner = np.empty((len(x), cut, cut)), np.floor(np.stack([x, y]) + 0.5).astype(np.int64) - cut // 2
    for i, (at_x, at_y) in enumerate(zip(x, y, strict=True)):
        star = profile(kind, fwhm, 2 * at_x / (size - 1) - 1, 2 * at_y / (size - 1) - 1)
        star = star if stretch is None else star.dilate(float(stretch[i]))
        low_x, low_y = int(corner[0, i]) + 1, int(corner[1, i]) + 1  # GalSim counts pixels from 1
        stamp = galsim.ImageD(galsim.BoundsI(low_x, low_x + cut - 1, low_y, low_y + cut - 1))
        # a pixel sees the light that falls on its sensitive part: the profile convolved with that, sampled at its middle
        seen = galsim.Convolve(star, galsim.Pixel(sensitive)) * sensitive**2
        seen.drawImage(stamp, scale=1.0, center=galsim.PositionD(at_x + 1, at_y + 1), method="no_pixel")
        share[i] = stamp.array
        overlap = stamp.bounds & image.bounds
        if overlap.isDefined():
            image[overlap] += flux[i] * stamp[overlap]
    rng = np.random.default_rng(seed)
    electrons = rng.poisson(np.maximum(image.array + sky, 0.0)) + rng.normal(0.0, 5.0, image.array.shape) - sky
    good = np.ones(electrons.shape, dtype=bool)
    pixels = Pixels(electrons.astype(np.float32), np.full(electrons.shape, sky + 25.0, np.float32), 1.0, good)
    return Sky(pixels, x, y, flux, Stamps(share, corner[0], corner[1]))


def grid(spacing: float, seed: int, size: int = SIZE) -> tuple[FloatArray, FloatArray]:
    """Isolated stars at any phase of the pixel."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*[np.arange(spacing, size - spacing + 1, spacing)] * 2)).reshape(2, -1)
    x, y = places + rng.uniform(-0.5, 0.5, places.shape)
    return x, y


def fitted(sky: Sky, fwhm: float, *, pixel: float = 1.0, radius: float = 4.0) -> PsfFit:
    size = (sky.pixels.value.shape[1], sky.pixels.value.shape[0])
    return fit_psf(sky.pixels, sky.x, sky.y, seed_map(size, 1.15 * fwhm, radius * 1.15 * fwhm, pixel=pixel))


def counted(sky: Sky, fit: PsfFit) -> Fluxes:
    """Fluxes of all stars, fitted with a map."""
    return fit_fluxes(sky.pixels, fit.psf.stamps(sky.x, sky.y))


def normalised(fluxes: Fluxes, sky: Sky) -> FloatArray:
    """Flux over truth, but for the light beyond the map's radius, the same part of every star's."""
    ratio = fluxes.flux / sky.flux
    bright = sky.flux > 300.0 * fluxes.error
    return np.asarray(ratio / np.average(ratio[bright], weights=(sky.flux / fluxes.error)[bright] ** 2))
