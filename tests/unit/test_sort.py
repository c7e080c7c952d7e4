"""Types of frames: simulated nights of known make-up, headers that lie, and the real nights."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reduction.fits import read_raw
from reduction.headers import facts, identify
from reduction.kernels.sort import Classification, FrameStatistics, HeaderEvidence, classify_set, frame_statistics

SHAPE = (192, 256)
KINDS = {"bias": 5, "dark": 5, "flat": 5, "object": 6}
EXPTIME = {"bias": 0.0, "dark": 60.0, "flat": 3.0, "object": 60.0}


def camera(kind: str, seed: int, *, stars: int = 60, pedestal: float = 300.0, sky: float = 100.0) -> np.ndarray:
    """Raw frame of gain 1.5, read noise 8 electron, 60 hot pixels and vignetting."""
    generator = np.random.default_rng(seed)
    y, x = np.indices(SHAPE)
    response = 1 - 0.3 * ((x - 128) ** 2 + (y - 96) ** 2) / 128**2
    light = np.zeros(SHAPE)
    if kind == "flat":
        light += 20000.0
    if kind == "object":
        light += sky
        for cx, cy, flux in zip(
            generator.uniform(6, 250, stars), generator.uniform(6, 186, stars), 10 ** generator.uniform(3, 4.7, stars), strict=True
        ):
            light += flux / (2 * np.pi * 1.2**2) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 2 / 1.2**2)
    fixed = np.random.default_rng(99)
    hot = np.zeros(SHAPE)
    hot[fixed.integers(5, 187, 60), fixed.integers(5, 251, 60)] = fixed.exponential(10.0, 60)
    electrons = generator.poisson(light * response * 1.5 + (0.2 + hot) * EXPTIME[kind])
    return np.rint(electrons / 1.5 + generator.normal(pedestal, 8 / 1.5, SHAPE)).clip(0, 65535).astype(np.float32)


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


@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_level_noise_and_structure_of_integers(scale: float) -> None:
    data = np.rint(np.random.default_rng(12).normal(300.3, scale, (400, 500))).astype(np.float32)
    statistics = frame_statistics(data)
    # Rounding to whole numbers adds 1/12 to the variance; clipping at 3 sigma takes 1.5 %.
    assert statistics.level == pytest.approx(300.3, abs=0.02 * scale)
    assert statistics.noise == pytest.approx(np.sqrt(scale**2 + 1 / 12), rel=0.04)
    assert statistics.structure < 0.3 * scale
    assert statistics.n_peaks == 0


def test_stars_are_counted_and_found() -> None:
    data = np.random.default_rng(13).normal(300, 5, SHAPE).astype(np.float32)
    y, x = np.indices(SHAPE)
    places = [(30.0, 40.0), (100.0, 90.0), (200.0, 150.0)]
    for cx, cy in places:
        data += (500 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 2)).astype(np.float32)
    data[60, 60] += 5000  # a hot pixel
    found = frame_statistics(data)
    assert sorted(map(tuple, found.peaks.tolist())) == places
    assert found.n_peaks == 3


def test_pixels_without_value_do_not_matter() -> None:
    data = camera("object", 14)
    data[50:60] = np.nan
    whole, holed = frame_statistics(camera("object", 14)), frame_statistics(data)
    assert holed.level == pytest.approx(whole.level, rel=0.01)
    assert holed.n_peaks == pytest.approx(whole.n_peaks, abs=6)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (11, 40), (40, 11)])
def test_tiny_frames_do_not_fail(shape: tuple[int, int]) -> None:
    data = np.random.default_rng(15).normal(300, 5, shape).astype(np.float32)
    assert classify(frame_statistics(data), HeaderEvidence(60.0)).kind == "other"


def test_what_was_done_before_is_told() -> None:
    found = classify(frame_statistics(camera("object", 16)), HeaderEvidence(60.0, "object", calibrated=("bias", "dark", "flat")))
    assert "already corrected for bias, dark, flat" in found.reason


def real_night(files: list[Path]) -> list[Classification]:
    pixels, headers = [], []
    for path in files:
        raw = read_raw(path)
        found = facts(raw.header, identify(raw.header), raw.data.shape, path)
        pixels.append(frame_statistics(raw.data, saturation=found.saturation))
        headers.append(HeaderEvidence(found.exptime, found.declared, found.blocked, found.calibrated))
    return classify_set(pixels, headers)


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "kinds"), [("hatp32", {"object": None}), ("skycamt", {"object": 21}), ("tircam2", {"bias": 3, "flat": 5, "object": 5})]
)
def test_real_nights(night_files: Callable[[str], list[Path]], name: str, kinds: dict[str, int | None]) -> None:
    files = night_files(name)
    found = real_night(files)
    assert Counter(kinds_of(found)) == {kind: n or len(files) for kind, n in kinds.items()}
    assert not any(entry.disagrees for entry in found)
    assert min(entry.confidence for entry in found) >= 0.9
