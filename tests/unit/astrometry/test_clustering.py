"""Clusters of detections against simulated truth."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from reduction.astrometry.kernels.clustering import Clusters, cluster_detections, match_sky

FloatArray = npt.NDArray[np.float64]
ARCSEC = 1.0 / 3600.0


def night(
    ra: FloatArray, dec: FloatArray, n_frames: int, *, scatter: float = 1.0, found: float = 0.9, noise: int = 0, seed: int = 0
) -> tuple[FloatArray, FloatArray, FloatArray, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """ra, dec, weight, frame and star (-1: noise) of detections scattered by `scatter` arcsec an axis."""
    rng = np.random.default_rng(seed)
    star, frame = (part.ravel() for part in np.meshgrid(np.arange(len(ra)), np.arange(n_frames), indexing="ij"))
    seen = rng.uniform(size=len(star)) < found
    star, frame = star[seen], frame[seen]
    a = ra[star] + rng.normal(0, scatter * ARCSEC, len(star)) / np.cos(np.radians(dec[star]))
    d = dec[star] + rng.normal(0, scatter * ARCSEC, len(star))
    extra = rng.uniform(-0.5, 0.5, (2, noise))
    a = np.concatenate([a, ra.mean() + extra[0] / np.cos(np.radians(dec.mean()))]) % 360.0
    d = np.concatenate([d, dec.mean() + extra[1]])
    frame = np.concatenate([frame, rng.integers(0, n_frames, noise)])
    return a, d, rng.uniform(10, 100, len(a)), frame, np.concatenate([star, np.full(noise, -1)])


def rules(found: Clusters, ra: FloatArray, dec: FloatArray, frame: npt.NDArray[np.int64], radius: float, min_frames: int) -> None:
    """What must hold of any input."""
    n = len(found.ra)
    assert found.label.shape == ra.shape
    assert found.label.max(initial=-1) < n
    members = found.label >= 0
    pairs = np.column_stack([found.label[members], frame[members]])
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    np.testing.assert_array_equal(np.bincount(found.label[members], minlength=n), found.n_frames)
    assert np.all(found.n_frames >= min_frames)
    assert np.all(np.diff(found.ra) >= 0)
    if members.any():
        centre = SkyCoord(found.ra, found.dec, unit="deg")[found.label[members]]
        away = centre.separation(SkyCoord(ra[members], dec[members], unit="deg")).arcsec
        assert away.max() <= radius * (1 + 1e-6)


def stars(n: int, ra0: float, dec0: float, seed: int = 5) -> tuple[FloatArray, FloatArray]:
    """Stars at least 30 arcsec apart on a jittered grid of 0.02 degree."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(n)))
    row, column = np.divmod(np.arange(n), side)
    eta = 0.02 * (row - side / 2) + rng.uniform(-0.005, 0.005, n)
    xi = 0.02 * (column - side / 2) + rng.uniform(-0.005, 0.005, n)
    return (ra0 + xi / np.cos(np.radians(dec0))) % 360.0, dec0 + eta


@pytest.mark.parametrize(("ra0", "dec0"), [(31.0, 46.7), (0.0, 0.0), (200.0, -85.0)])
def test_every_star_is_found_once(ra0: float, dec0: float) -> None:
    ra, dec = stars(100, ra0, dec0)
    a, d, weight, frame, star = night(ra, dec, 40, noise=300)
    found = cluster_detections(a, d, weight, frame, radius_arcsec=5.0)
    rules(found, a, d, frame, 5.0, 5)
    assert len(found.ra) == 100
    truth = SkyCoord(ra, dec, unit="deg")
    index, away, _ = SkyCoord(found.ra, found.dec, unit="deg").match_to_catalog_sky(truth)
    assert len(np.unique(index)) == 100
    assert away.arcsec.max() < 1.0
    mine = found.label >= 0
    assert np.mean(index[found.label[mine]] == star[mine]) > 0.998
    assert np.mean(mine[star >= 0]) > 0.998


def test_pole_and_input_order() -> None:
    ra, dec = np.array([0.0, 90.0, 180.0, 359.99]), np.array([89.995, 89.99, 89.9995, 89.9])
    a, d, weight, frame, _ = night(ra, np.minimum(dec, 89.999), 30, noise=0)
    found = cluster_detections(a, d, weight, frame, radius_arcsec=5.0)
    rules(found, a, d, frame, 5.0, 5)
    assert len(found.ra) == 4
    shuffled = np.random.default_rng(1).permutation(len(a))
    again = cluster_detections(a[shuffled], d[shuffled], weight[shuffled], frame[shuffled], radius_arcsec=5.0)
    np.testing.assert_array_equal(again.ra, found.ra)
    np.testing.assert_array_equal(again.dec, found.dec)
    np.testing.assert_array_equal(again.label, found.label[shuffled])


def test_close_pairs_are_two_sources_if_wider_than_the_radius() -> None:
    for apart, expected in ((9.0, 2), (7.0, 2), (2.0, 1)):
        ra, dec = np.array([31.0, 31.0]), np.array([46.0, 46.0 + apart * ARCSEC])
        a, d, weight, frame, star = night(ra, dec, 50, scatter=0.5)
        found = cluster_detections(a, d, weight, frame, radius_arcsec=5.0)
        rules(found, a, d, frame, 5.0, 5)
        assert len(found.ra) == expected
        if expected == 2:
            by_dec = np.argsort(found.dec)
            mine = found.label >= 0
            assert mine.mean() > 0.97
            np.testing.assert_array_equal(np.argsort(by_dec)[found.label[mine]], star[mine])


def test_a_chain_of_stars_is_not_one_source() -> None:
    ra, dec = np.full(12, 31.0), 46.0 + 6.0 * ARCSEC * np.arange(12)
    a, d, weight, frame, _ = night(ra, dec, 60, scatter=0.7)
    found = cluster_detections(a, d, weight, frame, radius_arcsec=3.0)
    rules(found, a, d, frame, 3.0, 5)
    assert len(found.ra) == 12
    np.testing.assert_allclose(np.sort(found.dec), dec, atol=0.5 * ARCSEC)


def test_too_few_frames_is_no_source() -> None:
    a, d = np.full(8, 10.0), np.full(8, -20.0)
    frame = np.array([0, 1, 2, 3, 3, 3, 3, 3])
    assert len(cluster_detections(a, d, np.ones(8), frame, radius_arcsec=3.0).ra) == 0
    frame[7] = 4
    found = cluster_detections(a, d, np.ones(8), frame, radius_arcsec=3.0)
    np.testing.assert_array_equal(found.n_frames, [5])
    assert np.count_nonzero(found.label >= 0) == 5


def test_mean_is_weighted_and_nothing_is_nothing() -> None:
    d = np.array([0.0, 1.0, 0.0, 1.0, 0.0]) * ARCSEC
    found = cluster_detections(np.full(5, 5.0), d, np.array([3.0, 1.0, 3.0, 1.0, 2.0]), np.arange(5), radius_arcsec=2.0)
    assert found.dec[0] == pytest.approx(0.2 * ARCSEC, abs=1e-12)
    unweighted = cluster_detections(np.full(5, 5.0), d, np.zeros(5), np.arange(5), radius_arcsec=2.0)
    assert unweighted.dec[0] == pytest.approx(0.4 * ARCSEC, abs=1e-12)
    empty = cluster_detections(np.array([np.nan]), np.array([0.0]), np.ones(1), np.zeros(1, np.int64), radius_arcsec=2.0)
    assert len(empty.ra) == 0
    np.testing.assert_array_equal(empty.label, [-1])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 8)), min_size=1, max_size=80), st.integers(1, 5), st.randoms()
)
def test_rules_hold_for_any_crowd(points: list[tuple[int, int, int]], min_frames: int, random: np.random.Generator) -> None:
    grid = np.array(points, dtype=np.float64)
    # distinct positions, or which of two equal ones is the member would be a matter of taste
    wiggle = 1e-3 * np.arange(len(grid))
    a, d, frame = 120.0 + (grid[:, 0] + wiggle) * ARCSEC, 5.0 + (grid[:, 1] - wiggle) * ARCSEC, grid[:, 2].astype(np.int64)
    found = cluster_detections(a, d, np.ones(len(a)), frame, radius_arcsec=2.5, min_frames=min_frames)
    rules(found, a, d, frame, 2.5, min_frames)
    order = list(range(len(a)))
    random.shuffle(order)  # type: ignore[arg-type]
    again = cluster_detections(a[order], d[order], np.ones(len(a)), frame[order], radius_arcsec=2.5, min_frames=min_frames)
    np.testing.assert_array_equal(again.label, found.label[order])


def test_match_sky() -> None:
    ra, dec = np.array([0.0001, 359.9999, 10.0, np.nan, 50.0]), np.array([0.0, 0.0, 89.9999, 0.0, 50.0])
    source_ra, source_dec = np.array([np.nan, 359.9998, 190.0, 50.0]), np.array([0.0, 0.0, 89.9999, 50.002])
    np.testing.assert_array_equal(match_sky(ra, dec, source_ra, source_dec, 2.0), [1, 1, 2, -1, -1])
    np.testing.assert_array_equal(match_sky(ra, dec, source_ra, source_dec, 0.5), [-1, 1, -1, -1, -1])
    assert len(match_sky(ra[:0], dec[:0], source_ra, source_dec, 2.0)) == 0
    np.testing.assert_array_equal(match_sky(ra, dec, source_ra[:0], source_dec[:0], 2.0), np.full(5, -1))
