"""FITS headers of plate solutions against astropy, which reads them with wcslib."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import galsim
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning
from hypothesis import given, settings
from hypothesis import strategies as st

from db.errors import AlgorithmFailed
from reduction.astrometry.kernels.fits_wcs import MAX_SIP_ORDER, fits_wcs
from reduction.astrometry.kernels.start import solution_from_wcs
from reduction.astrometry.kernels.wcs import PlateSolution, exponents, gnomonic, gnomonic_inverse

LIMIT = 0.005  # pixel


def camera(
    *,
    ra0: float = 31.0,
    dec0: float = 46.7,
    order: int = 5,
    width: float = 20.0,
    size: tuple[int, int] = (4096, 4000),
    distortion: float = 0.03,
    rotation: float = 25.0,
    mirrored: bool = False,
    seed: int = 0,
) -> PlateSolution:
    """A frame `width` degree along its longer side, its borders displaced by up to about `distortion` of the half width."""
    rng = np.random.default_rng(seed)
    nx, ny = size
    half = np.degrees(np.tan(np.radians(width / 2.0)))
    scale = max(size) / 2.0 / half
    cos, sin = np.cos(np.radians(rotation)), np.sin(np.radians(rotation))
    sign = 1.0 if mirrored else -1.0
    coefficients = np.zeros((2, len(exponents(order))))
    coefficients[:, :3] = [[(nx - 1) / 2.0, sign * scale * cos, scale * sin], [(ny - 1) / 2.0, -sign * scale * sin, scale * cos]]
    for degree in range(2, order + 1):
        terms = [n for n, (i, j) in enumerate(exponents(order)) if i + j == degree]
        share = rng.normal(0.0, 0.25, (2, len(terms))) * distortion * max(size) / 2.0
        coefficients[:, terms] = share / half**degree / (degree - 1)
    if order >= 3:  # what lenses do: a cubic radial term
        for axis in range(2):
            for n, (i, j) in enumerate(exponents(order)):
                linear = coefficients[axis, 1:3]
                radial = {(3, 0): linear[0], (1, 2): linear[0], (2, 1): linear[1], (0, 3): linear[1]}
                coefficients[axis, n] += distortion * radial.get((i, j), 0.0) / (2.0 * half**2)
    return PlateSolution(ra0, dec0, order, tuple(map(float, coefficients[0])), tuple(map(float, coefficients[1])), nx, ny)


def read(cards: dict[str, str | int | float]) -> WCS:
    return WCS(fits.Header(json.loads(json.dumps(cards))))


def frame_points(solution: PlateSolution, n: int = 37) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.meshgrid(np.linspace(-0.5, solution.nx - 0.5, n), np.linspace(-0.5, solution.ny - 0.5, n))
    return x.ravel(), y.ravel()


def deviations(solution: PlateSolution, cards: dict[str, str | int | float]) -> tuple[float, float]:
    """Largest distance in pixel between astropy and the solution: pixel to sky by A, B, and sky to pixel by AP, BP."""
    wcs = read(cards)
    x, y = frame_points(solution)
    there = np.array(solution.project(*wcs.all_pix2world(x, y, 0)))
    focal = wcs.wcs_world2pix(*solution.unproject(x, y), 0)
    if wcs.sip is not None:  # which counts its focal plane from CRPIX
        focal = wcs.sip_foc2pix(*(np.array(focal) - (wcs.wcs.crpix - 1.0)[:, None]), 1)
        focal = np.array(focal) - 1.0
    back = np.array(focal)
    return float(np.hypot(*(there - [x, y])).max()), float(np.hypot(*(back - [x, y])).max())


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("ra0", "dec0"), [(31.0, 46.7), (0.0, 0.0), (359.99, -45.0), (120.0, 90.0), (77.0, 88.0), (200.0, -90.0)])
def test_astropy_reads_a_distorted_field_of_20_degree(ra0: float, dec0: float, mirrored: bool) -> None:
    solution = camera(ra0=ra0, dec0=dec0, mirrored=mirrored)
    x, y = solution.project(*gnomonic_inverse(9.9, 9.0, ra0, dec0))
    linear = PlateSolution(ra0, dec0, 1, solution.coeff_x[:3], solution.coeff_y[:3], 4096, 4000)
    assert np.hypot(*(np.array([x, y]) - linear.project(*gnomonic_inverse(9.9, 9.0, ra0, dec0)))) > 20.0  # distorted indeed
    cards, deviation = fits_wcs(solution)
    measured = deviations(solution, cards)
    assert max(measured) < LIMIT
    assert deviation == pytest.approx(max(measured), abs=5e-4)
    assert cards["CTYPE1"] == "RA---TAN-SIP"


@settings(max_examples=25, deadline=None)
@given(
    ra0=st.floats(0.0, 360.0),
    dec0=st.one_of(st.floats(-90.0, 90.0), st.sampled_from([-90.0, 90.0, 89.99])),
    order=st.integers(1, 5),
    width=st.floats(0.1, 20.0),
    nx=st.integers(300, 9000),
    ny=st.integers(300, 9000),
    distortion=st.floats(0.0, 0.03),
    rotation=st.floats(0.0, 360.0),
    mirrored=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_astropy_agrees_whatever_the_solution(nx: int, ny: int, **of: float) -> None:
    solution = camera(size=(nx, ny), **of)  # type: ignore[arg-type]
    cards, deviation = fits_wcs(solution)
    assert deviation < LIMIT
    assert max(deviations(solution, cards)) < LIMIT


def test_a_linear_solution_is_plain_tan() -> None:
    cards, deviation = fits_wcs(camera(order=1))
    assert cards["CTYPE1"] == "RA---TAN" and not any(key.startswith(("A_", "AP_")) for key in cards)
    assert deviation < 1e-6
    assert max(deviations(camera(order=1), cards)) < 1e-6


def test_the_middle_is_the_tangent_point_where_the_solutions_own_is_off_the_frame() -> None:
    whole = camera()
    part = PlateSolution(whole.ra0, whole.dec0, whole.order, (whole.coeff_x[0] - 3000.0, *whole.coeff_x[1:]), whole.coeff_y, 1000, whole.ny)
    cards, deviation = fits_wcs(part)
    assert (cards["CRPIX1"], cards["CRPIX2"]) == (500.5, 2000.5)
    assert deviation < LIMIT and max(deviations(part, cards)) < LIMIT


def test_solution_from_the_header_is_the_solution() -> None:
    solution = camera(order=3, width=9.0, size=(1024, 1024), distortion=0.01)
    wcs = read(fits_wcs(solution)[0])
    again = solution_from_wcs(lambda x, y: wcs.all_pix2world(x, y, 0), (1024, 1024), order=5)
    x, y = frame_points(solution)
    assert np.hypot(*(np.array(again.project(*solution.unproject(x, y))) - [x, y])).max() < LIMIT


def test_the_deviation_tells_where_sip_is_not_enough() -> None:
    # a third of the half width: no polynomial of order 9 inverts that to a thousandth of a pixel
    solution = camera(distortion=0.35, order=3)
    cards, deviation = fits_wcs(solution)
    assert deviation > LIMIT
    assert cards["AP_ORDER"] <= MAX_SIP_ORDER
    assert max(deviations(solution, cards)) == pytest.approx(deviation, rel=0.3)


def test_a_solution_that_folds_over_is_refused() -> None:
    solution = PlateSolution(10.0, 20.0, 3, (499.5, 100.0, *[0.0] * 4, -20.0, 0, 0, 0), (499.5, 0.0, 100.0, *[0.0] * 7), 1000, 1000)
    with pytest.raises(AlgorithmFailed, match=r"no sky position at x .* of a 1000 x 1000 frame"):
        fits_wcs(solution)


def test_header_survives_a_fits_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    solution = camera(rotation=200.0)
    header = fits.Header(fits_wcs(solution)[0])
    fits.PrimaryHDU(np.zeros((2, 2), np.int16), header).writeto(tmp_path / "frame.fits")
    kept = fits.getheader(tmp_path / "frame.fits")
    assert max(deviations(solution, {key: kept[key] for key in fits_wcs(solution)[0]})) < LIMIT


def test_the_standard_coordinates_are_those_of_the_tangent_point() -> None:
    solution = camera()
    cards, _ = fits_wcs(solution)
    assert gnomonic(*solution.unproject(cards["CRPIX1"] - 1.0, cards["CRPIX2"] - 1.0), cards["CRVAL1"], cards["CRVAL2"]) == pytest.approx(  # type: ignore[operator,arg-type]
        (0.0, 0.0), abs=1e-12
    )


@pytest.mark.parametrize("dec0", [46.7, 90.0])
def test_galsim_reads_the_same(dec0: float) -> None:
    """An independent reader of SIP, which shares no code with wcslib."""
    solution = camera(dec0=dec0, mirrored=True)
    reader = galsim.GSFitsWCS(header=fits.Header(fits_wcs(solution)[0]))
    x, y = (part[::37] for part in frame_points(solution))
    sky = [reader.toWorld(galsim.PositionD(a + 1.0, b + 1.0)) for a, b in zip(x, y, strict=True)]
    there = solution.project([s.ra / galsim.degrees for s in sky], [s.dec / galsim.degrees for s in sky])
    assert np.hypot(*(np.array(there) - [x, y])).max() < LIMIT


@pytest.mark.realdata
def test_real_headers_come_back(night_files: Callable[[str], list[Path]]) -> None:
    header = fits.getheader(night_files("skycamt")[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)  # this camera writes WCSAXES as a float
        original = WCS(header)
    solution = solution_from_wcs(lambda x, y: original.all_pix2world(x, y, 0), (1024, 1024), order=5)
    again = read(fits_wcs(solution)[0])
    x, y = frame_points(solution)
    assert np.hypot(*(np.array(original.all_world2pix(*again.all_pix2world(x, y, 0), 0)) - [x, y])).max() < 2 * LIMIT
