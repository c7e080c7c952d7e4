"""Kernels at the least and the largest value that a configuration may give them: no warning, and a result that still means something."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from reduction.astrometry.kernels.detection import extract
from reduction.calibration.kernels.master_frames import dead_pixels, hot_pixels
from reduction.calibration.kernels.stack import MasterImage, clipped_mean, outlier_images
from reduction.photometry.kernels.background import background
from reduction.pipeline.order import STEPS

SHAPE = (96, 130)
RNG = np.random.default_rng(20)
SKY = RNG.normal(100.0, 2.0, SHAPE).astype(np.float32)
VARIANCE = np.full(SHAPE, 4.0, np.float32)
GOOD = np.zeros(SHAPE, np.uint8)


def limits(step: str, name: str) -> list[Any]:
    """Least and largest value of a parameter; where the limit itself is not allowed, the value next to it."""
    field = STEPS[step].parameters.__dataclass_fields__[name]
    bounds, kind = field.metadata["bounds"], type(getattr(STEPS[step].parameters(), name))
    low = bounds.least if bounds.least is not None else math.nextafter(bounds.above, math.inf)
    return [kind(low), kind(bounds.most if bounds.most is not None else math.nextafter(bounds.below, -math.inf))]


@pytest.mark.parametrize("step", ["bias", "dark", "large_scale_flat", "flat", "fixed_pattern"])
@pytest.mark.parametrize("n", [2, 3, 16])
def test_clipping_leaves_a_mean(step: str, n: int) -> None:
    cube = np.random.default_rng(1).normal(100.0, 2.0, (n, 20, 30)).astype(np.float32)
    for clip in limits(step, "clip"):
        stack = clipped_mean(cube, sigma=clip, noise=2.0)
        assert stack.count.min() > 0 and np.isfinite(stack.variance).all()
        assert abs(float(stack.value.mean()) - 100.0) < 0.5


@pytest.mark.parametrize("step", ["bias", "dark"])
def test_of_like_images_most_are_kept(step: str) -> None:
    rng = np.random.default_rng(2)
    level, noise = rng.normal(100.0, 0.1, 20), rng.normal(5.0, 0.1, 20)
    for outlier in limits(step, "outlier"):
        assert sum(not reason for reason in outlier_images(level, noise, sigma=outlier)) > 5


def test_few_good_pixels_are_hot_or_dead() -> None:
    master = MasterImage(SKY, VARIANCE, GOOD, np.full(SHAPE, 9, np.int16))
    for hot in limits("dark", "hot"):
        assert float(hot_pixels(master, sigma=hot).mean()) < 0.02
    assert not dead_pixels(master, fraction=limits("flat", "dead")[0]).any()
    assert float(dead_pixels(master, fraction=limits("flat", "dead")[1]).mean()) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("name", ["box", "smooth", "clip"])
def test_the_sky_is_found(name: str) -> None:
    for value in limits("background", name):
        found = background(SKY, VARIANCE, np.zeros(SHAPE, np.bool_), **{name: value}).image(SHAPE)
        assert np.abs(found - 100.0).max() < 2.0


def test_detection_ends() -> None:
    for threshold in limits("detect", "threshold"):
        for min_area in limits("detect", "min_area"):
            found = extract(SKY, VARIANCE, GOOD, threshold=threshold, min_area=min_area)
            assert np.isfinite(found.x).all() and (threshold < 2 or len(found) == 0)
