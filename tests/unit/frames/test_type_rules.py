"""Each rule by which frames are told apart, with frames that lie on both sides of its limits; statistics by hand, no pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from reduction.frames.kernels.classification import Classification, FrameStatistics, HeaderEvidence, classify_set

Pair = tuple[FrameStatistics, HeaderEvidence]
FLAT_BOXES, HILL = np.zeros((8, 8)), 1 - 0.02 * np.hypot(*(np.indices((8, 8)) - 3.5)) ** 2


def frame(
    level: float,
    exptime: float,
    called: str | None = None,
    *,
    stars: int = 0,
    noise: float = 5.0,
    sun: float | None = None,
    blocked: bool = False,
    black: float | None = None,
    calibrated: tuple[str, ...] = (),
    shape: np.ndarray | None = None,
    places: int = 0,
    height: float = 100.0,
    colour: tuple[float, float, float] | None = None,
    **more: float,
) -> Pair:
    """A frame of a level, ADU, and an exposure time, s; peaks lie where no other number of `places` has them."""
    at = np.stack([20.0 + 10 * np.arange(stars), np.full(stars, 20.0 + 10 * places)], axis=-1)
    boxes = np.empty((0, 8)) if shape is None else 300.0 + (level - 300.0) * shape / shape.mean()
    values = {"structure": 1.0, "minimum": 0.0, "maximum": 65535.0, "saturated": 0.0, **more}
    entry = FrameStatistics(
        level, noise, constant=False, n_peaks=stars, peaks=at, heights=np.full(stars, height), boxes=boxes, channels=colour, **values
    )
    return entry, HeaderEvidence(exptime, called, blocked, calibrated, sun, black)


def classified(pairs: Sequence[Pair]) -> list[Classification]:
    return classify_set([entry for entry, _ in pairs], [header for _, header in pairs])


BIAS = [frame(300.0, 0.0, "bias")] * 3
#: A night sky of 100 ADU in 60 s: 1.67 ADU/s.
SKY = [frame(400.0, 60.0, "object", stars=30, places=place, sun=-40.0, height=1000.0) for place in (1, 2, 3)]


def last(*pairs: Pair, among: Sequence[Pair] = (*BIAS, *SKY)) -> Classification:
    return classified([*among, *pairs])[-1]


#: What is exposed, the type, the confidence, and what the reason says; the zero level lies at 300 ADU, known to 0.5 ADU.
RULES: list[tuple[Pair, str, float, str]] = [
    (frame(300.0, 60.0, saturated=0.51), "other", 0.99, "51% of the pixels are saturated"),
    (frame(400.0, 60.0, stars=20, saturated=0.5), "object", 0.9, "20 stars"),
    (frame(1.0, 3.0, noise=0.1, structure=0.1, quantum=0.0), "other", 0.9, "its level is 1.000: a flat that is normalised already"),
    # The shutter was closed.
    (frame(300.4, 60.0, "dark"), "dark", 0.99, "shutter closed (level +0.4 ADU from the zero level), exposure of 60 s"),
    (frame(300.4, 60.0), "dark", 0.9, "shutter closed"),
    (frame(300.4, 60.0, "flat"), "dark", 0.6, "called flat, but shutter closed"),
    (frame(300.4, 4.9), "bias", 0.9, "exposure of 4.9 s"),
    (frame(300.4, 5.0), "dark", 0.9, "exposure of 5 s"),
    (frame(300.4, 0.1, "dark"), "dark", 0.99, "exposure of 0.1 s"),
    (frame(300.4, 0.09, "dark"), "bias", 0.6, "called dark, but"),
    (frame(302.4, 4.9), "bias", 0.9, "shutter closed (level +2.4"),
    (frame(302.4, 60.0), "dark", 0.9, "shutter closed (level +2.4"),
    (frame(302.6, 60.0), "other", 0.3, "hardly a star, and 2.6 ADU that may be dark current or the sky of clouds"),
    (frame(302.6, 60.0, "dark"), "dark", 0.8, "called closed, exposure of 60 s; nothing to compare its level with"),
    (frame(302.6, 60.0, blocked=True), "dark", 0.9, "behind a blocked filter"),
    (frame(304.0, 0.0, "bias"), "bias", 0.99, "exposure of 0 s"),
    (frame(302.4, 60.0, stars=2), "dark", 0.9, "shutter closed"),
    (frame(302.4, 60.0, stars=3), "other", 0.3, "may be dark current"),
    # Light in no time.
    (frame(9000.0, 0.0), "other", 0.6, "light in an exposure of 0 s"),
    # Stars.
    (frame(400.0, 60.0, "object", stars=5), "object", 0.99, "5 stars"),
    (frame(400.0, 60.0, stars=5), "object", 0.9, "5 stars"),
    (frame(400.0, 60.0, "flat", stars=20), "object", 0.6, "called flat, but 20 stars"),
    (frame(300.2, 60.0, "object", stars=5), "object", 0.99, "5 stars on hardly any sky"),
    (frame(300.2, 60.0, stars=20), "object", 0.6, "20 stars on hardly any sky"),
    (frame(300.2, 60.0, stars=19), "other", 0.6, "19 star-like peaks and no light above the zero level"),
    # Twilight with stars: 17 ADU/s is 10.2 times the night sky, 200 ADU/s 120 times; a tenth of the camera's range is 6,524 ADU.
    (frame(20300.0, 3.0, "flat", stars=30, sun=-5.0), "flat", 0.8, "a bright twilight sky, though with 30 stars"),
    (frame(20300.0, 3.0, "flat", stars=30, sun=-11.0), "object", 0.6, "called flat, but 30 stars"),
    (frame(20300.0, 3.0, "flat", stars=30), "flat", 0.8, "a bright twilight sky"),
    (frame(20300.0, 31.0, "flat", stars=30, sun=-5.0), "object", 0.6, "called flat, but 30 stars"),
    (frame(6000.0, 3.0, "flat", stars=30, sun=-5.0), "object", 0.6, "called flat, but 30 stars"),
    (frame(20300.0, 3.0, "flat", stars=30, sun=-5.0, noise=2001.0), "object", 0.6, "called flat, but 30 stars"),
    (frame(20300.0, 3.0, stars=19, sun=-5.0), "flat", 0.6, "a twilight sky 4000 times the night's, though with 19 stars"),
    (frame(20300.0, 3.0, "object", stars=19, sun=-5.0), "object", 0.99, "19 stars"),
    (frame(20300.0, 3.0, stars=20, sun=-5.0), "object", 0.9, "20 stars"),
    (frame(20300.0, 3.0, "flat", stars=30, sun=-10.5), "object", 0.6, "called flat, but 30 stars"),
    (frame(20300.0, 3.0, "flat", stars=30, sun=-9.5), "flat", 0.8, "a bright twilight sky"),
    # Light and hardly a star, called a flat.
    (frame(700.0, 60.0, "flat"), "other", 0.6, "called flat, but no star, and no brighter than the night sky of that exposure: clouds"),
    (frame(320.0, 1.0, "flat"), "other", 0.6, "light (+20 ADU) and hardly a star, 4.0 times the noise: too faint to tell"),
    (frame(325.0, 1.0, "flat"), "flat", 0.99, "light (+25 ADU) and hardly a star"),
    # Light and hardly a star.
    (frame(700.0, 60.0, "object", stars=1), "object", 0.99, "1 stars"),
    (
        frame(1300.0, 3.0, sun=-5.0),
        "flat",
        0.9,
        "monochrome: by the level and the Sun's altitude (Sun at -5 degrees, 200.0 times the night sky)",
    ),
    (frame(1300.0, 60.0, sun=-5.0), "flat", 0.9, "10.0 times the night sky"),
    (frame(1300.0, 61.0, sun=-5.0), "other", 0.6, "open, without stars, and no bright twilight sky"),
    (frame(349.0, 3.0, sun=-5.0), "other", 0.6, "open, without stars"),
    (frame(350.0, 3.0, sun=-5.0), "flat", 0.9, "bright and smooth"),
    (frame(499.0, 60.0, sun=-5.0), "other", 0.6, "open, without stars"),
    (frame(500.0, 60.0, sun=-5.0), "flat", 0.9, "2.0 times the night sky"),
    (frame(20300.0, 3.0), "flat", 0.6, "bright and smooth, without stars; by the level, 4000.0 times the night sky"),
    (frame(20300.0, 31.0), "other", 0.6, "open, without stars"),
    (frame(1300.0, 3.0), "other", 0.6, "open, without stars"),
    (frame(20300.0, 3.0, sun=-40.0), "other", 0.6, "open, without stars"),
    (frame(450.0, 60.0, stars=1), "object", 0.6, "1 stars, in an exposure as long as those of other frames with stars"),
    (frame(450.0, 30.0, stars=1), "other", 0.6, "open, without stars"),
]


@pytest.mark.parametrize(("pair", "kind", "confidence", "reason"), RULES, ids=[f"{n} {rule[3][:40]}" for n, rule in enumerate(RULES)])
def test_a_rule(pair: Pair, kind: str, confidence: float, reason: str) -> None:
    found = last(pair)
    assert (found.kind, found.confidence) == (kind, confidence)
    assert reason in found.reason
    assert found.disagrees == (pair[1].declared not in (None, kind))


def test_without_a_value_or_with_one_for_all_nothing_was_read_out() -> None:
    for level, words in ((float("nan"), "no pixel has a value"), (7.0, "every pixel is 7")):
        dead = FrameStatistics(level, 0.0, 0.0, level, level, 0.0, True, 0, np.empty((0, 2)))
        found = last((dead, HeaderEvidence(3.0, "flat")))
        assert (found.kind, found.confidence, found.disagrees) == ("other", 0.99, True)
        assert found.reason == f"called flat, but {words}: nothing was exposed or read out"


def shown(pair: Pair, among: Sequence[Pair] = (*BIAS, *SKY)) -> tuple[object, object]:
    found = last(pair, among=among)
    return found.evidence["light"], found.evidence["light_by"]


@pytest.mark.parametrize(
    ("pair", "light", "by"),
    [
        (frame(300.5, 60.0), False, "level"),
        (frame(300.53, 60.0), False, "fainter than any sky"),
        (frame(6900.0, 1000.0), True, "level"),
        (frame(6900.0, 0.0), True, "level"),
        (frame(300.6, 60.0, stars=20), True, "stars"),
        (frame(449.0, 60.0), True, None),
        (frame(449.0, 60.0, noise=14.0), None, ""),
        (frame(451.0, 60.0, noise=14.0), True, "rate"),  # more than 1.5 times the sky of 60 s
        (frame(349.0, 1.9), True, "rate"),  # 50 electron/s
        (frame(400.0, 60.0, stars=5), True, "stars"),
        (frame(302.6, 60.0, stars=5), True, "stars"),
        (frame(302.4, 4.9), False, "level"),
        (frame(319.0, 2.8), True, "rate"),  # 5 electron/s
        (frame(319.0, 2.9), None, ""),
        (frame(302.4, 60.0), False, "fainter than any sky"),
        (frame(329.0, 60.0), None, ""),
        (frame(304.0, 0.0), None, ""),
    ],
)
def test_what_shows_light(pair: Pair, light: bool | None, by: str | None) -> None:
    found = shown(pair)
    assert found[0] is light
    assert by is None or found[1] == by


def test_dark_current_repeats_its_level() -> None:
    # 20 ADU in 60 s, a fifth of the sky's: of four frames three agree to a hundredth.
    darks = [frame(320.0, 60.0), frame(320.2, 60.0), frame(320.1, 60.0)]
    sky = [frame(400.0, 60.5, "object", stars=30, places=place, sun=-40.0, height=1000.0) for place in (1, 2, 3)]
    assert shown(frame(320.0, 60.0), [*BIAS, *sky, *darks]) == (False, "fainter than any sky")
    assert shown(frame(321.0, 60.0), [*BIAS, *sky, *darks]) == (None, "")
    assert shown(frame(320.0, 60.0), [*BIAS, *sky, darks[0]]) == (None, "")
    others = [frame(level, 60.0) for level in (310.0, 315.0, 325.0)]
    assert shown(frame(320.0, 60.0), [*BIAS, *sky, *darks, *others]) == (None, "")
    assert shown(frame(331.0, 60.0), [*BIAS, *sky, *[frame(331.0, 60.0)] * 3]) == (None, "")
    bright = [frame(600.0, 60.5, "object", stars=30, places=place, sun=-40.0, height=1000.0) for place in (1, 2, 3)]
    assert shown(frame(360.0, 60.0, noise=20.0), [*BIAS, *bright, *[frame(360.59, 60.0)] * 3]) == (False, "fainter than any sky")
    assert shown(frame(360.0, 60.0, noise=20.0), [*BIAS, *bright, *[frame(360.63, 60.0)] * 3]) == (None, "")


def test_without_a_zero_level_frames_are_compared_with_one_another() -> None:
    sky = [frame(400.0, 60.0, stars=30, places=place) for place in (1, 2, 3)]
    assert shown(frame(300.0, 60.0, stars=4), [frame(300.0, 60.0)]) == (None, "")
    assert shown(frame(300.0, 60.0, stars=5), [frame(300.0, 60.0)]) == (True, "stars")
    assert shown(frame(350.0, 60.0), [frame(300.0, 60.0)]) == (None, "")
    assert shown(frame(351.0, 60.0), [frame(300.0, 60.0)]) == (True, "level")
    assert shown(frame(402.0, 60.0), sky) == (True, "brighter than frames with stars")
    assert shown(frame(400.9, 60.0), sky) == (None, "")
    assert shown(frame(402.0, 61.0), sky) == (None, "")
    corner = HILL.copy()
    corner[0, 0] = 1.0
    assert shown(frame(402.0, 61.0, shape=HILL), sky) == (True, "vignetting")
    assert shown(frame(402.0, 61.0, shape=corner), sky) == (None, "")
    assert shown(frame(402.0, 61.0, shape=FLAT_BOXES + 1.0), sky) == (None, "")


def test_types_without_a_zero_level() -> None:
    flat = frame(20300.0, 3.0, "flat")
    found = last(flat, among=[])
    assert (found.kind, found.confidence, found.reason) == ("flat", 0.8, "hardly a star; no zero level to compare with")
    assert last(frame(20300.0, 31.0, "flat"), among=[]).kind == "other"
    assert last(frame(6500.0, 3.0, "flat"), among=[]).kind == "other"
    found = last(frame(300.0, 60.0, "object", stars=1), among=[])
    assert (found.kind, found.confidence, found.reason) == ("object", 0.8, "1 stars; no zero level to compare with")
    found = last(frame(300.0, 60.0), among=[])
    assert (found.kind, found.confidence) == ("other", 0.3)
    assert found.reason == "hardly a star, and no closed frame to compare the level with"
    # Bright and called closed: believed where two others agree.
    assert last(frame(20300.0, 3.0, "bias"), among=[]).kind == "other"
    assert last(frame(20300.0, 3.0, "bias"), among=[frame(20300.0, 3.0, "bias")]).kind == "other"
    assert last(frame(20300.0, 3.0, "bias"), among=[frame(20300.0, 3.0, "bias")] * 2).kind == "bias"
    assert last(frame(20306.0, 3.0, "bias"), among=[frame(20300.0, 3.0, "bias")] * 2).kind == "other"


def zero(*pairs: Pair) -> tuple[object, object]:
    evidence = classified(pairs)[-1].evidence
    return evidence["zero"], evidence["zero_from"]


def test_what_gives_the_zero_level() -> None:
    sky = SKY[0]
    assert zero(frame(301.0, 0.0), frame(299.0, 0.001), sky) == (301.0, "exposures of 0 s or behind a blocked filter")
    assert zero(frame(301.0, 60.0, blocked=True), sky) == (301.0, "exposures of 0 s or behind a blocked filter")
    assert zero(frame(301.0, 0.9), frame(300.0, 1.0), sky) == (301.0, "the shortest exposures")
    assert zero(frame(301.0, 1.0), sky) == (None, "nothing")
    assert zero(frame(301.0, 60.0, "dark"), frame(300.0, 90.0, "dark"), sky) == (301.0, "frames called bias or dark")
    # What is as bright as the sky is no dark, nor what shows stars, nor what is as bright as a flat.
    assert zero(frame(400.9, 60.0, "dark"), sky) == (400.9, "frames called bias or dark")
    assert zero(frame(401.1, 60.0, "dark"), sky) == (None, "nothing")
    assert zero(frame(301.0, 60.0, "dark", stars=5), sky) == (None, "nothing")
    assert zero(frame(6553.5, 60.0, "dark")) == (None, "nothing")
    assert zero(frame(6553.0, 60.0, "dark")) == (6553.0, "frames called bias or dark")
    # Of the short frames those near the darkest, of these the shortest.
    assert zero(frame(301.0, 0.5), frame(303.4, 0.4), frame(310.0, 0.3), sky) == (303.4, "the shortest exposures")
    assert zero(frame(301.0, 2.0, black=256.0), frame(301.0, 2.0, black=258.0)) == (257.0, "the black level in the header")
    assert zero(frame(301.0, 2.0, black=float("nan"))) == (None, "nothing")
    assert zero(frame(301.0, 10.0), frame(300.0, 30.0)) == (300.5, "a level that does not grow with the exposure")
    assert zero(frame(301.0, 10.0), frame(300.0, 29.0)) == (None, "nothing")
    assert zero(frame(301.1, 10.0), frame(300.0, 30.0)) == (None, "nothing")
    assert zero(sky, frame(0.3, 60.0, negative=0.06)) == (0.0, "the bias taken off before")
    assert zero(sky, frame(0.3, 60.0, negative=0.05)) == (None, "nothing")
    assert zero(sky, frame(0.3, 60.0, calibrated=("dark",))) == (0.0, "the bias taken off before")
    assert zero(sky, frame(0.3, 60.0, calibrated=("flat",))) == (None, "nothing")


def test_a_frame_that_gives_the_zero_level_by_its_type_alone_is_not_judged_by_it() -> None:
    found = classified([frame(300.0, 60.0, "dark"), frame(400.0, 60.0, "object", stars=30)])
    assert (found[0].kind, found[0].confidence) == ("dark", 0.8)
    assert (found[0].evidence["light"], found[0].evidence["excess"]) == (None, 0.0)


@pytest.mark.parametrize(("maximum", "quantum", "top"), [(4095.0, 1.0, 4095.0), (4096.0, 1.0, 16383.0), (16384.0, 1.0, 65535.0)])
def test_a_tenth_of_the_cameras_range_is_deep(maximum: float, quantum: float, top: float) -> None:
    limit = 0.1 * (top - 300.0)
    for above, deep in ((limit - 1.0, False), (limit + 1.0, True)):
        bias = [frame(300.0, 0.0, maximum=maximum, quantum=quantum)] * 2
        assert last(frame(300.0 + above, 3.0, maximum=maximum), among=bias).evidence["deep"] is deep


def test_a_camera_that_writes_in_steps_has_sixteen_bits() -> None:
    bias = [frame(300.0, 0.0, maximum=4000.0, quantum=4.0)] * 2
    assert last(frame(2000.0, 3.0, maximum=4000.0, quantum=4.0), among=bias).evidence["deep"] is False
    assert last(frame(2000.0, 3.0, maximum=4000.0, quantum=1.0), among=bias).evidence["deep"] is True


def test_a_lamp_by_day_is_bright_and_steady() -> None:
    lamp = frame(20300.0, 3.0, sun=5.0, colour=(30300.0, 20300.0, 5300.0))
    assert last(*[lamp] * 3).kind == "flat"
    assert last(*[lamp] * 2).kind == "other"
    assert last(*[frame(20300.0, 31.0, sun=5.0, colour=(30300.0, 20300.0, 5300.0))] * 3).kind == "other"
    assert last(*[frame(1300.0, 3.0, sun=5.0, colour=(1800.0, 1300.0, 550.0))] * 3).kind == "other"
    # Where the Sun is down, only what is brighter than any cloud.
    night = frame(20300.0, 3.0, sun=-40.0)
    assert last(*[night] * 3).kind == "flat"
    bright = [frame(2000.0 + place, 60.0, "object", stars=30, places=place, sun=-40.0, height=1000.0) for place in (1, 2, 3)]
    assert last(*[frame(7300.0, 3.0, sun=-40.0)] * 3, among=[*BIAS, *bright]).kind == "other"
    # One per cent off its fellows is steady, ten per cent is not.
    assert last(night, night, frame(20100.0, 3.0, sun=-40.0)).kind == "flat"
    assert last(night, night, frame(18000.0, 3.0, sun=-40.0)).kind == "other"


@pytest.mark.parametrize(
    ("red", "blue", "sky"),
    [
        (0.5, 0.9, True), (0.14, 0.9, False), (0.16, 0.9, True), (0.84, 0.9, True), (0.86, 0.9, False),
        (0.3, 0.49, False), (0.3, 0.51, True), (0.3, 1.49, True), (0.3, 1.51, False), (0.7, 0.58, False), (0.7, 0.61, True),
    ],
)  # fmt: skip
def test_the_locus_of_the_twilight_sky(red: float, blue: float, sky: bool) -> None:
    found = last(frame(10300.0, 3.0, sun=-5.0, colour=(300.0 + 1e4 * red, 10300.0, 300.0 + 1e4 * blue)))
    assert (found.evidence["red_to_green"], found.evidence["blue_to_green"]) == (red, blue)
    assert (found.evidence["sky_colour"], found.kind) == (sky, "flat" if sky else "other")
    if sky:
        assert f"sky colour by the Bayer channels (R/G {red:.2f}, B/G {blue:.2f}), Sun at -5 degrees" in found.reason


def test_a_flat_is_smooth_or_shaped_as_the_sky() -> None:
    bumps = np.where(np.indices((8, 8)).sum(axis=0) % 2, 1.1, 0.9)
    bias = [frame(300.0, 0.0, shape=FLAT_BOXES + 1.0)] * 3
    sky = [frame(400.0, 60.0, "object", stars=30, places=place, sun=-40.0, height=1000.0, shape=HILL) for place in (1, 2, 3)]
    for shape, smooth in ((HILL, True), (bumps, False), (1 + 0.2 * (bumps - 1), True)):
        found = last(frame(20300.0, 3.0, sun=-5.0, shape=shape), among=[*bias, *sky])
        assert (found.evidence["smooth"], found.kind) == (smooth, "flat" if smooth else "other")
    spot = FLAT_BOXES + 1.0
    spot[2, 5] = 1.5
    assert last(frame(20300.0, 3.0, sun=-5.0, shape=spot), among=[*bias, *sky]).evidence["smooth"] is False
    # A sky without any shape is like nothing.
    even_sky = [frame(400.0, 60.0, "object", stars=30, places=place, sun=-40.0, height=1000.0, shape=FLAT_BOXES + 1.0) for place in (1, 2)]
    assert last(frame(20300.0, 3.0, sun=-5.0, shape=bumps), among=[*bias, *even_sky]).evidence["smooth"] is False
    bumpy_sky = [frame(400.0, 60.0, "object", stars=30, places=place, sun=-40.0, height=1000.0, shape=bumps) for place in (1, 2, 3)]
    assert last(frame(20300.0, 3.0, sun=-5.0, shape=bumps), among=[*bias, *bumpy_sky]).kind == "flat"


def test_faint_light_has_the_shape_of_the_sky_and_dark_current_has_not() -> None:
    bias = [frame(300.0, 0.0, shape=FLAT_BOXES + 1.0)] * 3
    sky = [frame(400.0, 60.0, "object", stars=30, places=place, sun=-40.0, height=1000.0, shape=HILL) for place in (1, 2, 3)]
    assert shown(frame(310.0, 60.0, shape=HILL), [*bias, *sky]) == (True, "shape")
    assert shown(frame(310.0, 60.0, shape=FLAT_BOXES + 1.0), [*bias, *sky]) == (False, "shape")
    ripple = 1 + 1e-3 * np.cos(np.arange(64.0)).reshape(8, 8)
    assert shown(frame(310.0, 60.0, shape=ripple), [*bias, *sky]) == (False, "shape")
    # A box that holds a bright star, or is vignetted away, says nothing.
    spot = HILL.copy()
    spot[0, 0] = 5.0
    assert shown(frame(310.0, 60.0, shape=spot), [*bias, *sky]) == (True, "shape")
    spotted = [frame(400.0, 60.0, "object", stars=30, places=place, sun=-40.0, height=1000.0, shape=spot) for place in (1, 2, 3)]
    assert shown(frame(310.0, 60.0, shape=HILL), [*bias, *spotted]) == (True, "shape")
    # No dark current is as fast as 50 electron/s.
    assert shown(frame(335.2, 1.0, shape=ripple), [*bias, *sky]) == (False, "shape")
    assert shown(frame(335.5, 1.0, shape=ripple), [*bias, *sky]) == (True, "rate")


def test_peaks_of_a_dark_frame_are_defects_everywhere() -> None:
    bias = [frame(300.0, 0.0, stars=8)] * 3
    found = last(frame(400.0, 60.0, "object", stars=10), among=bias)
    assert (found.evidence["star_like_peaks"], found.evidence["stars"]) == (10, 2)
    assert last(frame(400.0, 60.0, "object", stars=10, places=1), among=bias).evidence["stars"] == 10


@pytest.mark.parametrize(("offset", "stars"), [(2.4, 0), (2.6, 8)])
def test_a_defect_stays_where_it_is(offset: float, stars: int) -> None:
    bias = [frame(300.0, 0.0, stars=8)] * 3
    entry, header = frame(400.0, 60.0, "object", stars=8)
    moved = FrameStatistics.from_dict({**entry.as_dict(), "peaks": np.add(entry.peaks, (0.0, offset)).tolist()})
    assert last((moved, header), among=bias).evidence["stars"] == stars


@pytest.mark.parametrize(("exptime", "growth", "stars"), [(12.0, 1.0, 0), (12.0, 1.41, 0), (12.0, 1.42, 8), (12.0, 2.0, 8), (11.9, 1.0, 8)])
def test_a_defect_does_not_grow_with_the_exposure(exptime: float, growth: float, stars: int) -> None:
    short = [frame(320.0, 6.0, stars=8)] * 3
    longer = [frame(340.0, exptime, stars=8, height=100.0 * growth)] * 3
    assert {entry.evidence["stars"] for entry in classified([*BIAS, *short, *longer])[3:]} == {stars}


def test_a_saturated_star_cannot_grow() -> None:
    for height, stars in ((0.19, 0), (0.21, 8)):
        pairs = [*BIAS, *[frame(320.0, 6.0, stars=8, height=height * 65535)] * 3, *[frame(340.0, 60.0, stars=8, height=height * 65535)] * 3]
        assert classified(pairs)[-1].evidence["stars"] == stars


def test_half_of_the_frames_of_another_exposure_time_show_a_defect() -> None:
    for n, stars in ((2, 0), (1, 8)):
        short = [*[frame(320.0, 6.0, stars=8)] * n, *[frame(320.0, 6.0, stars=8, places=place) for place in range(1, 5 - n)]]
        assert classified([*BIAS, *short, frame(340.0, 60.0, stars=8)])[-1].evidence["stars"] == stars


@pytest.mark.parametrize(("wrong", "trusted"), [(1, True), (2, True), (3, False)])
def test_a_tenth_of_the_declared_types_may_be_wrong(wrong: int, trusted: bool) -> None:
    # Twenty frames whose pixels leave no doubt.
    pairs = [frame(300.0, 0.0, "object" if n < wrong else "bias") for n in range(20)]
    assert {entry.evidence["words_trusted"] for entry in classified(pairs)} == {trusted}


def test_a_tenth_of_many_is_more_than_one() -> None:
    for wrong, trusted in ((10, True), (11, False)):
        pairs = [frame(300.0, 0.0, "object" if n < wrong else "bias") for n in range(100)]
        assert {entry.evidence["words_trusted"] for entry in classified(pairs)} == {trusted}


@pytest.mark.parametrize(
    ("pair", "fits"),
    [
        (frame(300.0, 60.0, "flat"), False), (frame(300.0, 60.0, "dark"), True), (frame(300.0, 60.0, "bias"), True),
        (frame(300.0, 60.0, "flat", stars=5), True), (frame(400.0, 60.0, "other", stars=20), True),
        (frame(400.0, 60.0, "flat", stars=20), False), (frame(400.0, 60.0, "flat", stars=19), True),
        (frame(400.0, 60.0, "dark", stars=20, blocked=True), True), (frame(20300.0, 3.0, "flat", stars=20, sun=-5.0), True),
        (frame(20300.0, 3.0, "object", stars=19, sun=-5.0), False), (frame(20300.0, 3.0, "flat", stars=19, sun=-5.0), True),
        (frame(20300.0, 600.0, "dark"), False), (frame(460.0, 60.0, "dark"), True), (frame(20300.0, 600.0, "object"), True),
        (frame(300.0, 60.0, "flat", saturated=0.6), True),
    ],
)  # fmt: skip
def test_which_declared_types_do_not_fit(pair: Pair, fits: bool) -> None:
    # Two that do not fit among seven are too many; one is not.
    wrong = frame(300.0, 60.0, "flat")
    assert last(wrong, pair).evidence["words_trusted"] is fits


def test_noise_without_fixed_pattern_is_seen_in_the_difference_of_two_frames() -> None:
    generator = np.random.default_rng(1)
    pattern = generator.normal(0.0, 50.0, 256)
    pairs = []
    for _ in range(3):
        entry, header = frame(300.0, 0.0, noise=50.0)
        values = {**entry.as_dict(), "probe": (300.0 + pattern + generator.normal(0.0, 5.0, 256)).tolist()}
        pairs.append((FrameStatistics.from_dict(values), header))
    assert classified(pairs)[0].evidence["temporal_noise"] == pytest.approx(5.0, rel=0.2)
    # A copy of a frame says nothing.
    assert classified([pairs[0], pairs[0]])[0].evidence["temporal_noise"] == 50.0


def test_neighbouring_nights_are_asked_only_where_the_night_has_no_zero_level() -> None:
    own, beside = [frame(310.0, 60.0)], [frame(300.0, 0.0), frame(300.0, 0.0)]
    found = classify_set([own[0][0]], [own[0][1]], beside)
    assert [entry.evidence["zero"] for entry in found] == [300.0]
    more = [*own, frame(309.0, 0.0)]
    found = classify_set([entry for entry, _ in more], [header for _, header in more], beside)
    assert [entry.evidence["zero"] for entry in found] == [309.0, 309.0]
    dark = [*own, frame(309.0, 60.0, "dark")]
    found = classify_set([entry for entry, _ in dark], [header for _, header in dark], beside)
    assert [entry.evidence["zero"] for entry in found] == [300.0, 300.0]


def test_how_much_brighter_than_the_night_sky() -> None:
    # The sky gives 60 ADU/s here, so that ratios of ten and a hundred are no deep exposures of their own.
    sky = [frame(3900.0, 60.0, "object", stars=30, places=place, sun=-40.0, height=1000.0) for place in (1, 2, 3)]
    for ratio, kind in ((9.5, "object"), (10.5, "flat")):
        pair = frame(300.0 + 60.0 * ratio * 20.0, 20.0, "flat", stars=30, sun=-5.0)
        assert last(pair, among=[*BIAS, *sky]).kind == kind
    for ratio, kind in ((95.0, "object"), (105.0, "flat")):
        pair = frame(300.0 + 60.0 * ratio * 3.0, 3.0, "flat", stars=30)
        assert last(pair, among=[*BIAS, *sky]).kind == kind
        assert last(frame(300.0 + 60.0 * ratio * 3.0, 3.0, stars=19, sun=-5.0), among=[*BIAS, *sky]).kind == kind
    for ratio, kind in ((95.0, "other"), (105.0, "flat")):
        assert last(*[frame(300.0 + 60.0 * ratio * 3.0, 3.0, sun=-40.0)] * 3, among=[*BIAS, *sky]).kind == kind
