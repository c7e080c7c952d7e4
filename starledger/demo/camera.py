"""The demo's telescope and detector: geometry, defects and readout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["Camera", "Detector", "Site", "add_cosmic_rays", "bleed", "make_detector", "read_out"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Site:
    """Where the telescope stands.

    Attributes
    ----------
    latitude, longitude : float
        Geodetic, longitude positive east (deg).
    height : float
        Above the ellipsoid (m).
    """

    latitude: float = 28.3010
    longitude: float = -16.5110
    height: float = 2390.0


@dataclass(frozen=True)
class Camera:
    """Telescope and detector.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns (pixel).
    pixel_scale : float
        At the optical axis (arcsec/pixel).
    rotation : float
        Of the detector's y axis from north towards east (deg).
    parity : int
        -1 when x runs against right ascension at rotation 0 (the usual view), else 1.
    distortion : float
        Radial displacement at the corner (pixel), cubic in the distance from the axis.
    decentring : float
        Quadratic, one-sided displacement at the corner (pixel).
    gain, read_noise : float
        Electron/ADU, electron.
    full_well : float
        Electrons a pixel holds before they spill along its column.
    bias_level : float
        Pedestal (ADU).
    saturation : float
        Level the header calls saturated (ADU).
    zero_point : float
        Magnitude that gives one electron a second above the atmosphere.
    diameter : float
        Of the aperture (m), for scintillation.
    """

    shape: tuple[int, int] = (384, 512)
    pixel_scale: float = 1.2973
    rotation: float = 1.7
    parity: int = -1
    distortion: float = 3.0
    decentring: float = 0.4
    gain: float = 6.4
    read_noise: float = 12.0
    full_well: float = 400_000.0
    bias_level: float = 1000.0
    saturation: float = 62_000.0
    zero_point: float = 23.75
    diameter: float = 1.2

    @property
    def centre(self) -> tuple[float, float]:
        """The optical axis: 0-based x, y of the detector's middle."""
        return 0.5 * (self.shape[1] - 1), 0.5 * (self.shape[0] - 1)

    @property
    def half_diagonal(self) -> float:
        """Distance from the middle to a corner (pixel)."""
        return 0.5 * float(np.hypot(*self.shape))

    def project(self, ra: FloatArray, dec: FloatArray, ra0: float, dec0: float, turn: float = 0.0) -> tuple[FloatArray, FloatArray]:
        """Pixel positions of directions on the sky.

        Gnomonic projection (Calabretta & Greisen 2002, A&A 395, 1077, section 5.1.3), rotation, then distortion about the axis.

        Parameters
        ----------
        ra, dec : float64 [n]
            ICRS (deg).
        ra0, dec0 : float
            Direction of the axis (deg).
        turn : float
            Added to `rotation` (deg).

        Returns
        -------
        x, y : float64 [n]
            0-based; NaN more than 90 degrees from the axis; off the frame is not an error.
        """
        d_ra, dec_r, dec0_r = np.radians(ra - ra0), np.radians(dec), np.radians(dec0)
        cosine = np.sin(dec0_r) * np.sin(dec_r) + np.cos(dec0_r) * np.cos(dec_r) * np.cos(d_ra)
        cosine = np.where(cosine > 0, cosine, np.nan)
        unit = 3600.0 * 180.0 / np.pi / self.pixel_scale
        xi = unit * np.cos(dec_r) * np.sin(d_ra) / cosine
        eta = unit * (np.cos(dec0_r) * np.sin(dec_r) - np.sin(dec0_r) * np.cos(dec_r) * np.cos(d_ra)) / cosine
        angle = np.radians(self.rotation + turn)
        u = self.parity * (xi * np.cos(angle) - eta * np.sin(angle))
        v = xi * np.sin(angle) + eta * np.cos(angle)
        r2 = (u * u + v * v) / self.half_diagonal**2
        stretch = 1.0 + self.distortion / self.half_diagonal * r2
        return self.centre[0] + u * stretch + self.decentring * r2, self.centre[1] + v * stretch


@dataclass(frozen=True)
class Detector:
    """What the pixels do: planes of the camera's shape.

    Attributes
    ----------
    bias : float64 [ny, nx]
        Level of an exposure of no length (ADU).
    dark : float64 [ny, nx]
        Dark current (electron/s).
    response : float64 [ny, nx]
        Part of the light that is recorded: vignetting, dust, pixel response.
    """

    bias: FloatArray
    dark: FloatArray
    response: FloatArray


def make_detector(camera: Camera, rng: np.random.Generator) -> Detector:
    """Detector with column structure in the bias, glow and hot pixels in the dark, vignetting, dust and uneven pixels in the response."""
    ny, nx = camera.shape
    y, x = np.mgrid[0:ny, 0:nx].astype(np.float64)
    bias = camera.bias_level + 6.0 * y / ny + 1.5 * rng.standard_normal(nx)[None, :] + 0.6 * rng.standard_normal((ny, nx))
    dark = 0.04 * (1.0 + 3.0 * np.exp(-np.hypot(x, y) / (0.15 * nx)))
    dark = dark + np.where(rng.random((ny, nx)) < 0.0005, rng.lognormal(1.0, 1.2, (ny, nx)), 0.0)
    rho2 = ((x - camera.centre[0] - 9.0) ** 2 + (y - camera.centre[1] + 5.0) ** 2) / camera.half_diagonal**2
    response = (1.0 - 0.25 * rho2) * (1.0 + 0.007 * rng.standard_normal((ny, nx)))
    for _ in range(5):
        ring = np.hypot(x - rng.uniform(0, nx), y - rng.uniform(0, ny)) / rng.uniform(8.0, 16.0)
        response *= 1.0 - 0.025 * ((ring > 0.45) & (ring < 1.0))
    dead = rng.random((ny, nx)) < 0.0001
    return Detector(bias, dark, np.where(dead, 0.15 * response, response))


def add_cosmic_rays(electrons: FloatArray, n_hit: int, rng: np.random.Generator) -> None:
    """Add straight tracks of charge to `electrons` (float64 [ny, nx], changed in place); ends beyond the frame are cut."""
    ny, nx = electrons.shape
    for _ in range(n_hit):
        x, y, angle = rng.uniform(0, nx), rng.uniform(0, ny), rng.uniform(0, 2 * np.pi)
        steps = np.arange(1.0 + rng.exponential(3.0))
        column, row = (x + steps * np.cos(angle)).astype(int), (y + steps * np.sin(angle)).astype(int)
        inside = (column >= 0) & (column < nx) & (row >= 0) & (row < ny)
        np.add.at(electrons, (row[inside], column[inside]), rng.lognormal(6.8, 0.7, inside.sum()))


def _sweep_plain(line: FloatArray, excess: FloatArray, full_well: float) -> None:
    """Carry `excess` towards the end of `line`, filling each pixel up to `full_well` on the way."""
    carried = 0.0
    for k in range(line.size):
        carried += excess[k]
        taken = min(carried, full_well - line[k])
        line[k] += taken
        carried -= taken


_sweep: Callable[[FloatArray, FloatArray, float], None] = numba.njit(cache=True)(_sweep_plain)


def bleed(electrons: FloatArray, full_well: float) -> None:
    """Spill what exceeds `full_well` along the columns, evenly up and down.

    Parameters
    ----------
    electrons : float64 [ny, nx]
        Changed in place; charge that reaches the first or last row is lost.
    full_well : float
        What a pixel holds (electron).
    """
    for column in np.flatnonzero((electrons > full_well).any(axis=0)):
        line = electrons[:, column]
        half = 0.5 * np.maximum(line - full_well, 0.0)
        np.minimum(line, full_well, out=line)
        _sweep(line, half, full_well)
        _sweep(line[::-1], half[::-1], full_well)


def read_out(
    electrons: FloatArray, camera: Camera, detector: Detector, exptime: float, n_hit: int, rng: np.random.Generator
) -> NDArray[np.uint16]:
    """Raw image of expected photo-electrons: dark current, shot noise, cosmic rays, spilling, read noise, digitisation.

    Parameters
    ----------
    electrons : float64 [ny, nx]
        Photo-electrons expected in each pixel, response included.
    exptime : float
        Exposure (s).
    n_hit : int
        Cosmic rays.

    Returns
    -------
    uint16 [ny, nx]
        ADU, at most 65535.
    """
    charge = rng.poisson(electrons + exptime * detector.dark).astype(np.float64)
    add_cosmic_rays(charge, n_hit, rng)
    bleed(charge, camera.full_well)
    pedestal = detector.bias + 0.4 * rng.standard_normal()
    adu = charge / camera.gain + pedestal + camera.read_noise / camera.gain * rng.standard_normal(charge.shape)
    return np.clip(np.rint(adu), 0, 65535).astype(np.uint16)
