"""Frames whose noise is of one kind, worked from raw integers to fluxes by the kernels of the steps, over and over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from reduction.calibration.kernels.calibration import Plane, calibrate
from reduction.kernels.arrays import FloatArray
from reduction.photometry.kernels.background import BackgroundMap, background
from reduction.photometry.kernels.covering import Catalogued, Detected, lights
from reduction.photometry.kernels.object_mask import object_mask
from reduction.photometry.kernels.psf_aperture import PsfApertures, psf_apertures
from reduction.photometry.kernels.psf_flux import Pixels, fit_fluxes, model_image
from reduction.photometry.kernels.psf_map import PsfMap, Stamps
from reduction.photometry.kernels.psf_seed import seed_map
from reduction.photometry.photometry_step import _errors
from reduction.photometry.star_light import StarLight

__all__ = [
    "FWHM",
    "RADII",
    "SHAPE",
    "Camera",
    "Field",
    "Measured",
    "Pulls",
    "field",
    "master",
    "measured",
    "pulls",
    "raw_frame",
    "repeated",
    "root_mean_square",
]

FWHM = 2.5
RADII = FWHM * np.array([1.0, 1.5, 2.5])
SHAPE = (200, 220)
#: As far as the profile reaches, where no star leaves any light: nothing but the noise is to be tested.
REACH = 4.0


@dataclass(frozen=True)
class Field:
    """Stars in the order of their flux (ADU), faintest first, and their light without noise."""

    x: FloatArray
    y: FloatArray
    flux: FloatArray
    psf: PsfMap
    stamps: Stamps
    light: FloatArray

    def of_flux(self, flux: FloatArray) -> Field:
        """The same stars with other fluxes."""
        return replace(self, flux=flux, light=model_image(self.stamps, flux, SHAPE))


@dataclass(frozen=True)
class Camera:
    """What makes noise: gain (electron/ADU), read noise (electron), sky, dark current, zero level and what is said of that (ADU)."""

    gain: float
    read_noise: float
    sky: float
    dark: float = 0.0
    zero: float = 300.0
    said_zero: float = 300.0


@dataclass(frozen=True)
class Measured:
    """Fluxes and errors (n, 1 + k) of one frame: fitted, and in apertures; and what they were made of."""

    flux: FloatArray
    error: FloatArray
    sky: BackgroundMap
    pixels: Pixels
    apertures: PsfApertures


@dataclass(frozen=True)
class Pulls:
    """Spread over the error said, for the faint, middle and bright third: about the star's own mean, and about the truth, (3, 1 + k)."""

    own: FloatArray
    truth: FloatArray
    own_error: FloatArray
    truth_error: FloatArray


def field(low: float, high: float, *, n: int = 84, apart: float = 3.5, seed: int = 1) -> Field:
    """Stars over a range of fluxes (ADU) at random places, none nearer to another than `apart` pixels, none at the edge."""
    rng = np.random.default_rng(seed)
    places = np.zeros((0, 2))
    while len(places) < n:
        new = rng.uniform(12.0, np.array(SHAPE[::-1]) - 13.0)
        if not len(places) or np.hypot(*(places - new).T).min() > apart:
            places = np.vstack([places, new])
    x, y = places.T.copy()
    psf = seed_map(SHAPE[::-1], FWHM, REACH * FWHM, pixel=1.0)
    stamps = psf.stamps(x, y)
    flux = np.geomspace(low, high, n)
    return Field(x, y, flux, psf, stamps, model_image(stamps, flux, SHAPE))


def raw_frame(
    rng: Generator, stars: Field, camera: Camera, response: FloatArray | float = 1.0, added: FloatArray | float = 0.0
) -> np.ndarray:
    """A raw frame in integers; response: of the pixels; added: what the detector adds to dark current and zero level (ADU)."""
    seen = np.maximum((stars.light + camera.sky) * response + camera.dark, 0.0) * camera.gain
    electrons = rng.poisson(seen) + rng.normal(0.0, camera.read_noise, SHAPE)
    return np.clip(np.rint(electrons / camera.gain + camera.zero + added), 0, 65535).astype(np.uint16)


def master(rng: Generator, value: FloatArray | float, error: float) -> Plane:
    """A master whose pixels are off by noise, of which it knows."""
    noisy = (value + rng.normal(0.0, error, SHAPE)).astype(np.float32)
    return Plane(noisy, np.full(SHAPE, error**2, np.float32), np.zeros(SHAPE, np.uint8))


def _hidden(stars: Field, noise: float) -> np.ndarray:
    """Pixels that hold light of stars, as the step of the background masks them."""
    peak = stars.flux * stars.stamps.share.max(axis=(1, 2))
    seen = peak > 3.0 * noise
    found = Detected(*(values[seen] for values in (stars.x, stars.y, stars.flux, np.sqrt(stars.flux), peak, np.zeros(len(peak), bool))))
    known = lights(found, Catalogued(stars.x, stars.y, -2.5 * np.log10(stars.flux)), FWHM)
    return object_mask(SHAPE, known.x, known.y, known.radius(noise, FWHM, 0.1, 2.0, REACH))


def measured(
    stars: Field,
    camera: Camera,
    raw: np.ndarray,
    *,
    bias: Plane | None = None,
    dark: Plane | None = None,
    flat: Plane | None = None,
    dark_scale: float = 1.0,
    pattern: Plane | None = None,
    hidden: np.ndarray | None = None,
    box: int = 32,
    smooth: float = 48.0,
    radii: FloatArray = RADII,
) -> Measured:
    """Calibrate a raw frame, measure its sky and all of its stars."""
    plane = calibrate(
        raw, gain=camera.gain, read_noise=camera.read_noise, saturation=65535.0, bias=bias, dark=dark, flat=flat, dark_scale=dark_scale,
        zero_level=None if bias is not None else camera.said_zero,
    )  # fmt: skip
    planes = {"SCI": plane.value, "VAR": plane.variance, "MASK": plane.mask}
    noise = float(np.sqrt(np.median(plane.variance[plane.mask == 0])))
    excluded = (plane.mask != 0) | (_hidden(stars, noise) if hidden is None else hidden)
    sky = background(plane.value, plane.variance, excluded, box=box, smooth=smooth, quantum=1.0, fwhm=FWHM)
    if pattern is not None:
        planes["SCI"], planes["VAR"] = plane.value - pattern.value, plane.variance + pattern.variance
    light = StarLight(planes, sky.seen(), sky.noise, camera.gain)
    pixels = light.pixels()
    fluxes = fit_fluxes(pixels, stars.stamps)
    apertures = psf_apertures(pixels, plane.mask, stars.psf, stars.stamps, fluxes, stars.x, stars.y, radii)
    sky_err = light.sky_at(stars.x, stars.y)[1]
    flux, error = _errors(apertures, np.zeros(len(stars.x)), sky_err)
    profile = np.hypot(fluxes.error, fluxes.background_weight * sky_err)
    return Measured(np.column_stack([fluxes.flux, flux]), np.column_stack([profile, error]), light.sky, pixels, apertures)


def root_mean_square(pull: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Of pulls (frame, star, k) over the thirds of the stars, (3, k), and its error by how much the frames differ."""
    parts = [np.square(part).mean(axis=1) for part in np.array_split(pull, 3, axis=1)]
    root = np.array([np.sqrt(part.mean(axis=0)) for part in parts])
    return root, np.array([part.std(axis=0, ddof=1) for part in parts]) / np.sqrt(len(pull)) / (2.0 * root)


def pulls(stars: Field, frames: list[Measured]) -> Pulls:
    """What repeated frames say of the errors."""
    flux, error = np.stack([one.flux for one in frames]), np.stack([one.error for one in frames])
    truth = np.column_stack([stars.flux, stars.flux[:, None] * frames[0].apertures.enclosed])
    own, own_error = root_mean_square((flux - flux.mean(axis=0)) / error * np.sqrt(len(frames) / (len(frames) - 1)))
    return Pulls(own, (about := root_mean_square((flux - truth) / error))[0], own_error, about[1])


def repeated(make: Callable[[Generator], Measured], n: int, seed: int) -> list[Measured]:
    """The same frame with other noise, n times."""
    return [make(rng) for rng in np.random.default_rng(seed).spawn(n)]
