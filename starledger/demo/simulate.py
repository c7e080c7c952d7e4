"""Simulation of a small night: raw frames, a catalogue, and the truth that was put in."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.time import Time
from numpy.typing import NDArray

from db.errors import ConfigurationError
from starledger.demo.camera import Camera, Detector, Site, make_detector, read_out
from starledger.demo.night import make_conditions, sidereal_degrees, start_jd
from starledger.demo.render import render_stars
from starledger.demo.signals import Signal, Transit, pulsation
from starledger.demo.sky import catalogue_table, make_stars
from starledger.demo.truth import Truth, scintillation, write_truth

__all__ = ["simulate_night"]

FloatArray = NDArray[np.float64]

_SPAN = 0.225  # d, of the object frames
_EXPTIME = 140.0  # s, of the object frames
_READ_TIME = 20.0  # s
_SPECIAL = {0: 12.2, 1: 12.8, 2: 13.3}  # number and magnitude of the transit's host and the two variables
_STREAMS = {"sky": 1, "detector": 2, "night": 3, "bias": 4, "dark": 5, "flat": 6, "object": 7, "catalogue": 8}
_SECOND = 1.0 / 86400.0


@dataclass(frozen=True)
class _Shot:
    """One exposure to be made: its place in the night and what its header says."""

    kind: str
    number: int
    start: float
    exptime: float
    ra: float
    dec: float
    dither: tuple[float, float] = (0.0, 0.0)

    @property
    def file(self) -> str:
        return f"{self.kind}_{self.number:03d}.fits"


def simulate_night(
    directory: Path | str,
    seed: int = 1,
    *,
    n_object: int = 120,
    shape: tuple[int, int] = (384, 512),
    n_star: int = 400,
    n_bias: int = 9,
    n_dark: int = 7,
    n_flat: int = 9,
) -> Truth:
    """Simulate a night of 5.4 hours with a transit and two variables among ordinary stars.

    Into `directory` go ``raw/`` (bias, dark, flat and object frames), ``catalogue.ecsv`` (most of the stars) and the
    truth, ``truth.ecsv`` and ``truth.json``. The same arguments make the same bytes.

    Parameters
    ----------
    directory : path
        Made when missing.
    seed : int
        The sky, the detector, the weather and all noise follow from it.
    n_object, n_bias, n_dark, n_flat : int
        Frames of each type; the object frames always span the same time.
    shape : (int, int)
        Rows and columns (pixel).
    n_star : int
        Stars on and just about the frame.

    Returns
    -------
    Truth
        As `read_truth` reads it.

    Raises
    ------
    ConfigurationError
        Where `directory` holds another night.
    """
    directory = Path(directory)
    truth, centre = _imagine(seed, n_object, shape, n_star)
    shots = _schedule(truth, centre, {"bias": n_bias, "dark": n_dark, "flat": n_flat})
    _prepare(directory, seed, {shot.file for shot in shots})
    detector = make_detector(truth.camera, _rng(seed, "detector"))
    catalogue_table(truth.stars, ~truth.catalogued, _rng(seed, "catalogue")).write(
        directory / "catalogue.ecsv", format="ascii.ecsv", overwrite=True
    )
    for shot in shots:
        image = _expose(truth, detector, shot)
        fits.PrimaryHDU(image, _header(truth, shot)).writeto(directory / "raw" / shot.file, overwrite=True)
    write_truth(truth, directory)
    return truth


def _rng(seed: int, stream: str, number: int = 0) -> np.random.Generator:
    """A generator of its own for each use, so that more frames or stars of one kind do not change another."""
    return np.random.default_rng([seed, _STREAMS[stream], number])


def _prepare(directory: Path, seed: int, files: set[str]) -> None:
    """Make the folders; refuse a folder with the truth of another seed or with raw frames that are not ours."""
    raw = directory / "raw"
    known = directory / "truth.json"
    if known.exists() and (other := json.loads(known.read_text(encoding="utf-8")).get("seed")) != seed:
        raise ConfigurationError(
            f"holds the demo night of seed {other}, not {seed}", where=str(directory), hint="give another folder", code="demo.folder"
        )
    strangers = sorted(path.name for path in raw.iterdir() if path.name not in files) if raw.exists() else []
    if strangers:
        raise ConfigurationError(
            f"holds other files, {strangers[0]} for one", where=str(raw), hint="give another folder", code="demo.folder"
        )
    raw.mkdir(parents=True, exist_ok=True)


def _imagine(seed: int, n_object: int, shape: tuple[int, int], n_star: int) -> tuple[Truth, tuple[float, float]]:
    """The truth of a night, and the middle of its field (deg)."""
    rng, site = _rng(seed, "sky"), Site()
    camera = replace(Camera(shape=shape), rotation=float(rng.uniform(-180, 180)), parity=-1 if rng.random() < 0.5 else 1)
    start = start_jd(-14.5, site)
    cadence = max(_SPAN / max(n_object - 1, 1), (_EXPTIME + _READ_TIME) * _SECOND)
    jd_utc = start + 0.5 * _EXPTIME * _SECOND + np.round(cadence * np.arange(n_object) * 86400.0, 3) * _SECOND
    middle = float(jd_utc.mean())
    ra0 = (sidereal_degrees(middle, site) + 15.0 * rng.uniform(0.2, 0.8)) % 360.0
    dec0 = site.latitude + rng.uniform(-8.0, 12.0)
    stars = make_stars(camera, ra0, dec0, n_star, _SPECIAL, rng)
    night = _rng(seed, "night")
    phase, late = night.uniform(0.42, 0.58), night.random() < 0.5
    cloud_middle = phase + (1.0 if late else -1.0) * night.uniform(0.27, 0.33)
    conditions = make_conditions(jd_utc, ra0, dec0, camera, site, cloud_middle, night)
    catalogued = rng.random(stars.mag.size) > 0.12
    catalogued[:3] = True, True, False
    files = tuple(_Shot("object", k + 1, 0.0, 0.0, 0.0, 0.0).file for k in range(n_object))
    epoch = float(Time(middle, format="jd", scale="utc").jyear)
    truth = Truth(seed, camera, site, _EXPTIME, epoch, stars, catalogued, (), conditions, files)
    return replace(truth, signals=_signals(truth, phase, night)), (ra0, dec0)


def _signals(truth: Truth, phase: float, rng: np.random.Generator) -> tuple[Signal, ...]:
    """A transit about `phase` of the series, and two pulsations of less than a third of it."""
    begin = float(truth.bjd_tdb(0)[0])
    transit = Transit("transit", 0, 0.010, begin + phase * _SPAN, 0.38 * _SPAN)
    sine = pulsation("sine", 1, float(rng.uniform(0.19, 0.24)) * _SPAN, begin + float(rng.uniform(0, 0.05)), 0.10)
    steep = pulsation("pulse", 2, float(rng.uniform(0.25, 0.31)) * _SPAN, begin + float(rng.uniform(0, 0.07)), 0.16, n_harmonic=3)
    return transit, sine, steep


def _schedule(truth: Truth, centre: tuple[float, float], numbers: dict[str, int]) -> list[_Shot]:
    """All exposures: bias and dark frames before sunset, flats in twilight, then the objects."""
    rng = _rng(truth.seed, "night", 1)
    evening = start_jd(0.0, truth.site) - 2.0 / 24.0
    shots = [_Shot("bias", k + 1, evening + 15.0 * k * _SECOND, 0.0, *centre) for k in range(numbers["bias"])]
    shots += [_Shot("dark", k + 1, evening + (600.0 + 160.0 * k) * _SECOND, truth.exptime, *centre) for k in range(numbers["dark"])]
    dusk = start_jd(-5.0, truth.site)
    for k in range(numbers["flat"]):
        dither = rng.uniform(-40.0, 40.0, 2)
        ra, dec = (centre[0] + 31.0) % 360.0, centre[1] - 8.0 + dither[1] * truth.camera.pixel_scale / 3600.0
        shots.append(_Shot("flat", k + 1, dusk + 35.0 * k * _SECOND, round(1.5 * 1.25**k, 1), ra, dec, (dither[0], dither[1])))
    # The mount believes in a position that is off by some 20 arcsec, and does not notice its drift.
    wrong = 0.006 * rng.standard_normal(2)
    starts = truth.conditions.jd_utc - 0.5 * truth.exptime * _SECOND
    shots += [_Shot("object", k + 1, float(t), truth.exptime, centre[0] + wrong[0], centre[1] + wrong[1]) for k, t in enumerate(starts)]
    return shots


def _expose(truth: Truth, detector: Detector, shot: _Shot) -> NDArray[np.uint16]:
    """Raw image of one exposure."""
    rng = _rng(truth.seed, shot.kind, shot.number)
    light = np.zeros(truth.camera.shape)
    if shot.kind == "object":
        light = _object_light(truth, shot.number - 1, rng)
    elif shot.kind == "flat":
        light = _twilight(truth, shot, rng)
    # 1.2 hits a minute on 512 x 384 pixels; the readout adds 5 s.
    hits = int(rng.poisson((shot.exptime + 5.0) / 50.0 * light.size / (384 * 512)))
    return read_out(light * detector.response, truth.camera, detector, shot.exptime, hits, rng)


def _object_light(truth: Truth, frame: int, rng: np.random.Generator) -> FloatArray:
    """Electrons of stars and sky before vignetting."""
    camera, c = truth.camera, truth.conditions
    x, y = truth.project(frame)
    u, v = (x - camera.centre[0]) / camera.half_diagonal, (y - camera.centre[1]) / camera.half_diagonal
    rho2 = u * u + v * v
    twinkle = scintillation(camera, truth.site, truth.exptime, truth.airmass()[frame])
    light = truth.electrons(frame) * (1.0 + twinkle * rng.standard_normal(x.size))
    image = _plane(camera, float(c.sky_x[frame]), float(c.sky_y[frame])) * float(c.sky[frame]) * truth.exptime
    # Off the axis the images grow and stretch towards the middle.
    e1 = c.e1[frame] + 0.08 * (u * u - v * v)
    e2 = c.e2[frame] + 0.08 * 2.0 * u * v
    render_stars(image, x, y, light, c.fwhm[frame] * (1.0 + 0.12 * rho2 + 0.03 * u), e1, e2)
    return image


def _twilight(truth: Truth, shot: _Shot, rng: np.random.Generator) -> FloatArray:
    """Electrons of the twilight sky, and of the few stars of an empty field."""
    camera = truth.camera
    ny, nx = camera.shape
    image = _plane(camera, 0.004, -0.003) * rng.uniform(24_000.0, 38_000.0) * camera.gain
    blank = _rng(truth.seed, "flat")
    x, y, mag = blank.uniform(-0.2 * nx, 1.2 * nx, 25), blank.uniform(-0.2 * ny, 1.2 * ny, 25), blank.uniform(12.5, 17.0, 25)
    light = shot.exptime * 10.0 ** (-0.4 * (mag - camera.zero_point))
    render_stars(image, x - shot.dither[0], y - shot.dither[1], light, np.full(25, 3.4), np.zeros(25), np.zeros(25))
    return image


def _plane(camera: Camera, slope_x: float, slope_y: float) -> FloatArray:
    """Plane of mean 1 that changes by the slopes from the middle to the right and upper edge."""
    ny, nx = camera.shape
    x, y = np.linspace(-1.0, 1.0, nx), np.linspace(-1.0, 1.0, ny)
    return np.asarray(1.0 + slope_x * x[None, :] + slope_y * y[:, None])


def _header(truth: Truth, shot: _Shot) -> fits.Header:
    """Header of a raw frame, with the keywords most cameras use."""
    camera, site = truth.camera, truth.site
    header = fits.Header()
    header["DATE-OBS"] = Time(shot.start, format="jd", scale="utc", precision=3).isot, "UTC, start of the exposure"
    header["TIMESYS"] = "UTC", "time system"
    header["EXPTIME"] = shot.exptime, "[s] exposure"
    header["IMAGETYP"] = shot.kind, "type of frame"
    header["OBJECT"] = {"object": "demo field", "flat": "twilight"}.get(shot.kind, shot.kind), "what it shows"
    header["FILTER"] = "G", "passband"
    header["TELESCOP"] = "starledger demo", "simulated telescope"
    header["INSTRUME"] = "demo camera", "simulated camera"
    if shot.kind in ("flat", "object"):
        header["RA"] = round(shot.ra, 5), "[deg] pointing, approximate"
        header["DEC"] = round(shot.dec, 5), "[deg] pointing, approximate"
        header["EQUINOX"] = 2000.0, "of RA and DEC"
    header["PIXSCALE"] = round(camera.pixel_scale, 2), "[arcsec/pixel] approximate"
    header["SITELAT"] = site.latitude, "[deg] latitude, north positive"
    header["SITELONG"] = site.longitude, "[deg] longitude, east positive"
    header["SITEELEV"] = site.height, "[m] height"
    header["EGAIN"] = camera.gain, "[electron/ADU] gain"
    header["RDNOISE"] = camera.read_noise, "[electron] read noise"
    header["SATURATE"] = camera.saturation, "[ADU] saturation level"
    header["CCD-TEMP"] = -20.0, "[C] detector temperature"
    header["XBINNING"] = 2, "binning in x"
    header["YBINNING"] = 2, "binning in y"
    return header
