"""Frames on disk: what is read is what was added, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reduction.files.product import TEMPORARY_PREFIX
from reduction.files.scratch import Scratch


def frames(n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [(rng.normal(size=(11, 7)).astype(np.float32), rng.integers(0, 255, (11, 7)).astype(np.uint8)) for _ in range(n)]


def test_bands_are_rows_of_the_frames(tmp_path: Path) -> None:
    kept = frames(4)
    with Scratch(tmp_path / "new", (11, 7)) as scratch:
        assert [scratch.add(*frame) for frame in kept] == [0, 1, 2, 3]
        for first, last, which in [(0, 11, None), (3, 5, None), (10, 11, [2, 0]), (0, 4, [3])]:
            value, mask = scratch.band(first, last, which)
            for place, number in enumerate(range(4) if which is None else which):
                np.testing.assert_array_equal(value[place], kept[number][0][first:last])
                np.testing.assert_array_equal(mask[place], kept[number][1][first:last])
        scratch.replace(1, *kept[3])
        np.testing.assert_array_equal(scratch.frame(1)[0], kept[3][0])
        np.testing.assert_array_equal(scratch.frame(2)[1], kept[2][1])


def test_nothing_is_left_even_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(KeyError), Scratch(tmp_path, (11, 7)) as scratch:
        scratch.add(*frames(1)[0])
        (folder,) = tmp_path.iterdir()
        assert folder.name.startswith(TEMPORARY_PREFIX)
        raise KeyError("stop")
    assert list(tmp_path.iterdir()) == []


def test_frames_of_another_size_are_refused(tmp_path: Path) -> None:
    with Scratch(tmp_path, (11, 8)) as scratch, pytest.raises(ValueError, match="where the others have"):
        scratch.add(*frames(1)[0])


def test_a_file_cut_short_is_noticed(tmp_path: Path) -> None:
    with Scratch(tmp_path, (11, 7)) as scratch:
        scratch.add(*frames(1)[0])
        (path,) = tmp_path.glob("*/*.value")
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(OSError, match="bytes of a scratch file"):
            scratch.frame(0)
