"""Extraction against source-extractor and sep as they come, on the same simulated and real frames."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import galsim
import numpy as np
import numpy.typing as npt
import pytest
import sep
from astropy.io import fits
from scipy.spatial import cKDTree

from db.flags import Mask
from reduction.astrometry.kernels.detection import Detections, extract

FloatArray = npt.NDArray[np.float64]
SKY, GAIN, READ_NOISE = 200.0, 2.0, 3.0
DEFAULTS = Path("/usr/share/source-extractor")

needs_source_extractor = pytest.mark.skipif(
    shutil.which("source-extractor") is None or not DEFAULTS.is_dir(), reason="source-extractor is not installed (Debian: source-extractor)"
)


def by_source_extractor(data: npt.NDArray[np.float32], folder: Path) -> FloatArray:
    """Windowed x, y (0-based), S/N of FLUX_AUTO and flags of what source-extractor finds, (n, 4)."""
    fits.writeto(folder / "frame.fits", data)
    (folder / "columns").write_text("XWIN_IMAGE\nYWIN_IMAGE\nFLUX_AUTO\nFLUXERR_AUTO\nFLAGS\n")
    options = {
        "PARAMETERS_NAME": "columns",
        "FILTER_NAME": DEFAULTS / "default.conv",
        "STARNNW_NAME": DEFAULTS / "default.nnw",
        "CATALOG_NAME": "stars",
        "CATALOG_TYPE": "ASCII",
        "DETECT_THRESH": 1.5,
        "DETECT_MINAREA": 4,
        "GAIN": GAIN,
        "VERBOSE_TYPE": "QUIET",
    }
    words = [str(word) for name, value in options.items() for word in (f"-{name}", value)]
    subprocess.run(["source-extractor", "frame.fits", "-c", DEFAULTS / "default.sex", *words], cwd=folder, check=True, capture_output=True)
    x, y, flux, error, flags = np.loadtxt(folder / "stars", unpack=True)
    return np.column_stack([x - 1.0, y - 1.0, flux / error, flags])


def by_sep(data: npt.NDArray[np.float32]) -> FloatArray:
    """Windowed x, y by the recipe of sep's documentation."""
    background = sep.Background(data)
    flat = data - background.back(dtype=np.float32)
    objects = sep.extract(flat, 1.5, err=background.globalrms)
    radius, _ = sep.flux_radius(flat, objects["x"], objects["y"], 6.0 * objects["a"], 0.5, normflux=objects["flux"], subpix=5)
    x, y, _ = sep.winpos(flat, objects["x"], objects["y"], 2.0 / 2.35 * radius)
    return np.column_stack([x, y])


@pytest.fixture(scope="module")
def simulated() -> tuple[npt.NDArray[np.float32], FloatArray, FloatArray]:
    """A frame of 600 stars at random places, FWHM 2.6 pixel, faint ones most; places (n, 2) and S/N."""
    rng = np.random.default_rng(11)
    size, n = 1000, 600
    image = galsim.ImageD(size, size, xmin=0, ymin=0)
    star = galsim.Moffat(beta=3.5, fwhm=2.6)
    light = star.drawImage(nx=41, ny=41, scale=1.0, dtype=float).array
    places, flux = rng.uniform(12.0, size - 13.0, (n, 2)), 400.0 * (1.0 + rng.pareto(0.9, n)).clip(max=500.0)
    for (x, y), light_of_star in zip(places, flux, strict=True):
        box = galsim.BoundsI(int(x) - 40, int(x) + 40, int(y) - 40, int(y) + 40) & image.bounds
        star.withFlux(light_of_star).drawImage(image=image[box], center=galsim.PositionD(x, y), scale=1.0, add_to_image=True)
    variance = (image.array + SKY) / GAIN + READ_NOISE**2
    snr = np.array([np.sqrt(np.sum((f * light) ** 2 / ((f * light + SKY) / GAIN + READ_NOISE**2))) for f in flux])
    return rng.normal(image.array + SKY, np.sqrt(variance)).astype(np.float32), places, snr


def ours(data: npt.NDArray[np.float32]) -> Detections:
    return extract(data, np.maximum(data, 0.0) / GAIN + READ_NOISE**2, np.zeros(data.shape, np.uint8), threshold=4.0)


def judge(found: FloatArray, places: FloatArray, snr: FloatArray) -> tuple[float, float, float]:
    """Completeness for stars of S/N above 20 without a close neighbour, share of false detections, rms of their positions by S/N."""
    truth, seen = cKDTree(places), cKDTree(found)
    wanted = (truth.query(places, k=2)[0][:, 1] > 8.0) & (snr > 20.0)
    distance, nearest = seen.query(places)
    used = wanted & (distance < 1.0)
    offset = (found[nearest[used]] - places[used]) * snr[used, None]
    return float(np.mean(distance[wanted] < 1.0)), float(np.mean(truth.query(found)[0] > 2.0)), float(np.sqrt(np.mean(offset**2)))


def test_simulated_frame_is_complete_and_pure(simulated: tuple[npt.NDArray[np.float32], FloatArray, FloatArray]) -> None:
    data, places, snr = simulated
    found = ours(data)
    complete, false, scatter = judge(np.column_stack([found.x, found.y]), places, snr)
    _, _, of_sep = judge(by_sep(data), places, snr)
    assert complete > 0.99
    assert false < 0.01
    assert scatter < 1.05 * of_sep


@needs_source_extractor
def test_simulated_frame_is_measured_as_well_as_by_source_extractor(
    simulated: tuple[npt.NDArray[np.float32], FloatArray, FloatArray], tmp_path: Path
) -> None:
    data, places, snr = simulated
    found = ours(data)
    complete, _, scatter = judge(np.column_stack([found.x, found.y]), places, snr)
    theirs, _, their_scatter = judge(by_source_extractor(data, tmp_path)[:, :2], places, snr)
    assert complete >= theirs
    assert scatter < 1.05 * their_scatter


@needs_source_extractor
@pytest.mark.realdata
@pytest.mark.parametrize("night", ["hatp32", "skycamt"])
def test_real_frame_holds_what_source_extractor_finds(night: str, night_files: Callable[[str], list[Path]], tmp_path: Path) -> None:
    data = fits.getdata(night_files(night)[0]).astype(np.float32)
    noise = 1.48 * np.median(np.abs(data - np.median(data)))
    mask = np.where(data >= 4095, int(Mask.SATURATED), 0).astype(np.uint8) if night == "hatp32" else np.zeros(data.shape, np.uint8)
    found = extract(data, np.full(data.shape, noise**2), mask, threshold=4.0)
    theirs = by_source_extractor(data, tmp_path)
    inside = np.all((theirs[:, :2] > 8.0) & (theirs[:, :2] < np.array(data.shape[::-1]) - 9.0), axis=1)
    clear = theirs[inside & (theirs[:, 2] > 30.0) & (theirs[:, 3] == 0)]
    distance, nearest = cKDTree(np.column_stack([found.x, found.y])).query(clear[:, :2])
    assert len(clear) > 100
    assert np.mean(distance < 1.0) > 0.98
    offset = np.column_stack([found.x, found.y])[nearest[distance < 1.0]] - clear[distance < 1.0, :2]
    assert np.median(np.abs(offset)) < 0.05
