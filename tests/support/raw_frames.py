"""Small raw frames of a simple camera, by their kind, and mosaics of given light."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

__all__ = ["EXPTIME", "SHAPE", "camera", "mosaic", "object_frame", "write_frame"]

SHAPE = (192, 256)
EXPTIME = {"bias": 0.0, "dark": 60.0, "flat": 3.0, "object": 60.0}


def camera(kind: str, seed: int, *, stars: int = 60, pedestal: float = 300.0, sky: float = 100.0) -> np.ndarray:
    """Raw frame of gain 1.5, read noise 8 electron, 60 hot pixels and vignetting."""
    generator = np.random.default_rng(seed)
    y, x = np.indices(SHAPE)
    response = 1 - 0.3 * ((x - 128) ** 2 + (y - 96) ** 2) / 128**2
    light = np.zeros(SHAPE)
    if kind == "flat":
        light += 20000.0
    if kind == "object":
        light += sky
        for cx, cy, flux in zip(
            generator.uniform(6, 250, stars), generator.uniform(6, 186, stars), 10 ** generator.uniform(3, 4.7, stars), strict=True
        ):
            light += flux / (2 * np.pi * 1.2**2) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 2 / 1.2**2)
    fixed = np.random.default_rng(99)
    hot = np.zeros(SHAPE)
    hot[fixed.integers(5, 187, 60), fixed.integers(5, 251, 60)] = fixed.exponential(10.0, 60)
    electrons = generator.poisson(light * response * 1.5 + (0.2 + hot) * EXPTIME[kind])
    return np.rint(electrons / 1.5 + generator.normal(pedestal, 8 / 1.5, SHAPE)).clip(0, 65535).astype(np.float32)


def mosaic(levels: dict[str, float], pattern: str = "RGGB", shape: tuple[int, int] = (256, 320), seed: int = 0) -> np.ndarray:
    colours = np.array(list(pattern)).reshape(2, 2)[np.ix_(np.arange(shape[0]) % 2, np.arange(shape[1]) % 2)]
    light = np.select([colours == name for name in levels], list(levels.values()))
    return np.rint(2048 + np.random.default_rng(seed).normal(light, np.sqrt(light + 25.0))).astype(np.float32)


def object_frame(seed: int) -> np.ndarray:
    """An object frame of `camera`, 16 bits."""
    return camera("object", seed).astype(np.uint16)


def write_frame(path: Path, data: np.ndarray, second: float, kind: str = "Light Frame", **cards: Any) -> Path:
    """Write a frame that was begun so many seconds after 21:00 UTC, with the usual cards and more."""
    begun = f"2024-03-08T21:{int(second // 60):02d}:{second % 60:06.3f}"
    hdu = fits.PrimaryHDU(data)
    usual = {"INSTRUME": "Camera", "IMAGETYP": kind, "EXPTIME": 60.0, "FILTER": "V", "DATE-OBS": begun}
    for word, value in {**usual, **cards}.items():
        hdu.header[word] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    hdu.writeto(path)
    return path
