"""The magnitude fit of a night against least squares of numpy, frame by frame, in one run.

python benchmarks/bench_magnitude_fit.py [--night]

`numpy.linalg.lstsq` solves each frame's plain weighted least squares once; starledger makes six robust fits of it (one without each fold
and one of all), each reweighted until it settles, with the floor of the errors and the covariance. `iterate` does that until the reference
settles. The scatter of the corrected magnitudes is printed beside.

The same is then done with a night of 50 frames of 20,000 stars, second order and colour, in 3 slots, of which it says the seconds and what
the fit adds to the memory.
"""

from __future__ import annotations

import sys
import tracemalloc
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from record import record
from simulated_field import best_of

from reduction.lightcurves.kernels.magnitude_fit import FrameFits, fit_frames, fit_to_reference
from reduction.lightcurves.kernels.reference import iterate

N_FOLD, N_SLOT = 5, 3
WILD = 0.02
COEFFICIENTS = np.array([0.1, 0.02, 0.02, 0.01, 0.01, 0.01, 0.01])


@dataclass(frozen=True)
class Night:
    """Frames of the same stars: arrays by measurement, but `stars` and `fold` by star."""

    ends: np.ndarray
    frame: np.ndarray
    star: np.ndarray
    design: np.ndarray
    correction: np.ndarray
    observed: np.ndarray
    sigma: np.ndarray
    stars: np.ndarray
    fold: np.ndarray

    @property
    def difference(self) -> np.ndarray:
        """Observed less the stars' magnitudes."""
        return self.observed - self.stars[self.star]


def night(n_frame: int, n_star: int, n_term: int, faintest: float = 14.0) -> Night:
    """Second order in position, and a colour where `n_term` is 7; some of the magnitudes are far off."""
    rng = np.random.default_rng(1)
    x, y, colour = rng.uniform(-1, 1, (3, n_star))
    terms = np.stack([np.ones(n_star), x, y, x * x, x * y, y * y, colour], axis=1)[:, :n_term]
    frame, star = np.repeat(np.arange(n_frame), n_star), np.tile(np.arange(n_star), n_frame)
    design, fold = terms[star], rng.integers(0, N_FOLD, n_star)
    coefficients = rng.normal(0, COEFFICIENTS[:n_term], (n_frame, n_term))
    mag = rng.uniform(10, faintest, n_star)
    sigma = (0.003 * 10 ** (0.3 * (mag - 12)))[star]
    correction = (design * coefficients[frame]).sum(axis=1)
    observed = mag[star] + correction + sigma * rng.normal(size=star.size)
    observed[rng.random(star.size) < WILD] += 0.5
    return Night(np.arange(n_frame + 1) * n_star, frame, star, design, correction, observed, sigma, mag, fold)


def by_numpy(n: Night) -> np.ndarray:
    """Plain weighted least squares, frame by frame."""
    fitted, difference = np.empty(n.star.size), n.difference
    for first, last in pairwise(n.ends):
        weight = 1.0 / n.sigma[first:last]
        found = np.linalg.lstsq(n.design[first:last] * weight[:, None], difference[first:last] * weight, rcond=None)[0]
        fitted[first:last] = n.design[first:last] @ found
    return fitted


def small() -> None:
    """A night of few stars, with the iteration to a reference."""
    n = night(60, 600, 6)
    difference, fold = n.difference, n.fold[n.star]

    def ours() -> np.ndarray:
        return fit_frames(n.ends, difference, n.sigma, n.design, fold, N_FOLD).fitted

    def whole() -> np.ndarray:
        return iterate(n.frame, n.star, n.observed, n.sigma, n.design, n.fold, start=30, group=np.array([0, 1, 1, 2, 2, 2])).fits.fitted

    fit, plain, iterated = best_of(ours), best_of(lambda: by_numpy(n)), best_of(whole, 2)
    print(f"60 frames of 600 stars, {n.design.shape[1]} terms, {WILD:.0%} of the magnitudes half a magnitude off")
    for name, seconds, fitted in (
        ("numpy lstsq", plain, by_numpy(n)),
        ("starledger", fit, ours()),
        ("starledger, iterated", iterated, whole()),
    ):
        error = (fitted - n.correction).reshape(60, 600)
        # What a star has in every frame is its reference's, and no error of the light curve.
        error = error - error.mean(axis=0)
        print(
            f"{name:21s} {seconds:7.3f} s, {seconds / plain:6.1f} times numpy's; rms error of the correction {1e3 * error.std():.2f} mmag"
        )
    record("magnitude_fit", {"numpy lstsq, robust fits": fit / plain, "numpy lstsq, iterated": iterated / plain})


def large() -> None:
    """A night of a million measurements against a reference of each fold, in some slots."""
    n = night(50, 20_000, 7, faintest=16.0)
    reference = n.stars + np.random.default_rng(2).normal(0, 1e-3, (N_FOLD + 1, n.stars.size))
    variance = np.full(reference.shape, 1e-6)

    def ours() -> FrameFits:
        return fit_to_reference(n.ends, n.observed, n.sigma, n.star, reference, variance, n.design, n.fold, eligible=n.sigma < WILD)

    def slots() -> None:
        for _ in range(N_SLOT):
            ours()

    ours()
    tracemalloc.start()
    ours()
    memory = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    fit, plain = best_of(slots, 2), N_SLOT * best_of(lambda: by_numpy(n), 1)
    print(f"50 frames of 20,000 stars, {n.design.shape[1]} terms, {N_SLOT} slots")
    print(f"numpy lstsq           {plain:7.3f} s")
    print(f"starledger            {fit:7.3f} s, {fit / plain:6.1f} times numpy's; {memory:.0f} MB of its own")
    record("magnitude_fit", {"numpy lstsq, a million measurements": fit / plain})


if __name__ == "__main__":
    if "--night" not in sys.argv:
        small()
    large()
