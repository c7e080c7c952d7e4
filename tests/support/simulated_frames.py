"""Simulated nights of several cameras, with the truth: raw frames of all kinds as a detector makes them, electron by electron.

Nothing here knows how frames are sorted: stars are Moffat profiles integrated over pixels by sampling, trailed, out of focus or
undersampled; the sky follows the Sun's altitude; twilight runs from blue to grey; lamps are reddish; dark current is spread
log-normally over the pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from scipy import ndimage


@dataclass(frozen=True)
class Camera:
    """A camera and its telescope."""

    name: str
    shape: tuple[int, int] = (288, 320)
    pedestal: float = 1000.0  # ADU
    gain: float = 1.5  # electron/ADU
    read_noise: float = 8.0  # electron
    full: float = 65535.0  # ADU
    step: float = 1.0  # ADU between values written
    dark_rate: float = 0.02  # electron/s
    hot: float = 0.001  # fraction of pixels
    hot_rate: float = 5.0  # electron/s of a typical hot pixel
    fixed: float = 0.0  # ADU, fixed pattern of the bias
    banding: float = 0.0  # ADU, row noise of each frame
    glow: float = 0.0  # electron/s in the corner
    fwhm: float = 3.0  # pixels
    sky: float = 1.5  # electron/s a pixel on a dark night
    vignetting: float = 0.25
    bayer: str | None = None
    black_level: float | None = None
    drift: float = 0.5  # ADU over the night
    bias_time: float = 0.0  # s


CAMERAS = (
    Camera("cooled CCD", hot=0.0005),
    Camera(
        "CMOS, 12 bits in 16", pedestal=256.0, gain=0.25, read_noise=1.6, step=16.0, dark_rate=0.005, glow=0.05, bias_time=3.2e-5, sky=1.0
    ),
    Camera(
        "DSLR",
        shape=(320, 384),
        pedestal=2048.0,
        gain=0.6,
        read_noise=5.0,
        full=15871.0,
        dark_rate=0.15,
        hot=0.01,
        hot_rate=3.0,
        banding=0.6,
        bayer="RGGB",
        black_level=2048.0,
        bias_time=1 / 4000,
        sky=4.0,
        vignetting=0.4,
    ),
    Camera("infrared array", pedestal=41000.0, gain=2.0, read_noise=25.0, fixed=110.0, dark_rate=0.5, sky=25.0, drift=8.0, full=60000.0),
    Camera(
        "wide field, 12 bits", pedestal=313.0, gain=20.0, read_noise=14.0, full=4095.0, dark_rate=0.2, fwhm=1.5, sky=40.0, vignetting=0.45
    ),
    Camera(
        "one-shot colour CMOS",
        pedestal=500.0,
        gain=0.8,
        read_noise=2.0,
        step=4.0,
        dark_rate=0.01,
        hot=0.002,
        bayer="GBRG",
        bias_time=0.001,
        fwhm=2.6,
        sky=2.0,
        vignetting=0.15,
    ),
)


@dataclass(frozen=True)
class Shot:
    """What is exposed. `kind` is the truth that sorting is held to; `sky_frame` marks what must never enter a master."""

    kind: str
    exptime: float
    sun: float = -40.0
    stars: int = 0
    light: float = 0.0  # electron/s a pixel, of sky or lamp
    colour: tuple[float, float, float] = (0.75, 1.0, 0.6)
    psf: str = "moffat"
    cosmics: int = 1
    gradient: float = 0.0
    note: str = ""
    passband: bool = True

    @property
    def sky_frame(self) -> bool:
        return self.kind == "object" or self.note in ("clouds", "fog")


@dataclass(frozen=True)
class Frame:
    """A frame of a night: its pixels, what it is, and when."""

    data: np.ndarray
    camera: Camera
    shot: Shot


def sky_colour(generator: np.random.Generator) -> tuple[float, float, float]:
    """Raw R, G, B of a twilight sky: from blue at the zenith to grey in haze, through a camera's filters."""
    blue = generator.uniform(0, 1)
    return 0.58 - 0.22 * blue + generator.normal(0, 0.02), 1.0, 0.68 + 0.3 * blue + generator.normal(0, 0.02)


class Night:
    """The detector and the field of one night."""

    def __init__(self, camera: Camera, seed: int) -> None:
        self.camera, self.seed = camera, seed
        self.generator = generator = np.random.default_rng(seed)
        ny, nx = shape = camera.shape
        y, x = np.indices(shape)
        self.y, self.x = y.astype(float), x.astype(float)
        radius = ((x - nx * generator.uniform(0.42, 0.58)) ** 2 + (y - ny * generator.uniform(0.42, 0.58)) ** 2) / (nx / 2) ** 2
        self.response = (1 - camera.vignetting * radius).clip(0.2) * generator.normal(1, 0.008, shape)
        for cx, cy in generator.uniform(20, min(shape) - 20, (3, 2)):  # dust
            distance = np.hypot(x - cx, y - cy)
            self.response *= 1 - 0.06 * ((distance > 4) & (distance < 9))
        self.dark = camera.dark_rate * generator.lognormal(0, 0.3, shape)
        hot = generator.uniform(size=shape) < camera.hot
        self.dark[hot] += generator.exponential(camera.hot_rate, int(hot.sum()))
        self.dark += camera.glow * np.exp(-np.hypot(x, y) / 60)
        self.bias = camera.pedestal + camera.fixed * ndimage.gaussian_filter(generator.normal(size=shape), 0.4) / 0.7
        self.bias += generator.normal(0, 0.3 + 0.05 * camera.fixed, nx)[None, :]  # columns
        self.colours = self._colour_index()
        n = 400
        self.stars = generator.uniform(0, 1, (n, 2)) * (nx, ny)
        self.fluxes = 10 ** generator.uniform(0, 1.6, n)  # relative, faintest 1
        self.tints = generator.uniform(0.5, 1.1, (n, 2))
        self.time = 0.0

    def _colour_index(self) -> np.ndarray:
        index = np.ones(self.camera.shape, dtype=int)
        if self.camera.bayer:
            for place, colour in enumerate(self.camera.bayer):
                index[place // 2 :: 2, place % 2 :: 2] = "RGB".index(colour)
        return index

    def expose(self, shot: Shot) -> Frame:
        """One frame."""
        camera, generator = self.camera, self.generator
        self.time += 0.01
        per_colour = np.array(shot.colour if camera.bayer else (1.0, 1.0, 1.0))
        tilt = 1 + shot.gradient * (self.x / camera.shape[1] - 0.5)
        rate = shot.light * per_colour[self.colours] * tilt
        light = rate * self.response * shot.exptime
        if shot.stars:
            light = light + self._star_light(shot)
        electrons = generator.poisson(np.clip(light + self.dark * shot.exptime, 0, 1e9)).astype(float)
        self._cosmics(electrons, shot.cosmics)
        adu = electrons / camera.gain + self.bias + camera.drift * np.sin(self.time + self.seed)
        adu += generator.normal(0, camera.read_noise / camera.gain, camera.shape)
        adu += generator.normal(0, camera.banding, (camera.shape[0], 1)) if camera.banding else 0.0
        raw = (np.rint(adu / camera.step) * camera.step).clip(0, camera.full)
        return Frame(raw.astype(np.float32), camera, shot)

    def _star_light(self, shot: Shot) -> np.ndarray:
        """Stars of the field, some electrons each: the faintest has 4 times the noise of its core."""
        camera, generator = self.camera, self.generator
        dither = generator.normal(0, 6, 2) if shot.psf != "tracked" else generator.normal(0, 0.2, 2)
        sky = (shot.light + camera.dark_rate) * shot.exptime + camera.read_noise**2
        faintest = 12 * np.sqrt(sky) * max(camera.fwhm, 2.0)
        image = np.zeros(camera.shape)
        width = {"defocused": 14.0, "trailed": camera.fwhm}.get(shot.psf, camera.fwhm * generator.uniform(0.95, 1.25))
        trail = generator.uniform(-12, 12, 2) if shot.psf == "trailed" else np.zeros(2)
        brighter = 8.0 if shot.psf in ("defocused", "trailed") else 1.0
        for number in range(shot.stars):
            flux = self.fluxes[number] * faintest * brighter
            tint = np.array([self.tints[number, 0], 1.0, self.tints[number, 1]]) if camera.bayer else np.ones(3)
            self._add(image, self.stars[number] + dither, flux, width, trail, shot.psf, tint)
        return image

    def _add(self, image: np.ndarray, place: np.ndarray, flux: float, fwhm: float, trail: np.ndarray, psf: str, tint: np.ndarray) -> None:
        reach = int(3 * fwhm + np.abs(trail).max() + 3)
        x0, y0 = int(place[0]) - reach, int(place[1]) - reach
        x1, y1 = max(0, x0), max(0, y0)
        x2, y2 = min(image.shape[1], x0 + 2 * reach), min(image.shape[0], y0 + 2 * reach)
        if x2 <= x1 or y2 <= y1:
            return
        fine = 3 if fwhm < 2.5 else 1
        offsets = (np.arange(fine) + 0.5) / fine - 0.5
        steps = np.linspace(-0.5, 0.5, 13) if trail.any() else np.zeros(1)
        y, x = np.mgrid[y1:y2, x1:x2].astype(float)
        stamp = np.zeros(x.shape)
        for step in steps:
            for dy in offsets:
                for dx in offsets:
                    distance = np.hypot(x + dx - place[0] - step * trail[0], y + dy - place[1] - step * trail[1])
                    stamp += self._profile(distance, fwhm, psf)
        stamp *= flux / (len(steps) * fine**2)
        image[y1:y2, x1:x2] += stamp * tint[self.colours[y1:y2, x1:x2]] * self.response[y1:y2, x1:x2]

    @staticmethod
    def _profile(distance: np.ndarray, fwhm: float, psf: str) -> np.ndarray:
        if psf == "defocused":  # a ring, with the shadow of the secondary mirror
            edge = 1 / (1 + np.exp((distance - fwhm / 2) / 0.8)) - 1 / (1 + np.exp((distance - fwhm / 6) / 0.8))
            return edge / (np.pi * (fwhm**2 / 4 - fwhm**2 / 36))
        beta = 3.0
        alpha = fwhm / 2 / np.sqrt(2 ** (1 / beta) - 1)
        return (beta - 1) / (np.pi * alpha**2) * (1 + distance**2 / alpha**2) ** -beta

    def _cosmics(self, electrons: np.ndarray, count: int) -> None:
        """Tracks of particles: mostly short, some long, each pixel holding part of the length."""
        generator = self.generator
        ny, nx = electrons.shape
        for _ in range(generator.poisson(count)):
            length = 1 + generator.exponential(4)
            angle, x, y = generator.uniform(0, np.pi), generator.uniform(0, nx - 1), generator.uniform(0, ny - 1)
            deposit = generator.lognormal(6.2, 0.7)
            for s in np.arange(0, length, 0.25):
                i, j = round(x + s * np.cos(angle)), round(y + s * np.sin(angle))
                if 0 <= i < nx and 0 <= j < ny:
                    electrons[j, i] += deposit * 0.25


def _closed(camera: Camera, *, dark_time: float, n: int) -> list[Shot]:
    bias, dark = Shot("bias", camera.bias_time, sun=-2.0), Shot("dark", dark_time, cosmics=int(dark_time / 40), sun=-30.0)
    return [bias] * n + [dark] * n


def _flats(camera: Camera, generator: np.random.Generator, *, lamp: bool, n: int, stars: int = 0) -> list[Shot]:
    shots = []
    room = camera.full - camera.pedestal
    for number in range(n):
        exptime = 4.0 if lamp else 1.5 * 1.6**number
        adu = room * (0.45 if lamp else generator.uniform(0.25, 0.6))
        colour = (1.15, 1.0, 0.33) if lamp else sky_colour(generator)
        light = adu * camera.gain / exptime
        sun = generator.uniform(2, 10) if lamp else generator.uniform(-7.5, -3)
        shots.append(Shot("flat", exptime, sun=sun, light=light, colour=colour, stars=stars, gradient=0.0 if lamp else 0.02))
    return shots


def _objects(camera: Camera, generator: np.random.Generator, *, exptime: float, n: int, **more: Any) -> list[Shot]:
    shots = []
    for number in range(n):
        shot = Shot(
            "object",
            exptime,
            sun=generator.uniform(-50, -15),
            stars=int(generator.integers(25, 90)),
            light=camera.sky * generator.uniform(0.7, 1.5),
            psf="tracked" if number % 2 else "moffat",
        )
        shots.append(replace(shot, **more))
    return shots


def _clouds(camera: Camera, generator: np.random.Generator, *, exptime: float, n: int) -> list[Shot]:
    shots = []
    for _ in range(n):
        light, gradient = camera.sky * generator.uniform(1.5, 8), generator.uniform(0, 0.3)
        shots.append(Shot("other", exptime, sun=-35.0, light=light, colour=(0.9, 1.0, 0.5), gradient=gradient, note="clouds"))
    return shots


def plans(camera: Camera, seed: int) -> list[list[Shot]]:
    """Make-up of the nights of a camera."""
    g = np.random.default_rng(seed + 1000)
    dark_time, exptime = (120.0, 60.0) if camera.name != "infrared array" else (40.0, 40.0)
    closed = _closed(camera, dark_time=dark_time, n=4)
    usual = [
        *closed,
        *_flats(camera, g, lamp=False, n=4),
        *_objects(camera, g, exptime=exptime, n=8),
        *_clouds(camera, g, exptime=exptime, n=2),
    ]
    moon = [
        *_closed(camera, dark_time=exptime, n=4),
        *_flats(camera, g, lamp=True, n=4),
        *_objects(camera, g, exptime=exptime, n=4, light=camera.sky * 15, colour=(0.5, 1.0, 0.75)),
        *_objects(camera, g, exptime=exptime / 2, n=2, psf="trailed"),
        *_objects(camera, g, exptime=exptime / 2, n=2, psf="defocused", stars=40),
        Shot("other", exptime, sun=-30.0, light=camera.sky * 60, colour=(0.5, 1.0, 0.75), gradient=0.1, note="fog"),
        Shot("dark", exptime, note="lens cap", sun=-30.0),
    ]
    awkward = [
        *closed,
        *_flats(camera, g, lamp=False, n=3, stars=6),
        Shot(
            "other", 5.0, sun=-1.0, light=9.0 * (camera.full - camera.pedestal) * camera.gain / 5.0, colour=sky_colour(g), note="saturated"
        ),
        *_objects(camera, g, exptime=300.0 if camera.gain < 1 else exptime, n=4, stars=12),
        *_objects(camera, g, exptime=exptime, n=2, light=camera.sky * 0.02),  # a narrow filter
    ]
    return [usual, moon, awkward]


def partial_plans(camera: Camera, seed: int) -> list[list[Shot]]:
    """Nights from which something is missing, and nights of one thing only."""
    g = np.random.default_rng(seed + 2000)
    exptime = 40.0 if camera.name == "infrared array" else 60.0
    closed = _closed(camera, dark_time=exptime, n=3)
    bias, darks = closed[:3], closed[3:]
    objects = partial(_objects, camera, g, exptime=exptime)
    clouds = partial(_clouds, camera, g, exptime=exptime)
    flats = partial(_flats, camera, g, n=3)
    return [
        closed,
        [*bias, *flats(lamp=False)],
        [*bias, *flats(lamp=True)],
        [*objects(n=3), *clouds(n=2)],
        [*darks, *objects(n=3)],
        [*flats(lamp=False), *objects(n=3)],
        [*bias[:1], *darks[:1], *flats(lamp=False, stars=25)[:2], *objects(n=2, stars=9), *clouds(n=1)],
        [*bias, *(Shot("dark", 1200.0, cosmics=60) for _ in range(3)), *objects(n=2, exptime=600.0, psf="tracked")],
        list(objects(n=1)),
        list(clouds(n=1)),
    ]


def nights(
    seed: int, cameras: tuple[Camera, ...] = CAMERAS, plan: Callable[[Camera, int], list[list[Shot]]] = plans
) -> Iterator[list[Frame]]:
    """Nights of all cameras: 18 sets with 372 frames by `plans`."""
    for number, camera in enumerate(cameras):
        for which, shots in enumerate(plan(camera, seed + 17 * number)):
            night = Night(camera, seed * 1000 + number * 20 + which)
            yield [night.expose(shot) for shot in shots]
