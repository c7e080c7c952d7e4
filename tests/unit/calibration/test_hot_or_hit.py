"""What repeats at a pixel from frame to frame is hot; what is on one frame alone was hit."""

from __future__ import annotations

import numpy as np
import pytest

from db.flags import Mask
from reduction.calibration.kernels.calibration import Plane
from reduction.calibration.kernels.cosmic_rays import cosmic_rays
from reduction.calibration.kernels.hot_or_hit import MOST_HIT, elsewhere, hit_fraction, mark_hot_or_hit

SIZE, NOISE = 200, 6.0
HOT, COSMIC = int(Mask.HOT), int(Mask.COSMIC)


def plane(seed: int, pattern: np.ndarray | float, *, n_hit: int = 0) -> tuple[Plane, np.ndarray]:
    """A sky of 40 ADU with a pattern, and hits of 4,000 ADU."""
    generator = np.random.default_rng(seed)
    value = 40.0 + pattern + generator.normal(0, NOISE, (SIZE, SIZE))
    hits = np.zeros((SIZE, SIZE), np.bool_)
    hits.flat[generator.choice(SIZE**2, n_hit, replace=False)] = True
    value[hits] += 4000.0
    empty = np.zeros((SIZE, SIZE), np.uint8)
    return Plane(value.astype(np.float32), np.full((SIZE, SIZE), NOISE**2, np.float32), empty), hits


@pytest.fixture(scope="module")
def pattern() -> np.ndarray:
    return np.random.default_rng(1).exponential(90.0, (SIZE, SIZE))


@pytest.mark.parametrize("n_other", [1, 2, 4])
def test_a_pattern_is_told_from_hits_by_other_frames(pattern: np.ndarray, n_other: int) -> None:
    own, planted = plane(2, pattern, n_hit=40)
    others = [plane(10 + number, pattern, n_hit=40)[0] for number in range(n_other)]
    hits = cosmic_rays(own, threshold=6.0)
    assert hit_fraction(own, hits) > 0.1
    found, doubt = mark_hot_or_hit(own, hits, others, threshold=6.0)
    cosmic = (found.mask & COSMIC) != 0
    assert np.count_nonzero(cosmic & planted) >= 36
    assert np.count_nonzero(cosmic & ~planted) <= 4
    assert np.count_nonzero(found.mask & HOT) < MOST_HIT * SIZE**2
    assert "repeat on other frames, a pattern of hot pixels" in doubt
    # The pattern is noise to whoever looks for stars: its scatter about the middle is 64 ADU.
    assert np.sqrt(np.median(found.variance)) == pytest.approx(64.0, rel=0.15)


def test_one_frame_alone_has_a_pattern_perhaps(pattern: np.ndarray) -> None:
    own, planted = plane(2, pattern, n_hit=40)
    found, doubt = mark_hot_or_hit(own, cosmic_rays(own, threshold=6.0), [], threshold=6.0)
    assert np.count_nonzero(found.mask) < MOST_HIT * SIZE**2
    assert np.count_nonzero((found.mask & COSMIC != 0) & planted) >= 36
    assert "more than 1% is not believed" in doubt


def test_many_hits_that_no_other_frame_has_are_hits() -> None:
    own, planted = plane(2, 0.0, n_hit=900)
    hits = cosmic_rays(own, threshold=6.0)
    assert hit_fraction(own, hits) > MOST_HIT
    found, doubt = mark_hot_or_hit(own, hits, [plane(10 + number, 0.0)[0] for number in range(3)], threshold=6.0)
    assert np.count_nonzero(hits & planted) > 600
    assert np.array_equal((found.mask & COSMIC != 0) & planted, hits & planted)
    assert "of them repeat on other frames" in doubt and "though only" in doubt
    assert np.array_equal(found.variance, own.variance)


def test_what_no_other_frame_knows_is_nothing() -> None:
    own, _ = plane(2, 0.0)
    marked = np.zeros((SIZE, SIZE), np.bool_)
    marked[50, 60:62] = True
    other, _ = plane(3, 0.0)
    other.value[50, 60:62] = 1000.0
    other.mask[50, 61] = int(Mask.NO_DATA)
    found = elsewhere(marked, [other])
    assert found[50, 60] == pytest.approx(960.0, abs=10)
    assert np.count_nonzero(found) == 1
    assert not elsewhere(marked, []).any()
    dead = Plane(own.value, own.variance, np.full((SIZE, SIZE), int(Mask.NO_DATA), np.uint8))
    assert not elsewhere(marked, [dead]).any()
    assert hit_fraction(dead, marked) == 0.0
    assert mark_hot_or_hit(dead, marked, [], threshold=6.0)[0] is dead
