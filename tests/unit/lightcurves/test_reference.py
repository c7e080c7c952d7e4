"""Magnitude references: choice, averages, and the iteration, with the dip of a star surviving all of it."""

from __future__ import annotations

import numpy as np
import pytest

from reduction.lightcurves.kernels.averages import average, settled
from reduction.lightcurves.kernels.gauge import free_modes
from reduction.lightcurves.kernels.night_fit import FitRows
from reduction.lightcurves.kernels.reference import MagfitResult, iterate
from reduction.lightcurves.kernels.reference_frame import frame_scores, select_reference

N_FRAME = 60


class Night:
    """A drifting field: stars, zero points with gradients, a noise that grows with magnitude; n_seen stars a frame."""

    def __init__(self, n_seen: int, noise: float = 1.0, seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        n_star = int(n_seen * 1.4)
        x0, y0 = rng.uniform(-1.4, 1.4, n_star), rng.uniform(-1, 1, n_star)
        self.mag = rng.uniform(10, 14, n_star)
        self.fold = rng.integers(0, 5, n_star)
        x = x0 + np.linspace(-0.4, 0.4, N_FRAME)[:, None]
        y = np.broadcast_to(y0, x.shape)
        self.frame, self.star = np.nonzero(np.abs(x) < 1)
        x, y = x[self.frame, self.star], y[self.frame, self.star]
        self.design = np.stack([np.ones(x.size), x, y, x * x, x * y, y * y], axis=1)
        self.group = np.array([0, 1, 1, 2, 2, 2])
        self.coeff = rng.normal(0, [0.1, 0.02, 0.02, 0.01, 0.01, 0.01], (N_FRAME, 6))
        self.sigma = (0.003 * 10 ** (0.3 * (self.mag - 12)))[self.star]
        self.truth = self.mag[self.star] + (self.design * self.coeff[self.frame]).sum(axis=1)
        self.observed = self.truth + noise * self.sigma * rng.normal(size=x.size)

    def iterate(self, mag: np.ndarray, **options: object) -> MagfitResult:
        return iterate(self.frame, self.star, mag, self.sigma, self.design, self.fold, start=N_FRAME // 2, group=self.group, **options)


def test_noise_free_magnitudes_become_constant():
    night = Night(120, noise=0.0)
    result = night.iterate(night.observed)
    spread = [np.ptp(result.mag[night.star == s]) for s in range(night.mag.size) if np.count_nonzero(night.star == s) > 1]
    assert max(spread) < 2e-3
    assert np.median(spread) < 3e-4
    assert result.converged
    np.testing.assert_allclose(np.diff(result.mean.mag), np.diff(night.mag), atol=0.2)


def test_scatter_of_fitted_magnitudes_is_the_noise():
    night = Night(200)
    result = night.iterate(night.observed)
    deviation = (result.mag - result.mean.mag[night.star]) / result.mag_err
    assert 1.4826 * np.median(np.abs(deviation)) == pytest.approx(1.0, abs=0.1)
    assert len(result.history) >= 2
    assert result.history[-1].change < result.history[0].change


@pytest.mark.parametrize(("n_seen", "n_dips"), [(40, 25), (150, 10)])
def test_dip_survives_the_iteration(n_seen: int, n_dips: int):
    night = Night(n_seen, seed=n_seen)
    plain = night.iterate(night.observed)
    dip = -2.5 * np.log10(1 - 0.01 * ((night.frame >= 20) & (night.frame < 36)))
    epochs = np.bincount(night.star)
    hosts = np.random.default_rng(9).choice(np.flatnonzero(epochs >= 50), n_dips, replace=False)
    ratio = []
    for host in hosts:
        own = night.star == host
        changed = night.iterate(night.observed + np.where(own, dip, 0.0))
        difference = (changed.mag - plain.mag)[own]
        inside = dip[own] > 0
        ratio.append((difference[inside].mean() - difference[~inside].mean()) / dip.max())
    assert np.mean(ratio) == pytest.approx(1.0, abs=0.002)
    assert np.abs(np.array(ratio) - 1).max() < 0.02


def test_a_fold_knows_nothing_of_its_own_stars():
    """What a star does changes no bit of its own fold's fits, floors and errors included, at the fixed point and on the way."""
    night = Night(60, seed=5)
    host = int(np.argmax(np.bincount(night.star)))
    own = night.star == host
    wild = np.where(own, 0.3 * np.sin(np.arange(own.size)), 0.0)
    for n in (1, 3, 6):
        plain = night.iterate(night.observed, tolerance=0.0, max_iterations=n)
        changed = night.iterate(night.observed + np.where(night.frame == N_FRAME // 2, 0.0, wild), tolerance=0.0, max_iterations=n)
        k = night.fold[host]
        np.testing.assert_allclose(changed.fits.coeff[:, k, 1:], plain.fits.coeff[:, k, 1:], rtol=0, atol=1e-12)
        constant = changed.fits.coeff[:, k, 0] - plain.fits.coeff[:, k, 0]
        assert np.ptp(constant) < 1e-12, "its zero points may move together: magnitudes of all folds agree"


def test_ineligible_values_are_corrected_only():
    night = Night(100)
    eligible = np.ones(night.star.size, dtype=bool)
    eligible[night.star == 3] = False
    spoiled = np.where(eligible, night.observed, night.observed + 2)
    result, plain = night.iterate(spoiled, eligible=eligible), night.iterate(night.observed, eligible=eligible)
    np.testing.assert_array_equal(result.mag[eligible], plain.mag[eligible])
    np.testing.assert_allclose((result.mag - plain.mag)[~eligible], 2.0, atol=1e-12)
    assert result.mean.n[3] == 0


def test_few_stars_mean_few_terms():
    night = Night(12)
    result = night.iterate(night.observed)
    assert result.terms.sum(axis=1).max() == 1
    assert np.isfinite(result.mag).all()
    np.testing.assert_array_equal(result.fits.coeff[:, :, 1:], 0)


def test_reference_may_be_given():
    night = Night(80, noise=0.0)
    given = iterate(night.frame, night.star, night.observed, night.sigma, night.design, night.fold, start=night.mag, group=night.group)
    np.testing.assert_allclose(given.mag, night.mag[night.star], atol=1e-9)
    assert len(given.history) == 1


def test_unsorted_or_no_measurements_are_refused():
    with pytest.raises(ValueError, match="sorted by frame"):
        iterate([1, 0], [0, 0], [1.0, 1.0], [0.1, 0.1], np.ones((2, 1)), [0], start=0, group=[0])
    with pytest.raises(ValueError, match="at least one"):
        iterate([], [], [], [], np.ones((0, 1)), [0], start=0, group=[0])


def test_average_ignores_the_wild_and_the_unknown():
    rng = np.random.default_rng(1)
    mag = 12 + 0.01 * rng.normal(size=100)
    mag[:5] += 3
    mag[5] = np.nan
    mean = average(np.zeros(101, dtype=int), np.append(mag, 13.0), np.append(np.full(100, 0.01), np.inf), 2)
    assert mean.mag[0] == pytest.approx(12, abs=0.004)
    assert mean.scatter[0] == pytest.approx(0.01, rel=0.3)
    assert mean.err[0] == pytest.approx(0.001, rel=0.3)
    assert mean.n.tolist() == [99, 0]
    assert np.isnan([mean.mag[1], mean.err[1], mean.scatter[1]]).all()


def test_average_of_one_and_of_equal_values():
    mean = average([0, 1, 1, 1], [10.0, 11.0, 11.0, 11.0], [0.02, 0.01, 0.01, 0.01], 2)
    np.testing.assert_allclose(mean.mag, [10, 11])
    np.testing.assert_allclose(mean.err, [0.02, 0.01 / np.sqrt(3)])
    assert np.isnan(mean.scatter[0])
    assert mean.scatter[1] == 0


def test_weights_follow_the_errors():
    mean = average([0, 0], [10.0, 10.03], [0.01, 0.02], 1)
    assert 10.005 < mean.mag[0] < 10.0061


def test_settled_takes_out_a_common_shift():
    old = np.linspace(10, 12, 21)
    assert settled(old, old + 0.3) == pytest.approx(0, abs=1e-12)
    assert settled(old, np.full(21, np.nan)) == np.inf
    rough = old + 0.1 * np.where(np.arange(21) < 11, 0.0, np.arange(21))
    assert settled(old, rough, err=np.arange(21.0)) == 0
    assert settled(old, rough, err=-np.arange(21.0)) > 0.2


def test_reference_frame_is_the_best_that_is_usable():
    good, bad = np.array([2.0, 2.5, 3.0]), np.array([1.0, 1.2, 2.0])
    merits = {
        "fwhm": good, "sky_level": bad, "n_star": np.array([300, 250, 100]), "zero_point": np.array([22.0, 21.9, 21.0]),
        "airmass": bad, "zero_point_scatter": np.array([0.01, np.nan, 0.03]), "ellipticity": np.array([1.1, 1.1, 1.3]),
    }  # fmt: skip
    scores = frame_scores(merits)
    assert select_reference(scores["score"]) == 0
    assert select_reference(frame_scores(merits, [False, True, True])["score"], usable=[False, True, True]) == 1
    assert select_reference(scores["score"], usable=[False] * 3) == -1
    np.testing.assert_allclose(scores["n_star"], [1.0, 0.5, 0.0])
    np.testing.assert_allclose(scores["ellipticity"], [0.75, 0.75, 0.0])
    np.testing.assert_allclose(scores["zero_point_scatter"], [1.0, 0.5, 0.0])
    assert scores["score"][2] == 0.0


@pytest.mark.parametrize("n_seen", [60, 400])
def test_the_reference_settles_and_stays_where_no_data_hold_it(n_seen: int) -> None:
    """A polynomial in x and y may go from the reference into all frames' fits: the systems of the folds do not drift along it."""
    night = Night(n_seen, seed=n_seen)
    result = night.iterate(night.observed, tolerance=1e-6, max_iterations=20)
    again = night.iterate(night.observed, tolerance=1e-8, max_iterations=80)
    assert result.converged
    assert again.converged
    change = again.mag - result.mag
    change -= (np.bincount(night.star, change) / np.bincount(night.star))[night.star]
    assert np.median(np.abs(change)) < 1e-5, "the light curves are the same, but for a constant of each star"
    x, y = (np.bincount(night.star, night.design[:, k]) / np.bincount(night.star) for k in (1, 2))
    known = np.isfinite(again.mean.mag) & (np.bincount(night.star) == N_FRAME)
    place = np.stack([np.ones(x.size), x, y, x * x, x * y, y * y], axis=1)[known]
    drift = np.linalg.lstsq(place, (again.mean.mag - result.mean.mag)[known], rcond=None)[0]
    assert np.abs(drift[1:]).max() < 1e-4


def test_modes_that_no_data_hold_are_polynomials_on_the_sky() -> None:
    """Stars that drift over the detector and leave it: their mean places are no polynomials of where they are."""
    night = Night(200)
    rows = FitRows.prepare(night.frame, night.star, night.observed, night.sigma, night.design, night.fold)
    modes = free_modes(rows, np.ones(6, dtype=bool))
    places = np.stack([np.bincount(night.star, column) for column in night.design.T], axis=1) / np.bincount(night.star)[:, None]

    def left(values: np.ndarray) -> float:
        worst = 0.0
        for frame in range(0, N_FRAME, 7):
            terms, wanted = night.design[night.frame == frame], values[night.star[night.frame == frame]]
            worst = max(worst, np.abs(terms @ np.linalg.lstsq(terms, wanted, rcond=None)[0] - wanted).max())
        return worst

    assert left(modes) < 0.01 < 0.1 < left(places)
