"""Terms chosen on held-out stars: what was put in is chosen, noise is not, few stars give few terms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from reduction.lightcurves.kernels import term_choice
from reduction.lightcurves.kernels.term_choice import Sample, TermChoice, choose_by_held_out, sampled

FURTHER = ("colour", "colour_x", "mag", "airmass_colour", "sin_x")
POSITION = [(i, d - i) for d in range(5) for i in range(d, -1, -1)]
NAMES = (*(f"x{i}y{j}" for i, j in POSITION), *FURTHER)
DEGREE = np.array([i + j for i, j in POSITION] + [-1] * len(FURTHER))


def simulated(n_star: int, n_frame: int, effects: dict[str, float], seed: int = 1, wild: float = 0.02) -> Sample:
    """Frames on which named terms have coefficients that scatter by so many magnitudes from frame to frame."""
    rng = np.random.default_rng(seed)
    x, y, colour, mag = rng.uniform(-1, 1, (4, n_star))
    frame, star = np.repeat(np.arange(n_frame), n_star), np.tile(np.arange(n_star), n_frame)
    airmass, phase = rng.uniform(-0.2, 0.4, n_frame)[frame], rng.uniform(0, 2 * np.pi, n_frame)[frame]
    X, Y, c = x[star], y[star], colour[star]
    further = [c, c * X, mag[star], airmass * c, np.sin(3000 * X + phase)]
    design = np.stack([*(X**i * Y**j for i, j in POSITION), *further], axis=1)
    coefficients = np.zeros((n_frame, len(NAMES)))
    coefficients[:, 0] = rng.normal(0, 0.1, n_frame)
    for name, size in effects.items():
        coefficients[:, NAMES.index(name)] = rng.normal(0, size, n_frame)
    sigma = 10 ** rng.uniform(-2.7, -1.7, n_star)[star]
    observed = 12 + mag[star] + (design * coefficients[frame]).sum(axis=1) + np.hypot(sigma, 0.003) * rng.normal(size=star.size)
    observed[rng.random(star.size) < wild] += 0.3
    fold, ends = rng.integers(0, 5, n_star), np.arange(n_frame + 1) * n_star
    variance = np.full(n_star, 1e-8)
    return Sample(ends, observed, sigma, star, 12 + mag, variance, design, fold, np.ones(star.size, dtype=bool))


def chosen(sample: Sample, **options: Any) -> tuple[int, set[str], TermChoice]:
    """Order and further terms of the choice."""
    choice = choose_by_held_out(sample, NAMES, DEGREE, **options)
    return int(DEGREE[choice.terms].max()), {NAMES[k] for k in np.flatnonzero(choice.terms & (DEGREE < 0))}, choice


@pytest.mark.parametrize(
    ("effects", "order", "further"),
    [
        ({}, 0, set()),
        ({"x1y0": 0.02, "x0y1": 0.01}, 1, set()),
        ({"x1y0": 0.02, "x2y0": 0.01}, 2, set()),
        ({"x1y1": 0.01, "colour": 0.01}, 2, {"colour"}),
        ({"x3y0": 0.01}, 3, set()),
        ({"x2y2": 0.1, "sin_x": 0.01}, 4, {"sin_x"}),
        ({"x2y0": 0.01, "colour": 0.01, "airmass_colour": 0.05}, 2, {"colour", "airmass_colour"}),
    ],
)
def test_what_was_put_in_is_chosen(effects: dict[str, float], order: int, further: set[str]):
    found = chosen(simulated(400, 6, effects))
    # A term in airmass and colour may stand for one in colour on a frame, and the other way round.
    assert found[0] == order
    assert found[1] == further or (found[1] | {"airmass_colour"} == further | {"airmass_colour"} and "colour" in found[1] & further)


def test_noise_gets_hardly_any_term():
    extra = [np.count_nonzero(chosen(simulated(100, 3, {}, seed))[2].terms) - 1 for seed in range(60)]
    assert np.count_nonzero(extra) <= 12
    assert np.mean(extra) < 0.4


@pytest.mark.parametrize(("n_star", "most"), [(4, 1), (9, 1), (14, 2), (20, 4), (31, 6)])
def test_few_stars_get_few_terms(n_star: int, most: int):
    _, _, choice = chosen(simulated(n_star, 20, {"x1y0": 0.05, "x2y0": 0.05, "x4y0": 0.05, "colour": 0.05}, wild=0.0))
    assert 1 <= np.count_nonzero(choice.terms) <= most
    untried = [score for score in choice.scores if np.isnan(score.score)]
    assert untried
    assert all(not score.chosen and score.n_term * 5 > n_star for score in untried)


def test_nothing_to_go_by_leaves_the_constant():
    sample = simulated(30, 2, {})
    nothing = Sample(**{**vars(sample), "eligible": np.zeros(sample.mag.size, dtype=bool)})
    choice = choose_by_held_out(nothing, NAMES, DEGREE)
    assert np.flatnonzero(choice.terms).tolist() == [0]
    assert all(np.isnan(score.score) for score in choice.scores)


def test_scores_say_what_was_tried():
    _, _, choice = chosen(simulated(400, 6, {"x2y0": 0.02, "colour": 0.02}))
    names = [score.name for score in choice.scores]
    assert names == [*(f"order {k}" for k in range(5)), *(f"+ {name}" for name in FURTHER)]
    assert [score.n_term for score in choice.scores[:5]] == [1, 3, 6, 10, 15]
    assert [score.name for score in choice.scores if score.chosen] == ["order 2", "+ colour"]
    with_colour = choice.scores[5]
    assert with_colour.gain > 5 * with_colour.gain_err > 0
    assert with_colour.score == pytest.approx(choice.scores[2].score - with_colour.gain, rel=1e-9)
    # Better measured half of the stars: 3 mmag and half of the errors that were put in.
    assert 0.003 < with_colour.scatter < 0.007
    assert choice.scores[0].scatter > with_colour.scatter


def test_gains_of_one_star_on_many_frames_are_one_gain():
    values, group = np.tile([1.0, -1.0, 0.5, -0.5], 100), np.tile(np.arange(4), 100)
    alike = term_choice._error_of_mean(values, group)
    assert alike == pytest.approx(np.std(values[:4], ddof=1) / 2)
    apart = term_choice._error_of_mean(values, np.arange(values.size))
    assert apart == pytest.approx(np.std(values, ddof=1) / 20)
    assert term_choice._error_of_mean(values, np.zeros(400, dtype=int)) == 0.0


@pytest.mark.parametrize(("n_frame", "most", "expected"), [(10, 1000, 10), (10, 450, 4), (10, 1, 1), (1, 5, 1)])
def test_a_sample_is_spread_and_bounded(n_frame: int, most: int, expected: int):
    frames = sampled(np.arange(n_frame + 1) * 100, most)
    assert frames.size == expected
    assert frames.size == 1 or np.ptp(np.diff(frames)) <= 1
    assert 0 <= frames.min() <= frames.max() < n_frame


def test_what_is_given_is_not_tried():
    sample = simulated(400, 6, {"x2y0": 0.02, "colour": 0.02})
    given = np.array([name == "mag" for name in NAMES])
    order, further, choice = chosen(sample, orders=[1], given=given)
    assert (order, further) == (1, {"colour", "mag"})
    assert [score.name for score in choice.scores] == ["order 1", *(f"+ {name}" for name in FURTHER if name != "mag")]
    _, _, choice = chosen(sample, given=DEGREE < 0)
    assert [score.name for score in choice.scores] == [f"order {k}" for k in range(5)]
    assert choice.terms[DEGREE < 0].all()


def test_an_order_alone_is_taken_even_where_stars_are_too_few_to_try_it():
    _, _, choice = chosen(simulated(9, 4, {}), orders=[2])
    assert DEGREE[choice.terms].max() == 2
    assert np.isnan(choice.scores[0].score)


def test_a_term_has_to_gain_as_many_errors_as_are_asked_for():
    sample = simulated(400, 6, {"colour": 0.004})
    _, _, choice = chosen(sample)
    gained = next(score for score in choice.scores if score.name == "+ colour")
    certain = gained.gain / gained.gain_err
    assert certain > 3
    for errors, expected in ((0.9 * certain, True), (1.1 * certain, False)):
        assert ("colour" in chosen(sample, term_errors=np.full(len(NAMES), errors))[1]) == expected
