"""Floor and scintillation of a night, told apart by airmass and exposure."""

from __future__ import annotations

import numpy as np
import pytest

from reduction.lightcurves.kernels.night_noise import night_noise, scintillation_law
from reduction.lightcurves.kernels.noise import FrameExcess, frame_excess


def excess_of(
    floor: float, scintillation: float, airmass: np.ndarray, exptime: np.ndarray, seed: int = 1, n_star: int = 300
) -> FrameExcess:
    """Of stars with photon noise of 2 mmag."""
    rng = np.random.default_rng(seed)
    variance = floor**2 + (scintillation * scintillation_law(airmass, exptime)) ** 2
    frame = np.repeat(np.arange(airmass.size), n_star)
    residual = np.sqrt(variance[frame] + 4e-6) * rng.standard_normal(frame.size)
    return frame_excess(frame, residual, np.full(frame.size, 4e-6), airmass.size)


def test_the_law() -> None:
    np.testing.assert_allclose(scintillation_law([1.0, 2.0], [0.5, 8.0]), [1.0, 2**1.75 / 4])


@pytest.mark.parametrize(("floor", "scintillation"), [(0.002, 0.03), (0.0, 0.03), (0.003, 0.0)])
def test_both_are_found_where_airmass_and_exposure_differ(floor: float, scintillation: float) -> None:
    airmass, exptime = np.linspace(1.0, 2.5, 120), np.where(np.arange(120) % 3 == 0, 20.0, 60.0)
    pulls = []
    for seed in range(20):
        found = night_noise(excess_of(floor, scintillation, airmass, exptime, seed), airmass, exptime)
        assert found is not None and found.n_frame > 110
        pulls.append([(found.mag_floor - floor) / found.mag_floor_err, (found.scintillation - scintillation) / found.scintillation_err])
        assert found.mag_floor == pytest.approx(floor, abs=4 * found.mag_floor_err if floor else 0.002)
        assert found.scintillation == pytest.approx(scintillation, abs=4 * found.scintillation_err if scintillation else 0.016)
        assert found.mag_floor_err < 0.0012 and found.scintillation_err < 0.008
    known = np.array([floor, scintillation]) > 0
    assert (np.std(pulls, axis=0)[known] < 1.6).all() and (np.std(pulls, axis=0)[known] > 0.4).all()


def test_frames_in_clouds_are_left_out() -> None:
    airmass, exptime = np.linspace(1.0, 2.0, 60), np.full(60, 30.0)
    excess = excess_of(0.002, 0.02, airmass, exptime)
    value = excess.value.copy()
    value[10:14] += 0.05**2
    found = night_noise(FrameExcess(value, excess.typical, excess.chance), airmass, exptime)
    assert found is not None and found.n_frame <= 56 and found.mag_floor < 0.0035


def test_one_airmass_leaves_them_together_and_says_so() -> None:
    airmass, exptime = np.full(40, 1.2) + np.linspace(0, 1e-4, 40), np.full(40, 30.0)
    found = night_noise(excess_of(0.002, 0.02, airmass, exptime), airmass, exptime)
    assert found is not None
    assert max(found.mag_floor_err / 0.002, found.scintillation_err / 0.02) > 1.0
    total = np.hypot(found.mag_floor, found.scintillation * scintillation_law([1.2], [30.0])[0])
    assert total == pytest.approx(np.hypot(0.002, 0.02 * scintillation_law([1.2], [30.0])[0]), rel=0.1)


def test_few_or_unknown_frames_tell_nothing() -> None:
    excess = excess_of(0.002, 0.02, np.ones(3), np.full(3, 30.0))
    assert night_noise(excess, np.array([1.0, np.nan, 1.2]), np.full(3, 30.0)) is None
    assert night_noise(excess, np.ones(3), np.array([30.0, 0.0, 30.0])) is None
