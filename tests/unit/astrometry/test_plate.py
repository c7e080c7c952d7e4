"""Plate solving against simulated skies, and on real frames."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from db.errors import AlgorithmFailed, FrameUnusable
from db.flags import Mask
from reduction.astrometry.blind import DEFAULT_INDEX_DIR, solve_blind
from reduction.astrometry.kernels.detection import extract
from reduction.astrometry.kernels.plate import PlateFit, refine, solve
from reduction.astrometry.kernels.plate_fit import fit_plate, highest_order, match_positions
from reduction.astrometry.kernels.start import Pointing, solution_from_wcs
from reduction.astrometry.kernels.triangles import match_triangles
from reduction.astrometry.kernels.wcs import PlateSolution, apply_proper_motion, gnomonic, gnomonic_inverse
from reduction.kernels.robust import robust_scatter

FloatArray = npt.NDArray[np.float64]
SCALE = 5.16
CENTRE = (31.05, 46.7)


@dataclass
class Sky:
    """A catalogue, the truth, and what was detected of it on one frame."""

    truth: PlateSolution
    ra: FloatArray
    dec: FloatArray
    mag: FloatArray
    x: FloatArray
    y: FloatArray
    flux: FloatArray
    star: npt.NDArray[np.int64]

    def solve(self, start: Any, **options: Any) -> PlateFit:
        shape = (self.truth.ny, self.truth.nx)
        return solve(self.x, self.y, self.flux, self.ra, self.dec, self.mag, shape, start=start, **options)

    def error(self, solution: PlateSolution) -> float:
        """Rms distance from the truth over the frame (pixel)."""
        column, row = np.meshgrid(np.linspace(0, self.truth.nx - 1, 15), np.linspace(0, self.truth.ny - 1, 15))
        x, y = solution.project(*self.truth.unproject(column, row))
        return float(np.sqrt(np.mean((x - column) ** 2 + (y - row) ** 2)))


def truth(rotation: float, parity: int, *, size: tuple[int, int] = (650, 500), scale: float = SCALE, bend: float = 2.0) -> PlateSolution:
    """Cubic solution with about `bend` pixel of distortion in the corners."""
    angle, per_degree = np.radians(rotation), 3600.0 / scale
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([parity, 1.0]) * per_degree
    corner = 0.5 * np.hypot(*size) / per_degree
    radial = bend / corner**3
    # x += radial (xi^2 + eta^2) along the linear terms' direction, and a little tilt
    direction = turn / per_degree
    cubic = np.array([direction[:, 0], direction[:, 1], direction[:, 0], direction[:, 1]]).T * radial
    tilt = np.array([[0.2, -0.1, 0.1], [0.1, 0.2, -0.2]]) * bend / corner**2
    middle = np.array([[(size[0] - 1) / 2.0], [(size[1] - 1) / 2.0]])
    coefficients = np.hstack([middle, turn, tilt, cubic])
    return PlateSolution(*CENTRE, 3, tuple(map(float, coefficients[0])), tuple(map(float, coefficients[1])), *size)


def linear_wcs(solution: PlateSolution) -> WCS:
    """The solution without its distortion, as astropy's."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [solution.ra0, solution.dec0]
    wcs.wcs.crpix = [solution.coeff_x[0] + 1.0, solution.coeff_y[0] + 1.0]
    wcs.wcs.cd = np.linalg.inv([solution.coeff_x[1:3], solution.coeff_y[1:3]])
    return wcs


def sky(
    solution: PlateSolution,
    *,
    per_frame: int = 50,
    found: float = 0.9,
    spurious: int = 60,
    noise: float = 0.05,
    seed: int = 3,
    reach: float = 2.2,
) -> Sky:
    rng = np.random.default_rng(seed)
    half = reach * solution.radius
    area = solution.nx * solution.ny * (solution.scale / 3600.0) ** 2
    n = int(per_frame * (2.0 * half) ** 2 / area)
    ra, dec = gnomonic_inverse(rng.uniform(-half, half, n), rng.uniform(-half, half, n), *CENTRE)
    mag = 7.0 + 5.0 * rng.uniform(0, 1, n) ** 0.4
    x, y = solution.project(ra, dec)
    star = np.flatnonzero(solution.inside(x, y, 2.0) & (rng.uniform(size=n) < found))
    dx, dy = rng.normal(0.0, noise, (2, len(star)))
    extra = rng.uniform(0, 1, (2, spurious)) * np.array([[solution.nx - 1], [solution.ny - 1]])
    flux = np.concatenate([10.0 ** (-0.4 * (mag[star] + rng.normal(0, 0.5, len(star)))), 10.0 ** (-0.4 * rng.uniform(10, 14, spurious))])
    shuffled = rng.permutation(len(flux))
    x, y = np.concatenate([x[star] + dx, extra[0]])[shuffled], np.concatenate([y[star] + dy, extra[1]])[shuffled]
    owner = np.concatenate([star, np.full(spurious, -1)])[shuffled]
    return Sky(solution, ra, dec, mag, x, y, flux[shuffled], owner)


@pytest.mark.parametrize("rotation", [0.0, 90.0, 179.7, 251.0])
@pytest.mark.parametrize("parity", [-1, 1])
def test_solves_from_a_rough_pointing(rotation: float, parity: int) -> None:
    case = sky(truth(rotation, parity), seed=int(rotation) + parity + 1)
    off = (CENTRE[0] + 0.25 / np.cos(np.radians(CENTRE[1])), CENTRE[1] - 0.2)
    fit = case.solve(Pointing(*off, 1.02 * SCALE))
    assert fit.method == "pointing"
    assert case.error(fit.solution) < 0.15
    assert fit.solution.parity == parity
    # the pairs are the true ones, but for a chance neighbour
    assert np.count_nonzero(case.star[fit.det_index] != fit.cat_index) <= 1
    assert fit.n_matched >= 0.95 * np.count_nonzero(case.star >= 0)
    assert fit.rms_x < 0.09
    assert fit.rms_y < 0.09
    px, py = fit.solution.project(case.ra[fit.cat_index], case.dec[fit.cat_index])
    np.testing.assert_allclose(case.x[fit.det_index] - px, fit.residual_x, atol=1e-6)
    np.testing.assert_allclose(case.y[fit.det_index] - py, fit.residual_y, atol=1e-6)
    assert np.all(np.diff(fit.cat_index) > 0)


@pytest.mark.parametrize("factor", [0.83, 1.19])
def test_solves_with_a_scale_known_to_a_fifth(factor: float) -> None:
    case = sky(truth(33.0, 1))
    fit = case.solve(Pointing(*CENTRE, factor * SCALE, scale_tolerance=0.2))
    assert fit.solution.scale == pytest.approx(SCALE, rel=1e-3)


def test_solves_a_wide_distorted_frame_to_a_higher_order() -> None:
    # 2048 x 2048 at 20 arcsec: 11 degree, barrel of 1 % in the corners
    case = sky(truth(12.0, -1, size=(2048, 2048), scale=20.0, bend=14.0), per_frame=700, spurious=400, reach=1.5)
    fit = case.solve(Pointing(CENTRE[0] + 1.5, CENTRE[1] - 1.0, 20.2), order=5)
    assert fit.solution.order >= 3
    assert case.error(fit.solution) < 0.02
    assert fit.n_matched > 580


def test_solves_a_dense_catalogue_with_few_detections() -> None:
    case = sky(truth(5.0, -1), per_frame=400, found=1.0, spurious=3)
    # a short exposure: only the brightest fifteenth is seen
    keep = (case.star < 0) | (case.mag[case.star] < np.quantile(case.mag, 1.0 / 15.0))
    case.x, case.y, case.flux, case.star = (part[keep] for part in (case.x, case.y, case.flux, case.star))
    assert 15 < len(case.x) < 40
    fit = case.solve(Pointing(*CENTRE, SCALE))
    assert case.error(fit.solution) < 0.5


def test_starts_from_a_neighbour_that_drifted_and_turned() -> None:
    case = sky(truth(180.0, 1))
    other = truth(180.8, 1)
    drifted = PlateSolution(CENTRE[0] + 0.08, CENTRE[1] - 0.05, 3, other.coeff_x, other.coeff_y, 650, 500)
    fit = case.solve(drifted)
    assert fit.method == "neighbour"
    assert case.error(fit.solution) < 0.15


def test_a_neighbour_far_off_still_gives_its_pointing() -> None:
    case = sky(truth(70.0, 1))
    fit = case.solve([("previous", truth(0.0, -1))])
    assert fit.method == "previous+pattern"
    assert case.error(fit.solution) < 0.15


def test_starts_from_a_wcs_and_falls_through_a_wrong_one() -> None:
    case = sky(truth(20.0, -1))
    wcs = linear_wcs(case.truth)
    fit = case.solve(lambda x, y: tuple(wcs.all_pix2world(x + 3.0, y - 2.0, 0)))
    assert fit.method == "header"
    assert case.error(fit.solution) < 0.15
    wrong = [lambda x, y: (x * np.nan, y * np.nan), lambda x, y: (x * 0.001 + 200.0, y * 0.001), Pointing(*CENTRE, SCALE)]
    assert case.solve(wrong).method == "pointing"


def test_nothing_is_solved_where_there_is_no_solution() -> None:
    case = sky(truth(20.0, -1))
    rng = np.random.default_rng(4)
    for _ in range(2):
        case.x, case.y = rng.uniform(0, 649, len(case.x)), rng.uniform(0, 499, len(case.y))
        with pytest.raises(AlgorithmFailed, match="no plate solution from pointing") as caught:
            case.solve(Pointing(*CENTRE, SCALE))
        assert caught.value.code == "solve.no_start"
        assert caught.value.hint
    with pytest.raises(FrameUnusable, match="5 stars"):
        solve(case.x[:5], case.y[:5], case.flux[:5], case.ra, case.dec, case.mag, (500, 650), start=Pointing(*CENTRE, SCALE))


def test_result_does_not_depend_on_the_order_of_the_input() -> None:
    case = sky(truth(20.0, -1))
    first = case.solve(Pointing(*CENTRE, SCALE))
    rng = np.random.default_rng(7)
    det, cat = rng.permutation(len(case.x)), rng.permutation(len(case.ra))
    second = solve(
        case.x[det], case.y[det], case.flux[det], case.ra[cat], case.dec[cat], case.mag[cat], (500, 650), start=Pointing(*CENTRE, SCALE)
    )
    assert second.solution == first.solution
    assert {*zip(det[second.det_index], cat[second.cat_index], strict=True)} == {*zip(first.det_index, first.cat_index, strict=True)}


def test_doubles_missing_magnitudes_and_gross_errors_do_no_harm() -> None:
    case = sky(truth(20.0, -1))
    clean = case.solve(Pointing(*CENTRE, SCALE))
    rng = np.random.default_rng(11)
    twin = rng.permutation(len(case.ra))[: len(case.ra) // 5]
    case.ra = np.concatenate([case.ra, case.ra[twin] + 1e-4, [np.nan]])
    case.dec = np.concatenate([case.dec, case.dec[twin] - 1e-4, [46.0]])
    case.mag = np.concatenate([case.mag, np.full(len(twin), np.nan), [3.0]])
    # the brightest detections are the worst: blooming
    worst = np.argsort(-case.flux)[:4]
    case.x[worst] += 1.5
    fit = case.solve(Pointing(*CENTRE, SCALE))
    assert case.error(fit.solution) < 0.15
    assert not set(worst) & set(fit.det_index)
    assert fit.n_matched >= clean.n_matched - 6


def test_leave_one_out_is_what_fits_without_the_star_leave() -> None:
    case = sky(truth(20.0, -1), per_frame=40, spurious=0)
    pairs = np.flatnonzero(case.star >= 0)
    ra, dec = case.ra[case.star[pairs]], case.dec[case.star[pairs]]
    x, y, weight = case.x[pairs], case.y[pairs], np.ones(len(pairs))
    options: dict[str, Any] = {"tangent": CENTRE, "order": 2, "size": (650, 500)}
    fit = fit_plate(ra, dec, x, y, weight, **options)
    without = []
    for k in range(len(x)):
        rest = np.arange(len(x)) != k
        part = fit_plate(ra[rest], dec[rest], x[rest], y[rest], weight[rest], **options)
        without.append(x[k] - part.solution.project(ra[k], dec[k])[0])
    # robust weights shift a little with the star
    np.testing.assert_allclose(fit.loo_x, without, atol=0.03)
    assert robust_scatter(fit.loo_x) > robust_scatter(fit.residual_x)


def test_an_exact_polynomial_is_recovered() -> None:
    exact = truth(40.0, 1)
    case = sky(exact, noise=0.0, spurious=0)
    pairs = case.star
    fit = fit_plate(case.ra[pairs], case.dec[pairs], case.x, case.y, np.ones(len(pairs)), tangent=CENTRE, order=3, size=(650, 500))
    np.testing.assert_allclose(fit.solution.coeff_x, exact.coeff_x, atol=1e-8)
    np.testing.assert_allclose(fit.solution.coeff_y, exact.coeff_y, atol=1e-8)


def test_refine_against_better_positions() -> None:
    case = sky(truth(10.0, 1), per_frame=300, noise=0.02)
    rough = truth(10.05, 1)
    fit = refine(rough, case.x, case.y, case.ra, case.dec, order=3)
    assert case.error(fit.solution) < 0.02
    with pytest.raises(AlgorithmFailed, match="catalogue stars on the frame"):
        refine(rough, case.x + 4000.0, case.y, case.ra, case.dec)


def test_order_follows_the_number_of_stars() -> None:
    assert [highest_order(n, 5) for n in (4, 9, 17, 18, 29, 30, 44, 45, 62, 63, 999)] == [1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert highest_order(999, 2) == 2


def test_match_is_mutual_and_within_the_radius() -> None:
    x1, x2 = np.array([0.0, 10.0, 10.4, np.nan]), np.array([10.3, 50.0, 0.9])
    first, second = match_positions(x1, np.zeros(4), x2, np.zeros(3), 1.0)
    np.testing.assert_array_equal(first, [0, 2])
    np.testing.assert_array_equal(second, [2, 0])
    assert len(match_positions(x1[:0], x1[:0], x2, x2, 1.0)[0]) == 0


def test_triangles_find_the_similarity_and_its_parity() -> None:
    rng = np.random.default_rng(2)
    u, v = rng.uniform(-400, 400, (2, 60))
    matrix = 1.01 * np.array([[np.cos(2.0), np.sin(2.0)], [np.sin(2.0), -np.cos(2.0)]])
    x, y = matrix @ np.array([u, v]) + np.array([[300.0], [250.0]])
    on = np.flatnonzero((x > 0) & (x < 650) & (y > 0) & (y < 500))[:20]
    best = match_triangles((x[on], y[on]), (u, v), size=(650, 500), scale_tolerance=0.03)[0]
    np.testing.assert_allclose(best.matrix, matrix, atol=1e-3)
    np.testing.assert_allclose(best.shift, [300.0, 250.0], atol=0.5)
    assert match_triangles((x[:2], y[:2]), (u, v), size=(650, 500), scale_tolerance=0.03) == []


def test_solution_from_wcs_follows_it() -> None:
    wcs = linear_wcs(truth(77.0, 1))
    solution = solution_from_wcs(lambda x, y: tuple(wcs.all_pix2world(x, y, 0)), (650, 500))
    x, y = np.random.default_rng(1).uniform(0, 499, (2, 100))
    np.testing.assert_allclose(solution.project(*wcs.all_pix2world(x, y, 0)), [x, y], atol=0.01)


def test_blind_says_why_not(tmp_path: Path) -> None:
    nothing = np.zeros(20)
    absent = solve_blind(nothing, nothing, nothing, (10, 10), tmp_path / "absent")
    assert absent.solution is None
    assert "no index files" in absent.reason
    (tmp_path / "index-1.fits").touch()
    few = solve_blind(nothing[:3], nothing[:3], nothing[:3], (10, 10), str(tmp_path))
    assert few.solution is None
    assert "3 stars" in few.reason


def read_catalogue(path: Path, epoch: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    table = Table.read(path)
    column = {name: np.ma.filled(np.ma.asarray(table[name]).astype(float), np.nan) for name in ("ra", "dec", "pmra", "pmdec", "vt", "v")}
    ra, dec = apply_proper_motion(column["ra"], column["dec"], column["pmra"], column["pmdec"], 2000.0, epoch)
    return ra, dec, np.where(np.isfinite(column["vt"]), column["vt"], column["v"])


@pytest.mark.realdata
def test_hatp32_from_pointing_and_scale(night_files: Callable[[str], list[Path]], shared_data: Path) -> None:
    catalogue = read_catalogue(shared_data / "catalogues" / "hatp32_r1.5deg.ecsv", 2017.97)
    scatter = []
    for number, path in enumerate(night_files("hatp32")):
        data, header = fits.getdata(path, header=True)
        mask = np.where(data >= 4095, int(Mask.SATURATED), 0).astype(np.uint8)
        stars = extract(data.astype(np.float32), np.maximum(data - 313.0, 0.0) / 38.8 + 0.3, mask)
        fit = solve(stars.x, stars.y, stars.flux, *catalogue, data.shape, start=Pointing(header["RA"], header["DEC"], header["IM_SCALE"]))
        if number == 0:
            assert fit.n_matched >= 40
            assert fit.n_catalogue_in_frame == 47
            assert fit.solution.centre == pytest.approx((31.2485, 46.7411), abs=2e-3)
        assert fit.n_matched >= 0.85 * fit.n_catalogue_in_frame
        assert fit.solution.parity == 1
        assert fit.solution.scale == pytest.approx(5.164, abs=0.005)
        scatter.append((fit.rms_x, fit.rms_y))
    assert np.median(scatter, axis=0).max() < 0.12
    assert np.max(scatter) < 0.20


@pytest.mark.realdata
@pytest.mark.skipif(not any(DEFAULT_INDEX_DIR.glob("index-*.fits")), reason=f"no index files in {DEFAULT_INDEX_DIR}")
def test_hatp32_blind(night_files: Callable[[str], list[Path]]) -> None:
    data = fits.getdata(night_files("hatp32")[0]).astype(np.float32)
    mask = np.where(data >= 4095, int(Mask.SATURATED), 0).astype(np.uint8)
    stars = extract(data, np.maximum(data - 313.0, 0.0) / 38.8 + 0.3, mask)
    found = solve_blind(stars.x, stars.y, stars.flux, data.shape, DEFAULT_INDEX_DIR)
    assert found.solution is not None
    # to a pixel: the solver's pixels count from 0, as ours do
    assert np.hypot(*gnomonic(*found.solution.centre, 31.2485, 46.7411)) * 3600.0 < SCALE
    assert found.solution.parity == 1


@pytest.mark.realdata
def test_skycamt_from_header_and_from_pointing(night_files: Callable[[str], list[Path]], shared_data: Path) -> None:
    catalogue = read_catalogue(shared_data / "catalogues" / "patch_13x13deg_agpeg_skycamt.ecsv", 2015.5)
    for path in night_files("skycamt")[::7]:
        data, header = fits.getdata(path, header=True)
        stars = extract(data.astype(np.float32), np.full(data.shape, 1600.0, np.float32), np.zeros(data.shape, np.uint8))
        stars = stars.take(stars.snr >= 10.0)  # as step solve does
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wcs = WCS(header)
        centre = (float(header["RA_CENT"]), float(header["DEC_CENT"]))
        for start in (lambda x, y, wcs=wcs: tuple(wcs.all_pix2world(x, y, 0)), Pointing(*centre, 31.7)):
            fit = solve(stars.x, stars.y, stars.flux, *catalogue, data.shape, start=start, order=5)
            assert fit.n_matched > 500
            assert max(fit.rms_x, fit.rms_y) < 0.083
        distance = np.hypot(*gnomonic(*fit.solution.centre, *centre))
        assert distance < 0.05
