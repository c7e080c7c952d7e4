"""Plate solutions of a wide distorted field that GalSim renders with a WCS of its own."""

from __future__ import annotations

from typing import Any

import galsim
import numpy as np
import numpy.typing as npt
import pytest

from reduction.astrometry.kernels.detection import extract
from reduction.astrometry.kernels.plate import solve
from reduction.astrometry.kernels.start import Pointing
from reduction.astrometry.kernels.wcs import gnomonic_inverse

FloatArray = npt.NDArray[np.float64]

SIZE = 1200
SCALE = 60.0  # arcsec per pixel: 20 degree
CENTRE = (80.0, 35.0)
DISTORTION = 0.03  # of the distance from the middle, in the corners
GAIN, SKY = 1.0, 400.0


def to_sky(x: Any, y: Any) -> Any:
    """RA and Dec (rad) of pixels: a lens with pincushion distortion, turned by 25 degree."""
    middle, corner = (SIZE - 1) / 2.0, SIZE / np.sqrt(2.0)
    dx, dy = np.asarray(x, float) - middle, np.asarray(y, float) - middle
    factor = (1.0 - DISTORTION * (dx**2 + dy**2) / corner**2) * SCALE / 3600.0
    c, s = np.cos(np.radians(25.0)), np.sin(np.radians(25.0))
    ra, dec = gnomonic_inverse(factor * (c * dx - s * dy), factor * (s * dx + c * dy), *CENTRE)
    return np.radians(ra), np.radians(dec)


@pytest.fixture(scope="module")
def field() -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """The image, and x, y and flux of its stars."""
    rng = np.random.default_rng(5)
    wcs = galsim.RaDecFunction(to_sky, origin=galsim.PositionD(0, 0))
    image = galsim.ImageF(galsim.BoundsI(0, SIZE - 1, 0, SIZE - 1), wcs=wcs)
    x, y = rng.uniform(-3, SIZE + 2, (2, 1200))
    flux = 3000.0 * (rng.pareto(0.9, x.size) + 1.0).clip(max=100.0)
    star = galsim.Moffat(beta=3.0, fwhm=2.6 * SCALE)
    for star_x, star_y, star_flux in zip(x, y, flux, strict=True):
        place = galsim.PositionD(star_x, star_y)
        bounds = galsim.BoundsI(int(star_x) - 15, int(star_x) + 16, int(star_y) - 15, int(star_y) + 16) & image.bounds
        if bounds.isDefined():
            star.withFlux(star_flux).drawImage(image[bounds], center=place, add_to_image=True)
    clean = image.array.astype(np.float64) + SKY
    return rng.poisson(clean) + rng.normal(0.0, 3.0, clean.shape), x, y, flux


def test_twenty_degree_field_is_solved_to_a_twentieth_of_a_pixel(field: tuple[FloatArray, FloatArray, FloatArray, FloatArray]) -> None:
    image, x, y, flux = field
    ra, dec = (np.degrees(value) for value in to_sky(x, y))
    stars = extract(image.astype(np.float32), image / GAIN + 9.0, np.zeros(image.shape, np.uint8))
    error = np.hypot(stars.x_err, stars.y_err) / np.sqrt(2.0)
    fit = solve(
        stars.x,
        stars.y,
        stars.flux,
        ra,
        dec,
        -2.5 * np.log10(flux),
        image.shape,
        start=Pointing(CENTRE[0] + 1.0, CENTRE[1] - 1.0, 1.02 * SCALE),
        order=7,
        det_err=error,
    )
    inside = (x > 5) & (x < SIZE - 6) & (y > 5) & (y < SIZE - 6)
    px, py = fit.solution.project(ra[inside], dec[inside])
    projected = np.sqrt(np.mean((px - x[inside]) ** 2 + (py - y[inside]) ** 2) / 2.0)
    # a blend has its neighbour's light in its centroid, whatever the solution
    bright = (stars.snr[fit.det_index] > 50) & (stars.flags[fit.det_index] == 0)
    detected = np.concatenate([(stars.x[fit.det_index] - x[fit.cat_index])[bright], (stars.y[fit.det_index] - y[fit.cat_index])[bright]])
    left = np.concatenate([fit.residual_x[bright], fit.residual_y[bright]])
    assert np.count_nonzero(bright) > 300
    assert projected < 0.01
    assert np.sqrt(np.mean(left**2)) < 0.05
    assert np.sqrt(np.mean(detected**2)) < 0.05
    assert fit.solution.order >= 3
    assert fit.acceptance.accepted
