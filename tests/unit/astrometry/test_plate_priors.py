"""What a header or a neighbour says beforehand counts: few stars are enough where it has them, and wrong fields are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from astropy.io import fits
from astropy.wcs import WCS

import starledger
from db.errors import AlgorithmFailed
from reduction.astrometry import solve_file
from reduction.astrometry.kernels import start
from reduction.astrometry.kernels.acceptance import MAX_LOG_CHANCE, judge, max_log_chance
from reduction.astrometry.kernels.plate import PlateFit, solve
from reduction.astrometry.kernels.start import Pointing, Start
from reduction.astrometry.kernels.wcs import PlateSolution, gnomonic_inverse
from reduction.astrometry.search import from_header
from reduction.frames.kernels.bayer import Channel

FloatArray = npt.NDArray[np.float64]
CENTRE = (80.62, -70.26)
SCALE = 3.0
SIZE = 512


def camera(angle: float, off: tuple[float, float] = (0.0, 0.0)) -> PlateSolution:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * 3600.0 / SCALE
    middle = (SIZE - 1) / 2.0
    return PlateSolution(*CENTRE, 1, (middle + off[0], *map(float, turn[0])), (middle + off[1], *map(float, turn[1])), SIZE, SIZE)


def stars(rng: np.random.Generator, n: int) -> tuple[FloatArray, FloatArray]:
    """Places of stars over three frames' width, some `n` of them on the frame."""
    half = 1.5 * SIZE * SCALE / 3600.0
    return gnomonic_inverse(*rng.uniform(-half, half, (2, 9 * n)), *CENTRE)


def frame(
    rng: np.random.Generator, truth: PlateSolution, sky: tuple[FloatArray, FloatArray], n_false: int
) -> tuple[FloatArray, FloatArray]:
    """Detections, the stars first, as bright stars are; and so many that are none, as hot pixels are."""
    x, y = truth.project(*sky)
    on = truth.inside(x, y)
    real = np.array([x[on], y[on]]) + rng.normal(0.0, 0.15, (2, int(on.sum())))
    false = rng.uniform(0.0, SIZE - 1.0, (2, n_false))
    return tuple(np.concatenate([real, false], axis=1))  # type: ignore[return-value]


def solved(x: FloatArray, y: FloatArray, sky: tuple[FloatArray, FloatArray], guess: Start) -> PlateFit:
    return solve(x, y, -np.arange(len(x), dtype=float), *sky, np.arange(len(sky[0]), dtype=float), (SIZE, SIZE), start=guess)


def starts(truth: PlateSolution) -> dict[str, Start]:
    def wcs(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        return truth.unproject(x, y)

    return {"header": wcs, "neighbour": truth, "pointing": Pointing(*CENTRE, SCALE)}


@pytest.mark.parametrize("kind", ["header", "neighbour", "pointing"])
def test_eight_stars_are_enough_where_the_header_says_they_are(kind: str) -> None:
    """8 stars, the brightest but one or two, among 950 hot pixels."""
    refused_before = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        angle = float(rng.uniform(0.0, 6.28))
        truth = camera(angle, (1.1, -0.6))
        sky = truth.unproject(*rng.uniform(10.0, SIZE - 10.0, (2, 8)))
        fit = solved(*frame(rng, truth, sky, 950), sky, starts(camera(angle))[kind])
        assert np.max(np.abs(np.subtract(fit.solution.project(*sky), truth.project(*sky)))) < 1.0
        refused_before += judge(np.hypot(fit.loo_x, fit.loo_y), radius=fit.radius, n_det=958, n_cat=8, n_term=3, area=SIZE**2).reason != ""
    assert refused_before >= 6  # without the header and without ranks


def accepted(kind: str, seeds: range) -> int:
    """Of frames of few stars and many hot pixels, how many are solved against another field than is on them."""
    n = 0
    for seed in seeds:
        rng = np.random.default_rng((9, seed))
        truth = camera(rng.uniform(0, 6.28))
        x, y = frame(rng, truth, stars(rng, int(rng.integers(6, 30))), int(rng.choice([10, 60, 300, 900])))
        try:
            solved(x, y, stars(rng, int(rng.integers(8, 40))), starts(camera(rng.uniform(0, 6.28)))[kind])
        except AlgorithmFailed:
            continue
        n += 1
    return n


@pytest.mark.parametrize("kind", ["header", "neighbour"])
def test_wrong_headers_and_neighbours_are_refused_in_900_trials(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "_from_pointing", lambda *_: None)  # what is tried when they fail: see the next test
    assert accepted(kind, range(900)) == 0


@pytest.mark.long
@pytest.mark.parametrize("block", range(10))
def test_wrong_pointings_are_refused_in_200_trials(block: int) -> None:
    assert accepted("pointing", range(1000 + 20 * block, 1020 + 20 * block)) == 0


def test_the_limit_follows_the_number_of_hypotheses() -> None:
    assert max_log_chance(6.0) == max_log_chance(9.0) == MAX_LOG_CHANCE
    assert max_log_chance(4.0) == MAX_LOG_CHANCE + 2.0
    assert max_log_chance(0.0) == max_log_chance(2.0) == -6.0


@pytest.mark.parametrize("unit", ["degrees", "DEG", "Degree", "degs", "deg", None])
@pytest.mark.parametrize("axes", [("RA---TAN", "DEC--TAN"), ("GLON-TAN", "GLAT-TAN")])
def test_a_wcs_is_read_whatever_it_calls_its_unit(unit: str | None, axes: tuple[str, str]) -> None:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = axes, CENTRE, (256.5, 256.5), (-SCALE / 3600, SCALE / 3600)
    header = wcs.to_header()
    expected = wcs.pixel_to_world(255.5, 255.5).icrs
    header["NAXIS1"] = header["NAXIS2"] = SIZE
    for key in ("CUNIT1", "CUNIT2"):
        header.remove(key, ignore_missing=True)
        if unit is not None:
            header[key] = unit
    search = from_header(
        fits.Header(header), Channel("", 0, 0, 1, SIZE, SIZE), (None, None), None, scale_tolerance=0.03, pointing_tolerance=0.4
    )
    assert search is not None and search.centre is not None
    assert search.centre == pytest.approx((expected.ra.deg, expected.dec.deg), abs=1e-6)


@pytest.mark.realdata
def test_frames_of_a_space_telescope_are_solved_from_their_headers(
    night_files: Callable[[str], list[Path]], shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight Tycho stars, a thousand hot pixels, and a WCS in "degrees" that is right to 1.3 pixel."""
    monkeypatch.setattr(solve_file, "blindly", None)  # nobody asks for it
    for found in starledger.solve(night_files("neossat")[:3], catalogues=shared_data / "catalogues" / "neossat_lmc.ecsv"):
        assert found.solution is not None, found.error
        fit = found.solution.fit
        assert fit.method == "header" and fit.n_matched >= 7 and np.hypot(fit.rms_x, fit.rms_y) < 0.5
