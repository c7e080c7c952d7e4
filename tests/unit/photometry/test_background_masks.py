"""What hides the sky: stars by their brightness, wings, trails of charge; and rings about single sources."""

from __future__ import annotations

import numpy as np
import pytest

from reduction.photometry.kernels.annulus import annulus_background, significance
from reduction.photometry.kernels.background import background
from reduction.photometry.kernels.covering import Catalogued, Detected, lights, moffat_radius
from reduction.photometry.kernels.object_mask import trail_tails
from reduction.photometry.kernels.wings import WingStars, measure_wings, wing_reach

SHAPE = (200, 240)


def detected(flux: list[float], *, saturated: tuple[int, ...] = ()) -> Detected:
    """Detections in a row, 20 pixels apart."""
    x = 20.0 + 20.0 * np.arange(len(flux))
    full = np.isin(np.arange(len(flux)), saturated)
    return Detected(x, np.full(len(flux), 50.0), np.array(flux), np.ones(len(flux)), 0.1 * np.array(flux), full)


def test_catalogued_stars_have_the_light_that_their_magnitudes_say() -> None:
    found = detected([1000.0, 2000.0, 4000.0, 500.0], saturated=(3,))
    mag = 20.0 - 2.5 * np.log10(np.array([1000.0, 2000.0, 4000.0, 90_000.0, 300.0]))
    known = Catalogued(np.append(found.x, [150.0]) + 0.5, np.full(5, 50.0), mag)
    stars = lights(found, known, 3.0)
    assert stars.flux.tolist() == pytest.approx([1000, 2000, 4000, 90_000, 300], rel=1e-6)
    assert stars.peak.tolist() == pytest.approx([100, 200, 400, 9000, 30], rel=1e-6)
    assert stars.detected.tolist() == [True] * 4 + [False] and stars.known.all()
    assert stars.x[4] == 150.5 and stars.saturated.tolist() == [False] * 3 + [True, False]


def test_without_a_zero_point_nothing_is_made_up() -> None:
    stars = lights(
        detected([1000.0, 2000.0]), Catalogued(np.array([20.0, 90.0, np.nan]), np.array([50.0, 90.0, 1.0]), np.full(3, 12.0)), 3.0
    )
    assert stars.flux[:2].tolist() == [1000.0, 2000.0] and np.isnan(stars.flux[2]) and len(stars.x) == 3
    assert stars.known.tolist() == [True, False, True]
    # Of unknown brightness: the least radius.
    assert stars.radius(1.0, 3.0, 0.1, 2.0, 12.0)[2] == 6.0


def test_masks_grow_with_brightness_and_faint_stars_hide_nothing() -> None:
    stars = lights(detected([1e3, 1e5, 1e7, 1e9]), Catalogued(np.array([150.0]), np.array([90.0]), np.array([30.0])), 3.0)
    radius = stars.radius(10.0, 3.0, 0.1, 2.0, 12.0)
    assert 6.0 <= radius[0] < radius[1] < radius[2] <= radius[3] == 36.0
    faint = lights(
        detected([1e3] * 4),
        Catalogued(np.append(20.0 + 20.0 * np.arange(4), 150.0), np.append([50.0] * 4, 90.0), np.array([10.0] * 4 + [15.0])),
        3.0,
    )
    assert faint.flux[4] == pytest.approx(10.0) and faint.radius(10.0, 3.0, 0.1, 2.0, 12.0)[4] < 2.0
    assert moffat_radius(np.array([0.5, 1.0, np.nan, (1 + 1 / 0.885**2) ** 2.5])).tolist() == pytest.approx([0, 0, 0, 1.0])


def test_the_profile_of_wings_is_found_and_the_level_of_the_sky_left_alone() -> None:
    rng = np.random.default_rng(401)
    x, y = rng.uniform(20, 220, 12), rng.uniform(20, 180, 12)
    flux = rng.uniform(2e5, 6e5, 12)
    rows, columns = np.indices(SHAPE)
    wing = np.zeros(SHAPE)
    hidden = np.zeros(SHAPE, bool)
    for star_x, star_y, star_flux in zip(x, y, flux, strict=True):
        r2 = ((columns - star_x) ** 2 + (rows - star_y) ** 2) / 9.0
        wing += 0.3 * star_flux / 9.0 * np.maximum(r2, 1.0) ** (-11 / 6)
        hidden |= r2 < 16.0
    data = (100.0 + wing + rng.normal(0, 5, SHAPE)).astype(np.float32)
    stars = WingStars(x, y, flux, wing_reach(flux, 3.0, 0.1), np.zeros(12, bool))
    variance = np.full(SHAPE, 25.0, np.float32)
    with_wings = background(data, variance, hidden, stars=stars, fwhm=3.0)
    without = background(data, variance, hidden)
    # The level without wings is 100 to 0.2 of the noise; the mean of what was taken off is the mean of what there was.
    assert with_wings.value.mean(dtype=float) == pytest.approx(100.0, abs=1.0)
    assert without.value.mean(dtype=float) > 102.0
    assert with_wings.wing == pytest.approx(float(wing[~hidden].mean()), rel=0.25)
    assert (with_wings.error > 0).all() and with_wings.error.mean() < 0.5 * without.error.mean()


def test_a_saturated_stars_flux_is_that_of_its_wing() -> None:
    rng = np.random.default_rng(402)
    rows, columns = np.indices(SHAPE)
    places = [(60.0, 60.0, 4e5), (180.0, 140.0, 4e5), (60.0, 140.0, 4e5), (180.0, 60.0, 4e5)]
    data, hidden = rng.normal(100.0, 3.0, SHAPE), np.zeros(SHAPE, bool)
    for x, y, flux in places:
        r2 = ((columns - x) ** 2 + (rows - y) ** 2) / 9.0
        data += 0.3 * flux / 9.0 * np.maximum(r2, 1.0) ** (-11 / 6)
        hidden |= r2 < 9.0
    table = np.array(places).T
    said = np.array([1.0, 1.0, 1.0, 0.3]) * table[2]
    last = np.array([False, False, False, True])
    off = []
    for saturated in (last, ~last & False):
        stars = WingStars(table[0], table[1], said, wing_reach(table[2], 3.0, 0.05), saturated)
        sky = background(data.astype(np.float32), np.full(SHAPE, 9.0, np.float32), hidden, stars=stars, fwhm=3.0)
        off.append(float(np.abs(sky.at([180.0], [60.0])[0] - 100.0)[0]))
    assert off[0] < 0.75 < 1.5 < off[1]


def test_no_stars_have_no_wings() -> None:
    nothing = np.zeros(0)
    grid = np.ones((2, 2, 6))
    stars = WingStars(nothing, nothing, nothing, nothing, np.zeros(0, bool))
    data, hidden = np.zeros((64, 64), np.float32), np.zeros((64, 64), bool)
    found = measure_wings(data, hidden, grid, stars, fwhm=3.0, box=32, clip=3.0, least_unit=0.0)
    assert not found.level.any() and not found.error.any() and found.n_star == 0
    assert wing_reach(np.array([0.0, -5.0, np.nan, 1e30]), 2.0, 1.0).tolist() == pytest.approx([0, 0, 0, 2 * 1.5**10])


@pytest.mark.parametrize("turned", [False, True])
def test_a_tail_is_followed_until_it_does_not_stand_out(turned: bool) -> None:
    rng = np.random.default_rng(403)
    data = rng.normal(100.0, 5.0, SHAPE)
    spilled = np.zeros(SHAPE, bool)
    spilled[80:120, 100] = True
    data[spilled] = 9000.0
    data[120:176, 100] += 25.0
    spilled[20:24, 30] = True  # a saturated star, no trail
    data[24:60, 30] += 25.0
    if turned:
        data, spilled = data.T, spilled.T
    tails = trail_tails(data.astype(np.float32), spilled, 5.0)
    tails = tails.T if turned else tails
    assert tails[120:174, 99:102].all()
    assert not tails[196:].any() and not tails[:, :90].any() and not tails[:, 110:].any() and not tails[:50].any()


def test_ring_and_its_error() -> None:
    rng = np.random.default_rng(404)
    pulls, y, x = [], *(a.ravel() for a in np.mgrid[20:190:30.0, 20:230:30.0])
    for _ in range(6):
        data = rng.normal(50.0, 4.0, SHAPE).astype(np.float32)
        hidden = rng.random(SHAPE) < 0.3
        data[hidden] = 500.0
        rings = annulus_background(data, hidden, x, y, inner=5.0, outer=12.0)
        pulls.append((rings.value - 50.0) / rings.error)
        assert rings.noise == pytest.approx(np.full(x.size, 4.0), rel=0.25)
        assert (np.abs(rings.n_pixel - 0.7 * np.pi * (144 - 25)) < 60).all()
    assert np.sqrt(np.mean(np.square(pulls))) == pytest.approx(1.0, abs=0.12)


def test_rings_at_the_edge_without_sky_and_nowhere() -> None:
    data = np.full(SHAPE, 7.0, np.float32)
    data[100:, :] = np.nan
    hidden = np.zeros(SHAPE, bool)
    hidden[:60] = True
    rings = annulus_background(data, hidden, [0.0, 100.0, 100.0, np.nan], [80.0, 20.0, 150.0, 80.0], inner=2.0, outer=10.0, quantum=1.0)
    assert rings.value[0] == 7.0 and 0 < rings.error[0] < 0.01 and np.isnan(rings.value[1:]).all()
    assert rings.n_pixel[1:].tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="shape"):
        annulus_background(data, hidden[1:], [1.0], [1.0], inner=1.0, outer=2.0)
    with pytest.raises(ValueError, match="inner"):
        annulus_background(data, hidden, [1.0], [1.0], inner=3.0, outer=2.0)


def test_what_stands_out_of_its_ring() -> None:
    rng = np.random.default_rng(405)
    data = rng.normal(100.0, 2.0, SHAPE).astype(np.float32)
    data[98:103, 118:123] += 4.0
    x, y = np.append(120.0, rng.uniform(20, 80, 400)), np.append(100.0, rng.uniform(20, 180, 400))
    rings = annulus_background(data, np.zeros(SHAPE, bool), x, y, inner=6.0, outer=15.0)
    found = significance(data, x, y, rings, 2.5)
    assert found[0] > 6.0
    assert np.std(found[1:]) == pytest.approx(1.0, abs=0.15) and np.abs(found[1:]).max() < 5.0
