"""The fused kernel: as its plain definition in numpy, as the fit of differences, whatever the threads, and after a fork."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_fit import plain_fit

from reduction.lightcurves.kernels import magnitude_fit
from reduction.lightcurves.kernels.frame_fit import _median_root
from reduction.lightcurves.kernels.magnitude_fit import FrameFits, fit_frames, fit_to_reference

N_FOLD = 5


def night(n_frame: int, n_star: int, seed: int = 1) -> dict[str, np.ndarray]:
    """Frames of order 1 and a colour, with wild values, stars that are missing, and a reference for each fold."""
    rng = np.random.default_rng(seed)
    x, y, colour = rng.uniform(-1, 1, (3, n_star))
    frame, star = np.repeat(np.arange(n_frame), n_star), np.tile(np.arange(n_star), n_frame)
    there = rng.random(star.size) < 0.9
    frame, star = frame[there], star[there]
    design = np.stack([np.ones(n_star), x, y, colour], axis=1)[star]
    mag, fold = rng.uniform(10, 15, n_star), rng.integers(0, N_FOLD, n_star)
    sigma = (0.002 * 10 ** (0.25 * (mag - 12)))[star]
    observed = (
        mag[star] + (design * rng.normal(0, 0.05, (n_frame, 4))[frame]).sum(axis=1) + np.hypot(sigma, 0.003) * rng.normal(size=star.size)
    )
    observed[rng.random(star.size) < 0.03] += 0.4
    observed[rng.random(star.size) < 0.02] = np.nan
    reference = mag + rng.normal(0, 1e-3, (N_FOLD + 1, n_star))
    reference[:N_FOLD][fold == np.arange(N_FOLD)[:, None]] = np.nan
    return {
        "ends": np.searchsorted(frame, np.arange(n_frame + 1)),
        "mag": observed,
        "sigma": sigma,
        "star": star,
        "reference": reference,
        "variance": rng.uniform(0, 4e-6, reference.shape),
        "design": design,
        "fold": fold,
    }


def assert_equal(one: FrameFits, other: FrameFits) -> None:
    for name in FrameFits.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize("n_star", [41, 400])
@pytest.mark.parametrize("floor", [None, 0.0, 0.01])
def test_as_the_plain_definition(n_star: int, floor: float | None):
    d = night(3, n_star)
    eligible = np.random.default_rng(3).random(d["mag"].size) < 0.95
    fits = fit_to_reference(**d, eligible=eligible, floor=floor)
    for f in range(3):
        rows = np.arange(d["ends"][f], d["ends"][f + 1])
        square = np.zeros(rows.size)
        for k in range(N_FOLD + 1):
            y, error = (
                d["mag"][rows] - d["reference"][k, d["star"][rows]],
                np.sqrt(d["sigma"][rows] ** 2 + d["variance"][k, d["star"][rows]]),
            )
            mine = eligible[rows] & (d["fold"][d["star"][rows]] != k)
            use = mine & np.isfinite(y)
            coeff, covariance, weight, found = plain_fit(y[use], error[use], d["design"][rows[use]], floor=floor)
            np.testing.assert_allclose(fits.coeff[f, k] if k < N_FOLD else fits.coeff_all[f], coeff, rtol=0, atol=1e-12)
            assert (fits.fold_floor[f, k] if k < N_FOLD else fits.floor[f]) == pytest.approx(found, abs=1e-11)
            if k < N_FOLD:
                own = eligible[rows] & ~mine
                x = d["design"][rows[own]]
                assert fits.zp_err[f, k] == pytest.approx(np.sqrt(np.einsum("ij,jk,ik->i", x, covariance, x).mean()), rel=1e-10)
                square[~mine] = (y - d["design"][rows] @ coeff)[~mine] ** 2
        held_out = (d["mag"][rows] - d["reference"][-1, d["star"][rows]] - fits.fitted[rows])[use] ** 2
        assert fits.rms[f] == pytest.approx(np.sqrt((weight * held_out).sum() / weight.sum()), rel=1e-10)
        np.testing.assert_array_equal(fits.used[rows[use]], weight > 0)
        assert fits.n_fit[f] == np.count_nonzero(weight)


def test_as_the_fit_of_differences():
    d = night(4, 200)
    star = d["star"]
    error = np.sqrt(d["sigma"] ** 2 + d["variance"][:, star])
    by_rows = fit_frames(d["ends"], d["mag"] - d["reference"][:, star], error, d["design"], d["fold"][star])
    by_stars = fit_to_reference(**d)
    for name in FrameFits.__dataclass_fields__:
        np.testing.assert_allclose(getattr(by_rows, name), getattr(by_stars, name), rtol=0, atol=1e-12, err_msg=name)


def test_one_reference_for_all_is_the_same_for_each():
    d = night(2, 100)
    d["reference"], d["variance"] = d["reference"][-1], d["variance"][-1]
    many = {name: np.tile(d[name], (N_FOLD + 1, 1)) for name in ("reference", "variance")}
    assert_equal(fit_to_reference(**d), fit_to_reference(**d | many))
    assert_equal(fit_to_reference(**d), fit_to_reference(**d | {"reference": many["reference"]}))


def test_the_number_of_threads_changes_no_digit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(magnitude_fit, "TASK_ROWS", 100)
    d = night(23, 80)
    one = fit_to_reference(**d, threads=1)
    before = threading.active_count()
    for threads in (2, 3, 7):
        assert_equal(fit_to_reference(**d, threads=threads), one)
    assert threading.active_count() == before
    monkeypatch.setattr(magnitude_fit, "TASK_ROWS", 10**9)
    assert_equal(fit_to_reference(**d, threads=2), one)


def test_fits_may_run_beside_each_other(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(magnitude_fit, "TASK_ROWS", 100)
    nights = [night(9, 60, seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        beside = list(pool.map(lambda d: fit_to_reference(**d, threads=2), nights))
    for d, found in zip(nights, beside, strict=True):
        assert_equal(found, fit_to_reference(**d, threads=1))


def _fitted(seed: int) -> np.ndarray:
    return fit_to_reference(**night(30, 1000, seed), threads=2).fitted


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
def test_a_fork_may_follow_a_fit():
    before = [_fitted(seed) for seed in (1, 2)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        after = pool.map(_fitted, (1, 2))
    for one, other in zip(after, before, strict=True):
        np.testing.assert_array_equal(one, other)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=60), st.floats(0, 2e6))
def test_the_median_is_found_wherever_it_is_looked_for(values: list[float], guess: float):
    squares = np.array(values)
    middle, upper = _median_root(squares, squares.size, guess, np.empty(squares.size))
    assert middle == pytest.approx(np.median(np.sqrt(squares)), rel=1e-15)
    assert upper == np.sort(squares)[squares.size // 2]


_PRINTED = """
import hashlib
import numpy as np
from test_fit_to_reference import night
from reduction.lightcurves.kernels.magnitude_fit import FrameFits, fit_to_reference
d = night(3, 90)
fits = fit_to_reference(**d, eligible=np.ones(d["mag"].size, dtype=bool))
print(hashlib.sha256(b"".join(np.asarray(getattr(fits, name)).tobytes() for name in FrameFits.__dataclass_fields__)).hexdigest())
"""


@pytest.mark.skipif(os.environ.get("STARLEDGER_REALDATA") != "full", reason="compiles for half a minute: where whole nights are asked for")
def test_the_process_that_compiles_gives_the_same_bits(tmp_path: Path):
    """Else an archive made first on a machine differs in the last digits from all later ones."""
    paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": paths}
    command = [sys.executable, "-c", _PRINTED]
    first, second = (subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout for _ in range(2))
    assert first and first == second
