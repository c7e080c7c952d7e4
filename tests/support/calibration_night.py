"""A night of calibration and object frames of a small camera, mosaic or monochrome, whose every pixel is known."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.io import fits

__all__ = ["Sensor", "write_night"]

START = dt.datetime(2025, 9, 20, 1, 0)


@dataclass
class Sensor:
    """A detector with its faults.

    `bayer` None is monochrome. Levels in ADU, rates in ADU/s.
    """

    shape: tuple[int, int] = (160, 200)
    bayer: str | None = None
    gain: float = 1.6
    read_noise: float = 6.0
    bias_level: float = 800.0
    full: float = 60000.0
    seed: int = 5
    bias: np.ndarray = field(init=False)
    rate: np.ndarray = field(init=False)
    hot: np.ndarray = field(init=False)
    response: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        ny, nx = self.shape
        y, x = np.indices(self.shape)
        self.bias = self.bias_level + 5.0 * np.sin(x / 7.0) + rng.normal(0.0, 2.0, nx)[None, :]
        self.rate = np.full(self.shape, 0.02)
        self.hot = np.zeros(self.shape, bool)
        self.hot.flat[rng.choice(ny * nx, ny * nx // 200, replace=False)] = True
        self.rate[self.hot] = rng.uniform(5.0, 30.0, self.hot.sum())
        r2 = ((x - nx / 2) / nx) ** 2 + ((y - ny / 2) / ny) ** 2
        self.response = (1.0 - 0.5 * r2) * (1.0 + rng.normal(0.0, 0.01, self.shape))
        self.response /= self.response.mean()

    def colours(self) -> np.ndarray:
        """Relative brightness of the twilight sky behind each pixel's filter."""
        if self.bayer is None:
            return np.ones(self.shape)
        level = {"R": 0.55, "G": 1.0, "B": 0.75}
        y, x = np.indices(self.shape)
        return np.vectorize(lambda i: level[self.bayer[i]])(2 * (y % 2) + x % 2)

    def expose(self, light: np.ndarray | float, exptime: float, rng: np.random.Generator, *, hits: int = 0) -> np.ndarray:
        """Raw frame of `light` (ADU before the response), with noise."""
        electrons = (np.broadcast_to(light, self.shape) * self.response + self.rate * exptime) * self.gain
        adu = self.bias + (rng.poisson(np.maximum(electrons, 0.0)) + rng.normal(0.0, self.read_noise, self.shape)) / self.gain
        if hits:
            adu.flat[rng.choice(adu.size, hits, replace=False)] += rng.uniform(300.0, 5000.0, hits)
        return np.clip(np.rint(adu), 0, self.full).astype(np.uint16)

    def stars(self, rng: np.random.Generator, n: int = 40, fwhm: float = 3.2, brightest: float = 2e5) -> np.ndarray:
        """Light of stars, ADU."""
        ny, nx = self.shape
        y, x = np.indices(self.shape)
        light = np.zeros(self.shape)
        sigma = fwhm / 2.3548
        for k in range(n):
            cx, cy, flux = rng.uniform(4, nx - 4), rng.uniform(4, ny - 4), brightest * 0.85**k
            light += flux / (2 * np.pi * sigma**2) * np.exp(-0.5 * ((x - cx) ** 2 + (y - cy) ** 2) / sigma**2)
        return light * self.colours()


def write_night(
    folder: Path,
    sensor: Sensor,
    *,
    n_bias: int = 6,
    darks: dict[float, int] | None = None,
    flats: tuple[float, ...] = (9000.0, 14000.0, 20000.0, 16000.0, 11000.0),
    n_object: int = 3,
    exptime: float = 60.0,
    start: dt.datetime = START,
    cards: dict[str, object] | None = None,
    words: bool = True,
    seed: int = 1,
) -> Path:
    """Write the frames of a night into `folder`; `words`: with the image type in the header."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    field_stars = sensor.stars(np.random.default_rng(77))
    shots: list[tuple[str, float, np.ndarray]] = []
    shots += [("Bias Frame", 0.0, sensor.expose(0.0, 0.0, rng, hits=3)) for _ in range(n_bias)]
    for seconds, count in (darks if darks is not None else {exptime: 5}).items():
        shots += [("Dark Frame", seconds, sensor.expose(0.0, seconds, rng, hits=20)) for _ in range(count)]
    shots += [("Flat Field", 2.0, sensor.expose(level * sensor.colours(), 2.0, rng)) for level in flats]
    sky = 400.0 * sensor.colours()
    shots += [("Light Frame", exptime, sensor.expose(sky + field_stars, exptime, rng, hits=10)) for _ in range(n_object)]
    moment = start
    for number, (word, seconds, image) in enumerate(shots):
        header = fits.Header()
        header["INSTRUME"], header["TELESCOP"], header["FILTER"] = "Test Camera", "Test Telescope", "V"
        header["EXPTIME"], header["CCD-TEMP"] = seconds, -10.0
        header["DATE-OBS"] = moment.isoformat(timespec="milliseconds")
        header["SITELAT"], header["SITELONG"] = 45.0, 7.0
        if sensor.bayer is not None:
            header["BAYERPAT"] = sensor.bayer
        if words:
            header["IMAGETYP"] = word
        header.update(cards or {})
        fits.PrimaryHDU(image, header).writeto(folder / f"{word.split()[0].lower()}-{number:03d}.fits")
        moment += dt.timedelta(seconds=seconds + 5)
    return folder
