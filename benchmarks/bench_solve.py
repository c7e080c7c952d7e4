"""Plate solution of a 4096x4096 frame with 20,000 detections on one core: starledger against astrometry.net, in one run.

starledger starts from a neighbour's solution and fits a distortion polynomial to all stars; astrometry.net is told scale and place
(it knows no neighbour) and fits SIP polynomials to the stars of its index files. The stars are those of the Tycho-2 index files
where these are installed (so that astrometry.net can find them), and faint ones at random.

python benchmarks/bench_solve.py
"""

from __future__ import annotations

import os
import time
from dataclasses import replace

import numpy as np
from astropy.io import fits
from record import record
from simulated_field import best_of

from reduction.astrometry.blind import DEFAULT_INDEX_DIR, solve_blind
from reduction.astrometry.kernels.plate import PlateFit, solve
from reduction.astrometry.kernels.wcs import PlateSolution, gnomonic_inverse

SIZE = 4096
SCALE = 8.0  # arcsec per pixel: 9.1 degree
CENTRE = (31.05, 46.7)
NOISE = 0.05  # pixel
N_STAR = 20_000
BEND = 40.0  # pixel of distortion in the corners


def true_solution() -> PlateSolution:
    """Cubic radial distortion, mirrored and turned."""
    per_degree = 3600.0 / SCALE
    angle = np.radians(33.0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * per_degree
    radial = BEND / (0.5 * np.hypot(SIZE, SIZE) / per_degree) ** 3
    cubic = np.stack([turn[:, 0], turn[:, 1], turn[:, 0], turn[:, 1]], axis=1) / per_degree * radial
    middle = np.full((2, 1), (SIZE - 1) / 2.0)
    coefficients = np.hstack([middle, turn, np.zeros((2, 3)), cubic])
    return PlateSolution(*CENTRE, 3, tuple(map(float, coefficients[0])), tuple(map(float, coefficients[1])), SIZE, SIZE)


def index_stars() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """RA, Dec (degree) and V_T of the stars of the finest index file: points of its k-d tree, unit vectors as integers."""
    files = sorted(DEFAULT_INDEX_DIR.glob("index-tycho2-*.fits"))
    if not files:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    with fits.open(files[0]) as hdus:
        tables = {hdu.columns.names[0]: hdu.data for hdu in hdus[1:]}
        # numbers in the byte order of the machine that wrote the file, declared as text
        bounds = np.frombuffer(tables["kdtree_range_stars"].tobytes(), "<f8")
        points = np.frombuffer(tables["kdtree_data_stars"].tobytes(), "<u4").reshape(-1, 3)
        mag = np.array(tables["MAG_VT"]["MAG_VT"], dtype=np.float64)
    vector = bounds[:3] + points / bounds[6]
    return np.degrees(np.arctan2(vector[:, 1], vector[:, 0])) % 360.0, np.degrees(np.arcsin(np.clip(vector[:, 2], -1.0, 1.0))), mag


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rng = np.random.default_rng(1)
    truth = true_solution()
    ra, dec, index_mag = index_stars()
    x, y = truth.project(ra, dec)
    near = truth.inside(x, y, -200.0)
    bright = int(np.count_nonzero(near))
    half = 1.1 * truth.radius
    xi, eta = rng.uniform(-half, half, (2, 2 * N_STAR))
    faint_ra, faint_dec = gnomonic_inverse(xi, eta, *CENTRE)
    ra, dec = np.concatenate([ra[near], faint_ra]), np.concatenate([dec[near], faint_dec])
    mag = np.concatenate([index_mag[near], rng.uniform(12.0, 15.0, 2 * N_STAR)])
    x, y = truth.project(ra, dec)
    star = np.flatnonzero(truth.inside(x, y))
    star = star[np.argsort(mag[star])][:N_STAR]
    det_x, det_y = x[star] + rng.normal(0.0, NOISE, star.size), y[star] + rng.normal(0.0, NOISE, star.size)
    flux = 10.0 ** (-0.4 * (mag[star] + rng.normal(0.0, 0.2, star.size)))
    neighbour = replace(truth, ra0=CENTRE[0] + 0.02, dec0=CENTRE[1] - 0.01)
    error = np.full(star.size, NOISE)

    def ours() -> PlateFit:
        return solve(det_x, det_y, flux, ra, dec, mag, (SIZE, SIZE), start=neighbour, order=5, det_err=error)

    seconds, fit = best_of(ours), ours()
    grid = np.meshgrid(np.linspace(0, SIZE - 1, 20), np.linspace(0, SIZE - 1, 20))
    px, py = fit.solution.project(*truth.unproject(*grid))
    off = np.sqrt(np.mean((px - grid[0]) ** 2 + (py - grid[1]) ** 2))
    print(f"{star.size} detections, {ra.size} catalogue stars, {bright} of them in the index files, one core")
    print(f"starledger   {seconds:6.2f} s; {fit.n_matched} pairs, order {fit.solution.order}, {1000 * off:.1f} mpx rms from the truth")
    for name in ("astrometry", "solve-field"):
        start = time.perf_counter()
        found = solve_blind(det_x, det_y, flux, (SIZE, SIZE), DEFAULT_INDEX_DIR, scale=SCALE, position=CENTRE, solvers=(name,))
        taken = time.perf_counter() - start
        if found.solution is None:
            print(f"{name:12s} {taken:6.2f} s; {found.reason}")
            continue
        record("solve", {name: seconds / taken})
        px, py = found.solution.project(*truth.unproject(*grid))
        off = np.sqrt(np.mean((px - grid[0]) ** 2 + (py - grid[1]) ** 2))
        print(f"{name:12s} {taken:6.2f} s, {taken / seconds:.1f} times starledger's; linear, {off:.1f} px rms from the truth")


if __name__ == "__main__":
    main()
