"""Types of over 300 simulated frames of six cameras, with honest headers, without types, and with wrong ones.

The seeds here were not looked at while the rule was made.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from simulated_frames import CAMERAS, Camera, Night, Shot, nights, partial_plans, plans

from reduction.frames.kernels.classification import FrameStatistics, HeaderEvidence, classify_set, frame_statistics

HELD_OUT = 301
MASTERS = ("bias", "dark", "flat")
Set = tuple[Camera, list[Shot], list[FrameStatistics]]
Word = Callable[[Shot], str | None]


def measured(seed: int, plan: Callable[[Camera, int], list[list[Shot]]]) -> list[Set]:
    return [
        (night[0].camera, [frame.shot for frame in night], [frame_statistics(frame.data, bayer=frame.camera.bayer) for frame in night])
        for night in nights(seed, plan=plan)
    ]


@pytest.fixture(scope="module")
def whole() -> list[Set]:
    return measured(HELD_OUT, plans)


@pytest.fixture(scope="module")
def partial() -> list[Set]:
    return measured(HELD_OUT, partial_plans)


def meant(shot: Shot) -> str:
    """What the observer had in mind."""
    return {"clouds": "object", "fog": "object", "lens cap": "object", "saturated": "flat"}.get(shot.note, shot.kind)


def random_words(fraction: float, seed: int) -> Word:
    generator = np.random.default_rng(seed)

    def word(shot: Shot) -> str:
        right = meant(shot)
        others = [kind for kind in (*MASTERS, "object") if kind != right]
        return str(generator.choice(others)) if generator.uniform() < fraction else right

    return word


WORDS: dict[str, tuple[Word, float]] = {
    "good": (meant, 0.99),
    "missing": (lambda _: None, 0.97),
    "wrong in 30 %": (random_words(0.3, 1), 0.97),
    "all light": (lambda _: "object", 0.97),
    "all darks are flats": (lambda shot: "flat" if shot.kind == "dark" else meant(shot), 0.97),
}


def sorted_frames(sets: list[Set], word: Word, *, sun: bool = True) -> Counter[tuple[str, str, bool]]:
    """Number of frames by truth, type found, and whether they show the sky."""
    count: Counter[tuple[str, str, bool]] = Counter()
    for camera, shots, statistics in sets:
        headers = [
            HeaderEvidence(shot.exptime, word(shot), sun_altitude=shot.sun if sun else None, black_level=camera.black_level)
            for shot in shots
        ]
        found = classify_set(statistics, headers)
        count.update((shot.kind, entry.kind, shot.sky_frame) for shot, entry in zip(shots, found, strict=True))
    return count


def right(count: Counter[tuple[str, str, bool]]) -> float:
    return sum(n for (truth, kind, _), n in count.items() if truth == kind) / count.total()


def in_masters(count: Counter[tuple[str, str, bool]]) -> dict[tuple[str, str], int]:
    return {(truth, kind): n for (truth, kind, sky), n in count.items() if sky and kind in MASTERS}


@pytest.mark.parametrize("name", WORDS)
def test_simulated_nights(whole: list[Set], name: str) -> None:
    word, bar = WORDS[name]
    count = sorted_frames(whole, word)
    assert count.total() >= 300
    assert {truth for truth, _, _ in count} == {*MASTERS, "object", "other"}
    assert right(count) >= bar, count
    assert in_masters(count) == {}


@pytest.mark.parametrize("name", WORDS)
def test_no_sky_frame_enters_a_master_where_the_sun_is_unknown(whole: list[Set], name: str) -> None:
    assert in_masters(sorted_frames(whole, WORDS[name][0], sun=False)) == {}


@pytest.mark.parametrize("name", WORDS)
def test_nights_from_which_much_is_missing(partial: list[Set], name: str) -> None:
    # Without types, darks without a bias frame cannot be told from clouds, and are "other".
    count = sorted_frames(partial, WORDS[name][0])
    assert right(count) >= (0.98 if name == "good" else 0.9), count
    assert in_masters(count) == {}


@pytest.mark.parametrize("kind", [*MASTERS])
def test_no_object_frame_enters_a_master_whatever_all_frames_are_called(whole: list[Set], partial: list[Set], kind: str) -> None:
    for sun in (True, False):
        count = sorted_frames([*whole, *partial], lambda _: kind, sun=sun)
        assert {pair: n for pair, n in in_masters(count).items() if pair[0] == "object"} == {}


def test_neither_the_order_of_a_night_nor_json_changes_a_type(whole: list[Set]) -> None:
    for camera, shots, statistics in whole[::4]:
        headers = [HeaderEvidence(shot.exptime, sun_altitude=shot.sun, black_level=camera.black_level) for shot in shots]
        plain = classify_set(statistics, headers)
        order = np.random.default_rng(3).permutation(len(shots))
        again = [FrameStatistics.from_dict(json.loads(json.dumps(statistics[place].as_dict(), allow_nan=False))) for place in order]
        assert classify_set(again, [headers[place] for place in order]) == [plain[place] for place in order]


def test_the_sky_of_a_narrow_filter_is_no_measure_of_the_shape_of_light() -> None:
    # On this night dark current stood for the sky's shape, and object frames and flats did not match it.
    camera = next(camera for camera in CAMERAS if camera.name == "infrared array")
    shots = plans(camera, 254)[2]
    night = Night(camera, 203062)
    statistics = [frame_statistics(night.expose(shot).data) for shot in shots]
    for word in (meant, lambda _: None):
        count = sorted_frames([(camera, shots, statistics)], word)
        assert in_masters(count) == {}
        assert count["flat", "flat", False] == 3
