"""Pieces of sky as ranges of HEALPix pixels, and how many stars they hold."""

from __future__ import annotations

from pathlib import Path

import hpgeom
import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st

from reduction.catalogues.kernels.sky_ranges import ORDER, cell_circle, cell_range, circle_ranges, subtract, to_cells, union
from reduction.catalogues.kernels.star_counts import galactic_latitude, magnitude_of_density, star_density

ranges = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8).map(lambda x: np.array(x, dtype=np.int64).reshape(-1, 2))


def members(found: np.ndarray) -> set[int]:
    return {k for lo, hi in found.tolist() for k in range(lo, hi)}


@given(ranges, ranges)
def test_ranges_are_sets(a: np.ndarray, b: np.ndarray) -> None:
    for found, wanted in ((union(a), members(a)), (subtract(a, b), members(a) - members(b))):
        assert members(found) == wanted
        flat = found.ravel()
        assert (np.diff(flat) > 0).all()  # ascending, disjoint, not touching, none empty


@given(ranges, st.integers(26, 29))
def test_cells_are_exactly_the_ranges_and_none_too_large(found: np.ndarray, order: int) -> None:
    cells = to_cells(found, order)
    assert all(of >= order for of, _ in cells)
    pieces = [set(range(*cell_range(of, pixel))) for of, pixel in cells]
    assert set().union(*pieces) == members(found) and sum(map(len, pieces)) == len(members(found))


def test_cells_of_a_whole_pixel_are_that_pixel() -> None:
    assert to_cells(np.array([cell_range(5, 77)]), 5) == [(5, 77)]
    assert to_cells(np.array([cell_range(5, 77)]), 6) == [(6, 4 * 77 + k) for k in range(4)]
    assert to_cells(np.array([[0, 12 << 58]]), 0) == [(0, k) for k in range(12)]


@pytest.mark.parametrize(("ra", "dec"), [(31.0, 46.7), (0.01, 0.0), (359.99, -41.8), (10.0, 89.9), (200.0, -90.0)])
@pytest.mark.parametrize("radius", [0.01, 1.0, 20.0])
def test_a_circle_lies_in_its_ranges(ra: float, dec: float, radius: float) -> None:
    order = int(np.clip(np.log2(58.6 / radius), 0, 12))
    found = circle_ranges(ra, dec, radius, order)
    edge = SkyCoord(ra, dec, unit="deg").directional_offset_by(np.linspace(0, 360, 97) * u.deg, 0.999 * radius * u.deg)
    pixel = np.asarray(hpgeom.angle_to_pixel(2**ORDER, edge.ra.deg % 360, edge.dec.deg, nest=True, lonlat=True), dtype=np.int64)
    assert ((pixel[:, None] >= found[:, 0]) & (pixel[:, None] < found[:, 1])).any(axis=1).all()
    area = (found[:, 1] - found[:, 0]).sum() / (12 * 4.0**ORDER) * 41252.96
    assert area < 30 * np.pi * radius**2 + 12 * (58.6 / 2**order) ** 2


@pytest.mark.parametrize(("order", "pixel"), [(0, 0), (0, 4), (0, 11), (3, 400), (8, 12345), (12, 99)])
def test_a_cell_lies_in_its_circle(order: int, pixel: int) -> None:
    ra, dec, radius = cell_circle(order, pixel)
    finer = min(order + 6, ORDER)
    inside = (pixel << 2 * (finer - order)) + np.arange(4 ** (finer - order))
    at = SkyCoord(*hpgeom.pixel_to_angle(2**finer, inside, nest=True, lonlat=True), unit="deg")
    farthest = SkyCoord(ra, dec, unit="deg").separation(at).deg.max()
    assert farthest <= radius < 1.1 * farthest + 2e-6


def test_galactic_latitude_is_astropys() -> None:
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, 50), rng.uniform(-90, 90, 50)
    assert np.allclose(galactic_latitude(ra, dec), SkyCoord(ra, dec, unit="deg").galactic.b.deg, rtol=0, atol=1e-3)


@given(st.floats(5, 19.5), st.floats(-90, 90))
def test_depth_and_density_are_inverse(magnitude: float, latitude: float) -> None:
    assert magnitude_of_density(star_density(magnitude, latitude), latitude) == pytest.approx(magnitude, abs=1e-9)


def test_the_mean_star_counts_are_gaias_within_a_factor_of_two() -> None:
    # Stars of Gaia DR3 brighter than G = 10, 12, 14, 16, 18, 20 over the whole sky.
    counts = {10: 3.6e5, 12: 3.1e6, 14: 1.63e7, 16: 7.6e7, 18: 3.06e8, 20: 1.06e9}
    sine = np.linspace(0.005, 0.995, 100)
    for magnitude, n in counts.items():
        mean = np.mean([star_density(magnitude, float(np.degrees(np.arcsin(s)))) for s in sine])
        assert 0.5 < mean / (n / 41253.0) < 2.0


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "area", "ra", "dec"), [("patch_12x12deg_hatp32", 144.0, 31.05, 46.7), ("patch_13x13deg_agpeg_skycamt", 169.0, 328.5, 11.4)]
)
def test_real_fields_are_as_rich_as_the_mean(name: str, area: float, ra: float, dec: float, shared_data: Path) -> None:
    table = Table.read(shared_data / "catalogues" / f"{name}.ecsv")
    v = np.ma.filled(np.ma.asarray(table["vt"]).astype(float), np.nan)
    for magnitude in (9.0, 10.0, 11.0):
        density = np.count_nonzero(v <= magnitude) / area
        assert 0.5 < star_density(magnitude, float(galactic_latitude(ra, dec))) / density < 2.0


@pytest.mark.parametrize(("ra", "dec", "radius"), [(31.0, 46.7, 3.0), (-10.0, 12.0, 5.0), (200.0, -89.0, 2.0)])
def test_ranges_of_a_circle_hold_no_pixel_that_is_far_from_it(ra: float, dec: float, radius: float) -> None:
    order = 6
    found = circle_ranges(ra, dec, radius, order)
    pixels = {int(lo) >> 2 * (ORDER - order) for lo, hi in found for lo in range(lo, hi, 1 << 2 * (ORDER - order))}
    centre = SkyCoord(ra, dec, unit="deg")
    for pixel in pixels:
        at_ra, at_dec, size = cell_circle(order, pixel)
        assert centre.separation(SkyCoord(at_ra, at_dec, unit="deg")).deg < radius + 1.2 * size
    assert np.array_equal(found, circle_ranges(ra + 360.0, dec, radius, order))


def test_density_goes_on_beyond_the_table_as_at_its_ends() -> None:
    # log10 of the density at 20, 18 and 4, 6 mag, where the table has its last values.
    for ends, beyond in (((18.0, 20.0), 21.0), ((6.0, 4.0), 3.0)):
        inner, outer = (np.log10(star_density(m, 30.0)) for m in ends)
        assert np.log10(star_density(beyond, 30.0)) == pytest.approx(outer + (outer - inner) / 2, abs=1e-9)


@given(st.floats(4, 19.5), st.floats(0, 90))
def test_more_stars_the_fainter_and_the_nearer_the_plane(magnitude: float, latitude: float) -> None:
    assert star_density(magnitude + 0.5, latitude) > star_density(magnitude, latitude)
    assert star_density(magnitude, latitude) == star_density(magnitude, -latitude) <= star_density(magnitude, 0.9 * latitude) * (1 + 1e-9)
