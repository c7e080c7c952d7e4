"""A small simulated night of raw frames of any size, for benchmarks of the whole line: few frames, many stars, most of them faint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from numpy.typing import NDArray

from starledger.demo.camera import Camera, Detector, Site, make_detector, read_out
from starledger.demo.night import EVENING, sidereal_degrees
from starledger.demo.render import render_stars
from starledger.demo.sky import Stars, catalogue_table, make_stars, space_motion

FloatArray = NDArray[np.float64]

EXPTIME = 140.0  # s, of object frames
FWHM = 2.5  # pixel, on the axis
SKY = 2000.0  # electron/pixel
#: Exposures of each type, and how long before or after the first object frame theirs begins (d).
FRAMES = {"bias": (3, -0.20), "dark": (3, -0.19), "flat": (3, -0.05), "object": (2, 0.0)}
SLOPE, BRIGHT, FAINT = 0.30, 11.3, 20.5  # number of stars grows by 10^(0.30 mag): some saturate, most are faint
MARGIN = 1.08**2  # stars are also just beyond the edge


@dataclass(frozen=True)
class Night:
    """Where a night lies and what was put into it.

    Attributes
    ----------
    raw, catalogue : Path
        Folder of raw frames, and catalogue of all stars.
    n_star : int
        Stars on a frame, nearly.
    shape : (int, int)
        Rows and columns (pixel).
    """

    raw: Path
    catalogue: Path
    n_star: int
    shape: tuple[int, int]

    @property
    def n_frame(self) -> int:
        """Object frames."""
        return FRAMES["object"][0]

    def truth(self) -> Table:
        """x, y (0-based pixel, of the first object frame) and flux (electron) of all stars, brightest first."""
        return Table.read(self.raw.parent / "truth.fits")


def night_in(folder: Path, n_star: int, shape: tuple[int, int]) -> Night:
    """The night of a folder, which need not have been made."""
    return Night(folder / "raw", folder / "catalogue.ecsv", n_star, shape)


def make_night(night: Night, seed: int = 1) -> None:
    """Write raw frames, catalogue and truth."""
    rng, site = np.random.default_rng(seed), Site()
    night.raw.mkdir(parents=True, exist_ok=True)
    camera = Camera(shape=night.shape, rotation=3.0)
    start = EVENING + 0.15
    centre = (sidereal_degrees(start, site) + 5.0) % 360.0, site.latitude
    stars = _stars(camera, centre, night.n_star, rng)
    everything = np.zeros(stars.mag.size, bool)
    catalogue_table(stars, everything, rng).write(night.catalogue, format="ascii.ecsv", overwrite=True)
    detector = make_detector(camera, rng)
    for kind, (number, offset) in FRAMES.items():
        for k in range(number):
            exptime = {"bias": 0.0, "dark": EXPTIME, "flat": 4.0 + k, "object": EXPTIME}[kind]
            begin = start + offset + k * 180.0 / 86400.0
            pointing = (centre[0], centre[1] + 3.0 * k * camera.pixel_scale / 3600.0)
            light = _light(night, camera, stars, kind, pointing, begin, rng)
            image = _read_out(light, camera, detector, exptime, rng)
            header = _header(camera, site, kind, begin, exptime, pointing)
            fits.PrimaryHDU(image, header).writeto(night.raw / f"{kind}_{k + 1:03d}.fits", overwrite=True)


def _stars(camera: Camera, centre: tuple[float, float], n_star: int, rng: np.random.Generator) -> Stars:
    """The demo's stars with a luminosity function as steep as the sky's."""
    stars = make_stars(camera, *centre, round(n_star * MARGIN), {}, rng)
    span = 10 ** (SLOPE * (FAINT - BRIGHT)) - 1.0
    return replace(stars, mag=np.sort(BRIGHT + np.log10(1.0 + span * rng.random(stars.mag.size)) / SLOPE))


def _light(
    night: Night, camera: Camera, stars: Stars, kind: str, pointing: tuple[float, float], begin: float, rng: np.random.Generator
) -> FloatArray:
    """Electrons that fall on the detector; the truth is written with the first object frame."""
    if kind == "flat":
        return np.full(camera.shape, rng.uniform(24_000.0, 38_000.0) * camera.gain)
    if kind != "object":
        return np.zeros(camera.shape)
    x, y = camera.project(*space_motion(stars, Time(begin, format="jd").jyear), *pointing)
    flux = EXPTIME * 10.0 ** (-0.4 * (stars.mag - camera.zero_point))
    u, v = (x - camera.centre[0]) / camera.half_diagonal, (y - camera.centre[1]) / camera.half_diagonal
    image = SKY * (1.0 + 0.05 * np.linspace(-1.0, 1.0, camera.shape[1])[None, :] * np.ones(camera.shape))
    # Off the axis the images grow and stretch towards the middle.
    render_stars(image, x, y, flux, FWHM * (1.0 + 0.12 * (u * u + v * v)), 0.02 + 0.08 * (u * u - v * v), 0.16 * u * v)
    if not (path := night.raw.parent / "truth.fits").exists():
        Table({"x": x, "y": y, "flux": flux}).write(path)
    return image


def _read_out(light: FloatArray, camera: Camera, detector: Detector, exptime: float, rng: np.random.Generator) -> NDArray[np.uint16]:
    """As the demo's camera does: 1.2 cosmic rays a minute on 512 x 384 pixels; the readout adds 5 s."""
    hits = int(rng.poisson((exptime + 5.0) / 50.0 * light.size / (384 * 512)))
    return read_out(light * detector.response, camera, detector, exptime, hits, rng)


def _header(camera: Camera, site: Site, kind: str, begin: float, exptime: float, pointing: tuple[float, float]) -> fits.Header:
    """The keywords that most cameras write."""
    header = fits.Header()
    header["DATE-OBS"] = Time(begin, format="jd", scale="utc", precision=3).isot, "UTC, start of the exposure"
    header["EXPTIME"] = exptime, "[s] exposure"
    header["IMAGETYP"] = kind, "type of frame"
    header["OBJECT"] = {"object": "bench field", "flat": "twilight"}.get(kind, kind), "what it shows"
    header["FILTER"] = "G", "passband"
    header["TELESCOP"], header["INSTRUME"] = "starledger bench", "simulated camera"
    if kind == "object":
        header["RA"], header["DEC"] = round(pointing[0] + 0.004, 5), round(pointing[1] - 0.003, 5)
        header["EQUINOX"] = 2000.0, "of RA and DEC"
    header["PIXSCALE"] = round(camera.pixel_scale, 2), "[arcsec/pixel] approximate"
    header["SITELAT"], header["SITELONG"], header["SITEELEV"] = site.latitude, site.longitude, site.height
    header["EGAIN"] = camera.gain, "[electron/ADU] gain"
    header["RDNOISE"] = camera.read_noise, "[electron] read noise"
    header["SATURATE"] = camera.saturation, "[ADU] saturation level"
    header["CCD-TEMP"] = -20.0, "[C] detector temperature"
    return header
