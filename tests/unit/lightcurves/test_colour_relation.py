"""Zero points and colour terms against made-up stars of which all is known."""

from __future__ import annotations

import numpy as np
import pytest

from reduction.lightcurves.kernels.colour_relation import fit_relation


def stars(rng: np.random.Generator, n: int, *, excess: float, wild: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Differences with zero point 0.25 at colour 0.9 and slope -0.07; a part `wild` of them is off by half a magnitude."""
    colour = rng.normal(0.9, 0.4, n)
    error = rng.uniform(0.002, 0.03, n)
    difference = 0.25 - 0.07 * (colour - 0.9) + rng.normal(0.0, np.hypot(error, excess))
    off = rng.random(n) < wild
    return difference + np.where(off, rng.choice([-0.5, 0.8], n), 0.0), error, colour


@pytest.mark.parametrize(("n", "excess", "wild"), [(30, 0.0, 0.0), (60, 0.01, 0.1), (400, 0.02, 0.2)])
def test_errors_are_what_the_fit_is_off_by(n: int, excess: float, wild: float) -> None:
    rng = np.random.default_rng(n)
    pulls, slopes, found = [], [], []
    for _ in range(100):
        relation = fit_relation(*stars(rng, n, excess=excess, wild=wild))
        assert relation is not None
        at_middle = relation.zero_point + relation.colour_term * (0.9 - relation.pivot)
        error = np.hypot(relation.zero_point_err, relation.colour_term_err * (0.9 - relation.pivot))
        pulls.append((at_middle - 0.25) / error)
        slopes.append((relation.colour_term + 0.07) / relation.colour_term_err)
        found.append(relation.excess)
    for pull in (pulls, slopes):
        assert abs(np.mean(pull)) < 0.35
        assert 0.7 < np.std(pull) < 1.25
    assert np.median(found) == pytest.approx(excess, abs=max(0.002, 0.2 * excess))


def test_many_stars_give_the_terms_below_a_millimagnitude() -> None:
    relation = fit_relation(*stars(np.random.default_rng(3), 3000, excess=0.005, wild=0.1))
    assert relation is not None
    assert relation.zero_point + relation.colour_term * (0.9 - relation.pivot) == pytest.approx(0.25, abs=1e-3)
    assert relation.colour_term == pytest.approx(-0.07, abs=2e-3)
    assert relation.n_given == 3000 and 2650 < relation.n_star < 2760
    assert relation.colour_scatter == pytest.approx(0.4, abs=0.02)


def test_the_errors_of_zero_point_and_slope_are_independent() -> None:
    """Moved from its pivot, the relation is known less well on either side alike."""
    rng = np.random.default_rng(8)
    offs = []
    for _ in range(150):
        relation = fit_relation(*stars(rng, 40, excess=0.01, wild=0.0))
        assert relation is not None
        offs.append((relation.zero_point - (0.25 - 0.07 * (relation.pivot - 0.9)), relation.colour_term + 0.07))
    assert abs(np.corrcoef(np.array(offs).T)[0, 1]) < 0.25


def test_stars_without_colour_count_where_too_few_have_one() -> None:
    difference, error, colour = stars(np.random.default_rng(1), 40, excess=0.0, wild=0.0)
    colour[8:] = np.nan
    relation = fit_relation(difference, error, colour)
    assert relation is not None
    assert (relation.colour_term, relation.colour_term_err) == (0.0, 0.0)
    assert relation.n_star > 30
    assert relation.pivot == pytest.approx(np.median(colour[:8]))
    # The colours that nobody knew are in the scatter.
    assert relation.excess > 0.01


def test_stars_without_colour_do_not_count_where_enough_have_one() -> None:
    difference, error, colour = stars(np.random.default_rng(2), 60, excess=0.0, wild=0.0)
    difference[40:] += 0.3
    colour[40:] = np.nan
    relation = fit_relation(difference, error, colour)
    assert relation is not None
    assert not relation.used[40:].any() and relation.n_star >= 38
    assert relation.zero_point + relation.colour_term * (0.9 - relation.pivot) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_than_three_stars_say_nothing(n: int) -> None:
    assert fit_relation(np.zeros(n), np.full(n, 0.01), np.full(n, 0.5)) is None


def test_equal_differences_without_errors_are_a_zero_point() -> None:
    relation = fit_relation(np.full(5, 1.5), np.zeros(5), np.full(5, np.nan))
    assert relation is not None
    assert relation.zero_point == pytest.approx(1.5)
    assert relation.scatter == 0.0 and relation.excess == 0.0 and np.isnan(relation.pivot)
    assert 0.0 < relation.zero_point_err < 1e-4
