"""Where a night ends at a place whose longitude nobody knows."""

from __future__ import annotations

import numpy as np
import pytest

from reduction.frames.kernels.night_change import night_change
from reduction.frames.kernels.times import night_number

_DAY = 2460000.5  # midnight UTC


def nights(hours: list[float] | np.ndarray, known: tuple[list[float], list[int]] = ((), ())) -> np.ndarray:  # type: ignore[assignment]
    jd = _DAY + np.asarray(hours) / 24.0
    longitude, _ = night_change(jd, _DAY + np.asarray(known[0]) / 24.0, known[1])
    assert -180.0 <= longitude <= 180.0
    return night_number(jd, longitude)


@pytest.mark.parametrize("longitude", [-155, -120, -70, -17, 0, 15, 77, 116, 149, 174])
@pytest.mark.parametrize("dark", [6.0, 10.0, 13.0])
def test_nights_anywhere_stay_whole(longitude: float, dark: float) -> None:
    # Three nights, each from dusk to dawn about local midnight.
    midnight = 24.0 - longitude / 15.0
    hours = np.concatenate([midnight + 24.0 * k + np.linspace(-dark / 2, dark / 2, 40) for k in range(3)])
    found = nights(hours)
    assert [len(set(part)) for part in np.split(found, 3)] == [1, 1, 1] and len(set(found)) == 3
    if dark >= 10.0:
        # Whole nights tell the date of their evening, too.
        assert np.array_equal(found, night_number(_DAY + hours / 24.0, longitude))


@pytest.mark.parametrize("first", [0.0, 3.0, 6.5, 9.0, 12.0, 18.0, 23.0])
def test_a_night_that_has_only_begun_goes_on(first: float) -> None:
    change = night_change([_DAY + first / 24.0])[1]
    assert (change - first) % 24.0 >= 12.9


def test_greenwich_serves_where_it_parts_no_night() -> None:
    assert night_change(_DAY + np.linspace(18.0, 29.0, 30) / 24.0) == (0.0, 12.0)
    assert night_change([]) == (0.0, 12.0)
    assert night_change(_DAY + np.linspace(5.0, 15.5, 30) / 24.0)[0] != 0.0


def test_frames_of_known_nights_keep_them() -> None:
    jd = _DAY + np.linspace(5.0, 15.5, 40) / 24.0
    before, _ = night_change(jd[:4])
    known = night_number(jd[:4], before)
    longitude, _ = night_change(jd[4:], jd[:4], known)
    assert np.array_equal(night_number(jd[:4], longitude), known)
    assert len(set(night_number(jd, longitude))) == 1
    # An archive that told them by Greenwich goes on so.
    split = night_number(jd, 0.0)
    assert len(set(split)) == 2
    longitude, _ = night_change(jd[-1:] + 0.001, jd, split)
    assert np.array_equal(night_number(jd, longitude), split)
