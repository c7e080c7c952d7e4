"""Frames whose headers are wrong where it hurts: exposure times of 0 s, planets of a tenth of a second; and cameras that are new."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from other_cameras import ALL_SKY, WARM
from simulated_frames import Camera, nights, partial_plans, plans

from reduction.frames.kernels.classification import FrameStatistics, HeaderEvidence, classify_set, frame_statistics

SHAPE = (200, 240)
Y, X = np.indices(SHAPE)
MASTERS = ("bias", "dark", "flat")


def image(seed: int, light: float, *, level: float = 1000.0, stars: int = 0, drift: float = 0.3) -> FrameStatistics:
    """A frame of a guided camera: the same stars on nearly the same pixels, vignetted light (ADU), noise of 6 ADU and of the light."""
    generator, field = np.random.default_rng(seed), np.random.default_rng(5)
    sky = np.full(SHAPE, light) * (1 - 0.25 * ((X - 120) ** 2 + (Y - 100) ** 2) / 120**2)
    places, fluxes = field.uniform(8, 192, (stars, 2)), 10 ** field.uniform(3.3, 4.8, stars)
    for (x, y), flux in zip(places + generator.normal(0, drift, 2), fluxes, strict=True):
        sky = sky + flux / (2 * np.pi * 1.3**2) * np.exp(-((X - x) ** 2 + (Y - y) ** 2) / 2 / 1.3**2)
    return frame_statistics(np.rint(generator.poisson(sky) + generator.normal(level, 6, SHAPE)).clip(0, 65535).astype(np.float32))


def kinds(pixels: list[FrameStatistics], headers: list[HeaderEvidence]) -> list[str]:
    return [entry.kind for entry in classify_set(pixels, headers)]


@pytest.mark.parametrize("n_stars", [61, 12])
@pytest.mark.parametrize("word", ["object", None])
@pytest.mark.parametrize("wrong", [(0,), (0, 3), (0, 1, 2, 3, 4, 5)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_an_exposure_time_of_nothing_makes_no_bias_of_a_frame_and_no_darks_of_the_others(
    n_stars: int, word: str | None, wrong: tuple[int, ...], with_bias: bool
) -> None:
    if n_stars == 12 and word is None and not with_bias:
        pytest.skip("a dozen peaks that nobody calls stars may be defects where all frames are alike")
    pixels = [image(seed, 110.0, stars=n_stars) for seed in range(6)]
    headers = [HeaderEvidence(0.0 if place in wrong else 60.0, word, sun_altitude=-40.0) for place in range(6)]
    bias = [image(100 + seed, 0.0) for seed in range(4)] if with_bias else []
    closed = [HeaderEvidence(0.0, "bias" if word else None)] * len(bias)
    assert kinds(pixels + bias, headers + closed) == ["object"] * 6 + ["bias"] * len(bias)


@pytest.mark.parametrize("seconds", [0.001, 0.5, 1.0, 10.0])
def test_one_short_exposure_time_makes_no_defects_of_the_stars_of_guided_frames(seconds: float) -> None:
    pixels = [image(seed, 110.0, stars=40) for seed in range(6)]
    headers = [HeaderEvidence(seconds if place == 2 else 60.0, sun_altitude=-40.0) for place in range(6)]
    assert kinds(pixels, headers) == ["object"] * 6


def test_flats_without_an_exposure_time_are_flats_where_they_are_called_so() -> None:
    pixels = [image(seed, 0.0) for seed in range(4)] + [image(10 + seed, 25000.0 + 1000 * seed) for seed in range(4)]
    headers = [HeaderEvidence(0.0, "bias")] * 4 + [HeaderEvidence(0.0, "flat", sun_altitude=-5.0)] * 4
    assert kinds(pixels, headers) == ["bias"] * 4 + ["flat"] * 4


def planet(seed: int, *, pedestal: float = 100.0) -> FrameStatistics:
    generator = np.random.default_rng(seed)
    x, y = 120 + generator.normal(0, 4, 2)
    blob = 45000.0 * np.exp(-((X - x) ** 2 + (Y - y) ** 2) / 2 / 3.0**2)
    return frame_statistics(np.rint(generator.poisson(3.0 + blob) + generator.normal(pedestal, 4, SHAPE)).clip(0, 65535).astype(np.float32))


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("subtracted", [True, False])
@pytest.mark.parametrize("word", ["object", "flat", None])
@pytest.mark.parametrize("sun", [-6.0, -30.0, None])
@pytest.mark.parametrize("n_flat", [0, 2, 5])
def test_a_planet_is_no_flat_and_no_bias(stated: bool, subtracted: bool, word: str | None, sun: float | None, n_flat: int) -> None:
    more = {"calibrated": ("dark",) if subtracted else (), "black_level": 100.0 if stated else None}
    pixels = [planet(seed) for seed in range(5)] + [image(20 + seed, 27000.0 + 900 * seed, level=100.0) for seed in range(n_flat)]
    planets = [HeaderEvidence(0.12, word, sun_altitude=sun, **more)] * 5
    flats = [HeaderEvidence(1.0, "flat" if word else None, sun_altitude=-6.0, **more)] * n_flat
    found = kinds(pixels, planets + flats)
    assert set(found[:5]) == {"object"}
    if word is not None or subtracted:
        assert found[5:] == ["flat"] * n_flat


def test_the_zero_level_of_what_was_subtracted_before_is_its_pedestal() -> None:
    header = HeaderEvidence(60.0, calibrated=("dark",), black_level=100.0)
    found = classify_set([image(1, 3.0, level=100.0)], [header])[0]
    assert found.evidence["zero"] == 100.0
    assert found.evidence["excess"] == pytest.approx(2.8, abs=0.3)


def test_darks_without_bias_frames_are_known_by_the_shape_of_the_sky_that_they_lack() -> None:
    pixels = [image(seed, 0.0) for seed in range(3)] + [image(10 + seed, 110.0, stars=40) for seed in range(3)]
    headers = [HeaderEvidence(60.0, sun_altitude=-40.0)] * 6
    assert kinds(pixels, headers) == ["dark"] * 3 + ["object"] * 3
    # Thick clouds of a dark site have it.
    clouds = [image(seed, 35.0) for seed in range(3)] + pixels[3:]
    assert not set(kinds(clouds, headers)) & set(MASTERS)


def sorted_frames(camera: Camera, seed: int) -> dict[str, tuple[float, Counter[tuple[str, str]]]]:
    """Of the nights of a camera, with types and without: part that is right, and sky frames in masters."""
    found: dict[str, tuple[float, Counter[tuple[str, str]]]] = {}
    pairs: dict[str, list[tuple[str, str, bool]]] = {"called": [], "uncalled": []}
    for plan in (plans, partial_plans):
        for night in nights(seed, (camera,), plan):
            pixels = [frame_statistics(frame.data) for frame in night]
            for name, called in (("called", True), ("uncalled", False)):
                headers = [HeaderEvidence(f.shot.exptime, f.shot.kind if called else None, sun_altitude=f.shot.sun) for f in night]
                entries = classify_set(pixels, headers)
                pairs[name] += [(f.shot.kind, entry.kind, f.shot.sky_frame) for f, entry in zip(night, entries, strict=True)]
    for name, rows in pairs.items():
        masters = Counter((truth, kind) for truth, kind, sky in rows if sky and kind in MASTERS)
        found[name] = (sum(truth == kind for truth, kind, _ in rows) / len(rows), masters)
    return found


def test_nights_of_a_camera_that_is_new() -> None:
    found = sorted_frames(ALL_SKY, 731)
    assert {name: masters for name, (_, masters) in found.items()} == {"called": {}, "uncalled": {}}
    assert found["called"][0] >= 0.98
    assert found["uncalled"][0] >= 0.95


def test_no_object_frame_of_a_warm_detector_enters_a_master_where_types_are_right() -> None:
    # Where dark current is brighter than the sky, much is "other".
    quiet = replace(WARM, hot=0.1)
    assert sorted_frames(quiet, 731)["called"][1] == {}
