"""Trailed frames: one detection a trail, in its middle, and the length that was drawn."""

from __future__ import annotations

import galsim
import numpy as np
import pytest
from scipy.spatial import cKDTree

from reduction.astrometry.kernels.detection import Detections, extract
from reduction.astrometry.kernels.trailing import trailing


def trailed_frame(length: float, angle: float, seed: int = 3) -> tuple[Detections, np.ndarray]:
    """Detections on a frame of 49 trails, and the middles of the trails."""
    rng = np.random.default_rng(seed)
    pitch, n = 70, 7
    star = galsim.Gaussian(fwhm=2.7)
    trail = galsim.Convolve(star, galsim.Box(length, 0.01).rotate(angle * galsim.degrees)) if length else star
    image = galsim.ImageD(n * pitch, n * pitch, xmin=0, ymin=0)
    places = np.stack(np.meshgrid(np.arange(n), np.arange(n)), axis=-1).reshape(-1, 2) * pitch + 35.0 + rng.uniform(-8, 8, (n * n, 2))
    for x, y in places:
        box = galsim.BoundsI(int(x) - 26, int(x) + 26, int(y) - 26, int(y) + 26)
        flux = (30.0 + length) * 100.0 * np.exp(rng.uniform(0.0, 2.0))
        trail.withFlux(flux).drawImage(image=image[box], center=galsim.PositionD(x, y), scale=1.0, add_to_image=True)
    variance = image.array / 2.0 + 54.0
    data = rng.normal(image.array + 100.0, np.sqrt(variance))
    return extract(data, np.maximum(data, 0.0) / 2.0 + 4.0, np.zeros(data.shape, np.uint8), threshold=4.0), places


@pytest.mark.parametrize(("length", "angle"), [(6.0, -40.0), (15.0, 80.0), (30.0, 25.0)])
def test_a_trail_is_one_star_in_its_middle(length: float, angle: float) -> None:
    found, places = trailed_frame(length, angle)
    distance, index = cKDTree(np.column_stack([found.x, found.y])).query(places)
    assert len(found) == len(np.unique(index)) == len(places)
    assert np.median(distance) < 0.15
    assert distance.max() < 1.5
    pull = (np.column_stack([found.x, found.y])[index] - places) / np.column_stack([found.x_err, found.y_err])[index]
    assert 1.48 * np.median(np.abs(pull)) == pytest.approx(1.0, abs=0.35)
    result = trailing(found)
    assert result.trailed
    assert result.length == pytest.approx(length, rel=0.03)
    assert np.degrees(result.theta) == pytest.approx(angle, abs=2.0)


def test_round_stars_are_not_trailed() -> None:
    found, _ = trailed_frame(0.0, 0.0)
    result = trailing(found)
    assert not result.trailed
    assert result.elongation < 1.2
    assert result.n_star > 20


def test_without_stars_nothing_is_said() -> None:
    found, _ = trailed_frame(6.0, 0.0)
    result = trailing(found.take(np.zeros(0, np.int64)))
    assert result.n_star == 0
    assert np.isnan(result.length)
    assert not result.trailed


def test_stars_drawn_out_every_way_are_no_trail() -> None:
    parts = [trailed_frame(10.0, angle, seed)[0] for seed, angle in enumerate((0.0, 45.0, 90.0, 135.0))]
    joined = Detections(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in Detections.__dataclass_fields__})
    result = trailing(joined)
    assert result.elongation > 2.0
    assert result.coherence < 0.2
    assert not result.trailed
