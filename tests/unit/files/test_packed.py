"""Product files read without astropy: the same bits as with it, and nothing of what is not ours."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from reduction.files.packed import unpacked_planes, with_cards
from reduction.files.product import write_calibrated, write_image

SHAPE = (130, 90)  # the last tile is smaller than the others


def calibrated(path: Path) -> bytes:
    generator = np.random.default_rng(1)
    science = generator.normal(300, 7, SHAPE).astype(np.float32)
    science[3, 4], science[5:9] = np.nan, 0.0
    variance = generator.uniform(40, 60, SHAPE).astype(np.float32)
    write_calibrated(path, science, variance, generator.integers(0, 64, SHAPE).astype(np.uint8), {"OBJECT": "it's END     of a name"})
    return path.read_bytes()


def product(path: Path) -> bytes:
    generator = np.random.default_rng(2)
    planes = {
        "SCI": generator.normal(size=SHAPE).astype(np.float32),
        "VAR": generator.integers(0, 900, SHAPE).astype(np.float32),
        "MASK": generator.integers(0, 64, SHAPE).astype(np.uint8),
        "COUNT": generator.integers(0, 30, SHAPE).astype(np.int16),
        "LARGE": generator.integers(0, 2**30, SHAPE).astype(np.int32),
    }
    write_image(path, planes)
    return path.read_bytes()


@pytest.mark.parametrize("made", [calibrated, product])
def test_planes_are_bit_by_bit_those_of_astropy(tmp_path: Path, made: Callable[[Path], bytes]) -> None:
    ours = unpacked_planes(made(tmp_path / "a.fits"))
    assert ours is not None
    with fits.open(tmp_path / "a.fits") as hdus:
        assert list(ours) == [hdu.name for hdu in hdus[1:]]
        for hdu in hdus[1:]:
            truth = np.ascontiguousarray(hdu.data, dtype=np.dtype(hdu.header.get("PLANETYP", hdu.data.dtype.newbyteorder("="))))
            assert ours[hdu.name].dtype == truth.dtype
            assert ours[hdu.name].tobytes() == truth.tobytes()


def test_what_is_not_ours_or_not_whole_is_left_to_astropy(tmp_path: Path) -> None:
    whole = product(tmp_path / "a.fits")
    assert unpacked_planes(whole) is not None
    for cut in (1, 2880, len(whole) // 2, len(whole) - 100):
        assert unpacked_planes(whole[:-cut]) is None
    assert unpacked_planes(whole + bytes(2880)) is None
    fits.PrimaryHDU(np.zeros(SHAPE)).writeto(tmp_path / "b.fits")
    assert unpacked_planes((tmp_path / "b.fits").read_bytes()) is None


def test_new_cards_take_the_place_of_old_ones_and_leave_the_pixels(tmp_path: Path) -> None:
    before = product(tmp_path / "a.fits")
    pattern, cards = re.compile("CRVAL[12]"), [fits.Card("CRVAL1", 31.5).image, fits.Card("CRVAL2", 46.7).image]
    once = with_cards(before, pattern, cards)
    assert with_cards(once, pattern, cards) == once
    (tmp_path / "b.fits").write_bytes(once)
    with fits.open(tmp_path / "a.fits") as old, fits.open(tmp_path / "b.fits") as new:
        new.verify("exception")
        for mine, theirs in zip(new[1:], old[1:], strict=True):
            assert (mine.header["CRVAL1"], mine.header["CRVAL2"]) == (31.5, 46.7)
            np.testing.assert_array_equal(mine.data, theirs.data)
    with pytest.raises(ValueError, match="END"):
        with_cards(before[:4000], pattern, cards)
