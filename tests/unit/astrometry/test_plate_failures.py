"""Wrong solutions are refused, true ones are not, and failures are named for what they are."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import poisson

from db.errors import AlgorithmFailed, FrameUnusable
from reduction.astrometry import blind
from reduction.astrometry.kernels.acceptance import judge, log_chance
from reduction.astrometry.kernels.detection import Detections
from reduction.astrometry.kernels.failure_causes import FrameFacts, count_stars, diagnose
from reduction.astrometry.kernels.plate import solve
from reduction.astrometry.kernels.plate_fit import position_weights
from reduction.astrometry.kernels.start import Pointing
from reduction.astrometry.kernels.wcs import PlateSolution, gnomonic_inverse

FloatArray = npt.NDArray[np.float64]
CENTRE = (31.0, 46.7)
SCALE = 5.0
SHAPE = (500, 650)


def camera(angle: float, parity: int) -> PlateSolution:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([parity, 1.0]) * 3600.0 / SCALE
    return PlateSolution(*CENTRE, 1, (324.5, *map(float, turn[0])), (249.5, *map(float, turn[1])), SHAPE[1], SHAPE[0])


def catalogue(rng: np.random.Generator, n: int = 160) -> tuple[FloatArray, FloatArray]:
    """Standard coordinates (degree) of stars over 1.5 degree."""
    return rng.uniform(-0.75, 0.75, n), rng.uniform(-0.75, 0.75, n)


def observe(rng: np.random.Generator, truth: PlateSolution, xi: FloatArray, eta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Detections of 85 % of the stars, and 30 % of all of them spurious."""
    x, y = truth.project(*gnomonic_inverse(xi, eta, *CENTRE))
    seen = np.flatnonzero(truth.inside(x, y) & (rng.uniform(size=len(x)) < 0.85))
    noise = rng.normal(0.0, 0.07, (2, len(seen)))
    false = rng.uniform(0.0, 1.0, (2, round(0.3 / 0.7 * len(seen)))) * [[SHAPE[1]], [SHAPE[0]]]
    # one in three bright ones is false
    place = np.linspace(0, len(seen), false.shape[1]).astype(int)
    return np.insert(x[seen] + noise[0], place, false[0]), np.insert(y[seen] + noise[1], place, false[1])


def attempt(seed: int, wrong: str) -> Any:
    rng = np.random.default_rng(seed)
    angle, parity = rng.uniform(0.0, 2.0 * np.pi), int(rng.choice([-1, 1]))
    truth = camera(angle, parity)
    xi, eta = catalogue(rng)
    x, y = observe(rng, truth, xi, eta)
    if wrong == "field":
        xi, eta = catalogue(rng)
    elif wrong == "shuffled":
        eta = rng.permutation(eta)
    elif wrong == "mirrored":
        xi = -xi
    elif wrong == "scale":
        factor = rng.uniform(1.08, 1.5)
        xi, eta = xi * factor, eta * factor
    ra, dec = gnomonic_inverse(xi, eta, *CENTRE)
    starts = [Pointing(CENTRE[0] + 0.05, CENTRE[1] - 0.05, 1.01 * SCALE)]
    known = parity if wrong == "mirrored" else None
    fit = solve(x, y, -np.arange(len(x), dtype=float), ra, dec, np.arange(len(ra), dtype=float), SHAPE, start=starts, parity=known)
    return fit, truth


@pytest.mark.parametrize("wrong", ["field", "shuffled", "mirrored", "scale"])
def test_a_wrong_catalogue_is_refused(wrong: str) -> None:
    for seed in range(2):
        with pytest.raises(AlgorithmFailed) as caught:
            attempt(seed, wrong)
        assert caught.value.code in {"solve.no_start", "solve.refused"}


def test_the_true_catalogue_is_accepted() -> None:
    for seed in range(4):
        fit, truth = attempt(seed, "nothing")
        assert fit.acceptance.accepted
        assert fit.acceptance.log_chance < -15
        assert fit.solution.parity == truth.parity
        assert np.hypot(fit.solution.centre[0] - truth.centre[0], fit.solution.centre[1] - truth.centre[1]) * 3600 < SCALE


def test_chance_is_poissons() -> None:
    for n, mean in ((1, 0.5), (7, 2.0), (40, 10.0), (90, 100.0)):
        assert log_chance(n, mean) == pytest.approx(poisson.logsf(n - 1, mean) / np.log(10), abs=1e-9)
    assert log_chance(0, 3.0) == 0.0
    assert log_chance(3000, 10.0) == pytest.approx(poisson.logpmf(3000, 10.0) / np.log(10), rel=1e-3)


def test_pairs_of_chance_fail_by_number_and_by_spread() -> None:
    rng = np.random.default_rng(1)
    options: dict[str, Any] = {"radius": 3.0, "n_det": 300, "n_cat": 100, "n_term": 3, "area": 325_000.0}
    assert "come by chance" in judge(np.full(8, 0.1), **options).reason
    scattered = 3.0 * np.sqrt(rng.uniform(size=60))
    assert "as chance pairs do" in judge(scattered, **options).reason
    assert judge(np.abs(rng.normal(0, 0.3, 60)), **options).accepted
    assert not judge(np.zeros(0), **options).accepted


def test_weights_find_the_floor_that_the_errors_lack() -> None:
    rng = np.random.default_rng(2)
    error = rng.uniform(0.01, 0.3, 4000)
    residual = rng.normal(0.0, 1.0, (4000, 2)) * np.hypot(error, 0.05)[:, None]
    weight = position_weights(error, residual)
    expected = 1.0 / (error**2 + 0.05**2)
    np.testing.assert_allclose(weight, expected / expected.max(), rtol=0.1)
    np.testing.assert_array_equal(position_weights(np.full(4, np.nan), residual[:4]), 1.0)


def stars(n: int, *, snr: float = 50.0, ratio: float = 1.0, theta: float = 0.3) -> Detections:
    value = {field.name: np.full(n, 1.0) for field in fields(Detections)}
    value |= {
        "snr": np.full(n, snr),
        "semi_major": np.full(n, 1.2 * ratio),
        "semi_minor": np.full(n, 1.2),
        "theta": np.full(n, theta),
        "flags": np.zeros(n, np.int32),
    }
    return Detections(**value)


def shapeless(n_star: int, n: int) -> Detections:
    """Stars, and what is none."""
    found = stars(n)
    return replace(found, fwhm=np.where(np.arange(n) < n_star, 3.0, np.nan))


@pytest.mark.parametrize(
    ("found", "facts", "code", "words"),
    [
        (stars(0), FrameFacts(sky=0.2, noise=3.0), "frame.dark", "no light: 0 stars"),
        (stars(0), FrameFacts(sky=200.0, noise=9.0), "frame.few_stars", "0 stars"),
        (stars(40, ratio=9.0), FrameFacts(sky=90.0, noise=9.0), "frame.trailed", "trailed over"),
        (stars(50), FrameFacts(n_catalogue=0), "solve.wrong_catalogue", "no star where the frame points"),
        (stars(50), FrameFacts(n_catalogue=60, indexed=(10.0, -3.0)), "solve.wrong_catalogue", "10.0000 -3.0000"),
        (stars(8), FrameFacts(sky=900.0, noise=9.0, usual_stars=80.0, usual_sky=300.0), "frame.clouds", "8 stars of 80 on frames alike"),
        (stars(8), FrameFacts(sky=900.0, noise=9.0, unevenness=0.3, n_catalogue=70), "frame.clouds", "uneven by 30 %"),
        (stars(50), FrameFacts(n_catalogue=60), "solve.no_start", "no plate solution: pointing"),
        (stars(50, snr=4.0), FrameFacts(), "frame.few_stars", "0 stars"),
        # of what is known nothing is asked for, and hits are no clouds
        (stars(50), FrameFacts(n_catalogue=60), "solve.no_start", "check the pointing, the pixel scale, the catalogue's area"),
        (
            stars(50),
            FrameFacts(unknown=("pixel scale",)),
            "solve.no_start",
            "the pointing, the catalogue's area and its depth, or give pixel_scale",
        ),
        (stars(50), FrameFacts(unknown=("index files",)), "solve.no_start", "or give index_folder under [solve]"),
        (shapeless(14, 43), FrameFacts(n_catalogue=60), "solve.no_start", "14 stars with S/N above 10 among 43 detections"),
        (
            shapeless(2, 60),
            FrameFacts(unevenness=0.3, n_catalogue=70),
            "frame.few_stars",
            "of 60 detections with S/N above 10, 58 lack a star's shape",
        ),
    ],
)
def test_failures_are_named(found: Detections, facts: FrameFacts, code: str, words: str) -> None:
    error = diagnose(found, facts, tried="pointing", where="frame 3")
    assert error.code == code
    assert words in str(error)
    assert "\n" not in str(error)
    assert error.where == "frame 3"
    assert isinstance(error, FrameUnusable if code.startswith("frame.") else AlgorithmFailed)


def test_only_stars_are_counted() -> None:
    assert count_stars(stars(7)) == 7
    assert count_stars(stars(7, snr=5.0)) == 0


@pytest.mark.parametrize(
    ("body", "clock", "said"),
    [
        ("while True: pass", 60.0, "found nothing within 1 s of the processor"),
        ("import time; time.sleep(60)", 1.0, "did not end within 1 s by the clock"),
    ],
)
def test_a_blind_search_is_stopped_and_says_so(body: str, clock: float, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what it takes of the processor, so that a busy machine solves what an idle one does."""
    (tmp_path / "index-1.fits").touch()
    x = np.linspace(0.0, 9.0, 20)
    run = blind._run

    def other(_: list[str], limit: float, name: str, *__: object) -> str:
        return run([sys.executable, "-c", body], limit, name)

    monkeypatch.setattr(blind, "_run", other)
    monkeypatch.setattr(blind, "CLOCK", clock)
    found = blind.solve_blind(x, x, x, (10, 10), tmp_path, solvers=("astrometry",), time_limit=1.0)
    assert found.solution is None
    assert f"astrometry {said}" in found.reason


def test_a_blind_search_that_breaks_says_so(tmp_path: Path) -> None:
    (tmp_path / "index-1.fits").write_bytes(b"no index")
    x = np.linspace(0.0, 9.0, 20)
    found = blind.solve_blind(x, x, x, (10, 10), tmp_path, solvers=("astrometry",), time_limit=20.0)
    assert found.solution is None
    assert found.reason.startswith("astrometry ")


PACKAGE = """
from types import SimpleNamespace
Action = SimpleNamespace(STOP=0, CONTINUE=1)
SolutionParameters = dict
SizeHint = PositionHint = lambda *values: values

class Match:
    wcs_fields = {key: (value, "") for key, value in WORDS.items()}

class Solver:
    def __init__(self, files): self.files = files
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def solve(self, stars, size, place, parameters):
        return SimpleNamespace(has_match=lambda: len(stars) == 20, best_match=Match)
"""
FIELDS = {"CRVAL1": 31.0, "CRVAL2": 46.0, "CRPIX1": 4.0, "CRPIX2": 5.0, "CD1_1": -0.001, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.001}


def test_the_process_asks_the_package_and_no_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started from a folder with a subfolder astrometry, as reduction/ and tests/unit/ are."""
    (tmp_path / "index-1.fits").touch()
    (tmp_path / "packages" / "astrometry").mkdir(parents=True)
    (tmp_path / "packages" / "astrometry" / "__init__.py").write_text(PACKAGE.replace("WORDS", repr(FIELDS)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))
    monkeypatch.chdir(tmp_path)
    x = np.linspace(0.0, 9.0, 20)
    found = blind.solve_blind(x, x, x, (10, 10), tmp_path, solvers=("astrometry",), time_limit=60.0)
    assert found.reason == ""
    assert found.solution is not None
    assert (found.solution.ra0, found.solution.dec0, found.solution.coeff_x[:2]) == (31.0, 46.0, (4.0, -1000.0))


def test_another_package_of_the_name_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's astrometry.net has a Python package astrometry as well."""
    (tmp_path / "index-1.fits").touch()
    (tmp_path / "packages" / "astrometry").mkdir(parents=True)
    (tmp_path / "packages" / "astrometry" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))
    x = np.linspace(0.0, 9.0, 20)
    found = blind.solve_blind(x, x, x, (10, 10), tmp_path, solvers=("astrometry",), time_limit=60.0)
    assert found.solution is None
    assert "pip install 'starledger[blind]'" in found.reason


def test_solve_field_runs_in_the_environment_of_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own helpers are Python and import a package astrometry of theirs."""
    (tmp_path / "index-1.fits").touch()
    program = tmp_path / "bin" / "solve-field"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "PYTHONPATH is ${PYTHONPATH-not set}" >&2\nexit 3\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    x = np.linspace(0.0, 9.0, 20)
    found = blind.solve_blind(x, x, x, (10, 10), tmp_path, solvers=("solve-field",), time_limit=20.0)
    assert found.reason == "solve-field ended with code 3: PYTHONPATH is not set"


def test_without_the_package_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index-1.fits").touch()
    monkeypatch.setitem(sys.modules, "astrometry", None)  # type: ignore[arg-type]
    monkeypatch.setattr(blind.shutil, "which", lambda _: None)
    x = np.linspace(0.0, 9.0, 20)
    found = blind.solve_blind(x, x, x, (10, 10), tmp_path)
    assert found.solution is None and "\n" not in found.reason
    assert "pip install 'starledger[blind]'" in found.reason


def test_only_the_process_of_the_solver_imports_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys; sys.modules['astrometry'] = None; import reduction.pipeline.order as order, starledger.cli; "
        "import reduction.astrometry.solve_file; list(order.STEPS.values()); "
        "assert sys.modules['astrometry'] is None"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_long_lists_are_thinned_evenly() -> None:
    rng = np.random.default_rng(3)
    cluster = rng.normal(100.0, 10.0, (500, 2))
    field = rng.uniform(0.0, 1000.0, (500, 2))
    chosen = blind._spread(np.concatenate([cluster, field]), (1000, 1000))
    assert len(chosen) == blind.MAX_STARS
    assert np.mean(np.hypot(chosen[:, 0] - 100.0, chosen[:, 1] - 100.0) < 40.0) < 0.2
