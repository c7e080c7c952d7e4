"""Types of frames: simulated nights of known make-up, headers that lie, and the real nights."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from raw_frames import EXPTIME, SHAPE, camera, mosaic

from reduction.files.fits import read_raw
from reduction.frames.evidence import evidence_text, read_evidence
from reduction.frames.kernels.classification import Classification, FrameStatistics, HeaderEvidence, classify_set, frame_statistics
from reduction.frames.kernels.times import barycentric, night_number
from reduction.headers.facts import Facts, facts, identify

KINDS = {"bias": 5, "dark": 5, "flat": 5, "object": 6}


def night(words: dict[str, str | None]) -> tuple[list[str], list[FrameStatistics], list[HeaderEvidence]]:
    """The truth, the pixels, and headers with the given words for each kind."""
    truth = [kind for kind, n in KINDS.items() for _ in range(n)]
    pixels = [frame_statistics(camera(kind, number)) for number, kind in enumerate(truth)]
    return truth, pixels, [HeaderEvidence(EXPTIME[kind], words.get(kind)) for kind in truth]


@pytest.fixture(scope="module")
def labelled() -> tuple[list[str], list[FrameStatistics], list[HeaderEvidence]]:
    return night({kind: kind for kind in KINDS})


def classify(statistics: FrameStatistics, header: HeaderEvidence) -> Classification:
    return classify_set([statistics], [header])[0]


def kinds_of(found: list[Classification]) -> list[str]:
    return [entry.kind for entry in found]


def test_a_night_with_honest_headers(labelled: tuple[list[str], list[FrameStatistics], list[HeaderEvidence]]) -> None:
    truth, pixels, headers = labelled
    found = classify_set(pixels, headers)
    assert kinds_of(found) == truth
    assert not any(entry.disagrees for entry in found)
    assert min(entry.confidence for entry in found) >= 0.9
    assert all(entry.reason and "\n" not in entry.reason for entry in found)


def test_a_night_without_image_types_needs_only_its_bias_frames(
    labelled: tuple[list[str], list[FrameStatistics], list[HeaderEvidence]],
) -> None:
    truth, pixels, _ = labelled
    found = classify_set(pixels, [HeaderEvidence(EXPTIME[kind]) for kind in truth])
    # Without a word, dark current and the faint sky of a clouded field look alike: such a dark may be "other", never an object.
    assert [kind for kind, true in zip(kinds_of(found), truth, strict=True) if true != "dark"] == [true for true in truth if true != "dark"]
    assert {kind for kind, true in zip(kinds_of(found), truth, strict=True) if true == "dark"} <= {"dark", "other"}


def test_the_order_of_frames_does_not_matter(labelled: tuple[list[str], list[FrameStatistics], list[HeaderEvidence]]) -> None:
    _, pixels, headers = labelled
    order = np.random.default_rng(3).permutation(len(pixels))
    shuffled = classify_set([pixels[i] for i in order], [headers[i] for i in order])
    plain = classify_set(pixels, headers)
    assert shuffled == [plain[i] for i in order]


def test_statistics_survive_json(labelled: tuple[list[str], list[FrameStatistics], list[HeaderEvidence]]) -> None:
    _, pixels, headers = labelled
    again = [FrameStatistics.from_dict(json.loads(json.dumps(entry.as_dict()))) for entry in pixels]
    assert classify_set(again, headers) == classify_set(pixels, headers)


def test_stars_win_over_a_wrong_word() -> None:
    for word in ("dark", "flat"):
        found = classify(frame_statistics(camera("object", 1)), HeaderEvidence(60.0, word))
        assert (found.kind, found.disagrees) == ("object", True)
        assert word in found.reason
        assert found.confidence < 0.8


def test_a_shutter_that_stayed_closed_is_seen() -> None:
    pixels = [frame_statistics(camera("bias", number)) for number in range(5)]
    found = classify_set(pixels, [HeaderEvidence(0.0, "bias")] * 4 + [HeaderEvidence(3.0, "flat")])[-1]
    assert (found.kind, found.disagrees) == ("bias", True)
    assert "called flat" in found.reason


def test_a_dark_with_hot_pixels_has_no_stars() -> None:
    statistics = frame_statistics(camera("dark", 5))
    assert statistics.n_peaks < 5
    assert classify(statistics, HeaderEvidence(60.0, "dark")).kind == "dark"


def test_a_short_dark_stays_a_dark_when_it_is_called_one() -> None:
    pixels = frame_statistics(camera("bias", 6))
    assert classify(pixels, HeaderEvidence(3.0, "dark")).kind == "dark"
    assert classify(pixels, HeaderEvidence(0.0, "dark")).kind == "bias"
    assert classify(pixels, HeaderEvidence(3.0, "bias")).kind == "bias"
    assert classify(pixels, HeaderEvidence(300.0, "bias")).kind == "dark"


@pytest.mark.parametrize(
    ("sun", "word", "kind"),
    [(-6.0, None, "flat"), (-6.0, "object", "flat"), (-40.0, None, "other"), (-40.0, "object", "other"), (None, "flat", "flat")],
)
def test_bright_frames_without_stars(sun: float | None, word: str | None, kind: str) -> None:
    pixels = [frame_statistics(camera("bias", 7)), frame_statistics(camera("flat", 8))]
    found = classify_set(pixels, [HeaderEvidence(0.0, "bias"), HeaderEvidence(3.0, word, sun_altitude=sun)])[1]
    assert found.kind == kind
    assert found.disagrees == (word not in (None, kind))


def test_a_clouded_object_frame_is_other_and_says_so() -> None:
    pixels = [frame_statistics(camera("bias", 9)), frame_statistics(camera("object", 10, stars=0))]
    found = classify_set(pixels, [HeaderEvidence(0.0, "bias"), HeaderEvidence(60.0, "object", sun_altitude=-50.0)])[1]
    assert (found.kind, found.disagrees) == ("other", True)
    assert "clouds" in found.reason


@pytest.mark.parametrize("value", [0.0, 1000.0, np.nan])
def test_a_constant_frame_is_nothing(value: float) -> None:
    statistics = frame_statistics(np.full(SHAPE, value, np.float32))
    assert statistics.constant
    for word in ("object", "bias", None):
        found = classify(statistics, HeaderEvidence(60.0, word))
        assert (found.kind, found.confidence) == ("other", 0.99)
    again = FrameStatistics.from_dict({**statistics.as_dict(), "level": None if np.isnan(value) else value})
    assert classify(again, HeaderEvidence(60.0, "object")).kind == "other"


def test_constant_frames_do_not_disturb_the_others(labelled: tuple[list[str], list[FrameStatistics], list[HeaderEvidence]]) -> None:
    truth, pixels, headers = labelled
    dead = frame_statistics(np.zeros(SHAPE, np.float32))
    assert kinds_of(classify_set([*pixels, dead], [*headers, HeaderEvidence(0.0, "bias")])) == [*truth, "other"]


def test_a_saturated_frame_is_other() -> None:
    data = camera("flat", 11)
    data[:150] = 65535
    assert classify(frame_statistics(data), HeaderEvidence(3.0, "flat")).kind == "other"
    assert frame_statistics(data, saturation=65000).saturated == pytest.approx(150 / 192)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (11, 40), (40, 11)])
def test_tiny_frames_do_not_fail(shape: tuple[int, int]) -> None:
    data = np.random.default_rng(15).normal(300, 5, shape).astype(np.float32)
    assert classify(frame_statistics(data), HeaderEvidence(60.0)).kind == "other"


def test_what_was_done_before_is_told() -> None:
    found = classify(frame_statistics(camera("object", 16)), HeaderEvidence(60.0, "object", calibrated=("bias", "dark", "flat")))
    assert "already corrected for bias, dark, flat" in found.reason


def one(kind: str, seed: int, **more: float) -> FrameStatistics:
    return frame_statistics(camera(kind, seed, **more))  # type: ignore[arg-type]


def test_evidence_of_an_exposure_survives_its_column() -> None:
    statistics = one("object", 18)
    found = SimpleNamespace(declared="object", blocked=False, black_level=float("nan"))
    text = evidence_text(statistics, cast("Facts", found))
    pixels, header = read_evidence(text, 60.0, "bias dark", -30.0)
    assert pixels.as_dict() == statistics.as_dict()
    assert header == HeaderEvidence(60.0, "object", False, ("bias", "dark"), -30.0, None)
    found.black_level = 2048.0
    assert read_evidence(evidence_text(statistics, cast("Facts", found)), 60.0, "", None)[1].black_level == 2048.0


@pytest.mark.parametrize(
    ("colour", "sun", "kind"),
    [
        ({"R": 1000.0, "G": 2200.0, "B": 1900.0}, None, "flat"),
        ({"R": 1000.0, "G": 2200.0, "B": 1900.0}, -5.0, "flat"),
        ({"R": 2500.0, "G": 2200.0, "B": 700.0}, -5.0, "other"),  # a lamp, undeclared, and no night sky to compare with
        ({"R": 1000.0, "G": 2200.0, "B": 1900.0}, -40.0, "other"),  # moonlit fog
    ],
)
def test_the_colour_of_the_sky_makes_a_flat(colour: dict[str, float], sun: float | None, kind: str) -> None:
    pixels = frame_statistics(mosaic(colour), bayer="RGGB")
    header = HeaderEvidence(2.0, sun_altitude=sun, black_level=2048.0)
    found = classify(pixels, header)
    assert found.kind == kind
    assert found.evidence["sky_by"] == "Bayer channels"
    assert found.evidence["sky_colour"] == (colour["R"] < colour["G"])
    if kind == "flat":
        assert "Bayer" in found.reason
    assert classify(pixels, HeaderEvidence(2.0, "flat", sun_altitude=sun, black_level=2048.0)).kind == "flat"


def test_on_a_monochrome_sensor_the_sun_stands_for_the_colour_and_the_evidence_says_so() -> None:
    found = classify_set([one("bias", 19), one("flat", 20)], [HeaderEvidence(0.0), HeaderEvidence(3.0, sun_altitude=-6.0)])[1]
    assert found.kind == "flat" and "monochrome" in found.reason
    assert found.evidence["sky_by"] == "level and Sun's altitude"
    assert found.evidence["sky_colour"] is None


def test_a_normalised_flat_is_no_raw_frame() -> None:
    data = np.random.default_rng(21).normal(1.0, 0.01, SHAPE).astype(np.float32)
    found = classify(frame_statistics(data), HeaderEvidence(3.0, "flat"))
    assert (found.kind, found.disagrees, found.calibrated) == ("other", True, ("bias", "flat"))
    assert "normalised" in found.reason


def test_pixels_below_zero_say_that_the_bias_was_taken_off() -> None:
    dark = camera("dark", 22) - 300.0
    found = classify(frame_statistics(dark), HeaderEvidence(60.0, "object"))
    assert found.calibrated == ("bias",)
    assert found.evidence["zero"] == 0.0


def test_one_word_for_everything_counts_as_none(labelled: tuple[list[str], list[FrameStatistics], list[HeaderEvidence]]) -> None:
    truth, pixels, _ = labelled
    for word in ("object", "flat", "dark", "bias"):
        found = classify_set(
            pixels, [HeaderEvidence(EXPTIME[kind], word, sun_altitude=-6.0 if kind == "flat" else -40.0) for kind in truth]
        )
        assert kinds_of(found) == truth
        assert [entry.disagrees for entry in found] == [kind != word for kind in truth]
        assert not any(entry.evidence["words_trusted"] for entry in found)


def test_one_wrong_word_leaves_the_others_their_weight(labelled: tuple[list[str], list[FrameStatistics], list[HeaderEvidence]]) -> None:
    truth, pixels, headers = labelled
    found = classify_set(
        pixels, [HeaderEvidence(60.0, "dark") if place == len(truth) - 1 else header for place, header in enumerate(headers)]
    )
    assert kinds_of(found) == truth
    assert [entry.disagrees for entry in found] == [False] * (len(truth) - 1) + [True]
    assert all(entry.evidence["words_trusted"] for entry in found)


def test_a_fixed_defect_seen_in_two_exposure_times_is_no_star() -> None:
    y, x = np.indices(SHAPE)
    spots = np.random.default_rng(23).uniform(12, 180, (12, 2))
    blobs = sum(300 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 2 / 1.3**2) for cx, cy in spots)
    generator = np.random.default_rng(24)

    def frame(level: float, light: float) -> FrameStatistics:
        return frame_statistics(np.rint(generator.normal(level, 5, SHAPE) + light * blobs).astype(np.float32))

    # Defects have the same height in 6 s and 40 s; stars have grown.
    for growth, stars in ((1.0, 0), (40 / 6, 12)):
        pixels = [frame(1000, 0), *(frame(1150, 1) for _ in range(3)), *(frame(1450, growth) for _ in range(3))]
        headers = [HeaderEvidence(0.0), *[HeaderEvidence(6.0)] * 3, *[HeaderEvidence(40.0)] * 3]
        assert {entry.evidence["stars"] for entry in classify_set(pixels, headers)[1:]} == {stars}


def test_faint_light_is_told_from_dark_current_by_the_shape_of_the_light() -> None:
    pixels = [one("bias", seed) for seed in range(3)] + [one("flat", 30)]
    headers = [HeaderEvidence(0.0)] * 3 + [HeaderEvidence(3.0, sun_altitude=-5.0)]
    generator = np.random.default_rng(31)
    glow = frame_statistics(np.rint(camera("bias", 32) + generator.poisson(20.0, SHAPE)).astype(np.float32))
    y, x = np.indices(SHAPE)
    vignetted = 20.0 * (1 - 0.3 * ((x - 128) ** 2 + (y - 96) ** 2) / 128**2)
    sky = frame_statistics(np.rint(camera("bias", 33) + generator.poisson(vignetted)).astype(np.float32))
    found = classify_set([*pixels, glow, sky], [*headers, HeaderEvidence(600.0), HeaderEvidence(600.0)])
    assert [(entry.kind, entry.evidence["light"], entry.evidence["light_by"]) for entry in found[4:]] == [
        ("dark", False, "shape"),
        ("other", True, "shape"),
    ]


def test_frames_and_headers_must_pair() -> None:
    with pytest.raises(ValueError, match="1 statistics and 0 headers"):
        classify_set([one("bias", 34)], [])
    assert classify_set([], []) == []


Pair = tuple[FrameStatistics, HeaderEvidence]


@cache
def measured(path: Path) -> tuple[int, Pair]:
    """Night, pixels and header of a real frame."""
    raw = read_raw(path)
    found = facts(raw.header, identify(raw.header), raw.data.shape, path)
    place = [np.nan if value is None else value for value in (found.latitude, found.longitude, found.height)]
    sun = float(barycentric(found.mid_jd1, found.mid_jd2, *place).sun_alt[0])
    pixels = frame_statistics(raw.data, saturation=found.saturation, bayer=found.bayer)
    header = HeaderEvidence(found.exptime, found.declared, found.blocked, found.calibrated, sun, found.black_level)
    return int(night_number(found.mid_jd1 + found.mid_jd2, found.longitude)), (pixels, header)


def real_night(files: list[Path], change: Callable[[HeaderEvidence], HeaderEvidence] = lambda header: header) -> list[Classification]:
    sets: dict[int, list[Pair]] = {}
    for night, (pixels, header) in map(measured, files):
        sets.setdefault(night, []).append((pixels, change(header)))
    found = []
    for night, pairs in sets.items():
        around = [*sets.get(night - 1, ()), *sets.get(night + 1, ())]
        found += classify_set([pixels for pixels, _ in pairs], [header for _, header in pairs], around)
    return found


REAL = [
    ("hatp32", {"object": None}),
    ("skycamt", {"object": None}),
    ("tircam2", {"bias": 3, "flat": 5, "object": 5}),
    ("bayer", {"object": 2}),
]


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "kinds"), REAL)
def test_real_nights(night_files: Callable[[str], list[Path]], name: str, kinds: dict[str, int | None]) -> None:
    files = night_files(name)
    found = real_night(files)
    assert Counter(kinds_of(found)) == {kind: n or len(files) for kind, n in kinds.items()}
    assert not any(entry.disagrees for entry in found)
    assert min(entry.confidence for entry in found) >= 0.9


@pytest.mark.realdata
@pytest.mark.parametrize("word", [None, "bias", "dark", "flat", "object", "other"])
@pytest.mark.parametrize(("name", "kinds"), REAL)
def test_real_nights_without_their_types_or_with_one_word_for_all(
    night_files: Callable[[str], list[Path]], name: str, kinds: dict[str, int | None], word: str | None
) -> None:
    files = night_files(name)
    found = real_night(files, lambda header: replace(header, declared=word))
    assert Counter(kinds_of(found)) == {kind: n or len(files) for kind, n in kinds.items()}
