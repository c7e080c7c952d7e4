"""Writing and reading a calibrated 4096x4096 frame: starledger against astropy's own rounding, cfitsio and no rounding, in one run.

python benchmarks/bench_product.py
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import fitsio
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from record import record
from simulated_field import best_of, simulated_field

from db.flags import Mask
from reduction.files.product import read_calibrated, write_calibrated, write_image
from reduction.files.tiles import ERROR_STEP, SCIENCE_STEP, lowest_error

Planes = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]
ROWS = 50


def star_field() -> Planes:
    """20,000 stars, saturated at 4000 ADU, seen through optics that let half the light into the corners."""
    image = simulated_field()[0]
    size = image.shape[0]
    y, x = np.ogrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    flat = (1 - 0.25 * (x**2 + y**2)) * np.random.default_rng(2).normal(1, 0.01, image.shape)
    raw = np.rint(np.minimum(image, 4000))
    variance = np.maximum(raw, 0) / 2 + 4
    mask = np.where(raw == 4000, int(Mask.SATURATED), 0).astype(np.uint8)
    return (raw / flat).astype(np.float32), (variance / flat**2).astype(np.float32), mask


def fixed_pattern() -> Planes:
    """Sky of 100 ADU with columns that differ by 10 sigma, rows by 2, and one hot pixel in 200: what no dark was taken from."""
    values, variance, mask = star_field()
    generator = np.random.default_rng(3)
    size = values.shape[0]
    hot = generator.random(values.shape) < 0.005
    pattern = (
        generator.normal(500, 75, size) + generator.normal(0, 15, (size, 1)) + np.where(hot, generator.exponential(3000, values.shape), 0)
    )
    return (values + pattern).astype(np.float32), variance, np.where(hot, int(Mask.HOT), mask).astype(np.uint8)


def by_astropy(path: Path, planes: Planes) -> None:
    """Steps of a sixteenth of the noise that astropy finds in the pixels: its default."""
    value, variance, mask = planes
    shape = (ROWS, value.shape[1])
    dithered = {"compression_type": "RICE_1", "tile_shape": shape, "quantize_level": 16, "quantize_method": 2, "dither_seed": 1}
    hdus = [fits.CompImageHDU(value, name="SCI", **dithered), fits.CompImageHDU(np.sqrt(variance), name="ERR", **dithered)]
    hdus.append(fits.CompImageHDU(mask, name="MASK", compression_type="RICE_1", tile_shape=shape))
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path, overwrite=True)


def by_cfitsio(path: Path, planes: Planes) -> None:
    """Our steps, written by cfitsio."""
    value, variance, mask = planes
    error = np.sqrt(variance)
    lowest = lowest_error(error, mask)
    path.unlink(missing_ok=True)
    common = {"compress": "RICE", "tile_dims": (ROWS, value.shape[1])}
    with fitsio.FITS(path, "rw") as file:
        file.write(value, extname="SCI", qlevel=-SCIENCE_STEP * lowest, qmethod=2, dither_seed=1, **common)
        file.write(error, extname="ERR", qlevel=-ERROR_STEP * lowest, qmethod=2, dither_seed=1, **common)
        file.write(mask, extname="MASK", **common)


def ours(path: Path, planes: Planes) -> None:
    write_calibrated(path, *planes)


def lossless(path: Path, planes: Planes) -> None:
    write_image(path, dict(zip(("SCI", "VAR", "MASK"), planes, strict=True)))


def measure(name: str, write: Callable[[Path, Planes], None], planes: Planes, folder: Path) -> tuple[float, float]:
    """Seconds to write and to read."""
    path = folder / f"{name}.fits"
    writing, reading = best_of(lambda: write(path, planes)), best_of(lambda: read_calibrated(path))
    back = read_calibrated(path)
    sigma = np.sqrt(planes[1].astype(float))
    loss = (back["SCI"] - planes[0].astype(float)) / sigma
    wrong = np.abs(np.sqrt(back["VAR"]) / sigma - 1).max()
    ratio = path.stat().st_size / (2 * planes[0].size)
    print(f"  {name:11s} write {writing:6.3f} s, read {reading:6.3f} s, {ratio:5.2f} times the raw frame;", end=" ")
    print(f"loss {np.sqrt(np.mean(loss**2)):.4f} sigma, mean {loss.mean():+.1e}, largest error of an error {wrong:.2%}")
    return writing, reading


def main() -> None:
    for frame in (star_field, fixed_pattern):
        planes = frame()
        print(f"{frame.__name__}, {planes[0].shape[1]}x{planes[0].shape[0]} pixels; the raw frame has 16 bits a pixel")
        with tempfile.TemporaryDirectory() as folder:
            taken = {}
            for name, write in (("starledger", ours), ("astropy", by_astropy), ("cfitsio", by_cfitsio), ("lossless", lossless)):
                taken[name] = measure(name, write, planes, Path(folder))
        for name in ("astropy", "cfitsio"):
            for k, work in enumerate(("write", "read")):
                record("product", {f"{name} {work}, {frame.__name__}": taken["starledger"][k] / taken[name][k]})


if __name__ == "__main__":
    main()
