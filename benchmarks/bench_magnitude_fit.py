"""The magnitude fit of a night against least squares of numpy, frame by frame, in one run.

python benchmarks/bench_magnitude_fit.py

`numpy.linalg.lstsq` solves each frame's plain weighted least squares once; starledger makes six robust fits of it (one without each fold
and one of all), each reweighted until it settles, with the floor of the errors and the covariance. `iterate` does that until the reference
settles. The scatter of the corrected magnitudes is printed beside.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from record import record
from simulated_field import best_of

from reduction.lightcurves.kernels.magnitude_fit import fit_frames
from reduction.lightcurves.kernels.reference import iterate

N_FRAME, N_STAR, N_FOLD = 60, 600, 5
WILD = 0.02


def main() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.uniform(-1, 1, (2, N_STAR))
    terms = np.stack([np.ones(N_STAR), x, y, x * x, x * y, y * y], axis=1)
    frame, star = np.repeat(np.arange(N_FRAME), N_STAR), np.tile(np.arange(N_STAR), N_FRAME)
    design, fold = terms[star], rng.integers(0, N_FOLD, N_STAR)
    coefficients = rng.normal(0, [0.1, 0.02, 0.02, 0.01, 0.01, 0.01], (N_FRAME, 6))
    mag = rng.uniform(10, 14, N_STAR)
    sigma = (0.003 * 10 ** (0.3 * (mag - 12)))[star]
    correction = (design * coefficients[frame]).sum(axis=1)
    observed = mag[star] + correction + sigma * rng.normal(size=star.size)
    observed[rng.random(star.size) < WILD] += 0.5
    ends, difference = np.arange(N_FRAME + 1) * N_STAR, observed - mag[star]

    def ours() -> np.ndarray:
        return fit_frames(ends, difference, sigma, design, fold[star], N_FOLD).fitted

    def by_numpy() -> np.ndarray:
        fitted = np.empty(star.size)
        for first, last in pairwise(ends):
            weight = 1.0 / sigma[first:last]
            found = np.linalg.lstsq(design[first:last] * weight[:, None], difference[first:last] * weight, rcond=None)[0]
            fitted[first:last] = design[first:last] @ found
        return fitted

    def whole() -> np.ndarray:
        return iterate(frame, star, observed, sigma, design, fold, start=N_FRAME // 2, group=np.array([0, 1, 1, 2, 2, 2])).fits.fitted

    fit, plain, iterated = best_of(ours), best_of(by_numpy), best_of(whole, 2)
    print(f"{N_FRAME} frames of {N_STAR} stars, {design.shape[1]} terms, {WILD:.0%} of the magnitudes half a magnitude off")
    for name, seconds, fitted in (
        ("numpy lstsq", plain, by_numpy()),
        ("starledger", fit, ours()),
        ("starledger, iterated", iterated, whole()),
    ):
        error = (fitted - correction).reshape(N_FRAME, N_STAR)
        # What a star has in every frame is its reference's, and no error of the light curve.
        error = error - error.mean(axis=0)
        print(
            f"{name:21s} {seconds:7.3f} s, {seconds / plain:6.1f} times numpy's; rms error of the correction {1e3 * error.std():.2f} mmag"
        )
    record("magnitude_fit", {"numpy lstsq, robust fits": fit / plain, "numpy lstsq, iterated": iterated / plain})


if __name__ == "__main__":
    main()
