"""Footprints and coverage of frames: against positions, areas and the plain list of cells."""

from __future__ import annotations

import hpgeom
import numpy as np
import pytest
from polygons import outline, polygon_area

from reduction.astrometry.kernels.coverage import BUCKET_SHIFT, coverage_ranges
from reduction.astrometry.kernels.wcs import PlateSolution, gnomonic_inverse, unit_vectors
from reduction.catalogues.kernels.identifiers import healpix29

PLACES = [(31.0, 46.7), (0.0, 0.0), (359.98, -41.8), (120.0, 90.0), (77.0, -89.5), (45.0, 0.0)]


def frame(ra0: float, dec0: float, width: float = 2.0, size: tuple[int, int] = (1200, 800), bend: float = 0.04) -> PlateSolution:
    """Turned by 30 degree, its borders bent by `bend` of the half width at the corners."""
    nx, ny = size
    half = np.degrees(np.tan(np.radians(width / 2.0)))
    scale = nx / 2.0 / half
    c, s = scale * np.cos(np.pi / 6), scale * np.sin(np.pi / 6)
    k = bend / half**2 / 2.0
    x = ((nx - 1) / 2.0, -c, s, 0, 0, 0, -c * k, s * k, -c * k, s * k)
    y = ((ny - 1) / 2.0, s, c, 0, 0, 0, s * k, c * k, s * k, c * k)
    return PlateSolution(ra0, dec0, 3, tuple(map(float, x)), tuple(map(float, y)), nx, ny)


def numerical_area(solution: PlateSolution, n: int = 200) -> float:
    """Square degrees, from the sky positions of the corners of a fine grid of the frame."""
    x, y = np.meshgrid(np.linspace(-0.5, solution.nx - 0.5, n + 1), np.linspace(-0.5, solution.ny - 0.5, n + 1))
    v = unit_vectors(*solution.unproject(x, y))
    first, second = v[1:, 1:] - v[:-1, :-1], v[1:, :-1] - v[:-1, 1:]
    return float(np.degrees(np.degrees(0.5 * np.linalg.norm(np.cross(first, second), axis=-1).sum())))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("width", [0.05, 2.0, 20.0])
def test_area_of_the_outline_and_of_the_ranges(place: tuple[float, float], width: float) -> None:
    solution = frame(*place, width)
    expected = numerical_area(solution)
    assert polygon_area(outline(solution, 32)) == pytest.approx(expected, rel=2e-4)
    ranges = coverage_ranges(solution)
    cell = 4.0 * np.pi * np.degrees(1.0) ** 2 / (12.0 * 4.0**29)
    assert float(np.sum(ranges.hi - ranges.lo)) * cell == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("width", [0.05, 2.0, 20.0])
def test_positions_are_covered_up_to_a_cell_of_the_border(place: tuple[float, float], width: float) -> None:
    solution = frame(*place, width)
    ranges = coverage_ranges(solution)
    rng = np.random.default_rng(3)
    x, y = rng.uniform(-300, 1500, 20_000), rng.uniform(-300, 1100, 20_000)
    covered = ranges.covers(healpix29(*solution.unproject(x, y)))
    # a cell is at most sqrt(2) / 128 of the diagonal, and its corners as much farther from its centre
    cell = 2.0 * np.hypot(1200, 800) / 128.0
    assert covered[solution.inside(x, y, margin=cell)].all()
    assert not covered[~solution.inside(x, y, margin=-cell)].any()


@pytest.mark.parametrize("place", PLACES)
def test_ranges_are_disjoint_ascending_and_keep_to_their_bucket(place: tuple[float, float]) -> None:
    ranges = coverage_ranges(frame(*place, 6.0))
    assert (ranges.lo < ranges.hi).all()
    assert (ranges.lo[1:] >= ranges.hi[:-1]).all()
    np.testing.assert_array_equal(ranges.bucket, ranges.lo >> BUCKET_SHIFT)
    np.testing.assert_array_equal(ranges.bucket, (ranges.hi - 1) >> BUCKET_SHIFT)
    assert len(np.unique(ranges.bucket)) > 20  # 6 x 4 degree on cells of 0.9 degree
    assert len(ranges.lo) < 1500
    # two that touch and share a bucket would be one
    touch = ranges.lo[1:] == ranges.hi[:-1]
    assert not (touch & (ranges.bucket[1:] == ranges.bucket[:-1])).any()


def test_a_row_is_found_by_its_bucket() -> None:
    solution = frame(0.0, 89.0, 8.0)
    ranges = coverage_ranges(solution)
    healpix = healpix29(*solution.centre)[0]
    found = (ranges.bucket == healpix >> 46) & (ranges.lo <= healpix) & (healpix < ranges.hi)
    assert np.count_nonzero(found) == 1


def test_the_ranges_are_the_cells_whose_centre_is_on_the_frame() -> None:
    solution = frame(10.0, 20.0, 3.0)
    ranges = coverage_ranges(solution)
    size = np.gcd.reduce(np.concatenate([ranges.lo, ranges.hi]))
    order = 29 - (int(size).bit_length() - 1) // 2
    cells = np.concatenate([np.arange(lo, hi, 4 ** (29 - order)) for lo, hi in zip(ranges.lo, ranges.hi, strict=True)]) >> 2 * (29 - order)
    everywhere = np.arange(12 * 4**8)
    ra, dec = hpgeom.pixel_to_angle(2**8, everywhere, nest=True)
    near = everywhere[unit_vectors(ra, dec) @ unit_vectors(10.0, 20.0) > np.cos(np.radians(4.0))]
    fine = (near[:, None] * 4 ** (order - 8) + np.arange(4 ** (order - 8))).ravel()
    inside = solution.inside(*solution.project(*hpgeom.pixel_to_angle(2**order, fine, nest=True)))
    np.testing.assert_array_equal(np.sort(fine[inside]), cells)
    # the cells are about 1/128 of the diagonal
    assert 1 / 1.5 < 58.6 / 2**order / (2.0 * solution.radius / 128.0) < 1.5


def test_outline_follows_the_borders() -> None:
    solution = frame(359.9, 20.0, 20.0)
    points = outline(solution, 4)
    assert points.shape == (16, 2)
    np.testing.assert_allclose(points[::4], solution.corners, atol=1e-12)
    x, y = solution.project(*points.T)
    np.testing.assert_allclose(y[:4], -0.5, atol=1e-8)
    np.testing.assert_allclose(x[4:8], 1199.5, atol=1e-8)
    # a chord of great circles between the corners alone misses part of the frame
    assert abs(polygon_area(outline(solution, 1)) / numerical_area(solution) - 1.0) > 0.01


def test_area_of_an_octant_and_of_a_mirrored_square() -> None:
    octant = np.array([[0.0, 0.0], [90.0, 0.0], [0.0, 90.0]])
    assert polygon_area(octant) == pytest.approx(4.0 * np.pi / 8.0 * np.degrees(1.0) ** 2, rel=1e-12)
    square = np.column_stack(gnomonic_inverse([-0.1, 0.1, 0.1, -0.1], [-0.1, -0.1, 0.1, 0.1], 0.0, -90.0))
    assert polygon_area(square) == pytest.approx(0.04, rel=1e-5)
    assert polygon_area(square[::-1]) == pytest.approx(0.04, rel=1e-5)


def test_a_solution_without_a_centre_covers_nothing() -> None:
    solution = PlateSolution(10.0, 20.0, 2, (1e9, 1.0, 0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0, 0.0, 0.0), 100, 100)
    ranges = coverage_ranges(solution)
    assert len(ranges.lo) == len(ranges.hi) == len(ranges.bucket) == 0
    assert not ranges.covers([0, 5]).any()
