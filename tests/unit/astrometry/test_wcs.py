"""Plate solutions against analytic truth and astropy."""

from __future__ import annotations

import json

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.time import Time
from astropy.wcs import WCS
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from reduction.astrometry.kernels.wcs import PlateSolution, apply_proper_motion, exponents, gnomonic, gnomonic_inverse

SIZE = (650, 500)


def distorted(ra0: float = 31.0, dec0: float = 46.7, order: int = 3, seed: int = 1) -> PlateSolution:
    """About 5.3 arcsec/pixel, turned by 2.5 degree, with some pixel of distortion in the corners."""
    rng = np.random.default_rng(seed)
    terms = exponents(order)
    coefficients = np.zeros((2, len(terms)))
    coefficients[:, :3] = [[320.0, -680.0, 30.0], [240.0, 30.0, 680.0]]
    for column, (i, j) in enumerate(terms):
        if i + j > 1:
            coefficients[:, column] = rng.normal(0.0, 3.0, 2)
    return PlateSolution(ra0, dec0, order, tuple(map(float, coefficients[0])), tuple(map(float, coefficients[1])), *SIZE)


def tan_header(rotation: float, mirrored: bool) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [120.0, -35.0]
    wcs.wcs.crpix = [325.5, 250.5]
    angle = np.radians(rotation)
    # the position angle of +y: north turned towards east
    cd = np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * 5.16 / 3600.0
    wcs.wcs.cd = cd @ np.diag([-1.0 if mirrored else 1.0, 1.0])
    return wcs


def from_tan(wcs: WCS) -> PlateSolution:
    slope = np.linalg.inv(wcs.wcs.cd)
    x0, y0 = (float(value) - 1.0 for value in wcs.wcs.crpix)
    return PlateSolution(*map(float, wcs.wcs.crval), 1, (x0, *map(float, slope[0])), (y0, *map(float, slope[1])), *SIZE)


@pytest.mark.parametrize(("ra", "dec"), [(0.001, 0.0), (359.9, 89.9), (180.0, -90.0), (31.0, 46.7)])
def test_gnomonic_and_back(ra: float, dec: float) -> None:
    xi = np.array([0.0, 3.0, -4.0, 0.01])
    eta = np.array([0.0, -2.0, 5.0, 0.02])
    there = gnomonic(*gnomonic_inverse(xi, eta, ra, dec), ra, dec)
    np.testing.assert_allclose(there, [xi, eta], atol=1e-12)


def test_gnomonic_of_one_degree_north_is_the_tangent() -> None:
    xi, eta = gnomonic(10.0, 21.0, 10.0, 20.0)
    assert xi == pytest.approx(0.0, abs=1e-14)
    assert eta == pytest.approx(np.degrees(np.tan(np.radians(1.0))), abs=1e-13)


@pytest.mark.parametrize("rotation", [0.0, 37.0, 179.7, 300.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_project_agrees_with_astropy(rotation: float, mirrored: bool) -> None:
    wcs = tan_header(rotation, mirrored)
    solution = from_tan(wcs)
    rng = np.random.default_rng(5)
    x, y = rng.uniform(0, 649, 200), rng.uniform(0, 499, 200)
    ra, dec = wcs.wcs_pix2world(x, y, 0)
    np.testing.assert_allclose(solution.project(ra, dec), [x, y], atol=1e-8)
    assert solution.scale == pytest.approx(5.16, abs=1e-5)
    assert solution.rotation == pytest.approx(rotation, abs=1e-4) or solution.rotation == pytest.approx(rotation + 360.0, abs=1e-4)
    assert solution.parity == (1 if mirrored else -1)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("dec0", [0.0, 46.7, 89.95])
def test_unproject_inverts_project(order: int, dec0: float) -> None:
    solution = distorted(0.02, dec0, order)
    x, y = np.meshgrid(np.linspace(-0.5, 649.5, 31), np.linspace(-0.5, 499.5, 23))
    back = solution.project(*solution.unproject(x, y))
    np.testing.assert_allclose(back, [x, y], atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    ra0=st.floats(0.0, 360.0),
    dec0=st.one_of(st.floats(-90.0, 90.0), st.sampled_from([-90.0, 90.0, 89.999])),
    order=st.integers(1, 5),
    width=st.floats(0.05, 20.0),
    nx=st.integers(50, 20_000),
    ny=st.integers(50, 20_000),
    rotation=st.floats(0.0, 360.0),
    mirrored=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_round_trip_whatever_the_solution(
    ra0: float, dec0: float, order: int, width: float, nx: int, ny: int, rotation: float, mirrored: bool, seed: int
) -> None:
    # On a strip so narrow that the distortion of its ends leaves it by half its width, `project` says NaN, as its docstring has it.
    assume(max(nx, ny) <= 25 * min(nx, ny))
    rng = np.random.default_rng(seed)
    half = width / 2.0
    scale = max(nx, ny) / 2.0 / half
    cos, sin = scale * np.cos(np.radians(rotation)), scale * np.sin(np.radians(rotation))
    sign = 1.0 if mirrored else -1.0
    coefficients = np.zeros((2, len(exponents(order))))
    coefficients[:, :3] = [[nx / 2.0, sign * cos, sin], [ny / 2.0, -sign * sin, cos]]
    for column, (i, j) in enumerate(exponents(order)):
        if i + j > 1:  # a few percent at the border, all terms together
            coefficients[:, column] = rng.uniform(-0.02, 0.02, 2) * scale / half ** (i + j - 1) / (i + j) / order
    solution = PlateSolution(ra0, dec0, order, tuple(map(float, coefficients[0])), tuple(map(float, coefficients[1])), nx, ny)
    x, y = np.meshgrid(np.linspace(-0.5, nx - 0.5, 23), np.linspace(-0.5, ny - 0.5, 21))
    ra, dec = solution.unproject(x, y)
    assert ((ra >= 0.0) & (ra < 360.0) & (np.abs(dec) <= 90.0)).all()
    np.testing.assert_allclose(solution.project(ra, dec), [x, y], rtol=0.0, atol=1e-7)
    assert solution.parity == sign
    assert solution.scale == pytest.approx(3600.0 / scale, rel=0.1)


def test_what_is_not_visible_is_nan() -> None:
    solution = distorted(order=3)
    assert np.isnan(solution.unproject([np.nan, 5.0], [5.0, np.nan])).all()
    # x = 320 - 100 xi^2 never gets to 400
    folded = PlateSolution(31.0, 46.7, 2, (320.0, 0.01, 0.0, -100.0, 0.0, 0.0), (240.0, 0.0, 100.0, 0.0, 0.0, 0.0), *SIZE)
    assert np.isnan(folded.unproject(400.0, 240.0)).all()


def test_scalars_and_corners() -> None:
    solution = distorted()
    ra, dec = solution.centre
    x, y = solution.project(ra, dec)
    assert (float(x), float(y)) == pytest.approx((324.5, 249.5), abs=1e-9)
    corner_x, corner_y = solution.project(*np.array(solution.corners).T)
    np.testing.assert_allclose(corner_x, [-0.5, 649.5, 649.5, -0.5], atol=1e-9)
    np.testing.assert_allclose(corner_y, [-0.5, -0.5, 499.5, 499.5], atol=1e-9)
    middle = SkyCoord(ra, dec, unit="deg")
    farthest = max(middle.separation(SkyCoord(*corner, unit="deg")).deg for corner in solution.corners)
    assert solution.radius == pytest.approx(farthest, abs=1e-10)


def test_nothing_projects_from_behind_or_from_afar() -> None:
    solution = distorted(order=5)
    behind = solution.project([211.0, 31.0, np.nan], [-46.7, -60.0, 10.0])
    assert np.isnan(behind).all()
    # 20 degree away the fifth-order terms are worth thousands of pixel
    assert np.isnan(solution.project([31.0, 60.0], [66.7, 46.7])).all()


def test_row_survives_json() -> None:
    solution = distorted()
    assert PlateSolution.from_row(json.loads(json.dumps(solution.as_row()))) == solution


@pytest.mark.parametrize("dec", [-89.9, -45.0, 0.0, 30.0, 89.99])
def test_proper_motion_agrees_with_astropy(dec: float) -> None:
    pmra, pmdec = np.array([800.0, -10393.0, 0.0]), np.array([-300.0, 10328.0, 3.0])
    ra = np.array([0.0001, 269.45, 359.9999])
    star = SkyCoord(
        ra * u.deg,
        np.full(3, dec) * u.deg,
        pm_ra_cosdec=pmra * u.mas / u.yr,
        pm_dec=pmdec * u.mas / u.yr,
        # as near as keeps the implied speeds small, for their relativistic terms are not ours
        distance=np.full(3, 2.0) * u.pc,
        radial_velocity=np.zeros(3) * u.km / u.s,
        obstime=Time(2000.0, format="jyear", scale="tdb"),
    )
    moved = star.apply_space_motion(new_obstime=Time(2017.97, format="jyear", scale="tdb"))
    mine = SkyCoord(*apply_proper_motion(ra, dec, pmra, pmdec, 2000.0, 2017.97), unit="deg")
    away = SkyCoord(moved.ra, moved.dec).separation(mine).to_value(u.mas)
    assert away.max() < 0.5  # of a motion of up to 260 arcsec


def test_proper_motion_is_exact_at_right_angles() -> None:
    # due east from the equator, by atan(mu t)
    ra, dec = apply_proper_motion(10.0, 0.0, 3.6e6, 0.0, 2000.0, 2001.0)
    assert float(ra) == pytest.approx(10.0 + np.degrees(np.arctan(np.radians(1.0))), abs=1e-12)
    assert float(dec) == pytest.approx(0.0, abs=1e-14)
    ra, dec = apply_proper_motion([1.0, 2.0], [3.0, 4.0], [np.nan, 1.0], [np.nan, np.nan], 1991.25, 2016.0)
    assert (float(ra[0]), float(dec[0])) == pytest.approx((1.0, 3.0), abs=1e-13)
