"""Distortion shared by a night's frames, against a known optical system."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from reduction.astrometry.kernels.distortion import DistortionMap, Pairs, distortion_of, fit_distortion, fit_with_distortion
from reduction.astrometry.kernels.plate_fit import fit_plate
from reduction.astrometry.kernels.wcs import PlateSolution, gnomonic

FloatArray = NDArray[np.float64]

NX, NY, SCALE = 1000, 800, 0.004  # degree a pixel
NOISE = 0.05
RADIAL, TILT = 3e-8, 2e-6  # of r^3 and of x r^2 ... (pixel)


def optics(u: FloatArray, v: FloatArray, bent: bool) -> tuple[FloatArray, FloatArray]:
    """Distorted offset from the middle of the frame (pixel): barrel, and a tilted detector."""
    if not bent:
        return u, v
    radius = u**2 + v**2
    return u + RADIAL * u * radius + TILT * u**2, v + RADIAL * v * radius + TILT * u * v


def fitted(ra: FloatArray, dec: FloatArray, x: FloatArray, y: FloatArray, tangent: tuple[float, float], order: int) -> PlateSolution:
    return fit_plate(ra, dec, x, y, np.ones(len(ra)), tangent=tangent, order=order, size=(NX, NY)).solution


def frames(
    rng: np.random.Generator, n_frame: int, n_star: int, *, bent: bool = True, outliers: int = 0
) -> tuple[list[Pairs], list[PlateSolution]]:
    """Frames of one field, each shifted and turned (half of them by half a turn, as behind a meridian flip)."""
    pool = 60.0 + rng.uniform(-4, 4, 4000), 20.0 + rng.uniform(-4, 4, 4000)
    made, truth = [], []
    for k in range(n_frame):
        tangent = 60.0 + rng.normal(0, 0.05), 20.0 + rng.normal(0, 0.05)
        angle = np.radians(rng.normal(10, 5) + 180 * (k % 2))
        xi, eta = (value / SCALE for value in gnomonic(*pool, *tangent))
        u, v = np.cos(angle) * xi - np.sin(angle) * eta, np.sin(angle) * xi + np.cos(angle) * eta
        x, y = optics(u, v, bent)
        x, y = x + (NX - 1) / 2, y + (NY - 1) / 2
        seen = np.flatnonzero((x > 0) & (x < NX) & (y > 0) & (y < NY))
        ideal = fitted(pool[0][seen], pool[1][seen], x[seen], y[seen], tangent, 3)
        chosen = rng.choice(seen, n_star, replace=False)
        dx, dy = rng.normal(0, NOISE, (2, n_star))
        dx[:outliers] += rng.uniform(1, 3, outliers)
        sky, pixel = (pool[0][chosen], pool[1][chosen]), (x[chosen] + dx, y[chosen] + dy)
        linear = fitted(*sky, *pixel, tangent, 1)
        made.append(Pairs(linear, *sky, *pixel, np.ones(n_star), chosen.astype(np.int64)))
        truth.append(ideal)
    return made, truth


def miss(solution: PlateSolution, truth: PlateSolution) -> float:
    """Rms distance of two solutions over the frame (pixel)."""
    column, row = (value.ravel() for value in np.meshgrid(np.linspace(0, NX - 1, 9), np.linspace(0, NY - 1, 9)))
    x, y = solution.project(*truth.unproject(column, row))
    return float(np.sqrt(np.mean((x - column) ** 2 + (y - row) ** 2)))


def test_distortion_is_that_of_the_optics_whichever_way_they_are_turned() -> None:
    made, _ = frames(np.random.default_rng(1), 24, 40)
    found = fit_distortion(made)
    assert found.order == 3 and found.n_frame == 24 and found.n_pair == 960
    assert 0.9 * NOISE < found.rms_x < 1.2 * NOISE and 0.9 * NOISE < found.rms_y < 1.2 * NOISE
    reach = 0.5 * np.hypot(NX, NY)
    cubic = dict(zip([(2, 0), (1, 1), (0, 2), (3, 0), (2, 1), (1, 2), (0, 3)], found.coeff_x, strict=True))
    assert cubic[3, 0] == pytest.approx(RADIAL * reach**3, abs=0.1) and cubic[1, 2] == pytest.approx(RADIAL * reach**3, abs=0.1)
    assert cubic[2, 0] == pytest.approx(TILT * reach**2, abs=0.1) and cubic[0, 2] == pytest.approx(0.0, abs=0.1)


def test_a_frame_of_few_stars_gains_from_the_others() -> None:
    made, _ = frames(np.random.default_rng(2), 16, 40)
    night = fit_distortion(made)
    few, few_truth = frames(np.random.default_rng(3), 6, 14)
    shared = [miss(fit_with_distortion(pairs, night).solution, ideal) for pairs, ideal in zip(few, few_truth, strict=True)]
    alone = [miss(fitted(p.ra, p.dec, p.x, p.y, p.solution.centre, 3), ideal) for p, ideal in zip(few, few_truth, strict=True)]
    # three linear terms an axis cost sqrt(3 / 14) of the noise on the mean, per axis
    assert np.sqrt(np.mean(np.square(shared))) < 1.5 * NOISE * np.sqrt(2 * 3 / 14)
    assert np.mean(shared) < 0.6 * np.mean(alone)


def test_optics_without_distortion_are_found_to_have_none() -> None:
    made, _ = frames(np.random.default_rng(4), 12, 30, bent=False)
    found = fit_distortion(made)
    assert found.order == 1 and found.coeff_x == ()
    fit = fit_with_distortion(made[0], found)
    assert fit.solution.order == 1 and fit.sigma < 1.3 * NOISE


def test_wrong_pairs_do_not_pull() -> None:
    made, truth = frames(np.random.default_rng(5), 16, 40, outliers=4)
    night = fit_distortion(made)
    assert night.order == 3
    assert max(miss(fit_with_distortion(pairs, night).solution, ideal) for pairs, ideal in zip(made, truth, strict=True)) < 0.06


def test_left_out_residuals_are_those_of_a_fit_without_the_star() -> None:
    made, _ = frames(np.random.default_rng(6), 8, 20)
    night = fit_distortion(made)
    p = made[0]
    fit = fit_with_distortion(p, night)
    for out in (0, 7):
        keep = np.arange(20) != out
        without = fit_with_distortion(Pairs(p.solution, p.ra[keep], p.dec[keep], p.x[keep], p.y[keep], p.weight[keep], p.star[keep]), night)
        x, y = without.solution.project(p.ra[out], p.dec[out])
        assert (fit.loo_x[out], fit.loo_y[out]) == pytest.approx((p.x[out] - x, p.y[out] - y), abs=0.01)


def test_row_and_back() -> None:
    made, _ = frames(np.random.default_rng(7), 4, 20)
    found = fit_distortion(made)
    assert DistortionMap.from_row(found.as_row()) == found


def test_distortion_of_a_solution_makes_the_same_solution_again() -> None:
    made, truth = frames(np.random.default_rng(8), 1, 40)
    p = made[0]
    x, y = truth[0].project(p.ra, p.dec)
    again = fit_with_distortion(Pairs(p.solution, p.ra, p.dec, x, y, p.weight, p.star), distortion_of(truth[0]))
    # about another tangent point the same polynomial is one only to the order above
    assert miss(again.solution, truth[0]) < 1e-3
